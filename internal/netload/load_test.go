package netload

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/cgroup"
	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/network"
	"jail/internal/sys"
)

// apart gives the test a network namespace and a BPF file system of its own, which the
// kernel takes away with its thread: what is attached to the machine's root cgroup leaves
// everybody else alone, and does not outlive it.
func apart(t *testing.T) {
	t.Helper()
	needs.Root(t, "BPF programs")
	_, err := cgroup.Root(mountInfo)
	needs.Machine(t, err == nil, "the unified hierarchy of cgroups")
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET|unix.CLONE_NEWNS))
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	require.NoError(t, unix.Mount("bpf", bpffs, "bpf", 0, "mode=700"))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	require.NoError(t, err)
	ifr.SetUint16(unix.IFF_UP)
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
}

var dir = filepath.Join(bpffs, "test")

const base = 0x71230000 // of the first jail of a plan; 65536 more for each

// plan has a jail for each list of ports; its number is its ID.
func plan(ports ...[]jail.Ports) *network.Plan {
	var jails []jail.Spec
	for i, list := range ports {
		n := jail.Network{ID: uint16(i + 1), OwnPorts: true, OwnLoopback: true, PrivateUnowned: true, Ports: list}
		jails = append(jails, jail.Spec{Name: string(rune('a' + i)), Userns: jail.Userns{Enabled: true, Base: base + uint32(i)<<16, Size: 65536}, Network: n})
	}
	p := network.Make(jails, nil, nil)
	return &p
}

var http = []jail.Ports{{First: 80, Last: 80, TCP: true, UDP: true}}

func apply(t *testing.T, p *network.Plan) network.Answer {
	t.Helper()
	a, err := Apply(dir, p)
	require.NoError(t, err)
	return a
}

// pinned are the generations, and how many links each has.
func pinned(t *testing.T) map[string]int {
	t.Helper()
	all := map[string]int{}
	generations, err := generationsIn(dir)
	require.NoError(t, err)
	for _, g := range generations {
		links, err := filepath.Glob(filepath.Join(g, network.LinkPrefix+"*"))
		require.NoError(t, err)
		all[filepath.Base(g)] = len(links)
	}
	return all
}

// as binds a TCP socket as some uid, and returns the error.
func as(t *testing.T, uid uint32, address string) error {
	t.Helper()
	require.NoError(t, setRealUID(int(uid)))
	defer func() { require.NoError(t, setRealUID(0)) }()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	a, err := net.ResolveTCPAddr("tcp4", address)
	require.NoError(t, err)
	return unix.Bind(fd, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())})
}

// no is an error as the kernel has it: before Linux 5.18 each is EPERM.
func no(err error) error {
	if err != nil && !choosesErrors() {
		return syscall.EPERM
	}
	return err
}

var choosesErrors = sync.OnceValue(func() bool {
	k, err := probe()
	return err != nil || k.setRetval
})

// setRealUID changes the real uid of this thread alone, which is what the programs see.
func setRealUID(uid int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func TestApply(t *testing.T) {
	apart(t)
	require.Equal(t, network.Programs, len(hooks))
	require.NoError(t, as(t, base+1000, "0.0.0.0:80"))

	assert.Equal(t, network.Answer{Refused: map[string]string{}}, apply(t, plan(http, nil)))
	assert.Equal(t, map[string]int{"1-1": network.Programs}, pinned(t))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	assert.NoError(t, as(t, base+1000, "0.0.0.0:80"), "its own")
	assert.Equal(t, no(syscall.EADDRINUSE), as(t, base+65536+1000, "0.0.0.0:80"), "another's")
	assert.Equal(t, no(syscall.EACCES), as(t, 4242, "0.0.0.0:80"), "a user's of the host")
	assert.NoError(t, as(t, 0, "0.0.0.0:80"), "root")
	assert.Equal(t, no(syscall.EADDRNOTAVAIL), as(t, base, "127.9.9.9:9000"))
	assert.NoError(t, as(t, 4242, "127.9.9.9:9000"))
	nl, err := openNetlink()
	require.NoError(t, err)
	defer unix.Close(nl.fd)
	there, err := nl.addresses()
	require.NoError(t, err)
	assert.Len(t, there, 2)
	assert.True(t, there[network.Address6(1)] && there[network.Address6(2)])

	// A second time nothing is made anew.
	before := programIDs(t)
	apply(t, plan(nil, http))
	assert.Equal(t, before, programIDs(t))
	assert.NoError(t, as(t, base+65536, "0.0.0.0:80"), "it has moved")
	assert.Equal(t, no(syscall.EADDRINUSE), as(t, base, "0.0.0.0:80"))

	assert.Equal(t, network.Answer{}, apply(t, &network.Plan{}))
	assert.NoDirExists(t, dir)
	eventually(t, func() bool { return as(t, base, "127.9.9.9:9000") == nil })
	there, err = nl.addresses()
	require.NoError(t, err)
	assert.Empty(t, there)
}

// eventually waits for what the kernel does by a worker of its own, as it detaches what has
// no pin any more (bpf_link_put).
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		require.False(t, time.Now().After(end))
	}
}

// programIDs are the kernel's numbers of the programs, by link.
func programIDs(t *testing.T) map[string]ebpf.ProgramID {
	t.Helper()
	all := map[string]ebpf.ProgramID{}
	links, err := filepath.Glob(filepath.Join(dir, "*", network.LinkPrefix+"*"))
	require.NoError(t, err)
	for _, pin := range links {
		l, err := link.LoadPinnedLink(pin, nil)
		require.NoError(t, err)
		info, err := l.Info()
		require.NoError(t, err)
		all[filepath.Base(pin)] = info.Program
		l.Close()
	}
	return all
}

// What another build has attached is replaced, and what is in its way is not let through in
// between.
func TestUpgrade(t *testing.T) {
	apart(t)
	apply(t, plan(http, nil))
	kernel, err := probe()
	require.NoError(t, err)
	root, err := cgroup.Root(mountInfo)
	require.NoError(t, err)
	generations, err := generationsIn(dir)
	require.NoError(t, err)
	l, err := open(dir, generations)
	require.NoError(t, err)
	defer l.close()

	// Another build's: the same programs, but for one instruction.
	ours := hooks
	hooks = append([]hook(nil), ours...)
	for i := range hooks {
		write := ours[i].write
		hooks[i].write = func(p *program) { p.do(asm.Mov.Imm(asm.R0, 7)); write(p) }
	}
	t.Cleanup(func() { hooks = ours })
	before := programIDs(t)
	namespace, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	require.NoError(t, err)
	defer namespace.Close()
	stop, done := make(chan bool), make(chan int)
	go func() { // binds all the while, in this network namespace
		runtime.LockOSThread()
		let := 0
		defer func() { done <- let }()
		defer setRealUID(0) // the process's first thread stays when its goroutine has ended
		if !assert.NoError(t, unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)) || !assert.NoError(t, setRealUID(base+65536)) {
			return
		}
		for {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil || unix.Bind(fd, &unix.SockaddrInet4{Port: 80}) != no(unix.EADDRINUSE) {
				let++
			}
			unix.Close(fd)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	require.NoError(t, l.attach(kernel, root))
	other := programIDs(t)
	require.Len(t, other, network.Programs)
	for pin, id := range other {
		assert.NotEqual(t, before[pin], id, pin)
	}
	hooks = ours
	apply(t, plan(http, nil))
	stop <- true
	assert.Zero(t, <-done, "binds that were let through")
	assert.Equal(t, map[string]int{"1-1": network.Programs}, pinned(t))

	// One of another layout, and one that somebody has taken a map from.
	require.NoError(t, os.Rename(filepath.Join(dir, "1-1"), filepath.Join(dir, "0-3")))
	apply(t, plan(http, nil))
	assert.Equal(t, map[string]int{"1-4": network.Programs}, pinned(t))
	require.NoError(t, os.Remove(filepath.Join(dir, "1-4", "map_open")))
	apply(t, plan(http, nil))
	assert.Equal(t, map[string]int{"1-5": network.Programs}, pinned(t))
	require.NoError(t, os.Remove(filepath.Join(dir, "1-5", "link_bind4")))
	apply(t, plan(http, nil))
	assert.Equal(t, map[string]int{"1-5": network.Programs}, pinned(t))
	assert.Equal(t, no(syscall.EADDRINUSE), as(t, base+65536, "0.0.0.0:80"))
}

// What stands for a jail's loopback is that jail's and root's: neither a jail that has the
// host's loopback nor a user of the host waits there, connects or sends.
func TestAliasesAreTheJails(t *testing.T) {
	apart(t)
	p := plan(nil, http)
	p.Jails[1].Flags = network.FlagPorts
	apply(t, p)
	alias := network.Address4(1).String()
	var l int
	require.NoError(t, setRealUID(base))
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(l)
	require.NoError(t, unix.Bind(l, &unix.SockaddrInet4{Port: 9000, Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(l, 8))
	require.NoError(t, setRealUID(0))
	for _, c := range []struct {
		who           string
		uid           uint32
		bind, connect error
	}{
		{"the jail", base, nil, nil},
		{"another one, with the host's loopback", base + 65536, syscall.EADDRNOTAVAIL, syscall.ECONNREFUSED},
		{"a user of the host", 4242, syscall.EADDRNOTAVAIL, syscall.ECONNREFUSED},
		{"root", 0, nil, nil},
	} {
		assert.Equal(t, no(c.bind), as(t, c.uid, alias+":9001"), c.who)
		for family, to := range map[int]unix.Sockaddr{
			unix.AF_INET:  &unix.SockaddrInet4{Port: 9000, Addr: network.Address4(1).As4()},
			unix.AF_INET6: &unix.SockaddrInet6{Port: 9000, Addr: network.Address4(1).As16()},
		} {
			require.NoError(t, setRealUID(int(c.uid)))
			fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			require.NoError(t, err)
			assert.Equal(t, no(c.connect), unix.Connect(fd, to), "%s, family %d", c.who, family)
			unix.Close(fd)
			fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			require.NoError(t, err)
			assert.Equal(t, no(c.connect), unix.Sendto(fd, []byte("q"), 0, to), "%s, family %d", c.who, family)
			unix.Close(fd)
			require.NoError(t, setRealUID(0))
		}
		require.NoError(t, setRealUID(int(c.uid)))
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		assert.Equal(t, no(c.bind), unix.Bind(fd, &unix.SockaddrInet6{Port: 9002, Addr: network.Address6(1).As16()}), c.who)
		unix.Close(fd)
		require.NoError(t, setRealUID(0))
	}
}

// Who has no keys, or a loopback only, keeps off what is another jail's or reserved.
func TestOtherJails(t *testing.T) {
	apart(t)
	p := plan(http, nil, nil)
	p.Jails[1].ID, p.Jails[1].Flags, p.Jails[1].Ports = 0, 0, nil
	p.Jails[2].Flags = network.FlagLoopback
	p.Reserved = []jail.Ports{{First: 3306, Last: 3306, TCP: true}}
	apply(t, p)
	const plain, looped = base + 65536, base + 2*65536
	for address, want := range map[string][3]error{ // of a plain jail, one with a loopback, a user of the host
		"0.0.0.0:80":     {syscall.EACCES, syscall.EACCES, syscall.EACCES},
		"127.0.0.1:80":   {syscall.EACCES, syscall.EADDRINUSE, syscall.EACCES},
		"0.0.0.0:3306":   {syscall.EACCES, syscall.EACCES, nil},
		"127.0.0.1:3306": {syscall.EACCES, syscall.EADDRINUSE, nil},
		"0.0.0.0:8080":   {nil, nil, nil},
		"0.0.0.0:0":      {nil, nil, nil},
		"127.0.0.1:8080": {nil, nil, nil},
		"127.9.9.9:8080": {nil, syscall.EADDRNOTAVAIL, nil},
	} {
		assert.Equal(t, [3]error{no(want[0]), no(want[1]), no(want[2])}, [3]error{as(t, plain, address), as(t, looped, address), as(t, 4242, address)}, address)
	}
	// With the last that owns something everything goes, also while the others run.
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: plain, Gid: plain}}
	require.NoError(t, cmd.Start())
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	assert.Equal(t, network.Answer{}, apply(t, &network.Plan{}))
	assert.NoDirExists(t, dir)
}

// A kernel that lacks something is told of, and nothing is made.
func TestWhatAKernelLacks(t *testing.T) {
	apart(t)
	for _, c := range []struct {
		path *string
		want string
	}{
		{&kernelTypes, "this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)"},
		{&mountInfo, "the unified hierarchy of cgroups is not mounted"},
	} {
		before := *c.path
		*c.path = filepath.Join(t.TempDir(), "none")
		if c.path == &mountInfo {
			require.NoError(t, os.WriteFile(*c.path, []byte("24 1 0:22 / /sys rw - sysfs sysfs rw\n25 1 0:23 / /nowhere rw - cgroup2 none rw\n"), 0o600))
		}
		_, err := Apply(dir, plan(http))
		assert.ErrorContains(t, err, c.want)
		assert.NoDirExists(t, dir)
		*c.path = before
	}
}

// Who is no more in the plan keeps what he had while he has processes.
func TestWhoStillRuns(t *testing.T) {
	apart(t)
	apply(t, plan(http, nil))
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: base + 500, Gid: base + 500}}
	require.NoError(t, cmd.Start())
	defer func() { cmd.Process.Kill(); cmd.Wait() }()

	assert.Equal(t, network.Answer{Refused: map[string]string{}, Unsettled: true}, apply(t, &network.Plan{}))
	assert.NoError(t, as(t, base+1000, "0.0.0.0:80"))
	assert.Equal(t, no(syscall.EADDRNOTAVAIL), as(t, base+1000, "127.9.9.9:9000"), "also a process that comes later")
	assert.Equal(t, no(syscall.EACCES), as(t, 4242, "0.0.0.0:80"), "its ports too")
	assert.NoError(t, as(t, base+65536, "127.9.9.9:9000"), "who has none is forgotten")

	other := plan(nil)
	other.Jails[0].Name, other.Jails[0].UIDs = "other", []network.Prefix{{Base: base + 5<<16, Bits: 16}}
	a := apply(t, other)
	assert.Contains(t, a.Refused["other"], "still have its addresses")
	assert.True(t, a.Unsettled)

	cmd.Process.Kill()
	cmd.Wait()
	assert.Equal(t, network.Answer{Refused: map[string]string{}}, apply(t, other))
	assert.Equal(t, network.Answer{}, apply(t, &network.Plan{}))
	assert.NoDirExists(t, dir)
}

// A host without IPv6 has no ::1, and its jails have none either.
func TestWithoutIPv6(t *testing.T) {
	apart(t)
	for _, which := range []string{"all", "lo"} {
		require.NoError(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0))
	}
	apply(t, plan(http, nil))
	assert.NoError(t, as(t, base, "127.0.0.1:9000"))
	assert.Equal(t, no(syscall.EADDRINUSE), as(t, base+65536, "0.0.0.0:80"))
	assert.Equal(t, network.Answer{}, apply(t, &network.Plan{}))
}

func TestWithoutAFileSystem(t *testing.T) {
	apart(t)
	require.NoError(t, unix.Unmount(bpffs, 0))
	_, err := Apply(dir, plan(http))
	assert.ErrorContains(t, err, "is no BPF file system; mount -t bpf bpf /sys/fs/bpf")
	_, err = Apply(dir, &network.Plan{})
	assert.NoError(t, err, "nobody needs it")
}

func TestAnswer(t *testing.T) {
	var out strings.Builder
	assert.Error(t, Answer(strings.NewReader("{"), &out))
	require.NoError(t, Answer(strings.NewReader(`{"Pins":"/nowhere","Lock":"/nowhere/lock"}`), &out))
	assert.Contains(t, out.String(), `"Error":"open /nowhere/lock: no such file or directory"`)
	out.Reset()
	require.NoError(t, Answer(strings.NewReader(`{"Pins":"/nowhere","Lock":"`+filepath.Join(t.TempDir(), "lock")+`"}`), &out))
	assert.Contains(t, out.String(), `"Error":""`)
}

// within moves the whole process into a new cgroup while f runs. The cgroup is there longer.
func within(t *testing.T, dir string, f func()) {
	t.Helper()
	pid := []byte(fmt.Sprint(os.Getpid()))
	before, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	_, own, _ := strings.Cut(string(before), "0::")
	own, _, _ = strings.Cut(own, "\n")
	root, err := cgroup.Root(mountInfo)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), pid, 0))
	defer func() { require.NoError(t, os.WriteFile(filepath.Join(root, own, "cgroup.procs"), pid, 0)) }()
	f()
}

// A jail that has the host's ids is known by its cgroup, whatever uid its processes take, and
// by nothing else.
func TestByCgroup(t *testing.T) {
	apart(t)
	root, err := cgroup.Root(mountInfo)
	require.NoError(t, err)
	group := filepath.Join(root, fmt.Sprint("netload-test-", os.Getpid()))
	require.NoError(t, os.Mkdir(group, 0o755))
	defer os.Remove(group)
	id, err := cgroup.ID(group)
	require.NoError(t, err)
	p := plan(http, nil)
	p.Jails[0].ByCgroup, p.Jails[0].UIDs = true, nil

	apply(t, p)
	within(t, group, func() { assert.NoError(t, as(t, 0, "127.9.9.9:9000"), "nobody knows its cgroup") })
	p.Jails[0].Cgroup = group
	apply(t, p)
	inside := func(as0 error) {
		t.Helper()
		within(t, group, func() {
			for _, uid := range []uint32{0, 4242, base + 65536} {
				assert.Equal(t, no(as0), as(t, uid, "127.9.9.9:9000"), uid)
			}
			assert.NoError(t, as(t, 4242, "0.0.0.0:80"), "its own, a low one")
		})
		assert.NoError(t, as(t, 0, "127.9.9.9:9000"), "who is not in it is not of the jail")
		assert.Equal(t, no(syscall.EACCES), as(t, 4242, "0.0.0.0:80"))
	}
	inside(syscall.EADDRNOTAVAIL)

	// Who does not know where the cgroup is leaves it as it was, with what the plan says now.
	p.Jails[0].Cgroup, p.Jails[0].Flags = "", network.FlagPorts
	apply(t, p)
	inside(syscall.EACCES)
	apply(t, plan(nil, nil)) // the same id is another jail's now, by its uids
	within(t, group, func() { assert.Equal(t, no(syscall.EACCES), as(t, 0, "127.9.9.9:9000")) })

	a := apply(t, &network.Plan{})
	assert.True(t, a.Unsettled, "the cgroup is there")
	inside(syscall.EACCES)
	a = apply(t, plan(nil))
	assert.Contains(t, a.Refused["a"], "still have its addresses")
	require.NoError(t, os.Remove(group))
	top, err := os.Open(root)
	require.NoError(t, err)
	defer top.Close()
	assert.False(t, cgroup.Exists(top, id))
	assert.Equal(t, network.Answer{}, apply(t, &network.Plan{}))
	assert.NoDirExists(t, dir)
}

// What whoever starts a jail does to the map by itself (package netkeep).
func TestOneEntry(t *testing.T) {
	apart(t)
	p := plan(http)
	p.Jails[0].ByCgroup, p.Jails[0].UIDs = true, nil
	apply(t, p)
	root, err := cgroup.Root(mountInfo)
	require.NoError(t, err)
	group := filepath.Join(root, fmt.Sprint("netload-one-", os.Getpid()))
	require.NoError(t, os.Mkdir(group, 0o755))
	defer os.Remove(group)
	id, err := cgroup.ID(group)
	require.NoError(t, err)

	fd, err := sys.OpenPinned(filepath.Join(dir, "1-1", network.CgroupMap))
	require.NoError(t, err)
	defer sys.Close(fd)
	key, value := network.CgroupKey(id), p.Jails[0].Value()
	assert.Equal(t, syscall.ENOENT, sys.DeleteFromMap(fd, key[:]))
	require.NoError(t, sys.SetInMap(fd, key[:], value[:]))
	within(t, group, func() { assert.Equal(t, no(syscall.EADDRNOTAVAIL), as(t, 0, "127.9.9.9:9000")) })
	require.NoError(t, sys.DeleteFromMap(fd, key[:]))
	within(t, group, func() { assert.NoError(t, as(t, 0, "127.9.9.9:9000")) })
	_, err = sys.OpenPinned(filepath.Join(dir, "1-1", "none"))
	assert.Equal(t, syscall.ENOENT, err)
	assert.Error(t, sys.SetInMap(-1, key[:], value[:]))
}

// A thousand jails have what each owns, and it goes as it came.
func TestThousandJails(t *testing.T) {
	apart(t)
	var ports [][]jail.Ports
	for i := range 1000 {
		ports = append(ports, []jail.Ports{{First: uint16(1000 + i), Last: uint16(1000 + i), TCP: true, UDP: true}})
	}
	p := plan(ports...)
	const base = 0x10000000 // where no jail of the machine's is
	for i := range p.Jails {
		p.Jails[i].Name, p.Jails[i].UIDs = fmt.Sprint("jail", i), network.Prefixes(base+uint32(i)<<16, 65536)
	}
	apply(t, p)
	for _, i := range []uint32{0, 499, 999} {
		own := fmt.Sprint("0.0.0.0:", 1000+i)
		assert.NoError(t, as(t, base+i<<16+1000, own))
		assert.Equal(t, no(syscall.EADDRINUSE), as(t, base+(i+1)%1000<<16, own))
		assert.Equal(t, no(syscall.EACCES), as(t, 4242, own))
		assert.NoError(t, as(t, base+i<<16, "127.0.0.1:8080"))
	}
	nl, err := openNetlink()
	require.NoError(t, err)
	defer unix.Close(nl.fd)
	there, err := nl.addresses()
	require.NoError(t, err)
	assert.Len(t, there, 1000)
	assert.Equal(t, network.Answer{Refused: map[string]string{}}, apply(t, p))
	assert.Equal(t, network.Answer{}, apply(t, &network.Plan{}))
	there, err = nl.addresses()
	require.NoError(t, err)
	assert.Empty(t, there)
}
