package audit

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"jail/internal/jail"
)

// pamServices are the ways to become a login that end in its shell, or in
// something that runs its commands.
var pamServices = []string{"sshd", "login", "su", "su-l", "runuser", "runuser-l", "cron", "crond", "atd"}

// homeFile is what a module reads or writes in the home directory, most of them
// as root; "" is nothing.
func homeFile(module string) string {
	switch module {
	case "pam_ecryptfs":
		return ".ecryptfs"
	case "pam_google_authenticator":
		return ".google_authenticator"
	case "pam_mount":
		return ".pam_mount.conf.xml"
	case "pam_rhosts":
		return ".rhosts"
	case "pam_u2f":
		return ".config/Yubico/u2f_keys"
	}
	return ""
}

// pamLine is one line of a service's configuration, includes resolved.
type pamLine struct {
	service string
	where   string // file:line
	text    string // the line as it is written
	kind    string // auth, account, session or password
	module  string // without directory and .so
	args    []string
}

// readsUserEnv reports whether the line takes variables from a file in the home
// directory. Without the argument pam_env does not (since Linux-PAM 1.1.1,
// CVE-2010-4708).
func (p *pamLine) readsUserEnv() bool {
	return p.module == "pam_env" && slices.Contains(p.args, "user_readenv=1")
}

func (a *auditor) loadPAM() {
	for _, service := range pamServices {
		a.readPAM(service, service, 0)
	}
}

func (a *auditor) readPAM(service, name string, depth int) {
	if depth > 10 {
		return
	}
	var file string
	var text []byte
	var err error
	for _, dir := range a.opt.PAMDirs {
		file = path.Join(dir, name)
		if path.IsAbs(name) {
			file = name
		}
		if text, err = a.files.read(file); err == nil {
			break
		}
	}
	if err != nil {
		return
	}
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		where, line := fmt.Sprintf("%s:%d", file, i+1), lines[i]
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + " " + lines[i]
		}
		line, _, _ = strings.Cut(line, "#")
		w := pamWords(line)
		switch {
		case len(w) >= 2 && w[0] == "@include":
			a.readPAM(service, w[1], depth+1)
		case len(w) < 3:
		case w[1] == "include" || w[1] == "substack":
			a.readPAM(service, w[2], depth+1)
		default:
			a.pam = append(a.pam, pamLine{service, where, strings.TrimSpace(line), strings.TrimPrefix(w[0], "-"), strings.TrimSuffix(path.Base(w[2]), ".so"), w[3:]})
		}
	}
}

// pamWords splits a line at blanks; what is in brackets is one word.
func pamWords(line string) []string {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " \t") {
		end := strings.IndexAny(line, " \t")
		if line[0] == '[' {
			end = strings.IndexByte(line, ']')
			if end >= 0 {
				end++
			}
		}
		if end < 0 {
			end = len(line)
		}
		words = append(words, line[:end])
		line = line[end:]
	}
	return words
}

// pamFor returns the lines that apply to a login.
func (a *auditor) pamFor(l *login) []pamLine {
	if l.ssh == nil || !l.ssh.is("usepam", "no") {
		return a.pam
	}
	return slices.DeleteFunc(slices.Clone(a.pam), func(p pamLine) bool { return p.service == "sshd" })
}

func (a *auditor) checkPAM(l *login) {
	for _, p := range a.pamFor(l) {
		// success=1 passes over the line that follows, here the one found.
		shell := a.opt.JailEnter[0]
		if l.kind == shellJail {
			shell = l.Shell
		}
		skip := "write before it: " + p.kind + " [success=1 default=ignore] pam_succeed_if.so quiet shell = " + shell
		switch {
		case p.readsUserEnv():
			fix := strings.Join(strings.Fields(strings.Replace(p.text, "user_readenv=1", "user_readenv=0", 1)), " ")
			if l.home.exposed() {
				a.add(l, Error, "pam-user-env", p.where, "~/.pam_environment, which a tenant can write, sets any variable, LD_PRELOAD too, of what the host runs at a login before the jail", fix)
			} else {
				a.add(l, Note, "pam-user-env", p.where, "~/.pam_environment sets any variable of what the host runs at a login, should somebody be able to write it", fix)
			}
		case p.module == "pam_systemd" && l.home.exposed() && !a.userManagerMasked(l):
			a.add(l, Warning, "pam-systemd", p.where, "a login starts systemd --user on the host, which runs whatever ~/.config/systemd/user, which a tenant can write, tells it to",
				"systemctl mask user@$(id -u "+LoginName+").service")
		case p.module == "pam_mkhomedir" || p.module == "pam_oddjob_mkhomedir":
			if l.home.trail.missing() {
				a.add(l, Warning, "pam-mkhomedir", p.where, "the next login makes "+l.Home+" and gives it to the login, who then says what host programs read there",
					"usermod -d "+jail.EmptyHome+" "+LoginName)
			} else {
				a.add(l, Note, "pam-mkhomedir", p.where, p.module+" makes a missing home directory and gives it to the login", skip)
			}
		case homeFile(p.module) != "":
			a.add(l, Note, "pam-home-file", p.where, p.module+" uses ~/"+homeFile(p.module)+" on the host, not in the jail", skip)
		}
	}
}

// userManagerMasked reports whether systemd --user is switched off for a login.
func (a *auditor) userManagerMasked(l *login) bool {
	for _, dir := range []string{"/etc/systemd/system/", "/run/systemd/system/"} {
		for _, unit := range []string{"user@" + decimal(l.UID) + ".service", "user@.service"} {
			if target, err := a.files.readlink(dir + unit); err == nil && target == "/dev/null" {
				return true
			}
		}
	}
	return false
}
