package launch

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
)

// A launcher that opens the program as its descriptor 3 would have no start of a jail
// come to anything: that number is the child's socket by then.
func TestAboveFirst(t *testing.T) {
	var st, was syscall.Stat_t
	f, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer f.Close()
	fd, err := sys.Fcntl(int(f.Fd()), syscall.F_DUPFD_CLOEXEC, 10)
	require.NoError(t, err)
	defer sys.Close(fd)
	same, err := aboveFirst(fd)
	require.NoError(t, err)
	assert.Equal(t, fd, same)

	kept, err := sys.Fcntl(0, syscall.F_DUPFD_CLOEXEC, 4)
	require.NoError(t, err)
	defer func() {
		require.NoError(t, sys.Dup2(kept, 0))
		sys.Close(kept)
	}()
	require.NoError(t, sys.Dup2(fd, 0))
	n, err := aboveFirst(0)
	require.NoError(t, err)
	defer sys.Close(n)
	assert.Greater(t, n, 3)
	require.NoError(t, syscall.Fstat(n, &st))
	require.NoError(t, syscall.Fstat(fd, &was))
	assert.Equal(t, was.Ino, st.Ino)
	assert.Equal(t, syscall.EBADF, syscall.Fstat(0, &st), "the low number is free")

	c := sys.NewChild()
	c.ExecFD = 3
	_, _, err = sys.Fork(c)
	assert.Equal(t, syscall.EBADF, err)
}
