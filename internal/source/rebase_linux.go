package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"jail/internal/imagestore"
	"jail/internal/jail"
)

// goneDir begins the name of what was in oldDir and is being removed.
const goneDir = "root.gone"

// Rebase has a jail begin anew, at its next start, with what the registry says now. /home
// stays; what else it has written is kept beside, for Rollback, and what was kept there
// before is to be removed by discard, which may take its time and is there after some errors, too.
// The jail does not run, and the caller has its lock.
func Rebase(spec *jail.Spec) (from, to string, discard func() error, err error) {
	b, now, err := persistent(spec)
	if err != nil {
		return "", "", nil, err
	}
	if to, err = b.current(); err != nil {
		return "", "", nil, err
	}
	// What one has left that was killed goes also when there is nothing else to do.
	discard = func() error { return removeGone(b.State) }
	switch {
	case now == "":
		return "", "", discard, fmt.Errorf("jail %s has nothing that differs from an image yet; its next start takes %s", spec.Name, to)
	case now == to && !b.isDir():
		return "", "", discard, fmt.Errorf("jail %s is on %s already, which is the current one", spec.Name, to)
	}
	at := func(name string) string { return path.Join(b.State, name) }
	// What there is of one that was killed, or could not remove it, is in the way of none.
	gone := at(goneDir)
	for n := 1; ; n++ {
		if _, err := os.Lstat(gone); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", "", nil, err
		}
		gone = at(goneDir) + "." + strconv.Itoa(n)
	}
	if err := os.Rename(at(oldDir), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", nil, err
	}
	if err := os.Rename(at(rootDir), at(oldDir)); err != nil {
		return "", "", nil, err
	}
	return now, to, discard, nil
}

// Rollback takes back the last Rebase, or the last Rollback. The jail does not run, and the
// caller has its lock.
func Rollback(spec *jail.Spec) (from, to string, err error) {
	b, now, err := persistent(spec)
	if err != nil {
		return "", "", err
	}
	text, err := os.ReadFile(path.Join(b.State, imagestore.Needs.Before))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("jail %s has nothing to go back to: it has not been rebased", spec.Name)
	}
	if err != nil {
		return "", "", err
	}
	to = string(text)
	if !b.agrees(to) {
		return "", "", fmt.Errorf("jail %s was on %s before, and the registry says %s; write base = %q first", spec.Name, to, b.Base, to)
	}
	flags := uint(unix.RENAME_EXCHANGE)
	if now == "" { // not started since
		flags = unix.RENAME_NOREPLACE
	}
	if err := unix.Renameat2(unix.AT_FDCWD, path.Join(b.State, oldDir), unix.AT_FDCWD, path.Join(b.State, rootDir), flags); err != nil {
		return "", "", &os.LinkError{Op: "rename", Old: path.Join(b.State, oldDir), New: path.Join(b.State, rootDir), Err: err}
	}
	return now, to, nil
}

// persistent returns the source of a jail that keeps what it writes, and what that differs
// from.
func persistent(spec *jail.Spec) (b *based, now string, err error) {
	b, ok := Of(spec).(*based)
	if !ok {
		return nil, "", fmt.Errorf("jail %s has a root of its own, and no base", spec.Name)
	}
	if b.Persist != jail.PersistAll {
		return nil, "", fmt.Errorf("jail %s takes the image that is current at each start (persist = %q); jail image use NAME ID makes another one that", spec.Name, b.Persist)
	}
	now, err = b.now()
	return b, now, err
}

// current is what a start would begin with that begins anew.
func (b *based) current() (string, error) {
	if b.isDir() {
		return b.Base, nil
	}
	store, err := imagestore.Open(b.Images)
	if err != nil {
		return "", err
	}
	f, id, err := store.Open(b.Base)
	if err != nil {
		return "", err
	}
	f.Close()
	name, _, _ := strings.Cut(b.Base, "/")
	return name + "/" + id, nil
}

// Standing says what a jail's own files differ from, and what the registry would have it
// begin with; both are "" where they cannot differ. It reads the state, so it is called
// with a deadline.
func Standing(spec *jail.Spec) (on, current string) {
	b, now, err := persistent(spec)
	if err != nil || now == "" {
		return "", ""
	}
	if current, err = b.current(); err != nil {
		current = ""
	}
	return now, current
}
