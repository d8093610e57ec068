package launch_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/sys"
	"jail/internal/wire"
)

// talk is a session the test plays jail-enter for.
type talk struct {
	t        *testing.T
	conn     int
	out      *os.File // its output; a terminal's master if it has one
	agent    int      // -1 without
	flags    uint16   // of Started
	received []byte
}

// talkTo starts "sh -c cmd" as the login whose socket is at path.
func talkTo(t *testing.T, path, cmd string, req wire.Request) *talk {
	t.Helper()
	s := &talk{t: t, agent: -1}
	var err error
	s.conn, err = fdsock.Dial(path)
	require.NoError(t, err)
	t.Cleanup(s.close)
	req.Args = [][]byte{[]byte("-c"), []byte(cmd)}
	var pass []int
	if !req.TTY() {
		r, w, err := sys.Pipe()
		require.NoError(t, err)
		_ = syscall.Fchmod(w, 0o666)
		_ = sys.SetNonblock(r)
		req.Stdio = [3]wire.Stdio{wire.StdioNull, wire.StdioPassed, wire.StdioPassed}
		pass = []int{w, w}
		s.out = os.NewFile(uintptr(r), "out")
		defer sys.Close(w)
	}
	p, err := wire.AppendRequest(nil, &req)
	require.NoError(t, err)
	var m sys.MsgBuf
	require.NoError(t, sys.SendMsg(s.conn, p, pass, true, &m))
	typ, flags, body, fds := s.receive()
	require.Equal(t, wire.TypeStarted, typ, "%q", body)
	_, err = wire.DecodeStarted(flags, body)
	require.NoError(t, err)
	s.flags = flags
	if req.TTY() {
		require.NotEmpty(t, fds)
		_ = sys.SetNonblock(fds[0])
		s.out, fds = os.NewFile(uintptr(fds[0]), "master"), fds[1:]
	}
	if flags&wire.FlagAgentFD != 0 {
		require.Len(t, fds, 1)
		s.agent = fds[0]
	} else {
		require.Empty(t, fds)
	}
	return s
}

func (s *talk) receive() (wire.Type, uint16, []byte, []int) {
	s.t.Helper()
	n, err := sys.Poll([]sys.PollFD{{FD: int32(s.conn), Events: sys.PollIn}}, 20_000)
	require.NoError(s.t, err)
	require.Equal(s.t, 1, n, "PID 1 says nothing")
	var m sys.MsgBuf
	buf := make([]byte, 2048)
	n, err = sys.RecvMsg(s.conn, buf, true, &m)
	require.NoError(s.t, err)
	require.NotZero(s.t, n, "PID 1 has closed the connection")
	typ, flags, body, err := wire.Header(buf[:n])
	require.NoError(s.t, err)
	return typ, flags, body, append([]int(nil), m.FDs...)
}

// expect reads output until it has text, and returns what came before.
func (s *talk) expect(text string) string {
	s.t.Helper()
	require.NoError(s.t, s.out.SetReadDeadline(time.Now().Add(20*time.Second)))
	for {
		if before, after, ok := bytes.Cut(s.received, []byte(text)); ok {
			s.received = after
			return string(before)
		}
		var buf [4096]byte
		n, err := s.out.Read(buf[:])
		s.received = append(s.received, buf[:n]...)
		if err != nil && !bytes.Contains(s.received, []byte(text)) {
			require.NoError(s.t, err, "waiting for %q, there is %q", text, s.received)
		}
	}
}

func (s *talk) send(p []byte) {
	var m sys.MsgBuf
	require.NoError(s.t, sys.SendMsg(s.conn, p, nil, true, &m))
}

func (s *talk) exited() wire.Exited {
	s.t.Helper()
	typ, flags, body, _ := s.receive()
	require.Equal(s.t, wire.TypeExited, typ)
	e, err := wire.DecodeExited(flags, body)
	require.NoError(s.t, err)
	return e
}

// close is what the kernel does for a jail-enter that is killed.
func (s *talk) close() {
	if s.out != nil {
		s.out.Close()
		s.out = nil
	}
	for _, fd := range []*int{&s.conn, &s.agent} {
		if *fd >= 0 {
			sys.Close(*fd)
			*fd = -1
		}
	}
}

// inside is a path of the jail's as the host sees it.
func (j *testJail) inside(path string) string { return fmt.Sprintf("/proc/%d/root%s", j.PID, path) }

func (j *testJail) names(dir string) []string {
	entries, err := os.ReadDir(j.inside(dir))
	require.NoError(j.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func soon(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after 20 s: %s", what)
		}
	}
}

// twoLogins are work and, with testUID+1, another user of the jail.
func twoLogins(s jail.Spec) jail.Spec {
	s.Logins = append(s.Logins, jail.Login{HostUID: testUID + 1, UID: jailUID + 1, JailName: "other", Shell: "/bin/sh"})
	return s
}

const agentAsked = wire.FlagAgent

func TestAgent(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		j := mustStart(t, twoLogins(newSpec(newRootfs(t), userns)))
		other := fdsock.LoginPath(j.runtimeDir, testUID+1)

		without := talkTo(t, j.path, "echo [$SSH_AUTH_SOCK]", wire.Request{})
		assert.Equal(t, -1, without.agent)
		without.expect("[]\n")
		assert.Equal(t, wire.Exited{}, without.exited())
		assert.Empty(t, j.names("/dev/jail/agent"))

		s := talkTo(t, j.path, "echo $SSH_AUTH_SOCK; stat -c '%F %a %u' $SSH_AUTH_SOCK; test -w $SSH_AUTH_SOCK && echo mine; sleep 1000", wire.Request{Flags: agentAsked})
		require.GreaterOrEqual(t, s.agent, 0)
		path := strings.TrimSuffix(s.expect("socket 600 1234\nmine\n"), "\n")
		assert.Regexp(t, `^/dev/jail/agent/\d+/agent$`, path)
		listening, err := syscall.GetsockoptInt(s.agent, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
		require.NoError(t, err)
		assert.Equal(t, 1, listening)

		// The socket's file leads to the descriptor that was passed.
		c, err := sys.Stream()
		require.NoError(t, err)
		defer sys.Close(c)
		require.NoError(t, sys.Connect(c, j.inside(path)))
		accepted, err := sys.Accept(s.agent)
		require.NoError(t, err)
		sys.Close(accepted)

		for claim, cmd := range map[string]string{
			"another user cannot use it":       "test ! -w " + path,
			"nor put anything beside it":       "! touch " + filepath.Dir(path) + "/x 2>/dev/null",
			"nor remove it":                    "! rm -f " + path + " 2>/dev/null",
			"nor make a directory next to his": "! mkdir " + filepath.Dir(filepath.Dir(path)) + "/9 2>/dev/null",
		} {
			for _, login := range []string{other, j.path} {
				if login == j.path && strings.HasPrefix(cmd, "test") {
					continue
				}
				o := talkTo(t, login, cmd, wire.Request{})
				assert.Equal(t, wire.Exited{}, o.exited(), claim)
			}
		}

		second := talkTo(t, j.path, "echo $SSH_AUTH_SOCK; sleep 1000", wire.Request{Flags: agentAsked})
		assert.NotEqual(t, path, second.expect("\n"))
		assert.Len(t, j.names("/dev/jail/agent"), 2)
		second.send(wire.AppendSignal(nil, wire.Signal{Number: 15}))
		assert.Equal(t, wire.Exited{Signal: 15}, second.exited())
		soon(t, "the socket goes with the session", func() bool { return len(j.names("/dev/jail/agent")) == 1 })
		s.close()
		soon(t, "the socket goes with the client", func() bool { return len(j.names("/dev/jail/agent")) == 0 })
	})
}

func TestAgentAndTerminal(t *testing.T) {
	j := mustStart(t, newSpec(newRootfs(t), true))
	tty := [3]wire.Stdio{wire.StdioTTY, wire.StdioTTY, wire.StdioTTY}
	s := talkTo(t, j.path, "test -S $SSH_AUTH_SOCK && tty; sleep 1000", wire.Request{Stdio: tty, Flags: agentAsked})
	require.GreaterOrEqual(t, s.agent, 0)
	s.expect("/dev/pts/0")
}

// TestAgentLimit fills a jail with agents; who comes then has a session without.
func TestAgentLimit(t *testing.T) {
	const most = 256
	j := mustStart(t, newSpec(newRootfs(t), true))
	var all []*talk
	for range most {
		s := talkTo(t, j.path, "exec sleep 1000", wire.Request{Flags: agentAsked})
		require.GreaterOrEqual(t, s.agent, 0)
		all = append(all, s)
	}
	late := talkTo(t, j.path, "echo [$SSH_AUTH_SOCK]", wire.Request{Flags: agentAsked})
	assert.Equal(t, -1, late.agent)
	late.expect("[]\n")
	assert.Contains(t, j.logLine(), "no agent, display or SSH_USER_AUTH for a session")
	for _, s := range all {
		s.close()
	}
	soon(t, "all are gone", func() bool { return len(j.names("/dev/jail/agent")) == 0 })
	again := talkTo(t, j.path, "test -S $SSH_AUTH_SOCK", wire.Request{Flags: agentAsked})
	assert.Equal(t, wire.Exited{}, again.exited())
}

func (j *testJail) logLine() string {
	j.t.Helper()
	for {
		n, _ := sys.Poll([]sys.PollFD{{FD: int32(j.Conn), Events: sys.PollIn}}, 20_000)
		require.Equal(j.t, 1, n, "no log line")
		var m sys.MsgBuf
		buf := make([]byte, wire.MaxEvents)
		n, err := sys.RecvMsg(j.Conn, buf, true, &m)
		require.NoError(j.t, err)
		typ, _, body, err := wire.Header(buf[:n])
		require.NoError(j.t, err)
		if typ == wire.TypeEvents {
			continue
		}
		require.Equal(j.t, wire.TypeLog, typ)
		text, err := wire.DecodeText(body)
		require.NoError(j.t, err)
		return text
	}
}

// TestHostileAgentDirectory has a root inside rearrange /dev while sessions with
// agents come and go. PID 1 is not led anywhere, and goes on.
func TestHostileAgentDirectory(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		spec := newSpec(newRootfs(t), userns)
		spec.Logins = append(spec.Logins, jail.Login{HostUID: testUID + 1, UID: 0})
		j := mustStart(t, spec)
		root := fdsock.LoginPath(j.runtimeDir, testUID+1)
		do := func(cmd string) {
			s := talkTo(t, root, cmd, wire.Request{})
			require.Equal(t, wire.Exited{}, s.exited(), cmd)
		}
		do("mkdir -m 777 /tmp/trap")

		// A directory exchanged for a link while the session runs.
		s := talkTo(t, j.path, "echo; sleep 1000", wire.Request{Flags: agentAsked})
		s.expect("\n")
		do("touch /tmp/trap/agent; mv /dev/jail/agent/1 /dev/jail/agent/old; ln -s /tmp/trap /dev/jail/agent/1")
		s.close()
		s = talkTo(t, j.path, "test -S $SSH_AUTH_SOCK", wire.Request{Flags: agentAsked})
		assert.Equal(t, wire.Exited{}, s.exited())
		_, err := os.Stat(j.inside("/tmp/trap/agent"))
		assert.NoError(t, err, "nothing is removed through a link")

		// The next directory is there already, or is a link.
		do("mkdir /dev/jail/agent/3; ln -s /tmp/trap /dev/jail/agent/4")
		for range 2 {
			s = talkTo(t, j.path, "echo [$SSH_AUTH_SOCK]", wire.Request{Flags: agentAsked})
			s.expect("[]\n")
			assert.Equal(t, -1, s.agent)
			assert.Contains(t, j.logLine(), "no agent for a session: file exists")
		}
		assert.Equal(t, []string{"agent"}, j.names("/tmp/trap"))

		// The place itself has gone elsewhere, or away.
		do("mv /dev/jail /dev/gaol; ln -s /tmp /dev/jail")
		s = talkTo(t, j.path, "test ! -e $SSH_AUTH_SOCK", wire.Request{Flags: agentAsked})
		assert.Equal(t, wire.Exited{}, s.exited())
		do("rm -r /dev/gaol")
		s = talkTo(t, j.path, "echo [$SSH_AUTH_SOCK]", wire.Request{Flags: agentAsked})
		s.expect("[]\n")
		assert.Contains(t, j.logLine(), "no agent for a session: no such file or directory")
	})
}

// x11Request is what jail-enter sends for DISPLAY=localhost:10.0.
func x11Request() wire.Request {
	return wire.Request{Flags: wire.FlagX11, Display: []byte("localhost:10.0"), Cookie: []byte("0123456789abcdef")}
}

func TestX11(t *testing.T) {
	const show = "echo [$DISPLAY][$XAUTHORITY]; "
	bothModes(t, func(t *testing.T, userns bool) {
		t.Run("off", func(t *testing.T) {
			j := mustStart(t, newSpec(newRootfs(t), userns))
			s := talkTo(t, j.path, show, x11Request())
			s.expect("[][]\n")
			_, err := os.Stat(j.inside("/dev/jail/x11"))
			assert.ErrorIs(t, err, os.ErrNotExist)
		})
		t.Run("on", func(t *testing.T) {
			spec := twoLogins(newSpec(newRootfs(t), userns))
			spec.X11 = true
			j := mustStart(t, spec)
			s := talkTo(t, j.path, show, wire.Request{})
			s.expect("[][]\n")
			s = talkTo(t, j.path, show+"stat -c '%a %u %g' $XAUTHORITY ${XAUTHORITY%/*}; cat $XAUTHORITY; echo; echo end; sleep 1000", x11Request())
			s.expect("[localhost:10.0][/dev/jail/x11/1/authority]\n600 1234 1234\n700 1234 1234\n")
			entry := "\x00\x0210\x00\x12MIT-MAGIC-COOKIE-1\x00\x100123456789abcdef"
			assert.Equal(t, "\x01\x00\x00\x04test"+entry+"\xff\xff\x00\x00"+entry, s.expect("\nend\n"))
			other := talkTo(t, fdsock.LoginPath(j.runtimeDir, testUID+1), "! cat /dev/jail/x11/1/authority 2>/dev/null", wire.Request{})
			assert.Equal(t, wire.Exited{}, other.exited())
			// What xauth leaves is removed as well.
			helper := talkTo(t, j.path, "cd /dev/jail/x11/1 && touch authority-c authority-l authority-n", wire.Request{})
			assert.Equal(t, wire.Exited{}, helper.exited())
			s.close()
			soon(t, "the cookie goes with the session", func() bool { return len(j.names("/dev/jail/x11")) == 0 })

			// What a session leaves stays there and harms nobody.
			s = talkTo(t, j.path, "cd ${XAUTHORITY%/*} && mkdir -p a/b && rm authority && ln -s /etc/passwd authority", x11Request())
			assert.Equal(t, wire.Exited{}, s.exited())
			soon(t, "the link is removed", func() bool { return len(j.names("/dev/jail/x11/2")) == 1 })
			assert.NotEmpty(t, j.out("cat /etc/passwd"))
			s = talkTo(t, j.path, "dd if=/dev/zero of=${XAUTHORITY%/*}/big 2>/dev/null; test -s $XAUTHORITY", x11Request())
			assert.Equal(t, wire.Exited{}, s.exited())
			last := talkTo(t, j.path, show+"sleep 1000", x11Request())
			last.expect("4/authority]\n")
			s = talkTo(t, j.path, show, x11Request())
			s.expect("[][]\n")
			assert.Contains(t, j.logLine(), "no display for a session: no space left on device")
			s = talkTo(t, j.path, "test -S $SSH_AUTH_SOCK", wire.Request{Flags: agentAsked})
			assert.Equal(t, wire.Exited{}, s.exited(), "agents have a place of their own")
		})
	})
}

func TestStrangeDisplays(t *testing.T) {
	spec := newSpec(newRootfs(t), true)
	spec.X11 = true
	j := mustStart(t, spec)
	for display, ok := range map[string]bool{
		"localhost:10.0": true, "host.example:0": true, "127.0.0.1:6011.12": true, "[::1]:10.0": true,
		"": false, ":0": false, "localhost": false, "localhost:": false, "localhost:x": false, "localhost:10.": true,
		"localhost:10.0;id": false, "localhost:10 ": false, "/tmp/x:0": false, "localhost:123456": false, "a\nb:0": false, "localhost:1.0.0": false,
	} {
		r := x11Request()
		r.Display = []byte(display)
		s := talkTo(t, j.path, "echo \"[$DISPLAY]\"", r)
		if ok {
			s.expect("[" + display + "]\n")
		} else {
			s.expect("[]\n")
			assert.Contains(t, j.logLine(), "its name makes no sense", "%q", display)
		}
	}
}

// TestOnDisconnect has clients go away in both ways there are: jail-enter says
// that nobody reads standard error any more, or jail-enter is gone and its
// terminal with it.
func TestOnDisconnect(t *testing.T) {
	const script = `trap 'echo hup >>/tmp/said; exit 3' HUP; echo ready
		i=0; while [ $i -lt 4000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done
		echo on >>/tmp/said; while :; do sleep 1; done`
	tty := [3]wire.Stdio{wire.StdioTTY, wire.StdioTTY, wire.StdioTTY}
	for name, policy := range map[string]jail.OnDisconnect{
		"plain": jail.DisconnectPlain, "hup": jail.DisconnectHup, "kill": jail.DisconnectKill, "keep": jail.DisconnectKeep,
	} {
		t.Run(name, func(t *testing.T) {
			spec := newSpec(newRootfs(t), true)
			spec.OnDisconnect = policy
			j := mustStart(t, spec)
			said := func() string {
				b, _ := os.ReadFile(j.inside("/tmp/said"))
				return string(b)
			}

			pipes := talkTo(t, j.path, "trap 'echo hup; exit 3' HUP; echo ready; while :; do sleep 1; done", wire.Request{})
			pipes.expect("ready\n")
			watched := policy == jail.DisconnectHup || policy == jail.DisconnectKill
			assert.Equal(t, watched, pipes.flags&wire.FlagWatch != 0)
			pipes.send(wire.AppendDisconnected(nil))
			switch policy {
			case jail.DisconnectHup:
				pipes.expect("hup\n")
				assert.Equal(t, wire.Exited{Code: 3}, pipes.exited())
			case jail.DisconnectKill:
				assert.Equal(t, wire.Exited{Signal: 9}, pipes.exited())
			default:
				pipes.send(wire.AppendSignal(nil, wire.Signal{Number: 15}))
				assert.Equal(t, wire.Exited{Signal: 15}, pipes.exited(), "it is still there")
			}

			term := talkTo(t, j.path, script, wire.Request{Stdio: tty})
			assert.Zero(t, term.flags&wire.FlagWatch)
			term.expect("ready")
			term.close()
			gone := func() bool { return !strings.Contains(j.out("ps -o args"), "sleep") }
			switch policy {
			case jail.DisconnectPlain, jail.DisconnectHup:
				soon(t, "the terminal is hung up", func() bool { return said() == "hup\n" })
				soon(t, "the shell is gone", gone)
			case jail.DisconnectKill:
				soon(t, "all is gone", gone)
				assert.Empty(t, said())
			case jail.DisconnectKeep:
				soon(t, "it runs on, past what a terminal holds", func() bool { return said() == "on\n" })
				j.out("kill -TERM -1 2>/dev/null; true")
				_ = j.run("kill -KILL -1")
				soon(t, "the shell is gone", gone)
			}
		})
	}
}

// TestKilledInTheForeground has a shell with job control, whose foreground job
// has a process group of its own and takes no SIGHUP.
func TestKilledInTheForeground(t *testing.T) {
	spec := newSpec(newRootfs(t), true)
	spec.OnDisconnect = jail.DisconnectKill
	j := mustStart(t, spec)
	tty := [3]wire.Stdio{wire.StdioTTY, wire.StdioTTY, wire.StdioTTY}
	s := talkTo(t, j.path, "set -m; sh -c 'trap \"\" HUP; echo ready; while :; do sleep 1; done'; true", wire.Request{Stdio: tty})
	s.expect("ready")
	s.close()
	soon(t, "it is gone", func() bool { return !strings.Contains(j.out("ps -o args"), "trap") })
}
