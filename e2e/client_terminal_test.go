package e2e

import (
	_ "embed"
	"os/exec"
	"slices"
	"strings"
	"time"
)

func terminalRows() []clientRow {
	return []clientRow{
		{name: "expect", tests: "expect", scenario: expectDialogue,
			does: "a shell on a terminal: prompt, size and its change, a question without echo, ^C, ^Z and fg, ^D, status"},
		{name: "tmux", tests: "tmux", inside: "tmux", scenario: tmuxSurvives,
			does: "a session that outlives its connection, found again by the next one"},
		{name: "mosh", tests: "mosh", inside: "mosh-server", scenario: moshSession,
			does: "a shell over UDP, a new window size, UTF-8, the end of the server with the shell"},
	}
}

//go:embed testdata/client/terminal.exp
var terminalScript string

func expectDialogue(s *site) {
	// The shell is named, since this is about terminals.
	s.must("dialogue", s.client("expect", "-f", "-", "ssh", "-tt", "-F", s.config, "host", "exec sh"), terminalScript)
}

func tmuxSurvives(s *site) {
	tmux := "cd " + s.far + "; exec tmux -S ./sock -f /dev/null "
	defer runCommand(s.t, s.ssh(tmux+"kill-server"), nil)
	s.must("new", s.client("ssh", "-tt", "-F", s.config, "host", tmux+"new-session -d -x 70 -y 20 'printf started; read line; echo \"heard $line\"; cat'"), "")
	s.must("later", s.ssh(tmux+"send-keys 'one line' Enter"), "")
	s.run("shown", s.ssh("cd "+s.far+"; until tmux -S ./sock capture-pane -p | grep 'heard one line'; do sleep 0.1; done"), "")

	// Attached, on a terminal; then the client is gone without a word.
	c := onConsole(s.t, s.ssh("-tt", tmux+"attach"))
	c.expect("heard one line")
	c.send("typed\r")
	c.expect("typed")
	c.cmd.Process.Kill()
	c.wait()
	s.run("nobody is attached", s.ssh("cd "+s.far+"; while tmux -S ./sock list-clients | grep -q .; do sleep 0.1; done"), "")
	s.run("still there", s.ssh(tmux+"list-sessions -F '#{session_windows} #{window_width}'"), "")
	s.run("the end", s.ssh(tmux+"kill-server"), "")
}

func moshSession(s *site) {
	// First, what the program says, which starts no client without a server.
	cmd := s.client("mosh", "--ssh=ssh -F "+s.config, "--bind-server=127.0.0.1", "host", "--", "sh", "-c",
		`: `+s.far+`; stty -echo; printf "ready %s\n" "$(stty size)"; while read x; do echo "<$x> $(stty size)"; done`)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	probe := runCommand(s.t, s.client("ssh", "-tt", "-F", s.config, "host", "mosh-server --version | head -n1"), nil)
	s.note("server: %q", strings.TrimSpace(probe.stdout))
	if strings.Contains(probe.stdout, "not found") {
		// The whole command is told so too.
		r := runCommand(s.t, cmd, nil)
		s.note("mosh: status %d, %s", r.status, r.stdout+r.stderr)
		s.stop()
	}
	c := onConsole(s.t, cmd)
	c.expect("ready 24 80")
	c.send("grüße\r")
	c.expect("<grüße> ")
	// sshd's part is over: what goes on is between the two.
	s.await("no ssh is left", func() bool { return !hasChild(cmd, "ssh") })
	resizeTo(s.t, c.ptmx, 30, 100)
	s.await("the new size", func() bool {
		c.send("again\r")
		return poll(2*time.Second, func() bool { return strings.Contains(c.heard(), "30 100") })
	})
	c.send("\x04")
	s.note("mosh: status %d", c.wait())
	s.await("mosh-server ends", func() bool {
		return !slices.ContainsFunc(running("mosh-server"), func(p process) bool { return strings.Contains(p.args, s.far+";") })
	})
}

func hasChild(cmd *exec.Cmd, name string) bool {
	for _, p := range processes() {
		if p.parent == cmd.Process.Pid && strings.HasPrefix(p.args, name+" ") {
			return true
		}
	}
	return false
}
