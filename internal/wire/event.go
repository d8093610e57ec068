package wire

// Events are what PID 1 tells the host about what happens in the jail. They go only to
// who has asked for them with FlagWantEvents, several to a packet.

// FlagWantEvents in a Hello asks for the jail's events from then on, among them those
// that were kept while nobody listened. The last one who asks gets them. A PID 1 of
// before 2026-11-28 does not know it, and says nothing.
const FlagWantEvents uint16 = 1 << 1

// FlagWantOOM in a Hello that asks for events says that EventEndedOOM is known. A serve of
// before 2026-11-29 does not say so.
const FlagWantOOM uint16 = 1 << 3

const (
	// MaxEvents is the longest TypeEvents packet, in bytes.
	MaxEvents = 4096
	// MaxEvent is the longest event in it: a refusal whose text has MaxText bytes.
	MaxEvent = 1 + IDLen + 4 + 8 + 1 + 5 + MaxText
	// NoLogin is the host uid of a session that is no login's but the administrator's.
	// No user has it: it is what setuid(2) takes for no change.
	NoLogin = 1<<32 - 1
	// NoTTY is the terminal's number of a session without one.
	NoTTY = 1<<32 - 1
)

// EventKind says what has happened.
type EventKind uint8

// The kinds of events.
const (
	EventStarted EventKind = 1 // a session
	EventEnded   EventKind = 2 // a session
	EventRefused EventKind = 3 // a session, which there is not
	EventEnding  EventKind = 4 // the jail, by PID 1's own decision: the last one
	EventLost    EventKind = 5 // events before this one that were not kept
	// EventEndedOOM is an EventEnded whose OutOfMemory is true, on the wire. It goes only to who
	// has asked for it with FlagWantOOM: others get an EventEnded.
	EventEndedOOM EventKind = 6
)

// SessionKind says what a session is for.
type SessionKind uint8

// The kinds of sessions.
const (
	SessionShell   SessionKind = 1
	SessionCommand SessionKind = 2
	SessionSFTP    SessionKind = 3
	SessionExec    SessionKind = 4 // the administrator's
	SessionProof   SessionKind = 5 // of a login, by "jail doctor"
)

// EndWhy says why a jail ends.
type EndWhy uint8

// Why a jail ends.
const (
	EndIdle EndWhy = 1
	EndTold EndWhy = 2
)

// Event is one event. Which fields are there depends on Kind.
type Event struct {
	Kind EventKind
	// At is when it happened, in milliseconds of CLOCK_BOOTTIME (clock_gettime(2)), which
	// is the same in a jail and does not jump; of all but EventLost.
	At uint64
	// ID is the session's; HostUID its login's, or NoLogin. Of EventStarted,
	// EventEnded and EventRefused.
	ID      [IDLen]byte
	HostUID uint32
	// Session, UID (inside), TTY (the N of pts/N, or NoTTY) and PID (inside) are of
	// EventStarted.
	Session       SessionKind
	UID, TTY, PID uint32
	// Status is the exit status, of EventEnded and EventRefused; Signal what has killed
	// the session, or 0, and Millis how long it lived, of EventEnded.
	Status, Signal uint8
	Millis         uint64
	// OutOfMemory says that the kernel has killed a process of it for want of memory, of
	// EventEnded.
	OutOfMemory bool
	// Text is why, of EventRefused.
	Text string
	// Why is of EventEnding.
	Why EndWhy
	// Count is how many, of EventLost; not 0.
	Count uint64
}

// AppendEvents begins a packet of events.
func AppendEvents(dst []byte) []byte { return header(dst, TypeEvents, 0) }

// AppendEvent adds an event to a packet. It is the caller's to keep to MaxEvents.
func AppendEvent(dst []byte, e *Event) []byte {
	kind := e.Kind
	if kind == EventEnded && e.OutOfMemory {
		kind = EventEndedOOM
	}
	dst = append(dst, byte(kind))
	if e.Kind == EventLost {
		return putU64(dst, e.Count)
	}
	dst = putU64(dst, e.At)
	if e.Kind == EventEnding {
		return append(dst, byte(e.Why))
	}
	dst = putU32(append(dst, e.ID[:]...), e.HostUID)
	switch e.Kind {
	case EventStarted:
		dst = putU32(putU32(putU32(append(dst, byte(e.Session)), e.UID), e.TTY), e.PID)
	case EventEnded:
		dst = putU64(append(dst, e.Status, e.Signal), e.Millis)
	case EventRefused:
		dst = putString(append(dst, e.Status), clip(e.Text))
	}
	return dst
}

// DecodeEvents decodes the body of a TypeEvents packet and appends its events, at least
// one, to dst. With an error there are none.
func DecodeEvents(body []byte, dst []Event) ([]Event, error) {
	if len(body) == 0 || HeaderLen+len(body) > MaxEvents {
		return dst, ErrMalformed
	}
	in, got := reader{b: body}, dst
	for len(in.b) > 0 && !in.bad {
		got = append(got, in.event())
	}
	if err := in.done(); err != nil {
		return dst, err
	}
	return got, nil
}

func (r *reader) event() (e Event) {
	e.Kind = EventKind(r.u8())
	switch e.Kind {
	case EventLost:
		e.Count = r.u64()
		r.bad = r.bad || e.Count == 0
		return e
	case EventEnding:
		e.At, e.Why = r.u64(), EndWhy(r.u8())
		r.bad = r.bad || e.Why < EndIdle || e.Why > EndTold
		return e
	case EventStarted, EventEnded, EventRefused:
	case EventEndedOOM:
		e.Kind, e.OutOfMemory = EventEnded, true
	default:
		r.bad = true
		return e
	}
	e.At = r.u64()
	copy(e.ID[:], r.take(IDLen))
	e.HostUID = r.u32()
	switch e.Kind {
	case EventStarted:
		e.Session, e.UID, e.TTY, e.PID = SessionKind(r.u8()), r.u32(), r.u32(), r.u32()
		r.bad = r.bad || e.Session < SessionShell || e.Session > SessionProof || (e.Session == SessionExec) != (e.HostUID == NoLogin)
	case EventEnded:
		e.Status, e.Signal, e.Millis = r.u8(), r.u8(), r.u64()
		r.bad = r.bad || e.Signal > 64 || e.Signal != 0 && e.Status != 0
	case EventRefused:
		e.Status, e.Text = r.u8(), r.str(MaxText)
	}
	return e
}
