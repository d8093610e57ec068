package sftpserver

import (
	"strconv"
	"strings"
	"syscall"

	"jail/internal/passwd"
	"jail/internal/sys"
)

// identity is an account of the jail.
type identity struct {
	uid  uint32
	name string
	home string
}

// whoami is the login's account: what the session was given, else what the
// jail's passwd says.
func whoami(env []string) identity {
	u := identity{uid: uint32(syscall.Getuid())}
	entry, ok := passwd.ByUID(readDatabase("/etc/passwd"), u.uid)
	u.name, _ = lookup(env, "USER")
	if u.name == "" && ok {
		u.name = entry.Name
	}
	u.home, _ = lookup(env, "HOME")
	if u.home == "" && ok {
		u.home = entry.Home
	}
	if u.name == "" {
		u.name = strconv.FormatUint(uint64(u.uid), 10)
	}
	if u.home == "" {
		u.home = "/"
	}
	return u
}

func userByName(name string) (identity, bool) {
	e, ok := passwd.ByName(readDatabase("/etc/passwd"), name)
	return identity{uid: e.UID, name: e.Name, home: e.Home}, ok
}

// maxDatabase bounds what is read of a passwd or group file.
const maxDatabase = 1 << 20

// readDatabase returns the text of a regular file, nil if there is none. Only
// files are asked: no directory service a C library might know.
func readDatabase(path string) []byte {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Size > maxDatabase {
		return nil
	}
	text := make([]byte, st.Size)
	n := 0
	for n < len(text) {
		got, err := sys.Read(fd, text[n:])
		if err != nil || got == 0 {
			break
		}
		n += got
	}
	return text[:n]
}

// cached is how many names of each kind are remembered (pwcache.c, NCACHE).
const cached = 64

// names are those of ids, the last ones remembered, as pwcache.c does.
type names struct {
	users, groups [cached]struct {
		id    uint32
		known bool // the slot is in use
		found bool
		name  string
	}
}

func (n *names) userName(uid uint32) (string, bool) {
	c := &n.users[uid%cached]
	if !c.known || c.id != uid {
		e, ok := passwd.ByUID(readDatabase("/etc/passwd"), uid)
		c.id, c.known, c.found, c.name = uid, true, ok, e.Name
	}
	return c.name, c.found
}

func (n *names) groupName(gid uint32) (string, bool) {
	c := &n.groups[gid%cached]
	if !c.known || c.id != gid {
		name, ok := passwd.GroupName(readDatabase("/etc/group"), gid)
		c.id, c.known, c.found, c.name = gid, true, ok, name
	}
	return c.name, c.found
}

// user is a name to show, the number where there is none.
func (n *names) user(uid uint32) string {
	if name, ok := n.userName(uid); ok {
		return name
	}
	return strconv.FormatUint(uint64(uid), 10)
}

func (n *names) group(gid uint32) string {
	if name, ok := n.groupName(gid); ok {
		return name
	}
	return strconv.FormatUint(uint64(gid), 10)
}

// expandTilde expands ~ and ~user (misc.c, tilde_expand). why is empty if it
// could.
func (s *server) expandTilde(path string) (expanded, why string) {
	if !strings.HasPrefix(path, "~") {
		return path, ""
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	u := s.user
	if name != "" {
		var ok bool
		if u, ok = userByName(name); !ok {
			return "", "No such user " + name
		}
	}
	home := u.home
	if !strings.HasSuffix(home, "/") {
		home += "/"
	}
	if home += strings.TrimLeft(rest, "/"); len(home) > maxPath {
		return "", "Path too long"
	}
	return home, ""
}

// expandStart is the directory -d names: ~ as above, and %d, %u, %U and %%
// (sftp-server(8)).
func (s *server) expandStart() (dir, why string) {
	path, why := s.expandTilde(s.startDir)
	if why != "" {
		return "", why
	}
	var b []byte
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			b = append(b, path[i])
			continue
		}
		if i++; i == len(path) {
			return "", "invalid format"
		}
		switch path[i] {
		case '%':
			b = append(b, '%')
		case 'd':
			b = append(b, s.user.home...)
		case 'u':
			b = append(b, s.user.name...)
		case 'U':
			b = strconv.AppendUint(b, uint64(s.user.uid), 10)
		default:
			return "", "unknown key %" + path[i:i+1]
		}
	}
	return string(b), ""
}
