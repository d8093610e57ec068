package main

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whoever waits for a socket is not misled by a signal of the Go runtime's.
func TestWaitIsNotCutShort(t *testing.T) {
	defer func(before time.Duration) { patience = before }(patience)
	patience = 300 * time.Millisecond
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	var tid atomic.Int64
	waited := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid.Store(int64(unix.Gettid()))
		waited <- waitReadable(pair[0])
	}()
	for {
		select {
		case err := <-waited:
			if err != errTimeout {
				t.Errorf("nothing has come, and it says: %v", err)
			}
			return
		case <-time.After(10 * time.Millisecond):
			if thread := tid.Load(); thread != 0 {
				_ = unix.Tgkill(os.Getpid(), int(thread), unix.SIGURG)
			}
		}
	}
}
