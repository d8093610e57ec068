package session

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/wire"
)

// lastRecord is a lastlog with a record of the one who runs the test.
func lastRecord(at uint32, host string) string {
	b := appendLastlog(make([]byte, os.Getuid()*lastlogSize), "pts/7", host, syscall.Timeval{Sec: int64(at)})
	return string(b)
}

func TestLastLogin(t *testing.T) {
	const ssh, at = "SSH_CONNECTION=1.2.3.4 5 6.7.8.9 22", 1795896901
	const line = "Last login: Sat Nov 28 20:15:01 2026 from 127.0.0.1\r\n"
	both := uint16(wire.FlagLogin | wire.FlagForced)
	last := map[string]string{lastlogFile: lastRecord(at, "127.0.0.1")}
	for claim, c := range map[string]struct {
		files map[string]string
		flags uint16
		args  []string
		env   string
		want  string
	}{
		"a login by ssh":                     {last, both, nil, ssh, line},
		"sshd says it itself":                {last, wire.FlagLogin, nil, ssh, ""},
		"on a console, login says it":        {last, wire.FlagLogin, nil, "MOTD_SHOWN=pam", ""},
		"a command":                          {last, both, []string{"-c", "true"}, ssh, ""},
		"no login shell":                     {last, wire.FlagForced, nil, ssh, ""},
		"the user does not want it":          {map[string]string{lastlogFile: last[lastlogFile], "home/bob/.hushlogin": ""}, both, nil, ssh, ""},
		"after the message of the day":       {map[string]string{lastlogFile: last[lastlogFile], "etc/motd": "hello"}, both, nil, ssh, "hello\n" + line},
		"the first login":                    {map[string]string{lastlogFile: lastRecord(0, "127.0.0.1")}, both, nil, ssh, ""},
		"an empty file":                      {map[string]string{lastlogFile: ""}, both, nil, ssh, ""},
		"a record that is cut off":           {map[string]string{lastlogFile: strings.TrimSuffix(last[lastlogFile], "\x00")}, both, nil, ssh, ""},
		"no file":                            {nil, both, nil, ssh, ""},
		"from nowhere":                       {map[string]string{lastlogFile: lastRecord(at, "")}, both, nil, ssh, strings.Replace(line, " from 127.0.0.1", "", 1)},
		"what a terminal would obey":         {map[string]string{lastlogFile: lastRecord(at, "\x1b[2J\x9b\r\na b\x7f\xff")}, both, nil, ssh, strings.Replace(line, "127.0.0.1", "[2Jab", 1)},
		"of nothing but that":                {map[string]string{lastlogFile: lastRecord(at, "\x1b\n")}, both, nil, ssh, strings.Replace(line, " from 127.0.0.1", "", 1)},
		"a long name":                        {map[string]string{lastlogFile: lastRecord(at, strings.Repeat("x", 256))}, both, nil, ssh, strings.Replace(line, "127.0.0.1", strings.Repeat("x", 64), 1)},
		"a link, which could be to a secret": {map[string]string{lastlogFile: "->lastlog.0", "var/log/lastlog.0": last[lastlogFile]}, both, nil, ssh, ""},
		"its directory is one":               {map[string]string{"var/log": "->../logs", "logs/lastlog": last[lastlogFile]}, both, nil, ssh, ""},
		"a link out":                         {map[string]string{lastlogFile: "->/etc/passwd"}, both, nil, ssh, ""},
		"a directory":                        {map[string]string{lastlogFile + "/": ""}, both, nil, ssh, ""},
	} {
		j, _ := tree(t, c.files)
		assert.Equal(t, c.want, motdOf(j, true, c.flags, c.args, c.env), claim)
	}
	for claim, spoil := range map[string]func(path string) error{
		"another name of it": func(path string) error { return os.Link(path, path+".1") },
		"a FIFO": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return syscall.Mkfifo(path, 0o600)
		},
		"somebody else's": func(path string) error {
			if os.Getuid() != 0 {
				return os.Remove(path)
			}
			return os.Chown(path, 4242, 4242)
		},
	} {
		j, root := tree(t, last)
		require.NoError(t, spoil(filepath.Join(root, lastlogFile)), claim)
		quickly(t, func() { assert.Empty(t, motdOf(j, true, both, nil, ssh), claim) })
	}
	t.Run("of a uid the file has no place for", func(t *testing.T) {
		j, _ := tree(t, last)
		s := request(both, true, ssh)
		defer s.Free()
		u := someone()
		u.UID = 1<<32 - 2
		assert.Empty(t, j.lastLogin(nil, s, u))
	})
	t.Run("another file system, which may not answer", func(t *testing.T) {
		needs.Root(t, "it mounts one")
		j, root := tree(t, map[string]string{"var/log/": ""})
		done := make(chan string)
		go func() {
			runtime.LockOSThread() // and ends with the goroutine
			defer close(done)
			if !assert.NoError(t, syscall.Unshare(syscall.CLONE_NEWNS|syscall.CLONE_FS)) ||
				!assert.NoError(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")) ||
				!assert.NoError(t, syscall.Mount("tmpfs", filepath.Join(root, "var/log"), "tmpfs", 0, "")) ||
				!assert.NoError(t, os.WriteFile(filepath.Join(root, lastlogFile), []byte(last[lastlogFile]), 0o644)) {
				return
			}
			fd, err := syscall.Open(root, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
			if !assert.NoError(t, err) {
				return
			}
			defer syscall.Close(fd)
			j.Root = fd
			done <- motdOf(j, true, both, nil, ssh)
		}()
		said, ok := <-done
		assert.True(t, ok)
		assert.Empty(t, said)
	})
	t.Run("each has its own", func(t *testing.T) {
		needs.Root(t, "its own is the first record then")
		j, _ := tree(t, last)
		s := request(both, true, ssh)
		defer s.Free()
		u := someone()
		u.UID = 1
		assert.Empty(t, j.lastLogin(nil, s, u))
	})
}

// TestClock: the line is in the jail's time zone, whoever knows that.
func TestClock(t *testing.T) {
	zone := func(rule string) string { return "TZif2" + strings.Repeat("\x00", 60) + "\n" + rule + "\n" }
	const saoPaulo, tokyo = "<-03>3", "JST-9"
	for claim, c := range map[string]struct {
		files      map[string]string
		zone, rule string
		want       string
	}{
		"the host's":                          {nil, "America/Sao_Paulo", saoPaulo, "17:15:01"},
		"the host's, which the jail has, too": {map[string]string{"etc/localtime": "->/usr/share/zoneinfo/America/Sao_Paulo"}, "America/Sao_Paulo", saoPaulo, "17:15:01"},
		"another than the rootfs's own":       {map[string]string{"etc/localtime": zone(tokyo)}, "America/Sao_Paulo", saoPaulo, "17:15:01"},
		"the rootfs's own":                    {map[string]string{"etc/localtime": zone(tokyo)}, "", "", "05:15:01"},
		"one that only the rootfs knows":      {map[string]string{"usr/share/zoneinfo/Asia/Tokyo": zone(tokyo)}, "Asia/Tokyo", "", "05:15:01"},
		"known to nobody":                     {nil, "Mars/Olympus", "", "20:15:01"},
		"no zone at all":                      {nil, "", "", "20:15:01"},
		"what is no rule":                     {map[string]string{"etc/localtime": zone("<\x1b[2J>9")}, "", "", "20:15:01"},
	} {
		j, _ := tree(t, c.files)
		j.SetZone(c.zone, c.rule, 0)
		line := appendLastLogin(nil, appendLastlog(nil, "", "", syscall.Timeval{Sec: 1795896901}), j.rule)
		assert.Contains(t, string(line), c.want, claim)
	}
}
