package sys

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

func TestPatience(t *testing.T) {
	var p patience
	tries := 0
	for now := int64(5000); p.again(now, false); now += 1 {
		tries++
	}
	assert.Equal(t, stormTries-1, tries, "one a millisecond: so many in any case")

	p, tries = patience{}, 0
	for now := int64(5000); p.again(now, false); now += 10 {
		tries++
	}
	assert.Equal(t, starvedLimit/10, tries, "one in ten milliseconds: for so long at most")

	p, tries = patience{}, 0
	for p.again(5000, false) && tries < 10_000 {
		tries++
	}
	assert.Equal(t, 10_000, tries, "as often as there is time for")
	assert.False(t, p.again(5000+stormLimit, false), "and no longer")

	p, tries = patience{}, 0
	for p.again(5000, true) {
		tries++
	}
	assert.Equal(t, leaseTries-1, tries, "a file under lease is not waited for")
}

// storm has so many threads rename in a directory until the function that it returns is called.
func storm(dir string, threads int) (end func()) {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range threads {
		wg.Go(func() {
			one := filepath.Join(dir, strconv.Itoa(i))
			two := one + ".new"
			_ = syscall.Mkdir(one, 0o755)
			for {
				select {
				case <-stop:
					return
				default:
					_ = syscall.Rename(one, two)
					_ = syscall.Rename(two, one)
				}
			}
		})
	}
	return func() { close(stop); wg.Wait() }
}

// TestOpenInAStorm: somebody renames without end, and a path with ".." in it, which
// openat2 gives up whenever that happens, is opened all the same.
func TestOpenInAStorm(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "a"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "b"), 0o755))
	dir, err := syscall.Open(root, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(dir)
	defer storm(filepath.Join(root, "b"), 4)()

	// As many ".." as make one try in ten go well, and hardly fewer, or the most there can be.
	path, failed := "", 0
	for depth := 1; depth <= 512; depth += 1 + depth/8 {
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
	for range 300 {
		fd, err := Openat2(dir, path, syscall.O_RDONLY, ResolveInRoot)
		require.NoError(t, err)
		Close(fd)
	}
}

// TestOpenBelowTheOwnRoot: below the root that the caller has himself, no rename is in the way of
// an open, and ".." leads nowhere else.
func TestOpenBelowTheOwnRoot(t *testing.T) {
	needs.Root(t, "it changes its root")
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "a"), 0o755))
	// A walk so long that somebody renames meanwhile, however often it is tried. The kernel may
	// walk twice, and counts links together then: 40 (path_resolution(7)).
	long := strings.Repeat("a/../", 800)
	require.NoError(t, os.Symlink("/../a/../../a/../"+long+"file", filepath.Join(root, "a/0")))
	for i := range 16 {
		require.NoError(t, os.Symlink("../"+long+"a/"+strconv.Itoa(i), filepath.Join(root, "a", strconv.Itoa(i+1))))
	}
	require.NoError(t, os.Symlink("16", filepath.Join(root, "a/link")))
	require.NoError(t, os.Mkdir(filepath.Join(root, "b"), 0o755))
	defer storm(filepath.Join(root, "b"), 8)()
	require.NoError(t, os.WriteFile(filepath.Join(root, "file"), []byte("mine"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "../file"), []byte("not mine"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "a/file"), nil, 0o644))
	host, err := syscall.Open(root, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(host)
	assert.False(t, ownRoot(host))
	assert.False(t, ownRoot(AtFDCWD))
	slash, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(slash)
	assert.True(t, ownRoot(slash))
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread() // and ends with the goroutine
		if !assert.NoError(t, syscall.Unshare(syscall.CLONE_FS|syscall.CLONE_NEWNS)) ||
			!assert.NoError(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")) {
			return
		}
		// The same directory by another mount: what is mounted there differs.
		if !assert.NoError(t, syscall.Mount(root, root, "", syscall.MS_BIND, "")) {
			return
		}
		mounted, err := syscall.Open(root, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if !assert.NoError(t, err) {
			return
		}
		defer Close(mounted)
		if !assert.NoError(t, syscall.Chroot(root)) {
			return
		}
		assert.False(t, ownRoot(host), "the same inode, and not the same mount")
		assert.False(t, ownRoot(slash))
		if !assert.True(t, ownRoot(mounted)) {
			return
		}
		var wait patience
		how := openHow{flags: OPath, resolve: ResolveInRoot}
		assert.True(t, wait.retry(mounted, cstr("a"), &how))
		assert.EqualValues(t, ResolveNoMagiclinks, how.resolve, "which is in the other")
		for dir, want := range map[int]uint64{mounted: ResolveNoMagiclinks, host: ResolveNoMagiclinks | ResolveInRoot} {
			how := openHow{flags: OPath, resolve: ResolveNoMagiclinks | ResolveInRoot}
			assert.True(t, wait.retry(dir, cstr("a"), &how))
			assert.Equal(t, want, how.resolve)
		}
		for range 50 {
			fd, err := Openat2(mounted, "a/link", syscall.O_RDONLY, ResolveInRoot)
			if !assert.NoError(t, err) {
				return
			}
			var text [16]byte
			n, err := Read(fd, text[:])
			Close(fd)
			if !assert.NoError(t, err) || !assert.Equal(t, "mine", string(text[:n])) {
				return
			}
		}
		done <- true
	}()
	assert.True(t, <-done)
}

// TestASubvolumeIsNotTheOwnRoot: a subvolume of btrfs is on the same mount as what it is in, and the
// first directories of both have the same number.
func TestASubvolumeIsNotTheOwnRoot(t *testing.T) {
	needs.Root(t, "it mounts")
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 128<<20))
	for _, argv := range [][]string{{needs.Program(t, "mkfs.btrfs"), "-q", image}, {"mount", "-t", "btrfs", "-o", "loop", image, dir},
		{needs.Program(t, "btrfs"), "-q", "subvolume", "create", dir + "/sub"}} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if argv[0] == "mount" {
			needs.Config(t, err == nil, "CONFIG_BTRFS_FS", "a kernel that has it")
			t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
		}
		require.NoError(t, err, "%s", out)
	}
	outside, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(outside)
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread() // and ends with the goroutine
		if !assert.NoError(t, syscall.Unshare(syscall.CLONE_FS)) || !assert.NoError(t, syscall.Chroot(dir)) {
			return
		}
		defer func() { // the thread is there for a moment more, and nobody can unmount its root
			assert.NoError(t, syscall.Fchdir(outside))
			assert.NoError(t, syscall.Chroot("."))
		}()
		for path, want := range map[string]bool{"/": true, "/sub": false} {
			fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
			if !assert.NoError(t, err) {
				return
			}
			assert.Equal(t, want, ownRoot(fd), path)
			Close(fd)
		}
		done <- true
	}()
	assert.True(t, <-done)
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
