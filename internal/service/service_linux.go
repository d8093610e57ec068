// Package service is around the state machine of a jail's services (supervise.Services): it
// asks PID 1 for them, hears how they end, and hands what they write to the log.
//
// Each service has a connection to PID 1 of its own, which says when it ends. What PID 1
// says of it is believed of this jail only: one that has been taken over can have services
// started as often as their pauses allow, and no more. Nothing here keeps the caller waiting.
package service

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"jail/internal/event"
	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/supervise"
	"jail/internal/sys"
	"jail/internal/wire"
)

// answerWait is how long PID 1 may take to answer.
const answerWait = 20 * time.Second

// lostWait is how long after its PID 1 a jail is known to have ended, at the latest.
const lostWait = time.Second

// Options are what the services of a jail are run with.
type Options struct {
	RuntimeDir string
	Jail       string
	Services   []jail.Service
	// Found says that the jail runs from before, and its services may.
	Found bool
	// Log gets one line without an end, of printable ASCII. It is called by several
	// goroutines.
	Log func(text string)
}

// Runner runs the services of one jail.
type Runner struct {
	opt     Options
	outputs []*output
	// A PID 1 that has been taken over may have put descriptors into a connection that
	// take as long as it likes to be closed: one thread waits, however often it does.
	closer fdsock.Closer

	mu      sync.Mutex
	machine *supervise.Services
	timer   *time.Timer
	over    bool
}

// Run runs the services of a jail that answers, until Over; nil without services.
func Run(opt Options) *Runner {
	if len(opt.Services) == 0 {
		return nil
	}
	r := &Runner{opt: opt, machine: supervise.NewServices(opt.Services)}
	r.timer = time.AfterFunc(time.Hour, func() { r.step(supervise.ServiceEvent{Kind: supervise.ServiceClock}) })
	r.timer.Stop()
	for i := range opt.Services {
		name := opt.Services[i].Name
		o, err := openOutput(opt.RuntimeDir, opt.Jail, name, opt.Found, func(text string) { opt.Log("service " + name + ": " + text) })
		if err != nil {
			opt.Log("service " + name + ": what it writes is lost: " + err.Error())
		}
		r.outputs = append(r.outputs, o)
	}
	kind := supervise.JailStarted
	if opt.Found {
		kind = supervise.JailFound
	}
	r.step(supervise.ServiceEvent{Kind: kind})
	return r
}

// Ends says that the jail is about to end: nothing is started any more.
func (r *Runner) Ends() {
	if r != nil {
		r.step(supervise.ServiceEvent{Kind: supervise.JailEnds})
	}
}

// Over says that the jail has ended. What its services have written is still handed to the
// log, which is not waited for.
func (r *Runner) Over() {
	if r == nil {
		return
	}
	r.Ends()
	r.mu.Lock()
	was := r.over
	r.over = true
	r.timer.Stop()
	r.mu.Unlock()
	if was {
		return
	}
	for _, o := range r.outputs {
		o.end()
	}
}

// step tells the machine what has happened, and does what it wants.
func (r *Runner) step(ev supervise.ServiceEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	now := sys.MonotonicMillis()
	for _, a := range r.machine.Step(now, ev, nil) {
		switch a.Do {
		case supervise.LogService:
			r.opt.Log(a.Text)
		case supervise.FindService:
			go r.attend(a.Index, true)
		case supervise.StartService:
			go r.attend(a.Index, false)
		}
	}
	if due := r.machine.Due(); due != 0 {
		r.timer.Reset(time.Duration(max(due-now, 0)) * time.Millisecond)
	}
}

// attend asks for a service, or starts it, and stays until it ends.
func (r *Runner) attend(i int, find bool) {
	ev := supervise.ServiceEvent{Kind: supervise.ServiceLost, Index: i}
	conn, fd, err := r.ask(i, find)
	if err != nil {
		ev.Text = err.Error()
		r.step(ev)
		return
	}
	defer r.closer.Close(0, fd)
	defer conn.Close() // which is not what closes the connection
	_ = conn.SetReadDeadline(time.Now().Add(answerWait))
	for begun := false; ; begun = true {
		typ, flags, body, err := receive(conn)
		ev := supervise.ServiceEvent{Index: i}
		switch {
		case err != nil:
			ev.Kind, ev.Text = supervise.ServiceLost, err.Error()
		case typ == wire.TypeStarted:
			var st wire.Started
			st, err = wire.DecodeStarted(flags, body)
			ev.Kind, ev.PID, ev.Found = supervise.ServiceBegun, st.PID, find
			_ = conn.SetReadDeadline(time.Time{})
		case typ == wire.TypeExited:
			var e wire.Exited
			e, err = wire.DecodeExited(flags, body)
			ev.Kind, ev.Status, ev.Signal, ev.OutOfMemory = supervise.ServiceEnded, e.Code, e.Signal, e.OutOfMemory
			if err == nil && e.Ending {
				r.Ends() // whoever has told it to
			}
		case typ == wire.TypeRefused && find:
			_, err = wire.DecodeRefused(body)
			ev.Kind = supervise.ServiceNone
		case typ == wire.TypeRefused:
			var no wire.Refused
			no, err = wire.DecodeRefused(body)
			ev.Kind, ev.Text = supervise.ServiceRefused, event.Quote(no.Text)
		default:
			err = wire.ErrMalformed
		}
		if ev.Kind == supervise.ServiceLost && begun {
			// With the jail itself it ends like this. Who knows that, says so.
			time.Sleep(lostWait)
		}
		if err != nil {
			ev = supervise.ServiceEvent{Kind: supervise.ServiceLost, Index: i, Text: err.Error()}
		}
		r.step(ev)
		if ev.Kind != supervise.ServiceBegun {
			return
		}
	}
}

// errOld is what becomes of a conversation with a PID 1 that ends it.
var errOld = errors.New("its PID 1 has ended the connection; one of an older build knows no services (jail stop, and it starts anew)")

// receive returns the next packet, read without its descriptors: the kernel closes those.
func receive(conn *os.File) (wire.Type, uint16, []byte, error) {
	buf := make([]byte, 1024) // the longest answer is a Refused
	n, err := conn.Read(buf)
	switch {
	case err == io.EOF, errors.Is(err, syscall.ECONNRESET):
		return 0, 0, nil, errOld
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, 0, nil, errors.New("its PID 1 does not answer")
	case err != nil:
		return 0, 0, nil, err
	}
	return wire.Header(buf[:n])
}

// dial is replaced by tests that play a kernel before 6.16.
var dial = fdsock.DialPlain

// ask connects to PID 1 and sends what it is asked. It returns the connection to be read, and
// another descriptor of it, to be closed by closer.
func (r *Runner) ask(i int, find bool) (*os.File, int, error) {
	s := &r.opt.Services[i]
	fd, err := dial(fdsock.ControlPath(r.opt.RuntimeDir, r.opt.Jail))
	if err != nil {
		return nil, -1, err
	}
	var m sys.MsgBuf
	flags := uint16(0)
	if find {
		flags = wire.FlagFind
	}
	err = sys.SendMsg(fd, wire.AppendService(nil, &wire.Service{Name: s.Name, As: s.Identity()}, flags), nil, true, &m)
	if err == nil && !find {
		err = r.request(fd, i, &m)
	}
	if err == nil {
		err = sys.SetNonblock(fd)
	}
	again := -1
	if err == nil {
		again, err = sys.Fcntl(fd, syscall.F_DUPFD_CLOEXEC, 0)
	}
	switch err {
	case nil:
		return os.NewFile(uintptr(again), "service"), fd, nil
	case syscall.EPIPE, syscall.ECONNRESET:
		err = errOld
	}
	r.closer.Close(0, fd)
	return nil, -1, err
}

// request sends the request that becomes the service: its arguments, and its output.
func (r *Runner) request(fd, i int, m *sys.MsgBuf) error {
	s := &r.opt.Services[i]
	req := wire.Request{}
	for _, arg := range s.Exec[1:] {
		req.Args = append(req.Args, []byte(arg))
	}
	var fds []int
	if o := r.outputs[i]; o != nil {
		end, err := o.open()
		if err != nil {
			return err
		}
		defer sys.Close(end)
		req.Stdio = [3]wire.Stdio{wire.StdioNull, wire.StdioPassed, wire.StdioPassed}
		fds = []int{end, end}
	}
	p, err := wire.AppendRequest(nil, &req)
	if err != nil {
		return err
	}
	return sys.SendMsg(fd, p, fds, true, m)
}
