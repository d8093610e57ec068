package audit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/passwd"
)

const filesOnly = "passwd: files systemd\ngroup: files\n"

// people is a host of some accounts: amy and ann differ in nothing but the name, bob is
// in another group, cat has another's primary group.
func people(conf string) *auditor {
	a := &auditor{opt: Options{
		Passwd: []byte("root:x:0:0::/:/bin/sh\namy:x:2001:2001::/:/x\nann:x:2002:2002::/:/x\nbob:x:2003:2003::/:/x\ncat:x:2004:2900::/:/x\ndan:x:2005:2005::/:/x\n"),
		Group:  []byte("root:x:0:\namy:x:2001:\nann:x:2002:\nbob:x:2003:\njailed:x:2900:amy,ann\nstaff:x:50:bob\n"),
	}}
	a.files = fakeFS{
		"/usr/sbin/sshd":       {},
		"/etc/ssh/sshd_config": {text: conf},
		"/etc/nsswitch.conf":   {text: filesOnly},
	}
	a.opt.groupsFrom = func(sources, names []string) (map[string]string, error) {
		return nil, errors.New("not to be asked")
	}
	return a
}

func (a *auditor) somebody(names ...string) []*login {
	var all []*login
	for _, n := range names {
		e, _ := passwd.ByName(a.opt.Passwd, n)
		all = append(all, &login{Entry: e})
	}
	return all
}

var everybody = []string{"amy", "ann", "bob", "cat", "dan"}

// partition says who is like whom: "amy ann/bob".
func partition(t *testing.T, a *auditor) string {
	logins := a.somebody(everybody...)
	c, err := a.classesOf(logins)
	require.NoError(t, err)
	var order []string
	members := map[string][]string{}
	for _, l := range logins {
		key := c.of(l)
		if members[key] == nil {
			order = append(order, key)
		}
		members[key] = append(members[key], l.Name)
	}
	var parts []string
	for _, k := range order {
		parts = append(parts, strings.Join(members[k], " "))
	}
	return strings.Join(parts, "/")
}

func TestWhomSSHDTellsApart(t *testing.T) {
	for _, tc := range []struct{ conf, want string }{
		{"", "amy ann bob cat dan"},
		{"Port 22\nForceCommand match user bob\n# Match User bob\n", "amy ann bob cat dan"},
		{"Match User bob\n", "amy ann cat dan/bob"},
		{"  match\tuser  bob \r\n", "amy ann cat dan/bob"},
		{"Match User BOB\n", "amy ann cat dan/bob"}, // told apart without need
		{"Match User !bob,*\n", "amy ann cat dan/bob"},
		{"Match User a*\n", "amy ann/bob cat dan"},
		{"Match User a?y,b*\n", "amy/ann cat dan/bob"},
		{"Match User a*\nMatch User amy\n", "amy/ann/bob cat dan"},
		{"Match all\nMatch Address 10.0.0.0/8,!10.1.1.1 LocalPort 22\n", "amy ann bob cat dan"},
		// dan's primary group is in no file: its name is the name service's to say.
		{"Match Group jailed\n", "amy ann/bob/cat/dan"},
		{"Match Group jailed,staff Address 10.0.0.0/8\n", "amy ann/bob/cat/dan"},
		{"Match Group b*\n", "amy ann cat/bob/dan"},
		{"Match Group nobody\n", "amy ann bob cat/dan"},
	} {
		got := partition(t, people(tc.conf))
		if strings.Contains(tc.conf, "Group jailed") {
			// cat's jailed is a primary one, which makes no difference.
			tc.want = strings.Replace(tc.want, "amy ann/bob/cat/", "amy ann cat/bob/", 1)
		}
		assert.Equal(t, tc.want, got, tc.conf)
	}

	t.Run("what is included counts", func(t *testing.T) {
		a := people("Include sshd_config.d/*.conf\n")
		a.files.(fakeFS)["/etc/ssh/sshd_config.d/x.conf"] = fakeFile{text: "Match User bob\n"}
		assert.Equal(t, "amy ann cat dan/bob", partition(t, a))
	})
	t.Run("what others than the files say of groups counts", func(t *testing.T) {
		a := people("Match Group far\n")
		a.files.(fakeFS)["/etc/nsswitch.conf"] = fakeFile{text: "passwd: files\ngroup: files [SUCCESS=merge] systemd sss\n"}
		a.opt.groupsFrom = func(sources, names []string) (map[string]string, error) {
			assert.Equal(t, []string{"systemd", "sss"}, sources)
			return map[string]string{"ann": "sss 7000"}, nil
		}
		assert.Equal(t, "amy bob cat/ann/dan", partition(t, a))
	})
}

// What is not plain is not guessed at.
func TestWhereSSHDIsAskedAboutEveryLogin(t *testing.T) {
	for name, change := range map[string]func(a *auditor, f fakeFS){
		"quotes":                conf(`Match User "bob"`),
		"a quoted word":         conf(`"Match" User bob`),
		"an equals sign":        conf("Match=User bob"),
		"another":               conf("Match User=bob"),
		"a comment behind":      conf("Match User bob # and Group staff"),
		"an escape":             conf(`Match User b\ob`),
		"an odd criterion":      conf("Match Exec /bin/true"),
		"a new one":             conf("Match invalid-user"),
		"no value":              conf("Match User"),
		"no criterion":          conf("Match"),
		"a zero byte":           conf("Match User bob\x00"),
		"another alphabet":      conf("Match User böb"),
		"a mark at the start":   conf("\ufeffMatch User bob"),
		"a form feed":           conf("\fMatch User bob"),
		"a long pattern":        conf("Match User " + strings.Repeat("x", 1001)),
		"an include of a class": conf("Include sshd_config.d/[!a]*"),
		"an include of a home":  conf("Include ~/x"),
		"no file":               func(_ *auditor, f fakeFS) { delete(f, "/etc/ssh/sshd_config") },
		"sshd from elsewhere":   func(a *auditor, _ fakeFS) { a.opt.SSHD = "/opt/bin/sshd" },
		"a relative include": func(a *auditor, f fakeFS) {
			a.opt.SSHD, a.opt.SSHDConfig = "/opt/bin/sshd", "/c"
			f["/c"] = fakeFile{text: "Include x"}
		},
		"an include in a circle": conf("Include /etc/ssh/sshd_config"),
		"no nsswitch.conf":       func(_ *auditor, f fakeFS) { delete(f, "/etc/nsswitch.conf") },
		"compat":                 nss("passwd: files\ngroup: compat\n"),
		"files not first":        nss("passwd: files\ngroup: sss files\n"),
		"accounts not first":     nss("passwd: sss files\ngroup: files\n"),
		"an action":              nss("passwd: files\ngroup: files [NOTFOUND=return] sss\n"),
		"initgroups":             nss("passwd: files\ngroup: files\ninitgroups: sss\n"),
		"twice":                  nss("passwd: files\ngroup: files\ngroup: files sss\n"),
		"a dead name service":    nss("passwd: files\ngroup: files sss\n"),
		"NIS in passwd":          func(a *auditor, _ fakeFS) { a.opt.Passwd = append([]byte("+::::::\n"), a.opt.Passwd...) },
		"a blank in passwd":      func(a *auditor, _ fakeFS) { a.opt.Passwd = append([]byte(" bob:x:1:1::/:\n"), a.opt.Passwd...) },
		"NIS in group":           func(a *auditor, _ fakeFS) { a.opt.Group = append(a.opt.Group, "+:::\n"...) },
		"a blank in group":       func(a *auditor, _ fakeFS) { a.opt.Group = append(a.opt.Group, "staff:x:50:bob, amy\n"...) },
		"an odd gid":             func(a *auditor, _ fakeFS) { a.opt.Group = append(a.opt.Group, "x:x:0x10:bob\n"...) },
	} {
		a := people("Match Group staff\n")
		change(a, a.files.(fakeFS))
		_, err := a.classesOf(a.somebody(everybody...))
		assert.Error(t, err, name)
	}
}

func conf(text string) func(*auditor, fakeFS) {
	return func(_ *auditor, f fakeFS) {
		f["/etc/ssh/sshd_config"] = fakeFile{text: "Match Group staff\n" + text + "\n"}
	}
}

func nss(text string) func(*auditor, fakeFS) {
	return func(_ *auditor, f fakeFS) { f["/etc/nsswitch.conf"] = fakeFile{text: text} }
}

// crowd is a host of n logins, all alike but the last.
func crowd(t testing.TB, n int) (*config.Registry, Options, func() []string) {
	var text, groups, shadow strings.Builder
	reg := &config.Registry{}
	for i := range n {
		name := fmt.Sprintf("u%d", i)
		fmt.Fprintf(&text, "%[1]s:x:%[2]d:%[2]d::/var/lib/jail/empty-home:/usr/bin/jail-enter\n", name, 100_000+i)
		fmt.Fprintf(&groups, "%s:x:%d:\n", name, 100_000+i)
		fmt.Fprintf(&shadow, "%s:!:19000:0:99999:7:::\n", name)
		reg.Jails = append(reg.Jails, jail.Spec{Name: name, Source: jail.Source{Path: "/srv/jails/" + name}, OwnResolver: true,
			Userns: jail.Userns{Enabled: true, Base: 1<<30 + uint32(i)<<16, Size: 1 << 16}, Logins: []jail.Login{{Name: name, HostUID: jail.HostUID(100_000 + i)}}})
	}
	answer, err := os.ReadFile("testdata/recommended.out")
	require.NoError(t, err)
	open, err := os.ReadFile("testdata/open.out")
	require.NoError(t, err)
	var mu sync.Mutex
	var asked []string
	last := fmt.Sprintf("u%d", n-1)
	opt := Options{Passwd: []byte(text.String()), Group: []byte(groups.String() + "jailed:x:2900:" + strings.Join(names(n), ",") + "\n"), Shadow: []byte(shadow.String()),
		JailEnter: []string{"/usr/bin/jail-enter"}, JailKeys: "/usr/lib/jail/jail-keys", Version: func() string { return "OpenSSH_9.2" },
		Kernel: &Kernel{Release: "6.12.0", LandlockABI: 6, Cgroups: "/sys/fs/cgroup/x", Controllers: []string{"cpu", "memory", "pids"}},
		Effective: func(user string) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, user)
			if user == last {
				return string(open), nil
			}
			return string(answer), nil
		},
		files: fakeFS{
			"/usr/sbin/sshd": {}, "/etc/ssh/sshd_config": {text: "Match Group jailed\n\tX11Forwarding no\nMatch User " + last + "\n\tX11Forwarding yes\n"},
			"/etc/nsswitch.conf": {text: filesOnly}, "/var/lib/jail/empty-home": {dir: true}, "/usr/bin/jail-enter": {}, "/usr/lib/jail/jail-keys": {},
		}}
	return reg, opt, func() []string { return asked }
}

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("u%d", i)
	}
	return list
}

// Ten thousand logins take two questions, and what is said of the one that differs is
// said of nobody else.
func TestLoginsThatAreAlikeAreAskedForOnce(t *testing.T) {
	const n = 10_000
	reg, opt, asked := crowd(t, n)
	found := Run(reg, opt)
	assert.Len(t, asked(), 2)
	assert.Contains(t, asked(), fmt.Sprintf("u%d", n-1))
	open := 0
	for _, f := range found {
		if f.Severity == Error {
			open++
			assert.Equal(t, fmt.Sprintf("u%d", n-1), f.Login, f.String())
		}
	}
	assert.NotZero(t, open)
	assert.Contains(t, lines(found), fmt.Sprintf("and %d more", n-7), "what concerns all is said of all")
}

func BenchmarkRun(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			reg, opt, _ := crowd(b, n)
			for b.Loop() {
				Run(reg, opt)
			}
		})
	}
}

// A real sshd is the judge: two logins of one class get the same answer from it, letter
// by letter, under whatever is written with the words that are understood here.
func TestClassesAgreeWithSSHD(t *testing.T) {
	needs.Root(t, "sshd -T reads host keys")
	sshd := needs.Program(t, "/usr/sbin/sshd")
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	require.NoError(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).Run())
	a := people("")
	more, _ := strings.CutPrefix(string(a.opt.Passwd), "root:x:0:0::/:/bin/sh\n")
	groups, _ := strings.CutPrefix(string(a.opt.Group), "root:x:0:\n")
	a.opt.SSHD = wrapSSHDWith(t, sshd, more, groups)
	a.opt.SSHDConfig = filepath.Join(dir, "sshd_config")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	users := func() string {
		return pick("", "!") + pick("amy", "ann", "bob", "a*", "?an", "*", "b?b", "CAT", "d*n", "*n*") + pick("", "", ",!ann", ",amy", ",c*,dan")
	}
	group := func() string {
		return pick("", "!") + pick("jailed", "staff", "amy", "*a*", "b*", "s????", "*") + pick("", "", ",!staff", ",ann")
	}
	together, apart := 0, 0
	matches := []string{" User a*", " Group b*", " User ?an,bob Group *", " Group jailed", " User *,!a??"}
	for range 10 {
		var m strings.Builder
		for range 1 + random.IntN(2) {
			m.WriteString(pick(" User "+users(), " User "+users(), " Group "+group(), " group "+group(), pick(" Address 127.0.0.0/8", " Host nowhere")))
		}
		matches = append(matches, m.String())
	}
	for i, m := range matches {
		var text strings.Builder
		fmt.Fprintf(&text, "HostKey %s\n", key)
		for _, m := range []string{m, matches[random.IntN(len(matches))]} {
			fmt.Fprintf(&text, "Match%s\n\tMaxSessions %d\n\t%s\n", m, random.IntN(1000), pick("X11Forwarding yes", "ForceCommand id", "PermitTTY no", "Banner /x"))
			if i%2 == 0 {
				break
			}
		}
		require.NoError(t, os.WriteFile(a.opt.SSHDConfig, []byte(text.String()), 0o600))
		a.files.(fakeFS)[a.opt.SSHDConfig] = fakeFile{text: text.String()}
		logins := a.somebody(everybody...)
		c, err := a.classesOf(logins)
		require.NoError(t, err, text.String())
		answers := map[string]string{}
		seen := []string{}
		for _, l := range logins {
			said, err := a.effective(l.Name)
			require.NoError(t, err, text.String())
			if before, ok := answers[c.of(l)]; ok {
				together++
				require.Equal(t, before, said, "%s is not told apart by\n%s", l.Name, text.String())
			}
			answers[c.of(l)] = said
			if !slices.Contains(seen, said) {
				seen = append(seen, said)
			}
		}
		apart += len(seen) - 1
	}
	assert.NotZero(t, together, "some are alike")
	assert.NotZero(t, apart, "some are not")
}
