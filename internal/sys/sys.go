//go:build linux

// Package sys wraps the Linux calls this project needs and package syscall
// lacks, each with EINTR handled and close-on-exec set. It is the only package
// with unsafe code and raw system call numbers, and it imports nothing but
// syscall, because jail-enter and PID 1 are built on it.
package sys

import (
	"syscall"
	"unsafe"
)

// Errno is a system call's error.
type Errno = syscall.Errno

func fdErr(r uintptr, e Errno) (int, error) {
	if e != 0 {
		return -1, e
	}
	return int(r), nil
}

func justErr(e Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

// cstr returns s as a C string. It panics on an interior NUL, which every
// caller has excluded.
func cstr(s string) *byte {
	p, err := syscall.BytePtrFromString(s)
	if err != nil {
		panic("sys: NUL in string")
	}
	return p
}

// Flags of openat2(2), open_tree(2), move_mount(2), mount_setattr(2),
// fsopen(2) and fsconfig(2) that package syscall does not have.
const (
	ResolveNoXdev       = 0x01
	ResolveNoMagiclinks = 0x02
	ResolveNoSymlinks   = 0x04
	ResolveBeneath      = 0x08
	ResolveInRoot       = 0x10

	OPath = 0x200000

	AtFDCWD           = -100
	AtEmptyPath       = 0x1000
	AtRecursive       = 0x8000
	AtSymlinkNofollow = 0x100
	AtRemovedir       = 0x200

	OpenTreeClone   = 1
	OpenTreeCloexec = 0x80000

	MoveMountFEmptyPath = 0x4
	MoveMountTEmptyPath = 0x40

	MountAttrRdonly      = 0x1
	MountAttrNosuid      = 0x2
	MountAttrNodev       = 0x4
	MountAttrNoexec      = 0x8
	MountAttrIDMap       = 0x100000
	MountAttrNosymfollow = 0x200000
)

// Numbers that are the same on every architecture; arch_*.go has the others.
const (
	sysOpenTree         = 428
	sysMoveMount        = 429
	sysFsopen           = 430
	sysFsconfig         = 431
	sysFsmount          = 432
	sysPidfdSendSignal  = 424
	sysPidfdOpen        = 434
	sysClone3           = 435
	sysCloseRange       = 436
	sysOpenat2          = 437
	sysPidfdGetfd       = 438
	sysMountSetattr     = 442
	sysLandlockCreate   = 444
	sysLandlockRestrict = 446
)

type openHow struct{ flags, mode, resolve uint64 }

// Openat2 opens path below dirFD under the given resolve rules (openat2(2)).
// O_CLOEXEC is always added. EAGAIN because of a rename anywhere on the machine during
// the walk does not happen below the caller's own root, and is tried again elsewhere (patience);
// with O_NONBLOCK the EAGAIN of a file under lease (fcntl(2), F_SETLEASE) is answered at once.
func Openat2(dirFD int, path string, flags int, resolve uint64) (int, error) {
	return Openat2Mode(dirFD, path, flags, 0, resolve)
}

// Openat2Mode is Openat2 with a mode, for O_CREAT.
func Openat2Mode(dirFD int, path string, flags int, mode uint32, resolve uint64) (int, error) {
	how := openHow{flags: uint64(flags | syscall.O_CLOEXEC), mode: uint64(mode), resolve: resolve}
	var buf [64]byte // most paths need no memory
	p := &buf[0]
	if len(path) >= len(buf) {
		p = cstr(path)
	} else {
		for i := 0; i < len(path); i++ {
			if path[i] == 0 {
				return -1, syscall.EINVAL
			}
			buf[i] = path[i]
		}
	}
	var wait patience
	for {
		r, e := openat2(dirFD, p, &how)
		if e != syscall.EAGAIN {
			return fdErr(r, e)
		}
		if !wait.retry(dirFD, p, &how) {
			return fdErr(r, e)
		}
	}
}

func openat2(dirFD int, path *byte, how *openHow) (uintptr, syscall.Errno) {
	for {
		r, _, e := syscall.Syscall6(sysOpenat2, uintptr(dirFD), uintptr(unsafe.Pointer(path)),
			uintptr(unsafe.Pointer(how)), unsafe.Sizeof(*how), 0, 0)
		if e != syscall.EINTR {
			return r, e
		}
	}
}

// ownRoot reports whether dirFD is the caller's root directory, by the same mount.
func ownRoot(dirFD int) bool {
	const (
		noAutomount = 0x800  // AT_NO_AUTOMOUNT
		wanted      = 0x1100 // STATX_INO, STATX_MNT_ID, of Linux 5.8 (statx(2))
	)
	var st [2]struct {
		mask uint32
		_    [28]byte
		ino  uint64
		_    [96]byte
		dev  uint64
		mnt  uint64
		_    [104]byte
	}
	for i, at := range [2]struct {
		dir   int
		path  string
		flags int
	}{{dirFD, "", AtEmptyPath}, {AtFDCWD, "/", 0}} {
		_, _, e := syscall.Syscall6(sysStatx, uintptr(at.dir), uintptr(unsafe.Pointer(cstr(at.path))),
			uintptr(at.flags|noAutomount), wanted, uintptr(unsafe.Pointer(&st[i])), 0)
		if e != 0 || st[i].mask&wanted != wanted {
			return false
		}
	}
	// One mount may have several file systems' worth of numbers: those of btrfs's subvolumes, whose
	// first directories all have the same one, and a device of its own each.
	return st[0].ino == st[1].ino && st[0].dev == st[1].dev && st[0].mnt == st[1].mnt
}

const (
	// stormLimit is how long an open is tried again that renames interrupt, in
	// milliseconds. Whoever renames without end may be the file's owner.
	stormLimit = 100
	// stormTries is how often it is tried at least, on a machine where there was no
	// processor meanwhile, and starvedLimit for how long at most, in milliseconds.
	stormTries   = 128
	starvedLimit = 500
	// leaseTries is how often a path is found to lead somewhere, and the file does
	// not open, before that is put down to the file. In a storm either may go well
	// by chance, so that one open in 2^20 is taken for that of a file under lease.
	leaseTries = 20
)

// patience tells the two meanings of openat2's EAGAIN apart. A rename or a mount makes
// it give up a ".." below a root, which is worth another try; a lease is the file's
// own and stays. An O_PATH descriptor meets only the first.
type patience struct {
	since  int64
	tries  int
	leased int
}

// retry reports whether an open that was given up is to be tried again, and changes by which rules.
func (p *patience) retry(dirFD int, path *byte, how *openHow) bool {
	if how.resolve&ResolveInRoot != 0 && ownRoot(dirFD) {
		// Nobody gets above his own root: the flag means nothing but that the walk is given
		// up when somebody renames, and that no magic link is followed (openat2(2)).
		how.resolve = how.resolve&^ResolveInRoot | ResolveNoMagiclinks
		return true
	}
	opens := false
	if how.flags&(OPath|syscall.O_CREAT) == 0 {
		probe := openHow{flags: OPath | syscall.O_CLOEXEC | how.flags&(syscall.O_DIRECTORY|syscall.O_NOFOLLOW), resolve: how.resolve}
		if fd, e := openat2(dirFD, path, &probe); e == 0 {
			Close(int(fd))
			opens = true
		}
	}
	return p.again(MonotonicMillis(), opens)
}

// again reports whether to try again at this time. opens says that an O_PATH
// descriptor of the same path was to be had after the failure.
func (p *patience) again(now int64, opens bool) bool {
	if opens {
		p.leased++
	}
	if p.tries == 0 {
		p.since = now
	}
	p.tries++
	limit := int64(stormLimit)
	if p.tries < stormTries {
		limit = starvedLimit
	}
	return p.leased < leaseTries && now-p.since < limit
}

// OpenTree is open_tree(2) with OPEN_TREE_CLOEXEC.
func OpenTree(dirFD int, path string, flags int) (int, error) {
	r, _, e := syscall.Syscall(sysOpenTree, uintptr(dirFD), uintptr(unsafe.Pointer(cstr(path))), uintptr(flags|OpenTreeCloexec))
	return fdErr(r, e)
}

// MoveMount attaches the mount at fromFD (a detached tree) to the object toFD
// refers to. No path takes part.
func MoveMount(fromFD, toFD int) error {
	empty := cstr("")
	_, _, e := syscall.Syscall6(sysMoveMount, uintptr(fromFD), uintptr(unsafe.Pointer(empty)),
		uintptr(toFD), uintptr(unsafe.Pointer(empty)), MoveMountFEmptyPath|MoveMountTEmptyPath, 0)
	return justErr(e)
}

type mountAttr struct{ set, clear, propagation, usernsFD uint64 }

// MountSetattr sets attributes on the mount at fd, and on the mounts below it
// when recursive (mount_setattr(2)), and makes them private: a clone of a shared
// mount is its peer, so that what is mounted on the one appears on the other.
// usernsFD is the user namespace whose map MountAttrIDMap applies, or -1.
func MountSetattr(fd int, set uint64, usernsFD int, recursive bool) error {
	attr := mountAttr{set: set, propagation: syscall.MS_PRIVATE}
	if usernsFD >= 0 {
		attr.set |= MountAttrIDMap
		attr.usernsFD = uint64(usernsFD)
	}
	flags := AtEmptyPath
	if recursive {
		flags |= AtRecursive
	}
	_, _, e := syscall.Syscall6(sysMountSetattr, uintptr(fd), uintptr(unsafe.Pointer(cstr(""))),
		uintptr(flags), uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	return justErr(e)
}

// CloneTree makes a detached mount of what fd is open on, with the attributes attr, and of
// nothing that is mounted below.
func CloneTree(fd int, attr uint64) (int, error) {
	tree, err := OpenTree(fd, "", OpenTreeClone|AtEmptyPath)
	if err != nil {
		return -1, err
	}
	if err := MountSetattr(tree, attr, -1, false); err != nil {
		Close(tree)
		return -1, err
	}
	return tree, nil
}

// Fsopen is fsopen(2).
func Fsopen(name string) (int, error) {
	r, _, e := syscall.Syscall(sysFsopen, uintptr(unsafe.Pointer(cstr(name))), 1 /* FSOPEN_CLOEXEC */, 0)
	return fdErr(r, e)
}

// FsconfigString sets a string parameter of a file system being configured; an
// empty value sets a flag.
func FsconfigString(fd int, key, value string) error {
	cmd, val := uintptr(1), unsafe.Pointer(nil) // FSCONFIG_SET_STRING
	if value == "" {
		cmd = 0 // FSCONFIG_SET_FLAG
	} else {
		val = unsafe.Pointer(cstr(value))
	}
	_, _, e := syscall.Syscall6(sysFsconfig, uintptr(fd), cmd, uintptr(unsafe.Pointer(cstr(key))), uintptr(val), 0, 0)
	return justErr(e)
}

// FsconfigCreate creates the superblock.
func FsconfigCreate(fd int) error {
	_, _, e := syscall.Syscall6(sysFsconfig, uintptr(fd), 6 /* FSCONFIG_CMD_CREATE */, 0, 0, 0, 0)
	return justErr(e)
}

// Fsmount makes a detached mount of a created superblock.
func Fsmount(fd int, attr uint64) (int, error) {
	r, _, e := syscall.Syscall(sysFsmount, uintptr(fd), 1 /* FSMOUNT_CLOEXEC */, uintptr(attr))
	return fdErr(r, e)
}

// Mkdirat is mkdirat(2).
func Mkdirat(dirFD int, name string, mode uint32) error { return syscall.Mkdirat(dirFD, name, mode) }

// Unlinkat is unlinkat(2); flags are 0 or AtRemovedir.
func Unlinkat(dirFD int, name string, flags int) error {
	_, _, e := syscall.Syscall(syscall.SYS_UNLINKAT, uintptr(dirFD), uintptr(unsafe.Pointer(cstr(name))), uintptr(flags))
	return justErr(e)
}

// Symlinkat is symlinkat(2).
func Symlinkat(target string, dirFD int, name string) error {
	_, _, e := syscall.Syscall(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(cstr(target))), uintptr(dirFD), uintptr(unsafe.Pointer(cstr(name))))
	return justErr(e)
}

// Fstatat is fstatat(2).
func Fstatat(dirFD int, name string, st *syscall.Stat_t, flags int) error {
	var buf [64]byte // most paths need no memory
	p := &buf[0]
	if len(name) >= len(buf) {
		p = cstr(name)
	} else {
		for i := 0; i < len(name); i++ {
			if name[i] == 0 {
				return syscall.EINVAL
			}
			buf[i] = name[i]
		}
	}
	_, _, e := syscall.Syscall6(sysFstatat, uintptr(dirFD), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(st)), uintptr(flags), 0, 0)
	return justErr(e)
}

// Utimensat is utimensat(2): it sets access and modification time.
func Utimensat(dirFD int, name string, ts *[2]syscall.Timespec, flags int) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(dirFD), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(ts)), uintptr(flags), 0, 0)
	return justErr(e)
}

// Futimens is Utimensat of an open file.
func Futimens(fd int, ts *[2]syscall.Timespec) error {
	_, _, e := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	return justErr(e)
}

// Readlinkat reads where the link behind fd, opened with O_PATH and O_NOFOLLOW,
// leads (readlinkat(2)); what does not fit p is left out. It fails on anything but
// a link.
func Readlinkat(fd int, p []byte) (int, error) {
	var empty byte
	r, _, e := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0)
	return fdErr(r, e)
}

// Ioctl is ioctl(2) with an integer argument.
func Ioctl(fd int, req, arg uintptr) (int, error) {
	r, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), req, arg)
	return fdErr(r, e)
}

// IoctlPtr is ioctl(2) with a pointer argument.
func IoctlPtr(fd int, req uintptr, arg unsafe.Pointer) error {
	_, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
	return justErr(e)
}

// PidfdOpen is pidfd_open(2); the descriptor is close-on-exec by definition.
func PidfdOpen(pid int) (int, error) {
	r, _, e := syscall.RawSyscall(sysPidfdOpen, uintptr(pid), 0, 0)
	return fdErr(r, e)
}

// PidfdSendSignal is pidfd_send_signal(2).
func PidfdSendSignal(pidfd int, sig syscall.Signal) error {
	_, _, e := syscall.RawSyscall6(sysPidfdSendSignal, uintptr(pidfd), uintptr(sig), 0, 0, 0, 0)
	return justErr(e)
}

// Prctl is prctl(2).
func Prctl(op, arg2, arg3, arg4, arg5 uintptr) (int, error) {
	r, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, op, arg2, arg3, arg4, arg5, 0)
	return fdErr(r, e)
}

// SetComm sets the calling thread's name, at most 15 bytes
// (PR_SET_NAME, prctl(2)).
func SetComm(name string) {
	_, _ = Prctl(15, uintptr(unsafe.Pointer(cstr(name))), 0, 0, 0)
}

// TimerSlack is how much later than asked the kernel may wake a process that has not asked
// for another slack, in nanoseconds (init/init_task.c).
const TimerSlack = 50_000

// SetTimerSlack sets the timer slack, in nanoseconds, of the calling thread and of the
// threads and processes that it makes from then on (PR_SET_TIMERSLACK, prctl(2)).
func SetTimerSlack(ns uint64) { _, _ = Prctl(prSetTimerslack, uintptr(ns), 0, 0, 0) }

// SetDumpable sets or clears the process's dumpable attribute
// (PR_SET_DUMPABLE, prctl(2)): while it is clear, nobody without CAP_SYS_PTRACE
// may attach to the process or open its files in /proc.
func SetDumpable(on bool) error {
	v := uintptr(0)
	if on {
		v = 1
	}
	_, err := Prctl(syscall.PR_SET_DUMPABLE, v, 0, 0, 0)
	return err
}

// Pipe is pipe2(2) with O_CLOEXEC.
func Pipe() (r, w int, err error) {
	var p [2]int
	err = syscall.Pipe2(p[:], syscall.O_CLOEXEC)
	return p[0], p[1], err
}

// Fcntl is fcntl(2) with an integer argument.
func Fcntl(fd, cmd, arg int) (int, error) {
	r, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), uintptr(cmd), uintptr(arg))
	return fdErr(r, e)
}

// SetNonblock sets O_NONBLOCK.
func SetNonblock(fd int) error {
	fl, err := Fcntl(fd, syscall.F_GETFL, 0)
	if err != nil {
		return err
	}
	_, err = Fcntl(fd, syscall.F_SETFL, fl|syscall.O_NONBLOCK)
	return err
}

// Dup2 is dup3(2) without flags: newFD is not close-on-exec.
func Dup2(oldFD, newFD int) error {
	_, _, e := syscall.RawSyscall(syscall.SYS_DUP3, uintptr(oldFD), uintptr(newFD), 0)
	return justErr(e)
}

// Close closes fd. The error says nothing useful for the descriptors here, and
// the descriptor is gone in any case (close(2)).
func Close(fd int) { _, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0) }

// CloseAll closes every descriptor in fds.
func CloseAll(fds []int) {
	for _, fd := range fds {
		Close(fd)
	}
}

// PollFD is struct pollfd.
type PollFD struct {
	FD      int32
	Events  int16
	Revents int16
}

// Events of poll(2).
const (
	PollIn    = 0x1
	PollOut   = 0x4
	PollErr   = 0x8
	PollHup   = 0x10
	PollRdhup = 0x2000
)

// quick is how long Poll waits at first without telling the scheduler, in
// milliseconds: after 10 ms sysmon retakes the thread's P.
const quick = 4

// Poll waits for events for at most ms milliseconds, for ever if ms is
// negative (poll(2)). A signal does not end the wait.
//
// A wait that may be short is made behind the scheduler's back first: telling it
// makes the runtime's monitor thread poll, take the processor away and wake
// other threads for it, which for a command that takes a millisecond is a good
// part of the whole.
func Poll(fds []PollFD, ms int) (int, error) {
	var p unsafe.Pointer
	if len(fds) > 0 {
		p = unsafe.Pointer(&fds[0])
	}
	deadline := int64(0)
	if ms > 0 {
		deadline = MonotonicMillis() + int64(ms)
	}
	if ms < 0 || ms > quick {
		r, e := poll(p, len(fds), quick)
		if r != 0 && e == 0 || e != 0 && e != syscall.EINTR {
			return fdErr(r, e)
		}
	}
	for {
		if ms > 0 {
			ms = int(max(deadline-MonotonicMillis(), 0))
		}
		r, e := pollTold(p, len(fds), ms)
		if e != syscall.EINTR {
			return fdErr(r, e)
		}
	}
}

// Read is read(2), EINTR retried, for a descriptor that has something to read or
// is non-blocking: the scheduler is not told.
func Read(fd int, p []byte) (int, error) { return rw(syscall.SYS_READ, fd, p) }

// Write is write(2), EINTR retried, for a descriptor with room or one that is
// non-blocking: the scheduler is not told.
func Write(fd int, p []byte) (int, error) { return rw(syscall.SYS_WRITE, fd, p) }

// Pread and Pwrite are pread(2) and pwrite(2), EINTR retried, for files: the
// scheduler is not told. If one takes longer than a tick of the monitor thread's,
// some 10 ms, that sends signals in vain until it is done.
func Pread(fd int, p []byte, off int64) (int, error) { return rwAt(syscall.SYS_PREAD64, fd, p, off) }

// Pwrite: see Pread.
func Pwrite(fd int, p []byte, off int64) (int, error) { return rwAt(syscall.SYS_PWRITE64, fd, p, off) }

func rwAt(call uintptr, fd int, p []byte, off int64) (int, error) {
	var at unsafe.Pointer
	if len(p) > 0 {
		at = unsafe.Pointer(&p[0])
	}
	for {
		r, _, e := syscall.RawSyscall6(call, uintptr(fd), uintptr(at), uintptr(len(p)), uintptr(off), 0, 0)
		if e != syscall.EINTR {
			return fdErr(r, e)
		}
	}
}

func rw(call uintptr, fd int, p []byte) (int, error) {
	var at unsafe.Pointer
	if len(p) > 0 {
		at = unsafe.Pointer(&p[0])
	}
	for {
		r, _, e := syscall.RawSyscall(call, uintptr(fd), uintptr(at), uintptr(len(p)))
		if e != syscall.EINTR {
			return fdErr(r, e)
		}
	}
}

// MonotonicMillis is CLOCK_BOOTTIME in milliseconds: it never jumps, and counts
// the time a machine sleeps.
func MonotonicMillis() int64 {
	var ts syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, 7, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Sec*1000 + ts.Nsec/1e6
}

// SetSignal sets the disposition of sig to SIG_DFL or, when ignore, SIG_IGN,
// behind the Go runtime's back (rt_sigaction(2)).
func SetSignal(sig int, ignore bool) {
	sa := kernelSigaction{}
	if ignore {
		sa.handler = 1
	}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0)
}

type kernelSigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// DieBySignal ends the process by sig, as if nothing had ever handled it, so
// that the parent's wait status tells it. No core is dumped. It returns only if
// sig does not kill.
func DieBySignal(sig int) {
	lim := syscall.Rlimit{}
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &lim)
	SetSignal(sig, false)
	mask := uint64(0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2 /* SIG_SETMASK */, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0)
	_ = syscall.Kill(syscall.Getpid(), syscall.Signal(sig))
	// A process-directed signal may go to another thread; it kills all the same,
	// a moment later.
	ts := syscall.Timespec{Sec: 1}
	_ = syscall.Nanosleep(&ts, nil)
}

// StopBySignal does to the process what sig, one that stops, does by default: nothing
// where no process of its session could make it go on (orphaned process group,
// setpgid(2)).
func StopBySignal(sig int) {
	var old, none kernelSigaction
	var mask SignalMask
	open := SignalMask(1) << (sig - 1)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&none)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 1 /* SIG_UNBLOCK */, uintptr(unsafe.Pointer(&open)), uintptr(unsafe.Pointer(&mask)), 8, 0, 0)
	// To this thread, which has it before the call returns.
	tid, _, _ := syscall.RawSyscall(syscall.SYS_GETTID, 0, 0, 0)
	_, _, _ = syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(syscall.Getpid()), tid, uintptr(sig))
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2 /* SIG_SETMASK */, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
}

// SetFSIDs sets the ids file access is judged by on the calling thread
// (setfsuid(2)). There is no error to be had from it; what follows fails.
func SetFSIDs(uid, gid uint32) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSGID, uintptr(gid), 0, 0)
	_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, uintptr(uid), 0, 0)
}

// AsLooker has set make looker the real and the saved uid beside an effective uid, or that uid
// itself where the host is a container that has no such id (EINVAL, setresuid(2)). It returns
// which of the two it is.
func AsLooker(looker, uid uint32, set func(who uint32) error) (who uint32, err error) {
	if err = set(looker); err == syscall.EINVAL {
		return uid, set(uid)
	}
	return looker, err
}

// DropThread takes from the calling thread, and from no other, what it may do as root. uid and
// gid are its effective ids, by which files are judged, and who is its real and saved uid; it
// has no other groups, and no capability is left (capabilities(7), "Effect of user ID changes
// on capabilities"). The goroutine has called runtime.LockOSThread, and ends without the
// opposite, so that the thread ends with it.
func DropThread(who, uid, gid uint32) error {
	for _, c := range [...][4]uintptr{
		{syscall.SYS_SETGROUPS},
		{syscall.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)},
		{syscall.SYS_SETRESUID, uintptr(who), uintptr(uid), uintptr(who)},
	} {
		if _, _, errno := syscall.RawSyscall(c[0], c[1], c[2], c[3]); errno != 0 {
			return errno
		}
	}
	return nil
}

// Caps is a capability set (capabilities(7)), bit N for capability N.
type Caps uint64

// The capabilities this project names.
const (
	CapChown          Caps = 1 << 0
	CapDacOverride    Caps = 1 << 1
	CapFowner         Caps = 1 << 3
	CapFsetid         Caps = 1 << 4
	CapKill           Caps = 1 << 5
	CapSetgid         Caps = 1 << 6
	CapSetuid         Caps = 1 << 7
	CapSetpcap        Caps = 1 << 8
	CapNetBindService Caps = 1 << 10
	CapNetRaw         Caps = 1 << 13
	CapSysChroot      Caps = 1 << 18
	CapSysAdmin       Caps = 1 << 21
	CapSysResource    Caps = 1 << 24
	CapMknod          Caps = 1 << 27
	CapSetfcap        Caps = 1 << 31
)

type capHeader struct {
	version uint32
	pid     int32
}

type capData struct {
	effLo, permLo, inhLo uint32
	effHi, permHi, inhHi uint32
}

const capVersion3 = 0x20080522

// CapSetAllThreads sets the permitted and effective sets of every thread of
// the process to caps and empties the inheritable one; the ambient set follows
// (capset(2)). It needs a program without cgo.
func CapSetAllThreads(caps Caps) error {
	hdr := &capHeader{version: capVersion3}
	lo, hi := uint32(caps), uint32(caps>>32)
	data := &capData{effLo: lo, permLo: lo, effHi: hi, permHi: hi}
	_, _, e := syscall.AllThreadsSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(hdr)), uintptr(unsafe.Pointer(data)), 0)
	return justErr(e)
}

// CapEffective returns the calling thread's effective set.
func CapEffective() (Caps, error) {
	hdr := capHeader{version: capVersion3}
	var data capData
	_, _, e := syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data)), 0)
	return Caps(data.effLo) | Caps(data.effHi)<<32, justErr(e)
}

// RaiseCaps gives the calling thread all the capabilities again that it is permitted: a
// change of the ids that file access is judged by takes some of them (capabilities(7)).
func RaiseCaps() error {
	hdr := capHeader{version: capVersion3}
	var data capData
	if _, _, e := syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data)), 0); e != 0 {
		return e
	}
	data.effLo, data.effHi = data.permLo, data.permHi
	_, _, e := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data)), 0)
	return justErr(e)
}

// LandlockABI returns the kernel's Landlock version, 0 if there is none.
func LandlockABI() int {
	r, _, e := syscall.RawSyscall(sysLandlockCreate, 0, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */)
	if e != 0 {
		return 0
	}
	return int(r)
}

// LandlockScopes makes a ruleset that only scopes abstract unix sockets and
// signals to the domain; it needs Landlock ABI 6, Linux 6.12 (landlock(7)).
func LandlockScopes() (int, error) {
	attr := [3]uint64{0, 0, 1<<0 | 1<<1} // handled fs, handled net, scoped
	r, _, e := syscall.RawSyscall(sysLandlockCreate, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	return fdErr(r, e)
}

// SockFilter is one instruction of a classic BPF program.
type SockFilter struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

// SetSavedGIDAllThreads sets the saved set-group-ID of every thread of the process
// (setresgid(2)). It is EINVAL where gid is not mapped.
func SetSavedGIDAllThreads(gid uint32) error {
	const keep = ^uintptr(0)
	_, _, e := syscall.AllThreadsSyscall(syscall.SYS_SETRESGID, keep, keep, uintptr(gid))
	return justErr(e)
}

// SeccompAllThreads installs prog on every thread (SECCOMP_FILTER_FLAG_TSYNC,
// seccomp(2)). The caller has no_new_privs set or CAP_SYS_ADMIN.
func SeccompAllThreads(prog []SockFilter) error {
	fprog := struct {
		len    uint16
		filter *SockFilter
	}{uint16(len(prog)), &prog[0]}
	r, _, e := syscall.RawSyscall(sysSeccomp, 1 /* SET_MODE_FILTER */, 1 /* TSYNC */, uintptr(unsafe.Pointer(&fprog)))
	if e == 0 && r != 0 {
		return syscall.EBUSY // the id of a thread that could not follow
	}
	return justErr(e)
}

// Eventfd is eventfd(2), close-on-exec and non-blocking.
func Eventfd() (int, error) {
	r, _, e := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	return fdErr(r, e)
}

// EventfdAdd makes an eventfd readable. It does not take one no for an answer, but
// EAGAIN, with which it is readable (eventfd(2)): whoever waits would not hear of it.
func EventfdAdd(fd int) {
	one := [8]byte{1}
	for range 3 {
		if _, err := Write(fd, one[:]); err == nil || err == syscall.EAGAIN {
			return
		}
	}
}

// EventfdClear makes it unreadable again.
func EventfdClear(fd int) {
	var b [8]byte
	_, _ = Read(fd, b[:])
}

// NamespaceParent opens the user namespace above the one that ns is open on
// (ioctl_nsfs(2), NS_GET_PARENT). It is EPERM where that is out of the caller's sight.
func NamespaceParent(ns int) (int, error) {
	fd, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(ns), 0xb702, 0)
	return int(fd), justErr(e)
}

// NamespaceOwner returns the uid, as seen from the caller's user namespace, that made
// the user namespace ns is open on (ioctl_nsfs(2), NS_GET_OWNER_UID).
func NamespaceOwner(ns int) (uint32, error) {
	var uid uint32
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(ns), 0xb704, uintptr(unsafe.Pointer(&uid)))
	return uid, justErr(e)
}
