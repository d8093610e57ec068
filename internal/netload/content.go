package netload

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

	"jail/internal/network"
)

// content is what the maps are to hold besides, or instead of, the plan.
type content struct {
	kept      map[[network.UIDSize]byte][network.JailSize]byte // of who has processes still
	ids       map[uint16]bool                                  // who has addresses
	refused   map[string]string
	unsettled bool
}

// look compares the plan with what is there. Who is no more in it, or is out of service,
// stays what it was while it has processes: the registry is changed in a moment, and they go
// on. So are its ports.
func (l *loaded) look(plan *network.Plan) (*content, error) {
	c := &content{kept: map[[network.UIDSize]byte][network.JailSize]byte{}, ids: map[uint16]bool{}, refused: map[string]string{}}
	names := map[uint16]string{}
	for i := range plan.Jails {
		if id := plan.Jails[i].ID; id != 0 {
			names[id], c.ids[id] = plan.Jails[i].Name, true
		}
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
		c.kept[key], c.ids[id], c.unsettled = value, true, true
		if name := names[id]; name != "" && prefix.Bits < 32 {
			c.refused[name] = "processes of a jail that has gone, or of another range of ids, still have its addresses; it can start when they have ended"
		}
	}
	return c, entries.Err()
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

// fillPorts writes who owns which port. A port of a jail that is kept stays so, if it has
// got no other owner.
func (l *loaded) fillPorts(owners map[uint16]network.Owner, c *content) error {
	ports := l.maps["ports"]
	kept := map[uint32]bool{}
	for _, value := range c.kept {
		kept[uint32(network.IDOf(value))] = true
	}
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
		if want.TCP == 0 && kept[now.TCP] {
			want.TCP = now.TCP
		}
		if want.UDP == 0 && kept[now.UDP] {
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
