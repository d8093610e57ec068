package launch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/hostfiles"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/source"
)

// newCage makes a cage of the machine that runs the test; testUID is its login.
func newCage(t *testing.T, userns bool) jail.Spec {
	t.Helper()
	needRoot(t)
	runtime := t.TempDir()
	etc, err := hostfiles.FollowEtc(runtime, func(err error) { t.Error(err) })
	require.NoError(t, err)
	t.Cleanup(etc.Close)
	home := filepath.Join(t.TempDir(), "homes/alice")
	require.NoError(t, os.MkdirAll(home, 0o755))
	require.NoError(t, os.Chown(home, testUID, testUID))
	s := newSpec("", userns)
	s.Source = jail.Source{Kind: jail.Host, Home: home, Group: "alice", Prepared: source.Prepared(runtime)}
	s.Logins[0] = jail.Login{HostUID: testUID, UID: testUID, GID: testUID, HasGID: true, JailName: "alice", Home: home}
	s.OwnResolver, s.OwnHosts = true, true
	return s
}

// TestCage: the host's programs work, and nothing of the host is there but them.
func TestCage(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		spec := newCage(t, userns)
		require.NoError(t, os.WriteFile(filepath.Join(spec.Source.Home, "own"), []byte("mine\n"), 0o600))
		require.NoError(t, os.Chown(filepath.Join(spec.Source.Home, "own"), testUID, testUID))
		j := mustStart(t, spec)
		home := spec.Source.Home
		for cmd, want := range map[string]string{
			"id -un; id -gn; echo $HOME; pwd": "alice\nalice\n" + home + "\n" + home + "\n",
			"cat own; stat -c %U:%G own":      "mine\nalice:alice\n",
			"hostname; hostname -f":           "test\ntest\n",
			"ls " + filepath.Dir(home):        "alice\n",
			"ls -A /root /srv /mnt /media /var/tmp /run/lock 2>/dev/null | grep -v :":                            "\n\n\n\n",
			"test -w /tmp && test -w /run/user/$(id -u) && test -w /run/screen && stat -c %a /run/user/$(id -u)": "700\n",
			"cat /etc/machine-id":              "",
			"ls -A /usr/src 2>/dev/null":       "",
			"touch new && rm new && echo done": "done\n",
			"stat -c %U /etc/nsswitch.conf":    "root\n",
		} {
			assert.Equal(t, want, j.out(cmd+"; true"), cmd)
		}
		for _, cmd := range []string{
			"touch /usr/x", "touch /etc/x", "touch /x", "mkdir /var/x", "touch /dev/jail/etc/passwd", "test -e /etc/shadow", "test -e /etc/sudoers",
			"test -e /etc/ssh/sshd_config", "test -e /etc/pam.d", "test -e /boot", "test -e /var/lib/dpkg", "test -e /proc/1/root/boot",
		} {
			assert.NotZero(t, j.run(cmd).exited.Code, cmd)
		}
		assert.NotContains(t, j.out("cat /proc/self/mountinfo"), " /usr/src/")
		for line := range strings.Lines(j.out("cat /proc/self/mountinfo")) {
			f := strings.Fields(line)
			if f[4] == "/usr" || f[4] == "/etc" {
				assert.Subset(t, strings.Split(f[5], ","), []string{"ro", "nosuid", "nodev"}, line)
			}
			if f[4] == home || f[4] == "/" || f[4] == "/tmp" || f[4] == "/run" {
				assert.Subset(t, strings.Split(f[5], ","), []string{"nosuid", "nodev"}, line)
			}
		}
	})
}

// TestCageAndItsHome: who has a home has it alone, and it is nobody else's.
func TestCageAndItsHome(t *testing.T) {
	spec := newCage(t, true)
	mustStart(t, spec)
	other := spec
	other.Name, other.Userns = "other", testRange(1)
	_, err := start(t, other)
	assert.ErrorIs(t, err, launch.ErrBusy)

	spec = newCage(t, true)
	require.NoError(t, os.Chown(spec.Source.Home, testUID+1, testUID))
	_, err = start(t, spec)
	assert.ErrorContains(t, err, fmt.Sprintf("%s: must be a directory of uid %d", spec.Source.Home, testUID))

	spec = newCage(t, true)
	require.NoError(t, os.Rename(spec.Source.Home, spec.Source.Home+"2"))
	require.NoError(t, os.Symlink("/root", spec.Source.Home))
	_, err = start(t, spec)
	assert.ErrorContains(t, err, "a symbolic link is on the way")
}

// rootInCage starts a cage with a second login that is uid 0 inside, which no registry
// allows; the sessions are its.
func rootInCage(t *testing.T) *testJail {
	t.Helper()
	spec := newCage(t, true)
	spec.Logins = append(spec.Logins, jail.Login{HostUID: testUID + 1, UID: 0, JailName: "root", Home: "/"})
	j := mustStart(t, spec)
	j.path = filepath.Join(filepath.Dir(filepath.Dir(j.path)), fmt.Sprint(testUID+1), "sock")
	require.Equal(t, "0\n", j.out("id -u"))
	return j
}

// TestSecretsOfTheHost: what only root or a group may read on the host stays so for
// whoever is in a cage, uid 0 inside among them.
func TestSecretsOfTheHost(t *testing.T) {
	needRoot(t)
	var secrets []string
	for _, mode := range []os.FileMode{0o600, 0o640} {
		path := filepath.Join("/usr/local/lib", fmt.Sprintf("jail-test-%d-%04o", os.Getpid(), mode))
		require.NoError(t, os.WriteFile(path, []byte("secret\n"), mode))
		t.Cleanup(func() { os.Remove(path) })
		secrets = append(secrets, path)
	}
	for who, enter := range map[string]func(t *testing.T) *testJail{
		"the login": func(t *testing.T) *testJail { return mustStart(t, newCage(t, true)) }, "uid 0 inside": rootInCage,
	} {
		t.Run(who, func(t *testing.T) {
			j := enter(t)
			for _, path := range secrets {
				assert.Equal(t, "there\n", j.out("test -e "+path+" && echo there"))
				assert.NotZero(t, j.run("cat "+path).exited.Code, path)
			}
		})
	}
}

// TestHomeIsTheLogins: uid 0 inside, as a PID 1 that has been taken over is, leaves nothing
// of root's in a home that the host's users can get at, and reads nothing there that is
// not the login's.
func TestHomeIsTheLogins(t *testing.T) {
	j := rootInCage(t)
	home := j.spec.Source.Home
	require.NoError(t, os.WriteFile(filepath.Join(home, "roots"), []byte("secret\n"), 0o600))
	assert.NotZero(t, j.run("cat "+home+"/roots").exited.Code)
	require.NoError(t, os.Chmod(home, 0o777))
	for _, cmd := range []string{"cp /bin/true h/program && chmod 4755 h/program", "mkdir h/dir", "ln -s x h/link", "mknod h/fifo p"} {
		assert.NotZero(t, j.run(strings.ReplaceAll(cmd, "h/", home+"/")).exited.Code, cmd)
	}
	entries, err := os.ReadDir(home)
	require.NoError(t, err)
	for _, e := range entries {
		assert.Equal(t, "roots", e.Name(), "made by uid 0 inside")
	}
}

// TestHomeThatCannotBeMapped: a home on a file system without mapped ids is a reason, and
// will do in root mode.
func TestHomeThatCannotBeMapped(t *testing.T) {
	bothModes(t, func(t *testing.T, userns bool) {
		spec := newCage(t, userns)
		home, parts := spec.Source.Home, t.TempDir()
		for _, d := range []string{"lower", "upper", "work"} {
			require.NoError(t, os.Mkdir(filepath.Join(parts, d), 0o755))
			require.NoError(t, os.Chown(filepath.Join(parts, d), testUID, testUID))
		}
		require.NoError(t, syscall.Mount("overlay", home, "overlay", 0, fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", parts, parts, parts)))
		t.Cleanup(func() { assert.NoError(t, syscall.Unmount(home, 0)) })
		j, err := start(t, spec)
		if userns {
			assert.ErrorContains(t, err, home+": its file system cannot be mounted with mapped ids; set userns = false for jail test")
			return
		}
		require.NoError(t, err)
		assert.Equal(t, "x\n", j.out("echo x >~/file; cat ~/file"))
	})
}

// TestHiddenLink: what is to be hidden and is a link is no start, not something that is seen.
func TestHiddenLink(t *testing.T) {
	spec := newCage(t, true)
	spec.Source.Hide = []string{spec.Source.Home + "/link"}
	link := filepath.Join(spec.Source.Home, "link")
	require.NoError(t, os.Symlink("/usr", link))
	_, err := start(t, spec)
	assert.ErrorContains(t, err, link+": cannot be hidden: it is, or is below, a symbolic link")
}
