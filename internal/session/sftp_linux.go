package session

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/wire"
)

// sftpServer decides which server a request gets. It is one of the jail's files
// or the built-in, and runs with the login's rights like any command; the host's
// own is never a choice.
func (j *Jail) sftpServer(r *sftpRequest) (path string, refusal *Refusal) {
	if j.SFTP == wire.SFTPOff {
		return "", &Refusal{126, `sftp is switched off for this jail (sftp = "off" in the registry)`}
	}
	if j.SFTPServer && string(r.program) == wire.SFTPInside {
		return wire.SFTPInside, nil
	}
	if j.SFTP != wire.SFTPBuiltin {
		if among(r.program, rootfsSFTP[:]) && j.hasProgram(string(r.program)) {
			return string(r.program), nil
		}
		for _, path := range rootfsSFTP {
			if j.hasProgram(path) {
				return path, nil
			}
		}
		if j.SFTP == wire.SFTPRootfs {
			return "", &Refusal{127, `there is no sftp-server in this jail; install one inside, or set sftp = "auto" in the registry`}
		}
	}
	if !j.SFTPServer {
		return "", &Refusal{127, "the built-in sftp server was not installed on the host when this jail started (jail-init check)"}
	}
	return wire.SFTPInside, nil
}

// hasProgram reports whether path is a program in the rootfs, by links of the
// rootfs's own.
func (j *Jail) hasProgram(path string) bool {
	fd, err := sys.Openat2(j.Root, path, sys.OPath, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err != nil {
		return false
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	return syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG && st.Mode&0o111 != 0
}

// sftp makes the request that of the server it is to get: its path takes the
// place of the one sshd_config has on the host, for the user's shell to run as
// sshd has it run; or, if sshd would have run none, program is what to execute
// and s.argv its arguments. A request that is not for sftp is left as it is.
func (j *Jail) sftp(s *Slot) (program string, refusal *Refusal) {
	r, ok := parseSFTP(s.Req.Args)
	if s.isSFTP = ok; !ok {
		return "", nil
	}
	path, refusal := j.sftpServer(&r)
	if refusal != nil {
		return "", refusal
	}
	if !r.direct {
		if string(r.program) != path {
			s.Req.Args[1] = cbytes(path + string(r.options))
		}
		return "", nil
	}
	s.argv = append(s.argv[:0], s.cstr("sftp-server"))
	for word, rest := cutWord(r.options); len(word) > 0; word, rest = cutWord(rest) {
		s.argv = append(s.argv, s.cstr(string(word)))
	}
	s.argv = append(s.argv, nil)
	return path, nil
}
