package wire

// TypeCaller is jail-enter's word on who called it, to the host's supervisor, on the
// supervisor's socket for it. It is sent once, after Started, and there is no answer.
const TypeCaller Type = 96

const (
	// MaxCaller bounds a TypeCaller packet, in bytes.
	MaxCaller = 16 << 10
	// MaxConnection bounds the Connection of a Caller, in bytes: two addresses with zones
	// and two ports.
	MaxConnection = 256
	// MaxCommand bounds the Command of a Caller, in bytes. More is left out.
	MaxCommand = 4096
	// MaxJailName bounds the Jail of a Caller, in bytes.
	MaxJailName = 64
)

// Caller is who asked for a session, as far as jail-enter knows.
type Caller struct {
	// PID is the session's, inside: with the sender's uid it says which session it is.
	PID uint32
	// TTY is the device number of the terminal on the host (stat(2), st_rdev), 0 without.
	TTY uint64
	// SSHD says that sshd has started jail-enter, as far as can be told.
	SSHD bool
	// Connection is SSH_CONNECTION (ssh(1)); empty without.
	Connection []byte
	// Auth are the lines of SSH_USER_AUTH (sshd_config(5), ExposeAuthInfo).
	Auth [][]byte
	// Command is what is to be run, as it was asked for, up to MaxCommand bytes of it.
	// What follows is not in the message where there is nothing of it, as of a jail-enter of
	// before 2026-11-29.
	Command []byte
	// Jail is the jail's name, of a session of "jail exec", which is no login's: PID alone
	// says nothing then. Only root's word counts. UID is who calls, on the host.
	Jail []byte
	UID  uint32
}

// AppendCaller encodes c. What is too long is left out.
func AppendCaller(dst []byte, c *Caller) []byte {
	connection, auth := c.Connection, c.Auth
	if len(connection) > MaxConnection {
		connection = nil
	}
	command, jail := c.Command[:min(len(c.Command), MaxCommand)], c.Jail
	if len(jail) > MaxJailName {
		jail = nil
	}
	tail := 0
	if len(command) > 0 || len(jail) > 0 {
		tail = 4 + len(command) + 1
	}
	if len(jail) > 0 {
		tail += 4 + len(jail) + 1 + 4
	}
	size := HeaderLen + 4 + 8 + 1 + 4 + len(connection) + 1 + 2 + tail
	for _, line := range auth {
		size += 4 + len(line) + 1
	}
	if size > MaxCaller && len(jail) == 0 { // by which key is worth more than what
		size, tail, command = size-tail, 0, nil
	}
	if size > MaxCaller || len(auth) > MaxAuth {
		auth = nil
	}
	dst = putBool(putU64(putU32(header(dst, TypeCaller, 0), c.PID), c.TTY), c.SSHD)
	dst = append(append(putU32(dst, uint32(len(connection))), connection...), 0)
	dst = putU16(dst, uint16(len(auth)))
	for _, line := range auth {
		dst = append(append(putU32(dst, uint32(len(line))), line...), 0)
	}
	if tail > 0 {
		dst = append(append(putU32(dst, uint32(len(command))), command...), 0)
	}
	if len(jail) > 0 {
		dst = append(append(putU32(dst, uint32(len(jail))), jail...), 0)
		dst = putU32(dst, c.UID)
	}
	return dst
}

// DecodeCaller decodes the body of a TypeCaller packet. What it returns points into it.
func DecodeCaller(body []byte) (c Caller, err error) {
	if HeaderLen+len(body) > MaxCaller {
		return Caller{}, ErrMalformed
	}
	in := reader{b: body}
	c.PID, c.TTY, c.SSHD = in.u32(), in.u64(), in.boolean()
	c.Connection = in.cstring(MaxConnection)
	n := int(in.u16())
	if n > MaxAuth {
		return Caller{}, ErrMalformed
	}
	for ; n > 0 && !in.bad; n-- {
		c.Auth = append(c.Auth, in.cstring(MaxCaller))
	}
	if len(in.b) > 0 {
		c.Command = in.cstring(MaxCommand)
		more := len(in.b) > 0
		if more {
			c.Jail, c.UID = in.cstring(MaxJailName), in.u32()
		}
		in.bad = in.bad || more && len(c.Jail) == 0 || !more && len(c.Command) == 0
	}
	if err := in.done(); err != nil {
		return Caller{}, err
	}
	return c, nil
}
