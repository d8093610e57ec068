package login

import (
	"jail/internal/authkeys"
)

// Keys says where the keys may be kept by which somebody logs in.
type Keys uint8

// The values of Keys.
const (
	// KeysInside: in authorized_keys inside the jail. A login by any other key that
	// sshd has accepted is refused.
	KeysInside Keys = iota
	// KeysAnywhere: sshd may also have keys and authorities of its own, which no
	// file inside has to name.
	KeysAnywhere
)

// Auth is what sshd says of how somebody authenticated.
type Auth struct {
	Lines [][]byte // of SSH_USER_AUTH (sshd_config(5), ExposeAuthInfo)
	Known bool     // Lines is what sshd noted; otherwise it says nothing
}

// Rule is what a key demands.
type Rule struct {
	// Command runs instead of what the client asks for, if Forced.
	Command string
	Forced  bool
}

// NeedsKeys reports whether a Rule depends on authorized_keys: not if sshd says that
// no key was involved.
func (a Auth) NeedsKeys() bool { return !a.Known || authkeys.ByKey(a.Lines) }

// Rule returns the rule that holds for a login, as authkeys.Rule does. text is the
// user's authorized_keys, or empty where there is none.
func (k Keys) Rule(text []byte, a Auth) (Rule, error) {
	command, forced, err := authkeys.Rule(text, a.Lines, a.Known, k == KeysAnywhere)
	return Rule{command, forced}, err
}
