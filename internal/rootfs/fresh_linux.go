package rootfs

import (
	"errors"
	"syscall"

	"jail/internal/sys"
)

// maxSkeleton bounds the directories that are made anew in one that is fresh.
const maxSkeleton = 64

// fresh mounts an empty file system over a directory and makes the directories in it that
// the rootfs has there: what packages count on, as /run/lock. What is deeper is for whoever
// needs it to make, as at the boot of a machine. Where the rootfs has something else than
// a directory, it stays.
func (b *builder) fresh(op Op) error {
	old, err := b.ensureDir(op.Target)
	if err != nil {
		b.note(op.Target + " is not empty at each start: it " + err.Error())
		return nil
	}
	defer sys.Close(old)
	fd, err := newMount("tmpfs", op.Options, sys.MountAttrNosuid|sys.MountAttrNodev)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	if err := copySkeleton(old, fd); err != nil {
		b.note(op.Target + " has not all of its directories: " + err.Error())
	}
	return sys.MoveMount(fd, old)
}

// copySkeleton makes the directories in one directory in another, with their modes and
// owners.
func copySkeleton(from, to int) error {
	list, err := sys.Openat2(from, ".", syscall.O_RDONLY|syscall.O_DIRECTORY, beneath)
	if err != nil {
		return err
	}
	defer sys.Close(list)
	buf := make([]byte, 4096)
	for made := 0; ; {
		n, err := syscall.ReadDirent(list, buf)
		if err != nil || n <= 0 {
			return err
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			var st syscall.Stat_t
			if sys.Fstatat(list, name, &st, sys.AtSymlinkNofollow) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
				continue
			}
			if made++; made > maxSkeleton {
				return errors.New("there are more than 64")
			}
			if err := sys.Mkdirat(to, name, 0o700); err != nil {
				return err
			}
			// Owners that are nobody's in the jail stay root's.
			_ = syscall.Fchownat(to, name, int(st.Uid), int(st.Gid), sys.AtSymlinkNofollow)
			if err := syscall.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil { // past any umask
				return err
			}
		}
	}
}
