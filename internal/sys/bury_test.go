package sys

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// TestBury: what takes an hour to be closed, alone or as what somebody has sent, is closed in no
// time, and nothing else is; no process is left.
func TestBury(t *testing.T) {
	var fds []int
	var peers []int
	for range 20 {
		slow, _ := needs.SlowToClose(t)
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		var m MsgBuf
		require.NoError(t, SendMsg(pair[0], []byte("x"), []int{slow}, true, &m))
		fds = append(fds, pair[1])
		if len(fds) < 10 {
			fds = append(fds, slow)
		} else {
			Close(slow) // it is on its way
		}
		peers = append(peers, pair[0])
	}
	r, w, err := Pipe()
	require.NoError(t, err)
	defer Close(r)
	defer Close(w)
	done := make(chan bool)
	go func() { done <- Bury(fds, func() func() { t.Error("it takes long"); return func() {} }) }()
	select {
	case ok := <-done:
		assert.True(t, ok)
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for the peers")
	}
	for _, fd := range peers {
		n, err := Poll([]PollFD{{FD: int32(fd), Events: PollIn}}, 0)
		require.NoError(t, err)
		assert.Positive(t, n, "the other end is closed")
		Close(fd)
	}
	_, err = Write(w, []byte("x"))
	assert.NoError(t, err)
	_, err = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	assert.Equal(t, syscall.ECHILD, err)
	left, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range left {
		if text, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil {
			n, _ := strconv.Atoi(fd.Name())
			assert.NotContains(t, fds, n, text)
		}
	}
}
