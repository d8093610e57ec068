package event

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/login"
	"jail/internal/wire"
)

var (
	now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	id  = [wire.IDLen]byte([]byte("k7qmw2ab"))
)

const boot = 100_000

func TestLines(t *testing.T) {
	for want, e := range map[string]wire.Event{
		"session k7qmw2ab login alice started: shell, pts/3, pid 8":                           {Kind: wire.EventStarted, At: boot, ID: id, HostUID: 7, Session: wire.SessionShell, TTY: 3, PID: 8},
		"session k7qmw2ab login alice started: sftp, pid 8":                                   {Kind: wire.EventStarted, At: boot, ID: id, HostUID: 7, Session: wire.SessionSFTP, TTY: wire.NoTTY, PID: 8},
		"session k7qmw2ab login alice started: command, pid 8":                                {Kind: wire.EventStarted, At: boot, ID: id, HostUID: 7, Session: wire.SessionCommand, TTY: wire.NoTTY, PID: 8},
		"session k7qmw2ab started: exec, pts/0, pid 8":                                        {Kind: wire.EventStarted, At: boot, ID: id, HostUID: wire.NoLogin, Session: wire.SessionExec, PID: 8},
		"session k7qmw2ab login alice ended: status 0 after 1.2s":                             {Kind: wire.EventEnded, At: boot, ID: id, HostUID: 7, Millis: 1200},
		"session k7qmw2ab login alice ended: signal 9 (out of memory) after 0s":               {Kind: wire.EventEnded, At: boot, ID: id, HostUID: 7, Signal: 9, OutOfMemory: true},
		"session k7qmw2ab login alice ended: signal 9 after 0s":                               {Kind: wire.EventEnded, At: boot, ID: id, HostUID: 7, Signal: 9},
		"session k7qmw2ab login alice ended: status 1 after 2s (at 2026-11-28T11:59:50Z)":     {Kind: wire.EventEnded, At: boot - 10_000, ID: id, HostUID: 7, Status: 1, Millis: 2000},
		"session k7qmw2ab of uid 8, which is no login of this jail, ended: status 0 after 0s": {Kind: wire.EventEnded, At: boot, ID: id, HostUID: 8},
		`id=k7qmw2ab login=7 refused: no\n\x1b[31m\u202e "x"`:                                 {Kind: wire.EventRefused, At: boot, ID: id, HostUID: 7, Text: "no\n\x1b[31m\u202e \"x\""},
		"id=k7qmw2ab login=control refused: no":                                               {Kind: wire.EventRefused, At: boot, ID: id, HostUID: wire.NoLogin, Text: "no"},
		"ends: idle":                                                                          {Kind: wire.EventEnding, At: boot, Why: wire.EndIdle},
		"ends: told to":                                                                       {Kind: wire.EventEnding, At: boot, Why: wire.EndTold},
		"3 events were not kept while nobody listened":                                        {Kind: wire.EventLost, Count: 3},
	} {
		got, err := Of(&e, now, boot)
		require.NoError(t, err)
		name := ""
		if e.HostUID == 7 {
			name = "alice"
		}
		assert.Equal(t, want, got.Line(name))
	}
}

// TestIDsThatAreNone: text in the place of an id cannot end up in the log.
func TestIDsThatAreNone(t *testing.T) {
	for _, text := range []string{"k7qmw2a\n", "k7qmw2a ", "k7qmw2a0", "k7qmw2al", "K7QMW2AB", "\x00\x00\x00\x00\x00\x00\x00\x00", "k7qmw2a\xff"} {
		for _, kind := range []wire.EventKind{wire.EventStarted, wire.EventEnded, wire.EventRefused} {
			_, err := Of(&wire.Event{Kind: kind, ID: [wire.IDLen]byte([]byte(text))}, now, boot)
			assert.ErrorIs(t, err, ErrNotOurs, "%q", text)
		}
	}
	ids := login.NewIDs("web", now.UnixMilli())
	for range 1000 {
		assert.True(t, ids.Next().Valid())
	}
}

// TestTimesThatCannotBe: PID 1 may say what it likes.
func TestTimesThatCannotBe(t *testing.T) {
	for claim, tt := range map[string]struct {
		at   uint64
		want time.Time
	}{
		"now": {boot, now}, "in the future": {boot + 1, now}, "at the end of all time": {math.MaxUint64, now},
		"when the machine started": {0, now.Add(-boot * time.Millisecond)},
	} {
		e, err := Of(&wire.Event{Kind: wire.EventEnded, At: tt.at, ID: id, Millis: math.MaxUint64}, now, boot)
		require.NoError(t, err)
		assert.Equal(t, tt.want, e.At, claim)
		assert.Equal(t, boot*time.Millisecond, e.Lived, "nothing has lasted longer than the machine runs")
	}
}

// FuzzLine: whatever decodes is one bounded line of printable ASCII.
func FuzzLine(f *testing.F) {
	for _, e := range []wire.Event{{Kind: wire.EventRefused, ID: id, Text: "\u202e\x1b"}, {Kind: wire.EventStarted, ID: id, Session: wire.SessionShell}, {Kind: wire.EventLost, Count: 1}} {
		f.Add(wire.AppendEvent(nil, &e))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		events, _ := wire.DecodeEvents(body, nil)
		for i := range events {
			e, err := Of(&events[i], now, boot)
			if err != nil {
				continue
			}
			line := e.Line("alice")
			if len(line) > 200+10*wire.MaxText || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q", line)
			}
		}
	})
}

// TestPrintableJSON: no terminal obeys it, and it says the same.
func TestPrintableJSON(t *testing.T) {
	said := map[string]string{"what": "ü \u009b2J \u202ehs \U000e0041 \x1b[2J\n"}
	text, err := json.MarshalIndent(said, "", "  ")
	require.NoError(t, err)
	safe := PrintableJSON(append(text, '\n'))
	assert.Equal(t, "{\n  \"what\": \"ü \\u009b2J \\u202ehs \\udb40\\udc41 \\u001b[2J\\n\"\n}\n", string(safe))
	var again map[string]string
	require.NoError(t, json.Unmarshal(safe, &again))
	assert.Equal(t, said, again)
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "",
		"open /home/jürgen: a \\ \"b\"\nc": "open /home/jürgen: a \\ \"b\"\nc",
		"\x1b[2J\r\x7f\x00\t":              `\x1b[2J\r\x7f\x00` + "\t",
		"ü\u009b2J \u202ehs":               `ü\u009b2J \u202ehs`,
		"\x9b\xff":                         `\x9b\xff`,
	} {
		assert.Equal(t, want, Printable(text), "%q", text)
	}
}

func TestQuote(t *testing.T) {
	assert.Equal(t, `open "a b": no\n\x1b[2J\\`, Quote("open \"a b\": no\n\x1b[2J\\"))
}
