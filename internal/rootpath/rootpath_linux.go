// Package rootpath opens paths beneath a root directory whose owner may be
// rewriting it meanwhile. A path below such a root is opened, never joined to
// another path and never looked at twice: what is judged is the descriptor
// that is then read.
//
// Nothing here follows a symlink out of the root ("/etc/shadow" as a link's
// text means the root's own /etc/shadow) or through procfs's magic links, and
// nothing blocks: a FIFO, a device or a leased file is answered at once.
//
// On the host it is what PID 1 has openat2(2) for: there the jail's root is the
// process's own.
package rootpath

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"jail/internal/sys"
)

var (
	// ErrNotRegular means that the path leads to a directory, FIFO, socket
	// or device. It was found out without opening it.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge means that the file holds more than the caller accepts.
	ErrTooLarge = errors.New("file too large")
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
)

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
	fd, err := sys.Openat2(unix.AT_FDCWD, path, flags, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return -1, &Error{"open", path, err}
	}
	return fd, nil
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
	name := "/proc/self/fd/" + strconv.Itoa(pathFD)
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
