package config

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/jail"
)

// TestBase: one line gives a jail an image that others have, too.
func TestBase(t *testing.T) {
	reg, errs := load(t, testOptions(), `version = 1
[defaults]
persist = "all"
[jail.web]
base = "debian"
users = ["alice"]
[jail.shop]
base = "debian/20261128-211500"
persist = "none"
scratch = "64M"
state = "/srv/state/shop"
limits = { disk = "1G", files = 5000 }
[jail.shop.users.bob]
name = "clerk"
home = "/srv/clerk"
[jail.plain]
rootfs = "/srv/plain"
users = ["centos"]
`)
	require.Empty(t, errs)
	const images = "/var/lib/jail/images"
	assert.Equal(t, jail.Source{Kind: jail.Based, Base: "debian", Images: images, State: "/var/lib/jail/state/web", Persist: jail.PersistAll, Scratch: 512 << 20}, reg.Jail("web").Source)
	assert.Equal(t, jail.Login{Name: "alice", HostUID: 1501, UID: 1501, JailName: "alice", Home: "/home/alice"}, reg.Jail("web").Logins[0])
	assert.Equal(t, jail.Source{Kind: jail.Based, Base: "debian/20261128-211500", Images: images, State: "/srv/state/shop", Persist: jail.PersistNone, Scratch: 64 << 20}, reg.Jail("shop").Source)
	assert.Equal(t, [2]uint64{1 << 30, 5000}, [2]uint64{reg.Jail("shop").Limits.DiskBytes, reg.Jail("shop").Limits.Files})
	assert.Equal(t, "clerk /srv/clerk", reg.Jail("shop").Logins[0].JailName+" "+reg.Jail("shop").Logins[0].Home)
	assert.Equal(t, jail.Source{Path: "/srv/plain"}, reg.Jail("plain").Source, "the defaults of jails with base are no other's")

	// Many accounts of one block have a state each.
	reg, errs = load(t, schoolOptions(), "version = 1\n[template.student]\nbase = \"debian\"\n[[match]]\nuser = \"cs-*\"\ntemplate = \"student\"\n")
	require.Empty(t, errs)
	assert.Equal(t, "/var/lib/jail/state/cs-ann", reg.Jail("cs-ann").Source.State)
	reg, errs = load(t, schoolOptions(), "version = 1\n[template.student]\nbase = \"debian\"\nstate = \"/srv/{user}\"\n[[match]]\nuser = \"cs-*\"\ntemplate = \"student\"\n")
	require.Empty(t, errs)
	assert.Equal(t, "/srv/cs-ben", reg.Jail("cs-ben").Source.State)
}

// TestBaseBadly: each fault is one line that says what to do, and the jail is out of
// service.
func TestBaseBadly(t *testing.T) {
	const based = "base = \"debian\"\n"
	for lines, want := range map[string]string{
		based + "rootfs = \"/srv/web\"":               "base: takes the place of rootfs",
		`base = "Debian"`:                             `base: "Debian" is neither an image`,
		`base = "debian/yesterday"`:                   `is neither an image`,
		`base = "debian:20261128-211500"`:             `is neither an image`,
		`base = "../debian"`:                          `is neither an image`,
		`base = ""`:                                   `base: "" is neither an image`,
		`base = 7`:                                    "base: is a whole number, must be a string",
		`base = "/usr"`:                               "base: /usr is a directory of the host itself",
		`base = "/srv/b/"`:                            "is not clean",
		based + `persist = "some"`:                    `persist: "some" is not known`,
		based + `scratch = "lots"`:                    `scratch: "lots" is not a size`,
		based + `scratch = "1K"`:                      `scratch: "1K" is too little`,
		based + `state = "/srv"`:                      "state: /srv is a directory of the host itself",
		based + `state = "/var/lib/jail/state"`:       "state: /var/lib/jail/state is a directory of the host itself",
		based + `state = "/var/lib/jail/images/x"`:    "state: /var/lib/jail/images/x is in the store of images",
		based + `state = "x"`:                         `state: "x" is relative`,
		"base = \"/srv/b\"\nstate = \"/srv/b/state\"": "state: /srv/b/state and the base /srv/b are in one another",
		"base = \"/srv/b/x\"\nstate = \"/srv/b\"":     "state: /srv/b and the base /srv/b/x are in one another",
		based + `mounts = [ { source = "/srv/a", target = "/home" } ]`:                                                                     "target: /home would hide /home, which persists",
		"rootfs = \"/srv/web\"\npersist = \"all\"":                                                                                         "persist: is for jails with base",
		"rootfs = \"/srv/web\"\nstate = \"/srv/s\"":                                                                                        "state: is for jails with base",
		"rootfs = \"/srv/web\"\nscratch = \"1G\"":                                                                                          "scratch: is for jails with base",
		"rootfs = \"/var/lib/jail/images/debian/20261128-211500\"":                                                                         "rootfs: /var/lib/jail/images/debian/20261128-211500 is in the store of images",
		based + "[jail.x]\nusers = [\"bob\"]\n" + based + "state = \"/var/lib/jail/state/web\"":                                            "state: /var/lib/jail/state/web is the rootfs of jail",
		based + "[jail.x]\nusers = [\"bob\"]\nrootfs = \"/var/lib/jail/state/web/home\"":                                                   "lies inside the rootfs of jail",
		based + "[jail.x]\nusers = [\"bob\"]\nrootfs = \"/srv/x\"\n[jail.y]\nbase = \"debian\"\nstate = \"/srv/x/y\"\nusers = [\"carol\"]": "state: /srv/x/y lies inside the rootfs of jail",
	} {
		reg, errs := load(t, testOptions(), "version = 1\n[jail.web]\nusers = [\"alice\"]\n"+lines)
		if assert.NotEmpty(t, errs, lines) {
			assert.Contains(t, errs.Error(), want, lines)
			assert.LessOrEqual(t, len(reg.Jails), 1, lines)
		}
	}
	// Whoever could write to a base is at fault, and not those who are based on it.
	for _, base := range []string{"debian", "debian/20261128-211500", "/var/lib/base/debian"} {
		source := map[bool]string{true: "/var/lib/base", false: "/var/lib/jail/images/debian"}[base[0] == '/']
		text := "version = 1\n[jail.web]\nbase = \"" + base + "\"\nusers = [\"alice\"]\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]\nmounts = [ { source = \"" + source + "\", target = \"/x\" } ]\n"
		reg, errs := load(t, testOptions(), text)
		assert.ErrorContains(t, errs, `source: `+source+` contains what jail "web" is based on, and a jail could write to it`, base)
		assert.NotNil(t, reg.Jail("web"))
		assert.Nil(t, reg.Jail("x"))
	}
	_, errs := load(t, testOptions(), "version = 1\n[jail.web]\nbase = \"debian\"\n[jail.web.users.alice]\nhome = \"/srv/alice\"\n")
	assert.ErrorContains(t, errs, `home: "/srv/alice" is outside of /home and would not persist`)
	_, errs = load(t, schoolOptions(), "version = 1\n[template.student]\nbase = \"debian\"\nstate = \"/srv/all\"\n[[match]]\nuser = \"cs-*\"\ntemplate = \"student\"\n")
	assert.ErrorContains(t, errs, "state: /srv/all is one directory for the jails of all accounts")
	opt := testOptions()
	euid := uint32(1501)
	opt.Rootless, opt.euid = true, &euid
	_, errs = load(t, opt, "version = 1\n[jail.web]\nbase = \"debian\"\nusers = [\"alice\"]\n")
	assert.ErrorContains(t, errs, "base: is root's to mount")
}

// TestPlacesOfABase: what is seen of a state and of a base.
func TestPlacesOfABase(t *testing.T) {
	const dir, closed = unix.S_IFDIR | 0o755, unix.S_IFDIR | 0o700
	root := seenDir{mode: dir}
	for claim, c := range map[string]struct {
		path string
		s    seen
		want string
	}{
		"a state that is not there yet":  {"/srv/s", seen{errno: unix.ENOENT}, ""},
		"a state that nobody makes":      {"/srv/s", seen{errno: unix.ENOENT, aboveErrno: unix.ENOENT}, "/srv/s cannot be made: /srv is missing; make it, root's (mkdir -p -m 0700 /srv)"},
		"one that another may make":      {"/srv/s", seen{errno: unix.ENOENT, above: []seenDir{{mode: dir, uid: 1500}, root}}, "somebody besides root may write to /srv"},
		"a state of root's":              {"/srv/s", seen{mode: closed}, ""},
		"another's":                      {"/srv/s", seen{mode: closed, uid: 1500}, "must be root's and nobody else's to enter"},
		"open to others":                 {"/srv/s", seen{mode: dir}, "must be root's and nobody else's to enter"},
		"a file":                         {"/srv/s", seen{mode: unix.S_IFREG}, "is not a directory"},
		"a link":                         {"/srv/s", seen{errno: unix.ELOOP, link: "/srv/s"}, "is a symbolic link"},
		"below what somebody else has":   {"/srv/s", seen{mode: closed, above: []seenDir{{mode: dir, uid: 1500}, root}}, "somebody besides root may write to /srv"},
		"a base that is not there":       {"/srv/b", seen{errno: unix.ENOENT}, "/srv/b does not exist"},
		"a base that others write to":    {"/srv/b", seen{mode: unix.S_IFDIR | 0o777}, "is not root's alone to write to"},
		"a base of another":              {"/srv/b", seen{mode: dir, uid: 1500}, "is not root's alone to write to"},
		"an image that is not there":     {"/var/lib/jail/images/debian/current", seen{errno: unix.ENOENT}, "there is no image debian;"},
		"an image that is there":         {"/var/lib/jail/images/debian/current", seen{errno: unix.ELOOP}, ""},
		"a certain one that is no more":  {"/var/lib/jail/images/debian/20261128-211500", seen{errno: unix.ENOENT}, "there is no image debian/20261128-211500;"},
		"a base in somebody's directory": {"/srv/other/b", seen{mode: dir, above: []seenDir{root}}, "lies inside the rootfs of jail"},
	} {
		t.Run(claim, func(t *testing.T) {
			text := map[bool]string{true: `base = "debian"`, false: `base = "debian/20261128-211500"`}[c.path != "/var/lib/jail/images/debian/20261128-211500"]
			if c.path[:5] == "/srv/" && c.path != "/srv/s" {
				text = `base = "` + c.path + `"`
			}
			v := &validator{host: &host{}, opt: Options{RuntimeDir: "/run/jail"}}
			v.registry = DefaultPath
			doc := parse("/etc/jail/jail.toml", []byte("version = 1\n[jail.web]\nstate = \"/srv/s\"\nusers = [\"alice\"]\n"+text+"\n"))
			require.Empty(t, doc.errors)
			d := &draft{jailTable: doc.Jails[0], set: doc.Jails[0].settings}
			d.errors = nil
			v.based(d)
			require.Empty(t, d.errors)
			roots := newPlaceSet()
			other := &draft{jailTable: &jailTable{name: "other"}}
			roots.add(newPlace("/srv/other"), other)
			seen := map[string]*seen{c.path: &c.s}
			v.judgeState(d, "/srv/s", seen["/srv/s"])
			v.judgeBase(d, seen, roots)
			if c.want == "" {
				assert.Empty(t, d.errors)
				return
			}
			require.NotEmpty(t, d.errors)
			assert.Contains(t, d.errors.Error(), c.want)
		})
	}
}
