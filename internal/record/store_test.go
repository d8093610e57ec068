package record

import (
	"bytes"
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
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func line(n int) []byte {
	e := Entry{Version: Version, Time: noon, Event: SessionStarted, Jail: "web", Count: uint64(n)}
	return e.append(nil)
}

// counts reads what line has written, and the damage.
func counts(t *testing.T, s *Store) (list []int, damage []string) {
	t.Helper()
	require.NoError(t, s.Read("web", func(e *Entry) bool { list = append(list, int(e.Count)); return true }, func(d *Damage) {
		damage = append(damage, strings.TrimPrefix(d.Error(), s.dir+"/jails/"))
	}))
	return list, damage
}

func TestStoreIsForItsOwnerAlone(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	s := Open(filepath.Join(t.TempDir(), "jail"))
	list, _ := counts(t, s)
	assert.Empty(t, list, "nothing is there yet")
	names, err := s.Jails()
	require.NoError(t, err)
	assert.Empty(t, names)
	require.NoError(t, s.Append("web", line(1)))
	require.NoError(t, s.Append("", line(2)))
	for path, want := range map[string]os.FileMode{"": 0o700 | os.ModeDir, "jails": 0o700 | os.ModeDir, "jails/web.jsonl": 0o600, "host.jsonl": 0o600} {
		info, err := os.Stat(filepath.Join(s.dir, path))
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode(), path)
	}
	names, err = s.Jails()
	require.NoError(t, err)
	assert.Equal(t, []string{"web"}, names)
}

// TestStoreIsBounded: the oldest go, and only the jail's own.
func TestStoreIsBounded(t *testing.T) {
	s := Open(t.TempDir())
	s.maxFile = int64(10 * len(line(10)))
	require.NoError(t, s.Append("quiet", line(1)))
	for n := range 1000 {
		require.NoError(t, s.Append("web", line(n)))
	}
	files, err := filepath.Glob(s.dir + "/jails/web.jsonl*")
	require.NoError(t, err)
	assert.Len(t, files, Kept+1)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		assert.LessOrEqual(t, info.Size(), s.maxFile)
	}
	list, damage := counts(t, s)
	assert.Empty(t, damage)
	require.Greater(t, len(list), 10*(Kept-1))
	for i, n := range list {
		assert.Equal(t, 1000-len(list)+i, n)
	}
	assert.FileExists(t, s.path("quiet"))
}

func TestDamageIsNamedAndTheRestRead(t *testing.T) {
	for claim, tt := range map[string]struct {
		in     string
		want   []int
		damage []string
	}{
		"nonsense in the middle": {string(line(1)) + "{{{\n" + string(line(2)), []int{1, 2}, []string{"web.jsonl:2: is no entry"}},
		"half a line":            {string(line(1)) + string(line(2)[:20]) + "\n" + string(line(3)), []int{1, 3}, []string{"web.jsonl:2: is no entry"}},
		"zeros, of a crash":      {string(line(1)) + strings.Repeat("\x00", 5000) + "\n" + string(line(2)), []int{1, 2}, []string{"web.jsonl:2: is no entry"}},
		"1 MiB without an end":   {string(line(1)) + strings.Repeat("x", 1<<20) + "\n" + string(line(2)), []int{1, 2}, []string{"web.jsonl:2: is no entry"}},
		"1 MiB and no end":       {string(line(1)) + strings.Repeat("x", 1<<20), []int{1}, []string{"web.jsonl:2: is no entry"}},
		"JSON that is no entry":  {"7\n[]\n{}\n" + `{"v":1,"event":"x"}` + "\n" + string(line(1)), []int{1}, []string{"web.jsonl:1: is no entry", "web.jsonl:2: is no entry", "web.jsonl:3: is no entry", "web.jsonl:4: is no entry"}},
		"of another version":     {strings.Replace(string(line(1)), `"v":1`, `"v":2`, 1) + string(line(2)), []int{2}, []string{"web.jsonl:1: is of another version of the format"}},
		"one being written":      {string(line(1)) + string(line(2)[:20]), []int{1}, nil},
		"empty lines":            {"\n\n" + string(line(1)) + "\n", []int{1}, nil},
		"nothing":                {"", nil, nil},
	} {
		s := Open(t.TempDir())
		require.NoError(t, os.Mkdir(filepath.Join(s.dir, "jails"), 0o700))
		require.NoError(t, os.WriteFile(s.path("web"), []byte(tt.in), 0o600))
		list, damage := counts(t, s)
		assert.Equal(t, tt.want, list, claim)
		assert.Equal(t, tt.damage, damage, claim)

		// What comes after it is a line of its own.
		require.NoError(t, s.Append("web", line(9)))
		list, _ = counts(t, s)
		require.NotEmpty(t, list, claim)
		assert.Equal(t, 9, list[len(list)-1], claim)
	}
}

// TestReadersWhileItRotates: each entry is read once, by two readers beside two writers.
func TestReadersWhileItRotates(t *testing.T) {
	s := Open(t.TempDir())
	s.maxFile = int64(200 * len(line(10)))
	const most = 600 // fewer than are thrown away
	require.NoError(t, s.Append("web", line(0)))
	var writers, readers sync.WaitGroup
	var mu sync.Mutex
	next := 1
	for range 2 {
		writers.Go(func() {
			other := Open(s.dir).withMax(s.maxFile) // as another program has
			for {
				mu.Lock()
				n := next
				next++
				if n < most {
					assert.NoError(t, other.Append("web", line(n)))
				}
				mu.Unlock()
				if n >= most {
					return
				}
			}
		})
	}
	over := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				list, damage := counts(t, s)
				assert.Empty(t, damage)
				for i, n := range list {
					if !assert.Equal(t, i, n) {
						return
					}
				}
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(over)
	readers.Wait()
	list, _ := counts(t, s)
	assert.Len(t, list, most)
}

// TestFilesAreRenamedWhileTheyAreOpened: none is missed, read twice, or out of its order.
func TestFilesAreRenamedWhileTheyAreOpened(t *testing.T) {
	s := Open(t.TempDir())
	for n := range 3 {
		require.NoError(t, s.Append("web", line(n)))
		require.NoError(t, rotate(s.path("web")))
	}
	require.NoError(t, s.Append("web", line(3)))
	reader := Open(s.dir)
	reader.opened = func() {
		reader.opened = nil
		for n := range 3 {
			require.NoError(t, rotate(s.path("web")))
			require.NoError(t, s.Append("web", line(4+n)))
		}
	}
	list, damage := counts(t, reader)
	assert.Empty(t, damage)
	assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6}, list)
}

// TestWritersInTurn: who waits while another makes room writes into the new file.
func TestWritersInTurn(t *testing.T) {
	s := Open(t.TempDir())
	require.NoError(t, s.Append("web", line(1)))
	f, err := s.openLocked(s.path("web"))
	require.NoError(t, err)
	var st syscall.Stat_t
	require.NoError(t, syscall.Fstat(int(f.Fd()), &st))
	written := make(chan error, 1)
	go func() { written <- s.Append("web", line(2)) }()
	require.Eventually(t, func() bool {
		locks, err := os.ReadFile("/proc/locks") // proc_locks(5)
		require.NoError(t, err)
		for l := range strings.Lines(string(locks)) {
			if strings.Contains(l, "->") && strings.Contains(l, fmt.Sprintf(":%d ", st.Ino)) {
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, rotate(s.path("web")))
	require.NoError(t, s.Append("web", line(3)))
	f.Close()
	require.NoError(t, <-written)
	text, err := os.ReadFile(s.path("web"))
	require.NoError(t, err)
	assert.Equal(t, string(line(3))+string(line(2)), string(text))
}

// TestWritersAtOnce: two that write at once lose nothing.
func TestWritersAtOnce(t *testing.T) {
	s := Open(t.TempDir())
	s.maxFile = int64(100 * len(line(100)))
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for n := range 300 {
				assert.NoError(t, Open(s.dir).withMax(s.maxFile).Append("web", line(1000*(w+1)+n)))
			}
		})
	}
	writers.Wait()
	list, damage := counts(t, s)
	assert.Empty(t, damage)
	assert.Len(t, list, 600)
}

func (s *Store) withMax(n int64) *Store { s.maxFile = n; return s }

// TestNoRoom: what cannot be written whole is not written.
func TestNoRoom(t *testing.T) {
	s := Open(t.TempDir())
	require.NoError(t, s.Append("web", line(1)))
	before, err := os.ReadFile(s.path("web"))
	require.NoError(t, err)
	// RLIMIT_FSIZE is what a full disk is: a write that is cut short (write(2)).
	var lim syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &lim))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(len(before) + 10), Max: lim.Max}))
	err = s.Append("web", bytes.Repeat(line(2), 3))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &lim))
	require.Error(t, err)
	after, err := os.ReadFile(s.path("web"))
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
}

// TestNothingElseIsOpened: the names are followed nowhere, and nobody waits for a FIFO.
func TestNothingElseIsOpened(t *testing.T) {
	for claim, make := range map[string]func(path string) error{
		"a link":      func(path string) error { return os.Symlink(filepath.Join(filepath.Dir(path), "there"), path) },
		"a FIFO":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		s := Open(t.TempDir())
		require.NoError(t, os.Mkdir(filepath.Join(s.dir, "jails"), 0o700))
		require.NoError(t, make(s.path("web")))
		assert.Error(t, s.Append("web", line(1)), claim)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(append(line(1), line(2)...))
	f.Add([]byte("{\"v\":1}\n\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := Open(t.TempDir())
		if err := os.Mkdir(filepath.Join(s.dir, "jails"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path("web"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Read("web", func(e *Entry) bool { return e.Event != "" }, func(d *Damage) { _ = fmt.Sprint(d) }); err != nil {
			t.Fatal(err)
		}
	})
}
