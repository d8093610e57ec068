package pid1

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/session"
	"jail/internal/sys"
	"jail/internal/wire"
)

// The loop without a jail around it: its sessions are commands of the host's /bin/sh,
// and nothing is killed but these.

// world is a loop and what stands for the jail.
type world struct {
	t       *testing.T
	l       *loop
	control int    // the launcher's end of the first control connection
	path    string // of the control listener
	m       sys.MsgBuf
	got     []string // what came over control, but for answers
	answers [][]byte

	// What the jail does with the next requests.
	refusal  *session.Refusal
	held     bool // a child does not get as far as its program
	pts      bool // a session that asks for a terminal has one
	release  []int
	types    []int   // masters of terminals of the next requests, which are typed into
	untyped  []error // why some of them did not get a session
	forwards int     // Remove was called
	pids     map[int]bool
	kills    []string
	killed   func(pid int, sig syscall.Signal) // hears of each as it is sent
	below    []int                             // FilesBelow of the requests
	proofs   []string                          // and their Proof
	limits   []wire.SessionLimits
}

func (w *world) Start(s *session.Slot, _ *wire.Identity, conn int) (session.Started, *session.Refusal) {
	st := session.Started{Master: -1, Agent: -1}
	w.proofs = append(w.proofs, s.Proof)
	if w.refusal != nil {
		return st, w.refusal
	}
	c := s.Child
	c.Reset()
	c.KeepSignals = 1 << 63 // a test's process has handlers for all others
	c.Setsid, c.CloseNow, c.FilesBelow = true, true, s.FilesBelow
	w.below = append(w.below, s.FilesBelow)
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	require.NoError(w.t, err)
	defer sys.Close(null)
	terminal := null
	if w.pts && s.Req.TTY() {
		master, slave, err := pty.Open()
		require.NoError(w.t, err)
		defer master.Close()
		defer slave.Close()
		st.Master, err = sys.Fcntl(int(master.Fd()), syscall.F_DUPFD_CLOEXEC, 0)
		require.NoError(w.t, err)
		terminal = int(slave.Fd())
		c.CttyFD = terminal
	}
	for i, kind := range s.Req.Stdio {
		switch kind {
		case wire.StdioPassed:
			c.FDs[i], c.TakeFrom = sys.FDTaken, conn
		case wire.StdioTTY:
			c.FDs[i] = terminal
		default:
			c.FDs[i] = null
		}
	}
	if w.held {
		r, hold, err := sys.Pipe()
		require.NoError(w.t, err)
		defer sys.Close(r)
		w.release = append(w.release, hold)
		c.SyncFD = r
	}
	text := func(s string) *byte { return &append([]byte(s), 0)[0] }
	c.Path, c.Envp = text("/bin/sh"), []*byte{nil}
	c.Argv = []*byte{text("sh"), text("-c"), text(string(s.Req.Args[len(s.Req.Args)-1])), nil}
	if len(w.types) > 0 {
		st.Master, w.types = w.types[0], w.types[1:]
		st.Typing = true
		return st, nil
	}
	w.fork(c, &st)
	return st, nil
}

func (w *world) fork(c *sys.Child, st *session.Started) {
	var err error
	st.PID, st.PIDFD, err = sys.Fork(c)
	require.NoError(w.t, err)
	w.pids[st.PID] = true
	for !c.Own() { // null and r are closed then
		time.Sleep(10 * time.Microsecond)
	}
}

func (w *world) Typed(s *session.Slot, st *session.Started, err error) *session.Refusal {
	if err != nil {
		w.untyped = append(w.untyped, err)
		return &session.Refusal{Status: 125, Text: err.Error()}
	}
	w.fork(s.Child, st)
	return nil
}

func (w *world) Remove(*session.Forward) { w.forwards++ }

func (w *world) Limit(s *wire.SessionLimits) { w.limits = append(w.limits, *s) }

func (w *world) Logout(session.Login) *sys.Child { return nil }

func (w *world) kill(pid int, sig syscall.Signal) error {
	w.kills = append(w.kills, fmt.Sprintf("%v %d", pid == -1, sig))
	if w.killed != nil {
		w.killed(pid, sig)
	}
	if w.pids[pid] || w.pids[-pid] {
		return syscall.Kill(pid, sig)
	}
	return nil
}

func (w *world) wait() (int, syscall.WaitStatus, error) { return children{}.wait() }

// newWorld makes a loop with logins of the given host uids.
func newWorld(t *testing.T, s *wire.Setup, uids ...uint32) *world {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	w := &world{t: t, pids: map[int]bool{}}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	w.path = dir + "/"
	var fds []int
	for _, uid := range uids {
		s.Logins = append(s.Logins, wire.Identity{HostUID: uid})
		fds = append(fds, w.listen(fmt.Sprint(uid)))
	}
	p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	w.control = p[0]
	w.l, err = newLoop(s, w, w, w.listen("control"), fds, p[1])
	require.NoError(t, err)
	t.Cleanup(w.end)
	return w
}

// end ends what is left of the sessions, and closes everything.
func (w *world) end() {
	sys.CloseAll(w.release)
	for pid := range w.pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	w.until("everything has ended", func() bool { return !w.l.children })
	for i, c := range w.l.conns {
		if c.state != free {
			w.l.drop(i)
		}
	}
	for _, s := range w.l.listeners {
		if s.fd >= 0 {
			sys.Close(s.fd)
		}
	}
	sys.CloseAll([]int{w.l.ctl, w.l.epfd, w.control})
}

func (w *world) listen(name string) int {
	w.t.Helper()
	fd, err := sys.Seqpacket()
	require.NoError(w.t, err)
	_ = os.Remove(w.path + name)
	require.NoError(w.t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: w.path + name}))
	require.NoError(w.t, os.Chmod(w.path+name, 0o666))
	require.NoError(w.t, syscall.Listen(fd, 100))
	return fd
}

// dial connects to a login's socket.
func (w *world) dial(uid uint32) int {
	w.t.Helper()
	fd, err := w.connect(uid)
	require.NoError(w.t, err)
	return fd
}

func (w *world) connect(uid uint32) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(w.t, err)
	if err := sys.Connect(fd, w.path+fmt.Sprint(uid)); err != nil {
		sys.Close(fd)
		return -1, err
	}
	w.t.Cleanup(func() { sys.Close(fd) })
	return fd, nil
}

// turn is one turn of the loop. It reads what came over control.
func (w *world) turn() (ended bool) {
	w.t.Helper()
	w.l.lastReap = 0 // SIGCHLD need not interrupt this very thread
	ended, err := w.l.turn(make([]sys.EpollEvent, 64), 10)
	require.NoError(w.t, err)
	w.l.tell() // without waiting for others
	for {
		var buf [4096]byte
		n, err := sys.RecvMsg(w.control, buf[:], false, &w.m)
		if err != nil || n == 0 {
			return ended
		}
		typ, _, body, err := wire.Header(buf[:n])
		require.NoError(w.t, err)
		if typ == wire.TypeLog {
			text, err := wire.DecodeText(body)
			require.NoError(w.t, err)
			w.got = append(w.got, text)
		} else {
			w.answers = append(w.answers, append([]byte(nil), body...))
		}
	}
}

// until turns the loop until what is true.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(8 * time.Second); !done(); w.turn() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s: %d sessions, %d waiting, %d busy, %d buriers, parked %v paused %v", what, w.l.sessions, w.l.waiting, len(w.l.busySlots), len(w.l.buriers), w.l.parked, w.l.paused)
		}
	}
}

// send sends a packet to the loop.
func (w *world) send(fd int, p []byte, fds ...int) {
	w.t.Helper()
	require.NoError(w.t, sys.SendMsg(fd, p, fds, true, &w.m))
}

// next returns the next packet the loop sends to a client, nil for the connection's end.
func (w *world) next(fd int) []byte {
	w.t.Helper()
	var buf [4096]byte
	var p []byte
	w.until("a packet", func() bool {
		n, err := sys.RecvMsg(fd, buf[:], false, &w.m)
		sys.CloseAll(w.m.FDs)
		p = buf[:n]
		return err != syscall.EAGAIN
	})
	if len(p) == 0 {
		return nil
	}
	return p
}

// answer is next in words.
func (w *world) answer(fd int) string {
	w.t.Helper()
	p := w.next(fd)
	if p == nil {
		return "end"
	}
	typ, flags, body, err := wire.Header(p)
	require.NoError(w.t, err)
	switch typ {
	case wire.TypeStarted:
		return "started"
	case wire.TypeExited:
		e, err := wire.DecodeExited(flags, body)
		require.NoError(w.t, err)
		return fmt.Sprintf("exited %d %d", e.Signal, e.Code)
	case wire.TypeRefused:
		r, err := wire.DecodeRefused(body)
		require.NoError(w.t, err)
		return fmt.Sprintf("refused %d %s", r.Status, r.Text)
	}
	return fmt.Sprint(typ)
}

func request(t *testing.T, cmd string, passed int) []byte {
	t.Helper()
	r := wire.Request{Args: [][]byte{[]byte(cmd)}}
	for i := range passed {
		r.Stdio[i] = wire.StdioPassed
	}
	p, err := wire.AppendRequest(nil, &r)
	require.NoError(t, err)
	return p
}

// run is a session from end to end.
func (w *world) run(uid uint32, cmd string) string {
	w.t.Helper()
	fd := w.dial(uid)
	w.send(fd, request(w.t, cmd, 0))
	first := w.answer(fd)
	if first != "started" {
		return first
	}
	return w.answer(fd) + ", " + w.answer(fd)
}

// pipe returns both ends of a pipe for the time of the test.
func pipe(t *testing.T) (r, w int) {
	t.Helper()
	r, w, err := sys.Pipe()
	require.NoError(t, err)
	return r, w
}

func openFDs(t *testing.T) int {
	d, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(d)
}

func TestSessionsOfTheLoop(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
	assert.Equal(t, "exited 0 3, end", w.run(7, "exit 3"))
	assert.Equal(t, "exited 9 0, end", w.run(7, "kill -9 $$"))
	assert.EqualValues(t, 3, w.l.served)
	assert.Zero(t, w.l.sessions)
	assert.Zero(t, w.l.waiting)
	w.refusal = &session.Refusal{Status: 126, Text: "no"}
	assert.Equal(t, "refused 126 no", w.run(7, "true"))
	w.turn()
	told := w.told()
	assert.Equal(t, "no", told[len(told)-1].Text)
	w.refusal = nil

	before := openFDs(t)
	for range 3 {
		r, out := pipe(t)
		fd := w.dial(7)
		w.send(fd, request(t, "echo $0 >&2; cat >&2", 3), w.full(t), out, out)
		sys.Close(out)
		assert.Equal(t, "started", w.answer(fd))
		assert.Equal(t, "exited 0 0", w.answer(fd))
		var buf [64]byte
		n, err := sys.Read(r, buf[:])
		require.NoError(t, err)
		assert.Equal(t, "sh\ninput", string(buf[:n]))
		n, err = sys.Read(r, buf[:])
		require.NoError(t, err)
		assert.Zero(t, n, "nobody keeps the other end")
		sys.CloseAll([]int{r, fd})
		w.until("no burier is left", func() bool { return len(w.l.buriers) == 0 })
	}
	assert.LessOrEqual(t, openFDs(t), before+3, "the client's, closed at the end of the test")
}

// full returns the read end of a pipe that says "input" and ends.
func (w *world) full(t *testing.T) int {
	r, in := pipe(t)
	_, err := sys.Write(in, []byte("input"))
	require.NoError(t, err)
	sys.Close(in)
	t.Cleanup(func() { sys.Close(r) })
	return r
}

// TestRefusedWithDescriptors: a client that is refused hears of it, and sees that nobody
// has its pipes any more, whether or not there is a process left to take them.
func TestRefusedWithDescriptors(t *testing.T) {
	for _, crowded := range []bool{false, true} {
		w := newWorld(t, &wire.Setup{Userns: true}, 7)
		w.refusal = &session.Refusal{Status: 125, Text: "no"}
		if crowded {
			stuck := sys.NewChild()
			hold, end := pipe(t)
			stuck.SyncFD = hold
			require.True(t, w.l.burier(stuck))
			sys.Close(hold)
			for len(w.l.buriers) < maxBuriers {
				w.l.buriers = append(w.l.buriers, w.l.buriers[0])
			}
			t.Cleanup(func() {
				w.l.buriers = w.l.buriers[:1]
				_, _ = sys.Write(end, []byte{1})
				sys.Close(end)
			})
		}
		for range 100 {
			r, out := pipe(t)
			fd := w.dial(7)
			w.send(fd, request(t, "true", 2), out, out)
			sys.Close(out)
			assert.Equal(t, "refused 125 no", w.answer(fd))
			assert.Equal(t, "end", w.answer(fd))
			require.NoError(t, sys.SetNonblock(r))
			w.until("the pipe's end", func() bool {
				var buf [1]byte
				n, err := sys.Read(r, buf[:])
				return err == nil && n == 0
			})
			sys.Close(r)
		}
		assert.Zero(t, w.l.waiting)
	}
}

// TestNobodyWaitsForAClose: descriptors that take an hour to be closed hold up neither the
// loop nor anybody else's login, in whatever way they come.
func TestNobodyWaitsForAClose(t *testing.T) {
	send := func(w *world, fd int, p []byte, copies int) {
		s, _ := needs.SlowToClose(w.t)
		fds := make([]int, copies)
		for i := range fds {
			fds[i] = s
		}
		w.send(fd, p, fds...)
		sys.Close(s) // from here on those on their way are the only ones
	}
	for claim, do := range map[string]func(w *world, fd int){
		"with something that is no request":       func(w *world, fd int) { send(w, fd, []byte("nonsense"), 1) },
		"in an empty packet":                      func(w *world, fd int) { send(w, fd, nil, 1) },
		"with a request that has no use for them": func(w *world, fd int) { send(w, fd, request(w.t, "true", 0), 1) },
		"too many with a request": func(w *world, fd int) {
			send(w, fd, request(w.t, "true", 1), 4)
			assert.Equal(w.t, "started", w.answer(fd))
			assert.Equal(w.t, "end", w.answer(fd))
		},
		"with a request that is refused": func(w *world, fd int) {
			w.refusal = &session.Refusal{Status: 125, Text: "no"}
			send(w, fd, request(w.t, "true", 1), 1)
			assert.Equal(w.t, "refused 125 no", w.answer(fd))
		},
		"as a session's own, which ends at once": func(w *world, fd int) {
			send(w, fd, request(w.t, "kill -9 $$", 1), 1)
			assert.Equal(w.t, "started", w.answer(fd))
			assert.Equal(w.t, "exited 9 0", w.answer(fd))
		},
		"behind a request": func(w *world, fd int) {
			w.send(fd, request(w.t, "sleep 60", 0))
			send(w, fd, wire.AppendSignal(nil, wire.Signal{Number: 1}), 1)
			assert.Equal(w.t, "started", w.answer(fd))
			assert.Equal(w.t, "end", w.answer(fd))
		},
		"behind a request whose session ends": func(w *world, fd int) {
			w.send(fd, request(w.t, "true", 0))
			send(w, fd, nil, 1)
			assert.Equal(w.t, "started", w.answer(fd))
		},
		"on a connection that is too slow": func(w *world, fd int) {
			w.held = true
			for range loginSlots {
				w.send(w.dial(8), request(w.t, "true", 0))
			}
			w.until("all slots of the login are taken", func() bool { return len(w.l.busySlots) == loginSlots })
			fd = w.dial(8)
			send(w, fd, nil, 1)
			w.turn()
			w.held = false
			w.l.expire(sys.MonotonicMillis() + requestWait + 1)
			assert.Zero(w.t, w.l.waiting)
		},
		"in the queue of a listener that is dropped": func(w *world, _ int) {
			w.l.pause() // nobody accepts
			for range 5 {
				send(w, w.dial(8), nil, 1)
			}
			w.l.dropLogin(8)
			w.l.resume()
		},
	} {
		t.Run(claim, func(t *testing.T) {
			w := newWorld(t, &wire.Setup{Userns: true}, 7, 8)
			fd := w.dial(7)
			done := make(chan struct{})
			t.Cleanup(func() { close(done) })
			go func() {
				select {
				case <-done:
				case <-time.After(20 * time.Second):
					panic("the loop waits for a close: " + claim) // the thread cannot be had back
				}
			}()
			do(w, fd)
			sys.Close(fd)
			w.refusal = nil
			assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
		})
	}
}

// as runs f with the effective uid of this thread, which is who connects.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	set := func(uid int) {
		_, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0))
		require.Zero(t, e)
	}
	own := os.Geteuid()
	set(uid)
	defer set(own)
	f()
}

// Whoever connects is looked at where that can be seen.
func TestPeers(t *testing.T) {
	uid := uint32(os.Geteuid())
	if uid == 0 {
		uid = 4242
	}
	for claim, tt := range map[string]struct {
		userns  bool
		login   uint32
		by      uint32
		refused bool
	}{
		"the login itself":                         {login: uid, by: uid},
		"another uid":                              {login: uid + 1, by: uid, refused: true},
		"nobody can be told in a user namespace":   {userns: true, login: uid + 1, by: uid},
		"the host's root, whom nothing keeps away": {login: uid + 1, by: 0},
	} {
		if tt.by == 0 && os.Geteuid() != 0 {
			continue
		}
		w := newWorld(t, &wire.Setup{Userns: tt.userns}, tt.login)
		var fd int
		as(t, int(tt.by), func() { fd = w.dial(tt.login) })
		w.send(fd, request(t, "true", 0))
		if tt.refused {
			assert.Equal(t, "end", w.answer(fd), claim)
			assert.Zero(t, w.l.served, claim)
		} else {
			assert.Equal(t, "started", w.answer(fd), claim)
		}
		w.end()
		w.l.conns, w.l.listeners = nil, nil
	}
}

// A client that was ended while its jail started has no session.
func TestWithdrawnRequests(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	r, out := pipe(t)
	for _, passed := range []int{0, 3} {
		fd := w.dial(7)
		if passed == 0 {
			w.send(fd, request(t, "true", 0))
		} else {
			w.send(fd, request(t, "true", 3), out, out, out)
		}
		sys.Close(fd)
		for range 5 {
			w.turn()
		}
		assert.Zero(t, w.l.served, "%d descriptors", passed)
		assert.Zero(t, w.l.waiting)
	}
	sys.CloseAll([]int{r, out})
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
}

// Silent connections have a time and a number.
func TestSilentConnectionsEnd(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7, 8)
	var silent []int
	dial := func() {
		silent = append(silent, w.dial(7))
		w.turn()
	}
	for range maxPending {
		dial()
	}
	assert.Equal(t, maxPending, w.l.waiting)
	for i := range 3 { // the oldest goes
		for _, c := range w.l.conns {
			if c.state == pending {
				c.since--
			}
		}
		dial()
		assert.Equal(t, maxPending, w.l.waiting)
		assert.Equal(t, "end", w.answer(silent[i]))
	}
	assert.Equal(t, "exited 0 0, end", w.run(8, "true"), "there is room for others")
	w.send(silent[maxPending], request(t, "true", 0))
	assert.Equal(t, "started", w.answer(silent[maxPending]), "one that has not been pushed out")
	assert.Equal(t, "exited 0 0", w.answer(silent[maxPending]))
	assert.Equal(t, maxPending-2, w.l.waiting)

	w.l.expire(sys.MonotonicMillis() + requestWait - 1500)
	assert.Equal(t, maxPending-2, w.l.waiting)
	w.l.expire(sys.MonotonicMillis() + requestWait + 10)
	assert.Zero(t, w.l.waiting)
	assert.Equal(t, "end", w.answer(silent[maxPending+1]))
}

// Children that cannot execute hold up their own login only.
func TestSlotsOfALogin(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7, 8)
	w.held = true
	var fds []int
	for range loginSlots + 3 {
		fd := w.dial(7)
		w.send(fd, request(t, "true", 0))
		fds = append(fds, fd)
	}
	for _, fd := range fds[:loginSlots] {
		assert.Equal(t, "started", w.answer(fd))
	}
	w.until("the others have come", func() bool { return w.l.waiting == 3 })
	assert.Len(t, w.l.busySlots, loginSlots)
	w.held = false
	assert.Equal(t, "exited 0 0, end", w.run(8, "true"), "another login")
	assert.Equal(t, 3, w.l.waiting)
	for _, hold := range w.release {
		_, _ = sys.Write(hold, []byte{1})
	}
	for i, fd := range fds {
		if i >= loginSlots {
			assert.Equal(t, "started", w.answer(fd), "the request was still there")
		}
		assert.Equal(t, "exited 0 0", w.answer(fd))
	}
}

// Who waits for a slot is looked after soon, then less and less often; and no more are
// woken than there are slots for.
func TestWaitingForASlot(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7, 8)
	w.held = true
	for range loginSlots + 9 {
		w.send(w.dial(7), request(t, "true", 0))
	}
	parked := func() (n int) {
		for _, c := range w.l.conns {
			if c.parked {
				n++
			}
		}
		return n
	}
	w.until("the others have come", func() bool { return parked() == 9 })
	for _, c := range w.l.conns { // as if they came just now
		if c.parked {
			w.l.parked = false
			w.l.park(c)
		}
	}
	var naps []int
	for ; len(naps) < 8; w.l.unpark() {
		naps = append(naps, w.l.timeout())
	}
	assert.Equal(t, []int{1, 2, 4, 8, 16, 20, 20, 20}, naps)
	w.l.naps = 1000
	w.l.unpark()
	assert.Equal(t, maxNap, w.l.timeout(), "also in the end")

	w.l.busySlots = w.l.busySlots[:loginSlots-3]
	w.l.unpark()
	assert.Equal(t, 9-3, parked(), "as many as there are slots for")
	assert.Equal(t, 1, w.l.timeout(), "there will soon be more")
	for _, c := range w.l.conns {
		if c.parked {
			c.login = 1
		}
	}
	w.l.unpark()
	assert.Zero(t, parked(), "each login has its own")
	for _, hold := range w.release {
		_, _ = sys.Write(hold, []byte{1})
	}
}

// What clients of a running session may send, and what becomes of a session whose client
// is gone.
func TestClientsOfASession(t *testing.T) {
	signal := func(n uint8) []byte { return wire.AppendSignal(nil, wire.Signal{Number: n}) }
	for claim, tt := range map[string]struct {
		policy wire.OnDisconnect
		send   [][]byte
		gone   bool
		want   string
		kills  []string
	}{
		"a signal":                     {send: [][]byte{signal(15)}, want: "exited 15 0", kills: []string{"false 15"}},
		"a signal of no meaning":       {send: [][]byte{signal(1), signal(19)}, want: "end", kills: []string{"false 1", "false 9"}},
		"a second request":             {send: [][]byte{request(t, "true", 0)}, want: "end", kills: []string{"false 9"}},
		"nonsense":                     {send: [][]byte{[]byte("x")}, want: "end", kills: []string{"false 9"}},
		"more than a message can be":   {send: [][]byte{make([]byte, 100)}, want: "end", kills: []string{"false 9"}},
		"the client is gone":           {gone: true, kills: []string{"false 9"}},
		"nobody reads, as sshd has it": {send: [][]byte{wire.AppendDisconnected(nil), signal(2)}, want: "exited 2 0", kills: []string{"false 2"}},
		"nobody reads, hup":            {policy: wire.DisconnectHup, send: [][]byte{wire.AppendDisconnected(nil)}, want: "exited 1 0", kills: []string{"false 1", "false 18"}},
		"nobody reads, kill":           {policy: wire.DisconnectKill, send: [][]byte{wire.AppendDisconnected(nil)}, want: "exited 9 0", kills: []string{"false 9"}},
		"it is said twice":             {send: [][]byte{wire.AppendDisconnected(nil), wire.AppendDisconnected(nil)}, want: "end", kills: []string{"false 9"}},
	} {
		t.Run(claim, func(t *testing.T) {
			w := newWorld(t, &wire.Setup{Userns: true, OnDisconnect: tt.policy}, 7)
			fd := w.dial(7)
			w.send(fd, request(t, "exec sleep 60", 0))
			assert.Equal(t, "started", w.answer(fd))
			w.until("it executes", func() bool { w.l.collectSlots(); return len(w.l.busySlots) == 0 })
			for _, p := range tt.send {
				w.send(fd, p)
			}
			if tt.gone {
				require.NoError(t, syscall.Shutdown(fd, syscall.SHUT_RDWR))
			} else {
				assert.Equal(t, tt.want, w.answer(fd))
			}
			w.until("the session has ended", func() bool { return w.l.sessions == 0 })
			// A process that has not called setsid(2) yet is signalled by itself.
			assert.Equal(t, tt.kills, w.kills)
			assert.Positive(t, w.forwards)
		})
	}
}

// Logins come and go, and each place is used again.
func TestLoginsComeAndGo(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	const n = 500
	add := func(uid uint32) {
		fd := w.listen(fmt.Sprint(uid))
		w.send(w.control, wire.AppendAddLogin(nil, &wire.Identity{HostUID: uid}), fd)
		sys.Close(fd)
	}
	for round := range 2 {
		for i := range uint32(n) {
			add(1000 + i)
			if i%50 == 0 {
				w.turn()
			}
		}
		w.until("all are there", func() bool { return len(w.l.byUID) == n+1 })
		for _, uid := range []uint32{7, 1000, 1000 + n/2, 1000 + n - 1} {
			assert.Equal(t, "exited 0 0, end", w.run(uid, "true"), uid)
		}
		assert.LessOrEqual(t, len(w.l.listeners), n+1, "round %d", round)
		for i := range uint32(n) {
			w.send(w.control, wire.AppendDropLogin(nil, 1000+i))
			if i%50 == 0 {
				w.turn()
			}
		}
		w.until("all are gone", func() bool { return len(w.l.byUID) == 1 })
	}
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
}

// A session of a jail with many logins gets no copy of their listeners.
func TestManyLogins(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	for i := range uint32(nearLogins + 9) {
		if i == nearLogins-1 {
			assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
		}
		fd := w.listen(fmt.Sprint(10 + i))
		require.NoError(t, w.l.addListener(fd, wire.Identity{HostUID: 10 + i}))
	}
	for _, uid := range []uint32{7, 10, nearLogins + 18} {
		assert.Equal(t, "exited 3 0, end", w.run(uid, "kill -3 $$"), uid)
	}
	assert.Equal(t, []int{0, farFDs, farFDs, farFDs}, w.below)
}

// child is one that shares PID 1's descriptors as long as it has none of its own.
type child struct{ own bool }

func (c *child) Taken() sys.Taken { return sys.TakenNotYet }
func (c *child) Pending() bool    { return true }
func (c *child) Own() bool        { return c.own }

// The number of a connection from which a child has still to read is not given to another,
// though the client is gone.
func TestAChildReadsFromItsOwnConnection(t *testing.T) {
	for _, own := range []bool{false, true} {
		w := newWorld(t, &wire.Setup{Userns: true}, 7)
		w.dial(7)
		w.turn()
		i := slices.IndexFunc(w.l.conns, func(c *conn) bool { return c.state == pending })
		require.GreaterOrEqual(t, i, 0)
		c := w.l.conns[i]
		number := c.fd
		c.taking = &child{own}
		w.l.drop(i)
		_, err := sys.Fcntl(number, syscall.F_GETFD, 0)
		if own {
			assert.Error(t, err)
			assert.Empty(t, w.l.dead)
		} else {
			assert.NoError(t, err, "it is still open")
			assert.Equal(t, []int{number}, w.l.dead)
		}
	}
}

// A login for which there is no descriptor is said, and is the end of nothing else.
func TestALoginWithoutADescriptor(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true}, 7)
	var lim syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim))
	fd := w.listen("9")
	w.send(w.control, wire.AppendAddLogin(nil, &wire.Identity{HostUID: 9}), fd)
	// The next descriptor is over the limit.
	next, err := syscall.Dup(fd)
	require.NoError(t, err)
	sys.Close(next)
	short := lim
	short.Cur = uint64(next)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &short))
	w.turn()
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim))
	require.Len(t, w.got, 1)
	assert.Contains(t, w.got[0], fmt.Sprintf("RLIMIT_NOFILE is %d, raise LimitNOFILE=", next))
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
	w.send(w.control, wire.AppendAddLogin(nil, &wire.Identity{HostUID: 9}), fd)
	sys.Close(fd)
	assert.Equal(t, "exited 0 0, end", w.run(9, "true"), "the control connection is as it was")
}

// The host's root on the control socket.
func TestControl(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true, Name: "web"}, 7)
	status := func() wire.Status {
		t.Helper()
		w.answers = nil
		w.send(w.control, wire.AppendHello(nil, true))
		w.until("an answer", func() bool { return len(w.answers) > 0 })
		st, err := wire.DecodeStatus(w.answers[0])
		require.NoError(t, err)
		return st
	}
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
	assert.Equal(t, wire.Status{Name: "web", Served: 1}, status())

	t.Run("a login more", func(t *testing.T) {
		fd := w.listen("9")
		w.send(w.control, wire.AppendAddLogin(nil, &wire.Identity{HostUID: 9}), fd)
		sys.Close(fd)
		assert.Equal(t, "exited 0 0, end", w.run(9, "true"))
	})
	t.Run("a new listener, and who waits on the old one", func(t *testing.T) {
		old := w.dial(9)
		fd := w.listen("9")
		w.send(w.control, wire.AppendAddLogin(nil, &wire.Identity{HostUID: 9}), fd)
		sys.Close(fd)
		assert.Equal(t, "exited 0 0, end", w.run(9, "true"))
		w.send(old, request(t, "true", 0))
		assert.Equal(t, "started", w.answer(old))
		assert.Len(t, w.l.listeners, 3, "the old one's place is the waiting one's")
	})
	t.Run("a login less", func(t *testing.T) {
		running, waiting := w.dial(9), w.dial(9)
		w.send(running, request(t, "read x; sleep 60", 0))
		assert.Equal(t, "started", w.answer(running))
		w.turn()
		w.send(w.control, wire.AppendDropLogin(nil, 9))
		assert.Equal(t, "end", w.answer(waiting))
		w.until("nobody listens", func() bool {
			_, err := w.connect(9)
			return err == syscall.ECONNREFUSED
		})
		assert.EqualValues(t, 1, status().Sessions, "its sessions go on")
		w.send(running, wire.AppendSignal(nil, wire.Signal{Number: 9}))
		assert.Equal(t, "exited 9 0", w.answer(running))
	})
	t.Run("a session", func(t *testing.T) {
		fd := w.dialControl()
		w.send(fd, wire.AppendExec(nil, &wire.Identity{}))
		r, out := pipe(t)
		w.send(fd, request(t, "echo hello >&2; echo >&0", 3), out, out, out)
		assert.Equal(t, "started", w.answer(fd))
		assert.Equal(t, "exited 0 0", w.answer(fd))
		sys.CloseAll([]int{r, out})
	})
	t.Run("what is no order", func(t *testing.T) {
		for _, p := range [][]byte{[]byte("x"), request(t, "true", 0), wire.AppendReady(nil), {}} {
			fd := w.dialControl()
			w.send(fd, p)
			assert.Equal(t, "end", w.answer(fd), "%.10q", p)
		}
		fd := w.dialControl()
		w.send(fd, wire.AppendHello(nil, false), fd)
		assert.Equal(t, "end", w.answer(fd))
	})
	t.Run("the end", func(t *testing.T) {
		running, waiting := w.dial(7), w.dial(7)
		w.send(running, request(t, "trap '' HUP TERM; echo >&2; sleep 60", 0))
		assert.Equal(t, "started", w.answer(running))
		w.turn()
		w.kills = nil
		w.send(w.control, wire.AppendStop(nil, wire.Stop{GraceMillis: 50}))
		assert.Equal(t, "end", w.answer(waiting))
		assert.Equal(t, []string{"true 1", "true 15", "true 18"}, w.kills[:3])
		assert.True(t, status().Stopping)
		w.until("what does not go is killed", func() bool { return len(w.kills) > 3 })
		assert.Equal(t, "true 9", w.kills[3])
		for pid := range w.pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		assert.Equal(t, "exited 9 0", w.answer(running))
		var ended bool
		w.until("the loop ends", func() bool { ended = ended || w.turn(); return ended })
	})
}

func (w *world) dialControl() int {
	w.t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(w.t, err)
	require.NoError(w.t, sys.Connect(fd, w.path+"control"))
	w.t.Cleanup(func() { sys.Close(fd) })
	return fd
}

// An idle jail ends when its time has come, and not before.
func TestIdle(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true, IdleMillis: 5000}, 7)
	now := sys.MonotonicMillis()
	assert.False(t, w.l.done(now))
	assert.False(t, w.l.done(now+4999))
	assert.Equal(t, "exited 0 0, end", w.run(7, "true"))
	w.l.idle = 0
	assert.False(t, w.l.done(now+6000))
	assert.False(t, w.l.done(now+10_999))
	assert.True(t, w.l.done(now+11_000))
}

// TestTerminalsWithoutAClient: what becomes of a session on a terminal whose client is gone
// is what the registry says, and nobody keeps the terminal longer than the session.
func TestTerminalsWithoutAClient(t *testing.T) {
	for claim, tt := range map[string]struct {
		policy wire.OnDisconnect
		kept   bool
		kills  []string
	}{
		"as sshd has it": {policy: wire.DisconnectPlain},
		"hup":            {policy: wire.DisconnectHup},
		"kill":           {policy: wire.DisconnectKill, kills: []string{"false 9", "false 9"}},
		"keep":           {policy: wire.DisconnectKeep, kept: true},
	} {
		t.Run(claim, func(t *testing.T) {
			w := newWorld(t, &wire.Setup{Userns: true, OnDisconnect: tt.policy}, 7)
			w.pts = true
			before := openFDs(t)
			fd := w.dial(7)
			r := wire.Request{Args: [][]byte{[]byte("echo ready; read line; seq 1 100000; exit 3")}, Stdio: [3]wire.Stdio{wire.StdioTTY, wire.StdioTTY, wire.StdioTTY}}
			p, err := wire.AppendRequest(nil, &r)
			require.NoError(t, err)
			w.send(fd, p)
			var master int
			var buf [4096]byte
			w.until("it is started", func() bool {
				n, err := sys.RecvMsg(fd, buf[:], false, &w.m)
				if err == syscall.EAGAIN {
					return false
				}
				require.NoError(t, err)
				require.Equal(t, wire.AppendStarted(nil, wire.Started{})[:2], buf[:2])
				require.Positive(t, n)
				require.Len(t, w.m.FDs, 1)
				master = w.m.FDs[0]
				return true
			})
			require.NoError(t, sys.SetNonblock(master))
			var heard []byte
			w.until("it has said something", func() bool {
				n, err := sys.Read(master, buf[:])
				if err == nil {
					heard = append(heard, buf[:n]...)
				}
				return len(heard) >= len("ready\r\n")
			})
			assert.Equal(t, "ready\r\n", string(heard))
			if tt.kept {
				_, err := sys.Write(master, []byte("go on\n"))
				require.NoError(t, err)
			}
			w.kills = nil
			sys.Close(master)
			require.NoError(t, syscall.Shutdown(fd, syscall.SHUT_RDWR))
			w.until("the session has ended", func() bool { return w.l.sessions == 0 })
			assert.Equal(t, tt.kills, w.kills)
			w.turn()
			told := w.told()
			end := told[len(told)-1]
			require.Equal(t, wire.EventEnded, end.Kind)
			if tt.kept {
				assert.Equal(t, uint8(3), end.Status, "it has printed more than a terminal holds, to nobody, and gone on to its end")
			} else {
				assert.NotZero(t, end.Signal)
			}
			w.until("nothing of it is left", func() bool { return openFDs(t) <= before+1 }) // the client's
		})
	}
}
