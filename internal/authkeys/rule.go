package authkeys

import (
	"bytes"
	"errors"
	"strings"
)

// Limits of an authorized_keys file, for all who read one.
const (
	MaxFile  = 256 << 10 // bytes
	MaxLines = 1000      // further ones do not count
)

var (
	// ErrAmbiguous: several lines of the key say different things, and which
	// one counted depends on what sshd alone knows.
	ErrAmbiguous = errors.New("several lines of the key that authenticated differ in command=; keep one of them")
	// ErrTwoCommands: several keys were needed, and each wants another command.
	ErrTwoCommands = errors.New("the keys that authenticated have different command= options")
	// ErrTwoForced: a line and a certificate it covers, as sshd refuses them
	// itself (auth-options.c:sshauthopt_merge).
	ErrTwoForced = errors.New("the certificate and its line in authorized_keys have different commands")
	// ErrUnknownKey: the login may be restricted, and it cannot be found out.
	ErrUnknownKey = errors.New("a key or certificate may have a command of its own, and sshd does not say which one authenticated; set ExposeAuthInfo yes in sshd_config")
	// ErrUnreadable: sshd says which key authenticated, in a form not understood.
	ErrUnreadable = errors.New("the key or certificate that authenticated cannot be read, and it may have a command of its own; use another")
	// ErrNoLine: a key authenticated that is not in the file.
	ErrNoLine = errors.New("no line of authorized_keys has the key that authenticated")
)

// Rule returns the command that holds for a login, a key's command= or a
// certificate's force-command: the second look that is needed because sshd drops
// both under a ForceCommand.
//
// text is the account's authorized_keys, auth the lines of SSH_USER_AUTH
// (sshd_config(5), ExposeAuthInfo), and known is false if there were none to be
// had. A login by a password alone has no rule.
//
// A restriction is never lost. Each key that authenticated must have a line in the
// file, as it had when sshd was told of it; otherwise the answer is an error, unless
// elsewhere says that the administrator keeps keys in other places too: then a key
// without a line was authenticated by something not in this file, and only a
// certificate's own command holds. Where it is not known which key it was, the answer
// is an error if any key could have a command: the file has a command= or names an
// authority, whose certificates may have one, or there are keys elsewhere.
func Rule(text []byte, auth [][]byte, known, elsewhere bool) (command string, has bool, err error) {
	used := methods(auth)
	if !known || len(used) == 0 {
		if elsewhere || restricts(text) {
			return "", false, ErrUnknownKey
		}
		return "", false, nil
	}
	for _, f := range used {
		if !isKey(f[0]) {
			continue
		}
		c, ok, err := commandOf(text, f[1:], elsewhere)
		if err != nil {
			return "", false, err
		}
		if !ok {
			continue
		}
		if has && c != command {
			return "", false, ErrTwoCommands
		}
		command, has = c, true
	}
	return command, has, nil
}

// ByKey reports whether Rule needs the file for these lines.
func ByKey(auth [][]byte) bool {
	said := false
	for _, line := range auth {
		line = bytes.TrimSpace(line)
		if bytes.HasPrefix(line, []byte("publickey")) { // as isKey
			return true
		}
		said = said || len(line) > 0
	}
	return !said
}

// methods are the words of each method that was used
// (auth2.c:auth2_update_session_info).
func methods(auth [][]byte) (all [][]string) {
	for _, line := range auth {
		if f := strings.Fields(string(line)); len(f) > 0 {
			all = append(all, f)
		}
	}
	return all
}

// isKey reports whether a method is that of keys, by whatever name sshd may come to
// give it ("publickey-hostbound-v00@openssh.com" is one in the protocol).
func isKey(method string) bool { return strings.HasPrefix(method, "publickey") }

// commandOf is Rule for one key, of which sshd noted these words.
func commandOf(text []byte, words []string, elsewhere bool) (command string, has bool, err error) {
	if len(words) < 2 {
		return "", false, ErrUnreadable
	}
	offer, err := ParseOffer(words[0], words[1])
	switch _, cert := plainType(words[0]); {
	case errors.Is(err, ErrType) && !cert && elsewhere:
		// No line of this file: a type that is not known here is never shown to sshd.
		return "", false, nil
	case errors.Is(err, ErrType) && !cert:
		return "", false, ErrNoLine
	case err != nil:
		return "", false, ErrUnreadable
	}
	command, has, matched, err := ruleFor(text, offer)
	if err != nil {
		return "", false, err
	}
	if !matched && !elsewhere {
		return "", false, ErrNoLine
	}
	if offer.HasCommand {
		if has && command != offer.Command {
			return "", false, ErrTwoForced
		}
		command, has = offer.Command, true
	}
	return command, has, nil
}

// Lines calls yield with the number, from 1, of each line of a file that counts, and
// with what Parse says of it. It returns whether there were more than MaxLines.
func Lines(text []byte, yield func(n int, k *Key, err error) (more bool)) (cut bool) {
	for n := 1; len(text) > 0; n++ {
		if n > MaxLines {
			return true
		}
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		k, err := Parse(line)
		if !yield(n, &k, err) {
			break
		}
	}
	return false
}

// restricts reports whether a login by a key of the file may have a command.
func restricts(text []byte) (found bool) {
	Lines(text, func(_ int, k *Key, err error) bool {
		found = err == nil && (k.HasCommand || k.CertAuthority)
		return !found
	})
	return found
}

// ruleFor goes through the lines of one key as sshd does: the first that matches
// and authorises decides. Whether one with a condition authorised is not decided
// here a second time; where it makes a difference the answer is an error.
func ruleFor(text []byte, o Offer) (command string, has, matched bool, err error) {
	Lines(text, func(_ int, k *Key, bad error) bool {
		if bad != nil || !k.Matches(o) {
			return true
		}
		if matched && (k.HasCommand != has || k.Command != command) {
			err = ErrAmbiguous
			return false
		}
		command, has, matched = k.Command, k.HasCommand, true
		return k.HasFrom || k.HasPrincipals || len(k.ExpiryTimes) > 0 || o.CA != nil
	})
	if err != nil {
		return "", false, true, err
	}
	return command, has, matched, nil
}
