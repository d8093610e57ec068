package recording

import (
	"errors"
	"io"
	"time"
)

// Player shows a recording on a terminal. Everything in it goes there as it is: a terminal that shows
// one does what the session's output made the user's own do.
type Player struct {
	// Open begins the recording anew.
	Open func() (*Reader, error)
	Out  io.Writer
	// Keys brings what is typed; closed or nil there is none.
	Keys <-chan byte
	// Speed is how many times as fast it goes; 0 is 1.
	Speed float64
	// Note is told of lines that are passed over, and of what is missing.
	Note func(text string)
	// After is time.After.
	After func(time.Duration) <-chan time.Time

	speed  float64
	paused bool
	typed  Typed
	said   map[string]bool
}

// What a player does besides going on.
const (
	step    = 5 * time.Second // of an arrow key
	slowest = 1.0 / 16
	fastest = 256
)

// clear is what a terminal is sent before a recording begins, anew: RIS (ECMA-48, 8.3.105).
const clear = "\x1bc"

// Leave is what undoes most of what a recording may have done to a terminal when it ends in the
// middle: a sequence that has no end (CAN), VT52's ways, the alternate screen, a locked keyboard, one that tells of its
// keys by number, the mouse and the focus, bracketed paste, drawing that waits, other characters, and what DECSTR resets;
// colours and a hidden cursor by themselves, for terminals without DECSTR.
const Leave = "\x18\x1b<\x1b[?1049l\x1b[2l\x1b[>4m\x1b[=0u\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?2004l\x1b[?2026l" +
	"\x1b[!p\x1b(B\x0f\x1b[0m\x1b[4l\x1b[?7h\x1b[?1l\x1b>\x1b[?25h"

var errQuit = errors.New("quit")

// seekTo is that the player has to be at another time.
type seekTo time.Duration

func (seekTo) Error() string { return "seek" }

// Play shows the recording, until it ends or somebody types q.
func (p *Player) Play() error {
	if p.speed = p.Speed; p.speed == 0 {
		p.speed = 1
	}
	if p.After == nil {
		p.After = time.After
	}
	from := time.Duration(0)
	for {
		r, err := p.Open()
		if err != nil {
			return err
		}
		var seek seekTo
		switch err := p.run(r, from); {
		case errors.As(err, &seek):
			from = max(time.Duration(seek), 0)
			if _, err := io.WriteString(p.Out, clear); err != nil {
				return err
			}
		case err == errQuit || err == io.EOF:
			return nil
		default:
			return err
		}
	}
}

// run shows one reading of the recording; until from it does not wait.
func (p *Player) run(r *Reader, from time.Duration) error {
	at := from // what the clock of the recording says
	for {
		ev, err := r.Next()
		if errors.Is(err, ErrDamaged) {
			p.note(err.Error())
			continue
		}
		if err != nil {
			return err
		}
		if at, err = p.wait(at, ev.At); err != nil {
			return err
		}
		switch ev.Kind {
		case Output:
			if _, err := io.WriteString(p.Out, ev.Data); err != nil {
				return err
			}
		case Marker:
			p.note(ev.Data)
		}
	}
}

// note is told once of each thing, however often the recording is begun anew.
func (p *Player) note(text string) {
	if p.Note == nil || p.said[text] {
		return
	}
	if p.said == nil {
		p.said = map[string]bool{}
	}
	p.said[text] = true
	p.Note(text)
}

// wait lets the clock go from one time to another, and does what is typed meanwhile. It returns
// what the clock says then, which is later where somebody has moved it.
func (p *Player) wait(at, until time.Duration) (time.Duration, error) {
	for {
		var over <-chan time.Time
		pause := min(time.Duration(float64(until-at)/p.speed), 100*time.Millisecond)
		if !p.paused && at < until {
			over = p.After(pause)
		}
		var c byte
		ok := true
		if at < until {
			select {
			case <-over:
				at = min(at+time.Duration(float64(pause)*p.speed)+1, until)
				continue
			case c, ok = <-p.Keys:
			}
		} else {
			select {
			case c, ok = <-p.Keys:
			default:
				return at, nil
			}
		}
		if !ok { // nobody can go on with what is paused
			p.Keys, p.paused = nil, false
			continue
		}
		switch p.key(c) {
		case 'q':
			return at, errQuit
		case '>':
			at += step
		case '<':
			return at, seekTo(at - step)
		case '0':
			return at, seekTo(0)
		case 'n':
			return max(at, until), nil
		}
	}
}

// Ends reports whether a key (Typed) says that nothing more is to be shown.
func Ends(key byte) bool { return key == 'q' || key == ctrlC || key == ctrlD }

// key does what a key says, and returns what is left to do.
func (p *Player) key(c byte) byte {
	if c = p.typed.Key(c); Ends(c) {
		return 'q'
	}
	switch c {
	case ' ':
		p.paused = !p.paused
	case '+':
		p.speed = min(p.speed*2, fastest)
	case '-':
		p.speed = max(p.speed/2, slowest)
	case '.', 'n':
		return 'n'
	case 'l', keyRight:
		return '>'
	case 'h', keyLeft:
		return '<'
	case '0':
		return '0'
	}
	return 0
}
