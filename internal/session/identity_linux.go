package session

import (
	"syscall"

	"jail/internal/authkeys"
	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// user says who the identity is inside, from the jail's own passwd and group,
// and puts its supplementary groups into c.
func (j *Jail) user(id *wire.Identity, c *sys.Child) (passwd.Entry, *Refusal) {
	u := passwd.Entry{Name: id.Name, UID: id.UID, GID: id.UID, Home: "/"}
	var err error
	if j.passwd, err = readSmall(j.Root, "/etc/passwd", j.passwd); err != nil && err != syscall.ENOENT {
		return u, &Refusal{125, "cannot read /etc/passwd of the jail: " + reason(err)}
	}
	entry, ok := j.lookup(id.UID)
	switch {
	case ok:
		u = entry
	case id.Name == "" && id.Shell == "":
		// getpwuid(3) fails, so there is nobody to log in; a name or a shell in
		// the registry is what makes a rootfs without passwd usable.
		return u, &Refusal{125, "uid " + decimal(int(id.UID)) + " has no entry in the jail's /etc/passwd; add one, or give name and shell in the registry"}
	}
	if id.HasGID {
		u.GID = id.GID
	}
	if id.Name != "" {
		u.Name = id.Name
	}
	if id.Home != "" {
		u.Home = id.Home
	}
	if id.Shell != "" {
		u.Shell = id.Shell
	}
	if u.Name == "" {
		u.Name = decimal(int(u.UID))
	}
	if u.Home == "" {
		u.Home = "/"
	}
	if u.Shell == "" {
		u.Shell = "/bin/sh" // passwd(5)
	}
	if j.group, err = readSmall(j.Root, "/etc/group", j.group); err != nil && err != syscall.ENOENT {
		return u, &Refusal{125, "cannot read /etc/group of the jail: " + reason(err)}
	}
	c.Groups = append(c.Groups[:0], u.GID)
	c.Groups = passwd.Groups(c.Groups, j.group, u.Name, false, maxGroups)
	return u, nil
}

// lookup finds uid in the passwd just read. The last answer is kept while the
// file's bytes are the same, so that a login like the one before costs no memory.
func (j *Jail) lookup(uid uint32) (passwd.Entry, bool) {
	if j.lastOK && j.last.UID == uid && string(j.lastText) == string(j.passwd) {
		return j.last, true
	}
	e, ok := passwd.ByUID(j.passwd, uid)
	if ok && len(j.passwd) <= maxKept {
		j.last, j.lastOK, j.lastText = e, true, append(j.lastText[:0], j.passwd...)
	}
	return e, ok
}

// keyRule makes the request that of the key's command=, if the key the login
// authenticated with has one in the jail's authorized_keys. What the client asked
// for becomes SSH_ORIGINAL_COMMAND, as in sshd (session.c:do_exec).
func (j *Jail) keyRule(s *Slot, u *passwd.Entry) *Refusal {
	// The file is read with the rights of its owner, so that neither a home of
	// mode 0700 is in the way nor anything else of the jail's in reach.
	sys.SetFSIDs(u.UID, u.GID)
	var err error
	j.keys, err = readSmall(j.Root, u.Home+"/.ssh/authorized_keys", j.keys)
	sys.SetFSIDs(0, 0)
	switch err {
	case nil:
	case syscall.ENOENT, syscall.ENOTDIR:
		// A certificate of an authority the administrator keeps has its own command.
	default:
		return &Refusal{125, "cannot read authorized_keys, which may restrict this login: " + reason(err)}
	}
	command, has, err := authkeys.Rule(j.keys, s.Req.Auth, s.Req.Flags&wire.FlagAuthKnown != 0)
	if err != nil {
		return &Refusal{125, err.Error()}
	}
	if !has {
		return nil
	}
	if isInternalSFTP(command) {
		// As sshd has it for its own server (session.c, SUBSYSTEM_INT_SFTP_ERROR).
		if _, ok := parseSFTP(s.Req.Args); !ok {
			return &Refusal{125, "This service allows sftp connections only."}
		}
		if _, ok := parseSFTP([][]byte{[]byte("-c"), []byte(command)}); !ok {
			return &Refusal{125, "the key's command= gives internal-sftp options that are not sftp-server's"}
		}
	}
	if len(s.Req.Args) == 2 {
		s.original = s.Req.Args[1]
	}
	s.Req.Flags &^= wire.FlagLogin
	s.Req.Args = append(s.Req.Args[:0], cbytes("-c"), cbytes(command))
	return nil
}
