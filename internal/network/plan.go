package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"jail/internal/jail"
)

// Flags of a jail, in the kernel's map.
const (
	FlagPorts    = 1 << iota // binds no ports but its own
	FlagLoopback             // has its own loopback
	FlagPrivate              // a TCP listener on all addresses that may not be becomes one on its loopback
	FlagNone                 // has nothing but the loopback
)

// Plan is what is to be in force: who is which jail, and what it may do. It is a function
// of the registry and of the host's name servers; which jails run does not matter.
type Plan struct {
	Jails    []Jail
	Reserved []jail.Ports // no jail may bind these
}

// Jail is one jail of a Plan. One without keys has no ID, and nothing but UIDs and Cgroup.
type Jail struct {
	Name   string
	ID     uint16
	Flags  uint32
	UIDs   []Prefix
	Ports  []jail.Ports
	Opened []Opened
	// ByCgroup is for a jail with the host's ids: what its processes are known by is the
	// cgroup they are in. Cgroup is the directory of that, which is there while the jail runs,
	// "" if whoever asks does not know it.
	ByCgroup bool
	Cgroup   string
}

// Opened is a part of the host's loopback that a jail reaches.
type Opened struct {
	Address netip.Addr
	Ports   jail.Ports
}

// Make makes the Plan of jails. resolvers are the host's name servers, for those jails that
// follow the host in them. Where there is anything to keep from anybody, jails without keys of
// their own are in it too. The Plan is empty where nobody owns anything.
func Make(jails []jail.Spec, reserved []jail.Ports, resolvers []netip.Addr) Plan {
	if len(reserved) == 0 && !slices.ContainsFunc(jails, func(j jail.Spec) bool { return j.Network.ID != 0 }) {
		return Plan{}
	}
	p := Plan{Reserved: reserved}
	for i := range jails {
		p.Jails = append(p.Jails, of(&jails[i], resolvers))
	}
	return p
}

var loopbacks = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

func of(spec *jail.Spec, resolvers []netip.Addr) Jail {
	n := &spec.Network
	j := Jail{Name: spec.Name, ID: n.ID, Ports: n.Ports, Flags: flags(n), ByCgroup: !spec.Userns.Enabled}
	if u := spec.Userns; u.Enabled {
		j.UIDs = Prefixes(u.Base, u.Size)
	}
	for _, l := range spec.Logins {
		j.UIDs = append(j.UIDs, Prefix{uint32(l.HostUID), 32})
	}
	for _, p := range n.Opened {
		for _, a := range loopbacks {
			j.Opened = append(j.Opened, Opened{a, p})
		}
	}
	if !spec.OwnResolver && n.OwnLoopback && !n.None {
		for _, a := range resolvers {
			if a.Is4() && a.As4()[0] == 127 || a == netip.IPv6Loopback() {
				j.Opened = append(j.Opened, Opened{a, jail.Ports{First: 53, Last: 53, TCP: true, UDP: true}})
			}
		}
	}
	return j
}

func flags(n *jail.Network) uint32 {
	var f uint32
	for _, x := range []struct {
		is   bool
		flag uint32
	}{{n.OwnPorts, FlagPorts}, {n.OwnLoopback, FlagLoopback}, {n.PrivateUnowned, FlagPrivate}, {n.None, FlagNone}} {
		if x.is {
			f |= x.flag
		}
	}
	return f
}

// Layout is the number of what follows: sizes, places and meanings of keys and values. A
// change of them is another number, and so another directory of pins.
const Layout = 1

// Sizes of keys and values, in bytes.
const (
	JailSize   = 32 // id, block, flags, 0 (u32 each, native), then the IPv6 address
	UIDSize    = 8  // the prefix's length (u32, native), the uid (u32, big-endian)
	CgroupSize = 8  // the cgroup's id (u64, native)
	PortSize   = 8  // owner of the TCP port and of the UDP port (u32 each, native)
	OpenSize   = 24 // id (u32, native), address (16 bytes), port, protocol (u16 each, native)

	// Offsets in the value of a jail.
	JailID, JailBlock, JailFlags, JailAddress6 = 0, 4, 8, 16

	// plainID is what a jail without an ID has in its value.
	plainID = 0xfffffffe
	// reservedOwner is the owner of what [host].reserved has.
	reservedOwner = 0xffffffff

	// MaxOpened is how many keys Opened may come to, all jails together.
	MaxOpened = 65536
)

// Protocols as the kernel numbers them.
const (
	tcp = 6
	udp = 17
)

var native = binary.NativeEndian

// Value is what the maps of jails have for j.
func (j *Jail) Value() [JailSize]byte {
	var v [JailSize]byte
	if j.ID == 0 {
		native.PutUint32(v[JailID:], plainID)
		return v
	}
	native.PutUint32(v[JailID:], uint32(j.ID))
	native.PutUint32(v[JailBlock:], block4(j.ID))
	native.PutUint32(v[JailFlags:], j.Flags)
	a := Address6(j.ID).As16()
	copy(v[JailAddress6:], a[:])
	return v
}

// Key is the key of a prefix.
func (p Prefix) Key() [UIDSize]byte {
	var k [UIDSize]byte
	native.PutUint32(k[:], uint32(p.Bits))
	binary.BigEndian.PutUint32(k[4:], p.Base)
	return k
}

// PrefixOf is the prefix of a key.
func PrefixOf(k [UIDSize]byte) Prefix {
	return Prefix{binary.BigEndian.Uint32(k[4:]), int(native.Uint32(k[:]))}
}

// CgroupKey is the key of a cgroup.
func CgroupKey(id uint64) [CgroupSize]byte {
	var k [CgroupSize]byte
	native.PutUint64(k[:], id)
	return k
}

// CgroupOf is the cgroup of a key.
func CgroupOf(k [CgroupSize]byte) uint64 { return native.Uint64(k[:]) }

// UIDs are the keys and values by which a process's jail is found.
func (p *Plan) UIDs() map[[UIDSize]byte][JailSize]byte {
	all := make(map[[UIDSize]byte][JailSize]byte)
	for i := range p.Jails {
		v := p.Jails[i].Value()
		for _, u := range p.Jails[i].UIDs {
			all[u.Key()] = v
		}
	}
	return all
}

// Owner is who has a port.
type Owner struct{ TCP, UDP uint32 }

// Value is what the map of ports has for o.
func (o Owner) Value() [PortSize]byte {
	var v [PortSize]byte
	native.PutUint32(v[:], o.TCP)
	native.PutUint32(v[4:], o.UDP)
	return v
}

// OwnerOf is the owner of a value.
func OwnerOf(v [PortSize]byte) Owner { return Owner{native.Uint32(v[:]), native.Uint32(v[4:])} }

// Owners are the ports that somebody has.
func (p *Plan) Owners() map[uint16]Owner {
	all := make(map[uint16]Owner)
	give := func(list []jail.Ports, who uint32) {
		for _, r := range list {
			for n := int(r.First); n <= int(r.Last); n++ {
				o := all[uint16(n)]
				if r.TCP {
					o.TCP = who
				}
				if r.UDP {
					o.UDP = who
				}
				all[uint16(n)] = o
			}
		}
	}
	for i := range p.Jails {
		give(p.Jails[i].Ports, uint32(p.Jails[i].ID))
	}
	give(p.Reserved, reservedOwner)
	return all
}

// openKey is the key for one port of the host's loopback that a jail reaches.
func openKey(id uint16, address netip.Addr, port uint16, protocol uint16) [OpenSize]byte {
	var k [OpenSize]byte
	native.PutUint32(k[:], uint32(id))
	a := address.As16()
	copy(k[4:], a[:])
	native.PutUint16(k[20:], port)
	native.PutUint16(k[22:], protocol)
	return k
}

// Opened are the keys of all that is opened. It is an error if there are more than
// MaxOpened.
func (p *Plan) Opened() (map[[OpenSize]byte]bool, error) {
	all := make(map[[OpenSize]byte]bool)
	for i := range p.Jails {
		j := &p.Jails[i]
		for _, o := range j.Opened {
			for n := int(o.Ports.First); n <= int(o.Ports.Last); n++ {
				if o.Ports.TCP {
					all[openKey(j.ID, o.Address, uint16(n), tcp)] = true
				}
				if o.Ports.UDP {
					all[openKey(j.ID, o.Address, uint16(n), udp)] = true
				}
			}
		}
		if len(all) > MaxOpened {
			return nil, fmt.Errorf("the jails' loopback keys open more than the %d ports of the host that can be kept, at jail %s; open fewer", MaxOpened, j.Name)
		}
	}
	return all, nil
}

// Resolvers are the addresses of the nameserver lines of a resolv.conf(5).
func Resolvers(text []byte) []netip.Addr {
	var list []netip.Addr
	for line := range lines(text) {
		if len(line) == 2 && line[0] == "nameserver" {
			if a, err := netip.ParseAddr(line[1]); err == nil {
				list = append(list, a.Unmap().WithZone(""))
			}
		}
	}
	return list
}

// IDOf is the ID of a value of Jail.Value, 0 of a jail without one.
func IDOf(v [JailSize]byte) uint16 {
	if id := native.Uint32(v[JailID:]); id != plainID {
		return uint16(id)
	}
	return 0
}
