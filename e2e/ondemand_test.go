package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// generation tells one start of a jail from the next. It fails the test unless
// the jail runs exactly once.
func generation(t *testing.T, name string) string {
	t.Helper()
	pids := jailPIDs(name)
	require.Len(t, pids, 1, "jail %s", name)
	return fmt.Sprintf("%d/%s", pids[0], processes()[pids[0]].start)
}

func TestNothingRunsBeforeTheFirstLogin(t *testing.T) {
	s := own(t, standardRegistry())
	for _, name := range s.registry.jails {
		assert.Empty(t, jailPIDs(name))
	}
	// Asking for keys starts nothing, whatever the answer.
	world.client(t, forced, centos)
	assert.Empty(t, jailPIDs("centos"))
	assert.Zero(t, run(t, login, ask{cmd: "true"}).status)
	assert.Len(t, jailPIDs("debian"), 1)
	assert.Empty(t, jailPIDs("centos"), "the other one's login has not come")
}

func TestCase48ParallelFirstLogins(t *testing.T) {
	own(t, standardRegistry())
	world.client(t, login, work) // so that the sessions do not wait for each other's connection
	from := int64(len(contents(world.log("serve.log"))))
	var wait sync.WaitGroup
	results := make([]result, 50)
	for i := range results {
		wait.Go(func() { results[i] = run(t, login, ask{cmd: "readlink /proc/self/ns/pid", wire: true}) })
	}
	wait.Wait()
	for _, r := range results {
		assert.Equal(t, results[0], r, "one jail for all")
		assert.Zero(t, r.status)
		assert.Contains(t, r.stdout, "pid:[")
	}
	assert.Len(t, jailPIDs("debian"), 1)
	said := func() int { return strings.Count(contents(world.log("serve.log"))[from:], "jail debian started") }
	eventually(t, "serve has said it", func() bool { return said() > 0 })
	assert.Equal(t, 1, said())
}

func TestServeKilled(t *testing.T) {
	s := own(t, standardRegistry())
	l := open(t, login, ask{cmd: "while read x; do echo got $x; done; exit 8"})
	l.send("one\n")
	l.expect("got one\n")
	first := generation(t, "debian")

	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			s.kill(signal)
			l.send("two\n")
			l.expect("got two\n")
			assert.Equal(t, result{stdout: "in\n"}, run(t, login, ask{cmd: "echo in"}), "a login to the running jail, without serve")
			r := run(t, login, ask{as: centos, cmd: "true"})
			assert.Equal(t, 125, r.status, "the stopped one cannot start now")
			assert.NotEmpty(t, r.stderr)

			require.NoError(t, s.start())
			l.send("three\n")
			l.expect("got three\n")
			assert.Equal(t, result{stdout: "in\n"}, run(t, login, ask{cmd: "echo in"}))
			assert.Equal(t, first, generation(t, "debian"), "the new serve finds the running jail")
			assert.Zero(t, run(t, login, ask{as: centos, cmd: "true"}).status, "and starts the stopped one")
			require.NoError(t, command(initPath, "stop", "centos"))
		})
	}
	l.in.Close()
	assert.Equal(t, 8, l.wait().status)

	// The adopted jail can be stopped, and starts again for the next login.
	require.NoError(t, command(initPath, "stop", "debian"))
	assert.Empty(t, jailPIDs("debian"))
	assert.Zero(t, run(t, login, ask{cmd: "true"}).status)
	assert.NotEqual(t, first, generation(t, "debian"))
}

func TestSecondServe(t *testing.T) {
	own(t, standardRegistry())
	require.Zero(t, run(t, login, ask{cmd: "true"}).status)
	first := generation(t, "debian")
	r := runCommand(t, exec.Command(initPath, "serve"), nil)
	assert.NotZero(t, r.status)
	assert.NotEmpty(t, r.stderr)
	assert.Zero(t, run(t, login, ask{cmd: "true"}).status)
	assert.Equal(t, first, generation(t, "debian"), "the first one is not disturbed")
}

// PID 1 of a jail dies: every client learns of it at once.
func TestCase49JailKilled(t *testing.T) {
	own(t, standardRegistry())
	withoutTTY := open(t, forced, ask{cmd: "echo ready; sleep 4949"})
	onTerminal := open(t, login, onTTY("echo ready; sleep 4949"))
	withoutTTY.expect("ready\n")
	onTerminal.expect("ready\r\n")
	first := generation(t, "debian")

	for _, pid := range jailPIDs("debian") {
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	}
	const reason = "jail-enter: the jail has stopped"
	r := onTerminal.wait()
	assert.Equal(t, 125, r.status)
	assert.Contains(t, r.stdout, reason)
	r = withoutTTY.wait()
	assert.Equal(t, 125, r.status)
	assert.Contains(t, r.stderr, reason)
	terminated(t, "sleep 4949")

	assert.Equal(t, result{}, run(t, login, ask{cmd: "true"}))
	assert.NotEqual(t, first, generation(t, "debian"), "a fresh jail")
}

func TestJailEnterKilled(t *testing.T) {
	standard(t)
	victim := func(t *testing.T) int {
		for _, p := range running("jail-enter") {
			if uidOf(p.pid) == work.id {
				return p.pid
			}
		}
		t.Fatal("no jail-enter runs")
		return 0
	}
	t.Run("on a terminal the session is hung up", func(t *testing.T) {
		note := inHome(t, login, "case49")
		l := open(t, login, onTTY("trap 'echo hangup >case49; exit' HUP; echo ready; while :; do read -t 0.01; done"))
		l.expect("ready\r\n")
		require.NoError(t, unix.Kill(victim(t), unix.SIGKILL))
		assert.Equal(t, "KILL", l.wait().signal)
		eventually(t, "the session was hung up", func() bool { return contents(note) == "hangup\n" })
	})
	t.Run("without one the command is killed", func(t *testing.T) {
		l := open(t, login, ask{cmd: "echo ready; exec sleep 4950"})
		l.expect("ready\n")
		require.NoError(t, unix.Kill(victim(t), unix.SIGKILL))
		assert.Equal(t, "KILL", l.wait().signal)
		terminated(t, "sleep 4950")
	})
}

// A login that comes while the jail is coming to its end waits for the next
// start of it. Here the end takes as long as stop allows: something inside
// does not want to go.
func TestCase50LoginWhileStopping(t *testing.T) {
	own(t, standardRegistry())
	l := open(t, login, ask{cmd: "trap 'echo stopping' HUP; trap '' TERM; echo ready; while :; do read -t 1; done"})
	l.expect("ready\n")
	first := generation(t, "debian")

	stop := exec.Command(initPath, "stop", "--grace", "1s", "debian")
	stop.Stderr = os.Stderr
	require.NoError(t, stop.Start())
	l.expect("stopping\n")
	assert.Equal(t, "stopping", stateInPS(t, "debian"))
	var wait sync.WaitGroup
	results := make([]result, 10)
	for i := range results {
		wait.Go(func() { results[i] = run(t, login, ask{cmd: "echo served", wire: true}) })
	}
	wait.Wait()
	require.NoError(t, stop.Wait())
	l.wait()
	for _, r := range results {
		assert.Equal(t, result{stdout: "served\n"}, r)
	}
	assert.NotEqual(t, first, generation(t, "debian"))
}

// stateInPS is what jail-init ps says of a jail.
func stateInPS(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(runCommand(t, exec.Command(initPath, "ps"), nil).stdout) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			return fields[1]
		}
	}
	return ""
}

func TestPS(t *testing.T) {
	own(t, standardRegistry())
	assert.Equal(t, "stopped", stateInPS(t, "debian"))
	l := open(t, login, ask{cmd: "echo ready; cat"})
	l.expect("ready\n")
	assert.Equal(t, "running", stateInPS(t, "debian"))
	assert.Equal(t, "stopped", stateInPS(t, "centos"))
	assert.Regexp(t, `^JAIL[^\n]*\ndebian +running [^\n]*\n\n`+
		`runs because of +sessions, with processes \d+ \(\w+\)[^\n]*\nPID 1 +\d+, of the installed build\nsessions +1, and 1 since its start\n`+
		`processes +\d+\nmemory +[\d.]+ [KM]iB[^\n]*\ncpu +[\d.]+m?s since its start\n(limits|$)`,
		runCommand(t, exec.Command(initPath, "ps", "debian"), nil).stdout)
	l.in.Close()
	assert.Zero(t, l.wait().status)
	eventually(t, "the jail is idle", func() bool { return stateInPS(t, "debian") == "idle" })

	one := runCommand(t, exec.Command(initPath, "ps", "centos"), nil)
	assert.Regexp(t, `^JAIL[^\n]*\ncentos +stopped [^\n]*\n$`, one.stdout)
	for _, verb := range []string{"ps", "stop"} {
		r := runCommand(t, exec.Command(initPath, verb, "nosuch"), nil)
		assert.Equal(t, result{status: 1, stderr: "jail-init: no jail \"nosuch\" in " + registryPath + ", and none of that name runs\n"}, r, verb)
	}
}

// A jail that runs under the name it had before is not the one it will be.
func TestPSOfARenamedJail(t *testing.T) {
	reg := oneJail("old", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id))
	own(t, reg)
	require.Zero(t, run(t, login, ask{as: centos, cmd: "true"}).status)
	t.Cleanup(func() { command(initPath, "stop", "old") })
	require.NoError(t, os.WriteFile(registryPath, []byte(strings.Replace(reg.text, "[jail.old]", "[jail.new]", 1)), 0o644))
	require.NoError(t, command(initPath, "reload"))
	ps := runCommand(t, exec.Command(initPath, "ps"), nil).stdout
	assert.Regexp(t, `(?m)^old +(idle|running) +\d+ `, ps)
	assert.Regexp(t, `(?m)^new +stopped +- .*its root directory is in use by old$`, ps)
}

// Whether somebody listens for a login is found out without a connection, which serve
// would take for the login.
func TestProbesStartNothing(t *testing.T) {
	name := fmt.Sprint("u", centos.id)
	reg := oneJail(name, busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id))
	own(t, reg)
	require.Zero(t, run(t, login, ask{as: centos, cmd: "true"}).status)
	from := int64(len(contents(world.log("serve.log"))))
	require.NoError(t, command(initPath, "stop", name))
	r := runCommand(t, exec.Command(initPath, "run", "-u", fmt.Sprint(centos.id), "-r", busyboxRoot), nil)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "somebody listens for uid")
	require.NoError(t, command(initPath, "ps", name))
	// serve has dealt with all that came before its answer.
	require.NoError(t, command(initPath, "reload"))
	require.NoError(t, command(initPath, "reload"))
	assert.NotContains(t, world.tail("serve.log", from), "started: pid")
	assert.Empty(t, jailPIDs(name))
}

// Nobody is left to tidy up behind a jail without a supervisor but who stops it.
func TestStopTidiesUp(t *testing.T) {
	alone(t)
	name := fmt.Sprint("u", centos.id)
	require.NoError(t, command(initPath, "run", "-u", fmt.Sprint(centos.id), "-r", busyboxRoot))
	t.Cleanup(func() { command(initPath, "stop", name) })
	require.Zero(t, run(t, login, ask{as: centos, cmd: "true"}).status)
	require.FileExists(t, socketPath(centos))
	require.NoError(t, command(initPath, "stop", name))
	assert.Empty(t, jailPIDs(name))
	for _, path := range []string{socketPath(centos), "/run/jail/ctl/" + name} {
		_, err := os.Lstat(path)
		assert.ErrorIs(t, err, os.ErrNotExist)
	}
}

// TestDeadFileSystem: one jail's root directory is on a file system that does not
// answer. Nobody else notices.
func TestDeadFileSystem(t *testing.T) {
	const place = "/srv/jails/dead"
	require.NoError(t, os.MkdirAll(place, 0o755))
	reg := standardRegistry()
	reg.text += "\n[jail.dead]\nrootfs = \"" + place + "\"\nusers = [\"spare1\"]\n"
	own(t, reg)
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Mount("dead", place, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse)))
	t.Cleanup(func() {
		unix.Close(fuse) // who waits is told that nobody answers
		require.NoError(t, unix.Unmount(place, unix.MNT_DETACH))
		require.NoError(t, os.Remove(place))
	})
	// Somebody waits for the dead one, and whatever touches it hangs.
	dead := exec.Command(initPath, "exec", "dead", "true")
	require.NoError(t, dead.Start())
	t.Cleanup(func() { dead.Process.Kill(); dead.Wait() })
	reload := exec.Command(initPath, "reload")
	require.NoError(t, reload.Start())

	assert.Equal(t, result{stdout: "in\n"}, run(t, login, ask{cmd: "echo in"}), "a cold login of another jail")
	assert.Equal(t, "idle", stateInPS(t, "debian"))
	assert.Contains(t, []string{"stopped", "faulty"}, stateInPS(t, "dead"), "before and after the reload")
	assert.Equal(t, result{stdout: "in\n"}, runCommand(t, exec.Command(initPath, "exec", "centos", "echo", "in"), nil))
	for _, name := range []string{"debian", "centos"} {
		assert.NoError(t, command(initPath, "stop", name))
	}
	assert.Equal(t, result{stdout: "in\n"}, run(t, login, ask{cmd: "echo in"}), "and once more")
	assert.Error(t, reload.Wait(), "not all of it can be in force")
	assert.Equal(t, "faulty", stateInPS(t, "dead"))
}

// TestRun is serve's jail without serve.
func TestRun(t *testing.T) {
	reg := oneJail("alone", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id))
	alone(t)
	require.NoError(t, os.WriteFile(registryPath, []byte(reg.text), 0o644))
	begin := func() (*exec.Cmd, chan error) {
		t.Helper()
		cmd := exec.Command(initPath, "run", "alone")
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		eventually(t, "it runs", func() bool { return stateInPS(t, "alone") == "idle" })
		return cmd, ended
	}
	cmd, ended := begin()
	assert.Equal(t, result{stdout: "in\n"}, run(t, login, ask{as: centos, cmd: "echo in"}))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, <-ended)
	assert.Empty(t, jailPIDs("alone"))
	assert.NoFileExists(t, socketPath(centos))

	// A PID 1 that does not listen is killed when its time is over, or by the second
	// signal.
	cmd, ended = begin()
	require.NoError(t, syscall.Kill(jailPIDs("alone")[0], syscall.SIGSTOP))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	select {
	case err := <-ended:
		assert.NoError(t, err)
	case <-time.After(deadline):
		t.Fatal("it goes on")
	}
	assert.Empty(t, jailPIDs("alone"))

	_, ended = begin()
	require.NoError(t, syscall.Kill(jailPIDs("alone")[0], syscall.SIGKILL))
	var exit *exec.ExitError
	require.ErrorAs(t, <-ended, &exit)
	assert.Equal(t, 1, exit.ExitCode())
}

// Logins and stops at random: every login is served by one jail or the next.
func TestStopAndLoginRace(t *testing.T) {
	own(t, standardRegistry())
	world.client(t, login, work)
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				err := command(initPath, "stop", "--grace", "100ms", "debian")
				if err != nil && !strings.Contains(err.Error(), "not running") {
					t.Error(err)
				}
			}
		}
	})
	for range 100 {
		r := run(t, login, ask{cmd: "echo served", wire: true})
		// A session may be ended by the stop it met, but never refused.
		if r.signal == "" && r.status != 125 {
			assert.Equal(t, result{stdout: "served\n"}, r)
		} else {
			assert.NotContains(t, r.stderr, "cannot enter", "%+v", r)
		}
		assert.LessOrEqual(t, len(jailPIDs("debian")), 1)
	}
	close(done)
	wait.Wait()
}

func TestIdleTimeout(t *testing.T) {
	reg := oneJail("idle", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id), `idle_timeout = "1s"`)
	own(t, reg)
	require.Equal(t, result{}, run(t, login, ask{as: centos, cmd: "true"}))
	// A process that is coming to its end has no name any more; serve waits for it.
	ended := func() bool {
		_, err := os.Stat("/run/jail/ctl/idle")
		return os.IsNotExist(err) && len(jailPIDs("idle")) == 0
	}
	eventually(t, "the jail has gone idle and ended", ended)
	eventually(t, "the log says why", func() bool {
		return regexp.MustCompile(`jail idle ended after [^:]*: idle\n`).MatchString(contents(world.log("serve.log")))
	})

	began := time.Now()
	require.Equal(t, result{}, run(t, login, ask{as: centos, cmd: "sleep 2 >/dev/null 2>&1 </dev/null &"}))
	eventually(t, "it has ended again", ended)
	assert.Greater(t, time.Since(began), 2*time.Second, "not while a process of the tenant's runs")
}

// The start fails: one line for the user with an id that leads to the log's
// line, and no shell of the host's.
func TestNoJailToBeHad(t *testing.T) {
	reg := oneJail("broken", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id))
	own(t, reg)
	from := int64(len(contents(world.log("serve.log"))))
	away := busyboxRoot + ".away"
	require.NoError(t, os.Rename(busyboxRoot, away))
	r := run(t, login, ask{as: centos, cmd: "id"})
	tty := run(t, login, ask{as: centos, shell: true, tty: xterm(), wire: true})
	require.NoError(t, os.Rename(away, busyboxRoot))

	assert.Equal(t, 125, r.status)
	assert.Equal(t, 125, tty.status)
	assert.Empty(t, r.stdout)
	assert.Regexp(t, `^jail-enter: cannot [^\n]*\n$`, r.stderr)
	assert.NotContains(t, r.stderr, busyboxRoot, "no path of the host's")
	id := idIn(t, r.stderr)
	eventually(t, "the log has the id", func() bool { return strings.Contains(world.tail("serve.log", from), id) })

	// The back-off is short enough for the next try of a person.
	eventually(t, "the jail can be had again", func() bool { return run(t, login, ask{as: centos, cmd: "true"}).status == 0 })
}

// idIn finds the short id in a line for the user.
func idIn(t *testing.T, line string) string {
	t.Helper()
	_, after, ok := strings.Cut(line, "id ")
	if !ok {
		_, after, ok = strings.Cut(line, "id=")
	}
	require.True(t, ok, "an id in %q", line)
	id := strings.FieldsFunc(after, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyz", r) })
	require.NotEmpty(t, id, "an id in %q", line)
	return id[0]
}

// The administrator's way in, which starts a stopped jail like a login.
func TestExec(t *testing.T) {
	own(t, standardRegistry())
	run := func(args ...string) (string, int) {
		cmd := exec.Command(initPath, append([]string{"exec"}, args...)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, status := run("debian", "sh", "-c", `id -u; echo "$1"; exit 3`, "sh", "a  b")
	assert.Equal(t, "0\na  b\n", out)
	assert.Equal(t, 3, status)
	out, status = run("-u", "61001", "debian", "id", "-un")
	assert.Equal(t, "work\n", out)
	assert.Zero(t, status)
	_, status = run("nosuchjail", "true")
	assert.Equal(t, 1, status)
}

// TestSilentPID1: a PID 1 that does not answer cannot keep its jail alive, nor hide
// that it is.
func TestSilentPID1(t *testing.T) {
	s := own(t, standardRegistry())
	require.Zero(t, run(t, login, ask{cmd: "true"}).status)
	pids := jailPIDs("debian")
	require.Len(t, pids, 1)
	require.NoError(t, syscall.Kill(pids[0], syscall.SIGSTOP))
	ps := runCommand(t, exec.Command(initPath, "ps"), nil)
	assert.Regexp(t, fmt.Sprintf(`(?m)^debian +silent +%d +- `, pids[0]), ps.stdout)
	assert.Regexp(t, `(?m)^centos +stopped +- `, ps.stdout)
	assert.NoError(t, command(initPath, "stop", "debian"))
	assert.Empty(t, jailPIDs("debian"))
	eventually(t, "a login starts it anew", func() bool { return run(t, login, ask{cmd: "true"}).status == 0 })
	assert.Error(t, command(initPath, "stop", "centos"), "it does not run")

	pids = jailPIDs("debian")
	require.Len(t, pids, 1)
	require.NoError(t, syscall.Kill(pids[0], syscall.SIGSTOP))
	s.kill(syscall.SIGINT)
	assert.Empty(t, jailPIDs("debian"), "serve that ends its jails ends this one")
}
