//go:build linux

package confine

// Answers of a filter (seccomp(2)).
const (
	retKillProcess = 0x80000000
	retErrno       = 0x00050000
	retAllow       = 0x7fff0000

	allow           = retAllow
	eperm           = retErrno | 1
	enosys          = retErrno | 38 // the C library falls back
	eprotonosupport = retErrno | 93
	eafnosupport    = retErrno | 97 // libaudit and PAM take it as "no audit here" and go on
)

// newestKnown is the newest system call the rules have been checked against
// (Linux 6.17, file_setattr). Newer ones do not exist for a jail. The numbers of
// x32, which the native ABI of amd64 has in addition, are above it as well.
const newestKnown = 469

// abi is one system call interface of a kernel: numbers of its own.
type abi struct {
	name  string
	audit uint32 // AUDIT_ARCH_*, linux/audit.h
	// beyond are numbers above newestKnown that pass.
	beyond []uint32
	number func(*call) int
}

// machine is an architecture with every ABI its kernels may run. What is not
// among them is killed.
type machine struct {
	goarch string
	abis   []abi
}

var machines = []machine{
	{"amd64", []abi{
		{name: "amd64", audit: 0xc000003e, number: func(c *call) int { return c.amd64 }},
		{name: "i386", audit: 0x40000003, number: func(c *call) int { return c.i386 }},
	}},
	{"arm64", []abi{
		{name: "arm64", audit: 0xc00000b7, number: func(c *call) int { return c.arm64 }},
		{name: "arm", audit: 0x40000028, number: func(c *call) int { return c.arm },
			// cacheflush and set_tls, without which no 32-bit program starts
			// (arch/arm64/kernel/sys_compat.c); the others of the kind a 64-bit
			// kernel does not have.
			beyond: []uint32{0x0f0002, 0x0f0005}},
	}},
}

// none stands where an ABI lacks a call.
const none = -1

// call is one system call that does not simply pass.
type call struct {
	name                    string
	amd64, i386, arm64, arm int
	// clauses are tried in order, and the first whose conditions all hold gives
	// the answer.
	clauses []clause
	// answer is given where none does.
	answer uint32
}

type clause struct {
	when   []cond
	answer uint32
}

// cond holds if an argument, counted from 0, has one of some values. Arguments are
// compared in their low 32 bits, which is what the kernel looks at too
// (CVE-2019-7303).
type cond struct {
	arg  int
	mask uint32 // of which only these bits, if not 0
	in   []uint32
	bits uint32 // instead of mask and in: it has any of these bits
}

const (
	cloneNew = 0x7e020000 // CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
	newTime  = 0x80       // CLONE_NEWTIME, for unshare only

	afUnix, afInet, afInet6, afNetlink = 1, 2, 10, 16
)

// calls are the rules of every ABI: a deny-list, because people run arbitrary
// programs in a jail for years. The columns are amd64, i386, arm64, arm.
var calls = []call{
	// Mounts and namespaces.
	{"mount", 165, 21, 40, 21, nil, eperm},
	{"umount", none, 22, none, none, nil, eperm},
	{"umount2", 166, 52, 39, 52, nil, eperm},
	{"pivot_root", 155, 217, 41, 218, nil, eperm},
	{"setns", 308, 346, 268, 375, nil, eperm},
	{"open_tree", 428, 428, 428, 428, nil, enosys},
	{"move_mount", 429, 429, 429, 429, nil, enosys},
	{"fsopen", 430, 430, 430, 430, nil, enosys},
	{"fsconfig", 431, 431, 431, 431, nil, enosys},
	{"fsmount", 432, 432, 432, 432, nil, enosys},
	{"fspick", 433, 433, 433, 433, nil, enosys},
	{"mount_setattr", 442, 442, 442, 442, nil, enosys},
	{"open_tree_attr", 467, 467, 467, 467, nil, enosys},
	{"clone", 56, 120, 220, 120, []clause{
		{[]cond{{arg: 0, bits: cloneNew}}, eperm},
	}, allow},
	{"clone3", 435, 435, 435, 435, nil, enosys}, // its flags are behind a pointer
	{"unshare", 272, 310, 97, 337, []clause{
		{[]cond{{arg: 0, bits: cloneNew | newTime}}, eperm},
	}, allow},

	// Files by their handle, on the whole file system: one half makes handles,
	// the other opens them. Notification of all that happens on a mount.
	{"name_to_handle_at", 303, 341, 264, 370, nil, eperm},
	{"open_by_handle_at", 304, 342, 265, 371, nil, eperm},
	{"fanotify_init", 300, 338, 262, 367, nil, eperm},
	{"fanotify_mark", 301, 339, 263, 368, nil, eperm},

	// Keyrings belong to a uid of the host, not to a namespace.
	{"add_key", 248, 286, 217, 309, nil, eperm},
	{"request_key", 249, 287, 218, 310, nil, eperm},
	{"keyctl", 250, 288, 219, 311, nil, eperm},

	// What exploits like, and no login needs.
	{"bpf", 321, 357, 280, 386, nil, eperm},
	{"perf_event_open", 298, 336, 241, 364, nil, eperm},
	{"userfaultfd", 323, 374, 282, 388, nil, eperm},
	{"kcmp", 312, 349, 272, 378, nil, eperm},
	{"modify_ldt", 154, 123, none, none, nil, eperm},
	{"io_uring_setup", 425, 425, 425, 425, nil, enosys}, // operations no filter sees
	{"io_uring_enter", 426, 426, 426, 426, nil, enosys},
	{"io_uring_register", 427, 427, 427, 427, nil, enosys},
	{"personality", 135, 136, 92, 136, []clause{
		{[]cond{{arg: 0, in: []uint32{
			0, 0x8, 0x20000, 0x20008, // Linux, 32 bits, and with UNAME26 (setarch(8))
			0x40000,    // ADDR_NO_RANDOMIZE, for debuggers
			0xffffffff, // query
		}}}, allow},
	}, eperm},

	// The machine is the host's.
	{"kexec_load", 246, 283, 104, 347, nil, eperm},
	{"kexec_file_load", 320, none, 294, 401, nil, eperm},
	{"init_module", 175, 128, 105, 128, nil, eperm},
	{"finit_module", 313, 350, 273, 379, nil, eperm},
	{"delete_module", 176, 129, 106, 129, nil, eperm},
	{"reboot", 169, 88, 142, 88, nil, eperm},
	{"swapon", 167, 87, 224, 87, nil, eperm},
	{"swapoff", 168, 115, 225, 115, nil, eperm},
	{"settimeofday", 164, 79, 170, 79, nil, eperm},
	{"stime", none, 25, none, none, nil, eperm},
	{"clock_settime", 227, 264, 112, 262, nil, eperm},
	{"clock_settime64", none, 404, none, 404, nil, eperm},
	{"iopl", 172, 110, none, none, nil, eperm},
	{"ioperm", 173, 101, none, none, nil, eperm},
	{"acct", 163, 51, 89, 51, nil, eperm},
	{"quotactl", 179, 131, 60, 131, nil, eperm},
	{"quotactl_fd", 443, 443, 443, 443, nil, eperm},
	{"nfsservctl", 180, 169, 42, 169, nil, eperm},
	{"lookup_dcookie", 212, 253, 18, 249, nil, eperm},
	{"syslog", 103, 103, 116, 103, nil, eperm},
	{"vhangup", 153, 111, 58, 111, nil, eperm},

	// What only programs of another age ask for, and most kernels no longer have.
	{"uselib", 134, 86, none, 86, nil, enosys},
	{"_sysctl", 156, 149, none, 149, nil, enosys},
	{"ustat", 136, 62, none, 62, nil, enosys},
	{"sysfs", 139, 135, none, 135, nil, enosys},
	{"bdflush", none, 134, none, 134, nil, enosys},
	{"vm86old", none, 113, none, none, nil, enosys},
	{"vm86", none, 166, none, none, nil, enosys},
	{"create_module", 174, 127, none, none, nil, enosys},
	{"get_kernel_syms", 177, 130, none, none, nil, enosys},
	{"query_module", 178, 167, none, none, nil, enosys},

	{"ioctl", 16, 54, 29, 54, []clause{
		// Terminals: typing for others, and line disciplines, which are modules.
		{[]cond{{arg: 1, in: []uint32{
			0x5412, 0x541c, 0x5423, // TIOCSTI TIOCLINUX TIOCSETD
			0xc0045877, 0xc0185879, // FIFREEZE FITRIM
		}}}, eperm},
		// Of a socket: modules that are loaded for whoever asks (net/socket.c:
		// sock_ioctl), bridge, 8021q and dlci.
		{[]cond{{arg: 1, in: []uint32{
			0x8940, 0x8941, // SIOCGIFBR SIOCSIFBR
			0x8980, 0x8981, // SIOCADDDLCI SIOCDELDLCI
			0x8982, 0x8983, // SIOCGIFVLAN SIOCSIFVLAN
			0x89a0, 0x89a1, // SIOCBRADDBR SIOCBRDELBR
			0x89a2, 0x89a3, // SIOCBRADDIF SIOCBRDELIF
		}}}, eperm},
		// A driver of the host's judges by itself who may do what: SIOCDEVPRIVATE,
		// and wireless ones, whose newer door is generic netlink, closed below.
		{[]cond{{arg: 1, mask: 0xfffffff0, in: []uint32{0x89f0}}}, eperm},
		{[]cond{{arg: 1, mask: 0xffffff00, in: []uint32{0x8b00}}}, eperm},
	}, allow},

	{"socket", 41, 359, 198, 281, []clause{
		{[]cond{{arg: 0, in: []uint32{afUnix}}}, allow},
		{[]cond{{arg: 0, in: []uint32{afInet, afInet6}}, {arg: 1, mask: 0xf, in: []uint32{
			3, 10, // SOCK_RAW SOCK_PACKET
		}}}, eperm},
		{[]cond{{arg: 0, in: []uint32{afInet, afInet6}}, {arg: 2, in: []uint32{
			0, 1, 6, 17, 58, // the type's own, ICMP (ping), TCP, UDP, ICMPv6
			262, // MPTCP, which the Go runtime asks for
		}}}, allow},
		// Others are modules the kernel loads for whoever asks: DCCP, SCTP, L2TP, SMC
		// (CVE-2017-6074).
		{[]cond{{arg: 0, in: []uint32{afInet, afInet6}}}, eprotonosupport},
		{[]cond{{arg: 0, in: []uint32{afNetlink}}, {arg: 2, in: []uint32{
			0, 4, // NETLINK_ROUTE NETLINK_SOCK_DIAG
		}}}, allow},
	}, eafnosupport},
	// It makes both sockets, and loads modules for them, before it finds that the
	// family has no pairs (net/socket.c:__sys_socketpair). AF_UNIX has.
	{"socketpair", 53, 360, 199, 288, []clause{
		{[]cond{{arg: 0, in: []uint32{afUnix}}}, allow},
	}, eafnosupport},
	// It multiplexes i386's socket calls behind a pointer that no filter can
	// follow; of its operations only those that make sockets are closed.
	{"socketcall", none, 102, none, none, []clause{
		{[]cond{{arg: 0, in: []uint32{1, 8}}}, enosys}, // SYS_SOCKET SYS_SOCKETPAIR
	}, allow},
}
