package pid1

import (
	"syscall"

	"jail/internal/login"
	"jail/internal/session"
	"jail/internal/sys"
	"jail/internal/wire"
)

const (
	// maxKept is what of events nobody has taken is kept, in bytes: those of about a
	// thousand sessions.
	maxKept = 64 << 10
	// slack is what is dropped before the rest is moved up, so that not every event
	// moves all others.
	slack = 4 << 10
	// maxEvent is no fewer bytes than the longest one has with its length, a refusal.
	maxEvent = wire.MaxText + 64
	// fewKept is the memory for what waits where somebody listens, in bytes.
	fewKept = wire.MaxEvents
	// tellAfter is how long events wait for others, in milliseconds. Whoever reads them is
	// woken for each packet, and a login would wait for a processor meanwhile: told one
	// by one they were a tenth of what a short session takes.
	tellAfter = 100
)

// events are those nobody has taken yet: they go together, some at a time, after
// the answers to the clients. Nothing is allocated for one. There are two places for them,
// so that what has been kept once is not PID 1's for good: the collector never runs there.
type events struct {
	kept    []byte // each with its length in front, two bytes; in few or in many
	few     []byte // fewKept, of the collector's memory
	many    []byte // mapped while few is too small: pages that have not been written to cost nothing
	head    int    // where the first one begins
	dropped uint64
	to      *conn // who has asked for them last; nil without
	oom     bool  // it knows EventEndedOOM
	full    bool  // its socket was; epoll says when there is room
	since   int64 // when the first one came that is not told; CLOCK_BOOTTIME, milliseconds
}

func (k *events) empty() bool { return k.head == len(k.kept) && k.dropped == 0 }

// length of the event at a place in kept, with what is in front of it.
func (k *events) length(at int) int { return 2 + int(k.kept[at]) + int(k.kept[at+1])<<8 }

// left is for how many milliseconds more events wait for others; -1 if there are none
// that could be told.
func (k *events) left(now int64) int {
	switch {
	case k.to == nil || k.full || k.empty():
		return -1
	case len(k.kept)-k.head >= wire.MaxEvents/2:
		return 0
	}
	return int(min(max(k.since+tellAfter-now, 0), tellAfter))
}

func (k *events) add(e *wire.Event) {
	if k.empty() {
		k.since = int64(e.At)
	}
	k.makeRoom()
	at := len(k.kept)
	k.kept = wire.AppendEvent(append(k.kept, 0, 0), e)
	n := len(k.kept) - at - 2
	k.kept[at], k.kept[at+1] = byte(n), byte(n>>8)
	for len(k.kept)-k.head > maxKept {
		k.drop()
	}
	if k.head >= slack {
		k.moveUp()
	}
}

// makeRoom makes room for one event.
func (k *events) makeRoom() {
	if k.few == nil {
		k.few = make([]byte, 0, fewKept)
		k.kept = k.few
	}
	if k.many == nil && cap(k.kept)-len(k.kept) < maxEvent {
		if m, err := syscall.Mmap(-1, 0, maxKept+slack+maxEvent, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON); err == nil {
			k.many, k.kept, k.head = m, m[:copy(m, k.kept[k.head:])], 0
		}
	}
	for cap(k.kept)-len(k.kept) < maxEvent { // there is no more memory
		if k.head == 0 {
			k.drop()
		}
		k.moveUp()
	}
}

// drop forgets the oldest one, and counts it.
func (k *events) drop() {
	k.head += k.length(k.head)
	k.dropped++
}

func (k *events) moveUp() { k.kept, k.head = k.kept[:copy(k.kept, k.kept[k.head:])], 0 }

// packet makes a packet of the first ones, and returns where the others begin.
func (k *events) packet(dst []byte) (p []byte, next int) {
	p, next = wire.AppendEvents(dst), k.head
	if k.dropped > 0 {
		p = wire.AppendEvent(p, &wire.Event{Kind: wire.EventLost, Count: k.dropped})
	}
	for next < len(k.kept) {
		n := k.length(next)
		if len(p)+n-2 > wire.MaxEvents {
			break
		}
		at := len(p)
		p = append(p, k.kept[next+2:next+n]...)
		if p[at] == byte(wire.EventEndedOOM) && !k.oom {
			p[at] = byte(wire.EventEnded)
		}
		next += n
	}
	return p, next
}

// sent forgets what was in a packet.
func (k *events) sent(next int) {
	k.dropped, k.head = 0, next
	if k.head == len(k.kept) {
		k.kept, k.head = k.few, 0
		if k.many != nil {
			_ = syscall.Munmap(k.many)
			k.many = nil
		}
	}
}

// hears notes that a connection wants events from now on, or does not, and whether it knows
// EventEndedOOM.
func (l *loop) hears(c *conn, wants, oom bool) {
	if was := l.events.to; was != nil && (wants || was == c) {
		was.wantEvents = false
		l.events.to = nil
	}
	if wants {
		c.wantEvents = true
		l.events.to, l.events.full, l.events.oom = c, false, oom
	}
}

// tell sends what has happened to who wants to hear it. It never waits: what cannot be
// sent now is kept.
func (l *loop) tell() {
	k := &l.events
	if k.to == nil || k.full || k.empty() {
		return
	}
	if c := k.to; c.state != admin || !c.wantEvents || c.fd < 0 {
		k.to = nil // it is gone, or another's by now
		return
	}
	for !k.empty() {
		var next int
		l.out, next = k.packet(l.out[:0])
		if err := sys.SendMsg(k.to.fd, l.out, nil, false, &l.m); err != nil {
			if err == syscall.EAGAIN {
				k.full = l.watchRoom(k.to, syscall.EPOLLIN|syscall.EPOLLOUT)
			}
			return
		}
		k.sent(next)
	}
}

// writable is called when there is room again in the socket of a connection.
func (l *loop) writable(i int) {
	c := l.conns[i]
	if c.state == free {
		return
	}
	if c == l.events.to {
		l.events.full = false
	}
	l.watchRoom(c, syscall.EPOLLIN)
}

func (l *loop) watchRoom(c *conn, what uint32) bool {
	for i := range l.conns {
		if l.conns[i] == c {
			ev := sys.EpollEvent{Events: what, Fd: int32(kindConn), Pad: int32(i)}
			return syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_MOD, c.fd, &ev) == nil
		}
	}
	return false
}

// named gives a request its id, by which it is known from here on, and notes whose it is:
// the listener may be another login's by the time the session ends.
func (l *loop) named(c *conn) {
	if c.id == (login.ID{}) {
		c.id, c.host = l.ids.Next(), wire.NoLogin
		if c.login >= 0 {
			c.host = l.listeners[c.login].id.HostUID
		}
	}
}

// eventOf begins an event of a session.
func (l *loop) eventOf(kind wire.EventKind, c *conn) wire.Event {
	return wire.Event{Kind: kind, At: uint64(l.now), ID: c.id, HostUID: c.host}
}

// tellStarted tells that a session has started.
func (l *loop) tellStarted(c *conn, r *wire.Request, st *session.Started) {
	e := l.eventOf(wire.EventStarted, c)
	switch {
	case c.login < 0:
		e.Session = wire.SessionExec
	case st.Proven:
		e.Session = wire.SessionProof
	case st.SFTP:
		e.Session = wire.SessionSFTP
	case len(r.Args) > 0:
		e.Session = wire.SessionCommand
	default:
		e.Session = wire.SessionShell
	}
	e.UID, e.TTY, e.PID = st.UID, wire.NoTTY, uint32(st.PID)
	if c.tty {
		e.TTY = uint32(st.Pts)
	}
	l.events.add(&e)
}

// tellEnded tells how a session has ended, and whether that was for want of memory.
func (l *loop) tellEnded(c *conn, ws syscall.WaitStatus, oom bool) {
	e := l.eventOf(wire.EventEnded, c)
	e.OutOfMemory = oom
	e.Millis = e.At - uint64(c.since)
	if e.Status = uint8(ws.ExitStatus()); ws.Signaled() {
		e.Status, e.Signal = 0, uint8(ws.Signal())
	}
	l.events.add(&e)
}

// tellRefused tells that a request was refused, as an event or, who does not know events,
// in a log line.
func (l *loop) tellRefused(c *conn, who string, status uint8, text string) {
	e := l.eventOf(wire.EventRefused, c)
	e.Status, e.Text = status, text
	l.events.add(&e)
	l.logTo("id="+c.id.String()+" login="+who+" refused: "+text, false)
}

// tellEnding tells, last of all, why the jail ends.
func (l *loop) tellEnding(why wire.EndWhy, text string) {
	l.events.add(&wire.Event{Kind: wire.EventEnding, At: uint64(l.now), Why: why})
	l.tell()
	l.logTo("ends: "+text, true)
}
