package enter

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/wire"
)

// Bounds on what is still relayed once the command has ended.
const (
	lateBytes  = 256 << 10 // of a terminal: what was written before the end fits
	lateMillis = 250       // of silence, for a file a background process still holds
)

// bufferSize is that of every relay's one buffer. A relay reads only when its
// buffer is empty, so a slow reader stops the writer and costs no memory.
const bufferSize = 32 << 10

// maxRelays is the most a session can have: two descriptors that are neither pipes
// nor terminals, and the two directions of a terminal; or three of the former.
const maxRelays = 4

// relay copies bytes one way.
type relay struct {
	from, to int
	given    int // the other end of its pipe, until the jail has it
	r, w     int // unwritten bytes are buf[r:w]
	eof      bool
	dead     bool // nobody takes any more
	done     bool // both ends are settled
	failed   sys.Errno
	chunk    int // write at most so much at once
	buf      [bufferSize]byte
}

func (s *session) addRelay(from, to, given int) *relay {
	r := &s.relays[s.used]
	s.used++
	r.from, r.to, r.given, r.chunk = from, to, given, bufferSize
	return r
}

func (r *relay) empty() bool { return r.r == r.w }

// fill reads once. It reports whether there was something.
func (r *relay) fill() bool {
	n, err := sys.Read(r.from, r.buf[:])
	switch e := errno(err); {
	case n > 0:
		r.r, r.w = 0, n
		return true
	case e == syscall.EAGAIN:
	default:
		r.eof, r.failed = true, e
	}
	return false
}

// flush writes once.
func (r *relay) flush() {
	end := min(r.w, r.r+r.chunk)
	n, err := sys.Write(r.to, r.buf[r.r:end])
	if n > 0 {
		r.r += n
	}
	if e := errno(err); e != 0 && e != syscall.EAGAIN {
		r.dead, r.failed = true, e
		r.r = r.w
	}
}

// Places in session.fds.
const (
	connFD = iota
	signalFD
	stderrFD
	firstRelay
)

// flow is how far a session's relays have come.
type flow struct {
	in, out    *relay // of the terminal; nil without
	exited     bool   // the command has ended,
	end        wire.Exited
	late       int   // so many bytes of the terminal came since,
	quietSince int64 // and nothing at all since then
}

// flushed reports whether the terminal's output has been taken, as far as it was read.
func (f *flow) flushed() bool { return f.out == nil || f.out.empty() }

// over reports whether the terminal has nothing more to show, once the command has ended.
// idle says that nothing was ready.
func (f *flow) over(idle bool) bool {
	return f.flushed() && (f.out == nil || f.out.eof || f.out.dead || f.late >= lateBytes || idle)
}

// relay is the session from its start to its end.
func (s *session) relay() int {
	var f flow
	if s.master >= 0 {
		f.in, f.out = s.terminal()
	}
	for {
		fds, agentFD := s.awaited(f.exited)
		n, e := wait(fds, s.patience(f.exited))
		if e != 0 {
			s.cooked()
			return complain("cannot wait for the session: ", e.Error())
		}
		if n == 0 {
			s.tellHeld()
		}
		if fds[signalFD].Revents != 0 {
			for sig := s.signals.next(); sig != 0; sig = s.signals.next() {
				s.handle(sig, f.exited)
			}
		}
		if fds[stderrFD].Revents != 0 {
			s.watch = false
			s.disconnected()
		}
		s.agent.handle(fds[agentFD:])
		progress, gone := s.copy(fds, &f)
		if gone != nil {
			return s.hungUp(gone)
		}
		if !f.exited {
			if fds[connFD].Revents == 0 {
				continue
			}
			var lost bool
			if f.end, lost = s.event(); lost {
				return s.lost(f.out)
			}
			if s.used == 0 { // nothing is under way
				return s.leave(f.end)
			}
			f.exited, f.quietSince = true, sys.MonotonicMillis()
			continue
		}
		if progress {
			f.quietSince = sys.MonotonicMillis()
		}
		if f.over(n == 0) && (!s.pendingFiles() || sys.MonotonicMillis()-f.quietSince >= lateMillis) {
			return s.leave(f.end)
		}
		if n == 0 && !f.flushed() {
			// A slow reader still has to take what is in the buffer.
			s.room(f.out)
		}
	}
}

// awaited is what the session waits for. The agent's begin at agentFD.
func (s *session) awaited(exited bool) (fds []sys.PollFD, agentFD int) {
	fds = append(s.fds[:0], sys.PollFD{FD: int32(s.conn), Events: sys.PollIn}, s.signals.poll(), sys.PollFD{FD: -1})
	if exited {
		fds[connFD].FD = -1
	} else if s.watch {
		fds[stderrFD].FD = 2 // for POLLERR and POLLHUP
	}
	relays := s.relays[:s.used]
	for i := range relays {
		r := &relays[i]
		rd, wr := sys.PollFD{FD: -1}, sys.PollFD{FD: -1}
		if !r.dead && !r.empty() {
			wr = sys.PollFD{FD: int32(r.to), Events: sys.PollOut}
		} else if !r.eof && !r.dead {
			rd = sys.PollFD{FD: int32(r.from), Events: sys.PollIn}
		}
		fds = append(fds, rd, wr)
	}
	agentFD = len(fds)
	if !exited {
		fds = s.agent.poll(fds)
	}
	return fds, agentFD
}

// patience is how long the session waits, in milliseconds; -1 is for as long as it takes.
func (s *session) patience(exited bool) int {
	switch {
	case exited && s.pendingFiles():
		return lateMillis
	case exited:
		return 0
	case s.recorder.held > 0:
		return holdMillis
	}
	return -1
}

// copy has each relay do what it can, and reports whether one did something. gone is the
// relay of the caller's terminal, if that is gone before the command has ended.
func (s *session) copy(fds []sys.PollFD, f *flow) (progress bool, gone *relay) {
	relays := s.relays[:s.used]
	for i := range relays {
		r := &relays[i]
		rd, wr := &fds[firstRelay+2*i], &fds[firstRelay+2*i+1]
		if wr.Revents != 0 {
			r.flush()
			progress = true
		}
		if rd.Revents != 0 && r.fill() {
			progress = true
			switch r {
			case f.out:
				s.record(wire.TypeOutput, r.buf[:r.w])
			case f.in:
				s.record(wire.TypeInput, r.buf[:r.w])
			}
			if r == f.out && f.exited {
				f.late += r.w
			}
			r.flush()
		}
		switch {
		case r == f.in && r.eof && !f.exited, r == f.out && r.dead && !f.exited:
			return progress, r
		case r == f.in, r == f.out:
		case r.dead || r.eof && r.empty():
			s.finish(r)
		}
	}
	return progress, nil
}

// hungUp ends the session because the caller's terminal, which r is of, is gone. Going too
// hangs up the one inside.
func (s *session) hungUp(r *relay) int {
	s.endRecording()
	s.cooked()
	if r.failed != 0 && r.failed != syscall.EIO { // which says just that
		return complain("cannot go on with the terminal: ", r.failed.Error())
	}
	return 128 + int(syscall.SIGHUP)
}

// room waits until there is room behind r, a signal comes, or lateMillis are over. It
// reports whether there is room.
func (s *session) room(r *relay) bool {
	fds := [2]sys.PollFD{{FD: int32(r.to), Events: sys.PollOut}, s.signals.poll()}
	_, e := wait(fds[:], lateMillis)
	return e == 0 && fds[0].Revents != 0
}

// pendingFiles reports whether an output that is relayed into a file may still
// bring something.
func (s *session) pendingFiles() bool {
	for i := range s.relays[:s.used] {
		r := &s.relays[i]
		if r.to >= 0 && r.to <= 2 && r.from > 2 && r.from != s.master && !r.dead && (!r.eof || !r.empty()) {
			return true
		}
	}
	return false
}

// finish settles a relay that has come to its end: it closes the end of the pipe that
// is ours, so that the command sees the end of its input, or that nobody takes its
// output. What kept the bytes from their end is said, and a failure. That a pipe has
// no reader is not: the command learns it as it would have by itself.
func (s *session) finish(r *relay) {
	if r.done {
		return
	}
	r.done, r.dead = true, true
	input := r.to > 2
	if input {
		sys.Close(r.to)
	} else {
		sys.Close(r.from)
	}
	if r.failed == 0 || r.failed == syscall.EPIPE {
		return
	}
	s.failed = true
	var l line
	switch {
	case input:
		l.add("cannot read standard input: ")
	case r.to == 1:
		l.add("cannot write standard output: ")
	default:
		l.add("cannot write standard error: ")
	}
	l.add(r.failed.Error())
	if s.raw {
		l.add("\r") // nobody else begins the line anew
	}
	l.print()
}

// signal passes a signal on to the session.
func (s *session) signal(sig syscall.Signal) {
	_ = sys.SendMsg(s.conn, wire.AppendSignal(s.small[:0], wire.Signal{Number: uint8(sig)}), nil, false, &s.m)
}

// disconnected tells PID 1 that nobody reads standard error any more. sshd reads
// it to its end, which we are, having a copy, so the connection is gone, or the
// client has closed this session's channel (nchan.c:chan_shutdown_extended_read).
// Who only reads no more of the output, as head(1) does, does not close standard
// error (chan_rcvd_eow).
func (s *session) disconnected() {
	_ = sys.SendMsg(s.conn, wire.AppendDisconnected(s.small[:0]), nil, false, &s.m)
}

// event reads PID 1's message about the end of the session. gone is true if
// there is no such message and never will be.
func (s *session) event() (end wire.Exited, gone bool) {
	n, err := sys.RecvMsg(s.conn, s.small[:], false, &s.m)
	sys.CloseAll(s.m.FDs)
	if err != nil || n == 0 || len(s.m.FDs) != 0 {
		return end, true
	}
	typ, flags, body, err := wire.Header(s.small[:n])
	if err != nil || typ != wire.TypeExited {
		return end, true
	}
	end, err = wire.DecodeExited(flags, body)
	return end, err != nil
}

// oomText says why a session has ended that would otherwise leave its user with a 137.
const oomText = "out of memory: the kernel has killed a process of this session"

// lostText says that a jail ended without a word about this session.
const lostText = "the jail has stopped, and this session with it"

// lost is for a jail that ended without a word about this session. What it had still
// said is shown, as far as there is somebody to take it.
func (s *session) lost(out *relay) int {
	if out != nil {
		for shown := 0; shown < lateBytes && (!out.empty() || s.fill(out)); {
			before := out.r
			out.flush()
			shown += out.r - before
			if out.dead || !out.empty() && !s.room(out) {
				break
			}
		}
	}
	s.endRecording()
	s.cooked()
	return complain(lostText)
}

// fill is fill of the terminal's output.
func (s *session) fill(out *relay) bool {
	if !out.fill() {
		return false
	}
	s.record(wire.TypeOutput, out.buf[:out.w])
	return true
}

// leave ends as the command did, unless what it wrote was lost on the way and it does
// not say so itself.
func (s *session) leave(e wire.Exited) int {
	s.cooked()
	s.endRecording()
	if e.OutOfMemory {
		complain(oomText)
	}
	if s.failed && (e.Signal == 0 && e.Code == 0 || e.Signal == uint8(syscall.SIGPIPE)) {
		return exitFailure
	}
	if e.Signal != 0 {
		s.die(syscall.Signal(e.Signal))
	}
	return int(e.Code)
}
