package session

import (
	"bytes"

	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// maxMotd is how much of a message is shown, in bytes.
const maxMotd = 16 << 10

// Messages of the day. motdDynamic is made by programs, where there are such; of
// the others the first there is counts (pam_motd(8)).
const motdDynamic = "/run/motd.dynamic"

var motdFiles = [...]string{"/etc/motd", "/run/motd", "/usr/lib/motd"}

// greeting returns the rootfs's message of the day and when the user last logged in, which a
// login shell on a terminal begins with, as under plain sshd and login, and nothing else does: not a
// command, not a su, not where ~/.hushlogin is (session.c:check_quietlogin). The
// session's child writes it, because the write may block. The terminal turns its line
// ends into what its modes say. Their order is that of sshd where PAM has the message (sshd.c: the
// session is opened before the terminal, with which the last login is looked up).
func (j *Jail) greeting(s *Slot, u *passwd.Entry) []byte {
	r := &s.Req
	if r.Flags&wire.FlagLogin == 0 || len(r.Args) > 0 || r.Stdio[1] != wire.StdioTTY || j.hush(u) {
		return nil
	}
	start := len(s.arena)
	j.message(s, motdDynamic, maxMotd)
	for _, path := range motdFiles {
		if j.message(s, path, maxMotd-(len(s.arena)-start)) {
			break
		}
	}
	s.arena = j.lastLogin(s.arena, s, u)
	return s.arena[start:len(s.arena):len(s.arena)]
}

// hush reports whether the user wants to see nothing. As in sshd it is enough that
// the file can be found.
func (j *Jail) hush(u *passwd.Entry) bool {
	sys.SetFSIDs(u.UID, u.GID)
	defer sys.SetFSIDs(0, 0)
	fd, err := sys.Openat2(j.Root, u.Home+"/.hushlogin", sys.OPath, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err == nil {
		sys.Close(fd)
	}
	return err == nil
}

// message adds the file at path, at most max bytes of it, to the arena and reports
// whether there is such a message. It ends with its line whether the file does or
// not, and at a NUL (pam_motd.c, session.c:display_loginmsg).
func (j *Jail) message(s *Slot, path string, max int) bool {
	if max <= 1 {
		return false
	}
	var err error
	if j.text, err = readHead(j.Root, path, j.text, max-1); err != nil {
		return false
	}
	before := len(s.arena)
	s.arena = appendMessage(s.arena, j.text)
	return len(s.arena) > before
}

// appendMessage appends a message up to its first NUL, with a line's end behind it. An
// empty one is none.
func appendMessage(dst, text []byte) []byte {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	if len(text) == 0 {
		return dst
	}
	dst = append(dst, text...)
	if text[len(text)-1] != '\n' {
		dst = append(dst, '\n')
	}
	return dst
}
