// Package tty does what the two ends of a terminal session need: modes, sizes,
// and the pty calls of ioctl_tty(2). It imports next to nothing, because both
// jail-enter and PID 1 use it.
package tty

import (
	"syscall"
	"unsafe"

	"jail/internal/sys"
	"jail/internal/wire"
)

const (
	tcgets2     = 0x802c542a
	tcsets2     = 0x402c542b
	tcsetsf2    = 0x402c542d
	tiocswinsz  = 0x5414
	tiocgwinsz  = 0x5413
	tiocgpgrp   = 0x540f
	tiocsptlck  = 0x40045431
	tiocgptn    = 0x80045430
	tiocgptpeer = 0x5441
	tiocpkt     = 0x5420
	tiocsti     = 0x5412
	fionread    = 0x541b

	echoctl, extproc = 0o1000, 0o200000 // of c_lflag
)

// GetTermios returns the modes of fd; the error is ENOTTY if it is no terminal.
func GetTermios(fd int) (wire.Termios, error) {
	var t wire.Termios
	err := sys.IoctlPtr(fd, tcgets2, unsafe.Pointer(&t))
	return t, err
}

// IsTerminal reports whether fd is a terminal.
func IsTerminal(fd int) bool {
	_, err := GetTermios(fd)
	return err == nil
}

// SetTermios sets the modes of fd at once.
func SetTermios(fd int, t *wire.Termios) error { return sys.IoctlPtr(fd, tcsets2, unsafe.Pointer(t)) }

// RestoreFlushed sets the modes of fd once its output has drained, and drops what has not
// been read (TCSAFLUSH).
func RestoreFlushed(fd int, t *wire.Termios) error {
	return sys.IoctlPtr(fd, tcsetsf2, unsafe.Pointer(t))
}

// Raw returns t made raw, as cfmakeraw(3) does, so that every byte passes
// unchanged.
func Raw(t wire.Termios) wire.Termios {
	t.Iflag &^= syscall.IGNBRK | syscall.BRKINT | syscall.PARMRK | syscall.ISTRIP |
		syscall.INLCR | syscall.IGNCR | syscall.ICRNL | syscall.IXON
	t.Oflag &^= syscall.OPOST
	t.Lflag &^= syscall.ECHO | syscall.ECHONL | syscall.ICANON | syscall.ISIG | syscall.IEXTEN
	t.Cflag &^= syscall.CSIZE | syscall.PARENB
	t.Cflag |= syscall.CS8
	t.CC[syscall.VMIN], t.CC[syscall.VTIME] = 1, 0
	return t
}

// GetWinsize returns the window size of fd.
func GetWinsize(fd int) (wire.Winsize, error) {
	var w wire.Winsize
	err := sys.IoctlPtr(fd, tiocgwinsz, unsafe.Pointer(&w))
	return w, err
}

// SetWinsize sets the window size of fd; the foreground process group gets
// SIGWINCH if it changes.
func SetWinsize(fd int, w wire.Winsize) error {
	return sys.IoctlPtr(fd, tiocswinsz, unsafe.Pointer(&w))
}

// Foreground returns the foreground process group of fd (tcgetpgrp(3)).
func Foreground(fd int) (int, error) {
	var pgrp int32
	err := sys.IoctlPtr(fd, tiocgpgrp, unsafe.Pointer(&pgrp))
	return int(pgrp), err
}

// Unlock makes the slave of a new master openable.
func Unlock(master int) error {
	var zero int32
	return sys.IoctlPtr(master, tiocsptlck, unsafe.Pointer(&zero))
}

// Number returns the number of a master's slave: N of /dev/pts/N. It fails on
// anything but a pty master.
func Number(master int) (int, error) {
	var n uint32
	err := sys.IoctlPtr(master, tiocgptn, unsafe.Pointer(&n))
	return int(n), err
}

// Peer opens the slave of a master without a path.
func Peer(master int) (int, error) {
	return sys.Ioctl(master, tiocgptpeer, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC)
}
