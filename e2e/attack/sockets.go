package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockets does with sockets what it reads, line by line, and answers each with one line:
// what came of it, or the name of an error number. The tests of the shared network have one
// in each jail, as a login and as others of the host.
//
//	make S FAMILY TYPE                 FAMILY 4 or 6; TYPE tcp, udp, mptcp, ping, raw, udplite
//	bind S FAMILY TYPE ADDRESS PORT [v6only] [dual] [reuse] [device=lo] [range=PORT] [freebind]
//	                                   and listen; the answer is the name it has
//	rebind S ADDRESS PORT              bind one that is there
//	listen S                           the answer is the port
//	connect S FAMILY TYPE ADDRESS PORT [from=ADDRESS] [as4]
//	                                   as4 is a struct sockaddr_in on an IPv6 socket
//	accept S NEW                       the answers: peer of accept, own name, peer's name
//	names S                            own name and peer's
//	send S TEXT [source=ADDRESS] [segment]
//	sendto S ADDRESS PORT TEXT [source=ADDRESS] [fastopen]
//	recv S                             the answer: text and sender
//	echo S                             recv, and send back what came with an r in front
//	opt S LEVEL NAME NUMBER
//	device S [NAME]                    SO_BINDTODEVICE; - is none
//	disconnect S                       connect to AF_UNSPEC
//	unspecified S PORT                 bind to AF_UNSPEC, which is all addresses
//	through S ADDRESS                  all goes by that address first (IPOPT_LSRR)
//	abstract S NAME                    wait on a unix socket with an abstract name
//	reach NAME                         connect to one
//	give S PATH, take PATH S           a descriptor over a socket with a path: take makes that,
//	offer S PATH, fetch PATH S         at the first time, and receives at the second; offer
//	                                   makes it, and fetch receives
//	make32 S FAMILY TYPE, bind32 S ADDRESS PORT, connect32 S ADDRESS PORT
//	                                   the same by i386's system calls, and with a fourth
//	                                   word, "multiplexed", by its socketcall(2)
//	close S | reset
//	become UID                         for good
//	unhook CGROUP PIN                  take the network's programs away: the answer is what
//	                                   succeeded, or nothing
//	sees PORT                          the addresses that wait there by /proc/net/tcp
func sockets(in io.Reader, out io.Writer) int {
	s := &socketTable{fds: map[string]int{}}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fmt.Fprintln(out, s.line(lines.Text()))
	}
	return 0
}

// backlog is how many connections may wait on a listener: who is asked until something has changed
// is not to find it full.
const backlog = 1024

// ipLocalPortRange is IP_LOCAL_PORT_RANGE (linux/in.h).
const ipLocalPortRange = 51

type socketTable struct {
	fds     map[string]int
	waiting map[string]int // listeners of take
}

// patience bounds what a socket is waited for: what is to come is there at once, if the machine
// is not busy.
var patience = 20 * time.Second

func (s *socketTable) line(text string) string {
	f := strings.Fields(text)
	if len(f) == 0 {
		return "nothing asked"
	}
	answer, err := s.do(f[0], f[1:])
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case err != nil:
		return err.Error()
	}
	return answer
}

func (s *socketTable) do(op string, a []string) (string, error) {
	switch {
	case op == "reset":
		for name, fd := range s.fds {
			unix.Close(fd)
			delete(s.fds, name)
		}
		return "ok", nil
	case op == "uid":
		return strconv.Itoa(os.Getuid()), nil
	case op == "become" && len(a) == 1:
		uid, err := strconv.Atoi(a[0])
		if err == nil {
			err = syscall.Setresuid(uid, uid, uid) // of all threads
		}
		return "ok", err
	case op == "unhook" && len(a) == 2:
		return unhook(a[0], a[1]), nil
	case op == "sees" && len(a) == 1:
		return sees(a[0])
	case op == "make32" && len(a) == 3:
		return "ok", s.make32(a[0], a[1], a[2])
	case op == "make" && len(a) >= 3:
		_, err := s.make(a[0], a[1], a[2])
		return "ok", err
	case op == "bind" && len(a) >= 5:
		return s.bind(a)
	case op == "connect" && len(a) >= 5:
		return s.connect(a)
	case op == "fetch" && len(a) == 2:
		return "ok", s.fetch(a[0], a[1])
	case op == "abstract" && len(a) == 2:
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		s.fds[a[0]] = fd
		return "ok", errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + a[1]}), unix.Listen(fd, backlog))
	case op == "reach" && len(a) == 1:
		return "connected", overA(unix.SOCK_STREAM, "@"+a[0], func(int) error { return nil })
	case op == "take" && len(a) == 2:
		return "ok", s.take(a[0], a[1])
	case len(a) == 0:
		return "", fmt.Errorf("what is %s?", op)
	}
	fd, ok := s.fds[a[0]]
	if !ok {
		return "", fmt.Errorf("no socket %s", a[0])
	}
	switch op {
	case "listen":
		if err := unix.Listen(fd, backlog); err != nil {
			return "", err
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return "", err
		}
		return strconv.Itoa(int(addressOf(sa).Port())), nil
	case "accept":
		if err := waitReadable(fd); err != nil {
			return "", err
		}
		n, sa, err := unix.Accept(fd)
		if err != nil {
			return "", err
		}
		s.fds[a[1]] = n
		names, err := names(n)
		return addressOf(sa).Addr().String() + " " + names, err
	case "bind32", "connect32":
		return call32Socket(fd, op, a[1:])
	case "names":
		return names(fd)
	case "send":
		return s.send(fd, nil, a[1:])
	case "sendto":
		to, err := socketAddress(fd, a[1], a[2])
		if err != nil {
			return "", err
		}
		return s.send(fd, to, a[3:])
	case "recv", "echo":
		if err := waitReadable(fd); err != nil {
			return "", err
		}
		buf := make([]byte, 2048)
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return "", err
		}
		answer := string(buf[:n])
		if from != nil {
			answer += " " + addressOf(from).Addr().String()
		}
		if op == "echo" {
			err = unix.Sendto(fd, append([]byte("r"), buf[:n]...), 0, from)
		}
		return answer, err
	case "opt":
		var n [3]int
		for i := range n {
			n[i], _ = strconv.Atoi(a[i+1])
		}
		return "ok", unix.SetsockoptInt(fd, n[0], n[1], n[2])
	case "device":
		if len(a) == 2 {
			return "ok", unix.BindToDevice(fd, strings.Trim(a[1], "-"))
		}
		return unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	case "rebind":
		sa, err := socketAddress(fd, a[1], a[2])
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}
		if err == nil {
			err = unix.Bind(fd, sa)
		}
		return a[1] + " " + a[2], err
	case "disconnect":
		unspec := make([]byte, unix.SizeofSockaddrInet4)
		return "ok", callWith(unix.SYS_CONNECT, fd, unspec)
	case "unspecified":
		port, err := strconv.Atoi(a[1])
		if err != nil {
			return "", err
		}
		unspec := make([]byte, unix.SizeofSockaddrInet4)
		binary.BigEndian.PutUint16(unspec[2:], uint16(port))
		return "ok", callWith(unix.SYS_BIND, fd, unspec)
	case "through":
		hop, err := netip.ParseAddr(a[1])
		if err != nil {
			return "", err
		}
		const nop, looseSourceRoute = 1, 131 // IPOPT_NOP, IPOPT_LSRR (linux/ip.h)
		route := append([]byte{nop, looseSourceRoute, 7, 4}, hop.AsSlice()...)
		return "ok", unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string(route))
	case "give":
		return "ok", give(fd, a[1])
	case "offer":
		return "ok", offer(fd, a[1])
	case "close":
		delete(s.fds, a[0])
		return "ok", unix.Close(fd)
	}
	return "", fmt.Errorf("what is %s?", op)
}

func (s *socketTable) make(name, family, kind string) (int, error) {
	domain := unix.AF_INET
	if family == "6" {
		domain = unix.AF_INET6
	}
	types := map[string][2]int{
		"tcp": {unix.SOCK_STREAM, 0}, "udp": {unix.SOCK_DGRAM, 0}, "mptcp": {unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
		"ping": {unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, "raw": {unix.SOCK_RAW, unix.IPPROTO_ICMP}, "udplite": {unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE},
	}
	t, ok := types[kind]
	if !ok {
		return -1, fmt.Errorf("no kind %s", kind)
	}
	fd, err := unix.Socket(domain, t[0]|unix.SOCK_CLOEXEC, t[1])
	if err != nil {
		return -1, err
	}
	if old, there := s.fds[name]; there {
		unix.Close(old)
	}
	s.fds[name] = fd
	return fd, nil
}

func (s *socketTable) bind(a []string) (string, error) {
	fd, err := s.make(a[0], a[1], a[2])
	if err != nil {
		return "", err
	}
	for _, o := range a[5:] {
		key, val, _ := strings.Cut(o, "=")
		switch key {
		case "v6only":
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		case "dual":
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		case "reuse":
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		case "noport":
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		case "freebind":
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
		case "transparent":
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1)
		case "device":
			err = unix.BindToDevice(fd, val)
		case "range": // from Linux 6.3 on; before, the kernel chooses any
			var n int
			if n, err = strconv.Atoi(val); err == nil {
				if err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, ipLocalPortRange, n<<16|n); err == unix.ENOPROTOOPT {
					err = nil
				}
			}
		default:
			err = fmt.Errorf("no option %s", o)
		}
		if err != nil {
			return "", err
		}
	}
	sa, err := socketAddress(fd, a[3], a[4])
	if err != nil {
		return "", err
	}
	// Rows follow one another, and what the one before has accepted is in TIME_WAIT.
	if a[2] != "udp" {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err := unix.Bind(fd, sa); err != nil {
		return "", err
	}
	if a[2] != "udp" && a[2] != "ping" {
		if err := unix.Listen(fd, backlog); err != nil {
			return "", err
		}
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	n := addressOf(name)
	if a[4] == "0" {
		return n.Addr().String(), nil
	}
	return n.Addr().String() + " " + strconv.Itoa(int(n.Port())), nil
}

func (s *socketTable) connect(a []string) (string, error) {
	fd, there := s.fds[a[0]]
	var err error
	if !there {
		if fd, err = s.make(a[0], a[1], a[2]); err != nil {
			return "", err
		}
	}
	for _, o := range a[5:] {
		if from, ok := strings.CutPrefix(o, "from="); ok {
			sa, err := socketAddress(fd, from, "0")
			if err != nil {
				return "", err
			}
			if err := unix.Bind(fd, sa); err != nil {
				return "", fmt.Errorf("bind: %s", unix.ErrnoName(err.(unix.Errno)))
			}
		}
	}
	sa, err := socketAddress(fd, a[3], a[4])
	if err != nil {
		return "", err
	}
	if six, is := sa.(*unix.SockaddrInet6); is && slices.Contains(a[5:], "as4") {
		sa = &unix.SockaddrInet4{Port: six.Port, Addr: [4]byte(six.Addr[12:])}
	}
	_ = unix.SetNonblock(fd, true)
	defer unix.SetNonblock(fd, false)
	err = unix.Connect(fd, sa)
	if err == unix.EINPROGRESS {
		if err := waitFor(fd, unix.POLLOUT); err != nil {
			return "", err
		}
		var errno int
		if errno, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
			err = unix.Errno(errno)
		}
	}
	if err != nil {
		unix.Close(fd)
		delete(s.fds, a[0])
		return "", err
	}
	return "connected", nil
}

func (s *socketTable) send(fd int, to unix.Sockaddr, a []string) (string, error) {
	var control []byte
	flags := 0
	for _, o := range a[1:] {
		key, val, _ := strings.Cut(o, "=")
		switch key {
		case "source":
			addr, err := netip.ParseAddr(val)
			if err != nil {
				return "", err
			}
			if addr.Is6() {
				control = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: addr.As16()})
			} else {
				control = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4()})
			}
		case "segment":
			control = make([]byte, unix.CmsgSpace(2))
			h := (*[16]byte)(control)
			binary.NativeEndian.PutUint64(h[:], uint64(unix.CmsgLen(2)))
			binary.NativeEndian.PutUint32(h[8:], unix.IPPROTO_UDP)
			binary.NativeEndian.PutUint32(h[12:], unix.UDP_SEGMENT)
			binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], 100)
		case "fastopen":
			flags |= unix.MSG_FASTOPEN
		}
	}
	n, err := unix.SendmsgN(fd, []byte(a[0]), control, to, flags)
	return strconv.Itoa(n), err
}

// errTimeout is that nothing has come of a socket in time.
var errTimeout = errors.New("timeout")

func waitReadable(fd int) error { return waitFor(fd, unix.POLLIN) }

// waitFor waits until a socket is ready, for as long as patience. The Go runtime's signal, which
// has a thread let another goroutine run, ends a poll(2) as any does: what was to come is still
// to come then, and who goes on waits for it in another call for ever.
func waitFor(fd int, events int16) error {
	for end := time.Now().Add(patience); ; {
		p := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(p, int(max(0, time.Until(end).Milliseconds())))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return errTimeout
		default:
			return nil
		}
	}
}

func names(fd int) (string, error) {
	own, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return "", err
	}
	return addressOf(own).Addr().String() + " " + addressOf(peer).Addr().String(), nil
}

func socketAddress(fd int, text, port string) (unix.Sockaddr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, err
	}
	if domain == unix.AF_INET {
		return &unix.SockaddrInet4{Port: n, Addr: addr.As4()}, nil
	}
	return &unix.SockaddrInet6{Port: n, Addr: addr.As16()}, nil
}

func addressOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// offer hands a descriptor to whoever connects to a socket with a path first.
func offer(fd int, path string) error {
	_ = os.Remove(path)
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(l, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Listen(l, 1)
	}
	if err != nil {
		return err
	}
	go func() {
		defer unix.Close(l)
		if c, _, err := unix.Accept(l); err == nil {
			_ = unix.Sendmsg(c, []byte("x"), unix.UnixRights(fd), nil, 0)
			unix.Close(c)
		}
	}()
	return nil
}

// fetch receives a descriptor that is offered.
func (s *socketTable) fetch(path, name string) error {
	return over(path, func(c int) error {
		if err := waitReadable(c); err != nil {
			return err
		}
		fd, err := received(c)
		s.fds[name] = fd
		return err
	})
}

// take receives a descriptor on a socket with a path. Asked for the first time it makes
// that.
func (s *socketTable) take(path, name string) error {
	if s.waiting == nil {
		s.waiting = map[string]int{}
	}
	l, there := s.waiting[path]
	if !there {
		_ = os.Remove(path)
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
		}
		if err == nil {
			err = unix.Listen(fd, 1)
		}
		s.waiting[path] = fd
		return err
	}
	delete(s.waiting, path)
	defer unix.Close(l)
	if err := waitReadable(l); err != nil {
		return err
	}
	c, _, err := unix.Accept(l)
	if err != nil {
		return err
	}
	defer unix.Close(c)
	s.fds[name], err = received(c)
	return err
}

func received(c int) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(c, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, errors.New("no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

func give(fd int, path string) error {
	return over(path, func(c int) error { return unix.Sendmsg(c, []byte("x"), unix.UnixRights(fd), nil, 0) })
}

// callWith is bind(2) or connect(2) with bytes that are no address to package unix.
func callWith(call uintptr, fd int, address []byte) error {
	if _, _, errno := unix.Syscall(call, uintptr(fd), uintptr(unsafe.Pointer(&address[0])), uintptr(len(address))); errno != 0 {
		return errno
	}
	return nil
}

func over(path string, f func(c int) error) error { return overA(unix.SOCK_SEQPACKET, path, f) }

func overA(kind int, path string, f func(c int) error) error {
	c, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(c)
	if err := unix.Connect(c, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	return f(c)
}
