package enter

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
	"jail/internal/tty"
	"jail/internal/wire"
	"jail/internal/wire/before"
)

// TestBefore: the answers of a PID 1 of the build before are understood.
func TestBefore(t *testing.T) {
	recorded := before.Messages()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { sys.CloseAll(pair[:]) })
	var m sys.MsgBuf
	says := func(name string) *session {
		packet, ok := recorded[name]
		require.True(t, ok, name)
		require.NoError(t, sys.SendMsg(pair[0], packet, nil, false, &m))
		s := &session{conn: pair[1], master: -1, ttyFD: -1, termIn: -1, sshd: true}
		s.own[2] = true
		return s
	}
	answer := func(s *session) (status int, done bool) {
		n, e := s.receive(s.conn)
		require.Zero(t, e)
		return s.answer(n)
	}
	s := says("started")
	_, done := answer(s)
	assert.False(t, done)
	assert.False(t, s.watch)
	s = says("started, to be watched")
	_, done = answer(s)
	assert.False(t, done)
	assert.True(t, s.watch)
	status, done := answer(says("refused"))
	assert.True(t, done)
	assert.Equal(t, 126, status)
	end, gone := says("exited, status 3").event()
	assert.False(t, gone)
	assert.Equal(t, wire.Exited{Code: 3}, end)
	end, gone = says("exited, signal 9").event()
	assert.False(t, gone)
	assert.Equal(t, wire.Exited{Signal: 9}, end)
}

// TestTypedToBefore: a PID 1 of the build before closes the connection over a request with
// what was typed already. It is asked without, and nothing that was typed is lost.
func TestTypedToBefore(t *testing.T) {
	dir, err := os.MkdirTemp("", "enter") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "sock")
	l, err := sys.Seqpacket()
	require.NoError(t, err)
	t.Cleanup(func() { sys.Close(l) })
	require.NoError(t, syscall.Bind(l, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(l, 1))

	master, slave, err := pty.Open()
	require.NoError(t, err)
	t.Cleanup(func() { master.Close(); slave.Close() })
	modes, err := tty.GetTermios(int(slave.Fd()))
	require.NoError(t, err)
	_, err = master.WriteString("abc\n")
	require.NoError(t, err)

	asked := make(chan []uint16, 1)
	go func() {
		var flags []uint16
		defer func() { asked <- flags }()
		for {
			if _, err := sys.Poll([]sys.PollFD{{FD: int32(l), Events: sys.PollIn}}, -1); err != nil {
				return
			}
			fd, _, err := syscall.Accept4(l, syscall.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			var m sys.MsgBuf
			buf := make([]byte, wire.MaxPacket)
			n, err := sys.RecvMsg(fd, buf, true, &m)
			if err != nil {
				return
			}
			_, f, _, err := wire.Header(buf[:n])
			if err != nil {
				return
			}
			// What it knows: DecodeRequest of that build.
			const known = wire.FlagLogin | wire.FlagForced | wire.FlagAuthKnown | wire.FlagAgent | wire.FlagX11 | wire.FlagOriginal
			if flags = append(flags, f); f&^known == 0 {
				_ = sys.SendMsg(fd, before.Messages()["refused"], nil, true, &m)
				sys.Close(fd)
				return
			}
			sys.Close(fd)
		}
	}()
	fd := int(slave.Fd())
	s := &session{
		path: []byte(path), conn: -1, master: -1, ttyFD: fd, termIn: fd, termOut: fd, modes: modes,
		dial: func() (int, error) {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
			if err == nil {
				err = sys.Connect(fd, path)
			}
			return fd, err
		},
	}
	s.signals.fd = -1 // none comes
	s.req.Stdio = [3]wire.Stdio{wire.StdioTTY, wire.StdioTTY, wire.StdioTTY}
	status, done := s.begin()
	assert.True(t, done)
	assert.Equal(t, 126, status, "what that PID 1 says")
	_ = syscall.Shutdown(l, syscall.SHUT_RDWR)
	assert.Equal(t, []uint16{wire.FlagTyped, wire.FlagTyped, 0}, <-asked)
	assert.False(t, s.moved, "it is typed into the session's terminal")
	assert.Equal(t, "abc\n", string(s.taken.Typed))
}
