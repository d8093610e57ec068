package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestCase33Home(t *testing.T) {
	standard(t)
	r := same(t, ask{cmd: "pwd; echo $HOME ~"})
	assert.Equal(t, "/home/work\n/home/work /home/work\n", r.stdout)
	// Their keys are not in their homes, so jail-keys has none for them.
	// The keys of the others are not in their homes, so jail-keys has none.
	for _, a := range []account{noHome, shutHome} {
		same := sameThrough(t, []door{login}, ask{as: a, cmd: "pwd; echo $HOME"}, "chroot")
		assert.Equal(t, "/\n"+a.home+"\n", same.stdout)
	}
}

func TestCase35Identity(t *testing.T) {
	standard(t)
	r := same(t, ask{cmd: "id; id -un; id -Gn; grep -E '^(Uid|Gid|Groups)' /proc/self/status"})
	assert.Contains(t, r.stdout, "uid=61001(work) gid=61001(work) groups=61001(work),62001(builders),62002(readers)\n")
	same(t, ask{cmd: "touch /tmp/case35; stat -c '%u %g %U %G %a' /tmp/case35 .; rm /tmp/case35"})
}

func TestCase36Shell(t *testing.T) {
	standard(t)
	for _, a := range []account{noShell, badShell, noLogin} {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			r := same(t, ask{as: a, cmd: "echo not reached"})
			assert.Equal(t, 1, r.status)
			assert.Equal(t, r, same(t, ask{as: a, shell: true}))
		})
	}
	t.Run("empty means sh", func(t *testing.T) {
		t.Parallel()
		r := same(t, ask{as: emptyShell, cmd: "echo $0 $SHELL $HOME"})
		assert.Equal(t, result{stdout: "sh /bin/sh /home/emptyshell\n"}, r)
		r = same(t, ask{as: emptyShell, shell: true, stdin: "echo $0\n"})
		assert.Equal(t, result{stdout: "-sh\n"}, r)
	})
}

func TestNobodyInside(t *testing.T) {
	own(t, oneJail("ghost", busyboxRoot, "[jail.ghost.users]", "spare1 = { uid = 4242 }"))
	r := run(t, login, ask{as: spares[0], cmd: "id"})
	assert.Equal(t, 125, r.status)
	assert.Empty(t, r.stdout)
	assert.Regexp(t, `^jail-enter: cannot .*4242.*passwd.*\n$`, r.stderr)
}

// Several logins share a jail; each is who the registry says.
func TestRegistryIdentities(t *testing.T) {
	bob := filepath.Join(busyboxRoot, "home/bob")
	require.NoError(t, os.Mkdir(bob, 0o755))
	require.NoError(t, os.Chown(bob, 1001, 1002))
	t.Cleanup(func() { os.RemoveAll(bob) })
	own(t, oneJail("shared", busyboxRoot, `hostname = "shared-host"`, "[jail.shared.users]",
		"spare1 = { uid = 61000 }",
		`spare2 = { uid = 1001, gid = 1002, name = "bob", shell = "/bin/ash", home = "/home/bob" }`,
		`spare3 = { uid = 61000, home = "/tmp", name = "other" }`))
	const who = "id -u; id -g; echo $USER $LOGNAME $HOME $SHELL; pwd; hostname"
	for i, want := range []string{
		"61000\n61000\nwork work /home/work /bin/sh\n/home/work\nshared-host\n",
		"1001\n1002\nbob bob /home/bob /bin/ash\n/home/bob\nshared-host\n",
		"61000\n61000\nother other /tmp /bin/sh\n/tmp\nshared-host\n",
	} {
		assert.Equal(t, result{stdout: want}, run(t, login, ask{as: spares[i], cmd: who}), "%s", spares[i].login)
	}
	l := open(t, login, ask{as: spares[0], cmd: "echo here; cat"})
	l.expect("here\n")
	r := run(t, login, ask{as: spares[1], cmd: "ps; echo x >mine; stat -c '%u %g' mine"})
	assert.Contains(t, r.stdout, "cat\n", "one jail, one process list")
	assert.True(t, strings.HasSuffix(r.stdout, "\n1001 1002\n"), "%q", r.stdout)
	l.in.Close()
	assert.Zero(t, l.wait().status)
}

// idModes are the ways a jail's ids can relate to the host's.
var idModes = map[string]string{
	"userns auto":  `userns = "auto"`,
	"userns fixed": `userns = { base = 300000000, size = 65536 }`,
	"no userns":    `userns = false`,
}

func TestIDModes(t *testing.T) {
	for name, mode := range idModes {
		t.Run(name, func(t *testing.T) {
			own(t, oneJail("ids", debianRoot, mode, "[jail.ids.users]",
				fmt.Sprintf("debian = { uid = %d }", work.id), `spare1 = { uid = 61034, name = "elsewhere", shell = "/bin/bash", home = "/tmp" }`))
			mine := inHome(t, login, "idmode")
			for _, d := range jailDoors {
				r := run(t, d, ask{cmd: "id -u; touch idmode; stat -c '%u %g' idmode /; exit 3"})
				assert.Equal(t, result{stdout: "61001\n61001 61001\n0 0\n", status: 3}, r, "%s", d)
			}
			var st unix.Stat_t
			require.NoError(t, unix.Stat(mine, &st))
			assert.Equal(t, [2]uint32{61001, 61001}, [2]uint32{st.Uid, st.Gid}, "on disk, ids are what they are inside")

			pids := jailPIDs("ids")
			require.Len(t, pids, 1)
			ours, theirs := userNamespace(t, os.Getpid()), userNamespace(t, pids[0])
			if mode == idModes["no userns"] {
				assert.Equal(t, ours, theirs)
			} else {
				assert.NotEqual(t, ours, theirs)
				assertHostRootUnmapped(t, pids[0])
			}
			t.Run("Case54", func(t *testing.T) {
				// Another uid inside than on the host.
				a := ask{as: spares[0], cmd: reopen + "id -u", stdin: "in\n"}
				r := run(t, login, a)
				assert.Equal(t, result{stdout: "stdout\nagain\nfd1\nin\n61034\n", stderr: "stderr\nfd2\n"}, r)
				a = onTTY("stat -c '%u %G %a' $(tty); echo reopened >/dev/stdout; touch /tmp/case54; stat -c %u /tmp/case54; rm /tmp/case54")
				a.as = spares[0]
				assert.Equal(t, result{stdout: "61034 tty 620\r\nreopened\r\n61034\r\n"}, run(t, login, a))
			})
		})
	}
}

func userNamespace(t *testing.T, pid int) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	require.NoError(t, err)
	return link
}

// assertHostRootUnmapped reads a process's id maps, which from here show the
// host's ids: uid 0 and gid 0 of the host must have no id inside.
func assertHostRootUnmapped(t *testing.T, pid int) {
	t.Helper()
	for _, file := range []string{"uid_map", "gid_map"} {
		text := contents(fmt.Sprintf("/proc/%d/%s", pid, file))
		require.NotEmpty(t, text)
		for line := range strings.Lines(text) {
			var inside, outside, size uint32
			_, err := fmt.Sscan(line, &inside, &outside, &size)
			require.NoError(t, err)
			assert.NotZero(t, outside, "%s: %s", file, line)
		}
	}
}

// Whatever the mode, starting a jail and using it changes nothing of the tree
// on disk but what the session itself writes.
func TestTreeUntouched(t *testing.T) {
	list := func() string {
		out, err := exec.Command("find", debianRoot, "-printf", "%P %U %G %m %y %s %l %T@\n").Output()
		require.NoError(t, err)
		return strings.Join(sortedLines(string(out)), "\n")
	}
	for name, mode := range idModes {
		t.Run(name, func(t *testing.T) {
			alone(t)
			before := list()
			s, err := serve(oneJail("ids", debianRoot, mode, `users = ["debian"]`))
			require.NoError(t, err)
			r := run(t, login, ask{cmd: "cat /etc/issue >/dev/null; ps >/dev/null; tty"})
			assert.Equal(t, result{stdout: "not a tty\n", status: 1}, r)
			require.NoError(t, s.stop())
			assert.Equal(t, before, list())
		})
	}
}
