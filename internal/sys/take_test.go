package sys

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// openFDs returns how many descriptors this process has.
func openFDs(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(d)
}

// pair returns a connected pair of SOCK_SEQPACKET sockets.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { Close(p[0]); Close(p[1]) })
	return p[0], p[1]
}

// What is a pipe or a connected stream socket, and what only looks like one.
func TestPassable(t *testing.T) {
	dir := t.TempDir()
	keep := func(fd int, err error) int {
		t.Helper()
		require.NoError(t, err)
		t.Cleanup(func() { Close(fd) })
		return fd
	}
	r, w, err := Pipe()
	require.NoError(t, err)
	keep(r, nil)
	keep(w, nil)
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	socket := func(domain, typ int) int { return keep(syscall.Socket(domain, typ|syscall.SOCK_CLOEXEC, 0)) }
	stream, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	keep(stream[0], nil)
	keep(stream[1], nil)
	listening := socket(syscall.AF_UNIX, syscall.SOCK_STREAM)
	require.NoError(t, syscall.Bind(listening, &syscall.SockaddrUnix{Name: filepath.Join(dir, "s")}))
	require.NoError(t, syscall.Listen(listening, 1))
	inet := socket(syscall.AF_INET, syscall.SOCK_STREAM)
	require.NoError(t, syscall.Bind(inet, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(inet, 1))
	name, err := syscall.Getsockname(inet)
	require.NoError(t, err)
	tcp := socket(syscall.AF_INET, syscall.SOCK_STREAM)
	require.NoError(t, syscall.Connect(tcp, name))
	packets, _ := pair(t)
	epoll := keep(syscall.EpollCreate1(syscall.EPOLL_CLOEXEC))

	for _, tt := range []struct {
		claim string
		fd    int
		want  bool
	}{
		{"the read end of a pipe", r, true},
		{"the write end of a pipe", w, true},
		{"a FIFO", keep(syscall.Open(fifo, syscall.O_RDWR|syscall.O_CLOEXEC, 0)), true},
		{"a unix stream socket", stream[0], true},
		{"a TCP connection", tcp, true},
		{"a FIFO that was not opened for real", keep(syscall.Open(fifo, OPath|syscall.O_CLOEXEC, 0)), false},
		{"a regular file", keep(syscall.Open(file, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)), false},
		{"a file that was not opened for real", keep(syscall.Open(file, OPath|syscall.O_CLOEXEC, 0)), false},
		{"a directory", keep(syscall.Open(dir, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)), false},
		{"a device", keep(syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)), false},
		{"a listening unix socket", listening, false},
		{"a listening TCP socket", inet, false},
		{"a datagram socket", socket(syscall.AF_UNIX, syscall.SOCK_DGRAM), false},
		{"a UDP socket", socket(syscall.AF_INET, syscall.SOCK_DGRAM), false},
		{"a socket of packets", packets, false},
		{"an epoll", epoll, false},
		{"no descriptor", 1 << 20, false},
	} {
		assert.Equal(t, tt.want, passable(int32(tt.fd), new(taking)), tt.claim)
	}
}

// A child takes what a packet brings, if it is what was promised; the parent has never
// had it.
func TestChildTakes(t *testing.T) {
	r, w, err := Pipe()
	require.NoError(t, err)
	defer Close(r)
	defer Close(w)
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(null)
	many := make([]int, MaxMsgFDs)
	for i := range many {
		many[i] = w
	}
	for claim, tt := range map[string]struct {
		fds   []int
		taken Taken
	}{
		"two pipes":            {[]int{w, w}, TakenAll},
		"one is missing":       {[]int{w}, TakenWrong},
		"none":                 {nil, TakenWrong},
		"one too many":         {[]int{w, w, w}, TakenWrong},
		"all that can be sent": {many, TakenWrong},
		"a device":             {[]int{w, null}, TakenWrong},
	} {
		a, b := pair(t)
		var m MsgBuf
		require.NoError(t, SendMsg(a, make([]byte, 5000), tt.fds, true, &m), claim)
		before := openFDs(t)
		c := NewChild()
		c.TakeFrom, c.FDs = b, [4]int{null, FDTaken, FDTaken, -1}
		c.Path, c.Argv, c.Envp = cstr("/bin/echo"), []*byte{cstr("echo"), cstr("hello"), nil}, []*byte{nil}
		pid, pidfd, err := Fork(c)
		require.NoError(t, err, claim)
		var ws syscall.WaitStatus
		_, err = syscall.Wait4(pid, &ws, 0, nil)
		require.NoError(t, err, claim)
		Close(pidfd)
		assert.Equal(t, tt.taken, c.Taken(), claim)
		assert.Equal(t, before, openFDs(t), claim)
		if tt.taken == TakenAll {
			assert.Zero(t, ws.ExitStatus(), claim)
			var out [16]byte
			n, err := Read(r, out[:])
			require.NoError(t, err, claim)
			assert.Equal(t, "hello\n", string(out[:n]), claim)
		} else {
			assert.Equal(t, ChildNoFDs, ws.ExitStatus(), claim)
		}
	}
}

// TestFileThatHoldsUpTheChild: a file in user space is sent that neither says what it is
// nor lets itself be closed. No copy of what the parent has open is held up by that.
func TestFileThatHoldsUpTheChild(t *testing.T) {
	needRoot(t)
	fuse, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	require.NoError(t, err, "FUSE is needed: modprobe fuse")
	place := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(place, nil, 0o600))
	require.NoError(t, syscall.Mount("hushed", place, "fuse", syscall.MS_NOSUID|syscall.MS_NODEV,
		fmt.Sprintf("fd=%d,rootmode=100600,user_id=0,group_id=0,allow_other", fuse)))
	// What waits for an answer ends with an error then (umount(2), MNT_FORCE).
	end := func() {
		_ = syscall.Unmount(place, syscall.MNT_FORCE)
		_ = syscall.Unmount(place, syscall.MNT_DETACH)
	}
	t.Cleanup(end)
	go func() { // it answers that it is there, that the file is open, and that it can be closed once
		defer Close(fuse)
		closed := false
		buf := make([]byte, 1<<20)
		for {
			n, err := syscall.Read(fuse, buf)
			if err == syscall.EINTR {
				continue
			}
			if err != nil || n < 40 {
				return
			}
			answer := make([]byte, 16, 80) // struct fuse_out_header
			copy(answer[8:], buf[8:16])
			switch binary.LittleEndian.Uint32(buf[4:]) {
			case 26: // FUSE_INIT
				answer = answer[:80]
				answer[16], answer[20] = 7, 31
				binary.LittleEndian.PutUint32(answer[36:], 4096) // max_write
			case 14: // FUSE_OPEN
				answer = answer[:32]
			case 25: // FUSE_FLUSH
				if closed {
					continue
				}
				closed = true
			default:
				continue
			}
			binary.LittleEndian.PutUint32(answer, uint32(len(answer)))
			_, _ = syscall.Write(fuse, answer)
		}
	}()
	file, err := syscall.Open(place, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	a, b := pair(t)
	var m MsgBuf
	require.NoError(t, SendMsg(a, []byte("request"), []int{file}, true, &m))
	require.NoError(t, syscall.Close(file)) // Close would not let the runtime go on meanwhile
	gap, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	r, w, err := Pipe()
	require.NoError(t, err)
	defer Close(r)
	require.Less(t, gap, w)
	Close(gap) // the file's place in the child, in front of the pipe

	c := NewChild()
	c.TakeFrom, c.FDs[0] = b, FDTaken
	c.Path, c.Argv, c.Envp = cstr("/bin/true"), []*byte{cstr("true"), nil}, []*byte{nil}
	pid, pidfd, err := Fork(c)
	require.NoError(t, err)
	Close(w)
	fds := [1]PollFD{{FD: int32(r)}}
	n, err := Poll(fds[:], 10_000)
	assert.NoError(t, err)
	assert.Equal(t, 1, n, "the child has a copy of the pipe")
	assert.Eventually(t, func() bool { return c.Taken() == TakenWrong }, 10*time.Second, time.Millisecond)

	end()
	Close(pidfd)
	_, err = syscall.Wait4(pid, nil, 0, nil)
	assert.NoError(t, err)
	for c.Pending() {
	}
}

// Looking at a packet leaves everything where it is.
func TestPeekMsg(t *testing.T) {
	a, b := pair(t)
	var m MsgBuf
	r, w, err := Pipe()
	require.NoError(t, err)
	defer Close(r)
	defer Close(w)
	var p [8]byte
	_, _, err = PeekMsg(b, p[:], &m)
	assert.Equal(t, syscall.EAGAIN, err)
	require.NoError(t, SendMsg(a, []byte("one"), nil, true, &m))
	require.NoError(t, SendMsg(a, []byte("two"), []int{w, r}, true, &m))
	require.NoError(t, SendMsg(a, []byte("too long"+"!"), nil, true, &m))
	before := openFDs(t)
	for range 2 {
		n, rights, err := PeekMsg(b, p[:], &m)
		require.NoError(t, err)
		assert.Equal(t, "one", string(p[:n]))
		assert.False(t, rights)
	}
	n, _, err := TakeMsg(b, p[:], &m)
	require.NoError(t, err)
	assert.Equal(t, "one", string(p[:n]))
	n, rights, err := PeekMsg(b, p[:], &m)
	require.NoError(t, err)
	assert.Equal(t, "two", string(p[:n]))
	assert.True(t, rights)
	assert.Equal(t, before, openFDs(t))
	n, err = RecvMsg(b, p[:], false, &m)
	require.NoError(t, err)
	assert.Equal(t, "two", string(p[:n]))
	require.Len(t, m.FDs, 2)
	CloseAll(m.FDs)
	_, _, err = PeekMsg(b, p[:], &m)
	assert.Equal(t, syscall.EMSGSIZE, err)
}

func TestQuiet(t *testing.T) {
	r, w, err := Pipe()
	require.NoError(t, err)
	defer Close(r)
	defer Close(w)
	for claim, tt := range map[string]struct {
		send  func(fd int, m *MsgBuf) error
		quiet bool
	}{
		"nothing was sent":            {func(int, *MsgBuf) error { return nil }, true},
		"the peer is gone":            {func(fd int, _ *MsgBuf) error { return syscall.Shutdown(fd, syscall.SHUT_WR) }, true},
		"a packet":                    {func(fd int, m *MsgBuf) error { return SendMsg(fd, []byte("packet"), nil, true, m) }, true},
		"an empty packet":             {func(fd int, m *MsgBuf) error { return SendMsg(fd, nil, nil, true, m) }, false},
		"descriptors":                 {func(fd int, m *MsgBuf) error { return SendMsg(fd, []byte("x"), []int{w}, true, m) }, false},
		"descriptors in an empty one": {func(fd int, m *MsgBuf) error { return SendMsg(fd, nil, []int{w}, true, m) }, false},
	} {
		a, b := pair(t)
		var m MsgBuf
		require.NoError(t, tt.send(a, &m), claim)
		assert.Equal(t, tt.quiet, Quiet(b, &m), claim)
		assert.Equal(t, syscall.EPIPE, SendMsg(a, []byte("more"), []int{w}, false, &m), claim)
	}
}

// Whatever is not kept is closed: an own process's table of descriptors is finite.
func TestRecvMsgKeepsNothingOfWhatItRefuses(t *testing.T) {
	r, w, err := Pipe()
	require.NoError(t, err)
	defer Close(r)
	defer Close(w)
	var m MsgBuf
	a, b := pair(t)
	fds := []int{r, w, r}
	for range 3 {
		require.NoError(t, SendMsg(a, []byte("a packet that is longer than the buffer"), fds, true, &m))
		before := openFDs(t)
		_, err := RecvMsg(b, make([]byte, 4), true, &m)
		assert.Equal(t, syscall.EMSGSIZE, err)
		assert.Empty(t, m.FDs)
		assert.Equal(t, before, openFDs(t))
	}
	// More than SendMsg sends, which the kernel lets a stranger send.
	flood := make([]int, maxRights)
	for i := range flood {
		flood[i] = w
	}
	before := openFDs(t)
	require.NoError(t, syscall.Sendmsg(a, []byte("x"), syscall.UnixRights(flood...), nil, 0))
	_, err = RecvMsg(b, make([]byte, 4), true, &m)
	assert.Equal(t, syscall.EMSGSIZE, err)
	assert.Empty(t, m.FDs)
	assert.Equal(t, before, openFDs(t))
}
