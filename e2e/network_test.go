package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/cgroup"
	machine "jail/internal/needs"
	"jail/internal/sys"
)

// hostAddress is an address of the host's in the network of apart, as an interface to the
// world has one.
const hostAddress = "10.99.0.1"

// apart gives the test, and all that it starts, a network namespace of its own: the
// programs at the root of the cgroups leave everybody in another one alone, and what is
// bound does not meet the machine's. Their pins are in a BPF file system that goes with the
// test, and they with it.
//
// It returns what runs a subtest there: one is on a thread of its own, as its processes are.
func apart(t *testing.T) (within func(name string, f func(t *testing.T))) {
	t.Helper()
	machine.Root(t, "BPF programs at the root of the cgroups")
	ip := machine.Program(t, "ip")
	runtime.LockOSThread() // for good: the thread ends with the test
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", hostAddress + "/32", "dev", "lo"}} {
		require.NoError(t, command(ip, args...))
	}
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0))
	ownCgroup(t)
	require.NoError(t, unix.Mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=700"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount("/sys/fs/bpf", unix.MNT_DETACH)) })
	namespace, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	require.NoError(t, err)
	t.Cleanup(func() { namespace.Close() })
	return func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread()
			require.NoError(t, unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET))
			f(t)
		})
	}
}

// ownCgroup moves the tests into a cgroup that may be divided, where the jails of serve get
// theirs: others on the machine have jails of the same names.
func ownCgroup(t *testing.T) {
	t.Helper()
	root, err := cgroup.Root("/proc/self/mountinfo")
	machine.Machine(t, err == nil, "the unified hierarchy of cgroups")
	move := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
	}
	before := cgroupOf(t, os.Getpid())
	// Its name is that of nobody else's: each run counts processes from 1.
	dir := filepath.Join(root, filepath.Base(world.scratch))
	own := filepath.Join(dir, "supervisor")
	require.NoError(t, os.MkdirAll(own, 0o755))
	require.NoError(t, move(own))
	t.Cleanup(func() {
		require.NoError(t, move(before))
		if !poll(deadline, func() bool { return os.Remove(own) == nil }) {
			t.Errorf("the cgroup is not empty after %v: %s", deadline, whoIsIn(own))
		}
		left, _ := filepath.Glob(filepath.Join(dir, "jail-*"))
		require.Empty(t, left, "cgroups of jails")
		require.NoError(t, os.Remove(dir))
	})
}

// whoIsIn says which processes are in a cgroup.
func whoIsIn(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, pid := range strings.Fields(string(text)) {
		args, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		status, _ := os.ReadFile("/proc/" + pid + "/stat")
		all = append(all, fmt.Sprintf("%s %.60s: %.200s", pid, status, strings.ReplaceAll(string(args), "\x00", " ")))
	}
	return strings.Join(all, "; ")
}

// party is a process that does with sockets what it is told (e2e/attack/sockets.go).
type party struct {
	name string
	in   io.WriteCloser
	pipe *os.File
	out  *bufio.Reader
	cmd  *exec.Cmd
}

func newParty(t *testing.T, name string, cmd *exec.Cmd) *party {
	t.Helper()
	p := &party{name: name, cmd: cmd}
	var err error
	p.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	p.pipe = out.(*os.File)
	p.out = bufio.NewReader(out)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(p.end)
	return p
}

func (p *party) end() {
	p.in.Close()
	p.cmd.Wait()
}

// ask has the party do one thing. One that does not answer, longer than it waits itself, is
// named, and not waited for until the test has run out of time.
func (p *party) ask(t testing.TB, line string) string {
	t.Helper()
	_, err := io.WriteString(p.in, line+"\n")
	require.NoError(t, err)
	require.NoError(t, p.pipe.SetReadDeadline(time.Now().Add(2*deadline)))
	answer, err := p.out.ReadString('\n')
	require.NoError(t, err, "%s: %s", p.name, line)
	return strings.TrimSuffix(answer, "\n")
}

// partyIn is a party inside, as the jail's root or, with a uid, as that.
func partyIn(t *testing.T, jail string, uid int) *party {
	args := []string{"exec"}
	if uid != 0 {
		args = append(args, "-u", strconv.Itoa(uid))
	}
	return newParty(t, fmt.Sprintf("%s %d", jail, uid), exec.Command(initPath, append(args, jail, attackPath, "sockets")...))
}

// partyOf is a party of the host's.
func partyOf(t *testing.T, uid int) *party {
	cmd := exec.Command(attackPath, "sockets")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	return newParty(t, fmt.Sprintf("host %d", uid), cmd)
}

// carry puts the program of the parties where they are.
func carry(t *testing.T) {
	t.Helper()
	for _, tree := range []string{busyboxRoot, debianRoot, serviceRoot, "/"} {
		path := filepath.Join(tree, attackPath)
		require.NoError(t, command("install", "-D", "-m", "755", filepath.Join(world.scratch, "bin/attack"), path))
		t.Cleanup(func() { os.Remove(path) })
	}
}

// row is what one party does and what comes of it. want may begin with ~ for a pattern.
// What a row answers is $name in later ones, if it has a name.
type networkRow struct{ who, line, want string }

// play plays rows, in their order.
func play(t *testing.T, parties map[string]*party, rows []networkRow) {
	t.Helper()
	last := ""
	for _, r := range rows {
		line := strings.ReplaceAll(r.line, "$last", last)
		got := parties[r.who].ask(t, line)
		last = got
		as := got == r.want
		if pattern, ok := strings.CutPrefix(r.want, "~"); ok {
			as = regexp.MustCompile("^(?:" + pattern + ")$").MatchString(got)
		}
		if !as {
			t.Errorf("%s: %s: %s, not %s", r.who, line, got, r.want)
		}
	}
}

func resetAll(t *testing.T, parties map[string]*party) {
	t.Helper()
	for _, p := range parties {
		require.Equal(t, "ok", p.ask(t, "reset"))
	}
}

// twoNetworks is a registry of two jails that have a network of their own: what of a and b.
func twoNetworks(a, b, host string) registry {
	return registry{
		text: fmt.Sprintf("version = 1\n%s\n[jail.a]\nrootfs = %q\nusers = [\"centos\"]\nuid = %d\n%s\n[jail.b]\nrootfs = %q\nusers = [\"debian\"]\n%s\n",
			host, busyboxRoot, centos.id, a, debianRoot, b),
		jails: []string{"a", "b"},
		users: []account{centos, work},
	}
}

const (
	jailA = `ports = [80, 25, "8000-8010", "53/udp"]` + "\n" + `loopback = [15432]`
	jailB = "ports = [81]\nloopback = []"
)

// aliases returns the addresses that stand for a jail's loopback, from plan.
func aliases(t *testing.T, jail string) (four, six string) {
	t.Helper()
	out, err := exec.Command(initPath, "plan", jail).CombinedOutput()
	require.NoError(t, err, "%s", out)
	m := regexp.MustCompile(`127\.0\.0\.1 is (\S+) on the host, and ::1 is (\S+)`).FindSubmatch(out)
	require.NotNil(t, m, "%s", out)
	return string(m[1]), string(m[2])
}

// Jails are known by their ids, or, where those are the host's, by their cgroups. What comes
// of it is the same.
func TestNetwork(t *testing.T)              { networkScenarios(t, "") }
func TestNetworkRootMode(t *testing.T)      { networkScenarios(t, rootMode) }
func TestNetworkContainerRoot(t *testing.T) { networkScenarios(t, containerRoot) }

const (
	rootMode      = "userns = false"
	containerRoot = "userns = false\ncontainer_root = true"
)

func networkScenarios(t *testing.T, mode string) {
	within := apart(t)
	carry(t)
	own(t, twoNetworks(mode+"\n"+jailA, mode+"\n"+jailB, "[host]\nreserved = [3306]"))
	parties := map[string]*party{
		"A": partyIn(t, "a", centos.id), "A2": partyIn(t, "a", centos.id), "A0": partyIn(t, "a", 0),
		"B": partyIn(t, "b", work.id), "login": partyOf(t, centos.id), "user": partyOf(t, alice.id), "root": partyOf(t, 0),
	}
	a4, a6 := aliases(t, "a")
	b4, b6 := aliases(t, "b")
	for _, section := range []struct {
		name string
		rows []networkRow
	}{
		{"ownership", []networkRow{
			{"A", "bind w 4 tcp 0.0.0.0 80", "0.0.0.0 80"}, // without a capability
			{"A", "bind m 4 tcp 0.0.0.0 25", "0.0.0.0 25"},
			{"B", "bind w 4 tcp 0.0.0.0 80", "EADDRINUSE"}, // on its loopback, where it is A's too
			{"B", "bind o 4 tcp 0.0.0.0 81", "0.0.0.0 81"},
			{"B", "bind p 4 tcp 0.0.0.0 9090", "127.0.0.1 9090"},
			{"A", "bind p 4 tcp 0.0.0.0 9090", "127.0.0.1 9090"},
			{"A", "bind p6 6 tcp :: 9091 dual", "::ffff:127.0.0.1 9091"},
			{"A", "bind po 6 tcp :: 9092 v6only", "::1 9092"},
			{"A", "bind d6 6 tcp :: 8000 dual", ":: 8000"},
			{"A", "bind m4 6 tcp ::ffff:0.0.0.0 8001 dual", "::ffff:0.0.0.0 8001"},
			{"B", "bind m4 6 tcp ::ffff:0.0.0.0 8001 dual", "EADDRINUSE"},
			{"B", "bind u 4 udp 0.0.0.0 5353", "EACCES"},
			{"B", "bind u 6 udp :: 5353", "EACCES"},
			{"A", "bind u 4 udp 0.0.0.0 53", "0.0.0.0 53"},
			{"A", "bind t 4 tcp 0.0.0.0 53", "EACCES"}, // 53/udp is no TCP port, and below 1024 there is nothing on the loopback
			{"A", "bind e 4 udp 0.0.0.0 0", "0.0.0.0"},
			{"A", "bind e 4 tcp 0.0.0.0 0", "0.0.0.0"},
			{"B", "bind x 4 tcp " + hostAddress + " 9500", "EACCES"},
			{"A", "bind x 4 tcp " + hostAddress + " 8006", hostAddress + " 8006"},
			{"B", "connect x 4 tcp " + hostAddress + " 8006", "connected"}, // the network is there for all
			{"A", "bind r 4 tcp 0.0.0.0 3306", "EADDRINUSE"},
			{"A", "bind r 4 tcp 127.0.0.1 3306", "EADDRINUSE"},
			{"A", "bind r 4 udp 0.0.0.0 3306", "EACCES"},
			{"user", "bind x 4 tcp 127.0.0.1 8005", "EACCES"},
			{"user", "bind x 6 tcp :: 8005", "EACCES"},
			{"user", "bind x 4 tcp 0.0.0.0 3306", "0.0.0.0 3306"},
			{"user", "bind y 4 tcp 0.0.0.0 18005", "0.0.0.0 18005"},
			{"root", "bind x 4 tcp 127.0.0.1 8005", "127.0.0.1 8005"},
			{"root", "close x", "ok"},
			{"login", "bind x 4 tcp 0.0.0.0 8005", "0.0.0.0 8005"},
			{"login", "bind y 4 tcp 0.0.0.0 81", "EADDRINUSE"},
			{"login", "bind z 4 tcp 0.0.0.0 18006", "127.0.0.1 18006"},
			{"A", "bind mp 4 mptcp 0.0.0.0 8002", "0.0.0.0 8002"},
			{"B", "bind mp 4 mptcp 0.0.0.0 8003", "EADDRINUSE"},
			{"A", "bind f 4 tcp 10.9.9.9 9701 freebind", "EACCES"},
			{"A", "bind f 4 tcp 10.9.9.9 0 freebind", "10.9.9.9"},
			{"A0", "bind f 4 tcp 0.0.0.0 80 transparent", "EPERM"},
			{"B", "bind dv 4 tcp 0.0.0.0 8004 device=lo", "EADDRINUSE"},
			{"A", "bind lr 4 tcp 0.0.0.0 0 range=80", "0.0.0.0"}, // the kernel keeps to its own range
			{"A", "bind rp 4 tcp 0.0.0.0 8007 reuse", "0.0.0.0 8007"},
			{"B", "bind rp 4 tcp 0.0.0.0 8007 reuse", "EADDRINUSE"},
			{"user", "bind rp 4 tcp 0.0.0.0 8007 reuse", "EACCES"},
		}},
		{"TCP on the loopback", []networkRow{
			{"A", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
			{"B", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
			{"root", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
			{"A2", "connect c 4 tcp 127.0.0.1 8080", "connected"},
			{"A", "accept l k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"A2", "names c", "127.0.0.1 127.0.0.1"},
			{"B", "connect c 4 tcp 127.0.0.1 8080", "connected"},
			{"B", "accept l k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"user", "connect c 4 tcp 127.0.0.1 8080", "connected"},
			{"root", "accept l k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"login", "connect c 4 tcp 127.0.0.1 8080", "connected"}, // what sshd does for -L
			{"A", "accept l k2", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"B", "connect d 4 tcp " + a4 + " 8080", "ECONNREFUSED"},
			{"user", "connect d 4 tcp " + a4 + " 8080", "ECONNREFUSED"},
			{"user", "connect d 6 tcp ::ffff:" + a4 + " 8080", "ECONNREFUSED"},
			{"root", "connect d 4 tcp " + a4 + " 8080", "connected"},
			{"A", "accept l k3", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"A2", "connect c3 4 tcp " + a4 + " 8080", "connected"},
			{"A2", "connect c4 4 tcp 0.0.0.0 8080", "connected"},
			{"B", "bind q 4 tcp " + a4 + " 9600", "EADDRNOTAVAIL"},
			{"A", "bind n1 4 tcp 127.0.1.1 8081", "127.0.1.1 8081"}, // Debian's own name
			{"A2", "connect n1 4 tcp 127.0.1.1 8081", "connected"},
			{"A2", "connect n2 4 tcp 127.0.0.1 8081", "ECONNREFUSED"},
			{"A", "bind n9 4 tcp 127.9.9.9 8082", "EADDRNOTAVAIL"},
			{"A2", "connect n9 4 tcp 127.9.9.9 8082", "ECONNREFUSED"},
			{"A2", "connect c7 6 tcp ::ffff:127.0.0.1 8080", "connected"},
			{"A2", "names c7", "::ffff:127.0.0.1 ::ffff:127.0.0.1"},
			{"A", "bind ll 4 tcp 127.0.0.1 82", "EACCES"},
			{"A", "bind l0 4 tcp 127.0.0.1 0", "127.0.0.1"},
			{"A", "bind w 4 tcp 0.0.0.0 80", "0.0.0.0 80"},
			{"A", "bind lw 4 tcp 127.0.0.1 80", "EADDRINUSE"},
			{"A2", "connect w 4 tcp 127.0.0.1 80", "connected"}, // its own, on all addresses
			{"root", "connect w 4 tcp 127.0.0.1 80", "connected"},
			{"B", "connect w 4 tcp 127.0.0.1 80", "ECONNREFUSED"},
			{"A", "bind d6 6 tcp :: 8000 dual", ":: 8000"},
			{"B", "connect w 6 tcp ::1 8000", "ECONNREFUSED"},
			{"B", "connect w 4 tcp 127.0.0.1 8000", "ECONNREFUSED"},
			{"A2", "connect w6 6 tcp ::1 8000", "connected"},
			{"A", "bind mp 4 mptcp 0.0.0.0 8002", "0.0.0.0 8002"},
			{"B", "connect w 4 tcp 127.0.0.1 8002", "ECONNREFUSED"},
			{"A2", "connect mp 4 mptcp 127.0.0.1 8002", "connected"},
			{"A", "accept mp mk", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"A2", "send mp hello", "5"},
			{"A", "recv mk", "~hello.*"},
			{"A", "bind p6 6 tcp :: 9091 dual", "::ffff:127.0.0.1 9091"},
			{"A2", "connect pa 4 tcp 127.0.0.1 9091", "connected"},
			{"A2", "connect pb 6 tcp ::1 9091", "connected"}, // falls to IPv4, where it is
			{"B", "connect z 4 tcp 127.0.0.1 9999", "ECONNREFUSED"},
			{"B", "connect z 4 tcp 127.0.0.1 9091", "ECONNREFUSED"},
			{"A2", "connect s 4 tcp " + hostAddress + " 80 from=127.0.0.1", "EINVAL"},
			{"A", "make au 4 tcp", "ok"},
			{"A", "listen au", `~\d+`},
			{"B", "connect e 4 tcp 127.0.0.1 $last", "ECONNREFUSED"},
			{"A", "listen au", `~\d+`},
			{"A2", "connect e 4 tcp 127.0.0.1 $last", "connected"},
		}},
		{"the host's services", []networkRow{
			{"root", "bind hw 4 tcp 0.0.0.0 15000", "0.0.0.0 15000"},
			{"root", "bind pg 4 tcp 127.0.0.1 15432", "127.0.0.1 15432"},
			{"root", "bind p6 6 tcp ::1 15432 v6only", "::1 15432"},
			{"root", "bind p2 4 tcp 127.0.0.1 15433", "127.0.0.1 15433"},
			{"A", "connect pg 4 tcp 127.0.0.1 15432", "connected"},
			{"root", "accept pg k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"A", "connect p6 6 tcp ::1 15432", "connected"},
			{"A", "connect pm 6 tcp ::ffff:127.0.0.1 15432", "connected"},
			{"B", "connect pg 4 tcp 127.0.0.1 15432", "ECONNREFUSED"},
			{"B", "connect pg 6 tcp ::1 15432", "ECONNREFUSED"},
			{"login", "connect pg 4 tcp 127.0.0.1 15433", "ECONNREFUSED"},
			{"A", "connect p2 4 tcp 127.0.0.1 15433", "ECONNREFUSED"},
			{"A", "bind px 4 tcp 127.0.0.1 15432", "EADDRINUSE"},
			{"A", "bind px 6 tcp ::1 15432", "EADDRINUSE"},
			{"A", "connect hw 4 tcp 127.0.0.1 15000", "ECONNREFUSED"},
			{"A", "connect hw 6 tcp ::ffff:127.0.0.1 15000", "ECONNREFUSED"},
			{"A", "connect hw 4 tcp 0.0.0.0 15000", "ECONNREFUSED"},
			{"A", "connect hx 4 tcp " + hostAddress + " 15000", "connected"},
			{"user", "connect hy 4 tcp 127.0.0.1 15000", "connected"},
		}},
		{"::1", []networkRow{
			{"A", "bind l 6 tcp ::1 8080", "::1 8080"},
			{"B", "bind l 6 tcp ::1 8080", "::1 8080"},
			{"A", "bind o 6 tcp ::1 8083 v6only", "::1 8083"},
			{"A2", "connect c 6 tcp ::1 8080", "connected"},
			{"A", "accept l k", "::1 ::1 ::1"},
			{"A2", "names c", "::1 ::1"},
			{"A2", "connect d 6 tcp :: 8080", "connected"},
			{"B", "bind x 6 tcp " + a6 + " 9600", "EADDRNOTAVAIL"},
			{"B", "connect x 6 tcp " + a6 + " 8080", "ECONNREFUSED"},
			{"user", "connect x 6 tcp " + a6 + " 8080", "ECONNREFUSED"},
			{"root", "connect x 6 tcp " + a6 + " 8080", "connected"},
			{"login", "connect c 6 tcp ::1 8080", "connected"},
			{"B", "connect y 6 tcp ::1 8083", "ECONNREFUSED"},
		}},
		{"UDP", []networkRow{
			{"A", "bind s 4 udp 127.0.0.1 7000", "127.0.0.1 7000"},
			{"B", "bind s 4 udp 127.0.0.1 7000", "127.0.0.1 7000"},
			{"A2", "make c 4 udp", "ok"},
			{"A2", "sendto c 127.0.0.1 7000 q", "1"},
			{"A", "echo s", "q 127.0.0.1"},
			{"A2", "recv c", "rq 127.0.0.1"},
			{"A2", "connect d 4 udp 127.0.0.1 7000", "connected"},
			{"A2", "send d q", "1"},
			{"A", "echo s", "q 127.0.0.1"},
			{"A2", "recv d", "~rq.*"},
			{"A2", "names d", "127.0.0.1 127.0.0.1"},
			{"A2", "bind w 4 udp 0.0.0.0 0", "0.0.0.0"},
			{"A2", "connect w 4 udp 127.0.0.1 7000", "connected"},
			{"A2", "send w q", "1"},
			{"A", "echo s", "q 127.0.0.1"},
			{"A2", "recv w", "~rq.*"},
			{"A2", "bind v 4 udp 0.0.0.0 0", "0.0.0.0"},
			{"A2", "sendto v 127.0.0.1 7000 q", "1"},
			{"A", "echo s", "q 127.0.0.1"},
			{"A2", "recv v", "rq 127.0.0.1"},
			{"A2", "make m 6 udp", "ok"},
			{"A2", "sendto m ::ffff:127.0.0.1 7000 q", "1"},
			{"A", "echo s", "q 127.0.0.1"},
			{"A2", "recv m", "rq ::ffff:127.0.0.1"},
			{"A", "bind u 4 udp 0.0.0.0 53", "0.0.0.0 53"},
			{"B", "make b 4 udp", "ok"},
			{"B", "sendto b 127.0.0.1 53 q", "ECONNREFUSED"},
			{"B", "sendto b " + a4 + " 53 q", "ECONNREFUSED"},
			{"user", "make b 4 udp", "ok"},
			{"user", "sendto b " + a4 + " 53 q", "ECONNREFUSED"},
			{"A2", "sendto c 127.0.0.1 53 q", "1"},
			{"A", "echo u", "q 127.0.0.1"},
			{"A2", "recv c", "rq 127.0.0.1"},
			{"A", "bind s6 6 udp ::1 7001", "::1 7001"},
			{"A2", "make c6 6 udp", "ok"},
			{"A2", "sendto c6 ::1 7001 q", "1"},
			{"A", "echo s6", "q ::1"},
			{"A2", "recv c6", "rq ::1"},
			{"A2", "connect d6 6 udp ::1 7001", "connected"},
			{"A2", "send d6 q", "1"},
			{"A", "echo s6", "q ::1"},
			{"A2", "recv d6", "~rq.*"},
			{"A2", "sendto c 127.0.0.1 7000 q source=127.0.0.1", "1"},
			{"A", "echo s", "q 127.0.0.1"},
			{"A2", "sendto c 127.0.0.1 7000 q source=" + b4, "EINVAL"},
			{"A2", "send d q segment", "1"}, // as QUIC does: control data on a connected socket
			{"A", "echo s", "q 127.0.0.1"},
			{"A2", "recv d", "~rq.*"},
			{"A2", "send d q source=127.0.0.1", "1"},
			{"A", "echo s", "q 127.0.0.1"},
			{"A2", "recv d", "~rq.*"},
			{"B", "connect e 4 udp " + hostAddress + " 53", "connected"},
			{"B", "send e q", "1"},
			{"A", "recv u", "q " + hostAddress},
			{"B", "send e spoof source=" + a4, "EINVAL"},
			{"B", "send e segment segment", "7"},
			{"A", "recv u", "segment " + hostAddress},
		}},
		{"sources", []networkRow{
			{"root", "bind hw 4 tcp 0.0.0.0 15000", "0.0.0.0 15000"},
			{"root", "bind hu 4 udp 127.0.0.1 15432", "127.0.0.1 15432"},
			{"root", "bind hu6 6 udp ::1 15432 v6only", "::1 15432"},
			// A service that trusts 127.0.0.0/8 sees none of it from a jail, but where it is opened.
			{"A2", "connect s 6 tcp ::ffff:" + hostAddress + " 15000 from=::ffff:127.0.0.1", "EINVAL"},
			{"A2", "connect t 6 udp ::ffff:" + hostAddress + " 15000 from=::ffff:127.0.0.1", "EINVAL"},
			{"A2", "connect t 4 udp " + hostAddress + " 15000 from=127.0.0.1", "EINVAL"},
			// And none answers to somebody else.
			{"A", "make u 4 udp", "ok"},
			{"A", "make u6 6 udp", "ok"},
			{"A", "sendto u 127.0.0.1 15432 spoof source=" + b4, "EINVAL"},
			{"A", "sendto u 127.0.0.1 15432 spoof source=127.9.9.9", "EINVAL"},
			{"A", "sendto u 127.0.0.1 15432 own source=127.0.0.1", "3"},
			{"root", "recv hu", "own 127.0.0.1"},
			{"A", "sendto u6 ::1 15432 spoof source=" + b6, "EINVAL"},
			{"A", "sendto u6 ::1 15432 own source=::1", "3"},
			{"root", "recv hu6", "own ::1"},
			{"A", "connect c 4 udp 127.0.0.1 15432", "connected"},
			{"A", "send c spoof source=" + b4, "EINVAL"},
			{"A", "connect c6 6 udp ::1 15432", "connected"},
			{"A", "send c6 spoof source=" + b6, "EINVAL"},
			{"user", "make u 4 udp", "ok"},
			{"user", "make u6 6 udp", "ok"},
			{"user", "sendto u 127.0.0.1 15432 spoof source=" + a4, "EINVAL"},
			{"user", "sendto u " + hostAddress + " 15000 spoof source=" + a4, "EINVAL"},
			{"user", "sendto u6 ::1 15432 spoof source=" + a6, "EINVAL"},
			{"user", "sendto u 127.0.0.1 15432 last", "4"},
			{"root", "recv hu", "last 127.0.0.1"},
			{"user", "sendto u6 ::1 15432 last", "4"},
			{"root", "recv hu6", "last ::1"},
		}},
		{"other forms", []networkRow{
			{"A", "bind s 4 udp 127.0.0.1 7000", "127.0.0.1 7000"},
			{"root", "bind hu 4 udp 127.0.0.1 15700", "127.0.0.1 15700"},
			{"root", "bind hd 4 udp 0.0.0.0 15800 device=lo", "0.0.0.0 15800"},
			// An address of IPv4 on an IPv6 socket.
			{"A2", "connect q 6 udp ::ffff:127.0.0.1 7000 as4", "connected"},
			{"A2", "send q q", "1"},
			{"A", "echo s", "q 127.0.0.1"},
			{"A2", "recv q", "~rq.*"},
			{"B", "connect q 6 udp ::ffff:" + a4 + " 7000 as4", "ECONNREFUSED"},
			// None, which means all (inet_bind), and none to connect to, which ends a connection.
			{"A", "make n 4 tcp", "ok"},
			{"A", "unspecified n 25", "ok"},
			{"B", "make n 4 tcp", "ok"},
			{"B", "unspecified n 80", "~EADDRINUSE|EPERM"},
			{"user", "make n 4 tcp", "ok"},
			{"user", "unspecified n 80", "EACCES"},
			{"A2", "connect d 4 udp 127.0.0.1 7000", "connected"},
			{"A2", "disconnect d", "ok"},
			{"A2", "sendto d 127.0.0.1 15700 d", "1"}, // to nobody
			{"A2", "sendto d 127.0.0.1 7000 d", "1"},
			{"A", "recv s", "d 127.0.0.1"},
			// A route through the host's loopback: before Linux 6.18 anybody may ask for it, and the
			// kernel drops what comes so (accept_source_route).
			{"A2", "make lr 4 udp", "ok"},
			{"A2", "through lr 127.0.0.1", "~ok|EPERM"},
			{"A2", "sendto lr " + hostAddress + " 15700 routed", "6"},
			{"user", "make u 4 udp", "ok"},
			{"user", "sendto u 127.0.0.1 15700 last", "4"},
			{"root", "recv hu", "last 127.0.0.1"},
			// A socket of one interface is not found by who looks for it; it gets nothing all the same.
			{"A2", "make e 4 udp", "ok"},
			{"A2", "sendto e 127.0.0.1 15800 A", "1"},
			{"user", "sendto u 127.0.0.1 15800 last", "4"},
			{"root", "recv hd", "last 127.0.0.1"},
		}},
		{"ways around", []networkRow{
			{"A", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
			{"A", "bind w 4 tcp 0.0.0.0 8000", "0.0.0.0 8000"},
			{"A2", "make tf 4 tcp", "ok"},
			{"A2", "sendto tf 127.0.0.1 8080 x fastopen", "1"},
			{"A", "accept l k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"B", "make tf 4 tcp", "ok"},
			{"B", "sendto tf 127.0.0.1 8000 x fastopen", "ECONNREFUSED"},
			{"A2", "make tg 4 tcp", "ok"},
			{"A2", "opt tg 6 30 1", "ok"}, // TCP_FASTOPEN_CONNECT
			{"A2", "connect tg 4 tcp 127.0.0.1 8080", "connected"},
			{"A2", "send tg x", "1"},
			{"A", "accept l k2", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"A2", "bind np 4 tcp 127.0.0.1 0 noport", "127.0.0.1"},
			{"B", "make pr 4 tcp", "ok"},
			{"B", fmt.Sprintf("opt pr 0 51 %d", 8004<<16|8004), "~ok|ENOPROTOOPT"}, // IP_LOCAL_PORT_RANGE (Linux 6.3), without a bind
			{"B", "listen pr", `~[3-6]\d{4}`},
			{"B", "make lite 4 udplite", "~E(PERM|PROTONOSUPPORT|ACCES|AFNOSUPPORT)"},
			{"B", "make raw 4 raw", "EPERM"},
			{"B", "make f 4 tcp", "ok"},
			// Who knows what stands for another's loopback has nothing of it.
			{"B", "sees 8080", a4},
			{"B", "connect sn 4 tcp " + a4 + " 8080", "ECONNREFUSED"},
			// A socket of B's, bound by A's root; and one of the host's root.
			{"A0", "take /tmp/fd f", "ok"},
		}},
	} {
		within(section.name, func(t *testing.T) { play(t, parties, section.rows) })
		if section.name != "ways around" {
			resetAll(t, parties)
		}
	}
	within("descriptors from elsewhere", func(t *testing.T) { wandering(t, parties) })
	resetAll(t, parties)
	within("32-bit system calls", func(t *testing.T) { by32Bits(t, parties) })
	resetAll(t, parties)
	within("taking the programs away", func(t *testing.T) { unhooking(t, parties) })
	resetAll(t, parties)
	within("another network namespace", func(t *testing.T) { elsewhere(t) })
	for _, p := range parties {
		p.end()
	}
}

// wandering hands sockets to a jail that others have made: who uses one decides.
func wandering(t *testing.T, parties map[string]*party) {
	inside := fmt.Sprintf("/proc/%d/root/tmp/fd", jailPIDs("a")[0])
	ofB := fmt.Sprintf("/proc/%d/root/tmp/fd", jailPIDs("b")[0])
	play(t, parties, []networkRow{
		{"B", "offer f /tmp/fd", "ok"},
		{"root", "fetch " + ofB + " f", "ok"},
		{"root", "give f " + inside, "ok"},
		{"A0", "take /tmp/fd f", "ok"},
		{"A", "close w", "ok"},
		{"A0", "rebind f 0.0.0.0 8000", "0.0.0.0 8000"},
		{"A0", "listen f", "8000"},
		{"A2", "connect f 4 tcp 127.0.0.1 8000", "connected"},
		{"B", "connect f2 4 tcp 127.0.0.1 8000", "ECONNREFUSED"},
		{"A0", "take /tmp/fd g", "ok"},
		{"root", "make g 4 tcp", "ok"},
		{"root", "give g " + inside, "ok"},
		{"A0", "take /tmp/fd g", "ok"},
		{"A0", "rebind g " + hostAddress + " 9700", "EACCES"},
		{"A0", "rebind g 127.0.0.1 15432", "EADDRINUSE"},
		{"root", "bind hw 4 tcp 0.0.0.0 15000", "0.0.0.0 15000"},
		{"A0", "connect g 4 tcp 127.0.0.1 15000", "ECONNREFUSED"},
		{"A0", "take /tmp/fd h", "ok"}, // of a user of the host who is in on it
		{"user", "make h 4 tcp", "ok"},
		{"user", "offer h /tmp/of-a-user", "ok"},
		{"root", "fetch /tmp/of-a-user h", "ok"},
		{"root", "give h " + inside, "ok"},
		{"A0", "take /tmp/fd h", "ok"},
		{"A0", "rebind h 0.0.0.0 81", "EADDRINUSE"},
		{"A0", "connect h 4 tcp 127.0.0.1 15000", "ECONNREFUSED"},
		{"A", "make o 4 tcp", "ok"}, // and the other way round
		{"A", "offer o /tmp/of-A", "ok"},
		{"root", "fetch " + strings.TrimSuffix(inside, "fd") + "of-A o", "ok"},
		{"user", "take /tmp/for-a-user o", "ok"},
		{"root", "give o /tmp/for-a-user", "ok"},
		{"user", "take /tmp/for-a-user o", "ok"},
		{"user", "rebind o 0.0.0.0 8000", "EACCES"},
		{"user", "connect o 4 tcp 127.0.0.1 15000", "connected"},
	})
	for _, path := range []string{"/tmp/of-a-user", "/tmp/for-a-user"} {
		require.NoError(t, os.Remove(path))
	}
}

// by32Bits does what the rows do by the other system calls that the machine has.
func by32Bits(t *testing.T, parties map[string]*party) {
	got := parties["A"].ask(t, "make32 x 4 tcp")
	machine.Machine(t, got != "int 0x80 faults: this kernel runs no 32-bit code", "32-bit code, which only amd64 with ia32_emulation runs")
	var rows []networkRow
	for _, m := range []string{"", " multiplexed"} {
		rows = append(rows, []networkRow{
			{"A", "make32 w 4 tcp", "ok"},
			{"A", "bind32 w 0.0.0.0 80" + m, "0.0.0.0 80"},
			{"B", "make32 w 4 tcp", "ok"},
			{"B", "bind32 w 0.0.0.0 80" + m, "EADDRINUSE"},
			{"B", "bind32 w " + hostAddress + " 8000" + m, "EACCES"},
			{"B", "bind32 w 0.0.0.0 9090" + m, "127.0.0.1 9090"},
			{"B", "make32 u 6 udp", "ok"},
			{"B", "bind32 u :: 5353" + m, "EACCES"},
			{"A", "make32 p 6 tcp", "ok"},
			{"A", "bind32 p ::1 9091" + m, "::1 9091"},
			{"A2", "make32 c 6 tcp", "ok"},
			{"A2", "connect32 c ::1 9091" + m, "connected"},
			{"B", "make32 c 6 tcp", "ok"},
			{"B", "connect32 c ::1 9091" + m, "ECONNREFUSED"},
			{"B", "make32 d 4 tcp", "ok"},
			{"B", "connect32 d 127.0.0.1 80" + m, "ECONNREFUSED"},
			{"A2", "make32 d 4 tcp", "ok"},
			{"A2", "connect32 d 127.0.0.1 80" + m, "connected"},
			{"user", "make32 w 4 tcp", "ok"},
			{"user", "bind32 w 0.0.0.0 8000" + m, "EACCES"},
			{"A", "reset", "ok"}, {"A2", "reset", "ok"}, {"B", "reset", "ok"}, {"user", "reset", "ok"},
		}...)
	}
	play(t, parties, rows)
}

// unhooking tries to take the programs away: inside, as a login on the host, and as the root of
// a user namespace that a login makes there. Who is root of the host can.
func unhooking(t *testing.T, parties map[string]*party) {
	root, err := cgroup.Root("/proc/self/mountinfo")
	require.NoError(t, err)
	pins, err := filepath.Glob("/sys/fs/bpf/jail/*/link_recvmsg6")
	require.NoError(t, err)
	require.Len(t, pins, 1)
	unshare := machine.Program(t, "unshare")
	nested := exec.Command(unshare, "-r", attackPath, "sockets")
	nested.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(centos.id), Gid: uint32(centos.id)}}
	all := map[string]*party{"nested": newParty(t, "nested", nested)}
	for name, p := range parties {
		all[name] = p
	}
	var rows []networkRow
	for _, who := range []string{"A", "A0", "B", "login", "user", "nested"} {
		rows = append(rows, networkRow{who, "unhook " + root + " " + pins[0], "nothing"})
	}
	play(t, all, append(rows, []networkRow{
		{"nested", "uid", "0"},
		{"nested", "bind w 4 tcp 0.0.0.0 80", "0.0.0.0 80"}, // it is A, whoever it is to itself
		{"nested", "bind x 4 tcp 0.0.0.0 81", "EADDRINUSE"},
		{"nested", "bind y 4 tcp 127.9.9.9 9000", "EADDRNOTAVAIL"},
		{"nested", "connect z 4 tcp 127.0.0.1 15999", "ECONNREFUSED"},
		{"nested", "close w", "ok"},
		{"root", "unhook - " + pins[0], "~pin detached .*removed"},
	}...))
	require.NoError(t, command(initPath, "reload"))
	eventually(t, "it is loaded again", func() bool { _, err := os.Stat(pins[0]); return err == nil })
	all["nested"].end()
}

// elsewhere is somebody with a login's uid in another network namespace: he is left alone.
func elsewhere(t *testing.T) {
	unshare := machine.Program(t, "unshare")
	cmd := exec.Command(unshare, "-n", "sh", "-c", "ip link set lo up && exec setpriv --reuid "+strconv.Itoa(centos.id)+" --clear-groups "+attackPath+" sockets")
	p := newParty(t, "elsewhere", cmd)
	defer p.end()
	play(t, map[string]*party{"E": p}, []networkRow{
		{"E", "bind x 4 tcp 0.0.0.0 9090", "0.0.0.0 9090"},
		{"E", "bind y 4 tcp 127.9.9.9 8005", "127.9.9.9 8005"},
		{"E", "connect c 4 tcp 127.0.0.1 9090", "connected"},
		{"E", "bind z 4 tcp 127.64.0.1 9091", "127.64.0.1 9091"},
	})
}

// rewrite gives a running serve another registry.
func rewrite(t *testing.T, reg registry) {
	t.Helper()
	require.NoError(t, os.WriteFile(registryPath, []byte(reg.text), 0o644))
	require.NoError(t, command(initPath, "reload"))
}

// TestNetworkLife is about what changes while jails run: the registry, serve, the kernel's
// programs.
func TestNetworkLife(t *testing.T)         { networkLife(t, "") }
func TestNetworkLifeRootMode(t *testing.T) { networkLife(t, rootMode) }

func networkLife(t *testing.T, mode string) {
	within := apart(t)
	carry(t)
	twoNetworks := func(a, b, host string) registry { return twoNetworks(mode+"\n"+a, mode+"\n"+b, host) }
	s := own(t, twoNetworks(jailA, jailB, ""))
	parties := map[string]*party{"A": partyIn(t, "a", centos.id), "B": partyIn(t, "b", work.id), "user": partyOf(t, alice.id), "root": partyOf(t, 0)}
	a4, a6 := aliases(t, "a")

	within("a port moves", func(t *testing.T) {
		play(t, parties, []networkRow{{"A", "bind w 4 tcp 0.0.0.0 80", "0.0.0.0 80"}, {"A", "bind p 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"}})
		rewrite(t, twoNetworks(strings.Replace(jailA, "80, ", "", 1), strings.Replace(jailB, "81", "80, 81", 1), ""))
		play(t, parties, []networkRow{
			{"user", "connect k 4 tcp 127.0.0.1 80", "connected"}, // what is bound stays bound
			{"A", "close w", "ok"},
			{"A", "bind w 4 tcp 0.0.0.0 80", "EADDRINUSE"},
			{"B", "bind w 4 tcp 0.0.0.0 80", "0.0.0.0 80"},
			{"A", "bind v 4 tcp 0.0.0.0 8000", "0.0.0.0 8000"},
		})
		assert.Equal(t, a4, first(aliases(t, "a")), "a jail keeps its addresses")
		rewrite(t, twoNetworks(jailA, jailB, ""))
	})
	resetAll(t, parties)

	// Sockets are older than the keys: each call on one is judged as it is made.
	within("sockets from before", func(t *testing.T) {
		rewrite(t, twoNetworks(jailA, "", ""))
		rows := []networkRow{
			{"root", "bind hw 4 tcp 0.0.0.0 15000", "0.0.0.0 15000"},
			{"root", "bind hu 4 udp 127.0.0.1 15001", "127.0.0.1 15001"},
			{"B", "bind w 4 tcp 0.0.0.0 9700", "0.0.0.0 9700"},
			{"B", "connect c 4 tcp 127.0.0.1 15000", "connected"},
			{"B", "make u 4 udp", "ok"},
			{"B", "make u6 6 udp", "ok"},
			{"B", "sendto u 127.0.0.1 15001 before", "6"},
			{"root", "recv hu", "before 127.0.0.1"},
			{"user", "make u 4 udp", "ok"},
		}
		for i := range 9 {
			rows = append(rows, networkRow{"B", fmt.Sprintf("make s%d 4 tcp", i), "ok"})
		}
		play(t, parties, rows)
		rewrite(t, twoNetworks(jailA, jailB, ""))
		play(t, parties, []networkRow{
			{"B", "rebind s0 0.0.0.0 80", "EADDRINUSE"},
			{"B", "rebind s1 " + hostAddress + " 9800", "EACCES"},
			{"B", "rebind s2 127.0.0.1 9801", "127.0.0.1 9801"},
			{"B", "listen s2", "9801"},
			{"B", "connect n 4 tcp 127.0.0.1 9801", "connected"},
			{"A", "connect n 4 tcp 127.0.0.1 9801", "ECONNREFUSED"},
			{"B", "connect s3 4 tcp 127.0.0.1 15000", "ECONNREFUSED"},
			{"B", "connect s4 4 tcp 0.0.0.0 15000", "ECONNREFUSED"},
			{"B", "sendto s5 127.0.0.1 15000 x fastopen", "ECONNREFUSED"},
			{"B", "sendto u 127.0.0.1 15001 after", "5"}, // to nobody, as UDP does
			{"B", "sendto u6 ::ffff:127.0.0.1 15001 after", "5"},
			{"user", "sendto u 127.0.0.1 15001 user", "4"},
			{"root", "recv hu", "user 127.0.0.1"},
			{"user", "connect w 4 tcp " + hostAddress + " 9700", "connected"}, // what is bound stays bound
		})
		rewrite(t, twoNetworks(jailA, `network = "none"`, ""))
		play(t, parties, []networkRow{
			{"B", "connect s6 4 tcp " + hostAddress + " 15000", "ENETUNREACH"},
			{"B", "rebind s7 " + hostAddress + " 0", "EADDRNOTAVAIL"},
			// But for this: what listens without a bind passes no program.
			{"B", "listen s8", `~\d+`},
			{"user", "connect l 4 tcp " + hostAddress + " $last", "connected"},
		})
		rewrite(t, twoNetworks(jailA, jailB, ""))
	})
	resetAll(t, parties)

	within("serve is killed", func(t *testing.T) {
		s.kill(syscall.SIGKILL)
		play(t, parties, []networkRow{
			{"A", "bind w 4 tcp 0.0.0.0 80", "0.0.0.0 80"},
			{"B", "bind w 4 tcp 0.0.0.0 80", "EADDRINUSE"},
			{"user", "bind w 4 tcp 0.0.0.0 8005", "EACCES"},
		})
		require.NoError(t, s.start())
		eventually(t, "serve hears of orders", func() bool { return command(initPath, "reload") == nil })
		play(t, parties, []networkRow{
			{"A", "bind x 4 tcp 0.0.0.0 25", "0.0.0.0 25"},
			{"B", "bind x 4 tcp 127.0.0.1 9000", "127.0.0.1 9000"},
			{"B", "connect y 4 tcp 127.0.0.1 9000", "connected"},
			{"user", "bind w 4 tcp 0.0.0.0 8005", "EACCES"},
		})
	})
	resetAll(t, parties)

	within("no network", func(t *testing.T) {
		rewrite(t, twoNetworks(jailA, `network = "none"`, ""))
		play(t, parties, []networkRow{
			{"root", "bind s 4 tcp " + hostAddress + " 15001", hostAddress + " 15001"},
			{"root", "bind u 4 udp " + hostAddress + " 15002", hostAddress + " 15002"},
			{"A", "connect s 4 tcp " + hostAddress + " 15001", "connected"},
			{"B", "connect s 4 tcp " + hostAddress + " 15001", "ENETUNREACH"},
			{"B", "connect s 4 tcp 192.0.2.1 80", "ENETUNREACH"},
			{"B", "connect s 6 tcp 2001:db8::1 80", "ENETUNREACH"},
			{"B", "connect s 6 tcp ::ffff:" + hostAddress + " 15001", "ENETUNREACH"},
			{"B", "connect s 4 udp " + hostAddress + " 15002", "ENETUNREACH"},
			{"B", "make m 4 udp", "ok"},
			{"B", "sendto m " + hostAddress + " 15002 q", "ENETUNREACH"},
			{"B", "make m 6 udp", "ok"},
			{"B", "sendto m 2001:db8::1 15002 q", "ENETUNREACH"},
			{"B", "sendto m ::ffff:" + hostAddress + " 15002 q", "ENETUNREACH"},
			{"B", "make f 4 tcp", "ok"},
			{"B", "sendto f " + hostAddress + " 15001 q fastopen", "ENETUNREACH"},
			// Everybody near, by multicast, broadcast, and addresses of one link.
			{"B", "sendto m ff02::1 15002 q", "ENETUNREACH"},
			{"B", "sendto m fe80::1 15002 q", "ENETUNREACH"},
			{"B", "connect s 6 tcp fe80::1 80", "ENETUNREACH"},
			{"B", "make mc 4 udp", "ok"},
			{"B", "opt mc 1 6 1", "ok"}, // SO_BROADCAST
			{"B", "sendto mc 224.0.0.1 15002 q", "ENETUNREACH"},
			{"B", "sendto mc 255.255.255.255 15002 q", "ENETUNREACH"},
			{"B", "bind mb 4 udp 224.0.0.1 15003", "EADDRNOTAVAIL"},
			{"B", "bind mb 6 udp ff02::1 15003", "EADDRNOTAVAIL"},
			{"A", "make i 4 ping", "ok"},
			{"B", "make i 4 ping", "EPROTONOSUPPORT"},
			{"B", "make i 4 mptcp", "EPROTONOSUPPORT"},
			{"B", "bind b 4 tcp 0.0.0.0 9090", "127.0.0.1 9090"},
			{"B", "bind c 6 tcp :: 9091 dual", "::ffff:127.0.0.1 9091"},
			{"B", "bind d 6 tcp :: 9092 v6only", "::1 9092"},
			{"B", "bind e 4 udp 0.0.0.0 5353", "127.0.0.1 5353"},
			{"B", "bind g 4 tcp 0.0.0.0 0", "127.0.0.1"},
			{"B", "bind h 4 tcp " + hostAddress + " 0", "EADDRNOTAVAIL"},
			{"B", "bind j 6 tcp ::ffff:" + hostAddress + " 9093", "EADDRNOTAVAIL"},
			{"B", "connect l 4 tcp 127.0.0.1 9090", "connected"},
			{"B", "connect n 6 tcp ::1 9092", "connected"},
			{"B", "sendto m ::ffff:127.0.0.1 5353 q", "1"},
			{"B", "recv e", "q 127.0.0.1"},
			{"B", "make o 4 tcp", "ok"}, // a listener that was not bound passes no program
			{"B", "device o", "lo"},
			{"B", "device o -", "EPERM"},
			{"A", "make o 4 tcp", "ok"},
			{"A", "device o", ""},
		})
		// Nor a unix socket of the host's, by its abstract name.
		abstract := networkRow{"B", "reach jail-e2e-abstract", "EPERM"}
		if sys.LandlockABI() < 6 { // Linux 6.12; serve warns of it
			abstract.want = "connected"
		}
		play(t, parties, []networkRow{
			{"root", "abstract n jail-e2e-abstract", "ok"},
			{"user", "reach jail-e2e-abstract", "connected"},
			abstract,
			// What listens without a bind is on lo, so that nobody reaches it from another machine; but
			// there are the host's other addresses too.
			{"B", "make p 4 tcp", "ok"},
			{"B", "listen p", `~\d+`},
			{"user", "connect p 4 tcp " + hostAddress + " $last", "connected"},
		})
		out, err := exec.Command(initPath, "ps").Output()
		require.NoError(t, err)
		assert.Regexp(t, `(?m)^JAIL .* PORTS +LOOPBACK$`, string(out))
		assert.Regexp(t, `(?m)^a .* 25,53/udp,80,8000-8010 +`+regexp.QuoteMeta(a4), string(out))
		assert.Regexp(t, `(?m)^b .* none +127\.`, string(out))
		out, err = exec.Command(initPath, "plan", "b").CombinedOutput()
		require.NoError(t, err)
		assert.Regexp(t, `network +none: nothing but the loopback +/etc/jail/jail.toml:\d+ jail.b.network`, string(out))
		rewrite(t, twoNetworks(jailA, jailB, ""))
	})
	resetAll(t, parties)

	// The host's name server is reached, whichever it is.
	within("the name server", func(t *testing.T) {
		before, err := os.ReadFile("/etc/resolv.conf")
		require.NoError(t, err)
		restored := false
		defer func() {
			if !restored {
				os.WriteFile("/etc/resolv.conf", before, 0o644)
			}
		}()
		play(t, parties, []networkRow{
			{"root", "bind one 4 udp 127.0.0.53 53", "127.0.0.53 53"},
			{"root", "bind tcp1 4 tcp 127.0.0.53 53", "127.0.0.53 53"},
			{"root", "bind two 4 udp 127.0.0.54 53", "127.0.0.54 53"},
			{"root", "bind tcp2 4 tcp 127.0.0.54 53", "127.0.0.54 53"},
			{"B", "make q 4 udp", "ok"},
		})
		for _, n := range []struct{ now, other, socket string }{{"127.0.0.53", "127.0.0.54", "one"}, {"127.0.0.54", "127.0.0.53", "two"}} {
			require.NoError(t, os.WriteFile("/etc/resolv.conf", []byte("nameserver "+n.now+"\n"), 0o644))
			eventually(t, "the maps follow "+n.now, func() bool {
				return parties["B"].ask(t, "connect t 4 tcp "+n.now+" 53") == "connected" && parties["B"].ask(t, "close t") == "ok" &&
					parties["B"].ask(t, "connect t 4 tcp "+n.other+" 53") == "ECONNREFUSED"
			})
			require.NoError(t, command(initPath, "reload")) // which waits for who is at it
			play(t, parties, []networkRow{
				{"B", "sendto q " + n.now + " 53 q", "1"},
				{"root", "echo " + n.socket, "q 127.0.0.1"},
				{"B", "recv q", "rq " + n.now},
				{"B", "connect t 4 tcp 127.0.0.1 53", "ECONNREFUSED"},
			})
		}
		require.NoError(t, os.WriteFile("/etc/resolv.conf", before, 0o644))
		restored = true
		eventually(t, "the maps follow what was there before", func() bool {
			return parties["B"].ask(t, "connect t 4 tcp 127.0.0.54 53") == "ECONNREFUSED"
		})
		require.NoError(t, command(initPath, "reload"))
	})
	resetAll(t, parties)

	within("sshd's forwards", func(t *testing.T) { forwarding(t, parties) })
	parties["B"] = partyIn(t, "b", work.id)
	resetAll(t, parties)

	within("it cannot be loaded", func(t *testing.T) {
		parties["B"].end()
		require.NoError(t, command(initPath, "stop", "b"))
		links, err := filepath.Glob("/sys/fs/bpf/jail/*/link_bind4")
		require.NoError(t, err)
		require.Len(t, links, 1)
		require.NoError(t, os.Remove(links[0]))
		from := logEnd(t)
		r := run(t, forced, ask{as: work, cmd: "true"})
		assert.NotZero(t, r.status)
		assert.True(t, logged(from, "its network (ports, loopback, network) cannot be its own: /sys/fs/bpf/jail: programs are missing there; jail reload loads them again"))
		require.NoError(t, command(initPath, "reload"))
		eventually(t, "a start", func() bool { return run(t, forced, ask{as: work, cmd: "true"}).status == 0 })
	})

	within("the last one", func(t *testing.T) {
		rewrite(t, twoNetworks("", "", ""))
		play(t, parties, []networkRow{
			// Who runs is what he was until he has ended.
			{"A", "bind w 4 tcp 0.0.0.0 80", "0.0.0.0 80"},
			{"A", "bind x 4 tcp 127.9.9.9 9000", "EADDRNOTAVAIL"},
			{"user", "bind w 4 tcp 0.0.0.0 8005", "EACCES"},
		})
		parties["A"].end()
		for _, name := range []string{"a", "b"} {
			require.NoError(t, command(initPath, "stop", name))
		}
		for _, as := range []account{work, centos} { // sshd's processes for them are theirs as well
			world.part(as)
		}
		eventually(t, "everything goes", func() bool {
			_, err := os.Stat("/sys/fs/bpf/jail")
			out, _ := exec.Command("ip", "-6", "addr", "show", "dev", "lo").Output()
			return os.IsNotExist(err) && !strings.Contains(string(out), a6)
		})
		play(t, parties, []networkRow{{"user", "bind w 4 tcp 0.0.0.0 8005", "0.0.0.0 8005"}})
	})
	for _, p := range parties {
		p.end()
	}
}

func first(a, _ string) string { return a }

// forwarding has sshd connect and listen on behalf of a login, whose jail's network it is,
// also while that is stopped.
func forwarding(t *testing.T, parties map[string]*party) {
	server := variant(t, forced, "AllowTcpForwarding yes", "GatewayPorts clientspecified")
	client, sshd, err := dialThrough(server, forced, work)
	require.NoError(t, err)
	defer sshd.Wait()
	defer client.Close()
	play(t, parties, []networkRow{
		{"A", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
		{"root", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
		{"root", "bind h 4 tcp 127.0.0.1 8081", "127.0.0.1 8081"},
	})
	_, err = client.Dial("tcp", "127.0.0.1:8080") // -L, -D and -W
	assert.ErrorContains(t, err, "refused", "neither A's nor the host's")
	_, err = client.Dial("tcp", "127.0.0.1:8081")
	assert.ErrorContains(t, err, "refused")
	play(t, parties, []networkRow{{"B", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"}})
	c, err := client.Dial("tcp", "127.0.0.1:8080")
	require.NoError(t, err)
	play(t, parties, []networkRow{{"B", "accept l k", "127.0.0.1 127.0.0.1 127.0.0.1"}, {"B", "close k", "ok"}})
	c.Close()
	l, err := client.Listen("tcp", "127.0.0.1:7777") // -R 7777
	require.NoError(t, err)
	play(t, parties, []networkRow{
		{"A", "connect r 4 tcp 127.0.0.1 7777", "ECONNREFUSED"},
		{"user", "connect r 4 tcp 127.0.0.1 7777", "ECONNREFUSED"},
		{"B", "connect r 4 tcp 127.0.0.1 7777", "connected"},
		{"A", "bind r 4 tcp 127.0.0.1 7777", "127.0.0.1 7777"}, // two displays of one number
	})
	l.Close()
	_, err = client.Listen("tcp", "0.0.0.0:80") // -R *:80, A's
	assert.Error(t, err)
	l, err = client.Listen("tcp", "0.0.0.0:81") // its own, a low one, by sshd's child
	require.NoError(t, err)
	play(t, parties, []networkRow{{"user", "connect g 4 tcp " + hostAddress + " 81", "connected"}})
	l.Close()
	l, err = client.Listen("tcp", "127.0.0.1:0") // -R 0:
	require.NoError(t, err)
	l.Close()

	require.NoError(t, command(initPath, "stop", "b"))
	parties["B"].end()
	l, err = client.Listen("tcp", "127.0.0.1:7778")
	require.NoError(t, err)
	play(t, parties, []networkRow{
		{"A", "connect s 4 tcp 127.0.0.1 7778", "ECONNREFUSED"},
		{"A", "bind s 4 tcp 127.0.0.1 7778", "127.0.0.1 7778"},
	})
	l.Close()
	_, err = client.Listen("tcp", "0.0.0.0:80")
	assert.Error(t, err)
}

// logged waits for a line of serve's log since from.
func logged(from int64, text string) bool {
	return poll(deadline, func() bool { return strings.Contains(world.tail("serve.log", from), text) })
}

func logEnd(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(world.log("serve.log"))
	require.NoError(t, err)
	return info.Size()
}

// TestNetworkSoftware: daemons from Debian, as they are, have their ports without a privilege,
// and what insists on a port of its own is on its jail's loopback.
func TestNetworkSoftware(t *testing.T) {
	within := apart(t)
	carry(t)
	own(t, registry{
		text: fmt.Sprintf(`version = 1
[jail.daemons]
rootfs = %q
users.centos = { uid = 1000, name = "work", shell = "/bin/sh" }
ports = [80, 25]
loopback = []
[[jail.daemons.service]]
name = "nginx"
exec = [ "/usr/sbin/nginx", "-g", "daemon off;" ]
[[jail.daemons.service]]
name = "postfix"
exec = [ "/usr/sbin/postfix", "start-fg" ]
[jail.b]
rootfs = %q
users = ["debian"]
ports = []
loopback = []
`, serviceRoot, debianRoot),
		jails: []string{"daemons", "b"},
		users: []account{centos, work},
	})
	within("nginx and postfix", func(t *testing.T) {
		require.NoError(t, command(initPath, "exec", "daemons", "true")) // it starts, and they with it
		page := func(from string, args ...string) string {
			out, _ := exec.Command(initPath, append([]string{"exec", from}, args...)...).CombinedOutput()
			return string(out)
		}
		const fetch = `import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())`
		eventually(t, "nginx is reached from outside", func() bool {
			return strings.Contains(page("b", "python3", "-c", fetch, "http://"+hostAddress+"/"), "nginx")
		})
		assert.Contains(t, page("b", "python3", "-c", fetch, "http://127.0.0.1/"), "refused", "b's loopback is its own")
		const smtp = `exec 3<>/dev/tcp/127.0.0.1/25; read -r line <&3; echo "$line"`
		eventually(t, "postfix answers on the loopback of its jail", func() bool {
			return strings.HasPrefix(page("daemons", "bash", "-c", smtp), "220 ")
		})
		assert.Contains(t, page("b", "bash", "-c", smtp), "refused")
	})
	within("a development server", func(t *testing.T) {
		l := exec.Command(initPath, "exec", "-u", strconv.Itoa(work.id), "b", "python3", "-m", "http.server", "3000")
		require.NoError(t, l.Start())
		defer func() { l.Process.Kill(); l.Wait() }()
		const fetch = `import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())`
		eventually(t, "it is reached in its jail", func() bool {
			out, _ := exec.Command(initPath, "exec", "b", "python3", "-c", fetch, "http://localhost:3000/").CombinedOutput()
			return strings.Contains(string(out), "Directory listing")
		})
		user := partyOf(t, alice.id)
		play(t, map[string]*party{"user": user}, []networkRow{
			{"user", "connect c 4 tcp 127.0.0.1 3000", "ECONNREFUSED"},
			{"user", "connect c 4 tcp " + hostAddress + " 3000", "ECONNREFUSED"},
			{"user", "connect c 4 tcp " + hostAddress + " 80", "connected"},
			{"user", "connect d 4 tcp " + hostAddress + " 25", "connected"},
		})
		out, _ := exec.Command(initPath, "exec", "b", "python3", "-m", "http.server", "80").CombinedOutput()
		assert.Contains(t, string(out), "Address already in use")
		user.end()
	})
}

// TestNetworkOneUID: where ids are the host's, the same one in two jails and on the host is
// three of them, root's too, and no jail is another by its root's taking another's uid.
func TestNetworkOneUID(t *testing.T) {
	within := apart(t)
	carry(t)
	reg := twoNetworks(containerRoot+"\n"+jailA, containerRoot+"\n"+jailB, "[host]\nreserved = [3306]")
	reg.text += fmt.Sprintf("[jail.c]\nrootfs = %q\nusers.spare1 = { uid = %d, name = \"spare\", shell = \"/bin/sh\" }\n%s\n", serviceRoot, spares[0].id, containerRoot)
	reg.jails, reg.users = append(reg.jails, "c"), append(reg.users, spares[0])
	own(t, reg)
	parties := map[string]*party{
		"A": partyIn(t, "a", 0), "B": partyIn(t, "b", 0), "user": partyOf(t, alice.id),
		"A0": partyIn(t, "a", 0), "B0": partyIn(t, "b", 0), "root": partyOf(t, 0), "C0": partyIn(t, "c", 0),
		"A as B": partyIn(t, "a", 0), "C as A": partyIn(t, "c", 0), "login": partyOf(t, work.id),
	}
	within("rows", func(t *testing.T) {
		play(t, parties, []networkRow{
			{"A", fmt.Sprint("become ", alice.id), "ok"},
			{"B", fmt.Sprint("become ", alice.id), "ok"},
			{"A", "bind w 4 tcp 0.0.0.0 80", "0.0.0.0 80"},
			{"B", "bind w 4 tcp 0.0.0.0 80", "EADDRINUSE"},
			{"user", "bind w 4 tcp 0.0.0.0 80", "EACCES"},
			{"A0", "bind w 4 tcp 0.0.0.0 8000", "0.0.0.0 8000"},
			{"A0", "bind v 4 tcp 0.0.0.0 81", "EADDRINUSE"},
			{"B0", "bind w 4 tcp 0.0.0.0 8001", "EADDRINUSE"},
			{"B0", "bind v 4 tcp 0.0.0.0 81", "0.0.0.0 81"},
			{"B0", "close v", "ok"},
			{"A as B", fmt.Sprint("become ", work.id), "ok"},
			{"A as B", "bind w 4 tcp 0.0.0.0 81", "EADDRINUSE"},
			{"A as B", "bind v 4 tcp 0.0.0.0 25", "0.0.0.0 25"},
			{"login", "bind w 4 tcp 0.0.0.0 81", "0.0.0.0 81"},
			{"A", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
			{"B", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
			{"user", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
			{"A0", "connect c 4 tcp 127.0.0.1 8080", "connected"},
			{"A", "accept l k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"B0", "connect c 4 tcp 127.0.0.1 8080", "connected"},
			{"B", "accept l k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"root", "connect c 4 tcp 127.0.0.1 8080", "connected"},
			{"user", "accept l k", "127.0.0.1 127.0.0.1 127.0.0.1"},
			{"B0", "connect d 4 tcp 127.0.0.1 8000", "ECONNREFUSED"},
			// A jail without keys, as its root and as another's login.
			{"C0", "bind w 4 tcp 0.0.0.0 8002", "EACCES"},
			{"C0", "bind w 4 tcp 0.0.0.0 3306", "EACCES"},
			{"C0", "bind w 4 tcp 0.0.0.0 9700", "0.0.0.0 9700"},
			{"C as A", fmt.Sprint("become ", centos.id), "ok"},
			{"C as A", "bind w 4 tcp 0.0.0.0 8002", "EACCES"},
			{"C as A", "connect c 4 tcp 127.0.0.1 8000", "connected"}, // the host's, where A's 0.0.0.0 is too
		})
	})
	within("a cgroup below a jail's", func(t *testing.T) {
		dir := cgroupOf(t, jailPIDs("a")[0])
		assert.Equal(t, "jail-a", filepath.Base(dir))
		below := filepath.Join(dir, "below")
		assert.ErrorIs(t, os.Mkdir(below, 0o755), syscall.EAGAIN)
		_ = os.Remove(below)
	})
	for _, p := range parties {
		p.end()
	}
}

// cgroupOf is the directory of a process's cgroup of the unified hierarchy.
func cgroupOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	require.NoError(t, err)
	root, err := cgroup.Root("/proc/self/mountinfo")
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^0::(.*)$`).FindSubmatch(text)
	require.NotNil(t, m, "%s", text)
	return filepath.Join(root, string(m[1]))
}

// TestNetLoad: what jails own of the network is theirs before there is a serve, as when a machine
// has started.
func TestNetLoad(t *testing.T) {
	within := apart(t)
	carry(t)
	s := own(t, twoNetworks(jailA, jailB, ""))
	parties := map[string]*party{"user": partyOf(t, alice.id)}
	within("without serve", func(t *testing.T) {
		s.kill(syscall.SIGKILL)
		require.NoError(t, os.RemoveAll("/sys/fs/bpf/jail"))
		eventually(t, "what serve had loaded is gone", func() bool {
			return parties["user"].ask(t, "bind w 4 tcp 0.0.0.0 8005") == "0.0.0.0 8005"
		})
		resetAll(t, parties)
		for range 2 { // a second time it leaves what it finds
			require.NoError(t, command(initPath, "net-load"))
			play(t, parties, []networkRow{{"user", "bind w 4 tcp 0.0.0.0 8005", "EACCES"}, {"user", "bind w 4 tcp 0.0.0.0 8100", "0.0.0.0 8100"}, {"user", "close w", "ok"}})
			generations, err := os.ReadDir("/sys/fs/bpf/jail")
			require.NoError(t, err)
			require.Len(t, generations, 1)
			assert.Equal(t, "1-1", generations[0].Name())
		}
		// And without a jail with keys it takes all away.
		registry, err := os.ReadFile(registryPath)
		require.NoError(t, err)
		for _, as := range []account{centos, work} {
			world.part(as)
		}
		require.NoError(t, os.WriteFile(registryPath, []byte(twoNetworks("", "", "").text), 0o644))
		require.NoError(t, command(initPath, "net-load"))
		assert.NoDirExists(t, "/sys/fs/bpf/jail")
		eventually(t, "what was loaded is gone", func() bool {
			return parties["user"].ask(t, "bind w 4 tcp 0.0.0.0 8005") == "0.0.0.0 8005"
		})
		resetAll(t, parties)
		require.NoError(t, os.WriteFile(registryPath, registry, 0o644))
		require.NoError(t, s.start())
		eventually(t, "serve hears of orders", func() bool { return command(initPath, "reload") == nil })
		play(t, parties, []networkRow{{"user", "bind x 4 tcp 0.0.0.0 8005", "EACCES"}})
	})
	parties["user"].end()
}

// TestNetworkWithoutCgroups: where the unified hierarchy is not mounted a jail with keys does
// not start, whatever its ids, and says why. Others do.
func TestNetworkWithoutCgroups(t *testing.T) {
	within := apart(t)
	root, err := cgroup.Root("/proc/self/mountinfo")
	require.NoError(t, err)
	require.NoError(t, unix.Unmount(root, unix.MNT_DETACH)) // in the tests' mount namespace
	t.Cleanup(func() { require.NoError(t, unix.Mount("cgroup2", root, "cgroup2", 0, "")) })
	for _, mode := range []string{"", rootMode} {
		within("mode "+mode, func(t *testing.T) {
			own(t, twoNetworks(mode, mode+"\n"+jailB, ""))
			from := logEnd(t)
			r := run(t, forced, ask{as: work, cmd: "true"})
			assert.Equal(t, 125, r.status)
			assert.True(t, logged(from, "jail b: start failed"))
			assert.True(t, logged(from, "its network (ports, loopback, network) cannot be its own: the unified hierarchy of cgroups is not mounted; mount -t cgroup2 none /sys/fs/cgroup"))
			assert.Zero(t, run(t, forced, ask{as: centos, cmd: "true"}).status, "without keys")
		})
	}
}

// TestNetworkRun: jails of jail-init run have their network without a serve, each put there
// by its own, and the next one leaves what it finds.
func TestNetworkRun(t *testing.T) {
	within := apart(t)
	carry(t)
	for _, mode := range []string{"", containerRoot} {
		within("mode "+mode, func(t *testing.T) {
			alone(t)
			require.NoError(t, os.WriteFile(registryPath, []byte(twoNetworks(mode+"\n"+jailA, mode+"\n"+jailB, "").text), 0o644))
			var ends []func()
			for _, name := range []string{"a", "b"} {
				cmd := exec.Command(initPath, "run", name)
				cmd.Stderr = os.Stderr
				require.NoError(t, cmd.Start())
				ends = append(ends, func() {
					cmd.Process.Signal(syscall.SIGTERM)
					assert.NoError(t, cmd.Wait())
				})
				eventually(t, name+" runs", func() bool { return stateInPS(t, name) == "idle" })
			}
			parties := map[string]*party{"A0": partyIn(t, "a", 0), "B0": partyIn(t, "b", 0), "user": partyOf(t, alice.id)}
			play(t, parties, []networkRow{
				{"A0", "bind w 4 tcp 0.0.0.0 80", "0.0.0.0 80"},
				{"B0", "bind w 4 tcp 0.0.0.0 80", "EADDRINUSE"},
				{"A0", "bind x 4 tcp 0.0.0.0 81", "EADDRINUSE"},
				{"B0", "bind x 4 tcp 0.0.0.0 81", "0.0.0.0 81"},
				{"A0", "bind l 4 tcp 127.0.0.1 8080", "127.0.0.1 8080"},
				{"B0", "connect l 4 tcp 127.0.0.1 8080", "ECONNREFUSED"},
				{"user", "bind w 4 tcp 0.0.0.0 8000", "EACCES"},
			})
			for _, p := range parties {
				p.end()
			}
			for _, end := range ends {
				end()
			}
		})
	}
}
