package authkeys

// Base64 of RFC 4648, section 4, in its one canonical form: padded, no line ends, no
// bits set that decode to nothing. Package encoding/base64 would do; with what it
// brings, encoding/binary and reflect, it costs every start of PID 1 more than
// reading a file of keys takes.

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// sextet returns what a character of the alphabet stands for.
func sextet(c byte) (v uint32, ok bool) {
	switch {
	case c >= 'A' && c <= 'Z':
		return uint32(c - 'A'), true
	case c >= 'a' && c <= 'z':
		return uint32(c-'a') + 26, true
	case c >= '0' && c <= '9':
		return uint32(c-'0') + 52, true
	case c == '+':
		return 62, true
	case c == '/':
		return 63, true
	}
	return 0, false
}

// decodeBase64 refuses the empty string, for there is no such key.
func decodeBase64(s string) (b []byte, ok bool) {
	if s == "" || len(s)%4 != 0 {
		return nil, false
	}
	b = make([]byte, 0, len(s)/4*3)
	for i := 0; i < len(s); i += 4 {
		have := 4 // characters of these four
		if i+4 == len(s) {
			for have > 2 && s[i+have-1] == '=' {
				have--
			}
		}
		var v uint32
		for _, c := range []byte(s[i : i+have]) {
			six, ok := sextet(c)
			if !ok {
				return nil, false
			}
			v = v<<6 | six
		}
		v <<= 6 * (4 - have)
		if v&(1<<(8*(4-have))-1) != 0 {
			return nil, false
		}
		three := [3]byte{byte(v >> 16), byte(v >> 8), byte(v)}
		b = append(b, three[:have-1]...)
	}
	return b, true
}

func encodeBase64(b []byte) string {
	out := make([]byte, 0, (len(b)+2)/3*4)
	for ; len(b) > 0; b = b[min(3, len(b)):] {
		var three [3]byte
		n := copy(three[:], b)
		v := uint32(three[0])<<16 | uint32(three[1])<<8 | uint32(three[2])
		for i := range 4 {
			if i > n {
				out = append(out, '=')
			} else {
				out = append(out, base64Alphabet[v>>(18-6*i)&63])
			}
		}
	}
	return string(out)
}
