package sys

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// start runs argv with its descriptors 1 and 2 on a pipe and returns the status
// and what came out.
func start(t *testing.T, c *Child, argv ...string) (syscall.WaitStatus, string) {
	t.Helper()
	r, w, err := Pipe()
	require.NoError(t, err)
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	c.FDs = [4]int{null, w, w, -1}
	c.Path = cstr(argv[0])
	for _, a := range argv {
		c.Argv = append(c.Argv, cstr(a))
	}
	c.Argv = append(c.Argv, nil)
	c.Envp = []*byte{nil}
	pid, pidfd, err := Fork(c)
	require.NoError(t, err)
	// The child uses c, and its stack in there, until it has executed.
	defer func() {
		for c.Pending() {
			time.Sleep(time.Millisecond)
		}
	}()
	Close(w)
	Close(null)
	defer Close(pidfd)
	f := os.NewFile(uintptr(r), "pipe")
	defer f.Close()
	var out strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			break
		}
	}
	var ws syscall.WaitStatus
	_, err = syscall.Wait4(pid, &ws, 0, nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !c.Pending() }, 5*time.Second, time.Millisecond, "the memory is free once the child has ended")
	return ws, out.String()
}

func TestForkExecutes(t *testing.T) {
	c := NewChild()
	c.Setsid, c.Umask, c.Dir = true, 0o27, cstr("/usr")
	ws, out := start(t, c, "/bin/sh", "-c", `pwd; umask; echo $0 $1; ls /proc/self/fd | tr '\n' ' '; exit 7`, "zero", "one")
	assert.Equal(t, 7, ws.ExitStatus())
	assert.Equal(t, "/usr\n0027\nzero one\n0 1 2 3 ", out, "descriptor 3 is ls's own")
}

func TestForkTimerSlack(t *testing.T) {
	for set, want := range map[uint64]string{0: "50000\n", 1_234_567: "1234567\n"} {
		c := NewChild()
		c.TimerSlack = set
		_, out := start(t, c, "/bin/cat", "/proc/self/timerslack_ns")
		assert.Equal(t, want, out)
	}
}

// A child with FilesBelow has no copy of what is above, not even before it executes, and
// its parent keeps all; one that uses something above has copies of all.
func TestForkCopiesWhatIsBelow(t *testing.T) {
	const below = 500
	far := func(fd int) int {
		n, err := Fcntl(fd, syscall.F_DUPFD_CLOEXEC, below)
		require.NoError(t, err)
		t.Cleanup(func() { Close(n) })
		return n
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(null)
	first := far(null)
	for range 100 {
		far(null)
	}
	open := func(pid int) (near, above int) {
		entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
		require.NoError(t, err)
		for _, e := range entries {
			if n, err := strconv.Atoi(e.Name()); err == nil && n >= below {
				above++
			} else {
				near++
			}
		}
		return near, above
	}
	for claim, use := range map[string]int{"below": null, "above": first} {
		t.Run(claim, func(t *testing.T) {
			hold, release, err := Pipe()
			require.NoError(t, err)
			c := NewChild()
			c.FilesBelow, c.SyncFD, c.CloseNow = below, hold, true
			c.FDs = [4]int{use, null, null, -1}
			c.Path, c.Argv, c.Envp = cstr("/bin/true"), []*byte{cstr("true"), nil}, []*byte{nil}
			for range 20 { // the same Child, again and again
				pid, pidfd, err := Fork(c)
				require.NoError(t, err)
				for end := time.Now().Add(5 * time.Second); !c.Own() && time.Now().Before(end); {
					time.Sleep(100 * time.Microsecond)
				}
				require.True(t, c.Own())
				near, above := open(pid)
				assert.NotZero(t, near)
				if use == null {
					assert.Zero(t, above)
				} else {
					assert.Equal(t, 101, above)
				}
				_, err = Write(release, []byte{1})
				require.NoError(t, err)
				n, err := Poll([]PollFD{{FD: int32(pidfd), Events: PollIn}}, 5000)
				require.NoError(t, err)
				require.Equal(t, 1, n, "the pidfd is the child's")
				var ws syscall.WaitStatus
				_, err = syscall.Wait4(pid, &ws, 0, nil)
				require.NoError(t, err)
				assert.Zero(t, ws)
				Close(pidfd)
				for c.Pending() {
					time.Sleep(time.Millisecond)
				}
			}
			_, above := open(os.Getpid())
			assert.Equal(t, 101, above, "the parent has what it had")
			threads, err := os.ReadDir("/proc/self/task")
			require.NoError(t, err)
			assert.Less(t, len(threads), 30, "no thread is left")
			Close(hold)
			Close(release)
		})
	}
}

// There is room for another thread where there is room for another process.
func TestRoomForThread(t *testing.T) {
	for range 3 {
		require.NoError(t, RoomForThread())
	}
	needs.Root(t, "to be a user of no other process")
	refused := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends as that user
		var before syscall.Rlimit
		err := syscall.Getrlimit(rlimitNproc, &before)
		if err == nil {
			// It is the process's, but root's other threads are not bound by it.
			err = syscall.Setrlimit(rlimitNproc, &syscall.Rlimit{Cur: 1, Max: before.Max})
		}
		if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, 3_000_000_007, 3_000_000_007, 3_000_000_007); err == nil && e == 0 {
			err = RoomForThread()
		}
		_ = syscall.Setrlimit(rlimitNproc, &before)
		refused <- err
	}()
	assert.Equal(t, syscall.EAGAIN, <-refused)
}

// Own is said of a child that has its own table, and no sooner; one that cannot have it
// ends, and leaves the parent's as it was.
func TestForkSaysWhatItShares(t *testing.T) {
	c := NewChild()
	c.Path, c.Argv, c.Envp = cstr("/bin/true"), []*byte{cstr("true"), nil}, []*byte{nil}
	assert.True(t, c.Own(), "there is none")
	for _, below := range []int{0, 500} {
		c.FilesBelow = below
		c.flags, c.own, c.tid = 0, 0, 1
		assert.False(t, c.Own())
		c.own = 1
		assert.True(t, c.Own())
		c.own, c.tid = 0, 0
		assert.True(t, c.Own(), "it has ended")
		pid, pidfd, err := Fork(c)
		require.NoError(t, err)
		if below == 0 {
			assert.True(t, c.Own(), "it has had one from the beginning")
		}
		var ws syscall.WaitStatus
		_, err = syscall.Wait4(pid, &ws, 0, nil)
		require.NoError(t, err)
		assert.Zero(t, ws)
		Close(pidfd)
		assert.True(t, c.Own())
	}
}

// A child begins with the mask its parent had at the moment of the clone. The init of
// a PID namespace may have nothing blocked then that has no handler (P8).
func TestForkBlocksWhatHasAHandler(t *testing.T) {
	const caught = 1<<(syscall.SIGCHLD-1) | 1<<(syscall.SIGURG-1)
	r, w, err := Pipe()
	require.NoError(t, err)
	defer Close(r)
	defer Close(w)
	c := NewChild()
	c.KeepSignals = ^uint64(caught)
	c.SyncFD = r
	c.Path, c.Argv, c.Envp = cstr("/bin/true"), []*byte{cstr("true"), nil}, []*byte{nil}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own := blocked(t, "thread-self")
	pid, pidfd, err := Fork(c)
	require.NoError(t, err)
	defer Close(pidfd)
	assert.Equal(t, own, blocked(t, "thread-self"), "the caller's mask is as before")
	// The child waits for its byte and has changed nothing.
	assert.Equal(t, own|caught, blocked(t, strconv.Itoa(pid)))
	_, err = Write(w, []byte{1})
	require.NoError(t, err)
	_, err = syscall.Wait4(pid, nil, 0, nil)
	require.NoError(t, err)
	for c.Pending() {
		time.Sleep(time.Millisecond)
	}
}

// blocked returns the signals a process of procfs has blocked.
func blocked(t *testing.T, process string) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/" + process + "/status")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(b), "SigBlk:\t")
	mask, err := strconv.ParseUint(rest[:16], 16, 64)
	require.NoError(t, err)
	return mask
}

// The child writes what does not fit, its parent goes on.
func TestForkGreets(t *testing.T) {
	text := strings.Repeat("0123456789abcde\n", 1<<16) // a pipe holds 64 KiB
	c := NewChild()
	c.Greeting = []byte(text)
	ws, out := start(t, c, "/bin/echo", "done")
	assert.Zero(t, ws.ExitStatus())
	assert.True(t, out == text+"done\n", "%d bytes", len(out))
}

func TestForkSaysWhyLikeSSHD(t *testing.T) {
	c := NewChild()
	c.Dir, c.DirMsg = cstr("/does/not/exist"), []byte("Could not chdir to home directory /does/not/exist: ")
	ws, out := start(t, c, "/bin/sh", "-c", "pwd")
	assert.Zero(t, ws.ExitStatus())
	cwd, _ := os.Getwd()
	assert.Equal(t, "Could not chdir to home directory /does/not/exist: No such file or directory\n"+cwd+"\n", out)

	c = NewChild()
	c.ExecMsg = []byte("/nowhere/sh: ")
	ws, out = start(t, c, "/nowhere/sh")
	assert.Equal(t, 1, ws.ExitStatus())
	assert.Equal(t, "/nowhere/sh: No such file or directory\n", out)
}

func TestForkLeavesSignalsDefault(t *testing.T) {
	SetSignal(int(syscall.SIGUSR2), true)
	defer SetSignal(int(syscall.SIGUSR2), false)
	ws, out := start(t, NewChild(), "/bin/sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status")
	assert.Zero(t, ws.ExitStatus())
	assert.Equal(t, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", out)
}

// TestForkDoesNotWaitForAStoppedChild is the storm of SIGSTOP that freezes a
// vforking parent: a child that is kept from executing holds up nobody else.
func TestForkDoesNotWaitForAStoppedChild(t *testing.T) {
	r, w, err := Pipe()
	require.NoError(t, err)
	defer Close(r)
	stuck := NewChild()
	stuck.SyncFD = r // it waits here, between clone and exec
	stuck.Path, stuck.Argv, stuck.Envp = cstr("/bin/true"), []*byte{cstr("true"), nil}, []*byte{nil}
	var pid, pidfd int
	forked := make(chan struct{})
	go func() {
		pid, pidfd, err = Fork(stuck)
		close(forked)
	}()
	select {
	case <-forked:
	case <-time.After(10 * time.Second):
		_, _ = Write(w, []byte{1}) // or both would wait for ever
		<-forked
		t.Fatal("Fork has waited for what its child does")
	}
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	for i := 0; i < 20; i++ {
		ws, out := start(t, NewChild(), "/bin/echo", "alive")
		assert.Zero(t, ws.ExitStatus())
		assert.Equal(t, "alive\n", out)
	}
	assert.True(t, stuck.Pending())
	require.NoError(t, PidfdSendSignal(pidfd, syscall.SIGKILL))
	_, err = syscall.Wait4(pid, nil, 0, nil)
	require.NoError(t, err)
	assert.Eventually(t, func() bool { return !stuck.Pending() }, 5*time.Second, time.Millisecond)
	Close(pidfd)
	Close(w)
}

func TestForkTakesAnIdentity(t *testing.T) {
	needRoot(t)
	c := NewChild()
	c.SetCred, c.UID, c.GID, c.Groups = true, 4242, 4243, []uint32{4243, 4244}
	_, out := start(t, c, "/bin/sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status")
	assert.Equal(t, "4242\n4243\n4243 4244\nCapEff:\t0000000000000000\n", out)

	c = NewChild()
	c.SetCred, c.UID, c.GID = true, 0xffffffff, 0xffffffff
	ws, out := start(t, c, "/bin/sh", "-c", "id -u")
	assert.Equal(t, ChildNoCred, ws.ExitStatus(), "setresuid(-1) changes nothing and is found out")
	assert.Empty(t, out)
}

// TestForkPassesNoOtherDescriptor: what the parent was started with, and what of its
// own is not close-on-exec, does not reach the program (S1, CVE-2024-21626).
func TestForkPassesNoOtherDescriptor(t *testing.T) {
	for _, fd := range []int{10, 251} {
		null, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, syscall.Dup3(null, fd, 0))
		Close(null)
		defer Close(fd)
	}
	_, out := start(t, NewChild(), "/bin/sh", "-c", `ls /proc/self/fd | tr '\n' ' '`)
	assert.Equal(t, "0 1 2 3 ", out, "descriptor 3 is ls's own")
}

// hasAudit skips a test where the kernel keeps no loginuid (CONFIG_AUDIT).
func hasAudit(t *testing.T) {
	t.Helper()
	needRoot(t)
	_, err := os.Stat("/proc/self/loginuid")
	needs.Machine(t, err == nil, fmt.Sprint("a kernel with CONFIG_AUDIT is needed: ", err))
}

// TestForkSetsTheLoginuid: it is the identity's before the program runs, and the
// program cannot choose another (S26).
func TestForkSetsTheLoginuid(t *testing.T) {
	hasAudit(t)
	proc, err := syscall.Open("/proc", OPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(proc)
	c := NewChild()
	c.UnsetLogin, c.LoginProc = true, proc
	c.SetCred, c.UID, c.GID = true, 4242, 4243
	_, out := start(t, c, "/bin/sh", "-c", `cat /proc/self/loginuid; echo; echo 1000 >/proc/self/loginuid || cat /proc/self/loginuid`)
	assert.Regexp(t, `^4242\n.*\n4242$`, out)
}

// TestForkLeavesTheKeyring: the session keyring of whoever started the parent, and the
// keys in it, are not the program's (S17).
func TestForkLeavesTheKeyring(t *testing.T) {
	const sessionKeyring, join = ^uintptr(2), 1 // KEY_SPEC_SESSION_KEYRING is -3
	done := make(chan bool)
	go func() { // a thread of its own, which ends: the keyring is each thread's
		defer close(done)
		runtime.LockOSThread()
		if _, _, e := syscall.Syscall(sysKeyctl, join, 0, 0); e != 0 {
			t.Errorf("a kernel with CONFIG_KEYS is needed: %v", e)
			return
		}
		kind, name, secret := cstr("user"), cstr("jail-test"), []byte("secret")
		_, _, e := syscall.Syscall6(sysAddKey, uintptr(unsafe.Pointer(kind)), uintptr(unsafe.Pointer(name)),
			uintptr(unsafe.Pointer(&secret[0])), uintptr(len(secret)), sessionKeyring, 0)
		if !assert.Zero(t, e, "add a key") {
			return
		}
		sees := func(join bool) string {
			c := NewChild()
			c.JoinKeyring = join
			exe, err := os.Executable()
			assert.NoError(t, err)
			_, out := start(t, c, exe, "take", "keys", "1")
			return out
		}
		assert.Equal(t, "1 <nil>\n", sees(false), "it is inherited")
		assert.Equal(t, "0 required key not available\n", sees(true))
	}()
	<-done
}

// TestForkLeavesTheParentsLoginuid: that of an administrator who has started the
// parent by hand is not that of everybody later.
func TestForkLeavesTheParentsLoginuid(t *testing.T) {
	hasAudit(t)
	done := make(chan bool)
	go func() { // a thread of its own, which ends: the loginuid is each thread's
		defer close(done)
		runtime.LockOSThread()
		if !assert.NoError(t, os.WriteFile("/proc/thread-self/loginuid", []byte("777"), 0)) {
			return
		}
		const cat = "cat /proc/self/loginuid"
		_, out := start(t, NewChild(), "/bin/sh", "-c", cat)
		assert.Equal(t, "777", out, "it is inherited")
		c := NewChild()
		c.UnsetLogin = true
		_, out = start(t, c, "/bin/sh", "-c", cat)
		assert.Equal(t, "4294967295", out)
		c = NewChild()
		c.UnsetLogin, c.Owner = true, 4242
		_, out = start(t, c, "/bin/sh", "-c", cat)
		assert.Equal(t, "4294967295", out)
	}()
	<-done
}

func BenchmarkFork(b *testing.B) {
	for i := 0; i < b.N; i++ {
		c := NewChild()
		c.Path, c.Argv, c.Envp = cstr("/bin/true"), []*byte{cstr("true"), nil}, []*byte{nil}
		pid, pidfd, err := Fork(c)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = syscall.Wait4(pid, nil, 0, nil)
		Close(pidfd)
		for c.Pending() {
		}
	}
}

func BenchmarkForkExec(b *testing.B) {
	for i := 0; i < b.N; i++ {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
		if err != nil {
			b.Fatal(err)
		}
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
}

// TestPollIsNotEndedByASignal: a wait that a signal interrupts is no timeout.
func TestPollIsNotEndedByASignal(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_ = syscall.Kill(os.Getpid(), syscall.SIGURG)
			}
		}
	}()
	begin := time.Now()
	n, err := Poll(nil, 100)
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.GreaterOrEqual(t, time.Since(begin), 99*time.Millisecond)
}

// cgroup2 makes a cgroup of the unified hierarchy, wherever that is mounted.
func cgroup2(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			if dir := f[1] + "/jail-test-sys"; os.Mkdir(dir, 0o755) == nil {
				t.Cleanup(func() { assert.NoError(t, os.Remove(dir)) })
				return dir
			}
		}
	}
	// Every kernel this project runs on has the unified hierarchy (Linux 4.5); whether it
	// is mounted, and writable, is the machine's.
	needs.Root(t, "it makes a cgroup")
	needs.Machine(t, false, "no cgroup can be made in a unified hierarchy here: mount -t cgroup2 none DIR")
	return ""
}

func TestForkBeginsInACgroup(t *testing.T) {
	dir, err := syscall.Open(cgroup2(t), syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(dir)
	c := NewChild()
	c.CgroupFD = dir
	ws, out := start(t, c, "/bin/sh", "-c", "grep ^0: /proc/self/cgroup; exit 7")
	assert.Equal(t, 7, ws.ExitStatus())
	assert.Regexp(t, `^0::/(.*/)?jail-test-sys\n$`, out)

	c.Reset()
	c.CgroupFD, c.OwnCgroupRoot = dir, true
	ws, out = start(t, c, "/bin/sh", "-c", "grep ^0: /proc/self/cgroup; exit 8")
	assert.Equal(t, 8, ws.ExitStatus())
	assert.Equal(t, "0::/\n", out, "no name of a cgroup of the host's")

	// The process between is no longer root, and may enter a cgroup of root's all the same.
	c.Reset()
	c.CgroupFD, c.OwnCgroupRoot, c.Owner = dir, true, 1_900_000_000
	c.CloneFlags = syscall.CLONE_NEWUSER
	ws, out = start(t, c, "/bin/sh", "-c", "grep ^0: /proc/self/cgroup; exit 9")
	assert.Equal(t, 9, ws.ExitStatus())
	assert.Equal(t, "0::/\n", out)

	c.Reset()
	c.Path, c.Argv, c.Envp = cstr("/bin/true"), []*byte{cstr("true"), nil}, []*byte{nil}
	null, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(null)
	c.CgroupFD = null
	_, _, err = Fork(c)
	assert.ErrorIs(t, err, syscall.EBADF, "not a cgroup")
	assert.False(t, c.Pending())
}

// sysAddKey is add_key(2).
var sysAddKey = map[string]uintptr{"amd64": 248, "arm64": 217}[runtime.GOARCH]
