// Package event is what the host makes of what a jail's PID 1 tells: which session has
// started, ended or was refused, and why a jail ends.
//
// A PID 1 that has been taken over can tell what it likes of its own jail. An Event is
// what is left of that: its id can be one, its times are not in the future, its text is
// one line without anything a terminal or a reader of logs would obey. Whose the login is
// that it names, the caller has to know: each event names the jail's own logins or none.
package event

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"jail/internal/count"
	"jail/internal/login"
	"jail/internal/wire"
)

// Late is the age from which on a line says when it happened: it was not told at once.
const Late = 5 * time.Second

// ErrNotOurs is returned for an event that no PID 1 of ours tells.
var ErrNotOurs = errors.New("not an event")

// Event is one event.
type Event struct {
	Kind wire.EventKind
	// At is when it happened, by PID 1's word; now at the latest.
	At time.Time
	// Age is how long that was before it was told.
	Age time.Duration
	// ID is the session's; HostUID its login's, or wire.NoLogin.
	ID      login.ID
	HostUID uint32
	// Session, UID (inside), TTY ("pts/3", "" without) and PID (inside) are of a start.
	Session  wire.SessionKind
	UID, PID uint32
	TTY      string
	// Status is of an end and a refusal; Signal, 0 without, and Lived of an end.
	Status, Signal uint8
	Lived          time.Duration
	// OutOfMemory says that the kernel has killed a process of the session for want of
	// memory, of an end.
	OutOfMemory bool
	// Text is why, of a refusal, quoted: of printable ASCII.
	Text string
	// Why is of the jail's end.
	Why wire.EndWhy
	// Count is how many were lost before this one.
	Count uint64
}

// Of judges what a PID 1 has told. boot is CLOCK_BOOTTIME now, in milliseconds.
func Of(w *wire.Event, now time.Time, boot int64) (Event, error) {
	e := Event{
		Kind: w.Kind, ID: login.ID(w.ID), HostUID: w.HostUID, Session: w.Session, UID: w.UID, PID: w.PID,
		Status: w.Status, Signal: w.Signal, Text: Quote(w.Text), Why: w.Why, Count: w.Count,
		OutOfMemory: w.OutOfMemory,
	}
	switch w.Kind {
	case wire.EventStarted, wire.EventEnded, wire.EventRefused:
		if !e.ID.Valid() {
			return Event{}, ErrNotOurs
		}
	}
	if w.TTY != wire.NoTTY && w.Kind == wire.EventStarted {
		e.TTY = "pts/" + strconv.FormatUint(uint64(w.TTY), 10)
	}
	if w.Kind != wire.EventLost {
		if w.At < uint64(boot) {
			e.Age = time.Duration(uint64(boot)-w.At) * time.Millisecond
		}
		// What has happened since the machine started has not lasted longer.
		e.Lived = time.Duration(min(w.Millis, uint64(boot))) * time.Millisecond
	}
	e.At = now.Add(-e.Age)
	return e, nil
}

// Line is the event in words, one line without an end. name is the login's, from the
// host's own books; "" if it is none of the jail's.
func (e *Event) Line(name string) string {
	who := "login " + name + " "
	switch {
	case e.HostUID == wire.NoLogin:
		who = ""
	case name == "":
		who = "of uid " + strconv.FormatUint(uint64(e.HostUID), 10) + ", which is no login of this jail, "
	}
	text := ""
	switch e.Kind {
	case wire.EventStarted:
		text = fmt.Sprintf("session %s %sstarted: %s", e.ID, who, sessions[e.Session])
		if e.TTY != "" {
			text += ", " + e.TTY
		}
		text += ", pid " + strconv.FormatUint(uint64(e.PID), 10)
	case wire.EventEnded:
		how := "status " + strconv.Itoa(int(e.Status))
		if e.Signal != 0 {
			how = "signal " + strconv.Itoa(int(e.Signal))
		}
		if e.OutOfMemory {
			how += " (out of memory)"
		}
		text = fmt.Sprintf("session %s %sended: %s after %v", e.ID, who, how, e.Lived)
	case wire.EventRefused:
		by := "control"
		if e.HostUID != wire.NoLogin {
			by = strconv.FormatUint(uint64(e.HostUID), 10)
		}
		text = "id=" + e.ID.String() + " login=" + by + " refused: " + e.Text
	case wire.EventEnding:
		return "ends: " + e.Reason()
	case wire.EventLost:
		return count.Of(e.Count, "event was", "events were") + " not kept while nobody listened"
	}
	if e.Age >= Late {
		text += " (at " + e.At.UTC().Format(time.RFC3339) + ")"
	}
	return text
}

var sessions = [...]string{
	wire.SessionShell: "shell", wire.SessionCommand: "command", wire.SessionSFTP: "sftp", wire.SessionExec: "exec",
	wire.SessionProof: "jail doctor's",
}

// SessionName is what the session is for: shell, command, sftp or exec; of a start.
func (e *Event) SessionName() string { return sessions[e.Session] }

// Reason is why the jail ends, "" of another event.
func (e *Event) Reason() string {
	switch e.Why {
	case wire.EndIdle:
		return "idle"
	case wire.EndTold:
		return "told to"
	}
	return ""
}

// Quote makes text from inside a jail safe for a terminal and for a log of lines. Its
// quotation marks stay as they are.
func Quote(s string) string {
	q := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// Printable makes text safe for a terminal that may have a name or path from inside a jail in it, and
// leaves it readable: what is not graphic, such as what begins an escape sequence or turns
// the order of a line round, is as in a Go string literal. Line feeds and tabs stay.
func Printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if hidden(r) || r == utf8.RuneError && n == 1 {
			q := strconv.Quote(s[:n])
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// PrintableJSON is Printable for a text of JSON: the escapes are JSON's, so that it says the same.
func PrintableJSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	var safe []byte
	for _, r := range string(text) {
		switch {
		case !hidden(r):
			safe = utf8.AppendRune(safe, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			safe = fmt.Appendf(safe, `\u%04x\u%04x`, high, low)
		default:
			safe = fmt.Appendf(safe, `\u%04x`, r)
		}
	}
	return safe
}

func hidden(r rune) bool { return r != '\n' && r != '\t' && !strconv.IsGraphic(r) }
