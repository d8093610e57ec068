package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// shell is a way to have /bin/sh run a command line.
type shell struct {
	name  string
	argv  []string // the command line is added
	uid   uint32
	err   error
	times []time.Duration
}

func (b *bench) shells(tty bool) []*shell {
	all := []*shell{
		{name: "jail-enter", argv: []string{b.bin("jail-enter"), "-c"}, uid: uidShell},
		{name: "host", argv: []string{b.bin("sh"), "-c"}, uid: uidPlain},
	}
	for _, p := range b.containers() {
		enter := p.enter
		if tty {
			if p.tty == nil { // nsenter leaves the process on the host's terminal
				continue
			}
			enter = p.tty
		} else if p.name != "nsenter -a (as root)" && p.name != "runc exec" {
			continue
		}
		all = append(all, &shell{name: p.name, argv: append(append([]string(nil), enter...), "/bin/sh", "-c"), err: p.err})
	}
	return all
}

// start starts the shell with these descriptors.
func (s *shell) start(line string, sys syscall.SysProcAttr, files ...int) (int, error) {
	c := contestant{uid: s.uid, attr: sys}
	return syscall.ForkExec(s.argv[0], append(append([]string(nil), s.argv...), line), c.process(files...))
}

// pipes: bytes out of a session and into it, between two dd of which one is in
// the jail, and on the host likewise in a session of its own, which is what sshd
// gives a command (session.c:do_exec_no_pty) and what costs as much as all the rest:
// the scheduler groups by session (sched(7), the autogroup feature).
//
// Both run on one processor. On two the same bytes take five times as long, and which
// it is the scheduler decides anew each time: it would be the only thing measured.
func (b *bench) pipes() error {
	blocks := int64(b.n(1<<13, 1<<12)) // of 64 KiB
	on, err := oneProcessor()
	if err != nil {
		return err
	}
	for _, way := range []string{"out of", "into"} {
		all := b.shells(false)
		host := &shell{argv: []string{b.bin("sh"), "-c"}}
		end := time.Now().Add(b.share())
		for i := 0; i < b.n(41, 11) && time.Now().Before(end); i++ {
			for k := range all {
				s := all[(i+k)%len(all)]
				if s.err != nil {
					continue
				}
				var took time.Duration
				if way == "into" {
					took, s.err = pipeline(host, s, s, on, blocks)
				} else {
					took, s.err = pipeline(s, host, s, on, blocks)
				}
				s.times = append(s.times, took)
			}
		}
		b.speeds("pipe, "+way+" a session", blocks<<16, "≥ 0.95 of the host", 0.95, all)
	}
	return nil
}

// oneProcessor is a command that binds what follows to the first processor there is.
func oneProcessor() (string, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return "", fmt.Errorf("sched_getaffinity: %w", err)
	}
	cpu := 0
	for !set.IsSet(cpu) {
		cpu++
	}
	return fmt.Sprintf("taskset -c %d ", cpu), nil
}

// pipeline has a send blocks to z and returns how long it took from when both were
// ready to when both had ended. Of the two, session is what begins one.
func pipeline(a, z, session *shell, on string, blocks int64) (time.Duration, error) {
	lines := map[*shell]string{
		a: fmt.Sprintf("echo >&2; read go; exec %sdd if=/dev/zero bs=64k count=%d 2>/dev/null", on, blocks),
		z: "echo >&2; exec " + on + "dd of=/dev/null bs=64k 2>/dev/null",
	}
	stdinA, err := newStdio(a.uid)
	if err != nil {
		return 0, err
	}
	defer stdinA.close()
	stdinZ, err := newStdio(z.uid)
	if err != nil {
		return 0, err
	}
	defer stdinZ.close()
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return 0, err
	}
	uid := max(a.uid, z.uid) // whose pipe it is when the other is root
	if err := syscall.Fchown(p[0], int(uid), -1); err != nil {
		return 0, err
	}
	attr := func(s *shell) syscall.SysProcAttr { return syscall.SysProcAttr{Setsid: s == session} }
	first, err := a.start(lines[a], attr(a), stdinA.child[0], p[1], stdinA.child[2])
	syscall.Close(p[1])
	if err != nil {
		syscall.Close(p[0])
		return 0, err
	}
	last, err := z.start(lines[z], attr(z), p[0], stdinZ.child[1], stdinZ.child[2])
	syscall.Close(p[0])
	if err != nil {
		_ = syscall.Kill(first, syscall.SIGKILL)
		wait(first)
		return 0, err
	}
	err = errors.Join(stdinA.ready(), stdinZ.ready())
	began := time.Now()
	if err == nil {
		_, err = syscall.Write(stdinA.ours[0], []byte{'\n'})
	}
	if err != nil {
		_ = syscall.Kill(first, syscall.SIGKILL)
		_ = syscall.Kill(last, syscall.SIGKILL)
	}
	statusZ, statusA := wait(last), wait(first)
	took := time.Since(began)
	if err != nil || statusA != 0 || statusZ != 0 {
		return 0, fmt.Errorf("%w: %s, %s: %s %s", cmp.Or(err, errors.New("pipeline")), status(statusA), status(statusZ), stdinA.said(2), stdinZ.said(2))
	}
	return took, nil
}

// ready waits for a line on standard error.
func (s *stdio) ready() error {
	const limit = 10 * 1000 // milliseconds
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.ours[2]), Events: unix.POLLIN}}, limit)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n == 0:
			return errors.New("a shell did not begin")
		}
		var one [1]byte
		if _, err := syscall.Read(s.ours[2], one[:]); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if one[0] != '\n' {
			return fmt.Errorf("a shell said %q", one[:])
		}
		return nil
	}
}

// faster is how many times as fast a was as b: the median over the rounds, in each of
// which both had the same neighbours on the machine.
func faster(a, b []time.Duration) float64 {
	var all []float64
	for i := range min(len(a), len(b)) {
		all = append(all, float64(b[i])/float64(a[i]))
	}
	return median(all)
}

// speeds adds the lines of a comparison of throughputs; the second is the host.
func (b *bench) speeds(what string, size int64, target string, limit float64, all []*shell) {
	var best *shell
	for _, s := range all[2:] {
		if s.err == nil && len(s.times) > 0 && (best == nil || median(s.times) < median(best.times)) {
			best = s
		}
	}
	for i, s := range all {
		l := line{what: s.name, below: i > 0}
		if s.err != nil || len(s.times) == 0 {
			l.value, l.note = "–", fmt.Sprint(s.err)
		} else {
			l.value = rate(size, median(s.times))
			l.floor = fmt.Sprintf("%.2f", faster(s.times, all[1].times))
		}
		switch i {
		case 0:
			l.what, l.target = what, target
			if s.err == nil {
				l.note = fmt.Sprintf("%d runs of %d MiB", len(s.times), size>>20)
				if limit > 0 {
					l.met = yesNo(faster(s.times, all[1].times) >= limit)
				}
				if best != nil {
					l.peer = ratio(float64(median(best.times)), float64(median(s.times))) + " " + best.name
				}
			} else {
				l.met = "NO"
			}
		case 1:
			l.what = "the same on the host (floor)"
		}
		b.table.add(l)
	}
}

// terminal is a session on a terminal whose master is held here.
type terminal struct {
	file  *os.File
	fd    int
	pid   int
	early int // bytes of output that have come already
}

// open starts a command line on a new terminal and returns when the command has
// said that it is ready.
func (s *shell) open(line string) (t *terminal, err error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer slave.Close()
	if err := slave.Chown(int(s.uid), -1); err != nil {
		return nil, err
	}
	_ = pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80})
	fd := int(slave.Fd())
	// The number of the terminal is spelled so that an echo of the line is not
	// taken for the answer.
	pid, err := s.start("stty raw -echo; echo REA''DY; "+line, syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}, fd, fd, fd)
	if err != nil {
		return nil, err
	}
	t = &terminal{file: master, fd: int(master.Fd()), pid: pid} // Fd makes it blocking
	var got []byte
	buf := make([]byte, 256)
	for {
		if _, after, ok := bytes.Cut(got, []byte("READY")); ok {
			if i := bytes.IndexByte(after, '\n'); i >= 0 {
				t.early = len(after) - i - 1
				return t, nil
			}
		}
		n, err := syscall.Read(t.fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 || len(got) > 4096 {
			t.close()
			return nil, fmt.Errorf("no answer on a terminal: %q", got)
		}
		got = append(got, buf[:n]...)
	}
}

func (t *terminal) close() {
	t.file.Close() // hangs up
	_ = syscall.Kill(t.pid, syscall.SIGKILL)
	wait(t.pid)
}

// ttyEcho: a keystroke that a program in raw mode sends back.
func (b *bench) ttyEcho() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := b.shells(true)
	var open []*terminal
	for _, s := range all {
		t := (*terminal)(nil)
		if s.err == nil {
			if t, s.err = s.open("exec dd bs=1 2>/dev/null"); s.err == nil {
				defer t.close()
			}
		}
		open = append(open, t)
	}
	end := time.Now().Add(b.share())
	buf := make([]byte, 16)
	key := []byte("x")
	for i := range b.n(4000, 800) {
		for k, s := range all {
			if s.err != nil {
				continue
			}
			began := time.Now()
			if _, err := syscall.Write(open[k].fd, key); err != nil {
				s.err = err
				continue
			}
			n, err := syscall.Read(open[k].fd, buf)
			took := time.Since(began)
			if err != nil || n != 1 || buf[0] != 'x' {
				s.err = fmt.Errorf("echo of a key is %q (%v)", buf[:max(n, 0)], err)
				continue
			}
			if i >= 20 {
				s.times = append(s.times, took)
			}
		}
		if i%64 == 0 && i > 64 && time.Now().After(end) {
			break
		}
	}
	var c []*contestant
	for _, s := range all {
		c = append(c, &contestant{name: s.name, samples: s.times, err: s.err})
	}
	c[1].name = "the same on a host pty (floor)"
	b.race("tty: a keystroke echoed by a program", c[0], c[1], c[2:], nil, "≤ 2.5 × host", c[1], 2.5)
	return nil
}

// hear reads what is printed on a terminal, size bytes of it, notes how long that took, and
// closes it.
func (s *shell) hear(t *terminal, size int, buf []byte) {
	began := time.Now()
	for got := t.early; got < size; {
		n, err := syscall.Read(t.fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 {
			s.err = fmt.Errorf("%d bytes of %d came: %v", got, size, err)
			break
		}
		got += n
	}
	s.times = append(s.times, time.Since(began))
	t.close()
}

// ttyOutput: how fast a terminal session can print.
func (b *bench) ttyOutput() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const size = 20 << 20
	all := b.shells(true)
	end := time.Now().Add(b.share())
	buf := make([]byte, 64<<10)
	for i := 0; i < b.n(7, 3) && time.Now().Before(end); i++ {
		for _, s := range all {
			if s.err != nil {
				continue
			}
			var t *terminal
			if t, s.err = s.open(fmt.Sprintf("exec dd if=/dev/zero bs=64k count=%d 2>/dev/null", size>>16)); s.err != nil {
				continue
			}
			s.hear(t, size, buf)
		}
	}
	b.speeds("tty: output of a session", size, "", 0, all)
	return nil
}
