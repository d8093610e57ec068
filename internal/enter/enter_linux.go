// Package enter is the program jail-enter: one end of a login, on the host, with
// the login's own uid and no privilege.
//
// What is printed where: standard output carries nothing but the session's
// bytes. Standard error carries the session's and, if there is no session or its
// jail goes away, one line of ours. The exit status is the command's, or 125.
//
// It is started for every login and there is one for every session, so its
// imports are a reviewed list (cmd/jail-enter/testdata/deps.txt).
package enter

import (
	"syscall"

	"jail/internal/environ"
	"jail/internal/sys"
	"jail/internal/tty"
	"jail/internal/wire"
)

// exitFailure is the status of every failure of ours.
const exitFailure = 125

// How long to go on trying while a jail or its supervisor restarts, and how
// long to wait for an answer, in milliseconds.
const (
	retryConnect = 2_000
	retryAnswer  = 15_000
	retryPause   = 20
	answerWait   = 60_000
)

// session is one login's state.
type session struct {
	in   invocation
	dial func() (int, error)
	req  wire.Request
	pass []int // descriptors that travel with the request
	m    sys.MsgBuf

	conn    int
	signals int // pipe of caught signals
	pid     uint32
	master  int

	ttyFD    int // the caller's terminal; -1 without
	modes    wire.Termios
	raw      bool
	termIn   int // descriptor to read keys from; -1 if stdin is no terminal
	termOut  int // descriptor to write the terminal's output to
	outIsDup bool

	relays []*relay

	own [3]bool // descriptors that were passed themselves

	sshd  bool // sshd has started us, as far as can be told
	agent agent
	watch bool // say when nobody reads standard error any more
}

// Run is the program. It returns the exit status, or does not return when the
// session died of a signal.
func Run(argv, env []string) int {
	_ = sys.SetDumpable(false) // other processes of this uid are the tenant's
	in := parse(argv)
	in.resolve(env)
	path := loginPath(nil, in.runtimeDir, syscall.Getuid(), "sock")
	if len(path) > 107 { // unix(7)
		return complain("cannot enter the jail: the path of its control socket is too long")
	}
	return enter(in, env, true, func() (int, error) {
		fd, e := sys.ConnectAt(path)
		if e != 0 {
			return -1, e
		}
		return fd, nil
	})
}

// loginPath appends the path of a file in uid's directory below dir to dst.
func loginPath(dst []byte, dir string, uid int, name string) []byte {
	var digits [20]byte
	i := len(digits)
	for i--; ; i-- {
		digits[i] = byte('0' + uid%10)
		if uid /= 10; uid == 0 {
			break
		}
	}
	return append(append(append(append(append(dst, dir...), '/'), digits[i:]...), '/'), name...)
}

// Attach is a session for the administrator, on a connection dial makes: the
// shell's arguments are args, and it is a login shell if login is true.
func Attach(dial func() (int, error), login bool, args, env []string) int {
	return enter(invocation{login: login, args: args}, env, false, dial)
}

// enter is a session; mayForward is whether it has what sshd forwards for it.
func enter(in invocation, env []string, mayForward bool, dial func() (int, error)) int {
	s := &session{in: in, dial: dial, conn: -1, master: -1, ttyFD: -1, termIn: -1, termOut: -1, agent: agent{listener: -1}}
	if mayForward {
		connection, _ := lookup(env, "SSH_CONNECTION")
		s.sshd = connection != ""
	}
	if err := s.prepare(env); err != "" {
		return complain("cannot enter the jail: " + err)
	}
	packet, err := wire.AppendRequest(nil, &s.req)
	if err != nil {
		return complain("cannot enter the jail: the command line and environment are too long")
	}
	status, done := s.begin(packet)
	if done {
		return status
	}
	return s.relay()
}

// prepare fills in the request.
func (s *session) prepare(env []string) string {
	s.req.Flags |= s.in.flags()
	if s.in.forced {
		if path, ok := lookup(env, "SSH_USER_AUTH"); ok {
			readAuth(&s.req, path, make([]byte, maxAuthFile+1), nil)
		}
	}
	if !s.in.forced {
		s.originalCommand(env)
	}
	s.req.Args = make([][]byte, 0, len(s.in.args))
	for _, a := range s.in.args {
		s.req.Args = append(s.req.Args, []byte(a))
	}
	accept := s.in.accept(env)
	for _, e := range env {
		b := []byte(e)
		if (environ.Allowed(b) || environ.Accepted(b, accept)) && len(b) <= wire.MaxString && len(s.req.Env) < wire.MaxEnv {
			s.req.Env = append(s.req.Env, b)
		}
	}
	if s.sshd {
		if s.agent.path = agentPath(env); s.agent.path != "" {
			s.req.Flags |= wire.FlagAgent
		}
		s.addDisplay(env)
	}
	for fd := 0; fd < 3; fd++ {
		if err := s.classify(fd); err != nil {
			return err.Error()
		}
	}
	if s.ttyFD < 0 {
		return ""
	}
	s.req.Winsize, _ = tty.GetWinsize(s.ttyFD)
	s.req.Termios = s.modes
	if s.termIn < 0 {
		// Nothing of ours makes this terminal raw, so it goes on processing
		// output and echoing by itself; the one inside must not do it too.
		s.req.Termios.Oflag &^= syscall.OPOST
	}
	return ""
}

// originalCommand passes on what the client of a key with a command= had asked for,
// where sshd runs that command through the login shell. Under a su the variable is
// a leftover of root's login; that sshd set it for this one is known by
// SSH_USER_AUTH, whose file is this uid's own. With Attach root is this uid, and the
// command root's business.
func (s *session) originalCommand(env []string) {
	if s.in.runtimeDir == "" {
		return
	}
	original, ok := lookup(env, "SSH_ORIGINAL_COMMAND")
	auth, known := lookup(env, "SSH_USER_AUTH")
	if !ok || !known {
		return
	}
	var probe wire.Request
	readAuth(&probe, auth, make([]byte, maxAuthFile+1), nil)
	if probe.Flags&wire.FlagAuthKnown == 0 {
		return
	}
	s.req.Flags |= wire.FlagOriginal
	s.req.Env = append(s.req.Env, []byte("SSH_ORIGINAL_COMMAND="+original))
}

// maxAuthFile is the most that is read of SSH_USER_AUTH's file.
const maxAuthFile = 64 << 10

// readAuth reads how the login authenticated. The jail needs it to find the key
// again, whose command= sshd has dropped in favour of ForceCommand. A file that
// is not sshd's (session.c:prepare_auth_info_file makes it for this uid alone)
// counts as none. text and lines are memory to use.
func readAuth(req *wire.Request, path string, text []byte, lines [][]byte) {
	if len(path) >= len(text) {
		return
	}
	text[copy(text, path)] = 0
	fd, e := sys.OpenNoWait(text, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY)
	if e != 0 {
		return
	}
	var st syscall.Stat_t
	e = sys.Fstat(fd, &st)
	n, err := 0, error(nil)
	if e == 0 && st.Mode == syscall.S_IFREG|0o600 && st.Uid == uint32(syscall.Geteuid()) {
		n, err = sys.Read(fd, text)
	}
	sys.Close(fd)
	if err != nil || n <= 0 || n > maxAuthFile || int64(n) != st.Size {
		return
	}
	start := 0
	for i, c := range text[:n] {
		if c == 0 || len(lines) == wire.MaxAuth {
			return
		}
		if c == '\n' {
			lines = append(lines, text[start:i])
			start = i + 1
		}
	}
	req.Auth = lines
	req.Flags |= wire.FlagAuthKnown
}

// source is what one of the caller's descriptors is.
type source uint8

const (
	nothing  source = iota // closed
	passable               // a pipe or a stream socket
	null                   // the host's /dev/null
	device                 // another character device, perhaps a terminal
	other
)

// judge says what fd is, and prepares a pipe for being passed.
func judge(fd int) source {
	var st syscall.Stat_t
	if sys.Fstat(fd, &st) != 0 {
		return nothing
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFIFO:
		var fs syscall.Statfs_t
		if sys.Fstatfs(fd, &fs) != 0 || fs.Type != 0x50495045 { // PIPEFS_MAGIC, statfs(2)
			return other // a FIFO with a name
		}
		// With shifted ids the command could not open /dev/stdout, since the
		// pipe's owner means nothing inside. Nobody gets at the pipe who may not
		// look into the process's descriptors anyway.
		if st.Uid == uint32(syscall.Geteuid()) && st.Mode&0o666 != 0o666 {
			_ = sys.Fchmod(fd, 0o666)
		}
		return passable
	case syscall.S_IFSOCK:
		if typ, e := sys.SockoptInt(fd, syscall.SO_TYPE); e == 0 && typ == syscall.SOCK_STREAM {
			return passable
		}
	case syscall.S_IFCHR:
		if st.Rdev == 1<<8|3 {
			return null
		}
		return device
	}
	return other
}

// classify judges one of the caller's descriptors by itself. A pipe or a stream
// socket travels with the request, so that the command works on sshd's own. A
// terminal makes a terminal session. Anything else, a file, a directory, a
// device, stays here and is relayed through a pipe: given to the jail it would
// be a piece of the host there (CVE-2024-21626).
func (s *session) classify(fd int) error {
	switch judge(fd) {
	case nothing, null:
		s.req.Stdio[fd] = wire.StdioNull
		return nil
	case passable:
		s.attach(fd, fd)
		s.own[fd] = true
		return nil
	case device:
		if modes, err := tty.GetTermios(fd); err == nil {
			s.req.Stdio[fd] = wire.StdioTTY
			if s.ttyFD < 0 {
				s.ttyFD, s.modes = fd, modes
			}
			if fd == 0 {
				s.termIn = 0
			} else if s.termOut < 0 {
				s.termOut = fd
			}
			return nil
		}
	}
	r, w, err := sys.Pipe()
	if err != nil {
		return err
	}
	_ = syscall.Fchmod(r, 0o666)
	// Our end must not block, or two of these could wait for each other; the
	// jail's end is another open file and stays as a command expects it.
	if fd == 0 {
		_ = sys.SetNonblock(w)
		s.attach(fd, r)
		s.relays = append(s.relays, newRelay(0, w, r))
	} else {
		_ = sys.SetNonblock(r)
		s.attach(fd, w)
		s.relays = append(s.relays, newRelay(r, fd, w))
	}
	return nil
}

func (s *session) attach(fd, use int) {
	s.req.Stdio[fd] = wire.StdioPassed
	s.pass = append(s.pass, use)
}

// begin gets the session started: it connects, sends the request, and waits for
// the answer. A jail that is just starting, stopping or restarting costs a
// retry, never the login, up to the moment the request has been answered.
func (s *session) begin(packet []byte) (status int, done bool) {
	start := sys.MonotonicMillis()
	for {
		answered, err := s.try(packet)
		if answered {
			return s.answer()
		}
		waited := sys.MonotonicMillis() - start
		switch err {
		case syscall.ENOENT, syscall.ECONNREFUSED:
			// With nobody behind the socket there is no use in waiting long.
			if waited > retryConnect {
				return complain("cannot enter the jail: no jail answers for uid " + decimal(syscall.Getuid()) +
					"; is jail-init running, and is this login in the registry (jail-init check)?"), true
			}
		case syscall.ECONNRESET, syscall.EPIPE, syscall.EAGAIN:
			if waited > retryAnswer {
				return complain("cannot enter the jail: it closed the connection, again and again"), true
			}
		case syscall.EACCES, syscall.EPERM:
			return complain("cannot enter the jail: this uid may not use the control socket"), true
		case syscall.EMSGSIZE:
			return complain("cannot enter the jail: the command line and environment are too long"), true
		case syscall.ETIMEDOUT:
			return complain("cannot enter the jail: no answer within a minute"), true
		default:
			return complain("cannot enter the jail: " + err.Error()), true
		}
		pause := syscall.Timespec{Nsec: retryPause * 1e6}
		_ = syscall.Nanosleep(&pause, nil)
	}
}

// defaultPacket is what fits a socket's send buffer as it comes
// (net.core.wmem_default).
const defaultPacket = 160 << 10

// try connects, sends the request and waits until the answer is there to be
// read.
func (s *session) try(packet []byte) (answered bool, err error) {
	fd := handedOn
	fail := func(err error) (bool, error) {
		sys.Close(fd)
		return false, err
	}
	handed := fd >= 0
	if handed {
		handedOn = -1
	} else {
		if fd, err = s.dial(); err != nil {
			return false, err
		}
		if len(packet) > defaultPacket {
			_ = sys.SetSockoptInt(fd, syscall.SO_SNDBUF, wire.MaxPacket/2+32<<10)
		}
	}
	if s.signals == 0 {
		s.prepareSignals() // before the command can run: they are its from then on
	}
	if !handed {
		if err := sys.SendMsg(fd, packet, s.pass, true, &s.m); err != nil {
			return fail(err)
		}
	}
	fds := []sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}
	n, err := sys.Poll(fds, answerWait)
	if err != nil {
		return fail(err)
	}
	if n == 0 {
		return fail(syscall.ETIMEDOUT)
	}
	var peek [1]byte
	got, e := sys.Peek(fd, peek[:])
	if e == 0 && got == 0 {
		e = syscall.ECONNRESET
	}
	if e != 0 {
		return fail(e)
	}
	s.conn = fd
	return true, nil
}

// forwarded are the signals that are passed on: those a login shell gets of a
// client's request from sshd (session.c:session_signal_req).
var forwarded = [...]syscall.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
}

// prepareSignals catches them, and those that say something about the terminal.
func (s *session) prepareSignals() {
	s.signals, _ = sys.CatchSignals(append(forwarded[:], syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT)...)
}

// answer reads PID 1's, or serve's, first message.
func (s *session) answer() (status int, done bool) {
	var buf [1024]byte
	n, err := sys.RecvMsg(s.conn, buf[:], true, &s.m)
	fds := s.m.FDs
	if err != nil || n == 0 {
		return s.broken(), true
	}
	typ, flags, body, err := wire.Header(buf[:n])
	if err == wire.ErrVersion {
		sys.CloseAll(fds)
		return complain("cannot enter the jail: it speaks another version of the protocol; it has to be restarted"), true
	}
	switch {
	case err == nil && typ == wire.TypeRefused && len(fds) == 0:
		r, err := wire.DecodeRefused(body)
		if err == nil {
			return refused(r), true
		}
	case err == nil && typ == wire.TypeStarted:
		st, err := wire.DecodeStarted(flags, body)
		if err != nil || !s.take(&st, fds) {
			break
		}
		for _, r := range s.relays {
			sys.Close(r.given) // the jail has its own copy
		}
		s.letGo()
		return 0, false
	}
	sys.CloseAll(fds)
	return s.broken(), true
}

// take checks what came with Started and keeps it.
func (s *session) take(st *wire.Started, fds []int) bool {
	want := 0
	if s.req.TTY() {
		want++
	}
	agent := st.Flags&wire.FlagAgentFD != 0
	if agent {
		want++
	}
	if len(fds) != want || agent && s.req.Flags&wire.FlagAgent == 0 {
		return false
	}
	if s.req.TTY() && !isMaster(fds[0]) || agent && !isListener(fds[want-1]) {
		return false
	}
	s.pid = st.PID
	if s.req.TTY() {
		s.master = fds[0]
	}
	if agent {
		s.agent.listener = fds[want-1]
	}
	// Without sshd, standard error may be a pipe to anything, whose end says
	// nothing about anybody's connection.
	s.watch = st.Flags&wire.FlagWatch != 0 && s.sshd && s.own[2]
	return true
}

// letGo gives up our copies of the input and output that were passed, so that the
// command alone decides when the other side sees the end of its output, or that
// nobody reads its input any more. Standard error stays: should the jail go away,
// what there is to say must still reach somebody, and sshd stops reading both
// outputs as soon as nobody has them open.
func (s *session) letGo() {
	if !s.own[0] && !s.own[1] {
		return
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer sys.Close(null)
	for fd := 0; fd < 2; fd++ {
		if s.own[fd] {
			_ = sys.Dup2(null, fd)
		}
	}
}

// isMaster reports whether fd is the master of a pty and nothing else: what
// comes from the jail may be anything.
func isMaster(fd int) bool {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFCHR {
		return false
	}
	if _, err := tty.Number(fd); err != nil {
		return false
	}
	return sys.SetNonblock(fd) == nil
}

func refused(r wire.Refused) int {
	id := ""
	if r.ID != "" {
		id = " (id " + quote(r.ID) + ")"
	}
	complain("cannot enter the jail: " + quote(r.Text) + id)
	if r.Status == 126 || r.Status == 127 {
		return int(r.Status)
	}
	return exitFailure
}

// broken is for a peer that does not keep to the protocol.
func (s *session) broken() int {
	return complain("cannot enter the jail: its answer makes no sense")
}

// complain prints one line and returns the status that goes with it.
func complain(text string) int {
	say(text)
	return exitFailure
}

// say prints one line.
func say(text string) {
	var line [512]byte
	b := append(append(append(line[:0], "jail-enter: "...), text...), '\n')
	_, _ = sys.Write(2, b)
}

// quote makes text from the jail safe to print on the host's terminal.
func quote(text string) string {
	const hex = "0123456789abcdef"
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if c := text[i]; c >= 0x20 && c < 0x7f {
			out = append(out, c)
		} else {
			out = append(out, '\\', 'x', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}

func decimal(n int) string {
	if n < 0 {
		return "-1"
	}
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}
