package sys

import (
	"runtime"
	"syscall"
)

// buryWait is how long the end of a process is waited for, in milliseconds.
const buryWait = 1000

// Bury closes descriptors whose close another process can make last as long as it likes (SO_LINGER,
// socket(7)): a process that has copies of all there are waits until the caller has closed its own,
// and ends. What the end of a process closes waits for no peer (net/ipv4/af_inet.c, inet_release,
// PF_EXITING). It reports whether that was done: where no process is to be had, nothing is closed.
//
// A process that does not end in time is left to a goroutine; late is called then, and what that returns
// when it has ended.
func Bury(fds []int, late func() (ended func())) bool {
	r, below, err := Pipe()
	if err != nil {
		return false
	}
	// The process has no copy of the writing end, so that it does not outlive its parent.
	most := max(r, below)
	for _, fd := range fds {
		most = max(most, fd)
	}
	w, err := Fcntl(below, syscall.F_DUPFD_CLOEXEC, most+1)
	Close(below)
	if err != nil {
		Close(r)
		return false
	}
	c := NewChild()
	root := [2]byte{'/'} // no program: the child ends there
	c.Path, c.Argv, c.Envp = &root[0], []*byte{&root[0], nil}, []*byte{nil}
	c.SyncFD, c.FilesBelow = r, w
	pid, pidfd, err := Fork(c)
	if err != nil {
		CloseAll([]int{r, w})
		return false
	}
	for !c.Own() {
		runtime.Gosched()
	}
	CloseForeign(fds)
	var one [1]byte
	_, _ = Write(w, one[:])
	CloseAll([]int{r, w})
	bury := func() {
		for {
			if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
				break
			}
		}
		for c.Pending() {
			runtime.Gosched()
		}
		Close(pidfd)
	}
	if n, err := Poll([]PollFD{{FD: int32(pidfd), Events: PollIn}}, buryWait); n > 0 || err != nil {
		bury()
		return true
	}
	ended := late()
	go func() { bury(); ended() }()
	return true
}
