package fdsock

import (
	"os"
	"path/filepath"
	"strings"
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

// TestWhatIsThereBefore: what somebody has put where sockets are to be is refused or
// replaced, and leads nowhere else.
func TestWhatIsThereBefore(t *testing.T) {
	needs.Root(t, "directories of another uid")
	base, err := os.MkdirTemp("/tmp", "jf")
	require.NoError(t, err)
	defer os.RemoveAll(base)
	run, elsewhere := filepath.Join(base, "run"), filepath.Join(base, "elsewhere")
	require.NoError(t, PrepareDir(run))
	require.NoError(t, os.Mkdir(elsewhere, 0o700))
	for uid, put := range map[jail.HostUID]func(dir string) error{
		61001: func(dir string) error { return os.Symlink(elsewhere, dir) },
		61002: func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		61003: func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chown(dir, 61003, 61003)
		},
	} {
		require.NoError(t, put(filepath.Dir(LoginPath(run, uid))))
		_, err := ListenLogin(run, uid)
		assert.ErrorContains(t, err, "must be a directory owned by uid 0; remove what is there")
	}
	// A link in the place of the socket itself, and of the name it is made under.
	path := LoginPath(run, 61004)
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o711))
	for _, name := range []string{path, filepath.Join(filepath.Dir(path), ".sock.new")} {
		require.NoError(t, os.Symlink(filepath.Join(elsewhere, "sock"), name))
	}
	fd, err := ListenLogin(run, 61004)
	require.NoError(t, err)
	defer sys.Close(fd)
	assert.True(t, Bound(path, fd))
	left, err := os.ReadDir(elsewhere)
	require.NoError(t, err)
	assert.Empty(t, left)

	// The runtime directory leaves room for every name of a jail.
	const longest = "/ctl/12345678901234567890123456789012..new"
	for _, more := range []int{0, 1} {
		dir := base + "/" + strings.Repeat("r", maxPath-len(longest)-len(base)-1+more)
		err := PrepareDir(dir)
		if more > 0 {
			assert.ErrorContains(t, err, "too long for the sockets in it")
			continue
		}
		require.NoError(t, err)
		fd, err := ListenControl(dir, "12345678901234567890123456789012")
		require.NoError(t, err)
		sys.Close(fd)
	}
}
