package serve

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLockOfWhatIsEnding: a process of the last serve that is about to end does not keep the next
// one from starting; a serve that goes on does.
func TestLockOfWhatIsEnding(t *testing.T) {
	dir := t.TempDir()
	held, err := os.OpenFile(filepath.Join(dir, "serve.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
	_, err = lockDir(dir)
	assert.ErrorContains(t, err, "another jail-init serve works in "+dir)
	go func() {
		time.Sleep(50 * time.Millisecond)
		held.Close()
	}()
	f, err := lockDir(dir)
	require.NoError(t, err)
	f.Close()
}
