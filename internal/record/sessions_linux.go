package record

import (
	"slices"
	"time"
)

// States of a session.
const (
	StateOpen    = "open"
	StateEnded   = "ended"
	StateRefused = "refused"
)

// Session is what the records say of one, as "jail who" and "jail last" print it.
type Session struct {
	Jail    string `json:"jail"`
	Login   string `json:"login,omitempty"`
	Session string `json:"session,omitempty"`
	// State is one of the above.
	State string  `json:"state"`
	Kind  string  `json:"kind,omitempty"`
	UID   *uint32 `json:"uid,omitempty"`
	PID   uint32  `json:"pid,omitempty"`
	TTY   string  `json:"tty,omitempty"`
	// Started is absent where the records no longer go back to it.
	Started *time.Time `json:"started,omitempty"`
	// Ended is when it ended, or was refused; of one whose end is Unseen, when it was
	// found to be over.
	Ended  *time.Time `json:"ended,omitempty"`
	Status *int       `json:"status,omitempty"`
	Signal int        `json:"signal,omitempty"`
	// OutOfMemory is as of an Entry.
	OutOfMemory bool    `json:"out_of_memory,omitempty"`
	Millis      *int64  `json:"duration_ms,omitempty"`
	End         string  `json:"end,omitempty"`
	Reason      string  `json:"reason,omitempty"`
	Count       uint64  `json:"count,omitempty"`
	Command     string  `json:"command,omitempty"`
	Caller      *Caller `json:"caller,omitempty"`
	// LimitsMet are limits that its jail has met while it went on.
	LimitsMet []string `json:"limits_met,omitempty"`
}

// Met is what the records say of a limit that a jail has met.
type Met struct {
	Limit string `json:"limit"`
	// Value is what it was the last time, as of an Entry.
	Value uint64 `json:"value,omitempty"`
	// Count is how often it was met since the jail was started, Last when.
	Count uint64    `json:"count"`
	Last  time.Time `json:"last"`
}

// Met returns the limits that a jail has met since it was started, or in its last life if it
// does not run.
func (s *Store) Met(name string) (list []Met, err error) {
	err = s.Read(name, func(e *Entry) bool {
		switch e.Event {
		case JailStarted:
			list = nil
		case LimitMet:
			i := slices.IndexFunc(list, func(m Met) bool { return m.Limit == e.Limit })
			if i < 0 {
				i, list = len(list), append(list, Met{Limit: e.Limit})
			}
			list[i].Value, list[i].Count, list[i].Last = e.Value, list[i].Count+e.Count, e.Time
		}
		return true
	}, func(*Damage) {}) // Sessions names it
	return list, err
}

// at is when something happened to it last but its end.
func (s *Session) at() time.Time {
	if s.Started != nil {
		return *s.Started
	}
	return *s.Ended
}

// Sessions returns those of a jail, in the order in which they came. One that is open in the
// records, of a PID 1 that is no more, has ended unseen.
func (s *Store) Sessions(name string, damaged func(*Damage)) ([]Session, error) {
	var list []Session
	open := map[string]int{}
	var init *Init
	ends := func(i int, e *Entry) {
		t := e.Time
		list[i].State, list[i].Ended = StateEnded, &t
		list[i].Status, list[i].Signal, list[i].Millis, list[i].End = e.Status, e.Signal, e.Millis, e.End
		list[i].OutOfMemory = e.OutOfMemory
	}
	err := s.Read(name, func(e *Entry) bool {
		t := e.Time
		switch e.Event {
		case JailStarted, JailFound:
			init = e.Init
		case SessionStarted:
			open[e.Session] = len(list)
			list = append(list, Session{Jail: name, Login: e.Login, Session: e.Session, State: StateOpen, Kind: e.Kind, UID: e.UID, PID: e.PID, TTY: e.TTY,
				Started: &t, Reason: e.Reason, Command: e.Command, Caller: e.Caller})
		case SessionEnded:
			i, known := open[e.Session]
			switch {
			case known:
				delete(open, e.Session)
			case e.End != "":
				return true // said twice
			default:
				i = len(list)
				list = append(list, Session{Jail: name, Login: e.Login, Session: e.Session, Kind: e.Kind, Reason: e.Reason})
				if e.Millis != nil {
					began := t.Add(-time.Duration(*e.Millis) * time.Millisecond)
					list[i].Started = &began
				}
			}
			ends(i, e)
		case LimitMet:
			for _, i := range open {
				if s := &list[i]; !slices.Contains(s.LimitsMet, e.Limit) {
					s.LimitsMet = append(s.LimitsMet, e.Limit)
				}
			}
		case SessionRefused:
			list = append(list, Session{Jail: name, Login: e.Login, Session: e.Session, State: StateRefused, Ended: &t, Reason: e.Reason, Count: e.Count, Caller: e.Caller})
		}
		return true
	}, damaged)
	if err != nil || len(open) == 0 || init.alive() {
		return list, err
	}
	for _, i := range open {
		list[i].State, list[i].End = StateEnded, Unseen
	}
	return list, nil
}

// alive reports whether that PID 1 still runs.
func (i *Init) alive() bool {
	if i == nil {
		return false
	}
	now := initOf(i.PID)
	return now != nil && *now == *i
}

// Newest sorts sessions, the one that came last first.
func Newest(list []Session) {
	slices.SortStableFunc(list, func(a, b Session) int { return b.at().Compare(a.at()) })
}
