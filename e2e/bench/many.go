package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// What a registry of ten thousand costs: jails of one login each, and logins of one
// jail. Beside it stands a small one, and what a user waits for is measured in both by
// turns.
//
// How it grows is told by processor time, since the neighbours on the machine have
// their part in the other.

// Targets, for the largest registry.
const (
	readyLimit  = 2 * time.Second
	serveMemory = 64 << 20
	reloadLimit = 2 * time.Second
	keysLimit   = 1.5 // times what it takes in the small one
	psLimit     = time.Second
	checkLimit  = 20 * time.Second
	warmLimit   = 1.1 // "no slower", as far as medians of samples taken by turns say
	// growthLimit is the greatest exponent of what still counts as linear: twice as
	// many cost 2.3 times as much.
	growthLimit = 1.2
)

// scaleRuns is how often it is measured what one registry costs, but for check.
const scaleRuns = 3

// fewJails is the size of the small registry.
const fewJails = 10

// uidScale is the first uid of the accounts; those of the small registry come first.
const uidScale = 100_000

// scaleSizes are the sizes that are measured.
func (b *bench) scaleSizes() []int {
	if b.quick {
		return []int{500, 2000}
	}
	return []int{1000, 2000, 5000, 10_000}
}

// cost is what something took.
type cost struct{ wall, cpu time.Duration }

// scaled is what was measured of one registry.
type scaled struct {
	n                        int
	ready, reload, ps, check cost
	memory, peak             int64 // of serve: resident, and the most it ever was
	keys, warm               [2]time.Duration
	errs                     map[string]error
}

// scaleJails: ten thousand jails of one login each.
func (b *bench) scaleJails() error { return b.scale("jails of a login each", b.scaleSizes(), each) }

// scaleLogins: one jail of ten thousand logins.
func (b *bench) scaleLogins() error { return b.scale("logins of one jail", b.scaleSizes(), one) }

// scaleMatched: cages of the host for ten thousand accounts, by one block.
func (b *bench) scaleMatched() error {
	if err := b.needHomes(); err != nil {
		return err
	}
	return b.scale("accounts matched by one block", b.scaleSizes(), matched)
}

// shape is what the logins of a registry are in.
type shape int

const (
	each    shape = iota // each in a jail of its own, a directory
	one                  // all in one jail
	matched              // each in a cage of its own, by one [[match]]
)

func scaleLogin(i int) string { return "s" + strconv.Itoa(i) }

// scaleRegistry is a registry of logins from to to, less one.
func (b *bench) scaleRegistry(from, to int, in shape) string {
	var s strings.Builder
	s.WriteString("version = 1\n[defaults]\nidle_timeout = \"0\"\n")
	switch in {
	case matched:
		fmt.Fprintf(&s, "[template.cage]\nrootfs = \"host\"\n[[match]]\nuid = \"%d-%d\"\ntemplate = \"cage\"\n", uidScale+from, uidScale+to-1)
		return s.String()
	case one:
		fmt.Fprintf(&s, "[jail.one]\nrootfs = %q\n[jail.one.users]\n", b.root("scale-one"))
		for i := from; i < to; i++ {
			fmt.Fprintf(&s, "%s = { uid = 1000, shell = %q }\n", scaleLogin(i), trueInside)
		}
		return s.String()
	}
	for i := from; i < to; i++ {
		fmt.Fprintf(&s, "[jail.%[1]s]\nrootfs = %[2]q\n\t[jail.%[1]s.users]\n\t%[1]s = { uid = 1000, shell = %[3]q }\n",
			scaleLogin(i), b.root(filepath.Join("scale", scaleLogin(i))), trueInside)
	}
	return s.String()
}

// scaleHost makes the accounts and directories of a registry, and sshd's configuration.
// The private /etc gets it, and what it was before comes back with undo.
func (b *bench) scaleHost(n int, in shape) (undo func(), err error) {
	var passwd, shadow, group strings.Builder
	var names []string
	for i := range fewJails + n {
		name, uid := scaleLogin(i), uidScale+i
		home := "/run/home"
		if in == matched {
			home = filepath.Join(homes, name)
			if err := errors.Join(os.MkdirAll(home, 0o700), os.Chown(home, uid, uid)); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(&passwd, "%[1]s:x:%[2]d:%[2]d::%[4]s:%[3]s\n", name, uid, b.bin("jail-enter"), home)
		fmt.Fprintf(&shadow, "%s:*:19000:0:99999:7:::\n", name)
		fmt.Fprintf(&group, "%s:x:%d:\n", name, uid)
		names = append(names, name)
		dir, owner := b.root(filepath.Join("scale", name)), 1000
		if in == matched {
			dir, owner = home, uid
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if i == 0 || i == fewJails { // who logs in
			if err := scaleTree(dir, owner); err != nil {
				return nil, err
			}
		}
	}
	fmt.Fprintf(&group, "jailed:x:%d:%s\n", uidScale-1, strings.Join(names, ","))
	if err := scaleTree(b.root("scale-one"), 1000); err != nil {
		return nil, err
	}
	config := "UsePAM no\nMatch Group jailed\n\tForceCommand exec " + b.bin("jail-enter") + " --forced\n\tAuthorizedKeysFile none\n\tAuthorizedKeysCommand " +
		b.bin("jail-keys") + " -- %u %t %k\n\tAuthorizedKeysCommandUser root\n\tExposeAuthInfo yes\nMatch User " + scaleLogin(fewJails+n/2) + "\n\tX11Forwarding yes\n"
	before := map[string][]byte{}
	undo = func() {
		for file, text := range before {
			_ = os.WriteFile(file, text, 0o600)
		}
		_ = os.Chmod("/etc/passwd", 0o644)
		_ = os.Chmod("/etc/group", 0o644)
	}
	for file, more := range map[string]string{"/etc/passwd": passwd.String(), "/etc/shadow": shadow.String(), "/etc/group": group.String(), "/etc/ssh/sshd_config": config} {
		text, err := os.ReadFile(file)
		if err == nil {
			before[file] = text
			if file == "/etc/ssh/sshd_config" {
				text = nil
			}
			err = os.WriteFile(file, append(text[:len(text):len(text)], more...), 0o600)
		}
		if err != nil {
			undo()
			return nil, err
		}
	}
	return undo, nil
}

// scaleTree is a tree for sessions, with a key.
func scaleTree(dir string, owner int) error {
	if exists(filepath.Join(dir, "root")) {
		return nil
	}
	ssh := filepath.Join(dir, ".ssh")
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6TNFZQ4v9Rvq6mW+N8j0PR1GqaHCfXQ1UzXQ1Vn6bY\n"
	return errors.Join(tree(dir), os.MkdirAll(filepath.Join(dir, "tmp"), 0o755), os.MkdirAll(ssh, 0o700),
		os.WriteFile(filepath.Join(ssh, "authorized_keys"), []byte(key), 0o600), os.MkdirAll(filepath.Join(dir, "root"), 0o700),
		os.Chown(ssh, owner, owner), os.Chown(filepath.Join(ssh, "authorized_keys"), owner, owner))
}

// timed runs a verb to its end.
func (b *bench) timed(s *server, limit time.Duration, verb ...string) (cost, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.bin, append([]string{"--config", s.config(), "--runtime-dir", s.runtimeDir()}, verb...)...)
	var errs bytes.Buffer
	cmd.Env, cmd.Dir, cmd.Stderr = environment, "/", &errs
	began := time.Now()
	err := cmd.Run()
	c := cost{wall: time.Since(began)}
	if cmd.ProcessState != nil {
		c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if ctx.Err() != nil {
		return c, fmt.Errorf("not done after %v", limit)
	}
	// check has more to say than whether it worked.
	if err != nil && verb[0] != "check" {
		return c, fmt.Errorf("%s: %w: %s", verb[0], err, errs.String())
	}
	return c, nil
}

// processorTime is what a process has had of the processors, to the nanosecond (the
// schedstat of each thread; those of the Go runtime do not end), and its children that have
// ended (proc_pid_stat(5)), in steps of ten milliseconds.
func processorTime(pid int) (sum time.Duration) {
	dir := "/proc/" + strconv.Itoa(pid)
	text, _ := os.ReadFile(dir + "/stat")
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) > 15 {
		for _, n := range f[13:15] {
			t, _ := strconv.ParseInt(n, 10, 64)
			sum += time.Duration(t) * 10 * time.Millisecond
		}
	}
	tasks, _ := filepath.Glob(dir + "/task/*/schedstat")
	for _, path := range tasks {
		text, _ := os.ReadFile(path)
		ns, _, _ := strings.Cut(string(text), " ")
		t, _ := strconv.ParseInt(ns, 10, 64)
		sum += time.Duration(t)
	}
	return sum
}

// least measures several times and returns the least of each: what the neighbours on the
// machine do only adds to it.
func least(runs int, measure func() (cost, error)) (l cost, err error) {
	for i := range runs {
		c, err := measure()
		if err != nil {
			return c, err
		}
		if i == 0 {
			l = c
		}
		l = cost{min(l.wall, c.wall), min(l.cpu, c.cpu)}
	}
	return l, nil
}

// resident returns a process's resident memory and the most it ever had
// (proc_pid_status(5)).
func resident(pid int) (now, peak int64) {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for l := range strings.Lines(string(text)) {
		f := strings.Fields(l)
		if len(f) != 3 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			now = n << 10
		case "VmHWM:":
			peak = n << 10
		}
	}
	return now, peak
}

// scaleOne measures one registry of n, beside the small one.
func (b *bench) scaleOne(n int, in shape) (*scaled, error) {
	undo, err := b.scaleHost(n, in)
	if err != nil {
		return nil, err
	}
	defer undo()
	few := in
	if in == one {
		few = each
	}
	small, err := b.serve("few", b.scaleRegistry(0, fewJails, few))
	if err != nil {
		return nil, err
	}
	defer small.stop()
	r := &scaled{n: n, errs: map[string]error{}}
	registry := b.scaleRegistry(fewJails, fewJails+n, in)
	var s *server
	r.ready, err = least(scaleRuns, func() (c cost, err error) {
		if s != nil {
			s.stop()
		}
		if s, err = b.serve("lots", registry); err == nil {
			c = cost{time.Since(s.began), processorTime(s.cmd.Process.Pid)}
		}
		return c, err
	})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	pid := s.cmd.Process.Pid
	r.memory, _ = resident(pid)

	r.reload, r.errs["reload"] = least(scaleRuns, func() (cost, error) {
		before := processorTime(pid)
		c, err := b.timed(s, time.Minute, "reload")
		c.cpu += processorTime(pid) - before
		return c, err
	})
	r.ps, r.errs["ps"] = least(scaleRuns, func() (cost, error) { return b.timed(s, time.Minute, "ps") })
	r.check, r.errs["check"] = b.timed(s, 3*checkLimit, "check")

	keys := func(s *server, i int) *contestant {
		return &contestant{name: "jail-keys", argv: []string{b.bin("jail-keys"), "--config", s.config(), "--runtime-dir", s.runtimeDir(), "--", scaleLogin(i)}}
	}
	warm := func(s *server, i int) *contestant {
		c := b.enter(uint32(uidScale+i), "--runtime-dir", s.runtimeDir(), "-c", "true")
		return c
	}
	for _, m := range []struct {
		what string
		of   func(*server, int) *contestant
		into *[2]time.Duration
		runs int
	}{{"keys", keys, &r.keys, b.n(50, 20)}, {"warm", warm, &r.warm, b.n(1000, 300)}} {
		few, lots := m.of(small, 0), m.of(s, fewJails)
		if err := interleave(m.runs, b.share(), few, lots); err != nil {
			return nil, err
		}
		r.errs[m.what] = errors.Join(few.err, lots.err)
		*m.into = [2]time.Duration{few.median(), lots.median()}
	}
	_, r.peak = resident(pid)
	return r, nil
}

func (b *bench) scale(what string, sizes []int, in shape) error {
	var all []*scaled
	for _, n := range sizes {
		r, err := b.scaleOne(n, in)
		if err != nil {
			return fmt.Errorf("%d %s: %w", n, what, err)
		}
		all = append(all, r)
	}
	last := all[len(all)-1]
	add := func(name, value, target string, met bool, row func(*scaled) string) {
		key, _, _ := strings.Cut(name, ",")
		l := line{what: fmt.Sprintf("%d %s: %s", last.n, what, name), value: value, target: target, met: yesNo(met)}
		if err := last.errs[key]; err != nil {
			l.value, l.met, l.note = "–", "NO", err.Error()
		} else {
			var notes []string
			for _, r := range all[:len(all)-1] {
				notes = append(notes, fmt.Sprintf("%s at %d", row(r), r.n))
			}
			l.note = strings.Join(notes, ", ")
		}
		b.table.add(l)
	}
	growth := func(name string, of func(*scaled) cost) {
		var x, y []float64
		for _, r := range all {
			if r.errs[name] != nil {
				return // it has been said
			}
			x, y = append(x, float64(r.n)), append(y, of(r).cpu.Seconds())
		}
		slope, fixed, r2 := linear(x, y)
		power := exponent(x, y)
		b.table.add(line{below: true, what: name + ", growth", value: fmt.Sprintf("%.1f µs each", slope*1e6), target: fmt.Sprintf("n to the power of ≤ %.1f", growthLimit),
			met: yesNo(power <= growthLimit), note: fmt.Sprintf("processor time: %.0f ms and n times that, R² %.4f; grows with n to the power of %.2f", fixed*1e3, r2, power)})
	}
	timed := func(name string, limit time.Duration, of func(*scaled) cost) {
		show := func(r *scaled) string {
			return fmt.Sprintf("%s (cpu %s)", duration(of(r).wall), duration(of(r).cpu))
		}
		add(name, show(last), "≤ "+limit.String(), of(last).wall <= limit, show)
		growth(name, of)
	}
	timed("ready", readyLimit, func(r *scaled) cost { return r.ready })
	size := func(r *scaled) string { return kib(r.memory) }
	add("ready, memory of serve", size(last), "≤ "+kib(serveMemory), last.memory <= serveMemory, size)
	size = func(r *scaled) string { return kib(r.peak) }
	b.table.add(line{below: true, what: "the most it ever was, reload included", value: size(last)})
	timed("reload", reloadLimit, func(r *scaled) cost { return r.reload })
	timed("ps", psLimit, func(r *scaled) cost { return r.ps })
	timed("check", checkLimit, func(r *scaled) cost { return r.check })
	times := func(name string, limit float64, of func(*scaled) [2]time.Duration) {
		show := func(r *scaled) string {
			t := of(r)
			return fmt.Sprintf("%s × %s", ratio(float64(t[1]), float64(t[0])), duration(t[0]))
		}
		t := of(last)
		add(name, show(last), fmt.Sprintf("≤ %.1f × %d jails", limit, fewJails), t[0] > 0 && float64(t[1]) <= limit*float64(t[0]), show)
	}
	times("keys, one lookup", keysLimit, func(r *scaled) [2]time.Duration { return r.keys })
	times("warm, one login", warmLimit, func(r *scaled) [2]time.Duration { return r.warm })
	return nil
}

// linear is the line that fits best, and how much of the variance it explains.
func linear(x, y []float64) (slope, fixed, r2 float64) {
	n := float64(len(x))
	var sx, sy, sxx, sxy, syy float64
	for i := range x {
		sx, sy, sxx, sxy, syy = sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i], syy+y[i]*y[i]
	}
	vx, vy, cov := n*sxx-sx*sx, n*syy-sy*sy, n*sxy-sx*sy
	if vx == 0 || vy == 0 {
		return 0, sy / n, 1
	}
	slope = cov / vx
	return slope, (sy - slope*sx) / n, cov * cov / (vx * vy)
}

// exponent is the power of x that y grows with, by the line that fits the logarithms.
func exponent(x, y []float64) float64 {
	var lx, ly []float64
	for i := range x {
		lx, ly = append(lx, math.Log(x[i])), append(ly, math.Log(max(y[i], 1e-3)))
	}
	power, _, _ := linear(lx, ly)
	return power
}
