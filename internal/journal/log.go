package journal

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	// maxWaiting is how many bytes of lines wait for a log that does not take them.
	maxWaiting = 256 << 10
	// lastWait is how long Close waits for it.
	lastWait = time.Second
)

// Log writes lines to a log that may be full, stopped or gone, beside who has something to
// say. What there is no room for is counted, and said as soon as the log takes lines again.
type Log struct {
	out  io.Writer
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	waiting []byte
	lost    int
	closed  bool
}

// NewLog returns a Log that writes to out. From then on a log that nobody reads any more is
// not the end of the process.
func NewLog(out io.Writer) *Log {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // os/signal, SIGPIPE
	l := &Log{out: out, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go l.write()
	return l
}

// Write takes lines, each with its end. It does not wait, and does not fail.
func (l *Log) Write(lines []byte) (int, error) {
	l.mu.Lock()
	if len(l.waiting)+len(lines) > maxWaiting || l.closed {
		l.lost += bytes.Count(lines, []byte{'\n'})
	} else {
		l.waiting = append(l.waiting, lines...)
	}
	l.mu.Unlock()
	l.poke()
	return len(lines), nil
}

// Close has what waits written, for a second at most.
func (l *Log) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.poke()
	select {
	case <-l.done:
	case <-time.After(lastWait):
	}
}

func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Log) write() {
	defer close(l.done)
	for range l.wake {
		l.mu.Lock()
		lines, lost, closed := l.waiting, l.lost, l.closed
		l.waiting, l.lost = nil, 0
		l.mu.Unlock()
		if lost > 0 {
			lines = fmt.Appendf(lines, "jail-init: %d lines are missing here: the log did not take them in time\n", lost)
		}
		if len(lines) > 0 {
			_, _ = l.out.Write(lines) // there is nobody to tell
		}
		if closed {
			return
		}
	}
}
