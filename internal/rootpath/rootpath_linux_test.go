package rootpath

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/needs"
)

// a root directory with a secret beside it that must never be read.
const secret = "host secret"

func newRoot(t *testing.T) (path string, fd int) {
	t.Helper()
	top := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(top, "secret"), []byte(secret), 0o644))
	path = filepath.Join(top, "root")
	require.NoError(t, os.MkdirAll(filepath.Join(path, "etc"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(path, "etc/passwd"), []byte("inside"), 0o644))
	fd, err := OpenDir(path, unix.O_PATH)
	require.NoError(t, err)
	before := openFDs(t)
	t.Cleanup(func() {
		assert.Equal(t, before, openFDs(t), "descriptors left behind")
		unix.Close(fd)
	})
	return path, fd
}

func openFDs(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	n := 0
	for _, e := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if target != "anon_inode:[eventpoll]" && target != "anon_inode:[eventfd]" {
			n++
		}
	}
	return n
}

// promptly ends the test should f wait for something. The time is a guard, long enough for
// any machine; what f must not do would last for ever.
func promptly(t *testing.T, f func()) {
	t.Helper()
	guard := time.AfterFunc(10*time.Second, func() { panic(t.Name() + " waits") })
	defer guard.Stop()
	f()
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	require.NoError(t, os.Symlink(target, path))
}

func TestReadFileStaysBelowTheRoot(t *testing.T) {
	for name, test := range map[string]struct {
		link    string // text of the symlinks "x" and "etc/x", read through "path"
		path    string
		want    string
		wantErr error
	}{
		"a plain file is read":                                {"", "etc/passwd", "inside", nil},
		"an absolute path starts at the root":                 {"", "/etc/passwd", "inside", nil},
		"dot-dot stops at the root":                           {"", "../../../../etc/passwd", "inside", nil},
		"an absolute symlink is resolved inside":              {"/etc/passwd", "x", "inside", nil},
		"an absolute symlink in a directory as well":          {"/etc/passwd", "etc/x", "inside", nil},
		"a relative symlink begins where it is":               {"passwd", "etc/x", "inside", nil},
		"a relative symlink above the root stays inside":      {"../../../../../etc/passwd", "x", "inside", nil},
		"a directory symlink above the root stays inside":     {"../../..", "x/etc/passwd", "inside", nil},
		"a symlink to a host file finds nothing":              {"/etc/shadow", "x", "", unix.ENOENT},
		"dot-dot to a host file beside the root":              {"../secret", "x", "", unix.ENOENT},
		"a symlink to itself ends":                            {"x", "x", "", unix.ELOOP},
		"a missing file is told as missing":                   {"", "etc/group", "", unix.ENOENT},
		"a file used as a directory is told as such":          {"", "etc/passwd/x", "", unix.ENOTDIR},
		"a directory is not a file":                           {"", "etc", "", ErrNotRegular},
		"an empty path is nothing":                            {"", "", "", unix.ENOENT},
		"a NUL does not cut the path":                         {"", "etc/passwd\x00.keys", "", unix.EINVAL},
		"a path beyond PATH_MAX is refused":                   {"", string(make([]byte, 5000)), "", unix.ENAMETOOLONG},
		"a name beyond NAME_MAX is refused":                   {"", "etc/" + longName, "", unix.ENAMETOOLONG},
		"a symlink into /proc finds nothing without a procfs": {"/proc/self/root/etc/passwd", "x", "", unix.ENOENT},
	} {
		t.Run(name, func(t *testing.T) {
			root, fd := newRoot(t)
			if test.link != "" {
				symlink(t, test.link, filepath.Join(root, "x"))
				symlink(t, test.link, filepath.Join(root, "etc/x"))
			}
			data, _, err := (&Tree{Root: fd}).ReadFile(test.path, 100)
			assert.ErrorIs(t, err, test.wantErr)
			assert.Equal(t, test.want, string(data))
		})
	}
}

var longName = func() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = 'a'
	}
	return string(b)
}()

func TestMagicLinkIsAPathBelowTheRoot(t *testing.T) {
	// The real procfs stands in for a rootfs that holds one.
	fd, err := OpenDir("/proc", unix.O_PATH)
	require.NoError(t, err)
	defer unix.Close(fd)
	for _, path := range []string{"self/root/etc/passwd", "self/exe", "self/cwd/rootpath_linux_test.go"} {
		_, _, err = (&Tree{Root: fd}).ReadFile(path, 1<<30)
		assert.ErrorIs(t, err, unix.ENOENT, path)
	}
}

func TestNotRegularIsAnsweredWithoutOpening(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, path string){
		"FIFO": func(t *testing.T, path string) { require.NoError(t, unix.Mkfifo(path, 0o644)) },
		"socket": func(t *testing.T, path string) {
			require.NoError(t, unix.Mknod(path, unix.S_IFSOCK|0o644, 0))
		},
		"directory": func(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o755)) },
		"device": func(t *testing.T, path string) {
			needs.Root(t, "it makes a device")
			// A terminal: opening it could block, and make it ours.
			require.NoError(t, unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(4, 64))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, fd := newRoot(t)
			make(t, filepath.Join(root, "f"))
			promptly(t, func() {
				_, _, err := (&Tree{Root: fd}).ReadFile("f", 100)
				assert.ErrorIs(t, err, ErrNotRegular)
				_, err = (&Tree{Root: fd}).Walk("/", "f", nil)
				assert.ErrorIs(t, err, ErrNotRegular)
			})
		})
	}
}

func TestWriteLeaseIsAnsweredAtOnce(t *testing.T) {
	root, fd := newRoot(t)
	path := filepath.Join(root, "leased")
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o644))
	holder, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer holder.Close()
	// The break signal (SIGIO) is of no interest: the lease is simply kept.
	_, err = unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	require.NoError(t, err)
	promptly(t, func() {
		_, _, err = (&Tree{Root: fd}).ReadFile("leased", 100)
		assert.ErrorIs(t, err, unix.EAGAIN)
	})
}

func TestSize(t *testing.T) {
	root, fd := newRoot(t)
	path := filepath.Join(root, "f")
	require.NoError(t, os.WriteFile(path, make([]byte, 100_000), 0o644))
	tree := &Tree{Root: fd}
	_, _, err := tree.ReadFile("f", 99_999)
	assert.ErrorIs(t, err, ErrTooLarge)
	data, st, err := tree.ReadFile("f", 100_000)
	require.NoError(t, err)
	assert.Len(t, data, 100_000)
	assert.EqualValues(t, 100_000, st.Size)

	t.Run("a 50 GB sparse file costs nothing", func(t *testing.T) {
		require.NoError(t, os.Truncate(path, 50<<30))
		promptly(t, func() {
			_, _, err := tree.ReadFile("f", 1<<20)
			assert.ErrorIs(t, err, ErrTooLarge)
		})
	})
	t.Run("a file that claims to be empty is still bounded", func(t *testing.T) {
		proc, err := OpenDir("/proc", unix.O_PATH)
		require.NoError(t, err)
		defer unix.Close(proc)
		_, _, err = (&Tree{Root: proc}).ReadFile("cpuinfo", 10)
		assert.ErrorIs(t, err, ErrTooLarge)
		// Longer than what is read at once.
		_, _, err = (&Tree{Root: proc}).ReadFile("kallsyms", 20<<10)
		assert.ErrorIs(t, err, ErrTooLarge)
		data, _, err := (&Tree{Root: proc}).ReadFile("version", 4096)
		require.NoError(t, err)
		assert.NotEmpty(t, data)
	})
}

func TestOpenDirFollowsNoSymlink(t *testing.T) {
	root, _ := newRoot(t)
	symlink(t, "etc", filepath.Join(root, "link"))
	for path, want := range map[string]error{
		filepath.Join(root, "link"):       unix.ELOOP,
		filepath.Join(root, "link", "x"):  unix.ELOOP,
		filepath.Join(root, "etc/passwd"): unix.ENOTDIR,
		filepath.Join(root, "nothing"):    unix.ENOENT,
		"relative":                        unix.EINVAL,
		"":                                unix.ENOENT,
		"/proc/self/root/etc":             unix.ELOOP,
	} {
		_, err := OpenDir(path, unix.O_PATH)
		assert.ErrorIs(t, err, want, path)
	}
	for _, flags := range []int{unix.O_PATH, unix.O_RDONLY} {
		fd, err := OpenDir(filepath.Join(root, "etc"), flags)
		require.NoError(t, err)
		unix.Close(fd)
	}
}

// The error names operation, path and cause.
func TestErrorText(t *testing.T) {
	_, fd := newRoot(t)
	_, _, err := (&Tree{Root: fd}).ReadFile("/etc", 1)
	assert.EqualError(t, err, "open /etc: not a regular file")
	_, _, err = (&Tree{Root: fd}).ReadFile("etc", 1)
	assert.EqualError(t, err, "open /etc: not a regular file")
	_, err = (&Tree{Root: fd}).Walk("/etc", "x", nil)
	assert.EqualError(t, err, "open /etc/x: no such file or directory")
	_, err = OpenDir("/nowhere", unix.O_PATH)
	assert.EqualError(t, err, "open /nowhere: no such file or directory")
	assert.True(t, errors.Is(err, os.ErrNotExist))
}

// TestRace: while somebody swaps directories for links to the host and moves
// the file's directory in and out of the root, no answer is the host's file.
func TestRace(t *testing.T) {
	root, fd := newRoot(t)
	top := filepath.Dir(root)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "a/b/c"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "a/b/secret"), []byte("inside"), 0o644))
	symlink(t, "../../..", filepath.Join(root, "a/link"))

	stop := make(chan struct{})
	var mover sync.WaitGroup
	mover.Go(func() {
		out, in, link := filepath.Join(top, "out"), filepath.Join(root, "a/b"), filepath.Join(root, "a/link")
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Rename(in, out)
				_ = unix.Rename(out, in)
				_ = unix.Renameat2(unix.AT_FDCWD, in, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
				_ = unix.Renameat2(unix.AT_FDCWD, in, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	})
	tree := &Tree{Root: fd}
	found := 0
	for range 20_000 {
		for _, path := range []string{"a/b/c/../secret", "a/b/c/../../../secret", "a/link/secret"} {
			data, _, err := tree.ReadFile(path, 100)
			if err == nil {
				found++
				require.Equal(t, "inside", string(data))
			}
		}
	}
	close(stop)
	mover.Wait()
	t.Logf("%d of 60000 reads found the file", found)
	assert.Positive(t, found)
	runtime.KeepAlive(tree)
}
