package serve

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/control"
	"jail/internal/supervise"
	"jail/internal/sys"
	"jail/internal/wire"
)

// TestRunsAlready: a jail from before this serve is taken over as it is: its PID 1 gets a
// new listener for each login, is told to end like any other, and is waited for.
func TestRunsAlready(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.do(func() { w.apply(registry("one: 61001 61002")) })
	w.until("nobody answers for it", func() bool { return w.jails.at(w.byName["one"]).machine.State == supervise.Stopped })

	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	p := &pid1{t: t, conn: pair[1], cmd: exec.Command("sleep", "1000")}
	require.NoError(t, p.cmd.Start())
	pidfd, err := sys.PidfdOpen(p.cmd.Process.Pid)
	require.NoError(t, err)
	w.mu.Lock()
	w.first["one"] = p
	w.mu.Unlock()
	w.do(func() {
		n := w.byName["one"]
		w.step(n, supervise.Event{Kind: supervise.Sought})
		w.found(n, w.jails.at(n), &control.Conn{PID: p.cmd.Process.Pid, PIDFD: pidfd, FD: pair[0], Status: wire.Status{Sessions: 3}})
	})
	w.logged("runs already: pid ")
	assert.ElementsMatch(t, []string{"add 61001", "add 61002"}, []string{p.next(deadline), p.next(deadline)})
	w.do(func() { assert.Equal(t, supervise.Running, w.jails.at(w.byName["one"]).machine.State) })

	w.do(func() { w.signal(syscall.SIGINT) })
	assert.Equal(t, "stop", p.next(deadline))
	assert.Empty(t, p.next(10*time.Millisecond), "once")
	p.end()
	select {
	case err := <-w.ended:
		assert.NoError(t, err)
		w.ended <- nil // for the end of the test
	case <-time.After(deadline):
		t.Fatal("serve does not end with its jails")
	}
	assert.Contains(t, w.out.String(), "jail one ended")
}

// TestOneServe: two do not work in one runtime directory.
func TestOneServe(t *testing.T) {
	dir := t.TempDir()
	first, err := lockDir(dir)
	require.NoError(t, err)
	_, err = lockDir(dir)
	require.ErrorContains(t, err, "another jail-init serve works in "+dir)
	require.NoError(t, first.Close())
	second, err := lockDir(dir)
	require.NoError(t, err)
	require.NoError(t, second.Close())
	_, err = lockDir(dir + "/none")
	require.ErrorIs(t, err, os.ErrNotExist)
}
