package sys

import (
	"syscall"
	"testing"
	"unsafe"
)

func BenchmarkFork(b *testing.B) {
	for i := 0; i < b.N; i++ {
		c := NewChild()
		c.Path = cstr("/bin/true")
		a := cstr("true")
		c.Argv = []*byte{a, nil}
		c.Envp = []*byte{nil}
		c.Setsid = true
		pid, fd, err := Fork(c)
		if err != nil {
			b.Fatal(err)
		}
		var ws syscall.WaitStatus
		syscall.Wait4(pid, &ws, 0, nil)
		Close(fd)
		if ws != 0 {
			b.Fatal(ws)
		}
	}
}
func BenchmarkForkExec(b *testing.B) {
	for i := 0; i < b.N; i++ {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
		if err != nil {
			b.Fatal(err)
		}
		var ws syscall.WaitStatus
		syscall.Wait4(pid, &ws, 0, nil)
	}
}

var _ unsafe.Pointer
