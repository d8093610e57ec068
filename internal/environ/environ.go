// Package environ decides which variables of a login's environment may enter a
// jail. jail-enter asks before it sends, PID 1 asks again before it uses: an
// allow-list, because what is dangerous to some program inside cannot be listed
// (docs/threat-model.md, S6).
package environ

// allowed are the names that pass; a trailing * stands for any ending.
var allowed = []string{
	"TERM", "COLORTERM", "LANG", "LANGUAGE", "LC_*",
	"SSH_CONNECTION", "SSH_CLIENT", "GIT_PROTOCOL", MotdShown,
}

// MotdShown is what the host's PAM sets when it has shown the host's message of
// the day, which is at a login and not in a su (pam_motd(8)). PID 1 learns from
// it that this is a login; it does not reach the session.
const MotdShown = "MOTD_SHOWN"

// Name returns the name of a NAME=VALUE entry, or "" if it has none that a
// shell would take: [A-Za-z_][A-Za-z0-9_]*.
func Name(entry []byte) []byte {
	for i, c := range entry {
		switch {
		case c == '=' && i > 0:
			return entry[:i]
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '_':
		case i > 0 && c >= '0' && c <= '9':
		default:
			return nil
		}
	}
	return nil
}

// Enters reports whether entry, NAME=VALUE, may enter a jail: because it always may, or
// because one of the patterns lets it in.
func Enters(entry []byte, patterns []string) bool {
	name := Name(entry)
	if name == nil || catalogues(name, entry) {
		return false
	}
	return always(name) || accepted(name, patterns)
}

// always reports whether a name is on the list.
func always(name []byte) bool {
	for _, a := range allowed {
		if n := len(a) - 1; a[n] == '*' {
			if len(name) > n && string(name[:n]) == a[:n] {
				return true
			}
		} else if string(name) == a {
			return true
		}
	}
	return false
}

// catalogues reports whether entry is a LANGUAGE with a path in it. gettext(3) looks
// for catalogues there, which is to say that it takes the format strings of programs
// from a file of the client's choice, those of a key's command= among them. glibc
// passes over such a value in set-uid programs only (intl/dcigettext.c), and some
// distributions' sshd_config accepts it.
func catalogues(name, entry []byte) bool {
	if string(name) != "LANGUAGE" {
		return false
	}
	for _, c := range entry {
		if c == '/' {
			return true
		}
	}
	return false
}
