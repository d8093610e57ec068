// Package rootfs makes a jail's mount namespace out of a root directory whose
// owner may have put anything anywhere in it: symlinks, FIFOs, other mounts, and
// may be renaming them meanwhile. Plan says what is mounted where, as data;
// Apply does it, by descriptor.
package rootfs

import (
	"strconv"

	"jail/internal/wire"
)

// Kind says what an Op does.
type Kind uint8

// The kinds of Op.
const (
	Proc     Kind = iota // a new procfs at Target
	ReadOnly             // a read-only bind of Target on itself, below /proc
	Mask                 // hide Target, below /proc, if it exists
	Tmpfs                // a tmpfs at Target with Options
	Dir                  // a directory, in a tmpfs made before
	Node                 // a device node, in a tmpfs made before
	Link                 // a symlink to Source, in a tmpfs made before
	Devpts               // a new devpts at Target with Options
	Mqueue               // the IPC namespace's message queues at Target
	Bind                 // mount number Index of the set-up
	Server               // the built-in sftp server at Target
	File                 // a file that everybody may read, in a tmpfs made before
	Hide                 // cover Target, wherever it is, if it exists
	Fresh                // a tmpfs over the directory Target, with its directories in it
)

// Op is one step.
type Op struct {
	Target string // absolute path inside
	Source string // Link: what it says; File: what is in it; Bind: the host path, if PID 1 opens it
	// Options are the file system's parameters.
	Options [][2]string
	// Major and Minor are a Node's device.
	Major, Minor uint32
	// UID and GID are the owner of a Dir, Mode are its permissions, 0755 if 0.
	UID, GID uint32
	Mode     uint16
	Index    uint16 // Bind: which of the set-up's mounts it is
	Kind     Kind
	// ReadOnly is a Tmpfs that nobody writes to.
	ReadOnly bool
	// Optional steps are left out where their target is missing.
	Optional bool
}

// What sessions have of their client's, each in a directory of its own below.
const (
	AgentDir = "/dev/jail/agent" // sockets of agents
	X11Dir   = "/dev/jail/x11"   // cookies of displays, where the registry allows X11
	AuthDir  = "/dev/jail/auth"  // how logins authenticated, a file each
)

// devices is the file system that all else of /dev is in.
var devices = Op{Kind: Tmpfs, Target: "/dev", Options: [][2]string{{"mode", "755"}, {"size", "1m"}, {"nr_inodes", "1k"}}}

// nodes are the device nodes of a jail. There is no console, kmsg, mem, fuse,
// net/tun, kvm, vsock or loop.
var nodes = []Op{
	{Kind: Node, Target: "/dev/null", Major: 1, Minor: 3},
	{Kind: Node, Target: "/dev/zero", Major: 1, Minor: 5},
	{Kind: Node, Target: "/dev/full", Major: 1, Minor: 7},
	{Kind: Node, Target: "/dev/random", Major: 1, Minor: 8},
	{Kind: Node, Target: "/dev/urandom", Major: 1, Minor: 9},
	{Kind: Node, Target: "/dev/tty", Major: 5, Minor: 0},
}

// readOnlyProc are writable or triggering parts of procfs that a root inside
// must not write (in root mode it is the host's root).
var readOnlyProc = []string{"sys", "sysrq-trigger", "irq", "bus", "fs", "mtrr"}

// maskedProc are parts of procfs that tell about the host or drive it.
var maskedProc = []string{
	"kcore", "kmsg", "keys", "key-users", "latency_stats", "timer_list", "timer_stats",
	"sched_debug", "scsi", "acpi", "asound", "kallsyms", "config.gz", "iomem", "ioports",
	"slabinfo", "vmallocinfo", "pagetypeinfo", "kpagecount", "kpageflags", "kpagecgroup",
	"dynamic_debug", "vmcore",
}

// fixedOps is no fewer than the steps of a Plan without mounts and entries.
const fixedOps = 64

// ownRoot are the parameters of a root that PID 1 makes: room for directories, links and a
// few small files.
var ownRoot = [][2]string{{"mode", "755"}, {"size", "1m"}, {"nr_inodes", "2k"}}

// Plan returns the steps that turn the bare rootfs of s, already the root
// directory, into that of a jail, in order. In a root of its own, which is empty, the
// entries come first of all that is not the jail's own in any root.
func Plan(s *wire.Setup) []Op {
	// With room for all: what a growing list leaves behind stays with PID 1, whose
	// collector never runs, a page or two for each size it has had.
	ops := append(make([]Op, 0, fixedOps+len(s.Mounts)+len(s.Entries)), Op{Kind: Proc, Target: "/proc"})
	for _, p := range readOnlyProc {
		ops = append(ops, Op{Kind: ReadOnly, Target: "/proc/" + p, Optional: true})
	}
	// The files of AuthDir are all that takes room, a page for each session. Each is its
	// session's, who may fill the file system with it: others do without theirs then.
	ops = append(ops, devices)
	ops = append(ops, nodes...)
	ops = append(ops,
		Op{Kind: Dir, Target: "/dev/jail"},
		Op{Kind: Dir, Target: AgentDir},
		Op{Kind: Dir, Target: AuthDir},
	)
	if s.X11 {
		// Directories in there belong to sessions, who may fill it.
		ops = append(ops, Op{Kind: Tmpfs, Target: X11Dir, Options: [][2]string{{"mode", "755"}, {"size", "1m"}, {"nr_inodes", "2k"}}})
	}
	ops = append(ops,
		Op{Kind: Link, Target: "/dev/fd", Source: "/proc/self/fd"},
		Op{Kind: Link, Target: "/dev/stdin", Source: "/proc/self/fd/0"},
		Op{Kind: Link, Target: "/dev/stdout", Source: "/proc/self/fd/1"},
		Op{Kind: Link, Target: "/dev/stderr", Source: "/proc/self/fd/2"},
		Op{Kind: Link, Target: "/dev/ptmx", Source: "pts/ptmx"},
		Op{Kind: Dir, Target: "/dev/pts"},
		Op{Kind: Dir, Target: "/dev/shm"},
		Op{Kind: Dir, Target: "/dev/mqueue"},
	)
	if s.OwnRoot {
		ops = appendEntries(ops, s)
	}
	// Files are masked by the /dev/null just made.
	for _, p := range maskedProc {
		ops = append(ops, Op{Kind: Mask, Target: "/proc/" + p, Optional: true})
	}
	// Group tty; without a range of ids there is no group 5 to map.
	pts := [][2]string{{"newinstance", ""}, {"mode", "620"}, {"ptmxmode", "666"}, {"max", strconv.FormatUint(uint64(s.PtyMax), 10)}, {"gid", "5"}}
	if s.NoSetgroups {
		pts = pts[:len(pts)-1]
	}
	ops = append(ops,
		Op{Kind: Devpts, Target: "/dev/pts", Options: pts},
		Op{Kind: Tmpfs, Target: "/dev/shm", Options: [][2]string{{"mode", "1777"}, {"size", "64m"}, {"nr_inodes", "16k"}}},
		Op{Kind: Mqueue, Target: "/dev/mqueue"},
		// No sysfs: that of the host's network namespace cannot be had in a user
		// namespace, and the host's own is full of knobs.
		Op{Kind: Tmpfs, Target: "/sys", ReadOnly: true, Optional: true, Options: [][2]string{{"mode", "555"}, {"size", "4k"}, {"nr_inodes", "2"}}},
	)
	if s.Fresh != 0 {
		ops = appendFresh(ops, s.Fresh)
	}
	if s.SFTPServer != wire.SFTPServerNone {
		ops = append(ops, Op{Kind: Server, Target: wire.SFTPInside})
	}
	for i, m := range s.Mounts {
		ops = append(ops, Op{Kind: Bind, Target: m.Target, Source: m.Source, ReadOnly: m.ReadOnly, Index: uint16(i)})
	}
	if s.OwnRoot {
		ops = appendHidden(ops, s)
	}
	return ops
}

// appendFresh appends the directories that are empty at each start. Who writes to them fills
// memory, of which each has its share.
//
//go:noinline
func appendFresh(ops []Op, fresh wire.Fresh) []Op {
	if fresh&wire.FreshRun != 0 {
		ops = append(ops, Op{Kind: Fresh, Target: "/run", Options: [][2]string{{"mode", "755"}, {"size", "64m"}, {"nr_inodes", "16k"}}})
	}
	if fresh&wire.FreshTmp != 0 {
		ops = append(ops, Op{Kind: Fresh, Target: "/tmp", Options: [][2]string{{"mode", "1777"}, {"size", "256m"}, {"nr_inodes", "64k"}}})
	}
	return ops
}

// appendEntries appends what is made in a root of its own. It is apart from Plan, whose
// stack other jails need not make larger for it.
//
//go:noinline
func appendEntries(ops []Op, s *wire.Setup) []Op {
	for i := range s.Entries {
		switch e := &s.Entries[i]; e.Kind {
		case wire.EntryDir:
			ops = append(ops, Op{Kind: Dir, Target: e.Path, Mode: uint16(e.Mode), UID: e.UID, GID: e.GID})
		case wire.EntryLink:
			ops = append(ops, Op{Kind: Link, Target: e.Path, Source: e.Text})
		case wire.EntryFile:
			ops = append(ops, Op{Kind: File, Target: e.Path, Source: e.Text})
		case wire.EntryTmpfs:
			ops = append(ops, Op{Kind: Tmpfs, Target: e.Path, Options: [][2]string{
				{"mode", strconv.FormatUint(uint64(e.Mode), 8)}, {"size", strconv.FormatUint(e.Bytes, 10)}, {"nr_inodes", strconv.FormatUint(e.Bytes>>12, 10)},
			}})
		}
	}
	return ops
}

// appendHidden appends what is covered there, after all mounts.
func appendHidden(ops []Op, s *wire.Setup) []Op {
	for i := range s.Entries {
		if e := &s.Entries[i]; e.Kind == wire.EntryHide {
			ops = append(ops, Op{Kind: Hide, Target: e.Path, Optional: true})
		}
	}
	return ops
}
