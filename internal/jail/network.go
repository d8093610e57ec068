package jail

import (
	"cmp"
	"slices"
	"strconv"
)

// MaxNetworks is how many jails may have a part of the host's network of their own: as
// many as there are blocks of 1024 addresses in 127.64.0.0/10.
const MaxNetworks = 4096

// Network is what of the host's network is a jail's own. All jails share the host's
// network namespace; the zero value is a jail that has it as the host's processes do.
type Network struct {
	// ID numbers the jails whose network is not the host's as it is, from 1 to
	// MaxNetworks. It says which addresses stand behind the jail's own loopback.
	ID uint16
	// OwnPorts lets the jail bind no ports of the host's addresses but Ports, the low ones
	// of which too, and keeps those from everybody else.
	OwnPorts bool
	Ports    []Ports
	// OwnLoopback gives the jail a 127.0.0.0/22 and a ::1 of its own. What of the host's
	// loopback stays reachable is in Opened.
	OwnLoopback bool
	Opened      []Ports
	// PrivateUnowned makes a TCP listener on all addresses, of a port that the jail does not
	// own, one on its own loopback. Otherwise it is refused.
	PrivateUnowned bool
	// None leaves nothing of the network but the own loopback, and what is opened of the
	// host's.
	None bool
}

// Owned reports whether anything of the network is the jail's own.
func (n *Network) Owned() bool { return n.OwnPorts || n.OwnLoopback || n.None }

// Ports are the ports from First to Last of one protocol or both.
type Ports struct {
	First, Last uint16 // 1 to 65535; Last is no less than First
	TCP, UDP    bool   // at least one
}

// String is as the registry has it: 25, 8000-8099, 53/udp.
func (p Ports) String() string {
	s := strconv.Itoa(int(p.First))
	if p.Last != p.First {
		s += "-" + strconv.Itoa(int(p.Last))
	}
	switch {
	case !p.UDP:
		s += "/tcp"
	case !p.TCP:
		s += "/udp"
	}
	return s
}

// SortPorts sorts by the first port, and drops what is there twice.
func SortPorts(list []Ports) []Ports {
	slices.SortFunc(list, func(a, b Ports) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), cmp.Compare(a.String(), b.String()))
	})
	return slices.Compact(list)
}
