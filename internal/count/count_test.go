package count

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOf(t *testing.T) {
	assert.Equal(t, "0 entries, 1 entry, 2 entries", Of(0, "entry", "entries")+", "+Of(uint32(1), "entry", "entries")+", "+Of(int64(2), "entry", "entries"))
}
