package e2e

import "regexp"

// difference is something that is not as with plain sshd, on purpose: the two
// sides are compared after its expressions have been cut out of what the
// session printed. A side without an expression is left as it is.
type difference struct {
	reason          string
	onPlain, onJail *regexp.Regexp
}

func (d difference) plain(s string) string { return cut(d.onPlain, s) }
func (d difference) jail(s string) string  { return cut(d.onJail, s) }

func cut(re *regexp.Regexp, s string) string {
	if re == nil {
		return s
	}
	return re.ReplaceAllString(s, "")
}

// differences are all of them; a test names those it accepts.
var differences = map[string]difference{
	"PATH": {
		reason:  "sshd's own PATH is compiled in for the host's layout; inside it is what the jail's login.defs says",
		onPlain: regexp.MustCompile(`(?m)^PATH=.*\n`),
		onJail:  regexp.MustCompile(`(?m)^PATH=.*\n`),
	},
}
