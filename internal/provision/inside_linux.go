package provision

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"jail/internal/jail"
	"jail/internal/login"
	"jail/internal/rootpath"
	"jail/internal/source"
)

// What is below a root directory belongs to a tenant, who may be changing it. So the host's
// root writes there by descriptor, in directories found by package rootpath: whatever a link
// says, the worst that a tenant can have written is a file of his own. What is in a home is
// written by its owner (owner_linux.go).

// root is a root directory with what a jail has mounted over it.
type root struct {
	rootpath.Tree
	fds     []int
	targets []string
}

func openRoot(rootfs string, mounts []jail.Mount) (*root, error) {
	fd, err := rootpath.OpenDir(rootfs, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	r := &root{Tree: rootpath.Tree{Root: fd}, fds: []int{fd}}
	if err := r.mount(mounts); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// mount adds what the registry mounts.
func (r *root) mount(mounts []jail.Mount) error {
	for _, m := range mounts {
		fd, err := rootpath.OpenHost(m.Source, unix.O_PATH)
		if err != nil {
			return err
		}
		r.fds = append(r.fds, fd)
		r.targets = append(r.targets, m.Target)
		r.Mounts = append(r.Mounts, rootpath.Mount{Target: m.Target, FD: fd})
	}
	return nil
}

// openJail is openRoot for a jail of the registry, as the host sees its root.
func openJail(spec *jail.Spec) (*root, error) {
	if spec.Source.Kind == jail.Directory {
		return openRoot(spec.Source.Path, spec.Mounts)
	}
	view, err := source.Of(spec).View()
	if err != nil {
		return nil, err
	}
	r := &root{Tree: *view, fds: []int{view.Root}}
	for _, m := range view.Mounts {
		r.fds, r.targets = append(r.fds, m.FD), append(r.targets, m.Target)
	}
	if err := r.mount(spec.Mounts); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// sync sees to it that what was written below is on the disk: once for all homes, whose files
// are many.
func (r *root) sync() error {
	for i := range r.fds {
		fd, err := unix.Openat(r.fds[i], ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == unix.ENOTDIR {
			continue // a mount of one file, in which there is no home
		}
		if err != nil {
			return err
		}
		err = unix.Syncfs(fd)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("write what is in the homes to the disk: %w", err)
		}
	}
	return nil
}

func (r *root) close() {
	for _, fd := range r.fds {
		unix.Close(fd)
	}
}

// shells are what a new user's shell may be, the best first.
var shells = []string{"/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh", "/bin/busybox"}

// readTree reads the account files.
func (r *root) readTree() (*tree, error) {
	var t tree
	var err error
	if t.passwd, _, err = r.ReadFile("/etc/passwd", login.MaxDatabase); err == nil {
		t.group, _, err = r.ReadFile("/etc/group", login.MaxDatabase)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil, errAccounts
	}
	if err != nil {
		return nil, err
	}
	for _, s := range shells[:4] {
		if f, err := r.Walk("/", s, nil); err == nil {
			f.Close()
			t.shells = append(t.shells, s)
		}
	}
	return &t, nil
}

// homeOf says whose a directory inside is; ok is false if there is none.
func (r *root) homeOf(home string) (uid uint32, ok bool, err error) {
	fd, st, err := r.WalkDir(home)
	if errors.Is(err, unix.ENOENT) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	unix.Close(fd)
	return st.Uid, true, nil
}

// edit rewrites an account file by change. One that is not there is no error.
func (r *root) edit(file string, change func([]byte) []byte) error {
	// Somebody may be changing it at the same time; then it is read again.
	for try := 0; ; try++ {
		f, err := r.Walk("/", file, nil)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		text, st, err := f.Read(login.MaxDatabase)
		if err == nil {
			next := change(slices.Clone(text))
			switch {
			case string(next) == string(text):
				err = f.Tidy()
			case len(next) > login.MaxDatabase:
				err = fmt.Errorf("%s inside would be larger than %d KiB", file, login.MaxDatabase>>10)
			default:
				err = f.Replace(next, &st)
			}
		}
		f.Close()
		if !errors.Is(err, rootpath.ErrChanged) || try == 3 {
			return err
		}
	}
}

// addUsers puts the users of logins, all of one jail, into the account files.
func (r *root) addUsers(logins []*Login) error {
	lines := map[string][]string{}
	for _, l := range logins {
		if !l.User {
			continue
		}
		for file, line := range map[string]string{
			"/etc/passwd": l.Inside.passwdLine(), "/etc/group": l.Inside.groupLine(), "/etc/shadow": l.Inside.shadowLine(),
		} {
			lines[file] = append(lines[file], line)
		}
	}
	for _, file := range accountFiles {
		if len(lines[file]) == 0 {
			continue
		}
		var there error
		err := r.edit(file, func(text []byte) []byte {
			for _, l := range logins {
				if l.User && hasName(text, l.Inside.Name) {
					there = fmt.Errorf("%s inside has %s already: somebody has added it meanwhile", file, l.Inside.Name)
					return text
				}
			}
			return insert(text, lines[file]...)
		})
		if err = errors.Join(err, there); err != nil {
			return err
		}
	}
	return nil
}

var accountFiles = []string{"/etc/group", "/etc/shadow", "/etc/passwd"}

// dropUsers takes the users of logins, all of one jail, out of the account files.
func (r *root) dropUsers(logins []*Login) error {
	who := make(map[string]*User)
	var names []string
	for _, l := range logins {
		if l.User {
			who[l.Inside.Name] = &l.Inside
			names = append(names, l.Inside.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	var errs []error
	// The user's line goes last: who it is has to be known until then.
	for _, file := range accountFiles {
		errs = append(errs, r.edit(file, func(text []byte) []byte {
			switch file {
			case "/etc/passwd":
				return remove(text, names, func(n string, f []string) bool {
					return len(f) == 7 && f[2] == fmt.Sprint(who[n].UID)
				})
			case "/etc/group":
				text = remove(text, names, func(n string, f []string) bool {
					return len(f) == 4 && f[2] == fmt.Sprint(who[n].GID) && (f[3] == "" || f[3] == n)
				})
				return leave(text, names)
			}
			return remove(text, names, nil)
		}))
	}
	return errors.Join(errs...)
}

// makeHome makes a home directory, empty, that belongs to u. The directories above it are made
// as well, and belong to root. One that is there is an error unless it is u's and empty: a run
// before may have come so far.
func (r *root) makeHome(u *User) error {
	parent, err := r.makeParents(path.Dir(u.Home))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	fail := func(err error) error { return fmt.Errorf("make %s inside: %w", u.Home, err) }
	name := path.Base(u.Home)
	// Nobody but root gets in before it has its owner.
	if err := unix.Mkdirat(parent, name, 0o700); err != nil {
		return fail(err)
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, int(u.UID), int(u.GID)); err != nil {
		return fail(err)
	}
	return nil
}

// makeParents returns a descriptor of a directory, which it makes if it is not there.
func (r *root) makeParents(dir string) (int, error) {
	fd, _, err := r.WalkDir(dir)
	if !errors.Is(err, unix.ENOENT) || dir == "/" {
		return fd, err
	}
	up, err := r.makeParents(path.Dir(dir))
	if err != nil {
		return -1, err
	}
	defer unix.Close(up)
	if err := unix.Mkdirat(up, path.Base(dir), 0o755); err != nil && err != unix.EEXIST {
		return -1, fmt.Errorf("make %s inside: %w", dir, err)
	}
	fd, _, err = r.WalkDir(dir)
	return fd, err
}

// removeHome removes a home directory that its owner has emptied.
func (r *root) removeHome(home string) error {
	parent, _, err := r.WalkDir(path.Dir(home))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if err := unix.Unlinkat(parent, path.Base(home), unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s inside: %w", home, err)
	}
	return nil
}
