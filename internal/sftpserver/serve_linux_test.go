package sftpserver

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
)

func pipeSize(t *testing.T, f *os.File) int {
	t.Helper()
	size, err := sys.Fcntl(int(f.Fd()), syscall.F_GETPIPE_SZ, 0)
	require.NoError(t, err)
	return size
}

// TestRoomForTheLongestAnswer: the server does not wait for a client that wants one
// answer, however long that is.
func TestRoomForTheLongestAnswer(t *testing.T) {
	c := startOwn(t)
	out := c.out.(*os.File)
	h := c.open("f", openRead|openWrite|openCreate, attrs{})
	c.ask("set size", typeFsetstat, withAttrs(str(h), attrs{flags: attrSize, size: maxData}))
	require.Less(t, pipeSize(t, out), maxMessage, "who reads nothing needs no room")
	require.Len(t, c.get(h, 0, maxData), dataHeader-4+maxData)
	assert.GreaterOrEqual(t, pipeSize(t, out), dataHeader+maxData)
	c.end()
}

func TestMakeRoom(t *testing.T) {
	t.Run("a pipe", func(t *testing.T) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		makeRoom(int(w.Fd()))
		assert.Equal(t, maxMessage, pipeSize(t, r))
		_, err = sys.Fcntl(int(w.Fd()), syscall.F_SETPIPE_SZ, 2*maxMessage)
		require.NoError(t, err)
		makeRoom(int(w.Fd()))
		assert.Equal(t, 2*maxMessage, pipeSize(t, r), "one that has more keeps it")
	})
	sendBuffer := func(t *testing.T, fd int) int {
		t.Helper()
		size, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF)
		require.NoError(t, err)
		return size
	}
	t.Run("a local socket", func(t *testing.T) {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer sys.Close(pair[0])
		defer sys.Close(pair[1])
		before := sendBuffer(t, pair[0])
		require.Less(t, before, 2*maxMessage, "net.core.wmem_default is as Linux has it")
		makeRoom(pair[0])
		got := sendBuffer(t, pair[0])
		assert.Greater(t, got, before)
		assert.LessOrEqual(t, got, 2*maxMessage)
		assert.GreaterOrEqual(t, got, dataHeader+maxData)
		if syscall.SetsockoptInt(pair[1], syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4*maxMessage) == nil && sendBuffer(t, pair[1]) > 2*maxMessage {
			more := sendBuffer(t, pair[1])
			makeRoom(pair[1])
			assert.Equal(t, more, sendBuffer(t, pair[1]), "one that has more keeps it")
		}
	})
	t.Run("a network's socket", func(t *testing.T) {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer sys.Close(fd)
		before := sendBuffer(t, fd)
		require.Less(t, before, 2*maxMessage, "net.ipv4.tcp_wmem is as Linux has it")
		makeRoom(fd)
		assert.Equal(t, before, sendBuffer(t, fd), "the kernel goes on finding its size")
	})
	t.Run("nothing of the kind", func(t *testing.T) {
		f, err := os.CreateTemp(t.TempDir(), "")
		require.NoError(t, err)
		defer f.Close()
		makeRoom(int(f.Fd()))
		makeRoom(-1)
	})
}
