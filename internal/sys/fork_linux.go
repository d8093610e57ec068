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

	// SyncFD: first read one byte from it; end if it is closed instead. -1 not.
	SyncFD int

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
	// that has just got an id map.
	EarlyCred          bool
	EarlyUID, EarlyGID uint32

	// SetCaps: drop every capability but Bounding from the bounding set, and
	// make Inheritable inheritable (and ambient, if Ambient).
	SetCaps     bool
	Bounding    Caps
	Inheritable Caps
	Ambient     bool

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

	// ExecFD, if not negative, is executed (execveat(2)); ExePath, if ExecFD is
	// negative and CloneExe, is first cloned read-only into the child's own
	// mount namespace; else Path is executed.
	ExecFD   int
	CloneExe bool
	Path     *byte
	Argv     []*byte // ends with nil
	Envp     []*byte // ends with nil
	// ExecMsg, the error and a newline go to descriptor 2 when the program
	// cannot be executed; the child then exits with status 1.
	ExecMsg []byte

	// LastCap is the highest capability the kernel knows.
	LastCap int

	// tid is cleared by the kernel when the child has executed or ended
	// (CLONE_CHILD_CLEARTID, clone(2)).
	tid uint32

	// Scratch of the child, so that its stack frames stay small.
	tmp   [64]byte
	sa    kernelSigaction
	lim   [2]uint64
	hdr   capHeader
	data  capData
	mask  uint64
	attr  mountAttr
	id    [3]uint32
	gids  unsafe.Pointer
	ngid  uintptr
	empty byte

	stack []byte
	args  cloneArgs
	pidfd int32

	oldmask uint64 // the caller's signal mask before the clone
}

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
	groups, stack := c.Groups[:0], c.stack
	*c = Child{CgroupFD: -1, SyncFD: -1, TakeFrom: -1, LandlockFD: -1, CttyFD: -1, FDs: [4]int{-1, -1, -1, -1}, Umask: -1, ExecFD: -1}
	c.Groups, c.stack = groups, stack
}

// Pending reports whether the child has neither executed its program nor ended.
func (c *Child) Pending() bool { return atomic.LoadUint32(&c.tid) != 0 }

// Closed reports whether the child, with CloseNow, has no copy any more of what the
// parent had open. Whoever closes the last copy of a descriptor may have to wait (see
// PeekMsg): a parent that keeps its own until then spares the child that.
func (c *Child) Closed() bool { return atomic.LoadUint32(&c.closed) != 0 || !c.Pending() }

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

func clone3VM(args *cloneArgs, size uintptr, c *Child) (r, errno uintptr)

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// Fork makes the process and returns its pid and pidfd at once; it does not
// wait for the program to be executed.
func Fork(c *Child) (pid, pidfd int, err error) {
	const (
		cloneVMFlag        = 0x100
		clonePidfd         = 0x1000
		cloneChildCleartid = 0x200000
		cloneIntoCgroup    = 0x200000000
	)
	if len(c.Groups) > 0 {
		c.gids, c.ngid = unsafe.Pointer(&c.Groups[0]), uintptr(len(c.Groups))
	} else {
		c.gids, c.ngid = nil, 0
	}
	if c.stack == nil {
		c.stack = make([]byte, childStack)
	}
	top := uintptr(unsafe.Pointer(&c.stack[0])) + childStack
	top &^= 15
	if c.TakeFrom >= 0 {
		prepareTake(c)
	}
	c.pidfd, c.closed = -1, 0
	atomic.StoreUint32(&c.tid, 1)
	flags := c.CloneFlags | cloneVMFlag | clonePidfd | cloneChildCleartid
	var r, e uintptr
	// With every signal blocked no handler runs on the child's stack.
	if c.CgroupFD >= 0 {
		bottom := uintptr(unsafe.Pointer(&c.stack[0]))
		c.args = cloneArgs{
			flags: uint64(flags) | cloneIntoCgroup, exitSignal: uint64(syscall.SIGCHLD),
			pidfd: uint64(uintptr(unsafe.Pointer(&c.pidfd))), childTID: uint64(uintptr(unsafe.Pointer(&c.tid))),
			stack: uint64(bottom), stackSize: uint64(top - bottom), cgroup: uint64(c.CgroupFD),
		}
		block(c)
		r, e = clone3VM(&c.args, unsafe.Sizeof(c.args), c)
		unblock(c)
	} else {
		block(c)
		r, e = cloneVM(uintptr(syscall.SIGCHLD)|flags, top, uintptr(unsafe.Pointer(&c.pidfd)), uintptr(unsafe.Pointer(&c.tid)), c)
		unblock(c)
	}
	if e != 0 {
		atomic.StoreUint32(&c.tid, 0)
		return 0, -1, Errno(e)
	}
	return int(r), int(c.pidfd), nil
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
	if c.OwnCgroupRoot {
		_, _, e = syscall.RawSyscall(syscall.SYS_UNSHARE, syscall.CLONE_NEWCGROUP, 0, 0)
		if e != 0 {
			exit(ChildNoCgroup)
		}
	}
	if c.EarlyCred {
		_, _, e = syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(c.EarlyGID), uintptr(c.EarlyGID), uintptr(c.EarlyGID))
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
			exit(ChildNoFDs)
		}
	}
	if c.Umask >= 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_UMASK, uintptr(c.Umask), 0, 0)
	}
	childRecords(c)
	childFDs(c)
	if c.SetFiles {
		c.lim[0], c.lim[1] = 1024, c.HardFiles
		if c.HardFiles < 1024 {
			c.lim[0] = c.HardFiles
		}
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETRLIMIT, syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&c.lim[0])), 0)
	}
	if c.SetCred {
		childCred(c)
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
func childFDs(c *Child) {
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
			exit(ChildNoFDs)
		}
	}
	// Every descriptor is close-on-exec already. This makes sure (CVE-2024-21626).
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
		exit(ChildNoFDs)
	}
	atomic.StoreUint32(&c.closed, 1)
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
func childCred(c *Child) {
	var e Errno
	if !c.KeepGroups {
		_, _, e = syscall.RawSyscall(syscall.SYS_SETGROUPS, c.ngid, uintptr(c.gids), 0)
		if e != 0 {
			exit(ChildNoCred)
		}
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(c.GID), uintptr(c.GID), uintptr(c.GID))
	if e != 0 {
		exit(ChildNoCred)
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(c.UID), uintptr(c.UID), uintptr(c.UID))
	if e != 0 {
		exit(ChildNoCred)
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_GETRESUID, uintptr(unsafe.Pointer(&c.id[0])), uintptr(unsafe.Pointer(&c.id[1])), uintptr(unsafe.Pointer(&c.id[2])))
	if e != 0 || c.id[0] != c.UID || c.id[1] != c.UID || c.id[2] != c.UID {
		exit(ChildNoCred)
	}
	_, _, e = syscall.RawSyscall(syscall.SYS_GETRESGID, uintptr(unsafe.Pointer(&c.id[0])), uintptr(unsafe.Pointer(&c.id[1])), uintptr(unsafe.Pointer(&c.id[2])))
	if e != 0 || c.id[0] != c.GID || c.id[1] != c.GID || c.id[2] != c.GID {
		exit(ChildNoCred)
	}
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
