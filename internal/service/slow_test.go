package service

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/supervise"
	"jail/internal/sys"
	"jail/internal/wire"
)

// slow returns a TCP connection that takes an hour to be closed (SO_LINGER, socket(7)).
func slow(t *testing.T) int {
	t.Helper()
	l, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { sys.Close(l) })
	require.NoError(t, syscall.SetsockoptInt(l, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1))
	require.NoError(t, syscall.Bind(l, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(l, 1))
	name, err := syscall.Getsockname(l)
	require.NoError(t, err)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Connect(fd, name))
	require.NoError(t, syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 3600}))
	require.NoError(t, sys.SetNonblock(fd))
	for buf := make([]byte, 64<<10); ; {
		if _, err := sys.Write(fd, buf); err != nil {
			require.Equal(t, syscall.EAGAIN, err)
			return fd
		}
	}
}

// TestRunnerWaitsForNoDescriptor: a PID 1 that leaves descriptors in the connection of each
// service that it says has ended does not take a thread of serve with each.
func TestRunnerWaitsForNoDescriptor(t *testing.T) {
	dial = fdsock.Dial
	defer func() { dial = fdsock.DialPlain }()
	p := newPID1(t)
	list := []jail.Service{cron()}
	r := &Runner{
		opt:     Options{RuntimeDir: p.dir, Jail: "web", Services: list, Log: func(string) {}},
		machine: supervise.NewServices(list), outputs: []*output{nil}, over: true, // nothing is started again
	}
	for range 3 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.attend(0, false)
		}()
		conn, _, _ := p.accept()
		p.next(conn)
		s := slow(t)
		r.mu.Lock() // it does not close before the next packet is there
		p.say(conn, wire.AppendExited(nil, wire.Exited{}))
		require.NoError(t, sys.SendMsg(conn, []byte{0}, []int{s}, true, &p.m))
		sys.Close(s)
		r.mu.Unlock()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatal("it waits for a descriptor")
		}
	}
	assert.Positive(t, r.closer.Left(0))
}
