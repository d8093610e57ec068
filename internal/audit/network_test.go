package audit

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/internal/jail"
)

// What the kernel of a little-endian machine prints of sockets.
const (
	procTCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 1 1 0 100 0 0 10 0
   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 1 1 0 100 0 0 10 0
   3: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 201000        0 1 1 0 100 0 0 10 0
   4: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 201000        0 1 1 0 100 0 0 10 0
   5: 0100407F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000 201000        0 1 1 0 100 0 0 10 0
   6: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   106        0 1 1 0 100 0 0 10 0
   7: 00000000:C000 00000000:0000 0A 00000000:00000000 00:00000000 00000000   107        0 1 1 0 100 0 0 10 0
   8: 0100007F:1538 0100007F:C001 01 00000000:00000000 00:00000000 00000000   105        0 1 1 0 100 0 0 10 0
   9: nonsense
  10: 0100007F:XXXX 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 1 1 0 100 0 0 10 0
`
	procTCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:1F92 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 201000        0 1 1 0 100 0 0 10 0
`
)

func TestCheckNetwork(t *testing.T) {
	w := newWorld(t)
	w.files["/proc/net/tcp"], w.files["/proc/net/tcp6"] = fakeFile{text: procTCP}, fakeFile{text: procTCP6}
	w.files["/proc/sys/net/ipv4/ip_local_port_range"] = fakeFile{text: "32768\t60999\n"}
	about := func(reserved ...jail.Ports) string {
		a := &auditor{opt: w.opt, files: w.files, jails: w.jails}
		a.opt.Kernel = &w.kernel
		a.checkNetwork(reserved)
		return lines(a.grouped())
	}
	assert.Empty(t, about(), "nobody has keys")

	w.jails[0].Network = jail.Network{ID: 1, OwnPorts: true, OwnLoopback: true, Ports: []jail.Ports{{First: 80, Last: 80, TCP: true}}}
	w.jails = append(w.jails, jail.Spec{Name: "mail", Network: jail.Network{ID: 2, OwnPorts: true, Ports: []jail.Ports{{First: 8000, Last: 8010, TCP: true, UDP: true}}}})
	assert.Equal(t, ""+
		"warning: /proc/net/tcp, port 80: a process of uid 33 listens on a port that is jail web's by the registry, which cannot bind it; fix: end that process, or take the port out of the jail's ports [port-taken]\n"+
		"warning: /proc/net/tcp, port 8000: jail web has the port from before it was jail mail's; fix: jail stop web [port-taken]\n"+
		"warning: /proc/net/tcp, port 8080: a listener of jail web's on 127.0.0.1 is older than the loopback of its own that the jail has, so nobody in it reaches this one, and it is on the host's; fix: jail stop web [listener-old]\n"+
		"warning: /proc/net/tcp, port 8082: a listener of jail web's on ::1 is older than the loopback of its own that the jail has, so nobody in it reaches this one, and it is on the host's; fix: jail stop web [listener-old]\n"+
		"note: [host] reserved: services of the host listen on ports that a jail takes on its own loopback while they are away, which then cannot start: 3306,5432; fix: [host] reserved = [3306, 5432] in the registry [port-unreserved]\n",
		about())
	assert.NotContains(t, about(jail.Ports{First: 3300, Last: 5432, TCP: true}), "[host] reserved")

	ephemeral := jail.Ports{First: 60990, Last: 61010, TCP: true}
	const given = "warning: [host] reserved: the kernel gives ports of 32768-60999 to anybody who leaves the choice to it, so a jail can have what is reserved of them: "
	assert.Contains(t, about(ephemeral), given+"60990-60999; fix: sysctl -w net.ipv4.ip_local_reserved_ports=60990-60999 (and in /etc/sysctl.d) [reserved-ephemeral]\n")
	w.files["/proc/sys/net/ipv4/ip_local_reserved_ports"] = fakeFile{text: "8080,60990-60995\n"}
	assert.Contains(t, about(ephemeral), given+"60996-60999; fix: sysctl -w net.ipv4.ip_local_reserved_ports=8080,60990-60995,60996-60999 (and")
	w.files["/proc/sys/net/ipv4/ip_local_reserved_ports"] = fakeFile{text: "60990-60999\n"}
	assert.NotContains(t, about(ephemeral), given)

	w.kernel.NotKnown, w.kernel.NotKnownFix = "there is no cgroup", "do this"
	assert.Contains(t, about(), "error: cgroups: there is no cgroup, so jails with userns = false and a network of their own, which are known by their cgroup, do not start: mail; fix: do this [network-no-cgroup]\n")
	w.jails[1].Userns.Enabled = true
	assert.NotContains(t, about(), "there is no cgroup")
}

// What sshd forwards for a login of a jail with a network of its own is that jail's.
func TestForwardingIsTheJails(t *testing.T) {
	w := newWorld(t)
	w.set("allowtcpforwarding", "yes")
	w.set("gatewayports", "yes")
	assert.Contains(t, lines(w.run()), "AllowTcpForwarding yes")
	assert.Contains(t, lines(w.run()), "GatewayPorts yes")
	w.jails[0].Network = jail.Network{ID: 1, OwnPorts: true, OwnLoopback: true}
	assert.NotContains(t, lines(w.run()), "AllowTcpForwarding yes")
	assert.NotContains(t, lines(w.run()), "GatewayPorts yes")
}
