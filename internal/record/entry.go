// Package record is what is kept of sessions, jails and the registry: who came, from where,
// as whom, what became of it. An Entry is one line of JSON in a file that is the jail's
// alone, so that none of them can push out what is known of another, and damage in
// one is damage of one (Store). A Recorder makes entries of what serve and run
// see and of what a jail's PID 1 tells, beside them: no login waits for a disk.
//
// What the host knows by itself is never taken from inside a jail: the jail's and the
// login's name, jail-enter's pid, the time. What a PID 1 tells is believed of its own jail,
// within the bounds of control.Voice. docs/records.md has the format.
package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"time"

	"jail/config"
)

// Version is of the format. A field may be added without another version; what is there
// keeps its meaning.
const Version = 1

// Event says what an entry is about.
type Event string

// The events of a session, of a jail, of the registry, and of the records themselves.
const (
	SessionStarted Event = "session-started"
	SessionEnded   Event = "session-ended"
	SessionRefused Event = "session-refused"
	JailStarted    Event = "jail-started"
	JailFound      Event = "jail-found" // it runs already; serve is new
	JailEnded      Event = "jail-ended"
	JailRefused    Event = "jail-refused" // it could not be started
	LimitMet       Event = "limit-met"    // the kernel has refused the jail what is beyond a limit
	RegistryTaken  Event = "registry-taken"
	RegistryFaulty Event = "registry-faulty" // taken, but for what is out of service
	RegistryFailed Event = "registry-refused"
	Lost           Event = "lost" // entries that are missing before this one
)

// Ends of a session that did not end by itself before somebody's eyes.
const (
	// WithJail: its jail has ended, and it with it; nobody has its status.
	WithJail = "with-jail"
	// Unseen: it is over, and nobody knows since when, or how it ended.
	Unseen = "unseen"
)

// Entry is one event. Which fields are there depends on it; a field that is not known is
// absent. All text is printable ASCII, with anything else as in a Go string literal.
type Entry struct {
	Version int       `json:"v"`
	Time    time.Time `json:"time"`
	Event   Event     `json:"event"`
	Jail    string    `json:"jail,omitempty"`
	// Login is the account on the host; "" of a session of jail exec.
	Login   string `json:"login,omitempty"`
	Session string `json:"session,omitempty"`
	// Kind is shell, command, sftp or exec.
	Kind string `json:"kind,omitempty"`
	// UID and PID are the session's inside the jail, TTY its terminal there.
	UID *uint32 `json:"uid,omitempty"`
	PID uint32  `json:"pid,omitempty"`
	TTY string  `json:"tty,omitempty"`
	// Caller is what the host knows of who asked for the session.
	Caller *Caller `json:"caller,omitempty"`
	// Command is what was asked for, where log_commands says so.
	Command string `json:"command,omitempty"`
	// Status is the exit status, Signal what killed it instead, Millis how long it
	// lasted: of a session, or of a jail.
	Status *int   `json:"status,omitempty"`
	Signal int    `json:"signal,omitempty"`
	Millis *int64 `json:"duration_ms,omitempty"`
	// OutOfMemory says that the kernel has killed a process of a session for want of memory,
	// which was its end.
	OutOfMemory bool `json:"out_of_memory,omitempty"`
	// End is WithJail or Unseen.
	End string `json:"end,omitempty"`
	// Reason is why, in words.
	Reason string `json:"reason,omitempty"`
	// OOM is how many processes of a jail the kernel has killed for want of memory.
	OOM uint64 `json:"oom_killed,omitempty"`
	// Limit is what was met, as in the registry: pids or memory; Value what it is, in
	// processes or bytes, 0 if that is not known.
	Limit string `json:"limit,omitempty"`
	Value uint64 `json:"value,omitempty"`
	// Count is how many: connections refused, entries lost; how often a limit was met since the last
	// entry that says so.
	Count uint64 `json:"count,omitempty"`
	// LateMillis is how long after the event it was told.
	LateMillis int64 `json:"late_ms,omitempty"`
	// Init tells one run of a jail from another: PID 1's pid on the host, when it started
	// in clock ticks since the boot (proc_pid_stat(5)), and the boot.
	Init *Init `json:"init,omitempty"`
}

// Init is a PID 1, for ever.
type Init struct {
	PID   int    `json:"pid"`
	Ticks uint64 `json:"start_ticks"`
	Boot  string `json:"boot"`
}

// Caller is who asked for a session, on the host.
type Caller struct {
	// PID is jail-enter's, by the kernel's word.
	PID int `json:"pid"`
	// UID is who has called jail exec, on the host: the one who had logged in. It is absent of
	// a login's session.
	UID *uint32 `json:"uid,omitempty"`
	// Service is the program that has let the login in: sshd, su, sudo, login, cron; by
	// what the kernel says of jail-enter's ancestors, or "" if it was gone before that
	// could be looked at.
	Service string `json:"service,omitempty"`
	// What follows is jail-enter's word, a process of the login's own uid: it can lie
	// about itself, and nobody else. Address and Port are the client's, Key and
	// Authority SHA256 fingerprints, Certificate a certificate's key id.
	Address     string `json:"address,omitempty"`
	Port        int    `json:"port,omitempty"`
	TTY         string `json:"tty,omitempty"`
	Method      string `json:"method,omitempty"`
	Key         string `json:"key,omitempty"`
	Certificate string `json:"certificate,omitempty"`
	Authority   string `json:"authority,omitempty"`
}

// maxLine is the longest line, in bytes, with its end.
const maxLine = 16 << 10

// errLine is returned for a line that is no entry.
var (
	errLine    = errors.New("is no entry")
	errVersion = errors.New("is of another version of the format")
)

// append adds an entry as a line.
func (e *Entry) append(dst []byte) []byte {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)                           // which no reader of lines needs
	if out.Encode(e) != nil || text.Len() >= maxLine { // no field is that long
		return dst
	}
	return append(dst, text.Bytes()...)
}

// Line is the entry as it is in a file, with its end.
func (e *Entry) Line() []byte { return e.append(nil) }

// parse reads a line without its end.
func parse(line []byte) (e Entry, err error) {
	if err := json.Unmarshal(line, &e); err != nil || e.Event == "" || e.Time.IsZero() {
		return Entry{}, errLine
	}
	if e.Version != Version {
		return Entry{}, errVersion
	}
	return e, nil
}

// Dir is where the records are kept that the programs of a runtime directory make:
// /var/log/jail, or for another one than the system's in that itself.
func Dir(runtimeDir string) string {
	if runtimeDir == config.DefaultRuntimeDir {
		return "/var/log/jail"
	}
	return filepath.Join(runtimeDir, "log")
}
