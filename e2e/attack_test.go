package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
)

// attackModes are the ways a jail's ids can relate to the host's, which decide
// what root inside is.
var attackModes = []struct{ name, lines, bounding string }{
	{"userns", `userns = "auto"`, "00000000800425fb"},
	{"root-mode", `userns = false`, "0000000000000000"},
	{"container_root", "userns = false\ncontainer_root = true", "00000000000400fb"},
}

// attackRow is one attack of e2e/attack.
type attackRow struct {
	name string
	// bites are those whose attack succeeds in the weak container. Everybody
	// tries it in every jail.
	bites []identity
	// pivot takes the weak container that has pivot_root(2) instead of
	// chroot(2), under which the kernel makes no user namespaces.
	pivot bool
	// lacks are the answers of a kernel that has nothing to attack, or by which
	// a hardened one defends itself.
	lacks []string
	// scoped ones are held by Landlock's scopes, which came with Linux 6.12.
	scoped bool
	// open says where the attack succeeds in a jail too, as "mode/identity", and
	// why. It stands in docs/threat-model.md as not held.
	open map[string]string
}

var (
	anybody  = identities
	onlyRoot = []identity{root}

	no32  = []string{"int 0x80 faults: this kernel runs no 32-bit code"}
	noX32 = []string{"ENOSYS"}
	// The machine's root may be without CAP_SYS_RESOURCE.
	noResource = []string{"EPERM", "EACCES"}
	missing    = []string{"ENOSYS", "ENOENT"}
	noModule   = []string{"ENOPKG"} // none for an ioctl of sockets
	unknown    = []string{"EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"}
)

var attackRows = []attackRow{
	// The root file system, mounts and what procfs and sysfs drive.
	{name: "F7-double-chroot", bites: onlyRoot},
	{name: "F8-mknod", bites: onlyRoot},
	{name: "F8-planted-node", bites: anybody},
	{name: "F8-planted-kmsg", bites: onlyRoot},
	{name: "F8-planted-disk", bites: anybody, lacks: []string{"EPERM", "ENOENT"}}, // a device cgroup of the machine's
	{name: "F8-dev-kmsg", bites: onlyRoot, lacks: missing},
	{name: "Shocker", bites: onlyRoot},
	{name: "Shocker-i386", bites: onlyRoot, lacks: no32},
	{name: "F9-fanotify", bites: onlyRoot, lacks: missing},
	{name: "F9-fanotify_mark", bites: anybody, lacks: missing},
	{name: "F9-name_to_handle_at", bites: anybody, lacks: append([]string{"EOPNOTSUPP"}, missing...)},
	{name: "CVE-2022-0492", bites: onlyRoot, lacks: []string{"ENODEV", "EBUSY", "EINVAL", "ENOENT"}},
	{name: "F14-cgroup2", bites: onlyRoot, lacks: []string{"ENODEV"}},
	{name: "CVE-2023-25809", bites: onlyRoot, lacks: missing},
	{name: "F16-shm", bites: anybody, lacks: []string{"ENOSPC"}},
	{name: "X1-core_pattern", bites: onlyRoot},
	{name: "X1-modprobe", bites: onlyRoot, lacks: missing},
	{name: "X1-binfmt_misc", bites: onlyRoot, lacks: missing},
	{name: "X1-sysrq", bites: onlyRoot, lacks: missing},
	{name: "X1-irq", bites: nil, lacks: []string{"EROFS"}}, // read-only in the weak container too, for X2
	{name: "X1-kmsg", bites: onlyRoot, lacks: missing},
	{name: "X1-keys", bites: onlyRoot, lacks: missing},
	{name: "X1-kallsyms", bites: anybody, lacks: missing},
	{name: "X1-kpageflags", bites: onlyRoot, lacks: missing},
	{name: "X1-kcore", bites: onlyRoot, lacks: missing},
	{name: "X1-new-procfs", bites: onlyRoot},
	{name: "N5-sysctl-net", bites: onlyRoot},
	{name: "N8-unprivileged-ports", bites: onlyRoot},
	{name: "X2-umount-mask", bites: onlyRoot},
	{name: "X2-remount", bites: onlyRoot},
	{name: "X2-bind-over", bites: onlyRoot},
	{name: "X2-mount-api", bites: onlyRoot},
	{name: "X2-open_tree", bites: onlyRoot},
	{name: "X2-i386-mount", bites: onlyRoot, lacks: no32},
	{name: "S18-x32-mount", bites: onlyRoot, lacks: noX32},
	{name: "X2-pivot_root", bites: onlyRoot},
	{name: "X3-sys", bites: onlyRoot, lacks: missing},
	{name: "X3-uevent_helper", bites: onlyRoot, lacks: missing},

	// PID 1 and what it holds.
	{name: "CVE-2019-5736", bites: onlyRoot},
	{name: "CVE-2019-5736-write", bites: onlyRoot},
	{name: "CVE-2016-9962", bites: onlyRoot},
	{name: "P4-process_vm_writev", bites: onlyRoot},
	{name: "P4-mem", bites: onlyRoot},
	{name: "P4-pidfd_getfd", bites: onlyRoot},
	{name: "P4-map_files", bites: onlyRoot},
	{name: "P5-fd", bites: onlyRoot},
	{name: "P5-root", bites: onlyRoot},
	{name: "P5-cwd", bites: onlyRoot},
	{name: "K9-socket", bites: onlyRoot},
	{name: "P14-prlimit", bites: onlyRoot},
	{name: "P10-environ", bites: onlyRoot},
	{name: "P11-oom_score_adj", bites: onlyRoot, lacks: noResource},
	{name: "P12-core-limit", bites: onlyRoot, lacks: noResource},

	// A session: descriptors, identity, terminal, namespaces, keys.
	{name: "CVE-2024-21626", bites: anybody},
	{name: "S16-setuid", bites: anybody, open: map[string]string{
		"root-mode/root":        "uid 0 is the host's there, without a capability",
		"container_root/root":   "uid 0 is the host's there",
		"container_root/tenant": "set-uid programs are what container_root is for",
	}},
	{name: "X7-setuid", bites: onlyRoot, open: map[string]string{
		"container_root/root": "CAP_SETUID, which su and daemons need, and ids are the host's",
	}},
	{name: "X8-signal", bites: anybody},
	{name: "X8-pidfd_getfd", bites: anybody, scoped: true},
	{name: "CVE-2016-2568", bites: anybody, lacks: []string{"EIO"}},
	{name: "CVE-2017-5226", bites: anybody, lacks: []string{"EIO"}},
	{name: "CVE-2019-7303", bites: anybody, lacks: []string{"EIO"}},
	{name: "CVE-2019-10063", bites: anybody, lacks: []string{"EIO"}},
	{name: "CVE-2016-2568-i386", bites: anybody, lacks: no32},
	{name: "CVE-2023-1523", bites: anybody, lacks: []string{"ENOTTY"}}, // no virtual console
	{name: "T3-TIOCSETD", bites: anybody},
	{name: "CVE-2022-0185", bites: anybody, pivot: true, lacks: []string{"EPERM", "ENOSPC"}},
	{name: "CVE-2024-1086", bites: anybody, pivot: true, lacks: append([]string{"EPERM", "ENOSPC"}, unknown...)},
	{name: "S19-clone", bites: anybody, pivot: true, lacks: []string{"EPERM", "ENOSPC"}},
	{name: "S19-clone3", bites: anybody, pivot: true, lacks: []string{"EPERM", "ENOSPC"}},
	{name: "S19-clone-i386", bites: anybody, pivot: true, lacks: no32},
	{name: "S19-unshare-net", bites: onlyRoot},
	{name: "S19-setns", bites: onlyRoot},
	{name: "S17-user-keyring", bites: anybody},
	{name: "S17-add_key", bites: anybody},
	{name: "S17-session-keyring", bites: anybody},
	{name: "S17-request_key", bites: anybody},
	{name: "moby-42681", bites: anybody, lacks: no32},
	{name: "moby-42681-x32", bites: anybody, lacks: noX32},

	// Kernel surface.
	{name: "X4-io_uring", bites: anybody, lacks: []string{"ENOSYS", "EPERM"}},
	{name: "X4-io_uring-i386", bites: anybody, lacks: no32},
	{name: "X4-bpf", bites: onlyRoot, lacks: missing},
	{name: "X4-userfaultfd", bites: anybody, lacks: missing},
	{name: "X4-perf_event_open", bites: anybody, lacks: []string{"ENOSYS", "EACCES"}},
	{name: "X4-kcmp", bites: anybody, lacks: missing},
	{name: "X4-modify_ldt", bites: anybody, lacks: missing},
	{name: "X4-kexec", bites: onlyRoot, lacks: []string{"ENOSYS", "EPERM"}},
	{name: "X4-init_module", bites: onlyRoot, lacks: []string{"ENOSYS", "EPERM"}},
	{name: "X4-finit_module", bites: onlyRoot, lacks: []string{"ENOSYS", "EPERM"}},
	{name: "X4-sysfs", bites: anybody, lacks: missing},
	{name: "X4-ustat", bites: anybody, lacks: missing},
	{name: "X4-personality", bites: anybody},
	{name: "X5-clock_settime", bites: onlyRoot},
	{name: "X5-adjtimex", bites: onlyRoot},
	{name: "X5-reboot", bites: onlyRoot},
	{name: "X5-swapon", bites: onlyRoot, lacks: missing},
	{name: "X5-swapoff", bites: onlyRoot, lacks: missing},
	{name: "X5-iopl", bites: onlyRoot, lacks: missing},
	{name: "X5-ioperm", bites: onlyRoot, lacks: missing},
	{name: "X5-acct", bites: onlyRoot, lacks: missing},
	{name: "X5-quotactl", bites: anybody, lacks: missing},
	{name: "X5-syslog", bites: onlyRoot},
	{name: "X5-sched_fifo", bites: onlyRoot},
	{name: "X5-nice", bites: onlyRoot},
	{name: "X5-mlock-limit", bites: onlyRoot, lacks: noResource},
	{name: "X5-vhangup", bites: onlyRoot},
	{name: "X5-lookup_dcookie", bites: onlyRoot, lacks: missing},

	// The network, which is the host's.
	{name: "CVE-2020-15257", bites: anybody, scoped: true},
	{name: "N1-datagram", bites: anybody, scoped: true},
	{name: "N2-other-jail", bites: anybody, scoped: true},
	{name: "CVE-2020-14386", bites: onlyRoot},
	{name: "N3-raw", bites: onlyRoot},
	{name: "N3-raw-i386", bites: onlyRoot, lacks: no32},
	{name: "N4-interface", bites: onlyRoot},
	{name: "N4-route", bites: onlyRoot},
	{name: "N4-netfilter", bites: anybody, lacks: unknown},
	{name: "N4-generic", bites: anybody, lacks: unknown},
	{name: "CVE-2022-27666", bites: anybody, lacks: unknown},
	{name: "N4-bridge", bites: anybody, lacks: noModule},
	{name: "N4-vlan", bites: anybody, lacks: noModule},
	{name: "N4-driver", bites: anybody},
	{name: "N4-wireless", bites: anybody, lacks: []string{"ENOTTY", "EINVAL"}},
	{name: "N6-reuseport", bites: anybody, open: map[string]string{
		"root-mode/tenant":      "the same uid, to the kernel the same user",
		"root-mode/root":        "uid 0 is the host's there",
		"container_root/tenant": "the same uid, to the kernel the same user",
		"container_root/root":   "uid 0 is the host's there",
	}},
	{name: "N7-low-port", bites: onlyRoot},
	{name: "N10-audit", bites: onlyRoot, lacks: unknown},
	{name: "N10-audit-i386", bites: onlyRoot, lacks: no32},
	{name: "N11-uevent", bites: anybody, lacks: unknown},
	{name: "N12-vsock", bites: anybody, lacks: unknown},
	{name: "N12-vsock-socketcall", bites: anybody, lacks: no32},
	{name: "N12-socketpair", bites: anybody, lacks: unknown},
	{name: "N12-socketpair-i386", bites: anybody, lacks: no32},
	{name: "N12-socketpair-socketcall", bites: anybody, lacks: no32},
	{name: "N13-alg", bites: anybody, lacks: unknown},
	{name: "N13-key", bites: onlyRoot, lacks: unknown},
	{name: "N13-xdp", bites: onlyRoot, lacks: unknown},
	{name: "N13-rxrpc", bites: anybody, lacks: unknown},
	{name: "N13-tipc", bites: anybody, lacks: unknown},
	{name: "CVE-2017-6074", bites: anybody, lacks: unknown},
	{name: "N13-tipc-socketpair", bites: anybody, lacks: unknown},
	{name: "N13-udplite", bites: anybody, lacks: unknown},
	{name: "N13-udplite-socketpair", bites: anybody, lacks: unknown},
	{name: "N13-sctp", bites: anybody, lacks: unknown},
	{name: "N13-l2tp", bites: anybody, lacks: unknown},
	{name: "N13-smc", bites: anybody, lacks: unknown},
}

// underAttack is a registry of a jail for the attacker, with the busybox tree,
// and one for its neighbour.
func underAttack(mode string) registry {
	return registry{
		text: fmt.Sprintf("version = 1\n[jail.attacked]\nrootfs = %q\nusers = [\"centos\"]\n%s\n[jail.other]\nrootfs = %q\nusers = [\"debian\"]\n",
			busyboxRoot, mode, debianRoot),
		jails: []string{"attacked", "other"},
		users: []account{centos, work},
	}
}

// inTheJail runs attacks as somebody of the jail: a tenant by ssh, root by the
// administrator's exec with a descriptor of the host left open.
func (p *prey) inTheJail(t *testing.T, who identity, names ...string) map[string]verdict {
	t.Helper()
	args := append([]string{attackPath}, p.args(who, names...)...)
	if who == root {
		return p.attack(t, exec.Command(initPath, append([]string{"exec", "attacked"}, args...)...))
	}
	r := run(t, forced, ask{as: centos, cmd: strings.Join(args, " ")})
	require.Zero(t, r.status, "%s%s", r.stdout, r.stderr)
	return verdicts(t, r.stdout)
}

// TestAttack runs everything e2e/attack knows in two weak containers, where it
// must succeed, and in a jail of every id mode, where it must not.
func TestAttack(t *testing.T) {
	alone(t)
	p := newPrey(t)
	// weakly and jailed are how it went, by attack.
	weakly, jailed := make(map[string]map[string]verdict), make(map[string]map[string]verdict)

	other, err := net.Listen("unix", "@"+p.value("other"))
	require.NoError(t, err)
	var pivoted []string
	for _, row := range attackRows {
		if row.pivot {
			pivoted = append(pivoted, row.name)
		}
	}
	for style, names := range map[string][]string{"chroot": {"all"}, "pivot": pivoted} {
		w := newWeak(t, p, style, nil)
		for _, who := range []identity{tenant, root} { // root's unmounts the masks
			weakly[style+"/"+who.name] = w.attack(t, who, names...)
		}
	}
	info, err := os.Stat(filepath.Join(p.dir, "program"))
	require.NoError(t, err)
	assert.NotZero(t, info.Mode()&os.ModeSetuid, "the weak container's PID 1 is what made CVE-2019-5736")
	other.Close()

	arm(t, busyboxRoot)
	p.serveSlip(t, busyboxRoot)
	before, names := hostPrograms(t), abstractNames(t)
	for _, mode := range attackModes {
		s, err := serve(underAttack(mode.lines))
		require.NoError(t, err)
		// The neighbour's own abstract socket.
		l := open(t, forced, ask{as: work, cmd: "exec python3 -c 'import socket, sys\n" +
			"s = socket.socket(socket.AF_UNIX)\ns.bind(\"\\0\" + sys.argv[1])\ns.listen()\nprint(\"listens\", flush=True)\nsys.stdin.read()' " + p.value("other")})
		l.expect("listens\n")
		// The product's own sockets have paths (K10).
		assert.ElementsMatch(t, append(slices.Clone(names), "@"+p.value("other")), abstractNames(t))
		t.Run("S15/"+mode.name, func(t *testing.T) {
			r := run(t, forced, ask{as: centos, cmd: "grep ^Cap /proc/self/status"})
			none := ":\t0000000000000000\n"
			assert.Equal(t, "CapInh"+none+"CapPrm"+none+"CapEff"+none+"CapBnd:\t"+mode.bounding+"\nCapAmb"+none, r.stdout)
		})
		for _, who := range identities {
			jailed[mode.name+"/"+who.name] = p.inTheJail(t, who, "all")
		}
		// An ordinary user's caller may leave a descriptor open too.
		args := append([]string{attackPath}, p.args(tenant, "CVE-2024-21626")...)
		su := p.attack(t, exec.Command("su", "-", centos.login, "-c", strings.Join(args, " ")))
		assert.False(t, su["CVE-2024-21626"].got, "%s, by su: %v", mode.name, su)
		l.in.Close()
		l.wait()
		require.NoError(t, s.stop())
	}
	assert.Equal(t, before, hostPrograms(t))

	// excused is whether a row's kernel may lack what is attacked.
	excused := func(string) bool { return true }
	if text := os.Getenv("JAIL_TEST_BITES"); text != "" {
		bites := regexp.MustCompile(text)
		excused = func(name string) bool { return !bites.MatchString(name) }
		assert.True(t, slices.ContainsFunc(attackRows, func(row attackRow) bool { return !excused(row.name) }), "no attack is %s", text)
	}
	covered := make(map[string]bool)
	var absent []string
	for _, row := range attackRows {
		covered[row.name] = true
		t.Run(row.name, func(t *testing.T) {
			style := "chroot/"
			if row.pivot {
				style = "pivot/"
			}
			for _, who := range row.bites {
				v, ok := weakly[style+who.name][row.name]
				require.True(t, ok, "not tried in the weak container")
				if !v.got && slices.Contains(row.lacks, v.errno) && excused(row.name) {
					absent = append(absent, fmt.Sprintf("%s as %s: %s", row.name, who.name, v.detail))
					continue
				}
				assert.True(t, v.got, "as %s of the weak container it was %s", who.name, v)
			}
			if len(row.bites) == 0 {
				v := weakly[style+root.name][row.name]
				assert.Contains(t, row.lacks, v.errno, "%s", v)
				absent = append(absent, fmt.Sprintf("%s: %s", row.name, v.detail))
			}
			if row.scoped && sys.LandlockABI() < 6 {
				absent = append(absent, row.name+": in the jail, there being no Landlock scopes; serve warns of it")
				return
			}
			for _, mode := range attackModes {
				for _, who := range identities {
					where := mode.name + "/" + who.name
					v, ok := jailed[where][row.name]
					require.True(t, ok, "not tried as %s", where)
					if why, is := row.open[where]; is {
						assert.True(t, v.got, "%s: listed as open (%s), and was %s", where, why, v)
					} else {
						assert.False(t, v.got, "%s: it %s", where, v)
					}
				}
			}
		})
	}
	for name := range weakly["chroot/root"] {
		assert.True(t, covered[name], "attack %s has no row", name)
	}
	t.Logf("%d attacks; what this kernel has not got, so that it could not be shown to succeed anywhere:\n\t%s",
		len(attackRows), strings.Join(absent, "\n\t"))
}

// value is one of the keys the attack program is given.
func (p *prey) value(key string) string {
	for _, k := range p.keys {
		if value, ok := strings.CutPrefix(k, key+"="); ok {
			return value
		}
	}
	return ""
}

// abstractNames are the names of the abstract sockets there are. Connections that
// wait to be accepted have their listener's.
func abstractNames(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/net/unix")
	require.NoError(t, err)
	var names []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 8 && strings.HasPrefix(f[7], "@jail") {
			names = append(names, f[7])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// hostPrograms is what the programs on the host look like.
func hostPrograms(t *testing.T) map[string]string {
	t.Helper()
	look := make(map[string]string)
	for _, path := range programs() {
		f, err := os.Open(path)
		require.NoError(t, err)
		info, err := f.Stat()
		require.NoError(t, err)
		look[path] = fmt.Sprintf("%v %d %s", info.Mode(), info.Size(), sum(f))
		f.Close()
	}
	return look
}
