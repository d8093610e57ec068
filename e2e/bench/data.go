package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/creack/pty"
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
// the jail.
func (b *bench) pipes() error {
	blocks := int64(b.n(1<<14, 1<<12)) // of 64 KiB
	source := fmt.Sprintf("exec dd if=/dev/zero bs=64k count=%d 2>/dev/null", blocks)
	const sink = "exec dd of=/dev/null bs=64k 2>/dev/null"
	for _, way := range []string{"out of", "into"} {
		all := b.shells(false)
		host := &shell{argv: []string{b.bin("sh"), "-c"}}
		end := time.Now().Add(b.share())
		for i := 0; i < b.n(7, 3) && time.Now().Before(end); i++ {
			for _, s := range all {
				if s.err != nil {
					continue
				}
				var took time.Duration
				if way == "into" {
					took, s.err = pipeline(host, source, s, sink)
				} else {
					took, s.err = pipeline(s, source, host, sink)
				}
				s.times = append(s.times, took)
			}
		}
		b.speeds("pipe, "+way+" a session", blocks<<16, "≥ 0.9 of the host", 0.9, all)
	}
	return nil
}

// pipeline runs "a | b" and returns how long it took.
func pipeline(a *shell, lineA string, z *shell, lineZ string) (time.Duration, error) {
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
	began := time.Now()
	first, err := a.start(lineA, syscall.SysProcAttr{}, stdinA.child[0], p[1], stdinA.child[2])
	syscall.Close(p[1])
	if err != nil {
		syscall.Close(p[0])
		return 0, err
	}
	last, err := z.start(lineZ, syscall.SysProcAttr{}, p[0], stdinZ.child[1], stdinZ.child[2])
	syscall.Close(p[0])
	if err != nil {
		wait(first)
		return 0, err
	}
	statusZ, statusA := wait(last), wait(first)
	took := time.Since(began)
	if statusA != 0 || statusZ != 0 {
		return 0, fmt.Errorf("%s, %s: %s %s", status(statusA), status(statusZ), stdinA.said(2), stdinZ.said(2))
	}
	return took, nil
}

// speeds adds the lines of a comparison of throughputs; the second is the host.
func (b *bench) speeds(what string, size int64, target string, limit float64, all []*shell) {
	host := median(all[1].times)
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
			l.floor = ratio(float64(host), float64(median(s.times)))
		}
		switch i {
		case 0:
			l.what, l.target = what, target
			if s.err == nil {
				l.note = fmt.Sprintf("%d runs of %d MiB", len(s.times), size>>20)
				if limit > 0 {
					l.met = yesNo(float64(host)/float64(median(s.times)) >= limit)
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
	}
	b.speeds("tty: output of a session", size, "", 0, all)
	return nil
}
