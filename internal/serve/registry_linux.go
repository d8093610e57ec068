package serve

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"jail/config"
	"jail/internal/cgroup"
	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/environ"
	"jail/internal/fdsock"
	"jail/internal/hostfiles"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/record"
	"jail/internal/source"
	"jail/internal/supervise"
	"jail/internal/sys"
	"jail/internal/wire"
)

const (
	// reloadWait bounds the reading of the registry. What it takes longer for is not
	// used: a file system that does not answer is no reason to wait.
	reloadWait = 15 * time.Second
	// maxStuck is how many readings may still hang on such a file system when
	// another one is begun; each holds a thread.
	maxStuck = 4
	// verbWait is how long a verb may take to say what it wants, in milliseconds.
	verbWait = 2_000
)

// apply makes the server's state that of the registry, at the start and after a
// reload. A running jail keeps the description it was started with; what its
// logins may do changes at once. A login whose socket cannot be had keeps nobody
// else from theirs: the errors say which those are.
func (s *server) apply(reg *config.Registry) (errs []error) {
	if d, err := inforce.ReadDisabled(s.opt.ConfigPath); err == nil {
		s.disabled = d
	} else {
		// Who was disabled stays so.
		errs = append(errs, fmt.Errorf("what is disabled cannot be read, and stays as it was: %w", err))
	}
	want := s.wanted(reg)
	for uid, i := range s.byUID {
		lg := s.logins.at(i)
		if w, ok := want[uid]; !ok || w.of != lg.of || w.spec != lg.spec || (w.fault == "") != (lg.fault == "") {
			s.dropLogin(uid, i, lg)
		} else {
			lg.fault, lg.told = w.fault, w.told
		}
	}
	standing := map[string]supervise.Standing{}
	for _, f := range reg.Faults {
		if _, known := s.byName[f.Jail]; known {
			standing[f.Jail] = supervise.Faulty
		}
	}
	var fresh []int
	for i := range reg.Jails {
		spec := &reg.Jails[i]
		standing[spec.Name] = supervise.InForce
		n, known := s.byName[spec.Name]
		if !known {
			n = s.jails.add(&jailState{name: spec.Name, logins: map[int]bool{}, notes: new(control.Notes), pidfd: -1, conn: -1})
			s.byName[spec.Name] = n
			fresh = append(fresh, n)
		}
		j := s.jails.at(n)
		if known && j.machine.State == supervise.Running && moving(j.spec.Limits) != moving(spec.Limits) {
			s.limit(n, j, moving(spec.Limits), func(error) {})
		}
		if known && j.machine.State == supervise.Running && !reflect.DeepEqual(j.spec.Sessions, spec.Sessions) {
			if j.young {
				j.orders.Limit(spec.Sessions)
				s.tell(n, j)
			} else {
				s.log("jail %s: what sessions may have changes when it starts anew: its PID 1 is of an older build", spec.Name)
			}
		}
		if known && j.machine.State != supervise.Stopped && !sameJail(&j.spec, spec) {
			s.log("jail %s: the change takes effect when it starts anew (jail stop %s)", spec.Name, spec.Name)
		}
		j.spec = *spec
		j.record.Commands(spec.Commands)
	}
	for _, n := range fresh {
		j := s.jails.at(n)
		if _, err := os.Lstat(fdsock.ControlPath(s.opt.RuntimeDir, j.name)); err == nil {
			s.seek(n, j) // before it has logins, which are its PID 1's if it runs
		}
	}
	uids := make([]jail.HostUID, 0, len(want))
	for uid := range want {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	var left []string
	for _, uid := range uids {
		if _, there := s.byUID[uid]; !there && len(s.byUID) >= s.maxLogins {
			left = append(left, want[uid].spec.Name)
			continue
		}
		if err := s.setLogin(uid, want[uid]); err != nil {
			errs = append(errs, fmt.Errorf("login %s: %w", want[uid].spec.Name, err))
		}
	}
	if len(left) > 0 {
		// A jail's PID 1 has the same limit, and fewer logins.
		errs = append(errs, fmt.Errorf("%s no socket, %s first: of the %d descriptors that RLIMIT_NOFILE allows, sockets take %d; raise LimitNOFILE= of the unit, or ulimit -n, and start jail-init serve anew",
			count.Of(len(left), "login has", "logins have"), left[0], s.maxLogins+spareFDs, s.maxLogins))
	}
	for name, n := range s.byName {
		j := s.jails.at(n)
		now, known := standing[name]
		if !known {
			now = supervise.Removed
		}
		if before := j.machine.Standing; before != now && j.machine.State != supervise.Stopped {
			switch now {
			case supervise.Removed:
				s.log("jail %s is no longer in the registry: no new sessions; it ends with its last process, or by jail stop %s", name, name)
			case supervise.Faulty:
				s.log("jail %s is out of service: its sessions go on, and there are no new ones", name)
			}
		}
		_, disabled := s.disabled.Jails[name]
		j.machine.Keep = now == supervise.InForce && !disabled && j.spec.Autostart && len(j.spec.Services) > 0
		s.step(n, supervise.Event{Kind: supervise.Judged, Standing: now})
		if now == supervise.InForce {
			s.autostart(n, j)
		}
	}
	for _, err := range errs {
		s.log("%v", err)
	}
	return errs
}

// prepare sees to it that what jails show of the host's own files is there, and a recorder, from the
// first of them that needs it. It reads the host's /etc, so it is not for the loop.
func (s *server) prepare(reg *config.Registry) {
	if slices.ContainsFunc(reg.Jails, func(j jail.Spec) bool { return j.Record }) {
		s.recorder.Start()
	}
	if !slices.ContainsFunc(reg.Jails, func(j jail.Spec) bool { return source.Of(&j).HostFiles() != "" }) {
		return
	}
	s.etcMu.Lock()
	defer s.etcMu.Unlock()
	if s.etc != nil {
		return
	}
	failed := func(err error) { s.log("warning: cages do not see how the host's files change: %v", err) }
	var err error
	if s.etc, err = hostfiles.FollowEtc(s.opt.RuntimeDir, failed); err != nil {
		s.log("error: no cage of the host can start: %v", err)
	}
}

func (s *server) unprepare() {
	s.recorder.Stop()
	s.etcMu.Lock()
	defer s.etcMu.Unlock()
	if s.etc != nil {
		s.etc.Close()
	}
}

// publish lets jail-keys and the verbs know what is in force from now on, and the log
// what is not. It comes after the landing has changed: a key lookup is never newer.
func (s *server) publish(reg *config.Registry) error {
	s.measured(reg)
	for _, w := range reg.Warnings {
		s.log("warning: %s", w.Error())
	}
	for _, o := range reg.Outages() {
		s.log("error: out of service: %s: %s", o.What, strings.ReplaceAll(o.Errors.Error(), "\n", "; "))
	}
	if err := inforce.Publish(s.opt.RuntimeDir, s.opt.ConfigPath, reg); err != nil {
		return fmt.Errorf("registry in force: %w", err)
	}
	if err := inforce.Keep(s.opt.RuntimeDir, s.opt.ConfigPath, reg); err != nil {
		s.log("warning: what is in force is not kept for the next start of the machine: %v", err)
	}
	return nil
}

// wanted returns the logins there are to be. The logins a jail has had stay with it,
// out of service, while its entry is faulty: who they are may be what is wrong with it.
func (s *server) wanted(reg *config.Registry) map[jail.HostUID]login {
	want := map[jail.HostUID]login{}
	for i := range reg.Jails {
		spec := &reg.Jails[i]
		for _, lg := range spec.Logins {
			l := login{spec: lg, of: spec.Name}
			if m, ok := s.disabled.Of(spec.Name, lg.Name); ok {
				l.fault, l.told = "it is disabled (jail enable): "+m, disabledText+m
			}
			want[lg.HostUID] = l
		}
	}
	faulty := map[string]string{}
	for i := range reg.Faults {
		f := &reg.Faults[i]
		why := f.Errors.Error()
		if reg.Jail(f.Jail) == nil {
			faulty[f.Jail] = why
		}
		for _, lg := range f.Logins {
			if _, taken := want[lg.HostUID]; !taken && lg.HostUID != 0 {
				want[lg.HostUID] = login{spec: jail.Login{Name: lg.Name, HostUID: lg.HostUID}, of: f.Jail, fault: why}
			}
		}
	}
	for uid, i := range s.byUID {
		lg := s.logins.at(i)
		why, out := faulty[lg.of]
		if _, taken := want[uid]; out && !taken {
			want[uid] = login{spec: jail.Login{Name: lg.spec.Name, HostUID: uid}, of: lg.of, fault: why}
		}
	}
	return want
}

// limit changes the limits of a jail that runs, beside the loop: the kernel may have to get
// back memory for it. done is called by the loop with what came of it.
func (s *server) limit(n int, j *jailState, l jail.Limits, done func(error)) {
	voice, was := j.voice, j.limits
	j.limits = l
	name, counted := j.name, j.spec.Userns.Enabled
	go func() {
		err := s.setLimits(name, &l)
		s.post(func() {
			if now := s.jails.at(n); now != j || j.voice != voice {
				done(errors.New("it has ended meanwhile"))
				return
			}
			if most, before := cgroup.Processes(&l), cgroup.Processes(&was); err == nil && counted && before != 0 && (most == 0 || most > before) {
				s.log("jail %s: it may have more processes than %d when it starts anew: its user namespace has that bound, which nobody can raise", name, before-cgroup.PID1Threads)
			}
			if err != nil {
				j.limits = was
				s.log("jail %s: %v", name, err)
			} else {
				s.log("jail %s: its limits are now: %s", name, limitWords(&l))
			}
			done(err)
		})
	}()
}

// moving are the limits that change while a jail runs, those of its cgroup.
func moving(l jail.Limits) jail.Limits {
	l.DiskBytes, l.Files = 0, 0
	return l
}

// resting are the others.
func resting(l jail.Limits) jail.Limits {
	return jail.Limits{DiskBytes: l.DiskBytes, Files: l.Files}
}

// limitWords are limits in words.
func limitWords(l *jail.Limits) string {
	words := []string{"memory " + strconv.FormatUint(l.MemoryBytes, 10), "cpu " + strconv.FormatUint(uint64(l.CPUPercent), 10) + "%", "pids " + strconv.FormatUint(uint64(l.Pids), 10)}
	if l.MemoryBytes == 0 {
		words[0] = "memory none"
	}
	if l.CPUPercent == 0 {
		words[1] = "cpu none"
	}
	switch {
	case l.PidsUnlimited:
		words[2] = "pids none"
	case l.Pids == 0:
		words[2] = "pids " + strconv.Itoa(jail.DefaultPids)
	}
	if l.IOWeight > 0 {
		words = append(words, "io_weight "+strconv.FormatUint(uint64(l.IOWeight), 10))
	}
	return strings.Join(words, ", ")
}

// limited takes the order of a verb to change limits.
func (s *server) limited(w *wire.Limit, answer func(lines []string, verdict uint8)) {
	no := func(why string) { answer([]string{"jail " + w.Jail + ": " + why}, wire.VerdictNone) }
	n, known := s.byName[w.Jail]
	if !known {
		no("there is none of that name")
		return
	}
	j := s.jails.at(n)
	if j.machine.State != supervise.Running {
		no("it does not run; what it starts with is in the registry")
		return
	}
	l := j.limits
	if w.What&wire.LimitMemory != 0 {
		l.MemoryBytes = w.Memory
	}
	if w.What&wire.LimitCPU != 0 {
		l.CPUPercent = w.CPU
	}
	if w.What&wire.LimitPids != 0 {
		l.Pids, l.PidsUnlimited = w.Pids, w.Pids == 0
	}
	if w.What&wire.LimitIOWeight != 0 {
		l.IOWeight = w.IOWeight
	}
	s.limit(n, j, l, func(err error) {
		if err != nil {
			no(err.Error())
			return
		}
		answer(nil, wire.VerdictTaken)
	})
}

// sameJail reports whether two descriptions differ in nothing but what changes while a jail
// runs: logins, limits, what sessions may have, what it has of the network, which is in force for whatever it binds from
// now on, and what is recorded of it, which is jail-enter's affair and the records'.
func sameJail(a, b *jail.Spec) bool {
	x, y := *a, *b
	if x.Network.ID == y.Network.ID {
		x.Network = y.Network
	}
	x.Record, x.RecordInput, x.Commands = y.Record, y.RecordInput, y.Commands
	x.Logins, y.Logins = nil, nil
	x.Limits, y.Limits = resting(x.Limits), resting(y.Limits)
	x.Sessions = y.Sessions
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// setLogin makes the socket of a login and what is beside it, as far as that is not
// there. A PID 1 that runs gets the listener.
func (s *server) setLogin(uid jail.HostUID, w login) error {
	var patterns []string
	x11, record := false, ""
	n, inForce := s.byName[w.of]
	if inForce = inForce && w.fault == ""; inForce {
		spec := &s.jails.at(n).spec
		patterns, x11, record = spec.EnvAccept, spec.X11, environ.RecordLine(spec.Record, spec.RecordInput)
	}
	if err := fdsock.SetX11(s.opt.RuntimeDir, uid, x11); err != nil {
		return err
	}
	if err := fdsock.WriteAccept(s.opt.RuntimeDir, uid, record, patterns); err != nil {
		return err
	}
	if _, there := s.byUID[uid]; there {
		return nil
	}
	fd, err := fdsock.ListenLogin(s.opt.RuntimeDir, uid)
	if err != nil {
		return err
	}
	lg := &login{spec: w.spec, of: w.of, jail: -1, fault: w.fault, told: w.told, fd: fd}
	i := s.logins.add(lg)
	s.byUID[uid] = i
	if !inForce {
		s.watchLogin(i, lg)
		return nil
	}
	lg.jail = n
	j := s.jails.at(n)
	j.logins[i] = true
	if j.names != nil {
		j.names.add(&lg.spec)
	}
	switch {
	case j.machine.State == supervise.Running:
		j.orders.Add(launch.Identity(&lg.spec), fd)
		s.tell(n, j)
	case j.machine.Watching():
		s.watchLogin(i, lg)
	}
	return nil
}

func (s *server) dropLogin(uid jail.HostUID, i int, lg *login) {
	if lg.fd >= 0 {
		fdsock.Remove(fdsock.LoginPath(s.opt.RuntimeDir, uid), lg.fd)
	}
	key := timerLogin + i
	if j := s.jails.at(lg.jail); j != nil {
		key = lg.jail
		delete(j.logins, i)
		if j.machine.State == supervise.Running {
			j.orders.Drop(uint32(uid))
			s.tell(lg.jail, j)
		}
	}
	s.closeLogin(key, lg)
	s.timers.Set(timerLogin+i, 0)
	delete(s.byUID, uid)
	s.logins.remove(i)
}

// reloads are the readings of the registry: one at a time, and those that hang.
type reloads struct {
	reading bool
	stuck   int
	again   []func(lines []string, verdict uint8) // who asked meanwhile
}

// reload reads the registry again, beside the loop. One of which nothing can be used
// changes nothing. answer is called by the loop, with what there is to say about it.
func (s *server) reload(answer func(lines []string, verdict uint8)) {
	switch {
	case s.closing:
		answer([]string{"jail-init serve is ending"}, wire.VerdictNone)
		return
	case s.reloads.reading:
		s.reloads.again = append(s.reloads.again, answer)
		return
	case s.reloads.stuck >= maxStuck:
		s.loaded(nil, errors.New("the registry could not be read several times, and that still hangs; mend the file system, or restart jail-init serve"), nil, answer)
		return
	}
	s.reloads.reading = true
	go func() {
		type result struct {
			reg *config.Registry
			err error
		}
		done := make(chan result, 1)
		var network error
		go func() {
			reg, err := s.load()
			if err == nil {
				s.prepare(reg)
			}
			done <- result{reg, err}
		}()
		select {
		case r := <-done:
			if r.err == nil {
				network = s.network.Apply(r.reg) // before anybody lands by it
			}
			s.post(func() { s.loaded(r.reg, r.err, network, answer) })
		case <-time.After(s.reloadWait):
			s.post(func() {
				s.reloads.stuck++
				s.loaded(nil, fmt.Errorf("reading it takes longer than %v: does a file system not answer?", s.reloadWait), nil, answer)
			})
			<-done
			s.post(func() { s.reloads.stuck-- })
		}
	}()
}

// loaded takes what was read into force. network is why what jails own of it could not be
// loaded.
func (s *server) loaded(reg *config.Registry, err, network error, answer func(lines []string, verdict uint8)) {
	var lines []string
	verdict := uint8(wire.VerdictTaken)
	if err != nil {
		s.log("reload: the registry is not used, the one in force stays: %v", err)
		lines, verdict = append(lines, "the registry is not used, the one in force stays:"), wire.VerdictNone
		var many config.Errors
		if errors.As(err, &many) {
			for _, e := range many {
				lines = append(lines, e.Error())
			}
		} else {
			lines = append(lines, err.Error())
		}
	} else {
		for _, o := range reg.Outages() {
			for _, e := range o.Errors {
				lines = append(lines, "out of service: "+o.What+": "+e.Error())
			}
		}
		errs := s.apply(reg)
		if network != nil {
			err := fmt.Errorf("no jail with keys about the network can start: %w", network)
			s.log("error: %v", err)
			errs = append(errs, err)
		}
		if err := s.publish(reg); err != nil {
			s.log("%v", err)
			errs = append(errs, err)
		}
		for _, err := range errs {
			lines = append(lines, err.Error())
		}
		if len(lines) > 0 {
			verdict = wire.VerdictFaults
		}
		s.log("reloaded: %s", count.Of(len(reg.Jails), "jail", "jails"))
		s.networkAgain()
	}
	s.recordRegistry(err, len(lines))
	answer(lines, verdict)
	s.tidier.registry()
	s.reloads.reading = false
	if again := s.reloads.again; len(again) > 0 {
		s.reloads.again = nil
		s.reload(func(lines []string, verdict uint8) {
			for _, answer := range again {
				answer(lines, verdict)
			}
		})
	}
}

// recordRegistry records what has come of reading the registry.
func (s *server) recordRegistry(err error, faults int) {
	switch {
	case err != nil:
		s.records.Registry(record.RegistryFailed, 0, strings.ReplaceAll(err.Error(), "\n", "; "))
	case faults > 0:
		s.records.Registry(record.RegistryFaulty, faults, "")
	default:
		s.records.Registry(record.RegistryTaken, 0, "")
	}
}

// verb takes an order of an administrator's to serve itself.
func (s *server) verb() {
	fd, err := sys.Accept(s.verbs)
	if err != nil {
		return
	}
	cred, err := sys.PeerCred(fd)
	if err != nil || int(cred.Uid) != os.Geteuid() && cred.Uid != 0 {
		sys.Close(fd)
		return
	}
	go func() {
		var m sys.MsgBuf
		buf := make([]byte, 128)
		n := 0
		if ready, _ := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}, verbWait); ready > 0 {
			n, _ = sys.RecvMsg(fd, buf, true, &m)
			sys.CloseForeign(m.FDs)
		}
		typ, _, body, err := wire.Header(buf[:n])
		answer := func(lines []string, verdict uint8) { go answerVerb(fd, lines, verdict) }
		switch {
		case err != nil:
		case typ == wire.TypeReload && len(body) == 0:
			s.post(func() { s.reload(answer) })
			return
		case typ == wire.TypeLimit:
			if l, err := wire.DecodeLimit(body); err == nil {
				s.post(func() { s.limited(&l, answer) })
				return
			}
		case typ == wire.TypeStart:
			if name, err := wire.DecodeStart(body); err == nil {
				s.post(func() { s.forced(name, answer) })
				return
			}
		}
		sys.CloseForeign([]int{fd})
	}()
}

// answerVerb tells a verb what came of its order.
func answerVerb(fd int, lines []string, verdict uint8) {
	defer sys.CloseForeign([]int{fd})
	var m sys.MsgBuf
	send := func(p []byte) bool {
		for {
			err := sys.SendMsg(fd, p, nil, false, &m)
			if err != syscall.EAGAIN {
				return err == nil
			}
			if n, err := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollOut}}, verbWait); n == 0 || err != nil {
				return false
			}
		}
	}
	for _, line := range lines {
		if !send(wire.AppendText(nil, wire.TypeLog, line)) {
			return
		}
	}
	send(wire.AppendVerdict(nil, verdict))
}
