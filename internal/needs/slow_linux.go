package needs

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// SlowToClose returns a TCP connection that takes an hour to be closed (SO_LINGER, socket(7)),
// with which a peer could hold up whoever receives it. end ends that hour, as the test's end does.
func SlowToClose(t testing.TB) (fd int, end func()) {
	t.Helper()
	const packet = 64 << 10 // of the loopback
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
	must(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 2*packet))
	must(syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 3600}))
	must(syscall.SetNonblock(fd, true))
	for until, buf := time.Now().Add(20*time.Second), make([]byte, packet); ; {
		if _, err := syscall.Write(fd, buf); err == nil {
			continue
		} else if err != syscall.EAGAIN {
			t.Fatal(err)
		}
		// What the other side has not taken yet, it may still take.
		unsent, err := unix.IoctlGetInt(fd, unix.SIOCOUTQNSD)
		must(err)
		if unsent > packet {
			return fd, end
		}
		if time.Now().After(until) {
			t.Fatal("the other side takes all, or there is no memory for more")
		}
		time.Sleep(time.Millisecond)
	}
}
