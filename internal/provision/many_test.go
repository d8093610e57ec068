package provision

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
)

func accountFiles4(passwd, shadow, group, gshadow string) *hostAccounts {
	h := &hostAccounts{}
	for name, text := range map[string]string{"group": group, "gshadow": gshadow, "shadow": shadow, "passwd": passwd} {
		h.files = append(h.files, accountFile{name: name, text: []byte(text), was: []byte(text), there: true})
	}
	return h
}

// What a list makes of the account files is taken back to the byte, and nothing that is
// somebody else's by then.
func TestAccountFilesThereAndBack(t *testing.T) {
	const (
		passwd  = "root:x:0:0:::/bin/sh\nanna:x:1001:1001::/home/anna:/bin/bash\n+::::::\n"
		shadow  = "root:*:1:0:99999:7:::\nanna:*:1:0:99999:7:::\n"
		group   = "root:x:0:\njailed:x:990:old\nodd:x:3001:\nanna:x:1001:\n"
		gshadow = "root:*::\njailed:!::old\nodd:!::\nanna:!::\n"
	)
	logins := []Login{
		{Login: "p1", HostUID: 3000, Account: true, Shell: "/usr/bin/jail-enter", Jail: "class"},
		{Login: "p2", HostUID: 3001, Account: true, Shell: "/usr/bin/jail-enter", Jail: "class"},
		{Login: "anna", HostUID: 1001, Adopted: true, Reshell: true, OldShell: "/bin/bash", Shell: "/usr/bin/jail-enter", Joined: true},
		{Login: "far", HostUID: 900000, Adopted: true, Shell: "/usr/bin/jail-enter", Joined: true},
	}
	h := accountFiles4(passwd, shadow, group, gshadow)
	require.NoError(t, h.add(logins))
	text := func(name string) string { return string(*h.text(name)) }
	assert.Equal(t, "root:x:0:0:::/bin/sh\nanna:x:1001:1001::/home/anna:/usr/bin/jail-enter\n"+
		"p1:x:3000:3000:jail class:/var/lib/jail/empty-home:/usr/bin/jail-enter\np2:x:3001:3002:jail class:/var/lib/jail/empty-home:/usr/bin/jail-enter\n+::::::\n", text("passwd"))
	assert.Equal(t, "root:x:0:\njailed:x:990:old,p1,p2,anna,far\nodd:x:3001:\nanna:x:1001:\np1:x:3000:\np2:x:3002:\n", text("group"))
	assert.Equal(t, "root:*::\njailed:!::old,p1,p2,anna,far\nodd:!::\nanna:!::\np1:!::\np2:!::\n", text("gshadow"))
	assert.Regexp(t, `(?m)^p2:\*:\d+:0:99999:7:::$`, text("shadow"))
	assert.ErrorContains(t, h.add(logins[:1]), "meanwhile")

	again := accountFiles4(text("passwd"), text("shadow"), text("group"), text("gshadow"))
	require.NoError(t, h.drop(logins))
	assert.Equal(t, []string{passwd, shadow, group, gshadow}, []string{text("passwd"), text("shadow"), text("group"), text("gshadow")})
	require.NoError(t, h.drop(logins), "it may be done twice")
	assert.False(t, accountFiles4(passwd, shadow, group, gshadow).changed())

	// Killed before it came to passwd.
	h = accountFiles4(passwd, text("shadow"), "root:x:0:\njailed:x:990:old,p1\np1:x:3000:\n", "root:*::\njailed:!::old,p1\np1:!::\n")
	require.NoError(t, h.drop(logins[:1]))
	assert.Equal(t, "root:x:0:\njailed:x:990:old\n", text("group"))
	assert.Equal(t, "root:*::\njailed:!::old\n", text("gshadow"))

	// Somebody has changed p1 and anna since.
	h = again
	*h.text("passwd") = reshell(*h.text("passwd"), func(f []string) string {
		if f[0] == "p1" || f[0] == "anna" {
			return "/bin/zsh"
		}
		return f[6]
	})
	assert.ErrorContains(t, h.drop(logins), "account p1 is not as it was made (uid 3000, shell /bin/zsh): it stays")
	assert.Contains(t, text("passwd"), "p1:x:3000:")
	assert.Contains(t, text("passwd"), ":/home/anna:/bin/zsh\n")
	assert.NotContains(t, text("passwd"), "p2:")
	assert.Contains(t, text("group"), "p1:x:3000:\n")
}

func TestPlanOfAGroup(t *testing.T) {
	host := func(uid uint32, shell string) *config.Account {
		return &config.Account{UID: uid, GID: uid, Shell: shell, Home: "/home/x"}
	}
	w := testWorld()
	requests, there := w.passOver([]Request{{Login: "gone", Jail: "web", Host: host(1005, "/bin/sh")}, {Login: "ann", Jail: "web", Host: host(1001, "/bin/bash")}})
	assert.Equal(t, []string{"gone (jail web)"}, there)
	requests = append(requests,
		Request{Login: "far", Jail: "web", Host: host(900000, "/bin/bash")}, // of a directory
		Request{Login: "tim", Jail: "web", Host: host(2001, "/bin/sh")},     // work has the uid inside
		Request{Login: "work", Jail: "web", Host: host(1007, "/bin/sh")})
	p, err := makePlan(w, requests)
	require.NoError(t, err)
	var got []Login
	for _, l := range p.Logins {
		l.Jail, l.Rootfs, l.File, l.Shell = "", "", "", ""
		got = append(got, l)
	}
	assert.Equal(t, []Login{
		{Login: "ann", HostUID: 1001, Adopted: true, Reshell: true, OldShell: "/bin/bash", Joined: true,
			Inside: User{"ann", 1001, 1001, "/home/ann", "/bin/bash"}, User: true, Home: true, Sole: true},
		{Login: "far", HostUID: 900000, Adopted: true, Joined: true,
			Inside: User{"far", 2002, 2002, "/home/far", "/bin/bash"}, User: true, Home: true, Sole: true},
		{Login: "tim", HostUID: 2001, Adopted: true, Joined: true,
			Inside: User{"tim", 2003, 2003, "/home/tim", "/bin/bash"}, User: true, Home: true, Sole: true},
		{Login: "work", HostUID: 1007, Adopted: true, Joined: true, Inside: User{"work", 2001, 2001, "/home/work", "/bin/zsh"}},
	}, got)
	_, err = makePlan(testWorld(), []Request{{Login: "daemon", Jail: "web", Host: host(2, "/bin/sh")}})
	assert.ErrorContains(t, err, "is root's or a system account's")
	assert.Equal(t, "a, b, c, d, e, f, g, h and 2 more", some([]string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}))
}

func TestEach(t *testing.T) {
	var sum atomic.Int64
	require.NoError(t, each(100, func(i int) error { sum.Add(int64(i)); return nil }))
	assert.EqualValues(t, 4950, sum.Load())
	boom := errors.New("boom")
	var done atomic.Int64
	assert.Equal(t, boom, each(1000, func(i int) error {
		done.Add(1)
		if i == 3 {
			return boom
		}
		return nil
	}))
	assert.Less(t, done.Load(), int64(1000), "no more begin")
	require.NoError(t, each(0, nil))
	assert.True(t, slices.Equal(hostFiles, []string{"group", "gshadow", "shadow", "passwd"}), "passwd goes last")
}
