package sys

import (
	"runtime"
	"sync/atomic"
	"syscall"
)

// RoomForThread fails with EAGAIN where the kernel would refuse the caller another thread,
// which the runtime does not survive: it makes a process, which counts like one
// (RLIMIT_NPROC, pids_cgroup, threads-max), and waits for its end, which comes at once.
func RoomForThread() error {
	c := NewChild()
	root := [2]byte{'/'} // no program
	c.CloseNow = true
	c.Path, c.Argv, c.Envp = &root[0], []*byte{&root[0], nil}, []*byte{nil}
	pid, pidfd, err := Fork(c)
	if err != nil {
		return err
	}
	defer Close(pidfd)
	for {
		if _, err = syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			break
		}
	}
	for c.Pending() {
		runtime.Gosched()
	}
	return err
}

// SpareThreads makes the runtime start n threads and keep them. It starts one whenever
// none is idle, and ends the program when the kernel goes on refusing it
// (runtime.newosproc: EAGAIN, for a fifth of a second).
//
// The last of n goroutines finds all others waiting, each on a thread of its own, and
// none is the caller's, if that is locked to it. Only the last wakes the caller: every
// change of threads is paid for by who waits for it.
func SpareThreads(n int32) {
	var left atomic.Int32
	left.Store(n)
	last, on := make(chan struct{}), make(chan struct{})
	for range n {
		go func() {
			if left.Add(-1) == 0 {
				close(last)
				return
			}
			runtime.LockOSThread() // so that no two of these share a thread
			<-on
			runtime.UnlockOSThread()
		}()
	}
	<-last
	close(on)
}
