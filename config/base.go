package config

import (
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"jail/internal/imagestore"
	"jail/internal/jail"
	root "jail/internal/source"
	"jail/internal/wire"
)

// isBased reports whether the jail is to be based on what others have, too.
func (d *draft) isBased() bool { return d.Base.given() }

// ofDirectory reports whether that is a directory, and no image.
func (d *draft) ofDirectory() bool { return d.isBased() && strings.HasPrefix(d.Base.v, "/") }

// rootOrigin is the key by which a jail has the places that are its alone.
func (d *draft) rootOrigin() origin {
	switch {
	case !d.isBased():
		return d.Rootfs.origin
	case d.State.given():
		return d.State.origin
	}
	return d.Base.origin
}

const persistChoice = `write "home", "all" or "none"`

// based turns the entry of a jail with base into where its root comes from. It comes after
// users and settings, which have to fit.
func (v *validator) based(d *draft) {
	persist, persists := jail.PersistHome, true
	switch p := d.set.Persist; p.v {
	case "", "home":
	case "all":
		persist = jail.PersistAll
	case "none":
		persist, persists = jail.PersistNone, false
	default:
		d.errorf(p.origin, "%s is not known, %s", shown(p.v), persistChoice)
	}
	scratch := sizeOf(&d.problems, d.set.Scratch, jail.DefaultScratch, `"512M" or "1G"`, "to write anything to")
	if !d.isBased() {
		for name, key := range map[string]value[string]{"persist": d.jailTable.Persist, "state": d.State, "scratch": d.jailTable.Scratch} {
			if key.given() && key.key == d.below(name) { // and not a template's
				d.errorf(key.origin, `is for jails with base, remove it or write base in the place of rootfs`)
			}
		}
		return
	}
	at := d.Base.origin
	switch {
	case d.Rootfs.given():
		d.errorf(at, "takes the place of rootfs, remove one of the two")
		return
	case v.opt.Rootless:
		d.errorf(at, "is root's to mount, give the jail a rootfs")
		return
	case !d.Base.usable():
		return
	case !d.ofDirectory():
		if !imagestore.Valid(d.Base.v) {
			d.errorf(at, "%s is neither an image (NAME, or NAME/ID for a certain one) nor the absolute path of a directory", shown(d.Base.v))
			return
		}
	case !cleanPath(&d.problems, d.Base):
		return
	case isSystemDir(d.Base.v):
		d.errorf(at, "%s is a directory of the host itself, use a root directory made for jails", d.Base.v)
		return
	}
	src := jail.Source{Kind: jail.Based, Base: d.Base.v, Images: imagestore.DefaultDir, Persist: persist, Scratch: scratch}
	switch s := d.State; {
	case !s.given():
		src.State = path.Join(root.DefaultStates, d.name)
	case !s.usable() || !cleanPath(&d.problems, s):
		return
	case isSystemDir(s.v) || s.v == root.DefaultStates:
		d.errorf(s.origin, "%s is a directory of the host itself, use one made for this jail", s.v)
		return
	case contains(imagestore.DefaultDir, s.v):
		d.errorf(s.origin, "%s is in the store of images, use a directory outside of it", s.v)
		return
	case contains(s.v, path.Dir(v.registry)):
		d.errorf(s.origin, "%s contains this registry, use another directory", s.v)
		return
	case d.ofDirectory() && (contains(s.v, d.Base.v) || contains(d.Base.v, s.v)):
		d.errorf(s.origin, "%s and the base %s are in one another, use a directory beside it", s.v, d.Base.v)
		return
	default:
		src.State = s.v
	}
	for _, u := range d.Users.list {
		v.basedLogin(u, persists)
	}
	for _, m := range d.set.Mounts {
		if persists && m.Target.usable() && contains(m.Target.v, jail.Homes) {
			d.errorf(m.Target.origin, "%s would hide %s, which persists; use a target in it, or persist = \"none\"", m.Target.v, jail.Homes)
		}
	}
	const own = 2 // mounts
	if most := wire.MaxMounts - own; len(d.spec.Mounts) > most {
		d.errorf(at, "has %d mounts, a jail with base can have %d", len(d.spec.Mounts), most)
	}
	d.spec.Source = src
	d.places = root.Of(&d.spec).Places()
}

// basedLogin gives a login that the base knows nothing of what it needs of an account.
// jail-keys goes by that, too, so that it need not look at what has been written inside.
func (v *validator) basedLogin(u *userTable, persists bool) {
	if u.spec.JailName == "" {
		u.spec.JailName = u.login
	}
	switch {
	case !u.Home.usable():
		u.spec.Home = path.Join(jail.Homes, u.spec.JailName)
	case persists && (!contains(jail.Homes, u.Home.v) || u.Home.v == jail.Homes):
		u.errorf(u.Home.origin, "%s is outside of %s and would not persist, use a directory in it", shown(u.Home.v), jail.Homes)
	}
}

// judgeState reports what is wrong with the directory of a state, which is made when it is
// missing, and where it lies.
func (v *validator) judgeState(d *draft, dir string, s *seen) {
	if s == nil {
		return
	}
	at := d.rootOrigin()
	switch {
	case s.errno == unix.ENOENT && path.Dir(dir) == root.DefaultStates:
		return
	case s.errno == unix.ENOENT && s.aboveErrno == unix.ENOENT:
		up := path.Dir(dir)
		d.errorf(at, "%s cannot be made: %s is missing; make it, root's (mkdir -p -m 0700 %s)", dir, up, up)
	case s.errno == unix.ENOENT:
	case s.errno != 0:
		d.errorf(at, "%s", s.fault(dir, ""))
	case s.mode&unix.S_IFMT != unix.S_IFDIR:
		d.errorf(at, "%s is not a directory, correct the path", dir)
	case s.uid != 0 || s.mode&0o077 != 0:
		d.errorf(at, "%s must be root's and nobody else's to enter, since set-uid files of the jail are in it; chown root %s, chmod 0700 %s", dir, dir, dir)
	}
	for _, st := range s.above {
		if dir = path.Dir(dir); st.uid != 0 || st.mode&0o022 != 0 && st.mode&unix.S_ISVTX == 0 {
			d.errorf(at, "somebody besides root may write to %s and so replace the jail's state, chown root %s and chmod go-w %s", dir, dir, dir)
		}
	}
}

// baseToLook is the path by which a base is looked at, "" if there is none to look at.
func (d *draft) baseToLook() string {
	switch {
	case d.spec.Source.Kind != jail.Based:
		return ""
	case d.ofDirectory():
		return d.Base.v
	case strings.Contains(d.Base.v, "/"):
		return path.Join(imagestore.DefaultDir, d.Base.v)
	}
	return path.Join(imagestore.DefaultDir, d.Base.v, "current")
}

// judgeBases is judgeBase for all jails. It returns where the bases are.
func (v *validator) judgeBases(seen map[string]*seen, roots placeSet) placeSet {
	bases := newPlaceSet()
	for _, d := range v.drafts {
		if p := d.baseToLook(); p != "" {
			v.judgeBase(d, seen, roots)
			bases.add(placeOf(p, seen[p]), d)
		}
	}
	return bases
}

// judgeWritten reports a mount source through which what others are based on could be
// written to: it is this mount's fault, and not theirs.
func judgeWritten(d *draft, src value[string], p place, bases placeSet) {
	for other, how := range bases.find(p) {
		d.errorf(src.origin, "%s %s what jail %q is based on, and a jail could write to it; set readonly = true, or show a directory elsewhere", src.v, how, other.name)
		return
	}
}

// judgeBase reports what is wrong with a base and where it lies.
func (v *validator) judgeBase(d *draft, seen map[string]*seen, roots placeSet) {
	p := d.baseToLook()
	s := seen[p]
	if p == "" || s == nil {
		return
	}
	at := d.Base.origin
	switch {
	case !d.ofDirectory() && s.errno == unix.ENOENT:
		d.errorf(at, "there is no image %s; jail image ls shows those that are there, jail image import makes one", d.Base.v)
	case !d.ofDirectory() && s.errno == unix.ELOOP: // current is a link
	case s.errno != 0:
		d.errorf(at, "%s", s.fault(p, "create it or correct the path"))
	case s.mode&unix.S_IFMT != unix.S_IFDIR:
		d.errorf(at, "%s is not a directory, correct the path", p)
	case s.uid != 0 || s.mode&0o022 != 0:
		d.errorf(at, "%s is not root's alone to write to (uid %d, mode %04o), and what is in it is every jail's; chown root %s, chmod go-w %s", p, s.uid, s.mode&0o7777, p, p)
	}
	if !d.ofDirectory() {
		return
	}
	for other, how := range roots.find(placeOf(p, s)) {
		d.errorf(at, "%s %s the rootfs of jail %q, whose users may change it; use a directory of its own", p, how, other.name)
		break
	}
}

// explainBase are the keys of a jail with base.
func (d *draft) explainBase(e *Explanation) {
	if !d.isBased() {
		return
	}
	src := &e.Spec.Source
	for _, s := range []struct {
		key, value string
		from       origin
	}{
		{"base", shown(d.Base.v), d.Base.origin}, {"persist", shown(src.Persist.String()), d.set.Persist.origin},
		{"state", shown(src.State), d.State.origin}, {"scratch", sizeText(src.Scratch), d.set.Scratch.origin},
	} {
		e.Settings = append(e.Settings, Setting{s.key, s.value, s.from.from()})
	}
}

// sizeText is a size as the registry has it.
func sizeText(n uint64) string {
	unit := ""
	for _, u := range []string{"K", "M", "G", "T"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, u
	}
	return shown(strconv.FormatUint(n, 10) + unit)
}
