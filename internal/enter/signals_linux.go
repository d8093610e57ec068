package enter

import (
	"syscall"

	"jail/internal/sys"
)

// forwarded are the signals that are passed on: those a login shell gets of a
// client's request from sshd (session.c:session_signal_req).
var forwarded = [...]syscall.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
}

// terminalSignals say something about the terminal.
var terminalSignals = [...]syscall.Signal{syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT}

// signals is where caught signals are read from: a signalfd(2), or the pipe of
// sys.CatchSignals, since the Go runtime's threads would take what only this one has
// blocked.
type signals struct{ fd int }

// catch begins to catch signals, with a terminal also those about it.
func (s *signals) catch(terminal bool) sys.Errno {
	if !withoutRuntime {
		sigs := forwarded[:]
		if terminal {
			sigs = append(sigs, terminalSignals[:]...)
		}
		fd, err := sys.CatchSignals(sigs...)
		s.fd = fd
		return errno(err)
	}
	var mask sys.SignalMask
	for _, sig := range forwarded {
		mask |= 1 << (sig - 1)
	}
	if terminal {
		for _, sig := range terminalSignals {
			mask |= 1 << (sig - 1)
		}
	}
	// EPIPE says the same, and to the right one.
	if e := sys.SetSignalMask(mask | 1<<(syscall.SIGPIPE-1)); e != 0 {
		return e
	}
	fd, e := sys.Signalfd(mask)
	s.fd = fd
	return e
}

func (s *signals) poll() sys.PollFD { return sys.PollFD{FD: int32(s.fd), Events: sys.PollIn} }

// next returns a signal that has come, 0 if there is none. What was ignored when the
// program began, as by nohup(1), stays so.
func (s *signals) next() syscall.Signal {
	if withoutRuntime {
		for {
			sig := sys.NextSignal(s.fd)
			if sig == 0 || !sys.SignalIgnored(sig) {
				return syscall.Signal(sig)
			}
		}
	}
	var sig [1]byte
	if n, _ := sys.Read(s.fd, sig[:]); n == 1 {
		return syscall.Signal(sig[0])
	}
	return 0
}

// handle deals with a signal. alone is whether there is no session that could have
// it: not yet, or not any more.
func (s *session) handle(sig syscall.Signal, alone bool) {
	switch {
	case sig == syscall.SIGWINCH:
		s.resize()
	case sig == syscall.SIGTSTP:
		s.cooked()
		sys.StopBySignal(int(sig))
		s.resume(alone) // also where it has not stopped
	case sig == syscall.SIGCONT:
		s.resume(alone)
	case alone, sig == syscall.SIGHUP && s.ttyFD >= 0: // the terminal is gone, or we are told it is
		s.die(sig)
	default:
		s.signal(sig)
	}
}

// resume makes the terminal again what it was before we were stopped.
func (s *session) resume(alone bool) {
	switch {
	case s.termIn < 0:
	case s.master >= 0 && !alone:
		s.makeRaw()
	case s.took && s.master < 0:
		s.interruptible()
	}
}

// die ends the program by a signal, its terminal as it was.
func (s *session) die(sig syscall.Signal) {
	s.giveBack()
	if sig != syscall.SIGPIPE {
		sys.SetSignal(int(syscall.SIGPIPE), true) // one may be pending, blocked
	}
	sys.DieBySignal(int(sig))
	sys.Exit(128 + int(sig))
}
