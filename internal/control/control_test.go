package control

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRemains asks for what is below a process, whose name its owner chooses to
// mislead.
func TestRemains(t *testing.T) {
	assert.Equal(t, "a process in it cannot be killed: probably waiting for a file system or device that does not answer", Remains(1<<30))

	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "a) S 1\n\x1b(")
	require.NoError(t, os.Symlink(sleep, name))
	cmd := exec.Command("sh", "-c", `(exec "$0" 1000) & echo $!; read -r _; kill $!; wait`, name)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		in.Close()
		assert.NoError(t, cmd.Wait())
	}()
	var pid int
	_, err = fmt.Fscan(bufio.NewReader(out), &pid)
	require.NoError(t, err)
	want := fmt.Sprintf(`process %d ("a) S 1\n\x1b(", state S) cannot be killed: probably waiting for a file system or device that does not answer`, pid)
	assert.Eventually(t, func() bool { return Remains(cmd.Process.Pid) == want }, 10*time.Second, 10*time.Millisecond, "%s", want)
	assert.False(t, Exiting(pid))
	assert.Contains(t, Remains(os.Getpid()), fmt.Sprintf(`processes %d ("sh", state S), %d (`, cmd.Process.Pid, pid))
}

func TestExiting(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	assert.False(t, Exiting(cmd.Process.Pid))
	require.NoError(t, in.Close())
	assert.Eventually(t, func() bool { return Exiting(cmd.Process.Pid) }, 10*time.Second, 10*time.Millisecond, "not waited for yet")
	require.NoError(t, cmd.Wait())
}

// FuzzStat: a process of a jail has any name, and is what it is all the same.
func FuzzStat(f *testing.F) {
	text, err := os.ReadFile("/proc/self/stat")
	require.NoError(f, err)
	f.Add("x", string(text))
	f.Add(") Z 1 1 1 0 -1 4 (", "1 (a) S 1")
	f.Add("a\nb", "")
	f.Fuzz(func(t *testing.T, name, text string) {
		_, _ = parseStat(1, text)
		p, ok := parseStat(7, "7 ("+name+") R 3 7 7 0 -1 4194308 1 2 3")
		require.True(t, ok)
		require.Equal(t, process{pid: 7, comm: name, state: "R", parent: 3, exiting: true}, p)
	})
}
