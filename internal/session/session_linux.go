// Package session makes one login inside a jail: it turns a request and the
// identity that belongs to the listener it came from into a process, with its
// user, groups, directory, environment, terminal and descriptors.
//
// It runs in PID 1, on a jail's own files and a tenant's bytes, and is written
// to use the same memory again for every session.
package session

import (
	"strconv"
	"syscall"

	"jail/internal/environ"
	"jail/internal/login"
	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// defaultPath is what Debian's sshd gives its users; superPath is for uid 0
// (session.c:do_setup_env).
const (
	defaultPath = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/games"
	superPath   = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Jail is what all sessions of a jail have in common.
type Jail struct {
	Root int // the root directory
	Pts  int // the devpts
	Dev  int // the /dev tmpfs
	Proc int // the procfs, by the descriptor of the mount itself; -1 leaves the loginuid alone
	// Agent is the directory for agents' sockets, X11 that for cookies of
	// displays; it is -1 where the registry does not allow X11.
	Agent, X11 Place
	// Auth is the directory for what sshd says of how logins authenticated.
	Auth     Place
	Hostname string

	Env         []string // of the registry
	NoSetgroups bool
	HardFiles   uint64
	// KeepSignals are the signals whose disposition in PID 1 is the default.
	KeepSignals uint64

	SFTP       wire.SFTP
	SFTPServer bool // the built-in sftp server is there

	forwards int    // Forwards there are
	serial   uint64 // of the last one

	// EnvAccept are patterns of what may enter besides the usual variables.
	EnvAccept []string
	// Notes are what an administrator should know of, though the jail runs.
	Notes []string
	// Keys says where the keys of its logins may be kept.
	Keys wire.Keys

	passwd, group database
	keys          []byte // read buffer

	own     ownFiles
	text    []byte // read buffer
	locales locales
	tz      string // TZ of every session, "" for none
	rule    string // of the jail's time zone (tzset(3)); "" is UTC

	logins login.Cache
	limits *limits // nil: none but the usual ones
}

// limits are what Limit has set.
type limits struct {
	umask   int // -1: as PID 1's
	nice    int
	rlimits []sys.Rlimit
}

// Limit says what sessions have from now on. A limit above PID 1's own is that: nobody in
// the jail may raise it.
func (j *Jail) Limit(s *wire.SessionLimits) {
	if !s.SetUmask && s.Nice == 0 && len(s.Rlimits) == 0 {
		j.limits = nil
		return
	}
	l := &limits{umask: -1, nice: int(s.Nice)}
	if s.SetUmask {
		l.umask = int(s.Umask)
	}
	for _, r := range s.Rlimits {
		var own syscall.Rlimit
		if syscall.Getrlimit(int(r.Resource), &own) == nil {
			l.rlimits = append(l.rlimits, sys.Rlimit{Resource: int(r.Resource), Value: min(r.Value, own.Max)})
		}
	}
	j.limits = l
}

// Refusal is a reason why there is no session, for the user's eyes.
type Refusal struct {
	Status uint8
	Text   string
}

// Slot is the memory of one session while it starts. It must not be used again
// before Child.Pending reports false and Settle was called.
type Slot struct {
	Child *sys.Child
	Req   wire.Request
	Buf   []byte // the request's packet; Req points into it
	Used  int    // how much of Buf that is
	// FilesBelow is which descriptors the session's process may need copies of
	// (sys.Child).
	FilesBelow int
	// Proof is the one line of Req.Auth by which a login needs no line of authorized_keys,
	// "" if there is none (wire.Proof).
	Proof string

	ends       ends // until Settle
	arena      []byte
	argv, envp []*byte
	env        [][]byte // what envp is made of
	original   []byte   // the client's command, where a key's takes its place
	isSFTP     bool     // the request is for sftp
	proven     bool     // it came by Proof
	records    [2][]byte
}

// NewSlot returns an empty Slot, nil if there is no memory. The buffer is not the
// collector's: the few pages of it that are used would count for all of it there,
// and make it run.
func NewSlot() *Slot {
	buf, err := syscall.Mmap(-1, 0, wire.MaxPacket, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil
	}
	// Lists that have room at once do not leave smaller ones behind.
	return &Slot{
		Child: sys.NewChild(), Buf: buf, arena: make([]byte, 0, arenaSize),
		argv: make([]*byte, 0, 8), env: make([][]byte, 0, 20), envp: make([]*byte, 0, 20),
	}
}

// arenaSize is what the strings of most sessions come to.
const arenaSize = 1024

// Free gives a Slot's memory back.
func (s *Slot) Free() {
	_ = syscall.Munmap(s.Buf)
	s.Buf, s.Req = nil, wire.Request{}
}

// cstr copies the parts into the arena as one C string.
func (s *Slot) cstr(parts ...string) *byte {
	start := len(s.arena)
	for _, p := range parts {
		s.arena = append(s.arena, p...)
	}
	s.arena = append(s.arena, 0)
	return &s.arena[start]
}

func (s *Slot) bytes(parts ...string) []byte {
	start := len(s.arena)
	for _, p := range parts {
		s.arena = append(s.arena, p...)
	}
	return s.arena[start:len(s.arena):len(s.arena)]
}

// Started is a session that runs.
type Started struct {
	PID, PIDFD int
	UID        uint32 // inside
	SFTP       bool   // it is the client of an sftp server
	Proven     bool   // it came by Slot.Proof
	Master     int    // of its terminal; -1 without
	Pts        int    // the terminal's number in /dev/pts, if there is one
	// Agent is the listener for connections to the client's agent; -1 without.
	Agent int
	// Login is what is recorded of it; without a Line nothing.
	Login Login
	// Forward is what has to be removed when the session or its client is gone.
	Forward Forward
	// Note is why something asked for is missing, for the log; "" mostly.
	Note string
	// Typing: there is no process yet. What was typed ahead is on its way into the
	// terminal; when poll(2) reports POLLPRI for Master, Typed starts it (see tty.Type).
	Typing bool
}

// Start starts the session s.Req asks for. If descriptors come with the request, conn
// is the connection it is on, from which the session's child takes it. What
// Started holds is the caller's to close and to Remove, also with a refusal.
//
// It goes in steps, each with what the one before has come to: who it is and what is to
// run, which makes nothing; the terminal and descriptors; all else the child needs; and
// the child. A worker of the kernel's puts into the terminal what was typed ahead. That
// may take a while, so Start does not wait for it.
func (j *Jail) Start(s *Slot, id *wire.Identity, conn int) (Started, *Refusal) {
	st := Started{Master: -1, Agent: -1}
	s.Child.Reset()
	s.arena = s.arena[:0]
	p, refusal := j.decide(s, id)
	if refusal != nil {
		return st, refusal
	}
	e := &s.ends
	*e = ends{}
	st.UID, st.SFTP, st.Proven = p.user.UID, s.isSFTP, s.proven
	st.Master, refusal = j.open(s, p.user.UID, conn, e)
	st.Pts = e.number
	if refusal != nil {
		s.Settle()
		return st, refusal
	}
	j.prepare(s, &p, e.line, &st)
	if s.Req.TTY() && s.Req.Flags&wire.FlagTyped != 0 {
		st.Typing = true
		return st, nil
	}
	refusal = s.spawn(&st)
	return st, refusal
}

// Typed starts a session that was Typing, or refuses it: because of err, if that is not
// nil.
func (j *Jail) Typed(s *Slot, st *Started, err error) *Refusal {
	st.Typing = false
	if err == nil {
		err = typed(st.Master, s.ends.slave, st.UID, &s.Req)
	}
	if err != nil {
		s.Settle()
		return &Refusal{125, "cannot open a terminal: " + reason(err)}
	}
	return s.spawn(st)
}

// plan is who a session is of and what it is to run.
type plan struct {
	user    passwd.Entry
	program string
}

// decide makes the plan, s.argv and the child's groups.
func (j *Jail) decide(s *Slot, id *wire.Identity) (p plan, refusal *Refusal) {
	c := s.Child
	user, groups, refusal := j.Identify(id, c.Groups[:0])
	if refusal != nil {
		return p, refusal
	}
	p.user, c.Groups = user, groups
	s.original, s.proven = nil, false
	if s.Req.Flags&wire.FlagForced != 0 && !s.proves() {
		if refusal = j.keyRule(s, &p.user); refusal != nil {
			return p, refusal
		}
	}
	if p.program, refusal = j.sftp(s); refusal != nil || p.program != "" {
		return p, refusal
	}
	p.program = p.user.Shell
	dash := ""
	if s.Req.Flags&wire.FlagLogin != 0 {
		dash = "-"
	}
	s.argv = append(s.argv[:0], s.cstr(dash, base(p.program)))
	for _, a := range s.Req.Args {
		s.argv = append(s.argv, cptr(a))
	}
	s.argv = append(s.argv, nil)
	return p, nil
}

// proves notes whether the login has come by the key of Proof, and by nothing else.
func (s *Slot) proves() bool {
	s.proven = s.Proof != "" && s.Req.Flags&wire.FlagAuthKnown != 0 && len(s.Req.Auth) == 1 && string(s.Req.Auth[0]) == s.Proof
	return s.proven
}

// ends are what the child has copies of.
type ends struct {
	slave, null int    // 0 without
	line        string // of the terminal, "pts/7"; "" without
	number      int    // the 7 of it
}

// Settle closes what only the child needs, and reports whether it could: the child has
// to have copies.
func (s *Slot) Settle() bool {
	if !s.Child.Own() {
		return false
	}
	for _, fd := range [...]int{s.ends.slave, s.ends.null} {
		if fd > 0 {
			sys.Close(fd)
		}
	}
	s.ends = ends{}
	return true
}

// open opens what the child's descriptors are to be, and returns the terminal's master, -1
// without one.
func (j *Jail) open(s *Slot, uid uint32, conn int, e *ends) (master int, refusal *Refusal) {
	c := s.Child
	master = -1
	if s.Req.FDs() > 0 {
		c.TakeFrom = conn
	}
	if s.Req.TTY() {
		m, slave, n, err := openTTY(j.Pts, uid, &s.Req)
		if err != nil {
			return -1, &Refusal{125, "cannot open a terminal: " + reason(err)}
		}
		master, e.slave, e.line, e.number = m, slave, "pts/"+strconv.Itoa(n), n
		c.CttyFD = slave
	}
	for i, kind := range s.Req.Stdio {
		switch kind {
		case wire.StdioPassed:
			c.FDs[i] = sys.FDTaken
		case wire.StdioTTY:
			c.FDs[i] = e.slave
		case wire.StdioNull:
			if e.null == 0 {
				null, err := sys.Openat2(j.Dev, "null", syscall.O_RDWR, sys.ResolveNoSymlinks|sys.ResolveBeneath)
				if err != nil {
					return master, &Refusal{125, "cannot open /dev/null: " + reason(err)}
				}
				e.null = null
			}
			c.FDs[i] = e.null
		}
	}
	return master, nil
}

// prepare makes what the session has of its client's, its environment, and the rest of the
// child. What cannot be had is left out.
func (j *Jail) prepare(s *Slot, p *plan, line string, st *Started) {
	c, user := s.Child, &p.user
	c.Path = s.cstr(p.program)
	j.forward(s, user, st)
	ttyName := ""
	if line != "" {
		ttyName = "/dev/" + line
	}
	j.environment(s, user, ttyName, &st.Forward)
	j.welcome(s, user, line, st)
	c.Argv, c.Envp = s.argv, s.envp
	c.ExecMsg = s.bytes(p.program, ": ")
	c.FailMsg = failMsg
	c.Dir = s.cstr(user.Home)
	c.DirMsg = s.bytes("Could not chdir to home directory ", user.Home, ": ")
	c.Setsid, c.CloseNow, c.FilesBelow = true, true, s.FilesBelow
	c.SetFiles, c.HardFiles = true, j.HardFiles
	c.Umask, c.Nice, c.Rlimits = -1, 0, nil
	if l := j.limits; l != nil {
		c.Umask, c.Nice, c.Rlimits = l.umask, l.nice, l.rlimits
	}
	c.KeepSignals = j.KeepSignals
	c.SetCred, c.KeepGroups = true, j.NoSetgroups
	c.UID, c.GID = user.UID, user.GID
	c.LoginProc = j.Proc
}

// welcome gives a login on a terminal what it begins with, and has it recorded.
func (j *Jail) welcome(s *Slot, u *passwd.Entry, line string, st *Started) {
	if line == "" || !isLogin(&s.Req) {
		return
	}
	s.Child.Greeting = j.greeting(s, u)
	if !s.proven {
		j.record(s, u, line)
		st.Login.Line = line
	}
}

// isLogin reports whether sshd, or login on a console, has started this session.
func isLogin(r *wire.Request) bool {
	for _, e := range r.Env {
		if name := environ.Name(e); string(name) == "SSH_CONNECTION" || string(name) == environ.MotdShown {
			return true
		}
	}
	return false
}

// failMsg begins what a client is told whose session is a process already, but cannot be
// a shell.
var failMsg = []byte("jail-init: cannot start the session: ")

// spawn makes the process.
func (s *Slot) spawn(st *Started) *Refusal {
	defer s.Settle()
	var err error
	st.PID, st.PIDFD, err = sys.Fork(s.Child)
	st.Login.PID = st.PID
	switch err {
	case nil:
		return nil
	case syscall.EAGAIN:
		return &Refusal{125, "the jail has as many processes as it may have (limits.pids); there is room when some have ended"}
	}
	return &Refusal{125, "cannot start a process: " + reason(err)}
}

// cbytes returns text as wire has strings: a NUL behind it.
func cbytes(text string) []byte { return append([]byte(text), 0)[:len(text)] }

// cptr returns b as a C string; wire promises the NUL behind it.
func cptr(b []byte) *byte { return &b[:len(b)+1][0] }

func base(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}

// reason puts an error in words without package fmt.
func reason(err error) string {
	switch err {
	case syscall.ELOOP, syscall.EXDEV:
		return "a symbolic link leads out of it"
	case syscall.EINVAL:
		return "it is not a regular file"
	case syscall.EFBIG:
		return "it is larger than 1 MiB"
	case syscall.ENOSPC:
		return "all terminals of the jail are in use"
	case syscall.EAGAIN:
		return "resource temporarily unavailable (a lease on the file?)"
	}
	return err.Error()
}
