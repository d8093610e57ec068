package rootfs

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/sys"
)

// TestOverlay: the mount is the same whether the layers are attached on the way, as older
// kernels need it, or not; and then nothing is attached in the process's own namespace.
func TestOverlay(t *testing.T) {
	needs.Root(t, "it mounts")
	tree := func(dir string) int {
		fd, err := sys.OpenTree(sys.AtFDCWD, dir, sys.OpenTreeClone)
		require.NoError(t, err)
		t.Cleanup(func() { sys.Close(fd) })
		return fd
	}
	for claim, attached := range map[string]bool{"attached": true, "attached nowhere": false} {
		t.Run(claim, func(t *testing.T) {
			needs.Kernel(t, attached || takesDetached(), 6, 15, "overlayfs of layers that are attached nowhere")
			base, upper := t.TempDir(), t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(base, "file"), []byte("base"), 0o644))
			for _, name := range []string{"upper", "work"} {
				require.NoError(t, os.Mkdir(filepath.Join(upper, name), 0o755))
			}
			for _, layer := range []int{tree(upper), -1} {
				ly := &Layers{Base: tree(base), Upper: layer, Bytes: 1 << 20}
				var fd int
				var err error
				apart(func() { fd, err = overlay(ly, attached) })
				require.NoError(t, err)
				in, err := syscall.Openat(fd, "file", syscall.O_RDWR|syscall.O_TRUNC, 0)
				require.NoError(t, err)
				_, err = syscall.Write(in, []byte("mine"))
				assert.NoError(t, err)
				sys.Close(in)
				sys.Close(fd)
			}
			for path, want := range map[string]string{filepath.Join(base, "file"): "base", filepath.Join(upper, "upper/file"): "mine"} {
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				assert.Equal(t, want, string(text))
			}
			after, err := os.ReadFile("/proc/self/mountinfo")
			require.NoError(t, err)
			assert.NotContains(t, string(after), base)
			assert.NotContains(t, string(after), upper)
		})
	}
}

func TestSince(t *testing.T) {
	for release, want := range map[string]bool{
		"6.15.0": true, "6.15": false, "6.15-rc1": true, "6.18.5-cloud": true, "7.0.0": true, "10.1.2": true,
		"6.14.11": false, "6.1.0-56-cloud-amd64": false, "5.19.0": false, "6": false, "": false, "x.y": false, "6.": false, "99999999999.1.1": false,
	} {
		var text []int8
		for _, c := range []byte(release) {
			text = append(text, int8(c))
		}
		if release != "6.15" { // which ends without the NUL that uname(2) has
			text = append(text, 0)
		}
		assert.Equal(t, want, since(text, 6, 15), release)
	}
}

// TestApart: what a thread makes of itself is not to be seen in the process, so it is
// never the first one.
func TestApart(t *testing.T) {
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 250 {
				apart(func() { assert.NotEqual(t, syscall.Getpid(), syscall.Gettid()) })
			}
		})
	}
	wait.Wait()
}
