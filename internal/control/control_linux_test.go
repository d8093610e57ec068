package control

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/fdsock"
	"jail/internal/sys"
	"jail/internal/wire"
)

// accept waits for somebody to connect. The connection blocks.
func accept(listener int) (int, error) {
	if _, err := sys.Poll([]sys.PollFD{{FD: int32(listener), Events: sys.PollIn}}, -1); err != nil {
		return -1, err
	}
	fd, _, err := syscall.Accept4(listener, syscall.SOCK_CLOEXEC)
	return fd, err
}

// TestPID1ThatHoldsUp: a jail whose PID 1 has been taken over cannot hold up who
// asks it, among them a serve that starts and has other jails to look after.
func TestPID1ThatHoldsUp(t *testing.T) {
	for claim, act := range map[string]func(t *testing.T, listener int, path string, over <-chan bool){
		"it accepts nobody, and its queue is full": func(t *testing.T, listener int, path string, _ <-chan bool) {
			require.NoError(t, syscall.Listen(listener, 0))
			fd, err := fdsock.Dial(path)
			require.NoError(t, err)
			sys.Close(fd) // the place in the queue stays taken
		},
		"it never answers": func(*testing.T, int, string, <-chan bool) {},
		"it logs without end": func(t *testing.T, listener int, _ string, over <-chan bool) {
			go func() {
				fd, err := accept(listener)
				if err != nil {
					return
				}
				defer sys.Close(fd)
				var m sys.MsgBuf
				line := wire.AppendText(nil, wire.TypeLog, "again")
				for {
					select {
					case <-over:
						return
					default:
					}
					if sys.SendMsg(fd, line, nil, false, &m) == syscall.EAGAIN {
						time.Sleep(time.Millisecond)
					}
				}
			}()
		},
	} {
		t.Run(claim, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "control") // t.TempDir is too long for a socket
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(dir) })
			require.NoError(t, fdsock.PrepareDir(dir))
			listener, err := fdsock.ListenControl(dir, "one")
			require.NoError(t, err)
			over := make(chan bool)
			t.Cleanup(func() { close(over); sys.Close(listener) })
			act(t, listener, fdsock.ControlPath(dir, "one"), over)

			done := make(chan error, 1)
			go func() {
				_, err := Open(dir, "one", true)
				done <- err
			}()
			select {
			case err := <-done:
				assert.ErrorIs(t, err, syscall.ETIMEDOUT)
			case <-time.After(20 * time.Second):
				t.Error("still waiting")
			}
		})
	}
}

// TestWhoAnswersIsPID1: another process of the jail cannot stand in for PID 1, so that
// its end would be believed to be the jail's.
func TestWhoAnswersIsPID1(t *testing.T) {
	dir, err := os.MkdirTemp("", "control")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, fdsock.PrepareDir(dir))
	listener, err := fdsock.ListenControl(dir, "one")
	require.NoError(t, err)
	t.Cleanup(func() { sys.Close(listener) })
	go func() {
		fd, err := accept(listener)
		if err != nil {
			return
		}
		defer sys.Close(fd)
		var m sys.MsgBuf
		for buf := make([]byte, 64); ; {
			if n, err := sys.RecvMsg(fd, buf, true, &m); err != nil || n == 0 {
				return
			}
			_ = sys.SendMsg(fd, wire.AppendStatus(nil, &wire.Status{Name: "one"}), nil, true, &m)
		}
	}()
	_, err = Open(dir, "one", false)
	assert.ErrorContains(t, err, "not PID 1")
}
