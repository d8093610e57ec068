// Package config reads the registry: the TOML files that say which host login
// lands in which jail. What leaves it is a list of jail.Spec without a known
// fault, or every fault at once, each with its file, line and key.
//
// Only programs on the host side import it. It never writes, and looks at the
// file system only as far as Options allow.
package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"jail/internal/jail"
	"jail/internal/wire"
)

// DefaultPath is the registry. Its drop-ins are the *.toml files of the
// directory "jail.d" beside it, in lexical order.
const DefaultPath = "/etc/jail/jail.toml"

// DefaultRuntimeDir holds one control socket per host login.
const DefaultRuntimeDir = wire.RuntimeDir

// Options say on whose behalf, and against which host, a registry is judged.
// The zero value is the system registry of this host.
type Options struct {
	// Rootless judges a registry for an unprivileged caller: files owned by
	// the caller's effective uid are accepted beside root's, directories
	// above may be world-writable if sticky, a login need not be an
	// unprivileged account (it is the caller's own), and userns "auto" means
	// the caller's own ids.
	Rootless bool
	// Passwd, Group, SubUID and SubGID are the text of the host's files of
	// that name; nil reads them from /etc.
	Passwd, Group, SubUID, SubGID []byte
	// LoginDefs is the text of the host's login.defs(5); nil reads it from /etc.
	LoginDefs []byte
	// PortRange and ReservedPorts are the text of ip_local_port_range and
	// ip_local_reserved_ports; nil reads them from /proc/sys/net/ipv4.
	PortRange, ReservedPorts []byte
	// FilesOnly leaves out accounts and groups that are not in those files.
	FilesOnly bool
	// AccountsWithin is how long the name service may take for them; 0 is 5 seconds.
	AccountsWithin time.Duration
	// SkipFS leaves out every check that looks at the file system beyond
	// reading the registry: its owner and mode, rootfs and mount sources.
	SkipFS bool
	// SkipPlaces leaves out the checks of every rootfs and mount source, for a
	// program that is concerned with one jail and must not fail for another's
	// missing disk. The registry's own owner and mode are checked.
	SkipPlaces bool
	// RuntimeDir is the directory no jail may see; "" is DefaultRuntimeDir.
	RuntimeDir string
	// Before is the registry in force until now, if there is one. A jail that was in it
	// keeps its id range. What a drop-in described that cannot be read any more is known
	// from it, and lands nowhere else.
	Before *Registry

	// Explain is the name of a jail of which Explained is wanted.
	Explain string

	euid *uint32 // the effective uid to assume; nil asks the kernel
}

// Registry is what is in force: the jails and logins without a known fault, and
// what is out of service for one.
type Registry struct {
	// Jails are sorted by name.
	Jails []jail.Spec
	// Faults are what is out of service. No login of a Fault is in a Spec of
	// Jails, and no jail that a Fault puts out of service as a whole.
	Faults []Fault
	// Warnings are what an administrator should know although the registry
	// is used as it is.
	Warnings []Error
	// Files is the file that describes each jail of Jails, by the jail's name.
	Files map[string]string
	// Blocks is what describes each jail of Jails in its file, by the jail's name.
	Blocks map[string]Block
	// Accounts are the accounts of the registry that are not in /etc/passwd.
	Accounts []Account
	// Metrics is the file that metrics are written to, "" for none. What is in force does not
	// have it.
	Metrics string
	// Reserved are the ports that no jail may bind.
	Reserved []jail.Ports
	// Acknowledged are ids of findings that need not be told, by the jail they are about;
	// "" is any of them, and the host. What is in force does not have them.
	Acknowledged map[string][]string
	// Explained is the jail of Options.Explain, nil if there is none.
	Explained *Explanation
	// MatchGroups are the groups of the [[match]] that are usable, in order. What is in force
	// does not have them.
	MatchGroups []string
}

// Fault is one part of the registry that is out of service, and why: a jail with all
// its logins, single logins of a jail, or a file.
type Fault struct {
	// Jail is the jail it concerns; "" if none can be told, as in a file that is
	// not TOML.
	Jail string
	// File is the registry file it is in.
	File string
	// Match is what the [[match]] says that the jail is made by, "" if it is by none.
	Match string
	// Block is what is at fault if it is no jail, as `match group = "students"`.
	Block string
	// Userns is the range the jail would have, which nobody else gets meanwhile.
	Userns jail.Userns
	// Network is the ID of its network that the jail would have, 0 for none.
	Network uint16
	// Logins are out of service by it, as far as they can be named.
	Logins []FaultyLogin
	// Errors are the reasons; at least one.
	Errors Errors
}

// FaultyLogin is a login that is out of service.
type FaultyLogin struct {
	Name string
	// HostUID is its uid on the host, 0 where the host knows no such account.
	HostUID jail.HostUID
}

// Concerns says in a few words what is out of service by f, one of r's Faults.
func (r *Registry) Concerns(f *Fault) string {
	const most = 8
	var names []string
	for i, l := range f.Logins {
		if i == most {
			names = append(names, "and "+strconv.Itoa(len(f.Logins)-most)+" more")
			break
		}
		names = append(names, l.Name)
	}
	logins := strings.Join(names, ", ")
	_, goesOn := r.Files[f.Jail]
	switch {
	case f.Block != "" && logins == "":
		return f.Block
	case f.Jail == "" && logins == "":
		return f.File
	case f.Jail == "":
		return "login " + logins
	case goesOn && logins == "":
		return "a login of jail " + f.Jail
	case goesOn:
		return "login " + logins + " of jail " + f.Jail
	case logins == "":
		return "jail " + f.Jail
	}
	return "jail " + f.Jail + " with login " + logins
}

// Outage is what is out of service for one reason: a Fault, or those of many jails that one
// [[match]] has made and that have the same thing wrong with them.
type Outage struct {
	// What says in a few words what is out of service.
	What string
	// Errors are the reasons; where there are many jails, those of the first.
	Errors Errors
	// Jails is the number of jails, if there is more than one.
	Jails int
}

// Outages returns every Fault, and those of a [[match]] that are about the same keys as one:
// a thousand accounts without a root directory are a line, and not a thousand.
func (r *Registry) Outages() []Outage {
	var all []Outage
	at := make(map[string]int)
	names := make(map[int][]string)
	for i := range r.Faults {
		f := &r.Faults[i]
		if f.Match == "" || f.Jail == "" || len(f.Errors) == 0 {
			all = append(all, Outage{What: r.Concerns(f), Errors: f.Errors})
			continue
		}
		key := f.Match
		for _, e := range f.Errors {
			key += "\n" + e.File + ":" + strconv.Itoa(e.Line) + ":" + e.Key
		}
		n, known := at[key]
		if !known {
			n = len(all)
			at[key] = n
			all = append(all, Outage{What: r.Concerns(f), Errors: f.Errors})
		}
		names[n] = append(names[n], f.Jail)
		if len(names[n]) > 1 {
			all[n].Jails = len(names[n])
			all[n].What = "jails " + someOf(names[n]) + ", of match " + f.Match
		}
	}
	return all
}

// Errors returns every fault once, sorted by file and line.
func (r *Registry) Errors() Errors {
	var all Errors
	for i := range r.Faults {
		all = append(all, r.Faults[i].Errors...)
	}
	return all.Sorted()
}

// Jail returns the jail of that name, or nil.
func (r *Registry) Jail(name string) *jail.Spec {
	i, found := slices.BinarySearchFunc(r.Jails, name, func(j jail.Spec, name string) int { return strings.Compare(j.Name, name) })
	if !found {
		return nil
	}
	return &r.Jails[i]
}

// Login returns the login of that exact name and its jail, or nils.
func (r *Registry) Login(name string) (*jail.Spec, *jail.Login) {
	return r.login(func(l *jail.Login) bool { return l.Name == name })
}

// LoginFaults returns why a login of that name is out of service; nil if it is not.
func (r *Registry) LoginFaults(name string) Errors {
	var all Errors
	for i := range r.Faults {
		for _, l := range r.Faults[i].Logins {
			if l.Name == name {
				all = append(all, r.Faults[i].Errors...)
			}
		}
	}
	return all
}

// HostUID returns the login with that uid on the host and its jail, or nils.
func (r *Registry) HostUID(uid jail.HostUID) (*jail.Spec, *jail.Login) {
	return r.login(func(l *jail.Login) bool { return l.HostUID == uid })
}

func (r *Registry) login(match func(*jail.Login) bool) (*jail.Spec, *jail.Login) {
	for i := range r.Jails {
		for j := range r.Jails[i].Logins {
			if l := &r.Jails[i].Logins[j]; match(l) {
				return &r.Jails[i], l
			}
		}
	}
	return nil, nil
}

// Error is one fault of a registry, or one warning about it.
type Error struct {
	File string // path of the registry file, or of the directory at fault
	Line int    // line of the key; 0 when the file itself is at fault, not a line of it
	Key  string // dotted path of the key, "" when there is none
	Msg  string // what is wrong, what to do
}

// Error returns "file:line: key: what, what to do".
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		b.WriteString(":" + strconv.Itoa(e.Line))
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + e.Msg)
	return b.String()
}

// Errors are all the faults of a registry, sorted by file and line.
type Errors []Error

// Error returns one fault per line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}
