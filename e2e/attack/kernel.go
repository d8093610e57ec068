package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func allNames() []string {
	var names []string
	for name := range attacks {
		if !strings.HasPrefix(name, "-") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// attacks by name: a published escape, or the row of docs/threat-model.md.
// Those with a dash in front are asked for one by one.
var attacks map[string]attack

func init() {
	attacks = map[string]attack{
		// The root file system.
		"F7-double-chroot":      doubleChroot,
		"F8-mknod":              mknod,
		"F8-planted-node":       plantedNode("/planted-urandom"),
		"F8-planted-kmsg":       plantedNode("/planted-kmsg"),
		"F8-planted-disk":       plantedNode("/planted-disk"),
		"Shocker":               shocker,
		"Shocker-i386":          shocker32,
		"CVE-2022-0492":         releaseAgent,
		"F14-cgroup2":           cgroup2,
		"F16-shm":               fillShm,
		"-cwd":                  cwd,
		"-procfile":             procFile,
		"-euid0":                euid0,
		"-inspect":              inspect,
		"X3-sys":                writable("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", "/sys/kernel/profiling"),
		"X3-uevent_helper":      writable("/sys/kernel/uevent_helper"),
		"CVE-2023-25809":        writable("/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/cgroup.procs"),
		"X1-core_pattern":       writable("/proc/sys/kernel/core_pattern"),
		"X1-modprobe":           writable("/proc/sys/kernel/modprobe", "/proc/sys/kernel/usermodehelper/bset"),
		"X1-binfmt_misc":        writable("/proc/sys/fs/binfmt_misc/register", "/proc/sys/fs/suid_dumpable"),
		"X1-sysrq":              writable("/proc/sysrq-trigger"),
		"X1-irq":                writable("/proc/irq/default_smp_affinity", "/proc/irq/0/smp_affinity"),
		"X1-kcore":              readable("/proc/kcore"),
		"X1-kmsg":               readable("/proc/kmsg"),
		"X1-keys":               readable("/proc/keys"),
		"X1-kallsyms":           readable("/proc/kallsyms"),
		"X1-kpageflags":         readable("/proc/kpageflags"),
		"F8-dev-kmsg":           readable("/dev/kmsg"),
		"X1-new-procfs":         newProcfs,
		"N5-sysctl-net":         writable("/proc/sys/net/ipv4/ip_forward"),
		"N8-unprivileged-ports": writable("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
		"X2-umount-mask":        umountMask,
		"X2-remount":            remount,
		"X2-bind-over":          bindOver,
		"X2-mount-api":          func() (string, error) { return fsopen("tmpfs") },
		"X2-open_tree":          openTree,
		"X2-i386-mount":         mount32,
		"X2-pivot_root":         func() (string, error) { return reached(unix.PivotRoot("/", "/tmp"), unix.EINVAL, unix.EBUSY) },
		"F9-fanotify":           fanotify,
		"F9-fanotify_mark": func() (string, error) {
			return reached(unix.FanotifyMark(-1, unix.FAN_MARK_ADD, unix.FAN_OPEN, unix.AT_FDCWD, "/"), unix.EBADF)
		},
		"F9-name_to_handle_at": func() (string, error) {
			_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/", 0)
			return "the handle of /", err
		},
		"S18-x32-mount": mountX32,

		// PID 1.
		"CVE-2019-5736":        exeChmod,
		"CVE-2019-5736-write":  exeWrite,
		"CVE-2016-9962":        ptracePID1,
		"P4-process_vm_writev": pid1Peek,
		"P4-mem":               pid1Mem,
		"P4-pidfd_getfd":       pid1Getfd,
		"P5-fd":                pid1FDs,
		"P5-root":              pid1Link("root"),
		"P5-cwd":               pid1Link("cwd"),
		"P10-environ":          pid1Environ,
		"P12-core-limit":       coreLimit,
		"K9-socket":            pid1Socket,
		"P14-prlimit":          limitPID1,
		"P11-oom_score_adj":    oomScore,
		"P4-map_files":         pid1Link("map_files"),
		"X8-pidfd_getfd":       foreignGetfd,
		"X8-signal":            signalGroup,
		"X7-setuid":            becomeAnother,
		"CVE-2024-21626":       inherited,
		"S16-setuid":           setuidRoot,
		"CVE-2016-2568":        func() (string, error) { return injectTTY(unix.TIOCSTI) },
		"CVE-2017-5226":        func() (string, error) { return injectTTY(unix.TIOCSTI) },
		"CVE-2019-7303":        func() (string, error) { return injectTTY(1<<32 | unix.TIOCSTI) },
		"CVE-2019-10063":       func() (string, error) { return injectTTY(0x7fffffff<<32 | unix.TIOCSTI) },
		"CVE-2016-2568-i386":   inject32,
		"CVE-2023-1523":        console,
		"T3-TIOCSETD":          lineDiscipline,
		"CVE-2022-0185":        func() (string, error) { return withNamespaces(unix.CLONE_NEWUSER|unix.CLONE_NEWNS, "X2-mount-api") },
		"CVE-2024-1086":        func() (string, error) { return withNamespaces(unix.CLONE_NEWUSER|unix.CLONE_NEWNET, "N4-netfilter") },
		"S19-clone":            cloneUser,
		"S19-clone3":           clone3User,
		"S19-clone-i386":       cloneUser32,
		"S19-setns":            setns,
		"S19-unshare-net":      func() (string, error) { return "a network namespace", unix.Unshare(unix.CLONE_NEWNET) },
		"S17-user-keyring":     userKeyring,
		"S17-add_key":          addKey,
		"S17-session-keyring":  sessionKeyring,
		"S17-request_key":      requestKey,
		"moby-42681":           addKey32,
		"moby-42681-x32":       addKeyX32,
		"X4-io_uring":          ioUring,
		"X4-io_uring-i386":     func() (string, error) { _, err := call32(425, 1, low(make([]byte, 120))); return "a ring", err },
		"X4-bpf":               bpf,
		"X4-userfaultfd":       func() (string, error) { return "a descriptor", call(unix.SYS_USERFAULTFD, 1) },
		"X4-perf_event_open":   perf,
		"X4-kcmp":              func() (string, error) { return "compared", call(unix.SYS_KCMP, pid(), pid(), 3, 0, 0) },
		"X4-modify_ldt":        func() (string, error) { return "read", call(sysModifyLdt, 0, address(make([]byte, 64)), 64) },
		"X4-kexec":             func() (string, error) { return reached(call(unix.SYS_KEXEC_LOAD, 0, 1<<20, 0, 0), unix.EINVAL) },
		"X4-init_module": func() (string, error) {
			return reached(call(unix.SYS_INIT_MODULE, 0, 0, cstring("")), unix.EFAULT, unix.EINVAL, unix.ENOEXEC)
		},
		"X4-finit_module": func() (string, error) {
			return reached(call(unix.SYS_FINIT_MODULE, ^uintptr(0), cstring(""), 0), unix.EBADF)
		},
		"X4-sysfs":         sysfs,
		"X4-ustat":         ustat,
		"X4-personality":   func() (string, error) { return "READ_IMPLIES_EXEC", call(unix.SYS_PERSONALITY, 0x0400000) },
		"X5-clock_settime": func() (string, error) { return "settimeofday of nothing", call(unix.SYS_SETTIMEOFDAY, 0, 0) },
		"X5-adjtimex":      adjtimex,
		"X5-reboot":        func() (string, error) { return reached(call(unix.SYS_REBOOT, 1, 2, 3, 0), unix.EINVAL) },
		"X5-swapon":        func() (string, error) { return reached(call(unix.SYS_SWAPON, cstring("/nonexistent"), 0), unix.ENOENT) },
		"X5-swapoff":       func() (string, error) { return reached(call(unix.SYS_SWAPOFF, cstring("/nonexistent")), unix.ENOENT) },
		"X5-iopl":          func() (string, error) { return "all ports", call(sysIopl, 3) },
		"X5-ioperm":        func() (string, error) { return "a port", call(sysIoperm, 0x80, 1, 1) },
		"X5-acct":          func() (string, error) { return reached(call(unix.SYS_ACCT, cstring("/nonexistent")), unix.ENOENT) },
		"X5-quotactl":      func() (string, error) { return "synced quotas", call(unix.SYS_QUOTACTL, 0x80000100, 0, 0, 0) },
		"X5-syslog": func() (string, error) {
			_, err := unix.Klogctl(3, make([]byte, 512))
			return "read the kernel's log", err
		},
		"X5-sched_fifo":     schedFIFO,
		"X5-nice":           func() (string, error) { return "a negative nice value", unix.Setpriority(unix.PRIO_PROCESS, 0, -5) },
		"X5-mlock-limit":    func() (string, error) { return raise(unix.RLIMIT_MEMLOCK) },
		"X5-vhangup":        vhangup,
		"X5-lookup_dcookie": func() (string, error) { return reached(call(unix.SYS_LOOKUP_DCOOKIE, 0, 0, 0), unix.EINVAL) },

		// The network, which is the host's.
		"CVE-2020-15257": func() (string, error) { return connectAbstract(target["abstract"]) },
		"N1-datagram":    func() (string, error) { return sendAbstract(target["datagram"]) },
		"N2-other-jail":  func() (string, error) { return connectAbstract(target["other"]) },
		"CVE-2020-14386": func() (string, error) { return newSocket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
		"N3-raw":         func() (string, error) { return newSocket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
		"N3-raw-i386": func() (string, error) {
			_, err := call32(359, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
			return "a socket", err
		},
		"N4-interface":   setInterface,
		"N4-route":       setRoute,
		"N4-netfilter":   func() (string, error) { return newSocket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER) },
		"CVE-2022-27666": func() (string, error) { return newSocket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM) },
		"N4-generic":     func() (string, error) { return newSocket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC) },
		"N4-bridge":      func() (string, error) { return socketIoctl(0x8940) },              // SIOCGIFBR
		"N4-vlan":        func() (string, error) { return socketIoctl(0x8982, unix.EINVAL) }, // SIOCGIFVLAN
		"N4-driver":      func() (string, error) { return socketIoctl(0x89f0, unix.EOPNOTSUPP) },
		"N4-wireless":    func() (string, error) { return socketIoctl(0x8b01, unix.EOPNOTSUPP) },
		"N6-reuseport":   reusePort,
		"N7-low-port":    lowPort,
		"N10-audit":      audit,
		"N10-audit-i386": func() (string, error) {
			_, err := call32(359, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT)
			return "a socket", err
		},
		"N11-uevent":           func() (string, error) { return newSocket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT) },
		"N12-vsock":            func() (string, error) { return newSocket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
		"N12-vsock-socketcall": func() (string, error) { return socketcall(1, unix.AF_VSOCK, unix.SOCK_STREAM) },
		"N12-socketpair":       func() (string, error) { return newPair(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
		"N12-socketpair-i386": func() (string, error) {
			_, err := call32(360, unix.AF_VSOCK, unix.SOCK_STREAM, 0, low(make([]byte, 8)))
			return reached(err, unix.EOPNOTSUPP)
		},
		"N12-socketpair-socketcall": func() (string, error) { return socketcall(8, unix.AF_VSOCK, unix.SOCK_STREAM) },
		"N13-udplite":               func() (string, error) { return newSocket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE) },
		"N13-udplite-socketpair":    func() (string, error) { return newPair(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE) },
		"N13-tipc-socketpair":       func() (string, error) { return newPair(unix.AF_TIPC, unix.SOCK_STREAM, 0) },
		"N13-alg":                   func() (string, error) { return newSocket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) },
		"N13-key":                   func() (string, error) { return newSocket(unix.AF_KEY, unix.SOCK_RAW, 2) },
		"N13-xdp":                   func() (string, error) { return newSocket(unix.AF_XDP, unix.SOCK_RAW, 0) },
		"N13-rxrpc":                 func() (string, error) { return newSocket(unix.AF_RXRPC, unix.SOCK_DGRAM, 0) },
		"N13-tipc":                  func() (string, error) { return newSocket(unix.AF_TIPC, unix.SOCK_STREAM, 0) },
		"CVE-2017-6074":             func() (string, error) { return newSocket(unix.AF_INET, 6, unix.IPPROTO_DCCP) },
		"N13-sctp":                  func() (string, error) { return newSocket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP) },
		"N13-l2tp":                  func() (string, error) { return newSocket(unix.AF_INET, unix.SOCK_DGRAM, 115) },
		"N13-smc":                   func() (string, error) { return newSocket(unix.AF_INET, unix.SOCK_STREAM, 256) },
	}
}

func pid() uintptr { return uintptr(os.Getpid()) }

func newProcfs() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "attack")
	if err != nil {
		return "", err
	}
	defer os.Remove(dir)
	if err := unix.Mount("proc", dir, "proc", 0, ""); err != nil {
		return "", err
	}
	err = openWritable(dir + "/sys/kernel/core_pattern")
	return "core_pattern of a new procfs", errors.Join(err, unix.Unmount(dir, 0))
}

// umountMask uncovers what is covered in a jail or, by this program, in the weak
// container.
func umountMask() (string, error) {
	err := unix.Unmount("/proc/kallsyms", unix.MNT_DETACH)
	if err == unix.EINVAL { // nothing covers it
		err = unix.Unmount("/proc/filesystems", unix.MNT_DETACH)
	}
	return "uncovered", err
}

func remount() (string, error) {
	return "remounted", unix.Mount("", "/proc/irq", "", unix.MS_BIND|unix.MS_REMOUNT, "")
}

func bindOver() (string, error) {
	if err := unix.Mount("/tmp", "/proc/irq", "", unix.MS_BIND, ""); err != nil {
		return "", err
	}
	return "mounted", unix.Unmount("/proc/irq", 0)
}

func fsopen(fstype string) (string, error) {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	return "a file system context", err
}

func openTree() (string, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/proc", unix.OPEN_TREE_CLONE)
	if err == nil {
		unix.Close(fd)
	}
	return "a copy of a mount", err
}

func mount32() (string, error) {
	_, err := call32(21, low([]byte("none\x00")), low([]byte("/tmp\x00")), low([]byte("tmpfs\x00")), 0, 0)
	if err != nil {
		return "", err
	}
	return "mounted", unix.Unmount("/tmp", 0)
}

func mountX32() (string, error) {
	return "mounted", call(sysX32|unix.SYS_MOUNT, cstring("none"), cstring("/tmp"), cstring("tmpfs"), 0, 0)
}

func fanotify() (string, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT, unix.O_RDONLY)
	if err == nil {
		unix.Close(fd)
	}
	return "a permission group", err
}

// coreLimit lets crashes reach the host's core_pattern again.
func coreLimit() (string, error) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
		return "", err
	}
	return raise(unix.RLIMIT_CORE)
}

func raise(resource int) (string, error) {
	l := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	return "no limit", unix.Setrlimit(resource, &l)
}

// limitPID1 gives PID 1 the limit of processor time that it has, by the number of each of
// its threads. With another one, as root of its user namespace may set it, the kernel kills
// it (setrlimit(2), RLIMIT_CPU).
func limitPID1() (string, error) {
	err := error(unix.ESRCH)
	threads, _ := os.ReadDir("/proc/1/task")
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		var now unix.Rlimit
		if err = unix.Prlimit(id, unix.RLIMIT_CPU, nil, &now); err != nil {
			continue
		}
		if err = unix.Prlimit(id, unix.RLIMIT_CPU, &now, nil); err == nil {
			return "set", nil
		}
	}
	return "", err
}

// oomScore makes itself the last to be killed.
func oomScore() (string, error) {
	return "spared", os.WriteFile("/proc/self/oom_score_adj", []byte("-500"), 0)
}

func schedFIFO() (string, error) {
	param := struct{ priority int32 }{1}
	return "real time", call(unix.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&param)))
}

// sysfs asks how many file systems the kernel has.
func sysfs() (string, error) { return "the kernel's file systems", call(sysSysfs, 3) }

// ustat asks about a device that has no file system.
func ustat() (string, error) {
	return reached(call(sysUstat, 0, address(make([]byte, 64))), unix.EINVAL)
}

func vhangup() (string, error) {
	if _, err := unix.Setsid(); err != nil {
		return "", err
	}
	return "hung up", call(unix.SYS_VHANGUP)
}

func adjtimex() (string, error) {
	var tx unix.Timex
	if _, err := unix.Adjtimex(&tx); err != nil {
		return "", err
	}
	tx.Modes = 0x4000 // ADJ_TICK, to what it is
	_, err := unix.Adjtimex(&tx)
	return "set the clock's tick to what it was", err
}

// ownTTY makes a terminal the controlling one and returns it.
func ownTTY() (master, slave int, err error) {
	if _, err := unix.Setsid(); err != nil {
		// The leader of a process group; a session of its own it has.
		_ = err
	}
	if master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		return -1, -1, err
	}
	if err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, -1, err
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, -1, err
	}
	if slave, err = unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return -1, -1, err
	}
	return master, slave, unix.IoctlSetInt(slave, unix.TIOCSCTTY, 0)
}

// injectTTY puts a letter into a terminal's input, as if it were typed.
func injectTTY(request uintptr) (string, error) {
	_, slave, err := ownTTY()
	if err != nil {
		return "", err
	}
	return "typed", call(unix.SYS_IOCTL, uintptr(slave), request, address([]byte("x")))
}

func inject32() (string, error) {
	_, slave, err := ownTTY()
	if err != nil {
		return "", err
	}
	_, err = call32(54, uint32(slave), unix.TIOCSTI, low([]byte("x")))
	return "typed", err
}

func lineDiscipline() (string, error) {
	_, slave, err := ownTTY()
	if err != nil {
		return "", err
	}
	n := int32(0) // N_TTY, which it has
	return "set", call(unix.SYS_IOCTL, uintptr(slave), unix.TIOCSETD, uintptr(unsafe.Pointer(&n)))
}

// withNamespaces runs another attack in new namespaces, as root of them.
func withNamespaces(flags uintptr, name string) (string, error) {
	cmd := exec.Command("/proc/self/exe", "one", name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  flags,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.Output()
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		err = errors.New(string(out))
	}
	return "as root of new namespaces", err
}

// console asks the machine's console by TIOCLINUX, or what there is instead.
func console() (string, error) {
	const shiftState = 6 // TIOCL_GETSHIFTSTATE, which changes nothing
	if fd, err := unix.Open("/dev/tty1", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0); err == nil {
		defer unix.Close(fd)
		return "the console answers", call(unix.SYS_IOCTL, uintptr(fd), 0x541c, address([]byte{shiftState}))
	}
	return injectTTY(0x541c)
}

// forked ends the child of a system call that forks. Neither that call nor this one
// may be announced to the runtime's scheduler, whose other threads the child has not:
// it could wait for one of them, with its standard output open. So it ends before a function's
// prologue can ask it to, as while the parent collects garbage.
//
//go:nosplit
func forked(r uintptr, e syscall.Errno) (string, error) {
	if e != 0 {
		return "", e
	}
	if r == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return "a user namespace", nil
}

func cloneUser() (string, error) {
	r, _, e := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	return forked(r, e)
}

func cloneUser32() (string, error) {
	r, err := call32(clone32, unix.CLONE_NEWUSER|uint32(unix.SIGCHLD))
	if err != nil {
		return "", err
	}
	return forked(uintptr(r), 0)
}

func clone3User() (string, error) {
	args := [8]uint64{0: unix.CLONE_NEWUSER, 4: uint64(unix.SIGCHLD)}
	r, _, e := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), 64, 0)
	return forked(r, e)
}

func setns() (string, error) {
	fd, err := unix.Open("/proc/1/ns/uts", unix.O_RDONLY, 0)
	if err != nil {
		if fd, err = unix.Open("/proc/self/ns/uts", unix.O_RDONLY, 0); err != nil {
			return "", err
		}
	}
	return "entered", unix.Setns(fd, 0)
}

func userKeyring() (string, error) {
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", target["key"], 0)
	if err != nil {
		return "", err
	}
	b := make([]byte, 64)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, b, 0)
	if err == nil && string(b[:n]) != target["text"] {
		err = errNothing
	}
	return "read the host's key", err
}

func addKey() (string, error) {
	_, err := unix.AddKey("user", "attack", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	return "a key", err
}

func addKey32() (string, error) {
	_, err := call32(286, low([]byte("user\x00")), low([]byte("attack\x00")), low([]byte("x")), 1, 0xfffffffe)
	return "a key", err
}

func addKeyX32() (string, error) {
	return "a key", call(sysX32|unix.SYS_ADD_KEY, cstring("user"), cstring("attack"), cstring("x"), 1, ^uintptr(1))
}

func sessionKeyring() (string, error) {
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	return "its id", err
}

func requestKey() (string, error) {
	// Without information for it, request-key(8) is not called.
	return reached(call(unix.SYS_REQUEST_KEY, cstring("user"), cstring("attack"), 0, 0), unix.ENOKEY)
}

func ioUring() (string, error) {
	params := make([]byte, 120)
	return "a ring", call(unix.SYS_IO_URING_SETUP, 1, address(params))
}

func bpf() (string, error) {
	attr := [4]uint32{2, 4, 4, 1} // an array of one
	return "a map", call(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), 16)
}

func perf() (string, error) {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}
	attr.Size = uint32(unsafe.Sizeof(attr))
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, 0)
	if err == nil {
		unix.Close(fd)
	}
	return "a counter", err
}
