// Package control is the host's end of a jail's control socket: what serve and
// the administrator's verbs ask a running PID 1.
//
// PID 1 may have been taken over by the tenant, so nothing it answers is acted
// on beyond what the kernel vouches for: its pid.
package control

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"jail/internal/fdsock"
	"jail/internal/sys"
	"jail/internal/wire"
)

// answerWait is how long PID 1 may take to say who it is, in milliseconds.
const answerWait = 3000

// openWait bounds Open as a whole: a connect(2) and an answer.
const openWait = 2 * answerWait * time.Millisecond

// ErrNotRunning is returned when nobody is behind a jail's control socket.
var ErrNotRunning = errors.New("the jail is not running")

// Conn is a control connection to a running jail.
type Conn struct {
	FD     int
	PIDFD  int // of PID 1; the caller closes it
	PID    int
	Status wire.Status
	m      sys.MsgBuf
}

// Open connects to the jail name and makes sure who is there. The pid comes
// from the kernel (SCM_CREDENTIALS, unix(7)); it is asked for once more after a
// pidfd was opened for it, so that it cannot have been given to somebody else
// meanwhile.
//
// With wantLog the jail's log lines and events come over the connection from then on,
// among them the events that PID 1 has kept: they are for Listen.
//
// It comes back after some seconds at the latest. What it talks to may make it wait
// longer, before Linux 6.16 (see Voice); then it is left behind.
func Open(runtimeDir, name string, wantLog bool) (*Conn, error) {
	type answer struct {
		c   *Conn
		err error
	}
	answers := make(chan answer)
	late := make(chan struct{})
	go func() {
		c, err := open(runtimeDir, name, wantLog)
		select {
		case answers <- answer{c, err}:
		case <-late:
			if err == nil {
				c.Close()
			}
		}
	}()
	select {
	case a := <-answers:
		return a.c, a.err
	case <-time.After(openWait):
		close(late)
		return nil, fmt.Errorf("jail %s: %w", name, syscall.ETIMEDOUT)
	}
}

func open(runtimeDir, name string, wantLog bool) (*Conn, error) {
	fd, err := fdsock.DialPlain(fdsock.ControlPath(runtimeDir, name))
	switch err {
	case nil:
	case syscall.ENOENT, syscall.ECONNREFUSED:
		return nil, ErrNotRunning
	default:
		return nil, fmt.Errorf("connect to jail %s: %w", name, err)
	}
	c := &Conn{FD: fd, PIDFD: -1}
	if err := c.identify(wantLog); err != nil {
		c.Close()
		return nil, fmt.Errorf("jail %s: %w", name, err)
	}
	if wantLog {
		// Not before: what comes while its answers are awaited is passed over. The
		// answer to this one is passed over by who listens.
		if err := sys.SendMsg(c.FD, wire.AppendHelloEvents(nil), nil, true, &c.m); err != nil {
			c.Close()
			return nil, fmt.Errorf("jail %s: %w", name, err)
		}
	}
	return c, nil
}

func (c *Conn) identify(wantLog bool) error {
	if err := sys.PassCredentials(c.FD); err != nil {
		return err
	}
	deadline := sys.MonotonicMillis() + answerWait
	if err := c.hello(wantLog, deadline); err != nil {
		return err
	}
	pid := c.PID
	var err error
	if c.PIDFD, err = sys.PidfdOpen(pid); err != nil {
		return fmt.Errorf("open pidfd of process %d: %w", pid, err)
	}
	if err := c.hello(wantLog, deadline); err != nil {
		return err
	}
	if c.PID != pid {
		return errors.New("PID 1 changed while it was asked")
	}
	if !isInit(pid) {
		// A child of a PID 1 that has been taken over: its end would be believed to
		// be the jail's.
		return errors.New("who answers is not PID 1")
	}
	return nil
}

// hello asks PID 1 for its status. What it logs meanwhile is passed over, which does
// not give it more time.
func (c *Conn) hello(wantLog bool, deadline int64) error {
	if err := sys.SendMsg(c.FD, wire.AppendHelloBuild(nil, wantLog), nil, true, &c.m); err != nil {
		return err
	}
	for {
		left := deadline - sys.MonotonicMillis()
		if left <= 0 {
			return syscall.ETIMEDOUT
		}
		typ, body, err := c.Recv(int(left))
		if err != nil {
			return err
		}
		if typ == wire.TypeLog {
			continue
		}
		if typ != wire.TypeStatus {
			return wire.ErrMalformed
		}
		if c.Status, err = wire.DecodeStatus(body); err != nil {
			return err
		}
		if c.m.CredPID <= 0 {
			return errors.New("its pid is not visible here")
		}
		c.PID = int(c.m.CredPID)
		return nil
	}
}

// Recv receives one message; ms bounds the wait, -1 is for ever. Descriptors that come
// along are closed.
func (c *Conn) Recv(ms int) (wire.Type, []byte, error) {
	n, err := sys.Poll([]sys.PollFD{{FD: int32(c.FD), Events: sys.PollIn}}, ms)
	if err != nil {
		return 0, nil, err
	}
	if n == 0 {
		return 0, nil, syscall.ETIMEDOUT
	}
	buf := make([]byte, 8192)
	n, err = sys.RecvMsg(c.FD, buf, true, &c.m)
	sys.CloseForeign(c.m.FDs)
	if err != nil {
		return 0, nil, err
	}
	if n == 0 {
		return 0, nil, syscall.ECONNRESET
	}
	typ, _, body, err := wire.Header(buf[:n])
	return typ, body, err
}

// Send sends a message.
func (c *Conn) Send(p []byte, fds []int) error {
	return sys.SendMsg(c.FD, p, fds, true, &c.m)
}

// Close closes the connection and the pidfd.
func (c *Conn) Close() {
	sys.CloseForeign([]int{c.FD})
	if c.PIDFD >= 0 {
		sys.Close(c.PIDFD)
	}
}

// Process is one of a jail's, as the host sees it.
type Process struct {
	// PID is on the host.
	PID int
	// Name is the tenant's choice, unquoted.
	Name string
	// State is a letter (proc_pid_stat(5)).
	State string
}

// Processes returns what runs in a jail besides its PID 1, whose pid on the host is
// given: whatever runs there descends from it, since orphans come back to it.
func Processes(pid int) (found []Process) {
	children := map[int][]process{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := readProcess(n); ok {
				children[p.parent] = append(children[p.parent], p)
			}
		}
	}
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		p := queue[0]
		queue = append(queue, children[p.pid]...)
		if p.state != "Z" && p.state != "X" {
			found = append(found, Process{p.pid, p.comm, p.state})
		}
	}
	return found
}

// Remains says why the kernel does not end a jail whose PID 1 has been killed:
// processes that cannot be. The caller makes sure that pid is still that PID 1's.
func Remains(pid int) string {
	const most = 5
	var found []string
	for _, p := range Processes(pid) {
		found = append(found, fmt.Sprintf("%d (%s, state %s)", p.PID, strconv.QuoteToASCII(p.Name), p.State))
	}
	who := "a process in it"
	switch n := len(found); {
	case n == 1:
		who = "process " + found[0]
	case n > most:
		who = fmt.Sprintf("processes %s and %d more", strings.Join(found[:most], ", "), n-most)
	case n > 1:
		who = "processes " + strings.Join(found, ", ")
	}
	return who + " cannot be killed: probably waiting for a file system or device that does not answer"
}

// Exiting reports whether a process is coming to its end, by the kernel's word: one
// that has just closed its descriptors is not.
func Exiting(pid int) bool {
	p, ok := readProcess(pid)
	return !ok || p.exiting
}

// process is a line of /proc/PID/stat (proc(5)).
type process struct {
	pid, parent int
	comm        string // the tenant's choice
	state       string
	exiting     bool
}

func readProcess(pid int) (process, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	return parseStat(pid, string(text))
}

// parseStat reads the text of a stat file (proc_pid_stat(5)) as far as it is of use.
func parseStat(pid int, text string) (process, bool) {
	_, rest, _ := strings.Cut(text, " (")
	// The name may have anything in it, but nothing after it has a bracket.
	end := strings.LastIndexByte(rest, ')')
	if end < 0 {
		return process{}, false
	}
	p := process{pid: pid, comm: rest[:end]}
	fields := strings.Fields(rest[end+1:])
	if len(fields) < 7 {
		return process{}, false
	}
	p.state = fields[0]
	var err error
	p.parent, err = strconv.Atoi(fields[1])
	flags, _ := strconv.ParseUint(fields[6], 10, 32)
	p.exiting = flags&4 != 0 // PF_EXITING
	return p, err == nil
}
