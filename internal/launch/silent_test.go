package launch_test

import (
	"bytes"
	"encoding/binary"
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

	"jail/internal/cgroup"
	"jail/internal/jail"
	"jail/internal/launch"
)

// silent is a file system that stops answering (linux/fuse.h).
type silent struct {
	dir string
	// attributes and directories are answered until one is asked for.
	until  uint32
	hushed bool

	mu      sync.Mutex
	fd      int
	pending [][]byte
}

// speak answers what has been asked meanwhile, and what will be.
func (s *silent) speak() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hushed, s.until = false, 0
	for _, request := range s.pending {
		s.answer(request)
	}
}

const (
	fuseLookup  = 1
	fuseGetattr = 3
	fuseInit    = 26
	fuseOpendir = 27
)

// newSilent mounts a file system that answers everything but one kind of request, and
// from the first of that kind on nothing at all.
func newSilent(t *testing.T, until uint32) *silent {
	t.Helper()
	s := &silent{dir: t.TempDir(), until: until}
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	require.NoError(t, err, "FUSE is needed: modprobe fuse")
	require.NoError(t, syscall.Mount("silent", s.dir, "fuse", syscall.MS_NOSUID|syscall.MS_NODEV,
		fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)))
	t.Cleanup(s.end)
	s.fd = fd
	go s.serve(fd)
	return s
}

// end ends what waits for an answer with an error (umount(2), MNT_FORCE).
func (s *silent) end() {
	_ = syscall.Unmount(s.dir, syscall.MNT_FORCE)
	_ = syscall.Unmount(s.dir, syscall.MNT_DETACH)
}

func (s *silent) serve(fd int) {
	defer syscall.Close(fd)
	buf := make([]byte, 1<<20)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		s.mu.Lock()
		if binary.LittleEndian.Uint32(buf[4:]) == s.until {
			s.hushed = true
		}
		if s.hushed {
			s.pending = append(s.pending, bytes.Clone(buf[:n]))
		} else {
			s.answer(buf[:n])
		}
		s.mu.Unlock()
	}
}

func (s *silent) answer(request []byte) {
	le := binary.LittleEndian
	errno := syscall.Errno(0)
	var body []byte
	switch le.Uint32(request[4:]) {
	case fuseInit:
		body = le.AppendUint32(le.AppendUint32(nil, 7), 22) // an old version has a short answer
		body = append(body, make([]byte, 8)...)
		body = le.AppendUint32(body, 16|12<<16)
		body = le.AppendUint32(body, 4096)
	case fuseGetattr:
		body = make([]byte, 16+88)
		le.PutUint64(body[16:], 1)          // ino
		le.PutUint32(body[16+60:], 0o40755) // mode
		le.PutUint32(body[16+64:], 2)       // nlink
	case fuseOpendir:
		body = make([]byte, 16)
	default:
		errno = syscall.ENOSYS
	}
	answer := le.AppendUint32(nil, uint32(16+len(body)))
	answer = le.AppendUint32(answer, uint32(-int32(errno)))
	answer = append(answer, request[8:16]...) // unique
	_, _ = syscall.Write(s.fd, append(answer, body...))
}

// TestFileSystemThatDoesNotAnswer: a start that needs one is given up, at whatever point,
// and says what it waits for. Others start meanwhile; the same jail does not try again
// before that is over, so that nothing piles up; and nothing is left then.
func TestFileSystemThatDoesNotAnswer(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	l, err := launch.New(cgroup.Alone, program)
	require.NoError(t, err)
	l.SetDeadline(500 * time.Millisecond)
	other := newSpec(newRootfs(t), true)
	other.Name, other.Userns = "neighbour", testRange(1)
	for claim, c := range map[string]struct {
		until  uint32
		mount  bool
		userns bool
		speaks bool // again, later
		says   string
	}{
		"the rootfs is looked at":                      {fuseGetattr, false, true, false, "%s: its file system does not answer"},
		"the rootfs is opened":                         {fuseOpendir, false, true, false, "%s: its file system does not answer"},
		"the source of a mount that answers after all": {fuseGetattr, true, true, true, "%s: its file system does not answer"},
		"the source of a mount":                        {fuseGetattr, true, true, false, "%s: its file system does not answer"},
		"PID 1 looks for a directory in rootfs":        {fuseLookup, false, false, false, "PID 1 is not ready in time"},
	} {
		t.Run(claim, func(t *testing.T) {
			fds := func() int {
				list, err := os.ReadDir("/proc/self/fd")
				require.NoError(t, err)
				return len(list)
			}
			before := fds()
			fs := newSilent(t, c.until)
			spec := newSpec(newRootfs(t), c.userns)
			if c.mount {
				spec.Mounts = []jail.Mount{{Source: fs.dir, Target: "/mnt"}}
			} else {
				spec.Source.Path = fs.dir
			}
			_, err := startWith(t, l, spec)
			require.ErrorContains(t, err, strings.ReplaceAll(c.says, "%s", fs.dir))
			for range 3 {
				_, err = startWith(t, l, spec)
				require.ErrorContains(t, err, "an earlier start is not over")
				require.ErrorContains(t, err, "does not answer")
			}
			t.Run("others start", func(t *testing.T) {
				j, err := startWith(t, l, other)
				require.NoError(t, err)
				assert.Equal(t, "alive\n", j.out("echo alive"))
			})
			if c.speaks {
				fs.speak()
			} else {
				fs.end()
			}
			t.Run("and this one, when that is over", func(t *testing.T) {
				for end := time.Now().Add(shortWait); ; time.Sleep(10 * time.Millisecond) {
					_, err := startWith(t, l, spec)
					if err == nil || !strings.Contains(err.Error(), "earlier start") {
						break // what it is called now is the empty directory below
					}
					require.True(t, time.Now().Before(end), "%v", err)
				}
			})
			fs.end()
			assert.Eventually(t, func() bool { return fds() <= before }, shortWait, 10*time.Millisecond, "no descriptor is left")
			children, err := filepath.Glob("/proc/self/task/*/children")
			require.NoError(t, err)
			assert.Eventually(t, func() bool {
				left := ""
				for _, f := range children {
					text, _ := os.ReadFile(f)
					left += string(text)
				}
				return left == ""
			}, shortWait, 10*time.Millisecond, "no process is left")
		})
	}
}
