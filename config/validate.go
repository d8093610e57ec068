package config

import (
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"jail/internal/imagestore"
	"jail/internal/jail"
	root "jail/internal/source"
	"jail/internal/wire"
)

const (
	minHostUID  = 1000  // login.defs(5) UID_MIN: below are system accounts
	nobody      = 65534 // overflow id: what the kernel shows for every unmapped one
	idleDefault = 15 * time.Minute
	maxHostname = 64       // HOST_NAME_MAX, sethostname(2)
	maxPath     = 4095     // PATH_MAX without its NUL
	maxEnv      = 64 << 10 // all variables together; execve(2) allows one 128 KiB
	minMemory   = 1 << 20
	maxCPU      = 100_000
	maxPids     = 4 << 20 // PID_MAX_LIMIT
)

// validator holds one registry on its way to becoming Specs. Its own problems are
// those that make the whole unsafe; a jail's, a login's and a file's are kept with it.
type validator struct {
	problems
	opt       Options
	host      *host
	registry  string // path of the main file
	defaults  defaultsTable
	hostTable hostTable
	drafts    []*draft // in the order of the files
	byName    map[string]*draft
	lost      []*document // drop-ins nothing is known of but that they are there
	held      []held

	templates map[string]*jailTable
	ordered   []*jailTable // the templates, in the order of the files
	matches   []*matchTable
	before    map[string][]string // accounts by the criterion of a [[match]] that was in force
	left      []Fault             // what of a [[match]] has no jail
}

// draft is one jail being validated. What is wrong in it has been reported
// and is left at its zero value, so that the checks between jails still run.
type draft struct {
	*jailTable
	set   settings // its own over [defaults]
	spec  jail.Spec
	fixed *span // an explicit id range, if valid in itself
	// places are the directories that are its alone, if it has a source.
	places []string
	order  int
	*conflict
	twin bool // an earlier draft has the name
}

// at is the origin of one of the jail's own keys, given or not.
func (d *draft) at(key string) origin { return origin{d.file, d.line, d.below(key)} }

// source is the file by which the jail is there: that of its [[match]], if it is by one.
func (d *draft) source() string {
	if d.match != nil {
		return d.match.file
	}
	return d.file
}

// addTop validates what a file says outside its jails. The main file comes first: what is
// wrong there concerns every jail, what is wrong so in a drop-in its own.
func (v *validator) addTop(doc *document, main bool) {
	top := origin{file: doc.path, line: 1, key: "version"}
	switch {
	case doc.unread:
	case !doc.Version.given():
		doc.errorf(top, "is missing, add version = 1 as the first line")
	case doc.Version.usable() && doc.Version.v != 1:
		doc.errorf(doc.Version.origin, "is %d, must be 1, the only version there is", doc.Version.v)
	}
	if doc.Defaults.given() {
		if !main {
			doc.errorf(doc.Defaults.origin, "belongs in the main file %s, move it there", v.registry)
		} else {
			v.defaults = doc.Defaults
			v.checkDefaults()
		}
	}
	switch {
	case doc.Host.given() && !main:
		doc.errorf(doc.Host.origin, "belongs in the main file %s, move it there", v.registry)
	case doc.Host.given():
		v.hostTable = doc.Host
		v.checkHost()
	}
	switch {
	case main:
		v.errors = append(v.errors, doc.errors...)
	case len(doc.errors) > 0 && len(doc.Jails) == 0:
		v.lost = append(v.lost, doc)
	}
}

// addJails validates the jails of a file, each by itself.
func (v *validator) addJails(doc *document, main bool) {
	for _, t := range doc.Jails {
		if !main {
			t.errors = append(t.errors, doc.errors...)
		}
		v.applyTemplate(t)
		v.addDraft(t)
	}
}

// checkDefaults finds what is wrong with [defaults] even if no jail uses it.
func (v *validator) checkDefaults() {
	s := &v.defaults.settings
	if s.Userns.fixed != nil {
		v.errorf(s.Userns.origin, "cannot be one range for all jails, move it to a [jail.NAME]")
		s.Userns = usernsKey{}
	}
	v.settings(&v.problems, &jail.Spec{}, s, v.defaults.origin)
}

func (v *validator) addDraft(t *jailTable) {
	d := &draft{jailTable: t, set: t.over(v.defaults.settings), order: len(v.drafts)}
	d.spec.Name = t.name
	d.spec.Hostname = t.name
	if !jail.ValidName(t.name) {
		d.errorf(t.origin, "the name %s cannot be used, %s", shown(t.name), nameRule)
	}
	if other := v.byName[t.name]; other != nil {
		d.twin = true
		clash(t.origin, &d.problems, &other.problems, "jail %s is already defined at %s:%d, remove one", shown(t.name), other.file, other.line)
	} else {
		v.byName[t.name] = d
	}
	v.rootfs(d)
	v.users(d)
	v.settings(&d.problems, &d.spec, &d.set, t.origin)
	v.cage(d)
	v.based(d)
	v.services(d)
	v.keep(d)
	v.quota(d)
	v.usernsRange(d)
	v.drafts = append(v.drafts, d)
}

// over merges the settings of a jail with those of its template or of [defaults].
func (s settings) over(def settings) settings {
	s.GID = s.GID.or(def.GID)
	s.Hostname = s.Hostname.or(def.Hostname)
	if !s.Userns.given() {
		s.Userns = def.Userns
	}
	s.IdleTimeout = s.IdleTimeout.or(def.IdleTimeout)
	s.Autostart = s.Autostart.or(def.Autostart)
	s.ContainerRoot = s.ContainerRoot.or(def.ContainerRoot)
	s.Fresh = s.Fresh.or(def.Fresh)
	s.Persist = s.Persist.or(def.Persist)
	s.Scratch = s.Scratch.or(def.Scratch)
	s.X11 = s.X11.or(def.X11)
	s.OnDisconnect = s.OnDisconnect.or(def.OnDisconnect)
	s.ResolvConf = s.ResolvConf.or(def.ResolvConf)
	s.Hosts = s.Hosts.or(def.Hosts)
	s.Timezone = s.Timezone.or(def.Timezone)
	s.Record = s.Record.or(def.Record)
	s.RecordInput = s.RecordInput.or(def.RecordInput)
	s.LogCommands = s.LogCommands.or(def.LogCommands)
	s.EnvAccept = append(slices.Clone(def.EnvAccept), s.EnvAccept...)
	s.Acknowledge = append(slices.Clone(def.Acknowledge), s.Acknowledge...)
	s.Show = append(slices.Clone(def.Show), s.Show...)
	s.Hide = append(slices.Clone(def.Hide), s.Hide...)
	s.Limits.Memory = s.Limits.Memory.or(def.Limits.Memory)
	s.Limits.CPU = s.Limits.CPU.or(def.Limits.CPU)
	s.Limits.Pids = s.Limits.Pids.or(def.Limits.Pids)
	s.Limits.IOWeight = s.Limits.IOWeight.or(def.Limits.IOWeight)
	s.Limits.Disk = s.Limits.Disk.or(def.Limits.Disk)
	s.Limits.Files = s.Limits.Files.or(def.Limits.Files)

	s.overSessions(&def)
	s.SFTP = s.SFTP.or(def.SFTP)
	s.Keys = s.Keys.or(def.Keys)
	s.Ports = s.Ports.or(def.Ports)
	s.Loopback = s.Loopback.or(def.Loopback)
	s.Unowned = s.Unowned.or(def.Unowned)
	s.Network = s.Network.or(def.Network)

	env := make(envKey, len(s.Env)+len(def.Env))
	for name, val := range def.Env {
		env[name] = val
	}
	for name, val := range s.Env {
		env[name] = val
	}
	s.Env = env

	own := make(map[string]bool)
	for _, m := range s.Mounts {
		own[m.Target.v] = true
	}
	var mounts mountsKey
	for _, m := range def.Mounts {
		if !own[m.Target.v] {
			mounts = append(mounts, m)
		}
	}
	s.Mounts = append(mounts, s.Mounts...)
	return s
}

func (v *validator) rootfs(d *draft) {
	r := d.Rootfs
	if !r.given() {
		if !d.isBased() {
			d.errorf(d.at("rootfs"), `is missing, add rootfs = "/path/of/the/root/directory"`)
		}
		return
	}
	if r.v == ofHost || !r.usable() || !cleanPath(&d.problems, r) {
		return
	}
	switch {
	case isSystemDir(r.v):
		d.errorf(r.origin, "%s is a directory of the host itself, use one made for this jail", r.v)
	case contains(imagestore.DefaultDir, r.v):
		d.errorf(r.origin, `%s is in the store of images, to which no jail may write; write base = "IMAGE", or use a copy (jail image copy)`, r.v)
	case contains(r.v, path.Dir(v.registry)):
		d.errorf(r.origin, "%s contains this registry, so the jail could rewrite it; use another directory", r.v)
	default:
		d.spec.Source = jail.Source{Path: r.v}
		d.places = root.Of(&d.spec).Places()
	}
}

// systemTrees are refused with all that is below them, systemDirs alone.
var (
	systemTrees = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys"}
	systemDirs  = []string{"/", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/usr/bin", "/usr/lib",
		"/usr/lib64", "/usr/libexec", "/usr/local", "/usr/sbin", "/usr/share", "/var", "/var/cache", "/var/lib", "/var/lib/jail",
		"/var/log", "/var/run", "/var/spool", "/var/tmp"}
)

func isSystemDir(p string) bool {
	return slices.Contains(systemDirs, p) || slices.ContainsFunc(systemTrees, func(tree string) bool { return contains(tree, p) })
}

// contains reports whether inner is outer or lies below it; both are clean.
func contains(outer, inner string) bool {
	return outer == inner || outer == "/" || strings.HasPrefix(inner, outer+"/")
}

const nameRule = "use a lower-case letter or _, then up to 31 of a-z, 0-9, _ and -"

// users turns users, uid and gid into the jail's logins, sorted by name.
func (v *validator) users(d *draft) {
	if d.UID.usable() {
		checkID(&d.problems, d.UID)
	}
	switch {
	case !d.Users.given():
		d.errorf(d.at("users"), `is missing, add users = ["login"]`)
	case len(d.Users.list) == 0 && !d.Users.broken:
		d.errorf(d.Users.origin, `is empty, name at least one login or remove the jail`)
	}
	seen := make(map[string]*userTable, len(d.Users.list))
	for _, u := range d.Users.list {
		if first := seen[u.login]; first != nil {
			clash(u.origin, &u.problems, &first.problems, "login %s is listed twice, remove one", shown(u.login))
			continue
		}
		seen[u.login] = u
		u.spec, u.known = v.user(d, u)
	}
	slices.SortStableFunc(d.Users.list, func(a, b *userTable) int { return strings.Compare(a.login, b.login) })
}

// user returns the login an entry describes, and whether cross-checks make
// sense for it.
func (v *validator) user(d *draft, u *userTable) (jail.Login, bool) {
	login := jail.Login{Name: u.login}
	if u.Name.usable() {
		if login.JailName = u.Name.v; !jail.ValidName(u.Name.v) {
			u.errorf(u.Name.origin, "%s cannot be a user name, %s", shown(u.Name.v), nameRule)
		}
	}
	if u.Shell.usable() && cleanPath(&u.problems, u.Shell) {
		if login.Shell = u.Shell.v; u.Shell.v == "/" {
			u.errorf(u.Shell.origin, "/ is not a program, name the shell's path inside")
		}
	}
	if u.Home.usable() && cleanPath(&u.problems, u.Home) {
		login.Home = u.Home.v
	}
	if !jail.ValidName(u.login) {
		u.errorf(u.origin, "login %s cannot be used, %s", shown(u.login), nameRule)
		return login, false
	}
	acct, ok := v.account(u)
	if !ok {
		return login, false
	}
	login.HostUID = jail.HostUID(acct.uid)
	login.UID = jail.UID(acct.uid)
	idFrom := u.origin
	if uid := u.UID.or(d.UID); uid.usable() {
		n, _ := checkID(&u.problems, uid)
		login.UID = jail.UID(n)
		idFrom = uid.origin
	} else if v.opt.Rootless && acct.uid == 0 {
		u.errorf(u.origin, "login %q is root, add the uid it has inside: uid = 1000", u.login)
	}
	if gid := u.GID.or(d.set.GID); gid.usable() {
		n, _ := checkID(&u.problems, gid)
		login.GID, login.HasGID = jail.GID(n), true
		if name, privileged := v.host.privilegedGroup(n); d.set.Userns.off && !v.opt.Rootless && privileged && n != 0 {
			u.errorf(gid.origin, "with userns = false gid %d is the host's group %s, use another", n, name)
		}
	}
	if d.set.Userns.off && !v.opt.Rootless {
		// Here a uid inside is that very uid on the host.
		for _, name := range v.host.namesOf(uint32(login.UID)) {
			if name != u.login && login.UID != 0 {
				u.errorf(idFrom, "with userns = false uid %d is the host's account %s, use another", login.UID, shown(name))
			}
		}
	}
	return login, true
}

// account finds the host account of a login and refuses those that are root,
// could become root, or are not one person's.
func (v *validator) account(u *userTable) (account, bool) {
	acct, ok := v.host.user(u.login)
	if !ok {
		u.errorf(u.origin, "login %q is not in the host's passwd, create it with useradd or remove it here", u.login)
		return acct, false
	}
	if v.opt.Rootless {
		if !jail.ValidID(acct.uid) && acct.uid != *v.opt.euid {
			u.errorf(u.origin, "login %q has uid %d, use an account of an ordinary uid", u.login, acct.uid)
		}
		return acct, true
	}
	switch {
	case acct.uid == 0:
		u.errorf(u.origin, "login %q is root, whom no jail can hold; use another account", u.login)
	case acct.uid < minHostUID || acct.uid == nobody || !jail.ValidID(acct.uid):
		u.errorf(u.origin, "login %q is a system account (uid %d), use an account of uid %d or more", u.login, acct.uid, minHostUID)
	default:
		if name, ok := v.host.privilege(acct); ok {
			u.errorf(u.origin, "login %q is in the host's group %s and so nearly root, take it out of that group", u.login, name)
		}
		for _, name := range v.host.namesOf(acct.uid) {
			if name != u.login {
				u.errorf(u.origin, "login %q shares uid %d with the account %s on the host, give each a uid of its own", u.login, acct.uid, shown(name))
			}
		}
	}
	return acct, true
}

// checkID returns a uid or gid that may be used, reporting one that may not.
func checkID(ps *problems, x value[int64]) (uint32, bool) {
	switch {
	case x.v == 0:
		ps.errorf(x.origin, "0 is root, use an ordinary id")
	case x.v < 0 || x.v > 0xFFFFFFFF:
		ps.errorf(x.origin, "%d is not an id, use one from 1 to 4294967294", x.v)
	case !jail.ValidID(uint32(x.v)):
		ps.errorf(x.origin, "%d means \"no change\" to the kernel, use another id", x.v)
	default:
		return uint32(x.v), true
	}
	return 0, false
}

// cleanPath reports whether a path is absolute, clean and printable.
func cleanPath(ps *problems, p value[string]) bool {
	switch {
	case p.v == "":
		ps.errorf(p.origin, "is empty, give an absolute path")
	case len(p.v) > maxPath:
		ps.errorf(p.origin, "is longer than %d bytes, use a shorter path", maxPath)
	case hasControl(p.v):
		ps.errorf(p.origin, "%s has a control character in it, use another path", shown(p.v))
	case p.v[0] != '/':
		ps.errorf(p.origin, "%s is relative, give an absolute path", shown(p.v))
	case path.Clean(p.v) != p.v:
		ps.errorf(p.origin, "%s is not clean, write %s", shown(p.v), shown(path.Clean(p.v)))
	}
	return isClean(p.v)
}

func isClean(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && len(p) <= maxPath && !hasControl(p)
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7F })
}

// shown quotes a name of unknown content for a terminal.
func shown(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strconv.QuoteToASCII(s)
}

func uintString(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// settings checks s and writes it to spec. It runs over [defaults] as well,
// whose faults are then found again in every jail; Errors.Sorted drops those.
func (v *validator) settings(ps *problems, spec *jail.Spec, s *settings, owner origin) {
	if s.GID.usable() {
		checkID(ps, s.GID)
	}
	if h := s.Hostname; h.usable() {
		if spec.Hostname = h.v; !validHostname(h.v) {
			ps.errorf(h.origin, "%s is not a host name, use up to %d letters, digits, - and .", shown(h.v), maxHostname)
		}
	}
	spec.IdleTimeout = idleDefault
	if t := s.IdleTimeout; t.usable() {
		d, err := time.ParseDuration(t.v)
		if err != nil || d < 0 || d > 0 && d < time.Second {
			ps.errorf(t.origin, `%s is not a time, write "90s", "15m", "1h30m", or "0" for never`, shown(t.v))
		}
		spec.IdleTimeout = d
	}
	spec.Autostart = s.Autostart.v
	spec.ContainerRoot = s.ContainerRoot.v
	if s.ContainerRoot.v && !s.Userns.off && s.ContainerRoot.key == owner.below("container_root") && owner.key != "defaults" {
		ps.warnf(s.ContainerRoot.origin, "has no meaning in a user namespace, remove it or set userns = false")
	}
	spec.X11 = s.X11.v
	if d := s.OnDisconnect; d.usable() {
		switch d.v {
		case "hup":
			spec.OnDisconnect = jail.DisconnectHup
		case "kill":
			spec.OnDisconnect = jail.DisconnectKill
		case "keep":
			spec.OnDisconnect = jail.DisconnectKeep
		default:
			ps.errorf(d.origin, `%s is not known, write "hup", "kill" or "keep", or remove it`, shown(d.v))
		}
	}
	checkEnv(ps, spec, s.Env, owner)
	checkAccept(ps, spec, s.EnvAccept)
	checkHostFiles(ps, spec, s)
	v.mounts(ps, spec, s.Mounts)
	checkLimits(ps, spec, s.Limits)
	checkSessions(ps, spec, s)
	checkSFTP(ps, spec, s.SFTP)
	checkKeys(ps, spec, s.Keys)
	v.network(ps, spec, s, owner)
	v.record(ps, spec, s)
	checkCommands(ps, spec, s.LogCommands)
}

// checkKeys says where the keys of logins may be kept.
func checkKeys(ps *problems, spec *jail.Spec, k value[string]) {
	if !k.usable() {
		return
	}
	switch k.v {
	case "inside":
		spec.Keys = wire.KeysInside
	case "anywhere":
		spec.Keys = wire.KeysAnywhere
	default:
		ps.errorf(k.origin, `%s is not a place for keys, write "inside" or "anywhere"`, shown(k.v))
	}
}

// checkSFTP turns the key into what the jail is started with.
func checkSFTP(ps *problems, spec *jail.Spec, s value[string]) {
	if !s.usable() {
		return
	}
	switch s.v {
	case "auto":
		spec.SFTP = wire.SFTPAuto
	case "builtin":
		spec.SFTP = wire.SFTPBuiltin
	case "rootfs":
		spec.SFTP = wire.SFTPRootfs
	case "off":
		spec.SFTP = wire.SFTPOff
	default:
		ps.errorf(s.origin, `%s is not a choice, write "auto", "builtin", "rootfs" or "off"`, shown(s.v))
	}
}

func validHostname(s string) bool {
	if s == "" || len(s) > maxHostname {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; c == '_' || !bareKey(c) {
				return false
			}
		}
	}
	return true
}

func checkEnv(ps *problems, spec *jail.Spec, env envKey, owner origin) {
	size := 0
	for name, val := range env {
		switch {
		case !validEnvName(name):
			ps.errorf(val.origin, "%s is not a variable's name, use letters, digits and _", shown(name))
		case slices.Contains([]string{"HOME", "USER", "SHELL", "LOGNAME"}, name):
			ps.errorf(val.origin, "%s follows from the user, set it in [jail.NAME.users] or remove it", name)
		case strings.HasPrefix(name, "LD_"):
			ps.errorf(val.origin, "%s changes what every program loads, set it inside the jail or remove it", name)
		case strings.ContainsRune(val.v, 0):
			ps.errorf(val.origin, `has a NUL in it, remove it`)
		}
		size += len(name) + len(val.v) + 2
		spec.Env = append(spec.Env, name+"="+val.v)
	}
	if size > maxEnv {
		ps.errorf(origin{owner.file, owner.line, owner.below("env")}, "is %d bytes with [defaults], use at most %d", size, maxEnv)
	}
	sort.Strings(spec.Env)
}

func validEnvName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == '-' || !bareKey(c) || i == 0 && c >= '0' && c <= '9' {
			return false
		}
	}
	return s != ""
}

func (v *validator) mounts(ps *problems, spec *jail.Spec, mounts mountsKey) {
	for _, m := range mounts {
		if !m.Source.given() {
			ps.errorf(origin{m.file, m.line, m.below("source")}, "is missing, name the host directory to show")
		}
		if !m.Target.given() {
			ps.errorf(origin{m.file, m.line, m.below("target")}, "is missing, name the path inside")
		}
		if m.Source.usable() && cleanPath(ps, m.Source) {
			v.mountSource(ps, m)
		}
		if !m.Target.usable() || !cleanPath(ps, m.Target) {
			continue
		}
		target := m.Target.v
		if target == "/" {
			ps.errorf(m.Target.origin, "/ is the rootfs, use a directory below it")
		}
		for _, tree := range []string{"/proc", "/sys", "/dev"} {
			if contains(tree, target) {
				ps.errorf(m.Target.origin, "%s is the kernel's, use a target outside %s", target, tree)
			}
		}
		for _, earlier := range spec.Mounts {
			switch {
			case earlier.Target == target:
				ps.errorf(m.Target.origin, "%s is mounted twice, remove one", target)
			case contains(target, earlier.Target):
				ps.errorf(m.Target.origin, "%s would hide the mount on %s, list it first", target, earlier.Target)
			}
		}
		spec.Mounts = append(spec.Mounts, jail.Mount{Source: m.Source.v, Target: target, ReadOnly: m.ReadOnly.v})
		if len(spec.Mounts) == wire.MaxMounts+1 {
			ps.errorf(m.Target.origin, "is one mount more than the %d a jail can have, show a directory above several", wire.MaxMounts)
		}
	}
}

// mountSource reports a source that would hand the jail the host.
func (v *validator) mountSource(ps *problems, m mountTable) {
	if why := v.refusedSource(m.Source.v); why != "" {
		ps.errorf(m.Source.origin, "%s %s", m.Source.v, why)
		return
	}
	dir := path.Dir(v.registry)
	if (contains(m.Source.v, dir) || m.Source.v == v.registry || contains(dir+"/jail.d", m.Source.v)) && !m.ReadOnly.v {
		ps.errorf(m.Source.origin, "%s shows this registry, add readonly = true or use another directory", m.Source.v)
	}
}

// refusedSource says why a path is no mount source, judged by its name: it is
// the host's root, a kernel file system, or where services keep their control
// sockets.
func (v *validator) refusedSource(src string) string {
	if src == "/" || src == "/run" || src == "/var/run" {
		return "holds the host's control sockets, show a directory below it"
	}
	for _, tree := range []string{"/proc", "/sys", "/dev"} {
		if contains(tree, src) {
			return "is the kernel's, a jail has its own; remove the mount"
		}
	}
	return ""
}

func checkLimits(ps *problems, spec *jail.Spec, l limitsTable) {
	spec.Limits.MemoryBytes = sizeOf(ps, l.Memory, spec.Limits.MemoryBytes, `"512M" or "1G"`, "for any program")
	if c := l.CPU; c.usable() {
		digits, percent := strings.CutSuffix(c.v, "%")
		n, ok := parseDigits(digits)
		if !percent || !ok || n == 0 || n > maxCPU {
			ps.errorf(c.origin, `%s is not a share of a processor, write "50%%" for half of one, "200%%" for two`, shown(c.v))
		}
		spec.Limits.CPUPercent = uint32(min(n, maxCPU))
	}
	if p := l.Pids; p.usable() {
		if p.v < 0 || p.v > maxPids {
			ps.errorf(p.origin, "%d is not a number of processes, use 1 to %d, or 0 for no limit", p.v, maxPids)
		}
		spec.Limits.Pids = uint32(min(max(p.v, 0), maxPids))
		spec.Limits.PidsUnlimited = p.v == 0
	}
	if w := l.IOWeight; w.usable() {
		if w.v < 1 || w.v > jail.MaxIOWeight {
			ps.errorf(w.origin, "%d is not a weight, use 1 to %d; 100 is what others have", w.v, jail.MaxIOWeight)
		}
		spec.Limits.IOWeight = uint32(min(max(w.v, 0), jail.MaxIOWeight))
	}
	spec.Limits.DiskBytes = sizeOf(ps, l.Disk, spec.Limits.DiskBytes, `"500M" or "10G"`, "for any directory")
	if f := l.Files; f.usable() {
		if f.v < 1 {
			ps.errorf(f.origin, "%d is not a number of files, use 1 or more", f.v)
		}
		spec.Limits.Files = uint64(max(f.v, 0))
	}
}

// quota refuses limits on files to jails whose ids are the host's: there whoever owns a
// file can take it out of the quota.
func (v *validator) quota(d *draft) {
	for _, o := range []origin{d.set.Limits.Disk.origin, d.set.Limits.Files.origin} {
		switch {
		case !o.given():
		case v.opt.Rootless:
			d.errorf(o, "is for jails that root starts, remove it")
		case d.set.Userns.off:
			d.errorf(o, "cannot be kept with userns = false, where who owns a file can take it out of the quota; remove one of them")
		}
	}
}

// sizeOf is the size that a key says, otherwise where it is not given. Sizes such as good are
// what it could have said; one below minMemory is too little for what it is for.
func sizeOf(ps *problems, x value[string], otherwise uint64, good, purpose string) uint64 {
	if !x.usable() {
		return otherwise
	}
	n, ok := parseSize(x.v)
	switch {
	case !ok:
		ps.errorf(x.origin, `%s is not a size, write %s`, shown(x.v), good)
	case n < minMemory:
		ps.errorf(x.origin, "%s is too little %s, use at least 1M", shown(x.v), purpose)
	}
	return n
}

// parseSize reads digits and an optional K, M, G or T, powers of 1024.
func parseSize(s string) (uint64, bool) {
	shift := 0
	if s != "" {
		if i := strings.IndexByte("KMGT", s[len(s)-1]); i >= 0 {
			s, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, ok := parseDigits(s)
	return n << shift, ok && n <= (1<<63-1)>>shift // the cgroup file is signed
}

// parseDigits reads a plain decimal number; ParseUint alone is as strict.
func parseDigits(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// usernsRange checks an explicit range by itself.
func (v *validator) usernsRange(d *draft) {
	t := d.set.Userns.fixed
	if t == nil {
		return
	}
	for _, key := range []struct {
		name string
		value[int64]
	}{{"base", t.Base}, {"size", t.Size}} {
		if !key.given() {
			o := d.set.Userns.origin
			d.errorf(origin{o.file, o.line, o.below(key.name)}, "is missing, add it: { base = 200000, size = 65536 }")
		}
	}
	if !t.Base.usable() || !t.Size.usable() {
		return
	}
	switch base, size := t.Base.v, t.Size.v; {
	case base == 0:
		d.errorf(t.Base.origin, "0 would map the host's root, use a free range above all accounts")
	case base < 0 || base > 0xFFFFFFFE:
		d.errorf(t.Base.origin, "%d is not an id, use one from 1 to 4294967294", base)
	case size < 1 || size > 0xFFFFFFFF:
		d.errorf(t.Size.origin, "%d is not a number of ids, use 65536", size)
	case base+size > 0xFFFFFFFF:
		d.errorf(t.Size.origin, "goes beyond the last id 4294967294, use a lower base or a smaller size")
	case base <= 0xFFFF && base+size > nobody:
		d.errorf(t.Base.origin, "contains 65534 or 65535, which are nobody's; use a base above 65535")
	default:
		d.fixed = &span{base: uint64(base), end: uint64(base + size)}
		checkCovered(d, *d.fixed)
		if size <= nobody {
			d.warnf(t.Size.origin, "%d ids leave out nobody (65534), so files of unmapped owners cannot be told apart; use 65536", size)
		}
	}
}

// checkCovered reports ids inside that the range has no host id for.
func checkCovered(d *draft, r span) {
	size := r.end - r.base
	// An id of its own beyond it has a place at the end of the range (launch.idMap).
	if d.isCage() && size >= slotSize || d.set.Userns.keep {
		return
	}
	for _, u := range d.Users.list {
		if !u.known {
			continue
		}
		for _, id := range []struct {
			kind string
			n    uint32
		}{{"uid", uint32(u.spec.UID)}, {"gid", uint32(u.spec.GID)}} {
			switch {
			case uint64(id.n) < size:
			case d.match != nil && originOf(d, u, id.kind) != u.origin:
				u.errorf(originOf(d, u, id.kind), "%s %d is outside the id map of %d ids that a jail of a template has, use a lower one", id.kind, id.n, size)
			case d.match != nil:
				u.errorf(u.origin, "account %s has the uid %d, which is outside its jail's id map of %d ids; write a uid for inside into the template, as uid = 1000", u.login, id.n, size)
			default:
				u.errorf(originOf(d, u, id.kind), "%s %d of login %q is outside the jail's id map of %d ids, give it a lower %s or the jail a larger userns",
					id.kind, id.n, u.login, size, id.kind)
			}
		}
	}
}

// originOf returns the key that decides a login's uid or gid inside.
func originOf(d *draft, u *userTable, kind string) origin {
	id := u.UID.or(d.UID)
	if kind == "gid" {
		id = u.GID.or(d.set.GID)
	}
	if id.given() {
		return id.origin
	}
	return u.origin
}

// checkLogins finds a login, or its uid, in two jails: its socket can lead to
// one only, and nobody can say which. It leads to neither.
func (v *validator) checkLogins() {
	type place struct {
		d *draft
		u *userTable
	}
	names := make(map[string]place)
	uids := make(map[jail.HostUID]place)
	for _, d := range v.drafts {
		for _, u := range d.Users.list {
			if p, ok := names[u.login]; ok {
				if p.d.name != d.name {
					clash(u.origin, &u.problems, &p.u.problems, "login %s is already in jail %q (%s:%d), remove one", shown(u.login), p.d.name, p.d.file, p.d.line)
				}
				continue
			}
			names[u.login] = place{d, u}
			if !u.known {
				continue
			}
			if p, ok := uids[u.spec.HostUID]; ok {
				clash(u.origin, &u.problems, &p.u.problems, "login %q has the same host uid %d as login %q of jail %q, give it another",
					u.login, u.spec.HostUID, p.u.login, p.d.name)
				continue
			}
			uids[u.spec.HostUID] = place{d, u}
		}
	}
	for _, h := range v.held {
		for _, l := range h.logins {
			p, ok := names[l.Name]
			if !ok && l.HostUID != 0 {
				p, ok = uids[l.HostUID]
			}
			if ok {
				p.u.errorf(p.u.origin, "login %q is in jail %q by %s, which cannot be used now; mend that file first", p.u.login, h.jail, h.file)
			}
		}
	}
}
