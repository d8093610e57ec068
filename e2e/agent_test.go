package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// agentOfClient starts an ssh-agent that holds the key of every login, and
// returns the environment of its clients.
func agentOfClient(t *testing.T) []string {
	t.Helper()
	socket := filepath.Join(shortDir(t), "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	require.NoError(t, agent.Start())
	t.Cleanup(func() {
		agent.Process.Kill()
		agent.Wait()
	})
	eventually(t, "ssh-agent listens", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	env := []string{"PATH=" + os.Getenv("PATH"), "SSH_AUTH_SOCK=" + socket}
	add := exec.Command("ssh-add", "-q", keyFile)
	add.Env = env
	require.NoError(t, add.Run())
	return env
}

// agentNames are the agents' sockets a jail has.
func agentNames(t *testing.T, jail string) []string {
	t.Helper()
	pids := jailPIDs(jail)
	require.Len(t, pids, 1)
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/dev/jail/agent/*/agent", pids[0]))
	require.NoError(t, err)
	return names
}

// sshdAgents are the sockets sshd has made for agents on the host: in a directory
// each in /tmp (session.c:auth_input_request_forwarding), since OpenSSH 10.1 in the
// account's home directory (misc-agent.c:agent_listener).
func sshdAgents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"/tmp/ssh-*/agent.*", agentPlace + "/*"} {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		all = append(all, names...)
	}
	return all
}

func TestCase47Agent(t *testing.T) {
	standard(t)
	bring(t, debianRoot, "ssh-add", "ssh")
	env := agentOfClient(t)
	local := exec.Command("ssh-add", "-l")
	local.Env = env
	keys, err := local.Output()
	require.NoError(t, err)
	require.Contains(t, string(keys), "ED25519")

	for _, d := range jailDoors {
		t.Run(string(d), func(t *testing.T) {
			server := variant(t, d, "AllowAgentForwarding yes")
			through := func(args ...string) result {
				cmd := clientOf(server, d, work, args...)
				cmd.Env = env
				return runCommand(t, cmd, nil)
			}
			t.Run("keys are listed", func(t *testing.T) {
				r := through("-A", "--", string(d), "ssh-add -l")
				assert.Equal(t, result{stdout: string(keys)}, r)
			})
			t.Run("on a terminal", func(t *testing.T) {
				r := through("-A", "-tt", "--", string(d), "ssh-add -l")
				assert.Equal(t, strings.ReplaceAll(string(keys), "\n", "\r\n"), r.stdout)
			})
			t.Run("without -A", func(t *testing.T) {
				r := through("-a", "--", string(d), "echo ${SSH_AUTH_SOCK-unset}; ls /dev/jail/agent")
				assert.Equal(t, result{stdout: "unset\n"}, r)
			})
			t.Run("sshd does not forward", func(t *testing.T) {
				cmd := clientOf(variant(t, d, "AllowAgentForwarding no"), d, work, "-A", "--", string(d), "echo ${SSH_AUTH_SOCK-unset}")
				cmd.Env = env
				assert.Equal(t, "unset\n", runCommand(t, cmd, nil).stdout)
			})
			t.Run("nobody else uses it", func(t *testing.T) {
				cmd := clientOf(server, d, work, "-A", "--", string(d), "stat -c '%a %U %F' $SSH_AUTH_SOCK; echo $SSH_AUTH_SOCK; read x")
				cmd.Env = env
				l := talkThrough(t, cmd)
				l.expect("600 work socket\n")
				path := strings.TrimSpace(l.expect("/dev/jail/agent/.*\n"))
				ask := "SSH_AUTH_SOCK=" + path + " ssh-add -l"
				assert.Equal(t, 2, run(t, d, asked(emptyShell, ask)).status, "another user of the jail")
				assert.Equal(t, string(keys), run(t, d, asked(work, ask)).stdout, "another session of the user")
				l.send("\n")
				l.cmd.Wait()
				eventually(t, "the socket is gone", func() bool { return len(agentNames(t, "debian")) == 0 })
			})
			t.Run("nor sshd's own socket on the host", func(t *testing.T) {
				left := sshdAgents(t) // by an sshd that its client has killed
				cmd := clientOf([]string{"none"}, d, work, "-A", "-o", "HostName=127.0.0.1",
					"-p", strconv.Itoa(listeningSSHD(t, d, "AllowAgentForwarding yes")), "--", string(d), "ssh-add -l; read x")
				cmd.Env = env
				l := talkThrough(t, cmd)
				l.expect("ED25519")
				made := slices.DeleteFunc(sshdAgents(t), func(name string) bool { return slices.Contains(left, name) })
				require.Len(t, made, 1)
				closed := made[0] // to all others: it, or the directory it has for itself
				if filepath.Dir(closed) != agentPlace {
					closed = filepath.Dir(closed)
				}
				info, err := os.Stat(closed)
				require.NoError(t, err)
				assert.Zero(t, info.Mode().Perm()&0o077, "%v", info.Mode())
				assert.Equal(t, uint32(work.id), info.Sys().(*syscall.Stat_t).Uid)
				l.send("\n")
				l.cmd.Wait()
				eventually(t, "it is gone", func() bool { return slices.Equal(sshdAgents(t), left) })
			})
			t.Run("gone when the client is killed", func(t *testing.T) {
				cmd := clientOf(server, d, work, "-A", "-tt", "--", string(d), "echo $SSH_AUTH_SOCK; read x")
				cmd.Env = env
				l := talkThrough(t, cmd)
				l.expect("/dev/jail/agent/.*\r\n")
				assert.Len(t, agentNames(t, "debian"), 1)
				l.cmd.Process.Kill()
				l.cmd.Wait()
				eventually(t, "the socket is gone", func() bool { return len(agentNames(t, "debian")) == 0 })
			})
			t.Run("two sessions on one connection", func(t *testing.T) {
				path := filepath.Join(shortDir(t), "mux")
				master := clientOf(server, d, work, "-A", "-M", "-N", "-S", path, "--", string(d))
				master.Env = env
				require.NoError(t, master.Start())
				defer master.Wait()
				defer master.Process.Signal(syscall.SIGTERM)
				eventually(t, "the connection stands", func() bool {
					_, err := os.Stat(path)
					return err == nil
				})
				over := func(command string) *exec.Cmd {
					cmd := exec.Command("ssh", "-F", sshDir+"/config", "-A", "-S", path, "-l", d.user(work), "--", string(d), command)
					cmd.Env = env
					return cmd
				}
				first := talkThrough(t, over("echo up; read x; ssh-add -l"))
				first.expect("up\n")
				r := runCommand(t, over("ssh-add -l"), nil)
				assert.Equal(t, result{stdout: string(keys)}, r, "beside the first")
				first.send("\n")
				first.expect("ED25519")
				first.cmd.Wait()
			})
			t.Run("ssh from inside", func(t *testing.T) {
				port := listeningSSHD(t, login)
				r := through("-A", "--", string(d), fmt.Sprintf(
					"ssh -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes -p %d %s@127.0.0.1 hostname", port, centos.login))
				assert.Equal(t, result{stdout: "centos\n"}, r)
			})
		})
	}
}

// shortDir is a directory for sockets, whose paths cannot be long.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// asked is one session of somebody's.
func asked(as account, cmd string) ask { return ask{as: as, cmd: cmd} }

// talkThrough starts a client program to talk with.
func talkThrough(t *testing.T, cmd *exec.Cmd) *console {
	t.Helper()
	c := &console{cmd: cmd}
	c.t = t
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	c.in, c.source = in, out
	require.NoError(t, cmd.Start())
	go c.listen()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return c
}

// listeningSSHD starts an sshd on a port of the loopback address, with lines as
// those of variant.
func listeningSSHD(t *testing.T, d door, lines ...string) int {
	t.Helper()
	port := freePort(t)
	argv := variant(t, d, lines...)
	config := argv[slices.Index(argv, "-f")+1]
	server := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", config, "-o", "ListenAddress=127.0.0.1", "-p", strconv.Itoa(port))
	startListening(t, server, port)
	return port
}

// startListening starts an sshd that is to listen on a port of the loopback address, waits
// until it does, and has the test end it.
func startListening(t *testing.T, sshd *exec.Cmd, port int) {
	t.Helper()
	require.NoError(t, sshd.Start())
	t.Cleanup(func() {
		sshd.Process.Kill()
		sshd.Wait()
	})
	eventually(t, "sshd listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// TestAgentBytes has the client answer with an echo instead of an agent: any
// number of bytes pass, in both directions, with the end of each, over many
// connections at once.
func TestAgentBytes(t *testing.T) {
	standard(t)
	const script = `
import os, socket, sys, hashlib, threading
path = os.environ["SSH_AUTH_SOCK"]
def once(n):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(path)
    data = bytes([n % 251]) * 70001 + os.urandom(100000)
    def write():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    w = threading.Thread(target=write)
    w.start()
    got = b""
    while True:
        part = s.recv(65536)
        if not part: break
        got += part
    w.join()
    if got != data: print("connection", n, "got", len(got), "of", len(data)); os._exit(1)
threads = [threading.Thread(target=once, args=(n,)) for n in range(100)]
[t.start() for t in threads]
[t.join() for t in threads]
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.connect(path)
s.close() # one that goes at once
once(7)
print("all")
`
	for _, d := range jailDoors {
		t.Run(string(d), func(t *testing.T) {
			client, server, err := dialThrough(variant(t, d, "AllowAgentForwarding yes"), d, work)
			require.NoError(t, err)
			defer server.Wait()
			defer client.Close()
			channels := client.HandleChannelOpen("auth-agent@openssh.com")
			require.NotNil(t, channels)
			go func() {
				for c := range channels {
					channel, requests, err := c.Accept()
					if err != nil {
						continue
					}
					go ssh.DiscardRequests(requests)
					go func() {
						io.Copy(channel, channel)
						channel.CloseWrite()
						channel.Close()
					}()
				}
			}()
			session, err := client.NewSession()
			require.NoError(t, err)
			defer session.Close()
			ok, err := session.SendRequest("auth-agent-req@openssh.com", true, nil)
			require.NoError(t, err)
			require.True(t, ok)
			session.Stdin = strings.NewReader(script)
			out, err := session.CombinedOutput("python3 -")
			require.NoError(t, err, "%s", out)
			assert.Equal(t, "all\n", string(out))
		})
	}
}

// TestAgentLeftover has jail-enter started with variables that no sshd of its own
// has set, as in a su: no socket is connected to on behalf of a jail, whosever it
// is. An ssh-agent with a key in it stands for all that may listen on one.
func TestAgentLeftover(t *testing.T) {
	standard(t)
	bring(t, debianRoot, "ssh-add")
	for _, owner := range []struct {
		name   string
		id     int
		inside string
	}{{"root's", 0, "unset\n"}, {"the login's", work.id, "/dev/jail/agent/"}} {
		t.Run(owner.name, func(t *testing.T) {
			dir := shortDir(t)
			path := filepath.Join(dir, "agent")
			key := filepath.Join(dir, "key")
			require.NoError(t, command("cp", keyFile, key))
			require.NoError(t, command("chown", "-R", strconv.Itoa(owner.id), dir))
			as := func(name string, args ...string) *exec.Cmd {
				cmd := exec.Command(name, args...)
				cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SSH_AUTH_SOCK=" + path, "SSH_CONNECTION=127.0.0.1 1 127.0.0.1 2", "SSH_CLIENT=127.0.0.1 1 2"}
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(owner.id), Gid: uint32(owner.id)}}
				return cmd
			}
			agent := as("ssh-agent", "-D", "-a", path)
			require.NoError(t, agent.Start())
			defer agent.Wait()
			defer agent.Process.Kill()
			eventually(t, "ssh-agent listens", func() bool {
				_, err := os.Stat(path)
				return err == nil
			})
			require.NoError(t, as("ssh-add", "-q", key).Run())
			require.NoError(t, os.Chmod(dir, 0o755))

			su := as("su", work.login, "-c", "echo ${SSH_AUTH_SOCK-unset}; ssh-add -l >&2; echo $?")
			su.SysProcAttr = nil
			r := runCommand(t, su, nil)
			assert.True(t, strings.HasPrefix(r.stdout, owner.inside), "%q", r.stdout)
			assert.False(t, strings.HasSuffix(r.stdout, "\n0\n"), "%q: the agent cannot be asked", r.stdout)
			assert.NotContains(t, r.stderr, "ED25519")
		})
	}
}
