package cgroup

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// watched is a Watch whose clock the test has, of a directory that is like a jail's cgroup.
type watched struct {
	*Watch
	t    *testing.T
	dir  string
	told chan Met

	mu    sync.Mutex
	waits map[time.Duration][]func() // that have not come yet
}

func watch(t *testing.T) *watched {
	t.Helper()
	w, err := NewWatch()
	require.NoError(t, err)
	t.Cleanup(w.Close)
	x := &watched{Watch: w, t: t, dir: t.TempDir(), told: make(chan Met, 100), waits: map[time.Duration][]func(){}}
	w.after = func(d time.Duration, f func()) *time.Timer {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.waits[d] = append(x.waits[d], f)
		return time.NewTimer(time.Hour)
	}
	x.write("pids.events", "max 0\n")
	x.write("pids.max", "108\n")
	x.write("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n")
	x.write("memory.max", "134217728\n")
	return x
}

// write changes a file in place, by one write, as the kernel does.
func (x *watched) write(file, text string) {
	x.t.Helper()
	f, err := os.OpenFile(filepath.Join(x.dir, file), os.O_WRONLY|os.O_CREATE, 0o600)
	require.NoError(x.t, err)
	_, err = f.WriteString(text)
	require.NoError(x.t, err)
	require.NoError(x.t, f.Close())
}

func (x *watched) follow(name string) {
	x.t.Helper()
	require.NoError(x.t, x.Follow(name, x.dir, func(m Met) { x.told <- m }))
}

func (x *watched) next() Met {
	x.t.Helper()
	select {
	case m := <-x.told:
		return m
	case <-time.After(10 * time.Second):
		require.Fail(x.t, "nothing was told")
		return Met{}
	}
}

// waiting is how many wait so long, once there are some.
func (x *watched) waiting(d time.Duration) int {
	x.t.Helper()
	n := 0
	require.Eventually(x.t, func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		n = len(x.waits[d])
		return n > 0
	}, 10*time.Second, time.Millisecond)
	return n
}

// pass has the time pass for those who wait so long.
func (x *watched) pass(d time.Duration) {
	x.t.Helper()
	x.waiting(d)
	x.mu.Lock()
	list := x.waits[d]
	x.waits[d] = nil
	x.mu.Unlock()
	for _, f := range list {
		f()
	}
}

// asked is how many limits the kernel is asked about.
func (x *watched) asked() int {
	x.Watch.mu.Lock()
	defer x.Watch.mu.Unlock()
	return len(x.byWD)
}

// TestALimitThatIsMet: it is told at once, and then once a minute how often, as long as it goes on.
func TestALimitThatIsMet(t *testing.T) {
	x := watch(t)
	x.follow("hog")
	assert.Equal(t, 2, x.asked())
	x.write("pids.events", "max 1\n")
	assert.Equal(t, Met{"pids", 100, 1}, x.next(), "without the threads of PID 1")
	assert.Equal(t, 1, x.waiting(metAgain))
	assert.Equal(t, 1, x.asked(), "nobody looks at the one that was met")
	for _, n := range []string{"20\n", "300\n", "4000\n"} {
		x.write("pids.events", "max "+n)
	}
	x.write("memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n")
	assert.Equal(t, Met{"memory", 128 << 20, 2}, x.next(), "the other is its own")
	x.pass(metAgain)
	assert.Equal(t, Met{"pids", 100, 4000}, x.next())
	x.pass(metAgain)
	assert.Empty(t, x.told, "nothing more has come to it")
	assert.Equal(t, 2, x.asked(), "the kernel is asked again")
	x.write("pids.max", "max\n")
	x.write("pids.events", "max 4001\n")
	assert.Equal(t, Met{"pids", 0, 4001}, x.next(), "there is none any more")
}

// TestWhatIsNoLimit: a file that changes in other lines, as it does all the time where the kernel
// takes back what it has cached, is not looked at each time.
func TestWhatIsNoLimit(t *testing.T) {
	x := watch(t)
	x.follow("hog")
	x.write("memory.events", "low 0\nhigh 0\nmax 7\noom 0\noom_kill 0\n")
	for d := elseFirst; d < elseAgain; d *= 2 {
		x.waiting(d)
		assert.Equal(t, 1, x.asked(), "only the other")
		x.pass(d)
		assert.Equal(t, 2, x.asked())
		x.write("memory.events", "low 0\nhigh 0\nmax 8\noom 0\noom_kill 0\n")
	}
	x.waiting(elseAgain)
	x.write("memory.events", "low 0\nhigh 0\nmax 8\noom 1\noom_kill 1\n")
	assert.Empty(t, x.told)
	x.pass(elseAgain)
	assert.Equal(t, Met{"memory", 128 << 20, 1}, x.next(), "nothing is missed")
	x.pass(metAgain)
	x.write("memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\n")
	x.waiting(elseFirst)
}

// TestNoWatchIsLeft: where the kernel has none for the moment, it is asked again.
func TestNoWatchIsLeft(t *testing.T) {
	x := watch(t)
	x.follow("hog")
	x.write("pids.events", "max 1\n")
	x.next()
	hidden := filepath.Join(x.dir, "hidden")
	require.NoError(t, os.Rename(filepath.Join(x.dir, "pids.events"), hidden))
	x.pass(metAgain)
	assert.Equal(t, 1, x.asked())
	require.NoError(t, os.Rename(hidden, filepath.Join(x.dir, "pids.events")))
	x.write("pids.events", "max 5\n")
	x.pass(metAgain)
	assert.Equal(t, Met{"pids", 100, 5}, x.next())
}

// TestTheEndOfAJail: what has come to a limit until its end is told, and nothing after it; another jail of that
// name begins anew.
func TestTheEndOfAJail(t *testing.T) {
	x := watch(t)
	x.follow("hog")
	x.write("pids.events", "max 1\n")
	x.next()
	x.waiting(metAgain)
	x.write("pids.events", "max 7\n")
	x.Over("hog")
	assert.Equal(t, Met{"pids", 100, 7}, x.next())
	x.pass(metAgain)
	assert.Zero(t, x.asked())
	x.write("pids.events", "max 9\n")
	assert.Empty(t, x.told)
	assert.Empty(t, x.meters)

	x.write("pids.events", "max 3\n")
	x.follow("hog")
	assert.Equal(t, Met{"pids", 100, 3}, x.next(), "of one that is found, what nobody has seen is told at once")
	x.Over("hog")
	x.Over("nobody")
}

// TestManyJailsHaveOneDescriptor: whatever the number of jails.
func TestManyJailsHaveOneDescriptor(t *testing.T) {
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(list)
	}
	x := watch(t)
	before := open()
	for i := range 100 {
		x.follow("jail" + string(rune('0'+i/10)) + string(rune('0'+i%10)))
	}
	assert.Equal(t, before, open())
}

// TestWithoutControllers: a cgroup that has no such files, as beside other hierarchies, is no error, and
// neither is a jail without a cgroup; a Watch that there is not hears nothing.
func TestWithoutControllers(t *testing.T) {
	x := watch(t)
	require.NoError(t, x.Follow("bare", t.TempDir(), func(Met) { t.Error("told") }))
	require.NoError(t, x.Follow("none", "", func(Met) { t.Error("told") }))
	assert.Zero(t, x.asked())
	x.Over("bare")
	x.Close()
	require.NoError(t, x.Follow("late", x.dir, func(Met) { t.Error("told") }))
	var w *Watch
	require.NoError(t, w.Follow("none", x.dir, nil))
	w.Over("none")
	w.Close()
}
