package session

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/needs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// TestNobodyIsThereWhileItIsTyped: another session of the same user, which opens each
// terminal as soon as it can, finds all that is typed ahead in its place. With it on the
// terminal sooner, it could change the modes in which that is typed.
func TestNobodyIsThereWhileItIsTyped(t *testing.T) {
	needs.Root(t, "makes a devpts")
	const uid, text = 4711, "typed ahead\n"
	fs, err := unix.Fsopen("devpts", unix.FSOPEN_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fs)
	require.NoError(t, unix.FsconfigSetString(fs, "ptmxmode", "666"))
	require.NoError(t, unix.FsconfigSetString(fs, "mode", "620"))
	require.NoError(t, unix.FsconfigCreate(fs))
	pts, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(pts)

	found := make(chan int)
	look := func() {
		runtime.LockOSThread() // and it ends with the goroutine, other than it was
		if _, err := unix.SetfsuidRetUid(uid); err != nil {
			panic(err)
		}
		for {
			fd, err := unix.Openat(pts, "0", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
			if err != nil {
				n = -1
			}
			unix.Close(fd)
			found <- n
			return
		}
	}
	for range 100 {
		go look()
		req := wire.Request{Flags: wire.FlagTyped, Typed: []byte(text)}
		master, slave, number, err := openTTY(pts, uid, &req)
		require.NoError(t, err)
		assert.Zero(t, number)
		await(t, master)
		require.NoError(t, typed(master, slave, uid, &req))
		n := <-found
		sys.CloseAll([]int{master, slave})
		require.Equal(t, len(text), n)
	}
}

// await waits until all is typed into the terminal of a master.
func await(t *testing.T, master int) {
	fds := [1]sys.PollFD{{FD: int32(master), Events: unix.POLLIN | unix.POLLPRI}}
	n, err := sys.Poll(fds[:], 20_000)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
