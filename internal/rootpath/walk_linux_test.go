package rootpath

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

func TestWalkVisitsWhatDecides(t *testing.T) {
	for name, test := range map[string]struct {
		links map[string]string
		file  string // where the file is, below the root
		want  []string
	}{
		"a plain file: home, its directory, and both again upwards": {
			nil, "home/work/.ssh/keys",
			[]string{"/home/work", "/home/work/.ssh", "/home/work/.ssh", "/home/work", "/home/work/.ssh/keys"},
		},
		"a home that is a symlink is looked at where it is": {
			map[string]string{"home": "/data"}, "data/work/.ssh/keys",
			[]string{"/data/work", "/data/work/.ssh", "/data/work/.ssh", "/data/work", "/data/work/.ssh/keys"},
		},
		"a file outside the home: the link's directory, the way there, and up to the root": {
			map[string]string{"home/work/.ssh": "/shared/ssh"}, "shared/ssh/keys",
			[]string{"/home/work", "/", "/shared", "/shared/ssh", "/shared/ssh", "/shared", "/", "/shared/ssh/keys"},
		},
		"a symlink by way of another's home shows that home": {
			map[string]string{"home/work/.ssh/keys": "../../other/keys"}, "home/other/keys",
			[]string{"/home/work", "/home/work/.ssh", "/home/work", "/home", "/home/other",
				"/home/other", "/home", "/", "/home/other/keys"},
		},
		"an absolute symlink back into the home": {
			map[string]string{"home/work/.ssh": "/home/work/ssh"}, "home/work/ssh/keys",
			[]string{"/home/work", "/", "/home", "/home/work", "/home/work/ssh",
				"/home/work/ssh", "/home/work", "/home/work/ssh/keys"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, fd := newRoot(t)
			write(t, filepath.Join(root, test.file), "keys")
			for link, target := range test.links {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, link)), 0o755))
				symlink(t, target, filepath.Join(root, link))
			}
			var got []string
			f, err := (&Tree{Root: fd}).Walk("/home/work", ".ssh/keys", func(path string, st *Stat) error {
				var want Stat
				require.NoError(t, unix.Lstat(filepath.Join(root, path), &want))
				assert.Equal(t, want.Ino, st.Ino, path)
				got = append(got, path)
				return nil
			})
			require.NoError(t, err)
			defer f.Close()
			assert.Equal(t, test.want, got)
			data, _, err := f.Read(100)
			require.NoError(t, err)
			assert.Equal(t, "keys", string(data))
		})
	}
}

func TestWalkEndsWhereVisitObjects(t *testing.T) {
	root, fd := newRoot(t)
	write(t, filepath.Join(root, "home/work/.ssh/keys"), "keys")
	objection := errors.New("objection")
	for _, at := range []string{"/home/work", "/home/work/.ssh", "/home/work/.ssh/keys"} {
		_, err := (&Tree{Root: fd}).Walk("/home/work", ".ssh/keys", func(path string, _ *Stat) error {
			if path == at {
				return objection
			}
			return nil
		})
		assert.Equal(t, objection, err, at)
	}
}

func TestFileIsTheOneThatWasVisited(t *testing.T) {
	root, fd := newRoot(t)
	path := filepath.Join(root, "home/keys")
	write(t, path, "judged")
	f, err := (&Tree{Root: fd}).Walk("/home", "keys", nil)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, os.Rename(path, path+".old"))
	write(t, path, "swapped in")
	data, _, err := f.Read(100)
	require.NoError(t, err)
	assert.Equal(t, "judged", string(data))
}

func TestWalkIsBounded(t *testing.T) {
	root, fd := newRoot(t)
	deep := strings.Repeat("d/", 100)
	write(t, filepath.Join(root, deep, "f"), "")
	symlink(t, "loop", filepath.Join(root, "loop"))
	// Each link walks two others: without a bound, 2^30 steps.
	symlink(t, "/etc", filepath.Join(root, "l0"))
	for i := 1; i < 30; i++ {
		prev := "/l" + strconv.Itoa(i-1)
		symlink(t, prev+"/.."+prev, filepath.Join(root, "l"+strconv.Itoa(i)))
	}
	for _, path := range []string{deep + "f", "loop", "l29/passwd", strings.Repeat("etc/../", 300) + "etc/passwd"} {
		promptly(t, func() {
			_, err := (&Tree{Root: fd}).Walk("/", path, nil)
			assert.ErrorIs(t, err, unix.ELOOP, path[:4])
		})
	}

	// As many links as the kernel follows, and one more.
	symlink(t, "etc/passwd", filepath.Join(root, "c1"))
	for i := 2; i <= maxLinks+1; i++ {
		symlink(t, "c"+strconv.Itoa(i-1), filepath.Join(root, "c"+strconv.Itoa(i)))
	}
	file, err := (&Tree{Root: fd}).Walk("/", "c"+strconv.Itoa(maxLinks), nil)
	require.NoError(t, err)
	file.Close()
	_, err = os.Stat(filepath.Join(root, "c"+strconv.Itoa(maxLinks)))
	require.NoError(t, err)
	_, err = (&Tree{Root: fd}).Walk("/", "c"+strconv.Itoa(maxLinks+1), nil)
	assert.ErrorIs(t, err, unix.ELOOP)
	_, err = os.Stat(filepath.Join(root, "c"+strconv.Itoa(maxLinks+1)))
	assert.ErrorIs(t, err, unix.ELOOP)
}

func TestWalkSeesMountsAsTheJailDoes(t *testing.T) {
	for name, test := range map[string]struct {
		mounts []string // TARGET=SOURCE in order
		want   string
	}{
		"no mount":                                      {nil, "rootfs"},
		"a mount over the home's parent":                {[]string{"/home=m1"}, "m1"},
		"a mount whose target the rootfs lacks":         {[]string{"/home/work/.ssh=m3"}, "m3"},
		"a mount on the file itself":                    {[]string{"/home/work/.ssh/keys=m3/keys"}, "m3"},
		"the later of two mounts on a place":            {[]string{"/home=m1", "/home=m2"}, "m2"},
		"a mount below another":                         {[]string{"/home=m1", "/home/work=m2/work"}, "m2"},
		"a mount hidden by a later one above it":        {[]string{"/home/work=m2/work", "/home=m1"}, "m1"},
		"a name that only begins like a target":         {[]string{"/ho=m1", "/home/wor=m2"}, "rootfs"},
		"a link out of a mount is resolved in the jail": {[]string{"/home=linked", "/elsewhere=m3"}, "m3"},
		"dot-dot in a mount leads back into the jail":   {[]string{"/home=dotted", "/elsewhere=m3"}, "m3"},
	} {
		t.Run(name, func(t *testing.T) {
			root, fd := newRoot(t)
			top := filepath.Dir(root)
			write(t, filepath.Join(root, "home/work/.ssh/keys"), "rootfs")
			write(t, filepath.Join(top, "m1/work/.ssh/keys"), "m1")
			write(t, filepath.Join(top, "m2/work/.ssh/keys"), "m2")
			write(t, filepath.Join(top, "m3/keys"), "m3")
			require.NoError(t, os.MkdirAll(filepath.Join(top, "linked/work"), 0o755))
			symlink(t, "/elsewhere", filepath.Join(top, "linked/work/.ssh"))
			require.NoError(t, os.MkdirAll(filepath.Join(top, "dotted/work"), 0o755))
			symlink(t, "../../elsewhere", filepath.Join(top, "dotted/work/.ssh"))

			tree := &Tree{Root: fd}
			for _, m := range test.mounts {
				target, source, _ := strings.Cut(m, "=")
				mfd, err := OpenHost(filepath.Join(top, source), unix.O_PATH)
				require.NoError(t, err)
				defer unix.Close(mfd)
				tree.Mounts = append(tree.Mounts, Mount{Target: target, FD: mfd})
			}
			f, err := tree.Walk("/home/work", ".ssh/keys", func(string, *Stat) error { return nil })
			require.NoError(t, err)
			defer f.Close()
			data, _, err := f.Read(100)
			require.NoError(t, err)
			assert.Equal(t, test.want, string(data))
		})
	}
}

// Without /proc, the file is opened again by its name in the directory it was
// found in, and must still be the same.
func TestReadWithoutProc(t *testing.T) {
	root, fd := newRoot(t)
	path := filepath.Join(root, "f")
	write(t, path, "text")
	f, err := unix.Openat(fd, "f", unix.O_PATH|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(f)
	again := func() (int, error) { return unix.Openat(fd, "f", unix.O_RDONLY|alwaysFlags, 0) }
	data, _, err := readVia(f, 100, func(int, int) (int, error) { return -1, unix.ENOENT }, again)
	require.NoError(t, err)
	assert.Equal(t, "text", string(data))

	require.NoError(t, os.Rename(path, path+".old"))
	write(t, path, "swapped in")
	_, _, err = readVia(f, 100, func(int, int) (int, error) { return -1, unix.ENOENT }, again)
	assert.ErrorIs(t, err, ErrChanged)
	require.NoError(t, os.Remove(path))
	require.NoError(t, unix.Mkfifo(path, 0o644))
	promptly(t, func() {
		_, _, err = readVia(f, 100, func(int, int) (int, error) { return -1, unix.ENOENT }, again)
		assert.ErrorIs(t, err, ErrChanged)
	})
}
