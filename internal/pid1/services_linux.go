package pid1

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/wire"
)

// service is what there is of one, in the order in which they were started first.
type service struct {
	name  string
	conn  *conn // of its session; nil while it does not run
	ended bool
	how   wire.Exited // it has, if ended
	told  bool        // to end, with the jail
}

// findService tells the host what there is of a service, and from then on, on this
// connection, how it ends.
func (l *loop) findService(c *conn, name string) error {
	i := l.serviceOf(name)
	switch {
	case i < 0 || l.services[i].conn == nil && !l.services[i].ended:
		l.out = wire.AppendRefused(l.out[:0], wire.Refused{Text: "it does not run"})
	case l.services[i].conn != nil:
		c.service = uint8(i + 1)
		l.out = wire.AppendStarted(l.out[:0], wire.Started{PID: uint32(l.services[i].conn.pid)})
	default:
		l.out = wire.AppendExited(l.out[:0], l.services[i].how)
	}
	return sys.SendMsg(c.fd, l.out, nil, false, &l.m)
}

// nextIsService notes that the next packet on a connection is a request for a service.
func (l *loop) nextIsService(c *conn, s *wire.Service) error {
	i := l.serviceOf(s.Name)
	if i < 0 {
		if i = len(l.services); i == wire.MaxServices {
			return wire.ErrMalformed
		}
		l.services = append(l.services, service{name: s.Name})
	}
	c.execAs, c.service = &s.As, uint8(i+1)
	return nil
}

func (l *loop) serviceOf(name string) int {
	for i := range l.services {
		if l.services[i].name == name {
			return i
		}
	}
	return -1
}

// noService says why a request of a connection is not to become a service, "" if nothing
// is in the way.
func (l *loop) noService(c *conn) string {
	switch {
	case c.service == 0:
	case l.stopping:
		return "the jail is ending"
	case l.services[c.service-1].conn != nil:
		return "it runs already"
	}
	return ""
}

// serviceBegun is for a session that has begun, if it is a service.
func (l *loop) serviceBegun(c *conn) {
	if c.service != 0 {
		s := &l.services[c.service-1]
		s.conn, s.ended = c, false
		l.serving++
	}
}

// serviceEnded is for a session that has ended, if it is a service. Its own connection
// has been told. What is left of it in its process group ends too, or the next one would find
// its port taken: workers of a daemon that was killed.
func (l *loop) serviceEnded(c *conn, pid int, how wire.Exited) {
	if c.service == 0 {
		return
	}
	_ = l.procs.kill(-pid, syscall.SIGTERM)
	_ = l.procs.kill(-pid, syscall.SIGCONT)
	s := &l.services[c.service-1]
	s.conn, s.ended, s.how = nil, true, how
	l.serving--
	for _, other := range l.conns {
		if other != c && other.state == admin && other.service == c.service && other.execAs == nil {
			other.service = 0
			l.out = wire.AppendExited(l.out[:0], how)
			_ = sys.SendMsg(other.fd, l.out, nil, false, &l.m)
		}
	}
	c.service = 0
}

// endServices tells the last service that runs to end, once, and reports whether any
// runs.
func (l *loop) endServices() bool {
	if l.serving == 0 {
		return false
	}
	for i := len(l.services) - 1; i >= 0; i-- {
		s := &l.services[i]
		if s.conn == nil {
			continue
		}
		if !s.told {
			s.told = true
			l.kill(s.conn, syscall.SIGTERM)
			l.kill(s.conn, syscall.SIGCONT)
		}
		return true
	}
	return false
}
