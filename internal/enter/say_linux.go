package enter

import (
	"jail/internal/sys"
	"jail/internal/wire"
)

// line is one line for the user, made piece by piece.
type line struct {
	// Room for any text of the jail's, each of its bytes quoted, and our own words.
	buf [1024 + 4*(wire.MaxText+wire.IDLen)]byte
	n   int
}

// add adds text of ours. What there is no room for is left out.
func (l *line) add(text string) { l.n += copy(l.buf[l.n:len(l.buf)-1], text) }

// quote adds text of the jail's, made safe to print on the host's terminal.
func (l *line) quote(text []byte) {
	const hex = "0123456789abcdef"
	for _, c := range text {
		if c >= 0x20 && c < 0x7f {
			l.n += copy(l.buf[l.n:len(l.buf)-1], []byte{c})
		} else {
			l.n += copy(l.buf[l.n:len(l.buf)-1], []byte{'\\', 'x', hex[c>>4], hex[c&15]})
		}
	}
}

// print prints the line on standard error.
func (l *line) print() {
	const name = "jail-enter: "
	var out [len(name) + len(l.buf)]byte
	n := copy(out[:], name)
	n += copy(out[n:], l.buf[:l.n])
	out[n] = '\n'
	_, _ = sys.Write(2, out[:n+1])
}

// complain prints one line and returns the status that goes with it.
func complain(text ...string) int {
	var l line
	for _, t := range text {
		l.add(t)
	}
	l.print()
	return exitFailure
}

// appendDecimal appends n, which is not negative.
func appendDecimal(dst []byte, n int) []byte {
	var digits [20]byte
	i := len(digits)
	for i--; ; i-- {
		digits[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return append(dst, digits[i:]...)
		}
	}
}
