package audit

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// What "sshd -T -C user=NAME,..." prints for the same connection depends on the login by
// Match User and Match Group alone, and on those by whether their patterns match
// (servconf.c:match_cfg_line, groupaccess.c:ga_match_pattern_list, match.c). So logins
// whose name, and the names of whose groups, match the same of all patterns there are
// get the same answer, and one of them is asked for.
//
// Who is told apart without need costs a question, who is not although they differ gets
// somebody else's answer. So nothing is read here but what is plain; with anything else,
// in sshd_config, in the account files or about the name service, every login is asked
// for by itself.

// asks are the patterns of a kind of Match.
type asks struct {
	names map[string]bool // without a * or ?: they match themselves
	globs []string
}

func (s *asks) add(list string) error {
	for p := range strings.SplitSeq(list, ",") {
		p = strings.TrimPrefix(p, "!")
		if len(p) > 1000 { // match.c:match_pattern_list has room for 1024
			return errors.New("a long pattern")
		}
		// sshd minds the case; where it did not, the second would tell.
		for _, p := range []string{p, strings.ToLower(p)} {
			switch {
			case strings.ContainsAny(p, "*?"):
				if !slices.Contains(s.globs, p) {
					s.globs = append(s.globs, p)
				}
			default:
				if s.names == nil {
					s.names = map[string]bool{}
				}
				s.names[p] = true
			}
		}
	}
	return nil
}

func (s *asks) any() bool { return len(s.names)+len(s.globs) > 0 }

// of says which patterns match a name, "" if none does.
func (s *asks) of(name string) string {
	var b strings.Builder
	if s.names[name] {
		b.WriteString("=" + name)
	}
	for i, p := range s.globs {
		if matchPattern(p, name) {
			fmt.Fprintf(&b, " %d", i)
		}
	}
	return b.String()
}

// classes tell logins apart as sshd does.
type classes struct {
	users, groups asks
	hosts         *accountFiles     // nil: groups do not matter
	elsewhere     map[string]string // what the name service says of groups besides the files
}

// classesOf reads what sshd_config asks of a login. An error is why that is not certain.
func (a *auditor) classesOf(logins []*login) (*classes, error) {
	c := &classes{}
	config := a.opt.SSHDConfig
	// Where an sshd has its configuration was said when it was built; those of
	// distributions agree.
	dir := path.Dir(strings.TrimPrefix(a.findSSHD(), a.opt.Root))
	standard := dir == "/usr/sbin" || dir == "/usr/bin"
	if config == "" {
		if config = configDir + "sshd_config"; !standard {
			return nil, errors.New("this sshd may have its configuration elsewhere")
		}
	}
	if err := c.read(a.files, config, standard, 0); err != nil {
		return nil, err
	}
	if !c.groups.any() {
		return c, nil
	}
	var err error
	if c.hosts, err = readAccounts(string(a.opt.Passwd), string(a.opt.Group)); err != nil {
		return nil, err
	}
	text, err := a.files.read("/etc/nsswitch.conf")
	if err != nil {
		return nil, err
	}
	sources, err := groupSources(string(text))
	if err != nil || len(sources) == 0 {
		return c, err
	}
	names := make([]string, len(logins))
	for i, l := range logins {
		names[i] = l.Name
	}
	c.elsewhere, err = a.opt.groupsFrom(sources, names)
	return c, err
}

const configDir = "/etc/ssh/"

// of returns the same text for two logins only if sshd cannot tell them apart.
func (c *classes) of(l *login) string {
	key := c.users.of(l.Name)
	if c.hosts == nil {
		return key
	}
	var groups []string
	for _, g := range c.hosts.groupsOf(l.Name, l.GID) {
		if m := c.groups.of(g); m != "" {
			groups = append(groups, m)
		}
	}
	if !c.hosts.names[decimal(l.GID)] {
		groups = append(groups, "gid "+decimal(l.GID)) // whose name is not in the file
	}
	slices.Sort(groups)
	return fmt.Sprintf("%q", append(slices.Compact(groups), key, c.elsewhere[l.Name]))
}

// read reads the lines of a file that can make a difference between logins, and of those
// it includes.
func (c *classes) read(f files, file string, standard bool, depth int) error {
	if depth > 16 { // servconf.h:SERVCONF_MAX_DEPTH
		return errors.New("too many files within files")
	}
	text, err := f.read(file)
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		n++
		odd := func(what string) error { return fmt.Errorf("%s:%d: %s", file, n, what) }
		line = strings.Trim(line, " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		end := strings.IndexFunc(line, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
		word := line
		if end >= 0 {
			word = line[:end]
			if !strings.ContainsRune(" \t=", rune(line[end])) {
				return odd("not a plain word")
			}
		}
		word = strings.ToLower(word)
		if word != "match" && word != "include" {
			continue
		}
		for _, r := range line {
			// Quotes, escapes, comments and = are read by one sshd like this and by another
			// like that.
			if r != '\t' && (r < ' ' || r > '~' || strings.ContainsRune("\"'\\#=$%~[]{}", r)) {
				return odd("more than plain words")
			}
		}
		w := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })[1:]
		if len(w) == 0 {
			return odd("nothing follows")
		}
		if word == "include" {
			for _, pattern := range w {
				if !path.IsAbs(pattern) {
					if !standard {
						return odd("relative to a directory that this sshd was built with")
					}
					pattern = configDir + pattern
				}
				for _, g := range f.glob(pattern) {
					if err := c.read(f, g, standard, depth+1); err != nil {
						return err
					}
				}
			}
			continue
		}
		for len(w) > 0 {
			kind := strings.ToLower(w[0])
			if kind == "all" {
				w = w[1:]
				continue
			}
			if len(w) == 1 {
				return odd("a criterion without a value")
			}
			switch kind {
			case "user":
				err = c.users.add(w[1])
			case "group":
				err = c.groups.add(w[1])
			case "host", "address", "localaddress", "localport", "rdomain":
				// The same for all: they are asked for with one connection.
			default:
				err = errors.New("a criterion that is not known here")
			}
			if err != nil {
				return odd(err.Error())
			}
			w = w[2:]
		}
	}
	return nil
}

// accountFiles are the groups of /etc/group, for getgrouplist(3) and getgrgid(3).
type accountFiles struct {
	name    map[string]string   // by gid
	names   map[string]bool     // gids
	members map[string][]string // by login, gids
}

// readAccounts reads the account files if they are so plain that the C library and we
// cannot read anything different.
func readAccounts(passwd, group string) (*accountFiles, error) {
	plain := func(s string) bool {
		return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.-$", r)
		})
	}
	id := func(s string) bool {
		return s != "" && len(s) <= 10 && (s == "0" || s[0] != '0') && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	}
	for line := range strings.SplitSeq(passwd, "\n") {
		if f := strings.Split(line, ":"); line != "" && line[0] != '#' && (len(f) != 7 || !plain(f[0]) || !id(f[2]) || !id(f[3])) {
			return nil, fmt.Errorf("/etc/passwd: not a plain line: %q", line)
		}
	}
	a := &accountFiles{name: map[string]string{}, names: map[string]bool{}, members: map[string][]string{}}
	for line := range strings.SplitSeq(group, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) != 4 || !plain(f[0]) || !id(f[2]) {
			return nil, fmt.Errorf("/etc/group: not a plain line: %q", line)
		}
		if !a.names[f[2]] {
			a.names[f[2]], a.name[f[2]] = true, f[0]
		}
		if f[3] == "" {
			continue
		}
		for m := range strings.SplitSeq(f[3], ",") {
			if !plain(m) {
				return nil, fmt.Errorf("/etc/group: not a plain list of members: %q", line)
			}
			a.members[m] = append(a.members[m], f[2])
		}
	}
	return a, nil
}

// groupsOf returns the names of a login's groups.
func (a *accountFiles) groupsOf(login string, gid uint32) []string {
	var names []string
	for _, g := range append([]string{decimal(gid)}, a.members[login]...) {
		if n, ok := a.name[g]; ok {
			names = append(names, n)
		}
	}
	return names
}

// groupSources returns what nsswitch.conf(5) asks for groups besides the files, which
// have to come first; for accounts as well.
func groupSources(text string) (others []string, err error) {
	found := map[string][]string{}
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		database, sources, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		database = strings.ToLower(strings.TrimSpace(database))
		if found[database] != nil {
			return nil, errors.New("/etc/nsswitch.conf: two lines for " + database)
		}
		found[database] = strings.Fields(sources)
	}
	if found["initgroups"] != nil {
		return nil, errors.New("/etc/nsswitch.conf: initgroups has a line of its own")
	}
	for _, database := range []string{"passwd", "group"} {
		if s := found[database]; len(s) == 0 || s[0] != "files" {
			return nil, errors.New("/etc/nsswitch.conf: the files do not come first for " + database)
		}
	}
	for _, s := range found["group"][1:] {
		switch {
		case strings.EqualFold(s, "[SUCCESS=merge]"):
		case s == "files" || strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }):
			return nil, errors.New("/etc/nsswitch.conf: " + s)
		default:
			others = append(others, s)
		}
	}
	return others, nil
}
