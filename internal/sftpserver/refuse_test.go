package sftpserver

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What -R, -p and -P refuse. Every request there is gets its turn, by the table the
// server itself goes by, so that none can be forgotten.

// tries are one use of each request, which works, and by which a request that
// writes changes something in the tree of tryTree. fsync alone leaves no trace.
var tries = map[string]func(c *client){
	"open":    func(c *client) { c.open("f", openRead|openTrunc, attrs{}) },
	"close":   func(c *client) { c.close(c.open("f", openRead, attrs{})) },
	"read":    func(c *client) { c.get(c.open("f", openRead, attrs{}), 0, 4) },
	"write":   func(c *client) { c.put(c.open("f", openWrite, attrs{}), 0, "written") },
	"lstat":   func(c *client) { c.ask("lstat", typeLstat, str("link")) },
	"fstat":   func(c *client) { c.ask("fstat", typeFstat, str(c.open("f", openRead, attrs{}))) },
	"setstat": func(c *client) { c.ask("setstat", typeSetstat, withAttrs(str("f"), attrs{flags: attrSize, size: 3})) },
	"fsetstat": func(c *client) {
		c.ask("fsetstat", typeFsetstat, withAttrs(str(c.open("f", openRead, attrs{})), newMode))
	},
	"opendir": func(c *client) { c.ask("opendir", typeOpendir, str("d")) },
	"readdir": func(c *client) {
		c.ask("readdir", typeReaddir, str(handleOf(c.ask("opendir", typeOpendir, str("full")))))
	},
	"remove":             func(c *client) { c.ask("remove", typeRemove, str("f")) },
	"mkdir":              func(c *client) { c.ask("mkdir", typeMkdir, withAttrs(str("new"), attrs{})) },
	"rmdir":              func(c *client) { c.ask("rmdir", typeRmdir, str("d")) },
	"realpath":           func(c *client) { c.ask("realpath", typeRealpath, str("link")) },
	"stat":               func(c *client) { c.ask("stat", typeStat, str("link")) },
	"rename":             func(c *client) { c.ask("rename", typeRename, str("f", "new")) },
	"readlink":           func(c *client) { c.ask("readlink", typeReadlink, str("link")) },
	"symlink":            func(c *client) { c.ask("symlink", typeSymlink, str("f", "new")) },
	"posix-rename":       func(c *client) { c.ask("posix-rename", "posix-rename@openssh.com", str("f", "g")) },
	"statvfs":            func(c *client) { c.brief("statvfs@openssh.com", "f") },
	"fstatvfs":           func(c *client) { c.brief("fstatvfs@openssh.com", c.open("f", openRead, attrs{})) },
	"hardlink":           func(c *client) { c.ask("hardlink", "hardlink@openssh.com", str("f", "new")) },
	"fsync":              func(c *client) { c.ask("fsync", "fsync@openssh.com", str(c.open("f", openRead, attrs{}))) },
	"lsetstat":           func(c *client) { c.ask("lsetstat", "lsetstat@openssh.com", withAttrs(str("f"), newMode)) },
	"limits":             func(c *client) { c.ask("limits", "limits@openssh.com", nil) },
	"expand-path":        func(c *client) { c.ask("expand-path", "expand-path@openssh.com", str("link")) },
	"copy-data":          copyDataTry,
	"home-directory":     func(c *client) { c.brief("home-directory", "root") },
	"users-groups-by-id": func(c *client) { c.ask("names", "users-groups-by-id@openssh.com", str("\x00\x00\x00\x00", "")) },
}

var newMode = attrs{flags: attrPermissions, perm: 0o600}

func copyDataTry(c *client) {
	from, to := c.open("f", openRead, attrs{}), c.open("g", openWrite, attrs{})
	what := "copy"
	if from == "none" || to == "none" {
		what = noFile
	}
	c.ask(what, "copy-data", putU64(append(putU64(putU64(str(from), 0), 0), str(to)...), 0))
}

// brief asks what is not the same twice or not with every version of OpenSSH's server,
// and notes whether there was an answer.
func (c *client) brief(extension, of string) {
	c.t.Helper()
	c.send(extension, str(of))
	p := c.receive()
	require.NotEmpty(c.t, p)
	if p[0] == typeStatus {
		c.note("%s: %s", extension, describe(p))
		return
	}
	c.note("%s: type %d", extension, p[0])
}

// tryTree makes the tree the tries are made in, anew.
func tryTree(t *testing.T, home string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(home))
	for _, d := range []string{"", "d", "full"} {
		require.NoError(t, os.Mkdir(filepath.Join(home, d), 0o755))
	}
	for name, text := range map[string]string{"f": "0123456789", "g": "another", "full/x": ""} {
		require.NoError(t, os.WriteFile(filepath.Join(home, name), []byte(text), 0o644))
	}
	require.NoError(t, os.Symlink("f", filepath.Join(home, "link")))
	if os.Geteuid() != 0 {
		return
	}
	require.NoError(t, filepath.WalkDir(home, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	}))
}

// state is all there is in a tree, with the time at which each inode was changed
// last: also a change to what it was before shows.
func state(t *testing.T, root string) string {
	t.Helper()
	var s strings.Builder
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		text := ""
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(b)
		case syscall.S_IFLNK:
			if text, err = os.Readlink(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&s, "%s inode %d mode %o links %d owner %d:%d changed %d.%d %q\n", path, st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid, st.Ctim.Sec, st.Ctim.Nsec, text)
		return nil
	}))
	return s.String()
}

// refused runs steps against both servers, each in a tree of tryTree's, and returns
// what ours said and whether it changed something.
func refused(t *testing.T, steps func(*client), args ...string) (said string, changed bool) {
	t.Helper()
	said = compareIn(t, tryTree, func(c *client) {
		before := state(t, c.dir)
		c.hello()
		steps(c)
		changed = state(t, c.dir) != before
		c.note("changed: %v", changed)
	}, args...)
	return said, changed
}

func TestEveryRequestCanBeRefused(t *testing.T) {
	for i := range kinds {
		k := &kinds[i]
		t.Run(k.name, func(t *testing.T) {
			try := tries[k.name]
			require.NotNil(t, try, "a request without a try")
			said, changed := refused(t, try)
			assert.NotContains(t, said, `status 3 "Permission denied"`, "the try is one that works")
			assert.NotContains(t, said, `status 4 "Failure"`)
			wants := k.name == "open" || k.writes && k.name != "fsync"
			assert.Equal(t, wants, changed, "the try leaves a trace if the request writes: %s", said)

			others := []string{}
			for i := range kinds {
				if n := kinds[i].name; n != k.name && n != "open" && n != "opendir" {
					others = append(others, n)
				}
			}
			for _, args := range [][]string{{"-R"}, {"-P", k.name}, {"-p", "open,opendir," + strings.Join(others[:min(len(others), maxList-2)], ",")}} {
				if args[0] == "-p" && (k.name == "open" || k.name == "opendir") {
					args[1] = strings.TrimPrefix(args[1], "open,opendir,")
				}
				said, changed := refused(t, try, args...)
				assert.False(t, changed, "%q: %s", args, said)
				if args[0] != "-R" || wants || k.name == "fsync" {
					assert.Contains(t, said, `status 3 "Permission denied"`, "%q", args)
				}
			}
		})
	}
	for name := range tries {
		assert.True(t, slices.ContainsFunc(kinds[:], func(k kind) bool { return k.name == name }), "a try without a request: %s", name)
	}
}

// TestReadOnlyOpens: with -R no combination of flags opens a file to write, makes
// one, or empties one.
func TestReadOnlyOpens(t *testing.T) {
	all := func(c *client) {
		for flags := uint32(0); flags < 2*openExcl; flags++ {
			for _, path := range []string{"f", "link", "new"} {
				if h := c.open(path, flags, attrs{}); h != "none" {
					c.put(h, 0, "written")
					c.close(h)
				}
			}
		}
	}
	said, changed := refused(t, all, "-R")
	assert.False(t, changed, said)
	assert.Contains(t, said, "handle", "what only reads is let through")
	_, changed = refused(t, all)
	assert.True(t, changed, "without -R they do")
}

// TestOwnMemory: a client that may do sftp and nothing else does not get at the
// server's memory by way of files, with which it could do anything. The files are
// root's once the process cannot be dumped (proc(5)).
func TestOwnMemory(t *testing.T) {
	said := compare(t, func(c *client) {
		c.hello()
		for _, name := range []string{"mem", "environ", "auxv"} {
			for _, flags := range []uint32{openRead, openWrite, openRead | openWrite} {
				c.open("/proc/self/"+name, flags, attrs{})
			}
		}
	})
	assert.Equal(t, 9, strings.Count(said, `status 3 "Permission denied"`), said)
}
