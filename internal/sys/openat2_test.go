package sys

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPatience(t *testing.T) {
	var p patience
	tries := 0
	for now := int64(5000); p.again(now, false); now += 1 {
		tries++
	}
	assert.Equal(t, stormLimit, tries, "one a millisecond: time counts, not tries")

	p, tries = patience{}, 0
	for p.again(5000, false) && tries < 10_000 {
		tries++
	}
	assert.Equal(t, 10_000, tries, "as often as there is time for")

	p, tries = patience{}, 0
	for p.again(5000, true) {
		tries++
	}
	assert.Equal(t, leaseTries-1, tries, "a file under lease is not waited for")
}

// TestOpenInAStorm: somebody renames without end, and a path with ".." in it, which
// openat2 gives up whenever that happens, is opened all the same.
func TestOpenInAStorm(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "a"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "b/1"), 0o755))
	dir, err := syscall.Open(root, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(dir)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		one, two := filepath.Join(root, "b/1"), filepath.Join(root, "b/2")
		for {
			select {
			case <-stop:
				return
			default:
				_ = syscall.Rename(one, two)
				_ = syscall.Rename(two, one)
			}
		}
	}()
	defer func() { close(stop); <-ended }()

	// As many ".." as make one try in ten go well, or the most there can be.
	path, failed := "", 0
	for depth := 1; depth <= 512; depth *= 2 {
		path, failed = strings.Repeat("a/../", depth)+"file", 0
		name, how := cstr(path), openHow{flags: syscall.O_RDONLY | syscall.O_CLOEXEC, resolve: ResolveInRoot}
		for range 200 {
			fd, e := openat2(dir, name, &how)
			if e == syscall.EAGAIN {
				failed++
				continue
			}
			require.Zero(t, e)
			Close(int(fd))
		}
		if failed >= 180 {
			break
		}
	}
	t.Logf("%d bytes of path: %d of 200 opens are given up", len(path), failed)
	bad := 0
	for range 300 {
		fd, err := Openat2(dir, path, syscall.O_RDONLY, ResolveInRoot)
		if err != nil {
			require.Equal(t, syscall.EAGAIN, err)
			bad++
			continue
		}
		Close(fd)
	}
	// What is given up after stormLimit may have had no processor for that long.
	assert.LessOrEqual(t, bad, 6, "of 300, of which nine in ten would be given up")
}

func TestOpenOfALeasedFileIsAnsweredAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leased")
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = Fcntl(int(f.Fd()), syscall.F_SETLEASE, syscall.F_WRLCK)
	require.NoError(t, err)
	quickest := int64(stormLimit) // the machine may be slow once
	for range 20 {
		begin := MonotonicMillis()
		_, err = Openat2(AtFDCWD, path, syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
		assert.Equal(t, syscall.EAGAIN, err)
		quickest = min(quickest, MonotonicMillis()-begin)
	}
	assert.Less(t, quickest, int64(stormLimit))
	fd, err := Openat2(AtFDCWD, path, OPath, 0)
	require.NoError(t, err)
	Close(fd)
}
