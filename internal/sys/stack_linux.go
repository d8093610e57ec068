package sys

import (
	"syscall"
	"unsafe"
)

// The functions of this file are for code that runs before the Go runtime has
// started (cmd/jail-enter, start), and none of them needs it: no memory is
// allocated, and no system call is announced to a scheduler. They work afterwards
// as well.

// stack is what the kernel left for the program: argc, argv, envp (execve(2)). nil
// if the runtime started first, which then knows.
var stack unsafe.Pointer

// bootVector is what the runtime gets to see instead: one argument, one variable,
// and the auxiliary vector. A session is no work for more than one processor, and
// GODEBUG, GOGC and the like are the tenant's when they come over ssh.
var (
	bootVector [64]uintptr
	bootName   = [...]byte{'j', 'a', 'i', 'l', '-', 'e', 'n', 't', 'e', 'r', 0}
	bootEnv    = [...]byte{'G', 'O', 'M', 'A', 'X', 'P', 'R', 'O', 'C', 'S', '=', '1', 0}
)

func word(p unsafe.Pointer, i int) *uintptr {
	return (*uintptr)(unsafe.Add(p, i*int(unsafe.Sizeof(uintptr(0)))))
}

// TakeStack notes the stack as execve(2) leaves it, for Args and Environ, and
// returns the argument vector for the runtime to start with.
func TakeStack(p unsafe.Pointer) unsafe.Pointer {
	stack = p
	at := int(*word(p, 0)) + 2
	for *word(p, at) != 0 {
		at++
	}
	at++
	bootVector[0] = uintptr(unsafe.Pointer(&bootName))
	bootVector[2] = uintptr(unsafe.Pointer(&bootEnv))
	for i := 4; i < len(bootVector)-2; i += 2 {
		bootVector[i], bootVector[i+1] = *word(p, at), *word(p, at+1)
		if bootVector[i] == 0 { // AT_NULL
			break
		}
		at += 2
	}
	return unsafe.Pointer(&bootVector)
}

// cstringAt returns the string of a word of the stack. It lives as long as the
// process.
func cstringAt(w *uintptr) string {
	p := *(**byte)(unsafe.Pointer(w))
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return unsafe.String(p, n)
}

// StackArgs puts the command line into dst; ok is false if there is more, or if
// the runtime started first.
func StackArgs(dst []string) (args []string, ok bool) {
	if stack == nil {
		return nil, false
	}
	argc := int(*word(stack, 0))
	if argc > len(dst) {
		return nil, false
	}
	for i := 0; i < argc; i++ {
		dst[i] = cstringAt(word(stack, 1+i))
	}
	return dst[:argc], true
}

// StackEnv returns the i-th variable of the environment, NAME=VALUE; ok is false
// after the last.
func StackEnv(i int) (entry string, ok bool) {
	w := word(stack, int(*word(stack, 0))+2+i)
	if *w == 0 {
		return "", false
	}
	return cstringAt(w), true
}

// Args returns the command line, as os.Args does, without package os, whose
// initialisation costs a short process a fifth of its start.
func Args() []string {
	if stack == nil {
		return runtimeArgs()
	}
	args, _ := StackArgs(make([]string, int(*word(stack, 0))))
	return args
}

//go:linkname runtimeArgs os.runtime_args
func runtimeArgs() []string

// Environ returns the environment.
func Environ() []string {
	if stack == nil {
		return syscall.Environ()
	}
	var env []string
	for i := 0; ; i++ {
		e, ok := StackEnv(i)
		if !ok {
			return env
		}
		env = append(env, e)
	}
}

// Bytes returns the bytes of s, which must not be written to.
func Bytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

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

// ConnectAt makes a SOCK_SEQPACKET unix socket and connects it to the pathname
// address that the bytes of path are, at most 107.
func ConnectAt(path []byte) (int, Errno) {
	sa := syscall.RawSockaddrUnix{Family: syscall.AF_UNIX}
	for i, c := range path {
		sa.Path[i] = int8(c)
	}
	fd, _, e := syscall.RawSyscall(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if e != 0 {
		return -1, e
	}
	for {
		_, _, e = syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&sa)), uintptr(2+len(path)+1))
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

// Peek receives into p without taking it from the socket (MSG_PEEK, recv(2)). It
// fails with EAGAIN rather than wait.
func Peek(fd int, p []byte) (int, Errno) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return int(n), e
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

// SetSignalMask sets the calling thread's signal mask and returns the old one
// (rt_sigprocmask(2)).
func SetSignalMask(mask SignalMask) (old SignalMask) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2 /* SIG_SETMASK */, uintptr(unsafe.Pointer(&mask)),
		uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	return old
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
