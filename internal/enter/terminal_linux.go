package enter

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/tty"
	"jail/internal/wire"
)

// takeTyped makes the caller's terminal raw, once, and takes what was typed until
// then: it was echoed and interpreted here, and must not be so again inside. Signals
// can still be made, for which there is no session yet. A background job leaves the
// terminal alone; that is for makeRaw.
func (s *session) takeTyped() {
	if s.took || s.termIn < 0 {
		return
	}
	s.took = true
	if s.foreground() {
		s.raw = true
		s.taken, _ = tty.Take(s.typed[:0], s.termIn, &s.modes)
	}
}

// foreground reports whether the terminal is ours to change: we are its foreground
// job, or it is not our controlling terminal (su -c).
func (s *session) foreground() bool {
	fg, err := tty.Foreground(s.ttyFD)
	return err != nil || fg == syscall.Getpgrp()
}

// interruptible is for one that was stopped before its session began.
func (s *session) interruptible() {
	if s.raw || !s.foreground() {
		return
	}
	if modes, err := tty.GetTermios(s.ttyFD); err == nil {
		s.modes = modes
	}
	raw := tty.Interruptible(s.modes)
	s.raw = tty.SetTermios(s.ttyFD, &raw) == nil
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
	for !s.foreground() {
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
	raw := tty.Raw(s.modes)
	s.raw = tty.SetTermios(s.ttyFD, &raw) == nil
	s.resize()
}

// cooked puts the terminal's modes back.
func (s *session) cooked() {
	if s.raw {
		_ = tty.SetTermios(s.ttyFD, &s.modes)
		s.raw = false
	}
}

// giveBack puts the terminal back as it was. Where there has been no session, this
// includes what was typed for one: whoever reads there next gets it.
func (s *session) giveBack() {
	if s.raw && s.master < 0 && s.taken.Count > 0 {
		_ = tty.Return(s.termIn, &s.modes, s.taken.Typed)
	}
	s.cooked()
}

func (s *session) resize() {
	if s.ttyFD < 0 || s.master < 0 {
		return
	}
	if w, err := tty.GetWinsize(s.ttyFD); err == nil {
		_ = tty.SetWinsize(s.master, w)
	}
}
