package session

import (
	"syscall"

	"jail/internal/sys"
)

// identity recognises a file of the rootfs that has not changed. The zero value is
// that of none.
type identity struct {
	dev, ino     uint64
	mtime, ctime syscall.Timespec
	size         int64
}

// known is the identity something was read under.
type known struct {
	identity
	// young is set where the file had just been changed by then: it may change
	// again within one tick of the kernel's clock, and look the same.
	young bool
}

// still reports whether the file that is now there is the known one, unchanged.
func (k *known) still(now *identity) bool { return !k.young && k.identity == *now }

// note makes id the known one.
func (k *known) note(id *identity) {
	var now syscall.Timeval
	_ = syscall.Gettimeofday(&now)
	age := now.Sec - id.ctime.Sec
	k.identity, k.young = *id, age >= -1 && age <= 1
}

// identify looks at a file, by an absolute path inside; Root is the root directory
// of PID 1 as well. It opens nothing, so that it does not matter what is there:
// what is read is opened by openRegular.
func (j *Jail) identify(path string) identity {
	var st syscall.Stat_t
	if sys.Fstatat(j.Root, path[1:], &st, 0) != nil {
		return identity{}
	}
	return identity{dev: st.Dev, ino: st.Ino, mtime: st.Mtim, ctime: st.Ctim, size: st.Size}
}

// openRegular opens a file of the jail for reading, as readWhole does, and fills in
// st, which may be nil.
func openRegular(root int, path string, st *syscall.Stat_t) (int, error) {
	fd, err := sys.Openat2(root, path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err != nil {
		return -1, err
	}
	if st == nil {
		st = new(syscall.Stat_t)
	}
	if err = syscall.Fstat(fd, st); err == nil && st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		err = syscall.EINVAL
	}
	if err != nil {
		sys.Close(fd)
		return -1, err
	}
	return fd, nil
}

// readUpTo reads a file of at most max bytes.
func readUpTo(root int, path string, buf []byte, max int) ([]byte, error) {
	return readRegular(root, path, buf, max, true)
}

// readHead reads the first max bytes of a file, otherwise like readUpTo.
func readHead(root int, path string, buf []byte, max int) ([]byte, error) {
	return readRegular(root, path, buf, max, false)
}

func readRegular(root int, path string, buf []byte, max int, whole bool) ([]byte, error) {
	buf = buf[:0]
	var st syscall.Stat_t
	fd, err := openRegular(root, path, &st)
	if err != nil {
		return buf, err
	}
	defer sys.Close(fd)
	if st.Size > int64(max) && whole {
		return buf, syscall.EFBIG
	}
	// One read: what is in a regular file comes at once.
	want := int(min(st.Size, int64(max)))
	if cap(buf) <= want {
		buf = make([]byte, 0, want+512)
	}
	n, err := sys.Read(fd, buf[:want])
	if err != nil {
		return buf, err
	}
	return buf[:n], nil
}
