package sys

import (
	"syscall"
	"unsafe"
)

// Numbers of this architecture that package syscall lacks, which has those of
// Linux 2.6. From 424 on they are the same everywhere.
const (
	sysBPF      = 321
	sysExecveat = 322
	sysKeyctl   = 250
	sysSeccomp  = 317
	sysFstatat  = syscall.SYS_NEWFSTATAT
	sysMemfd    = 319
	sysStatx    = 332
)

// poll is poll(2), the scheduler not told.
func poll(fds unsafe.Pointer, n, ms int) (uintptr, Errno) {
	r, _, e := syscall.RawSyscall(syscall.SYS_POLL, uintptr(fds), uintptr(n), uintptr(ms))
	return r, e
}

// pollTold is poll(2), the scheduler told.
func pollTold(fds unsafe.Pointer, n, ms int) (uintptr, Errno) {
	r, _, e := syscall.Syscall(syscall.SYS_POLL, uintptr(fds), uintptr(n), uintptr(ms))
	return r, e
}
