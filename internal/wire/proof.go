package wire

// MaxProofMillis is how long a Proof may count at most, in milliseconds.
const MaxProofMillis = 5 * 60 * 1000

// MaxProofKey bounds the key of a Proof, in bytes.
const MaxProofKey = 512

// Proof tells PID 1 of a key that is in no authorized_keys: "jail doctor" logs in by it. A
// login that has come by this key, and nothing else, has no rule of a key's, is not recorded
// in the jail's wtmp and lastlog, and is a SessionProof.
//
// It counts for one login, for so long, and no longer than the connection it came over: who
// has sent it takes it back by being gone. The answer is a Status. A PID 1 of before 2026-11-29
// does not know it and closes the connection.
type Proof struct {
	HostUID uint32
	// Key is its type and its base64, as in a .pub file, without a comment.
	Key    string
	Millis uint32
}

// AppendProof encodes p.
func AppendProof(dst []byte, p *Proof) []byte {
	return putU32(putString(putU32(header(dst, TypeProof, 0), p.HostUID), p.Key), p.Millis)
}

// DecodeProof decodes the body of a TypeProof packet.
func DecodeProof(body []byte) (Proof, error) {
	in := reader{b: body}
	p := Proof{HostUID: in.u32(), Key: in.str(MaxProofKey), Millis: in.u32()}
	if p.Key == "" || p.Millis == 0 || p.Millis > MaxProofMillis {
		return Proof{}, ErrMalformed
	}
	return p, in.done()
}
