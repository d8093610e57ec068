package sys

import (
	"syscall"
	"unsafe"
)

// Numbers of this architecture that package syscall lacks, which has those of
// Linux 2.6. From 424 on they are the same everywhere.
const (
	sysBPF      = 280
	sysExecveat = 281
	sysKeyctl   = 219
	sysSeccomp  = 277
	sysFstatat  = syscall.SYS_FSTATAT
	sysMemfd    = 279
	sysStatx    = 291
)

// poll is poll(2), the scheduler not told. This architecture has ppoll(2) only.
func poll(fds unsafe.Pointer, n, ms int) (uintptr, Errno) {
	var ts syscall.Timespec
	r, _, e := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(fds), uintptr(n), uintptr(unsafe.Pointer(timeout(&ts, ms))), 0, 0, 0)
	return r, e
}

// pollTold is poll(2), the scheduler told.
func pollTold(fds unsafe.Pointer, n, ms int) (uintptr, Errno) {
	var ts syscall.Timespec
	r, _, e := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(fds), uintptr(n), uintptr(unsafe.Pointer(timeout(&ts, ms))), 0, 0, 0)
	return r, e
}

// timeout puts milliseconds into ts, and returns nil for ever.
func timeout(ts *syscall.Timespec, ms int) *syscall.Timespec {
	if ms < 0 {
		return nil
	}
	*ts = syscall.NsecToTimespec(int64(ms) * 1e6)
	return ts
}
