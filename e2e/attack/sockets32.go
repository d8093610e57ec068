package main

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls of i386's (arch/x86/entry/syscalls/syscall_32.tbl), and what of them
// socketcall(2) has (linux/net.h).
const (
	socket32, bind32, connect32, listen32 = 359, 361, 362, 363

	socketcall32                    = 102
	mBind, mConnect, mListen uint32 = 2, 3, 4
)

func (s *socketTable) make32(name, family, kind string) error {
	domain, typ := uint32(unix.AF_INET), uint32(unix.SOCK_STREAM)
	if family == "6" {
		domain = unix.AF_INET6
	}
	if kind == "udp" {
		typ = unix.SOCK_DGRAM
	}
	fd, err := call32(socket32, domain, typ, 0)
	if err == nil {
		s.fds[name] = fd
	}
	return err
}

// call32Socket binds and listens, or connects, by i386's system calls.
func call32Socket(fd int, op string, a []string) (string, error) {
	sa, err := socketAddress(fd, a[0], a[1])
	if err != nil {
		return "", err
	}
	raw := rawAddress(sa)
	at := low(raw)
	do := func(direct, multiplexed uint32, args ...uint32) error {
		if len(a) > 2 {
			words := make([]byte, 0, 12)
			for _, w := range args {
				words = binary.NativeEndian.AppendUint32(words, w)
			}
			_, err := call32(socketcall32, multiplexed, low(words))
			return err
		}
		_, err := call32(direct, args...)
		return err
	}
	if op == "connect32" {
		return "connected", do(connect32, mConnect, uint32(fd), at, uint32(len(raw)))
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := do(bind32, mBind, uint32(fd), at, uint32(len(raw))); err != nil {
		return "", err
	}
	if kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); kind == unix.SOCK_STREAM {
		if err := do(listen32, mListen, uint32(fd), 8); err != nil {
			return "", err
		}
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	n := addressOf(name)
	return n.Addr().String() + " " + strconv.Itoa(int(n.Port())), nil
}

// rawAddress is struct sockaddr_in or sockaddr_in6, which are the same for i386.
func rawAddress(sa unix.Sockaddr) []byte {
	a := addressOf(sa)
	family := uint16(unix.AF_INET)
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	b := binary.NativeEndian.AppendUint16(nil, family)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	if a.Addr().Is6() {
		b = append(b, 0, 0, 0, 0)
		b = append(b, a.Addr().AsSlice()...)
		return append(b, 0, 0, 0, 0)
	}
	return append(append(b, a.Addr().AsSlice()...), make([]byte, 8)...)
}

// Commands of bpf(2) (linux/bpf.h).
const (
	bpfObjGet, bpfProgDetach, bpfLinkDetach    = 7, 9, 34
	bpfProgNextID, bpfMapNextID, bpfLinkNextID = 11, 12, 31
)

// unhook tries what takes a program from a cgroup, or leads to one.
func unhook(cgroup, pin string) string {
	var done []string
	try := func(what string, cmd uintptr, attr []byte) int {
		full := make([]byte, 128)
		copy(full, attr)
		n, _, e := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(&full[0])), uintptr(len(full)))
		if e != 0 {
			return -1
		}
		done = append(done, what)
		return int(n)
	}
	words := func(list ...uint32) []byte {
		var b []byte
		for _, w := range list {
			b = binary.NativeEndian.AppendUint32(b, w)
		}
		return b
	}
	path := append([]byte(pin), 0)
	if fd := try("pin", bpfObjGet, binary.NativeEndian.AppendUint64(nil, uint64(uintptr(unsafe.Pointer(&path[0]))))); fd >= 0 {
		try("detached", bpfLinkDetach, words(uint32(fd)))
		unix.Close(fd)
	}
	for what, cmd := range map[string]uintptr{"programs": bpfProgNextID, "maps": bpfMapNextID, "links": bpfLinkNextID} {
		try(what, cmd, nil)
	}
	dir, err := unix.Open(cgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(dir)
	}
	if cgroup != "-" { // the host's root would take somebody else's
		for attach := range uint32(48) {
			try("detached "+strconv.Itoa(int(attach)), bpfProgDetach, words(uint32(dir), 0, attach))
		}
	}
	if os.Remove(pin) == nil {
		done = append(done, "removed")
	}
	if len(done) == 0 {
		return "nothing"
	}
	return strings.Join(done, " ")
}

// sees lists the addresses of listeners on a port, as /proc/net/tcp has them.
func sees(port string) (string, error) {
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return "", err
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "0A" {
			continue
		}
		host, p, _ := strings.Cut(f[1], ":")
		word, _ := strconv.ParseUint(host, 16, 32)
		if at, err := strconv.ParseUint(p, 16, 16); err == nil && int(at) == n {
			var b [4]byte
			binary.LittleEndian.PutUint32(b[:], uint32(word))
			list = append(list, netip.AddrFrom4(b).String())
		}
	}
	return strings.Join(list, " "), nil
}
