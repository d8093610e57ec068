package e2e

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLastLogin: a jailed login is told when and from where the last one was, byte for byte as plain
// sshd tells it.
func TestLastLogin(t *testing.T) {
	put(t, "/etc/localtime", "->/usr/share/zoneinfo/America/New_York")
	own(t, oneJail("debian", debianRoot, `users = ["debian"]`, "uid = 61001"))
	jails := debianRoot + "/var/log/lastlog"
	for _, path := range []string{"/var/log/lastlog", jails} {
		put(t, path, "")
	}
	record := func(path string, at int64, host string) {
		t.Helper()
		b := make([]byte, 292) // struct lastlog of bits/utmp.h
		binary.LittleEndian.PutUint32(b, uint32(at))
		copy(b[4:36], "pts/7")
		copy(b[36:], host)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteAt(b, int64(work.id*len(b)))
		require.NoError(t, err)
	}
	said := func(d door, option string) string {
		t.Helper()
		config := filepath.Join(t.TempDir(), "sshd_config")
		text := strings.Replace(contents(sshdConfig(d)), "PrintLastLog no\n", option, 1)
		require.Contains(t, text, option)
		require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
		argv := sshd(d, world.scratch)
		for i, a := range argv {
			if a == sshdConfig(d) {
				argv[i] = config
			}
		}
		text = greetingOf(t, clientOf(argv, d, work, "-S", "none", "-tt", "--", string(d)))
		return strings.TrimSuffix(text, "\x1b[?2004h") // bash's own
	}
	// sshd of OpenSSH 9.9 and later is built without lastlog on Debian.
	oracle := command("sh", "-c", `dpkg --compare-versions "$(dpkg-query -W -f '${Version}' openssh-server)" lt 1:9.9`) == nil
	put(t, debianRoot+"/etc/motd", "hello\n")
	put(t, "/etc/motd", "hello\n")
	for _, c := range []struct {
		at   int64
		host string
		want string
	}{
		{1795896901, "127.0.0.1", "Last login: Sat Nov 28 15:15:01 2026 from 127.0.0.1\r\r\n"},
		{1783000000, "2001:db8::1", "Last login: Thu Jul  2 09:46:40 2026 from 2001:db8::1\r\r\n"},
		{1, "", "Last login: Wed Dec 31 19:00:01 1969\r\r\n"},
		{1795896901, strings.Repeat("long.", 20), "Last login: Sat Nov 28 15:15:01 2026 from " + strings.Repeat("long.", 20)[:64] + "\r\r\n"},
		{0, "", ""},
	} {
		record(jails, c.at, c.host)
		got := said(forced, "PrintLastLog yes\n")
		assert.Equal(t, "hello\r\n"+c.want, got)
		if oracle {
			record("/var/log/lastlog", c.at, c.host)
			assert.Equal(t, said(plain, "PrintLastLog yes\n"), got)
		}
	}
	zone, err := time.LoadLocation("America/New_York") // the test's own may be older
	require.NoError(t, err)
	got := said(forced, "PrintLastLog no\n")
	now := time.Now().In(zone).Format("Mon Jan _2 ")
	assert.Contains(t, got, "Last login: "+now, "the login before has been recorded")
	record(jails, 1795896901, "127.0.0.1")
	assert.NotContains(t, said(login, "PrintLastLog no\n"), "Last login", "sshd's own affair")
}
