// Package audit looks at what the host itself opens to the logins of a registry:
// their accounts, sshd, PAM, cron, the programs of ours and the kernel. A jail
// holds what happens inside; everything here happens on the host, before a
// session is in its jail or without ever getting there.
//
// It reads and asks, and changes nothing.
package audit

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"jail/config"
	"jail/internal/jail"
	"jail/internal/passwd"
	"jail/internal/quota"
)

// Severity says how bad a finding is.
type Severity int

const (
	Note    Severity = iota // worth knowing; may well be wanted
	Warning                 // opens the host, or a way past the jail's own rules, to somebody
	Error                   // a tenant gets out, or a login does not work at all
)

func (s Severity) String() string { return [...]string{"note", "warning", "error"}[s] }

// Finding is one thing the host opens.
type Finding struct {
	Severity Severity
	// ID is what kind of finding it is, one of IDs: an administrator acknowledges it by that.
	ID string
	// Login is whom it concerns, several as "alice, bob"; "" is everybody.
	Login string
	// Logins are all of these, and Jails the jails it concerns; empty is the host.
	Logins, Jails []string
	// Where is the file, and the line or option in it.
	Where string
	// What says in one sentence what it opens.
	What string
	// Fix is the line to write at Where, or the command to run.
	Fix string
}

// String returns the finding as one printable line.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.Severity.String() + ": ")
	if f.Login != "" {
		b.WriteString(f.Login + ": ")
	}
	b.WriteString(f.Where + ": " + f.What)
	if f.Fix != "" {
		b.WriteString("; fix: " + f.Fix)
	}
	b.WriteString(" [" + f.ID + "]")
	return printable(b.String())
}

// printable keeps what a link or a file name says from reaching a terminal raw.
func printable(s string) string {
	q := strconv.QuoteToGraphic(s)
	q = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	return strings.ReplaceAll(q, `\\`, `\`)
}

// Options say which host is looked at. The zero value is this one.
type Options struct {
	// Rootless leaves out the host's accounts and entry points: the jails are
	// the caller's own, and so is everything that leads to them.
	Rootless bool
	// Passwd, Group and Shadow are the text of the files of that name; nil
	// reads them from /etc.
	Passwd, Group, Shadow []byte
	// Root is put before every path that is looked at.
	Root string
	// PAMDirs are where PAM looks for a service, in this order.
	PAMDirs []string
	// SSHD is the path of sshd; "" looks in the usual places.
	SSHD string
	// SSHDConfig is sshd's configuration, if not the one it reads by itself.
	SSHDConfig string
	// Effective returns what "sshd -T" prints for a login. An error that is
	// ErrNotInstalled means that there is no sshd; of others the first line
	// is shown. nil runs SSHD.
	Effective func(user string) (string, error)
	// Version returns what "sshd -V" prints. nil runs SSHD.
	Version func() string
	// JailEnter are the paths that are jail-enter besides those so called, the
	// installed one first; JailKeys is where jail-keys is installed. Unset,
	// they are where this program's installation has them.
	JailEnter []string
	JailKeys  string
	// AsRoot are the installed programs of ours that root runs.
	AsRoot []string
	// SFTPServer is where the built-in sftp server is installed.
	SFTPServer string
	// RuntimeDir is where the control sockets are; "" is /run/jail.
	RuntimeDir string
	// Today is the day since 1970, as shadow(5) counts; 0 is today.
	Today int64
	// Kernel is what the kernel offers; nil asks it.
	Kernel *Kernel

	// BlockGroup is the group that sshd's block for jails is for, as it is installed.
	BlockGroup string
	// Remarks returns what others have found, in the jails and of what runs. It is called
	// last, since they may look at the same time; nil is nothing.
	Remarks func() []Remark
	// Acknowledged reports whether a note or warning about a jail need not be told; jail
	// is "" where it is about the host.
	Acknowledged func(id, jail string) bool

	files files // nil: those below Root
	// groupsFrom is what other sources than the files say of logins' groups; nil asks
	// the name service.
	groupsFrom func(sources, names []string) (map[string]string, error)
	// quota looks at the directory of a jail that has a limit on files; nil looks.
	quota func(dir string) (quota.Looked, error)
}

// Remark is a finding about one login, one jail, or, without either, the host.
type Remark struct {
	Severity                          Severity
	ID, Login, Jail, Where, What, Fix string
	Home                              string // the login's
}

// Kernel is what a jail needs of the kernel.
type Kernel struct {
	Release     string // uname -r
	LandlockABI int    // 0: none
	// Cgroups is where jails get their cgroups, "" if there is no place for
	// them; then NoCgroups says why, and CgroupsFix what to do.
	Cgroups, NoCgroups, CgroupsFix string
	// Controllers are the controllers that are to be had there.
	Controllers []string
	// NotKnown says why no jail can be known by its cgroup, "" if they can, and NotKnownFix
	// what to do.
	NotKnown, NotKnownFix string
}

// Run returns what is to be said about the host of a registry, the worst
// first. Findings that differ only in the login are one.
func Run(reg *config.Registry, opt Options) []Finding {
	a := &auditor{opt: opt}
	if reg != nil {
		a.jails, a.blocks, a.elsewhere = reg.Jails, reg.Blocks, reg.Accounts
	}
	a.complete()
	if !opt.Rootless {
		a.load()
		a.loadPAM()
		a.loadSSH()
		for _, l := range a.logins {
			a.findHome(l)
		}
		for _, l := range a.logins {
			a.checkHome(l)
			a.checkShell(l)
			a.checkAge(l)
			a.checkAdmission(l)
			a.checkUID(l)
			a.checkSSH(l)
			a.checkPAM(l)
			a.checkGroups(l)
			a.checkJobs(l)
			a.checkPrograms(l)
		}
		for _, p := range a.opt.AsRoot {
			a.checkProgram(nil, p, "as root", false)
		}
		if len(a.logins) > 0 {
			a.checkShut()
		}
		a.checkSFTP()
		a.checkMatches()
		a.checkShells()
		if reg != nil {
			a.checkNetwork(reg.Reserved)
		}
	}
	for i := range a.jails {
		a.checkResolver(&a.jails[i])
	}
	a.checkShown()
	a.checkOpenText()
	a.checkKernel()
	if opt.Remarks != nil {
		a.drafts = append(a.drafts, opt.Remarks()...)
	}
	return a.grouped()
}

// auditor collects findings.
type auditor struct {
	opt    Options
	files  files
	jails  []jail.Spec
	blocks map[string]config.Block // by the jail's name
	logins []*login
	groups []group
	// roots and shared are whose a directory is, see tenants.
	roots, shared map[string]string
	ranges        []*jail.Spec // by where their ids begin
	// elsewhere are accounts that are not in the files.
	elsewhere []config.Account
	pam       []pamLine
	// matches is what sshd_config makes depend on more than the login.
	matches matches
	drafts  []Remark
	asked   string // what sshd said of its version
	// sshdMissing is that there is no sshd.
	sshdMissing bool
	writers     map[uint32]groupWriters
	lines       map[string]map[string]bool // of files that list logins; nil: it is not there
}

// login is one login and what is known about it.
type login struct {
	passwd.Entry
	jail *jail.Spec
	in   *jail.Login
	// groups are those that list the login as a member, without its primary one.
	groups   []group
	password password
	locked   bool // with !, which sshd without PAM goes by
	age      age
	home     home
	kind     shellKind
	ssh      settings // nil: not known
}

type group struct {
	name    string
	gid     uint32
	members []string
}

type password int

const (
	passwordUnknown password = iota
	passwordSet
	passwordLocked
	passwordEmpty
)

// LoginName stands in a Remark's Fix for the login's name, JailName in Where, What or Fix for the
// jail's, homeName in What for the login's home directory, so that what is the same of many is told once.
const (
	LoginName = "\x00"
	JailName  = "\x01"
	homeName  = "\x02"
)

// add takes a finding; l is nil if it is about no login.
func (a *auditor) add(l *login, sev Severity, id, where, what, fix string) {
	d := Remark{Severity: sev, ID: id, Where: where, What: what, Fix: fix}
	if l != nil {
		d.Login, d.Jail, d.Home = l.Name, l.jail.Name, l.Home
	}
	a.drafts = append(a.drafts, d)
}

// addJail takes a finding about one jail.
func (a *auditor) addJail(j *jail.Spec, sev Severity, id, where, what, fix string) {
	a.drafts = append(a.drafts, Remark{Severity: sev, ID: id, Jail: j.Name, Where: where, What: what, Fix: fix})
}

// load finds the account of every login: in the files, else as package config has
// found it.
func (a *auditor) load() {
	a.groups = parseGroups(a.opt.Group)
	accounts := make(map[string]passwd.Entry)
	for line := range bytes.Lines(a.opt.Passwd) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		if e, ok := passwd.ByName(line, string(name)); ok {
			if _, known := accounts[e.Name]; !known {
				accounts[e.Name] = e
			}
		}
	}
	for _, e := range a.elsewhere {
		if _, known := accounts[e.Name]; !known {
			accounts[e.Name] = passwd.Entry{Name: e.Name, UID: e.UID, GID: e.GID, Home: e.Home, Shell: e.Shell}
		}
	}
	member := make(map[string][]group)
	for _, g := range a.groups {
		for _, m := range g.members {
			if !slices.ContainsFunc(member[m], func(have group) bool { return have.gid == g.gid && have.name == g.name }) {
				member[m] = append(member[m], g)
			}
		}
	}
	hashes := fields(a.opt.Passwd)
	shadow := fields(a.opt.Shadow)
	for i := range a.jails {
		j := &a.jails[i]
		for k := range j.Logins {
			e, ok := accounts[j.Logins[k].Name]
			if !ok {
				continue // it has gone since
			}
			l := &login{Entry: e, jail: j, in: &j.Logins[k]}
			for _, g := range member[e.Name] {
				if g.gid != e.GID {
					l.groups = append(l.groups, g)
				}
			}
			l.password = passwordOf(hashes[e.Name], shadow[e.Name])
			l.locked = hashOf(hashes[e.Name], shadow[e.Name]) == "!"
			l.age = ageOf(shadow[e.Name])
			l.kind = a.shellKind(e.Shell)
			a.logins = append(a.logins, l)
		}
	}
}

// fields are the lines of passwd(5) or shadow(5), by name: the first of each, as the
// C library has it.
func fields(text []byte) map[string][]string {
	all := make(map[string][]string)
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Split(line, ":"); len(f) >= 3 && f[0] != "" && all[f[0]] == nil {
			all[f[0]] = f
		}
	}
	return all
}

func parseGroups(text []byte) []group {
	var groups []group
	for line := range strings.SplitSeq(string(text), "\n") {
		f := strings.Split(line, ":")
		if len(f) != 4 || f[0] == "" {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			groups = append(groups, group{f[0], uint32(gid), strings.Split(f[3], ",")})
		}
	}
	return groups
}

// passwordOf looks at the password field of an account, in passwd(5) or, where
// that says "x", in shadow(5).
func passwordOf(passwd, shadow []string) password {
	if len(passwd) > 1 && passwd[1] == "x" {
		passwd = shadow
	}
	switch {
	case len(passwd) < 2:
		return passwordUnknown
	case passwd[1] == "":
		return passwordEmpty
	case passwd[1][0] == '!' || passwd[1][0] == '*':
		return passwordLocked
	}
	return passwordSet
}

// hashOf is the first letter of the password field of an account.
func hashOf(passwd, shadow []string) string {
	if len(passwd) > 1 && passwd[1] == "x" {
		passwd = shadow
	}
	if len(passwd) < 2 {
		return ""
	}
	return passwd[1][:min(1, len(passwd[1]))]
}

// grouped makes one Finding of drafts that differ only in the login, or the jail. What has
// been acknowledged for a login's jail is in none.
func (a *auditor) grouped() []Finding {
	type key struct {
		sev                  Severity
		id, where, what, fix string
	}
	var found []*Finding
	index := map[key]*Finding{}
	homes := map[*Finding][]Remark{}
	for _, d := range a.drafts {
		if d.Severity < Error && a.opt.Acknowledged != nil && a.opt.Acknowledged(d.ID, d.Jail) {
			continue
		}
		k := key{d.Severity, d.ID, d.Where, d.What, d.Fix}
		f := index[k]
		if f == nil {
			f = &Finding{Severity: d.Severity, ID: d.ID, Where: d.Where, What: d.What, Fix: d.Fix}
			index[k] = f
			found = append(found, f)
		}
		if d.Login != "" {
			f.Logins = append(f.Logins, d.Login)
		}
		if d.Home != "" {
			homes[f] = append(homes[f], d)
		}
		if d.Jail != "" {
			f.Jails = append(f.Jails, d.Jail)
		}
	}
	out := make([]Finding, 0, len(found))
	for _, f := range found {
		for _, names := range []*[]string{&f.Logins, &f.Jails} {
			slices.Sort(*names)
			*names = slices.Compact(*names)
		}
		f.Login = list(f.Logins)
		switch whose, names := f.Logins, f.Jails; {
		case strings.Contains(f.Fix, LoginName):
			f.Fix = forEach(f.Fix, LoginName, whose)
		case strings.Contains(f.Fix, JailName):
			f.Fix = forEach(f.Fix, JailName, names)
		}
		for _, text := range []*string{&f.Where, &f.What} {
			if strings.Contains(*text, JailName) {
				*text = strings.ReplaceAll(*text, JailName, list(f.Jails))
			}
		}
		if strings.Contains(f.What, homeName) {
			f.What = strings.ReplaceAll(f.What, homeName, listHomes(homes[f]))
		}
		out = append(out, *f)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Severity > out[j].Severity })
	return out
}

// forEach is a command for each of some names; of it stands for a name.
func forEach(command, it string, names []string) string {
	if len(names) == 1 {
		return strings.ReplaceAll(command, it, names[0])
	}
	return "for u in " + strings.Join(names, " ") + "; do " + strings.ReplaceAll(command, it, "$u") + "; done"
}

// listHomes are the home directories of some logins: of many in one place what a registry calls them.
func listHomes(of []Remark) string {
	dir := path.Dir(of[0].Home)
	var all []string
	same := len(of) > 1
	for _, d := range of {
		same = same && d.Home == path.Join(dir, d.Login)
		all = append(all, d.Home)
	}
	if same {
		return path.Join(dir, "{user}")
	}
	slices.Sort(all)
	return list(slices.Compact(all))
}

// list is names for people: all of a few, the first of many.
func list(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most-1], ", "), len(names)-most+1)
}
