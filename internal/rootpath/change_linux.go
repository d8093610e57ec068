package rootpath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"jail/internal/sys"
)

// WalkDir finds the directory at path, an absolute one below the tree's root, as Walk
// finds a file, and returns an O_PATH descriptor of it, which is the caller's to close,
// and its status.
func (t *Tree) WalkDir(path string) (int, Stat, error) {
	if err := checkPath(path); err != nil {
		return -1, Stat{}, &Error{"open", path, err}
	}
	w := walker{tree: t}
	defer w.close()
	root := dir{fd: t.Root}
	if err := fstat(root.fd, &root.st); err != nil {
		return -1, Stat{}, &Error{"open", "/", err}
	}
	w.stack = append(w.stack, root)
	file, err := w.enter(path)
	if file != nil {
		file.Close()
		err = unix.ENOTDIR
	}
	fd := -1
	if err == nil {
		fd, err = dup(w.top().fd)
	}
	if err != nil {
		return -1, Stat{}, &Error{"open", path, err}
	}
	return fd, w.top().st, nil
}

// Replace puts text in the place of the file, with the owner and the mode that it had
// but for the set-id bits, so that every reader finds the old text or the new one, whole. was
// is what Read returned of it: a file that has changed since then is left alone, ErrChanged.
//
// Whoever may write in the directory can have the new file go anywhere below the root, and
// nowhere else.
func (f *File) Replace(text []byte, was *Stat) error {
	if err := f.replace(text, was); err != nil {
		return &Error{"write", f.Path, err}
	}
	return nil
}

func (f *File) replace(text []byte, was *Stat) error {
	var now Stat
	for {
		err := unix.Fstatat(f.dirFD, f.name, &now, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return err
		}
	}
	if now.Dev != was.Dev || now.Ino != was.Ino || now.Size != was.Size || now.Mtim != was.Mtim || now.Mode != was.Mode {
		return ErrChanged
	}
	return WriteAt(f.dirFD, f.name, text, was.Mode&0o777, int(was.Uid), int(was.Gid))
}

// WriteAt makes the file name in a directory, or replaces it by a whole new one, and
// sees to it that it is on the disk. uid and gid are its owners, -1 the caller's. A
// symbolic link of that name is replaced, not followed.
func WriteAt(dirFD int, name string, text []byte, mode uint32, uid, gid int) error {
	return PutAt(dirFD, name, text, mode, uid, gid, How{})
}

// halfSuffix ends the name of a file until it is whole: a dot and the file's own come before.
const halfSuffix = ".jail-new"

// TidyAt removes what a WriteAt of name has left in a directory that was killed. Nobody else
// may be writing that file.
func TidyAt(dirFD int, name string) error {
	err := sys.Unlinkat(dirFD, "."+name+halfSuffix, 0)
	if err == unix.ENOENT || err == unix.EROFS { // none, or none that was made now
		return nil
	}
	return err
}

// Tidy is TidyAt for the file.
func (f *File) Tidy() error {
	if err := TidyAt(f.dirFD, f.name); err != nil {
		return &Error{"tidy up beside", f.Path, err}
	}
	return nil
}

// TidyDir is TidyAt for all files of a directory of the host's own. One that is not there is
// no error.
func TidyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if n := e.Name(); n[0] == '.' && strings.HasSuffix(n, halfSuffix) && !e.IsDir() {
			err = errors.Join(err, os.Remove(filepath.Join(dir, n)))
		}
	}
	return err
}

// MakePublic makes a directory of the host's own that everybody may enter, and those above it that are missing,
// whatever the umask is. One that is there stays as it is.
func MakePublic(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err = MakePublic(filepath.Dir(dir)); err == nil {
			err = os.Mkdir(dir, 0o755)
		}
	}
	switch st, errStat := os.Stat(dir); {
	case err == nil:
		return os.Chmod(dir, 0o755)
	case errors.Is(err, fs.ErrExist) && errStat == nil && st.IsDir():
		return nil
	}
	return err
}

// How is what PutAt does otherwise than WriteAt.
type How struct {
	// Lazy leaves it to a later syncfs(2) that the file is on the disk.
	Lazy bool
	// Label is the file's security.selinux (selinux(8)); nil is what the kernel gives it.
	Label []byte
}

// PutAt is WriteAt, the way how says.
func PutAt(dirFD int, name string, text []byte, mode uint32, uid, gid int, how How) error {
	// Made anew, so that no descriptor somebody may have of an old one can write to it. What a run
	// before has left is in nobody's use.
	next := "." + name + halfSuffix
	if err := sys.Unlinkat(dirFD, next, 0); err != nil && err != unix.ENOENT {
		return err
	}
	fd, err := retryOpen(dirFD, next, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|alwaysFlags, 0o600)
	if err != nil {
		return err
	}
	err = fill(fd, text, mode, uid, gid, how)
	unix.Close(fd)
	if err == nil {
		err = unix.Renameat(dirFD, next, dirFD, name)
	}
	if err != nil {
		sys.Unlinkat(dirFD, next, 0)
		return err
	}
	if how.Lazy {
		return nil
	}
	// The name, too. An O_PATH descriptor cannot be synced.
	if d, err := retryOpen(dirFD, ".", unix.O_RDONLY|unix.O_DIRECTORY|alwaysFlags, 0); err == nil {
		unix.Fsync(d)
		unix.Close(d)
	}
	return nil
}

func fill(fd int, text []byte, mode uint32, uid, gid int, how How) error {
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		text = text[n:]
	}
	if uid >= 0 || gid >= 0 {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	if how.Label != nil {
		if err := unix.Fsetxattr(fd, "security.selinux", how.Label, 0); err != nil {
			return err
		}
	}
	if how.Lazy {
		return nil
	}
	return unix.Fsync(fd)
}

func retryOpen(dirFD int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirFD, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
