package config

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
)

// inForce is what a registry lets in, as "jail: login login".
func inForce(reg *Registry) []string {
	list := []string{}
	for _, j := range reg.Jails {
		names := []string{}
		for _, l := range j.Logins {
			names = append(names, l.Name)
		}
		list = append(list, j.Name+": "+strings.Join(names, " "))
	}
	return list
}

// outOfService is what the faults are of, as "jail: login login".
func outOfService(reg *Registry) []string {
	list := []string{}
	for _, f := range reg.Faults {
		names := []string{}
		for _, l := range f.Logins {
			names = append(names, l.Name)
		}
		list = append(list, f.Jail+": "+strings.Join(names, " "))
	}
	return list
}

// Every row adds lines to the jail "web" of alice and bob, lines to "db" of centos, or
// a drop-in. "mail" of carol is nobody's fault.
func TestFaultPutsOutOfServiceWhatItConcerns(t *testing.T) {
	const mail = "mail: carol"
	for name, tt := range map[string]struct {
		web, db, dropin string
		in, out         []string
	}{
		"nothing":                 {in: []string{"db: centos", mail, "web: alice bob"}, out: []string{}},
		"unknown key":             {web: "zoo = 1", in: []string{"db: centos", mail}, out: []string{"web: alice bob"}},
		"wrong type":              {web: "hostname = 1", in: []string{"db: centos", mail}, out: []string{"web: alice bob"}},
		"limit that is none":      {web: `limits = { memory = "much" }`, in: []string{"db: centos", mail}, out: []string{"web: alice bob"}},
		"limit misspelt":          {web: `limits = { memori = "1G" }`, in: []string{"db: centos", mail}, out: []string{"web: alice bob"}},
		"mount of the host":       {web: `mounts = [ { source = "/proc", target = "/x" } ]`, in: []string{"db: centos", mail}, out: []string{"web: alice bob"}},
		"variable of the loader":  {web: `env = { LD_PRELOAD = "/x" }`, in: []string{"db: centos", mail}, out: []string{"web: alice bob"}},
		"mode of userns":          {web: `userns = "atuo"`, in: []string{"db: centos", mail}, out: []string{"web: alice bob"}},
		"mount of another's root": {web: `mounts = [ { source = "/srv/db/x", target = "/x" } ]`, in: []string{"db: centos", mail}, out: []string{"web: alice bob"}},

		"login the host does not know": {web: "users.ghost = {}", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"web: ghost"}},
		"login that is nearly root":    {web: "users.admin = {}", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"web: admin"}},
		"login's own key":              {web: "users.high = { uid = 1, shel = \"/x\" }", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"web: high"}},
		"login outside the id map":     {web: "users.high = {}", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"web: high"}},
		"login's name":                 {web: `users."a/b" = {}`, in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"web: "}},
		"twin uids":                    {web: "users.twin1 = {}\nusers.twin2 = {}", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"web: twin1", "web: twin2"}},

		"login in two jails":          {db: "users.alice = {}", in: []string{"db: centos", mail, "web: bob"}, out: []string{"db: alice", "web: alice"}},
		"only login in two jails":     {web: "users.centos = {}", in: []string{mail, "web: alice bob"}, out: []string{"db: centos", "web: centos"}},
		"login of a jail with faults": {web: "zoo = 1", db: "users.alice = {}", in: []string{"db: centos", mail}, out: []string{"db: alice", "web: alice bob"}},
		"range of two jails": {web: "userns = { base = 200000, size = 65536 }", db: "userns = { base = 265535, size = 65536 }",
			in: []string{mail}, out: []string{"db: centos", "web: alice bob"}},

		"drop-in: not TOML":            {dropin: "[", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{": "}},
		"drop-in: version":             {dropin: "version = 2\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [ \"high\" ]\nuid = 7", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"x: high"}},
		"drop-in: unknown key":         {dropin: "version = 1\n[jial.y]\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [ \"high\" ]\nuid = 7", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"x: high"}},
		"drop-in: defaults":            {dropin: "version = 1\n[defaults]\nautostart = true", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{": "}},
		"drop-in: the name of another": {dropin: "version = 1\n[jail.db]\nrootfs = \"/srv/x\"\nusers = [ \"high\" ]\nuid = 7", in: []string{mail, "web: alice bob"}, out: []string{"db: centos high"}},
		"drop-in: a login of another":  {dropin: "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [ \"bob\" ]", in: []string{"db: centos", mail, "web: alice"}, out: []string{"web: bob", "x: bob"}},
		"drop-in: rootfs of another":   {dropin: "version = 1\n[jail.x]\nrootfs = \"/srv/db\"\nusers = [ \"high\" ]\nuid = 7", in: []string{mail, "web: alice bob"}, out: []string{"db: centos", "x: high"}},
		"drop-in: rootfs in another's": {dropin: "version = 1\n[jail.x]\nrootfs = \"/srv/db/x\"\nusers = [ \"high\" ]\nuid = 7", in: []string{mail, "web: alice bob"}, out: []string{"db: centos", "x: high"}},
		"drop-in: rootfs around all":   {dropin: "version = 1\n[jail.x]\nrootfs = \"/srv\"\nusers = [ \"high\" ]\nuid = 7", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"x: high"}},
		"drop-in: rootfs around two":   {dropin: "version = 1\n[jail.x]\nrootfs = \"/srv/j\"\nusers = [ \"high\" ]\nuid = 7\n[jail.y]\nrootfs = \"/srv/j/y\"\nusers = [ \"high2\" ]\nuid = 7\n[jail.z]\nrootfs = \"/srv/j/z\"\nusers = [ \"high3\" ]\nuid = 7", in: []string{"db: centos", mail, "web: alice bob", "y: high2", "z: high3"}, out: []string{"x: high"}},
		"drop-in: rootfs of two more":  {dropin: "version = 1\n[jail.x]\nrootfs = \"/srv/db\"\nusers = [ \"high\" ]\nuid = 7\n[jail.y]\nrootfs = \"/srv/db\"\nusers = [ \"high2\" ]\nuid = 7", in: []string{mail, "web: alice bob"}, out: []string{"db: centos", "x: high", "y: high2"}},
		"drop-in: on defaults' mount":  {dropin: "version = 1\n[jail.x]\nrootfs = \"/opt/shared\"\nusers = [ \"high\" ]\nuid = 7", in: []string{"db: centos", mail, "web: alice bob"}, out: []string{"x: high"}},
		"drop-in: range around others": {web: "userns = { base = 200000, size = 65536 }", db: "userns = { base = 300000, size = 65536 }",
			dropin: "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [ \"high\" ]\nuid = 7\nuserns = { base = 200000, size = 165536 }",
			in:     []string{"db: centos", mail, "web: alice bob"}, out: []string{"x: high"}},
	} {
		t.Run(name, func(t *testing.T) {
			opt := testOptions()
			opt.SubUID = nil
			opt.Passwd = append([]byte("high2:x:90001:90001::/:\nhigh3:x:90002:90002::/:\n"), opt.Passwd...)
			files := []string{"version = 1\n[defaults]\nmounts = [ { source = \"/opt/shared\", target = \"/shared\" } ]\n" +
				"[jail.web]\nrootfs = \"/srv/web\"\nusers.alice = {}\nusers.bob = {}\n" + tt.web +
				"\n[jail.db]\nrootfs = \"/srv/db\"\nusers.centos = {}\n" + tt.db +
				"\n[jail.mail]\nrootfs = \"/srv/mail\"\nusers.carol = {}\n"}
			if tt.dropin != "" {
				files = append(files, tt.dropin)
			}
			reg, errs := load(t, opt, files...)
			assert.Equal(t, tt.in, inForce(reg), "%v", errs)
			assert.Equal(t, tt.out, outOfService(reg), "%v", errs)
			assert.Equal(t, len(tt.out) > 0, len(errs) > 0)
		})
	}
}

// What is wrong in the main file outside a jail concerns every jail.
func TestFaultOfTheWholeLeavesNothing(t *testing.T) {
	good := "\n[jail.web]\nrootfs = \"/srv/web\"\nusers = [\"alice\"]\n"
	for name, text := range map[string]string{
		"not TOML":                 "version = 1\n[" + good,
		"no version":               good,
		"another version":          "version = 2" + good,
		"unknown key":              "version = 1\n[default]\nautostart = true" + good,
		"unknown key in defaults":  "version = 1\n[defaults]\nautostrat = true" + good,
		"defaults of a wrong type": "version = 1\n[defaults]\nlimits = 1" + good,
		"a limit in defaults":      "version = 1\n[defaults]\nlimits.memory = \"x\"" + good,
	} {
		t.Run(name, func(t *testing.T) {
			var ps problems
			opt := testOptions()
			reg, err := build(ps, DefaultPath, []source{
				{path: DefaultPath, text: []byte(text)},
				{path: "/etc/jail/jail.d/a.toml", text: []byte("version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]")},
			}, opt.complete(&ps))
			var errs Errors
			require.ErrorAs(t, err, &errs)
			require.Len(t, errs, 1)
			assert.Empty(t, reg.Jails)
			assert.Empty(t, reg.Faults)
		})
	}
}

// The jails of a drop-in that cannot be read are known from before: their logins
// land nowhere else and their ranges are nobody else's, however often it is loaded.
func TestLostDropInIsHeldToWhatItWas(t *testing.T) {
	const main = "version = 1\n[jail.web]\nrootfs = \"/srv/web\"\nusers = [\"alice\"]"
	const good = "version = 1\n[jail.db]\nrootfs = \"/srv/db\"\nusers = [\"bob\", \"ghost\"]"
	opt := testOptions()
	before, _ := load(t, opt, main, good)
	require.NotNil(t, before.Jail("db"))
	first := before
	rival := "" // has the same slot as its first choice
	for i := uint32(0); rival == ""; i++ {
		if name := "j" + uintString(i); preferredSlot(0, name) == preferredSlot(0, "db") {
			rival = name
		}
	}
	for range 3 {
		opt.Before = before
		reg, errs := load(t, opt, main, "[")
		require.Len(t, errs, 1)
		assert.Equal(t, []string{"web: alice"}, inForce(reg))
		assert.Equal(t, []string{"db: bob", "db: ghost"}, outOfService(reg))
		assert.Equal(t, before.Jail("web").Userns, reg.Jail("web").Userns)

		// The same accounts in another file, while theirs cannot be read.
		for _, other := range []string{`users = ["bob", "carol"]`, "users = [\"carol\"]\n[jail.db]\nrootfs = \"/srv/db\"\nusers = [\"bob\"]"} {
			opt.Before = reg
			elsewhere, _ := load(t, opt, main, "[", "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\n"+other)
			assert.Equal(t, []string{"web: alice", "x: carol"}, inForce(elsewhere))
			for _, f := range elsewhere.Faults {
				if f.Jail == "x" {
					assert.Contains(t, f.Errors.Error(), `login "bob" is in jail "db" by /etc/jail/jail.d/a.toml, which cannot be used now`)
				}
			}
		}
		// Its name, with accounts that are nobody's, and a jail that would like its ids.
		opt.Before = reg
		elsewhere, _ := load(t, opt, main, "[", "version = 1\n[jail.db]\nrootfs = \"/srv/other\"\nusers = [\"centos\"]")
		assert.Equal(t, []string{"web: alice"}, inForce(elsewhere))
		assert.Contains(t, elsewhere.Errors().Error(), `jail "db" is in /etc/jail/jail.d/a.toml by what was in force`)
		elsewhere, _ = load(t, opt, main, "[", "version = 1\n[jail."+rival+"]\nrootfs = \"/srv/other\"\nusers = [\"centos\"]")
		require.NotNil(t, elsewhere.Jail(rival))
		assert.NotEqual(t, first.Jail("db").Userns, elsewhere.Jail(rival).Userns)

		mended, errs := load(t, opt, main, good)
		require.Len(t, errs, 1)
		assert.Equal(t, []string{"db: bob", "web: alice"}, inForce(mended))
		assert.Equal(t, first.Jails, mended.Jails)
		before = reg
	}
	t.Run("a file of somebody else's hand is not even read", func(t *testing.T) {
		dir, opt := tree(t)
		opt.SkipPlaces = true
		write(t, dir+"/jail.d/a.toml", "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"alice\"]")
		require.NoError(t, os.Chmod(dir+"/jail.d/a.toml", 0o664))
		reg, err := Load(dir+"/jail.toml", opt)
		require.NoError(t, err)
		assert.Equal(t, []string{"web: alice"}, inForce(reg), "who may write the drop-in has no say about alice")
		assert.Equal(t, []string{": "}, outOfService(reg))
	})
}

// A jail that was in force keeps its range when a new one comes whose name is in
// front of it in the same slot.
func TestRangeIsKeptAcrossAReload(t *testing.T) {
	lo, hi := "", ""
	first := map[uint32]string{}
	for i := 0; lo == ""; i++ {
		name := "j" + uintString(uint32(i))
		if other, ok := first[preferredSlot(0, name)]; ok {
			lo, hi = min(other, name), max(other, name)
		}
		first[preferredSlot(0, name)] = name
	}
	old := "version = 1\n[jail." + hi + "]\nrootfs = \"/srv/hi\"\nusers = [\"bob\"]\n"
	opt := testOptions()
	before, _ := load(t, opt, old)
	opt.Before = before
	reg, errs := load(t, opt, old+"[jail."+lo+"]\nrootfs = \"/srv/lo\"\nusers = [\"alice\"]")
	require.Empty(t, errs)
	assert.Equal(t, before.Jail(hi).Userns, reg.Jail(hi).Userns)
	assert.NotEqual(t, before.Jail(hi).Userns, reg.Jail(lo).Userns)
	// Also while the old one is out of service for a fault.
	reg, errs = load(t, opt, old+"zoo = 1\n[jail."+lo+"]\nrootfs = \"/srv/lo\"\nusers = [\"alice\"]")
	require.Len(t, errs, 1)
	assert.NotEqual(t, before.Jail(hi).Userns, reg.Jail(lo).Userns)
}

// A registry of random jails, and one of them with a random fault: all others are
// what they were without it, to the last bit.
func TestFaultOfOneJailLeavesTheOthersAsTheyWere(t *testing.T) {
	faults := []string{
		"zoo = 1", "hostname = \"-\"", "hostname = 7", "idle_timeout = \"soon\"", "on_disconnect = \"x\"", "sftp = 1", "env = { HOME = \"/\" }",
		"env_accept = [\"LD_X\"]", "limits = { cpu = \"1\" }", "limits = { pids = -1 }", "mounts = [ {} ]", "mounts = [ { source = \"/dev\", target = \"/x\" } ]",
		"gid = 0", "uid = 65535", "timezone = \"../x\"", "resolv_conf = 1", "x11 = 1", "mounts = [ { source = \"/run/jail\", target = \"/x\" } ]",
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		type one struct{ name, head, lines string }
		var passwd strings.Builder
		passwd.WriteString(testPasswd)
		jails := make([]one, 2+rnd.IntN(12))
		for i := range jails {
			name := fmt.Sprintf("j%d-%d", rnd.IntN(1<<30), i)
			fmt.Fprintf(&passwd, "u%d:x:%d:%d::/:/bin/sh\n", i, 3000+i, 3000+i)
			jails[i] = one{name, fmt.Sprintf("[jail.%s]\nrootfs = \"/srv/%s\"\nusers = [\"u%d\"]\n", name, name, i), ""}
			switch rnd.IntN(4) {
			case 0:
				jails[i].lines = fmt.Sprintf("userns = { base = %d, size = 65536 }\n", 0x7FFB0000-slotSize*(1+rnd.IntN(20)))
			case 1:
				jails[i].lines = "limits = { memory = \"1G\" }\nautostart = true\n"
			}
		}
		text := func(bad int, fault string) []string {
			files := []string{"version = 1\n[defaults]\nlimits.pids = 7\n", "version = 1\n"}
			for i, j := range jails {
				lines := j.head + j.lines
				if i == bad {
					key, _, _ := strings.Cut(fault, " ")
					lines = j.head
					for _, l := range strings.SplitAfter(j.lines, "\n") {
						if !strings.HasPrefix(l, key+" ") {
							lines += l
						}
					}
					lines += fault + "\n"
				}
				files[i%2] += lines
			}
			return files
		}
		opt := testOptions()
		opt.SubUID = []byte("x:1879048192:" + uintString((4091-20)*slotSize) + "\n") // 20 slots are left
		opt.Passwd = []byte(passwd.String())
		whole, _ := load(t, opt, text(-1, "")...)
		bad := rnd.IntN(len(jails))
		fault := faults[rnd.IntN(len(faults))]
		part, errs := load(t, opt, text(bad, fault)...)
		require.NotEmpty(t, errs, "%s", fault)
		var want []jail.Spec
		for _, j := range whole.Jails {
			if j.Name != jails[bad].name {
				want = append(want, j)
			}
		}
		require.Equal(t, want, part.Jails, "round %d: %s in jail %s", round, fault, jails[bad].name)
		for _, e := range errs {
			// What was wrong before is wrong still, as ranges that overlap are.
			require.True(t, strings.Contains(e.Key, jails[bad].name) || strings.Contains(e.Msg, "overlaps"), "%v", e)
		}
	}
}
