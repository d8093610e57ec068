package provision

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"jail/internal/jail"
	"jail/internal/passwd"
)

// host is what the host's account files say.
type host struct {
	passwd, group  []byte
	uidMin, uidMax uint32
}

// newHost reads the text of passwd(5), group(5) and login.defs(5).
func newHost(passwdText, groupText, loginDefs []byte) host {
	h := host{passwd: passwdText, group: groupText, uidMin: 1000, uidMax: 60000}
	for line := range strings.Lines(string(loginDefs)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseUint(f[1], 0, 32)
		switch {
		case err != nil || !jail.ValidID(uint32(n)):
		case f[0] == "UID_MIN":
			h.uidMin = uint32(n)
		case f[0] == "UID_MAX":
			h.uidMax = uint32(n)
		}
	}
	return h
}

func (h *host) hasGroup(name string) bool {
	for line := range bytes.Lines(h.group) {
		if bytes.HasPrefix(line, []byte(name+":")) {
			return true
		}
	}
	return false
}

// isIn reports whether an account is in a group of the files, by its line or by its primary group.
func (h *host) isIn(group, login string, gid uint32) bool {
	for line := range strings.Lines(string(h.group)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) == 4 && f[0] == group {
			return f[2] == strconv.FormatUint(uint64(gid), 10) || slices.Contains(strings.Split(f[3], ","), login)
		}
	}
	return false
}

// ids are all ids in the third field of passwd(5) or group(5) text.
func ids(text []byte) []uint32 {
	var all []uint32
	for line := range bytes.Lines(text) {
		f := bytes.Split(bytes.TrimRight(line, "\n"), []byte(":"))
		if len(f) < 4 {
			continue
		}
		if n, err := strconv.ParseUint(string(f[2]), 10, 32); err == nil {
			all = append(all, uint32(n))
		}
	}
	return all
}

// free finds ids that nobody has.
type free struct {
	taken    map[uint32]bool
	next     uint32
	min, max uint32
}

// newFree starts behind the highest id of an ordinary account, as useradd(8) does, so
// that the id of one who is gone is not somebody else's at once.
func newFree(min, max uint32, lists ...[]uint32) *free {
	f := &free{taken: make(map[uint32]bool), next: min, min: min, max: max}
	for _, list := range lists {
		for _, id := range list {
			f.taken[id] = true
			if id >= f.next && id < max {
				f.next = id + 1
			}
		}
	}
	return f
}

func (f *free) take() (uint32, error) {
	for range f.max - f.min + 1 {
		id := f.next
		if f.next++; f.next > f.max {
			f.next = f.min
		}
		if !f.taken[id] && jail.ValidID(id) {
			f.taken[id] = true
			return id, nil
		}
	}
	return 0, fmt.Errorf("no uid from %d to %d is free on the host and inside", f.min, f.max)
}

// User is somebody inside.
type User struct {
	Name  string
	UID   uint32
	GID   uint32
	Home  string
	Shell string
}

// tree is what a root file system's account files say.
type tree struct {
	passwd, group []byte
	shells        []string // those it has, the best first
}

var errAccounts = errors.New("has no account files of its own: an ordinary root file system has /etc/passwd and /etc/group")

// who decides who a login is inside: the user of the login's name or, if the
// administrator gave a uid, of that uid, and otherwise a new one. made says
// that it is to be made.
func (t *tree) who(login string, uid uint32, given bool, min uint32, next func() (uint32, error)) (u User, made bool, err error) {
	e, known := passwd.ByName(t.passwd, login)
	if !known && given {
		e, known = passwd.ByUID(t.passwd, uid)
	}
	if known {
		if e.UID < min || !jail.ValidID(e.UID) {
			return User{}, false, fmt.Errorf("user %s inside has uid %d, which is no person's; choose another login name", login, e.UID)
		}
		return User{e.Name, e.UID, e.GID, e.Home, e.Shell}, false, nil
	}
	if !given {
		if uid, err = next(); err != nil {
			return User{}, false, err
		}
	}
	shell := "/bin/sh"
	if len(t.shells) > 0 {
		shell = t.shells[0]
	}
	u = User{Name: login, UID: uid, GID: uid, Home: "/home/" + login, Shell: shell}
	if slices.Contains(ids(t.group), uid) {
		return User{}, false, fmt.Errorf("a group inside has the id %d already; give another --uid", uid)
	}
	if hasName(t.group, login) {
		return User{}, false, fmt.Errorf("a group inside is called %s already; choose another login name", login)
	}
	return u, true, nil
}

func hasName(text []byte, name string) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte(name+":")) {
			return true
		}
	}
	return false
}

// isSystem reports whether passwd(5) text has an account of that name with a uid below min.
func isSystem(text []byte, name string, min uint32) bool {
	for line := range bytes.Lines(text) {
		if f := bytes.Split(line, []byte(":")); len(f) > 2 && string(f[0]) == name {
			uid, err := strconv.ParseUint(string(f[2]), 10, 32)
			return err == nil && uint32(uid) < min
		}
	}
	return false
}

// The lines of a user in the account files of a root file system. The password is the
// host's matter; * is none, and locks nothing (shadow(5)).
func (u *User) passwdLine() string {
	return fmt.Sprintf("%s:x:%d:%d::%s:%s\n", u.Name, u.UID, u.GID, u.Home, u.Shell)
}
func (u *User) groupLine() string  { return fmt.Sprintf("%s:x:%d:\n", u.Name, u.GID) }
func (u *User) shadowLine() string { return u.Name + ":*:19000:0:99999:7:::\n" }

// insert adds a line to account text, before the lines that ask another database
// (nsswitch.conf(5), compat).
func insert(text []byte, lines ...string) []byte {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(slices.Clone(text), '\n')
	}
	at := len(text)
	pos := 0
	for line := range bytes.Lines(text) {
		if line[0] == '+' || line[0] == '-' {
			at = pos
			break
		}
		pos += len(line)
	}
	return slices.Concat(text[:at], []byte(strings.Join(lines, "")), text[at:])
}

// remove drops the lines of names of which same, unless nil, says that they are theirs.
func remove(text []byte, names []string, same func(name string, fields []string) bool) []byte {
	var rest []byte
	for line := range bytes.Lines(text) {
		f := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		if slices.Contains(names, f[0]) && (same == nil || same(f[0], f)) {
			continue
		}
		rest = append(rest, line...)
	}
	return rest
}

// leave takes names out of the member lists of group(5) text.
func leave(text []byte, names []string) []byte {
	var rest []byte
	for line := range bytes.Lines(text) {
		f := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		if len(f) == 4 && f[3] != "" {
			members := strings.Split(f[3], ",")
			kept := slices.DeleteFunc(slices.Clone(members), func(m string) bool { return slices.Contains(names, m) })
			if len(kept) != len(members) {
				f[3] = strings.Join(kept, ",")
				rest = append(rest, strings.Join(f, ":")+"\n"...)
				continue
			}
		}
		rest = append(rest, line...)
	}
	return rest
}
