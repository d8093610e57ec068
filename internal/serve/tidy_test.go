package serve

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// What starts and reading the registry leave behind is given back, once, when they are
// over.
func TestTidiesUp(t *testing.T) {
	w := newWorld(t)
	tidied := make(chan bool, 9)
	w.tidier = newTidier(50*time.Millisecond, func() { tidied <- true })
	w.run()
	w.do(func() { w.apply(registry("one: 61001")) })
	never := func(why string) {
		t.Helper()
		select {
		case <-tidied:
			assert.Fail(t, why)
		case <-time.After(200 * time.Millisecond):
		}
	}
	never("nothing has happened")
	w.dial(61001)
	w.pid1("one")
	select {
	case <-tidied:
	case <-time.After(deadline):
		t.Fatal("nobody tidies up")
	}
	never("once is enough")
}

func TestTidyingIsWorthIt(t *testing.T) {
	assert.False(t, worthIt(0, 100<<10), "there is little to be had")
	assert.True(t, worthIt(300<<10, 1<<20))
	assert.False(t, worthIt(60<<20, 1<<20), "what it costs grows with what is in use")
	assert.True(t, worthIt(60<<20, 40<<20))
}

var sink []byte

// What is left is counted, and gone afterwards.
func TestTidy(t *testing.T) {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // nobody else collects
	_, before := heap()
	for range 64 {
		sink = make([]byte, 64<<10)
	}
	_, left := heap()
	assert.Greater(t, left, before+(3<<20))
	tidy()
	_, after := heap()
	assert.Less(t, after, before+(1<<20))
}
