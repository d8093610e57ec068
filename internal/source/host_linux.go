package source

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"jail/internal/jail"
	"jail/internal/rootpath"
	"jail/internal/sys"
	"jail/internal/wire"
)

// host is a cage made of the host itself: its programs, what is prepared of its /etc, and
// one home directory, in a root that PID 1 makes.
//
// Nothing but the home can be written that outlives the jail. The programs keep the ids of
// the host, so that uid 0 inside has the rights of anybody; set-uid and set-gid programs
// are neither for it nor, since the mounts are nosuid, for others.
type host struct {
	jail.Source
	spec *jail.Spec
}

// programs are where a host has its programs. Where one is a link, as in a merged /usr,
// the cage has the same link.
var programs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// hidden is never seen: what is large and for nobody's session, and trees in which hosting
// panels keep files that everybody on the host may read.
var hidden = []string{
	"/usr/src", "/usr/lib/debug",
	"/usr/local/cpanel", "/usr/local/directadmin", "/usr/local/hestia", "/usr/local/interworx", "/usr/local/ispconfig",
	"/usr/local/psa", "/usr/local/vesta", "/usr/local/virtualizor",
}

// Programs are the directories of the host that a cage shows, of which none may be
// another's than root's.
func Programs() []string { return slices.Clone(programs) }

const (
	// MaxOwnMounts is how many mounts of its own a source has at most.
	MaxOwnMounts = 64
	// MaxListed bounds what a cage shows besides, and what it hides.
	MaxListed = 32
	// MaxGroups is how many groups a login has in a cage besides its primary one: each may
	// be a line of an id map, which is a page at most (user_namespaces(7)).
	MaxGroups = 32
)

// Prepared is the directory of a runtime directory in which package hostfiles keeps what
// cages see of the host's own files.
func Prepared(runtimeDir string) string { return path.Join(runtimeDir, "host", "root") }

// HostFiles is where that is for this cage.
func (h *host) HostFiles() string { return h.Source.Prepared }

func (h *host) String() string { return "host:" + h.Home }

func (h *host) Places() []string { return []string{h.Home} }

func (h *host) Landmark() Landmark { return Landmark{Path: h.Home, At: h.Home} }

func (h *host) Name() (*Named, error) {
	return nil, errors.New(`rootfs = "host" needs a launcher that is root`)
}

// etcOf is where the prepared /etc is.
func (h *host) etcOf() string { return path.Join(h.Prepared, "etc") }

func (h *host) View() (*rootpath.Tree, error) {
	root, err := rootpath.OpenDir(h.Prepared, unix.O_PATH)
	if err != nil {
		return nil, fmt.Errorf("what is prepared of the host's files: %w", err)
	}
	tree := &rootpath.Tree{Root: root}
	// The directories above the home are PID 1's; that of the prepared /etc stands in.
	for i := 1; i < len(h.Home); i++ {
		if h.Home[i] != '/' {
			continue
		}
		fd, err := sys.Fcntl(root, syscall.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			tree.Close()
			return nil, fmt.Errorf("duplicate descriptor: %w", err)
		}
		tree.Mounts = append(tree.Mounts, rootpath.Mount{Target: h.Home[:i], FD: fd})
	}
	home, err := rootpath.OpenDir(h.Home, unix.O_PATH)
	if err != nil {
		tree.Close()
		return nil, fmt.Errorf("home: %w", err)
	}
	tree.Mounts = append(tree.Mounts, rootpath.Mount{Target: h.Home, FD: home})
	return tree, nil
}

func (h *host) Open(touch func(string)) (_ *Opened, err error) {
	o := &Opened{Root: Tree{FD: -1}, Exclusive: -1, Bounded: -1}
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	add := func(p string, attr uint64, ids IDs) (*Mount, error) {
		touch(p)
		fd, err := Clone(p, attr, false)
		if err != nil {
			return nil, err
		}
		o.Mounts = append(o.Mounts, Mount{Tree{FD: fd, Name: p, IDs: ids}, p, attr&sys.MountAttrRdonly != 0})
		return &o.Mounts[len(o.Mounts)-1], nil
	}
	o.Entries = h.entries()
	const shown = sys.MountAttrRdonly | sys.MountAttrNosuid | sys.MountAttrNodev
	mounts, err := mountPoints()
	if err != nil {
		return nil, err
	}
	for _, p := range programs {
		link, err := os.Readlink(p)
		if err == nil {
			o.Entries = append(o.Entries, wire.Entry{Kind: wire.EntryLink, Path: p, Text: link})
			continue
		}
		if errors.Is(err, syscall.ENOENT) {
			continue
		}
		// A clone has no mounts below it. They are cloned one by one, so that the
		// attributes are each mount's.
		for _, at := range append([]string{p}, below(mounts, p)...) {
			m, err := add(at, shown, NoIDs)
			if err != nil {
				return nil, err
			}
			if err := rootsOwn(m); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range h.Show {
		for _, at := range append([]string{p}, below(mounts, p)...) {
			if _, err := add(at, shown|sys.MountAttrNoexec, NoIDs); err != nil {
				return nil, err
			}
		}
	}
	// Programs that read these may look whether they are root's, as ssh(1) does with
	// ssh_config.d. Everybody may read all of it.
	etc, err := add(h.etcOf(), shown|sys.MountAttrNoexec, AllOrNoIDs)
	if err != nil {
		return nil, err
	}
	etc.Target = "/etc"
	home, err := add(h.Home, sys.MountAttrNosuid|sys.MountAttrNodev, OneID)
	if err != nil {
		return nil, err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(home.FD, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", h.Home, err)
	}
	if uid := uint32(h.spec.Logins[0].UID); st.Mode&syscall.S_IFMT != syscall.S_IFDIR || st.Uid != uid {
		return nil, fmt.Errorf("%s: must be a directory of uid %d, whose cage it is to be; it is uid %d's", h.Home, uid, st.Uid)
	}
	home.UID, home.GID = uint32(h.spec.Logins[0].UID), uint32(h.spec.Logins[0].GID)
	o.Exclusive, o.Bounded = home.FD, home.FD
	if len(o.Mounts) > MaxOwnMounts {
		return nil, fmt.Errorf("the host has %d mounts below %s and what is shown, %d are possible", len(o.Mounts), strings.Join(programs, ", "), MaxOwnMounts)
	}
	for _, p := range hidden {
		touch(p)
		// What a link leads to is hidden under its own name, or not at all.
		if fd, err := sys.Openat2(sys.AtFDCWD, p, sys.OPath, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks); err == nil {
			sys.Close(fd)
			o.Entries = append(o.Entries, wire.Entry{Kind: wire.EntryHide, Path: p})
		}
	}
	for _, p := range h.Hide {
		o.Entries = append(o.Entries, wire.Entry{Kind: wire.EntryHide, Path: p})
	}
	return o, nil
}

// rootsOwn makes sure that nobody besides root can change what is in the directory.
func rootsOwn(m *Mount) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(m.FD, &st); err != nil {
		return fmt.Errorf("stat %s: %w", m.Name, err)
	}
	if st.Uid != 0 || st.Mode&0o002 != 0 {
		return fmt.Errorf("%s: must be root's and not writable by everybody (uid %d, mode %04o) for a cage to be made of it", m.Name, st.Uid, st.Mode&0o7777)
	}
	return nil
}

// Sizes of what is in memory, in bytes. A limit on the jail's memory holds for all of it.
const (
	tmpBytes = 256 << 20
	runBytes = 16 << 20
)

// entries are what PID 1 makes, without the links to where programs are.
func (h *host) entries() []wire.Entry {
	uid, gid := uint32(h.spec.Logins[0].UID), uint32(h.spec.Logins[0].GID)
	dir := func(p string, mode uint32) wire.Entry {
		return wire.Entry{Kind: wire.EntryDir, Path: p, Mode: mode}
	}
	link := func(p, to string) wire.Entry { return wire.Entry{Kind: wire.EntryLink, Path: p, Text: to} }
	memory := func(p string, mode uint32, bytes uint64) wire.Entry {
		return wire.Entry{Kind: wire.EntryTmpfs, Path: p, Mode: mode, Bytes: bytes}
	}
	file := func(name, text string) wire.Entry {
		return wire.Entry{Kind: wire.EntryFile, Path: OwnFiles + "/" + name, Text: text}
	}
	return []wire.Entry{
		dir("/sys", 0o555), dir("/root", 0o700), dir("/home", 0o755), dir("/srv", 0o755), dir("/mnt", 0o755),
		dir("/opt", 0o755), dir("/media", 0o755),
		dir("/var", 0o755), dir("/var/cache", 0o755), dir("/var/lib", 0o755), dir("/var/local", 0o755),
		dir("/var/log", 0o755), dir("/var/opt", 0o755), dir("/var/spool", 0o755), dir("/var/spool/mail", 0o755),
		link("/var/run", "/run"), link("/var/lock", "/run/lock"), link("/var/mail", "spool/mail"),
		memory("/tmp", 0o1777, tmpBytes), memory("/var/tmp", 0o1777, tmpBytes), memory("/run", 0o755, runBytes),
		dir("/run/lock", 0o1777), dir("/run/screen", 0o1777), dir("/run/user", 0o755),
		{Kind: wire.EntryDir, Path: "/run/user/" + strconv.FormatUint(uint64(uid), 10), Mode: 0o700, UID: uid, GID: gid},
		dir(OwnFiles, 0o755),
		file("passwd", h.passwd()), file("group", h.group()), file("hostname", h.spec.Hostname+"\n"),
		file("hosts", "127.0.0.1\tlocalhost\n127.0.1.1\t"+h.spec.Hostname+"\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
	}
}

// OwnFiles is where the files of a cage are inside that are its own, and not the host's;
// the prepared /etc has links to them.
const OwnFiles = "/dev/jail/etc"

// Own are their names.
func Own() []string { return []string{"group", "hostname", "hosts", "passwd"} }

// accounts are those that a cage has besides its login: of the host's none but what
// every system has.
const (
	accounts = "root:x:0:0:root:/root:/bin/sh\n" +
		"daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nbin:x:2:2:bin:/bin:/usr/sbin/nologin\nsys:x:3:3:sys:/dev:/usr/sbin/nologin\n" +
		"man:x:6:12:man:/var/cache/man:/usr/sbin/nologin\nmail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	groups = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\nmail:x:8:\nman:x:12:\nshadow:x:42:\nutmp:x:43:\n" +
		"staff:x:50:\nusers:x:100:\nnogroup:x:65534:\n"
)

func (h *host) passwd() string {
	lg := &h.spec.Logins[0]
	shell := lg.Shell
	for _, p := range []string{"/bin/bash", "/bin/sh"} {
		if shell != "" {
			break
		}
		if _, err := os.Stat(p); err == nil {
			shell = p
		}
	}
	return accounts + fmt.Sprintf("%s:x:%d:%d::%s:%s\n", lg.JailName, lg.UID, lg.GID, h.Home, shell)
}

// group has the login's groups under the host's names, as far as it is not one of those
// every system has.
func (h *host) group() string {
	lg := &h.spec.Logins[0]
	lines := strings.SplitAfter(groups, "\n")
	have := func(gid jail.GID) int {
		return slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, fmt.Sprintf(":x:%d:", gid)) })
	}
	if have(lg.GID) < 0 {
		lines = append(lines, fmt.Sprintf("%s:x:%d:\n", h.Group, lg.GID))
	}
	for _, g := range h.Groups {
		if i := have(g.GID); i >= 0 {
			lines[i] = strings.TrimSuffix(lines[i], "\n") + lg.JailName + "\n"
		} else {
			lines = append(lines, fmt.Sprintf("%s:x:%d:%s\n", g.Name, g.GID, lg.JailName))
		}
	}
	return strings.Join(lines, "")
}

// below returns the mount points in a directory, those above others first.
func below(mounts []string, dir string) (in []string) {
	for _, m := range mounts {
		if strings.HasPrefix(m, dir+"/") && !slices.Contains(in, m) {
			in = append(in, m)
		}
	}
	return in
}

// mountPoints are the mount points of the host, from proc_pid_mountinfo(5). No file system
// is asked. One whose name has a blank or the like in it is a mistake that nothing is
// made of.
func mountPoints() (points []string, err error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && !strings.Contains(f[4], `\`) {
			points = append(points, f[4])
		}
	}
	return points, nil
}
