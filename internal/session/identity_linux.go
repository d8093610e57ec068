package session

import (
	"syscall"

	"jail/internal/authkeys"
	"jail/internal/login"
	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// Identify says who id is inside, from the jail's own passwd and group, and appends
// the groups to groups.
func (j *Jail) Identify(id *wire.Identity, groups []uint32) (passwd.Entry, []uint32, *Refusal) {
	if err := j.read(&j.passwd, "/etc/passwd"); err != nil && err != syscall.ENOENT {
		return passwd.Entry{}, nil, &Refusal{125, "cannot read /etc/passwd of the jail: " + reason(err)}
	}
	u, err := j.logins.User(id, j.passwd.text)
	if err != nil {
		return u, nil, &Refusal{125, err.Error()}
	}
	if err := j.read(&j.group, "/etc/group"); err != nil && err != syscall.ENOENT {
		return u, nil, &Refusal{125, "cannot read /etc/group of the jail: " + reason(err)}
	}
	return u, login.Groups(groups, &u, j.group.text), nil
}

// database is passwd or group, as they were read last.
type database struct {
	known
	text []byte
}

// read reads a database, unless it is the file that was read last and nobody has changed
// it: to look costs a login a fifth of what to read does. What is written through a mapping
// counts when the kernel says that the file has changed, which it may say late (mmap(2)).
func (j *Jail) read(d *database, path string) error {
	// Before it is read: what changes in between makes it another.
	now := j.identify(path)
	if now != (identity{}) && d.still(&now) {
		return nil
	}
	var err error
	d.known = known{}
	if d.text, err = readWhole(j.Root, path, d.text, login.MaxDatabase); err == nil {
		d.note(&now)
	}
	return err
}

// KeyRule says what the key demands by which u came, after a look into the
// authorized_keys jail-keys has looked into. Where the file has changed meanwhile, so
// that the key is not in it any more, there is no session.
func (j *Jail) KeyRule(u *passwd.Entry, auth login.Auth) (login.Rule, *Refusal) {
	j.keys = j.keys[:0]
	path := ""
	if auth.NeedsKeys() {
		home, file, err := login.KeysPath(u)
		if err != nil {
			return login.Rule{}, &Refusal{125, err.Error()}
		}
		path = home + "/" + file
		// The file is read with the rights of its owner, so that neither a home of
		// mode 0700 is in the way nor anything else of the jail's in reach.
		sys.SetFSIDs(u.UID, u.GID)
		j.keys, err = readWhole(j.Root, path, j.keys, authkeys.MaxFile)
		sys.SetFSIDs(0, 0)
		switch err {
		case nil, syscall.ENOENT, syscall.ENOTDIR: // it may be a key from elsewhere
		case syscall.EFBIG:
			return login.Rule{}, &Refusal{125, "cannot read authorized_keys, which may restrict this login: it is larger than 256 KiB"}
		default:
			return login.Rule{}, &Refusal{125, "cannot read authorized_keys, which may restrict this login: " + reason(err)}
		}
	}
	rule, err := login.RuleOf(j.Keys, j.keys, auth)
	if err == authkeys.ErrNoLine {
		return rule, &Refusal{125, "sshd let in a key that is not, or no longer, in " + clip(path) +
			" of the jail; put it there, or write keys = \"anywhere\" in the registry if sshd has keys or authorities of its own for this login"}
	}
	if err != nil {
		return rule, &Refusal{125, err.Error()}
	}
	return rule, nil
}

// clip shortens a path of the jail's to what leaves room for words about it.
func clip(path string) string {
	const most = 200
	if len(path) > most {
		return path[:most] + "..."
	}
	return path
}

// keyRule makes the request that of the key's command=, if the key the login
// authenticated with has one in the jail's authorized_keys. What the client asked
// for becomes SSH_ORIGINAL_COMMAND, as in sshd (session.c:do_exec).
func (j *Jail) keyRule(s *Slot, u *passwd.Entry) *Refusal {
	rule, refusal := j.KeyRule(u, login.Auth{Lines: s.Req.Auth, Known: s.Req.Flags&wire.FlagAuthKnown != 0})
	if refusal != nil || !rule.Forced {
		return refusal
	}
	if isInternalSFTP(rule.Command) {
		// As sshd has it for its own server (session.c, SUBSYSTEM_INT_SFTP_ERROR).
		if _, ok := parseSFTP(s.Req.Args); !ok {
			return &Refusal{125, "This service allows sftp connections only."}
		}
		if _, ok := parseSFTP([][]byte{[]byte("-c"), []byte(rule.Command)}); !ok {
			return &Refusal{125, "the key's command= gives internal-sftp options that are not sftp-server's"}
		}
	}
	if len(s.Req.Args) == 2 {
		s.original = s.Req.Args[1]
	}
	s.Req.Flags &^= wire.FlagLogin
	s.Req.Args = append(s.Req.Args[:0], cbytes("-c"), cbytes(rule.Command))
	return nil
}

// readWhole reads a file of the jail, of at most max bytes, into buf's memory. The
// path may go through symlinks, since that is how distributions have it, but only the
// jail's; a FIFO, a device, a file under lease or a larger one is an error at once
// (fcntl(2), F_SETLEASE: O_NONBLOCK makes the open fail instead of wait).
func readWhole(root int, path string, buf []byte, max int) ([]byte, error) {
	buf = buf[:0]
	var st syscall.Stat_t
	fd, err := openRegular(root, path, &st)
	if err != nil {
		return buf, err
	}
	defer sys.Close(fd)
	if st.Size > int64(max) {
		return buf, syscall.EFBIG
	}
	if int64(cap(buf)) <= st.Size {
		buf = make([]byte, 0, st.Size+512)
	}
	for len(buf) < cap(buf) {
		n, err := sys.Read(fd, buf[len(buf):cap(buf)])
		if err != nil {
			return buf[:0], err
		}
		if n == 0 && len(buf) <= max {
			return buf, nil
		}
		if n == 0 {
			break
		}
		buf = buf[:len(buf)+n]
	}
	return buf[:0], syscall.EFBIG // it grew while it was read
}
