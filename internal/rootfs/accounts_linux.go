package rootfs

import (
	"errors"
	"strconv"
	"syscall"

	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// maxAccounts bounds the files of accounts that are read, and maxSkel those of a new home.
const (
	maxAccounts = 1 << 20
	maxSkel     = 64 << 10
)

// skel are the files that a new home gets of /etc/skel (useradd(8)): those of shells.
var skel = [...]string{".profile", ".bashrc", ".bash_profile", ".bash_logout", ".zshrc"}

// complete makes what a root that others have, too, cannot know of: entries in passwd and
// group for the logins of this jail, their homes, and files to show the host's over. What
// is there already stays. Nobody else is in the jail yet; whoever was before may have put
// anything anywhere, and then the jail is as without it: logins need none of this.
func (b *builder) complete() {
	if b.Resolver >= 0 && !b.there(ResolvConf) {
		// A link to nothing is what systemd-resolved(8) leaves in an image.
		if dir, base, err := b.in(ResolvConf); err == nil {
			_ = sys.Unlinkat(dir, base, 0)
			sys.Close(dir)
		}
		_ = b.append(ResolvConf, nil, "")
	}
	if b.s.Hosts && !b.there(Hosts) {
		_ = b.append(Hosts, nil, "127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	}
	for i := range b.s.Logins {
		id := &b.s.Logins[i]
		if id.Name == "" {
			continue
		}
		if err := b.account(id); err != nil {
			b.note("user " + id.Name + " has no entry in /etc/passwd: " + err.Error())
		}
		if err := b.home(id); err != nil {
			b.note("user " + id.Name + " has no home " + id.Home + ": " + err.Error())
		}
	}
}

// account adds the entries of a login.
func (b *builder) account(id *wire.Identity) error {
	users, err := b.accountsIn("/etc/passwd")
	if err != nil {
		return err
	}
	if _, known := passwd.ByUID(users, id.UID); known {
		return nil
	}
	if _, other := passwd.ByName(users, id.Name); other {
		return errors.New("another uid has that name; give another in the registry (name)")
	}
	gid := id.UID
	if id.HasGID {
		gid = id.GID
	}
	shell := id.Shell
	for _, p := range [...]string{"/bin/bash", "/bin/sh"} {
		if shell == "" && b.there(p) {
			shell = p
		}
	}
	uidText, gidText := strconv.FormatUint(uint64(id.UID), 10), strconv.FormatUint(uint64(gid), 10)
	groups, err := b.accountsIn("/etc/group")
	if err == nil {
		if _, known := passwd.GroupName(groups, gid); !known {
			err = b.append("/etc/group", groups, id.Name+":x:"+gidText+":\n")
		}
	}
	if err != nil {
		b.note("group " + gidText + " has no entry in /etc/group: " + err.Error())
	}
	// pam_unix(8) lets nobody in, not even by root's su(1), whom a shadow(5) that there is
	// does not have. Nobody has a password, and none is ever too old.
	shadow, err := b.contents("/etc/shadow", maxAccounts)
	if err == nil && !names(shadow, id.Name) {
		err = b.append("/etc/shadow", shadow, id.Name+":*::0:99999:7:::\n")
	}
	if err != nil && err != syscall.ENOENT {
		b.note("user " + id.Name + " has no entry in /etc/shadow: " + err.Error())
	}
	return b.append("/etc/passwd", users, id.Name+":x:"+uidText+":"+gidText+"::"+id.Home+":"+shell+"\n")
}

// names reports whether text has a line whose first field is name.
func names(text []byte, name string) bool {
	for len(text) > 0 {
		if len(text) > len(name) && string(text[:len(name)]) == name && text[len(name)] == ':' {
			return true
		}
		for len(text) > 0 && text[0] != '\n' {
			text = text[1:]
		}
		if len(text) > 0 {
			text = text[1:]
		}
	}
	return false
}

// within are the rules for what is read of the rootfs by its usual name: a link is followed,
// but neither out of it nor into another file system.
const within = sys.ResolveInRoot | sys.ResolveNoMagiclinks | sys.ResolveNoXdev

// regular opens a regular file of the rootfs. Nothing is opened that can hold the start up.
func (b *builder) regular(path string, flags, most int) (fd, size int, err error) {
	fd, err = sys.Openat2(b.top, path, flags|syscall.O_NONBLOCK|syscall.O_NOCTTY, within)
	if err != nil {
		return -1, 0, err
	}
	var st syscall.Stat_t
	err = syscall.Fstat(fd, &st)
	switch {
	case err != nil:
	case st.Mode&syscall.S_IFMT != syscall.S_IFREG:
		err = syscall.EINVAL
	case st.Size > int64(most):
		err = syscall.EFBIG
	default:
		return fd, int(st.Size), nil
	}
	sys.Close(fd)
	return -1, 0, err
}

// contents reads a regular file of the rootfs.
func (b *builder) contents(path string, most int) ([]byte, error) {
	fd, size, err := b.regular(path, syscall.O_RDONLY, most)
	if err != nil || size == 0 {
		if err == nil {
			sys.Close(fd)
		}
		return nil, err
	}
	defer sys.Close(fd)
	text := make([]byte, size)
	n, err := sys.Read(fd, text)
	return text[:max(n, 0)], err
}

// accountsIn reads passwd or group; one that is missing is empty.
func (b *builder) accountsIn(path string) ([]byte, error) {
	text, err := b.contents(path, maxAccounts)
	if err == syscall.ENOENT {
		return nil, nil
	}
	return text, err
}

// append adds a line to a file in which text is.
func (b *builder) append(path string, text []byte, line string) error {
	if n := len(text); n > 0 && text[n-1] != '\n' {
		line = "\n" + line
	}
	fd, _, err := b.regular(path, syscall.O_WRONLY|syscall.O_APPEND, maxAccounts)
	if err == syscall.ENOENT {
		var dir int
		parent, base := split(path)
		if dir, err = b.ensureDir(parent); err != nil {
			return err
		}
		fd, err = sys.Openat2Mode(dir, base, syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY|syscall.O_NOFOLLOW, 0o644, beneath)
		sys.Close(dir)
	}
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	return whole(fd, []byte(line))
}

// whole writes all of text.
func whole(fd int, text []byte) error {
	n, err := sys.Write(fd, text)
	if err == nil && n < len(text) {
		err = syscall.ENOSPC
	}
	return err
}

// there reports whether something is at path.
func (b *builder) there(path string) bool {
	fd, err := sys.Openat2(b.top, path, sys.OPath, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err != nil {
		return err != syscall.ENOENT
	}
	sys.Close(fd)
	return true
}

// home makes a home, the login's, with the files of shells that the rootfs has for new
// users. It has another name until it is whole.
func (b *builder) home(id *wire.Identity) error {
	if id.Home == "" || id.Home == "/" || b.there(id.Home) {
		return nil
	}
	gid := id.UID
	if id.HasGID {
		gid = id.GID
	}
	parent, base := split(id.Home)
	dir, err := b.ensureDir(parent)
	if err != nil {
		return err
	}
	defer sys.Close(dir)
	fresh := "." + base + ".new"
	if err := sys.Mkdirat(dir, fresh, 0o700); err != nil && err != syscall.EEXIST {
		return err
	}
	home, err := sys.Openat2(dir, fresh, dirFlags, beneath)
	if err != nil {
		return err
	}
	defer sys.Close(home)
	for _, name := range skel {
		text, err := b.contents("/etc/skel/"+name, maxSkel)
		if err != nil {
			continue
		}
		// Half of it may be there, of a start that was killed or that found the disk full.
		_ = sys.Unlinkat(home, name, 0)
		fd, err := sys.Openat2Mode(home, name, syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY|syscall.O_NOFOLLOW, 0o644, beneath)
		if err != nil {
			return err
		}
		err = whole(fd, text)
		if err == nil {
			err = syscall.Fchown(fd, int(id.UID), int(gid))
		}
		sys.Close(fd)
		if err != nil {
			return err
		}
	}
	if err := syscall.Fchownat(dir, fresh, int(id.UID), int(gid), sys.AtSymlinkNofollow); err != nil {
		return err
	}
	return syscall.Renameat(dir, fresh, dir, base)
}
