package audit

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"jail/internal/cgroup"
	"jail/internal/jail"
	"jail/internal/network"
)

// listener is a socket that waits on a port of the host's network namespace, TCP or UDP.
type listener struct {
	protocol string // as the registry has it
	address  netip.Addr
	port     uint16
	uid      uint32 // of who has made it
}

// listeners reads /proc/net/tcp and the like (Documentation/networking/proc_net_tcp.rst).
func (a *auditor) listeners() []listener {
	var all []listener
	for _, table := range []struct{ path, protocol, state string }{
		{"/proc/net/tcp", "tcp", "0A"}, {"/proc/net/tcp6", "tcp", "0A"}, // TCP_LISTEN
		{"/proc/net/udp", "udp", "07"}, {"/proc/net/udp6", "udp", "07"}, // TCP_CLOSE: not connected
	} {
		text, _ := a.files.read(table.path)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 8 || f[3] != table.state {
				continue
			}
			host, port, ok := strings.Cut(f[1], ":")
			addr, err := hex.DecodeString(host)
			n, err1 := strconv.ParseUint(port, 16, 16)
			uid, err2 := strconv.ParseUint(f[7], 10, 32)
			if !ok || err != nil || err1 != nil || err2 != nil || n == 0 || len(addr)%4 != 0 {
				continue
			}
			for i := 0; i < len(addr); i += 4 { // words of the machine
				binary.BigEndian.PutUint32(addr[i:], binary.LittleEndian.Uint32(addr[i:]))
			}
			if ip, ok := netip.AddrFromSlice(addr); ok {
				all = append(all, listener{table.protocol, ip.Unmap(), uint16(n), uint32(uid)})
			}
		}
	}
	return all
}

// loopback4 is the part of the loopback that a jail's own one has.
var loopback4 = netip.MustParsePrefix("127.0.0.0/22")

// checkNetwork looks whose the ports are by now that a jail owns, or could take, and whether
// the kernel can know whose they are.
func (a *auditor) checkNetwork(reserved []jail.Ports) {
	// Where the kernel takes ports by itself, and does not.
	local, err := network.ParseRange(a.text("/proc/sys/net/ipv4/ip_local_port_range"))
	if err != nil {
		local = network.Range{First: 32768, Last: 60999}
	}
	keptText := strings.TrimSpace(a.text("/proc/sys/net/ipv4/ip_local_reserved_ports"))
	kept, _ := network.ParseReserved(keptText)
	if given := network.Ephemeral(reserved, local, kept); len(given) > 0 {
		line := network.FormatRanges(given)
		if keptText != "" {
			line = keptText + "," + line
		}
		a.add(nil, Warning, "reserved-ephemeral", "[host] reserved", fmt.Sprintf("the kernel gives ports of %d-%d to anybody who leaves the choice to it, so a jail can have what is reserved of them: %s", local.First, local.Last, network.FormatRanges(given)),
			"sysctl -w net.ipv4.ip_local_reserved_ports="+line+" (and in /etc/sysctl.d)")
	}
	if !slices.ContainsFunc(a.jails, func(j jail.Spec) bool { return j.Network.ID != 0 }) {
		return
	}
	var unknown []string
	for i := range a.jails {
		if j := &a.jails[i]; cgroup.Known(j) && !a.ownUnit(j) && a.opt.Kernel.NotKnown != "" {
			unknown = append(unknown, j.Name)
		}
	}
	if len(unknown) > 0 {
		a.add(nil, Error, "network-no-cgroup", "cgroups", a.opt.Kernel.NotKnown+", so jails with userns = false and a network of their own, which are known by their cgroup, do not start: "+list(unknown), a.opt.Kernel.NotKnownFix)
	}
	var free []network.Range // the host's, that any jail could take
	for _, l := range a.listeners() {
		owner, of := a.portOwner(l), a.jailOf(l.uid)
		where := fmt.Sprintf("/proc/net/%s, port %d", l.protocol, l.port)
		switch {
		case of != nil && of.Network.OwnLoopback && (loopback4.Contains(l.address) || l.address == netip.IPv6Loopback()):
			a.addJail(of, Warning, "listener-old", where, "a listener of jail "+of.Name+"'s on "+l.address.String()+" is older than the loopback of its own that the jail has, so nobody in it reaches this one, and it is on the host's",
				"jail stop "+of.Name)
		case of == owner:
		case owner != nil && of == nil:
			a.addJail(owner, Warning, "port-taken", where, "a process of uid "+decimal(l.uid)+" listens on a port that is jail "+owner.Name+"'s by the registry, which cannot bind it", "end that process, or take the port out of the jail's ports")
		case owner != nil:
			a.addJail(owner, Warning, "port-taken", where, "jail "+of.Name+" has the port from before it was jail "+owner.Name+"'s", "jail stop "+of.Name)
		}
		ports := jail.Ports{First: l.port, Last: l.port, TCP: l.protocol == "tcp", UDP: l.protocol == "udp"}
		if owner != nil || of != nil || l.port < 1024 || len(network.Ephemeral([]jail.Ports{ports}, local, kept)) > 0 || within(ports, reserved) {
			continue
		}
		free = append(free, network.Range{First: l.port, Last: l.port})
	}
	if len(free) > 0 {
		slices.SortFunc(free, func(a, b network.Range) int { return int(a.First) - int(b.First) })
		free = slices.Compact(free)
		a.add(nil, Note, "port-unreserved", "[host] reserved", "services of the host listen on ports that a jail takes on its own loopback while they are away, which then cannot start: "+network.FormatRanges(free),
			"[host] reserved = ["+strings.ReplaceAll(network.FormatRanges(free), ",", ", ")+"] in the registry")
	}
}

func (a *auditor) text(path string) string {
	text, _ := a.files.read(path)
	return string(text)
}

// within reports whether all of p is among list.
func within(p jail.Ports, list []jail.Ports) bool {
	return slices.ContainsFunc(list, func(r jail.Ports) bool {
		return r.First <= p.First && p.Last <= r.Last && (!p.TCP || r.TCP) && (!p.UDP || r.UDP)
	})
}

// portOwner is the jail whose port a listener has, nil if it is nobody's.
func (a *auditor) portOwner(l listener) *jail.Spec {
	p := jail.Ports{First: l.port, Last: l.port, TCP: l.protocol == "tcp", UDP: l.protocol == "udp"}
	for i := range a.jails {
		if within(p, a.jails[i].Network.Ports) {
			return &a.jails[i]
		}
	}
	return nil
}

// jailOf is the jail that a uid of the host's is of: one of its range, or a login.
func (a *auditor) jailOf(uid uint32) *jail.Spec {
	for i := range a.jails {
		j := &a.jails[i]
		if u := j.Userns; u.Enabled && uid >= u.Base && uint64(uid) < uint64(u.Base)+uint64(u.Size) {
			return j
		}
		if slices.ContainsFunc(j.Logins, func(l jail.Login) bool { return uint32(l.HostUID) == uid }) {
			return j
		}
	}
	return nil
}
