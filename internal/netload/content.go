package netload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

	"jail/internal/cgroup"
	"jail/internal/jail"
	"jail/internal/network"
)

// content is what the maps are to hold besides, or instead of, the plan.
type content struct {
	kept      map[[network.UIDSize]byte][network.JailSize]byte // of who has processes still
	cgroups   map[[network.CgroupSize]byte][network.JailSize]byte
	byCgroup  bool            // there are jails that are known by their cgroup
	stay      map[uint16]bool // who is no more in the plan, and has processes
	ids       map[uint16]bool // who has addresses
	refused   map[string]string
	unsettled bool
}

// look compares the plan with what is there. Who is no more in it, or is out of service,
// stays what it was while it has processes: the registry is changed in a moment, and they go
// on. So are its ports.
func (l *loaded) look(plan *network.Plan, root string) (*content, error) {
	c := &content{kept: map[[network.UIDSize]byte][network.JailSize]byte{}, cgroups: map[[network.CgroupSize]byte][network.JailSize]byte{},
		stay: map[uint16]bool{}, ids: map[uint16]bool{}, refused: map[string]string{}}
	named := names(plan)
	for id := range named {
		c.ids[id] = true
	}
	if err := l.lookAtCgroups(plan, named, c, root); err != nil {
		return nil, fmt.Errorf("BPF map jail_cgroup: %w", err)
	}
	want := plan.UIDs()
	var uids []uint32
	var key [network.UIDSize]byte
	var value [network.JailSize]byte
	entries := l.maps["uid"].Iterate()
	for entries.Next(&key, &value) {
		if _, stays := want[key]; stays {
			continue
		}
		if uids == nil && network.IDOf(value) != 0 {
			var err error
			if uids, err = usedUIDs(); err != nil {
				return nil, err
			}
		}
		prefix, id := network.PrefixOf(key), network.IDOf(value)
		if id == 0 || !slices.ContainsFunc(uids, prefix.Contains) {
			continue
		}
		c.kept[key], c.ids[id], c.stay[id], c.unsettled = value, true, true, true
		if name := named[id]; name != "" && prefix.Bits < 32 {
			c.refused[name] = stillHas
		}
	}
	return c, entries.Err()
}

// stillHas is why a jail must not start.
const stillHas = "processes of a jail that has gone, or of another range of ids, still have its addresses; it can start when they have ended"

// lookAtCgroups finds the cgroups of jails that have the host's ids, which are there while
// the jails run: by their directories, and by what is in the map already, since whoever starts
// a jail has put its cgroup there.
func (l *loaded) lookAtCgroups(plan *network.Plan, named map[uint16]string, c *content, root string) error {
	jails := map[uint16]*network.Jail{}
	for i := range plan.Jails {
		j := &plan.Jails[i]
		if !j.ByCgroup {
			continue
		}
		c.byCgroup = true
		if j.ID != 0 {
			jails[j.ID] = j
		}
		if j.Cgroup == "" {
			continue
		}
		if id, err := cgroup.ID(j.Cgroup); err == nil {
			c.cgroups[network.CgroupKey(id)] = j.Value()
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	top, err := os.Open(root)
	if err != nil {
		return err
	}
	defer top.Close()
	var key [network.CgroupSize]byte
	var value [network.JailSize]byte
	entries := l.maps["cgroup"].Iterate()
	for entries.Next(&key, &value) {
		if _, found := c.cgroups[key]; found || !cgroup.Exists(top, network.CgroupOf(key)) {
			continue
		}
		id := network.IDOf(value)
		c.byCgroup = true
		if j := jails[id]; j != nil {
			c.cgroups[key] = j.Value()
			continue
		}
		c.cgroups[key] = value
		if id == 0 {
			continue
		}
		c.ids[id], c.stay[id], c.unsettled = true, true, true
		if name := named[id]; name != "" {
			c.refused[name] = stillHas
		}
	}
	return entries.Err()
}

// names are those of the jails that have an ID.
func names(plan *network.Plan) map[uint16]string {
	all := map[uint16]string{}
	for i := range plan.Jails {
		if id := plan.Jails[i].ID; id != 0 {
			all[id] = plan.Jails[i].Name
		}
	}
	return all
}

// usedUIDs are the real uids of all processes.
func usedUIDs() ([]uint32, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	used := map[uint32]bool{}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
				if uid, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 32); err == nil {
					used[uint32(uid)] = true
				}
				break
			}
		}
	}
	list := make([]uint32, 0, len(used))
	for uid := range used {
		list = append(list, uid)
	}
	return list, nil
}

// fill writes the maps. What a jail has comes before who it is, and who it is no longer
// comes last: nobody has more than before or after in between.
func (l *loaded) fill(plan *network.Plan, c *content) error {
	opened, err := plan.Opened()
	if err != nil {
		return err
	}
	if err := l.fillPorts(plan.Owners(), c); err != nil {
		return fmt.Errorf("BPF map jail_ports: %w", err)
	}
	open := l.maps["open"]
	stale, err := keys(open, func(key [network.OpenSize]byte) bool { return opened[key] })
	if err != nil {
		return fmt.Errorf("BPF map jail_open: %w", err)
	}
	for _, key := range stale {
		if err := open.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("BPF map jail_open: %w", err)
		}
	}
	for key := range opened {
		if err := open.Put(key, uint32(1)); err != nil {
			return fmt.Errorf("BPF map jail_open: %w", err)
		}
	}
	if err := l.fillCgroups(c); err != nil {
		return fmt.Errorf("BPF map jail_cgroup: %w", err)
	}
	uid, want := l.maps["uid"], plan.UIDs()
	for key, value := range want {
		if err := uid.Put(key, value); err != nil {
			return fmt.Errorf("BPF map jail_uid: %w", err)
		}
	}
	gone, err := keys(uid, func(key [network.UIDSize]byte) bool {
		_, wanted := want[key]
		_, kept := c.kept[key]
		return wanted || kept
	})
	for _, key := range gone {
		if err == nil {
			err = uid.Delete(key)
		}
	}
	if err != nil {
		return fmt.Errorf("BPF map jail_uid: %w", err)
	}
	return nil
}

func (l *loaded) fillCgroups(c *content) error {
	m := l.maps["cgroup"]
	for key, value := range c.cgroups {
		if err := m.Put(key, value); err != nil {
			return err
		}
	}
	gone, err := keys(m, func(key [network.CgroupSize]byte) bool { _, stays := c.cgroups[key]; return stays })
	for _, key := range gone {
		if err == nil {
			if err = m.Delete(key); errors.Is(err, ebpf.ErrKeyNotExist) {
				err = nil // its jail has just ended
			}
		}
	}
	return err
}

// keys are those keys of a map that do not stay.
func keys[K comparable](m *ebpf.Map, stays func(K) bool) ([]K, error) {
	var list []K
	var key K
	value := make([]byte, m.ValueSize())
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if !stays(key) {
			list = append(list, key)
		}
	}
	return list, entries.Err()
}

// keeps reports whether an owner of ports is no more in the plan, and has processes.
func (c *content) keeps(owner uint32) bool {
	return owner <= jail.MaxNetworks && c.stay[uint16(owner)]
}

// fillPorts writes who owns which port. A port of a jail that is kept stays so, if it has
// got no other owner.
func (l *loaded) fillPorts(owners map[uint16]network.Owner, c *content) error {
	ports := l.maps["ports"]
	numbers, values := make([]uint32, 1<<16), make([][network.PortSize]byte, 1<<16)
	var cursor ebpf.MapBatchCursor
	count, err := ports.BatchLookup(&cursor, numbers, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // it ends so
		return err
	}
	var changed []uint32
	var with [][network.PortSize]byte
	for i, n := range numbers[:count] {
		now, want := network.OwnerOf(values[i]), owners[uint16(n)]
		if want.TCP == 0 && c.keeps(now.TCP) {
			want.TCP = now.TCP
		}
		if want.UDP == 0 && c.keeps(now.UDP) {
			want.UDP = now.UDP
		}
		if now != want {
			changed, with = append(changed, n), append(with, want.Value())
		}
	}
	if len(changed) == 0 {
		return nil
	}
	_, err = ports.BatchUpdate(changed, with, nil)
	return err
}
