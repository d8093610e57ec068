package serve

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
	"jail/internal/event"
	"jail/internal/fdsock"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/needs"
	"jail/internal/supervise"
	"jail/internal/sys"
	"jail/internal/wire"
)

const deadline = 20 * time.Second

// world is a serve without jails: who starts one gets a process and a socket to play its
// PID 1.
type world struct {
	*server
	t      *testing.T
	dir    string
	out    lockedBuffer
	mu     sync.Mutex
	first  map[string]*pid1 // the last of each jail
	closed map[int]int      // what was closed elsewhere, of each jail
	before func(name string) error
	ended  chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// pid1 is what the test has of a jail.
type pid1 struct {
	t         *testing.T
	conn      int
	cmd       *exec.Cmd
	logins    []jail.Login
	listeners []int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	needs.Root(t, "sockets of several uids")
	dir, err := os.MkdirTemp("", "serve") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, fdsock.PrepareDir(dir))
	w := &world{t: t, dir: dir, first: map[string]*pid1{}, closed: map[int]int{}, ended: make(chan error, 1)}
	w.server = newServer(Options{RuntimeDir: dir, Log: &w.out})
	w.server.launch = w.start
	w.closer.Closed = func(jail int) {
		w.mu.Lock()
		w.closed[jail]++
		w.mu.Unlock()
	}
	require.NoError(t, w.open())
	return w
}

// run runs the loop until the end of the test.
func (w *world) run() {
	go func() { w.ended <- w.loop() }()
	w.t.Cleanup(func() {
		w.mu.Lock()
		for _, p := range w.first {
			_ = p.cmd.Process.Kill()
		}
		w.mu.Unlock()
		w.post(func() { w.leaving = true })
		select {
		case err := <-w.ended:
			assert.NoError(w.t, err)
		case <-time.After(deadline):
			w.t.Error("the loop hangs")
		}
		if w.t.Failed() {
			w.t.Log(w.out.String())
		}
	})
}

// start is launch.Start.
func (w *world) start(spec *jail.Spec, listeners []int, _ int) (*launch.Jail, error) {
	if w.before != nil {
		if err := w.before(spec.Name); err != nil {
			return nil, err
		}
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p := &pid1{t: w.t, conn: pair[1], cmd: exec.Command("sleep", "1000"), logins: spec.Logins}
	for _, fd := range listeners {
		fd, err := sys.Fcntl(fd, syscall.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		p.listeners = append(p.listeners, fd)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	pidfd, err := sys.PidfdOpen(p.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.first[spec.Name] = p
	w.mu.Unlock()
	return &launch.Jail{PID: p.cmd.Process.Pid, PIDFD: pidfd, Conn: pair[0], Stderr: -1}, nil
}

// pid1 waits until the loop has taken over the jail.
func (w *world) pid1(name string) *pid1 {
	w.t.Helper()
	w.until(name+" runs", func() bool {
		n, ok := w.byName[name]
		return ok && w.jails.at(n).machine.State == supervise.Running
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first[name]
}

// do has the loop do something, and waits for it.
func (w *world) do(f func()) {
	w.t.Helper()
	done := make(chan struct{})
	w.post(func() { f(); close(done) })
	select {
	case <-done:
	case <-time.After(deadline):
		require.Fail(w.t, "the loop hangs")
	}
}

// until waits for something the loop sees.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(time.Millisecond) {
		ok := false
		w.do(func() { ok = cond() })
		if ok {
			return
		}
	}
	require.Fail(w.t, "never: "+what, w.out.String())
}

func (w *world) logged(text string) {
	w.t.Helper()
	w.until("the log says "+text, func() bool { return strings.Contains(w.out.String(), text) })
}

func (w *world) dial(uid jail.HostUID) int {
	w.t.Helper()
	fd, err := fdsock.Dial(fdsock.LoginPath(w.dir, uid))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { sys.Close(fd) })
	return fd
}

// refusal is what a client reads that is refused.
func (w *world) refusal(fd int) wire.Refused {
	w.t.Helper()
	n, err := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}, int(deadline.Milliseconds()))
	require.NoError(w.t, err)
	require.Equal(w.t, 1, n, "no answer")
	var m sys.MsgBuf
	buf := make([]byte, 1024)
	n, err = sys.RecvMsg(fd, buf, true, &m)
	require.NoError(w.t, err)
	typ, _, body, err := wire.Header(buf[:n])
	require.NoError(w.t, err)
	require.Equal(w.t, wire.TypeRefused, typ)
	r, err := wire.DecodeRefused(body)
	require.NoError(w.t, err)
	return r
}

// next is the next order PID 1 reads, "" if there is none.
func (p *pid1) next(wait time.Duration) string {
	p.t.Helper()
	if n, _ := sys.Poll([]sys.PollFD{{FD: int32(p.conn), Events: sys.PollIn}}, int(wait.Milliseconds())); n == 0 {
		return ""
	}
	var m sys.MsgBuf
	buf := make([]byte, 1024)
	n, err := sys.RecvMsg(p.conn, buf, true, &m)
	require.NoError(p.t, err)
	typ, _, body, err := wire.Header(buf[:n])
	require.NoError(p.t, err)
	switch typ {
	case wire.TypeDropLogin:
		uid, err := wire.DecodeDropLogin(body)
		require.NoError(p.t, err)
		return fmt.Sprint("drop ", uid)
	case wire.TypeAddLogin:
		id, err := wire.DecodeAddLogin(body)
		require.NoError(p.t, err)
		require.Len(p.t, m.FDs, 1)
		path, err := fdsock.CheckListener(m.FDs[0])
		require.NoError(p.t, err)
		assert.Equal(p.t, fmt.Sprint(id.HostUID), filepath.Base(filepath.Dir(path)), "it comes with its own listener")
		p.listeners = append(p.listeners, m.FDs...)
		return fmt.Sprint("add ", id.HostUID)
	case wire.TypeStop:
		return "stop"
	}
	return fmt.Sprint("type ", typ)
}

// end ends PID 1; who has copies of its descriptors keeps them.
func (p *pid1) end() {
	_ = p.cmd.Process.Kill()
	sys.Close(p.conn)
}

// registry has the jails of a list "name: uid uid".
func registry(jails ...string) *config.Registry {
	reg := &config.Registry{}
	for _, text := range jails {
		name, uids, _ := strings.Cut(text, ":")
		spec := jail.Spec{Name: name}
		for _, f := range strings.Fields(uids) {
			var uid jail.HostUID
			if _, err := fmt.Sscan(f, &uid); err != nil {
				panic(err)
			}
			spec.Logins = append(spec.Logins, jail.Login{Name: "u" + f, HostUID: uid})
		}
		reg.Jails = append(reg.Jails, spec)
	}
	return reg
}

func fault(name string, uids ...jail.HostUID) config.Fault {
	f := config.Fault{Jail: name, Errors: config.Errors{{File: "x.toml", Line: 3, Msg: "a typo"}}}
	for _, uid := range uids {
		f.Logins = append(f.Logins, config.FaultyLogin{Name: fmt.Sprint("u", uid), HostUID: uid})
	}
	return f
}

// TestManyLogins: a jail starts with the login that somebody waits for, and hears of all
// others afterwards, each once and with its own listener, however many they are.
func TestManyLogins(t *testing.T) {
	for _, n := range []int{1, wire.SetupLogins, wire.SetupLogins + 1, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newWorld(t)
			w.run()
			var uids strings.Builder
			for i := range n {
				fmt.Fprint(&uids, " ", 61001+i)
			}
			last := jail.HostUID(61000 + n)
			w.do(func() { w.apply(registry("one:" + uids.String())) })
			w.dial(last)
			p := w.pid1("one")
			require.Len(t, p.logins, min(n, wire.SetupLogins))
			require.Len(t, p.listeners, len(p.logins))
			assert.Equal(t, last, p.logins[0].HostUID, "who waits comes first")
			has := map[string]bool{}
			for _, lg := range p.logins {
				has[fmt.Sprint("add ", lg.HostUID)] = true
			}
			for len(has) < n {
				got := p.next(deadline)
				require.NotEmpty(t, got, "after %d", len(has))
				require.False(t, has[got], "%s twice", got)
				has[got] = true
			}
			for i := range n {
				assert.True(t, has[fmt.Sprint("add ", 61001+i)], i)
			}
			assert.Empty(t, p.next(50*time.Millisecond), "no more is said")
			for _, fd := range p.listeners {
				sys.Close(fd)
			}
		})
	}
}

// TestFewDescriptors: logins for which there are no descriptors are said in one line, and
// take none from the others.
func TestFewDescriptors(t *testing.T) {
	w := newWorld(t)
	w.maxLogins = 2
	w.run()
	var errs []error
	w.do(func() { errs = w.apply(registry("one: 61001 61002", "two: 61003 61004")) })
	require.Len(t, errs, 1)
	assert.ErrorContains(t, errs[0], "2 logins have no socket, u61003 first")
	assert.ErrorContains(t, errs[0], "LimitNOFILE=")
	w.dial(61001)
	w.pid1("one")
	w.do(func() { errs = w.apply(registry("one: 61001", "two: 61003")) })
	assert.Empty(t, errs, "there is room again")
	w.dial(61003)
	w.pid1("two")
}

// TestReloadDuringAStart changes the registry while a jail is being started: what it
// is handed are the listeners it was to have, whatever has become of them and of
// their numbers, and it hears of the changes when it runs.
func TestReloadDuringAStart(t *testing.T) {
	w := newWorld(t)
	begun, reloaded := make(chan bool), make(chan bool)
	w.before = func(string) error { close(begun); <-reloaded; return nil }
	w.run()
	w.do(func() { w.apply(registry("one: 61001 61002", "two:")) })
	w.dial(61001)
	<-begun
	// The new listeners get the lowest numbers there are, the old one's among them.
	w.do(func() { w.apply(registry("one: 61002 61003", "two: 61004 61005")) })
	close(reloaded)
	p := w.pid1("one")
	var uids []jail.HostUID
	for i, lg := range p.logins {
		uids = append(uids, lg.HostUID)
		path, err := fdsock.CheckListener(p.listeners[i])
		require.NoError(t, err)
		assert.Equal(t, filepath.Dir(fdsock.LoginPath(w.dir, lg.HostUID)), filepath.Dir(path))
	}
	slices.Sort(uids)
	assert.Equal(t, []jail.HostUID{61001, 61002}, uids)
	assert.Equal(t, "drop 61001", p.next(deadline))
	assert.Equal(t, "add 61003", p.next(deadline))
	assert.Empty(t, p.next(10*time.Millisecond), "nothing more")
}

// TestAfterAHostilePID1: what serve accepts on is no socket a PID 1 has had: that may have
// been shut down or made blocking, and may still be in somebody's hands.
func TestAfterAHostilePID1(t *testing.T) {
	for claim, act := range map[string]func(fd int) error{
		"nothing":   func(int) error { return nil },
		"shut down": func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_RDWR) },
		"made blocking": func(fd int) error {
			_, err := sys.Fcntl(fd, syscall.F_SETFL, 0)
			return err
		},
		"a queue for nobody": func(fd int) error { return syscall.Listen(fd, 0) },
	} {
		t.Run(claim, func(t *testing.T) {
			w := newWorld(t)
			w.run()
			w.do(func() { w.apply(registry("one: 61001")) })
			w.dial(61001)
			p := w.pid1("one")
			var before, after syscall.Stat_t
			require.NoError(t, syscall.Stat(fdsock.LoginPath(w.dir, 61001), &before))
			for _, fd := range p.listeners {
				require.NoError(t, act(fd))
			}
			refuse := errors.New("refused")
			w.do(func() { w.before = func(string) error { return refuse } })
			p.end()
			w.logged("jail one ended by signal 9 (killed)")
			require.NoError(t, syscall.Stat(fdsock.LoginPath(w.dir, 61001), &after))
			assert.NotEqual(t, before.Ino, after.Ino, "serve has made its own")
			for _, fd := range p.listeners { // somebody has kept a copy and makes trouble all along
				require.NoError(t, act(fd))
			}
			for range 3 {
				assert.Equal(t, startText, w.refusal(w.dial(61001)).Text)
			}
		})
	}
}

// TestHungPID1: nor is it in the state in which a jail cannot end.
func TestHungPID1(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.do(func() { w.apply(registry("one: 61001")) })
	w.dial(61001)
	p := w.pid1("one")
	for _, fd := range p.listeners {
		_, err := sys.Fcntl(fd, syscall.F_SETFL, 0)
		require.NoError(t, err)
	}
	w.do(func() { w.step(w.byName["one"], supervise.Event{Kind: supervise.Exiting, Text: "x"}) })
	for range 3 {
		assert.Equal(t, startText, w.refusal(w.dial(61001)).Text)
	}
	p.end()
	w.logged("jail one ended")
}

// TestSlowClosing: a PID 1 that has been taken over sends sockets that take their time
// to close, over its connection, its logins' sockets, or as a client that is refused:
// another jail's login does not wait for it.
func TestSlowClosing(t *testing.T) {
	const seconds = 30
	send := func(t *testing.T, conn int, p []byte) error {
		fd, end := needs.SlowToClose(t)
		time.AfterFunc(seconds*time.Second, end)
		defer syscall.Close(fd) // not the last copy
		var m sys.MsgBuf
		err := sys.SendMsg(conn, p, []int{fd}, true, &m)
		if err != nil {
			// This was the only one: it closes at once.
			_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{})
		}
		return err
	}
	// The loop goes on, and sees that something is still being closed. A closing of its own
	// would not be as long as this: the runtime's signals cut it short after some
	// milliseconds, for each of the many sockets that one message can carry.
	// Where it is elsewhere they may cut it short as well, on a busy machine: that it was there
	// is what counts.
	elsewhere := func(w *world) {
		w.until("it is closed elsewhere", func() bool {
			one := w.byName["one"]
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.closer.Left(one) > 0 || w.closed[one] > 0
		})
	}
	for claim, act := range map[string]func(t *testing.T, w *world, p *pid1){
		"its connection, on an older kernel": func(t *testing.T, w *world, p *pid1) {
			for range 4 {
				if err := send(t, p.conn, wire.AppendText(nil, wire.TypeLog, "x")); err == syscall.EPERM {
					return // Linux 6.16: they are not let in at all
				}
			}
		},
		"its end, with some unread": func(t *testing.T, w *world, p *pid1) {
			conn := w.dial(61001) // waits in the queue
			require.NoError(t, send(t, conn, []byte("x")))
			p.end()
			w.logged("jail one ended")
			elsewhere(w)
		},
		"a client that is refused": func(t *testing.T, w *world, p *pid1) {
			w.do(func() {
				w.before = func(name string) error {
					if name == "one" {
						return errors.New("no")
					}
					return nil
				}
			})
			p.end()
			w.logged("jail one ended")
			w.until("its listener is closed", func() bool {
				one := w.byName["one"]
				w.mu.Lock()
				defer w.mu.Unlock()
				closed := w.closed[one] > 0 && w.closer.Left(one) == 0
				if closed {
					w.closed[one] = 0
				}
				return closed
			})
			conn := w.dial(61001)
			require.NoError(t, send(t, conn, []byte("x")))
			w.refusal(conn)
			sys.Close(conn)
			w.until("it is given up", func() bool { return len(w.refused) == 0 })
			elsewhere(w)
		},
	} {
		t.Run(claim, func(t *testing.T) {
			w := newWorld(t)
			w.run()
			w.do(func() { w.apply(registry("one: 61001", "two: 61002")) })
			first := w.dial(61001)
			p := w.pid1("one")
			for _, fd := range p.listeners { // not the last copies
				if claim == "its end, with some unread" {
					sys.Close(fd)
				}
			}
			_ = first
			act(t, w, p)
			began := time.Now()
			w.dial(61002)
			w.pid1("two")
			assert.Less(t, time.Since(began), seconds*time.Second/4)
		})
	}
}

// TestForget: a jail's end is heard once, and the loop waits for no process, though a
// start beside it has copies of what was watched.
func TestForget(t *testing.T) {
	w := newWorld(t)
	w.apply(registry("one: 61001"))
	n := w.byName["one"]
	w.step(n, supervise.Event{Kind: supervise.Connected})
	require.NoError(t, w.turn(1)) // the start's result
	j := w.jails.at(n)
	require.Equal(t, supervise.Running, j.machine.State)
	p := w.first["one"]
	copied, err := sys.Fcntl(j.pidfd, syscall.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	defer sys.Close(copied)
	p.end()
	_, err = sys.Poll([]sys.PollFD{{FD: int32(copied), Events: sys.PollIn}}, int(deadline.Milliseconds()))
	require.NoError(t, err)
	w.event(kindChild, n)
	assert.Equal(t, supervise.Stopped, j.machine.State)
	events := make([]sys.EpollEvent, 8)
	for {
		got, err := sys.EpollWait(w.epfd, events, 0)
		require.NoError(t, err)
		if got == 0 {
			break
		}
		for _, ev := range events[:got] {
			require.NotEqual(t, kindChild, kind(ev.Fd), "it is not watched any more")
			w.event(kind(ev.Fd), int(ev.Pad))
		}
	}
	// An event that comes all the same finds nothing, and nobody waits.
	w.event(kindChild, n)
	alive := exec.Command("sleep", "1000")
	require.NoError(t, alive.Start())
	looked := make(chan event.End, 1)
	go func() { looked <- endOf(alive.Process.Pid) }()
	select {
	case how := <-looked:
		assert.Zero(t, how, "it has not ended")
	case <-time.After(deadline):
		assert.Fail(t, "it is waited for")
	}
	_ = alive.Process.Kill()
	_, _ = alive.Process.Wait()
}

// TestKeptForItsServices: a jail with services that has crashed is started again, by nobody's
// login; others are not.
func TestKeptForItsServices(t *testing.T) {
	w := newWorld(t)
	reg := registry("kept: 61001", "plain: 61002")
	for i := range reg.Jails {
		reg.Jails[i].Autostart = true
	}
	reg.Jails[0].Services = []jail.Service{{Name: "s", Exec: []string{"/s"}}}
	w.apply(reg)
	w.run()
	kept, plain := w.pid1("kept"), w.pid1("plain")
	kept.end()
	plain.end()
	w.logged("jail kept is started again in 1s")
	w.until("it runs", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.first["kept"] != kept
	})
	w.pid1("kept")
	assert.NotContains(t, w.out.String(), "jail plain is started again")
}

// turn is one turn of the loop, or as many as it takes for something to be posted.
func (w *world) turn(posts int) error {
	for end := time.Now().Add(deadline); posts > 0; {
		if time.Now().After(end) {
			return os.ErrDeadlineExceeded
		}
		if w.collect() {
			posts--
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// TestSlowReader: what a PID 1 has to know about its logins reaches it when it reads,
// however long it has not.
func TestSlowReader(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.do(func() { w.apply(registry("one: 61001 61002")) })
	w.dial(61001)
	p := w.pid1("one")
	// Fill what it may have unread.
	filled := 0
	w.do(func() {
		var m sys.MsgBuf
		for conn := w.jails.at(w.byName["one"]).conn; ; filled++ {
			if sys.SendMsg(conn, wire.AppendHello(nil, false), nil, false, &m) != nil {
				return
			}
		}
	})
	w.do(func() { w.apply(registry("one: 61001 61003")) })
	w.do(func() { w.apply(registry("one: 61003")) })
	var heard []string
	for range filled {
		require.Equal(t, fmt.Sprint("type ", wire.TypeHello), p.next(deadline))
	}
	for range 3 {
		heard = append(heard, p.next(deadline))
	}
	assert.Equal(t, []string{"drop 61002", "add 61003", "drop 61001"}, heard)
	assert.Empty(t, p.next(10*time.Millisecond))
	p.end()
}

// TestFaults: a fault stays with whoever made it.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	w.run()
	reg := registry("one: 61001", "two: 61002")
	reg.Faults = []config.Fault{fault("bad", 61003), fault("two", 61004, 0), fault("", 61005)}
	w.do(func() { assert.Empty(t, w.apply(reg)) })
	for _, uid := range []jail.HostUID{61003, 61004, 61005} {
		r := w.refusal(w.dial(uid))
		assert.Equal(t, faultText, r.Text)
		assert.EqualValues(t, 125, r.Status)
		w.logged("id=" + r.ID + " jail ")
		w.logged(fmt.Sprintf("login u%d is out of service: x.toml:3: a typo", uid))
	}
	w.dial(61001)
	p := w.pid1("one")

	// The entry of a jail that runs gets a fault: it runs on, without new logins, those
	// it had among them.
	reg = registry("two: 61002")
	reg.Faults = []config.Fault{fault("one", 61006)}
	w.do(func() { assert.Empty(t, w.apply(reg)) })
	assert.Equal(t, "drop 61001", p.next(deadline))
	assert.Empty(t, p.next(10*time.Millisecond), "it is not stopped")
	for range 2 {
		for _, uid := range []jail.HostUID{61001, 61006} {
			assert.Equal(t, faultText, w.refusal(w.dial(uid)).Text)
		}
		w.do(func() { assert.Empty(t, w.apply(reg)) }) // once more is the same
	}
	w.logged("jail one is out of service: its sessions go on")
	_, err := fdsock.Dial(fdsock.LoginPath(w.dir, 61003))
	assert.ErrorIs(t, err, syscall.ENOENT, "that one is not in the registry any more")

	// It is mended.
	w.do(func() { assert.Empty(t, w.apply(registry("one: 61001", "two: 61002"))) })
	assert.Equal(t, "add 61001", p.next(deadline))
	p.end()
	w.logged("jail one ended")
	w.dial(61001)
	assert.NotSame(t, p, w.pid1("one"))
}

// TestDisabled: who is disabled is told what the administrator says, others are not concerned, and
// sessions go on.
func TestDisabled(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "jail.toml")
	w.server.opt.ConfigPath = path
	w.run()
	reg := registry("one: 61001 61002", "two: 61003")
	reg.Jails[1].Autostart = true
	apply := func() { w.do(func() { assert.Empty(t, w.apply(reg)) }) }
	require.NoError(t, inforce.Disable(path, "two", false, "new disks, until noon"))
	apply()
	assert.Equal(t, disabledText+"new disks, until noon", w.refusal(w.dial(61003)).Text)
	w.dial(61001)
	p := w.pid1("one")
	assert.Nil(t, w.first["two"], "it does not start by itself")

	require.NoError(t, inforce.Disable(path, "u61001", true, ""))
	apply()
	assert.Equal(t, "drop 61001", p.next(deadline))
	assert.Empty(t, p.next(10*time.Millisecond), "it is not stopped")
	assert.Equal(t, disabledText+inforce.DefaultMessage, w.refusal(w.dial(61001)).Text)
	require.NoError(t, inforce.Disable(path, "u61001", true, "ask Ann"))
	apply()
	assert.Equal(t, disabledText+"ask Ann", w.refusal(w.dial(61001)).Text)

	_, err := inforce.Enable(path, "u61001", true)
	require.NoError(t, err)
	_, err = inforce.Enable(path, "two", false)
	require.NoError(t, err)
	apply()
	assert.Equal(t, "add 61001", p.next(deadline))
	w.pid1("two")

	// The directory cannot be read: who was disabled stays so.
	require.NoError(t, inforce.Disable(path, "u61002", true, ""))
	apply()
	assert.Equal(t, "drop 61002", p.next(deadline))
	dir := filepath.Join(filepath.Dir(path), "disabled")
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	w.do(func() { assert.Len(t, w.apply(reg), 1) })
	assert.Equal(t, disabledText+inforce.DefaultMessage, w.refusal(w.dial(61002)).Text)
}

// TestOneBadSocket: a login whose socket cannot be had keeps nobody else from theirs.
func TestOneBadSocket(t *testing.T) {
	w := newWorld(t)
	w.run()
	inTheWay := filepath.Dir(fdsock.LoginPath(w.dir, 61001))
	require.NoError(t, os.WriteFile(inTheWay, nil, 0o600))
	var errs []error
	w.do(func() { errs = w.apply(registry("one: 61001 61002", "two: 61003")) })
	require.Len(t, errs, 1)
	assert.ErrorContains(t, errs[0], "login u61001: ")
	w.dial(61002)
	w.pid1("one")
	w.dial(61003)
	w.pid1("two")
	require.NoError(t, os.Remove(inTheWay))
	w.do(func() { errs = w.apply(registry("one: 61001 61002", "two: 61003")) })
	assert.Empty(t, errs)
	assert.Equal(t, "add 61001", w.pid1("one").next(deadline))
}

// TestNoSocketAtAll: a jail nobody can enter is not started.
func TestNoSocketAtAll(t *testing.T) {
	w := newWorld(t)
	w.run()
	require.NoError(t, os.WriteFile(filepath.Dir(fdsock.LoginPath(w.dir, 61001)), nil, 0o600))
	reg := registry("one: 61001")
	reg.Jails[0].Autostart = true
	w.do(func() { assert.Len(t, w.apply(reg), 1) })
	w.logged("jail one: start failed, next try in 1s at the earliest: none of its logins has a socket")
}

// TestSocketThatComesBack: a login whose socket cannot be made anew has one as soon as it
// can.
func TestSocketThatComesBack(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.do(func() { w.apply(registry("one: 61001")) })
	w.dial(61001)
	p := w.pid1("one")
	dir := filepath.Dir(fdsock.LoginPath(w.dir, 61001))
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	p.end()
	w.logged("jail one: login u61001: ")
	w.until("it is tried again", func() bool { return w.jails.at(w.byName["one"]).machine.Due() != 0 })
	require.NoError(t, os.Remove(dir))
	w.until("it is there", func() bool { _, err := os.Lstat(fdsock.LoginPath(w.dir, 61001)); return err == nil })
	w.dial(61001)
	assert.NotSame(t, p, w.pid1("one"))
	assert.Equal(t, 1, strings.Count(w.out.String(), "login u61001: "))
}

// TestReloadThatHangs: a file system that does not answer while the registry is read
// holds up nobody, and who asked for it is told.
func TestReloadThatHangs(t *testing.T) {
	w := newWorld(t)
	hang := make(chan bool)
	late := registry("late: 61009")
	w.load = func() (*config.Registry, error) { <-hang; return late, nil }
	w.reloadWait = 300 * time.Millisecond
	w.run()
	w.do(func() { w.apply(registry("one: 61001")) })
	type verdict struct {
		lines []string
		v     uint8
	}
	answers := make(chan verdict, 2*maxStuck)
	ask := func() {
		w.do(func() { w.reload(func(lines []string, v uint8) { answers <- verdict{lines, v} }) })
	}
	next := func() verdict {
		t.Helper()
		select {
		case a := <-answers:
			return a
		case <-time.After(deadline):
			close(hang)
			require.Fail(t, "no answer")
			return verdict{}
		}
	}
	ask()
	w.dial(61001)
	w.pid1("one").end()
	w.logged("jail one ended")
	for i := range maxStuck {
		a := next()
		assert.EqualValues(t, wire.VerdictNone, a.v)
		assert.Contains(t, strings.Join(a.lines, "\n"), "reading it takes longer than")
		if i < maxStuck-1 {
			ask()
		}
	}
	ask() // no more threads for it
	a := next()
	assert.EqualValues(t, wire.VerdictNone, a.v)
	assert.Contains(t, strings.Join(a.lines, "\n"), "still hangs")
	close(hang)
	w.until("all have come back", func() bool { return w.reloads.stuck == 0 })
	w.do(func() { assert.NotContains(t, w.byName, "late", "what came too late is not used") })
	ask()
	assert.EqualValues(t, wire.VerdictTaken, next().v)
	w.do(func() { assert.Contains(t, w.byName, "late") })
}

// TestReloadVerdict: whoever asks for a reload hears what came of it.
func TestReloadVerdict(t *testing.T) {
	w := newWorld(t)
	var reg *config.Registry
	var err error
	w.load = func() (*config.Registry, error) { return reg, err }
	w.run()
	fd, e := fdsock.ListenServe(w.dir)
	require.NoError(t, e)
	w.do(func() {
		w.verbs = fd
		require.NoError(t, w.watch(fd, syscall.EPOLLIN, kindVerb, 0))
	})
	ask := func() (lines []string, verdict uint8) {
		t.Helper()
		c, err := fdsock.DialPlain(fdsock.ServePath(w.dir))
		require.NoError(t, err)
		defer sys.Close(c)
		var m sys.MsgBuf
		require.NoError(t, sys.SendMsg(c, wire.AppendReload(nil), nil, true, &m))
		for buf := make([]byte, 2048); ; {
			n, err := sys.RecvMsg(c, buf, true, &m)
			require.NoError(t, err)
			typ, _, body, err := wire.Header(buf[:n])
			require.NoError(t, err)
			if typ == wire.TypeVerdict {
				v, err := wire.DecodeVerdict(body)
				require.NoError(t, err)
				return lines, v
			}
			text, err := wire.DecodeText(body)
			require.NoError(t, err)
			lines = append(lines, text)
		}
	}
	w.do(func() { reg = registry("one: 61001") })
	lines, v := ask()
	assert.Empty(t, lines)
	assert.EqualValues(t, wire.VerdictTaken, v)

	w.do(func() { reg.Faults = []config.Fault{fault("bad", 61002)} })
	lines, v = ask()
	assert.Equal(t, []string{"out of service: jail bad with login u61002: x.toml:3: a typo"}, lines)
	assert.EqualValues(t, wire.VerdictFaults, v)

	w.do(func() { reg, err = nil, config.Errors{{File: "x.toml", Msg: "not TOML"}} })
	lines, v = ask()
	assert.Equal(t, []string{"the registry is not used, the one in force stays:", "x.toml: not TOML"}, lines)
	assert.EqualValues(t, wire.VerdictNone, v)
	w.do(func() { assert.Contains(t, w.byName, "one") })
}

// TestControlSocketOfASilentJail: a jail that runs and does not answer keeps its control
// socket, by which it can be found again.
func TestControlSocketOfASilentJail(t *testing.T) {
	w := newWorld(t)
	ctl, err := fdsock.ListenControl(w.dir, "one")
	require.NoError(t, err)
	defer sys.Close(ctl)
	var before, after syscall.Stat_t
	require.NoError(t, syscall.Stat(fdsock.ControlPath(w.dir, "one"), &before))
	w.run()
	w.do(func() { w.apply(registry("one: 61001", "two: 61002")) })
	w.dial(61002)
	w.pid1("two") // nobody waits for the silent one
	r := w.refusal(w.dial(61001))
	w.logged("id=" + r.ID + " jail one: refused 1 connection: a PID 1 that does not answer has its control socket")
	require.NoError(t, syscall.Stat(fdsock.ControlPath(w.dir, "one"), &after))
	assert.Equal(t, before.Ino, after.Ino)
}

// TestNumbersAreReused: reloads without end do not make serve grow.
func TestNumbersAreReused(t *testing.T) {
	w := newWorld(t)
	w.run()
	for i := range 100 {
		w.do(func() { w.apply(registry(fmt.Sprintf("j%d: %d", i, 61001+i%7))) })
	}
	w.do(func() {
		assert.LessOrEqual(t, len(w.jails.list), 4)
		assert.LessOrEqual(t, len(w.logins.list), 4)
	})
}
