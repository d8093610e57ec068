package pid1

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/session"
	"jail/internal/sys"
	"jail/internal/wire"
)

// events returns those that have come over a connection.
func (w *world) events(fd int) (all []wire.Event) {
	w.t.Helper()
	for {
		var buf [wire.MaxEvents + 1]byte
		n, err := sys.RecvMsg(fd, buf[:], false, &w.m)
		if err != nil || n == 0 {
			return all
		}
		typ, _, body, err := wire.Header(buf[:n])
		require.NoError(w.t, err)
		if typ == wire.TypeEvents {
			all, err = wire.DecodeEvents(body, all)
			require.NoError(w.t, err)
		}
	}
}

// told returns those that have come over the launcher's connection.
func (w *world) told() (all []wire.Event) {
	w.t.Helper()
	for _, body := range w.answers {
		var err error
		all, err = wire.DecodeEvents(body, all)
		require.NoError(w.t, err)
	}
	w.answers = nil
	return all
}

// TestEventsOfSessions: each session that starts is told of, with what it is, and how it
// ends, under the id by which a refusal is known.
func TestEventsOfSessions(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true, Name: "web"}, 7)
	before := uint64(sys.MonotonicMillis())
	assert.Equal(t, "exited 0 3, end", w.run(7, "exit 3"))
	assert.Equal(t, "exited 9 0, end", w.run(7, "kill -9 $$"))
	w.refusal = &session.Refusal{Status: 126, Text: "no"}
	fd := w.dial(7)
	w.send(fd, request(t, "true", 0))
	p := w.next(fd)
	_, _, body, err := wire.Header(p)
	require.NoError(t, err)
	refused, err := wire.DecodeRefused(body)
	require.NoError(t, err)
	w.turn()
	got := w.told()
	require.Len(t, got, 5)
	for _, e := range got {
		assert.LessOrEqual(t, before, e.At)
		assert.LessOrEqual(t, e.At, uint64(sys.MonotonicMillis()))
		assert.EqualValues(t, 7, e.HostUID)
	}
	for i, want := range []wire.Event{{Status: 3}, {Signal: 9}} {
		started, ended := got[2*i], got[2*i+1]
		assert.Equal(t, wire.EventStarted, started.Kind)
		assert.Equal(t, wire.SessionCommand, started.Session)
		assert.EqualValues(t, wire.NoTTY, started.TTY)
		assert.True(t, w.pids[int(started.PID)])
		assert.Equal(t, wire.EventEnded, ended.Kind)
		assert.Equal(t, started.ID, ended.ID)
		assert.Equal(t, [2]uint8{want.Status, want.Signal}, [2]uint8{ended.Status, ended.Signal})
		assert.Equal(t, ended.Millis <= ended.At-before, true)
	}
	assert.NotEqual(t, got[0].ID, got[2].ID)
	e := got[4]
	assert.Equal(t, wire.Event{Kind: wire.EventRefused, At: e.At, ID: e.ID, HostUID: 7, Status: 126, Text: "no"}, e)
	assert.Equal(t, refused.ID, string(e.ID[:]), "what the user sees and what the log says")
	assert.Empty(t, w.got, "who gets events gets no line about the same")

	t.Run("the administrator's", func(t *testing.T) {
		w.refusal = nil
		fd := w.dialControl()
		w.send(fd, wire.AppendExec(nil, &wire.Identity{}))
		w.send(fd, request(t, "true", 0))
		assert.Equal(t, "started", w.answer(fd))
		assert.Equal(t, "exited 0 0", w.answer(fd))
		w.turn()
		got := w.told()
		require.Len(t, got, 2)
		assert.Equal(t, wire.SessionExec, got[0].Session)
		assert.EqualValues(t, wire.NoLogin, got[0].HostUID)
		assert.EqualValues(t, wire.NoLogin, got[1].HostUID)
	})
}

// TestKindsOfSessions: what a session is for follows from what was asked for.
func TestKindsOfSessions(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	command := &wire.Request{Args: [][]byte{[]byte("-c"), []byte("x")}}
	for claim, tt := range map[string]struct {
		c    conn
		req  *wire.Request
		st   session.Started
		want wire.Event
	}{
		"a shell":      {conn{tty: true}, &wire.Request{}, session.Started{PID: 8, UID: 1000, Pts: 3}, wire.Event{Session: wire.SessionShell, UID: 1000, TTY: 3, PID: 8}},
		"a command":    {conn{}, command, session.Started{PID: 8}, wire.Event{Session: wire.SessionCommand, TTY: wire.NoTTY, PID: 8}},
		"sftp":         {conn{}, command, session.Started{PID: 8, SFTP: true}, wire.Event{Session: wire.SessionSFTP, TTY: wire.NoTTY, PID: 8}},
		"exec of sftp": {conn{login: -1}, command, session.Started{PID: 8, SFTP: true}, wire.Event{Session: wire.SessionExec, HostUID: wire.NoLogin, TTY: wire.NoTTY, PID: 8}},
	} {
		if tt.c.login == 0 {
			tt.want.HostUID = 7
		}
		w.l.named(&tt.c)
		w.l.tellStarted(&tt.c, tt.req, &tt.st)
		w.turn()
		got := w.told()
		require.Len(t, got, 1, claim)
		tt.want.Kind, tt.want.At, tt.want.ID = wire.EventStarted, got[0].At, tt.c.id
		assert.Equal(t, tt.want, got[0], claim)
	}
}

// TestEventsAreKept: what happens while nobody listens is told to the next who asks, and
// how much was too much; who does not ask is told nothing.
func TestEventsAreKept(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	sys.Close(w.control)
	w.control = w.dialControl()
	w.send(w.control, wire.AppendHello(nil, true)) // as serve of before does
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
	w.refusal = &session.Refusal{Status: 126, Text: "no"}
	assert.Equal(t, "refused 126 no", w.run(7, "true"))
	w.turn()
	require.Len(t, w.answers, 1, "its Status, and no event")
	require.Len(t, w.got, 1)
	assert.Regexp(t, `^id=\w{8} login=7 refused: no$`, w.got[0])

	fd := w.dialControl()
	w.send(fd, wire.AppendHelloEvents(nil))
	w.turn()
	w.turn()
	got := w.events(fd)
	require.Len(t, got, 3)
	assert.Equal(t, []wire.EventKind{wire.EventStarted, wire.EventEnded, wire.EventRefused}, []wire.EventKind{got[0].Kind, got[1].Kind, got[2].Kind})
	assert.True(t, w.l.events.empty(), "they are told once")

	second := w.dialControl()
	w.send(second, wire.AppendHelloEvents(nil))
	w.turn()
	assert.Equal(t, "refused 126 no", w.run(7, "true"))
	w.turn()
	assert.Empty(t, w.events(fd), "the last who asks gets them")
	assert.Len(t, w.events(second), 1)
	w.send(second, wire.AppendHello(nil, true))
	assert.Equal(t, "refused 126 no", w.run(7, "true"))
	w.turn()
	assert.Empty(t, w.events(second), "it has asked for none any more")
	assert.False(t, w.l.events.empty())

	// The place of a connection that is gone is another's: it has not asked.
	sys.Close(second)
	w.send(fd, wire.AppendHelloEvents(nil))
	w.turn()
	require.NoError(t, sys.SetNonblock(fd))
	w.events(fd)
	w.until("it is seen to be gone", func() bool { return len(w.l.freeConns) > 0 })
	third := w.dialControl()
	w.send(third, wire.AppendHello(nil, false))
	w.turn()
	assert.Equal(t, "refused 126 no", w.run(7, "true"))
	w.turn()
	assert.Empty(t, w.events(third))
	assert.Len(t, w.events(fd), 1)
}

// TestEventsAreBounded: a jail nobody listens to keeps the last events and says how many
// it has not. It takes no more memory for that than maxKept and a little, and gives it back.
func TestEventsAreBounded(t *testing.T) {
	var k events
	e := wire.Event{Kind: wire.EventEnded}
	add := func() { e.Millis++; k.add(&e) }
	size := len(wire.AppendEvent(nil, &e)) + 2
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range maxKept / size {
		add()
	}
	assert.Zero(t, k.dropped)
	add()
	assert.EqualValues(t, 1, k.dropped)
	for range 10_000 {
		add()
	}
	assert.Zero(t, testing.AllocsPerRun(5000, add))
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2*fewKept), "what the collector has of it, who does not run in PID 1")
	assert.LessOrEqual(t, len(k.many), 70<<10)
	all := e.Millis
	var got []wire.Event
	for !k.empty() {
		p, next := k.packet(nil)
		require.LessOrEqual(t, len(p), wire.MaxEvents)
		var err error
		got, err = wire.DecodeEvents(p[wire.HeaderLen:], got)
		require.NoError(t, err)
		k.sent(next)
	}
	assert.Equal(t, wire.Event{Kind: wire.EventLost, Count: all - uint64(maxKept/size)}, got[0])
	assert.Len(t, got, 1+maxKept/size)
	assert.Equal(t, all, got[len(got)-1].Millis)
	assert.Nil(t, k.many, "the memory is given back")
	assert.Equal(t, fewKept, cap(k.kept))
	assert.Zero(t, testing.AllocsPerRun(100, add), "the rest is used again")
	k.sent(len(k.kept))

	long := wire.Event{Kind: wire.EventRefused, Text: strings.Repeat("x", 9999)}
	for range 1000 {
		k.add(&long)
		require.LessOrEqual(t, len(k.kept)-k.head, maxKept)
	}
	assert.LessOrEqual(t, len(k.many), 70<<10)
}

// TestEventsWithoutMemory: where there is no memory for many, the last few are kept.
func TestEventsWithoutMemory(t *testing.T) {
	k := events{many: []byte{}} // so that it does not ask for any
	e := wire.Event{Kind: wire.EventRefused, Text: strings.Repeat("x", 9999)}
	for range 1001 {
		e.Status++
		k.add(&e)
	}
	assert.Equal(t, fewKept, cap(k.kept))
	p, next := k.packet(nil)
	assert.Equal(t, len(k.kept), next, "they are one packet")
	got, err := wire.DecodeEvents(p[wire.HeaderLen:], nil)
	require.NoError(t, err)
	require.Greater(t, len(got), 3)
	assert.EqualValues(t, 1001, int(got[0].Count)+len(got)-1, "each is kept or counted")
	assert.Equal(t, e.Status, got[len(got)-1].Status, "the last ones")
}

// TestEventsOfOneWhoDoesNotRead: a supervisor that does not read holds up nobody; it is
// told when it does, in order, and what was too much is counted.
func TestEventsOfOneWhoDoesNotRead(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	fd := w.dialControl()
	w.send(fd, wire.AppendHelloEvents(nil))
	w.turn()
	w.refusal = &session.Refusal{Status: 126, Text: strings.Repeat("x", wire.MaxText)}
	n := 0
	refuse := func() {
		w.l.tellRefused(&conn{host: uint32(n)}, "7", 126, w.refusal.Text)
		w.l.tell()
		n++
	}
	for !w.l.events.full {
		require.Less(t, n, 100_000)
		refuse()
	}
	for range 1000 {
		refuse()
	}
	assert.True(t, w.l.events.full)
	assert.NotZero(t, w.l.events.dropped)
	w.refusal = nil
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"), "a login does not wait for it")

	var got []wire.Event
	w.until("all is told", func() bool { got = append(got, w.events(fd)...); return w.l.events.empty() })
	got = append(got, w.events(fd)...)
	seen, at := uint64(0), -1
	for _, e := range got {
		switch e.Kind {
		case wire.EventLost:
			seen += e.Count
		case wire.EventRefused:
			seen++
			require.Greater(t, int(e.HostUID), at)
			at = int(e.HostUID)
		}
	}
	assert.EqualValues(t, n, seen, "each is told or counted")
	assert.Equal(t, wire.EventEnded, got[len(got)-1].Kind)
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
	w.turn()
	assert.Len(t, w.events(fd), 2)
}

// TestEnding: the last event is why the jail ends.
func TestEnding(t *testing.T) {
	for why, text := range map[wire.EndWhy]string{wire.EndIdle: "idle", wire.EndTold: "told to"} {
		w := newWorld(t, &wire.Setup{Userns: true, IdleMillis: 1}, 7)
		if why == wire.EndTold {
			w.send(w.control, wire.AppendStop(nil, wire.Stop{}))
		}
		w.l.idle = sys.MonotonicMillis()
		assert.Zero(t, w.l.run())
		w.turn()
		got := w.told()
		require.Len(t, got, 1)
		assert.Equal(t, wire.Event{Kind: wire.EventEnding, At: got[0].At, Why: why}, got[0])
		assert.Equal(t, []string{"ends: " + text}, w.got, fmt.Sprint("for a supervisor of before"))
	}
}
