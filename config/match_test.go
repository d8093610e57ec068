package config

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/jail"
	"jail/internal/needs"
)

const (
	schoolPasswd = testPasswd + `cs-ann:x:20001:3000::/home/cs-ann:/usr/bin/jail-enter
cs-ben:x:20002:20002::/home/cs-ben:/usr/bin/jail-enter
cs-cat:x:20003:20003::/srv/homes/cat:/usr/bin/jail-enter
`
	schoolGroup = testGroup + `students:x:3000:cs-ben,alice
cs-cat:x:20003:
`
	student = `[template.student]
rootfs = "/srv/cs/{user}"
`
	students = `[[match]]
group = "students"
template = "student"
`
)

func schoolOptions() Options {
	opt := testOptions()
	opt.Passwd, opt.Group = []byte(schoolPasswd), []byte(schoolGroup)
	return opt
}

func TestOneBlockForAGroup(t *testing.T) {
	for name, tt := range map[string]struct {
		text    string
		in, out []string
		errs    []string // parts of each
		warning string
	}{
		"members, and whose primary group it is":    {text: student + students, in: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}},
		"a pattern":                                 {text: student + "[[match]]\nuser = \"cs-*\"\ntemplate = \"student\"", in: []string{"cs-ann: cs-ann", "cs-ben: cs-ben", "cs-cat: cs-cat"}},
		"a pattern of one character":                {text: student + "[[match]]\nuser = \"cs-?e?\"\ntemplate = \"student\"", in: []string{"cs-ben: cs-ben"}},
		"a range":                                   {text: student + "[[match]]\nuid = \"20002-20003\"\ntemplate = \"student\"", in: []string{"cs-ben: cs-ben", "cs-cat: cs-cat"}},
		"one uid":                                   {text: student + "[[match]]\nuid = \"20002\"\ntemplate = \"student\"", in: []string{"cs-ben: cs-ben"}},
		"a jail that lists an account":              {text: student + students + "[jail.own]\nrootfs = \"/srv/own\"\nusers = [\"alice\"]", in: []string{"cs-ann: cs-ann", "cs-ben: cs-ben", "own: alice"}},
		"also if that jail is at fault":             {text: student + students + "[jail.own]\nrootfs = \"own\"\nusers = [\"alice\"]", in: []string{"cs-ann: cs-ann", "cs-ben: cs-ben"}, out: []string{"own: alice"}, errs: []string{"jail.own.rootfs: \"own\" is relative"}},
		"a jail that says what a template does not": {text: student + "[jail.own]\ntemplate = \"student\"\nhostname = \"x\"\nusers = [\"alice\"]", in: []string{"own: alice"}},

		"unknown template":       {text: "[[match]]\nuser = \"alice\"\ntemplate = \"studnet\"\n" + student, out: []string{"alice: alice"}, errs: []string{`:4: match.template: "studnet" is no template, there are: "student"`}},
		"no template":            {text: "[[match]]\nuser = \"alice\"\n", out: []string{": "}, errs: []string{`:2: match: template is missing`}},
		"none there is":          {text: "[[match]]\nuser = \"alice\"\ntemplate = \"x\"", out: []string{"alice: alice"}, errs: []string{`match.template: "x" is no template, there is none`}},
		"template of a jail":     {text: "[jail.own]\ntemplate = \"x\"\nusers = [\"alice\"]", out: []string{"own: alice"}, errs: []string{`jail.own.template: "x" is no template`}},
		"templates in a loop":    {text: student + "template = \"other\"\n[template.other]\ntemplate = \"student\"\n" + students, out: []string{": ", "alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, errs: []string{"template.student.template: templates do not build", "template.other.template: templates do not build"}},
		"users of a template":    {text: student + "users = [\"alice\"]\n", out: []string{": "}, errs: []string{"template.student.users: belongs to a jail"}},
		"key of a template":      {text: student + "hostnam = \"x\"\n" + students, out: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, errs: []string{":4: template.student.hostnam: unknown key \"hostnam\", did you mean \"hostname\""}},
		"value of a template":    {text: student + "limits.memory = \"much\"\n" + students, out: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, errs: []string{":4: template.student.limits.memory: \"much\" is not a size"}},
		"one that nobody has":    {text: student + "limits.memory = \"much\"\n", out: []string{": "}, errs: []string{"template.student.limits.memory: \"much\" is not a size"}},
		"range of a template":    {text: student + "userns = { base = 200000, size = 65536 }\n" + students, out: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, errs: []string{"template.student.userns: cannot be one range"}},
		"two of one name":        {text: student + students + "[template.\"Big\"]\n", in: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, out: []string{": "}, errs: []string{`template.Big: the name "Big" cannot be used`}},
		"one root for all":       {text: "[template.student]\nrootfs = \"/srv/cs{{\"\n" + students, out: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, errs: []string{"template.student.rootfs: /srv/cs{{ is one directory for the jails of all accounts"}},
		"other braces":           {text: "[template.student]\nrootfs = \"/srv/{login}\"\n" + students, out: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, errs: []string{`template.student.rootfs: "/srv/{login}" has a brace that belongs to none of`}},
		"a brace alone":          {text: "[template.student]\nrootfs = \"/srv/{user\"\n" + students, out: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, errs: []string{`has a brace that belongs to none of`}},
		"no root":                {text: "[template.student]\n" + students, out: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, errs: []string{":2: template.student.rootfs: is missing"}},
		"words for several":      {text: student + "[jail.own]\ntemplate = \"student\"\nusers = [\"alice\", \"bob\"]", out: []string{"own: alice bob"}, errs: []string{":5: jail.own.template: template student has {user} at /etc/jail/jail.toml:3, which stands for one account, and this jail has 2 users"}},
		"root":                   {text: student + "[[match]]\nuser = \"root\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`:4: match: user = "root" stands for root, whom no jail can hold`}},
		"root and daemons":       {text: student + "[[match]]\nuser = \"?o?*\"\ntemplate = \"student\"", in: []string{"bob: bob"}, out: []string{": ", "docky: docky"}, errs: []string{`:4: match: login "docky" is in the host's group docker`, `user = "?o?*" stands for root and system accounts (nobody), whom no jail can hold`}},
		"a system account":       {text: student + "[[match]]\nuser = \"daemon\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`stands for system accounts (daemon), whom`}},
		"uids of root":           {text: student + "[[match]]\nuid = \"0-29999\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`match.uid: 0-29999 has root's or system accounts' uids in it, begin at 1000`}},
		"no range":               {text: student + "[[match]]\nuid = \"20000-\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`match.uid: "20000-" is no range of uids`}},
		"backwards":              {text: student + "[[match]]\nuid = \"20000-10000\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`is no range of uids`}},
		"a number":               {text: student + "[[match]]\nuid = 20000\ntemplate = \"student\"", out: []string{": "}, errs: []string{`match.uid: is a whole number, must be a string in quotes`}},
		"no pattern":             {text: student + "[[match]]\nuser = \"cs-*,!cs-b*\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`match.user: "cs-*,!cs-b*" is no pattern of account names`}},
		"a group of nearly root": {text: student + "[[match]]\ngroup = \"sudo\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`match.group: the members of sudo are nearly root`}},
		"no such group":          {text: student + "[[match]]\ngroup = \"pupils\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`match.group: "pupils" is no group of the host`}},
		"two things":             {text: student + "[[match]]\ngroup = \"students\"\nuser = \"cs-*\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`match: has more than one of group, user and uid`}},
		"nothing":                {text: student + "[[match]]\ntemplate = \"student\"", out: []string{": "}, errs: []string{`match: says nothing of accounts`}},
		"the same twice":         {text: student + students + students, in: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, out: []string{": "}, errs: []string{`:7: match: group = "students" is at /etc/jail/jail.toml:4 already`}},
		"unknown key":            {text: student + students + "tempalte = \"x\"", out: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, errs: []string{`match.tempalte: unknown key "tempalte", did you mean "template"`}},
		"one table":              {text: student + "[match]\ngroup = \"students\"\ntemplate = \"student\"", out: []string{": "}, errs: []string{`:4: match: is one table, write it as [[match]]`}},
		"name of another's jail": {text: student + students + "[jail.cs-ben]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]", in: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: bob"}, out: []string{": cs-ben"}, errs: []string{`:4: match: account cs-ben would get a jail of its name, and jail cs-ben at /etc/jail/jail.toml:7 is another's`}},
		"uids that are too high": {text: student + "[[match]]\nuser = \"hi*\"\ntemplate = \"student\"", out: []string{"high: high"}, errs: []string{`:4: match: account high has the uid 90000, which is outside its jail's id map of 65536 ids; write a uid for inside into the template`}},
		"nobody":                 {text: student + "[[match]]\nuser = \"zz*\"\ntemplate = \"student\"", warning: `match: user = "zz*" stands for no account that has no jail by now`},
		"nobody that is left":    {text: student + students + "[[match]]\nuser = \"cs-a*\"\ntemplate = \"student\"", in: []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, warning: `:7: match: user = "cs-a*" stands for no account that has no jail by now`},
	} {
		t.Run(name, func(t *testing.T) {
			reg, errs := load(t, schoolOptions(), "version = 1\n"+tt.text)
			if tt.in == nil {
				tt.in = []string{}
			}
			if tt.out == nil {
				tt.out = []string{}
			}
			assert.Equal(t, tt.in, inForce(reg), "%v", errs)
			assert.Equal(t, tt.out, outOfService(reg), "%v", errs)
			require.Len(t, errs, len(tt.errs), "%v", errs)
			for _, want := range tt.errs {
				assert.Contains(t, errs.Error(), want)
			}
			assert.Contains(t, fmt.Sprint(reg.Warnings), tt.warning)
			for _, f := range reg.Faults {
				assert.NotEqual(t, DefaultPath, reg.Concerns(&f), "a block is not the whole file")
			}
		})
	}
}

// Of blocks that stand for one account the first counts, in the order of the files.
func TestFirstMatchCounts(t *testing.T) {
	two := "[template.a]\nrootfs = \"/srv/a/{user}\"\n[template.b]\nrootfs = \"/srv/b/{user}\"\n"
	reg, errs := load(t, schoolOptions(), "version = 1\n"+two+"[[match]]\nuser = \"cs-b*\"\ntemplate = \"b\"\n",
		"version = 1\n[[match]]\ngroup = \"students\"\ntemplate = \"a\"\n")
	require.Empty(t, errs)
	roots := map[string]string{}
	for _, j := range reg.Jails {
		roots[j.Name] = j.Source.Path
	}
	assert.Equal(t, map[string]string{"alice": "/srv/a/alice", "cs-ann": "/srv/a/cs-ann", "cs-ben": "/srv/b/cs-ben"}, roots)
	assert.Equal(t, DefaultPath, reg.Files["cs-ben"])
	assert.Equal(t, Block{6, `user = "cs-b*"`, "b"}, reg.Blocks["cs-ben"])
	assert.Equal(t, "/etc/jail/jail.d/a.toml", reg.Files["alice"])
	assert.Equal(t, Block{2, `group = "students"`, "a"}, reg.Blocks["alice"])
}

func TestWordsOfATemplate(t *testing.T) {
	reg, errs := load(t, schoolOptions(), `version = 1
[defaults]
env = { D = "{user}" }
[template.student]
rootfs = "/srv/cs/{uid}/{user}"
hostname = "{user}-{uid}"
uid = 1000
env = { A = "{user}{{{uid}}}", B = "{home}/x" }
mounts = [ { source = "{home}", target = "/home/{user}" }, { source = "/srv/{uid}", target = "/x", readonly = true } ]
limits = { memory = "1G" }
[[template.student.service]]
name = "mail"
exec = [ "/home/{user}/bin/mail", "--uid={uid}", "{{}}" ]
user = "{user}"
[[template.student.service]]
name = "all"
exec = [ "/usr/bin/all" ]
[[match]]
user = "cs-cat"
template = "student"
[[match]]
user = "cs-ann"
template = "student"
[jail.own]
template = "student"
users = ["alice"]
hostname = "{user}"
limits = { pids = 7 }
`)
	require.Len(t, errs, 1)
	assert.Contains(t, errs[0].Error(), `:27: jail.own.hostname: "{user}" is not a host name`, "a jail's own keys are as they are")
	cat := reg.Jail("cs-cat")
	require.NotNil(t, cat)
	assert.Equal(t, "/srv/cs/20003/cs-cat", cat.Source.Path)
	assert.Equal(t, "cs-cat-20003", cat.Hostname)
	assert.Equal(t, []string{"A=cs-cat{20003}", "B=/srv/homes/cat/x", "D={user}"}, cat.Env)
	assert.Equal(t, []jail.Mount{{Source: "/srv/homes/cat", Target: "/home/cs-cat"}, {Source: "/srv/20003", Target: "/x", ReadOnly: true}}, cat.Mounts)
	assert.Equal(t, jail.Login{Name: "cs-cat", HostUID: 20003, UID: 1000}, cat.Logins[0])
	for _, name := range []string{"cs-cat", "cs-ann"} { // each its own, and none the other's
		spec := reg.Jail(name)
		require.NotNil(t, spec, name)
		require.Len(t, spec.Services, 2)
		uid := uintString(uint32(spec.Logins[0].HostUID))
		assert.Equal(t, []string{"/home/" + name + "/bin/mail", "--uid=" + uid, "{}"}, spec.Services[0].Exec)
		assert.Equal(t, name, spec.Services[0].User)
		assert.Equal(t, []string{"/usr/bin/all"}, spec.Services[1].Exec)
	}
}

// A jail has every key of its template, and its own before it.
func TestEveryKeyOfATemplate(t *testing.T) {
	keys := map[string]string{
		"rootfs": `"/srv/t"`, "uid": "7", "gid": "8", "hostname": `"tpl"`, "userns": "false", "idle_timeout": `"2m"`, "autostart": "true",
		"container_root": "true", "env": `{ A = "1" }`, "mounts": `[ { source = "/srv/x", target = "/x" } ]`, "x11": "true",
		"on_disconnect": `"kill"`, "env_accept": `[ "EDITOR" ]`, "resolv_conf": `"rootfs"`, "hosts": `"rootfs"`, "timezone": `"Europe/Paris"`, "record": `"tty"`, "record_input": "true", "log_commands": `"name"`,
		"keys": `"anywhere"`, "limits": `{ memory = "1G", cpu = "50%", pids = 9, io_weight = 10 }`, "sftp": `"off"`,
		"max_sessions": "5", "session_rate": "6", "umask": `"027"`, "nice": "7", "rlimits": "{ nofile = 512 }",
		"service": `[ { name = "s", exec = [ "/s" ] } ]`, "fresh": `[ "/tmp" ]`,
		"ports": `[]`, "loopback": `[ 5432 ]`, "unowned": `"refuse"`, "network": `"none"`,
		"show": `[ "/var/lib/x" ]`, "hide": `[ "/usr/x" ]`, "acknowledge": `[ "x" ]`,
		"base": `"debian"`, "state": `"/srv/state"`, "persist": `"none"`, "scratch": `"64M"`,
	}
	for key := range fieldsOf(reflect.TypeFor[jailTable]()) {
		if key == "users" || key == "template" {
			continue
		}
		require.Contains(t, keys, key, "a key that this test does not know")
		line := key + " = " + keys[key] + "\n"
		rest := "users = [\"alice\"]\n"
		switch key {
		case "rootfs", "base":
		case "state", "persist", "scratch":
			rest += "base = \"debian\"\n"
		case "show", "hide": // a cage's
			rest += "rootfs = \"host\"\n"
		case "unowned":
			rest += "rootfs = \"/srv/own\"\nports = []\nloopback = []\n"
		default:
			rest += "rootfs = \"/srv/own\"\n"
		}
		own, errs := load(t, testOptions(), "version = 1\n[jail.own]\n"+line+rest)
		require.Empty(t, errs, key)
		none, _ := load(t, testOptions(), "version = 1\n[jail.own]\n"+rest)
		opt := testOptions()
		opt.Explain = "own"
		reg, errs := load(t, opt, "version = 1\n[template.t]\n"+line+"[jail.own]\ntemplate = \"t\"\n"+rest)
		require.Empty(t, errs, key)
		assert.Equal(t, own.Jails, reg.Jails, key)
		assert.Contains(t, fmt.Sprint(reg.Explained), ":3 template.t."+key, "plan says where it comes from")
		if key == "acknowledge" { // which no jail has
			assert.Equal(t, own.Acknowledged, reg.Acknowledged)
			assert.NotEqual(t, none.Acknowledged, reg.Acknowledged)
		} else {
			assert.NotEqual(t, none.Jails, reg.Jails, key)
		}
		if key == "rootfs" || key == "base" || key == "state" || key == "uid" || key == "service" {
			continue
		}
		reg, errs = load(t, testOptions(), "version = 1\n[defaults]\n"+line+"[jail.own]\n"+rest)
		require.Empty(t, errs, key)
		assert.Equal(t, own.Jails, reg.Jails, "%s of [defaults]", key)
	}
}

// Whom a block stood for does not land by another one while the first cannot be read.
func TestMatchThatCannotBeRead(t *testing.T) {
	strict := "[template.strict]\nrootfs = \"/srv/strict/{user}\"\n[template.lax]\nrootfs = \"/srv/lax/{user}\"\n"
	lax := "[[match]]\nuser = \"cs-*\"\ntemplate = \"lax\"\n"
	first := func(criterion string) string {
		return "version = 1\n" + strict + "[[match]]\n" + criterion + "\ntemplate = \"strict\"\n" + lax
	}
	reg, errs := load(t, schoolOptions(), first(`uid = "20002"`))
	require.Empty(t, errs)
	assert.Equal(t, "/srv/strict/cs-ben", reg.Jail("cs-ben").Source.Path)
	for name, text := range map[string]string{
		"no range":          first(`uid = "20002-"`),
		"wrong type":        first(`uid = 20002`),
		"nothing":           first(``),
		"unknown template":  strings.Replace(first(`uid = "20002"`), `"strict"`, `"stirct"`, 1),
		"template at fault": strings.Replace(first(`uid = "20002"`), "[template.lax]", "x = 1\n[template.lax]", 1),
	} {
		opt := schoolOptions()
		opt.Before = reg
		now, errs := load(t, opt, text)
		require.NotEmpty(t, errs)
		assert.Equal(t, []string{"cs-ann: cs-ann", "cs-cat: cs-cat"}, inForce(now), name)
		assert.Contains(t, outOfService(now), "cs-ben: cs-ben", name)
		for i := range now.Faults {
			if f := &now.Faults[i]; f.Jail == "cs-ben" {
				assert.Equal(t, reg.Jail("cs-ben").Userns, f.Userns, "its range is nobody else's")
			}
		}
		opt.Before = now // and so on
		again, _ := load(t, opt, text)
		assert.Equal(t, inForce(now), inForce(again), name)
		again, errs = load(t, opt, first(`uid = "20002"`))
		require.Empty(t, errs)
		assert.Equal(t, reg.Jails, again.Jails, name)
		// A jail that lists the account comes first all the same.
		again, _ = load(t, opt, text+"[jail.own]\nrootfs = \"/srv/own\"\nusers = [\"cs-ben\"]\n")
		assert.Contains(t, inForce(again), "own: cs-ben", name)
	}
	// It is gone on purpose.
	opt := schoolOptions()
	opt.Before = reg
	now, errs := load(t, opt, "version = 1\n"+strict+lax)
	require.Empty(t, errs)
	assert.Equal(t, "/srv/lax/cs-ben", now.Jail("cs-ben").Source.Path)
	// The file it is in cannot be read.
	apart := []string{"version = 1\n" + strict, "version = 1\n[[match]]\nuid = \"20002\"\ntemplate = \"strict\"\n", "version = 1\n" + lax}
	reg, errs = load(t, schoolOptions(), apart...)
	require.Empty(t, errs)
	apart[1] = "["
	opt.Before = reg
	now, _ = load(t, opt, apart...)
	assert.Equal(t, []string{"cs-ann: cs-ann", "cs-cat: cs-cat"}, inForce(now))
}

// An account that comes or goes moves nobody else's range, however many there are.
func TestRangesOfMatchedAccountsStay(t *testing.T) {
	passwd := func(from, to int) string {
		var s strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&s, "u%d:x:%d:3000::/:/bin/sh\n", i, 100_000+i)
		}
		return s.String()
	}
	opt := schoolOptions()
	text := "version = 1\n" + student + "uid = 1000\n" + students
	ranges := func(reg *Registry) map[string]jail.Userns {
		all := map[string]jail.Userns{}
		for _, j := range reg.Jails {
			all[j.Name] = j.Userns
		}
		return all
	}
	opt.Passwd = []byte(passwd(3000, 6000))
	reg, errs := load(t, opt, text)
	require.Empty(t, errs)
	had := ranges(reg)
	require.Len(t, had, 3000)
	opt.Before = reg
	opt.Passwd = []byte("a0:x:99999:3000::/:/bin/sh\n" + passwd(0, 4000) + passwd(4100, 7000))
	reg, errs = load(t, opt, text)
	require.Empty(t, errs)
	now := ranges(reg)
	require.Len(t, now, 6901)
	seen := map[uint32]bool{}
	for name, r := range now {
		require.False(t, seen[r.Base])
		seen[r.Base] = true
		if old, ok := had[name]; ok {
			require.Equal(t, old, r, name)
		}
	}
}

// The six lines of the README: cages of the host, one around each account's home.
func TestCagesForAGroup(t *testing.T) {
	reg, errs := load(t, schoolOptions(), "version = 1\n[template.student]\nrootfs = \"host\"\n"+students)
	require.Empty(t, errs)
	assert.Equal(t, []string{"alice: alice", "cs-ann: cs-ann", "cs-ben: cs-ben"}, inForce(reg))
	assert.NotEqual(t, reg.Jail("alice").Source, reg.Jail("cs-ann").Source)
}

func TestUIDMin(t *testing.T) {
	for text, want := range map[string]uint32{
		"": 1000, "UID_MIN 1000\n": 1000, "UID_MIN\t\t 5000 \n": 5000, "UID_MIN 500\n": 1000, "#UID_MIN 5000\n": 1000, "SYS_UID_MIN 2000": 1000, "UID_MIN x": 1000,
	} {
		assert.Equal(t, want, firstUID([]byte(text)), "%q", text)
	}
	opt := schoolOptions()
	opt.LoginDefs = []byte("UID_MIN 20002\n")
	reg, errs := load(t, opt, "version = 1\n"+student+students)
	assert.Equal(t, []string{"cs-ben: cs-ben"}, inForce(reg))
	require.Len(t, errs, 1)
	assert.Contains(t, errs[0].Error(), `stands for system accounts (alice, cs-ann), whom no jail can hold`)
}

// A home directory that a template shows is the account's own.
func TestHomes(t *testing.T) {
	needs.Root(t, "homes belong to accounts")
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	var passwd strings.Builder
	for i, name := range []string{"good", "link", "through", "none", "theirs", "file"} {
		uid, home := 30000+i, dir+"/homes/"+name
		switch name {
		case "link":
			require.NoError(t, os.Symlink("/etc", home))
		case "through":
			home = dir + "/to/good"
		case "none":
		case "file":
			require.NoError(t, os.WriteFile(home, nil, 0o600))
		default:
			require.NoError(t, os.MkdirAll(home, 0o700))
		}
		if name != "none" && name != "theirs" && name != "through" {
			require.NoError(t, os.Lchown(home, uid, uid))
		}
		require.NoError(t, os.MkdirAll(dir+"/roots/"+name, 0o755))
		fmt.Fprintf(&passwd, "%s:x:%d:3000::%s:/bin/sh\n", name, uid, home)
	}
	fmt.Fprintf(&passwd, "etc:x:30010:3000::/etc:/bin/sh\nempty:x:30011:3000:::/bin/sh\nslash:x:30012:3000::/:/bin/sh\n")
	opt := schoolOptions()
	opt.SkipFS = false
	opt.Passwd, opt.Group = []byte(passwd.String()), []byte("students:x:3000:\n")
	require.NoError(t, os.Symlink("homes", dir+"/to"))
	for _, n := range []string{"etc", "empty", "slash"} {
		require.NoError(t, os.MkdirAll(dir+"/roots/"+n, 0o755))
	}
	reg, errs := load(t, opt, "version = 1\n[template.student]\nrootfs = \""+dir+"/roots/{user}\"\nmounts = [ { source = \"{home}\", target = \"/home/me\" } ]\n"+students)
	assert.Equal(t, []string{"good: good"}, inForce(reg), "%v", errs)
	byJail := map[string]Errors{}
	for _, f := range reg.Faults {
		byJail[f.Jail] = f.Errors
	}
	for name, want := range map[string]string{
		"link":    "leads through the symbolic link " + dir + "/homes/link",
		"through": "leads through the symbolic link " + dir + "/to",
		"none":    "the home directory of account none: " + dir + "/homes/none does not exist",
		"theirs":  "belongs to uid 0",
		"file":    "is no directory",
		"etc":     "account etc has /etc as home directory, which is the host's own",
		"empty":   `account empty has "" as home directory, which is no clean absolute path`,
		"slash":   "account slash has / as home directory, which is the host's own",
	} {
		require.NotEmpty(t, byJail[name], name)
		assert.Contains(t, byJail[name][0].Error(), want, name)
		assert.Contains(t, byJail[name][0].Error(), ":4: template.student.mounts[0].source: ", name)
		if !slices.Contains([]string{"empty", "slash", "etc"}, name) {
			assert.Len(t, byJail[name], 1, "%v", byJail[name])
		}
	}
}

// Accounts and groups of a directory: systemd's userdb, as in TestAccountsOfTheNameService.
func TestMatchByTheNameService(t *testing.T) {
	if os.Getenv("JAIL_TEST_NSS") == "" {
		needs.Root(t, "it mounts")
		cmd := exec.Command(os.Args[0], "-test.run=^TestMatchByTheNameService$", "-test.v")
		cmd.Env = append(os.Environ(), "JAIL_TEST_NSS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	dir := t.TempDir()
	script := dir + "/getent" // a directory whose every mood can be had
	old := getents
	getents = []string{script}
	defer func() { getents = old }()
	nsswitch := dir + "/nsswitch.conf"
	mood := func(sources, passwd, group, trailer string) {
		t.Helper()
		require.NoError(t, os.WriteFile(nsswitch, []byte("passwd: files "+sources+"\ngroup: files "+sources+"\n"), 0o644))
		require.NoError(t, os.WriteFile(dir+"/passwd", []byte(passwd), 0o644))
		require.NoError(t, os.WriteFile(dir+"/group", []byte(group), 0o644))
		require.NoError(t, os.WriteFile(script, []byte(`#!/bin/sh
db=$1; shift
echo "$db $*" >>`+dir+`/asked
`+trailer+`
if [ $# = 0 ]; then [ -e `+dir+`/mute ] || cat `+dir+`/$db; exit 0; fi
shift
for k; do grep "^$k:" `+dir+`/$db; done
exit 2
`), 0o755))
	}
	mood("ldap", "", "", "")
	require.NoError(t, unix.Mount(nsswitch, "/etc/nsswitch.conf", "", unix.MS_BIND, ""))
	var before *Registry
	files := "root:x:0:\n"
	loadAll := func(text string) *Registry {
		t.Helper()
		var ps problems
		opt := Options{SkipFS: true, Before: before, Group: []byte(files)}.complete(&ps)
		require.Empty(t, ps.errors)
		reg, err := build(ps, DefaultPath, []source{{path: DefaultPath, text: []byte("version = 1\n" + text)}}, opt)
		require.NoError(t, err)
		noFaultIsInForce(t, reg)
		return reg
	}
	const (
		people = "ann:x:31001:3000::/home/ann:/bin/sh\nben:x:31002:31002::/:/bin/sh\ncat:x:31003:31003::/:/bin/sh\ndoc:x:31004:3000::/:/bin/sh\n"
		groups = "students:x:3000:ben,ghost\ndocker:x:998:doc\n"
	)
	text := student + students
	all := []string{"ann: ann", "ben: ben"}

	mood("ldap", people, groups, "")
	reg := loadAll(text)
	assert.Equal(t, all, inForce(reg), "%v", reg.Errors())
	assert.Contains(t, reg.Errors().Error(), `login "doc" is in the host's group docker and so nearly root`)
	assert.Contains(t, fmt.Sprint(reg.Warnings), "group students has members that are no accounts of the host (ghost)")
	assert.Len(t, reg.Accounts, 3)
	asked, err := os.ReadFile(dir + "/asked")
	require.NoError(t, err)
	assert.Equal(t, 3, strings.Count(string(asked), "\n"), "a question for groups, one for all accounts, one for members that are in neither: %s", asked)

	// One that lists nobody: members are found by name, and it is said who is not.
	mood("sss", people, groups, "")
	require.NoError(t, os.WriteFile(dir+"/mute", nil, 0o644))
	reg = loadAll(text + "[[match]]\nuser = \"ca*\"\ntemplate = \"student\"\n")
	assert.Equal(t, []string{"ben: ben"}, inForce(reg))
	assert.Contains(t, fmt.Sprint(reg.Warnings), "sss of nsswitch.conf lists no accounts, so of those that have students as their primary group only the ones of /etc/passwd are found")
	assert.Contains(t, fmt.Sprint(reg.Warnings), "sss of nsswitch.conf lists no accounts, so only those of /etc/passwd are matched by user = \"ca*\"")
	reg = loadAll(student + "[[match]]\nuser = \"cat\"\ntemplate = \"student\"\n")
	assert.Equal(t, []string{"cat: cat"}, inForce(reg), "a name needs no list")
	assert.NotContains(t, fmt.Sprint(reg.Warnings), "lists no accounts")
	require.NoError(t, os.Remove(dir+"/mute"))

	mood("ldap", people, groups, "")
	before = loadAll(text)
	require.Equal(t, all, inForce(before))

	for name, sick := range map[string]func(){
		"knows nothing":      func() { mood("ldap", "", "", "") },
		"has no accounts":    func() { mood("ldap", "", groups, "") },
		"fails":              func() { mood("ldap", people, groups, "exit 1") },
		"fails for accounts": func() { mood("ldap", people, groups, `[ $db = passwd ] && exit 1`) },
		"fails for groups":   func() { mood("ldap", people+"new:x:31009:3000::/:/bin/sh\n", groups, `[ $db = group ] && exit 1`) },
	} {
		sick()
		reg = loadAll(text)
		assert.Equal(t, all, inForce(reg), "%s: known accounts go on: %v", name, reg.Warnings)
		assert.Equal(t, before.Jails, reg.Jails, name)
		assert.NotEmpty(t, reg.Warnings, name)
	}

	// Who is nearly root cannot be told: nobody comes in that was not, and members of a group
	// that the files know a part of stay.
	was := before
	uids := student + "[[match]]\nuid = \"31001-31009\"\ntemplate = \"student\"\n"
	before = nil
	mood("ldap", people, groups, "")
	before = loadAll(uids)
	require.Equal(t, []string{"ann: ann", "ben: ben", "cat: cat"}, inForce(before))
	mood("ldap", people+"new:x:31009:3000::/:/bin/sh\n", groups, `[ $db = group ] && exit 1`)
	reg = loadAll(uids)
	assert.Equal(t, inForce(before), inForce(reg), "neither doc, who was out of service, nor new")
	before, files = was, files+"students:x:3000:\n"
	assert.Equal(t, all, inForce(loadAll(text)))

	// It is well, and ann has left; so has ben, but only the group.
	mood("ldap", strings.Replace(people, "ann", "eve", 1), strings.Replace(groups, "ben,", "", 1), "")
	reg = loadAll(text)
	assert.Equal(t, []string{"eve: eve"}, inForce(reg), "%v", reg.Warnings)
	assert.False(t, slices.ContainsFunc(reg.Accounts, func(a Account) bool { return a.Name == "ann" }))
}

// What stands for one thing only is expanded, whatever else is in a value.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"/srv/{user}", "{{}}", "{home}/{uid}", "{", "}", "{user", "{{user}}", "{{{user}}}", "{}"} {
		f.Add(s)
	}
	x := expansion{"U", "1", "/H"}
	f.Fuzz(func(t *testing.T, s string) {
		n := 0
		got, err := x.expand(s, func(string) { n++ })
		if err != nil {
			if got != "" {
				t.Fatal(got)
			}
			return
		}
		if n == 0 && strings.Count(got, "{")*2 != strings.Count(s, "{") {
			t.Fatalf("%q from %q", got, s)
		}
		if !strings.ContainsAny(s, "{}") && got != s {
			t.Fatalf("%q from %q", got, s)
		}
	})
}

func BenchmarkMatched(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			opt := schoolOptions()
			var passwd strings.Builder
			for i := range n {
				fmt.Fprintf(&passwd, "u%d:x:%d:3000::/home/u%d:/bin/sh\n", i, 100_000+i, i)
			}
			opt.Passwd, opt.Group = []byte(passwd.String()), []byte("students:x:3000:\n")
			text := "version = 1\n" + student + "uid = 1000\nlimits = { memory = \"1G\" }\nenv = { A = \"{user}\" }\nmounts = [ { source = \"{home}\", target = \"/home/{user}\" } ]\n" + students
			for b.Loop() {
				reg, errs := load(b, opt, text)
				if len(errs) > 0 || len(reg.Jails) != n {
					b.Fatal(errs)
				}
			}
		})
	}
}
