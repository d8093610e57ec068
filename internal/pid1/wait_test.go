package pid1

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/internal/wire"
)

// Events wait for others, but not for long, and not when there are many.
func TestEventsWaitForOthers(t *testing.T) {
	var k events
	at := func(ms uint64) *wire.Event { return &wire.Event{Kind: wire.EventEnding, At: ms, Why: wire.EndIdle} }
	assert.Equal(t, -1, k.left(0), "there are none")
	k.add(at(1000))
	assert.Equal(t, -1, k.left(1000), "nobody listens")
	k.to = &conn{}
	assert.Equal(t, tellAfter, k.left(1000))
	k.add(at(1050))
	assert.Equal(t, tellAfter-60, k.left(1060), "it is the first one that counts")
	assert.Zero(t, k.left(1000+tellAfter))
	assert.Zero(t, k.left(1<<40))
	assert.Equal(t, tellAfter, k.left(0), "a clock that is behind")
	k.full = true
	assert.Equal(t, -1, k.left(1<<40), "there is no room")
	k.full = false
	for len(k.kept) < wire.MaxEvents/2 {
		k.add(at(1060))
	}
	assert.Zero(t, k.left(1060), "there are many")
	k.sent(len(k.kept))
	assert.Equal(t, -1, k.left(1<<40))
	k.add(at(2000))
	assert.Equal(t, tellAfter, k.left(2000))
}
