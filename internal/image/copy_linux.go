package image

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"jail/internal/imagestore"
)

// copyMark is in the names of copies that are being made.
const copyMark = ".jail-copy-"

// Copy makes to, which must not be there, a root directory with what is in the image that
// ref names. On a file system that can (btrfs, xfs) the files share their blocks until
// one is changed. When it fails, or is interrupted, nothing of it is left.
func (s *Store) Copy(ref, to string) (id string, err error) {
	to, err = filepath.Abs(to)
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Lstat(to, &st); err == nil {
		return "", fmt.Errorf("%s is there already; a copy is made where nothing is", to)
	}
	dir, base := filepath.Split(to)
	// What copies that were killed have left.
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s is not there; make it first (mkdir -p %s)", filepath.Clean(dir), filepath.Clean(dir))
	}
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), copyMark) {
			_ = imagestore.RemoveUnlocked(filepath.Join(dir, e.Name()))
		}
	}
	stop, err := catch()
	if err != nil {
		return "", err
	}
	defer stop.release()
	from, id, err := s.Open(ref)
	if err != nil {
		return "", err
	}
	defer from.Close()
	into, err := imagestore.MakeLocked(dir, "."+base+copyMark)
	if err != nil {
		return "", err
	}
	fresh := into.Name()
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(fresh))
		}
	}()
	defer into.Close()
	// cp follows no link of the image's (-a) and knows hard links, holes, attributes and
	// FIFOs; nobody else changes either tree.
	cmd := exec.Command("cp", "-a", "--reflink=auto", "--", from.Name()+"/.", fresh)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.ExtraFiles = []*os.File{into} // locked, as long as there is a cp that writes there
	var said strings.Builder
	cmd.Stderr = &said
	if err := stop.run(cmd); err != nil {
		if errors.Is(err, ErrInterrupted) {
			return "", errors.New("interrupted: there is no copy, and nothing is left of it")
		}
		first, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return "", fmt.Errorf("cp: %w: %s", err, visible(first))
	}
	if err := unix.Syncfs(int(into.Fd())); err != nil {
		return "", fmt.Errorf("write to the disk: %w", err)
	}
	if stop.caught() {
		return "", errors.New("interrupted: there is no copy, and nothing is left of it")
	}
	err = unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != nil {
		return "", fmt.Errorf("rename to %s: %w", to, err)
	}
	return id, imagestore.SyncDir(dir)
}
