package serve

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/event"
	"jail/internal/sys"
	"jail/internal/wire"
)

// TestEventsInTheLog: a session that succeeds leaves its trace, under the name its login
// has in this jail, also after the login was dropped; another jail's login cannot be named.
func TestEventsInTheLog(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.do(func() { w.apply(registry("one: 61001 61002", "two: 61003")) })
	w.dial(61001)
	p := w.pid1("one")
	name := ""
	w.do(func() { name = w.logins.at(w.byUID[61001]).spec.Name })
	require.NotEmpty(t, name)
	var m sys.MsgBuf
	tell := func(events ...wire.Event) {
		packet := wire.AppendEvents(nil)
		for _, e := range events {
			e.At, e.ID = uint64(sys.MonotonicMillis()), [wire.IDLen]byte([]byte("k7qmw2ab"))
			packet = wire.AppendEvent(packet, &e)
		}
		require.NoError(t, sys.SendMsg(p.conn, packet, nil, true, &m))
	}
	tell(wire.Event{Kind: wire.EventStarted, HostUID: 61001, Session: wire.SessionShell, TTY: 3, PID: 8})
	w.logged("jail-init: jail one: session k7qmw2ab login " + name + " started: shell, pts/3, pid 8\n")
	w.do(func() { w.apply(registry("one: 61002 61004", "two: 61003")) })
	tell(wire.Event{Kind: wire.EventEnded, HostUID: 61001, Status: 3, Millis: 1200},
		wire.Event{Kind: wire.EventEnded, HostUID: 61003}, wire.Event{Kind: wire.EventEnded, HostUID: 61004},
		wire.Event{Kind: wire.EventRefused, HostUID: 61002, Text: "no\njail-init: jail two: x"})
	w.logged("jail-init: jail one: session k7qmw2ab login " + name + " ended: status 3 after 1.2s\n")
	w.logged("jail-init: jail one: session k7qmw2ab of uid 61003, which is no login of this jail, ended: status 0 after 0s\n")
	w.logged(`jail-init: jail one: id=k7qmw2ab login=61002 refused: no\njail-init: jail two: x` + "\n")
	var late string
	w.do(func() { late = w.logins.at(w.byUID[61004]).spec.Name })
	w.logged("jail-init: jail one: session k7qmw2ab login " + late + " ended: status 0")
	tell(wire.Event{Kind: wire.EventEnding, Why: wire.EndIdle})
	p.end()
	w.logged("jail one ended")
	w.do(func() {
		line := w.out.String()
		line = line[strings.Index(line, "jail one ended"):]
		line, _, _ = strings.Cut(line, "\n")
		assert.Regexp(t, `^jail one ended by signal 9 \(killed\) after .*: idle$`, line)
	})
}

// writes are what was written, each time.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

// TestLinesAreWrittenTogether: what a jail tells at once is one write, or as many as keep lines
// whole in a pipe.
func TestLinesAreWrittenTogether(t *testing.T) {
	var w writes
	s := newServer(Options{Log: &w})
	logins := &names{of: map[uint32]string{7: "alice"}}
	refused := func(text string) event.Event {
		return event.Event{Kind: wire.EventRefused, HostUID: 7, ID: [wire.IDLen]byte([]byte("k7qmw2ab")), Text: text}
	}
	s.logEvents("web", logins, []event.Event{refused("a"), refused("b")})
	const line = "jail-init: jail web: id=k7qmw2ab login=7 refused: "
	assert.Equal(t, writes{line + "a\n" + line + "b\n"}, w)
	w = nil
	var list []event.Event
	for range 20 {
		list = append(list, refused(strings.Repeat("x", 500)))
	}
	s.logEvents("web", logins, list)
	assert.Len(t, w, 3)
	for _, one := range w {
		assert.LessOrEqual(t, len(one), 4096)
		assert.True(t, strings.HasSuffix(one, "\n"))
	}
	assert.Equal(t, 20, strings.Count(strings.Join(w, ""), "\n"))
}
