package netload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"jail/internal/network"
)

// The addresses that stand for ::1 are the loopback interface's. They are deprecated, so
// that nobody gets one by the kernel's choice (RFC 6724, rule 3). Those that stand for
// 127.0.0.1 are there: all of 127.0.0.0/8 is.

// setAddresses gives the loopback interface the addresses of ids, and takes away others of
// jails. A host without IPv6 has no ::1 either.
func setAddresses(ids map[uint16]bool) error {
	nl, err := openNetlink()
	if err != nil {
		return fmt.Errorf("addresses of lo: %w", err)
	}
	defer unix.Close(nl.fd)
	there, err := nl.addresses()
	if err != nil {
		return fmt.Errorf("addresses of lo: %w", err)
	}
	for id := range ids {
		a := network.Address6(id)
		if there[a] {
			delete(there, a)
			continue
		}
		err := nl.ask(unix.RTM_NEWADDR, unix.NLM_F_CREATE, addressMessage(a), nil)
		switch {
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
			return nil // net.ipv6.conf.lo.disable_ipv6, or no IPv6 at all
		case err != nil && !errors.Is(err, unix.EEXIST):
			return fmt.Errorf("add %v to lo: %w", a, err)
		}
	}
	for a := range there {
		if err := nl.ask(unix.RTM_DELADDR, 0, addressMessage(a), nil); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %v from lo: %w", a, err)
		}
	}
	return nil
}

// netlink is a socket of rtnetlink(7).
type netlink struct {
	fd  int
	seq uint32
}

func openNetlink() (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &netlink{fd: fd}, nil
}

// ask sends one request and calls each with what answers it, until the kernel says that
// this was all.
func (nl *netlink) ask(kind, flags uint16, body []byte, each func(kind uint16, body []byte)) error {
	nl.seq++
	msg := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(body))
	ne := binary.NativeEndian
	ne.PutUint32(msg, uint32(unix.NLMSG_HDRLEN+len(body)))
	ne.PutUint16(msg[4:], kind)
	ne.PutUint16(msg[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	ne.PutUint32(msg[8:], nl.seq)
	if err := unix.Sendto(nl.fd, append(msg, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(nl.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(ne.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return errors.New("netlink: malformed answer")
			}
			kind, seq, body := ne.Uint16(b[4:]), ne.Uint32(b[8:]), b[unix.NLMSG_HDRLEN:size]
			b = b[min((size+3)&^3, len(b)):]
			switch {
			case seq != nl.seq:
			case kind == unix.NLMSG_ERROR && len(body) >= 4:
				if errno := -int32(ne.Uint32(body)); errno != 0 {
					return unix.Errno(errno)
				}
				return nil
			case kind == unix.NLMSG_DONE:
				return nil
			case each != nil:
				each(kind, body)
			}
		}
	}
}

// addressMessage is struct ifaddrmsg with IFA_LOCAL, IFA_CACHEINFO: valid for ever,
// preferred never.
func addressMessage(a netip.Addr) []byte {
	ne := binary.NativeEndian
	msg := []byte{unix.AF_INET6, 128, unix.IFA_F_NODAD, unix.RT_SCOPE_HOST}
	msg = ne.AppendUint32(msg, loopbackIndex)
	attr := func(kind uint16, body []byte) {
		msg = ne.AppendUint16(msg, uint16(4+len(body)))
		msg = ne.AppendUint16(msg, kind)
		msg = append(msg, body...)
	}
	attr(unix.IFA_LOCAL, a.AsSlice())
	info := make([]byte, 16)
	ne.PutUint32(info[4:], 0xffffffff)
	attr(unix.IFA_CACHEINFO, info)
	return msg
}

// addresses are those of jails that the loopback interface has.
func (nl *netlink) addresses() (map[netip.Addr]bool, error) {
	there := map[netip.Addr]bool{}
	err := nl.ask(unix.RTM_GETADDR, unix.NLM_F_DUMP, []byte{unix.AF_INET6, 0, 0, 0, 0, 0, 0, 0}, func(kind uint16, body []byte) {
		ne := binary.NativeEndian
		if kind != unix.RTM_NEWADDR || len(body) < 8 || ne.Uint32(body[4:]) != loopbackIndex {
			return
		}
		for b := body[8:]; len(b) >= 4; {
			size, kind := int(ne.Uint16(b)), ne.Uint16(b[2:])
			if size < 4 || size > len(b) {
				return
			}
			if a, ok := netip.AddrFromSlice(b[4:size]); ok && kind == unix.IFA_ADDRESS && a.Is6() && [12]byte(a.AsSlice()[:12]) == network.Pool6 {
				there[a] = true
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	})
	return there, err
}
