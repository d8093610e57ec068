package count

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 512 << 20: "512.0 MiB", 3 << 40: "3.0 TiB", 2 << 50: "2048.0 TiB"} {
		assert.Equal(t, want, Size(n))
	}
}

func TestOf(t *testing.T) {
	assert.Equal(t, "0 entries, 1 entry, 2 entries", Of(0, "entry", "entries")+", "+Of(uint32(1), "entry", "entries")+", "+Of(int64(2), "entry", "entries"))
}
