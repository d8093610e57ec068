package fdsock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/sys"
)

// TestCloser: what takes its time to close holds up what is behind it of the same jail, and
// nobody else.
func TestCloser(t *testing.T) {
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
	var c Closer
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
}
