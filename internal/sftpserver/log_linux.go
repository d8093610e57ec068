package sftpserver

import (
	"strconv"
	"syscall"
	"time"

	"jail/internal/sys"
)

// logger writes what sftp-server(8) does to standard error or to the jail's
// syslog; without one the lines are lost, as they are with syslog(3).
type logger struct {
	level    level
	facility int
	stderr   bool
	buf      []byte
}

// on reports whether lines of this level are wanted. Asking first saves making
// them.
func (l *logger) on(v level) bool { return v <= l.level && l.level != levelQuiet }

// line logs the parts as one line.
func (l *logger) line(v level, parts ...string) {
	if !l.on(v) {
		return
	}
	b := l.buf[:0]
	if !l.stderr {
		priority := [...]int{levelFatal: 2, levelError: 3, levelInfo: 6, levelVerbose: 6, levelDebug: 7}[v]
		b = append(b, '<')
		b = strconv.AppendInt(b, int64(l.facility|priority), 10)
		b = append(b, '>')
		b = time.Now().AppendFormat(b, time.Stamp)
		b = append(b, " sftp-server["...)
		b = strconv.AppendInt(b, int64(syscall.Getpid()), 10)
		b = append(b, "]: "...)
		switch v {
		case levelFatal:
			b = append(b, "fatal: "...)
		case levelError:
			b = append(b, "error: "...)
		}
	}
	for _, p := range parts {
		b = visible(b, p)
	}
	const most = 1024 // log.c, MSGBUFSIZ
	if len(b) > most {
		b = b[:most]
	}
	l.buf = b
	if l.stderr {
		_ = writeAll(2, append(b, "\r\n"...))
		return
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	// A log that is full is not waited for.
	_ = syscall.Sendto(fd, b, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, &syscall.SockaddrUnix{Name: "/dev/log"})
	sys.Close(fd)
}

// visible appends text of any content as printable ASCII: a backslash doubled,
// the rest in octal (log.c, strnvis with VIS_OCTAL).
func visible(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			b = append(b, '\\', '\\')
		case c >= ' ' && c < 0x7F:
			b = append(b, c)
		default:
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return b
}
