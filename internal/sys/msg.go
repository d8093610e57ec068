//go:build linux

package sys

import (
	"syscall"
	"unsafe"
)

// MaxMsgFDs is the largest number of descriptors SendMsg sends and RecvMsg
// keeps (SCM_MAX_FD is 253, unix(7)).
const MaxMsgFDs = 200

const (
	cmsgHdrLen     = 16
	scmRights      = 1
	scmCredentials = 2
	msgCmsgCloexec = 0x40000000
	msgNosignal    = 0x4000
	msgTrunc       = 0x20
	msgCtrunc      = 0x8
	msgDontwait    = 0x40
	soPasscred     = 16
	soPassrights   = 83
	ucredLen       = 12
	ctrlBufLen     = cmsgHdrLen + 4*(MaxMsgFDs+1) + cmsgHdrLen + 16
)

// MsgBuf is the scratch space of RecvMsg and SendMsg, reused from call to call
// so that neither allocates. One per thread that uses them.
type MsgBuf struct {
	hdr  syscall.Msghdr
	iov  syscall.Iovec
	ctrl [ctrlBufLen]byte
	// FDs are the descriptors of the last RecvMsg; the caller owns them.
	FDs []int
	// CredPID is the pid of SCM_CREDENTIALS of the last RecvMsg, or 0.
	CredPID int32
	store   [ctrlBufLen / 4]int
	one     [1]byte // for a packet nobody wants
}

// SendMsg sends one packet with descriptors. With wait false it fails with
// EAGAIN rather than wait. SIGPIPE is never raised.
func SendMsg(fd int, p []byte, fds []int, wait bool, m *MsgBuf) error {
	if len(fds) > MaxMsgFDs {
		return syscall.EINVAL
	}
	m.iov = syscall.Iovec{}
	if len(p) > 0 {
		m.iov.Base = &p[0]
	}
	m.iov.SetLen(len(p))
	m.hdr = syscall.Msghdr{Iov: &m.iov, Iovlen: 1}
	if len(fds) > 0 {
		h := (*syscall.Cmsghdr)(unsafe.Pointer(&m.ctrl[0]))
		h.Len = uint64(cmsgHdrLen + 4*len(fds))
		h.Level, h.Type = syscall.SOL_SOCKET, scmRights
		for i, f := range fds {
			*(*int32)(unsafe.Pointer(&m.ctrl[cmsgHdrLen+4*i])) = int32(f)
		}
		m.hdr.Control = &m.ctrl[0]
		m.hdr.Controllen = uint64((cmsgHdrLen + 4*len(fds) + 7) &^ 7)
	}
	flags := uintptr(msgNosignal)
	if !wait {
		flags |= msgDontwait
	}
	for {
		_, e := msgCall(syscall.SYS_SENDMSG, fd, m, flags)
		if e != syscall.EINTR {
			return justErr(e)
		}
	}
}

func msgCall(call uintptr, fd int, m *MsgBuf, flags uintptr) (uintptr, Errno) {
	if flags&msgDontwait != 0 {
		r, _, e := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)), flags)
		return r, e
	}
	r, _, e := syscall.Syscall(call, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)), flags)
	return r, e
}

// RecvMsg receives one packet into p and its descriptors into m.FDs, all
// close-on-exec. A packet longer than p, or control data that did not fit, is
// EMSGSIZE, and its descriptors are closed. n is 0 at the end of the stream.
func RecvMsg(fd int, p []byte, wait bool, m *MsgBuf) (n int, err error) {
	m.FDs, m.CredPID = m.store[:0], 0
	m.iov = syscall.Iovec{Base: &p[0]}
	m.iov.SetLen(len(p))
	m.hdr = syscall.Msghdr{Iov: &m.iov, Iovlen: 1, Control: &m.ctrl[0], Controllen: ctrlBufLen}
	flags := uintptr(msgCmsgCloexec)
	if !wait {
		flags |= msgDontwait
	}
	var r uintptr
	var e Errno
	for {
		r, e = msgCall(syscall.SYS_RECVMSG, fd, m, flags)
		if e != syscall.EINTR {
			break
		}
	}
	if e != 0 {
		return 0, e
	}
	// The descriptors are ours whatever else is wrong, and are found first.
	bad := !m.walk(m.ctrl[:min(uint64(m.hdr.Controllen), ctrlBufLen)]) || m.hdr.Flags&(msgTrunc|msgCtrunc) != 0
	if bad {
		if wait {
			CloseForeign(m.FDs)
		} else {
			CloseAll(m.FDs)
		}
		m.FDs = m.store[:0]
		return 0, syscall.EMSGSIZE
	}
	return int(r), nil
}

// walk takes what it knows out of control messages (cmsg(3)), and reports whether they are
// nothing else. There is room in m for every descriptor that fits into a MsgBuf; one more
// than MaxMsgFDs is too many.
func (m *MsgBuf) walk(ctrl []byte) (ok bool) {
	ok = true
	for len(ctrl) >= cmsgHdrLen {
		h := (*syscall.Cmsghdr)(unsafe.Pointer(&ctrl[0]))
		if h.Len < cmsgHdrLen || h.Len > uint64(len(ctrl)) {
			return false
		}
		data := ctrl[cmsgHdrLen:h.Len]
		switch {
		case h.Level == syscall.SOL_SOCKET && h.Type == scmRights:
			for ; len(data) >= 4; data = data[4:] {
				m.FDs = append(m.FDs, int(*(*int32)(unsafe.Pointer(&data[0]))))
			}
		case h.Level == syscall.SOL_SOCKET && h.Type == scmCredentials && len(data) >= ucredLen:
			m.CredPID = *(*int32)(unsafe.Pointer(&data[0]))
		default:
			ok = false
		}
		ctrl = ctrl[min((h.Len+7)&^7, uint64(len(ctrl))):]
	}
	return ok && len(m.FDs) <= MaxMsgFDs
}

// RecvCred receives one packet of a socket that passes credentials (PassCredentials) and says
// who has sent it, and whether descriptors came with it: those the kernel closes here and
// now, unless peek is true, which leaves the packet where it is. A packet longer than p is
// EMSGSIZE. It does not wait.
func RecvCred(fd int, p []byte, peek bool, m *MsgBuf) (n int, cred syscall.Ucred, rights bool, err error) {
	m.FDs, m.CredPID = m.store[:0], 0
	m.iov = syscall.Iovec{Base: &p[0]}
	m.iov.SetLen(len(p))
	// Credentials come first (scm_recv, include/net/scm.h), and there is room for nothing else.
	const room = (cmsgHdrLen + ucredLen + 7) &^ 7
	m.hdr = syscall.Msghdr{Iov: &m.iov, Iovlen: 1, Control: &m.ctrl[0], Controllen: room}
	flags := uintptr(msgDontwait | msgCmsgCloexec)
	if peek {
		flags |= syscall.MSG_PEEK
	}
	for {
		r, e := msgCall(syscall.SYS_RECVMSG, fd, m, flags)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return 0, cred, false, e
		}
		n = int(r)
		break
	}
	rights = m.hdr.Flags&msgCtrunc != 0
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&m.ctrl[0]))
	if m.hdr.Controllen >= cmsgHdrLen+ucredLen && h.Level == syscall.SOL_SOCKET && h.Type == scmCredentials {
		cred = *(*syscall.Ucred)(unsafe.Pointer(&m.ctrl[cmsgHdrLen]))
	} else {
		err = syscall.EPROTO
	}
	if m.hdr.Flags&msgTrunc != 0 {
		err = syscall.EMSGSIZE
	}
	return n, cred, rights, err
}

// PassCredentials asks the kernel to attach SCM_CREDENTIALS to every packet
// that fd receives.
func PassCredentials(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soPasscred, 1)
}

// RefuseRights makes the kernel refuse every packet to fd that carries descriptors:
// its sender gets EPERM (SO_PASSRIGHTS, Linux 6.16; unix(7)). Where there is no such
// option that is ENOPROTOOPT, and descriptors come.
func RefuseRights(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soPassrights, 0)
}

// CloseForeign closes descriptors that were another process's choice, or into which
// another process could put some: that may take as long as it likes (SO_LINGER,
// socket(7)), so the scheduler is told, and nobody who may not wait calls it.
func CloseForeign(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}

// SocketFile opens, with O_PATH, the file a unix socket is bound to
// (SIOCUNIXFILE, Linux 4.13).
func SocketFile(fd int) (int, error) {
	r, err := Ioctl(fd, 0x89e0, 0)
	if err == nil {
		syscall.CloseOnExec(r)
	}
	return r, err
}

// Accept is accept4(2) with SOCK_CLOEXEC and SOCK_NONBLOCK, without the peer's
// address.
func Accept(fd int) (int, error) {
	r, _, e := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(fd), 0, 0, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0, 0)
	return fdErr(r, e)
}

// PeerCred returns SO_PEERCRED: who connected, or who made the pair.
func PeerCred(fd int) (*syscall.Ucred, error) {
	return syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
}

// Seqpacket makes a SOCK_SEQPACKET unix socket.
func Seqpacket() (int, error) {
	return syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
}

// Datagram makes a non-blocking SOCK_DGRAM unix socket.
func Datagram() (int, error) {
	return syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
}

// Stream makes a non-blocking SOCK_STREAM unix socket.
func Stream() (int, error) {
	return syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
}

// Connect connects fd to the pathname socket path, which is at most 107 bytes
// long (unix(7)).
func Connect(fd int, path string) error {
	for {
		err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
		if err != syscall.EINTR {
			return err
		}
	}
}

// EpollEvent is struct epoll_event.
type EpollEvent = syscall.EpollEvent

// EpollWait waits for events; ms is -1 for ever. EINTR is returned as such: a
// caller may want to know that a signal came.
func EpollWait(epfd int, events []EpollEvent, ms int) (int, error) {
	r, _, e := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(ms), 0, 8)
	return fdErr(r, e)
}
