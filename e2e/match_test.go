package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/fdsock"
)

const (
	extra        = "/var/lib/extrausers"
	firstStudent = 71000 // of the uids
	studentsGID  = 73000
)

// extrausers gives the host accounts that are in no file but those of libnss-extrausers, as
// a directory's are, st0 and so on, of the group students. The returned function changes
// how many there are.
func extrausers(t *testing.T, home func(i int) string) (people func(to int)) {
	t.Helper()
	require.NoError(t, empty(extra, 0o755))
	nsswitch := contents("/etc/nsswitch.conf")
	t.Cleanup(func() {
		require.NoError(t, os.WriteFile("/etc/nsswitch.conf", []byte(nsswitch), 0o644))
		require.NoError(t, unix.Unmount(extra, unix.MNT_DETACH))
	})
	sources := regexp.MustCompile(`(?m)^(passwd|group|shadow):.*`).ReplaceAllString(nsswitch, "$1: files extrausers")
	require.NoError(t, os.WriteFile("/etc/nsswitch.conf", []byte(sources), 0o644))
	return func(to int) {
		var passwd, shadow strings.Builder
		for i := range to {
			fmt.Fprintf(&passwd, "st%d:x:%d:%d::%s:%s\n", i, firstStudent+i, studentsGID, home(i), enterPath)
			fmt.Fprintf(&shadow, "st%d:*:19000:0:99999:7:::\n", i)
		}
		for name, text := range map[string]string{"passwd": passwd.String(), "shadow": shadow.String(), "group": fmt.Sprintf("students:x:%d:st1\n", studentsGID)} {
			require.NoError(t, os.WriteFile(filepath.Join(extra, name), []byte(text), 0o644))
		}
	}
}

// sixLines is what the README says.
func sixLines(t *testing.T) string {
	t.Helper()
	_, text, found := strings.Cut(contents("../README.md"), "With six lines in `/etc/jail/jail.toml`")
	require.True(t, found)
	_, text, _ = strings.Cut(text, "```toml\n")
	text, _, _ = strings.Cut(text, "```")
	require.Equal(t, 6, strings.Count(text, "\n"), "%s", text)
	return text
}

// TestSixLinesCageAGroup: on a host with a thousand accounts of a directory in a group, the
// six lines of the README and one reload cage every one of them.
func TestSixLinesCageAGroup(t *testing.T) {
	const homes, students = "/srv/people/students", 1000
	own(t, registry{text: "version = 1\n"})
	home := func(i int) string { return fmt.Sprintf("%s/st%d", homes, i) }
	t.Cleanup(func() { require.NoError(t, errors.Join(os.RemoveAll(homes), os.RemoveAll("/run/jail/host/root"))) })
	require.NoError(t, os.MkdirAll(homes, 0o755))
	for i := range students {
		require.NoError(t, os.Mkdir(home(i), 0o700))
		require.NoError(t, os.Chown(home(i), firstStudent+i, studentsGID))
	}
	keys := filepath.Join(home(7), ".ssh/authorized_keys")
	require.NoError(t, os.Mkdir(filepath.Dir(keys), 0o700))
	require.NoError(t, os.WriteFile(keys, []byte(contents(keyFile+".pub")), 0o600))
	require.NoError(t, command("chown", "-R", fmt.Sprintf("%d:%d", firstStudent+7, studentsGID), home(7)))
	extrausers(t, home)(students)
	plant(t, "/etc/group", contents("/etc/group")+"project:x:74001:st7,st8\n")

	require.NoError(t, os.WriteFile(registryPath, []byte(sixLines(t)), 0o644))
	// No login's socket says that this serve, which has none, is ready.
	eventually(t, "serve takes orders", func() bool {
		_, err := os.Stat(fdsock.ServePath("/run/jail"))
		return err == nil
	})
	reload := runCommand(t, exec.Command(initPath, "reload"), nil) // which is systemctl reload jail
	require.Zero(t, reload.status, "%s%s", reload.stdout, reload.stderr)
	ps := runCommand(t, exec.Command(initPath, "ps"), nil)
	assert.Equal(t, students, strings.Count(ps.stdout, " host:"+homes+"/st"), "all have a cage")
	t.Cleanup(func() { command(initPath, "stop", "st7") })
	student := centos
	student.login = "st7"
	cmd := "id; pwd; hostname; ls " + homes + "; echo mine >file; test -e /etc/shadow || echo caged"
	assert.Equal(t, result{stdout: fmt.Sprintf("uid=%d(st7) gid=%d(students) groups=%d(students),74001(project)\n%s\nst7\nst7\ncaged\n", firstStudent+7, studentsGID, studentsGID, home(7))},
		runCommand(t, clientOf(variant(t, forced, "Match Group students"), forced, student, "--", string(forced), cmd), nil))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(home(7)+"/file", &st))
	assert.Equal(t, [2]uint32{firstStudent + 7, studentsGID}, [2]uint32{st.Uid, st.Gid}, "on the disk it is the account's")
}

// A thousand accounts of a group, which are in no file of the host's but those of
// libnss-extrausers, get their jails by one block. Two have a root directory; what the
// others have not is theirs.
func TestOneBlockForAThousandAccounts(t *testing.T) {
	const dir = jailsDir + "/students"
	s := own(t, standardRegistry())
	people := extrausers(t, func(int) string { return emptyHome })
	people(1000)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for _, name := range []string{"st7", "st1000"} {
		require.NoError(t, command("cp", "-a", busyboxRoot, filepath.Join(dir, name)))
	}
	require.NoError(t, os.WriteFile(registryPath, []byte(s.registry.text+fmt.Sprintf(`
[template.student]
rootfs = "%s/{user}"
uid = %d
[[match]]
group = "students"
template = "student"
`, dir, centos.id)), 0o644))
	reload := runCommand(t, exec.Command(initPath, "reload"), nil)
	assert.Equal(t, 2, reload.status, "%s", reload.stderr)
	assert.Contains(t, reload.stdout+reload.stderr, "and 991 more, of match group = \"students\"", "999 without a root directory are a line")

	student := centos
	student.login = "st7"
	server := variant(t, forced, "Match Group students")
	ssh := func(cmd string) result {
		return runCommand(t, clientOf(server, forced, student, "--", string(forced), cmd), nil)
	}
	assert.Equal(t, result{stdout: "work st7\n"}, ssh(`echo $USER $(hostname)`))
	t.Cleanup(func() { command(initPath, "stop", "st7") })
	assert.Zero(t, run(t, login, ask{as: centos, cmd: "true"}).status, "a jail of its own beside them")
	plan := runCommand(t, exec.Command(initPath, "plan", "st7"), nil)
	assert.Zero(t, plan.status)
	assert.Regexp(t, `(?m)^users\.st7 +uid 71007 on the host, inside uid 61000, .* `+registryPath+`:\d+ match group = "students"$`, plan.stdout)
	assert.Contains(t, plan.stdout, "note: this is in force; it runs (pid ")
	assert.Equal(t, 1, runCommand(t, exec.Command(initPath, "plan", "st8"), nil).status)

	// One has come.
	people(1001)
	assert.Equal(t, 2, runCommand(t, exec.Command(initPath, "reload"), nil).status)
	t.Cleanup(func() { command(initPath, "stop", "st1000") })
	student.login = "st1000"
	assert.Equal(t, result{stdout: "work st1000\n"}, ssh(`echo $USER $(hostname)`))
	again := runCommand(t, exec.Command(initPath, "plan", "st7"), nil)
	assert.Equal(t, plan.stdout, again.stdout, "which moves nobody's range")
}
