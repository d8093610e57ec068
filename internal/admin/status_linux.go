package admin

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/event"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/record"
	"jail/internal/usage"
)

// jailList is what "ps --json" prints, and jailPage what "status --json" does:
// docs/json.md.
type jailList struct {
	Version int        `json:"v"`
	Jails   []jailJSON `json:"jails"`
}

type jailPage struct {
	Version  int              `json:"v"`
	Jail     jailJSON         `json:"jail"`
	Sessions []record.Session `json:"sessions"`
	Events   []record.Entry   `json:"events"`
}

type jailJSON struct {
	Name  string `json:"name"`
	State string `json:"state"`
	PID   int    `json:"pid,omitempty"`
	// Old says that its PID 1 is of another build than the one that is installed; absent
	// where that is not known.
	Old      *bool   `json:"old,omitempty"`
	Sessions *uint64 `json:"sessions,omitempty"`
	Served   *uint64 `json:"served,omitempty"`
	// Processes are those besides PID 1.
	Processes *int    `json:"processes,omitempty"`
	Memory    *uint64 `json:"memory_bytes,omitempty"`
	CPU       *int64  `json:"cpu_ms,omitempty"`
	// Disk and Files are what it has of the limits, which are there where it has such; they
	// are absent where the limits are not kept.
	Disk       *uint64 `json:"disk_bytes,omitempty"`
	DiskLimit  uint64  `json:"disk_limit_bytes,omitempty"`
	Files      *uint64 `json:"files,omitempty"`
	FilesLimit uint64  `json:"files_limit,omitempty"`
	Root       string  `json:"root,omitempty"`
	From       string  `json:"from,omitempty"`
	Note       string  `json:"note,omitempty"`
	// Ports and Loopback are there where the jail has a network of its own, as in the table.
	Ports    string `json:"ports,omitempty"`
	Loopback string `json:"loopback,omitempty"`
	// Why is what keeps it running.
	Why string `json:"why,omitempty"`
	// LimitsMet are the limits that it has met since it was started.
	LimitsMet []record.Met `json:"limits_met,omitempty"`
}

// described is what describe makes of a row, and what else there is to know of it.
type described struct {
	jailJSON
	row  *row
	spec *jail.Spec // nil if the registry has none
	used *usage.Usage
}

// describeAll describes the jails of a list. The registry is asked by spec.
func describeAll(opt Options, rows []*row, spec func(name string) *jail.Spec) []described {
	build, _ := launch.InstalledBuild()
	first := map[string]int{}
	for _, r := range rows {
		if pid, err := strconv.Atoi(r.pid); err == nil {
			first[r.name] = pid
		}
	}
	used := usage.Places{}.Of(first)
	list := make([]described, 0, len(rows))
	for _, r := range rows {
		d := described{row: r, spec: spec(r.name)}
		if u, ok := used[r.name]; ok {
			d.used = &u
		}
		d.jailJSON = describe(r, d.spec, build, d.used)
		if d.PID != 0 || len(rows) == 1 { // all records of all jails are a long read
			d.LimitsMet, _ = records(opt).Met(r.name)
		}
		list = append(list, d)
	}
	return list
}

// describe makes of a row what programs read. spec is what the registry says, and used what it uses; nil
// without.
func describe(r *row, spec *jail.Spec, build string, used *usage.Usage) jailJSON {
	known := func(s string) string {
		if s == "-" {
			return ""
		}
		return s
	}
	j := jailJSON{Name: r.name, State: r.state, Root: known(r.rootfs), From: known(r.from), Note: r.note, Ports: known(r.ports), Loopback: known(r.loopback)}
	j.PID, _ = strconv.Atoi(r.pid)
	if n, err := strconv.ParseUint(r.sessions, 10, 64); err == nil {
		j.Sessions = &n
	}
	if n, err := strconv.ParseUint(r.served, 10, 64); err == nil {
		j.Served = &n
	}
	if d := r.disk; d != nil {
		j.DiskLimit, j.FilesLimit = d.limit.Bytes, d.limit.Files
		if d.kept {
			j.Disk, j.Files = &d.Bytes, &d.Files
		}
	}
	if r.answered && build != "" {
		old := r.build != build
		j.Old = &old
	}
	if j.PID == 0 {
		return j
	}
	list := control.Processes(j.PID)
	n := len(list)
	j.Processes = &n
	if used != nil {
		ms := used.CPU.Milliseconds()
		if j.CPU = &ms; used.Cgroup {
			j.Memory = &used.Memory
		}
	}
	j.Why = why(&j, list, spec)
	return j
}

// why says what keeps a jail running.
func why(j *jailJSON, list []control.Process, spec *jail.Spec) string {
	const most = 3
	var names []string
	for _, p := range list[:min(len(list), most)] {
		names = append(names, fmt.Sprintf("%d (%s)", p.PID, event.Quote(p.Name)))
	}
	processes := strings.Join(names, ", ")
	if more := len(list) - most; more > 0 {
		processes += " and " + strconv.Itoa(more) + " more"
	}
	switch {
	case j.Sessions != nil && *j.Sessions > 0:
		return "sessions, with processes " + processes
	case len(list) > 0:
		return "processes without a session: " + processes
	case spec == nil:
		return ""
	case spec.IdleTimeout == 0:
		return "idle_timeout is 0: it runs until it is stopped"
	}
	return "nothing: it ends when it has been idle for " + spec.IdleTimeout.String()
}

func printJails(opt Options, rows []*row) error {
	list := jailList{Version: record.Version, Jails: []jailJSON{}}
	reg, _ := load(opt)
	for _, d := range describeAll(opt, rows, func(name string) *jail.Spec {
		if reg == nil {
			return nil
		}
		return reg.Jail(name)
	}) {
		list.Jails = append(list.Jails, d.jailJSON)
	}
	return PrintJSON(opt.Stdout, list)
}

// lastEvents is how many entries of the records Status shows.
const lastEvents = 10

// Status prints all there is to know of a jail.
func Status(opt Options, name string, asJSON bool) error {
	rows, err := jails(opt, name)
	if err != nil {
		return err
	}
	spec, _ := find(opt, name)
	is := describeAll(opt, rows, func(string) *jail.Spec { return spec })[0]
	page := jailPage{Version: record.Version, Jail: is.jailJSON, Events: []record.Entry{}}
	open, err := sessions(opt, []string{name}, func(s *record.Session) bool { return s.State == record.StateOpen })
	if err != nil {
		return err
	}
	page.Sessions = open.Sessions
	_ = records(opt).Read(name, func(e *record.Entry) bool {
		if page.Events = append(page.Events, *e); len(page.Events) > lastEvents {
			page.Events = page.Events[1:]
		}
		return true
	}, func(*record.Damage) {}) // which sessions has named
	if asJSON {
		return PrintJSON(opt.Stdout, page)
	}
	tw := table(opt.Stdout)
	line := func(what, value string) { say(tw, what, value) }
	line("jail", is.Name)
	line("state", is.State)
	line("note", is.Note)
	is.facts(tw)
	if spec != nil {
		var logins []string
		for i := range spec.Logins {
			if i == 10 {
				logins = append(logins, fmt.Sprintf("and %d more", len(spec.Logins)-i))
				break
			}
			logins = append(logins, spec.Logins[i].Name)
		}
		line("logins", strings.Join(logins, ", "))
	}
	line("root", is.Root)
	line("from", is.From)
	if err := tw.Flush(); err != nil {
		return err
	}
	if len(page.Sessions) > 0 {
		fmt.Fprintln(opt.Stdout)
		if err := printOpen(opt, page.Sessions); err != nil {
			return err
		}
	}
	if len(page.Events) > 0 {
		fmt.Fprintln(opt.Stdout)
		for i := range page.Events {
			fmt.Fprintln(opt.Stdout, entryLine(&page.Events[i]))
		}
	}
	return nil
}

// say prints one line of a page, unless there is nothing to say.
func say(tw io.Writer, what, value string) {
	if value != "" {
		fmt.Fprintf(tw, "%s\t%s\n", what, value)
	}
}

// facts prints what is known of a jail besides its line in the table of ps.
func (d *described) facts(tw io.Writer) {
	say(tw, "runs because of", d.Why)
	if d.PID != 0 {
		text := strconv.Itoa(d.PID)
		switch {
		case d.Old == nil:
		case *d.Old:
			text += ", of another build than the installed one: jail restart " + d.Name
		default:
			text += ", of the installed build"
		}
		say(tw, "PID 1", text)
	}
	if d.Sessions != nil && d.Served != nil {
		say(tw, "sessions", fmt.Sprintf("%d, and %d since its start", *d.Sessions, *d.Served))
	}
	if d.Processes != nil {
		say(tw, "processes", strconv.Itoa(*d.Processes))
	}
	if d.used != nil {
		text := count.Size(d.used.Memory)
		if !d.used.Cgroup {
			text += ", of its processes"
		}
		say(tw, "memory", text)
		say(tw, "cpu", d.used.CPU.String()+" since its start")
	}
	say(tw, "disk", d.row.disk.bytes())
	say(tw, "files", d.row.disk.files())
	var has jail.Limits
	if d.spec != nil {
		has = d.spec.Limits
	}
	say(tw, "limits", limits(&has, d.LimitsMet))
}

// limits are those that a jail has by the registry, and those that it has met.
func limits(l *jail.Limits, met []record.Met) string {
	var list []string
	met = slices.Clone(met)
	often := func(limit string) string {
		i := slices.IndexFunc(met, func(m record.Met) bool { return m.Limit == limit })
		if i < 0 {
			return ""
		}
		m := met[i]
		met = slices.Delete(met, i, i+1)
		return fmt.Sprintf(" (met %s, last %s)", count.Of(m.Count, "time", "times"), clock(&m.Last))
	}
	if l.MemoryBytes > 0 {
		list = append(list, "memory "+count.Size(l.MemoryBytes)+often("memory"))
	}
	if l.CPUPercent > 0 {
		list = append(list, fmt.Sprintf("cpu %d%%", l.CPUPercent))
	}
	if l.Pids > 0 {
		list = append(list, fmt.Sprintf("pids %d", l.Pids)+often("pids"))
	}
	if l.IOWeight > 0 {
		list = append(list, fmt.Sprintf("io_weight %d", l.IOWeight))
	}
	if l.DiskBytes > 0 {
		list = append(list, "disk "+count.Size(l.DiskBytes)+often("disk"))
	}
	if l.Files > 0 {
		list = append(list, fmt.Sprintf("files %d", l.Files)+often("files"))
	}
	for len(met) > 0 { // the default, or what was set while it ran
		list = append(list, plain(record.LimitWords(met[0].Limit, met[0].Value))+often(met[0].Limit))
	}
	return strings.Join(list, ", ")
}

// Logs prints the records of a jail, or with "" those that are no jail's: the last n, or all
// with 0. With follow it goes on until over is closed.
func Logs(opt Options, name string, n int, follow, asJSON bool, over <-chan struct{}) error {
	if name != "" {
		if list, err := records(opt).Jails(); err != nil {
			return unreadable(err)
		} else if !contains(list, name) {
			if _, err := jails(opt, name); err != nil {
				return err
			}
		}
	}
	var list []record.Entry
	var damage []string
	tail, err := records(opt).Tail(name, func(e *record.Entry) {
		if list = append(list, *e); n > 0 && len(list) > n {
			list = list[1:]
		}
	}, func(d *record.Damage) { damage = append(damage, d.Error()) })
	if err != nil {
		return unreadable(err)
	}
	defer tail.Close()
	show := func(e *record.Entry) error {
		if asJSON {
			_, err := opt.Stdout.Write(event.PrintableJSON(e.Line()))
			return err
		}
		_, err := fmt.Fprintln(opt.Stdout, entryLine(e))
		return err
	}
	for i := range list {
		if err := show(&list[i]); err != nil {
			return err
		}
	}
	sayDamage(opt, damage)
	for follow {
		select {
		case <-over:
			return nil
		case <-time.After(followEvery):
		}
		var failed error
		if err := tail.More(func(e *record.Entry) {
			if failed == nil {
				failed = show(e)
			}
		}, func(d *record.Damage) { sayDamage(opt, []string{d.Error()}) }); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// followEvery is how often Logs looks for more.
const followEvery = 250 * time.Millisecond

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// entryLine is an entry in words.
func entryLine(e *record.Entry) string {
	text := e.Time.Local().Format(time.DateTime) + " " + plain(string(e.Event))
	add := func(what, value string) {
		if value != "" {
			text += " " + what + "=" + plain(value)
		}
	}
	add("session", e.Session)
	add("login", e.Login)
	add("kind", e.Kind)
	add("tty", e.TTY)
	if c := e.Caller; c != nil {
		add("by", c.Service)
		add("caller", callerName(c))
		add("from", c.Address)
		add("key", c.Key)
		add("certificate", c.Certificate)
	}
	if e.Command != "" {
		text += " command: " + plain(e.Command)
	}
	if e.Status != nil {
		add("status", strconv.Itoa(*e.Status))
	}
	if e.Signal != 0 {
		add("signal", strconv.Itoa(e.Signal))
	}
	if e.Millis != nil {
		add("after", lasted(e.Millis))
	}
	if e.OutOfMemory {
		add("end", "out-of-memory")
	}
	if e.Limit != "" {
		text += " " + plain(record.LimitWords(e.Limit, e.Value))
	}
	add("end", e.End)
	if e.OOM > 0 {
		add("oom_killed", strconv.FormatUint(e.OOM, 10))
	}
	if e.Count > 0 {
		add("count", strconv.FormatUint(e.Count, 10))
	}
	if e.Reason != "" {
		text += ": " + plain(e.Reason)
	}
	return text
}
