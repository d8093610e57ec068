package audit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What keeps a login out before anything of a jail's is asked: sshd's own lists
// (auth.c:allowed_user), the account's age, and a file that shuts the host.

// checkAdmission looks at one login.
func (a *auditor) checkAdmission(l *login) {
	if l.ssh != nil {
		a.checkLists(l)
		// auth.c:allowed_user, platform.c:platform_locked_account: without PAM a hash that
		// begins with ! is an account that nobody enters, by a key neither.
		if l.ssh.is("usepam", "no") && l.ssh.get("usepam") == "no" && l.locked {
			a.add(l, Error, "account-locked", "/etc/shadow, password", "is locked with !, and with UsePAM no sshd refuses such an account, with a key too", "usermod -p '*' "+LoginName)
		}
	}
	day := func(n int64) string { return fmt.Sprintf("day %d since 1970, today is %d", n, a.opt.Today) }
	switch e := l.age.expires; {
	case e > 0 && a.opt.Today > e:
		a.add(l, Error, "account-expired", "/etc/shadow, expiry", "the account has expired ("+day(e)+"), so nobody enters by it", "chage -E -1 "+LoginName)
	case l.age.known && l.age.max >= 0 && l.age.inactive >= 0 && a.opt.Today > l.age.change+l.age.max+l.age.inactive && !(l.ssh != nil && l.ssh.is("usepam", "no")):
		a.add(l, Error, "account-expired", "/etc/shadow, inactive", "the password has been too old for so long that the account is shut", "chage -I -1 -M -1 "+LoginName)
	}
}

// checkLists looks at AllowUsers, DenyUsers, AllowGroups and DenyGroups.
func (a *auditor) checkLists(l *login) {
	user := func(pattern string) bool {
		name, host, from := strings.Cut(pattern, "@")
		// From where somebody comes is not known here; *@HOST may be meant for them.
		return matchPattern(name, l.Name) && (!from || host == "*")
	}
	maybe := func(pattern string) bool {
		name, _, _ := strings.Cut(pattern, "@")
		return matchPattern(name, l.Name)
	}
	if denied := words(l.ssh["denyusers"]); slices.ContainsFunc(denied, user) {
		a.add(l, Error, "sshd-lists", "sshd_config, DenyUsers", "refuses the login", "take "+LoginName+" out of DenyUsers")
	}
	if allowed := words(l.ssh["allowusers"]); len(allowed) > 0 && !slices.ContainsFunc(allowed, maybe) {
		a.add(l, Error, "sshd-lists", "sshd_config, AllowUsers", "does not list the login, so sshd refuses it", "AllowUsers "+strings.Join(allowed, " ")+" "+LoginName)
	}
	if !a.groupsAreInFiles() {
		return // somebody else may know more
	}
	names := []string{a.groupName(l.GID)}
	for _, g := range l.groups {
		names = append(names, g.name)
	}
	member := func(pattern string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return n != "" && matchPattern(pattern, n) })
	}
	if slices.ContainsFunc(words(l.ssh["denygroups"]), member) {
		a.add(l, Error, "sshd-lists", "sshd_config, DenyGroups", "refuses a group of the login", "sshd -T -C "+connection(LoginName)+" | grep -i denygroups; id "+LoginName)
	}
	if allowed := words(l.ssh["allowgroups"]); len(allowed) > 0 && !slices.ContainsFunc(allowed, member) {
		fix := "AllowGroups " + strings.Join(allowed, " ") + " " + a.opt.BlockGroup
		a.add(l, Error, "sshd-lists", "sshd_config, AllowGroups", "lists none of the login's groups, so sshd refuses it", fix)
	}
}

// words are those of all lines: sshd -T prints a list on one, or one a line.
func words(lines []string) []string { return strings.Fields(strings.Join(lines, " ")) }

// groupsAreInFiles reports whether no other source than the files has groups of people:
// systemd's has those of services.
func (a *auditor) groupsAreInFiles() bool {
	text, err := a.files.read("/etc/nsswitch.conf")
	if err != nil {
		return true
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		database, sources, _ := strings.Cut(strings.TrimSpace(line), ":")
		if database = strings.ToLower(strings.TrimSpace(database)); database != "group" && database != "initgroups" {
			continue
		}
		for _, s := range strings.Fields(sources) {
			if s != "files" && s != "systemd" && !strings.HasPrefix(s, "[") {
				return false
			}
		}
	}
	return true
}

// checkShut looks at the files by which pam_nologin(8), and sshd without PAM, keep everybody
// but root out.
func (a *auditor) checkShut() {
	for _, p := range []string{"/etc/nologin", "/run/nologin", "/var/run/nologin"} {
		if _, err := a.files.lstat(p); err == nil {
			a.add(nil, Error, "nologin", p, "is there, so nobody but root logs in", "rm "+p)
			return
		}
	}
}

// shadowDay reads a field of shadow(5) that counts days; -1 if it says nothing.
func shadowDay(f []string, i int) int64 {
	if i >= len(f) {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(f[i]), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
