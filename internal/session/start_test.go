package session

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/needs"
	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// inHost is a jail with passwd and group of its own whose /dev, terminals and programs are
// the host's, so that a session can be started without a namespace.
func inHost(t *testing.T, files map[string]string) *Jail {
	t.Helper()
	uid, gid := os.Getuid(), os.Getgid()
	if files == nil {
		files = map[string]string{}
	}
	if _, ok := files["etc/passwd"]; !ok {
		files["etc/passwd"] = fmt.Sprintf("me:x:%d:%d::/:/bin/sh\n", uid, gid)
	}
	j, _ := tree(t, files)
	open := func(path string) int {
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { syscall.Close(fd) })
		return fd
	}
	j.Dev, j.Pts = open("/dev"), open("/dev/pts")
	j.Agent.FD, j.X11.FD, j.Auth.FD = -1, -1, -1
	j.HardFiles, j.NoSetgroups = 4096, uid != 0
	return j
}

// started starts a session and waits for its end.
func started(t *testing.T, j *Jail, r wire.Request, fds ...int) (syscall.WaitStatus, string, *Refusal) {
	t.Helper()
	s := NewSlot()
	defer s.Free()
	s.Req = r
	p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer sys.CloseAll(p[:])
	var m sys.MsgBuf
	require.NoError(t, sys.SendMsg(p[0], []byte("request"), fds, true, &m))
	st, refusal := j.Start(s, &wire.Identity{UID: uint32(os.Getuid())}, p[1])
	if refusal == nil && st.Typing {
		assert.Zero(t, st.PID)
		await(t, st.Master)
		refusal = j.Typed(s, &st, nil)
	}
	out := ""
	if st.Master >= 0 {
		defer sys.Close(st.Master)
		deadline := time.AfterFunc(20*time.Second, func() { _ = syscall.Kill(st.PID, syscall.SIGKILL) })
		defer deadline.Stop()
		for refusal == nil {
			var buf [4096]byte
			n, err := syscall.Read(st.Master, buf[:])
			if n <= 0 || err != nil {
				break
			}
			out += string(buf[:n])
		}
	}
	if refusal != nil {
		return 0, out, refusal
	}
	defer sys.Close(st.PIDFD)
	var ws syscall.WaitStatus
	_, err = syscall.Wait4(st.PID, &ws, 0, nil)
	require.NoError(t, err)
	require.False(t, s.Child.Pending())
	return ws, out, nil
}

func TestStart(t *testing.T) {
	pipes := [3]wire.Stdio{wire.StdioPassed, wire.StdioPassed, wire.StdioPassed}
	tty := [3]wire.Stdio{wire.StdioTTY, wire.StdioTTY, wire.StdioTTY}
	do := func(text string) [][]byte { return [][]byte{cbytes("-c"), cbytes(text)} }

	t.Run("a command on pipes", func(t *testing.T) {
		j := inHost(t, nil)
		r, w, err := sys.Pipe()
		require.NoError(t, err)
		defer sys.Close(r)
		ws, _, refusal := started(t, j, wire.Request{Stdio: pipes, Args: do("echo $0 $USER $HOME; ulimit -Hn; exit 7")}, r, w, w)
		sys.Close(w)
		require.Nil(t, refusal)
		assert.Equal(t, 7, ws.ExitStatus())
		var buf [256]byte
		n, err := sys.Read(r, buf[:])
		require.NoError(t, err)
		assert.Equal(t, "sh me /\n4096\n", string(buf[:n]))
	})
	t.Run("descriptors that are no pipes", func(t *testing.T) {
		null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		require.NoError(t, err)
		defer sys.Close(null)
		ws, _, refusal := started(t, inHost(t, nil), wire.Request{Stdio: pipes, Args: do("exit 7")}, null, null, null)
		require.Nil(t, refusal)
		assert.Equal(t, sys.ChildNoFDs, ws.ExitStatus())
	})
	t.Run("without any", func(t *testing.T) {
		ws, _, refusal := started(t, inHost(t, nil), wire.Request{Args: do(`[ /dev/null -ef /proc/self/fd/1 ]`)})
		require.Nil(t, refusal)
		assert.Zero(t, ws.ExitStatus())
	})
	t.Run("a login shell on a terminal", func(t *testing.T) {
		shell := fmt.Sprintf("me:x:%d:%d::/nowhere:/bin/echo\n", os.Getuid(), os.Getgid())
		j := inHost(t, map[string]string{"etc/passwd": shell, "etc/motd": "of the day"})
		ws, out, refusal := started(t, j, wire.Request{
			Flags: wire.FlagLogin, Stdio: tty, Winsize: wire.Winsize{Rows: 7, Cols: 9},
			Env: [][]byte{cbytes("SSH_CONNECTION=1.2.3.4 5 6.7.8.9 22"), cbytes("TERM=xterm")},
		})
		require.Nil(t, refusal)
		assert.Zero(t, ws.ExitStatus())
		assert.Equal(t, "of the day\r\nCould not chdir to home directory /nowhere: No such file or directory\r\n\r\n", out)
	})
	t.Run("a command on a terminal", func(t *testing.T) {
		_, out, refusal := started(t, inHost(t, nil), wire.Request{Stdio: tty, Winsize: wire.Winsize{Rows: 7, Cols: 9}, Args: do("stty size; [ $(tty) = $SSH_TTY ] && echo $0")})
		require.Nil(t, refusal)
		assert.Equal(t, "7 9\r\nsh\r\n", out)
	})
	t.Run("a command on a terminal with something typed", func(t *testing.T) {
		_, out, refusal := started(t, inHost(t, nil), wire.Request{Flags: wire.FlagTyped, Stdio: tty, Typed: []byte("abc\n"), Args: do("read x; echo got $x")})
		require.Nil(t, refusal)
		assert.Equal(t, "got abc\r\n", out)
	})
	t.Run("a terminal that is not typed into in time", func(t *testing.T) {
		j, s := inHost(t, nil), NewSlot()
		defer s.Free()
		before, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		s.Req = wire.Request{Flags: wire.FlagTyped, Stdio: tty, Typed: []byte("abc\n"), Args: do("true")}
		st, refusal := j.Start(s, &wire.Identity{UID: uint32(os.Getuid())}, -1)
		require.Nil(t, refusal)
		require.True(t, st.Typing)
		assert.NotNil(t, j.Typed(s, &st, syscall.ETIMEDOUT))
		assert.Zero(t, st.PID)
		sys.Close(st.Master)
		after, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		assert.Equal(t, len(before), len(after))
	})
	for claim, tt := range map[string]struct {
		files   map[string]string
		sftp    wire.SFTP
		command string
		want    Refusal
	}{
		"nobody":                {map[string]string{"etc/passwd": ""}, wire.SFTPAuto, "true", Refusal{125, "has no entry in the jail's /etc/passwd"}},
		"a passwd that is none": {map[string]string{"etc/passwd": "->/dev/null"}, wire.SFTPAuto, "true", Refusal{125, "has no entry"}},
		"a group that is none":  {map[string]string{"etc/group/": ""}, wire.SFTPAuto, "true", Refusal{125, "cannot read /etc/group of the jail: it is not a regular file"}},
		"no sftp":               {nil, wire.SFTPOff, "internal-sftp", Refusal{126, "switched off"}},
		"none of the rootfs's":  {nil, wire.SFTPRootfs, "internal-sftp", Refusal{127, "there is no sftp-server in this jail"}},
		"none built in":         {nil, wire.SFTPBuiltin, "internal-sftp", Refusal{127, "was not installed on the host"}},
	} {
		t.Run(claim, func(t *testing.T) {
			j := inHost(t, tt.files)
			j.SFTP = tt.sftp
			_, _, refusal := started(t, j, wire.Request{Args: do(tt.command)})
			require.NotNil(t, refusal)
			assert.Equal(t, tt.want.Status, refusal.Status)
			assert.Contains(t, refusal.Text, tt.want.Text)
		})
	}
}

// What hushes a login is looked for with the user's rights: what root alone can find is
// not the user's to have put there.
func TestHushloginIsTheUsers(t *testing.T) {
	needs.Root(t, "it opens files as another")
	runtime.LockOSThread() // fsuid is the thread's
	defer runtime.UnlockOSThread()
	j, root := tree(t, map[string]string{"home/bob/.hushlogin": "", "home/eve/.hushlogin": "", "home/joe/": ""})
	for d := root; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	require.NoError(t, os.Chown(filepath.Join(root, "home/bob"), 4242, 4242))
	for _, name := range []string{"bob", "eve"} {
		require.NoError(t, os.Chmod(filepath.Join(root, "home", name), 0o700))
	}
	for name, want := range map[string]bool{"bob": true, "eve": false, "joe": false} {
		assert.Equal(t, want, j.hush(&passwd.Entry{Name: name, UID: 4242, GID: 4242, Home: "/home/" + name}), name)
	}
}

// TestManyDescriptors: a child that makes its own table of descriptors finds there what it
// needs, whatever its parent has done by then. Both are on one processor, so that the
// parent is mostly the first.
func TestManyDescriptors(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &all))
	for i := range 1024 {
		if all.IsSet(i) {
			one.Set(i)
			break
		}
	}
	require.NoError(t, unix.SchedSetaffinity(0, &one))
	defer func() { require.NoError(t, unix.SchedSetaffinity(0, &all)) }()
	j := inHost(t, nil)
	s := NewSlot()
	defer s.Free()
	later := 0
	for range 100 {
		s.FilesBelow = 4096
		s.Req = wire.Request{
			Stdio: [3]wire.Stdio{wire.StdioTTY, wire.StdioNull, wire.StdioTTY},
			Args:  [][]byte{cbytes("-c"), cbytes(`[ -t 0 ] && [ /dev/null -ef /proc/self/fd/1 ] && exit 7`)},
		}
		st, refusal := j.Start(s, &wire.Identity{UID: uint32(os.Getuid())}, -1)
		require.Nil(t, refusal)
		held := s.ends
		if held != (ends{}) {
			later++
		}
		var ws syscall.WaitStatus
		_, err := syscall.Wait4(st.PID, &ws, 0, nil)
		require.NoError(t, err)
		assert.Equal(t, 7, ws.ExitStatus())
		sys.CloseAll([]int{st.Master, st.PIDFD})
		assert.True(t, s.Settle())
		assert.Equal(t, ends{}, s.ends)
		if held.slave > 0 {
			_, err = sys.Fcntl(held.slave, syscall.F_GETFD, 0)
			assert.Equal(t, syscall.EBADF, err)
		}
	}
	t.Logf("the parent was first %d times", later)
}
