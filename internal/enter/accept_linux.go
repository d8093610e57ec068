package enter

import (
	"syscall"

	"jail/internal/environ"
	"jail/internal/sys"
)

// accept returns the patterns of what may enter besides the usual variables, from
// the file that the maker of our socket has put beside it. The same file says whether the
// session is recorded, for which it is not opened twice.
func (s *session) accept(env []string) []string {
	if s.in.runtimeDir == "" {
		return nil
	}
	sshd := s.in.fromSSHD(env)
	if !sshd && s.ttyFD < 0 {
		return nil
	}
	path := append(loginPath(s.packet[:0], s.in.runtimeDir, syscall.Getuid(), environ.AcceptFile), 0)
	output, input, patterns := environ.Recorded(readAccept(path, s.acceptText[:]))
	s.recorder.wanted, s.recorder.input = output && s.ttyFD >= 0, input
	if !sshd {
		return nil
	}
	return environ.Patterns(s.patterns[:0], patterns)
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

// readAccept reads the file whose name, with a NUL, path is.
// One that belongs to somebody else than root or ourselves, or that others can write,
// counts as empty. text is memory to use.
func readAccept(path, text []byte) string {
	fd, e := sys.OpenNoWait(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY)
	if e != 0 {
		return ""
	}
	text = readRegular(fd, text, true)
	sys.Close(fd)
	return sys.String(text)
}

// readRegular reads a regular file into text, of this uid's, or root's where that
// counts, that nobody else can write to; nil if it is none, or does not leave room
// there, or cannot be read whole.
func readRegular(fd int, text []byte, root bool) []byte {
	var st syscall.Stat_t
	if sys.Fstat(fd, &st) != 0 || st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Mode&0o022 != 0 || st.Size >= int64(len(text)) {
		return nil
	}
	if st.Uid != uint32(syscall.Geteuid()) && !(root && st.Uid == 0) {
		return nil
	}
	n, err := sys.Read(fd, text)
	if err != nil || int64(n) != st.Size {
		return nil
	}
	return text[:n]
}
