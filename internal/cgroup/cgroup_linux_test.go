package cgroup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
)

// What the kernel does with all this is tried on a machine that has the unified
// hierarchy: packaging/vm.

func TestFind(t *testing.T) {
	const m = "/sys/fs/cgroup"
	for name, c := range map[string]struct {
		self      string
		delegated []string
		life      Life
		want      place
		why       string
	}{
		"jail.service, whose jails outlive it, uses the unit for them": {
			self: "0::/system.slice/jail.service\n", delegated: []string{m + "/system.slice/jail.service", m + "/system.slice/" + Unit},
			want: place{dir: m + "/system.slice/" + Unit, vacate: true},
		},
		"the unit is in the same slice": {
			self: "0::/tenants.slice/jail.service\n", delegated: []string{m + "/tenants.slice/" + Unit, m + "/system.slice/" + Unit},
			want: place{dir: m + "/tenants.slice/" + Unit, vacate: true},
		},
		"or in system.slice": {
			self: "0::/user.slice/user-0.slice/session-1.scope\n", delegated: []string{m + "/system.slice/" + Unit},
			want: place{dir: m + "/system.slice/" + Unit, vacate: true},
		},
		"without the unit there is no place, since its own would never take a process again": {
			self: "0::/system.slice/jail.service\n", delegated: []string{m + "/system.slice/jail.service"},
			why: "systemctl start " + Unit,
		},
		"a jail that ends with its unit is below that": {
			self: "0::/system.slice/jail@7.service\n", delegated: []string{m + "/system.slice/jail@7.service", m + "/system.slice/" + Unit}, life: Within,
			want: place{dir: m + "/system.slice/jail@7.service", vacate: true},
		},
		"what is not delegated is not divided": {
			self: "0::/user.slice/user-0.slice/session-1.scope\n", life: Within, why: "Delegate=yes",
		},
		"a process that moved into the leaf finds its place again": {
			self: "0::/system.slice/jail@7.service/supervisor\n", life: Within,
			want: place{dir: m + "/system.slice/jail@7.service"},
		},
		"DelegateSubgroup=supervisor": {
			self: "0::/system.slice/own.service/supervisor\n", want: place{dir: m + "/system.slice/own.service"},
		},
		"hybrid: the line of the unified hierarchy counts": {
			self: "9:name=systemd:/a\n2:pids:/b\n0::/c/supervisor\n", want: place{dir: m + "/c"},
		},
		"legacy hierarchies only":               {self: "2:pids:/b\n", why: "in no cgroup of the unified hierarchy"},
		"outside its cgroup namespace":          {self: "0::/../x/supervisor\n", why: "in no cgroup of the unified hierarchy"},
		"a cgroup that is gone":                 {self: "0::/x/supervisor (deleted)\n", why: "in no cgroup of the unified hierarchy"},
		"a path that does not begin with slash": {self: "0::supervisor\n", why: "in no cgroup of the unified hierarchy"},
	} {
		t.Run(name, func(t *testing.T) {
			got, why := find(m, c.self, c.life, func(dir string) bool {
				for _, d := range c.delegated {
					if d == dir {
						return true
					}
				}
				return false
			})
			assert.Equal(t, c.want, got)
			if c.why == "" {
				assert.Empty(t, why)
			} else {
				assert.Contains(t, why, c.why)
			}
		})
	}
}

func TestFindInTheRootCgroup(t *testing.T) {
	root := t.TempDir()
	no := func(string) bool { return false }
	got, why := find(root, "0::/\n", Outlive, no)
	assert.Empty(t, why)
	assert.Equal(t, place{dir: filepath.Join(root, "jail"), create: true}, got)

	require.NoError(t, os.WriteFile(filepath.Join(root, "cgroup.type"), []byte("domain\n"), 0o600))
	got, why = find(root, "0::/\n", Outlive, no)
	assert.Empty(t, why)
	assert.Equal(t, place{dir: root, vacate: true}, got, "the root of a namespace is none")
}

func TestSettings(t *testing.T) {
	for name, c := range map[string]struct {
		limits jail.Limits
		want   []setting
	}{
		"the default": {want: []setting{{"pids.max", "4104", false}}},
		"none":        {jail.Limits{PidsUnlimited: true}, nil},
		"all": {jail.Limits{MemoryBytes: 64 << 20, CPUPercent: 150, Pids: 7}, []setting{
			{"memory.max", "67108864", true}, {"memory.swap.max", "0", true}, {"cpu.max", "150000 100000", true}, {"pids.max", "15", true},
		}},
		"a share of the disk": {jail.Limits{IOWeight: 100, PidsUnlimited: true}, []setting{{"io.weight", "default 100", true}, {"io.bfq.weight", "100", false}}},
		"the least of it":     {jail.Limits{IOWeight: 1, PidsUnlimited: true}, []setting{{"io.weight", "default 1", true}, {"io.bfq.weight", "1", false}}},
		"the most of it":      {jail.Limits{IOWeight: jail.MaxIOWeight, PidsUnlimited: true}, []setting{{"io.weight", "default 10000", true}, {"io.bfq.weight", "1000", false}}},
		"the most": {jail.Limits{MemoryBytes: 1<<63 - 1, CPUPercent: 1<<32 - 1, Pids: 4 << 20}, []setting{
			{"memory.max", "9223372036854775807", true}, {"memory.swap.max", "0", true},
			{"cpu.max", "4294967295000 100000", true}, {"pids.max", "4194312", true},
		}},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, settings(&c.limits)) })
	}
}

// A directory that is no cgroup has no file of one: it shows that nothing is
// written where nothing is, and that nothing is left behind.
func TestMakeWithoutControllers(t *testing.T) {
	b := &Base{current: &divided{dir: t.TempDir(), enabled: map[string]bool{}}}
	dir := b.current.of("x")

	g, warning, err := b.Make(&jail.Spec{Name: "x"}, false)
	require.NoError(t, err, "the default is promised to nobody")
	assert.Empty(t, warning, "Warning has said it")
	assert.DirExists(t, dir)
	assert.GreaterOrEqual(t, g.FD(), 0)
	g.Close()
	assert.Equal(t, -1, g.FD())
	assert.Zero(t, b.OOMKills("x"), "no memory controller")
	events := filepath.Join(dir, "memory.events")
	require.NoError(t, os.WriteFile(events, []byte("low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n"), 0o600))
	assert.EqualValues(t, 5, b.OOMKills("x"))
	require.NoError(t, os.Remove(events))
	b.RemoveFor("x")
	assert.NoDirExists(t, dir)
	assert.Contains(t, b.Warning(), "no pids controller")

	for name, limits := range map[string]jail.Limits{"memory": {MemoryBytes: 1 << 20}, "cpu": {CPUPercent: 1}, "pids": {Pids: 1}, "io": {IOWeight: 1}} {
		_, _, err = b.Make(&jail.Spec{Name: "x", Limits: limits}, false)
		assert.ErrorContains(t, err, "limits: the cgroup "+b.current.dir+" has no "+name+" controller", name)
		assert.NoDirExists(t, dir, name)
	}

	require.NoError(t, os.Mkdir(dir, 0o700))
	b.Sweep()
	assert.NoDirExists(t, dir)
}

func TestMakeWithoutAPlace(t *testing.T) {
	b := &Base{life: Alone}
	b.look()
	g, warning, err := b.Make(&jail.Spec{Name: "x"}, false)
	require.NoError(t, err)
	assert.Empty(t, warning)
	assert.Nil(t, g)
	assert.Equal(t, -1, g.FD())
	g.Close()
	g.Remove()
	_, _, err = b.Make(&jail.Spec{Name: "x", Limits: jail.Limits{Pids: 1}}, false)
	assert.ErrorContains(t, err, "limits: they cannot be kept, since")
	assert.ErrorContains(t, err, "; or remove them")
}

// TestChange: each file of a running jail's cgroup gets what the limits say now, also that
// there is none any more.
func TestChange(t *testing.T) {
	b := &Base{current: &divided{dir: t.TempDir(), enabled: map[string]bool{"memory": true, "cpu": true, "pids": true}}}
	dir := b.current.of("x")
	assert.ErrorContains(t, b.Change("x", &jail.Limits{Pids: 7}), "was started without a cgroup")
	require.NoError(t, os.Mkdir(dir, 0o700))
	files := []string{"memory.max", "memory.swap.max", "cpu.max", "pids.max"}
	for _, f := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), nil, 0o600))
	}
	for _, c := range []struct {
		limits jail.Limits
		want   []string
	}{
		{jail.Limits{MemoryBytes: 64 << 20, CPUPercent: 150, Pids: 7}, []string{"67108864", "0", "150000 100000", "15"}},
		{jail.Limits{MemoryBytes: 1 << 30}, []string{"1073741824", "0", "max 100000", "4104"}},
		{jail.Limits{PidsUnlimited: true}, []string{"max", "max", "max 100000", "max"}},
	} {
		require.NoError(t, b.Change("x", &c.limits))
		for i, f := range files {
			text, err := os.ReadFile(filepath.Join(dir, f))
			require.NoError(t, err)
			assert.Equal(t, c.want[i], string(text)[:len(c.want[i])], "%s of %+v", f, c.limits)
			require.NoError(t, os.Truncate(filepath.Join(dir, f), 0))
		}
	}

	// Shares of the disk are turned on when they are first wanted, and not before.
	control := filepath.Join(b.current.dir, "cgroup.subtree_control")
	require.NoError(t, os.WriteFile(control, []byte("memory cpu pids"), 0o600))
	require.NoError(t, b.Change("x", &jail.Limits{}))
	text, err := os.ReadFile(control)
	require.NoError(t, err)
	assert.Equal(t, "memory cpu pids", string(text))
	assert.ErrorContains(t, b.Change("x", &jail.Limits{IOWeight: 50}), "has no io controller to give")
	text, err = os.ReadFile(control)
	require.NoError(t, err)
	assert.Equal(t, "+ioory cpu pids", string(text), "it was asked for")
	require.NoError(t, os.WriteFile(control, []byte("memory cpu pids io"), 0o600))
	b.current.enabled = map[string]bool{"memory": true, "cpu": true, "pids": true, "io": true}
	assert.ErrorContains(t, b.Change("x", &jail.Limits{IOWeight: 50}), "this kernel keeps no shares of a disk")
	require.NoError(t, b.Change("x", &jail.Limits{}), "who wants none misses none")
	for _, c := range []struct {
		weight uint32
		want   [2]string
	}{{50, [2]string{"default 50", "50"}}, {0, [2]string{"default 100", "100"}}} {
		for i, f := range []string{"io.weight", "io.bfq.weight"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, f), nil, 0o600))
			require.NoError(t, b.Change("x", &jail.Limits{IOWeight: c.weight}))
			text, err := os.ReadFile(filepath.Join(dir, f))
			require.NoError(t, err)
			assert.Equal(t, c.want[i], string(text))
		}
	}

	require.NoError(t, os.Truncate(filepath.Join(dir, "pids.max"), 0))

	// What this machine cannot keep is said, and the rest holds.
	require.NoError(t, os.Remove(filepath.Join(dir, "memory.max")))
	delete(b.current.enabled, "memory")
	err = b.Change("x", &jail.Limits{MemoryBytes: 1 << 30, Pids: 9})
	assert.ErrorContains(t, err, "limits: the cgroup "+b.current.dir+" has no memory controller")
	text, _ = os.ReadFile(filepath.Join(dir, "pids.max"))
	assert.Equal(t, "17", string(text))
	assert.NoError(t, b.Change("x", &jail.Limits{Pids: 9}))

	b = &Base{why: "nobody has one"}
	assert.NoError(t, b.Change("x", &jail.Limits{}))
	assert.ErrorContains(t, b.Change("x", &jail.Limits{Pids: 1}), "since nobody has one")
}

// marks are what a Base tells of cgroups.
type marks struct {
	entered map[string]uint64
	why     string
	left    []uint64
	err     error
}

func (m *marks) Enter(spec *jail.Spec, id uint64, why string) error {
	m.entered[spec.Name], m.why = id, why
	return m.err
}

func (m *marks) Left(id uint64) { m.left = append(m.left, id) }

// A jail that has the host's ids is known by its cgroup, which is told of before there is a
// process in it, and when it has gone. Others are not.
func TestMarks(t *testing.T) {
	m := &marks{entered: map[string]uint64{}}
	b := &Base{current: &divided{dir: t.TempDir(), enabled: map[string]bool{}}}
	b.Mark(m)
	plain, owner := &jail.Spec{Name: "x"}, &jail.Spec{Name: "y", Network: jail.Network{OwnPorts: true}}
	for _, spec := range []*jail.Spec{plain, {Name: "z", Userns: jail.Userns{Enabled: true}}} {
		g, _, err := b.Make(spec, false)
		require.NoError(t, err)
		g.Close()
	}
	id, err := ID(b.DirOf("x"))
	require.NoError(t, err)
	assert.Equal(t, map[string]uint64{"x": id}, m.entered)
	b.RemoveFor("x")
	assert.Equal(t, []uint64{id}, m.left)

	// A directory that is no cgroup has no cgroup.max.descendants.
	_, _, err = b.Make(owner, false)
	require.NoError(t, err, "the marks decide")
	assert.Zero(t, m.entered["y"])
	assert.Contains(t, m.why, "cgroup")
	m.err = assert.AnError
	_, _, err = b.Make(plain, false)
	assert.ErrorIs(t, err, assert.AnError)
	assert.NoDirExists(t, b.DirOf("x"))

	m.err, m.entered = nil, map[string]uint64{}
	b = &Base{life: Alone}
	b.Mark(m)
	b.look()
	g, _, err := b.Make(owner, false)
	require.NoError(t, err)
	assert.Nil(t, g)
	assert.Equal(t, map[string]uint64{"y": 0}, m.entered)
	assert.Contains(t, m.why, "the jail runs on by itself")
	assert.Empty(t, b.DirOf("y"))

	for spec, want := range map[*jail.Spec]bool{
		plain: false, owner: true,
		{Network: jail.Network{OwnPorts: true}, Userns: jail.Userns{Enabled: true}}:     false,
		{Network: jail.Network{None: true}, Limits: jail.Limits{Pids: 1}}:               true,
		{Limits: jail.Limits{MemoryBytes: 1}, Userns: jail.Userns{Enabled: true}}:       true,
		{Limits: jail.Limits{Pids: 1}, Userns: jail.Userns{Enabled: true}, Name: "uid"}: false,
	} {
		assert.Equal(t, want, Needs(spec, spec.Userns.Enabled), "%+v", spec)
	}
}

// The unified hierarchy is also beside others, and not where something is mounted over it.
func TestRoot(t *testing.T) {
	info := filepath.Join(t.TempDir(), "mountinfo")
	for _, lines := range []string{
		"24 1 0:22 / /sys rw - sysfs sysfs rw\n25 1 0:23 / /nowhere rw - cgroup2 none rw\n",
		"25 1 0:23 / " + t.TempDir() + " rw - cgroup2 none rw\n",
		"", "x\n - cgroup2 \n",
	} {
		require.NoError(t, os.WriteFile(info, []byte(lines), 0o600))
		_, err := Root(info)
		assert.ErrorContains(t, err, "the unified hierarchy of cgroups is not mounted", lines)
	}
	_, err := Root(info + "x")
	assert.ErrorIs(t, err, os.ErrNotExist)
}
