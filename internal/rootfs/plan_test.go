package rootfs

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/internal/wire"
)

// The parts of a plan, each as a reader of fstab(5) would expect it.

func readOnly(path string) Op { return Op{Kind: ReadOnly, Target: path, Optional: true} }
func mask(path string) Op     { return Op{Kind: Mask, Target: path, Optional: true} }
func node(path string, major, minor uint32) Op {
	return Op{Kind: Node, Target: path, Major: major, Minor: minor}
}

var (
	procfs = []Op{
		{Kind: Proc, Target: "/proc"},
		readOnly("/proc/sys"), readOnly("/proc/sysrq-trigger"), readOnly("/proc/irq"), readOnly("/proc/bus"),
		readOnly("/proc/fs"), readOnly("/proc/mtrr"),
	}
	dev = []Op{
		{Kind: Tmpfs, Target: "/dev", Options: [][2]string{{"mode", "755"}, {"size", "1m"}, {"nr_inodes", "1k"}}},
		node("/dev/null", 1, 3), node("/dev/zero", 1, 5), node("/dev/full", 1, 7),
		node("/dev/random", 1, 8), node("/dev/urandom", 1, 9), node("/dev/tty", 5, 0),
		{Kind: Dir, Target: "/dev/jail"},
		{Kind: Dir, Target: "/dev/jail/agent"},
		{Kind: Dir, Target: "/dev/jail/auth"},
	}
	x11 = []Op{
		{Kind: Tmpfs, Target: "/dev/jail/x11", Options: [][2]string{{"mode", "755"}, {"size", "1m"}, {"nr_inodes", "2k"}}},
	}
	links = []Op{
		{Kind: Link, Target: "/dev/fd", Source: "/proc/self/fd"},
		{Kind: Link, Target: "/dev/stdin", Source: "/proc/self/fd/0"},
		{Kind: Link, Target: "/dev/stdout", Source: "/proc/self/fd/1"},
		{Kind: Link, Target: "/dev/stderr", Source: "/proc/self/fd/2"},
		{Kind: Link, Target: "/dev/ptmx", Source: "pts/ptmx"},
		{Kind: Dir, Target: "/dev/pts"},
		{Kind: Dir, Target: "/dev/shm"},
		{Kind: Dir, Target: "/dev/mqueue"},
	}
	masks = []Op{
		mask("/proc/kcore"), mask("/proc/kmsg"), mask("/proc/keys"), mask("/proc/key-users"), mask("/proc/latency_stats"),
		mask("/proc/timer_list"), mask("/proc/timer_stats"), mask("/proc/sched_debug"), mask("/proc/scsi"), mask("/proc/acpi"),
		mask("/proc/asound"), mask("/proc/kallsyms"), mask("/proc/config.gz"), mask("/proc/iomem"), mask("/proc/ioports"),
		mask("/proc/slabinfo"), mask("/proc/vmallocinfo"), mask("/proc/pagetypeinfo"), mask("/proc/kpagecount"),
		mask("/proc/kpageflags"), mask("/proc/kpagecgroup"), mask("/proc/dynamic_debug"), mask("/proc/vmcore"),
	}
	rest = []Op{
		{Kind: Tmpfs, Target: "/dev/shm", Options: [][2]string{{"mode", "1777"}, {"size", "64m"}, {"nr_inodes", "16k"}}},
		{Kind: Mqueue, Target: "/dev/mqueue"},
		{Kind: Tmpfs, Target: "/sys", ReadOnly: true, Optional: true, Options: [][2]string{{"mode", "555"}, {"size", "4k"}, {"nr_inodes", "2"}}},
	}
)

func pts(more ...[2]string) []Op {
	return []Op{{Kind: Devpts, Target: "/dev/pts", Options: append([][2]string{
		{"newinstance", ""}, {"mode", "620"}, {"ptmxmode", "666"}, {"max", "256"},
	}, more...)}}
}

var tty = [2]string{"gid", "5"}

// TestPlan compares plans whole: what is not expected is as wrong as what is missing, and
// the order is the plan's as well. Masks come after /dev, whose null they use; the
// registry's mounts come last, over all of it.
func TestPlan(t *testing.T) {
	whole := func(parts ...[]Op) (all []Op) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	for claim, c := range map[string]struct {
		setup wire.Setup
		want  []Op
	}{
		"a jail": {
			wire.Setup{PtyMax: 256, Userns: true},
			whole(procfs, dev, links, masks, pts(tty), rest),
		},
		"in root mode it is the same": {
			wire.Setup{PtyMax: 256},
			whole(procfs, dev, links, masks, pts(tty), rest),
		},
		"without a range of ids there is no group tty": {
			wire.Setup{PtyMax: 256, Userns: true, NoSetgroups: true},
			whole(procfs, dev, links, masks, pts(), rest),
		},
		"displays have a file system of their own": {
			wire.Setup{PtyMax: 256, X11: true},
			whole(procfs, dev, x11, links, masks, pts(tty), rest),
		},
		"the built-in sftp server that came as a clone": {
			wire.Setup{PtyMax: 256, SFTPServer: wire.SFTPServerTree},
			whole(procfs, dev, links, masks, pts(tty), rest, []Op{{Kind: Server, Target: "/dev/jail/sftp-server"}}),
		},
		"the one that PID 1 clones": {
			wire.Setup{PtyMax: 256, SFTPServer: wire.SFTPServerPath, SFTPPath: "/p"},
			whole(procfs, dev, links, masks, pts(tty), rest, []Op{{Kind: Server, Target: "/dev/jail/sftp-server"}}),
		},
		"a root of its own": {
			wire.Setup{PtyMax: 256, Userns: true, OwnRoot: true, Mounts: []wire.Mount{{Target: "/usr", ReadOnly: true}}, Entries: []wire.Entry{
				{Kind: wire.EntryTmpfs, Path: "/run", Mode: 0o755, Bytes: 1 << 20},
				{Kind: wire.EntryHide, Path: "/usr/src"},
				{Kind: wire.EntryDir, Path: "/run/user", Mode: 0o700, UID: 7, GID: 8},
				{Kind: wire.EntryLink, Path: "/bin", Text: "usr/bin"},
				{Kind: wire.EntryFile, Path: "/dev/jail/f", Text: "text"},
			}},
			whole(procfs, dev, links, []Op{
				{Kind: Tmpfs, Target: "/run", Options: [][2]string{{"mode", "755"}, {"size", "1048576"}, {"nr_inodes", "256"}}},
				{Kind: Dir, Target: "/run/user", Mode: 0o700, UID: 7, GID: 8},
				{Kind: Link, Target: "/bin", Source: "usr/bin"},
				{Kind: File, Target: "/dev/jail/f", Source: "text"},
			}, masks, pts(tty), rest, []Op{
				{Kind: Bind, Target: "/usr", ReadOnly: true},
				{Kind: Hide, Target: "/usr/src", Optional: true},
			}),
		},
		"fresh directories, below the registry's mounts": {
			wire.Setup{PtyMax: 256, Fresh: wire.FreshRun | wire.FreshTmp, Mounts: []wire.Mount{{Target: "/run/db"}}},
			whole(procfs, dev, links, masks, pts(tty), rest, []Op{
				{Kind: Fresh, Target: "/run", Options: [][2]string{{"mode", "755"}, {"size", "64m"}, {"nr_inodes", "16k"}}},
				{Kind: Fresh, Target: "/tmp", Options: [][2]string{{"mode", "1777"}, {"size", "256m"}, {"nr_inodes", "64k"}}},
				{Kind: Bind, Target: "/run/db"},
			}),
		},
		"one fresh directory": {
			wire.Setup{PtyMax: 256, Fresh: wire.FreshTmp},
			whole(procfs, dev, links, masks, pts(tty), rest, []Op{
				{Kind: Fresh, Target: "/tmp", Options: [][2]string{{"mode", "1777"}, {"size", "256m"}, {"nr_inodes", "64k"}}},
			}),
		},
		"the registry's mounts": {
			wire.Setup{PtyMax: 256, SFTPServer: wire.SFTPServerTree, Mounts: []wire.Mount{
				{Target: "/srv/a", ReadOnly: true}, {Target: "/dev/shm", Source: "/host"},
			}},
			whole(procfs, dev, links, masks, pts(tty), rest, []Op{
				{Kind: Server, Target: "/dev/jail/sftp-server"},
				{Kind: Bind, Target: "/srv/a", ReadOnly: true},
				{Kind: Bind, Target: "/dev/shm", Source: "/host", Index: 1},
			}),
		},
	} {
		assert.Equal(t, c.want, Plan(&c.setup), claim)
	}
}

// TestPlanIsMadeAtOnce: the list has room for the longest plan from the beginning. The
// smaller ones that a growing list leaves behind were thirty kilobytes of every idle jail.
func TestPlanIsMadeAtOnce(t *testing.T) {
	s := &wire.Setup{X11: true, SFTPServer: wire.SFTPServerTree, Fresh: wire.FreshRun | wire.FreshTmp}
	assert.LessOrEqual(t, len(Plan(s)), fixedOps)
	s.Mounts = make([]wire.Mount, wire.MaxMounts)
	assert.LessOrEqual(t, len(Plan(s)), fixedOps+wire.MaxMounts)
	assert.Equal(t, fixedOps+wire.MaxMounts, cap(Plan(s)))
}
