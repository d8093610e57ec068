// Package network says what the registry's network keys mean: who owns which port, which
// addresses stand behind a jail's own loopback, and what the kernel's maps have to hold for
// it. It is data and arithmetic; package netload puts it into the kernel.
//
// All jails share the host's network namespace. A jail of package jail's Network with an ID
// is known to the kernel by the real uid of a process (its user namespace's range, and its
// logins on the host, for sshd's forwards and su), one with the host's ids by the cgroup of
// its processes, and gets addresses behind its loopback by that ID:
//
//	127.0.0.0/22   127.64.0.0 + (ID-1)*1024, of which the low ten bits are the same
//	::1            fd6a:6169:6c00::ID
package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"jail/internal/jail"
)

const (
	// Pool4 is the first address of 127.64.0.0/10, where the jails' loopbacks are.
	Pool4 = 0x7f400000
	// PoolBits4 is the length of its prefix.
	PoolBits4 = 10
	// BlockBits4 is the length of the prefix of one jail's block.
	BlockBits4 = 22
	// Loopback4 is the part of 127.0.0.0/8 that a jail's own loopback has: it has
	// 127.0.0.1, Debian's 127.0.1.1 and systemd-resolved's 127.0.0.53.
	Loopback4 = 0x7f000000
)

// Pool6 is the prefix of what stands for ::1; the jail's ID follows. It is a unique local
// one (RFC 4193) and on the loopback interface only.
var Pool6 = [12]byte{0xfd, 0x6a, 0x61, 0x69, 0x6c, 0x00}

// block4 is the first address of a jail's block, in host order.
func block4(id uint16) uint32 { return Pool4 + uint32(id-1)<<(32-BlockBits4) }

// Address4 is what stands for 127.0.0.1.
func Address4(id uint16) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], block4(id)+1)
	return netip.AddrFrom4(a)
}

// Address6 is what stands for ::1.
func Address6(id uint16) netip.Addr {
	var a [16]byte
	copy(a[:], Pool6[:])
	binary.BigEndian.PutUint32(a[12:], uint32(id))
	return netip.AddrFrom16(a)
}

// ParsePorts reads what the registry has between quotes: "25", "8000-8099", "53/udp",
// "9000-9099/tcp". Without a protocol it is both.
func ParsePorts(s string) (jail.Ports, error) {
	p := jail.Ports{TCP: true, UDP: true}
	text, protocol, given := strings.Cut(s, "/")
	if given {
		if protocol != "tcp" && protocol != "udp" {
			return jail.Ports{}, errors.New(`names a protocol besides "tcp" and "udp"`)
		}
		p.TCP, p.UDP = protocol == "tcp", protocol == "udp"
	}
	first, last, ranged := strings.Cut(text, "-")
	if !ranged {
		last = first
	}
	a, err := port(first)
	if err != nil {
		return jail.Ports{}, err
	}
	b, err := port(last)
	if err != nil {
		return jail.Ports{}, err
	}
	if p.First, p.Last = a, b; b < a {
		return jail.Ports{}, errors.New("ends before it begins")
	}
	return p, nil
}

var errPort = errors.New(`is no port, write 25, "8000-8099" or "53/udp", with ports from 1 to 65535`)

func port(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '+' || s[0] == '0' {
		return 0, errPort
	}
	return uint16(n), nil
}

// Claims is the table of who owns what port. Its zero value is empty.
type Claims struct {
	tcp, udp map[uint16]int
}

// Claim gives ports to who. If one of them is another's, nothing is changed, and the first
// such port and its owner are returned.
func (c *Claims) Claim(p jail.Ports, who int) (port uint16, owner int, free bool) {
	if c.tcp == nil {
		c.tcp, c.udp = map[uint16]int{}, map[uint16]int{}
	}
	for n := int(p.First); n <= int(p.Last); n++ {
		if o, taken := c.tcp[uint16(n)]; p.TCP && taken && o != who {
			return uint16(n), o, false
		}
		if o, taken := c.udp[uint16(n)]; p.UDP && taken && o != who {
			return uint16(n), o, false
		}
	}
	for n := int(p.First); n <= int(p.Last); n++ {
		if p.TCP {
			c.tcp[uint16(n)] = who
		}
		if p.UDP {
			c.udp[uint16(n)] = who
		}
	}
	return 0, 0, true
}

// Numbers gives jails their IDs. Its zero value has all to give.
type Numbers struct {
	taken [jail.MaxNetworks + 1]bool
}

// Keep takes an ID that a jail has had before. It reports whether that was free.
func (n *Numbers) Keep(id uint16) bool {
	if id == 0 || id > jail.MaxNetworks || n.taken[id] {
		return false
	}
	n.taken[id] = true
	return true
}

// Take takes the ID that a jail of that name prefers, or the next one that is free: one
// keeps its own when others come and go. It reports whether there was one.
func (n *Numbers) Take(name string) (uint16, bool) {
	h := uint32(2166136261) // FNV-1a
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	for i := range uint32(jail.MaxNetworks) {
		if id := uint16((h+i)%jail.MaxNetworks + 1); n.Keep(id) {
			return id, true
		}
	}
	return 0, false
}

// Range is where the kernel takes the ports of sockets that were not bound.
type Range struct{ First, Last uint16 }

// ParseRange reads /proc/sys/net/ipv4/ip_local_port_range.
func ParseRange(text string) (Range, error) {
	f := strings.Fields(text)
	if len(f) == 2 {
		a, err1 := strconv.ParseUint(f[0], 10, 16)
		b, err2 := strconv.ParseUint(f[1], 10, 16)
		if err1 == nil && err2 == nil {
			return Range{uint16(a), uint16(b)}, nil
		}
	}
	return Range{}, fmt.Errorf("%q is no range of ports", strings.TrimSpace(text))
}

// ParseReserved reads /proc/sys/net/ipv4/ip_local_reserved_ports, "8080,9000-9010" or
// nothing (Documentation/networking/ip-sysctl.rst).
func ParseReserved(text string) ([]Range, error) {
	var list []Range
	for item := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		if item == "" {
			continue
		}
		p, err := ParsePorts(item)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", item, err)
		}
		list = append(list, Range{p.First, p.Last})
	}
	return list, nil
}

// Ephemeral returns the ports of list that the kernel may give to any socket: they are in
// local, and not in reserved. A socket that is not bound passes no program of ours, so
// nobody can own these.
func Ephemeral(list []jail.Ports, local Range, reserved []Range) []Range {
	var out []Range
	for _, p := range list {
		for n := max(int(p.First), int(local.First)); n <= min(int(p.Last), int(local.Last)); n++ {
			if slices.ContainsFunc(reserved, func(r Range) bool { return int(r.First) <= n && n <= int(r.Last) }) {
				continue
			}
			if k := len(out) - 1; k >= 0 && int(out[k].Last) >= n-1 && int(out[k].First) <= n {
				out[k].Last = max(out[k].Last, uint16(n))
			} else {
				out = append(out, Range{uint16(n), uint16(n)})
			}
		}
	}
	return out
}

// FormatRanges writes ranges as ip_local_reserved_ports has them.
func FormatRanges(list []Range) string {
	var items []string
	for _, r := range list {
		item := strconv.Itoa(int(r.First))
		if r.Last != r.First {
			item += "-" + strconv.Itoa(int(r.Last))
		}
		items = append(items, item)
	}
	return strings.Join(items, ",")
}

// Prefix is uids that begin with the same bits, as the kernel's map has them.
type Prefix struct {
	Base uint32
	Bits int // 0 to 32
}

// Prefixes are the fewest prefixes that together are the size uids from base on.
func Prefixes(base, size uint32) []Prefix {
	var list []Prefix
	for at, left := uint64(base), uint64(size); left > 0; {
		n := uint64(1)
		for at%(2*n) == 0 && 2*n <= left {
			n *= 2
		}
		bits := 32
		for m := n; m > 1; m /= 2 {
			bits--
		}
		list = append(list, Prefix{uint32(at), bits})
		at, left = at+n, left-n
	}
	return list
}

// Contains reports whether a uid is one of p.
func (p Prefix) Contains(uid uint32) bool {
	return uint64(uid)>>(32-p.Bits) == uint64(p.Base)>>(32-p.Bits)
}

func lines(text []byte) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(string(text)) {
			if !yield(strings.Fields(line)) {
				return
			}
		}
	}
}
