package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/config"
	"jail/internal/jail"
	"jail/internal/quota"
	"jail/internal/wire"
)

// fakeFile is one file of a fakeFS.
type fakeFile struct {
	uid, gid uint32
	mode     uint32 // 0: 0755 of what it is
	link     string
	text     string
	dir      bool
	caps     bool
}

// fakeFS is files by path. Directories above are there, and root's.
type fakeFS map[string]fakeFile

func (f fakeFS) lstat(p string) (stat, error) {
	file, ok := f[p]
	if !ok {
		above := strings.TrimSuffix(p, "/") + "/"
		for name := range f {
			ok = ok || strings.HasPrefix(name, above)
		}
		if !ok && p != "/" {
			return stat{}, fs.ErrNotExist
		}
		file = fakeFile{dir: true}
	}
	mode := file.mode
	if mode == 0 {
		mode = 0o755
	}
	switch {
	case file.link != "":
		mode |= unix.S_IFLNK
	case file.dir:
		mode |= unix.S_IFDIR
	default:
		mode |= unix.S_IFREG
	}
	return stat{file.uid, file.gid, mode}, nil
}

func (f fakeFS) readlink(p string) (string, error) {
	if file, ok := f[p]; ok && file.link != "" {
		return file.link, nil
	}
	return "", fs.ErrNotExist
}

func (f fakeFS) read(p string) ([]byte, error) {
	if file, ok := f[p]; ok && file.link == "" && !file.dir {
		return []byte(file.text), nil
	}
	return nil, fs.ErrNotExist
}

func (f fakeFS) glob(pattern string) []string {
	var found []string
	for name := range f {
		if ok, _ := path.Match(pattern, name); ok {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

func (f fakeFS) hasCaps(p string) bool { return f[p].caps }

// world is a host to audit: as jail(7) recommends it until a test changes that.
type world struct {
	t        *testing.T
	files    fakeFS
	home     string
	shell    string
	hash     string
	age      string // change, min and max of shadow; "" is well within its age
	expire   string // the day an account expires; ":" if age has warn and inactive
	group    string
	ssh      string // output of sshd -T
	sshErr   error
	vers     string
	kernel   Kernel
	quota    quota.Looked
	quotaErr error
	jails    []jail.Spec
	blocks   map[string]config.Block
	opt      Options
}

const (
	pamSSHD = `# PAM configuration for the Secure Shell service
@include common-auth
account    required     pam_nologin.so
@include common-session
session    required     pam_env.so # [1]
session    required     pam_env.so user_readenv=1 envfile=/etc/default/locale
`
	pamSession = `session	[default=1]			pam_permit.so
session	required	pam_unix.so
`
	systemdLine = "session	optional	pam_systemd.so \n"
)

func newWorld(t *testing.T) *world {
	w := &world{
		t: t,
		files: fakeFS{
			"/etc/pam.d/sshd":           {text: pamSSHD},
			"/etc/pam.d/common-session": {text: pamSession + systemdLine},
			"/var/lib/jail/empty-home":  {dir: true},
			"/usr/bin/jail-enter":       {},
			"/usr/lib/jail/jail-keys":   {},
			"/srv/jails/web/rootfs":     {dir: true},
			"/etc/shells":               {text: "# shells\n/bin/sh\n/bin/bash\n"},
		},
		home:   "/var/lib/jail/empty-home",
		shell:  "/usr/bin/jail-enter",
		hash:   "!",
		vers:   "OpenSSH_9.2, OpenSSL 3.0.19 27 Jan 2026\n",
		kernel: Kernel{Release: "6.12.0", LandlockABI: 6, Cgroups: "/sys/fs/cgroup/x", Controllers: []string{"cpu", "memory", "pids"}},
		jails: []jail.Spec{{
			Name:   "web",
			Source: jail.Source{Path: "/srv/jails/web/rootfs"},
			Userns: jail.Userns{Enabled: true, Base: 200000, Size: 65536},
			Logins: []jail.Login{{Name: "alice", HostUID: 2001, UID: 1000}},
		}},
	}
	w.sshd("recommended")
	return w
}

// sshd takes what a real sshd printed for testdata/NAME.conf.
func (w *world) sshd(name string) {
	text, err := os.ReadFile("testdata/" + name + ".out")
	require.NoError(w.t, err)
	w.ssh = string(text)
}

// set changes one option in what sshd printed.
func (w *world) set(key, value string) {
	lines := slices.DeleteFunc(strings.Split(w.ssh, "\n"), func(l string) bool { return strings.HasPrefix(l, key+" ") })
	w.ssh = strings.Join(append(lines, key+" "+value), "\n")
}

func (w *world) run() []Finding {
	o := w.opt
	account := "alice:x:2001:2001::" + w.home + ":" + w.shell + "\n"
	o.Passwd = []byte("root:x:0:0:root:/root:/bin/bash\n" + account + strings.Replace(strings.ReplaceAll(account, "alice", "bob"), "2001:2001", "2002:2002", 1))
	o.Group = []byte("root:x:0:\nalice:x:2001:\nstaff:x:50:\n" + w.group)
	if w.age == "" {
		w.age = "19000:0:99999"
	}
	o.Today = 20000
	rest := ":7::" + w.expire + ":\n"
	if w.expire == ":" {
		rest = "::\n"
	}
	o.Shadow = []byte("alice:" + w.hash + ":" + w.age + rest + "bob:" + w.hash + ":" + w.age + rest)
	o.Effective = func(string) (string, error) { return w.ssh, w.sshErr }
	o.Version = func() string { return w.vers }
	o.Kernel = &w.kernel
	o.quota = func(dir string) (quota.Looked, error) { return w.quota, w.quotaErr }
	o.files = w.files
	o.JailEnter, o.BlockGroup = []string{"/usr/bin/jail-enter"}, "jailed"
	o.JailKeys = "/usr/lib/jail/jail-keys"
	return Run(&config.Registry{Jails: w.jails, Blocks: w.blocks}, o)
}

func lines(found []Finding) string {
	var b strings.Builder
	for _, f := range found {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

func TestTheRecommendedHostIsFreeOfErrorsAndWarnings(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, ""+
		"note: alice: sshd_config, PasswordAuthentication yes: the account's password is locked, so only a PAM module that asks elsewhere lets somebody in without a key; fix: AuthenticationMethods publickey in their Match block [sshd-password]\n"+
		"note: alice: /etc/pam.d/sshd:6: ~/.pam_environment sets any variable of what the host runs at a login, should somebody be able to write it; fix: session required pam_env.so user_readenv=0 envfile=/etc/default/locale [pam-user-env]\n",
		lines(w.run()))

	w.set("authenticationmethods", "publickey")
	w.files["/etc/pam.d/sshd"] = fakeFile{text: "@include common-session\n"}
	assert.Empty(t, w.run())
}

// Of the letters that OpenSSH 10.6 and those before it print, one says as much as the
// other.
func TestOptionsInAnyCase(t *testing.T) {
	for _, name := range []string{"recommended", "open", "forced-sftp"} {
		w := newWorld(t)
		w.sshd(name)
		before := lines(w.run())
		require.NotEmpty(t, before)
		var b strings.Builder
		for line := range strings.Lines(w.ssh) {
			key, value, _ := strings.Cut(line, " ")
			b.WriteString(strings.ToUpper(key) + " " + value)
		}
		w.ssh = b.String()
		assert.Equal(t, before, lines(w.run()), name)
	}
}

func TestTheClassicAccountIsToldWhatItOpens(t *testing.T) {
	w := newWorld(t)
	w.sshd("debian")
	w.home = "/srv/jails/web/rootfs/home/alice"
	w.files[w.home] = fakeFile{dir: true, uid: 201000}
	found := w.run()
	var home *Finding
	for i := range found {
		if found[i].Where == "/etc/passwd, home directory" {
			home = &found[i]
		}
	}
	require.NotNil(t, home, lines(found))
	assert.Equal(t, Warning, home.Severity)
	assert.Equal(t, "/srv/jails/web/rootfs/home/alice is in the rootfs of jail web, whose tenants write what host programs read there as the login: "+
		".Xauthority (xauth), .config/systemd/user (systemd --user: any program), .forward (mail delivery: any program), "+
		".pam_environment (pam_env: any variable, LD_PRELOAD too), .ssh/authorized_keys .ssh/authorized_keys2 (sshd), .ssh/rc (sshd)", home.What)
	assert.Equal(t, "usermod -d /var/lib/jail/empty-home alice", home.Fix)
}

// want is part of a finding.
type want struct {
	sev         Severity
	where, what string // "what" need only be contained
	fix         string
}

func TestFindings(t *testing.T) {
	const fcLine = "ForceCommand exec /usr/bin/jail-enter --forced"
	inRootfs := func(w *world) {
		w.home = "/srv/jails/web/rootfs/home/alice"
		w.files[w.home] = fakeFile{dir: true, uid: 201000}
	}
	pidsMissing := func(w *world) {
		w.kernel.Controllers = []string{"memory"}
		w.jails[0].Userns = jail.Userns{} // in a user namespace it is not needed
	}
	for _, tc := range []struct {
		name string
		host func(w *world)
		want []want
		not  []string // parts of lines that must not be there
	}{
		// The password's age.
		{"a password that has to be changed is an error", func(w *world) { w.age = "0:0:99999" },
			[]want{{Error, "/etc/shadow, last change", "has to be changed at the next login (chage -d 0), so sshd runs the host's passwd(1)", "chage -d -1 alice"}}, nil},
		{"a password that is too old is an error", func(w *world) { w.age = "19909:0:90" },
			[]want{{Error, "/etc/shadow, maximum age", "the password is too old, so sshd runs", "chage -M -1 alice"}}, nil},
		{"a password that will be too old is worth a note", func(w *world) { w.age = "19910:0:90" },
			[]want{{Note, "/etc/shadow, maximum age", "the password has an age", "chage -M -1 alice"}}, []string{"too old"}},
		{"no day of a change is no age", func(w *world) { w.age = ":0:1" }, nil, []string{"/etc/shadow"}},
		{"an age switched off is none", func(w *world) { w.age = "1:0:-1" }, nil, []string{"/etc/shadow"}},
		{"without PAM sshd does not ask", func(w *world) { w.age = "0:0:99999"; w.set("usepam", "no") }, nil, []string{"chage"}},

		// ping.
		{"ping is shut for everybody", func(w *world) { w.files["/proc/sys/net/ipv4/ping_group_range"] = fakeFile{text: "1\t0\n"} },
			[]want{{Note, "sysctl net.ipv4.ping_group_range", "is 1 to 0 and leaves out the groups of these jails, so ping does not work in them: web", `sysctl -w net.ipv4.ping_group_range="0 2147483647"`}}, nil},
		{"ping is open for half a jail", func(w *world) { w.files["/proc/sys/net/ipv4/ping_group_range"] = fakeFile{text: "0 265534\n"} },
			[]want{{Note, "sysctl net.ipv4.ping_group_range", "is 0 to 265534", `sysctl -w net.ipv4.ping_group_range="0 2147483647"`}}, nil},
		{"kept ids are worth a note, and are in the groups for ping", func(w *world) {
			w.jails[0].Userns.Keep, w.jails[0].Logins[0].GID = true, 1500
			w.files["/proc/sys/net/ipv4/ping_group_range"] = fakeFile{text: "200000 265535\n"}
		}, []want{
			{Note, "userns", `"keep" makes the sessions of these jails their accounts to the host's kernel, to sockets and to what is counted by uid: web`, `write userns = "auto" where home and mounts are on ext4, xfs or btrfs`},
			{Note, "sysctl net.ipv4.ping_group_range", "leaves out the groups of these jails", `sysctl -w net.ipv4.ping_group_range="0 2147483647"`},
		}, nil},
		{"ping is open", func(w *world) { w.files["/proc/sys/net/ipv4/ping_group_range"] = fakeFile{text: "200000 265535\n"} }, nil, []string{"ping"}},

		// Controllers, and whose they are.
		{"a controller that version 1 has", func(w *world) {
			pidsMissing(w)
			w.files["/proc/cgroups"] = fakeFile{text: "#subsys_name\thierarchy\tnum_cgroups\tenabled\npids\t7\t1\t1\n"}
		}, []want{{Warning, "/sys/fs/cgroup/x/cgroup.controllers", "there is no pids controller", "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line"}}, nil},
		{"a controller that is switched off", func(w *world) {
			pidsMissing(w)
			w.files["/proc/cgroups"] = fakeFile{text: "pids\t0\t1\t0\n"}
		}, []want{{Warning, "/sys/fs/cgroup/x/cgroup.controllers", "there is no pids controller", "add cgroup_enable=pids to the kernel's command line, and take out a cgroup_disable=pids"}}, nil},
		{"a program that dpkg installed", func(w *world) {
			delete(w.files, "/usr/bin/jail-enter")
			w.files["/var/lib/dpkg/info/jail.list"] = fakeFile{}
		}, []want{{Error, "/usr/bin/jail-enter", "does not exist", "apt-get install --reinstall jail"}}, nil},

		// The account.
		{"a home that is a link into the rootfs is in the rootfs", func(w *world) {
			inRootfs(w)
			w.home = "/home/alice"
			w.files["/home/alice"] = fakeFile{link: "../srv/jails/web/rootfs/home/alice"}
		}, []want{{Warning, "/etc/passwd, home directory", "/home/alice is in the rootfs of jail web", "usermod -d /var/lib/jail/empty-home alice"}}, nil},
		{"a home a jail may write through a mount is in the jail", func(w *world) {
			w.home = "/srv/data/alice"
			w.files[w.home] = fakeFile{dir: true}
			w.jails[0].Mounts = []jail.Mount{{Source: "/srv/data", Target: "/data"}}
		}, []want{{Warning, "/etc/passwd, home directory", "is in /srv/data, which jail web may write", "usermod -d /var/lib/jail/empty-home alice"}}, nil},
		{"a home that a cage is made around is the tenant's", func(w *world) {
			w.home = "/home/alice"
			w.files[w.home] = fakeFile{dir: true, uid: 2001}
			w.jails[0].Source = jail.Source{Kind: jail.Host, Home: "/home/alice", Prepared: "/run/jail/host/root"}
			w.jails[0].OwnResolver = true
		}, []want{
			{Warning, "/etc/passwd, home directory", `/home/alice is the cage of jail web, whose tenant writes what host programs read there as the login: .config/systemd/user (systemd --user: any program), .forward`, "usermod -d /var/lib/jail/empty-home alice"},
			{Warning, "/etc/passwd, home directory", `give the login home = "/home/alice" in the registry`, "usermod -d /var/lib/jail/empty-home alice"},
			{Error, "/etc/pam.d/sshd:6", "~/.pam_environment, which a tenant can write", "session required pam_env.so user_readenv=0 envfile=/etc/default/locale"},
		}, []string{"/etc/resolv.conf"}},
		{"what has the name of a secret and is seen in cages", func(w *world) {
			w.jails[0].Source = jail.Source{Kind: jail.Host, Home: "/home/alice", Prepared: "/run/jail/host/root", Show: []string{"/srv/tools"}}
			w.jails[0].OwnResolver = true
			for _, dir := range []string{"/usr/local", "/usr/local/etc", "/usr/local/closed", "/srv/tools"} {
				w.files[dir] = fakeFile{dir: true}
			}
			w.files["/usr/local/closed"] = fakeFile{dir: true, mode: 0o700}
			for _, file := range []string{"/usr/local/etc/site.key", "/usr/local/closed/other.key", "/usr/local/etc/secrets.py", "/usr/local/etc/tool.conf", "/srv/tools/.pgpass"} {
				w.files[file] = fakeFile{text: "x"}
			}
			w.files["/usr/local/etc/private.key"] = fakeFile{text: "x", mode: 0o600}
		}, []want{{Warning, "/srv/tools/.pgpass", "has the name of a secret (all: /srv/tools/.pgpass, /usr/local/etc/site.key)", "chmod o-r /srv/tools/.pgpass"}}, nil},
		{"what has a password in it and is seen in cages", func(w *world) {
			w.jails[0].Source = jail.Source{Kind: jail.Host, Home: "/home/alice", Prepared: "/run/jail/host/root"}
			w.jails[0].OwnResolver = true
			for file, text := range map[string]string{
				"/etc/npmrc":               "registry=https://npm.example.org/\n//npm.example.org/:_authToken=abcdef\nother:_authToken=abcdef\n",
				"/etc/pip.conf":            "[global]\n# https://a:b@example.org\nindex-url = https://bot:hunter2@pypi.example.org/simple\n",
				"/etc/maven/settings.xml":  "<settings>\n<password>${env.PASSWORD}</password>\n<password>hunter2</password>\n",
				"/etc/odbc.ini":            "[db]\nPwd = hunter2\n",
				"/etc/profile.d/a.sh":      "export DB_PASSWORD=$(cat /run/x)\nPWD=$HOME\nexport http_proxy=http://proxy.example.org:3128/\n",
				"/etc/gitconfig":           "[url \"https://example.org/\"]\n\tinsteadOf = git@example.org:\n[credential]\n\thelper = cache\n",
				"/etc/php/8.2/cli/php.ini": ";mysqli.default_pw = x\nmysqli.default_pw =\nsession.use_only_cookies = 1\n",
				"/etc/nginx/nginx.conf":    "password=hunter2\n",
			} {
				w.files[file] = fakeFile{text: text}
			}
			w.files["/etc/profile.d/b.sh"] = fakeFile{text: "export TOKEN=hunter2\n", mode: 0o600}
		}, []want{{Warning, "/etc/npmrc:2", "what looks like a password in it (all: /etc/npmrc:2, /etc/pip.conf:3, /etc/odbc.ini:2, /etc/maven/settings.xml:3)", "chmod o-r /etc/npmrc, or keep the password where its user alone can read it"}}, nil},
		{"without a cage nobody looks for secrets", func(w *world) {
			w.files["/usr/local"] = fakeFile{dir: true}
			w.files["/usr/local/site.key"] = fakeFile{text: "x"}
		}, nil, []string{"site.key"}},
		{"a read-only mount exposes no home", func(w *world) {
			w.home = "/srv/data/alice"
			w.files[w.home] = fakeFile{dir: true}
			w.jails[0].Mounts = []jail.Mount{{Source: "/srv/data", Target: "/data", ReadOnly: true}}
		}, nil, []string{"home directory"}},
		{"a home of the login's own is reported", func(w *world) {
			w.home = "/home/alice"
			w.files["/home/alice"] = fakeFile{dir: true, uid: 2001}
		}, []want{
			{Warning, "/etc/passwd, home directory", "can be changed by the login", "usermod -d /var/lib/jail/empty-home alice"},
			{Error, "/etc/pam.d/sshd:6", "~/.pam_environment, which a tenant can write", "session required pam_env.so user_readenv=0 envfile=/etc/default/locale"},
		}, nil},
		{"a home whose parent is somebody else's is reported", func(w *world) {
			w.files["/var/lib/jail"] = fakeFile{dir: true, uid: 2777}
		}, []want{{Warning, "/etc/passwd, home directory", "can be changed by uid 2777", "usermod -d /var/lib/jail/empty-home alice"}}, nil},
		{"a home owned by a jail's id is the jail's", func(w *world) {
			w.files[w.home] = fakeFile{dir: true, uid: 201000}
		}, []want{{Warning, "/etc/passwd, home directory", "can be changed by jail web", "usermod -d /var/lib/jail/empty-home alice"}}, nil},
		{"a home everybody may write is reported, sticky or not", func(w *world) {
			w.files[w.home] = fakeFile{dir: true, mode: 0o1777}
		}, []want{{Warning, "/etc/passwd, home directory", "can be changed by everybody", "usermod -d /var/lib/jail/empty-home alice"}}, nil},
		{"a home the login's group may write is reported", func(w *world) {
			w.files[w.home] = fakeFile{dir: true, mode: 0o775, gid: 2001}
		}, []want{{Warning, "/etc/passwd, home directory", "can be changed by the login", "usermod -d /var/lib/jail/empty-home alice"}}, nil},
		{"a group nobody is in may write a home", func(w *world) {
			w.files[w.home] = fakeFile{dir: true, mode: 0o775, gid: 50}
		}, nil, []string{"home directory"}},
		{"a missing home is a note", func(w *world) {
			w.home = "/home/gone"
		}, []want{{Note, "/etc/passwd, home directory", "/home/gone does not exist", "usermod -d /var/lib/jail/empty-home alice"}}, nil},
		{"the recommended home can be missing too", func(w *world) {
			delete(w.files, w.home)
		}, []want{{Note, "/etc/passwd, home directory", "does not exist", "install -d -m 0755 /var/lib/jail/empty-home"}}, nil},
		{"a missing home that PAM will make is a warning", func(w *world) {
			w.home = "/home/gone"
			w.files["/etc/pam.d/common-session"] = fakeFile{text: "session optional pam_mkhomedir.so\n"}
		}, []want{{Warning, "/etc/pam.d/common-session:1", "makes /home/gone and gives it to the login", "usermod -d /var/lib/jail/empty-home alice"}}, nil},
		{"bash in front of the ForceCommand reads .bashrc on the host", func(w *world) {
			w.shell = "/bin/bash"
		}, []want{{Warning, "/etc/passwd, shell", "/bin/bash runs the ForceCommand and reads .bashrc on the host first", "usermod -s /usr/bin/jail-enter alice"}}, nil},
		{"zsh in front of the ForceCommand reads .zshenv on the host", func(w *world) {
			w.shell = "/usr/bin/zsh"
		}, []want{{Warning, "/etc/passwd, shell", "reads .zshenv", "usermod -s /usr/bin/jail-enter alice"}}, nil},
		{"dash in front of the ForceCommand is what su gets", func(w *world) {
			w.shell = "/bin/dash"
		}, []want{{Warning, "/etc/passwd, shell", "su and console logins get /bin/dash on the host", "usermod -s /usr/bin/jail-enter alice"}}, nil},
		{"an ordinary shell without a ForceCommand is a host shell", func(w *world) {
			w.sshd("debian")
			w.shell = ""
		}, []want{{Error, "/etc/passwd, shell", "every login gets /bin/sh on the host", "usermod -s /usr/bin/jail-enter alice"}}, nil},
		{"nologin makes the ForceCommand fail", func(w *world) {
			w.shell = "/usr/sbin/nologin"
		}, []want{{Error, "/etc/passwd, shell", "no login works", "usermod -s /usr/bin/jail-enter alice"}}, nil},
		{"an empty password is everybody's way in", func(w *world) {
			w.hash = ""
			w.set("permitemptypasswords", "yes")
		}, []want{
			{Warning, "/etc/shadow", "may become the login with su", "passwd -l alice"},
			{Error, "sshd_config, PasswordAuthentication yes", "everybody enters", "passwd -l alice"},
		}, nil},
		{"jail-enter in /etc/shells is a note", func(w *world) {
			w.files["/etc/shells"] = fakeFile{text: "/bin/sh\n/usr/bin/jail-enter\n"}
		}, []want{{Note, "/etc/shells", "chsh", `sed -i '\|^/usr/bin/jail-enter$|d' /etc/shells`}}, nil},
		{"a group of the host is a note, the one sshd knows the logins by is not", func(w *world) {
			w.group = "jailed:x:2900:alice\nvideo:x:44:bob,alice\n"
			w.files["/etc/ssh/sshd_config"] = fakeFile{text: "Include /etc/ssh/sshd_config.d/*.conf\n"}
			w.files["/etc/ssh/sshd_config.d/50-jail.conf"] = fakeFile{text: "Match Group jailed\n\tX11Forwarding no\n"}
		}, []want{{Note, "/etc/group, video", "sshd and jail-enter run with this group", "gpasswd -d alice video"}}, []string{"jailed"}},

		// Our programs.
		{"a jail-enter that is not there is an error", func(w *world) {
			delete(w.files, "/usr/bin/jail-enter")
		}, []want{{Error, "/usr/bin/jail-enter", "does not exist, so no login works", "make install, or install the package again"}}, nil},
		{"a set-uid jail-enter is an error", func(w *world) {
			w.files["/usr/bin/jail-enter"] = fakeFile{mode: 0o4755}
		}, []want{{Error, "/usr/bin/jail-enter", "set-uid", "chmod u-s,g-s /usr/bin/jail-enter"}}, nil},
		{"a jail-enter with file capabilities is an error", func(w *world) {
			w.files["/usr/bin/jail-enter"] = fakeFile{caps: true}
		}, []want{{Error, "/usr/bin/jail-enter", "has file capabilities", "setcap -r /usr/bin/jail-enter"}}, nil},
		{"a jail-enter others cannot run is an error", func(w *world) {
			w.files["/usr/bin/jail-enter"] = fakeFile{mode: 0o750}
		}, []want{{Error, "/usr/bin/jail-enter", "has mode 0750", "chmod 0755 /usr/bin/jail-enter"}}, nil},
		{"a jail-enter of somebody else's is an error", func(w *world) {
			w.files["/usr/bin/jail-enter"] = fakeFile{uid: 2777}
		}, []want{{Error, "/usr/bin/jail-enter", "belongs to uid 2777", "chown root /usr/bin/jail-enter"}}, nil},
		{"the program of PID 1 that everybody may write is an error", func(w *world) {
			w.opt.AsRoot = []string{"/usr/lib/jail/pid1"}
			w.files["/usr/lib/jail/pid1"] = fakeFile{mode: 0o777}
		}, []want{{Error, "/usr/lib/jail/pid1", "is writable by everybody, who can replace pid1 and then acts as root", "chmod o-w /usr/lib/jail/pid1"}}, nil},
		{"without the program of PID 1 jails start only as long as serve has it", func(w *world) {
			w.opt.AsRoot = []string{"/usr/lib/jail/pid1"}
		}, []want{{Error, "/usr/lib/jail/pid1", "does not exist, so no jail starts once jail-init serve has ended", "make install, or install the package again"}}, nil},
		{"a directory above jail-enter that everybody may write is an error", func(w *world) {
			w.files["/usr/bin"] = fakeFile{dir: true, mode: 0o777}
		}, []want{{Error, "/usr/bin", "is writable by everybody, who can replace jail-enter", "chmod o-w /usr/bin"}}, nil},
		{"where a link to jail-enter leads is looked at", func(w *world) {
			w.files["/usr/bin/jail-enter"] = fakeFile{link: "/opt/jail/jail-enter"}
			w.files["/opt/jail/jail-enter"] = fakeFile{}
			w.files["/opt/jail"] = fakeFile{dir: true, uid: 2777}
		}, []want{{Error, "/opt/jail", "belongs to uid 2777", "chown root /opt/jail"}}, nil},
		{"sshd refuses a jail-keys in a sticky directory", func(w *world) {
			w.files["/usr/lib"] = fakeFile{dir: true, mode: 0o1777}
		}, []want{{Error, "/usr/lib", "is writable by everybody, who can replace jail-keys", "chmod o-w /usr/lib"}}, nil},
		{"a group with members above jail-keys is an error", func(w *world) {
			w.group = "wheel:x:10:carol\n"
			w.files["/usr/lib/jail"] = fakeFile{dir: true, mode: 0o775, gid: 10}
		}, []want{{Error, "/usr/lib/jail", "is writable by group wheel", "chmod g-w /usr/lib/jail"}}, nil},
		{"a group without members above jail-keys is a warning", func(w *world) {
			w.files["/usr/lib/jail"] = fakeFile{dir: true, mode: 0o2775, gid: 50}
		}, []want{{Warning, "/usr/lib/jail", "for which sshd refuses jail-keys", "chmod g-w /usr/lib/jail"}}, nil},

		// sshd.
		{"without sshd only the account is judged", func(w *world) {
			w.sshErr = ErrNotInstalled
		}, []want{{Note, "sshd", "is not installed", "apt install openssh-server"}}, []string{"sshd_config"}},
		{"an sshd that does not answer is a warning with its reason", func(w *world) {
			w.sshErr = errors.New("Missing privilege separation directory: /run/sshd\nmore")
		}, []want{{Warning, "sshd", "was not looked at: Missing privilege separation directory: /run/sshd", "mkdir -m 0755 /run/sshd"}}, []string{"sshd_config", "more"}},
		{"internal-sftp never runs the login shell", func(w *world) {
			w.sshd("internal-sftp")
		}, []want{{Error, "sshd_config, ForceCommand none", "the sftp subsystem is sshd's own", fcLine}}, nil},
		{"with keys from jail-keys only and an external sftp, no ForceCommand is a note", func(w *world) {
			w.sshd("internal-sftp")
			w.set("subsystem", "sftp /usr/lib/openssh/sftp-server")
		}, []want{{Note, "sshd_config, ForceCommand none", "keep sshd's own sftp server", fcLine}}, nil},
		{"keys from elsewhere and no ForceCommand is a warning", func(w *world) {
			w.sshd("debian")
			w.set("authorizedkeyscommand", "/usr/lib/jail/jail-keys -- %u %t %k")
		}, []want{
			{Warning, "sshd_config, ForceCommand none", `a key with command="internal-sftp"`, fcLine},
			{Warning, "sshd_config, AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2", "a key that gets into the host's home", "AuthorizedKeysFile none"},
		}, nil},
		{"a tenant's keys and no ForceCommand is an error", func(w *world) {
			w.sshd("debian")
			w.set("authorizedkeyscommand", "/usr/lib/jail/jail-keys -- %u %t %k")
			inRootfs(w)
		}, []want{
			{Error, "sshd_config, AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2", "keys a tenant can write", "AuthorizedKeysFile none"},
			{Warning, "sshd_config, PermitUserRC yes", "~/.ssh/rc, which a tenant can write", "PermitUserRC no"},
		}, nil},
		{"a tenant's keys under ForceCommand is a warning", func(w *world) {
			inRootfs(w)
			w.set("authorizedkeysfile", "%h/.ssh/authorized_keys")
		}, []want{{Warning, "sshd_config, AuthorizedKeysFile %h/.ssh/authorized_keys", "without jail-keys' look", "AuthorizedKeysFile none"}}, nil},
		{"keys outside the home are a note", func(w *world) {
			w.set("authorizedkeysfile", "/etc/ssh/keys/%u")
		}, []want{{Warning, "sshd_config, AuthorizedKeysFile /etc/ssh/keys/%u", "refused by the jail, unless they are inside as well", "AuthorizedKeysFile none"}}, nil},
		{"keys outside the home that the registry knows of are a note", func(w *world) {
			w.set("authorizedkeysfile", "/etc/ssh/keys/%u")
			w.jails[0].Keys = wire.KeysAnywhere
		}, []want{{Note, "sshd_config, AuthorizedKeysFile /etc/ssh/keys/%u", "past the jail's authorized_keys", "AuthorizedKeysFile none"}}, nil},
		{"another program for keys is an error", func(w *world) {
			w.set("authorizedkeyscommand", "/usr/local/bin/ldap-keys %u")
		}, []want{{Error, "sshd_config, AuthorizedKeysCommand /usr/local/bin/ldap-keys %u", `with keys = "anywhere"`, "AuthorizedKeysCommand /usr/lib/jail/jail-keys -- %u %t %k"}}, nil},
		{"another program that the registry knows of is a note", func(w *world) {
			w.set("authorizedkeyscommand", "/usr/local/bin/ldap-keys %u")
			w.jails[0].Keys = wire.KeysAnywhere
		}, []want{{Note, "sshd_config, AuthorizedKeysCommand /usr/local/bin/ldap-keys %u", "was not looked at", "AuthorizedKeysCommand /usr/lib/jail/jail-keys -- %u %t %k"}}, nil},
		{"authorities of the host's are refused by the jail", func(w *world) {
			w.set("trustedusercakeys", "/etc/ssh/ca.pub")
		}, []want{{Warning, "sshd_config, TrustedUserCAKeys /etc/ssh/ca.pub", "refused by the jail, unless a line inside names it", "TrustedUserCAKeys none"}}, nil},
		{"authorities that the registry knows of enter", func(w *world) {
			w.set("trustedusercakeys", "/etc/ssh/ca.pub")
			w.jails[0].Keys = wire.KeysAnywhere
		}, []want{{Warning, "sshd_config, TrustedUserCAKeys /etc/ssh/ca.pub", "enter past the jail's authorized_keys", "TrustedUserCAKeys none"}}, nil},
		{"a ForceCommand of internal-sftp gives out the host's files", func(w *world) {
			w.sshd("forced-sftp")
		}, []want{
			{Error, "sshd_config, ForceCommand internal-sftp -d /upload", "gives out the host's files", fcLine},
			{Note, "sshd_config, DisableForwarding yes", "CVE-2025-32728", "X11Forwarding no"},
		}, []string{"AllowStreamLocalForwarding", "AllowTcpForwarding"}},
		{"X11 as the registry wants it is fine", func(w *world) {
			w.jails[0].X11 = true
			w.set("x11forwarding", "yes")
			w.set("setenv", "XAUTHORITY=/run/jail/2001/x11/authority")
			w.files["/usr/bin/xauth"] = fakeFile{}
		}, nil, []string{"X11Forwarding", "SetEnv", "XAuthLocation"}},
		{"X11 in the registry alone is told what sshd lacks", func(w *world) {
			w.jails[0].X11 = true
			w.opt.RuntimeDir = "/run/j"
		}, []want{
			{Note, "sshd_config, X11Forwarding no", "but sshd does not forward it", "X11Forwarding yes"},
			{Note, "sshd_config, SetEnv", "into the home directory on the host, or nowhere", "SetEnv XAUTHORITY=/run/j/2001/x11/authority"},
			{Note, "sshd_config, XAuthLocation /usr/bin/xauth", "is not installed", "apt install xauth"},
		}, nil},
		{"X11 without the registry's word is a warning", func(w *world) {
			w.set("x11forwarding", "yes")
			w.set("setenv", "XAUTHORITY=/run/jail/2001/x11/authority")
		}, []want{
			{Warning, "sshd_config, X11Forwarding yes", "xauth runs on the host", "X11Forwarding no"},
			{Warning, "sshd_config, SetEnv XAUTHORITY", "is set for what runs on the host", "remove XAUTHORITY from SetEnv"},
		}, nil},
		{"another XAUTHORITY is a warning", func(w *world) {
			w.jails[0].X11 = true
			w.set("setenv", "XAUTHORITY=/run/jail/2002/x11/authority")
		}, []want{{Warning, "sshd_config, SetEnv XAUTHORITY", "is set for what runs on the host", "remove XAUTHORITY from SetEnv"}}, nil},
		{"DisableForwarding of OpenSSH 10 is believed", func(w *world) {
			w.sshd("forced-sftp")
			w.vers = "OpenSSH_10.0p2 Debian-7, OpenSSL 3.5.1 1 Jul 2025\n"
			w.set("x11forwarding", "yes")
		}, nil, []string{"DisableForwarding", "X11Forwarding", "AllowAgentForwarding"}},
		{"the place of agents since OpenSSH 10.1 is judged", func(w *world) {
			w.vers = "OpenSSH_10.1p1 Debian-1, OpenSSL 3.5.1 1 Jul 2025\n"
			w.set("allowagentforwarding", "yes")
		}, []want{{Note, "sshd_config, AllowAgentForwarding yes", "a forwarded agent in /var/lib/jail/empty-home/.ssh/agent, where it can make none", "install -d -m 1777 /var/lib/jail/empty-home/.ssh/agent"}}, nil},
		{"as installed it is fine", func(w *world) {
			w.vers = "OpenSSH_10.1p1 Debian-1, OpenSSL 3.5.1 1 Jul 2025\n"
			w.set("allowagentforwarding", "yes")
			w.files["/var/lib/jail/empty-home/.ssh/agent"] = fakeFile{dir: true, mode: 0o1777}
		}, nil, []string{"can make none"}},
		{"earlier there is none to judge", func(w *world) {
			w.vers = "OpenSSH_10.0p2 Debian-7, OpenSSL 3.5.1 1 Jul 2025\n"
			w.set("allowagentforwarding", "yes")
		}, nil, []string{"can make none"}},
		{"nor where agents are not forwarded", func(w *world) {
			w.vers = "OpenSSH_10.1p1\n"
			w.set("allowagentforwarding", "no")
		}, nil, []string{"can make none"}},
		{"a home directory of the login's own gets one from sshd", func(w *world) {
			w.vers = "OpenSSH_10.1p1\n"
			w.home = "/home/alice"
			w.set("allowagentforwarding", "yes")
			w.files["/home/alice"] = fakeFile{dir: true, uid: 2001}
		}, nil, []string{"can make none"}},
		{"one of root's in another home directory is told how", func(w *world) {
			w.vers = "OpenSSH_10.1p1\n"
			w.home = "/home/alice"
			w.set("allowagentforwarding", "yes")
			w.files["/home/alice/.ssh/agent"] = fakeFile{dir: true}
		}, []want{{Note, "sshd_config, AllowAgentForwarding yes", "in /home/alice/.ssh/agent, where", "install -d -m 0700 -o alice /home/alice/.ssh/agent"}}, nil},
		{"AgentSocketPath is believed", func(w *world) {
			w.vers = "OpenSSH_10.6p1\n"
			w.set("allowagentforwarding", "yes")
			w.set("agentsocketpath", "shared:/tmp")
			w.files["/tmp"] = fakeFile{dir: true, mode: 0o1777}
		}, nil, []string{"can make none"}},
		{"and judged", func(w *world) {
			w.vers = "OpenSSH_10.6p1\n"
			w.set("allowagentforwarding", "yes")
			w.set("agentsocketpath", "user:/run/agents/%U")
		}, []want{{Note, "sshd_config, AllowAgentForwarding yes", "in /run/agents/2001, where", "install -d -m 0700 -o alice /run/agents/2001"}}, nil},
		{"another ForceCommand runs on the host", func(w *world) {
			w.shell = "/bin/dash"
			w.set("forcecommand", "/usr/bin/borg serve")
		}, []want{{Error, "sshd_config, ForceCommand /usr/bin/borg serve", "runs on the host", fcLine}}, nil},
		{"another ForceCommand runs in the jail if the shell is jail-enter", func(w *world) {
			w.set("forcecommand", "/usr/bin/borg serve")
		}, []want{{Note, "sshd_config, ForceCommand /usr/bin/borg serve", "runs in the jail", fcLine}}, nil},
		{"a ForceCommand without --forced is an error", func(w *world) {
			w.set("forcecommand", "exec /usr/bin/jail-enter")
		}, []want{{Error, "sshd_config, ForceCommand exec /usr/bin/jail-enter", "is not what jail-enter expects", fcLine}}, nil},
		{"a ForceCommand with more for the shell is an error", func(w *world) {
			w.shell = "/bin/dash"
			w.set("forcecommand", "exec /usr/bin/jail-enter --forced || sh")
		}, []want{{Error, "sshd_config, ForceCommand exec /usr/bin/jail-enter --forced || sh", "is not what jail-enter expects", fcLine}}, nil},
		{"--runtime-dir is not recognised by jail-enter as the shell", func(w *world) {
			w.set("forcecommand", "exec /usr/bin/jail-enter --runtime-dir /run/x --forced")
		}, []want{{Error, "sshd_config, ForceCommand exec /usr/bin/jail-enter --runtime-dir /run/x --forced", "is not recognised", fcLine}}, nil},
		{"a ForceCommand without exec is a note for other shells", func(w *world) {
			w.shell = "/bin/dash"
			w.set("forcecommand", "/usr/bin/jail-enter --forced")
		}, []want{{Note, "sshd_config, ForceCommand /usr/bin/jail-enter --forced", "without exec", fcLine}}, nil},
		{"an open sshd is told all of it", func(w *world) {
			w.sshd("open")
			w.hash = "$y$j9T$x"
		}, []want{
			{Error, "sshd_config, AllowStreamLocalForwarding remote", "makes sockets on the host", "AllowStreamLocalForwarding no"},
			{Error, "sshd_config, PermitTunnel point-to-point", "network device", "PermitTunnel no"},
			{Error, "sshd_config, PermitUserEnvironment LANG,LD_*", "LD_PRELOAD", "PermitUserEnvironment no"},
			{Error, "sshd_config, AcceptEnv *", "LD_PRELOAD", "AcceptEnv LANG LC_* COLORTERM GIT_PROTOCOL"},
			{Error, "sshd_config, ChrootDirectory /srv/jails/web/rootfs", "tenant's making", "ChrootDirectory none"},
			{Error, "sshd_config, ForceCommand none", "sshd's own", fcLine},
			{Warning, "sshd_config, SetEnv BASH_ENV", "runs on the host before", "remove BASH_ENV from SetEnv"},
			{Warning, "sshd_config, GatewayPorts clientspecified", "every address", "GatewayPorts no"},
			{Warning, "sshd_config, X11Forwarding yes", "xauth", "X11Forwarding no"},
			{Warning, "sshd_config, HostbasedAuthentication yes", "another host's word", "HostbasedAuthentication no"},
			{Warning, "sshd_config, GSSAPIAuthentication yes", "k5login", "GSSAPIAuthentication no"},
			{Warning, "sshd_config, TrustedUserCAKeys /etc/ssh/ca.pub", "force-command=internal-sftp", "TrustedUserCAKeys none"},
			{Warning, "sshd_config, AuthorizedPrincipalsFile .ssh/principals", "whose certificates enter", "AuthorizedPrincipalsFile none"},
			{Warning, "sshd_config, StrictModes no", "whoever can write", "StrictModes yes"},
			{Warning, "sshd_config, PasswordAuthentication yes", "may be guessed", "AuthenticationMethods publickey in their Match block"},
			{Warning, "sshd_config, KbdInteractiveAuthentication yes", "may be guessed", "AuthenticationMethods publickey in their Match block"},
			{Note, "sshd_config, AuthorizedKeysCommand /usr/local/bin/ldap-keys %u", "was not looked at", "AuthorizedKeysCommand /usr/lib/jail/jail-keys -- %u %t %k"},
			{Note, "sshd_config, AllowTcpForwarding yes", "127.0.0.1", "AllowTcpForwarding no"},
			{Note, "sshd_config, AllowAgentForwarding yes", "forwarded agent", "AllowAgentForwarding no"},
			{Note, "sshd_config, PermitUserRC yes", "~/.ssh/rc", "PermitUserRC no"},
			{Note, "sshd_config, MaxSessions 50", "50 sessions", "MaxSessions 10"},
		}, nil},
		{"stream forwarding by default is an error", func(w *world) {
			w.set("allowstreamlocalforwarding", "yes")
		}, []want{{Error, "sshd_config, AllowStreamLocalForwarding yes", "any unix socket of the host", "AllowStreamLocalForwarding no"}}, nil},
		{"ExposeAuthInfo no costs the command= of keys", func(w *world) {
			w.set("exposeauthinfo", "no")
		}, []want{{Note, "sshd_config, ExposeAuthInfo no", "command=", "ExposeAuthInfo yes"}}, nil},
		{"ExposeAuthInfo no costs all logins where keys are anywhere", func(w *world) {
			w.set("exposeauthinfo", "no")
			w.jails[0].Keys = wire.KeysAnywhere
		}, []want{{Error, "sshd_config, ExposeAuthInfo no", "every login is refused", "ExposeAuthInfo yes"}}, nil},
		{"an AcceptEnv of one dangerous name is an error", func(w *world) {
			w.set("acceptenv", "BASH_ENV")
		}, []want{{Error, "sshd_config, AcceptEnv BASH_ENV", "sets BASH_ENV", "AcceptEnv LANG LC_* COLORTERM GIT_PROTOCOL"}}, nil},
		{"what env_accept lists sshd has to let in", func(w *world) {
			w.jails[0].EnvAccept = []string{"BAR_*", "FOO", "LC_APP"}
		}, []want{{Note, "sshd_config, AcceptEnv", "env_accept of jail web lists, BAR_*, FOO, so", "AcceptEnv BAR_* FOO"}}, nil},
		{"what env_accept lists and sshd lets in is nothing to speak of", func(w *world) {
			w.set("acceptenv", "BAR*")
			w.jails[0].EnvAccept = []string{"BAR_*"}
		}, nil, []string{"env_accept"}},
		{"a password behind a key is no way in without a key", func(w *world) {
			w.hash = "$y$j9T$x"
			w.set("authenticationmethods", "publickey,password publickey,keyboard-interactive:pam")
		}, nil, []string{"Authentication"}},
		{"a list of methods without a key is a way in", func(w *world) {
			w.hash = "$y$j9T$x"
			w.set("authenticationmethods", "publickey password")
		}, []want{{Warning, "sshd_config, PasswordAuthentication yes", "may be guessed", "AuthenticationMethods publickey in their Match block"}}, nil},
		{"a locked password without PAM is no way in", func(w *world) {
			w.set("usepam", "no")
		}, nil, []string{"PasswordAuthentication", "pam.d/sshd"}},
		{"jail-keys that is not told the login finds nothing", func(w *world) {
			w.set("authorizedkeyscommand", "/usr/lib/jail/jail-keys -- %k")
		}, []want{{Error, "sshd_config, AuthorizedKeysCommand /usr/lib/jail/jail-keys -- %k", "not told the login", "AuthorizedKeysCommand /usr/lib/jail/jail-keys -- %u %t %k"}}, nil},
		{"jail-keys as the login cannot read the keys of a mapped jail", func(w *world) {
			w.set("authorizedkeyscommanduser", "%u")
		}, []want{{Warning, "sshd_config, AuthorizedKeysCommandUser %u", "does not become the keys' owner", "AuthorizedKeysCommandUser root"}}, nil},
		{"jail-keys as the login may do in root mode", func(w *world) {
			w.set("authorizedkeyscommanduser", "%u")
			w.jails[0].Userns = jail.Userns{}
		}, []want{{Note, "sshd_config, AuthorizedKeysCommandUser %u", "only what the login itself may read", "AuthorizedKeysCommandUser root"}}, nil},
		{"without any source of keys nobody enters", func(w *world) {
			w.set("authorizedkeyscommand", "none")
		}, []want{{Note, "sshd_config, AuthorizedKeysCommand none", "no key enters", "AuthorizedKeysCommand /usr/lib/jail/jail-keys -- %u %t %k"}}, nil},
		{"a Match on addresses is not the whole story", func(w *world) {
			w.files["/etc/ssh/sshd_config"] = fakeFile{text: "Port 22\nMatch User alice Address 10.0.0.0/8\n"}
		}, []want{{Note, "/etc/ssh/sshd_config:2", "where Match User alice Address 10.0.0.0/8 applies", "sshd -T -C user=LOGIN,host=NAME,addr=ADDRESS,laddr=ADDRESS,lport=PORT"}}, nil},

		// PAM, cron and systemd.
		{"pam_systemd and a tenant's home is a warning", inRootfs,
			[]want{{Warning, "/etc/pam.d/common-session:3", "systemd --user", "systemctl mask user@$(id -u alice).service"}}, nil},
		{"a masked user manager runs nothing", func(w *world) {
			inRootfs(w)
			w.files["/etc/systemd/system/user@2001.service"] = fakeFile{link: "/dev/null"}
		}, nil, []string{"systemd"}},
		{"a module in a substack that uses the home directory is found", func(w *world) {
			w.files["/etc/pam.d/su"] = fakeFile{text: "auth [success=1 default=ignore] \\\n pam_permit.so\nauth substack extra\n"}
			w.files["/usr/lib/pam.d/extra"] = fakeFile{text: "-auth [a=1 b=2] /lib/security/pam_google_authenticator.so nullok # x\n"}
		}, []want{{Note, "/usr/lib/pam.d/extra:1", "pam_google_authenticator uses ~/.google_authenticator",
			"write before it: auth [success=1 default=ignore] pam_succeed_if.so quiet shell = /usr/bin/jail-enter"}}, nil},
		{"a circle of includes ends", func(w *world) {
			w.files["/etc/pam.d/su"] = fakeFile{text: "@include su\n"}
		}, nil, nil},
		{"cron is open to everybody without a list", func(w *world) {
			w.files["/usr/bin/crontab"] = fakeFile{}
			w.files["/usr/bin/at"] = fakeFile{}
		}, []want{{Note, "/etc/cron.deny", "cron runs the login's commands on the host", "echo alice >>/etc/cron.deny"}}, []string{"at.deny"}},
		{"a login in cron.allow and not in at.deny is told", func(w *world) {
			w.files["/usr/bin/crontab"] = fakeFile{}
			w.files["/usr/bin/at"] = fakeFile{}
			w.files["/etc/cron.allow"] = fakeFile{text: "root\nalice\n"}
			w.files["/etc/at.deny"] = fakeFile{text: "bob\n"}
		}, []want{
			{Note, "/etc/cron.allow", "cron runs", `sed -i "/^alice\$/d" /etc/cron.allow`},
			{Note, "/etc/at.deny", "at runs", "echo alice >>/etc/at.deny"},
		}, nil},
		{"a login denied cron and at is not told", func(w *world) {
			w.files["/usr/bin/crontab"] = fakeFile{}
			w.files["/usr/bin/at"] = fakeFile{}
			w.files["/etc/cron.deny"] = fakeFile{text: "alice\n"}
			w.files["/etc/at.allow"] = fakeFile{text: "root\n"}
		}, nil, []string{"cron", "/etc/at"}},
		{"a crontab there is is a warning", func(w *world) {
			w.files["/var/spool/cron/crontabs/alice"] = fakeFile{}
		}, []want{{Warning, "/var/spool/cron/crontabs/alice", "commands run on the host", "crontab -r -u alice"}}, nil},
		{"a lingering user manager is a warning", func(w *world) {
			w.files["/var/lib/systemd/linger/alice"] = fakeFile{}
		}, []want{{Warning, "/var/lib/systemd/linger", "systemd --user", "loginctl disable-linger alice"}}, nil},

		// Limits on files.
		{"a file system without project quotas is an error where there are limits", func(w *world) { w.jails[0].Limits.Files = 10 },
			[]want{{Error, "/srv/jails/web/rootfs", "keeps no project quotas, so limits.disk and limits.files cannot be kept and the jail does not start", "mount it with prjquota (ext4, after tune2fs -O project,quota) or pquota (xfs)"}}, nil},
		{"one that does not answer is, too", func(w *world) { w.jails[0].Limits.DiskBytes, w.quotaErr = 10, quota.ErrSilent },
			[]want{{Error, "/srv/jails/web/rootfs", "cannot be looked at, so it is not known whether limits.disk and limits.files are kept: its file system does not answer", "check the file system"}}, nil},
		{"room below a limit is fine", func(w *world) {
			w.jails[0].Limits.DiskBytes, w.jails[0].Limits.Files, w.quota = 100<<20, 100, quota.Looked{Kept: true, Use: quota.Use{Bytes: 94 << 20, Files: 94}}
		}, nil, []string{"/srv/jails/web/rootfs"}},
		{"a jail at its limit is worth a warning", func(w *world) {
			w.jails[0].Limits.DiskBytes, w.quota = 100<<20, quota.Looked{Kept: true, Use: quota.Use{Bytes: 95 << 20, Files: 3}}
		}, []want{{Warning, "/srv/jails/web/rootfs", "has 97280 KiB and 3 files, and so is nearly at its limit", "remove files there, or raise limits"}}, nil},
		{"no limit is none to keep", func(w *world) {}, nil, []string{"quota"}},

		// The kernel.
		{"an old kernel is an error", func(w *world) {
			w.kernel = Kernel{Release: "5.10.0-28-amd64", Cgroups: "/sys/fs/cgroup/x", Controllers: []string{"cpu", "memory", "pids"}}
		}, []want{
			{Error, "kernel 5.10.0-28-amd64", "takes Linux 5.14", "boot Linux 5.14 or later, best 6.12"},
			{Warning, "kernel 5.10.0-28-amd64", "abstract unix sockets", "boot Linux 6.12 or later"},
		}, nil},
		{"a new kernel without Landlock is told how to switch it on", func(w *world) {
			w.kernel.LandlockABI = 0
		}, []want{{Warning, "kernel 6.12.0", "abstract unix sockets", "add landlock to lsm= on the kernel's command line"}}, nil},
		{"no user namespaces is an error where jails want them", func(w *world) {
			w.files["/proc/sys/user/max_user_namespaces"] = fakeFile{text: "0\n"}
		}, []want{{Error, "sysctl user.max_user_namespaces", "do not start: web", "sysctl -w user.max_user_namespaces=65536"}}, nil},
		{"no user namespaces does not matter in root mode", func(w *world) {
			w.files["/proc/sys/user/max_user_namespaces"] = fakeFile{text: "0\n"}
			w.jails[0].Userns = jail.Userns{}
		}, nil, []string{"sysctl"}},
		{"a core_pattern that the limit on core files does not hold is a warning", func(w *world) {
			w.files["/proc/sys/kernel/core_pattern"] = fakeFile{text: "@/run/systemd/coredump\n"}
		}, []want{{Warning, "sysctl kernel.core_pattern", "whatever the limit on core files", "sysctl -w kernel.core_pattern=core, or a pattern that begins with |, which jails do not reach"}}, nil},
		{"others are not", func(w *world) {
			w.files["/proc/sys/kernel/core_pattern"] = fakeFile{text: "|/lib/systemd/systemd-coredump %P\n"}
		}, nil, []string{"core_pattern"}},
		{"limits without cgroup2 are an error", func(w *world) {
			w.kernel.Cgroups, w.kernel.NoCgroups, w.kernel.CgroupsFix = "", "is not the unified hierarchy (cgroup2)", "do this"
			w.jails[0].Limits.CPUPercent = 10
		}, []want{{Error, "/sys/fs/cgroup", "is not the unified hierarchy (cgroup2), so limits cannot be kept and these jails do not start: web", "do this"}}, nil},
		{"so is that on processes in root mode", func(w *world) {
			w.kernel.Cgroups, w.kernel.NoCgroups, w.kernel.CgroupsFix = "", "is not the unified hierarchy (cgroup2)", "do this"
			w.jails[0].Userns = jail.Userns{}
			w.jails[0].Limits.Pids = 10
		}, []want{{Error, "/sys/fs/cgroup", "these jails do not start: web", "do this"}}, nil},
		{"in a user namespace it is kept without", func(w *world) {
			w.kernel.Cgroups = ""
			w.jails[0].Limits.Pids = 10
		}, nil, []string{"cgroup"}},
		{"and so is the default", func(w *world) {
			w.kernel.Controllers = nil
		}, nil, []string{"cgroup"}},
		{"the default limit on processes is missed without cgroup2", func(w *world) {
			w.kernel.Cgroups, w.kernel.NoCgroups, w.kernel.CgroupsFix = "", "is not the unified hierarchy (cgroup2)", "do this"
			w.jails[0].Userns = jail.Userns{}
		}, []want{{Warning, "/sys/fs/cgroup", "a fork bomb in one takes the host along: web", "do this"}}, nil},
		{"who wants no limit misses none", func(w *world) {
			w.kernel.Cgroups = ""
			w.jails[0].Limits.PidsUnlimited = true
		}, nil, []string{"cgroup"}},
		{"a jail with a unit of its own has its cgroup there", func(w *world) {
			w.kernel.Cgroups = ""
			w.jails[0].Limits.Pids = 10
			w.files[fmt.Sprintf("/etc/systemd/system/multi-user.target.wants/jail@%d.socket", w.jails[0].Logins[0].HostUID)] = fakeFile{}
		}, nil, []string{"cgroup"}},
		{"the default limit on processes is missed without its controller", func(w *world) {
			w.kernel.Controllers = []string{"cpu", "memory"}
			w.jails[0].Userns = jail.Userns{}
		}, []want{{Warning, "/sys/fs/cgroup/x/cgroup.controllers", "there is no pids controller", "boot a kernel that has the pids controller"}}, nil},
		{"a limit without its controller is an error", func(w *world) {
			w.kernel.Controllers = []string{"cpu", "pids"}
			w.jails[0].Limits = jail.Limits{MemoryBytes: 1 << 30, Pids: 10}
		}, []want{{Error, "/sys/fs/cgroup/x/cgroup.controllers", "no memory controller", "boot a kernel that has the memory controller"}}, []string{"no pids"}},
		{"a share of the disk without its controller is an error", func(w *world) {
			w.jails[0].Limits = jail.Limits{IOWeight: 50}
		}, []want{{Error, "/sys/fs/cgroup/x/cgroup.controllers", "no io controller, so limits.io_weight cannot be kept", "boot a kernel that has the io controller"}}, nil},
		{"a controller that the unit was not given is another matter", func(w *world) {
			w.kernel.Controllers = []string{"cpu", "pids"}
			w.files["/sys/fs/cgroup/cgroup.controllers"] = fakeFile{text: "cpu memory pids\n"}
			w.jails[0].Limits = jail.Limits{MemoryBytes: 1 << 30, Pids: 10}
		}, []want{{Error, "/sys/fs/cgroup/x/cgroup.controllers", "no memory controller", "Delegate=yes in the unit"}}, []string{"no pids"}},
		{"an sshd without the block is one error", func(w *world) {
			w.sshd("debian")
			w.group = "jailed:x:77:alice\n"
		}, []want{{Error, "sshd_config", "the block for jails is not installed", "jail setup, and usermod -aG jailed alice"}},
			[]string{"gpasswd", "sshd_config, "}},
		{"a login outside the block's group is one error", func(w *world) {
			w.sshd("debian")
			w.files["/etc/ssh/sshd_config"] = fakeFile{text: "Match Group jailed\n\tForceCommand exec /usr/bin/jail-enter --forced\n"}
		}, []want{{Error, "/etc/ssh/sshd_config:2", "sends members of group jailed", "usermod -aG jailed alice"}}, []string{"sshd_config, "}},
		{"a login of a group that the block is not for yet", func(w *world) {
			w.sshd("debian")
			w.group = "students:x:78:alice\n"
			w.blocks = map[string]config.Block{"web": {Match: `group = "students"`}}
			w.files["/etc/ssh/sshd_config"] = fakeFile{text: "Match Group jailed\n\tForceCommand exec /usr/bin/jail-enter --forced\n"}
		}, []want{{Error, "/etc/ssh/sshd_config:2", `sends members of group jailed into their jails, and those of the [[match]] group = "students" not`, "jail setup"}},
			[]string{"usermod", "sshd_config, "}},
		{"a block that is for the login and not followed", func(w *world) {
			w.sshd("debian")
			w.group = "jailed:x:77:alice\n"
			w.files["/etc/ssh/sshd_config"] = fakeFile{text: "ForceCommand none\nMatch Group a,jailed\n\tForceCommand exec /usr/bin/jail-enter --forced\n"}
		}, []want{{Error, "/etc/ssh/sshd_config:3", "another ForceCommand comes first", "sshd -T -C " + connection("alice")}}, nil},
		{"a block for others", func(w *world) {
			w.sshd("debian")
			w.files["/etc/ssh/sshd_config"] = fakeFile{text: "Match User bob\n\tForceCommand exec /usr/bin/jail-enter --forced\n"}
		}, []want{{Error, "/etc/ssh/sshd_config:2", "not this login", "have its Match apply to alice"}}, nil},
		{"the group of the block is not one to leave", func(w *world) { w.group = "jailed:x:77:alice\n" }, nil, []string{"gpasswd"}},
		{"nor is the one a jail is made by", func(w *world) {
			w.group = "students:x:78:alice\nvideo:x:44:alice\nwork:x:79:alice\n"
			w.blocks = map[string]config.Block{"web": {Match: `group = "students"`}}
			w.jails[0].Source.Groups = []jail.Group{{Name: "work", GID: 79}}
		}, []want{
			{Note, "/etc/group, video", "it is not known inside", "gpasswd -d alice video"},
			{Note, "/etc/group, work", "inside it counts for mounts", "gpasswd -d alice work"},
		}, []string{"gpasswd -d alice students"}},
		{"DenyUsers", func(w *world) { w.set("denyusers", "bob a*") },
			[]want{{Error, "sshd_config, DenyUsers", "refuses", "take alice out of DenyUsers"}}, nil},
		{"DenyUsers of a place", func(w *world) { w.set("denyusers", "alice@10.0.0.1") }, nil, []string{"DenyUsers"}},
		{"AllowUsers without the login", func(w *world) { w.set("allowusers", "bob") },
			[]want{{Error, "sshd_config, AllowUsers", "does not list", "AllowUsers bob alice"}}, nil},
		{"AllowUsers with the login from a place", func(w *world) { w.set("allowusers", "bob ali?e@10.*") }, nil, []string{"AllowUsers"}},
		{"AllowGroups without one of the login's", func(w *world) { w.set("allowgroups", "staff") },
			[]want{{Error, "sshd_config, AllowGroups", "none of the login's groups", "AllowGroups staff jailed"}}, nil},
		{"AllowGroups with the primary one", func(w *world) { w.set("allowgroups", "staff al*") }, nil, []string{"AllowGroups"}},
		{"AllowGroups where a directory has groups", func(w *world) {
			w.set("allowgroups", "staff")
			w.files["/etc/nsswitch.conf"] = fakeFile{text: "passwd: files\ngroup: files [SUCCESS=merge] ldap # x\n"}
		}, nil, []string{"AllowGroups"}},
		{"AllowGroups where systemd has those of services", func(w *world) {
			w.set("allowgroups", "staff")
			w.files["/etc/nsswitch.conf"] = fakeFile{text: "passwd: files systemd\ngroup: files [SUCCESS=merge] systemd\n"}
		}, []want{{Error, "sshd_config, AllowGroups", "none of the login's groups", "AllowGroups staff jailed"}}, nil},
		{"DenyGroups", func(w *world) { w.set("denygroups", "st*"); w.group = "staffs:x:51:alice\n" },
			[]want{{Error, "sshd_config, DenyGroups", "refuses a group", "sshd -T -C " + connection("alice") + " | grep -i denygroups; id alice"}}, nil},
		{"a locked account without PAM", func(w *world) { w.set("usepam", "no") },
			[]want{{Error, "/etc/shadow, password", "is locked with !", "usermod -p '*' alice"}}, nil},
		{"an account with no password without PAM", func(w *world) { w.set("usepam", "no"); w.hash = "*" }, nil, []string{"is locked with"}},
		{"an expired account", func(w *world) { w.expire = "19999" },
			[]want{{Error, "/etc/shadow, expiry", "has expired (day 19999", "chage -E -1 alice"}}, nil},
		{"an account that expires today", func(w *world) { w.expire = "20000" }, nil, []string{"expired"}},
		{"an account shut for its password", func(w *world) { w.age, w.expire = "19000:0:900:7:99", ":" },
			[]want{{Error, "/etc/shadow, inactive", "the account is shut", "chage -I -1 -M -1 alice"}}, nil},
		{"a password too old by less", func(w *world) { w.age, w.expire = "19000:0:900:7:100", ":" }, nil, []string{"is shut"}},
		{"a host that is shut", func(w *world) { w.files["/run/nologin"] = fakeFile{} },
			[]want{{Error, "/run/nologin", "nobody but root", "rm /run/nologin"}}, nil},
		{"the kernel is all that a rootless registry depends on", func(w *world) {
			w.opt.Rootless = true
			w.sshd("open")
			w.kernel.LandlockABI = 5
			w.files["/proc/sys/kernel/unprivileged_userns_clone"] = fakeFile{text: "0\n"}
		}, []want{
			{Error, "sysctl kernel.unprivileged_userns_clone", "do not start: web", "sysctl -w kernel.unprivileged_userns_clone=1"},
			{Warning, "kernel 6.12.0", "abstract", "boot Linux 6.12 or later"},
		}, []string{"sshd", "pam", "passwd"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.host(w)
			found := w.run()
			all := lines(found)
			for _, x := range tc.want {
				ok := slices.ContainsFunc(found, func(f Finding) bool {
					return f.Severity == x.sev && f.Where == x.where && strings.Contains(f.What, x.what) && f.Fix == x.fix
				})
				assert.True(t, ok, "no %v %q %q %q in\n%s", x.sev, x.where, x.what, x.fix, all)
			}
			for _, x := range tc.not {
				assert.NotContains(t, strings.ReplaceAll(all, "PasswordAuthentication yes: the account's password is locked, so only a PAM module that asks elsewhere lets somebody in without a key; fix: AuthenticationMethods publickey in their Match block", "-"), x)
			}
		})
	}
}

func TestFindingsOfSeveralLoginsAreOne(t *testing.T) {
	w := newWorld(t)
	w.jails[0].Logins = append(w.jails[0].Logins, jail.Login{Name: "bob", HostUID: 2002, UID: 1001})
	w.shell = "/bin/bash"
	found := w.run()
	require.NotEmpty(t, found)
	assert.Equal(t, "alice, bob", found[0].Login)
	assert.Equal(t, "for u in alice bob; do usermod -s /usr/bin/jail-enter $u; done", found[0].Fix)
	assert.True(t, slices.IsSortedFunc(found, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) }))
}

// What is the same of the homes of many, a class in cages above all, is a line.
func TestHomesOfSeveralLoginsAreOne(t *testing.T) {
	w := newWorld(t)
	w.run()
	cage := func(name string, uid int, home string) jail.Spec {
		w.files[home] = fakeFile{dir: true, uid: uint32(uid)}
		return jail.Spec{Name: name, Source: jail.Source{Kind: jail.Host, Home: home, Prepared: "/run/jail/host/root"},
			Logins: []jail.Login{{Name: name, HostUID: jail.HostUID(uid), UID: jail.UID(uid)}}}
	}
	audit := func(homes ...string) string {
		var jails []jail.Spec
		passwd := "root:x:0:0::/root:/bin/sh\n"
		for i, home := range homes {
			name := fmt.Sprintf("s%d", i)
			jails = append(jails, cage(name, 3000+i, home))
			passwd += fmt.Sprintf("%s:x:%d:3000::%s:/usr/bin/jail-enter\n", name, 3000+i, home)
		}
		o := Options{Passwd: []byte(passwd), Group: []byte("root:x:0:\n"), Shadow: []byte{}, Kernel: &w.kernel, files: w.files,
			Effective: func(string) (string, error) { return w.ssh, nil }, Version: func() string { return w.vers },
			JailEnter: []string{"/usr/bin/jail-enter"}, JailKeys: "/usr/lib/jail/jail-keys"}
		var about []string
		for line := range strings.Lines(lines(Run(&config.Registry{Jails: jails}, o))) {
			if strings.Contains(line, "home-in-jail") {
				about = append(about, line)
			}
		}
		require.Len(t, about, 1)
		return about[0]
	}
	one := audit("/home/s0")
	assert.Contains(t, one, "s0: /etc/passwd, home directory: /home/s0 is the cage of jail s0, whose")
	assert.Contains(t, one, `give the login home = "/home/s0" in`)
	many := audit("/home/s0", "/home/s1", "/home/s2")
	assert.Contains(t, many, "s0, s1, s2: /etc/passwd, home directory: /home/{user} is the cage of jail s0, s1, s2, whose")
	assert.Contains(t, many, `give the login home = "/home/{user}" in`, "as a template of the registry has it")
	assert.Contains(t, many, "for u in s0 s1 s2; do usermod -d /var/lib/jail/empty-home $u; done")
	assert.Contains(t, audit("/home/s0", "/home/others/s1"), "directory: /home/others/s1, /home/s0 is the cage")
}

func TestALineStaysALine(t *testing.T) {
	f := Finding{Severity: Error, ID: "x", Login: "alice", Where: "/srv/\x1b[2J\n", What: `a "word" and a \`}
	assert.Equal(t, `error: alice: /srv/\x1b[2J\n: a "word" and a \ [x]`, f.String())
}

func TestARegistryWithFaultsHasNoLogins(t *testing.T) {
	w := newWorld(t)
	w.jails = nil
	w.sshErr = errors.New("is not asked")
	assert.Empty(t, w.run())
	assert.Empty(t, Run(nil, Options{Kernel: &w.kernel, files: w.files, Passwd: []byte(""), Group: []byte(""), Shadow: []byte("")}))
}

func TestWalkEndsInACircleOfLinks(t *testing.T) {
	f := fakeFS{"/a": {link: "/b"}, "/b": {link: "a"}}
	got := walk(f, "/a")
	assert.ErrorIs(t, got.err, unix.ELOOP)
}

func TestMatchPattern(t *testing.T) {
	for pattern, want := range map[string]bool{"*": true, "LD_*": true, "LD_?RELOAD": true, "*PRE*": true, "LC_*": false, "LD_PRELOA": false, "LD_PRELOAD?": false, "": false} {
		assert.Equal(t, want, matchPattern(pattern, "LD_PRELOAD"), pattern)
	}
}

func TestTheSFTPServerIsLookedAt(t *testing.T) {
	const path = "/usr/lib/jail/sftp-server"
	about := func(w *world) (out []Finding) {
		w.opt.SFTPServer = path
		for _, f := range w.run() {
			if f.Where == path {
				out = append(out, f)
			}
		}
		return out
	}
	w := newWorld(t)
	missing := about(w)
	require.Len(t, missing, 1)
	assert.Equal(t, Warning, missing[0].Severity)
	assert.Contains(t, missing[0].What, "does not exist")
	w.jails[0].SFTP = wire.SFTPRootfs
	assert.Empty(t, about(w), "no jail wants it")
	w.jails[0].SFTP = wire.SFTPBuiltin
	w.files[path] = fakeFile{}
	assert.Empty(t, about(w))
	w.files[path] = fakeFile{uid: 1000}
	foreign := about(w)
	require.Len(t, foreign, 1)
	assert.Equal(t, Error, foreign[0].Severity)
}

// An account that systemd may give to a service, and one of a directory.
func TestAccountsOfOddPlaces(t *testing.T) {
	w := newWorld(t)
	w.jails[0].Logins = append(w.jails[0].Logins, jail.Login{Name: "dyn", HostUID: 61184, UID: 1}, jail.Login{Name: "low", HostUID: 61183, UID: 2}, jail.Login{Name: "ldap", HostUID: 70000, UID: 3})
	w.run() // fills in what it does for a world
	a := Options{
		Passwd: []byte("root:x:0:0::/root:/bin/sh\ndyn:x:61184:61184::/:/usr/bin/jail-enter\nlow:x:61183:61183::/:/usr/bin/jail-enter\n"),
		Group:  []byte("root:x:0:\n"), Shadow: []byte{}, Effective: func(string) (string, error) { return w.ssh, nil }, Version: func() string { return w.vers },
		Kernel: &w.kernel, files: w.files, JailEnter: []string{"/usr/bin/jail-enter"}, JailKeys: "/usr/lib/jail/jail-keys",
	}
	reg := &config.Registry{Jails: w.jails, Accounts: []config.Account{{Name: "ldap", UID: 70000, GID: 70000, Home: "/", Shell: "/bin/zsh"}}}
	out := lines(Run(reg, a))
	assert.Contains(t, out, "note: dyn: /etc/passwd, uid: uids from 61184 to 65519 are those systemd gives to services with DynamicUser=")
	assert.NotContains(t, out, "low: /etc/passwd, uid")
	assert.Contains(t, out, "ldap: /etc/passwd, shell: /bin/zsh ")
}

// Whatever a service's file holds, every line found is one of it, and reading ends.
func FuzzPAM(f *testing.F) {
	f.Add([]byte(pamSSHD))
	f.Add([]byte("auth [a=b c=d] pam_x.so arg \\\n more # x\n@include sshd\nauth include sshd\n-session\toptional /lib/pam_y.so"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Count(string(text), "include") > 2 || strings.Count(string(text), "substack") > 2 {
			return // ten deep, each twice
		}
		a := &auditor{files: fakeFS{"/p/sshd": {text: string(text)}}, opt: Options{PAMDirs: []string{"/p"}}}
		a.readPAM("sshd", "sshd", 0)
		for _, p := range a.pam {
			if p.service != "sshd" || !strings.HasPrefix(p.where, "/p/sshd:") || strings.ContainsAny(p.text, "\n") {
				t.Fatalf("%+v", p)
			}
		}
	})
}

// What can be acknowledged has a name that stays, and somewhere to read what it is.
func TestEveryFindingHasAnIDThatIsDocumented(t *testing.T) {
	used := map[string]bool{}
	var sources []string
	for _, dir := range []string{".", "../inside", "../admin"} {
		found, err := filepath.Glob(dir + "/*.go")
		require.NoError(t, err)
		sources = append(sources, found...)
	}
	for _, f := range sources {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?:\.add(?:Jail)?\(\w+, [\w.]+, |say\(audit\.\w+, |remark\(audit\.\w+, |ID: |r\.ID = audit\.\w+, )"([a-z0-9-]+[a-z0-9])"`).FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
		}
	}
	for _, r := range sshRules() {
		used["sshd-"+strings.ToLower(r.option)] = true
	}
	manual, err := os.ReadFile("../../docs/man/jail-check.7")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (\S+)$`).FindAllStringSubmatch(string(manual), -1) {
		assert.True(t, used[m[1]], "jail-check(7) has %s, which is no finding", m[1])
		delete(used, m[1])
	}
	assert.Empty(t, used, "not in jail-check(7)")
}
