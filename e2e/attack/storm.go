package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/unix"
)

// takers take one more of something that runs out, each kind counted by the
// kernel for a uid, an instance of devpts, or the machine.
var takers = map[string]func(n int) error{
	"inotify": func(int) error {
		_, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		return err
	},
	"mqueue": func(n int) error {
		attr := [8]int64{1: 10, 2: 8192} // mq_maxmsg, mq_msgsize
		return call(unix.SYS_MQ_OPEN, cstring(queue(n)), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o600, uintptr(unsafe.Pointer(&attr)))
	},
	"inflight": func(int) error {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		fds := make([]int, 250)
		return unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(fds...), nil, 0)
	},
	"pty": func(int) error {
		_, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		return err
	},
}

func queue(n int) string { return fmt.Sprintf("attack.%d.%d", os.Getpid(), n) }

// hold takes all there is of a kind, says how much and why there is no more, and
// keeps it until standard input ends. With "one" in front it takes one, for a
// look whether there is any.
func hold(kind string) int {
	one := false
	if len(kind) > 4 && kind[:4] == "one-" {
		one, kind = true, kind[4:]
	}
	if kind == "orphans" {
		return orphans()
	}
	if kind == "inflight" {
		// The Go runtime has raised it; it is the limit of what is in flight.
		var l unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
			l.Cur = 1024
			_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
		}
	}
	n := 0
	err := takers[kind](n)
	for n = 1; err == nil && !one && n < 20_000; n++ {
		// Enough to see that nothing holds it; the machine is needed.
		if kind == "pty" && n == 300 {
			break
		}
		err = takers[kind](n)
	}
	if one {
		if kind == "mqueue" {
			_ = call(unix.SYS_MQ_UNLINK, cstring(queue(0)))
		}
		fmt.Println(err)
		return 0
	}
	fmt.Printf("held %d: %v\n", n, err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if kind == "mqueue" {
		for i := range n {
			_ = call(unix.SYS_MQ_UNLINK, cstring(queue(i)))
		}
	}
	return 0
}

// orphans leaves PID 1 a few thousand children to bury.
func orphans() int {
	for range 25 {
		// A shell's background jobs are orphans as soon as it ends.
		if err := exec.Command("/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (:) & done").Run(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("done")
	return 0
}
