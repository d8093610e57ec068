package environ

// AcceptFile is the name of the file, beside a login's socket, that lists what
// may enter besides the usual variables: one pattern on each line. It belongs to
// who made the socket and is absent if there is nothing to list.
const AcceptFile = "env_accept"

// Limits of what AcceptFile may hold.
const (
	MaxAccept     = 64      // patterns
	MaxAcceptFile = 8 << 10 // bytes
)

// reserved are the names no pattern lets in: what the jail sets itself, and what
// makes a shell or the loader do something before the first command, which would
// get around the command= of a key. A trailing * stands for any ending.
var reserved = []string{
	"HOME", "USER", "LOGNAME", "SHELL", "PATH", "MAIL", "PWD", "OLDPWD", "SHLVL", "_", "IFS",
	"ENV", "BASH_*", "BASHOPTS", "SHELLOPTS", "ZDOTDIR", "XDG_CONFIG_*", "XDG_DATA_*", "SSH_*", "LD_*", "GLIBC_TUNABLES",
	"GCONV_PATH", "LOCPATH", "NLSPATH", "MOTD_SHOWN", "XDG_RUNTIME_DIR",
}

// Reserved reports whether a pattern, NAME or NAME*, stands for a name that may
// never enter.
func Reserved(pattern string) bool {
	p, star := cutStar(pattern)
	for _, r := range reserved {
		name, any := cutStar(r)
		switch {
		case p == name,
			any && begins(p, name),
			star && begins(name, p):
			return true
		}
	}
	return false
}

// Accepted reports whether entry, NAME=VALUE, is let in by one of the patterns.
func Accepted(entry []byte, patterns []string) bool {
	if len(patterns) == 0 {
		return false
	}
	name := Name(entry)
	if name == nil || reservedName(name) || catalogues(name, entry) {
		return false
	}
	for _, p := range patterns {
		if matches(p, name) {
			return true
		}
	}
	return false
}

func reservedName(name []byte) bool {
	for _, r := range reserved {
		if matches(r, name) {
			return true
		}
	}
	return false
}

// matches reports whether the pattern stands for name. What * stands for is not
// empty.
func matches(pattern string, name []byte) bool {
	p, star := cutStar(pattern)
	if star {
		return len(name) > len(p) && string(name[:len(p)]) == p
	}
	return string(name) == p
}

// Patterns takes AcceptFile's text apart. A file that is not as it should be is
// worth nothing.
func Patterns(text []byte) []string {
	if len(text) > MaxAcceptFile {
		return nil
	}
	var list []string
	for start, i := 0, 0; i < len(text); i++ {
		if text[i] != '\n' {
			continue
		}
		p, _ := cutStar(string(text[start:i]))
		if len(list) == MaxAccept || len(Name([]byte(p+"="))) == 0 {
			return nil
		}
		list = append(list, string(text[start:i]))
		start = i + 1
	}
	return list
}

func cutStar(s string) (string, bool) {
	if n := len(s) - 1; n >= 0 && s[n] == '*' {
		return s[:n], true
	}
	return s, false
}

func begins(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }
