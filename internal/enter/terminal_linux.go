package enter

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/tty"
	"jail/internal/wire"
)

// takeTyped makes the caller's terminal raw, once, and takes what was typed until
// then: it was echoed and interpreted here, and must not be so again inside. What
// follows still makes signals, for which there is no session yet: by readKeys, which
// knows a quoted ^C from another. On a terminal that is not our controlling one nobody
// but the kernel can send them to the right processes. A background job leaves the
// terminal alone; that is for makeRaw.
func (s *session) takeTyped() {
	if s.took || s.termIn < 0 {
		return
	}
	s.took = true
	if yes, ours := s.foreground(); yes {
		s.raw, s.keys = true, ours
		s.taken, _ = tty.Take(s.typed[:0], s.termIn, &s.modes, !ours)
		s.keep(s.lateText[:copy(s.lateText[:], s.taken.Later)])
	}
}

// readKeys reads what is typed while nobody has the session yet.
func (s *session) readKeys() {
	n, err := sys.Read(s.termIn, s.lateText[s.late:])
	if err == syscall.EAGAIN {
		return
	}
	if err != nil || n <= 0 { // hung up, which the session will hear of, too
		s.keys = false
		return
	}
	s.keep(s.lateText[s.late : s.late+n])
}

// keep keeps fresh, which is in lateText behind what is kept already, for the session.
// What makes a signal does so for our process group, which is the terminal's foreground
// one, and discards what was typed before it, unless NOFLSH is set.
func (s *session) keep(fresh []byte) {
	for _, c := range fresh {
		sig := syscall.Signal(0)
		if s.keys {
			sig = s.typer.Signal(&s.modes, c)
		}
		switch {
		case sig == 0:
			s.lateText[s.late] = c
			s.late++
			continue
		case s.modes.Lflag&syscall.NOFLSH == 0:
			s.taken, s.late = tty.Taken{}, 0
		}
		_ = syscall.Kill(0, sig)
	}
}

// foreground reports whether the terminal is ours to change: we are its foreground
// job, or it is not our controlling terminal (su -c). ours is false then.
func (s *session) foreground() (yes, ours bool) {
	fg, err := tty.Foreground(s.ttyFD)
	return err != nil || fg == syscall.Getpgrp(), err == nil
}

// interruptible is for one that was stopped before its session began.
func (s *session) interruptible() {
	yes, ours := s.foreground()
	if s.raw || !yes {
		return
	}
	if modes, err := tty.GetTermios(s.ttyFD); err == nil {
		s.modes = modes
	}
	raw := tty.Raw(s.modes)
	if !ours {
		raw = tty.Interruptible(s.modes)
	}
	s.raw = tty.SetTermios(s.ttyFD, &raw) == nil
	s.keys = s.raw && ours
}

// terminal sets up the two directions of a terminal session.
func (s *session) terminal() (in, out *relay) {
	to := s.termOut
	if to < 0 {
		to = s.ttyFD
	}
	out = s.addRelay(s.master, to, -1)
	if fd := s.reopen(to); fd >= 0 {
		out.to = fd
	} else {
		// Writing to a terminal that is not ours to reopen may block; a little at
		// a time does not, once poll has said there is room.
		out.chunk = 256
	}
	if s.termIn >= 0 {
		in = s.addRelay(s.termIn, s.master, -1)
		s.makeRaw()
		if !s.moved {
			s.typeAgain(in)
		}
		in.w += copy(in.buf[in.w:], s.lateText[:s.late])
	}
	if s.recorder.wanted {
		out.w = copy(out.buf[:], s.startRecording(s.pid))
		if in != nil {
			s.record(wire.TypeInput, in.buf[:in.w])
		}
	}
	return in, out
}

// typeAgain types what was taken from the terminal into the session's, for a PID 1
// that cannot do better: it is echoed twice.
func (s *session) typeAgain(in *relay) {
	for at := 0; at < len(s.taken.Typed); {
		n, c, eof := wire.NextTyped(s.taken.Typed[at:])
		if eof {
			c = s.modes.CC[syscall.VEOF]
		}
		in.buf[in.w] = c
		in.w++
		at += n
	}
}

// reopen opens the terminal behind fd anew, so that it can be non-blocking
// without becoming so for the shell that shares it; -1 if that is not allowed.
func (s *session) reopen(fd int) int {
	path := append(appendDecimal(append(s.pathText[:0], "/proc/self/fd/"...), fd), 0)
	n, e := sys.OpenNoWait(path, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY)
	if e != 0 {
		return -1
	}
	return n
}

// makeRaw makes the caller's terminal pass every byte on. A background job may
// not do that: it stops, as any job does that wants the terminal, and goes on
// when it is brought to the foreground.
func (s *session) makeRaw() {
	for {
		if yes, _ := s.foreground(); yes {
			break
		}
		if syscall.Kill(0, syscall.SIGTTIN) != nil {
			break
		}
		pause := [1]sys.PollFD{{FD: -1}}
		_, _ = wait(pause[:], 10)
	}
	if !s.raw {
		if modes, err := tty.GetTermios(s.ttyFD); err == nil {
			s.modes = modes
		}
	}
	if !s.keys { // it is quite raw already
		raw := tty.Raw(s.modes)
		s.raw = tty.SetTermios(s.ttyFD, &raw) == nil
	}
	s.keys = false
	s.resize()
}

// cooked puts the terminal's modes back.
func (s *session) cooked() {
	if s.raw {
		_ = tty.SetTermios(s.ttyFD, &s.modes)
		s.raw, s.keys = false, false
	}
}

// giveBack puts the terminal back as it was. Where there has been no session, this
// includes what was typed for one: whoever reads there next gets it.
func (s *session) giveBack() {
	if s.raw && s.master < 0 && s.taken.Count+s.late > 0 {
		_ = tty.Return(s.termIn, &s.modes, s.taken.Typed, s.lateText[:s.late])
	}
	s.cooked()
}

func (s *session) resize() {
	if s.ttyFD < 0 || s.master < 0 {
		return
	}
	if w, err := tty.GetWinsize(s.ttyFD); err == nil {
		_ = tty.SetWinsize(s.master, w)
		s.recordSize(w.Rows, w.Cols)
	}
}
