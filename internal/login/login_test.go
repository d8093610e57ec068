package login

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/authkeys"
	"jail/internal/passwd"
	"jail/internal/wire"
)

const twoNames = "root:x:0:0::/root:/bin/sh\nwork:x:61001:61001::/home/work:/bin/bash\n" +
	"other:x:5000:5000::/home/other:/bin/other\nsecond:x:61001:61002::/home/second:/bin/second\n"

func TestUser(t *testing.T) {
	work := passwd.Entry{Name: "work", UID: 61001, GID: 61001, Home: "/home/work", Shell: "/bin/bash"}
	second := passwd.Entry{Name: "second", UID: 61001, GID: 61002, Home: "/home/second", Shell: "/bin/second"}
	for claim, tt := range map[string]struct {
		id   wire.Identity
		text string
		want passwd.Entry
		err  string
	}{
		"the first of a uid's names":         {id: wire.Identity{UID: 61001}, text: twoNames, want: work},
		"the registry's of a uid's names":    {id: wire.Identity{UID: 61001, Name: "second"}, text: twoNames, want: second},
		"a name that is first anyway":        {id: wire.Identity{UID: 61001, Name: "work"}, text: twoNames, want: work},
		"a name that passwd does not have":   {id: wire.Identity{UID: 61001, Name: "alias"}, text: twoNames, want: passwd.Entry{Name: "alias", UID: 61001, GID: 61001, Home: "/home/work", Shell: "/bin/bash"}},
		"another uid's name gives no more":   {id: wire.Identity{UID: 61001, Name: "other"}, text: twoNames, want: passwd.Entry{Name: "other", UID: 61001, GID: 61001, Home: "/home/work", Shell: "/bin/bash"}},
		"a name that another uid has before": {id: wire.Identity{UID: 61001, Name: "second"}, text: "second:x:7:7::/wrong:/wrong\n" + twoNames, want: second},
		"the registry's group":               {id: wire.Identity{UID: 61001, Name: "second", GID: 7, HasGID: true}, text: twoNames, want: passwd.Entry{Name: "second", UID: 61001, GID: 7, Home: "/home/second", Shell: "/bin/second"}},
		"a group that is not given":          {id: wire.Identity{UID: 61001, GID: 7}, text: twoNames, want: work},
		"the registry's home and shell":      {id: wire.Identity{UID: 61001, Home: "/h", Shell: "/s"}, text: twoNames, want: passwd.Entry{Name: "work", UID: 61001, GID: 61001, Home: "/h", Shell: "/s"}},
		"an empty home and shell":            {id: wire.Identity{UID: 7}, text: "x:x:7:8:::\n", want: passwd.Entry{Name: "x", UID: 7, GID: 8, Home: "/", Shell: "/bin/sh"}},
		"a name and no passwd":               {id: wire.Identity{UID: 7, Name: "n"}, want: passwd.Entry{Name: "n", UID: 7, GID: 7, Home: "/", Shell: "/bin/sh"}},
		"a shell and no passwd":              {id: wire.Identity{UID: 7, Shell: "/s"}, want: passwd.Entry{Name: "7", UID: 7, GID: 7, Home: "/", Shell: "/s"}},
		"the largest uid":                    {id: wire.Identity{UID: 4294967294, Shell: "/s"}, want: passwd.Entry{Name: "4294967294", UID: 4294967294, GID: 4294967294, Home: "/", Shell: "/s"}},
		"nobody":                             {id: wire.Identity{UID: 4242}, text: twoNames, err: "uid 4242 has no entry in the jail's /etc/passwd; add one, or give name and shell in the registry"},
		"by name":                            {id: wire.Identity{UID: wire.ByName, Name: "second", Shell: "/s"}, text: twoNames, want: passwd.Entry{Name: "second", UID: 61001, GID: 61002, Home: "/home/second", Shell: "/s"}},
		"by a name there is not":             {id: wire.Identity{UID: wire.ByName, Name: "third", Shell: "/s"}, text: twoNames, err: "user third has no entry in the jail's /etc/passwd"},
		"by no name":                         {id: wire.Identity{UID: wire.ByName, Shell: "/s"}, text: twoNames, err: "user  has no entry in the jail's /etc/passwd"},
		"a home does not make somebody":      {id: wire.Identity{UID: 4242, Home: "/h"}, err: "uid 4242 has no entry in the jail's /etc/passwd; add one, or give name and shell in the registry"},
	} {
		var c Cache
		for range 2 { // the second answer is the cache's
			u, err := c.User(&tt.id, []byte(tt.text))
			assert.Equal(t, tt.want, u, claim)
			if tt.err == "" {
				assert.NoError(t, err, claim)
			} else {
				assert.EqualError(t, err, tt.err, claim)
			}
		}
	}
}

func TestCacheForgetsWhatHasChanged(t *testing.T) {
	var c Cache
	home := func(id wire.Identity, text string) string {
		u, err := c.User(&id, []byte(text))
		if err != nil {
			return "none"
		}
		return u.Home
	}
	work, second := wire.Identity{UID: 61001}, wire.Identity{UID: 61001, Name: "second"}
	large := twoNames + strings.Repeat("x:x:1:1::/:\n", maxKept/12)
	for _, tt := range []struct {
		id   wire.Identity
		text string
		want string
	}{
		{work, twoNames, "/home/work"},
		{second, twoNames, "/home/second"},
		{work, twoNames, "/home/work"},
		{work, strings.ReplaceAll(twoNames, "/home/work", "/home/new_"), "/home/new_"},
		{work, "", "none"},
		{work, twoNames, "/home/work"},
		{second, large, "/home/second"},
		{work, large, "/home/work"},
		{wire.Identity{UID: 61001, Home: "/h"}, twoNames, "/h"},
	} {
		assert.Equal(t, tt.want, home(tt.id, tt.text), "%+v", tt.id)
	}
}

func TestTheSameLoginAgainCostsNoMemory(t *testing.T) {
	var c Cache
	id := &wire.Identity{UID: 61001, Name: "second"}
	text, group := []byte(twoNames), []byte("a:x:1:second\nb:x:2:other\n")
	groups := make([]uint32, 0, 8)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		u, err := c.User(id, text)
		if err != nil {
			t.Fatal(err)
		}
		groups = Groups(groups[:0], &u, group)
	}))
	assert.Equal(t, []uint32{61002, 1}, groups)
}

func TestGroups(t *testing.T) {
	u := &passwd.Entry{Name: "work", GID: 7}
	for claim, tt := range map[string]struct {
		text string
		want []uint32
	}{
		"no file":                  {"", []uint32{7}},
		"the primary one is first": {"a:x:9:work\nw:x:7:work\n", []uint32{7, 9}},
		"root's is nobody's":       {"root:x:0:work\na:x:9:work\n", []uint32{7, 9}},
	} {
		assert.Equal(t, tt.want, Groups(nil, u, []byte(tt.text)), claim)
	}
	var many strings.Builder
	for i := range maxGroups + 10 {
		fmt.Fprintf(&many, "g%d:x:%d:work\n", i, 1000+i)
	}
	got := Groups(nil, u, []byte(many.String()))
	assert.Len(t, got, maxGroups, "the primary one and %d more", maxGroups-1)
	assert.EqualValues(t, 1000+maxGroups-2, got[len(got)-1])
}

func TestKeysPath(t *testing.T) {
	for home, ok := range map[string]bool{"/": true, "/home/work": true, "home/work": false, "": false, ".": false} {
		dir, file, err := KeysPath(&passwd.Entry{Home: home})
		if !ok {
			assert.Equal(t, ErrHome, err, home)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, home, dir)
		assert.Equal(t, ".ssh/authorized_keys", file)
	}
}

func TestRule(t *testing.T) {
	blob := append([]byte{0, 0, 0, 11}, "ssh-ed25519\x00\x00\x00\x2012345678901234567890123456789012"...)
	key := "ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob)
	by := Auth{Lines: [][]byte{[]byte("publickey " + key)}, Known: true}
	rule, err := RuleOf(wire.KeysInside, []byte(`command="x" `+key), by)
	require.NoError(t, err)
	assert.Equal(t, Rule{"x", true}, rule)
	_, err = RuleOf(wire.KeysInside, nil, by)
	assert.Equal(t, authkeys.ErrNoLine, err)
	rule, err = RuleOf(wire.KeysAnywhere, nil, by)
	require.NoError(t, err)
	assert.Equal(t, Rule{}, rule)
	_, err = RuleOf(wire.KeysAnywhere, nil, Auth{Lines: by.Lines})
	assert.Equal(t, authkeys.ErrUnknownKey, err, "lines that are not sshd's say nothing")

	assert.True(t, by.NeedsKeys())
	assert.True(t, Auth{}.NeedsKeys())
	assert.True(t, Auth{Known: true}.NeedsKeys())
	assert.False(t, Auth{Lines: [][]byte{[]byte("password")}, Known: true}.NeedsKeys())
	assert.True(t, Auth{Lines: [][]byte{[]byte("password")}}.NeedsKeys())
}

func TestIDsDoNotMeet(t *testing.T) {
	const start = 1_764_350_000_000
	seen := make(map[ID]string)
	add := func(who string, m IDs, n int) {
		for range n {
			id := m.Next()
			require.Empty(t, seen[id], "%s of %s", id, who)
			seen[id] = who
			require.Len(t, id.String(), wire.IDLen)
			require.Empty(t, strings.Trim(id.String(), letters))
		}
	}
	add("a jail", NewIDs("web", start), 100_000)
	add("the same, started anew as soon as it can be", NewIDs("web", start+100_000), 100_000)
	add("a year later", NewIDs("web", start+365*24*3600*1000), 100_000)
	// Of different jails they may, once in 2^40.
	for i := range 100 {
		add("another jail", NewIDs(fmt.Sprint("jail", i), start), 10)
	}
	m := NewIDs("", 0)
	assert.Zero(t, testing.AllocsPerRun(100, func() { m.Next() }))
}

// The numbers of one jail are permuted, not drawn: in a small space all of it comes.
func TestIDsAreAPermutation(t *testing.T) {
	seen := make(map[ID]bool)
	const far = 1<<40 - 50_000 // over the end of the numbers and from their beginning
	m := NewIDs("web", far)
	for range 100_000 {
		seen[m.Next()] = true
	}
	assert.Len(t, seen, 100_000)
}
