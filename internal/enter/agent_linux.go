package enter

import (
	"syscall"

	"jail/internal/sys"
)

// maxAgentConns bounds the connections to the client's agent at one time; more
// wait in the queue of the socket inside.
const maxAgentConns = 64

// agentChunk is the size of a connection's two buffers. A message to an agent is
// mostly shorter; a longer one passes in pieces.
const agentChunk = 4 << 10

// maxAncestors is how far up from us sshd may be: a shell or two are between,
// where the ForceCommand is not run by exec.
const maxAncestors = 4

// agent stands between the agent socket inside and that of sshd.
type agent struct {
	path     []byte // SSH_AUTH_SOCK; nil without
	listener int    // inside; -1 without
	used     int    // of conns: the first ones
	conns    [maxAgentConns]*agentConn
	memory   [maxAgentConns]agentConn
	pathText [maxSocketPath + 1]byte
}

// maxSocketPath is the longest path of a socket (unix(7)).
const maxSocketPath = 107

// agentConn is one connection: what is read from one end is written to the
// other.
type agentConn struct {
	ends [2]int // the program inside, sshd
	dirs [2]agentDir
	used bool
}

// agentDir is the direction from ends[i] to ends[1-i].
type agentDir struct {
	r, w int // unwritten bytes are buf[r:w]
	eof  bool
	buf  [agentChunk]byte
}

// agentPath returns the path of an agent that this login may have inside, "" if
// there is none. Only the socket of a forwarded agent is one, and sshd makes that
// for this uid. Under a su the variables may be left over from the caller's own
// login; what they name belongs to the caller then.
// dst is memory to use.
func agentPath(env []string, dst []byte) []byte {
	path, _ := lookup(env, "SSH_AUTH_SOCK")
	if len(path) == 0 || len(path) > maxSocketPath || path[0] != '/' {
		return nil
	}
	var st syscall.Stat_t
	dst = append(append(dst, path...), 0)
	if sys.Stat(dst, &st) != 0 || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK || st.Uid != uint32(syscall.Geteuid()) {
		return nil
	}
	return dst[:len(path)]
}

// isListener reports whether fd is a listening unix stream socket and nothing
// else: what comes from the jail may be anything.
func isListener(fd int) bool {
	for _, is := range [...]struct{ option, want int }{
		{syscall.SO_DOMAIN, syscall.AF_UNIX}, {syscall.SO_TYPE, syscall.SOCK_STREAM}, {syscall.SO_ACCEPTCONN, 1},
	} {
		if v, e := sys.SockoptInt(fd, is.option); e != 0 || v != is.want {
			return false
		}
	}
	return sys.SetNonblock(fd) == nil
}

// poll appends what is waited for: the listener, then both ends of each
// connection.
func (a *agent) poll(fds []sys.PollFD) []sys.PollFD {
	if a.listener < 0 {
		return fds
	}
	l := sys.PollFD{FD: int32(a.listener), Events: sys.PollIn}
	if a.used == maxAgentConns {
		l.FD = -1
	}
	fds = append(fds, l)
	for _, c := range a.conns[:a.used] {
		for i := range c.ends {
			p := sys.PollFD{FD: int32(c.ends[i])}
			from, to := &c.dirs[i], &c.dirs[1-i]
			if from.r == from.w && !from.eof {
				p.Events |= sys.PollIn
			}
			if to.r < to.w {
				p.Events |= sys.PollOut
			}
			if p.Events == 0 {
				p.FD = -1 // or its POLLHUP would come again and again
			}
			fds = append(fds, p)
		}
	}
	return fds
}

// handle does what poll's part of the answers asks for.
func (a *agent) handle(fds []sys.PollFD) {
	if len(fds) == 0 {
		return
	}
	kept := 0
	for n, c := range a.conns[:a.used] {
		alive := true
		for i := range c.ends {
			if revents := fds[1+2*n+i].Revents; revents != 0 && alive {
				alive = c.step(i, revents)
			}
		}
		if alive && c.dirs[0].eof && c.dirs[1].eof && c.dirs[0].r == c.dirs[0].w && c.dirs[1].r == c.dirs[1].w {
			alive = false
		}
		if alive {
			a.conns[kept] = c
			kept++
		} else {
			c.close()
		}
	}
	a.used = kept
	if fds[0].Revents != 0 {
		a.accept()
	}
}

// accept takes one connection and makes its other half.
func (a *agent) accept() {
	inside, err := sys.Accept(a.listener)
	switch err {
	case nil:
	case syscall.EAGAIN, syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE:
		return
	default:
		a.close() // nobody will ever connect
		return
	}
	outside := a.dial()
	if outside < 0 {
		sys.Close(inside)
		return
	}
	a.add(inside, outside)
}

// add makes the two ends a connection.
func (a *agent) add(inside, outside int) {
	for i := range a.memory {
		c := &a.memory[i]
		if c.used {
			continue
		}
		c.used, c.ends = true, [2]int{inside, outside}
		for d := range c.dirs {
			c.dirs[d].r, c.dirs[d].w, c.dirs[d].eof = 0, 0, false
		}
		a.conns[a.used] = c
		a.used++
		return
	}
}

// dial connects to the client's agent, that is to sshd, with our own uid; -1 if
// there is none. Whoever may have had a hand in our environment, through PAM or a
// careless AcceptEnv, gets no other service of the host that way (the user's
// D-Bus, and so systemd): what listens must be the sshd we come from.
func (a *agent) dial() int {
	fd, e := sys.ConnectAt(syscall.SOCK_STREAM, a.path)
	if e != 0 {
		return -1
	}
	if pid, e := sys.PeerPID(fd); e == 0 && isAncestor(pid) {
		return fd
	}
	sys.Close(fd)
	return -1
}

// isAncestor reports whether process pid is our parent, or its parent, or so on.
func isAncestor(pid int) bool {
	p := syscall.Getppid()
	for n := 0; n < maxAncestors && p > 1 && pid > 1; n++ {
		if p == pid {
			return true
		}
		p = parentOf(p)
	}
	return false
}

// parentOf returns the parent of a process; 0 if it cannot be told
// (proc_pid_stat(5)).
func parentOf(pid int) int {
	var path [40]byte
	fd, e := sys.OpenNoWait(append(appendDecimal(append(path[:0], "/proc/"...), pid), "/stat\x00"...), syscall.O_RDONLY)
	if e != 0 {
		return 0
	}
	var buf [512]byte
	n, _ := sys.Read(fd, buf[:])
	sys.Close(fd)
	return parseParent(buf[:max(n, 0)])
}

// parseParent finds the parent in a process's stat. The name in brackets may have
// any character, but nothing after it has a bracket.
func parseParent(stat []byte) int {
	i := len(stat) - 1
	for i >= 0 && stat[i] != ')' {
		i--
	}
	// ") S PPID "
	if i < 0 || i+4 >= len(stat) || stat[i+1] != ' ' || stat[i+3] != ' ' {
		return 0
	}
	parent := 0
	for _, c := range stat[i+4:] {
		if c < '0' || c > '9' {
			break
		}
		if parent = parent*10 + int(c-'0'); parent > 1<<22 { // PID_MAX_LIMIT
			return 0
		}
	}
	return parent
}

// step reads from and writes to end i. It reports whether the connection lives.
func (c *agentConn) step(i int, revents int16) bool {
	from, to := &c.dirs[i], &c.dirs[1-i]
	if revents&(sys.PollIn|sys.PollHup|sys.PollErr) != 0 && from.r == from.w && !from.eof {
		n, err := sys.Read(c.ends[i], from.buf[:])
		switch {
		case n > 0:
			from.r, from.w = 0, n
		case n == 0 && err == nil:
			from.eof = true
			sys.ShutdownWrite(c.ends[1-i])
		case err != syscall.EAGAIN:
			return false
		}
	}
	if revents&(sys.PollOut|sys.PollErr) != 0 && to.r < to.w {
		n, err := sys.Write(c.ends[i], to.buf[to.r:to.w])
		if err != nil && err != syscall.EAGAIN {
			return false
		}
		to.r += max(n, 0)
	}
	return true
}

func (c *agentConn) close() {
	sys.Close(c.ends[0])
	sys.Close(c.ends[1])
	c.used = false
}

func (a *agent) close() {
	if a.listener >= 0 {
		sys.Close(a.listener)
		a.listener = -1
	}
	for _, c := range a.conns[:a.used] {
		c.close()
	}
	a.used = 0
}
