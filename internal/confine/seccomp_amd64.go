package confine

import "jail/internal/sys"

// Actions of a filter (seccomp(2)).
const (
	retKillProcess = 0x80000000
	retErrno       = 0x00050000
	retAllow       = 0x7fff0000

	eperm        = 1
	enosys       = 38
	eafnosupport = 97

	eprotonosupport = 93
)

// Offsets in struct seccomp_data.
const (
	offNR   = 0
	offArch = 4
	offArg0 = 16 // low word on a little-endian machine
	offArg1 = 24
	offArg2 = 32
)

const (
	archX8664 = 0xc000003e
	archI386  = 0x40000003
	x32Bit    = 0x40000000

	// newestKnown is the newest system call this list has been checked
	// against (Linux 6.17, file_setattr). Newer ones do not exist for a jail.
	newestKnown = 469

	cloneNew = 0x7e020000 // CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
	newTime  = 0x80       // CLONE_NEWTIME, for unshare only
)

// numbers are the system call numbers of one ABI that a rule needs by name.
type numbers struct {
	absent []uint32 // answered with ENOSYS: the C library falls back
	denied []uint32 // answered with EPERM

	clone, unshare, ioctl, socket, personality uint32
}

// common are system calls whose number is the same in every ABI since 5.0.
var common = []uint32{
	425, 426, 427, // io_uring_*: operations no filter sees
	428, 429, 430, 431, 432, 433, 442, 467, // the mount API
	435, // clone3: its flags are behind a pointer
}

var native = numbers{
	denied: []uint32{
		165, 166, 155, 308, // mount umount2 pivot_root setns
		248, 249, 250, // add_key request_key keyctl: keyrings are per kuid, not per namespace
		321, 298, 323, // bpf perf_event_open userfaultfd
		246, 320, 175, 313, 176, // kexec_* *_module
		304,           // open_by_handle_at
		169, 167, 168, // reboot swapon swapoff
		164, 227, // settimeofday clock_settime
		172, 173, 154, // iopl ioperm modify_ldt
		163, 179, 443, 180, 212, // acct quotactl quotactl_fd nfsservctl lookup_dcookie
		103, 312, 153, 300, // syslog kcmp vhangup fanotify_init
	},
	clone: 56, unshare: 272, ioctl: 16, socket: 41, personality: 135,
}

var i386 = numbers{
	denied: []uint32{
		21, 22, 52, 217, 346, // mount umount umount2 pivot_root setns
		286, 287, 288, // add_key request_key keyctl
		357, 336, 374, // bpf perf_event_open userfaultfd
		283, 128, 350, 129, // kexec_load *_module
		342,         // open_by_handle_at
		88, 87, 115, // reboot swapon swapoff
		79, 25, 264, 404, // settimeofday stime clock_settime clock_settime64
		110, 101, 123, // iopl ioperm modify_ldt
		51, 131, 443, 169, 253, // acct quotactl quotactl_fd nfsservctl lookup_dcookie
		103, 349, 111, 338, // syslog kcmp vhangup fanotify_init
	},
	clone: 120, unshare: 310, ioctl: 54, socket: 359, personality: 136,
}

// socketcall multiplexes i386's socket calls behind a pointer that no filter
// can follow; of its operations only those that make sockets are closed.
const i386Socketcall = 102

// program assembles a filter. Jumps are to labels, resolved by finish.
type program struct {
	ins    []sys.SockFilter
	labels map[string]int
	fixups []fixup
}

type fixup struct {
	at     int
	jt, jf string
}

func (p *program) label(name string) { p.labels[name] = len(p.ins) }
func (p *program) load(off uint32)   { p.ins = append(p.ins, sys.SockFilter{Code: 0x20, K: off}) }
func (p *program) and(k uint32)      { p.ins = append(p.ins, sys.SockFilter{Code: 0x54, K: k}) }
func (p *program) ret(k uint32)      { p.ins = append(p.ins, sys.SockFilter{Code: 0x06, K: k}) }

func (p *program) jump(code uint16, k uint32, jt, jf string) {
	p.fixups = append(p.fixups, fixup{len(p.ins), jt, jf})
	p.ins = append(p.ins, sys.SockFilter{Code: code, K: k})
}

// The jumps continue with the next instruction where a label is "".
func (p *program) ifEqual(k uint32, jt, jf string)   { p.jump(0x15, k, jt, jf) }
func (p *program) ifAtLeast(k uint32, jt, jf string) { p.jump(0x35, k, jt, jf) }
func (p *program) ifAnyBit(k uint32, jt, jf string)  { p.jump(0x45, k, jt, jf) }

func (p *program) finish() []sys.SockFilter {
	offset := func(at int, label string) uint8 {
		if label == "" {
			return 0
		}
		to, ok := p.labels[label]
		d := to - at - 1
		if !ok || d < 0 || d > 255 {
			panic("confine: jump to " + label)
		}
		return uint8(d)
	}
	for _, f := range p.fixups {
		p.ins[f.at].JT, p.ins[f.at].JF = offset(f.at, f.jt), offset(f.at, f.jf)
	}
	return p.ins
}

// Filter returns the seccomp filter of every jail: a deny-list, because people
// run arbitrary programs in a jail for years, and an end to it at the newest
// system call that was known when it was written. Arguments are compared in
// their low 32 bits, which is what the kernel looks at too (CVE-2019-7303).
//
// It is a table made by assemble beforehand, because it is needed in the middle
// of every start; a test holds the two together, and writes the table anew with
// -update.
func Filter() []sys.SockFilter { return filter[:] }

// assemble makes the filter.
func assemble() []sys.SockFilter {
	p := &program{labels: map[string]int{}}
	p.load(offArch)
	p.ifEqual(archX8664, "native", "")
	p.ifEqual(archI386, "i386", "")
	p.ret(retKillProcess)
	p.label("native")
	p.load(offNR)
	p.abi("n", &native)
	p.label("i386")
	p.load(offNR)
	p.ifEqual(i386Socketcall, "", "i-abi")
	p.load(offArg0)
	p.ifEqual(1, "i-enosys", "")        // SYS_SOCKET
	p.ifEqual(8, "i-enosys", "i-allow") // SYS_SOCKETPAIR
	p.label("i-abi")
	p.abi("i", &i386)
	return p.finish()
}

// abi appends the rules of one ABI; the accumulator holds the system call.
func (p *program) abi(id string, n *numbers) {
	l := func(s string) string { return id + "-" + s }
	// x32's numbers, which only exist in the native ABI, are above newestKnown
	// as well.
	p.ifAtLeast(newestKnown+1, l("enosys"), "")
	p.ifEqual(n.ioctl, l("ioctl"), "")
	p.ifEqual(n.clone, l("clone"), "")
	p.ifEqual(n.socket, l("socket"), "")
	for _, nr := range common {
		p.ifEqual(nr, l("enosys"), "")
	}
	p.ifEqual(n.unshare, l("unshare"), "")
	p.ifEqual(n.personality, l("personality"), "")
	for _, nr := range n.denied {
		p.ifEqual(nr, l("eperm"), "")
	}
	p.label(l("allow"))
	p.ret(retAllow)

	p.label(l("ioctl"))
	p.load(offArg1)
	for _, req := range []uint32{
		0x5412, 0x541c, 0x5423, // TIOCSTI TIOCLINUX TIOCSETD
		0xc0045877, 0xc0185879, // FIFREEZE FITRIM
	} {
		p.ifEqual(req, l("eperm"), "")
	}
	p.ret(retAllow)

	p.label(l("clone"))
	p.load(offArg0)
	p.ifAnyBit(cloneNew, l("eperm"), l("allow2"))
	p.label(l("unshare"))
	p.load(offArg0)
	p.ifAnyBit(cloneNew|newTime, l("eperm"), l("allow2"))

	p.label(l("personality"))
	p.load(offArg0)
	for _, v := range []uint32{
		0, 0x8, 0x20000, 0x20008, // Linux, 32 bits, and with UNAME26 (setarch(8))
		0x40000,    // ADDR_NO_RANDOMIZE, for debuggers
		0xffffffff, // query
	} {
		p.ifEqual(v, l("allow2"), "")
	}
	p.ret(retErrno | eperm)

	p.label(l("socket"))
	p.load(offArg0)
	p.ifEqual(1, l("allow2"), "") // AF_UNIX
	p.ifEqual(2, l("inet"), "")
	p.ifEqual(10, l("inet"), "")
	p.ifEqual(16, "", l("nofamily")) // AF_NETLINK
	p.load(offArg2)
	p.ifEqual(0, l("allow2"), "")            // NETLINK_ROUTE
	p.ifEqual(4, l("allow2"), l("nofamily")) // NETLINK_SOCK_DIAG
	p.label(l("inet"))
	p.load(offArg1)
	p.and(0xf)
	p.ifEqual(3, l("eperm"), "")  // SOCK_RAW
	p.ifEqual(10, l("eperm"), "") // SOCK_PACKET
	p.load(offArg2)
	for _, protocol := range []uint32{
		0, 1, 6, 17, 58, // the type's own, ICMP (ping), TCP, UDP, ICMPv6
		262, // MPTCP, which the Go runtime asks for
	} {
		p.ifEqual(protocol, l("allow2"), "")
	}
	// Others are modules the kernel loads for whoever asks: DCCP, SCTP, L2TP, SMC
	// (CVE-2017-6074).
	p.ret(retErrno | eprotonosupport)

	p.label(l("allow2"))
	p.ret(retAllow)
	p.label(l("nofamily"))
	// libaudit and PAM take this as "no audit here" and go on.
	p.ret(retErrno | eafnosupport)
	p.label(l("enosys"))
	p.ret(retErrno | enosys)
	p.label(l("eperm"))
	p.ret(retErrno | eperm)
}
