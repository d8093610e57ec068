// Package launch makes the namespaces of a jail and the process that becomes
// its PID 1. It is the host's side of a start: what needs the host's privilege
// is done here, in front of a rootfs that may be hostile, and handed over as
// descriptors; everything else is done by the new process, inside.
//
// The conversation, on a socket pair that is the new process's descriptor 3:
//
//	launcher                      new process
//	clone(NEWNS|NEWPID|...)
//	                              wait for one byte on the sync pipe
//	write uid_map, gid_map
//	one byte on the sync pipe ->  become root of the namespace, drop the
//	                              bounding set, enter the Landlock domain,
//	                              execute a read-only clone of jail-pid1
//	idmap the detached trees      (the Go runtime starts)
//	Setup + descriptors       ->  mounts, pivot_root, seccomp, capabilities
//	                          <-  Ready, or Failed and why
package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"jail/internal/cgroup"
	"jail/internal/confine"
	"jail/internal/jail"
	"jail/internal/rootfs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// startDeadline bounds a start; a rootfs on a dead network file system is not
// waited for longer.
const startDeadline = 15 * time.Second

// titlePrefix begins argv[0] of a PID 1; the jail's name follows.
const titlePrefix = "jail-init: "

// ptyMax is the number of terminals one jail may have open. The system has
// 4096, and sshd needs some of them.
const ptyMax = 256

// ErrBusy is returned when another jail runs on the rootfs.
var ErrBusy = errors.New("another jail runs on this rootfs")

// Launcher starts jails.
type Launcher struct {
	rootless   bool
	life       cgroup.Life
	exe        int    // read-only detached clone of PID 1's program; -1 if rootless
	exePath    string // for the rootless child, which clones it itself
	landlock   int    // ruleset, -1 if the kernel has none that will do
	landlockOK uint8  // its ABI
	lastCap    int
	hardFiles  uint64
	cgroups    *cgroup.Base
	ids        jail.Userns // rootless: the caller's subordinate range, if any
	sftp       string      // the built-in sftp server; "" without
	noSFTP     string      // why there is none

	resolver     int // the file jails see as /etc/resolv.conf; -1 without
	resolverPath string
}

// ShowResolver makes the file fd is open on, of which path is the name, the
// /etc/resolv.conf of jails that do not keep their own. fd stays the caller's, for
// as long as the Launcher is used.
func (l *Launcher) ShowResolver(fd int, path string) { l.resolver, l.resolverPath = fd, path }

// Warnings are the promises of the default profile that this kernel cannot
// keep, and what is missing of the installation; usually none.
func (l *Launcher) Warnings() []string {
	var w []string
	if l.landlock < 0 {
		w = append(w, "this kernel has no Landlock scopes (Linux 6.12): jails can connect to abstract unix sockets of the host")
	}
	if l.noSFTP != "" {
		w = append(w, l.noSFTP)
	}
	if why := l.cgroups.Warning(); why != "" && !l.rootless && l.life != cgroup.Alone {
		w = append(w, why)
	}
	return w
}

// Jail is a jail that has just started.
type Jail struct {
	PID, PIDFD int
	Conn       int // control connection; log lines come here
	Stderr     int // what PID 1 says when it crashes
	// Warning is what the jail lacks though nothing promised it, "" if nothing.
	Warning string
}

// New returns a Launcher whose jails have program as their PID 1; "" means the one
// that belongs to this jail-init. Its file is cloned read-only, and that clone is
// executed from then on, so that a PID 1, whose /proc/1/exe is visible inside,
// has nothing of the host behind it that could be written, made set-uid or
// given away (CVE-2019-5736; chmod(2) and chown(2) are not stopped by ETXTBSY).
//
// life says how long the jails live, which decides where their cgroups are.
func New(life cgroup.Life, program string) (*Launcher, error) {
	l := &Launcher{rootless: os.Geteuid() != 0, life: life, exe: -1, landlock: -1, lastCap: lastCap(), resolver: -1}
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	if program == "" {
		var ok bool
		if program, ok = companion(own, "pid1", "jail-pid1"); !ok {
			return nil, fmt.Errorf("%s: the program of the jails' first process is missing; install it as make install does", program)
		}
	}
	if l.rootless {
		l.exePath = program
		l.ids = subordinate()
	} else if l.exe, err = rootfs.OwnFile(program); err != nil {
		return nil, fmt.Errorf("the jails' first process (Linux 5.14 is needed): %w", err)
	}
	if abi := sys.LandlockABI(); abi >= 6 {
		if l.landlock, err = sys.LandlockScopes(); err != nil {
			return nil, fmt.Errorf("make Landlock ruleset: %w", err)
		}
		l.landlockOK = uint8(abi)
	}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err == nil {
		l.hardFiles = min(lim.Max, 1<<20)
	}
	l.cgroups = cgroup.Find(life)
	if path, ok := SFTPServer(own); ok {
		l.sftp = path
	} else {
		l.noSFTP = "the built-in sftp server " + path + " is missing (make install): sftp works only in jails whose root file system has a server"
	}
	return l, nil
}

// Ended removes what a jail that has ended left on the host.
func (l *Launcher) Ended(name string) { l.cgroups.RemoveFor(name) }

// Sweep removes what jails left that ended while no Launcher was there. No jail may
// be starting.
func (l *Launcher) Sweep() { l.cgroups.Sweep() }

func lastCap() int {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if n, e := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && e == nil && n < 64 {
		return n
	}
	return 40 // CAP_CHECKPOINT_RESTORE, Linux 5.9
}

// subordinate returns the caller's range of subordinate ids, the first that
// /etc/subuid and /etc/subgid agree on in size, if newuidmap(1) is there to use
// it.
func subordinate() jail.Userns {
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return jail.Userns{}
		}
	}
	u, err := user.Current()
	if err != nil {
		return jail.Userns{}
	}
	find := func(file string) (base, size uint32) {
		text, _ := os.ReadFile(file)
		for _, line := range strings.Split(string(text), "\n") {
			f := strings.Split(line, ":")
			if len(f) != 3 || f[0] != u.Username && f[0] != u.Uid {
				continue
			}
			b, err1 := strconv.ParseUint(f[1], 10, 32)
			n, err2 := strconv.ParseUint(f[2], 10, 32)
			if err1 == nil && err2 == nil && b > 0 && n > 1 && b+n < 1<<32 {
				return uint32(b), uint32(min(n, 65536))
			}
		}
		return 0, 0
	}
	base, size := find("/etc/subuid")
	gbase, gsize := find("/etc/subgid")
	if size == 0 || base != gbase || size != gsize {
		return jail.Userns{}
	}
	return jail.Userns{Enabled: true, Base: base, Size: size}
}

// Start starts the jail. listeners are those of spec.Logins, in order, and ctl
// is its control listener; they stay the caller's. When it returns an error
// nothing of the attempt is left.
func (l *Launcher) Start(spec *jail.Spec, listeners []int, ctl int) (_ *Jail, err error) {
	// Descriptors that are closed in any case, each once: another start runs
	// beside this one, and a number closed twice could by then be its.
	open := map[int]bool{}
	keep := func(fd int) int { open[fd] = true; return fd }
	drop := func(fd int) {
		if open[fd] {
			delete(open, fd)
			sys.Close(fd)
		}
	}
	defer func() {
		for fd := range open {
			sys.Close(fd)
		}
	}()

	if l.rootless && spec.Userns.Size <= 1 && l.ids.Enabled {
		with := *spec
		with.Userns = l.ids
		spec = &with
	}
	set := setup(spec, l)
	var trees []int
	if l.rootless {
		if err := l.checkRootfs(spec, set); err != nil {
			return nil, err
		}
	} else {
		if trees, err = openTrees(spec, keep); err != nil {
			return nil, err
		}
	}

	resolver := -1
	if set.Resolver == wire.ResolverTree {
		if resolver, err = l.resolverTree(keep); err != nil {
			return nil, err
		}
	}

	sftp := l.openSFTP(spec, set, keep)

	cg, warning, err := l.cgroups.Make(spec)
	if err != nil {
		return nil, err
	}
	defer func() {
		cg.Close()
		if err != nil {
			cg.Remove()
		}
	}()

	// Descriptors 0 to 3 of the child must come from above 3.
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/null: %w", err)
	}
	keep(null)
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket pair: %w", err)
	}
	keep(pair[1])
	errR, errW, err := sys.Pipe()
	if err != nil {
		sys.Close(pair[0])
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	keep(errW)
	defer func() {
		if err != nil {
			sys.Close(pair[0])
			sys.Close(errR)
		}
	}()
	syncR, syncW, err := sys.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	keep(syncR)
	keep(syncW)
	for _, fd := range []*int{&null, &pair[1], &errW, &syncR} {
		if *fd, err = above(*fd, keep); err != nil {
			return nil, err
		}
	}

	c := l.child(spec, null, pair[1], errW, syncR, cg)
	if l.rootless {
		// Another jail's child may have left us undumpable (credentials(7)); then
		// its uid_map would belong to root.
		_ = sys.SetDumpable(true)
	}
	pid, pidfd, err := sys.Fork(c)
	if err != nil && cg != nil && !spec.Limits.Promised() {
		// Without the flag it is as where there are no cgroups.
		warning = "no limit on its processes: clone into the cgroup: " + err.Error()
		cg.Remove()
		c.CgroupFD = -1
		pid, pidfd, err = sys.Fork(c)
	}
	if err != nil {
		return nil, fmt.Errorf("clone: %w", cloneError(err))
	}
	defer func() {
		if err != nil {
			_ = sys.PidfdSendSignal(pidfd, syscall.SIGKILL)
			sys.Close(pidfd)
			err = explainDeath(err, reap(pid))
			waitExec(c)
		}
	}()
	drop(pair[1])
	drop(errW)
	if spec.Userns.Enabled {
		if err := l.writeMaps(pid, spec, set); err != nil {
			return nil, err
		}
	}
	if _, err := sys.Write(syncW, []byte{1}); err != nil {
		return nil, fmt.Errorf("start PID 1: %w", err)
	}
	drop(syncW)
	if !l.rootless && spec.Userns.Enabled {
		if err := shift(pid, trees, spec); err != nil {
			return nil, err
		}
	}

	if err := resetOOM(pid, c); err != nil {
		return nil, err
	}
	msg, err := wire.AppendSetup(nil, set)
	if err != nil {
		return nil, fmt.Errorf("set-up of jail %s: %w: more than 64 mounts, logins, variables or names in env_accept", spec.Name, err)
	}
	var fds []int
	if !l.rootless {
		fds = append(fds, trees[0])
	}
	fds = append(fds, ctl)
	if !l.rootless {
		fds = append(fds, trees[1:]...)
	}
	fds = append(fds, listeners...)
	if sftp >= 0 {
		fds = append(fds, sftp)
	}
	if resolver >= 0 {
		fds = append(fds, resolver)
	}
	var m sys.MsgBuf
	if len(msg) > 128<<10 { // more than a socket takes by default (net.core.wmem_default)
		_ = sys.SetSockoptInt(pair[0], syscall.SO_SNDBUF, wire.MaxPacket/2+32<<10)
	}
	if err := sys.SendMsg(pair[0], msg, fds, true, &m); err != nil {
		return nil, fmt.Errorf("hand over the set-up: %w", err)
	}
	if err := awaitReady(pair[0], &m); err != nil {
		return nil, err
	}
	waitExec(c)
	return &Jail{PID: pid, PIDFD: pidfd, Conn: pair[0], Stderr: errR, Warning: warning}, nil
}

// resetOOM gives PID 1, and all that comes of it, the ordinary place in the order
// in which the kernel kills for want of memory. A service manager may have given
// the launcher another (systemd.exec(5), OOMScoreAdjust=), which must not spare a
// tenant. Written with CAP_SYS_RESOURCE it is also the lowest value the jail can
// set (proc_pid_oom_score_adj(5)).
func resetOOM(pid int, c *sys.Child) error {
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil || string(own) == "0\n" {
		return nil
	}
	// The value is one for all processes that share memory, so it would be the
	// launcher's too until the child has executed (__set_oom_adj, fs/proc/base.c).
	waitExec(c)
	err = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("0"), 0)
	if err != nil && own[0] == '-' {
		return fmt.Errorf("reset PID 1's oom_score_adj: %w", err)
	}
	return nil // a jail that is killed earlier than others harms nobody
}

// waitExec waits until the child no longer uses c. It has been heard of or
// killed by now.
func waitExec(c *sys.Child) {
	for c.Pending() {
		time.Sleep(100 * time.Microsecond)
	}
}

// above returns fd, or a copy of it that is not one of 0 to 3.
func above(fd int, keep func(int) int) (int, error) {
	if fd > 3 {
		return fd, nil
	}
	n, err := sys.Fcntl(fd, syscall.F_DUPFD_CLOEXEC, 4)
	if err != nil {
		return -1, fmt.Errorf("duplicate descriptor: %w", err)
	}
	return keep(n), nil
}

// setup turns a Spec into the message for PID 1.
func setup(spec *jail.Spec, l *Launcher) *wire.Setup {
	s := &wire.Setup{
		Name: spec.Name, Hostname: spec.Hostname,
		Userns: spec.Userns.Enabled, ContainerRoot: spec.ContainerRoot,
		Landlock: l.landlockOK, IdleMillis: uint64(spec.IdleTimeout.Milliseconds()),
		PtyMax: ptyMax, HardFiles: l.hardFiles, Env: spec.Env,
		SFTP: uint8(spec.SFTP), Keys: spec.Keys,
		X11: spec.X11, OnDisconnect: wire.OnDisconnect(spec.OnDisconnect),
	}
	for _, m := range spec.Mounts {
		wm := wire.Mount{Target: m.Target, ReadOnly: m.ReadOnly}
		if l.rootless {
			wm.Source = m.Source
		}
		s.Mounts = append(s.Mounts, wm)
	}
	for i := range spec.Logins {
		s.Logins = append(s.Logins, Identity(&spec.Logins[i]))
	}
	l.comforts(s, spec)
	return s
}

// Identity turns a Login into its form on the wire.
func Identity(lg *jail.Login) wire.Identity { return lg.Identity() }

// openTrees clones the rootfs and the sources of the mounts. A source is opened
// once, without following a link anywhere in its path, and mounted by that
// descriptor (CVE-2021-30465, CVE-2021-25741).
func openTrees(spec *jail.Spec, keep func(int) int) ([]int, error) {
	attr := uint64(sys.MountAttrNodev)
	if !spec.Userns.Enabled && !spec.ContainerRoot {
		attr |= sys.MountAttrNosuid
	}
	tree, err := openTree(spec.Rootfs, attr, true, keep)
	if err != nil {
		return nil, err
	}
	trees := []int{tree}
	for _, m := range spec.Mounts {
		attr := uint64(sys.MountAttrNodev | sys.MountAttrNosuid | sys.MountAttrNosymfollow)
		if m.ReadOnly {
			attr |= sys.MountAttrRdonly
		}
		tree, err := openTree(m.Source, attr, false, keep)
		if err != nil {
			return nil, err
		}
		trees = append(trees, tree)
	}
	return trees, nil
}

func openTree(path string, attr uint64, dirOnly bool, keep func(int) int) (int, error) {
	flags := sys.OPath
	if dirOnly {
		flags |= syscall.O_DIRECTORY
	}
	fd, err := sys.Openat2(sys.AtFDCWD, path, flags, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
	if err == syscall.ELOOP {
		return -1, fmt.Errorf("%s: a symbolic link is on the way; name the real path in the registry", path)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return -1, fmt.Errorf("stat %s: %w", path, err)
	}
	if t := st.Mode & syscall.S_IFMT; t != syscall.S_IFDIR && t != syscall.S_IFREG {
		return -1, fmt.Errorf("%s: is neither a directory nor a regular file", path)
	}
	tree, err := sys.OpenTree(fd, "", sys.OpenTreeClone|sys.AtEmptyPath)
	if err != nil {
		return -1, fmt.Errorf("clone %s: %w", path, err)
	}
	keep(tree)
	if err := sys.MountSetattr(tree, attr, -1, false); err != nil {
		return -1, fmt.Errorf("set mount attributes of %s: %w", path, err)
	}
	return tree, nil
}

// checkRootfs is for a launcher without privilege, whose child has to open the
// rootfs itself: it notes which directory that must be.
func (l *Launcher) checkRootfs(spec *jail.Spec, s *wire.Setup) error {
	fd, err := sys.Openat2(sys.AtFDCWD, spec.Rootfs, sys.OPath|syscall.O_DIRECTORY, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
	if err != nil {
		return fmt.Errorf("open %s: %w", spec.Rootfs, err)
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", spec.Rootfs, err)
	}
	s.Rootfs, s.Dev, s.Ino = spec.Rootfs, uint64(st.Dev), st.Ino
	return nil
}

// child describes the process that becomes PID 1.
func (l *Launcher) child(spec *jail.Spec, null, conn, stderr, sync int, cg *cgroup.Group) *sys.Child {
	c := sys.NewChild()
	c.CloneFlags = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	sets := confine.CapsFor(spec.Userns.Enabled, spec.ContainerRoot)
	if spec.Userns.Enabled {
		c.CloneFlags |= syscall.CLONE_NEWUSER
		c.EarlyCred = true
		if l.rootless && spec.Userns.Size <= 1 {
			// The only id there is is the login's, so PID 1 has it too; it keeps
			// its capabilities across exec in the ambient set.
			c.EarlyUID, c.EarlyGID = uint32(spec.Logins[0].UID), soleGID(spec)
			c.Ambient = true
		}
	}
	c.CgroupFD, c.OwnCgroupRoot = cg.FD(), true
	c.SyncFD = sync
	c.SetCaps, c.Bounding, c.Inheritable = true, sets.Bounding, sets.PID1|sets.Setup
	c.LastCap = l.lastCap
	c.NoNewPrivs = sets.NoNewPrivs
	c.JoinKeyring = true
	c.LandlockFD = l.landlock
	c.Setsid = true
	c.FDs = [4]int{null, null, stderr, conn}
	c.Umask = 0o022
	c.ExecFD = l.exe
	if l.rootless {
		c.CloneExe, c.Path = true, cptr(l.exePath)
	}
	title := cptr(titlePrefix + spec.Name)
	c.Argv = []*byte{title, nil}
	// One processor is all PID 1 can use; the runtime keeps less memory then. The
	// collector runs rarely in a program that reuses its memory, so a small heap
	// target costs nothing. TZ keeps package time from ever opening /etc/localtime,
	// the jail's. A handler of the scheduler's SIGURG would make PID 1 mortal
	// (sys.InterruptBy).
	c.Envp = []*byte{cptr("GOMAXPROCS=1"), cptr("GOGC=25"), cptr("TZ="), cptr("GODEBUG=asyncpreemptoff=1"), nil}
	c.ExecMsg = []byte("execute jail-pid1: ")
	return c
}

// soleGID is the group that goes with the only id of a rootless jail.
func soleGID(spec *jail.Spec) uint32 {
	if lg := &spec.Logins[0]; lg.HasGID {
		return uint32(lg.GID)
	}
	return uint32(spec.Logins[0].UID)
}

func cptr(s string) *byte { b := append([]byte(s), 0); return &b[0] }

// shift makes the detached trees show the jail's ids: what is uid N on disk is
// uid N inside, and nothing on disk is changed (mount_setattr(2), idmapped
// mounts).
func shift(pid int, trees []int, spec *jail.Spec) error {
	ns, err := syscall.Open("/proc/"+strconv.Itoa(pid)+"/ns/user", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open user namespace: %w", err)
	}
	defer sys.Close(ns)
	for i, tree := range trees {
		path := spec.Rootfs
		if i > 0 {
			path = spec.Mounts[i-1].Source
		}
		err := sys.MountSetattr(tree, 0, ns, false)
		if err == syscall.EINVAL {
			return fmt.Errorf("%s: its file system cannot be mounted with mapped ids; set userns = false for jail %s, or move it to ext4, xfs or btrfs", path, spec.Name)
		}
		if err != nil {
			return fmt.Errorf("map ids of %s: %w", path, err)
		}
	}
	return nil
}

// writeMaps gives the new user namespace its ids.
func (l *Launcher) writeMaps(pid int, spec *jail.Spec, set *wire.Setup) error {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	if !l.rootless {
		m := fmt.Sprintf("0 %d %d\n", spec.Userns.Base, spec.Userns.Size)
		for _, f := range []string{"gid_map", "uid_map"} {
			if err := os.WriteFile(dir+f, []byte(m), 0); err != nil {
				return fmt.Errorf("map ids: %w", err)
			}
		}
		return nil
	}
	uid, gid := os.Getuid(), os.Getgid()
	inUID := uint32(spec.Logins[0].UID)
	inGID := soleGID(spec)
	if spec.Userns.Size <= 1 {
		set.NoSetgroups = true
		for _, w := range []struct{ file, text string }{
			{"setgroups", "deny"}, // user_namespaces(7): without it no gid_map
			{"gid_map", fmt.Sprintf("%d %d 1\n", inGID, gid)},
			{"uid_map", fmt.Sprintf("%d %d 1\n", inUID, uid)},
		} {
			if err := os.WriteFile(dir+w.file, []byte(w.text), 0); err != nil {
				return fmt.Errorf("map ids: %w", err)
			}
		}
		return nil
	}
	for _, w := range []struct {
		tool     string
		in, host uint32
	}{{"newuidmap", inUID, uint32(uid)}, {"newgidmap", inGID, uint32(gid)}} {
		args := append([]string{strconv.Itoa(pid)}, around(w.in, w.host, spec.Userns.Base, spec.Userns.Size)...)
		if out, err := exec.Command(w.tool, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("map ids: %s: %v: %s", w.tool, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// around returns newuidmap(1)'s arguments for a map in which the id in is host
// and every other id comes from the range at base.
func around(in, host, base, size uint32) []string {
	var args []string
	add := func(inside, outside, n uint32) {
		if n > 0 {
			args = append(args, fmt.Sprint(inside), fmt.Sprint(outside), fmt.Sprint(n))
		}
	}
	if in >= size {
		add(0, base, size)
		add(in, host, 1)
		return args
	}
	add(0, base, in)
	add(in, host, 1)
	add(in+1, base+in+1, size-in-1)
	return args
}

// awaitReady waits for PID 1's word.
func awaitReady(conn int, m *sys.MsgBuf) error {
	fds := []sys.PollFD{{FD: int32(conn), Events: sys.PollIn}}
	deadline := time.Now().Add(startDeadline)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("no answer from PID 1 within %v", startDeadline)
		}
		n, err := sys.Poll(fds, int(left.Milliseconds())+1)
		if err != nil {
			return err
		}
		if n > 0 {
			break
		}
	}
	buf := make([]byte, 1024)
	n, err := sys.RecvMsg(conn, buf, true, m)
	sys.CloseAll(m.FDs)
	if err != nil || n == 0 {
		return errors.New("PID 1 ended before it was ready")
	}
	typ, _, body, err := wire.Header(buf[:n])
	switch {
	case err != nil:
	case typ == wire.TypeReady && len(body) == 0:
		return nil
	case typ == wire.TypeFailed:
		text, err := wire.DecodeText(body)
		if err == nil && text == rootfs.ErrBusy.Error() {
			return ErrBusy
		}
		if err == nil {
			return errors.New(text)
		}
	}
	return errors.New("PID 1's answer makes no sense")
}

func cloneError(err error) error {
	switch err {
	case syscall.ENOSPC:
		return errors.New("too many namespaces (user.max_*_namespaces)")
	case syscall.EPERM:
		return errors.New("not permitted to make namespaces; as an ordinary user this needs unprivileged user namespaces")
	}
	return err
}

func reap(pid int) syscall.WaitStatus {
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if err != syscall.EINTR {
			return ws
		}
	}
}

// explainDeath adds what the child's exit status says.
func explainDeath(err error, ws syscall.WaitStatus) error {
	if !ws.Exited() {
		return err
	}
	switch ws.ExitStatus() {
	case sys.ChildNoCred:
		return errors.New("become root of the user namespace: not permitted")
	case sys.ChildNoCaps:
		return errors.New("reduce capabilities: not permitted")
	case sys.ChildNoLandlock:
		return errors.New("enter the Landlock domain: not permitted")
	case sys.ChildNoFDs:
		return errors.New("arrange descriptors: failed")
	case sys.ChildNoExe:
		return errors.New("clone the mount of jail-pid1: failed")
	case sys.ChildNoCgroup:
		return errors.New("make a cgroup namespace: not permitted")
	}
	return err
}
