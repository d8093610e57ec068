package early

import (
	"unsafe"

	"jail/internal/enter"
	"jail/internal/sys"
	"jail/internal/wire"
)

// What compiled code needs where there is no runtime; see start. The first two words
// of g are the bounds of its stack, the next two the limits that functions compare
// the stack pointer with (runtime/runtime2.go).
var (
	g   [1024]byte
	tls [2]uintptr
)

// The command line and the environment. There is room for as many arguments as a
// Request can carry, and our own options.
var (
	args [wire.MaxArgs + 8]string
	env  [4096]string
	few  [48]string // instead of both, where it is enough: one page less
)

// program is called by start, with the stack as execve(2) leaves it: argc, argv, nil,
// envp, nil. It does not return.
func program(stack unsafe.Pointer) {
	argc := int(*word(stack, 0))
	if argc > len(args) {
		sys.Exit(enter.TooLong())
	}
	n := 0
	for n < len(env) && *word(stack, 2+argc+n) != 0 { // what is beyond would not fit a Request either
		n++
	}
	a, e := args[:argc], env[:n]
	if argc+n <= len(few) {
		a, e = few[:argc], few[argc:argc+n]
	}
	for i := range a {
		a[i] = text(word(stack, 1+i))
	}
	for i := range e {
		e[i] = text(word(stack, 2+argc+i))
	}
	enter.Early(a, e)
}

func word(p unsafe.Pointer, i int) *uintptr {
	return (*uintptr)(unsafe.Add(p, i*int(unsafe.Sizeof(uintptr(0)))))
}

// text returns the C string a word of the stack points to. It lives as long as the
// process.
func text(w *uintptr) string {
	p := *(**byte)(unsafe.Pointer(w))
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return unsafe.String(p, n)
}
