// Package provision makes and takes away what a login needs: an account of the host, a
// user inside, an entry in the registry, keys.
//
// A plan is data: it says all that a run will make, and is written down before anything
// is made. A run that fails, is interrupted or is killed leaves its plan, and whoever runs
// next takes away what is in it; so nothing half-made lasts. To remove a login is the same:
// a plan of what there is, taken away. Taking away looks at each thing first, is done where
// it is as the plan says, and so may be done twice.
package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"jail/config"
	"jail/internal/authkeys"
	"jail/internal/event"
	"jail/internal/jail"
)

// Group is the group of the host's that the block for sshd is for.
const Group = "jailed"

// Request is one login to be made.
type Request struct {
	Login string
	// Jail is the jail it lands in; "" is one of its own name.
	Jail string
	// UID is its uid on the host, and of the user inside if one is made; 0 finds one.
	UID uint32
	// Keys are lines of authorized_keys(5).
	Keys []string
	// Rootfs is the root directory of a jail that is not in the registry yet.
	Rootfs string
	// Template is one of the registry's, for what a jail that is not in it yet does not say itself; "" is none.
	Template string
	// Password is the account's, "" for none. No plan has it.
	Password string
	// Host is the account of the host that the login is, where it is there; nil makes one.
	Host *config.Account
}

// Plan is what a run makes, or takes away.
type Plan struct {
	Verb   string // for people: "add alice"
	Main   bool   // the registry's main file is made
	Logins []Login
}

// Login is what there is to be of one login. It is written to the journal: no secret is in it.
type Login struct {
	Login   string
	HostUID uint32
	Account bool // the account of the host is ours to take away
	Shell   string
	// Adopted says that the account was there and stays. Reshell gives it Shell in the place of
	// OldShell; Joined puts it into Group.
	Adopted  bool   `json:",omitempty"`
	Reshell  bool   `json:",omitempty"`
	OldShell string `json:",omitempty"`
	Joined   bool   `json:",omitempty"`
	Jail     string
	Rootfs   string
	NewJail  bool
	Template string `json:",omitempty"`
	File     string // of the registry, "" if the login is in none
	Inside   User
	// User and Home say that the user inside and his home are made by this run, or go with
	// it. Where they are somebody else's, Keys are taken out only.
	User, Home bool
	Keys       []string
	// Sole says that no other login is the same user inside, so that his processes are this one's.
	Sole bool
	// Mounts are what the jail has over its rootfs, Base the first of its ids on the host, 0
	// if they are the host's. They are known when the registry has been read with the login in it.
	Mounts []jail.Mount
	Base   uint32
}

// known is a login or a jail that the registry has.
type known struct {
	jail, file, rootfs string
}

// world is what there is before a plan.
type world struct {
	host   host
	shell  string // jail-enter
	main   bool   // the main file exists
	jails  map[string]known
	logins map[string]string // in the registry: its jail
	// tree reads the account files of a jail's root file system.
	tree func(k known) (*tree, error)
	// home says whose a directory inside is; ok is false if there is none.
	home func(k known, path string) (uid uint32, ok bool, err error)
	dir  string // of the drop-ins
}

// makePlan says what is to be made for requests. Any request that cannot be met is an
// error, and then nothing is.
func makePlan(w *world, requests []Request) (*Plan, error) {
	if len(requests) == 0 {
		return nil, errors.New("no login to add")
	}
	if !w.host.hasGroup(Group) {
		return nil, fmt.Errorf("the host has no group %q, which sshd's block is for: jail setup", Group)
	}
	p := &Plan{Verb: "add " + requests[0].Login, Main: !w.main}
	if len(requests) > 1 {
		p.Verb = fmt.Sprintf("add %s and %d more", requests[0].Login, len(requests)-1)
	}
	trees := make(map[string]*tree)
	hostIDs := [][]uint32{ids(w.host.passwd), ids(w.host.group)}
	for i := range requests {
		if a := requests[i].Host; a != nil { // of a directory, too
			hostIDs[0] = append(hostIDs[0], a.UID)
		}
	}
	frees := make(map[string]*free)
	seen := make(map[string]bool)
	var errs []error
	for i := range requests {
		r := &requests[i]
		l, err := w.plan(r, trees, frees, hostIDs)
		if err == nil && seen[r.Login] {
			err = errors.New("is there twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", quoteLogin(r.Login), err))
			if len(errs) == 20 {
				break
			}
			continue
		}
		seen[r.Login] = true
		hostIDs[0] = append(hostIDs[0], l.HostUID)
		p.Logins = append(p.Logins, l)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// passOver takes the accounts of the host out of requests that are logins of the registry, and
// names them with their jails.
func (w *world) passOver(requests []Request) (rest []Request, there []string) {
	for _, r := range requests {
		if in, ok := w.logins[r.Login]; ok && r.Host != nil {
			if in != r.Login {
				in = r.Login + " (jail " + in + ")"
			}
			there = append(there, in)
			continue
		}
		rest = append(rest, r)
	}
	return rest, there
}

// some names a few of many.
func some(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func quoteLogin(s string) string {
	if jail.ValidName(s) {
		return s
	}
	return fmt.Sprintf("%.40q", s)
}

func (w *world) plan(r *Request, trees map[string]*tree, frees map[string]*free, hostIDs [][]uint32) (Login, error) {
	if !jail.ValidName(r.Login) {
		return Login{}, errors.New("is no login name: a lower-case letter or _, then up to 31 of these, digits and -")
	}
	name := r.Jail
	if name == "" {
		name = r.Login
	}
	if !jail.ValidName(name) {
		return Login{}, fmt.Errorf("%.40q is no name of a jail", name)
	}
	if in, ok := w.logins[r.Login]; ok {
		return Login{}, fmt.Errorf("is in the registry already, in jail %s; jail key %[2]s add FILE gives it a key, jail rm %[2]s takes it away", in, r.Login)
	}
	switch {
	case r.Host != nil && (r.Host.UID < w.host.uidMin || !jail.ValidID(r.Host.UID)):
		return Login{}, fmt.Errorf("uid %d is root's or a system account's, whom no jail can hold; take it out of the group", r.Host.UID)
	case r.Host != nil:
	case isSystem(w.host.passwd, r.Login, w.host.uidMin):
		return Login{}, errors.New("is root's or a system account's name on the host, whom no jail can hold; choose another")
	case hasName(w.host.passwd, r.Login):
		return Login{}, errors.New("the host has an account of that name; choose another, or give that one a jail: jail add --from-group, or [[match]] in the registry, jail.toml(5)")
	case hasName(w.host.group, r.Login):
		return Login{}, errors.New("the host has a group of that name; choose another")
	}
	k, ok := w.jails[name]
	if ok && k.rootfs == "" {
		return Login{}, fmt.Errorf("jail %s has no root directory of its own (rootfs = \"host\", or base), in which a user could be made; make the account yourself and list it in users", name)
	}
	if ok && r.Rootfs != "" && r.Rootfs != k.rootfs {
		return Login{}, fmt.Errorf("jail %s is in the registry with the root directory %s; leave --rootfs out", name, k.rootfs)
	}
	if ok && r.Template != "" {
		return Login{}, fmt.Errorf("jail %s is in the registry, and what it has of a template is said there (jail edit %[1]s); leave --template out", name)
	}
	if !ok {
		switch {
		case r.Rootfs == "":
			return Login{}, fmt.Errorf("there is no jail %s: name one with --jail, or give the root directory of a new one with --rootfs", name)
		case r.Rootfs == "host":
			return Login{}, errors.New("--rootfs host: a cage of the host is around the home of an account that is there: useradd -m, and [[match]] in the registry, jail.toml(5)")
		case !filepath.IsAbs(r.Rootfs):
			return Login{}, fmt.Errorf("--rootfs %s: must be the absolute path of a root directory; jail image copy NAME DIR makes one of an image", r.Rootfs)
		case r.Template != "" && !jail.ValidName(r.Template):
			return Login{}, fmt.Errorf("--template %.40q: is no name of a template", r.Template)
		}
		for _, there := range w.jails {
			if there.rootfs == filepath.Clean(r.Rootfs) {
				return Login{}, fmt.Errorf("--rootfs %s: is jail %s's; --jail %[2]s has the login land there", r.Rootfs, there.jail)
			}
		}
		k = known{jail: name, file: filepath.Join(w.dir, name+".toml"), rootfs: filepath.Clean(r.Rootfs)}
	}
	l := Login{Login: r.Login, Jail: name, Rootfs: k.rootfs, File: k.file, NewJail: !ok, Template: r.Template, Account: r.Host == nil, Shell: w.shell}
	if a := r.Host; a != nil {
		l.Adopted = true
		l.Joined = !w.host.isIn(Group, r.Login, a.GID)
		// The shell of a directory's account is changed there.
		if hasName(w.host.passwd, r.Login) && a.Shell != w.shell {
			l.Reshell, l.OldShell = true, a.Shell
		}
	}
	for _, text := range r.Keys {
		text = strings.TrimSpace(text)
		if _, err := authkeys.Parse([]byte(text)); errors.Is(err, authkeys.ErrBlank) {
			continue
		} else if err != nil {
			return Login{}, fmt.Errorf("key %.60q: %w", text, err)
		}
		l.Keys = append(l.Keys, text)
	}
	t := trees[k.rootfs]
	if t == nil {
		var err error
		if t, err = w.tree(k); errors.Is(err, fs.ErrNotExist) && !ok {
			return Login{}, fmt.Errorf("--rootfs %s: is not there; jail image import and jail image copy make one", k.rootfs)
		} else if err != nil {
			return Login{}, fmt.Errorf("root directory %s: %w", k.rootfs, err)
		}
		trees[k.rootfs] = t
		frees[k.rootfs] = newFree(w.host.uidMin, w.host.uidMax, hostIDs[0], hostIDs[1], ids(t.passwd), ids(t.group))
	}
	if r.UID != 0 {
		switch {
		case r.UID < w.host.uidMin || !jail.ValidID(r.UID):
			return Login{}, fmt.Errorf("--uid %d: must be %d or more, an ordinary account's, and not 65535", r.UID, w.host.uidMin)
		case slices.Contains(hostIDs[0], r.UID):
			return Login{}, fmt.Errorf("--uid %d: an account of the host has it", r.UID)
		}
	}
	f := frees[k.rootfs]
	next := func() (uint32, error) {
		for {
			id, err := f.take()
			if err != nil || !slices.Contains(hostIDs[0], id) {
				return id, err
			}
		}
	}
	var err error
	uid, given := r.UID, r.UID != 0
	if r.Host != nil {
		// The same inside, unless that is somebody else there, or, of a directory, higher than what
		// a jail has.
		uid = r.Host.UID
		given = uid <= w.host.uidMax && !slices.Contains(ids(t.passwd), uid) && !slices.Contains(ids(t.group), uid)
	}
	if l.Inside, l.User, err = t.who(r.Login, uid, given, w.host.uidMin, next); err != nil {
		return Login{}, err
	}
	switch l.HostUID = l.Inside.UID; {
	case r.Host != nil:
		l.HostUID = r.Host.UID
	case r.UID != 0:
		l.HostUID = r.UID
	case !l.User && slices.Contains(hostIDs[0], l.HostUID):
		if l.HostUID, err = next(); err != nil {
			return Login{}, err
		}
	}
	l.Sole = l.User
	if l.User {
		t.passwd = insert(t.passwd, l.Inside.passwdLine())
		t.group = insert(t.group, l.Inside.groupLine())
	}
	if !filepath.IsAbs(l.Inside.Home) {
		return Login{}, fmt.Errorf("user %s inside has the home directory %.60q, which is no absolute path", l.Inside.Name, l.Inside.Home)
	}
	owner, there, err := w.home(k, l.Inside.Home)
	switch {
	case err != nil:
		return Login{}, err
	case !there:
		l.Home = true
	case owner != l.Inside.UID:
		return Login{}, fmt.Errorf("%s inside belongs to uid %d, not to %d; remove it, or give it to him", l.Inside.Home, owner, l.Inside.UID)
	}
	return l, nil
}

// adoption is what becomes of an account that is there.
func (l *Login) adoption() string {
	s := ""
	if l.Reshell {
		s += fmt.Sprintf(", shell %s instead of %.80q", l.Shell, l.OldShell)
	}
	if l.Joined {
		s += ", group " + Group
	}
	return s
}

// Steps says in a line each what is done for a plan, in order.
func (p *Plan) Steps() []string {
	var s []string
	add := func(format string, args ...any) { s = append(s, event.Printable(fmt.Sprintf(format, args...))) }
	for i := range p.Logins {
		l := &p.Logins[i]
		if l.Adopted {
			add("account %s of the host is there: uid %d%s", l.Login, l.HostUID, l.adoption())
			continue
		}
		add("account %s of the host: uid %d, group %s, home %s, shell %s, no password", l.Login, l.HostUID, Group, jail.EmptyHome, l.Shell)
	}
	if p.Main {
		add("the registry, with nothing in it but its version")
	}
	for i := range p.Logins {
		l := &p.Logins[i]
		what := ""
		if l.NewJail && !slices.ContainsFunc(p.Logins[:i], func(o Login) bool { return o.Jail == l.Jail }) {
			what = ", a new jail in " + l.Rootfs
			if l.Template != "" {
				what += ", of template " + l.Template
			}
		}
		add("%s: login %s lands in jail %s as uid %d%s", l.File, l.Login, l.Jail, l.Inside.UID, what)
	}
	for i := range p.Logins {
		l := &p.Logins[i]
		if l.User {
			add("user %s inside %s: uid %d, home %s, shell %s", l.Inside.Name, l.Rootfs, l.Inside.UID, l.Inside.Home, l.Inside.Shell)
		} else {
			add("user %s inside %s is there: uid %d, home %s, shell %s", l.Inside.Name, l.Rootfs, l.Inside.UID, l.Inside.Home, l.Inside.Shell)
		}
		if l.Home {
			add("home %s inside, from /etc/skel there", l.Inside.Home)
		}
		if len(l.Keys) > 0 {
			add("%d line(s) in %s/.ssh/authorized_keys inside", len(l.Keys), l.Inside.Home)
		}
	}
	add("jail reload, and a login over the loopback address")
	return s
}
