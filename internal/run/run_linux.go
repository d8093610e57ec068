// Package run is "jail-init run": one jail, without a supervisor. With a name it
// starts that jail of the registry and stays with it, on sockets of its own or
// on those systemd hands over. With letters it makes a jail without a registry.
package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"jail/config"
	"jail/internal/cgroup"
	"jail/internal/control"
	"jail/internal/environ"
	"jail/internal/event"
	"jail/internal/fdsock"
	"jail/internal/hostfiles"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/journal"
	"jail/internal/launch"
	"jail/internal/netkeep"
	"jail/internal/record"
	"jail/internal/recording"
	"jail/internal/service"
	"jail/internal/source"
	"jail/internal/supervise"
	"jail/internal/sys"
	"jail/internal/wire"
)

// Options are what the command line says.
type Options struct {
	ConfigPath string
	RuntimeDir string
	Rootless   bool
	Stderr     io.Writer
	// Journal is where records go besides their files; nil without.
	Journal *journal.Journal
}

// Named starts the jail name of the registry, or the one the host uid name
// belongs to, and returns when it has ended.
func Named(opt Options, name string) error {
	reg, err := inforce.Load(opt.ConfigPath, config.Options{Rootless: opt.Rootless, RuntimeDir: opt.RuntimeDir})
	if err != nil {
		return err
	}
	spec := reg.Jail(name)
	if uid, err := strconv.ParseUint(name, 10, 32); err == nil {
		spec, _ = reg.HostUID(jail.HostUID(uid))
	}
	if spec == nil {
		if len(reg.Faults) > 0 {
			return fmt.Errorf("no jail %q in force, and there are faults in %s; jail-init check lists them", name, opt.ConfigPath)
		}
		return fmt.Errorf("no jail %q in %s, and no login with that uid; jail-init check lists them", name, opt.ConfigPath)
	}
	var marks cgroup.Marks
	if spec.Network.Owned() {
		network := netkeep.New(opt.RuntimeDir)
		if err := fdsock.PrepareDir(opt.RuntimeDir); err != nil {
			return err
		}
		_ = network.Apply(reg) // Refused says why
		if err := network.Refused(spec); err != nil {
			return fmt.Errorf("jail %s: %w", spec.Name, err)
		}
		marks = network
	}
	return start(opt, *spec, true, marks)
}

// LoadNetwork puts what the registry's jails own of the network into the kernel, which
// needs no process of ours from then on: an sshd that comes later forwards no ports that
// are somebody else's.
func LoadNetwork(opt Options) error {
	reg, err := inforce.Load(opt.ConfigPath, config.Options{RuntimeDir: opt.RuntimeDir, SkipPlaces: true})
	if err != nil {
		last, lastErr := inforce.Last(opt.RuntimeDir, opt.ConfigPath)
		if lastErr != nil {
			return err
		}
		fmt.Fprintf(opt.Stderr, "jail-init: warning: the registry cannot be used (jail-init check), what was in force before is loaded\n")
		reg = last
	}
	if err := fdsock.PrepareDir(opt.RuntimeDir); err != nil {
		return err
	}
	return netkeep.New(opt.RuntimeDir).Apply(reg)
}

// Letters starts a jail that no registry knows. Without stay it goes on by
// itself: PID 1 holds its sockets, and nothing is left on the host.
func Letters(opt Options, spec jail.Spec, stay bool) error { return start(opt, spec, stay, nil) }

func start(opt Options, spec jail.Spec, stay bool, marks cgroup.Marks) error {
	syscall.Umask(0o077)
	var made []string
	defer func() {
		for _, p := range made {
			_ = os.Remove(p)
			if filepath.Dir(p) == filepath.Dir(fdsock.ControlPath(opt.RuntimeDir, spec.Name)) {
				_ = os.Remove(filepath.Dir(p))
			} else {
				fdsock.RemoveDir(p)
			}
		}
	}()
	fds, err := opt.listen(&spec, &made)
	if err != nil {
		return err
	}
	life := cgroup.Alone
	if stay {
		life = cgroup.Within
	}
	l, err := launch.New(life, "")
	if err != nil {
		return err
	}
	if marks != nil {
		l.Mark(marks)
	}
	resolver, err := hostfiles.OpenResolver(opt.RuntimeDir)
	if err != nil {
		fmt.Fprintf(opt.Stderr, "jail-init: warning: the jail keeps its own /etc/resolv.conf: %v\n", err)
	} else {
		defer resolver.Close()
		l.ShowResolver(resolver.File())
	}
	if source.Of(&spec).HostFiles() != "" {
		etc, err := hostfiles.FollowEtc(opt.RuntimeDir, func(err error) {
			fmt.Fprintf(opt.Stderr, "jail-init: warning: jail %s does not see how the host's files change: %v\n", spec.Name, err)
		})
		if err != nil {
			return fmt.Errorf("jail %s: %w", spec.Name, err)
		}
		defer etc.Close()
	}
	for _, w := range l.Warnings() {
		fmt.Fprintf(opt.Stderr, "jail-init: warning: %s\n", w)
	}
	var records *record.Recorder
	if stay { // or nobody would hear the end
		var end func()
		records, end = opt.records(&spec)
		defer end()
	}
	if spec.Record {
		end, err := recording.Within(opt.RuntimeDir, &spec, func(format string, args ...any) {
			fmt.Fprintf(opt.Stderr, "jail-init: recorder: "+format+"\n", args...)
		})
		if err != nil {
			fmt.Fprintf(opt.Stderr, "jail-init: error: jail %s: not every session is recorded: %v\n", spec.Name, err)
		}
		defer end()
	}
	ctl, err := fdsock.ListenControl(opt.RuntimeDir, spec.Name)
	if err != nil {
		return err
	}
	ctlPath := fdsock.ControlPath(opt.RuntimeDir, spec.Name)
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGINT)
	j, err := l.Start(&spec, fds, ctl)
	sys.Close(ctl)
	if err != nil {
		records.NotStarted(spec.Name, err.Error())
		if !errors.Is(err, launch.ErrBusy) {
			_ = os.Remove(ctlPath)
		}
		return fmt.Errorf("jail %s: %w", spec.Name, err)
	}
	if !stay {
		made = nil
		return nil
	}
	made = append(made, ctlPath)
	defer l.Ended(spec.Name)
	if spec.Logins[0].Name != "" { // it is one of the registry's
		remove, err := inforce.PublishJail(opt.RuntimeDir, opt.ConfigPath, &spec)
		if err != nil {
			fmt.Fprintf(opt.Stderr, "jail-init: warning: jail-keys looks in the registry itself: %v\n", err)
		} else {
			defer remove()
		}
	}
	if j.Warning != "" {
		fmt.Fprintf(opt.Stderr, "jail-init: warning: jail %s: %s\n", spec.Name, j.Warning)
	}
	fdsock.Notify("READY=1")
	logins := map[uint32]string{}
	for _, lg := range spec.Logins {
		if logins[uint32(lg.HostUID)] = lg.Name; lg.Name == "" { // there is no registry
			logins[uint32(lg.HostUID)] = strconv.FormatUint(uint64(lg.HostUID), 10)
		}
	}
	return follow(opt, l, j, &spec, logins, sigs, resolver, records)
}

// listen returns the listeners of the logins, in order: those that systemd passes, or new
// ones, whose paths it adds to made, also when it fails.
func (opt Options) listen(spec *jail.Spec, made *[]string) ([]int, error) {
	fds, err := activated(opt.RuntimeDir, spec)
	if err != nil {
		return nil, err
	}
	if err := fdsock.PrepareDir(opt.RuntimeDir); err != nil {
		return nil, err
	}
	given := fds != nil
	if !given {
		uids := make([]jail.HostUID, len(spec.Logins))
		for i := range spec.Logins {
			uids[i] = spec.Logins[i].HostUID
		}
		switch uid, there, err := fdsock.Listens(opt.RuntimeDir, uids); {
		case err != nil:
			return nil, err
		case there:
			return nil, fmt.Errorf("somebody listens for uid %d already (jail-init serve, or a running jail)", uid)
		}
	}
	for _, lg := range spec.Logins {
		if !given {
			*made = append(*made, fdsock.LoginPath(opt.RuntimeDir, lg.HostUID))
		}
		// Listeners from systemd are open already; clients that connected before this
		// file existed sent fewer variables, never more.
		if err := fdsock.WriteAccept(opt.RuntimeDir, lg.HostUID, environ.RecordLine(spec.Record, spec.RecordInput), spec.EnvAccept); err != nil {
			return nil, err
		}
		if !given {
			fd, err := fdsock.ListenLogin(opt.RuntimeDir, lg.HostUID)
			if err != nil {
				return nil, err
			}
			fds = append(fds, fd)
		}
	}
	for _, lg := range spec.Logins {
		if err := fdsock.SetX11(opt.RuntimeDir, lg.HostUID, spec.X11); err != nil {
			return nil, err
		}
	}
	return fds, nil
}

// records returns who keeps the jail's records, and what ends that.
func (opt Options) records(spec *jail.Spec) (_ *record.Recorder, end func()) {
	var callers []int
	var paths []string
	for _, lg := range spec.Logins {
		path := filepath.Join(filepath.Dir(fdsock.LoginPath(opt.RuntimeDir, lg.HostUID)), wire.CallerName)
		if fd, err := fdsock.ListenCaller(path); err != nil {
			fmt.Fprintf(opt.Stderr, "jail-init: warning: the records do not say where login %s comes from: %v\n", lg.Name, err)
		} else {
			callers, paths = append(callers, fd), append(paths, path)
		}
	}
	records := record.New(record.Open(record.Dir(opt.RuntimeDir)), func(text string) { fmt.Fprintf(opt.Stderr, "jail-init: %s\n", text) }, opt.RuntimeDir, callers...)
	records.Journal(opt.Journal)
	return records, func() {
		records.Close()
		for _, path := range paths {
			_ = os.Remove(path)
		}
	}
}

// activated takes the listeners systemd passes (sd_listen_fds(3)); nil if there
// are none. Which login one is for is in its path, RUNTIMEDIR/UID/sock.
func activated(runtimeDir string, spec *jail.Spec) ([]int, error) {
	defer func() {
		for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			_ = os.Unsetenv(v)
		}
	}()
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid := os.Getenv("LISTEN_PID"); err != nil || n <= 0 || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	byUID := map[jail.HostUID]int{}
	for fd := 3; fd < 3+n; fd++ {
		syscall.CloseOnExec(fd)
		path, err := fdsock.CheckListener(fd)
		if err != nil {
			return nil, err
		}
		uid, err := strconv.ParseUint(filepath.Base(filepath.Dir(path)), 10, 32)
		if err != nil || fdsock.LoginPath(runtimeDir, jail.HostUID(uid)) != path {
			return nil, fmt.Errorf("socket %s: must be %s/UID/sock", path, runtimeDir)
		}
		byUID[jail.HostUID(uid)] = fd
	}
	var fds []int
	var logins []jail.Login
	for _, lg := range spec.Logins {
		if fd, ok := byUID[lg.HostUID]; ok {
			fds, logins = append(fds, fd), append(logins, lg)
			delete(byUID, lg.HostUID)
		}
	}
	for uid := range byUID {
		return nil, fmt.Errorf("uid %d has a socket but is no login of jail %s", uid, spec.Name)
	}
	spec.Logins = logins
	return fds, nil
}

// follow prints what the jail says until it ends, and ends it when told to, as serve
// does: the same machine decides.
func follow(opt Options, l *launch.Launcher, j *launch.Jail, spec *jail.Spec, logins map[uint32]string, sigs <-chan os.Signal, resolver *hostfiles.Resolver, records *record.Recorder) error {
	var machine supervise.Jail
	name := spec.Name
	events := make(chan supervise.Event, 4)
	say := func(text string) { fmt.Fprintf(opt.Stderr, "jail-init: jail %s: %s\n", name, text) }
	life := records.Run(name, j.PID, false)
	life.Commands(spec.Commands)
	limits, err := cgroup.NewWatch()
	if err == nil {
		err = limits.Follow(name, l.CgroupOf(name), func(m cgroup.Met) { life.Met(m.Limit, m.Value, m.Total) })
	}
	if err != nil {
		say("warning: limits that it meets are told a minute late, or not: " + err.Error())
	}
	defer limits.Close()
	told := func(list []event.Event) {
		login := func(uid uint32) string { return logins[uid] }
		if !records.InJournal() { // it would be there twice
			for i := range list {
				say(list[i].Line(login(list[i].HostUID)))
			}
		}
		life.Told(login, list)
	}
	voice := control.Listen(j.Conn, j.Stderr, new(control.Notes), say, told, func() { events <- supervise.Event{Kind: supervise.Lost} })
	readable(j.PIDFD, func() bool { events <- supervise.Event{Kind: supervise.Gone}; return false })
	if resolver != nil {
		readable(resolver.Events(), func() bool {
			if err := resolver.Changed(); err != nil {
				say("does not see the new /etc/resolv.conf: " + err.Error())
			}
			return true
		})
	}
	services := service.Run(service.Options{RuntimeDir: opt.RuntimeDir, Jail: name, Services: spec.Services, Log: say})
	stopped, began, reason := false, time.Now(), make(chan string, 1)
	step := func(ev supervise.Event) {
		for _, a := range machine.Step(sys.MonotonicMillis(), ev, nil) {
			switch a.Do {
			case supervise.TellStop:
				services.Ends()
				var m sys.MsgBuf
				_ = sys.SendMsg(j.Conn, wire.AppendStop(nil, wire.Stop{GraceMillis: supervise.Grace}), nil, false, &m)
			case supervise.Kill:
				_ = sys.PidfdSendSignal(j.PIDFD, syscall.SIGKILL)
			case supervise.Look:
				go func() {
					ev := supervise.Event{Kind: supervise.Living}
					if control.Exiting(j.PID) {
						ev = supervise.Event{Kind: supervise.Exiting, Text: control.Remains(j.PID)}
					}
					events <- ev
				}()
			case supervise.Log:
				fmt.Fprintf(opt.Stderr, "jail-init: jail %s%s\n", name, a.Text)
			case supervise.Forget:
				limits.Over(name)
				services.Over()
				voice.Over(func(why string) { reason <- why })
			}
		}
	}
	step(supervise.Event{Kind: supervise.Sought})
	step(supervise.Event{Kind: supervise.Started})
	for machine.State != supervise.Stopped {
		var due <-chan time.Time
		if at := machine.Due(); at != 0 {
			due = time.After(time.Duration(at-sys.MonotonicMillis()) * time.Millisecond)
		}
		select {
		case ev := <-events:
			step(ev)
		case <-sigs: // a second one is impatient
			stopped = true
			step(supervise.Event{Kind: supervise.StopAsked})
		case <-due:
			step(supervise.Event{Kind: supervise.Clock})
		}
	}
	var why string
	select {
	case why = <-reason:
	case <-time.After(time.Second): // one that cannot be read to its end
	}
	var ws syscall.WaitStatus
	_, _ = syscall.Wait4(j.PID, &ws, syscall.WNOHANG, nil)
	end := event.EndOf(ws)
	end.Reason, end.OOM, end.Lived = why, l.KilledForMemory(name), time.Since(began)
	life.Ended(&end)
	if !stopped && end.Violent() {
		return fmt.Errorf("jail %s %v", name, &end)
	}
	return nil
}

// readable calls f whenever fd has something to read, beside the caller, until f reports
// false.
func readable(fd int, f func() bool) {
	go func() {
		fds := []sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}
		for {
			if n, err := sys.Poll(fds, -1); err != nil || n > 0 && !f() {
				return
			}
		}
	}()
}
