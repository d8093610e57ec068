package wire

// TypeEnd and TypeEnds are about the end of one session, by the host's wish. A PID 1 of
// before 2026-11-29 does not know them, and closes the connection.
const (
	TypeEnd  Type = 24 // host: send a session a signal
	TypeEnds Type = 25 // PID 1: whether there is such a session
)

// End asks PID 1 to send a signal to one session.
type End struct {
	// ID is the session's.
	ID [IDLen]byte
	// Number is SIGHUP, SIGTERM or SIGKILL (signal(7)), or 0 to ask whether there is one.
	Number uint8
}

// AppendEnd encodes e.
func AppendEnd(dst []byte, e End) []byte {
	return append(append(header(dst, TypeEnd, 0), e.ID[:]...), e.Number)
}

// DecodeEnd decodes the body of a TypeEnd packet.
func DecodeEnd(body []byte) (e End, err error) {
	in := reader{b: body}
	copy(e.ID[:], in.take(IDLen))
	e.Number = in.u8()
	if err := in.done(); err != nil {
		return End{}, err
	}
	switch e.Number {
	case 0, 1, 9, 15:
		return e, nil
	}
	return End{}, ErrMalformed
}

// AppendEnds encodes whether there was a session of that id.
func AppendEnds(dst []byte, there bool) []byte { return putBool(header(dst, TypeEnds, 0), there) }

// DecodeEnds decodes the body of a TypeEnds packet.
func DecodeEnds(body []byte) (there bool, err error) {
	in := reader{b: body}
	there = in.boolean()
	return there, in.done()
}
