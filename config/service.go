package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"jail/internal/jail"
	"jail/internal/wire"
)

const (
	backoffDefault = time.Second
	minBackoff     = 100 * time.Millisecond
	maxBackoff     = 24 * time.Hour
	maxServiceArgs = 256
	maxServiceText = 16 << 10 // bytes of all arguments together
	maxUserName    = 64
)

// serviceTable is one [[jail.NAME.service]].
type serviceTable struct {
	origin
	// Name is what the log calls it. Required: as a jail's.
	Name value[string] `toml:"name"`
	// Exec is the program, an absolute path inside, and its arguments. Required. It must
	// stay in the foreground.
	Exec listKey `toml:"exec"`
	// User is whom it runs as inside: a name of the jail's passwd, or a uid. The default
	// is root, the jail's own.
	User value[string] `toml:"user"`
	// Restart says when it is started again: "on-failure" (the default) unless it ended
	// with status 0, "always", or "no".
	Restart value[string] `toml:"restart"`
	// Backoff is the pause before that, "1s" without one. It doubles with each further
	// failure, up to a minute, until the service has run for one.
	Backoff value[string] `toml:"backoff"`
}

// listKey is an array of strings.
type listKey struct {
	origin
	broken bool // given, but of the wrong type
	list   []value[string]
}

func (l *listKey) decode(ps *problems, o origin, p *position, v any) {
	l.origin = o
	list, ok := items(v)
	if !ok {
		l.broken = true
		wrongType(ps, o, v, `an array of strings such as [ "/usr/sbin/cron", "-f" ]`)
		return
	}
	for i, item := range list {
		var word value[string]
		word.decode(ps, origin{o.file, p.item(i).line, o.key}, p.item(i), item)
		l.broken = l.broken || !word.usable()
		l.list = append(l.list, word)
	}
}

func (l listKey) usable() bool { return l.given() && !l.broken }

func (l listKey) or(other listKey) listKey {
	if l.given() {
		return l
	}
	return other
}

// servicesKey are all [[jail.NAME.service]] of a jail, in order.
type servicesKey struct {
	origin
	list []serviceTable
}

func (s *servicesKey) decode(ps *problems, o origin, p *position, v any) {
	s.origin = o
	list, ok := items(v)
	if !ok {
		wrongType(ps, o, v, "an array of tables, write [["+o.key+"]]")
		return
	}
	for i, item := range list {
		at := p.item(i)
		t := serviceTable{origin: origin{o.file, at.line, o.key + "[" + strconv.Itoa(i) + "]"}}
		decodeTable(ps, t.origin, at, item, &t)
		s.list = append(s.list, t)
	}
}

// services turns service and fresh into what a jail is started with.
func (v *validator) services(d *draft) {
	seen := map[string]bool{}
	for i := range d.Services.list {
		t := &d.Services.list[i]
		s, ok := t.service(&d.problems)
		if !ok {
			continue
		}
		if seen[s.Name] {
			d.errorf(t.Name.origin, "service %s is listed twice, remove one", s.Name)
			continue
		}
		seen[s.Name] = true
		d.spec.Services = append(d.spec.Services, s)
	}
	if n := len(d.Services.list); n > wire.MaxServices {
		d.errorf(d.Services.origin, "are %d services, a jail can have %d", n, wire.MaxServices)
	}
	if len(d.spec.Services) > 0 && !d.set.Autostart.given() {
		d.spec.Autostart = true
	}
	switch f := d.set.Fresh; {
	case d.isCage():
		if len(f.list) > 0 && d.jailTable.Fresh.given() {
			d.errorf(f.origin, "is for a rootfs of its own, a cage of the host has both anew at each start; remove it")
		}
	case f.given():
		for _, p := range f.list {
			bit, known := freshBits[p.v]
			if !known && p.usable() {
				d.errorf(p.origin, `%s cannot be fresh at each start, write "/run" or "/tmp"`, shown(p.v))
			}
			d.spec.Fresh |= bit
		}
	case len(d.spec.Services) > 0:
		d.spec.Fresh = wire.FreshRun
	}
}

var freshBits = map[string]wire.Fresh{"/run": wire.FreshRun, "/tmp": wire.FreshTmp}

// service returns what a table describes, if nothing is wrong with it.
func (t *serviceTable) service(ps *problems) (s jail.Service, ok bool) {
	before := len(ps.errors)
	missing := func(key, example string) {
		ps.errorf(origin{t.file, t.line, t.below(key)}, "is missing, add %s", example)
	}
	if s.Name = t.Name.v; !t.Name.given() {
		missing("name", `name = "cron"`)
	} else if t.Name.usable() && !jail.ValidName(s.Name) {
		ps.errorf(t.Name.origin, "%s cannot be used, %s", shown(s.Name), nameRule)
	}
	switch total := 0; {
	case !t.Exec.given():
		missing("exec", `exec = [ "/usr/sbin/cron", "-f" ]`)
	case !t.Exec.usable():
	case len(t.Exec.list) == 0:
		ps.errorf(t.Exec.origin, "is empty, give the program's path and its arguments")
	case cleanPath(ps, t.Exec.list[0]):
		for _, word := range t.Exec.list {
			if strings.ContainsRune(word.v, 0) {
				ps.errorf(word.origin, "has a NUL in it, remove it")
			}
			total += len(word.v)
			s.Exec = append(s.Exec, word.v)
		}
		if len(s.Exec)-1 > maxServiceArgs || total > maxServiceText {
			ps.errorf(t.Exec.origin, "has %d arguments of %d bytes, use at most %d of %d, or a script inside", len(s.Exec)-1, total, maxServiceArgs, maxServiceText)
		}
	}
	serviceUser(ps, &s, t.User)
	switch t.Restart.v {
	case "", "on-failure":
		s.Restart = jail.RestartOnFailure
		if t.Restart.usable() && t.Restart.v == "" {
			ps.errorf(t.Restart.origin, `"" is not known, write "no", "on-failure" or "always"`)
		}
	case "always":
		s.Restart = jail.RestartAlways
	case "no":
		s.Restart = jail.RestartNo
	default:
		ps.errorf(t.Restart.origin, `%s is not known, write "no", "on-failure" or "always"`, shown(t.Restart.v))
	}
	s.Backoff = backoffDefault
	if b := t.Backoff; b.usable() {
		pause, err := time.ParseDuration(b.v)
		if err != nil || pause < minBackoff || pause > maxBackoff {
			ps.errorf(b.origin, `%s is no pause, write "1s" or "5m"; it is at least %v and at most %v`, shown(b.v), minBackoff, maxBackoff)
		}
		s.Backoff = pause
	}
	return s, len(ps.errors) == before && t.Exec.usable() && t.Name.usable()
}

// serviceUser says whom a service runs as: a name, or a uid.
func serviceUser(ps *problems, s *jail.Service, u value[string]) {
	n, err := strconv.ParseUint(u.v, 10, 32)
	switch {
	case !u.usable():
		s.User = "root"
	case err == nil && (n == 0 || jail.ValidID(uint32(n))):
		s.UID = jail.UID(n)
	case err == nil || !validUser(u.v):
		ps.errorf(u.origin, "%s cannot be a user inside, write a name of the jail's /etc/passwd, or a uid", shown(u.v))
	default:
		s.User = u.v
	}
}

func validUser(s string) bool {
	if s == "" || len(s) > maxUserName || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !bareKey(c) && c != '.' {
			return false
		}
	}
	return true
}

// words are a service as its registry has it, in one line.
func serviceWords(s *jail.Service) string {
	who := s.User
	if who == "" {
		who = "uid " + uintString(uint32(s.UID))
	}
	restart := [...]string{jail.RestartNo: "no", jail.RestartOnFailure: "on-failure", jail.RestartAlways: "always"}[s.Restart]
	quoted := make([]string, len(s.Exec))
	for i, word := range s.Exec {
		quoted[i] = shown(word)
	}
	return fmt.Sprintf("%s: %s as %s, restart %s after %v", s.Name, strings.Join(quoted, " "), who, restart, s.Backoff)
}

// explainServices adds what there is to say of services and fresh.
func (d *draft) explainServices(e *Explanation) {
	for i := range d.spec.Services {
		from := d.Services.origin
		for _, t := range d.Services.list {
			if t.Name.v == d.spec.Services[i].Name {
				from = t.origin
			}
		}
		e.Settings = append(e.Settings, Setting{"service", serviceWords(&d.spec.Services[i]), from.from()})
	}
	var fresh []string
	for _, p := range []string{"/run", "/tmp"} {
		if d.spec.Fresh&freshBits[p] != 0 {
			fresh = append(fresh, p)
		}
	}
	value := "none"
	if len(fresh) > 0 {
		value = strings.Join(fresh, ", ")
	}
	e.Settings = append(e.Settings, Setting{"fresh", value, d.set.Fresh.from()})
}
