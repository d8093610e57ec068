package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTop: what a jail uses is seen, by the kernel's word.
func TestTop(t *testing.T) {
	own(t, oneJail("centos", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id)))
	l := open(t, login, ask{as: centos, cmd: "echo in; while :; do :; done"})
	l.expect("in\n")
	r := runCommand(t, exec.Command(initPath, "top", "--json", "--every", "1s"), nil)
	var list struct {
		V     int
		Jails []struct {
			Jail                     string
			PID, Sessions, Processes int
			CPU                      float64 `json:"cpu_percent"`
			Memory                   uint64  `json:"memory_bytes"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &list), r.stdout)
	require.Len(t, list.Jails, 1)
	j := list.Jails[0]
	assert.Equal(t, 1, list.V)
	assert.Equal(t, "centos", j.Jail)
	assert.Equal(t, jailPIDs("centos")[0], j.PID)
	assert.Equal(t, 1, j.Sessions)
	assert.Equal(t, 1, j.Processes)
	assert.Greater(t, j.CPU, 0.0)
	assert.Greater(t, j.Memory, uint64(100<<10))
	r = runCommand(t, exec.Command(initPath, "top", "-b", "--every", "100ms"), nil)
	assert.Regexp(t, `^JAIL +PID +SESSIONS +PROCESSES +CPU +MEMORY +BY\ncentos +\d+ +1 +1 +[\d.]+% +[\d.]+ \S+ +(proc|cgroup)\n$`, r.stdout)
	require.NoError(t, command(initPath, "stop", "centos"))
	l.wait()
	r = runCommand(t, exec.Command(initPath, "top", "-b", "--every", "100ms"), nil)
	assert.Equal(t, result{stdout: "JAIL  PID  SESSIONS  PROCESSES  CPU  MEMORY  BY\n"}, r)
}
