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
	ErrUnknownKey = errors.New("a key in authorized_keys has a command= option, and it is not known which key authenticated; set ExposeAuthInfo yes in sshd_config")
)

// Rule returns the command that holds for a login, a key's command= or a
// certificate's force-command: the second look that is needed because sshd drops
// both under a ForceCommand.
//
// text is the account's authorized_keys, auth the lines of SSH_USER_AUTH
// (sshd_config(5), ExposeAuthInfo), and known is false if there were none to be
// had. A login that no key of the file is responsible for, by a password or by a
// key the administrator keeps elsewhere, has no rule; but where the responsible
// key cannot be told and any key of the file has a command, the answer is an
// error: a restriction is never lost.
func Rule(text []byte, auth [][]byte, known bool) (command string, has bool, err error) {
	keys, anyCommand := parseAll(text)
	if !known {
		if anyCommand {
			return "", false, ErrUnknownKey
		}
		return "", false, nil
	}
	for _, line := range auth {
		f := strings.Fields(string(line))
		if len(f) == 0 || f[0] != "publickey" {
			continue
		}
		if len(f) < 3 {
			if anyCommand {
				return "", false, ErrUnknownKey
			}
			continue
		}
		offer, err := ParseOffer(f[1], f[2])
		if err != nil {
			if anyCommand || strings.Contains(f[1], "-cert-") {
				return "", false, ErrUnknownKey
			}
			continue
		}
		c, ok, matched, err := ruleFor(keys, offer)
		if err != nil {
			return "", false, err
		}
		if !matched && anyCommand {
			return "", false, ErrUnknownKey
		}
		if offer.HasCommand {
			if ok && c != offer.Command {
				return "", false, ErrTwoForced
			}
			c, ok = offer.Command, true
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

func parseAll(text []byte) (keys []Key, anyCommand bool) {
	for n := 0; len(text) > 0 && n < MaxLines; n++ {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		if k, err := Parse(line); err == nil {
			keys = append(keys, k)
			anyCommand = anyCommand || k.HasCommand
		}
	}
	return keys, anyCommand
}

// ruleFor goes through the lines of one key as sshd does: the first that matches
// and authorises decides. Whether one with a condition authorised is not decided
// here a second time; where it makes a difference the answer is an error.
func ruleFor(keys []Key, o Offer) (command string, has, matched bool, err error) {
	for i := range keys {
		k := &keys[i]
		if !k.Matches(o) {
			continue
		}
		if matched && (k.HasCommand != has || k.Command != command) {
			return "", false, true, ErrAmbiguous
		}
		command, has, matched = k.Command, k.HasCommand, true
		if !k.HasFrom && !k.HasPrincipals && len(k.ExpiryTimes) == 0 && o.CA == nil {
			break
		}
	}
	return command, has, matched, nil
}
