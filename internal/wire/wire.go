// Package wire defines every message that jail-enter, PID 1, the launcher and
// the administrator's verbs exchange: the only definition. docs/protocol.md is
// its prose; a test compares the two.
//
// Every message is one SOCK_SEQPACKET packet, or one datagram, so a short, long or split message
// cannot be mistaken for another. A packet starts with a four byte header
//
//	version u8 | type u8 | flags u16
//
// and is followed by a body whose length must be exactly what its type says.
// Integers are little endian. There is no lenient mode: whatever does not
// decode closes the connection.
//
// The package makes no system calls and imports nothing, because it is linked into
// jail-enter and PID 1.
package wire

// Version is the protocol's version, the first byte of every packet. The
// message types of jail-enter's side (Request to Disconnected) of version N are
// understood by PID 1 of version N+1 as well, so that a package upgrade does
// not lock anybody out of a running jail.
const Version = 1

// Type says what a packet is.
type Type uint8

// Messages between jail-enter and PID 1, on a login's socket.
const (
	TypeRequest Type = 1 // jail-enter asks for a session; carries descriptors
	TypeStarted Type = 2 // PID 1: the session runs; carries the pty master, if any
	TypeExited  Type = 3 // PID 1: the command ended
	TypeRefused Type = 4 // PID 1 or serve: no session, and why
	TypeSignal  Type = 5 // jail-enter: deliver a signal to the session
	// TypeDisconnected is jail-enter's: its own caller is gone.
	TypeDisconnected Type = 6
)

// Messages between the host's root and PID 1, on the control socket.
const (
	TypeHello     Type = 16 // host: who are you
	TypeStatus    Type = 17 // PID 1: name, sessions; carries SCM_CREDENTIALS
	TypeStop      Type = 18 // host: end the jail
	TypeAddLogin  Type = 19 // host: serve this login too; carries its listener
	TypeDropLogin Type = 20 // host: no more sessions for this login
	TypeLog       Type = 21 // PID 1: one log line
	TypeExec      Type = 22 // host: the request that follows is for this identity
	TypeEvents    Type = 23 // PID 1: what has happened, to who has asked for it
	TypeProof     Type = 27 // host: a key that counts while this connection is there
	TypeSessions  Type = 29 // host: what sessions may have from now on
	TypeService   Type = 28 // host: as Exec, for a service; or whether it runs
)

// Messages between the administrator's verbs and serve, on serve's own socket. The
// answer's lines are TypeLog.
const (
	TypeReload  Type = 48 // verb: read the registry again
	TypeVerdict Type = 49 // serve: what came of it, after the lines about it
	TypeLimit   Type = 52 // verb: change the limits of a jail that runs
	TypeStart   Type = 53 // verb: start a jail, although nobody may log in to it
)

// Messages between the launcher and the process that becomes PID 1, on the
// socket pair they share until PID 1 is ready.
const (
	TypeSetup  Type = 32 // launcher: everything PID 1 has to know; carries descriptors
	TypeReady  Type = 33 // PID 1: the jail stands, connections are being accepted
	TypeFailed Type = 34 // PID 1: it does not, and why
)

// Messages between jail-init image import and jail-import, on the socket pair they share.
// What else jail-import has to say of an archive are TypeLog, and TypeFailed is how it ends
// where there will be no image.
const (
	TypeUnpack   Type = 64 // jail-init: unpack this; carries two descriptors
	TypeProgress Type = 65 // jail-import: how far it is
	TypeUnpacked Type = 66 // jail-import: that is all
)

// Limits. They are checked before anything is allocated or copied.
const (
	// HeaderLen is the length of the header every packet starts with.
	HeaderLen = 4
	// MaxPacket is the longest packet either side accepts, in bytes. A
	// SEQPACKET packet cannot be longer than the sender's SO_SNDBUF, which the
	// default net.core.wmem_max lets grow to 425,984.
	MaxPacket = 384 << 10
	// MaxString is the longest argument or environment entry, the kernel's own
	// MAX_ARG_STRLEN less the terminating NUL (execve(2)).
	MaxString = 128<<10 - 1
	// MaxArgs and MaxEnv bound the entries of a Request.
	MaxArgs = 4096
	MaxEnv  = 512
	// MaxAuth bounds the lines about how a login authenticated.
	MaxAuth = 16
	// MaxDisplay bounds the name of an X11 display, MaxCookie its cookie, in
	// bytes. A host name has at most 64 characters (HOST_NAME_MAX), a
	// MIT-MAGIC-COOKIE-1 has 16 bytes.
	MaxDisplay = 100
	MaxCookie  = 64
	// MaxText bounds the text of Refused, Log and Failed, in bytes.
	MaxText = 512
	// MaxMounts bounds the bind mounts of a Setup, each of which may have a
	// descriptor.
	MaxMounts = 128
	// MaxEntries bounds what PID 1 makes in a root of its own.
	MaxEntries = 256
	// MaxServices bounds the services of a jail.
	MaxServices = 64
	// SetupLogins bounds the logins that travel with a Setup. It is no limit of a
	// jail's: the others follow, one AddLogin each.
	SetupLogins = 64
	// MaxFDs is the largest number of descriptors any packet carries: those
	// of Setup with MaxMounts and SetupLogins. The kernel's limit is 253 (unix(7),
	// SCM_MAX_FD).
	MaxFDs = 200
	// IDLen is the length of the id that a refusal and its log line share.
	IDLen = 8
)

// Error is an error of this package. It is a constant, because jail-enter runs before
// package variables have their values (package early).
type Error string

func (e Error) Error() string { return string(e) }

const (
	// ErrMalformed is returned for every packet that is not exactly what it should
	// be; the receiver closes the connection.
	ErrMalformed Error = "malformed message"
	// ErrTooLong is returned by encoders for content over the limits above.
	ErrTooLong Error = "too long"
	// ErrVersion is returned for a packet of another protocol version.
	ErrVersion Error = "other protocol version"
)

// Header decodes the header of a packet and returns its type, its flags and
// its body.
func Header(packet []byte) (Type, uint16, []byte, error) {
	if len(packet) < HeaderLen {
		return 0, 0, nil, ErrMalformed
	}
	if packet[0] != Version {
		return 0, 0, nil, ErrVersion
	}
	return Type(packet[1]), uint16(packet[2]) | uint16(packet[3])<<8, packet[HeaderLen:], nil
}

func header(dst []byte, t Type, flags uint16) []byte {
	return append(dst, Version, byte(t), byte(flags), byte(flags>>8))
}

// reader takes a body apart. After the first violation every further read
// yields zero values and done reports ErrMalformed.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return uint16(p[0]) | uint16(p[1])<<8
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16 | uint32(p[3])<<24
	}
	return 0
}

func (r *reader) u64() uint64 {
	lo := uint64(r.u32())
	return lo | uint64(r.u32())<<32
}

func (r *reader) boolean() bool {
	v := r.u8()
	if v > 1 {
		r.bad = true
	}
	return v == 1
}

// cstring reads a length, that many bytes and a NUL; none of the bytes may be
// NUL. The slice it returns is followed by that NUL in memory, so that its
// first byte's address is a C string for execve(2).
func (r *reader) cstring(max int) []byte {
	n := int(r.u32())
	if n > max {
		r.bad = true
		return nil
	}
	p := r.take(n + 1)
	if p == nil {
		return nil
	}
	if p[n] != 0 {
		r.bad = true
		return nil
	}
	for _, c := range p[:n] {
		if c == 0 {
			r.bad = true
			return nil
		}
	}
	return p[:n]
}

func (r *reader) str(max int) string { return string(r.cstring(max)) }

func (r *reader) done() error {
	if r.bad || len(r.b) != 0 {
		return ErrMalformed
	}
	return nil
}

func putU16(b []byte, v uint16) []byte { return append(b, byte(v), byte(v>>8)) }

func putU32(b []byte, v uint32) []byte {
	return append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
}

func putU64(b []byte, v uint64) []byte { return putU32(putU32(b, uint32(v)), uint32(v>>32)) }

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func putString(b []byte, s string) []byte {
	return append(append(putU32(b, uint32(len(s))), s...), 0)
}

// clip shortens text to MaxText bytes and replaces NUL, which no message may
// carry.
func clip(s string) string {
	if len(s) > MaxText {
		s = s[:MaxText]
	}
	for i := 0; i < len(s); i++ {
		if s[i] == 0 {
			b := []byte(s)
			for j := range b {
				if b[j] == 0 {
					b[j] = '?'
				}
			}
			return string(b)
		}
	}
	return s
}
