package admin

import (
	"strings"

	"jail/internal/jail"
	"jail/internal/network"
)

// network shows what of the host's network is the jail's own: the ports, and where on the
// host its loopback is.
func (r *row) network(n *jail.Network) {
	if n.ID == 0 {
		return
	}
	r.ports = "any"
	if n.OwnPorts {
		words := make([]string, len(n.Ports))
		for i, p := range n.Ports {
			words[i] = p.String()
		}
		if r.ports = strings.Join(words, ","); r.ports == "" {
			r.ports = "none"
		}
	}
	r.loopback = "host"
	if n.OwnLoopback {
		r.loopback = network.Address4(n.ID).String()
	}
}
