// Package serve is "jail-init serve": it holds the sockets of every login of the
// registry, starts a jail when somebody connects, and does nothing else. A login
// to a running jail does not involve it, so it may crash, be restarted or
// upgraded at any time.
//
// What is done with a jail is decided by its state machine (package supervise). This is
// what is around it: one loop that waits for sockets, processes and deadlines. Nothing in
// the loop waits for anybody. What may take its time runs beside it and posts what came
// of it: starts, reading the registry, reading what a jail says, asking a PID 1 of before,
// and closing what a tenant could put descriptors into.
//
// What serve knows about running jails it learns from the kernel and from the jails,
// never from a file.
package serve

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"jail/config"
	"jail/internal/cgroup"
	"jail/internal/count"
	"jail/internal/event"
	"jail/internal/fdsock"
	"jail/internal/hostfiles"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/journal"
	"jail/internal/launch"
	"jail/internal/metrics"
	"jail/internal/netkeep"
	"jail/internal/record"
	"jail/internal/recording"
	"jail/internal/supervise"
	"jail/internal/sys"
	"jail/internal/wire"
)

// Options are what the command line says.
type Options struct {
	ConfigPath string
	RuntimeDir string
	Rootless   bool
	Version    string // of the program
	// Log takes lines, and what a recorder has to say, which outlives serve, goes to Stderr.
	// Neither may make serve wait.
	Log    io.Writer
	Stderr *os.File
	// Journal is where records go besides their files; nil without.
	Journal *journal.Journal
}

// lastWait is how long serve waits, when it ends, for the last words of its jails.
const lastWait = time.Second

// startsAtOnce is how many starts wait for the kernel at once, a thread each.
func startsAtOnce() int { return min(max(4, runtime.NumCPU()), 16) }

// spareThreads is how many threads are made beforehand. A machine that has none to give
// must not be the end of serve, as it is when the runtime needs another: for each start, for
// each processor that has something to do, and for the loop and the signals. Each takes 17 KiB.
func spareThreads() int { return startsAtOnce() + runtime.GOMAXPROCS(0) + 4 }

type kind int32

const (
	kindWake     kind = iota
	kindListener      // index: login's number
	kindChild         // index: jail's number
	kindOrders        // index: jail's number; its PID 1 can be told more
	kindRefused       // index: descriptor
	kindResolver
	kindVerb // somebody wants to give serve itself an order
)

type server struct {
	opt      Options
	launcher *launch.Launcher
	launch   func(spec *jail.Spec, listeners []int, ctl int) (*launch.Jail, error)
	load     func() (*config.Registry, error)
	// setLimits is launcher.Limit, and cgroupOf launcher.CgroupOf.
	setLimits func(name string, l *jail.Limits) error
	cgroupOf  func(name string) string
	epfd      int
	wake      int // eventfd
	verbs     int // listener; -1 without
	signals   chan os.Signal
	resolver  *hostfiles.Resolver
	network   *netkeep.Keeper

	records  *record.Recorder
	recorder recording.Keeper
	metrics  metrics.Publisher
	limits   *cgroup.Watch // hears of limits that are met; nil without
	unheard  bool          // it hears of some late, and that has been said

	etcMu sync.Mutex
	etc   *hostfiles.Etc // nil until a jail needs it

	logMu  sync.Mutex
	postMu sync.Mutex
	posted []func()

	// Numbers of jails and logins are given anew only when no event of the old one
	// can come any more.
	jails  table[jailState]
	logins table[login]
	byName map[string]int
	byUID  map[jail.HostUID]int
	// disabled is what was, when the registry was applied last.
	disabled inforce.Disabled
	timers   supervise.Timers
	busy     int // jails that are not stopped

	maxLogins int // that descriptors are enough for

	refused map[int]refused // connections that were refused, until they are closed
	holding map[int]int     // how many those are, by timer key of whose they are
	closer  fdsock.Closer
	seq     uint32
	tidier  tidier
	starts  *turns

	reloads    reloads
	reloadWait time.Duration
	asking     chan struct{} // bounds how many PID 1s are asked at once
	ends       sync.WaitGroup

	closing bool // ends when its jails have
	leaving bool // ends now; its jails go on
}

// Keys of timers: those of jails are their numbers.
const (
	timerLogin   = 1 << 30 // and a login's number
	timerRefused = -1      // less a descriptor
)

// Run serves until it is told to stop. The error is what an administrator has
// to mend.
func Run(opt Options) error {
	syscall.Umask(0o077)
	s := newServer(opt)
	reg, err := s.load()
	if err != nil {
		// A mistake that concerns everything concerns nobody who is in force.
		last, lastErr := inforce.Last(opt.RuntimeDir, opt.ConfigPath)
		if lastErr != nil {
			return err
		}
		reg = last
		s.log("error: the registry cannot be used: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		s.log("warning: what was in force before stays in force; mend the registry, then: jail reload")
	}
	refused := err
	if err := fdsock.PrepareDir(opt.RuntimeDir); err != nil {
		return err
	}
	lock, err := lockDir(opt.RuntimeDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if s.launcher, err = launch.New(cgroup.Outlive, ""); err != nil {
		return err
	}
	s.launch, s.setLimits, s.cgroupOf = s.launcher.Start, s.launcher.Limit, s.launcher.CgroupOf
	s.launcher.Mark(s.network)
	s.network.Follow(s.launcher.CgroupOf)
	var callers []int
	callerPath := filepath.Join(opt.RuntimeDir, wire.CallerName)
	if fd, err := fdsock.ListenCaller(callerPath); err != nil {
		s.log("warning: the records do not say where logins come from: %v", err)
	} else {
		callers = append(callers, fd)
		defer os.Remove(callerPath) // no other serve is here
	}
	s.records = record.New(record.Open(record.Dir(opt.RuntimeDir)), func(text string) { s.log("%s", text) }, opt.RuntimeDir, callers...)
	s.records.Journal(opt.Journal)
	s.records.Tell(s.metrics.Counters.Entry)
	defer s.records.Close()
	s.launcher.Sweep()
	fdsock.Sweep(opt.RuntimeDir)
	if s.resolver, err = hostfiles.OpenResolver(opt.RuntimeDir); err != nil {
		s.log("warning: jails started from now on keep their own /etc/resolv.conf: %v", err)
	} else {
		defer s.resolver.Close()
		s.launcher.ShowResolver(s.resolver.File())
	}
	for _, w := range s.launcher.Warnings() {
		s.log("warning: %s", w)
	}
	if s.limits, err = cgroup.NewWatch(); err != nil {
		s.log("warning: nobody hears of limits that are met: %v", err)
	}
	defer s.limits.Close()
	if err := s.open(); err != nil {
		return err
	}
	if s.resolver != nil {
		if err := s.watch(s.resolver.Events(), syscall.EPOLLIN, kindResolver, 0); err != nil {
			return err
		}
	}
	if s.verbs, err = fdsock.ListenServe(opt.RuntimeDir); err != nil {
		s.log("warning: jail-init reload cannot be heard, only SIGHUP: %v", err)
		s.verbs = -1
	} else if err := s.watch(s.verbs, syscall.EPOLLIN, kindVerb, 0); err != nil {
		return err
	}
	if stop, err := s.metrics.Listen(opt.RuntimeDir); err != nil {
		s.log("warning: nobody can ask for metrics: %v", err)
	} else {
		defer stop()
	}
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		for sig := range sigs {
			s.signals <- sig
			sys.EventfdAdd(s.wake)
		}
	}()
	s.tidier = newTidier(tidyAfter, s.rest)
	s.prepare(reg)
	if err := s.network.Apply(reg); err != nil {
		s.log("error: no jail with keys about the network can start: %v", err)
	}
	defer s.unprepare()
	s.recordRegistry(refused, len(reg.Faults))
	s.records.Sweep(func(name string) bool {
		_, err := os.Lstat(fdsock.ControlPath(opt.RuntimeDir, name))
		return err == nil // it is sought, or another's
	})
	s.apply(reg)
	if err := s.publish(reg); err != nil {
		return err
	}
	s.tidier.registry()
	sys.SpareThreads(int32(spareThreads()))
	if len(s.byName) > many {
		debug.FreeOSMemory() // what was made of the registry since it was read is more than what is kept
	}
	s.log("ready: %s, %s, sockets in %s", count.Of(len(s.byName), "jail", "jails"), count.Of(len(s.byUID), "login", "logins"), opt.RuntimeDir)
	fdsock.Notify("READY=1")
	return s.loop()
}

func newServer(opt Options) *server {
	s := &server{
		opt: opt, verbs: -1, signals: make(chan os.Signal, 8),
		byName: map[string]int{}, byUID: map[jail.HostUID]int{},
		refused: map[int]refused{}, holding: map[int]int{},
		asking: make(chan struct{}, 64), reloadWait: reloadWait,
		maxLogins: descriptors() - spareFDs,
		starts:    newTurns(startsAtOnce(), turnPatience, sys.RoomForThread),
		network:   netkeep.New(opt.RuntimeDir),
		cgroupOf:  func(string) string { return "" },
	}
	s.recorder = recording.Keeper{RuntimeDir: opt.RuntimeDir, ConfigPath: opt.ConfigPath, Stderr: opt.Stderr, Log: s.log}
	s.metrics = s.newPublisher()
	s.load = func() (*config.Registry, error) {
		return inforce.Load(opt.ConfigPath, config.Options{Rootless: opt.Rootless, RuntimeDir: opt.RuntimeDir})
	}
	return s
}

// spareFDs are descriptors that no login's socket takes: for starts, for what is known of
// jails that run, and for who is refused.
const spareFDs = 256

// descriptors is how many this process may have; the Go runtime has raised the limit as
// far as it can.
func descriptors() int {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 1024
	}
	return int(min(lim.Cur, 1<<30))
}

// open makes what the loop waits with.
func (s *server) open() (err error) {
	if s.epfd, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if s.wake, err = sys.Eventfd(); err != nil {
		return err
	}
	return s.watch(s.wake, syscall.EPOLLIN, kindWake, 0)
}

// lockWait is how long the lock may still be held by what a serve that has ended had just
// started: a process that has not executed its program yet, or is about to end (sys.Bury).
const lockWait = time.Second

// lockDir makes sure that only one serve works in a runtime directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "serve.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for begun := time.Now(); syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) >= lockWait {
			f.Close()
			return nil, fmt.Errorf("another jail-init serve works in %s; stop it first", dir)
		}
	}
	return f, nil
}

// log writes one line. Text that comes from inside a jail is quoted by the
// caller.
func (s *server) log(format string, args ...any) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	fmt.Fprintf(s.opt.Log, "jail-init: "+format+"\n", args...)
}

// logRecorded is log for what the records have as well. Where those go to the journal, and with
// it what is logged, it would be there twice.
func (s *server) logRecorded(format string, args ...any) {
	if !s.records.InJournal() {
		s.log(format, args...)
	}
}

// logEvents writes a line for each event of a jail, as many at once as a pipe keeps together
// (PIPE_BUF, pipe(7)), where logRecorded would.
func (s *server) logEvents(name string, logins *names, list []event.Event) {
	if s.records.InJournal() {
		return
	}
	const most = 4096
	var lines []byte
	s.logMu.Lock()
	defer s.logMu.Unlock()
	for i := range list {
		line := "jail-init: jail " + name + ": " + list[i].Line(logins.name(list[i].HostUID)) + "\n"
		if len(lines)+len(line) > most && len(lines) > 0 {
			_, _ = s.opt.Log.Write(lines)
			lines = lines[:0]
		}
		lines = append(lines, line...)
	}
	_, _ = s.opt.Log.Write(lines)
}

func (s *server) watch(fd int, events uint32, k kind, index int) error {
	ev := sys.EpollEvent{Events: events, Fd: int32(k), Pad: int32(index)}
	err := syscall.EpollCtl(s.epfd, syscall.EPOLL_CTL_ADD, fd, &ev)
	if err == syscall.EEXIST {
		err = syscall.EpollCtl(s.epfd, syscall.EPOLL_CTL_MOD, fd, &ev)
	}
	return err
}

// unwatch has to come before a watched descriptor is closed: a start beside us may have
// a copy, with which it stays in the epoll set and goes on reporting (epoll(7)).
func (s *server) unwatch(fd int) { _ = syscall.EpollCtl(s.epfd, syscall.EPOLL_CTL_DEL, fd, nil) }

// post has f called by the loop. It is for what runs beside it.
func (s *server) post(f func()) {
	s.postMu.Lock()
	s.posted = append(s.posted, f)
	s.postMu.Unlock()
	sys.EventfdAdd(s.wake)
}

// collect calls what was posted, and reports whether there was anything.
func (s *server) collect() bool {
	s.postMu.Lock()
	posted := s.posted
	s.posted = nil
	s.postMu.Unlock()
	for _, f := range posted {
		f()
	}
	return len(posted) > 0
}

func (s *server) loop() error {
	events := make([]sys.EpollEvent, 64)
	for {
		n, err := sys.EpollWait(s.epfd, events, s.timeout())
		if err != nil && err != syscall.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, ev := range events[:max(n, 0)] {
			s.event(kind(ev.Fd), int(ev.Pad))
		}
		busy := s.collect() || n > 0
		s.expire()
		s.jails.settle()
		s.logins.settle()
		select {
		case sig := <-s.signals:
			s.signal(sig)
		default:
		}
		if s.leaving && !busy {
			s.log("ending; running jails go on")
			return s.cleanup()
		}
		if s.closing && s.busy == 0 {
			return s.cleanup()
		}
	}
}

func (s *server) event(k kind, i int) {
	switch k {
	case kindWake:
		sys.EventfdClear(s.wake)
	case kindListener:
		s.connected(i)
	case kindChild:
		s.step(i, supervise.Event{Kind: supervise.Gone})
	case kindOrders:
		if j := s.jails.at(i); j != nil {
			s.tell(i, j)
		}
	case kindRefused:
		s.release(i)
	case kindResolver:
		if err := s.resolver.Changed(); err != nil {
			s.log("jails do not see the new /etc/resolv.conf: %v", err)
		}
		s.networkAgain()
	case kindVerb:
		s.verb()
	}
}

func (s *server) signal(sig os.Signal) {
	switch sig {
	case syscall.SIGHUP:
		s.reload(func([]string, uint8) {})
	case syscall.SIGINT:
		s.log("stopping all jails")
		s.closing = true
		for i := range s.jails.list {
			s.step(i, supervise.Event{Kind: supervise.Closing})
		}
	default:
		// What has happened until now is still dealt with, so that nothing
		// of a jail that has just ended stays behind.
		s.leaving = true
	}
}

func (s *server) timeout() int {
	if s.leaving {
		return 0
	}
	next := s.timers.Next()
	if next == 0 {
		return -1
	}
	return int(min(max(next-sys.MonotonicMillis(), 0), 1<<30))
}

// expire deals with the deadlines that have come.
func (s *server) expire() {
	for now := sys.MonotonicMillis(); ; {
		key, ok := s.timers.Take(now)
		switch {
		case !ok:
			return
		case key <= timerRefused:
			s.release(timerRefused - key)
		case key >= timerLogin:
			if lg := s.logins.at(key - timerLogin); lg != nil && lg.fault != "" {
				s.watchLogin(key-timerLogin, lg)
			}
		default:
			s.step(key, supervise.Event{Kind: supervise.Clock})
		}
	}
}

// cleanup removes the sockets nobody is behind from now on. Those of running
// jails stay.
func (s *server) cleanup() error {
	for _, lg := range s.logins.list {
		if lg == nil || lg.fd < 0 {
			continue
		}
		if j := s.jails.at(lg.jail); j == nil || j.machine.State == supervise.Stopped {
			fdsock.Remove(fdsock.LoginPath(s.opt.RuntimeDir, lg.spec.HostUID), lg.fd)
		}
	}
	if s.verbs >= 0 {
		fdsock.Remove(fdsock.ServePath(s.opt.RuntimeDir), s.verbs)
	}
	said := make(chan struct{})
	go func() { s.ends.Wait(); close(said) }()
	select {
	case <-said:
	case <-time.After(lastWait):
	}
	return nil
}

// table gives numbers to things. A number that was given back is given anew after
// settle.
type table[T any] struct {
	list         []*T
	free, unused []int
}

func (t *table[T]) add(x *T) int {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		t.list[i] = x
		return i
	}
	t.list = append(t.list, x)
	return len(t.list) - 1
}

// at is nil where there is nothing.
func (t *table[T]) at(i int) *T {
	if i < 0 || i >= len(t.list) {
		return nil
	}
	return t.list[i]
}

func (t *table[T]) remove(i int) {
	t.list[i] = nil
	t.unused = append(t.unused, i)
}

func (t *table[T]) settle() {
	t.free = append(t.free, t.unused...)
	t.unused = t.unused[:0]
}
