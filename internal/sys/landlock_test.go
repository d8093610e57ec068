package sys

import (
	"errors"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// TestLandlockScopes enters the domain on one thread, which can then neither
// signal a process outside nor connect to an abstract socket there, and among
// themselves both work (X8, N1; CVE-2020-15257).
func TestLandlockScopes(t *testing.T) {
	needs.Root(t, "it enters a domain without no_new_privs")
	needs.Kernel(t, LandlockABI() >= 6, 6, 12, "Landlock scopes")
	outside := exec.Command("sleep", "60")
	require.NoError(t, outside.Start())
	defer func() {
		_ = outside.Process.Kill()
		_ = outside.Wait()
	}()
	listen := func(name string) int {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: name}))
		require.NoError(t, syscall.Listen(fd, 1))
		return fd
	}
	connect := func(name string) error {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer Close(fd)
		return syscall.Connect(fd, &syscall.SockaddrUnix{Name: name})
	}
	name := "@jail-test-" + strconv.Itoa(outside.Process.Pid)
	defer Close(listen(name))
	require.NoError(t, connect(name), "outside it works")
	require.NoError(t, syscall.Kill(outside.Process.Pid, 0), "outside it works")

	ruleset, err := LandlockScopes()
	require.NoError(t, err)
	defer Close(ruleset)
	type answer struct{ signal, socket, own error }
	got := make(chan answer)
	go func() {
		runtime.LockOSThread() // and, never unlocked, the thread ends with its domain
		if _, _, e := syscall.RawSyscall(sysLandlockRestrict, uintptr(ruleset), 0, 0); e != 0 {
			got <- answer{e, e, e}
			return
		}
		defer Close(listen(name + "-own"))
		got <- answer{syscall.Kill(outside.Process.Pid, 0), connect(name), connect(name + "-own")}
	}()
	a := <-got
	assert.True(t, errors.Is(a.signal, syscall.EPERM), "signal: %v", a.signal)
	assert.True(t, errors.Is(a.socket, syscall.EPERM), "abstract socket: %v", a.socket)
	assert.NoError(t, a.own)
}
