//go:build linux

// Package confine holds what a jail may and may not do: the capability sets and
// the seccomp filter, as data. PID 1 takes them on once, before the first
// session, and every session inherits them.
package confine

import "jail/internal/sys"

// profileCaps is the bounding set of a jail in which set-uid programs work
// (userns mode, or container_root). What is missing and why: NET_RAW and
// NET_ADMIN, the network is the host's; AUDIT_WRITE, so is the audit log; MKNOD
// and DAC_READ_SEARCH, they reach the host's disks (open_by_handle_at(2));
// SYS_PTRACE, PID 1 must not be attachable; SYS_ADMIN, mounts. The rest is
// host-global.
const profileCaps = sys.CapChown | sys.CapDacOverride | sys.CapFowner | sys.CapFsetid | sys.CapKill |
	sys.CapSetgid | sys.CapSetuid | sys.CapSysChroot

// usernsCaps are kept in addition where ids are mapped and file capabilities
// and bound ports mean nothing to the host. NET_RAW is no power there: it is asked for in
// the user namespace that the network belongs to, the host's. But a program whose file
// has it, as ping, fping, mtr and arping have in Debian, could not even be executed
// without (capabilities(7), "Safety checking for capability-dumb binaries"), and ping
// works without it where net.ipv4.ping_group_range allows.
const usernsCaps = sys.CapSetpcap | sys.CapSetfcap | sys.CapNetBindService | sys.CapNetRaw

// Sets are the capability sets of one jail.
type Sets struct {
	// Bounding is what any process of the jail can ever have.
	Bounding sys.Caps
	// PID1 is what PID 1 keeps: the means to give a session its identity and
	// its terminal.
	PID1 sys.Caps
	// Setup is what the process that becomes PID 1 needs before that, in
	// addition; it gives them up before it accepts the first connection.
	Setup sys.Caps
	// NoNewPrivs forbids set-uid programs to work.
	NoNewPrivs bool
}

// CapsFor returns the sets of a jail in userns mode or root mode.
func CapsFor(userns, containerRoot bool) Sets {
	s := Sets{
		PID1:  sys.CapChown | sys.CapFowner | sys.CapSetgid | sys.CapSetuid | sys.CapKill,
		Setup: sys.CapSysAdmin | sys.CapSetpcap | sys.CapSysChroot | sys.CapDacOverride | sys.CapFowner,
	}
	switch {
	case userns:
		s.Bounding = profileCaps | usernsCaps
	case containerRoot:
		s.Bounding = profileCaps
	default:
		s.NoNewPrivs = true
	}
	if userns {
		s.Setup |= sys.CapSysResource // to write user.max_user_namespaces
	} else {
		s.Setup |= sys.CapMknod
	}
	return s
}
