package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/authkeys"
	"jail/internal/jail"
	"jail/internal/login"
	"jail/internal/rootpath"
	"jail/internal/session"
)

// FuzzKeysAndSessionAgree holds two programs together that look at one rootfs, one
// before sshd lets somebody in, the other when he is in: whoever jail-keys lets in by
// a line is, to PID 1, the same user with that line, and nobody else is.
func FuzzKeysAndSessionAgree(f *testing.F) {
	const twoNames = "work:x:61001:61001::/home/work:/bin/sh\nsecond:x:61001:61001::/home/second:/bin/sh\n"
	line := `command="of work" ` + keyA + "\n"
	f.Add([]byte(twoNames), []byte(line), uint32(61001), "second", "", "")
	f.Add([]byte(twoNames), []byte(line), uint32(61001), "", "", "")
	f.Add([]byte(twoNames), []byte(line+keyA), uint32(61001), "nobody", "", "/bin/sh")
	f.Add([]byte(nil), []byte(line), uint32(5), "x", "/home/work", "")
	f.Add([]byte(nil), []byte(line), uint32(5), "", "/home/work", "")
	f.Add([]byte("x:x:7:7::home/work:\n"), []byte(line), uint32(7), "", "", "")
	f.Add([]byte("x:x:7:7:::\n"), []byte(`from="x",command="a" `+keyA+"\n"+keyA), uint32(7), "", "", "")
	f.Add([]byte("x:x:7:7::/home/link:\n"), []byte("cert-authority "+keyA), uint32(7), "", "", "")
	f.Add([]byte("x:x:7:7::/home/../../home/./work/:\n"), []byte(strings.Repeat("\n", 1000)+keyA), uint32(7), "", "", "")
	f.Add([]byte("x:x:7:7::/home/work/.ssh/authorized_keys:\n"), []byte("zzz"), uint32(7), "", "", "")

	r := newRootfs(f)
	f.Fuzz(r.agree)
}

// The limits of both are the same.
func TestKeysAndSessionAgreeOnLargeFiles(t *testing.T) {
	const (
		users = "work:x:61001:61001::/home/work:/bin/sh\n"
		line  = `command="of work" ` + "KEY\n"
	)
	keys := strings.Replace(line, "KEY", keyA, 1)
	fill := func(text string, size int) []byte { return []byte(text + strings.Repeat("#", size-len(text))) }
	r := newRootfs(t)
	for _, more := range []int{0, 1} {
		r.agree(t, fill(users, login.MaxDatabase+more), []byte(keys), 61001, "", "", "")
		r.agree(t, []byte(users), fill(keys, authkeys.MaxFile+more), 61001, "", "", "")
		r.agree(t, []byte(users), []byte(strings.Repeat("\n", authkeys.MaxLines-1+more)+keys), 61001, "", "", "")
	}
}

// sharedRootfs is a rootfs that both look at.
type sharedRootfs struct {
	path string
	fd   int
}

func newRootfs(t testing.TB) *sharedRootfs {
	r := &sharedRootfs{path: t.TempDir()}
	require.NoError(t, os.Chmod(r.path, 0o755))
	r.write(t, "home/second/.ssh/authorized_keys", []byte(`command="of second" `+keyB+"\n"))
	r.write(t, ".ssh/authorized_keys", []byte(`command="of nobody" `+keyB+"\n"))
	require.NoError(t, os.Symlink("second", filepath.Join(r.path, "home/link")))
	var err error
	r.fd, err = rootpath.OpenDir(r.path, unix.O_PATH)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(r.fd) })
	return r
}

func (r *sharedRootfs) write(t testing.TB, name string, text []byte) {
	path := filepath.Join(r.path, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, text, 0o644))
}

func (r *sharedRootfs) agree(t *testing.T, passwdText, keysText []byte, uid uint32, name, home, shell string) {
	if strings.Contains(home+shell, "\x00") || home != "" && home[0] != '/' {
		return // the registry has none such
	}
	runtime.LockOSThread() // for the ids PID 1 opens files with
	defer runtime.UnlockOSThread()
	r.write(t, "etc/passwd", passwdText)
	r.write(t, "home/work/.ssh/authorized_keys", keysText)
	lg := &jail.Login{UID: jail.UID(uid), JailName: name, Home: home, Shell: shell}
	id := lg.Identity()
	tree := &rootpath.Tree{Root: r.fd}
	pid1 := &session.Jail{Root: r.fd}

	u, err := userOf(tree, lg)
	v, _, refusal := pid1.Identify(&id, nil)
	require.Equal(t, err == nil, refusal == nil, "%v, %v", err, refusal)
	if err != nil {
		return
	}
	require.Equal(t, *u, v)

	text, err := readHome(tree, u, strictModes(uid))
	if err != nil {
		text = nil // and no key is printed
	}
	for _, key := range []string{keyA, keyB, edKey("c")} {
		typ, b64, _ := strings.Cut(key, " ")
		offer, err := authkeys.ParseOffer(typ, b64)
		require.NoError(t, err)
		out, _ := choose(text, &offer, true)
		admitted := len(out) > 0
		auth := login.Auth{Lines: [][]byte{[]byte("publickey " + key)}, Known: true}
		rule, refusal := pid1.KeyRule(&v, auth)
		if !admitted {
			require.NotNil(t, refusal, "PID 1 takes a key of which jail-keys has no line")
			continue
		}
		if refusal != nil {
			require.Equal(t, authkeys.ErrAmbiguous.Error(), refusal.Text, "of %q", out)
			continue
		}
		// The rule is that of the first line printed, or of none with a condition.
		var commands []string
		authkeys.Lines(text, func(_ int, k *authkeys.Key, err error) bool {
			if err == nil && k.Matches(offer) {
				commands = append(commands, fmt.Sprint(k.HasCommand, k.Command))
			}
			return true
		})
		require.Equal(t, strings.Count(string(out), "\n"), len(commands))
		require.Equal(t, commands[0], fmt.Sprint(rule.Forced, rule.Command))
	}
}
