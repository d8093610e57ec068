package audit

import (
	"slices"
	"strings"
)

// The part of sshd's configuration that is for jails is installed as a whole, by "jail
// setup". Where it is not there, or not for a login, every option of it would be found to
// be wrong, and each by itself is bad advice: written before the first Match it restricts
// everybody. So the whole is judged first, and only what it leaves open line by line.

// block is a ForceCommand of ours in a file of sshd's.
type block struct {
	where string
	match []string // the words of the Match above it; none before the first
}

// groups are those that the Match asks for.
func (b *block) groups() []string {
	for i := 0; i+1 < len(b.match); i += 2 {
		if strings.EqualFold(b.match[i], "group") {
			return strings.Split(b.match[i+1], ",")
		}
	}
	return nil
}

// checkBlock reports whether sshd does nothing for a login that a jail needs, and says
// why. Of what it does otherwise nothing is worth a word then.
func (a *auditor) checkBlock(l *login) bool {
	if l.ssh.forced() != forcedNone || l.ssh.keysProgram() != "" {
		return false
	}
	const so = "so no key of the jail's enters, and where somebody enters otherwise, sftp and forwarding are the host's"
	for _, b := range a.matches.blocks {
		groups := b.groups()
		in := func(name string) bool {
			return slices.Contains(groups, name) && (slices.ContainsFunc(l.groups, func(g group) bool { return g.name == name }) || a.groupName(l.GID) == name)
		}
		if slices.ContainsFunc(groups, in) {
			a.add(l, Error, "sshd-block", b.where, "is for the login's group, but sshd does not follow it: sshd_config does not include that file, or another ForceCommand comes first, "+so, "sshd -T -C "+connection(LoginName))
			return true
		}
	}
	// The login's own group, where a [[match]] names it, is for setup to put into the block.
	if match := a.blocks[l.jail.Name].Match; strings.HasPrefix(match, "group = ") && (len(a.matches.blocks) == 0 || len(a.matches.blocks[0].groups()) > 0) {
		where, what := "sshd_config", "the block for jails is not installed, "
		if len(a.matches.blocks) > 0 {
			where, what = a.matches.blocks[0].where, "sends members of group "+strings.Join(a.matches.blocks[0].groups(), ",")+" into their jails, and those of the [[match]] "+match+" not, "
		}
		a.add(l, Error, "sshd-block", where, what+so, "jail setup")
		return true
	}
	for _, b := range a.matches.blocks {
		for _, name := range b.groups() {
			if !strings.ContainsAny(name, "!*?") {
				a.add(l, Error, "sshd-block", b.where, "sends members of group "+name+" into their jails, and the login is not one, "+so, "usermod -aG "+name+" "+LoginName)
				return true
			}
		}
	}
	if len(a.matches.blocks) > 0 {
		a.add(l, Error, "sshd-block", a.matches.blocks[0].where, "sends others into their jails, and not this login, "+so, "have its Match apply to "+LoginName)
		return true
	}
	a.add(l, Error, "sshd-block", "sshd_config", "the block for jails is not installed, "+so, "jail setup, and usermod -aG "+a.opt.BlockGroup+" "+LoginName)
	return true
}

func (a *auditor) groupName(gid uint32) string {
	for _, g := range a.groups {
		if g.gid == gid {
			return g.name
		}
	}
	return ""
}
