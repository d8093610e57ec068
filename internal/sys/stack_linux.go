package sys

import (
	"syscall"
	"unsafe"
)

// The functions of this file are for code that runs without the Go runtime (package
// early), and none of them needs it: no memory is allocated, and no system call is
// announced to a scheduler. They work with it as well.

// Bytes returns the bytes of s, which must not be written to.
func Bytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// String returns b as a string; b must not be written to any more.
func String(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Exit ends the process.
func Exit(status int) {
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(status), 0, 0)
	}
}

// Fstat is fstat(2).
func Fstat(fd int, st *syscall.Stat_t) Errno {
	_, _, e := syscall.RawSyscall(syscall.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(st)), 0)
	return e
}

// Fstatfs is fstatfs(2).
func Fstatfs(fd int, st *syscall.Statfs_t) Errno {
	_, _, e := syscall.RawSyscall(syscall.SYS_FSTATFS, uintptr(fd), uintptr(unsafe.Pointer(st)), 0)
	return e
}

// Fchmod is fchmod(2).
func Fchmod(fd int, mode uint32) Errno {
	_, _, e := syscall.RawSyscall(syscall.SYS_FCHMOD, uintptr(fd), uintptr(mode), 0)
	return e
}

// SockoptInt is getsockopt(2) for an integer option of SOL_SOCKET.
func SockoptInt(fd, option int) (int, Errno) {
	var v int32
	n := uint32(unsafe.Sizeof(v))
	_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, uintptr(option),
		uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&n)), 0)
	return int(v), e
}

// SetSockoptInt is setsockopt(2) for an integer option of SOL_SOCKET.
func SetSockoptInt(fd, option, value int) Errno {
	v := int32(value)
	_, _, e := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, uintptr(option),
		uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return e
}

// OpenNoWait is open(2) of a file that has a NUL at the end of its name. It is
// for files whose open cannot block.
func OpenNoWait(path []byte, flags int) (int, Errno) {
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, 0xffffffffffffff9c /* AT_FDCWD */, uintptr(unsafe.Pointer(&path[0])),
		uintptr(flags|syscall.O_CLOEXEC), 0, 0, 0)
	return int(fd), e
}

// ConnectAt makes a unix socket of a type, non-blocking, and connects it to the
// pathname address that the bytes of path are, at most 107. Where the queue of the
// listener is full, it fails with EAGAIN (connect(2)).
func ConnectAt(typ int, path []byte) (int, Errno) {
	var sa syscall.RawSockaddrUnix
	n, e := address(&sa, path)
	if e != 0 {
		return -1, e
	}
	fd, _, e := syscall.RawSyscall(syscall.SYS_SOCKET, syscall.AF_UNIX, uintptr(typ|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK), 0)
	if e != 0 {
		return -1, e
	}
	for {
		_, _, e = syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&sa)), n)
		if e != syscall.EINTR {
			break
		}
	}
	if e != 0 {
		Close(int(fd))
		return -1, e
	}
	return int(fd), 0
}

// SendTo sends p as one datagram to the pathname address that the bytes of path are, at
// most 107. Where the queue there is full, it fails with EAGAIN (unix(7)).
func SendTo(path, p []byte) Errno {
	var sa syscall.RawSockaddrUnix
	n, e := address(&sa, path)
	if e != 0 {
		return e
	}
	fd, _, e := syscall.RawSyscall(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if e != 0 {
		return e
	}
	for {
		_, _, e = syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
			msgDontwait|msgNosignal, uintptr(unsafe.Pointer(&sa)), n)
		if e != syscall.EINTR {
			break
		}
	}
	Close(int(fd))
	return e
}

// address makes sa the pathname address that the bytes of path are, and returns its length.
func address(sa *syscall.RawSockaddrUnix, path []byte) (uintptr, Errno) {
	if len(path) > maxSocketPath {
		return 0, syscall.ENAMETOOLONG
	}
	sa.Family = syscall.AF_UNIX
	for i, c := range path {
		sa.Path[i] = int8(c)
	}
	return uintptr(2 + len(path) + 1), 0
}

// maxSocketPath is the longest path of a socket (unix(7)).
const maxSocketPath = 107

// Stat is stat(2) of a file that has a NUL at the end of its name.
func Stat(path []byte, st *syscall.Stat_t) Errno {
	fd, e := OpenNoWait(path, OPath)
	if e != 0 {
		return e
	}
	e = Fstat(fd, st)
	Close(fd)
	return e
}

// ShutdownWrite tells the peer of a stream socket that nothing more comes (SHUT_WR,
// shutdown(2)).
func ShutdownWrite(fd int) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_SHUTDOWN, uintptr(fd), syscall.SHUT_WR, 0)
}

// PeerPID is the pid of SO_PEERCRED: who listened, or made the pair.
func PeerPID(fd int) (int, Errno) {
	var cred syscall.Ucred
	n := uint32(unsafe.Sizeof(cred))
	_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED,
		uintptr(unsafe.Pointer(&cred)), uintptr(unsafe.Pointer(&n)), 0)
	return int(cred.Pid), e
}

// Wait is poll(2), the scheduler not told however long it takes: for a process
// that has nothing else to do.
func Wait(fds []PollFD, ms int) (int, Errno) {
	for {
		n, e := poll(unsafe.Pointer(&fds[0]), len(fds), ms)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// SignalMask is the calling thread's; bit N-1 is for signal N.
type SignalMask uint64

// SetSignalMask sets the calling thread's signal mask (rt_sigprocmask(2)).
func SetSignalMask(mask SignalMask) Errno {
	_, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2 /* SIG_SETMASK */, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0)
	return e
}

// Signalfd is signalfd4(2), close-on-exec and non-blocking.
func Signalfd(mask SignalMask) (int, Errno) {
	fd, _, e := syscall.RawSyscall6(syscall.SYS_SIGNALFD4, ^uintptr(0), uintptr(unsafe.Pointer(&mask)), 8,
		syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0, 0)
	return int(fd), e
}

// NextSignal reads one signal from a signalfd, 0 if there is none.
func NextSignal(fd int) int {
	var info [128]byte // struct signalfd_siginfo
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&info)), unsafe.Sizeof(info))
	if e != 0 || int(n) != len(info) {
		return 0
	}
	return int(info[0])
}

// SignalIgnored reports whether the disposition of sig is SIG_IGN.
func SignalIgnored(sig int) bool {
	var sa kernelSigaction
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&sa)), 8, 0, 0)
	return sa.handler == 1
}
