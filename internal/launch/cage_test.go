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
	"golang.org/x/sys/unix"

	"jail/internal/hostfiles"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/source"
)

// newCage makes a cage of the machine that runs the test; testUID is its login.
func newCage(t *testing.T, userns bool) jail.Spec {
	t.Helper()
	needRoot(t)
	// Where serve has it: on a file system in memory, which before Linux 6.3 cannot be
	// mounted with mapped ids.
	runtime, err := os.MkdirTemp("/run", "jail-test")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(runtime)) })
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
			"stat -c %U /etc/nsswitch.conf":    ownerOfEtc(t, userns) + "\n",
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

// ownerOfEtc is who has the prepared /etc inside: nobody, where a file system in memory
// cannot be mounted with mapped ids.
func ownerOfEtc(t *testing.T, userns bool) string {
	t.Helper()
	var uts unix.Utsname
	var major, minor int
	require.NoError(t, unix.Uname(&uts))
	_, err := fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &major, &minor)
	require.NoError(t, err)
	if userns && (major < 6 || major == 6 && minor < 3) {
		return "nobody"
	}
	return "root"
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

// TestCageOfADirectorysAccount: ids beyond the range, as accounts of a directory service
// have, are the login's inside and on the disk, and its groups count where something of
// theirs is mounted.
func TestCageOfADirectorysAccount(t *testing.T) {
	for name, keep := range map[string]bool{"auto": false, "keep": true} {
		t.Run(name, func(t *testing.T) {
			const uid, gid, project = 1_234_567, 2_234_567, 65_534 - 1
			spec := newCage(t, true)
			spec.Userns.Keep = keep
			spec.Logins[0] = jail.Login{HostUID: uid, UID: uid, GID: gid, HasGID: true, JailName: "alice", Home: spec.Source.Home}
			spec.Source.Groups = []jail.Group{{Name: "project", GID: project}, {Name: "staff", GID: 50}, {Name: "high", GID: 3_234_567}}
			require.NoError(t, os.Chown(spec.Source.Home, uid, gid))
			shared := t.TempDir()
			require.NoError(t, os.Chown(shared, 0, project))
			require.NoError(t, os.Chmod(shared, os.ModeSetgid|0o770))
			spec.Mounts = []jail.Mount{{Source: shared, Target: "/srv/shared"}}
			j := mustStart(t, spec)
			assert.Equal(t, fmt.Sprintf("uid=%d(alice) gid=%d(alice) groups=%d(alice),50(staff),%d(project),3234567(high)\n", uid, gid, gid, project), j.out("id"))
			assert.Equal(t, "ok\n", j.out("echo ok >~/file; cat ~/file; : >/srv/shared/file"))
			is := func(path string) (ids [2]uint32) {
				var st syscall.Stat_t
				require.NoError(t, syscall.Lstat(path, &st))
				return [2]uint32{st.Uid, st.Gid}
			}
			assert.Equal(t, [2]uint32{uid, gid}, is(filepath.Join(spec.Source.Home, "file")))
			assert.Equal(t, [2]uint32{uid, project}, is(filepath.Join(shared, "file")))
			var st syscall.Stat_t
			require.NoError(t, syscall.Stat(fmt.Sprintf("/proc/%d", j.PID), &st))
			assert.Equal(t, spec.Userns.Base, st.Uid, "root inside is not the login")
			// On the host the login has its own uid only if it keeps it (user_namespaces(7)).
			host := map[bool]uint32{true: uid, false: spec.Userns.Base + 65_534}[keep]
			assert.Regexp(t, fmt.Sprintf(`(?m)^ +%d +%d +1$`, uid, host), j.out("cat /proc/self/uid_map"))
		})
	}
}

// TestIdsThatAreNotKept: a jail keeps the ids of one account, and root's never.
func TestIdsThatAreNotKept(t *testing.T) {
	for claim, odd := range map[string]func(s *jail.Spec){
		"another uid inside": func(s *jail.Spec) { s.Logins[0].HostUID++ },
		"no gid":             func(s *jail.Spec) { s.Logins[0].HasGID = false },
		"two logins":         func(s *jail.Spec) { s.Logins = append(s.Logins, jail.Login{HostUID: testUID + 1, UID: testUID + 1}) },
		"root":               func(s *jail.Spec) { s.Logins[0].HostUID, s.Logins[0].UID = 0, 0; os.Chown(s.Source.Home, 0, 0) },
		"root's group":       func(s *jail.Spec) { s.Logins[0].GID = 0 },
		"a group of root's":  func(s *jail.Spec) { s.Source.Groups = []jail.Group{{Name: "root", GID: 0}} },
	} {
		t.Run(claim, func(t *testing.T) {
			spec := newCage(t, true)
			spec.Userns.Keep = true
			odd(&spec)
			_, err := start(t, spec)
			assert.ErrorContains(t, err, "cannot keep")
		})
	}
}

// TestHomeThatCannotBeMapped: a home on a file system without mapped ids is a reason, and
// will do in root mode, or where the login keeps its ids.
func TestHomeThatCannotBeMapped(t *testing.T) {
	for name, mode := range map[string]jail.Userns{"auto": testRange(0), "keep": testRange(0), "off": {}} {
		t.Run(name, func(t *testing.T) {
			spec := newCage(t, true)
			spec.Userns = mode
			spec.Userns.Keep = name == "keep"
			home, parts := spec.Source.Home, t.TempDir()
			for _, d := range []string{"lower", "upper", "scratch"} {
				require.NoError(t, os.Mkdir(filepath.Join(parts, d), 0o755))
				require.NoError(t, os.Chown(filepath.Join(parts, d), testUID, testUID))
			}
			require.NoError(t, os.WriteFile(filepath.Join(parts, "lower/others"), []byte("secret\n"), 0o640))
			require.NoError(t, syscall.Mount("overlay", home, "overlay", 0, fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/scratch", parts, parts, parts)))
			t.Cleanup(func() { assert.NoError(t, syscall.Unmount(home, 0)) })
			j, err := start(t, spec)
			if name == "auto" {
				assert.ErrorContains(t, err, home+`: its file system cannot be mounted with mapped ids; set userns = "keep" for jail test`)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "x\nalice\n", j.out("echo x >~/file; cat ~/file; stat -c %U ~/file"))
			assert.NotZero(t, j.run("cat ~/others").exited.Code)
			var st syscall.Stat_t
			require.NoError(t, syscall.Lstat(filepath.Join(home, "file"), &st))
			assert.EqualValues(t, testUID, st.Uid)
		})
	}
}

// TestRootThatCannotBeMapped: a root directory has files of many ids, so one without
// mapped ids is no start with kept ids either.
func TestRootThatCannotBeMapped(t *testing.T) {
	needRoot(t)
	lower, root, parts := newRootfs(t), t.TempDir(), t.TempDir()
	for _, d := range []string{"upper", "scratch"} {
		require.NoError(t, os.Mkdir(filepath.Join(parts, d), 0o755))
	}
	require.NoError(t, syscall.Mount("overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/scratch", lower, parts, parts)))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(root, 0)) })
	spec := newSpec(root, true)
	spec.Userns.Keep = true
	spec.Logins[0] = jail.Login{HostUID: testUID, UID: testUID, GID: testUID, HasGID: true, JailName: "work", Shell: "/bin/sh", Home: "/"}
	_, err := start(t, spec)
	assert.ErrorContains(t, err, root+": its file system cannot be mounted with mapped ids; set userns = false for jail test")
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
