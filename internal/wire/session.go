package wire

// Stdio says what one of a session's descriptors 0, 1, 2 is. Each is judged by
// itself: a terminal on descriptor 2 alone is still a terminal.
type Stdio uint8

const (
	// StdioNull is the jail's own /dev/null: the caller's descriptor was the
	// host's, or closed.
	StdioNull Stdio = 0
	// StdioPassed is a pipe or a stream socket that travels with the request.
	StdioPassed Stdio = 1
	// StdioTTY is the session's own terminal.
	StdioTTY Stdio = 2
)

// Request flags.
const (
	// FlagLogin asks for a login shell: a dash before argv[0].
	FlagLogin uint16 = 1 << 0
	// FlagForced says that sshd's ForceCommand started jail-enter.
	FlagForced uint16 = 1 << 1
	// FlagAuthKnown says that Auth is what sshd noted.
	FlagAuthKnown uint16 = 1 << 2
	// FlagAgent asks for a socket inside that jail-enter answers with the
	// client's agent.
	FlagAgent uint16 = 1 << 3
	// FlagX11 says that Display and Cookie are there.
	FlagX11 uint16 = 1 << 4
	// FlagOriginal says that Env has SSH_ORIGINAL_COMMAND, and sshd set it.
	FlagOriginal uint16 = 1 << 5

	// FlagTyped says that Typed and Stopped are there. A PID 1 of before 2026-11-28
	// does not know it and closes the connection.
	FlagTyped uint16 = 1 << 6

	requestFlags = FlagLogin | FlagForced | FlagAuthKnown | FlagAgent | FlagX11 | FlagOriginal | FlagTyped
)

// Started flags.
const (
	// FlagAgentFD says that the listener asked for with FlagAgent comes along,
	// after the terminal.
	FlagAgentFD uint16 = 1 << 0
	// FlagWatch asks jail-enter to say Disconnected when its caller is gone.
	FlagWatch uint16 = 1 << 1

	startedFlags = FlagAgentFD | FlagWatch
)

// Winsize is a terminal's size in characters and pixels (TIOCGWINSZ).
type Winsize struct{ Rows, Cols, XPixel, YPixel uint16 }

// NCCS is the number of control characters in Termios (struct termios2).
const NCCS = 19

// Termios holds the caller's terminal modes (TCGETS2, ioctl_tty(2)). PID 1
// sets them on the session's terminal before the command starts, as sshd does.
type Termios struct {
	Iflag, Oflag, Cflag, Lflag uint32
	Line                       uint8
	CC                         [NCCS]uint8
	Ispeed, Ospeed             uint32
}

// Request asks for a session. It names no user, uid, path or jail: who asks
// follows from the listener the connection came from.
type Request struct {
	Flags   uint16
	Stdio   [3]Stdio
	Winsize Winsize
	Termios Termios
	// Args are the arguments of the jail's shell after argv[0].
	Args [][]byte
	// Env are NAME=VALUE entries, to be filtered by the receiver.
	Env [][]byte
	// Auth are the lines of SSH_USER_AUTH, how the login authenticated
	// (sshd_config(5), ExposeAuthInfo); they mean something with
	// FlagAuthKnown only.
	Auth [][]byte
	// Display is the X11 display, as sshd names it in DISPLAY, and Cookie the
	// MIT-MAGIC-COOKIE-1 that opens it (Xsecurity(7)); they are sent with
	// FlagX11 only.
	Display, Cookie []byte
	// Typed is what was typed on the caller's terminal already, see AppendTyped, and
	// Stopped whether its output was stopped (VSTOP); both are sent with FlagTyped
	// only.
	Typed   []byte
	Stopped bool
}

// TTY reports whether the request asks for a terminal.
func (r *Request) TTY() bool {
	return r.Stdio[0] == StdioTTY || r.Stdio[1] == StdioTTY || r.Stdio[2] == StdioTTY
}

// FDs is the number of descriptors that travel with the request.
func (r *Request) FDs() int {
	n := 0
	for _, k := range r.Stdio {
		if k == StdioPassed {
			n++
		}
	}
	return n
}

// requestFixed is the length of a Request's body before its strings.
const requestFixed = 4 + 8 + 44 + 6

// AppendRequest encodes r. It fails with ErrTooLong when r exceeds a limit.
func AppendRequest(dst []byte, r *Request) ([]byte, error) {
	if len(r.Args) > MaxArgs || len(r.Env) > MaxEnv || len(r.Auth) > MaxAuth {
		return nil, ErrTooLong
	}
	total := HeaderLen + requestFixed
	for _, list := range [...][][]byte{r.Args, r.Env, r.Auth} {
		for _, s := range list {
			if len(s) > MaxString {
				return nil, ErrTooLong
			}
			total += 5 + len(s)
		}
	}
	if r.Flags&FlagX11 != 0 {
		if len(r.Display) > MaxDisplay || len(r.Cookie) > MaxCookie {
			return nil, ErrTooLong
		}
		total += 5 + len(r.Display) + 1 + len(r.Cookie)
	}
	if r.Flags&FlagTyped != 0 {
		if _, _, ok := CountTyped(r.Typed); !ok {
			return nil, ErrTooLong
		}
		total += 3 + len(r.Typed)
	}
	if total > MaxPacket {
		return nil, ErrTooLong
	}
	if cap(dst)-len(dst) < total {
		grown := make([]byte, len(dst), len(dst)+total)
		copy(grown, dst)
		dst = grown
	}
	dst = header(dst, TypeRequest, r.Flags)
	dst = append(dst, byte(r.Stdio[0]), byte(r.Stdio[1]), byte(r.Stdio[2]), 0)
	dst = putU16(putU16(dst, r.Winsize.Rows), r.Winsize.Cols)
	dst = putU16(putU16(dst, r.Winsize.XPixel), r.Winsize.YPixel)
	t := &r.Termios
	dst = putU32(putU32(putU32(putU32(dst, t.Iflag), t.Oflag), t.Cflag), t.Lflag)
	dst = append(append(dst, t.Line), t.CC[:]...)
	dst = putU32(putU32(dst, t.Ispeed), t.Ospeed)
	dst = putU16(putU16(putU16(dst, uint16(len(r.Args))), uint16(len(r.Env))), uint16(len(r.Auth)))
	for _, list := range [...][][]byte{r.Args, r.Env, r.Auth} {
		for _, s := range list {
			dst = append(append(putU32(dst, uint32(len(s))), s...), 0)
		}
	}
	if r.Flags&FlagX11 != 0 {
		dst = append(append(putU32(dst, uint32(len(r.Display))), r.Display...), 0)
		dst = append(append(dst, byte(len(r.Cookie))), r.Cookie...)
	}
	if r.Flags&FlagTyped != 0 {
		dst = append(putU16(putBool(dst, r.Stopped), uint16(len(r.Typed))), r.Typed...)
	}
	return dst, nil
}

// DecodeRequest decodes a whole packet into r, reusing r's slices. The strings
// in r.Args and r.Env point into packet and are each followed by a NUL there.
func DecodeRequest(packet []byte, r *Request) error {
	if len(packet) > MaxPacket {
		return ErrMalformed
	}
	typ, flags, body, err := Header(packet)
	if err != nil {
		return err
	}
	if typ != TypeRequest || flags&^requestFlags != 0 {
		return ErrMalformed
	}
	in := reader{b: body}
	r.Flags = flags
	for i := range r.Stdio {
		r.Stdio[i] = Stdio(in.u8())
		if r.Stdio[i] > StdioTTY {
			return ErrMalformed
		}
	}
	if in.u8() != 0 {
		return ErrMalformed
	}
	r.Winsize = Winsize{in.u16(), in.u16(), in.u16(), in.u16()}
	r.Termios = Termios{Iflag: in.u32(), Oflag: in.u32(), Cflag: in.u32(), Lflag: in.u32()}
	r.Termios.Line = in.u8()
	copy(r.Termios.CC[:], in.take(NCCS))
	r.Termios.Ispeed, r.Termios.Ospeed = in.u32(), in.u32()
	argc, envc, authc := int(in.u16()), int(in.u16()), int(in.u16())
	if argc > MaxArgs || envc > MaxEnv || authc > MaxAuth {
		return ErrMalformed
	}
	r.Args = in.list(r.Args[:0], argc)
	r.Env = in.list(r.Env[:0], envc)
	r.Auth = in.list(r.Auth[:0], authc)
	r.Display, r.Cookie = nil, nil
	if flags&FlagX11 != 0 {
		r.Display = in.cstring(MaxDisplay)
		n := int(in.u8())
		if n > MaxCookie {
			return ErrMalformed
		}
		r.Cookie = in.take(n)
	}
	r.Typed, r.Stopped = nil, false
	if flags&FlagTyped != 0 {
		r.Stopped = in.boolean()
		r.Typed = in.take(int(in.u16()))
		if _, _, ok := CountTyped(r.Typed); !ok {
			return ErrMalformed
		}
	}
	return in.done()
}

func (r *reader) list(dst [][]byte, n int) [][]byte {
	for ; n > 0 && !r.bad; n-- {
		dst = append(dst, r.cstring(MaxString))
	}
	return dst
}

// Started says that a session runs.
type Started struct {
	// PID is the session leader's pid inside the jail.
	PID uint32
	// Flags are FlagAgentFD and FlagWatch.
	Flags uint16
}

// AppendStarted encodes s.
func AppendStarted(dst []byte, s Started) []byte {
	return putU32(header(dst, TypeStarted, s.Flags), s.PID)
}

// Exited reports how a session's command ended.
type Exited struct {
	// Signal is the signal that killed it, or 0.
	Signal uint8
	// Code is its exit status when Signal is 0.
	Code uint8
	// OutOfMemory says that the kernel has killed it, or a process of it, for want of
	// memory. It is a flag of the packet, which a jail-enter and a serve of before
	// 2026-11-29 do not look at.
	OutOfMemory bool
	// Ending says of a service that its jail ends, and it with it: it is not to be started
	// again. It is a flag; a PID 1 of before 2026-11-29 does not say it.
	Ending bool
}

// Flags of an Exited.
const (
	FlagOutOfMemory uint16 = 1 << 0 // Exited.OutOfMemory
	FlagEnding      uint16 = 1 << 1 // Exited.Ending
)

// ends reports whether a process can have ended by signal; 0 is by none. Those that
// do nothing or stop a process by default cannot have (signal(7)), and a receiver
// that does to itself what it is told would go on, or stand still for good.
func ends(signal uint8) bool {
	switch signal {
	case 17, 18, 19, 20, 21, 22, 23, 28: // CHLD CONT STOP TSTP TTIN TTOU URG WINCH
		return false
	}
	return signal <= 64
}

// AppendExited encodes e.
func AppendExited(dst []byte, e Exited) []byte {
	var flags uint16
	if e.OutOfMemory {
		flags |= FlagOutOfMemory
	}
	if e.Ending {
		flags |= FlagEnding
	}
	return append(header(dst, TypeExited, flags), e.Signal, e.Code)
}

// Refused says why there is no session.
type Refused struct {
	// Status is what jail-enter exits with: 125, 126 or 127.
	Status uint8
	// ID is the id that the log line carries too, IDLen letters and digits,
	// or "" if nothing was logged.
	ID string
	// Text is one line for the user. The receiver prints it quoted.
	Text string
}

// AppendRefused encodes r, shortening its text to MaxText bytes.
func AppendRefused(dst []byte, r Refused) []byte {
	dst = append(header(dst, TypeRefused, 0), r.Status)
	id := r.ID
	if len(id) > IDLen {
		id = id[:IDLen]
	}
	return putString(putString(dst, id), clip(r.Text))
}

// ParseRefused is DecodeRefused without a copy: id and text are parts of body.
func ParseRefused(body []byte) (status uint8, id, text []byte, err error) {
	in := reader{b: body}
	status, id, text = in.u8(), in.cstring(IDLen), in.cstring(MaxText)
	return status, id, text, in.done()
}

// Signal asks PID 1 to send a signal to the session's process group.
type Signal struct{ Number uint8 }

// AppendSignal encodes s.
func AppendSignal(dst []byte, s Signal) []byte {
	return append(header(dst, TypeSignal, 0), s.Number)
}

// AppendDisconnected encodes TypeDisconnected.
func AppendDisconnected(dst []byte) []byte { return header(dst, TypeDisconnected, 0) }

// DecodeStarted decodes the flags and the body of a TypeStarted packet.
func DecodeStarted(flags uint16, body []byte) (Started, error) {
	if flags&^startedFlags != 0 {
		return Started{}, ErrMalformed
	}
	in := reader{b: body}
	s := Started{PID: in.u32(), Flags: flags}
	return s, in.done()
}

// DecodeExited decodes the flags and the body of a TypeExited packet.
func DecodeExited(flags uint16, body []byte) (Exited, error) {
	in := reader{b: body}
	e := Exited{Signal: in.u8(), Code: in.u8(), OutOfMemory: flags&FlagOutOfMemory != 0, Ending: flags&FlagEnding != 0}
	if flags&^(FlagOutOfMemory|FlagEnding) != 0 || !ends(e.Signal) || e.Signal != 0 && e.Code != 0 {
		return Exited{}, ErrMalformed
	}
	return e, in.done()
}

// DecodeRefused decodes the body of a TypeRefused packet.
func DecodeRefused(body []byte) (Refused, error) {
	status, id, text, err := ParseRefused(body)
	return Refused{Status: status, ID: string(id), Text: string(text)}, err
}

// DecodeSignal decodes the body of a TypeSignal packet. Only the signals that
// sshd delivers on a client's request are accepted, and SIGCONT.
func DecodeSignal(body []byte) (Signal, error) {
	in := reader{b: body}
	s := Signal{Number: in.u8()}
	switch s.Number {
	case 1, 2, 3, 9, 10, 12, 15, 18: // HUP INT QUIT KILL USR1 USR2 TERM CONT
	default:
		return Signal{}, ErrMalformed
	}
	return s, in.done()
}
