package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@home"

// testWorld has a jail "web" in /w, whose tree has the user work and a group 1003.
func testWorld() *world {
	return &world{
		host: newHost([]byte("root:x:0:0:::\nann:x:1001:1001:::\n"), []byte("root:x:0:\nann:x:1001:\njailed:x:990:\n"),
			[]byte("# UID_MIN 7\nUID_MIN\t\t 1000\nUID_MAX 60000\n")),
		shell: "/usr/bin/jail-enter", main: true, dir: "/etc/jail/jail.d",
		jails:  map[string]known{"web": {"web", "/etc/jail/jail.toml", "/w"}},
		logins: map[string]string{"gone": "web"},
		tree: func(k known) (*tree, error) {
			switch k.rootfs {
			case "/empty":
				return nil, errAccounts
			case "/nowhere":
				return nil, fs.ErrNotExist
			}
			return &tree{
				passwd: []byte("root:x:0:0:::\nwork:x:2001:2001::/home/work:/bin/zsh\ngames:x:5:60:::\n"),
				group:  []byte("root:x:0:\nwork:x:2001:\nextra:x:1003:\nstaff:x:50:\n"),
				shells: []string{"/bin/bash", "/bin/sh"},
			}, nil
		},
		home: func(_ known, path string) (uint32, bool, error) {
			switch path {
			case "/home/work":
				return 2001, true, nil
			case "/home/left":
				return 4711, true, nil
			}
			return 0, false, nil
		},
	}
}

func TestPlan(t *testing.T) {
	p, err := makePlan(testWorld(), []Request{
		{Login: "alice", Rootfs: "/srv/a/", Keys: []string{"# hers", testKey}},
		{Login: "bob", Jail: "web"},
		{Login: "work", Jail: "web"},
		{Login: "debian", Jail: "web", UID: 2001},
		{Login: "carol", Jail: "web", UID: 3000},
	})
	// debian has the uid that work has taken on the host.
	require.ErrorContains(t, err, "debian: --uid 2001: an account of the host has it")
	require.Nil(t, p)

	p, err = makePlan(testWorld(), []Request{
		{Login: "alice", Rootfs: "/srv/a/", Keys: []string{"# hers", testKey}},
		{Login: "bob", Jail: "web"},
		{Login: "debian", Jail: "web", UID: 2001},
		{Login: "carol", Jail: "web", UID: 3000},
	})
	require.NoError(t, err)
	login := func(l Login) Login {
		l.Account, l.Shell = true, "/usr/bin/jail-enter"
		return l
	}
	assert.Equal(t, []Login{
		login(Login{Login: "alice", HostUID: 2002, Jail: "alice", Rootfs: "/srv/a", NewJail: true, File: "/etc/jail/jail.d/alice.toml",
			Inside: User{"alice", 2002, 2002, "/home/alice", "/bin/bash"}, User: true, Home: true, Sole: true, Keys: []string{testKey}}),
		login(Login{Login: "bob", HostUID: 2003, Jail: "web", Rootfs: "/w", File: "/etc/jail/jail.toml",
			Inside: User{"bob", 2003, 2003, "/home/bob", "/bin/bash"}, User: true, Home: true, Sole: true}),
		login(Login{Login: "debian", HostUID: 2001, Jail: "web", Rootfs: "/w", File: "/etc/jail/jail.toml",
			Inside: User{"work", 2001, 2001, "/home/work", "/bin/zsh"}}),
		login(Login{Login: "carol", HostUID: 3000, Jail: "web", Rootfs: "/w", File: "/etc/jail/jail.toml",
			Inside: User{"carol", 3000, 3000, "/home/carol", "/bin/bash"}, User: true, Home: true, Sole: true}),
	}, p.Logins)
	assert.Contains(t, strings.Join(p.Steps(), "\n"), "/etc/jail/jail.d/alice.toml: login alice lands in jail alice as uid 2002, a new jail in /srv/a")
}

func TestPlanRefuses(t *testing.T) {
	for says, r := range map[string]Request{
		"is no login name":                     {Login: "Alice"},
		"the host has an account of that name": {Login: "ann", Jail: "web"},
		"the host has a group of that name":    {Login: "jailed", Jail: "web"},
		"is in the registry already, in jail web; jail key gone add FILE gives it a key, jail rm gone takes it away": {Login: "gone", Jail: "web"},
		"is root's or a system account's name":      {Login: "root", Jail: "web"},
		"cage of the host is around the home":       {Login: "alice", Rootfs: "host"},
		"--rootfs /w/: is jail web's; --jail web ":  {Login: "alice", Rootfs: "/w/"},
		"leave --template out":                      {Login: "alice", Jail: "web", Template: "t"},
		"is no name of a template":                  {Login: "alice", Rootfs: "/srv", Template: "[x"},
		"/nowhere: is not there; jail image import": {Login: "alice", Rootfs: "/nowhere"},
		"there is no jail alice":                    {Login: "alice"},
		"must be the absolute path of a root":       {Login: "alice", Rootfs: "srv"},
		"leave --rootfs out":                        {Login: "alice", Jail: "web", Rootfs: "/srv"},
		"has no account files of its own":           {Login: "alice", Rootfs: "/empty"},
		"--uid 999: must be 1000 or more":           {Login: "alice", Jail: "web", UID: 999},
		"--uid 1001: an account of the host":        {Login: "alice", Jail: "web", UID: 1001},
		"a group inside has the id 1003":            {Login: "alice", Jail: "web", UID: 1003},
		"a group inside is called staff":            {Login: "staff", Jail: "web"},
		"which is no person's":                      {Login: "games", Jail: "web"},
		"/home/left inside belongs to uid 4711":     {Login: "left", Jail: "web"},
		"\"../x\" is no name of a jail":             {Login: "alice", Jail: "../x"},
		"key \"ssh-ed25519 AAAA\"":                  {Login: "alice", Jail: "web", Keys: []string{"ssh-ed25519 AAAA"}},
		`"x; rm -rf /" is no name of a jail`:        {Login: "alice", Jail: "x; rm -rf /"},
		`"root:x\n": is no login name: a lower-ca`:  {Login: "root:x\n"},
	} {
		p, err := makePlan(testWorld(), []Request{{Login: "fine", Jail: "web"}, r})
		assert.ErrorContains(t, err, says)
		assert.Nil(t, p, "one that cannot be met is none")
	}
	w := testWorld()
	w.host.group = []byte("root:x:0:\n")
	_, err := makePlan(w, []Request{{Login: "alice", Jail: "web"}})
	assert.ErrorContains(t, err, `no group "jailed"`)
	_, err = makePlan(testWorld(), []Request{{Login: "a", Jail: "web"}, {Login: "a", Jail: "web"}})
	assert.ErrorContains(t, err, "a: is there twice")
}

// TestPlanOfMany: a thousand logins have a thousand uids, of none of which anybody has heard.
func TestPlanOfMany(t *testing.T) {
	var all []Request
	for i := range 1000 {
		all = append(all, Request{Login: fmt.Sprintf("s%d", i), Jail: "web"})
	}
	p, err := makePlan(testWorld(), all)
	require.NoError(t, err)
	seen := map[uint32]bool{1001: true, 2001: true, 1003: true}
	for _, l := range p.Logins {
		require.False(t, seen[l.HostUID], "%d", l.HostUID)
		require.Equal(t, l.HostUID, l.Inside.UID)
		seen[l.HostUID] = true
	}
}

func TestFreeIDsRunOut(t *testing.T) {
	f := newFree(1000, 1003, []uint32{1001, 70000})
	var got []uint32
	for range 3 {
		id, err := f.take()
		require.NoError(t, err)
		got = append(got, id)
	}
	assert.Equal(t, []uint32{1002, 1003, 1000}, got)
	_, err := f.take()
	assert.Error(t, err)
}

func TestAccountLines(t *testing.T) {
	text := []byte("root:x:0:0:::\nann:x:1:1:::")
	assert.Equal(t, "root:x:0:0:::\nann:x:1:1:::\nnew\n", string(insert(text, "new\n")))
	assert.Equal(t, "root:x:0:0:::\nnew\n+::::::\n", string(insert([]byte("root:x:0:0:::\n+::::::\n"), "new\n")))
	assert.Equal(t, "new\n", string(insert(nil, "new\n")))

	group := []byte("a:x:1:\nwheel:x:2:a,b,c\nb:x:3:b\nbroken\n")
	assert.Equal(t, "a:x:1:\nwheel:x:2:a,c\nb:x:3:\nbroken\n", string(leave(group, []string{"b"})))
	other := func(n string, f []string) bool { return f[2] == "1" }
	assert.Equal(t, "wheel:x:2:a,b,c\nb:x:3:b\nbroken\n", string(remove(group, []string{"a", "b"}, other)), "b is somebody else by now")
}

func TestKeysOfAFile(t *testing.T) {
	other := strings.Replace(testKey, "EBQYHC", "EBQYIC", 1)
	text, n := withKeys([]byte("# mine\nfrom=\"1.2.3.4\" "+testKey), []string{testKey, other})
	assert.Equal(t, 1, n, "a key that is there, whatever its options, is not given more")
	assert.Equal(t, "# mine\nfrom=\"1.2.3.4\" "+testKey+"\n"+other+"\n", string(text))
	text, n = withoutLines(text, []string{other})
	assert.Equal(t, 1, n)
	assert.Equal(t, "# mine\nfrom=\"1.2.3.4\" "+testKey+"\n", string(text))
	assert.Equal(t, []string{"from=\"1.2.3.4\" " + testKey}, keyLines(text, "2"))
	assert.Empty(t, keyLines(text, "1"), "a comment is no key")
	assert.Empty(t, keyLines(text, "0"))
	assert.Len(t, keyLines(text, strings.Fields(fingerprintOf(t, testKey))[0]), 1)

	_, err := ReadKeys("-", strings.NewReader("-----BEGIN OPENSSH PRIVATE KEY-----\n"))
	assert.ErrorContains(t, err, "the private key")
	_, err = ReadKeys("-", strings.NewReader("# nothing\n"))
	assert.ErrorContains(t, err, "no key in it")
	_, err = ReadKeys("-", strings.NewReader(testKey+"\nrubbish\n"))
	assert.ErrorContains(t, err, "-:2: no line of authorized_keys")
}

// TestWhatSSHDDoes reads what sshd -T prints.
func TestWhatSSHDDoes(t *testing.T) {
	for forced, sends := range map[string]bool{
		"exec /usr/bin/jail-enter --forced": true, "/usr/bin/jail-enter --forced": true,
		"none": false, "": false, "internal-sftp": false, "/usr/bin/jail-enter": false, "/bin/sh /usr/bin/jail-enter --forced": false,
	} {
		s := sshdSays{"forcecommand": {forced}}
		assert.Equal(t, sends, s.sends() == nil, "%q", forced)
	}
	address := func(port string, listen ...string) string {
		h, p := sshdSays{"port": {port}, "listenaddress": listen}.address()
		return h + " " + p
	}
	assert.Equal(t, "127.0.0.1 22", address("22", "[::]:22", "0.0.0.0:22"))
	assert.Equal(t, "127.0.0.1 2222", address("22", "192.0.2.1:22", "127.0.0.1:2222"))
	assert.Equal(t, "192.0.2.1 22", address("22", "192.0.2.1:22"))
}

func TestCommandSaysOneLine(t *testing.T) {
	_, err := command("", "sh", "-c", "echo first >&2; printf 'last\\033[2J' >&2; exit 3")
	assert.EqualError(t, err, "sh: exit status 3 (last [2J)")
	_, err = command("", "no-such-command-at-all")
	assert.True(t, errors.Is(err, errNoCommand))
	out, err := command("in", "sh", "-c", `cat; echo "$HOME$LD_PRELOAD $LC_ALL"`)
	require.NoError(t, err)
	assert.Equal(t, "in C\n", out, "nothing of the caller's environment")
}

func fingerprintOf(t *testing.T, line string) string {
	t.Helper()
	out, err := command(line+"\n", "ssh-keygen", "-l", "-f", "-")
	require.NoError(t, err)
	return strings.Join(strings.Fields(out)[1:], " ")
}

// TestPlanIsForATerminal: what a tenant has in his passwd is nothing that a terminal obeys, where it
// is said what is done for a login, or taken away.
func TestPlanIsForATerminal(t *testing.T) {
	w := testWorld()
	w.tree = func(known) (*tree, error) {
		return &tree{
			passwd: []byte("root:x:0:0:::\nwork:x:2001:2001::/home/work\u009b2J\u009d0;x\u009c:/bin/\u202ehs\n"),
			group:  []byte("root:x:0:\nwork:x:2001:\n"),
			shells: []string{"/bin/sh"},
		}, nil
	}
	w.home = func(known, string) (uint32, bool, error) { return 2001, true, nil }
	p, err := makePlan(w, []Request{{Login: "work", Jail: "web"}})
	require.NoError(t, err)
	require.Equal(t, "/home/work\u009b2J\u009d0;x\u009c", p.Logins[0].Inside.Home)
	p.Logins[0].Home = true
	steps, removal := strings.Join(p.Steps(), "\n"), strings.Join(p.removal(true, true), "\n")
	assert.Contains(t, steps, `is there: uid 2001, home /home/work\u009b2J\u009d0;x\u009c, shell /bin/\u202ehs`)
	assert.Contains(t, removal, `home /home/work\u009b2J\u009d0;x\u009c inside is removed`)
	for _, said := range []string{steps, removal} {
		assert.NotContains(t, said, "\u009b")
		assert.NotContains(t, said, "\u202e")
	}
}
