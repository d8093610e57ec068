package source

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"jail/internal/rootpath"
)

// maxDeep is how many directories in one another are entered while they are removed.
const maxDeep = 100

// remover removes a tree that a tenant has written. os.RemoveAll keeps a descriptor for each
// of the directories in one another, of which there may be millions, and fails without.
type remover struct {
	top   int
	moved int // the number of the last one that was too deep, and is at the top now
}

// remove removes a directory and all in it, to which nobody has access meanwhile. One that
// there is none of is no error.
func remove(p string) error {
	fd, err := rootpath.OpenDir(p, unix.O_RDONLY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r := remover{top: fd}
	if err := r.empty(fd, 0); err != nil {
		return fmt.Errorf("remove what is in %s: %w", p, err)
	}
	return os.Remove(p)
}

// empty removes what is in a directory.
func (r *remover) empty(dir, deep int) error {
	for {
		names, err := some(dir)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := r.entry(dir, name, deep); err != nil {
				return err
			}
		}
	}
}

// some are names in a directory; there are others until there are none.
func some(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	names, err := f.Readdirnames(1024)
	if err == io.EOF {
		err = nil
	}
	return names, err
}

func (r *remover) entry(dir int, name string, deep int) error {
	err := unix.Unlinkat(dir, name, 0)
	if err != unix.EISDIR && err != unix.EPERM { // POSIX has the other for directories
		return err
	}
	if deep == maxDeep {
		for {
			r.moved++
			err := unix.Renameat2(dir, name, r.top, ".deep."+strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
			if err != unix.EEXIST {
				return err
			}
		}
	}
	fd, err2 := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err2 != nil {
		return err // it is none
	}
	defer unix.Close(fd)
	if err := r.empty(fd, deep+1); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// removeGone removes all that Rebase has put out of the way in a state.
func removeGone(state string) error {
	gone, err := filepath.Glob(filepath.Join(state, goneDir) + "*")
	for _, p := range gone {
		err = errors.Join(err, remove(p))
	}
	return err
}
