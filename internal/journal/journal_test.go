package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
)

// listen is the journal's socket, in a directory of its own.
func listen(t *testing.T) (fd int, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "socket")
	return listenAt(t, path), path
}

func listenAt(t *testing.T, path string) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	return fd
}

// receive is one entry as it was sent, by a descriptor or not.
func receive(t *testing.T, fd int) (raw []byte, file bool) {
	t.Helper()
	buf, oob := make([]byte, 1<<20), make([]byte, 256)
	n, oobn, _, _, err := syscall.Recvmsg(fd, buf, oob, syscall.MSG_DONTWAIT)
	require.NoError(t, err)
	if oobn == 0 {
		return buf[:n], false
	}
	require.Zero(t, n, "what has a descriptor has no text")
	msgs, err := syscall.ParseSocketControlMessage(oob[:oobn])
	require.NoError(t, err)
	require.Len(t, msgs, 1)
	fds, err := syscall.ParseUnixRights(&msgs[0])
	require.NoError(t, err)
	require.Len(t, fds, 1)
	f := os.NewFile(uintptr(fds[0]), "entry")
	defer f.Close()
	// What journald demands before it reads (journald-native.c): nobody can change it.
	seals, err := sys.Fcntl(fds[0], 1034, 0) // F_GET_SEALS
	require.NoError(t, err)
	assert.Equal(t, 15, seals)
	_, err = f.WriteAt([]byte("x"), 0)
	assert.Error(t, err)
	_, err = f.Seek(0, io.SeekStart)
	require.NoError(t, err)
	raw, err = io.ReadAll(f)
	require.NoError(t, err)
	return raw, true
}

// parse reads the protocol as journald does (journal-importer.c).
func parse(raw []byte) (fields []Field, err error) {
	for len(raw) > 0 {
		line, rest, whole := bytes.Cut(raw, []byte{'\n'})
		if !whole {
			return nil, errors.New("a line without an end")
		}
		if name, value, plain := bytes.Cut(line, []byte{'='}); plain {
			fields, raw = append(fields, Field{string(name), string(value)}), rest
			continue
		}
		if len(rest) < 8 {
			return nil, errors.New("no length")
		}
		n := binary.LittleEndian.Uint64(rest)
		if rest = rest[8:]; uint64(len(rest)) < n+1 || rest[n] != '\n' {
			return nil, fmt.Errorf("%s: not as long as it says", line)
		}
		fields, raw = append(fields, Field{string(line), string(rest[:n])}), rest[n+1:]
	}
	return fields, nil
}

// TestEntriesArrive: whatever is in a value, there are the fields that were sent and no
// others.
func TestEntriesArrive(t *testing.T) {
	fd, path := listen(t)
	defer sys.Close(fd)
	j := Open(path)
	defer j.Close()
	for _, value := range []string{
		"", "plain", "a=b", "=", "two\nlines", "\n", "\n\n", "x\nPRIORITY=0", "x\nPRIORITY\n\x01\x00\x00\x00\x00\x00\x00\x000\n", "\x00\x1b[31m\xff", "no end\n",
		strings.Repeat("long\n", 20<<10),
	} {
		want := []Field{{"MESSAGE", value}, {"PRIORITY", "6"}, {"JAIL_REASON", value}}
		require.NoError(t, j.Send(want))
		raw, _ := receive(t, fd)
		got, err := parse(raw)
		require.NoError(t, err, "%q", value)
		assert.Equal(t, want, got)
	}
}

// TestTooLongForADatagram: an entry that is longer than the socket takes goes as a sealed file.
func TestTooLongForADatagram(t *testing.T) {
	fd, path := listen(t)
	defer sys.Close(fd)
	j := Open(path)
	defer j.Close()
	require.NoError(t, j.Send([]Field{{"MESSAGE", "short"}}))
	raw, file := receive(t, fd)
	assert.Equal(t, "MESSAGE=short\n", string(raw))
	assert.False(t, file)
	require.Zero(t, sys.SetSockoptInt(j.fd, syscall.SO_SNDBUF, 4096))
	want := []Field{{"MESSAGE", strings.Repeat("a long text\n", 100_000)}}
	require.NoError(t, j.Send(want))
	raw, file = receive(t, fd)
	assert.True(t, file)
	got, err := parse(raw)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

// TestNobodyWaitsForTheJournal: one that reads nothing, or is not there, is an error at once; one
// that comes back is found.
func TestNobodyWaitsForTheJournal(t *testing.T) {
	fd, path := listen(t)
	j := Open(path)
	defer j.Close()
	sent, full := 0, make(chan error, 1)
	go func() {
		for {
			if err := j.Send([]Field{{"MESSAGE", "x"}}); err != nil {
				full <- err
				return
			}
			sent++
		}
	}()
	select {
	case err := <-full:
		require.ErrorIs(t, err, syscall.EAGAIN)
	case <-time.After(20 * time.Second):
		t.Fatal("it waits")
	}
	for range sent {
		receive(t, fd)
	}
	require.NoError(t, j.Send([]Field{{"MESSAGE", "y"}}), "there is room again")
	sys.Close(fd)
	require.ErrorIs(t, j.Send([]Field{{"MESSAGE", "z"}}), syscall.ECONNREFUSED)
	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, j.Send([]Field{{"MESSAGE", "z"}}), syscall.ENOENT)
	fd = listenAt(t, path)
	defer sys.Close(fd)
	require.NoError(t, j.Send([]Field{{"MESSAGE", "back"}}))
	raw, _ := receive(t, fd)
	assert.Equal(t, "MESSAGE=back\n", string(raw))
}

func TestWhoseStandardErrorIsTheJournals(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer f.Close()
	var st syscall.Stat_t
	require.NoError(t, syscall.Fstat(int(f.Fd()), &st))
	stream := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	for value, want := range map[string]bool{stream: true, "": false, stream + "1": false, "x": false} {
		t.Setenv("JOURNAL_STREAM", value)
		assert.Equal(t, want, Ours(f), value)
	}
}

// TestNobodyWaitsForTheLog: a log that is stopped takes a bounded part of what is said, the rest
// is counted, and order stays.
func TestNobodyWaitsForTheLog(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	l := NewLog(w)
	line := strings.Repeat("x", 999) + "\n"
	const lines = 2000 // and a pipe takes 64 KiB
	for range lines {
		n, err := io.WriteString(l, line)
		require.NoError(t, err)
		require.Equal(t, len(line), n)
	}
	l.mu.Lock()
	assert.LessOrEqual(t, len(l.waiting), maxWaiting)
	l.mu.Unlock()
	got := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(r)
		got <- string(text)
	}()
	l.Close()
	require.NoError(t, w.Close())
	text := <-got
	whole := strings.Count(text, line)
	assert.Greater(t, whole, 100)
	missing := 0
	for said := range strings.Lines(strings.ReplaceAll(text, line, "")) {
		var n int
		_, err := fmt.Sscanf(said, "jail-init: %d lines are missing here: the log did not take them in time\n", &n)
		require.NoError(t, err, said)
		missing += n
	}
	assert.Equal(t, lines-whole, missing)
}

// TestALogThatIsGone: standard error that nobody reads any more does not end the process, by SIGPIPE
// neither.
func TestALogThatIsGone(t *testing.T) {
	const child, status = "JAIL_TEST_LOG_IS_GONE", 7
	if os.Getenv(child) != "" {
		l := NewLog(os.Stderr)
		_, _ = io.WriteString(l, "x\n")
		l.Close()
		os.Exit(status)
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	defer w.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestALogThatIsGone$")
	cmd.Env, cmd.Stderr = append(os.Environ(), child+"=1"), w
	var ended *exec.ExitError
	require.ErrorAs(t, cmd.Run(), &ended)
	assert.Equal(t, status, ended.ExitCode(), ended)
}
