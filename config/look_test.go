package config

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/needs"
)

// TestMain lets the test's own program be the one that looks at places.
func TestMain(m *testing.M) { needs.Main(m, LookAtPlaces) }

func TestLookedAtElsewhereIsWhatIsSeenHere(t *testing.T) {
	dir, _ := tree(t)
	require.NoError(t, os.Symlink("shared", dir+"/link"))

	paths := []string{"/", "/proc", "/proc/self", "/nonexistent", dir, dir + "/link/x", dir + "/shared", dir + "/jails/web", "/dev/null", "/dev/null/x"}
	here := make([]*seen, len(paths))
	lookAt(paths, func(i int, s *seen) { here[i] = s })
	t.Setenv("JAIL_TEST_LOOK", "1")
	there, err := lookElsewhere([]string{os.Args[0]}, paths)
	require.NoError(t, err)
	for i, p := range paths {
		require.NotNil(t, here[i], p)
		if p != "/proc/self" { // another one
			assert.Equal(t, here[i], there[i], p)
		}
	}
	assert.Equal(t, unix.ELOOP, here[5].errno)
	assert.Equal(t, dir+"/link", here[5].link)
	assert.NotEmpty(t, here[7].above)

	_, err = lookElsewhere([]string{"/bin/true"}, paths)
	require.Error(t, err, "a process that says nothing is not one that has seen nothing wrong")
}

// Only a path comes out of a line, whatever is in it.
func TestSeenLines(t *testing.T) {
	for range 200 {
		want := &seen{errno: unix.Errno(rand.N(200)), link: "/a \"\n", id: fileID{rand.Uint64(), rand.Uint64()}, mode: rand.Uint32(), uid: rand.Uint32()}
		for range rand.N(4) {
			want.above = append(want.above, seenDir{fileID{rand.Uint64(), rand.Uint64()}, rand.Uint32(), rand.Uint32()})
		}
		line := fmt.Sprintf("%d %d %d %d %d %d %d %q", 3, want.errno, 0, want.id.dev, want.id.ino, want.mode, want.uid, want.link)
		for _, d := range want.above {
			line += fmt.Sprintf(" %d %d %d %d", d.id.dev, d.id.ino, d.mode, d.uid)
		}
		i, got, ok := readSeen(line)
		require.True(t, ok)
		assert.Equal(t, 3, i)
		assert.Equal(t, want, got)
		_, _, ok = readSeen(line + " 1")
		assert.False(t, ok)
	}
}

// A file system that takes every request and answers none: its jails are out of
// service, all others are in, and who has asked can end.
func TestFileSystemThatDoesNotAnswer(t *testing.T) {
	if dir := needs.Silent(t); dir != "" {
		if os.Getenv("JAIL_TEST_HERE") == "" {
			Look = []string{"/usr/bin/env", "JAIL_TEST_LOOK=1", os.Args[0]}
		}
		opt := testOptions()
		opt.SkipFS, opt.RuntimeDir = false, dir+"/run"
		opt.Rootless = true // the directory is not root's
		reg, err := Load(dir+"/jail.toml", opt)
		fmt.Printf("RESULT %v %q %q %q\n", err, inForce(reg), outOfService(reg), strings.ReplaceAll(reg.Errors().Error(), "\n", "; "))
		return
	}
	for _, mode := range []string{"", "1"} {
		t.Run("looked at by another process: "+fmt.Sprint(mode == ""), func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			for _, d := range []string{"run", "a", "c", "m", "shared"} {
				require.NoError(t, os.Mkdir(filepath.Join(dir, d), 0o755))
			}
			text := strings.ReplaceAll(`version = 1
[jail.a]
rootfs = "DIR/a"
users = ["alice"]
mounts = [ { source = "DIR/shared", target = "/x" } ]
[jail.b]
rootfs = "DIR/dead/b"
users = ["bob"]
[jail.c]
rootfs = "DIR/c"
users = ["carol"]
[jail.d]
rootfs = "DIR/dead/d/e"
users = ["centos"]
[jail.m]
rootfs = "DIR/m"
users = ["high"]
uid = 7
mounts = [ { source = "DIR/dead", target = "/x" } ]
`, "DIR", dir)
			write(t, dir+"/jail.toml", text)
			says := needs.RunBesideSilent(t, dir, mode != "", "JAIL_TEST_HERE="+mode)
			assert.Contains(t, says, `RESULT <nil> ["a: alice" "c: carol"] ["b: bob" "d: centos" "m: high"]`)
			assert.Contains(t, says, dir+"/dead/b is on a file system that does not answer, mend or unmount it")
		})
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a`: "/a", `/a\040b`: "/a b", `\134`: `\`, `\0`: `\0`, `\999`: `\999`, `\`: `\`} {
		assert.Equal(t, want, unescape(in), in)
	}
}

func FuzzSeenLine(f *testing.F) {
	f.Add(`3 0 0 1 2 16877 "" 1 2 3 4`)
	f.Fuzz(func(t *testing.T, line string) {
		if _, s, ok := readSeen(line); ok && s == nil {
			t.Fatal("nothing seen")
		}
	})
}
