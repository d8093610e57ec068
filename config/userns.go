package config

import (
	"cmp"
	"os"
	"slices"
	"sort"

	"jail/internal/jail"
)

// areas are the host ids that userns = "auto" draws from. The first lies above those
// systemd gives to its own containers (systemd.io/UIDS-GIDS), below the ones it keeps for
// foreign ids, and below 1<<31, which some file systems take for negative. The second,
// for which there is use once the first is full, is the upper part of those for containers:
// systemd-nspawn --private-users=pick, which takes them at random, looks whether they are
// somebody's.
var areas = [...]struct {
	base  uint64
	slots uint32
}{
	{0x70000000, 4091},
	{0x40000000, 12288},
}

const slotSize = 1 << 16

// AutoRangeFor returns the id range of a jail that is in no registry: the slot
// userns = "auto" would prefer for that name, or the next one that the host's
// account files and the jails of reg leave free. Two jails of one range would share
// what the kernel counts by uid, processes and inotify watches for two.
func AutoRangeFor(name string, reg *Registry) jail.Userns {
	var ps problems // a file that cannot be read has nothing to avoid
	h := parseHost(Options{}.complete(&ps))
	p := newPool(h)
	for _, r := range reg.ranges() {
		p.take(r)
	}
	r, ok := p.freeSlot(name)
	if !ok {
		r = slot(0, preferredSlot(0, name))
	}
	return r.userns()
}

// callerRange is the caller's own id and nothing else: the one range an
// unprivileged process may always map (user_namespaces(7)).
func callerRange(euid uint32) span { return span{base: uint64(euid), end: uint64(euid) + 1} }

// slot is slot n of an area.
func slot(area int, n uint32) span {
	base := areas[area].base + uint64(n)*slotSize
	return span{base: base, end: base + slotSize}
}

func (a span) userns() jail.Userns {
	return jail.Userns{Enabled: true, Base: uint32(a.base), Size: uint32(a.end - a.base)}
}

// preferredSlot hashes a jail's name (FNV-1a). A jail keeps its slot when
// others come and go, unless they collide with it.
func preferredSlot(area int, name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h % areas[area].slots
}

// pool is which slots of each area are taken.
type pool [len(areas)][]bool

// newPool is the pool without what the host's accounts and subordinate ids are in.
func newPool(h *host) *pool {
	var p pool
	for a := range areas {
		p[a] = make([]bool, areas[a].slots)
	}
	for _, id := range h.ids {
		p.take(span{base: uint64(id), end: uint64(id) + 1})
	}
	for _, s := range h.subs {
		p.take(s)
	}
	return &p
}

// take takes every slot that r has an id of.
func (p *pool) take(r span) {
	for a := range areas {
		first := uint64(0)
		if r.base > areas[a].base {
			first = (r.base - areas[a].base) / slotSize
		}
		for n := first; n < uint64(areas[a].slots) && slot(a, uint32(n)).base < r.end; n++ {
			p[a][n] = true
		}
	}
}

// takeSlot takes r if it is a slot, and free.
func (p *pool) takeSlot(r span) bool {
	for a := range areas {
		if r.base < areas[a].base {
			continue
		}
		n := (r.base - areas[a].base) / slotSize
		if n < uint64(areas[a].slots) && r == slot(a, uint32(n)) && !p[a][n] {
			p[a][n] = true
			return true
		}
	}
	return false
}

// freeSlot takes the first free slot from the preferred one on, in the first area
// that has one.
func (p *pool) freeSlot(name string) (span, bool) {
	for a := range areas {
		first := preferredSlot(a, name)
		for i := range areas[a].slots {
			if n := (first + i) % areas[a].slots; !p[a][n] {
				p[a][n] = true
				return slot(a, n), true
			}
		}
	}
	return span{}, false
}

// assignRanges gives every jail its id range, explicit ones first, so that no
// host id belongs to two jails, or to a jail and an account. A jail that is out
// of service keeps its claim: the others' ranges are the same with and without its
// fault. Every program that reads the same registry on the same host gets the same
// answer.
func (v *validator) assignRanges() {
	claims := v.explicitClaims()
	v.checkClaims(claims)
	if v.callers() != nil {
		for _, d := range v.drafts {
			if d.auto() {
				d.spec.Userns = callerRange(*v.opt.euid).userns()
			}
		}
		return
	}
	pool := newPool(v.host)
	for _, c := range claims {
		pool.take(c.span)
	}
	for _, h := range v.held {
		if r, ok := spanOf(h.userns); ok {
			pool.take(r)
		}
	}
	byName := slices.Clone(v.drafts)
	sort.SliceStable(byName, func(i, j int) bool { return byName[i].name < byName[j].name })
	// A jail that runs is not asked whether another may have its ids: what a jail had
	// it keeps, before a new one whose name is in front of it.
	before := v.opt.Before.ranges()
	for _, d := range byName {
		if r, ok := before[d.name]; ok && d.claims() && pool.takeSlot(r) {
			d.spec.Userns = r.userns()
		}
	}
	for _, d := range byName {
		if !d.claims() || d.set.Userns.broken {
			continue
		}
		r, ok := spanOf(d.spec.Userns)
		if !ok {
			if r, ok = pool.freeSlot(d.name); !ok {
				d.errorf(d.at("userns"), `"auto" found no free range of %d ids, give one: userns = { base = N, size = %d }`, slotSize, slotSize)
				continue
			}
			d.spec.Userns = r.userns()
		}
		checkCovered(d, r)
	}
	for _, d := range v.drafts {
		d.spec.Userns.Keep = d.set.Userns.keep && d.spec.Userns.Enabled
	}
}

// keep makes the login of a jail with userns = "keep" what its account is on the host.
func (v *validator) keep(d *draft) {
	k := d.set.Userns
	if !k.keep {
		return
	}
	if v.opt.Rootless {
		d.errorf(k.origin, `"keep" is for jails that root starts; in a jail of your own your uid is kept anyway, remove it`)
		return
	}
	if n := len(d.Users.list); n > 1 {
		// Root inside can be any of them, and so on those file systems.
		d.errorf(d.Users.origin, `are %d logins, with userns = "keep" a jail is one login's; give each a jail of its own`, n)
	}
	if len(d.Users.list) != 1 || !d.Users.list[0].known {
		return
	}
	u := d.Users.list[0]
	if acct, ok := v.host.user(u.login); ok {
		v.ownIDs(u, d, acct, `with userns = "keep": it is the same on the host; remove it`)
	}
}

// ownIDs gives a login the ids of its account, and reports whether the registry says
// nothing else.
func (v *validator) ownIDs(u *userTable, d *draft, acct account, why string) bool {
	for _, id := range []struct {
		is   value[int64]
		want uint32
	}{{u.UID.or(d.UID), acct.uid}, {u.GID.or(d.set.GID), acct.gid}} {
		if id.is.usable() && id.is.v != int64(id.want) {
			u.errorf(id.is.origin, "must be the account's own, %d, %s", id.want, why)
			return false
		}
	}
	u.spec.GID, u.spec.HasGID = jail.GID(acct.gid), true
	return true
}

// explicitClaims returns the host ids that the registry names itself.
func (v *validator) explicitClaims() []claim {
	var claims []claim
	for _, d := range v.drafts {
		if d.fixed != nil {
			v.checkFixed(d)
			claims = append(claims, claim{*d.fixed, d})
			d.spec.Userns = d.fixed.userns()
		}
		if !d.set.Userns.off {
			continue
		}
		// In root mode a uid inside is that uid on the host, so it is taken too.
		for _, u := range d.Users.list {
			if !u.known {
				continue
			}
			claims = append(claims, claim{span{base: uint64(u.spec.UID), end: uint64(u.spec.UID) + 1}, d})
			if u.spec.HasGID {
				claims = append(claims, claim{span{base: uint64(u.spec.GID), end: uint64(u.spec.GID) + 1}, d})
			}
		}
	}
	return claims
}

// ranges are the id ranges of every jail of the registry, in force or not.
func (r *Registry) ranges() map[string]span {
	all := make(map[string]span)
	if r == nil {
		return all
	}
	for i := range r.Faults {
		if s, ok := spanOf(r.Faults[i].Userns); ok && r.Faults[i].Jail != "" {
			all[r.Faults[i].Jail] = s
		}
	}
	for i := range r.Jails {
		if s, ok := spanOf(r.Jails[i].Userns); ok {
			all[r.Jails[i].Name] = s
		}
	}
	return all
}

// auto reports whether the jail's range is for us to choose.
func (d *draft) auto() bool { return !d.set.Userns.off && d.set.Userns.fixed == nil }

// claims reports whether the draft is one for whom a range is chosen: only the first
// of a name, and only one that can be a jail's.
func (d *draft) claims() bool { return d.auto() && !d.twin && jail.ValidName(d.name) }

func spanOf(u jail.Userns) (span, bool) {
	return span{base: uint64(u.Base), end: uint64(u.Base) + uint64(u.Size)}, u.Enabled && u.Size > 0
}

// claim is a range and the jail that has it.
type claim struct {
	span
	by *draft
}

// checkFixed holds an explicit range against the host's accounts.
func (v *validator) checkFixed(d *draft) {
	r, o := *d.fixed, d.set.Userns.origin
	if id, ok := v.host.accountIn(r); ok {
		d.errorf(o, "contains %d, which is an account or group of the host, choose another base", id)
	}
	if own := v.callers(); own == nil {
		if s, ok := v.host.subordinate(r); ok {
			d.errorf(o, "overlaps %d to %d, which %s gives to %s, choose another base", s.base, s.end-1, s.file, s.owner)
		}
	} else {
		for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
			if !v.host.grants(file, r, own) {
				d.errorf(o, "is not yours, choose a range that %s gives to %s", file, own[0])
			}
		}
	}
}

// checkClaims finds explicit ranges that overlap one another, or an id of a jail in
// root mode.
func (v *validator) checkClaims(claims []claim) {
	sorted := slices.Clone(claims)
	slices.SortStableFunc(sorted, func(a, b claim) int { return cmp.Compare(a.base, b.base) })
	for i, c := range sorted {
		for _, other := range sorted[i+1:] {
			if other.base >= c.end {
				break
			}
			if c.by == other.by || c.by.fixed == nil && other.by.fixed == nil {
				continue
			}
			overlap(c.by, other.by)
			overlap(other.by, c.by)
		}
	}
	judge(v.drafts)
}

// overlap notes that ids of other are in d's way.
func overlap(d, other *draft) {
	if d.conflict != nil && d.conflict.with[1] != nil {
		return // it is at odds with enough
	}
	d.meet(other, func() {
		a, b := d, other
		if a.fixed == nil { // its ids are its logins'
			a, b = other, d
		}
		d.errorf(a.set.Userns.origin, "overlaps the host ids of jail %q (%s:%d), choose another base", b.name, b.file, b.line)
	})
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
