package supervise

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

var doNames = map[Do]string{
	Start: "start", Refuse: "refuse", Watch: "watch", Unwatch: "unwatch", Renew: "renew", TellStop: "tell stop",
	Kill: "kill", Look: "look", Forget: "forget", Log: "log",
}

func text(actions []Action) string {
	var words []string
	for _, a := range actions {
		word := doNames[a.Do]
		if a.Do == Refuse {
			word += " (" + a.Text + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// step is an event at a time, what is to be done about it, and the state after it.
type step struct {
	at    int64
	event Event
	want  string
	state State
	due   int64
}

func ev(k Kind) Event             { return Event{Kind: k} }
func said(k Kind, t string) Event { return Event{Kind: k, Text: t} }
func judged(s Standing) Event     { return Event{Kind: Judged, Standing: s} }

var toRunning = []step{
	{0, judged(InForce), "watch", Stopped, 0},
	{10, ev(Connected), "unwatch, start", Starting, 0},
	{20, ev(Started), "", Running, 0},
}

// TestTable is the life of a jail, row by row.
func TestTable(t *testing.T) {
	after := func(first []step, rest ...step) []step { return append(append([]step(nil), first...), rest...) }
	for claim, steps := range map[string][]step{
		"a login starts it, its end makes room for the next": after(toRunning,
			step{30, ev(Gone), "forget, renew, watch", Stopped, 0},
			step{40, ev(Connected), "unwatch, start", Starting, 0}),
		"who is seen waiting twice starts it once": after(toRunning[:2],
			step{10, ev(Connected), "", Starting, 0},
			step{11, ev(Wanted), "", Starting, 0}),
		"autostart": {
			{0, ev(Wanted), "start", Starting, 0},
			{1, ev(Wanted), "", Starting, 0}},
		"a failed start refuses who waits, and the next try is not before a while": after(toRunning[:2],
			step{20, said(Failed, "x"), "log, refuse (x), watch", Stopped, 0},
			step{1019, ev(Connected), "refuse (x)", Stopped, 0},
			step{1019, ev(Wanted), "", Stopped, 0},
			step{1020, ev(Connected), "unwatch, start", Starting, 0},
			step{1100, said(Failed, "y"), "log, refuse (y), watch", Stopped, 0},
			step{3099, ev(Connected), "refuse (y)", Stopped, 0},
			step{3100, ev(Connected), "unwatch, start", Starting, 0},
			step{3200, ev(Started), "", Running, 0},
			step{3300, ev(Gone), "forget, renew, watch", Stopped, 0},
			step{3300, ev(Connected), "unwatch, start", Starting, 0}),
		"a rootfs in use may be free any moment": after(toRunning[:2],
			step{20, Event{Kind: Failed, Text: "x", Busy: true}, "log, refuse (x), watch", Stopped, 0},
			step{21, ev(Connected), "unwatch, start", Starting, 0}),
		"one that runs already is found": {
			{0, ev(Sought), "", Starting, 0},
			{5, ev(Connected), "", Starting, 0},
			{9, ev(Started), "", Running, 0}},
		"one that does not is stopped": {
			{0, ev(Sought), "", Starting, 0},
			{9, ev(Absent), "watch", Stopped, 0}},
		"stop asks, waits, and kills": after(toRunning,
			step{100, ev(StopAsked), "tell stop", Running, 10_100},
			step{10_099, ev(Clock), "", Running, 10_100},
			step{10_100, ev(Clock), "kill", Running, 20_100},
			step{10_101, ev(Gone), "forget, renew, watch", Stopped, 0}),
		"who asks twice is impatient": after(toRunning,
			step{100, ev(StopAsked), "tell stop", Running, 10_100},
			step{200, ev(StopAsked), "kill", Running, 10_200},
			step{300, ev(StopAsked), "kill", Running, 10_300}),
		"stop during a start waits for it": after(toRunning[:2],
			step{15, ev(StopAsked), "", Starting, 0},
			step{20, ev(Started), "tell stop", Running, 10_020}),
		"stop of a stopped one is nothing": {
			{0, ev(StopAsked), "watch", Stopped, 0}},
		"a start that fails is not stopped later": after(toRunning[:2],
			step{15, ev(StopAsked), "", Starting, 0},
			step{20, Event{Kind: Failed, Text: "x", Busy: true}, "log, refuse (x), watch", Stopped, 0},
			step{30, ev(Connected), "unwatch, start", Starting, 0},
			step{40, ev(Started), "", Running, 0}),
		"the supervisor ends: nothing is started any more": after(toRunning,
			step{100, ev(Closing), "tell stop", Running, 10_100},
			step{200, ev(Gone), "forget, renew", Stopped, 0},
			step{300, ev(Wanted), "", Stopped, 0},
			step{300, ev(Connected), "", Stopped, 0}),
		"... nor a stopped one": {
			{0, judged(InForce), "watch", Stopped, 0},
			{1, ev(Closing), "unwatch", Stopped, 0},
			{2, ev(Connected), "", Stopped, 0}},
		"a connection lost is looked into": after(toRunning,
			step{100, ev(Lost), "", Running, 10_100},
			step{9_000, ev(Lost), "", Running, 10_100},
			step{10_100, ev(Clock), "look", Running, 0},
			step{10_101, ev(Living), "log", Running, 0}),
		"what cannot be killed has its logins refused": after(toRunning,
			step{100, ev(Lost), "", Running, 10_100},
			step{10_100, ev(Clock), "look", Running, 0},
			step{10_101, said(Exiting, "x"), "log, renew, watch", Ending, 0},
			step{10_102, ev(Connected), "refuse (a process of it cannot be killed)", Ending, 0},
			step{10_103, ev(StopAsked), "", Ending, 0},
			step{10_104, ev(Gone), "forget", Stopped, 0},
			step{10_105, ev(Connected), "unwatch, start", Starting, 0}),
		"a PID 1 that cannot be killed has them refused as well": after(toRunning,
			step{100, ev(StopAsked), "tell stop", Running, 10_100},
			step{10_100, ev(Clock), "kill", Running, 20_100},
			step{20_100, ev(Clock), "look", Running, 0},
			step{20_101, ev(Living), "log, renew, watch", Ending, 0}),
		"the end comes before the look": after(toRunning,
			step{100, ev(Lost), "", Running, 10_100},
			step{200, ev(Gone), "forget, renew, watch", Stopped, 0},
			step{201, said(Exiting, "x"), "", Stopped, 0},
			step{202, ev(Gone), "", Stopped, 0}),
		"out of service while it runs: it runs on, and does not start again": after(toRunning,
			step{100, judged(Faulty), "", Running, 0},
			step{200, ev(Gone), "forget, renew, watch", Stopped, 0},
			step{300, ev(Connected), "", Stopped, 0},
			step{300, ev(Wanted), "", Stopped, 0},
			step{400, judged(InForce), "", Stopped, 0},
			step{500, ev(Connected), "unwatch, start", Starting, 0}),
		"removed while it starts: it is ended": after(toRunning[:2],
			step{15, judged(Removed), "", Starting, 0},
			step{20, ev(Started), "tell stop", Running, 10_020}),
		"no room to refuse all: a pause": {
			{0, judged(InForce), "watch", Stopped, 0},
			{5, ev(Crowded), "unwatch", Stopped, 1_005},
			{6, ev(Connected), "", Stopped, 1_005},
			{1_004, ev(Clock), "", Stopped, 1_005},
			{1_005, ev(Clock), "watch", Stopped, 0}},
	} {
		t.Run(claim, func(t *testing.T) {
			var j Jail
			for i, s := range steps {
				got := j.Step(s.at, s.event, nil)
				row := fmt.Sprintf("row %d", i)
				assert.Equal(t, s.want, text(got), row)
				assert.Equal(t, s.state, j.State, row)
				assert.Equal(t, s.due, j.Due(), row)
			}
		})
	}
}

func TestOver(t *testing.T) {
	var j Jail
	assert.False(t, j.Over())
	for _, s := range toRunning {
		j.Step(s.at, s.event, nil)
	}
	j.Step(30, judged(Removed), nil)
	assert.False(t, j.Over(), "it runs")
	j.Step(40, ev(Gone), nil)
	assert.True(t, j.Over())
}

// TestBackoff: the pauses grow, and not without end.
func TestBackoff(t *testing.T) {
	var j Jail
	now := int64(0)
	for _, pause := range []int64{1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000} {
		j.Step(now, ev(Wanted), nil)
		require.Equal(t, Starting, j.State)
		j.Step(now, said(Failed, "x"), nil)
		j.Step(now+pause-1, ev(Wanted), nil)
		assert.Equal(t, Stopped, j.State, "%d", pause)
		now += pause
	}
}

// TestKept: a jail that is to run without a login is started again when it has crashed, or
// could not be started, ever more seldom; and not when it was told to end.
func TestKept(t *testing.T) {
	j := Jail{Keep: true}
	now := int64(0)
	crash := func(lived int64) (pause int64) {
		j.Step(now, ev(Started), nil)
		now += lived
		j.Step(now, ev(Gone), nil)
		assert.Equal(t, Stopped, j.State)
		assert.Contains(t, text(j.Step(now, Event{Kind: Crashed, Lived: lived}, nil)), "log")
		pause = j.Due() - now
		now = j.Due()
		assert.Contains(t, text(j.Step(now, ev(Clock), nil)), "start")
		return pause
	}
	j.Step(now, ev(Wanted), nil)
	for _, pause := range []int64{1000, 2000, 4000, 8000, 16000, 30000, 30000} {
		assert.Equal(t, pause, crash(1))
	}
	assert.EqualValues(t, 1000, crash(Stable))

	j.Step(now, said(Failed, "no"), nil)
	assert.Equal(t, now+BackoffMin, j.Due())
	now = j.Due()
	assert.Contains(t, text(j.Step(now, ev(Clock), nil)), "start")
	j.Step(now, Event{Kind: Failed, Text: "busy", Busy: true}, nil)
	assert.Equal(t, now+BackoffMin, j.Due(), "not at once, whatever is in the way")

	now = j.Due()
	j.Step(now, ev(Clock), nil)
	j.Step(now, ev(Started), nil)
	j.Step(now, ev(Gone), nil)
	assert.Zero(t, j.Due(), "it has said why")
	j.Keep = false
	j.Step(now, Event{Kind: Crashed}, nil)
	assert.Zero(t, j.Due(), "the registry says otherwise by now")
	j.Keep = true
	j.Step(now, Event{Kind: Crashed}, nil)
	j.Keep = false
	assert.NotContains(t, text(j.Step(j.Due(), ev(Clock), nil)), "start")
	j.Keep = true
	j.Step(now, ev(Closing), nil)
	j.Step(now, Event{Kind: Crashed}, nil)
	assert.Zero(t, j.Due(), "the supervisor ends")
}

// TestStartsAreBounded: a jail that ends as soon as it runs is not started as often as its
// clients come back. They wait, and are not refused.
func TestStartsAreBounded(t *testing.T) {
	var j Jail
	now, starts, refused := int64(1_000_000), 0, 0
	cycle := func(until int64) {
		for now < until {
			if j.Due() != 0 && now >= j.Due() {
				j.Step(now, ev(Clock), nil)
			}
			for _, a := range j.Step(now, ev(Connected), nil) {
				switch a.Do {
				case Start:
					starts++
					j.Step(now, ev(Started), nil)
					j.Step(now, ev(Gone), nil)
				case Refuse:
					refused++
				}
			}
			now++
		}
	}
	j.Step(now, judged(InForce), nil)
	cycle(now + 90)
	assert.Equal(t, 90, starts, "nobody notices who does so now and then")
	cycle(now + 60_000)
	assert.InDelta(t, StartsAtOnce+60_000/StartEvery, starts, 2)
	assert.Zero(t, refused)
	now += StartsAtOnce * StartEvery
	starts = 0
	j.Step(now, ev(Clock), nil)
	cycle(now + 90)
	assert.Equal(t, 90, starts, "and it is forgotten")
}

// TestAnyOrder throws events at a machine in any order, as races do, and holds it to
// what must always be so.
func TestAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var j Jail
		var now int64
		watching, starting, running := false, false, false
		for range 60 {
			now += r.Int64N(6000)
			e := Event{Kind: Kind(r.IntN(int(Crowded) + 1)), Standing: Standing(r.IntN(3)), Text: "x", Busy: r.IntN(2) == 0}
			closing := j.closing
			j.Keep = r.IntN(2) == 0
			// What only follows from an action comes only then.
			switch e.Kind {
			case Started, Failed, Absent:
				if !starting {
					continue
				}
				starting, running = false, e.Kind == Started
			case Sought:
				if j.State == Stopped {
					starting = true
				}
			case Gone:
				if !running {
					continue
				}
				running = false
			}
			for _, a := range j.Step(now, e, nil) {
				switch a.Do {
				case Start:
					require.False(t, starting || running || watching, "one at a time, and nobody else has the sockets")
					require.False(t, closing)
					require.Equal(t, InForce, j.Standing)
					starting = true
				case Watch:
					require.False(t, watching)
					watching = true
				case Unwatch:
					require.True(t, watching)
					watching = false
				case Refuse:
					require.False(t, running && j.State == Running, "a jail that runs answers itself")
				case Kill, TellStop, Look:
					require.True(t, running)
				}
			}
			require.Equal(t, starting, j.State == Starting)
			require.Equal(t, running, j.State == Running || j.State == Ending)
			if watching {
				require.True(t, j.State == Stopped || j.State == Ending)
			} else {
				// Nobody waits for ever: there is a deadline, or an answer is to come.
				require.True(t, j.Due() != 0 || j.closing || starting || running)
			}
		}
	}
}

func TestTimers(t *testing.T) {
	var timers Timers
	assert.Zero(t, timers.Next())
	r := rand.New(rand.NewPCG(3, 4))
	want := map[int]int64{}
	for range 3000 {
		key, at := r.IntN(200), r.Int64N(1000)
		timers.Set(key, at)
		if want[key] = at; at == 0 {
			delete(want, key)
		}
	}
	last := int64(0)
	for len(want) > 0 {
		next := timers.Next()
		_, early := timers.Take(next - 1)
		require.False(t, early)
		key, ok := timers.Take(next)
		require.True(t, ok)
		require.Equal(t, want[key], next)
		require.GreaterOrEqual(t, next, last)
		last = next
		delete(want, key)
	}
	_, ok := timers.Take(1 << 60)
	assert.False(t, ok)
}

// heard is what a PID 1 is told, one order after the other.
func heard(t *testing.T, o *Orders) []string {
	t.Helper()
	var all []string
	for {
		next, ok := o.Next()
		if !ok {
			return all
		}
		typ, _, body, err := wire.Header(next.Packet)
		require.NoError(t, err)
		switch typ {
		case wire.TypeStop:
			all = append(all, "stop")
		case wire.TypeDropLogin:
			uid, err := wire.DecodeDropLogin(body)
			require.NoError(t, err)
			all = append(all, fmt.Sprint("drop ", uid))
		case wire.TypeAddLogin:
			id, err := wire.DecodeAddLogin(body)
			require.NoError(t, err)
			all = append(all, fmt.Sprint("add ", id.HostUID, " with ", next.FD))
		}
		o.Said()
	}
}

func TestOrders(t *testing.T) {
	id := func(uid uint32) wire.Identity { return wire.Identity{HostUID: uid} }
	for claim, row := range map[string]struct {
		give func(o *Orders)
		want []string
	}{
		"in order": {func(o *Orders) { o.Add(id(1), 11); o.Drop(2); o.Add(id(3), 13) }, []string{"add 1 with 11", "drop 2", "add 3 with 13"}},
		"a login that goes and comes back has a new identity":    {func(o *Orders) { o.Drop(1); o.Add(id(1), 11) }, []string{"drop 1", "add 1 with 11"}},
		"one that comes and goes is dropped, whatever was heard": {func(o *Orders) { o.Add(id(1), 11); o.Drop(1) }, []string{"drop 1"}},
		"the last listener counts, and a drop is never lost": {func(o *Orders) {
			o.Drop(1)
			o.Add(id(1), 11)
			o.Drop(1)
			o.Add(id(1), 12)
			o.Add(id(1), 13)
		}, []string{"drop 1", "add 1 with 13"}},
		"the end comes first": {func(o *Orders) { o.Add(id(1), 11); o.Stop() }, []string{"stop", "add 1 with 11"}},
		"nobody is there":     {func(o *Orders) { o.Add(id(1), 11); o.Stop(); o.Forget() }, nil},
	} {
		var o Orders
		row.give(&o)
		assert.Equal(t, row.want, heard(t, &o), claim)
	}
	var o Orders
	for i := range 10_000 {
		o.Drop(uint32(i % 10))
		o.Add(id(uint32(i%10)), i)
	}
	assert.Len(t, heard(t, &o), 20, "bounded by the number of logins")
}
