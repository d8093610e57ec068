package unpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/archive"
	"jail/internal/sys"
)

// tree makes entries below a directory, which is empty at first and nobody else's: so it
// knows each directory there is, by its inode number.
//
// Where the caller is confined to that directory, nothing an archive says can lead
// anywhere else. Paths are resolved below it all the same, links in it as if it were the
// root: an archive means the same wherever it is unpacked, and /lib/x ends up in /usr/lib
// where an earlier layer made /lib a link.
type tree struct {
	root  int
	depth map[uint64]int // of each directory
	// made is what the layer has made, after the first: what whiteouts of its must leave.
	made   map[place]bool
	layers int
	dirs   []stamp // times, to be set when nothing is made in them any more
	buf    []byte
	// at is the directory that was opened last, since its entries come together.
	at     int
	atName string

	notes func(text string)
	noted map[string]bool
}

// place is an entry of a directory.
type place struct {
	dir  uint64
	name string
}

type stamp struct {
	name string
	ino  uint64
	time time.Time
}

// maxDepth bounds how deep directories lie in one another: what removes them holds one
// open for each.
const maxDepth = 256

const (
	dirFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	inRoot   = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
)

// newTree returns a tree below the directory root, which is an O_PATH descriptor.
func newTree(root int, notes func(text string)) (*tree, error) {
	t := &tree{root: root, depth: map[uint64]int{}, at: -1, buf: make([]byte, 256<<10), notes: notes, noted: map[string]bool{}}
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return nil, err
	}
	t.depth[st.Ino] = 0
	return t, nil
}

// note says something once.
func (t *tree) note(text string) {
	if !t.noted[text] && len(t.noted) < 16 {
		t.noted[text] = true
		t.notes(text)
	}
}

// Layer implements archive.Tree.
func (t *tree) Layer() {
	if t.layers++; t.layers > 1 {
		t.made = map[place]bool{}
	}
}

// openDir opens the directory name, links in it followed below the root.
func (t *tree) openDir(name string) (int, error) {
	return sys.Openat2(t.root, name, dirFlags, inRoot)
}

// parent opens, or makes, the directory of that name. It stays the tree's.
func (t *tree) parent(name string) (int, error) {
	if t.at >= 0 && t.atName == name {
		return t.at, nil
	}
	fd, err := t.openDir(name)
	if err == unix.ENOENT {
		fd, err = t.makeAbove(name)
	}
	if err == unix.ENOTDIR {
		err = errors.New("what is above it is no directory")
	}
	if err == unix.ELOOP {
		err = errors.New("links above it lead nowhere")
	}
	if err != nil {
		return -1, err
	}
	t.forget()
	t.at, t.atName = fd, name
	return fd, nil
}

// forget closes the directory that was opened last: it may not be the one of that name
// any more.
func (t *tree) forget() {
	if t.at >= 0 {
		unix.Close(t.at)
		t.at = -1
	}
}

// makeAbove makes the directories of name that are missing, as root's own. One that a
// link leads to, and that is missing, is not made.
func (t *tree) makeAbove(name string) (int, error) {
	if name == "." {
		return t.openDir(name)
	}
	above, err := t.openDir(path.Dir(name))
	if err == unix.ENOENT {
		above, err = t.makeAbove(path.Dir(name))
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(above)
	last := path.Base(name)
	if err := t.mkdir(above, last); err != nil {
		if err == unix.EEXIST {
			return -1, errors.New("a link above it leads to what is not there")
		}
		return -1, err
	}
	return unix.Openat(above, last, dirFlags|unix.O_NOFOLLOW, 0)
}

// mkdir makes a directory, root's and 0755, and remembers it.
func (t *tree) mkdir(above int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(above, &st); err != nil {
		return err
	}
	depth, known := t.depth[st.Ino]
	if !known {
		return errors.New("is in a directory that the archive has not made")
	}
	if depth >= maxDepth {
		return fmt.Errorf("lies in more than %d directories", maxDepth)
	}
	if err := unix.Mkdirat(above, name, 0o755); err != nil {
		return err
	}
	dir := st.Ino
	if err := unix.Fstatat(above, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	t.depth[st.Ino] = depth + 1
	if t.made != nil {
		t.made[place{dir, name}] = true
	}
	return nil
}

// Make implements archive.Tree.
func (t *tree) Make(e *archive.Entry, content io.Reader) error {
	if e.Name == "." {
		fd, err := unix.Openat(t.root, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return t.finishDir(fd, e)
	}
	dir, err := t.parent(path.Dir(e.Name))
	if err != nil {
		return err
	}
	last := path.Base(e.Name)
	var above, st unix.Stat_t
	if err := unix.Fstat(dir, &above); err != nil {
		return err
	}
	// Another name of itself: it is there, and would be removed to make room.
	if e.Kind == archive.Link && e.Target == e.Name {
		return unix.Fstatat(dir, last, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	exists := unix.Fstatat(dir, last, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
	isDir := exists && st.Mode&unix.S_IFMT == unix.S_IFDIR
	if exists && !(isDir && e.Kind == archive.Dir) {
		var target unix.Stat_t
		if e.Kind == archive.Link && !isDir && t.statTarget(e.Target, &target) == nil && target.Ino == st.Ino {
			return nil
		}
		if err := t.remove(dir, last, false); err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		// dir is still open: what has gone was in it.
		if isDir || st.Mode&unix.S_IFMT == unix.S_IFLNK {
			defer t.forget()
		}
	}
	switch e.Kind {
	case archive.File:
		err = t.file(dir, last, e, content)
	case archive.Dir:
		err = t.dir(dir, last, e, isDir)
	case archive.Symlink:
		if err = unix.Symlinkat(e.Target, dir, last); err == nil {
			err = t.finishAt(dir, last, e)
		}
	case archive.Fifo:
		if err = unix.Mknodat(dir, last, unix.S_IFIFO|0o600, 0); err == nil {
			err = t.finishAt(dir, last, e)
		}
	case archive.Link:
		err = t.link(dir, last, e)
	}
	if err == nil && t.made != nil {
		t.made[place{above.Ino, last}] = true
	}
	return err
}

// statTarget is what a hard link would be another name of.
func (t *tree) statTarget(name string, st *unix.Stat_t) error {
	dir, err := t.openDir(path.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.Fstatat(dir, path.Base(name), st, unix.AT_SYMLINK_NOFOLLOW)
}

func (t *tree) link(dir int, last string, e *archive.Entry) error {
	from, err := t.openDir(path.Dir(e.Target))
	if err == nil {
		defer unix.Close(from)
		err = unix.Linkat(from, path.Base(e.Target), dir, last, 0)
	}
	switch err {
	case nil:
		return nil
	case unix.ENOENT, unix.ENOTDIR:
		return fmt.Errorf("is another name of %q, which is not there", e.Target)
	case unix.EPERM:
		return fmt.Errorf("is another name of %q, which is a directory", e.Target)
	}
	return err
}

func (t *tree) dir(dir int, last string, e *archive.Entry, exists bool) error {
	if !exists {
		if err := t.mkdir(dir, last); err != nil {
			return err
		}
	}
	fd, err := unix.Openat(dir, last, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return t.finishDir(fd, e)
}

// finishDir gives an open directory what e says.
func (t *tree) finishDir(fd int, e *archive.Entry) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	t.dirs = append(t.dirs, stamp{e.Name, st.Ino, e.ModTime})
	return t.finish(fd, e)
}

func (t *tree) file(dir int, last string, e *archive.Entry, content io.Reader) error {
	fd, err := unix.Openat(dir, last, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), last)
	defer f.Close()
	if e.Sparse {
		err = t.copySparse(fd, content)
	} else {
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, content, t.buf)
	}
	if err != nil {
		return bare(err)
	}
	if err := t.finish(fd, e); err != nil {
		return err
	}
	// Times are no more than a convenience; one that the file system cannot have is none.
	ts := syscall.Timespec(timespec(e.ModTime))
	_ = sys.Futimens(fd, &[2]syscall.Timespec{ts, ts})
	return nil
}

// copySparse is a copy that leaves out blocks of zeros.
func (t *tree) copySparse(fd int, content io.Reader) error {
	const block = 4096
	var size int64
	for {
		n, err := io.ReadFull(content, t.buf)
		for at := 0; at < n; at += block {
			part := t.buf[at:min(at+block, n)]
			if !slices.ContainsFunc(part, func(b byte) bool { return b != 0 }) {
				continue
			}
			for off := size + int64(at); len(part) > 0; {
				w, err := unix.Pwrite(fd, part, off)
				if err != nil && err != unix.EINTR {
					return err
				}
				w = max(w, 0)
				part, off = part[w:], off+int64(w)
			}
		}
		size += int64(n)
		switch err {
		case nil:
		case io.EOF:
			return unix.Ftruncate(fd, size)
		case io.ErrUnexpectedEOF:
			// ReadFull says so at the end of a file as well as of a cut archive.
			if n, again := content.Read(t.buf[:1]); n == 0 && again == io.EOF {
				return unix.Ftruncate(fd, size)
			}
			return err
		default:
			return err
		}
	}
}

// finish gives an open file or directory its owner and then its mode, which a change of
// owner takes set-uid from, and last its attributes, which it takes the capability from.
func (t *tree) finish(fd int, e *archive.Entry) error {
	if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil {
		return fmt.Errorf("give it to %d:%d: %w", e.UID, e.GID, err)
	}
	if err := unix.Fchmod(fd, e.Mode); err != nil {
		return fmt.Errorf("set its mode: %w", err)
	}
	if e.Capability != nil {
		if err := unix.Fsetxattr(fd, "security.capability", e.Capability, 0); err != nil {
			t.note(fmt.Sprintf("%q: its capabilities are left out: %v", e.Name, err))
		}
	}
	for name, value := range e.Xattrs {
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err == unix.ENOSPC || err == unix.EDQUOT {
			return fmt.Errorf("set attribute %q: %w", name, err)
		}
		if err != nil {
			t.note(fmt.Sprintf("attributes user.* are left out, of %q and perhaps others: %v", e.Name, err))
		}
	}
	return nil
}

// finishAt is finish for what cannot be opened, a link or a FIFO.
func (t *tree) finishAt(dir int, last string, e *archive.Entry) error {
	if err := unix.Fchownat(dir, last, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("give it to %d:%d: %w", e.UID, e.GID, err)
	}
	if e.Kind == archive.Fifo {
		if err := unix.Fchmodat(dir, last, e.Mode, 0); err != nil {
			return fmt.Errorf("set its mode: %w", err)
		}
	}
	ts := timespec(e.ModTime)
	_ = unix.UtimesNanoAt(dir, last, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	return nil
}

// timespec is a time as the kernel takes it; one that it cannot have is the beginning.
func timespec(t time.Time) unix.Timespec {
	if t.IsZero() || t.Year() < 1902 || t.Year() > 2200 {
		return unix.Timespec{}
	}
	return unix.NsecToTimespec(t.UnixNano())
}

// Remove implements archive.Tree.
func (t *tree) Remove(name string) error {
	dir, err := t.openDir(path.Dir(name))
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil // there is nothing of that name
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	defer t.forget()
	return t.remove(dir, path.Base(name), true)
}

// Clear implements archive.Tree.
func (t *tree) Clear(name string) error {
	dir, err := t.openDir(name)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	defer t.forget()
	return t.empty(dir, true)
}

// remove removes an entry of a directory and what is in it; with keep, not what this
// layer has made, nor the directories above that.
func (t *tree) remove(dir int, name string, keep bool) error {
	var above, st unix.Stat_t
	if err := unix.Fstat(dir, &above); err != nil {
		return err
	}
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	here := place{above.Ino, name}
	flags := 0
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		flags = unix.AT_REMOVEDIR
		fd, err := unix.Openat(dir, name, dirFlags|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		err = t.empty(fd, keep)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	if keep && t.made[here] {
		return nil
	}
	err := unix.Unlinkat(dir, name, flags)
	if keep && err == unix.ENOTEMPTY {
		return nil
	}
	if err == nil {
		delete(t.made, here)
		if flags != 0 {
			delete(t.depth, st.Ino)
		}
	}
	return err
}

// empty is remove for all that is in a directory.
func (t *tree) empty(dir int, keep bool) error {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), ".")
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return bare(err)
	}
	for _, name := range names {
		if err := t.remove(dir, name, keep); err != nil {
			return err
		}
	}
	return nil
}

// finishAll gives the directories their times.
func (t *tree) finishAll() {
	t.forget()
	for _, d := range t.dirs {
		fd, err := t.openDir(d.name)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Ino == d.ino {
			ts := timespec(d.time)
			_ = unix.UtimesNanoAt(fd, ".", []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
		}
		unix.Close(fd)
	}
}

// checkRoot says what nobody but root could do with the tree: an archive of a directory
// that was root's own has that mode for the root, too.
func (t *tree) checkRoot() {
	var st unix.Stat_t
	const forAll = 0o005
	if err := unix.Fstatat(t.root, ".", &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && (st.Mode&forAll != forAll || st.Uid != 0) {
		t.note(fmt.Sprintf("the root directory is of uid %d, mode %04o: logins other than root can do nothing in it; in a copy, chown 0:0 and chmod 755", st.Uid, st.Mode&0o7777))
	}
}

// foreign returns the architecture that the tree's shell is for, if that is a program and
// not for this machine. What the ELF header says of itself: elf(5), e_machine.
func (t *tree) foreign(machine string) string {
	for _, name := range []string{"bin/sh", "usr/bin/sh", "bin/busybox", "usr/bin/env"} {
		fd, err := sys.Openat2(t.root, name, unix.O_RDONLY|unix.O_NONBLOCK, inRoot)
		if err != nil {
			continue
		}
		var head [20]byte
		n, err := unix.Pread(fd, head[:], 0)
		unix.Close(fd)
		const (
			little = 1 // EI_DATA
			em386  = 3
		)
		if err != nil || n < len(head) || string(head[:4]) != "\x7fELF" {
			continue
		}
		if head[5] != little {
			return "a big-endian machine"
		}
		names := map[uint16]string{em386: "386", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 21: "ppc64le", 258: "loong64", 22: "s390x", 8: "mips"}
		of := binary.LittleEndian.Uint16(head[18:])
		if names[of] == machine || of == em386 && machine == "amd64" {
			return ""
		}
		if names[of] == "" {
			return fmt.Sprintf("machine %d of elf(5)", of)
		}
		return names[of]
	}
	return ""
}

// bare takes the path off an error, which is one of ours and says nothing.
func bare(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
