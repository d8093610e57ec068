package config

import (
	"os"
	"path/filepath"

	"jail/internal/jail"
)

// source is the text of one registry file.
type source struct {
	path     string
	text     []byte
	problems // with one, the text is not to be used
}

// Load reads the registry at path and its drop-ins, and judges them.
//
// A fault of one jail, one login or one drop-in is no error: it is in Faults, and
// what it concerns in no Spec. The error, of type Errors, is for what makes the whole
// unsafe, as another's hand on the main file, or a fault of it outside a jail. It then
// holds every fault found; the Registry is not nil but has no jails, only the
// warnings, so that whoever ignores the error admits nobody.
func Load(path string, opt Options) (*Registry, error) {
	var ps problems
	abs, err := filepath.Abs(path)
	if err != nil {
		ps.errorf(origin{file: path}, "%v, give an absolute path", err)
		return &Registry{}, ps.errors
	}
	opt = opt.complete(&ps)
	sources := readRegistry(&ps, abs, opt)
	return build(ps, abs, sources, opt)
}

// complete fills in what the caller left to the host.
func (opt Options) complete(ps *problems) Options {
	if opt.euid == nil {
		euid := uint32(os.Geteuid())
		opt.euid = &euid
	}
	if opt.RuntimeDir == "" {
		opt.RuntimeDir = DefaultRuntimeDir
	}
	opt.RuntimeDir = filepath.Clean(opt.RuntimeDir)
	if opt.AccountsWithin == 0 {
		opt.AccountsWithin = accountsWithin
	}
	// Whose text is given is the whole host.
	opt.FilesOnly = opt.FilesOnly || opt.Passwd != nil
	for _, f := range []struct {
		text     *[]byte
		path     string
		required bool
	}{
		{&opt.Passwd, "/etc/passwd", true},
		{&opt.Group, "/etc/group", true},
		{&opt.SubUID, "/etc/subuid", false},
		{&opt.SubGID, "/etc/subgid", false},
		{&opt.LoginDefs, "/etc/login.defs", false},
		{&opt.PortRange, "/proc/sys/net/ipv4/ip_local_port_range", false},
		{&opt.ReservedPorts, "/proc/sys/net/ipv4/ip_local_reserved_ports", false},
	} {
		if *f.text != nil {
			continue
		}
		text, err := os.ReadFile(f.path)
		if err != nil && (f.required || !os.IsNotExist(err)) {
			ps.errorf(origin{file: f.path}, "cannot be read (%v), the registry cannot be checked without it", errno(err))
		}
		*f.text = text
	}
	return opt
}

// build turns the registry's text into a Registry. path is the main file's, ps what
// is known to be wrong with the whole.
func build(ps problems, path string, sources []source, opt Options) (*Registry, error) {
	v := &validator{problems: ps, opt: opt, host: parseHost(opt), registry: path, byName: make(map[string]*draft), before: matchedBefore(opt.Before)}
	docs := make([]*document, 0, len(sources))
	for _, src := range sources {
		doc := &document{path: src.path, problems: src.problems, unread: true}
		if len(src.errors) == 0 {
			doc = parse(src.path, src.text)
		}
		docs = append(docs, doc)
	}
	for _, doc := range docs {
		v.addTop(doc, doc.path == path)
	}
	v.readMatches(docs)
	v.findAccounts(docs)
	v.addTemplates(docs)
	for _, doc := range docs {
		v.addJails(doc, doc.path == path)
	}
	v.addMatched()
	reg := &Registry{}
	v.finish(reg)
	reg.Acknowledged = v.acknowledged()
	reg.Metrics = v.metrics()
	reg.Accounts = v.host.elsewhere
	reg.Reserved = v.reservedPorts()
	for _, m := range v.matches {
		if m.Group.usable() && !m.blind {
			reg.MatchGroups = append(reg.MatchGroups, m.Group.v)
		}
	}
	reg.Warnings = v.warnings.Sorted()
	if len(v.errors) > 0 {
		errs := append(v.errors, reg.Errors()...)
		return &Registry{Warnings: reg.Warnings}, errs.Sorted()
	}
	return reg, nil
}

// findAccounts looks for the accounts and groups of the registry that the files do not
// have.
func (v *validator) findAccounts(docs []*document) {
	defer v.findMembers()
	if v.opt.FilesOnly {
		return
	}
	q := question{before: v.before}
	at := make(map[string]origin)
	for _, doc := range docs {
		for _, t := range doc.Jails {
			for _, u := range t.Users.list {
				if jail.ValidName(u.login) {
					q.names = append(q.names, u.login)
					at[u.login] = u.origin
				}
			}
		}
	}
	q.names = v.host.missing(q.names)
	for _, m := range v.matches {
		if m.blind {
			continue
		}
		if m.Group.usable() {
			q.groups = append(q.groups, m.Group.v)
		} else if !m.wildcard() {
			q.members = append(q.members, m.User.v)
		}
		q.all = q.all || m.wildcard()
		q.members = append(q.members, v.before[m.criterion()]...)
		for _, name := range v.before[m.criterion()] {
			at[name] = m.origin
		}
	}
	q.all = q.all && len(v.host.passwdElsewhere) > 0
	if len(q.names) == 0 && !v.host.groupsElsewhere && !q.all && len(q.members) == 0 {
		return
	}
	var before []Account
	if v.opt.Before != nil {
		before = v.opt.Before.Accounts
	}
	kept, err := v.host.ask(q, before, v.opt.AccountsWithin)
	if err != nil {
		v.warnf(origin{file: "/etc/nsswitch.conf"}, "%v, so accounts that are not in /etc/passwd are those known before", err)
	}
	for _, n := range kept {
		v.warnf(at[n], "account %s is not known to the host now, it stays what it was", n)
	}
	if source, silent := v.host.unlisted(); silent && err == nil {
		for _, m := range v.matches {
			switch {
			case m.blind || !m.wildcard():
			case m.Group.usable():
				v.warnf(m.origin, "%s of nsswitch.conf lists no accounts, so of those that have %s as their primary group only the ones of /etc/passwd are found; make the others members of the group",
					source, m.Group.v)
			default:
				v.warnf(m.origin, "%s of nsswitch.conf lists no accounts, so only those of /etc/passwd are matched by %s; use group = \"NAME\" with members", source, m.criterion())
			}
		}
	}
}
