package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forward starts an ssh that forwards, and waits until something listens on a port, which is
// what it is there for. It ends with the test.
func forward(t *testing.T, parties map[string]*party, server []string, as account, port string, args ...string) {
	t.Helper()
	cmd := clientOf(server, forced, as, append(append([]string{"-N", "-o", "ExitOnForwardFailure=yes"}, args...), "--", string(forced))...)
	stop := inBackground(t, cmd)
	t.Cleanup(stop)
	eventually(t, "ssh "+strings.Join(args, " "), func() bool { return parties["root"].ask(t, "sees "+port) != "" })
}

func inBackground(t *testing.T, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	return func() {
		cmd.Process.Kill() // asked to end, it waits for its sshd
		cmd.Wait()
	}
}

// TestNetworkForwards has ssh forward for a login, whose jail runs or does not: what it reaches
// and where it listens is the jail's.
func TestNetworkForwards(t *testing.T) {
	within := apart(t)
	carry(t)
	own(t, twoNetworks(jailA, jailB, ""))
	server := variant(t, forced, "AllowTcpForwarding yes", "GatewayPorts clientspecified")
	parties := map[string]*party{
		"A": partyIn(t, "a", centos.id), "B": partyIn(t, "b", work.id), "login": partyOf(t, work.id), "user": partyOf(t, alice.id), "root": partyOf(t, 0),
	}
	play(t, parties, []networkRow{
		{"A", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
		{"root", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
		{"root", "bind target 4 tcp 127.0.0.1 10002", "127.0.0.1 10002"},
	})
	refused := func(t *testing.T, says string, args ...string) {
		t.Helper()
		r := runCommand(t, clientOf(server, forced, work, append(args, "--", string(forced))...), nil)
		assert.NotZero(t, r.status, "%v", args)
		assert.Contains(t, r.stderr, says, "%v", args)
	}
	within("-L", func(t *testing.T) {
		play(t, parties, []networkRow{{"B", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"}})
		forward(t, parties, server, work, "10001", "-L", "127.0.0.1:10001:localhost:8080")
		play(t, parties, []networkRow{
			{"root", "connect c 4 tcp 127.0.0.1 10001", "connected"},
			{"B", "accept l k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"B", "send k by-L", "4"},
			{"root", "recv c", "~by-L.*"},
			{"root", "close c", "ok"},
		})
	})
	within("-W", func(t *testing.T) {
		cmd := clientOf(server, forced, work, "-W", "127.0.0.1:8080", string(forced))
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		defer inBackground(t, cmd)()
		defer in.Close()
		eventually(t, "ssh -W", func() bool {
			return parties["B"].ask(t, "accept l w") == "127.0.0.1 127.0.0.1 127.0.0.1"
		})
		play(t, parties, []networkRow{{"B", "send w by-W", "4"}, {"B", "close w", "ok"}})
		require.NoError(t, out.(*os.File).SetReadDeadline(time.Now().Add(deadline)))
		line, err := bufio.NewReader(out).ReadString('W')
		require.NoError(t, err)
		assert.Equal(t, "by-W", line)
	})
	within("-D", func(t *testing.T) {
		forward(t, parties, server, work, "10003", "-D", "127.0.0.1:10003")
		socks := func(port uint16) (net.Conn, bool) { // RFC 1928
			c, err := net.DialTimeout("tcp", "127.0.0.1:10003", deadline)
			require.NoError(t, err)
			require.NoError(t, c.SetDeadline(time.Now().Add(deadline)))
			_, err = c.Write([]byte{5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, byte(port >> 8), byte(port)})
			require.NoError(t, err)
			var answer [12]byte
			_, err = io.ReadFull(c, answer[:])
			return c, err == nil && answer[3] == 0 // what is refused is closed, after the first two bytes
		}
		c, reached := socks(8080)
		assert.True(t, reached)
		play(t, parties, []networkRow{{"B", "accept l s", "127.0.0.1 127.0.0.1 127.0.0.1"}, {"B", "send s by-D", "4"}})
		var text [4]byte
		_, err := io.ReadFull(c, text[:])
		require.NoError(t, err)
		assert.Equal(t, "by-D", string(text[:]))
		c.Close()
		c, reached = socks(10002) // the host's
		assert.False(t, reached)
		c.Close()
	})
	within("-R", func(t *testing.T) {
		forward(t, parties, server, work, "7779", "-R", "7779:127.0.0.1:10002")
		forward(t, parties, server, work, "81", "-R", "*:81:127.0.0.1:10002")
		play(t, parties, []networkRow{
			{"B", "connect r 4 tcp 127.0.0.1 7779", "connected"},
			{"root", "accept target k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"A", "connect r 4 tcp 127.0.0.1 7779", "ECONNREFUSED"},
			{"user", "connect r 4 tcp 127.0.0.1 7779", "ECONNREFUSED"},
			{"root", "connect r 4 tcp 127.0.0.1 7779", "ECONNREFUSED"},
			{"user", "connect g 4 tcp " + hostAddress + " 81", "connected"}, // GatewayPorts, and its own
		})
		refused(t, "remote port forwarding failed for listen port 80", "-N", "-o", "ExitOnForwardFailure=yes", "-R", "*:80:127.0.0.1:10002")
		refused(t, "remote port forwarding failed for listen port 8000", "-N", "-o", "ExitOnForwardFailure=yes", "-R", "8000:127.0.0.1:10002")
	})
	within("while the jail is stopped", func(t *testing.T) {
		parties["B"].end()
		require.NoError(t, command(initPath, "stop", "b"))
		refused(t, "stdio forwarding failed", "-W", "127.0.0.1:8080") // A's and the host's are there
		forward(t, parties, server, work, "7780", "-R", "7780:127.0.0.1:10002")
		play(t, parties, []networkRow{
			{"A", "connect r 4 tcp 127.0.0.1 7780", "ECONNREFUSED"},
			{"user", "connect r 4 tcp 127.0.0.1 7780", "ECONNREFUSED"},
			{"login", "connect r 4 tcp 127.0.0.1 7780", "connected"},
		})
		assert.Empty(t, jailPIDs("b"), "nothing of this starts it")
		parties["B"] = partyIn(t, "b", work.id)
		play(t, parties, []networkRow{{"B", "connect r 4 tcp 127.0.0.1 7780", "connected"}})
		parties["B"].end()
	})
	for _, p := range parties {
		p.end()
	}
}

// TestNetworkEntered: a session has its jail's network whichever way it came in.
func TestNetworkEntered(t *testing.T) {
	within := apart(t)
	carry(t)
	for _, mode := range []string{"", rootMode} {
		within("mode "+mode, func(t *testing.T) {
			own(t, twoNetworks(mode+"\n"+jailA, mode+"\n"+jailB, ""))
			sockets := attackPath + " sockets"
			for name, cmd := range map[string]*exec.Cmd{
				"su -":     exec.Command("su", "-", work.login, "-c", sockets),
				"su":       exec.Command("su", work.login, "-c", sockets),
				"ssh":      clientOf(variant(t, forced), forced, work, "--", string(forced), sockets),
				"by shell": clientOf(variant(t, login), login, work, "--", string(login), sockets),
				"exec":     exec.Command(initPath, "exec", "-u", fmt.Sprint(work.id), "b", attackPath, "sockets"),
			} {
				entered := newParty(t, name, cmd)
				parties := map[string]*party{name: entered, "root": partyOf(t, 0), "A": partyIn(t, "a", centos.id), "B": partyIn(t, "b", work.id)}
				play(t, parties, []networkRow{
					{name, "uid", fmt.Sprint(work.id)},
					{name, "bind o 4 tcp 0.0.0.0 81", "0.0.0.0 81"},
					{name, "bind x 4 tcp 0.0.0.0 80", "EADDRINUSE"},
					{name, "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
					{"B", "connect c 4 tcp 127.0.0.1 8080", "connected"},
					{"A", "connect c 4 tcp 127.0.0.1 8080", "ECONNREFUSED"},
					{"root", "bind h 4 tcp 127.0.0.1 15000", "127.0.0.1 15000"},
					{name, "connect h 4 tcp 127.0.0.1 15000", "ECONNREFUSED"},
					{"A", "connect o 4 tcp " + hostAddress + " 81", "connected"},
				})
				for _, p := range parties {
					p.end()
				}
			}
		})
	}
}

// TestNetworkX11: displays of two jails have the same number, and each is its jail's.
func TestNetworkX11(t *testing.T) {
	within := apart(t)
	carry(t)
	own(t, twoNetworks("x11 = true\n"+jailA, "x11 = true\n"+jailB, ""))
	env := displayOfClient(t)
	within("two displays", func(t *testing.T) {
		parties := map[string]*party{"A": partyIn(t, "a", centos.id), "B": partyIn(t, "b", work.id), "user": partyOf(t, alice.id)}
		for _, as := range []account{centos, work} {
			cmd := clientOf(variant(t, forced, x11Lines(as)...), forced, as, "-Y", "--", string(forced), "echo $DISPLAY; read x")
			cmd.Env = env
			l := talkThrough(t, cmd)
			assert.Equal(t, "localhost:10.0", strings.TrimSpace(l.expect("localhost.*\n")), as.login)
			defer func() { l.send("\n"); l.cmd.Wait() }()
		}
		play(t, parties, []networkRow{
			{"A", "connect c 4 tcp 127.0.0.1 6010", "connected"},
			{"B", "connect c 4 tcp 127.0.0.1 6010", "connected"},
			{"user", "connect c 4 tcp 127.0.0.1 6010", "ECONNREFUSED"},
			{"user", "sees 6010", "~127\\.\\S+ 127\\.\\S+"},
		})
		for _, p := range parties {
			p.end()
		}
	})
}
