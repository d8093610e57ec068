package usage

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// machine makes files as the kernel has them.
type machine struct {
	t *testing.T
	Places
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	require.NoError(m.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(m.t, os.WriteFile(path, []byte(text), 0o600))
}

func (m *machine) process(pid, ns int, cgroup, comm string, utime, stime, cutime, cstime, rss int) {
	m.t.Helper()
	m.write(m.of(pid, "cgroup"), cgroup)
	m.write(m.of(pid, "stat"), fmt.Sprintf("%d (%s) S 1 1 1 0 -1 4194560 1 2 3 4 %d %d %d %d 20 0 1 0 99 12345 %d 18446744073709551615 1\n", pid, comm, utime, stime, cutime, cstime, rss))
	require.NoError(m.t, os.MkdirAll(m.of(pid, "ns"), 0o700))
	require.NoError(m.t, os.Symlink(fmt.Sprintf("pid:[%d]", ns), m.of(pid, "ns/pid")))
}

// TestUsage: a cgroup is asked where there is one of the jail's own, and processes are added
// up where there is not, whatever they call themselves.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	m := &machine{t, Places{Proc: filepath.Join(dir, "proc"), Cgroup: filepath.Join(dir, "cgroup")}}
	page := uint64(os.Getpagesize())
	m.process(1, 1, "0::/init.scope\n", "systemd", 900, 900, 900, 900, 900)
	m.process(10, 10, "0::/\n", "jail-init", 1, 2, 30, 40, 100)
	m.process(11, 10, "0::/\n", "a) R 1 1 1 (", 100, 50, 7000, 8000, 10)
	m.process(12, 10, "0::/\n", "sh", 0, 0, 0, 0, 5)
	m.process(20, 20, "1:cpu:/x\n0::/jails/jail-web\n", "jail-init", 1, 2, 30, 40, 100)
	m.process(21, 20, "0::/jails/jail-web\n", "sh", 1, 2, 30, 40, 100)
	web := filepath.Join(m.Cgroup, "jails/jail-web")
	m.write(filepath.Join(web, "memory.current"), "12345678\n")
	m.write(filepath.Join(web, "cpu.stat"), "usage_usec 1500000\nuser_usec 1000000\n")
	m.write(filepath.Join(web, "cgroup.procs"), "20\n21\n22\n")
	// A cgroup that is another's says nothing of this one.
	m.process(30, 30, "0::/jails/jail-web\n", "jail-init", 0, 0, 0, 0, 7)
	// Nor does one without the controllers.
	m.process(40, 40, "0::/jails/jail-bare\n", "jail-init", 0, 0, 0, 0, 8)
	m.write(filepath.Join(m.Cgroup, "jails/jail-bare/cpu.stat"), "usage_usec 5\n")

	assert.Equal(t, map[string]Usage{
		"plain": {Processes: 2, CPU: 2230 * time.Millisecond, Memory: 115 * page},
		"web":   {Processes: 2, CPU: 1500 * time.Millisecond, Memory: 12345678, Cgroup: true},
		"other": {Memory: 7 * page},
		"bare":  {Memory: 8 * page},
	}, m.Of(map[string]int{"plain": 10, "web": 20, "other": 30, "bare": 40, "gone": 50}))
	assert.Empty(t, m.Of(nil))
}

func TestBadStat(t *testing.T) {
	for _, text := range []string{"", "1 (a", "1 (a)", "1 (a) S 1 1", "1 (a) S" + " 1 1 1 0 -1 0 0 0 0 0 x -5 0 0 20 0 1 0 9 1 y"} {
		o, ok := parse(text)
		assert.Equal(t, one{}, o, "%q", text)
		_ = ok
	}
}

// TestOurselves: the kernel of this machine says something that can be.
func TestOurselves(t *testing.T) {
	var o one
	for deadline := time.Now().Add(20 * time.Second); o.cpu < 50*time.Millisecond && time.Now().Before(deadline); {
		text, err := os.ReadFile("/proc/self/stat")
		require.NoError(t, err)
		var ok bool
		o, ok = parse(string(text))
		require.True(t, ok)
	}
	assert.GreaterOrEqual(t, o.cpu, 50*time.Millisecond)
	assert.Greater(t, o.resident, uint64(1<<20))
}
