// Package login resolves one login: from what the registry, the jail's passwd,
// group and authorized_keys, and sshd say, to who somebody is inside and which
// command is his.
//
// jail-keys resolves a login before it is let in, PID 1 when it has come; both do
// it here, so that they cannot disagree on whose authorized_keys counts. The package
// makes no system calls: its callers read the files, each with the rights it has.
package login

import (
	"errors"
	"strconv"

	"jail/internal/passwd"
	"jail/internal/wire"
)

// Limits of what is read and made for one login.
const (
	MaxDatabase = 1 << 20 // bytes of a passwd or group file
	maxGroups   = 256     // groups, the primary one among them

	maxKept = 64 << 10 // bytes of a passwd file, to recognise it by
)

// KeysFile is where a user's keys are, below the home directory.
const KeysFile = ".ssh/authorized_keys"

// ErrHome means that the home directory is not an absolute path, so that nobody
// can say where the keys are.
var ErrHome = errors.New("the home directory in the jail's /etc/passwd is not an absolute path; correct it, or give home in the registry")

// User says who id is inside. passwdText is the text of the jail's passwd(5), or
// empty where there is none. Of several names of one uid it is the registry's that
// counts, and without one the first, as in getpwuid(3). What the registry says of
// name, group, home and shell wins over passwd.
//
// With the uid wire.ByName it is the name that passwd has to know.
//
// It is an error if passwd does not know the uid, unless the registry gives a name
// or a shell: that is what makes a rootfs without passwd usable.
func User(id *wire.Identity, passwdText []byte) (passwd.Entry, error) {
	if id.UID == wire.ByName {
		u, known := passwd.ByName(passwdText, id.Name)
		if !known {
			return passwd.Entry{}, errors.New("user " + id.Name + " has no entry in the jail's /etc/passwd")
		}
		u.Home, u.Shell = first(id.Home, u.Home, "/"), first(id.Shell, u.Shell, "/bin/sh")
		return u, nil
	}
	u, known := passwd.Lookup(passwdText, id.UID, id.Name)
	if !known {
		if id.Name == "" && id.Shell == "" {
			return passwd.Entry{}, errors.New("uid " + strconv.FormatUint(uint64(id.UID), 10) +
				" has no entry in the jail's /etc/passwd; add one, or give name and shell in the registry")
		}
		u = passwd.Entry{UID: id.UID, GID: id.UID}
	}
	if id.HasGID {
		u.GID = id.GID
	}
	u.Name = first(id.Name, u.Name)
	if u.Name == "" {
		u.Name = strconv.FormatUint(uint64(id.UID), 10)
	}
	u.Home = first(id.Home, u.Home, "/")
	u.Shell = first(id.Shell, u.Shell, "/bin/sh") // passwd(5)
	return u, nil
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// Groups appends u's groups to dst: the primary one, then those that groupText, the
// text of the jail's group(5), lists the name in, maxGroups at most. Group 0 is
// nobody's by a line in that file.
func Groups(dst []uint32, u *passwd.Entry, groupText []byte) []uint32 {
	return passwd.Groups(append(dst, u.GID), groupText, u.Name, false, len(dst)+maxGroups)
}

// KeysPath is the path of u's authorized_keys inside, in two parts: the home, an
// absolute path, and KeysFile below it. The error is ErrHome.
func KeysPath(u *passwd.Entry) (home, file string, err error) {
	if u.Home == "" || u.Home[0] != '/' {
		return "", "", ErrHome
	}
	return u.Home, KeysFile, nil
}

// Cache is User that keeps its last answer, so that a login like the one before
// costs no memory. The zero value is an empty one.
type Cache struct {
	id   wire.Identity
	user passwd.Entry
	text []byte
	full bool
}

// User is the function User.
func (c *Cache) User(id *wire.Identity, passwdText []byte) (passwd.Entry, error) {
	if c.full && c.id == *id && string(c.text) == string(passwdText) {
		return c.user, nil
	}
	u, err := User(id, passwdText)
	if err == nil && len(passwdText) <= maxKept {
		c.id, c.user, c.text, c.full = *id, u, append(c.text[:0], passwdText...), true
	}
	return u, err
}
