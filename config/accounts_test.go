package config

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/needs"
)

// Accounts of systemd's userdb, by way of nss-systemd(8) and getent, as those of a
// directory are. A mount namespace has them; the host's own files are the machine's.
func TestAccountsOfTheNameService(t *testing.T) {
	if os.Getenv("JAIL_TEST_NSS") == "" {
		needs.Root(t, "it mounts")
		cmd := exec.Command(os.Args[0], "-test.run=^TestAccountsOfTheNameService$", "-test.v")
		cmd.Env = append(os.Environ(), "JAIL_TEST_NSS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		needs.Machine(t, !strings.Contains(string(out), "SKIP"), string(out))
		return
	}
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	require.NoError(t, unix.Mount("userdb", "/run", "tmpfs", 0, ""))
	require.NoError(t, os.MkdirAll("/run/userdb", 0o755))
	nsswitch := t.TempDir() + "/nsswitch.conf"
	require.NoError(t, os.WriteFile(nsswitch, []byte("passwd: files systemd\ngroup: files systemd\ninitgroups: files systemd\n"), 0o644))
	require.NoError(t, unix.Mount(nsswitch, "/etc/nsswitch.conf", "", unix.MS_BIND, ""))
	account := func(name string, uid int, more string) {
		for file, text := range map[string]string{
			name + ".user":               fmt.Sprintf(`{"userName":%q,"uid":%d,"gid":%d,"homeDirectory":"/","shell":"/bin/sh"%s}`, name, uid, uid, more),
			name + ".group":              fmt.Sprintf(`{"groupName":%q,"gid":%d}`, name, uid),
			fmt.Sprintf("%d.user", uid):  "",
			fmt.Sprintf("%d.group", uid): "",
		} {
			p := "/run/userdb/" + file
			_ = os.Remove(p)
			if text == "" {
				require.NoError(t, os.Symlink(name+file[strings.Index(file, "."):], p))
			} else {
				require.NoError(t, os.WriteFile(p, []byte(text), 0o644))
			}
		}
	}
	account("dir-one", 61981, "")
	account("dir-two", 61982, "")
	account("dir-docker", 61983, "")
	// What getent says of its groups, and /etc/group as it is read does not.
	groups := t.TempDir() + "/group"
	require.NoError(t, os.WriteFile(groups, []byte("root:x:0:\ndocker:x:61990:dir-docker\n"), 0o644))
	require.NoError(t, unix.Mount(groups, "/etc/group", "", unix.MS_BIND, ""))
	seen := []byte("root:x:0:\ndocker:x:61990:\n")
	out, err := getent(context.Background(), "passwd", "dir-one")
	needs.Machine(t, err == nil && len(out) > 0, fmt.Sprintf("nss-systemd is needed that knows /run/userdb: %s %v", out, err))
	text := func(users string) []source {
		return []source{{path: DefaultPath, text: []byte("version = 1\n[jail.web]\nrootfs = \"/srv/web\"\nusers = [ " + users + " ]")}}
	}
	loadAll := func(before *Registry, users string) *Registry {
		t.Helper()
		var ps problems
		opt := Options{SkipFS: true, Before: before, Group: seen}.complete(&ps)
		require.Empty(t, ps.errors)
		reg, err := build(ps, DefaultPath, text(users), opt)
		require.NoError(t, err)
		noFaultIsInForce(t, reg)
		return reg
	}
	all := `"dir-one", "dir-two", "dir-docker", "dir-none"`
	reg := loadAll(nil, all)
	assert.Equal(t, []string{"web: dir-one dir-two"}, inForce(reg), "%v", reg.Errors())
	assert.Equal(t, []string{"web: dir-docker", "web: dir-none"}, outOfService(reg))
	assert.Contains(t, reg.Errors().Error(), `login "dir-docker" is in the host's group docker and so nearly root`)
	require.NotNil(t, reg.Jail("web"))
	assert.Equal(t, 61981, int(reg.Jail("web").Logins[0].HostUID))

	// The directory has lost one, and says so, or is gone as a whole.
	require.NoError(t, os.Remove("/run/userdb/dir-one.user"))
	require.NoError(t, os.Remove("/run/userdb/61981.user"))
	again := loadAll(reg, all)
	assert.Equal(t, reg.Jails, again.Jails)
	require.Len(t, again.Warnings, 1)
	assert.Contains(t, again.Warnings[0].Error(), "account dir-one is not known to the host now, it stays what it was")
	assert.Equal(t, []string{"web: dir-two"}, inForce(loadAll(nil, all)), "one that was never known")

	t.Run("slow", func(t *testing.T) {
		require.NoError(t, os.WriteFile("/run/getent", []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755))
		old := getents
		getents = []string{"/run/getent"}
		defer func() { getents = old }()
		var ps problems
		opt := Options{SkipFS: true, Before: again, Group: seen, AccountsWithin: 100 * time.Millisecond}.complete(&ps)
		slow, err := build(ps, DefaultPath, text(all+`, "dir-new"`), opt)
		require.NoError(t, err)
		assert.Equal(t, reg.Jails, slow.Jails, "known logins go on")
		assert.Contains(t, fmt.Sprint(slow.Warnings), "the name service does not answer")
		assert.Contains(t, slow.Errors().Error(), `login "dir-new" is not in the host's passwd`)
	})
	t.Run("endless", func(t *testing.T) {
		require.NoError(t, os.WriteFile("/run/getent", []byte("#!/bin/sh\nexec cat /dev/zero\n"), 0o755))
		old := getents
		getents = []string{"/run/getent"}
		defer func() { getents = old }()
		_, err := getent(context.Background(), "passwd", "x")
		require.Error(t, err)
	})
}

func TestGroupsElsewhere(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "group: files": false, "group: compat": false, "group:\tfiles\n": false, "# group: sss": false, "passwd: sss": false,
		"group: files sss": true, " group: files [NOTFOUND=return] ldap # x": true, "group: files [SUCCESS=merge] systemd": true, "group: files # sss": false,
	} {
		assert.Equal(t, want, groupsElsewhere(text), "%q", text)
	}
}

// Whatever the account files hold, nobody is an account whose line does not say so.
func FuzzAccountFiles(f *testing.F) {
	f.Add([]byte(testPasswd), []byte(testGroup), []byte(testSub), []byte("alice 1 2 3\nbob\n"))
	f.Add([]byte("a:x:4294967296:1:::\n+::::::\na:x:-1:1::/:"), []byte("sudo:x:27:a,,b\n:x:1:"), []byte("a:1:4294967295\nb:4294967295:4294967295"), []byte(" \n\x00"))
	f.Fuzz(func(t *testing.T, passwd, group, sub, groups []byte) {
		h := parseHost(Options{Passwd: passwd, Group: group, SubUID: sub, SubGID: sub, FilesOnly: true})
		for _, u := range h.users {
			line := u.name + ":"
			if u.name == "" || !strings.Contains(string(passwd), line) || !strings.Contains(string(passwd), ":"+fmt.Sprint(u.uid)) &&
				!strings.Contains(string(passwd), ":0") && !strings.Contains(string(passwd), ":+") {
				t.Fatalf("%+v", u)
			}
		}
		for _, s := range h.subs {
			if s.end <= s.base {
				t.Fatalf("%+v", s)
			}
			if _, taken := h.subordinate(s); !taken {
				t.Fatalf("%+v does not overlap itself", s)
			}
		}
		newPool(h)
		known := map[string]Account{"alice": {Name: "alice"}}
		for name := range initgroups(groups, known) {
			if name != "alice" {
				t.Fatal(name)
			}
		}
	})
}

// TestMembersRefused: of groups whose members no jail can hold, or that are none, nobody is asked.
func TestMembersRefused(t *testing.T) {
	for name, says := range map[string]string{"sudo": "nearly root", "docker": "nearly root", "": "no name of a group", "-h": "no name of a group", "a:b": "no name of a group"} {
		_, _, err := Members(name)
		assert.ErrorContains(t, err, says, name)
	}
}
