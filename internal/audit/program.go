package audit

import (
	"fmt"
	"path"
	"slices"

	"jail/internal/jail"
)

// checkPrograms looks at our own programs where this login is sent through
// them: whoever can change one of them acts as every login, or as root.
func (a *auditor) checkPrograms(l *login) {
	enter := map[string]bool{}
	if l.kind == shellJail {
		enter[l.Shell] = true
	}
	if l.ssh != nil {
		if l.ssh.forced() == forcedJail {
			enter[l.ssh.forcedProgram()] = true
		}
		if p := l.ssh.keysProgram(); path.Base(p) == "jail-keys" {
			a.checkProgram(l, p, "as root at every login, if sshd does not refuse it", true)
		}
	}
	for p := range enter {
		a.checkProgram(l, p, "as every login", false)
	}
}

// checkSFTP looks at the sftp server that is shown in jails without one.
func (a *auditor) checkSFTP() {
	wanted := slices.ContainsFunc(a.jails, func(j jail.Spec) bool { return j.SFTP.Builtin() })
	if p := a.opt.SFTPServer; wanted && p != "" {
		if t := walk(a.files, p); t.missing() {
			a.add(nil, Warning, "sftp-server-missing", p, "does not exist, so sftp and scp work only in jails whose root file system has an sftp-server", a.reinstall())
			return
		}
		a.checkProgram(nil, p, "as a login that uses sftp", false)
	}
}

// checkProgram judges one program and the directories on the way to it; acts is
// what somebody gains who can change it. sshd
// applies a rule of its own to an AuthorizedKeysCommand (misc.c:safe_path): no
// directory above may be writable by others, sticky or not, or no key is found.
func (a *auditor) checkProgram(l *login, p, acts string, safePath bool) {
	base := path.Base(p)
	t := walk(a.files, p)
	if t.err != nil {
		what := "does not exist, so no login works"
		switch {
		case safePath:
			what = "does not exist, so no key is found"
		case base == "pid1": // of which a serve that runs has a copy
			what = "does not exist, so no jail starts once jail-init serve has ended, nor with jail-init run"
		}
		if !t.missing() {
			what = fmt.Sprintf("cannot be judged (%v)", t.err)
		}
		a.add(l, Error, "program-missing", p, what, a.reinstall())
		return
	}
	for i, s := range t.steps {
		last := i == len(t.steps)-1
		fix := func(cmd string) string { return cmd + " " + s.path }
		if s.uid != 0 {
			a.add(l, Error, "program-owner", s.path, fmt.Sprintf("belongs to uid %d, who can replace %s and then acts %s", s.uid, base, acts), fix("chown root"))
		}
		// In a sticky directory only its owner replaces a file.
		guarded := s.isDir() && s.sticky() && !safePath && !last
		if s.mode&0o002 != 0 && !guarded {
			a.add(l, Error, "program-writable", s.path, fmt.Sprintf("is writable by everybody, who can replace %s and then acts %s", base, acts), fix("chmod o-w"))
		}
		if s.mode&0o020 != 0 && !guarded {
			if name, any := a.groupWriters(s.gid); any {
				a.add(l, Error, "program-writable", s.path, fmt.Sprintf("is writable by group %s, who can replace %s and then acts %s", name, base, acts), fix("chmod g-w"))
			} else if safePath {
				a.add(l, Warning, "program-writable", s.path, fmt.Sprintf("is writable by its group, for which sshd refuses %s, except where the distribution has changed that", base), fix("chmod g-w"))
			}
		}
	}
	end := t.end()
	if !end.isRegular() {
		a.add(l, Error, "program-kind", p, "is not a regular file, so no login works", a.reinstall())
		return
	}
	if end.mode&0o6000 != 0 {
		a.add(l, Error, "program-setuid", end.path, "is set-uid or set-gid, so every login gets rights it is not made for", "chmod u-s,g-s "+end.path)
	}
	if a.files.hasCaps(end.path) {
		a.add(l, Error, "program-caps", end.path, "has file capabilities, so every login gets rights it is not made for", "setcap -r "+end.path)
	}
	if end.mode&0o111 != 0o111 || end.mode&0o444 != 0o444 {
		a.add(l, Error, "program-mode", end.path, fmt.Sprintf("has mode %04o and cannot be run by everybody, so logins fail", end.mode&0o7777), "chmod 0755 "+end.path)
	}
}

// reinstall is how a part of the installation that is missing comes back.
func (a *auditor) reinstall() string {
	if _, err := a.files.lstat("/var/lib/dpkg/info/jail.list"); err == nil {
		return "apt-get install --reinstall jail"
	}
	if len(a.files.glob("/usr/share/doc/packages/jail")) > 0 {
		return "zypper install --force jail"
	}
	return "make install, or install the package again"
}
