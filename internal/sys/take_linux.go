//go:build linux

package sys

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// FDTaken in Child.FDs stands for the next descriptor that the child takes from
// Child.TakeFrom.
const FDTaken = -2

// maxRights is how many descriptors one packet can have (SCM_MAX_FD, unix(7)).
const maxRights = 253

// Taken says what became of the packet of Child.TakeFrom.
type Taken uint32

// The values of Taken.
const (
	TakenNotYet Taken = iota // the packet is still there, unless the child has ended
	TakenAll                 // the child has what it was promised
	TakenWrong               // it was something else, and the child ends
)

// taking is what a child needs to take descriptors. It is the child's alone until the
// child is no longer Pending, but for state.
type taking struct {
	state uint32
	n     int
	fds   [3]int32
	hdr   syscall.Msghdr
	iov   syscall.Iovec
	one   [8]byte
	st    syscall.Stat_t
	val   int32
	len   uint32
	ctrl  [cmsgHdrLen + 4*(maxRights+1)]byte
}

// Taken reports how far the child has got with TakeFrom.
func (c *Child) Taken() Taken { return Taken(atomic.LoadUint32(&c.take.state)) }

// prepareTake makes what childTake passes to the kernel, since a child stores no pointers.
func prepareTake(c *Child) {
	t := &c.take
	t.state = uint32(TakenNotYet)
	t.iov = syscall.Iovec{Base: &t.one[0], Len: uint64(len(t.one))}
	t.hdr = syscall.Msghdr{Iov: &t.iov, Iovlen: 1, Control: &t.ctrl[0], Controllen: uint64(len(t.ctrl))}
}

// childTake receives the packet of TakeFrom. There is room for all descriptors it can
// have: those that are too many become this process's, whose end closes them, where
// closing keeps nobody else waiting (inet_release, PF_EXITING; childTookWrong).
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childTake(c *Child) {
	t := &c.take
	want := 0
	for i := 0; i < len(c.FDs); i++ {
		if c.FDs[i] == FDTaken {
			want++
		}
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_RECVMSG, uintptr(c.TakeFrom), uintptr(unsafe.Pointer(&t.hdr)), msgDontwait|msgCmsgCloexec)
	if e != 0 {
		t.hdr.Controllen = 0
	}
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&t.ctrl[0]))
	if t.hdr.Flags&msgCtrunc != 0 || t.hdr.Controllen < cmsgHdrLen || want > len(t.fds) ||
		h.Level != syscall.SOL_SOCKET || h.Type != scmRights || h.Len != uint64(cmsgHdrLen+4*want) ||
		t.hdr.Controllen > uint64((cmsgHdrLen+4*want+7)&^7) {
		childTookWrong(c)
	}
	t.n = 0
	for i := 0; i < len(c.FDs); i++ {
		if c.FDs[i] != FDTaken {
			continue
		}
		fd := *(*int32)(unsafe.Pointer(&t.ctrl[cmsgHdrLen+4*t.n]))
		if !passable(fd, t) {
			childTookWrong(c)
		}
		t.n++
		c.FDs[i] = int(fd)
	}
	atomic.StoreUint32(&t.state, uint32(TakenAll))
}

// childTookWrong ends the child. A file system in user space can hold up the end of a
// process that has a file of it (fs/fuse/file.c, fuse_flush), and so for as long all
// that is closed after that file. So what came in the packet is closed last; it is in the
// order of its numbers.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func childTookWrong(c *Child) {
	t := &c.take
	next := uintptr(0)
	for at := uint64(cmsgHdrLen); at+4 <= t.hdr.Controllen && at+4 <= uint64(len(t.ctrl)); at += 4 {
		fd := uintptr(*(*uint32)(unsafe.Pointer(&t.ctrl[at])))
		if fd < next { // padding
			continue
		}
		if fd > next {
			_, _, _ = syscall.RawSyscall(sysCloseRange, next, fd-1, 0)
		}
		next = fd + 1
	}
	_, _, _ = syscall.RawSyscall(sysCloseRange, next, ^uintptr(0)>>32, 0)
	atomic.StoreUint32(&t.state, uint32(TakenWrong))
	exit(ChildNoFDs)
}

// passable reports whether fd is what may be passed into a session: a pipe or a
// connected stream socket, opened for real. It asks pipes and sockets only: a file
// system of the sender's would be asked by fstat(2), and could take as long as it liked
// to answer (fs/fuse/dir.c, fuse_update_get_attr), nothing of the child being closed.
//
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func passable(fd int32, t *taking) bool {
	const getPipeSize = 1032 // F_GETPIPE_SZ
	_, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), getPipeSize, 0)
	return e == 0 || socketOption(fd, syscall.SO_TYPE, t) == syscall.SOCK_STREAM && socketOption(fd, syscall.SO_ACCEPTCONN, t) == 0
}

// socketOption returns an option of SOL_SOCKET, -1 if there is none.
//
//go:nosplit
//go:norace
//go:nocheckptr
func socketOption(fd int32, option uintptr, t *taking) int32 {
	t.val, t.len = -1, 4
	_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, option,
		uintptr(unsafe.Pointer(&t.val)), uintptr(unsafe.Pointer(&t.len)), 0)
	if e != 0 {
		return -1
	}
	return t.val
}

// PeekMsg returns the length of the next packet of a unix socket, as much of it as p
// has room for, and whether descriptors come with it, all without taking any of it:
// who takes a descriptor has to close it, and a close can last as long as whoever sent
// it likes (socket(7), SO_LINGER; a file system in user space). A packet longer than p
// is EMSGSIZE. At the end of the stream n is 0; it does not wait.
func PeekMsg(fd int, p []byte, m *MsgBuf) (n int, rights bool, err error) {
	return plainMsg(fd, p, syscall.MSG_PEEK, m)
}

// TakeMsg is PeekMsg that takes the packet. If descriptors come with it the kernel
// closes them here and now: for a packet that PeekMsg has found without.
func TakeMsg(fd int, p []byte, m *MsgBuf) (n int, rights bool, err error) {
	return plainMsg(fd, p, 0, m)
}

func plainMsg(fd int, p []byte, flags uintptr, m *MsgBuf) (n int, rights bool, err error) {
	m.FDs, m.CredPID = m.store[:0], 0
	m.iov = syscall.Iovec{Base: &p[0]}
	m.iov.SetLen(len(p))
	// Without room for control data the kernel only says that there was some.
	m.hdr = syscall.Msghdr{Iov: &m.iov, Iovlen: 1}
	for {
		r, e := msgCall(syscall.SYS_RECVMSG, fd, m, flags|msgDontwait)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return 0, false, e
		}
		rights = m.hdr.Flags&msgCtrunc != 0
		if m.hdr.Flags&msgTrunc != 0 {
			return 0, rights, syscall.EMSGSIZE
		}
		return int(r), rights, nil
	}
}

// Quiet takes what is left to be received from fd, a connected SOCK_SEQPACKET socket,
// makes sure that nothing more comes, and reports whether that is all: then closing it
// waits for nobody, and resets nothing for the peer. Packets with descriptors, empty ones
// and too many stay.
func Quiet(fd int, m *MsgBuf) bool {
	const most = 16
	_ = syscall.Shutdown(fd, syscall.SHUT_RD)
	p := m.one[:]
	for range most {
		n, rights, err := plainMsg(fd, p, syscall.MSG_PEEK, m)
		if rights || err != nil && err != syscall.EMSGSIZE {
			return false
		}
		if err == nil && n == 0 {
			break
		}
		_, _, _ = plainMsg(fd, p, 0, m)
	}
	// An empty packet looks like the end of the stream; with credentials, which
	// every packet has from now on, it does not.
	if PassCredentials(fd) != nil {
		return false
	}
	n, rights, err := plainMsg(fd, p, syscall.MSG_PEEK, m)
	return err == nil && n == 0 && !rights
}
