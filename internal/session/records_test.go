package session

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// recorded is a record of wtmp in words.
func recorded(b []byte) string {
	text := func(b []byte) string { return strings.TrimRight(string(b), "\x00") }
	return fmt.Sprintf("%d %s %s %s %s", binary.NativeEndian.Uint16(b), text(b[8:40]), text(b[40:44]), text(b[44:76]), text(b[76:332]))
}

// TestLoginRecords: a login on a terminal is in wtmp and lastlog of the jail, where they
// are files of root's; whatever else is in their place is left alone.
func TestLoginRecords(t *testing.T) {
	tty := [3]wire.Stdio{wire.StdioTTY, wire.StdioTTY, wire.StdioTTY}
	session := func(j *Jail, from string) {
		t.Helper()
		r := wire.Request{Stdio: tty, Args: [][]byte{cbytes("-c"), cbytes("true")}}
		if from != "" {
			r.Env = [][]byte{cbytes("SSH_CONNECTION=" + from)}
		}
		ws, _, refusal := started(t, j, r)
		require.Nil(t, refusal)
		require.Zero(t, ws)
	}
	read := func(root, name string) []byte {
		b, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		return b
	}
	inside := func(files map[string]string) (*Jail, string) {
		j := inHost(t, files)
		root, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", j.Root))
		require.NoError(t, err)
		return j, root
	}
	uid := os.Getuid()
	if uid >= 1000 {
		t.Log("lastlog of a large uid is sparse")
	}
	t.Run("a login", func(t *testing.T) {
		j, root := inside(map[string]string{wtmpFile: "", lastlogFile: ""})
		begin := time.Now().Unix()
		session(j, "2001:db8::1 5 6.7.8.9 22")
		b := read(root, wtmpFile)
		require.Len(t, b, utmpSize)
		assert.Regexp(t, `^7 pts/\d+ \S{1,4} me 2001:db8::1$`, recorded(b))
		assert.NotZero(t, binary.NativeEndian.Uint32(b[utmpPID:]))
		assert.InDelta(t, begin, binary.NativeEndian.Uint32(b[340:]), 60)
		b = read(root, lastlogFile)
		require.Len(t, b, (uid+1)*lastlogSize)
		assert.Equal(t, "2001:db8::1", strings.TrimRight(string(b[uid*lastlogSize+36:]), "\x00"))

		child := j.Logout(Login{Line: "pts/77", PID: 4711})
		require.NotNil(t, child)
		root2 := [2]byte{'/'}
		child.Path, child.Argv, child.Envp = &root2[0], []*byte{&root2[0], nil}, []*byte{nil}
		pid, pidfd, err := sys.Fork(child)
		require.NoError(t, err)
		defer sys.Close(pidfd)
		_, err = syscall.Wait4(pid, nil, 0, nil)
		require.NoError(t, err)
		b = read(root, wtmpFile)
		require.Len(t, b, 2*utmpSize)
		assert.Equal(t, "8 pts/77 s/77  ", recorded(b[utmpSize:]))
		assert.EqualValues(t, 4711, binary.NativeEndian.Uint32(b[utmpSize+utmpPID:]))
	})
	t.Run("what a client makes of its address", func(t *testing.T) {
		j, root := inside(map[string]string{wtmpFile: ""})
		session(j, "1.2.3.4\x1b[2J 5")
		session(j, strings.Repeat("1", 1000))
		b := read(root, wtmpFile)
		require.Len(t, b, 2*utmpSize)
		assert.Regexp(t, ` me 1\.2\.3\.4$`, recorded(b))
		assert.Len(t, strings.Fields(recorded(b[utmpSize:]))[4], 255)
	})
	t.Run("no login", func(t *testing.T) {
		j, root := inside(map[string]string{wtmpFile: "", lastlogFile: ""})
		session(j, "")
		assert.Empty(t, read(root, wtmpFile))
		assert.Empty(t, read(root, lastlogFile))
		assert.Nil(t, j.Logout(Login{PID: 7}))
	})
	t.Run("none is made", func(t *testing.T) {
		j, root := inside(map[string]string{"var/log/": ""})
		session(j, "1.2.3.4 5 6.7.8.9 22")
		d, err := os.ReadDir(filepath.Join(root, "var/log"))
		require.NoError(t, err)
		assert.Empty(t, d)
		assert.Nil(t, j.Logout(Login{Line: "pts/7"}))
	})
	for claim, make := range map[string]func(path, victim string) error{
		"a link":                func(path, victim string) error { return os.Symlink(victim, path) },
		"a link inside":         func(path, _ string) error { return os.Symlink("../../etc/victim", path) },
		"another name of it":    func(path, _ string) error { return os.Link(filepath.Dir(path)+"/../../etc/victim", path) },
		"a FIFO":                func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory":           func(path, _ string) error { return os.Mkdir(path, 0o755) },
		"a file of somebody's ": func(path, _ string) error { _ = os.WriteFile(path, nil, 0o666); return os.Chown(path, 4242, 4242) },
	} {
		t.Run(claim, func(t *testing.T) {
			if strings.HasPrefix(claim, "a file of") {
				needs.Root(t, "it gives a file away")
			}
			j, root := inside(map[string]string{"var/log/": "", "etc/victim": ""})
			victim := filepath.Join(t.TempDir(), "victim")
			require.NoError(t, os.WriteFile(victim, nil, 0o600))
			for _, name := range []string{wtmpFile, lastlogFile} {
				require.NoError(t, make(filepath.Join(root, name), victim))
			}
			session(j, "1.2.3.4 5 6.7.8.9 22")
			assert.Empty(t, read(root, "etc/victim"))
			b, err := os.ReadFile(victim)
			require.NoError(t, err)
			assert.Empty(t, b)
			if st, err := os.Lstat(filepath.Join(root, wtmpFile)); assert.NoError(t, err) && st.Mode().IsRegular() {
				assert.Zero(t, st.Size())
			}
		})
	}
}
