package admin

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"jail/internal/count"
	"jail/internal/enter"
	"jail/internal/event"
	"jail/internal/inforce"
	"jail/internal/login"
	"jail/internal/record"
)

// Whoever is refused reads an id. Most are of the session that there was not: PID 1 or serve
// has said them, and the records know why. Those of jail-enter itself are of a kind, and what
// they come to can only be looked at now.

// kind is an id that says what has happened by itself.
type kind struct{ what, todo string }

// kinds are those of jail-enter, and words of sshd's and ssh's that users read for an id.
var kinds = sync.OnceValue(func() map[string]kind {
	return map[string]kind{
		enter.KindNoJail: {"jail-enter found nobody behind the login's socket",
			"jail-init serve does not run, or has no socket for this login: it is not in the registry, or out of service"},
		enter.KindClosed: {"whoever is behind the login's socket closed the connection for a minute, and said nothing",
			"the jail starts and ends again and again, or its first process has been taken over: jail ps, and the log of jail-init"},
		enter.KindNotYours: {"the login's socket is not for the uid that jail-enter ran as",
			"two accounts have one name or uid, or the runtime directory was changed by hand: systemctl restart jail makes it anew"},
		enter.KindTooLong: {"the command and the environment together are longer than a request may be",
			"nothing is wrong with the host; the client sends a shorter command, or fewer variables"},
		enter.KindPath: {"the path of the login's socket is longer than one can be",
			"--runtime-dir of jail-enter is wrong, in the account's shell or in sshd's ForceCommand"},
		enter.KindNoAnswer: {"the login's socket took the connection, and no answer came within a minute",
			"the jail takes too long to start, or the machine is too busy: jail ps, the log of jail-init, and whether a file system answers (jail check)"},
		enter.KindNonsense: {"the answer of the jail's first process keeps to no protocol",
			"it has been taken over, or is of a much older build: jail stop ends it, with its sessions"},
		enter.KindVersion: {"the jail's first process is of another build, which speaks another protocol",
			"jail stop ends it, with its sessions; the next login starts it anew"},
		enter.KindSystem: {"a system call of jail-enter's failed; the line that the user has read says which error",
			"the host has no memory, processes or descriptors left for this login's uid (limits.conf(5), the sshd unit's limits)"},
		enter.KindNoCommand: {"jail-enter cannot read its own command line in /proc",
			"/proc is not mounted, or hides processes from their owners"},
		"permission-denied": {"sshd let the login in by nothing that the client had (\"Permission denied\")",
			"the key is not inside (jail key LOGIN ls), jail-keys does not read it, or sshd does not ask jail-keys; its reason is in the system's log (journalctl -t jail-keys)"},
		"connection-refused": {"nobody listens where the client connects, so no jail has been asked (\"Connection refused\")",
			"sshd does not run, or has another port: systemctl start ssh; journalctl -u ssh -n 20, and sshd -t, say why not"},
		"connection-closed": {"sshd closed the connection before or after it let the login in",
			"the account has expired, PAM refuses it, or its login shell cannot be run: journalctl -u ssh -n 20"},
	}
})

// advice says what to do about a refusal, by words in its reason. The first that fits counts.
var advice = []struct{ words, todo string }{
	{"is disabled", "jail enable takes it back, when the reason is over"},
	{"out of service", "mend what jail check says of the registry, then jail reload"},
	{"has no entry in the jail's /etc/passwd", "make the user inside: jail exec JAIL useradd -m -u UID NAME; or give name and shell in the registry"},
	{"cannot read /etc/passwd of the jail", "the file inside is not one, or too large: jail exec JAIL ls -l /etc/passwd"},
	{"cannot read /etc/group of the jail", "the file inside is not one, or too large: jail exec JAIL ls -l /etc/group"},
	{"home directory in the jail's /etc/passwd is not an absolute path", "jail exec JAIL usermod -d /home/NAME NAME"},
	{"sshd let in a key that is not, or no longer", "jail key LOGIN add FILE, if the key may enter; or keys = \"anywhere\" in the registry"},
	{"several lines of the key that authenticated differ", "jail key LOGIN ls shows them; jail key LOGIN rm NUMBER takes one away"},
	{"the keys that authenticated have different command=", "jail key LOGIN ls shows them; give them one command"},
	{"the certificate and its line in authorized_keys have different commands", "sign the certificate anew, or change its line inside"},
	{"sshd does not say which one authenticated", "ExposeAuthInfo yes in sshd's block for jails, then systemctl reload ssh; jail setup has it"},
	{"the key or certificate that authenticated cannot be read", "the user takes another key"},
	{"cannot read authorized_keys", "jail check LOGIN says what is wrong with the file inside"},
	{"This service allows sftp connections only", "nothing is wrong: the key has command=\"internal-sftp\""},
	{"internal-sftp options that are not sftp-server's", "correct command= of the key inside: jail key LOGIN ls"},
	{"sftp is switched off", "nothing is wrong, or sftp = \"auto\" in the registry"},
	{"there is no sftp-server in this jail", "install one inside, or sftp = \"auto\" in the registry"},
	{"built-in sftp server was not installed", "install jail again, then jail stop JAIL"},
	{"cannot open a terminal", "all terminals are in use, or /dev/pts is not what it was: jail who; jail stop JAIL starts it anew"},
	{"cannot open /dev/null", "somebody inside has changed /dev: jail stop JAIL starts it anew"},
	{"as many processes as it may have", "jail exec JAIL ps shows them; or a larger limits.pids in the registry, then jail stop JAIL"},
	{"as many sessions as it can hold", "jail who shows them; end some"},
	{"cannot start a process", "the host has no memory or processes left: the log of the kernel"},
	{"another version of the protocol", "jail stop JAIL ends it, with its sessions; the next login starts it anew"},
	{"the jail is ending", "the next login starts it anew"},
}

// todo is the advice for a reason.
func todo(reason, jail, loginName string) string {
	for _, a := range advice {
		if strings.Contains(reason, a.words) {
			text := a.todo
			if jail != "" {
				text = strings.ReplaceAll(text, "JAIL", jail)
			}
			if loginName != "" {
				text = strings.ReplaceAll(text, "LOGIN", loginName)
			}
			return text
		}
	}
	return "that keeps the jail from starting, or the session; mend it, and the next login tries again (jail check and the log of jail-init say more)"
}

// Why tells the story of an id that a user has read, and what is found of the login now. For
// an id that only says what has happened, about is the login. It returns the exit status: 0 if
// the story is known, 1 if not.
func Why(opt Options, id, about string) (int, error) {
	id = strings.ToLower(strings.Trim(id, "()., "))
	if k, ok := kinds()[id]; ok {
		fmt.Fprintf(opt.Stdout, "%s: %s.\nwhat to do: %s.\n", id, k.what, k.todo)
		if about == "" {
			fmt.Fprintf(opt.Stdout, "jail why %s LOGIN looks at that login now\n", id)
			return 0, nil
		}
		return 0, now(opt, about)
	}
	if !validID(id) {
		return 1, fmt.Errorf("%.40q is no id: they have 8 letters and digits, or are words such as %s", id, enter.KindNoJail)
	}
	store := record.Open(record.Dir(opt.RuntimeDir))
	names, err := store.Jails()
	if err != nil {
		return 1, err
	}
	var damage []string
	for _, name := range names {
		list, err := store.Sessions(name, func(d *record.Damage) { damage = append(damage, d.Error()) })
		if err != nil {
			damage = append(damage, err.Error())
			continue
		}
		for i := range list {
			if list[i].Session == id {
				story(opt, &list[i])
				if list[i].State == record.StateRefused && list[i].Login != "" {
					return 0, now(opt, list[i].Login)
				}
				return 0, nil
			}
		}
	}
	what := fmt.Sprintf("no session and no refusal with the id %s is in the records", id)
	if len(damage) > 0 {
		what += fmt.Sprintf(", of which %s cannot be read (%s)", count.Of(len(damage), "place", "places"), event.Quote(damage[0]))
	}
	return 1, errors.New(what + "; l, o, 0 and 1 are in no id that a jail gives")
}

// validID reports whether an id can be one of PID 1's or serve's.
func validID(s string) bool {
	if len(s) == 8 && s[0] == 's' && strings.Trim(s[1:], "0123456789abcdef") == "" {
		return true
	}
	var id login.ID
	return len(s) == len(id) && copy(id[:], s) == len(id) && id.Valid()
}

// story prints what is recorded.
func story(opt Options, s *record.Session) {
	who := "jail " + s.Jail
	if s.Login != "" {
		who = s.Login + ", jail " + s.Jail
	}
	if f := from(s.Caller); f != "" && f != "-" {
		who += ", from " + plain(f)
	}
	if b := by(s.Caller); b != "" && b != "-" {
		who += ", by " + plain(b)
	}
	if s.State != record.StateRefused {
		began := ""
		if s.Started != nil {
			began = " that began " + clock(s.Started)
		}
		fmt.Fprintf(opt.Stdout, "%s is no refusal, but a session%s: %s\n", s.Session, began, plain(who))
		fmt.Fprintf(opt.Stdout, "it is %s; jail last shows it\n", s.State)
		return
	}
	fmt.Fprintf(opt.Stdout, "refused:    %s: %s\n", clock(s.Ended), plain(who))
	if s.Count > 1 {
		fmt.Fprintf(opt.Stdout, "            %d times at once\n", s.Count)
	}
	fmt.Fprintf(opt.Stdout, "why:        %s\n", plain(s.Reason))
	fmt.Fprintf(opt.Stdout, "what to do: %s\n", todo(s.Reason, s.Jail, s.Login))
}

// now checks a login as it is at the moment.
func now(opt Options, name string) error {
	fmt.Fprintf(opt.Stdout, "jail check %s, now:\n", name)
	if Check(opt, name, false) == 0 && !shut(opt, name) {
		fmt.Fprintln(opt.Stdout, "nothing keeps it out")
	}
	return nil
}

// shut reports whether a login, or its jail, is disabled, which check has only a note for.
func shut(opt Options, name string) bool {
	d, err := inforce.ReadDisabled(opt.ConfigPath)
	if err != nil {
		return true // nobody knows
	}
	_, yes := d.Logins[name]
	if reg, err := load(opt); err == nil && !yes {
		if spec, _ := reg.Login(name); spec != nil {
			name = spec.Name
		}
		_, yes = d.Jails[name]
	}
	return yes
}
