package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMetrics: what serve sees is told in a file and on a socket, and a new serve goes on with it.
func TestMetrics(t *testing.T) {
	const dir = "/srv/metrics"
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	reg := oneJail("debian", debianRoot, `users = ["debian"]`, fmt.Sprintf("uid = %d", work.id))
	reg.text = strings.Replace(reg.text, "version = 1\n", "version = 1\n[host]\nmetrics = \""+dir+"/jail.prom\"\n", 1)
	s := own(t, reg)
	asked := func() string {
		conn, err := net.Dial("unix", "/run/jail/metrics")
		if err != nil {
			return ""
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
		text, _ := io.ReadAll(conn)
		_, body, _ := strings.Cut(string(text), "\r\n\r\n")
		return body
	}
	has := func(lines ...string) func() bool {
		return func() bool {
			text := asked()
			for _, l := range lines {
				if !strings.Contains(text, "\n"+l+"\n") {
					return false
				}
			}
			return true
		}
	}
	assert.True(t, has("jail_registry_jails 1", "jail_registry_logins 1", `jail_registry_reads_total{result="taken"} 1`)())
	assert.Equal(t, result{status: 3}, run(t, forced, ask{cmd: "exit 3"}))
	c := open(t, forced, ask{cmd: "read x"})
	eventually(t, "sessions are counted", has(`jail_running{jail="debian"} 1`, `jail_starts_total{jail="debian"} 1`, `jail_sessions{jail="debian"} 1`,
		`jail_sessions_started_total{jail="debian",kind="command"} 2`, `jail_sessions_ended_total{jail="debian"} 1`))
	s.kill(syscall.SIGKILL)
	require.NoError(t, s.start())
	eventually(t, "the session that goes on is counted", has(`jail_sessions{jail="debian"} 1`, `jail_running{jail="debian"} 1`, `jail_starts_total{jail="debian"} 0`))
	c.send("x\n")
	c.wait()
	eventually(t, "and its end", has(`jail_sessions{jail="debian"} 0`))
	eventually(t, "the file is there", func() bool { return strings.Contains(contents(dir+"/jail.prom"), "jail_registry_jails 1\n") })
	st, err := os.Stat("/run/jail/metrics")
	require.NoError(t, err)
	assert.Zero(t, st.Mode().Perm()&0o077)
}
