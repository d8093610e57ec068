package service

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/supervise"
	"jail/internal/sys"
	"jail/internal/wire"
)

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
		s, _ := needs.SlowToClose(t)
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
	assert.Eventually(t, func() bool { return r.closer.Left(0) == 0 }, 10*time.Second, time.Millisecond)
}
