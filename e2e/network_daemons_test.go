package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNetworkDaemons has what people run in two jails on the same ports, as it comes from
// Debian and as ordinary users: each talks to its own.
func TestNetworkDaemons(t *testing.T) {
	within := apart(t)
	carry(t)
	// The second jail's tree has the same files by other names, the few that differ are new.
	second := daemonRoot + "-2"
	require.NoError(t, command("cp", "-al", daemonRoot, second))
	t.Cleanup(func() { require.NoError(t, command("rm", "-rf", "--one-file-system", second)) })
	const uid = 1000
	require.NoError(t, appendFile(filepath.Join(daemonRoot, "etc/passwd"), fmt.Sprintf("work:x:%d:%[1]d::/tmp:/bin/sh\n", uid))) // of both
	for i, root := range []string{daemonRoot, second} {
		who := string(rune('a' + i))
		put(t, filepath.Join(root, "etc/who"), who)
		put(t, filepath.Join(root, "etc/nginx.conf"), fmt.Sprintf(`pid /tmp/nginx.pid; error_log stderr; daemon off; events {} http { access_log off;
client_body_temp_path /tmp/n1; proxy_temp_path /tmp/n2; fastcgi_temp_path /tmp/n3; uwsgi_temp_path /tmp/n4; scgi_temp_path /tmp/n5;
server { listen 8080; listen [::]:8080; return 200 %s; } }`, who))
	}
	// The host's own, as one of its users, of before there are jails, and of after.
	onHost := func(script string) *exec.Cmd {
		cmd := exec.Command("chroot", fmt.Sprintf("--userspec=%d:%[1]d", alice.id), daemonRoot, "/bin/sh", "-c", "PATH=/usr/bin:/bin:/usr/sbin; "+script)
		cmd.Dir = "/"
		return cmd
	}
	host := func(script string) {
		cmd := onHost(script)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	}
	hosts := func(t *testing.T) {
		t.Helper()
		for _, ask := range []string{`redis-cli set who host >/dev/null && redis-cli get who`, `redis-cli -p 6381 set who host >/dev/null && redis-cli -p 6381 get who`} {
			out, _ := onHost(ask + " 2>&1").CombinedOutput()
			assert.Equal(t, "host\n", string(out), ask)
		}
	}
	host(`cd /tmp && exec redis-server --save "" --bind 127.0.0.1 ::1`)
	own(t, registry{
		text: fmt.Sprintf(`version = 1
[jail.a]
rootfs = %q
users.centos = { uid = %d, name = "work", shell = "/bin/sh" }
ports = [53]
loopback = []
[jail.b]
rootfs = %q
users.debian = { uid = %[2]d, name = "work", shell = "/bin/sh" }
ports = []
loopback = []
`, daemonRoot, uid, second),
		jails: []string{"a", "b"},
		users: []account{centos, work},
	})
	inside := func(jail, script string) *exec.Cmd {
		return exec.Command(initPath, "exec", "-u", strconv.Itoa(uid), jail, "/bin/sh", "-c", "PATH=$PATH:/usr/sbin:$(echo /usr/lib/postgresql/*/bin); cd /tmp; who=$(cat /etc/who); "+script)
	}
	asked := func(jail, script string) string {
		out, _ := inside(jail, script+" 2>&1").CombinedOutput()
		return strings.TrimSpace(string(out))
	}
	host(`cd /tmp && exec redis-server --save "" --port 6381 --bind '*' --protected-mode no`)
	within("the host's", func(t *testing.T) {
		eventually(t, "they answer", func() bool {
			out, _ := onHost("redis-cli ping && redis-cli -p 6381 ping").CombinedOutput()
			return string(out) == "PONG\nPONG\n"
		})
		hosts(t)
		assert.Contains(t, asked("a", "redis-cli get who"), "refused", "they are not the jails'")
		assert.Contains(t, asked("b", "redis-cli -p 6381 get who"), "refused")
	})
	user := partyOf(t, alice.id)
	parties := map[string]*party{"user": user}
	for _, d := range []struct {
		name, run string
		ports     []int
		ask       []string // each answers the jail's name
		only      string   // the jail that runs it, if not both
	}{
		{"redis", `exec redis-server --save "" --bind 127.0.0.1 ::1`, []int{6379}, []string{
			`redis-cli set who $who >/dev/null && redis-cli get who`, `redis-cli -h ::1 get who`, `redis-cli -h localhost get who`}, ""},
		{"redis on all addresses", `exec redis-server --save "" --port 6380 --bind '*' --protected-mode no`, []int{6380}, []string{
			`redis-cli -p 6380 set who $who >/dev/null && redis-cli -p 6380 get who`}, ""},
		{"nginx", `exec nginx -e stderr -c /etc/nginx.conf`, []int{8080}, []string{
			`curl -sS http://127.0.0.1:8080/`, `curl -sS 'http://[::1]:8080/'`, `curl -sS http://localhost:8080/`}, ""},
		{"PostgreSQL", `initdb -D pg -A trust >/dev/null && exec postgres -D pg -k /tmp -c cluster_name=$who`, []int{5432}, []string{
			`psql -h localhost -d postgres -Atc 'show cluster_name'`, `psql -h 127.0.0.1 -d postgres -Atc 'show cluster_name'`}, ""},
		{"node", `exec node -e 'require("http").createServer((q, r) => r.end(process.argv[1])).listen(3000)' $who`, []int{3000}, []string{
			`curl -sS http://localhost:3000/`, `curl -sS http://127.0.0.1:3000/`}, ""},
		{"a resolver", `exec dnsmasq -k -C /dev/null --pid-file= --no-resolv --no-hosts --port=5353 --listen-address=127.0.0.1 --bind-interfaces --txt-record=who.test,$who`, []int{5353}, []string{
			`dig +short +time=5 @127.0.0.1 -p 5353 who.test TXT | tr -d '"'`, `dig +short +tcp +time=5 @127.0.0.1 -p 5353 who.test TXT | tr -d '"'`}, ""},
		// It answers from where it was asked (IP_PKTINFO).
		{"a resolver for all", `exec dnsmasq -k -C /dev/null --pid-file= --no-resolv --no-hosts --port=53 --txt-record=who.test,$who`, nil, []string{
			`dig +short +time=5 @127.0.0.1 who.test TXT | tr -d '"'`, `dig +short +time=5 @::1 who.test TXT | tr -d '"'`, `dig +short +time=5 @` + hostAddress + ` who.test TXT | tr -d '"'`}, "a"},
	} {
		within(d.name, func(t *testing.T) {
			for _, jail := range []string{"a", "b"} {
				if d.only != "" && d.only != jail {
					continue
				}
				var said bytes.Buffer
				cmd := inside(jail, d.run)
				cmd.Stdout, cmd.Stderr = &said, &said
				require.NoError(t, cmd.Start())
				defer func() {
					cmd.Process.Signal(syscall.SIGTERM)
					cmd.Wait()
					if t.Failed() {
						t.Logf("%s", said.Bytes())
					}
				}()
			}
			for _, jail := range []string{"a", "b"} {
				if d.only != "" && d.only != jail {
					continue
				}
				last := ""
				if !poll(deadline, func() bool { last = asked(jail, d.ask[0]); return last == jail }) {
					t.Fatalf("%s of jail %s does not answer: %s", d.name, jail, last)
				}
			}
			for _, ask := range d.ask {
				for _, jail := range []string{"a", "b"} {
					if d.only == "" || d.only == jail {
						assert.Equal(t, jail, asked(jail, ask), ask)
					}
				}
			}
			hosts(t)
			for _, port := range d.ports {
				if d.name == "redis" {
					continue // the host's is there
				}
				play(t, parties, []networkRow{
					{"user", fmt.Sprint("connect c 4 tcp 127.0.0.1 ", port), "ECONNREFUSED"},
					{"user", fmt.Sprint("connect c 6 tcp ::1 ", port), "ECONNREFUSED"},
					{"user", fmt.Sprintf("connect c 4 tcp %s %d", hostAddress, port), "ECONNREFUSED"},
				})
			}
			if d.only != "" {
				assert.Equal(t, d.only, asked("b", `dig +short +time=5 @`+hostAddress+` who.test TXT | tr -d '"'`), "its port is reached by all")
				assert.Contains(t, asked("b", `dig +short +time=1 +tries=1 @127.0.0.1 who.test TXT`), "refused")
			}
		})
	}
	user.end()
}
