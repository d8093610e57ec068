package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// contestant is a program that is measured.
type contestant struct {
	name    string
	argv    []string
	uid     uint32 // 0: as root
	attr    syscall.SysProcAttr
	call    func() error // instead of a program
	after   func() error // not timed
	samples []time.Duration
	err     error // why there are none
}

// environment is what every program that is measured gets.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", "LANG=C.UTF-8"}

// stdio are pipes as sshd would give, with the ends this process keeps.
type stdio struct {
	child [3]int
	ours  [3]int
}

func newStdio(uid uint32) (*stdio, error) {
	var s stdio
	for fd := range s.child {
		var p [2]int
		if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
			return nil, err
		}
		s.child[fd], s.ours[fd] = p[1], p[0]
		if fd == 0 {
			s.child[fd], s.ours[fd] = p[0], p[1]
		}
		if err := errors.Join(syscall.Fchown(s.child[fd], int(uid), -1), syscall.SetNonblock(s.ours[fd], true)); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

func (s *stdio) close() {
	for fd := range s.child {
		syscall.Close(s.child[fd])
		syscall.Close(s.ours[fd])
	}
}

// said returns what a program has written to standard output or error.
func (s *stdio) said(fd int) string {
	var text []byte
	buf := make([]byte, 4096)
	for {
		n, err := syscall.Read(s.ours[fd], buf)
		if n <= 0 || err != nil {
			return strings.TrimSpace(string(text))
		}
		text = append(text, buf[:n]...)
	}
}

// process is the attributes of a process that begins with argv.
func (c *contestant) process(files ...int) *syscall.ProcAttr {
	attr := &syscall.ProcAttr{Env: environment, Dir: "/", Sys: &c.attr}
	if c.uid != 0 {
		c.attr.Credential = &syscall.Credential{Uid: c.uid, Gid: c.uid}
	}
	for _, fd := range files {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	return attr
}

// wait waits for a child without giving the thread away.
func wait(pid int) syscall.WaitStatus {
	var ws syscall.WaitStatus
	for {
		_, _, e := syscall.RawSyscall6(syscall.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(&ws)), 0, 0, 0, 0)
		if e != syscall.EINTR {
			return ws
		}
	}
}

// interleave takes n samples of the whole life of each contestant, A B C A B C,
// or as many as fit into limit. A contestant that fails drops out.
func interleave(n int, limit time.Duration, all ...*contestant) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const warmUp = 3
	end := time.Now().Add(limit)
	var pipes []*stdio
	var attrs []*syscall.ProcAttr
	for _, c := range all {
		p, err := newStdio(c.uid)
		if err != nil {
			return err
		}
		defer p.close()
		pipes, attrs = append(pipes, p), append(attrs, c.process(p.child[:]...))
		c.samples = make([]time.Duration, 0, n)
	}
	for i := range n + warmUp {
		for k, c := range all {
			if c.err != nil {
				continue
			}
			began := time.Now()
			if c.call != nil {
				c.err = c.call()
			} else {
				c.err = c.once(attrs[k])
			}
			took := time.Since(began)
			if c.err != nil {
				continue
			}
			if i >= warmUp {
				c.samples = append(c.samples, took)
			}
			if c.after != nil {
				c.err = c.after()
			}
		}
		if time.Now().After(end) && i > warmUp {
			break
		}
	}
	for k, c := range all {
		if c.err != nil {
			c.err = fmt.Errorf("%w: %s %s", c.err, pipes[k].said(2), pipes[k].said(1))
		}
	}
	return nil
}

// once runs the program to its end.
func (c *contestant) once(attr *syscall.ProcAttr) error {
	pid, err := syscall.ForkExec(c.argv[0], c.argv, attr)
	if err != nil {
		return fmt.Errorf("%s: %w", c.argv[0], err)
	}
	if ws := wait(pid); ws != 0 {
		return fmt.Errorf("%s: %s", c.argv[0], status(ws))
	}
	return nil
}

func status(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return fmt.Sprintf("died of signal %d", ws.Signal())
	}
	return fmt.Sprintf("status %d", ws.ExitStatus())
}

func (c *contestant) median() time.Duration { return median(c.samples) }

// race adds the lines of a comparison whose smaller time is the better: ours
// first, the floor beneath it, then the others. against is the peer that the
// target names; without one it is the floor.
func (b *bench) race(what string, ours, floor *contestant, peers, others []*contestant, target string, against *contestant, limit float64) {
	if ours.err != nil {
		b.table.add(line{what: what, value: "–", target: target, met: "NO", note: ours.err.Error()})
	} else {
		l := line{what: what, value: duration(ours.median()), note: fmt.Sprintf("%d runs", len(ours.samples))}
		if floor != nil && floor.err == nil {
			l.floor = ratio(float64(ours.median()), float64(floor.median()))
		}
		if best := fastest(peers); best != nil {
			l.peer = ratio(float64(ours.median()), float64(best.median())) + " " + best.name
		}
		l.target = target
		if against != nil && against.err == nil && target != "" {
			r := float64(ours.median()) / float64(against.median())
			l.met = yesNo(r <= limit)
		}
		b.table.add(l)
	}
	for _, c := range append(append([]*contestant{floor}, peers...), others...) {
		if c == nil {
			continue
		}
		l := line{what: c.name, below: true}
		if c.err != nil {
			l.value, l.note = "–", c.err.Error()
		} else {
			l.value = duration(c.median())
			if floor != nil && floor.err == nil {
				l.floor = ratio(float64(c.median()), float64(floor.median()))
			}
		}
		b.table.add(l)
	}
}

func fastest(all []*contestant) *contestant {
	var best *contestant
	for _, c := range all {
		if c.err == nil && len(c.samples) > 0 && (best == nil || c.median() < best.median()) {
			best = c
		}
	}
	return best
}
