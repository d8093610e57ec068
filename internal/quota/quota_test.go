package quota

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/sys"
)

const shortWait = 10 * time.Second

// newXFS is a file system whose files have projects, which xfs gives them also where the
// kernel counts none.
func newXFS(t *testing.T) string {
	t.Helper()
	needs.Root(t, "it mounts a file system")
	mkfs := needs.Program(t, "/usr/sbin/mkfs.xfs")
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 400<<20))
	require.NoError(t, os.Mkdir(at, 0o755))
	for _, argv := range [][]string{{mkfs, "-q", image}, {"mount", "-t", "xfs", "-o", "loop", image, at}} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(at, 0)) })
	return at
}

func opened(t *testing.T, path string) int {
	t.Helper()
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	return fd
}

// TestGive: all that is in a directory gets its project, and nothing that it only leads to.
func TestGive(t *testing.T) {
	at := newXFS(t)
	dir, outside := filepath.Join(at, "dir"), filepath.Join(at, "outside")
	other := filepath.Join(dir, "sub/other")
	require.NoError(t, os.MkdirAll(other, 0o755))
	require.NoError(t, os.Mkdir(outside, 0o755))
	for _, f := range []string{outside + "/file", dir + "/file", dir + "/sub/file"} {
		require.NoError(t, os.WriteFile(f, nil, 0o400))
	}
	require.NoError(t, os.Symlink("../outside/file", dir+"/link"))
	require.NoError(t, os.Symlink("../outside", dir+"/linked"))
	require.NoError(t, syscall.Mkfifo(dir+"/fifo", 0o644))
	require.NoError(t, syscall.Mount(outside, other, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(other, 0)) })
	fd := opened(t, dir)
	own, err := projectOf(fd)
	require.NoError(t, err)
	require.NoError(t, give(fd, own, 0))
	require.NoError(t, give(fd, own, 0), "again")
	for path, want := range map[string]sys.FSXAttr{
		dir: {Project: own, XFlags: sys.ProjectInherit}, dir + "/sub": {Project: own, XFlags: sys.ProjectInherit},
		dir + "/file": {Project: own}, dir + "/sub/file": {Project: own}, outside: {}, outside + "/file": {},
	} {
		x, err := sys.GetFSXAttr(opened(t, path))
		require.NoError(t, err)
		assert.Equal(t, want, sys.FSXAttr{Project: x.Project, XFlags: x.XFlags & sys.ProjectInherit}, path)
	}
	// What is made there has it by itself.
	require.NoError(t, os.WriteFile(dir+"/sub/new", nil, 0o400))
	x, err := sys.GetFSXAttr(opened(t, dir+"/sub/new"))
	require.NoError(t, err)
	assert.Equal(t, own, x.Project)

	require.NoError(t, os.MkdirAll(filepath.Join(outside, strings.Repeat("d/", maxDeep+1)), 0o755))
	assert.ErrorContains(t, give(opened(t, outside), own+1, 0), "more than 500 directories are in one another")
	assert.ErrorIs(t, Bound(fd, Limit{Files: 1}), ErrNotKept, "xfs without pquota counts nothing")
	assert.NoError(t, Bound(fd, Limit{}))
	is, err := Look(dir, shortWait)
	assert.NoError(t, err)
	assert.False(t, is.Kept)
	_, err = Look(dir+"/linked", shortWait)
	assert.ErrorIs(t, err, syscall.ELOOP)
}

// TestLookAtWhatIsNotThere: a directory that a start will make is on the file system of the
// one above, and holds nothing of what that holds.
func TestLookAtWhatIsNotThere(t *testing.T) {
	at := newXFS(t)
	fd := opened(t, at)
	own, err := projectOf(fd)
	require.NoError(t, err)
	require.NoError(t, give(fd, own, 0))
	for _, missing := range []string{at + "/state", at + "/states/state"} {
		is, err := Look(missing, shortWait)
		require.NoError(t, err)
		assert.Equal(t, Looked{Kept: kept(fd)}, is, missing)
	}
	require.NoError(t, os.Symlink("/", at+"/link"))
	_, err = Look(at+"/link/none", shortWait)
	assert.ErrorContains(t, err, at+"/link")
}
