package fdsock

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/environ"
	"jail/internal/jail"
	"jail/internal/sys"
)

func TestAcceptFile(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	run, err := os.MkdirTemp("/tmp", "jf")
	require.NoError(t, err)
	defer os.RemoveAll(run)
	uid := jail.HostUID(os.Geteuid())
	path := filepath.Join(filepath.Dir(LoginPath(run, uid)), environ.AcceptFile)

	require.NoError(t, WriteAccept(run, uid, nil))
	assert.NoDirExists(t, filepath.Dir(path), "nothing to say, nothing made")
	require.NoError(t, WriteAccept(run, uid, []string{"FOO", "BAR_*"}))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "FOO\nBAR_*\n", string(text))
	st, err := os.Stat(path)
	require.NoError(t, err)
	assert.EqualValues(t, 0o644, st.Mode().Perm(), "whatever the umask is")
	dir, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	assert.EqualValues(t, 0o711, dir.Mode().Perm())

	fd, err := ListenLogin(run, uid)
	require.NoError(t, err)
	defer sys.Close(fd)
	require.NoError(t, WriteAccept(run, uid, []string{"NEW"}))
	text, _ = os.ReadFile(path)
	assert.Equal(t, "NEW\n", string(text))
	require.NoError(t, WriteAccept(run, uid, nil))
	assert.NoFileExists(t, path)
	require.NoError(t, WriteAccept(run, uid, []string{"FOO"}))
	RemoveDir(LoginPath(run, uid))
	assert.FileExists(t, path, "there is a socket")
	Remove(LoginPath(run, uid), fd)
	assert.NoDirExists(t, filepath.Dir(path), "it goes with the socket")
}
