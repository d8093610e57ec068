package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/wire"
)

// dialQuietly connects to a login's socket.
func dialQuietly(a account) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: socketPath(a)})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// sendRequest asks for a session without input or output.
func sendRequest(fd int, command string) error {
	packet, err := wire.AppendRequest(nil, &wire.Request{Args: [][]byte{[]byte("-c"), []byte(command)}})
	if err != nil {
		return err
	}
	return unix.Sendto(fd, packet, 0, nil)
}

// others checks that nobody but the attacked jail notices: a neighbour and the
// host's own logins, with and without a terminal.
func others(t *testing.T) {
	t.Helper()
	for _, d := range []door{forced, plain} {
		assert.Equal(t, result{stdout: "fine\r\n"}, run(t, d, onTTY("echo fine")), "%s", d)
		assert.Equal(t, result{stdout: "fine\n"}, run(t, d, ask{cmd: "echo fine", wire: true}), "%s", d)
	}
}

func onCentosTTY(command string) ask {
	a := onTTY(command)
	a.as = centos
	return a
}

// storms are what runs out per uid of the kernel's, or system-wide.
var storms = []struct {
	kind string
	// rootMode is why it is the host's too where ids are the host's.
	rootMode string
}{
	{"inotify", "fs.inotify.max_user_instances is per uid"},
	{"mqueue", "RLIMIT_MSGQUEUE is per uid"},
	{"inflight", "descriptors in flight are counted per uid"},
	{"pty", ""},
}

// TestAttackStorm uses up what there is: the neighbour, the host and the jail's
// end must not be touched, and the jail itself is well when it is over.
func TestAttackStorm(t *testing.T) {
	alone(t)
	p := newPrey(t)
	arm(t, busyboxRoot)
	// probeAs is whether a user of the host's can have one.
	probeAs := func(t *testing.T, kind string, uid int) string {
		t.Helper()
		cmd := exec.Command(filepath.Join(p.dir, "program"), "hold", "one-"+kind)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		return strings.TrimSpace(runCommand(t, cmd, nil).stdout)
	}
	// probe asks for the host's user of the tenant's uid.
	probe := func(t *testing.T, kind string) string { t.Helper(); return probeAs(t, kind, int(tenant.uid)) }
	const nothing = "<nil>"
	for _, storm := range storms {
		t.Run(storm.kind+"/weak", func(t *testing.T) {
			w := newWeak(t, p, "chroot-"+storm.kind, nil)
			require.Equal(t, nothing, probe(t, storm.kind))
			cmd := w.command(tenant, attackPath, "hold", storm.kind)
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line := make([]byte, 200)
			n, err := out.Read(line)
			require.NoError(t, err)
			if storm.kind == "pty" {
				assert.Contains(t, string(line[:n]), "held 300: "+nothing, "nothing holds it")
			} else {
				assert.NotEqual(t, nothing, probe(t, storm.kind), "%s, and the host's user has none left", line[:n])
			}
			in.Close()
			require.NoError(t, cmd.Wait())
			eventually(t, "it is given back", func() bool { return probe(t, storm.kind) == nothing })
		})
	}
	for _, mode := range attackModes[:2] {
		s, err := serve(underAttack(mode.lines))
		require.NoError(t, err)
		for _, storm := range storms {
			t.Run(storm.kind+"/"+mode.name, func(t *testing.T) {
				hold := func() *live {
					l := open(t, forced, ask{as: centos, cmd: attackPath + " hold " + storm.kind, wire: true})
					l.expect(`held \d+: [a-z]`)
					return l
				}
				l := hold()
				if mode.name == "userns" || storm.rootMode == "" {
					assert.Equal(t, nothing, probe(t, storm.kind), "the host's user of that uid")
				} else {
					assert.NotEqual(t, nothing, probe(t, storm.kind), "listed as not held: %s", storm.rootMode)
				}
				if mode.name == "userns" {
					// The namespace is not root's, who has one of everything too.
					assert.Equal(t, nothing, probeAs(t, storm.kind, 0), "root of the host")
				}
				others(t)
				r := run(t, forced, ask{as: centos, cmd: "echo fine", wire: true})
				if storm.kind != "inflight" || mode.name == "userns" {
					// Else the tenant's own jail-enter has the same uid, and may be refused.
					assert.Equal(t, result{stdout: "fine\n"}, r)
				}
				if storm.kind == "pty" {
					n := regexp.MustCompile(`held (\d+)`).FindStringSubmatch(l.heard())[1]
					assert.Contains(t, []string{"256", "257"}, n, "max= of the jail's devpts")
					r = run(t, forced, onCentosTTY("echo fine"))
					assert.Equal(t, 125, r.status, "%v", r)
				}
				l.in.Close()
				l.wait()
				assert.Equal(t, result{stdout: "fine\r\n"}, run(t, forced, onCentosTTY("echo fine")), "when it is over")

				l = hold()
				stopJail(t, "attacked") // while it lasts
				l.wait()
				assert.Equal(t, result{stdout: "fine\n"}, run(t, forced, ask{as: centos, cmd: "echo fine", wire: true}))
				eventually(t, "it is given back", func() bool { return probe(t, storm.kind) == nothing })
			})
		}
		require.NoError(t, s.stop())
	}

	s, err := serve(underAttack(attackModes[0].lines))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.stop()) })
	for _, storm := range storms[:3] {
		t.Run(storm.kind+"/root inside", func(t *testing.T) {
			cmd := exec.Command(initPath, "exec", "attacked", attackPath, "hold", storm.kind)
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.Zero(t, run(t, forced, ask{as: centos, cmd: "exit 0"}).status)
			require.NoError(t, cmd.Start())
			line := make([]byte, 200)
			n, err := out.Read(line)
			require.NoError(t, err)
			assert.Regexp(t, `^held \d+: [a-z]`, string(line[:n]))
			for _, uid := range []int{0, int(tenant.uid), 4711} {
				assert.Equal(t, nothing, probeAs(t, storm.kind, uid), "uid %d of the host", uid)
			}
			others(t)
			in.Close()
			require.NoError(t, cmd.Wait())
		})
	}
	t.Run("P9-orphans", func(t *testing.T) {
		l := open(t, forced, ask{as: centos, cmd: attackPath + " hold orphans", wire: true})
		for status := range 20 {
			assert.Equal(t, result{status: status}, run(t, forced, ask{as: centos, cmd: fmt.Sprintf("exit %d", status), wire: true}))
		}
		assert.Equal(t, result{stdout: "done\n"}, l.wait())
		pid := jailPIDs("attacked")[0]
		eventually(t, "all are buried", func() bool {
			for _, p := range processes() {
				if p.parent == pid {
					return false
				}
			}
			return true
		})
	})
	t.Run("L2-survivors", func(t *testing.T) {
		run(t, forced, ask{as: centos, cmd: "for i in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP; (sleep 51234; :) & kill -STOP $$' >/dev/null 2>&1 </dev/null & done; exit 0"})
		eventually(t, "they are there", func() bool { return len(running("sleep 51234")) == 3 })
		stopJail(t, "--grace", "500ms", "attacked") // stopped and deaf, but not for SIGKILL
		assert.Empty(t, running("sleep 51234"))
	})
	t.Run("R4-sessions", func(t *testing.T) {
		require.Zero(t, run(t, forced, ask{as: centos, cmd: "exit 0"}).status)
		var fds []int
		defer func() {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}()
		const most = 1000 // pid1's maxSessions
		for len(fds) < most {
			fd, err := dialQuietly(centos)
			if err == unix.EAGAIN { // the queue is full
				time.Sleep(time.Millisecond)
				continue
			}
			require.NoError(t, err)
			fds = append(fds, fd)
			require.NoError(t, sendRequest(fd, "exec sleep 51235"))
			require.NoError(t, awaitAnswer(fd))
		}
		r := run(t, forced, ask{as: centos, cmd: "echo fine", wire: true})
		assert.Equal(t, 125, r.status)
		assert.Contains(t, r.stderr, "as many sessions as it can hold")
		others(t)
		out, err := exec.Command(initPath, "ps").Output()
		require.NoError(t, err)
		assert.Regexp(t, `attacked +running +\d+ +1000 `, string(out))
		for _, fd := range fds {
			unix.Close(fd) // a session without a terminal dies with its client
		}
		fds = nil
		eventually(t, "they are gone", func() bool {
			return run(t, forced, ask{as: centos, cmd: "echo fine", wire: true}) == result{stdout: "fine\n"}
		})
		eventually(t, "all of them", func() bool { return len(running("sleep 51235")) == 0 })
	})
	t.Run("R7-log", func(t *testing.T) {
		require.Zero(t, run(t, forced, ask{as: centos, cmd: "exit 0"}).status)
		info, err := os.Stat(world.log("serve.log"))
		require.NoError(t, err)
		flood := func(n int) {
			for range n {
				fd, err := dialQuietly(centos)
				if err != nil {
					continue
				}
				unix.Sendto(fd, []byte{99, 1, 0, 0}, 0, nil) // another version: refused, and logged
				awaitAnswer(fd)
				unix.Close(fd)
			}
		}
		began := time.Now()
		flood(1000)
		time.Sleep(1100 * time.Millisecond) // the count is by the second
		flood(1)
		eventually(t, "the log says how much it has left out", func() bool {
			return strings.Contains(logSince(t, "serve.log", info.Size()), "lines suppressed")
		})
		seconds := int(time.Since(began).Seconds()) + 2
		lines := strings.Count(logSince(t, "serve.log", info.Size()), "\n")
		assert.LessOrEqual(t, lines, seconds*52, "fifty a second, and the word on the rest")
		others(t)
	})
	t.Run("S13-stopped", func(t *testing.T) {
		// Everything of the tenant's uid is stopped, over and over: another login's
		// matter it is not, nor the administrator's.
		l := open(t, forced, ask{as: centos, cmd: "echo ready; while :; do kill -STOP -1; done", wire: true})
		l.expect("ready\n")
		others(t)
		r := runCommand(t, exec.Command(initPath, "exec", "attacked", "echo", "fine"), nil)
		assert.Equal(t, result{stdout: "fine\n"}, r)
		stopJail(t, "--grace", "500ms", "attacked")
		l.wait()
		assert.Equal(t, result{stdout: "fine\n"}, run(t, forced, ask{as: centos, cmd: "echo fine", wire: true}))
	})
}

// awaitAnswer waits for PID 1's first word on a connection.
func awaitAnswer(fd int) error {
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
		return err
	}
	n, err := 0, error(unix.EINTR)
	for err == unix.EINTR { // a signal of the Go runtime's
		n, err = unix.Read(fd, make([]byte, 1024))
	}
	if err == nil && n == 0 {
		err = unix.ECONNRESET
	}
	return err
}

func logSince(t *testing.T, name string, from int64) string {
	t.Helper()
	text, err := os.ReadFile(world.log(name))
	require.NoError(t, err)
	return string(text[from:])
}

// hostilePID1 answers a client of the tests as a PID 1 that has been taken over
// might; fds go with the first packet.
type hostilePID1 struct {
	claim   string
	packets [][]byte
	fds     func(t *testing.T) []int
	tty     bool
}

// TestAttackClient lets jail-enter, which runs on the host, talk to a PID 1 that
// does not keep to the protocol: it ends with one line and status 125, whatever
// it is sent (K15, T5).
func TestAttackClient(t *testing.T) {
	alone(t)
	dir := fmt.Sprintf("/run/fake/%d", work.id)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll("/run/fake")) })
	file := func(path string, flags int) func(t *testing.T) []int {
		return func(t *testing.T) []int {
			fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			return []int{fd}
		}
	}
	many := func(n int) func(t *testing.T) []int {
		return func(t *testing.T) []int {
			fds := file("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY)(t)
			for len(fds) < n {
				fd, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 3)
				require.NoError(t, err)
				fds = append(fds, fd)
			}
			return fds
		}
	}
	started := wire.AppendStarted(nil, wire.Started{PID: 7})
	rows := []hostilePID1{
		{claim: "a directory for a terminal", packets: [][]byte{started}, fds: file("/", unix.O_RDONLY), tty: true},
		{claim: "a FIFO for a terminal", packets: [][]byte{started}, tty: true, fds: func(t *testing.T) []int {
			var p [2]int
			require.NoError(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
			unix.Close(p[1])
			return p[:1]
		}},
		{claim: "a device for a terminal", packets: [][]byte{started}, fds: file("/dev/zero", unix.O_RDWR), tty: true},
		{claim: "an O_PATH descriptor for a terminal", packets: [][]byte{started}, fds: file("/dev/ptmx", unix.O_PATH), tty: true},
		{claim: "two terminals", packets: [][]byte{started}, fds: many(2), tty: true},
		{claim: "two hundred terminals", packets: [][]byte{started}, fds: many(200), tty: true},
		{claim: "no terminal", packets: [][]byte{started}, tty: true},
		{claim: "a terminal that was not asked for", packets: [][]byte{started}, fds: many(1)},
		{claim: "a descriptor with a refusal", packets: [][]byte{wire.AppendRefused(nil, wire.Refused{Status: 125, ID: "abcdefgh", Text: "no"})}, fds: many(1)},
		{claim: "noise", packets: [][]byte{[]byte("HTTP/1.1 200 OK\r\n\r\n")}},
		{claim: "another version", packets: [][]byte{append([]byte{99}, started[1:]...)}},
		{claim: "an end before the beginning", packets: [][]byte{wire.AppendExited(nil, wire.Exited{})}},
		{claim: "a packet of 100 kB", packets: [][]byte{append(append([]byte{}, started[:4]...), make([]byte, 100_000)...)}},
		{claim: "half a message", packets: [][]byte{started[:len(started)-1]}},
		{claim: "a beginning twice", packets: [][]byte{started, started}},
		{claim: "silence after the beginning", packets: [][]byte{started}},
		{claim: "escape sequences in the reason", packets: [][]byte{wire.AppendRefused(nil, wire.Refused{Status: 125, ID: "\x1b]0;x\x07", Text: "\x1b[2J\x1b]52;c;eA==\x07 \r\nroot# "})}},
	}
	listen := func(t *testing.T) int {
		path := filepath.Join(dir, "sock")
		listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Bind(listener, &unix.SockaddrUnix{Name: path}))
		t.Cleanup(func() { os.Remove(path) })
		require.NoError(t, os.Chown(path, work.id, work.id))
		require.NoError(t, unix.Listen(listener, 1))
		return listener
	}
	// Other processes of its uid, a tenant's by another way in, get no hold of it.
	t.Run("X6", func(t *testing.T) {
		listener := listen(t)
		cmd := enter(work, nil, "jail-enter", "--runtime-dir", "/run/fake", "-c", "true")
		require.NoError(t, cmd.Start())
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		require.NoError(t, err)
		unix.Close(listener)
		proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
		asUID(t, work.id, func() error {
			for _, name := range []string{"mem", "environ", "maps", "auxv"} {
				f, err := unix.Open(proc+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				assert.ErrorIs(t, err, unix.EACCES, name)
				unix.Close(f)
			}
			_, err := os.ReadDir(proc + "fd")
			assert.ErrorIs(t, err, unix.EACCES)
			_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(cmd.Process.Pid), 0, 0, 0, 0)
			assert.Equal(t, unix.EPERM, e)
			return nil
		})
		unix.Close(fd) // it connects again, and finds nobody
		assert.Error(t, cmd.Wait())
	})
	for _, row := range rows {
		t.Run(row.claim, func(t *testing.T) {
			listener := listen(t)
			var answering sync.WaitGroup
			answering.Go(func() {
				fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
				unix.Close(listener)
				if err != nil {
					return
				}
				defer unix.Close(fd)
				_, _ = unix.Read(fd, make([]byte, 1<<18))
				var fds []int
				if row.fds != nil {
					fds = row.fds(t)
				}
				for i, packet := range row.packets {
					var rights []byte
					if i == 0 && len(fds) > 0 {
						rights = unix.UnixRights(fds...)
					}
					_ = unix.Sendmsg(fd, packet, rights, nil, 0)
				}
				for _, fd := range fds {
					unix.Close(fd)
				}
			})
			cmd := enter(work, []string{"TERM=xterm"}, "jail-enter", "--runtime-dir", "/run/fake", "-c", "true")
			var said string
			status := 0
			if row.tty {
				c := onConsole(t, cmd)
				c.wait()
				said, status = c.heard(), cmd.ProcessState.ExitCode()
			} else {
				r := runCommand(t, cmd, nil)
				assert.Empty(t, r.stdout)
				said, status = r.stderr, r.status
			}
			answering.Wait()
			assert.Equal(t, 125, status, "%q", said)
			assert.Regexp(t, `^jail-enter: [ -~]+\r?\n$`, said)
		})
	}
}

// stopJail asks for a jail to be stopped. It ends, or the test does: the deadline is the
// guard, not the claim.
func stopJail(t *testing.T, args ...string) {
	t.Helper()
	r := runCommand(t, exec.Command(initPath, append([]string{"stop"}, args...)...), nil)
	assert.Zero(t, r.status, "%v", r)
}
