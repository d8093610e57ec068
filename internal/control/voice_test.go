package control

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/event"
	"jail/internal/needs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// heard collects what a Voice says.
type heard struct {
	mu     sync.Mutex
	lines  []string
	events []event.Event
}

func (h *heard) told(list []event.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, list...)
}

func (h *heard) log(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, text)
}

func (h *heard) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.lines...)
}

func pair(t *testing.T) (ours, theirs int) {
	t.Helper()
	p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	return p[0], p[1]
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		require.Fail(t, "never: "+what)
	}
}

// TestVoice: what a jail has said before its end is heard, and why it ended.
func TestVoice(t *testing.T) {
	conn, jail := pair(t)
	r, w, err := sys.Pipe()
	require.NoError(t, err)
	var h heard
	lost := make(chan struct{})
	v := Listen(conn, r, new(Notes), h.log, h.told, func() { close(lost) })
	var m sys.MsgBuf
	say := func(text string) {
		require.NoError(t, sys.SendMsg(jail, wire.AppendText(nil, wire.TypeLog, text), nil, true, &m))
	}
	say("one \"two\"\x1b")
	require.NoError(t, sys.SendMsg(jail, []byte("noise"), nil, true, &m))
	require.NoError(t, sys.SendMsg(jail, wire.AppendHello(nil, false), nil, true, &m))
	say("ends: idle\n")
	_, err = sys.Write(w, []byte("panic: x\n"))
	require.NoError(t, err)
	sys.CloseAll([]int{jail, w})
	within(t, "lost", lost)
	var reason string
	v.Over(func(why string) { reason = why })
	within(t, "done", v.done)
	assert.ElementsMatch(t, []string{`one "two"\x1b`, `stderr: panic: x\n`}, h.all())
	assert.Equal(t, `idle\n`, reason)
	_, err = sys.Fcntl(conn, syscall.F_GETFD, 0)
	assert.Equal(t, syscall.EBADF, err, "it is closed")
}

// TestLastWordsOfOneWhoDidNotRead: orders that a jail has not read when it ends do not take
// what it has said with them.
func TestLastWordsOfOneWhoDidNotRead(t *testing.T) {
	conn, jail := pair(t)
	var m sys.MsgBuf
	require.NoError(t, sys.SendMsg(conn, wire.AppendStop(nil, wire.Stop{}), nil, true, &m))
	require.NoError(t, sys.SendMsg(jail, wire.AppendText(nil, wire.TypeLog, "last"), nil, true, &m))
	require.NoError(t, sys.SendMsg(jail, wire.AppendText(nil, wire.TypeLog, "ends: idle"), nil, true, &m))
	sys.Close(jail)
	var h heard
	v := Listen(conn, -1, new(Notes), h.log, h.told, func() {})
	var reason string
	v.Over(func(why string) { reason = why })
	within(t, "done", v.done)
	assert.Equal(t, []string{"last"}, h.all())
	assert.Equal(t, "idle", reason)
}

// TestVoiceOfOneThatStays: somebody else has a copy of the connection, and does not close it.
func TestVoiceOfOneThatStays(t *testing.T) {
	conn, jail := pair(t)
	defer sys.Close(jail)
	var h heard
	v := Listen(conn, -1, new(Notes), h.log, h.told, func() {})
	var m sys.MsgBuf
	require.NoError(t, sys.SendMsg(jail, wire.AppendText(nil, wire.TypeLog, "last"), nil, true, &m))
	v.Over(func(string) {})
	within(t, "done", v.done)
	assert.Equal(t, []string{"last"}, h.all())
}

func TestVoiceIsBounded(t *testing.T) {
	conn, jail := pair(t)
	var h heard
	v := Listen(conn, -1, new(Notes), h.log, h.told, func() {})
	var m sys.MsgBuf
	for i := range 10 * maxLines {
		require.NoError(t, sys.SendMsg(jail, wire.AppendText(nil, wire.TypeLog, fmt.Sprint(i)), nil, true, &m))
	}
	sys.Close(jail)
	v.Over(func(string) {})
	within(t, "done", v.done)
	assert.Less(t, len(h.all()), 5*maxLines, "a few seconds' worth at the most")
}

// TestVoiceIsInNoHurry: a jail that says more than anybody wants to know is made to wait,
// and what the host spends on it is bounded; the last of it is heard at once.
func TestVoiceIsInNoHurry(t *testing.T) {
	conn, jail := pair(t)
	r, w, err := sys.Pipe()
	require.NoError(t, err)
	var h heard
	v := Listen(conn, r, new(Notes), h.log, h.told, func() {})
	var sent, written atomic.Int64
	var talking sync.WaitGroup
	talking.Go(func() {
		var m sys.MsgBuf
		for sys.SendMsg(jail, []byte("noise"), nil, true, &m) == nil {
			sent.Add(1)
		}
	})
	talking.Go(func() {
		for {
			if _, err := syscall.Write(w, make([]byte, 4096)); err != nil { // tells the runtime that it waits
				return
			}
			written.Add(1)
		}
	})
	began := time.Now()
	for (sent.Load() < maxReads || written.Load() < maxPieces) && time.Since(began) < 20*time.Second {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	s, n := sent.Load(), written.Load()
	// Twice as many: some wait in the socket, or the pipe.
	assert.Less(t, s, int64(2*maxReads+time.Since(began)*readsPerSecond/time.Second))
	assert.Less(t, n, int64(2*maxPieces+time.Since(began)*piecesPerSecond/time.Second))
	assert.GreaterOrEqual(t, s, int64(maxReads), "it was heard until then")
	assert.GreaterOrEqual(t, n, int64(maxPieces))
	v.Over(func(string) {})
	within(t, "done", v.done)
	sys.Close(jail)
	talking.Wait()
}

// TestNoDescriptors: a PID 1 cannot send any, where the kernel lets us say so.
func TestNoDescriptors(t *testing.T) {
	probe, other := pair(t)
	supported := sys.RefuseRights(probe) == nil
	sys.CloseAll([]int{probe, other})
	needs.Kernel(t, supported, 6, 16, "SO_PASSRIGHTS")
	conn, jail := pair(t)
	defer sys.Close(jail)
	v := Listen(conn, -1, new(Notes), func(string) {}, func([]event.Event) {}, func() {})
	defer v.Over(func(string) {})
	var m sys.MsgBuf
	assert.Equal(t, syscall.EPERM, sys.SendMsg(jail, wire.AppendText(nil, wire.TypeLog, "x"), []int{0}, true, &m))
}

// TestRecvClosesDescriptors: an answer may come with some, before Linux 6.16.
func TestRecvClosesDescriptors(t *testing.T) {
	conn, jail := pair(t)
	defer sys.CloseAll([]int{conn, jail})
	c := &Conn{FD: conn, PIDFD: -1}
	var m sys.MsgBuf
	for claim, packet := range map[string][]byte{
		"a message": wire.AppendText(nil, wire.TypeLog, "x"),
		"noise":     []byte("x"),
		"too long":  make([]byte, 20_000),
	} {
		r, w, err := sys.Pipe()
		require.NoError(t, err)
		require.NoError(t, sys.SendMsg(jail, packet, []int{w, w}, true, &m))
		sys.Close(w)
		_, _, _ = c.Recv(1000)
		n, err := sys.Poll([]sys.PollFD{{FD: int32(r), Events: sys.PollIn}}, 0)
		require.NoError(t, err)
		assert.Equal(t, 1, n, "%s: nobody has the other end any more", claim)
		sys.Close(r)
	}
}

// TestVoiceThatHangs: where the kernel lets descriptors in, a jail that sends slow ones
// holds up its own voice: neither the supervisor nor the runtime waits.
func TestVoiceThatHangs(t *testing.T) {
	refuseRights = func(int) error { return nil }
	defer func() { refuseRights = sys.RefuseRights }()
	conn, jail := pair(t)
	defer sys.Close(jail)
	fd, end := needs.SlowToClose(t)
	var m sys.MsgBuf
	require.NoError(t, sys.SendMsg(jail, wire.AppendText(nil, wire.TypeLog, "slow"), []int{fd}, true, &m))
	sys.Close(fd)
	require.NoError(t, sys.SendMsg(jail, wire.AppendText(nil, wire.TypeLog, "behind"), nil, true, &m))
	var h heard // from here on: who closes it last waits
	v := Listen(conn, -1, new(Notes), h.log, h.told, func() {})

	other, otherJail := pair(t)
	var o heard
	w := Listen(other, -1, new(Notes), o.log, o.told, func() {})
	require.NoError(t, sys.SendMsg(otherJail, wire.AppendText(nil, wire.TypeLog, "quick"), nil, true, &m))
	sys.Close(otherJail)
	w.Over(func(string) {})
	within(t, "another jail is heard", w.done)
	assert.Equal(t, []string{"quick"}, o.all())
	v.Over(func(string) {}) // does not wait
	select {
	case <-v.done:
		assert.Fail(t, "it was to hang: this test shows nothing")
	default:
	}
	assert.NotContains(t, h.all(), "behind")
	end()
	within(t, "done", v.done)
}

// TestVoiceOfEvents: what a PID 1 tells is handed on as far as it can be true.
func TestVoiceOfEvents(t *testing.T) {
	id := [wire.IDLen]byte([]byte("k7qmw2ab"))
	tell := func(t *testing.T, h *heard, send func(tell func(p []byte))) (reason string) {
		conn, jail := pair(t)
		v := Listen(conn, -1, new(Notes), h.log, h.told, func() {})
		var m sys.MsgBuf
		send(func(p []byte) { require.NoError(t, sys.SendMsg(jail, p, nil, true, &m)) })
		sys.Close(jail)
		v.Over(func(why string) { reason = why })
		within(t, "done", v.done)
		return reason
	}
	of := func(events ...wire.Event) []byte {
		p := wire.AppendEvents(nil)
		for i := range events {
			p = wire.AppendEvent(p, &events[i])
		}
		return p
	}
	good := wire.Event{Kind: wire.EventEnded, ID: id, HostUID: 7, Status: 3}
	t.Run("good and bad", func(t *testing.T) {
		var h heard
		why := tell(t, &h, func(tell func(p []byte)) {
			tell(wire.AppendStatus(nil, &wire.Status{}))
			tell(of(good, wire.Event{Kind: wire.EventLost, Count: 2}))
			tell(of(wire.Event{Kind: wire.EventEnded, HostUID: 7}))
			spoilt := of(good, good)
			tell(spoilt[:len(spoilt)-1])
			tell(append(of(good), make([]byte, wire.MaxEvents)...))
			tell(of(wire.Event{Kind: wire.EventEnding, Why: wire.EndIdle}))
		})
		require.Len(t, h.events, 2)
		assert.Equal(t, "session k7qmw2ab login x ended: status 3 after 0s", func() string { h.events[0].Age = 0; return h.events[0].Line("x") }())
		assert.EqualValues(t, 2, h.events[1].Count)
		assert.Equal(t, []string{"tells an event of no session", "tells events that are none", "tells events that are none"}, h.lines)
		assert.Equal(t, "idle", why)
	})
	t.Run("a flood of refusals", func(t *testing.T) {
		var h heard
		const sent = 10 * maxLines
		tell(t, &h, func(tell func(p []byte)) {
			for range sent {
				tell(of(wire.Event{Kind: wire.EventRefused, ID: id, HostUID: 7, Text: "no"}))
			}
		})
		assert.GreaterOrEqual(t, len(h.events), maxLines)
		assert.Less(t, len(h.events), 5*maxLines, "a few seconds' worth at the most")
	})
	t.Run("a flood", func(t *testing.T) {
		var h heard
		const packets, each = 200, 50
		many := make([]wire.Event, each)
		for i := range many {
			many[i] = good
		}
		why := tell(t, &h, func(tell func(p []byte)) {
			for range packets {
				tell(of(many...))
			}
			tell(of(wire.Event{Kind: wire.EventEnding, Why: wire.EndTold}))
		})
		assert.GreaterOrEqual(t, len(h.events), maxEvents)
		assert.Less(t, len(h.events), packets*each)
		suppressed := 0
		for _, line := range h.lines {
			var n int
			_, err := fmt.Sscanf(line, "%d events suppressed", &n)
			require.NoError(t, err, "%s", line)
			suppressed += n
		}
		assert.Equal(t, packets*each, len(h.events)+suppressed, "each is handed on or counted")
		assert.Equal(t, "told to", why, "why it ends is known all the same")
	})
}

// TestNotesAreSaidOnce: what a jail says of its root file system at each start is said at
// the first; all else is said again.
func TestNotesAreSaidOnce(t *testing.T) {
	notes := new(Notes)
	for start := range 2 {
		jail, conn := pair(t)
		h := new(heard)
		v := Listen(conn, -1, notes, h.log, h.told, func() {})
		var m sys.MsgBuf
		for _, p := range [][]byte{
			wire.AppendNote(nil, "no hosts"), wire.AppendText(nil, wire.TypeLog, "a line"), wire.AppendText(nil, wire.TypeLog, "no hosts"),
			wire.AppendNote(nil, fmt.Sprint("of start ", start)),
		} {
			require.NoError(t, sys.SendMsg(jail, p, nil, true, &m))
		}
		sys.Close(jail)
		v.Over(func(string) {})
		<-v.done
		want := []string{"a line", "no hosts", fmt.Sprint("of start ", start)}
		if start == 0 {
			want = append([]string{"no hosts"}, want...)
		}
		assert.Equal(t, want, h.lines)
	}
	for i := range 2 * maxNotes {
		notes.fresh(fmt.Sprint(i))
	}
	assert.Len(t, notes.said, maxNotes)
}
