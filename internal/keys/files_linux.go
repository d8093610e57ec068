package keys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"jail/internal/authkeys"
	"jail/internal/jail"
	"jail/internal/login"
	"jail/internal/passwd"
	"jail/internal/rootpath"
	"jail/internal/source"
)

// readKeys returns the text of the login's authorized_keys inside the jail,
// nil when there is none. It gives up the process's privileges for good.
func readKeys(spec *jail.Spec, lg *jail.Login) ([]byte, error) {
	// The directories above the rootfs and the mount sources are the
	// administrator's, and need not be open to the jail's ids. Nothing below
	// them is looked at yet.
	tree, err := openTree(spec)
	if err != nil {
		return nil, err
	}
	if err := dropTo(lg); err != nil {
		return nil, err
	}
	u, err := userOf(tree, lg)
	if err != nil {
		return nil, err
	}
	return readHome(tree, u, strictModes(uint32(lg.UID)))
}

// openTree opens the root directory and what the registry mounts over it, without
// following a symlink. The descriptors live as long as the process.
func openTree(spec *jail.Spec) (*rootpath.Tree, error) {
	tree, err := source.Of(spec).View()
	if err != nil {
		return nil, err
	}
	for _, m := range spec.Mounts {
		fd, err := rootpath.OpenHost(m.Source, unix.O_PATH)
		if err != nil {
			return nil, fmt.Errorf("mount source: %w", err)
		}
		tree.Mounts = append(tree.Mounts, rootpath.Mount{Target: m.Target, FD: fd})
	}
	return tree, nil
}

// userOf says who the login is inside, as PID 1 will.
func userOf(tree *rootpath.Tree, lg *jail.Login) (*passwd.Entry, error) {
	text, _, err := tree.ReadFile("/etc/passwd", login.MaxDatabase)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("in the jail: %w", err)
	}
	id := lg.Identity()
	u, err := login.User(&id, text)
	return &u, err
}

// readHome reads u's authorized_keys if visit has no objection to any directory
// that leads to it.
func readHome(tree *rootpath.Tree, u *passwd.Entry, visit func(string, *rootpath.Stat) error) ([]byte, error) {
	home, file, err := login.KeysPath(u)
	if err != nil {
		return nil, err
	}
	f, err := tree.Walk(home, file, visit)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("in the jail: %w", err)
	}
	defer f.Close()
	text, _, err := f.Read(authkeys.MaxFile)
	if err != nil {
		return nil, fmt.Errorf("in the jail: %w", err)
	}
	return text, nil
}

// strictModes is sshd's StrictModes: whoever else could write the file, or
// put another in its place, could let himself in.
func strictModes(uid uint32) func(string, *rootpath.Stat) error {
	euid := uint32(os.Geteuid())
	return func(path string, st *rootpath.Stat) error {
		// In a jail of an ordinary user, the files on disk are his own.
		if st.Uid != uid && st.Uid != 0 && st.Uid != euid {
			return fmt.Errorf("%q is owned by uid %d, not by %d or 0", path, st.Uid, uid)
		}
		if st.Mode&0o022 != 0 {
			return fmt.Errorf("%q is writable by others (mode %04o)", path, st.Mode&0o7777)
		}
		return nil
	}
}
