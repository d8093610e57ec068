package main

import (
	"errors"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	sysIopl      = unix.SYS_IOPL
	sysIoperm    = unix.SYS_IOPERM
	sysModifyLdt = unix.SYS_MODIFY_LDT
	sysSysfs     = unix.SYS_SYSFS
	sysUstat     = unix.SYS_USTAT
	sysX32       = 0x40000000 // a bit that x32's calls have
)

// int80 is a system call of i386's, made by a 64-bit program.
func int80(nr, a, b, c, d, e uint32) int32

const clone32 = 120 // clone(2), of i386's calls

// errNo32 is what a kernel without i386's entry (ia32_emulation=0) makes of it.
var errNo32 = errors.New("int 0x80 faults: this kernel runs no 32-bit code")

func call32(nr uint32, args ...uint32) (r int, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			r, err = -1, errNo32
		}
	}()
	var a [5]uint32
	copy(a[:], args)
	n := int80(nr, a[0], a[1], a[2], a[3], a[4])
	if nr == clone32 && n == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0) // see forked
	}
	if n < 0 {
		return -1, syscall.Errno(-n)
	}
	return int(n), nil
}

// low copies bytes to where a 32-bit pointer reaches.
func low(b []byte) uint32 {
	m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_32BIT)
	if err != nil {
		panic(err)
	}
	copy(m, b)
	return uint32(address(m))
}
