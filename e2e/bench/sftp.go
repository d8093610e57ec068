package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// sftpServers are where distributions have OpenSSH's server.
var sftpServers = []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"}

// sftp: a file in and out through the built-in server and through OpenSSH's, by
// OpenSSH's client and without an sshd between, whose ciphers would hide them.
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
	size := int64(b.n(128<<20, 32<<20))
	source, copied := filepath.Join(dir, "source"), filepath.Join(dir, "copied")
	if err := os.WriteFile(source, bytes.Repeat([]byte("0123456789abcde\n"), int(size/16)), 0o644); err != nil {
		return err
	}
	for _, way := range []string{"put", "get"} {
		all := []*shell{{name: b.bin("jail-sftp-server")}, {name: theirs}}
		end := time.Now().Add(b.share())
		for i := 0; i < b.n(9, 3) && time.Now().Before(end); i++ {
			for _, s := range all {
				if s.err != nil {
					continue
				}
				cmd := exec.Command(client, "-q", "-D", s.name, "-b", "-")
				cmd.Stdin = bytes.NewReader([]byte(way + " " + source + " " + copied + "\n"))
				began := time.Now()
				out, err := cmd.CombinedOutput()
				took := time.Since(began)
				if err == nil {
					var info os.FileInfo
					if info, err = os.Stat(copied); err == nil && info.Size() != size {
						err = fmt.Errorf("%d bytes of %d came", info.Size(), size)
					}
				}
				if err != nil {
					s.err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
					continue
				}
				s.times = append(s.times, took)
				if err := os.Remove(copied); err != nil {
					return err
				}
			}
		}
		b.sftpSpeeds("sftp: "+way+", the built-in server", size, all[0], all[1])
	}
	return nil
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
			l.target, l.met = "≥ 0.9 of OpenSSH's", "NO"
			if len(ours.times) > 0 && len(theirs.times) > 0 {
				n := float64(median(theirs.times)) / float64(median(ours.times))
				l.peer, l.met = fmt.Sprintf("%.2f", n), yesNo(n >= 0.9)
				l.note = fmt.Sprintf("%d runs of %d MiB", len(s.times), size>>20)
			}
		}
		b.table.add(l)
	}
}
