package e2e

import (
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
)

// A thousand accounts of a group, which are in no file of the host's but those of
// libnss-extrausers, get their jails by one block. Two have a root directory; what the
// others have not is theirs.
func TestOneBlockForAThousandAccounts(t *testing.T) {
	const (
		extra = "/var/lib/extrausers"
		dir   = jailsDir + "/students"
		first = 71000
	)
	s := own(t, standardRegistry())
	require.NoError(t, empty(extra, 0o755))
	nsswitch := contents("/etc/nsswitch.conf")
	t.Cleanup(func() {
		require.NoError(t, os.WriteFile("/etc/nsswitch.conf", []byte(nsswitch), 0o644))
		require.NoError(t, unix.Unmount(extra, unix.MNT_DETACH))
		require.NoError(t, os.RemoveAll(dir))
	})
	people := func(to int) {
		var passwd, shadow strings.Builder
		for i := range to {
			fmt.Fprintf(&passwd, "st%d:x:%d:73000::%s:%s\n", i, first+i, emptyHome, enterPath)
			fmt.Fprintf(&shadow, "st%d:*:19000:0:99999:7:::\n", i)
		}
		for name, text := range map[string]string{"passwd": passwd.String(), "shadow": shadow.String(), "group": "students:x:73000:st1\n"} {
			require.NoError(t, os.WriteFile(filepath.Join(extra, name), []byte(text), 0o644))
		}
	}
	people(1000)
	sources := regexp.MustCompile(`(?m)^(passwd|group|shadow):.*`).ReplaceAllString(nsswitch, "$1: files extrausers")
	require.NoError(t, os.WriteFile("/etc/nsswitch.conf", []byte(sources), 0o644))
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
