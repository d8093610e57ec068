package enter

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
	"jail/internal/wire"
)

// TestRecordWaitsForNobody: a recorder that does not read costs a session nothing but what is
// missing in the recording, and that is counted.
func TestRecordWaitsForNobody(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0) // blocking
	require.NoError(t, err)
	defer sys.Close(pair[1])
	s := new(session)
	s.recorder.conn = pair[0]
	chunk := []byte(strings.Repeat("x", bufferSize))
	sent := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s.recorder.dropped == 0 && sent < 10_000 {
			s.record(wire.TypeOutput, chunk)
			sent++
		}
		s.record(wire.TypeOutput, []byte("lost, too"))
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits")
	}
	assert.EqualValues(t, len(chunk)+9, s.recorder.dropped)
	s.record(wire.TypeInput, []byte("secret"))
	assert.EqualValues(t, len(chunk)+9, s.recorder.dropped, "nobody has asked for it")
	buf := make([]byte, bufferSize+100)
	for range sent - 1 {
		n, err := syscall.Read(pair[1], buf)
		require.NoError(t, err)
		require.Equal(t, wire.HeaderLen+len(chunk), n)
	}
	s.recorder.input = true
	s.record(wire.TypeInput, []byte("asked for"))
	assert.Zero(t, s.recorder.dropped)
	for _, want := range [][]byte{wire.AppendDropped(nil, uint64(len(chunk)+9)), wire.AppendRecorded(nil, wire.TypeInput, []byte("asked for"))} {
		n, err := syscall.Read(pair[1], buf)
		require.NoError(t, err)
		assert.Equal(t, want, buf[:n])
	}
	require.NoError(t, syscall.Shutdown(pair[1], syscall.SHUT_RDWR))
	s.record(wire.TypeOutput, chunk)
	assert.Equal(t, -1, s.recorder.conn, "a recorder that is gone is not asked again")
	s.record(wire.TypeOutput, chunk)
	s.recordSize(1, 2)
	s.tellDropped()
}

// TestRecordHolds: of a flood the recorder hears in large messages, of all else at once.
func TestRecordHolds(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	defer sys.Close(pair[0])
	defer sys.Close(pair[1])
	s := new(session)
	s.recorder.conn, s.recorder.input = pair[0], true
	buf := make([]byte, bufferSize+100)
	heard := func() (list []int) {
		t.Helper()
		for {
			n, err := syscall.Read(pair[1], buf)
			if err != nil {
				return list
			}
			list = append(list, n-wire.HeaderLen)
		}
	}
	page := make([]byte, 4095)
	s.record(wire.TypeOutput, page[:10])
	assert.Equal(t, []int{10}, heard())
	for range 8 {
		s.record(wire.TypeOutput, page)
	}
	assert.Empty(t, heard())
	s.record(wire.TypeOutput, page)
	assert.Equal(t, []int{8 * 4095}, heard())
	s.record(wire.TypeOutput, page[:1])
	assert.Equal(t, []int{4096}, heard(), "in order")
	s.record(wire.TypeOutput, page)
	s.record(wire.TypeInput, page[:2])
	assert.Equal(t, []int{4095, 2}, heard(), "in order")
	s.record(wire.TypeOutput, page)
	s.recordSize(24, 80)
	assert.Equal(t, []int{4095, 4}, heard(), "in order")
	s.record(wire.TypeOutput, page)
	s.record(wire.TypeOutput, make([]byte, bufferSize))
	assert.Equal(t, []int{4095, bufferSize}, heard(), "in order")
	s.record(wire.TypeOutput, page)
	s.endRecording()
	assert.Equal(t, []int{4095}, heard())
}

func TestRecorderThatDoesNotAnswer(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "je")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	start := func(wantText string, connected bool) *session {
		t.Helper()
		s := new(session)
		s.in.runtimeDir = dir
		s.recorder.conn = -1
		s.req.Env = [][]byte{[]byte("TERM=xterm\x00")[:10]}
		s.req.Winsize = wire.Winsize{Rows: 24, Cols: 80}
		assert.Equal(t, wantText, s.startRecording(7))
		assert.Equal(t, connected, s.recorder.conn >= 0)
		return s
	}
	start(unrecordedText, false)
	ln, err := sys.Seqpacket()
	require.NoError(t, err)
	defer sys.Close(ln)
	require.NoError(t, syscall.Bind(ln, &syscall.SockaddrUnix{Name: filepath.Join(dir, "recorder")}))
	start(unrecordedText, false)
	require.NoError(t, syscall.Listen(ln, 0))
	s := start(recordedText, true)
	defer sys.Close(s.recorder.conn)
	start(unrecordedText, false) // its queue is full
	fd, err := sys.Accept(ln)
	require.NoError(t, err)
	defer sys.Close(fd)
	buf := make([]byte, 1000)
	n, err := syscall.Read(fd, buf)
	require.NoError(t, err)
	assert.Equal(t, wire.AppendRecord(nil, &wire.Record{Rows: 24, Cols: 80, PID: 7, Term: []byte("xterm")}), buf[:n])
}
