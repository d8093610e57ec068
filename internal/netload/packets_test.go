package netload

import (
	"net/netip"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/jail"
	"jail/internal/network"
)

// oneProcessor keeps this thread on one processor: what it sends over the loopback arrives in
// the order in which it was sent then, since each processor has one queue of it
// (net/core/dev.c).
func oneProcessor(t *testing.T) {
	t.Helper()
	var may, one unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &may))
	for i := range runtime.NumCPU() * 64 {
		if may.IsSet(i) {
			one.Set(i)
			break
		}
	}
	require.NoError(t, unix.SchedSetaffinity(0, &one))
}

// by makes a socket as some uid, does something with it as that, and leaves it to the test.
func by(t *testing.T, uid uint32, family, kind int, f func(fd int) error) (int, error) {
	t.Helper()
	require.NoError(t, setRealUID(int(uid)))
	defer func() { require.NoError(t, setRealUID(0)) }()
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd, f(fd)
}

// at is an address of that family; of IPv6 all or ::1.
func at(family int, loopback bool, port int) unix.Sockaddr {
	if family == unix.AF_INET6 {
		a := unix.SockaddrInet6{Port: port}
		if loopback {
			a.Addr[15] = 1
		}
		return &a
	}
	a := unix.SockaddrInet4{Port: port}
	if loopback {
		a.Addr = [4]byte{127, 0, 0, 1}
	}
	return &a
}

// replace has another program do what a hook does.
func replace(t *testing.T, h *hook, change func(asm.Instructions) asm.Instructions) {
	t.Helper()
	kernel, err := probe()
	require.NoError(t, err)
	generations, err := generationsIn(dir)
	require.NoError(t, err)
	l, err := open(dir, generations)
	require.NoError(t, err)
	defer l.close()
	spec := h.spec(kernel, l.fds())
	spec.Instructions = change(spec.Instructions)
	prog, err := ebpf.NewProgram(spec)
	require.NoError(t, err, h.name)
	defer prog.Close()
	pinned, err := link.LoadPinnedLink(filepath.Join(l.dir, network.LinkPrefix+h.name), nil)
	require.NoError(t, err)
	defer pinned.Close()
	require.NoError(t, pinned.Update(prog))
}

// sightless has no program find a socket any more, so that all is sent.
func sightless(ins asm.Instructions) asm.Instructions {
	for i := range ins {
		if ins[i].IsBuiltinCall() && (ins[i].Constant == int64(asm.FnSkLookupTcp) || ins[i].Constant == int64(asm.FnSkLookupUdp)) {
			ins[i] = asm.Mov.Imm(asm.R0, 0)
		}
	}
	return ins
}

func letThrough(asm.Instructions) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, allow), asm.Return()}
}

// What comes to a jail's loopback reaches nobody else's socket, also without the look that is
// taken before it is sent: between that and the packet another may have taken the place.
func TestIngressAlone(t *testing.T) {
	apart(t)
	oneProcessor(t)
	apply(t, plan(http, nil))
	const a, b = base + 1000, base + 65536 + 1000
	kinds := []struct{ family, kind int }{
		{unix.AF_INET, unix.SOCK_STREAM}, {unix.AF_INET, unix.SOCK_DGRAM}, {unix.AF_INET6, unix.SOCK_STREAM}, {unix.AF_INET6, unix.SOCK_DGRAM},
	}
	const others, own = 15000, 80
	for _, k := range kinds {
		wait := func(uid uint32, port int) int {
			fd, err := by(t, uid, k.family, k.kind, func(fd int) error {
				if k.family == unix.AF_INET6 {
					require.NoError(t, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
				}
				return unix.Bind(fd, at(k.family, false, port))
			})
			require.NoError(t, err)
			if k.kind == unix.SOCK_STREAM {
				require.NoError(t, unix.Listen(fd, 8))
			}
			return fd
		}
		hosts, as := wait(0, others), wait(a, own)
		// send has uid send to its loopback.
		send := func(uid uint32, port int) error {
			_, err := by(t, uid, k.family, k.kind|unix.SOCK_NONBLOCK, func(fd int) error {
				if k.kind == unix.SOCK_DGRAM {
					return unix.Sendto(fd, []byte("sent"), 0, at(k.family, true, port))
				}
				return unix.Connect(fd, at(k.family, true, port))
			})
			if err == unix.EINPROGRESS {
				err = nil
			}
			return err
		}
		// arrived counts what has come there before what its owner sends now.
		arrived := func(fd int, uid uint32, port int) (count int) {
			var name unix.Sockaddr
			_, err := by(t, uid, k.family, k.kind, func(fd int) error {
				if k.kind == unix.SOCK_DGRAM {
					return unix.Sendto(fd, []byte("last"), 0, at(k.family, true, port))
				}
				err := unix.Connect(fd, at(k.family, true, port))
				name, _ = unix.Getsockname(fd)
				return err
			})
			require.NoError(t, err)
			for ; ; count++ {
				if k.kind == unix.SOCK_DGRAM {
					var text [4]byte
					_, _, err := unix.Recvfrom(fd, text[:], 0)
					require.NoError(t, err)
					if string(text[:]) == "last" {
						return count
					}
					continue
				}
				c, peer, err := unix.Accept(fd)
				require.NoError(t, err)
				unix.Close(c)
				if portOf(peer) == portOf(name) {
					return count
				}
			}
		}
		both := func() [2]int {
			require.NoError(t, send(a, others))
			require.NoError(t, send(b, own))
			require.NoError(t, send(a, own))
			return [2]int{arrived(hosts, 0, others), arrived(as, a, own)}
		}
		assert.Equal(t, no(syscall.ECONNREFUSED), send(a, others), "%v: it is seen beforehand", k)
		assert.Equal(t, no(syscall.ECONNREFUSED), send(b, own), "%v", k)
		for i := range hooks {
			switch hooks[i].name {
			case "connect4", "connect6", "sendmsg4", "sendmsg6":
				replace(t, &hooks[i], sightless)
			}
		}
		assert.Equal(t, [2]int{0, 1}, both(), "%v: by ingress alone, only its own arrives", k)
		for i := range hooks {
			if hooks[i].name == "ingress" {
				replace(t, &hooks[i], letThrough)
			}
		}
		assert.Equal(t, [2]int{1, 2}, both(), "%v: without any, everything does", k)
		apply(t, plan(http, nil))
	}
}

func portOf(a unix.Sockaddr) int {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return a.Port
	case *unix.SockaddrInet6:
		return a.Port
	}
	return 0
}

// What stands for a jail's loopback is no source of anybody else's, who could have a service
// answer there, and none of the jail's own where it goes elsewhere.
func TestSources(t *testing.T) {
	apart(t)
	outside := [4]byte{10, 99, 0, 1} // of the host, and not its loopback
	addOutside(t, outside)
	p := plan(nil, nil, nil)
	p.Jails[1].Flags = network.FlagPorts // with the host's loopback
	for _, i := range []int{0, 2} {
		for _, a := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
			p.Jails[i].Opened = append(p.Jails[i].Opened, network.Opened{Address: a, Ports: jail.Ports{First: 15000, Last: 15000, UDP: true}})
		}
	}
	apply(t, p)
	const own, hosts, other, user = base, base + 65536, base + 2*65536, 4242
	refused := no(syscall.EINVAL)
	for _, c := range []struct {
		who  string
		uid  uint32
		want error
	}{
		{"a jail with a loopback", other, refused}, {"one with the host's", hosts, refused}, {"a user of the host", user, refused}, {"root", 0, nil},
	} {
		alias4, alias6 := network.Address4(1).As4(), network.Address6(1).As16()
		for name, to := range map[string]unix.Sockaddr{
			"the host's loopback": &unix.SockaddrInet4{Port: 15000, Addr: [4]byte{127, 0, 0, 1}},
			"elsewhere":           &unix.SockaddrInet4{Port: 15000, Addr: outside},
		} {
			_, err := by(t, c.uid, unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error { return sendFrom(fd, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: alias4}), to) })
			assert.Equal(t, c.want, err, "%s, to %s", c.who, name)
			_, err = by(t, c.uid, unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
				require.NoError(t, unix.Connect(fd, to))
				return sendFrom(fd, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: alias4}), nil)
			})
			assert.Equal(t, c.want, err, "%s, connected to %s", c.who, name)
		}
		six := &unix.SockaddrInet6{Port: 15000, Addr: [16]byte{15: 1}}
		_, err := by(t, c.uid, unix.AF_INET6, unix.SOCK_DGRAM, func(fd int) error { return sendFrom(fd, unix.PktInfo6(&unix.Inet6Pktinfo{Addr: alias6}), six) })
		assert.Equal(t, c.want, err, "%s, to ::1", c.who)
		_, err = by(t, c.uid, unix.AF_INET6, unix.SOCK_DGRAM, func(fd int) error {
			require.NoError(t, unix.Connect(fd, six))
			return sendFrom(fd, unix.PktInfo6(&unix.Inet6Pktinfo{Addr: alias6}), nil)
		})
		assert.Equal(t, c.want, err, "%s, connected to ::1", c.who)
	}
	// Its own one is for its own loopback: what it has bound there goes nowhere else.
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		_, err := by(t, own, unix.AF_INET, kind, func(fd int) error {
			require.NoError(t, unix.Bind(fd, at(unix.AF_INET, true, 0)))
			return unix.Connect(fd, &unix.SockaddrInet4{Port: 15000, Addr: outside})
		})
		assert.Equal(t, refused, err)
		_, err = by(t, own, unix.AF_INET6, kind, func(fd int) error {
			require.NoError(t, unix.Bind(fd, mapped([4]byte{127, 0, 0, 1}, 0)))
			return unix.Connect(fd, mapped(outside, 15000))
		})
		assert.Equal(t, refused, err, "as an IPv6 socket, where it is mapped")
	}
	for _, source := range [][4]byte{{127, 0, 0, 1}, network.Address4(1).As4()} {
		_, err := by(t, own, unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
			return sendFrom(fd, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: source}), at(unix.AF_INET, true, 15000))
		})
		assert.NoError(t, err, "to what is opened")
	}
	_, err := by(t, own, unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
		return sendFrom(fd, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte{127, 9, 9, 9}}), at(unix.AF_INET, true, 15000))
	})
	assert.Equal(t, refused, err, "what is on no loopback of its own")
}

// addOutside gives the loopback interface another address, as the host's others are.
func addOutside(t *testing.T, a [4]byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo:1")
	require.NoError(t, err)
	require.NoError(t, ifr.SetInet4Addr(a[:]))
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr))
}

func sendFrom(fd int, control []byte, to unix.Sockaddr) error {
	_, err := unix.SendmsgN(fd, []byte("q"), control, to, 0)
	if err == unix.ECONNREFUSED { // of the one before: nobody is there
		_, err = unix.SendmsgN(fd, []byte("q"), control, to, 0)
	}
	return err
}

func mapped(a [4]byte, port int) unix.Sockaddr {
	s := &unix.SockaddrInet6{Port: port, Addr: [16]byte{10: 0xff, 11: 0xff}}
	copy(s.Addr[12:], a[:])
	return s
}
