package serve

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
)

// As many starts at once as there are threads for; who waits gets the next turn. When all
// hang the others go on beside them, and are refused where there is no thread more.
func TestTurns(t *testing.T) {
	var room error
	asked := 0
	s := newTurns(2, 500*time.Millisecond, func() error { asked++; return room })
	take := func() func() {
		t.Helper()
		done, err := s.take()
		require.NoError(t, err)
		return done
	}
	one, two := take(), take()
	assert.Len(t, s.taken, 2)
	go func() {
		for range 8 { // longer than anybody's patience, but there is always one that ends
			time.Sleep(100 * time.Millisecond)
			s.move()
		}
		one()
	}()
	one = take()
	assert.Len(t, s.taken, 2)
	assert.Zero(t, asked, "it has waited for its turn")

	s.moved.Store(0)
	beside := take()
	assert.Equal(t, 1, asked)
	assert.Len(t, s.taken, 2, "it goes on without a turn")
	beside()
	s.move()
	start := sys.MonotonicMillis()
	take()()
	assert.GreaterOrEqual(t, sys.MonotonicMillis()-start, int64(499), "not before its patience is at an end")
	assert.Equal(t, 2, asked)
	room = syscall.EAGAIN
	_, err := s.take()
	assert.ErrorIs(t, err, syscall.EAGAIN)
	assert.ErrorContains(t, err, "2 starts of other jails are not over, and there is no room for another thread")
	one()
	two()
	assert.Empty(t, s.taken)
	take()()
	assert.Empty(t, s.taken)
}

// Jails whose starts hang do not hold up another's.
func TestStartsThatHang(t *testing.T) {
	w := newWorld(t)
	w.starts = newTurns(1, 20*time.Millisecond, func() error { return nil })
	hang := make(chan struct{})
	w.before = func(name string) error {
		if name == "hangs" {
			<-hang
		}
		return nil
	}
	w.run()
	w.do(func() { w.apply(registry("hangs: 61001", "one: 61002")) })
	w.dial(61001)
	w.until("it has begun", func() bool { return len(w.starts.taken) == 1 })
	w.dial(61002)
	w.pid1("one")
	close(hang)
	w.pid1("hangs")
	w.until("all turns are over", func() bool { return len(w.starts.taken) == 0 })
}
