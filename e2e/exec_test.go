package e2e

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// each runs a test through every door, the oracle's among them: what a test
// demands of a jail must be true of plain sshd first.
func each(t *testing.T, test func(t *testing.T, d door)) {
	t.Helper()
	for _, d := range allDoors {
		t.Run(string(d), func(t *testing.T) { test(t, d) })
	}
}

// inHome returns the path, as the host sees it, of a file in work's home
// behind that door, and removes it at the end.
func inHome(t *testing.T, d door, name string) string {
	t.Helper()
	path := filepath.Join(d.root(), work.home, name)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(path)) })
	return path
}

func contents(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

// noise is a stream nothing compresses, the same every time.
func noise(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{}), size)
}

func sum(r io.Reader) string {
	h := sha256.New()
	io.Copy(h, r)
	return hexSum(h)
}

func hexSum(h hash.Hash) string { return fmt.Sprintf("%x", h.Sum(nil)) }

// terminated waits for the end of every process whose arguments begin with
// text.
func terminated(t *testing.T, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("no process %q is left", text), func() bool { return len(running(text)) == 0 })
}

func TestCase01ExitCodes(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		t.Parallel()
		for status := range 256 {
			r := run(t, d, ask{cmd: fmt.Sprintf("echo out; echo err >&2; exit %d", status)})
			require.Equal(t, result{stdout: "out\n", stderr: "err\n", status: status}, r)
		}
		require.Equal(t, result{}, run(t, d, ask{cmd: "exit 256"}))
	})
}

func TestCase02Signals(t *testing.T) {
	standard(t)
	harmless := map[unix.Signal]bool{unix.SIGCHLD: true, unix.SIGCONT: true, unix.SIGURG: true, unix.SIGWINCH: true}
	stopping := map[unix.Signal]bool{unix.SIGSTOP: true, unix.SIGTSTP: true, unix.SIGTTIN: true, unix.SIGTTOU: true}
	const sigrtmin, sigrtmax = 34, 64 // 32 and 33 are the C library's own
	for n := unix.Signal(1); n <= sigrtmax; n++ {
		if harmless[n] || stopping[n] || n > unix.SIGSYS && n < sigrtmin {
			continue
		}
		// Not the shell itself: bash ignores SIGQUIT.
		command := fmt.Sprintf(`exec python3 -c 'import os, signal
if %[1]d != signal.SIGKILL: signal.signal(%[1]d, signal.SIG_DFL)
os.kill(os.getpid(), %[1]d)'`, n)
		t.Run(fmt.Sprint(int(n)), func(t *testing.T) {
			t.Parallel()
			r := same(t, ask{cmd: command, wire: true})
			assert.Equal(t, -1, r.status)
			assert.NotEmpty(t, r.signal)
		})
	}
	assert.Equal(t, 255, same(t, ask{cmd: "kill -TERM $$"}).status, "OpenSSH's client has no status of its own for this")
}

func TestCase03EmptyCommand(t *testing.T) {
	standard(t)
	t.Run("exec of nothing", func(t *testing.T) {
		assert.Equal(t, result{}, same(t, ask{cmd: "", wire: true}))
	})
	t.Run("shell with nothing to read", func(t *testing.T) {
		assert.Equal(t, result{}, same(t, ask{shell: true}))
	})
	t.Run("script on standard input", func(t *testing.T) {
		r := same(t, ask{shell: true, stdin: "echo $0 $BASHRC_READ $PROFILE_READ $-\nshopt login_shell\nexit 3\n"})
		assert.Equal(t, 3, r.status)
	})
}

func TestCase04NoSuchCommand(t *testing.T) {
	standard(t)
	assert.Equal(t, 127, same(t, ask{cmd: "nosuchcommand"}).status)
	assert.Equal(t, 127, same(t, ask{cmd: "/nosuch/command"}).status)
	assert.Equal(t, 126, same(t, ask{cmd: "/tmp"}).status)
	assert.Equal(t, 126, same(t, ask{cmd: "/etc/passwd"}).status)
	same(t, ask{cmd: "if"}) // a syntax error
}

func TestCase05CommandBytes(t *testing.T) {
	standard(t)
	for _, command := range []string{
		"echo one\necho two",
		`echo 'single "double" inside' "double 'single' inside"`,
		`echo \$HOME \\ "\\" '\'`,
		`echo $HOME; echo "a;b" && echo c || echo d`,
		"echo hi! !! !$",
		"echo \u00e4\u4e2d\U0001f600",
		"printf %s '\xff\xfe\x80' | od -An -tx1",
		"echo trailing   ",
		"   echo leading",
		"-x",
		"--forced",
		"exec " + enterPath + " --forced; echo after",
		"echo \x01\x02\x7f\x1b",
		"# nothing but a comment",
		"\n\n",
		"echo *; echo ~; echo {1..3}",
		"x=1 y=$x; echo $y",
	} {
		t.Run(strconv.QuoteToASCII(command), func(t *testing.T) {
			t.Parallel()
			same(t, ask{cmd: command})
			r := same(t, ask{as: argv, cmd: command, wire: true})
			assert.Equal(t, quoted("argv", "-c", command), r.stdout)
		})
	}
}

// quoted is what the argv program prints.
func quoted(args ...string) string {
	var b strings.Builder
	for _, arg := range args {
		b.WriteString(strconv.Quote(arg) + "\n")
	}
	return b.String()
}

// Linux allows one string of a program's environment or arguments 128 KiB
// (MAX_ARG_STRLEN). ForceCommand loses the length of SSH_ORIGINAL_COMMAND= to
// that.
func TestCase06LongCommands(t *testing.T) {
	standard(t)
	long := func(size int) string { return "echo ${#0}; : " + strings.Repeat("x", size-len("echo ${#0}; : ")) }
	t.Run("130,000 bytes work", func(t *testing.T) {
		assert.Equal(t, 0, same(t, ask{cmd: long(130_000), wire: true}).status)
	})
	t.Run("131,000 bytes work", func(t *testing.T) {
		assert.Equal(t, 0, same(t, ask{cmd: long(131_000), wire: true}).status)
	})
	t.Run("131,060 bytes fail cleanly where forced", func(t *testing.T) {
		r := run(t, forced, ask{cmd: long(131_060), wire: true})
		assert.NotEqual(t, 0, r.status)
		assert.NotEmpty(t, r.stderr)
		assert.Empty(t, r.stdout)
	})
	t.Run("200,000 bytes fail cleanly", func(t *testing.T) {
		assert.Equal(t, 1, same(t, ask{cmd: long(200_000), wire: true}, "host shell").status)
	})
}

func TestCase07LateOutput(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		t.Parallel()
		began := time.Now()
		r := run(t, d, ask{cmd: "(sleep 0.5; echo late; echo later >&2) & exit 3"})
		assert.Equal(t, result{stdout: "late\n", stderr: "later\n", status: 3}, r)
		assert.Greater(t, time.Since(began), 500*time.Millisecond, "the client waits for whoever holds its pipes")
	})
}

func TestCase09Daemon(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		const sleep = "sleep 40909"
		inHome(t, d, "nohup.out")
		r := runFresh(t, d, "setsid nohup "+sleep+" >/dev/null 2>&1 </dev/null & exit 0")
		assert.Equal(t, result{}, r)
		// The connection has ended; what was started must not have.
		eventually(t, "the daemon runs, although its session has ended", func() bool { return len(running(sleep)) == 1 })
		run(t, d, ask{cmd: "pkill -f '^" + sleep + "'"})
		terminated(t, sleep)
	})
}

// runFresh holds a session on a connection of its own, and returns when that
// has ended.
func runFresh(t *testing.T, d door, command string) result {
	t.Helper()
	return runCommand(t, exec.Command("ssh", "-F", sshDir+"/config", "-S", "none", "-l", d.user(work), "--", string(d), command), nil)
}

func TestCase10ClosedOutputs(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		t.Parallel()
		began := time.Now()
		assert.Equal(t, result{status: 7}, run(t, d, ask{cmd: "exec >&- 2>&-; sleep 0.5; exit 7"}))
		assert.Greater(t, time.Since(began), 500*time.Millisecond)
	})
}

func TestCase11UnreadInput(t *testing.T) {
	standard(t)
	unread := strings.Repeat("unread\n", 5<<20/7)
	each(t, func(t *testing.T, d door) {
		for _, wire := range []bool{false, true} {
			assert.Equal(t, result{status: 9}, run(t, d, ask{cmd: "exit 9", stdin: unread, wire: wire}))
			assert.Equal(t, result{stdout: "line\n", status: 0}, run(t, d, ask{cmd: "head -n1", stdin: "line\n" + unread, wire: wire}))
		}
	})
}

func TestCase12ErrorsAfterOutput(t *testing.T) {
	standard(t)
	assert.Equal(t, result{stdout: "out\n", stderr: "err\n"}, same(t, ask{cmd: "echo out; exec >&-; sleep 0.2; echo err >&2"}))
	r := same(t, ask{cmd: "exec >&-; head -c 2000000 /dev/zero | tr '\\0' e >&2"})
	assert.Len(t, r.stderr, 2_000_000)
}

const bulk = 64 << 20

func TestCase13Bulk(t *testing.T) {
	standard(t)
	sent := sum(noise(bulk))
	each(t, func(t *testing.T, d door) {
		t.Run("the same bytes there and back", func(t *testing.T) {
			l := start(t, d, ask{cmd: "cat"})
			go func() {
				io.Copy(l.in, noise(bulk))
				l.in.Close()
			}()
			assert.Equal(t, sent, sum(l.source))
			assert.Equal(t, result{}, l.wait())
		})
		t.Run("other bytes each way at once", func(t *testing.T) {
			l := start(t, d, ask{cmd: fmt.Sprintf("{ sha256sum >&2; } <&0 & head -c %d /dev/zero; wait", bulk)})
			go func() {
				io.Copy(l.in, noise(bulk))
				l.in.Close()
			}()
			zeros := io.LimitReader(zeroReader{}, bulk)
			assert.Equal(t, sum(zeros), sum(l.source))
			assert.Equal(t, result{stderr: sent + "  -\n"}, l.wait())
		})
		t.Run("by OpenSSH's client", func(t *testing.T) {
			h := sha256.New()
			cmd := exec.Command("ssh", append(sshArgs(d, work), "cat")...)
			cmd.Stdin, cmd.Stdout = noise(bulk), h
			require.NoError(t, cmd.Run())
			assert.Equal(t, sent, hexSum(h))
		})
		t.Run("on both outputs", func(t *testing.T) {
			r := run(t, d, ask{cmd: "seq 1 200000 >&2 & seq 200000 -1 1; wait"})
			assert.Equal(t, 200_000, strings.Count(r.stdout, "\n"))
			assert.Equal(t, 200_000, strings.Count(r.stderr, "\n"))
			assert.True(t, strings.HasSuffix(r.stdout, "\n2\n1\n") && strings.HasSuffix(r.stderr, "\n199999\n200000\n"))
		})
	})
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestCase14HalfClose(t *testing.T) {
	standard(t)
	for _, wire := range []bool{false, true} {
		r := same(t, ask{cmd: "cat; sleep 0.2; echo after; echo err >&2; exit 5", stdin: "in\n", wire: wire})
		assert.Equal(t, result{stdout: "in\nafter\n", stderr: "err\n", status: 5}, r)
	}
}

func TestCase15ReaderGone(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		note := inHome(t, d, "case15")
		ssh := exec.Command("ssh", append(sshArgs(d, work), "yes; echo $? >case15")...)
		out, err := ssh.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, ssh.Start())
		_, err = io.ReadFull(out, make([]byte, 2))
		require.NoError(t, err)
		out.Close()
		ssh.Wait() // its status is its own affair; that it ends is the point
		eventually(t, "yes has died of SIGPIPE", func() bool { return contents(note) == "141\n" })
	})
}

func TestCase16ClientKilled(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		t.Run("a silent command runs to its end", func(t *testing.T) {
			note, gate := inHome(t, d, "case16"), inHome(t, d, "case16.gate")
			killed(t, d, "trap 'echo hangup >>case16' HUP; echo ready; until [ -e case16.gate ]; do sleep 0.01; done; echo done >>case16")
			require.NoError(t, os.WriteFile(gate, nil, 0o644))
			eventually(t, "the command has gone on", func() bool { return contents(note) == "done\n" })
		})
		t.Run("a writing command gets a broken pipe", func(t *testing.T) {
			note := inHome(t, d, "case16")
			killed(t, d, "trap 'echo hangup >>case16' HUP; trap 'echo pipe >>case16; exit' PIPE; while echo ready; do sleep 0.01; done")
			eventually(t, "the command has noticed", func() bool { return contents(note) == "pipe\n" })
		})
	})
}

// killed starts a command on a connection of its own and kills the client when
// the command has said "ready".
func killed(t *testing.T, d door, command string) {
	t.Helper()
	ssh := exec.Command("ssh", "-F", sshDir+"/config", "-S", "none", "-l", d.user(work), "--", string(d), command)
	out, err := ssh.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, ssh.Start())
	ready := make([]byte, len("ready\n"))
	_, err = io.ReadFull(out, ready)
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(ready))
	require.NoError(t, ssh.Process.Kill())
	ssh.Wait()
}

func TestCase18NoInput(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		ssh := func(options ...string) *exec.Cmd {
			return exec.Command("ssh", append(sshArgs(d, work, options...), "cat; echo end")...)
		}
		r := runCommand(t, ssh("-n"), strings.NewReader("not to be read"))
		assert.Equal(t, result{stdout: "end\n"}, r, "-n")
		r = runCommand(t, ssh(), nil)
		assert.Equal(t, result{stdout: "end\n"}, r, "</dev/null")
		r = runCommand(t, ssh("-f"), nil)
		assert.Equal(t, result{stdout: "end\n"}, r, "-f")

		file := inHome(t, d, "case18")
		r = runCommand(t, exec.Command("ssh", append(sshArgs(d, work), "cat >case18")...), noise(8<<20))
		assert.Equal(t, result{}, r)
		f, err := os.Open(file)
		require.NoError(t, err)
		defer f.Close()
		assert.Equal(t, sum(noise(8<<20)), sum(f))
	})
}

const reopen = `
echo stdout >/dev/stdout
echo stderr >/dev/stderr
echo again >/proc/self/fd/1
echo fd1 >/dev/fd/1
echo fd2 >>/dev/fd/2
head -n1 /dev/stdin
head -n1 /proc/self/fd/0
`

func TestCase19Reopen(t *testing.T) {
	standard(t)
	r := same(t, ask{cmd: reopen, stdin: "in\n"})
	assert.Equal(t, result{stdout: "stdout\nagain\nfd1\nin\n", stderr: "stderr\nfd2\n"}, r)
	t.Run("terminal", func(t *testing.T) {
		each(t, func(t *testing.T, d door) {
			l := open(t, d, ask{cmd: "stty -echo; echo ready; " + reopen, tty: xterm(), wire: true})
			l.expect("ready\r\n")
			l.send("in\n")
			l.expect("fd2\r\n")
			l.send("more\n")
			assert.Equal(t, result{stdout: "ready\r\nstdout\r\nstderr\r\nagain\r\nfd1\r\nfd2\r\nin\r\nmore\r\n"}, l.wait())
		})
	})
}

func TestCase20Descriptors(t *testing.T) {
	standard(t)
	same(t, ask{cmd: `
		ls /proc/self/fd
		for fd in 0 1 2; do test -t $fd; echo "tty $?"; stat -L -c '%F %U %a' /proc/self/fd/$fd; done`}, "pipes")
}

// kernelView prints what only the kernel can tell of a process.
const kernelView = `python3 -c '
import os, errno
print("leads its session:", os.getsid(0) == os.getpid(), "and its group:", os.getpgrp() == os.getpid())
try: os.open("/dev/tty", os.O_RDWR); print("has a terminal")
except OSError as e: print("/dev/tty:", errno.errorcode[e.errno])
'`

func TestCase21Session(t *testing.T) {
	standard(t)
	r := same(t, ask{cmd: "exec " + kernelView})
	assert.Equal(t, "leads its session: True and its group: True\n/dev/tty: ENXIO\n", r.stdout)
}

func TestCase22Inherited(t *testing.T) {
	standard(t)
	same(t, ask{cmd: "grep -E '^Sig(Blk|Ign|Cgt)|^ShdPnd|^SigPnd|^NoNewPrivs|^Umask' /proc/self/status"})
	same(t, ask{cmd: "umask; ulimit -Sc; ulimit -Sn; ulimit -Hn; ulimit -s; ulimit -v; ulimit -t; ulimit -f; nice"})
	same(t, ask{cmd: "cat /proc/self/oom_score_adj; cat /proc/self/timerslack_ns"})
}

// The end of a session's output has to survive the end of the session. This
// is what the jail of old lost in up to a third of all runs.
func TestTailOfOutput(t *testing.T) {
	standard(t)
	const runs, workers = 500, 4
	for _, size := range []int{60_000, 1_000_000} {
		a := ask{cmd: fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo end; exit 17", size), wire: true}
		want := strings.Repeat("x", size) + "end\n"
		var wait sync.WaitGroup
		var lost atomic.Int32
		for range workers {
			wait.Go(func() {
				for i := range runs / workers {
					if r := run(t, jailDoors[i%len(jailDoors)], a); r.status != 17 || r.stdout != want {
						lost.Add(1)
					}
				}
			})
		}
		wait.Wait()
		assert.Zero(t, lost.Load(), "of %d sessions lost status or output of %d bytes", runs, size)
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		var wait sync.WaitGroup
		results := make([]result, 100)
		for i := range results {
			wait.Go(func() {
				results[i] = run(t, d, ask{cmd: fmt.Sprintf("cat; exit %d", i), stdin: strings.Repeat("y", i), wire: true})
			})
		}
		wait.Wait()
		for i, r := range results {
			assert.Equal(t, result{stdout: strings.Repeat("y", i), status: i}, r)
		}
	})
}

// Signal requests (RFC 4254, 6.9) reach the session where sshd passes them on,
// which it does not under ForceCommand.
func TestSignalRequests(t *testing.T) {
	standard(t)
	for _, d := range []door{plain, login} {
		for _, name := range []string{"TERM", "INT", "HUP", "USR1"} {
			l := open(t, d, ask{cmd: "trap 'echo got " + name + "; exit 6' " + name + "; echo ready; while :; do read -t 0.01; done"})
			l.expect("ready\n")
			payload := append([]byte{0, 0, 0, byte(len(name))}, name...)
			_, err := l.session.SendRequest("signal", false, payload)
			require.NoError(t, err)
			assert.Equal(t, result{stdout: "ready\ngot " + name + "\n", status: 6}, l.wait(), "through %s", d)
		}
	}
}
