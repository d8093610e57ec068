// Package enter is the program jail-enter: one end of a login, on the host, with
// the login's own uid and no privilege.
//
// What is printed where: standard output carries nothing but the session's
// bytes. Standard error carries the session's and, if there is no session or its
// jail goes away, one line of ours. The exit status is the command's, or 125.
//
// It is started for every login and there is one for every session, so its
// imports are a reviewed list (cmd/jail-enter/testdata/deps.txt), and all of it
// works without the Go runtime, whose start takes longer than the rest (package
// early): nothing is allocated, nothing waits in a system call the scheduler would
// have to know of, and no package variable is used that is not zero or constant. All
// memory is in a session, and what is not used of it costs nothing.
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

// session is one login's state and memory.
type session struct {
	in   invocation
	dial func() (int, error) // nil: the socket at path
	path []byte
	req  wire.Request
	pass []int // descriptors that travel with the request
	m    sys.MsgBuf

	conn    int
	signals signals
	master  int

	ttyFD   int // the caller's terminal; -1 without
	modes   wire.Termios
	raw     bool
	termIn  int // descriptor to read keys from; -1 if stdin is no terminal
	termOut int // descriptor to write the terminal's output to

	took  bool      // taken is what had been typed
	taken tty.Taken // before the terminal was made raw
	moved bool      // into the session's terminal, by PID 1
	keys  bool      // what is typed while there is no answer is read,
	late  int       // is in lateText,
	typer tty.Keys  // and makes signals

	used   int  // of relays
	failed bool // something could not be copied to its end

	own [3]bool // descriptors that were passed themselves

	pipes    bool   // pipeDev is
	pipeDev  uint64 // the device number of the file system that pipes are on
	knowsUID bool   // uid is
	uid      uint32 // the effective one

	pid      uint32           // of the session's process, inside
	told     func(pid uint32) // of Attach; nil without
	recorder recorder

	sshd  bool // sshd has started us, as far as can be told
	watch bool // say when nobody reads standard error any more

	// Memory. What most sessions need is together, on few pages.
	small      [1024]byte // answers, which are shorter
	fds        [firstRelay + 2*maxRelays + 1 + 2*maxAgentConns]sys.PollFD
	two        [2]string
	passed     [3]int
	few        [16][]byte // instead of argv, where they are enough
	pathText   [maxPath]byte
	env        [wire.MaxEnv][]byte
	packet     [wire.MaxPacket]byte
	argv       [wire.MaxArgs][]byte
	relays     [maxRelays]relay
	agent      agent
	auth       [wire.MaxAuth][]byte
	authText   [maxAuthFile + 1]byte
	acceptText [environ.MaxAcceptFile + 1]byte
	patterns   [environ.MaxAccept]string
	authority  [maxAuthority + 1]byte
	typed      [3 * wire.MaxTyped]byte
	lateText   [bufferSize - wire.MaxTyped]byte
}

// maxPath is the most the path of a socket and a few others of ours may have, with its
// NUL.
const maxPath = 512

// only is the program's one session.
var only session

// withoutRuntime is set where the Go runtime has not started.
var withoutRuntime bool

// Early is Run before the Go runtime has started. It does not return.
func Early(argv, env []string) {
	withoutRuntime = true
	sys.Exit(Run(argv, env))
}

// Run is the program. It returns the exit status, or does not return when the
// session died of a signal.
func Run(argv, env []string) int {
	_ = sys.SetDumpable(false) // other processes of this uid are the tenant's
	if argv == nil {
		return complain("cannot enter the jail: cannot read the command line from /proc (id ", KindNoCommand, ")")
	}
	s := &only
	s.in = parse(argv)
	s.in.resolve(env, s.two[:])
	if len(s.in.runtimeDir) > len(s.pathText)-40 {
		return complain("cannot enter the jail: the path of its control socket is too long (id ", KindPath, ")")
	}
	s.path = loginPath(s.pathText[:0], s.in.runtimeDir, syscall.Getuid(), wire.LoginName)
	connection, _ := lookup(env, "SSH_CONNECTION")
	s.sshd = connection != ""
	return s.run(env)
}

// TooLong is Run for a command line that is too long to be looked at.
func TooLong() int { return complain(tooLong) }

// Attach is a session for the administrator, on a connection dial makes: the
// shell's arguments are args, and it is a login shell if login is true. told is called when it
// has begun, with the pid of its process inside.
func Attach(dial func() (int, error), login bool, args, env []string, told func(pid uint32)) int {
	s := &session{in: invocation{login: login, args: args}, dial: dial, told: told}
	return s.run(env)
}

// loginPath appends the path of a file in uid's directory below dir to dst.
func loginPath(dst []byte, dir string, uid int, name string) []byte {
	return append(append(appendDecimal(append(append(dst, dir...), '/'), uid), '/'), name...)
}

// run is the session from its request to its end.
func (s *session) run(env []string) int {
	s.conn, s.master, s.ttyFD, s.termIn, s.termOut, s.agent.listener, s.recorder.conn = -1, -1, -1, -1, -1, -1, -1
	if status := s.prepare(env); status != 0 {
		return status
	}
	// Before the command can run: signals are its, not ours, from then on.
	if e := s.signals.catch(s.ttyFD >= 0); e != 0 {
		return complain("cannot enter the jail: ", e.Error(), " (id ", KindSystem, ")")
	}
	if status, done := s.begin(); done {
		return status
	}
	s.tellCaller(env)
	return s.relay()
}

// prepare fills in the request. It returns the status to exit with if there is
// something that cannot be sent.
func (s *session) prepare(env []string) int {
	s.req.Flags |= s.in.flags()
	s.req.Env = s.env[:0]
	if s.in.forced {
		if path, ok := lookup(env, "SSH_USER_AUTH"); ok {
			readAuth(&s.req, path, s.authText[:], s.auth[:0])
		}
	} else {
		s.originalCommand(env)
	}
	if len(s.in.args) > len(s.argv) {
		return complain(tooLong)
	}
	s.req.Args = s.argv[:len(s.in.args)]
	if len(s.in.args) <= len(s.few) {
		s.req.Args = s.few[:len(s.in.args)]
	}
	for i, a := range s.in.args {
		s.req.Args[i] = sys.Bytes(a)
	}
	s.pass = s.passed[:0]
	for fd := 0; fd < 3; fd++ {
		if e := s.classify(fd); e != 0 {
			return complain("cannot enter the jail: ", e.Error(), " (id ", KindSystem, ")")
		}
	}
	accept := s.accept(env)
	for _, e := range env {
		b := sys.Bytes(e)
		if environ.Enters(b, accept) && len(b) <= wire.MaxString && len(s.req.Env) < len(s.env) {
			s.req.Env = append(s.req.Env, b)
		}
	}
	if s.sshd {
		if s.agent.path = agentPath(env, s.agent.pathText[:0]); s.agent.path != nil {
			s.req.Flags |= wire.FlagAgent
		}
		s.addDisplay(env)
	}
	if s.ttyFD >= 0 {
		s.req.Winsize, _ = tty.GetWinsize(s.ttyFD)
		s.req.Termios = s.modes
		if s.termIn < 0 {
			// Nothing of ours makes this terminal raw, so it goes on processing
			// output and echoing by itself; the one inside must not do it too.
			s.req.Termios.Oflag &^= syscall.OPOST
		}
	}
	return 0
}

const tooLong = "cannot enter the jail: the command line and environment are too long (id " + KindTooLong + ")"

// originalCommand passes on what the client of a key with a command= had asked for,
// where sshd runs that command through the login shell. Under a su the variable is
// a leftover of root's login; that sshd set it for this one is known by
// SSH_USER_AUTH, whose file is this uid's own. With Attach root is this uid, and the
// command root's business.
func (s *session) originalCommand(env []string) {
	if s.in.runtimeDir == "" {
		return
	}
	auth, known := lookup(env, "SSH_USER_AUTH")
	if !known {
		return
	}
	for _, e := range env {
		if _, ok := value(e, "SSH_ORIGINAL_COMMAND"); !ok {
			continue
		}
		flags := s.req.Flags
		readAuth(&s.req, auth, s.authText[:], s.auth[:0])
		known := s.req.Flags&wire.FlagAuthKnown != 0
		s.req.Flags, s.req.Auth = flags, nil
		if known {
			s.req.Flags |= wire.FlagOriginal
			s.req.Env = append(s.req.Env, sys.Bytes(e))
		}
		return
	}
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

// judge says what fd is, and prepares a pipe for being passed. Only what is not open
// is nothing: taken for that, a file whose server does not answer would be an empty
// input, or output that nobody misses.
func (s *session) judge(fd int) (source, sys.Errno) {
	var st syscall.Stat_t
	switch e := sys.Fstat(fd, &st); e {
	case 0:
	case syscall.EBADF:
		return nothing, 0
	default:
		return other, e
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFIFO:
		if !s.pipes || st.Dev != s.pipeDev { // all pipes are on one file system
			var fs syscall.Statfs_t
			if sys.Fstatfs(fd, &fs) != 0 || fs.Type != 0x50495045 { // PIPEFS_MAGIC, statfs(2)
				return other, 0 // a FIFO with a name
			}
			s.pipes, s.pipeDev = true, st.Dev
		}
		// With shifted ids the command could not open /dev/stdout, since the
		// pipe's owner means nothing inside. Nobody gets at the pipe who may not
		// look into the process's descriptors anyway.
		if st.Mode&0o666 != 0o666 && st.Uid == s.owner() {
			_ = sys.Fchmod(fd, 0o666)
		}
		return passable, 0
	case syscall.S_IFSOCK:
		if typ, e := sys.SockoptInt(fd, syscall.SO_TYPE); e == 0 && typ == syscall.SOCK_STREAM {
			return passable, 0
		}
	case syscall.S_IFCHR:
		if st.Rdev == 1<<8|3 {
			return null, 0
		}
		return device, 0
	}
	return other, 0
}

// owner is this process's uid, by which what it makes is known.
func (s *session) owner() uint32 {
	if !s.knowsUID {
		s.knowsUID, s.uid = true, uint32(syscall.Geteuid())
	}
	return s.uid
}

// classify judges one of the caller's descriptors by itself. A pipe or a stream
// socket travels with the request, so that the command works on sshd's own. A
// terminal makes a terminal session. Anything else, a file, a directory, a
// device, stays here and is relayed through a pipe: given to the jail it would
// be a piece of the host there (CVE-2024-21626).
func (s *session) classify(fd int) sys.Errno {
	what, e := s.judge(fd)
	if e != 0 {
		return e
	}
	switch what {
	case nothing, null:
		s.req.Stdio[fd] = wire.StdioNull
		return 0
	case passable:
		s.attach(fd, fd)
		s.own[fd] = true
		return 0
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
			return 0
		}
	}
	r, w, err := sys.Pipe()
	if err != nil {
		return errno(err)
	}
	_ = sys.Fchmod(r, 0o666)
	// Our end must not block, or two of these could wait for each other; the
	// jail's end is another open file and stays as a command expects it.
	if fd == 0 {
		_ = sys.SetNonblock(w)
		s.attach(fd, r)
		s.addRelay(0, w, r)
	} else {
		_ = sys.SetNonblock(r)
		s.attach(fd, w)
		s.addRelay(r, fd, w)
	}
	return 0
}

func (s *session) attach(fd, use int) {
	s.req.Stdio[fd] = wire.StdioPassed
	s.pass = append(s.pass, use)
}

// begin gets the session started: it connects, sends the request, and waits for
// the answer. A jail that is just starting, stopping or restarting costs a
// retry, never the login, up to the moment the request has been answered.
func (s *session) begin() (status int, done bool) {
	start := sys.MonotonicMillis()
	for closed, now := 0, start; ; {
		n, e, why := s.try(closed, now)
		if e == 0 {
			return s.answer(n)
		}
		now = sys.MonotonicMillis()
		waited := now - start
		switch e {
		case syscall.ENOENT, syscall.ECONNREFUSED:
			// With nobody behind the socket there is no use in waiting long.
			if waited > retryConnect {
				var digits [20]byte
				return s.fail(KindNoJail, "no jail answers for uid ", sys.String(appendDecimal(digits[:0], syscall.Getuid())),
					"; is jail-init running, and is this login in the registry (jail-init check)?"), true
			}
		case syscall.ECONNRESET, syscall.EPIPE, syscall.EAGAIN:
			closed++
			if waited > retryAnswer {
				return s.fail(KindClosed, "it closed the connection, again and again"), true
			}
		case syscall.EACCES, syscall.EPERM:
			return s.fail(KindNotYours, "this uid may not use the control socket"), true
		case syscall.EMSGSIZE:
			return s.fail(KindTooLong, "the command line and environment are too long"), true
		case syscall.ENAMETOOLONG:
			return s.fail(KindPath, "the path of its control socket is too long"), true
		case syscall.ETIMEDOUT:
			return s.fail(KindNoAnswer, "no answer within a minute"), true
		default:
			return s.fail(KindSystem, why), true
		}
		_ = s.await(-1, retryPause, now)
	}
}

// fail is for a session that does not begin. It says why, on a terminal that is as it
// was. kind is one of Kinds.
func (s *session) fail(kind string, why ...string) int {
	s.giveBack()
	var line line
	line.add("cannot enter the jail: ")
	for _, w := range why {
		line.add(w)
	}
	line.add(" (id ")
	line.add(kind)
	line.add(")")
	line.print()
	return exitFailure
}

// defaultPacket is what fits a socket's send buffer as it comes
// (net.core.wmem_default).
const defaultPacket = 160 << 10

// try connects, sends the request and waits for the answer, of which it returns the length
// in s.small, or -1 if it is none that could be read. closed says how often the jail has
// closed a connection without an answer, now what time it is (MonotonicMillis).
func (s *session) try(closed int, now int64) (n int, e sys.Errno, why string) {
	fd := -1
	if s.dial == nil {
		fd, e = sys.ConnectAt(syscall.SOCK_SEQPACKET, s.path)
	} else {
		var err error
		if fd, err = s.dial(); err != nil {
			e, why = errno(err), err.Error()
		}
	}
	if e != 0 {
		if why == "" {
			why = e.Error()
		}
		return 0, e, why
	}
	s.takeTyped()
	// A PID 1 that knows nothing of what is typed ahead closes the connection. One
	// that is just stopping does so too, but hardly twice.
	s.req.Flags &^= wire.FlagTyped
	if s.taken.Count > 0 || s.taken.Stopped {
		if s.moved = closed%3 != 2; s.moved {
			s.req.Flags |= wire.FlagTyped
			s.req.Typed, s.req.Stopped = s.taken.Typed, s.taken.Stopped
		}
	}
	packet, err := wire.AppendRequest(s.packet[:0], &s.req)
	if err != nil {
		sys.Close(fd)
		return 0, syscall.EMSGSIZE, ""
	}
	if len(packet) > defaultPacket {
		_ = sys.SetSockoptInt(fd, syscall.SO_SNDBUF, wire.MaxPacket/2+32<<10)
	}
	e = errno(sys.SendMsg(fd, packet, s.pass, false, &s.m))
	if e == 0 {
		e = s.await(fd, answerWait, now)
	}
	if e == 0 {
		n, e = s.receive(fd)
	}
	if e != 0 {
		sys.Close(fd)
		return 0, e, e.Error()
	}
	s.conn = fd
	return n, 0, ""
}

// receive takes the answer off the connection, as try returns it.
func (s *session) receive(fd int) (n int, e sys.Errno) {
	n, err := sys.RecvMsg(fd, s.small[:], false, &s.m)
	switch e = errno(err); {
	case e == syscall.EMSGSIZE:
		return -1, 0
	case e == 0 && n == 0:
		sys.CloseAll(s.m.FDs)
		return 0, syscall.ECONNRESET
	}
	return n, e
}

// await waits until there is something to read from fd, for at most ms milliseconds from
// now on; then it is ETIMEDOUT. While nobody has the session yet, a signal that would end a
// process ends this one; with the connection the request is withdrawn.
func (s *session) await(fd, ms int, now int64) sys.Errno {
	deadline := now + int64(ms)
	for {
		fds := s.fds[:3]
		fds[0], fds[1], fds[2] = sys.PollFD{FD: int32(fd), Events: sys.PollIn}, s.signals.poll(), sys.PollFD{FD: -1}
		if s.keys && s.late < len(s.lateText) {
			fds[2] = sys.PollFD{FD: int32(s.termIn), Events: sys.PollIn}
		}
		n, e := wait(fds, ms)
		if e != 0 {
			return e
		}
		if n == 0 {
			return syscall.ETIMEDOUT
		}
		if fds[0].Revents != 0 {
			return 0 // the signal is the command's
		}
		if fds[2].Revents != 0 {
			s.readKeys()
		}
		for sig := s.signals.next(); sig != 0; sig = s.signals.next() {
			s.handle(sig, true)
		}
		if ms >= 0 {
			ms = int(max(deadline-sys.MonotonicMillis(), 0))
		}
	}
}

// wait is poll(2). With the Go runtime it is told of a wait that takes long.
func wait(fds []sys.PollFD, ms int) (int, sys.Errno) {
	if withoutRuntime {
		return sys.Wait(fds, ms)
	}
	n, err := sys.Poll(fds, ms)
	return n, errno(err)
}

// errno returns the number of a system call's error, EIO for any other.
func errno(err error) sys.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(sys.Errno); ok {
		return e
	}
	return syscall.EIO
}

// answer judges PID 1's, or serve's, first message, n bytes of s.small and the descriptors
// that came with it.
func (s *session) answer(n int) (status int, done bool) {
	if n < 0 {
		return s.fail(KindNonsense, nonsense), true
	}
	fds := s.m.FDs
	typ, flags, body, err := wire.Header(s.small[:n])
	if err == wire.ErrVersion {
		sys.CloseAll(fds)
		return s.fail(KindVersion, "it speaks another version of the protocol; it has to be restarted"), true
	}
	switch {
	case err == nil && typ == wire.TypeRefused && len(fds) == 0:
		if status, id, text, err := wire.ParseRefused(body); err == nil {
			return s.refused(status, id, text), true
		}
	case err == nil && typ == wire.TypeStarted:
		st, err := wire.DecodeStarted(flags, body)
		if err != nil || !s.take(&st, fds) {
			break
		}
		for i := range s.relays[:s.used] {
			sys.Close(s.relays[i].given) // the jail has its own copy
		}
		s.letGo()
		return 0, false
	}
	sys.CloseAll(fds)
	return s.fail(KindNonsense, nonsense), true
}

// nonsense is said of a peer that does not keep to the protocol.
const nonsense = "its answer makes no sense"

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
	if s.req.TTY() {
		s.master = fds[0]
	}
	s.pid = st.PID
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
	null := -1
	if s.agent.listener >= 0 || s.used > 0 || s.master >= 0 {
		// What is opened from now on must not get their numbers.
		fd, e := sys.OpenNoWait(append(s.pathText[:0], "/dev/null\x00"...), syscall.O_RDWR)
		if e != 0 {
			return
		}
		null = fd
	}
	for fd := 0; fd < 2; fd++ {
		if !s.own[fd] {
			continue
		}
		if null < 0 {
			sys.Close(fd)
		} else {
			_ = sys.Dup2(null, fd)
		}
	}
	if null >= 0 {
		sys.Close(null)
	}
}

// isMaster reports whether fd is the master of a pty and nothing else: what
// comes from the jail may be anything.
func isMaster(fd int) bool {
	var st syscall.Stat_t
	if sys.Fstat(fd, &st) != 0 || st.Mode&syscall.S_IFMT != syscall.S_IFCHR {
		return false
	}
	if _, err := tty.Number(fd); err != nil {
		return false
	}
	return sys.SetNonblock(fd) == nil
}

func (s *session) refused(status uint8, id, text []byte) int {
	s.giveBack()
	var line line
	line.add("cannot enter the jail: ")
	line.quote(text)
	if len(id) > 0 {
		line.add(" (id ")
		line.quote(id)
		line.add(")")
	}
	line.print()
	if status == 126 || status == 127 {
		return int(status)
	}
	return exitFailure
}
