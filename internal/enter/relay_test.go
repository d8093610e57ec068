package enter

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestOver: once the command has ended, what its terminal still shows is waited for, within bounds.
func TestOver(t *testing.T) {
	for claim, c := range map[string]struct {
		out  *relay
		late int
		idle bool
		want bool
	}{
		"no terminal":                         {nil, 0, false, true},
		"more may come":                       {&relay{}, 0, false, false},
		"nothing more comes":                  {&relay{}, 0, true, true},
		"the terminal's end":                  {&relay{eof: true}, 0, false, true},
		"nobody takes it":                     {&relay{dead: true}, 0, false, true},
		"all that fits, and more":             {&relay{}, lateBytes, false, true},
		"nearly all that fits":                {&relay{}, lateBytes - 1, false, false},
		"not taken yet, though nothing comes": {&relay{w: 1}, 0, true, false},
		"not taken yet, though at its end":    {&relay{w: 1, eof: true}, lateBytes, true, false},
	} {
		f := flow{out: c.out, late: c.late, exited: true}
		assert.Equal(t, c.want, f.over(c.idle), claim)
	}
}

// TestPatience: the session waits without end while its command runs, and never long after it.
func TestPatience(t *testing.T) {
	into := func(r relay) session {
		s := session{master: -1, used: 1}
		s.relays[0] = r
		return s
	}
	held := session{master: -1}
	held.recorder.held = 1
	late := into(relay{from: 9, to: 1})
	done := into(relay{from: 9, to: 1, eof: true})
	for claim, c := range map[string]struct {
		s      *session
		exited bool
		want   int
	}{
		"it runs":                          {&session{master: -1}, false, -1},
		"it runs, its output into a file":  {&late, false, -1},
		"the recorder is to hear the rest": {&held, false, holdMillis},
		"it has ended":                     {&session{master: -1}, true, 0},
		"it has ended, and is recorded":    {&held, true, 0},
		"a file may still get something":   {&late, true, lateMillis},
		"the file has got all":             {&done, true, 0},
	} {
		assert.Equal(t, c.want, c.s.patience(c.exited), claim)
	}
}
