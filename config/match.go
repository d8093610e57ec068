package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"jail/internal/count"
	"jail/internal/environ"
	"jail/internal/jail"
)

// matchTable is [[match]]: every account it stands for gets a jail of its own, with the
// account's name, made by a template. Of several that stand for an account the first
// counts, and a jail that lists the account in its users comes before all of them.
type matchTable struct {
	origin
	problems // with one, every account it stands for is out of service
	// Group is the name of a group of the host: its members, and the accounts whose
	// primary group it is. One of group, user and uid is required.
	Group value[string] `toml:"group"`
	// User is a pattern of account names; * stands for any characters or none, ? for
	// one.
	User value[string] `toml:"user"`
	// UID is a range of uids, "20000-29999", or one, "20000".
	UID value[string] `toml:"uid"`
	// Template is the name of the template. Required.
	Template value[string] `toml:"template"`

	blind     bool // whom it stands for cannot be told
	low, high uint32
	gids      map[uint32]bool
	members   map[string]bool
}

// matchTables are the [[match]] of a file, in order.
type matchTables []*matchTable

func (ms *matchTables) decode(ps *problems, o origin, p *position, v any) {
	if _, one := v.(map[string]any); one {
		m := &matchTable{origin: o, blind: true}
		m.errorf(o, "is one table, write it as [[match]]: there may be several, and their order counts")
		*ms = append(*ms, m)
		return
	}
	list, ok := items(v)
	if !ok {
		wrongType(ps, o, v, "an array of tables, write [[match]]")
		return
	}
	for i, item := range list {
		at := p.item(i)
		m := &matchTable{origin: origin{o.file, at.line, o.key}}
		decodeTable(&m.problems, m.origin, at, item, m)
		*ms = append(*ms, m)
	}
}

// criterion is what m says of accounts, as it is written; "" if it says nothing, or more
// than one thing.
func (m *matchTable) criterion() string {
	text := ""
	for _, c := range []struct {
		key string
		value[string]
	}{{"group", m.Group}, {"user", m.User}, {"uid", m.UID}} {
		switch {
		case !c.given():
		case text != "" || c.broken:
			return ""
		default:
			text = c.key + " = " + shown(c.v)
		}
	}
	return text
}

// readMatches checks every [[match]] by itself.
func (v *validator) readMatches(docs []*document) {
	first := make(map[string]*matchTable)
	for _, doc := range docs {
		for _, m := range doc.Matches {
			if doc.path != v.registry {
				m.errors = append(m.errors, doc.errors...)
			}
			v.matches = append(v.matches, m)
			if len(m.errors) > 0 && m.criterion() == "" {
				m.blind = true
				continue
			}
			n := len(m.errors)
			v.checkCriterion(m)
			if len(m.errors) > n {
				m.blind = true
				continue
			}
			if other := first[m.criterion()]; other != nil {
				// The accounts are those of the other one.
				m.errorf(m.origin, "%s is at %s:%d already, and the first counts; remove one", m.criterion(), other.file, other.line)
				m.blind = true
				continue
			}
			first[m.criterion()] = m
		}
	}
}

func (v *validator) checkCriterion(m *matchTable) {
	given := 0
	for _, c := range []value[string]{m.Group, m.User, m.UID} {
		if c.given() {
			given++
		}
	}
	switch {
	case v.opt.Rootless:
		m.errorf(m.origin, "is for the host's registry; an ordinary user's has [jail.NAME] with users only")
	case given == 0:
		m.errorf(m.origin, `says nothing of accounts, add group = "NAME", user = "PATTERN" or uid = "20000-29999"`)
	case given > 1:
		m.errorf(m.origin, "has more than one of group, user and uid, write a [[match]] for each")
	case m.Group.usable():
		switch {
		case slices.Contains(privilegedGroups, m.Group.v):
			m.errorf(m.Group.origin, "the members of %s are nearly root, whom no jail can hold; use another group", m.Group.v)
		case !isGroupName(m.Group.v):
			m.errorf(m.Group.origin, "%s is no name of a group, write one", shown(m.Group.v))
		}
	case m.User.usable():
		if m.User.v == "" || len(m.User.v) > 64 || strings.Trim(m.User.v, "abcdefghijklmnopqrstuvwxyz0123456789_-*?") != "" {
			m.errorf(m.User.origin, "%s is no pattern of account names, use a-z, 0-9, _ and -, with * and ? for others", shown(m.User.v))
		}
	case m.UID.usable():
		v.checkUIDs(m)
	}
	if !m.Template.given() {
		m.errorf(m.origin, `template is missing, add template = "NAME"`)
		m.Template.broken = true
	}
}

func (v *validator) checkUIDs(m *matchTable) {
	from, to, isRange := strings.Cut(m.UID.v, "-")
	if !isRange {
		to = from
	}
	low, ok1 := parseUint32(from)
	high, ok2 := parseUint32(to)
	switch {
	case !ok1 || !ok2 || low > high:
		m.errorf(m.UID.origin, `%s is no range of uids, write "20000-29999"`, shown(m.UID.v))
	case low < v.host.firstUID:
		m.errorf(m.UID.origin, "%s has root's or system accounts' uids in it, begin at %d", m.UID.v, v.host.firstUID)
	}
	m.low, m.high = low, high
}

// standsFor reports whether m says that of an account.
func (m *matchTable) standsFor(a account) bool {
	switch {
	case m.Group.usable():
		return m.members[a.name] || m.gids[a.gid]
	case m.User.usable():
		return environ.Matches(m.User.v, a.name)
	}
	return m.low <= a.uid && a.uid <= m.high
}

// wildcard reports whether m can only be answered from a list of all accounts.
func (m *matchTable) wildcard() bool {
	return m.Group.usable() || m.UID.usable() || strings.ContainsAny(m.User.v, "*?")
}

// findMembers looks the groups of [[match]] up in what is known of groups.
func (v *validator) findMembers() {
	for _, m := range v.matches {
		if m.blind || !m.Group.usable() {
			continue
		}
		m.members, m.gids = make(map[string]bool), make(map[uint32]bool)
		for _, g := range v.host.groups {
			if g.name != m.Group.v {
				continue
			}
			m.gids[g.gid] = true
			for _, name := range g.members {
				if name != "" {
					m.members[name] = true
				}
			}
		}
		if v.host.groupsUnsaid {
			for _, name := range v.before[m.criterion()] {
				m.members[name] = true
			}
		}
		if len(m.gids) > 0 {
			continue
		}
		// A name service that is dead says the same as one that has no such group.
		if before := v.before[m.criterion()]; v.host.groupsElsewhere && len(before) > 0 {
			for _, name := range before {
				m.members[name] = true
			}
			v.warnf(m.Group.origin, "group %s is not known to the host now, its %s", m.Group.v, count.Of(len(before), "account stays what it was", "accounts stay what they were"))
			continue
		}
		m.errorf(m.Group.origin, "%s is no group of the host, create it with groupadd or correct the name", shown(m.Group.v))
		m.blind = true
	}
}

// matchedBefore are the accounts that each criterion stood for and that were in force. One
// that was out of service, as somebody nearly root, does not get in because whoever
// knows that has become silent.
func matchedBefore(before *Registry) map[string][]string {
	all := make(map[string][]string)
	if before == nil {
		return all
	}
	for name, b := range before.Blocks {
		if b.Match != "" {
			all[b.Match] = append(all[b.Match], name)
		}
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all
}

// addMatched makes a jail for every account that a [[match]] stands for and no jail
// lists.
func (v *validator) addMatched() {
	taken := make(map[string]bool)
	for _, d := range v.drafts {
		for _, u := range d.Users.list {
			taken[u.login] = true
		}
	}
	v.holdMatched(taken)
	if len(v.matches) == 0 {
		return
	}
	names := keysOf(v.host.byName)
	for _, m := range v.matches {
		if m.blind {
			v.leave(m, nil, m.errors)
			continue
		}
		tpl := v.template(&m.problems, m.Template)
		if tpl != nil && tpl.oneRoot() {
			place := tpl.ownPlace()
			m.errorf(place.origin, "%s is one directory for the jails of all accounts, write {user} or {uid} into it", place.v)
		}
		var system, unusable []string
		root := false
		made := 0
		for _, name := range names {
			a := v.host.byName[name]
			if taken[name] || !m.standsFor(a) {
				continue
			}
			taken[name] = true
			switch {
			case a.uid == 0:
				root = true
			case a.uid < v.host.firstUID || a.uid == nobody || !jail.ValidID(a.uid):
				system = append(system, name)
			case !jail.ValidName(name):
				unusable = append(unusable, name)
			default:
				made++
				v.addMatch(m, tpl, a)
			}
		}
		if root || len(system) > 0 {
			var ps problems
			who := "system accounts (" + someOf(system) + ")"
			switch {
			case root && len(system) == 0:
				who = "root"
			case root:
				who = "root and " + who
			}
			ps.errorf(m.origin, "%s stands for %s, whom no jail can hold; they have none, write it so that it does not", m.criterion(), who)
			v.leave(m, nil, ps.errors)
		}
		if len(unusable) > 0 {
			var ps problems
			ps.errorf(m.origin, "%s stands for accounts no jail can have the name of (%s): %s", m.criterion(), someOf(unusable), nameRule)
			v.leave(m, nil, ps.errors)
		}
		var ghosts []string
		for _, name := range keysOf(m.members) {
			if _, ok := v.host.byName[name]; !ok {
				ghosts = append(ghosts, name)
			}
		}
		if len(ghosts) > 0 {
			v.warnf(m.Group.origin, "group %s has members that are no accounts of the host (%s)", m.Group.v, someOf(ghosts))
		}
		if made == 0 && len(m.errors) > 0 {
			v.leave(m, nil, m.errors)
		} else if made == 0 {
			v.warnf(m.origin, "%s stands for no account that has no jail by now", m.criterion())
		}
		v.warnings = append(v.warnings, m.warnings...)
	}
}

// someOf names a few of many.
func someOf(names []string) string {
	const most = 8
	var some []string
	for i, n := range names {
		if i == most {
			return strings.Join(some, ", ") + " and " + strconv.Itoa(len(names)-most) + " more"
		}
		if !jail.ValidName(n) {
			n = shown(n)
		}
		some = append(some, n)
	}
	return strings.Join(some, ", ")
}

// leave keeps accounts of m, or m itself, out of service.
func (v *validator) leave(m *matchTable, logins []FaultyLogin, errs Errors) {
	what := m.criterion()
	if what == "" {
		what = "of line " + strconv.Itoa(m.line)
	}
	v.left = append(v.left, Fault{File: m.file, Block: "match " + what, Logins: logins, Errors: errs.Sorted()})
}

// addMatch makes the jail of one account, whose name it has.
func (v *validator) addMatch(m *matchTable, tpl *jailTable, a account) {
	if other := v.byName[a.name]; other != nil {
		var ps problems
		ps.errorf(m.origin, "account %s would get a jail of its name, and jail %s at %s:%d is another's; give that one another name, or list the account in a jail's users",
			a.name, a.name, other.file, other.line)
		v.leave(m, []FaultyLogin{{a.name, jail.HostUID(a.uid)}}, ps.errors)
		return
	}
	if listed, ok := v.host.listed[a.name]; ok {
		v.host.use(listed)
	}
	u := &userTable{origin: m.origin, login: a.name}
	t := &jailTable{origin: m.origin, name: a.name, match: m}
	t.Users = usersKey{origin: m.origin, list: []*userTable{u}}
	t.errors = append(t.errors, m.errors...)
	switch {
	case tpl == nil:
		t.Rootfs.origin, t.Rootfs.broken = m.origin, true // who knows what it would be
	case len(m.errors)+len(tpl.errors) > 0:
		// What is wrong with each of its jails for the same reason is said once.
		t.origin = tpl.origin
		t.errors = append(t.errors, tpl.errors...)
		t.Userns, t.UID = tpl.Userns, tpl.UID
		t.Rootfs.origin, t.Rootfs.broken = tpl.origin, true
	default:
		t.origin = tpl.origin
		v.checkHome(&t.problems, tpl, a)
		e := tpl.expandFor(&problems{}, expansionOf(a))
		t.home, t.homeIs = a.home, e.homeIs
		t.from(e.jailTable)
	}
	v.addDraft(t)
}

// holdMatched keeps accounts that were in force by a [[match]] of which it cannot be told
// now whom it stands for from landing elsewhere, by another one further down.
func (v *validator) holdMatched(taken map[string]bool) {
	before := v.opt.Before
	blind := make(map[string]*matchTable) // by criterion, and by file
	usable := make(map[string]bool)
	for _, m := range v.matches {
		c := m.criterion()
		if !m.blind {
			usable[c] = true
			continue
		}
		if c != "" && blind[c] == nil {
			blind[c] = m
		}
		if blind[m.file] == nil {
			blind[m.file] = m
		}
	}
	if before == nil || len(blind) == 0 {
		return
	}
	hold := func(name, file, match string, userns jail.Userns, logins []FaultyLogin) {
		m := blind[match]
		if m == nil {
			m = blind[file]
		}
		if match == "" || usable[match] || m == nil || taken[name] || v.byName[name] != nil {
			return
		}
		taken[name] = true
		v.held = append(v.held, held{jail: name, file: file, match: match, logins: logins, userns: userns, errors: m.errors})
	}
	for i := range before.Jails {
		spec := &before.Jails[i]
		var logins []FaultyLogin
		for _, l := range spec.Logins {
			logins = append(logins, FaultyLogin{l.Name, l.HostUID})
		}
		hold(spec.Name, before.Files[spec.Name], before.Blocks[spec.Name].Match, spec.Userns, logins)
	}
	for i := range before.Faults {
		if f := &before.Faults[i]; f.Jail != "" {
			hold(f.Jail, f.File, f.Match, f.Userns, f.Logins)
		}
	}
}

// Block is what describes a jail.
type Block struct {
	// Line is where it begins, in the jail's file.
	Line int
	// Match is what the [[match]] says that the jail is made by, as `group = "students"`;
	// "" for [jail.NAME].
	Match string
	// Template is the jail's template, "" if it has none.
	Template string
}

// String says it in a word or two.
func (b Block) String() string {
	s := "jail"
	if b.Match != "" {
		s = "match " + b.Match
	}
	if b.Template != "" {
		s += fmt.Sprintf(", template %s", b.Template)
	}
	return s
}
