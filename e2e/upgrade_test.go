package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	gosftp "github.com/pkg/sftp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// build is a set of our programs, in a directory that logins may execute from.
type build struct{ name, dir string }

// newBuild copies programs to where logins can execute them.
func newBuild(t *testing.T, name, from string) build {
	t.Helper()
	b := build{name, filepath.Join("/usr/local/lib/jail-builds", name)}
	require.NoError(t, os.MkdirAll(b.dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(b.dir)) })
	for _, program := range programNames() {
		if _, err := os.Stat(filepath.Join(from, program)); os.IsNotExist(err) && slices.Contains(laterPrograms, program) {
			continue
		}
		require.NoError(t, command("install", "-m", "0755", filepath.Join(from, program), b.dir))
	}
	return b
}

// laterPrograms are those that a build before need not have.
var laterPrograms = []string{"jail-import", "jail-net"}

// install puts the programs where they belong, as packages do: each under another name
// first, and renamed. What a build does not have is gone then.
func (b build) install(t *testing.T) {
	t.Helper()
	for program, path := range programs() {
		if _, err := os.Stat(filepath.Join(b.dir, program)); os.IsNotExist(err) && slices.Contains(laterPrograms, program) {
			require.NoError(t, os.RemoveAll(path))
			continue
		}
		require.NoError(t, command("install", "-m", "0755", filepath.Join(b.dir, program), path+".new"))
		require.NoError(t, os.Rename(path+".new", path))
	}
}

// isPID1 checks of which build the PID 1 of a running jail is.
func (b build) isPID1(t *testing.T, jail string) {
	t.Helper()
	pids := jailPIDs(jail)
	require.Len(t, pids, 1, "jail %s", jail)
	assert.True(t, contents(fmt.Sprintf("/proc/%d/exe", pids[0])) == contents(filepath.Join(b.dir, "jail-pid1")), "PID 1 of jail %s is of build %s", jail, b.name)
}

// TestUpgrade: programs are replaced and serve restarted while people work in jails. The
// build before this one is in JAIL_TEST_OLD ("make try-upgrade"), and then both ways are
// gone, up and down again. Without it this build, as other files, takes its own place.
func TestUpgrade(t *testing.T) {
	current := filepath.Join(world.scratch, "bin")
	before := filepath.Join(world.scratch, "old")
	if _, err := os.Stat(before); err == nil {
		t.Run("up", func(t *testing.T) {
			upgrade(t, newBuild(t, "before", before), newBuild(t, "this", current))
		})
		t.Run("down", func(t *testing.T) {
			upgrade(t, newBuild(t, "this", current), newBuild(t, "before", before))
		})
		return
	}
	this, again := newBuild(t, "this", current), newBuild(t, "again", current)
	// Nothing looks behind what the ELF header speaks of.
	require.NoError(t, appendFile(filepath.Join(again.dir, "jail-pid1"), "again"))
	upgrade(t, this, again)
}

func upgrade(t *testing.T, from, to build) {
	t.Cleanup(func() { build{dir: filepath.Join(world.scratch, "bin")}.install(t) })
	from.install(t)
	registryOf := func(more string) registry {
		return registry{
			text: fmt.Sprintf(`version = 1
[jail.brief]
rootfs = %q
users = [%q]
uid = %d
idle_timeout = "1s"
[jail.kept]
rootfs = %q
[jail.kept.users]
%s = { uid = %d }
%s`, busyboxRoot, centos.login, centos.id, debianRoot, work.login, work.id, more),
			jails: []string{"brief", "kept"},
			users: []account{centos, work},
		}
	}
	s := own(t, registryOf(""))

	shell := open(t, forced, ask{shell: true, tty: xterm(), wire: true})
	shell.toPrompt()
	pipes := open(t, login, ask{cmd: "while read x; do echo got $x; done; exit 8"})
	pipes.send("one\n")
	pipes.expect("got one\n")
	brief := open(t, login, ask{as: centos, cmd: "echo ready; cat; exit 9"})
	brief.expect("ready\n")
	kept, ending := generation(t, "kept"), generation(t, "brief")
	from.isPID1(t, "kept")

	to.install(t)
	well := func(t *testing.T) {
		shell.resize(33, 133)
		assert.Equal(t, "33 133\r\n", shell.enter("stty size"), "a terminal that was open before")
		pipes.send("more\n")
		pipes.expect("got more\n")
		require.Equal(t, kept, generation(t, "kept"), "the same PID 1")

		for _, d := range jailDoors {
			assert.Equal(t, result{stdout: "in\n", stderr: "err\n", status: 3}, run(t, d, ask{cmd: "cat; echo err >&2; exit 3", stdin: "in\n"}), d)
		}
		assert.Equal(t, result{stdout: "work\n"}, fresh(t, forced, ask{cmd: "id -un"}), "with keys that are looked up now")
		assert.Equal(t, "KILL", run(t, login, ask{cmd: "kill -9 $$", wire: true}).signal)
		same(t, onTTY("stty size; exit 4"))
		if to.name != "before" { // which lost it
			r := run(t, login, typed(typedAhead["a line and an end of file"].typed, typedAhead["a line and an end of file"].cmd))
			assert.Equal(t, 6, r.status)
			assert.Regexp(t, `(?s)abc\r\neof\r\n$`, r.stdout, "a PID 1 of before echoes it once more")
		}
		// A terminal that is hung up, and a signal that a client sends.
		l := open(t, login, onTTY("trap 'echo hup >upgrade.note; exit' HUP; echo ready; while :; do sleep 0.01; done"))
		note := inHome(t, login, "upgrade.note")
		l.expect("ready\r\n")
		require.NoError(t, l.session.Close())
		eventually(t, "it is hung up", func() bool { return contents(note) == "hup\n" })

		sftp, err := gosftp.NewClient(world.client(t, login, work))
		require.NoError(t, err)
		dir, err := sftp.Getwd()
		assert.NoError(t, err)
		assert.Equal(t, work.home, dir)
		require.NoError(t, sftp.Close())
	}
	t.Run("new programs, no serve", func(t *testing.T) {
		s.kill(syscall.SIGTERM)
		well(t)
	})
	require.NoError(t, s.start())
	t.Run("new programs, new serve", func(t *testing.T) {
		well(t)
		assert.Equal(t, "running", stateInPS(t, "kept"))
		r := runCommand(t, exec.Command(initPath, "exec", "-u", fmt.Sprint(work.id), "kept", "sh", "-c", "id -un; cat; exit 7"), strings.NewReader("in\n"))
		assert.Equal(t, result{stdout: "work\nin\n", status: 7}, r)
	})
	t.Run("a login comes and goes", func(t *testing.T) {
		reload := func(reg registry) {
			log := int64(len(contents(world.log("serve.log"))))
			require.NoError(t, os.WriteFile(registryPath, []byte(reg.text), 0o644))
			require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
			eventually(t, "serve has reloaded", func() bool { return strings.Contains(logSince(t, "serve.log", log), "reloaded") })
		}
		reload(registryOf(fmt.Sprintf("%s = { uid = %d }\n", argv.login, argv.id)))
		assert.Equal(t, result{stdout: quoted("argv", "-c", "x")}, runCommand(t, enter(argv, nil, "jail-enter", "-c", "x"), nil))
		reload(registryOf(""))
		r := runCommand(t, enter(argv, nil, "jail-enter", "-c", "x"), nil)
		assert.Equal(t, 125, r.status)
		assert.Empty(t, r.stdout)
	})
	t.Run("a jail that goes idle", func(t *testing.T) {
		require.Equal(t, ending, generation(t, "brief"))
		brief.in.Close()
		assert.Equal(t, 9, brief.wait().status)
		eventually(t, "it ends", func() bool { return len(jailPIDs("brief")) == 0 })
		l := open(t, login, ask{as: centos, cmd: "echo ready; cat"})
		l.expect("ready\n")
		to.isPID1(t, "brief")
		l.in.Close()
		assert.Zero(t, l.wait().status)
	})
	shell.send("exit 12\n")
	assert.Equal(t, 12, shell.wait().status)
	pipes.in.Close()
	assert.Equal(t, 8, pipes.wait().status)

	// The other program's verbs and its jail-enter, which somebody may still be running,
	// at a jail that is of this build altogether.
	t.Run("what is left of the other build", func(t *testing.T) {
		require.NoError(t, command(initPath, "stop", "kept"))
		shell := open(t, login, ask{shell: true, tty: xterm(), wire: true})
		shell.toPrompt()
		to.isPID1(t, "kept")
		assert.NotEqual(t, kept, generation(t, "kept"))
		left := func(as account, args ...string) *exec.Cmd {
			cmd := enter(as, []string{"TERM=xterm"}, args...)
			cmd.Path = filepath.Join(from.dir, "jail-enter")
			return cmd
		}
		assert.Equal(t, result{stdout: "in\n", status: 5}, runCommand(t, left(work, "jail-enter", "-c", "cat; exit 5"), strings.NewReader("in\n")))
		c := onConsole(t, left(work, "-jail-enter"))
		c.toPrompt()
		assert.Equal(t, "24 80\r\n", c.enter("stty size"))
		c.send("exit 6\n")
		assert.Equal(t, 6, c.wait())

		other := filepath.Join(from.dir, "jail-init")
		r := runCommand(t, exec.Command(other, "exec", "kept", "sh", "-c", "id -u; exit 7"), nil)
		assert.Equal(t, result{stdout: "0\n", status: 7}, r)
		r = runCommand(t, exec.Command(other, "ps"), nil)
		assert.Regexp(t, `(?m)^kept +running +`, r.stdout)
		require.NoError(t, command(other, "stop", "kept"))
		assert.Empty(t, jailPIDs("kept"))
		assert.NotZero(t, shell.wait().status)
	})
}
