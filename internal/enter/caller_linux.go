package enter

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/wire"
)

// command is what was asked for, for the records: what is behind -c, or all arguments; nothing of a
// login's shell. A part of one that is longer than they have room for.
func (s *session) command() []byte {
	args := s.in.args
	if len(args) == 2 && args[0] == "-c" {
		args = args[1:]
	}
	if len(args) == 1 {
		return sys.Bytes(args[0])
	}
	text := s.acceptText[:0] // what it was for is over
	for i, a := range args {
		if i > 0 && len(text) < cap(text) {
			text = append(text, ' ')
		}
		text = append(text, a[:min(len(a), cap(text)-len(text))]...)
	}
	return text
}

// tellCaller tells the host's supervisor who has called, for its records: where from, by
// which key, on which terminal. The command runs by then, and nobody waits for this: a
// supervisor that is not there, is older or is busy goes without.
func (s *session) tellCaller(env []string) {
	if s.in.runtimeDir == "" { // the administrator's
		if s.told != nil {
			s.told(s.pid)
		}
		return
	}
	c := wire.Caller{PID: s.pid, SSHD: s.in.fromSSHD(env)}
	if c.SSHD {
		connection, _ := lookup(env, "SSH_CONNECTION")
		c.Connection = sys.Bytes(connection)
		if path, ok := lookup(env, "SSH_USER_AUTH"); ok && s.req.Flags&wire.FlagAuthKnown == 0 {
			readAuth(&s.req, path, s.authText[:], s.auth[:0])
		}
		c.Auth = s.req.Auth
	}
	if s.ttyFD >= 0 {
		var st syscall.Stat_t
		if sys.Fstat(s.ttyFD, &st) == 0 {
			c.TTY = st.Rdev
		}
	}
	c.Command = s.command()
	packet := wire.AppendCaller(s.packet[:0], &c)
	if sys.SendTo(loginPath(s.pathText[:0], s.in.runtimeDir, syscall.Getuid(), wire.CallsName), packet) == 0 {
		return
	}
	path := append(append(append(s.pathText[:0], s.in.runtimeDir...), '/'), wire.CallerName...)
	fd, e := sys.ConnectAt(syscall.SOCK_SEQPACKET, path)
	if e == syscall.ENOENT || e == syscall.ECONNREFUSED {
		fd, e = sys.ConnectAt(syscall.SOCK_SEQPACKET, loginPath(s.pathText[:0], s.in.runtimeDir, syscall.Getuid(), wire.CallerName))
	}
	if e != 0 {
		return
	}
	_ = sys.SendMsg(fd, packet, nil, false, &s.m)
	sys.Close(fd)
}
