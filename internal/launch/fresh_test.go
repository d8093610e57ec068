package launch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

// TestFreshDirectories: what was in /run and /tmp is not seen by a jail that starts, the
// directories that packages have made in them are, and what the jail writes there is not in
// the root file system.
func TestFreshDirectories(t *testing.T) {
	needRoot(t)
	bothModes(t, func(t *testing.T, userns bool) {
		root := newRootfs(t)
		run := filepath.Join(root, "run")
		require.NoError(t, os.MkdirAll(filepath.Join(run, "lock/deep"), 0o755))
		require.NoError(t, os.Mkdir(filepath.Join(run, "web"), 0o700))
		require.NoError(t, os.Chown(filepath.Join(run, "web"), jailUID, 700))
		require.NoError(t, os.Chmod(filepath.Join(run, "lock"), os.ModeSticky|0o777))
		for _, left := range []string{"run/crond.reboot", "run/lock/left", "tmp/left"} {
			require.NoError(t, os.WriteFile(filepath.Join(root, left), nil, 0o644))
		}
		require.NoError(t, os.Symlink("/etc", filepath.Join(run, "link")))
		spec := newSpec(root, userns)
		spec.Fresh = wire.FreshRun | wire.FreshTmp
		j := mustStart(t, spec)
		assert.Empty(t, j.notes())
		assert.Equal(t, "lock\nweb\n", j.out("ls -A /run /run/lock /run/web /tmp | grep -v -e : -e ^$"))
		assert.Equal(t, "1777 0 0 /run/lock\n700 1234 700 /run/web\n755 0 0 /run\n1777 0 0 /tmp\n", j.out("stat -c '%a %u %g %n' /run/lock /run/web /run /tmp"))
		assert.Contains(t, j.out("grep ' /tmp ' /proc/self/mountinfo"), "nosuid,nodev")
		j.out("echo x >/tmp/mine; echo y >/run/web/mine")
		assert.NoFileExists(t, filepath.Join(root, "tmp/mine"))
		assert.NoFileExists(t, filepath.Join(root, "run/web/mine"))
	})
}

// TestFreshDirectoryThatIsALink: what is behind a link is left alone, and the jail starts.
func TestFreshDirectoryThatIsALink(t *testing.T) {
	needRoot(t)
	root := newRootfs(t)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "var/run"), 0o755))
	require.NoError(t, os.Symlink("/var/run", filepath.Join(root, "run")))
	spec := newSpec(root, true)
	spec.Fresh = wire.FreshRun
	j := mustStart(t, spec)
	assert.Equal(t, []string{"/run is not empty at each start: it is or contains a symbolic link, where a directory must be"}, j.notes())
	assert.NotContains(t, j.out("cat /proc/self/mountinfo"), " /var/run ")
}

// TestFreshDirectoryWithoutEnd: a root file system cannot make a start take long.
func TestFreshDirectoryWithoutEnd(t *testing.T) {
	needRoot(t)
	root := newRootfs(t)
	for i := range 70 {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "run", fmt.Sprint("d", i)), 0o755))
	}
	spec := newSpec(root, true)
	spec.Fresh = wire.FreshRun
	j := mustStart(t, spec)
	assert.Equal(t, []string{"/run has not all of its directories: there are more than 64"}, j.notes())
	assert.Equal(t, "64\n", j.out("ls /run | wc -l"))
}
