package control

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/source"
	"jail/internal/sys"
)

func TestPlaceOf(t *testing.T) {
	const mounts = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:2 / /srv rw - ext4 /dev/sda2 rw
31 30 0:40 /sub /srv/jails rw - btrfs /dev/sdb rw
32 22 0:50 /deep/er /mnt/a\040b rw - fuse.x y rw
33 30 0:41 / /srv/jails rw - tmpfs tmpfs rw
nonsense
`
	for path, want := range map[string]root{
		"/":                 {"8:1", "/"},
		"/home/x":           {"8:1", "/home/x"},
		"/srv":              {"8:2", "/"},
		"/srvx":             {"8:1", "/srvx"},
		"/srv/other":        {"8:2", "/other"},
		"/srv/jails/debian": {"0:41", "/debian"},
		"/mnt/a b/c":        {"0:50", "/deep/er/c"},
		"/mnt/a b":          {"0:50", "/deep/er"},
	} {
		assert.Equal(t, want, placesOf(mounts).of(path), path)
	}
}

// TestOwnRoot: the two ways to say where a directory is agree.
func TestOwnRoot(t *testing.T) {
	places := placesOf(mountsOf(os.Getpid()))
	require.Contains(t, places, "")
	assert.Equal(t, places[""], places.of("/"))
}

// TestLandmark: a process 1 is found by what is mounted where, and by nothing less.
func TestLandmark(t *testing.T) {
	needs.Root(t, "it makes namespaces and mounts")
	own, other, at := t.TempDir(), t.TempDir(), t.TempDir()
	cmd := exec.Command("sh", "-c", `mount --bind "$1" "$2" && echo mounted && exec cat`, "sh", own, at)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		in.Close()
		assert.NoError(t, cmd.Wait())
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "mounted\n", line)

	pid, pidfd, err := Find(source.Landmark{Path: own, At: at})
	require.NoError(t, err)
	sys.Close(pidfd)
	assert.Equal(t, cmd.Process.Pid, pid)
	for _, l := range []source.Landmark{{Path: other, At: at}, {Path: own, At: other}, {Path: own, At: "/"}, {Path: own + "/x", At: at}} {
		_, _, err := Find(l)
		assert.ErrorIs(t, err, ErrNotRunning, "%v", l)
	}
}
