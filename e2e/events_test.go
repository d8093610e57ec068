package e2e

import (
	"fmt"
	"os"
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSessionsInTheLog: a session leaves its trace, as what it was and with its end, under
// one id.
func TestSessionsInTheLog(t *testing.T) {
	s := own(t, oneJail("traced", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id)))
	info, err := os.Stat(world.log("serve.log"))
	require.NoError(t, err)
	require.Equal(t, 3, run(t, login, ask{as: centos, cmd: "exit 3"}).status)
	line := regexp.MustCompile(`(?m)^jail-init: jail traced: session (\w{8}) login (\S+) started: command, pid \d+$`)
	eventually(t, "its start", func() bool { return line.MatchString(logSince(t, "serve.log", info.Size())) })
	m := line.FindStringSubmatch(logSince(t, "serve.log", info.Size()))
	assert.Equal(t, centos.login, m[2])
	end := regexp.MustCompile(`(?m)^jail-init: jail traced: session ` + m[1] + ` login ` + m[2] + ` ended: status 3 after \S+s$`)
	eventually(t, "its end", func() bool { return end.MatchString(logSince(t, "serve.log", info.Size())) })

	s.kill(syscall.SIGKILL)
	info, err = os.Stat(world.log("serve.log"))
	require.NoError(t, err)
	require.Equal(t, 4, run(t, login, ask{as: centos, cmd: "exit 4"}).status)
	require.NoError(t, s.start())
	both := regexp.MustCompile(`jail traced: session (\w{8}) login ` + centos.login + ` started: command, pid \d+.*\n(.*\n)*.*jail traced: session (\w{8}) login ` + centos.login + ` ended: status 4 after `)
	eventually(t, "what happened while nobody listened", func() bool { return both.MatchString(logSince(t, "serve.log", info.Size())) })
	m = both.FindStringSubmatch(logSince(t, "serve.log", info.Size()))
	assert.Equal(t, m[1], m[3])
}
