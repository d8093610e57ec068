package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/record"
)

// sessionsBy is what a verb prints with --json.
func sessionsBy(t *testing.T, args ...string) []record.Session {
	t.Helper()
	r := runCommand(t, exec.Command(initPath, append(args, "--json")...), nil)
	require.Zero(t, r.status, r.stderr)
	var list struct {
		V        int
		Sessions []record.Session
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &list), r.stdout)
	require.Equal(t, record.Version, list.V)
	return list.Sessions
}

// TestRecords: each session leaves a record, by sshd, su and exec; a session that goes on
// is shown, also after serve has been killed, and one whose end nobody saw is marked.
func TestRecords(t *testing.T) {
	require.NoError(t, os.RemoveAll("/var/log/jail"))
	s := own(t, oneJail("recorded", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id)))
	l := open(t, forced, ask{as: centos, cmd: "read x; exit 5"})
	var who []record.Session
	eventually(t, "it is shown", func() bool { who = sessionsBy(t, "who"); return len(who) == 1 })
	assert.Equal(t, [4]string{"recorded", centos.login, "command", record.StateOpen}, [4]string{who[0].Jail, who[0].Login, who[0].Kind, who[0].State})
	require.NotNil(t, who[0].UID)
	assert.EqualValues(t, centos.id, *who[0].UID)
	assert.WithinDuration(t, time.Now(), *who[0].Started, time.Minute)
	assert.Contains(t, runCommand(t, exec.Command(initPath, "who"), nil).stdout, who[0].Session)

	s.kill(syscall.SIGKILL)
	require.Equal(t, 3, runCommand(t, exec.Command("su", "-", centos.login, "-c", "exit 3"), nil).status)
	require.NoError(t, s.start())
	require.Equal(t, 4, runCommand(t, exec.Command(initPath, "exec", "recorded", "sh", "-c", "exit 4"), nil).status)
	l.send("x\n")
	assert.Equal(t, 5, l.wait().status)
	var last []record.Session
	eventually(t, "all have ended", func() bool {
		last = sessionsBy(t, "last", "-n", "3")
		return len(last) == 3 && last[0].Status != nil && last[1].Status != nil && last[2].Status != nil
	})
	for i, want := range []struct {
		kind, login string
		status      int
	}{{"exec", "", 4}, {"command", centos.login, 3}, {"command", centos.login, 5}} {
		assert.Equal(t, want.kind, last[i].Kind)
		assert.Equal(t, want.login, last[i].Login)
		assert.Equal(t, want.status, *last[i].Status)
		assert.Equal(t, record.StateEnded, last[i].State)
	}
	assert.Equal(t, who[0].Session, last[2].Session)
	assert.Len(t, sessionsBy(t, "last", centos.login), 2)
	assert.Empty(t, sessionsBy(t, "who"))

	require.NotNil(t, last[2].Caller)
	assert.Nil(t, last[1].Caller, "nobody was there to hear it")
	assert.Equal(t, "sshd", last[2].Caller.Service)
	assert.Equal(t, "publickey", last[2].Caller.Method)
	print, err := exec.Command("ssh-keygen", "-lf", keyFile+".pub").Output()
	require.NoError(t, err)
	assert.Contains(t, string(print), " "+last[2].Caller.Key+" ")

	// One by a network, and one by su.
	port := listeningSSHD(t, forced)
	client := exec.Command("ssh", "-F", "none", "-i", keyFile, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-p", strconv.Itoa(port), centos.login+"@127.0.0.1", "exit 7")
	require.Equal(t, 7, runCommand(t, client, nil).status)
	su := exec.Command("su", "-", centos.login, "-c", "read x; exit 8")
	hold, err := su.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, su.Start())
	eventually(t, "both are in the records", func() bool {
		last = sessionsBy(t, "last", "-n", "2")
		return last[0].State == record.StateOpen && last[1].Status != nil && *last[1].Status == 7
	})
	require.NoError(t, hold.Close())
	assert.Error(t, su.Wait())
	if assert.NotNil(t, last[0].Caller) && assert.NotNil(t, last[1].Caller) {
		assert.Equal(t, [3]string{"su", "", ""}, [3]string{last[0].Caller.Service, last[0].Caller.Address, last[0].Caller.Key})
		assert.Equal(t, [2]string{"sshd", "127.0.0.1"}, [2]string{last[1].Caller.Service, last[1].Caller.Address})
		assert.NotZero(t, last[1].Caller.Port)
		assert.NotZero(t, last[1].Caller.PID)
	}

	eventually(t, "the su has ended", func() bool { last = sessionsBy(t, "last", "-n", "2"); return last[0].Status != nil })
	status := runCommand(t, exec.Command(initPath, "status", "recorded"), nil)
	assert.Zero(t, status.status, status.stderr)
	assert.Regexp(t, `(?m)^state +idle$`, status.stdout)
	assert.Regexp(t, `(?m)^PID 1 +\d+, of the installed build$`, status.stdout)
	assert.Regexp(t, `(?m)session-ended session=`+last[0].Session+` login=`+centos.login+` kind=command status=8 `, status.stdout)
	assert.Contains(t, runCommand(t, exec.Command(initPath, "logs", "recorded"), nil).stdout, "session-started session="+last[1].Session+" login="+centos.login+" kind=command by=sshd from=127.0.0.1 key=SHA256:")
	assert.Contains(t, runCommand(t, exec.Command(initPath, "ps", "--json"), nil).stdout, `"name": "recorded"`)

	// An administrator ends one of two.
	stays := open(t, login, ask{as: centos, cmd: "read x; exit 9"})
	goes := open(t, login, ask{as: centos, tty: &terminal{term: "vt100", rows: 24, cols: 80}, cmd: "trap '' HUP; sleep 1000"})
	eventually(t, "both are shown", func() bool { who = sessionsBy(t, "who"); return len(who) == 2 })
	if who[0].TTY == "" { // the two have begun at once
		who[0] = who[1]
	}
	require.NotEmpty(t, who[0].TTY)
	assert.NotZero(t, runCommand(t, exec.Command(initPath, "kill", "aaaaaaaa"), nil).status)
	assert.NotZero(t, runCommand(t, exec.Command(initPath, "kill", "../x/"+who[0].Session), nil).status)
	assert.Equal(t, result{}, runCommand(t, exec.Command(initPath, "kill", "--grace", "100ms", who[0].Session), nil))
	goes.wait()
	eventually(t, "it is over", func() bool { who = sessionsBy(t, "who"); return len(who) == 1 })
	stays.send("x\n")
	assert.Equal(t, 9, stays.wait().status)
	eventually(t, "nobody is there", func() bool { return len(sessionsBy(t, "who")) == 0 })

	// Nobody sees this one end.
	l = open(t, login, ask{as: centos, cmd: "sleep 1000"})
	eventually(t, "it is shown", func() bool { who = sessionsBy(t, "who"); return len(who) == 1 })
	s.kill(syscall.SIGKILL)
	for _, pid := range jailPIDs("recorded") {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	l.wait()
	eventually(t, "the jail is gone", func() bool { return len(jailPIDs("recorded")) == 0 })
	eventually(t, "nobody is shown", func() bool { return len(sessionsBy(t, "who")) == 0 })
	assert.Equal(t, record.Unseen, sessionsBy(t, "last", "-n", "1")[0].End)
	require.NoError(t, s.start())
	eventually(t, "it is written", func() bool { return sessionsBy(t, "last", "-n", "1")[0].Ended != nil })
	assert.Equal(t, [2]string{who[0].Session, record.Unseen}, [2]string{sessionsBy(t, "last", "-n", "1")[0].Session, sessionsBy(t, "last", "-n", "1")[0].End})

	// What a disk does that takes nothing is nobody's business who logs in.
	info, err := os.Stat("/var/log/jail/jails/recorded.jsonl")
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoError(t, os.RemoveAll("/var/log/jail"))
	require.NoError(t, os.WriteFile("/var/log/jail", nil, 0o600))
	from := int64(len(contents(world.log("serve.log"))))
	require.Equal(t, 6, run(t, forced, ask{as: centos, cmd: "exit 6"}).status)
	eventually(t, "it is said", func() bool {
		return strings.Contains(logSince(t, "serve.log", from), "error: records cannot be written")
	})
	require.NoError(t, os.Remove("/var/log/jail"))
}

// TestCommandsInRecords: of a command there is what log_commands says, as text that can do nothing;
// of jail exec who has called it as well.
func TestCommandsInRecords(t *testing.T) {
	require.NoError(t, os.RemoveAll("/var/log/jail"))
	reg := oneJail("asked", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id))
	own(t, reg)
	// last is the last session, when it has ended with a status.
	last := func(status int) (s record.Session) {
		t.Helper()
		eventually(t, "it has ended", func() bool {
			list := sessionsBy(t, "last", "-n", "1")
			if len(list) == 1 {
				s = list[0]
			}
			return s.Status != nil && *s.Status == status
		})
		return s
	}
	reload := func(line string) {
		t.Helper()
		require.NoError(t, os.WriteFile(registryPath, []byte(reg.text+line+"\n"), 0o644))
		require.Equal(t, result{}, runCommand(t, exec.Command(initPath, "reload"), nil))
	}
	require.Equal(t, 3, run(t, forced, ask{as: centos, cmd: "exit 3 # secret"}).status)
	assert.Empty(t, last(3).Command, "nobody has asked for it")
	assert.NotContains(t, contents("/var/log/jail/jails/asked.jsonl"), "secret")

	reload(`log_commands = "full"`)
	require.Equal(t, 4, run(t, forced, ask{as: centos, cmd: "exit 4 # \x1b[31m\n\"event\":\"x\"\u202e"}).status)
	assert.Equal(t, `exit 4 # \x1b[31m\n"event":"x"\u202e`, last(4).Command)
	require.Equal(t, 5, run(t, login, ask{as: centos, cmd: "exit 5 # " + strings.Repeat("\x1b[2J\n\x07", 1<<14)}).status)
	long := last(5).Command
	assert.Len(t, long, 4096)
	assert.True(t, strings.HasPrefix(long, `exit 5 # \x1b[2J\n\a\x1b[2J`) && strings.HasSuffix(long, "..."), long[:40])
	require.Equal(t, 6, runCommand(t, exec.Command("su", "-", centos.login, "-c", "exit 6"), nil).status)
	assert.Equal(t, "exit 6", last(6).Command)

	by := exec.Command(initPath, "exec", "asked", "sh", "-c", "exit 7")
	by.Env = append(os.Environ(), "SUDO_UID=1234")
	require.Equal(t, 7, runCommand(t, by, nil).status)
	s := last(7)
	assert.Equal(t, "sh -c exit 7", s.Command)
	if assert.NotNil(t, s.Caller) && assert.NotNil(t, s.Caller.UID) {
		want := "1234"
		if login := strings.TrimSpace(contents("/proc/self/loginuid")); login != "4294967295" {
			want = login // which sudo cannot change
		}
		assert.Equal(t, want, strconv.FormatUint(uint64(*s.Caller.UID), 10))
		assert.NotZero(t, s.Caller.PID)
	}
	logs := runCommand(t, exec.Command(initPath, "logs", "asked"), nil).stdout
	assert.Contains(t, logs, " command: exit 6\n")
	assert.NotContains(t, logs, "\x1b")

	reload(`log_commands = "name"`)
	require.Equal(t, 8, run(t, forced, ask{as: centos, cmd: "exit 8 # secret"}).status)
	assert.Equal(t, "exit", last(8).Command)
	reload(`log_commands = "none"`)
	require.Equal(t, 9, run(t, forced, ask{as: centos, cmd: "exit 9 # secret"}).status)
	assert.Empty(t, last(9).Command)
	assert.NotContains(t, contents("/var/log/jail/jails/asked.jsonl"), "secret")
}

// TestRecordsOfRun: "jail-init run" keeps records as serve does, of who called as well, and records
// terminals.
func TestRecordsOfRun(t *testing.T) {
	require.NoError(t, os.RemoveAll("/var/log/jail"))
	reg := oneJail("alone", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id))
	alone(t)
	require.NoError(t, os.WriteFile(registryPath, []byte(reg.text+"log_commands = \"full\"\nrecord = \"tty\"\n"), 0o644))
	cmd := exec.Command(initPath, "run", "alone")
	require.NoError(t, cmd.Start())
	defer func() {
		assert.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		assert.NoError(t, cmd.Wait())
	}()
	eventually(t, "it runs", func() bool { return stateInPS(t, "alone") == "idle" })
	ssh := exec.Command("ssh", "-F", sshDir+"/config", "-l", forced.user(centos), "-S", "none", "-tt", "--", string(forced))
	ssh.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=xterm"}
	c := onConsole(t, ssh)
	c.expect(`(?s)^jail-enter: this session is recorded\r\n.*\$ `)
	c.send("echo to\"\"ld\n")
	c.expect(`[\n\r]told\r\n`)
	c.send("exit 5\n")
	assert.Equal(t, 5, c.wait())
	eventually(t, "it has ended", func() bool { return strings.Contains(listed(t), "ended") })
	assert.Contains(t, runCommand(t, exec.Command(initPath, "replay", centos.login, "--plain"), nil).stdout, "told")
	require.Equal(t, 3, run(t, forced, ask{as: centos, cmd: "exit 3"}).status)
	by := exec.Command(initPath, "exec", "alone", "sh", "-c", "exit 4")
	require.Equal(t, 4, runCommand(t, by, nil).status)
	var list []record.Session
	eventually(t, "both have ended", func() bool {
		list = sessionsBy(t, "last", "-n", "2")
		return len(list) == 2 && list[0].Status != nil && list[1].Status != nil
	})
	assert.Equal(t, [3]string{"exec", "", "sh -c exit 4"}, [3]string{list[0].Kind, list[0].Login, list[0].Command})
	assert.Equal(t, [3]string{"command", centos.login, "exit 3"}, [3]string{list[1].Kind, list[1].Login, list[1].Command})
	if assert.NotNil(t, list[0].Caller) && assert.NotNil(t, list[1].Caller) {
		assert.NotNil(t, list[0].Caller.UID)
		assert.Nil(t, list[1].Caller.UID)
		assert.Equal(t, "sshd", list[1].Caller.Service)
	}
}

// TestALogNobodyReads: logins land, jails start and end, and serve goes on, while its standard error is full,
// and when it is gone.
func TestALogNobodyReads(t *testing.T) {
	s := own(t, oneJail("unheard", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id)))
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	full := int(w.Fd())
	require.NoError(t, syscall.SetNonblock(full, true))
	for {
		if _, err := syscall.Write(full, make([]byte, 4096)); err != nil {
			require.ErrorIs(t, err, syscall.EAGAIN)
			break
		}
	}
	require.NoError(t, syscall.SetNonblock(full, false))
	s.kill(syscall.SIGTERM)
	s.stderr = w
	require.NoError(t, s.start())
	lands := func(status int) {
		t.Helper()
		assert.Equal(t, status, run(t, login, ask{as: centos, cmd: fmt.Sprintf("exit %d", status)}).status)
		eventually(t, "it is recorded", func() bool {
			list := sessionsBy(t, "last", "-n", "1")
			return len(list) == 1 && list[0].Status != nil && *list[0].Status == status
		})
	}
	lands(3)
	require.NoError(t, command(initPath, "stop", "unheard"))
	lands(4)
	require.NoError(t, command(initPath, "reload"))
	require.NoError(t, r.Close())
	require.NoError(t, command(initPath, "stop", "unheard"))
	lands(5)
	assert.False(t, s.ended())
}
