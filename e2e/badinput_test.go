package e2e

import (
	"encoding/json"
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

// check writes a registry and asks jail-init what it thinks of it.
func check(t *testing.T, text string) (file string, r result) {
	t.Helper()
	dir := "/etc/jail/check"
	require.NoError(t, os.MkdirAll(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	file = filepath.Join(dir, "jail.toml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	return file, runCommand(t, exec.Command(initPath, "--config", file, "check"), nil)
}

// TestCheckAcceptsTheStandardRegistry: nothing is wrong with it, but inside with those logins
// that are made for it, and that nothing runs.
func TestCheckAcceptsTheStandardRegistry(t *testing.T) {
	alone(t)
	file, r := check(t, standardRegistry().text)
	want := []string{
		"error [serve-down]",
		"error: badshell: jail debian [inside-shell]",
		"error: noshell: jail debian [inside-shell]",
		"error: shuthome: jail debian [inside-keys]",
		"warning: nohome: jail debian [inside-home]",
		"warning: nologin: jail debian [inside-shell]",
		"warning: shuthome: jail debian [inside-home]",
	}
	found := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			switch f := strings.SplitN(strings.TrimSpace(line), ": ", 4); {
			case strings.HasPrefix(line, "note: "), strings.HasPrefix(line, "warning: /sys/fs/cgroup: is not the unified hierarchy"):
			case strings.HasSuffix(f[len(f)-1], "[serve-down]"):
				all = append(all, f[0]+" [serve-down]")
			default:
				all = append(all, strings.Join(f[:3], ": ")+" "+line[strings.LastIndexByte(line, '['):len(line)-1])
			}
		}
		return all
	}
	assert.Equal(t, want, found(r.stdout+r.stderr))

	r = runCommand(t, exec.Command(initPath, "--config", file, "check", "noshell"), nil)
	assert.Equal(t, []string{want[0], want[2]}, found(r.stdout), "of one login")
	var said struct {
		Status   int
		Findings []struct{ ID, Severity, Fix string }
	}
	r = runCommand(t, exec.Command(initPath, "--config", file, "check", "--json", "centos"), nil)
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &said), r.stdout)
	assert.Equal(t, 1, said.Status)
	assert.Equal(t, "serve-down", said.Findings[0].ID)
}

// badRegistries are faults, each on the line that says "HERE", with the key it
// is about and a word of what is wrong or what to do.
var badRegistries = map[string]struct{ text, key, says string }{
	"unknown key": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["centos"]
readonly_root = true # HERE`, "jail.centos.readonly_root", "unknown"},
	"misspelt key names the right one": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
user = ["centos"] # HERE
users = ["centos"]`, "jail.centos.user", "users"},
	"wrong type": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["centos"]
uid = "61000" # HERE`, "jail.centos.uid", "number"},
	"missing rootfs": {`version = 1
[jail.centos] # HERE
users = ["centos"]`, "jail.centos.rootfs", "missing"},
	"rootfs that is not there": {`version = 1
[jail.centos]
rootfs = "/srv/jails/nosuch" # HERE
users = ["centos"]`, "jail.centos.rootfs", "/srv/jails/nosuch"},
	"relative path": {`version = 1
[jail.centos]
rootfs = "srv/jails/busybox" # HERE
users = ["centos"]`, "jail.centos.rootfs", "absolute"},
	"the host's root": {`version = 1
[jail.centos]
rootfs = "/" # HERE
users = ["centos"]`, "jail.centos.rootfs", "host"},
	"login in two jails": {`version = 1
[jail.one]
rootfs = "/srv/jails/busybox"
users = ["centos"]
[jail.two]
rootfs = "/srv/jails/debian"
users = ["centos"] # HERE`, "jail.two.users", "centos"},
	"one rootfs twice": {`version = 1
[jail.one]
rootfs = "/srv/jails/busybox"
users = ["centos"]
[jail.two]
rootfs = "/srv/jails/busybox" # HERE
users = ["debian"]`, "jail.two.rootfs", "one"},
	"nested rootfs": {`version = 1
[jail.one]
rootfs = "/srv/jails/debian"
users = ["centos"]
[jail.two]
rootfs = "/srv/jails/debian/srv" # HERE
users = ["debian"]`, "jail.two.rootfs", "one"},
	"uid -1": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["centos"]
uid = -1 # HERE`, "jail.centos.uid", "-1"},
	"uid 4294967295": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["centos"]
uid = 4294967295 # HERE`, "jail.centos.uid", "4294967295"},
	"uid 4294967296": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["centos"]
uid = 4294967296 # HERE`, "jail.centos.uid", "4294967296"},
	"uid 65535": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["centos"]
uid = 65535 # HERE`, "jail.centos.uid", "65535"},
	"host root in the id map": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["centos"]
userns = { base = 0, size = 65536 } # HERE`, "jail.centos.userns.base", "root"},
	"login of root": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["root"] # HERE`, "jail.centos.users", "root"},
	"login of the system's": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["daemon"] # HERE`, "jail.centos.users", "daemon"},
	"login nobody has": {`version = 1
[jail.centos]
rootfs = "/srv/jails/busybox"
users = ["nosuchlogin"] # HERE`, "jail.centos.users", "nosuchlogin"},
	"no version": {`[jail.centos] # HERE
rootfs = "/srv/jails/busybox"
users = ["centos"]`, "version", "version = 1"},
	"not TOML": {`version = 1
[jail.centos
rootfs = "/srv/jails/busybox"`, "", ""},
}

func TestCheckFindsFaults(t *testing.T) {
	alone(t)
	for claim, row := range badRegistries {
		t.Run(claim, func(t *testing.T) {
			file, r := check(t, row.text)
			assert.Equal(t, 1, r.status)
			where := file + ":"
			for i, line := range strings.Split(row.text, "\n") {
				if strings.Contains(line, "HERE") {
					where = fmt.Sprintf("%s:%d: %s: ", file, i+1, row.key)
				}
			}
			assert.Contains(t, r.stdout+r.stderr, where)
			assert.Contains(t, r.stdout+r.stderr, row.says)

			// serve says the same, and has nothing of it in force.
			t.Cleanup(func() { os.RemoveAll("/run/jail-check") })
			log, err := os.Create(filepath.Join(t.TempDir(), "log"))
			require.NoError(t, err)
			defer log.Close()
			serve := exec.Command(initPath, "--config", file, "--runtime-dir", "/run/jail-check", "serve")
			serve.Stderr = log
			require.NoError(t, serve.Start())
			ended := make(chan error, 1)
			go func() { ended <- serve.Wait() }()
			eventually(t, "serve is ready or has ended", func() bool {
				return len(ended) > 0 || strings.Contains(contents(log.Name()), "ready: ")
			})
			serve.Process.Signal(syscall.SIGTERM)
			<-ended
			assert.Contains(t, contents(log.Name()), where)
		})
	}
}

func TestCheckPrintsAllFaults(t *testing.T) {
	alone(t)
	file, r := check(t, `version = 1
[jail.one]
rootfs = "relative"
users = ["nosuchlogin", "root"]
uid = -1
colour = "blue"
[jail.two]
idle_timeout = "soon"
`)
	assert.Equal(t, 1, r.status)
	out := r.stdout + r.stderr
	for _, where := range []string{":3: jail.one.rootfs: ", ":4: jail.one.users: ", ":5: jail.one.uid: ", ":6: jail.one.colour: ",
		":7: jail.two.rootfs: ", ":7: jail.two.users: ", ":8: jail.two.idle_timeout: "} {
		assert.Contains(t, out, file+where)
	}
}

func TestRegistryOthersCanWrite(t *testing.T) {
	alone(t)
	check(t, standardRegistry().text)
	file := "/etc/jail/check/jail.toml"
	for claim, spoil := range map[string]func() error{
		"file writable by others":      func() error { return os.Chmod(file, 0o646) },
		"file of another owner":        func() error { return os.Chown(file, alice.id, 0) },
		"directory writable by others": func() error { return os.Chmod(filepath.Dir(file), 0o757) },
		"a symbolic link": func() error {
			if err := os.Rename(file, file+".real"); err != nil {
				return err
			}
			return os.Symlink(file+".real", file)
		},
	} {
		t.Run(claim, func(t *testing.T) {
			check(t, standardRegistry().text)
			require.NoError(t, spoil())
			r := runCommand(t, exec.Command(initPath, "--config", file, "check"), nil)
			assert.Equal(t, 1, r.status)
			assert.Contains(t, r.stdout+r.stderr, filepath.Dir(file))
		})
	}
}

func TestReload(t *testing.T) {
	s := own(t, standardRegistry())
	l := open(t, login, ask{cmd: "while read x; do echo got $x; done"})
	l.send("one\n")
	l.expect("got one\n")
	first := generation(t, "debian")
	reload := func(text, logged string) {
		t.Helper()
		from := int64(len(contents(world.log("serve.log"))))
		require.NoError(t, os.WriteFile(registryPath, []byte(text), 0o644))
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
		eventually(t, "the log says "+logged, func() bool { return strings.Contains(world.tail("serve.log", from), logged) })
	}
	untouched := func() {
		t.Helper()
		l.send("more\n")
		l.expect("got more\n")
		assert.Zero(t, run(t, login, ask{cmd: "true"}).status)
		assert.Equal(t, first, generation(t, "debian"))
	}

	reload(standardRegistry().text+"nonsense = 1\n", "nonsense")
	untouched()
	assert.Zero(t, run(t, login, ask{as: centos, cmd: "true"}).status, "the old registry is in force")

	// Who reloads by the verb hears of it.
	require.NoError(t, os.WriteFile(registryPath, []byte(standardRegistry().text+"nonsense = 1\n"), 0o644))
	r := runCommand(t, exec.Command(initPath, "reload"), nil)
	assert.NotZero(t, r.status)
	assert.Contains(t, r.stderr, registryPath+":")
	assert.Contains(t, r.stderr, "nonsense")
	untouched()
	require.NoError(t, os.WriteFile(registryPath, []byte(standardRegistry().text), 0o644))
	assert.Equal(t, result{}, runCommand(t, exec.Command(initPath, "reload"), nil))
	untouched()

	// A login more, in the running jail; and then without it again.
	more := standardRegistry().text + `	spare1 = { uid = 61001 }` + "\n"
	reload(more, "reloaded")
	untouched()
	eventually(t, "the new login lands in the running jail", func() bool {
		return run(t, login, ask{as: spares[0], cmd: "id -un"}).stdout == "work\n"
	})
	assert.Equal(t, first, generation(t, "debian"))
	reload(standardRegistry().text, "reloaded")
	untouched()
	eventually(t, "the login is gone", func() bool { return run(t, login, ask{as: spares[0], cmd: "id"}).status == 125 })

	l.in.Close()
	assert.Zero(t, l.wait().status)
}

// TestFaultStaysWithWhoeverMadeIt: an error in the entry of one jail is the end of no
// other, neither at a reload nor at a new start, and its user is told.
func TestFaultStaysWithWhoeverMadeIt(t *testing.T) {
	reg := standardRegistry()
	s := own(t, reg)
	l := open(t, login, ask{cmd: "while read x; do echo got $x; done"})
	l.send("one\n")
	l.expect("got one\n")
	bad := strings.Replace(reg.text, "[jail.debian]", "[jail.debian]\ncolour = \"blue\"", 1)
	require.NotEqual(t, reg.text, bad)
	require.NoError(t, os.WriteFile(registryPath, []byte(bad), 0o644))
	r := runCommand(t, exec.Command(initPath, "reload"), nil)
	assert.Equal(t, 2, r.status)
	assert.Contains(t, r.stderr, "jail.debian.colour: ")

	told := func() {
		t.Helper()
		from := int64(len(contents(world.log("serve.log"))))
		r := run(t, login, ask{cmd: "id"})
		assert.Equal(t, 125, r.status)
		assert.Contains(t, r.stderr, "this login is out of service: an error in the jail's registry entry; the administrator finds it with: jail check")
		id := idIn(t, r.stderr[strings.LastIndex(r.stderr, "jail check"):])
		eventually(t, "the log has the id and the reason", func() bool {
			tail := world.tail("serve.log", from)
			return strings.Contains(tail, "id="+id+" ") && strings.Contains(tail, "jail.debian.colour: ")
		})
		assert.Equal(t, result{stdout: "in\n"}, run(t, login, ask{as: centos, cmd: "echo in"}))
		assert.Equal(t, "faulty", stateInPS(t, "debian"))
		assert.Contains(t, runCommand(t, exec.Command(initPath, "ps", "debian"), nil).stdout, "jail.debian.colour: ")
	}
	told()
	l.send("two\n")
	l.expect("got two\n")
	s.kill(syscall.SIGTERM)
	require.NoError(t, s.start())
	told()
	l.send("three\n")
	l.expect("got three\n")

	require.NoError(t, os.WriteFile(registryPath, []byte(reg.text), 0o644))
	assert.Equal(t, result{}, runCommand(t, exec.Command(initPath, "reload"), nil))
	eventually(t, "the login lands in the running jail again", func() bool { return run(t, login, ask{cmd: "true"}).status == 0 })
	l.send("four\n")
	l.expect("got four\n")
	l.in.Close()
	assert.Zero(t, l.wait().status)
}

// A mistake in the main file concerns everything that is new, and nobody who is in
// force: not at a reload, nor when serve or the machine starts anew.
func TestMistakeInTheMainFile(t *testing.T) {
	reg := standardRegistry()
	s := own(t, reg)
	well := func(when string) {
		t.Helper()
		for _, a := range []account{work, centos} {
			assert.Equal(t, result{stdout: "in\n"}, run(t, login, ask{as: a, cmd: "echo in"}), when)
		}
	}
	well("before")
	require.NoError(t, os.WriteFile(registryPath, []byte(reg.text+"\n[jail.\n"), 0o644))
	r := runCommand(t, exec.Command(initPath, "reload"), nil)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, registryPath+":")
	well("after a reload")
	for _, start := range []string{"serve", "the machine"} {
		s.kill(syscall.SIGTERM)
		if start == "the machine" { // which empties /run
			require.NoError(t, command(initPath, "stop", "--all"))
			require.NoError(t, os.Remove("/run/jail/registry"))
		}
		from := int64(len(contents(world.log("serve.log"))))
		require.NoError(t, s.start())
		well("after a start of " + start)
		tail := world.tail("serve.log", from)
		assert.Contains(t, tail, "error: the registry cannot be used: "+registryPath+":")
		assert.Contains(t, tail, "what was in force before stays in force")
	}
	require.NoError(t, os.WriteFile(registryPath, []byte(reg.text), 0o644))
	assert.Equal(t, result{}, runCommand(t, exec.Command(initPath, "reload"), nil))
	well("mended")
}

// dialSocket connects to a login's socket with that login's uid.
func dialSocket(t *testing.T, a account, uid int) (int, error) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	err = onAThreadAs(uid, func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: socketPath(a)}) })
	t.Cleanup(func() { unix.Close(fd) })
	return fd, err
}

// Whatever comes over a login's socket that is not a request, the connection
// is closed, and nothing else happens.
// Every kind of fault that is one jail's, login's or drop-in's: all others have their
// keys and their sessions, after a reload and after a new start, and nobody lands
// where the fault is.
func TestFaultsOfManyKinds(t *testing.T) {
	reg := standardRegistry()
	dropin := filepath.Join(filepath.Dir(registryPath), "jail.d", "fault.toml")
	require.NoError(t, os.MkdirAll(filepath.Dir(dropin), 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(filepath.Dir(dropin))) })
	s := own(t, reg)
	keys := func(login string) result {
		return runCommand(t, exec.Command(keysPath, "--", login), nil)
	}
	good := keys(work.login)
	require.NotEmpty(t, good.stdout)
	spare := fmt.Sprintf("users = [%q]\nuid = 61001\n", spares[0].login)
	for claim, row := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"not TOML":                    {"version = 1\n[jail.x\n", 0o644},
		"another version":             {"version = 9\n[jail.x]\nrootfs = \"/srv/jails/x\"\n" + spare, 0o644},
		"a hand on the file":          {"version = 1\n[jail.x]\nrootfs = \"/srv/jails/x\"\nusers = [\"debian\"]\n", 0o664},
		"an account that is no more":  {"version = 1\n[jail.x]\nrootfs = \"/srv/jails\"\nusers = [\"nosuchlogin\"]\n", 0o644},
		"no root directory":           {"version = 1\n[jail.x]\nrootfs = \"/srv/jails/nosuch\"\n" + spare, 0o644},
		"a root directory around all": {"version = 1\n[jail.x]\nrootfs = \"/srv/jails\"\n" + spare, 0o644},
		"a mount of another's":        {"version = 1\n[jail.x]\nrootfs = \"/var/lib/jail/empty-home\"\nmounts = [ { source = \"" + debianRoot + "\", target = \"/x\" } ]\n" + spare, 0o644},
	} {
		t.Run(claim, func(t *testing.T) {
			require.NoError(t, os.WriteFile(dropin, []byte(row.text), 0o644))
			require.NoError(t, os.Chmod(dropin, row.mode))
			check := runCommand(t, exec.Command(initPath, "check"), nil)
			assert.Equal(t, 1, check.status)
			assert.Contains(t, check.stdout, "error: "+dropin)
			r := runCommand(t, exec.Command(initPath, "reload"), nil)
			assert.Equal(t, 2, r.status, "%s", r.stderr)
			holds := func(when string) {
				assert.Equal(t, good, keys(work.login), when)
				assert.Empty(t, keys(spares[0].login).stdout, when)
				assert.Equal(t, result{stdout: "in\n"}, run(t, login, ask{cmd: "echo in"}), when)
				assert.Equal(t, result{stdout: "in\n"}, run(t, login, ask{as: centos, cmd: "echo in"}), when)
			}
			holds("after a reload")
			s.kill(syscall.SIGTERM)
			require.NoError(t, s.start())
			holds("after a new start")
		})
	}
	require.NoError(t, os.Remove(dropin))
	assert.Zero(t, runCommand(t, exec.Command(initPath, "reload"), nil).status)
}

// Half an installation starts nothing, and says what is missing.
func TestPID1IsNotInstalled(t *testing.T) {
	alone(t)
	require.NoError(t, os.Rename(pid1Path, pid1Path+".away"))
	t.Cleanup(func() { require.NoError(t, os.Rename(pid1Path+".away", pid1Path)) })
	require.NoError(t, os.WriteFile(registryPath, []byte(standardRegistry().text), 0o644))
	says := pid1Path + ": the program of the jails' first process is missing; install it as make install does\n"
	for _, args := range [][]string{{"serve"}, {"run", "-u", "61000", "-r", busyboxRoot}} {
		r := runCommand(t, exec.Command("timeout", append([]string{"20", initPath}, args...)...), nil)
		assert.Equal(t, 1, r.status, args)
		assert.Empty(t, r.stdout, args)
		assert.Equal(t, 1, strings.Count(r.stderr, "\n"), "%v: %s", args, r.stderr)
		assert.True(t, strings.HasSuffix(r.stderr, says), "%v: %s", args, r.stderr)
	}
	assert.Contains(t, runCommand(t, exec.Command(initPath, "check"), nil).stdout, "error: "+pid1Path+": does not exist, so no jail starts")
}

func TestMalformedRequests(t *testing.T) {
	standard(t)
	l := open(t, login, ask{cmd: "while read x; do echo got $x; done"})
	l.send("one\n")
	l.expect("got one\n")
	first := generation(t, "debian")

	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(null)
	rights := func(n int) []byte {
		fds := make([]int, n)
		for i := range fds {
			fds[i] = null
		}
		return unix.UnixRights(fds...)
	}
	for claim, packet := range map[string]struct{ data, control []byte }{
		"one byte":                  {[]byte{1}, nil},
		"noise":                     {[]byte("GET / HTTP/1.0\r\n\r\n"), nil},
		"another version":           {[]byte{99, 1, 0, 0}, nil},
		"a message out of turn":     {[]byte{1, 3, 0, 0, 0, 0, 0, 0}, nil},
		"an unknown type":           {[]byte{1, 200, 0, 0}, nil},
		"a request without a body":  {[]byte{1, 1, 0, 0}, nil},
		"a request of nothing":      {append([]byte{1, 1, 0, 0}, make([]byte, 200)...), nil},
		"huge":                      {append([]byte{1, 1, 0, 0}, make([]byte, 150_000)...), nil},
		"lengths that run over":     {append([]byte{1, 1, 0, 0}, []byte(strings.Repeat("\xff", 300))...), nil},
		"descriptors with noise":    {[]byte("x"), rights(3)},
		"more descriptors than fit": {[]byte{1, 1, 0, 0}, rights(200)},
		"the administrator's stop":  {[]byte{1, 18, 0, 0, 0, 0, 0, 0}, nil},
		"the administrator's exec":  {[]byte{1, 22, 0, 0, 0, 0, 0, 0}, nil},
		"the launcher's setup":      {append([]byte{1, 32, 0, 0}, make([]byte, 100)...), rights(1)},
		"an answer, not a question": {[]byte{1, 2, 0, 0, 0, 0, 0, 0}, nil},
	} {
		t.Run(claim, func(t *testing.T) {
			fd, err := dialSocket(t, work, work.id)
			require.NoError(t, err)
			require.NoError(t, unix.Sendmsg(fd, packet.data, packet.control, nil, 0))
			assertClosed(t, fd)
		})
	}
	t.Run("nothing at all", func(t *testing.T) {
		fd, err := dialSocket(t, work, work.id)
		require.NoError(t, err)
		assertClosed(t, fd)
	})
	t.Run("another uid", func(t *testing.T) {
		_, err := dialSocket(t, work, centos.id)
		assert.ErrorIs(t, err, unix.EACCES)
	})

	l.send("two\n")
	l.expect("got two\n")
	l.in.Close()
	assert.Zero(t, l.wait().status)
	assert.Zero(t, run(t, login, ask{cmd: "true"}).status)
	assert.Equal(t, first, generation(t, "debian"))
}

// assertClosed waits for the end of a connection; a refusal may come first.
func assertClosed(t *testing.T, fd int) {
	t.Helper()
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	buffer := make([]byte, 1<<10)
	for range 3 {
		n, err := unix.Read(fd, buffer)
		if n == 0 && err == nil || err == unix.ECONNRESET {
			return
		}
		require.NoError(t, err, "still open")
	}
	t.Fatal("the connection talks on")
}

// A client that connects and says nothing keeps nobody else out.
func TestSilentConnections(t *testing.T) {
	standard(t)
	for range 100 {
		if _, err := dialSocket(t, work, work.id); err != nil {
			// The listen queue may be full; that must not last.
			assert.ErrorIs(t, err, unix.EAGAIN)
		}
	}
	assert.Zero(t, run(t, login, ask{cmd: "true"}).status)
}
