package recording

import (
	"unicode"
	"unicode/utf8"
)

// Plain makes text of what a terminal was sent, for who reads it elsewhere, or does not trust it: all
// that moves the cursor, changes colours or talks to the terminal is left out. What was
// printed over stays.
type Plain struct {
	state plainState
}

type plainState uint8

const (
	plainText    plainState = iota
	plainEscape             // behind ESC
	plainControl            // in CSI, until its last byte
	plainString             // in OSC, DCS and the like, until BEL or ST
	plainEnd                // in one of these, behind ESC
)

// Append appends the text of s to dst.
func (p *Plain) Append(dst []byte, s string) []byte {
	for _, r := range s {
		switch p.state {
		case plainEscape:
			switch {
			case r == '[':
				p.state = plainControl
			case r == ']' || r == 'P' || r == 'X' || r == '^' || r == '_':
				p.state = plainString
			case r >= 0x20 && r < 0x30: // an intermediate byte (ECMA-48, 5.4)
			case r == 0x1b:
			default:
				p.state = plainText
			}
			continue
		case plainControl:
			if r >= 0x40 && r < 0x7f {
				p.state = plainText
			} else if r == 0x1b {
				p.state = plainEscape
			}
			continue
		case plainString:
			switch r {
			case 7, 0x9c:
				p.state = plainText
			case 0x1b:
				p.state = plainEnd
			}
			continue
		case plainEnd:
			if p.state = plainString; r == '\\' {
				p.state = plainText
			}
			continue
		}
		switch {
		case r == 0x1b:
			p.state = plainEscape
		case r == 0x9b:
			p.state = plainControl
		case r == 0x9d || r == 0x90 || r == 0x98 || r == 0x9e || r == 0x9f:
			p.state = plainString
		case unicode.Is(unicode.Bidi_Control, r): // what shows text in another order than it was printed
		case r == '\n' || r == '\t' || r >= ' ' && r < 0x7f || r >= 0xa0:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}
