package rootpath

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestReplace: a file below a root is replaced where it is, whole, and what links say leads nowhere else.
func TestReplace(t *testing.T) {
	path, fd := newRoot(t)
	tree := &Tree{Root: fd}
	outside := filepath.Join(filepath.Dir(path), "secret")
	file := filepath.Join(path, "etc/passwd")
	require.NoError(t, os.Chmod(file, 0o640|os.ModeSetuid))
	read := func(p string) string {
		text, err := os.ReadFile(p)
		require.NoError(t, err)
		return string(text)
	}
	open := func(p string) (*File, Stat) {
		f, err := tree.Walk("/", p, nil)
		require.NoError(t, err)
		_, st, err := f.Read(100)
		require.NoError(t, err)
		return f, st
	}

	f, st := open("/etc/passwd")
	require.NoError(t, f.Replace([]byte("new"), &st))
	assert.Equal(t, "new", read(file))
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o640), info.Mode(), "the mode, without the set-uid bit")
	assert.ErrorIs(t, f.Replace([]byte("newer"), &st), ErrChanged, "it is another file by now")
	f.Close()
	assert.Equal(t, "new", read(file))

	// Between the look and the writing, it becomes a link to a file of the host's.
	f, st = open("/etc/passwd")
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Symlink(outside, file))
	assert.ErrorIs(t, f.Replace([]byte("evil"), &st), ErrChanged)
	f.Close()
	// So does the file that is written first.
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.WriteFile(file, []byte("again"), 0o644))
	require.NoError(t, os.Symlink(outside, filepath.Join(path, "etc/.passwd.jail-new")))
	f, st = open("/etc/passwd")
	assert.NoError(t, f.Replace([]byte("good"), &st))
	f.Close()
	assert.Equal(t, "good", read(file))
	assert.Equal(t, secret, read(outside))
	entries, err := os.ReadDir(filepath.Join(path, "etc"))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing half-made is left")

	// The directory moves: the file goes with it, and stays below the root.
	f, st = open("/etc/passwd")
	require.NoError(t, os.Rename(filepath.Join(path, "etc"), filepath.Join(path, "moved")))
	require.NoError(t, os.Symlink(filepath.Dir(path), filepath.Join(path, "etc")))
	require.NoError(t, f.Replace([]byte("moved"), &st))
	f.Close()
	assert.Equal(t, "moved", read(filepath.Join(path, "moved/passwd")))
}

func TestWalkDir(t *testing.T) {
	path, fd := newRoot(t)
	tree := &Tree{Root: fd}
	require.NoError(t, os.Symlink("/../../..", filepath.Join(path, "up")))
	require.NoError(t, os.Symlink("/etc", filepath.Join(path, "link")))
	same := func(p, as string) {
		t.Helper()
		got, st, err := tree.WalkDir(p)
		require.NoError(t, err)
		unix.Close(got)
		var want Stat
		require.NoError(t, unix.Stat(as, &want))
		assert.Equal(t, want.Ino, st.Ino)
	}
	same("/up", path)
	same("/link", filepath.Join(path, "etc"))
	same("/up/link/..", path)
	for p, want := range map[string]error{"/etc/passwd": unix.ENOTDIR, "/nowhere": unix.ENOENT, "": unix.ENOENT, "/a\x00": unix.EINVAL} {
		_, _, err := tree.WalkDir(p)
		assert.ErrorIs(t, err, want, "%q", p)
	}
}

// TestMakePublic: a directory for everybody is one whatever umask root has, and so are those above it that
// had to be made.
func TestMakePublic(t *testing.T) {
	top := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(top, "own"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(top, "file"), nil, 0o600))
	defer unix.Umask(unix.Umask(0o077))
	for range 2 {
		require.NoError(t, MakePublic(filepath.Join(top, "own/a/b")))
	}
	for path, mode := range map[string]os.FileMode{"own": 0o700, "own/a": 0o755, "own/a/b": 0o755} {
		st, err := os.Stat(filepath.Join(top, path))
		require.NoError(t, err)
		assert.Equal(t, mode, st.Mode().Perm(), path)
	}
	assert.ErrorIs(t, MakePublic(filepath.Join(top, "file")), os.ErrExist)
	assert.Error(t, MakePublic(filepath.Join(top, "file/a")))
}
