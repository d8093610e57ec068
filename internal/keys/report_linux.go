package keys

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/event"
)

// logSocket is where syslogd and journald read the messages of programs.
const logSocket = "/dev/log"

// Priorities of the system's log (syslog(3)): facility authpriv, where sshd's own
// lines about logins are.
const (
	authpriv = 10 << 3
	warning  = authpriv | 4
	notice   = authpriv | 5
)

// Limits of a report's line, in bytes: of what is quoted, and of what comes of it, so
// that the whole fits in the 1024 of RFC 3164.
const (
	maxReason = 300
	maxQuoted = 900
)

// report is where the one line goes that says why there are no keys, or fewer than
// somebody expects. What an AuthorizedKeysCommand writes to standard error is thrown
// away, by sshd itself or because sshd's own is /dev/null (misc.c:subprocess), so the
// line goes to the system's log as well.
type report struct {
	log  int // a socket connected to logSocket, or -1
	once sync.Once
}

// newReport connects to the log while this process still has the rights of whoever
// started it. Nobody is waited for: a socket of datagrams connects at once, and where
// none is listening there is standard error alone.
func newReport() *report {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return &report{log: -1}
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: logSocket}); err != nil {
		unix.Close(fd)
		return &report{log: -1}
	}
	return &report{log: fd}
}

// say reports reason, once: a second reason of the same run is lost. The log comes
// first, because a reader of standard error may not read.
func (r *report) say(priority int, reason string) {
	r.once.Do(func() {
		reason, _, _ = strings.Cut(reason, "\n")
		reason = quoted(reason)
		if r.log >= 0 {
			// RFC 3164 without a host name, as syslog(3) sends it. A full socket
			// loses the line instead of making sshd wait.
			line := "<" + strconv.Itoa(priority) + ">" + time.Now().Format(time.Stamp) +
				" jail-keys[" + strconv.Itoa(os.Getpid()) + "]: " + reason
			_ = unix.Sendto(r.log, []byte(line), unix.MSG_NOSIGNAL, nil)
		}
		_, _ = os.Stderr.WriteString("jail-keys: " + reason + "\n")
	})
}

// quoted makes text from a jail fit for a log: bounded, control bytes escaped.
func quoted(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason] + "..."
	}
	q := event.Quote(s)
	if len(q) > maxQuoted {
		q = q[:maxQuoted] + "..."
	}
	return q
}
