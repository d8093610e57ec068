package admin

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"jail/internal/control"
	"jail/internal/jail"
	"jail/internal/login"
	"jail/internal/record"
	"jail/internal/sys"
	"jail/internal/wire"
)

// Kill ends one session, that is called by its id, or JAIL/ID where several jails have one of
// that id: it is hung up, and killed after grace. It returns when the session has ended.
func Kill(opt Options, which string, grace time.Duration) error {
	name, text, given := strings.Cut(which, "/")
	if !given {
		name, text = "", which
	}
	if given && !jail.ValidName(name) || len(text) != wire.IDLen || !login.ID([]byte(text)).Valid() {
		return fmt.Errorf("%.40q is no id of a session; jail who shows them", which)
	}
	id := login.ID([]byte(text))
	list, err := sessions(opt, Running(opt), func(s *record.Session) bool {
		return s.State == record.StateOpen && s.Session == text && (!given || s.Jail == name)
	})
	var s *record.Session
	switch n := len(list.Sessions); {
	case given && n > 0:
		s = &list.Sessions[0]
	case given: // the records do not know it; its PID 1 may
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("no session %s goes on; jail who shows them", text)
	case n > 1:
		// One that has been taken over may say that it has any.
		return fmt.Errorf("%d jails have a session %s: say JAIL/%s", n, text, text)
	default:
		s, name = &list.Sessions[0], list.Sessions[0].Jail
	}
	there, err := end(opt, name, id, syscall.SIGHUP)
	if errors.Is(err, errNoEnd) && s != nil && s.Caller != nil {
		return endCaller(opt, s)
	}
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("jail %s has no session %s", name, text)
	}
	defer opt.waiting("waiting for session %s to end: it has %v to do so by itself", text, grace)()
	for deadline := time.Now().Add(grace); ; {
		if there, err = end(opt, name, id, 0); err != nil || !there {
			return err
		}
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if there, err = end(opt, name, id, syscall.SIGKILL); err != nil || !there {
		return err
	}
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if there, err = end(opt, name, id, 0); err != nil || !there {
			return err
		}
	}
	return fmt.Errorf("session %s does not end: a process of it probably waits for a file system that does not answer", text)
}

// errNoEnd is of a PID 1 that cannot end single sessions.
var errNoEnd = errors.New("its PID 1 is of an older build, which cannot end one session; jail stop ends them all")

// end has the PID 1 of a jail send a signal to one of its sessions, and reports whether there is
// one of that id. Of one that has ended that is no error.
func end(opt Options, name string, id login.ID, sig syscall.Signal) (there bool, err error) {
	c, err := control.Open(opt.RuntimeDir, name, false)
	if errors.Is(err, control.ErrNotRunning) {
		if sig != syscall.SIGHUP {
			return false, nil // it has ended with its jail
		}
		return false, fmt.Errorf("jail %s does not run", name)
	}
	if err != nil {
		return false, err
	}
	defer c.Close()
	if err := c.Send(wire.AppendEnd(nil, wire.End{ID: id, Number: uint8(sig)}), nil); err != nil && !gone(err) {
		return false, err
	}
	typ, body, err := c.Recv(3000)
	switch {
	case err != nil && gone(err):
		return false, fmt.Errorf("jail %s: %w", name, errNoEnd)
	case err != nil:
		return false, fmt.Errorf("jail %s: %w", name, err)
	case typ != wire.TypeEnds:
		return false, fmt.Errorf("jail %s: its PID 1 answers something else", name)
	}
	return wire.DecodeEnds(body)
}

// endCaller ends a session by its jail-enter, whose end PID 1 takes for the client's.
func endCaller(opt Options, s *record.Session) error {
	pidfd, err := sys.PidfdOpen(s.Caller.PID)
	if err != nil {
		return fmt.Errorf("session %s: its jail-enter has ended", s.Session)
	}
	defer sys.Close(pidfd)
	// Whose pid it is now; the pidfd stays that process's.
	spec, err := find(opt, s.Jail)
	if err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(s.Caller.PID) + "/status")
	if err != nil {
		return fmt.Errorf("session %s: its jail-enter has ended", s.Session)
	}
	known := false
	for i := range specLogins(spec) {
		lg := &spec.Logins[i]
		uid := "\nUid:\t" + strconv.FormatUint(uint64(lg.HostUID), 10) + "\t"
		known = known || lg.Name == s.Login && strings.Contains(string(text), uid)
	}
	if !known || !strings.HasPrefix(string(text), "Name:\tjail-enter\n") {
		return fmt.Errorf("session %s: process %d is no jail-enter of login %s", s.Session, s.Caller.PID, s.Login)
	}
	return sys.PidfdSendSignal(pidfd, syscall.SIGKILL)
}

func specLogins(spec *jail.Spec) []jail.Login {
	if spec == nil {
		return nil
	}
	return spec.Logins
}
