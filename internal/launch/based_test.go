package launch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
	"jail/internal/launch"
)

// newBased returns a jail that is based on a directory of busybox, as uid testUID inside,
// whom nothing in there knows.
func newBased(t *testing.T, persist jail.Persist, userns bool) jail.Spec {
	t.Helper()
	needRoot(t)
	base := newRootfs(t)
	require.NoError(t, os.Remove(filepath.Join(base, "etc/hosts")))
	require.NoError(t, os.Symlink("../run/systemd/resolve/stub-resolv.conf", filepath.Join(base, "etc/resolv.conf")))
	require.NoError(t, os.MkdirAll(filepath.Join(base, "etc/skel"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(base, "etc/shadow"), []byte("root:*:19000:0:99999:7:::\nalice2:!:19000::::::"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(base, "etc/skel/.profile"), []byte("# skel\n"), 0o644))
	s := newSpec("", userns)
	s.Source = jail.Source{Kind: jail.Based, Base: base, State: filepath.Join(t.TempDir(), "state"), Persist: persist, Scratch: 4 << 20}
	s.Logins[0] = jail.Login{HostUID: testUID, UID: testUID, JailName: "alice", Home: "/home/alice"}
	return s
}

// everything is what there is in a directory: names, and what is in the files.
func everything(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		all[p] = fi.Mode().String() + " " + string(rune('0'+st.Nlink%10))
		if fi.Mode().IsRegular() && fi.Size() < 1<<16 {
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			all[p] += string(text)
		}
		return nil
	}))
	return all
}

// TestBased: a jail whose root others have, too, is like any other, and what is written is
// there as long as the registry says. The base is never written to.
func TestBased(t *testing.T) {
	withResolver(t, "nameserver 192.0.2.1\n")
	for _, persist := range []jail.Persist{jail.PersistHome, jail.PersistAll, jail.PersistNone} {
		t.Run(persist.String(), func(t *testing.T) {
			bothModes(t, func(t *testing.T, userns bool) {
				spec := newBased(t, persist, userns)
				before := everything(t, spec.Source.Base)
				j := mustStart(t, spec)
				for cmd, want := range map[string]string{
					"id":                                    "uid=61234(alice) gid=61234(alice) groups=61234(alice)\n",
					"pwd; cat .profile; stat -c %U:%G:%a .": "/home/alice\n# skel\nalice:alice:700\n",
					"stat -c %u:%g:%a / /etc /etc/passwd":   "0:0:755\n0:0:755\n0:0:644\n",
					"cat /etc/resolv.conf; grep -c test /etc/hosts": "nameserver 192.0.2.1\n1\n",
					"hostname": "test\n",
					"ls -d /dev/jail/state; ls /dev/jail/state 2>/dev/null; true": "/dev/jail/state\n",
				} {
					assert.Equal(t, want, j.out(cmd), cmd)
				}
				assert.Empty(t, j.notes())
				shadow := filepath.Join(fmt.Sprintf("/proc/%d/root", j.PID), "etc/shadow")
				text, err := os.ReadFile(shadow)
				require.NoError(t, err)
				assert.Equal(t, "root:*:19000:0:99999:7:::\nalice2:!:19000::::::\nalice:*::0:99999:7:::\n", string(text))
				require.Equal(t, "", j.out("echo mine >file; echo x >/tmp/file"))
				last := j
				if userns {
					r := j.withRoot()
					last = r
					require.Equal(t, "", r.out("echo changed >/etc/group; rm -r /etc/skel; mkdir /etc/skel; mv /home/alice/.profile /srv-of-root; mkdir /opt; chown 5:6 /opt; chmod 4755 /bin/busybox"))
					assert.Equal(t, "changed\n5:6\n", r.out("cat /etc/group; stat -c %u:%g /opt; ls /etc/skel"))
				}
				assert.Equal(t, before, everything(t, spec.Source.Base), "nothing of the base has changed")

				last.stop()
				k := mustStart(t, spec)
				home, root := "mine\n", "x\n"
				switch persist {
				case jail.PersistHome:
					root = ""
				case jail.PersistNone:
					home, root = "", ""
				}
				assert.Equal(t, home, k.out("cat file 2>/dev/null; true"))
				assert.Equal(t, root, k.out("cat /tmp/file 2>/dev/null; true"))
				if userns && persist == jail.PersistAll {
					assert.Equal(t, "changed\n", k.out("cat /etc/group; ls /etc/skel"))
				} else {
					assert.Contains(t, k.out("cat /etc/group; ls -A /etc/skel"), "extra:x:700:work\nalice:x:61234:\n.profile\n")
				}
				assert.Equal(t, "1\n", k.out("grep -c alice /etc/passwd"), "the entry is made once")
				assert.Equal(t, before, everything(t, spec.Source.Base), "nothing of the base has changed")
			})
		})
	}
}

// TestHomeHalfMade: a start that was killed while it made a home, or that found the disk full, leaves
// the next one nothing to take for the home.
func TestHomeHalfMade(t *testing.T) {
	spec := newBased(t, jail.PersistHome, true)
	mustStart(t, spec).stop()
	homes := filepath.Join(spec.Source.State, "home")
	half := filepath.Join(homes, ".alice.new")
	require.NoError(t, os.Rename(filepath.Join(homes, "alice"), half))
	require.NoError(t, os.Chown(half, 0, 0))
	require.NoError(t, os.Truncate(filepath.Join(half, ".profile"), 3))
	require.NoError(t, os.Chown(filepath.Join(half, ".profile"), 0, 0))
	j := mustStart(t, spec)
	assert.Empty(t, j.notes())
	assert.Equal(t, "# skel\nalice:alice:644\n", j.out("cat .profile; stat -c %U:%G:%a .profile"))
	assert.Equal(t, ".\n..\nalice\n", j.out("ls -a /home"))
}

// withRoot starts the jail anew, so that sessions are uid 0 inside, which no registry
// allows.
func (j *testJail) withRoot() *testJail {
	j.stop()
	spec := j.spec
	spec.Logins = append([]jail.Login{{HostUID: testUID + 1, UID: 0, JailName: "root", Home: "/"}}, spec.Logins...)
	return mustStart(j.t, spec)
}

// TestBasedTogether: jails on one base see nothing of one another, and no two have one state.
func TestBasedTogether(t *testing.T) {
	one := newBased(t, jail.PersistAll, true)
	j := mustStart(t, one)
	two := one
	two.Name, two.Userns = "other", testRange(1)
	_, err := start(t, two)
	assert.ErrorIs(t, err, launch.ErrBusy)
	two.Source.State = filepath.Join(t.TempDir(), "state")
	k := mustStart(t, two)
	require.Equal(t, "", j.out("echo secret >/tmp/file"))
	assert.Equal(t, "gone\n", k.out("test -e /tmp/file || echo gone; test ! -e /home/alice/file"))
	require.Equal(t, "", k.out("echo other >/tmp/file"))
	assert.Equal(t, "secret\n", j.out("cat /tmp/file"))
}

// TestBasedHostile: root inside makes nothing of what leads the kernel elsewhere, and gets
// hold of nothing that others need.
func TestBasedHostile(t *testing.T) {
	spec := newBased(t, jail.PersistAll, true)
	j := mustStart(t, spec).withRoot()
	for _, cmd := range []string{
		"mknod /whiteout c 0 0", "mknod /etc/passwd2 c 0 0", "mknod /null2 c 1 3", "ls /dev/jail/state", "touch /dev/jail/state/x",
		"flock -n /dev/jail/state true", "rmdir /dev/jail/state", "umount /dev/jail/state", "umount /home", "mount -o remount,rw /dev/jail/state",
	} {
		assert.NotZero(t, j.run(cmd+" 2>/dev/null").exited.Code, cmd)
	}
	for line := range strings.Lines(j.out("cat /proc/self/mountinfo")) {
		if f := strings.Fields(line); f[4] == "/" {
			assert.Subset(t, strings.Split(f[5], ","), []string{"rw", "nodev"})
			assert.Contains(t, line, "redirect_dir=nofollow", line)
			assert.Contains(t, line, "index=on", line)
			assert.NotContains(t, line, "metacopy=on", line)
			assert.NotContains(t, line, spec.Source.Base, "a path of the host")
		}
	}
	// What somebody has got there all the same leads nowhere.
	j.stop()
	upper := filepath.Join(spec.Source.State, "root/upper")
	for name, mark := range map[string]string{"dir": "trusted.overlay.redirect", "file": "trusted.overlay.metacopy"} {
		at, to := filepath.Join(upper, name), "/etc"
		if name == "file" {
			require.NoError(t, os.WriteFile(at, nil, 0o644))
			require.NoError(t, os.Truncate(at, 100))
			require.NoError(t, syscall.Setxattr(at, mark, nil, 0))
			to = "/etc/passwd"
		} else {
			require.NoError(t, os.Mkdir(at, 0o755))
		}
		require.NoError(t, syscall.Setxattr(at, "trusted.overlay.redirect", []byte(to), 0))
	}
	j = mustStart(t, spec)
	assert.Equal(t, "", j.out("{ ls /dir; tr -d '\\0' </file; } 2>/dev/null; true"))
}

// TestBasedBadly: what administrators get wrong is one line with what to do, and nothing
// half-made is left.
func TestBasedBadly(t *testing.T) {
	spec := newBased(t, jail.PersistAll, true)
	j := mustStart(t, spec)
	j.stop()
	for claim, c := range map[string]struct {
		change func(s *jail.Spec)
		says   string
	}{
		"the upper of another base": {func(s *jail.Spec) { s.Source.Base = newRootfs(t) }, "differs from " + spec.Source.Base + ", not from "},
		"a base that is not there":  {func(s *jail.Spec) { s.Source.Base = "/nowhere"; s.Source.State += "2" }, "open /nowhere: no such file or directory"},
		"a base that is a link": {func(s *jail.Spec) {
			s.Source.Base = filepath.Join(t.TempDir(), "link")
			require.NoError(t, os.Symlink("/", s.Source.Base))
			s.Source.State += "3"
		}, "a symbolic link is on the way"},
		"an image that is not there": {func(s *jail.Spec) {
			s.Source.Base, s.Source.Images = "nothing", filepath.Join(t.TempDir(), "images")
			s.Source.State += "4"
		}, "there is no image nothing in "},
		"a state that others can enter": {func(s *jail.Spec) {
			s.Source.State = t.TempDir()
			require.NoError(t, os.Chmod(s.Source.State, 0o755))
		}, "must be root's and nobody else's to enter"},
		"a state in a directory that is not there": {func(s *jail.Spec) { s.Source.State = "/nowhere/state" }, "/nowhere is missing; make it"},
		"a state that is a link": {func(s *jail.Spec) {
			s.Source.State = filepath.Join(t.TempDir(), "link")
			require.NoError(t, os.Symlink("/root", s.Source.State))
		}, "symbolic link"},
		"programs for another processor": {func(s *jail.Spec) {
			s.Source.Base = newRootfs(t)
			s.Source.State += "5"
			require.NoError(t, os.Remove(filepath.Join(s.Source.Base, "bin/sh")))
			head := append([]byte("\x7fELF\x02\x02\x01"), make([]byte, 64)...)
			head[19] = 22 // EM_S390
			require.NoError(t, os.WriteFile(filepath.Join(s.Source.Base, "bin/sh"), head, 0o755))
		}, "its programs are for another processor (22)"},
	} {
		t.Run(claim, func(t *testing.T) {
			s := spec
			c.change(&s)
			_, err := start(t, s)
			require.ErrorContains(t, err, c.says)
			assert.NotContains(t, err.Error(), "\n")
			_, err = os.Lstat(filepath.Join(s.Source.State, "root"))
			assert.Equal(t, s.Source.State == spec.Source.State, err == nil, "nothing half-made")
		})
	}
	// The base itself replaced, under the same name: the kernel's own word.
	require.NoError(t, os.Rename(spec.Source.Base, spec.Source.Base+".old"))
	require.NoError(t, os.Rename(newRootfs(t), spec.Source.Base))
	_, err := start(t, spec)
	assert.ErrorContains(t, err, "differs from another directory than "+spec.Source.Base)
	// As docs/images.md has it, for whoever knows better.
	require.NoError(t, syscall.Removexattr(filepath.Join(spec.Source.State, "root/upper"), "trusted.overlay.origin"))
	require.NoError(t, os.RemoveAll(filepath.Join(spec.Source.State, "root", "work", "index")))
	mustStart(t, spec)
}

// TestScratch: what a jail writes in memory has a bound, and the base is read all the same.
func TestScratch(t *testing.T) {
	j := mustStart(t, newBased(t, jail.PersistNone, true))
	r := j.run("dd if=/dev/zero of=/tmp/big bs=1M count=8 2>&1")
	assert.NotZero(t, r.exited.Code)
	assert.Contains(t, r.out, "No space left on device")
	assert.Equal(t, "ok\n", j.out("rm /tmp/big; echo ok"))
	assert.Equal(t, "bounded\n", j.out("cd /tmp; i=0; while touch f$i 2>/dev/null; do i=$((i+1)); test $i -lt 2000 || exit 1; done; echo bounded"), "and so has the number of files")
}

// TestLookAtALock: whoever looks whether a jail runs does not keep it from starting.
func TestLookAtALock(t *testing.T) {
	spec := newBased(t, jail.PersistHome, true)
	mark := filepath.Join(spec.Source.State, "mark")
	assert.False(t, launch.Runs(mark), "there is none yet")
	j := mustStart(t, spec)
	assert.True(t, launch.Runs(mark))
	assert.ErrorIs(t, launch.Hold(&spec, func() error { return nil }), launch.ErrBusy)
	j.stop()
	assert.False(t, launch.Runs(mark))
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				launch.Runs(mark)
			}
		}
	})
	for range 50 {
		require.NoError(t, launch.Hold(&spec, func() error { return nil }))
	}
	close(stop)
	looking.Wait()
}

// TestFileCapabilities: a program with capabilities has them in a jail with base as in one
// with a root directory: in a user namespace, where they are none of the host's, and else not.
func TestFileCapabilities(t *testing.T) {
	needRoot(t)
	// cap_dac_override=ep: struct vfs_cap_data, revision 2 (capabilities(7)).
	const readAll = "\x01\x00\x00\x02\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	furnish := func(root string) {
		busybox, err := os.ReadFile(filepath.Join(root, "bin/busybox"))
		require.NoError(t, err)
		peek := filepath.Join(root, "capable/cat")
		require.NoError(t, os.Mkdir(filepath.Dir(peek), 0o755))
		require.NoError(t, os.WriteFile(peek, busybox, 0o755))
		require.NoError(t, syscall.Setxattr(peek, "security.capability", []byte(readAll), 0))
		require.NoError(t, os.WriteFile(filepath.Join(root, "secret"), []byte("seen\n"), 0))
	}
	for kind, spec := range map[string]func(t *testing.T, userns bool) jail.Spec{
		"directory": func(t *testing.T, userns bool) jail.Spec { return newSpec(newRootfs(t), userns) },
		"home":      func(t *testing.T, userns bool) jail.Spec { return newBased(t, jail.PersistHome, userns) },
		"all":       func(t *testing.T, userns bool) jail.Spec { return newBased(t, jail.PersistAll, userns) },
		"none":      func(t *testing.T, userns bool) jail.Spec { return newBased(t, jail.PersistNone, userns) },
	} {
		t.Run(kind, func(t *testing.T) {
			bothModes(t, func(t *testing.T, userns bool) {
				s := spec(t, userns)
				root := s.Source.Path
				if s.Source.Kind == jail.Based {
					root = s.Source.Base
				}
				furnish(root)
				j := mustStart(t, s)
				got := map[bool]string{true: "seen\n"}[userns]
				assert.Equal(t, got, j.out("cat /secret 2>/dev/null; /capable/cat /secret 2>/dev/null; true"))
				// It is the file that has them, and it may not be changed without losing them.
				if userns && kind != "directory" {
					r := j.withRoot()
					assert.Equal(t, "", r.out("cp /capable/cat /capable/copy; chmod 755 /capable/copy; echo >>/capable/cat"))
					r.stop()
					j = mustStart(t, s)
					if kind != "all" {
						return // what has been written is gone
					}
					assert.Equal(t, "", j.out("/capable/copy cat /secret 2>/dev/null; /capable/cat /secret 2>/dev/null; true"))
				}
			})
		})
	}
}
