package serve

import (
	"fmt"
	"syscall"
	"time"

	"jail/internal/count"
	"jail/internal/sys"
	"jail/internal/wire"
)

// What a user reads who is refused.
const (
	startText = "the jail could not be started; the administrator finds the reason in the log of jail-init"
	// disabledText comes before what the administrator says.
	disabledText = "this login is disabled: "
	faultText    = "this login is out of service: an error in the jail's registry entry; the administrator finds it with: jail check"
)

const (
	// lingerFor is how long a refused client may take to read why, in milliseconds.
	lingerFor = 2_000
	// maxRefused bounds the connections of one jail, or of one login that is out of
	// service, that have been refused and are not closed yet.
	maxRefused = 1024
)

// refused is a connection that stays open until the client has read the answer, since
// closing it with unread data in it would destroy that (unix(7)).
type refused struct{ key int }

// refuse accepts whoever waits on the sockets of logins and tells them why there is no
// jail, and the log. The request is not read. It reports false if some still wait. key
// says whose the connections are.
func (s *server) refuse(key int, name string, logins []int, text, why string) (all bool) {
	s.seq++
	id := fmt.Sprintf("s%07x", (uint32(time.Now().Unix())<<10^s.seq)&0xfffffff)
	all = true
	n := 0
	var m sys.MsgBuf
	for _, i := range logins {
		lg := s.logins.at(i)
		before := n
		for all && lg.fd >= 0 {
			if s.holding[key]+s.closer.Left(key) >= maxRefused {
				all = false
				break
			}
			fd, err := sys.Accept(lg.fd)
			if err != nil {
				// Without a free descriptor the socket stays readable.
				all = err == syscall.EAGAIN || err == syscall.ECONNABORTED
				break
			}
			cred, err := sys.PeerCred(fd)
			if err != nil || cred.Uid != uint32(lg.spec.HostUID) && cred.Uid != 0 {
				s.closer.Close(key, fd)
				continue
			}
			n++
			_ = sys.SendMsg(fd, wire.AppendRefused(nil, wire.Refused{Status: 125, ID: id, Text: text}), nil, false, &m)
			s.refused[fd] = refused{key}
			s.holding[key]++
			s.timers.Set(timerRefused-fd, sys.MonotonicMillis()+lingerFor)
			_ = s.watch(fd, syscall.EPOLLRDHUP, kindRefused, fd)
		}
		if n > before {
			s.records.Refused(name, lg.spec.Name, id, n-before, why)
		}
	}
	if n > 0 {
		s.logRecorded("id=%s jail %s: refused %s: %s", id, name, count.Of(n, "connection", "connections"), why)
	}
	return all
}

// release closes a refused connection, whose unread request may have anything in it.
func (s *server) release(fd int) {
	r, ok := s.refused[fd]
	if !ok {
		return
	}
	delete(s.refused, fd)
	if s.holding[r.key]--; s.holding[r.key] == 0 {
		delete(s.holding, r.key)
	}
	s.timers.Set(timerRefused-fd, 0)
	s.unwatch(fd)
	s.closer.Close(r.key, fd)
}
