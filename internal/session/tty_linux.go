package session

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/tty"
	"jail/internal/wire"
)

// openTTY opens a new terminal of the devpts at pts, for uid, with the modes and
// the size the request came with. The master never has a name that could be
// replaced, and the slave is opened through the master (TIOCGPTPEER,
// ioctl_tty(2); CVE-2016-10124, CVE-2025-52565).
func openTTY(pts int, uid uint32, req *wire.Request) (master, slave, number int, err error) {
	master, err = sys.Openat2(pts, "ptmx", syscall.O_RDWR|syscall.O_NOCTTY, sys.ResolveNoSymlinks|sys.ResolveBeneath|sys.ResolveNoXdev)
	if err != nil {
		return -1, -1, 0, err
	}
	fail := func(err error) (int, int, int, error) {
		sys.Close(master)
		if slave > 0 {
			sys.Close(slave)
		}
		return -1, -1, 0, err
	}
	if err := tty.Unlock(master); err != nil {
		return fail(err)
	}
	if number, err = tty.Number(master); err != nil {
		return fail(err)
	}
	if slave, err = tty.Peer(master); err != nil {
		return fail(err)
	}
	if req.Termios != (wire.Termios{}) {
		if err := tty.SetTermios(slave, &req.Termios); err != nil {
			return fail(err)
		}
	}
	if req.Flags&wire.FlagTyped != 0 {
		if err := typeAhead(master, slave, req); err != nil {
			return fail(err)
		}
	}
	if err := tty.SetWinsize(master, req.Winsize); err != nil {
		return fail(err)
	}
	// Only now: whoever has uid inside could open it, and change modes while it is typed,
	// which PID 1 waits for. The group, tty, and the mode, 0620, come from the mount.
	if err := syscall.Fchown(slave, int(uid), -1); err != nil {
		return fail(err)
	}
	return master, slave, number, nil
}

// typeAhead puts what was typed on the caller's terminal before the session began
// into the session's, of which nothing has been read yet.
func typeAhead(master, slave int, req *wire.Request) error {
	modes := req.Termios
	if modes == (wire.Termios{}) {
		var err error
		if modes, err = tty.GetTermios(slave); err != nil {
			return err
		}
	}
	return tty.Type(master, slave, &modes, req.Typed, req.Stopped)
}
