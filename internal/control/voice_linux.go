package control

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"jail/internal/count"
	"jail/internal/event"
	"jail/internal/sys"
	"jail/internal/wire"
)

// refuseRights is replaced by tests that play an older kernel.
var refuseRights = sys.RefuseRights

const (
	// maxLines bounds what one jail can put into the log in a second.
	maxLines = 50
	// maxEvents is how many events one jail can tell at once, what a PID 1 keeps among
	// them, and eventsPerSecond how many in the long run. Of the rest only the number
	// is known. A refusal counts as a line.
	maxEvents       = 2048
	eventsPerSecond = 100
	// maxReads is how many packets of one jail are read at once, and readsPerSecond how
	// many in the long run: more than the lines and events that are taken from it come in.
	// To read and to throw away costs the host's time, which no limit of the jail's bounds.
	maxReads       = 512
	readsPerSecond = 200
	// maxPieces and piecesPerSecond are the same of its standard error, in pieces of
	// 4096 bytes; each write of one byte into a pipe that has room wakes us.
	maxPieces       = 64
	piecesPerSecond = 20
	// lastWords is how long what a jail has said before its end is read.
	lastWords = 500 * time.Millisecond
	// endsPrefix begins the line in which PID 1 says why it ends.
	endsPrefix = "ends: "
)

// Voice reads what a jail says and puts it into the log: the lines of PID 1, and what
// PID 1 leaves on its standard error when it crashes.
//
// It reads beside the supervisor, because reading can hang: a message may carry
// sockets that take their time to close (SO_LINGER, socket(7)), and whoever receives
// a descriptor closes it, even one that it did not want. A PID 1 that has been taken over
// can hold up its own Voice by that, and nobody else. Where the kernel can be told to
// accept no descriptors (SO_PASSRIGHTS, Linux 6.16), it is.
type Voice struct {
	conn, stderr *os.File
	notes        *Notes
	log          func(text string)
	told         func(list []event.Event)
	reading      sync.WaitGroup
	over, done   chan struct{}

	// Of the one who reads conn alone.
	tokens     int
	filled     time.Time // until then
	suppressed int       // events

	mu     sync.Mutex
	lines  int // in this second
	second int64
	reason string
}

// maxNotes bounds what is kept of one jail's notes; more are said each time.
const maxNotes = 16

// Notes are those on its root file system that a jail has been heard to say. The zero
// value is none. A jail that cannot be mended from outside would say them at each start.
type Notes struct {
	mu   sync.Mutex
	said []string
}

// fresh reports whether a note is to be said, and keeps it.
func (n *Notes) fresh(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Contains(n.said, text) {
		return false
	}
	if len(n.said) < maxNotes {
		n.said = append(n.said, text)
	}
	return true
}

// Listen reads conn, the control connection, and stderr, -1 if there is none, until
// Over. It owns both from now on; conn may be sent on until then. log gets one line
// without an end, quoted, and may be called from several goroutines, but no note on the
// root file system that is among notes already; told gets one event
// after the other, some at a time, which the jail itself answers for; lost is called once if PID 1 ends the
// connection.
func Listen(conn, stderr int, notes *Notes, log func(text string), told func(list []event.Event), lost func()) *Voice {
	_ = refuseRights(conn) // before 6.16 it fails
	v := &Voice{notes: notes, log: log, told: told, over: make(chan struct{}), done: make(chan struct{}), tokens: maxEvents, filled: time.Now()}
	v.conn = file(conn, "conn")
	v.reading.Go(func() {
		v.readLog()
		v.countSuppressed()
		lost()
	})
	if stderr >= 0 {
		v.stderr = file(stderr, "stderr")
		v.reading.Go(v.readStderr)
	}
	return v
}

// file lets the runtime wait for fd, without a thread.
func file(fd int, name string) *os.File {
	_ = sys.SetNonblock(fd)
	return os.NewFile(uintptr(fd), name)
}

// Over is called when the jail has ended. What it has said before is still read, then
// last is called with PID 1's own reason for its end, "" if it gave none. Over itself
// does not wait.
func (v *Voice) Over(last func(reason string)) {
	close(v.over)
	until := time.Now().Add(lastWords)
	_ = v.conn.SetReadDeadline(until)
	if v.stderr != nil {
		_ = v.stderr.SetReadDeadline(until)
	}
	go func() {
		v.reading.Wait()
		v.mu.Lock()
		reason := v.reason
		v.mu.Unlock()
		last(reason)
		v.conn.Close()
		if v.stderr != nil {
			v.stderr.Close()
		}
		close(v.done)
	}()
}

// pace is what one who reads may still read. Without any left it waits, and by that the
// jail does, whose socket or pipe is full.
type pace struct {
	left            int
	filled          time.Time // until then
	most, perSecond int
}

func newPace(most, perSecond int) pace { return pace{most, time.Now(), most, perSecond} }

// next waits until one more may be read. After Over that is at once: one that has ended
// says no more than there is.
func (p *pace) next(over <-chan struct{}) {
	const nap = time.Second / 20
	for p.left == 0 {
		now := time.Now()
		if since := min(now.Sub(p.filled), time.Minute); since >= nap {
			p.left, p.filled = min(int(since*time.Duration(p.perSecond)/time.Second), p.most), now
			break
		}
		select {
		case <-time.After(nap):
		case <-over:
			return
		}
	}
	p.left--
}

func (v *Voice) readLog() {
	reset := false
	p := newPace(maxReads, readsPerSecond)
	raw, err := v.conn.SyscallConn()
	if err != nil {
		return
	}
	for {
		p.next(v.over)
		// read(2) takes no descriptors; the kernel closes those there are.
		err := read(raw, v.packet)
		if errors.Is(err, syscall.ECONNRESET) && !reset {
			// It has ended with orders unread. That is said once, before what it has
			// sent (unix_release_sock of net/unix/af_unix.c, skb_recv_datagram).
			reset = true
			continue
		}
		if err != nil {
			return
		}
	}
}

// packet takes one packet of PID 1.
func (v *Voice) packet(p []byte) {
	typ, flags, body, err := wire.Header(p)
	if err == nil && typ == wire.TypeEvents {
		v.events(body)
		return
	}
	if err != nil || typ != wire.TypeLog {
		return
	}
	text, err := wire.DecodeText(body)
	if err != nil {
		return
	}
	if why, ok := strings.CutPrefix(text, endsPrefix); ok {
		v.because(event.Quote(why))
		return
	}
	if flags&wire.FlagNote != 0 && !v.notes.fresh(text) {
		return
	}
	v.say("", text)
}

// buffers are for what is being read; so that a packet too long is seen to be, they have
// room for more than the longest.
var buffers = sync.Pool{New: func() any { return new([wire.MaxEvents + 1]byte) }}

// read waits until there is something to read and hands it to use. It has no buffer while
// it waits: those of all jails were most of what serve has in memory for each.
func read(raw syscall.RawConn, use func(p []byte)) error {
	var buf *[wire.MaxEvents + 1]byte
	var n int
	var err error
	waitErr := raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[wire.MaxEvents + 1]byte)
		for {
			if n, err = syscall.Read(int(fd), buf[:]); err != syscall.EINTR {
				break
			}
		}
		if err == syscall.EAGAIN {
			buffers.Put(buf)
		}
		return err != syscall.EAGAIN
	})
	if waitErr != nil {
		return waitErr
	}
	defer buffers.Put(buf)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err == nil {
		use(buf[:n])
	}
	return err
}

func (v *Voice) because(reason string) {
	v.mu.Lock()
	v.reason = reason
	v.mu.Unlock()
}

// events hands on the events of one packet.
func (v *Voice) events(body []byte) {
	list, err := wire.DecodeEvents(body, nil)
	if err != nil {
		v.say("", "tells events that are none")
		return
	}
	now, boot := time.Now(), sys.MonotonicMillis()
	if more := int(min(now.Sub(v.filled)*eventsPerSecond/time.Second, maxEvents)); more > 0 {
		v.tokens, v.filled = min(v.tokens+more, maxEvents), now
	}
	var good []event.Event // told together: a line and an entry each would be a write each
	tell := func() {
		if len(good) > 0 {
			v.told(good)
			good = good[:0]
		}
	}
	defer tell()
	for i := range list {
		e, err := event.Of(&list[i], now, boot)
		switch {
		case err != nil:
			tell()
			v.say("", "tells an event of no session")
		case e.Kind == wire.EventEnding:
			v.because(e.Reason())
		case e.Kind == wire.EventRefused: // nothing is cheaper for a tenant
			if v.allows() {
				good = append(good, e)
			}
		case v.tokens == 0:
			v.suppressed++
		default:
			if v.suppressed > 0 {
				tell()
				v.countSuppressed()
			}
			v.tokens--
			good = append(good, e)
		}
	}
}

// countSuppressed says how many events were not handed on since the last time.
func (v *Voice) countSuppressed() {
	if v.suppressed > 0 {
		v.log(count.Of(v.suppressed, "event", "events") + " suppressed")
		v.suppressed = 0
	}
}

func (v *Voice) readStderr() {
	err := ReadPieces(v.stderr, v.over, maxPieces, piecesPerSecond, func(piece []byte) { v.say("stderr: ", string(piece)) })
	if err != nil {
		v.say("", "reading its standard error: "+err.Error())
	}
}

// ReadPieces reads what comes out of a jail through a pipe that does not block, in pieces of
// 4097 bytes at most, until its end or deadline: most of them at once, and perSecond in
// the long run. Whoever writes more waits. use must not keep the piece. After over is
// closed the pace does not matter.
func ReadPieces(f *os.File, over <-chan struct{}, most, perSecond int, use func(piece []byte)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	p := newPace(most, perSecond)
	for {
		p.next(over)
		if err := read(raw, use); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
	}
}

// say logs a line, unless there are too many.
func (v *Voice) say(what, text string) {
	if v.allows() {
		v.log(what + event.Quote(text))
	}
}

// allows counts a line, and reports whether there is room for it in this second.
func (v *Voice) allows() bool {
	v.mu.Lock()
	now := time.Now().Unix()
	more := v.lines - maxLines
	fresh := v.second != now
	if fresh {
		v.second, v.lines = now, 0
	}
	v.lines++
	allowed := v.lines <= maxLines
	v.mu.Unlock()
	if fresh && more > 0 {
		v.log(count.Of(more, "line", "lines") + " suppressed")
	}
	return allowed
}
