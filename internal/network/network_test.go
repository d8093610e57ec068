package network

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
)

func TestAddresses(t *testing.T) {
	for id, want := range map[uint16][2]string{
		1:                {"127.64.0.1", "fd6a:6169:6c00::1"},
		2:                {"127.64.4.1", "fd6a:6169:6c00::2"},
		jail.MaxNetworks: {"127.127.252.1", "fd6a:6169:6c00::1000"},
	} {
		assert.Equal(t, want, [2]string{Address4(id).String(), Address6(id).String()})
	}
	pool := netip.MustParsePrefix("127.64.0.0/10")
	assert.True(t, pool.Contains(Address4(1)) && pool.Contains(Address4(jail.MaxNetworks)))
}

func TestNumbers(t *testing.T) {
	var n Numbers
	first, ok := n.Take("web")
	require.True(t, ok)
	assert.False(t, n.Keep(first), "it is taken")
	second, _ := n.Take("web")
	assert.Equal(t, first%jail.MaxNetworks+1, second, "the next")
	for _, id := range []uint16{0, jail.MaxNetworks + 1} {
		assert.False(t, n.Keep(id), "%d", id)
	}
	for range jail.MaxNetworks - 2 {
		id, ok := n.Take("x")
		require.True(t, ok)
		require.NotZero(t, id)
	}
	_, ok = n.Take("one more")
	assert.False(t, ok)
}

func TestPrefixes(t *testing.T) {
	assert.Equal(t, []Prefix{{0x70000000, 16}}, Prefixes(0x70000000, 65536))
	assert.Equal(t, []Prefix{{1000, 32}}, Prefixes(1000, 1))
	assert.Empty(t, Prefixes(5, 0))
	for _, r := range [][2]uint32{{200000, 65536}, {1, 7}, {0xfffffff0, 15}, {99999, 100001}, {1 << 31, 1 << 31}} {
		covered := uint64(0)
		at := uint64(r[0])
		for _, p := range Prefixes(r[0], r[1]) {
			size := uint64(1) << (32 - p.Bits)
			require.Equal(t, at, uint64(p.Base), "%v: without a gap", r)
			require.Zero(t, at%size, "%v: a prefix", r)
			assert.True(t, p.Contains(uint32(at)) && p.Contains(uint32(at+size-1)) && !p.Contains(uint32(at-1)), "%v", r)
			covered, at = covered+size, at+size
			require.Equal(t, p, PrefixOf(p.Key()))
		}
		assert.Equal(t, uint64(r[1]), covered, "%v", r)
	}
}

func TestEphemeral(t *testing.T) {
	local := Range{32768, 60999}
	for _, c := range []struct{ ports, reserved, want string }{
		{"80", "", ""}, {"32768", "", "32768"}, {"60999-61010", "", "60999"}, {"30000-40000/udp", "32768-39998", "39999-40000"},
		{"45000", "45000", ""}, {"1-65535", "", "32768-60999"}, {"32767", "", ""}, {"40000-40004", "40002", "40000-40001,40003-40004"},
	} {
		p, err := ParsePorts(c.ports)
		require.NoError(t, err)
		reserved, err := ParseReserved(c.reserved + "\n")
		require.NoError(t, err)
		assert.Equal(t, c.want, FormatRanges(Ephemeral([]jail.Ports{p}, local, reserved)), c.ports)
	}
	_, err := ParseRange("1 2 3")
	assert.Error(t, err)
	_, err = ParseRange("1 99999")
	assert.Error(t, err)
	_, err = ParseReserved("8080,x")
	assert.Error(t, err)
}

func TestPlan(t *testing.T) {
	ports := func(s string) jail.Ports {
		p, err := ParsePorts(s)
		require.NoError(t, err)
		return p
	}
	jails := []jail.Spec{
		{Name: "plain", Userns: jail.Userns{Enabled: true, Base: 1 << 20, Size: 65536}},
		{Name: "mail", Userns: jail.Userns{Enabled: true, Base: 1 << 21, Size: 65536}, Logins: []jail.Login{{HostUID: 1000}},
			Network: jail.Network{ID: 7, OwnPorts: true, Ports: []jail.Ports{ports("25"), ports("53/udp")}, OwnLoopback: true, Opened: []jail.Ports{ports("5432/tcp")}, PrivateUnowned: true}},
		{Name: "alone", Userns: jail.Userns{Enabled: true, Base: 1 << 22, Size: 65536}, Network: jail.Network{ID: 9, OwnPorts: true, OwnLoopback: true, PrivateUnowned: true, None: true}},
		{Name: "own", OwnResolver: true, Userns: jail.Userns{Enabled: true, Base: 1 << 23, Size: 65536}, Network: jail.Network{ID: 11, OwnLoopback: true}},
	}
	resolvers := Resolvers([]byte("# x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch x\nnameserver what\n"))
	require.Len(t, resolvers, 4)
	p := Make(jails, []jail.Ports{ports("3306")}, resolvers)
	require.Len(t, p.Jails, 4, "the others keep off what is somebody's")

	uids := p.UIDs()
	assert.Len(t, uids, 5)
	plain := uids[Prefix{1 << 20, 16}.Key()]
	assert.Equal(t, uint32(plainID), native.Uint32(plain[JailID:]))
	assert.Equal(t, make([]byte, JailSize-4), plain[4:])
	assert.Zero(t, IDOf(plain))
	mail := uids[Prefix{1000, 32}.Key()]
	assert.Equal(t, mail, uids[Prefix{1 << 21, 16}.Key()], "a login is its jail")
	assert.Equal(t, uint32(7), native.Uint32(mail[JailID:]))
	assert.Equal(t, uint32(0x7f401800), native.Uint32(mail[JailBlock:]))
	assert.Equal(t, uint32(FlagPorts|FlagLoopback|FlagPrivate), native.Uint32(mail[JailFlags:]))
	assert.Equal(t, "fd6a:6169:6c00::7", netip.AddrFrom16([16]byte(mail[JailAddress6:])).String())
	alone := uids[Prefix{1 << 22, 16}.Key()]
	assert.Equal(t, uint32(FlagPorts|FlagLoopback|FlagPrivate|FlagNone), native.Uint32(alone[JailFlags:]))

	owners := p.Owners()
	assert.Equal(t, map[uint16]Owner{25: {7, 7}, 53: {0, 7}, 3306: {reservedOwner, reservedOwner}}, owners)
	assert.Equal(t, owners[53], OwnerOf(owners[53].Value()))

	opened, err := p.Opened()
	require.NoError(t, err)
	want := map[[OpenSize]byte]bool{}
	for _, a := range []string{"127.0.0.1", "::1"} {
		want[openKey(7, netip.MustParseAddr(a), 5432, 6)] = true
	}
	for _, a := range []string{"127.0.0.53", "::1"} {
		want[openKey(7, netip.MustParseAddr(a), 53, 6)] = true
		want[openKey(7, netip.MustParseAddr(a), 53, 17)] = true
	}
	assert.Equal(t, want, opened, "not for who has no network, nor for who has its own resolv.conf")
	k := openKey(7, netip.MustParseAddr("127.0.0.53"), 53, 17)
	assert.Equal(t, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 53}, k[4:20], "as the kernel's programs write it")
	assert.Equal(t, uint16(53), binary.NativeEndian.Uint16(k[20:]))

	assert.Len(t, Make(jails[:1], []jail.Ports{ports("3306")}, resolvers).Jails, 1, "something is reserved")
	assert.Empty(t, Make(jails[:1], nil, resolvers), "nobody has keys")
	rooted := Make(append([]jail.Spec{{Name: "root mode", Logins: []jail.Login{{HostUID: 1001}}}}, jails...), nil, nil)
	require.Len(t, rooted.Jails, 5)
	assert.True(t, rooted.Jails[0].ByCgroup, "who has the host's ids is told by the cgroup")
	assert.Equal(t, []Prefix{{1001, 32}}, rooted.Jails[0].UIDs, "and by no uid but its logins'")
	assert.False(t, rooted.Jails[1].ByCgroup)
	assert.Equal(t, uint64(1<<40+7), CgroupOf(CgroupKey(1<<40+7)))

	for i := range 300 {
		n := jail.Network{ID: uint16(i + 1), OwnLoopback: true, Opened: []jail.Ports{ports("1-256")}}
		jails = append(jails, jail.Spec{Name: "x", Network: n})
	}
	many := Make(jails[4:], nil, nil)
	_, err = many.Opened()
	assert.ErrorContains(t, err, "open more than the 65536 ports")
}
