package pid1

import (
	"syscall"

	"jail/internal/sys"
)

const (
	// killedBy is how long a process that the kernel has killed for want of memory may take
	// to end, in milliseconds: what it has held is given back by then.
	killedBy = 5000
	// killedStatus is the status of a shell whose last command was killed.
	killedStatus = 128 + int(syscall.SIGKILL)
)

// memory is what PID 1 knows of processes of the jail that the kernel has killed for want
// of memory: their number, by memory.events of the jail's cgroup
// (Documentation/admin-guide/cgroup-v2.rst). Which ones they were the kernel tells nobody.
type memory struct {
	fd     int    // of that file, -1 without
	kills  uint64 // until now
	others uint64 // of these, those that no session accounts for
	at     int64  // when the last one was seen
}

// watchMemory has the loop told of each such kill; fd is -1 without a file.
func (l *loop) watchMemory(fd int) {
	if l.memory.fd = fd; fd < 0 {
		return
	}
	l.memory.look(l.now)
	l.memory.others = 0
	// The file can always be read: EPOLLPRI says that it has changed, until it is read.
	ev := sys.EpollEvent{Events: syscall.EPOLLPRI, Fd: int32(kindMemory)}
	_ = syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_ADD, fd, &ev)
}

// look reads how many there have been.
func (m *memory) look(now int64) {
	var buf [512]byte
	n, err := syscall.Pread(m.fd, buf[:], 0)
	if err != nil {
		return
	}
	if kills := countOf(buf[:n], "oom_kill "); kills > m.kills {
		m.others += kills - m.kills
		m.kills, m.at = kills, now
	}
}

// countOf returns the number behind key, which begins a line; 0 without.
func countOf(text []byte, key string) (n uint64) {
	for at := 0; at+len(key) <= len(text); at++ {
		if at > 0 && text[at-1] != '\n' || string(text[at:at+len(key)]) != key {
			continue
		}
		for _, c := range text[at+len(key):] {
			if c < '0' || c > '9' {
				break
			}
			n = n*10 + uint64(c-'0')
		}
		return n
	}
	return 0
}

// ended reports whether a session has ended since the kernel has killed a process of it for want of
// memory: the one it was, or the last command of its shell. It is that if it has ended so,
// and there was such a kill just before that is no other session's.
func (m *memory) ended(ws syscall.WaitStatus, now int64) bool {
	if m.fd < 0 || !(ws.Signaled() && ws.Signal() == syscall.SIGKILL) && ws.ExitStatus() != killedStatus {
		return false
	}
	m.look(now)
	if m.others == 0 || now-m.at > killedBy {
		m.others = 0
		return false
	}
	m.others--
	return true
}
