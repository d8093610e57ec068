package pid1

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/internal/wire"
)

// TestTooManySessions: those of the registry's bound, of all logins together, and not the
// administrator's or services; with the last one's end there is room.
func TestTooManySessions(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true, Sessions: wire.SessionLimits{Max: 2}}, 7, 8)
	w.serve("cron", "sleep 60")
	for _, uid := range []uint32{7, 8} {
		fd := w.dial(uid)
		w.send(fd, request(t, "read x; sleep 60", 0))
		assert.Equal(t, "started", w.answer(fd))
		defer func() {
			w.send(fd, wire.AppendSignal(nil, wire.Signal{Number: 9}))
			assert.Equal(t, "exited 9 0", w.answer(fd))
			assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
		}()
	}
	const full = "refused 125 the jail has as many sessions as it may have (max_sessions = 2); there is room when one has ended"
	assert.Equal(t, full, w.run(7, "true"))
	fd := w.dialControl()
	w.send(fd, wire.AppendExec(nil, &wire.Identity{}))
	w.send(fd, request(t, "true", 0))
	assert.Equal(t, "started", w.answer(fd))
	assert.Equal(t, "exited 0 0", w.answer(fd))

	w.send(w.control, wire.AppendSessions(nil, &wire.SessionLimits{Max: 3}))
	w.until("it has heard", func() bool { return len(w.limits) == 1 })
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
}

// TestSessionRate: a login may begin as many as in a minute at once, and then one for each
// part of a minute; another login is not the worse for it.
func TestSessionRate(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true, Sessions: wire.SessionLimits{PerMinute: 4}}, 7, 8)
	l := w.l
	seven, eight := &conn{login: 0}, &conn{login: 1}
	l.now = 1_000_000
	for range 4 {
		assert.Empty(t, l.tooMany(seven))
	}
	const no = "too many new sessions in a minute (session_rate = 4), the next one in "
	assert.Equal(t, no+"15 s", l.tooMany(seven))
	assert.Empty(t, l.tooMany(eight))
	assert.Empty(t, l.tooMany(&conn{login: -1}))
	l.now += 14_001
	assert.Equal(t, no+"1 s", l.tooMany(seven))
	l.now += 999
	assert.Empty(t, l.tooMany(seven))
	assert.Equal(t, no+"15 s", l.tooMany(seven))
	l.now += 10 * minute
	for range 4 {
		assert.Empty(t, l.tooMany(seven), "what was long ago does not count, and is not saved up")
	}
	assert.NotEmpty(t, l.tooMany(seven))
}
