package serve

import (
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
	var d tidier
	starts := func(n int) {
		for range n {
			d.started()
		}
	}
	assert.False(t, d.due(1), "there is nothing to be had")
	starts(5)
	assert.False(t, d.due(1))
	starts(1)
	assert.False(t, d.due(10_000), "what it costs grows with what is in use")
	assert.True(t, d.due(100))
	assert.False(t, d.due(1), "it is done")
	starts(400)
	assert.True(t, d.due(10_000))
	d.registry()
	assert.True(t, d.due(10_000))
	assert.False(t, d.due(10_000))
}
