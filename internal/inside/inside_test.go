package inside

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/audit"
	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/wire"
)

// TestMain lets the test's own program be the one that looks.
func TestMain(m *testing.M) { needs.Main(m, Serve) }

func self(t *testing.T) []string {
	t.Setenv("JAIL_TEST_LOOK", "1")
	return []string{os.Args[0]}
}

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh a\n"

// rootfs is a root directory in which everything is well.
func rootfs(t testing.TB) string {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	// t.TempDir's own parents are for nobody else to enter, and need not be.
	root := dir + "/root"
	for _, d := range []string{"", "/etc", "/bin", "/home", "/home/tenant", "/home/tenant/.ssh"} {
		require.NoError(t, os.Mkdir(root+d, 0o755))
	}
	put(t, root, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nwork:x:61001:61001::/home/tenant:/bin/sh\n", 0o644)
	put(t, root, "/etc/group", "staff:x:50:work\n", 0o644)
	put(t, root, "/bin/sh", "#!", 0o755)
	put(t, root, "/home/tenant/.ssh/authorized_keys", key, 0o600)
	for _, f := range []string{"/home/tenant", "/home/tenant/.ssh", "/home/tenant/.ssh/authorized_keys"} {
		require.NoError(t, os.Chown(root+f, 61001, 61001))
	}
	require.NoError(t, os.Chmod(root+"/home/tenant", 0o700))
	return root
}

func put(t testing.TB, root, name, text string, mode os.FileMode) {
	require.NoError(t, os.WriteFile(root+name, []byte(text), mode))
	require.NoError(t, os.Chmod(root+name, mode))
}

func spec(root string) jail.Spec {
	return jail.Spec{Name: "web", Source: jail.Source{Path: root}, Userns: jail.Userns{Enabled: true, Base: 200000, Size: 65536},
		Logins: []jail.Login{{Name: "alice", HostUID: 2001, UID: 61001}}}
}

func TestWhatALoginMeets(t *testing.T) {
	needs.Root(t, "it looks as another")
	command := self(t)
	for claim, c := range map[string]struct {
		make func(root string, s *jail.Spec) error
		want string // severity, id and a word of each; "" is nothing
	}{
		"all is well":                       {func(string, *jail.Spec) error { return nil }, ""},
		"a root directory that is not open": {func(r string, _ *jail.Spec) error { return os.Chmod(r, 0o700) }, "error inside-closed may not enter"},
		"one of the login's own":            {func(r string, _ *jail.Spec) error { return os.Chown(r, 61001, 0) }, "warning inside-root-owner belongs to uid 61001"},
		"one that others write to":          {func(r string, _ *jail.Spec) error { return os.Chmod(r, 0o777) }, "warning inside-root-owner mode 0777"},
		"one that is not there":             {os2(os.RemoveAll), "error inside-closed cannot be looked into"},
		"a cage of a host on which serve has not run": {func(r string, s *jail.Spec) error {
			s.Source = jail.Source{Kind: jail.Host, Home: r, Prepared: r + "/none"}
			return nil
		}, "warning inside-closed serve prepares"},
		"nobody of that uid": {func(r string, _ *jail.Spec) error { return os.Truncate(r+"/etc/passwd", 0) }, "error inside-user has no entry"},
		"a passwd that is a FIFO": {func(r string, _ *jail.Spec) error {
			return first(os.Remove(r+"/etc/passwd"), unix.Mkfifo(r+"/etc/passwd", 0o644))
		}, "error inside-user not a regular file"},
		"a home that is not there": {func(r string, _ *jail.Spec) error { return os.RemoveAll(r + "/home/tenant") },
			"note inside-no-keys no key, warning inside-home does not exist"},
		"a home that is closed": {func(r string, _ *jail.Spec) error { return os.Chown(r+"/home/tenant", 0, 0) },
			"error inside-keys permission denied, warning inside-home cannot enter"},
		"a shell that is not there":   {func(r string, _ *jail.Spec) error { return os.Remove(r + "/bin/sh") }, "error inside-shell does not exist"},
		"a shell that nobody may run": {func(r string, _ *jail.Spec) error { return os.Chmod(r+"/bin/sh", 0o644) }, "error inside-shell mode 0644"},
		"a shell that is a directory": {func(r string, _ *jail.Spec) error { return first(os.Remove(r+"/bin/sh"), os.Mkdir(r+"/bin/sh", 0o755)) }, "error inside-shell is no program"},
		"a shell for a group of the user": {func(r string, _ *jail.Spec) error {
			return first(os.Chown(r+"/bin/sh", 0, 50), os.Chmod(r+"/bin/sh", 0o750))
		}, ""},
		"a shell for another group": {func(r string, _ *jail.Spec) error {
			return first(os.Chown(r+"/bin/sh", 0, 51), os.Chmod(r+"/bin/sh", 0o750))
		}, "error inside-shell mode 0750"},
		"a shell of the registry's": {func(_ string, s *jail.Spec) error { s.Logins[0].Shell = "/bin/zsh"; return nil }, "error inside-shell /bin/zsh"},
		"a shell for sftp alone":    {func(_ string, s *jail.Spec) error { s.Logins[0].Shell = "/usr/sbin/nologin"; return nil }, "warning inside-shell by sftp"},
		"the same without sftp": {func(_ string, s *jail.Spec) error {
			s.Logins[0].Shell, s.SFTP = "/usr/sbin/nologin", wire.SFTPOff
			return nil
		}, "error inside-shell does not exist"},
		"a shell out of the root": {func(r string, _ *jail.Spec) error {
			return first(os.Remove(r+"/bin/sh"), os.Symlink("/usr/bin/true", r+"/bin/sh"))
		}, "error inside-shell does not exist"},
		"keys that others write": {func(r string, _ *jail.Spec) error { return os.Chmod(r+"/home/tenant/.ssh/authorized_keys", 0o666) },
			"error inside-keys writable by others"},
		"keys of another": {func(r string, _ *jail.Spec) error { return os.Chown(r+"/home/tenant/.ssh/authorized_keys", 5, 5) },
			"error inside-keys is owned by uid 5"},
		"no keys": {func(r string, _ *jail.Spec) error { return os.Remove(r + "/home/tenant/.ssh/authorized_keys") }, "note inside-no-keys no key"},
		"a line that does not count": {func(r string, _ *jail.Spec) error {
			return os.WriteFile(r+"/home/tenant/.ssh/authorized_keys", []byte("nonsense "+key+key), 0o600)
		}, "note inside-keys-line line 1 ignored"},
		"keys that are root's alone": {func(r string, _ *jail.Spec) error {
			return first(os.Chown(r+"/home/tenant/.ssh/authorized_keys", 0, 0), os.Chmod(r+"/home/tenant/.ssh/authorized_keys", 0o600))
		}, "error inside-keys permission denied"},
	} {
		root := rootfs(t)
		s := spec(root)
		require.NoError(t, c.make(root, &s), claim)
		found, err := Look(command, []jail.Spec{s})
		require.NoError(t, err, claim)
		got := map[string]string{}
		for _, r := range found {
			assert.Equal(t, "alice", r.Login, claim)
			got[r.Severity.String()+" "+r.ID] = r.What
		}
		wanted := 0
		for _, w := range strings.Split(c.want, ", ") {
			if f := strings.SplitN(w, " ", 3); len(f) == 3 {
				wanted++
				assert.Contains(t, got[f[0]+" "+f[1]], f[2], "%s: %v", claim, got)
			} else if w != "" { // the rest of what was cut
				assert.Contains(t, fmt.Sprint(got), w, claim)
			}
		}
		assert.Len(t, got, wanted, "%s: %v", claim, got)
	}
}

func os2(f func(string) error) func(string, *jail.Spec) error {
	return func(r string, _ *jail.Spec) error { return f(r) }
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// procfs can be mounted once and cannot be mapped.
func TestFileSystemWithoutMappedIDs(t *testing.T) {
	needs.Root(t, "it mounts")
	s := spec("/proc")
	found, err := Look(self(t), []jail.Spec{s})
	require.NoError(t, err)
	assert.Contains(t, fmt.Sprint(found), "inside-idmap")
	s.Userns.Enabled = false
	found, err = Look(self(t), []jail.Spec{s})
	require.NoError(t, err)
	assert.NotContains(t, fmt.Sprint(found), "inside-idmap")

	mounts := spec(rootfs(t))
	mounts.Mounts = []jail.Mount{{Source: "/proc", Target: "/mnt"}}
	found, err = Look(self(t), []jail.Spec{mounts})
	require.NoError(t, err)
	assert.Contains(t, fmt.Sprint(found), "inside-idmap", "a mount's")
	mounts.Userns.Keep = true
	found, err = Look(self(t), []jail.Spec{mounts})
	require.NoError(t, err)
	assert.Empty(t, found)
}

// What looks has no more than the login's rights there, and keeps none.
func TestTheThreadsOfOtherLoginsKeepRoot(t *testing.T) {
	needs.Root(t, "it looks as another")
	a, b := rootfs(t), rootfs(t)
	var jails []jail.Spec
	for i := range 40 {
		s := spec([]string{a, b}[i%2])
		s.Name = fmt.Sprint("j", i)
		jails = append(jails, s)
	}
	require.NoError(t, os.Chmod(filepath.Dir(b), 0o700)) // root opens it, each time
	var in, out bytes.Buffer
	require.NoError(t, json.NewEncoder(&in).Encode(jails))
	require.NoError(t, Serve(&in, &out))
	assert.Equal(t, 40, strings.Count(out.String(), "\n"))
	assert.NotContains(t, out.String(), "ID", out.String())
	assert.Equal(t, 0, unix.Geteuid())
}

func TestOneWhoEndsEarlyHasSeenNothing(t *testing.T) {
	_, err := Look([]string{"/bin/true"}, []jail.Spec{spec("/nowhere")})
	require.Error(t, err)
	_, err = Look([]string{"/bin/echo", `{"Index":7}`}, []jail.Spec{spec("/nowhere")})
	require.Error(t, err, "another login's")
}

func TestOneWhoDoesNotAnswer(t *testing.T) {
	was := lookWithin
	defer func() { lookWithin = was }()
	lookWithin = 10 * time.Millisecond
	found, err := Look([]string{"/bin/sleep", "100"}, []jail.Spec{spec("/nowhere")})
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, audit.Error, found[0].Severity)
	assert.Equal(t, "inside-silent", found[0].ID)
}

// A file system that takes every request and answers none: its login is said to be silent,
// all others are looked at, and who has asked can end.
func TestFileSystemThatDoesNotAnswer(t *testing.T) {
	if dir := needs.Silent(t); dir != "" {
		dead := spec(dir + "/dead/x")
		dead.Name = "dead"
		found, err := Look(self(t), []jail.Spec{dead, spec(os.Getenv("JAIL_TEST_WELL"))})
		fmt.Println("RESULT", err, len(found), found[0].Jail, found[0].ID)
		return
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	says := needs.RunBesideSilent(t, dir, false, "JAIL_TEST_WELL="+rootfs(t))
	assert.Equal(t, "RESULT <nil> 1 dead inside-silent", says)
}
