package enter

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/tty"
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

// relay copies bytes one way.
type relay struct {
	from, to int
	given    int // the other end of its pipe, until the jail has it
	buf      []byte
	r, w     int  // unwritten bytes are buf[r:w]
	eof      bool // nothing more to read
	dead     bool // nothing more to write to
	chunk    int  // write at most so much at once
}

func newRelay(from, to, given int) *relay {
	return &relay{from: from, to: to, given: given, chunk: bufferSize}
}

func (r *relay) empty() bool { return r.r == r.w }

// fill reads once. It reports whether there was something.
func (r *relay) fill() bool {
	if r.buf == nil {
		r.buf = make([]byte, bufferSize)
	}
	n, err := sys.Read(r.from, r.buf)
	switch {
	case n > 0:
		r.r, r.w = 0, n
		return true
	case err == syscall.EAGAIN:
	default: // the end, EIO of a terminal nobody has open any more, EISDIR
		r.eof = true
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
	if err != nil && err != syscall.EAGAIN {
		r.dead = true
		r.r = r.w
	}
}

// relay is the session from its start to its end.
func (s *session) relay() int {
	var in, out *relay
	if s.master >= 0 {
		in, out = s.terminal()
	}
	fds := make([]sys.PollFD, 0, 8)
	const (
		connFD = iota
		signalFD
		stderrFD
		relayFD
	)
	defer s.agent.close()
	exited := false
	var end wire.Exited
	late, quietSince := 0, int64(0)
	for {
		fds = append(fds[:0], sys.PollFD{FD: int32(s.conn), Events: sys.PollIn}, sys.PollFD{FD: int32(s.signals), Events: sys.PollIn}, sys.PollFD{FD: -1})
		if exited {
			fds[connFD].FD = -1
		} else if s.watch {
			fds[stderrFD].FD = 2 // for POLLERR and POLLHUP
		}
		for _, r := range s.relays {
			rd, wr := sys.PollFD{FD: -1}, sys.PollFD{FD: -1}
			if !r.dead && !r.empty() {
				wr = sys.PollFD{FD: int32(r.to), Events: sys.PollOut}
			} else if !r.eof && !r.dead {
				rd = sys.PollFD{FD: int32(r.from), Events: sys.PollIn}
			}
			fds = append(fds, rd, wr)
		}
		agentFD := len(fds)
		if !exited {
			fds = s.agent.poll(fds)
		}
		timeout := -1
		if exited {
			timeout = 0
			if s.pendingFiles() {
				timeout = lateMillis
			}
		}
		n, err := sys.Poll(fds, timeout)
		if err != nil {
			return s.end(complain("cannot wait for the session: " + err.Error()))
		}
		if fds[signalFD].Revents != 0 {
			s.handleSignals(exited)
		}
		if fds[stderrFD].Revents != 0 {
			s.watch = false
			s.disconnected()
		}
		s.agent.handle(fds[agentFD:])
		progress := false
		for i, r := range s.relays {
			rd, wr := &fds[relayFD+2*i], &fds[relayFD+2*i+1]
			if wr.Revents != 0 {
				r.flush()
				progress = true
			}
			if rd.Revents != 0 && r.fill() {
				progress = true
				if r == out && exited {
					late += r.w
				}
				r.flush()
			}
			if r.eof && r.empty() && !r.dead && r != out && r != in {
				s.finish(r)
			}
			if r == in && r.eof {
				// The caller's terminal is gone. Going too hangs up the one inside.
				return s.end(128 + int(syscall.SIGHUP))
			}
		}
		if !exited && fds[connFD].Revents != 0 {
			var gone bool
			if end, gone = s.event(); gone {
				return s.end(s.lost(out))
			}
			exited = true
			quietSince = sys.MonotonicMillis()
			continue
		}
		if !exited {
			continue
		}
		if progress {
			quietSince = sys.MonotonicMillis()
		}
		flushed := out == nil || out.empty() || out.dead
		drained := out == nil || out.eof || out.dead || late >= lateBytes || n == 0
		if flushed && drained && (!s.pendingFiles() || sys.MonotonicMillis()-quietSince >= lateMillis) {
			return s.leave(end)
		}
		if n == 0 && !flushed {
			// A slow reader still has to take what is in the buffer.
			_, _ = sys.Poll([]sys.PollFD{{FD: int32(out.to), Events: sys.PollOut}}, lateMillis)
		}
	}
}

// pendingFiles reports whether an output that is relayed into a file may still
// bring something.
func (s *session) pendingFiles() bool {
	for _, r := range s.relays {
		if r.to >= 0 && r.to <= 2 && r.from > 2 && r.from != s.master && !r.dead && (!r.eof || !r.empty()) {
			return true
		}
	}
	return false
}

// finish closes the pipe of a relay that has come to its end, so that the
// command sees the end of its input.
func (s *session) finish(r *relay) {
	if r.to > 2 {
		sys.Close(r.to)
	}
	r.dead = true
}

// terminal sets up the two directions of a terminal session.
func (s *session) terminal() (in, out *relay) {
	to := s.termOut
	if to < 0 {
		to = s.ttyFD
	}
	out = newRelay(s.master, to, -1)
	if fd := reopen(to); fd >= 0 {
		out.to = fd
	} else {
		// Writing to a terminal that is not ours to reopen may block; a little at
		// a time does not, once poll has said there is room.
		out.chunk = 256
	}
	s.relays = append(s.relays, out)
	if s.termIn >= 0 {
		in = newRelay(s.termIn, s.master, -1)
		s.relays = append(s.relays, in)
		s.makeRaw()
	}
	return in, out
}

// reopen opens the terminal behind fd anew, so that it can be non-blocking
// without becoming so for the shell that shares it; -1 if that is not allowed.
func reopen(fd int) int {
	path := "/proc/self/fd/" + decimal(fd)
	n, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return n
}

// makeRaw makes the caller's terminal pass every byte on. A background job may
// not do that: it stops, as any job does that wants the terminal, and goes on
// when it is brought to the foreground.
func (s *session) makeRaw() {
	for {
		fg, err := tty.Foreground(s.ttyFD)
		if err != nil || fg == syscall.Getpgrp() {
			break // ours, or not our controlling terminal (su -c)
		}
		if syscall.Kill(0, syscall.SIGTTIN) != nil {
			break
		}
		pause := syscall.Timespec{Nsec: 10e6}
		_ = syscall.Nanosleep(&pause, nil)
	}
	if modes, err := tty.GetTermios(s.ttyFD); err == nil {
		s.modes = modes
	}
	raw := tty.Raw(s.modes)
	s.raw = tty.SetTermios(s.ttyFD, &raw) == nil
	s.resize()
}

func (s *session) cooked() {
	if s.raw {
		_ = tty.SetTermios(s.ttyFD, &s.modes)
		s.raw = false
	}
}

func (s *session) resize() {
	if w, err := tty.GetWinsize(s.ttyFD); err == nil && s.master >= 0 {
		_ = tty.SetWinsize(s.master, w)
	}
}

// handleSignals deals with what CatchSignals has written.
func (s *session) handleSignals(exited bool) {
	var buf [64]byte
	n, _ := sys.Read(s.signals, buf[:])
	for _, sig := range buf[:max(n, 0)] {
		switch sig := syscall.Signal(sig); sig {
		case syscall.SIGWINCH:
			if s.ttyFD >= 0 {
				s.resize()
			}
		case syscall.SIGTSTP:
			s.cooked()
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
		case syscall.SIGCONT:
			if s.termIn >= 0 && s.master >= 0 && !exited {
				s.makeRaw()
			}
		case syscall.SIGHUP:
			if s.ttyFD >= 0 {
				// The terminal is gone, or we are told it is.
				s.end(0)
				sys.DieBySignal(int(sig))
			}
			s.signal(sig)
		default:
			s.signal(sig)
		}
	}
}

// signal passes a signal on to the session.
func (s *session) signal(sig syscall.Signal) {
	if s.conn >= 0 {
		_ = sys.SendMsg(s.conn, wire.AppendSignal(nil, wire.Signal{Number: uint8(sig)}), nil, false, &s.m)
	}
}

// disconnected tells PID 1 that nobody reads standard error any more. sshd reads
// it to its end, which we are, having a copy, so the connection is gone, or the
// client has closed this session's channel (nchan.c:chan_shutdown_extended_read).
// Who only reads no more of the output, as head(1) does, does not close standard
// error (chan_rcvd_eow).
func (s *session) disconnected() {
	_ = sys.SendMsg(s.conn, wire.AppendDisconnected(nil), nil, false, &s.m)
}

// event reads PID 1's message about the end of the session. gone is true if
// there is no such message and never will be.
func (s *session) event() (end wire.Exited, gone bool) {
	var buf [64]byte
	n, err := sys.RecvMsg(s.conn, buf[:], false, &s.m)
	sys.CloseAll(s.m.FDs)
	if err != nil || n == 0 || len(s.m.FDs) != 0 {
		return end, true
	}
	typ, _, body, err := wire.Header(buf[:n])
	if err != nil || typ != wire.TypeExited {
		return end, true
	}
	end, err = wire.DecodeExited(body)
	return end, err != nil
}

// lostText says that a jail ended without a word about this session.
const lostText = "the jail has stopped, and this session with it"

// lost is for a jail that ended without a word about this session.
func (s *session) lost(out *relay) int {
	s.cooked()
	if out != nil {
		for out.fill() { // what it had still said
			for !out.empty() && !out.dead {
				out.flush()
				if !out.empty() {
					if n, _ := sys.Poll([]sys.PollFD{{FD: int32(out.to), Events: sys.PollOut}}, lateMillis); n == 0 {
						break
					}
				}
			}
		}
	}
	return complain(lostText)
}

// end puts the terminal back and returns status.
func (s *session) end(status int) int {
	s.cooked()
	return status
}

// leave ends as the command did.
func (s *session) leave(e wire.Exited) int {
	s.cooked()
	if e.Signal != 0 {
		sys.DieBySignal(int(e.Signal))
		return 128 + int(e.Signal)
	}
	return int(e.Code)
}
