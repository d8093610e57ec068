package session

import (
	"syscall"

	"jail/internal/environ"
	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// The files in which logins on terminals are recorded, as sshd records them
// (loginrec.c), for last(1) and lastlog(8). They are written to where they are, and
// never made. There is no utmp: what is up now is for the host's to say, and a jail does
// not boot.
const (
	wtmpFile    = "var/log/wtmp"
	lastlogFile = "var/log/lastlog"
)

// The records of glibc (bits/utmp.h) on machines where time is of 32 bits in them, which
// are those that run 32-bit programs as well, amd64 and arm64 among them.
const (
	utmpSize    = 384
	utmpPID     = 4 // offset of ut_pid
	lastlogSize = 292

	userProcess = 7
	deadProcess = 8
)

// maxLastlogUID bounds the size of lastlog, in which a uid is a place.
const maxLastlogUID = 1 << 24

// Login is what has to be known of a recorded login when it ends.
type Login struct {
	Line string // of the terminal, "pts/7"; "" is no login
	PID  int
}

// appendUtmp appends a record of wtmp (utmp(5)).
func appendUtmp(dst []byte, kind byte, pid int32, line, user, host string, now syscall.Timeval) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, utmpSize)...)
	b := dst[start:]
	b[0] = kind
	put32(b[utmpPID:], uint32(pid))
	copy(b[8:40], line)
	copy(b[40:44], line[max(len(line)-4, 0):])
	copy(b[44:76], user)
	copy(b[76:332], host)
	put32(b[340:], uint32(now.Sec))
	put32(b[344:], uint32(now.Usec))
	return dst
}

// put32 puts n where b begins, as the machines we run on have it, little endian.
func put32(b []byte, n uint32) {
	b[0], b[1], b[2], b[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
}

// appendLastlog appends a record of lastlog (lastlog(8)).
func appendLastlog(dst []byte, line, host string, now syscall.Timeval) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, lastlogSize)...)
	b := dst[start:]
	put32(b, uint32(now.Sec))
	copy(b[4:36], line)
	copy(b[36:292], host)
	return dst
}

// record has the session's child record a login on a terminal.
func (j *Jail) record(s *Slot, u *passwd.Entry, line string) {
	var now syscall.Timeval
	_ = syscall.Gettimeofday(&now)
	host := clientHost(&s.Req)
	c := s.Child
	c.RecordRoot = j.Root
	s.records[0] = appendUtmp(s.records[0][:0], userProcess, 0, line, u.Name, host, now)
	c.Records[0] = sys.Record{Path: s.cstr(wtmpFile), Offset: -1, Data: s.records[0], PID: utmpPID}
	if u.UID < maxLastlogUID {
		s.records[1] = appendLastlog(s.records[1][:0], line, host, now)
		c.Records[1] = sys.Record{Path: s.cstr(lastlogFile), Offset: int64(u.UID) * lastlogSize, Data: s.records[1], PID: -1}
	}
}

// Logout returns a child that records the end of a login and ends itself; nil where
// there is nothing to record it in.
func (j *Jail) Logout(l Login) *sys.Child {
	if l.Line == "" || j.identify("/"+wtmpFile) == (identity{}) {
		return nil
	}
	var now syscall.Timeval
	_ = syscall.Gettimeofday(&now)
	c := sys.NewChild()
	c.RecordRoot = j.Root
	c.Records[0] = sys.Record{Path: &append([]byte(wtmpFile), 0)[0], Offset: -1, PID: -1,
		Data: appendUtmp(nil, deadProcess, int32(l.PID), l.Line, "", "", now)}
	return c
}

// clientHost is the address in SSH_CONNECTION, which the client can only make shorter:
// it ends with the first character that no address has.
func clientHost(r *wire.Request) string {
	for _, e := range r.Env {
		if name := environ.Name(e); string(name) == "SSH_CONNECTION" {
			v := e[len(name)+1:]
			n := 0
			for n < len(v) && n < 255 && (v[n] >= '0' && v[n] <= '9' || v[n] >= 'a' && v[n] <= 'z' || v[n] >= 'A' && v[n] <= 'Z' || v[n] == '.' || v[n] == ':' || v[n] == '%' || v[n] == '-') {
				n++
			}
			return string(v[:n])
		}
	}
	return ""
}
