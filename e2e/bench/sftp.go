package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sftpServers are where distributions have OpenSSH's server.
var sftpServers = []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"}

// sftp: a file in and out through the built-in server and through OpenSSH's, by
// OpenSSH's client and without an sshd between, whose ciphers would hide them. Many
// short transfers, each beside one by the other server: on a busy machine a long one
// says more about the neighbours. The client is on one processor and its server on
// the same or on another, since the one takes the processor and the other the time it
// takes to wake somebody up.
func (b *bench) sftp() error {
	client, err := find("sftp")
	if err != nil {
		return err
	}
	theirs := ""
	for _, path := range sftpServers {
		if _, err := os.Stat(path); err == nil {
			theirs = path
			break
		}
	}
	if theirs == "" {
		return fmt.Errorf("no sftp-server of OpenSSH on this machine")
	}
	dir := "/run/sftp" // on a tmpfs
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	const size = 32 << 20
	source, copied := filepath.Join(dir, "source"), filepath.Join(dir, "copied")
	if err := os.WriteFile(source, bytes.Repeat([]byte("0123456789abcde\n"), size/16), 0o644); err != nil {
		return err
	}
	var usable unix.CPUSet
	if err := unix.SchedGetaffinity(0, &usable); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < min(2, usable.Count()); cpu++ {
		if usable.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	for _, way := range []string{"put", "get"} {
		for at, cpu := range cpus {
			all := []*shell{{name: b.bin("jail-sftp-server")}, {name: theirs}}
			for i, s := range all {
				// The client takes the path of a server, no arguments.
				bound := filepath.Join(dir, fmt.Sprintf("server-%d", i))
				if err := os.WriteFile(bound, []byte(fmt.Sprintf("#!/bin/sh\nexec taskset -c %d %s\n", cpu, s.name)), 0o755); err != nil {
					return err
				}
				s.argv = []string{"taskset", "-c", fmt.Sprint(cpus[0]), client, "-q", "-D", bound, "-b", "-"}
			}
			end := time.Now().Add(b.share() / 2)
			for i := 0; i < b.n(41, 11) && time.Now().Before(end); i++ {
				for k := range all {
					s := all[(i+k)%len(all)]
					if s.err == nil {
						s.transfer(way, source, copied, size)
					}
				}
			}
			where := "one processor"
			if at > 0 {
				where = "two processors"
			}
			b.sftpSpeeds("sftp: "+way+" on "+where+", the built-in server", size, all[0], all[1])
		}
	}
	return nil
}

// transfer has the client put or get a file once.
func (s *shell) transfer(way, source, copied string, size int64) {
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Stdin = strings.NewReader(way + " " + source + " " + copied + "\n")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		s.err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
		return
	}
	info, err := os.Stat(copied)
	switch {
	case err != nil:
		s.err = err
	case info.Size() != size:
		s.err = fmt.Errorf("%d bytes of %d came", info.Size(), size)
	default:
		s.err = os.Remove(copied)
		s.times = append(s.times, took)
	}
}

func (b *bench) sftpSpeeds(what string, size int64, ours, theirs *shell) {
	for i, s := range []*shell{ours, theirs} {
		l := line{what: what, below: i > 0}
		if s.err != nil || len(s.times) == 0 {
			l.value, l.note = "–", fmt.Sprint(s.err)
		} else {
			l.value = rate(size, median(s.times))
		}
		if i > 0 {
			l.what = "OpenSSH's sftp-server"
		} else {
			l.target, l.met = "≥ OpenSSH's", "NO"
			if ours.err == nil && theirs.err == nil && len(ours.times) > 0 {
				n := faster(ours.times, theirs.times)
				l.peer, l.met = fmt.Sprintf("%.2f", n), yesNo(n >= 1)
				l.note = fmt.Sprintf("%d runs of %d MiB", len(s.times), size>>20)
			}
		}
		b.table.add(l)
	}
}
