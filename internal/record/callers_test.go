package record

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/event"
	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// says is a jail-enter of this uid that sends a packet, with descriptors.
func says(t *testing.T, path string, packet []byte, fds ...int) {
	t.Helper()
	fd, err := fdsock.Dial(path)
	require.NoError(t, err)
	if packet != nil {
		var m sys.MsgBuf
		require.NoError(t, sys.SendMsg(fd, packet, fds, true, &m))
	}
	t.Cleanup(func() { sys.Close(fd) })
}

// hearing are callers that listen at a path.
func hearing(t *testing.T) (c *callers, path string) {
	path = filepath.Join(t.TempDir(), wire.CallerName)
	fd, err := fdsock.ListenCaller(path)
	require.NoError(t, err)
	c = &callers{fds: []int{fd}}
	t.Cleanup(c.close)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o666), info.Mode().Perm())
	return c, path
}

func word1(pid uint32) []byte {
	return wire.AppendCaller(nil, &wire.Caller{PID: pid, SSHD: true, Connection: []byte("192.0.2.1 50000 192.0.2.2 22")})
}

// TestCallersAreJoined: jail-enter's word is added to the session that it is of, whichever
// comes first, and a session goes without where there is none.
func TestCallersAreJoined(t *testing.T) {
	uid := uint32(os.Getuid())
	begins := func(session string, host, pid uint32) *event.Event {
		e := started(session)
		e.HostUID, e.PID = host, pid
		return e
	}
	s := Open(t.TempDir())
	path := filepath.Join(t.TempDir(), wire.CallerName)
	fd, err := fdsock.ListenCaller(path)
	require.NoError(t, err)
	r := New(s, func(text string) { t.Error(text) }, "", fd)
	run := r.Run("web", os.Getpid(), false)
	says(t, path, word1(8))
	tell(run, "alice", begins("k7qmw2ab", uid, 8))  // its word is there
	tell(run, "alice", begins("k7qmw2ac", uid, 9))  // it comes later
	tell(run, "alice", begins("k7qmw2ad", uid, 10)) // it never comes
	tell(run, "bob", begins("k7qmw2ae", uid+1, 11)) // somebody else's pid
	tell(run, "", begins("k7qmw2af", uid, 12))      // no login of this jail
	tell(run, "alice", ended("k7qmw2ad"))
	require.Eventually(t, func() bool { return idle(r) }, 10*time.Second, time.Millisecond)
	says(t, path, word1(11))
	says(t, path, word1(12))
	says(t, path, word1(9))
	var list []Session
	require.Eventually(t, func() bool {
		list, err = s.Sessions("web", func(d *Damage) { t.Error(d) })
		return err == nil && len(list) == 5
	}, 10*time.Second, 10*time.Millisecond)
	r.Close()
	for _, x := range list {
		switch x.Session {
		case "k7qmw2ab", "k7qmw2ac":
			if assert.NotNil(t, x.Caller, x.Session) {
				assert.Equal(t, "192.0.2.1", x.Caller.Address)
				assert.Equal(t, 50000, x.Caller.Port)
				assert.Equal(t, os.Getpid(), x.Caller.PID, "by the kernel's word")
			}
		default:
			assert.Nil(t, x.Caller, x.Session)
		}
		if x.Session == "k7qmw2ad" {
			assert.Equal(t, StateEnded, x.State, "its end does not overtake its start")
		}
	}
}

// TestCommandsAreForWhoAsks: of a command there is what log_commands says, and no more than a line
// has room for.
func TestCommandsAreForWhoAsks(t *testing.T) {
	long := strings.Repeat("\x1b\u202e\xff\n\\", 1<<20/7)
	for command, want := range map[string][2]string{
		"":                         {"", ""},
		"id":                       {"id", "id"},
		"/usr/bin/mysql -p secret": {"/usr/bin/mysql -p secret", "mysql"},
		"make\tall\nid":            {`make\tall\nid`, "make"},
		"  g++-12 x.cc":            {"  g++-12 x.cc", "g++-12"},
		"PASSWORD=x psql":          {"PASSWORD=x psql", ""},
		"'secret' x":               {"'secret' x", ""},
		"secret|x":                 {"secret|x", ""},
		"\x1b[31m":                 {`\x1b[31m`, ""},
		strings.Repeat("a", 65):    {strings.Repeat("a", 65), ""},
		long:                       {event.Quote(long[:maxCommand])[:maxCommand-3] + "...", ""},
	} {
		run := &Run{}
		assert.Empty(t, run.command(command), "nobody has asked")
		run.Commands("")
		assert.Empty(t, run.command(command))
		run.Commands(jail.CommandsFull)
		assert.Equal(t, want[0], run.command(command))
		run.Commands(jail.CommandsName)
		assert.Equal(t, want[1], run.command(command), command[:min(len(command), 100)])
	}

	// From the socket to the file, and with a reload in between.
	s := Open(t.TempDir())
	path := filepath.Join(t.TempDir(), wire.CallerName)
	fd, err := fdsock.ListenCaller(path)
	require.NoError(t, err)
	r := New(s, func(text string) { t.Error(text) }, "", fd)
	run := r.Run("web", os.Getpid(), false)
	begin := func(session string, pid uint32) {
		says(t, path, wire.AppendCaller(nil, &wire.Caller{PID: pid, Command: []byte(long)}))
		e := started(session)
		e.HostUID, e.PID = uint32(os.Getuid()), pid
		tell(run, "alice", e)
		done := make(chan struct{})
		r.put(item{do: func() { close(done) }})
		<-done
	}
	begin("k7qmw2ab", 8)
	run.Commands(jail.CommandsFull)
	begin("k7qmw2ac", 9)
	r.Close()
	list, err := s.Sessions("web", func(d *Damage) { t.Error(d) })
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.NotNil(t, list[0].Caller)
	assert.Empty(t, list[0].Command)
	assert.Len(t, list[1].Command, maxCommand)
}

// TestWhoCallsExec: a session that is no login's has root's word on who has called it, and nobody
// else's, and of its own jail.
func TestWhoCallsExec(t *testing.T) {
	root, other := &syscall.Ucred{Pid: 1 << 30}, &syscall.Ucred{Pid: 1 << 30, Uid: uint32(os.Geteuid()) + 1}
	w := wire.Caller{PID: 7, Jail: []byte("web"), UID: 1000}
	key, ok := keyOf(&w, root)
	assert.Equal(t, sessionKey{uid: wire.NoLogin, pid: 7, jail: "web"}, key)
	assert.True(t, ok)
	_, ok = keyOf(&w, other)
	assert.False(t, ok)
	uid := uint32(1000)
	assert.Equal(t, Caller{PID: 1 << 30, UID: &uid}, callerOf(&w, root))

	s := Open(t.TempDir())
	path := filepath.Join(t.TempDir(), wire.CallerName)
	fd, err := fdsock.ListenCaller(path)
	require.NoError(t, err)
	r := New(s, func(text string) { t.Error(text) }, "", fd)
	web, db := r.Run("web", os.Getpid(), false), r.Run("db", os.Getpid(), false)
	says(t, path, wire.AppendCaller(nil, &w))
	e := &event.Event{Kind: wire.EventStarted, At: time.Now(), ID: id("k7qmw2ab"), HostUID: wire.NoLogin, Session: wire.SessionExec, PID: 7}
	tell(db, "", e)
	tell(web, "", e)
	r.Close()
	for name, want := range map[string]bool{"web": true, "db": false} {
		list, err := s.Sessions(name, func(d *Damage) { t.Error(d) })
		require.NoError(t, err)
		require.Len(t, list, 1)
		if assert.Equal(t, want, list[0].Caller != nil, name); want {
			assert.EqualValues(t, 1000, *list[0].Caller.UID)
		}
	}
}

// TestClocksThatJumpWhileAWordIsAwaited: a start is written although the clock was set back, by a day, or
// to another year, while it waited for jail-enter's word; a word is not kept for longer than it would be.
func TestClocksThatJumpWhileAWordIsAwaited(t *testing.T) {
	for claim, jump := range map[string]time.Duration{"back": -24 * time.Hour, "on": 365 * 24 * time.Hour} {
		s := Open(t.TempDir())
		path := filepath.Join(t.TempDir(), wire.CallerName)
		fd, err := fdsock.ListenCaller(path)
		require.NoError(t, err)
		r := New(s, func(text string) { t.Error(text) }, "", fd)
		var shift atomic.Int64
		r.now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
		run := r.Run("web", os.Getpid(), false)
		e := started("k7qmw2ab")
		e.HostUID = uint32(os.Getuid())
		tell(run, "alice", e)
		done := make(chan int, 1)
		r.put(item{do: func() { done <- len(r.held) }})
		require.Equal(t, 1, <-done, "it waits")
		shift.Store(int64(jump))
		assert.Eventually(t, func() bool {
			list, err := s.Sessions("web", nil)
			return err == nil && len(list) == 1
		}, 10*time.Second, 10*time.Millisecond, claim)

		says(t, path, word1(8))
		r.put(item{do: func() { r.callers.listen(r.now()); done <- len(r.callers.words) }})
		require.Equal(t, 1, <-done)
		shift.Store(2 * int64(jump))
		r.put(item{do: func() { r.callers.listen(r.now()); done <- len(r.callers.words) }})
		assert.Zero(t, <-done, claim)
		r.Close()
	}
}

// TestCallersAreBounded: one uid cannot take another's room, and what is nonsense, comes
// with descriptors or does not come is nothing.
func TestCallersAreBounded(t *testing.T) {
	c, path := hearing(t)
	now := time.Now()
	for n := range maxOfUID + 10 {
		says(t, path, word1(uint32(n)))
	}
	c.listen(now)
	assert.Len(t, c.words, maxOfUID)
	assert.Equal(t, map[uint32]int{uint32(os.Getuid()): maxOfUID}, c.of)
	require.NotNil(t, c.take(sessionKey{uid: uint32(os.Getuid()), pid: 3}))
	assert.Nil(t, c.take(sessionKey{uid: uint32(os.Getuid()), pid: 3}), "said once")
	c.listen(now.Add(wordsFor + time.Second))
	assert.Empty(t, c.words)
	assert.Empty(t, c.of)

	null, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer null.Close()
	for claim, p := range map[string][]byte{"nonsense": []byte("what"), "another message": wire.AppendExited(nil, wire.Exited{}), "one that is too long": append(word1(1), make([]byte, wire.MaxCaller)...)} {
		says(t, path, p)
		c.listen(now)
		assert.Empty(t, c.words, claim)
	}
	fd, err := fdsock.Dial(path)
	require.NoError(t, err)
	defer sys.Close(fd)
	var m sys.MsgBuf
	_ = sys.SendMsg(fd, word1(1), []int{int(null.Fd())}, true, &m) // refused since Linux 6.16
	c.listen(now)
	assert.Empty(t, c.words, "it comes with a descriptor")

	c.listen(now.Add(muteFor + time.Second))
	for range maxMute + 10 {
		says(t, path, nil)
	}
	c.listen(now)
	assert.Len(t, c.mute, maxMute)
	c.listen(now.Add(muteFor + time.Second))
	assert.Empty(t, c.mute, "nothing has come")
}

// TestCallersTakeLittleTime: whoever connects without end takes so much of a second.
func TestCallersTakeLittleTime(t *testing.T) {
	c, path := hearing(t)
	now := time.Now()
	c.listen(now)
	c.heard = maxHeard - 3
	for n := range uint32(5) {
		says(t, path, word1(n))
	}
	c.listen(now.Add(time.Second - 1))
	assert.Len(t, c.words, 3)
	c.listen(now.Add(time.Second))
	assert.Len(t, c.words, 5)
	c.heard = maxHeard
	says(t, path, word1(9))
	c.listen(now.Add(-time.Hour)) // the clock was set
	assert.NotNil(t, c.take(sessionKey{uid: uint32(os.Getuid()), pid: 9}))
}

// TestWhatACallerSays: jail-enter's uid may say anything.
func TestWhatACallerSays(t *testing.T) {
	const (
		key  = "AAAAC3NzaC1lZDI1NTE5AAAAIDEqdbAzyyPEUO2wmuM8qXkTPqs3sNLmvT7tRPZ9/t0Y"
		hash = "SHA256:"
	)
	nobody := &syscall.Ucred{Pid: 1 << 30}
	for claim, tt := range map[string]struct {
		in   wire.Caller
		want Caller
	}{
		"nothing":              {wire.Caller{}, Caller{}},
		"sshd":                 {wire.Caller{SSHD: true, TTY: 136<<8 | 3, Connection: []byte("2001:db8::1 1 ::1 22")}, Caller{Service: "sshd", TTY: "pts/3", Address: "2001:db8::1", Port: 1}},
		"sshd on a pipe":       {wire.Caller{SSHD: true, Connection: []byte("UNKNOWN 65535 UNKNOWN 65535")}, Caller{Service: "sshd"}},
		"no address":           {wire.Caller{Connection: []byte("\x1b[31m 1 2 3")}, Caller{}},
		"a zone":               {wire.Caller{Connection: []byte("fe80::1%\x1b[31m 99999 2 3")}, Caller{Address: "fe80::1"}},
		"a password":           {wire.Caller{Auth: [][]byte{[]byte("password")}}, Caller{Method: "password"}},
		"a method of no name":  {wire.Caller{Auth: [][]byte{[]byte("\x1b\u202e" + strings.Repeat("x", 1000)), {}, []byte(" ")}}, Caller{Method: `\x1b\u202e` + strings.Repeat("x", 124) + "..."}},
		"a key that is none":   {wire.Caller{Auth: [][]byte{[]byte("publickey ssh-ed25519 AAAA"), []byte("publickey")}}, Caller{Method: "publickey,publickey"}},
		"many methods":         {wire.Caller{Auth: [][]byte{[]byte("a"), []byte("b"), []byte("c"), []byte("d"), []byte("e")}}, Caller{Method: "a,b,c,d"}},
		"a disk for terminal":  {wire.Caller{TTY: 8 << 8}, Caller{}},
		"the far end of ttys":  {wire.Caller{TTY: 1<<64 - 1}, Caller{}},
		"the console's second": {wire.Caller{TTY: 4<<8 | 2}, Caller{TTY: "tty2"}},
		"a serial line":        {wire.Caller{TTY: 4<<8 | 64}, Caller{TTY: "ttyS0"}},
	} {
		tt.want.PID = 1 << 30
		assert.Equal(t, tt.want, callerOf(&tt.in, nobody), claim)
	}
	c := callerOf(&wire.Caller{Auth: [][]byte{[]byte("publickey ssh-ed25519 " + key)}}, nobody)
	assert.Equal(t, "publickey", c.Method)
	assert.True(t, strings.HasPrefix(c.Key, hash), c.Key)
	assert.Empty(t, c.Authority)
}

func TestServiceOf(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	assert.NotEmpty(t, serviceOf(os.Getpid(), uint32(os.Getuid())), "whatever has started the test")
	assert.Empty(t, serviceOf(os.Getpid(), uint32(os.Getuid())+1), "the pid is another's by now")
	assert.Empty(t, serviceOf(1<<30, 0))
	assert.NotEqual(t, filepath.Base(self), serviceOf(os.Getpid(), uint32(os.Getuid())))
}

// TestOwnQueue: a login of which a session has been told is heard where nobody else can put
// anything, also while others keep the listener of all full.
func TestOwnQueue(t *testing.T) {
	needs.Root(t, "it makes sockets for others")
	uid := uint32(os.Getuid())
	for claim, refuse := range map[string]func(fd int) error{
		"a kernel that refuses descriptors": func(int) error { return nil },
		"one that does not":                 func(int) error { return syscall.ENOPROTOOPT },
	} {
		t.Run(claim, func(t *testing.T) {
			c, path := hearing(t)
			c.dir, c.refuse = filepath.Dir(path), refuse
			run, now := new(Run), time.Now()
			login, err := fdsock.ListenLogin(c.dir, jail.HostUID(uid))
			require.NoError(t, err)
			defer sys.Close(login)
			own := fdsock.CallsPath(c.dir, jail.HostUID(uid))
			send := func(packet []byte) sys.Errno { return sys.SendTo([]byte(own), packet) }
			says(t, path, word1(1))
			assert.NotNil(t, c.find(sessionKey{uid: uid, pid: 1}, run, now), "the first by the listener of all")
			fill(t, path)
			for pid := uint32(2); pid < 100; pid++ {
				require.Zero(t, send(word1(pid)))
				said := c.find(sessionKey{uid: uid, pid: pid}, run, now)
				require.NotNil(t, said)
				assert.Equal(t, os.Getpid(), said.caller.PID, "by the kernel's word")
				assert.Equal(t, "192.0.2.1", said.caller.Address)
			}
			require.Zero(t, send([]byte("what")))
			require.Zero(t, send(append(word1(100), make([]byte, wire.MaxCaller)...)))
			require.Zero(t, send(word1(101)))
			require.Zero(t, send(word1(102)))
			assert.NotNil(t, c.find(sessionKey{uid: uid, pid: 102}, run, now), "whatever else is there")
			assert.Nil(t, c.find(sessionKey{uid: uid, pid: 100}, run, now))
			assert.NotNil(t, c.find(sessionKey{uid: uid, pid: 101}, run, now), "in any order")

			for n := range uint32(maxWords) { // of somebody who has many uids
				c.keep(sessionKey{uid: 100_000 + n/maxOfUID, pid: n}, word{since: now})
			}
			for pid := uint32(200); pid < 203; pid++ {
				require.Zero(t, send(word1(pid)))
			}
			for pid := uint32(200); pid < 203; pid++ {
				assert.NotNil(t, c.find(sessionKey{uid: uid, pid: pid}, run, now), "there is no room for others")
			}
			for pid := range uint32(maxSpare + 1) {
				require.Zero(t, send(word1(300+pid)))
			}
			c.find(sessionKey{uid: uid, pid: 1}, run, now)
			assert.Len(t, c.words, maxWords+maxSpare, "and not too much for this one")
			c.words, c.of = nil, nil

			other := filepath.Join(filepath.Dir(own), "..", "77", "calls")
			require.NoError(t, os.Mkdir(filepath.Dir(other), 0o711))
			c.find(sessionKey{uid: 77, pid: 1}, run, now)
			var st syscall.Stat_t
			require.NoError(t, syscall.Stat(other, &st))
			assert.Equal(t, [2]uint32{77, syscall.S_IFSOCK | 0o600}, [2]uint32{st.Uid, st.Mode}, "nobody else can send")
			require.Zero(t, sys.SendTo([]byte(other), word1(2)), "but root")
			assert.Nil(t, c.find(sessionKey{uid: 77, pid: 2}, run, now), "which is not believed")

			c.forgetRun(new(Run))
			assert.Len(t, c.own, 2)
			c.forgetRun(run)
			assert.Empty(t, c.own)
			assert.NoFileExists(t, own)
			assert.FileExists(t, fdsock.LoginPath(c.dir, jail.HostUID(uid)))
			require.Eventually(t, func() bool { // once the last one is closed
				c.find(sessionKey{uid: uid, pid: 1}, run, now)
				return c.own[uid] != nil
			}, 10*time.Second, time.Millisecond)
			assert.FileExists(t, own)
			c.close()
			c.fds = nil
			assert.NoFileExists(t, own)
		})
	}
}

// TestOwnQueueTakesNoDescriptors: a descriptor that comes on an older kernel costs its sender the
// socket, and the Recorder no wait.
func TestOwnQueueTakesNoDescriptors(t *testing.T) {
	uid := uint32(os.Getuid())
	c, path := hearing(t)
	c.dir, c.refuse = filepath.Dir(path), func(int) error { return syscall.ENOPROTOOPT }
	run, now := new(Run), time.Now()
	require.NoError(t, os.Mkdir(filepath.Join(c.dir, strconv.Itoa(os.Getuid())), 0o711))
	own := fdsock.CallsPath(c.dir, jail.HostUID(uid))
	c.find(sessionKey{uid: uid, pid: 1}, run, now)
	fd, err := sys.Datagram()
	require.NoError(t, err)
	defer sys.Close(fd)
	require.NoError(t, sys.Connect(fd, own))
	slow, _ := needs.SlowToClose(t)
	var m sys.MsgBuf
	require.NoError(t, sys.SendMsg(fd, word1(2), []int{slow}, false, &m))
	sys.Close(slow)
	found := make(chan *word, 1)
	go func() { found <- c.find(sessionKey{uid: uid, pid: 2}, run, now) }()
	select {
	case said := <-found:
		assert.Nil(t, said)
	case <-time.After(5 * time.Second):
		require.Fail(t, "it closes what came")
	}
	assert.NoFileExists(t, own)
	says(t, path, word1(3))
	assert.NotNil(t, c.find(sessionKey{uid: uid, pid: 3}, run, now), "by the listener of all")
	require.Eventually(t, func() bool { return c.closer.Left(int(uid)) == 0 }, 10*time.Second, time.Millisecond)
	c.find(sessionKey{uid: uid, pid: 4}, run, now)
	assert.NoFileExists(t, own, "as long as its jail runs")
	c.forgetRun(run)
	c.find(sessionKey{uid: uid, pid: 5}, run, now)
	assert.FileExists(t, own)
	c.forgetRun(run)
}

// TestOwnQueuesAreBounded: those that have been here last have one.
func TestOwnQueuesAreBounded(t *testing.T) {
	needs.Root(t, "it makes sockets for others")
	c, path := hearing(t)
	c.dir, c.refuse = filepath.Dir(path), sys.RefuseRights
	run, now := new(Run), time.Now()
	const first = 100_000
	for uid := uint32(first); uid < first+maxOwn+2; uid++ {
		require.NoError(t, os.Mkdir(filepath.Join(c.dir, strconv.Itoa(int(uid))), 0o711))
		c.find(sessionKey{uid: uid, pid: 1}, run, now)
		c.find(sessionKey{uid: first, pid: 1}, run, now)
	}
	assert.Len(t, c.own, maxOwn)
	assert.Contains(t, c.own, uint32(first), "it is here all the time")
	assert.NotContains(t, c.own, uint32(first+1))
	assert.NoFileExists(t, fdsock.CallsPath(c.dir, first+1))
	c.find(sessionKey{uid: 1, pid: 1}, run, now) // no login
	assert.Equal(t, -1, c.own[1].fd)
	c.forgetRun(run)
	assert.Empty(t, c.own)
}

// fill fills the queue of a listener.
func fill(t *testing.T, path string) {
	for {
		fd, e := sys.ConnectAt(syscall.SOCK_SEQPACKET, []byte(path))
		if e == syscall.EAGAIN {
			return
		}
		require.Zero(t, e)
		sys.Close(fd)
	}
}
