package audit

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"jail/internal/jail"
	"jail/internal/source"
)

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// home is what is known about a login's home directory on the host.
type home struct {
	trail trail
	// inside is the jail whose rootfs, or a directory it may write through a
	// mount, has the home directory in it; "" is none.
	inside string
	// writer is who besides root can change what is in it; "" is nobody.
	writer string
}

// exposed reports whether what the host reads there may be a tenant's doing.
func (h *home) exposed() bool { return h.inside != "" || h.writer != "" }

func (a *auditor) findHome(l *login) {
	p := l.Home
	if !path.IsAbs(p) {
		p = "/" + p // sshd changes to / when it cannot be entered
	}
	h := home{trail: walk(a.files, p)}
	if h.inside = a.tenants(path.Clean(p), false); h.inside == "" {
		h.inside = a.tenants(h.trail.real, true)
	}
	h.writer = a.writer(&h.trail, l)
	l.home = h
}

// tenants names the rootfs, or with mounts the directory a jail may write, that a clean
// path is or lies in; "" is none.
func (a *auditor) tenants(p string, mounts bool) string {
	if a.roots == nil {
		a.roots, a.shared = make(map[string]string), make(map[string]string)
		for i := range a.jails {
			j := &a.jails[i]
			src, what := source.Of(j), "the rootfs of jail "
			if src.HostFiles() != "" {
				what = "the cage of jail "
			}
			for _, p := range src.Places() {
				a.roots[p] = what + j.Name
			}
			for _, m := range j.Mounts {
				if !m.ReadOnly && a.shared[m.Source] == "" {
					a.shared[m.Source] = m.Source + ", which jail " + j.Name + " may write"
				}
			}
		}
	}
	for dir := p; ; dir = path.Dir(dir) {
		if in := a.roots[dir]; in != "" {
			return in
		}
		if in := a.shared[dir]; mounts && in != "" {
			return in
		}
		if dir == "/" || dir == "." {
			return ""
		}
	}
}

// ofID returns the jail that has a host id in its range; no two do.
func (a *auditor) ofID(id uint32) *jail.Spec {
	if a.ranges == nil {
		a.ranges = []*jail.Spec{}
		for i := range a.jails {
			if a.jails[i].Userns.Enabled {
				a.ranges = append(a.ranges, &a.jails[i])
			}
		}
		slices.SortFunc(a.ranges, func(a, b *jail.Spec) int { return cmp.Compare(a.Userns.Base, b.Userns.Base) })
	}
	n, found := slices.BinarySearchFunc(a.ranges, id, func(j *jail.Spec, id uint32) int { return cmp.Compare(j.Userns.Base, id) })
	if found {
		return a.ranges[n]
	}
	if n > 0 && id-a.ranges[n-1].Userns.Base < a.ranges[n-1].Userns.Size {
		return a.ranges[n-1]
	}
	return nil
}

// writer returns who besides root decides what a path leads to and, if that is
// a directory, what is in it.
func (a *auditor) writer(t *trail, l *login) string {
	for i, s := range t.steps {
		last := i == len(t.steps)-1
		if s.uid != 0 {
			return a.owner(s.uid, l)
		}
		if s.sticky() && !last {
			continue // others cannot replace what is in it
		}
		if s.mode&0o002 != 0 {
			return "everybody"
		}
		if s.mode&0o020 != 0 {
			if s.gid == l.GID || slices.ContainsFunc(l.groups, func(g group) bool { return g.gid == s.gid }) {
				return "the login"
			}
			if name, any := a.groupWriters(s.gid); any {
				return "group " + name
			}
		}
	}
	return ""
}

func (a *auditor) owner(uid uint32, l *login) string {
	if uid == l.UID {
		return "the login"
	}
	if j := a.ofID(uid); j != nil {
		return "jail " + j.Name
	}
	return "uid " + decimal(uid)
}

func (a *auditor) checkHome(l *login) {
	const where = "/etc/passwd, home directory"
	move := "usermod -d " + jail.EmptyHome + " " + LoginName
	h := &l.home
	inside := h.inside
	if what, own := strings.CutSuffix(inside, " "+l.jail.Name); own {
		inside = what + " " + JailName
	}
	switch {
	case strings.HasPrefix(h.inside, "the cage"):
		a.add(l, Warning, "home-in-jail", where, fmt.Sprintf("%s is %s, whose tenant writes what host programs read there as the login: %s; before the account gets another, give the login home = \"%s\" in the registry",
			homeName, inside, a.homeReads(l), homeName), move)
	case h.inside != "":
		a.add(l, Warning, "home-in-jail", where, fmt.Sprintf("%s is in %s, whose tenants write what host programs read there as the login: %s",
			homeName, inside, a.homeReads(l)), move)
	case h.writer != "":
		a.add(l, Warning, "home-writable", where, fmt.Sprintf("%s can be changed by %s, and with it what host programs read there as the login: %s",
			homeName, h.writer, a.homeReads(l)), move)
	case h.trail.missing():
		fix := move
		if l.Home == jail.EmptyHome {
			fix = "install -d -m 0755 " + jail.EmptyHome
		}
		a.add(l, Note, "home-missing", where, homeName+" does not exist, which sshd and su complain about at every login", fix)
	case h.trail.err != nil:
		a.add(l, Warning, "home-unknown", where, fmt.Sprintf("%s cannot be judged (%v)", homeName, h.trail.err), move)
	case !h.trail.end().isDir():
		a.add(l, Note, "home-missing", where, homeName+" is not a directory, which sshd and su complain about at every login", move)
	}
}

// homeReads names what the host reads in a home directory, of what is known to
// be switched on.
func (a *auditor) homeReads(l *login) string {
	var r []string
	for _, p := range a.pamFor(l) {
		switch {
		case p.readsUserEnv():
			r = append(r, ".pam_environment (pam_env: any variable, LD_PRELOAD too)")
		case p.module == "pam_systemd" && !a.userManagerMasked(l):
			r = append(r, ".config/systemd/user (systemd --user: any program)")
		case homeFile(p.module) != "":
			r = append(r, homeFile(p.module)+" ("+p.module+")")
		}
	}
	if f := l.kind.startFile(); f != "" {
		r = append(r, f+" ("+path.Base(l.Shell)+": any program)")
	}
	if s := l.ssh; s == nil {
		r = append(r, ".ssh (sshd, if there is one)")
	} else {
		if s.keysInHome() {
			r = append(r, s.get("authorizedkeysfile")+" (sshd)")
		}
		if s.is("permituserrc", "yes") && s.is("forcecommand", "none") {
			r = append(r, ".ssh/rc (sshd)")
		}
		if !s.is("permituserenvironment", "no") {
			r = append(r, ".ssh/environment (sshd)")
		}
		if s.is("x11forwarding", "yes") {
			r = append(r, ".Xauthority (xauth)")
		}
		if s.is("gssapiauthentication", "yes") {
			r = append(r, ".k5login (Kerberos)")
		}
		if s.is("hostbasedauthentication", "yes") {
			r = append(r, ".rhosts, .shosts, .ssh/known_hosts (sshd)")
		}
	}
	r = append(r, ".forward (mail delivery: any program)")
	slices.Sort(r)
	return strings.Join(slices.Compact(r), ", ")
}

// shellKind is what kind of program a login shell is.
type shellKind int

const (
	shellPlain shellKind = iota // a shell without a start file of the user's under -c
	shellJail                   // jail-enter
	shellNone                   // nologin, false
	shellBash                   // the rest read a file of the user's even under -c
	shellZsh
	shellFish
	shellCsh
)

func (a *auditor) shellKind(p string) shellKind {
	base := path.Base(p)
	switch {
	case base == "jail-enter" || slices.Contains(a.opt.JailEnter, p):
		return shellJail
	case base == "nologin" || base == "false" || base == "true":
		return shellNone
	case base == "bash" || base == "rbash":
		return shellBash
	case base == "zsh":
		return shellZsh
	case base == "fish":
		return shellFish
	case base == "csh" || base == "tcsh":
		return shellCsh
	}
	return shellPlain
}

// startFile is what the shell reads in the home directory before it runs a
// ForceCommand. bash does so when it is started by sshd, where the distribution
// built it like that (SSH_SOURCE_BASHRC: Debian, Fedora).
func (k shellKind) startFile() string {
	switch k {
	case shellBash:
		return ".bashrc"
	case shellZsh:
		return ".zshenv"
	case shellFish:
		return ".config/fish"
	case shellCsh:
		return ".tcshrc, .cshrc"
	}
	return ""
}

func (a *auditor) checkShell(l *login) {
	const where = "/etc/passwd, shell"
	shell := l.Shell
	if shell == "" {
		shell = "/bin/sh"
	}
	change := "usermod -s " + a.opt.JailEnter[0] + " " + LoginName
	forced := l.ssh != nil && l.ssh.forced() == forcedJail
	switch {
	case l.kind == shellJail:
	case l.kind == shellNone && forced:
		a.add(l, Error, "shell-refuses", where, shell+" refuses to run the ForceCommand, so no login works", change)
	case l.kind == shellNone:
		a.add(l, Warning, "shell-no-jail", where, shell+" leads into no jail", change)
	case l.ssh == nil && !a.sshdMissing:
		a.add(l, Warning, "shell-on-host", where, fmt.Sprintf("%s is what su and console logins get on the host, and ssh as well, unless sshd has a ForceCommand", shell), change)
	case l.ssh == nil || l.ssh.forced() == forcedNone:
		a.add(l, Error, "shell-on-host", where, fmt.Sprintf("every login gets %s on the host, outside the jail", shell), change)
	case l.kind.startFile() != "":
		a.add(l, Warning, "shell-on-host", where, fmt.Sprintf("%s runs the ForceCommand and reads %s on the host first; su and console logins get it on the host, outside the jail",
			shell, l.kind.startFile()), change)
	default:
		a.add(l, Warning, "shell-on-host", where, fmt.Sprintf("su and console logins get %s on the host, outside the jail", shell), change)
	}
	if l.password == passwordEmpty {
		a.add(l, Warning, "password-empty", "/etc/shadow", "the password is empty, so every user of the host may become the login with su", "passwd -l "+LoginName)
	}
}

// checkShells looks at who may change a login shell.
func (a *auditor) checkShells() {
	text, err := a.files.read("/etc/shells")
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "/") && a.shellKind(line) == shellJail {
			a.add(nil, Note, "shells-listed", "/etc/shells", line+" counts as an ordinary shell, so chsh lets a login with a password choose another",
				`sed -i '\|^`+line+`$|d' /etc/shells`)
		}
	}
}

// madeBy reports whether a [[match]] of that group makes the login's jail.
func (a *auditor) madeBy(l *login, group string) bool {
	return a.blocks[l.jail.Name].Match == fmt.Sprintf("group = %q", group)
}

// checkGroups reports groups of the host. Those that are as good as root are
// errors of the registry.
func (a *auditor) checkGroups(l *login) {
	for _, g := range l.groups {
		if g.name == a.opt.BlockGroup || slices.Contains(a.matches.groups, g.name) {
			continue // sshd knows the logins by it, or will
		}
		if a.madeBy(l, g.name) {
			continue // who leaves it has no jail
		}
		inside := "it is not known inside"
		if slices.ContainsFunc(l.jail.Source.Groups, func(in jail.Group) bool { return in.Name == g.name }) {
			inside = "inside it counts for mounts"
		}
		a.add(l, Note, "group", "/etc/group, "+g.name, "sshd and jail-enter run with this group on the host, and with the access it gives; "+inside,
			"gpasswd -d "+LoginName+" "+g.name)
	}
}

// checkJobs looks at what runs a login's commands without its shell.
func (a *auditor) checkJobs(l *login) {
	for _, job := range []struct {
		name, program string
		// without says whether everybody may use it if there is neither file.
		without bool
	}{
		{"cron", "/usr/bin/crontab", true},
		{"at", "/usr/bin/at", false},
	} {
		if t := walk(a.files, job.program); t.err != nil {
			continue
		}
		const what = " runs the login's commands on the host with /bin/sh, outside the jail"
		allow, deny := "/etc/"+job.name+".allow", "/etc/"+job.name+".deny"
		if lines := a.linesOf(allow); lines != nil {
			if lines[l.Name] {
				a.add(l, Note, "job-allowed", allow, job.name+what, `sed -i "/^`+LoginName+`\$/d" `+allow)
			}
			continue
		}
		lines := a.linesOf(deny)
		if lines == nil && !job.without || lines[l.Name] {
			continue
		}
		a.add(l, Note, "job-allowed", deny, job.name+what, "echo "+LoginName+" >>"+deny)
	}
	for _, dir := range []string{"/var/spool/cron/crontabs/", "/var/spool/cron/tabs/", "/var/spool/cron/"} {
		if st, err := a.files.lstat(dir + l.Name); err == nil && st.isRegular() {
			a.add(l, Warning, "crontab", dir+l.Name, "there is a crontab, whose commands run on the host, outside the jail", "crontab -r -u "+LoginName)
		}
	}
	if _, err := a.files.lstat("/var/lib/systemd/linger/" + l.Name); err == nil {
		a.add(l, Warning, "linger", "/var/lib/systemd/linger", "systemd --user runs on the host from boot on, with the units of the login's home directory",
			"loginctl disable-linger "+LoginName)
	}
}

// linesOf returns the lines of a file that lists logins; nil without the file.
func (a *auditor) linesOf(file string) map[string]bool {
	lines, known := a.lines[file]
	if known {
		return lines
	}
	if text, err := a.files.read(file); err == nil {
		lines = map[string]bool{}
		for line := range strings.SplitSeq(string(text), "\n") {
			lines[strings.TrimSpace(line)] = true
		}
	}
	if a.lines == nil {
		a.lines = map[string]map[string]bool{}
	}
	a.lines[file] = lines
	return lines
}
