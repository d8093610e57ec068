package enter

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/environ"
)

// TestFromSSHD tells sshd's environment from that of a su in a shell of root's,
// which root may have reached through sshd as well.
func TestFromSSHD(t *testing.T) {
	const connection = "SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22"
	for claim, c := range map[string]struct {
		in   invocation
		env  []string
		want bool
	}{
		"ForceCommand":                    {invocation{forced: true, login: true}, []string{"PWD=/"}, true},
		"a login shell of sshd's":         {invocation{login: true}, []string{connection}, true},
		"a command of sshd's":             {invocation{args: []string{"-c", "x"}}, []string{"USER=x", connection}, true},
		"su - has no SSH_CONNECTION":      {invocation{login: true}, []string{"HOME=/"}, false},
		"su in a shell that sshd started": {invocation{}, []string{connection, "PWD=/root"}, false},
		"su -c in such a shell":           {invocation{args: []string{"-c", "x"}}, []string{"SHLVL=1", connection}, false},
		"sudo that keeps the variable":    {invocation{login: true}, []string{connection, "SUDO_USER=admin"}, false},
		"arguments sshd does not give":    {invocation{args: []string{"-c", "x", "y"}}, []string{connection}, false},
		"a name that only begins like it": {invocation{login: true}, []string{"SSH_CONNECTIONS=x"}, false},
	} {
		assert.Equal(t, c.want, c.in.fromSSHD(c.env), claim)
	}
}

func TestReadAccept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, environ.AcceptFile)
	readAccept := func(path string) []string {
		return environ.Patterns(nil, readAccept([]byte(path+"\x00"), make([]byte, environ.MaxAcceptFile+1)))
	}
	assert.Empty(t, readAccept(path), "no file")
	put := func(text string, mode os.FileMode) {
		_ = os.Remove(path)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chmod(path, mode))
	}
	put("FOO\nBAR_*\n", 0o644)
	assert.Equal(t, []string{"FOO", "BAR_*"}, readAccept(path))
	put("FOO\n", 0o646)
	assert.Empty(t, readAccept(path), "everybody's")
	put(strings.Repeat("A", environ.MaxAcceptFile)+"\n", 0o644)
	assert.Empty(t, readAccept(path), "too long")
	if os.Geteuid() == 0 {
		put("FOO\n", 0o644)
		require.NoError(t, os.Chown(path, 12345, 0))
		assert.Empty(t, readAccept(path), "somebody else's")
	}
	require.NoError(t, os.Rename(path, path+".old"))
	require.NoError(t, os.Symlink(path+".old", path))
	assert.Empty(t, readAccept(path), "a link")
	require.NoError(t, os.Remove(path))
	require.NoError(t, syscall.Mkfifo(path, 0o644))
	assert.Empty(t, readAccept(path), "a FIFO is not waited for")

	require.NoError(t, os.Mkdir(filepath.Join(dir, strconv.Itoa(os.Getuid())), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, strconv.Itoa(os.Getuid()), environ.AcceptFile), []byte("FOO\n"), 0o644))
	s := &session{in: invocation{runtimeDir: dir, forced: true}, ttyFD: -1}
	assert.Equal(t, []string{"FOO"}, s.accept(nil))
	s.in.forced = false
	assert.Empty(t, s.accept(nil), "not for a su")

	for _, c := range []struct {
		claim, text           string
		forced                bool
		tty                   int
		wanted, input, accept bool
	}{
		{"a login on a terminal", environ.RecordOutput + "FOO\n", true, 0, true, false, true},
		{"a su on one", environ.RecordOutput + "FOO\n", false, 0, true, false, false},
		{"what is typed, too", environ.RecordInput, true, 2, true, true, false},
		{"without a terminal", environ.RecordInput + "FOO\n", true, -1, false, true, true},
		{"not to be recorded", "FOO\n", true, 0, false, false, true},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, strconv.Itoa(os.Getuid()), environ.AcceptFile), []byte(c.text), 0o644))
		s := &session{in: invocation{runtimeDir: dir, forced: c.forced}, ttyFD: c.tty}
		assert.Equal(t, c.accept, len(s.accept(nil)) > 0, c.claim)
		assert.Equal(t, c.wanted, s.recorder.wanted, c.claim)
		assert.Equal(t, c.input, s.recorder.input, c.claim)
	}
}
