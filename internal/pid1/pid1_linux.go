// Package pid1 is the jail's first process: the supervisor that accepts logins,
// starts their sessions, reaps, and says how they ended.
//
// It is one thread in one epoll loop, and nothing in the loop waits for anybody:
// not for a peer, not for a child, not for the host. It holds no descriptor of
// the host but its listeners, its connections, the pipe that is its
// descriptor 2 and, for reading, one file of its cgroup, and after Run has set itself up it can do nothing outside the
// jail: treat it as something the tenant may take over.
package pid1

import (
	"errors"
	"runtime"
	"strconv"
	"syscall"

	"jail/internal/confine"
	"jail/internal/rootfs"
	"jail/internal/session"
	"jail/internal/sys"
	"jail/internal/wire"
)

// setupFD is the socket to the launcher.
const setupFD = 3

// handled are the signals that have a handler: SIGCHLD, so that it ends an epoll wait.
// The scheduler does without SIGURG (asyncpreemptoff in the environment that the
// launcher makes).
const handled = 1 << (syscall.SIGCHLD - 1)

// keepSignals are those that have none.
const keepSignals = ^uint64(handled)

// Run is the whole life of PID 1. It returns the exit status, which nobody but
// the launcher looks at. A tenant who executes /proc/1/exe gets no further than the
// first lines.
func Run() int {
	if syscall.Getpid() != 1 {
		const text = "jail-pid1: is the first process of a jail, and started by jail-init only\n"
		_, _ = syscall.Write(2, []byte(text))
		return 64
	}
	runtime.LockOSThread()
	_ = sys.SetDumpable(false)
	sys.SetTimerSlack(sys.TimerSlack) // what the launcher has set is for the other threads
	sys.SetComm("jail-init")

	var m sys.MsgBuf
	s, got, err := receiveSetup(&m)
	if err != nil {
		return fail(&m, err)
	}
	root, err := rootfs.Apply(s, got.trees)
	if err != nil {
		return fail(&m, err)
	}
	if err := syscall.Sethostname([]byte(s.Hostname)); err != nil {
		return fail(&m, sys.Wrap("set hostname", err))
	}
	if err := ownNull(root.Dev); err != nil {
		return fail(&m, err)
	}
	syscall.Umask(0o022)
	limits()
	j := jailOf(s, root)
	j.Limit(&s.Sessions)
	l, err := newLoop(s, j, children{}, got.ctl, got.logins, setupFD)
	if err != nil {
		return fail(&m, err)
	}
	l.watchMemory(got.memory)
	if err := giveUp(s); err != nil {
		return fail(&m, err)
	}
	// After giveUp, which interrupts every thread there is; these are born confined. A
	// jail that has all the processes it may have must not be the end of PID 1. With one
	// processor and one goroutine of ours, five threads are all that can be busy at once
	// (cgroup.PID1Threads).
	sys.SpareThreads(3)
	if err := sys.SendMsg(setupFD, wire.AppendReady(nil), nil, false, &m); err != nil {
		return 1 // the launcher has given up on us
	}
	for _, note := range append(root.Notes, j.Notes...) {
		l.note(note)
	}
	return l.run()
}

// fail tells the launcher why there will be no jail.
func fail(m *sys.MsgBuf, err error) int {
	_ = sys.SendMsg(setupFD, wire.AppendText(nil, wire.TypeFailed, err.Error()), nil, false, m)
	return 1
}

// received are the descriptors that come with the set-up.
type received struct {
	ctl    int
	logins []int
	memory int
	trees  rootfs.Trees
}

// receiveSetup receives the launcher's one message.
func receiveSetup(m *sys.MsgBuf) (s *wire.Setup, got received, err error) {
	// Not the collector's memory, which would keep it.
	buf, err := syscall.Mmap(-1, 0, wire.MaxPacket, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, got, sys.Wrap("receive set-up", err)
	}
	defer func() { _ = syscall.Munmap(buf) }()
	n, err := sys.RecvMsg(setupFD, buf, true, m)
	if err != nil {
		return nil, got, sys.Wrap("receive set-up", err)
	}
	typ, _, body, err := wire.Header(buf[:n])
	if err == nil && typ != wire.TypeSetup {
		err = wire.ErrMalformed
	}
	if err == nil {
		s, err = wire.DecodeSetup(body)
	}
	var d *wire.Descriptors
	if err == nil {
		d, err = s.Assign(m.FDs)
	}
	if err != nil {
		return nil, got, sys.Wrap("receive set-up", err)
	}
	got.ctl, got.logins, got.memory = d.Control, d.Logins, d.Memory
	got.trees = rootfs.Trees{Root: d.Rootfs, Mounts: d.Mounts, Server: d.SFTP, Resolver: d.Resolver, Devices: d.Devices}
	return s, got, nil // d.Lock stays open as long as this process lives
}

// ownNull replaces the host's /dev/null on 0 and 1 with the jail's.
func ownNull(dev int) error {
	null, err := sys.Openat2(dev, "null", syscall.O_RDWR, sys.ResolveBeneath|sys.ResolveNoSymlinks)
	if err != nil {
		return sys.Wrap("open /dev/null", err)
	}
	defer sys.Close(null)
	return errors.Join(sys.Dup2(null, 0), sys.Dup2(null, 1))
}

// giveUp takes on, for good, what the sessions will inherit. The bounding set,
// the Landlock domain, no_new_privs and the keyring are in place since before
// this program was executed; what is left is the filter, which must come while
// there is CAP_SYS_ADMIN to install it without no_new_privs, and then the
// capabilities themselves, both on every thread.
func giveUp(s *wire.Setup) error {
	if err := sys.SeccompAllThreads(confine.Filter()); err != nil {
		return sys.Wrap("install seccomp filter", err)
	}
	// Whose ids are all those of PID 1 may set its limits (kernel/sys.c,
	// check_prlimit_permission), and with RLIMIT_CPU the kernel would end it. Nobody's
	// one gid is two. A jail of one id, which an ordinary user can have, has no other.
	const another = 1
	if err := sys.SetSavedGIDAllThreads(another); err != nil && err != syscall.EINVAL {
		return sys.Wrap("set saved gid", err)
	}
	sets := confine.CapsFor(s.Userns, s.ContainerRoot)
	if err := sys.CapSetAllThreads(sets.PID1); err != nil {
		return sys.Wrap("drop capabilities", err)
	}
	got, err := sys.CapEffective()
	if err != nil {
		return sys.Wrap("read capabilities", err)
	}
	if got != sets.PID1 {
		return errors.New("drop capabilities: have " + strconv.FormatUint(uint64(got), 16) + ", want " + strconv.FormatUint(uint64(sets.PID1), 16))
	}
	// As the init of a PID namespace this process cannot be hurt by a signal
	// whose disposition is the default (pid_namespaces(7)), as long as it is not
	// blocked at that moment. The Go runtime's handlers take that protection away,
	// since they run with every signal blocked, so they go. A fault of our own still
	// kills: the kernel forces those.
	for sig := 1; sig <= 64; sig++ {
		if handled&(1<<(sig-1)) == 0 {
			sys.SetSignal(sig, false)
		}
	}
	sys.InterruptBy(syscall.SIGCHLD)
	return nil
}

// jailOf makes the sessions' common part.
func jailOf(s *wire.Setup, root *rootfs.Root) *session.Jail {
	j := &session.Jail{
		Root: root.Dir, Pts: root.Pts, Dev: root.Dev, Proc: root.Proc,
		Env: s.Env, NoSetgroups: s.NoSetgroups, HardFiles: s.HardFiles,
		KeepSignals: keepSignals,
		SFTP:        s.SFTP, SFTPServer: s.SFTPServer != wire.SFTPServerNone,
		Agent:     session.Place{FD: root.Agent, Path: rootfs.AgentDir},
		X11:       session.Place{FD: root.X11, Path: rootfs.X11Dir},
		Auth:      session.Place{FD: root.Auth, Path: rootfs.AuthDir},
		Hostname:  s.Hostname,
		EnvAccept: s.EnvAccept,
		Keys:      s.Keys,
	}
	j.SetZone(s.Zone, s.ZoneRule, s.ZoneSum)
	return j
}
