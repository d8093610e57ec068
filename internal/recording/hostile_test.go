package recording

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/fdsock"
	"jail/internal/needs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// TestRecorderTakesNoDescriptors: where the kernel can refuse them it does so from the first
// packet on, which comes before anybody has accepted the connection.
func TestRecorderTakesNoDescriptors(t *testing.T) {
	run, err := os.MkdirTemp("/tmp", "jr")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(run) })
	ln, err := fdsock.ListenRecorder(fdsock.RecorderPath(run))
	require.NoError(t, err)
	defer sys.Close(ln)
	probe, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer sys.Close(probe)
	needs.Kernel(t, sys.RefuseRights(probe) != syscall.ENOPROTOOPT, 6, 16, "SO_PASSRIGHTS")
	fd, e := sys.ConnectAt(syscall.SOCK_SEQPACKET, []byte(fdsock.RecorderPath(run)))
	require.Zero(t, e)
	defer sys.Close(fd)
	var m sys.MsgBuf
	assert.Equal(t, syscall.EPERM, sys.SendMsg(fd, begin(false), []int{0}, true, &m))
}

// TestRecorderWaitsForNoDescriptor: where the kernel cannot, whoever sends what takes long to
// be closed is waited for by nobody else.
func TestRecorderWaitsForNoDescriptor(t *testing.T) {
	for claim, who := range map[string]Subject{
		"not recorded": {Jail: "debian", Login: "bob"},
		"recorded":     {Jail: "debian", Login: "bob", Record: true},
	} {
		run, err := os.MkdirTemp("/tmp", "jr")
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(run) })
		path := filepath.Join(run, "recorder")
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		require.NoError(t, err)
		require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
		require.NoError(t, syscall.Listen(fd, 10))
		var m sys.MsgBuf
		conn, e := sys.ConnectAt(syscall.SOCK_SEQPACKET, []byte(path))
		require.Zero(t, e)
		// The second is left behind when the connection ends over the first.
		require.NoError(t, sys.SendMsg(conn, out("out of turn"), nil, true, &m))
		s, _ := needs.SlowToClose(t)
		require.NoError(t, sys.SendMsg(conn, out("x"), []int{s}, true, &m))
		sys.Close(s)
		r := New(t.TempDir(), t.Logf)
		r.Who = func(uint32) (Subject, error) { return who, nil }
		ln, done := os.NewFile(uintptr(fd), "listener"), make(chan error, 1)
		go func() { done <- r.Serve(ln) }()
		require.Eventually(t, func() bool { return sys.SendMsg(conn, out("x"), nil, false, &m) == syscall.EPIPE }, 10*time.Second, time.Millisecond, claim)
		ln.Close()
		select {
		case err := <-done:
			assert.NoError(t, err)
		case <-time.After(5 * time.Second):
			t.Errorf("%s: the recorder waits for a descriptor", claim)
		}
		sys.Close(conn)
	}
}

// TestRecorderSaysLittle: a login whose jail-enter is another program does not fill the log,
// whatever it sends, and leaves it to others.
func TestRecorderSaysLittle(t *testing.T) {
	r := record(t, Subject{Jail: "debian", Login: "bob", Record: true})
	r.store.files = 3
	packets := [][]byte{begin(false)}
	for range 10 * maxSaid {
		packets = append(packets, wire.AppendDropped(nil, 1))
	}
	r.whole(packets...)
	for range maxSaid {
		r.whole(begin(false))
	}
	assert.Equal(t, maxSaid, strings.Count(r.said(), "login bob"))
	r.say("alice", "of login alice")
	assert.Contains(t, r.said(), "of login alice")
	r.saying.Lock()
	s := r.Recorder.said["bob"]
	s.since = s.since.Add(-time.Hour)
	r.Recorder.said["bob"] = s
	r.saying.Unlock()
	r.whole(begin(false), wire.AppendDropped(nil, 1))
	assert.Regexp(t, `\nleft out: 1\d\d lines on login bob\n`, r.said())
}

// TestRecorderLooksUpSoMany: who connects faster than it is looked up who he is is thrown out,
// and keeps out nobody else.
func TestRecorderLooksUpSoMany(t *testing.T) {
	wait := make(chan struct{})
	var looking atomic.Int32
	r := recordBy(t, func(uint32) (Subject, error) {
		looking.Add(1)
		<-wait
		return Subject{Jail: "debian", Login: "bob", Record: true}, nil
	})
	var fds []int
	for range maxOfLogin {
		fds = append(fds, r.session(begin(false)))
	}
	require.Eventually(t, func() bool { return looking.Load() == maxOfLogin }, 10*time.Second, time.Millisecond)
	fd := r.session(begin(false))
	defer sys.Close(fd)
	n, err := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}, 10_000)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.EqualValues(t, maxOfLogin, looking.Load())
	assert.True(t, r.ask(1<<31), "another uid")
	r.asked(1 << 31)
	close(wait)
	for _, fd := range fds {
		sys.Close(fd)
	}
	require.Eventually(t, func() bool {
		r.Recorder.mu.Lock()
		defer r.Recorder.mu.Unlock()
		return len(r.asking) == 0 && r.total == 0
	}, 10*time.Second, time.Millisecond)
}
