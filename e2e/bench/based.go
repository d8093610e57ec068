package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What jails cost that have one root directory together.
const (
	basedJails = 1000
	// basedLimit is how much longer than with a directory of its own a jail may take to
	// start.
	basedLimit = 1500 * time.Microsecond
	// basedFile is the size of a file that all of them read.
	basedFile = 64 << 20
)

func basedLogin(i int) string { return "b" + strconv.Itoa(i) }

// uidBased is the first uid of their accounts.
const uidBased = 120_000

// based: a start beside one of a jail with a directory, and what a thousand of them take
// of the memory and the disk.
func (b *bench) based() (err error) {
	base, states := b.root("base"), filepath.Join(b.scratch, "states")
	if err := errors.Join(tree(base), os.WriteFile(filepath.Join(base, "file"), make([]byte, basedFile), 0o644), os.MkdirAll(states, 0o700)); err != nil {
		return err
	}
	n := b.n(basedJails, 100)
	undo, err := basedAccounts(n, b.bin("jail-enter"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo()) }()
	registry := func(n int, autostart bool, persist string) string {
		var s strings.Builder
		fmt.Fprintf(&s, "version = 1\n[defaults]\nidle_timeout = \"0\"\nautostart = %v\npersist = %q\n", autostart, persist)
		for i := range n {
			fmt.Fprintf(&s, "[jail.based%[1]d]\nbase = %[2]q\nstate = \"%[3]s/%[1]d\"\n[jail.based%[1]d.users]\n%[4]s = { uid = 1000, shell = %[5]q }\n", i, base, states, basedLogin(i), trueInside)
		}
		return s.String()
	}
	for _, persist := range []string{"home", "all"} {
		s, err := b.serve("based", registry(1, false, persist)+b.coldJail())
		if err != nil {
			return err
		}
		ours, other := b.enter(uidBased, "--runtime-dir", s.runtimeDir(), "-c", "true"), b.enter(uidCold, "--runtime-dir", s.runtimeDir(), "-c", "true")
		ours.after = func() error { return s.halt("based0") }
		other.after = func() error { return s.halt("cold") }
		err = errors.Join(interleave(b.n(150, 25), b.share(), ours, other), ours.err, other.err)
		s.stop()
		if err != nil {
			return err
		}
		more := ours.median() - other.median()
		b.table.add(line{what: "cold: first command, base, persist = " + persist, value: duration(ours.median()),
			target: "≤ a directory + " + duration(basedLimit), met: yesNo(more <= basedLimit), note: fmt.Sprintf("%d runs; a directory takes %s", len(ours.samples), duration(other.median()))})
	}
	before, err := meminfo()
	if err != nil {
		return err
	}
	s, err := b.serve("based", registry(n, true, "all"))
	if err != nil {
		return err
	}
	defer s.stop()
	all := s.until(2*time.Minute, func() bool { return s.started == n })
	took := time.Since(s.began)
	if !all {
		return fmt.Errorf("%d of %d jails have started: %s", s.started, n, s.failed)
	}
	time.Sleep(settle)
	after, err := meminfo()
	if err != nil {
		return err
	}
	used := (before["MemAvailable"] - after["MemAvailable"]) / int64(n)
	b.table.add(line{what: fmt.Sprintf("%d jails of one base, from the start of serve", n), value: fmt.Sprintf("%.0f /s", float64(n)/took.Seconds()), note: "all in " + duration(took)})
	b.table.add(line{below: true, what: "memory of the host for each", value: kib(used), note: "MemAvailable, of everything on the machine"})
	var disk int64
	err = filepath.WalkDir(states, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			disk += fi.Sys().(*syscall.Stat_t).Blocks << 9
		}
		return err
	})
	if err != nil {
		return err
	}
	b.table.add(line{below: true, what: "disk for each", value: kib(disk / int64(n))})
	return b.sharedPages(s, min(n, 100))
}

// sharedPages has jails read one file of the base and looks at what is kept in memory for
// it.
func (b *bench) sharedPages(s *server, n int) error {
	before, err := meminfo()
	if err != nil {
		return err
	}
	for i := range n {
		s.mu.Lock()
		pid := s.pids["based"+strconv.Itoa(i)]
		s.mu.Unlock()
		// Through the jail's own mount.
		f, err := os.Open(fmt.Sprintf("/proc/%d/root/file", pid))
		if err != nil {
			return err
		}
		buf := make([]byte, 1<<20)
		for err == nil {
			_, err = f.Read(buf)
		}
		f.Close()
	}
	after, err := meminfo()
	if err != nil {
		return err
	}
	grown := after["Cached"] - before["Cached"]
	b.table.add(line{below: true, what: fmt.Sprintf("page cache, a file of 64 MiB read in %d of them", n), value: kib(max(grown, 0)),
		target: "≤ 0.1 × a copy for each", met: yesNo(grown <= int64(n)*basedFile/10), note: "Cached, of everything on the machine"})
	return nil
}

// basedAccounts makes the accounts of jails in the private /etc.
func basedAccounts(n int, shell string) (undo func() error, err error) {
	old, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	var more strings.Builder
	for i := range n {
		fmt.Fprintf(&more, "%[1]s:x:%[2]d:%[2]d::/run/home:%[3]s\n", basedLogin(i), uidBased+i, shell)
	}
	return func() error { return os.WriteFile("/etc/passwd", old, 0o644) }, os.WriteFile("/etc/passwd", append(old[:len(old):len(old)], more.String()...), 0o644)
}

// meminfo is proc_meminfo(5), in bytes.
func meminfo() (map[string]int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := map[string]int64{}
	for in := bufio.NewScanner(f); in.Scan(); {
		name, rest, _ := strings.Cut(in.Text(), ":")
		n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		m[name] = n << 10
	}
	return m, nil
}
