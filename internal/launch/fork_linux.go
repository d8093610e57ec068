package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"jail/internal/cgroup"
	"jail/internal/confine"
	"jail/internal/jail"
	"jail/internal/source"
	"jail/internal/sys"
	"jail/internal/wire"
)

// forked is the second step of a start: a process that waits to be told its ids.
type forked struct {
	child      *sys.Child
	group      *cgroup.Group
	pid, pidfd int
	conn       int // the socket to it
	stderr     int // what it says when it crashes
	sync       int // one byte lets it go on
	warning    string
}

// descriptors are to be closed together.
type descriptors []int

func (d *descriptors) add(fds ...int) { *d = append(*d, fds...) }

func (d *descriptors) close() {
	for _, fd := range *d {
		sys.Close(fd)
	}
}

// fork makes the process, in new namespaces and in its cgroup.
func (l *Launcher) fork(p *prepared) (f *forked, err error) {
	spec := p.spec
	f = &forked{warning: p.warning, pidfd: -1}
	var warning string
	if f.group, warning, err = l.cgroups.Make(spec, l.countsProcesses(spec)); err != nil {
		return nil, err
	}
	f.warn(warning)
	if !spec.Userns.Enabled && warning == "" && l.life != cgroup.Alone {
		f.warn(l.cgroups.Warning()) // others have the kernel's own limit, whatever cgroups there are
	}
	p.fds.Memory = f.group.MemoryEvents()
	p.set.MemoryEvents = p.fds.Memory >= 0
	group := f.group // a return of nil, err has taken f away before what is deferred
	var ours, inside descriptors
	defer func() {
		inside.close()
		group.Close()
		if err != nil {
			ours.close()
			group.Remove()
		}
	}()
	e, err := newEnds(&ours, &inside)
	if err != nil {
		return nil, err
	}
	_ = sys.RefuseRights(e.conn) // before 6.16 it fails; no descriptors come from inside
	f.conn, f.stderr, f.sync = e.conn, e.stderr, e.sync

	c := l.child(spec, &e, f.group)
	if l.rootless {
		// Another jail's child may have left us undumpable (credentials(7)); then
		// its uid_map would belong to root.
		_ = sys.SetDumpable(true)
	}
	f.child = c
	f.pid, f.pidfd, err = sys.Fork(c)
	if err != nil && f.group != nil && !cgroup.Needs(spec, l.countsProcesses(spec)) {
		// Without the flag it is as where there are no cgroups.
		f.warn("no cgroup: clone into it: " + err.Error())
		f.group.Remove()
		c.CgroupFD = -1
		f.pid, f.pidfd, err = sys.Fork(c)
	}
	if err != nil {
		return nil, fmt.Errorf("clone: %w", cloneError(err))
	}
	return f, nil
}

func (f *forked) warn(text string) {
	if f.warning != "" && text != "" {
		f.warning += "; "
	}
	f.warning += text
}

// countsProcesses reports whether the kernel bounds the processes of the jail
// without a cgroup.
func (l *Launcher) countsProcesses(spec *jail.Spec) bool { return spec.Userns.Enabled && !l.rootless }

// handOver is the third step of a start: the process gets its ids, and all that it
// needs to become the jail's PID 1.
func (l *Launcher) handOver(f *forked, p *prepared) error {
	if err := l.giveIDs(f, p); err != nil {
		return err
	}
	if !l.rootless && p.spec.Userns.Enabled {
		if err := shift(f.pid, p); err != nil {
			return err
		}
	}
	if err := resetOOM(f.pid, f.child); err != nil {
		return err
	}
	msg, err := wire.AppendSetup(nil, p.set)
	if err != nil {
		return fmt.Errorf("set-up of jail %s: %w: env, env_accept and mounts are %d bytes at most", p.spec.Name, err, wire.MaxPacket)
	}
	fds, err := p.set.List(p.fds)
	if err != nil {
		return fmt.Errorf("hand over the set-up: %w", err)
	}
	if len(msg) > 128<<10 { // more than a socket takes by default (net.core.wmem_default)
		_ = sys.SetSockoptInt(f.conn, syscall.SO_SNDBUF, wire.MaxPacket/2+32<<10)
	}
	var m sys.MsgBuf
	if err := sys.SendMsg(f.conn, msg, fds, true, &m); err != nil {
		return fmt.Errorf("hand over the set-up: %w", err)
	}
	return nil
}

// giveIDs gives the user namespace its ids and lets the process go on. Whether they
// are another jail's is looked at when the kernel has them: then of two that are
// started at the same moment, by whatever programs, one sees the other. The process
// starts its program meanwhile, and gets nothing to do before this returns.
func (l *Launcher) giveIDs(f *forked, p *prepared) error {
	if l.rootless || !p.spec.Userns.Enabled {
		if p.spec.Userns.Enabled {
			if err := l.writeMaps(f.pid, p.spec, p.set); err != nil {
				return err
			}
		}
		return f.release()
	}
	// So that of two of ours one wins.
	l.mapping.Lock()
	var holders []int
	err := l.writeMaps(f.pid, p.spec, p.set)
	if err == nil {
		err = f.release()
	}
	if err == nil {
		holders, err = l.ranges.inUse(p.spec.Userns, f.pid)
	}
	l.mapping.Unlock()
	if err != nil {
		return err
	}
	return inUseBy(p.spec.Userns, holders)
}

// release lets the process go on.
func (f *forked) release() error {
	if _, err := sys.Write(f.sync, []byte{1}); err != nil {
		return fmt.Errorf("start PID 1: %w", err)
	}
	sys.Close(f.sync)
	f.sync = -1
	return nil
}

// jail is what is left to look after when PID 1 is ready.
func (f *forked) jail() *Jail {
	waitExec(f.child)
	return &Jail{PID: f.pid, PIDFD: f.pidfd, Conn: f.conn, Stderr: f.stderr, Warning: f.warning}
}

// killWait is how long a process may take to end by SIGKILL.
const killWait = 2 * time.Second

// end ends a start that has come to nothing because of err. The process is waited for,
// but not for long: in a file system that does not answer it cannot be killed, and then
// the attempt lingers until it has ended.
func (l *Launcher) end(f *forked, a *attempt, err error) error {
	sys.CloseAll([]int{f.conn, f.stderr})
	if f.sync >= 0 {
		sys.Close(f.sync)
	}
	_ = sys.PidfdSendSignal(f.pidfd, syscall.SIGKILL)
	over := []sys.PollFD{{FD: int32(f.pidfd), Events: sys.PollIn}}
	n, pollErr := sys.Poll(over, int(killWait.Milliseconds()))
	if n == 0 && pollErr == nil {
		a.touch(fmt.Sprintf("process %d, which waits for a file system,", f.pid))
		l.linger(a)
		go func() {
			f.bury()
			l.leave(a)
		}()
		return fmt.Errorf("%w; process %d of it cannot be killed, since it waits for a file system that does not answer", err, f.pid)
	}
	return explainDeath(err, f.bury())
}

// bury waits for the end of the process and removes what it leaves.
func (f *forked) bury() syscall.WaitStatus {
	ws := reap(f.pid)
	waitExec(f.child)
	sys.Close(f.pidfd)
	f.group.Remove()
	return ws
}

// threadSlack is the timer slack with which PID 1 begins, and which its thread for the
// sessions gives up (pid1.Run), in nanoseconds. It is for the thread of the Go runtime that
// looks after the others (runtime.sysmon): woken with each event, that sleeps and looks every
// 20 microseconds, for something that PID 1, with one goroutine, never has. In a
// virtual machine it took as much of the processor as the session did.
const threadSlack = 10_000_000

// child describes the process that becomes PID 1.
func (l *Launcher) child(spec *jail.Spec, e *ends, cg *cgroup.Group) *sys.Child {
	c := sys.NewChild()
	c.CloneFlags = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	sets := confine.CapsFor(spec.Userns.Enabled, spec.ContainerRoot)
	c.UnsetLogin = l.hasLogin && !l.rootless
	if spec.Userns.Enabled {
		c.CloneFlags |= syscall.CLONE_NEWUSER
		c.EarlyCred = true
		if !l.rootless {
			c.Owner, c.Processes = owner(spec.Userns), cgroup.Processes(&spec.Limits)
			if c.Processes > 0 && cg != nil {
				c.Processes++ // so that it is the cgroup's limit that is met, and its pids.events that counts
			}
		}
		if l.rootless && spec.Userns.Size <= 1 {
			// The only id there is is the login's, so PID 1 has it too; it keeps
			// its capabilities across exec in the ambient set.
			c.EarlyUID, c.EarlyGID = uint32(spec.Logins[0].UID), soleGID(spec)
			c.Ambient = true
			c.KeepGroups = true // setgroups(2) is denied
		}
	}
	c.CgroupFD, c.OwnCgroupRoot = cg.FD(), true
	c.SyncFD = e.itsSync
	c.SetCaps, c.Bounding, c.Inheritable = true, sets.Bounding, sets.PID1|sets.Setup
	c.LastCap = l.lastCap
	c.NoNewPrivs = sets.NoNewPrivs
	c.TimerSlack = threadSlack
	c.JoinKeyring = true
	c.LandlockFD = l.landlock
	c.Setsid = true
	c.FDs = [4]int{e.null, e.null, e.itsStderr, e.itsConn}
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

// owner is the id that makes a jail's user namespace, and for which is counted what is
// counted for each user (sys.Child.Owner): the last of the jail's own range. A
// process of the host's with that id would have every capability in the namespace
// (user_namespaces(7)), so it is none that jail-keys takes on to read a key file.
func owner(u jail.Userns) uint32 { return u.Base + u.Size - 1 }

// soleGID is the group that goes with the only id of a rootless jail.
func soleGID(spec *jail.Spec) uint32 {
	if lg := &spec.Logins[0]; lg.HasGID {
		return uint32(lg.GID)
	}
	return uint32(spec.Logins[0].UID)
}

func cptr(s string) *byte { b := append([]byte(s), 0); return &b[0] }

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

// writeMaps gives the new user namespace its ids.
func (l *Launcher) writeMaps(pid int, spec *jail.Spec, set *wire.Setup) error {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	if !l.rootless {
		uids, gids, err := mapsOf(spec)
		if err != nil {
			return err
		}
		return writeMap(pid, uids, gids)
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

// shift makes the detached trees show the jail's ids: what is uid N on disk is
// uid N inside, and nothing on disk is changed (mount_setattr(2), idmapped
// mounts).
func shift(pid int, p *prepared) error {
	ns, err := syscall.Open("/proc/"+strconv.Itoa(pid)+"/ns/user", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open user namespace: %w", err)
	}
	defer sys.Close(ns)
	for _, tree := range p.trees {
		as := ns
		switch tree.IDs {
		case source.NoIDs:
			continue
		case source.OneID:
			if as, err = oneID(p.spec, tree.UID, tree.GID); err != nil {
				return fmt.Errorf("map ids of %s: %w", tree.Name, err)
			}
			defer sys.Close(as)
		}
		err := sys.MountSetattr(tree.FD, 0, as, false)
		if err == syscall.EINVAL && tree.IDs == source.AllOrNoIDs {
			continue
		}
		shown := tree.IDs == source.OneID || tree.IDs == source.ShownIDs
		if err == syscall.EINVAL && p.spec.Userns.Keep && shown {
			continue // the login's ids are its own on the host, and so they are on this file system
		}
		if err == syscall.EINVAL {
			fix := "set userns = false for jail " + p.spec.Name
			if shown && len(p.spec.Logins) == 1 {
				fix = `set userns = "keep" for jail ` + p.spec.Name
			}
			return fmt.Errorf("%s: its file system cannot be mounted with mapped ids; %s, or move it to ext4, xfs or btrfs", tree.Name, fix)
		}
		if err != nil {
			return fmt.Errorf("map ids of %s: %w", tree.Name, err)
		}
	}
	return nil
}

// oneID returns a user namespace that has no process and one uid and gid, mapped as the
// jail's own maps them. It is for mount_setattr(2) only.
func oneID(spec *jail.Spec, uid, gid uint32) (int, error) {
	uids, gids, err := mapsOf(spec)
	if err != nil {
		return -1, err
	}
	hostUID, ok1 := hostID(uids, uid)
	hostGID, ok2 := hostID(gids, gid)
	if !ok1 || !ok2 {
		return -1, fmt.Errorf("the jail's range of %d ids does not have uid %d and gid %d", spec.Userns.Size, uid, gid)
	}
	return nobodys([]extent{{uid, hostUID, 1}}, []extent{{gid, hostGID, 1}})
}

// nobodys returns a user namespace with these maps that has no process.
func nobodys(uids, gids []extent) (int, error) {
	r, w, err := sys.Pipe()
	if err != nil {
		return -1, fmt.Errorf("make pipe: %w", err)
	}
	defer sys.CloseAll([]int{r, w})
	c := sys.NewChild() // waits for a byte that does not come
	c.CloneFlags, c.SyncFD = syscall.CLONE_NEWUSER, r
	pid, pidfd, err := sys.Fork(c)
	if err != nil {
		return -1, fmt.Errorf("clone: %w", cloneError(err))
	}
	defer func() {
		_ = sys.PidfdSendSignal(pidfd, syscall.SIGKILL)
		reap(pid)
		waitExec(c)
		sys.Close(pidfd)
	}()
	if err := writeMap(pid, uids, gids); err != nil {
		return -1, err
	}
	return syscall.Open("/proc/"+strconv.Itoa(pid)+"/ns/user", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
}

// ErrNoIDMaps says that a file system cannot be mounted with mapped ids.
var ErrNoIDMaps = errors.New("cannot be mounted with mapped ids")

// CanMapIDs tries whether what the O_PATH descriptor fd is open on can be shown with mapped
// ids, as it is when a jail starts: by a mount that is attached nowhere and ends here. The
// error is ErrNoIDMaps if it cannot.
func CanMapIDs(fd int) error {
	tree, err := sys.CloneTree(fd, sys.MountAttrNodev|sys.MountAttrNosuid)
	if err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	defer sys.Close(tree)
	ns, err := nobodys([]extent{{1, unpackIDs[0].Base, 1}}, []extent{{1, unpackIDs[0].Base, 1}})
	if err != nil {
		return err
	}
	defer sys.Close(ns)
	if err = sys.MountSetattr(tree, 0, ns, false); err == syscall.EINVAL {
		return ErrNoIDMaps
	}
	return err
}
