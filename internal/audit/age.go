package audit

import (
	"fmt"
	"strconv"
	"strings"

	"jail/internal/jail"
)

// age is what shadow(5) says of how old a password may be, in days.
type age struct {
	change, max int64
	// inactive is how long after max the account is shut, expires when it is whatever
	// its password; -1 is never.
	inactive, expires int64
	known             bool // there is a day of the last change
}

// ageOf reads NAME:HASH:CHANGE:MIN:MAX:WARN:INACTIVE:EXPIRE of shadow(5). An empty field, and -1, switch
// that part off.
func ageOf(f []string) age {
	if len(f) < 5 {
		return age{inactive: -1, expires: -1}
	}
	day, err := strconv.ParseInt(f[2], 10, 64)
	a := age{change: day, known: err == nil && day >= 0, inactive: shadowDay(f, 6), expires: shadowDay(f, 7)}
	if a.max, err = strconv.ParseInt(f[4], 10, 64); err != nil || a.max < 0 || a.max >= 10000 {
		a.max = -1 // chage(1) and pam_unix(8) take 10000 days for never
	}
	return a
}

// checkAge finds a password that has to be changed. pam_unix says so of every login,
// of one with a key too, and sshd then runs the host's passwd(1) in place of the session
// (session.c:do_pwchange), as a ForceCommand or shell would have run.
func (a *auditor) checkAge(l *login) {
	if !l.age.known || l.ssh != nil && l.ssh.is("usepam", "no") {
		return
	}
	const what = "so sshd runs the host's passwd(1) at every login, of one with a key too, and no session in the jail"
	switch {
	case l.age.change == 0:
		a.add(l, Error, "password-must-change", "/etc/shadow, last change", "the password has to be changed at the next login (chage -d 0), "+what, "chage -d -1 "+LoginName)
	case l.age.max >= 0 && a.opt.Today > l.age.change+l.age.max:
		a.add(l, Error, "password-too-old", "/etc/shadow, maximum age", "the password is too old, "+what, "chage -M -1 "+LoginName)
	case l.age.max >= 0:
		a.add(l, Note, "password-age", "/etc/shadow, maximum age", "the password has an age, past which sshd runs the host's passwd(1) at every login, of one with a key too",
			"chage -M -1 "+LoginName)
	}
}

// The uids that systemd gives to services with DynamicUser= (systemd.io/UIDS-GIDS).
const dynamicMin, dynamicMax = 61184, 65519

// checkUID finds a uid that may be a service's at the same time.
func (a *auditor) checkUID(l *login) {
	if l.UID >= dynamicMin && l.UID <= dynamicMax {
		a.add(l, Note, "uid-dynamic", "/etc/passwd, uid", fmt.Sprintf("uids from %d to %d are those systemd gives to services with DynamicUser=, one of which may have it by now",
			dynamicMin, dynamicMax), "usermod -u UID "+LoginName)
	}
}

// checkPing looks whether the groups of the jails may make ping sockets (icmp(7),
// ping_group_range): raw ones are not for them.
func (a *auditor) checkPing() {
	text, err := a.files.read("/proc/sys/net/ipv4/ping_group_range")
	f := strings.Fields(string(text))
	if err != nil || len(f) != 2 {
		return
	}
	low, err1 := strconv.ParseUint(f[0], 10, 32)
	high, err2 := strconv.ParseUint(f[1], 10, 32)
	if err1 != nil || err2 != nil {
		return
	}
	var shut []string
	for i := range a.jails {
		j := &a.jails[i]
		first, last := hostGIDs(j)
		if first < low || last > high {
			shut = append(shut, j.Name)
		}
	}
	if len(shut) > 0 {
		a.add(nil, Note, "ping", "sysctl net.ipv4.ping_group_range", fmt.Sprintf("is %d to %d and leaves out the groups of these jails, so ping does not work in them: %s", low, high, list(shut)),
			`sysctl -w net.ipv4.ping_group_range="0 2147483647"`)
	}
}

// hostGIDs are the groups on the host that a jail's logins have, from the first to the
// last.
func hostGIDs(j *jail.Spec) (first, last uint64) {
	if j.Userns.Keep {
		gid := uint64(j.Logins[0].GID)
		return min(gid, uint64(j.Userns.Base)), max(gid, uint64(j.Userns.Base)+uint64(j.Userns.Size)-1)
	}
	if j.Userns.Enabled {
		return uint64(j.Userns.Base), uint64(j.Userns.Base) + uint64(j.Userns.Size) - 1
	}
	return 1, 65533
}
