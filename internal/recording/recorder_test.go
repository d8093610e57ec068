package recording

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/fdsock"
	"jail/internal/sys"
	"jail/internal/wire"
)

// running recorder of a test.
type recorded struct {
	*Recorder
	t    *testing.T
	dir  string
	path string
	ln   *os.File
	done chan struct{}

	mu  sync.Mutex
	log []string
}

// record starts a recorder for the caller's uid, which is bob in jail debian.
func record(t *testing.T, who Subject) *recorded {
	t.Helper()
	return recordBy(t, func(uid uint32) (Subject, error) {
		assert.EqualValues(t, os.Getuid(), uid)
		return who, nil
	})
}

// recordBy is record with somebody who says whose connection it is.
func recordBy(t *testing.T, who func(uid uint32) (Subject, error)) *recorded {
	t.Helper()
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	run, err := os.MkdirTemp("/tmp", "jr") // a socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(run) })
	fd, err := fdsock.ListenRecorder(fdsock.RecorderPath(run))
	require.NoError(t, err)
	r := &recorded{t: t, dir: filepath.Join(t.TempDir(), "d"), path: fdsock.RecorderPath(run), ln: os.NewFile(uintptr(fd), "listener"), done: make(chan struct{})}
	r.Recorder = New(r.dir, func(format string, args ...any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.log = append(r.log, fmt.Sprintf(format, args...))
	})
	r.Who = who
	go func() { defer close(r.done); assert.NoError(t, r.Serve(r.ln)) }()
	t.Cleanup(r.end)
	return r
}

func (r *recorded) end() {
	r.ln.Close()
	select {
	case <-r.done:
	case <-time.After(10 * time.Second):
		r.t.Error("the recorder does not end")
	}
}

func (r *recorded) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.log, "\n")
}

// session is a connection on which these packets are sent.
func (r *recorded) session(packets ...[]byte) int {
	r.t.Helper()
	fd, e := sys.ConnectAt(syscall.SOCK_SEQPACKET, []byte(r.path))
	require.Zero(r.t, e)
	require.NoError(r.t, syscall.SetNonblock(fd, false))
	var m sys.MsgBuf
	for _, p := range packets {
		if sys.SendMsg(fd, p, nil, true, &m) != nil {
			break // it has been thrown out
		}
	}
	return fd
}

// whole is a session that has ended, and been recorded.
func (r *recorded) whole(packets ...[]byte) {
	r.t.Helper()
	r.over(r.session(packets...))
}

// over ends a session, and waits until the recorder has seen that.
func (r *recorded) over(fd int) {
	r.t.Helper()
	defer sys.Close(fd)
	sys.ShutdownWrite(fd)
	n, err := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}, 10_000)
	require.NoError(r.t, err)
	require.Equal(r.t, 1, n)
	require.Eventually(r.t, func() bool { return !r.busy() }, 10*time.Second, time.Millisecond)
}

func (r *recorded) files() (list []string) {
	list, err := filepath.Glob(r.dir + "/*/*.cast")
	require.NoError(r.t, err)
	return list
}

func begin(input bool) []byte {
	return wire.AppendRecord(nil, &wire.Record{Input: input, Rows: 24, Cols: 80, PID: 7, Term: []byte("xterm")})
}

func out(text string) []byte { return wire.AppendRecorded(nil, wire.TypeOutput, []byte(text)) }

func in(text string) []byte { return wire.AppendRecorded(nil, wire.TypeInput, []byte(text)) }

// shown is what is in a file, in short.
func shown(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	events, damaged := all(t, string(text))
	require.Zero(t, damaged)
	var b strings.Builder
	for _, ev := range events {
		fmt.Fprintf(&b, "%c %s\n", ev.Kind, ev.Data)
	}
	return b.String()
}

func TestRecorder(t *testing.T) {
	bob := Subject{Jail: "debian", Login: "bob", Record: true, Input: true}
	r := record(t, bob)
	fd := r.session(begin(true), out("a"), in("b"), wire.AppendResize(nil, 30, 100), wire.AppendDropped(nil, 5), out("c"))
	require.Eventually(t, func() bool {
		list, err := List(r.dir, "")
		return err == nil && len(list) == 1 && list[0].Running && strings.Contains(shown(t, list[0].Path), "o c\n")
	}, 10*time.Second, time.Millisecond)
	r.over(fd)
	list, err := List(r.dir, "bob")
	require.NoError(t, err)
	require.Len(t, list, 1)
	i := list[0]
	assert.False(t, i.Running)
	assert.Equal(t, "debian bob", i.Jail+" "+i.Login)
	assert.WithinDuration(t, time.Now(), i.Began, time.Minute)
	assert.Contains(t, i.ID, fmt.Sprintf("-%d", os.Getpid()), "by the kernel's word")
	assert.Equal(t, "o a\ni b\nr 100x30\nm 5 bytes are missing here: the recorder was too slow\no c\n", shown(t, i.Path))
	assert.Contains(t, r.said(), "5 bytes were dropped")
	f, err := os.Open(i.Path)
	require.NoError(t, err)
	defer f.Close()
	c, err := NewReader(f)
	require.NoError(t, err)
	assert.Equal(t, Header{
		Version: 2, Width: 80, Height: 24, Timestamp: c.Header.Timestamp, Title: "bob in debian", Env: map[string]string{"TERM": "xterm"},
		Jail: "debian", Login: "bob", HostUID: uint32(os.Getuid()), PID: os.Getpid(), PIDInside: 7, Input: true,
	}, c.Header)
	for path, mode := range map[string]os.FileMode{i.Path: 0o600, filepath.Dir(i.Path): 0o700} {
		st, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, mode, st.Mode().Perm())
	}
	for name, want := range map[string]string{i.ID: i.ID, "bob": i.ID, i.ID[:12]: i.ID, "alice": "", "": "", "..": ""} {
		got, err := Find(r.dir, name)
		assert.Equal(t, want, got.ID, name)
		assert.Equal(t, want == "", err != nil, name)
	}
	list, err = List(r.dir, "alice")
	require.NoError(t, err)
	assert.Empty(t, list)
}

// TestRecorderBelievesNobody: what is said out of turn, or not meant to be recorded, is not.
func TestRecorderBelievesNobody(t *testing.T) {
	bob := Subject{Jail: "debian", Login: "bob", Record: true}
	for claim, c := range map[string]struct {
		who     Subject
		packets [][]byte
		want    []string
	}{
		"not recorded":             {Subject{Jail: "debian", Login: "bob"}, [][]byte{begin(false), out("a")}, nil},
		"nothing":                  {bob, nil, nil},
		"no beginning":             {bob, [][]byte{out("a")}, nil},
		"two beginnings":           {bob, [][]byte{begin(false), out("a"), begin(false), out("b")}, []string{"o a\n"}},
		"input nobody asked for":   {bob, [][]byte{begin(true), out("a"), in("secret"), out("b")}, []string{"o a\n"}},
		"another message":          {bob, [][]byte{begin(false), out("a"), wire.AppendSignal(nil, wire.Signal{Number: 9}), out("b")}, []string{"o a\n"}},
		"a flag":                   {bob, [][]byte{begin(false), {wire.Version, byte(wire.TypeOutput), 1, 0, 'x'}, out("b")}, []string{""}},
		"too long":                 {bob, [][]byte{begin(false), out(strings.Repeat("x", wire.MaxRecorded+1)), out("b")}, []string{""}},
		"the longest":              {bob, [][]byte{begin(false), out(strings.Repeat("x", wire.MaxRecorded))}, []string{"o " + strings.Repeat("x", wire.MaxRecorded) + "\n"}},
		"an empty packet":          {bob, [][]byte{begin(false), out("a"), {}, out("b")}, []string{"o a\n"}},
		"a name that is no folder": {Subject{Jail: "debian", Login: "../../x", Record: true}, [][]byte{begin(false), out("a")}, []string{"o a\n"}},
	} {
		r := record(t, c.who)
		r.whole(c.packets...)
		var got []string
		for _, f := range r.files() {
			got = append(got, shown(t, f))
		}
		assert.Equal(t, c.want, got, claim)
		outside, err := os.ReadDir(filepath.Dir(r.dir))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(outside), 1, claim)
		r.end()
	}
}

func TestRecorderIsBounded(t *testing.T) {
	bob := Subject{Jail: "debian", Login: "bob", Record: true}
	chunk := out(strings.Repeat("x", wire.MaxRecorded))
	t.Run("one recording", func(t *testing.T) {
		r := record(t, bob)
		r.store.one = 1 << 20
		packets := [][]byte{begin(false)}
		for range 100 {
			packets = append(packets, chunk)
		}
		r.whole(packets...)
		st, err := os.Stat(r.files()[0])
		require.NoError(t, err)
		assert.Less(t, st.Size(), int64(1<<20+64<<10))
		assert.True(t, strings.HasSuffix(shown(t, r.files()[0]), "m the recording ends here, there is no room for more of it\n"))
		assert.Contains(t, r.said(), "ends before its session")
	})
	t.Run("all of a login, the oldest go", func(t *testing.T) {
		r := record(t, bob)
		r.store.login = 1200 << 10
		require.NoError(t, os.MkdirAll(r.dir+"/alice", 0o700))
		require.NoError(t, os.WriteFile(r.dir+"/alice/19990101T000000-1.cast", []byte(strings.Repeat("x", 2<<20)), 0o600))
		require.NoError(t, os.MkdirAll(r.dir+"/bob", 0o700))
		for _, id := range []string{"20000101T000000-1", "20010101T000000-1"} {
			require.NoError(t, os.WriteFile(r.dir+"/bob/"+id+".cast", []byte(strings.Repeat("x", 400<<10)), 0o600))
		}
		busy, err := os.OpenFile(r.dir+"/bob/20000101T000000-1.cast", os.O_RDONLY, 0)
		require.NoError(t, err)
		defer busy.Close()
		require.NoError(t, syscall.Flock(int(busy.Fd()), syscall.LOCK_EX))
		r.whole(begin(false), out("a"))
		require.Len(t, r.files(), 3+1, "there is room for a while: 800 KiB")
		require.NoError(t, os.WriteFile(r.dir+"/bob/20020101T000000-1.cast", []byte(strings.Repeat("x", 400<<10)), 0o600))
		r.whole(begin(false), out("b"))
		ids := ""
		for _, f := range r.files() {
			ids += filepath.Base(f)[:4] + " "
		}
		assert.Contains(t, ids, "1999 2000 2002 ", "another's stay, and what is being written")
		assert.NotContains(t, ids, "2001")
		assert.Contains(t, r.said(), "recording 20010101T000000-1 of login bob was removed")
	})
	t.Run("how many there are", func(t *testing.T) {
		r := record(t, bob)
		r.store.files = 3
		for range 6 {
			r.whole(begin(false), out("a"))
		}
		assert.LessOrEqual(t, len(r.files()), 4)
	})
	t.Run("how many at once", func(t *testing.T) {
		r := record(t, bob)
		r.mu.Lock()
		r.of["bob"] = maxOfLogin
		r.mu.Unlock()
		r.whole(begin(false), out("a"))
		assert.Empty(t, r.files())
		assert.Contains(t, r.said(), "is not recorded")
	})
}

// TestRecorderWithoutRoom: a disk that is full is said once in the log, and in the recording where there is
// room again.
func TestRecorderWithoutRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.cast")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	said := 0
	r := New(t.TempDir(), func(string, ...any) { said++ })
	c := cast{recorder: r, who: Subject{Login: "bob", folder: "bob"}, file: f, began: time.Now()}
	require.True(t, c.put([]byte(headerLine)))
	c.event(Output, []byte("a"))
	c.file = full
	c.event(Output, []byte("b"))
	c.event(Output, []byte("c"))
	c.file = f
	c.event(Output, []byte("d"))
	c.close()
	assert.Equal(t, 1, said)
	assert.Regexp(t, `^o a\nm \d+ bytes are missing here: the file could not be written\no d\n$`, shown(t, path))
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	s := store{dir: dir, login: MaxLogin, files: MaxFiles, one: MaxRecording}
	f, id, err := s.create("bob", time.Now(), 1, []byte(headerLine))
	require.NoError(t, err)
	_, again, err := s.create("bob", time.Now(), 1, []byte(headerLine))
	require.NoError(t, err)
	assert.NotEqual(t, id, again)
	i, err := Find(dir, id)
	require.NoError(t, err)
	assert.True(t, i.Running)
	r, err := i.Open(true)
	require.NoError(t, err)
	defer r.Close()
	c, err := NewReader(r)
	require.NoError(t, err)
	go func() {
		_, _ = f.WriteString(`[1, "o", "hal`)
		time.Sleep(2 * followPause)
		_, _ = f.WriteString("f\"]\n")
		f.Close()
	}()
	ev, err := c.Next()
	require.NoError(t, err)
	assert.Equal(t, "half", ev.Data)
	_, err = c.Next()
	assert.Error(t, err, "it has ended")
}
