// Package metrics counts what serve records, and tells it as Prometheus reads it
// (prometheus.io/docs/instrumenting/exposition_formats, "text-based format"). docs/metrics.md has the
// names; a test compares the two.
//
// Counting waits for nobody. Telling is done beside serve's loop, for a file that node_exporter's
// textfile collector reads, and on a socket (Publisher).
package metrics

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"jail/internal/record"
)

// maxJails bounds the jails that have lines of their own: those that have run, or that somebody
// wanted to start, since serve has. The others are counted together, as jail="".
const maxJails = 2000

// Counters are what is counted.
type Counters struct {
	version string
	began   time.Time

	mu       sync.Mutex
	reads    [3]uint64 // of the registry: taken, with faults, refused
	inForce  [3]uint64 // jails, logins, out of service
	jails    map[string]*jail
	leftOver *jail // nil until there is one jail more than maxJails
}

// jail is what is counted of one.
type jail struct {
	running  uint64
	since    time.Time
	sessions uint64 // that there are
	started  map[string]uint64
	ended    uint64
	starved  uint64 // of those, for want of memory
	refused  uint64
	starts   uint64
	failures uint64
	ends     uint64
	oom      uint64
	met      map[string]uint64 // by limit
}

// kinds of sessions, of record.Entry; whatever else a jail says of its own is "other".
var kinds = []string{"command", "exec", "service", "sftp", "shell"}

// New returns counters that are zero.
func New(version string, now time.Time) *Counters {
	return &Counters{version: version, began: now, jails: map[string]*jail{}}
}

// Entry counts what is recorded.
func (c *Counters) Entry(e *record.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Event {
	case record.RegistryTaken:
		c.reads[0]++
		return
	case record.RegistryFaulty:
		c.reads[1]++
		return
	case record.RegistryFailed:
		c.reads[2]++
		return
	}
	if e.Jail == "" {
		return
	}
	j := c.jail(e.Jail)
	switch e.Event {
	case record.SessionStarted:
		kind := e.Kind
		if !slices.Contains(kinds, kind) {
			kind = "other"
		}
		j.started[kind]++
		if !e.Time.Before(j.since) { // or Found knows of it
			j.sessions++
		}
	case record.SessionEnded:
		j.ended++
		if e.OutOfMemory {
			j.starved++
		}
		if j.sessions > 0 && !e.Time.Before(j.since) { // a PID 1 that has been taken over can say what it likes
			j.sessions--
		}
	case record.SessionRefused:
		j.refused += max(e.Count, 1)
	case record.JailStarted, record.JailFound:
		if e.Event == record.JailStarted {
			j.starts++
		}
		j.running++
		j.since = e.Time
	case record.JailEnded:
		j.ends++
		j.oom += e.OOM
		if j.running > 0 {
			j.running--
		}
		if j.running == 0 {
			j.sessions = 0
		}
	case record.LimitMet:
		j.met[e.Limit] += e.Count
	case record.JailRefused:
		j.failures++
	}
}

func (c *Counters) jail(name string) *jail {
	if j := c.jails[name]; j != nil {
		return j
	}
	fresh := &jail{started: map[string]uint64{}, met: map[string]uint64{}}
	if len(c.jails) < maxJails {
		c.jails[name] = fresh
		return fresh
	}
	if c.leftOver == nil {
		c.leftOver = fresh
	}
	return c.leftOver
}

// Found says how many sessions a jail had when it was found running.
func (c *Counters) Found(name string, sessions uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jail(name).sessions += uint64(sessions)
}

// InForce says what the registry in force has.
func (c *Counters) InForce(jails, logins, out int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inForce = [3]uint64{uint64(jails), uint64(logins), uint64(out)}
}

// family is one metric: its name, its type, what it says, and its lines.
type family struct {
	name, kind, help string
	of               func(c *Counters, line func(value uint64, labels ...string))
}

// perJail are the lines of something that every jail has.
func perJail(value func(j *jail) uint64) func(c *Counters, line func(uint64, ...string)) {
	return func(c *Counters, line func(uint64, ...string)) {
		c.each(func(name string, j *jail) { line(value(j), "jail", name) })
	}
}

var families = []family{
	{"jail_build_info", "gauge", "1, and the version of jail-init serve.", func(c *Counters, line func(uint64, ...string)) {
		line(1, "version", c.version)
	}},
	{"jail_serve_start_time_seconds", "gauge", "When jail-init serve has started, in seconds since 1970. Counters begin with it.", func(c *Counters, line func(uint64, ...string)) {
		line(uint64(c.began.Unix()))
	}},
	{"jail_registry_jails", "gauge", "Jails in force.", func(c *Counters, line func(uint64, ...string)) { line(c.inForce[0]) }},
	{"jail_registry_logins", "gauge", "Logins in force.", func(c *Counters, line func(uint64, ...string)) { line(c.inForce[1]) }},
	{"jail_registry_faults", "gauge", "Parts of the registry that are out of service.", func(c *Counters, line func(uint64, ...string)) { line(c.inForce[2]) }},
	{"jail_registry_reads_total", "counter", "How often the registry was read again, by what came of it: taken, faulty (taken but for what is out of service), refused.", func(c *Counters, line func(uint64, ...string)) {
		for i, result := range []string{"taken", "faulty", "refused"} {
			line(c.reads[i], "result", result)
		}
	}},
	{"jail_running", "gauge", "1 while the jail runs.", perJail(func(j *jail) uint64 { return j.running })},
	{"jail_start_time_seconds", "gauge", "When the jail has last started, or was found running, in seconds since 1970; while it runs.", func(c *Counters, line func(uint64, ...string)) {
		c.each(func(name string, j *jail) {
			if j.running > 0 && j != c.leftOver {
				line(uint64(j.since.Unix()), "jail", name)
			}
		})
	}},
	{"jail_starts_total", "counter", "Starts of the jail.", perJail(func(j *jail) uint64 { return j.starts })},
	{"jail_start_failures_total", "counter", "Starts that failed.", perJail(func(j *jail) uint64 { return j.failures })},
	{"jail_ends_total", "counter", "Ends of the jail, whatever the reason.", perJail(func(j *jail) uint64 { return j.ends })},
	{"jail_oom_kills_total", "counter", "Processes the kernel has killed for want of memory, known when the jail has ended.", perJail(func(j *jail) uint64 { return j.oom })},
	{"jail_limits_met_total", "counter", "How often the kernel has kept the jail to a limit, by which: pids, memory.", func(c *Counters, line func(uint64, ...string)) {
		c.each(func(name string, j *jail) {
			for _, limit := range slices.Sorted(maps.Keys(j.met)) {
				line(j.met[limit], "jail", name, "limit", limit)
			}
		})
	}},
	{"jail_sessions", "gauge", "Sessions there are, as the jail's PID 1 tells.", perJail(func(j *jail) uint64 { return j.sessions })},
	{"jail_sessions_started_total", "counter", "Sessions that have started, by kind: shell, command, sftp, exec, service, other.", func(c *Counters, line func(uint64, ...string)) {
		c.each(func(name string, j *jail) {
			for _, kind := range append(kinds, "other") {
				if n := j.started[kind]; n > 0 {
					line(n, "jail", name, "kind", kind)
				}
			}
		})
	}},
	{"jail_sessions_ended_total", "counter", "Sessions that have ended.", perJail(func(j *jail) uint64 { return j.ended })},
	{"jail_sessions_out_of_memory_total", "counter", "Sessions that have ended since the kernel has killed a process of theirs for want of memory.", perJail(func(j *jail) uint64 { return j.starved })},
	{"jail_sessions_refused_total", "counter", "Logins that were refused a session.", perJail(func(j *jail) uint64 { return j.refused })},
}

// each goes through the jails by name.
func (c *Counters) each(f func(name string, j *jail)) {
	names := make([]string, 0, len(c.jails))
	for name := range c.jails {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f(name, c.jails[name])
	}
	if c.leftOver != nil {
		f("", c.leftOver)
	}
}

// Append appends all of it.
func (c *Counters) Append(dst []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range families {
		dst = append(dst, "# HELP "+f.name+" "+f.help+"\n# TYPE "+f.name+" "+f.kind+"\n"...)
		f.of(c, func(value uint64, labels ...string) {
			dst = append(dst, f.name...)
			for i := 0; i+1 < len(labels); i += 2 {
				sep := byte(',')
				if i == 0 {
					sep = '{'
				}
				dst = append(append(append(dst, sep), labels[i]...), `="`...)
				dst = append(append(dst, label(labels[i+1])...), '"')
			}
			if len(labels) > 0 {
				dst = append(dst, '}')
			}
			dst = append(strconv.AppendUint(append(dst, ' '), value, 10), '\n')
		})
	}
	return dst
}

// maxLabel bounds the value of a label, in bytes.
const maxLabel = 128

// label makes text the value of a label: what is not printable ASCII, or would end it, is "_". Names
// of jails have nothing of that kind; this is for whoever adds a label.
func label(text string) string {
	if len(text) > maxLabel {
		text = text[:maxLabel]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, text)
}
