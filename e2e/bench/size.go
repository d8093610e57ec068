package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// memory is what /proc/PID/smaps_rollup says of a process's private memory.
type memory struct {
	private   int64 // Private_Clean + Private_Dirty
	anonymous int64
}

func memoryOf(pid int) (m memory, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return m, err
	}
	for l := range strings.Lines(string(text)) {
		f := strings.Fields(l)
		if len(f) != 3 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "Private_Clean:", "Private_Dirty:":
			m.private += n << 10
		case "Anonymous:":
			m.anonymous += n << 10
		}
	}
	return m, nil
}

// memories returns the medians of several processes of one program. There have
// to be several: pages of a program's file count as private to the only process
// that maps them.
func memories(pids []int) (m memory, err error) {
	var private, anonymous []int64
	for _, pid := range pids {
		one, err := memoryOf(pid)
		if err != nil {
			return m, err
		}
		private, anonymous = append(private, one.private), append(anonymous, one.anonymous)
	}
	return memory{median(private), median(anonymous)}, nil
}

func (b *bench) memoryLine(what string, pids []int, limit int64) {
	m, err := memories(pids)
	l := line{what: what, below: limit == 0}
	if err != nil {
		l.value, l.note = "–", err.Error()
	} else {
		l.value = kib(m.private)
		l.note = fmt.Sprintf("anonymous %s; median of %d", kib(m.anonymous), len(pids))
		if limit > 0 {
			l.target, l.met = "≤ "+kib(limit), yesNo(m.private <= limit)
		}
	}
	b.table.add(l)
}

// Limits of private memory: of a session, and of an idle jail.
const (
	memoryLimit = 800 << 10
	idleLimit   = 712 << 10
)

// settle is how long processes are left alone before their memory is looked at.
const settle = 500 * time.Millisecond

// many is a registry of n jails.
func (b *bench) many(n int, autostart bool) string {
	var s strings.Builder
	fmt.Fprintf(&s, "version = 1\n[defaults]\nidle_timeout = \"0\"\nautostart = %v\n", autostart)
	for i := range n {
		fmt.Fprintf(&s, "[jail.many%d]\nrootfs = %q\n\n[jail.many%d.users]\n%s = { uid = 1000, shell = %q }\n",
			i, b.root("many"+strconv.Itoa(i)), i, login(uidMany+i), trueInside)
	}
	return s.String()
}

func (b *bench) idleMemory() error {
	const n = 12
	s, err := b.serve("many", b.many(n, false))
	if err != nil {
		return err
	}
	defer s.stop()
	for i := range n {
		c := b.enter(uint32(uidMany+i), "--runtime-dir", s.runtimeDir(), "-c", "true")
		if err := errors.Join(interleave(1, time.Minute, c), c.err); err != nil {
			return err
		}
	}
	s.until(time.Minute, func() bool { return s.started == n })
	time.Sleep(settle)
	var pids []int
	for _, pid := range s.pids {
		pids = append(pids, pid)
	}
	b.memoryLine("private memory of an idle jail", pids, idleLimit)
	b.memoryLine("jail-init serve", []int{s.cmd.Process.Pid}, 0)

	sandboxes, err := b.sandboxes(n)
	if err != nil {
		b.table.add(line{below: true, what: "bwrap", value: "–", note: err.Error()})
		return nil
	}
	defer sandboxes.close()
	time.Sleep(settle)
	var inner []int
	for _, pid := range sandboxes.pids {
		inner = append(inner, children(pid)...)
	}
	outer, err1 := memories(sandboxes.pids)
	first, err2 := memories(inner)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	b.table.add(line{
		below: true, what: "bwrap, its two processes", value: kib(outer.private + first.private),
		note: "anonymous " + kib(outer.anonymous+first.anonymous),
	})
	return nil
}

func children(pid int) (pids []int) {
	p := strconv.Itoa(pid)
	text, _ := os.ReadFile("/proc/" + p + "/task/" + p + "/children")
	for _, f := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// group is a number of processes that have said that they are ready.
type group struct {
	pids   []int
	lastly []func()
}

func (g *group) close() {
	for _, pid := range g.pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range g.pids {
		wait(pid)
	}
	for _, f := range g.lastly {
		f()
	}
}

// launch starts n processes, some at a time, and waits until each has written
// one byte to its standard output.
func launch(n int, each func(i int) *contestant) (*group, error) {
	var ready [2]int
	if err := syscall.Pipe2(ready[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer syscall.Close(ready[0])
	defer syscall.Close(ready[1])
	_ = syscall.Fchmod(ready[1], 0o666)
	other, err := newStdio(0)
	if err != nil {
		return nil, err
	}
	g := &group{lastly: []func(){other.close}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	next := 0
	for range runtime.NumCPU() {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				c := each(i)
				pid, err := syscall.ForkExec(c.argv[0], c.argv, c.process(other.child[0], ready[1], other.child[2]))
				mu.Lock()
				if err == nil {
					g.pids = append(g.pids, pid)
				} else {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		g.close()
		return nil, err
	}
	_ = syscall.SetNonblock(ready[0], true)
	buf := make([]byte, 4096)
	end := time.Now().Add(30 * time.Second)
	for got := 0; got < n; {
		if k, _ := syscall.Read(ready[0], buf); k > 0 {
			got += k
			continue
		}
		if time.Now().After(end) {
			g.close()
			return nil, fmt.Errorf("%d of %d are ready: %s", got, n, other.said(2))
		}
		time.Sleep(200 * time.Microsecond)
	}
	return g, nil
}

func (b *bench) sandboxes(n int) (*group, error) {
	if _, err := sandbox(); err != nil {
		return nil, err
	}
	return launch(n, func(i int) *contestant {
		argv, _ := b.bwrap(b.root("many"+strconv.Itoa(i)), "/bin/ready")
		return &contestant{argv: argv}
	})
}

func (b *bench) sessionMemory() error {
	const n = 10
	g, err := launch(n, func(int) *contestant { return b.enter(uidShell, "-c", "echo -n r; exec sleep 1000") })
	if err != nil {
		return err
	}
	time.Sleep(settle)
	b.memoryLine("private memory of a session (jail-enter)", g.pids, memoryLimit)
	g.close()
	for _, p := range b.containers() {
		if p.tty == nil { // nsenter becomes the command
			continue
		}
		if p.err == nil {
			g, err = launch(n, func(int) *contestant { return p.contestant("/bin/sh", "-c", "echo -n r; exec sleep 1000") })
		}
		if err := errors.Join(p.err, err); err != nil {
			b.table.add(line{below: true, what: p.name, value: "–", note: err.Error()})
			continue
		}
		time.Sleep(settle)
		b.memoryLine(p.name, g.pids, 0)
		g.close()
	}
	return nil
}

// idleJails: how many jails a second start when a host comes up.
func (b *bench) idleJails() error {
	n := b.n(manyJails, 60)
	jails := &contestant{name: "jails"}
	floor := &contestant{name: "the same namespaces, chroot, exec (floor)"}
	bwrap := &contestant{name: "bwrap"}
	end := time.Now().Add(b.share())
	for i := 0; i < b.n(5, 1) && (i == 0 || time.Now().Before(end)); i++ {
		s, err := b.serve("many", b.many(n, true))
		if err != nil {
			return err
		}
		all := s.until(time.Minute, func() bool { return s.started == n })
		took := time.Since(s.began)
		started, failed := s.started, s.failed
		s.stop()
		if !all {
			return fmt.Errorf("%d of %d jails have started: %s", started, n, failed)
		}
		jails.samples = append(jails.samples, took)
		for _, c := range []*contestant{floor, bwrap} {
			if c.err != nil {
				continue
			}
			var g *group
			began := time.Now()
			if c == floor {
				g, c.err = launch(n, func(i int) *contestant {
					return &contestant{argv: []string{"/bin/ready"}, attr: newNamespaces(b.root("many" + strconv.Itoa(i)))}
				})
			} else {
				g, c.err = b.sandboxes(n)
			}
			if c.err == nil {
				c.samples = append(c.samples, time.Since(began))
				g.close()
			}
		}
	}
	perSecond := func(c *contestant) float64 { return float64(n) / c.median().Seconds() }
	l := line{what: fmt.Sprintf("%d idle jails, from the start of serve", n), value: fmt.Sprintf("%.0f /s", perSecond(jails)),
		note: fmt.Sprintf("%d runs; all in %s", len(jails.samples), duration(jails.median()))}
	if floor.err == nil {
		l.floor = ratio(perSecond(jails), perSecond(floor))
	}
	if bwrap.err == nil {
		l.peer = ratio(perSecond(jails), perSecond(bwrap)) + " bwrap"
	}
	b.table.add(l)
	for _, c := range []*contestant{floor, bwrap} {
		l := line{below: true, what: c.name, value: "–"}
		if c.err != nil {
			l.note = c.err.Error()
		} else {
			l.value = fmt.Sprintf("%.0f /s", perSecond(c))
		}
		b.table.add(l)
	}
	return nil
}

// manySessions: 500 sessions of one jail at the same time, each with a status of
// its own.
func (b *bench) manySessions() error {
	n := b.n(500, 150)
	ours, floor := &contestant{name: "jail"}, &contestant{name: "the same shells on the host (floor)"}
	wrong := 0
	run := func(argv []string, uid uint32) (time.Duration, error) {
		gate, err := newStdio(uid) // its standard input is held back from all of them
		if err != nil {
			return 0, err
		}
		defer gate.close()
		code := map[int]int{}
		began := time.Now()
		var ready [2]int
		if err := syscall.Pipe2(ready[:], syscall.O_CLOEXEC); err != nil {
			return 0, err
		}
		defer syscall.Close(ready[0])
		defer syscall.Close(ready[1])
		_ = syscall.Fchown(ready[1], int(uid), -1)
		for i := range n {
			c := contestant{uid: uid}
			line := fmt.Sprintf("echo -n r; read x; exit %d", i%256)
			pid, err := syscall.ForkExec(argv[0], append(append([]string(nil), argv...), line), c.process(gate.child[0], ready[1], gate.child[2]))
			if err != nil {
				return 0, err
			}
			code[pid] = i % 256
		}
		_ = syscall.SetNonblock(ready[0], true)
		buf := make([]byte, n)
		got := 0
		for end := time.Now().Add(30 * time.Second); got < n && time.Now().Before(end); {
			k, _ := syscall.Read(ready[0], buf)
			if got += max(k, 0); k <= 0 {
				time.Sleep(200 * time.Microsecond)
			}
		}
		syscall.Close(gate.ours[0]) // the gate opens: end of file for all
		gate.ours[0] = -1
		for pid, want := range code {
			if ws := wait(pid); !ws.Exited() || ws.ExitStatus() != want {
				wrong++
			}
		}
		took := time.Since(began)
		if got < n {
			return 0, fmt.Errorf("only %d of %d have started: %s", got, n, gate.said(2))
		}
		return took, nil
	}
	end := time.Now().Add(b.share())
	for i := 0; i < b.n(5, 1) && (i == 0 || time.Now().Before(end)); i++ {
		for _, c := range []*contestant{ours, floor} {
			argv, uid := []string{b.bin("sh"), "-c"}, uint32(uidPlain)
			if c == ours {
				argv, uid = []string{b.bin("jail-enter"), "-c"}, uidShell
			}
			took, err := run(argv, uid)
			if err != nil {
				return err
			}
			c.samples = append(c.samples, took)
		}
	}
	what := fmt.Sprintf("%d sessions in one jail at once", n)
	b.table.add(line{
		what: what, value: duration(ours.median()), floor: ratio(float64(ours.median()), float64(floor.median())),
		target: "all statuses right", met: yesNo(wrong == 0), note: fmt.Sprintf("%d runs; %d wrong statuses", len(ours.samples), wrong),
	})
	b.table.add(line{below: true, what: floor.name, value: duration(floor.median()), floor: "1.00"})
	return nil
}

// flat: what PID 1 has grown to after many sessions. They are asked for by this
// process, since what jail-enter does elsewhere is of no interest here.
func (b *bench) flat() error {
	first, total := b.n(1000, 500), b.n(10000, 2500)
	limit := 3 * b.share()
	began := time.Now()
	done := 0
	// Two at a time, as far as total and the time allow.
	sessions := func(total int) error {
		var wg sync.WaitGroup
		errs := make([]error, 2)
		from := done
		var next, held atomic.Int64
		for w := range errs {
			wg.Go(func() {
				c, err := newClient(b.server.runtimeDir(), uidFlat)
				if err != nil {
					errs[w] = err
					return
				}
				defer c.close()
				for int(next.Add(1)) <= total-from && time.Since(began) < limit {
					if errs[w] = c.session(); errs[w] != nil {
						return
					}
					held.Add(1)
				}
			})
		}
		wg.Wait()
		done += int(held.Load())
		return errors.Join(errs...)
	}
	var at []int64
	for _, total := range []int{1, first, total} {
		if err := sessions(total); err != nil {
			return err
		}
		time.Sleep(settle)
		m, err := memoryOf(b.server.pid("flat"))
		if err != nil {
			return err
		}
		at = append(at, m.anonymous)
	}
	// A runtime that collects garbage breathes; a leak of one pointer for each
	// session would show.
	const breath = 64 << 10
	b.table.add(line{
		what:   fmt.Sprintf("PID 1 after %d sessions, anonymous memory", done),
		value:  kib(at[2]),
		target: fmt.Sprintf("as after %d", first),
		met:    yesNo(done >= total && at[2]-at[1] <= breath),
		note:   fmt.Sprintf("%s after 1, %s after %d; %.1f s", kib(at[0]), kib(at[1]), first, time.Since(began).Seconds()),
	})
	return nil
}
