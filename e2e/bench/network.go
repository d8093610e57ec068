package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/jail"
	"jail/internal/netload"
	"jail/internal/network"
)

// The rows about the shared network are about calls of some hundred nanoseconds, with the
// programs at the root of the cgroups and without, by turns: as the host's processes make
// them and as a jail's. They are in a network namespace of their own, so that nobody else is
// measured, nor measures them. The least of the rounds counts: others on the machine can
// only make one longer.

const (
	netOutside = "10.99.0.1"        // an address that is not the loopback's
	netBase    = uint32(0x71230000) // of the jail's ids
	netPlain   = uint32(0x711f0000) // of those of a jail without the keys
	netPins    = "/sys/fs/bpf/bench"
	netPort    = 7000 // of the peer that is connected to
)

// netCall is one kind of call.
type netCall struct {
	what string
	do   func() error
}

// netPlan is a plan of n jails with the keys; the first has the id range from netBase on.
func netPlan(n int) *network.Plan {
	var jails []jail.Spec
	for i := range n {
		spec := jail.Spec{Name: fmt.Sprint("j", i), Userns: jail.Userns{Enabled: true, Base: netBase + uint32(i)<<16, Size: 65536}}
		port := uint16(1024 + 10*i)
		spec.Network = jail.Network{ID: uint16(i + 1), OwnPorts: true, OwnLoopback: true, PrivateUnowned: true,
			Ports: []jail.Ports{{First: port, Last: port + 9, TCP: true, UDP: true}}, Opened: []jail.Ports{{First: 5432, Last: 5432, TCP: true}}}
		jails = append(jails, spec)
	}
	// And one that has the host's network as it is.
	jails = append(jails, jail.Spec{Name: "plain", Userns: jail.Userns{Enabled: true, Base: netPlain, Size: 65536}})
	p := network.Make(jails, nil, nil)
	return &p
}

func (b *bench) network() error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread is in another network namespace
		done <- b.networkHere()
	}()
	return <-done
}

func (b *bench) networkHere() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", netOutside + "/32", "dev", "lo"}} {
		if err := command("ip", args...); err != nil {
			return err
		}
	}
	if err := unix.Mount("bpf", filepath.Dir(netPins), "bpf", 0, "mode=700"); err != nil {
		return fmt.Errorf("BPF file system: %w", err)
	}
	defer unix.Unmount(filepath.Dir(netPins), unix.MNT_DETACH)
	calls := netCalls()
	rounds, batch := 15, 2000
	if b.quick {
		rounds, batch = 5, 500
	}
	const alone, host, plain, inside = 0, 1, 2, 3 // without the programs; with them, as the host, as a jail without the keys and with them
	samples := map[string][4][]time.Duration{}
	var first, again, gone []time.Duration
	take := func(state int, uid uint32) error {
		var peer int // on the loopback of who calls
		err := asUID(uid, func() (err error) {
			if peer, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			return unix.Bind(peer, &unix.SockaddrInet4{Port: netPort, Addr: [4]byte{127, 0, 0, 1}})
		})
		if err != nil {
			return err
		}
		defer unix.Close(peer)
		for _, c := range calls {
			d, err := netBatch(c, uid, batch)
			if err != nil {
				return fmt.Errorf("%s: %w", c.what, err)
			}
			s := samples[c.what]
			s[state] = append(s[state], d/time.Duration(batch))
			samples[c.what] = s
		}
		return nil
	}
	timed := func(list *[]time.Duration, p *network.Plan) error {
		began := time.Now()
		_, err := netload.Apply(netPins, p)
		*list = append(*list, time.Since(began))
		return err
	}
	for range rounds {
		if err := take(alone, netBase+1000); err != nil {
			return err
		}
		err := errors.Join(timed(&first, netPlan(1)), timed(&again, netPlan(1)))
		if err == nil {
			err = take(host, 4242)
		}
		if err == nil {
			err = take(plain, netPlain+1000)
		}
		if err == nil {
			err = take(inside, netBase+1000)
		}
		if err != nil {
			return err
		}
		if err := timed(&gone, &network.Plan{}); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond) // the kernel detaches by a worker
	}
	for _, c := range calls {
		s := samples[c.what]
		base, onHost, inPlain, inJail := slices.Min(s[alone]), slices.Min(s[host]), slices.Min(s[plain]), slices.Min(s[inside])
		l := line{what: "network: " + c.what + ", without the programs", value: duration(base)}
		b.table.add(l)
		l = line{what: c.what + ", with them, a process of the host's", value: duration(onHost), floor: ratio(float64(onHost), float64(base)), below: true}
		if c.what == "connect elsewhere" {
			l.target, l.met = "≤ 1 µs more", yesNo(onHost-base <= time.Microsecond)
		}
		b.table.add(l)
		b.table.add(line{what: c.what + ", with them, of a jail without the keys", value: duration(inPlain), floor: ratio(float64(inPlain), float64(base)), below: true})
		b.table.add(line{what: c.what + ", with them, of a jail with the keys", value: duration(inJail), floor: ratio(float64(inJail), float64(base)), below: true})
	}
	b.table.add(line{what: "network: loading the programs, once", value: duration(median(first)), note: "and " + duration(median(again)) + " for a reload that changes nothing"})
	if err := b.networkMany(); err != nil {
		return err
	}
	if err := b.networkPipe(b.n(61, 5)); err != nil {
		return err
	}
	if _, err := netload.Apply(netPins, &network.Plan{}); err != nil {
		return err
	}
	return b.networkCold()
}

// networkCold is the first command in a stopped jail that has the keys, and in one that has not.
func (b *bench) networkCold() error {
	s, err := b.serve(mark+"-network", fmt.Sprintf(`version = 1
[defaults]
idle_timeout = "0"
[jail.keys]
rootfs = %q
ports = [80]
loopback = []
	[jail.keys.users]
	%s = { uid = 1000, shell = %q }
[jail.plain]
rootfs = %q
	[jail.plain.users]
	%s = { uid = 1000, shell = %q }
`, b.root("cold"), login(uidCold), trueInside, b.root("net"), login(uidFlat), trueInside))
	if err != nil {
		return err
	}
	defer s.stop()
	first := func(jail string, uid uint32) *contestant {
		c := b.enter(uid, "--runtime-dir", s.runtimeDir(), "-c", "true")
		c.after = func() error { return s.halt(jail) }
		return c
	}
	keys, plain := first("keys", uidCold), first("plain", uidFlat)
	if err := interleave(b.n(150, 25), b.share(), keys, plain); err != nil {
		return s.because(err)
	}
	for _, c := range []*contestant{keys, plain} {
		c.err = s.because(c.err)
	}
	plain.name = "without the keys"
	b.race("network: first command in a stopped jail with the keys", keys, plain, nil, nil, "≤ 1.05 × without", plain, 1.05)
	return nil
}

// networkMany loads what a thousand jails own.
func (b *bench) networkMany() error {
	began := time.Now()
	if _, err := netload.Apply(netPins, netPlan(1000)); err != nil {
		return err
	}
	load := time.Since(began)
	began = time.Now()
	if _, err := netload.Apply(netPins, netPlan(1000)); err != nil {
		return err
	}
	again := time.Since(began)
	size, err := netload.Memory(netPins)
	if err != nil {
		return err
	}
	b.table.add(line{what: "network: loading 1,000 jails", value: duration(load), note: fmt.Sprintf("%s for a reload; maps and programs have %.1f MiB", duration(again), float64(size)/(1<<20))})
	return nil
}

// networkPipe is one TCP connection over the loopback, of the host's without the programs
// and of a jail's with them.
func (b *bench) networkPipe(rounds int) error {
	const size = 256 << 20
	var alone, inside []time.Duration
	for n := range rounds {
		for _, with := range []bool{n%2 == 1, n%2 == 0} { // who is first has the other's processor caches
			plan, list := &network.Plan{}, &alone
			if with {
				plan, list = netPlan(1), &inside
			}
			if _, err := netload.Apply(netPins, plan); err != nil {
				return err
			}
			time.Sleep(50 * time.Millisecond)
			d, err := netTransfer(size)
			if err != nil {
				return err
			}
			*list = append(*list, d)
		}
	}
	quick, slow := median(alone), median(inside)
	share := float64(quick) / float64(slow)
	b.table.add(line{what: "network: 256 MiB over the loopback, without the programs", value: duration(quick)})
	b.table.add(line{what: "in a jail with a loopback of its own", value: duration(slow), floor: ratio(float64(slow), float64(quick)), target: "≥ 0.98 of the rate", met: yesNo(share >= 0.98), below: true})
	return nil
}

// asUID does something with another real uid, which is what the programs see.
func asUID(uid uint32, f func() error) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), 0, 0); errno != 0 {
		return errno
	}
	err := f()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno != 0 {
		return errors.Join(err, errno)
	}
	return err
}

func netBatch(c netCall, uid uint32, n int) (d time.Duration, err error) {
	err = asUID(uid, func() error {
		began := time.Now()
		for range n {
			if err := c.do(); err != nil {
				return err
			}
		}
		d = time.Since(began)
		return nil
	})
	return d, err
}

func netCalls() []netCall {
	loopback := [4]byte{127, 0, 0, 1}
	with := func(kind int, f func(fd int) error) func() error {
		return func() error {
			fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if f != nil {
				err = f(fd)
			}
			unix.Close(fd)
			return err
		}
	}
	return []netCall{
		{"socket", with(unix.SOCK_DGRAM, nil)},
		{"bind on the loopback", with(unix.SOCK_STREAM, func(fd int) error { return unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}) })},
		// UDP, which sends nothing: what is measured is the judging.
		{"connect on the loopback", with(unix.SOCK_DGRAM, func(fd int) error { return unix.Connect(fd, &unix.SockaddrInet4{Port: netPort, Addr: loopback}) })},
		{"connect elsewhere", with(unix.SOCK_DGRAM, func(fd int) error {
			return unix.Connect(fd, &unix.SockaddrInet4{Port: netPort, Addr: [4]byte(net.ParseIP(netOutside).To4())})
		})},
	}
}

// netTransfer sends size bytes from one socket to another of a jail's on its loopback.
func netTransfer(size int) (d time.Duration, err error) {
	err = asUID(netBase+1000, func() error {
		l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(l)
		addr := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
		if err := errors.Join(unix.Bind(l, addr), unix.Listen(l, 1)); err != nil {
			return err
		}
		name, err := unix.Getsockname(l)
		if err != nil {
			return err
		}
		addr.Port = name.(*unix.SockaddrInet4).Port
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		to := os.NewFile(uintptr(c), "client")
		defer to.Close()
		if err := unix.Connect(c, addr); err != nil {
			return err
		}
		s, _, err := unix.Accept(l)
		if err != nil {
			return err
		}
		from := os.NewFile(uintptr(s), "server")
		defer from.Close()
		read := make(chan error, 1)
		began := time.Now()
		go func() {
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(from, int64(size)), make([]byte, 256<<10))
			read <- err
		}()
		block := []byte(strings.Repeat("x", 256<<10))
		for sent := 0; sent < size; sent += len(block) {
			if _, err := to.Write(block); err != nil {
				return err
			}
		}
		err = <-read
		d = time.Since(began)
		return err
	})
	return d, err
}
