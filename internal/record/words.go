package record

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"jail/internal/count"
	"jail/internal/event"
)

// Words is the entry as one line for people, without its time. Its texts are as in the entry.
func (e *Entry) Words() string {
	text := ""
	if e.Jail != "" {
		text = "jail " + e.Jail + " "
		switch e.Event {
		case SessionStarted, SessionEnded, SessionRefused, JailRefused, LimitMet, Lost:
			text = "jail " + e.Jail + ": "
		}
	}
	text += e.what()
	if e.LateMillis > 0 {
		text += " (at " + e.Time.Format(time.RFC3339) + ")"
	}
	return text
}

func (e *Entry) what() string {
	because := func(text string) string {
		if e.Reason != "" {
			text += ": " + e.Reason
		}
		return text
	}
	lived := func() time.Duration {
		if e.Millis == nil {
			return 0
		}
		return time.Duration(*e.Millis) * time.Millisecond
	}
	session := "session " + e.Session + " "
	if e.Login != "" {
		session += "login " + e.Login + " "
	}
	switch e.Event {
	case SessionStarted:
		text := session + "started: " + e.Kind
		if e.TTY != "" {
			text += ", " + e.TTY
		}
		text += ", pid " + strconv.FormatUint(uint64(e.PID), 10)
		if c := e.Caller; c != nil {
			text += c.words()
		}
		if e.Command != "" {
			text += ", command " + e.Command
		}
		return because(text)
	case SessionEnded:
		memory := ""
		if e.OutOfMemory {
			memory = " (out of memory)"
		}
		switch {
		case e.End == Unseen:
			return session + "is over, and nobody saw it end"
		case e.End == WithJail:
			return session + "ended with its jail after " + lived().String()
		case e.Signal != 0:
			return fmt.Sprintf("%sended: signal %d%s after %v", session, e.Signal, memory, lived())
		case e.Status != nil:
			return fmt.Sprintf("%sended: status %d%s after %v", session, *e.Status, memory, lived())
		}
		return session + "ended"
	case SessionRefused:
		text := "id=" + e.Session + " login=" + e.Login + " refused"
		if e.Count > 1 {
			text += " " + strconv.FormatUint(e.Count, 10) + " times"
		}
		return because(text)
	case JailStarted, JailFound:
		text := "started"
		if e.Event == JailFound {
			text = "runs already"
		}
		if e.Init != nil {
			text += ": pid " + strconv.Itoa(e.Init.PID)
		}
		return text
	case JailEnded:
		if e.End == Unseen {
			return "ended, and nobody saw it"
		}
		end := event.End{Reason: e.Reason, Signal: syscall.Signal(e.Signal), OOM: e.OOM, Lived: lived()}
		if e.Status != nil {
			end.Status = *e.Status
		}
		return end.String()
	case JailRefused:
		return because("start failed")
	case LimitMet:
		text := "limit met: " + LimitWords(e.Limit, e.Value)
		if e.Count > 1 {
			text += ", " + strconv.FormatUint(e.Count, 10) + " times"
		}
		return text
	case RegistryTaken:
		return "the registry is in force"
	case RegistryFaulty:
		return "the registry is in force, but for " + strconv.FormatUint(e.Count, 10) + " faults: jail check names them"
	case RegistryFailed:
		return because("the registry is not used, what was in force stays")
	case Lost:
		return because(strconv.FormatUint(e.Count, 10) + " entries are missing before this one")
	}
	return string(e.Event)
}

// LimitWords is a limit of a jail with its value, 0 if that is not known.
func LimitWords(limit string, value uint64) string {
	switch {
	case value == 0:
		return limit
	case limit == "memory":
		return limit + " " + count.Size(value)
	}
	return limit + " " + strconv.FormatUint(value, 10)
}

// words is where a session comes from.
func (c *Caller) words() string {
	var text strings.Builder
	add := func(what, value string) {
		if value != "" {
			text.WriteString(" " + what + " " + value)
		}
	}
	add("by", c.Service)
	if c.UID != nil {
		add("uid", strconv.FormatUint(uint64(*c.UID), 10))
	}
	add("from", c.Address)
	add("on", c.TTY)
	add("with", c.Method)
	add("key", c.Key)
	add("certificate", c.Certificate)
	if text.Len() == 0 {
		return ""
	}
	return "," + text.String()
}
