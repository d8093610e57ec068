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
	v := &validator{problems: ps, opt: opt, host: parseHost(opt), registry: path, byName: make(map[string]*draft)}
	docs := make([]*document, 0, len(sources))
	for _, src := range sources {
		doc := &document{path: src.path, problems: src.problems, unread: true}
		if len(src.errors) == 0 {
			doc = parse(src.path, src.text)
		}
		docs = append(docs, doc)
	}
	v.findAccounts(docs)
	for _, doc := range docs {
		v.add(doc, doc.path == path)
	}
	reg := &Registry{}
	v.finish(reg)
	reg.Accounts = v.host.elsewhere
	reg.Warnings = v.warnings.sorted()
	if len(v.errors) > 0 {
		errs := append(v.errors, reg.Errors()...)
		return &Registry{Warnings: reg.Warnings}, errs.sorted()
	}
	return reg, nil
}

// findAccounts looks for the accounts of the registry that the files do not have.
func (v *validator) findAccounts(docs []*document) {
	if v.opt.FilesOnly {
		return
	}
	var names []string
	at := make(map[string]origin)
	for _, doc := range docs {
		for _, t := range doc.Jails {
			for _, u := range t.Users.list {
				if jail.ValidName(u.login) {
					names = append(names, u.login)
					at[u.login] = u.origin
				}
			}
		}
	}
	names = v.host.missing(names)
	if len(names) == 0 && !v.host.groupsElsewhere {
		return
	}
	var before []Account
	if v.opt.Before != nil {
		before = v.opt.Before.Accounts
	}
	kept, err := v.host.ask(names, before, v.opt.AccountsWithin)
	if err != nil {
		v.warnf(origin{file: "/etc/nsswitch.conf"}, "%v, so accounts that are not in /etc/passwd are those known before", err)
	}
	for _, n := range kept {
		v.warnf(at[n], "account %s is not known to the host now, it stays what it was", n)
	}
}
