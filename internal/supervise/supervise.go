// Package supervise is what a supervisor of jails decides, without doing any of it: a
// state machine for each jail, the deadlines of all of them, and what a PID 1 has still
// to be told. "jail-init serve" and "jail-init run" put sockets and processes around it.
//
// Nothing here makes a system call, waits, or looks at a clock: times are milliseconds
// of the caller's, which may start anywhere but must not go back. A step takes as long
// for the ten thousandth jail as for the first, and what a jail can make its machine
// remember is a few words.
package supervise

import "strconv"

// Times, in milliseconds.
const (
	// BackoffMin and BackoffMax bound the pause after failed starts of one jail.
	BackoffMin = 1_000
	BackoffMax = 30_000
	// Grace is what the processes of a jail get to end by themselves.
	Grace = 5_000
	// KillAfter is when a jail that was told to end is killed: Grace, and what PID 1
	// gets on top of that to end them.
	KillAfter = Grace + 5_000
	// EndWait is how long the kernel may take to end a jail whose PID 1 is no more,
	// before its logins are refused instead of waiting.
	EndWait = 10_000
	// StartsAtOnce is how many times a jail may be started for logins, one start after the
	// other has ended, and StartEvery how long it takes until one more is allowed. A jail can
	// end as often as it likes, and its clients connect again; each start is the host's
	// work. Who waits for the next one is not refused.
	StartsAtOnce = 200
	StartEvery   = 200
	// CrowdedFor is the pause when there was no room to refuse all who wait.
	CrowdedFor = 1_000
	// Stable is how long a jail has to run for its next crash not to count as one more in
	// a row.
	Stable = 60_000
)

// State is what a jail is doing.
type State uint8

// The states.
const (
	Stopped  State = iota
	Starting       // or it is being found out whether it runs already
	Running
	Ending // PID 1 is no more, and the kernel cannot end what else is in the jail
)

// Standing is what the registry says of a jail. It decides whether the jail may start,
// and nothing about one that runs.
type Standing uint8

// The values of Standing.
const (
	InForce Standing = iota
	Faulty           // its entry has a fault: out of service
	Removed          // it has no entry any more
)

// Kind says what has happened to a jail.
type Kind uint8

// What happens.
const (
	Connected Kind = iota // somebody waits on the socket of one of its logins
	Wanted                // it is to run without a login
	Sought                // it may run since before: somebody looks
	Started               // it runs
	Absent                // it was sought and does not run
	Failed                // it could not be started; Text says why
	Gone                  // PID 1 is gone, and with it every process of the jail
	Lost                  // PID 1 has closed its connection
	Exiting               // PID 1, looked at, is coming to its end; Text says what remains
	Living                // PID 1, looked at, is not
	Clock                 // Due has come
	Judged                // the registry has changed; Standing is the new one
	StopAsked             // end it; asked once more, at once
	Closing               // end it, and start it no more: the supervisor ends
	Crashed               // its PID 1 is gone without having said why; Lived is how long it ran, in milliseconds
	Crowded               // not all who wait could be refused, or watched for
)

// Event is one thing that has happened.
type Event struct {
	Kind     Kind
	Standing Standing
	Text     string
	Lived    int64
	// Busy says of a failed start that the jail may be had any moment: something
	// else runs on its rootfs.
	Busy bool
}

// Do is something for the caller to do.
type Do uint8

// The actions.
const (
	Start    Do = iota // start the jail, with its listeners; answer Started or Failed
	Refuse             // refuse everybody who waits on its sockets; Text is why
	Watch              // say when somebody waits on one of them
	Unwatch            // leave them alone
	Renew              // replace them: their PID 1 has had them
	TellStop           // tell PID 1 to end the jail
	Kill               // kill PID 1
	Look               // look whether PID 1 is coming to its end; answer Exiting or Living
	Forget             // the jail is over: close what was its, remove what it left
	Log                // write the jail's name and Text to the log
)

// Action is one thing to do, in the order of the list it is in.
type Action struct {
	Do   Do
	Text string
}

// Jail is the state machine of one jail. The zero value is a stopped jail in force
// whose sockets nobody watches; Watch comes with its first step.
type Jail struct {
	State    State
	Standing Standing
	// Keep is the registry's word that the jail is to run without a login: it is started
	// again when it has crashed, or could not be started.
	Keep bool

	watching  bool
	closing   bool
	stopping  bool // to be ended, or told to
	killed    bool
	failures  int
	notBefore int64 // the next start
	paidOff   int64 // when no start until now counts any more
	why       string

	crashes int

	crowded, lookAt, killAt, wantAt int64 // deadlines; 0 is none
}

// Stopping reports whether the jail has been told to end, or will be.
func (j *Jail) Stopping() bool { return j.stopping }

// Watching reports whether somebody who waits on a socket of the jail is the
// supervisor's concern.
func (j *Jail) Watching() bool { return j.watching }

// Over reports whether the jail can be forgotten: it is not in the registry, and
// nothing of it runs.
func (j *Jail) Over() bool { return j.Standing == Removed && j.State == Stopped }

// Due is when the jail wants Clock, 0 if it does not.
func (j *Jail) Due() int64 {
	var due int64
	for _, at := range [...]int64{j.crowded, j.lookAt, j.killAt, j.wantAt} {
		if at != 0 && (due == 0 || at < due) {
			due = at
		}
	}
	return due
}

// Step takes in one event and appends what is to be done about it to out. An event
// that makes no sense in the state the jail is in, as one that has been overtaken
// does not, changes nothing.
func (j *Jail) Step(now int64, ev Event, out []Action) []Action {
	do := func(d Do, text string) { out = append(out, Action{d, text}) }
	switch ev.Kind {
	case Connected:
		switch {
		case !j.watching: // it was seen before the sockets were given away
		case j.State == Ending:
			do(Refuse, "a process of it cannot be killed")
		case now < j.notBefore:
			do(Refuse, j.why)
		case j.paidOff-now > (StartsAtOnce-1)*StartEvery:
			j.crowded = j.paidOff - (StartsAtOnce-1)*StartEvery
		default:
			j.paidOff = max(j.paidOff, now) + StartEvery
			j.start(do)
		}
	case Wanted:
		if j.State == Stopped && now >= j.notBefore && !j.closing {
			j.start(do)
		}
	case Sought:
		if j.State == Stopped {
			j.State = Starting
		}
	case Started:
		if j.State == Starting {
			j.State, j.failures, j.notBefore, j.wantAt = Running, 0, 0, 0
			if j.stopping || j.Standing != InForce {
				j.stop(now, do)
			}
		}
	case Absent:
		if j.State == Starting {
			j.State, j.stopping = Stopped, false
		}
	case Failed:
		if j.State == Starting {
			j.failed(now, ev, do)
		}
	case Gone:
		if j.State == Running || j.State == Ending {
			do(Forget, "")
			if j.State == Running {
				do(Renew, "")
			}
			j.State, j.stopping, j.killed, j.lookAt, j.killAt = Stopped, false, false, 0, 0
		}
	case Crashed:
		if j.State == Stopped && j.Keep && !j.closing {
			if ev.Lived >= Stable {
				j.crashes = 0
			}
			pause := min(int64(BackoffMin)<<j.crashes, BackoffMax)
			j.crashes = min(j.crashes+1, 5)
			j.wantAt = now + pause
			do(Log, " is started again in "+strconv.FormatInt(pause/1000, 10)+"s")
		}
	case Lost:
		if j.State == Running && j.lookAt == 0 {
			j.lookAt = now + EndWait
		}
	case Exiting:
		if j.State == Running {
			j.hangs(ev.Text, do)
		}
	case Living:
		switch {
		case j.State != Running:
		case j.killed:
			j.hangs("its PID 1 cannot be killed", do)
		default:
			do(Log, ": its PID 1 has ended the connection but lives on: what it says is lost, and changes of its logins are not heard")
		}
	case Clock:
		j.clock(now, do)
	case Judged:
		j.Standing = ev.Standing
	case StopAsked:
		j.stop(now, do)
	case Closing:
		j.stop(now, do)
		j.closing = true
	case Crowded:
		if j.watching {
			j.crowded = now + CrowdedFor
		}
	}
	// One place decides whether the sockets are watched. A jail that starts or runs
	// has given them away.
	watch := (j.State == Stopped || j.State == Ending) && !j.closing && j.crowded == 0
	if watch && !j.watching {
		do(Watch, "")
	} else if !watch && j.watching {
		do(Unwatch, "")
	}
	j.watching = watch
	return out
}

func (j *Jail) start(do func(Do, string)) {
	if j.Standing == InForce {
		j.State = Starting
		// Who starts it copies the listeners: they are to be out of the way before.
		if j.watching {
			do(Unwatch, "")
			j.watching = false
		}
		do(Start, "")
	}
}

// failed deals with a start that came to nothing: everybody who waits is told, and
// the next try is not before a while.
func (j *Jail) failed(now int64, ev Event, do func(Do, string)) {
	j.State, j.stopping, j.why = Stopped, false, ev.Text
	pause := int64(BackoffMax)
	if j.failures < 5 {
		pause = min(int64(BackoffMin)<<j.failures, BackoffMax)
	}
	j.failures = min(j.failures+1, 5)
	j.notBefore = now + pause
	if ev.Busy {
		j.notBefore, pause = 0, 0
	}
	if j.Keep && !j.closing {
		j.wantAt = now + max(pause, BackoffMin)
	}
	do(Log, ": start failed, next try in "+strconv.FormatInt(pause/1000, 10)+"s at the earliest: "+ev.Text)
	do(Refuse, ev.Text)
}

// stop ends a jail that runs, or is about to. Who asks again is impatient.
func (j *Jail) stop(now int64, do func(Do, string)) {
	switch {
	case j.State == Starting:
		j.stopping = true
	case j.State != Running:
	case j.killed || j.killAt != 0:
		j.kill(now, do)
	default:
		j.stopping, j.killAt = true, now+KillAfter
		do(TellStop, "")
	}
}

// kill kills a PID 1 that does not listen, and everything with it. That takes effect
// when everything in the jail has ended, and a process that waits for a dead file
// system does not.
func (j *Jail) kill(now int64, do func(Do, string)) {
	j.killed, j.killAt, j.lookAt = true, 0, now+EndWait
	do(Kill, "")
}

// hangs refuses the logins of a jail that the kernel cannot end: they would wait for
// ever.
func (j *Jail) hangs(why string, do func(Do, string)) {
	j.State, j.lookAt, j.killAt = Ending, 0, 0
	do(Log, " does not end: "+why+"; its logins are refused until it has")
	do(Renew, "")
}

func (j *Jail) clock(now int64, do func(Do, string)) {
	if j.crowded != 0 && now >= j.crowded {
		j.crowded = 0
	}
	if j.killAt != 0 && now >= j.killAt {
		j.kill(now, do)
	}
	if j.wantAt != 0 && now >= j.wantAt {
		if j.wantAt = 0; j.State == Stopped && j.Keep && !j.closing {
			j.start(do)
		}
	}
	if j.lookAt != 0 && now >= j.lookAt {
		j.lookAt = 0
		do(Look, "")
	}
}
