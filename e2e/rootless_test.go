package e2e

import (
	"bytes"
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

// asAlice is a command of an ordinary user, in her home, with her XDG
// directories.
func asAlice(args ...string) *exec.Cmd {
	path, err := exec.LookPath(args[0])
	if err != nil {
		path = args[0]
	}
	return &exec.Cmd{
		Path: path,
		Args: args,
		Dir:  alice.home,
		Env: []string{
			"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin", "HOME=" + alice.home, "USER=" + alice.login, "LOGNAME=" + alice.login,
			"XDG_CONFIG_HOME=" + alice.home + "/.config", "XDG_RUNTIME_DIR=" + aliceRuntime(),
		},
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: &syscall.Credential{Uid: uint32(alice.id), Gid: uint32(alice.id)},
		},
	}
}

func aliceRuntime() string { return fmt.Sprintf("/run/user/%d", alice.id) }

// aliceTree gives her a busybox tree of her own and a directory to mount.
func aliceTree(t *testing.T) string {
	t.Helper()
	tree, shown := filepath.Join(alice.home, "tree"), filepath.Join(alice.home, "shown")
	require.NoError(t, command("cp", "-a", busyboxRoot, tree))
	require.NoError(t, os.MkdirAll(shown, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(tree, "mnt"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(shown, "file"), []byte("shown\n"), 0o644))
	require.NoError(t, appendFile(filepath.Join(tree, "etc/passwd"), fmt.Sprintf("inside:x:%d:%d::/tmp:/bin/sh\n", alice.id, alice.id)))
	require.NoError(t, appendFile(filepath.Join(tree, "etc/group"), fmt.Sprintf("inside:x:%d:\n", alice.id)))
	require.NoError(t, command("chown", "-R", fmt.Sprintf("%d:%d", alice.id, alice.id), tree, shown))
	t.Cleanup(func() {
		for _, dir := range []string{tree, shown, filepath.Join(alice.home, ".config")} {
			require.NoError(t, os.RemoveAll(dir))
		}
	})
	return tree
}

// ranges are with and without ids beside the user's own.
var ranges = map[string]bool{"one id": false, "subordinate ids": true}

func forgetSubordinates(t *testing.T) {
	t.Helper()
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text := contents(file)
		t.Cleanup(func() { require.NoError(t, os.WriteFile(file, []byte(text), 0o644)) })
		kept := strings.ReplaceAll(text, alice.login+":2000000:65536\n", "")
		require.NotEqual(t, text, kept)
		require.NoError(t, os.WriteFile(file, []byte(kept), 0o644))
	}
}

func TestRootlessServe(t *testing.T) {
	for name, subordinate := range ranges {
		t.Run(name, func(t *testing.T) {
			alone(t)
			if !subordinate {
				forgetSubordinates(t)
			}
			tree := aliceTree(t)
			config := filepath.Join(alice.home, ".config/jail")
			require.NoError(t, os.MkdirAll(config, 0o755))
			registry := filepath.Join(config, "jail.toml")
			require.NoError(t, os.WriteFile(registry, []byte(fmt.Sprintf(`version = 1
[jail.mine]
rootfs = %q
users = ["alice"]
mounts = [ { source = %q, target = "/mnt", readonly = true } ]
`, tree, filepath.Join(alice.home, "shown"))), 0o644))
			require.NoError(t, command("chown", "-R", fmt.Sprintf("%d:%d", alice.id, alice.id), filepath.Join(alice.home, ".config")))

			r := runCommand(t, asAlice(initPath, "check"), nil)
			assert.Equal(t, 1, strings.Count(r.stdout, "error: ")+strings.Count(r.stdout, "warning: "), "%s%s", r.stdout, r.stderr)
			assert.Contains(t, r.stdout, "[serve-down]")
			serve := asAlice(initPath, "serve")
			var log bytes.Buffer
			serve.Stderr = &log
			require.NoError(t, serve.Start())
			t.Cleanup(func() {
				serve.Process.Signal(syscall.SIGINT) // ends its jails too
				serve.Wait()
				if t.Failed() {
					t.Logf("her serve: %s", log.String())
				}
				require.NoError(t, os.RemoveAll(aliceRuntime()+"/jail"))
			})
			socket := fmt.Sprintf("%s/jail/%d/sock", aliceRuntime(), alice.id)
			eventually(t, "her serve listens", func() bool { _, err := os.Stat(socket); return err == nil })
			assert.Empty(t, jailPIDs("mine"))
			rootlessSession(t, "mine")
			// Her records are hers, and below her runtime directory.
			require.Equal(t, 9, runCommand(t, asAlice(enterPath, "--runtime-dir", aliceRuntime()+"/jail", "-c", "exit 9"), nil).status)
			eventually(t, "it is in her records", func() bool {
				r := runCommand(t, asAlice(initPath, "last", "-n", "1"), nil)
				return strings.Contains(r.stdout, "  alice  mine  command  ") && strings.Contains(r.stdout, "status 9")
			})
			assert.DirExists(t, aliceRuntime()+"/jail/log/jails")

			stop := runCommand(t, asAlice(initPath, "stop", "mine"), nil)
			assert.Equal(t, result{stdout: "jail mine has ended; the next login starts it again (jail disable mine keeps logins out)\n"}, stop)
			assert.Empty(t, jailPIDs("mine"))
		})
	}
}

// rootlessSession looks round in a jail of alice's.
func rootlessSession(t *testing.T, name string) {
	t.Helper()
	inside := func(args ...string) result {
		t.Helper()
		return runCommand(t, asAlice(append([]string{enterPath, "--runtime-dir", aliceRuntime() + "/jail"}, args...)...), strings.NewReader("in\n"))
	}
	assert.Equal(t, result{stdout: "inside /tmp\n", status: 3}, inside("-c", "echo $(id -un) $(pwd); exit 3"))
	assert.Equal(t, result{stdout: "in\n"}, inside("-c", "cat"))
	assert.Equal(t, result{stdout: fmt.Sprintf("%d\n", alice.id)}, inside("-c", "echo x >/tmp/made; stat -c %u /tmp/made; rm /tmp/made"))
	ps := inside("-c", "ps -o pid,args")
	assert.Regexp(t, `(?m)^ *1 +jail-init: `+name, ps.stdout)
	assert.NotContains(t, ps.stdout, "serve")
	assert.Equal(t, result{stdout: "shown\nread-only\n"}, inside("-c", "cat /mnt/file; touch /mnt/new 2>/dev/null || echo read-only"))
	root := inside("-c", "ls /; cat /etc/issue")
	assert.Contains(t, root.stdout, "BusyBox")
	assert.NotContains(t, root.stdout, "srv")
	for _, cmd := range []string{"internal-sftp", "/usr/lib/openssh/sftp-server", "/dev/jail/sftp-server"} {
		r := runCommand(t, asAlice(enterPath, "--runtime-dir", aliceRuntime()+"/jail", "-c", cmd), strings.NewReader(hello))
		assert.Zero(t, r.status, "%s: %s", cmd, r.stderr)
		assert.Regexp(t, served, r.stdout, cmd)
	}
	for _, pid := range jailPIDs(name) {
		assertHostRootUnmapped(t, pid)
		assert.NotEqual(t, 0, uidOf(pid))
	}
}

func TestRootlessRun(t *testing.T) {
	alone(t)
	tree := aliceTree(t)
	id := fmt.Sprint(alice.id)
	r := runCommand(t, asAlice(initPath, "run", "-u", id, "-r", tree, "-m", "/mnt="+filepath.Join(alice.home, "shown")), nil)
	require.Zero(t, r.status, "%s", r.stderr)
	name := "u" + id
	t.Cleanup(func() {
		runCommand(t, asAlice(initPath, "stop", name), nil)
		require.NoError(t, os.RemoveAll(aliceRuntime()+"/jail"))
	})
	require.Len(t, jailPIDs(name), 1)
	cmd := asAlice(enterPath, "--runtime-dir", aliceRuntime()+"/jail", "-c", "id -un; cat /mnt/file")
	assert.Equal(t, result{stdout: "inside\nshown\n"}, runCommand(t, cmd, nil))
}

// The letters of the jaild of old make a jail without a registry.
func TestRunWithLetters(t *testing.T) {
	alone(t)
	require.NoError(t, os.WriteFile(registryPath, []byte("version = 1\n"), 0o644))
	shown := filepath.Join(t.TempDir(), "shown")
	require.NoError(t, os.WriteFile(shown, []byte("shown\n"), 0o644))
	target := filepath.Join(busyboxRoot, "mnt")
	require.NoError(t, os.WriteFile(target, nil, 0o644))
	t.Cleanup(func() { os.Remove(target) })

	id := fmt.Sprint(centos.id)
	for claim, row := range map[string]struct {
		args []string
		want string
	}{
		"uid alone":           {nil, "work 61000 61000 /bin/sh /home/work\n"},
		"gid, name and shell": {[]string{"-g", "61005", "-n", "renamed", "-s", "/bin/ash"}, "renamed 61000 61005 /bin/ash /home/work\n"},
		"a mount":             {[]string{"-m", "/mnt=" + shown}, "work 61000 61000 /bin/sh /home/work\n"},
	} {
		t.Run(claim, func(t *testing.T) {
			r := runCommand(t, exec.Command(initPath, append([]string{"run", "-u", id, "-r", busyboxRoot}, row.args...)...), nil)
			require.Zero(t, r.status, "%s", r.stderr)
			defer func() { require.NoError(t, command(initPath, "stop", "u"+id)) }()
			got := run(t, login, ask{as: centos, cmd: "echo $USER $(id -u) $(id -g) $SHELL $HOME"})
			assert.Equal(t, result{stdout: row.want}, got)
			assert.Equal(t, row.want, runCommand(t, exec.Command("su", "-", "centos", "-c", "echo $USER $(id -u) $(id -g) $SHELL $HOME"), nil).stdout)
			if claim == "a mount" {
				assert.Equal(t, result{stdout: "shown\n"}, run(t, login, ask{as: centos, cmd: "cat /mnt"}))
			}
		})
	}
	t.Run("in the foreground", func(t *testing.T) {
		cmd := exec.Command(initPath, "run", "-u", id, "-r", busyboxRoot, "-c")
		require.NoError(t, cmd.Start())
		eventually(t, "the login lands there", func() bool { return run(t, login, ask{as: centos, cmd: "exit 7"}).status == 7 })
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		cmd.Wait()
		assert.Empty(t, jailPIDs("u"+id))
	})
}
