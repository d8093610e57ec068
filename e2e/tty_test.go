package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// xterm is a terminal as most clients have it.
func xterm() *terminal {
	return &terminal{term: "xterm", rows: 24, cols: 80, modes: ssh.TerminalModes{
		ssh.VINTR: 3, ssh.VQUIT: 28, ssh.VERASE: 127, ssh.VEOF: 4, ssh.VSTART: 17, ssh.VSTOP: 19, ssh.VSUSP: 26,
		ssh.ISIG: 1, ssh.ICANON: 1, ssh.ECHO: 1, ssh.IXON: 1, ssh.OPOST: 1, ssh.ONLCR: 1, ssh.ICRNL: 1,
		ssh.TTY_OP_ISPEED: 38400, ssh.TTY_OP_OSPEED: 38400,
	}}
}

func (term *terminal) sized(rows, cols int) *terminal {
	term.rows, term.cols = rows, cols
	return term
}

// onTTY is a command on a terminal, by the Go client, whose modes are not
// those of whatever the tests run on.
func onTTY(command string) ask { return ask{cmd: command, tty: xterm(), wire: true} }

// terminalView prints what the kernel and the environment say of a terminal.
const terminalView = `python3 -c '
import fcntl, os, stat, struct
for fd in (0, 1, 2):
	st = os.fstat(fd)
	print(fd, os.ttyname(fd), stat.filemode(st.st_mode), st.st_uid, st.st_gid, os.ttyname(fd) == os.environ["SSH_TTY"])
	print(struct.unpack("HHHH", fcntl.ioctl(fd, 0x5413, b"\0" * 8)))
tty = os.open("/dev/tty", os.O_RDWR)
print(os.tcgetpgrp(tty) == os.getpgrp(), os.getsid(0) == os.getpid(), os.environ["TERM"])
print(os.path.exists(os.ttyname(0)), os.stat("/dev/pts/ptmx").st_rdev)
'; tty; stty -a; ls /proc/self/fd`

func TestCase23Terminal(t *testing.T) {
	standard(t)
	for _, size := range [][2]int{{24, 80}, {0, 0}, {1000, 1000}, {1, 65535}} {
		t.Run(fmt.Sprintf("%d rows, %d columns", size[0], size[1]), func(t *testing.T) {
			r := same(t, ask{cmd: terminalView, tty: xterm().sized(size[0], size[1]), wire: true})
			assert.Contains(t, r.stdout, fmt.Sprintf("(%d, %d, ", size[0], size[1]))
			assert.Zero(t, r.status)
		})
	}
	t.Run("unusual modes", func(t *testing.T) {
		term := xterm()
		term.term = "dumb"
		term.modes[ssh.ECHO], term.modes[ssh.ISIG], term.modes[ssh.IXANY], term.modes[ssh.ONOCR] = 0, 0, 1, 1
		term.modes[ssh.VERASE], term.modes[ssh.VINTR], term.modes[ssh.VEOL2] = 8, 255, 7
		term.modes[ssh.TTY_OP_ISPEED], term.modes[ssh.TTY_OP_OSPEED] = 9600, 9600
		r := same(t, ask{cmd: terminalView, tty: term, wire: true})
		assert.Contains(t, r.stdout, "erase = ^H")
		assert.Contains(t, r.stdout, "intr = <undef>")
	})
	t.Run("a client that names no modes", func(t *testing.T) {
		same(t, ask{cmd: "stty -a; tty", tty: xterm()})
	})
	t.Run("a file is no terminal", func(t *testing.T) {
		r := same(t, ask{cmd: "tty; stty -a; printenv SSH_TTY TERM"})
		assert.Equal(t, "not a tty\n", r.stdout)
	})
}

func TestCase24Resize(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		t.Run("reaches the foreground process", func(t *testing.T) {
			l := open(t, d, onTTY(`exec python3 -c '
import fcntl, signal, struct
waited = [signal.SIGWINCH, signal.SIGINT]
signal.pthread_sigmask(signal.SIG_BLOCK, waited)
print("ready", flush=True)
while signal.sigwait(waited) == signal.SIGWINCH:
	print("size", *struct.unpack("HHHH", fcntl.ioctl(0, 0x5413, b"\0" * 8)), flush=True)
'`))
			l.expect("ready\r\n")
			for i := range 20 {
				l.resize(40+i, 100+i)
				l.expect(fmt.Sprintf(`size %d %d %d %d\r\n`, 40+i, 100+i, 8*(100+i), 8*(40+i)))
			}
			l.send("\x03")
			assert.Zero(t, l.wait().status)
		})
		t.Run("while output is blocked", func(t *testing.T) {
			note := inHome(t, d, "case24")
			l := start(t, d, onTTY("trap 'stty size </dev/tty >case24; exit' WINCH; while :; do echo flood flood flood flood; done"))
			_, err := io.ReadFull(l.source, make([]byte, 4096))
			require.NoError(t, err)
			// Nobody reads on: the output stalls with the channel's window full.
			l.resize(50, 120)
			// bash runs the trap once its write is through.
			l.listen()
			eventually(t, "the new size was noted", func() bool { return contents(note) == "50 120\n" })
			l.wait()
		})
		t.Run("before the command first looks", func(t *testing.T) {
			l := open(t, d, onTTY("until stty size | grep 33; do :; done"))
			l.resize(33, 133)
			l.expect(`33 133\r\n`)
			assert.Zero(t, l.wait().status)
		})
	})
}

// shellOnTTY starts a login shell on a terminal and brings it to a prompt that
// cannot be mistaken for an echo.
func shellOnTTY(t *testing.T, d door) *live {
	t.Helper()
	l := open(t, d, ask{shell: true, tty: xterm(), wire: true})
	l.toPrompt()
	return l
}

func (d *dialogue) toPrompt() {
	d.t.Helper()
	d.send("PS1='pro''mpt> ' HISTFILE=; bind 'set enable-bracketed-paste off' 2>/dev/null\n")
	d.expect(`prompt> `)
}

// enter types a line and waits for the prompt after it; it returns what came
// between the echo and the prompt.
func (d *dialogue) enter(line string) string {
	d.t.Helper()
	d.send(line + "\n")
	d.expect(`\r\n`)
	return d.expect(`(?s)(.*?)prompt> `)
}

func TestCase25JobControl(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		l := shellOnTTY(t, d)
		assert.NotContains(t, l.heard(), "job control")

		l.send("sleep 100\n")
		eventually(t, "sleep runs", func() bool { return len(running("sleep 100")) == 1 })
		l.send("\x1a")
		l.expect(`Stopped +sleep 100`)
		l.expect(`prompt> `)
		assert.Contains(t, l.enter("bg"), "sleep 100 &")
		assert.Contains(t, l.enter("jobs"), "Running")
		l.send("fg\n")
		l.expect(`sleep 100\r\n`)
		l.send("\x03")
		l.expect(`prompt> `)
		assert.Contains(t, l.enter("echo $?"), "130")

		l.send("sleep 100\n")
		eventually(t, "sleep runs", func() bool { return len(running("sleep 100")) == 1 })
		l.send("\x1c")
		l.expect(`prompt> `)
		assert.Contains(t, l.enter("echo $?"), "131")

		l.send("cat\n")
		l.expect(`cat\r\n`)
		l.send("line\n")
		l.expect("line\r\nline\r\n")
		l.send("\x04")
		l.expect(`prompt> `)

		// ^S holds the output of the jail's terminal back, ^Q lets it go.
		l.send("cat\n")
		l.expect(`cat\r\n`)
		l.send("\x13held\n")
		run(t, d, ask{cmd: "true"}) // a whole session's time for it to come
		assert.NotContains(t, l.unread(), "held")
		l.send("\x11")
		l.expect(`held\r\n`)
		l.send("\x04")
		l.expect(`prompt> `)

		l.send("read -s -p 'secret? ' x\n")
		l.expect(`secret\? $`)
		l.send("hidden\n")
		assert.NotContains(t, l.expect(`(?s)(.*?)prompt> `), "hidden")
		assert.Contains(t, l.enter("stty raw -echo; stty -a; stty sane"), "-icanon")
		l.send("exit 12\n")
		assert.Equal(t, 12, l.wait().status)
	})
}

func TestCase08TerminalDoesNotWait(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		r := run(t, d, onTTY("sleep 40808 & echo out; exit 3"))
		assert.Equal(t, result{stdout: "out\r\n", status: 3}, r)
		terminated(t, "sleep 40808")

		// One that ignores the hang-up goes on, without the terminal.
		note, gate := inHome(t, d, "case08"), inHome(t, d, "case08.gate")
		inHome(t, d, "case08.up")
		r = run(t, d, onTTY("(trap '' HUP; >case08.up; until [ -e case08.gate ]; do sleep 0.01; done; echo late; echo done >case08) & until [ -e case08.up ]; do :; done; exit 3"))
		assert.Equal(t, result{status: 3}, r)
		require.NoError(t, os.WriteFile(gate, nil, 0o644))
		eventually(t, "the background process has gone on", func() bool { return contents(note) == "done\n" })
	})
}

func TestCase17ClientKilledOnTerminal(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		note := inHome(t, d, "case17")
		// ssh on a terminal of the test's, so that it can be killed.
		c := onConsole(t, exec.Command("ssh", "-F", sshDir+"/config", "-S", "none", "-tt", "-l", d.user(work), "--", string(d),
			"setsid sleep 41717 & nohup sleep 41718 >/dev/null 2>&1 & trap 'echo hangup >case17; exit' HUP; echo ready; while :; do sleep 0.01; done"))
		c.expect("ready\r\n")
		eventually(t, "both are out of the hang-up's reach", func() bool { return len(running("sleep 4171")) == 2 })
		require.NoError(t, c.cmd.Process.Kill())
		c.cmd.Wait()
		eventually(t, "the leader was hung up", func() bool { return contents(note) == "hangup\n" })
		// Those that left the session or ignore the signal are still there.
		assert.Len(t, running("sleep 41717"), 1)
		assert.Len(t, running("sleep 41718"), 1)
		run(t, d, ask{cmd: "pkill -f '^sleep 4171'"})
		terminated(t, "sleep 4171")
	})
}

func TestCase26TailOnTerminal(t *testing.T) {
	standard(t)
	r := same(t, onTTY("seq 1 100000; exit 4"))
	assert.Equal(t, 4, r.status)
	assert.True(t, strings.HasSuffix(r.stdout, "\r\n100000\r\n"))
	t.Run("often", func(t *testing.T) {
		want := run(t, plain, onTTY("seq 1 10000; exit 4"))
		for _, d := range jailDoors {
			for range 30 {
				assertSame(t, string(d), want, run(t, d, onTTY("seq 1 10000; exit 4")))
			}
		}
	})
	t.Run("slow reader", func(t *testing.T) {
		each(t, func(t *testing.T, d door) {
			l := start(t, d, onTTY("seq 1 1000000; exit 4"))
			eventually(t, "output piles up", func() bool { return len(running("seq 1 1000000")) > 0 })
			if d != plain {
				for _, p := range running("jail-enter") {
					assert.Less(t, residentKiB(t, p.pid), 16<<10, "KiB held by %s", p.args)
				}
			}
			l.listen()
			r := l.wait()
			assert.Equal(t, 4, r.status)
			assert.Equal(t, 1_000_000, strings.Count(r.stdout, "\r\n"))
		})
	})
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int
	fmt.Sscan(rest, &kib)
	return kib
}

func TestCase27LoginShell(t *testing.T) {
	standard(t)
	t.Run("argv", func(t *testing.T) {
		assert.Equal(t, quoted("-argv"), same(t, ask{as: argv, shell: true, wire: true}).stdout)
		assert.Equal(t, quoted("argv", "-c", "x y"), same(t, ask{as: argv, cmd: "x y", wire: true}).stdout)
		crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
		assert.Equal(t, crlf(quoted("-argv")), same(t, ask{as: argv, shell: true, tty: xterm(), wire: true}).stdout)
		assert.Equal(t, crlf(quoted("argv", "-c", "x")), same(t, ask{as: argv, cmd: "x", tty: xterm(), wire: true}).stdout)
	})
	t.Run("start-up files", func(t *testing.T) {
		each(t, func(t *testing.T, d door) {
			profile := filepath.Join(d.root(), "etc/profile.d/e2e.sh")
			require.NoError(t, os.WriteFile(profile, []byte("SYSTEM_PROFILE_READ=$((SYSTEM_PROFILE_READ + 1))\n"), 0o644))
			t.Cleanup(func() { require.NoError(t, os.Remove(profile)) })
			l := shellOnTTY(t, d)
			const show = "echo $0 $SYSTEM_PROFILE_READ,$PROFILE_READ,$BASHRC_READ"
			assert.Equal(t, "-bash 1,1,\r\n", l.enter(show))
			l.send("exit\n")
			assert.Zero(t, l.wait().status)
			r := run(t, d, onTTY(show))
			assert.Equal(t, "bash ,,1\r\n", r.stdout)
		})
	})
}

func TestCase28ClientEOFAndBreak(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		l := open(t, d, onTTY("echo ready; read -t 0.5 x; echo status $?; read x; echo never"))
		l.expect("ready\r\n")
		require.NoError(t, l.in.Close())
		l.expect(`status 142\r\n`) // timed out: no ^D, no hang-up
		ok, err := l.session.SendRequest("break", true, []byte{0, 0, 0, 0})
		require.NoError(t, err)
		assert.True(t, ok, "break is granted on a terminal")
		require.NoError(t, l.session.Close())
	})
	each(t, func(t *testing.T, d door) {
		l := open(t, d, ask{cmd: "echo ready; cat; echo end"})
		l.expect("ready\n")
		ok, err := l.session.SendRequest("break", true, []byte{0, 0, 0, 0})
		require.NoError(t, err)
		assert.False(t, ok, "break is refused without one")
		l.in.Close()
		assert.Equal(t, result{stdout: "ready\nend\n"}, l.wait())
	})
}

func TestCase30Combinations(t *testing.T) {
	standard(t)
	t.Run("-T with a shell", func(t *testing.T) {
		each(t, func(t *testing.T, d door) {
			cmd := exec.Command("ssh", sshArgs(d, work, "-T")...)
			r := runCommand(t, cmd, strings.NewReader("tty; echo $0\nexit 6\n"))
			assert.Equal(t, result{stdout: "not a tty\n-bash\n", status: 6}, r)
		})
	})
	t.Run("-tt without a terminal", func(t *testing.T) {
		assert.Equal(t, result{stdout: "/dev/pts/0\n"}, same(t, ask{cmd: "tty", tty: xterm()}))
	})
	t.Run("two terminals on one connection", func(t *testing.T) {
		each(t, func(t *testing.T, d door) {
			one, two := shellOnTTY(t, d), shellOnTTY(t, d)
			first, second := one.enter("tty"), two.enter("tty")
			assert.NotEqual(t, first, second)
			one.send("exit 1\n")
			assert.Equal(t, 1, one.wait().status)
			assert.Equal(t, second, two.enter("tty"))
			two.send("exit 2\n")
			assert.Equal(t, 2, two.wait().status)
		})
	})
	// sshd gives all three or none; a su has any of them.
	t.Run("each of the three by itself", func(t *testing.T) {
		note := inHome(t, login, "case30")
		for not := range 7 { // bit N: descriptor N is no terminal
			redirected, want := "", ""
			for fd, to := range []string{" </dev/null", " >/dev/null", " 2>/dev/null"} {
				if not>>fd&1 == 1 {
					redirected, want = redirected+to, want+"1\n"
				} else {
					want += "0\n"
				}
			}
			c := onConsole(t, exec.Command("sh", "-c", "su debian -c '>case30; for fd in 0 1 2; do test -t $fd; echo $? >>case30; done'"+redirected))
			assert.Zero(t, c.wait(), redirected)
			assert.Equal(t, want, contents(note), redirected)
		}
	})
	t.Run("a program on a terminal that reads to the end", func(t *testing.T) {
		each(t, func(t *testing.T, d door) {
			l := open(t, d, onTTY("stty -echo; echo ready; sha256sum"))
			l.expect("ready\r\n")
			for range 1000 {
				l.send("0123456789012345678901234567890123456789\n")
			}
			l.send("\x04")
			assert.Contains(t, l.wait().stdout, sum(strings.NewReader(strings.Repeat("0123456789012345678901234567890123456789\n", 1000))))
		})
	})
}

func TestTmux(t *testing.T) {
	standard(t)
	each(t, func(t *testing.T, d door) {
		utf8 := []string{"LC_ALL=C.UTF-8"}
		l := open(t, d, ask{shell: true, tty: xterm(), env: utf8, wire: true})
		l.toPrompt()
		// Keys that come within a millisecond of each other are a paste to
		// tmux, and no bindings: over plain sshd too (assume-paste-time,
		// tmux(1)).
		l.send("tmux new-session -s e2e 'exec sh' \\; set -g assume-paste-time 0\n")
		l.expect(`\[e2e\]`)
		l.send("echo in''side; stty size\n")
		l.expect("inside")
		l.resize(30, 90)
		l.send("clear; stty size\n")
		l.expect(`29 90`)
		require.NoError(t, l.session.Close())

		// The connection's end is not tmux's.
		eventually(t, "tmux is detached", func() bool {
			return strings.Contains(run(t, d, ask{cmd: "tmux list-sessions -F '#{session_name} #{session_attached}'"}).stdout, "e2e 0")
		})
		l = open(t, d, ask{cmd: "tmux attach", tty: xterm(), env: utf8, wire: true})
		l.expect(`\[e2e\]`)
		l.send("\x02d")
		l.expect(`\[detached`)
		assert.Zero(t, l.wait().status)
		assert.Zero(t, run(t, d, ask{cmd: "tmux kill-server"}).status)
		terminated(t, "tmux")
		run(t, d, ask{cmd: "rm -rf /tmp/tmux-*"})
	})
}

func Test200Terminals(t *testing.T) {
	standard(t)
	for _, d := range jailDoors {
		t.Run(string(d), func(t *testing.T) {
			for i := range 200 / len(jailDoors) {
				r := run(t, d, onTTY("tty; stty -a | head -n1"))
				require.Equal(t, result{stdout: "/dev/pts/0\r\nspeed 38400 baud; rows 24; columns 80; line = 0;\r\n"}, r, "terminal %d", i)
			}
			r := run(t, d, ask{cmd: "ls /dev/pts"})
			assert.Equal(t, result{stdout: "ptmx\n"}, r)
		})
	}
	t.Run("at once", func(t *testing.T) {
		var sessions []*live
		for range 50 {
			sessions = append(sessions, open(t, forced, onTTY("tty; read x")))
		}
		seen := make(map[string]bool)
		for _, l := range sessions {
			seen[l.expect(`/dev/pts/\d+`)] = true
		}
		assert.Len(t, seen, len(sessions), "each has its own")
		for _, l := range sessions {
			l.send("\n")
			assert.Zero(t, l.wait().status)
		}
	})
}
