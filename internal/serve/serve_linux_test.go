package serve

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/sys"
	"jail/internal/wire"
)

// TestReloadDuringAStart changes the registry while a jail is being started: what it
// is handed are the listeners it was to have, whatever has become of them and of
// their numbers, and it hears of the changes when it runs.
func TestReloadDuringAStart(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("JAIL_TEST_MUST_RUN") != "" {
			t.Fatal("sockets of several uids: needs root")
		}
		t.Skip("sockets of several uids: needs root")
	}
	dir, err := os.MkdirTemp("", "serve") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, fdsock.PrepareDir(dir))
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)

	begun, reloaded := make(chan bool), make(chan bool)
	var paths []string // of the listeners the start was given, after the reload
	s := &server{
		opt: Options{RuntimeDir: dir, Log: io.Discard}, results: make(chan result, 1),
		byName: map[string]int{}, linger: map[int]time.Time{},
		launch: func(spec *jail.Spec, listeners []int, _ int) (*launch.Jail, error) {
			close(begun)
			<-reloaded
			for _, fd := range listeners {
				path, err := fdsock.CheckListener(fd)
				assert.NoError(t, err)
				paths = append(paths, filepath.Dir(path))
			}
			return &launch.Jail{PID: os.Getpid(), PIDFD: -1, Conn: pair[0], Stderr: -1}, nil
		},
	}
	s.epfd, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	require.NoError(t, err)
	s.wake, err = sys.Eventfd()
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, lg := range s.logins {
			if lg.fd >= 0 {
				sys.Close(lg.fd)
			}
		}
		sys.CloseAll([]int{s.epfd, s.wake, pair[0], pair[1]})
	})

	registry := func(one, two []jail.HostUID) *config.Registry {
		reg := &config.Registry{Jails: []jail.Spec{{Name: "one"}, {Name: "two"}}}
		for i, uids := range [][]jail.HostUID{one, two} {
			for _, uid := range uids {
				reg.Jails[i].Logins = append(reg.Jails[i].Logins, jail.Login{HostUID: uid})
			}
		}
		return reg
	}
	// A socket is bound under another name than the one it gets.
	path := func(uid jail.HostUID) string { return filepath.Dir(fdsock.LoginPath(dir, uid)) }

	require.NoError(t, s.apply(registry([]jail.HostUID{61001, 61002}, nil)))
	s.start(s.byName["one"])
	<-begun
	// The new listeners get the lowest numbers there are, the old one's among them.
	require.NoError(t, s.apply(registry([]jail.HostUID{61002, 61003}, []jail.HostUID{61004, 61005})))
	close(reloaded)
	_, err = sys.Poll([]sys.PollFD{{FD: int32(s.wake), Events: sys.PollIn}}, 20_000)
	require.NoError(t, err)
	s.collect()
	assert.Equal(t, []string{path(61001), path(61002)}, paths)

	var m sys.MsgBuf
	next := func() (wire.Type, []byte) {
		buf := make([]byte, 1024)
		n, err := sys.RecvMsg(pair[1], buf, false, &m)
		require.NoError(t, err)
		typ, _, body, err := wire.Header(buf[:n])
		require.NoError(t, err)
		return typ, body
	}
	typ, body := next()
	require.Equal(t, wire.TypeDropLogin, typ)
	uid, err := wire.DecodeDropLogin(body)
	require.NoError(t, err)
	assert.EqualValues(t, 61001, uid)
	typ, body = next()
	require.Equal(t, wire.TypeAddLogin, typ)
	id, err := wire.DecodeAddLogin(body)
	require.NoError(t, err)
	assert.EqualValues(t, 61003, id.HostUID)
	require.Len(t, m.FDs, 1)
	added, err := fdsock.CheckListener(m.FDs[0])
	sys.CloseAll(m.FDs)
	require.NoError(t, err)
	assert.Equal(t, path(61003), filepath.Dir(added))
	_, err = sys.RecvMsg(pair[1], make([]byte, 1024), false, &m)
	assert.Equal(t, syscall.EAGAIN, err, "nothing more")
}

// TestSocketsAfterAHostilePID1: what PID 1 has done to the sockets it shared ends with
// the jail.
func TestSocketsAfterAHostilePID1(t *testing.T) {
	dir, err := os.MkdirTemp("", "serve")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, fdsock.PrepareDir(dir))
	uid := jail.HostUID(os.Getuid())
	for claim, act := range map[string]func(fd int) error{
		"nothing":            func(int) error { return nil },
		"shut down":          func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_RDWR) },
		"shut for reading":   func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_RD) },
		"shut for writing":   func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_WR) },
		"a queue for nobody": func(fd int) error { return syscall.Listen(fd, 0) },
	} {
		fd, err := fdsock.ListenLogin(dir, uid)
		require.NoError(t, err)
		s := &server{opt: Options{RuntimeDir: dir, Log: io.Discard}, logins: []*login{{fd: fd, spec: jail.Login{HostUID: uid}}}}
		require.NoError(t, act(fd))
		s.restore(&jailState{logins: []int{0}})
		ready, err := sys.Poll([]sys.PollFD{{FD: int32(s.logins[0].fd), Events: sys.PollIn}}, 0)
		require.NoError(t, err)
		assert.Zero(t, ready, "%s: nobody waits", claim)
		for range 3 {
			c, err := fdsock.Dial(fdsock.LoginPath(dir, uid))
			if assert.NoError(t, err, claim) {
				sys.Close(c)
			}
		}
		ready, _ = sys.Poll([]sys.PollFD{{FD: int32(s.logins[0].fd), Events: sys.PollIn}}, 0)
		assert.Equal(t, 1, ready, "%s: somebody does", claim)
		sys.Close(s.logins[0].fd)
	}
}
