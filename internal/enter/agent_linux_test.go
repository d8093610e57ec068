package enter

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
	"jail/internal/wire"
)

func TestAgentPath(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer l.Close()
	file := filepath.Join(dir, "f")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for claim, c := range map[string]struct {
		env  []string
		want string
	}{
		"a socket of ours": {[]string{"SSH_AUTH_SOCK=" + socket}, socket},
		"no variable":      {nil, ""},
		"an empty one":     {[]string{"SSH_AUTH_SOCK="}, ""},
		"a regular file":   {[]string{"SSH_AUTH_SOCK=" + file}, ""},
		"nothing there":    {[]string{"SSH_AUTH_SOCK=" + socket + "x"}, ""},
		"a relative path":  {[]string{"SSH_AUTH_SOCK=s"}, ""},
		"an abstract name": {[]string{"SSH_AUTH_SOCK=@s"}, ""},
		"too long a path":  {[]string{"SSH_AUTH_SOCK=/" + string(make([]byte, 107))}, ""},
	} {
		assert.Equal(t, c.want, string(agentPath(c.env, nil)), claim)
	}
}

func TestOnlyAnAncestorAnswersForTheAgent(t *testing.T) {
	assert.True(t, isAncestor(os.Getppid()))
	assert.Equal(t, os.Getppid(), parentOf(os.Getpid()))
	assert.False(t, isAncestor(os.Getpid()))
	for _, pid := range []int{0, 1, -1} {
		assert.False(t, isAncestor(pid), "%d", pid)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket) // by this process, which is not its own ancestor
	require.NoError(t, err)
	defer l.Close()
	a := agent{path: []byte(socket)}
	assert.Equal(t, -1, a.dial())
}

func TestParent(t *testing.T) {
	for text, want := range map[string]int{
		"7 (sshd) S 12 7 7 0": 12, "7 (a) b) R) R 4194304 7": 4194304, "7 (x) S 99999999 1": 0,
		"": 0, "7 (x": 0, "7 (x) S": 0, "7 (x) S 1": 1, "7 (x)S 12": 0,
	} {
		assert.Equal(t, want, parseParent([]byte(text)), "%q", text)
	}
}

func TestListener(t *testing.T) {
	stream, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer stream.Close()
	packets, err := net.Listen("unixpacket", filepath.Join(t.TempDir(), "p"))
	require.NoError(t, err)
	defer packets.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer tcp.Close()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer sys.CloseAll(pair[:])
	fd := func(l interface{ File() (*os.File, error) }) int {
		f, err := l.File()
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return int(f.Fd())
	}
	assert.True(t, isListener(fd(stream.(*net.UnixListener))))
	assert.False(t, isListener(fd(packets.(*net.UnixListener))), "packets")
	assert.False(t, isListener(fd(tcp.(*net.TCPListener))), "tcp")
	assert.False(t, isListener(pair[0]), "a connected socket")
	null, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer null.Close()
	assert.False(t, isListener(int(null.Fd())), "no socket")
}

// TestOnlyWhatWasAskedForIsTaken has PID 1 send descriptors of its own choice.
func TestOnlyWhatWasAskedForIsTaken(t *testing.T) {
	listener := func() int {
		fd, err := sys.Stream()
		require.NoError(t, err)
		t.Cleanup(func() { sys.Close(fd) })
		require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: ""})) // any abstract name
		require.NoError(t, syscall.Listen(fd, 1))
		return fd
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer sys.CloseAll(pair[:])
	for claim, c := range map[string]struct {
		asked, flags uint16
		fds          []int
		want         bool
	}{
		"nothing":                      {0, 0, nil, true},
		"the agent's listener":         {wire.FlagAgent, wire.FlagAgentFD, []int{listener()}, true},
		"no agent is to be had":        {wire.FlagAgent, 0, nil, true},
		"a listener nobody asked for":  {0, wire.FlagAgentFD, []int{listener()}, false},
		"one that is not announced":    {wire.FlagAgent, 0, []int{listener()}, false},
		"one that is missing":          {wire.FlagAgent, wire.FlagAgentFD, nil, false},
		"one too many":                 {wire.FlagAgent, wire.FlagAgentFD, []int{listener(), listener()}, false},
		"a connection for a listener":  {wire.FlagAgent, wire.FlagAgentFD, []int{pair[0]}, false},
		"a terminal nobody asked for":  {0, 0, []int{pair[0]}, false},
		"a watch over standard error":  {0, wire.FlagWatch, nil, true},
		"a listener and a watch of it": {wire.FlagAgent, wire.FlagAgentFD | wire.FlagWatch, []int{listener()}, true},
	} {
		s := &session{agent: agent{listener: -1}, master: -1}
		s.req.Flags = c.asked
		assert.Equal(t, c.want, s.take(&wire.Started{PID: 1, Flags: c.flags}, c.fds), claim)
		assert.False(t, s.watch, "%s: without sshd nothing is watched", claim)
		assert.Equal(t, c.want && c.flags&wire.FlagAgentFD != 0, s.agent.listener >= 0, claim)
	}
}
