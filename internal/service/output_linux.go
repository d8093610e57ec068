package service

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/event"
	"jail/internal/fdsock"
)

const (
	// maxLine is where a line that is longer is cut, in bytes.
	maxLine = 1024
	// maxLines is how many lines of a service the log takes at once, and linesPerSecond how
	// many in the long run; of the others only the number is known.
	maxLines       = 1000
	linesPerSecond = 50
	// maxPieces and piecesPerSecond bound what is read, in pieces of 4 KiB: whoever
	// writes more waits, since to read and to throw away costs the host's time.
	maxPieces       = 256
	piecesPerSecond = 64
	// lastWords is how long the rest of an output is read when the jail has ended.
	lastWords = 100 * time.Millisecond
)

// output is what a service writes: a FIFO with a name, so that the next supervisor finds
// it. The service has it open for reading as well, and so it does not break while there is
// no supervisor: then it takes what a pipe has room for, 64 KiB, and whoever writes more waits.
type output struct {
	path string
	file *os.File
	over chan struct{}
}

// Sweep removes what is left of the outputs of a jail that does not run.
func Sweep(runtimeDir, jail string) {
	left, _ := filepath.Glob(fdsock.ControlPath(runtimeDir, jail) + ".*")
	for _, path := range left {
		_ = os.Remove(path)
	}
}

// openOutput makes the output of a service, or opens the one that is there if keep is true,
// and reads it. say gets one line, quoted.
func openOutput(runtimeDir, jail, service string, keep bool, say func(text string)) (*output, error) {
	// Beside the control socket nobody but root gets there. No name has a dot in it.
	o := &output{path: fdsock.ControlPath(runtimeDir, jail) + "." + service, over: make(chan struct{})}
	if !keep {
		_ = os.Remove(o.path)
	}
	// Whatever the umask is: inside, its owner means nothing, and a program is to be able
	// to open /dev/stdout.
	err := syscall.Mkfifo(o.path, 0o600)
	if err == nil {
		err = os.Chmod(o.path, 0o666)
	} else if keep && err == syscall.EEXIST {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", o.path, err)
	}
	// For both, so that it has no end while no service has it.
	fd, err := o.openWith(syscall.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	o.file = os.NewFile(uintptr(fd), o.path)
	go func() {
		l := lines{say: say, room: maxLines, now: time.Now}
		if err := control.ReadPieces(o.file, o.over, maxPieces, piecesPerSecond, l.add); err != nil {
			say("reading what it writes: " + err.Error())
		}
		l.end()
		o.file.Close()
	}()
	return o, nil
}

// open opens the end that a service gets.
func (o *output) open() (int, error) { return o.openWith(0) }

func (o *output) openWith(flags int) (int, error) {
	fd, err := syscall.Open(o.path, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW|flags, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: o.path, Err: err}
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("%s is not a FIFO; remove it", o.path)
	}
	return fd, nil
}

// end is for an output nobody writes to any more.
func (o *output) end() {
	if o == nil {
		return
	}
	_ = os.Remove(o.path)
	close(o.over)
	_ = o.file.SetReadDeadline(time.Now().Add(lastWords))
}

// lines makes lines of what comes in pieces, and bounds how many the log gets.
type lines struct {
	say        func(text string)
	now        func() time.Time
	rest       []byte
	room       int
	filled     time.Time // room, until then
	suppressed int
}

func (l *lines) add(piece []byte) {
	for len(piece) > 0 {
		line, rest, whole := bytes.Cut(piece, []byte("\n"))
		if free := maxLine - len(l.rest); len(line) > free {
			line, rest, whole = piece[:free], piece[free:], true
		}
		l.rest = append(l.rest, line...)
		if piece = rest; whole {
			l.line()
		}
	}
}

// line is for a line that is whole.
func (l *lines) line() {
	text := bytes.TrimRight(l.rest, "\r")
	l.rest = l.rest[:0]
	if len(text) == 0 {
		return
	}
	now := l.now()
	if l.filled.IsZero() {
		l.filled = now
	}
	if more := int(min(now.Sub(l.filled), time.Hour) * linesPerSecond / time.Second); more > 0 {
		l.room, l.filled = min(l.room+more, maxLines), now
	}
	if l.room == 0 {
		l.suppressed++
		return
	}
	l.room--
	l.count()
	l.say(event.Quote(string(text)))
}

// count says how many lines were left out since the last time.
func (l *lines) count() {
	if l.suppressed > 0 {
		l.say(count.Of(l.suppressed, "line", "lines") + " suppressed")
		l.suppressed = 0
	}
}

func (l *lines) end() {
	if len(l.rest) > 0 {
		l.line()
	}
	l.count()
}
