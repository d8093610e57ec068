package e2e

import "regexp"

// difference is something that is not as with plain sshd, on purpose: the two
// sides are compared after its expressions have been cut out of what the
// session printed. A side without an expression is left as it is.
type difference struct {
	reason          string
	onPlain, onJail *regexp.Regexp
}

func (d difference) plain(s string) string { return cut(d.onPlain, s) }
func (d difference) jail(s string) string  { return cut(d.onJail, s) }

func cut(re *regexp.Regexp, s string) string {
	if re == nil {
		return s
	}
	return re.ReplaceAllString(s, "")
}

// differences are all of them; a test names those it accepts.
var differences = map[string]difference{
	"host shell": {
		reason:  "sshd itself complains of the login's shell, which is jail-enter on the host",
		onPlain: regexp.MustCompile(`^/bin/bash: `),
		onJail:  regexp.MustCompile(`^` + enterPath + `: `),
	},
	"pipes": {
		reason:  "sshd's pipes are the host uid's, who is nobody in the jail's user namespace; jail-enter opens their mode so that /dev/stdout can still be opened",
		onPlain: regexp.MustCompile(`(?m) work 600$`),
		onJail:  regexp.MustCompile(`(?m) nobody 666$`),
	},
	"pam_motd": {
		reason:  "the host's PAM sets it for the host's motd, which nobody in a jail sees; only what is listed enters",
		onPlain: regexp.MustCompile(`(?m)^MOTD_SHOWN=pam\r?\n`),
	},
	"pam_motd -z": {
		reason:  "as pam_motd",
		onPlain: regexp.MustCompile(`MOTD_SHOWN=pam\x00`),
	},
	"auth info": {
		reason: "the recommended block has sshd say which key it was (ExposeAuthInfo), the oracle's does not; a file of sshd's own is in /tmp, of PID 1's in /dev/jail/auth",
		onJail: regexp.MustCompile(`(?m)^SSH_USER_AUTH=/dev/jail/auth/\d+\r?\n`),
	},
	"auth info -z": {
		reason: "as auth info",
		onJail: regexp.MustCompile(`SSH_USER_AUTH=/dev/jail/auth/\d+\x00`),
	},
	"user rc": {
		reason:  "sshd waits for ~/.ssh/rc before the command (session.c:do_rc_files). The host's is not run (PermitUserRC no), and PID 1 starts one program, which nobody waits for",
		onPlain: regexp.MustCompile(`^from rc\n`),
	},
	// Without expressions: what a client sees is another line, or no line, of its own.
	"no hosts": {
		reason: "a jail's own name is known inside by /etc/hosts, over which PID 1 shows one with the name in it; a root file system without that file has no place for it, and sudo says that it cannot resolve the name. The log says what to add",
	},
	"quoted interrupt": {
		reason: "until the jail has answered, ^V before a ^C or ^\\ keeps it from ending jail-enter, as it would keep it from ending a shell; not in su -c, where the terminal is not jail-enter's controlling one and only the kernel can send the signal: there it ends the waiting",
	},
	"utmp": {
		reason: "a session is in the jail's wtmp and lastlog, and where sshd writes it on the host; who(1) inside shows nobody, since /run/utmp says who is on a machine that has booted, and getlogin(3) does without it",
	},
	"unknown locale": {
		reason:  "what the client's locale is called means nothing to a system that does not have it, and every program would complain",
		onPlain: regexp.MustCompile(`(?m)^LC_(MESSAGES|TIME)=de_DE(\.UTF-8)?\r?\n`),
		onJail:  regexp.MustCompile(`(?m)^LC_(MESSAGES|TIME)=C\.UTF-8\r?\n`),
	},
	"unknown terminal": {
		reason:  "a terminal the rootfs has no description of is one that no editor or pager can use",
		onPlain: regexp.MustCompile(`(?m)^TERM=xterm-kitty\r?\n`),
		onJail:  regexp.MustCompile(`(?m)^TERM=xterm-256color\r?\n`),
	},
	"time zone": {
		reason: "a jail follows the host's time zone unless told otherwise; the oracle's tree has one of its own, UTC",
		onJail: regexp.MustCompile(`(?m)^TZ=.*\r?\n`),
	},
	"resolver": {
		reason:  "a jail follows the host's resolver unless told otherwise",
		onPlain: regexp.MustCompile(`(?m)^nameserver .*\r?\n`),
		onJail:  regexp.MustCompile(`(?m)^nameserver .*\r?\n`),
	},
	"odd names -z": {
		reason:  "a name with more than letters, digits and _ is of no use to a shell and has been code to some (CVE-2014-6271)",
		onPlain: regexp.MustCompile(`LC_\w*[^\w=\x00][^=\x00]*=[^\x00]*\x00`),
	},
	"chroot": {
		reason: "the oracle's sshd would say it too, were it not for ChrootDirectory (session.c:do_child)",
		onJail: regexp.MustCompile(`^Could not chdir to home directory /home/\w+: (No such file or directory|Permission denied)\n`),
	},
	"unix sockets": {
		reason:  "sshd would make and reach them on the host, with the login's uid, so the configuration for jails refuses them",
		onPlain: regexp.MustCompile(`^-R of a path: status 0, stdout "is there\\n", stderr ""\n-L of a path: "from the socket\\n" <nil>$`),
		onJail:  regexp.MustCompile(`^-R of a path: status 255, .*\n-L of a path: "" <nil>$`),
	},
	"host's unix sockets": {
		reason:  "paths are the host's: sshd makes and reaches unix sockets outside the jail, unless AllowStreamLocalForwarding is no",
		onPlain: regexp.MustCompile(`^-R of a path: status 0, stdout "is there\\n", stderr ""\n-L of a path: "from the socket\\n" <nil>$`),
		onJail:  regexp.MustCompile(`^-R of a path: status 255, .*\n-L of a path: "" <nil>$`),
	},
	"administrator's keys": {
		reason:  "without jail-keys sshd reads the administrator's files, so a key that is put into the jail does not log in",
		onPlain: regexp.MustCompile(`(?m)^the new key: .*$`),
		onJail:  regexp.MustCompile(`(?m)^the new key: status 255, stdout "", stderr "LOGIN@127.0.0.1: Permission denied \(publickey\).\\r\\n"$`),
	},
	"signals": {
		reason:  "sshd refuses to signal a forced command (session.c:session_signal_req)",
		onPlain: regexp.MustCompile(`(?m)^signal: "trapped\\n", status 4.*$`),
		onJail:  regexp.MustCompile(`(?m)^signal: "not trapped\\n", status 5.*$`),
	},
}
