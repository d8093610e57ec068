package enter

import (
	"syscall"

	"jail/internal/environ"
	"jail/internal/sys"
)

// accept returns the patterns of what may enter besides the usual variables, from
// the file that the maker of our socket has put beside it.
func (in *invocation) accept(env []string) []string {
	if in.runtimeDir == "" || !in.fromSSHD(env) {
		return nil
	}
	return readAccept(string(loginPath(nil, in.runtimeDir, syscall.Getuid(), environ.AcceptFile)))
}

// fromSSHD reports whether sshd started us, so that what is in the environment is
// the client's or PAM's. In a su it is root's, from whose own login SSH_CONNECTION
// may be left over; but then there was a shell in between, and every shell exports
// PWD, which sshd does not set (session.c:do_setup_env).
func (in *invocation) fromSSHD(env []string) bool {
	if in.forced {
		return true
	}
	if len(in.args) != 0 && (len(in.args) != 2 || in.args[0] != "-c") {
		return false
	}
	for _, name := range [...]string{"PWD", "OLDPWD", "SHLVL", "SUDO_USER", "SUDO_UID"} {
		if _, ok := lookup(env, name); ok {
			return false
		}
	}
	_, ok := lookup(env, "SSH_CONNECTION")
	return ok
}

// readAccept reads a list of patterns. One that belongs to somebody else than root
// or ourselves, or that others can write, counts as none.
func readAccept(path string) []string {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Mode&0o022 != 0 ||
		st.Uid != 0 && st.Uid != uint32(syscall.Geteuid()) || st.Size > environ.MaxAcceptFile {
		return nil
	}
	text := make([]byte, st.Size+1)
	n, err := sys.Read(fd, text)
	if err != nil || int64(n) != st.Size {
		return nil
	}
	return environ.Patterns(text[:n])
}
