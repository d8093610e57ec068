package session

import (
	"syscall"

	"jail/internal/environ"
	"jail/internal/passwd"
	"jail/internal/sys"
)

// terminfoDirs are where ncurses looks for the description of a terminal, in any
// distribution (terminfo(5)).
var terminfoDirs = [...]string{"/etc/terminfo/", "/lib/terminfo/", "/usr/lib/terminfo/", "/usr/share/terminfo/"}

// knownTerminal replaces a TERM the rootfs has no description of by one it has,
// without which editors and pagers refuse to work. Nothing is done where no
// description is found of any terminal, or where the environment says that they
// are elsewhere.
func (j *Jail) knownTerminal(s *Slot, u *passwd.Entry, term []byte) {
	if s.get("TERMINFO") != nil || s.get("TERMINFO_DIRS") != nil {
		return
	}
	name := ""
	if environ.TerminalName(term) {
		name = string(term)
		if j.terminfo(name) || j.ownTerminfo(u, name) {
			return
		}
	}
	for _, t := range environ.Terminals(name) {
		if j.terminfo(t) {
			s.put("TERM=", t)
			return
		}
	}
}

// terminfo reports whether the rootfs describes the terminal.
func (j *Jail) terminfo(name string) bool {
	for _, dir := range terminfoDirs {
		if j.describes(dir, name) {
			return true
		}
	}
	return false
}

// ownTerminfo is terminfo for the description a user has brought along, looked for
// with the user's rights.
func (j *Jail) ownTerminfo(u *passwd.Entry, name string) bool {
	sys.SetFSIDs(u.UID, u.GID)
	defer sys.SetFSIDs(0, 0)
	return j.describes(u.Home+"/.terminfo/", name)
}

// describes looks for a description below dir, in the directory of its first
// letter, or of that letter's code where file names have no case.
func (j *Jail) describes(dir, name string) bool {
	const hex = "0123456789abcdef"
	c := name[0]
	return j.isFile(dir+name[:1]+"/"+name) || j.isFile(dir+string([]byte{hex[c>>4], hex[c&15]})+"/"+name)
}

// isFile reports whether a path inside leads to a regular file. Nothing is opened
// for reading.
func (j *Jail) isFile(path string) bool {
	fd, err := sys.Openat2(j.Root, path, sys.OPath, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err != nil {
		return false
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	return syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG
}
