package enter

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/wire"
)

// recorder is the connection on which a recorded session is told to the recorder. The session
// never waits for it: what it has no room for is dropped, and counted.
//
// A terminal that prints as fast as it can is read in pieces of one page. To wake the recorder for
// each would cost as much as all the rest, so those are held until they fill a message, or nothing
// has come for holdMillis.
type recorder struct {
	wanted, input bool   // what the file beside our socket says
	conn          int    // -1 without
	dropped       uint64 // bytes, since the recorder has last been told
	held          int    // bytes in buf, of output
	buf           [wire.MaxRecorded]byte
}

const (
	holdMillis = 50
	// large is a piece behind which others come at once, most likely.
	large = 2048
)

// What the user is told, on the terminal, when the session begins.
const (
	recordedText    = "jail-enter: this session is recorded\r\n"
	recordedAllText = "jail-enter: this session is recorded, and so is what you type\r\n"
	unrecordedText  = "jail-enter: this session cannot be recorded, the recorder does not answer\r\n"
)

// recordBuffer is how much may wait in the kernel for the recorder, in bytes. More than
// net.core.wmem_max is not to be had.
const recordBuffer = 1 << 20

// startRecording connects to the recorder and says what session this is. It returns the
// line for the user: one who is to be recorded and is not goes on all the same, since a recorder that
// has failed must not lock everybody out, least of all who comes to mend it.
func (s *session) startRecording(pid uint32) string {
	rec := &s.recorder
	path := append(append(append(s.pathText[:0], s.in.runtimeDir...), '/'), wire.RecorderName...)
	fd, e := sys.ConnectAt(syscall.SOCK_SEQPACKET, path)
	if e == syscall.ENOENT || e == syscall.ECONNREFUSED {
		fd, e = sys.ConnectAt(syscall.SOCK_SEQPACKET, loginPath(s.pathText[:0], s.in.runtimeDir, syscall.Getuid(), wire.RecorderName))
	}
	if e != 0 {
		return unrecordedText
	}
	_ = sys.SetSockoptInt(fd, syscall.SO_SNDBUF, recordBuffer)
	term := []byte(nil)
	for _, e := range s.req.Env {
		if v, ok := value(sys.String(e), "TERM"); ok {
			term = sys.Bytes(v)
		}
	}
	rec.conn = fd
	s.tellRecorder(wire.AppendRecord(s.packet[:0], &wire.Record{
		Input: rec.input, Rows: s.req.Winsize.Rows, Cols: s.req.Winsize.Cols, PID: pid, Term: term,
	}))
	switch {
	case rec.conn < 0:
		return unrecordedText
	case rec.input:
		return recordedAllText
	}
	return recordedText
}

// record tells the recorder what was printed or typed.
func (s *session) record(t wire.Type, b []byte) {
	rec := &s.recorder
	if rec.conn < 0 || len(b) == 0 || t == wire.TypeInput && !rec.input {
		return
	}
	if t == wire.TypeInput || rec.held+len(b) > len(rec.buf) {
		s.tellHeld()
	}
	if t == wire.TypeOutput && len(b) <= len(rec.buf)/2 {
		rec.held += copy(rec.buf[rec.held:], b)
		if len(b) < large {
			s.tellHeld()
		}
		return
	}
	s.tell(t, b)
}

// tellHeld tells what has been held.
func (s *session) tellHeld() {
	if n := s.recorder.held; n > 0 {
		s.recorder.held = 0
		s.tell(wire.TypeOutput, s.recorder.buf[:n])
	}
}

// tell tells the recorder at once.
func (s *session) tell(t wire.Type, b []byte) {
	if !s.tellDropped() || !s.tellRecorder(wire.AppendRecorded(s.packet[:0], t, b)) {
		s.recorder.dropped += uint64(len(b))
	}
}

// recordSize tells the recorder the terminal's size. One that is lost is not missed: a
// size is no secret.
func (s *session) recordSize(rows, cols uint16) {
	if s.recorder.conn < 0 {
		return
	}
	s.tellHeld()
	if s.tellDropped() {
		s.tellRecorder(wire.AppendResize(s.packet[:0], rows, cols))
	}
}

// endRecording tells what is left to be told.
func (s *session) endRecording() {
	s.tellHeld()
	s.tellDropped()
}

// tellDropped tells what was dropped before anything else, and reports whether the recorder
// knows.
func (s *session) tellDropped() bool {
	if n := s.recorder.dropped; n > 0 {
		if !s.tellRecorder(wire.AppendDropped(s.packet[:0], n)) {
			return false
		}
		s.recorder.dropped = 0
	}
	return true
}

// tellRecorder sends one message, if there is room for it, and reports whether it has. A
// recorder that is gone is not missed by the session.
func (s *session) tellRecorder(packet []byte) bool {
	if s.recorder.conn < 0 {
		return false
	}
	err := sys.SendMsg(s.recorder.conn, packet, nil, false, &s.m)
	if err != nil && errno(err) != syscall.EAGAIN {
		sys.Close(s.recorder.conn)
		s.recorder.conn = -1
	}
	return err == nil
}
