package admin

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/internal/jail"
)

func TestNetworkOfARow(t *testing.T) {
	for _, c := range []struct {
		n               jail.Network
		ports, loopback string
	}{
		{jail.Network{}, "", ""},
		{jail.Network{ID: 2, OwnLoopback: true}, "any", "127.64.4.1"},
		{jail.Network{ID: 1, OwnPorts: true}, "none", "host"},
		{jail.Network{ID: 1, OwnPorts: true, Ports: []jail.Ports{{First: 25, Last: 25, TCP: true, UDP: true}, {First: 53, Last: 60, UDP: true}}, OwnLoopback: true}, "25,53-60/udp", "127.64.0.1"},
	} {
		var r row
		r.network(&c.n)
		assert.Equal(t, [2]string{c.ports, c.loopback}, [2]string{r.ports, r.loopback})
	}
}
