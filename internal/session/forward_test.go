package session

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

const (
	lentUID = 61001
	lentGID = 61002
)

// lending is a jail with places for what clients lend, and the directory they are in.
func lending(t *testing.T) (*Jail, string) {
	t.Helper()
	needs.Root(t, "files are given to a session's user")
	t.Chdir("/")                          // as PID 1 has it
	root, err := os.MkdirTemp("", "lend") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	require.NoError(t, os.Chmod(root, 0o755))
	place := func(name string) Place {
		path := filepath.Join(root, name)
		require.NoError(t, os.Mkdir(path, 0o755))
		fd, err := syscall.Open(path, syscall.O_DIRECTORY|syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { sys.Close(fd) })
		return Place{fd, path}
	}
	return &Jail{Agent: place("agents"), X11: place("displays"), Auth: place("auth"), Hostname: "here"}, root
}

// lent asks for all that a client can lend.
func lent(j *Jail, display string) *Started {
	st := &Started{Agent: -1}
	s := &Slot{Req: wire.Request{
		Flags:   wire.FlagAgent | wire.FlagX11 | wire.FlagAuthKnown,
		Display: []byte(display), Cookie: []byte("cookie"), Auth: [][]byte{cbytes("publickey ssh-ed25519 AAAA")},
	}}
	j.forward(s, &passwd.Entry{UID: lentUID, GID: lentGID}, st)
	return st
}

func mustStat(t *testing.T, path string) (st syscall.Stat_t) {
	t.Helper()
	require.NoError(t, syscall.Lstat(path, &st))
	return st
}

// TestLent: a session's agent, cookie and authentication are its user's alone, and go with
// it.
func TestLent(t *testing.T) {
	j, root := lending(t)
	st := lent(j, "localhost:10.0")
	require.Empty(t, st.Note)
	t.Cleanup(func() { sys.Close(st.Agent) })
	assert.Equal(t, 1, j.forwards)

	socket := filepath.Join(root, "agents", st.Forward.agent, "agent")
	info := mustStat(t, socket)
	assert.Equal(t, uint32(syscall.S_IFSOCK|0o600), info.Mode)
	assert.EqualValues(t, lentUID, info.Uid)
	info = mustStat(t, filepath.Dir(socket))
	assert.Equal(t, uint32(syscall.S_IFDIR|0o711), info.Mode)
	assert.Zero(t, info.Uid, "nothing but the socket can be in it")
	conn, err := net.Dial("unix", socket)
	require.NoError(t, err)
	conn.Close()

	file := filepath.Join(root, "displays", st.Forward.x11, "authority")
	info = mustStat(t, file)
	assert.Equal(t, uint32(syscall.S_IFREG|0o600), info.Mode)
	assert.EqualValues(t, lentUID, info.Uid)
	assert.EqualValues(t, lentGID, info.Gid)
	info = mustStat(t, filepath.Dir(file))
	assert.Equal(t, uint32(syscall.S_IFDIR|0o700), info.Mode)
	assert.EqualValues(t, lentUID, info.Uid)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	const rest = "\x00\x0210\x00\x12MIT-MAGIC-COOKIE-1\x00\x06cookie"
	assert.Equal(t, "\x01\x00\x00\x04here"+rest+"\xff\xff\x00\x00"+rest, string(text), "FamilyLocal, and FamilyWild (libXau)")

	info = mustStat(t, filepath.Join(root, "auth", st.Forward.auth))
	assert.Equal(t, uint32(0o600), info.Mode&0o7777)
	assert.EqualValues(t, lentUID, info.Uid)

	// What xauth(1) makes beside the file goes with it.
	require.NoError(t, os.WriteFile(file+"-n", nil, 0o600))
	require.NoError(t, os.Chown(file+"-n", lentUID, lentGID))
	f := st.Forward
	for range 2 {
		j.Remove(&f)
		assert.Zero(t, j.forwards, "once")
	}
	for _, place := range []string{"agents", "displays", "auth"} {
		left, err := os.ReadDir(filepath.Join(root, place))
		require.NoError(t, err)
		assert.Empty(t, left, place)
	}
}

// TestLentAmongHostilePeople: nothing outside a session's own places is made, given away or
// removed, whatever a root inside or the session's user puts there.
func TestLentAmongHostilePeople(t *testing.T) {
	j, root := lending(t)
	elsewhere := filepath.Join(root, "elsewhere")
	require.NoError(t, os.Mkdir(elsewhere, 0o755))
	for _, name := range []string{"agent", "authority"} {
		require.NoError(t, os.WriteFile(filepath.Join(elsewhere, name), nil, 0o600))
	}
	st := lent(j, "localhost:10.0")
	require.Empty(t, st.Note)
	t.Cleanup(func() { sys.Close(st.Agent) })
	for _, dir := range []string{filepath.Join(root, "agents", st.Forward.agent), filepath.Join(root, "displays", st.Forward.x11)} {
		require.NoError(t, os.Rename(dir, dir+".away"))
		require.NoError(t, os.Symlink(elsewhere, dir))
	}
	j.Remove(&st.Forward)
	for _, name := range []string{"agent", "authority"} {
		assert.FileExists(t, filepath.Join(elsewhere, name))
	}
	assert.Zero(t, j.forwards)

	// The names that come next are taken.
	for n := range 8 {
		for _, place := range []string{"agents", "displays", "auth"} {
			_ = os.Symlink(elsewhere, filepath.Join(root, place, string(rune('0'+n))))
		}
	}
	st = lent(j, "localhost:10.0")
	assert.NotEmpty(t, st.Note, "the session goes on without")
	assert.Equal(t, -1, st.Agent)
	left, err := os.ReadDir(elsewhere)
	require.NoError(t, err)
	assert.Len(t, left, 2)
	assert.Zero(t, mustStat(t, elsewhere).Uid)
	assert.Zero(t, j.forwards)
}

// TestNothingToLend: what cannot be had is noted, and there is a limit.
func TestNothingToLend(t *testing.T) {
	j, _ := lending(t)
	st := lent(j, "localhost:10.0; rm")
	assert.Contains(t, st.Note, "its name makes no sense")
	assert.Empty(t, st.Forward.x11)
	sys.Close(st.Agent)
	j.Remove(&st.Forward)

	j.X11.FD = -1
	st = lent(j, "localhost:10.0")
	assert.Empty(t, st.Note, "the registry says so")
	assert.Empty(t, st.Forward.x11)
	sys.Close(st.Agent)
	j.Remove(&st.Forward)

	j.forwards = maxForwards
	st = lent(j, "localhost:10.0")
	assert.Contains(t, st.Note, "as many as it can hold")
	assert.Equal(t, Forward{}, st.Forward)
	assert.Equal(t, maxForwards, j.forwards)
}
