package config

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"jail/internal/jail"
	"jail/internal/network"
)

// maxOpened bounds how many ports of the host's loopback one jail may name: each is four
// entries in the kernel.
const maxOpened = 256

// portsKey is an array of ports, or one word.
type portsKey struct {
	origin
	broken bool   // given, but not understood
	word   string // if it is no array
	list   []portsItem
}

type portsItem struct {
	origin
	jail.Ports
}

func (k *portsKey) decode(ps *problems, o origin, p *position, v any) {
	k.origin = o
	if word, ok := v.(string); ok {
		k.word = word
		return
	}
	list, ok := items(v)
	if !ok {
		k.broken = true
		wrongType(ps, o, v, `an array of ports such as [ 25, "8000-8099", "53/udp" ]`)
		return
	}
	for i, item := range list {
		at := origin{o.file, p.item(i).line, o.key}
		var text string
		switch x := item.(type) {
		case int64:
			text = strconv.FormatInt(x, 10)
		case string:
			text = x
		default:
			k.broken = true
			wrongType(ps, at, item, `a port such as 25, or in quotes "8000-8099" or "53/udp"`)
			continue
		}
		ports, err := network.ParsePorts(text)
		if err != nil {
			k.broken = true
			ps.errorf(at, "%s %v", shown(text), err)
			continue
		}
		k.list = append(k.list, portsItem{at, ports})
	}
}

func (k *portsKey) usable() bool { return k.given() && !k.broken }

// or returns k if it was given, else other.
func (k portsKey) or(other portsKey) portsKey {
	if k.given() {
		return k
	}
	return other
}

// ports are those of the array, sorted.
func (k *portsKey) ports() []jail.Ports {
	var list []jail.Ports
	for _, item := range k.list {
		list = append(list, item.Ports)
	}
	return jail.SortPorts(list)
}

// onlyWord reports a word that k may not be.
func (k *portsKey) onlyWord(ps *problems, word, means string) {
	if k.usable() && k.word != "" && k.word != word {
		ps.errorf(k.origin, `%s is not known, write %q%s, or an array of ports such as [ 25, "8000-8099", "53/udp" ]`, shown(k.word), word, means)
		k.broken = true
	}
}

// network turns the keys about the network into the Spec's. It is settings' part of it:
// what they mean beside those of other jails is assignNetworks'.
func (v *validator) network(ps *problems, spec *jail.Spec, s *settings, owner origin) {
	n := &spec.Network
	s.Ports.onlyWord(ps, "any", "")
	s.Loopback.onlyWord(ps, "host", "")
	if w := s.Network; w.usable() {
		if w.v != "host" && w.v != "none" {
			ps.errorf(w.origin, `%s is no network, write "host" or "none"`, shown(w.v))
		}
		n.None = w.v == "none"
	}
	if p := s.Ports; p.usable() && p.word == "" {
		n.OwnPorts, n.Ports = true, p.ports()
		if owner.key == "defaults" || strings.HasPrefix(owner.key, "template") {
			if len(p.list) > 0 {
				ps.errorf(p.origin, `would be the ports of several jails, and each port is one jail's; write "any" or [] here, and the ports into a [jail.NAME]`)
				n.Ports = nil
			}
		}
	}
	if l := s.Loopback; l.usable() && l.word == "" {
		n.OwnLoopback, n.Opened = true, l.ports()
		count := 0
		for _, p := range n.Opened {
			count += int(p.Last) - int(p.First) + 1
		}
		if count > maxOpened {
			ps.errorf(l.origin, "opens %d ports of the host, open %d at most", count, maxOpened)
		}
	}
	if n.None {
		if s.Ports.usable() && (s.Ports.word == "any" || len(s.Ports.list) > 0) && s.Ports.key == owner.below("ports") {
			ps.errorf(s.Ports.origin, `a jail with network = "none" (%s:%d) binds no ports, remove one of the two`, s.Network.file, s.Network.line)
		}
		if s.Loopback.usable() && s.Loopback.word == "host" && s.Loopback.key == owner.below("loopback") {
			ps.errorf(s.Loopback.origin, `a jail with network = "none" (%s:%d) has a loopback of its own, write the ports it needs of the host, as [ 5432 ]`, s.Network.file, s.Network.line)
		}
		n.OwnPorts, n.Ports, n.OwnLoopback = true, nil, true
	}
	n.PrivateUnowned = n.OwnLoopback && n.OwnPorts
	if u := s.Unowned; u.usable() {
		switch {
		case u.v != "private" && u.v != "refuse":
			ps.errorf(u.origin, `%s is not known, write "private" or "refuse"`, shown(u.v))
		case u.v == "private" && !n.OwnLoopback && u.key == owner.below("unowned"):
			ps.errorf(u.origin, `"private" needs a loopback of the jail's own, add loopback = []`)
		}
		n.PrivateUnowned = n.PrivateUnowned && u.v == "private"
	}
}

// checkHost checks [host].
func (v *validator) checkHost() {
	if k := v.hostTable.Reserved; k.usable() && k.word != "" {
		v.errorf(k.origin, `is a word, must be an array of ports such as [ 3306, "9000-9099" ]`)
		v.hostTable.Reserved = portsKey{}
	}
}

// assignNetworks gives jails their IDs, and finds ports that are somebody else's.
func (v *validator) assignNetworks() {
	var owned []*draft
	for _, d := range v.drafts {
		if d.spec.Network.Owned() {
			owned = append(owned, d)
		}
	}
	if len(owned) == 0 {
		return
	}
	var claims network.Claims
	by := map[int]*draft{}
	for _, d := range owned {
		v.mayOwn(d)
		v.checkEphemeral(d)
		for _, p := range d.set.Ports.list {
			if !d.spec.Network.OwnPorts || d.twin {
				break
			}
			for _, r := range v.hostTable.Reserved.list {
				if n, both := common(p.Ports, r.Ports); both {
					d.errorf(p.origin, "port %d is reserved for the host at %s:%d, remove one of the two", n, r.file, r.line)
				}
			}
			port, other, free := claims.Claim(p.Ports, d.order)
			if !free {
				o := by[other]
				at := o.portAt(port)
				clash(p.origin, &d.problems, &o.problems, "port %d is jail %q's already (%s:%d), remove one of the two", port, o.name, at.file, at.line)
				continue
			}
			by[d.order] = d
		}
	}
	// What a jail had it keeps, since it may run.
	var numbers network.Numbers
	before := v.opt.Before.networks()
	for _, h := range v.held {
		numbers.Keep(h.network)
	}
	sort.SliceStable(owned, func(i, j int) bool { return owned[i].name < owned[j].name })
	for _, d := range owned {
		if id := before[d.name]; !d.twin && numbers.Keep(id) {
			d.spec.Network.ID = id
		}
	}
	for _, d := range owned {
		if d.twin || d.spec.Network.ID != 0 {
			continue
		}
		id, ok := numbers.Take(d.name)
		if !ok {
			d.errorf(d.networkOrigin(), "there are %d jails with a network of their own already, and no more can be; remove the key", jail.MaxNetworks)
			continue
		}
		d.spec.Network.ID = id
	}
}

// networks are the IDs of every jail of the registry, in force or not.
func (r *Registry) networks() map[string]uint16 {
	all := make(map[string]uint16)
	if r == nil {
		return all
	}
	for i := range r.Faults {
		if f := &r.Faults[i]; f.Jail != "" && f.Network != 0 {
			all[f.Jail] = f.Network
		}
	}
	for i := range r.Jails {
		if id := r.Jails[i].Network.ID; id != 0 {
			all[r.Jails[i].Name] = id
		}
	}
	return all
}

// networkOrigin is the key by which the jail's network is its own.
func (d *draft) networkOrigin() origin {
	for _, o := range []origin{d.set.Ports.origin, d.set.Loopback.origin, d.set.Network.origin} {
		if o.given() {
			return o
		}
	}
	return d.origin
}

// portAt is where the jail's ports have that port.
func (d *draft) portAt(port uint16) origin {
	for _, p := range d.set.Ports.list {
		if p.First <= port && port <= p.Last {
			return p.origin
		}
	}
	return d.set.Ports.origin
}

// mayOwn reports a jail whose processes the kernel cannot tell from others.
func (v *validator) mayOwn(d *draft) {
	if v.opt.Rootless {
		d.errorf(d.networkOrigin(), "needs jails that root runs, remove it")
	}
}

// checkEphemeral reports ports that the kernel may give to any socket.
func (v *validator) checkEphemeral(d *draft) {
	if !d.spec.Network.OwnPorts || len(d.set.Ports.list) == 0 {
		return
	}
	local, err := network.ParseRange(string(v.opt.PortRange))
	if err != nil {
		return // a kernel that has none gives none away
	}
	reserved, err := network.ParseReserved(string(v.opt.ReservedPorts))
	if err != nil {
		reserved = nil
	}
	for _, p := range d.set.Ports.list {
		if open := network.Ephemeral([]jail.Ports{p.Ports}, local, reserved); len(open) > 0 {
			line := network.FormatRanges(open)
			if now := strings.TrimSpace(string(v.opt.ReservedPorts)); now != "" {
				line = now + "," + line
			}
			d.errorf(p.origin, "%s is in the range %d-%d from which the kernel gives ports to anybody, so nobody can own it; use another, or keep it out of that: sysctl -w net.ipv4.ip_local_reserved_ports=%s (and in /etc/sysctl.d)",
				p.Ports, local.First, local.Last, line)
		}
	}
}

// common is the first port that a and b both have.
func common(a, b jail.Ports) (uint16, bool) {
	if !(a.TCP && b.TCP || a.UDP && b.UDP) {
		return 0, false
	}
	first := max(a.First, b.First)
	return first, first <= min(a.Last, b.Last)
}

// shownPorts writes ports for people.
func shownPorts(list []jail.Ports) string {
	if len(list) == 0 {
		return "none"
	}
	var words []string
	for _, p := range list {
		words = append(words, p.String())
	}
	return strings.Join(words, ", ")
}

// explainNetwork says what the network of a jail will be.
func (d *draft) explainNetwork(n *jail.Network, add func(key, value string, o origin)) {
	s := &d.set
	ports, loopback := "any: every port that nobody owns and that the host's own processes may bind", "host: the host's own"
	if n.OwnPorts {
		ports = shownPorts(n.Ports)
	}
	if n.OwnLoopback {
		loopback = "its own; of the host's: " + shownPorts(n.Opened)
	}
	from := func(o origin) origin {
		if !o.given() && n.None {
			return s.Network.origin
		}
		return o
	}
	add("ports", ports, from(s.Ports.origin))
	add("loopback", loopback, from(s.Loopback.origin))
	if n.OwnPorts {
		unowned := "refuse"
		if n.PrivateUnowned {
			unowned = "private: a TCP listener on all addresses becomes one on the jail's loopback"
		}
		add("unowned", unowned, s.Unowned.origin)
	}
	word := "host"
	if n.None {
		word = "none: nothing but the loopback"
	}
	add("network", word, s.Network.origin)
	if n.ID != 0 {
		add("network.id", fmt.Sprintf("%d: 127.0.0.1 is %v on the host, and ::1 is %v", n.ID, network.Address4(n.ID), network.Address6(n.ID)), origin{})
	}
}

// reservedPorts are those of [host].
func (v *validator) reservedPorts() []jail.Ports { return slices.Clip(v.hostTable.Reserved.ports()) }
