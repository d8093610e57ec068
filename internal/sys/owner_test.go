package sys

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// The tests of Owner run in a user namespace that plays the host, with limits of its
// own: what the machine's root has open meanwhile takes no part.

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "take" {
		take(os.Args[2], os.Args[3])
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "-test.host" {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
		if err == nil {
			err = syscall.Mount("proc", "/proc", "proc", 0, "")
		}
		if err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// takers take one more of what the kernel counts for each user.
var takers = map[string]func(n int) error{
	"inotify instances": func(int) error { return number(syscall.InotifyInit1(0)) },
	"inotify watches": func() func(n int) error {
		fd := -1
		var files []string
		return func(n int) error {
			if fd < 0 {
				fd, _ = syscall.InotifyInit1(0)
				all, _ := filepath.Glob("/usr/bin/*")
				seen := map[uint64]bool{}
				for _, f := range all {
					var st syscall.Stat_t
					if syscall.Stat(f, &st) == nil && !seen[st.Ino] {
						seen[st.Ino] = true
						files = append(files, f)
					}
				}
			}
			return number(syscall.InotifyAddWatch(fd, files[n], syscall.IN_DELETE_SELF))
		}
	}(),
	"fanotify groups": func(int) error {
		const fanReportFID = 0x200 // what an ordinary user may have (Linux 5.13)
		_, _, e := syscall.Syscall(syscall.SYS_FANOTIFY_INIT, fanReportFID, 0, 0)
		return justErr(e)
	},
	"message queues": func(n int) error {
		attr := [8]int64{1: 10, 2: 1024} // mq_maxmsg, mq_msgsize
		name := cstr(fmt.Sprintf("%d.%d", os.Getpid(), n))
		_, _, e := syscall.Syscall6(syscall.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), syscall.O_CREAT|syscall.O_RDWR, 0o600, uintptr(unsafe.Pointer(&attr)), 0, 0)
		return justErr(e)
	},
	"pending signals": func(n int) error {
		const sig = 40
		if n == 0 {
			set := uint64(1 << (sig - 1))
			_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 0, uintptr(unsafe.Pointer(&set)), 0, 8, 0, 0)
		}
		info := [16]int64{sig, -1} // SI_QUEUE
		_, _, e := syscall.Syscall6(sysTgsigqueueinfo[runtime.GOARCH], uintptr(os.Getpid()), uintptr(syscall.Gettid()), sig, uintptr(unsafe.Pointer(&info)), 0, 0)
		return justErr(e)
	},
	// Not counted: whether a key of that name can be seen.
	"keys": func(int) error {
		const search, sessionKeyring = 10, ^uintptr(2)
		kind, name := cstr("user"), cstr("jail-test")
		_, _, e := syscall.Syscall6(sysKeyctl, search, sessionKeyring, uintptr(unsafe.Pointer(kind)), uintptr(unsafe.Pointer(name)), 0, 0)
		return justErr(e)
	},
	"processes": func(int) error {
		// No thread of the runtime's: it would end the program.
		pid, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if pid == 0 {
			for {
				_, _, _ = syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
		return justErr(e)
	},
	"locked memory": func(int) error {
		const page, ipcPrivate, ipcCreat, shmLock = 4096, 0, 0o1000, 11
		id, _, e := syscall.Syscall(syscall.SYS_SHMGET, ipcPrivate, page, ipcCreat|0o600)
		if e == 0 {
			_, _, e = syscall.Syscall(syscall.SYS_SHMCTL, id, shmLock, 0)
		}
		if e != 0 {
			_, _, _ = syscall.Syscall(syscall.SYS_SHMCTL, id, 0 /* IPC_RMID */, 0)
		}
		return justErr(e)
	},
}

// sysTgsigqueueinfo sends a signal to this thread, which has it blocked; another would
// take it.
var sysTgsigqueueinfo = map[string]uintptr{"amd64": 297, "arm64": 240}

func number(_ int, err error) error { return err }

// take takes all there is of a kind, or n, says how much that was, and keeps it until
// its standard input ends.
func take(kind, most string) {
	runtime.LockOSThread() // signals are this thread's
	limit, _ := strconv.Atoi(most)
	n := 0
	var err error
	for ; err == nil && n < limit; n++ {
		if err = takers[kind](n); err != nil {
			break
		}
	}
	fmt.Printf("%d %v\n", n, err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if kind == "message queues" {
		// The kernel removes those of a namespace that has ended only some time later.
		for i := range n {
			name := cstr(fmt.Sprintf("%d.%d", os.Getpid(), i))
			_, _, _ = syscall.Syscall(syscall.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name)), 0, 0)
		}
	}
}

// limits are what the namespace that plays the host allows each of its users. The
// kinds of rlimits are those of every process in there.
const (
	userLimit = 30
	taken     = 10_000 // more than there is of anything
)

func needRoot(t *testing.T) {
	t.Helper()
	needs.Root(t, "it takes on other ids")
}

// played re-runs a test as root of a user namespace that plays the host, and reports
// whether this is the run in there.
func played(t *testing.T) bool {
	t.Helper()
	if os.Getenv("JAIL_TEST_HOST") != "" {
		return true
	}
	needRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.host", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "JAIL_TEST_HOST=1")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1_000_000_000, Size: 1_000_000}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in the namespace that plays the host: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%s", out)
	}
	return false
}

// party is a process that takes something.
type party struct {
	t     *testing.T
	pid   int
	c     *Child
	in    *os.File
	out   *os.File
	words []string
}

// begin starts a process that takes up to n of a kind. c says as whom.
func begin(t *testing.T, c *Child, mapped uint32, kind string, n int) *party {
	t.Helper()
	inR, inW, err := Pipe()
	require.NoError(t, err)
	outR, outW, err := Pipe()
	require.NoError(t, err)
	syncR, syncW, err := Pipe()
	require.NoError(t, err)
	exe, err := syscall.Open("/proc/self/exe", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	c.FDs = [4]int{inR, outW, 2, -1}
	c.SyncFD = syncR
	c.ExecFD = exe
	for _, a := range []string{"party", "take", kind, strconv.Itoa(n)} {
		c.Argv = append(c.Argv, cstr(a))
	}
	c.Argv = append(c.Argv, nil)
	c.Envp = []*byte{cstr("GOMAXPROCS=1"), cstr("GODEBUG=containermaxprocs=0,updatemaxprocs=0"), nil}
	pid, pidfd, err := Fork(c)
	require.NoError(t, err)
	for !c.ownerGone() { // it is counted as long as it is there
	}
	if mapped != 0 {
		for _, f := range []string{"gid_map", "uid_map"} {
			require.NoError(t, os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, f), fmt.Appendf(nil, "0 %d 65536\n", mapped), 0))
		}
	}
	_, err = Write(syncW, []byte{1})
	require.NoError(t, err)
	CloseAll([]int{inR, outW, syncR, syncW, exe, pidfd})
	p := &party{t: t, pid: pid, c: c, in: os.NewFile(uintptr(inW), "in"), out: os.NewFile(uintptr(outR), "out")}
	line := make([]byte, 200)
	k, err := p.out.Read(line)
	require.NoError(t, err, kind)
	p.words = strings.SplitN(strings.TrimSpace(string(line[:k])), " ", 2)
	require.Len(t, p.words, 2)
	return p
}

func (p *party) took() int {
	n, err := strconv.Atoi(p.words[0])
	require.NoError(p.t, err)
	return n
}

func (p *party) end() {
	p.in.Close()
	p.out.Close()
	_, _ = syscall.Wait4(p.pid, nil, 0, nil)
	for p.c.Pending() {
	}
}

// in describes a process with the uid inside, of a namespace that owner makes.
func in(owner, inside uint32) *Child {
	c := NewChild()
	c.CloneFlags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC
	c.Owner, c.Processes, c.EarlyCred = owner, userLimit, true
	if inside != 0 {
		c.SetCred, c.UID, c.GID = true, inside, inside
	}
	return c
}

// user describes a process of the host's.
func user(uid uint32) *Child {
	c := NewChild()
	c.CloneFlags = syscall.CLONE_NEWIPC // for message queues of its own
	if uid != 0 {
		c.SetCred, c.UID, c.GID = true, uid, uid
	}
	return c
}

// TestWhatIsCountedForAUserIsCountedForTheOwner: who uses up what there is for a
// user, in a namespace that an id of its own range made, takes nothing from root of
// the host, from another user or from another such namespace; not as root inside
// either (R3).
func TestWhatIsCountedForAUserIsCountedForTheOwner(t *testing.T) {
	if !played(t) {
		return
	}
	for _, s := range []string{"max_inotify_instances", "max_inotify_watches", "max_fanotify_groups"} {
		require.NoError(t, os.WriteFile("/proc/sys/user/"+s, []byte(strconv.Itoa(userLimit)), 0))
	}
	const nproc, memlock, sigpending, msgqueue = 6, 8, 11, 12
	for resource, most := range map[int]uint64{memlock: userLimit * 4096, sigpending: userLimit, msgqueue: 400_000} {
		require.NoError(t, syscall.Setrlimit(resource, &syscall.Rlimit{Cur: most, Max: most}))
	}
	const one, other = 100_000, 200_000 // ranges of two jails
	owner := func(base uint32) uint32 { return base + 65535 }
	for kind := range takers {
		if kind == "keys" {
			continue
		}
		for who, inside := range map[string]uint32{"tenant": 1000, "root inside": 0} {
			t.Run(kind+"/"+who, func(t *testing.T) {
				all := begin(t, in(owner(one), inside), one, kind, taken)
				defer all.end()
				if kind == "processes" {
					// PID 1 of the namespace is the taker, with the threads of its runtime.
					assert.InDelta(t, userLimit, all.took(), 8)
				} else if kind != "message queues" {
					assert.Equal(t, userLimit, all.took(), "%v", all.words)
				}
				require.NotEqual(t, "<nil>", all.words[1], "all there is")
				for victim, c := range map[string]*Child{"root": user(0), "a user": user(5000)} {
					v := begin(t, c, 0, kind, userLimit/3)
					assert.Equal(t, userLimit/3, v.took(), "%s: %v", victim, v.words)
					v.end()
				}
				v := begin(t, in(owner(other), 1000), other, kind, userLimit/3)
				assert.Equal(t, userLimit/3, v.took(), "another jail: %v", v.words)
				v.end()
			})
		}
	}
}

// TestOwnerBoundsAllProcessesTogether: no cgroup, and all uids of the namespace have
// one bound, its root included; what ulimit(1) says is the parent's (R1).
func TestOwnerBoundsAllProcessesTogether(t *testing.T) {
	needRoot(t) // and not played: on the host itself, a process whose real uid is root's has no bound
	const base = 1_900_000_000
	var own syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(rlimitNproc, &own))
	for _, bound := range []uint64{20, 0} {
		c := in(base+65535, 0)
		c.Processes = bound
		p := begin(t, c, base, "processes", 40)
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.pid))
		require.NoError(t, err)
		assert.Regexp(t, fmt.Sprintf(`Max processes +%d `, own.Cur), strings.ReplaceAll(string(limits), "unlimited", fmt.Sprint(own.Cur)))
		if bound == 0 {
			assert.Equal(t, 40, p.took())
		} else {
			assert.Equal(t, "resource temporarily unavailable", p.words[1])
			assert.Less(t, p.took(), 20)
			// Every process of the namespace, with its threads, and no more than that.
			assert.Equal(t, 20, threads(t, p.pid))
		}
		p.end()
	}
}

// threads counts those of a process and its children.
func threads(t *testing.T, pid int) int {
	t.Helper()
	n := 0
	for _, pattern := range []string{"/proc/%d/task/*", "/proc/%d/task/*/children"} {
		found, err := filepath.Glob(fmt.Sprintf(pattern, pid))
		require.NoError(t, err)
		for _, f := range found {
			if filepath.Base(f) != "children" {
				n++
				continue
			}
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			n += len(strings.Fields(string(text)))
		}
	}
	return n
}

func TestOwnerThatCannotBe(t *testing.T) {
	if !played(t) {
		return
	}
	c := in(5_000_000, 0) // not an id of this namespace
	_, _, err := Fork(c)
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "owner")
	assert.False(t, c.Pending())
	_, err = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	assert.ErrorIs(t, err, syscall.ECHILD, "no process is left")
	var lim syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(rlimitNproc, &lim))
	assert.NotEqual(t, uint64(userLimit), lim.Cur, "the parent's limits stay")
	assert.Zero(t, os.Geteuid())
}
