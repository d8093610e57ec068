package pid1

import (
	"syscall"

	"jail/internal/session"
	"jail/internal/sys"
	"jail/internal/wire"
)

// typeWait bounds how long a session waits for a worker of the kernel's to put into its
// terminal what was typed ahead, in milliseconds.
const typeWait = 5_000

// typing is a session whose terminal is being typed into. It has no process yet, and
// keeps nobody else waiting.
type typing struct {
	*session.Slot
	index  int // of its connection
	login  int
	st     session.Started
	rights bool // descriptors come with the request
	since  int64
}

// types has a session wait. Its connection is not read from meanwhile.
func (l *loop) types(i int, s *session.Slot, st *session.Started, rights bool) {
	c := l.conns[i]
	if c.state == pending {
		l.waiting--
	}
	c.state, l.idle = typingIn, 0
	l.unwatch(c.fd)
	t := typing{s, i, c.login, *st, rights, l.now}
	l.typings = append(l.typings, t)
	// A stopped slave wakes those who wait for EPOLLIN, not for EPOLLPRI alone (pty.c,
	// pty_stop). By edges, since root inside could make it readable otherwise.
	ev := sys.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLPRI | epollET, Fd: int32(kindTyping), Pad: int32(i)}
	if err := syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_ADD, st.Master, &ev); err != nil {
		l.typed(i, err)
	}
}

// typed goes on with the session of connection i, or refuses it because of err.
func (l *loop) typed(i int, err error) {
	n := l.typingOf(i)
	if n < 0 || err == nil && !told(l.typings[n].st.Master) {
		return // the event was for one that is gone, or says something else
	}
	if hungUp(l.conns[i].fd) { // the client was ended meanwhile
		l.abandon(i)
		return
	}
	t := l.takeTyping(n)
	refusal := l.jail.Typed(t.Slot, &t.st, err)
	if refusal == nil && l.watch(l.conns[i].fd, kindConn, i) != nil {
		// The client is not heard any more, which is what its end would be.
		_ = l.procs.kill(t.st.PID, syscall.SIGKILL)
	}
	if !l.begun(i, t.Slot, &t.st, refusal, t.rights) {
		l.slots = append(l.slots, t.Slot)
	}
}

// abandon ends a session that is still being typed, without an answer.
func (l *loop) abandon(i int) {
	n := l.typingOf(i)
	if n < 0 {
		return
	}
	t := l.takeTyping(n)
	_ = l.jail.Typed(t.Slot, &t.st, syscall.ECANCELED)
	l.release(&t.st)
	l.slots = append(l.slots, t.Slot)
	l.drop(i)
}

func (l *loop) typingOf(i int) int {
	for n := range l.typings {
		if l.typings[n].index == i {
			return n
		}
	}
	return -1
}

func (l *loop) takeTyping(n int) typing {
	t := l.typings[n]
	l.typings = append(l.typings[:n], l.typings[n+1:]...)
	l.unwatch(t.st.Master)
	return t
}

// told reports whether the master has been told by its slave that all is typed.
func told(master int) bool {
	fds := [1]sys.PollFD{{FD: int32(master), Events: pollPri}}
	_, e := sys.Wait(fds[:], 0)
	return e == 0 && fds[0].Revents&pollPri != 0
}

const (
	pollPri = 0x2
	epollET = 1 << 31
)

// expireTypings ends what the kernel does not get done, and those whose client is gone.
func (l *loop) expireTypings(now int64) {
	for n := len(l.typings) - 1; n >= 0; n-- {
		t := &l.typings[n]
		switch {
		case hungUp(l.conns[t.index].fd):
			l.abandon(t.index)
		case now-t.since > typeWait:
			l.typed(t.index, syscall.ETIMEDOUT)
		}
	}
}

// release gives up what a session that did not begin had of its client's.
func (l *loop) release(st *session.Started) {
	for _, fd := range [...]int{st.Master, st.Agent} {
		if fd >= 0 {
			sys.Close(fd)
		}
	}
	f := st.Forward // st itself would be on the heap, for each session
	l.jail.Remove(&f)
}

// begun is for a session that has begun, or was refused. It reports whether the slot is
// busy with it.
func (l *loop) begun(i int, s *session.Slot, st *session.Started, refusal *session.Refusal, rights bool) bool {
	c := l.conns[i]
	if refusal != nil {
		l.release(st)
		l.refuse(i, refusal.Status, refusal.Text)
		return false
	}
	l.now = sys.MonotonicMillis()
	l.busySlots = append(l.busySlots, busySlot{s, c, c.login, st.PIDFD, l.now})
	if rights {
		c.taking, c.rights = s.Child, false
	}
	if c.state == pending {
		l.waiting--
	}
	c.state, c.pid, c.pidfd, c.tty = running, st.PID, st.PIDFD, st.Master >= 0
	c.since = l.now
	l.byPID[st.PID] = i
	l.sessions++
	l.served++
	l.children, l.idle = true, 0
	_ = l.watch(st.PIDFD, kindChild, i)
	c.forward, c.record = st.Forward, st.Login
	if st.Note != "" {
		l.log(st.Note)
	}
	if c.login >= 0 { // the administrator's sessions are as plain as can be
		c.policy = l.setup.OnDisconnect
	}
	if l.serviceBegun(c); c.service == 0 {
		l.tellStarted(c, &s.Req, st)
	}
	if err := l.started(c, st); err != nil {
		l.hangup(i)
	}
	return true
}

// started answers a request. The copies that go with the answer are the only
// ones: the client's death ends the agent and hangs up the terminal, unless the
// jail has another idea of that.
func (l *loop) started(c *conn, st *session.Started) error {
	msg := wire.Started{PID: uint32(st.PID)}
	var fds [2]int
	n := 0
	if c.tty {
		fds[n], n = st.Master, n+1
		defer sys.Close(st.Master)
		if c.policy == wire.DisconnectKill || c.policy == wire.DisconnectKeep {
			c.master, _ = sys.Fcntl(st.Master, syscall.F_DUPFD_CLOEXEC, 0)
		}
	} else if c.policy == wire.DisconnectKill || c.policy == wire.DisconnectHup {
		msg.Flags |= wire.FlagWatch
	}
	if st.Agent >= 0 {
		msg.Flags |= wire.FlagAgentFD
		fds[n], n = st.Agent, n+1
		defer sys.Close(st.Agent)
	}
	l.out = wire.AppendStarted(l.out[:0], msg)
	return sys.SendMsg(c.fd, l.out, fds[:n], false, &l.m)
}
