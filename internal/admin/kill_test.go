package admin

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
	"jail/internal/fdsock"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/record"
)

// TestEndOfACaller: where the PID 1 is of a build that cannot end one session, its jail-enter is
// killed, and nobody who has its pid by now.
func TestEndOfACaller(t *testing.T) {
	needs.Root(t, "processes of another uid are made")
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	program, err := os.ReadFile(sleep)
	require.NoError(t, err)
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	for _, name := range []string{"jail-enter", "other"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), program, 0o755))
	}
	opt := Options{ConfigPath: filepath.Join(dir, "jail.toml"), RuntimeDir: filepath.Join(dir, "run"), Stdout: io.Discard, Stderr: io.Discard}
	const uid = 61999
	require.NoError(t, fdsock.PrepareDir(opt.RuntimeDir))
	require.NoError(t, inforce.Publish(opt.RuntimeDir, opt.ConfigPath, &config.Registry{Jails: []jail.Spec{
		{Name: "one", Logins: []jail.Login{{Name: "alice", HostUID: uid, UID: 1000}}},
	}}))
	for claim, tt := range map[string]struct {
		program, login string
		uid            uint32
		want           string
	}{
		"its jail-enter":             {"jail-enter", "alice", uid, ""},
		"another program":            {"other", "alice", uid, "is no jail-enter of login alice"},
		"a jail-enter of another":    {"jail-enter", "alice", uid + 1, "is no jail-enter of login alice"},
		"a login that the jail lost": {"jail-enter", "bin", uid, "is no jail-enter of login bin"},
	} {
		cmd := exec.Command(filepath.Join(dir, tt.program), "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tt.uid, Gid: tt.uid}}
		require.NoError(t, cmd.Start(), claim)
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		err := endCaller(opt, &record.Session{Jail: "one", Login: tt.login, Session: "k7qmw2ab", Caller: &record.Caller{PID: cmd.Process.Pid}})
		if tt.want == "" {
			require.NoError(t, err, claim)
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Error("it goes on")
			}
			assert.Equal(t, syscall.SIGKILL, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(), claim)
			err = endCaller(opt, &record.Session{Jail: "one", Login: tt.login, Session: "k7qmw2ab", Caller: &record.Caller{PID: cmd.Process.Pid}})
			assert.ErrorContains(t, err, "its jail-enter has ended")
			continue
		}
		assert.ErrorContains(t, err, tt.want, claim)
		assert.NoError(t, cmd.Process.Signal(syscall.Signal(0)), "%s goes on", claim)
		require.NoError(t, cmd.Process.Kill())
		<-ended
	}
}
