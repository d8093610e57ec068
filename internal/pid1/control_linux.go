package pid1

import (
	"strconv"
	"syscall"

	"jail/internal/login"
	"jail/internal/sys"
	"jail/internal/wire"
)

// maxOrders is how many messages of the host's root are read at a time: it has one for
// each login.
const maxOrders = 64

// control handles messages of the host's root.
func (l *loop) control(i int) {
	for range maxOrders {
		if !l.controlOne(i) {
			return
		}
	}
}

// controlOne handles one message, and reports whether there may be another.
func (l *loop) controlOne(i int) bool {
	c := l.conns[i]
	if c.execAs != nil {
		id := c.execAs
		l.request(i, id)
		return false
	}
	buf := l.scratch()
	buf[1] = 0 // where the type is
	n, err := sys.RecvMsg(c.fd, buf, false, &l.m)
	switch {
	case err == syscall.EAGAIN:
		return false
	case err == syscall.EMSGSIZE && buf[1] == byte(wire.TypeAddLogin):
		// There is no descriptor left for the listener. The login has none then, and
		// nothing else is the worse for it.
		var lim syscall.Rlimit
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim)
		l.log("a login is not taken: PID 1 has no descriptor left for its socket; RLIMIT_NOFILE is " + strconv.FormatUint(lim.Cur, 10) +
			", raise LimitNOFILE= of jail-init's unit and start the jail anew")
		return true
	}
	fds := append([]int(nil), l.m.FDs...)
	if err != nil || n == 0 {
		sys.CloseAll(fds)
		l.drop(i)
		return false
	}
	typ, flags, body, err := wire.Header(buf[:n])
	if err == nil {
		err = l.order(c, typ, flags, body, &fds)
	}
	sys.CloseAll(fds)
	if err != nil {
		l.drop(i)
	}
	return err == nil
}

// order carries out one control message. It takes from fds what it keeps.
func (l *loop) order(c *conn, typ wire.Type, flags uint16, body []byte, fds *[]int) error {
	want := 0
	if typ == wire.TypeAddLogin {
		want = 1
	}
	if len(*fds) != want {
		return wire.ErrMalformed
	}
	switch typ {
	case wire.TypeHello:
		if len(body) != 0 {
			return wire.ErrMalformed
		}
		c.wantLog = flags&wire.FlagWantLog != 0
		l.hears(c, flags&wire.FlagWantEvents != 0, flags&wire.FlagWantOOM != 0)
		return l.status(c, flags)
	case wire.TypeStop:
		stop, err := wire.DecodeStop(body)
		if err != nil {
			return err
		}
		l.stop(stop.GraceMillis)
		return nil
	case wire.TypeAddLogin:
		id, err := wire.DecodeAddLogin(body)
		if err != nil {
			return err
		}
		// A supervisor that has restarted brings a new listener for a login that
		// has one. Who waits on the old one is taken first.
		if i, ok := l.byUID[id.HostUID]; ok {
			l.accept(l.listeners[i].fd, i)
			l.forgetListener(i)
		}
		fd := (*fds)[0]
		*fds = nil
		return l.addListener(fd, id)
	case wire.TypeDropLogin:
		uid, err := wire.DecodeDropLogin(body)
		if err != nil {
			return err
		}
		l.dropLogin(uid)
		return nil
	case wire.TypeSessions:
		s, err := wire.DecodeSessions(body)
		if err == nil {
			l.limit(s)
		}
		return err
	case wire.TypeService:
		s, err := wire.DecodeService(body)
		if err != nil || flags&^wire.FlagFind != 0 {
			return wire.ErrMalformed
		}
		if flags&wire.FlagFind != 0 {
			return l.findService(c, s.Name)
		}
		return l.nextIsService(c, &s)
	case wire.TypeProof:
		p, err := wire.DecodeProof(body)
		if err != nil || flags != 0 {
			return wire.ErrMalformed
		}
		l.proof = proof{&p, l.now + int64(p.Millis), c}
		return l.status(c, 0)
	case wire.TypeEnd:
		e, err := wire.DecodeEnd(body)
		if err != nil {
			return err
		}
		l.out = wire.AppendEnds(l.out[:0], l.endSession(e))
		return sys.SendMsg(c.fd, l.out, nil, false, &l.m)
	case wire.TypeExec:
		id, err := wire.DecodeExec(body)
		if err != nil {
			return err
		}
		c.execAs = &id
		return nil
	}
	return wire.ErrMalformed
}

// status says who this is, and what it does.
func (l *loop) status(c *conn, flags uint16) error {
	st := wire.Status{
		Name: l.setup.Name, Sessions: uint32(l.sessions - l.serving), Served: l.served,
		Processes: l.children, Stopping: l.stopping,
	}
	if flags&wire.FlagWantBuild != 0 {
		st.Build = l.setup.Build
	}
	return sys.SendMsg(c.fd, wire.AppendStatus(nil, &st), nil, false, &l.m)
}

// proofOf returns what sshd says of a login by a key that "jail doctor" has told of, if there
// is one for the login that a request came by; "" if not.
func (l *loop) proofOf(c *conn) string {
	if c.login < 0 {
		return ""
	}
	p := &l.proof
	if p.by == nil || l.now >= p.until || p.HostUID != l.listeners[c.login].id.HostUID {
		return ""
	}
	return "publickey " + p.Key
}

// stop begins the end: no more logins are accepted, they wait for the next
// start; services are asked to end, one after the other and in half the grace, then every
// process is, and made to when the grace is over.
func (l *loop) stop(graceMillis uint32) {
	if !l.stopping {
		l.stopping = true
		for i := range l.listeners {
			if l.listeners[i].fd >= 0 {
				l.unwatch(l.listeners[i].fd)
			}
		}
		for i, c := range l.conns {
			switch c.state { // its client has no answer yet and connects again
			case pending:
				l.drop(i)
			case typingIn:
				l.abandon(i)
			}
		}
		l.stopAt, l.endAt = l.now+int64(graceMillis), l.now+int64(graceMillis)/2
		if !l.endServices() {
			l.endAll()
		}
	}
	l.stopAt = min(l.stopAt, l.now+int64(graceMillis))
	if l.endAt != 0 {
		l.endAt = min(l.endAt, l.now+int64(graceMillis)/2)
	}
}

// endAll asks every process to end. Shells ignore SIGTERM and obey SIGHUP, daemons the
// other way round.
func (l *loop) endAll() {
	l.endAt = 0
	_ = l.procs.kill(-1, syscall.SIGHUP)
	_ = l.procs.kill(-1, syscall.SIGTERM)
	_ = l.procs.kill(-1, syscall.SIGCONT)
}

// dropLogin closes the listener of a login that may no longer enter. Its
// sessions go on, as they would if an account were locked.
func (l *loop) dropLogin(hostUID uint32) {
	i, ok := l.byUID[hostUID]
	if !ok {
		return
	}
	for j, c := range l.conns {
		switch {
		case c.login != i:
		case c.state == pending:
			l.drop(j)
		case c.state == typingIn:
			l.abandon(j)
		}
	}
	l.forgetListener(i)
}

// endSession sends a signal to the session of an id, and reports whether there is one. One
// that is stopped hears of a hang-up as well. What runs in the foreground of its terminal
// the kernel hangs up with its leader.
func (l *loop) endSession(e wire.End) bool {
	for _, c := range l.conns {
		if (c.state != running && c.state != orphan) || c.pid == 0 || c.service != 0 || c.id != login.ID(e.ID) {
			continue
		}
		if e.Number != 0 {
			l.kill(c, syscall.Signal(e.Number))
			if e.Number != uint8(syscall.SIGKILL) {
				l.kill(c, syscall.SIGCONT)
			}
		}
		return true
	}
	return false
}
