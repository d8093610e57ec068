// Package admin holds the administrator's verbs of jail-init: check, ps, stop and
// exec. Results go to standard output, everything about them to standard error,
// and nothing that comes from inside a jail is printed unquoted.
package admin

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"jail/config"
	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/enter"
	"jail/internal/event"
	"jail/internal/fdsock"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/quota"
	"jail/internal/source"
	"jail/internal/sys"
	"jail/internal/wire"
)

// Options are what the command line says.
type Options struct {
	ConfigPath     string
	RuntimeDir     string
	Rootless       bool
	Stdout, Stderr io.Writer
}

// made says how many jails each [[match]] has made.
func made(reg *config.Registry) []string {
	type block struct {
		file string
		config.Block
	}
	made := make(map[block]int)
	for name, b := range reg.Blocks {
		if b.Match != "" {
			made[block{reg.Files[name], b}]++
		}
	}
	var lines []string
	for b, n := range made {
		lines = append(lines, fmt.Sprintf("%s:%d: match: %s: %s by template %s", b.file, b.Line, b.Match, count.Of(n, "account has a jail", "accounts have jails"), b.Template))
	}
	slices.Sort(lines)
	return lines
}

// load returns what is in force, by serve's word or, where there is none, by the
// registry's. No root directory is looked at for it: the file system of another jail
// may not answer.
func load(opt Options) (*config.Registry, error) {
	if f, err := inforce.Open(opt.RuntimeDir, opt.ConfigPath); err == nil {
		defer f.Close()
		if reg, err := f.Registry(); err == nil {
			return reg, nil
		}
	}
	return config.Load(opt.ConfigPath, config.Options{Rootless: opt.Rootless, RuntimeDir: opt.RuntimeDir, SkipPlaces: true})
}

// find is load for one jail; nil without an error if there is none of that name.
func find(opt Options, name string) (*jail.Spec, error) {
	if f, err := inforce.Open(opt.RuntimeDir, opt.ConfigPath); err == nil {
		defer f.Close()
		if spec, _, err := f.Jail(name); err == nil && spec != nil {
			return spec, nil
		}
	}
	reg, err := load(opt)
	if err != nil {
		return nil, err
	}
	return reg.Jail(name), nil
}

// row is what ps prints of one jail.
type row struct {
	landmark                                               source.Landmark
	name, state, pid, sessions, served, rootfs, from, note string
	answered                                               bool // it says itself what it does
	disk                                                   *diskUse
	ports, loopback                                        string
	build                                                  string
}

// ask has a jail say what it does.
func (r *row) ask(opt Options) {
	c, err := control.Open(opt.RuntimeDir, r.name, false)
	if err != nil {
		return
	}
	defer c.Close()
	r.state, r.answered = "running", true
	switch {
	case c.Status.Stopping:
		r.state = "stopping"
	case c.Status.Sessions == 0 && !c.Status.Processes:
		r.state = "idle"
	}
	r.pid, r.sessions, r.served, r.build = strconv.Itoa(c.PID), fmt.Sprint(c.Status.Sessions), fmt.Sprint(c.Status.Served), c.Status.Build
}

// PS prints the jails of the registry and those that run without one, or the one called
// name, if that is not "", as a table, or as JSON. Of one that runs it prints besides what keeps it running,
// what it uses, and its limits.
func PS(opt Options, name string, asJSON bool) error {
	list, err := jails(opt, name)
	if err != nil {
		return err
	}
	if asJSON {
		return printJails(opt, list)
	}
	tw := tabwriter.NewWriter(opt.Stdout, 0, 8, 2, ' ', 0)
	network := slices.ContainsFunc(list, func(r *row) bool { return r.ports != "-" })
	disk := slices.ContainsFunc(list, func(r *row) bool { return r.disk.bytes() != "" })
	head := "JAIL\tSTATE\tPID\tSESSIONS\tSERVED\tROOTFS\tFROM"
	if disk {
		head = strings.Replace(head, "\tROOTFS", "\tDISK\tROOTFS", 1)
	}
	if network {
		head += "\tPORTS\tLOOPBACK"
	}
	fmt.Fprintln(tw, head)
	build, _ := launch.InstalledBuild()
	for _, r := range list {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s", r.name, r.state, r.pid, r.sessions, r.served)
		if disk {
			fmt.Fprintf(tw, "\t%s", cmp.Or(r.disk.bytes(), "-"))
		}
		fmt.Fprintf(tw, "\t%s\t%s", r.rootfs, r.from)
		if network {
			fmt.Fprintf(tw, "\t%s\t%s", r.ports, r.loopback)
		}
		note := r.note
		if note == "" && r.answered && build != "" && r.build != build {
			note = "PID 1 is of another build: jail restart " + r.name
		}
		if note != "" {
			fmt.Fprintf(tw, "\t%s", note)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil || name == "" || list[0].pid == "-" {
		return err
	}
	spec, _ := find(opt, name)
	tw = table(opt.Stdout)
	fmt.Fprintln(tw)
	describeAll(opt, list, func(string) *jail.Spec { return spec })[0].facts(tw)
	return tw.Flush()
}

// jails returns what PS prints, by name.
func jails(opt Options, name string) ([]*row, error) {
	defer opt.waiting("asking the jails, of which one does not answer")()
	rows := map[string]*row{}
	at := func(name string) *row {
		if rows[name] == nil {
			rows[name] = &row{name: name, state: "stopped", pid: "-", sessions: "-", served: "-", rootfs: "-", from: "-", ports: "-", loopback: "-"}
		}
		return rows[name]
	}
	// All are asked at once: some may take their time not to answer.
	var asking sync.WaitGroup
	room := make(chan struct{}, 64)
	reg, err := load(opt)
	if err == nil {
		for i := range reg.Jails {
			src := source.Of(&reg.Jails[i])
			r := at(reg.Jails[i].Name)
			r.rootfs, r.landmark = src.String(), src.Landmark()
			r.network(&reg.Jails[i].Network)
			l := quota.Limit{Bytes: reg.Jails[i].Limits.DiskBytes, Files: reg.Jails[i].Limits.Files}
			if l != (quota.Limit{}) && (name == "" || r.name == name) {
				asking.Go(func() { room <- struct{}{}; r.disk = lookAtDisk(src.Places()[0], l); <-room })
			}
			if b := reg.Blocks[r.name]; b.Line > 0 {
				r.from = reg.Files[r.name] + ":" + strconv.Itoa(b.Line)
			}
		}
	} else if _, gone := os.Stat(opt.ConfigPath); !errors.Is(gone, os.ErrNotExist) {
		fmt.Fprintf(opt.Stderr, "jail-init: the registry has faults (jail-init check), only running jails are shown\n")
	}
	for _, n := range Running(opt) {
		if name == "" || n == name {
			r := at(n)
			asking.Go(func() { room <- struct{}{}; r.ask(opt); <-room })
		}
	}
	asking.Wait()
	answered := map[string]string{} // by pid, the name of who has it
	for n, r := range rows {
		if r.answered {
			answered[r.pid] = n
		} else if r.rootfs == "-" {
			delete(rows, n) // a socket somebody left
		}
	}
	var inits *control.Inits
	for n, r := range rows {
		if r.answered || name != "" && n != name {
			continue
		}
		if inits == nil {
			if inits, err = control.FindInits(); err != nil {
				return nil, err
			}
		}
		if pid, ok := inits.At(r.landmark); ok {
			if other := answered[strconv.Itoa(pid)]; other != "" {
				r.note = "its root directory is in use by " + other
			} else {
				r.state, r.pid = "silent", strconv.Itoa(pid)
			}
		}
	}
	if reg != nil {
		for i := range reg.Faults {
			markFaulty(reg, &reg.Faults[i], at)
		}
	}
	if reg != nil {
		markDisabled(opt, reg, at)
	}
	sorted := make([]string, 0, len(rows))
	for n := range rows {
		if name == "" || n == name {
			sorted = append(sorted, n)
		}
	}
	if name != "" && len(sorted) == 0 {
		return nil, noSuch(opt, name)
	}
	sort.Strings(sorted)
	list := make([]*row, 0, len(sorted))
	for _, n := range sorted {
		list = append(list, rows[n])
	}
	return list, nil
}

// diskUse is what the directory of a jail has of its limits.
type diskUse struct {
	limit quota.Limit
	quota.Use
	kept bool
}

// lookAtDisk looks at the directory of a jail that has limits on files.
func lookAtDisk(dir string, l quota.Limit) *diskUse {
	is, err := quota.Look(dir, time.Second)
	return &diskUse{l, is.Use, err == nil && is.Kept}
}

// bytes is, in words, what is used of the limit on bytes, and files of that on files; "" if
// there is none.
func (d *diskUse) bytes() string {
	switch {
	case d == nil || d.limit.Bytes == 0:
		return ""
	case !d.kept:
		return notKept
	}
	return fmt.Sprintf("%s of %s", count.Size(d.Bytes), count.Size(d.limit.Bytes))
}

func (d *diskUse) files() string {
	switch {
	case d == nil || d.limit.Files == 0:
		return ""
	case !d.kept:
		return notKept
	}
	return fmt.Sprintf("%d of %d", d.Files, d.limit.Files)
}

const notKept = "not kept"

// markFaulty shows what is out of service, and the first reason.
func markFaulty(reg *config.Registry, f *config.Fault, at func(name string) *row) {
	name := f.Jail
	if name == "" {
		name = "-"
	}
	r := at(name)
	why := "out of service"
	if reg.Jail(f.Jail) == nil {
		r.state = "faulty"
	} else if len(f.Logins) > 0 {
		why = "login " + f.Logins[0].Name + " is out of service"
	}
	if len(f.Errors) > 0 {
		why += ": " + f.Errors[0].Error()
	}
	r.note = why
}

// markDisabled shows what is disabled.
func markDisabled(opt Options, reg *config.Registry, at func(name string) *row) {
	d, err := inforce.ReadDisabled(opt.ConfigPath)
	if err != nil {
		return
	}
	for i := range reg.Jails {
		spec := &reg.Jails[i]
		what := ""
		if m, ok := d.Jails[spec.Name]; ok {
			what = "disabled: " + m
		} else {
			for j := range spec.Logins {
				if m, ok := d.Logins[spec.Logins[j].Name]; ok {
					what = "login " + spec.Logins[j].Name + " is disabled: " + m
					break
				}
			}
		}
		if r := at(spec.Name); what != "" && r.note == "" {
			r.note = what
		}
	}
}

// noSuch says why name neither runs nor is in force: a fault of it, or there is no such
// jail.
func noSuch(opt Options, name string) error {
	if reg, err := load(opt); err == nil {
		for i := range reg.Faults {
			if f := &reg.Faults[i]; f.Jail == name && len(f.Errors) > 0 {
				return fmt.Errorf("jail %s does not run and is out of service: %w", name, f.Errors[0])
			}
		}
	}
	return fmt.Errorf("no jail %q in %s, and none of that name runs", name, opt.ConfigPath)
}

// Reload has jail-init serve read the registry again, prints what there is to say about
// it, and returns the exit status: 0 if all of it is in force, 1 if nothing is, 2 if
// something is out of service.
func Reload(opt Options) (int, error) { return order(opt, wire.AppendReload(nil)) }

// order gives jail-init serve an order, prints what there is to say about it, and returns
// its verdict.
func order(opt Options, packet []byte) (int, error) {
	fd, err := fdsock.DialPlain(fdsock.ServePath(opt.RuntimeDir))
	switch err {
	case nil:
	case syscall.ENOENT, syscall.ECONNREFUSED:
		return 0, fmt.Errorf("jail-init serve does not answer in %s: it does not run, or is older than this program (then restart it)", opt.RuntimeDir)
	default:
		return 0, fmt.Errorf("connect to jail-init serve: %w", err)
	}
	defer sys.Close(fd)
	defer opt.waiting("waiting for jail-init serve")()
	var m sys.MsgBuf
	err = sys.SendMsg(fd, packet, nil, true, &m)
	for buf := make([]byte, 2048); err == nil; {
		var n int
		if n, err = sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}, reloadWait); err != nil || n == 0 {
			break
		}
		if n, err = sys.RecvMsg(fd, buf, true, &m); err != nil || n == 0 {
			break
		}
		sys.CloseAll(m.FDs)
		typ, _, body, err := wire.Header(buf[:n])
		switch {
		case err != nil:
			return 0, err
		case typ == wire.TypeLog:
			text, err := wire.DecodeText(body)
			if err != nil {
				return 0, err
			}
			fmt.Fprintln(opt.Stderr, "jail-init: "+text)
		case typ == wire.TypeVerdict:
			verdict, err := wire.DecodeVerdict(body)
			return int(verdict), err
		}
	}
	if err != nil {
		return 0, fmt.Errorf("ask jail-init serve: %w", err)
	}
	return 0, errors.New("jail-init serve does not answer; its log says more")
}

// Serving reports whether there is a jail-init serve to take orders.
func Serving(opt Options) bool {
	fd, err := fdsock.DialPlain(fdsock.ServePath(opt.RuntimeDir))
	if err == nil {
		sys.Close(fd)
	}
	return err != syscall.ENOENT && err != syscall.ECONNREFUSED
}

// Runs reports whether a jail answers.
func Runs(opt Options, name string) bool {
	c, err := control.Open(opt.RuntimeDir, name, false)
	if err == nil {
		c.Close()
	}
	return err == nil || !errors.Is(err, control.ErrNotRunning)
}

// Stop ends a jail and waits until it is gone. grace is what its processes get
// to end by themselves. A PID 1 that does not answer is killed, and everything
// in the jail with it.
func Stop(opt Options, name string, grace time.Duration) error {
	c, err := control.Open(opt.RuntimeDir, name, false)
	if err != nil {
		return stopSilent(opt, name, grace, err)
	}
	return stop(opt, name, c, grace)
}

// stop tells PID 1 to end its jail, and sees to it that it does. It closes c.
func stop(opt Options, name string, c *control.Conn, grace time.Duration) error {
	defer c.Close()
	defer opt.waiting("waiting for jail %s to end: its processes have %v to do so by themselves", name, grace)()
	// A jail of "run -u UID" has nobody to tidy up behind it. Where there is a serve it
	// does so, and a socket that was dead a moment ago may have been renewed when it is
	// removed.
	if conn, err := fdsock.Dial(fdsock.ServePath(opt.RuntimeDir)); err == nil {
		sys.Close(conn)
	} else {
		if sockets, err := fdsock.Sockets(opt.RuntimeDir); err == nil {
			defer sockets.RemoveDead()
		}
	}
	// Should it have ended since it answered, that is what was asked for.
	if err := c.Send(wire.AppendStop(nil, wire.Stop{GraceMillis: uint32(grace.Milliseconds())}), nil); err != nil && !gone(err) {
		return err
	}
	wait := int(grace.Milliseconds()) + 3000
	n, err := sys.Poll([]sys.PollFD{{FD: int32(c.PIDFD), Events: sys.PollIn}}, wait)
	if err != nil {
		return err
	}
	if n == 0 {
		return kill(c.PID, c.PIDFD, name)
	}
	return nil
}

// reloadWait is how long serve may take to answer, in milliseconds: it does not wait for
// file systems longer than 15 seconds, and may be doing that for somebody else.
const reloadWait = 40_000

// silence is how long a PID 1 may say nothing, in milliseconds: one that has only just
// been started does not either.
const silence = 3000

// stopSilent ends a jail of the registry whose PID 1 does not say who it is, as one
// that has been taken over may not; why is what asking it has come to.
func stopSilent(opt Options, name string, grace time.Duration, why error) error {
	spec, err := find(opt, name)
	if err != nil {
		return why
	}
	if spec == nil {
		if errors.Is(why, control.ErrNotRunning) && !slices.Contains(Running(opt), name) {
			return noSuch(opt, name)
		}
		return why
	}
	pid, pidfd, err := control.Find(source.Of(spec).Landmark())
	switch {
	case err != nil && gone(why):
		return err // it has ended while it was asked
	case err != nil:
		return why
	}
	defer sys.Close(pidfd)
	defer opt.waiting("waiting for an answer of jail %s, which is killed if there is none", name)()
	for deadline := sys.MonotonicMillis() + silence; sys.MonotonicMillis() < deadline; {
		if n, err := sys.Poll([]sys.PollFD{{FD: int32(pidfd), Events: sys.PollIn}}, 50); err != nil || n > 0 {
			return err // it has ended
		}
		if c, err := control.Open(opt.RuntimeDir, name, false); err == nil {
			return stop(opt, name, c, grace)
		}
	}
	return kill(pid, pidfd, name)
}

// gone reports whether an error is of a connection whose other end is no more.
func gone(err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) }

// kill ends PID 1, and with it everything in the jail.
func kill(pid, pidfd int, name string) error {
	if err := sys.PidfdSendSignal(pidfd, 9); err != nil {
		return fmt.Errorf("kill PID 1 of jail %s: %w", name, err)
	}
	if n, err := sys.Poll([]sys.PollFD{{FD: int32(pidfd), Events: sys.PollIn}}, 10_000); err != nil || n == 0 {
		return fmt.Errorf("jail %s does not end: %s", name, control.Remains(pid))
	}
	return nil
}

// Exec runs a command in a jail as an identity of the administrator's choice, or
// a login shell if there is none, and returns its exit status. A stopped jail is
// started by its supervisor, as a login would.
func Exec(opt Options, name string, id wire.Identity, command []string, force bool) (int, error) {
	wake := Wake
	if force {
		wake = startDisabled
	}
	if err := wake(opt, name); err != nil {
		return 0, err
	}
	dial := func() (int, error) {
		fd, err := fdsock.Dial(fdsock.ControlPath(opt.RuntimeDir, name))
		if err != nil {
			return -1, err
		}
		var m sys.MsgBuf
		if err := sys.SendMsg(fd, wire.AppendExec(nil, &id), nil, true, &m); err != nil {
			sys.Close(fd)
			return -1, err
		}
		return fd, nil
	}
	var args []string
	if len(command) > 0 {
		// The identity's own shell runs it, so that the jail decides what there is.
		args = append([]string{"-c", `exec "$@"`, "sh"}, command...)
	}
	told := func(pid uint32) { tellCaller(opt, name, pid, command) }
	return enter.Attach(dial, len(command) == 0, args, os.Environ(), told), nil
}

// startDisabled makes sure that a jail runs that may be disabled: nobody else is let in by that.
func startDisabled(opt Options, name string) error {
	if Runs(opt, name) {
		return nil
	}
	if status, err := order(opt, wire.AppendStart(nil, name)); err != nil {
		return err
	} else if status != wire.VerdictTaken {
		return fmt.Errorf("jail %s has not been started", name)
	}
	return nil
}

// Wake makes sure that a jail runs: a stopped one is started by its supervisor, as a login
// has it started.
func Wake(opt Options, name string) error {
	c, err := control.Open(opt.RuntimeDir, name, false)
	if err == nil {
		c.Close()
		return nil
	}
	if !errors.Is(err, control.ErrNotRunning) && !gone(err) {
		return err
	}
	spec, err := find(opt, name)
	if err != nil {
		return err
	}
	if spec == nil {
		return noSuch(opt, name)
	}
	if d, err := inforce.ReadDisabled(opt.ConfigPath); err == nil {
		if _, disabled := d.Jails[name]; disabled {
			return fmt.Errorf("jail %s is disabled and does not run: jail exec --force %s starts it and lets nobody else in, jail enable %s lets them in again", name, name, name)
		}
		// One that nobody may use does not start it.
		for _, l := range spec.Logins {
			if _, disabled := d.Of(name, l.Name); !disabled {
				spec.Logins[0] = l
				break
			}
		}
	}
	// To be waiting on a login's socket is all it takes. One that has just ended may have
	// closed it, and serve makes it anew.
	fd := -1
	defer func() { sys.Close(fd) }()
	defer opt.waiting("waiting for jail %s to start", name)()
	start := time.Now()
	for ; time.Since(start) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		if fd >= 0 {
			why, closed := refusalOf(fd)
			if why != "" {
				return fmt.Errorf("jail %s does not start: %s", name, why)
			}
			if closed {
				sys.Close(fd)
				fd = -1
			}
		}
		if fd < 0 {
			if fd, err = fdsock.Dial(fdsock.LoginPath(opt.RuntimeDir, spec.Logins[0].HostUID)); err != nil && time.Since(start) > 2*time.Second {
				return fmt.Errorf("jail %s is not running, and neither is jail-init serve: %w", name, err)
			}
		}
		if c, err := control.Open(opt.RuntimeDir, name, false); err == nil {
			c.Close()
			return nil
		}
	}
	return fmt.Errorf("jail %s does not start; the reason is in the log of jail-init", name)
}

// refusalOf returns why a connection was refused, "" if it was not, and whether its other
// end is closed.
func refusalOf(fd int) (why string, closed bool) {
	if n, err := sys.Poll([]sys.PollFD{{FD: int32(fd), Events: sys.PollIn}}, 0); n == 0 || err != nil {
		return "", false
	}
	var m sys.MsgBuf
	buf := make([]byte, 1024)
	n, err := sys.RecvMsg(fd, buf, false, &m)
	sys.CloseForeign(m.FDs)
	if err != nil || n == 0 {
		return "", true
	}
	if typ, _, body, err := wire.Header(buf[:n]); err == nil && typ == wire.TypeRefused {
		if r, err := wire.DecodeRefused(body); err == nil {
			return event.Quote(r.Text), true
		}
	}
	return "", true
}

// Running returns the names of the jails that have a control socket.
func Running(opt Options) []string {
	entries, _ := os.ReadDir(filepath.Join(opt.RuntimeDir, "ctl"))
	var names []string
	for _, e := range entries {
		if jail.ValidName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}
