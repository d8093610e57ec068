package admin

import (
	"errors"
	"fmt"
	"sync"

	"jail/config"
	"jail/internal/audit"
	"jail/internal/count"
	"jail/internal/event"
	"jail/internal/inforce"
	"jail/internal/inside"
	"jail/internal/jail"
	"jail/internal/provision"
)

// LookInside is the command that looks into jails for Check: it calls inside.Serve with its
// standard input and output. The program's main sets it; without one nobody looks there.
var LookInside []string

// Check reads the registry and prints every fault and what is out of service by it;
// unless nothing can be used, it then looks at what the host leaves open around the
// accounts, at what runs, and into the jails, as a login would. only, if it is not "", is the
// jail or the login that it is about. It returns the exit status: 0 if nothing has to be done,
// 1 with errors, 2 with warnings only.
func Check(opt Options, only string, asJSON bool) int {
	defer opt.waiting("looking at the registry, the host and the jails")()
	reg, err := inforce.Load(opt.ConfigPath, config.Options{Rootless: opt.Rootless, RuntimeDir: opt.RuntimeDir})
	v := &verdict{opt: opt, json: asJSON}
	defer v.end()
	narrowed := reg
	if only != "" && err == nil {
		if narrowed = narrow(reg, only); narrowed == nil {
			fmt.Fprintf(opt.Stderr, "jail-init: no jail and no login %q in %s\n", only, opt.ConfigPath)
			v.status, v.json = 1, false
			return 1
		}
	}
	if only == "" {
		for _, w := range reg.Warnings {
			v.say("warning", "registry", w.Error())
		}
	}
	var faults config.Errors
	outages := narrowed.Outages()
	if !errors.As(err, &faults) {
		for _, o := range outages {
			faults = append(faults, o.Errors...)
		}
		faults = faults.Sorted()
	}
	for _, e := range faults {
		v.say("error", "registry", e.Error())
	}
	if err != nil {
		v.say("note", "registry", "nothing new of the registry is used: what was in force stays in force")
		return 1
	}
	for _, o := range outages {
		v.say("note", "registry", "out of service by this: "+o.What)
		if o.Jails > 0 {
			v.say("note", "registry", fmt.Sprintf("what is wrong with the first of %s is shown; jail ps shows all", count.Of(o.Jails, "jail", "these jails")))
		}
	}
	if only == "" {
		for _, line := range made(reg) {
			v.say("note", "registry", line)
		}
		if len(reg.Faults) > 0 {
			v.say("note", "registry", "everything else goes on: "+count.Of(len(reg.Jails), "jail", "jails"))
		}
	}
	looked := make(chan []audit.Remark, 1)
	go func() { looked <- remarks(opt, narrowed) }()
	for _, f := range audit.Run(narrowed, audit.Options{
		Rootless: opt.Rootless, RuntimeDir: opt.RuntimeDir, BlockGroup: provision.Group, Remarks: func() []audit.Remark { return <-looked },
		Acknowledged: func(id, jail string) bool {
			yes := reg.Acknowledges(id, jail)
			if yes {
				v.acknowledged++
			}
			return yes
		},
	}) {
		if only != "" && len(f.Jails)+len(f.Logins) == 0 && f.Severity == audit.Note {
			continue // the host's, and not why somebody cannot log in
		}
		v.finding(&f)
	}
	if v.acknowledged > 0 {
		v.say("note", "acknowledged", count.Of(v.acknowledged, "finding is", "findings are")+" acknowledged in the registry, and not shown")
	}
	return v.status
}

// remarks are what is found in the jails and of what runs.
func remarks(opt Options, reg *config.Registry) []audit.Remark {
	var in, runs []audit.Remark
	var both sync.WaitGroup
	both.Go(func() { runs = running(opt, reg) })
	if len(LookInside) > 0 {
		var err error
		if in, err = inside.Look(LookInside, reg.Jails); err != nil {
			in = []audit.Remark{{Severity: audit.Error, ID: "inside-silent", Where: "the jails", What: "cannot be looked into: " + err.Error(), Fix: "jail-init check again"}}
		}
	}
	both.Wait()
	return append(runs, in...)
}

// narrow is what of a registry is about one jail, or one login; nil if there is neither.
func narrow(reg *config.Registry, name string) *config.Registry {
	n := *reg
	n.Jails, n.Faults = nil, nil
	if spec := reg.Jail(name); spec != nil {
		n.Jails = append(n.Jails, *spec)
	} else if spec, lg := reg.Login(name); lg != nil {
		one := *spec
		one.Logins = []jail.Login{*lg}
		n.Jails = append(n.Jails, one)
	}
	for _, f := range reg.Faults {
		is := f.Jail == name
		for _, l := range f.Logins {
			is = is || l.Name == name
		}
		if is {
			n.Faults = append(n.Faults, f)
		}
	}
	if len(n.Jails)+len(n.Faults) == 0 {
		return nil
	}
	return &n
}

// InForce returns the jails that are in force with their logins: all of them, or the one of a
// login, with that login alone.
func InForce(opt Options, login string) ([]jail.Spec, error) {
	reg, err := load(opt)
	if err != nil {
		return nil, err
	}
	if login == "" {
		return reg.Jails, nil
	}
	if spec, lg := reg.Login(login); lg != nil {
		one := *spec
		one.Logins = []jail.Login{*lg}
		return []jail.Spec{one}, nil
	}
	for _, e := range reg.LoginFaults(login) {
		return nil, fmt.Errorf("login %s is out of service: %w", login, e)
	}
	return nil, fmt.Errorf("no login %q in %s", login, opt.ConfigPath)
}

// Printable makes text that may be from inside a jail fit for a terminal.
func Printable(s string) string { return event.Quote(s) }

// verdict is what check says: lines for people as they are found, or one JSON text.
type verdict struct {
	opt          Options
	json         bool
	status       int
	acknowledged int
	found        []told
}

// report is what check prints for programs: docs/json.md.
type report struct {
	Status   int    `json:"status"`
	Findings []told `json:"findings"`
}

// told is a finding for programs. New keys may come; those there are stay.
type told struct {
	Severity string   `json:"severity"`
	ID       string   `json:"id"`
	Jails    []string `json:"jails,omitempty"`
	Logins   []string `json:"logins,omitempty"`
	Where    string   `json:"where,omitempty"`
	What     string   `json:"what"`
	Fix      string   `json:"fix,omitempty"`
}

// say takes a line about the registry.
func (v *verdict) say(severity, id, what string) {
	v.count(severity)
	if v.json {
		v.found = append(v.found, told{Severity: severity, ID: id, What: what})
		return
	}
	fmt.Fprintf(v.opt.Stdout, "%s: %s\n", severity, event.Printable(what))
}

func (v *verdict) finding(f *audit.Finding) {
	v.count(f.Severity.String())
	if v.json {
		v.found = append(v.found, told{f.Severity.String(), f.ID, f.Jails, f.Logins, f.Where, f.What, f.Fix})
		return
	}
	fmt.Fprintln(v.opt.Stdout, f.String())
}

func (v *verdict) count(severity string) {
	switch {
	case severity == "error":
		v.status = 1
	case severity == "warning" && v.status == 0:
		v.status = 2
	}
}

func (v *verdict) end() {
	if !v.json {
		return
	}
	if v.found == nil {
		v.found = []told{}
	}
	_ = PrintJSON(v.opt.Stdout, report{v.status, v.found})
}
