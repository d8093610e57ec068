package enter

import "jail/internal/wire"

// invocation is what a command line asks for. The environment, which a login may control,
// does not move the runtime directory.
type invocation struct {
	runtimeDir string
	login      bool // argv[0] began with a dash
	forced     bool // sshd's ForceCommand started us
	args       []string
}

// parse reads the command line of a login shell. Only two things are ours:
// "--forced" and "--runtime-dir DIR", as the first arguments. Everything else
// belongs to the shell inside, exactly as it is, whatever it looks like.
//
// sshd runs a ForceCommand through the account's shell; when that is jail-enter
// itself, the command arrives as "-c" and the ForceCommand's text, which is
// recognised here so that it is not run inside. No other use of an absolute path
// means ForceCommand: sshd's ~/.ssh/rc, ssh's ProxyCommand, git and vim start
// the shell by its path as well.
func parse(argv []string) invocation {
	in := invocation{runtimeDir: wire.RuntimeDir}
	if len(argv) == 0 {
		return in // execve(2) with an empty vector: an ordinary shell (CVE-2021-4034)
	}
	in.login = len(argv[0]) > 0 && argv[0][0] == '-'
	args := argv[1:]
	for len(args) > 0 {
		switch {
		case args[0] == "--forced":
			in.forced = true
			args = args[1:]
			continue
		case args[0] == "--runtime-dir" && len(args) > 1:
			in.runtimeDir = args[1]
			args = args[2:]
			continue
		}
		break
	}
	if len(args) == 2 && args[0] == "-c" && isForcedCommand(args[1]) {
		in.forced = true
		args = nil
	}
	in.args = args
	return in
}

// isForcedCommand reports whether s is the ForceCommand of sshd_config for this
// program: "[exec ]/PATH/jail-enter --forced".
func isForcedCommand(s string) bool {
	const exec, end = "exec ", "/jail-enter --forced"
	if len(s) > len(exec) && s[:len(exec)] == exec {
		s = s[len(exec):]
	}
	if len(s) < len(end) || s[len(s)-len(end):] != end || s[0] != '/' {
		return false
	}
	for i := 0; i < len(s)-len(" --forced"); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '/', c == '.', c == '_', c == '-', c == '+':
		default:
			return false
		}
	}
	return true
}

// lookup returns the value of a variable in env.
func lookup(env []string, name string) (string, bool) {
	for _, e := range env {
		if v, ok := value(e, name); ok {
			return v, true
		}
	}
	return "", false
}

// value returns the value of entry, NAME=VALUE, if its name is name.
func value(entry, name string) (string, bool) {
	if len(entry) > len(name) && entry[len(name)] == '=' && entry[:len(name)] == name {
		return entry[len(name)+1:], true
	}
	return "", false
}

// resolve turns a forced invocation into that of the shell sshd would have
// started: without SSH_ORIGINAL_COMMAND a login shell, with it, even empty,
// "-c" and the command (session.c:do_exec). The variable is believed only here;
// in a su it is a leftover of root's own login. two is memory for two arguments.
func (in *invocation) resolve(env, two []string) {
	if !in.forced {
		return
	}
	if cmd, ok := lookup(env, "SSH_ORIGINAL_COMMAND"); ok {
		two[0], two[1] = "-c", cmd
		in.login, in.args = false, two[:2]
	} else {
		in.login, in.args = true, nil
	}
}

// flags are those of the request.
func (in *invocation) flags() (f uint16) {
	if in.login {
		f |= wire.FlagLogin
	}
	if in.forced {
		f |= wire.FlagForced
	}
	return f
}
