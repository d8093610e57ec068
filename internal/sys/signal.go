//go:build linux

package sys

import (
	"syscall"
	"unsafe"
)

// sigpipe is where sigwrite writes; it is read by assembly.
var sigpipe int32

func sigHandlers() (write, restore uintptr)

// CatchSignals makes each of sigs write its number, as one byte, to a pipe, and
// returns the end to read from. It takes the signals from the Go runtime. That
// is what package os/signal is for; this costs neither its goroutine nor its
// thread, which a process of which there is one per session can feel.
// A signal that is ignored stays ignored, as nohup(1) wants.
func CatchSignals(sigs ...syscall.Signal) (int, error) {
	r, w, err := Pipe()
	if err != nil {
		return -1, err
	}
	if err := SetNonblock(r); err != nil {
		return -1, err
	}
	if err := SetNonblock(w); err != nil { // a full pipe must not stop a handler
		return -1, err
	}
	sigpipe = int32(w)
	write, restore := sigHandlers()
	const flags = 0x08000000 /* SA_ONSTACK */ | 0x10000000 /* SA_RESTART */ | 0x04000000 /* SA_RESTORER */
	for _, s := range sigs {
		var old kernelSigaction
		sa := kernelSigaction{handler: write, flags: flags, restorer: restore}
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), 0, uintptr(unsafe.Pointer(&old)), 8, 0, 0)
		if old.handler == 1 { // SIG_IGN
			continue
		}
		_, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0)
		if e != 0 {
			return -1, e
		}
	}
	return r, nil
}

// InterruptBy makes sig end a wait such as epoll_wait(2) with EINTR and do nothing
// else. Unlike a handler of the Go runtime it leaves every other signal open while it
// runs: the init of a PID namespace can be killed from inside by a signal that is fatal
// by default and comes while it is blocked (see block). CatchSignals cannot be used
// beside it.
func InterruptBy(sig syscall.Signal) {
	sigpipe = -1 // what the handler writes goes nowhere
	write, restore := sigHandlers()
	const flags = 0x08000000 /* SA_ONSTACK */ | 0x04000000 /* SA_RESTORER */
	sa := kernelSigaction{handler: write, flags: flags, restorer: restore}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0)
}
