package pid1

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

// kills makes memory.events say that there have been so many.
func kills(t *testing.T, f *os.File, n int) {
	t.Helper()
	require.NoError(t, f.Truncate(0))
	_, err := f.WriteAt(fmt.Appendf(nil, "low 0\nhigh 0\nmax 812\noom 31\noom_kill %d\noom_group_kill 0\n", n), 0)
	require.NoError(t, err)
}

// memoryFile is what stands for memory.events.
func memoryFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "memory.events"))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	kills(t, f, 0)
	return f
}

// TestOutOfMemory: a session that ends as by SIGKILL just after the kernel has killed a
// process for want of memory is told so, and so is the host; each kill accounts for one.
func TestOutOfMemory(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	f := memoryFile(t)
	kills(t, f, 3) // of before
	w.l.watchMemory(int(f.Fd()))
	ends := func(cmd string, killed int) wire.Exited {
		t.Helper()
		fd := w.dial(7)
		w.send(fd, request(t, "read x || :; "+cmd, 0))
		require.Equal(t, "started", w.answer(fd))
		kills(t, f, killed)
		p := w.next(fd)
		_, flags, body, err := wire.Header(p)
		require.NoError(t, err)
		e, err := wire.DecodeExited(flags, body)
		require.NoError(t, err)
		w.turn()
		told := w.told()
		require.Len(t, told, 2)
		assert.Equal(t, e.OutOfMemory, told[1].OutOfMemory, "the host hears the same")
		return e
	}
	assert.Equal(t, wire.Exited{Signal: 9}, ends("kill -9 $$", 3), "somebody's kill")
	assert.Equal(t, wire.Exited{Signal: 9, OutOfMemory: true}, ends("kill -9 $$", 4))
	assert.Equal(t, wire.Exited{Signal: 9}, ends("kill -9 $$", 4), "the one before has accounted for it")
	assert.Equal(t, wire.Exited{Code: 137, OutOfMemory: true}, ends("exit 137", 5), "the last command of a shell")
	assert.Equal(t, wire.Exited{Code: 2}, ends("exit 2", 6), "whose status says nothing of it")
	assert.Equal(t, wire.Exited{Signal: 15}, ends("kill $$", 6))
	assert.Equal(t, wire.Exited{Signal: 9, OutOfMemory: true}, ends("kill -9 $$", 8))
}

// TestOutOfMemoryIsToldToWhoKnowsIt: a serve of before, which does not, hears of an end like any other.
func TestOutOfMemoryIsToldToWhoKnowsIt(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	for _, knows := range []bool{true, false, true} {
		fd := w.dialControl()
		flags := wire.FlagWantEvents | wire.FlagWantOOM
		if !knows {
			flags = wire.FlagWantEvents
		}
		w.send(fd, []byte{1, byte(wire.TypeHello), byte(flags), 0})
		w.turn()
		w.events(fd)
		w.l.tellEnded(&conn{host: 7}, 9, true)
		w.turn()
		got := w.events(fd)
		require.Len(t, got, 1)
		assert.Equal(t, wire.Event{Kind: wire.EventEnded, At: got[0].At, HostUID: 7, Signal: 9, Millis: got[0].Millis, OutOfMemory: knows}, got[0])
	}
}

// TestWhoHasEndedForWantOfMemory: a kill accounts for an end that follows on it soon.
func TestWhoHasEndedForWantOfMemory(t *testing.T) {
	const killed = syscall.WaitStatus(9)
	f := memoryFile(t)
	m := memory{fd: int(f.Fd())}
	kills(t, f, 1)
	m.look(1000)
	assert.False(t, m.ended(killed, 1000+killedBy+1), "it is too long ago")
	assert.False(t, m.ended(killed, 1000))
	kills(t, f, 3)
	assert.True(t, m.ended(killed, 20_000))
	assert.True(t, m.ended(killed, 20_000+killedBy))
	assert.False(t, m.ended(killed, 20_000))
	none := memory{fd: -1}
	assert.False(t, none.ended(killed, 1))
	require.NoError(t, f.Truncate(0))
	m.look(30_000)
	assert.EqualValues(t, 3, m.kills, "a file that says nothing changes nothing")
}

func TestCountOf(t *testing.T) {
	for text, want := range map[string]uint64{
		"oom_kill 7\n":                           7,
		"oom 3\noom_kill 12\noom_group_kill 4":   12,
		"oom_group_kill 4\n":                     0,
		"xoom_kill 4\noom_kill 5\n":              5,
		"oom_kill \n":                            0,
		"":                                       0,
		"oom_kill 18446744073709551615\nlow 1\n": 1<<64 - 1,
	} {
		assert.Equal(t, want, countOf([]byte(text), "oom_kill "), "%q", text)
	}
}
