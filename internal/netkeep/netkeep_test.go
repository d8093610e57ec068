package netkeep

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
	"jail/internal/jail"
	"jail/internal/network"
)

// kept is a Keeper whose jail-net answers as it is told, and the requests it gets.
func kept(t *testing.T, answer func() (network.Answer, error)) (*Keeper, *[]*network.Request) {
	t.Helper()
	var asked []*network.Request
	k := New(t.TempDir())
	k.resolvConf = filepath.Join(t.TempDir(), "resolv.conf")
	k.pins = filepath.Join(t.TempDir(), "pins")
	k.ask = func(q *network.Request) (network.Answer, error) {
		asked = append(asked, q)
		return answer()
	}
	return k, &asked
}

func registry(jails ...jail.Spec) *config.Registry {
	return &config.Registry{Jails: jails, Reserved: []jail.Ports{{First: 9, Last: 9, TCP: true}}}
}

var (
	plain = jail.Spec{Name: "plain", Userns: jail.Userns{Enabled: true, Base: 1 << 20, Size: 65536}}
	web   = jail.Spec{Name: "web", Network: jail.Network{ID: 5, OwnLoopback: true}}
	mail  = jail.Spec{Name: "mail", Network: jail.Network{ID: 6, OwnPorts: true}}
)

// pinned makes what jail-net leaves.
func pinned(t *testing.T, k *Keeper, layout string, links int) {
	t.Helper()
	dir := filepath.Join(k.pins, layout)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for i := range links {
		require.NoError(t, os.WriteFile(filepath.Join(dir, network.LinkPrefix+string(rune('a'+i))), nil, 0o600))
	}
}

func TestNobodyHasKeys(t *testing.T) {
	k, asked := kept(t, func() (network.Answer, error) { return network.Answer{}, errors.New("not asked") })
	nobody := &config.Registry{Jails: []jail.Spec{plain}}
	require.NoError(t, k.Apply(nobody))
	assert.Empty(t, *asked, "most hosts")
	assert.NoError(t, k.Refused(&plain))
	assert.False(t, k.stale())

	pinned(t, k, "1-1", 1) // of a time when there were some
	assert.ErrorContains(t, k.Apply(nobody), "not asked")
	require.Len(t, *asked, 1)
	assert.Empty(t, (*asked)[0].Plan)
	assert.ErrorContains(t, k.Apply(registry(plain)), "not asked", "something is reserved")
	require.Len(t, *asked, 2)
	assert.Equal(t, "plain", (*asked)[1].Plan.Jails[0].Name)
	assert.NoError(t, k.Refused(&plain), "is no worse for it")
}

// A jail with keys starts only if all that they promise is in the kernel.
func TestFailClosed(t *testing.T) {
	var err error
	a := network.Answer{}
	k, _ := kept(t, func() (network.Answer, error) { return a, err })
	assert.ErrorContains(t, k.Refused(&web), "it is not loaded yet; jail reload")

	err = errors.New("no BPF here")
	assert.ErrorIs(t, k.Apply(registry(web, plain)), err)
	assert.ErrorContains(t, k.Refused(&web), "its network (ports, loopback, network) cannot be its own: no BPF here")
	assert.NoError(t, k.Refused(&plain))

	err = nil
	require.NoError(t, k.Apply(registry(web, plain)))
	assert.ErrorContains(t, k.Refused(&web), "jail reload loads it again", "nothing is pinned")
	pinned(t, k, "1-2", network.Programs-1)
	assert.ErrorContains(t, k.Refused(&web), "programs are missing there; jail reload")
	pinned(t, k, "1-2", network.Programs)
	assert.NoError(t, k.Refused(&web))
	assert.ErrorContains(t, k.Refused(&mail), "not loaded yet")
	other := web
	other.Network.ID = 7
	assert.ErrorContains(t, k.Refused(&other), "not loaded yet", "the addresses are another's")

	a.Refused = map[string]string{"web": "somebody has its addresses"}
	require.NoError(t, k.Apply(registry(web, mail)))
	assert.ErrorContains(t, k.Refused(&web), "somebody has its addresses")
	assert.NoError(t, k.Refused(&mail))

	require.NoError(t, os.RemoveAll(filepath.Join(k.pins, "1-2")))
	pinned(t, k, "2-1", network.Programs)
	assert.ErrorContains(t, k.Refused(&mail), "programs are missing", "of another layout")
}

func TestStale(t *testing.T) {
	a := network.Answer{Unsettled: true}
	k, asked := kept(t, func() (network.Answer, error) { return a, nil })
	require.NoError(t, k.Apply(registry(web)))
	assert.True(t, k.stale(), "somebody is still there")
	a.Unsettled = false
	require.NoError(t, k.Again())
	assert.False(t, k.stale())
	require.NoError(t, k.Again(), "of two who saw it one does it")
	require.NoError(t, os.WriteFile(k.resolvConf, []byte("nameserver 127.0.0.53\n"), 0o600))
	assert.True(t, k.stale(), "the host's name server is another")
	require.NoError(t, k.Again())
	assert.False(t, k.stale())
	require.Len(t, *asked, 3)
	last := (*asked)[2]
	require.Len(t, last.Plan.Jails, 1)
	assert.Equal(t, "127.0.0.53", last.Plan.Jails[0].Opened[0].Address.String())
	assert.Equal(t, registry().Reserved, last.Plan.Reserved)
	assert.Equal(t, k.pins, last.Pins)
}

func TestPins(t *testing.T) {
	assert.Equal(t, "/sys/fs/bpf/jail", Pins("/run/jail/"))
	a, b := Pins("/run/a"), Pins("/run/b")
	assert.NotEqual(t, a, b)
	assert.Regexp(t, `^/sys/fs/bpf/jail-[0-9a-f]{8}$`, a)
}

// TestSettle: a process that is there longer than its jail keeps what it has, and no longer,
// though nobody tells that it has ended.
func TestSettle(t *testing.T) {
	answers, looks := []bool{true, true, true, false}, 0
	k, asked := kept(t, func() (network.Answer, error) {
		unsettled := answers[min(looks, len(answers)-1)]
		looks++
		return network.Answer{Unsettled: unsettled}, nil
	})
	k.pause = time.Millisecond
	require.NoError(t, k.Apply(registry(mail)))
	require.True(t, k.stale())
	require.NoError(t, k.Settle())
	assert.False(t, k.stale())
	assert.Len(t, *asked, 4)
	require.NoError(t, k.Settle())
	assert.Len(t, *asked, 4, "nothing is left to do")

	looks = 0
	require.NoError(t, k.Apply(registry(mail)))
	k.settling.Lock()
	require.NoError(t, k.Settle())
	assert.Equal(t, 2, looks, "one of two goes on looking")
}

// A jail that has the host's ids is known by its cgroup, or does not start.
func TestEnter(t *testing.T) {
	k, asked := kept(t, func() (network.Answer, error) { return network.Answer{}, nil })
	rooted := jail.Spec{Name: "rooted", Network: jail.Network{ID: 8, OwnPorts: true}}
	bare := jail.Spec{Name: "bare"}
	assert.NoError(t, k.Enter(&bare, 0, "no place"), "nobody has keys")
	k.Left(7)

	k.Follow(func(name string) string { return "/cg/" + name })
	require.NoError(t, k.Apply(registry(rooted, bare, plain)))
	plan := (*asked)[0].Plan.Jails
	assert.Equal(t, []string{"/cg/rooted", "/cg/bare", ""}, []string{plan[0].Cgroup, plan[1].Cgroup, plan[2].Cgroup})
	err := k.Enter(&rooted, 0, "no place")
	assert.ErrorContains(t, err, "its network (ports, loopback, network) cannot be its own: with userns = false it is known by its cgroup, and has none: no place")
	assert.NoError(t, k.Enter(&bare, 0, "no place"), "it starts as it is")
	assert.ErrorContains(t, k.Enter(&rooted, 7, ""), "jail reload loads it again", "nothing is pinned")
	pinned(t, k, "1-1", network.Programs)
	require.NoError(t, os.WriteFile(k.lock, nil, 0o600))
	assert.ErrorContains(t, k.Enter(&rooted, 7, ""), "1-1/map_cgroup: no such file or directory; jail reload", "no such map")
	assert.NoError(t, k.Enter(&bare, 7, ""))
	other := rooted
	other.Network.ID = 9
	assert.ErrorContains(t, k.Enter(&other, 7, ""), "not loaded yet", "of another registry")
}
