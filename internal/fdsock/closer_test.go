package fdsock

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/sys"
)

// TestCloserTakesNoThreads: whoever sends what takes an hour to be closed, under however many uids,
// holds up nobody, and takes neither threads nor descriptors.
func TestCloserTakesNoThreads(t *testing.T) {
	var c Closer
	var closed atomic.Int32
	c.Closed = func(int) { closed.Add(1) }
	const jails = 2 * maxSlow
	for jail := range jails {
		slow, _ := needs.SlowToClose(t)
		c.Close(jail, slow)
	}
	require.Eventually(t, func() bool { return closed.Load() == jails }, 20*time.Second, time.Millisecond)
	for jail := range jails {
		assert.Zero(t, c.Left(jail))
	}
}

// TestCloserIsSettled: who ends waits for what it is closing.
func TestCloserIsSettled(t *testing.T) {
	var c Closer
	c.bury = func(fds []int, _ func() func()) bool {
		time.Sleep(20 * time.Millisecond)
		sys.CloseAll(fds)
		return true
	}
	r, w, err := sys.Pipe()
	require.NoError(t, err)
	c.Close(1, r, w)
	Settled()
	assert.Zero(t, c.Left(1))
}

// TestCloserOfAFullMachine: where there can be no process, what takes its time to close holds up what is
// behind it of the same jail, and nobody else, on a bounded number of threads.
func TestCloserOfAFullMachine(t *testing.T) {
	slow, end := needs.SlowToClose(t)
	open := func() (r, w int) {
		r, w, err := sys.Pipe()
		require.NoError(t, err)
		t.Cleanup(func() { sys.Close(r) })
		return r, w
	}
	closed := func(r int, ms int) bool {
		n, err := sys.Poll([]sys.PollFD{{FD: int32(r), Events: sys.PollIn}}, ms)
		require.NoError(t, err)
		return n > 0
	}
	c := Closer{bury: func([]int, func() func()) bool { return false }}
	behind, w := open()
	c.Close(1, slow, w)
	other, w := open()
	c.Close(2, w)
	assert.True(t, closed(other, 20_000))
	assert.False(t, closed(behind, 0), "it was to hang: this test shows nothing")
	assert.Equal(t, 2, c.Left(1))
	end()
	assert.True(t, closed(behind, 20_000))
	assert.Eventually(t, func() bool { return c.Left(1) == 0 && c.Left(2) == 0 }, 20*time.Second, time.Millisecond)
	again, w := open()
	c.Close(1, w)
	assert.True(t, closed(again, 20_000))

	// A thread for each of so many, and the next in turn.
	var let []func()
	for jail := range maxSlow {
		slow, end := needs.SlowToClose(t)
		let = append(let, end)
		c.Close(10+jail, slow)
	}
	busy := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.slow)
	}
	require.Eventually(t, func() bool { return busy() == maxSlow }, 20*time.Second, time.Millisecond)
	last, w := open()
	c.Close(1, w)
	assert.False(t, closed(last, 50))
	for _, end := range let {
		end()
	}
	assert.True(t, closed(last, 20_000))
	assert.Eventually(t, func() bool { return busy() == 0 && c.Left(1) == 0 }, 20*time.Second, time.Millisecond)
}

// TestCloserWhoseProcessesHang: of processes that do not end there are a few at most.
func TestCloserWhoseProcessesHang(t *testing.T) {
	var c Closer
	var buried atomic.Int32
	ended := make(chan func(), 10*maxHung)
	c.bury = func(fds []int, late func() func()) bool {
		buried.Add(1)
		ended <- late()
		sys.CloseAll(fds)
		return true
	}
	one := func() {
		r, w, err := sys.Pipe()
		require.NoError(t, err)
		t.Cleanup(func() { sys.Close(r) })
		c.Close(1, w)
		n, err := sys.Poll([]sys.PollFD{{FD: int32(r), Events: sys.PollIn}}, 20_000)
		require.NoError(t, err)
		assert.Positive(t, n)
		assert.Eventually(t, func() bool { return c.Left(1) == 0 }, 20*time.Second, time.Millisecond)
	}
	for range maxHung + 3 {
		one()
	}
	assert.EqualValues(t, maxHung, buried.Load())
	(<-ended)()
	one()
	assert.EqualValues(t, maxHung+1, buried.Load())
}
