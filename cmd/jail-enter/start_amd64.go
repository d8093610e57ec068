package main

import (
	"unsafe"

	"jail/internal/enter"
	"jail/internal/sys"
)

// What compiled code needs to run before the runtime does; see start.
var (
	g   [1024]byte
	tls [2]uintptr
)

// quick is called by start, with the stack as execve(2) leaves it. It does not
// come back from a session; otherwise it returns the argument vector to start
// the runtime with.
func quick(stack unsafe.Pointer) unsafe.Pointer {
	args := sys.TakeStack(stack)
	enter.Quick()
	return args
}
