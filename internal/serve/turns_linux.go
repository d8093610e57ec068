package serve

import (
	"fmt"
	"sync/atomic"
	"time"

	"jail/internal/count"
	"jail/internal/sys"
)

// turnPatience is how long a start waits for those before it while none of them comes to
// its end.
const turnPatience = 100 * time.Millisecond

// turns bounds how many starts there are at once by the threads there are for them: a
// start takes some milliseconds, most of them in system calls that hold a thread each,
// and ten thousand jails may be wanted at once.
//
// A start that waits for a file system must not hold up the others. When none has begun or
// ended for turnPatience they go on beside it, as long as there is room for a thread more.
type turns struct {
	taken    chan struct{}
	first    chan struct{} // of those who wait, the one who looks at the clock
	moved    atomic.Int64  // when one has begun or ended, last; sys.MonotonicMillis
	patience time.Duration
	room     func() error
}

func newTurns(n int, patience time.Duration, room func() error) *turns {
	return &turns{taken: make(chan struct{}, n), first: make(chan struct{}, 1), patience: patience, room: room}
}

// take waits for a turn, and returns what ends it.
func (t *turns) take() (done func(), err error) {
	select {
	case t.taken <- struct{}{}:
		t.move()
		return t.done, nil
	default:
	}
	t.first <- struct{}{}
	defer func() { <-t.first }()
	for {
		left := t.patience - time.Duration(sys.MonotonicMillis()-t.moved.Load())*time.Millisecond
		if left <= 0 {
			if err := t.room(); err != nil {
				return nil, fmt.Errorf("%s not over, and there is no room for another thread: %w", count.Of(cap(t.taken), "start of another jail is", "starts of other jails are"), err)
			}
			return func() {}, nil
		}
		wait := time.NewTimer(left)
		select {
		case t.taken <- struct{}{}:
			wait.Stop()
			t.move()
			return t.done, nil
		case <-wait.C:
		}
	}
}

func (t *turns) move() { t.moved.Store(sys.MonotonicMillis()) }

func (t *turns) done() {
	t.move()
	<-t.taken
}
