package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/sys"
	"jail/internal/tty"
	"jail/internal/wire"
)

// The program is built twice: as it is released, without the Go runtime's start, and
// with it, as for other architectures. The two have to say the same to a jail and to
// their caller.

// builds returns the paths of the two.
func builds(t *testing.T) (quick, run string) {
	dir := t.TempDir()
	quick, run = filepath.Join(dir, "jail-enter"), filepath.Join(dir, "run")
	command(t, "make", "-s", "-C", "../..", "build-enter", "BIN="+dir, "EARLY=yes")
	command(t, "go", "build", "-o", run, ".")
	return quick, run
}

func command(t *testing.T, args ...string) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", args, out)
}

// peer stands where PID 1 does.
type peer struct {
	dir string
	l   *net.UnixListener
}

func listen(t *testing.T) *peer {
	dir, err := os.MkdirTemp("", "enter")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	uid := strconv.Itoa(os.Getuid())
	require.NoError(t, os.Mkdir(filepath.Join(dir, uid), 0o755))
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, uid, "sock"), Net: "unixpacket"})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return &peer{dir, l}
}

// accept returns a client's connection, its request, and what came with it.
func (p *peer) accept(t *testing.T) (*net.UnixConn, []byte, []int) {
	require.NoError(t, p.l.SetDeadline(time.Now().Add(20*time.Second)))
	c, err := p.l.AcceptUnix()
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	buf, oob := make([]byte, wire.MaxPacket), make([]byte, 1024)
	n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
	require.NoError(t, err)
	msgs, err := syscall.ParseSocketControlMessage(oob[:oobn])
	require.NoError(t, err)
	var fds []int
	for _, m := range msgs {
		got, err := syscall.ParseUnixRights(&m)
		require.NoError(t, err)
		fds = append(fds, got...)
	}
	return c, buf[:n], fds
}

// result is what a caller sees.
type result struct {
	Stdout, Stderr string
	Status         int // -1 after death by a signal
	Signal         syscall.Signal
}

// client is a run of one of the two programs.
type client struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
}

func (p *peer) start(t *testing.T, program string, argv, env []string, stdin any) *client {
	c := &client{cmd: exec.Command(program)}
	c.cmd.Args = argv
	c.cmd.Env = env
	if c.cmd.Env == nil {
		c.cmd.Env = []string{}
	}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err // pipes, therefore
	if f, ok := stdin.(*os.File); ok {
		c.cmd.Stdin = f
	}
	require.NoError(t, c.cmd.Start())
	return c
}

func (c *client) wait(t *testing.T) result {
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	ws := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	r := result{Stdout: c.out.String(), Stderr: c.err.String(), Status: ws.ExitStatus()}
	if ws.Signaled() {
		r.Signal = ws.Signal()
	}
	return r
}

// threads is how many a process has: one, if the runtime has not started.
func threads(t *testing.T, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "Threads:")
	n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	require.NoError(t, err)
	return n
}

func TestEntryPoint(t *testing.T) {
	quick, _ := builds(t)
	f, err := elf.Open(quick)
	require.NoError(t, err)
	defer f.Close()
	assert.Nil(t, f.Section(".interp"), "a program without a loader")
	text := f.Section(".text")
	require.NotNil(t, text)
	code, err := text.Data()
	require.NoError(t, err)
	at := f.Entry - text.Addr
	assert.Equal(t, []byte{0x48, 0x89, 0x25}, code[at:at+3], "start's first instruction, MOVQ SP, stack")
}

// TestNothingIsAllocated asks the compiler. Growing a slice is the one thing it
// cannot rule out; the memory of the slices is as large as their limits.
func TestNothingIsAllocated(t *testing.T) {
	cmd := exec.Command("go", "build", "-gcflags=jail/internal/...=-m", "-o", filepath.Join(t.TempDir(), "x"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	seen := make(map[string]bool)
	for _, line := range strings.Split(string(out), "\n") {
		// What the compiler said before is said again, with the paths of where it was called then.
		dir, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(line, "../../"), "internal/"), "/")
		switch dir {
		case "enter", "early", "tty":
		default:
			continue // sys and wire have more than what is used here
		}
		seen[dir] = true
		switch {
		case strings.Contains(line, "append escapes to heap"):
		case strings.Contains(line, "&session{...} escapes to heap"): // Attach, which is not this program's
		case strings.Contains(line, "syscall.Errno("): // a constant, which is data
		default:
			assert.NotContains(t, line, "escapes to heap")
			assert.NotContains(t, line, "moved to heap")
		}
	}
	assert.Len(t, seen, 3, "the compiler spoke of all")
}

// TestSameRequest: whatever a caller starts the program with, a jail cannot tell
// the two builds apart.
func TestSameRequest(t *testing.T) {
	quick, run := builds(t)
	auth := filepath.Join(t.TempDir(), "auth")
	require.NoError(t, os.WriteFile(auth, []byte("publickey ssh-ed25519 AAAA\npassword\n"), 0o600))
	many := []string{}
	for i := 0; i < 700; i++ {
		many = append(many, fmt.Sprintf("LC_A%d=%d", i, i))
	}
	for claim, c := range map[string]struct {
		argv   []string
		env    []string
		stdin  string
		accept string // env_accept
		stderr string
	}{
		"login shell":             {argv: []string{"-jail-enter"}},
		"command":                 {argv: []string{"jail-enter", "-c", "echo a b"}},
		"no arguments":            {argv: []string{"jail-enter"}},
		"script with arguments":   {argv: []string{"jail-enter", "-c", "x", "a", "", "\xff\n"}},
		"forced, shell":           {argv: []string{"jail-enter", "--forced"}, env: []string{"TERM=x"}},
		"forced, command":         {argv: []string{"jail-enter", "--forced"}, env: []string{"SSH_ORIGINAL_COMMAND=id; a='b'"}},
		"forced, empty command":   {argv: []string{"jail-enter", "--forced"}, env: []string{"SSH_ORIGINAL_COMMAND="}},
		"forced, two commands":    {argv: []string{"jail-enter", "--forced"}, env: []string{"SSH_ORIGINAL_COMMAND=a", "SSH_ORIGINAL_COMMAND=b"}},
		"forced through -c":       {argv: []string{"jail-enter", "-c", "exec /usr/bin/jail-enter --forced"}, env: []string{"SSH_ORIGINAL_COMMAND=a"}},
		"forced, dash":            {argv: []string{"-jail-enter", "--forced"}},
		"sshd's key command":      {argv: []string{"jail-enter", "-c", "x"}, env: []string{"SSH_USER_AUTH=" + auth, "SSH_ORIGINAL_COMMAND=a"}},
		"a leftover command":      {argv: []string{"jail-enter", "-c", "x"}, env: []string{"SSH_ORIGINAL_COMMAND=a"}},
		"with the authentication": {argv: []string{"jail-enter", "--forced"}, env: []string{"SSH_USER_AUTH=" + auth, "SSH_ORIGINAL_COMMAND=a"}},
		"authentication missing":  {argv: []string{"jail-enter", "--forced"}, env: []string{"SSH_USER_AUTH=/nowhere"}},
		"authentication not ours": {argv: []string{"jail-enter", "--forced"}, env: []string{"SSH_USER_AUTH=/etc/passwd"}},
		"authentication unasked":  {argv: []string{"jail-enter"}, env: []string{"SSH_USER_AUTH=" + auth}},
		"environment": {argv: []string{"jail-enter", "-c", "x"}, env: []string{
			"LANG=de_DE.UTF-8", "LC_ALL=a=b", "LD_PRELOAD=x", "TERM=", "SSH_CONNECTION=1 2 3 4", "broken", "=x", "HOME=/x", "GODEBUG=x", "GOMAXPROCS=7"}},
		"a leftover of an agent":     {argv: []string{"jail-enter", "-c", "x"}, env: []string{"SSH_AUTH_SOCK=/x"}},
		"what else may enter":        {argv: []string{"jail-enter", "--forced"}, env: []string{"FOO=1", "SSH_CONNECTION=1 2 3 4", "BAR_X=2", "BAZ=3"}, accept: "FOO\nBAR_*\n"},
		"but not in a su":            {argv: []string{"jail-enter", "-c", "x"}, env: []string{"FOO=1"}, accept: "FOO\n"},
		"an agent":                   {argv: []string{"jail-enter", "-c", "x"}, env: []string{"SSH_CONNECTION=1 2 3 4", "SSH_AUTH_SOCK=/x"}},
		"a display":                  {argv: []string{"jail-enter", "--forced"}, env: []string{"DISPLAY=localhost:10.0", "SSH_CONNECTION=1 2 3 4"}},
		"too many variables":         {argv: []string{"jail-enter", "-c", "x"}, env: many},
		"a long command":             {argv: []string{"jail-enter", "-c", strings.Repeat("x", 100_000)}},
		"a command beyond a default": {argv: []string{"jail-enter", "-c", strings.Repeat("x", 120_000), strings.Repeat("y", 60_000)}},
		"many arguments":             {argv: append([]string{"jail-enter", "-c"}, strings.Fields(strings.Repeat("a ", 300))...)},
		"a file for input":           {argv: []string{"jail-enter", "-c", "x"}, stdin: auth},
		"a directory for input":      {argv: []string{"jail-enter", "-c", "x"}, stdin: "/", stderr: "jail-enter: cannot read standard input: is a directory\n"},
		"a device for input":         {argv: []string{"jail-enter", "-c", "x"}, stdin: "/dev/zero"},
		"the null device for input":  {argv: []string{"jail-enter", "-c", "x"}, stdin: "/dev/null"},
	} {
		t.Run(claim, func(t *testing.T) {
			p := listen(t)
			if c.accept != "" {
				require.NoError(t, os.WriteFile(filepath.Join(p.dir, strconv.Itoa(os.Getuid()), "env_accept"), []byte(c.accept), 0o644))
			}
			ask := func(program string) (packet []byte, fds []string, n int) {
				argv := c.argv
				argv = append([]string{argv[0], "--runtime-dir", p.dir}, argv[1:]...)
				var in *os.File
				if c.stdin != "" {
					f, err := os.Open(c.stdin)
					require.NoError(t, err)
					defer f.Close()
					in = f
				}
				cl := p.start(t, program, argv, c.env, in)
				conn, packet, got := p.accept(t)
				for _, fd := range got {
					var st syscall.Stat_t
					require.NoError(t, syscall.Fstat(fd, &st))
					fds = append(fds, fmt.Sprintf("%o", st.Mode))
					syscall.Close(fd)
				}
				_, err := conn.Write(wire.AppendStarted(nil, wire.Started{PID: 7}))
				require.NoError(t, err)
				n = threads(t, cl.cmd.Process.Pid)
				_, err = conn.Write(wire.AppendExited(nil, wire.Exited{Code: 3}))
				require.NoError(t, err)
				assert.Equal(t, result{Stderr: c.stderr, Status: 3}, cl.wait(t))
				conn.Close()
				return packet, fds, n
			}
			packet, fds, n := ask(quick)
			wantPacket, wantFDs, _ := ask(run)
			var got, want wire.Request
			require.NoError(t, wire.DecodeRequest(wantPacket, &want))
			require.NoError(t, wire.DecodeRequest(packet, &got))
			assert.Equal(t, want, got)
			assert.Equal(t, wantFDs, fds)
			assert.Equal(t, 1, n, "threads: the runtime has not started")
		})
	}
}

// TestSameEnd: whatever a jail says, a caller cannot tell the two builds apart.
func TestSameEnd(t *testing.T) {
	quick, run := builds(t)
	started := wire.AppendStarted(nil, wire.Started{PID: 7})
	exited := func(signal, code uint8) []byte {
		return wire.AppendExited(nil, wire.Exited{Signal: signal, Code: code})
	}
	send := func(packets ...[]byte) func(*testing.T, *peer, *net.UnixConn, *client) {
		return func(t *testing.T, _ *peer, c *net.UnixConn, _ *client) {
			for _, p := range packets {
				_, _ = c.Write(p) // it may be gone already
			}
		}
	}
	wait := func(t *testing.T, c *net.UnixConn, want uint8) {
		var buf [16]byte
		n, err := c.Read(buf[:])
		require.NoError(t, err)
		assert.Equal(t, wire.AppendSignal(nil, wire.Signal{Number: want}), buf[:n])
	}
	// Ignored by whoever started us, as by nohup(1), it would never come.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	for claim, act := range map[string]func(*testing.T, *peer, *net.UnixConn, *client){
		"status 0":              send(started, exited(0, 0)),
		"status 255":            send(started, exited(0, 255)),
		"SIGTERM":               send(started, exited(15, 0)),
		"SIGSEGV":               send(started, exited(11, 0)),
		"SIGKILL":               send(started, exited(9, 0)),
		"a real-time signal":    send(started, exited(40, 0)),
		"SIGSTOP":               send(started, exited(19, 0)),
		"SIGTSTP":               send(started, exited(20, 0)),
		"SIGCHLD":               send(started, exited(17, 0)),
		"SIGCONT":               send(started, exited(18, 0)),
		"gone without a word":   send(started),
		"nonsense at the end":   send(started, []byte{1, 3, 0, 0, 200, 200}),
		"a short end":           send(started, []byte{1, 3, 0, 0, 0}),
		"a long end":            send(started, append(exited(0, 1), make([]byte, 40)...)),
		"started twice":         send(started, started),
		"refused":               send(wire.AppendRefused(nil, wire.Refused{Status: 125, ID: "abcd2345", Text: "no\x1b[0m"})),
		"refused with 126":      send(wire.AppendRefused(nil, wire.Refused{Status: 126, Text: "no"})),
		"nonsense":              send([]byte("what")),
		"nothing but a header":  send([]byte{1, 2, 0, 0}),
		"another version":       send([]byte{9, 2, 0, 0, 1, 0, 0, 0}),
		"an end before a start": send(exited(0, 0)),
		"a descriptor with the start": func(t *testing.T, _ *peer, c *net.UnixConn, _ *client) {
			_, _, err := c.WriteMsgUnix(started, syscall.UnixRights(0), nil)
			require.NoError(t, err)
		},
		"a descriptor with the end": func(t *testing.T, _ *peer, c *net.UnixConn, _ *client) {
			_, _ = c.Write(started)
			_, _, err := c.WriteMsgUnix(exited(0, 0), syscall.UnixRights(0), nil)
			require.NoError(t, err)
		},
		"a jail that is just stopping": func(t *testing.T, p *peer, c *net.UnixConn, _ *client) {
			c.Close() // without an answer: the client comes again
			c, _, fds := p.accept(t)
			sys.CloseAll(fds)
			_, _ = c.Write(started)
			_, _ = c.Write(exited(0, 9))
		},
		"signals": func(t *testing.T, _ *peer, c *net.UnixConn, cl *client) {
			_, _ = c.Write(started)
			time.Sleep(100 * time.Millisecond) // the two catch them at different moments
			for _, s := range []syscall.Signal{1, 2, 3, 10, 12, 15} {
				require.NoError(t, cl.cmd.Process.Signal(s))
				wait(t, c, uint8(s))
			}
			_, _ = c.Write(exited(0, 4))
		},
		"a signal before the answer": func(t *testing.T, _ *peer, c *net.UnixConn, cl *client) {
			require.NoError(t, cl.cmd.Process.Signal(syscall.SIGTERM))
			n, err := c.Read(make([]byte, 1))
			require.Zero(t, n, "%v: the request is withdrawn", err)
		},
		"a signal with an answer that asks for more": func(t *testing.T, _ *peer, c *net.UnixConn, cl *client) {
			time.Sleep(100 * time.Millisecond)
			_, _ = c.Write(wire.AppendStarted(nil, wire.Started{Flags: wire.FlagWatch, PID: 7}))
			require.NoError(t, cl.cmd.Process.Signal(syscall.SIGUSR1))
			wait(t, c, uint8(syscall.SIGUSR1))
			_, _ = c.Write(exited(0, 6))
		},
		"a stop and its end": func(t *testing.T, _ *peer, c *net.UnixConn, cl *client) {
			_, _ = c.Write(started)
			time.Sleep(100 * time.Millisecond)
			require.NoError(t, cl.cmd.Process.Signal(syscall.SIGSTOP))
			time.Sleep(50 * time.Millisecond)
			require.NoError(t, cl.cmd.Process.Signal(syscall.SIGCONT))
			_, _ = c.Write(exited(0, 5))
		},
	} {
		t.Run(claim, func(t *testing.T) {
			p := listen(t)
			see := func(program string) result {
				cl := p.start(t, program, []string{"jail-enter", "--runtime-dir", p.dir, "-c", "x"}, nil, nil)
				conn, _, fds := p.accept(t)
				act(t, p, conn, cl)
				conn.Close()
				sys.CloseAll(fds)
				return cl.wait(t)
			}
			assert.Equal(t, see(run), see(quick))
		})
	}
}

// TestDisconnected: both say once that nobody reads standard error any more, where
// PID 1 wants to know and sshd is the caller.
func TestDisconnected(t *testing.T) {
	quick, run := builds(t)
	for _, program := range []string{run, quick} {
		for claim, c := range map[string]struct {
			env   []string
			flags uint16
			want  bool
		}{
			"asked for":     {[]string{"SSH_CONNECTION=1 2 3 4"}, wire.FlagWatch, true},
			"not asked for": {[]string{"SSH_CONNECTION=1 2 3 4"}, 0, false},
			"not sshd's":    {nil, wire.FlagWatch, false},
		} {
			p := listen(t)
			r, w, err := os.Pipe()
			require.NoError(t, err)
			cmd := exec.Command(program, "--runtime-dir", p.dir, "-c", "x")
			cmd.Env, cmd.Stderr = append([]string{}, c.env...), w
			require.NoError(t, cmd.Start())
			w.Close()
			conn, _, fds := p.accept(t)
			sys.CloseAll(fds)
			_, err = conn.Write(wire.AppendStarted(nil, wire.Started{PID: 7, Flags: c.flags}))
			require.NoError(t, err)
			time.Sleep(50 * time.Millisecond) // nothing comes by itself
			if program == quick {
				assert.Equal(t, 1, threads(t, cmd.Process.Pid), claim)
			}
			r.Close()
			time.Sleep(50 * time.Millisecond)
			_, err = conn.Write(wire.AppendExited(nil, wire.Exited{Code: 3}))
			require.NoError(t, err)
			var got []byte
			for buf := make([]byte, 16); ; {
				n, err := conn.Read(buf)
				if err != nil || n == 0 {
					break
				}
				got = append(got, buf[:n]...)
			}
			var want []byte
			if c.want {
				want = wire.AppendDisconnected(nil)
			}
			assert.Equal(t, want, got, "%s: %s", filepath.Base(program), claim)
			conn.Close()
			_ = cmd.Wait()
			assert.Equal(t, 3, cmd.ProcessState.ExitCode(), "%s: %s", filepath.Base(program), claim)
		}
	}
}

// TestIgnoredSignals: what nohup(1) has made the program ignore is not passed on.
func TestIgnoredSignals(t *testing.T) {
	quick, run := builds(t)
	for _, program := range []string{run, quick} {
		p := listen(t)
		cl := p.start(t, "/bin/sh", []string{"sh", "-c", `trap "" HUP; exec "$0" --runtime-dir "$1" -c x`, program, p.dir}, nil, nil)
		conn, _, fds := p.accept(t)
		_, _ = conn.Write(wire.AppendStarted(nil, wire.Started{PID: 7}))
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, cl.cmd.Process.Signal(syscall.SIGHUP))
		require.NoError(t, cl.cmd.Process.Signal(syscall.SIGUSR1))
		var buf [16]byte
		n, err := conn.Read(buf[:])
		require.NoError(t, err)
		assert.Equal(t, wire.AppendSignal(nil, wire.Signal{Number: uint8(syscall.SIGUSR1)}), buf[:n])
		_, _ = conn.Write(wire.AppendExited(nil, wire.Exited{}))
		conn.Close()
		sys.CloseAll(fds)
		assert.Zero(t, cl.wait(t).Status)
	}
}

// typing starts a program on a terminal of its own, as a child of a shell whose
// terminal it is, with text typed already. The shell runs script, in which $0 is the
// program and $1 the runtime directory.
func typing(t *testing.T, p *peer, program, script, text string) (*exec.Cmd, *os.File) {
	cmd := exec.Command("/bin/sh", "-c", script, program, p.dir)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	master, slave, err := pty.Open()
	require.NoError(t, err)
	_, err = master.WriteString(text)
	require.NoError(t, err)
	time.Sleep(20 * time.Millisecond)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	slave.Close()
	t.Cleanup(func() { cmd.Process.Kill(); master.Close() })
	return cmd, master
}

// hear reads from a terminal until want has been heard.
func hear(t *testing.T, master *os.File, want string) string {
	var heard []byte
	require.NoError(t, master.SetReadDeadline(time.Now().Add(20*time.Second)))
	for buf := make([]byte, 4096); !strings.Contains(string(heard), want); {
		n, err := master.Read(buf)
		heard = append(heard, buf[:n]...)
		require.NoError(t, err, "%q", heard)
	}
	return string(heard)
}

// TestTypedAhead: what was typed goes with the request.
func TestTypedAhead(t *testing.T) {
	quick, run := builds(t)
	for _, program := range []string{run, quick} {
		p := listen(t)
		_, master := typing(t, p, program, `exec "$0" --runtime-dir "$1" -c x`, "abc\n\x04par")
		conn, packet, _ := p.accept(t)
		var req wire.Request
		require.NoError(t, wire.DecodeRequest(packet, &req))
		assert.Equal(t, "abc\n\x04par", string(req.Typed))
		assert.False(t, req.Stopped)
		// A jail that does not know of it closes, as one that is just stopping.
		conn.Close()
		conn, packet, _ = p.accept(t)
		require.NoError(t, wire.DecodeRequest(packet, &req))
		assert.Equal(t, "abc\n\x04par", string(req.Typed))
		conn.Close()
		conn, packet, _ = p.accept(t)
		require.NoError(t, wire.DecodeRequest(packet, &req))
		assert.Zero(t, req.Flags&wire.FlagTyped)
		session, sessionTTY, err := pty.Open()
		require.NoError(t, err)
		_, _, err = conn.WriteMsgUnix(wire.AppendStarted(nil, wire.Started{PID: 7}), syscall.UnixRights(int(session.Fd())), nil)
		require.NoError(t, err)
		session.Close()
		buf := make([]byte, 100)
		n, err := sessionTTY.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, "abc\n", string(buf[:n]), "typed again")
		n, _ = sessionTTY.Read(buf)
		assert.Zero(t, n, "the end of file")
		_, _ = conn.Write(wire.AppendExited(nil, wire.Exited{Code: 3}))
		conn.Close()
		sessionTTY.Close()
		assert.True(t, strings.HasPrefix(hear(t, master, "abc\r\n"), "abc\r\n"))
	}
}

// TestTypedAheadIsGivenBack: where no session comes of it, the shell has what was
// typed, and its terminal as it was.
func TestTypedAheadIsGivenBack(t *testing.T) {
	if text, err := os.ReadFile("/proc/sys/dev/tty/legacy_tiocsti"); err == nil && strings.TrimSpace(string(text)) == "0" {
		needs.Root(t, "this kernel lets nobody else put anything back")
	}
	quick, run := builds(t)
	for _, program := range []string{run, quick} {
		p := listen(t)
		_, master := typing(t, p, program, `stty -a >"$1/before"; "$0" --runtime-dir "$1" -c x; s=$?; stty -a >"$1/after"; echo status $s; cat; echo end`, "abx\x7fc\n\x16\x04\n")
		conn, _, _ := p.accept(t)
		_, _ = master.WriteString("late\n\x04")
		time.Sleep(20 * time.Millisecond)
		_, _ = conn.Write(wire.AppendRefused(nil, wire.Refused{Status: 126, Text: "no"}))
		conn.Close()
		heard := hear(t, master, "end\r\n")
		_, said, _ := strings.Cut(heard, "status 126\r\n")
		assert.Contains(t, heard, "jail-enter: cannot enter the jail: no\r\n")
		assert.Equal(t, "abc\r\n^D\r\nlate\r\nend\r\n", strings.ReplaceAll(said, "\x04", "^D"), "%q", heard)
		before, err := os.ReadFile(filepath.Join(p.dir, "before"))
		require.NoError(t, err)
		after, err := os.ReadFile(filepath.Join(p.dir, "after"))
		require.NoError(t, err)
		assert.Equal(t, string(before), string(after))
	}
}

// TestWaitingCanBeEnded: by ^C, by a signal, at whichever moment before the answer.
func TestWaitingCanBeEnded(t *testing.T) {
	quick, run := builds(t)
	for _, program := range []string{run, quick} {
		t.Run("by an interrupt on the terminal", func(t *testing.T) {
			p := listen(t)
			_, master := typing(t, p, program, `trap : INT; stty -a >"$1/before"; "$0" --runtime-dir "$1" -c x; s=$?; stty -a >"$1/after"; echo status $s`, "")
			conn, _, _ := p.accept(t)
			_, _ = master.WriteString("\x03")
			n, _ := conn.Read(make([]byte, 1))
			assert.Zero(t, n, "the request is withdrawn")
			hear(t, master, "status 130\r\n")
			before, err := os.ReadFile(filepath.Join(p.dir, "before"))
			require.NoError(t, err)
			after, err := os.ReadFile(filepath.Join(p.dir, "after"))
			require.NoError(t, err)
			assert.Equal(t, string(before), string(after))
		})
		for _, sig := range []syscall.Signal{1, 2, 3, 10, 12, 15} {
			signal.Notify(make(chan os.Signal, 1), sig) // or it would be ignored there as well
			p := listen(t)
			cl := p.start(t, program, []string{"jail-enter", "--runtime-dir", p.dir, "-c", "x"}, nil, nil)
			conn, _, fds := p.accept(t)
			require.NoError(t, cl.cmd.Process.Signal(sig))
			n, _ := conn.Read(make([]byte, 1))
			assert.Zero(t, n)
			sys.CloseAll(fds)
			assert.Equal(t, result{Status: -1, Signal: sig}, cl.wait(t))
			conn.Close()
			signal.Reset(sig)

			// Nobody is there to connect to.
			cl = p.start(t, program, []string{"jail-enter", "--runtime-dir", p.dir + "/none", "-c", "x"}, nil, nil)
			time.Sleep(100 * time.Millisecond)
			require.NoError(t, cl.cmd.Process.Signal(sig))
			assert.Equal(t, result{Status: -1, Signal: sig}, cl.wait(t))
		}
	}
}

// begins answers a request with a session on a terminal, which is returned.
func begins(t *testing.T, conn *net.UnixConn) *os.File {
	session, sessionTTY, err := pty.Open()
	require.NoError(t, err)
	t.Cleanup(func() { sessionTTY.Close() })
	require.NoError(t, sessionTTY.SetReadDeadline(time.Now().Add(20*time.Second)))
	modes, err := tty.GetTermios(int(sessionTTY.Fd()))
	require.NoError(t, err)
	raw := tty.Raw(modes)
	require.NoError(t, tty.SetTermios(int(sessionTTY.Fd()), &raw))
	_, _, err = conn.WriteMsgUnix(wire.AppendStarted(nil, wire.Started{PID: 7}), syscall.UnixRights(int(session.Fd())), nil)
	require.NoError(t, err)
	session.Close()
	return sessionTTY
}

// TestKeysWhileWaiting: what is typed while there is no answer is the session's, but for
// what makes a signal.
func TestKeysWhileWaiting(t *testing.T) {
	const direct = `exec "$0" --runtime-dir "$1" -c x`
	quick, run := builds(t)
	for _, program := range []string{run, quick} {
		for claim, c := range map[string]struct{ script, typed, want string }{
			"a quoted interrupt":         {direct, "a\x16\x03b\n\x04", "a\x16\x03b\n\x04"},
			"a quoted quote":             {`trap : INT; "$0" --runtime-dir "$1" -c x; echo status $?`, "a\x16\x16\x03", ""},
			"more than is read at once":  {direct, strings.Repeat("0123456789", 300), strings.Repeat("0123456789", 300)},
			"another interrupt":          {`stty intr x; ` + direct, "\x03y\x16xz", "\x03y\x16xz"},
			"no interrupt at all":        {`stty -isig; ` + direct, "a\x03\x1c\x1ab", "a\x03\x1c\x1ab"},
			"a stop that nobody can end": {direct, "a\x1ab\n", "b\n"},
			"what NOFLSH keeps":          {`stty noflsh; ` + direct, "a\x1ab\n", "ab\n"},
		} {
			t.Run(claim, func(t *testing.T) {
				p := listen(t)
				_, master := typing(t, p, program, c.script, "")
				conn, _, _ := p.accept(t)
				defer conn.Close()
				_, err := master.WriteString(c.typed)
				require.NoError(t, err)
				if c.want == "" {
					n, _ := conn.Read(make([]byte, 1))
					assert.Zero(t, n, "the request is withdrawn")
					assert.Equal(t, "status 130\r\n", hear(t, master, "status 130\r\n"), "nothing of it was left to be echoed")
					return
				}
				time.Sleep(50 * time.Millisecond) // some of it is read before the answer
				session := begins(t, conn)
				buf := make([]byte, 100+len(c.want))
				n, err := io.ReadAtLeast(session, buf, len(c.want))
				require.NoError(t, err)
				assert.Equal(t, c.want, string(buf[:n]))
				_, _ = conn.Write(wire.AppendExited(nil, wire.Exited{}))
			})
		}
		t.Run("a stop and its end", func(t *testing.T) {
			p := listen(t)
			_, master := typing(t, p, program, `set -m; "$0" --runtime-dir "$1" -c x; echo status $?; stty -a >"$1/between"; fg; echo status $?`, "")
			conn, _, _ := p.accept(t)
			defer conn.Close()
			_, _ = master.WriteString("\x1a")
			assert.Contains(t, hear(t, master, "-c x"), "status 148\r\n") // fg says what goes on
			between, err := os.ReadFile(filepath.Join(p.dir, "between"))
			require.NoError(t, err)
			assert.Contains(t, string(between), " icanon")
			require.Eventually(t, func() bool { // it goes on, and the terminal is raw again
				modes, err := tty.GetTermios(int(master.Fd()))
				return err == nil && modes.Lflag&syscall.ICANON == 0
			}, 20*time.Second, time.Millisecond)
			_, _ = master.WriteString("\x16\x03late\n")
			time.Sleep(50 * time.Millisecond)
			session := begins(t, conn)
			buf := make([]byte, 100)
			n, err := io.ReadAtLeast(session, buf, 7)
			require.NoError(t, err)
			assert.Equal(t, "\x16\x03late\n", string(buf[:n]))
			_, _ = conn.Write(wire.AppendExited(nil, wire.Exited{Code: 5}))
			hear(t, master, "status 5\r\n")
		})
	}
}

// TestAJailThatIsLostDoesNotHoldUs: its terminal may go on saying something for ever.
func TestAJailThatIsLostDoesNotHoldUs(t *testing.T) {
	quick, run := builds(t)
	for _, program := range []string{run, quick} {
		p := listen(t)
		_, master := typing(t, p, program, `"$0" --runtime-dir "$1" -c x; echo status $?`, "")
		conn, _, _ := p.accept(t)
		session, sessionTTY, err := pty.Open()
		require.NoError(t, err)
		_, _, err = conn.WriteMsgUnix(wire.AppendStarted(nil, wire.Started{PID: 7}), syscall.UnixRights(int(session.Fd())), nil)
		require.NoError(t, err)
		session.Close()
		go func() {
			for {
				if _, err := sessionTTY.WriteString("more and more\n"); err != nil {
					return
				}
			}
		}()
		hear(t, master, "more and more")
		conn.Close()
		hear(t, master, "status 125\r\n")
		sessionTTY.Close()
	}
}

// TestLostOutput: what cannot be written is no success.
func TestLostOutput(t *testing.T) {
	quick, run := builds(t)
	for _, program := range []string{run, quick} {
		p := listen(t)
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		require.NoError(t, err)
		cmd := exec.Command(program, "--runtime-dir", p.dir, "-c", "x")
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &stderr
		require.NoError(t, cmd.Start())
		full.Close()
		conn, _, fds := p.accept(t)
		require.Len(t, fds, 2)
		_, err = conn.Write(wire.AppendStarted(nil, wire.Started{PID: 7}))
		require.NoError(t, err)
		out := os.NewFile(uintptr(fds[0]), "output")
		written := 0
		for ; written < 1<<20; written += 4096 {
			if _, err = out.Write(make([]byte, 4096)); err != nil {
				break
			}
		}
		assert.ErrorIs(t, err, syscall.EPIPE, "the writer learns of it")
		_, _ = conn.Write(wire.AppendExited(nil, wire.Exited{}))
		sys.CloseAll(fds[1:])
		_ = cmd.Wait()
		assert.Equal(t, 125, cmd.ProcessState.ExitCode())
		assert.Equal(t, "jail-enter: cannot write standard output: no space left on device\n", stderr.String())
		out.Close()
		conn.Close()
	}
}
