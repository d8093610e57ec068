package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"jail/internal/jail"
)

// A template is [template.NAME]: the keys of a jail, for jails that are not written
// down one by one. It is read into a jailTable, of which Users and Template are not a
// template's. What it says of one account, it says by {user}, {uid} and {home}.

// words are what may stand between braces, and what makes up for it.
var words = []string{"user", "uid", "home"}

// expansion is the account that the values of a template are for. The zero value is
// nobody: whatever would have to be expanded is then as if it had been given wrongly,
// for a reason that is known already.
type expansion struct {
	user, uid, home string
}

// expand replaces {user}, {uid} and {home}; {{ and }} are a brace. has is called for
// each word. It is an error if anything else is between braces, or one is alone.
func (x *expansion) expand(s string, has func(word string)) (string, error) {
	if !strings.ContainsAny(s, "{}") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '{' && s[i] != '}':
			b.WriteByte(s[i])
		case strings.HasPrefix(s[i:], "{{"), strings.HasPrefix(s[i:], "}}"):
			b.WriteByte(s[i])
			i++
		default:
			word, _, closed := strings.Cut(s[i+1:], "}")
			if s[i] == '}' || !closed || !slices.Contains(words, word) {
				return "", fmt.Errorf("%s has a brace that belongs to none of {user}, {uid} and {home}; write {{ or }} for a brace itself", shown(s))
			}
			has(word)
			b.WriteString(map[string]string{"user": x.user, "uid": x.uid, "home": x.home}[word])
			i += len(word) + 1
		}
	}
	return b.String(), nil
}

// expandable calls f with every value of t that may have {user} and the like in it,
// where it is looked up as a place on the host, or not.
func (t *jailTable) expandable(f func(x *value[string], place bool)) {
	f(&t.Rootfs, true)
	f(&t.State, true)
	f(&t.Hostname, false)
	for _, name := range keysOf(t.Env) {
		val := t.Env[name]
		f(&val, false)
		t.Env[name] = val
	}
	for i := range t.Mounts {
		f(&t.Mounts[i].Source, true)
		f(&t.Mounts[i].Target, false)
	}
	for i := range t.Show {
		f(&t.Show[i], true)
	}
	for i := range t.Hide {
		f(&t.Hide[i], false)
	}
	for i := range t.Services.list {
		s := &t.Services.list[i]
		f(&s.User, false)
		for j := range s.Exec.list {
			f(&s.Exec.list[j], false)
			s.Exec.broken = s.Exec.broken || !s.Exec.list[j].usable()
		}
	}
}

// expanded is a template's keys for one account.
type expanded struct {
	*jailTable
	says     map[string]bool // the words in it
	homeIs   origin          // where {home} names a place on the host
	faultyAt origin          // the first that could not be expanded
}

// expandFor returns the keys of a template for the account of x; nil is nobody.
func (t *jailTable) expandFor(ps *problems, x *expansion) expanded {
	c := *t
	c.problems = problems{}
	c.Env, c.Mounts = maps.Clone(t.Env), slices.Clone(t.Mounts)
	c.Show, c.Hide = slices.Clone(t.Show), slices.Clone(t.Hide)
	c.Services.list = slices.Clone(t.Services.list)
	for i := range c.Services.list {
		c.Services.list[i].Exec.list = slices.Clone(c.Services.list[i].Exec.list)
	}
	e := expanded{jailTable: &c, says: map[string]bool{}}
	c.expandable(func(val *value[string], place bool) {
		if !val.usable() {
			return
		}
		who := x
		if who == nil {
			who = &expansion{}
		}
		var here bool
		text, err := who.expand(val.v, func(word string) {
			here, e.says[word] = true, true
			if place && word == "home" && !e.homeIs.given() {
				e.homeIs = val.origin
			}
		})
		switch {
		case err != nil:
			ps.errorf(val.origin, "%v", err)
			val.broken = true
		case here && x == nil:
			val.broken = true
		default:
			val.v = text
		}
		if val.broken && !e.faultyAt.given() {
			e.faultyAt = val.origin
		}
	})
	return e
}

// from takes from a template what t does not say itself.
func (t *jailTable) from(tpl *jailTable) {
	if !t.Rootfs.given() && !t.Base.given() {
		t.Rootfs, t.Base = tpl.Rootfs, tpl.Base
	}
	t.State = t.State.or(tpl.State)
	t.UID = t.UID.or(tpl.UID)
	if !t.Services.given() {
		t.Services = tpl.Services
	}
	t.settings = t.settings.over(tpl.settings)
}

// oneRoot reports whether all jails of a template would have the same root directory.
func (t *jailTable) oneRoot() bool {
	place := t.ownPlace()
	one := place.usable() && strings.HasPrefix(place.v, "/")
	_, err := (&expansion{}).expand(place.v, func(string) { one = false })
	return one && err == nil
}

// ownPlace is the key that says which directory is a jail's alone.
func (t *jailTable) ownPlace() value[string] {
	if t.Base.given() {
		return t.State
	}
	return t.Rootfs
}

// addTemplates reads the templates of all files, which may be named in any of them.
func (v *validator) addTemplates(docs []*document) {
	v.templates = make(map[string]*jailTable)
	for _, doc := range docs {
		for _, t := range doc.Templates {
			if doc.path != v.registry {
				t.errors = append(t.errors, doc.errors...)
			}
			v.ordered = append(v.ordered, t)
			if other := v.templates[t.name]; other != nil {
				clash(t.origin, &t.problems, &other.problems, "template %s is already defined at %s:%d, remove one", shown(t.name), other.file, other.line)
				continue
			}
			v.templates[t.name] = t
			v.checkTemplate(t)
		}
	}
}

// checkTemplate finds what is wrong with a template whoever is to have it, by giving it
// to somebody.
func (v *validator) checkTemplate(t *jailTable) {
	if !jail.ValidName(t.name) {
		t.errorf(t.origin, "the name %s cannot be used, %s", shown(t.name), nameRule)
	}
	if t.Template.given() {
		t.errorf(t.Template.origin, "templates do not build on one another, write what they share into [defaults]")
	}
	if t.Users.given() {
		t.errorf(t.Users.origin, "belongs to a jail; whose jails are made by this template, [[match]] says")
	}
	if t.Userns.fixed != nil {
		t.errorf(t.Userns.origin, `cannot be one range for all jails of a template, write "auto", "keep" or false`)
		t.Userns = usernsKey{}
	}
	e := t.expandFor(&t.problems, &expansion{"somebody", "1000", "/home/somebody"})
	t.says = e.says
	t.homeIs = e.homeIs
	if len(t.errors) > 0 {
		return
	}
	sample := &draft{jailTable: e.jailTable, set: e.settings.over(v.defaults.settings)}
	if t.Rootfs.given() {
		v.rootfs(sample)
	}
	if t.UID.usable() {
		checkID(&sample.problems, t.UID)
	}
	v.settings(&sample.problems, &jail.Spec{}, &sample.set, t.origin)
	if t.Base.given() {
		v.based(sample)
	}
	v.services(sample)
	t.errors = append(t.errors, sample.errors...)
}

// template returns the template that a key names, if there is one.
func (v *validator) template(ps *problems, name value[string]) *jailTable {
	if !name.usable() {
		return nil
	}
	if t := v.templates[name.v]; t != nil {
		t.used = true
		return t
	}
	var known []string
	for n := range v.templates {
		known = append(known, shown(n))
	}
	slices.Sort(known)
	what := "there is none, write [template.NAME]"
	if len(known) > 0 {
		what = "there are: " + strings.Join(known, ", ")
	}
	ps.errorf(name.origin, "%s is no template, %s", shown(name.v), what)
	return nil
}

// applyTemplate gives a jail that names a template what it does not say itself.
func (v *validator) applyTemplate(t *jailTable) {
	tpl := v.template(&t.problems, t.Template)
	if tpl == nil {
		if t.Template.given() && !t.Rootfs.given() && !t.Base.given() {
			t.Rootfs.origin, t.Rootfs.broken = t.Template.origin, true // who knows what it would be
		}
		return
	}
	t.errors = append(t.errors, tpl.errors...)
	var x *expansion
	if len(t.Users.list) == 1 {
		if a, ok := v.host.user(t.Users.list[0].login); ok && jail.ValidName(a.name) {
			x = expansionOf(a)
			v.checkHome(&t.problems, tpl, a)
		}
	}
	var spoken problems // by the template itself
	e := tpl.expandFor(&spoken, x)
	if x == nil && len(t.Users.list) != 1 && len(e.says) > 0 && !t.Users.broken {
		t.errorf(t.Template.origin, "template %s has {%s} at %s:%d, which stands for one account, and this jail has %d users; use another template",
			t.Template.v, strings.Join(keysOf(e.says), "} and {"), e.faultyAt.file, e.faultyAt.line, len(t.Users.list))
	}
	if x != nil {
		t.home, t.homeIs = x.home, e.homeIs
	}
	t.from(e.jailTable)
}

func expansionOf(a account) *expansion { return &expansion{a.name, uintString(a.uid), a.home} }

// checkHome reports a home directory that {home} cannot stand for: whoever administrates
// the accounts has not been asked whether jails may see a directory of the host's own.
func (v *validator) checkHome(ps *problems, tpl *jailTable, a account) {
	if !tpl.says["home"] {
		return
	}
	switch {
	case !isClean(a.home):
		ps.errorf(tpl.homeWord(), "account %s has %s as home directory, which is no clean absolute path; correct it with usermod -d", a.name, shown(a.home))
	case isSystemDir(a.home):
		ps.errorf(tpl.homeWord(), "account %s has %s as home directory, which is the host's own; give it another with usermod -d", a.name, a.home)
	}
}

// homeWord is where {home} is.
func (t *jailTable) homeWord() origin {
	if t.homeIs.given() {
		return t.homeIs
	}
	return t.origin
}

// unusedTemplates reports what is wrong with templates that no jail has.
func (v *validator) unusedTemplates(reg *Registry) {
	for _, t := range v.ordered {
		if len(t.errors) > 0 && !t.used {
			reg.Faults = append(reg.Faults, Fault{File: t.file, Block: "template " + shown(t.name), Errors: t.errors.Sorted()})
		}
		v.warnings = append(v.warnings, t.warnings...)
	}
}
