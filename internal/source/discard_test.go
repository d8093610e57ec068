package source

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestWhatIsGoneIsRemoved: what a tenant has nested deeper than there are descriptors for goes
// as well, and nothing that a link leads to.
func TestWhatIsGoneIsRemoved(t *testing.T) {
	state := t.TempDir()
	outside := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(outside, nil, 0o600))
	for _, name := range []string{goneDir, goneDir + ".1"} {
		top := filepath.Join(state, name)
		require.NoError(t, os.Mkdir(top, 0o700))
		require.NoError(t, os.Symlink(filepath.Dir(outside), filepath.Join(top, "link")))
		require.NoError(t, os.Mkdir(filepath.Join(top, ".deep.1"), 0o700))
		require.NoError(t, os.Mkdir(filepath.Join(top, ".deep.2"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(top, ".deep.2/file"), nil, 0o600))
		for range 2 {
			fd, err := unix.Open(top, unix.O_PATH|unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			for range 1000 {
				if err := unix.Mkdirat(fd, "d", 0o700); err != unix.EEXIST {
					require.NoError(t, err)
				}
				next, err := unix.Openat(fd, "d", unix.O_PATH|unix.O_CLOEXEC, 0)
				require.NoError(t, err)
				unix.Close(fd)
				fd = next
			}
			require.NoError(t, unix.Mkdirat(fd, "end", 0o700))
			unix.Close(fd)
			top = filepath.Join(top, "d/d") // and a branch
			require.NoError(t, os.Rename(filepath.Join(top, "d"), filepath.Join(top, "e")))
		}
	}
	require.NoError(t, os.Mkdir(filepath.Join(state, rootDir), 0o700))
	var was syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was))
	few := was
	few.Cur = 300
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	defer func() { assert.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was)) }()
	require.NoError(t, removeGone(state))
	left, err := os.ReadDir(state)
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.Equal(t, rootDir, left[0].Name())
	assert.FileExists(t, outside)
	require.NoError(t, removeGone(state), "nothing is left")
}
