package session

import (
	"jail/internal/environ"
	"jail/internal/passwd"
	"jail/internal/wire"
)

// environment builds s.envp in the order sshd has, the later winning
// (session.c:do_setup_env): what the client sent, who it is, the rootfs's own
// /etc/environment and locale, which sshd gets from PAM, the session's terminal
// and connection, and last the registry's.
func (j *Jail) environment(s *Slot, u *passwd.Entry, ttyName string, f *Forward) {
	s.env = s.env[:0]
	for _, e := range s.Req.Env {
		switch name := environ.Name(e); {
		case !environ.Enters(e, j.EnvAccept):
		case string(name) == environ.MotdShown, isConnection(name):
		case string(name) == "TERM" && ttyName == "":
		default:
			s.set(e)
		}
	}
	j.knownLocales(s)
	term := s.get("TERM")
	s.put("USER=", u.Name)
	s.put("LOGNAME=", u.Name)
	s.put("HOME=", u.Home)
	if u.UID == 0 {
		s.put(superPath, "")
	} else {
		s.put(defaultPath, "")
	}
	s.put("SHELL=", u.Shell)
	if j.tz != "" && s.get("TZ") == nil {
		s.put("TZ=", j.tz)
	}
	j.ownEnvironment(s)
	for _, e := range s.Req.Env {
		name := environ.Name(e)
		if isConnection(name) || s.Req.Flags&wire.FlagOriginal != 0 && string(name) == "SSH_ORIGINAL_COMMAND" {
			s.set(e)
		}
	}
	if s.original != nil {
		s.put("SSH_ORIGINAL_COMMAND=", string(s.original))
	}
	if f.auth != "" {
		s.put("SSH_USER_AUTH=", j.Auth.Path+"/"+f.auth)
	}
	if ttyName != "" {
		s.put("SSH_TTY=", ttyName)
	}
	if f.agent != "" {
		s.put("SSH_AUTH_SOCK=", j.Agent.Path+"/"+f.agent+"/"+agentName)
	}
	if f.x11 != "" {
		s.put("DISPLAY=", string(s.Req.Display))
		s.put("XAUTHORITY=", j.X11.Path+"/"+f.x11+"/"+authorityName)
	}
	for _, e := range j.Env {
		s.put(e, "")
	}
	// Only the client's word is doubted.
	if now := s.get("TERM"); len(term) > 0 && len(now) > 0 && &now[0] == &term[0] {
		j.knownTerminal(s, u, term)
	}
	s.envp = s.envp[:0]
	for _, e := range s.env {
		s.envp = append(s.envp, cptr(e))
	}
	s.envp = append(s.envp, nil)
}

// isConnection reports whether a variable says where the client is. sshd sets
// these last, so that nothing in the rootfs can say otherwise.
func isConnection(name []byte) bool {
	return string(name) == "SSH_CONNECTION" || string(name) == "SSH_CLIENT"
}

// Files of the rootfs with variables for every session. Debian's PAM reads the
// first two at every login, and what they say wins (pam_env(8)). Other
// distributions leave locale.conf(5) to the login shell's profile, which goes by
// it where the client has sent no locale; here it serves all sessions like that.
const (
	environmentFile   = "/etc/environment"
	defaultLocaleFile = "/etc/default/locale"
	localeConf        = "/etc/locale.conf"
)

const maxEnvFile = 64 << 10

// ownFiles is what these files said when they were last read, and by what it is
// known that they say it still: a login like the one before costs two stat(2).
type ownFiles struct {
	environment, defaultLocale, localeConf known
	pam, locale                            environ.Files
}

// ownEnvironment adds the rootfs's own variables. A file that cannot be read, for
// whatever reason, counts as empty, as it does for PAM.
func (j *Jail) ownEnvironment(s *Slot) {
	o := &j.own
	environment, defaultLocale := j.identify(environmentFile), j.identify(defaultLocaleFile)
	if !o.environment.still(&environment) || !o.defaultLocale.still(&defaultLocale) {
		o.pam.Reset()
		j.readEnvironment(&o.pam, environmentFile, &environment)
		j.readEnvironment(&o.pam, defaultLocaleFile, &defaultLocale)
		o.environment.note(&environment)
		o.defaultLocale.note(&defaultLocale)
	}
	for _, e := range o.pam.Entries {
		if !connectionName(e[:nameLen(e)]) {
			s.keep(e)
		}
	}
	if defaultLocale != (identity{}) || s.get("LANG") != nil || s.get("LC_ALL") != nil {
		return
	}
	if conf := j.identify(localeConf); !o.localeConf.still(&conf) {
		o.locale.Reset()
		j.readEnvironment(&o.locale, localeConf, &conf)
		o.localeConf.note(&conf)
	}
	for _, e := range o.locale.Entries {
		if name := e[:nameLen(e)]; (environ.IsLocale(name) || string(name) == "LANGUAGE") && s.get(string(name)) == nil {
			s.keep(e)
		}
	}
}

// readEnvironment reads one file, found as id.
func (j *Jail) readEnvironment(f *environ.Files, path string, id *identity) {
	if *id == (identity{}) {
		return
	}
	var err error
	if j.text, err = readUpTo(j.Root, path, j.text, maxEnvFile); err == nil {
		f.Read(j.text)
	}
}

// connectionName reports whether name is among those that sshd sets after PAM, or
// does not take from it (session.c:copy_environment_denylist).
func connectionName(name []byte) bool {
	for _, own := range [...]string{"SSH_CONNECTION", "SSH_AUTH_INFO"} {
		if len(name) >= len(own) && string(name[:len(own)]) == own {
			return true
		}
	}
	switch string(name) {
	case "SSH_CLIENT", "SSH_TTY", "SSH_ORIGINAL_COMMAND":
		return true
	}
	return false
}

// nameLen is the length of an entry's name.
func nameLen(e []byte) int {
	for i, c := range e {
		if c == '=' {
			return i
		}
	}
	return len(e)
}

// set gives a variable the value entry has, NAME=VALUE with a NUL behind it.
func (s *Slot) set(entry []byte) {
	n := nameLen(entry)
	for i, e := range s.env {
		if len(e) > n && e[n] == '=' && string(e[:n]) == string(entry[:n]) {
			s.env[i] = entry
			return
		}
	}
	s.env = append(s.env, entry)
}

// keep is set of an entry whose memory may be used again before the session's child
// has executed.
func (s *Slot) keep(entry []byte) {
	start := len(s.arena)
	s.arena = append(append(s.arena, entry...), 0)
	s.set(s.arena[start : len(s.arena)-1])
}

// put is set of an entry in two parts.
func (s *Slot) put(name, value string) {
	start := len(s.arena)
	s.arena = append(append(append(s.arena, name...), value...), 0)
	s.set(s.arena[start : len(s.arena)-1])
}

// get returns the value of a variable, nil if it is not set.
func (s *Slot) get(name string) []byte {
	for _, e := range s.env {
		if len(e) > len(name) && e[len(name)] == '=' && string(e[:len(name)]) == name {
			return e[len(name)+1:]
		}
	}
	return nil
}
