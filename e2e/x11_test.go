package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// displayOfClient starts an X server and returns the environment of its clients.
func displayOfClient(t *testing.T) []string {
	t.Helper()
	dir := shortDir(t)
	authority := filepath.Join(dir, "authority")
	add := func(number string) {
		require.NoError(t, command("xauth", "-q", "-f", authority, "add", ":"+number, "MIT-MAGIC-COOKIE-1", "00112233445566778899aabbccddeeff"))
	}
	add("0") // what the server asks for, whatever its number will be
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	server := exec.Command("Xvfb", "-displayfd", "3", "-auth", authority, "-screen", "0", "640x480x8", "-noreset")
	server.ExtraFiles = []*os.File{w}
	require.NoError(t, server.Start())
	w.Close()
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGTERM)
		server.Wait()
		os.Remove("/tmp/.X11-unix")
	})
	number, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err, "Xvfb does not start")
	number = strings.TrimSpace(number)
	add(number)
	return []string{"PATH=" + os.Getenv("PATH"), "DISPLAY=:" + number, "XAUTHORITY=" + authority, "HOME=" + dir}
}

// x11Registry is a jail of work and emptyShell, with X11 or without.
func x11Registry(on bool) registry {
	return oneJail("x11", debianRoot, fmt.Sprintf("x11 = %v", on), `hostname = "other.name"`, "[jail.x11.users]",
		fmt.Sprintf("%s = { uid = %d }", work.login, work.id), fmt.Sprintf("%s = { uid = %d }", emptyShell.login, emptyShell.id))
}

// x11Lines are what jail-init check asks for.
func x11Lines(as account) []string {
	return []string{"X11Forwarding yes", fmt.Sprintf("SetEnv XAUTHORITY=/run/jail/%d/x11/authority", as.id)}
}

// TestX11 has a real client in a jail open a real display, through a real sshd
// that has xauth write the cookie: the account's home on the host is root's.
func TestX11(t *testing.T) {
	own(t, x11Registry(true))
	env := displayOfClient(t)
	bring(t, debianRoot, "xdpyinfo", "xauth")
	hosts := filepath.Join(debianRoot, "etc/hosts")
	require.NoError(t, os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644))
	t.Cleanup(func() { os.Remove(hosts) })
	const size = "xdpyinfo | grep dimensions"
	for _, d := range jailDoors {
		t.Run(string(d), func(t *testing.T) {
			server := variant(t, d, x11Lines(work)...)
			through := func(args ...string) result {
				cmd := clientOf(server, d, work, args...)
				cmd.Env = env
				return runCommand(t, cmd, nil)
			}
			r := through("-Y", "--", string(d), size)
			assert.Contains(t, r.stdout, "640x480", "%q", r.stderr)
			r = through("-Y", "-tt", "--", string(d), size)
			assert.Contains(t, r.stdout, "640x480", "on a terminal: %q", r.stderr)
			r = through("-X", "--", string(d), size)
			assert.Contains(t, r.stdout, "640x480", "untrusted: %q", r.stderr)

			r = through("-Y", "--", string(d), "echo $DISPLAY $XAUTHORITY; stat -c '%a %U' $XAUTHORITY ${XAUTHORITY%/*}; xauth list | wc -l")
			assert.Regexp(t, `^localhost:\d+\.0 /dev/jail/x11/\d+/authority\n600 work\n700 work\n2\n$`, r.stdout)
			r = through("-x", "--", string(d), "echo ${DISPLAY-unset} ${XAUTHORITY-unset}; ls /dev/jail/x11")
			assert.Equal(t, result{stdout: "unset unset\n"}, r, "without -X nothing is there, nor left of before")

			// The port is everybody's, the cookie is not.
			cmd := clientOf(server, d, work, "-Y", "--", string(d), "echo $DISPLAY $XAUTHORITY; read x")
			cmd.Env = env
			l := talkThrough(t, cmd)
			where := strings.Fields(l.expect("localhost.*\n"))
			for _, authority := range []string{where[1], "/nonexistent"} {
				r = run(t, forced, asked(emptyShell, fmt.Sprintf("DISPLAY=%s XAUTHORITY=%s xdpyinfo", where[0], authority)))
				assert.Equal(t, 1, r.status, "%q", r.stdout)
			}
			l.send("\n")
			l.cmd.Wait()
		})
	}
	t.Run("the host's side", func(t *testing.T) {
		info, err := os.Stat(fmt.Sprintf("/run/jail/%d/x11", work.id))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700)|os.ModeDir, info.Mode())
		assert.Equal(t, uint32(work.id), info.Sys().(*syscall.Stat_t).Uid)
	})
	t.Run("check", func(t *testing.T) {
		const file = "/etc/ssh/sshd_config"
		before := contents(file)
		defer func() { require.NoError(t, os.WriteFile(file, []byte(before), 0o600)) }()
		check := func() string { return runCommand(t, exec.Command(initPath, "check"), nil).stdout }
		text := check()
		for _, line := range x11Lines(work) {
			assert.Contains(t, text, "fix: "+line+" [sshd-")
		}
		argv := variant(t, forced, x11Lines(work)...)
		for i, a := range argv {
			if a == "-f" {
				require.NoError(t, os.WriteFile(file, []byte(contents(argv[i+1])), 0o600))
			}
		}
		for line := range strings.Lines(check()) {
			if strings.Contains(line, " "+work.login+":") {
				assert.NotContains(t, line, "X11")
				assert.NotContains(t, line, "XAUTHORITY")
			}
		}
	})
}

// TestX11Off has sshd forward a display to a jail that is to have none.
func TestX11Off(t *testing.T) {
	own(t, x11Registry(false))
	env := displayOfClient(t)
	for _, d := range jailDoors {
		// Elsewhere the cookie may well be found.
		home := filepath.Join(shortDir(t), "authority")
		require.NoError(t, os.Chown(filepath.Dir(home), work.id, work.id))
		server := variant(t, d, "X11Forwarding yes", "SetEnv XAUTHORITY="+home)
		cmd := clientOf(server, d, work, "-Y", "--", string(d), "echo ${DISPLAY-unset} ${XAUTHORITY-unset}; ls -d /dev/jail/x11")
		cmd.Env = env
		r := runCommand(t, cmd, nil)
		assert.Equal(t, "unset unset\n", r.stdout, "through %s", d)
		assert.NotEmpty(t, contents(home), "sshd has had it written")
	}
}
