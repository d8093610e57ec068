package session

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/wire"
)

// rootfsSFTP are where distributions have OpenSSH's sftp-server: Debian, Red Hat,
// SUSE with Arch and Alpine, the BSDs and a plain make install, OpenWrt, Gentoo.
var rootfsSFTP = [...]string{
	"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server",
	"/usr/libexec/sftp-server", "/usr/lib/sftp-server", "/usr/lib/misc/sftp-server",
}

// otherSFTP are further names of the server that sshd_config may have: what the
// host's PATH or the host's own installation of jail would find.
var otherSFTP = [...]string{
	"sftp-server", wire.SFTPInside, "/usr/lib/jail/sftp-server", "/usr/local/lib/jail/sftp-server",
}

// inProcess are the names that mean a server without a shell around it: sshd's
// own, and jail's. That a login without a usable shell gets sftp under them is
// what sshd has them for (sshd_config(5), Subsystem).
var inProcess = [...]string{"internal-sftp", "jail:sftp"}

// sftpRequest is a request for sftp, taken apart.
type sftpRequest struct {
	program []byte // as sshd_config has it
	options []byte // what follows it, with the blanks in between
	direct  bool   // without a shell
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

// parseSFTP reports whether args, those of a shell, ask for sftp: "-c" and the
// name of a server, with nothing but a server's options behind it. sshd sends a
// subsystem's command line no other way than a command's, so it is recognised by
// what it says; a text that says anything else, or that a shell would do
// something with, is a command.
func parseSFTP(args [][]byte) (sftpRequest, bool) {
	if len(args) != 2 || string(args[0]) != "-c" || len(args[1]) == 0 || isBlank(args[1][0]) {
		return sftpRequest{}, false
	}
	text := args[1]
	word, rest := cutWord(text)
	r := sftpRequest{program: word, options: text[len(word):]}
	switch {
	case among(word, inProcess[:]):
		r.direct = true
	case !among(word, rootfsSFTP[:]) && !among(word, otherSFTP[:]):
		return sftpRequest{}, false
	}
	return r, onlyOptions(rest)
}

// isInternalSFTP is sshd's test for a forced command that is its own server
// (session.c, IS_INTERNAL_SFTP).
func isInternalSFTP(command string) bool {
	const name = "internal-sftp"
	if len(command) < len(name) || command[:len(name)] != name {
		return false
	}
	return len(command) == len(name) || isBlank(command[len(name)])
}

// onlyOptions reports whether text is options of sftp-server(8) and nothing else,
// in characters that mean nothing to a shell but ~.
func onlyOptions(text []byte) bool {
	value := false // the next word is an option's
	for {
		var word []byte
		word, text = cutWord(text)
		if len(word) == 0 {
			return !value
		}
		for _, c := range word {
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			case c == '-', c == '/', c == '.', c == '_', c == ',', c == ':', c == '=', c == '+', c == '@', c == '%', c == '~':
			default:
				return false
			}
		}
		if value {
			value = false
			continue
		}
		if len(word) < 2 || word[0] != '-' {
			return false
		}
	letters:
		for i := 1; i < len(word); i++ {
			switch word[i] {
			case 'e', 'h', 'R':
			case 'd', 'f', 'l', 'P', 'p', 'Q', 'u':
				value = i == len(word)-1
				break letters // the rest is its value
			default:
				return false
			}
		}
	}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// cutWord returns the first word of text and what comes behind it and the blanks
// before the next.
func cutWord(text []byte) (word, rest []byte) {
	for len(text) > 0 && isBlank(text[0]) {
		text = text[1:]
	}
	n := 0
	for n < len(text) && !isBlank(text[n]) {
		n++
	}
	word, rest = text[:n], text[n:]
	for len(rest) > 0 && isBlank(rest[0]) {
		rest = rest[1:]
	}
	return word, rest
}

func among(word []byte, list []string) bool {
	for _, s := range list {
		if string(word) == s {
			return true
		}
	}
	return false
}

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
