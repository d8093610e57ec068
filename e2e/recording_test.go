package e2e

import (
	"encoding/json"
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

const recordings = "/var/log/jail/recordings"

// recordingOf reads the one recording of a login, whole: its header and what its terminal was sent.
func recordingOf(t *testing.T, path string) (header map[string]any, output, input string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(contents(path), "\n"), "\n")
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &header))
	for _, line := range lines[1:] {
		var ev []any
		require.NoError(t, json.Unmarshal([]byte(line), &ev), line)
		require.Len(t, ev, 3)
		switch ev[1] {
		case "o":
			output += ev[2].(string)
		case "i":
			input += ev[2].(string)
		}
	}
	return header, output, input
}

// TestRecording: what terminals of sessions show is recorded where the registry says so, the user is told,
// and it can be shown again.
func TestRecording(t *testing.T) {
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(recordings)) })
	users := fmt.Sprintf("uid = %d", work.id)
	s := own(t, oneJail("debian", debianRoot, `users = ["debian"]`, users, `record = "tty"`))
	t.Cleanup(func() { // the recorder waits for another serve a while
		require.NoError(t, s.stop())
		eventually(t, "no recorder is left", func() bool { return len(recorders()) == 0 })
	})
	files := func() []string {
		list, _ := filepath.Glob(recordings + "/debian/*.cast")
		return list
	}
	const told = "jail-enter: this session is recorded\r\n"
	typed := func(d door) (shown string) {
		t.Helper()
		cmd := exec.Command("ssh", "-F", sshDir+"/config", "-l", d.user(work), "-S", "none", "-tt", "--", string(d))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=xterm"}
		c := onConsole(t, cmd)
		c.expect(`\$ $`)
		c.send("echo to\"\"ld\n")
		c.expect(`[\n\r]told\r\n`)
		c.expect(`\$ $`)
		c.send("exit\n")
		assert.Zero(t, c.wait())
		return c.heard()
	}
	shown := typed(forced)
	assert.True(t, strings.HasPrefix(shown, told), "%q", shown)
	eventually(t, "there is a recording", func() bool { return len(files()) == 1 })
	path := files()[0]
	eventually(t, "the recording has ended", func() bool { return !strings.Contains(run(t, forced, ask{cmd: "true"}).stdout+listed(t), "running") })
	header, output, input := recordingOf(t, path)
	assert.Equal(t, strings.TrimPrefix(shown, told), output, "byte for byte")
	assert.Empty(t, input, "what is typed is nobody's business")
	for key, want := range map[string]any{
		"version": 2.0, "width": 80.0, "height": 24.0, "jail": "debian", "login": "debian", "host_uid": float64(work.id), "env": map[string]any{"TERM": "xterm"},
	} {
		assert.Equal(t, want, header[key], key)
	}
	for _, p := range []string{path, recordings, filepath.Dir(path)} {
		st, err := os.Stat(p)
		require.NoError(t, err)
		assert.Zero(t, st.Mode().Perm()&0o077, p)
	}
	id := strings.TrimSuffix(filepath.Base(path), ".cast")
	t.Run("not without a terminal", func(t *testing.T) {
		assert.Equal(t, result{stdout: "x\n"}, run(t, forced, ask{cmd: "echo x"}))
		assert.Len(t, files(), 1)
	})
	t.Run("a su", func(t *testing.T) {
		c := onConsole(t, exec.Command("su", "-", work.login))
		c.expect(`(?s)^` + told + `.*\$ $`)
		c.send("exit\n")
		assert.Zero(t, c.wait())
		eventually(t, "it is recorded", func() bool { return len(files()) == 2 })
	})
	t.Run("replay", func(t *testing.T) {
		r := runCommand(t, exec.Command(initPath, "replay", id), nil)
		assert.Contains(t, r.stdout, "\ntold\n", "as text, where there is no terminal")
		assert.NotContains(t, r.stdout, "\x1b")
		var last struct {
			Sessions []struct {
				Session, Kind string
				Caller        struct{ PID int }
			}
		}
		require.NoError(t, json.Unmarshal([]byte(runCommand(t, exec.Command(initPath, "last", "--json"), nil).stdout), &last))
		found := 0
		for _, s := range last.Sessions {
			if s.Kind == "shell" && strings.HasSuffix(id, fmt.Sprintf("-%d", s.Caller.PID)) {
				found++
				assert.Equal(t, r, runCommand(t, exec.Command(initPath, "replay", s.Session), nil), "by the session's id")
			}
		}
		assert.Equal(t, 1, found, "by the pid of its caller: recording %s, sessions %+v", id, last.Sessions)
		c := onConsole(t, exec.Command(initPath, "replay", id, "--speed", "64"))
		c.expect(`[\n\r]told\r\n`)
		assert.Zero(t, c.wait())
		assert.Contains(t, c.heard(), strings.TrimSpace(output), "on a terminal as it was")
		r = runCommand(t, exec.Command(initPath, "replay", "nobody"), nil)
		assert.Equal(t, result{stderr: "jail-init: there is no recording \"nobody\"; jail recordings lists them\n", status: 1}, r)
	})
	t.Run("watch, what is typed, and a recorder that dies", func(t *testing.T) {
		reload := func(text string) {
			require.NoError(t, os.WriteFile(registryPath, []byte(text), 0o644))
			require.NoError(t, command(initPath, "reload"))
		}
		reg := oneJail("debian", debianRoot, `users = ["debian"]`, users, `record = "tty"`, "record_input = true")
		reload(reg.text)
		cmd := exec.Command("ssh", "-F", sshDir+"/config", "-l", forced.user(work), "-S", "none", "-tt", "--", string(forced))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=xterm"}
		c := onConsole(t, cmd)
		c.expect(`(?s)^jail-enter: this session is recorded, and so is what you type\r\n.*\$ $`)
		eventually(t, "it is recorded", func() bool { return len(files()) == 3 })
		w := onConsole(t, exec.Command(initPath, "watch", "debian"))
		w.expect(`\$ $`)
		w.send("\x1bP1$r2 q\x1b\\") // a terminal's answer to DECRQSS, which is nobody's q
		c.send("echo se\"\"en\n")
		w.expect(`[\n\r]seen\r\n`)
		// serve goes and comes; what it has started goes on.
		s.kill(syscall.SIGKILL)
		require.NoError(t, s.start())
		c.send("echo sti\"\"ll\n")
		w.expect(`[\n\r]still\r\n`)
		last := files()[len(files())-1]
		eventually(t, "what is typed is there", func() bool {
			_, _, input := recordingOf(t, last)
			return strings.Contains(input, "echo se\"\"en\r") || strings.Contains(input, "echo se\"\"en\n")
		})
		eventually(t, "there are two, since the one before has a session", func() bool { return len(recorders()) == 2 })
		for _, pid := range recorders() {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		}
		w.expect(`has ended`)
		assert.Zero(t, w.wait())
		c.send("echo on\"\"ward\n")
		c.expect(`[\n\r]onward\r\n`)
		c.send("exit\n")
		assert.Zero(t, c.wait())
		eventually(t, "there is another one", func() bool { return len(recorders()) == 1 })
		assert.Contains(t, world.tail("serve.log", 0), "the recorder has ended (signal: killed)")
		n := len(files())
		assert.Contains(t, typed(forced), "is recorded", "and it records")
		eventually(t, "there is a file", func() bool { return len(files()) == n+1 })
		reload(oneJail("debian", debianRoot, `users = ["debian"]`, users).text)
		assert.NotContains(t, typed(forced), "recorded")
	})
}

func listed(t *testing.T) string {
	r := runCommand(t, exec.Command(initPath, "recordings"), nil)
	require.Zero(t, r.status, r.stderr)
	return r.stdout
}

// recorders are the processes that record.
func recorders() (pids []int) {
	for pid := range processes() {
		if cmdline := contents(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(cmdline, "jail-recorder\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}
