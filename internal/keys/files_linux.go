package keys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"jail/internal/authkeys"
	"jail/internal/jail"
	"jail/internal/passwd"
	"jail/internal/rootpath"
)

const (
	maxPasswd   = 1 << 20
	maxKeysFile = authkeys.MaxFile
	keysFile    = ".ssh/authorized_keys"
)

// readKeys returns the text of the login's authorized_keys inside the jail,
// nil when there is none. It gives up the process's privileges for good.
func readKeys(spec *jail.Spec, login *jail.Login) ([]byte, error) {
	// The directories above the rootfs and the mount sources are the
	// administrator's, and need not be open to the jail's ids. Nothing below
	// them is looked at yet.
	tree, err := openTree(spec)
	if err != nil {
		return nil, err
	}
	if err := dropTo(login); err != nil {
		return nil, err
	}
	home, err := homeOf(tree, login)
	if err != nil {
		return nil, err
	}
	return readHome(tree, home, strictModes(uint32(login.UID)))
}

// openTree opens the rootfs and what the registry mounts over it, without
// following a symlink. The descriptors live as long as the process.
func openTree(spec *jail.Spec) (*rootpath.Tree, error) {
	root, err := rootpath.OpenDir(spec.Rootfs, unix.O_PATH)
	if err != nil {
		return nil, fmt.Errorf("rootfs: %w", err)
	}
	tree := &rootpath.Tree{Root: root}
	for _, m := range spec.Mounts {
		fd, err := rootpath.OpenHost(m.Source, unix.O_PATH)
		if err != nil {
			return nil, fmt.Errorf("mount source: %w", err)
		}
		tree.Mounts = append(tree.Mounts, rootpath.Mount{Target: m.Target, FD: fd})
	}
	return tree, nil
}

// homeOf returns the home directory as the jail knows it: the registry's word,
// else the jail's passwd's, which is the tenant's text and means a path below
// the root only.
func homeOf(tree *rootpath.Tree, login *jail.Login) (string, error) {
	home := login.Home
	if home == "" {
		text, _, err := tree.ReadFile("/etc/passwd", maxPasswd)
		if err != nil {
			return "", fmt.Errorf("in the jail: %w", err)
		}
		entry, ok := passwd.ByUID(text, uint32(login.UID))
		if login.JailName != "" { // one of several names of that uid
			if e, found := passwd.ByName(text, login.JailName); found && e.UID == uint32(login.UID) {
				entry, ok = e, true
			}
		}
		if !ok {
			return "", fmt.Errorf("the jail's /etc/passwd has no uid %d", login.UID)
		}
		home = entry.Home
	}
	if home == "" || home[0] != '/' {
		return "", fmt.Errorf("home directory %q is not an absolute path", home)
	}
	return home, nil
}

// readHome reads authorized_keys below home if visit has no objection to any
// directory that leads to it.
func readHome(tree *rootpath.Tree, home string, visit func(string, *rootpath.Stat) error) ([]byte, error) {
	f, err := tree.Walk(home, keysFile, visit)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("in the jail: %w", err)
	}
	defer f.Close()
	text, _, err := f.Read(maxKeysFile)
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
