// Package quota bounds what a directory holds, by the project quota of its file system:
// each file in the directory belongs to a project, which is the directory's own, and the
// kernel counts and bounds what a project has, also as df(1) shows it inside. No program
// for quotas is needed.
//
// In a user namespace nobody can give a file another project (EINVAL; fileattr_set_prepare,
// fs/ioctl.c). Where ids inside are ids of the host the owner of a file can, so no such jail
// has a quota.
package quota

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"jail/internal/sys"
)

// Limit is what a directory may hold; 0 is no limit.
type Limit struct {
	Bytes uint64 // of its files' blocks, rounded up to KiB
	Files uint64 // and directories, links and the like
}

// Use is what a directory holds.
type Use struct{ Bytes, Files uint64 }

// ErrNotKept is a file system that keeps no limits of projects.
var ErrNotKept = errors.New("its file system keeps no project quotas: ext4 does with tune2fs -O project,quota, while it is not mounted, " +
	"and the mount option prjquota; xfs with the mount option pquota")

// maxDeep bounds how many directories are above one another when files are given to a
// project: each takes two descriptors.
const maxDeep = 500

// Bound keeps the directory behind the descriptor dir, which may be of O_PATH, to a limit.
// Its files are given to its project before, the first time; nobody may make others
// meanwhile. That takes as long as there are files, and goes on where it was when it is
// done again. A zero Limit lifts one that was there.
func Bound(dir int, l Limit) error {
	fd, err := open(dir, ".", syscall.O_DIRECTORY)
	if err != nil {
		if l == (Limit{}) {
			return nil
		}
		return fmt.Errorf("quota: open: %w", err)
	}
	defer sys.Close(fd)
	x, err := sys.GetFSXAttr(fd)
	if l == (Limit{}) {
		if err == nil && x.Project != 0 {
			if own, err := projectOf(fd); err == nil && own == x.Project {
				_ = sys.SetProjectQuota(fd, own, sys.Quota{Valid: sys.QuotaBlocks | sys.QuotaFiles})
			}
		}
		return nil
	}
	if err != nil || !sys.ProjectQuotaEnforced(fd) {
		return fmt.Errorf("quota: %w", ErrNotKept)
	}
	own, err := projectOf(fd)
	if err != nil {
		return err
	}
	if x.Project != 0 && x.Project != own {
		return fmt.Errorf("quota: it belongs to project %d, by whoever keeps quotas here; take that away (chattr -R -p 0), or leave the limit to it", x.Project)
	}
	if x.Project != own || x.XFlags&sys.ProjectInherit == 0 {
		if err := give(fd, own, 0); err != nil {
			return fmt.Errorf("quota: %w", err)
		}
	}
	q := sys.Quota{BlocksHard: (l.Bytes + 1023) >> 10, FilesHard: l.Files, Valid: sys.QuotaBlocks | sys.QuotaFiles}
	if err := sys.SetProjectQuota(fd, own, q); err != nil {
		return fmt.Errorf("quota: set the limit of project %d: %w", own, err)
	}
	return nil
}

// Looked is what Look has found.
type Looked struct {
	Kept bool // the file system keeps limits of projects
	Use       // by the directory's own project, 0 without one
}

// ErrSilent is a file system that does not answer.
var ErrSilent = errors.New("its file system does not answer")

// Look looks at the directory of a path without a link in it, and gives up after a time; a
// thread is left behind then. One that is not there yet holds nothing, and its file system
// will be that of the directory above.
func Look(path string, within time.Duration) (Looked, error) {
	type outcome struct {
		Looked
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		at := path
		fd, err := openDir(at)
		for err == syscall.ENOENT && at != "/" {
			at = filepath.Dir(at)
			fd, err = openDir(at)
		}
		if err != nil {
			done <- outcome{err: fmt.Errorf("open %s: %w", at, err)}
			return
		}
		defer sys.Close(fd)
		var use Use
		if at == path {
			use, _ = Of(fd)
		}
		done <- outcome{Looked: Looked{kept(fd), use}}
	}()
	select {
	case o := <-done:
		return o.Looked, o.err
	case <-time.After(within):
		return Looked{}, ErrSilent
	}
}

// openDir opens the directory of a path without a link in it.
func openDir(path string) (int, error) {
	return sys.Openat2(sys.AtFDCWD, path, sys.OPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
}

// Of returns what the directory behind dir holds, by its project; false where it has none
// of its own.
func Of(dir int) (u Use, ok bool) {
	fd, err := open(dir, ".", syscall.O_DIRECTORY)
	if err != nil {
		return u, false
	}
	defer sys.Close(fd)
	own, err := projectOf(fd)
	x, err2 := sys.GetFSXAttr(fd)
	if err != nil || err2 != nil || x.Project != own {
		return u, false
	}
	q, err := sys.GetProjectQuota(fd, own)
	return Use{q.Space, q.Files}, err == nil
}

// kept reports whether the file system of a directory keeps limits of projects.
func kept(dir int) bool {
	fd, err := open(dir, ".", syscall.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer sys.Close(fd)
	return sys.ProjectQuotaEnforced(fd)
}

// projectOf is the project of a directory: its inode number, which no other has on this
// file system, above the projects that people give (projid(5)).
func projectOf(fd int) (uint32, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("quota: stat: %w", err)
	}
	if st.Ino >= 1<<31 {
		return 0, fmt.Errorf("quota: inode %d is too large a number for a project; make the directory anew on a file system of less than a TiB, or mount xfs with inode32", st.Ino)
	}
	return 1<<31 | uint32(st.Ino), nil
}

// give gives all in a directory to a project, and the directory last, so that what has been
// begun is done again. Links and the like have no project: they cannot be opened.
func give(dir int, project uint32, deep int) error {
	if deep > maxDeep {
		return fmt.Errorf("more than %d directories are in one another", maxDeep)
	}
	err := each(dir, func(name string) error {
		if err := giveEntry(dir, name, project, deep); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return mark(dir, project, sys.ProjectInherit)
}

// each calls do with the names in a directory. How many there are, and how long they are, is a
// tenant's choice: some are read at a time.
func each(dir int, do func(name string) error) error {
	again, err := open(dir, ".", syscall.O_DIRECTORY)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(again), ".")
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			if err := do(name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func giveEntry(dir int, name string, project uint32, deep int) error {
	is, err := sys.Openat2(dir, name, sys.OPath|syscall.O_NOFOLLOW, sys.ResolveBeneath|sys.ResolveNoXdev)
	if err == syscall.ENOENT || err == syscall.EXDEV { // it is gone, or another file system's
		return nil
	}
	if err != nil {
		return err
	}
	var st syscall.Stat_t
	err = syscall.Fstat(is, &st)
	sys.Close(is)
	if err != nil {
		return err
	}
	flags := 0
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		flags = syscall.O_DIRECTORY
	case syscall.S_IFREG:
	default:
		return nil
	}
	fd, err := open(dir, name, flags)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	if flags != 0 {
		return give(fd, project, deep+1)
	}
	return mark(fd, project, 0)
}

func mark(fd int, project, flags uint32) error {
	x, err := sys.GetFSXAttr(fd)
	if err != nil {
		return err
	}
	if x.Project == project && x.XFlags&flags == flags {
		return nil
	}
	x.Project, x.XFlags = project, x.XFlags|flags
	return sys.SetFSXAttr(fd, x)
}

// open opens what is below dir by no link, and waits for nobody.
func open(dir int, name string, flags int) (int, error) {
	return sys.Openat2(dir, name, flags|syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, sys.ResolveBeneath|sys.ResolveNoXdev)
}
