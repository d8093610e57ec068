package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWhoIsOn: the host's who, users, w and last show a jailed login on a terminal as they show a plain one.
// sshd records it for the terminal it has made itself; a jail changes nothing of that.
func TestWhoIsOn(t *testing.T) {
	standard(t)
	for _, path := range []string{"/run/utmp", "/var/log/wtmp"} {
		put(t, path, "")
	}
	// same is a line without what differs between two logins anyway.
	alike := func(text, name string) string {
		var list []string
		for _, l := range strings.Split(text, "\n") {
			if strings.HasPrefix(l, name+" ") {
				l = regexp.MustCompile(`pts/\d+`).ReplaceAllString(l, "pts/N")
				l = regexp.MustCompile(`\d\d?:\d\d(:\d\d)?(\.\d+)?|\d+\.\d+s`).ReplaceAllString(l, "TIME")
				list = append(list, strings.Join(strings.Fields(strings.Replace(l, name, "NAME", 1)), " "))
			}
		}
		return strings.Join(list, "\n")
	}
	shown := map[door]map[string]string{}
	for _, d := range []door{plain, forced, login} {
		// One after the other: sshd of OpenSSH 9.2 has one place in utmp for a terminal's number.
		cmd := exec.Command("ssh", "-F", sshDir+"/config", "-l", d.user(work), "-S", "none", "-tt", "--", string(d))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=xterm"}
		c := onConsole(t, cmd)
		c.expect(`\$ $`)
		name := d.user(work)
		shown[d] = map[string]string{}
		for verb, argv := range map[string][]string{
			"who": {"who"}, "users": {"users"}, "w": {"w", "-h", "-s"}, "last": {"last", "-w", "-f", "/var/log/wtmp"},
		} {
			if d == plain { // whose account is there
				argv = append([]string{"nsenter", "--mount=" + filepath.Join(world.scratch, oracleNS)}, argv...)
			}
			r := runCommand(t, exec.Command(argv[0], argv[1:]...), nil)
			require.Zero(t, r.status, "%s: %s", verb, r.stderr)
			if verb == "users" {
				r.stdout = strings.TrimSpace(r.stdout) + " \n"
			}
			shown[d][verb] = alike(r.stdout, name)
		}
		c.send("exit\n")
		assert.Zero(t, c.wait())
		eventually(t, "the logout is recorded", func() bool {
			return !strings.Contains(runCommand(t, exec.Command("who"), nil).stdout, name+" ")
		})
		shown[d]["last, when it is over"] = alike(runCommand(t, exec.Command("last", "-w", "-f", "/var/log/wtmp"), nil).stdout, name)
		require.NoError(t, os.Truncate("/var/log/wtmp", 0))
	}
	for verb, want := range shown[plain] {
		require.NotEmpty(t, want, verb)
		for _, d := range []door{forced, login} {
			got := shown[d][verb]
			if verb == "w" { // the program on the host's terminal is ours
				assert.Contains(t, got, "jail-enter", d)
				// Name, terminal, address, time: which of its programs w(1) takes is its affair.
				want, got = strings.Join(strings.Fields(want)[:4], " "), strings.Join(strings.Fields(got)[:4], " ")
			}
			assert.Equal(t, want, got, "%s through %s", verb, d)
		}
	}
}
