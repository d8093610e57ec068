package pid1

import (
	"strconv"
	"syscall"

	"jail/internal/login"
	"jail/internal/session"
	"jail/internal/sys"
	"jail/internal/tty"
	"jail/internal/wire"
)

// Limits of one jail. They bound what a peer can make PID 1 hold.
const (
	maxSessions  = 1000     // at once
	maxPending   = 64       // connections that have not sent their request yet
	requestWait  = 2000     // milliseconds a connection may take to send it
	maxSlots     = 32       // sessions between clone and exec at once
	loginSlots   = 16       // of these, those of one login
	maxFree      = 8        // slots kept for the next ones
	smallRequest = 64 << 10 // bytes; the memory of a larger one is given back
	execDeadline = 10_000
	tick         = 1000 // milliseconds between looks for orphans
	// maxNap is the longest time between looks for what nobody tells of, in milliseconds.
	// A child executes within one, if it gets a processor: the first looks come early.
	maxNap      = 20
	acceptBatch = 16
	// nearLogins is how many listeners have descriptors like any other. More are moved to
	// farFDs and above, of which a session gets no copies (sys.Child.FilesBelow): to make and
	// close one takes up to half a microsecond. Below is room for all that sessions have.
	nearLogins = wire.SetupLogins
	farFDs     = 8192
	maxSignals = 16 // messages read from one session's connection at a time
)

// kind says what an epoll event's descriptor is; it travels in the event
// together with an index.
type kind int32

const (
	kindListener kind = iota
	kindControl       // the control listener
	kindConn
	kindChild  // a session leader's pidfd
	kindMaster // the terminal of a session whose client is gone
	kindTyping // the terminal of a session that is typed into
	kindMemory // memory.events of the jail's cgroup
)

// listener is one login's.
type listener struct {
	fd int
	id wire.Identity
	// begun is when, in milliseconds, no session of it counts any more (allows).
	begun int64
}

type state uint8

const (
	free     state = iota
	pending        // connected, no request yet
	typingIn       // what was typed ahead is on its way into the session's terminal
	running        // a session runs
	orphan         // a session runs, its connection is gone
	admin          // a control connection
	leaving        // it has been refused; its request is still being thrown away
)

// conn is a connection, the session that came of it, or both.
type conn struct {
	state      state
	service    uint8 // the place in services, plus 1, of what it is, or wants to hear of
	fd         int
	login      int // index of its listener; -1 for the control listener
	since      int64
	pid        int
	pidfd      int
	tty        bool
	wantLog    bool
	wantEvents bool
	id         login.ID       // of the request or session
	host       uint32         // the login's uid, or wire.NoLogin
	execAs     *wire.Identity // control: the next request is for this identity
	parked     bool           // not watched until a slot is free, or the child has taken
	taking     taker          // has still to take the request's packet off the connection
	wrong      bool           // what it found there was no request's
	rights     bool           // descriptors came with the request, and nobody has taken them
	forward    session.Forward
	record     session.Login
	policy     wire.OnDisconnect
	master     int  // a copy of the terminal's, where the policy needs it; -1 without
	gone       bool // the client has said that its caller is gone
}

// proof is a key that counts until a time, and as long as the connection is there that has
// told of it.
type proof struct {
	*wire.Proof
	until int64
	by    *conn // nil is none
}

// taker is a sys.Child, or what stands for one in a test.
type taker interface {
	Taken() sys.Taken
	Pending() bool
	Own() bool
}

// busySlot is a slot whose child may not have executed yet. Until it has, or has
// ended, it is not reaped either, so the pidfd still refers to it.
type busySlot struct {
	*session.Slot
	conn  *conn
	login int
	pidfd int
	since int64
}

// sessions is session.Jail, or what stands for it in a test.
type sessions interface {
	Start(s *session.Slot, id *wire.Identity, conn int) (session.Started, *session.Refusal)
	Typed(s *session.Slot, st *session.Started, err error) *session.Refusal
	Remove(f *session.Forward)
	Logout(l session.Login) *sys.Child
	Limit(s *wire.SessionLimits)
}

// processes are those of the jail, or what stands for them in a test.
type processes interface {
	// kill is kill(2).
	kill(pid int, sig syscall.Signal) error
	// wait is waitpid(2) for any child, with WNOHANG.
	wait() (pid int, ws syscall.WaitStatus, err error)
}

type loop struct {
	proof proof // the last that was told of
	setup *wire.Setup
	jail  sessions
	procs processes
	epfd  int
	ctl   int

	listeners []listener
	byUID     map[uint32]int // of those that have one, by host uid
	unused    []int          // places in listeners that had one
	far       bool           // there are, or were, listeners at farFDs and above
	conns     []*conn
	freeConns []int
	byPID     map[int]int
	slots     []*session.Slot
	busySlots []busySlot
	typings   []typing
	buriers   []burier
	dead      []int // descriptors that PID 1 cannot close by itself
	paused    bool  // accepting stopped for want of descriptors
	parked    bool  // a connection waits for a slot, or for a child
	naps      int   // how often it was looked in vain whether one has what it waits for
	woken     []int // by login, what unpark has given slots to

	services []service
	serving  int // how many of them run

	sessions int // services among them
	waiting  int // connections in state pending
	served   uint64
	children bool  // there was a child at the last look
	now      int64 // sys.MonotonicMillis of a moment ago
	lastReap int64
	idle     int64 // since when nothing has been going on; 0 if something is

	stopping bool
	stopAt   int64 // when SIGKILL follows
	endAt    int64 // when all are asked to end, though services still run; 0 when they have been
	killed   bool

	m      sys.MsgBuf
	small  [64]byte
	waste  []byte // what drain reads
	out    []byte
	ids    login.IDs
	events events
	memory memory
}

// newLoop makes the loop of a jail. ctl is the control listener, logins are those of
// s.Logins, launcher is the first control connection.
func newLoop(s *wire.Setup, jail sessions, procs processes, ctl int, logins []int, launcher int) (*loop, error) {
	l := &loop{setup: s, jail: jail, procs: procs, ctl: ctl, memory: memory{fd: -1}, now: sys.MonotonicMillis(), byPID: map[int]int{}, byUID: map[uint32]int{}, out: make([]byte, 0, 1024)}
	var now syscall.Timeval
	_ = syscall.Gettimeofday(&now)
	l.ids = login.NewIDs(s.Name, now.Sec*1000+now.Usec/1000)
	var err error
	if l.epfd, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, sys.Wrap("make epoll", err)
	}
	for i, fd := range logins {
		if err := l.addListener(fd, s.Logins[i]); err != nil {
			return nil, err
		}
	}
	if err := sys.SetNonblock(ctl); err != nil {
		return nil, sys.Wrap("control listener", err)
	}
	if err := l.watch(ctl, kindControl, 0); err != nil {
		return nil, err
	}
	i := l.newConn(conn{state: admin, fd: launcher, login: -1, wantLog: true})
	l.hears(l.conns[i], true, true)
	if err := sys.SetNonblock(launcher); err != nil {
		return nil, err
	}
	if _, err := sys.Fcntl(launcher, syscall.F_SETFD, syscall.FD_CLOEXEC); err != nil {
		return nil, err
	}
	return l, l.watch(launcher, kindConn, i)
}

// limits are what PID 1 and its children have of what the kernel limits.
func limits() {
	// Sessions get their own limit; PID 1 needs two descriptors for each.
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil && lim.Cur < lim.Max {
		lim.Cur = lim.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim)
	}
	// A core file of one byte: none is written, and what the host's core_pattern
	// pipes crashes to is not run. With 0 it would be (core(5), CVE-2025-4598).
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: 1, Max: 1})
}

// addListener takes a login's listener, which is its from then on.
func (l *loop) addListener(fd int, id wire.Identity) error {
	if err := sys.SetNonblock(fd); err != nil {
		l.dead = append(l.dead, fd)
		return sys.Wrap("listener", err)
	}
	if len(l.byUID) >= nearLogins {
		// Where the limit is lower, sessions are as slow as it has descriptors.
		if far, err := sys.Fcntl(fd, syscall.F_DUPFD_CLOEXEC, farFDs); err == nil {
			sys.Close(fd)
			fd, l.far = far, true
		}
	}
	i := len(l.listeners)
	if n := len(l.unused); n > 0 && !l.waitsOn(l.unused[n-1]) {
		i = l.unused[n-1]
		l.unused = l.unused[:n-1]
		l.listeners[i] = listener{fd: fd, id: id}
	} else {
		l.listeners = append(l.listeners, listener{fd: fd, id: id})
	}
	l.byUID[id.HostUID] = i
	err := l.watch(fd, kindListener, i)
	if err != nil {
		l.forgetListener(i)
	}
	return err
}

// waitsOn reports whether a connection that came from listener i has still to
// send its request, for which its identity is needed.
func (l *loop) waitsOn(i int) bool {
	for _, c := range l.conns {
		if (c.state == pending || c.state == typingIn) && c.login == i {
			return true
		}
	}
	return false
}

func (l *loop) watch(fd int, k kind, index int) error {
	ev := sys.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(k), Pad: int32(index)}
	return syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_ADD, fd, &ev)
}

func (l *loop) unwatch(fd int) { _ = syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_DEL, fd, nil) }

// forget closes a watched descriptor. Closing alone would not do: a child that has
// not executed yet has a copy, with which the descriptor stays in the epoll set and
// goes on reporting, by an index that is somebody else's by then (epoll(7)).
func (l *loop) forget(fd int) {
	l.unwatch(fd)
	sys.Close(fd)
}

func (l *loop) newConn(c conn) int {
	c.pidfd, c.master = -1, -1
	c.since = l.now
	if n := len(l.freeConns); n > 0 {
		i := l.freeConns[n-1]
		l.freeConns = l.freeConns[:n-1]
		*l.conns[i] = c
		return i
	}
	fresh := new(conn)
	*fresh = c
	l.conns = append(l.conns, fresh)
	return len(l.conns) - 1
}

// run is the loop. It returns when the jail is to end; every process but this
// one is gone by then.
func (l *loop) run() int {
	events := make([]sys.EpollEvent, 64)
	for {
		ended, err := l.turn(events, l.timeout())
		if err != nil {
			l.log("epoll: " + err.Error())
			return 1
		}
		if l.events.left(l.now) == 0 {
			l.tell()
		}
		if ended {
			if l.stopping {
				l.tellEnding(wire.EndTold, "told to")
			} else {
				l.tellEnding(wire.EndIdle, "idle")
			}
			return 0
		}
	}
}

// turn waits at most timeout milliseconds for something to happen, and does all that
// is to be done then. It reports whether the jail is to end.
func (l *loop) turn(events []sys.EpollEvent, timeout int) (ended bool, err error) {
	n, err := sys.EpollWait(l.epfd, events, timeout)
	l.now = sys.MonotonicMillis()
	if err != nil && err != syscall.EINTR {
		return false, err
	}
	reap := err == syscall.EINTR // SIGCHLD, most likely
	for _, ev := range events[:max(n, 0)] {
		i := int(ev.Pad)
		switch kind(ev.Fd) {
		case kindListener:
			l.accept(l.listeners[i].fd, i)
		case kindControl:
			l.accept(l.ctl, -1)
		case kindConn:
			if ev.Events&syscall.EPOLLOUT != 0 {
				l.writable(i)
			}
			if ev.Events&^syscall.EPOLLOUT != 0 {
				l.readable(i)
			}
		case kindChild:
			reap = true
		case kindMaster:
			l.drain(i)
		case kindTyping:
			l.typed(i, nil)
		case kindMemory:
			l.memory.look(l.now)
		}
	}
	if reap || l.now-l.lastReap >= tick {
		l.reap()
		l.lastReap = l.now
	}
	l.expire(l.now)
	return l.done(l.now), nil
}

// timeout is how long epoll may wait, in milliseconds; -1 is for ever.
func (l *loop) timeout() int {
	ms := l.quiet()
	if left := l.events.left(l.now); left >= 0 && (ms < 0 || left < ms) {
		return left
	}
	return ms
}

// quiet is timeout where there is nothing to tell.
func (l *loop) quiet() int {
	if l.parked && !l.paused {
		return min(1<<l.naps, maxNap)
	}
	if l.paused || len(l.dead) > 0 || len(l.busySlots) == maxSlots {
		return maxNap
	}
	if l.stopping {
		return 50
	}
	switch {
	case l.waiting > 0, l.children, len(l.busySlots) > 0, len(l.typings) > 0, len(l.buriers) > 0:
		return tick
	case l.idle != 0 && l.setup.IdleMillis > 0:
		left := l.idle + int64(l.setup.IdleMillis) - l.now
		return int(min(max(left, 0), 1<<30))
	}
	return -1
}

// accept takes what waits on a listener. A client sends its request at once, so
// it is usually there to be read.
func (l *loop) accept(listener, login int) {
	// The host is answered also while the jail is on its way down.
	for n := 0; n < acceptBatch && !(l.stopping && login >= 0); n++ {
		fd, err := sys.Accept(listener)
		switch err {
		case nil:
		case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS:
			l.pause()
			return
		default: // EAGAIN, or a peer that has gone
			return
		}
		if login >= 0 && !l.peerIs(fd, &l.listeners[login].id) {
			l.discard(fd)
			continue
		}
		c := conn{state: pending, fd: fd, login: login}
		if login < 0 {
			c.state = admin
		} else {
			if l.waiting >= maxPending {
				l.dropOldest()
			}
			l.waiting++
		}
		i := l.newConn(c)
		if err := l.watch(fd, kindConn, i); err != nil {
			l.drop(i)
			continue
		}
		l.readable(i)
	}
}

// peerIs checks who connected, where that can be seen: in a user namespace
// every uid of the host reads 65534 (user_namespaces(7)), and the socket's
// owner and mode alone decide.
func (l *loop) peerIs(fd int, id *wire.Identity) bool {
	if l.setup.Userns {
		return true
	}
	cred, err := sys.PeerCred(fd)
	return err == nil && (cred.Uid == id.HostUID || cred.Uid == 0)
}

// pause stops accepting until a descriptor is free; the queue holds.
func (l *loop) pause() {
	if l.paused {
		return
	}
	l.paused = true
	for i := range l.listeners {
		if l.listeners[i].fd >= 0 {
			l.unwatch(l.listeners[i].fd)
		}
	}
	l.log("out of descriptors: logins wait")
}

func (l *loop) resume() {
	l.paused = false
	for i := range l.listeners {
		if l.listeners[i].fd >= 0 {
			_ = l.watch(l.listeners[i].fd, kindListener, i)
		}
	}
}

func (l *loop) dropOldest() {
	oldest := -1
	for i, c := range l.conns {
		if c.state == pending && (oldest < 0 || c.since < l.conns[oldest].since) {
			oldest = i
		}
	}
	if oldest >= 0 {
		l.drop(oldest)
	}
}

// drop closes a connection and frees its place, or leaves the session without
// one.
func (l *loop) drop(i int) {
	c := l.conns[i]
	if l.proof.by == c {
		l.proof.by = nil
	}
	if c.state == pending {
		l.waiting--
	}
	if c.fd >= 0 {
		l.unwatch(c.fd)
		if c.taking != nil && !c.taking.Own() {
			// A child is about to read from it, and the number would be another's.
			l.dead = append(l.dead, c.fd)
		} else {
			l.discard(c.fd)
		}
		c.fd = -1
	}
	l.jail.Remove(&c.forward)
	if c.pid != 0 {
		c.state = orphan
		return
	}
	*c = conn{}
	l.freeConns = append(l.freeConns, i)
}

// readable handles what a connection has sent.
func (l *loop) readable(i int) {
	c := l.conns[i]
	switch c.state {
	case pending:
		l.request(i, &l.listeners[c.login].id)
	case running:
		if l.took(c) {
			l.messages(i)
		} else {
			l.park(c)
		}
	case admin:
		l.control(i)
	}
}

// took reports whether a session's connection is PID 1's to read again: until then
// its child reads from it, and it is not watched.
func (l *loop) took(c *conn) bool {
	if c.taking == nil {
		return true
	}
	taken := c.taking.Taken()
	if taken == sys.TakenNotYet && c.taking.Pending() {
		return false
	}
	c.taking, c.wrong = nil, taken == sys.TakenWrong
	return true
}

// park leaves a connection unwatched for a while.
func (l *loop) park(c *conn) {
	l.unwatch(c.fd)
	if c.parked = true; !l.parked {
		l.parked, l.naps = true, 0
	}
}

// unpark watches connections again whose time has come: as many as there are slots for,
// or all would be watched and parked again for each slot.
func (l *loop) unpark() {
	l.parked, l.woken = false, l.woken[:0]
	some := false
	for i, c := range l.conns {
		switch {
		case !c.parked:
			continue
		case c.state == leaving && l.took(c):
			l.drop(i)
		case !l.took(c), c.state != running && !l.hasSlot(c.login):
			l.parked = true
			continue
		default:
			if c.state != running {
				l.woken = append(l.woken, c.login)
			}
			c.parked = false
			_ = l.watch(c.fd, kindConn, i)
		}
		some = true
	}
	l.woken = l.woken[:0]
	if l.naps = min(l.naps+1, maxNap); some {
		l.naps = 0
	}
}

// hasSlot reports whether a login may have one more child that has not executed yet.
func (l *loop) hasSlot(login int) bool {
	own := 0
	for _, s := range l.busySlots {
		if s.login == login {
			own++
		}
	}
	for _, woken := range l.woken {
		if woken == login {
			own++
		}
	}
	for i := range l.typings {
		if l.typings[i].login == login {
			own++
		}
	}
	return len(l.busySlots)+len(l.woken)+len(l.typings) < maxSlots && own < loginSlots
}

// slot returns memory for a new session of a login, nil if all of it, or all that one
// login can have, is held by children that have not executed yet.
func (l *loop) slot(login int) *session.Slot {
	if l.collectSlots(); !l.hasSlot(login) {
		return nil
	}
	if n := len(l.slots); n > 0 {
		s := l.slots[n-1]
		l.slots = l.slots[:n-1]
		return s
	}
	return session.NewSlot()
}

func (l *loop) collectSlots() {
	kept := l.busySlots[:0]
	for _, s := range l.busySlots {
		s.Settle()
		if s.Child.Pending() {
			kept = append(kept, s)
			continue
		}
		if s.conn.taking == s.Child { // which is another session's from here on
			l.took(s.conn)
		}
		if len(l.slots) < maxFree && s.Used <= smallRequest {
			l.slots = append(l.slots, s.Slot)
		} else {
			s.Free()
		}
	}
	clear(l.busySlots[len(kept):])
	l.busySlots = kept
}

// hungUp reports whether the other end of a connection is closed.
func hungUp(fd int) bool {
	fds := [1]sys.PollFD{{FD: int32(fd)}}
	_, e := sys.Wait(fds[:], 0)
	return e == 0 && fds[0].Revents&sys.PollHup != 0
}

// request looks at a Request and starts its session, whose child takes it off the
// connection if descriptors come with it: they are never PID 1's, who would have to
// close them. Anything else closes the connection.
func (l *loop) request(i int, id *wire.Identity) {
	c := l.conns[i]
	s := l.slot(c.login)
	if s == nil {
		// The slots are held by children that cannot execute. The request stays
		// in the socket until one can.
		l.park(c)
		return
	}
	busy := false
	defer func() {
		if !busy {
			l.slots = append(l.slots, s)
		}
	}()
	n, rights, err := sys.PeekMsg(c.fd, s.Buf, &l.m)
	if err == syscall.EAGAIN {
		return
	}
	if err != nil || n == 0 {
		l.drop(i)
		return
	}
	l.named(c)
	if c.rights = rights; !rights {
		_, _, _ = sys.TakeMsg(c.fd, l.small[:1], &l.m) // s.Buf has it all
	}
	s.Used = n
	err = wire.DecodeRequest(s.Buf[:n], &s.Req)
	if err == wire.ErrVersion {
		l.refuse(i, 125, "this jail runs another version of the protocol; it has to be restarted (jail stop "+l.setup.Name+")")
		return
	}
	if err != nil || rights != (s.Req.FDs() > 0) {
		l.drop(i)
		return
	}
	if why := l.noService(c); why != "" {
		l.refuse(i, 125, why)
		return
	}
	if why := l.tooMany(c); why != "" {
		l.refuse(i, 125, why)
		return
	}
	if l.sessions >= maxSessions {
		l.refuse(i, 125, "the jail has as many sessions as it can hold")
		return
	}
	if hungUp(c.fd) { // the client was ended while it waited
		l.drop(i)
		return
	}
	if s.FilesBelow = 0; l.far {
		s.FilesBelow = farFDs
	}
	s.Proof = l.proofOf(c)
	st, refusal := l.jail.Start(s, id, c.fd)
	if refusal == nil && st.Typing {
		busy = true
		l.types(i, s, &st, rights)
		return
	}
	busy = l.begun(i, s, &st, refusal, rights)
}

// refuse answers a request with a reason and logs it under the same id.
func (l *loop) refuse(i int, status uint8, text string) {
	c := l.conns[i]
	l.out = wire.AppendRefused(l.out[:0], wire.Refused{Status: status, ID: c.id.String(), Text: text})
	_ = sys.SendMsg(c.fd, l.out, nil, false, &l.m)
	if c.service != 0 { // who is told is who wants to know
		l.leave(i)
		return
	}
	who := "control"
	if c.login >= 0 {
		who = strconv.FormatUint(uint64(l.listeners[c.login].id.HostUID), 10)
	}
	l.tellRefused(c, who, status, text)
	l.leave(i)
}

// messages handles what the client of a running session sends: signals, or its
// end.
func (l *loop) messages(i int) {
	c := l.conns[i]
	for n := 0; n < maxSignals; n++ {
		got, rights, err := sys.PeekMsg(c.fd, l.small[:], &l.m)
		if err == syscall.EAGAIN {
			return
		}
		var sig wire.Signal
		if err == nil && got > 0 && !rights && !c.wrong {
			_, _, _ = sys.TakeMsg(c.fd, l.small[:], &l.m)
			var typ wire.Type
			var body []byte
			if typ, _, body, err = wire.Header(l.small[:got]); err == nil {
				switch {
				case typ == wire.TypeSignal:
					sig, err = wire.DecodeSignal(body)
				case typ == wire.TypeDisconnected && len(body) == 0 && !c.tty && !c.gone:
					c.gone = true
					l.disconnected(c)
					continue
				}
			}
		}
		if err != nil || sig.Number == 0 {
			l.hangup(i)
			return
		}
		l.kill(c, syscall.Signal(sig.Number))
	}
}

// kill signals a session's process group. The leader has not been reaped, so
// neither number can be anybody else's.
func (l *loop) kill(c *conn, sig syscall.Signal) {
	if l.procs.kill(-c.pid, sig) != nil {
		_ = l.procs.kill(c.pid, sig) // it has not called setsid yet
	}
}

// hangup ends the connection of a running session whose client is gone. A
// client only goes before its session when its terminal is gone, when it was
// killed with SIGKILL, or broke the protocol: without a terminal the command dies
// of the same, which is what sshd's kill would have done to it; with one, closing
// the master has hung up already, unless there is another copy of it here. A service goes
// on: it was the supervisor that has gone.
func (l *loop) hangup(i int) {
	c := l.conns[i]
	if c.service != 0 {
		l.drop(i)
		return
	}
	if !c.tty {
		l.kill(c, syscall.SIGKILL)
	} else {
		l.disconnected(c)
	}
	l.drop(i)
	if c.master >= 0 && (sys.SetNonblock(c.master) != nil || l.watch(c.master, kindMaster, i) != nil) {
		l.closeMaster(c)
	}
}

// disconnected does to a session what the registry wants done when nobody is
// there any more to see what it does.
func (l *loop) disconnected(c *conn) {
	switch c.policy {
	case wire.DisconnectHup:
		if !c.tty {
			l.kill(c, syscall.SIGHUP)
			l.kill(c, syscall.SIGCONT) // as the kernel does: a stopped one has to hear of it
		}
	case wire.DisconnectKill:
		if c.master >= 0 {
			// What runs in the foreground of a shell has a process group of its own.
			if pgrp, err := tty.Foreground(c.master); err == nil && pgrp > 1 {
				_ = l.procs.kill(-pgrp, syscall.SIGKILL)
			}
			l.closeMaster(c)
		}
		l.kill(c, syscall.SIGKILL)
	}
}

// drain reads what a session without a client prints, and forgets it. A little
// at a time, since the loop has more to do.
func (l *loop) drain(i int) {
	c := l.conns[i]
	if c.state != orphan || c.master < 0 {
		return
	}
	waste := l.scratch()
	if n, err := sys.Read(c.master, waste); n <= 0 && err != syscall.EAGAIN {
		l.closeMaster(c) // EIO: nobody has the terminal open any more
	}
}

// scratch is memory for what is used at once: what nobody reads, and messages of the
// host's root.
func (l *loop) scratch() []byte {
	if l.waste == nil {
		l.waste = make([]byte, 16<<10)
	}
	return l.waste
}

// closeMaster gives up the copy of a terminal's master.
func (l *loop) closeMaster(c *conn) {
	if c.master >= 0 {
		l.forget(c.master)
		c.master = -1
	}
}

// reap is the only place that waits. It collects every child that has ended,
// sessions and orphans, and reports the sessions.
func (l *loop) reap() {
	for {
		pid, ws, err := l.procs.wait()
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			l.children = err == nil
			return
		}
		if i, ok := l.byPID[pid]; ok {
			l.exited(i, ws)
		}
	}
}

func (l *loop) exited(i int, ws syscall.WaitStatus) {
	c := l.conns[i]
	if c.taking != nil && c.taking.Taken() == sys.TakenWrong {
		c.wrong = true
	}
	c.taking = nil
	delete(l.byPID, c.pid)
	l.forget(c.pidfd)
	if child := l.jail.Logout(c.record); child != nil {
		l.burier(child)
	}
	for _, s := range l.busySlots {
		if s.conn == c {
			s.Settle() // or the terminal would not hang up
		}
	}
	l.closeMaster(c) // with the client's copy this hangs up whatever is left on it
	l.sessions--
	pid := c.pid
	c.pid = 0
	e := wire.Exited{Code: uint8(ws.ExitStatus())}
	if ws.Signaled() {
		e = wire.Exited{Signal: uint8(ws.Signal())}
	}
	e.OutOfMemory = l.memory.ended(ws, l.now)
	e.Ending = l.stopping && c.service != 0
	if c.fd >= 0 && !c.wrong {
		l.out = wire.AppendExited(l.out[:0], e)
		_ = sys.SendMsg(c.fd, l.out, nil, false, &l.m)
	}
	if c.service == 0 {
		l.tellEnded(c, ws, e.OutOfMemory)
	}
	l.serviceEnded(c, pid, e)
	l.drop(i)
}

// expire ends what has taken too long.
func (l *loop) expire(now int64) {
	if l.waiting > 0 {
		for i, c := range l.conns {
			if c.state == pending && now-c.since > requestWait {
				l.drop(i)
			}
		}
	}
	if len(l.busySlots) > 0 {
		l.collectSlots()
	}
	for _, s := range l.busySlots {
		// A child that has its identity but not its program can be stopped by
		// the tenant (SIGSTOP); it is not waited for longer than this.
		if now-s.since > execDeadline && s.Child.Pending() {
			_ = sys.PidfdSendSignal(s.pidfd, syscall.SIGKILL)
		}
	}
	if len(l.dead) > 0 {
		l.bury()
	}
	l.expireTypings(now)
	l.expireBuriers(now)
	if l.paused {
		l.resume()
	}
	if l.parked {
		l.unpark()
	}
}

// done decides whether the jail ends now.
func (l *loop) done(now int64) bool {
	if l.stopping {
		if l.endAt != 0 && (now >= l.endAt || !l.endServices()) {
			l.endAll()
		}
		if !l.children {
			return true
		}
		if now >= l.stopAt {
			// Whatever is still there gets no say. A fork bomb loses: SIGKILL
			// reaches every process of the namespace in one call.
			_ = l.procs.kill(-1, syscall.SIGKILL)
		}
		l.reap()
		return !l.children
	}
	if l.sessions > 0 || l.children || l.waiting > 0 || len(l.typings) > 0 {
		l.idle = 0
		return false
	}
	if l.idle == 0 {
		l.idle = now
	}
	return l.setup.IdleMillis > 0 && now-l.idle >= int64(l.setup.IdleMillis)
}

// log sends a line to everybody on the control socket who wants them. Nobody
// may be there; then the line is lost.
func (l *loop) log(text string) { l.logTo(text, true) }

// logTo is log, without those who get the same as an event if all is false.
func (l *loop) logTo(text string, all bool) {
	l.out = wire.AppendText(l.out[:0], wire.TypeLog, text)
	l.say(all)
}

// note is log for what is to be said of the root file system, once.
func (l *loop) note(text string) {
	l.out = wire.AppendNote(l.out[:0], text)
	l.say(true)
}

// say sends what is in l.out to those who read the log.
func (l *loop) say(all bool) {
	for _, c := range l.conns {
		if c.state == admin && c.wantLog && (all || !c.wantEvents) && c.fd >= 0 {
			_ = sys.SendMsg(c.fd, l.out, nil, false, &l.m)
		}
	}
}
