// Package serve is "jail-init serve": it holds the sockets of every login of the
// registry, starts a jail when somebody connects, and does nothing else. A login
// to a running jail does not involve it, so it may crash, be restarted or
// upgraded at any time.
//
// It is one loop; only starts run beside it. What it knows about running jails it
// learns from the kernel and from the jails, never from a file.
package serve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"

	"jail/config"
	"jail/internal/cgroup"
	"jail/internal/control"
	"jail/internal/fdsock"
	"jail/internal/hostfiles"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/sys"
	"jail/internal/wire"
)

// Options are what the command line says.
type Options struct {
	ConfigPath string
	RuntimeDir string
	Rootless   bool
	Log        io.Writer
}

// Back-off after failed starts of one jail, how long a refused client may take to
// read why, what the processes of a jail get to end by themselves, and PID 1 on top of
// that to end them.
const (
	backoffMin = time.Second
	backoffMax = 30 * time.Second
	lingerFor  = 2 * time.Second
	stopGrace  = 5 * time.Second
	killAfter  = stopGrace + 5*time.Second
)

// endWait is how long the kernel may take to end a jail whose PID 1 is no more,
// before its logins are refused instead of waiting.
const endWait = 10 * time.Second

type status int

const (
	stopped status = iota
	starting
	running
	ending // PID 1 is no more, and the kernel cannot end what else is in the jail
)

type kind int32

const (
	kindWake     kind = iota
	kindListener      // index: login's number
	kindChild         // index: jail's number
	kindLog           // index: jail's number
	kindStderr        // index: jail's number
	kindLinger        // index: descriptor
	kindResolver
)

type login struct {
	fd   int
	spec jail.Login
	jail int // number
}

type jailState struct {
	spec    jail.Spec
	status  status
	removed bool // no longer in the registry
	logins  []int

	pid, pidfd   int
	conn, stderr int
	ours         bool // PID 1 is our child
	started      time.Time
	lost         time.Time // when PID 1 closed conn; zero before
	killAt       time.Time // when it has been told to end; zero if it has not

	failures  int
	notBefore time.Time
	lastError string
	lines     int // of stderr in this second
	lineTime  int64
}

type result struct {
	jail   int
	logins []int // those it was started with
	j      *launch.Jail
	err    error
}

type server struct {
	opt      Options
	launcher *launch.Launcher
	launch   func(spec *jail.Spec, listeners []int, ctl int) (*launch.Jail, error)
	epfd     int
	wake     int // eventfd
	results  chan result
	signals  chan os.Signal
	jails    []*jailState
	byName   map[string]int
	logins   []*login
	linger   map[int]time.Time
	stopAll  bool
	leaving  bool
	seq      uint32
	resolver *hostfiles.Resolver
}

// Run serves until it is told to stop. The error is what an administrator has
// to mend.
func Run(opt Options) error {
	syscall.Umask(0o077)
	reg, err := load(opt)
	if err != nil {
		return err
	}
	if err := fdsock.PrepareDir(opt.RuntimeDir); err != nil {
		return err
	}
	lock, err := lockDir(opt.RuntimeDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	s := &server{
		opt: opt, results: make(chan result, 64), signals: make(chan os.Signal, 8),
		byName: map[string]int{}, linger: map[int]time.Time{},
	}
	if s.launcher, err = launch.New(cgroup.Outlive, ""); err != nil {
		return err
	}
	s.launch = s.launcher.Start
	s.launcher.Sweep()
	if s.resolver, err = hostfiles.OpenResolver(opt.RuntimeDir); err != nil {
		s.log("warning: jails started from now on keep their own /etc/resolv.conf: %v", err)
	} else {
		defer s.resolver.Close()
		s.launcher.ShowResolver(s.resolver.File())
	}
	for _, w := range s.launcher.Warnings() {
		s.log("warning: %s", w)
	}
	if s.epfd, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if s.wake, err = sys.Eventfd(); err != nil {
		return err
	}
	if err := s.watch(s.wake, kindWake, 0); err != nil {
		return err
	}
	if s.resolver != nil {
		if err := s.watch(s.resolver.Events(), kindResolver, 0); err != nil {
			return err
		}
	}
	signal.Notify(s.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	sigs := make(chan os.Signal, 8)
	sigs, s.signals = s.signals, sigs
	go func() {
		for sig := range sigs {
			s.signals <- sig
			sys.EventfdAdd(s.wake)
		}
	}()
	if err := errors.Join(s.apply(reg), s.publish(reg)); err != nil {
		return err
	}
	s.log("ready: %d jails, %d logins, sockets in %s", len(s.jails), len(s.logins), opt.RuntimeDir)
	fdsock.Notify("READY=1")
	return s.loop()
}

func load(opt Options) (*config.Registry, error) {
	return inforce.Load(opt.ConfigPath, config.Options{Rootless: opt.Rootless, RuntimeDir: opt.RuntimeDir})
}

// publish lets jail-keys and the verbs know what is in force from now on, and the log
// what is not. It comes after the landing has changed: a key lookup is never newer.
func (s *server) publish(reg *config.Registry) error {
	for _, w := range reg.Warnings {
		s.log("warning: %s", w.Error())
	}
	for i := range reg.Faults {
		s.log("error: out of service: %s: %s", reg.Concerns(&reg.Faults[i]), strings.ReplaceAll(reg.Faults[i].Errors.Error(), "\n", "; "))
	}
	if err := inforce.Publish(s.opt.RuntimeDir, s.opt.ConfigPath, reg); err != nil {
		return fmt.Errorf("registry in force: %w", err)
	}
	return nil
}

// lockDir makes sure that only one serve works in a runtime directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "serve.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another jail-init serve works in %s; stop it first", dir)
	}
	return f, nil
}

// log writes one line. Text that comes from inside a jail is quoted by the
// caller.
func (s *server) log(format string, args ...any) {
	fmt.Fprintf(s.opt.Log, "jail-init: "+format+"\n", args...)
}

func (s *server) watch(fd int, k kind, index int) error {
	ev := sys.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(k), Pad: int32(index)}
	return syscall.EpollCtl(s.epfd, syscall.EPOLL_CTL_ADD, fd, &ev)
}

func (s *server) unwatch(fd int) { _ = syscall.EpollCtl(s.epfd, syscall.EPOLL_CTL_DEL, fd, nil) }

func (s *server) loop() error {
	events := make([]sys.EpollEvent, 64)
	for {
		n, err := sys.EpollWait(s.epfd, events, s.timeout())
		if err != nil && err != syscall.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, ev := range events[:max(n, 0)] {
			i := int(ev.Pad)
			switch kind(ev.Fd) {
			case kindWake:
				sys.EventfdClear(s.wake)
			case kindListener:
				s.connected(s.logins[i])
			case kindChild:
				s.ended(i)
			case kindLog:
				s.readLog(i)
			case kindStderr:
				s.readStderr(i)
			case kindLinger:
				s.release(i)
			case kindResolver:
				if err := s.resolver.Changed(); err != nil {
					s.log("jails do not see the new /etc/resolv.conf: %v", err)
				}
			}
		}
		s.collect()
		for now := time.Now(); ; {
			done := true
			for fd, until := range s.linger {
				if now.After(until) {
					s.release(fd)
					done = false
					break
				}
			}
			if done {
				break
			}
		}
		s.checkLost()
		s.killOverdue()
		select {
		case sig := <-s.signals:
			switch sig {
			case syscall.SIGHUP:
				s.reload()
			case syscall.SIGINT:
				s.log("stopping all jails")
				s.stopAll = true
				for _, j := range s.jails {
					s.stop(j)
				}
			default:
				// What has happened until now is still dealt with, so that nothing
				// of a jail that has just ended stays behind.
				s.leaving = true
			}
		default:
		}
		if s.leaving && n == 0 {
			s.log("ending; running jails go on")
			s.cleanup()
			return nil
		}
		if s.stopAll && s.idle() {
			s.cleanup()
			return nil
		}
	}
}

func (s *server) timeout() int {
	if s.leaving {
		return 0
	}
	if len(s.linger) > 0 {
		return 500
	}
	for _, j := range s.jails {
		if j.status == running && (!j.lost.IsZero() || !j.killAt.IsZero()) {
			return 500
		}
	}
	return -1
}

func (s *server) idle() bool {
	for _, j := range s.jails {
		if j.status != stopped {
			return false
		}
	}
	return true
}

// cleanup removes the sockets nobody is behind from now on. Those of running
// jails stay.
func (s *server) cleanup() {
	for _, lg := range s.logins {
		if lg.fd >= 0 && s.jails[lg.jail].status == stopped {
			fdsock.Remove(fdsock.LoginPath(s.opt.RuntimeDir, lg.spec.HostUID), lg.fd)
		}
	}
}

// apply makes the server's state that of the registry, at the start and after a
// reload. A running jail keeps the description it was started with; what its
// logins may do changes at once.
func (s *server) apply(reg *config.Registry) error {
	seen := map[string]bool{}
	var errs []error
	for i := range reg.Jails {
		spec := &reg.Jails[i]
		seen[spec.Name] = true
		n, known := s.byName[spec.Name]
		if !known {
			n = len(s.jails)
			s.jails = append(s.jails, &jailState{pidfd: -1, conn: -1, stderr: -1})
			s.byName[spec.Name] = n
		}
		j := s.jails[n]
		j.removed = false
		old := j.spec
		j.spec = *spec
		if !known {
			s.adopt(n)
		} else if j.status != stopped && !sameJail(&old, spec) {
			s.log("jail %s: the change takes effect when it starts anew (jail stop %s)", spec.Name, spec.Name)
		}
		if err := s.setLogins(n); err != nil {
			errs = append(errs, err)
		}
	}
	for name, n := range s.byName {
		if j := s.jails[n]; !seen[name] && !j.removed {
			j.removed = true
			j.spec.Logins = nil
			_ = s.setLogins(n)
			if j.status != stopped {
				s.log("jail %s is no longer in the registry: no new sessions; it ends with its last process, or by jail stop %s", name, name)
			}
		}
	}
	for n, j := range s.jails {
		if j.spec.Autostart && !j.removed && j.status == stopped {
			s.start(n)
		}
	}
	return errors.Join(errs...)
}

// sameJail reports whether two descriptions differ in nothing but logins.
func sameJail(a, b *jail.Spec) bool {
	x, y := *a, *b
	x.Logins, y.Logins = nil, nil
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// setLogins makes the listeners of a jail those of its logins, and tells a
// running PID 1.
func (s *server) setLogins(n int) error {
	j := s.jails[n]
	want := map[jail.HostUID]jail.Login{}
	for _, lg := range j.spec.Logins {
		want[lg.HostUID] = lg
		if err := fdsock.SetX11(s.opt.RuntimeDir, lg.HostUID, j.spec.X11); err != nil {
			return fmt.Errorf("login %s: %w", lg.Name, err)
		}
	}
	kept := j.logins[:0]
	for _, i := range j.logins {
		lg := s.logins[i]
		w, ok := want[lg.spec.HostUID]
		if ok && w == lg.spec {
			if err := fdsock.WriteAccept(s.opt.RuntimeDir, w.HostUID, j.spec.EnvAccept); err != nil {
				return fmt.Errorf("login %s: %w", w.Name, err)
			}
			delete(want, lg.spec.HostUID)
			kept = append(kept, i)
			continue
		}
		s.dropLogin(j, lg)
	}
	j.logins = kept
	order := make([]jail.HostUID, 0, len(want))
	for uid := range want {
		order = append(order, uid)
	}
	sort.Slice(order, func(a, b int) bool { return order[a] < order[b] })
	for _, uid := range order {
		if err := fdsock.WriteAccept(s.opt.RuntimeDir, uid, j.spec.EnvAccept); err != nil {
			return fmt.Errorf("login %s: %w", want[uid].Name, err)
		}
		fd, err := fdsock.ListenLogin(s.opt.RuntimeDir, uid)
		if err != nil {
			return fmt.Errorf("login %s: %w", want[uid].Name, err)
		}
		lg := &login{fd: fd, spec: want[uid], jail: n}
		i := len(s.logins)
		s.logins = append(s.logins, lg)
		j.logins = append(j.logins, i)
		switch j.status {
		case running:
			id := launch.Identity(&lg.spec)
			s.tell(j, wire.AppendAddLogin(nil, &id), []int{fd})
		case stopped, ending:
			if err := s.watch(fd, kindListener, i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *server) dropLogin(j *jailState, lg *login) {
	fdsock.Remove(fdsock.LoginPath(s.opt.RuntimeDir, lg.spec.HostUID), lg.fd)
	s.unwatch(lg.fd) // a start beside us may have a copy, which would keep it there
	sys.Close(lg.fd)
	lg.fd = -1
	if j.status == running {
		s.tell(j, wire.AppendDropLogin(nil, uint32(lg.spec.HostUID)), nil)
	}
}

// tell sends an order to a running PID 1.
func (s *server) tell(j *jailState, p []byte, fds []int) {
	var m sys.MsgBuf
	if j.conn < 0 {
		return
	}
	if err := sys.SendMsg(j.conn, p, fds, false, &m); err != nil {
		s.log("jail %s: cannot tell its PID 1: %v", j.spec.Name, err)
	}
}

// adopt looks whether the jail runs already, from before this process did.
func (s *server) adopt(n int) {
	j := s.jails[n]
	c, err := control.Open(s.opt.RuntimeDir, j.spec.Name, true)
	if err != nil {
		if !errors.Is(err, control.ErrNotRunning) {
			s.log("%v", err)
		}
		return
	}
	j.status, j.pid, j.pidfd, j.conn, j.ours = running, c.PID, c.PIDFD, c.FD, false
	j.started, j.lost = time.Now(), time.Time{}
	s.watchJail(n)
	s.log("jail %s runs already: pid %d, %d sessions", j.spec.Name, c.PID, c.Status.Sessions)
}

func (s *server) watchJail(n int) {
	j := s.jails[n]
	_ = s.watch(j.pidfd, kindChild, n)
	_ = s.watch(j.conn, kindLog, n)
	if j.stderr >= 0 {
		_ = sys.SetNonblock(j.stderr)
		_ = s.watch(j.stderr, kindStderr, n)
	}
}

// connected is called when somebody waits on the socket of a stopped jail.
func (s *server) connected(lg *login) {
	j := s.jails[lg.jail]
	if lg.fd >= 0 && j.status == ending {
		s.refuse(lg.jail, "a process of it cannot be killed")
		return
	}
	if lg.fd < 0 || j.status != stopped || s.stopAll {
		return
	}
	if time.Now().Before(j.notBefore) {
		s.refuse(lg.jail, j.lastError)
		return
	}
	s.start(lg.jail)
}

// start starts a jail beside the loop. Its listeners are left alone meanwhile;
// who connects waits in their queue. A reload may close some, and their numbers may
// be those of another jail's by the time they are handed over: the start has copies.
func (s *server) start(n int) {
	j := s.jails[n]
	j.status = starting
	r := result{jail: n, logins: slices.Clone(j.logins)}
	spec := j.spec
	spec.Logins = nil
	var fds []int
	for _, i := range j.logins {
		s.unwatch(s.logins[i].fd)
		spec.Logins = append(spec.Logins, s.logins[i].spec)
		fd, err := sys.Fcntl(s.logins[i].fd, syscall.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			r.err = fmt.Errorf("duplicate descriptor: %w", err)
			break
		}
		fds = append(fds, fd)
	}
	go func() {
		if r.err == nil {
			var ctl int
			if ctl, r.err = fdsock.ListenControl(s.opt.RuntimeDir, spec.Name); r.err == nil {
				r.j, r.err = s.launch(&spec, fds, ctl)
				sys.Close(ctl)
			}
		}
		sys.CloseAll(fds)
		s.results <- r
		sys.EventfdAdd(s.wake)
	}()
}

// collect takes the results of starts.
func (s *server) collect() {
	for {
		var r result
		select {
		case r = <-s.results:
		default:
			return
		}
		j := s.jails[r.jail]
		if r.err != nil {
			s.failed(r.jail, r.err)
			continue
		}
		j.status, j.ours, j.failures = running, true, 0
		j.pid, j.pidfd, j.conn, j.stderr = r.j.PID, r.j.PIDFD, r.j.Conn, r.j.Stderr
		j.started, j.lost = time.Now(), time.Time{}
		_ = sys.SetNonblock(j.conn)
		s.watchJail(r.jail)
		s.log("jail %s started: pid %d", j.spec.Name, j.pid)
		if r.j.Warning != "" {
			s.log("warning: jail %s: %s", j.spec.Name, r.j.Warning)
		}
		s.catchUp(j, r.logins)
		if j.removed || s.stopAll {
			s.stop(j)
		}
	}
}

// catchUp tells a jail that has just started what a reload has made of its logins
// since.
func (s *server) catchUp(j *jailState, started []int) {
	for _, i := range started {
		if lg := s.logins[i]; lg.fd < 0 {
			s.tell(j, wire.AppendDropLogin(nil, uint32(lg.spec.HostUID)), nil)
		}
	}
	for _, i := range j.logins {
		if lg := s.logins[i]; !slices.Contains(started, i) {
			id := launch.Identity(&lg.spec)
			s.tell(j, wire.AppendAddLogin(nil, &id), []int{lg.fd})
		}
	}
}

// failed deals with a start that came to nothing: everybody who waits is told,
// and the next try is not before a while.
func (s *server) failed(n int, err error) {
	j := s.jails[n]
	j.status = stopped
	j.failures++
	wait := min(backoffMin<<min(j.failures-1, 5), backoffMax)
	j.notBefore = time.Now().Add(wait)
	j.lastError = err.Error()
	if errors.Is(err, launch.ErrBusy) {
		// Perhaps a jail that another program started; it may end any time.
		j.notBefore = time.Time{}
	}
	s.log("jail %s: start failed, next try in %v at the earliest: %v", j.spec.Name, wait, err)
	s.refuse(n, j.lastError)
	s.rearm(n)
}

func (s *server) rearm(n int) {
	j := s.jails[n]
	if j.removed {
		return
	}
	for _, i := range j.logins {
		if s.logins[i].fd >= 0 {
			_ = s.watch(s.logins[i].fd, kindListener, i)
		}
	}
}

// refuse accepts whoever waits for a jail and tells them why there is none. The
// request is not read; the connection stays open until the client has read the
// answer, since closing it with unread data in it would destroy that
// (unix(7)).
func (s *server) refuse(n int, why string) {
	j := s.jails[n]
	s.seq++
	id := fmt.Sprintf("s%07x", (uint32(time.Now().Unix())<<10^s.seq)&0xfffffff)
	text := "the jail could not be started; the administrator finds the reason in the log of jail-init"
	count := 0
	var m sys.MsgBuf
	for _, i := range j.logins {
		lg := s.logins[i]
		_ = sys.SetNonblock(lg.fd)
		for count < 1024 {
			fd, err := sys.Accept(lg.fd)
			if err != nil {
				break
			}
			cred, err := sys.PeerCred(fd)
			if err != nil || cred.Uid != uint32(lg.spec.HostUID) && cred.Uid != 0 {
				sys.Close(fd)
				continue
			}
			count++
			_ = sys.SendMsg(fd, wire.AppendRefused(nil, wire.Refused{Status: 125, ID: id, Text: text}), nil, false, &m)
			s.linger[fd] = time.Now().Add(lingerFor)
			ev := sys.EpollEvent{Events: syscall.EPOLLRDHUP, Fd: int32(kindLinger), Pad: int32(fd)}
			_ = syscall.EpollCtl(s.epfd, syscall.EPOLL_CTL_ADD, fd, &ev)
		}
	}
	if count > 0 {
		s.log("id=%s jail %s: refused %d connections: %s", id, j.spec.Name, count, why)
	}
}

func (s *server) release(fd int) {
	if _, ok := s.linger[fd]; ok {
		delete(s.linger, fd)
		sys.Close(fd)
	}
}

// ended is called when PID 1 of a jail is gone. With it is every process of the
// jail: a pidfd becomes readable only after the kernel has ended the namespace.
func (s *server) ended(n int) {
	j := s.jails[n]
	if j.pidfd < 0 {
		return
	}
	how := ""
	if j.ours {
		var ws syscall.WaitStatus
		if _, err := syscall.Wait4(j.pid, &ws, 0, nil); err == nil && ws.Signaled() {
			how = fmt.Sprintf(" by signal %d (%v)", ws.Signal(), ws.Signal())
		} else if err == nil && ws.ExitStatus() != 0 {
			how = fmt.Sprintf(" with status %d", ws.ExitStatus())
		}
	}
	s.readLog(n)
	s.readStderr(n)
	for _, fd := range []*int{&j.pidfd, &j.conn, &j.stderr} {
		if *fd >= 0 {
			sys.Close(*fd)
			*fd = -1
		}
	}
	_ = os.Remove(fdsock.ControlPath(s.opt.RuntimeDir, j.spec.Name))
	s.launcher.Ended(j.spec.Name)
	j.status, j.killAt = stopped, time.Time{}
	s.log("jail %s ended%s after %v", j.spec.Name, how, time.Since(j.started).Round(time.Millisecond))
	s.restore(j)
	s.rearm(n)
}

// restore takes back the listeners of a jail that has ended. Its PID 1 had the same
// sockets and may have been taken over: one that it has shut down would refuse every
// login, and say without end that somebody waits.
func (s *server) restore(j *jailState) {
	for _, i := range j.logins {
		lg := s.logins[i]
		if lg.fd < 0 || fdsock.Restore(lg.fd) {
			continue
		}
		fd, err := fdsock.ListenLogin(s.opt.RuntimeDir, lg.spec.HostUID)
		if err != nil {
			s.log("jail %s: login %s: %v", j.spec.Name, lg.spec.Name, err)
			continue
		}
		s.log("jail %s: its PID 1 had shut down the socket of login %s, which has a new one", j.spec.Name, lg.spec.Name)
		sys.Close(lg.fd)
		lg.fd = fd
	}
}

// checkLost looks at the jails whose PID 1 has closed its connection, as a rule by
// ending. That takes effect when everything in the jail has ended, and a process that
// waits for a dead file system does not.
func (s *server) checkLost() {
	for n, j := range s.jails {
		switch {
		case j.status != running || j.lost.IsZero() || time.Since(j.lost) < endWait:
		case !control.Exiting(j.pid):
			j.lost = time.Time{}
			s.log("jail %s: its PID 1 has ended the connection but lives on: what it says is lost, and changes of its logins are not heard", j.spec.Name)
		default:
			j.status = ending
			s.log("jail %s does not end: %s; its logins are refused until it has", j.spec.Name, control.Remains(j.pid))
			s.rearm(n)
		}
	}
}

// killOverdue kills the jails that have been told to end and had their time.
func (s *server) killOverdue() {
	for _, j := range s.jails {
		if j.status == running && !j.killAt.IsZero() && time.Now().After(j.killAt) {
			_ = sys.PidfdSendSignal(j.pidfd, syscall.SIGKILL)
		}
	}
}

// stop ends a jail. A PID 1 that does not listen is killed, and everything with it.
func (s *server) stop(j *jailState) {
	if j.status == running {
		j.killAt = time.Now().Add(killAfter)
		s.tell(j, wire.AppendStop(nil, wire.Stop{GraceMillis: uint32(stopGrace.Milliseconds())}), nil)
	}
}

// readLog prints what PID 1 says.
func (s *server) readLog(n int) {
	j := s.jails[n]
	if j.conn < 0 {
		return
	}
	var m sys.MsgBuf
	buf := make([]byte, 2048)
	for k := 0; k < 64; k++ {
		got, err := sys.RecvMsg(j.conn, buf, false, &m)
		sys.CloseAll(m.FDs)
		if err == syscall.EAGAIN {
			return
		}
		if err != nil || got == 0 {
			s.unwatch(j.conn)
			if j.lost.IsZero() {
				j.lost = time.Now()
			}
			return
		}
		typ, _, body, err := wire.Header(buf[:got])
		if err != nil || typ != wire.TypeLog {
			continue
		}
		if text, err := wire.DecodeText(body); err == nil && s.allow(j) {
			s.log("jail %s: %s", j.spec.Name, control.Quote(text))
		}
	}
}

// readStderr prints what a crashing PID 1 leaves.
func (s *server) readStderr(n int) {
	j := s.jails[n]
	if j.stderr < 0 {
		return
	}
	buf := make([]byte, 4096)
	got, err := sys.Read(j.stderr, buf)
	if got > 0 {
		if s.allow(j) {
			s.log("jail %s: stderr: %s", j.spec.Name, control.Quote(string(buf[:got])))
		}
		return
	}
	if err != syscall.EAGAIN {
		sys.Close(j.stderr)
		j.stderr = -1
	}
}

// allow bounds the lines one jail can put into the log: 50 a second.
func (s *server) allow(j *jailState) bool {
	now := time.Now().Unix()
	if j.lineTime != now {
		if j.lines > 50 {
			s.log("jail %s: %d lines suppressed", j.spec.Name, j.lines-50)
		}
		j.lineTime, j.lines = now, 0
	}
	j.lines++
	return j.lines <= 50
}

// reload reads the registry again. A bad one changes nothing.
func (s *server) reload() {
	reg, err := load(s.opt)
	if err != nil {
		s.log("reload: the registry is not used, the one in force stays: %v", err)
		return
	}
	if err := errors.Join(s.apply(reg), s.publish(reg)); err != nil {
		s.log("reload: %v", err)
		return
	}
	s.log("reloaded: %d jails", len(reg.Jails))
}
