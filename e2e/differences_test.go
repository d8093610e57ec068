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
	"host shell": {
		reason:  "sshd itself complains of the login's shell, which is jail-enter on the host",
		onPlain: regexp.MustCompile(`^/bin/bash: `),
		onJail:  regexp.MustCompile(`^` + enterPath + `: `),
	},
	"pipes": {
		reason:  "sshd's pipes are the host uid's, who is nobody in the jail's user namespace; jail-enter opens their mode so that /dev/stdout can still be opened",
		onPlain: regexp.MustCompile(`(?m) work 600$`),
		onJail:  regexp.MustCompile(`(?m) nobody 666$`),
	},
}
