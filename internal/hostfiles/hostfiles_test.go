package hostfiles

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/environ"
	"jail/internal/sys"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	require.NoError(t, os.Rename(path+".new", path))
}

// TestResolverFollows changes the host's file in every way programs do it.
func TestResolverFollows(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	source := filepath.Join(dir, "etc/resolv.conf")
	write(t, source, "nameserver 192.0.2.1\nsearch a.example\n")
	old := syscall.Umask(0o077)
	r, err := openResolver(run, source)
	syscall.Umask(old)
	require.NoError(t, err)
	defer r.Close()
	_, path := r.File()
	var first syscall.Stat_t
	require.NoError(t, syscall.Stat(path, &first))
	assert.EqualValues(t, 0o644, first.Mode&0o7777)

	says := func(want, how string) {
		t.Helper()
		fds := []sys.PollFD{{FD: int32(r.Events()), Events: sys.PollIn}}
		for have := ""; have != want; {
			n, err := sys.Poll(fds, 5000)
			require.NoError(t, err)
			require.Equal(t, 1, n, "%s: still %q", how, have)
			require.NoError(t, r.Changed())
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			have = string(text)
		}
		var st syscall.Stat_t
		require.NoError(t, syscall.Stat(path, &st))
		require.Equal(t, first.Ino, st.Ino, "%s: what jails have mounted is this file", how)
	}
	text, _ := os.ReadFile(path)
	assert.Equal(t, "nameserver 192.0.2.1\nsearch a.example\n", string(text))

	write(t, source, "nameserver 192.0.2.2\n")
	says("nameserver 192.0.2.2\n", "written in place, and shorter")
	replace(t, source, "nameserver 192.0.2.3\n")
	says("nameserver 192.0.2.3\n", "replaced")
	replace(t, source, "nameserver 192.0.2.4\n")
	says("nameserver 192.0.2.4\n", "replaced again")
	require.NoError(t, os.Remove(source))
	says("", "removed")
	require.NoError(t, os.Symlink("../run/resolve/stub.conf", source))
	write(t, filepath.Join(dir, "run/resolve/stub.conf"), "nameserver 127.0.0.53\n")
	says("nameserver 127.0.0.53\n", "a link, to what is made after it")
	replace(t, filepath.Join(dir, "run/resolve/stub.conf"), "nameserver 127.0.0.54\n")
	says("nameserver 127.0.0.54\n", "replaced where the link leads")
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "run/resolve")))
	says("", "with its directory gone")
	write(t, filepath.Join(dir, "run/resolve/stub.conf"), "nameserver 127.0.0.55\n")
	says("nameserver 127.0.0.55\n", "and back")

	// The next serve goes on with the same file.
	again, err := openResolver(run, source)
	require.NoError(t, err)
	defer again.Close()
	_, same := again.File()
	var st syscall.Stat_t
	require.NoError(t, syscall.Stat(same, &st))
	assert.Equal(t, first.Ino, st.Ino)
}

func TestResolverIsBounded(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	source := filepath.Join(dir, "resolv.conf")
	write(t, source, strings.Repeat("#", maxResolvConf+1))
	_, err := openResolver(run, source)
	assert.Error(t, err)
	require.NoError(t, os.Remove(filepath.Join(run, "host/resolv.conf")))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(run, "host/resolv.conf")))
	_, err = openResolver(run, source)
	assert.ErrorIs(t, err, syscall.ELOOP)
	require.NoError(t, os.Remove(source))
	require.NoError(t, os.Symlink("resolv.conf", source))
	require.NoError(t, os.Remove(filepath.Join(run, "host/resolv.conf")))
	_, err = openResolver(run, source)
	assert.ErrorIs(t, err, syscall.ELOOP, "a circle of links")
}

func TestReadZone(t *testing.T) {
	const rule = "CET-1CEST,M3.5.0,M10.5.0/3"
	paris := "TZif2" + strings.Repeat("\x00", 60) + "\n" + rule + "\n"
	sum := environ.Sum([]byte(paris))
	with := func(files ...string) string {
		root := t.TempDir()
		write(t, root+"/usr/share/zoneinfo/Europe/Paris", paris)
		for i := 0; i < len(files); i += 2 {
			if target, ok := strings.CutPrefix(files[i+1], "->"); ok {
				require.NoError(t, os.MkdirAll(root+"/etc", 0o755))
				require.NoError(t, os.Symlink(target, root+files[i]))
			} else {
				write(t, root+files[i], files[i+1])
			}
		}
		return root
	}
	for claim, c := range map[string]struct {
		root, name string
		want       Zone
	}{
		"a link":                            {with("/etc/localtime", "->../usr/share/zoneinfo/Europe/Paris"), "", Zone{"Europe/Paris", rule, sum}},
		"a copy, noted beside it":           {with("/etc/localtime", paris, "/etc/timezone", "Europe/Paris\n"), "", Zone{"Europe/Paris", rule, sum}},
		"a copy with a wrong note":          {with("/etc/localtime", paris, "/etc/timezone", "../../etc/passwd\n"), "", Zone{"", rule, sum}},
		"a copy of what the note is not":    {with("/etc/localtime", "TZif2"+strings.Repeat("\x00", 60)+"\nUTC0\n", "/etc/timezone", "Europe/Paris\n"), "", Zone{"", "UTC0", environ.Sum([]byte("TZif2" + strings.Repeat("\x00", 60) + "\nUTC0\n"))}},
		"nothing is UTC":                    {with(), "", Zone{"UTC", "UTC0", 0}},
		"by name":                           {with(), "Europe/Paris", Zone{"Europe/Paris", rule, sum}},
		"by a name the host has no use for": {with(), "Mars/Olympus", Zone{"Mars/Olympus", "", 0}},
	} {
		assert.Equal(t, c.want, readZone(c.root, c.name), claim)
	}
}

// FuzzConcerns: whatever the kernel, or anything in its place, says: it ends, and what is
// cut short counts.
func FuzzConcerns(f *testing.F) {
	event := func(wd, mask uint32, name string) []byte {
		b := binary.NativeEndian.AppendUint32(nil, wd)
		b = binary.NativeEndian.AppendUint32(b, mask)
		b = binary.NativeEndian.AppendUint32(b, 0)
		return append(binary.NativeEndian.AppendUint32(b, uint32(len(name))), name...)
	}
	f.Add(event(1, syscall.IN_MODIFY, "resolv.conf\x00\x00\x00\x00\x00"))
	f.Add(append(event(1, syscall.IN_CREATE, "other\x00"), event(1, syscall.IN_MODIFY, "resolv.conf\x00")...))
	f.Add(event(1, syscall.IN_MODIFY, "resolv.conf")[:20])
	f.Fuzz(func(t *testing.T, events []byte) {
		r := &Resolver{names: map[int32]map[string]bool{1: {"resolv.conf": true}}}
		one := append(append([]byte(nil), event(1, syscall.IN_MODIFY, "resolv.conf\x00")...), events...)
		if !r.concerns(one) {
			t.Fatal("what matters is missed before", events)
		}
		if r.concerns(events) && !bytes.Contains(events, []byte("resolv.conf")) && len(events) >= syscall.SizeofInotifyEvent {
			mask, size := binary.NativeEndian.Uint32(events[4:]), binary.NativeEndian.Uint32(events[12:])
			if int(size) == len(events)-syscall.SizeofInotifyEvent && mask&(syscall.IN_Q_OVERFLOW|syscall.IN_IGNORED|syscall.IN_DELETE_SELF|syscall.IN_MOVE_SELF) == 0 {
				t.Fatal("nothing in it matters", events)
			}
		}
	})
}
