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
// ioctl_tty(2); CVE-2016-10124, CVE-2025-52565). It is not uid's yet where something is
// typed ahead; that is for typed.
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
	if err := tty.SetWinsize(master, req.Winsize); err != nil {
		return fail(err)
	}
	if req.Flags&wire.FlagTyped == 0 {
		err = own(slave, uid)
	} else if req.Termios, err = tty.GetTermios(slave); err == nil {
		err = tty.Type(master, slave, &req.Termios, req.Typed)
	}
	if err != nil {
		return fail(err)
	}
	return master, slave, number, nil
}

// own makes a terminal uid's. The group, tty, and the mode, 0620, come from the mount.
func own(slave int, uid uint32) error { return syscall.Fchown(slave, int(uid), -1) }

// typed is for when all is in the session's terminal that was typed on the caller's
// before the session began, and nothing of it has been read. Only now it is uid's: who
// has uid inside could open it, and change modes while it is typed.
func typed(master, slave int, uid uint32, req *wire.Request) error {
	if err := tty.Typed(master, slave, &req.Termios, req.Stopped); err != nil {
		return err
	}
	return own(slave, uid)
}
