package tty

import (
	"syscall"
	"unsafe"

	"jail/internal/sys"
	"jail/internal/wire"
)

// literal returns t as a terminal that takes what is written in the manner of
// wire.AppendTyped for what it is: canonical, without an echo.
func literal(t wire.Termios) wire.Termios {
	t.Iflag = 0
	t.Lflag &^= syscall.ECHO | syscall.ECHONL | syscall.ISIG | extproc
	t.Lflag |= syscall.ICANON | syscall.IEXTEN
	t.CC = [wire.NCCS]uint8{} // _POSIX_VDISABLE
	t.CC[syscall.VEOF], t.CC[syscall.VLNEXT] = wire.TypedEOF, wire.TypedQuote
	return t
}

// Type begins to put typed (wire.AppendTyped) into the input of slave, which nobody else
// has open yet. It does not wait: when poll(2) reports POLLPRI for master, the other
// side, of which nothing has been read, Typed ends it. Who waits for that has to wait for
// POLLIN as well: the kernel wakes nobody else (pty.c, pty_stop).
//
// What is written to a master is interpreted later, by a worker of the kernel's, with the
// modes of that moment. The last but one character is therefore VSTOP, by which the slave
// stops, and a master in packet mode learns of it (ioctl_tty(2), TIOCPKT). The one
// behind it was given to the worker together with it, and is put into the queue
// before modes can change (n_tty_receive_buf_common holds termios_rwsem).
func Type(master, slave int, modes *wire.Termios, typed []byte) error {
	_, last, ok := wire.CountTyped(typed)
	if !ok {
		return syscall.EINVAL
	}
	t := literal(*modes)
	t.Iflag, t.CC[syscall.VSTOP] = syscall.IXON, wire.TypedStop
	if err := SetTermios(slave, &t); err != nil {
		return err
	}
	on := int32(1)
	if err := sys.IoctlPtr(master, tiocpkt, unsafe.Pointer(&on)); err != nil {
		return err
	}
	var tail [3]byte
	end := append(append(tail[:0], wire.TypedStop), typed[last:]...)
	for _, p := range [...][]byte{typed[:last], end} {
		for len(p) > 0 { // a signal may come between two pieces of 2 KiB
			n, err := sys.Write(master, p)
			if err != nil {
				return err
			}
			p = p[n:]
		}
	}
	return nil
}

// Typed ends what Type has begun: it sets modes, so that whoever reads there first finds
// a terminal on which that was typed and echoed already. stopped leaves its output
// stopped, where modes have IXON.
func Typed(master, slave int, modes *wire.Termios, stopped bool) error {
	var off int32
	if err := sys.IoctlPtr(master, tiocpkt, unsafe.Pointer(&off)); err != nil {
		return err
	}
	if !stopped || modes.Iflag&syscall.IXON == 0 {
		t := literal(*modes) // lets the output go (n_tty_set_termios)
		if err := SetTermios(slave, &t); err != nil {
			return err
		}
	}
	return SetTermios(slave, modes)
}

// Taken is what Take has found.
type Taken struct {
	Typed   []byte // see wire.AppendTyped
	Count   int    // characters in Typed
	Later   []byte // what came later, and had to be read: neither echoed nor interpreted
	Stopped bool   // the output was stopped, by VSTOP
}

// Take makes fd, a terminal with the given modes, raw, or raw but for the characters
// that make signals, and takes what was typed until then. What the kernel has echoed and
// interpreted is in Taken, appended to dst, and what it has not can be read from the
// terminal, after Later. dst needs room for 3*wire.MaxTyped bytes.
//
// First, what is there is read as lines, because an end of file can be told from a
// NUL by a read of nothing only, and only until the terminal is made raw. Then it
// is made non-canonical, and canonical once more, but without an echo and without
// special characters. That makes one line of all that has come so far, the
// beginning of a line, too (n_tty_set_termios, push): where it ends is where the
// echo ended. Only an end of file that came after the last read and before the first
// change has become a NUL there, and one of a line's other special characters that
// came between the two changes is taken for itself. A quote whose character has not
// come yet is forgotten by the kernel with the first change.
//
// Where nothing has come yet, something may in just that moment: see since.
func Take(dst []byte, fd int, modes *wire.Termios, signals bool) (Taken, error) {
	taken := Taken{Typed: dst}
	taken.Stopped = modes.Iflag&syscall.IXON != 0 && stopped(fd)
	canonical := modes.Lflag&syscall.ICANON != 0
	if all := queued(fd); canonical && all < maxLines {
		// More, and the kernel would put what it holds back, or what comes as we read, into
		// the queue, and echo it: beyond wire.MaxTyped it would be echoed twice.
		if err := taken.lines(fd, all); err != nil {
			return taken, err
		}
	}
	t := *modes
	if canonical {
		t.Lflag &^= syscall.ICANON | echoctl // with which a newline would be echoed as ^J
		t.CC[syscall.VMIN], t.CC[syscall.VTIME] = 1, 0
		if err := SetTermios(fd, &t); err != nil {
			return taken, err
		}
	}
	n, err := 0, error(nil)
	if all := queued(fd); all > 0 {
		n, err = push(fd, modes, all)
	} else if canonical && newlines(modes) {
		err = taken.since(fd, modes)
	}
	if err != nil {
		return taken, err
	}
	// Nothing is read before that: while a line has no end, what the kernel puts in
	// the place of what was read is dropped beyond 4095 characters.
	if t = Raw(*modes); signals {
		t = Interruptible(*modes)
	}
	if err := SetTermios(fd, &t); err != nil {
		return taken, err
	}
	return taken, taken.rest(fd, n, modes, canonical)
}

// push makes one line of the characters that wait in a terminal, all of which are there
// already, and returns how many it has: with those that have come meanwhile.
func push(fd int, modes *wire.Termios, all int) (n int, err error) {
	t := pushed(modes)
	if err := SetTermios(fd, &t); err != nil {
		return 0, err
	}
	if n = queued(fd); n == all-1 {
		// A NUL in the last place is an end of file, which is not counted
		// (n_tty.c:inq_canon). Nothing has come after it, or it would not be the last.
		n = all
	}
	return n, nil
}

// pushed returns modes without a special character. A newline that comes now must not end
// the line. As a return it does what it would have done, since that becomes a newline at
// the other end.
func pushed(modes *wire.Termios) wire.Termios {
	t := literal(*modes)
	t.Lflag &^= syscall.IEXTEN
	t.CC = [wire.NCCS]uint8{}
	if newlines(modes) {
		t.Iflag = syscall.INLCR
	}
	return t
}

// newlines reports whether a terminal makes newlines of returns, so that there is no
// return in what it has echoed.
func newlines(modes *wire.Termios) bool {
	return modes.Iflag&(syscall.ICRNL|syscall.IGNCR) == syscall.ICRNL
}

// since takes what has come since a terminal was found empty, which is echoed up to here.
// A push alone would not do: canonical, and without a line, a terminal drops what comes
// beyond 4095 characters. So returns, which newlines become as well, end lines here. They
// also tell the line that was made of what had come before from those that came later:
// it has none, and a read ends with it.
func (k *Taken) since(fd int, modes *wire.Termios) error {
	t := pushed(modes)
	t.CC[syscall.VEOL] = '\r'
	if err := SetTermios(fd, &t); err != nil {
		return err
	}
	if queued(fd) == 0 {
		return nil
	}
	var buf [wire.MaxTyped]byte
	n, err := sys.Read(fd, buf[:])
	if err != nil {
		return err
	}
	if n <= 0 {
		return syscall.EIO // hung up
	}
	echoed := min(n, wire.MaxTyped-k.Count)
	if buf[n-1] == '\r' {
		echoed = 0
	}
	k.add(buf[:echoed], modes, true)
	k.Later = append(k.Typed, buf[echoed:n]...)[len(k.Typed):]
	return nil
}

// Interruptible returns t made raw but for the characters that make signals.
func Interruptible(t wire.Termios) wire.Termios {
	signals, intr, quit, susp := t.Lflag&(syscall.ISIG|syscall.NOFLSH), t.CC[syscall.VINTR], t.CC[syscall.VQUIT], t.CC[syscall.VSUSP]
	t = Raw(t)
	t.Lflag |= signals
	t.CC[syscall.VINTR], t.CC[syscall.VQUIT], t.CC[syscall.VSUSP] = intr, quit, susp
	return t
}

// Keys looks at what comes from a terminal that was made raw.
type Keys struct {
	quoted bool // the next one
}

// Signal returns the signal that c, which came after what Signal has seen before, would
// have made if the terminal had its modes t still, 0 if none: not what VLNEXT quotes
// (n_tty.c, n_tty_receive_char_special).
func (k *Keys) Signal(t *wire.Termios, c byte) syscall.Signal {
	if t.Iflag&syscall.ISTRIP != 0 {
		c &= 0x7f
	}
	if k.quoted || c == 0 || t.Lflag&extproc != 0 { // 0 is _POSIX_VDISABLE
		k.quoted = false
		return 0
	}
	if t.Lflag&syscall.ISIG != 0 {
		switch c {
		case t.CC[syscall.VINTR]:
			return syscall.SIGINT
		case t.CC[syscall.VQUIT]:
			return syscall.SIGQUIT
		case t.CC[syscall.VSUSP]:
			return syscall.SIGTSTP
		}
	}
	const quotes = syscall.ICANON | syscall.IEXTEN
	k.quoted = t.Lflag&quotes == quotes && c == t.CC[syscall.VLNEXT]
	return 0
}

// maxLines is how many characters are still what somebody has typed, and read as lines.
const maxLines = 256

// lines takes the lines that are complete, all characters of which were there already.
func (k *Taken) lines(fd, all int) error {
	var buf [maxLines]byte
	for k.Count <= all && ready(fd, sys.PollIn) {
		room := buf[:]
		n, err := sys.Read(fd, room)
		if err != nil {
			return err
		}
		k.Typed = wire.AppendLine(k.Typed, room[:n])
		k.Count += n
		if n == 0 || n < len(room) && room[n-1] != '\n' {
			k.Typed = append(k.Typed, wire.TypedEOF)
			k.Count++
		}
	}
	return nil
}

// rest takes n characters.
func (k *Taken) rest(fd, n int, modes *wire.Termios, canonical bool) error {
	var buf [wire.MaxTyped]byte
	for n = min(n, wire.MaxTyped-k.Count); n > 0; {
		got, err := sys.Read(fd, buf[:n])
		if err != nil {
			return err
		}
		if got <= 0 {
			return syscall.EIO // hung up
		}
		k.add(buf[:got], modes, canonical)
		n -= got
	}
	return nil
}

// add takes text that was read from a terminal that made no lines.
func (k *Taken) add(text []byte, modes *wire.Termios, canonical bool) {
	for _, c := range text {
		if canonical && (c == 0 || c == modes.CC[syscall.VEOF]) {
			k.Typed = append(k.Typed, wire.TypedEOF)
		} else {
			k.Typed = wire.AppendTyped(k.Typed, c)
		}
	}
	k.Count += len(text)
}

// Return puts what Take took from fd, and later, which was read from it since, back into
// its input, in front of what has come after that, and sets modes. It fails, and changes nothing, where the kernel lets nobody
// do that, with EIO (dev.tty.legacy_tiocsti), or where fd is not the controlling
// terminal, with EPERM.
func Return(fd int, modes *wire.Termios, typed, later []byte) error {
	first := typed
	if len(first) == 0 {
		first = later
	}
	if len(first) == 0 {
		return SetTermios(fd, modes)
	}
	if err := imitate(fd, first[:1]); err != nil { // as a trial
		return err
	}
	var late [wire.MaxTyped + 1]byte
	n := 0
	for n < len(late) && ready(fd, sys.PollIn) {
		got, err := sys.Read(fd, late[n:])
		if err != nil || got <= 0 {
			break
		}
		n += got
	}
	t := literal(*modes)
	if err := SetTermios(fd, &t); err != nil {
		return err
	}
	if err := imitate(fd, typed); err != nil {
		return err
	}
	if err := SetTermios(fd, modes); err != nil {
		return err
	}
	if err := imitate(fd, later); err != nil {
		return err
	}
	return imitate(fd, late[:max(n-1, 0)]) // without the trial
}

// imitate makes it so as if text were typed (TIOCSTI, ioctl_tty(2)).
func imitate(fd int, text []byte) error {
	for i := range text {
		if err := sys.IoctlPtr(fd, tiocsti, unsafe.Pointer(&text[i])); err != nil {
			return err
		}
	}
	return nil
}

// stopped reports whether output to fd waits. Where that cannot be asked it does not: a
// terminal inside that is stopped for nothing would never go on.
func stopped(fd int) bool {
	fds := [1]sys.PollFD{{FD: int32(fd), Events: sys.PollOut}}
	_, e := sys.Wait(fds[:], 0)
	return e == 0 && fds[0].Revents&sys.PollOut == 0
}

func ready(fd int, events int16) bool {
	fds := [1]sys.PollFD{{FD: int32(fd), Events: events}}
	n, e := sys.Wait(fds[:], 0)
	return e == 0 && n > 0 && fds[0].Revents&events != 0
}

// queued is how many bytes of complete lines there are; ends of file do not count.
func queued(fd int) int {
	var n int32
	if sys.IoctlPtr(fd, fionread, unsafe.Pointer(&n)) != nil {
		return 0
	}
	return int(n)
}
