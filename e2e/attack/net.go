package main

import (
	"encoding/binary"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func newSocket(family, kind, protocol int) (string, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return "a socket", err
}

func connectAbstract(name string) (string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return "connected", unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + name})
}

func sendAbstract(name string) (string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return "sent", unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrUnix{Name: "@" + name})
}

// setInterface gives lo the flags it has.
func setInterface() (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var request [40]byte
	copy(request[:], "lo")
	if err := call(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFFLAGS, address(request[:])); err != nil {
		return "", err
	}
	return "set lo's flags to what they were", call(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, address(request[:]))
}

// netlink sends one message that asks for an answer, and returns its error.
func netlink(protocol int, kind uint16, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	message := make([]byte, 16, 16+len(body))
	binary.NativeEndian.PutUint32(message[0:], uint32(16+len(body)))
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	binary.NativeEndian.PutUint32(message[8:], 1)
	if err := unix.Sendto(fd, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n >= 20 && binary.NativeEndian.Uint16(answer[4:]) == unix.NLMSG_ERROR {
		if e := int32(binary.NativeEndian.Uint32(answer[16:])); e != 0 {
			return syscall.Errno(-e)
		}
	}
	return nil
}

// setRoute deletes a route that is not there.
func setRoute() (string, error) {
	body := make([]byte, 20)
	body[0], body[1] = unix.AF_INET, 32                  // family, destination's length
	body[4], body[5], body[7] = 254, 3, unix.RTN_UNICAST // main, RTPROT_BOOT
	body[12], body[14] = 8, unix.RTA_DST
	copy(body[16:], []byte{192, 0, 2, 77})
	return reached(netlink(unix.NETLINK_ROUTE, unix.RTM_DELROUTE, 0, body), unix.ESRCH)
}

// audit writes a record of a user's into the host's audit log.
func audit() (string, error) {
	const firstUserMessage = 1100
	return "wrote a record", netlink(unix.NETLINK_AUDIT, firstUserMessage, 0, []byte("op=test of a jail\x00"))
}

// reusePort joins the port of a service of the same uid on the host.
func reusePort() (string, error) {
	port, err := strconv.Atoi(target["port"])
	if err != nil {
		return "", err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return "", err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	return "shares the host's port", unix.Listen(fd, 1)
}

func lowPort() (string, error) {
	port, err := strconv.Atoi(target["lowport"])
	if err != nil {
		return "", err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return "bound", unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

// newPair asks for two sockets of a family that has no pairs. The kernel says so when
// it has made them, and loaded what it needs for it.
func newPair(family, kind, protocol int) (string, error) {
	pair, err := unix.Socketpair(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err == nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
	}
	return reached(err, unix.EOPNOTSUPP)
}

// socketcall makes a socket, or two, by i386's multiplexer, behind a pointer.
func socketcall(operation, family, kind uint32) (string, error) {
	var args [24]byte
	binary.NativeEndian.PutUint32(args[0:], family)
	binary.NativeEndian.PutUint32(args[4:], kind)
	binary.NativeEndian.PutUint32(args[12:], low(make([]byte, 8)))
	fd, err := call32(102, operation, low(args[:]))
	if err == nil && operation == 1 {
		unix.Close(fd)
	}
	return reached(err, unix.EOPNOTSUPP)
}

// socketIoctl asks a socket about lo what lo has not got.
func socketIoctl(request uintptr, after ...syscall.Errno) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var arg [64]byte // struct ifreq, and that of vlan's, whose name is behind a number
	if request>>4 == 0x898 {
		binary.NativeEndian.PutUint32(arg[0:], 8) // GET_VLAN_REALDEV_NAME_CMD
		copy(arg[4:], "lo")
	} else if request != 0x8940 { // BRCTL_GET_VERSION
		copy(arg[:], "lo")
	}
	return reached(call(unix.SYS_IOCTL, uintptr(fd), request, address(arg[:])), after...)
}
