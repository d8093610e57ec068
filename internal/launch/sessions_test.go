package launch_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
	"jail/internal/wire"
)

// TestSessionsHaveTheirLimits: sessions begin with what the registry says, those that begin
// after a change with what it says then; and a limit is hard.
func TestSessionsHaveTheirLimits(t *testing.T) {
	needRoot(t)
	bothModes(t, func(t *testing.T, userns bool) {
		spec := newSpec(newRootfs(t), userns)
		const show = "umask; cut -d\" \" -f19 /proc/self/stat; ulimit -n; ulimit -Hn; ulimit -f"
		spec.Sessions = wire.SessionLimits{SetUmask: true, Umask: 0o27, Nice: 15, Rlimits: []wire.Rlimit{
			{Resource: syscall.RLIMIT_FSIZE, Value: 1 << 20}, {Resource: syscall.RLIMIT_NOFILE, Value: 100},
		}}
		j := mustStart(t, spec)
		assert.Equal(t, "0027\n15\n100\n100\n2048\n", j.out(show))
		assert.Equal(t, "no\n", j.out("ulimit -n 101 2>/dev/null || echo no"))
		var m sys.MsgBuf
		require.NoError(t, sys.SendMsg(j.Conn, wire.AppendSessions(nil, &wire.SessionLimits{Nice: 18, Rlimits: []wire.Rlimit{{Resource: syscall.RLIMIT_NOFILE, Value: 1 << 60}}}), nil, false, &m))
		assert.Equal(t, "0022\n18\n", j.out("umask; cut -d\" \" -f19 /proc/self/stat"))
		assert.NotEqual(t, "100\n", j.out("ulimit -Hn"), "no higher than what there is")
		require.NoError(t, sys.SendMsg(j.Conn, wire.AppendSessions(nil, &wire.SessionLimits{}), nil, false, &m))
		priority, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
		require.NoError(t, err)
		own := 20 - priority // getpriority(2), "C library/kernel differences"
		assert.Equal(t, fmt.Sprintf("0022\n%d\n1024\n", own), j.out("umask; cut -d\" \" -f19 /proc/self/stat; ulimit -n"))
	})
}

// TestTimerSlack: sessions are woken in time, whatever the launcher has, and those threads of
// PID 1 that only look after others are not.
func TestTimerSlack(t *testing.T) {
	needRoot(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sys.SetTimerSlack(123456)
	defer sys.SetTimerSlack(sys.TimerSlack)
	j := mustStart(t, newSpec(newRootfs(t), true))
	usual := fmt.Sprintf("%d\n", sys.TimerSlack)
	assert.Equal(t, usual, j.out("cat /proc/self/timerslack_ns"))
	slackOf := func(thread string) string {
		text, err := os.ReadFile("/proc/" + thread + "/timerslack_ns")
		require.NoError(t, err)
		return string(text)
	}
	assert.Equal(t, usual, slackOf(strconv.Itoa(j.PID)))
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", j.PID))
	require.NoError(t, err)
	late := 0
	for _, thread := range threads {
		if slackOf(thread.Name()) == "10000000\n" {
			late++
		}
	}
	assert.NotZero(t, late, "the runtime's own thread is one of %d", len(threads))
}
