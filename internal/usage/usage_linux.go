// Package usage is what jails use of the machine: processes, processor time and memory, by
// the kernel's word. A jail's cgroup says it where there is one; otherwise its processes
// are added up, which are those of its PID namespace.
package usage

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what one jail uses.
type Usage struct {
	// Processes is how many there are besides the jail's first.
	Processes int
	// CPU is the processor time of all processes since the jail began.
	CPU time.Duration
	// Memory is in bytes: what the cgroup is charged with, files that were read among it;
	// without a cgroup the resident memory of the processes, in which what they share counts
	// for each.
	Memory uint64
	// Cgroup says which of the two it is.
	Cgroup bool
}

// Places are where the kernel says it; the zero value is where a machine has them.
type Places struct {
	Proc   string // "/proc"
	Cgroup string // "/sys/fs/cgroup"
}

// tick is the unit of times in proc_pid_stat(5): USER_HZ, the same on all architectures we
// are built for.
const tick = time.Second / 100

// Of returns what jails use whose first processes are given by name. One that has ended
// meanwhile is left out.
func (p Places) Of(first map[string]int) map[string]Usage {
	p = p.known()
	all := map[string]Usage{}
	byNamespace := map[string]string{} // the names of jails without a cgroup
	for name, pid := range first {
		if u, ok := p.OfCgroup(name, pid); ok {
			all[name] = u
		} else if ns, err := os.Readlink(p.of(pid, "ns/pid")); err == nil {
			byNamespace[ns] = name
		}
	}
	if len(byNamespace) == 0 {
		return all
	}
	entries, _ := os.ReadDir(p.Proc)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		ns, err := os.Readlink(p.of(pid, "ns/pid"))
		name, ours := byNamespace[ns]
		if err != nil || !ours {
			continue
		}
		text, err := os.ReadFile(p.of(pid, "stat"))
		if err != nil {
			continue
		}
		if one, ok := parse(string(text)); ok {
			u := all[name]
			u.Memory += one.resident
			if u.CPU += one.cpu; pid == first[name] {
				u.CPU += one.waited // of those that have ended
			} else {
				u.Processes++
			}
			all[name] = u
		}
	}
	return all
}

func (p Places) of(pid int, file string) string {
	return filepath.Join(p.Proc, strconv.Itoa(pid), file)
}

// known has the places where a machine has them for those that are not given.
func (p Places) known() Places {
	if p.Proc == "" {
		p.Proc = "/proc"
	}
	if p.Cgroup == "" {
		p.Cgroup = "/sys/fs/cgroup"
	}
	return p
}

// OfCgroup asks the cgroup of a jail, if it has one of its own; pid is that of its first
// process.
func (p Places) OfCgroup(name string, pid int) (u Usage, ok bool) {
	p = p.known()
	text, err := os.ReadFile(p.of(pid, "cgroup"))
	if err != nil {
		return u, false
	}
	dir := ""
	for line := range strings.Lines(string(text)) {
		if path, unified := strings.CutPrefix(strings.TrimSpace(line), "0::/"); unified && filepath.Base(path) == "jail-"+name {
			dir = filepath.Join(p.Cgroup, path)
		}
	}
	if dir == "" {
		return u, false
	}
	memory, err := os.ReadFile(filepath.Join(dir, "memory.current"))
	if err != nil {
		return u, false
	}
	u.Memory, err = strconv.ParseUint(strings.TrimSpace(string(memory)), 10, 64)
	stat, statErr := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	procs, procsErr := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil || statErr != nil || procsErr != nil {
		return u, false
	}
	for line := range strings.Lines(string(stat)) {
		if n, is := strings.CutPrefix(strings.TrimSpace(line), "usage_usec "); is {
			usec, _ := strconv.ParseInt(n, 10, 64)
			u.CPU = time.Duration(usec) * time.Microsecond
		}
	}
	u.Processes, u.Cgroup = max(strings.Count(string(procs), "\n")-1, 0), true
	return u, true
}

// one is what one process uses.
type one struct {
	cpu, waited time.Duration // its own, and that of its children that have been waited for
	resident    uint64
}

// parse reads the text of a stat file (proc_pid_stat(5)). The name in it is the tenant's, and
// may have anything in it; nothing behind it has a bracket.
func parse(text string) (o one, ok bool) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return o, false
	}
	const utime, stime, cutime, cstime, rss = 11, 12, 13, 14, 21 // behind the name
	fields := strings.Fields(text[end+1:])
	if len(fields) <= rss {
		return o, false
	}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil || n < 0 {
			return 0
		}
		return n
	}
	o.cpu = time.Duration(number(utime)+number(stime)) * tick
	o.waited = time.Duration(number(cutime)+number(cstime)) * tick
	o.resident = uint64(number(rss)) * uint64(os.Getpagesize())
	return o, true
}
