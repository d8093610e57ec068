package main

import "errors"

// nowhere is a number no kernel has: these calls there are on x86 only.
const nowhere = 4095

const (
	sysIopl      = nowhere
	sysIoperm    = nowhere
	sysModifyLdt = nowhere
	sysSysfs     = nowhere
	sysUstat     = nowhere
	sysX32       = nowhere
)

const clone32 = 120 // clone(2), of i386's calls

// errNo32 is for the attacks by system calls of i386's.
var errNo32 = errors.New("int 0x80 faults: this kernel runs no 32-bit code")

func call32(uint32, ...uint32) (int, error) { return -1, errNo32 }

func low([]byte) uint32 { return 0 }
