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
		eventually(t, "the end of "+name, said(name+` ended: (signal 15|status 0) after \S+`))
	}
	require.Equal(t, result{stdout: "1000\n"}, run(t, login, ask{as: centos, cmd: "id -u"}))
	assert.NotEqual(t, first, started())
	works()
	eventually(t, "cron's @reboot, once more", func() bool { return contents(booted) == "up\nup\n" })
	assert.NotContains(t, logSince(t, "serve.log", from), "bind()", "what nginx had left has ended with it")
}

// TestHostileServices: a service that floods the log, goes away, fails for ever, is nobody's, is a link out of
// the root file system, or says what serve would, does so under its own name, within bounds, and
// keeps nobody else waiting: no other service, no login, no end of the jail.
func TestHostileServices(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("#!/bin/sh\necho from outside\n"), 0o755))
	for name, to := range map[string]string{"out": outside, "up": "../../../../../../../../.." + outside, "in": "../../../../../usr/local/bin/inside"} {
		link := filepath.Join(busyboxRoot, "usr/local/bin", "link-"+name)
		require.NoError(t, os.Symlink(to, link))
		t.Cleanup(func() { require.NoError(t, os.Remove(link)) })
	}
	inside := filepath.Join(busyboxRoot, "usr/local/bin/inside")
	require.NoError(t, os.WriteFile(inside, []byte("#!/bin/sh\necho from inside\n"), 0o755))
	t.Cleanup(func() { require.NoError(t, os.Remove(inside)) })
	reg := oneJail("hostile", busyboxRoot, `idle_timeout = "1s"`, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id))
	sh := func(name, command, more string) {
		reg.text += fmt.Sprintf("[[jail.hostile.service]]\nname = %q\nexec = [ \"/bin/sh\", \"-c\", %q ]\n%s\n", name, command, more)
	}
	sh("flood", "while :; do echo flood; done", "")
	sh("away", "setsid sh -c 'echo >/dev/shm/away; exec sleep 61234' & sleep 61235 & until [ -e /dev/shm/away ]; do sleep 0.01; done; exit 0", "")
	sh("fails", "exit 3", `restart = "always"`+"\nbackoff = \"100ms\"")
	sh("nobodys", "echo never", `user = "nosuch"`+"\nbackoff = \"100ms\"")
	sh("liar", `printf '\033[2J\rservice quiet ended: status 1\nservice quiet: said\n\n\302\233\000x\n'; exec sleep 1000`, `restart = "no"`)
	sh("device", "chmod 0 /proc/self/fd/1 && echo changed; exec >/dev/full 2>&1; echo lost; exec sleep 1000", "")
	for _, name := range []string{"out", "up", "in"} {
		reg.text += fmt.Sprintf("[[jail.hostile.service]]\nname = \"link-%[1]s\"\nexec = [ \"/usr/local/bin/link-%[1]s\" ]\nrestart = \"no\"\n", name)
	}
	sh("quiet", "echo here; exec sleep 1000", "")

	from := int64(len(contents(world.log("serve.log"))))
	said := func(line string) func() bool {
		re := regexp.MustCompile(`(?m)^jail-init: jail hostile: service ` + line + `$`)
		return func() bool { return re.MatchString(logSince(t, "serve.log", from)) }
	}
	s := own(t, reg)
	// The last one has started, so each before it has, or could not be.
	eventually(t, "the last one is heard", said("quiet: here"))
	eventually(t, "who floods is not heard out", said(`flood: \d+ lines suppressed`))
	for _, line := range []string{
		`away ended: status 0 after \S+`,
		`fails ended: status 3 after \S+, next start in 100ms`,
		`fails ended: status 3 after \S+, next start in 200ms`,
		`fails ended: status 3 after \S+, next start in 400ms`,
		`nobodys cannot be started: .*nosuch.*, next start in 100ms`,
		`nobodys cannot be started: .*nosuch.*, next start in 200ms`,
		`liar: \\x1b\[2J\\rservice quiet ended: status 1`,
		`liar: service quiet: said`,
		`liar: \\u009b\\x00x`,
		`device started: pid \d+`,
		`link-out ended: status \d+ after \S+`,
		`link-up ended: status \d+ after \S+`,
		`link-in: from inside`,
		`link-in ended: status 0 after \S+`,
	} {
		eventually(t, line, said(line))
	}
	for _, line := range []string{"quiet ended.*", "quiet: said", "away started: pid .*\n(?s:.*)service away started.*", ".*from outside", "device: (changed|lost)", "nobodys: never"} {
		assert.False(t, said(line)(), line)
	}
	assert.Regexp(t, `^[\x20-\x7e\n]*$`, logSince(t, "serve.log", from), "no terminal obeys it")

	// What had gone away from its process group goes on, the rest has ended with it.
	left := run(t, login, ask{as: centos, cmd: "ps | grep -c '[s]leep 6123[45]'; ps | grep -c '[s]leep 61234'"})
	assert.Equal(t, "1\n1\n", left.stdout, "a login is served meanwhile")

	// Without a serve who floods waits; the jail can be ended, and logged in to.
	s.kill(syscall.SIGKILL)
	require.Equal(t, result{stdout: "in\n"}, run(t, login, ask{as: centos, cmd: "echo in"}))
	require.NoError(t, command(initPath, "stop", "hostile"))
	assert.Empty(t, jailPIDs("hostile"))
	require.NoError(t, s.start())
	eventually(t, "all starts anew", said(`quiet started: pid \d+\n(?s:.*)service quiet started: pid \d+`))
}
