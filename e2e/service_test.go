package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// edit replaces text in a file of a tree for the time of the test.
func edit(t *testing.T, path string, pairs ...string) {
	t.Helper()
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	fresh := strings.NewReplacer(pairs...).Replace(string(old))
	require.NotEqual(t, string(old), fresh, path)
	require.NoError(t, os.WriteFile(path, []byte(fresh), 0o644))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(path, old, 0o644)) })
}

// TestServices: cron, nginx and postfix from Debian, as they are, start with serve, outlive
// it, are started again when they end, end with the jail, and start with the next login.
func TestServices(t *testing.T) {
	web, mail := freePort(t), freePort(t)
	edit(t, serviceRoot+"/etc/nginx/sites-available/default", "listen 80 ", fmt.Sprintf("listen 127.0.0.1:%d ", web), "listen [::]:80 ", "# listen ")
	edit(t, serviceRoot+"/etc/postfix/master.cf", "\nsmtp      inet", fmt.Sprintf("\n127.0.0.1:%d inet", mail))
	booted := filepath.Join(serviceRoot, "var/tmp/booted")
	require.NoError(t, os.WriteFile(serviceRoot+"/etc/cron.d/booted", []byte("@reboot root echo up >>/var/tmp/booted\n"), 0o644))
	t.Cleanup(func() { os.Remove(booted); os.Remove(serviceRoot + "/etc/cron.d/booted") })
	reg := oneJail("daemons", serviceRoot, `idle_timeout = "1s"`, `users.centos = { uid = 1000, name = "work", shell = "/bin/sh" }`)
	reg.users = append(reg.users, centos)
	reg.text += `
[[jail.daemons.service]]
name = "cron"
exec = [ "/usr/sbin/cron", "-f" ]
[[jail.daemons.service]]
name    = "nginx"
exec    = [ "/usr/sbin/nginx", "-g", "daemon off;" ]
backoff = "100ms"
[[jail.daemons.service]]
name = "postfix"
exec = [ "/usr/sbin/postfix", "start-fg" ]
[[jail.daemons.service]]
name    = "talk"
exec    = [ "/bin/sh", "-c", "id -un; exec sleep 1000" ]
user    = "www-data"
restart = "no"
`
	from := int64(len(contents(world.log("serve.log"))))
	said := func(line string) func() bool {
		re := regexp.MustCompile(`(?m)^jail-init: jail daemons: service ` + line + `$`)
		return func() bool { return re.MatchString(logSince(t, "serve.log", from)) }
	}
	// started tells one start of the jail from the next. A process that PID 1 is about to
	// make a service of has its title for a moment.
	started := func() (first string) {
		t.Helper()
		eventually(t, "the jail's first process, and no other of its title", func() bool {
			pids := jailPIDs("daemons")
			if len(pids) == 1 {
				first = fmt.Sprintf("%d/%s", pids[0], processes()[pids[0]].start)
			}
			return len(pids) == 1
		})
		return first
	}
	works := func() {
		t.Helper()
		eventually(t, "nginx answers", func() bool {
			r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", web))
			if err != nil {
				return false
			}
			defer r.Body.Close()
			page, _ := io.ReadAll(r.Body)
			return r.StatusCode == 200 && strings.Contains(string(page), "nginx")
		})
		eventually(t, "postfix answers", func() bool {
			c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", mail))
			if err != nil {
				return false
			}
			defer c.Close()
			var line [4]byte
			_, err = io.ReadFull(c, line[:])
			return err == nil && string(line[:]) == "220 "
		})
	}
	s := own(t, reg)
	eventually(t, "all started", said(`talk started: pid \d+`))
	order := regexp.MustCompile(`service (\w+) started`).FindAllStringSubmatch(logSince(t, "serve.log", from), -1)
	require.Len(t, order, 4)
	for i, name := range []string{"cron", "nginx", "postfix", "talk"} {
		assert.Equal(t, name, order[i][1])
	}
	eventually(t, "what a service writes is in the log", said("talk: www-data"))
	works()
	eventually(t, "cron's @reboot", func() bool { return contents(booted) == "up\n" })
	first := started()

	// serve is gone for a while.
	s.kill(syscall.SIGKILL)
	from = int64(len(contents(world.log("serve.log"))))
	works()
	require.NoError(t, s.start())
	for _, name := range []string{"cron", "nginx", "postfix", "talk"} {
		eventually(t, name+" is found", said(name+` runs already: pid \d+`))
	}
	assert.Equal(t, first, started(), "it has not idled out: services are up")

	// One ends.
	require.NoError(t, command(initPath, "exec", "daemons", "sh", "-c", "kill -9 $(cat /run/nginx.pid)"))
	eventually(t, "its end", said(`nginx ended: signal 9 after \S+, next start in 100ms`))
	eventually(t, "it starts again", said(`nginx started: pid \d+`))
	works()
	assert.NotContains(t, logSince(t, "serve.log", from), "service cron started", "nothing started twice")

	// The jail ends, and a login starts it.
	require.NoError(t, command(initPath, "stop", "daemons"))
	for _, name := range []string{"talk", "postfix", "nginx", "cron"} {
		eventually(t, "the end of "+name, said(name+` ended: (signal 15|status 0) after \S+.*`))
	}
	require.Equal(t, result{stdout: "1000\n"}, run(t, login, ask{as: centos, cmd: "id -u"}))
	assert.NotEqual(t, first, started())
	works()
	eventually(t, "cron's @reboot, once more", func() bool { return contents(booted) == "up\nup\n" })
	assert.NotContains(t, logSince(t, "serve.log", from), "bind()", "what nginx had left has ended with it")
}
