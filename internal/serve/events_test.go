package serve

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
