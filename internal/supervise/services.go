package supervise

import (
	"strconv"
	"time"

	"jail/internal/jail"
)

// Times of services, in milliseconds.
const (
	// ServicePauseMax is the longest pause before a service is started again, unless its
	// registry wants a longer one.
	ServicePauseMax = 60_000
	// ServiceStable is how long a service has to run for its next end not to count as one
	// more failure in a row.
	ServiceStable = 60_000
)

// ServiceKind says what has happened to the services of a jail.
type ServiceKind uint8

// What happens. All but the first three are of the service Index.
const (
	JailStarted    ServiceKind = iota // its first process answers, and nothing else runs
	JailFound                         // it runs from before: its services may
	JailEnds                          // it ends or has ended: nothing is started any more
	ServiceBegun                      // it runs; Found says that it did already
	ServiceNone                       // it has never run in this jail, as far as PID 1 knows
	ServiceEnded                      // with Status, or of Signal
	ServiceRefused                    // it could not be started; Text says why
	ServiceLost                       // nobody answers; Text says what came of asking
	ServiceClock                      // Due has come
)

// ServiceEvent is one thing that has happened.
type ServiceEvent struct {
	Kind           ServiceKind
	Index          int
	Found          bool
	PID            uint32
	Status, Signal uint8
	// OutOfMemory says that the kernel has killed it, or a process of it, for want of
	// memory, of ServiceEnded.
	OutOfMemory bool
	Text        string
}

// ServiceDo is something for the caller to do.
type ServiceDo uint8

// The actions.
const (
	FindService  ServiceDo = iota // ask what there is of the service Index; answer Begun, Ended, None or Lost
	StartService                  // start it; answer Begun, Refused or Lost
	LogService                    // write Text to the log
)

// ServiceAction is one thing to do.
type ServiceAction struct {
	Do    ServiceDo
	Index int
	Text  string
}

// serviceState is what a service is doing.
type serviceState uint8

const (
	serviceWaits serviceState = iota // for its turn
	serviceAsked                     // and no answer yet
	serviceRuns
	servicePauses // until due
	serviceOver   // it is not started again
)

// Services is the state machine of the services of one jail. They are started in the order
// of their list: each when the one before it runs, or could not be started.
type Services struct {
	list  []oneService
	found bool // the jail runs from before
	ends  bool
}

type oneService struct {
	jail.Service
	state    serviceState
	find     bool // ask before it is started
	silent   bool // the log says that nobody answers
	failures int
	since    int64
	due      int64
}

// NewServices makes the machine of these services. Nothing is started before the jail is.
func NewServices(list []jail.Service) *Services {
	s := &Services{list: make([]oneService, len(list))}
	for i := range list {
		s.list[i].Service = list[i]
	}
	return s
}

// Due is when the services want ServiceClock, 0 if they do not.
func (s *Services) Due() int64 {
	var due int64
	for i := range s.list {
		if at := s.list[i].due; s.list[i].state == servicePauses && (due == 0 || at < due) {
			due = at
		}
	}
	return due
}

// Step takes in one event and appends what is to be done about it to out. An event that
// makes no sense in the state a service is in changes nothing.
func (s *Services) Step(now int64, ev ServiceEvent, out []ServiceAction) []ServiceAction {
	switch ev.Kind {
	case JailStarted, JailFound:
		s.found = ev.Kind == JailFound
		return s.next(out)
	case JailEnds:
		s.ends = true
		for i := range s.list {
			if s.list[i].state != serviceRuns {
				s.list[i].state = serviceOver
			}
		}
		return out
	case ServiceClock:
		for i := range s.list {
			if one := &s.list[i]; one.state == servicePauses && now >= one.due {
				out = s.ask(i, out)
			}
		}
		return out
	}
	one := &s.list[ev.Index]
	first := one.state == serviceAsked
	if one.state != serviceAsked && one.state != serviceRuns {
		return out
	}
	say := func(text string) {
		out = append(out, ServiceAction{LogService, ev.Index, "service " + one.Name + " " + text})
	}
	switch ev.Kind {
	case ServiceBegun:
		one.state, one.since, one.silent, one.find = serviceRuns, now, false, false
		how := "started: pid "
		if ev.Found {
			how = "runs already: pid "
		}
		say(how + strconv.FormatUint(uint64(ev.PID), 10))
	case ServiceNone:
		one.find = false
		if s.ends {
			one.state = serviceOver
			return out
		}
		return append(out, ServiceAction{StartService, ev.Index, ""})
	case ServiceEnded:
		one.silent, one.find = false, false
		text := "ended: status " + strconv.Itoa(int(ev.Status))
		if ev.Signal != 0 {
			text = "ended: signal " + strconv.Itoa(int(ev.Signal))
		}
		if ev.OutOfMemory {
			text += " (out of memory)"
		}
		if one.state == serviceRuns {
			lived := now - one.since
			text += " after " + (time.Duration(lived) * time.Millisecond).String()
			if lived >= ServiceStable {
				one.failures = 0
			}
		}
		again := one.Restart == jail.RestartAlways || one.Restart == jail.RestartOnFailure && (ev.Status != 0 || ev.Signal != 0)
		s.pause(now, one, again, &text)
		say(text)
	case ServiceRefused:
		text := "cannot be started: " + ev.Text
		s.pause(now, one, one.Restart != jail.RestartNo, &text)
		say(text)
	case ServiceLost:
		// It may run all the same: it is asked for, not started.
		text := "cannot be seen: " + ev.Text
		s.pause(now, one, true, &text)
		one.find = true
		if !one.silent {
			say(text)
		}
		one.silent = true
	}
	if first {
		return s.next(out)
	}
	return out
}

// pause decides what becomes of a service that does not run, and adds that to text.
func (s *Services) pause(now int64, one *oneService, again bool, text *string) {
	if !again || s.ends {
		one.state = serviceOver
		return
	}
	first := one.Backoff.Milliseconds()
	pause := first
	for n := 0; n < one.failures && pause < ServicePauseMax; n++ {
		pause *= 2
	}
	if pause > ServicePauseMax {
		pause = max(ServicePauseMax, first)
	}
	one.failures++
	one.state, one.due = servicePauses, now+pause
	*text += ", next start in " + (time.Duration(pause) * time.Millisecond).String()
}

// next starts the first service whose turn has not come.
func (s *Services) next(out []ServiceAction) []ServiceAction {
	for i := range s.list {
		if s.list[i].state == serviceWaits && !s.ends {
			s.list[i].find = s.found
			return s.ask(i, out)
		}
	}
	return out
}

func (s *Services) ask(i int, out []ServiceAction) []ServiceAction {
	s.list[i].state = serviceAsked
	do := StartService
	if s.list[i].find {
		do = FindService
	}
	return append(out, ServiceAction{do, i, ""})
}
