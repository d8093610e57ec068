package pid1

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

// TestOneSessionIsEnded: the host ends the session of an id, and no other; who asks whether there
// is one changes nothing.
func TestOneSessionIsEnded(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	var fds []int
	for range 2 {
		fd := w.dial(7)
		w.send(fd, request(t, "sleep 1000", 0))
		require.Equal(t, "started", w.answer(fd))
		fds = append(fds, fd)
	}
	w.turn()
	started := w.told()
	require.Len(t, started, 2)
	control := w.dialControl()
	ask := func(id [wire.IDLen]byte, number uint8) bool {
		w.send(control, wire.AppendEnd(nil, wire.End{ID: id, Number: number}))
		typ, _, body, err := wire.Header(w.next(control))
		require.NoError(t, err)
		require.Equal(t, wire.TypeEnds, typ)
		there, err := wire.DecodeEnds(body)
		require.NoError(t, err)
		return there
	}
	kills := len(w.kills)
	assert.True(t, ask(started[0].ID, 0))
	assert.False(t, ask([wire.IDLen]byte([]byte("aaaaaaaa")), 9))
	assert.False(t, ask([wire.IDLen]byte{}, 9), "a place without a session has no id")
	assert.Len(t, w.kills, kills)
	assert.True(t, ask(started[0].ID, 9))
	assert.Equal(t, "exited 9 0", w.answer(fds[0]))
	w.until("it has ended", func() bool { return w.l.sessions == 1 })
	assert.False(t, ask(started[0].ID, 9))
	assert.True(t, ask(started[1].ID, 0), "the other one goes on")
	assert.True(t, ask(started[1].ID, 1))
	assert.Equal(t, "exited 1 0", w.answer(fds[1]))
}
