//go:build programs

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The programs that people have in jails are too many for every run of the tests: make
// try-network has this one.

// programPackages are the programs as Debian has them, on both sides of a socket.
const programPackages = "nginx-light,redis-server,redis-tools,postgresql,dnsmasq-base,bind9-dnsutils,curl,python3-minimal,libpython3-stdlib,nodejs"

func init() {
	treeMakers["programs"] = func(dir string) error { return debootstrap(dir, programPackages) }
	treeRecipes["programs"] = programPackages
}

// twiceProgram is one that waits on the same port in several places at once. J is the name of
// the place, which the answer has.
type twiceProgram struct {
	name, setUp, serve, ask, answer string // setUp, serve and ask for the shell; answer may have J
	host                            bool   // there is one on the host as well
}

const asPostgres = "setpriv --reuid postgres --regid postgres --clear-groups /usr/lib/postgresql/15/bin/"

var twicePrograms = []twiceProgram{
	{name: "nginx on all addresses", host: true,
		setUp: `cat >/tmp/nginx.conf <<END
daemon off; worker_processes 1; pid /tmp/nginx.pid; error_log /tmp/nginx.log;
events {} http { access_log off; server { listen $HTTP; location / { return 200 "nginx of $J"; } } }
END`,
		serve: "exec nginx -c /tmp/nginx.conf", ask: "curl -s http://127.0.0.1:8080/", answer: "nginx of J"},
	{name: "redis", host: true, serve: "exec redis-server --save '' --dir /tmp --bind 127.0.0.1 -::1",
		ask: "redis-cli set who $J >/dev/null; redis-cli get who", answer: "J"},
	{name: "redis on all addresses", serve: "exec redis-server --save '' --dir /tmp --bind '*' --port 6380 --protected-mode no",
		ask: "redis-cli -p 6380 set who all-$J >/dev/null; redis-cli -p 6380 get who", answer: "all-J"},
	{name: "PostgreSQL", host: true,
		setUp: "[ -d /tmp/pg ] || { install -d -m 700 -o postgres /tmp/pg; " + asPostgres + "initdb -N -A trust -D /tmp/pg >/tmp/initdb 2>&1; }",
		serve: "exec " + asPostgres + "postgres -D /tmp/pg -k /tmp -c fsync=off -c cluster_name=$J",
		ask:   "psql -h 127.0.0.1 -U postgres -Atc 'show cluster_name' && psql -h localhost -U postgres -Atc 'show cluster_name'", answer: "J\nJ"},
	{name: "a resolver", serve: "exec dnsmasq -k -u root -p 5353 --listen-address=127.0.0.1 --bind-interfaces --no-resolv --no-hosts --txt-record=who.test,$J",
		ask: "dig +short @127.0.0.1 -p 5353 TXT who.test; dig +short +tcp @127.0.0.1 -p 5353 TXT who.test", answer: "\"J\"\n\"J\""},
	{name: "python", setUp: "mkdir -p /tmp/www; echo python of $J >/tmp/www/who", serve: "exec python3 -m http.server --directory /tmp/www 8000",
		ask: "curl -s http://localhost:8000/who", answer: "python of J"},
	{name: "node", serve: `exec node -e 'require("http").createServer((q, r) => r.end("node of " + process.env.J)).listen(3000)'`,
		ask: "curl -s http://localhost:3000/; echo; curl -s -4 http://localhost:3000/", answer: "node of J\nnode of J"},
}

// twicePlace is where they are: how a shell's command comes there.
type twicePlace struct {
	name string
	http string // what nginx listens on
	run  func(command string) *exec.Cmd
}

func (p *twicePlace) shell(command string) *exec.Cmd {
	return p.run(fmt.Sprintf("export J=%s HTTP=%s; %s", p.name, p.http, command))
}

// start begins what waits, and returns what ends it.
func (p *twicePlace) start(t *testing.T, program *twiceProgram) func() {
	t.Helper()
	if program.setUp != "" {
		out, err := p.shell(program.setUp).CombinedOutput()
		require.NoError(t, err, "%s, %s: %s", p.name, program.name, out)
	}
	cmd := p.shell(program.serve)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	return func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		cmd.Wait()
	}
}

func (p *twicePlace) answers(t *testing.T, program *twiceProgram) {
	t.Helper()
	want := strings.ReplaceAll(program.answer, "J", p.name)
	var got string
	asked := poll(deadline, func() bool {
		out, _ := p.shell(program.ask).CombinedOutput()
		got = strings.TrimSpace(string(out))
		return got == want
	})
	assert.True(t, asked, "%s, %s: %q, not %q", p.name, program.name, got, want)
}

// TestNetworkPrograms has two jails and the host run the same programs on the same ports, and
// each finds its own. Those of the host are there before the jails have a network of their own,
// and others after.
func TestNetworkPrograms(t *testing.T) {
	within := apart(t)
	base := filepath.Join(jailsDir, "programs")

	// The host's are in an overlay of the same tree.
	above := t.TempDir()
	for _, dir := range []string{"upper", "work", "root"} {
		require.NoError(t, os.Mkdir(filepath.Join(above, dir), 0o755))
	}
	root := filepath.Join(above, "root")
	require.NoError(t, unix.Mount("overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", base, filepath.Join(above, "upper"), filepath.Join(above, "work"))))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(root, unix.MNT_DETACH)) })
	require.NoError(t, unix.Mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(filepath.Join(root, "dev"), unix.MNT_DETACH)) })
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/hosts"), []byte("127.0.0.1 localhost\n::1 localhost\n"), 0o644))
	host := &twicePlace{name: "host", http: "127.0.0.1:8080", run: func(command string) *exec.Cmd {
		return exec.Command("chroot", root, "/bin/sh", "-c", command)
	}}
	startAll := func(t *testing.T, p *twicePlace) (end func()) {
		var ends []func()
		for i := range twicePrograms {
			if program := &twicePrograms[i]; p != host || program.host {
				ends = append(ends, p.start(t, program))
			}
		}
		return func() {
			for _, end := range ends {
				end()
			}
		}
	}
	answerAll := func(t *testing.T, places ...*twicePlace) {
		for _, p := range places {
			for i := range twicePrograms {
				if program := &twicePrograms[i]; p != host || program.host {
					p.answers(t, program)
				}
			}
		}
	}
	alone(t)
	endHost := startAll(t, host)
	t.Cleanup(func() { endHost() })
	answerAll(t, host)

	var text strings.Builder
	text.WriteString("version = 1\n")
	reg := registry{users: []account{centos, work}}
	var jails []*twicePlace
	for i, name := range []string{"x", "y"} {
		fmt.Fprintf(&text, "[jail.%s]\nbase = %q\npersist = \"none\"\nusers = [%q]\nuid = %d\nports = %s\nloopback = []\n",
			name, base, reg.users[i].login, reg.users[i].id, []string{"[53]", "[]"}[i])
		reg.jails = append(reg.jails, name)
		jails = append(jails, &twicePlace{name: name, http: "8080", run: func(command string) *exec.Cmd {
			return exec.Command(initPath, "exec", name, "/bin/sh", "-c", command)
		}})
	}
	reg.text = text.String()
	s, err := serve(reg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.stop()) })
	within("two jails", func(t *testing.T) {
		for _, j := range jails {
			defer startAll(t, j)()
		}
		answerAll(t, jails...)
	})
	within("the host", func(t *testing.T) {
		answerAll(t, host)
		endHost()
		for i := range twicePrograms {
			if program := &twicePrograms[i]; program.host { // and no jail's are there in its place
				out, _ := host.shell(program.ask).CombinedOutput()
				assert.NotContains(t, string(out), strings.ReplaceAll(program.answer, "J", "x"))
			}
		}
		endHost = startAll(t, host)
		answerAll(t, host)
	})
	within("a resolver that owns its port", func(t *testing.T) {
		resolver := twiceProgram{name: "53", serve: "exec dnsmasq -k -u root --no-resolv --no-hosts --txt-record=who.test,$J", ask: "dig +short @127.0.0.1 TXT who.test; dig +short @" + hostAddress + " TXT who.test", answer: "\"J\"\n\"J\""}
		defer jails[0].start(t, &resolver)()
		jails[0].answers(t, &resolver)
		out, _ := jails[1].shell("dig +short +tries=1 +timeout=2 @127.0.0.1 TXT who.test").CombinedOutput()
		assert.Contains(t, string(out), "refused")
		out, _ = jails[1].shell("dig +short @" + hostAddress + " TXT who.test").CombinedOutput()
		assert.Contains(t, string(out), `"x"`, "from outside it is there for all")
	})
}
