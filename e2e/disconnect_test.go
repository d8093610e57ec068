package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// policies are the values of on_disconnect; "" is a registry without it.
var policies = []string{"", "hup", "kill", "keep"}

// ownPolicy gives a test a jail of work's with a policy.
func ownPolicy(t *testing.T, policy string) {
	t.Helper()
	line := ""
	if policy != "" {
		line = fmt.Sprintf("on_disconnect = %q", policy)
	}
	own(t, oneJail("parting", debianRoot, line, "[jail.parting.users]", fmt.Sprintf("%s = { uid = %d }", work.login, work.id)))
}

// eachPolicy runs a test for every policy and every door into the jail.
func eachPolicy(t *testing.T, f func(t *testing.T, policy string, d door)) {
	for _, policy := range policies {
		name := policy
		if policy == "" {
			name = "unset"
		}
		t.Run(name, func(t *testing.T) {
			ownPolicy(t, policy)
			for _, d := range jailDoors {
				t.Run(string(d), func(t *testing.T) { f(t, policy, d) })
			}
		})
	}
}

// parting is a command that tells what has become of it: it notes a SIGHUP, and
// "done" once the gate is there. SIGPIPE would end it before it has noted
// anything: bash reports a child that dies of a signal, on a standard error that
// nobody reads.
func parting(note, gate string) string {
	return fmt.Sprintf("trap '' PIPE; trap 'echo hangup >>%[1]s; exit' HUP; echo $$ >%[1]s.pid; echo ready; until [ -e %[2]s ]; do sleep 0.01; done; echo done >>%[1]s", note, gate)
}

// leader is the pid of parting's shell, as the host has it.
func leader(t *testing.T, note string) int {
	t.Helper()
	inside := strings.TrimSpace(contents(note + ".pid"))
	require.NotEmpty(t, inside)
	for pid := range processes() {
		_, ids, _ := strings.Cut(contents(fmt.Sprintf("/proc/%d/status", pid)), "\nNSpid:")
		ids, _, _ = strings.Cut(ids, "\n")
		// The jail's namespace is the innermost of the two or three.
		if all := strings.Fields(ids); len(all) > 1 && all[len(all)-1] == inside && all[0] != inside {
			return pid
		}
	}
	t.Fatalf("no process %q", inside)
	return 0
}

// parted checks what has become of parting once its client is gone; others is how
// many more connections of the login there are.
func parted(t *testing.T, note, gate string, pid, others int, want string) {
	t.Helper()
	gone := func() bool { return syscall.Kill(pid, 0) != nil }
	switch want {
	case "hangup":
		eventually(t, "it is hung up", func() bool { return contents(note) == "hangup\n" })
	case "killed":
		eventually(t, "it is killed", gone)
		assert.Empty(t, contents(note), "it has had no say")
	case "goes on":
		// A signal that was sent would have come before the gate opens: the end of
		// the connection is over when jail-enter has nothing more to be told of.
		eventually(t, "sshd is gone", func() bool { return connections(work.login) == others })
		require.NoError(t, os.WriteFile(gate, nil, 0o644))
		eventually(t, "it runs to its end", func() bool { return contents(note) == "done\n" })
	}
	eventually(t, "it is gone", gone)
	eventually(t, "jail-enter is gone", func() bool { return len(running("jail-enter")) == 0 && len(running("-jail-enter")) == 0 })
}

func TestOnDisconnect(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy string, d door) {
		t.Run("without a terminal", func(t *testing.T) {
			note, gate := inHome(t, d, "note"), inHome(t, d, "gate")
			inHome(t, d, "note.pid")
			others := connections(work.login)
			cmd := exec.Command("ssh", "-F", sshDir+"/config", "-l", work.login, "--", string(d), parting("note", "gate"))
			c := talkThrough(t, cmd)
			c.expect("ready\n")
			pid := leader(t, note)
			require.NoError(t, cmd.Process.Kill())
			cmd.Wait()
			parted(t, note, gate, pid, others, map[string]string{"": "goes on", "hup": "hangup", "kill": "killed", "keep": "goes on"}[policy])
		})
		t.Run("on a terminal", func(t *testing.T) {
			note, gate := inHome(t, d, "note"), inHome(t, d, "gate")
			inHome(t, d, "note.pid")
			others := connections(work.login)
			c := onConsole(t, exec.Command("ssh", "-F", sshDir+"/config", "-tt", "-l", work.login, "--", string(d), parting("note", "gate")))
			c.expect("ready\r\n")
			pid := leader(t, note)
			require.NoError(t, c.cmd.Process.Kill())
			c.cmd.Wait()
			parted(t, note, gate, pid, others, map[string]string{"": "hangup", "hup": "hangup", "kill": "killed", "keep": "goes on"}[policy])
		})
		t.Run("one session of several", func(t *testing.T) {
			note, gate := inHome(t, d, "note"), inHome(t, d, "gate")
			inHome(t, d, "note.pid")
			client, server, err := dialThrough(sshd(d, world.scratch), d, work)
			require.NoError(t, err)
			defer server.Wait()
			defer client.Close()
			session, err := client.NewSession()
			require.NoError(t, err)
			out, err := session.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, session.Start(parting("note", "gate")))
			_, err = io.ReadFull(out, make([]byte, len("ready\n")))
			require.NoError(t, err)
			pid := leader(t, note)
			require.NoError(t, session.Close())
			other, err := client.NewSession()
			require.NoError(t, err)
			hello, err := other.Output("echo hello")
			require.NoError(t, err)
			assert.Equal(t, "hello\n", string(hello), "the connection stands")
			switch policy {
			case "hup":
				eventually(t, "it is hung up", func() bool { return contents(note) == "hangup\n" })
			case "kill":
				eventually(t, "it is killed", func() bool { return syscall.Kill(pid, 0) != nil })
			default:
				require.NoError(t, os.WriteFile(gate, nil, 0o644))
				eventually(t, "it runs to its end", func() bool { return contents(note) == "done\n" })
			}
		})
	})
}

// TestNotDisconnected has clients that only stop to read or to write: nobody is
// taken for gone.
func TestNotDisconnected(t *testing.T) {
	for _, policy := range []string{"hup", "kill"} {
		t.Run(policy, func(t *testing.T) {
			ownPolicy(t, policy)
			for _, d := range jailDoors {
				t.Run(string(d), func(t *testing.T) {
					note, gate := inHome(t, d, "note"), inHome(t, d, "gate")
					// As "ssh host command | head -1": what reads the client's output goes.
					r, w, err := os.Pipe()
					require.NoError(t, err)
					cmd := exec.Command("ssh", "-F", sshDir+"/config", "-l", work.login, "--", string(d),
						`trap 'echo hangup >>note; exit' HUP; trap 'echo pipe >>note' PIPE; while echo x 2>/dev/null; do sleep 0.01; done; `+
							`until [ -e gate ]; do sleep 0.01; done; echo done >>note; exit 7`)
					cmd.Stdout = w
					require.NoError(t, cmd.Start())
					t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
					w.Close()
					_, err = io.ReadFull(r, make([]byte, 2))
					require.NoError(t, err)
					r.Close()
					eventually(t, "the command has a broken pipe", func() bool { return contents(note) != "" })
					require.NoError(t, os.WriteFile(gate, nil, 0o644))
					var exit *exec.ExitError
					require.ErrorAs(t, cmd.Wait(), &exit)
					assert.Equal(t, 7, exit.ExitCode())
					assert.Equal(t, "pipe\ndone\n", contents(note))

					// No input, and an output that is closed by the command itself.
					res := run(t, d, ask{cmd: "exec >&- 2>&-; sleep 0.2; exit 5"})
					assert.Equal(t, result{status: 5}, res)
					res = run(t, d, ask{cmd: "exec 2>&-; sleep 0.2; echo out; exit 6"})
					assert.Equal(t, result{stdout: "out\n", status: 6}, res)

					// A subsystem, whose standard error sshd reads and throws away.
					sftp := exec.Command("ssh", "-F", sshDir+"/config", "-l", work.login, "-s", "--", string(d), "sftp")
					in, err := sftp.StdinPipe()
					require.NoError(t, err)
					require.NoError(t, sftp.Start())
					t.Cleanup(func() { sftp.Process.Kill(); sftp.Wait() })
					eventually(t, "it runs", func() bool { return len(running("/usr/lib/openssh/sftp-server")) > 0 })
					time.Sleep(200 * time.Millisecond) // in which nothing happens
					require.Len(t, running("/usr/lib/openssh/sftp-server"), 1)
					in.Close()
					require.NoError(t, sftp.Wait(), "it ends with its input")
				})
			}
			t.Run("a pipe of root's shell", func(t *testing.T) {
				// Standard error is anybody's pipe here, and its end says nothing.
				note := inHome(t, forced, "note")
				su := exec.Command("sh", "-c", fmt.Sprintf("su - %s -c 'trap \"echo hangup >>note\" HUP; sleep 0.3; echo done >>note' 2>&1 | true", work.login))
				require.NoError(t, su.Run())
				eventually(t, "it has run to its end", func() bool { return contents(note) == "done\n" })
			})
		})
	}
}

// TestKeptTerminal has a program go on that prints more than a terminal holds,
// and ends it as an administrator would.
func TestKeptTerminal(t *testing.T) {
	ownPolicy(t, "keep")
	note := inHome(t, forced, "note")
	c := onConsole(t, exec.Command("ssh", "-F", sshDir+"/config", "-tt", "-l", work.login, "--", string(forced),
		"echo ready; sleep 0.1; seq 1 300000; echo $? >note; tty >>note; exec sleep 41719"))
	c.expect("ready\r\n")
	require.NoError(t, c.cmd.Process.Kill())
	c.cmd.Wait()
	eventually(t, "all is printed, to nobody", func() bool { return contents(note) == "0\n/dev/pts/0\n" })
	eventually(t, "it goes on", func() bool { return len(running("sleep 41719")) == 1 })
	r := run(t, forced, ask{cmd: "tty; ls /dev/pts", tty: xterm()})
	assert.Equal(t, "/dev/pts/1\n0  1  ptmx\n", strings.ReplaceAll(r.stdout, "\r", ""), "the terminal is still its own")
	assert.Equal(t, 0, run(t, forced, ask{cmd: "pkill -f '^sleep 41719'"}).status)
	eventually(t, "the terminal goes with the session", func() bool {
		names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/root/dev/pts/[0-9]*", jailPIDs("parting")[0]))
		return len(names) == 0
	})
}

// TestSignalsWithPolicy has a client's signal requests reach the process group as
// ever, whatever is to happen at the end.
func TestSignalsWithPolicy(t *testing.T) {
	ownPolicy(t, "kill")
	client, server, err := dialThrough(sshd(login, world.scratch), login, work)
	require.NoError(t, err)
	defer server.Wait()
	defer client.Close()
	session, err := client.NewSession()
	require.NoError(t, err)
	out, err := session.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, session.Start("trap 'echo caught; exit 4' USR1; echo ready; while :; do sleep 0.01; done"))
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	require.NoError(t, err)
	require.NoError(t, session.Signal(ssh.SIGUSR1))
	text, err := io.ReadAll(out)
	require.NoError(t, err)
	assert.Equal(t, "caught\n", string(text))
	var exit *ssh.ExitError
	require.ErrorAs(t, session.Wait(), &exit)
	assert.Equal(t, 4, exit.ExitStatus())
}
