package config

import (
	"path"
	"strings"

	root "jail/internal/source"
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

// placeSet answers how a place lies to those in the set. Of a key, three members are
// kept: enough to tell who is in the way of one other, and who of several.
type placeSet struct {
	self, above map[any][3]*draft
}

func newPlaceSet() placeSet { return placeSet{map[any][3]*draft{}, map[any][3]*draft{}} }

func (s placeSet) add(p place, d *draft) {
	for _, list := range []struct {
		keys []any
		of   map[any][3]*draft
	}{{p.self, s.self}, {p.above, s.above}} {
		for _, key := range list.keys {
			members := list.of[key]
			for i := range members {
				if members[i] == d {
					break
				}
				if members[i] == nil {
					members[i] = d
					list.of[key] = members
					break
				}
			}
		}
	}
}

// find yields the members that p lies at, in or around, and how ("is", "lies
// inside", "contains").
func (s placeSet) find(p place) func(yield func(*draft, string) bool) {
	return func(yield func(*draft, string) bool) {
		for _, look := range []struct {
			keys []any
			of   map[any][3]*draft
			how  string
		}{{p.self, s.self, "is"}, {p.above, s.self, "lies inside"}, {p.self, s.above, "contains"}} {
			for _, key := range look.keys {
				for _, d := range look.of[key] {
					if d != nil && !yield(d, look.how) {
						return
					}
				}
			}
		}
	}
}

// checkPlaces compares every rootfs and every mount source with one another
// and with the control sockets' directory. A mount source lies apart
// from every rootfs: what is inside one is its tenant's to swap.
func (v *validator) checkPlaces() {
	seen := v.look(v.places())
	sockets := newPlaceSet()
	sockets.add(placeOf(v.opt.RuntimeDir, seen[v.opt.RuntimeDir]), &draft{})
	roots := newPlaceSet()
	type rootDir struct {
		d   *draft
		dir string
		p   place
	}
	var all []rootDir
	for _, d := range v.drafts {
		if len(d.places) > 0 {
			v.judgeHome(d, seen[d.home])
		}
		for _, dir := range d.places {
			if d.isCage() {
				v.judgeCage(d, dir, seen)
			} else if d.isBased() {
				v.judgeState(d, dir, seen[dir])
			} else if !d.inFaultyHome(dir) {
				v.judgeRootfs(d, dir, seen[dir])
			}
			p := placeOf(dir, seen[dir])
			for _, how := range sockets.find(p) {
				d.errorf(d.rootOrigin(), "%s %s the control sockets' directory %s, use another directory", dir, how, v.opt.RuntimeDir)
				break
			}
			roots.add(p, d)
			all = append(all, rootDir{d, dir, p})
		}
	}
	for _, r := range all {
		for other, how := range roots.find(r.p) {
			if d := r.d; other != d {
				d.meet(other, func() {
					d.errorf(d.rootOrigin(), "%s %s the rootfs of jail %q (%s:%d), give each jail a directory of its own",
						r.dir, how, other.name, other.file, other.line)
				})
			}
		}
	}
	judge(v.drafts)
	bases := v.judgeBases(seen, roots)
	for _, d := range v.drafts {
		for _, m := range d.set.Mounts {
			v.checkSource(d, &m, seen, roots, sockets)
			if !m.ReadOnly.v && v.sourceToCheck(m.Source) {
				judgeWritten(d, m.Source, placeOf(m.Source.v, seen[m.Source.v]), bases)
			}
		}
		for _, p := range d.shown() {
			v.checkSource(d, &mountTable{Source: p, ReadOnly: value[bool]{v: true}}, seen, roots, sockets)
		}
	}
}

// checkSource looks at one mount source. One inside a rootfs is its jail's fault; one
// of [defaults] is so if it lies in a rootfs, that jail's: it cannot be every other's.
func (v *validator) checkSource(d *draft, m *mountTable, seen map[string]*seen, roots, sockets placeSet) {
	src := m.Source
	if !v.sourceToCheck(src) || d.inFaultyHome(src.v) {
		return
	}
	judgeSource(d, src, seen[src.v])
	if !m.ReadOnly.v {
		judgeReach(d, src, seen[src.v])
	}
	p := placeOf(src.v, seen[src.v])
	for other, how := range roots.find(p) {
		blamed := d
		if strings.HasPrefix(src.key, "defaults.") {
			blamed = other
		}
		blamed.errorf(src.origin, "%s %s the rootfs of jail %q, show a directory outside every rootfs", src.v, how, other.name)
		break
	}
	for _, how := range sockets.find(p) {
		d.errorf(src.origin, "%s %s the control sockets' directory %s, use another directory", src.v, how, v.opt.RuntimeDir)
		break
	}
}

// sourceToCheck reports whether the source may be one, judged by its name.
func (v *validator) sourceToCheck(src value[string]) bool {
	return src.usable() && isClean(src.v) && v.refusedSource(src.v) == ""
}

// places are the paths to look at, each once.
func (v *validator) places() []string {
	paths := []string{v.opt.RuntimeDir}
	known := map[string]bool{v.opt.RuntimeDir: true}
	add := func(p string) {
		if !known[p] {
			known[p] = true
			paths = append(paths, p)
		}
	}
	for _, d := range v.drafts {
		for _, dir := range d.places {
			add(dir)
		}
		if d.homeIs.given() && isClean(d.home) {
			add(d.home)
		}
		for _, m := range d.set.Mounts {
			if v.sourceToCheck(m.Source) {
				add(m.Source.v)
			}
		}
		for _, p := range d.shown() {
			add(p.v)
		}
		if p := d.baseToLook(); p != "" {
			add(p)
		}
		if d.isCage() {
			for _, p := range root.Programs() {
				add(p)
			}
		}
	}
	return paths
}
