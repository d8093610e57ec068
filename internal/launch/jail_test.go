// As in cmd/jail-init: a PID 1 must not hold the runtime's cgroup files.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package launch_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/cgroup"
	"jail/internal/control"
	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/needs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// The jails of these tests have the PID 1 of this source. The rootfs is
// busybox (package busybox-static) in a temporary directory; root is needed.

var program string // jail-pid1

func TestMain(m *testing.M) { os.Exit(withProgram(m)) }

func withProgram(m *testing.M) int {
	dir, err := os.MkdirTemp("", "jail-launch")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	launch.SetLockDir(filepath.Join(dir, "jail/lock"))
	program = filepath.Join(dir, "jail-pid1")
	if elsewhere := os.Getenv("JAIL_TEST_BIN"); elsewhere != "" {
		program = filepath.Join(elsewhere, "jail-pid1")
		return m.Run()
	}
	build := exec.Command("go", "build", "-o", program, "jail/cmd/jail-pid1")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	return m.Run()
}

const (
	testUID    = 61234
	jailUID    = 1234
	shortWait  = 5 * time.Second
	stopMillis = 100
)

func needRoot(t *testing.T) {
	t.Helper()
	needs.Root(t, "it makes namespaces and mounts")
}

// newRootfs makes a busybox rootfs.
func newRootfs(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	for _, d := range []string{"bin", "etc", "proc", "dev", "sys", "tmp", "root", "home/work"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "tmp"), 0o1777))
	bb, err := os.ReadFile("/bin/busybox")
	require.NoError(t, err, "package busybox-static must be installed")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin/busybox"), bb, 0o755))
	out, err := exec.Command("/bin/busybox", "--list").Output()
	require.NoError(t, err)
	for _, a := range strings.Fields(string(out)) {
		if a != "busybox" {
			require.NoError(t, os.Symlink("busybox", filepath.Join(dir, "bin", a)))
		}
	}
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write("etc/passwd", "root:x:0:0::/root:/bin/sh\nwork:x:1234:1234::/home/work:/bin/sh\n")
	write("etc/hosts", "127.0.0.1\tlocalhost test\n")
	write("etc/group", "root:x:0:\nwork:x:1234:\nextra:x:700:work\n")
	require.NoError(t, os.Chown(filepath.Join(dir, "home/work"), jailUID, jailUID))
	return dir
}

type testJail struct {
	t          *testing.T
	spec       jail.Spec
	runtimeDir string
	path       string
	*launch.Jail
}

func newSpec(rootfs string, userns bool) jail.Spec {
	s := jail.Spec{
		Name: "test", Hostname: "test", Source: jail.Source{Path: rootfs},
		Logins: []jail.Login{{HostUID: testUID, UID: jailUID}},
	}
	if userns {
		s.Userns = testRange(0)
	}
	return s
}

// testRange returns range number i, below 64, of this process: the machine may run the
// tests twice at once, and jails of its own.
func testRange(i int) jail.Userns {
	slot := (os.Getpid()*64 + i) % (1 << 14)
	return jail.Userns{Enabled: true, Base: 1<<30 + uint32(slot)<<16, Size: 1 << 16}
}

// start starts a jail, or returns why it did not start. Afterwards, and at the
// end of the test, nothing of it may be left.
func start(t *testing.T, spec jail.Spec) (*testJail, error) {
	t.Helper()
	return startWith(t, launcher(t), spec)
}

// startWith is start with a Launcher of the test's own.
func startWith(t *testing.T, l *launch.Launcher, spec jail.Spec) (*testJail, error) {
	t.Helper()
	needRoot(t)
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir, err := os.MkdirTemp("/tmp", "jt")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	j := &testJail{t: t, spec: spec, runtimeDir: filepath.Join(dir, "r")}
	require.NoError(t, fdsock.PrepareDir(j.runtimeDir))
	var fds []int
	for _, lg := range spec.Logins {
		fd, err := fdsock.ListenLogin(j.runtimeDir, lg.HostUID)
		require.NoError(t, err)
		fds = append(fds, fd)
	}
	defer sys.CloseAll(fds)
	j.path = fdsock.LoginPath(j.runtimeDir, spec.Logins[0].HostUID)
	ctl, err := fdsock.ListenControl(j.runtimeDir, spec.Name)
	require.NoError(t, err)
	defer sys.Close(ctl)
	mounts := mountsOf(t, &spec)
	j.Jail, err = l.Start(&spec, fds, ctl)
	assert.Equal(t, mounts, mountsOf(t, &spec), "a start leaves no mount on the host")
	if err != nil {
		return nil, err
	}
	t.Cleanup(j.stop)
	return j, nil
}

// launcher returns the one Launcher of all tests. It is made before any of them
// changes its mount namespace, outside which /proc/self/exe cannot be cloned.
var launcher = func() func(t *testing.T) *launch.Launcher {
	var l *launch.Launcher
	var err error
	var once sync.Once
	return func(t *testing.T) *launch.Launcher {
		once.Do(func() { l, err = launch.New(cgroup.Outlive, program) })
		require.NoError(t, err)
		return l
	}
}()

func mustStart(t *testing.T, spec jail.Spec) *testJail {
	t.Helper()
	j, err := start(t, spec)
	require.NoError(t, err)
	return j
}

// mountsOf returns the mounts on the host that have to do with a jail; others come and
// go on a machine that is used.
func mountsOf(t *testing.T, spec *jail.Spec) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	places := []string{filepath.Dir(spec.Source.Path), filepath.Dir(program)}
	if spec.Source.State != "" {
		places = append(places[1:], filepath.Dir(spec.Source.State), filepath.Dir(spec.Source.Base))
	}
	for _, m := range spec.Mounts {
		places = append(places, m.Source)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		for _, p := range places {
			// The root within its file system, and where it is mounted.
			if f := strings.Fields(line); strings.HasPrefix(f[3]+"/", p+"/") || strings.HasPrefix(f[4]+"/", p+"/") {
				found = append(found, line)
			}
		}
	}
	return found
}

func (j *testJail) stop() {
	if j.PIDFD < 0 {
		return // a test has ended it
	}
	var m sys.MsgBuf
	_ = sys.SendMsg(j.Conn, wire.AppendStop(nil, wire.Stop{GraceMillis: stopMillis}), nil, false, &m)
	n, _ := sys.Poll([]sys.PollFD{{FD: int32(j.PIDFD), Events: sys.PollIn}}, 5000)
	if !assert.Equal(j.t, 1, n, "the jail ends when it is told to") {
		_ = sys.PidfdSendSignal(j.PIDFD, syscall.SIGKILL)
	}
	_, _ = syscall.Wait4(j.PID, nil, 0, nil)
	sys.CloseAll([]int{j.PIDFD, j.Conn, j.Stderr})
	j.PIDFD = -1
}

// dial connects to the login's socket.
func (j *testJail) dial() int {
	fd, err := fdsock.Dial(j.path)
	require.NoError(j.t, err)
	return fd
}

// result of a session.
type result struct {
	out     string
	exited  wire.Exited
	refused *wire.Refused
	err     error
}

// begin sends a request for "sh -c cmd" and returns the connection and the read
// end of its output.
func (j *testJail) begin(cmd string) (conn, out int) {
	conn = j.dial()
	r, w, err := sys.Pipe()
	require.NoError(j.t, err)
	_ = syscall.Fchmod(w, 0o666)
	p, err := wire.AppendRequest(nil, &wire.Request{
		Stdio: [3]wire.Stdio{wire.StdioNull, wire.StdioPassed, wire.StdioPassed},
		Args:  [][]byte{[]byte("-c"), []byte(cmd)},
	})
	require.NoError(j.t, err)
	var m sys.MsgBuf
	require.NoError(j.t, sys.SendMsg(conn, p, []int{w, w}, true, &m))
	sys.Close(w)
	return conn, r
}

// run runs a command as the jail's user and waits for its end.
func (j *testJail) run(cmd string) result {
	j.t.Helper()
	conn, out := j.begin(cmd)
	defer sys.Close(conn)
	var res result
	f := os.NewFile(uintptr(out), "out")
	defer f.Close()
	done := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		_, _ = b.ReadFrom(f)
		done <- b.String()
	}()
	var m sys.MsgBuf
	buf := make([]byte, 2048)
	for {
		if n, _ := sys.Poll([]sys.PollFD{{FD: int32(conn), Events: sys.PollIn}}, 20_000); n == 0 {
			res.err = syscall.ETIMEDOUT
			return res
		}
		n, err := sys.RecvMsg(conn, buf, true, &m)
		if err != nil || n == 0 {
			res.err = fmt.Errorf("end of connection: %v", err)
			return res
		}
		typ, flags, body, err := wire.Header(buf[:n])
		require.NoError(j.t, err)
		switch typ {
		case wire.TypeStarted:
		case wire.TypeRefused:
			r, err := wire.DecodeRefused(body)
			require.NoError(j.t, err)
			res.refused = &r
			return res
		case wire.TypeExited:
			res.exited, err = wire.DecodeExited(flags, body)
			require.NoError(j.t, err)
			res.out = <-done
			return res
		}
	}
}

// out is run for a command that must succeed.
func (j *testJail) out(cmd string) string {
	j.t.Helper()
	res := j.run(cmd)
	require.NoError(j.t, res.err)
	require.Nil(j.t, res.refused)
	require.Equalf(j.t, wire.Exited{}, res.exited, "%s: %s", cmd, res.out)
	return res.out
}

// asRoot gives a second login that is uid 0 inside, which no registry allows.
func asRoot(s jail.Spec) jail.Spec {
	s.Logins = []jail.Login{{HostUID: testUID, UID: 0}}
	return s
}

// bothModes runs a test in userns mode and in root mode.
func bothModes(t *testing.T, f func(t *testing.T, userns bool)) {
	t.Run("userns", func(t *testing.T) { f(t, true) })
	t.Run("root mode", func(t *testing.T) { f(t, false) })
}

func TestJailIsWhatItShouldBe(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		j := mustStart(t, newSpec(newRootfs(t), userns))
		assert.Equal(t, "uid=1234(work) gid=1234(work) groups=700(extra),1234(work)\n", j.out("id"))
		assert.Equal(t, "/home/work\n", j.out("pwd"))
		assert.Equal(t, "test\n", j.out("hostname"))
		assert.Regexp(t, `^Max core file size +1 +1 +bytes`, j.out("grep core /proc/self/limits"), "no core dump feeds a parser of the host")
		assert.Equal(t, "jail-init: test\n", j.out("tr '\\0' '\\n' </proc/1/cmdline"))
		assert.NotContains(t, j.out("cat /proc/self/mountinfo"), "shared:", "no propagation")
		assert.NotContains(t, j.out("cat /proc/self/mountinfo"), "master:", "no propagation")
		assert.Equal(t, wire.Exited{Code: 7}, j.run("exit 7").exited)
		assert.Equal(t, wire.Exited{Signal: 9}, j.run("kill -9 $$").exited)
	})
}

// TestPID1HoldsNothingOfTheHost audits /proc/1/fd: listeners, connections, its
// own mounts, an epoll and the pipe on descriptor 2 (CVE-2024-21626, P5, P6).
func TestPID1HoldsNothingOfTheHost(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		j := mustStart(t, newSpec(newRootfs(t), userns))
		j.out("true")
		dir := fmt.Sprintf("/proc/%d/fd", j.PID)
		fds, err := os.ReadDir(dir)
		require.NoError(t, err)
		locks := 0
		for _, fd := range fds {
			link, err := os.Readlink(filepath.Join(dir, fd.Name()))
			if errors.Is(err, os.ErrNotExist) {
				continue // the connection of the session that has just ended
			}
			require.NoError(t, err)
			switch {
			case fd.Name() == "0" || fd.Name() == "1":
				assert.Equal(t, "/dev/null", link)
			case fd.Name() == "2":
				assert.True(t, strings.HasPrefix(link, "pipe:"), link)
			case strings.HasPrefix(link, "socket:"), link == "anon_inode:[eventpoll]":
			case strings.HasPrefix(link, "/proc"), strings.HasPrefix(link, "/dev"), link == "/":
				assert.Contains(t, []string{"/", "/proc", "/dev", "/dev/pts", "/dev/jail/agent", "/dev/jail/auth"}, link, "descriptor %s", fd.Name())
			default:
				locks++
				onlyALock(t, filepath.Join(dir, fd.Name()))
			}
		}
		assert.Equal(t, 1, locks)
		// The root it holds is the jail's own mount: there is no way up.
		var st, up syscall.Stat_t
		root := fmt.Sprintf("/proc/%d/root", j.PID)
		require.NoError(t, syscall.Stat(root, &st))
		require.NoError(t, syscall.Stat(j.spec.Source.Path, &up))
		assert.Equal(t, up.Ino, st.Ino)
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", j.PID))
		require.NoError(t, err)
		assert.Equal(t, "GOMAXPROCS=1\x00GOGC=25\x00TZ=\x00GODEBUG=asyncpreemptoff=1\x00", string(env))
	})
}

// onlyALock checks that a descriptor of PID 1's is good for a lock and nothing else:
// an empty file, which not even the host's root can write to or change that way.
func onlyALock(t *testing.T, path string) {
	t.Helper()
	var st syscall.Stat_t
	require.NoError(t, syscall.Stat(path, &st))
	assert.EqualValues(t, syscall.S_IFREG|0o600, st.Mode)
	assert.Zero(t, st.Size)
	_, err := os.OpenFile(path, os.O_RDWR, 0)
	assert.ErrorIs(t, err, syscall.EROFS)
	assert.ErrorIs(t, os.Chmod(path, 0o666), syscall.EROFS)
	assert.ErrorIs(t, os.Truncate(path, 1<<20), syscall.EROFS)
	assert.ErrorIs(t, syscall.Setxattr(path, "user.x", []byte("x"), 0), syscall.EROFS)
}

// TestEveryThreadIsConfined reads what the kernel says of each thread of PID 1
// (golang/go#1435, P13).
func TestEveryThreadIsConfined(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		j := mustStart(t, newSpec(newRootfs(t), userns))
		j.out("true")
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", j.PID))
		require.NoError(t, err)
		require.NotEmpty(t, tasks)
		bounding, nnp := "CapBnd:\t00000000800425fb", "NoNewPrivs:\t0"
		if !userns {
			bounding, nnp = "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"
		}
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			require.NoError(t, err)
			for _, want := range []string{
				"CapInh:\t0000000000000000", "CapPrm:\t00000000000000e9", "CapEff:\t00000000000000e9",
				"CapAmb:\t0000000000000000", bounding, nnp, "Seccomp:\t2",
			} {
				assert.Contains(t, string(b), want+"\n", task)
			}
		}
	})
}

// TestPID1SurvivesSignalsFromInside sends everything there is as root of the
// jail (P8). One round after the other: what comes while a handler runs or a session is
// being made needs its chance.
func TestPID1SurvivesSignalsFromInside(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		spec := asRoot(newSpec(newRootfs(t), userns))
		spec.ContainerRoot = true // so that root inside may signal PID 1 at all
		j := mustStart(t, spec)
		for range 100 {
			j.out("for s in $(seq 1 64); do kill -$s 1; done; true")
		}
		for s := 1; s <= 64; s++ {
			if s == 19 || s == 9 {
				continue
			}
			j.out("kill -" + strconv.Itoa(s) + " 1; true")
		}
		assert.Equal(t, "alive\n", j.out("echo alive"))
	})
}

// TestPID1KeepsItsLimits sets a limit of PID 1 as root of the jail, whose ids PID 1 has
// (P14).
func TestPID1KeepsItsLimits(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		j := mustStart(t, asRoot(newSpec(armed(t), userns)))
		assert.Regexp(t, `^P14-prlimit\trefused\tEPERM\t`, j.out("attack P14-prlimit"))
	})
}

// TestPID1CannotBeTraced opens what a tracer would (P1, P2, P4; CVE-2019-5736,
// CVE-2016-9962).
func TestPID1CannotBeTraced(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		spec := asRoot(newSpec(newRootfs(t), userns))
		spec.ContainerRoot = true
		j := mustStart(t, spec)
		for _, f := range []string{"exe", "mem", "fd/0", "root/etc/passwd", "cwd", "environ", "maps"} {
			res := j.run("head -c1 /proc/1/" + f + " >/dev/null 2>&1 && echo open; chmod 4755 /proc/1/" + f + " 2>/dev/null && echo chmod; true")
			assert.Empty(t, res.out, "/proc/1/%s", f)
		}
	})
}

// TestOOMScoreIsNotInherited starts from a launcher that is to be killed sooner,
// or later, than others (P11).
func TestOOMScoreIsNotInherited(t *testing.T) {
	needRoot(t)
	const own = "/proc/self/oom_score_adj"
	before, err := os.ReadFile(own)
	require.NoError(t, err)
	defer func() { assert.NoError(t, os.WriteFile(own, before, 0)) }()
	bothModes(t, func(t *testing.T, userns bool) {
		for _, value := range []string{"300", "-500"} {
			if err := os.WriteFile(own, []byte(value), 0); err != nil {
				// Needs CAP_SYS_RESOURCE, which a machine's root may not have.
				t.Logf("no launcher can have %s here: %v", value, err)
				continue
			}
			j := mustStart(t, newSpec(newRootfs(t), userns))
			assert.Equal(t, "0\n0\n", j.out("cat /proc/1/oom_score_adj /proc/self/oom_score_adj"), "of a launcher with %s", value)
			now, err := os.ReadFile(own)
			require.NoError(t, err)
			assert.Equal(t, value+"\n", string(now), "the launcher keeps its own")
			if value == "-500" {
				assert.NotEqual(t, wire.Exited{}, j.run("echo -1 >/proc/self/oom_score_adj").exited, "0 is the lowest")
			}
		}
	})
}

func TestSecondStartOnARootfsIsRefused(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		spec := newSpec(newRootfs(t), userns)
		j := mustStart(t, spec)
		second := spec
		second.Name = "other"
		second.Logins = []jail.Login{{HostUID: testUID + 1, UID: jailUID}}
		_, err := start(t, second)
		assert.ErrorIs(t, err, launch.ErrBusy)
		assert.Equal(t, "alive\n", j.out("echo alive"))
	})
}

// TestHostileRootfs starts on trees that try to lead a mount elsewhere (F1,
// CVE-2019-19921, CVE-2021-30465, CVE-2023-27561, CVE-2025-31133). Each start
// fails with a reason, or works inside the rootfs.
func TestHostileRootfs(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		needRoot(t)
		victim := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(victim, "file"), []byte("host"), 0o644))
		replace := func(path string, f func(path string) error) func(string) error {
			return func(root string) error {
				p := filepath.Join(root, path)
				if err := os.RemoveAll(p); err != nil {
					return err
				}
				return f(p)
			}
		}
		link := func(to string) func(string) error { return func(p string) error { return os.Symlink(to, p) } }
		fifo := func(p string) error { return syscall.Mkfifo(p, 0o666) }
		for claim, c := range map[string]struct {
			prepare func(root string) error
			starts  bool
		}{
			"/proc is a link to the host's directory":       {replace("proc", link(victim)), false},
			"/proc is a link to the parent":                 {replace("proc", link("..")), false},
			"/proc is a link inside the rootfs":             {replace("proc", link("tmp")), false},
			"/proc is a FIFO":                               {replace("proc", fifo), false},
			"/proc is missing":                              {replace("proc", func(string) error { return nil }), true},
			"/dev is a link to the host's directory":        {replace("dev", link(victim)), false},
			"/dev is a file":                                {replace("dev", func(p string) error { return os.WriteFile(p, nil, 0o644) }), false},
			"/dev holds a FIFO named null":                  {replace("dev/null", fifo), true},
			"/dev holds a link named pts":                   {replace("dev/pts", link(victim)), true},
			"/sys is a link":                                {replace("sys", link(victim)), false},
			"a mount's target is a link to the host":        {replace("mnt", link(victim)), false},
			"a component of a mount's target is such":       {replace("mnt", func(p string) error { return os.Symlink("/"+victim, p) }), false},
			"/etc/localtime is a FIFO, which Go could open": {replace("etc/localtime", fifo), true},
		} {
			t.Run(claim, func(t *testing.T) {
				root := newRootfs(t)
				require.NoError(t, c.prepare(root))
				spec := newSpec(root, userns)
				spec.Mounts = []jail.Mount{{Source: t.TempDir(), Target: "/mnt/sub"}}
				j, err := start(t, spec)
				if c.starts {
					require.NoError(t, err)
					assert.Equal(t, "alive\n", j.out("echo alive; test -c /dev/null && test -f /proc/self/status"))
				} else {
					assert.Error(t, err)
				}
				left, err := os.ReadDir(victim)
				require.NoError(t, err)
				assert.Len(t, left, 1, "nothing was made on the host")
			})
		}
	})
}

// TestHostilePasswd gives PID 1 files that block, and must not (S12, P7).
func TestHostilePasswd(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		root := newRootfs(t)
		j := mustStart(t, newSpec(root, userns))
		passwd := filepath.Join(root, "etc/passwd")
		good, err := os.ReadFile(passwd)
		require.NoError(t, err)
		for claim, prepare := range map[string]func() error{
			"a FIFO":                func() error { return syscall.Mkfifo(passwd, 0o666) },
			"a directory":           func() error { return os.Mkdir(passwd, 0o755) },
			"a link to a loop":      func() error { return os.Symlink("passwd", passwd) },
			"a link to a magic one": func() error { return os.Symlink("/proc/self/fd/0", passwd) },
			"20 GB of nothing": func() error {
				f, err := os.Create(passwd)
				if err == nil {
					err = f.Truncate(20 << 30)
					f.Close()
				}
				return err
			},
			"without the user": func() error { return os.WriteFile(passwd, []byte("root:x:0:0::/:/bin/sh\n"), 0o644) },
		} {
			require.NoError(t, os.RemoveAll(passwd))
			require.NoError(t, prepare())
			res := j.run("echo in") // which gives up in the end
			assert.NoError(t, res.err, claim)
			if assert.NotNil(t, res.refused, claim) {
				assert.EqualValues(t, 125, res.refused.Status, claim)
				assert.Contains(t, res.refused.Text, "passwd", claim)
				assert.Len(t, res.refused.ID, wire.IDLen, claim)
			}
		}
		require.NoError(t, os.RemoveAll(passwd))
		require.NoError(t, os.WriteFile(passwd, good, 0o644))
		assert.Equal(t, "in\n", j.out("echo in"))
	})
}

// TestStrangersOnTheSocket sends what no jail-enter would. Each such connection
// is closed, and nothing else happens (K5 to K8).
func TestStrangersOnTheSocket(t *testing.T) {
	j := mustStart(t, newSpec(newRootfs(t), true))
	good, err := wire.AppendRequest(nil, &wire.Request{Args: [][]byte{[]byte("-c"), []byte("true")}})
	require.NoError(t, err)
	passed, err := wire.AppendRequest(nil, &wire.Request{Stdio: [3]wire.Stdio{wire.StdioPassed}})
	require.NoError(t, err)
	open := func(path string, flags int) int {
		fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { sys.Close(fd) })
		return fd
	}
	dir, file, null := open("/", syscall.O_RDONLY), open("/etc/passwd", syscall.O_RDONLY), open("/dev/null", syscall.O_RDWR)
	opath := open("/etc/passwd", sys.OPath)
	dgram, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer sys.Close(dgram)
	many := make([]int, sys.MaxMsgFDs)
	for i := range many {
		many[i] = null
	}
	var m sys.MsgBuf
	for claim, c := range map[string]struct {
		packet []byte
		fds    []int
		want   string
	}{
		"an empty packet":               {[]byte{}, nil, "closed"},
		"one byte":                      {[]byte{1}, nil, "closed"},
		"a control message":             {wire.AppendStop(nil, wire.Stop{}), nil, "closed"},
		"an answer":                     {wire.AppendExited(nil, wire.Exited{}), nil, "closed"},
		"a signal before a request":     {wire.AppendSignal(nil, wire.Signal{Number: 15}), nil, "closed"},
		"a surplus descriptor":          {good, []int{null}, "closed"},
		"a missing descriptor":          {passed, nil, "closed"},
		"a flood of descriptors":        {passed, many, "started, and nothing runs"},
		"a truncated request":           {good[:len(good)-3], nil, "closed"},
		"a directory as stdin":          {passed, []int{dir}, "started, and nothing runs"},
		"a regular file":                {passed, []int{file}, "started, and nothing runs"},
		"a device":                      {passed, []int{null}, "started, and nothing runs"},
		"an O_PATH descriptor":          {passed, []int{opath}, "started, and nothing runs"},
		"a datagram socket":             {passed, []int{dgram}, "started, and nothing runs"},
		"another version":               {append([]byte{99}, good[1:]...), nil, "refused"},
		"a large packet of nothing":     {make([]byte, 150_000), nil, "refused"},
		"a large packet of the version": {bytes.Repeat([]byte{1}, 150_000), nil, "closed"},
	} {
		fd := j.dial()
		require.NoError(t, sys.SendMsg(fd, c.packet, c.fds, true, &m), claim)
		n, _ := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}, 3000)
		require.Equal(t, 1, n, claim)
		buf := make([]byte, 1024)
		n, err := sys.RecvMsg(fd, buf, true, &m)
		switch c.want {
		case "refused":
			if assert.NoError(t, err, claim) && assert.Positive(t, n, claim) {
				assert.EqualValues(t, wire.TypeRefused, buf[1], claim)
			}
		case "started, and nothing runs":
			// Only the session's process has seen the descriptors, and ended.
			if assert.NoError(t, err, claim) && assert.Positive(t, n, claim) {
				assert.EqualValues(t, wire.TypeStarted, buf[1], claim)
				n, err = sys.RecvMsg(fd, buf, true, &m)
			}
			fallthrough
		default:
			assert.True(t, err != nil || n == 0, claim)
		}
		sys.Close(fd)
	}
	// Anything at all, with a fixed seed.
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < 2000; i++ {
		p := bytes.Clone(good)
		for k := 0; k < 1+i%4; k++ {
			p[rnd.IntN(len(p))] = byte(rnd.Uint32())
		}
		fd := j.dial()
		_ = sys.SendMsg(fd, p[:1+rnd.IntN(len(p))], nil, true, &m)
		sys.Close(fd)
	}
	assert.Equal(t, "alive\n", j.out("echo alive"))
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", j.PID))
	require.NoError(t, err)
	assert.Less(t, len(fds), 20, "no descriptor of a stranger is kept")
}

// TestSilentConnections holds the socket with a thousand connections that say
// nothing; logins go on (K5).
func TestSilentConnections(t *testing.T) {
	j := mustStart(t, newSpec(newRootfs(t), true))
	for i := 0; i < 1000; i++ {
		fd := j.dial()
		defer sys.Close(fd)
	}
	assert.Equal(t, "alive\n", j.out("echo alive"))
}

// TestStopStorm lets the tenant stop everything of its uid in a loop, which
// freezes a supervisor that vforks (S13). Other sessions of the jail may suffer
// while it lasts, since they are the same uid; PID 1, another login, and the
// host's stop do not.
func TestStopStorm(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		root := newRootfs(t)
		f, err := os.OpenFile(filepath.Join(root, "etc/passwd"), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString("other:x:1235:1235::/:/bin/sh\n")
		require.NoError(t, err)
		f.Close()
		spec := newSpec(root, userns)
		spec.Logins = append(spec.Logins, jail.Login{HostUID: testUID + 1, UID: 1235})
		j := mustStart(t, spec)
		// The loop ignores what it sends, being stopped by nobody else.
		storm, out := j.begin("while :; do kill -STOP -1; done")
		defer sys.Close(out)
		time.Sleep(50 * time.Millisecond)
		for i := 0; i < 40; i++ {
			conn, out := j.begin("true")
			defer sys.Close(conn)
			defer sys.Close(out)
		}
		other := *j
		other.path = fdsock.LoginPath(j.runtimeDir, testUID+1)
		for i := 0; i < 20; i++ {
			assert.Equal(t, "alive\n", other.out("echo alive"), "another user of the jail goes on")
		}
		c, err := control.Open(j.runtimeDir, spec.Name, false)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, c.Status.Sessions, uint32(1))
		c.Close()
		// The storm ends with its client, which PID 1 takes for killed.
		sys.Close(storm)
		assert.Equal(t, "alive\n", j.out("echo alive"), "a new session comes when the storm is over")
	})
}

// TestFailedStartLeavesNothing counts what a start that fails half-way could
// leave (L7).
func TestFailedStartLeavesNothing(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		needRoot(t)
		count := func() (fds, procs int) {
			d, err := os.ReadDir("/proc/self/fd")
			require.NoError(t, err)
			children, err := filepath.Glob("/proc/self/task/*/children")
			require.NoError(t, err)
			for _, file := range children {
				text, _ := os.ReadFile(file) // a thread may end
				procs += len(strings.Fields(string(text)))
			}
			return len(d), procs
		}
		root := newRootfs(t)
		require.NoError(t, os.RemoveAll(filepath.Join(root, "dev")))
		require.NoError(t, os.Symlink("/", filepath.Join(root, "dev")))
		_, err := start(t, newSpec(root, userns))
		require.ErrorContains(t, err, "/dev")
		fds, procs := count()
		assert.Zero(t, procs)
		for i := 0; i < 3; i++ {
			_, err := start(t, newSpec(root, userns))
			require.Error(t, err)
		}
		after, procs := count()
		assert.Equal(t, fds, after, "no descriptor is left")
		assert.Zero(t, procs)
	})
}

// TestManySessionsLeaveNoTrace looks at PID 1 after two thousand sessions.
func TestManySessionsLeaveNoTrace(t *testing.T) {
	j := mustStart(t, newSpec(newRootfs(t), true))
	anon := func() int {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", j.PID))
		require.NoError(t, err)
		for _, line := range strings.Split(string(b), "\n") {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Anonymous:" {
				n, _ := strconv.Atoi(f[1])
				return n
			}
		}
		t.Fatal("no Anonymous")
		return 0
	}
	many := func(n int) {
		var wg sync.WaitGroup
		for range 2 { // side by side
			wg.Go(func() {
				for i := 0; i < n/2; i++ {
					assert.Equal(t, wire.Exited{Code: 3}, j.run("exit 3").exited)
				}
			})
		}
		wg.Wait()
		// Somebody hears of them, as serve does; what nobody has heard of is kept.
		var m sys.MsgBuf
		for buf := make([]byte, wire.MaxEvents); ; {
			if n, err := sys.RecvMsg(j.Conn, buf, false, &m); err != nil || n == 0 {
				break
			}
		}
	}
	few := many
	many = func(n int) {
		for ; n > 0; n -= 100 {
			few(min(n, 100))
		}
	}
	many(200)
	before := anon()
	many(2000)
	assert.Less(t, anon(), before+64, "KiB of anonymous memory")
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", j.PID))
	require.NoError(t, err)
	assert.Less(t, len(fds), 20)
	assert.Eventually(t, func() bool {
		out, _ := exec.Command("pgrep", "-P", strconv.Itoa(j.PID)).Output()
		return len(out) == 0
	}, shortWait, 10*time.Millisecond, "no process is left, not even a zombie")
}

// TestSharedMounts starts where every mount of the host is shared, as systemd has
// it: a jail starts, and no mount made later crosses over (F6).
func TestSharedMounts(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	require.NoError(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""))
	bothModes(t, func(t *testing.T, userns bool) {
		root, source := newRootfs(t), t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(source, "sub"), 0o755))
		spec := newSpec(root, userns)
		spec.Mounts = []jail.Mount{{Source: source, Target: "/mnt"}}
		j := mustStart(t, spec)
		for _, dir := range []string{filepath.Join(source, "sub"), filepath.Join(root, "tmp")} {
			require.NoError(t, syscall.Mount("none", dir, "tmpfs", 0, ""))
			defer func() { assert.NoError(t, syscall.Unmount(dir, 0)) }()
		}
		assert.NotContains(t, j.out("cat /proc/self/mountinfo"), "shared:")
		assert.Empty(t, j.out("grep -E ' /mnt/sub | /tmp ' /proc/self/mountinfo; true"))
	})
}

// ownMounts re-runs a test with mounts of its own, private ones, and reports whether
// this is that run.
func ownMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv("JAIL_TEST_OWN_MOUNTS") == "" {
		needRoot(t)
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
		cmd.Env = append(os.Environ(), "JAIL_TEST_OWN_MOUNTS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		require.NoErrorf(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: "+t.Name())
		return false
	}
	require.NoError(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	return true
}

// TestStartsSideBySide starts forty jails at once; none may touch what is
// another's.
func TestStartsSideBySide(t *testing.T) {
	needRoot(t)
	const n = 40
	l := launcher(t)
	first := newRootfs(t)
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	base, err := os.MkdirTemp("/tmp", "jt")
	require.NoError(t, err)
	defer os.RemoveAll(base)
	dir := filepath.Join(base, "r")
	require.NoError(t, fdsock.PrepareDir(dir))
	var wg sync.WaitGroup
	jails, errs := make([]*launch.Jail, n), make([]error, n)
	for i := 0; i < n; i++ {
		root := fmt.Sprintf("%s.%d", first, i)
		require.NoError(t, exec.Command("cp", "-a", first, root).Run())
		wg.Go(func() {
			spec := newSpec(root, true)
			spec.Name = fmt.Sprintf("test%d", i)
			spec.Userns = testRange(i)
			spec.Logins[0].HostUID = jail.HostUID(testUID + i)
			fd, err := fdsock.ListenLogin(dir, spec.Logins[0].HostUID)
			if err == nil {
				defer sys.Close(fd)
				var ctl int
				if ctl, err = fdsock.ListenControl(dir, spec.Name); err == nil {
					defer sys.Close(ctl)
					jails[i], err = l.Start(&spec, []int{fd}, ctl)
				}
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for i, j := range jails {
		assert.NoError(t, errs[i])
		if j != nil {
			one := &testJail{t: t, Jail: j, path: fdsock.LoginPath(dir, jail.HostUID(testUID+i))}
			t.Cleanup(one.stop)
			if res := one.run("echo alive"); assert.NoError(t, res.err) {
				assert.Equal(t, "alive\n", res.out)
			}
		}
	}
}
