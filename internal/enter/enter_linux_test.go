package enter

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
	"jail/internal/wire"
)

// TestOriginalCommandIsTheLogins: what the administrator's own login was asked for
// does not reach a jail with "jail-init exec".
func TestOriginalCommandIsTheLogins(t *testing.T) {
	auth := filepath.Join(t.TempDir(), "auth")
	require.NoError(t, os.WriteFile(auth, []byte("publickey ssh-ed25519 AAAA\n"), 0o600))
	env := []string{"SSH_USER_AUTH=" + auth, "SSH_ORIGINAL_COMMAND=backup --password=x"}
	login := &session{in: invocation{runtimeDir: wire.RuntimeDir}}
	login.originalCommand(env)
	assert.Equal(t, wire.FlagOriginal, login.req.Flags)
	assert.Len(t, login.req.Env, 1)
	exec := &session{}
	exec.originalCommand(env)
	assert.Zero(t, exec.req.Flags)
	assert.Empty(t, exec.req.Env)
}

// TestWhoseAuthentication: a file that sshd has not made for this uid alone says
// nothing about how it logged in.
func TestWhoseAuthentication(t *testing.T) {
	dir := t.TempDir()
	const text = "publickey ssh-ed25519 AAAA\npassword\n"
	put := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	good := put("good", text, 0o600)
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	require.NoError(t, os.Symlink(good, link))
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	many := ""
	for range wire.MaxAuth {
		many += "x\n"
	}
	cases := map[string]struct {
		path  string
		known bool
	}{
		"sshd's":                         {good, true},
		"as many lines as can be":        {put("many", many, 0o600), true},
		"one more":                       {put("more", many+"x\n", 0o600), false},
		"others may read it":             {put("read", text, 0o644), false},
		"the group may write it":         {put("write", text, 0o620), false},
		"set-uid":                        {put("setuid", text, 0o600|os.ModeSetuid), false},
		"empty":                          {put("empty", "", 0o600), false},
		"a NUL":                          {put("nul", "a\x00b\n", 0o600), false},
		"too long":                       {put("long", string(make([]byte, maxAuthFile+1)), 0o600), false},
		"a link":                         {link, false},
		"a named pipe is not waited for": {fifo, false},
		"a directory":                    {dir, false},
		"nothing":                        {filepath.Join(dir, "none"), false},
	}
	if os.Geteuid() == 0 {
		path := put("foreign", text, 0o600)
		require.NoError(t, os.Chown(path, 12345, 12345))
		cases["somebody else's"] = struct {
			path  string
			known bool
		}{path, false}
	}
	for claim, c := range cases {
		var req wire.Request
		readAuth(&req, c.path, make([]byte, maxAuthFile+1), nil)
		assert.Equal(t, c.known, req.Flags&wire.FlagAuthKnown != 0, claim)
		assert.Equal(t, c.known, len(req.Auth) > 0, claim)
	}
}

func openFDs(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

// TestAnswersLeaveNoDescriptors: whatever a jail sends along with a message that is
// not for it to send so is closed.
func TestAnswersLeaveNoDescriptors(t *testing.T) {
	started := func(flags uint16) []byte { return wire.AppendStarted(nil, wire.Started{PID: 7, Flags: flags}) }
	for claim, c := range map[string]struct {
		packet []byte
		fds    int
		event  bool // once the session runs
	}{
		"a refusal":                     {wire.AppendRefused(nil, wire.Refused{Status: 125, Text: "no"}), 2, false},
		"another version":               {[]byte{9, 2, 0, 0, 1, 0, 0, 0}, 2, false},
		"nonsense":                      {[]byte("what"), 2, false},
		"one byte":                      {[]byte{1}, 1, false},
		"a start nobody gave it for":    {started(0), 1, false},
		"a start with what is no agent": {started(wire.FlagAgentFD), 1, false},
		"a malformed start":             {append(started(0), 0), 3, false},
		"an answer that is too long":    {make([]byte, 2000), 2, false},
		"an empty packet":               {nil, 2, false},
		"an end":                        {wire.AppendExited(nil, wire.Exited{}), 2, true},
		"nonsense for an end":           {[]byte("what"), 2, true},
	} {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		fds := make([]int, c.fds)
		for i := range fds {
			fds[i] = pair[0]
		}
		var m sys.MsgBuf
		require.NoError(t, sys.SendMsg(pair[0], c.packet, fds, false, &m))
		before := openFDs(t)
		s := &session{conn: pair[1], master: -1, ttyFD: -1, termIn: -1}
		s.req.Flags |= wire.FlagAgent
		if c.event {
			_, gone := s.event()
			assert.True(t, gone, claim)
		} else {
			n, e := s.receive(s.conn)
			if len(c.packet) == 0 {
				assert.Equal(t, syscall.ECONNRESET, e, "as the end of the connection")
			} else {
				status, done := s.answer(n)
				assert.True(t, done, claim)
				assert.Equal(t, exitFailure, status, claim)
			}
		}
		assert.Equal(t, before, openFDs(t), claim)
		sys.CloseAll(pair[:])
	}
}

// TestFIFOIsNoPipe: a FIFO with a name is not passed on, also after a pipe has been.
func TestFIFOIsNoPipe(t *testing.T) {
	r, w, err := sys.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { sys.CloseAll([]int{r, w}) })
	path := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer fifo.Close()
	s := &session{}
	for fd, want := range map[int]source{r: passable, w: passable} {
		what, e := s.judge(fd)
		require.Zero(t, e)
		assert.Equal(t, want, what)
	}
	what, e := s.judge(int(fifo.Fd()))
	require.Zero(t, e)
	assert.Equal(t, other, what)
}

func relayOf(t *testing.T, from, to int) (*session, *relay) {
	s := &session{master: -1, ttyFD: -1, termIn: -1}
	return s, s.addRelay(from, to, -1)
}

// TestErrorsOfARelay: an error is neither an end nor forgotten, and the jail's end of
// the pipe learns that nothing more passes.
func TestErrorsOfARelay(t *testing.T) {
	pipe := func() (r, w int) {
		r, w, err := sys.Pipe()
		require.NoError(t, err)
		return r, w
	}
	t.Run("no space", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		require.NoError(t, err)
		defer full.Close()
		r, w := pipe()
		defer sys.Close(w)
		s, relay := relayOf(t, r, int(full.Fd()))
		_, err = sys.Write(w, []byte("x"))
		require.NoError(t, err)
		require.True(t, relay.fill())
		relay.flush()
		assert.Equal(t, syscall.ENOSPC, relay.failed)
		relay.to = 1 // as which it would have been
		s.finish(relay)
		assert.True(t, s.failed)
		_, err = sys.Write(w, []byte("x"))
		assert.Equal(t, syscall.EPIPE, err)
	})
	t.Run("a reader that is gone", func(t *testing.T) {
		r, w := pipe()
		outR, outW := pipe()
		sys.Close(outR)
		defer sys.Close(outW)
		defer sys.Close(w)
		s, relay := relayOf(t, r, outW)
		_, err := sys.Write(w, []byte("x"))
		require.NoError(t, err)
		require.True(t, relay.fill())
		relay.flush()
		relay.to = 1
		s.finish(relay)
		assert.False(t, s.failed, "the command learns it by itself")
		_, err = sys.Write(w, []byte("x"))
		assert.Equal(t, syscall.EPIPE, err)
	})
	t.Run("an input that cannot be read", func(t *testing.T) {
		dir, err := os.Open(t.TempDir())
		require.NoError(t, err)
		defer dir.Close()
		r, w := pipe()
		defer sys.Close(r)
		s, relay := relayOf(t, int(dir.Fd()), w)
		assert.False(t, relay.fill())
		assert.Equal(t, syscall.EISDIR, relay.failed)
		s.finish(relay)
		assert.True(t, s.failed)
		n, err := sys.Read(r, make([]byte, 1))
		assert.Zero(t, n)
		assert.NoError(t, err)
	})
	t.Run("no room for now", func(t *testing.T) {
		r, w := pipe()
		outR, outW := pipe()
		defer sys.CloseAll([]int{r, w, outR, outW})
		require.NoError(t, sys.SetNonblock(outW))
		for {
			if _, err := sys.Write(outW, make([]byte, 4096)); err != nil {
				break
			}
		}
		_, relay := relayOf(t, r, outW)
		_, err := sys.Write(w, []byte("xyz"))
		require.NoError(t, err)
		require.True(t, relay.fill())
		relay.flush()
		assert.False(t, relay.dead)
		assert.Equal(t, "xyz", string(relay.buf[relay.r:relay.w]))
	})
}

// TestStatusAfterAnError: bytes that were lost are not status 0, nor the signal by
// which only the command learned it.
func TestStatusAfterAnError(t *testing.T) {
	for _, c := range []struct {
		failed bool
		end    wire.Exited
		want   int
	}{
		{false, wire.Exited{}, 0}, {false, wire.Exited{Code: 3}, 3},
		{true, wire.Exited{}, 125}, {true, wire.Exited{Code: 3}, 3}, {true, wire.Exited{Signal: 13}, 125},
	} {
		s := &session{failed: c.failed}
		assert.Equal(t, c.want, s.leave(c.end), "%+v", c)
	}
}

// TestOutOfMemoryIsSaid: a session that the kernel has killed for want of memory leaves a line, and the
// status of any other.
func TestOutOfMemoryIsSaid(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	saved, err := syscall.Dup(2)
	require.NoError(t, err)
	defer syscall.Close(saved)
	require.NoError(t, sys.Dup2(int(w.Fd()), 2))
	w.Close()
	statuses := [2]int{(&session{}).leave(wire.Exited{Code: 137, OutOfMemory: true}), (&session{}).leave(wire.Exited{Code: 137})}
	require.NoError(t, sys.Dup2(saved, 2))
	said, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, [2]int{137, 137}, statuses)
	assert.Equal(t, "jail-enter: "+oomText+"\n", string(said))
}

// TestALostJailIsShownWithinBounds: what is left on its terminal may have no end.
func TestALostJailIsShownWithinBounds(t *testing.T) {
	zero, err := os.Open("/dev/zero")
	require.NoError(t, err)
	defer zero.Close()
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	s, out := relayOf(t, int(zero.Fd()), int(null.Fd()))
	ended := make(chan int, 1)
	go func() { ended <- s.lost(out) }()
	select {
	case status := <-ended:
		assert.Equal(t, exitFailure, status)
	case <-time.After(20 * time.Second):
		t.Fatal("it has no end")
	}
}
