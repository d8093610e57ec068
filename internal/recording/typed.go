package recording

import (
	"strconv"
	"strings"
)

// Typed tells keys from what a terminal says by itself. A recording can ask the terminal for
// its title, modes or colours, and a mouse that it has switched on says where it is: none of that may
// pause, move or end what is shown, or a session hides the rest of itself from who looks. The zero
// value is ready.
type Typed struct {
	state  typedState
	params []byte // of a control sequence
	rest   int    // bytes that are still to come, of a character or a mouse
	c1     bool   // that character may be a control of ISO 6429
}

type typedState uint8

const (
	typedText    typedState = iota
	typedEscape             // behind ESC
	typedControl            // in CSI, until its last byte
	typedShift              // behind SS3
	typedString             // in OSC, DCS and the like, until BEL or ST
	typedMouse              // in what a mouse says, without an end (xterm's X10 protocol)
)

// Keys that are no characters.
const (
	keyRight = 0xf5 + iota // in no UTF-8
	keyLeft
)

const (
	ctrlC = 3
	ctrlD = 4
)

// maxParams bounds what is looked at of a control sequence.
const maxParams = 16

// Key returns the key that c is, or is the end of, and 0 for none. ^C and ^D always are keys.
func (t *Typed) Key(c byte) byte {
	switch c {
	case ctrlC, ctrlD:
		*t = Typed{}
		return c
	case 0x1b:
		*t = Typed{state: typedEscape}
		return 0
	case 0x18, 0x1a: // CAN and SUB end what is before them
		*t = Typed{}
		return 0
	}
	switch t.state {
	case typedEscape:
		t.state = typedText
		switch c {
		case '[', ']', 'O', 'P', 'X', '^', '_':
			t.introduce(c + 0x40)
			return 0
		case '\\': // ST, which ends a string
			return 0
		}
	case typedControl:
		if c < 0x40 {
			if len(t.params) <= maxParams {
				t.params = append(t.params, c)
			}
			return 0
		}
		return t.control(c)
	case typedShift:
		*t = Typed{}
		return arrow(c)
	case typedString:
		if c == 7 || c == 0x9c {
			*t = Typed{}
		}
		return 0
	case typedMouse:
		if t.rest--; t.rest == 0 {
			*t = Typed{}
		}
		return 0
	}
	return t.text(c)
}

// text takes a byte outside of all sequences.
func (t *Typed) text(c byte) byte {
	switch {
	case c < 0x80:
		t.rest = 0
		return c
	case t.rest > 0 && c < 0xc0: // in a character
		if t.rest--; t.c1 {
			t.introduce(c)
		}
	case c < 0xc0:
		t.introduce(c)
	case c < 0xe0:
		t.rest, t.c1 = 1, c == 0xc2
	case c < 0xf0:
		t.rest, t.c1 = 2, false
	default:
		t.rest, t.c1 = 3, false
	}
	return 0
}

// introduce begins what c, one of the controls of ISO 6429 in 8 bits, begins.
func (t *Typed) introduce(c byte) {
	*t = Typed{}
	switch c {
	case 0x9b:
		t.state = typedControl
	case 0x8f:
		t.state = typedShift
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f:
		t.state = typedString
	}
}

// control takes the end of a control sequence.
func (t *Typed) control(c byte) byte {
	params := string(t.params)
	*t = Typed{}
	switch {
	case params == "" && c == 'M':
		t.state, t.rest = typedMouse, 3
		return 0
	case params == "":
		return arrow(c)
	case c == 'u' || c == '~' && strings.HasPrefix(params, "27;"):
		return spelled(params, c == '~')
	}
	return 0
}

func arrow(c byte) byte {
	switch c {
	case 'C':
		return keyRight
	case 'D':
		return keyLeft
	}
	return 0
}

// spelled is a key of a keyboard that tells of its keys by number, which a recording can have
// switched on: kitty's, and xterm's modifyOtherKeys.
func spelled(params string, xterm bool) byte {
	list := strings.Split(params, ";")
	code, modifiers := list[0], ""
	if len(list) > 1 {
		modifiers = list[1]
	}
	if xterm {
		if len(list) != 3 {
			return 0
		}
		code = list[2]
	}
	code, _, _ = strings.Cut(code, ":")
	modifiers, what, _ := strings.Cut(modifiers, ":")
	n, err := strconv.ParseUint(code, 10, 8)
	if err != nil || n >= 0x80 || what == "3" { // the key has been let go
		return 0
	}
	switch key := byte(n); {
	case modifiers == "" || modifiers == "1":
		return key
	case modifiers == "5" && (key == 'c' || key == 'd'):
		return key & 0x1f
	}
	return 0
}
