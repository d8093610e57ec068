package recording

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRecorderInAScope: as systemd's service, the recorder is started by systemd-run, and is known by its name
// all the same. packaging/systemd/try-nspawn.sh shows it with systemd.
func TestRecorderInAScope(t *testing.T) {
	if os.Getenv("JAIL_TEST_RECORDER") != "" {
		Rename()
		fmt.Println(os.Args[0])
		os.Exit(0)
	}
	if os.Geteuid() == 0 { // an ordinary user has no system service
		dir := t.TempDir()
		program := filepath.Join(dir, "systemd-run")
		require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\nexit 1\n"), 0o755))
		t.Setenv("PATH", dir)
		t.Setenv("SYSTEMD_EXEC_PID", "1")
		assert.Empty(t, scopeRunner(), "somebody else's service")
		t.Setenv("SYSTEMD_EXEC_PID", strconv.Itoa(os.Getpid()))
		assert.Equal(t, program, scopeRunner())
		t.Setenv("PATH", t.TempDir())
		assert.Empty(t, scopeRunner(), "a machine without that program")
	}

	t.Setenv("JAIL_TEST_RECORDER", "yes")
	runner := filepath.Join(t.TempDir(), "runner") // what systemd-run does with the process
	require.NoError(t, os.WriteFile(runner, []byte("#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n"), 0o755))
	for _, r := range []string{"", runner} {
		out, err := recorder(r, 1, "-test.run=^TestRecorderInAScope$").Output()
		require.NoError(t, err)
		assert.Equal(t, Name+"\n", string(out), r)
	}
	pid := strconv.Itoa(os.Getpid())
	assert.Equal(t, []string{"/bin/systemd-run", "--scope", "--quiet", "--collect", "--unit=jail-recorder-" + pid + "-2",
		"--description=Recorder of terminals in jails", "--property=Before=jail-all.service", "--", "/proc/" + pid + "/exe", "--config", "x"},
		recorder("/bin/systemd-run", 2, "--config", "x").Args)
}

// TestNothingIsLeftOfARunner: a serve that ends leaves no process in its cgroup that is only on its way out of it.
func TestNothingIsLeftOfARunner(t *testing.T) {
	cmd := exec.Command("sleep", "10")
	require.NoError(t, cmd.Start())
	k := Keeper{runner: cmd.Process}
	k.Stop()
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
	k.Stop() // it is gone
}
