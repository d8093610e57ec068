package confine

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/sys"
)

var update = flag.Bool("update", false, "rewrite the filters and the list of their rules")

// run interprets a filter for one system call, as seccomp(2) does.
func run(t *testing.T, prog []sys.SockFilter, audit, nr uint32, args ...uint64) uint32 {
	var data [64]byte
	binary.LittleEndian.PutUint32(data[0:], nr)
	binary.LittleEndian.PutUint32(data[4:], audit)
	for i, a := range args {
		binary.LittleEndian.PutUint64(data[16+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		jump := func(cond bool) {
			if cond {
				pc += int(in.JT)
			} else {
				pc += int(in.JF)
			}
		}
		switch in.Code {
		case 0x20:
			acc = binary.LittleEndian.Uint32(data[in.K:])
		case 0x54:
			acc &= in.K
		case 0x06:
			return in.K
		case 0x05:
			pc += int(in.K)
		case 0x15:
			jump(acc == in.K)
		case 0x35:
			jump(acc >= in.K)
		case 0x45:
			jump(acc&in.K != 0)
		default:
			t.Fatalf("instruction %#x", in.Code)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

// source is the file of one machine's filter.
func source(m machine) (path, text string) {
	var b strings.Builder
	b.WriteString("package confine\n\nimport \"jail/internal/sys\"\n\n// filter is what assemble makes; go test ./internal/confine -update writes it.\nvar filter = [...]sys.SockFilter{\n")
	for _, in := range assemble(m) {
		fmt.Fprintf(&b, "\t{Code: %#x, JT: %d, JF: %d, K: %#x},\n", in.Code, in.JT, in.JF, in.K)
	}
	b.WriteString("}\n")
	return "filter_" + m.goarch + ".go", b.String()
}

// machineHere is the one the test runs on.
func machineHere(t *testing.T) machine {
	for _, m := range machines {
		if m.goarch == runtime.GOARCH {
			return m
		}
	}
	t.Fatalf("no rules for %s", runtime.GOARCH)
	return machine{}
}

// TestTable holds the tables that are installed to the rules they are made from.
func TestTable(t *testing.T) {
	for _, m := range machines {
		path, want := source(m)
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, want, string(got), "%s; go test ./internal/confine -update writes it", path)
	}
	if !*update {
		assert.Equal(t, assemble(machineHere(t)), Filter())
	}
}

// TestRulesAreTheReviewed compares the rules with a list that a person has read,
// so that none is lost, added or changed unseen.
func TestRulesAreTheReviewed(t *testing.T) {
	const path = "testdata/rules.txt"
	got := list()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "read the difference; go test ./internal/confine -update accepts it")
}

var answers = map[uint32]string{allow: "passes", eperm: "EPERM", enosys: "ENOSYS",
	eprotonosupport: "EPROTONOSUPPORT", eafnosupport: "EAFNOSUPPORT", retKillProcess: "killed"}

func list() string {
	var b strings.Builder
	for _, m := range machines {
		fmt.Fprintf(&b, "%s:", m.goarch)
		for _, a := range m.abis {
			fmt.Fprintf(&b, " %s %#x", a.name, a.audit)
			for _, nr := range a.beyond {
				fmt.Fprintf(&b, " with %#x", nr)
			}
			b.WriteString(",")
		}
		b.WriteString(" others killed\n")
	}
	fmt.Fprintf(&b, "from %d on: ENOSYS\n", newestKnown+1)
	for i := range calls {
		c := &calls[i]
		fmt.Fprintf(&b, "%s", c.name)
		for _, m := range machines {
			for _, a := range m.abis {
				if nr := a.number(c); nr != none {
					fmt.Fprintf(&b, " %s %d", a.name, nr)
				}
			}
		}
		fmt.Fprintf(&b, ": %s\n", answers[c.answer])
		for _, cl := range c.clauses {
			for i, when := range cl.when {
				b.WriteString([]string{"\tbut if ", " and "}[min(i, 1)])
				switch {
				case when.bits != 0:
					fmt.Fprintf(&b, "argument %d has a bit of %#x", when.arg, when.bits)
				case when.mask != 0:
					fmt.Fprintf(&b, "argument %d & %#x in %#x", when.arg, when.mask, when.in)
				default:
					fmt.Fprintf(&b, "argument %d in %#x", when.arg, when.in)
				}
			}
			fmt.Fprintf(&b, ": %s\n", answers[cl.answer])
		}
	}
	return b.String()
}

// judge is what the rules say of a call, without a filter, and which of the clauses
// says it, len(c.clauses) if none does.
func judge(c *call, args []uint64) (answer uint32, by int) {
	for i, cl := range c.clauses {
		all := true
		for _, when := range cl.when {
			v, holds := uint32(args[when.arg]), false
			if when.mask != 0 {
				v &= when.mask
			}
			for _, want := range when.in {
				holds = holds || v == want
			}
			all = all && (holds || v&when.bits != 0)
		}
		if all {
			return cl.answer, i
		}
	}
	return c.answer, len(c.clauses)
}

// tries are arguments for a call: with every value of its clauses, and near it,
// and the same with bits that the kernel does not look at.
func tries(c *call) [][]uint64 {
	var values [3][]uint64
	for arg := range values {
		values[arg] = []uint64{0, 1<<64 - 1, 0x80800}
	}
	for _, cl := range c.clauses {
		for _, when := range cl.when {
			v := &values[when.arg]
			for _, in := range when.in {
				n := uint64(in)
				*v = append(*v, n, n-1, n+1, 1<<32|n)
				if when.mask != 0 { // its ends, and beyond them
					most := n | uint64(^when.mask)
					*v = append(*v, most, most+1, 0x7fffffff<<32|most)
				}
			}
			for bit := range 32 {
				if when.bits != 0 {
					*v = append(*v, 1<<bit, 1<<bit|17, 1<<40|1<<bit, 1<<(32+bit))
				}
			}
		}
	}
	var all [][]uint64
	for _, x := range values[0] {
		for _, y := range values[1] {
			for _, z := range values[2] {
				all = append(all, []uint64{x, y, z})
			}
		}
	}
	return all
}

// TestEveryRule runs the filter of every machine for every system call of every ABI
// and, where arguments decide, for all that can make a difference, and holds it to
// the rules, read one after the other.
func TestEveryRule(t *testing.T) {
	for _, m := range machines {
		prog := assemble(m)
		for _, a := range m.abis {
			byNumber := make(map[uint32]*call)
			for i := range calls {
				if nr := a.number(&calls[i]); nr != none {
					require.NotContains(t, byNumber, uint32(nr), "%s twice", a.name)
					byNumber[uint32(nr)] = &calls[i]
				}
			}
			for nr := uint32(0); nr <= newestKnown; nr++ {
				c := byNumber[nr]
				if c == nil {
					c = &call{name: "no rule", answer: allow}
				}
				decided := make([]bool, len(c.clauses)+1)
				for _, args := range tries(c) {
					want, by := judge(c, args)
					decided[by] = true
					if got := run(t, prog, a.audit, nr, args...); got != want {
						t.Errorf("%s %s (%d) %#x: %s instead of %s", a.name, c.name, nr, args, answers[got], answers[want])
						break
					}
				}
				for by := range decided {
					assert.True(t, decided[by] || t.Failed(), "%s: nothing tries clause %d", c.name, by)
				}
			}
			for _, base := range []uint32{newestKnown + 1, 0x0f0000, 0x0f0800, 0x900000, 1 << 30, 1 << 31, 1<<32 - 1024} {
				for nr := base; nr-base < 1024; nr++ {
					want := uint32(enosys)
					if slices.Contains(a.beyond, nr) {
						want = allow
					}
					require.Equal(t, want, run(t, prog, a.audit, nr), "%s %#x", a.name, nr)
				}
			}
		}
		for _, other := range machines {
			for _, a := range other.abis {
				if other.goarch != m.goarch {
					assert.Equal(t, uint32(retKillProcess), run(t, prog, a.audit, 0), "%s on %s", a.name, m.goarch)
				}
			}
		}
		assert.Equal(t, uint32(retKillProcess), run(t, prog, 0, 0))
	}
}

// TestNumbers compares the numbers with those of golang.org/x/sys, which are made
// from the kernel's headers, for all ABIs on any machine.
func TestNumbers(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	require.NoError(t, err)
	for _, m := range machines {
		for _, a := range m.abis {
			goarch := a.name
			if goarch == "i386" {
				goarch = "386"
			}
			text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+goarch+".go"))
			require.NoError(t, err)
			numbers := make(map[string]int)
			for _, f := range regexp.MustCompile(`(?m)^\s*SYS_(\w+)\s*=\s*(\d+)`).FindAllStringSubmatch(string(text), -1) {
				numbers[strings.ToLower(f[1])], err = strconv.Atoi(f[2])
				require.NoError(t, err)
			}
			for i := range calls {
				want, ok := numbers[calls[i].name]
				if !ok {
					want = none
				}
				assert.Equal(t, want, a.number(&calls[i]), "%s of %s", calls[i].name, a.name)
			}
		}
	}
}

// TestTheKernelAgrees makes every call that the rules refuse here, for real, in a
// process with the filter, and the kernel refuses it in the same way. Pairs of unix sockets, of
// every kind, go on working there.
func TestTheKernelAgrees(t *testing.T) {
	if os.Getenv("JAIL_TEST_FILTERED") == "1" {
		filtered(t)
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^TestTheKernelAgrees$", "-test.v")
	cmd.Env = append(os.Environ(), "JAIL_TEST_FILTERED=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	needs.Machine(t, !errors.Is(err, syscall.ENOEXEC), "qemu-user runs nothing else, and has no seccomp")
	text := string(out)
	require.NoError(t, err, text)
	calls := regexp.MustCompile(`(\d+) calls refused`).FindStringSubmatch(text)
	require.NotNil(t, calls, text)
	t.Log(calls[0])
}

// filtered takes the filter on. Should one of the calls come through, no argument is
// a pointer, and the process has no right to anything.
func filtered(t *testing.T) {
	if os.Geteuid() == 0 {
		require.NoError(t, syscall.Setgroups(nil))
		require.NoError(t, syscall.Setresgid(65534, 65534, 65534))
		require.NoError(t, syscall.Setresuid(65534, 65534, 65534))
	}
	runtime.LockOSThread()
	_, err := sys.Prctl(38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0)
	require.NoError(t, err)
	require.NoError(t, sys.SeccompAllThreads(Filter()))
	a, refused := &machineHere(t).abis[0], 0
	for _, c := range a.rows() {
		all := [][]uint64{{^uint64(0), ^uint64(0), ^uint64(0)}}
		if len(c.clauses) > 0 {
			all = tries(c)
		}
		for _, args := range all {
			verdict, _ := judge(c, args)
			if verdict == allow {
				continue
			}
			r, _, e := syscall.RawSyscall6(uintptr(a.number(c)), uintptr(args[0]), uintptr(args[1]), uintptr(args[2]), ^uintptr(0), ^uintptr(0), ^uintptr(0))
			if e == 0 && r == 0 && c.name == "clone" {
				sys.Exit(1)
			}
			require.Equal(t, syscall.Errno(verdict&^retErrno), e, "%s %#x", c.name, args)
			refused++
		}
	}
	for _, kind := range []int{syscall.SOCK_STREAM, syscall.SOCK_DGRAM, syscall.SOCK_SEQPACKET, syscall.SOCK_RAW,
		syscall.SOCK_STREAM | syscall.SOCK_CLOEXEC | syscall.SOCK_NONBLOCK} {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, kind, 0)
		require.NoError(t, err, "%#x", kind)
		b := make([]byte, 8)
		_, err = syscall.Write(pair[0], []byte("through"))
		require.NoError(t, err)
		n, err := syscall.Read(pair[1], b)
		require.NoError(t, err)
		require.Equal(t, "through", string(b[:n]), "%#x", kind)
	}
	fmt.Printf("%d calls refused\n", refused)
}

// on is one ABI of one machine.
type on struct{ goarch, abi string }

var (
	amd64 = on{"amd64", "amd64"}
	i386  = on{"amd64", "i386"}
	arm64 = on{"arm64", "arm64"}
	arm   = on{"arm64", "arm"}
)

// TestFilter has what people expect of a jail, in words.
func TestFilter(t *testing.T) {
	progs, audit := make(map[string][]sys.SockFilter), make(map[on]uint32)
	for _, m := range machines {
		progs[m.goarch] = assemble(m)
		for _, a := range m.abis {
			audit[on{m.goarch, a.name}] = a.audit
		}
	}
	for claim, c := range map[string]struct {
		where on
		nr    uint32
		args  []uint64
		want  uint32
	}{
		"read passes":                             {amd64, 0, nil, allow},
		"execve passes":                           {amd64, 59, nil, allow},
		"chroot passes, for daemons inside":       {amd64, 161, nil, allow},
		"openat2 passes":                          {amd64, 437, nil, allow},
		"x32 does not exist":                      {amd64, 1<<30 | 0, nil, enosys},
		"clone3 does not exist":                   {amd64, 435, nil, enosys},
		"io_uring does not exist":                 {amd64, 425, nil, enosys},
		"io_uring does not exist in 32 bits":      {i386, 425, nil, enosys},
		"the mount API does not exist":            {amd64, 428, nil, enosys},
		"a call newer than this list does not":    {amd64, newestKnown + 1, nil, enosys},
		"mount is denied":                         {amd64, 165, nil, eperm},
		"mount is denied in 32 bits":              {i386, 21, nil, eperm},
		"keyctl is denied":                        {amd64, 250, nil, eperm},
		"add_key is denied in 32 bits":            {i386, 286, nil, eperm},
		"open_by_handle_at is denied":             {amd64, 304, nil, eperm},
		"bpf is denied":                           {amd64, 321, nil, eperm},
		"clone of a process passes":               {amd64, 56, []uint64{17}, allow},
		"clone of a thread passes":                {amd64, 56, []uint64{0x3d0f00}, allow},
		"clone of a user namespace is denied":     {amd64, 56, []uint64{0x10000011}, eperm},
		"also with high bits set":                 {amd64, 56, []uint64{1<<40 | 0x10000011}, eperm},
		"unshare of files passes":                 {amd64, 272, []uint64{0x400}, allow},
		"unshare of a user namespace is denied":   {amd64, 272, []uint64{0x10000000}, eperm},
		"unshare of a time namespace is denied":   {amd64, 272, []uint64{0x80}, eperm},
		"unshare is denied in 32 bits":            {i386, 310, []uint64{0x10000000}, eperm},
		"TIOCSTI is denied":                       {amd64, 16, []uint64{0, 0x5412}, eperm},
		"TIOCSTI with high bits set is denied":    {amd64, 16, []uint64{0, 1<<32 | 0x5412}, eperm},
		"TIOCLINUX is denied":                     {amd64, 16, []uint64{0, 0x541c}, eperm},
		"TCGETS passes":                           {amd64, 16, []uint64{0, 0x5401}, allow},
		"TIOCSTI is denied in 32 bits":            {i386, 54, []uint64{0, 0x5412}, eperm},
		"a unix socket passes":                    {amd64, 41, []uint64{1, 1}, allow},
		"a TCP socket passes":                     {amd64, 41, []uint64{2, 1 | 0x80800}, allow},
		"a UDP6 socket passes":                    {amd64, 41, []uint64{10, 2}, allow},
		"a raw socket is denied":                  {amd64, 41, []uint64{2, 3 | 0x80000, 1}, eperm},
		"a raw IPv6 socket is denied":             {amd64, 41, []uint64{10, 3}, eperm},
		"a ping socket passes":                    {amd64, 41, []uint64{2, 2, 1}, allow},
		"a packet socket has no family":           {amd64, 41, []uint64{17, 3}, eafnosupport},
		"vsock has no family":                     {amd64, 41, []uint64{40, 1}, eafnosupport},
		"AF_ALG has no family":                    {amd64, 41, []uint64{38, 5}, eafnosupport},
		"a TCP socket by name passes":             {amd64, 41, []uint64{2, 1, 6}, allow},
		"an MPTCP socket passes":                  {amd64, 41, []uint64{2, 1, 262}, allow},
		"an ICMPv6 ping socket passes":            {amd64, 41, []uint64{10, 2, 58}, allow},
		"DCCP is no protocol":                     {amd64, 41, []uint64{2, 6, 33}, eprotonosupport},
		"SCTP is no protocol":                     {amd64, 41, []uint64{2, 1, 132}, eprotonosupport},
		"nor is it over IPv6":                     {amd64, 41, []uint64{10, 5, 132}, eprotonosupport},
		"SMC is no protocol, high bits or not":    {amd64, 41, []uint64{2, 1, 1<<32 | 256}, eprotonosupport},
		"L2TP is no protocol in 32 bits":          {i386, 359, []uint64{2, 2, 115}, eprotonosupport},
		"route netlink passes":                    {amd64, 41, []uint64{16, 3, 0}, allow},
		"socket diagnostics pass":                 {amd64, 41, []uint64{16, 3, 4}, allow},
		"audit netlink has no family":             {amd64, 41, []uint64{16, 3, 9}, eafnosupport},
		"uevents have no family":                  {amd64, 41, []uint64{16, 3, 15}, eafnosupport},
		"audit has no family in 32 bits":          {i386, 359, []uint64{16, 3, 9}, eafnosupport},
		"socketcall cannot make a socket":         {i386, 102, []uint64{1}, enosys},
		"socketcall can connect":                  {i386, 102, []uint64{3}, allow},
		"an ordinary personality passes":          {amd64, 135, []uint64{0}, allow},
		"a query of the personality passes":       {amd64, 135, []uint64{0xffffffff}, allow},
		"READ_IMPLIES_EXEC is denied":             {amd64, 135, []uint64{0x400000}, eperm},
		"personality's high bits do not help":     {amd64, 135, []uint64{1<<32 | 0x400000}, eperm},
		"amd64's numbers mean nothing in 32 bits": {i386, 165, nil, allow},
		"32-bit read passes":                      {i386, 3, nil, allow},
		"a pair of unix sockets passes":           {amd64, 53, []uint64{1, 1}, allow},
		"datagrams, close-on-exec":                {amd64, 53, []uint64{1, 2 | 0x80000}, allow},
		"packets, in 32 bits":                     {i386, 360, []uint64{1, 5 | 0x800}, allow},
		"a pair of vsocks has no family":          {amd64, 53, []uint64{40, 1}, eafnosupport},
		"nor in 32 bits":                          {i386, 360, []uint64{40, 1}, eafnosupport},
		"nor by high bits":                        {amd64, 53, []uint64{1<<32 | 40, 1}, eafnosupport},
		"a pair of UDP-Lite sockets neither":      {amd64, 53, []uint64{2, 2, 136}, eafnosupport},
		"a pair of TIPC sockets neither":          {amd64, 53, []uint64{30, 5}, eafnosupport},
		"socketcall makes no pair":                {i386, 102, []uint64{8}, enosys},
		"UDP-Lite is no protocol":                 {amd64, 41, []uint64{2, 2, 136}, eprotonosupport},
		"handles cannot be made":                  {amd64, 303, nil, eperm},
		"nor marks of fanotify":                   {amd64, 301, nil, eperm},
		"the bridge's ioctl is denied":            {amd64, 16, []uint64{3, 0x8940}, eperm},
		"the newer one too":                       {amd64, 16, []uint64{3, 0x89a0}, eperm},
		"vlan's is denied":                        {amd64, 16, []uint64{3, 0x8982}, eperm},
		"in 32 bits":                              {i386, 54, []uint64{3, 0x8983}, eperm},
		"a driver's own is denied, the first":     {amd64, 16, []uint64{3, 0x89f0}, eperm},
		"and the last":                            {amd64, 16, []uint64{3, 0x89ff}, eperm},
		"the peer's file is next to it":           {amd64, 16, []uint64{3, 0x89e0}, allow},
		"wireless ones are denied":                {amd64, 16, []uint64{3, 0x8b01}, eperm},
		"an interface's address can be asked for": {amd64, 16, []uint64{3, 0x8915}, allow},
		"and its speed":                           {amd64, 16, []uint64{3, 0x8946}, allow},
		"FIONREAD passes":                         {amd64, 16, []uint64{3, 0x541b}, allow},
		"uselib does not exist":                   {amd64, 134, nil, enosys},
		"vm86 does not exist":                     {i386, 166, nil, enosys},

		"arm64: read passes":                     {arm64, 63, nil, allow},
		"arm64: execve passes":                   {arm64, 221, nil, allow},
		"arm64: openat2 passes":                  {arm64, 437, nil, allow},
		"arm64: mount is denied":                 {arm64, 40, nil, eperm},
		"arm64: keyctl is denied":                {arm64, 219, nil, eperm},
		"arm64: bpf is denied":                   {arm64, 280, nil, eperm},
		"arm64: clone3 does not exist":           {arm64, 435, nil, enosys},
		"arm64: clone of a thread passes":        {arm64, 220, []uint64{0x3d0f00}, allow},
		"arm64: a user namespace is denied":      {arm64, 220, []uint64{0x10000011}, eperm},
		"arm64: TIOCSTI is denied":               {arm64, 29, []uint64{0, 0x5412}, eperm},
		"arm64: a vsock has no family":           {arm64, 198, []uint64{40, 1}, eafnosupport},
		"arm64: nor a pair of them":              {arm64, 199, []uint64{40, 1}, eafnosupport},
		"arm64: a newer call does not exist":     {arm64, newestKnown + 1, nil, enosys},
		"arm: read passes":                       {arm, 3, nil, allow},
		"arm: cacheflush passes":                 {arm, 0x0f0002, nil, allow},
		"arm: set_tls passes":                    {arm, 0x0f0005, nil, allow},
		"arm: usr32 does not exist":              {arm, 0x0f0004, nil, enosys},
		"arm: mount is denied":                   {arm, 21, nil, eperm},
		"arm: add_key is denied":                 {arm, 309, nil, eperm},
		"arm: a raw socket is denied":            {arm, 281, []uint64{2, 3, 1}, eperm},
		"arm: a pair of unix sockets passes":     {arm, 288, []uint64{1, 1}, allow},
		"arm: a user namespace is denied":        {arm, 337, []uint64{0x10000000}, eperm},
		"arm64's numbers mean nothing in 32 bit": {arm, 219, nil, allow},
	} {
		assert.Equalf(t, answers[c.want], answers[run(t, progs[c.where.goarch], audit[c.where], c.nr, c.args...)], "%s", claim)
	}
}
