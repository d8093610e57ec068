package launch_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/cgroup"
	"jail/internal/needs"
	"jail/internal/sys"
)

// pidsCgroup makes a cgroup in the hierarchy that has the pids controller here, of
// whichever version, and moves a process into it.
func pidsCgroup(t *testing.T, pid int) string {
	t.Helper()
	for _, base := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		dir := filepath.Join(base, "jail-test-"+strconv.Itoa(pid))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "pids.max")); err != nil {
			_ = os.Remove(dir)
			continue
		}
		root := filepath.Join(base, "cgroup.procs")
		t.Cleanup(func() { // the jail ends later
			assert.NoError(t, os.WriteFile(root, []byte(strconv.Itoa(pid)), 0))
			assert.NoError(t, os.Remove(dir))
		})
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
		return dir
	}
	// Every kernel this project runs on has the controller (Linux 4.3).
	needs.Machine(t, false, "no cgroup with a pids controller can be made here: mount one below /sys/fs/cgroup")
	return ""
}

func readCgroup(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return n
}

// A jail that has all the processes it may have refuses sessions, and its PID 1,
// whose runtime ends the program when it cannot start a thread, never wants one.
func TestFullJail(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		spec := newSpec(newRootfs(t), userns)
		j := mustStart(t, spec)
		dir := pidsCgroup(t, j.PID)
		threads := readCgroup(t, filepath.Join(dir, "pids.current"))
		assert.LessOrEqual(t, threads, cgroup.PID1Threads)
		assert.Greater(t, threads, 5, "more than can be busy at once")
		limit := filepath.Join(dir, "pids.max")
		require.NoError(t, os.WriteFile(limit, []byte(strconv.Itoa(threads)), 0))
		for range 300 {
			res := j.run("true")
			require.NoError(t, res.err)
			require.NotNil(t, res.refused)
			require.Equal(t, uint8(125), res.refused.Status)
			require.Contains(t, res.refused.Text, "as many processes as it may have")
		}
		assert.Equal(t, threads, readCgroup(t, filepath.Join(dir, "pids.current")), "no thread was wanted")
		require.NoError(t, os.WriteFile(limit, []byte("max"), 0))
		for range 20 {
			assert.Equal(t, "here\n", j.out("echo here"))
		}
		assert.Equal(t, threads, readCgroup(t, filepath.Join(dir, "pids.current")), "also not while there is room")
	})
}

// A session is not ended by those that begin after it, however old it is.
func TestOldSessionsLiveOn(t *testing.T) {
	j := mustStart(t, newSpec(newRootfs(t), true))
	conn, out := j.begin("echo here; sleep 1000")
	defer sys.Close(conn)
	defer sys.Close(out)
	var b [8]byte
	n, err := sys.Read(out, b[:])
	require.NoError(t, err)
	require.Equal(t, "here\n", string(b[:n]))
	// Longer than a child may take to execute.
	ended := []sys.PollFD{{FD: int32(out), Events: sys.PollIn}}
	n, err = sys.Poll(ended, 11_000)
	require.NoError(t, err)
	require.Zero(t, n)
	for range 20 {
		j.out("true")
	}
	n, err = sys.Poll(ended, 100)
	require.NoError(t, err)
	assert.Zero(t, n, "it has ended")
}

// TestWarnsOfJailsWithoutABound: who has a user namespace has the kernel's bound, so that
// only the others are told of, and by name.
func TestWarnsOfJailsWithoutABound(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		l := launcher(t)
		l.WithoutCgroups()
		assert.NotContains(t, strings.Join(l.Warnings(), "\n"), "no limit on")
		j, err := startWith(t, l, newSpec(newRootfs(t), userns))
		require.NoError(t, err)
		assert.Equal(t, !userns, strings.Contains(j.Warning, "no limit on their processes"), j.Warning)
	})
}
