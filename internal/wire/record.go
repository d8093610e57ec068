package wire

// Messages from jail-enter to the recorder, on the recorder's socket. There are no answers.
const (
	TypeRecord  Type = 80 // a session on a terminal begins; the first message, and only that
	TypeOutput  Type = 81 // what the terminal printed
	TypeInput   Type = 82 // what was typed; where Record said so
	TypeResize  Type = 83 // the terminal has another size
	TypeDropped Type = 84 // so much was not sent, since the recorder was too slow
)

const (
	// MaxRecorded bounds the bytes of one Output or Input.
	MaxRecorded = 32 << 10
	// MaxTerm bounds the name of a kind of terminal.
	MaxTerm = 64
)

// Record says of what a recording is.
type Record struct {
	Input      bool // what is typed comes as well
	Rows, Cols uint16
	PID        uint32 // of the session's process, inside, as PID 1 says
	Term       []byte // the client's TERM
}

// AppendRecord encodes r. A Term that is too long, or has a NUL, is left out.
func AppendRecord(dst []byte, r *Record) []byte {
	dst = putBool(header(dst, TypeRecord, 0), r.Input)
	dst = putU32(putU16(putU16(dst, r.Rows), r.Cols), r.PID)
	term := r.Term
	for _, c := range term {
		if c == 0 || len(term) > MaxTerm {
			term = nil
			break
		}
	}
	return append(append(putU32(dst, uint32(len(term))), term...), 0)
}

// DecodeRecord decodes the body of a TypeRecord packet. Term points into it.
func DecodeRecord(body []byte) (r Record, err error) {
	in := reader{b: body}
	r.Input = in.boolean()
	r.Rows, r.Cols, r.PID = in.u16(), in.u16(), in.u32()
	r.Term = in.cstring(MaxTerm)
	return r, in.done()
}

// AppendRecorded encodes an Output or Input of at most MaxRecorded bytes.
func AppendRecorded(dst []byte, t Type, b []byte) []byte { return append(header(dst, t, 0), b...) }

// DecodeRecorded decodes the body of a TypeOutput or TypeInput packet, which is the bytes.
func DecodeRecorded(body []byte) ([]byte, error) {
	if len(body) == 0 || len(body) > MaxRecorded {
		return nil, ErrMalformed
	}
	return body, nil
}

// AppendResize encodes a TypeResize packet.
func AppendResize(dst []byte, rows, cols uint16) []byte {
	return putU16(putU16(header(dst, TypeResize, 0), rows), cols)
}

// DecodeResize decodes the body of a TypeResize packet.
func DecodeResize(body []byte) (rows, cols uint16, err error) {
	in := reader{b: body}
	rows, cols = in.u16(), in.u16()
	return rows, cols, in.done()
}

// AppendDropped encodes a TypeDropped packet.
func AppendDropped(dst []byte, bytes uint64) []byte {
	return putU64(header(dst, TypeDropped, 0), bytes)
}

// DecodeDropped decodes the body of a TypeDropped packet.
func DecodeDropped(body []byte) (bytes uint64, err error) {
	in := reader{b: body}
	bytes = in.u64()
	return bytes, in.done()
}
