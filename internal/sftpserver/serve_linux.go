package sftpserver

import (
	"strconv"
	"strings"
	"syscall"

	"jail/internal/sys"
)

// Exit statuses (sftp-server.c).
const (
	exitOK        = 0
	exitUsage     = 1
	exitBroken    = 255 // the client broke the protocol, or an option is wrong
	exitBadLength = 11
)

// server serves one client.
type server struct {
	options
	log  logger
	user identity
	peer string // the client's address

	in      []byte // received and not yet served: in[start:end]
	start   int
	end     int
	out     []byte // to be sent
	version uint32 // the client's
	ready   bool   // an INIT has come
	broken  string // why the client is not served any more
	roomy   bool   // see makeRoom

	handles handles
	names   names
}

// Sizes of the buffers. A message is received and made in one piece.
const (
	inSize  = maxMessage + 4 + 64<<10
	outSize = 2 * (maxMessage + 4)
	// flushAt is how much waits at most while there are requests to serve: a
	// pipe's worth.
	flushAt = 64 << 10
)

// Run is the program: it serves the client at descriptors 0 and 1 until it goes
// away. It returns the exit status.
func Run(argv, env []string) int {
	var args []string
	if len(argv) > 0 {
		args = argv[1:]
	}
	o := parse(args)
	switch {
	case o.usage:
		_ = writeAll(2, []byte(usage))
		return exitUsage
	case o.hasQuery:
		return query(o.query)
	case o.invalid != "":
		_ = writeAll(2, []byte(o.invalid+"\n"))
		return exitUsage
	}
	s := &server{options: o}
	s.log = logger{level: o.level, facility: o.facility, stderr: o.stderr}
	s.user = whoami(env)
	if o.fatal != "" {
		s.log.line(levelFatal, o.fatal)
		return exitBroken
	}
	if o.umask >= 0 {
		syscall.Umask(o.umask)
	}
	// Or files could be used to reach this process's memory, which in an account
	// that is restricted to sftp is the way to run code of one's own
	// (platform-tracing.c).
	if err := sys.SetDumpable(false); err != nil {
		s.log.line(levelFatal, "unable to make the process undumpable: ", err.Error())
		return exitBroken
	}
	s.peer = "UNKNOWN"
	if c, ok := lookup(env, "SSH_CONNECTION"); ok {
		if s.peer, _, ok = strings.Cut(c, " "); !ok {
			s.log.line(levelError, "Malformed SSH_CONNECTION variable: \"", c, "\"")
			return exitBroken
		}
	}
	s.log.line(levelInfo, "session opened for local user ", s.user.name, " from [", s.peer, "]")
	if s.startDir != "" {
		dir, why := s.expandStart()
		if why != "" {
			s.log.line(levelFatal, why)
			return exitBroken
		}
		if err := syscall.Chdir(dir); err != nil {
			s.log.line(levelError, "chdir to \"", dir, "\" failed: ", err.Error())
		}
	}
	status := s.loop()
	s.logExit()
	return status
}

func query(feature string) int {
	if !strings.EqualFold(feature, "requests") {
		_ = writeAll(2, []byte("Invalid query type\n"))
		return exitUsage
	}
	var b []byte
	for i := range kinds {
		b = append(append(b, kinds[i].name...), '\n')
	}
	if writeAll(1, b) != nil {
		return exitUsage
	}
	return exitOK
}

// lookup returns the value of a variable in env.
func lookup(env []string, name string) (string, bool) {
	for _, e := range env {
		if len(e) > len(name) && e[len(name)] == '=' && e[:len(name)] == name {
			return e[len(name)+1:], true
		}
	}
	return "", false
}

// loop serves whatever has arrived, sends the answers and waits for more. The
// answers of requests that arrived together leave together; a client that sends
// and does not read is not read from either.
func (s *server) loop() int {
	s.in = make([]byte, inSize)
	s.out = make([]byte, 0, outSize)
	for {
		for {
			status, more := s.next()
			if status != exitOK || s.broken != "" || !more || len(s.out) >= flushAt {
				if err := s.flush(); err != nil {
					return exitOK // nobody is there any more
				}
			}
			if s.broken != "" {
				s.log.line(levelFatal, s.broken)
				return exitBroken
			}
			if status != exitOK {
				return status
			}
			if !more {
				break
			}
		}
		if s.start > 0 {
			s.end = copy(s.in, s.in[s.start:s.end])
			s.start = 0
		}
		n, err := waitAndRead(0, s.in[s.end:])
		switch {
		case err == syscall.EAGAIN: // somebody made it non-blocking and reads too
		case err != nil:
			s.log.line(levelError, "read: ", err.Error())
			return 1
		case n == 0:
			return exitOK
		default:
			s.end += n
		}
	}
}

// next serves the first message received. more is false if none is complete.
func (s *server) next() (status int, more bool) {
	b := s.in[s.start:s.end]
	if len(b) < 5 {
		return exitOK, false
	}
	length := int64(getU32(b))
	if length > maxMessage {
		s.log.line(levelError, "bad message from ", s.peer, " local user ", s.user.name)
		return exitBadLength, false
	}
	if int64(len(b)) < 4+length {
		return exitOK, false
	}
	s.start += 4 + int(length)
	s.message(b[4 : 4+length])
	return exitOK, s.broken == ""
}

// message serves one message.
func (s *server) message(b []byte) {
	in := reader{b: b}
	code := in.u8()
	if code == typeInit {
		s.init(&in)
		return
	}
	if !s.ready {
		s.broken = "Received " + strconv.Itoa(int(code)) + " request before init"
		return
	}
	r := request{id: in.u32()}
	if code == typeExtended {
		name := in.text()
		if r.kind = kindByExtension(name); r.kind == nil && !in.bad {
			s.log.line(levelError, "Unknown extended request \"", name, "\"")
			s.status(&r, statusUnsupported)
			return
		}
	} else {
		r.kind = kindByCode(code)
	}
	if in.bad {
		s.broken = "parse: incomplete message"
		return
	}
	if r.kind == nil {
		// OpenSSH's server gives no answer either, and no client asks.
		s.log.line(levelError, "Unknown message ", strconv.Itoa(int(code)))
		return
	}
	if why, ok := s.permits(r.kind); !ok {
		s.log.line(levelVerbose, why)
		s.status(&r, statusPermissionDenied)
		return
	}
	r.kind.decode(&in, &r)
	if in.bad {
		s.broken = "parse " + r.kind.name + ": incomplete message"
		return
	}
	r.kind.serve(s, &r)
}

// init answers the first message: the version and what is spoken beyond it.
func (s *server) init(in *reader) {
	s.version = in.u32()
	if in.bad {
		s.broken = "parse: incomplete message"
		return
	}
	s.log.line(levelVerbose, "received client version ", strconv.FormatUint(uint64(s.version), 10))
	at := s.begin(typeVersion)
	s.out = putU32(s.out, protocolVersion)
	for i := range kinds {
		k := &kinds[i]
		if k.ext == "" {
			continue
		}
		if _, ok := s.permits(k); ok {
			s.out = putString(putString(s.out, k.ext), k.version)
		}
	}
	s.finish(at)
	s.ready = true
}

// begin starts a message of the given type; finish gives it its length.
func (s *server) begin(code uint8) (at int) {
	at = len(s.out)
	s.out = append(s.out, 0, 0, 0, 0, code)
	return at
}

func (s *server) finish(at int) { setU32(s.out[at:], uint32(len(s.out)-at-4)) }

// status answers a request with a status.
func (s *server) status(r *request, code status) { s.statusText(r, code, code.text()) }

func (s *server) statusText(r *request, code status, text string) {
	if s.log.level > levelVerbose || code != statusOK && code != statusEOF {
		s.log.line(levelInfo, "sent status ", code.text())
	}
	at := s.begin(typeStatus)
	s.out = putU32(putU32(s.out, r.id), uint32(code))
	if s.version >= 3 {
		s.out = putString(putString(s.out, text), "")
	}
	s.finish(at)
}

// result answers with what a system call returned.
func (s *server) result(r *request, err error) { s.status(r, statusOf(err)) }

// name answers with one name and no attributes.
func (s *server) name(r *request, name string) {
	at := s.begin(typeName)
	s.out = putU32(putU32(s.out, r.id), 1)
	s.out = putU32(putString(putString(s.out, name), name), 0)
	s.finish(at)
}

// statusOf is the status an error number stands for (sftp-server.c,
// errno_to_portable).
func statusOf(err error) status {
	switch err {
	case nil:
		return statusOK
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EBADF, syscall.ELOOP:
		return statusNoSuchFile
	case syscall.EPERM, syscall.EACCES, syscall.EFAULT:
		return statusPermissionDenied
	case syscall.ENAMETOOLONG, syscall.EINVAL:
		return statusBadMessage
	case syscall.ENOSYS:
		return statusUnsupported
	}
	return statusFailure
}

// flush sends what is to be sent.
func (s *server) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	err := writeAll(1, s.out)
	s.out = s.out[:0]
	return err
}

// makeRoom gives the pipe or the local socket answers leave by room for the longest
// there is. It has 64 KiB as a pipe (pipe(7)) and as a socket what the machine says,
// some 200 KiB. Behind every answer that does not fit the server waits for the client
// and the client for the server, which on two processors is a third of the time a file
// takes.
//
// It is a favour only: nothing is said where it is refused, as it is to a user with
// many pipes (fs.pipe-user-pages-soft). What is of no use stays as it is: a bigger
// buffer, and the socket of a network, whose size the kernel finds by itself until it
// is told one (tcp(7)).
func makeRoom(fd int) {
	if size, err := sys.Fcntl(fd, syscall.F_GETPIPE_SZ, 0); err == nil {
		if size < maxMessage {
			_, _ = sys.Fcntl(fd, syscall.F_SETPIPE_SZ, maxMessage)
		}
		return
	}
	domain, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_DOMAIN)
	if err != nil || domain != syscall.AF_UNIX {
		return
	}
	// The kernel doubles it, for what it needs itself (socket(7)).
	if size, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF); err == nil && size < 2*maxMessage {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, maxMessage)
	}
}

// waitAndRead is a read(2) for which the scheduler does not have to be told of most
// waits, see sys.Poll.
func waitAndRead(fd int, p []byte) (int, error) {
	if _, err := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}, -1); err != nil {
		return 0, err
	}
	return sys.Read(fd, p)
}

// writeAll writes all of p. The wait of a write(2) for a slow reader, which is not
// told to the scheduler either, ends with the monitor thread's first signal: there
// was room for some of p.
func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		if _, err := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollOut}}, -1); err != nil {
			return err
		}
		n, err := sys.Write(fd, p)
		switch err {
		case nil:
			p = p[n:]
		case syscall.EAGAIN: // somebody made it non-blocking and writes too
		default:
			return err
		}
	}
	return nil
}

// again calls f until it is not interrupted by a signal.
func again(f func() error) error {
	for {
		if err := f(); err != syscall.EINTR {
			return err
		}
	}
}
