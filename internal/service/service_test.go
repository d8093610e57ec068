package service

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// pid1 plays a PID 1 that answers as it is told.
type pid1 struct {
	t        *testing.T
	dir      string
	listener int
	m        sys.MsgBuf

	mu  sync.Mutex
	log []string
}

func newPID1(t *testing.T) *pid1 {
	dir := filepath.Join(t.TempDir(), "run")
	require.NoError(t, fdsock.PrepareDir(dir))
	p := &pid1{t: t, dir: dir}
	var err error
	p.listener, err = fdsock.ListenControl(dir, "web")
	require.NoError(t, err)
	t.Cleanup(func() { sys.Close(p.listener) })
	return p
}

func (p *pid1) run(found bool, list ...jail.Service) *Runner {
	r := Run(Options{RuntimeDir: p.dir, Jail: "web", Services: list, Found: found, Log: func(text string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.log = append(p.log, text)
	}})
	p.t.Cleanup(r.Over)
	return r
}

// accept takes the next connection and what is asked on it.
func (p *pid1) accept() (conn int, name string, flags uint16) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		var err error
		conn, err = sys.Accept(p.listener)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	p.t.Cleanup(func() { sys.Close(conn) })
	typ, flags, body := p.next(conn)
	require.Equal(p.t, wire.TypeService, typ)
	s, err := wire.DecodeService(body)
	require.NoError(p.t, err)
	return conn, s.Name, flags
}

func (p *pid1) next(conn int) (wire.Type, uint16, []byte) {
	p.t.Helper()
	_ = sys.SetNonblock(conn)
	buf := make([]byte, wire.MaxPacket)
	var n int
	require.Eventually(p.t, func() bool {
		var err error
		n, err = sys.RecvMsg(conn, buf, false, &p.m)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	typ, flags, body, err := wire.Header(buf[:n])
	require.NoError(p.t, err)
	return typ, flags, append(make([]byte, 0, len(body)), body...)
}

// request takes the request that follows, and returns its output.
func (p *pid1) request(conn int) (args []string, out int) {
	p.t.Helper()
	buf := make([]byte, wire.MaxPacket)
	var n int
	require.Eventually(p.t, func() bool {
		var err error
		n, err = sys.RecvMsg(conn, buf, false, &p.m)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	fds := append([]int(nil), p.m.FDs...)
	var req wire.Request
	require.NoError(p.t, wire.DecodeRequest(buf[:n], &req))
	require.Equal(p.t, [3]wire.Stdio{wire.StdioNull, wire.StdioPassed, wire.StdioPassed}, req.Stdio)
	require.Len(p.t, fds, 2)
	sys.Close(fds[1])
	p.t.Cleanup(func() { sys.Close(fds[0]) })
	for _, a := range req.Args {
		args = append(args, string(a))
	}
	return args, fds[0]
}

func (p *pid1) say(conn int, packet []byte) {
	p.t.Helper()
	require.NoError(p.t, sys.SendMsg(conn, packet, nil, true, &p.m))
}

// logged waits for a line of the log.
func (p *pid1) logged(line string) {
	p.t.Helper()
	if !assert.Eventually(p.t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, l := range p.log {
			if l == line {
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Fatalf("no line %q in %q", line, p.log)
	}
}

func cron() jail.Service {
	return jail.Service{Name: "cron", Exec: []string{"/usr/sbin/cron", "-f"}, User: "root", Restart: jail.RestartAlways, Backoff: 100 * time.Millisecond}
}

// TestRunner: a service is started with its arguments and an output, what it writes is in
// the log, its end is, and it is started again.
func TestRunner(t *testing.T) {
	p := newPID1(t)
	p.run(false, cron())
	for range 2 {
		conn, name, flags := p.accept()
		assert.Equal(t, "cron", name)
		assert.Zero(t, flags)
		args, out := p.request(conn)
		assert.Equal(t, []string{"-f"}, args)
		p.say(conn, wire.AppendStarted(nil, wire.Started{PID: 7}))
		p.logged("service cron started: pid 7")
		_, err := syscall.Write(out, []byte("one\r\n\ntw\x1b[31mo\n"+strings.Repeat("x", maxLine+1)+"\nrest"))
		require.NoError(t, err)
		p.logged("service cron: one")
		p.logged(`service cron: tw\x1b[31mo`)
		p.logged("service cron: " + strings.Repeat("x", maxLine))
		p.logged("service cron: x")
		p.say(conn, wire.AppendExited(nil, wire.Exited{Code: 3}))
	}
}

// TestRunnerFinds: a supervisor that is new asks, and the output of a service that runs is
// still read, what was written meanwhile included.
func TestRunnerFinds(t *testing.T) {
	p := newPID1(t)
	r := p.run(false, cron())
	conn, _, _ := p.accept()
	_, out := p.request(conn)
	p.say(conn, wire.AppendStarted(nil, wire.Started{PID: 7}))
	p.logged("service cron started: pid 7")
	// The supervisor is gone, and nobody has said so to anybody.
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	close(r.outputs[0].over)
	require.NoError(t, r.outputs[0].file.Close())
	r.outputs[0] = nil
	require.NoError(t, syscall.Shutdown(conn, syscall.SHUT_RDWR)) // which closes it at its end
	_, err := syscall.Write(out, []byte("alone\n"))
	require.NoError(t, err, "its output does not break")

	p.run(true, cron())
	conn, _, flags := p.accept()
	assert.Equal(t, wire.FlagFind, flags)
	p.say(conn, wire.AppendStarted(nil, wire.Started{PID: 7}))
	p.logged("service cron runs already: pid 7")
	p.logged("service cron: alone")
	p.say(conn, wire.AppendExited(nil, wire.Exited{Signal: 9}))
	conn, _, flags = p.accept()
	assert.Zero(t, flags, "it has ended, and is started")
	p.request(conn)
}

func TestRunnerStartsWhatThereNeverWas(t *testing.T) {
	p := newPID1(t)
	p.run(true, cron())
	conn, _, flags := p.accept()
	assert.Equal(t, wire.FlagFind, flags)
	p.say(conn, wire.AppendRefused(nil, wire.Refused{Text: "it does not run"}))
	conn, _, flags = p.accept()
	assert.Zero(t, flags)
	p.request(conn)
	p.say(conn, wire.AppendRefused(nil, wire.Refused{Status: 125, Text: "no\nsuch\x1buser"}))
	p.logged(`service cron cannot be started: no\nsuch\x1buser, next start in 100ms`)
}

// TestRunnerAndAnOlderPID1: one that knows no services ends the connection; the log says
// so once.
func TestRunnerAndAnOlderPID1(t *testing.T) {
	p := newPID1(t)
	p.run(false, cron())
	for range 3 {
		conn, _, _ := p.accept()
		require.NoError(t, syscall.Shutdown(conn, syscall.SHUT_RDWR))
	}
	p.logged("service cron cannot be seen: " + errOld.Error() + ", next start in 100ms")
	p.mu.Lock()
	defer p.mu.Unlock()
	assert.Len(t, p.log, 1)
}

// TestRunnerOfAJailThatEnds: that its PID 1 is gone is no trouble with the service.
func TestRunnerOfAJailThatEnds(t *testing.T) {
	p := newPID1(t)
	r := p.run(false, cron())
	conn, _, _ := p.accept()
	_, out := p.request(conn)
	p.say(conn, wire.AppendStarted(nil, wire.Started{PID: 7}))
	p.logged("service cron started: pid 7")
	_, err := syscall.Write(out, []byte("last words"))
	require.NoError(t, err)
	require.NoError(t, syscall.Shutdown(conn, syscall.SHUT_RDWR))
	r.Over()
	p.logged("service cron: last words")
	time.Sleep(lostWait + 100*time.Millisecond)
	p.mu.Lock()
	assert.Equal(t, []string{"service cron started: pid 7", "service cron: last words"}, p.log)
	p.mu.Unlock()
	assert.NoFileExists(t, fdsock.ControlPath(p.dir, "web.cron"))
	assert.FileExists(t, fdsock.ControlPath(p.dir, "web"))
}

// TestRunnerOfAJailThatIsTold: whoever ends the jail, a service that ends with it is not said to be
// started again, and is not.
func TestRunnerOfAJailThatIsTold(t *testing.T) {
	p := newPID1(t)
	p.run(false, cron())
	conn, _, _ := p.accept()
	p.request(conn)
	p.say(conn, wire.AppendStarted(nil, wire.Started{PID: 7}))
	p.logged("service cron started: pid 7")
	p.say(conn, wire.AppendExited(nil, wire.Exited{Signal: 15, Ending: true}))
	assert.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.log) == 2
	}, 10*time.Second, time.Millisecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	assert.Regexp(t, `^service cron ended: signal 15 after \S+$`, p.log[1])
}

// TestWhatIsNoAnswer: a PID 1 that has been taken over says anything.
func TestWhatIsNoAnswer(t *testing.T) {
	for claim, packet := range map[string][]byte{
		"nothing known":     {wire.Version, 200, 0, 0},
		"no packet":         {1},
		"half a start":      wire.AppendStarted(nil, wire.Started{PID: 7})[:wire.HeaderLen+1],
		"an impossible end": {wire.Version, byte(wire.TypeExited), 0, 0, 65, 0},
		"another version":   {wire.Version + 1, byte(wire.TypeExited), 0, 0, 9, 0},
		"what is too long":  make([]byte, 4096),
	} {
		p := newPID1(t)
		p.run(false, cron())
		conn, _, _ := p.accept()
		p.say(conn, packet)
		assert.Eventually(t, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.log) == 1 && strings.HasPrefix(p.log[0], "service cron cannot be seen: ")
		}, 10*time.Second, time.Millisecond, claim)
	}
}

// TestOutputIsBounded: of a service that writes a lot the log gets so many lines, and the
// number of the others.
func TestOutputIsBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var said []string
	l := lines{say: func(text string) { said = append(said, text) }, room: maxLines, now: func() time.Time { return now }}
	for i := range maxLines + 500 {
		l.add(fmt.Appendf(nil, "%d\n", i))
	}
	assert.Len(t, said, maxLines)
	now = now.Add(time.Second)
	l.add([]byte("later\n"))
	assert.Equal(t, []string{"500 lines suppressed", "later"}, said[maxLines:])
	said = nil
	for range 10 * linesPerSecond {
		l.add([]byte("x\n"))
	}
	assert.Len(t, said, linesPerSecond-1, "the long run")
	now = now.Add(-time.Hour) // a clock that jumps
	l.add([]byte("x\n"))
	assert.Len(t, said, linesPerSecond-1)
	now = now.Add(100 * time.Hour)
	said = nil
	for range 2 * maxLines {
		l.add([]byte("x\n"))
	}
	assert.Len(t, said, maxLines+1)

	// A megabyte without a line's end costs no memory.
	said = nil
	l = lines{say: l.say, room: maxLines, now: l.now}
	for range 256 {
		l.add(make([]byte, 4096))
	}
	assert.LessOrEqual(t, cap(l.rest), 2*maxLine)
	assert.Len(t, said, maxLines)
	assert.Equal(t, strings.Repeat(`\x00`, maxLine), said[0])
}

// TestOutputIsAFIFO: what somebody else has put there is not read.
func TestOutputIsAFIFO(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "ctl"), 0o700))
	for _, name := range []string{"web.cron", "web", "web2.cron"} {
		require.NoError(t, os.WriteFile(fdsock.ControlPath(dir, name), []byte("x"), 0o600))
	}
	_, err := openOutput(dir, "web", "cron", true, func(string) {})
	assert.ErrorContains(t, err, "is not a FIFO")
	o, err := openOutput(dir, "web", "cron", false, func(string) {})
	require.NoError(t, err, "a jail that starts has its own")
	o.end()
	_, err = openOutput(dir, "web", "nginx", false, func(string) {})
	require.NoError(t, err)
	Sweep(dir, "web")
	left, err := filepath.Glob(fdsock.ControlPath(dir, "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{fdsock.ControlPath(dir, "web"), fdsock.ControlPath(dir, "web2.cron")}, left, "only what is this jail's")
}
