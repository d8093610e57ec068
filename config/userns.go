package config

import (
	"os"
	"sort"

	"jail/internal/jail"
)

// The host ids that userns = "auto" draws from: above those systemd gives to
// its own containers (systemd.io/UIDS-GIDS), below the ones it keeps for
// foreign ids, and below 1<<31, which some file systems take for negative.
const (
	poolBase = 0x70000000
	poolEnd  = 0x7FFB0000
	slotSize = 1 << 16
	slots    = (poolEnd - poolBase) / slotSize
)

// AutoRangeFor returns the id range of a jail that is in no registry: the slot
// userns = "auto" would prefer for that name, or the next one that the host's
// account files and the jails of reg leave free. Two jails of one range would share
// what the kernel counts by uid, processes and inotify watches for two.
func AutoRangeFor(name string, reg *Registry) jail.Userns {
	var ps problems // a file that cannot be read has nothing to avoid
	h := parseHost(Options{}.complete(&ps))
	taken := func(r span) bool {
		for i := range reg.Jails {
			u := reg.Jails[i].Userns
			if u.Enabled && r.overlaps(span{base: uint64(u.Base), end: uint64(u.Base) + uint64(u.Size)}) {
				return true
			}
		}
		return false
	}
	r, ok := freeSlot(name, func(r span) bool { return h.free(r) && !taken(r) })
	if !ok {
		r = slot(preferredSlot(name))
	}
	return r.userns()
}

// callerRange is the caller's own id and nothing else: the one range an
// unprivileged process may always map (user_namespaces(7)).
func callerRange(euid uint32) span { return span{base: uint64(euid), end: uint64(euid) + 1} }

func slot(n uint32) span {
	base := uint64(poolBase) + uint64(n)*slotSize
	return span{base: base, end: base + slotSize}
}

func (a span) userns() jail.Userns {
	return jail.Userns{Enabled: true, Base: uint32(a.base), Size: uint32(a.end - a.base)}
}

// preferredSlot hashes a jail's name (FNV-1a). A jail keeps its slot when
// others come and go, unless they collide with it.
func preferredSlot(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h % slots
}

// freeSlot returns the first free slot from the preferred one on.
func freeSlot(name string, free func(span) bool) (span, bool) {
	first := preferredSlot(name)
	for i := range uint32(slots) {
		if r := slot((first + i) % slots); free(r) {
			return r, true
		}
	}
	return span{}, false
}

// free reports whether no account and no subordinate range has an id in r.
func (h *host) free(r span) bool {
	if _, taken := h.accountIn(r); taken {
		return false
	}
	_, taken := h.subordinate(r)
	return !taken
}

// assignRanges gives every jail its id range, explicit ones first, so that no
// host id belongs to two jails, or to a jail and an account (C3). Every
// program that reads the same registry on the same host gets the same answer.
func (v *validator) assignRanges() {
	type claim struct {
		span
		by *draft
	}
	var claims []claim
	taken := func(r span) *draft {
		for _, c := range claims {
			if c.overlaps(r) {
				return c.by
			}
		}
		return nil
	}
	// In root mode a uid inside is that uid on the host, so it is taken too.
	for _, d := range v.drafts {
		if !d.set.Userns.off {
			continue
		}
		for _, l := range d.spec.Logins {
			claims = append(claims, claim{span{base: uint64(l.UID), end: uint64(l.UID) + 1}, d})
			if l.HasGID {
				claims = append(claims, claim{span{base: uint64(l.GID), end: uint64(l.GID) + 1}, d})
			}
		}
	}
	for _, d := range v.drafts {
		if d.fixed == nil {
			continue
		}
		r, o := *d.fixed, d.set.Userns.origin
		if other := taken(r); other != nil {
			v.errorf(o, "overlaps the host ids of jail %q (%s:%d), choose another base", other.name, other.file, other.line)
		}
		claims = append(claims, claim{r, d})
		if id, ok := v.host.accountIn(r); ok {
			v.errorf(o, "contains %d, which is an account or group of the host, choose another base", id)
		}
		if own := v.callers(); own == nil {
			if s, ok := v.host.subordinate(r); ok {
				v.errorf(o, "overlaps %d to %d, which %s gives to %s, choose another base", s.base, s.end-1, s.file, s.owner)
			}
		} else {
			for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
				if !v.host.grants(file, r, own) {
					v.errorf(o, "is not yours, choose a range that %s gives to %s", file, own[0])
				}
			}
		}
		d.spec.Userns = r.userns()
	}
	byName := append([]*draft(nil), v.drafts...)
	sort.SliceStable(byName, func(i, j int) bool { return byName[i].name < byName[j].name })
	for _, d := range byName {
		if d.set.Userns.off || d.set.Userns.fixed != nil {
			continue
		}
		if v.callers() != nil {
			d.spec.Userns = callerRange(*v.opt.euid).userns()
			continue
		}
		r, ok := freeSlot(d.name, func(r span) bool { return v.host.free(r) && taken(r) == nil })
		if !ok {
			v.errorf(d.at("userns"), `"auto" found no free range of %d ids, give one: userns = { base = N, size = %d }`, slotSize, slotSize)
			continue
		}
		claims = append(claims, claim{r, d})
		d.spec.Userns = r.userns()
		v.checkCovered(d, r)
	}
}

// callers returns the names the caller's own ids may be listed under, or nil
// if the registry is not a rootless one. A caller who is root is never
// rootless: its own id must not be mapped.
func (v *validator) callers() []string {
	if !v.opt.Rootless || *v.opt.euid == 0 {
		return nil
	}
	return append(v.host.namesOf(*v.opt.euid), uintString(*v.opt.euid))
}

// errno is the part of a file error an administrator can use; the path is in
// the message already.
func errno(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err
	}
	return err
}
