package record

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"jail/internal/event"
	"jail/internal/jail"
	"jail/internal/journal"
	"jail/internal/login"
	"jail/internal/sys"
	"jail/internal/wire"
)

const (
	// maxQueue is how many entries wait for the disk, and maxOfJail how many of those
	// can be of one jail: what control.Voice lets one tell at once. More are counted.
	maxQueue  = 16384
	maxOfJail = 2048
	// maxOpen is how many sessions of a jail are followed from their start to their end:
	// more than PID 1 has (maxSessions of package pid1).
	maxOpen = 1024
	// lastWait is how long Close waits for the disk.
	lastWait = time.Second
)

// Recorder writes entries beside its caller, who never waits for it. What there is no room
// for, since the disk is slow, full or gone, is counted; that is said once. A nil Recorder
// keeps nothing.
type Recorder struct {
	store *Store
	log   func(text string)
	now   func() time.Time
	wake  chan struct{}
	done  chan struct{}

	mu     sync.Mutex
	each   func(e *Entry) // nil without
	queue  []item
	queued map[string]int    // by jail
	lost   map[string]uint64 // by jail: entries there was no room for
	behind bool              // and it has been said
	closed bool

	// Of the goroutine alone.
	lines  map[string][]byte // by jail, what is to be written
	count  map[string]uint64 // and how many
	failed bool              // writing has, and it has been said

	journal    *journal.Journal // nil without
	unsent     uint64           // entries that it did not take
	unsentSaid bool             // and that has been said

	callers callers
	held    []held
}

// held is the start of a session that waits for jail-enter's word, and what else there is
// to record of the session meanwhile.
type held struct {
	key     sessionKey
	session string
	run     *Run
	entries []Entry
	until   time.Time
}

// item is an entry, or something to be done between two of them.
type item struct {
	jail  string
	run   *Run // nil of what is no run's
	entry Entry
	host  uint32 // of a session's, its login's uid
	do    func()
}

// Run is one life of a jail.
type Run struct {
	r    *Recorder
	jail string
	init *Init
	// Of the Recorder's goroutine alone.
	open map[login.ID]Entry // sessions
	met  map[string]uint64  // by limit, how often it was met

	commands atomic.Pointer[jail.Commands] // what of them is recorded
}

// New returns a Recorder that writes into store. log gets a line of what an administrator
// has to know. callers are the listeners (fdsock.ListenCaller) on which jail-enter's word is
// heard; the Recorder closes them. In runtimeDir it makes sockets for that of each login
// (fdsock.OpenCalls).
func New(store *Store, log func(text string), runtimeDir string, callers ...int) *Recorder {
	r := &Recorder{
		store: store, log: log, now: time.Now, wake: make(chan struct{}, 1), done: make(chan struct{}),
		queued: map[string]int{}, lost: map[string]uint64{}, lines: map[string][]byte{}, count: map[string]uint64{},
	}
	r.callers.fds, r.callers.dir, r.callers.refuse = callers, runtimeDir, sys.RefuseRights
	go r.write()
	return r
}

// Tell has each told of every entry from now on, also of those that there is no room for. It must
// neither wait nor record anything.
func (r *Recorder) Tell(each func(e *Entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.each = each
}

// Close has what waits written, for a second at most. There is nothing to record after it.
func (r *Recorder) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.poke()
	select {
	case <-r.done:
	case <-time.After(lastWait):
	}
}

func (r *Recorder) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// put adds an item, or counts it, and has it written.
func (r *Recorder) put(i item) {
	if r != nil {
		r.queueUp(i)
		r.poke()
	}
}

// queueUp adds an item, or counts it.
func (r *Recorder) queueUp(i item) {
	i.entry.Version, i.entry.Jail = Version, i.jail
	if i.entry.Time.IsZero() {
		i.entry.Time = r.now()
	}
	i.entry.Time = i.entry.Time.UTC().Truncate(time.Millisecond)
	r.mu.Lock()
	if r.each != nil && i.do == nil {
		r.each(&i.entry)
	}
	room := len(r.queue) < maxQueue && r.queued[i.jail] < maxOfJail && !r.closed
	say := false
	if room {
		r.queue = append(r.queue, i)
		r.queued[i.jail]++
	} else if !r.closed {
		r.lost[i.jail]++
		say = !r.behind
		r.behind = true
	}
	r.mu.Unlock()
	if say {
		r.log("records fall behind, and some are lost: " + r.store.dir + " is slow or does not answer; logins do not wait for it")
	}
}

// Run begins the records of a life of a jail, with that PID 1, or goes on with them if it
// is found running.
func (r *Recorder) Run(name string, pid int, found bool) *Run {
	if r == nil {
		return nil
	}
	u := &Run{r: r, jail: name, init: initOf(pid), open: map[login.ID]Entry{}, met: map[string]uint64{}}
	e := Entry{Event: JailStarted, Init: u.init}
	if found {
		e.Event = JailFound
	}
	r.put(item{jail: name, run: u, entry: e})
	return u
}

// Commands says what is recorded of commands from now on; nothing before that.
func (u *Run) Commands(c jail.Commands) {
	if u != nil {
		u.commands.Store(&c)
	}
}

// command is what is recorded of one.
func (u *Run) command(text string) string {
	c := u.commands.Load()
	switch {
	case c == nil:
	case *c == jail.CommandsFull:
		return clipTo(text, maxCommand)
	case *c == jail.CommandsName:
		return commandName(text)
	}
	return ""
}

// maxCommand is how much is recorded of a command, in bytes as they are written.
const maxCommand = 4096

// commandName is the program that a command begins with, without its directory. What is
// no plain word, as a variable and its value before it, may be anything, and is not recorded.
func commandName(text string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(text, " \t\n"), " ")
	name, _, _ = strings.Cut(name, "\t")
	name, _, _ = strings.Cut(name, "\n")
	name = name[strings.LastIndexByte(name, '/')+1:]
	const most = 64
	if len(name) > most || strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+-", r))
	}) {
		return ""
	}
	return name
}

// Told records what the jail's PID 1 tells. login gives a login's name by the host's own
// books, "" if it is none of the jail's. The writer is woken once.
func (u *Run) Told(login func(hostUID uint32) string, list []event.Event) {
	if u == nil {
		return
	}
	for i := range list {
		u.told(login(list[i].HostUID), &list[i])
	}
	u.r.poke()
}

// told records one event.
func (u *Run) told(name string, ev *event.Event) {
	e := Entry{Time: ev.At, Login: name, Session: ev.ID.String()}
	if ev.Age >= event.Late {
		e.LateMillis = ev.Age.Milliseconds()
	}
	switch ev.Kind {
	case wire.EventStarted:
		uid := ev.UID
		e.Event, e.Kind, e.UID, e.PID, e.TTY = SessionStarted, ev.SessionName(), &uid, ev.PID, ev.TTY
	case wire.EventEnded:
		e.Event = SessionEnded
		e.ends(int(ev.Status), int(ev.Signal), ev.Lived)
		e.OutOfMemory = ev.OutOfMemory
	case wire.EventRefused:
		e.Event, e.Reason = SessionRefused, ev.Text
	case wire.EventLost:
		e = Entry{Event: Lost, Count: ev.Count, Reason: "nobody listened to the jail"}
	default:
		return
	}
	if ev.Kind != wire.EventLost && name == "" && ev.HostUID != wire.NoLogin {
		e.Reason = strings.TrimPrefix(e.Reason+"; ", "; ") + "of host uid " + strconv.FormatUint(uint64(ev.HostUID), 10) + ", which is no login of this jail"
	}
	host := ev.HostUID
	if name == "" { // or a PID 1 that lies got the word of another jail's login
		host = wire.NoLogin
	}
	u.r.queueUp(item{jail: u.jail, run: u, entry: e, host: host})
}

// Met records that the jail has met a limit, which is value: total times since it was started, of which
// those that are recorded already are not recorded again, whoever did so.
func (u *Run) Met(limit string, value, total uint64) {
	if u == nil {
		return
	}
	at := u.r.now().UTC().Truncate(time.Millisecond)
	u.r.put(item{jail: u.jail, run: u, do: func() {
		n := total - min(total, u.met[limit])
		if n == 0 {
			return
		}
		u.met[limit] = total
		e := Entry{Time: at, Event: LimitMet, Jail: u.jail, Limit: limit, Value: value, Count: n}
		u.r.mu.Lock()
		each := u.r.each
		u.r.mu.Unlock()
		if each != nil {
			each(&e)
		}
		if !u.r.InJournal() { // or it would be there twice
			u.r.log(e.Words())
		}
		u.r.add(u.jail, &e)
	}})
}

// Ended records how the jail has ended, and that its sessions have. It is called once,
// after all that the jail has told.
func (u *Run) Ended(end *event.End) {
	if u == nil {
		return
	}
	e := Entry{Event: JailEnded, Reason: end.Reason, OOM: end.OOM}
	e.ends(end.Status, int(end.Signal), end.Lived)
	u.r.put(item{jail: u.jail, run: u, entry: e})
}

func (e *Entry) ends(status, signal int, lived time.Duration) {
	if e.Signal = signal; signal == 0 {
		e.Status = &status
	}
	ms := lived.Milliseconds()
	e.Millis = &ms
}

// NotStarted records that a jail could not be started.
func (r *Recorder) NotStarted(name, why string) {
	r.put(item{jail: name, entry: Entry{Event: JailRefused, Reason: clip(why)}})
}

// Refused records that n connections of a login found no jail behind its socket.
func (r *Recorder) Refused(name, login, id string, n int, why string) {
	r.put(item{jail: name, entry: Entry{Event: SessionRefused, Login: login, Session: id, Count: uint64(n), Reason: clip(why)}})
}

// Registry records what has come of reading the registry: event is one of its events,
// faults how many.
func (r *Recorder) Registry(event Event, faults int, why string) {
	r.put(item{entry: Entry{Event: event, Count: uint64(faults), Reason: clip(why)}})
}

// Absent ends, in the records, what seemed to go on in a jail that does not run.
func (r *Recorder) Absent(name string) {
	r.put(item{jail: name, do: func() { r.abandon(name, r.load(name)) }})
}

// Sweep ends, in the records, what seemed to go on when somebody last looked, of the jails
// that do not run: whoever wrote the records was gone before them.
func (r *Recorder) Sweep(runs func(name string) bool) {
	r.put(item{do: func() {
		names, err := r.store.Jails()
		if err != nil {
			r.log("records: " + err.Error())
		}
		for _, name := range names {
			if e, ok := r.store.last(name); ok && e.Event == JailEnded || runs(name) {
				continue
			}
			r.abandon(name, r.load(name))
			r.flush()
		}
	}})
}

// write is the goroutine.
func (r *Recorder) write() {
	defer close(r.done)
	defer r.callers.close()
	for {
		if len(r.held) == 0 {
			<-r.wake
		} else {
			select {
			case <-r.wake:
			case <-time.After(heldFor / 4):
			}
		}
		r.mu.Lock()
		queue, lost, closed := r.queue, r.lost, r.closed
		r.queue, r.queued, r.lost, r.behind = nil, map[string]int{}, map[string]uint64{}, false
		r.mu.Unlock()
		for i := range queue {
			r.record(&queue[i])
		}
		r.release(closed)
		for name, n := range lost {
			r.add(name, &Entry{Event: Lost, Count: n, Reason: "the disk was slow, full or gone"})
			r.count[name] += n - 1 // should this be lost as well
		}
		r.flush()
		if closed {
			return
		}
	}
}

// record makes lines of an item.
func (r *Recorder) record(i *item) {
	e := &i.entry
	switch {
	case i.do != nil:
		i.do()
		return
	case i.run == nil:
	case e.Event == JailStarted:
		r.abandon(i.jail, r.load(i.jail))
	case e.Event == JailFound:
		if was := r.load(i.jail); was.init != nil && i.run.init != nil && *was.init == *i.run.init {
			i.run.open, i.run.met = was.open, was.met
		} else {
			r.abandon(i.jail, was)
		}
	case e.Event == SessionStarted:
		if len(i.run.open) < maxOpen {
			i.run.open[login.ID([]byte(e.Session))] = *e
		}
		if r.hold(i) {
			return
		}
	case e.Event == SessionEnded:
		id := login.ID([]byte(e.Session))
		if start, ok := i.run.open[id]; ok {
			e.Kind = start.Kind
			delete(i.run.open, id)
		}
		for h := range r.held {
			if h := &r.held[h]; h.run == i.run && h.session == e.Session {
				h.entries = append(h.entries, *e)
				return
			}
		}
	case e.Event == JailEnded:
		r.releaseRun(i.run)
		r.callers.forgetRun(i.run)
		r.end(i.jail, i.run.open, e.Time, WithJail)
		clear(i.run.open)
	}
	r.add(i.jail, e)
}

// hold keeps the start of a session of a login back until jail-enter has said who called,
// and reports whether it does. If that has been said, it adds it to the entry.
func (r *Recorder) hold(i *item) bool {
	if len(r.callers.fds) == 0 || i.entry.LateMillis > 0 {
		return false
	}
	key := sessionKey{uid: i.host, pid: i.entry.PID}
	if i.host == wire.NoLogin {
		key.jail = i.jail
	}
	now := r.now()
	if join(r.callers.find(key, i.run, now), i.run, &i.entry) || len(r.held) >= maxOpen {
		return false
	}
	r.held = append(r.held, held{key, i.entry.Session, i.run, []Entry{i.entry}, now.Add(heldFor)})
	return true
}

// join adds to the start of a session what is known of who called it, and reports whether
// that is anything.
func join(w *word, run *Run, e *Entry) bool {
	if w != nil {
		e.Caller, e.Command = &w.caller, run.command(w.command)
	}
	return w != nil
}

// release writes of what is held that which has its word, or has waited long enough.
func (r *Recorder) release(all bool) {
	if len(r.held) == 0 {
		return
	}
	now := r.now()
	r.callers.listen(now)
	kept := r.held[:0]
	for i := range r.held {
		h := &r.held[i]
		r.callers.read(h.key.uid, now)
		if !join(r.callers.take(h.key), h.run, &h.entries[0]) && !all && now.Before(h.until) && h.until.Sub(now) <= heldFor {
			kept = append(kept, *h)
			continue
		}
		r.letGo(h)
	}
	clear(r.held[len(kept):])
	r.held = kept
}

// releaseRun writes what is held of one run.
func (r *Recorder) releaseRun(run *Run) {
	kept := r.held[:0]
	for i := range r.held {
		if h := &r.held[i]; h.run == run {
			join(r.callers.take(h.key), h.run, &h.entries[0])
			r.letGo(h)
		} else {
			kept = append(kept, *h)
		}
	}
	clear(r.held[len(kept):])
	r.held = kept
}

func (r *Recorder) letGo(h *held) {
	for i := range h.entries {
		r.add(h.run.jail, &h.entries[i])
	}
}

// life is what a jail's records say of its last life.
type life struct {
	init *Init
	over bool
	open map[login.ID]Entry
	met  map[string]uint64
}

// load reads it.
func (r *Recorder) load(name string) life {
	l := life{over: true, open: map[login.ID]Entry{}, met: map[string]uint64{}}
	if e, ok := r.store.last(name); ok && e.Event == JailEnded {
		return l
	}
	// What cannot be read can hardly be written, which is said.
	_ = r.store.Read(name, func(e *Entry) bool {
		switch e.Event {
		case JailStarted, JailFound:
			if l.init, l.over = e.Init, false; e.Event == JailStarted {
				clear(l.met)
			}
		case LimitMet:
			l.met[e.Limit] += e.Count
		case JailEnded:
			l.init, l.over = nil, true
			clear(l.open)
		case SessionStarted, SessionEnded:
			id, ok := idOf(e.Session)
			if !ok {
				break
			}
			if e.Event == SessionEnded {
				delete(l.open, id)
			} else if len(l.open) < maxOpen {
				l.open[id] = *e
			}
		}
		return true
	}, func(*Damage) {})
	return l
}

func idOf(text string) (id login.ID, ok bool) {
	if len(text) != len(id) {
		return id, false
	}
	id = login.ID([]byte(text))
	return id, id.Valid()
}

// abandon records that what a life has left has ended unseen.
func (r *Recorder) abandon(name string, l life) {
	now := r.now().UTC().Truncate(time.Millisecond)
	r.end(name, l.open, now, Unseen)
	if !l.over {
		r.add(name, &Entry{Time: now, Event: JailEnded, End: Unseen, Init: l.init})
	}
}

// end records the end of sessions that nobody has seen end.
func (r *Recorder) end(name string, open map[login.ID]Entry, at time.Time, how string) {
	list := make([]Entry, 0, len(open))
	for _, start := range open {
		list = append(list, start)
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Session, b.Session)) })
	for i := range list {
		start := &list[i]
		e := Entry{Time: at, Event: SessionEnded, Login: start.Login, Session: start.Session, Kind: start.Kind, End: how}
		if how == WithJail {
			ms := max(at.Sub(start.Time), 0).Milliseconds()
			e.Millis = &ms
		}
		r.add(name, &e)
	}
}

// add adds an entry to what is to be written.
func (r *Recorder) add(name string, e *Entry) {
	if e.Version, e.Jail = Version, name; e.Time.IsZero() {
		e.Time = r.now().UTC().Truncate(time.Millisecond)
	}
	r.lines[name] = e.append(r.lines[name])
	r.count[name]++
	r.tellJournal(e)
}

// flush writes what is to be written. What cannot be is lost.
func (r *Recorder) flush() {
	for name, lines := range r.lines {
		n := r.count[name]
		err := r.store.Append(name, lines)
		if err == nil {
			if r.failed {
				r.failed = false
				r.log(`records are written again; an entry "lost" says how many are missing`)
			}
			continue
		}
		if !r.failed {
			r.failed = true
			r.log("error: records cannot be written, and are lost until they can: " + err.Error())
		}
		r.mu.Lock()
		r.lost[name] += n // and is said with the next ones
		r.mu.Unlock()
	}
	clear(r.lines)
	clear(r.count)
}

// initOf says which process a PID 1 is; nil if it cannot be known.
func initOf(pid int) *Init {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil
	}
	ticks, err := startTicks(pid)
	if err != nil {
		return nil
	}
	return &Init{pid, ticks, strings.TrimSpace(string(boot))}
}

// startTicks is when a process started (proc_pid_stat(5), field 22). One that has ended has
// none, although nobody has waited for it.
func startTicks(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name may have anything in it, but nothing after it has a bracket.
	fields := strings.Fields(string(text[max(strings.LastIndexByte(string(text), ')'), 0):]))
	if len(fields) < 21 {
		return 0, errors.New("its stat file has too few fields")
	}
	if fields[1] == "Z" || fields[1] == "X" {
		return 0, errors.New("it has ended")
	}
	return strconv.ParseUint(fields[20], 10, 64)
}

// clip keeps a text of ours or of the registry's to what a line has room for.
func clip(text string) string {
	return clipTo(text, 1000)
}

// clipTo keeps a text to so many bytes as it is written. One that was longer ends with "...".
func clipTo(text string, most int) string {
	const more = "..."
	long := len(text) > most
	q := event.Quote(text[:min(len(text), most)])
	if long || len(q) > most {
		q = q[:min(len(q), most-len(more))] + more
	}
	return q
}
