package provision

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/keys"
	"jail/internal/needs"
)

// TestMain is also the owner of homes, which a run starts from its own program.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == OwnerVerb {
		if err := Owner(os.Stdin, os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "become" {
		if err := keys.Become(4001, 4002); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		text, _ := os.ReadFile("/proc/thread-self/status")
		os.Stdout.Write(text)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestBecome: the process has the owner's rights to files, and is nobody that a process of
// his uid on the host could send a signal to.
func TestBecome(t *testing.T) {
	needs.Root(t, "it drops its rights")
	for who, ids := range map[string][]syscall.SysProcIDMap{"2147418112": nil, "4001": {{Size: 1 << 16}}} { // or the host is a container
		cmd := exec.Command("/proc/self/exe", "become")
		if ids != nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true}
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		for _, line := range []string{
			"\nUid:\t" + who + "\t4001\t" + who + "\t4001\n", "\nGid:\t4002\t4002\t4002\t4002\n",
			"\nGroups:\t \n", "\nCapPrm:\t0000000000000000\n", "\nCapEff:\t0000000000000000\n",
		} {
			assert.Contains(t, string(out), line)
		}
	}
}

// hostile is a root directory, with a directory of the host's beside it that nothing may reach.
func hostile(t *testing.T) (dir, host string, r *root) {
	t.Helper()
	needs.Root(t, "it becomes the owner of homes")
	top, err := os.MkdirTemp("/var/tmp", "jail-provision-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(top) })
	dir, host = filepath.Join(top, "rootfs"), filepath.Join(top, "host")
	for _, d := range []string{"etc/skel", "home"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(host, ".ssh"), 0o777))
	require.NoError(t, os.Chmod(filepath.Join(host, ".ssh"), 0o777))
	require.NoError(t, os.Chmod(host, 0o777))
	for f, text := range map[string]string{
		"rootfs/etc/passwd": "root:x:0:0:::\n", "rootfs/etc/group": "root:x:0:\n", "rootfs/etc/skel/.profile": "skel\n",
		"host/precious": "precious\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(top, f), []byte(text), 0o644))
	}
	require.NoError(t, os.Chmod(filepath.Join(host, "precious"), 0o666))
	r, err = openRoot(dir, nil)
	require.NoError(t, err)
	t.Cleanup(r.close)
	t.Cleanup(func() {
		entries, err := os.ReadDir(host)
		require.NoError(t, err)
		assert.Len(t, entries, 2, "something is written on the host")
		ssh, err := os.ReadDir(filepath.Join(host, ".ssh"))
		require.NoError(t, err)
		assert.Empty(t, ssh, "a key is written on the host")
		text, err := os.ReadFile(filepath.Join(host, "precious"))
		require.NoError(t, err)
		assert.Equal(t, "precious\n", string(text))
	})
	return dir, host, r
}

var someone = User{Name: "someone", UID: 4001, GID: 4001, Home: "/home/someone", Shell: "/bin/sh"}

func TestAUserInside(t *testing.T) {
	dir, _, r := hostile(t)
	l := &Login{Login: "someone", Inside: someone, User: true, Home: true}
	require.NoError(t, r.addUsers([]*Login{l}))
	text, err := os.ReadFile(filepath.Join(dir, "etc/passwd"))
	require.NoError(t, err)
	assert.Equal(t, "root:x:0:0:::\nsomeone:x:4001:4001::/home/someone:/bin/sh\n", string(text))
	assert.ErrorContains(t, r.addUsers([]*Login{l}), "has someone already")

	require.NoError(t, r.makeHome(&someone))
	_, err = r.asOwner(&someone, opFill, nil)
	require.NoError(t, err)
	rep, err := r.asOwner(&someone, opAdd, []string{testKey})
	require.NoError(t, err)
	assert.Equal(t, 1, rep.Count)
	for p, mode := range map[string]os.FileMode{"": 0o700, ".profile": 0o644, ".ssh": 0o700, ".ssh/authorized_keys": 0o600} {
		info, err := os.Lstat(filepath.Join(dir, "home/someone", p))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), p)
		uid, _, err := r.homeOf(filepath.Join("/home/someone", filepath.Dir(p)))
		require.NoError(t, err)
		assert.EqualValues(t, 4001, uid)
	}

	// All of it goes, also what he has made unreadable, and what his links lead to stays.
	deep := filepath.Join(dir, "home/someone/a/b/c")
	require.NoError(t, os.MkdirAll(deep, 0o755))
	require.NoError(t, os.Symlink("/etc", filepath.Join(dir, "home/someone/etc")))
	for _, p := range []string{"a/b/c", "a/b", "a"} {
		require.NoError(t, os.Chown(filepath.Join(dir, "home/someone", p), 4001, 4001))
	}
	o := &Options{}
	p := &Plan{Logins: []Login{*l}}
	p.Logins[0].Rootfs = dir
	require.NoError(t, o.clear([]*Login{&p.Logins[0]}))
	require.NoError(t, o.clear([]*Login{&p.Logins[0]}), "twice is as good as once")
	assert.NoDirExists(t, filepath.Join(dir, "home/someone"))
	assert.FileExists(t, filepath.Join(dir, "etc/skel/.profile"))
	text, err = os.ReadFile(filepath.Join(dir, "etc/passwd"))
	require.NoError(t, err)
	assert.Equal(t, "root:x:0:0:::\n", string(text))
}

// TestNothingLeavesTheRoot: links in every place a tenant has for one lead to nothing of the host's.
func TestNothingLeavesTheRoot(t *testing.T) {
	for name, trap := range map[string]func(t *testing.T, dir, host string) error{
		"etc is a link": func(t *testing.T, dir, host string) error {
			os.RemoveAll(dir + "/etc")
			return os.Symlink(host, dir+"/etc")
		},
		"home is a link": func(t *testing.T, dir, host string) error {
			os.Remove(dir + "/home")
			return os.Symlink(host, dir+"/home")
		},
		"the home is a link": func(t *testing.T, dir, host string) error { return os.Symlink(host, dir+"/home/someone") },
		"passwd is a link": func(t *testing.T, dir, host string) error {
			os.Remove(dir + "/etc/passwd")
			return os.Symlink(host+"/precious", dir+"/etc/passwd")
		},
		"skel is a link": func(t *testing.T, dir, host string) error {
			os.RemoveAll(dir + "/etc/skel")
			return os.Symlink(host, dir+"/etc/skel")
		},
		".ssh is a link": func(t *testing.T, dir, host string) error {
			return inHome(dir, func(h string) error { return os.Symlink(host+"/.ssh", h+"/.ssh") })
		},
		"a link with .. in it": func(t *testing.T, dir, host string) error {
			return inHome(dir, func(h string) error { return os.Symlink("../../../host/.ssh", h+"/.ssh") })
		},
		"authorized_keys is a link": func(t *testing.T, dir, host string) error {
			return inHome(dir, func(h string) error {
				if err := os.Mkdir(h+"/.ssh", 0o700); err != nil {
					return err
				}
				if err := os.Chown(h+"/.ssh", 4001, 4001); err != nil {
					return err
				}
				return os.Symlink(host+"/precious", h+"/.ssh/authorized_keys")
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, host, r := hostile(t)
			require.NoError(t, trap(t, dir, host))
			l := &Login{Login: "someone", Inside: someone, User: true, Home: true, Rootfs: dir, Keys: []string{testKey}}
			_ = r.addUsers([]*Login{l})
			_ = r.makeHome(&someone)
			_, _ = r.asOwner(&someone, opFill, nil)
			_, _ = r.asOwner(&someone, opAdd, []string{testKey})
			_ = (&Options{}).clear([]*Login{l})
		})
	}
}

func inHome(dir string, do func(home string) error) error {
	home := dir + "/home/someone"
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	if err := do(home); err != nil {
		return err
	}
	return os.Lchown(home, 4001, 4001)
}

// TestOwnerIsNobodyElse: what is in a home is done by its owner, who cannot do more than he could.
func TestOwnerIsNobodyElse(t *testing.T) {
	dir, _, r := hostile(t)
	require.NoError(t, os.MkdirAll(dir+"/home/roots", 0o700))
	u := User{Name: "x", UID: 4001, GID: 4001, Home: "/home/roots"}
	_, err := r.asOwner(&u, opAdd, []string{testKey})
	assert.ErrorContains(t, err, "permission denied", "a home that is root's")
	for _, id := range []uint32{0, 65535, 1<<32 - 1} {
		_, err = r.asOwner(&User{Name: "x", UID: id, GID: 4001, Home: "/home/roots"}, opAdd, []string{testKey})
		assert.ErrorContains(t, err, "no person's")
		_, err = r.asOwner(&User{Name: "x", UID: 4001, GID: id, Home: "/home/roots"}, opAdd, []string{testKey})
		assert.ErrorContains(t, err, "no person's")
	}
	// A home that others may write in: the key would count for nothing, and he is told.
	require.NoError(t, r.makeHome(&someone))
	require.NoError(t, os.Chmod(dir+"/home/someone", 0o777))
	_, err = r.asOwner(&someone, opAdd, []string{testKey})
	assert.ErrorContains(t, err, "is writable by others")
	require.NoError(t, os.Chmod(dir+"/home/someone", 0o700))
	// What a change has left that was killed goes with the next that takes the lines out, the file being there or not.
	keys, half := dir+"/home/someone/.ssh/authorized_keys", dir+"/home/someone/.ssh/.authorized_keys.jail-new"
	for _, there := range []bool{true, false} {
		require.NoError(t, os.WriteFile(half, []byte(testKey[:9]), 0o600))
		if !there {
			require.NoError(t, os.Remove(keys))
		}
		_, err = r.asOwner(&someone, opDrop, []string{"another"})
		require.NoError(t, err)
		assert.NoFileExists(t, half)
	}
	// A FIFO in the place of the file keeps nobody.
	require.NoError(t, os.RemoveAll(dir+"/home/someone/.ssh"))
	require.NoError(t, os.MkdirAll(dir+"/home/someone/.ssh", 0o755))
	_, err = command("", "mkfifo", "-m", "666", dir+"/home/someone/.ssh/authorized_keys")
	require.NoError(t, err)
	_, err = r.asOwner(&someone, opAdd, []string{testKey})
	assert.ErrorContains(t, err, "not a regular file")
}

// TestJournal: what an unfinished run has written down is found by the next; two do not run at once.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir)
	require.NoError(t, err)
	_, err = openJournal(dir)
	assert.ErrorContains(t, err, "is at work")
	p, err := j.read()
	require.NoError(t, err)
	assert.Nil(t, p)
	want := &Plan{Verb: "add x", Main: true, Logins: []Login{{Login: "x", HostUID: 7, Inside: someone, Keys: []string{"k"}}}}
	require.NoError(t, j.write(want))
	j.close()

	j, err = openJournal(dir)
	require.NoError(t, err)
	defer j.close()
	p, err = j.read()
	require.NoError(t, err)
	assert.Equal(t, want, p)
	info, err := os.Stat(filepath.Join(dir, journalName))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoError(t, j.done())
	require.NoError(t, j.done())
	p, err = j.read()
	require.NoError(t, err)
	assert.Nil(t, p)
	require.NoError(t, os.WriteFile(filepath.Join(dir, journalName), []byte(`{"Verb":"add x","Strange":1}`), 0o600))
	_, err = j.read()
	assert.ErrorContains(t, err, "look at it, and remove it", "what cannot be understood is not forgotten")

	secret, err := json.Marshal(Request{Password: "hush"})
	require.NoError(t, err)
	require.Contains(t, string(secret), "hush")
	text, err := json.Marshal(want)
	require.NoError(t, err)
	assert.False(t, strings.Contains(string(text), "assword"), "a plan has no password")
}
