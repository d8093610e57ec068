package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/cgroup"
	"jail/internal/jail"
	"jail/internal/record"
	"jail/internal/supervise"
	"jail/internal/wire"
)

// TestLimitsMove: limits of a jail that runs change by a reload and by order, once each, and
// who has ordered it hears what came of it.
func TestLimitsMove(t *testing.T) {
	w := newWorld(t)
	set := make(chan jail.Limits, 10)
	var fail error
	w.setLimits = func(name string, l *jail.Limits) error {
		assert.Equal(t, "one", name)
		set <- *l
		return fail
	}
	next := func() (l jail.Limits) {
		t.Helper()
		select {
		case l = <-set:
		case <-time.After(deadline):
			require.Fail(t, "nothing was set")
		}
		return l
	}
	reg := registry("one: 61001", "two: 61002")
	reg.Jails[0].Autostart = true
	reg.Jails[0].Limits = jail.Limits{MemoryBytes: 1 << 30, Pids: 7}
	reg.Jails[0].Userns.Enabled = true
	w.apply(reg)
	w.run()
	w.pid1("one")

	again := registry("one: 61001", "two: 61002")
	again.Jails[0] = reg.Jails[0]
	w.do(func() { w.apply(again) })
	assert.Empty(t, set, "nothing has changed")
	again.Jails[0].Limits.MemoryBytes = 2 << 30
	w.do(func() { w.apply(again) })
	assert.Equal(t, jail.Limits{MemoryBytes: 2 << 30, Pids: 7}, next())
	w.logged("jail one: its limits are now: memory 2147483648, cpu none, pids 7")
	assert.NotContains(t, w.out.String(), "takes effect when it starts anew")

	other := registry("one: 61001", "two: 61002")
	other.Jails[0] = again.Jails[0]
	other.Jails[0].Limits.DiskBytes = 5
	w.do(func() { w.apply(other) })
	assert.Empty(t, set, "what is on a disk is no cgroup's")
	w.logged("jail one: the change takes effect when it starts anew")
	w.do(func() { w.apply(again) })

	order := func(l wire.Limit) (lines []string, verdict uint8) {
		done := make(chan struct{})
		w.do(func() {
			w.limited(&l, func(got []string, v uint8) { lines, verdict = got, v; close(done) })
		})
		<-done
		return lines, verdict
	}
	lines, verdict := order(wire.Limit{Jail: "one", What: wire.LimitCPU | wire.LimitPids, CPU: 50})
	assert.Empty(t, lines)
	assert.EqualValues(t, wire.VerdictTaken, verdict)
	assert.Equal(t, jail.Limits{MemoryBytes: 2 << 30, CPUPercent: 50, PidsUnlimited: true}, next(), "the others stay")
	w.logged("jail one: it may have more processes than 7 when it starts anew")
	w.do(func() { w.apply(again) })
	assert.Empty(t, set, "a reload that says what it said takes nothing back")

	fail = errors.New("no cgroup")
	lines, verdict = order(wire.Limit{Jail: "one", What: wire.LimitMemory, Memory: 5})
	assert.Equal(t, []string{"jail one: no cgroup"}, lines)
	assert.EqualValues(t, wire.VerdictNone, verdict)
	for name, why := range map[string]string{"two": "it does not run", "three": "there is none of that name"} {
		lines, verdict = order(wire.Limit{Jail: name, What: wire.LimitMemory, Memory: 5})
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0], "jail "+name+": "+why)
		assert.EqualValues(t, wire.VerdictNone, verdict)
	}
}

// TestSessionLimitsMove: a PID 1 that runs hears what sessions may have by now, and one of an
// older build, which would end the connection over it, does not.
func TestSessionLimitsMove(t *testing.T) {
	w := newWorld(t)
	reg := registry("one: 61001")
	reg.Jails[0].Autostart = true
	w.apply(reg)
	w.run()
	p := w.pid1("one")
	again := registry("one: 61001")
	again.Jails[0] = reg.Jails[0]
	again.Jails[0].Sessions = wire.SessionLimits{Max: 5}
	w.do(func() { w.apply(again) })
	assert.Equal(t, fmt.Sprint("type ", wire.TypeSessions), p.next(deadline))
	w.do(func() { w.apply(again) })
	assert.Empty(t, p.next(50*time.Millisecond), "once")
	w.do(func() {
		w.jails.at(w.byName["one"]).young = false
		w.apply(reg)
	})
	assert.Empty(t, p.next(50*time.Millisecond))
	w.logged("what sessions may have changes when it starts anew: its PID 1 is of an older build")
}

// TestLimitsThatAreMet: what the kernel says of a running jail's cgroup is recorded, until the jail has
// ended, by its host and not by its PID 1.
func TestLimitsThatAreMet(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	count := func(text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "pids.events"), []byte(text), 0o600))
	}
	count("max 0\n")
	var err error
	w.limits, err = cgroup.NewWatch()
	require.NoError(t, err)
	defer w.limits.Close()
	w.cgroupOf = func(name string) string {
		assert.Equal(t, "one", name)
		return dir
	}
	store := record.Open(t.TempDir())
	w.records = record.New(store, func(text string) { w.log("%s", text) }, w.dir)
	reg := registry("one: 61001")
	reg.Jails[0].Autostart = true
	w.apply(reg)
	w.run()
	p := w.pid1("one")
	count("max 3\n")
	w.logged("jail-init: jail one: limit met: pids, 3 times")
	count("max 5\n")
	p.end()
	w.logged("jail-init: jail one: limit met: pids, 2 times")
	w.until("it has ended", func() bool { return w.jails.at(w.byName["one"]).machine.State == supervise.Stopped })
	w.records.Close() // what is to be written is
	met, err := store.Met("one")
	require.NoError(t, err)
	require.Len(t, met, 1)
	assert.EqualValues(t, 5, met[0].Count)
}
