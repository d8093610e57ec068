package config

import (
	"path"
)

// place is a directory or file of the host and all the directories above it.
// Each is known by its path and, where the file system was looked at, by its
// device and inode: through a bind mount one directory has two paths.
type place struct {
	self  []any // path string, then fileID
	above []any
}

// fileID is what two descriptors of one file have in common.
type fileID struct{ dev, ino uint64 }

// newPlace names a clean path without looking at the file system.
func newPlace(p string) place {
	pl := place{self: []any{p}}
	for p != "/" {
		p = path.Dir(p)
		pl.above = append(pl.above, p)
	}
	return pl
}

// placeSet answers how a place lies to those in the set.
type placeSet struct {
	self, above map[any]*draft
}

func newPlaceSet() placeSet { return placeSet{map[any]*draft{}, map[any]*draft{}} }

func (s placeSet) add(p place, d *draft) {
	for _, key := range p.self {
		if _, ok := s.self[key]; !ok {
			s.self[key] = d
		}
	}
	for _, key := range p.above {
		if _, ok := s.above[key]; !ok {
			s.above[key] = d
		}
	}
}

// find returns how p lies to a member of the set ("is", "contains", "lies
// inside"), and whose it is; "" if it lies apart from all of them.
func (s placeSet) find(p place) (*draft, string) {
	for _, key := range p.self {
		if d, ok := s.self[key]; ok {
			return d, "is"
		}
	}
	for _, key := range p.above {
		if d, ok := s.self[key]; ok {
			return d, "lies inside"
		}
	}
	for _, key := range p.self {
		if d, ok := s.above[key]; ok {
			return d, "contains"
		}
	}
	return nil, ""
}

// checkPlaces compares every rootfs and every mount source with one another
// and with the control sockets' directory (C3, C9). A mount source lies apart
// from every rootfs: what is inside one is its tenant's to swap (C7).
func (v *validator) checkPlaces() {
	sockets := newPlaceSet()
	sockets.add(v.look(v.opt.RuntimeDir), nil)
	roots := newPlaceSet()
	for _, d := range v.drafts {
		if d.spec.Rootfs == "" {
			continue
		}
		r := d.Rootfs
		p := v.openRootfs(r)
		if other, how := roots.find(p); how != "" {
			v.errorf(r.origin, "%s %s the rootfs of jail %q (%s:%d), give each jail a directory of its own",
				r.v, how, other.name, other.file, other.line)
		}
		if _, how := sockets.find(p); how != "" {
			v.errorf(r.origin, "%s %s the control sockets' directory %s, use another directory", r.v, how, v.opt.RuntimeDir)
		}
		roots.add(p, d)
	}
	for _, d := range v.drafts {
		for _, m := range d.set.Mounts {
			src := m.Source
			if !src.usable() || !isClean(src.v) || v.refusedSource(src.v) != "" {
				continue
			}
			p := v.openSource(src)
			if other, how := roots.find(p); how != "" {
				v.errorf(src.origin, "%s %s the rootfs of jail %q, show a directory outside every rootfs", src.v, how, other.name)
			}
			if _, how := sockets.find(p); how != "" {
				v.errorf(src.origin, "%s %s the control sockets' directory %s, use another directory", src.v, how, v.opt.RuntimeDir)
			}
		}
	}
}
