package serve

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"jail/internal/cgroup"
	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/event"
	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/record"
	"jail/internal/service"
	"jail/internal/supervise"
	"jail/internal/sys"
	"jail/internal/wire"
)

// login is one login and its socket. What serve accepts on is its own: once a PID 1 has
// had a listener, who has a copy can change it for all (O_NONBLOCK and a queue's length
// belong to the open file description, shutdown(2) to the socket), so it is replaced
// before anything is done with it but passing it on and closing it.
type login struct {
	spec    jail.Login
	of      string // the jail's name
	jail    int    // its number; -1 if the login is out of service
	fault   string // why it is; "" if it is not
	told    string // what its user reads then, if not faultText
	fd      int    // -1 if it could not be made
	watched bool
	broken  bool // the log says that it could not be made
}

type jailState struct {
	name    string
	spec    jail.Spec   // for the next start
	limits  jail.Limits // of what runs
	machine supervise.Jail
	orders  supervise.Orders
	logins  map[int]bool
	woke    int                                   // the login on whose socket somebody has waited last
	force   bool                                  // the next start is an administrator's, although there may be no login
	asked   []func(lines []string, verdict uint8) // by verbs that wait for the start
	names   *names                                // of what runs
	notes   *control.Notes

	pid, pidfd int // -1 without
	conn       int // read by voice, written here; -1 without
	voice      *control.Voice
	services   *service.Runner
	record     *record.Run
	ours       bool // PID 1 is our child
	young      bool // it knows all messages there are
	started    time.Time
}

// step tells a jail's machine what has happened, and does what it wants.
func (s *server) step(n int, ev supervise.Event) {
	j := s.jails.at(n)
	if j == nil {
		return
	}
	if j.machine.State != supervise.Stopped {
		s.busy--
	}
	actions := j.machine.Step(sys.MonotonicMillis(), ev, nil)
	if j.machine.State != supervise.Stopped {
		s.busy++
	}
	s.timers.Set(n, j.machine.Due())
	for _, a := range actions {
		s.do(n, j, a)
	}
	if j.machine.Over() && len(j.logins) == 0 {
		s.timers.Set(n, 0)
		delete(s.byName, j.name)
		s.jails.remove(n)
	}
}

// stepLater is step for what comes up while another one is being dealt with.
func (s *server) stepLater(n int, j *jailState, ev supervise.Event) {
	s.post(func() {
		if s.jails.at(n) == j {
			s.step(n, ev)
		}
	})
}

func (s *server) do(n int, j *jailState, a supervise.Action) {
	switch a.Do {
	case supervise.Start:
		s.start(n, j)
	case supervise.Refuse:
		if !s.refuse(n, j.name, keys(j.logins), startText, a.Text) {
			s.stepLater(n, j, supervise.Event{Kind: supervise.Crowded})
		}
	case supervise.Watch:
		for i := range j.logins {
			s.watchLogin(i, s.logins.at(i))
		}
	case supervise.Unwatch:
		for i := range j.logins {
			s.unwatchLogin(s.logins.at(i))
		}
	case supervise.Renew:
		j.orders.Forget()
		for i := range j.logins {
			lg := s.logins.at(i)
			s.closeLogin(n, lg)
			s.listen(lg)
		}
	case supervise.TellStop:
		j.services.Ends()
		j.orders.Stop()
		s.tell(n, j)
	case supervise.Kill:
		_ = sys.PidfdSendSignal(j.pidfd, syscall.SIGKILL)
	case supervise.Look:
		go func(pid int, voice *control.Voice) {
			ev := supervise.Event{Kind: supervise.Living}
			if control.Exiting(pid) {
				ev = supervise.Event{Kind: supervise.Exiting, Text: control.Remains(pid)}
			}
			s.post(func() {
				if j.voice == voice {
					s.step(n, ev)
				}
			})
		}(j.pid, j.voice)
	case supervise.Forget:
		s.forget(n, j)
	case supervise.Log:
		s.log("jail %s%s", j.name, a.Text)
	}
}

func keys(m map[int]bool) []int {
	list := make([]int, 0, len(m))
	for i := range m {
		list = append(list, i)
	}
	return list
}

// listen makes the listener of a login, with no other claim to it than serve's.
func (s *server) listen(lg *login) bool {
	fd, err := fdsock.ListenLogin(s.opt.RuntimeDir, lg.spec.HostUID)
	if err != nil {
		if !lg.broken { // it is tried every second
			s.log("jail %s: login %s: %v", lg.of, lg.spec.Name, err)
		}
		lg.broken = true
		return false
	}
	lg.fd, lg.broken = fd, false
	return true
}

// watchLogin waits for somebody to connect. A listener that could not be made is tried
// again after a while.
func (s *server) watchLogin(i int, lg *login) {
	if lg.watched {
		return
	}
	if lg.fd >= 0 || s.listen(lg) {
		err := s.watch(lg.fd, syscall.EPOLLIN, kindListener, i)
		if lg.watched = err == nil; lg.watched {
			return
		}
		s.log("jail %s: login %s: %v", lg.of, lg.spec.Name, err)
	}
	s.crowded(i, lg)
}

// crowded leaves a login alone for a while.
func (s *server) crowded(i int, lg *login) {
	if j := s.jails.at(lg.jail); j != nil {
		s.stepLater(lg.jail, j, supervise.Event{Kind: supervise.Crowded})
		return
	}
	s.unwatchLogin(lg)
	s.timers.Set(timerLogin+i, sys.MonotonicMillis()+supervise.CrowdedFor)
}

func (s *server) unwatchLogin(lg *login) {
	if lg.watched {
		lg.watched = false
		s.unwatch(lg.fd)
	}
}

// closeLogin gives up a listener. Who waits on it connects again, since nothing has
// answered yet.
func (s *server) closeLogin(key int, lg *login) {
	if lg.fd >= 0 {
		s.unwatchLogin(lg)
		s.closer.Close(key, lg.fd)
		lg.fd = -1
	}
}

// connected is called when somebody waits on the socket of a login.
func (s *server) connected(i int) {
	lg := s.logins.at(i)
	switch {
	case lg == nil || !lg.watched: // dealt with since
	case lg.fault == "":
		s.jails.at(lg.jail).woke = i
		s.step(lg.jail, supervise.Event{Kind: supervise.Connected})
	case !s.refuse(timerLogin+i, lg.of, []int{i}, cmp.Or(lg.told, faultText), "login "+lg.spec.Name+" is out of service: "+lg.fault):
		s.crowded(i, lg)
	}
}

// start starts a jail beside the loop. Its listeners are left alone meanwhile;
// who connects waits in their queue. A reload may close some, and their numbers may
// be those of another jail's by the time they are handed over: the start has copies.
//
// It begins with the login that somebody waits for, and some others. The rest is handed
// over when the jail runs, as what a reload brings is: no copy is made of it, and who
// waits for the first does not wait for ten thousand.
func (s *server) start(n int, j *jailState) {
	spec := j.spec
	spec.Logins, j.limits = nil, moving(spec.Limits)
	given := map[int]*login{}
	var fds []int
	var err error
	for _, i := range s.first(j) {
		lg := s.logins.at(i)
		var fd int
		if fd, err = sys.Fcntl(lg.fd, syscall.F_DUPFD_CLOEXEC, 0); err != nil {
			err = fmt.Errorf("duplicate descriptor: %w", err)
			break
		}
		fds = append(fds, fd)
		given[i] = lg
		spec.Logins = append(spec.Logins, lg.spec)
	}
	nobody := jail.HostUID(0) // a login that only the start knows
	if err == nil && len(fds) == 0 {
		err = errors.New("none of its logins has a socket")
		if j.force && len(j.spec.Logins) > 0 {
			var fd int
			if fd, err = fdsock.ListenNobody(s.opt.RuntimeDir, j.name); err == nil {
				fds = append(fds, fd)
				spec.Logins = append(spec.Logins, j.spec.Logins[0])
				nobody = j.spec.Logins[0].HostUID
			}
		}
	}
	j.force = false
	go func() {
		var c *control.Conn
		var lj *launch.Jail
		if err == nil {
			err = s.network.Refused(&spec)
		}
		if err == nil {
			var done func()
			if done, err = s.starts.take(); err == nil {
				c, lj, err = s.launchOrFind(&spec, fds)
				done()
			}
		}
		sys.CloseForeign(fds)
		s.post(func() {
			s.tidier.started()
			switch {
			case err != nil:
				s.records.NotStarted(j.name, err.Error())
				s.step(n, supervise.Event{Kind: supervise.Failed, Text: err.Error(), Busy: errors.Is(err, launch.ErrBusy) || errors.Is(err, errSilent)})
			case c != nil:
				s.found(n, j, c)
			default:
				s.started(n, j, lj, given, nobody)
			}
			s.answerAsked(j, err)
		})
	}()
}

// forced starts a jail for an administrator who is not kept out by its being disabled. Its logins
// stay with serve, which refuses them.
func (s *server) forced(name string, answer func(lines []string, verdict uint8)) {
	no := func(why string) { answer([]string{"jail " + name + ": " + why}, wire.VerdictNone) }
	n, known := s.byName[name]
	if !known {
		no("there is none of that name")
		return
	}
	j := s.jails.at(n)
	j.force = true
	s.step(n, supervise.Event{Kind: supervise.Wanted})
	switch j.machine.State {
	case supervise.Running:
		answer(nil, wire.VerdictTaken)
	case supervise.Starting:
		j.asked = append(j.asked, answer)
		return
	case supervise.Ending:
		no("it does not end: a process of it cannot be killed")
	default:
		no("it is out of service, or its last start has failed just now; the log says more")
	}
	j.force = false
}

// answerAsked tells verbs that have waited for a start what came of it.
func (s *server) answerAsked(j *jailState, err error) {
	for _, answer := range j.asked {
		if err != nil {
			answer([]string{"jail " + j.name + " does not start: " + err.Error()}, wire.VerdictNone)
		} else {
			answer(nil, wire.VerdictTaken)
		}
	}
	j.asked = nil
}

// first returns the logins that a start of a jail begins with.
func (s *server) first(j *jailState) []int {
	var list []int
	if j.logins[j.woke] && s.logins.at(j.woke).fd >= 0 {
		list = append(list, j.woke)
	}
	for i := range j.logins {
		if len(list) >= wire.SetupLogins {
			break
		}
		if i != j.woke && s.logins.at(i).fd >= 0 {
			list = append(list, i)
		}
	}
	return list
}

// errSilent is why a jail does not start whose control socket has somebody behind it
// who does not say who it is.
var errSilent = errors.New("a PID 1 that does not answer has its control socket (jail stop ends it)")

// launchOrFind starts a jail, unless it runs already: its control socket is not taken
// from one that could not answer when serve came.
func (s *server) launchOrFind(spec *jail.Spec, fds []int) (*control.Conn, *launch.Jail, error) {
	path := fdsock.ControlPath(s.opt.RuntimeDir, spec.Name)
	if _, err := os.Lstat(path); err == nil {
		c, err := control.Open(s.opt.RuntimeDir, spec.Name, true)
		if err == nil {
			return c, nil, nil
		}
		if !errors.Is(err, control.ErrNotRunning) {
			return nil, nil, fmt.Errorf("%w: %w", errSilent, err)
		}
	}
	ctl, err := fdsock.ListenControl(s.opt.RuntimeDir, spec.Name)
	if err != nil {
		return nil, nil, err
	}
	defer sys.Close(ctl)
	lj, err := s.launch(spec, fds, ctl)
	if err != nil {
		_ = os.Remove(path)
	}
	return nil, lj, err
}

// started takes over a jail that has just started, and tells it what a reload has made
// of its logins since.
func (s *server) started(n int, j *jailState, lj *launch.Jail, given map[int]*login, nobody jail.HostUID) {
	j.ours, j.young = true, true
	s.follow(n, j, lj.PID, lj.PIDFD, lj.Conn, lj.Stderr, false)
	s.logRecorded("jail %s started: pid %d", j.name, j.pid)
	if lj.Warning != "" {
		s.log("warning: jail %s: %s", j.name, lj.Warning)
	}
	if nobody != 0 {
		j.orders.Drop(uint32(nobody))
	}
	for i, lg := range given {
		if s.logins.at(i) != lg || lg.jail != n {
			j.orders.Drop(uint32(lg.spec.HostUID))
		}
	}
	for i := range j.logins {
		if lg := s.logins.at(i); given[i] != lg && lg.fd >= 0 {
			j.orders.Add(launch.Identity(&lg.spec), lg.fd)
		}
	}
	s.step(n, supervise.Event{Kind: supervise.Started})
	s.tell(n, j)
	s.serveIn(j, false)
}

// serveIn starts the services of a jail that runs, or finds those that do.
func (s *server) serveIn(j *jailState, found bool) {
	if j.machine.Stopping() {
		return
	}
	name := j.name
	j.services = service.Run(service.Options{
		RuntimeDir: s.opt.RuntimeDir, Jail: name, Services: j.spec.Services, Found: found,
		Log: func(text string) { s.log("jail %s: %s", name, text) },
	})
}

// seek looks, beside the loop, whether a jail runs already, from before this process
// did.
func (s *server) seek(n int, j *jailState) {
	s.step(n, supervise.Event{Kind: supervise.Sought})
	go func() {
		s.asking <- struct{}{}
		c, err := control.Open(s.opt.RuntimeDir, j.name, true)
		<-s.asking
		s.post(func() {
			if err == nil {
				s.found(n, j, c)
				return
			}
			if !errors.Is(err, control.ErrNotRunning) {
				s.log("%v", err)
			}
			service.Sweep(s.opt.RuntimeDir, j.name)
			s.records.Absent(j.name)
			s.step(n, supervise.Event{Kind: supervise.Absent})
			s.autostart(n, j)
		})
	}()
}

func (s *server) autostart(n int, j *jailState) {
	if _, disabled := s.disabled.Jails[j.name]; j.spec.Autostart && !disabled {
		s.step(n, supervise.Event{Kind: supervise.Wanted})
	}
}

// found takes over a jail that runs already, with new listeners: those its PID 1 has are
// not asked for.
func (s *server) found(n int, j *jailState, c *control.Conn) {
	j.ours, j.limits, j.young = false, moving(j.spec.Limits), c.Status.Build != ""
	if j.young {
		j.orders.Limit(j.spec.Sessions) // the registry may have changed since it started
	}
	s.follow(n, j, c.PID, c.PIDFD, c.FD, -1, true)
	s.metrics.Counters.Found(j.name, c.Status.Sessions)
	s.logRecorded("jail %s runs already: pid %d, %s", j.name, c.PID, count.Of(c.Status.Sessions, "session", "sessions"))
	for i := range j.logins {
		if lg := s.logins.at(i); lg.fd >= 0 {
			j.orders.Add(launch.Identity(&lg.spec), lg.fd)
		}
	}
	s.step(n, supervise.Event{Kind: supervise.Started})
	s.tell(n, j)
	s.serveIn(j, true)
}

// follow listens to a PID 1, which was found running or has just been started, and waits
// for its end.
func (s *server) follow(n int, j *jailState, pid, pidfd, conn, stderr int, found bool) {
	j.pid, j.pidfd, j.conn, j.started = pid, pidfd, conn, time.Now()
	name, logins := j.name, &names{of: map[uint32]string{}}
	j.names = logins
	for i := range j.logins {
		logins.add(&s.logins.at(i).spec)
	}
	run := s.records.Run(name, pid, found)
	run.Commands(j.spec.Commands)
	j.record = run
	s.followLimits(name, run)
	var voice *control.Voice
	listening := make(chan struct{})
	voice = control.Listen(conn, stderr, j.notes, func(text string) { s.log("jail %s: %s", name, text) }, func(list []event.Event) {
		s.logEvents(name, logins, list)
		run.Told(logins.name, list)
	}, func() {
		<-listening
		s.post(func() {
			if j.voice == voice {
				s.step(n, supervise.Event{Kind: supervise.Lost})
			}
		})
	})
	j.voice = voice
	close(listening)
	if pidfd < 0 || s.watch(pidfd, syscall.EPOLLIN, kindChild, n) == nil {
		return
	}
	// Out of memory, or of watches. An end that nobody hears of would be a jail that can
	// neither start nor be stopped.
	go func() {
		for {
			n, err := sys.Poll([]sys.PollFD{{FD: int32(pidfd), Events: sys.PollIn}}, -1)
			if n > 0 {
				break
			}
			if err != nil {
				time.Sleep(time.Second)
			}
		}
		s.post(func() {
			if j.voice == voice {
				s.step(n, supervise.Event{Kind: supervise.Gone})
			}
		})
	}()
}

// followLimits records when a jail meets a limit of its cgroup, by the kernel's word.
func (s *server) followLimits(name string, run *record.Run) {
	err := s.limits.Follow(name, s.cgroupOf(name), func(m cgroup.Met) { run.Met(m.Limit, m.Value, m.Total) })
	if err != nil && !s.unheard {
		s.unheard = true
		s.log("warning: limits that jails meet are told a minute late: %v (fs.inotify.max_user_watches)", err)
	}
}

// tell sends a running PID 1 what it has to know, as far as it listens. The rest is sent
// when it has read that.
func (s *server) tell(n int, j *jailState) {
	var m sys.MsgBuf
	for j.conn >= 0 {
		next, ok := j.orders.Next()
		if !ok {
			return
		}
		var fds []int
		if next.FD >= 0 {
			fds = []int{next.FD}
		}
		err := sys.SendMsg(j.conn, next.Packet, fds, false, &m)
		if err == syscall.EAGAIN {
			err = s.watch(j.conn, syscall.EPOLLOUT|syscall.EPOLLONESHOT, kindOrders, n)
			if err == nil {
				return
			}
		}
		if err != nil {
			s.log("jail %s: cannot tell its PID 1: %v", j.name, err)
			j.orders.Forget()
			return
		}
		j.orders.Said()
	}
}

// forget closes what was a jail's that has ended. With its PID 1 every process of it is
// gone: a pidfd becomes readable only after the kernel has ended the namespace.
func (s *server) forget(n int, j *jailState) {
	var end event.End
	s.limits.Over(j.name)
	if j.ours {
		end = endOf(j.pid)
	}
	if s.launcher != nil {
		end.OOM = s.launcher.KilledForMemory(j.name)
	}
	if j.pidfd >= 0 {
		s.unwatch(j.pidfd)
		sys.Close(j.pidfd)
	}
	s.unwatch(j.conn)
	end.Lived = time.Since(j.started)
	j.services.Over()
	j.services = nil
	run := j.record
	s.ends.Add(1)
	j.voice.Over(func(reason string) {
		end.Reason = reason
		s.logRecorded("jail %s %v", j.name, &end)
		run.Ended(&end)
		s.ends.Done()
		if reason == "" {
			s.stepLater(n, j, supervise.Event{Kind: supervise.Crashed, Lived: end.Lived.Milliseconds()})
		}
	})
	j.pidfd, j.conn, j.voice, j.record = -1, -1, nil, nil
	j.orders.Forget()
	_ = os.Remove(fdsock.ControlPath(s.opt.RuntimeDir, j.name))
	if s.launcher != nil {
		s.launcher.Ended(j.name)
	}
	s.networkAgain()
}

// networkAgain has the jails' network loaded anew, beside the loop, if the end of a jail or
// other name servers of the host make a difference to it.
func (s *server) networkAgain() {
	go func() {
		if err := s.network.Settle(); err != nil {
			s.log("error: no jail with keys about the network can start: %v", err)
		}
	}()
}

// endOf collects a child that has ended and says how, as far as it is known.
func endOf(pid int) event.End {
	var ws syscall.WaitStatus
	for {
		got, err := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil || got != pid:
			return event.End{}
		}
		return event.EndOf(ws)
	}
}
