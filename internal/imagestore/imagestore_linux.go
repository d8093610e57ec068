// Package imagestore keeps root directories that are there to be copied or shared: images.
//
// An image is a directory, DIR/NAME/ID, whose name comes to be by a rename when all of it
// is on the disk; the link DIR/NAME/current says which of a name's is used. Nothing in it
// is changed after that. Whoever uses one opens it and holds a shared lock on it (flock(2));
// what is to be removed is first locked by whoever removes it, and renamed. So an image is
// whole or not there, and a descriptor of one stays good.
//
// Everything below DIR but the images themselves is root's alone. What is in an image is
// an archive's, hostile: it is opened by nobody here but those who remove or copy it, which
// follow no link.
package imagestore

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/jail"
	"jail/internal/rootpath"
)

// DefaultDir is where images are.
const DefaultDir = "/var/lib/jail/images"

// Store is the directory of all images. Its methods may be called by several processes at
// once.
type Store struct {
	dir string
	// Runs reports whether the jail runs whose state is in a directory; nil is that all do.
	Runs func(state string) bool
}

// Names in the directory of an image's name, besides the ids.
const (
	currentName = "current"
	newPrefix   = ".new-" // being imported, by whoever has it locked
	oldPrefix   = ".old-" // being removed
	linkPrefix  = ".link-"
	about       = ".about" // ID.about says where an image is from
	// pins is the directory ID.pins, with a file in it for each jail that may need that
	// very image.
	pins = ".pins"
)

// validID matches the ids that this package gives: the time, and what tells those of one
// second apart.
var validID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]{8}-[0-9]{6}(-[0-9]{1,4})?$`) })

// Open returns the store in dir, which it makes where it is missing.
func Open(dir string) (*Store, error) {
	if err := rootpath.MakePublic(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(os.Geteuid()) || st.Mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: must be a directory of root's that nobody else can enter: set-uid programs are in the images (chown root:root, chmod 700)", dir)
	}
	return &Store{dir: dir}, nil
}

// Dir is the store's directory.
func (s *Store) Dir() string { return s.dir }

// lock keeps other processes from changing what there is. It is held for moments only.
func (s *Store) lock() (unlock func(), err error) {
	path := filepath.Join(s.dir, ".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// Image is one that is there.
type Image struct {
	Name, ID string
	Current  bool
	InUse    bool // a jail runs on it, or a copy is being made
	Pinned   bool // the files of a jail differ from it
	// By is the name of a jail that keeps it, if one does.
	By string
	About
}

// About is what was noted at the import.
type About struct {
	Source   string
	Imported time.Time
	Entries  uint64
	Bytes    uint64
}

// parse returns the name and the id of NAME or NAME/ID; id is "" for the current one.
func parse(ref string) (name, id string, err error) {
	name, id, with := strings.Cut(ref, "/")
	if !jail.ValidName(name) || with && !validID().MatchString(id) {
		return "", "", fmt.Errorf("%q is no image: NAME is the current one of that name, NAME/ID a certain one", ref)
	}
	return name, id, nil
}

// Valid reports whether ref may name an image.
func Valid(ref string) bool {
	_, _, err := parse(ref)
	return err == nil
}

// List returns all images, by name and age.
func (s *Store) List() ([]Image, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var list []Image
	for _, name := range names {
		of, err := s.of(name)
		if err != nil {
			return nil, err
		}
		list = append(list, of...)
	}
	return list, nil
}

// names are those that have a directory.
func (s *Store) names() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && jail.ValidName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// of returns the images of one name.
func (s *Store) of(name string) ([]Image, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	current := s.current(name)
	var list []Image
	for _, e := range entries {
		if !e.IsDir() || !validID().MatchString(e.Name()) {
			continue
		}
		i := Image{Name: name, ID: e.Name(), Current: e.Name() == current, About: s.about(name, e.Name())}
		i.Pinned, i.InUse, i.By = s.needed(name, i.ID)
		if f, err := s.open(name, i.ID, unix.LOCK_EX); err == nil {
			f.Close()
		} else {
			i.InUse = i.InUse || errors.Is(err, unix.EWOULDBLOCK)
		}
		list = append(list, i)
	}
	return list, nil
}

// current is the id that a name stands for, "" for none.
func (s *Store) current(name string) string {
	id, err := os.Readlink(filepath.Join(s.dir, name, currentName))
	if err != nil || !validID().MatchString(id) {
		return ""
	}
	return id
}

// A pin is a file ID.pins/JAIL. It says where the state of that jail is, and that says which
// images it needs: whoever removes the state has nothing to tell the store. In the directory
// of a state are the files of Needs.

// Needs are the files of a state that name an image, NAME/ID: what the jail's own files
// differ from, what those differ from that a rollback would bring back, and what the jail
// was last started with.
var Needs = struct{ Now, Before, Started string }{"root/base", "root.old/base", "started"}

// needed says for what jails need an image: for their own files, or since they run on it.
// runs reports whether a jail with a state runs.
func (s *Store) needed(name, id string) (pinned, running bool, by string) {
	dir := filepath.Join(s.dir, name, id+pins)
	list, err := os.ReadDir(dir)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist), false, ""
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") { // not whole yet, and no jail's
			continue
		}
		state, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || !filepath.IsAbs(string(state)) { // cut off, when the machine stopped
			pinned, by = true, e.Name()
			continue
		}
		says := func(file string) bool {
			text, err := os.ReadFile(filepath.Join(string(state), file))
			return err == nil && string(text) == name+"/"+id
		}
		differs := says(Needs.Now) || says(Needs.Before)
		runs := says(Needs.Started) && (s.Runs == nil || s.Runs(string(state)))
		if differs || runs && !pinned {
			by = e.Name()
		}
		pinned, running = pinned || differs, running || runs
	}
	return pinned, running, by
}

// Pin is Open on behalf of a jail, whose state is in the directory state: the image stays
// as long as it is needed there. before is called with the image's name, NAME/ID, when
// nobody can remove it any more: it has to be said there that it is needed.
func (s *Store) Pin(ref, jail, state string, before func(image string) error) (root *os.File, err error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	root, id, err := s.Open(ref)
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(ref, "/")
	err = os.Mkdir(filepath.Join(s.dir, name, id+pins), 0o700)
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = replace(filepath.Join(s.dir, name, id+pins, jail), state)
	}
	if err == nil {
		err = before(name + "/" + id)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// replace writes a file whole or not at all, unless that is what is in it. The store is locked.
func replace(path, text string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return nil
	}
	fresh := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	err := os.WriteFile(fresh, []byte(text), 0o600)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		_ = os.Remove(fresh)
	}
	return err
}

// open opens the directory of an image and locks it, without waiting: unix.LOCK_SH to use
// it, unix.LOCK_EX to have it to oneself.
func (s *Store) open(name, id string, how int) (*os.File, error) {
	path := filepath.Join(s.dir, name, id)
	for range 16 {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return nil, err
		}
		if err = flock(f, how|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: path, Err: err}
		}
		// It may have been removed before it was locked.
		if there(f, path) {
			return f, nil
		}
		f.Close()
	}
	return nil, &os.PathError{Op: "open", Path: path, Err: unix.EAGAIN}
}

// there reports whether an open directory is the one at path.
func there(f *os.File, path string) bool {
	var open, now unix.Stat_t
	return unix.Fstat(int(f.Fd()), &open) == nil && unix.Lstat(path, &now) == nil && now.Ino == open.Ino && now.Dev == open.Dev
}

// Open opens the image that ref names, NAME or NAME/ID, and holds it until the file is
// closed.
func (s *Store) Open(ref string) (root *os.File, id string, err error) {
	name, id, err := parse(ref)
	if err != nil {
		return nil, "", err
	}
	if id == "" {
		if id = s.current(name); id == "" {
			return nil, "", s.noSuch(ref)
		}
	}
	root, err = s.open(name, id, unix.LOCK_SH)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", s.noSuch(ref)
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, "", fmt.Errorf("image %s is being removed", ref)
	}
	return root, id, err
}

func (s *Store) noSuch(ref string) error {
	return fmt.Errorf("there is no image %s in %s; jail image ls shows those that are there", ref, s.dir)
}

// Begin makes the directory that becomes an image of name, and locks it.
func (s *Store) Begin(name string) (fresh Unnamed, err error) {
	unlock, err := s.lock()
	if err != nil {
		return fresh, err
	}
	defer unlock()
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fresh, err
	}
	s.sweep(name)
	path, err := os.MkdirTemp(dir, newPrefix)
	if err == nil {
		err = os.Chmod(path, 0o755)
	}
	if err != nil {
		_ = os.Remove(dir)
		return fresh, err
	}
	f, err := os.Open(path)
	if err == nil {
		if err = flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
		}
	}
	if err != nil {
		_ = os.Remove(path)
		return fresh, err
	}
	return Unnamed{path, f}, nil
}

// Finish makes an image of the new directory, the current one of its name.
func (s *Store) Finish(name string, fresh Unnamed, a About) (id string, err error) {
	unlock, err := s.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	second := a.Imported.UTC().Format("20060102-150405")
	id = second
	for n := 2; s.has(filepath.Join(name, id)); n++ {
		id = second + "-" + strconv.Itoa(n)
	}
	if !validID().MatchString(id) {
		return "", fmt.Errorf("no name is left for an image of %s", second)
	}
	if err := s.note(name, id, &a); err != nil {
		return "", err
	}
	to := filepath.Join(s.dir, name, id)
	err = os.Rename(fresh.path, to)
	if err == nil {
		if err = s.use(name, id); err != nil {
			err = errors.Join(err, os.Rename(to, fresh.path))
		}
	}
	if err != nil {
		_ = os.Remove(to + about)
		return "", err
	}
	return id, errors.Join(fresh.lock.Close(), SyncDir(s.dir))
}

// Abandon removes a directory that does not become one.
func (s *Store) Abandon(name string, fresh Unnamed) error {
	err := dispose([]Unnamed{fresh})
	s.tidy(name)
	return err
}

// use makes an image the current one of its name. The store is locked.
func (s *Store) use(name, id string) error {
	dir := filepath.Join(s.dir, name)
	link := filepath.Join(dir, linkPrefix+id)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(id, link); err != nil {
		return err
	}
	if err := os.Rename(link, filepath.Join(dir, currentName)); err != nil {
		return err
	}
	return SyncDir(dir)
}

// Use makes an image the current one of its name.
func (s *Store) Use(name, id string) error {
	if _, _, err := parse(name + "/" + id); err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(s.dir, name, id), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return s.noSuch(name + "/" + id)
	}
	return s.use(name, id)
}

// Remove removes the image that ref names, NAME/ID, or all of NAME. The current one goes
// only with all others.
func (s *Store) Remove(ref string) ([]Image, error) {
	name, id, err := parse(ref)
	if err != nil {
		return nil, err
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer func() { unlock() }()
	list, err := s.of(name)
	if err != nil {
		return nil, err
	}
	if id != "" {
		list = slices.DeleteFunc(list, func(i Image) bool { return i.ID != id })
	}
	if len(list) == 0 && id != "" || len(list) == 0 && !s.has(name) {
		return nil, s.noSuch(ref)
	}
	for _, i := range list {
		switch {
		case id != "" && i.Current:
			return nil, fmt.Errorf("%s is the current one; take another first (jail image use %s ID), or remove all (jail image rm %s)", ref, name, name)
		case i.Pinned:
			return nil, fmt.Errorf("%s/%s is what the files of jail %s are based on, now or before its last rebase; it stays", name, i.ID, i.By)
		case i.InUse:
			if i.By != "" {
				return nil, fmt.Errorf("%s/%s is in use: jail %s runs on it", name, i.ID, i.By)
			}
			return nil, fmt.Errorf("%s/%s is in use, by a copy that is being made", name, i.ID)
		}
	}
	if id == "" {
		if err := os.Remove(filepath.Join(s.dir, name, currentName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	gone, err := s.retire(list)
	s.sweep(name)
	unlock()
	unlock = func() {}
	err = errors.Join(err, dispose(gone))
	if id == "" {
		s.tidy(name)
	}
	return list[:len(gone)], err
}

// tidy removes the directory of a name that has no image any more, and that nobody is
// about to give one.
func (s *Store) tidy(name string) {
	unlock, err := s.lock()
	if err != nil {
		return
	}
	defer unlock()
	_ = os.Remove(filepath.Join(s.dir, name))
}

func (s *Store) has(name string) bool {
	_, err := os.Lstat(filepath.Join(s.dir, name))
	return err == nil
}

// Prune removes what is neither current, in use nor pinned, of name or, if that is "", of
// all names, and what imports have left that were killed. It returns what it has removed.
func (s *Store) Prune(name string) ([]Image, error) {
	names := []string{name}
	if name != "" && (!jail.ValidName(name) || !s.has(name)) {
		return nil, s.noSuch(name)
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	if name == "" {
		names, err = s.names()
	}
	var list []Image
	for _, n := range names {
		var of []Image
		if err == nil {
			of, err = s.of(n)
		}
		list = append(list, of...)
		s.sweep(n)
	}
	list = slices.DeleteFunc(list, func(i Image) bool { return i.Current || i.InUse || i.Pinned })
	var gone []Unnamed
	if err == nil {
		gone, err = s.retire(list)
	}
	unlock()
	err = errors.Join(err, dispose(gone))
	for _, n := range names {
		s.tidy(n) // an import that was killed was to be its first
	}
	return list[:len(gone)], err
}

// Unnamed is a directory of the store that is no image: not yet, or no more. It is locked.
type Unnamed struct {
	path string
	lock *os.File
}

// File is the open directory.
func (u Unnamed) File() *os.File { return u.lock }

// retire renames images, each of which it has locked, so that they are there no more. The
// store is locked. What it returns are the first of list.
func (s *Store) retire(list []Image) (gone []Unnamed, err error) {
	for _, i := range list {
		dir := filepath.Join(s.dir, i.Name)
		path := filepath.Join(dir, i.ID)
		at, err := mountedBelow(path)
		if err == nil && at != "" {
			err = fmt.Errorf("%s is mounted in image %s/%s; unmount it first", at, i.Name, i.ID)
		}
		if err != nil {
			return gone, err
		}
		f, err := s.open(i.Name, i.ID, unix.LOCK_EX)
		if err != nil {
			return gone, err
		}
		to := filepath.Join(dir, oldPrefix+i.ID)
		if err := os.Rename(path, to); err != nil {
			f.Close()
			return gone, err
		}
		gone = append(gone, Unnamed{to, f})
		_ = os.Remove(filepath.Join(dir, i.ID+about))
		_ = os.RemoveAll(filepath.Join(dir, i.ID+pins))
		if err := SyncDir(dir); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// dispose removes what is retired from the disk.
func dispose(gone []Unnamed) error {
	var errs []error
	for _, r := range gone {
		errs = append(errs, os.RemoveAll(r.path))
		r.lock.Close()
	}
	return errors.Join(errs...)
}

// sweep removes what an import or a removal has left of name that was killed. The store
// is locked, and so is what somebody works at.
func (s *Store) sweep(name string) {
	dir := filepath.Join(s.dir, name)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), newPrefix), strings.HasPrefix(e.Name(), oldPrefix):
			_ = RemoveUnlocked(path)
		case strings.HasPrefix(e.Name(), linkPrefix):
			_ = os.Remove(path)
		case strings.HasSuffix(e.Name(), about), strings.HasSuffix(e.Name(), pins):
			if _, err := os.Lstat(strings.TrimSuffix(path, filepath.Ext(path))); errors.Is(err, fs.ErrNotExist) {
				_ = os.RemoveAll(path)
			}
		}
	}
}

// MakeLocked makes a directory in dir whose name begins with prefix, and opens and locks it.
func MakeLocked(dir, prefix string) (*os.File, error) {
	for {
		path, err := os.MkdirTemp(dir, prefix)
		if err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if err == nil {
			if err = flock(f, unix.LOCK_EX|unix.LOCK_NB); err == nil {
				if there(f, path) {
					return f, nil
				}
			}
			f.Close()
		}
		// Who removes what is not locked came first.
		if err != nil && err != unix.EWOULDBLOCK && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(err, os.Remove(path))
		}
	}
}

// RemoveUnlocked removes a directory that nobody has locked, with all that is in it.
func RemoveUnlocked(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if at, err := mountedBelow(path); err != nil || at != "" {
		return err
	}
	return os.RemoveAll(path)
}

// mountedBelow returns where something is mounted in a directory, "" if nothing is: to
// remove the directory would remove what is in that.
func mountedBelow(dir string) (string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	// proc_pid_mountinfo(5): blanks and backslashes are octal.
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		if at := unescape.Replace(f[4]); at == dir || strings.HasPrefix(at, dir+"/") {
			return at, nil
		}
	}
	return "", nil
}

// SyncDir makes the names in a directory lasting.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// note writes the About of an image that is about to be there.
func (s *Store) note(name, id string, a *About) error {
	text := fmt.Sprintf("source %s\nimported %d\nentries %d\nbytes %d\n", strconv.Quote(a.Source), a.Imported.Unix(), a.Entries, a.Bytes)
	f, err := os.OpenFile(filepath.Join(s.dir, name, id+about), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// about reads it; what is missing is zero.
func (s *Store) about(name, id string) (a About) {
	f, err := os.Open(filepath.Join(s.dir, name, id+about))
	if err != nil {
		return a
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.ParseUint(value, 10, 64)
		switch key {
		case "source":
			a.Source, _ = strconv.Unquote(value)
		case "imported":
			a.Imported = time.Unix(int64(n), 0)
		case "entries":
			a.Entries = n
		case "bytes":
			a.Bytes = n
		}
	}
	return a
}
