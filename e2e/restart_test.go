package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRestart: a jail that is restarted runs anew, at once or when nobody is in it, and one
// that runs an older program is known by it.
func TestRestart(t *testing.T) {
	s := own(t, oneJail("centos", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id)))
	verb := func(args ...string) result {
		t.Helper()
		return runCommand(t, exec.Command(initPath, args...), nil)
	}
	assert.Equal(t, result{}, verb("start", "centos"))
	first := generation(t, "centos")
	assert.Equal(t, result{stdout: "no jail runs an older program\n"}, verb("restart", "--old"))
	assert.Equal(t, result{stdout: "jail centos runs anew\n"}, verb("restart", "centos"))
	second := generation(t, "centos")
	assert.NotEqual(t, first, second)

	l := open(t, login, ask{as: centos, cmd: "echo in; read x; exit 7"})
	l.expect("in\n")
	r := verb("restart", "centos", "--when-idle", "--wait", "1ms")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "not restarted, since they are in use: centos (1 session)")
	assert.Equal(t, second, generation(t, "centos"))
	waits := exec.Command(initPath, "restart", "centos", "--when-idle")
	var out strings.Builder
	waits.Stdout = &out
	require.NoError(t, waits.Start())
	l.send("x\n")
	require.NoError(t, waits.Wait())
	assert.Contains(t, out.String(), "jail centos runs anew\n")
	assert.NotEqual(t, second, generation(t, "centos"))

	// Another build of the jails' first process takes the place of this one.
	kept := pid1Path + ".kept"
	require.NoError(t, command("cp", "-p", pid1Path, kept))
	t.Cleanup(func() { require.NoError(t, os.Rename(kept, pid1Path)) })
	require.NoError(t, command("sh", "-c", "cp -p "+kept+" "+kept+".new && echo >>"+kept+".new && mv "+kept+".new "+pid1Path))
	s.kill(syscall.SIGTERM)
	assert.Contains(t, verb("check", "centos").stdout, "warning: jail-init serve: does not run: 1 jail goes on without it")
	require.NoError(t, s.start())
	eventually(t, "that is over", func() bool { return !strings.Contains(verb("check", "centos").stdout, "[serve-down]") })
	third := generation(t, "centos")
	assert.Contains(t, verb("check", "centos").stdout, "fix: jail restart centos [pid1-old]\n")
	assert.Regexp(t, `(?m)^centos +idle .*  PID 1 is of another build: jail restart centos$`, verb("ps").stdout)
	assert.Contains(t, verb("ps", "centos").stdout, ", of another build than the installed one: jail restart centos\n")
	assert.Contains(t, verb("ps", "--json").stdout, `"old": true`)
	assert.Equal(t, result{stdout: "jail centos runs anew\n"}, verb("restart", "--old"))
	assert.NotContains(t, verb("ps").stdout, "another build")
	assert.NotContains(t, verb("check", "centos").stdout, "[pid1-old]")
	assert.NotEqual(t, third, generation(t, "centos"))
	assert.Equal(t, result{stdout: "no jail runs an older program\n"}, verb("restart", "--old"))

	r = verb("restart", "nobody")
	assert.Equal(t, 1, r.status)
	assert.Equal(t, "jail-init: no jail \"nobody\" in "+registryPath+", and none of that name runs\n", r.stderr)
	require.Zero(t, verb("disable", "centos").status)
	r = verb("restart", "centos")
	assert.Contains(t, r.stderr, "jail centos is disabled, so it would not start again")
	assert.Len(t, jailPIDs("centos"), 1, "and is not ended")
	require.Zero(t, verb("enable", "centos").status)
	assert.NoError(t, s.stop())
	r = verb("start", "centos")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "neither is jail-init serve")
}
