package confine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"jail/internal/sys"
)

// set makes a capability set of the kernel's numbers.
func set(caps ...int) (s sys.Caps) {
	for _, c := range caps {
		s |= 1 << c
	}
	return s
}

// TestCapsFor compares the sets whole: what is not here nobody in a jail can have.
func TestCapsFor(t *testing.T) {
	pid1 := set(unix.CAP_CHOWN, unix.CAP_FOWNER, unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_KILL)
	setup := set(unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_SYS_CHROOT, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER)
	suid := set(unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID,
		unix.CAP_SETUID, unix.CAP_SYS_CHROOT)
	mapped := set(unix.CAP_SETPCAP, unix.CAP_SETFCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW)

	assert.Equal(t, Sets{Bounding: suid | mapped, PID1: pid1, Setup: setup | set(unix.CAP_SYS_RESOURCE)}, CapsFor(true, false), "userns mode")
	assert.Equal(t, Sets{Bounding: suid | mapped, PID1: pid1, Setup: setup | set(unix.CAP_SYS_RESOURCE)}, CapsFor(true, true),
		"where ids are mapped container_root changes nothing")
	assert.Equal(t, Sets{Bounding: suid, PID1: pid1, Setup: setup | set(unix.CAP_MKNOD)}, CapsFor(false, true),
		"container_root: no file capabilities on files the host sees, no low ports and raw sockets of the host's")
	assert.Equal(t, Sets{NoNewPrivs: true, PID1: pid1, Setup: setup | set(unix.CAP_MKNOD)}, CapsFor(false, false),
		"root mode: nobody has a capability, and no set-uid program gives one")
}
