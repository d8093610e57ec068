package pid1

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/session"
	"jail/internal/sys"
	"jail/internal/wire"
	"jail/internal/wire/before"
)

// says plays a recorded message of the build before to the loop.
func (w *world) says(fd int, name string, fds ...int) {
	w.t.Helper()
	packet, ok := before.Messages()[name]
	require.True(w.t, ok, name)
	w.send(fd, packet, fds...)
}

// TestBefore: a jail-enter and a serve of the build before are served as ever, and get
// answers that they know, byte for byte.
func TestBefore(t *testing.T) {
	recorded := before.Messages()
	w := newWorld(t, &wire.Setup{Name: "kept", Userns: true}, 7)
	begin := func(request string, fds ...int) int {
		fd := w.dial(7)
		w.says(fd, request, fds...)
		assert.Equal(t, withoutPID(recorded["started"]), withoutPID(w.next(fd)), request)
		return fd
	}

	r, out := pipe(t)
	fd := begin("request, a command on pipes", w.full(t), out, out)
	sys.Close(out)
	assert.Equal(t, recorded["exited, status 3"], w.next(fd))
	assert.Nil(t, w.next(fd), "the end")
	var buf [64]byte
	n, err := sys.Read(r, buf[:])
	require.NoError(t, err)
	assert.Equal(t, "input", string(buf[:n]))
	sys.Close(r)

	fd = begin("request, a command that stays")
	w.until("it executes", func() bool { w.l.collectSlots(); return len(w.l.busySlots) == 0 })
	w.says(fd, "signal 15")
	assert.Equal(t, wire.AppendExited(nil, wire.Exited{Signal: 15}), w.next(fd))
	assert.Nil(t, w.next(fd))

	fd = begin("request, the command of a key")
	assert.Equal(t, wire.AppendExited(nil, wire.Exited{Code: 5}), w.next(fd))

	fd = w.dial(7)
	w.says(fd, "request, a forced shell on a terminal")
	assert.Equal(t, "started", w.answer(fd))
	assert.Equal(t, "exited 0 4", w.answer(fd))

	w.refusal = &session.Refusal{Status: 126, Text: "no shell"}
	fd = w.dial(7)
	w.says(fd, "request, the command of a key")
	refused := recorded["refused"]
	got := w.next(fd)
	require.Len(t, got, len(refused))
	const id = wire.HeaderLen + 1 + 4 // where it is, of each session its own
	assert.Equal(t, append(got[:id:id], refused[id:id+wire.IDLen]...), refused[:id+wire.IDLen])
	assert.Equal(t, refused[id+wire.IDLen:], got[id+wire.IDLen:])
}

// withoutPID returns a Started without what is different each time.
func withoutPID(packet []byte) []byte {
	if len(packet) != wire.HeaderLen+4 {
		return packet
	}
	return append(append([]byte(nil), packet[:wire.HeaderLen]...), 0, 0, 0, 0)
}

// TestServeOfBefore: what the verbs and serve of the build before order is done, and they
// are told nothing they have not asked for.
func TestServeOfBefore(t *testing.T) {
	recorded := before.Messages()
	w := newWorld(t, &wire.Setup{Name: "kept", Userns: true}, 7)
	var running []int
	for range 2 {
		fd := w.dial(7)
		w.says(fd, "request, a command that stays")
		require.Equal(t, "started", w.answer(fd))
		running = append(running, fd)
	}
	w.until("they execute", func() bool { w.l.collectSlots(); return len(w.l.busySlots) == 0 })
	w.l.served = 1 << 33
	serve := w.dialControl()
	w.says(serve, "hello, for the log")
	assert.Equal(t, recorded["status"], w.next(serve))
	ps := w.dialControl()
	w.says(ps, "hello")
	assert.Equal(t, recorded["status"], w.next(ps))

	listener := w.listen("61001")
	w.says(serve, "add a login", listener)
	sys.Close(listener)
	fd := w.dial(61001)
	w.says(fd, "request, the command of a key")
	assert.Equal(t, "started", w.answer(fd))
	assert.Equal(t, "exited 0 5", w.answer(fd))
	w.refusal = &session.Refusal{Status: 126, Text: "no shell"}
	fd = w.dial(61001)
	w.says(fd, "request, the command of a key")
	assert.Equal(t, "refused 126 no shell", w.answer(fd))
	line := w.next(serve)
	assert.Equal(t, recorded["log"][:wire.HeaderLen], line[:min(wire.HeaderLen, len(line))], "a line, since it knows of no events")
	assert.Contains(t, string(line), "refused: no shell")
	w.refusal = nil
	w.says(serve, "drop a login")
	w.until("the login is dropped", func() bool {
		fd, err := w.connect(61001)
		return err == syscall.ECONNREFUSED && fd < 0
	})

	exec := w.dialControl()
	w.says(exec, "exec")
	w.says(exec, "request, the command of a key")
	assert.Equal(t, "started", w.answer(exec))
	assert.Equal(t, "exited 0 5", w.answer(exec))

	w.says(serve, "stop")
	w.until("it stops", func() bool { return w.l.stopping })
	for _, fd := range running {
		w.says(fd, "signal 15")
	}
	for _, fd := range running {
		assert.Equal(t, "exited 15 0", w.answer(fd))
	}
	assert.Equal(t, []string{"true 1", "true 15", "true 18"}, w.kills[:3])
}
