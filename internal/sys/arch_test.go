package sys

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestNumbers compares the numbers of this architecture with those that
// golang.org/x/sys takes from the kernel's headers.
func TestNumbers(t *testing.T) {
	for name, n := range map[string][2]int{
		"bpf":                    {sysBPF, unix.SYS_BPF},
		"execveat":               {sysExecveat, unix.SYS_EXECVEAT},
		"keyctl":                 {sysKeyctl, unix.SYS_KEYCTL},
		"seccomp":                {sysSeccomp, unix.SYS_SECCOMP},
		"open_tree":              {sysOpenTree, unix.SYS_OPEN_TREE},
		"move_mount":             {sysMoveMount, unix.SYS_MOVE_MOUNT},
		"fsopen":                 {sysFsopen, unix.SYS_FSOPEN},
		"fsconfig":               {sysFsconfig, unix.SYS_FSCONFIG},
		"fsmount":                {sysFsmount, unix.SYS_FSMOUNT},
		"pidfd_send_signal":      {sysPidfdSendSignal, unix.SYS_PIDFD_SEND_SIGNAL},
		"pidfd_open":             {sysPidfdOpen, unix.SYS_PIDFD_OPEN},
		"clone3":                 {sysClone3, unix.SYS_CLONE3},
		"close_range":            {sysCloseRange, unix.SYS_CLOSE_RANGE},
		"openat2":                {sysOpenat2, unix.SYS_OPENAT2},
		"pidfd_getfd":            {sysPidfdGetfd, unix.SYS_PIDFD_GETFD},
		"mount_setattr":          {sysMountSetattr, unix.SYS_MOUNT_SETATTR},
		"landlock_create":        {sysLandlockCreate, unix.SYS_LANDLOCK_CREATE_RULESET},
		"landlock_restrict_self": {sysLandlockRestrict, unix.SYS_LANDLOCK_RESTRICT_SELF},
	} {
		assert.Equal(t, n[1], n[0], name)
	}
	var st syscall.Stat_t
	require.NoError(t, Fstatat(AtFDCWD, ".", &st, 0))
	info, err := os.Stat(".")
	require.NoError(t, err)
	assert.Equal(t, info.Sys().(*syscall.Stat_t).Ino, st.Ino)
}

// TestPollReports: what can be read is reported, and a wait goes on until then.
// TestPollIsNotEndedByASignal has the end of one's time.
func TestPollReports(t *testing.T) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	require.NoError(t, err)
	defer Close(fd)
	fds := []PollFD{{FD: int32(fd), Events: PollIn}}
	for _, wait := range []func(ms int) (int, error){
		func(ms int) (int, error) { return Poll(fds, ms) },
		func(ms int) (int, error) {
			n, e := Wait(fds, ms)
			return n, justErr(e)
		},
	} {
		n, err := wait(0)
		require.NoError(t, err)
		assert.Zero(t, n)
		// The kernel makes it readable, who has no scheduler to wait for.
		for _, ms := range []int{-1, 60_000} {
			require.NoError(t, unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.Timespec{Nsec: 20e6}}, nil))
			n, err := wait(ms)
			require.NoError(t, err)
			assert.Equal(t, 1, n)
			assert.EqualValues(t, PollIn, fds[0].Revents)
			_, err = Read(fd, make([]byte, 8))
			require.NoError(t, err)
		}
	}
}

// TestCatchSignals: a signal is a byte in a pipe, also many and in a row, and what a
// handler interrupts goes on as if nothing had been.
func TestCatchSignals(t *testing.T) {
	SetSignal(int(syscall.SIGUSR2), true)
	r, err := CatchSignals(syscall.SIGUSR1, syscall.SIGWINCH, syscall.SIGUSR2)
	require.NoError(t, err)
	defer func() {
		for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGWINCH, syscall.SIGUSR2} {
			SetSignal(int(s), false)
		}
		Close(r)
		Close(int(sigpipe))
	}()
	b := make([]byte, 8)
	sum, want := 0.0, 0.0
	for i := range 200 {
		sig := []syscall.Signal{syscall.SIGUSR1, syscall.SIGWINCH}[i%2]
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR2))
		require.NoError(t, syscall.Kill(os.Getpid(), sig))
		for x := range 1000 { // registers of every kind, while it comes
			sum += float64(x) / 3
		}
		n, err := Poll([]PollFD{{FD: int32(r), Events: PollIn}}, 5000)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		n, err = Read(r, b)
		require.NoError(t, err)
		require.Equal(t, []byte{byte(sig)}, b[:n], "and an ignored one stays ignored")
	}
	for range 200 {
		for x := range 1000 {
			want += float64(x) / 3
		}
	}
	assert.Equal(t, want, sum)
}
