package rootfs

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"jail/internal/sys"
)

// Layers are what Overlay makes a file system of. The mounts are attached nowhere and have
// the ids that a jail is to see.
type Layers struct {
	// Base is never written to.
	Base int
	// Upper is a directory with the directories "upper" and "work" in it, for what differs
	// from Base. Without one, which its descriptor -1 says, that is kept in memory, and
	// goes with the last mount: Bytes of it, with a file for each 4 KiB.
	Upper int
	Bytes uint64
	// Root is the host's id of the jail's root: whose the mount is.
	Root uint32
	// Attr is of mount_setattr(2), for what is made.
	Attr uint64
}

// ErrOtherBase means that what is in an upper directory was made above another base.
var ErrOtherBase = errors.New("what is in the upper directory differs from another base than this")

// overlayOptions are overlayfs's (Documentation/filesystems/overlayfs.rst of the kernel).
// A base under files that differ from another one is ESTALE with an index, and an upper
// directory that is mounted already EBUSY; both are mounted in silence without. No
// directory of the base is renamed by a mark in the upper one (redirect_dir), nor is data
// of the base reached through a mark (metacopy): what is in the upper directory then leads
// nowhere, whoever has written it. Whatever the host has as defaults of the module, these
// are what holds.
var overlayOptions = [][2]string{{"index", "on"}, {"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"xino", "auto"}}

// Overlay returns a mount, attached nowhere, that shows the layers as one (overlayfs).
//
// Before Linux 6.15 overlayfs takes no layer that is attached nowhere (clone_private_mount,
// fs/namespace.c), so they are attached in a mount namespace that nobody else has and that
// ends with the thread. That copies all mounts of the host, and is left out where it can be.
// The kernel keeps the ids with which the mount is made, and makes files with these: root's own
// are none of the jail's, and it would then mount read-only without a word. So the
// thread has the ids of the jail's root, and all its capabilities still.
func Overlay(ly *Layers) (fd int, err error) {
	attached := !takesDetached()
	apart(func() { fd, err = overlay(ly, attached) })
	return fd, err
}

// apart calls f on a thread that ends afterwards, whatever f has made of it. The first
// thread of the process is none such: it cannot end, and its mount namespace is what
// /proc/self shows as that of the whole process.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if syscall.Gettid() == syscall.Getpid() {
			apart(f) // on another, since this one waits here
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

func overlay(ly *Layers, attached bool) (int, error) {
	upper, options := ly.Upper, overlayOptions
	if upper < 0 {
		var err error
		if upper, err = inMemory(ly); err != nil {
			return -1, err
		}
		defer sys.Close(upper)
		options = append([][2]string{{"volatile", ""}}, options...)
	}
	if attached {
		if err := attach(ly.Base, upper); err != nil {
			return -1, err
		}
	}
	sys.SetFSIDs(ly.Root, ly.Root)
	if err := sys.RaiseCaps(); err != nil {
		return -1, sys.Wrap("raise capabilities", err)
	}
	layers := [][2]string{{"lowerdir", number(ly.Base)}}
	for _, name := range []string{"upper", "work"} {
		// Open until the file system is made: what is mounted is what was looked at.
		dir, err := sys.Openat2(upper, name, dirFlags, sys.ResolveBeneath|sys.ResolveNoSymlinks|sys.ResolveNoXdev)
		if err != nil {
			return -1, sys.Wrap("open "+name, err)
		}
		defer sys.Close(dir)
		layers = append(layers, [2]string{name + "dir", number(dir)})
	}
	fd, err := newMount("overlay", append(layers, options...), ly.Attr)
	switch {
	case err == nil:
	case errors.Is(err, syscall.ESTALE):
		return -1, ErrOtherBase
	case errors.Is(err, syscall.EBUSY):
		return -1, errors.New("the upper directory is mounted already")
	default:
		return -1, err
	}
	// The kernel mounts what it cannot write to read-only, and says so in its log only.
	var st syscall.Statfs_t
	if err = syscall.Fstatfs(fd, &st); err == nil && st.Flags&syscall.MS_RDONLY != 0 {
		err = errors.New("the upper directory cannot be written to; the kernel's log (dmesg) says why")
	}
	if err != nil {
		sys.Close(fd)
		return -1, err
	}
	return fd, nil
}

// takesDetached reports whether overlayfs takes layers that are attached nowhere, which it
// does since Linux 6.15. A release that cannot be read is none of these.
func takesDetached() bool {
	var u syscall.Utsname
	return syscall.Uname(&u) == nil && since(u.Release[:], 6, 15)
}

// since reports whether a release, as uname(2) has it, is major.minor or later.
func since(release []int8, major, minor int) bool {
	var is [2]int
	n := 0
	for _, c := range release {
		switch {
		case c >= '0' && c <= '9' && is[n] < 1000:
			is[n] = is[n]*10 + int(c-'0')
		case c == '.' && n == 0:
			n = 1
		default:
			return n == 1 && (is[0] > major || is[0] == major && is[1] >= minor)
		}
	}
	return false
}

// attach attaches trees in a mount namespace of the thread's own.
func attach(trees ...int) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return sys.Wrap("make a mount namespace", err)
	}
	if err := private(); err != nil {
		return err
	}
	for _, tree := range trees {
		slash, err := sys.Openat2(sys.AtFDCWD, "/", dirFlags, 0)
		if err != nil {
			return sys.Wrap("open /", err)
		}
		err = sys.MoveMount(tree, slash)
		sys.Close(slash)
		if err != nil {
			return sys.Wrap("attach a layer", err)
		}
	}
	return nil
}

// number is a path that leads to a descriptor. There is nothing of anybody's in it: a
// colon or comma in a path would be overlayfs's own.
func number(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// inMemory makes an upper directory in memory, the jail's root's. What is at the top is the
// base's.
func inMemory(ly *Layers) (int, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(ly.Base, &st); err != nil {
		return -1, sys.Wrap("stat the base", err)
	}
	id := strconv.FormatUint(uint64(ly.Root), 10)
	fd, err := newMount("tmpfs", [][2]string{
		{"mode", "700"}, {"uid", id}, {"gid", id},
		{"size", strconv.FormatUint(ly.Bytes, 10)}, {"nr_inodes", strconv.FormatUint(max(ly.Bytes>>12, 64), 10)},
	}, sys.MountAttrNodev)
	if err != nil {
		return -1, err
	}
	for _, name := range strings.Fields("upper work") {
		uid, gid, mode := ly.Root, ly.Root, uint32(0o700)
		if name == "upper" {
			uid, gid, mode = st.Uid, st.Gid, st.Mode&0o7777
		}
		if err = sys.Mkdirat(fd, name, 0o700); err == nil {
			err = syscall.Fchownat(fd, name, int(uid), int(gid), sys.AtSymlinkNofollow)
		}
		if err == nil {
			err = syscall.Fchmodat(fd, name, mode, 0) // past any umask
		}
		if err != nil {
			sys.Close(fd)
			return -1, sys.Wrap("make "+name, err)
		}
	}
	return fd, nil
}
