package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/jail"
	root "jail/internal/source"
)

// cageText is a registry with one cage, and lines added to it.
func cageText(lines string) string {
	return "version = 1\n[jail.web]\nrootfs = \"host\"\nusers = [\"alice\"]\n" + lines
}

// TestCage: one line makes a cage around the account's home, with the account's ids.
func TestCage(t *testing.T) {
	reg, errs := load(t, testOptions(), cageText("show = [\"/var/lib/dpkg\", \"/run/postgresql\"]\n")+
		"[defaults]\nshow = [\"/var/cache/man\"]\nhide = [\"/usr/games\"]\n"+
		"[jail.plain]\nrootfs = \"/srv/plain\"\nusers = [\"bob\"]\n")
	require.Empty(t, errs)
	cage := reg.Jail("web")
	assert.Equal(t, jail.Source{
		Kind: jail.Host, Home: "/home/alice", Group: "alice", Groups: []jail.Group{{Name: "users", GID: 100}}, Prepared: "/run/jail/host/root",
		Show: []string{"/run/postgresql", "/var/cache/man", "/var/lib/dpkg"}, Hide: []string{"/usr/games"},
	}, cage.Source)
	assert.Equal(t, []jail.Login{{Name: "alice", HostUID: 1501, UID: 1501, GID: 1501, HasGID: true, JailName: "alice", Home: "/home/alice"}}, cage.Logins)
	assert.True(t, cage.OwnResolver && cage.OwnHosts, "what is prepared follows the host")
	assert.Equal(t, jail.Source{Path: "/srv/plain"}, reg.Jail("plain").Source, "the defaults of cages are no other's")

	reg, errs = load(t, testOptions(), "version = 1\n[jail.web]\nrootfs = \"host\"\n[jail.web.users.centos]\nname = \"c\"\nshell = \"/bin/zsh\"\nhome = \"/srv/homes/c\"\n")
	require.Empty(t, errs)
	assert.Equal(t, "/srv/homes/c", reg.Jails[0].Source.Home)
	assert.Equal(t, "centos", reg.Jails[0].Source.Group)
	assert.Equal(t, []jail.Login{{Name: "centos", HostUID: 1500, UID: 1500, GID: 1500, HasGID: true, JailName: "c", Home: "/srv/homes/c", Shell: "/bin/zsh"}}, reg.Jails[0].Logins)
}

// TestHiddenInCagesOnly: plan says of no other jail that it hides what the defaults hide in cages.
func TestHiddenInCagesOnly(t *testing.T) {
	opt := testOptions()
	for name, shows := range map[string]bool{"web": true, "plain": false} {
		opt.Explain = name
		reg, errs := load(t, opt, cageText("")+"[defaults]\nshow = [\"/var/cache/man\"]\nhide = [\"/usr/games\"]\n[jail.plain]\nrootfs = \"/srv/plain\"\nusers = [\"bob\"]\n")
		require.Empty(t, errs)
		all := fmt.Sprint(reg.Explained.Settings)
		for _, dir := range []string{"/var/cache/man", "/usr/games"} {
			assert.Equal(t, shows, strings.Contains(all, dir), "%s: %s", name, all)
		}
	}
}

// TestWhatIsNoCage: each fault is one line that says what to do, and the jail is out of
// service.
func TestWhatIsNoCage(t *testing.T) {
	for lines, want := range map[string]string{
		"container_root = true\nuserns = false": "container_root: cannot be in a cage of the host",
		`resolv_conf = "rootfs"`:                "resolv_conf: is for a rootfs of its own",
		`hosts = "rootfs"`:                      "hosts: is for a rootfs of its own",
		"uid = 1600":                            "uid: must be the account's own, 1501,",
		"gid = 100":                             "gid: must be the account's own, 1501,",
		`mounts = [ { source = "/srv/a", target = "/usr/local/a" } ]`: "target: /usr/local/a is the host's in a cage",
		`mounts = [ { source = "/srv/a", target = "/lib/a" } ]`:       "target: /lib/a is the host's in a cage",
		`mounts = [ { source = "/srv/a", target = "/etc/a" } ]`:       "target: /etc/a is the host's in a cage",
		`mounts = [ { source = "/srv/a", target = "/home" } ]`:        "target: /home would hide the home /home/alice",
		`show = ["/usr/share/doc"]`:                                   "show: /usr/share/doc is shown anyway",
		`show = ["/etc/shadow"]`:                                      "show: /etc/shadow is none to show",
		`show = ["/"]`:                                                "show: / is none to show",
		`show = ["/run"]`:                                             "show: /run is none to show",
		`show = ["/proc/sys"]`:                                        "show: /proc/sys is none to show",
		`show = ["/var"]`:                                             "show: /var has what is the cage's own",
		`show = ["/root/x"]`:                                          "show: /root/x has what is the cage's own",
		`show = ["/home"]`:                                            "show: /home is the cage's home, in it or around it",
		`show = ["/home/alice/x"]`:                                    "show: /home/alice/x is the cage's home, in it or around it",
		`show = ["var"]`:                                              `show: "var" is relative`,
		`show = "/var/lib/dpkg"`:                                      "show: is a string, must be an array of paths",
		`hide = ["/usr"]`:                                             "hide: /usr cannot be hidden",
		`hide = ["/proc/cpuinfo"]`:                                    "hide: /proc/cpuinfo cannot be hidden",
		`hide = ["/home/alice"]`:                                      "hide: /home/alice is the cage's home",
		"[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]\nshow = [\"/a\"]":       `show: is for cages of the host`,
		"[jail.x]\nrootfs = \"host\"\nusers = [\"bob\", \"carol\"]":               "users: are 2 logins, a cage of the host is one login's: it is made around a home; give each a jail of its own, as one [[match]] does",
		"[jail.x]\nrootfs = \"host\"\nusers = [\"high\"]":                         `the home of login "high", /, is a directory of the host itself`,
		"[jail.x]\nrootfs = \"host\"\n[jail.x.users.bob]\nhome = \"/usr/b\"":      `home: the home of login "bob", /usr/b, is a directory of the host itself`,
		"[jail.x]\nrootfs = \"host\"\n[jail.x.users.bob]\nhome = \"/tmp/b\"":      `home: the home of login "bob", /tmp/b, is a directory of the host itself`,
		"[jail.x]\nrootfs = \"host\"\n[jail.x.users.bob]\nhome = \"/etc/b\"":      `home: the home of login "bob", /etc/b, is a directory of the host itself`,
		"[jail.x]\nrootfs = \"host\"\n[jail.x.users.bob]\nhome = \"/home/alice\"": `/home/alice is the rootfs of jail`,
		"[jail.x]\nrootfs = \"/home/alice/x\"\nusers = [\"bob\"]":                 `lies inside the rootfs of jail`,
	} {
		reg, errs := load(t, testOptions(), cageText(lines))
		if assert.NotEmpty(t, errs, lines) {
			assert.Contains(t, errs.Error(), want, lines)
			assert.Less(t, len(reg.Jails), 2, lines)
		}
	}
	opt := testOptions()
	euid := uint32(1501)
	opt.Rootless, opt.euid = true, &euid
	_, errs := load(t, opt, cageText(""))
	assert.ErrorContains(t, errs, "a cage of the host is root's to make")
}

// TestHomeOfACage: what is seen of the home and of the host's programs.
func TestHomeOfACage(t *testing.T) {
	fine := func() map[string]*seen {
		return map[string]*seen{
			"/home/alice": {mode: unix.S_IFDIR | 0o700, uid: 1501, above: []seenDir{{mode: unix.S_IFDIR | 0o755}, {mode: unix.S_IFDIR | 0o755}}},
			"/usr":        {mode: unix.S_IFDIR | 0o755}, "/bin": {errno: unix.ELOOP}, "/lib32": {errno: unix.ENOENT},
		}
	}
	for claim, c := range map[string]struct {
		odd           func(s map[string]*seen)
		want, warning string
	}{
		"all is well":             {func(map[string]*seen) {}, "", ""},
		"nothing is looked at":    {func(s map[string]*seen) { clear(s) }, "", ""},
		"no home":                 {func(s map[string]*seen) { s["/home/alice"] = &seen{errno: unix.ENOENT} }, "/home/alice does not exist, which is the home of its cage; create it", ""},
		"a link":                  {func(s map[string]*seen) { s["/home/alice"] = &seen{errno: unix.ELOOP, link: "/home"} }, "/home is a symbolic link", ""},
		"a dead server":           {func(s map[string]*seen) { s["/home/alice"] = &seen{errno: unix.ETIMEDOUT} }, "does not answer", ""},
		"a file":                  {func(s map[string]*seen) { s["/home/alice"].mode = unix.S_IFREG }, "/home/alice is not a directory", ""},
		"another's":               {func(s map[string]*seen) { s["/home/alice"].uid = 1502 }, `/home/alice belongs to uid 1502 and is no home of login "alice"`, ""},
		"root's":                  {func(s map[string]*seen) { s["/home/alice"].uid = 0 }, `/home/alice belongs to uid 0`, ""},
		"the login may rename it": {func(s map[string]*seen) { s["/home/alice"].above[0].uid = 1501 }, "", "somebody besides root may write to /home and so replace the home"},
		"another's programs":      {func(s map[string]*seen) { s["/usr"].uid = 7 }, "/usr is not root's alone to write to", ""},
		"everybody's programs":    {func(s map[string]*seen) { s["/usr"].mode |= 0o002 }, "/usr is not root's alone to write to", ""},
	} {
		v := &validator{}
		u := &userTable{login: "alice", spec: jail.Login{UID: 1501}, known: true}
		d := &draft{jailTable: &jailTable{}}
		d.Users.list = []*userTable{u}
		s := fine()
		c.odd(s)
		v.judgeCage(d, "/home/alice", s)
		for _, is := range [][2]string{{append(u.errors, d.errors...).Error(), c.want}, {d.warnings.Error(), c.warning}} {
			got, want := is[0], is[1]
			if want == "" {
				assert.Empty(t, got, claim)
			} else {
				assert.Contains(t, got, want, claim)
			}
		}
	}
}

// TestCagesOfAGroup: one block cages every account of a group, each around its own home.
func TestCagesOfAGroup(t *testing.T) {
	reg, errs := load(t, schoolOptions(), "version = 1\n[template.cage]\nrootfs = \"host\"\nhide = [\"/usr/games\"]\n[[match]]\nuser = \"cs-*\"\ntemplate = \"cage\"\n")
	require.Empty(t, errs)
	require.NotEmpty(t, reg.Jails)
	homes := map[string]bool{}
	for i := range reg.Jails {
		j := &reg.Jails[i]
		assert.Equal(t, jail.Host, j.Source.Kind)
		assert.Equal(t, []string{"/usr/games"}, j.Source.Hide)
		assert.Equal(t, j.Logins[0].Home, j.Source.Home)
		homes[j.Source.Home] = true
	}
	assert.Len(t, homes, len(reg.Jails))
	assert.True(t, homes["/srv/homes/cat"])
}

// TestGroupsOfACage: a cage's login has the groups that list its account, each once and
// under the host's name, and a bounded number of them.
func TestGroupsOfACage(t *testing.T) {
	opt := testOptions()
	opt.Group = append(opt.Group, "\nproject:x:70001:bob,alice\nagain:x:70001:alice\nown:x:1501:alice\nodd name:x:70002:alice\nother:x:70003:alicea\n"...)
	reg, errs := load(t, opt, cageText(""))
	require.Empty(t, errs)
	assert.Equal(t, []jail.Group{{Name: "users", GID: 100}, {Name: "project", GID: 70001}}, reg.Jail("web").Source.Groups)
	assert.Empty(t, reg.Warnings)

	for i := range root.MaxGroups {
		opt.Group = append(opt.Group, fmt.Sprintf("g%d:x:%d:alice\n", i, 71_000+i)...)
	}
	reg, errs = load(t, opt, cageText(""))
	require.Empty(t, errs)
	assert.Len(t, reg.Jail("web").Source.Groups, root.MaxGroups)
	assert.Contains(t, fmt.Sprint(reg.Warnings), fmt.Sprintf(`login "alice" is in %d groups besides its own, a cage has the first %d`, root.MaxGroups+2, root.MaxGroups))
}

// TestHighIDs: an account of a directory service, whose uid is beyond the range, is nothing
// odd in a cage, unless the range leaves it no place.
func TestHighIDs(t *testing.T) {
	text := "version = 1\n[jail.x]\nrootfs = \"host\"\n[jail.x.users.high]\nhome = \"/home/high\"\n"
	reg, errs := load(t, testOptions(), text)
	require.Empty(t, errs)
	assert.Equal(t, []jail.Login{{Name: "high", HostUID: 90000, UID: 90000, GID: 90000, HasGID: true, JailName: "high", Home: "/home/high"}}, reg.Jails[0].Logins)
	_, errs = load(t, testOptions(), strings.Replace(text, "[jail.x.users", "userns = { base = 200000, size = 1000 }\n[jail.x.users", 1))
	assert.ErrorContains(t, errs, `uid 90000 of login "high" is outside the jail's id map`)
}

// TestKeep: with userns = "keep" a jail's login is its account, and nothing else.
func TestKeep(t *testing.T) {
	reg, errs := load(t, testOptions(), "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"high\"]\nuserns = \"keep\"\n"+
		"[defaults]\nuserns = \"keep\"\n[jail.y]\nrootfs = \"/srv/y\"\nusers = [\"bob\", \"carol\"]\nuserns = \"auto\"\n")
	require.Empty(t, errs)
	assert.True(t, reg.Jail("x").Userns.Keep)
	assert.EqualValues(t, 1<<16, reg.Jail("x").Userns.Size)
	assert.Equal(t, []jail.Login{{Name: "high", HostUID: 90000, UID: 90000, GID: 90000, HasGID: true}}, reg.Jail("x").Logins)
	assert.False(t, reg.Jail("y").Userns.Keep)

	for lines, want := range map[string]string{
		"users = [\"bob\", \"carol\"]":         `users: are 2 logins, with userns = "keep" a jail is one login's`,
		"users = [\"bob\"]\nuid = 1000":        "uid: must be the account's own, 1502, with userns",
		"users = [\"bob\"]\ngid = 1000":        "gid: must be the account's own, 1502, with userns",
		"[jail.x.users.bob]\nuid = 1000":       "uid: must be the account's own, 1502, with userns",
		"users = [\"nosuch\"]":                 `login "nosuch" is not in the host's passwd`,
		"users = [\"bob\"]\nuserns = \"kept\"": `"kept" is not a mode, must be "auto", "keep", false`,
	} {
		_, errs := load(t, testOptions(), "version = 1\n[defaults]\nuserns = \"keep\"\n[jail.x]\nrootfs = \"/srv/x\"\n"+lines)
		assert.ErrorContains(t, errs, want, lines)
	}
	opt := testOptions()
	euid := uint32(1501)
	opt.Rootless, opt.euid = true, &euid
	_, errs = load(t, opt, "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"alice\"]\nuserns = \"keep\"\n")
	assert.ErrorContains(t, errs, `"keep" is for jails that root starts`)
}

// TestShownByTemplate: what a template shows and hides has the account's name in it.
func TestShownByTemplate(t *testing.T) {
	opt := schoolOptions()
	reg, errs := load(t, opt, "version = 1\n[template.s]\nrootfs = \"host\"\nshow = [\"/srv/grades/{user}\", \"/srv/all\"]\nhide = [\"/srv/all/{uid}\"]\n"+
		"[[match]]\nuser = \"cs-ann\"\ntemplate = \"s\"\n[[match]]\nuser = \"cs-ben\"\ntemplate = \"s\"\n")
	require.Empty(t, errs)
	for _, name := range []string{"cs-ann", "cs-ben"} {
		j := reg.Jail(name)
		assert.Equal(t, []string{"/srv/all", "/srv/grades/" + name}, j.Source.Show)
		assert.Equal(t, []string{fmt.Sprintf("/srv/all/%d", j.Logins[0].HostUID)}, j.Source.Hide)
	}
	_, errs = load(t, opt, "version = 1\n[template.s]\nrootfs = \"host\"\nshow = [\"/srv/{group}\"]\n[[match]]\nuser = \"cs-ann\"\ntemplate = \"s\"\n")
	assert.ErrorContains(t, errs, "has a brace that belongs to none of {user}")
}
