package login

import (
	"jail/internal/authkeys"
	"jail/internal/wire"
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

// RuleOf returns the rule that holds for a login, as authkeys.Rule does. text is the
// user's authorized_keys, or empty where there is none.
func RuleOf(keys wire.Keys, text []byte, a Auth) (Rule, error) {
	command, forced, err := authkeys.Rule(text, a.Lines, a.Known, keys == wire.KeysAnywhere)
	return Rule{command, forced}, err
}
