package session

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/authkeys"
	"jail/internal/login"
	"jail/internal/needs"
	"jail/internal/wire"
)

// testKey makes the text of an ed25519 key that is all c.
func testKey(c string) string {
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(
		[]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"+strings.Repeat(c, 32)))
}

// TestKeyRule: one jail in which a uid has two names, a home each, and a key with a
// command in one of them.
func TestKeyRule(t *testing.T) {
	a, b := testKey("a"), testKey("b")
	files := map[string]string{
		"etc/passwd": "work:x:61001:61001::/home/work:/bin/sh\nsecond:x:61001:61001::/home/second:/bin/sh\n" +
			"relative:x:7:7::home/work:/bin/sh\nnokeys:x:8:8::/home/nokeys:/bin/sh\nfile:x:9:9::/etc/passwd:/bin/sh\n" +
			"fifo:x:10:10::/home/fifo:/bin/sh\nlarge:x:11:11::/home/large:/bin/sh\nlink:x:12:12::/home/link:/bin/sh\n",
		"home/second/.ssh/authorized_keys": `command="only this" ` + a + "\n" + `command="internal-sftp -R" ` + testKey("s") + "\n" + `command="internal-sftp -Z" ` + testKey("z") + "\n",
		"home/work/.ssh/authorized_keys":   b + "\n",
		"home/nokeys/":                     "",
		"home/fifo/.ssh/":                  "",
		"home/large/.ssh/authorized_keys":  a + strings.Repeat("\n", authkeys.MaxFile-len(a)+1),
		"home/link/.ssh/authorized_keys":   "->../../../../../home/second/.ssh/authorized_keys",
	}
	j, root := tree(t, files)
	require.NoError(t, os.Chmod(root, 0o755))
	require.NoError(t, syscall.Mkfifo(filepath.Join(root, "home/fifo/.ssh/authorized_keys"), 0o644))
	work, second := wire.Identity{UID: 61001}, wire.Identity{UID: 61001, Name: "second"}
	const noLine = `sshd let in a key that is not, or no longer, in `
	for claim, tt := range map[string]struct {
		id       wire.Identity
		key      string // "" for a password, "?" where sshd says nothing
		anywhere bool
		asked    string // what the client asks for; "" for a shell
		want     string // what runs instead
		refused  string
	}{
		"the registry's name has the keys":            {id: second, key: a, asked: "id", want: "only this"},
		"a shell":                                     {id: second, key: a, want: "only this"},
		"the keys of the other name do not count":     {id: second, key: b, refused: noLine + "/home/second/.ssh/authorized_keys of the jail"},
		"nor those of the registry's, if it has none": {id: work, key: a, refused: noLine + "/home/work/.ssh/authorized_keys of the jail"},
		"a key without a command":                     {id: work, key: b, asked: "id", want: "id"},
		"through a link":                              {id: wire.Identity{UID: 12}, key: a, want: "only this"},
		"a password":                                  {id: second, asked: "id", want: "id"},
		"a key, and no file":                          {id: wire.Identity{UID: 8}, key: a, refused: noLine},
		"a key, and no directory":                     {id: wire.Identity{UID: 9}, key: a, refused: noLine},
		"a key, and no file, but keys elsewhere":      {id: wire.Identity{UID: 8}, key: a, anywhere: true, asked: "id", want: "id"},
		"a key from elsewhere":                        {id: second, key: b, anywhere: true, asked: "id", want: "id"},
		"keys elsewhere do not free the one inside":   {id: second, key: a, anywhere: true, asked: "id", want: "only this"},
		"sshd says nothing, and a command":            {id: second, key: "?", refused: "ExposeAuthInfo yes"},
		"sshd says nothing, and keys elsewhere":       {id: work, key: "?", anywhere: true, refused: "ExposeAuthInfo yes"},
		"sshd says nothing, and no command":           {id: work, key: "?", asked: "id", want: "id"},
		"a home that is not a path":                   {id: wire.Identity{UID: 7}, key: a, refused: "not an absolute path"},
		"the same does not concern a password":        {id: wire.Identity{UID: 7}, asked: "id", want: "id"},
		"a FIFO":                                      {id: wire.Identity{UID: 10}, key: a, anywhere: true, refused: "not a regular file"},
		"a FIFO does not concern a password":          {id: wire.Identity{UID: 10}, asked: "id", want: "id"},
		"a file that is too large":                    {id: wire.Identity{UID: 11}, key: a, anywhere: true, refused: "larger than 256 KiB"},
		"sftp only, and sftp":                         {id: second, key: testKey("s"), asked: "internal-sftp", want: "internal-sftp -R"},
		"sftp only, and a command":                    {id: second, key: testKey("s"), asked: "id", refused: "sftp connections only"},
		"sftp only, and a shell":                      {id: second, key: testKey("s"), refused: "sftp connections only"},
		"sftp only, with nonsense":                    {id: second, key: testKey("z"), asked: "internal-sftp", refused: "options that are not sftp-server's"},
	} {
		t.Run(claim, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			j.Keys = wire.KeysInside
			if tt.anywhere {
				j.Keys = wire.KeysAnywhere
			}
			s := request(wire.FlagForced|wire.FlagLogin, false)
			defer s.Free()
			if tt.asked != "" {
				s.Req.Flags &^= wire.FlagLogin
				s.Req.Args = [][]byte{cbytes("-c"), cbytes(tt.asked)}
			}
			switch tt.key {
			case "?":
			case "":
				s.Req.Flags |= wire.FlagAuthKnown
				s.Req.Auth = [][]byte{cbytes("password")}
			default:
				s.Req.Flags |= wire.FlagAuthKnown
				s.Req.Auth = [][]byte{cbytes("publickey " + tt.key)}
			}
			u, _, refusal := j.Identify(&tt.id, nil)
			require.Nil(t, refusal)
			refusal = j.keyRule(s, &u)
			if tt.refused != "" {
				require.NotNil(t, refusal)
				assert.EqualValues(t, 125, refusal.Status)
				assert.Contains(t, refusal.Text, tt.refused)
				assert.LessOrEqual(t, len(refusal.Text), wire.MaxText)
				return
			}
			require.Nil(t, refusal)
			require.Len(t, s.Req.Args, 2)
			assert.Equal(t, tt.want, string(s.Req.Args[1]))
			assert.Zero(t, s.Req.Flags&wire.FlagLogin)
			if tt.want == tt.asked {
				assert.Empty(t, s.original)
			} else {
				assert.Equal(t, tt.asked, string(s.original))
			}
		})
	}
}

// authorized_keys are read with the user's rights: what only root inside may read is
// not the user's to be let in by.
func TestKeyRuleReadsAsTheUser(t *testing.T) {
	needs.Root(t, "it opens files as another")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	j, root := tree(t, map[string]string{
		"etc/passwd":                     "work:x:61001:61001::/home/work:/bin/sh\n",
		"home/work/.ssh/authorized_keys": testKey("a"),
	})
	require.NoError(t, os.Chmod(root, 0o755))
	u, _, refusal := j.Identify(&wire.Identity{UID: 61001}, nil)
	require.Nil(t, refusal)
	for mode, ok := range map[os.FileMode]bool{0o644: true, 0o600: false} {
		require.NoError(t, os.Chmod(filepath.Join(root, "home/work/.ssh/authorized_keys"), mode))
		_, refusal = j.KeyRule(&u, login.Auth{Lines: [][]byte{[]byte("publickey " + testKey("a"))}, Known: true})
		assert.Equal(t, ok, refusal == nil, "%v", mode)
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	require.NoError(t, err)
	assert.Contains(t, string(status), "\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n", "PID 1 is root again")
}

// The longest home leaves room for what to do.
func TestNoLineIsSaidInOneMessage(t *testing.T) {
	j, root := tree(t, map[string]string{"etc/passwd": "x:x:7:7::/" + strings.Repeat("x/", 1000) + ":/bin/sh\n"})
	require.NoError(t, os.Chmod(root, 0o755))
	u, _, refusal := j.Identify(&wire.Identity{UID: 7}, nil)
	require.Nil(t, refusal)
	_, refusal = j.KeyRule(&u, login.Auth{Lines: [][]byte{[]byte("publickey " + testKey("a"))}, Known: true})
	require.NotNil(t, refusal)
	assert.LessOrEqual(t, len(refusal.Text), wire.MaxText)
	assert.Contains(t, refusal.Text, `keys = "anywhere" in the registry`)
	assert.Contains(t, refusal.Text, "...")
}

// A login like the one before is found without memory of its own.
func TestIdentifyAgainCostsNoMemory(t *testing.T) {
	j, _ := tree(t, map[string]string{
		"etc/passwd": "work:x:7:7::/home/work:/bin/sh\nsecond:x:7:7::/home/second:/bin/sh\n",
		"etc/group":  "a:x:9:second\n",
	})
	id, groups := &wire.Identity{UID: 7, Name: "second"}, make([]uint32, 0, 8)
	allocs := testing.AllocsPerRun(100, func() {
		u, got, refusal := j.Identify(id, groups[:0])
		if refusal != nil || u.Home != "/home/second" || len(got) != 2 {
			t.Fatal(u, got, refusal)
		}
	})

	assert.Zero(t, allocs)
}

// What does not fit in the kernel's or our limits is refused, up to the byte.
func TestSizeOfPasswd(t *testing.T) {
	const line = "work:x:7:7::/home/work:/bin/sh\n"
	for more, ok := range map[int]bool{0: true, 1: false} {
		j, root := tree(t, map[string]string{"etc/passwd": line + strings.Repeat("#", login.MaxDatabase-len(line)+more)})
		_, _, refusal := j.Identify(&wire.Identity{UID: 7}, nil)
		assert.Equal(t, ok, refusal == nil, "passwd")
		write(t, root, "etc/passwd", line)
		write(t, root, "etc/group", strings.Repeat("#", login.MaxDatabase+more))
		_, _, refusal = j.Identify(&wire.Identity{UID: 7}, nil)
		assert.Equal(t, ok, refusal == nil, "group")
	}
}

// TestUnchangedPasswdIsNotReadAgain: and a changed one is, whatever has become of it.
func TestUnchangedPasswdIsNotReadAgain(t *testing.T) {
	const first, second = "work:x:7:7::/home/first:/bin/sh\n", "work:x:7:7::/home/other:/bin/sh\n"
	id := &wire.Identity{UID: 7}
	for claim, c := range map[string]struct {
		young  bool
		change func(path string) error
		want   string // the home, "" if there is no session
	}{
		"unchanged":                {false, func(string) error { return nil }, "/home/memory"},
		"it had just been changed": {true, func(string) error { return nil }, "/home/first"},
		"written to":               {false, func(path string) error { return os.WriteFile(path, []byte(second), 0o644) }, "/home/other"},
		"replaced": {false, func(path string) error {
			return errors.Join(os.WriteFile(path+"-", []byte(second), 0o644), os.Rename(path+"-", path))
		}, "/home/other"},
		"another of the same times": {false, func(path string) error {
			st, err := os.Stat(path)
			return errors.Join(err, os.WriteFile(path+"-", []byte(second), 0o644), os.Chtimes(path+"-", st.ModTime(), st.ModTime()), os.Rename(path+"-", path))
		}, "/home/other"},
		"removed":   {false, os.Remove, ""},
		"a FIFO":    {false, func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o644)) }, ""},
		"too large": {false, func(path string) error { return os.Truncate(path, login.MaxDatabase+1) }, ""},
	} {
		j, root := tree(t, map[string]string{"etc/passwd": first})
		u, _, refusal := j.Identify(id, nil)
		require.Nil(t, refusal, claim)
		require.Equal(t, "/home/first", u.Home, claim)
		j.passwd.young = c.young
		j.passwd.text = []byte("work:x:7:7::/home/memory:/bin/sh\n")
		require.NoError(t, c.change(filepath.Join(root, "etc/passwd")), claim)
		for range 2 { // what failed is no more known than before
			u, _, refusal = j.Identify(id, nil)
			assert.Equal(t, c.want == "", refusal != nil, claim)
			if refusal == nil {
				assert.Equal(t, c.want, u.Home, claim)
			}
		}
	}
}
