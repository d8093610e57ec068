package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const headerLine = `{"version":2,"width":80,"height":24,"timestamp":1,"jail":"debian","login":"bob","host_uid":1,"pid":2,"pid_inside":3,"input":false}` + "\n"

// all reads what there is, and counts the damaged lines.
func all(t testing.TB, text string) (events []Event, damaged int) {
	t.Helper()
	r, err := NewReader(strings.NewReader(text))
	if err != nil {
		return nil, 1
	}
	for {
		ev, err := r.Next()
		switch {
		case err == io.EOF:
			return events, damaged
		case err != nil:
			require.ErrorIs(t, err, ErrDamaged)
			damaged++
		default:
			events = append(events, ev)
		}
	}
}

func TestEvents(t *testing.T) {
	var e encoder
	var file bytes.Buffer
	file.WriteString(headerLine)
	for _, chunk := range []string{"plain\r\n\t\"\\\x00\x1b[31m\x7f", "\xff\xc3", "\xa4\xe2\x82", "\xac.", "\xf0\x9f", "x", "\xe2"} {
		file.Write(e.event(1500*time.Millisecond, Output, []byte(chunk)))
	}
	file.Write(e.event(2*time.Second+7*time.Microsecond, Resize, []byte("100x30")))
	for _, line := range strings.Split(strings.TrimSpace(file.String()), "\n") {
		assert.True(t, json.Valid([]byte(line)), line)
	}
	events, damaged := all(t, file.String())
	require.Zero(t, damaged)
	printed := ""
	for _, ev := range events[:len(events)-1] {
		assert.Equal(t, Output, ev.Kind)
		assert.Equal(t, 1500*time.Millisecond, ev.At)
		printed += ev.Data
	}
	assert.Equal(t, "plain\r\n\t\"\\\x00\x1b[31m\x7f\ufffdä€.\ufffd\ufffdx", printed, "what is cut within a character is put together")
	assert.Equal(t, Event{2*time.Second + 7*time.Microsecond, Resize, "100x30"}, events[len(events)-1])
}

func TestDamage(t *testing.T) {
	good := "[1.0, \"o\", \"a\"]\n"
	for claim, c := range map[string]struct {
		text            string
		events, damaged int
	}{
		"nothing":                       {"", 0, 1},
		"no header":                     {good, 0, 1},
		"another version":               {strings.Replace(headerLine, `"version":2`, `"version":3`, 1) + good, 0, 1},
		"a header alone":                {headerLine, 0, 0},
		"a line in the middle":          {headerLine + good + "[1.0, \"o\",\n" + good, 2, 1},
		"zeros, as after a power cut":   {headerLine + good + strings.Repeat("\x00", 5000) + "\n" + good, 2, 1},
		"a line that is not all there":  {headerLine + good + "[2.0, \"o\", \"b", 1, 0},
		"a line without end":            {headerLine + good + strings.Repeat("x", 1<<20), 1, 0},
		"a line too long, then another": {headerLine + strings.Repeat("x", 1<<20) + "\n" + good, 1, 1},
		"a line of the longest kind":    {headerLine + `[1, "o", "` + strings.Repeat(`\u0000`, 32<<10) + "\"]\n", 1, 0},
		"what is no event":              {headerLine + "[1.0, \"o\"]\n[1.0, \"o\", \"a\", 1]\n[\"x\", \"o\", \"a\"]\n[1, \"out\", \"a\"]\n[-1, \"o\", \"a\"]\n[1e300, \"o\", \"a\"]\n{}\n7\nnull\n", 0, 9},
		"an empty line":                 {headerLine + "\n" + good, 1, 0},
	} {
		events, damaged := all(t, c.text)
		assert.Len(t, events, c.events, claim)
		assert.Equal(t, c.damaged, damaged, claim)
	}
	r, err := NewReader(strings.NewReader(headerLine + good + "x\n"))
	require.NoError(t, err)
	_, _ = r.Next()
	_, err = r.Next()
	assert.ErrorContains(t, err, "line 3 is no event", "the damage is named")
	events, _ := all(t, headerLine+"[5.0, \"o\", \"a\"]\n[1.0, \"o\", \"b\"]\n")
	assert.Equal(t, 5*time.Second, events[1].At, "a clock that jumps back")
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(headerLine + "[1.0, \"o\", \"a\"]\n"))
	f.Add([]byte(headerLine + "\x00\n[1, \"m\", \"\\u0000\"]\n["))
	f.Fuzz(func(t *testing.T, text []byte) {
		events, _ := all(t, string(text))
		last := time.Duration(0)
		for _, ev := range events {
			require.GreaterOrEqual(t, ev.At, last)
			last = ev.At
		}
	})
}

// FuzzEvents: what is written can be read, whatever a terminal is sent and wherever it is cut.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("a\xc3"), []byte("\xa4\x1b]0;x\a"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var e encoder
		text := headerLine
		for _, chunk := range [][]byte{a, b, []byte(".")} {
			text += string(e.event(0, Output, chunk))
		}
		events, damaged := all(t, text)
		require.Zero(t, damaged)
		got := ""
		for _, ev := range events {
			got += ev.Data
		}
		require.Equal(t, strings.ToValidUTF8(string(bytes.ToValidUTF8([]byte(got), nil)), ""), got)
		if whole := string(a) + string(b) + "."; utf8.ValidString(whole) {
			require.Equal(t, whole, got)
		}
	})
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"a\x1b[31mb\x1b[0m\r\n\tc":                        "ab\n\tc",
		"\x1b]0;title\x07x\x1b]52;c;Zm9v\x1b\\y":          "xy",
		"\x1bPq#0;2\x1b\\z\x1b(B.":                        "z.",
		"\x1b]0;never ends":                               "",
		"\x08\x07\x00\x7f\u009b31mä€\u0090q\u009c.":       "ä€.",
		"\x1b[\x1b[31mx\x1b\x1b[1my":                      "xy",
		"\x1b]x\x1b]y\x1b\\z":                             "z",
		"\x1b]x\x1b[0mseen\x1bPx\x18seen":                 "seenseen",
		"\x1b[1\x1aseen\x1b[1ä\x1bäseen":                  "seenääseen",
		"\x1b[1\n2mx\x1b\n[my":                            "\nx\ny",
		"\x1b_" + strings.Repeat("x", 4096) + "seen":      "seen",
		"\u0090" + strings.Repeat("x", 4096) + "\x07seen": "seen",
		"rm \u202efr-\u202c x\u2066y\u2069\u200f\u061cع":  "rm fr- xyع",
	} {
		var p Plain
		assert.Equal(t, want, string(p.Append(nil, text)), "%q", text)
		p = Plain{}
		var one []byte
		for _, r := range text {
			one = p.Append(one, string(r))
		}
		assert.Equal(t, want, string(one), "%q in pieces", text)
	}
}

// TestTyped: of what a terminal says by itself nothing is a key, and what is typed after it is one.
func TestTyped(t *testing.T) {
	for said, want := range map[string]string{
		"q 0n":                                             "q 0n",
		"\x1b[C\x1b[D\x1bOC\x1bOD":                         string([]byte{keyRight, keyLeft, keyRight, keyLeft}),
		"\x1bq":                                            "q",
		"\x1b\x1b[C":                                       string([]byte{keyRight}),
		"\x1b[Aq\x1b[1;5Cq\x1b[15~q":                       "qqq",
		"\x1b[?62;1;6cn\x1b[0nn":                           "nn",     // what it is, how it is
		"\x1b[20;10R\x1b[?20;10Rq":                         "q",      // where the cursor is
		"\x1b[>0;136;0cq":                                  "q",      // its version
		"\x1bP>|term q0n\x1b\\q":                           "q",      // by name
		"\x1bP1$r0 q\x1b\\q":                               "q",      // the shape of the cursor
		"\x1b]lq 0n\x1b\\q":                                "q",      // the title
		"\x1b]10;rgb:0000/n\x07q":                          "q",      // a colour
		"\x1b]52;c;cTBu\x1bq":                              "q",      // what ends a string that has no end
		"\x1b_Gi=1;q\x1b\\q":                               "q",      // pictures
		"\x1b[?0u\x1b[?1;2$yq":                             "q",      // modes
		"\x1b[8;20;100t\x1b[Iq\x1b[Oq":                     "qq",     // size, focus
		"\x1b[<0;10;20Mq\x1b[0;10;20Mq":                    "qq",     // mice
		"\x1b[Mqqqq\x1b[M !!0":                             "q0",     // without an end
		"\u009b0nq\u009dq\u009cq":                          "qq",     // in 8 bits
		"\x9b0nq\x90q\x9cq":                                "qq",     //
		"пРÐйqЛ€qq😀0\xc2q\xe2q":                            "qqq0qq", // characters
		"\x1b[113u\x1b[113;1:1u\x1b[113;1:3u\x1b[48:41;1u": "qq0",
		"\x1b[99;5u\x1b[100;5:2u\x1b[27;5;99~\x1b[99;6u\x1b[300u\x1b[27;5;300~": "\x03\x04\x03",
		"\x1b]x\x03\x1b[1\x04q":                    "\x03\x04q",
		"\x1b[1\x18q\x1b]1\x1aq":                   "qq",
		"\x1b[" + strings.Repeat("1", 1000) + "uq": "q",
	} {
		var k Typed
		var keys []byte
		for i := range len(said) {
			if c := k.Key(said[i]); c != 0 {
				keys = append(keys, c)
			}
		}
		assert.Equal(t, want, string(keys), "%q", said)
	}
}

func FuzzTyped(f *testing.F) {
	f.Add("\x1b[113;5u\x1b[Mabc\x1b]x\x07")
	f.Fuzz(func(t *testing.T, said string) {
		var k Typed
		for i := range len(said) {
			k.Key(said[i])
			require.LessOrEqual(t, len(k.params), maxParams+1)
		}
		require.Equal(t, byte(ctrlC), k.Key(ctrlC), "one can always leave")
		require.Equal(t, byte('q'), k.Key('q'))
	})
}

func FuzzPlain(f *testing.F) {
	f.Add("\x1b]0;x\x07y\x1b[31m")
	f.Fuzz(func(t *testing.T, text string) {
		var p Plain
		for _, r := range string(p.Append(nil, text)) {
			require.True(t, r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r >= 0xa0) && !unicode.Is(unicode.Bidi_Control, r))
		}
	})
}

// play plays a recording of a, b, c and d at 10, 20, 30 and 40 seconds. Each wait of the player's is
// told to waited, which may type.
func play(t *testing.T, speed float64, typed string, atWait int) (printed string, clock time.Duration) {
	t.Helper()
	text := headerLine + "[10.0, \"o\", \"a\"]\n[20.0, \"o\", \"b\"]\ndamage\n[25.0, \"i\", \"typed\"]\n[30.0, \"o\", \"c\"]\n[40.0, \"o\", \"d\"]\n"
	keys := make(chan byte, 100)
	var out bytes.Buffer
	waits := 0
	p := Player{
		Open: func() (*Reader, error) { return NewReader(strings.NewReader(text)) }, Out: &out, Keys: keys, Speed: speed,
		After: func(d time.Duration) <-chan time.Time {
			if waits++; waits == atWait {
				for i := range typed {
					keys <- typed[i]
				}
				return nil // the keys come first
			}
			require.Less(t, waits, 10_000)
			clock += d
			c := make(chan time.Time, 1)
			c <- time.Time{}
			return c
		},
	}
	require.NoError(t, p.Play())
	return out.String(), clock
}

func TestPlay(t *testing.T) {
	second := func(d time.Duration) int { return int((d + time.Second/2) / time.Second) }
	for claim, c := range map[string]struct {
		speed  float64
		typed  string
		at     int
		want   string
		lasted int
	}{
		"all of it":              {0, "", 0, "abcd", 40},
		"four times as fast":     {4, "", 0, "abcd", 10},
		"half as fast":           {0.5, "", 0, "abcd", 80},
		"until q":                {0, "q", 150, "a", 15},
		"until ^C":               {0, "\x03", 150, "a", 15},
		"faster from 20 seconds": {0, "++", 201, "abcd", 25},
		"forward":                {0, "\x1b[C", 151, "abcd", 35},
		"forward, past two":      {0, "lll", 151, "abcd", 25},
		"back":                   {0, "\x1bOD", 251, "ab\x1bcabcd", 45},
		"back to the beginning":  {0, "0", 251, "ab\x1bcabcd", 65},
		"to the next":            {0, "n", 101, "abcd", 30},
		"paused, two by hand":    {0, " ..q", 101, "ab", 10},
		"paused and forward":     {0, " lll ", 101, "abcd", 25},
		"what is no key":         {0, "x\x1b[A\x1bz", 101, "abcd", 40},
		"what the terminal says": {0, "\x1bPq0\x1b\\", 101, "abcd", 40},
	} {
		printed, clock := play(t, c.speed, c.typed, c.at)
		assert.Equal(t, c.want, printed, claim)
		assert.InDelta(t, c.lasted, second(clock), 1, claim)
	}
	var said []string
	p := Player{Open: func() (*Reader, error) {
		return NewReader(strings.NewReader(headerLine + "x\n[1, \"m\", \"7 bytes are missing here\"]\n"))
	},
		Out: io.Discard, Speed: 256, Note: func(text string) { said = append(said, text) }}
	require.NoError(t, p.Play())
	assert.Equal(t, []string{"line 2 is no event: damaged", "7 bytes are missing here"}, said)
	p.Open = func() (*Reader, error) { return nil, errors.New("gone") }
	assert.Error(t, p.Play())
}
