package audit

import (
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/wire"
)

// ErrNotInstalled is the answer where there is no sshd.
var ErrNotInstalled = errors.New("sshd is not installed")

// settings are what sshd does for one login, as "sshd -T -C user=" prints it:
// one option per line, an option of several values repeated. Their names are
// lower-case here; OpenSSH 10.6 prints them as sshd_config(5) has them, earlier
// ones in lower case.
type settings map[string][]string

func parseSettings(text string) settings {
	s := settings{}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\r"), " ")
		if key = strings.ToLower(key); key != "" {
			s[key] = append(s[key], value)
		}
	}
	return s
}

// get returns an option's value, "" if this sshd does not have it.
func (s settings) get(key string) string {
	if v := s[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// is reports whether an option has a value. One this sshd does not have has
// whatever value is asked for if that is "no" or "none".
func (s settings) is(key, value string) bool {
	v := s.get(key)
	return v == value || v == "" && (value == "no" || value == "none")
}

// forced is what a ForceCommand comes to.
type forced int

const (
	forcedNone forced = iota
	forcedJail        // jail-enter --forced
	forcedSFTP        // sshd's own sftp server
	forcedElse
)

func (s settings) forced() forced {
	fc := s.get("forcecommand")
	switch {
	case firstWord(fc) == "" || fc == "none":
		return forcedNone
	case isInternalSFTP(fc):
		return forcedSFTP
	}
	// As jail-enter reads it: nothing besides its own two options, and nothing
	// a shell would take for more than a word.
	w := strings.Fields(strings.TrimPrefix(fc, "exec "))
	if len(w) == 0 || !path.IsAbs(w[0]) || path.Base(w[0]) != "jail-enter" || !plainWord(w[0]) {
		return forcedElse
	}
	seen := false
	for w = w[1:]; len(w) > 0; w = w[1:] {
		switch {
		case w[0] == "--forced":
			seen = true
		case w[0] == "--runtime-dir" && len(w) > 1 && plainWord(w[1]):
			w = w[1:]
		default:
			return forcedElse
		}
	}
	if seen {
		return forcedJail
	}
	return forcedElse
}

func plainWord(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+", r)
	})
}

// forcedProgram is the path of the ForceCommand's program.
func (s settings) forcedProgram() string {
	return firstWord(strings.TrimPrefix(s.get("forcecommand"), "exec "))
}

// firstWord is the program of a command line.
func firstWord(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return ""
	}
	return f[0]
}

// isInternalSFTP is sshd's own test (session.c:IS_INTERNAL_SFTP).
func isInternalSFTP(command string) bool {
	rest, ok := strings.CutPrefix(command, "internal-sftp")
	return ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t')
}

// internalSFTP reports whether the sftp subsystem is sshd's own server.
func (s settings) internalSFTP() bool {
	for _, sub := range s["subsystem"] {
		_, command, _ := strings.Cut(sub, " ")
		if isInternalSFTP(strings.TrimLeft(command, " \t")) {
			return true
		}
	}
	return false
}

// inHome reports whether one of the files of an option lies in the home
// directory: it is relative, or says so with %h.
func (s settings) inHome(key string) bool {
	for _, f := range strings.Fields(s.get(key)) {
		if f != "none" && (!path.IsAbs(f) || strings.HasPrefix(f, "%h")) {
			return true
		}
	}
	return false
}

func (s settings) keysInHome() bool { return s.inHome("authorizedkeysfile") }

func (s settings) keysProgram() string {
	p := firstWord(s.get("authorizedkeyscommand"))
	if p == "none" {
		return ""
	}
	return p
}

// onlyJailKeys reports whether no key is accepted but from jail-keys, which
// lets no option through that leads to sshd's own sftp server.
func (s settings) onlyJailKeys() bool {
	p := s.keysProgram()
	return s.is("authorizedkeysfile", "none") && s.is("trustedusercakeys", "none") && (p == "" || path.Base(p) == "jail-keys")
}

// withoutKey reports whether a login can succeed by one of the methods alone.
func (s settings) withoutKey(method string) bool {
	lists := strings.Fields(s.get("authenticationmethods"))
	if len(lists) == 0 {
		return true
	}
	for _, l := range lists {
		methods := strings.Split(l, ",")
		if l == "any" || !slices.ContainsFunc(methods, func(m string) bool { return strings.HasPrefix(m, "publickey") }) &&
			slices.ContainsFunc(methods, func(m string) bool { return strings.HasPrefix(m, method) }) {
			return true
		}
	}
	return false
}

// loadSSH asks sshd about every login, once about those it cannot tell apart.
func (a *auditor) loadSSH() {
	if len(a.logins) == 0 {
		return
	}
	a.loadMatches()
	type answer struct {
		of   *login
		said settings
		err  error
	}
	// Without classes each login is one.
	class := func(l *login) string { return l.Name }
	if c, err := a.classesOf(a.logins); err == nil {
		class = c.of
	}
	answers := map[string]*answer{}
	var asked []*answer
	of := make([]*answer, len(a.logins))
	for i, l := range a.logins {
		key := class(l)
		if answers[key] == nil {
			answers[key] = &answer{of: l}
			asked = append(asked, answers[key])
		}
		of[i] = answers[key]
	}
	var next, given atomic.Int64
	var wait sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(asked)) {
		wait.Go(func() {
			for given.Load() == 0 {
				i := int(next.Add(1)) - 1
				if i >= len(asked) {
					return
				}
				text, err := a.opt.Effective(asked[i].of.Name)
				if asked[i].err = err; err == nil {
					asked[i].said = parseSettings(text)
				} else if errors.Is(err, ErrNotInstalled) || errors.Is(err, errSlow) {
					given.Store(1) // it will not answer about others either
				}
			}
		})
	}
	wait.Wait()
	const where = "sshd"
	for _, x := range asked {
		switch {
		case errors.Is(x.err, ErrNotInstalled):
			a.sshdMissing = true
			a.add(nil, Note, "sshd-missing", where, "is not installed, so what it opens was not looked at", "apt install openssh-server")
			return
		case errors.Is(x.err, errSlow):
			a.add(nil, Warning, "sshd-silent", where, "does not answer, so what it opens was not looked at", "sshd -T -C "+connection("NAME"))
			return
		}
	}
	for i, l := range a.logins {
		if err := of[i].err; err != nil {
			reason, _, _ := strings.Cut(err.Error(), "\n")
			a.add(l, Warning, "sshd-silent", where, "does not say what it would do, so what it opens was not looked at: "+reason, cure(reason))
			continue
		}
		l.ssh = of[i].said
	}
}

// cure is what to do about an sshd that does not answer.
func cure(reason string) string {
	switch {
	case strings.Contains(reason, "Missing privilege separation directory"):
		dir := reason[strings.LastIndexByte(reason, ' ')+1:]
		return "mkdir -m 0755 " + dir
	case strings.Contains(reason, "no hostkeys available"):
		return "ssh-keygen -A"
	}
	return "sshd -t"
}

// connection is who sshd is to imagine. All that a Match can ask for must be
// there, or sshd refuses to answer.
func connection(user string) string {
	return "user=" + user + ",host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"
}

// sshRule judges one option by itself.
type sshRule struct {
	option string // as sshd_config has it
	fix    string // the line to write
	// judge returns what the value opens, "" if nothing.
	judge func(a *auditor, l *login, value string) (Severity, string)
}

// unless makes a judge that has the same to say of every value but one.
func unless(good string, sev Severity, what string) func(*auditor, *login, string) (Severity, string) {
	return func(_ *auditor, l *login, value string) (Severity, string) {
		if value == good {
			return 0, ""
		}
		return sev, what
	}
}

func sshRules() []sshRule {
	return []sshRule{
		{"AllowStreamLocalForwarding", "AllowStreamLocalForwarding no", func(_ *auditor, l *login, v string) (Severity, string) {
			switch {
			case v == "no" || l.ssh.is("disableforwarding", "yes"):
				return 0, ""
			case v == "remote":
				return Error, "ssh -R makes sockets on the host, wherever the login's uid may write, without entering the jail"
			}
			return Error, "ssh -L connects to any unix socket of the host the login's uid may use (D-Bus and so systemd, databases, docker), without entering the jail"
		}},
		{"PermitTunnel", "PermitTunnel no", unless("no", Error, "ssh -w opens a network device of the host without entering the jail")},
		{"PermitUserEnvironment", "PermitUserEnvironment no", unless("no", Error,
			"~/.ssh/environment and keys set variables of host programs, LD_PRELOAD and BASH_ENV where the value allows them (global: write it before the first Match)")},
		{"PermitUserRC", "PermitUserRC no", func(_ *auditor, l *login, v string) (Severity, string) {
			switch {
			case v != "yes" || l.ssh.forced() != forcedNone:
				return 0, "" // session.c:do_rc_files skips it under ForceCommand
			case l.home.exposed() && l.kind != shellJail:
				return Warning, "~/.ssh/rc, which a tenant can write, runs on the host at every login"
			case l.home.exposed():
				return Warning, "~/.ssh/rc, which a tenant can write, runs at every login before the session, in the jail as long as the shell is jail-enter"
			}
			return Note, "~/.ssh/rc runs at every login if somebody puts it there"
		}},
		{"GatewayPorts", "GatewayPorts no", func(_ *auditor, l *login, v string) (Severity, string) {
			if tcp := l.ssh.get("allowtcpforwarding"); v == "no" || tcp == "no" || tcp == "local" || l.ssh.is("disableforwarding", "yes") || l.jail.Network.OwnPorts {
				return 0, "" // a login binds no ports but its jail's
			}
			return Warning, "ssh -R listens on every address of the host, past a firewall that trusts it"
		}},
		{"X11Forwarding", "X11Forwarding no", func(a *auditor, l *login, v string) (Severity, string) {
			if l.jail.X11 || !a.forwardsX11(l) {
				return 0, ""
			}
			return Warning, "xauth runs on the host as the login and writes into its home directory, and every jail reaches the forwarded display"
		}},
		{"AllowTcpForwarding", "AllowTcpForwarding no", func(_ *auditor, l *login, v string) (Severity, string) {
			if v == "no" || l.ssh.is("disableforwarding", "yes") || l.jail.Network.OwnLoopback {
				return 0, "" // they are its jail's loopback and ports
			}
			return Note, "ssh -L, -R and -D connect from sshd, not from the jail: to services on 127.0.0.1, outside the jail's limits and even when it is stopped"
		}},
		{"AllowAgentForwarding", "AllowAgentForwarding no", func(a *auditor, l *login, v string) (Severity, string) {
			if v == "no" || l.ssh.is("disableforwarding", "yes") && a.disableForwardingCovers() {
				return 0, ""
			}
			return Note, "while a session lasts, its user inside and the jail's root can use a forwarded agent, and so can every process of the login's uid on the host"
		}},
		{"DisableForwarding", "X11Forwarding no", func(a *auditor, l *login, v string) (Severity, string) {
			if v != "yes" || a.disableForwardingCovers() || l.ssh.is("x11forwarding", "no") && l.ssh.is("allowagentforwarding", "no") {
				return 0, ""
			}
			return Note, "this sshd (before 10.0) forwards X11 and agents in spite of it, unless the distribution has mended it (CVE-2025-32728); write AllowAgentForwarding no as well"
		}},
		{"ChrootDirectory", "ChrootDirectory none", unless("none", Error,
			"sshd looks for jail-enter in there, so no login works or one of a tenant's making is run, with the host's namespaces")},
		{"HostbasedAuthentication", "HostbasedAuthentication no", unless("no", Warning,
			"another host's word is enough to enter, past the jail's authorized_keys, by ~/.shosts too unless IgnoreRhosts is yes")},
		{"GSSAPIAuthentication", "GSSAPIAuthentication no", unless("no", Warning,
			"Kerberos tickets enter, past the jail's authorized_keys, and ~/.k5login says whose")},
		{"KerberosAuthentication", "KerberosAuthentication no", unless("no", Warning, "Kerberos passwords enter, past the jail's authorized_keys")},
		{"TrustedUserCAKeys", "TrustedUserCAKeys none", func(_ *auditor, l *login, v string) (Severity, string) {
			switch {
			case v == "none" || v == "":
				return 0, ""
			case l.ssh.forced() == forcedNone:
				return Warning, "certificates enter past the jail's authorized_keys, and one with force-command=internal-sftp gets the host's files"
			case l.insideOnly():
				return Warning, `certificates of this authority are refused by the jail, unless a line inside names it; with keys = "anywhere" in the registry they enter`
			}
			return Warning, "certificates of this authority enter past the jail's authorized_keys"
		}},
		{"AuthorizedPrincipalsFile", "AuthorizedPrincipalsFile none", func(_ *auditor, l *login, v string) (Severity, string) {
			switch {
			case v == "none" || v == "":
				return 0, ""
			case l.ssh.is("trustedusercakeys", "none"):
				return Note, "has no use without TrustedUserCAKeys, and with it says whose certificates enter"
			case l.ssh.inHome("authorizedprincipalsfile") && l.home.exposed():
				return Warning, "a tenant says there whose certificates enter"
			}
			return Warning, "it says whose certificates enter past the jail's authorized_keys"
		}},
		{"StrictModes", "StrictModes yes", func(_ *auditor, l *login, v string) (Severity, string) {
			if v != "no" || !l.ssh.keysInHome() {
				return 0, ""
			}
			return Warning, "authorized_keys are believed whoever can write them (global: write it before the first Match)"
		}},
		{"ExposeAuthInfo", "ExposeAuthInfo yes", func(_ *auditor, l *login, v string) (Severity, string) {
			if v != "no" || l.ssh.forced() == forcedNone {
				return 0, ""
			}
			if l.jail.Keys == wire.KeysAnywhere {
				return Error, `jail-enter is not told with which key somebody came, so with keys = "anywhere" every login is refused`
			}
			return Note, "jail-enter is not told with which key somebody came, so logins are refused as soon as a key inside has a command= or an authority is named there"
		}},
		{"MaxSessions", "MaxSessions 10", func(_ *auditor, l *login, v string) (Severity, string) {
			if n, err := strconv.Atoi(v); err != nil || n <= 10 {
				return 0, ""
			}
			return Note, "one connection may open " + v + " sessions; a limit for all connections is limits.pids of the jail"
		}},
	}
}

func (a *auditor) checkSSH(l *login) {
	if l.ssh == nil || a.checkBlock(l) {
		return
	}
	for _, r := range sshRules() {
		key := strings.ToLower(r.option)
		v := l.ssh.get(key)
		if v == "" {
			continue // this sshd does not have it
		}
		if sev, what := r.judge(a, l, v); what != "" {
			a.add(l, sev, "sshd-"+key, "sshd_config, "+r.option+" "+v, what, r.fix)
		}
	}
	a.checkForceCommand(l)
	a.checkKeys(l)
	a.checkMethods(l)
	a.checkEnv(l)
	a.checkX11(l)
	a.checkAgent(l)
}

// checkAgent looks at where sshd makes the socket of a forwarded agent. Until
// OpenSSH 10.0 that is a directory of its own in /tmp, where it always can; since
// 10.1 the home directory's .ssh/agent (misc-agent.c:agent_listener), unless
// AgentSocketPath, since 10.6, says another place.
func (a *auditor) checkAgent(l *login) {
	place := l.ssh.get("agentsocketpath")
	if place == "" && a.sshdIs(10, 1) {
		place = "user:.ssh/agent"
	}
	kind, dir, _ := strings.Cut(strings.NewReplacer("%%", "%", "%h", l.Home, "%U", decimal(l.UID), "%u", l.Name).Replace(place), ":")
	if dir == "" || l.ssh.is("allowagentforwarding", "no") || l.ssh.is("disableforwarding", "yes") && a.disableForwardingCovers() {
		return
	}
	if !path.IsAbs(dir) {
		dir = path.Join(l.Home, dir)
	}
	t := walk(a.files, dir)
	// What there is not of a directory of the login's, sshd makes, as the login.
	if t.err == nil && t.end().isDir() && l.writes(t.end()) || t.missing() && kind == "user" && l.writes(t.end()) {
		return
	}
	fix := "install -d -m 0700 -o " + LoginName + " " + dir
	if kind == "shared" || contains(jail.EmptyHome, dir) {
		fix = "install -d -m 1777 " + dir
	}
	a.add(l, Note, "sshd-agent-socket", "sshd_config, AllowAgentForwarding yes",
		"sshd makes the socket of a forwarded agent in "+dir+", where it can make none as the login, so ssh -A lends nothing", fix)
}

// writes reports whether a login may make files in a directory.
func (l *login) writes(dir step) bool {
	const wx = 0o3
	switch {
	case dir.uid == l.UID:
		return dir.mode>>6&wx == wx
	case dir.gid == l.GID || slices.ContainsFunc(l.groups, func(g group) bool { return g.gid == dir.gid }):
		return dir.mode>>3&wx == wx
	}
	return dir.mode&wx == wx
}

// forwardsX11 reports whether sshd forwards displays for a login.
func (a *auditor) forwardsX11(l *login) bool {
	return !l.ssh.is("x11forwarding", "no") && !(l.ssh.is("disableforwarding", "yes") && a.disableForwardingCovers())
}

// x11Env is the variable that makes xauth write where a login's jail-enter looks.
func (a *auditor) x11Env(l *login) string {
	return "XAUTHORITY=" + fdsock.X11Path(a.opt.RuntimeDir, l.in.HostUID)
}

// checkX11 says what sshd lacks for a jail that is to have X11.
func (a *auditor) checkX11(l *login) {
	if !l.jail.X11 {
		return
	}
	if !a.forwardsX11(l) {
		where := "sshd_config, X11Forwarding no"
		fix := "X11Forwarding yes"
		if l.ssh.is("x11forwarding", "yes") {
			where, fix = "sshd_config, DisableForwarding yes", "DisableForwarding no"
		}
		a.add(l, Note, "sshd-x11", where, "the registry allows X11 in the jail, but sshd does not forward it", fix)
	}
	if !slices.Contains(l.ssh["setenv"], a.x11Env(l)) {
		a.add(l, Note, "sshd-x11", "sshd_config, SetEnv", "xauth writes the cookie of a forwarded display into the home directory on the host, or nowhere if that is not the login's own",
			"SetEnv "+a.x11Env(l))
	}
	if xauth := l.ssh.get("xauthlocation"); xauth != "" && xauth != "none" {
		if _, err := a.files.lstat(xauth); err != nil {
			a.add(l, Note, "sshd-x11", "sshd_config, XAuthLocation "+xauth, "is not installed, so sshd forwards no display", "apt install xauth")
		}
	}
}

func (a *auditor) forceLine() string {
	return "ForceCommand exec " + a.opt.JailEnter[0] + " --forced"
}

func (a *auditor) checkForceCommand(l *login) {
	fc := l.ssh.get("forcecommand")
	where := "sshd_config, ForceCommand " + fc
	switch l.ssh.forced() {
	case forcedSFTP:
		a.add(l, Error, "sshd-forcecommand", where, "sshd's own sftp server gives out the host's files, outside the jail", a.forceLine())
	case forcedElse:
		if path.Base(l.ssh.forcedProgram()) == "jail-enter" {
			a.add(l, Error, "sshd-forcecommand", where, "is not what jail-enter expects there (an absolute path and --forced), so commands, sftp and scp do not work", a.forceLine())
		} else if l.kind == shellJail {
			a.add(l, Note, "sshd-forcecommand", where, "runs in the jail instead of whatever a client asks for", a.forceLine())
		} else {
			a.add(l, Error, "sshd-forcecommand", where, "runs on the host, outside the jail", a.forceLine())
		}
	case forcedJail:
		exact := l.ssh.forcedProgram() + " --forced"
		switch {
		case l.kind == shellJail && fc != exact && fc != "exec "+exact:
			a.add(l, Error, "sshd-forcecommand", where, "is not recognised by jail-enter as the shell, which takes no other argument there; it would look for this program in the jail", "ForceCommand exec "+exact)
		case l.kind != shellJail && !strings.HasPrefix(fc, "exec "):
			a.add(l, Note, "sshd-forcecommand", where, "without exec some shells stay around for every session and turn its death by a signal into a status", "ForceCommand exec "+fc)
		}
	case forcedNone:
		if l.kind != shellJail {
			return // a shell on the host, which checkShell reports
		}
		where = "sshd_config, ForceCommand none"
		switch {
		case l.ssh.internalSFTP():
			a.add(l, Error, "sshd-sftp", where, "the sftp subsystem is sshd's own (internal-sftp): it never runs the login shell and gives out the host's files", a.forceLine())
		case !l.ssh.onlyJailKeys():
			a.add(l, Warning, "sshd-sftp", where, `a key with command="internal-sftp", or a certificate with that force-command, gets the host's files through sshd's own sftp server`, a.forceLine())
		default:
			a.add(l, Note, "sshd-sftp", where, "only the external sftp subsystem and keys that come from nowhere but jail-keys keep sshd's own sftp server from giving out the host's files", a.forceLine())
		}
	}
}

// insideOnly reports whether the jail refuses a key that is not in authorized_keys
// inside, whatever sshd says.
func (l *login) insideOnly() bool {
	return l.ssh.forced() == forcedJail && l.jail.Keys == wire.KeysInside
}

// checkKeys looks at where sshd gets keys from.
func (a *auditor) checkKeys(l *login) {
	if f := l.ssh.get("authorizedkeysfile"); f != "none" && f != "" {
		where := "sshd_config, AuthorizedKeysFile " + f
		const fix = "AuthorizedKeysFile none"
		switch {
		case l.ssh.keysInHome() && l.home.exposed() && l.ssh.forced() == forcedNone:
			a.add(l, Error, "sshd-keys-file", where, `sshd reads keys a tenant can write, whose command="internal-sftp" or cert-authority gets the host's files`, fix)
		case l.ssh.keysInHome() && l.home.exposed():
			a.add(l, Warning, "sshd-keys-file", where, "sshd reads keys a tenant can write, on the host's file system and without jail-keys' look at them", fix)
		case l.ssh.keysInHome():
			a.add(l, Warning, "sshd-keys-file", where, "a key that gets into the host's home directory enters past the jail's authorized_keys", fix)
		case l.insideOnly():
			a.add(l, Warning, "sshd-keys-file", where, `keys in there are refused by the jail, unless they are inside as well; with keys = "anywhere" in the registry they enter`, fix)
		default:
			a.add(l, Note, "sshd-keys-file", where, "keys in there enter past the jail's authorized_keys", fix)
		}
	}
	cmd, user := l.ssh.get("authorizedkeyscommand"), l.ssh.get("authorizedkeyscommanduser")
	if p := l.ssh.keysProgram(); p == "" {
		if l.ssh.is("authorizedkeysfile", "none") {
			a.add(l, Note, "sshd-keys-command", "sshd_config, AuthorizedKeysCommand none", "no key enters at all", a.keysLine())
		}
		return
	} else if path.Base(p) != "jail-keys" && l.insideOnly() {
		a.add(l, Error, "sshd-keys-command", "sshd_config, AuthorizedKeysCommand "+cmd, `another program than jail-keys says which keys enter, and the jail refuses those that are not inside; with keys = "anywhere" in the registry they enter`, a.keysLine())
		return
	} else if path.Base(p) != "jail-keys" {
		a.add(l, Note, "sshd-keys-command", "sshd_config, AuthorizedKeysCommand "+cmd, "another program than jail-keys says which keys enter, and was not looked at", a.keysLine())
		return
	}
	if args := strings.Fields(cmd)[1:]; len(args) > 0 && !slices.Contains(args, "%u") {
		a.add(l, Error, "sshd-keys-command", "sshd_config, AuthorizedKeysCommand "+cmd, "jail-keys is not told the login (%u), so no key is found", a.keysLine())
	}
	if slices.Contains(strings.Fields(cmd), "--forced") && l.ssh.forced() != forcedJail {
		a.add(l, Error, "sshd-keys-command", "sshd_config, AuthorizedKeysCommand "+cmd, `without the ForceCommand that --forced speaks of, a certificate with the force-command "internal-sftp" gets the host's files`, a.forceLine())
	}
	where := "sshd_config, AuthorizedKeysCommandUser " + user
	const fix = "AuthorizedKeysCommandUser root"
	switch {
	case user == "root":
	case user == "%u" && !l.jail.Userns.Enabled:
		a.add(l, Note, "sshd-keys-user", where, "jail-keys finds only what the login itself may read on the host, and nothing below a directory closed to it", fix)
	default:
		a.add(l, Warning, "sshd-keys-user", where, "jail-keys does not become the keys' owner, so it does not find keys that only he may read", fix)
	}
}

func (a *auditor) keysLine() string {
	return "AuthorizedKeysCommand " + a.opt.JailKeys + " -- %u %t %k"
}

// checkMethods looks at ways to log in without a key.
func (a *auditor) checkMethods(l *login) {
	const fix = "AuthenticationMethods publickey in their Match block" // others may have nothing but a password
	kbd := "kbdinteractiveauthentication"
	if l.ssh.get(kbd) == "" {
		kbd = "challengeresponseauthentication" // before OpenSSH 8.7
	}
	for _, m := range []struct{ key, option, method string }{
		{"passwordauthentication", "PasswordAuthentication", "password"},
		{kbd, "KbdInteractiveAuthentication", "keyboard-interactive"},
	} {
		if l.ssh.get(m.key) != "yes" || !l.ssh.withoutKey(m.method) {
			continue
		}
		where := "sshd_config, " + m.option + " yes"
		switch {
		case l.password == passwordEmpty && l.ssh.is("permitemptypasswords", "yes"):
			a.add(l, Error, "password-empty", where, "the account has an empty password and PermitEmptyPasswords is yes, so everybody enters", "passwd -l "+LoginName)
		case l.password == passwordLocked && l.ssh.is("usepam", "no"):
			// nothing to try
		case l.password == passwordLocked:
			a.add(l, Note, "sshd-password", where, "the account's password is locked, so only a PAM module that asks elsewhere lets somebody in without a key", fix)
		default:
			a.add(l, Warning, "sshd-password", where, "the account's password on the host enters, past the jail's authorized_keys and all their restrictions, and may be guessed", fix)
		}
	}
}

// dangerous are variables that change what a host program does before it does
// anything else; none of them belongs into an AcceptEnv.
var dangerous = []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "ENV", "BASH_FUNC_x%%", "SHELLOPTS", "IFS", "PATH", "ZDOTDIR",
	"GCONV_PATH", "LOCPATH", "NLSPATH", "PERL5OPT", "PYTHONPATH", "GODEBUG", "GOTRACEBACK", "HOME", "SHELL", "SSH_ORIGINAL_COMMAND", "SSH_USER_AUTH", "XAUTHORITY"}

// checkEnv looks at variables from outside.
func (a *auditor) checkEnv(l *login) {
	const fix = "AcceptEnv LANG LC_* COLORTERM GIT_PROTOCOL"
	for _, pattern := range l.ssh["acceptenv"] {
		var hits []string
		for _, name := range dangerous {
			if matchPattern(pattern, name) {
				hits = append(hits, name)
			}
		}
		if len(hits) > 0 {
			a.add(l, Error, "sshd-acceptenv", "sshd_config, AcceptEnv "+pattern, "a client sets "+list(hits)+" for what runs on the host before the session is in the jail", fix)
		}
	}
	var shut []string
	for _, name := range l.jail.EnvAccept {
		// A * of ours stands for itself: sshd's pattern has to have one there.
		if !slices.ContainsFunc(l.ssh["acceptenv"], func(pattern string) bool { return matchPattern(pattern, name) }) {
			shut = append(shut, name)
		}
	}
	if len(shut) > 0 {
		a.add(l, Note, "sshd-acceptenv", "sshd_config, AcceptEnv", "does not let in what env_accept of jail "+l.jail.Name+" lists, "+list(shut)+", so no client's reaches the jail",
			"AcceptEnv "+strings.Join(shut, " "))
	}
	for _, set := range l.ssh["setenv"] {
		name, _, _ := strings.Cut(set, "=")
		if slices.Contains(dangerous, name) && !(l.jail.X11 && set == a.x11Env(l)) {
			a.add(l, Warning, "sshd-setenv", "sshd_config, SetEnv "+name, "is set for what runs on the host before the session is in the jail", "remove "+name+" from SetEnv")
		}
	}
}

// matchPattern is sshd's match.c:match_pattern: * is any text, ? any character.
func matchPattern(pattern, s string) bool {
	for pattern != "" {
		switch {
		case pattern[0] == '*':
			for i := 0; i <= len(s); i++ {
				if matchPattern(pattern[1:], s[i:]) {
					return true
				}
			}
			return false
		case s == "" || pattern[0] != '?' && pattern[0] != s[0]:
			return false
		}
		pattern, s = pattern[1:], s[1:]
	}
	return s == ""
}

// disableForwardingCovers reports whether DisableForwarding also stops X11 and
// agents: since OpenSSH 10.0 (CVE-2025-32728).
func (a *auditor) disableForwardingCovers() bool { return a.sshdIs(10, 0) }

// sshdIs reports whether sshd says that it is that version or a later one.
func (a *auditor) sshdIs(major, minor int) bool {
	if a.asked == "" {
		a.asked = a.opt.Version() + " "
	}
	_, v, _ := strings.Cut(a.asked, "OpenSSH_")
	number := func() int {
		digits := 0
		for digits < len(v) && v[digits] >= '0' && v[digits] <= '9' {
			digits++
		}
		n, err := strconv.Atoi(v[:digits])
		v = strings.TrimPrefix(v[digits:], ".")
		if err != nil {
			return -1
		}
		return n
	}
	is := number()
	return is > major || is == major && number() >= minor
}

// matches are what sshd_config makes depend on who asks.
type matches struct {
	groups []string // named by a Match Group
	blocks []block  // those with a ForceCommand of ours
	others []match  // those that ask for more than the login
}

type match struct{ where, criteria string }

func (a *auditor) loadMatches() {
	config := a.opt.SSHDConfig
	if config == "" {
		config = "/etc/ssh/sshd_config"
	}
	a.readMatches(config, 0)
}

// readMatches reads the Match lines of a file and those it includes.
func (a *auditor) readMatches(file string, depth int) {
	text, err := a.files.read(file)
	if err != nil || depth > 16 { // servconf.h:SERVCONF_MAX_DEPTH
		return
	}
	n := 0
	var of []string // what the Match asks for that the lines belong to
	for line := range strings.SplitSeq(string(text), "\n") {
		n++
		w := strings.Fields(strings.Replace(strings.NewReplacer(`"`, "").Replace(line), "=", " ", 1))
		if len(w) < 2 {
			continue
		}
		switch strings.ToLower(w[0]) {
		case "include":
			for _, pattern := range w[1:] {
				if !path.IsAbs(pattern) {
					pattern = "/etc/ssh/" + pattern
				}
				for _, f := range a.files.glob(pattern) {
					a.readMatches(f, depth+1)
				}
			}
		case "forcecommand":
			if slices.ContainsFunc(w[1:], func(s string) bool { return path.Base(s) == "jail-enter" }) {
				a.matches.blocks = append(a.matches.blocks, block{fmt.Sprintf("%s:%d", file, n), of})
			}
		case "match":
			of = w[1:]
			other := false
			for i := 1; i < len(w); i += 2 {
				switch kind := strings.ToLower(w[i]); kind {
				case "group":
					if i+1 < len(w) {
						a.matches.groups = append(a.matches.groups, strings.Split(w[i+1], ",")...)
					}
				case "user", "all":
				default:
					other = true
				}
			}
			if other {
				a.matches.others = append(a.matches.others, match{fmt.Sprintf("%s:%d", file, n), strings.Join(w, " ")})
			}
		}
	}
}

// checkMatches says where the answers of sshd are not the whole story.
func (a *auditor) checkMatches() {
	for _, m := range a.matches.others {
		a.add(nil, Note, "sshd-match", m.where, "what sshd does was looked at for a client on 127.0.0.1; where "+m.criteria+" applies it may do something else",
			"sshd -T -C user=LOGIN,host=NAME,addr=ADDRESS,laddr=ADDRESS,lport=PORT")
	}
}
