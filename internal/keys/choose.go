package keys

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"jail/internal/authkeys"
)

// bindingFor returns what every printed key is bound to, the ForceCommand that
// jail-enter knows as its own. jail-enter stands beside this program:
// PREFIX/lib/jail/jail-keys, PREFIX/bin/jail-enter.
func bindingFor(self string, err error) string {
	prefix, ok := strings.CutSuffix(self, "/lib/jail/jail-keys")
	if err != nil || !ok || strings.ContainsFunc(prefix, func(r rune) bool {
		return !(r == '/' || r == '.' || r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		prefix = "/usr"
	}
	return "exec " + prefix + "/bin/jail-enter --forced"
}

// choose returns the lines of an authorized_keys file that sshd may see, all
// of them or those for the offered key, and a note when some were left out.
//
// forced says that sshd has a ForceCommand for whoever asks. Then a certificate
// with a command of its own, which is looked at again inside, need not be refused
// for it; every other line is bound as ever.
func choose(text []byte, offer *authkeys.Offer, forced bool) (out []byte, note string) {
	binding := bindingFor(os.Executable())
	if forced && offer != nil && offer.HasCommand {
		binding = ""
	}
	var firstBad string
	cut := authkeys.Lines(text, func(n int, key *authkeys.Key, err error) bool {
		switch {
		case err == nil && (offer == nil || key.Matches(*offer)):
			out = append(out, key.Encode(binding)...)
			out = append(out, '\n')
		case err != nil && firstBad == "" && !errors.Is(err, authkeys.ErrBlank):
			firstBad = fmt.Sprintf("line %d ignored: %v", n, err)
		}
		return true
	})
	if cut {
		firstBad = fmt.Sprintf("only the first %d lines count", authkeys.MaxLines)
	}
	// A bad line is worth a word only to somebody who misses a key.
	if offer == nil || len(out) == 0 {
		return out, firstBad
	}
	return out, ""
}
