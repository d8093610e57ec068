package quota

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNamesTakeNoMemory: a directory of a tenant's with millions of names is not in the memory
// of whoever starts all jails.
func TestNamesTakeNoMemory(t *testing.T) {
	const many = 40_000
	top := t.TempDir()
	file := filepath.Join(top, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	dir := filepath.Join(top, "dir")
	require.NoError(t, os.Mkdir(dir, 0o700))
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	for i := range many {
		require.NoError(t, os.Link(file, filepath.Join(dir, fmt.Sprintf("%06d%s", i, strings.Repeat("x", 249)))))
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, at, most := heap(), 0, uint64(0)
	require.NoError(t, each(fd, func(string) error {
		if at++; at%(many/4) == 1 {
			most = max(most, heap())
		}
		return nil
	}))
	assert.Equal(t, many, at)
	assert.Less(t, most, before+2<<20)
	stop := fmt.Errorf("stop")
	assert.Equal(t, stop, each(fd, func(string) error { return stop }))
}
