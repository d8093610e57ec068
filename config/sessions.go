package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"jail/internal/jail"
	"jail/internal/wire"
)

// What sessions may have.
const (
	mostSessions = 1000 // internal/pid1, maxSessions
	mostRate     = 6000
	mostNice     = 19
)

// rlimitNumbers are the resource limits that sessions may be given (getrlimit(2)). None is that of
// core files, which stay off (core(5), CVE-2025-4598), nor those of priorities, which a jail
// cannot raise.
var rlimitNumbers = map[string]uint8{
	"as": syscall.RLIMIT_AS, "cpu": syscall.RLIMIT_CPU, "data": syscall.RLIMIT_DATA, "fsize": syscall.RLIMIT_FSIZE, "memlock": 8, "msgqueue": 12,
	"nofile": syscall.RLIMIT_NOFILE, "nproc": 6, "sigpending": 11, "stack": syscall.RLIMIT_STACK,
}

// rlimitsKey is rlimits, by name: numbers, or sizes such as "1G".
type rlimitsKey map[string]value[string]

func (l *rlimitsKey) decode(ps *problems, o origin, p *position, v any) {
	table, ok := v.(map[string]any)
	if !ok {
		wrongType(ps, o, v, "a table such as { nofile = 4096 }")
		return
	}
	*l = make(rlimitsKey)
	for _, name := range keysOf(table) {
		at := origin{o.file, p.at(name).line, o.below(name)}
		switch x := table[name].(type) {
		case int64:
			(*l)[name] = value[string]{v: strconv.FormatInt(x, 10), origin: at}
		case string:
			(*l)[name] = value[string]{v: x, origin: at}
		default:
			wrongType(ps, at, x, `a number, or a size such as "1G"`)
		}
	}
}

// overSessions merges what sessions may have with that of a template or [defaults].
func (s *settings) overSessions(def *settings) {
	s.MaxSessions = s.MaxSessions.or(def.MaxSessions)
	s.SessionRate = s.SessionRate.or(def.SessionRate)
	s.Umask = s.Umask.or(def.Umask)
	s.Nice = s.Nice.or(def.Nice)
	all := make(rlimitsKey, len(s.Rlimits)+len(def.Rlimits))
	for _, from := range []rlimitsKey{def.Rlimits, s.Rlimits} {
		for name, v := range from {
			all[name] = v
		}
	}
	s.Rlimits = all
}

// checkSessions turns the keys into what the jail is started with.
func checkSessions(ps *problems, spec *jail.Spec, s *settings) {
	number := func(x value[int64], least, most int64) uint32 {
		if !x.usable() {
			return 0
		}
		if x.v < least || x.v > most {
			ps.errorf(x.origin, "is %d, use %d to %d", x.v, least, most)
			return 0
		}
		return uint32(x.v)
	}
	w := &spec.Sessions
	w.Max, w.PerMinute, w.Nice = number(s.MaxSessions, 1, mostSessions), number(s.SessionRate, 1, mostRate), uint8(number(s.Nice, 0, mostNice))
	if u := s.Umask; u.usable() {
		n, err := strconv.ParseUint(u.v, 8, 16)
		if err != nil || n > 0o777 || len(u.v) < 3 {
			ps.errorf(u.origin, `%s is not a umask, write three octal digits such as "027"`, shown(u.v))
		}
		w.SetUmask, w.Umask = true, uint16(n&0o777)
	}
	for _, name := range keysOf(s.Rlimits) {
		x := s.Rlimits[name]
		resource, known := rlimitNumbers[name]
		n, ok := parseSize(x.v)
		switch {
		case !known:
			ps.errorf(x.origin, "%s is no limit that sessions can have, there are: %s", shown(name), strings.Join(keysOf(rlimitNumbers), ", "))
		case !ok:
			ps.errorf(x.origin, `%s is not a limit, write a number, or a size such as "1G"`, shown(x.v))
		case name == "nofile" && n < 64:
			ps.errorf(x.origin, "%s is too little for any program, use at least 64", x.v)
		default:
			w.Rlimits = append(w.Rlimits, wire.Rlimit{Resource: resource, Value: n})
		}
	}
	slices.SortFunc(w.Rlimits, func(a, b wire.Rlimit) int { return int(a.Resource) - int(b.Resource) })
}

// explainSessions adds what there is to say of them.
func (d *draft) explainSessions(e *Explanation) {
	add := func(key, value string, o origin) { e.Settings = append(e.Settings, Setting{key, value, o.from()}) }
	number := func(key string, x value[int64], otherwise string) {
		if x.usable() {
			otherwise = strconv.FormatInt(x.v, 10)
		}
		add(key, otherwise, x.origin)
	}
	s := &d.set
	number("max_sessions", s.MaxSessions, strconv.Itoa(mostSessions))
	number("session_rate", s.SessionRate, "no limit")
	umask := uint16(0o022)
	if e.Spec.Sessions.SetUmask {
		umask = e.Spec.Sessions.Umask
	}
	add("umask", fmt.Sprintf("%03o", umask), s.Umask.origin)
	number("nice", s.Nice, "0")
	for _, name := range keysOf(s.Rlimits) {
		add("rlimits."+name, s.Rlimits[name].v, s.Rlimits[name].origin)
	}
}
