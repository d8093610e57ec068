package fdsock

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/sys"
)

// TestWhoListens: it is seen without a connection, which a supervisor would take for a
// login, and by the file, not by a name that anybody can give to a socket.
func TestWhoListens(t *testing.T) {
	run, err := os.MkdirTemp("/tmp", "jf")
	require.NoError(t, err)
	defer os.RemoveAll(run)
	require.NoError(t, PrepareDir(run))
	uid := jail.HostUID(os.Geteuid())
	path := LoginPath(run, uid)
	listens := func() bool {
		t.Helper()
		_, on, err := Listens(run, []jail.HostUID{uid})
		require.NoError(t, err)
		deaf, err := Deaf(run, []jail.HostUID{uid})
		require.NoError(t, err)
		assert.Equal(t, on, len(deaf) == 0)
		return on
	}
	assert.False(t, listens(), "no socket")
	fd, err := ListenLogin(run, uid)
	require.NoError(t, err)
	assert.True(t, listens())
	waits, err := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}, 0)
	require.NoError(t, err)
	assert.Zero(t, waits, "nobody has connected")
	sys.Close(fd)
	assert.False(t, listens(), "the file alone does not")

	// The same name, but not the same file.
	require.NoError(t, os.Rename(path, path+".dead"))
	other, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET, 0)
	require.NoError(t, err)
	defer sys.Close(other)
	require.NoError(t, syscall.Bind(other, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(other, 1))
	require.NoError(t, os.Rename(path+".dead", path))
	assert.False(t, listens())
}

// TestLeftSockets: what goes with a jail is what it listened on, whatever it is called.
func TestLeftSockets(t *testing.T) {
	run, err := os.MkdirTemp("/tmp", "jf")
	require.NoError(t, err)
	defer os.RemoveAll(run)
	require.NoError(t, PrepareDir(run))
	needs.Root(t, "sockets of several uids")
	listen := func(uid jail.HostUID) int {
		t.Helper()
		fd, err := ListenLogin(run, uid)
		require.NoError(t, err)
		return fd
	}
	gone, stays, replaced, before := listen(61001), listen(61002), listen(61003), listen(61004)
	sys.Close(before)
	ctl, err := ListenControl(run, "u61002")
	require.NoError(t, err)
	l, err := Sockets(run)
	require.NoError(t, err)
	sys.CloseAll([]int{gone, replaced, ctl})
	again := listen(61003)
	l.RemoveDead()
	sys.CloseAll([]int{again, stays})
	for path, there := range map[string]bool{
		filepath.Dir(LoginPath(run, 61001)): false,
		LoginPath(run, 61002):               true,
		LoginPath(run, 61003):               true,
		LoginPath(run, 61004):               true,
		ControlPath(run, "u61002"):          false,
	} {
		_, err := os.Lstat(path)
		assert.Equal(t, there, err == nil, path)
	}
}
