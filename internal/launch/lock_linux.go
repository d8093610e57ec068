package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/control"
	"jail/internal/jail"
	"jail/internal/source"
	"jail/internal/sys"
	"jail/internal/wire"
)

// lockDir is where root's jails have a file for each root file system, by the device
// and inode number of its directory, that is locked (flock(2)) as long as a jail
// runs there. It is one for the whole machine, whatever the runtime directory is.
//
// The directory of the rootfs itself would do, if only jails could lock it: who can
// open it can, and a jail's owner might have to let others do so. PID 1 keeps the open
// file, and a lock ends with the last copy of that. It cannot do more with it than give
// it up: the file is empty, and the mount it was opened through is read-only and
// attached nowhere.
var lockDir = "/run/jail/lock"

// locks are the open lockDir.
type locks struct {
	dir   int // to make files in
	plain int // the same as a read-only mount attached nowhere
}

func openLocks(path string) (l locks, err error) {
	// As fdsock makes it, whose sockets may be elsewhere.
	above := filepath.Dir(path)
	if err = os.Mkdir(above, 0o711); err == nil {
		err = os.Chmod(above, 0o711) // past any umask
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return l, err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return l, err
	}
	if l.dir, err = sys.Openat2(sys.AtFDCWD, path, sys.OPath|syscall.O_DIRECTORY, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks); err != nil {
		return l, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st syscall.Stat_t
	if err = syscall.Fstat(l.dir, &st); err == nil && (st.Uid != uint32(os.Geteuid()) || st.Mode&0o077 != 0) {
		err = errors.New("must be root's and nobody else's to enter; remove it")
	}
	if err == nil {
		l.plain, err = sys.OpenTree(l.dir, "", sys.OpenTreeClone|sys.AtEmptyPath)
	}
	if err == nil {
		const attr = sys.MountAttrRdonly | sys.MountAttrNosuid | sys.MountAttrNodev | sys.MountAttrNoexec
		err = sys.MountSetattr(l.plain, attr, -1, false)
	}
	if err != nil {
		return l, &os.PathError{Op: "clone", Path: path, Err: err}
	}
	return l, nil
}

// looks is how often a lock is tried to be had, a millisecond apart: somebody may hold it
// for a moment, to see whether anybody has it (Runs).
const looks = 10

// take locks the file name. It fails with EWOULDBLOCK if somebody else has it.
func (l locks) take(name string) (int, error) {
	for range 16 {
		fd, err := sys.Openat2(l.plain, name, syscall.O_RDONLY|syscall.O_NOFOLLOW, sys.ResolveBeneath|sys.ResolveNoSymlinks)
		if err == syscall.ENOENT {
			fd, err = sys.Openat2Mode(l.dir, name, syscall.O_RDONLY|syscall.O_CREAT|syscall.O_NOFOLLOW, 0o600, sys.ResolveBeneath|sys.ResolveNoSymlinks)
			if err == nil {
				sys.Close(fd)
				continue
			}
		}
		if err != nil {
			return -1, err
		}
		var st syscall.Stat_t
		for range looks {
			if err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EWOULDBLOCK {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if err == nil {
			err = syscall.Fstat(fd, &st)
		}
		if err != nil {
			sys.Close(fd)
			return -1, err
		}
		if st.Nlink > 0 {
			return fd, nil
		}
		sys.Close(fd) // it has been removed meanwhile
	}
	return -1, syscall.EAGAIN
}

// Hold calls f while the jail neither runs nor can be started: ErrBusy says that it runs.
func Hold(spec *jail.Spec, f func() error) error {
	opened, err := source.Of(spec).Open(func(string) {})
	if err != nil {
		return err
	}
	defer opened.Close()
	l := &Launcher{}
	if l.locks, err = openLocks(lockDir); err != nil {
		return fmt.Errorf("locks of root file systems: %w", err)
	}
	defer sys.CloseAll([]int{l.locks.dir, l.locks.plain})
	p := &prepared{spec: spec, exclusive: opened.Exclusive, fds: &wire.Descriptors{Lock: -1}}
	if err := l.lockRootfs(p); err != nil {
		return err
	}
	defer sys.Close(p.fds.Lock)
	return f()
}

// lockName is what the lock of a directory is called.
func lockName(st *syscall.Stat_t) string {
	return fmt.Sprintf("%d:%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
}

// Runs reports whether a jail of root's has the directory path as the one that no two may
// have (source.Opened). In doubt one has.
func Runs(path string) bool {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return err != syscall.ENOENT
	}
	fd, err := syscall.Open(filepath.Join(lockDir, lockName(&st)), syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err != syscall.ENOENT
	}
	defer sys.Close(fd)
	return syscall.Flock(fd, syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// lockRootfs takes the rootfs for the jail.
func (l *Launcher) lockRootfs(p *prepared) error {
	var st syscall.Stat_t
	path := source.Of(p.spec).String()
	if err := syscall.Fstat(p.exclusive, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	name := lockName(&st)
	var err error
	p.fds.Lock, err = l.locks.take(name)
	if err == syscall.EWOULDBLOCK {
		return ErrBusy
	}
	if err != nil {
		return fmt.Errorf("lock %s/%s: %w", lockDir, name, err)
	}
	// Jails of programs older than that directory lock the rootfs only, and those of
	// another /run do.
	dir, err := sys.Openat2(p.exclusive, ".", syscall.O_RDONLY|syscall.O_DIRECTORY, sys.ResolveBeneath)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer sys.Close(dir)
	switch err := syscall.Flock(dir, syscall.LOCK_EX|syscall.LOCK_NB); {
	case err == syscall.EWOULDBLOCK && runsOn(&st):
		return ErrBusy
	case err == syscall.EWOULDBLOCK:
		p.warn("somebody who is no jail holds a lock on " + path + ", which is of no effect; lslocks(8) shows who")
	case err != nil:
		return fmt.Errorf("lock %s: %w", path, err)
	}
	return nil
}

// runsOn reports whether a jail of root's runs on the rootfs, by the kernel's word: its
// PID 1 has that root directory, and namespaces that only root can have made. One whose
// root directory cannot be seen counts.
func runsOn(rootfs *syscall.Stat_t) bool {
	entries, err := readProc("/proc")
	if err != nil {
		return true
	}
	for _, e := range entries {
		dir := "/proc/" + strconv.Itoa(e.pid)
		if !isInit(e.pid) || !control.OfRoot(e.pid) {
			continue
		}
		// What is known of it will do: it may be another jail's, on a file system that
		// does not answer.
		var st unix.Statx_t
		err := unix.Statx(unix.AT_FDCWD, dir+"/root", unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil || st.Ino == rootfs.Ino && unix.Mkdev(st.Dev_major, st.Dev_minor) == rootfs.Dev {
			return true
		}
	}
	return false
}
