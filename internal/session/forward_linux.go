package session

import (
	"strconv"
	"syscall"

	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// maxForwards bounds the sessions of a jail that have something of their own in /dev
// at the same time. The file systems the names are in have room for it.
const maxForwards = 256

// agentBacklog is how many connections to an agent wait for jail-enter.
const agentBacklog = 128

// Names in a session's own directories.
const (
	agentName     = "agent"
	authorityName = "authority"
)

// Place is a directory of ours inside: by descriptor, since a root inside may
// rename what is on the way to it, and by path, for the environment.
type Place struct {
	FD   int
	Path string
}

// Forward says what a session has of its client's: the names of its own
// directories, or its file, in the places of Jail, "" without.
type Forward struct {
	agent, x11 string
	auth       string
	uid, gid   uint32
}

// forward gives the session what its client forwards and the registry allows. A
// session goes on without what cannot be had, as it does under sshd.
func (j *Jail) forward(s *Slot, u *passwd.Entry, st *Started) {
	wantX11 := s.Req.Flags&wire.FlagX11 != 0 && j.X11.FD >= 0
	wantAuth := s.Req.Flags&wire.FlagAuthKnown != 0 && len(s.Req.Auth) > 0
	if s.Req.Flags&wire.FlagAgent == 0 && !wantX11 && !wantAuth {
		return
	}
	if j.forwards >= maxForwards {
		st.Note = "no agent, display or SSH_USER_AUTH for a session: the jail has as many as it can hold"
		return
	}
	f := &st.Forward
	f.uid, f.gid = u.UID, u.GID
	var err error
	if s.Req.Flags&wire.FlagAgent != 0 {
		if st.Agent, f.agent, err = j.listenAgent(u); err != nil {
			st.Note = "no agent for a session: " + err.Error()
		}
	}
	if wantX11 {
		number, ok := displayNumber(s.Req.Display)
		if !ok {
			st.Note = "no display for a session: its name makes no sense"
		} else if f.x11, err = j.writeAuthority(u, number, s.Req.Cookie); err != nil {
			st.Note = "no display for a session: " + err.Error()
		}
	}
	if wantAuth {
		if f.auth, err = j.writeAuth(u, s.Req.Auth); err != nil {
			st.Note = "no SSH_USER_AUTH for a session: " + err.Error()
		}
	}
	if f.agent != "" || f.x11 != "" || f.auth != "" {
		j.forwards++
	}
}

// Remove removes what f says, once.
func (j *Jail) Remove(f *Forward) {
	if f.agent == "" && f.x11 == "" && f.auth == "" {
		return
	}
	j.forwards--
	if f.auth != "" {
		_ = sys.Unlinkat(j.Auth.FD, f.auth, 0)
	}
	if f.agent != "" {
		if dir, err := openOwn(j.Agent.FD, f.agent); err == nil {
			_ = sys.Unlinkat(dir, agentName, 0)
			sys.Close(dir)
		}
		_ = sys.Unlinkat(j.Agent.FD, f.agent, sys.AtRemovedir)
	}
	if f.x11 != "" {
		// The directory is the session's and closed to everybody else. Besides
		// the file there may be what xauth(1) makes beside it; anything else
		// stays, and the file system it is in is for nothing but this.
		sys.SetFSIDs(f.uid, f.gid)
		if dir, err := openOwn(j.X11.FD, f.x11); err == nil {
			for _, end := range [...]string{"", "-c", "-l", "-n"} {
				_ = sys.Unlinkat(dir, authorityName+end, 0)
			}
			sys.Close(dir)
		}
		sys.SetFSIDs(0, 0)
		_ = sys.Unlinkat(j.X11.FD, f.x11, sys.AtRemovedir)
	}
	*f = Forward{}
}

// newDir makes a directory nobody else can write to and opens it.
func (j *Jail) newDir(place int, mode uint32) (fd int, name string, err error) {
	j.serial++
	name = strconv.FormatUint(j.serial, 10)
	if err := sys.Mkdirat(place, name, mode); err != nil {
		return -1, "", err
	}
	if fd, err = openOwn(place, name); err != nil {
		_ = sys.Unlinkat(place, name, sys.AtRemovedir)
		return -1, "", err
	}
	return fd, name, nil
}

func openOwn(place int, name string) (int, error) {
	return sys.Openat2(place, name, sys.OPath|syscall.O_DIRECTORY, sys.ResolveBeneath|sys.ResolveNoSymlinks|sys.ResolveNoXdev)
}

// listenAgent makes the socket that jail-enter is to answer with the client's
// agent. Its mode, 0600 from the first moment on, keeps other users away; the
// directory is root's, so that nothing but the socket can be in it.
//
// A root inside can exchange the directory or the socket at any time. All that
// gets him is a session without an agent, or a file of his own in /dev that
// belongs to the session's user: everything here is relative to a descriptor and
// follows no link.
func (j *Jail) listenAgent(u *passwd.Entry) (listener int, name string, err error) {
	dir, name, err := j.newDir(j.Agent.FD, 0o711)
	if err != nil {
		return -1, "", err
	}
	defer sys.Close(dir)
	listener, err = sys.Stream()
	if err == nil {
		// The mode a socket has is the mode its file gets (net/unix/af_unix.c).
		if err = syscall.Fchmod(listener, 0o600); err == nil {
			err = bindAt(listener, dir, agentName)
		}
		if err == nil {
			err = syscall.Fchownat(dir, agentName, int(u.UID), -1, sys.AtSymlinkNofollow)
		}
		if err == nil {
			err = syscall.Listen(listener, agentBacklog)
		}
		if err == nil {
			return listener, name, nil
		}
		sys.Close(listener)
		_ = sys.Unlinkat(dir, agentName, 0)
	}
	_ = sys.Unlinkat(j.Agent.FD, name, sys.AtRemovedir)
	return -1, "", err
}

// bindAt is bind(2) relative to a directory, which there is no call for. The
// working directory is this thread's and everybody's, but PID 1 has no other
// use for it, and a child has a copy.
func bindAt(socket, dir int, name string) error {
	if err := syscall.Fchdir(dir); err != nil {
		return err
	}
	err := syscall.Bind(socket, &syscall.SockaddrUnix{Name: name})
	if e := syscall.Chdir("/"); err == nil {
		err = e
	}
	return err
}

// writeAuthority makes a file for XAUTHORITY. Clients that connect to localhost
// look for the name of the host they are on (FamilyLocal, libXau), which is the
// jail's here; the other entry is for any name (FamilyWild).
func (j *Jail) writeAuthority(u *passwd.Entry, number, cookie []byte) (name string, err error) {
	dir, name, err := j.newDir(j.X11.FD, 0o700)
	if err != nil {
		return "", err
	}
	defer sys.Close(dir)
	fd, err := sys.Openat2Mode(dir, authorityName, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW, 0o600, sys.ResolveBeneath|sys.ResolveNoSymlinks)
	if err == nil {
		text := authority(nil, 256, []byte(j.Hostname), number, cookie)
		text = authority(text, 65535, nil, number, cookie)
		var n int
		if n, err = sys.Write(fd, text); err == nil && n < len(text) {
			err = syscall.ENOSPC
		}
		if err == nil {
			err = syscall.Fchown(fd, int(u.UID), int(u.GID))
		}
		sys.Close(fd)
		if err == nil {
			// Last: from here on it is the session's user who may write in it.
			err = syscall.Fchownat(j.X11.FD, name, int(u.UID), int(u.GID), sys.AtSymlinkNofollow)
		}
		if err == nil {
			return name, nil
		}
		_ = sys.Unlinkat(dir, authorityName, 0)
	}
	_ = sys.Unlinkat(j.X11.FD, name, sys.AtRemovedir)
	return "", err
}

// authority appends an entry as Xau has it (XauWriteAuth): numbers are big
// endian, texts have their length before them.
func authority(b []byte, family uint16, address, number, cookie []byte) []byte {
	b = append(b, byte(family>>8), byte(family))
	for _, text := range [...][]byte{address, number, []byte("MIT-MAGIC-COOKIE-1"), cookie} {
		b = append(append(b, byte(len(text)>>8), byte(len(text))), text...)
	}
	return b
}

// displayNumber returns N of HOST:N.SCREEN, if that is all there is: what goes
// into the environment of a session is not to surprise a program there.
func displayNumber(display []byte) ([]byte, bool) {
	colon := -1
	for i, c := range display {
		switch {
		case c == ':':
			colon = i // an IPv6 address has more of them
		case c >= '0' && c <= '9', c == '.', c == '-', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '[', c == ']':
		default:
			return nil, false
		}
	}
	rest := display[colon+1:]
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	if colon < 1 || end == 0 || end > 5 {
		return nil, false
	}
	number := rest[:end]
	if end < len(rest) && rest[end] != '.' {
		return nil, false
	}
	for _, c := range rest[min(end+1, len(rest)):] {
		if c < '0' || c > '9' {
			return nil, false
		}
	}
	return number, true
}
