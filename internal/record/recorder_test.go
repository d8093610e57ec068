package record

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/event"
	"jail/internal/login"
	"jail/internal/wire"
)

// said is a log.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) add(text string) {
	s.mu.Lock()
	s.lines = append(s.lines, text)
	s.mu.Unlock()
}

func (s *said) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

func id(text string) login.ID { return login.ID([]byte(text)) }

func started(session string) *event.Event {
	return &event.Event{Kind: wire.EventStarted, At: noon, ID: id(session), HostUID: 7, Session: wire.SessionShell, UID: 1000, PID: 8, TTY: "pts/3"}
}

func ended(session string) *event.Event {
	return &event.Event{Kind: wire.EventEnded, At: noon.Add(time.Minute), ID: id(session), HostUID: 7, Status: 3, Lived: time.Minute}
}

// text is what was written, without what differs from run to run.
func text(t *testing.T, s *Store, name string) []string {
	t.Helper()
	var lines []string
	require.NoError(t, s.Read(name, func(e *Entry) bool {
		e.Init = nil
		line, err := json.Marshal(e)
		require.NoError(t, err)
		lines = append(lines, strings.TrimPrefix(string(line), `{"v":1,"time":"2026-11-28T`))
		return true
	}, func(d *Damage) { t.Error(d) }))
	return lines
}

// recorder is one at noon.
func recorder(s *Store, log *said) *Recorder {
	r := New(s, log.add, "")
	r.now = func() time.Time { return noon }
	return r
}

func TestALifeInTheRecords(t *testing.T) {
	s, log := Open(t.TempDir()), &said{}
	r := recorder(s, log)
	run := r.Run("web", os.Getpid(), false)
	tell(run, "alice", started("k7qmw2ab"))
	tell(run, "alice", ended("k7qmw2ab"))
	tell(run, "alice", &event.Event{Kind: wire.EventEnded, At: noon, ID: id("k7qmw2af"), HostUID: 7, Signal: 9, OutOfMemory: true})
	tell(run, "alice", &event.Event{Kind: wire.EventRefused, At: noon, ID: id("k7qmw2ac"), HostUID: 7, Status: 126, Text: "no"})
	tell(run, "", started("k7qmw2ad"))
	tell(run, "", &event.Event{Kind: wire.EventStarted, At: noon, Age: time.Minute, ID: id("k7qmw2ae"), HostUID: wire.NoLogin, Session: wire.SessionExec, PID: 9})
	tell(run, "", &event.Event{Kind: wire.EventLost, At: noon, Count: 3})
	run.Ended(&event.End{Signal: syscall.SIGKILL, OOM: 2, Lived: time.Hour})
	r.NotStarted("web", "it is broken\x1b[31m")
	r.Registry(RegistryFaulty, 2, "")
	r.Close()
	assert.Equal(t, []string{
		`12:00:00Z","event":"jail-started","jail":"web"}`,
		`12:00:00Z","event":"session-started","jail":"web","login":"alice","session":"k7qmw2ab","kind":"shell","uid":1000,"pid":8,"tty":"pts/3"}`,
		`12:01:00Z","event":"session-ended","jail":"web","login":"alice","session":"k7qmw2ab","kind":"shell","status":3,"duration_ms":60000}`,
		`12:00:00Z","event":"session-ended","jail":"web","login":"alice","session":"k7qmw2af","signal":9,"duration_ms":0,"out_of_memory":true}`,
		`12:00:00Z","event":"session-refused","jail":"web","login":"alice","session":"k7qmw2ac","reason":"no"}`,
		`12:00:00Z","event":"session-started","jail":"web","session":"k7qmw2ad","kind":"shell","uid":1000,"pid":8,"tty":"pts/3","reason":"of host uid 7, which is no login of this jail"}`,
		`12:00:00Z","event":"session-started","jail":"web","session":"k7qmw2ae","kind":"exec","uid":0,"pid":9,"late_ms":60000}`,
		`12:00:00Z","event":"lost","jail":"web","reason":"nobody listened to the jail","count":3}`,
		`12:00:00Z","event":"session-ended","jail":"web","session":"k7qmw2ad","kind":"shell","duration_ms":0,"end":"with-jail"}`,
		`12:00:00Z","event":"session-ended","jail":"web","session":"k7qmw2ae","kind":"exec","duration_ms":0,"end":"with-jail"}`,
		`12:00:00Z","event":"jail-ended","jail":"web","signal":9,"duration_ms":3600000,"oom_killed":2}`,
		`12:00:00Z","event":"jail-refused","jail":"web","reason":"it is broken\\x1b[31m"}`,
	}, text(t, s, "web"))
	assert.Equal(t, []string{`12:00:00Z","event":"registry-faulty","count":2}`}, text(t, s, ""))
	assert.Empty(t, log.all())
}

// TestLimitsMet: an entry has how often a limit was met since the last one, also where another
// recorder wrote that; it is counted, and said in the log once.
func TestLimitsMet(t *testing.T) {
	s, log := Open(t.TempDir()), &said{}
	r := recorder(s, log)
	var told []uint64
	r.Tell(func(e *Entry) {
		if e.Event == LimitMet {
			told = append(told, e.Count)
		}
	})
	run := r.Run("web", os.Getpid(), false)
	tell(run, "alice", started("k7qmw2ab"))
	run.Met("pids", 100, 1)
	run.Met("memory", 1<<30, 2)
	run.Met("pids", 100, 1)
	run.Met("pids", 0, 12)
	tell(run, "alice", ended("k7qmw2ab"))
	tell(run, "alice", started("k7qmw2ac"))
	r.Close()
	assert.Equal(t, []uint64{1, 2, 11}, told)
	assert.Equal(t, []string{
		`12:00:00Z","event":"limit-met","jail":"web","limit":"pids","value":100,"count":1}`,
		`12:00:00Z","event":"limit-met","jail":"web","limit":"memory","value":1073741824,"count":2}`,
		`12:00:00Z","event":"limit-met","jail":"web","limit":"pids","count":11}`,
	}, text(t, s, "web")[2:5])
	assert.Equal(t, []string{"jail web: limit met: pids 100", "jail web: limit met: memory 1.0 GiB, 2 times", "jail web: limit met: pids, 11 times"}, log.all())
	met, err := s.Met("web")
	require.NoError(t, err)
	assert.Equal(t, []Met{{"pids", 0, 12, noon}, {"memory", 1 << 30, 2, noon}}, met)
	list, err := s.Sessions("web", func(d *Damage) { t.Error(d) })
	require.NoError(t, err)
	assert.Equal(t, [][]string{{"pids", "memory"}, nil}, [][]string{list[0].LimitsMet, list[1].LimitsMet}, "who was there")

	r = recorder(s, &said{})
	run = r.Run("web", os.Getpid(), true)
	run.Met("pids", 100, 12)
	run.Met("pids", 100, 13)
	run.Met("memory", 1<<30, 5)
	r.Close()
	after := text(t, s, "web")
	assert.Equal(t, []string{
		`12:00:00Z","event":"limit-met","jail":"web","limit":"pids","value":100,"count":1}`,
		`12:00:00Z","event":"limit-met","jail":"web","limit":"memory","value":1073741824,"count":3}`,
	}, after[len(after)-2:])

	r = recorder(s, &said{})
	r.Run("web", os.Getppid(), false).Met("pids", 100, 1)
	r.Close()
	met, err = s.Met("web")
	require.NoError(t, err)
	assert.Equal(t, []Met{{"pids", 100, 1, noon}}, met, "another life begins anew")
	var none *Run
	none.Met("pids", 1, 1)
}

// TestNobodySawTheEnd: who comes after a recorder that is gone says so, and does not where
// the same PID 1 goes on.
func TestNobodySawTheEnd(t *testing.T) {
	unseen := `12:00:00Z","event":"session-ended","jail":"web","login":"alice","session":"k7qmw2ab","kind":"shell","end":"unseen"}`
	for claim, tt := range map[string]struct {
		next func(r *Recorder)
		want []string
		open bool
	}{
		"the same PID 1 is found":   {func(r *Recorder) { r.Run("web", os.Getpid(), true) }, []string{`12:00:00Z","event":"jail-found","jail":"web"}`}, true},
		"another PID 1 is found":    {func(r *Recorder) { r.Run("web", os.Getppid(), true) }, []string{unseen, `12:00:00Z","event":"jail-ended","jail":"web","end":"unseen"}`, `12:00:00Z","event":"jail-found","jail":"web"}`}, false},
		"the jail is started":       {func(r *Recorder) { r.Run("web", os.Getppid(), false) }, []string{unseen, `12:00:00Z","event":"jail-ended","jail":"web","end":"unseen"}`, `12:00:00Z","event":"jail-started","jail":"web"}`}, false},
		"nobody is there":           {func(r *Recorder) { r.Absent("web") }, []string{unseen, `12:00:00Z","event":"jail-ended","jail":"web","end":"unseen"}`}, false},
		"nobody is there, by sweep": {func(r *Recorder) { r.Sweep(func(string) bool { return false }) }, []string{unseen, `12:00:00Z","event":"jail-ended","jail":"web","end":"unseen"}`}, false},
		"it runs":                   {func(r *Recorder) { r.Sweep(func(string) bool { return true }) }, nil, true},
	} {
		s := Open(t.TempDir())
		r := recorder(s, &said{})
		run := r.Run("web", os.Getpid(), false)
		tell(run, "alice", started("k7qmw2ab"))
		tell(run, "alice", started("k7qmw2ac"))
		tell(run, "alice", ended("k7qmw2ac"))
		r.Close()
		before := text(t, s, "web")
		r = recorder(s, &said{})
		tt.next(r)
		r.Close()
		var got []string
		if after := text(t, s, "web"); len(after) > len(before) {
			got = after[len(before):]
		}
		assert.Equal(t, tt.want, got, claim)

		// And it is said once.
		r = recorder(s, &said{})
		r.Sweep(func(string) bool { return tt.open })
		r.Close()
		n := strings.Count(strings.Join(text(t, s, "web"), "\n"), `"end":"unseen"`)
		if assert.LessOrEqual(t, n, 3, claim); tt.open {
			assert.Zero(t, n, claim)
		}
	}
}

// TestOneLifeAtATime: the last words of a life come after the next one has begun.
func TestOneLifeAtATime(t *testing.T) {
	s := Open(t.TempDir())
	r := recorder(s, &said{})
	first := r.Run("web", os.Getpid(), false)
	tell(first, "alice", started("k7qmw2ab"))
	second := r.Run("web", os.Getppid(), false)
	tell(second, "alice", started("k7qmw2ac"))
	first.Ended(&event.End{})
	tell(second, "alice", ended("k7qmw2ac"))
	r.Close()
	all := strings.Join(text(t, s, "web"), "\n")
	assert.Equal(t, 1, strings.Count(all, `"session-ended","jail":"web","login":"alice","session":"k7qmw2ac"`), all)
}

// TestADiskThatIsGone: nobody waits for it, it is said once, and counted.
func TestADiskThatIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	s, log := Open(dir), &said{}
	r := recorder(s, log)
	run := r.Run("web", os.Getpid(), false)
	for n := range uint64(10) {
		tell(run, "alice", started("k7qmw2ab"))
		require.Eventually(t, func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.lost["web"] == n+2 // with the start of the jail
		}, 10*time.Second, time.Millisecond)
	}
	require.Len(t, log.all(), 1)
	assert.Contains(t, log.all()[0], "error: records cannot be written, and are lost until they can: ")

	require.NoError(t, os.Remove(dir))
	tell(run, "alice", started("k7qmw2ac"))
	require.Eventually(t, func() bool { return len(log.all()) > 1 }, 10*time.Second, time.Millisecond)
	r.Close()
	assert.Equal(t, "records are written again; an entry \"lost\" says how many are missing", log.all()[1])
	all := strings.Join(text(t, s, "web"), "\n")
	assert.Contains(t, all, `"event":"lost","jail":"web","reason":"the disk was slow, full or gone","count":11}`)
	assert.Contains(t, all, "k7qmw2ac")
}

// idle reports whether all there is has been looked at.
func idle(r *Recorder) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue) == 0 && len(r.wake) == 0
}

// TestADiskThatDoesNotAnswer: the queue has room for so many of a jail, and for another's
// besides; that the rest is lost is said once.
func TestADiskThatDoesNotAnswer(t *testing.T) {
	s, log := Open(t.TempDir()), &said{}
	require.NoError(t, s.Append("web", line(1)))
	f, err := s.openLocked(s.path("web")) // as long as this is held, writing waits
	require.NoError(t, err)
	r := recorder(s, log)
	noisy := r.Run("web", os.Getpid(), false)
	require.Eventually(t, func() bool { return idle(r) }, 10*time.Second, time.Millisecond)
	for range maxOfJail + 500 {
		tell(noisy, "alice", started("k7qmw2ab"))
	}
	quiet := r.Run("db", os.Getpid(), false)
	tell(quiet, "bob", started("k7qmw2ac"))
	require.Len(t, log.all(), 1)
	assert.Contains(t, log.all()[0], "records fall behind, and some are lost: "+s.dir)
	began := time.Now()
	r.Close()
	assert.GreaterOrEqual(t, time.Since(began), lastWait)
	f.Close()
	<-r.done
	assert.Contains(t, strings.Join(text(t, s, "db"), "\n"), "k7qmw2ac")
	var lost uint64
	require.NoError(t, s.Read("web", func(e *Entry) bool {
		if e.Event == Lost {
			lost += e.Count
		}
		return true
	}, func(*Damage) {}))
	assert.EqualValues(t, 500, lost)
}

// TestTheQueueIsBounded: all jails together have room for so much.
func TestTheQueueIsBounded(t *testing.T) {
	r := recorder(Open(t.TempDir()), &said{})
	r.Close()
	<-r.done
	r.closed = false // nobody takes anything any more
	for n := range 20 {
		run := &Run{r: r, jail: "j" + string(rune('a'+n)), open: map[login.ID]Entry{}}
		for range maxOfJail + 1 {
			tell(run, "alice", started("k7qmw2ab"))
		}
	}
	assert.Len(t, r.queue, maxQueue)
	var lost uint64
	for _, n := range r.lost {
		lost += n
	}
	assert.EqualValues(t, 20*(maxOfJail+1)-maxQueue, lost)
}

// TestALyingPID1: what one can tell neither grows without bounds nor gets a line that
// no reader reads.
func TestALyingPID1(t *testing.T) {
	s := Open(t.TempDir())
	r := recorder(s, &said{})
	run := r.Run("web", os.Getpid(), false)
	ids := login.NewIDs("web", 1)
	for range maxOpen + 10 {
		e := started("k7qmw2ab")
		e.ID = ids.Next()
		tell(run, "alice", e)
	}
	worst := event.Quote(strings.Repeat("\U0010ffff", wire.MaxText/4))
	tell(run, "alice", &event.Event{Kind: wire.EventRefused, At: noon, ID: id("k7qmw2ac"), HostUID: 7, Text: worst})
	r.Close()
	assert.Len(t, run.open, maxOpen)
	found := false
	require.NoError(t, s.Read("web", func(e *Entry) bool { found = found || e.Reason == worst; return true }, func(d *Damage) { t.Error(d) }))
	assert.True(t, found)
}

func TestSessions(t *testing.T) {
	s := Open(t.TempDir())
	r := recorder(s, &said{})
	run := r.Run("web", os.Getpid(), false)
	tell(run, "alice", ended("k7qmw2aa")) // its start is in no file any more
	tell(run, "alice", started("k7qmw2ab"))
	tell(run, "alice", ended("k7qmw2ab"))
	tell(run, "alice", started("k7qmw2ac"))
	tell(run, "bob", &event.Event{Kind: wire.EventRefused, At: noon.Add(time.Second), ID: id("k7qmw2ad"), HostUID: 8, Text: "no"})
	r.Close()
	states := func() map[string]string {
		list, err := s.Sessions("web", func(d *Damage) { t.Error(d) })
		require.NoError(t, err)
		m := map[string]string{}
		for _, x := range list {
			m[x.Session] = x.State + x.End
		}
		return m
	}
	assert.Equal(t, map[string]string{"k7qmw2aa": StateEnded, "k7qmw2ab": StateEnded, "k7qmw2ac": StateOpen, "k7qmw2ad": StateRefused}, states())
	list, err := s.Sessions("web", nil)
	require.NoError(t, err)
	assert.Equal(t, noon, *list[0].Started, "from its end and duration")
	Newest(list)
	assert.Equal(t, "k7qmw2ad", list[0].Session)

	// The PID 1 is gone, and nobody was there to say so.
	require.NoError(t, s.Append("web", (&Entry{Version: Version, Time: noon, Event: JailFound, Init: &Init{PID: os.Getpid(), Ticks: 1, Boot: "x"}}).append(nil)))
	assert.Equal(t, StateEnded+Unseen, states()["k7qmw2ac"])
}

// TestWhoLives: a process that has ended and that nobody has waited for is none.
func TestWhoLives(t *testing.T) {
	var none *Init
	assert.False(t, none.alive())
	assert.True(t, initOf(os.Getpid()).alive())
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	init := initOf(cmd.Process.Pid)
	assert.True(t, init.alive())
	require.NoError(t, in.Close())
	assert.Eventually(t, func() bool { return !init.alive() }, 10*time.Second, time.Millisecond)
	require.NoError(t, cmd.Wait())
	assert.False(t, init.alive())
}

// TestClocksThatJump: the order is that of the clock; a session ends when it ends.
func TestClocksThatJump(t *testing.T) {
	s := Open(t.TempDir())
	r := recorder(s, &said{})
	run := r.Run("web", os.Getpid(), false)
	tell(run, "alice", started("k7qmw2ab"))
	back := ended("k7qmw2ab")
	back.At = noon.Add(-time.Hour)
	tell(run, "alice", back)
	tell(run, "alice", started("k7qmw2ac"))
	r.now = func() time.Time { return noon.Add(-time.Hour) }
	run.Ended(&event.End{})
	r.Close()
	list, err := s.Sessions("web", func(d *Damage) { t.Error(d) })
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.EqualValues(t, 60000, *list[0].Millis, "what PID 1 measured, not what two times say")
	assert.EqualValues(t, 0, *list[1].Millis)
	assert.Equal(t, WithJail, list[1].End)
	Newest(list)
	assert.Equal(t, []string{"k7qmw2ab", "k7qmw2ac"}, []string{list[0].Session, list[1].Session}, "both have begun at one time")
}

// TestADayOfSessions: a thousand sessions an hour for a day, by a clock that is moved, leave
// nothing in the supervisor's memory and bounded files.
func TestADayOfSessions(t *testing.T) {
	s := Open(t.TempDir()).withMax(256 << 10)
	var mu sync.Mutex
	clock := noon
	r := New(s, func(text string) { t.Error(text) }, "")
	r.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return clock }
	run := r.Run("web", os.Getpid(), false)
	ids := login.NewIDs("web", 1)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var before uint64
	for hour := range 24 {
		for range 1000 {
			start, end := started("k7qmw2ab"), ended("k7qmw2ab")
			start.ID = ids.Next()
			end.ID, start.At, end.At = start.ID, r.now(), r.now().Add(time.Second)
			tell(run, "alice", start)
			tell(run, "alice", end)
			mu.Lock()
			clock = clock.Add(3600 * time.Millisecond)
			mu.Unlock()
			for { // the disk of a test is no slower than an hour
				r.mu.Lock()
				n := len(r.queue)
				r.mu.Unlock()
				if n < 500 {
					break
				}
				time.Sleep(time.Millisecond)
			}
		}
		require.Eventually(t, func() bool { return idle(r) }, 10*time.Second, time.Millisecond)
		if hour == 0 {
			before = heap()
		}
	}
	grown := int64(heap()) - int64(before)
	// What is kept of 48,000 events would be more.
	assert.Less(t, grown, int64(1<<20), "bytes of memory more than after the first hour")
	r.Close()
	assert.Empty(t, run.open)
	assert.Empty(t, r.held)
	list, err := s.Sessions("web", func(d *Damage) { t.Error(d) })
	require.NoError(t, err)
	assert.Greater(t, len(list), 4000)
	for i := range list {
		assert.Equal(t, StateEnded, list[i].State)
	}
}

// tell records one event of a login.
func tell(u *Run, login string, ev *event.Event) {
	u.Told(func(uint32) string { return login }, []event.Event{*ev})
}

// TestToldTogether: what a jail tells at once is recorded in order, each under its login.
func TestToldTogether(t *testing.T) {
	s := Open(t.TempDir())
	r := recorder(s, &said{})
	run := r.Run("web", os.Getpid(), false)
	bob := started("k7qmw2ac")
	bob.HostUID++
	names := map[uint32]string{bob.HostUID - 1: "alice", bob.HostUID: "bob"}
	run.Told(func(uid uint32) string { return names[uid] }, []event.Event{*started("k7qmw2ab"), *bob, *ended("k7qmw2ab")})
	r.Close()
	lines := text(t, s, "web")
	require.Len(t, lines, 4)
	assert.Contains(t, lines[1], `"login":"alice","session":"k7qmw2ab"`)
	assert.Contains(t, lines[2], `"login":"bob","session":"k7qmw2ac"`)
	assert.Contains(t, lines[3], `"session-ended"`)
}
