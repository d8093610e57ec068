package pid1

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/sys"
	"jail/internal/wire"
)

// terminal is one that the next request's session has, and is typed into until ready
// is called.
func (w *world) terminal() (ready func()) {
	w.t.Helper()
	master, slave, err := pty.Open()
	require.NoError(w.t, err)
	w.t.Cleanup(func() { slave.Close() })
	fd, err := sys.Fcntl(int(master.Fd()), syscall.F_DUPFD_CLOEXEC, 0)
	require.NoError(w.t, err)
	require.NoError(w.t, unix.IoctlSetPointerInt(fd, unix.TIOCPKT, 1))
	master.Close()
	w.types = append(w.types, fd)
	return func() {
		require.NoError(w.t, unix.IoctlSetInt(int(slave.Fd()), tcxonc, 0 /* TCOOFF: what VSTOP does */))
	}
}

const tcxonc = 0x540a

// TestTypingHoldsUpNobody: until the kernel has put into a session's terminal what was
// typed ahead, others of its login and of another log in.
func TestTypingHoldsUpNobody(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7, 8)
	ready := w.terminal()
	var held atomic.Bool
	guard := time.AfterFunc(8*time.Second, func() { held.Store(true); ready() })
	fd := w.dial(7)
	r, out := pipe(t)
	w.send(fd, request(t, "echo late >&2; exit 4", 3), w.full(t), out, out)
	sys.Close(out)
	w.until("it is typed", func() bool { return len(w.l.typings) == 1 })
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
	assert.Equal(t, "exited 0 3, end", w.run(8, "exit 3"))
	assert.Len(t, w.l.typings, 1)
	assert.Zero(t, w.l.waiting)
	guard.Stop()
	require.False(t, held.Load(), "the loop has waited for the terminal")
	ready()
	assert.Equal(t, "started", w.answer(fd))
	assert.Equal(t, "exited 0 4", w.answer(fd))
	var buf [64]byte
	n, err := sys.Read(r, buf[:])
	require.NoError(t, err)
	assert.Equal(t, "late\n", string(buf[:n]))
	sys.Close(r)
	assert.Empty(t, w.l.typings)
}

// TestTypingEnds: without the kernel, without its client, without its login or its jail a
// session that is typed into is no more, and nothing is left of it.
func TestTypingEnds(t *testing.T) {
	for claim, c := range map[string]struct {
		end  func(w *world, fd int)
		want string
		err  error
	}{
		"the kernel does not get it done": {func(w *world, _ int) { w.l.typings[0].since -= typeWait }, "refused 125 connection timed out", syscall.ETIMEDOUT},
		"the client goes":                 {func(_ *world, fd int) { _ = syscall.Shutdown(fd, syscall.SHUT_RDWR) }, "end", syscall.ECANCELED},
		"the login is dropped":            {func(w *world, _ int) { w.l.dropLogin(7) }, "end", syscall.ECANCELED},
		"the jail stops":                  {func(w *world, _ int) { w.l.stop(60_000) }, "end", syscall.ECANCELED},
	} {
		t.Run(claim, func(t *testing.T) {
			w := newWorld(t, &wire.Setup{Userns: true}, 7)
			w.terminal()
			fd := w.dial(7)
			w.send(fd, request(t, "true", 0))
			w.until("it is typed", func() bool { return len(w.l.typings) == 1 })
			master := w.l.typings[0].st.Master
			c.end(w, fd)
			assert.Equal(t, c.want, w.answer(fd))
			w.until("it is gone", func() bool { return len(w.l.typings) == 0 })
			assert.Equal(t, []error{c.err}, w.untyped)
			var st syscall.Stat_t
			assert.Equal(t, syscall.EBADF, syscall.Fstat(master, &st))
			assert.NotZero(t, w.forwards)
			assert.Zero(t, w.l.sessions)
			assert.Zero(t, w.l.waiting)
			assert.Len(t, w.l.slots, 1)
		})
	}
}

// TestTypingHasSlots: sessions that are typed into have their part of a login's slots.
func TestTypingHasSlots(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7, 8)
	for range loginSlots {
		w.terminal()
	}
	for range loginSlots {
		w.send(w.dial(7), request(t, "true", 0))
	}
	w.until("all are typed", func() bool { return len(w.l.typings) == loginSlots })
	late := w.dial(7)
	w.send(late, request(t, "exit 5", 0))
	assert.Equal(t, "exited 0 3, end", w.run(8, "exit 3"))
	assert.Len(t, w.l.typings, loginSlots)
	w.l.abandon(w.l.typings[0].index)
	assert.Equal(t, "started", w.answer(late))
}
