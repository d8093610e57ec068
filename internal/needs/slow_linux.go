package needs

import (
	"sync"
	"syscall"
	"testing"
)

// SlowToClose returns a TCP connection that takes an hour to be closed (SO_LINGER, socket(7)),
// with which a peer could hold up whoever receives it. end ends that hour, as the test's end does.
func SlowToClose(t testing.TB) (fd int, end func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(err)
	end = sync.OnceFunc(func() { syscall.Close(l) }) // who waits in its queue is reset
	t.Cleanup(end)
	must(syscall.SetsockoptInt(l, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1))
	must(syscall.Bind(l, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(syscall.Listen(l, 1))
	name, err := syscall.Getsockname(l)
	must(err)
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(err)
	must(syscall.Connect(fd, name))
	must(syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 3600}))
	must(syscall.SetNonblock(fd, true))
	for buf := make([]byte, 64<<10); ; {
		if _, err := syscall.Write(fd, buf); err != nil {
			if err != syscall.EAGAIN {
				t.Fatal(err)
			}
			return fd, end
		}
	}
}
