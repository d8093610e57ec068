package launch_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/needs"
	"jail/internal/source"
	"jail/internal/sys"
)

// What jails share with the host and with each other, and must not take from either.

// attacker is the program of the e2e tests that uses up what there is.
var attacker = sync.OnceValues(func() ([]byte, error) {
	path := filepath.Join(filepath.Dir(program), "attack")
	build := exec.Command("go", "build", "-o", path, "jail/e2e/attack")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(path)
})

func armed(t *testing.T) string {
	t.Helper()
	root := newRootfs(t)
	text, err := attacker()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "bin/attack"), text, 0o755))
	return root
}

// holds is a session that has taken all there is of a kind; what says how much.
func (j *testJail) holds(kind string) (what string, end func()) {
	j.t.Helper()
	conn, out := j.begin("sleep 1000 | attack hold " + kind)
	f := os.NewFile(uintptr(out), "out")
	line := make([]byte, 200)
	n, err := f.Read(line)
	require.NoError(j.t, err)
	return string(line[:n]), func() {
		sys.Close(conn)
		f.Close()
	}
}

// TestUsingUpIsTheJailsOwn: what a jail uses up of what is counted for each user is
// missing nowhere else: not for the host's root, not for a user of the host's, not in
// another jail (R3). sys.TestWhatIsCountedForAUserIsCountedForTheOwner has more kinds.
func TestUsingUpIsTheJailsOwn(t *testing.T) {
	needRoot(t)
	other := newSpec(armed(t), true)
	other.Name, other.Userns = "neighbour", testRange(1)
	neighbour := mustStart(t, other)
	most := readInt(t, "/proc/sys/fs/inotify/max_user_instances")
	for _, kind := range []string{"inotify", "mqueue"} {
		one := func(uid uint32) string {
			cmd := exec.Command(filepath.Join(filepath.Dir(program), "attack"), "hold", "one-"+kind)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			out, err := cmd.Output()
			require.NoError(t, err)
			return string(out)
		}
		for who, uid := range map[string]jail.UID{"tenant": jailUID, "root inside": 0} {
			t.Run(kind+"/"+who, func(t *testing.T) {
				spec := newSpec(armed(t), true)
				spec.Logins[0].UID = uid
				j := mustStart(t, spec)
				what, end := j.holds(kind)
				defer end()
				if kind == "inotify" {
					// All that a user may have: root of the host has some in use.
					assert.Equal(t, fmt.Sprintf("held %d: too many open files\n", most+1), what)
				}
				assert.NotContains(t, what, "<nil>")
				assert.Equal(t, "<nil>\n", one(0), "root of the host")
				assert.Equal(t, "<nil>\n", one(4711), "a user of the host's")
				assert.Equal(t, "<nil>\n", neighbour.out("attack hold one-"+kind), "another jail")
			})
		}
	}
}

func readInt(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return n
}

// TestProcessesAreBoundWithoutACgroup: a fork bomb stays in its jail on a machine
// without cgroups, whoever starts it, and what the registry promises is kept (R1).
func TestProcessesAreBoundWithoutACgroup(t *testing.T) {
	needRoot(t)
	l, err := launch.New(cgroup.Alone, program) // never has one
	require.NoError(t, err)
	const pids = 40
	for who, uid := range map[string]jail.UID{"tenant": jailUID, "root inside": 0} {
		t.Run(who, func(t *testing.T) {
			spec := newSpec(newRootfs(t), true)
			spec.Limits.Pids = pids
			spec.Logins = []jail.Login{{HostUID: testUID, UID: uid}, {HostUID: testUID + 1, UID: jailUID + 1}}
			passwd := filepath.Join(spec.Source.Path, "etc/passwd")
			text, err := os.ReadFile(passwd)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(passwd, append(text, "more:x:1235:1235::/:/bin/sh\n"...), 0o644))
			j, err := startWith(t, l, spec)
			require.NoError(t, err)
			conn, out := j.begin("for i in $(seq 100); do sleep 1000 & done 2>&1; echo not reached; wait")
			defer sys.Close(conn)
			defer sys.Close(out)
			said := ""
			for buf := make([]byte, 200); !strings.HasSuffix(said, "\n"); {
				n, err := sys.Read(out, buf)
				require.NoError(t, err)
				require.Positive(t, n, said)
				said += string(buf[:n])
			}
			assert.Contains(t, said, "Resource temporarily unavailable")
			most := pids + cgroup.PID1Threads
			assert.LessOrEqual(t, countTasks(t, j.PID), most)
			assert.Greater(t, countTasks(t, j.PID), pids/2)
		})
	}
	// Nothing else of the registry is promised without one.
	spec := newSpec(newRootfs(t), true)
	spec.Limits.MemoryBytes = 1 << 30
	_, err = startWith(t, l, spec)
	assert.ErrorContains(t, err, "limits")
	spec = newSpec(newRootfs(t), false)
	spec.Limits.Pids = pids
	_, err = startWith(t, l, spec)
	assert.ErrorContains(t, err, "limits", "in root mode the processes are the host's root's")
}

// countTasks counts the threads of all processes of a jail.
func countTasks(t *testing.T, pid int) int {
	t.Helper()
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	require.NoError(t, err)
	all, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	n := 0
	for _, dir := range all {
		if its, err := os.Readlink(dir + "/ns/pid"); err == nil && its == ns {
			tasks, _ := os.ReadDir(dir + "/task")
			n += len(tasks)
		}
	}
	return n
}

// TestRangeInUse: ids that processes of a running jail have are given to no other,
// whatever the registry says by now, and whoever has started the one that runs.
func TestRangeInUse(t *testing.T) {
	needRoot(t)
	first := newSpec(newRootfs(t), true)
	j := mustStart(t, first)
	l := launcher(t)
	u := first.Userns
	half := u.Size / 2
	for claim, c := range map[string]struct {
		base, size uint32
		free       bool
	}{
		"the same":            {u.Base, u.Size, false},
		"within":              {u.Base + half, 1, false},
		"around":              {u.Base - 10, u.Size + 20, false},
		"the last id":         {u.Base + u.Size - 1, u.Size, false},
		"the first id":        {u.Base - u.Size + 1, u.Size, false},
		"the next range":      {u.Base + u.Size, u.Size, true},
		"the one before it":   {u.Base - u.Size, u.Size, true},
		"the machine's own 0": {1, 1, true}, // everybody's map has it, which is no jail
	} {
		err := l.RangeInUse(jail.Userns{Enabled: true, Base: c.base, Size: c.size})
		if c.free {
			assert.NoError(t, err, claim)
		} else {
			assert.ErrorContains(t, err, fmt.Sprintf("in use by process %d, which calls itself jail test; stop the jail that has this process in jail ps", j.PID), claim)
		}
	}
	second := newSpec(newRootfs(t), true)
	second.Name = "later"
	second.Userns.Base += half
	second.Logins[0].HostUID++
	_, err := start(t, second)
	require.ErrorContains(t, err, "calls itself jail test")
	// Another program, which has just started, knows it from the kernel too.
	fresh, err := launch.New(cgroup.Alone, program)
	require.NoError(t, err)
	_, err = startWith(t, fresh, second)
	require.ErrorContains(t, err, "calls itself jail test")
	assert.Equal(t, "alive\n", j.out("echo alive"))

	j.kill()
	again, err := start(t, second)
	require.NoError(t, err, "it is free when that has ended")
	assert.Equal(t, "alive\n", again.out("echo alive"))
}

// TestRangeOfTwoStarts: two jails that get the same ids at the same moment do not both
// start.
func TestRangeOfTwoStarts(t *testing.T) {
	needRoot(t)
	const n = 6
	errs := make([]error, n)
	specs := make([]jail.Spec, n)
	for i := range n {
		specs[i] = newSpec(newRootfs(t), true)
		specs[i].Name = fmt.Sprintf("twin%d", i)
		specs[i].Logins[0].HostUID = jail.HostUID(testUID + i)
	}
	old := syscall.Umask(0o077) // as each start sets it, and puts it back
	defer syscall.Umask(old)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = start(t, specs[i]) })
	}
	wg.Wait()
	running := 0
	for i := range n {
		if errs[i] == nil {
			running++
		} else {
			assert.ErrorContains(t, errs[i], "in use by")
		}
	}
	assert.Equal(t, 1, running)
}

// TestLockOfAStranger: a user of the host's who can open the directory of a rootfs
// cannot keep its jail from starting by a lock on it; another jail on it is kept from
// starting as before, also one of a program that knows that lock only.
func TestLockOfAStranger(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		needRoot(t)
		spec := newSpec(newRootfs(t), userns)
		for dir := spec.Source.Path; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
			require.NoError(t, os.Chmod(dir, 0o755))
		}
		stranger := exec.Command("flock", "-s", spec.Source.Path, "sh", "-c", "echo locked; exec cat")
		stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4711, Gid: 4711}}
		endNested := nested(t, spec.Source.Path)
		defer endNested()
		_, _, err := control.Find(source.Of(&spec).Landmark())
		assert.Equal(t, control.ErrNotRunning, err, "jail stop would kill it instead of the jail")
		in, err := stranger.StdinPipe()
		require.NoError(t, err)
		out, err := stranger.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, stranger.Start())
		_, err = out.Read(make([]byte, 20))
		require.NoError(t, err)

		j := mustStart(t, spec)
		assert.Contains(t, j.Warning, "holds a lock on "+spec.Source.Path)
		pid, pidfd, err := control.Find(source.Of(&spec).Landmark())
		require.NoError(t, err)
		sys.Close(pidfd)
		assert.Equal(t, j.PID, pid)
		second := spec
		second.Name, second.Userns.Base = "other", second.Userns.Base+second.Userns.Size
		second.Logins = []jail.Login{{HostUID: testUID + 1, UID: jailUID}}
		_, err = start(t, second)
		assert.ErrorIs(t, err, launch.ErrBusy, "with the stranger's lock")
		in.Close()
		require.NoError(t, stranger.Wait())
		_, err = start(t, second)
		assert.ErrorIs(t, err, launch.ErrBusy, "without it")
		assert.Equal(t, "alive\n", j.out("echo alive"))
	})
}

// nested has a user of the host's, who has a range of ids (subuid(5)), do all that it can to
// look like a jail on the root file system: a user namespace below its own that an id of
// the range made and that has the range, a pid namespace, and that root directory.
func nested(t *testing.T, rootfs string) (end func()) {
	t.Helper()
	const base = 1_700_000_000
	cmd := exec.Command("sh", "-c", `exec 3<&0
setpriv --reuid=1000 --clear-groups unshare --user sh -c '
	until read a b c </proc/self/uid_map; do sleep 0.01; done
	exec unshare --pid --mount --fork sh -c "mount --rbind \"$0\" \"$0\" && cd \"$0\" && pivot_root . . &&
		exec chroot . /bin/sh -c \"umount -l . && echo there; exec cat\""' "$0" <&3 &
own=$(readlink /proc/self/ns/user)
until its=$(readlink /proc/$!/ns/user) && [ "$its" != "$own" ]; do sleep 0.01; done
echo 0 1000 2 >/proc/$!/uid_map
wait`, rootfs)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: base, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{},
	}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	guard := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer guard.Stop()
	text := make([]byte, 6)
	_, err = io.ReadFull(out, text)
	require.NoError(t, err)
	require.Equal(t, "there\n", string(text))
	return func() {
		in.Close()
		require.NoError(t, cmd.Wait())
	}
}

// TestLockOfAnOlderProgram: a jail that has the lock on its rootfs and no other, as those
// have that an older program started, is respected.
func TestLockOfAnOlderProgram(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		needRoot(t)
		spec := newSpec(newRootfs(t), userns)
		old := mustStart(t, spec)
		require.NotContains(t, old.Warning, "holds a lock")
		// It has no lock in this directory, as a newly booted one would.
		launch.SetLockDir(filepath.Join(t.TempDir(), "jail/lock"))
		defer launch.SetLockDir(filepath.Join(filepath.Dir(program), "jail/lock"))
		l, err := launch.New(cgroup.Alone, program)
		require.NoError(t, err)
		second := spec
		second.Name, second.Userns.Base = "other", second.Userns.Base+second.Userns.Size
		second.Logins = []jail.Login{{HostUID: testUID + 1, UID: jailUID}}
		_, err = startWith(t, l, second)
		assert.ErrorIs(t, err, launch.ErrBusy)
		old.kill()
		_, err = startWith(t, l, second)
		assert.NoError(t, err)
	})
}

// kill ends the jail, as the end of the test would.
func (j *testJail) kill() {
	j.t.Helper()
	require.NoError(j.t, sys.PidfdSendSignal(j.PIDFD, syscall.SIGKILL))
	n, err := sys.Poll([]sys.PollFD{{FD: int32(j.PIDFD), Events: sys.PollIn}}, 5000)
	require.NoError(j.t, err)
	require.Equal(j.t, 1, n)
}

// TestLoginuid: a session's is the id it has, inside and on the host, before it runs
// anything; it cannot choose another, nor can what it leaves behind (S26). getlogin(3)
// reads it.
func TestLoginuid(t *testing.T) {
	needRoot(t)
	_, err := os.Stat("/proc/self/loginuid")
	needs.Machine(t, err == nil, fmt.Sprint("a kernel with CONFIG_AUDIT is needed: ", err))
	bothModes(t, func(t *testing.T, userns bool) {
		j := mustStart(t, newSpec(newRootfs(t), userns))
		assert.Equal(t, "1234", j.out("cat /proc/self/loginuid"))
		for _, other := range []string{"0", "1000", "4294967295"} {
			assert.Equal(t, "1234", j.out("(echo "+other+" >/proc/self/loginuid) 2>/dev/null; cat /proc/self/loginuid"), other)
		}
		conn, out := j.begin("cat /proc/self/loginuid; sleep 1000")
		defer sys.Close(conn)
		defer sys.Close(out)
		_, err := sys.Read(out, make([]byte, 10))
		require.NoError(t, err)
		want := uint32(jailUID)
		if userns {
			want += j.spec.Userns.Base
		}
		seen := map[string]int{}
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", j.PID))
		require.NoError(t, err)
		all, err := filepath.Glob("/proc/[0-9]*")
		require.NoError(t, err)
		for _, dir := range all {
			if its, err := os.Readlink(dir + "/ns/pid"); err == nil && its == ns && dir != fmt.Sprintf("/proc/%d", j.PID) {
				text, err := os.ReadFile(dir + "/loginuid")
				if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) { // it has ended
					continue
				}
				require.NoError(t, err)
				seen[string(text)]++
			}
		}
		assert.Contains(t, seen, strconv.FormatUint(uint64(want), 10))
		assert.Len(t, seen, 1, "%v", seen)
		// PID 1 has none, or it could not give each session its own.
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", j.PID))
		require.NoError(t, err)
		assert.Equal(t, "4294967295", string(text))
	})
}
