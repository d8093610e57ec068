package config

import (
	"path"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"jail/internal/jail"
	root "jail/internal/source"
	"jail/internal/wire"
)

// ofHost is the rootfs of a cage made of the host itself.
const ofHost = "host"

// isCage reports whether the jail is to be a cage of the host.
func (d *draft) isCage() bool { return d.Rootfs.v == ofHost }

// shown are the paths of the host that a cage shows besides, as far as they can be.
func (d *draft) shown() (list []value[string]) {
	if !d.isCage() {
		return nil
	}
	for _, p := range d.set.Show {
		if slices.Contains(d.spec.Source.Show, p.v) {
			list = append(list, p)
		}
	}
	return list
}

// made is what is a cage's own inside, or PID 1's.
var made = []string{"/proc", "/sys", "/dev", "/run/lock", "/run/screen", "/run/user", "/tmp", "/var/tmp", "/root"}

// cage turns the entry of a cage into where its root comes from. It comes after users and
// settings, which have to fit.
func (v *validator) cage(d *draft) {
	if !d.isCage() {
		for _, list := range []pathsKey{d.jailTable.Show, d.jailTable.Hide} {
			if len(list) > 0 {
				d.errorf(list[0].origin, `is for cages of the host, remove it or set rootfs = "host"`)
			}
		}
		return
	}
	at := d.Rootfs.origin
	if v.opt.Rootless {
		d.errorf(at, "a cage of the host is root's to make, name a directory")
		return
	}
	if c := d.set.ContainerRoot; c.v {
		d.errorf(c.origin, "cannot be in a cage of the host, whose programs are the host's own; remove it or give the jail a rootfs of its own")
	}
	for _, key := range []value[string]{d.set.ResolvConf, d.set.Hosts} {
		if key.v == "rootfs" {
			d.errorf(key.origin, "is for a rootfs of its own, a cage of the host has none; remove it")
		}
	}
	// What is prepared follows the host in these.
	d.spec.OwnResolver, d.spec.OwnHosts = true, true
	if n := len(d.Users.list); n > 1 {
		d.errorf(d.Users.origin, "are %d logins, a cage of the host is one login's: it is made around a home; give each a jail of its own, as one [[match]] does for a group, and show by mounts what they share", n)
	}
	if len(d.Users.list) != 1 || !d.Users.list[0].known {
		return
	}
	u := d.Users.list[0]
	home, ok := v.cageLogin(d, u)
	if !ok {
		return
	}
	for _, m := range d.set.Mounts {
		switch t := m.Target.v; {
		case !m.Target.usable():
		case slices.ContainsFunc(append(root.Programs(), "/etc"), func(dir string) bool { return contains(dir, t) }):
			d.errorf(m.Target.origin, "%s is the host's in a cage, use a target outside of its programs and /etc", t)
		case contains(t, home):
			d.errorf(m.Target.origin, "%s would hide the home %s, use another target", t, home)
		}
	}
	if most := wire.MaxMounts - root.MaxOwnMounts; len(d.spec.Mounts) > most {
		d.errorf(at, "has %d mounts, a cage of the host can have %d", len(d.spec.Mounts), most)
	}
	src := jail.Source{Kind: jail.Host, Home: home, Group: u.login, Prepared: root.Prepared(v.opt.RuntimeDir)}
	for _, g := range v.host.groups {
		if g.gid == uint32(u.spec.GID) {
			src.Group = g.name
			break
		}
	}
	if acct, ok := v.host.user(u.login); ok {
		src.Groups = v.host.groupsOf(acct)
	}
	if most := root.MaxGroups; len(src.Groups) > most {
		d.warnf(u.origin, "login %q is in %d groups besides its own, a cage has the first %d", u.login, len(src.Groups), most)
		src.Groups = src.Groups[:most]
	}
	src.Show = v.cagePaths(d, d.set.Show, home, func(p string) string {
		switch {
		case slices.ContainsFunc(root.Programs(), func(dir string) bool { return contains(dir, p) }):
			return "is shown anyway, remove it"
		case contains("/etc", p) || p == "/run" || v.refusedSource(p) != "":
			return "is none to show, show a directory beside it"
		case slices.ContainsFunc(append(slices.Clone(made), "/etc"), func(dir string) bool { return contains(dir, p) || contains(p, dir) }):
			return "has what is the cage's own, show directories in or beside it"
		}
		return ""
	})
	src.Hide = v.cagePaths(d, d.set.Hide, home, func(p string) string {
		if slices.ContainsFunc(append(slices.Clone(made), "/etc", "/run", "/usr", "/usr/bin", "/usr/lib"), func(dir string) bool { return contains(p, dir) }) ||
			slices.ContainsFunc([]string{"/proc", "/sys", "/dev"}, func(dir string) bool { return contains(dir, p) }) {
			return "cannot be hidden, hide directories in it"
		}
		return ""
	})
	d.spec.Source = src
	d.places = root.Of(&d.spec).Places()
}

// cageLogin makes the login of a cage what its account is on the host, and returns its
// home. The account's files have the host's ids, so it has them inside as well.
func (v *validator) cageLogin(d *draft, u *userTable) (home string, ok bool) {
	acct, _ := v.host.user(u.login)
	if !v.ownIDs(u, d, acct, "in a cage of the host: its home has the host's ids; remove it") {
		return "", false
	}
	if u.spec.JailName == "" {
		u.spec.JailName = u.login
	}
	home, from := acct.home, u.origin
	if u.Home.usable() {
		home, from = u.Home.v, u.Home.origin
	}
	const fix = "; give it a home of its own (usermod -d), or the path of one: home = \"/path\""
	switch {
	case !isClean(home):
		u.errorf(from, "the home of login %q, %s, is no clean absolute path%s", u.login, shown(home), fix)
	case isSystemDir(home) || contains("/usr", home) || slices.ContainsFunc(made, func(dir string) bool { return contains(dir, home) || contains(home, dir) }):
		u.errorf(from, "the home of login %q, %s, is a directory of the host itself%s", u.login, home, fix)
	case contains(home, path.Dir(v.registry)):
		u.errorf(from, "the home of login %q, %s, contains this registry%s", u.login, home, fix)
	default:
		u.spec.Home = home
		return home, true
	}
	return "", false
}

// cagePaths are those of list that nothing is wrong with, sorted.
func (v *validator) cagePaths(d *draft, list pathsKey, home string, refuse func(string) string) (paths []string) {
	for _, p := range list {
		if !cleanPath(&d.problems, p) || slices.Contains(paths, p.v) {
			continue
		}
		why := refuse(p.v)
		if why == "" && (contains(p.v, home) || contains(home, p.v)) {
			why = "is the cage's home, in it or around it; remove it"
		}
		if why != "" {
			d.errorf(p.origin, "%s %s", p.v, why)
			continue
		}
		paths = append(paths, p.v)
	}
	sort.Strings(paths)
	if len(paths) > root.MaxListed {
		d.errorf(list[0].origin, "are %d paths, %d are possible; name a directory above several", len(paths), root.MaxListed)
	}
	return paths
}

// judgeCage reports what is wrong with the home a cage is made around, and with the
// host's programs.
func (v *validator) judgeCage(d *draft, home string, seen map[string]*seen) {
	at, u := d.Rootfs.origin, d.Users.list[0]
	switch s := seen[home]; {
	case s == nil:
	case s.errno != 0:
		u.errorf(u.origin, "%s", s.fault(home, "which is the home of its cage; create it (mkhomedir_helper "+u.login+")"))
	case s.mode&unix.S_IFMT != unix.S_IFDIR:
		u.errorf(u.origin, "%s is not a directory, but is to be the home of its cage", home)
	case s.aboveErrno != 0:
		u.errorf(u.origin, "the directories above %s cannot be checked: %v, correct their permissions", home, s.aboveErrno)
	case s.uid != uint32(u.spec.UID):
		u.errorf(u.origin, "%s belongs to uid %d and is no home of login %q, chown %d %s", home, s.uid, u.login, u.spec.UID, home)
	default:
		dir := home
		for _, st := range s.above {
			dir = path.Dir(dir)
			if st.uid != 0 || st.mode&0o022 != 0 && st.mode&unix.S_ISVTX == 0 {
				d.warnf(at, "somebody besides root may write to %s and so replace the home of the cage, chown root %s and chmod go-w %s", dir, dir, dir)
			}
		}
	}
	for _, p := range root.Programs() {
		s := seen[p]
		if s == nil || s.errno == unix.ELOOP || s.errno == unix.ENOENT { // a merged /usr has links
			continue
		}
		if s.errno != 0 {
			d.errorf(at, "%s", s.fault(p, ""))
		} else if s.uid != 0 || s.mode&0o002 != 0 {
			d.errorf(at, "%s is not root's alone to write to (uid %d, mode %04o), so no cage can be made of it; chown root %s, chmod o-w %s", p, s.uid, s.mode&0o7777, p, p)
		}
	}
}

// pathsKey is a list of paths, in order.
type pathsKey []value[string]

func (a *pathsKey) decode(ps *problems, o origin, p *position, v any) {
	list, ok := items(v)
	if !ok {
		wrongType(ps, o, v, `an array of paths such as [ "/var/lib/dpkg" ]`)
		return
	}
	for i, item := range list {
		at := p.item(i)
		var path value[string]
		path.decode(ps, origin{o.file, at.line, o.key}, at, item)
		if path.usable() {
			*a = append(*a, path)
		}
	}
}
