package fdsock

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/environ"
	"jail/internal/jail"
	"jail/internal/sys"
)

// TestDisplayDirectory: what a login has put into its directory is not waited for.
func TestDisplayDirectory(t *testing.T) {
	run, err := os.MkdirTemp("/tmp", "jf")
	require.NoError(t, err)
	defer os.RemoveAll(run)
	uid := jail.HostUID(os.Geteuid())
	require.NoError(t, SetX11(run, uid, false), "nothing to remove")
	dir := filepath.Dir(X11Path(run, uid))
	names := func() (names []string) {
		entries, err := os.ReadDir(run)
		require.NoError(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	only := []string{filepath.Base(filepath.Dir(LoginPath(run, uid)))}
	for range 2 {
		require.NoError(t, SetX11(run, uid, true))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "authority"), nil, 0o600))
		require.NoError(t, SetX11(run, uid, false))
		assert.NoDirExists(t, dir)
	}
	assert.Eventually(t, func() bool { return assert.ObjectsAreEqual(only, names()) }, 20*time.Second, time.Millisecond)
	require.NoError(t, os.MkdirAll(filepath.Join(run, gonePrefix+"1", "x11"), 0o700))
	Sweep(run)
	assert.Eventually(t, func() bool { return assert.ObjectsAreEqual(only, names()) }, 20*time.Second, time.Millisecond)
}

// TestRemovedAtTheEnd: a program that ends leaves nothing half removed, and does not wait
// for what cannot be removed.
func TestRemovedAtTheEnd(t *testing.T) {
	run := t.TempDir()
	uid := jail.HostUID(os.Geteuid())
	require.NoError(t, SetX11(run, uid, true))
	calls, _, err := OpenCalls(run, uid, sys.RefuseRights)
	require.NoError(t, err)
	sys.Close(calls) // as by a program that was killed
	for i := range 2000 {
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(X11Path(run, uid)), strconv.Itoa(i)), nil, 0o600))
	}
	RemoveDir(LoginPath(run, uid))
	Settled()
	left, err := os.ReadDir(run)
	require.NoError(t, err)
	assert.Empty(t, left)

	unsettled.Add(1)
	defer unsettled.Add(-1)
	Settled()
}

func TestAcceptFile(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	run, err := os.MkdirTemp("/tmp", "jf")
	require.NoError(t, err)
	defer os.RemoveAll(run)
	uid := jail.HostUID(os.Geteuid())
	path := filepath.Join(filepath.Dir(LoginPath(run, uid)), environ.AcceptFile)

	require.NoError(t, WriteAccept(run, uid, "", nil))
	assert.NoDirExists(t, filepath.Dir(path), "nothing to say, nothing made")
	require.NoError(t, WriteAccept(run, uid, "", []string{"FOO", "BAR_*"}))
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
	require.NoError(t, WriteAccept(run, uid, "", []string{"NEW"}))
	text, _ = os.ReadFile(path)
	assert.Equal(t, "NEW\n", string(text))
	require.NoError(t, WriteAccept(run, uid, "", nil))
	assert.NoFileExists(t, path)
	require.NoError(t, WriteAccept(run, uid, "", []string{"FOO"}))
	RemoveDir(LoginPath(run, uid))
	assert.FileExists(t, path, "there is a socket")
	Remove(LoginPath(run, uid), fd)
	assert.NoDirExists(t, filepath.Dir(path), "it goes with the socket")
}
