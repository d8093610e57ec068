package launch

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"jail/internal/jail"
	"jail/internal/sys"
)

// extent is a line of a uid_map or gid_map (user_namespaces(7)): n ids from inside on are
// those of the host from host on.
type extent struct{ inside, host, n uint32 }

// idMap is the map of a jail's user namespace. own are ids of its login that need not be in
// the range: kept, each is that very id on the host; otherwise those that lie beyond the
// range have its last host ids, below the owner's, and as many ids inside have none.
func idMap(u jail.Userns, own []uint32) []extent {
	own = slices.Compact(slices.Sorted(slices.Values(own)))
	var m []extent
	add := func(inside, host, end uint32) {
		if end > inside {
			m = append(m, extent{inside, host, end - inside})
		}
	}
	if u.Keep {
		next := uint32(0)
		for _, id := range own {
			if id < u.Size {
				add(next, u.Base+next, id)
				next = id + 1
			}
		}
		add(next, u.Base+next, u.Size)
		for _, id := range own {
			add(id, id, id+1)
		}
		return m
	}
	if len(own) == 0 || own[len(own)-1] < u.Size {
		return []extent{{0, u.Base, u.Size}}
	}
	last := u.Size - 1 - uint32(len(own))
	add(0, u.Base, last)
	for _, id := range own {
		if id >= last {
			add(id, u.Base+last, id+1)
			last++
		}
	}
	return m
}

// hostID is the id on the host, where the map has one.
func hostID(m []extent, inside uint32) (uint32, bool) {
	for _, e := range m {
		if inside >= e.inside && inside-e.inside < e.n {
			return e.host + inside - e.inside, true
		}
	}
	return 0, false
}

// mapsOf are the maps of a jail: of uids, and of gids.
func mapsOf(spec *jail.Spec) (uids, gids []extent, err error) {
	lg := &spec.Logins[0]
	own := []uint32{uint32(lg.UID)}
	var groups []uint32
	if lg.HasGID {
		groups = append(groups, uint32(lg.GID))
	}
	switch {
	case spec.Userns.Keep:
		if len(spec.Logins) != 1 || !lg.HasGID || uint32(lg.UID) != uint32(lg.HostUID) {
			return nil, nil, fmt.Errorf("jail %s cannot keep ids that are not those of one account", spec.Name)
		}
	case spec.Source.Kind != jail.Host:
		own, groups = nil, nil // what the registry says is within the range
	}
	if spec.Source.Kind == jail.Host {
		for _, g := range spec.Source.Groups {
			groups = append(groups, uint32(g.GID))
		}
	}
	if spec.Userns.Keep && (!jail.ValidID(own[0]) || !allValid(groups)) {
		return nil, nil, fmt.Errorf("jail %s cannot keep uid %d and gids %v: root's are none to keep", spec.Name, own[0], groups)
	}
	return idMap(spec.Userns, own), idMap(spec.Userns, groups), nil
}

func allValid(ids []uint32) bool {
	return !slices.ContainsFunc(ids, func(id uint32) bool { return !jail.ValidID(id) })
}

// writeOnce writes to a file of proc. os.WriteFile asks the kernel five times whether it can
// be waited for, and each start writes four.
func writeOnce(path, text string) error {
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer sys.Close(fd)
	if _, err := syscall.Write(fd, []byte(text)); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// writeMap gives a new user namespace its ids.
func writeMap(pid int, uids, gids []extent) error {
	for _, w := range []struct {
		file string
		m    []extent
	}{{"gid_map", gids}, {"uid_map", uids}} {
		var text strings.Builder
		for _, e := range w.m {
			fmt.Fprintf(&text, "%d %d %d\n", e.inside, e.host, e.n)
		}
		if err := writeOnce("/proc/"+strconv.Itoa(pid)+"/"+w.file, text.String()); err != nil {
			return fmt.Errorf("map ids: %w", err)
		}
	}
	return nil
}
