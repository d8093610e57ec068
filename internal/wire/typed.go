package wire

// What was typed on the caller's terminal before it was made raw travels with the
// Request as it would be typed on a canonical terminal that echoes nothing and has
// two special characters: TypedQuote takes away what the next character means, and
// TypedEOF is an end of file (VLNEXT and VEOF, termios(3)). A newline ends a line.
// TypedStop, which would stop the output there (VSTOP), is always quoted.
const (
	TypedEOF   = 0x04
	TypedStop  = 0x13
	TypedQuote = 0x16

	// MaxTyped is how many characters that may be, an end of file being one: what
	// the input queue of a terminal holds (drivers/tty/n_tty.c, N_TTY_BUF_SIZE - 1).
	MaxTyped = 4095
)

// AppendTyped appends a character that stands for itself.
func AppendTyped(dst []byte, c byte) []byte {
	if c == TypedEOF || c == TypedStop || c == TypedQuote {
		dst = append(dst, TypedQuote)
	}
	return append(dst, c)
}

// AppendLine appends what one read of a canonical terminal returned. A newline ends
// a line in the last place only; elsewhere it was quoted when it was typed.
func AppendLine(dst, line []byte) []byte {
	for i, c := range line {
		if c == '\n' && i < len(line)-1 {
			dst = append(dst, TypedQuote)
		}
		dst = AppendTyped(dst, c)
	}
	return dst
}

// NextTyped returns the length of the first character of typed, with its quote, and
// what it is; eof reports an end of file. The length is 0 if there is none, or if
// it is not as it should be.
func NextTyped(typed []byte) (n int, c byte, eof bool) {
	switch {
	case len(typed) == 0 || typed[0] == TypedStop:
		return 0, 0, false
	case typed[0] != TypedQuote:
		return 1, typed[0], typed[0] == TypedEOF
	case len(typed) == 1:
		return 0, 0, false
	}
	return 2, typed[1], false
}

// CountTyped returns how many characters typed has, and where the last one begins.
// It is not ok if there are more than MaxTyped, or one is not as it should be.
func CountTyped(typed []byte) (count, last int, ok bool) {
	for at := 0; at < len(typed); count++ {
		n, _, _ := NextTyped(typed[at:])
		if n == 0 || count == MaxTyped {
			return count, last, false
		}
		last, at = at, at+n
	}
	return count, last, true
}
