package pid1

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
	"jail/internal/wire"
)

func ofService(name string, flags uint16) []byte {
	return wire.AppendService(nil, &wire.Service{Name: name, As: wire.Identity{Name: "root"}}, flags)
}

// serve starts a service, and returns its connection.
func (w *world) serve(name, cmd string) int {
	w.t.Helper()
	fd := w.dialControl()
	w.send(fd, ofService(name, 0))
	w.send(fd, request(w.t, cmd, 0))
	require.Equal(w.t, "started", w.answer(fd))
	// Until it has executed, it has this process's handlers.
	w.until("it has executed", func() bool { return len(w.l.busySlots) == 0 })
	return fd
}

// find asks for a service on a connection of its own.
func (w *world) find(name string) (fd int, answer string) {
	w.t.Helper()
	fd = w.dialControl()
	w.send(fd, ofService(name, wire.FlagFind))
	return fd, w.answer(fd)
}

// TestServiceOutlivesItsConnection: who starts a service may go, and who comes finds it,
// starts no second one, and hears of its end, also if that was before.
func TestServiceOutlivesItsConnection(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true, Name: "web", IdleMillis: 1}, 7)
	_, answer := w.find("cron")
	assert.Equal(t, "refused 0 it does not run", answer)

	first := w.serve("cron", "trap '' HUP; while :; do sleep 0.01; [ -e "+w.path+"go ] && exit 3; done")
	require.NoError(t, syscall.Shutdown(first, syscall.SHUT_RDWR))
	w.until("its connection is gone", func() bool { return w.l.services[0].conn.state == orphan })
	w.turn()
	assert.Equal(t, 1, w.l.sessions, "it goes on")
	assert.Empty(t, w.kills)

	one, answer := w.find("cron")
	assert.Equal(t, "started", answer)
	two, answer := w.find("cron")
	assert.Equal(t, "started", answer)
	second := w.dialControl()
	w.send(second, ofService("cron", 0))
	w.send(second, request(t, "true", 0))
	assert.Equal(t, "refused 125 it runs already", w.answer(second))
	gone, answer := w.find("cron")
	assert.Equal(t, "started", answer)
	sys.Close(gone)
	w.turn()

	require.NoError(t, syscall.Mkdir(w.path+"go", 0o700))
	for _, fd := range []int{one, two} {
		assert.Equal(t, "exited 0 3", w.answer(fd))
	}
	late, answer := w.find("cron")
	assert.Equal(t, "exited 0 3", answer)

	// On the same connection it is started again.
	w.send(late, ofService("cron", 0))
	w.send(late, request(t, "exit 4", 0))
	assert.Equal(t, "started", w.answer(late))
	assert.Equal(t, "exited 0 4", w.answer(late))
	_, answer = w.find("cron")
	assert.Equal(t, "exited 0 4", answer)
	assert.Zero(t, w.l.serving)
	w.turn()
	for _, e := range w.told() {
		assert.Equal(t, wire.EventEnding, e.Kind, "a service is no session to tell of")
	}
}

// TestWhatAServiceLeaves: workers of a service whose first process was killed end with it.
func TestWhatAServiceLeaves(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	fd := w.dialControl()
	w.send(fd, ofService("nginx", 0))
	r, out := pipe(t)
	w.send(fd, request(t, "sleep 60 & kill -9 $$", 2), out, out)
	sys.Close(out)
	assert.Equal(t, "started", w.answer(fd))
	assert.Equal(t, "exited 9 0", w.answer(fd))
	require.NoError(t, sys.SetNonblock(r))
	w.until("nobody has its output any more", func() bool {
		var buf [1]byte
		n, err := sys.Read(r, buf[:])
		return err == nil && n == 0
	})
	sys.Close(r)
}

// TestServicesAreNoSessions: they are not counted as such, and a jail does not idle out
// while one runs.
func TestServicesAreNoSessions(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true, Name: "web", IdleMillis: 1}, 7)
	w.serve("cron", "sleep 60")
	w.answers = nil
	w.send(w.control, wire.AppendHello(nil, true))
	w.until("an answer", func() bool { return len(w.answers) > 0 })
	st, err := wire.DecodeStatus(w.answers[0])
	require.NoError(t, err)
	assert.Equal(t, wire.Status{Name: "web", Served: 1, Processes: true}, st)
	w.l.idle = 0
	assert.False(t, w.l.done(sys.MonotonicMillis()))
	assert.Zero(t, w.l.idle)
}

// TestServicesEndInOrder: the last one first, each when the one after it has ended, and
// what else runs after all of them; but nobody can hold that up for longer than half the
// grace.
func TestServicesEndInOrder(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	a := w.serve("a", "exec sleep 60")
	b := w.serve("b", "exec sleep 60")
	c := w.serve("c", "exec sleep 60")
	names := map[int]string{}
	for i, name := range []string{"a", "b", "c"} {
		names[w.l.services[i].conn.pid] = name
	}
	// Who is there at the moment at which each is asked: later on the next may have ended too.
	var asked []string
	heard := map[string]bool{}
	w.killed = func(pid int, sig syscall.Signal) {
		name := names[max(pid, -pid)]
		if sig != syscall.SIGTERM || heard[name] { // what it leaves is told again when it has ended
			return
		}
		heard[name] = true
		there := 0
		for p := range names {
			if syscall.Kill(p, 0) == nil {
				there++
			}
		}
		asked = append(asked, fmt.Sprintf("%s of %d", name, there))
	}
	w.send(w.control, wire.AppendStop(nil, wire.Stop{GraceMillis: 60_000}))
	for _, s := range []struct {
		name string
		fd   int
	}{{"c", c}, {"b", b}, {"a", a}} {
		assert.Equal(t, "exited 15 0", w.answer(s.fd), s.name)
	}
	w.until("all are asked", func() bool { return slices.Contains(w.kills, "true 15") })
	assert.Equal(t, []string{"c of 3", "b of 2", "a of 1", " of 0"}, asked)
	assert.Equal(t, []string{"true 1", "true 15", "true 18"}, w.kills[len(w.kills)-3:])

	w = newWorld(t, &wire.Setup{Userns: true}, 7)
	w.serve("a", "exec sleep 60")
	deaf := w.serve("b", "trap '' TERM; while :; do sleep 0.01; done")
	w.send(w.control, wire.AppendStop(nil, wire.Stop{GraceMillis: 400}))
	w.until("the others are asked", func() bool { return slices.Contains(w.kills, "true 15") })
	assert.NotNil(t, w.l.services[0].conn, "it was not its turn")
	second := w.dialControl()
	w.send(second, ofService("new", 0))
	w.send(second, request(t, "true", 0))
	assert.Equal(t, "refused 125 the jail is ending", w.answer(second))
	w.send(deaf, wire.AppendSignal(nil, wire.Signal{Number: 9}))
	assert.Equal(t, "exited 9 0", w.answer(deaf))
}

// TestNoServiceTooMany: what the host may ask for is bounded, also by mistake.
func TestNoServiceTooMany(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	for i := range wire.MaxServices {
		fd := w.dialControl()
		w.send(fd, ofService(fmt.Sprint("s", i), 0))
		w.turn()
	}
	require.Len(t, w.l.services, wire.MaxServices)
	fd := w.dialControl()
	w.send(fd, ofService("more", 0))
	assert.Equal(t, "end", w.answer(fd))
	fd = w.dialControl()
	w.send(fd, wire.AppendService(nil, &wire.Service{Name: "s1"}, 2))
	assert.Equal(t, "end", w.answer(fd), "an unknown flag")
}

// TestConnectionsAreSmall: the collector keeps objects of one size together, on pages of
// their own. With another size they were 8 KiB more of every idle jail.
func TestConnectionsAreSmall(t *testing.T) {
	assert.LessOrEqual(t, unsafe.Sizeof(conn{}), uintptr(208))
}
