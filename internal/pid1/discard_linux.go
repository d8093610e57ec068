package pid1

import (
	"syscall"

	"jail/internal/sys"
)

// maxBuriers bounds the processes that close for PID 1 at the same time.
const maxBuriers = 32

// burier is a process that is to have closed, or written, something by its end.
type burier struct {
	child *sys.Child
	pidfd int
	since int64
}

// children are the processes of the jail: all that PID 1 can see, and its own.
type children struct{}

func (children) kill(pid int, sig syscall.Signal) error { return syscall.Kill(pid, sig) }

func (children) wait() (pid int, ws syscall.WaitStatus, err error) {
	pid, err = syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
	return pid, ws, err
}

// discard closes a connection. What a peer has sent and nobody has taken goes with it,
// descriptors among it, and each of those is closed, which lasts as long as the peer
// wants it to (socket(7), SO_LINGER, which is years). The loop does not close such a
// connection.
func (l *loop) discard(fd int) {
	if sys.Quiet(fd, &l.m) {
		sys.Close(fd)
	} else {
		l.dead = append(l.dead, fd)
	}
}

// forgetListener closes a login's listener, and with it the connections in its queue.
func (l *loop) forgetListener(i int) {
	fd := l.listeners[i].fd
	l.listeners[i].fd = -1
	delete(l.byUID, l.listeners[i].id.HostUID)
	l.unused = append(l.unused, i)
	l.unwatch(fd)
	l.dead = append(l.dead, fd)
}

// bury lets a process close what is dead: one that has a copy of all descriptors, waits
// until PID 1 has closed its own, and ends. What the end of a process closes keeps nobody
// waiting (net/ipv4/af_inet.c, inet_release, PF_EXITING), and if it did, it would be
// that process. Children of sessions that may still have copies of their own are waited
// for: the last to close would be one of them, somebody else's login.
//
// A jail that has all the processes it may have gets no such process: PID 1 closes then.
func (l *loop) bury() {
	for _, s := range l.busySlots {
		if !s.Child.Closed() {
			return
		}
	}
	c := sys.NewChild()
	r, w, err := sys.Pipe()
	if err == nil {
		c.SyncFD = r
		l.burier(c)
	}
	sys.CloseAll(l.dead)
	l.dead = l.dead[:0]
	if err == nil {
		_, _ = sys.Write(w, l.small[:1])
		sys.CloseAll([]int{r, w})
	}
}

// leave ends a connection that has been refused. The request, if it is still there,
// has to be taken first: to close over it would be a reset connection to the client, who
// would not see the answer (net/unix/af_unix.c, unix_release_sock). A process takes it and
// the descriptors with it. In a jail that has no process left PID 1 does, since who was
// refused for that reason has to see his pipes closed.
func (l *loop) leave(i int) {
	c := l.conns[i]
	if !c.rights {
		l.drop(i)
		return
	}
	child := sys.NewChild()
	child.TakeFrom = c.fd
	if !l.burier(child) {
		if _, err := sys.RecvMsg(c.fd, l.small[:], false, &l.m); err == nil {
			sys.CloseAll(l.m.FDs)
		}
		l.drop(i)
		return
	}
	if c.state == pending {
		l.waiting--
	}
	c.state, c.taking, c.rights = leaving, child, false
	l.park(c)
}

// burier starts a process that ends when it has done what its Child says.
func (l *loop) burier(c *sys.Child) bool {
	if len(l.buriers) >= maxBuriers {
		return false
	}
	c.KeepSignals = keepSignals
	root := [2]byte{'/'} // no program: the child ends there
	c.Path, c.Argv, c.Envp = &root[0], []*byte{&root[0], nil}, []*byte{nil}
	_, pidfd, err := sys.Fork(c)
	if err != nil {
		return false
	}
	l.buriers = append(l.buriers, burier{c, pidfd, l.now})
	l.children, l.idle = true, 0
	return true
}

// expireBuriers forgets those that have ended, and ends those that a root inside has
// stopped.
func (l *loop) expireBuriers(now int64) {
	kept := l.buriers[:0]
	for _, b := range l.buriers {
		if !b.child.Pending() {
			sys.Close(b.pidfd)
			continue
		}
		if now-b.since > execDeadline {
			_ = sys.PidfdSendSignal(b.pidfd, syscall.SIGKILL)
		}
		kept = append(kept, b)
	}
	clear(l.buriers[len(kept):])
	l.buriers = kept
}
