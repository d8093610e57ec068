package cgroup

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	mountPoint = "/sys/fs/cgroup"
	superMagic = 0x63677270 // CGROUP2_SUPER_MAGIC, statfs(2)
)

// Names of cgroups. A unit's has the name of the unit.
const (
	Unit   = "jail-all.service" // holds all running jails, whoever started them
	leaf   = "supervisor"       // holds the processes of a cgroup that is divided
	prefix = "jail-"            // a jail's, with its name behind it
)

// Life says how long jails live, compared with the process that starts them. It
// decides which cgroup may be divided: one that is cannot take a process in any
// more, so systemd cannot start its unit again before it is empty (DelegateSubgroup=
// is for this, and came with version 254).
type Life int

const (
	// Outlive is for jails that go on when the process ends: their cgroups must
	// not be below its own.
	Outlive Life = iota
	// Within is for a jail that ends with the process.
	Within
	// Alone is for a jail that nobody stays with, so that nobody would remove its
	// cgroup: it gets none.
	Alone
)

// place is a cgroup that may be divided.
type place struct {
	dir    string
	create bool // it is ours, below the root cgroup
	vacate bool // it may hold processes, which have to go into a leaf
}

// here looks for the place for this process's jails.
func here(life Life) (place, string) {
	if life == Alone {
		return place{}, "the jail runs on by itself; give it limits in the registry and start it by its name"
	}
	if !Unified() {
		return place{}, "this machine has no unified cgroup hierarchy (cgroup2 on " + mountPoint + "); boot with systemd.unified_cgroup_hierarchy=1"
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return place{}, err.Error()
	}
	return find(mountPoint, string(text), life, delegated)
}

// beside looks for the place for cgroups that jails are known by, where the unified hierarchy
// is mounted beside others, which have the controllers.
func beside(life Life) (place, string) {
	root, err := Root(mountInfo)
	if err != nil {
		return place{}, err.Error()
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return place{}, err.Error()
	}
	return find(root, string(text), life, delegated)
}

const mountInfo = "/proc/self/mountinfo"

// Root is where the root of the unified hierarchy is mounted, as this process sees it, by
// its /proc/self/mountinfo: its place, or beside other hierarchies.
func Root(mountInfo string) (string, error) {
	text, err := os.ReadFile(mountInfo)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(f) > 4 && f[3] == "/" {
			var st syscall.Statfs_t // something else may be mounted over it
			if syscall.Statfs(f[4], &st) == nil && st.Type == superMagic {
				return f[4], nil
			}
		}
	}
	return "", errors.New("the unified hierarchy of cgroups is not mounted; mount -t cgroup2 none /sys/fs/cgroup, or boot without systemd.unified_cgroup_hierarchy=0")
}

// Exists reports whether there is a cgroup of that number; root is a directory of the
// hierarchy. Where nobody may ask there is.
func Exists(root *os.File, id uint64) bool {
	const fileIDKernfs = 0xfe // FILEID_KERNFS, linux/exportfs.h
	handle := unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(int(root.Fd()), handle, unix.O_PATH|unix.O_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.ESTALE && err != unix.ENOENT
}

// Look says where jails get their cgroups and which controllers are to be had there,
// or why there is no place, and what to do about it. It changes nothing.
func Look(life Life) (dir string, controllers []string, why, fix string) {
	p, why := here(life)
	switch {
	case why == "":
	case !Unified():
		return "", nil, "is not the unified hierarchy (cgroup2)", "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line"
	case os.Geteuid() != 0:
		return "", nil, "there " + why, "Delegate=yes in a user unit that runs jail-init run"
	default:
		return "", nil, "there " + why, "systemctl start " + Unit
	}
	dir = p.dir
	if p.create {
		dir = filepath.Dir(dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return "", nil, err.Error(), "systemctl restart " + Unit
	}
	return dir, strings.Fields(string(text)), "", ""
}

// LookKnown says why jails cannot have cgroups that they are known by, "" if they can, and
// what to do about it. It changes nothing.
func LookKnown(life Life) (why, fix string) {
	if _, why = here(life); why != "" && !Unified() {
		_, why = beside(life)
	}
	if why == "" {
		return "", ""
	}
	if _, err := Root(mountInfo); err != nil {
		return why, "mount the unified hierarchy"
	}
	return why, "systemctl start " + Unit
}

// Unified reports whether the unified hierarchy is where it belongs.
func Unified() bool {
	var st syscall.Statfs_t
	return syscall.Statfs(mountPoint, &st) == nil && st.Type == superMagic
}

// find finds the place below mount for a process whose /proc/PID/cgroup is self,
// or says why there is none.
func find(mount, self string, life Life, delegated func(dir string) bool) (place, string) {
	own, ok := unified(self)
	if !ok {
		return place{}, "this process is in no cgroup of the unified hierarchy"
	}
	dir := filepath.Join(mount, own)
	if own == "/" {
		// The root cgroup alone has no type, and may be divided and hold processes.
		// Elsewhere this is the root of a cgroup namespace, all of which is ours.
		if _, err := os.Stat(filepath.Join(dir, "cgroup.type")); err == nil {
			return place{dir: dir, vacate: true}, ""
		}
		return place{dir: filepath.Join(dir, "jail"), create: true}, ""
	}
	if filepath.Base(own) == leaf {
		return place{dir: filepath.Dir(dir)}, ""
	}
	if life == Within && delegated(dir) {
		return place{dir: dir, vacate: true}, ""
	}
	for _, unit := range []string{filepath.Join(filepath.Dir(dir), Unit), filepath.Join(mount, "system.slice", Unit)} {
		if delegated(unit) {
			return place{dir: unit, vacate: true}, ""
		}
	}
	if life == Within {
		return place{}, "the cgroup " + own + ", in which this process is, is not delegated (Delegate=yes in its unit), and " + Unit + " is not active; systemctl start " + Unit
	}
	return place{}, Unit + ", in whose cgroup jails are, is not active; systemctl start " + Unit
}

// unified returns the path in the line of the unified hierarchy.
func unified(self string) (string, bool) {
	for line := range strings.SplitSeq(self, "\n") {
		if path, ok := strings.CutPrefix(line, "0::"); ok && strings.HasPrefix(path, "/") {
			// What a cgroup namespace does not show begins with "/..".
			return path, !strings.HasPrefix(path, "/..") && !strings.HasSuffix(path, " (deleted)")
		}
	}
	return "", false
}

// delegated reports whether systemd leaves what is below a unit's cgroup alone, to
// this user. It marks these (CGROUP_DELEGATION.md); the second mark, of systemd 251, is the one
// an ordinary user can read.
func delegated(dir string) bool {
	const writable = 2 // W_OK
	if syscall.Access(dir, writable) != nil {
		return false
	}
	var value [2]byte
	for _, mark := range []string{"trusted.delegate", "user.delegate"} {
		if n, err := syscall.Getxattr(dir, mark, value[:]); err == nil && n == 1 && value[0] == '1' {
			return true
		}
	}
	return false
}
