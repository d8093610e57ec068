package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"jail/internal/imagestore"
	"jail/internal/jail"
	"jail/internal/rootpath"
	"jail/internal/sys"
)

// based is a root based on what others have, too: an image of the store, or a directory.
// Nobody writes to that. What a jail writes is its own: in memory, gone with the jail, or
// with PersistAll in its state. What is below /home is in the state with PersistHome as
// well.
//
// The directory of the state is root's, and nobody else can enter it: what is in it has the
// ids of the jail, set-uid programs and capabilities of files among it.
//
//	mark/      empty; is mounted in the jail from its start to its end, and is the name of
//	           the lock
//	home/      what is at /home
//	root/      with PersistAll: upper/ and work/ of an overlay, and base, which names what
//	           upper/ differs from
//	root.old/  the same of before the last rebase
//	started    names the image that the jail was last started with
type based struct {
	jail.Source
	name string // the jail's
	attr uint64 // of mount_setattr(2)
	ids  bool   // ids are mapped
	// bounded says that there are limits on the files of the state.
	bounded bool
}

// stateInside is where a jail that is based on something has its landmark.
const stateInside = "/dev/jail/state"

// The directories of a state.
const (
	markDir = "mark"
	homeDir = "home"
	rootDir = "root"
	oldDir  = "root.old"
	newDir  = "root.new" // being made
)

// isDir reports whether the base is a directory, and no image.
func (b *based) isDir() bool { return strings.HasPrefix(b.Base, "/") }

func (b *based) String() string { return "base:" + b.Base + ":" + b.State }

func (b *based) Places() []string { return []string{b.State} }

func (b *based) HostFiles() string { return "" }

func (b *based) Landmark() Landmark { return Landmark{Path: Mark(b.State), At: stateInside} }

// Mark is the directory of a state that no two jails may have at a time.
func Mark(state string) string { return path.Join(state, markDir) }

func (b *based) Name() (*Named, error) {
	return nil, errors.New("a jail with base needs a launcher that is root")
}

// View is what the jail starts with: the base, and /home. Accounts that are made inside are
// not in it; whose login it is, and where his home is, the registry says of such a jail.
func (b *based) View() (*rootpath.Tree, error) {
	// Read-only, whoever uses it: a link in a home must not lead to where a write would
	// be seen by others.
	const attr = sys.MountAttrRdonly | sys.MountAttrNodev | sys.MountAttrNosuid
	var fd int
	if b.isDir() {
		dir, err := Clone(b.Base, attr, true)
		if err != nil {
			return nil, err
		}
		fd = dir
	} else {
		ref := b.Base
		if now, err := b.now(); err == nil && now != "" {
			ref = now
		}
		store, err := imagestore.Open(b.Images)
		if err != nil {
			return nil, err
		}
		image, _, err := store.Open(ref)
		if err != nil {
			return nil, err
		}
		defer image.Close()
		if fd, err = sys.CloneTree(int(image.Fd()), attr); err != nil {
			return nil, fmt.Errorf("clone image %s: %w", ref, err)
		}
	}
	tree := &rootpath.Tree{Root: fd}
	if b.Persist == jail.PersistNone {
		return tree, nil
	}
	// Before the first start there is none, and so there are no keys in it.
	home, err := rootpath.OpenDir(path.Join(b.State, homeDir), unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return tree, nil
	}
	if err != nil {
		tree.Close()
		return nil, fmt.Errorf("state: %w", err)
	}
	tree.Mounts = []rootpath.Mount{{Target: jail.Homes, FD: home}}
	return tree, nil
}

func (b *based) Open(touch func(string)) (_ *Opened, err error) {
	if b.ids {
		if err := mapsLayers(); err != nil {
			return nil, err
		}
	}
	o := &Opened{Root: Tree{FD: -1}, Exclusive: -1, Bounded: -1, Complete: true}
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	touch(b.State)
	if o.Bounded, err = b.prepare(); err != nil {
		return nil, err
	}
	add := func(name, target string, attr uint64, ids IDs) error {
		p := path.Join(b.State, name)
		fd, err := Clone(p, attr, true)
		if err == nil {
			o.Mounts = append(o.Mounts, Mount{Tree{FD: fd, Name: p, IDs: ids}, target, attr&sys.MountAttrRdonly != 0})
		}
		return err
	}
	// Nobody's inside, and 0700: nobody there can lock it, or get hold of it at all.
	if err := add(markDir, stateInside, sys.MountAttrRdonly|sys.MountAttrNosuid|sys.MountAttrNodev|sys.MountAttrNoexec, NoIDs); err != nil {
		return nil, err
	}
	o.Exclusive = o.Mounts[0].FD
	if b.Persist != jail.PersistNone {
		if err := add(homeDir, jail.Homes, b.attr, AllIDs); err != nil {
			return nil, err
		}
		if err := b.counts(o.Bounded, o.Mounts[1].Tree); err != nil {
			return nil, err
		}
	}
	o.Layers = func() (*Layers, error) { return b.layers(o.Bounded, touch) }
	return o, nil
}

// counts makes sure that limits on the files of the state hold for what is in a directory
// there.
func (b *based) counts(state int, in Tree) error {
	var has, is syscall.Stat_t
	if !b.bounded {
		return nil
	}
	if err := errors.Join(syscall.Fstat(state, &has), syscall.Fstat(in.FD, &is)); err != nil {
		return fmt.Errorf("stat %s: %w", in.Name, err)
	}
	if has.Dev != is.Dev {
		return fmt.Errorf("%s is another file system than %s, so limits.disk and limits.files would not hold there; unmount it, or remove them", in.Name, b.State)
	}
	return nil
}

// prepare makes what is missing of the directory of the state, and opens that.
func (b *based) prepare() (state int, err error) {
	defer func() {
		if err != nil && state >= 0 {
			sys.Close(state)
			state = -1
		}
	}()
	state = -1
	if path.Dir(b.State) == DefaultStates {
		if err := rootpath.MakePublic(path.Dir(DefaultStates)); err != nil {
			return -1, err
		}
		if err := os.Mkdir(DefaultStates, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return -1, err
		}
	}
	type dir struct {
		path string
		mode os.FileMode
	}
	dirs := []dir{{b.State, 0o700}, {path.Join(b.State, markDir), 0o700}}
	if b.Persist != jail.PersistNone {
		dirs = append(dirs, dir{path.Join(b.State, homeDir), 0o755})
	}
	for _, d := range dirs {
		switch err := os.Mkdir(d.path, d.mode); {
		case err == nil:
			if err := os.Chmod(d.path, d.mode); err != nil { // past any umask
				return state, err
			}
		case errors.Is(err, fs.ErrExist):
		case errors.Is(err, fs.ErrNotExist):
			return state, fmt.Errorf("%s cannot be made: %s is missing; make it, root's (mkdir -m 0700)", d.path, path.Dir(d.path))
		default:
			return state, err
		}
		if d.path == b.State {
			if state, err = openClosed(b.State); err != nil {
				return state, err
			}
		}
	}
	return state, nil
}

// DefaultStates is where states are, each called as its jail, that the registry does not
// give another place.
const DefaultStates = "/var/lib/jail/state"

// openClosed opens a directory that is root's and that nobody else can enter.
func openClosed(p string) (fd int, err error) {
	if fd, err = rootpath.OpenDir(p, unix.O_PATH); err != nil {
		return -1, fmt.Errorf("state: %w", err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		sys.Close(fd)
		return -1, fmt.Errorf("stat %s: %w", p, err)
	}
	if st.Uid != 0 || st.Mode&0o077 != 0 {
		sys.Close(fd)
		return -1, fmt.Errorf("%s: must be root's and nobody else's to enter (uid %d, mode %04o), since set-uid files of the jail are in it; chown root %s, chmod 0700 %s", p, st.Uid, st.Mode&0o7777, p, p)
	}
	return fd, nil
}

// now is what the jail's own files differ from, "" if there are none.
func (b *based) now() (string, error) {
	if b.Persist != jail.PersistAll {
		return "", nil
	}
	text, err := os.ReadFile(path.Join(b.State, imagestore.Needs.Now))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(text), nil
}

// wanted is what is to be opened: what the jail's own files differ from, if there are any,
// else what the registry says. It is an error if these do not agree.
func (b *based) wanted() (ref string, err error) {
	now, err := b.now()
	if err != nil {
		return "", err
	}
	if now == "" {
		return b.Base, nil
	}
	if b.agrees(now) {
		return now, nil
	}
	return "", fmt.Errorf("what is in %s differs from %s, not from %s, which the registry says; jail rebase %s keeps /home and begins anew with that, or write base = %q",
		path.Join(b.State, rootDir), now, b.Base, b.name, now)
}

// agrees reports whether the registry may mean the base now.
func (b *based) agrees(now string) bool {
	return now == b.Base || strings.HasPrefix(now, b.Base+"/") && !b.isDir()
}

// layers opens what the root is made of; state is the directory of the state. The jail has
// the lock.
func (b *based) layers(state int, touch func(string)) (_ *Layers, err error) {
	ref, err := b.wanted()
	if err != nil {
		return nil, err
	}
	ly := &Layers{Base: Tree{FD: -1, Name: ref}, Upper: Tree{FD: -1}, Bytes: b.Scratch, Attr: b.attr}
	defer func() {
		if err != nil {
			ly.Close()
		}
	}()
	const attr = sys.MountAttrRdonly | sys.MountAttrNodev | sys.MountAttrNosuid
	base := b.Base // as it is called when there is no doubt
	touch(ref)
	if b.isDir() {
		if ly.Base.FD, err = Clone(b.Base, attr, true); err == nil {
			err = b.started(b.Base)
		}
		if err != nil {
			return nil, err
		}
	} else {
		store, err := imagestore.Open(b.Images)
		if err != nil {
			return nil, err
		}
		image, err := store.Pin(ref, b.name, b.State, func(image string) error {
			base = image
			if b.Persist == jail.PersistAll {
				if err := b.fresh(image); err != nil {
					return err
				}
			}
			return b.started(image)
		})
		if err != nil {
			return nil, err
		}
		defer image.Close()
		if ly.Base.FD, err = sys.CloneTree(int(image.Fd()), attr); err != nil {
			return nil, fmt.Errorf("clone image %s: %w", base, err)
		}
	}
	if err := ours(ly.Base.FD); err != nil {
		return nil, fmt.Errorf("%s: %w", base, err)
	}
	if b.Persist != jail.PersistAll {
		return ly, nil
	}
	dir := path.Join(b.State, rootDir)
	touch(dir)
	if b.isDir() {
		if err := b.fresh(b.Base); err != nil {
			return nil, err
		}
	}
	if err := like(path.Join(dir, "upper"), ly.Base.FD); err != nil {
		return nil, err
	}
	ly.Upper.Name = dir
	if ly.Upper.FD, err = Clone(dir, sys.MountAttrNodev, true); err != nil {
		return nil, err
	}
	if err := b.counts(state, ly.Upper); err != nil {
		return nil, err
	}
	return ly, nil
}

// started notes what the jail is started with. It need not outlive the machine's next
// start, which no jail does.
func (b *based) started(with string) error {
	return note(path.Join(b.State, imagestore.Needs.Started), with, false)
}

// fresh makes the directory of what differs from base, if there is none.
func (b *based) fresh(base string) error {
	dir, fresh := path.Join(b.State, rootDir), path.Join(b.State, newDir)
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(fresh); err != nil { // of a start that was killed
		return err
	}
	for _, d := range []string{fresh, path.Join(fresh, "upper"), path.Join(fresh, "work")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := note(path.Join(fresh, path.Base(imagestore.Needs.Now)), base, true); err != nil {
		return err
	}
	return os.Rename(fresh, dir)
}

// like gives the directory p, of root's making, the owner and the mode that another has.
func like(p string, as int) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(as, &st); err != nil {
		return fmt.Errorf("stat the base: %w", err)
	}
	if err := os.Lchown(p, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return syscall.Chmod(p, st.Mode&0o7777)
}

// note writes a file whole or not at all, unless that is what it says; lasting is so also
// if the machine stops without warning.
func note(p, text string, lasting bool) error {
	if old, err := os.ReadFile(p); err == nil && string(old) == text {
		return nil
	}
	f, err := os.OpenFile(p+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil && lasting {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(p+".new", p)
}

// mapsLayers reports why layers of overlayfs cannot have mapped ids (Linux 5.19).
func mapsLayers() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	return mapsLayersOn(unix.ByteSliceToString(u.Release[:]))
}

func mapsLayersOn(release string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil || major > 5 || major == 5 && minor >= 19 {
		return nil // what cannot be read is found out when it is tried
	}
	return fmt.Errorf("base needs Linux 5.19, for layers with mapped ids, and this is %s; give the jail a rootfs of its own (jail image copy NAME DIR)", release)
}
