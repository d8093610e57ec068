package environ

// AcceptFile is the name of the file, beside a login's socket, that lists what
// may enter besides the usual variables: one pattern on each line. It belongs to
// who made the socket and is absent if there is nothing to list.
const AcceptFile = "env_accept"

// First lines of AcceptFile that make jail-enter connect to the recorder, where the
// session is on a terminal: with what is printed there, and also with what is typed. No
// pattern begins like them.
const (
	RecordOutput = "!record\n"
	RecordInput  = "!record input\n"
)

// RecordLine is the one that says so, "" where a session is not recorded.
func RecordLine(record, input bool) string {
	switch {
	case !record:
		return ""
	case input:
		return RecordInput
	}
	return RecordOutput
}

// Recorded takes such a line off the text of AcceptFile.
func Recorded(text string) (output, input bool, patterns string) {
	switch {
	case begins(text, RecordOutput):
		return true, false, text[len(RecordOutput):]
	case begins(text, RecordInput):
		return true, true, text[len(RecordInput):]
	}
	return false, false, text
}

// Limits of what AcceptFile may hold.
const (
	MaxAccept     = 64      // patterns
	MaxAcceptFile = 8 << 10 // bytes

	maxName  = 64  // bytes of a pattern
	maxStars = 4   // * of a pattern
	maxMatch = 128 // bytes of a name that a pattern may stand for
)

// reserved are the names no pattern lets in: what the jail sets itself, and what
// makes a shell or the loader do something before the first command, which would
// get around the command= of a key.
var reserved = []string{
	"HOME", "USER", "LOGNAME", "SHELL", "PATH", "MAIL", "PWD", "OLDPWD", "SHLVL", "_", "IFS",
	"ENV", "BASH_*", "BASHOPTS", "SHELLOPTS", "ZDOTDIR", "XDG_CONFIG_*", "XDG_DATA_*", "SSH_*", "LD_*", "GLIBC_TUNABLES",
	"GCONV_PATH", "LOCPATH", "NLSPATH", "MOTD_SHOWN", "XDG_RUNTIME_DIR",
}

// Reserved reports whether a pattern may stand for a name that may never enter.
func Reserved(pattern string) bool {
	for _, r := range reserved {
		if meet(pattern, r) {
			return true
		}
	}
	return false
}

// meet reports whether there is a name that both patterns stand for.
func meet(a, b string) bool {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] == '*':
			// It stands for nothing, or for one more character of what b does.
			return meet(a[1:], b) || meet(a, b[1:])
		case b[0] == '*':
			return meet(a, b[1:]) || meet(a[1:], b)
		case a[0] != b[0] && a[0] != '?' && b[0] != '?':
			return false
		}
		a, b = a[1:], b[1:]
	}
	return onlyStars(a) && onlyStars(b)
}

func onlyStars(s string) bool {
	for i := range len(s) {
		if s[i] != '*' {
			return false
		}
	}
	return true
}

// ValidPattern reports whether s may be a pattern: a variable's name, in which * and ?
// may stand for others. More than maxStars * would take long to tell from what is reserved.
func ValidPattern(s string) bool {
	stars := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '*':
			stars++
		case c == '?', c == '_', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', i > 0 && c >= '0' && c <= '9':
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxName && stars <= maxStars
}

// accepted reports whether a name is let in by one of the patterns.
func accepted(name []byte, patterns []string) bool {
	if len(patterns) == 0 || reservedName(name) {
		return false
	}
	for _, p := range patterns {
		if matches(p, name) {
			return true
		}
	}
	return false
}

// Matches reports whether a pattern of * and ? stands for name, as in ssh_config(5),
// PATTERNS.
func Matches(pattern, name string) bool { return matches(pattern, []byte(name)) }

func reservedName(name []byte) bool {
	for _, r := range reserved {
		if matches(r, name) {
			return true
		}
	}
	return false
}

// matches reports whether the pattern stands for name, as sshd's AcceptEnv does
// (ssh_config(5), PATTERNS; match.c:match_pattern): * for any characters or none, ?
// for one.
func matches(pattern string, name []byte) bool {
	if len(name) > maxMatch {
		return false
	}
	p, n := 0, 0
	star, from := -1, 0 // the last *, and where what follows it was tried
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p, n = p+1, n+1
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	return onlyStars(pattern[p:])
}

// Patterns takes AcceptFile's text apart and appends its patterns, which are parts of
// it, to dst: with room for MaxAccept nothing is allocated. A file that is not as it
// should be is worth nothing.
func Patterns(dst []string, text string) []string {
	if len(text) > MaxAcceptFile {
		return nil
	}
	list := dst[:0]
	for start, i := 0, 0; i < len(text); i++ {
		if text[i] != '\n' {
			continue
		}
		if len(list) == MaxAccept || !ValidPattern(text[start:i]) {
			return nil
		}
		list = append(list, text[start:i])
		start = i + 1
	}
	return list
}

func begins(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }
