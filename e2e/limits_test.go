package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSessionLimits: what sessions may have holds, a session too many is refused with a line
// that says why, and a reload changes that without an end of the jail.
func TestSessionLimits(t *testing.T) {
	reg := oneJail("centos", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id), `umask = "027"`, "nice = 5", "rlimits = { nofile = 200, nproc = 77 }", "max_sessions = 1")
	own(t, reg)
	assert.Equal(t, result{stdout: "0027\n200\n77\n5\n"}, run(t, login, ask{as: centos, cmd: "umask; ulimit -Hn; set -- $(grep '^Max processes' /proc/$$/limits); echo $4; set -- $(cat /proc/$$/stat); echo ${19}"}))
	first := generation(t, "centos")
	l := open(t, login, ask{as: centos, cmd: "echo in; read x; exit 7"})
	l.expect("in\n")
	r := run(t, login, ask{as: centos, cmd: "true"})
	assert.Equal(t, 125, r.status)
	assert.Contains(t, r.stderr, "the jail has as many sessions as it may have (max_sessions = 1)")
	require.NoError(t, os.WriteFile(registryPath, []byte(reg.text+"session_rate = 2\n"), 0o644))
	assert.Zero(t, runCommand(t, exec.Command(initPath, "reload"), nil).status)
	l.send("x\n")
	assert.Equal(t, 7, l.wait().status)
	assert.Equal(t, result{stdout: "0027\n"}, run(t, login, ask{as: centos, cmd: "umask"}))
	assert.Zero(t, run(t, login, ask{as: centos, cmd: "true"}).status)
	r = run(t, login, ask{as: centos, cmd: "true"})
	assert.Equal(t, 125, r.status)
	assert.Contains(t, r.stderr, "too many new sessions in a minute (session_rate = 2), the next one in ")
	assert.Equal(t, first, generation(t, "centos"))
}
