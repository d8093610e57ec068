package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// account is one person, met in three places with the same uid: as a login of
// the host whose shell is jail-enter, as a user inside a jail's root file
// system, and as the login of the oracle, whose sshd changes its root to a
// tree of the same content instead of entering a jail. There the login has the
// name it has inside, since sshd itself sets USER and LOGNAME.
type account struct {
	login  string // on the host with jails
	name   string // inside, and on the oracle
	id     int    // uid and gid
	home   string
	shell  string
	groups []string // supplementary, inside and on the oracle
	noHome bool     // the home directory does not exist
	shut   bool     // the home directory is root's, mode 0700
}

// The accounts of the Debian tree. Those after work differ from it in one
// thing each.
var (
	work       = account{login: "debian", name: "work", id: 61001, home: "/home/work", shell: "/bin/bash", groups: []string{"builders", "readers"}}
	argv       = account{login: "argv", name: "argv", id: 61010, home: "/home/argv", shell: "/usr/local/bin/argv"}
	noHome     = account{login: "nohome", name: "nohome", id: 61021, home: "/home/nohome", shell: "/bin/bash", noHome: true}
	shutHome   = account{login: "shuthome", name: "shuthome", id: 61022, home: "/home/shuthome", shell: "/bin/bash", shut: true}
	noShell    = account{login: "noshell", name: "noshell", id: 61023, home: "/home/noshell", shell: "/bin/nosuchshell"}
	badShell   = account{login: "badshell", name: "badshell", id: 61024, home: "/home/badshell", shell: "/etc/passwd"}
	noLogin    = account{login: "nologin", name: "nologin", id: 61025, home: "/home/nologin", shell: "/usr/sbin/nologin"}
	emptyShell = account{login: "emptyshell", name: "emptyshell", id: 61026, home: "/home/emptyshell", shell: ""}

	debianAccounts = []account{work, argv, noHome, shutHome, noShell, badShell, noLogin, emptyShell}
)

// centos is the one account of the busybox tree. It has no oracle.
var centos = account{login: "centos", name: "work", id: 61000, home: "/home/work", shell: "/bin/sh"}

// spares are logins of the host in no jail; tests give them one.
var spares = []account{
	{login: "spare1", id: 61031},
	{login: "spare2", id: 61032},
	{login: "spare3", id: 61033},
}

// argvPlain is the host account whose shell is the argv program itself: what
// su, sudo, login and runuser start for it is what they would start for argv.
var argvPlain = account{login: "argvplain", id: 61011, home: emptyHome, shell: "/usr/local/bin/argv"}

// alice is an ordinary user of the host with subordinate ids, for the rootless
// tests.
var alice = account{login: "alice", id: 61040, home: "/srv/people/alice", shell: "/bin/bash"}

const (
	emptyHome  = "/var/lib/jail/empty-home"
	agentPlace = emptyHome + "/.ssh/agent"
	enterPath  = "/usr/bin/jail-enter"
	initPath   = "/usr/sbin/jail-init"
	keysPath   = "/usr/lib/jail/jail-keys"
	pid1Path   = "/usr/lib/jail/pid1"
	sftpPath   = "/usr/lib/jail/sftp-server"
	importPath = "/usr/lib/jail/import"
	netPath    = "/usr/lib/jail/net"
	argvPath   = "/usr/local/bin/argv"

	jailsDir    = "/srv/jails" // root's, 0700: no host user comes near set-uid files of a tree
	debianRoot  = jailsDir + "/debian"
	busyboxRoot = jailsDir + "/busybox"
	serviceRoot = jailsDir + "/services"
	daemonRoot  = jailsDir + "/daemons"
	oracleRoot  = "/srv/oracle"
)

// programs are the paths of the programs under test, by name.
func programs() map[string]string {
	return map[string]string{
		"jail-enter": enterPath, "jail-init": initPath, "jail-pid1": pid1Path, "jail-keys": keysPath, "jail-sftp-server": sftpPath, "jail-import": importPath,
		"jail-net": netPath,
	}
}

func programNames() []string {
	return []string{"jail-enter", "jail-init", "jail-pid1", "jail-keys", "jail-sftp-server", "jail-import", "jail-net"}
}

// extraGroups are in the Debian tree and on the oracle.
var extraGroups = map[string]int{"builders": 62001, "readers": 62002}

// hostLines returns what to append to passwd, shadow and group of the host
// with jails.
func hostLines() (passwd, shadow, group string) {
	all := append(append([]account{centos}, debianAccounts...), spares...)
	for _, a := range all {
		a.home, a.shell = emptyHome, enterPath
		appendAccount(&passwd, &shadow, &group, a.login, a)
	}
	for _, a := range []account{argvPlain, alice} {
		appendAccount(&passwd, &shadow, &group, a.login, a)
	}
	return passwd, shadow, group
}

// insideLines returns the same for a tree, and for the oracle's sshd.
func insideLines(accounts []account) (passwd, shadow, group string) {
	members := make(map[string][]string)
	for _, a := range accounts {
		appendAccount(&passwd, &shadow, &group, a.name, a)
		for _, g := range a.groups {
			members[g] = append(members[g], a.name)
		}
	}
	for name, gid := range extraGroups {
		group += fmt.Sprintf("%s:x:%d:%s\n", name, gid, strings.Join(members[name], ","))
	}
	return passwd, shadow, group
}

func appendAccount(passwd, shadow, group *string, name string, a account) {
	*passwd += fmt.Sprintf("%s:x:%d:%d::%s:%s\n", name, a.id, a.id, a.home, a.shell)
	*shadow += name + ":*:19000:0:99999:7:::\n"
	*group += fmt.Sprintf("%s:x:%d:\n", name, a.id)
}

// The dotfiles count how often they are read. bash reads .bashrc without a
// terminal when sshd starts it (SSH_SOURCE_BASHRC), once per login.
const (
	bashrc  = "export BASHRC_READ=$((BASHRC_READ + 1))\n"
	profile = "export PROFILE_READ=$((PROFILE_READ + 1))\n"
)

// populate adds the accounts to a tree nobody uses yet.
func populate(root, scratch string, accounts []account) error {
	passwd, shadow, group := insideLines(accounts)
	for file, lines := range map[string]string{"passwd": passwd, "shadow": shadow, "group": group} {
		if err := appendFile(filepath.Join(root, "etc", file), lines); err != nil {
			return err
		}
	}
	// The message of the day is not the subject of the tests that would see it; nor
	// is the host's, see furnishEtc.
	if err := os.WriteFile(filepath.Join(root, "etc/motd"), nil, 0o644); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, filepath.Dir(argvPath)), 0o755); err != nil {
		return err
	}
	if err := command("cp", filepath.Join(scratch, "bin/argv"), filepath.Join(root, argvPath)); err != nil {
		return err
	}
	publicKey, err := os.ReadFile(keyFile + ".pub")
	if err != nil {
		return err
	}
	for _, a := range accounts {
		home := filepath.Join(root, a.home)
		if a.noHome {
			continue
		}
		if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
			return err
		}
		files := map[string]string{".bashrc": bashrc, ".profile": profile, ".ssh/authorized_keys": string(publicKey)}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
				return err
			}
		}
		owner, mode := a.id, "0755"
		if a.shut {
			owner, mode = 0, "0700"
		}
		if err := command("chown", "-R", fmt.Sprintf("%d:%d", owner, owner), home); err != nil {
			return err
		}
		if err := command("chmod", mode, home); err != nil {
			return err
		}
	}
	return nil
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
