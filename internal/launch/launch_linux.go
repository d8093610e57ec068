// Package launch makes the namespaces of a jail and the process that becomes
// its PID 1. It is the host's side of a start: what needs the host's privilege
// is done here, in front of a rootfs that may be hostile, and handed over as
// descriptors; everything else is done by the new process, inside.
//
// A start has four steps. Each makes a value that the next one takes:
//
//	prepare    all that is needed of the host's file systems   prepared
//	fork       the namespaces and the process                  forked
//	hand over  its ids, its mounts' ids, and the set-up
//	await      its word                                        Jail
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
//	does another jail have them?  (the Go runtime starts)
//	idmap the detached trees
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
	"sync"
	"syscall"
	"time"

	"jail/internal/cgroup"
	"jail/internal/jail"
	"jail/internal/rootfs"
	"jail/internal/sys"
)

// startDeadline bounds a start, from its first step to PID 1's word; a rootfs on a
// dead network file system is not waited for longer.
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
	build      string // of PID 1's program
	exePath    string // for the rootless child, which clones it itself
	landlock   int    // ruleset, -1 if the kernel has none that will do
	landlockOK uint8  // its ABI
	lastCap    int
	hardFiles  uint64
	cgroups    *cgroup.Base
	ids        jail.Userns // rootless: the caller's subordinate range, if any
	sftp       string      // the built-in sftp server; "" without
	noSFTP     string      // why there is none
	locks      locks       // of root file systems
	hasLogin   bool        // this process has a loginuid, which jails must not get
	deadline   time.Duration

	mapping sync.Mutex // held while ids are given out, until it is known that they are free
	ranges  ranges

	mu       sync.Mutex
	attempts map[string]*attempt // by the jail's name

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
	if pattern, err := os.ReadFile(corePattern); err == nil && CrashesReachTheHost(string(pattern)) {
		w = append(w, "kernel.core_pattern begins with @: each crash in a jail is told to a program of the host, whatever the limit on core files; sysctl -w kernel.core_pattern=core")
	}
	if l.noSFTP != "" {
		w = append(w, l.noSFTP)
	}
	return w
}

var corePattern = "/proc/sys/kernel/core_pattern"

// CrashesReachTheHost reports whether the limit on core files that sessions have, one
// byte, does not keep the kernel from telling a program of the host about a crash in
// a jail: not where it connects to a socket (core(5); coredump_sock_connect,
// fs/coredump.c, Linux 6.16). A program that it starts itself, and a file, it leaves.
func CrashesReachTheHost(pattern string) bool { return strings.HasPrefix(pattern, "@") }

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
	l := &Launcher{rootless: os.Geteuid() != 0, life: life, exe: -1, landlock: -1, lastCap: lastCap(), resolver: -1,
		attempts: map[string]*attempt{}, deadline: startDeadline}
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
	if l.build, err = buildOf(program); err != nil {
		return nil, err
	}
	if l.rootless {
		l.exePath = program
		l.ids = subordinate()
	} else {
		if l.exe, err = rootfs.OwnFile(program); err != nil {
			return nil, fmt.Errorf("the jails' first process (Linux 5.14 is needed): %w", err)
		}
		if l.exe, err = aboveFirst(l.exe); err != nil {
			return nil, err
		}
		if l.locks, err = openLocks(lockDir); err != nil {
			return nil, fmt.Errorf("locks of root file systems: %w", err)
		}
	}
	if abi := sys.LandlockABI(); abi >= 6 {
		if l.landlock, err = sys.LandlockScopes(); err != nil {
			return nil, fmt.Errorf("make Landlock ruleset: %w", err)
		}
		l.landlockOK = uint8(abi)
	}
	login, err := os.ReadFile("/proc/self/loginuid")
	l.hasLogin = err == nil && string(login) != "4294967295"
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err == nil {
		l.hardFiles = min(lim.Max, 1<<20)
	}
	l.cgroups = cgroup.Find(life)
	if path, ok := sftpServer(own); ok {
		l.sftp = path
	} else {
		l.noSFTP = "the built-in sftp server " + path + " is missing: sftp works only in jails whose root file system has a server"
	}
	return l, nil
}

// aboveFirst returns fd, or a copy in its place, under a number that is none of the
// first four: those are the child's own by the time it executes.
func aboveFirst(fd int) (int, error) {
	if fd > 3 {
		return fd, nil
	}
	n, err := sys.Fcntl(fd, syscall.F_DUPFD_CLOEXEC, 4)
	if err != nil {
		return -1, fmt.Errorf("duplicate descriptor: %w", err)
	}
	sys.Close(fd)
	return n, nil
}

// Mark has m told of the cgroups by which jails are known. It is for before the first Start.
func (l *Launcher) Mark(m cgroup.Marks) { l.cgroups.Mark(m) }

// CgroupOf is the directory of the cgroup that a jail has while it runs, "" if it has none.
func (l *Launcher) CgroupOf(name string) string { return l.cgroups.DirOf(name) }

// Limit changes the limits of a jail that runs, see cgroup.Base.Change.
func (l *Launcher) Limit(name string, limits *jail.Limits) error {
	return l.cgroups.Change(name, limits)
}

// KilledForMemory is how many processes of a jail, which may just have ended, the kernel
// has killed for want of memory; 0 also where it cannot be known.
func (l *Launcher) KilledForMemory(name string) uint64 { return l.cgroups.OOMKills(name) }

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
// is its control listener; they stay the caller's. It returns within some seconds
// more than startDeadline. When it returns an error nothing of the attempt is left,
// unless the error says that a file system does not answer: then Start refuses this jail
// until that is over.
func (l *Launcher) Start(spec *jail.Spec, listeners []int, ctl int) (*Jail, error) {
	deadline := time.Now().Add(l.deadline)
	a, err := l.begin(spec.Name)
	if err != nil {
		return nil, err
	}
	defer l.returned(a)
	p, err := l.prepareBy(deadline, spec, a)
	if err != nil {
		return nil, err
	}
	defer p.close()
	p.fds.Control, p.fds.Logins = ctl, listeners[:len(p.set.Logins)]
	f, err := l.fork(p)
	if err != nil {
		return nil, err
	}
	if err = l.handOver(f, p); err == nil {
		err = awaitReady(f.conn, deadline)
	}
	for i := len(p.set.Logins); err == nil && i < len(listeners); i++ {
		err = addLogin(f.conn, &spec.Logins[i], listeners[i], deadline)
	}
	if err != nil {
		return nil, l.end(f, a, err)
	}
	return f.jail(), nil
}
