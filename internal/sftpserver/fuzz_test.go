package sftpserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzMessages sends a server what a hostile client might. Whatever names a path is
// refused, so nothing of the machine is touched. Every answer is a whole message of a
// length a client takes, and every request has one, with its id.
func FuzzMessages(f *testing.F) {
	request := func(kind byte, body ...byte) []byte { return frame(append([]byte{kind, 0, 0, 0, 7}, body...)) }
	init := frame(putU32([]byte{typeInit}, 3))
	f.Add(append(init, request(typeRead, str("\x00\x00\x00\x00")...)...))
	f.Add(append(init, request(typeExtended, str("limits@openssh.com")...)...))
	f.Add(append(init, request(typeExtended, str("users-groups-by-id@openssh.com", "\x00\x00\x00\x00", "\xff\xff\xff\xff")...)...))
	f.Add(append(init, request(typeExtended, str("unknown")...)...))
	f.Add(request(99))
	var denied []string
	for _, k := range kinds {
		switch k.name {
		case "open", "opendir", "lstat", "stat", "setstat", "remove", "mkdir", "rmdir", "realpath", "rename", "readlink", "symlink",
			"posix-rename", "statvfs", "hardlink", "lsetstat", "expand-path":
			denied = append(denied, k.name)
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		s := server{options: options{denied: denied}, in: p, end: len(p)}
		for {
			before := s.start
			s.out = s.out[:0]
			status, more := s.next()
			require.LessOrEqual(t, s.start, s.end)
			if status != exitOK || s.broken != "" || !more {
				break
			}
			require.Greater(t, s.start, before, "it gets on")
			if len(s.out) == 0 {
				require.Nil(t, kindByCode(p[before+4]), "a request has an answer")
				continue
			}
			require.LessOrEqual(t, len(s.out), 4+maxMessage)
			require.Equal(t, len(s.out)-4, int(getU32(s.out)), "it is whole, and the only one")
			if p[before+4] != typeInit {
				require.Equal(t, p[before+5:before+9], s.out[5:9])
			}
		}
		require.Empty(t, s.handles.list)
	})
}

// FuzzOptions holds the command line, which an authorized_keys file can have, to its
// limits.
func FuzzOptions(f *testing.F) {
	f.Add("-eR\n-l\nverbose\n-fLOCAL3\n-u\n027\n-d\n~/x%u\n-p\nopen,read,,write\n-P\nremove")
	f.Add("-Q\nrequests")
	f.Add("--\n-R")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\n")
		o := parse(args)
		if o.fatal == "" {
			require.GreaterOrEqual(t, o.umask, -1)
			require.LessOrEqual(t, o.umask, 0o777)
		}
		for _, l := range [][]string{o.allowed, o.denied} {
			require.LessOrEqual(t, len(l), maxList)
			require.NotContains(t, l, "")
		}
		require.GreaterOrEqual(t, o.level, levelQuiet)
		require.LessOrEqual(t, o.level, levelDebug)
		require.Zero(t, o.facility&7, "a facility is no priority")
		if !o.usage && !o.hasQuery && o.fatal == "" {
			require.Equal(t, o, parse(append(args, "--", "-R")), "what follows the options is none")
		}
	})
}

// FuzzNames expands start directories.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "~", "~/x", "~root//x", "/%u/%%/%U/%d", "%", "%x", "~%u"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, dir string) {
		s := server{options: options{startDir: dir}, user: identity{uid: 1234, name: "some%one", home: "/ho%me"}}
		got, why := s.expandStart()
		if why != "" {
			require.Empty(t, got, "nothing half expanded")
			require.True(t, strings.ContainsAny(dir, "%~"))
			return
		}
		if strings.HasPrefix(dir, "~") {
			return // it depends on the machine's accounts
		}
		want := strings.NewReplacer("%%", "%", "%d", "/ho%me", "%u", "some%one", "%U", "1234").Replace(dir)
		require.Equal(t, want, got)
	})
}

// FuzzLog: a line of the log is printable whatever a name is, and no two names look
// the same.
func FuzzLog(f *testing.F) {
	f.Add("a\nb\\\x00\xff\x7f 012")
	f.Fuzz(func(t *testing.T, name string) {
		shown := string(visible(nil, name))
		var back []byte
		for i := 0; i < len(shown); i++ {
			c := shown[i]
			require.True(t, c >= ' ' && c < 0x7F, "%q", shown)
			switch {
			case c != '\\':
				back = append(back, c)
			case shown[i+1] == '\\':
				back = append(back, c)
				i++
			default:
				back = append(back, (shown[i+1]-'0')<<6|(shown[i+2]-'0')<<3|(shown[i+3]-'0'))
				i += 3
			}
		}
		require.Equal(t, name, string(back))
	})
}

// FuzzRealpath resolves paths in a tree of files, directories and links. Where all of
// a path exists it is resolved as filepath.EvalSymlinks does.
func FuzzRealpath(f *testing.F) {
	// Its name has no link in it.
	root, err := filepath.EvalSymlinks(f.TempDir())
	require.NoError(f, err)
	require.NoError(f, os.MkdirAll(filepath.Join(root, "d/e"), 0o755))
	require.NoError(f, os.WriteFile(filepath.Join(root, "d/f"), nil, 0o644))
	for link, to := range map[string]string{"file": "d/f", "dir": "d", "up": "d/..", "loop": "loop", "dangling": "nowhere/x", "d/back": "../d/e/./", "abs": root + "/d"} {
		require.NoError(f, os.Symlink(to, filepath.Join(root, link)))
	}
	for _, s := range []string{"", "d/../file", "up/up/dir/back/..", "loop", "dangling/", "abs//e/.", "dir/missing", "missing/..", "file/.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if strings.Contains(path, "\x00") {
			return // no message has such a path
		}
		path = root + "/" + path
		got, err := realpath(path)
		want, eval := filepath.EvalSymlinks(path)
		if eval == nil {
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		if err == nil {
			assert.Equal(t, filepath.Clean(got), got)
			assert.True(t, filepath.IsAbs(got))
			assert.LessOrEqual(t, len(got), maxPath)
		}
	})
}
