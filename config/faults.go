package config

import (
	"slices"
	"strings"

	"jail/internal/jail"
)

// clash reports, once, a fault of two of which nobody can say who is right: both are
// out of service by it.
func clash(o origin, a, b *problems, format string, args ...any) {
	n := len(a.errors)
	a.errorf(o, format, args...)
	if a != b {
		b.errors = append(b.errors, a.errors[n:]...)
	}
}

// conflict tells who is out of service where jails take the same place or range. Of
// two that are in the way of nobody else, nobody can say who is right: both. Who is in
// the way of several is the one to blame: a directory that holds the root directories
// of two jails is a third jail's by mistake.
//
// It is what one draft is in the way of, up to two others.
type conflict struct {
	with [2]*draft
	say  func() // reports that it meets the first
}

// meet notes that other is in d's way, which say reports. Whoever calls it does so
// for other, too. Two of one name are at odds as it is.
func (d *draft) meet(other *draft, say func()) {
	switch c := d.conflict; {
	case d.name == other.name:
	case c == nil:
		d.conflict = &conflict{with: [2]*draft{other}, say: say}
	case c.with[0] != other && c.with[1] == nil:
		c.with[1] = other
	}
}

// judge reports the conflicts of drafts, in their order, and forgets them.
func judge(drafts []*draft) {
	for _, d := range drafts {
		c := d.conflict
		if c == nil {
			continue
		}
		if c.with[1] != nil {
			c.say()
			continue
		}
		if other := c.with[0]; other.conflict.with[1] == nil && other.order < d.order {
			n := len(d.errors)
			c.say()
			other.errors = append(other.errors, d.errors[n:]...)
		}
	}
	for _, d := range drafts {
		d.conflict = nil
	}
}

// held is a jail that was in force from a file nothing can be taken from now. It keeps
// its logins from landing elsewhere, and its range from being given away.
type held struct {
	jail, file string
	match      string // what its [[match]] says
	logins     []FaultyLogin
	userns     jail.Userns
	network    uint16
	errors     Errors
}

// hold takes from the registry before what was there by each lost file.
func (v *validator) hold() {
	before := v.opt.Before
	if before == nil {
		return
	}
	for _, doc := range v.lost {
		if !doc.unread {
			continue // there are no jails in it
		}
		for i := range before.Jails {
			if spec := &before.Jails[i]; before.Files[spec.Name] == doc.path {
				h := held{jail: spec.Name, file: doc.path, match: before.Blocks[spec.Name].Match, userns: spec.Userns, network: spec.Network.ID, errors: doc.errors}
				for _, l := range spec.Logins {
					h.logins = append(h.logins, FaultyLogin{l.Name, l.HostUID})
				}
				v.held = append(v.held, h)
			}
		}
		for i := range before.Faults {
			if f := &before.Faults[i]; f.File == doc.path && (f.Jail != "" || len(f.Logins) > 0) {
				v.held = append(v.held, held{f.Jail, doc.path, f.Match, f.Logins, f.Userns, f.Network, doc.errors})
			}
		}
	}
	for _, h := range v.held {
		if d := v.byName[h.jail]; d != nil {
			d.errorf(d.origin, "jail %q is in %s by what was in force, which cannot be used now; mend that file first", d.name, h.file)
		}
	}
}

// finish makes the checks between jails and with the host, and puts into reg what
// is in force and what is not.
func (v *validator) finish(reg *Registry) {
	v.hold()
	v.checkLogins()
	v.assignRanges()
	v.assignNetworks()
	v.checkPlaces()

	reg.Files = make(map[string]string, len(v.drafts))
	reg.Blocks = make(map[string]Block, len(v.drafts))
	named := make(map[string][]*draft, len(v.drafts))
	for _, d := range v.drafts {
		named[d.name] = append(named[d.name], d)
		v.warnings = append(v.warnings, d.warnings...)
	}
	for _, d := range v.drafts {
		if d.twin {
			continue
		}
		logins, faults := d.split(named[d.name])
		if len(logins) > 0 {
			d.spec.Logins = logins
			reg.Jails = append(reg.Jails, d.spec)
			reg.Files[d.name] = d.source()
			reg.Blocks[d.name] = d.block()
		}
		reg.Faults = append(reg.Faults, faults...)
	}
	for _, h := range v.held {
		reg.Faults = append(reg.Faults, Fault{Jail: h.jail, File: h.file, Match: h.match, Logins: h.logins, Userns: h.userns, Network: h.network, Errors: h.errors})
	}
	for _, doc := range v.lost {
		if !slices.ContainsFunc(v.held, func(h held) bool { return h.file == doc.path }) {
			reg.Faults = append(reg.Faults, Fault{File: doc.path, Errors: doc.errors.Sorted()})
		}
	}
	reg.Faults = append(reg.Faults, v.left...)
	v.unusedTemplates(reg)
	slices.SortFunc(reg.Jails, func(a, b jail.Spec) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(reg.Faults, func(a, b Fault) int { return strings.Compare(a.Jail, b.Jail) })
	if v.opt.Explain != "" {
		reg.Explained = v.explain(v.opt.Explain, reg)
	}
}

// block is where the jail is described.
func (d *draft) block() Block {
	b := Block{Line: d.line, Template: d.Template.v}
	if d.match != nil {
		b = Block{d.match.line, d.match.criterion(), d.match.Template.v}
	}
	return b
}

// split returns the logins in force of the jail that drafts describe, more than one
// if its name is taken twice, and its faults. Without a login it is out of service.
func (d *draft) split(drafts []*draft) (logins []jail.Login, faults []Fault) {
	whole := Fault{File: d.source(), Match: d.block().Match, Userns: d.spec.Userns, Network: d.spec.Network.ID}
	if jail.ValidName(d.name) {
		whole.Jail = d.name
	}
	for _, d := range drafts {
		whole.Errors = append(whole.Errors, d.errors...)
	}
	out := len(whole.Errors) > 0
	for _, d := range drafts {
		for _, u := range d.Users.list {
			switch {
			case u.known && len(u.errors) == 0:
				logins = append(logins, u.spec)
			case jail.ValidName(u.login):
				faults = append(faults, Fault{
					Jail: whole.Jail, File: d.source(), Match: whole.Match, Userns: whole.Userns, Network: whole.Network,
					Logins: []FaultyLogin{{u.login, u.spec.HostUID}}, Errors: u.errors.Sorted(),
				})
			default: // nobody is called that
				whole.Errors = append(whole.Errors, u.errors...)
			}
		}
	}
	if !out && len(logins) > 0 {
		if len(whole.Errors) > 0 {
			whole.Errors = whole.Errors.Sorted()
			faults = append(faults, whole)
		}
		return logins, faults
	}
	for _, f := range faults {
		whole.Logins = append(whole.Logins, f.Logins...)
		whole.Errors = append(whole.Errors, f.Errors...)
	}
	for _, l := range logins {
		whole.Logins = append(whole.Logins, FaultyLogin{l.Name, l.HostUID})
	}
	slices.SortFunc(whole.Logins, func(a, b FaultyLogin) int { return strings.Compare(a.Name, b.Name) })
	whole.Logins = slices.Compact(whole.Logins)
	whole.Errors = whole.Errors.Sorted()
	return nil, []Fault{whole}
}
