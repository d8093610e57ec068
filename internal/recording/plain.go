package recording

import (
	"unicode"
	"unicode/utf8"
)

// Plain makes text of what a terminal was sent, for who reads it elsewhere, or does not trust it: all
// that moves the cursor, changes colours or talks to the terminal is left out. What was
// printed over stays. So does what is behind a sequence that has no end, or not the right one: terminals
// differ in what they show of that, and nobody hides what he does by it.
type Plain struct {
	state plainState
	left  int // of a string: how many more characters may be in it
}

type plainState uint8

const (
	plainText    plainState = iota
	plainEscape             // behind ESC
	plainControl            // in CSI, until its last byte
	plainString             // in OSC, DCS and the like, until BEL or ST
)

// maxString is how many characters are left out of a string that has no end.
const maxString = 4096

// Append appends the text of s to dst.
func (p *Plain) Append(dst []byte, s string) []byte {
	for _, r := range s {
		switch { // what ends any sequence
		case r == 0x1b:
			p.state = plainEscape
			continue
		case r == 0x18 || r == 0x1a: // CAN, SUB
			p.state = plainText
			continue
		}
		switch p.state {
		case plainEscape:
			switch {
			case r == '[':
				p.state = plainControl
				continue
			case r == ']' || r == 'P' || r == 'X' || r == '^' || r == '_':
				p.state, p.left = plainString, maxString
				continue
			case r >= 0x20 && r < 0x30: // an intermediate byte (ECMA-48, 5.4)
				continue
			case r >= 0x30 && r < 0x7f:
				p.state = plainText
				continue
			case r >= 0x7f:
				p.state = plainText
			} // a control is obeyed in a sequence, too
		case plainControl:
			switch {
			case r >= 0x40 && r < 0x7f:
				p.state = plainText
				continue
			case r >= 0x20 && r < 0x40:
				continue
			case r >= 0x7f:
				p.state = plainText
			}
		case plainString:
			switch {
			case r == 7 || r == 0x9c:
				p.state = plainText
				continue
			case p.left > 0:
				p.left--
				continue
			}
			p.state = plainText
		}
		switch {
		case r == 0x9b:
			p.state = plainControl
		case r == 0x9d || r == 0x90 || r == 0x98 || r == 0x9e || r == 0x9f:
			p.state, p.left = plainString, maxString
		case unicode.Is(unicode.Bidi_Control, r): // what shows text in another order than it was printed
		case r == '\n' || r == '\t' || r >= ' ' && r < 0x7f || r >= 0xa0:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}
