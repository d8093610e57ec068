package supervise

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"jail/internal/jail"
)

// play steps through events at times, and returns all actions in words.
func playServices(s *Services, steps ...any) (did []string) {
	now := int64(0)
	for _, step := range steps {
		if at, ok := step.(int); ok {
			now = int64(at)
			continue
		}
		for _, a := range s.Step(now, step.(ServiceEvent), nil) {
			switch a.Do {
			case LogService:
				did = append(did, a.Text)
			default:
				did = append(did, fmt.Sprintf("%s %d", [...]string{"find", "start"}[a.Do], a.Index))
			}
		}
	}
	return did
}

func three(r jail.Restart) *Services {
	return NewServices([]jail.Service{{Name: "a", Restart: r, Backoff: time.Second}, {Name: "b", Restart: r, Backoff: time.Second}, {Name: "c", Restart: r, Backoff: time.Second}})
}

func TestServicesStartInOrder(t *testing.T) {
	assert.Equal(t, []string{
		"start 0", "service a started: pid 7", "start 1",
		"service b cannot be started: no such user", "start 2",
		"service c started: pid 9",
	}, playServices(three(jail.RestartNo),
		ServiceEvent{Kind: JailStarted},
		ServiceEvent{Kind: ServiceBegun, Index: 0, PID: 7},
		ServiceEvent{Kind: ServiceRefused, Index: 1, Text: "no such user"},
		ServiceEvent{Kind: ServiceBegun, Index: 2, PID: 9},
		ServiceEvent{Kind: ServiceNone, Index: 1}, // is over
	))
}

// TestServicesAreFound: a supervisor that is new asks for each before it starts it. One that
// runs is left alone, one that has ended meanwhile is treated as if that had been seen, one
// that there has never been is started.
func TestServicesAreFound(t *testing.T) {
	s := NewServices([]jail.Service{{Name: "runs", Restart: jail.RestartAlways, Backoff: time.Second}, {Name: "once", Restart: jail.RestartNo, Backoff: time.Second}, {Name: "failed", Restart: jail.RestartOnFailure, Backoff: time.Second}, {Name: "fresh", Restart: jail.RestartNo, Backoff: time.Second}})
	assert.Equal(t, []string{
		"find 0", "service runs runs already: pid 7",
		"find 1", "service once ended: status 0",
		"find 2", "service failed ended: signal 9 (out of memory), next start in 1s",
		"find 3", "start 3", "service fresh started: pid 8",
		"start 2",
	}, playServices(s,
		ServiceEvent{Kind: JailFound},
		ServiceEvent{Kind: ServiceBegun, Index: 0, Found: true, PID: 7},
		ServiceEvent{Kind: ServiceEnded, Index: 1},
		ServiceEvent{Kind: ServiceEnded, Index: 2, Signal: 9, OutOfMemory: true},
		ServiceEvent{Kind: ServiceNone, Index: 3},
		ServiceEvent{Kind: ServiceBegun, Index: 3, PID: 8},
		1000, ServiceEvent{Kind: ServiceClock},
	))
}

func TestRestarts(t *testing.T) {
	for claim, tt := range map[string]struct {
		restart jail.Restart
		end     ServiceEvent
		again   bool
	}{
		"no, success":         {jail.RestartNo, ServiceEvent{}, false},
		"no, failure":         {jail.RestartNo, ServiceEvent{Status: 1}, false},
		"on-failure, success": {jail.RestartOnFailure, ServiceEvent{}, false},
		"on-failure, failure": {jail.RestartOnFailure, ServiceEvent{Status: 1}, true},
		"on-failure, signal":  {jail.RestartOnFailure, ServiceEvent{Signal: 15}, true},
		"always, success":     {jail.RestartAlways, ServiceEvent{}, true},
		"always, failure":     {jail.RestartAlways, ServiceEvent{Status: 255}, true},
	} {
		s := NewServices([]jail.Service{{Name: "a", Restart: tt.restart, Backoff: 2 * time.Second}})
		tt.end.Kind = ServiceEnded
		playServices(s, ServiceEvent{Kind: JailStarted}, ServiceEvent{Kind: ServiceBegun}, 10, tt.end)
		if assert.Equal(t, tt.again, s.Due() != 0, claim); tt.again {
			assert.EqualValues(t, 2010, s.Due(), claim)
			assert.Empty(t, playServices(s, 2009, ServiceEvent{Kind: ServiceClock}), claim)
			assert.Equal(t, []string{"start 0"}, playServices(s, 2010, ServiceEvent{Kind: ServiceClock}), claim)
		}
	}
}

// TestServiceBackoff: a service that fails at once is started ever more seldom, down to a bound, and
// one that has run for a while is not the worse for what was before.
func TestServiceBackoff(t *testing.T) {
	for _, tt := range []struct {
		backoff int64
		want    []int64
	}{
		{1000, []int64{1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000}},
		{45_000, []int64{45_000, 60_000, 60_000}},
		{120_000, []int64{120_000, 120_000}},
	} {
		s := NewServices([]jail.Service{{Name: "a", Restart: jail.RestartAlways, Backoff: time.Duration(tt.backoff) * time.Millisecond}})
		s.Step(0, ServiceEvent{Kind: JailStarted}, nil)
		now := int64(0)
		var pauses []int64
		for range tt.want {
			s.Step(now, ServiceEvent{Kind: ServiceBegun}, nil)
			now++
			s.Step(now, ServiceEvent{Kind: ServiceEnded}, nil)
			pauses = append(pauses, s.Due()-now)
			now = s.Due()
			s.Step(now, ServiceEvent{Kind: ServiceClock}, nil)
		}
		assert.Equal(t, tt.want, pauses)
		s.Step(now, ServiceEvent{Kind: ServiceBegun}, nil)
		s.Step(now+ServiceStable, ServiceEvent{Kind: ServiceEnded}, nil)
		assert.Equal(t, now+ServiceStable+tt.backoff, s.Due())
	}
}

// TestLostServices: one that nobody answers for may run. It is asked for again, whatever its
// restart, and the log says so once.
func TestLostServices(t *testing.T) {
	s := NewServices([]jail.Service{{Name: "a", Restart: jail.RestartNo, Backoff: time.Second}, {Name: "b", Restart: jail.RestartNo, Backoff: time.Second}})
	assert.Equal(t, []string{
		"start 0", "service a started: pid 0", "start 1", "service b started: pid 0",
		"service a cannot be seen: gone, next start in 1s",
		"find 0", "find 0", "service a runs already: pid 5",
		"service a cannot be seen: again, next start in 4s",
	}, playServices(s,
		ServiceEvent{Kind: JailStarted}, ServiceEvent{Kind: ServiceBegun}, ServiceEvent{Kind: ServiceBegun, Index: 1},
		ServiceEvent{Kind: ServiceLost, Text: "gone"},
		1000, ServiceEvent{Kind: ServiceClock},
		ServiceEvent{Kind: ServiceLost, Text: "gone"},
		3000, ServiceEvent{Kind: ServiceClock},
		ServiceEvent{Kind: ServiceBegun, Found: true, PID: 5},
		ServiceEvent{Kind: ServiceLost, Text: "again"},
	))
}

// TestNothingStartsInAJailThatEnds: services end with it, and are not started again.
func TestNothingStartsInAJailThatEnds(t *testing.T) {
	s := three(jail.RestartAlways)
	assert.Equal(t, []string{"start 0", "service a started: pid 0", "start 1", "service a ended: signal 15 after 0s"}, playServices(s,
		ServiceEvent{Kind: JailStarted}, ServiceEvent{Kind: ServiceBegun},
		ServiceEvent{Kind: JailEnds},
		ServiceEvent{Kind: ServiceBegun, Index: 1}, // too late to matter
		ServiceEvent{Kind: ServiceEnded, Signal: 15},
	))
	assert.Zero(t, s.Due())
	s = three(jail.RestartAlways)
	playServices(s, ServiceEvent{Kind: JailStarted}, ServiceEvent{Kind: ServiceBegun}, ServiceEvent{Kind: ServiceEnded}, ServiceEvent{Kind: JailEnds})
	assert.Zero(t, s.Due(), "one that pauses is over")
	assert.Empty(t, playServices(s, 99_000, ServiceEvent{Kind: ServiceClock}))
	s = three(jail.RestartNo)
	assert.Equal(t, []string{"find 0"}, playServices(s, ServiceEvent{Kind: JailFound}, ServiceEvent{Kind: JailEnds}, ServiceEvent{Kind: ServiceNone}))
}
