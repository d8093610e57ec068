// Package rootpath opens paths beneath a root directory whose owner may be
// rewriting it meanwhile. A path below such a root is opened, never joined to
// another path and never looked at twice: what is judged is the descriptor
// that is then read.
//
// Nothing here follows a symlink out of the root ("/etc/shadow" as a link's
// text means the root's own /etc/shadow) or through procfs's magic links, and
// nothing blocks: a FIFO, a device or a leased file is answered at once.
//
// It is linked into PID 1 as well, so it imports nothing but errors and
// x/sys/unix.
package rootpath

import (
	"errors"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotRegular means that the path leads to a directory, FIFO, socket
	// or device. It was found out without opening it.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge means that the file holds more than the caller accepts.
	ErrTooLarge = errors.New("file too large")
	// ErrEscapes means that resolution left the root: somebody moved a
	// directory out of it at that moment.
	ErrEscapes = errors.New("path leads out of its root")
	// ErrChanged means that a second open of the same file found another one.
	ErrChanged = errors.New("file changed while it was opened")
)

// Error says which operation on which path went wrong. Err is one of this
// package's errors or a unix.Errno.
type Error struct {
	Op   string
	Path string
	Err  error
}

func (e *Error) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Stat is what fstat(2) tells.
type Stat = unix.Stat_t

const (
	// alwaysFlags go with every open: no descriptor survives an exec, no
	// FIFO or lease makes us wait, no terminal becomes ours.
	alwaysFlags = unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	// pathFlags are those O_PATH tolerates; openat2 refuses the rest.
	pathFlags = unix.O_PATH | unix.O_CLOEXEC | unix.O_DIRECTORY | unix.O_NOFOLLOW
	// maxPath is PATH_MAX: a longer path is refused before the kernel sees it.
	maxPath = 4096
	// raceTries bounds the retries of an openat2 that a rename interrupted.
	raceTries = 128
)

// Open opens path beneath rootFD, as chroot(2) into it would, without magic
// links; an absolute path starts at the root. O_CLOEXEC, O_NONBLOCK and
// O_NOCTTY are added. Nothing can be created: O_CREAT is refused.
//
// Open alone runs a device driver's open; use ReadFile or Walk where the path
// may lead to one.
func Open(rootFD int, path string, flags int) (int, error) {
	if err := checkPath(path); err != nil {
		return -1, &Error{"open", path, err}
	}
	if flags&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0 {
		return -1, &Error{"open", path, unix.EINVAL}
	}
	fd, err := openInRoot(rootFD, path, flags, 1)
	if err == unix.EAGAIN {
		fd, err = openAgain(rootFD, path, flags)
	}
	if err == unix.EXDEV {
		err = ErrEscapes
	}
	if err != nil {
		return -1, &Error{"open", path, err}
	}
	return fd, nil
}

// openAgain tells the two meanings of EAGAIN apart. A rename or mount anywhere
// on the machine makes openat2 give up a ".." (openat2(2), EAGAIN), which is
// worth another try; a write lease (fcntl(2), F_SETLEASE) would keep us for
// fs.lease-break-time seconds, which is not. O_PATH meets only the first, the
// descriptor's own reopening only the second.
func openAgain(rootFD int, path string, flags int) (int, error) {
	pathFD, err := openInRoot(rootFD, path, flags|unix.O_PATH, raceTries)
	if err != nil || flags&unix.O_PATH != 0 {
		return pathFD, err
	}
	defer unix.Close(pathFD)
	fd, err := reopen(pathFD, flags)
	if err == unix.ENOENT { // no /proc here
		return openInRoot(rootFD, path, flags, raceTries)
	}
	return fd, err
}

// openInRoot is openat2 itself.
func openInRoot(rootFD int, path string, flags, tries int) (int, error) {
	flags |= alwaysFlags
	if flags&unix.O_PATH != 0 {
		flags &= pathFlags
	}
	return openat2(rootFD, path, &unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}, tries)
}

func openat2(dirFD int, path string, how *unix.OpenHow, tries int) (int, error) {
	for {
		fd, err := unix.Openat2(dirFD, path, how)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			if tries--; tries > 0 {
				continue
			}
		}
		return -1, err
	}
}

// OpenDir opens a directory by its absolute path on the host, as the registry
// names it. No component may be a symlink: the path means the same today as
// on the day the administrator wrote it. flags is O_PATH or O_RDONLY.
func OpenDir(path string, flags int) (int, error) {
	return OpenHost(path, flags|unix.O_DIRECTORY)
}

// OpenHost is OpenDir for a path that may also lead to a file, such as the
// source of a bind mount. With O_PATH, the only sensible flag where the path
// is not known to be a directory, nothing is opened that could block.
func OpenHost(path string, flags int) (int, error) {
	err := checkPath(path)
	if err == nil && path[0] != '/' {
		err = unix.EINVAL
	}
	if err != nil {
		return -1, &Error{"open", path, err}
	}
	flags |= alwaysFlags
	if flags&unix.O_PATH != 0 {
		flags &= pathFlags
	}
	fd, err := openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}, raceTries)
	if err != nil {
		return -1, &Error{"open", path, err}
	}
	return fd, nil
}

// ReadFile reads a regular file beneath rootFD, at most max bytes of it: a
// larger one is ErrTooLarge, whatever size it claims, and costs no more
// memory than it has bytes. Anything but a regular file is ErrNotRegular and
// is not opened; a file under a write lease is EAGAIN.
func ReadFile(rootFD int, path string, max int) ([]byte, Stat, error) {
	fd, err := Open(rootFD, path, unix.O_PATH)
	if err != nil {
		return nil, Stat{}, err
	}
	defer unix.Close(fd)
	data, st, err := read(fd, max, func() (int, error) {
		return openInRoot(rootFD, path, unix.O_RDONLY, raceTries)
	})
	if err != nil {
		return nil, st, &Error{"read", path, err}
	}
	return data, st, nil
}

// read reads the regular file that pathFD, an O_PATH descriptor, stands for.
// openByPath is the way to it on a machine, or at a time, without /proc.
func read(pathFD, max int, openByPath func() (int, error)) ([]byte, Stat, error) {
	return readVia(pathFD, max, reopen, openByPath)
}

func readVia(pathFD, max int, reopen func(int, int) (int, error), openByPath func() (int, error)) ([]byte, Stat, error) {
	var want, got Stat
	if err := fstat(pathFD, &want); err != nil {
		return nil, want, err
	}
	if want.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, want, ErrNotRegular
	}
	if want.Size > int64(max) {
		return nil, want, ErrTooLarge
	}
	fd, err := reopen(pathFD, unix.O_RDONLY)
	if err == unix.ENOENT {
		fd, err = openByPath()
	}
	if err != nil {
		return nil, want, err
	}
	defer unix.Close(fd)
	// Inside a jail, /proc is the tenant's: it may say that descriptor N is
	// another file. Only the one that was judged counts.
	if err := fstat(fd, &got); err != nil {
		return nil, want, err
	}
	if got.Dev != want.Dev || got.Ino != want.Ino || got.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, want, ErrChanged
	}
	data, err := readAll(fd, max)
	return data, got, err
}

// readAll never trusts st_size: procfs says 0, a sparse file says anything,
// and the owner may be appending.
func readAll(fd, max int) ([]byte, error) {
	var data []byte
	buf := make([]byte, min(max+1, 16<<10))
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return data, nil
		case len(data)+n > max:
			return nil, ErrTooLarge
		}
		data = append(data, buf[:n]...)
	}
}

// reopen opens the file behind an O_PATH descriptor. It is ENOENT when there
// is no procfs at /proc.
func reopen(pathFD, flags int) (int, error) {
	flags |= alwaysFlags
	// O_NOFOLLOW would refuse the magic link itself.
	flags &^= unix.O_NOFOLLOW
	name := "/proc/self/fd/" + itoa(pathFD)
	for {
		fd, err := unix.Open(name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func fstat(fd int, st *Stat) error {
	for {
		if err := unix.Fstat(fd, st); err != unix.EINTR {
			return err
		}
	}
}

// checkPath refuses what the kernel would refuse less clearly, or, for a NUL,
// would cut.
func checkPath(path string) error {
	if path == "" {
		return unix.ENOENT
	}
	if len(path) >= maxPath {
		return unix.ENAMETOOLONG
	}
	for i := 0; i < len(path); i++ {
		if path[i] == 0 {
			return unix.EINVAL
		}
	}
	return nil
}

func itoa(n int) string {
	var buf [20]byte
	i := len(buf)
	for {
		i--
		buf[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(buf[i:])
		}
	}
}
