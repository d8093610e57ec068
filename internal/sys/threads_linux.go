package sys

import (
	"runtime"
	"sync/atomic"
)

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
