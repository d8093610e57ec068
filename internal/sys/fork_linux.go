//go:build linux

package sys

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// These are the runtime's own fork hooks, kept linkable for exactly this use
// (runtime/proc.go, go.dev/issue/67401).
//
//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

// Rlimit is a resource limit (getrlimit(2)), soft and hard.
type Rlimit struct {
	Resource int
	Value    uint64
}

// Child says how Fork makes a process and what that process does before it
// executes its program. Every step happens in the child, which has one thread:
// so what is per thread in the kernel (credentials, capability sets, Landlock
// domain, session keyring, no_new_privs) is the same for every thread of the
// program that follows.
//
// The child shares the parent's memory until it executes (CLONE_VM), which
// saves copying page tables, but the parent does not wait for it (no
// CLONE_VFORK, unlike package syscall): a vforking parent sleeps until its
// child has executed, and a child that already has the tenant's uid can be kept
// from that for ever by the tenant's SIGSTOP. So a Child must be left alone
// until Pending reports false.
type Child struct {
	CloneFlags uintptr // CLONE_NEW*

	// CgroupFD is the directory of a cgroup of the unified hierarchy in which the
	// process begins (CLONE_INTO_CGROUP, Linux 5.7); -1 leaves it in the parent's. To
	// move it there later would wait for a grace period of RCU, some milliseconds.
	CgroupFD int
	// OwnCgroupRoot makes the cgroup it begins in the root of a new cgroup
	// namespace. CLONE_NEWCGROUP would take the parent's (cgroup_namespaces(7)).
	OwnCgroupRoot bool

	// Owner, if not 0, is the uid that makes the namespaces, CLONE_NEWUSER among
	// them: a process between the parent and the child, which is the parent's child
	// all the same (CLONE_PARENT). What the kernel counts for each user (inotify
	// instances and watches, message queues, pending signals, processes, locked
	// memory) is counted for a user namespace's owner too, and so on up
	// (user_namespaces(7); kernel/ucount.c). The parent must be able to set its uid.
	Owner uint32
	// Processes, with Owner, is how many processes and threads the namespace may
	// have, all its uids together; 0 is no bound but the parent's. It becomes the
	// namespace's share of RLIMIT_NPROC (Linux 5.14), which nobody inside can
	// raise; what the child itself has as RLIMIT_NPROC is the parent's.
	Processes uint64
	// UnsetLogin makes the loginuid of the process unset again, where the parent has
	// one and may (CAP_AUDIT_CONTROL): it would be the loginuid of all that follow,
	// for good.
	UnsetLogin bool

	// SyncFD: first read one byte from it; end if it is closed instead. -1 not.
	SyncFD int
	// FilesBelow, if not 0, has the child get copies of the descriptors below it only:
	// a parent of ten thousand pays for each twice, when it is copied and when it is
	// closed. Whatever the child uses has to be below, or it gets copies of all. Not with
	// Owner or CgroupFD. The child makes the copies itself, first of all, and shares the
	// parent's table until then: what it uses must not be closed before Own says so.
	FilesBelow int
	own        uint32

	// TakeFrom, if not negative, is a unix socket whose next packet the child
	// receives: its descriptors take the places of FDTaken in FDs, in order. There
	// must be as many, each a pipe or a connected stream socket; otherwise the child
	// ends with ChildNoFDs. See Taken.
	TakeFrom int
	take     taking

	// Records are written below the directory RecordRoot.
	Records    [2]Record
	RecordRoot int
	how        openHow

	// EarlyCred: take uid EarlyUID and gid EarlyGID first; for the process
	// that has just got an id map. Supplementary groups go, unless KeepGroups.
	EarlyCred          bool
	EarlyUID, EarlyGID uint32

	// SetCaps: drop every capability but Bounding from the bounding set, and
	// make Inheritable inheritable (and ambient, if Ambient).
	SetCaps     bool
	Bounding    Caps
	Inheritable Caps
	Ambient     bool

	// TimerSlack is how much later than asked the kernel may wake the process, and all
	// that come of it, in nanoseconds (PR_SET_TIMERSLACK, prctl(2)); 0 leaves it as it is.
	TimerSlack uint64

	NoNewPrivs  bool
	JoinKeyring bool // a new, empty session keyring (keyrings(7))
	LandlockFD  int  // restrict to this ruleset; -1 not

	// KeepSignals has bit N-1 set for every signal N whose disposition is the
	// default already; all others are set to it. If it is not 0, only those
	// others are blocked in the caller during the clone, and the caller has no
	// goroutine that forks otherwise (see block).
	KeepSignals uint64

	Setsid bool
	CttyFD int    // make this the controlling terminal; -1 not
	FDs    [4]int // become descriptors 0 to 3; -1 leaves one closed
	// CloseNow closes all other descriptors there and then. Without, they are closed
	// when the program is executed. See Closed.
	CloseNow  bool
	closed    uint32
	Umask     int  // -1 keeps it
	SetFiles  bool // RLIMIT_NOFILE: soft 1024, hard HardFiles
	HardFiles uint64
	// Rlimits are resource limits, soft and hard, after that. One that the kernel does not
	// let be set stays as it is.
	Rlimits []Rlimit
	Nice    int // niceness, where it is not 0

	// LoginProc is the root of a procfs of the process's own pid namespace, in
	// which nobody can have mounted anything; -1 is none. The loginuid of the process
	// becomes UID there, as pam_loginuid(8) makes it: an unset one can be set by
	// whoever has it, to anything, but only once (kernel/auditsc.c). If it is set
	// already, or the kernel has no audit, it stays as it is.
	LoginProc int

	// SetCred: become this user. setgroups is called unless KeepGroups.
	SetCred    bool
	KeepGroups bool
	Groups     []uint32
	GID, UID   uint32

	// Greeting goes to descriptor 1 first, waiting for room where there is none:
	// the child, not the parent.
	Greeting []byte

	// Dir is where the program starts, a C string. If it cannot be entered,
	// DirMsg, the error and a newline go to descriptor 2 and the directory
	// stays "/", as sshd has it (session.c:do_child). nil keeps it.
	Dir    *byte
	DirMsg []byte

	// ExecFD, if not negative, is executed (execveat(2)); it is above 3, since those are
	// FDs by then. If it is negative and CloneExe, Path is first cloned read-only into
	// the child's own mount namespace; else Path is executed.
	ExecFD   int
	CloneExe bool
	Path     *byte
	Argv     []*byte // ends with nil
	Envp     []*byte // ends with nil
	// ExecMsg, the error and a newline go to descriptor 2 when the program
	// cannot be executed; the child then exits with status 1.
	ExecMsg []byte

	// FailMsg, the error and a newline go to descriptor 2, or what becomes it, when the
	// child cannot get as far as its program; it then exits with status 125, as
	// whatever fails on the way to a session. Without it the status says where (ChildNoSync
	// and the others), and nothing is written.
	FailMsg []byte

	// LastCap is the highest capability the kernel knows.
	LastCap int

	// tid is cleared by the kernel when the child has executed or ended
	// (CLONE_CHILD_CLEARTID, clone(2)).
	tid uint32

	// Scratch of the child, so that its stack frames stay small.
	placed bool // descriptor 2 is FDs[2]
	tmp    [64]byte
	sa     kernelSigaction
	lim    [2]uint64
	hdr    capHeader
	data   capData
	mask   uint64
	attr   mountAttr
	id     [3]uint32
	gids   unsafe.Pointer
	ngid   uintptr
	empty  byte

	stack []byte
	top   uintptr // of stack
	flags uintptr // of clone(2) for the child
	args  cloneArgs
	pidfd int32

	oldmask uint64 // the caller's signal mask before the clone

	// What the process that is Owner needs and leaves.
	ownerStack []byte
	nproc      [2]uint64 // RLIMIT_NPROC of the parent
	ownerPID   int
	pid        uintptr
	errno      Errno
	failed     ownerStep
}

// ownerStep is what the process that is Owner could not do.
type ownerStep uint8

const (
	ownerClone ownerStep = iota
	ownerKeepCaps
	ownerBecome
	ownerLimit
)

// childStack is the size of the child's stack. The linker holds the depth of a
// chain of nosplit functions below 800 bytes.
const childStack = 4096

// NewChild returns a Child that does nothing but execute.
func NewChild() *Child {
	c := &Child{}
	c.Reset()
	return c
}

// Reset makes c a Child that does nothing but execute. c must not be Pending.
func (c *Child) Reset() {
	groups, stack, ownerStack := c.Groups[:0], c.stack, c.ownerStack
	*c = Child{CgroupFD: -1, SyncFD: -1, TakeFrom: -1, LandlockFD: -1, CttyFD: -1, FDs: [4]int{-1, -1, -1, -1}, Umask: -1, LoginProc: -1, ExecFD: -1}
	c.Groups, c.stack, c.ownerStack = groups, stack, ownerStack
}

// Pending reports whether the child has neither executed its program nor ended. With
// Owner it also waits for that process, which has ended long since, and must be
// called for that.
func (c *Child) Pending() bool { return !c.ownerGone() || atomic.LoadUint32(&c.tid) != 0 }

// ownerGone buries the process that is Owner, if it has quite ended.
func (c *Child) ownerGone() bool {
	if c.ownerPID == 0 {
		return true
	}
	pid, err := syscall.Wait4(c.ownerPID, nil, syscall.WNOHANG, nil)
	if pid == 0 && err == nil || err == syscall.EINTR {
		return false
	}
	c.ownerPID = 0
	return true
}

// Closed reports whether the child, with CloseNow, has no copy any more of what the
// parent had open. Whoever closes the last copy of a descriptor may have to wait (see
// PeekMsg): a parent that keeps its own until then spares the child that.
func (c *Child) Closed() bool { return atomic.LoadUint32(&c.closed) != 0 || !c.Pending() }

// Own reports whether the child has a table of descriptors of its own, or has ended:
// what its parent closes is the parent's only. Without FilesBelow it always has.
func (c *Child) Own() bool { return atomic.LoadUint32(&c.own) != 0 || !c.Pending() }

// Statuses of a Child that could not get as far as its program.
const (
	ChildNoSync     = 101
	ChildNoCred     = 102
	ChildNoCaps     = 103
	ChildNoLandlock = 104
	ChildNoFDs      = 105
	ChildNoExe      = 106
	ChildNoCgroup   = 107
)

func cloneVM(flags, stack, pidfd, tid uintptr, c *Child) (r, errno uintptr)

func cloneOwner(flags, stack uintptr, c *Child) (r, errno uintptr)

func clone3VM(args *cloneArgs, size uintptr, c *Child) (r, errno uintptr)

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

const (
	cloneVMFlag        = 0x100
	cloneFiles         = 0x400
	clonePidfd         = 0x1000
	cloneVfork         = 0x4000
	cloneParent        = 0x8000
	cloneChildCleartid = 0x200000
	cloneIntoCgroup    = 0x200000000
)

// Fork makes the process and returns its pid and pidfd at once; it does not
// wait for the program to be executed.
func Fork(c *Child) (pid, pidfd int, err error) {
	if len(c.Groups) > 0 {
		c.gids, c.ngid = unsafe.Pointer(&c.Groups[0]), uintptr(len(c.Groups))
	} else {
		c.gids, c.ngid = nil, 0
	}
	if c.stack == nil {
		c.stack = make([]byte, childStack)
	}
	if c.ExecFD >= 0 && c.ExecFD < len(c.FDs) {
		return 0, -1, syscall.EBADF // it is another descriptor by then
	}
	if c.TakeFrom >= 0 {
		prepareTake(c)
	}
	c.top = stackTop(c.stack)
	c.pidfd, c.closed, c.placed, c.own = -1, 0, false, 1
	atomic.StoreUint32(&c.tid, 1)
	c.flags = c.CloneFlags | cloneVMFlag | clonePidfd | cloneChildCleartid
	if c.few() {
		c.flags, c.own = c.flags|cloneFiles, 0
	}
	if c.Owner != 0 {
		c.flags |= cloneParent
	} else {
		c.flags |= uintptr(syscall.SIGCHLD)
	}
	if c.CgroupFD >= 0 {
		bottom := uintptr(unsafe.Pointer(&c.stack[0]))
		const signal = 0xff // CSIGNAL
		c.args = cloneArgs{
			flags: uint64(c.flags&^signal) | cloneIntoCgroup, exitSignal: uint64(c.flags & signal),
			pidfd: uint64(uintptr(unsafe.Pointer(&c.pidfd))), childTID: uint64(uintptr(unsafe.Pointer(&c.tid))),
			stack: uint64(bottom), stackSize: uint64(c.top - bottom), cgroup: uint64(c.CgroupFD),
		}
	}
	if c.Owner != 0 {
		err = forkOwner(c)
	} else {
		block(c)
		r, e := forkChild(c)
		unblock(c)
		c.pid, err = r, justErr(Errno(e))
	}
	if err != nil {
		atomic.StoreUint32(&c.tid, 0)
		for !c.ownerGone() {
		}
		return 0, -1, err
	}
	return int(c.pid), int(c.pidfd), nil
}

// block keeps handlers from running on the child's stack. The runtime's hook blocks
// every signal, which the init of a PID namespace must not do: a signal that its first
// thread has blocked is not ignored but sent, and one that is fatal by default then
// ends the whole process if another thread has it open (kernel/signal.c,
// sig_ignored and complete_signal; commit 426915796ccaf, Linux 4.15). The new process
// may run before the caller goes on, so root inside could hit that moment. What
// has no handler needs no blocking.
//
//go:nosplit
func block(c *Child) {
	if c.KeepSignals == 0 {
		runtimeBeforeFork()
		return
	}
	caught := ^c.KeepSignals
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 0 /* SIG_BLOCK */, uintptr(unsafe.Pointer(&caught)), uintptr(unsafe.Pointer(&c.oldmask)), 8, 0, 0)
}

//go:nosplit
func unblock(c *Child) {
	if c.KeepSignals == 0 {
		runtimeAfterFork()
		return
	}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2 /* SIG_SETMASK */, uintptr(unsafe.Pointer(&c.oldmask)), 0, 8, 0, 0)
}

func stackTop(stack []byte) uintptr {
	return (uintptr(unsafe.Pointer(&stack[0])) + uintptr(len(stack))) &^ 15
}

// forkOwner makes the process that is Owner, which makes the child, and waits until
// it has (CLONE_VFORK). That takes a handful of system calls and waits for nobody: the
// process is in the parent's pid namespace, where no uid of a jail can send it a signal. It shares
// the parent's memory and descriptors (the child's pidfd is opened in both), but
// not its limits; credentials are each task's own (credentials(7)).
func forkOwner(c *Child) error {
	if c.ownerStack == nil {
		c.ownerStack = make([]byte, childStack)
	}
	c.pid, c.errno, c.failed = 0, 0, ownerClone
	// The child's exit signal is that of the process that is its sibling.
	flags := uintptr(cloneVMFlag|cloneFiles|cloneVfork) | uintptr(syscall.SIGCHLD)
	runtimeBeforeFork()
	r, e := cloneOwner(flags, stackTop(c.ownerStack), c)
	runtimeAfterFork()
	if e != 0 {
		return Errno(e)
	}
	c.ownerPID = int(r)
	if c.errno == 0 && c.pid == 0 {
		return syscall.ECHILD // somebody has killed it
	}
	switch c.failed {
	case ownerKeepCaps:
		return Wrap("keep capabilities (CAP_SETPCAP)", c.errno)
	case ownerBecome:
		return Wrap("become the owner of the user namespace", c.errno)
	case ownerLimit:
		return Wrap("set RLIMIT_NPROC", c.errno)
	}
	return justErr(c.errno)
}

// few reports whether the child is to get some descriptors only.
func (c *Child) few() bool {
	if c.FilesBelow == 0 || c.Owner != 0 || c.CgroupFD >= 0 {
		return false
	}
	most := max(c.SyncFD, c.TakeFrom, c.LandlockFD, c.CttyFD, c.LoginProc, c.ExecFD, c.RecordRoot)
	for _, fd := range c.FDs {
		most = max(most, fd)
	}
	return most < c.FilesBelow
}

// forkChild makes the child.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func forkChild(c *Child) (r, errno uintptr) {
	if c.CgroupFD >= 0 {
		return clone3VM(&c.args, unsafe.Sizeof(c.args), c)
	}
	return cloneVM(c.flags, c.top, uintptr(unsafe.Pointer(&c.pidfd)), uintptr(unsafe.Pointer(&c.tid)), c)
}

// owner is all that the process does that is Owner. It keeps its capabilities
// (capabilities(7), SECBIT_NO_SETUID_FIXUP), since a cgroup of root's is entered
// and some kernels want them for a user namespace; the new namespace has secure
// bits of its own. Its real uid must not be root's, or the limit on processes would
// not count (enforced_nproc_rlimit, kernel/fork.c).
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func owner(c *Child) {
	ownerSteps(c)
	// As forkChild, whose frame would be one too many for the linker, which does not know
	// that the child has another stack.
	var r, errno uintptr
	if c.CgroupFD >= 0 {
		r, errno = clone3VM(&c.args, unsafe.Sizeof(c.args), c)
	} else {
		r, errno = cloneVM(c.flags, c.top, uintptr(unsafe.Pointer(&c.pidfd)), uintptr(unsafe.Pointer(&c.tid)), c)
	}
	if errno != 0 {
		c.errno = Errno(errno)
	} else {
		c.pid = r
	}
	exit(0)
}

// ownerSteps is what owner does before it clones: not in its frame, which is below all of
// the child's for the linker.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func ownerSteps(c *Child) {
	var e Errno
	if c.UnsetLogin {
		childUnsetLogin(c)
	}
	_, _, e = syscall.RawSyscall6(syscall.SYS_PRCTL, 28 /* PR_SET_SECUREBITS */, 1<<2, 0, 0, 0, 0)
	if e != 0 {
		c.failed, c.errno = ownerKeepCaps, e
		exit(0)
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(c.Owner), uintptr(c.Owner), 0)
	if e != 0 {
		c.failed, c.errno = ownerBecome, e
		exit(0)
	}
	if c.Processes > 0 {
		_, _, e = syscall.RawSyscall(syscall.SYS_GETRLIMIT, rlimitNproc, uintptr(unsafe.Pointer(&c.nproc[0])), 0)
		if e == 0 {
			c.lim[0], c.lim[1] = c.Processes, c.nproc[1]
			if c.lim[0] > c.lim[1] {
				c.lim[0] = c.lim[1]
			}
			_, _, e = syscall.RawSyscall(syscall.SYS_SETRLIMIT, rlimitNproc, uintptr(unsafe.Pointer(&c.lim[0])), 0)
		}
		if e != 0 {
			c.failed, c.errno = ownerLimit, e
			exit(0)
		}
	}
}

const (
	rlimitNproc     = 6
	prSetTimerslack = 29 // PR_SET_TIMERSLACK
)

// child is everything between clone and exec. It runs on a stack of its own
// beside the threads of the parent, with every signal blocked that has a handler, and without a
// goroutine: raw system calls only, no allocation, no pointer stored in memory
// the collector looks at, no stack growth.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func child(c *Child) {
	var e Errno
	var r uintptr

	if c.flags&cloneFiles != 0 {
		childOwn(c)
	}
	if c.Owner == 0 && c.UnsetLogin {
		childUnsetLogin(c)
	}
	if c.SyncFD >= 0 {
		r, _, _ = syscall.RawSyscall(syscall.SYS_READ, uintptr(c.SyncFD), uintptr(unsafe.Pointer(&c.tmp[0])), 1)
		if r != 1 {
			exit(ChildNoSync)
		}
	}

	// Handlers of the parent must not run here, and what the parent ignores
	// must not stay ignored in the program (signal(7): exec keeps SIG_IGN).
	for i := uintptr(1); i <= 64; i++ {
		if c.KeepSignals&(1<<(i-1)) == 0 {
			_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, i, uintptr(unsafe.Pointer(&c.sa)), 0, 8, 0, 0)
		}
	}

	if c.TakeFrom >= 0 {
		childTake(c)
	}
	if c.Owner != 0 && c.Processes > 0 {
		_, _, e = syscall.RawSyscall(syscall.SYS_SETRLIMIT, rlimitNproc, uintptr(unsafe.Pointer(&c.nproc[0])), 0)
		if e != 0 {
			exit(ChildNoCred)
		}
	}
	if c.OwnCgroupRoot {
		_, _, e = syscall.RawSyscall(syscall.SYS_UNSHARE, syscall.CLONE_NEWCGROUP, 0, 0)
		if e != 0 {
			exit(ChildNoCgroup)
		}
	}
	if c.EarlyCred {
		e = 0
		if !c.KeepGroups {
			_, _, e = syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0)
		}
		if e == 0 {
			_, _, e = syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(c.EarlyGID), uintptr(c.EarlyGID), uintptr(c.EarlyGID))
		}
		if e == 0 {
			_, _, e = syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(c.EarlyUID), uintptr(c.EarlyUID), uintptr(c.EarlyUID))
		}
		if e != 0 {
			exit(ChildNoCred)
		}
	}
	if c.SetCaps {
		childCaps(c)
	}
	if c.NoNewPrivs {
		_, _, e = syscall.RawSyscall6(syscall.SYS_PRCTL, 38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0, 0)
		if e != 0 {
			exit(ChildNoCaps)
		}
	}
	if c.TimerSlack > 0 {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, prSetTimerslack, uintptr(c.TimerSlack), 0, 0, 0, 0)
	}
	if c.JoinKeyring {
		// Without CONFIG_KEYS there is nothing to leave behind.
		_, _, _ = syscall.RawSyscall(sysKeyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, 0, 0)
	}
	if c.LandlockFD >= 0 {
		_, _, e = syscall.RawSyscall(sysLandlockRestrict, uintptr(c.LandlockFD), 0, 0)
		if e != 0 {
			exit(ChildNoLandlock)
		}
	}
	if c.CloneExe {
		childCloneExe(c)
	}
	if c.Setsid {
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
	}
	if c.CttyFD >= 0 {
		_, _, e = syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(c.CttyFD), syscall.TIOCSCTTY, 0)
		if e != 0 {
			fail(c, ChildNoFDs, e)
		}
	}
	if c.Umask >= 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_UMASK, uintptr(c.Umask), 0, 0)
	}
	childRecords(c)
	if c.LoginProc >= 0 {
		childLogin(c)
	}
	e = childFDs(c)
	if e != 0 {
		fail(c, ChildNoFDs, e)
	}
	if c.SetFiles {
		c.lim[0], c.lim[1] = 1024, c.HardFiles
		if c.HardFiles < 1024 {
			c.lim[0] = c.HardFiles
		}
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETRLIMIT, syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&c.lim[0])), 0)
	}
	for i := 0; i < len(c.Rlimits); i++ {
		c.lim[0], c.lim[1] = c.Rlimits[i].Value, c.Rlimits[i].Value
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETRLIMIT, uintptr(c.Rlimits[i].Resource), uintptr(unsafe.Pointer(&c.lim[0])), 0)
	}
	if c.Nice != 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETPRIORITY, 0 /* PRIO_PROCESS */, 0, uintptr(c.Nice))
	}
	if c.SetCred {
		e = childCred(c)
		if e != 0 {
			fail(c, ChildNoCred, e)
		}
	}
	if len(c.Greeting) > 0 {
		greet(c)
	}
	if c.Dir != nil {
		_, _, e = syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(c.Dir)), 0, 0)
		if e != 0 {
			complain(c, c.DirMsg, e)
		}
	}
	// Unblock the signals only now that none of the parent's handlers is left.
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2, uintptr(unsafe.Pointer(&c.mask)), 0, 8, 0, 0)
	if c.ExecFD >= 0 {
		_, _, e = syscall.RawSyscall6(sysExecveat, uintptr(c.ExecFD), uintptr(unsafe.Pointer(&c.empty)),
			uintptr(unsafe.Pointer(&c.Argv[0])), uintptr(unsafe.Pointer(&c.Envp[0])), AtEmptyPath, 0)
	} else {
		_, _, e = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(c.Path)),
			uintptr(unsafe.Pointer(&c.Argv[0])), uintptr(unsafe.Pointer(&c.Envp[0])))
	}
	complain(c, c.ExecMsg, e)
	exit(1)
}

// childOwn makes the child a table of descriptors of its own, of what is below FilesBelow.
// Until it has one it must not close or make any, since they would be the parent's.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childOwn(c *Child) {
	_, _, e := syscall.RawSyscall(sysCloseRange, uintptr(c.FilesBelow), ^uintptr(0)>>32, 2 /* CLOSE_RANGE_UNSHARE */)
	if e != 0 {
		exit(ChildNoFDs)
	}
	atomic.StoreUint32(&c.own, 1)
}

//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childCaps(c *Child) {
	var e Errno
	c.hdr.version = capVersion3
	_, _, e = syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&c.hdr)), uintptr(unsafe.Pointer(&c.data)), 0)
	if e != 0 {
		exit(ChildNoCaps)
	}
	// What the launcher does not have it cannot pass on; PID 1 looks again.
	c.data.inhLo = uint32(c.Inheritable) & c.data.permLo
	c.data.inhHi = uint32(c.Inheritable>>32) & c.data.permHi
	_, _, e = syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&c.hdr)), uintptr(unsafe.Pointer(&c.data)), 0)
	if e != 0 {
		exit(ChildNoCaps)
	}
	// Only now, since a capability outside the bounding set cannot be made
	// inheritable any more (capset(2)).
	for i := 0; i <= c.LastCap; i++ {
		if c.Bounding&(1<<uint(i)) == 0 {
			_, _, e = syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_CAPBSET_DROP, uintptr(i), 0, 0, 0, 0)
			if e != 0 {
				exit(ChildNoCaps)
			}
		}
	}
	if c.Ambient {
		for i := 0; i <= c.LastCap; i++ {
			if c.Inheritable&(1<<uint(i)) != 0 {
				_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, 47 /* PR_CAP_AMBIENT */, 2 /* RAISE */, uintptr(i), 0, 0, 0)
			}
		}
	}
}

//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childCloneExe(c *Child) {
	var e Errno
	var r uintptr
	var minus100 = ^uintptr(99)
	r, _, e = syscall.RawSyscall(sysOpenTree, minus100, uintptr(unsafe.Pointer(c.Path)), OpenTreeClone|OpenTreeCloexec)
	if e != 0 {
		exit(ChildNoExe)
	}
	c.attr.set = MountAttrRdonly | MountAttrNosuid | MountAttrNodev
	_, _, e = syscall.RawSyscall6(sysMountSetattr, r, uintptr(unsafe.Pointer(&c.empty)), AtEmptyPath,
		uintptr(unsafe.Pointer(&c.attr)), unsafe.Sizeof(c.attr), 0)
	if e != 0 {
		exit(ChildNoExe)
	}
	c.ExecFD = int(r)
}

// childFDs moves the descriptors into place. All of them are above 3, or -1.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childFDs(c *Child) Errno {
	var e Errno
	for i := 0; i < len(c.FDs); i++ {
		if c.FDs[i] < 0 {
			continue
		}
		if c.FDs[i] == i {
			_, _, e = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(i), syscall.F_SETFD, 0)
		} else {
			_, _, e = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(c.FDs[i]), uintptr(i), 0)
		}
		if e != 0 {
			return e
		}
	}
	c.placed = true
	// The parent's own descriptors are close-on-exec; those it was started with need
	// not be, and one that is left leads out (CVE-2024-21626).
	first := uintptr(3)
	if c.FDs[3] >= 0 {
		first = 4
	}
	how := uintptr(4) // CLOSE_RANGE_CLOEXEC
	if c.CloseNow {
		how = 0
	}
	_, _, e = syscall.RawSyscall(sysCloseRange, first, ^uintptr(0)>>32, how)
	if e != 0 {
		return e
	}
	atomic.StoreUint32(&c.closed, 1)
	return 0
}

// Where the kernel keeps the loginuid, seen from the root of a procfs and on the
// host. "self" is a link, so links are followed, but not out of that file system.
const (
	loginPath     = "self/loginuid\x00"
	loginPathHost = "/proc/self/loginuid\x00"
	loginUnset    = "4294967295"
)

var loginHow = openHow{flags: syscall.O_WRONLY | syscall.O_CLOEXEC, resolve: ResolveNoXdev | ResolveNoMagiclinks}

// childUnsetLogin writes the host's /proc/self/loginuid, which is the task's own
// whatever its pid namespace, if it is set.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childUnsetLogin(c *Child) {
	const readWrite = syscall.O_RDWR | syscall.O_CLOEXEC
	var cwd = ^uintptr(99) // AT_FDCWD
	r, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, cwd, uintptr(unsafe.Pointer(unsafe.StringData(loginPathHost))), readWrite, 0, 0, 0)
	if e != 0 {
		return
	}
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, r, uintptr(unsafe.Pointer(&c.tmp[0])), unsafe.Sizeof(c.tmp))
	same := e == 0 && n == uintptr(len(loginUnset))
	for i := uintptr(0); same && i < n; i++ {
		same = c.tmp[i] == loginUnset[i]
	}
	if !same {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PWRITE64, r, uintptr(unsafe.Pointer(unsafe.StringData(loginUnset))), uintptr(len(loginUnset)), 0, 0, 0)
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, r, 0, 0)
}

// childLogin sets the loginuid. The kernel maps it by the user namespace of whoever
// opened the file, so it is opened here.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childLogin(c *Child) {
	r, _, e := syscall.RawSyscall6(sysOpenat2, uintptr(c.LoginProc), uintptr(unsafe.Pointer(unsafe.StringData(loginPath))),
		uintptr(unsafe.Pointer(&loginHow)), unsafe.Sizeof(loginHow), 0, 0)
	if e != 0 {
		return
	}
	i := len(c.tmp)
	for n := c.UID; ; n /= 10 {
		i--
		c.tmp[i] = byte('0' + n%10)
		if n < 10 {
			break
		}
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, r, uintptr(unsafe.Pointer(&c.tmp[i])), uintptr(len(c.tmp)-i))
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, r, 0, 0)
}

// childCred takes on the session's identity: groups, then gid, then uid, since
// each step needs what the next gives up; and then looks whether it really has
// it, because setresuid(-1, -1, -1) succeeds and changes nothing
// (setresuid(2), CVE-2019-14287).
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childCred(c *Child) Errno {
	var e Errno
	if !c.KeepGroups {
		_, _, e = syscall.RawSyscall(syscall.SYS_SETGROUPS, c.ngid, uintptr(c.gids), 0)
		if e != 0 {
			return e
		}
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(c.GID), uintptr(c.GID), uintptr(c.GID))
	if e != 0 {
		return e
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(c.UID), uintptr(c.UID), uintptr(c.UID))
	if e != 0 {
		return e
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_GETRESUID, uintptr(unsafe.Pointer(&c.id[0])), uintptr(unsafe.Pointer(&c.id[1])), uintptr(unsafe.Pointer(&c.id[2])))
	if e != 0 || c.id[0] != c.UID || c.id[1] != c.UID || c.id[2] != c.UID {
		return syscall.EPERM
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_GETRESGID, uintptr(unsafe.Pointer(&c.id[0])), uintptr(unsafe.Pointer(&c.id[1])), uintptr(unsafe.Pointer(&c.id[2])))
	if e != 0 || c.id[0] != c.GID || c.id[1] != c.GID || c.id[2] != c.GID {
		return syscall.EPERM
	}
	return 0
}

// greet writes the greeting. It ends early if the terminal is gone.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func greet(c *Child) {
	for done := 0; done < len(c.Greeting); {
		r, _, e := syscall.RawSyscall(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&c.Greeting[done])), uintptr(len(c.Greeting)-done))
		if e != 0 || r == 0 {
			return
		}
		done += int(r)
	}
}

//go:nosplit
//go:norace
//go:nocheckptr
func exit(status uintptr) {
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, status, 0, 0)
	}
}

// fail ends a child that does not get as far as its program.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func fail(c *Child, status uintptr, e Errno) {
	if len(c.FailMsg) == 0 {
		exit(status)
	}
	if !c.placed {
		if c.FDs[2] < 0 {
			exit(125)
		}
		// Nothing else needs it any more.
		_, _, _ = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(c.FDs[2]), 2, 0)
	}
	complain(c, c.FailMsg, e)
	exit(125)
}

// complain writes msg, what e means and a newline to descriptor 2.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func complain(c *Child, msg []byte, e Errno) {
	if len(msg) == 0 {
		return
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, 2, uintptr(unsafe.Pointer(&msg[0])), uintptr(len(msg)))
	n := 0
	s := strerrorOther
	if e < Errno(len(strerror)) && len(strerror[e]) != 0 {
		s = strerror[e]
	}
	for n < len(s) && n < len(c.tmp)-1 {
		c.tmp[n] = s[n]
		n++
	}
	c.tmp[n] = '\n'
	n++
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, 2, uintptr(unsafe.Pointer(&c.tmp[0])), uintptr(n))
}

const strerrorOther = "Input/output error"

// strerror has the C library's words, because a session's messages are compared
// with those of sshd.
var strerror = [41]string{
	syscall.EPERM: "Operation not permitted", syscall.ENOENT: "No such file or directory",
	syscall.EIO: "Input/output error", syscall.E2BIG: "Argument list too long",
	syscall.ENOEXEC: "Exec format error", syscall.EAGAIN: "Resource temporarily unavailable",
	syscall.ENOMEM: "Cannot allocate memory", syscall.EACCES: "Permission denied",
	syscall.ENOTDIR: "Not a directory", syscall.EISDIR: "Is a directory",
	syscall.EINVAL: "Invalid argument", syscall.EMFILE: "Too many open files",
	syscall.ETXTBSY: "Text file busy", syscall.ENAMETOOLONG: "File name too long",
	syscall.ELOOP: "Too many levels of symbolic links",
}
