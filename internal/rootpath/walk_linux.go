package rootpath

import "golang.org/x/sys/unix"

const (
	maxLinks = 40  // symlinks followed in one walk, as the kernel has it
	maxDepth = 64  // directories held open at once
	maxSteps = 256 // components opened in one walk
)

// A Tree is a root directory together with what a jail mounts over places in
// it, so that a path can be walked on the host as the jail sees it.
type Tree struct {
	Root   int     // the root directory
	Mounts []Mount // in the order in which the jail makes them
}

// Close closes the descriptors of the tree.
func (t *Tree) Close() {
	unix.Close(t.Root)
	for i := range t.Mounts {
		unix.Close(t.Mounts[i].FD)
	}
}

// A Mount stands in for whatever the tree has at Target, which need not exist.
type Mount struct {
	Target string // absolute and clean, no symlink in it
	FD     int    // O_PATH descriptor of the source
}

// at returns the mount whose root is at path. A later mount hides earlier ones
// at the same place and below it.
func (t *Tree) at(path string) (fd int, ok bool) {
	for i := len(t.Mounts) - 1; i >= 0; i-- {
		m := &t.Mounts[i]
		if m.Target == path {
			return m.FD, true
		}
		if len(path) > len(m.Target) && path[:len(m.Target)] == m.Target && path[len(m.Target)] == '/' {
			break
		}
	}
	return -1, false
}

// A File is a regular file at the end of a walk, not yet opened.
type File struct {
	Path  string // where it really is: absolute below the root, no symlink in it
	fd    int    // O_PATH
	dirFD int    // O_PATH of the directory it is in
	name  string
}

// Close gives up the file.
func (f *File) Close() {
	unix.Close(f.fd)
	unix.Close(f.dirFD)
}

// Read reads the file, at most max bytes of it: a larger one is ErrTooLarge,
// whatever size it claims, and costs no more memory than it has bytes. A file under
// a write lease is EAGAIN.
func (f *File) Read(max int) ([]byte, Stat, error) {
	data, st, err := read(f.fd, max, func() (int, error) {
		for {
			fd, err := unix.Openat(f.dirFD, f.name, unix.O_RDONLY|unix.O_NOFOLLOW|alwaysFlags, 0)
			if err != unix.EINTR {
				return fd, err
			}
		}
	})
	if err != nil {
		return nil, st, &Error{"read", f.Path, err}
	}
	return data, st, nil
}

// ReadFile reads the regular file at path, an absolute one or one from the root, as
// Walk finds it and File.Read reads it. Anything but a regular file is ErrNotRegular
// and is not opened.
func (t *Tree) ReadFile(path string, max int) ([]byte, Stat, error) {
	f, err := t.Walk("/", path, nil)
	if err != nil {
		return nil, Stat{}, err
	}
	defer f.Close()
	return f.Read(max)
}

// Walk finds the regular file rest below the directory base, both below the
// tree's root, following symlinks inside the root only.
//
// It calls visit, unless nil, with the path and fstat of everything that
// decides which file that is: base, every directory passed on the way from
// base, also those which only held a symlink, then every directory the file
// is really in, up to base or, for a file outside base, up to the root
// (sshd's StrictModes looks at these last ones only), and the file itself. An
// error of visit ends the walk and is returned as it is. What visit saw is
// what the File stands for: directories stay open from the look at them until
// the file is open, so that no rename comes between.
//
// A directory, FIFO, socket or device at the end is ErrNotRegular.
func (t *Tree) Walk(base, rest string, visit func(path string, st *Stat) error) (*File, error) {
	for _, p := range []string{base, rest} {
		if err := checkPath(p); err != nil {
			return nil, &Error{"open", p, err}
		}
	}
	w := walker{tree: t}
	defer w.close()
	root := dir{fd: t.Root}
	if err := fstat(root.fd, &root.st); err != nil {
		return nil, &Error{"open", "/", err}
	}
	w.stack = append(w.stack, root)

	file, err := w.enter(base)
	if file != nil {
		file.Close()
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, &Error{"open", base, err}
	}
	w.visit = visit
	baseStat := w.top().st
	if err := w.look(w.top()); err != nil {
		return nil, err
	}

	file, err = w.enter(rest)
	if w.visitErr != nil {
		return nil, w.visitErr
	}
	if err == nil && file == nil { // the walk ended in a directory
		err = ErrNotRegular
	}
	if err != nil {
		return nil, &Error{"open", under(base, rest), err}
	}
	for i := len(w.stack) - 1; i >= 0; i-- {
		d := &w.stack[i]
		if err := w.look(d); err != nil {
			file.Close()
			return nil, err
		}
		if d.st.Dev == baseStat.Dev && d.st.Ino == baseStat.Ino {
			break
		}
	}
	if visit != nil {
		if err := visit(file.Path, &w.fileStat); err != nil {
			file.Close()
			return nil, err
		}
	}
	return file, nil
}

// A walker resolves a path in user space: each component is opened by its bare
// name in a directory that is already open, never following a link, and ".."
// goes back to the directory we came from instead of asking the kernel. So
// there is no way out of the root, whatever is renamed meanwhile.
type walker struct {
	tree     *Tree
	stack    []dir // from the root to where we are
	links    int
	steps    int
	visit    func(path string, st *Stat) error
	visitErr error
	fileStat Stat
}

type dir struct {
	fd   int
	path string // "" for the root
	ours bool   // fd is ours to close
	st   Stat
}

func (w *walker) top() *dir { return &w.stack[len(w.stack)-1] }

func (w *walker) look(d *dir) error {
	if w.visit == nil || w.visitErr != nil {
		return w.visitErr
	}
	path := d.path
	if path == "" {
		path = "/"
	}
	w.visitErr = w.visit(path, &d.st)
	return w.visitErr
}

// unwind leaves directories until n are left.
func (w *walker) unwind(n int) {
	for len(w.stack) > n {
		if d := w.top(); d.ours {
			unix.Close(d.fd)
		}
		w.stack = w.stack[:len(w.stack)-1]
	}
}

func (w *walker) close() { w.unwind(0) }

// enter walks path from where we are, or from the root when it is absolute. It
// returns the file at its end, nil when that is a directory.
func (w *walker) enter(path string) (*File, error) {
	if path[0] == '/' {
		w.unwind(1)
	}
	for {
		name, rest, more := cut(path)
		switch name {
		case "", ".":
		case "..":
			w.unwind(max(1, len(w.stack)-1))
			if err := w.look(w.top()); err != nil {
				return nil, err
			}
		default:
			child, err := w.open(name)
			if err != nil {
				return nil, err
			}
			switch child.st.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				if len(w.stack) == maxDepth {
					child.drop()
					return nil, unix.ELOOP
				}
				w.stack = append(w.stack, child)
				if err := w.look(w.top()); err != nil {
					return nil, err
				}
			case unix.S_IFLNK:
				target, err := w.readlink(&child)
				child.drop()
				if err != nil {
					return nil, err
				}
				if target[0] == '/' {
					w.unwind(1)
					if err := w.look(w.top()); err != nil {
						return nil, err
					}
				}
				if more {
					target += "/" + rest
				}
				path = target
				continue
			default:
				if more {
					child.drop()
					return nil, unix.ENOTDIR
				}
				return w.file(child, name)
			}
		}
		if !more {
			return nil, nil
		}
		path = rest
	}
}

// open opens one component, or the mount that stands in for it.
func (w *walker) open(name string) (dir, error) {
	if w.steps++; w.steps > maxSteps {
		return dir{}, unix.ELOOP
	}
	d := dir{path: w.top().path + "/" + name}
	fd, mounted := w.tree.at(d.path)
	if !mounted {
		var err error
		for {
			fd, err = unix.Openat(w.top().fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != unix.EINTR {
				break
			}
		}
		if err != nil {
			return dir{}, err
		}
		d.ours = true
	}
	d.fd = fd
	if err := fstat(fd, &d.st); err != nil {
		d.drop()
		return dir{}, err
	}
	return d, nil
}

func (d *dir) drop() {
	if d.ours {
		unix.Close(d.fd)
	}
}

// readlink reads the text of a link. A magic link's text ("/dir", "pipe:[7]")
// would be taken for a path as any other; where it leads to is below the root.
func (w *walker) readlink(d *dir) (string, error) {
	if w.links++; w.links > maxLinks {
		return "", unix.ELOOP
	}
	buf := make([]byte, maxPath)
	for {
		n, err := unix.Readlinkat(d.fd, "", buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		target := string(buf[:n])
		return target, checkPath(target)
	}
}

// file makes the File of a walk's last component. It keeps descriptors of its
// own, for the walker closes its directories and a mount's belongs to the tree.
func (w *walker) file(child dir, name string) (*File, error) {
	defer child.drop()
	if child.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, ErrNotRegular
	}
	w.fileStat = child.st
	fd, err := dup(child.fd)
	if err != nil {
		return nil, err
	}
	dirFD, err := dup(w.top().fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &File{Path: child.path, fd: fd, dirFD: dirFD, name: name}, nil
}

// under is the path rest means in the directory base, for messages.
func under(base, rest string) string {
	switch {
	case rest[0] == '/':
		return rest
	case base[len(base)-1] == '/':
		return base + rest
	}
	return base + "/" + rest
}

func dup(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
}

// cut splits the first component off; more says whether a slash followed.
func cut(path string) (name, rest string, more bool) {
	for i := 0; i < len(path); i++ {
		if path[i] == '/' {
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}
