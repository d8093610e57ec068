package rootfs

import (
	"errors"
	"strconv"
	"strings"
	"syscall"

	"jail/internal/sys"
	"jail/internal/wire"
)

// Root holds the descriptors that PID 1 keeps of the mounts it made itself, so
// that nothing the tenant mounts, links or renames later comes between.
type Root struct {
	Dir  int // the root directory, read-only
	Proc int // the procfs
	Dev  int // the tmpfs at /dev
	Pts  int // the devpts
	// Agent, X11 and Auth are the directories AgentDir, X11Dir and AuthDir; X11 is -1
	// without one.
	Agent, X11, Auth int

	// Notes are what an administrator should know of, though the jail runs.
	Notes []string
}

// beneath are the rules for every path below a rootfs: no symlink anywhere, no
// magic link, no way out (CVE-2019-19921, CVE-2021-30465, CVE-2023-27561).
const beneath = sys.ResolveInRoot | sys.ResolveNoSymlinks | sys.ResolveNoMagiclinks

const dirFlags = sys.OPath | syscall.O_DIRECTORY

// ErrBusy is returned when another container holds the rootfs.
var ErrBusy = errors.New("another jail runs on this rootfs")

type builder struct {
	s     *wire.Setup
	root  Root
	top   int // the root directory, O_PATH
	nodes map[string]int
	Trees
}

// Trees are the detached mounts a jail is made of, each -1 where there is none.
type Trees struct {
	Root     int   // the rootfs; -1 if Setup.Rootfs says where to clone it from, or Setup.OwnRoot that there is none
	Mounts   []int // those of Setup.Mounts without a Source, in order
	Server   int   // the built-in sftp server
	Resolver int   // the file to show as /etc/resolv.conf
	Devices  int   // what Devices has made
}

// Apply makes the calling process's mount namespace, a fresh copy of the
// host's, into the jail's. All trees are consumed. The process's root and working
// directory are the jail's afterwards, and nothing of the host is mounted any more.
//
// The order matters: propagation is cut first, since a mount still shared with
// the host would carry everything that follows back to it
// (mount_namespaces(7), SHARED SUBTREES); what is needed of the host is opened
// next; then the host goes; and only then anything below the rootfs is touched.
func Apply(s *wire.Setup, trees Trees) (*Root, error) {
	b := &builder{s: s, root: Root{Dir: -1, Proc: -1, Dev: -1, Pts: -1, Agent: -1, X11: -1, Auth: -1}, Trees: trees, nodes: map[string]int{}}
	tree := trees.Root
	if err := private(); err != nil {
		return nil, err
	}
	var err error
	switch {
	case s.OwnRoot:
		tree, err = newMount("tmpfs", ownRoot, sys.MountAttrNosuid|sys.MountAttrNodev|sys.MountAttrNoexec)
	case s.Rootfs != "":
		tree, err = b.ownTree()
	}
	if err != nil {
		return nil, err
	}
	if err := b.lock(tree); err != nil {
		return nil, err
	}
	if s.Userns && b.Devices < 0 {
		if err := b.openNodes(); err != nil {
			return nil, err
		}
	}
	if err := b.openBinds(); err != nil {
		return nil, err
	}
	if s.SFTPServer == wire.SFTPServerPath {
		var err error
		if b.Server, err = OwnFile(s.SFTPPath); err != nil {
			return nil, sys.Wrap("sftp server", err)
		}
	}
	b.openResolver()
	// In a user namespace a procfs may only be mounted while another, with
	// nothing hidden in it, is in sight (mount_too_revealing, fs/namespace.c).
	proc, err := newMount("proc", nil, sys.MountAttrNosuid|sys.MountAttrNodev|sys.MountAttrNoexec)
	if err == syscall.EPERM {
		err = errors.New("not permitted; the host's /proc must be mounted, with nothing mounted over parts of it")
	}
	if err != nil {
		return nil, sys.Wrap("/proc", err)
	}
	b.root.Proc = proc
	if err := pivot(tree); err != nil {
		return nil, err
	}
	b.top = tree
	for _, op := range Plan(s) {
		if err := b.do(op); err != nil {
			return nil, sys.Wrap(op.Target, err)
		}
	}
	if s.Complete {
		b.complete()
	}
	if b.Resolver >= 0 {
		b.showResolver()
	}
	if s.Hosts {
		b.showHosts()
	}
	for _, fd := range b.nodes {
		sys.Close(fd)
	}
	sys.Close(b.top)
	return &b.root, nil
}

// ownTree clones the rootfs in the process's own mount namespace, which is what
// an unprivileged launcher cannot do for it. Mounts below it come along, since
// the kernel does not let a less privileged namespace see beneath them.
func (b *builder) ownTree() (int, error) {
	dir, err := sys.Openat2(sys.AtFDCWD, b.s.Rootfs, dirFlags, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
	if err != nil {
		return -1, sys.Wrap("open rootfs", err)
	}
	defer sys.Close(dir)
	var st syscall.Stat_t
	if err := syscall.Fstat(dir, &st); err != nil {
		return -1, sys.Wrap("stat rootfs", err)
	}
	if uint64(st.Dev) != b.s.Dev || st.Ino != b.s.Ino {
		return -1, errors.New("the rootfs is not the directory that was checked")
	}
	tree, err := sys.OpenTree(dir, "", sys.OpenTreeClone|sys.AtEmptyPath|sys.AtRecursive)
	if err != nil {
		return -1, sys.Wrap("clone rootfs", err)
	}
	if err := sys.MountSetattr(tree, sys.MountAttrNodev, -1, true); err != nil {
		return -1, sys.Wrap("set rootfs nodev", err)
	}
	return tree, nil
}

// lock takes the rootfs for this jail. The lock is on an open file of the
// clone, so that the descriptor PID 1 keeps leads nowhere but to its own root.
// Whoever can open the directory can take it first (flock(2)): where the launcher
// has a lock of its own, nothing follows from that.
func (b *builder) lock(tree int) error {
	fd, err := sys.Openat2(tree, ".", syscall.O_RDONLY|syscall.O_DIRECTORY, sys.ResolveBeneath)
	if err != nil {
		return sys.Wrap("open rootfs", err)
	}
	b.root.Dir = fd
	err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		if b.s.Locked {
			return nil
		}
		return ErrBusy
	}
	if err != nil {
		return sys.Wrap("lock rootfs", err)
	}
	return nil
}

// devAttr are the attributes of /dev.
const devAttr = sys.MountAttrNosuid | sys.MountAttrNoexec

// Devices makes a jail's /dev, as a mount attached nowhere, which belongs to uid and gid
// and has the device nodes in it: they are of this jail alone. Whoever may read a node may
// watch it as well (inotify(7)), and then each use of it by anybody tells him, and takes
// the longer the more watches there are. mknod(2) is not to be had in a user
// namespace, so this is for the launcher. EPERM means that it has not got that right either.
func Devices(uid, gid uint32) (int, error) {
	options := append([][2]string{{"uid", strconv.FormatUint(uint64(uid), 10)}, {"gid", strconv.FormatUint(uint64(gid), 10)}}, devices.Options...)
	fd, err := newMount("tmpfs", options, devAttr)
	if err != nil {
		return -1, err
	}
	for _, op := range nodes {
		_, base := split(op.Target)
		err := syscall.Mknodat(fd, base, syscall.S_IFCHR|0o666, int(op.Major<<8|op.Minor))
		if err == nil {
			err = syscall.Fchmodat(fd, base, 0o666, 0) // past any umask
		}
		if err != nil {
			sys.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// openNodes clones the host's device nodes, where there are none of the jail's own, and
// makes sure that they are what they are called.
func (b *builder) openNodes() error {
	for _, op := range nodes {
		fd, err := sys.OpenTree(sys.AtFDCWD, op.Target, sys.OpenTreeClone)
		if err != nil {
			return sys.Wrap("clone the host's "+op.Target, err)
		}
		if err := checkNode(fd, op); err != nil {
			return err
		}
		b.nodes[op.Target] = fd
	}
	return nil
}

func checkNode(fd int, op Op) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFCHR || st.Rdev != uint64(op.Major<<8|op.Minor) {
		return errors.New(op.Target + " is not the character device " + strconv.Itoa(int(op.Major)) + ":" + strconv.Itoa(int(op.Minor)))
	}
	return nil
}

// openBinds clones the sources that did not come as descriptors.
func (b *builder) openBinds() error {
	all := make([]int, 0, len(b.s.Mounts))
	given := b.Mounts
	for _, m := range b.s.Mounts {
		if m.Source == "" {
			all, given = append(all, given[0]), given[1:]
			continue
		}
		fd, err := sys.Openat2(sys.AtFDCWD, m.Source, sys.OPath, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
		if err != nil {
			return sys.Wrap("open "+m.Source, err)
		}
		tree, err := sys.OpenTree(fd, "", sys.OpenTreeClone|sys.AtEmptyPath|sys.AtRecursive)
		sys.Close(fd)
		if err != nil {
			return sys.Wrap("clone "+m.Source, err)
		}
		attr := uint64(sys.MountAttrNodev | sys.MountAttrNosuid | sys.MountAttrNosymfollow)
		if m.ReadOnly {
			attr |= sys.MountAttrRdonly
		}
		if err := sys.MountSetattr(tree, attr, -1, true); err != nil {
			return sys.Wrap("set attributes of "+m.Source, err)
		}
		all = append(all, tree)
	}
	b.Mounts = all
	return nil
}

// Enter makes a detached tree all that there is for the calling process, which has a
// mount namespace of its own, a copy of the host's: its root and working directory are
// that tree afterwards. tree stays open.
func Enter(tree int) error {
	if err := private(); err != nil {
		return err
	}
	return pivot(tree)
}

// private cuts what mounts have to do with those of the host.
func private() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return sys.Wrap("make mounts private", err)
	}
	return nil
}

// pivot puts the tree over the host's root, makes it the root and lets the old
// one go. chroot(2) alone would leave a way back (chroot(2), "double chroot").
func pivot(tree int) error {
	slash, err := sys.Openat2(sys.AtFDCWD, "/", dirFlags, 0)
	if err != nil {
		return sys.Wrap("open /", err)
	}
	err = sys.MoveMount(tree, slash)
	sys.Close(slash)
	if err != nil {
		return sys.Wrap("attach rootfs", err)
	}
	if err := syscall.Fchdir(tree); err != nil {
		return sys.Wrap("enter rootfs", err)
	}
	if err := syscall.PivotRoot(".", "."); err != nil {
		return sys.Wrap("pivot_root", err)
	}
	// The old root is stacked on the new one now, and "." is still the old.
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return sys.Wrap("detach the host's root", err)
	}
	if err := syscall.Chdir("/"); err != nil {
		return sys.Wrap("enter /", err)
	}
	return nil
}

// open opens a path below the root without following anything.
func (b *builder) open(path string, flags int) (int, error) {
	return sys.Openat2(b.top, path, flags, beneath)
}

// ensureDir opens the directory path below the root, and makes it, and those
// above it, where they are missing.
func (b *builder) ensureDir(path string) (int, error) {
	fd, err := b.open(path, dirFlags)
	if err == nil || err != syscall.ENOENT {
		return fd, why(err)
	}
	parent, base := split(path)
	dir, err := b.ensureDir(parent)
	if err != nil {
		return -1, err
	}
	defer sys.Close(dir)
	if err := sys.Mkdirat(dir, base, 0o755); err != nil && err != syscall.EEXIST {
		return -1, sys.Wrap("make directory", err)
	}
	fd, err = sys.Openat2(dir, base, dirFlags, beneath)
	return fd, why(err)
}

// why says what an administrator can do about what openat2 found.
func why(err error) error {
	switch err {
	case syscall.ELOOP:
		return errors.New("is or contains a symbolic link, where a directory must be")
	case syscall.ENOTDIR:
		return errors.New("is not a directory")
	}
	return err
}

func split(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	if i == 0 {
		return "/", path[1:]
	}
	return path[:i], path[i+1:]
}

// in opens the directory of path, which lies in a file system made before, and
// returns the last element of path.
func (b *builder) in(path string) (int, string, error) {
	parent, base := split(path)
	fd, err := b.open(parent, dirFlags)
	return fd, base, err
}

func (b *builder) do(op Op) error {
	switch op.Kind {
	case Proc:
		target, err := b.ensureDir(op.Target)
		if err != nil {
			return err
		}
		defer sys.Close(target)
		if err := sys.MoveMount(b.root.Proc, target); err != nil {
			return sys.Wrap("attach proc", err)
		}
		if b.s.Userns {
			return b.noNestedUserns()
		}
		return nil
	case Tmpfs:
		attr := uint64(sys.MountAttrNosuid | sys.MountAttrNodev)
		if op.Target == "/dev" {
			attr = devAttr
		}
		if op.ReadOnly {
			attr |= sys.MountAttrRdonly | sys.MountAttrNoexec
		}
		if op.Target == devices.Target && b.Devices >= 0 {
			target, err := b.ensureDir(op.Target)
			if err != nil {
				return err
			}
			defer sys.Close(target)
			b.root.Dev = b.Devices
			return sys.MoveMount(b.Devices, target)
		}
		fd, err := b.mountNew(op, "tmpfs", attr)
		if op.Target == "/dev" {
			b.root.Dev = fd
		} else if op.Target == X11Dir {
			b.root.X11 = fd
		} else if fd >= 0 {
			sys.Close(fd)
		}
		return err
	case Devpts:
		fd, err := b.mountNew(op, "devpts", sys.MountAttrNosuid|sys.MountAttrNoexec)
		b.root.Pts = fd
		return err
	case Mqueue:
		fd, err := b.mountNew(op, "mqueue", sys.MountAttrNosuid|sys.MountAttrNodev|sys.MountAttrNoexec)
		if err == nil {
			sys.Close(fd)
		}
		return err
	case ReadOnly:
		return b.readOnly(op)
	case Mask:
		return b.mask(op)
	case Dir:
		dir, base, err := b.in(op.Target)
		if err != nil {
			return err
		}
		defer sys.Close(dir)
		if err := sys.Mkdirat(dir, base, 0o700); err != nil && err != syscall.EEXIST {
			return err
		}
		if op.UID != 0 || op.GID != 0 {
			if err := syscall.Fchownat(dir, base, int(op.UID), int(op.GID), sys.AtSymlinkNofollow); err != nil {
				return err
			}
		}
		mode := uint32(op.Mode)
		if mode == 0 {
			mode = 0o755
		}
		if err := syscall.Fchmodat(dir, base, mode, 0); err != nil { // past any umask
			return err
		}
		switch op.Target {
		case AgentDir:
			b.root.Agent, err = sys.Openat2(dir, base, dirFlags, sys.ResolveBeneath|sys.ResolveNoSymlinks)
		case AuthDir:
			b.root.Auth, err = sys.Openat2(dir, base, dirFlags, sys.ResolveBeneath|sys.ResolveNoSymlinks)
		}
		return err
	case Link:
		dir, base, err := b.in(op.Target)
		if err != nil {
			return err
		}
		defer sys.Close(dir)
		return sys.Symlinkat(op.Source, dir, base)
	case Node:
		return b.node(op)
	case Bind:
		return b.bind(op)
	case Server:
		return b.attachServer(op)
	case File:
		return b.file(op)
	case Hide:
		return b.hide(op)
	case Fresh:
		return b.fresh(op)
	}
	return errors.New("unknown step")
}

// OwnFile clones the mount of one file of ours, read-only, so that what shows of
// it in a jail cannot be written, made set-uid or given away there (CVE-2019-5736).
func OwnFile(path string) (int, error) {
	fd, err := sys.Openat2(sys.AtFDCWD, path, sys.OPath, sys.ResolveNoMagiclinks)
	if err != nil {
		return -1, sys.Wrap("open "+path, err)
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return -1, sys.Wrap("stat "+path, err)
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Mode&0o111 != 0o111 {
		return -1, errors.New(path + ": is not a program that everybody may run")
	}
	tree, err := sys.OpenTree(fd, "", sys.OpenTreeClone|sys.AtEmptyPath)
	if err != nil {
		return -1, sys.Wrap("clone "+path, err)
	}
	if err := sys.MountSetattr(tree, sys.MountAttrRdonly|sys.MountAttrNosuid|sys.MountAttrNodev, -1, false); err != nil {
		sys.Close(tree)
		return -1, sys.Wrap("make "+path+" read-only", err)
	}
	return tree, nil
}

// attachServer mounts the built-in sftp server on a file of our own /dev. The
// rootfs is not touched, and programs can be run there although /dev is noexec:
// that is a matter of each mount.
func (b *builder) attachServer(op Op) error {
	defer sys.Close(b.Server)
	fd, err := b.create(op.Target, 0o444)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	return sys.MoveMount(b.Server, fd)
}

// noNestedUserns forbids user namespaces below this one, a door to most of the
// kernel's privilege bugs (CVE-2022-0185, CVE-2024-1086). The seccomp filter
// does it too; this holds for what no filter sees.
func (b *builder) noNestedUserns() error {
	fd, err := sys.Openat2(b.root.Proc, "sys/user/max_user_namespaces", syscall.O_WRONLY, beneath|sys.ResolveNoXdev)
	if err != nil {
		return sys.Wrap("open user.max_user_namespaces", err)
	}
	defer sys.Close(fd)
	if _, err := sys.Write(fd, []byte("0")); err != nil {
		return sys.Wrap("write user.max_user_namespaces", err)
	}
	return nil
}

// mountNew mounts a new file system of the given type at op.Target and returns
// its root.
func (b *builder) mountNew(op Op, fstype string, attr uint64) (int, error) {
	var target int
	var err error
	if op.Optional {
		target, err = b.open(op.Target, dirFlags)
		if err == syscall.ENOENT {
			return -1, nil
		}
		err = why(err)
	} else {
		target, err = b.ensureDir(op.Target)
	}
	if err != nil {
		return -1, err
	}
	defer sys.Close(target)
	fd, err := newMount(fstype, op.Options, attr)
	if err != nil {
		return -1, err
	}
	if err := sys.MoveMount(fd, target); err != nil {
		sys.Close(fd)
		return -1, sys.Wrap("attach "+fstype, err)
	}
	return fd, nil
}

// procPath opens a file of the procfs just mounted; -1 if there is none.
func (b *builder) procPath(op Op) (int, error) {
	fd, err := sys.Openat2(b.root.Proc, strings.TrimPrefix(op.Target, "/proc/"), sys.OPath, beneath|sys.ResolveNoXdev)
	if err == syscall.ENOENT {
		return -1, nil
	}
	return fd, err
}

func (b *builder) readOnly(op Op) error {
	target, err := b.procPath(op)
	if target < 0 {
		return err
	}
	defer sys.Close(target)
	tree, err := sys.OpenTree(target, "", sys.OpenTreeClone|sys.AtEmptyPath)
	if err != nil {
		return err
	}
	defer sys.Close(tree)
	attr := uint64(sys.MountAttrRdonly | sys.MountAttrNosuid | sys.MountAttrNodev | sys.MountAttrNoexec)
	if err := sys.MountSetattr(tree, attr, -1, false); err != nil {
		return err
	}
	return sys.MoveMount(tree, target)
}

// mask covers a directory with an empty one and anything else with the jail's
// own /dev/null, both made here and never opened by a path the tenant could
// have put something at (CVE-2025-31133).
func (b *builder) mask(op Op) error {
	target, err := b.procPath(op)
	if target < 0 {
		return err
	}
	defer sys.Close(target)
	return b.cover(target)
}

// hide is mask for a path of the jail's own, that may be in any of its mounts. A link
// would lead to what stays seen under its own name.
func (b *builder) hide(op Op) error {
	target, err := b.open(op.Target, sys.OPath)
	if err == syscall.ENOENT {
		return nil
	}
	if err == syscall.ELOOP {
		return errors.New("cannot be hidden: it is, or is below, a symbolic link; hide what that leads to")
	}
	if err != nil {
		return err
	}
	defer sys.Close(target)
	return b.cover(target)
}

// create makes an empty file in a file system made before, and opens it for writing.
func (b *builder) create(path string, mode uint32) (int, error) {
	dir, base, err := b.in(path)
	if err != nil {
		return -1, err
	}
	defer sys.Close(dir)
	return sys.Openat2Mode(dir, base, createNew, mode, beneath)
}

// createNew makes a file that was not there.
const createNew = syscall.O_CREAT | syscall.O_EXCL | syscall.O_WRONLY | syscall.O_NOFOLLOW

// file makes a file that everybody may read.
func (b *builder) file(op Op) error {
	fd, err := b.create(op.Target, 0o644)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	n, err := sys.Write(fd, []byte(op.Source))
	if err == nil && n < len(op.Source) {
		err = syscall.ENOSPC
	}
	if err != nil {
		return err
	}
	return syscall.Fchmod(fd, 0o644) // past any umask
}

// cover puts something empty over a file or directory.
func (b *builder) cover(target int) error {
	var st syscall.Stat_t
	err := syscall.Fstat(target, &st)
	if err != nil {
		return err
	}
	var cover int
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		cover, err = newMount("tmpfs", [][2]string{{"mode", "555"}, {"size", "4k"}, {"nr_inodes", "2"}},
			sys.MountAttrRdonly|sys.MountAttrNosuid|sys.MountAttrNodev|sys.MountAttrNoexec)
	} else {
		cover, err = sys.OpenTree(b.root.Dev, "null", sys.OpenTreeClone)
	}
	if err != nil {
		return err
	}
	defer sys.Close(cover)
	return sys.MoveMount(cover, target)
}

// newMount returns a detached mount of a new file system.
func newMount(fstype string, options [][2]string, attr uint64) (int, error) {
	fs, err := sys.Fsopen(fstype)
	if err != nil {
		return -1, sys.Wrap("open "+fstype, err)
	}
	defer sys.Close(fs)
	for _, o := range options {
		if err := sys.FsconfigString(fs, o[0], o[1]); err != nil {
			return -1, sys.Wrap("set "+fstype+" option "+o[0], err)
		}
	}
	if err := sys.FsconfigCreate(fs); err != nil {
		return -1, sys.Wrap("create "+fstype, err)
	}
	fd, err := sys.Fsmount(fs, attr)
	if err == syscall.EPERM {
		return -1, err
	}
	if err != nil {
		return -1, sys.Wrap("mount "+fstype, err)
	}
	return fd, nil
}

// node makes a device node: a real one, unless Devices has, or a mount of the host's. A real
// one is mounted on itself, so that root inside, whose /dev is, cannot put something else in
// its place (EBUSY, unlink(2)): PID 1 opens /dev/null for sessions, and nobody could make it
// anew.
func (b *builder) node(op Op) error {
	dir, base, err := b.in(op.Target)
	if err != nil {
		return err
	}
	defer sys.Close(dir)
	host, ok := b.nodes[op.Target]
	if !ok {
		if b.Devices < 0 {
			old := syscall.Umask(0)
			err := syscall.Mknodat(dir, base, syscall.S_IFCHR|0o666, int(op.Major<<8|op.Minor))
			syscall.Umask(old)
			if err != nil {
				return err
			}
		}
		node, err := sys.OpenTree(dir, base, sys.OpenTreeClone)
		if err != nil {
			return err
		}
		defer sys.Close(node)
		target, err := sys.Openat2(dir, base, sys.OPath|syscall.O_NOFOLLOW, beneath)
		if err != nil {
			return err
		}
		defer sys.Close(target)
		return sys.MoveMount(node, target)
	}
	fd, err := sys.Openat2Mode(dir, base, createNew, 0o644, beneath)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	return sys.MoveMount(host, fd)
}

// bind attaches a mount of the registry.
func (b *builder) bind(op Op) error {
	tree := b.Mounts[op.Index]
	defer sys.Close(tree)
	var st syscall.Stat_t
	if err := syscall.Fstat(tree, &st); err != nil {
		return err
	}
	var target int
	var err error
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		target, err = b.ensureDir(op.Target)
	} else {
		target, err = b.ensureFile(op.Target)
	}
	if err != nil {
		return err
	}
	defer sys.Close(target)
	return sys.MoveMount(tree, target)
}

func (b *builder) ensureFile(path string) (int, error) {
	fd, err := b.open(path, sys.OPath)
	if err != syscall.ENOENT {
		return fd, why(err)
	}
	parent, base := split(path)
	dir, err := b.ensureDir(parent)
	if err != nil {
		return -1, err
	}
	defer sys.Close(dir)
	fd, err = sys.Openat2Mode(dir, base, createNew, 0o644, beneath)
	if err != nil {
		return -1, err
	}
	sys.Close(fd)
	return b.open(path, sys.OPath)
}
