package launch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"jail/internal/jail"
	"jail/internal/rootfs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// Unpacking is a process of jail-import's that is at work.
type Unpacking struct {
	PIDFD  int
	Conn   int // what it says of its work
	Stderr int // what it says when it crashes
	pid    int
	child  *sys.Child
}

// unpackIDs are the host ids that jail-import may have, one range after the other: what
// lies between those that jails draw from (config's areas) and those that systemd keeps
// for foreign ids (systemd.io/UIDS-GIDS).
var unpackIDs = [...]jail.Userns{
	{Enabled: true, Base: 0x7FFB0000, Size: 1 << 16},
	{Enabled: true, Base: 0x7FFC0000, Size: 1 << 16},
	{Enabled: true, Base: 0x7FFD0000, Size: 1 << 16},
}

// unpackThreads is how many threads jail-import may have: what the Go runtime makes.
const unpackThreads = 128

// Unpacker returns the path of jail-import.
func Unpacker() (string, error) {
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "", err
	}
	path, ok := companion(own, "import", "jail-import")
	if !ok {
		return "", fmt.Errorf("%s: the program that unpacks archives is missing; install it as make install does", path)
	}
	return path, nil
}

// Unpack starts program, which is jail-import, to unpack what source is open on into the
// directory dir. The process has namespaces of its own, and of the host nothing but a
// mount of dir, with the ids of its user namespace and neither devices, set-uid nor
// programs, and the source: a regular file, opened for reading, or, if order says so, a
// mount of a directory which nobody can write through or leave.
func Unpack(program string, dir, source int, order *wire.Unpack) (u *Unpacking, err error) {
	packet, err := wire.AppendUnpack(nil, order)
	if err != nil {
		return nil, err
	}
	var ours, inside descriptors
	defer func() {
		inside.close()
		if err != nil {
			ours.close()
		}
	}()
	exe, err := rootfs.OwnFile(program)
	if err != nil {
		return nil, err
	}
	inside.add(exe)
	into, err := sys.CloneTree(dir, sys.MountAttrNodev|sys.MountAttrNosuid|sys.MountAttrNoexec)
	if err != nil {
		return nil, fmt.Errorf("clone the new directory: %w", err)
	}
	inside.add(into)
	if order.Dir {
		const attr = sys.MountAttrRdonly | sys.MountAttrNodev | sys.MountAttrNosuid | sys.MountAttrNoexec | sys.MountAttrNosymfollow
		if source, err = sys.CloneTree(source, attr); err != nil {
			return nil, fmt.Errorf("clone the source: %w", err)
		}
		inside.add(source)
	}
	e, err := newEnds(&ours, &inside, &exe)
	if err != nil {
		return nil, err
	}
	ids, err := freeUnpackIDs()
	if err != nil {
		return nil, err
	}
	u = &Unpacking{Conn: e.conn, Stderr: e.stderr, child: unpackChild(ids, &e, exe)}
	if u.child.LandlockFD >= 0 {
		inside.add(u.child.LandlockFD)
	}
	if u.pid, u.PIDFD, err = sys.Fork(u.child); err != nil {
		return nil, fmt.Errorf("clone: %w", cloneError(err))
	}
	ours.add(u.PIDFD)
	defer func() {
		if err != nil {
			_ = sys.PidfdSendSignal(u.PIDFD, syscall.SIGKILL)
			reap(u.pid)
			waitExec(u.child)
		}
	}()
	whole := idMap(ids, nil)
	if err := writeMap(u.pid, whole, whole); err != nil {
		return nil, err
	}
	if err := idmapFor(u.pid, into, source, order.Dir); err != nil {
		return nil, err
	}
	var m sys.MsgBuf
	if err := sys.SendMsg(u.Conn, packet, []int{into, source}, true, &m); err != nil {
		return nil, fmt.Errorf("give orders to jail-import: %w", err)
	}
	if _, err := sys.Write(e.sync, []byte{1}); err != nil {
		return nil, fmt.Errorf("start jail-import: %w", err)
	}
	sys.Close(e.sync)
	return u, nil
}

// unpackChild describes the process: each line is a wall.
func unpackChild(ids jail.Userns, e *ends, exe int) *sys.Child {
	c := sys.NewChild()
	c.CloneFlags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS
	c.Owner, c.Processes = owner(ids), unpackThreads
	c.SyncFD = e.itsSync
	c.EarlyCred = true
	c.SetCaps, c.LastCap = true, lastCap()
	// What making files of all ids takes, and to make the directory its root.
	c.Bounding = sys.CapChown | sys.CapDacOverride | sys.CapFowner | sys.CapFsetid | sys.CapSetfcap | sys.CapSysAdmin
	c.NoNewPrivs = true
	c.JoinKeyring = true
	if sys.LandlockABI() >= 6 {
		if fd, err := sys.LandlockScopes(); err == nil {
			c.LandlockFD = fd
		}
	}
	c.Setsid = true // ^C is the caller's
	c.FDs = [4]int{e.null, e.null, e.itsStderr, e.itsConn}
	c.Umask = 0
	c.ExecFD = exe
	c.Argv = []*byte{cptr("jail-import"), nil}
	c.Envp = []*byte{cptr("TZ="), nil} // else package time would look for /etc/localtime
	c.ExecMsg = []byte("execute jail-import: ")
	return c
}

// freeUnpackIDs returns a range that no process has ids of.
func freeUnpackIDs() (jail.Userns, error) {
	var r ranges
	for _, ids := range unpackIDs {
		holders, err := r.inUse(ids, 0)
		if err != nil {
			return ids, err
		}
		if len(holders) == 0 {
			return ids, nil
		}
	}
	return jail.Userns{}, fmt.Errorf("%d imports run already; wait for one of them", len(unpackIDs))
}

// idmapFor makes the new directory, and the source if it is one, show the ids of the
// process's user namespace.
func idmapFor(pid, into, source int, dir bool) error {
	ns, err := syscall.Open("/proc/"+strconv.Itoa(pid)+"/ns/user", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open user namespace: %w", err)
	}
	defer sys.Close(ns)
	switch err := sys.MountSetattr(into, 0, ns, false); err {
	case nil:
	case syscall.EINVAL:
		return errors.New("the file system of the images cannot be mounted with mapped ids; keep them on ext4, xfs or btrfs")
	default:
		return fmt.Errorf("map ids of the new directory: %w", err)
	}
	if dir {
		// Where its file system cannot, what everybody may read of it is read.
		if err := sys.MountSetattr(source, 0, ns, false); err != nil && err != syscall.EINVAL {
			return fmt.Errorf("map ids of the source: %w", err)
		}
	}
	return nil
}

// Wait waits until the process has ended, at most for so long, and says how.
// It returns false if it has not.
func (u *Unpacking) Wait(most time.Duration) (syscall.WaitStatus, bool) {
	over := []sys.PollFD{{FD: int32(u.PIDFD), Events: sys.PollIn}}
	if n, err := sys.Poll(over, int(most.Milliseconds())); err != nil || n == 0 {
		return 0, false
	}
	ws := reap(u.pid)
	waitExec(u.child)
	sys.CloseAll([]int{u.PIDFD, u.Conn, u.Stderr})
	return ws, true
}

// Kill ends the process. It waits for it, but not for long: in a file system that does
// not answer it cannot be killed.
func (u *Unpacking) Kill() error {
	_ = sys.PidfdSendSignal(u.PIDFD, syscall.SIGKILL)
	if _, ok := u.Wait(killWait); !ok {
		return fmt.Errorf("process %d of jail-import cannot be killed, since it waits for a file system that does not answer", u.pid)
	}
	return nil
}
