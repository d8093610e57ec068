package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/needs"
)

// tree makes a directory with a valid registry and a rootfs for it, and
// returns options that accept both for whoever runs the test.
func tree(t *testing.T) (dir string, opt Options) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "jail.d"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "jails", "web"), 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "shared"), 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "run"), 0o755))
	write(t, filepath.Join(dir, "jail.toml"), registryAt(dir, ""))
	opt = testOptions()
	opt.SkipFS, opt.Rootless, opt.euid = false, true, nil
	opt.RuntimeDir = filepath.Join(dir, "run")
	return dir, opt
}

func registryAt(dir, lines string) string {
	return "version = 1\n[jail.web]\nrootfs = \"" + dir + "/jails/web\"\nusers = [\"alice\"]\n" + lines
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	require.NoError(t, os.Chmod(path, 0o644)) // whatever the umask
}

func TestRegistryFileOfDoubtfulOriginIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(t *testing.T, dir string)
		want string // after the directory
	}{
		"missing": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(dir+"/jail.toml"))
		}, "/jail.toml: does not exist, create it"},
		"missing directory": {func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir))
		}, ": does not exist, create it"},
		"group-writable": {func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(dir+"/jail.toml", 0o664))
		}, "/jail.toml: is writable by its group, chmod g-w "},
		"world-writable drop-in": {func(t *testing.T, dir string) {
			write(t, dir+"/jail.d/a.toml", "version = 1")
			require.NoError(t, os.Chmod(dir+"/jail.d/a.toml", 0o646))
		}, "/jail.d/a.toml: is writable by everybody, chmod o-w "},
		"symlink": {func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(dir+"/jail.toml", dir+"/x"))
			require.NoError(t, os.Symlink("x", dir+"/jail.toml"))
		}, "/jail.toml: is a symbolic link"},
		"hard link": {func(t *testing.T, dir string) {
			require.NoError(t, os.Link(dir+"/jail.toml", dir+"/x"))
		}, "/jail.toml: has 2 names (hard links)"},
		"FIFO, without waiting for a writer": {func(t *testing.T, dir string) {
			require.NoError(t, unix.Mkfifo(dir+"/jail.d/a.toml", 0o644))
		}, "/jail.d/a.toml: is not a regular file"},
		"directory": {func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir+"/jail.d/a.toml", 0o755))
		}, "/jail.d/a.toml: is not a regular file"},
		"sparse file of a terabyte": {func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(dir+"/jail.toml", 1<<40))
		}, "/jail.toml: is larger than 4 MiB"},
		"group-writable directory": {func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(dir, 0o775))
		}, ": is writable by its group, chmod g-w "},
		"world-writable jail.d": {func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(dir+"/jail.d", 0o777))
		}, "/jail.d: is writable by its group and by everybody, chmod go-w "},
		"jail.d is a symlink": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(dir+"/jail.d"))
			require.NoError(t, os.Symlink("shared", dir+"/jail.d"))
		}, "/jail.d: is a symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, opt := tree(t)
			tt.do(t, dir)
			reg, err := Load(dir+"/jail.toml", opt)
			if strings.Contains(tt.want, "/jail.d/") {
				// A drop-in alone is out of service.
				require.NoError(t, err)
				require.NotNil(t, reg.Jail("web"))
				require.Len(t, reg.Faults, 1)
				assert.Equal(t, dir+"/jail.d/a.toml", reg.Faults[0].File)
				assert.True(t, strings.HasPrefix(reg.Errors().Error(), dir+tt.want), "%v", reg.Errors())
				return
			}
			var errs Errors
			require.ErrorAs(t, err, &errs)
			require.Len(t, errs, 1, "%v", errs)
			assert.True(t, strings.HasPrefix(errs[0].Error(), dir+tt.want), "%v", errs)
			assert.Empty(t, reg.Jails)
		})
	}

	t.Run("writable directory above", func(t *testing.T) {
		dir, opt := tree(t)
		require.NoError(t, os.Mkdir(dir+"/etc", 0o755))
		require.NoError(t, os.Rename(dir+"/jail.toml", dir+"/etc/jail.toml"))
		require.NoError(t, os.Chmod(dir, 0o777))
		_, err := Load(dir+"/etc/jail.toml", opt)
		require.ErrorContains(t, err, dir+": is writable by its group and by everybody")
	})
	t.Run("symlink above", func(t *testing.T) {
		dir, opt := tree(t)
		require.NoError(t, os.Symlink(dir, dir+"/link"))
		_, err := Load(dir+"/link/jail.toml", opt)
		require.ErrorContains(t, err, dir+"/link: is a symbolic link, write the path it stands for")
	})
	t.Run("owner is neither root nor the caller", func(t *testing.T) {
		var ps problems
		euid := uint32(1000)
		st := &unix.Stat_t{Uid: 1001, Mode: unix.S_IFREG | 0o644, Nlink: 1}
		checkFileStat(&ps, "/f", st, Options{Rootless: true, euid: &euid})
		st.Uid = 1000
		checkFileStat(&ps, "/g", st, Options{euid: &euid})
		assert.Equal(t, "/f: belongs to uid 1001, who could change the registry; chown 1000 /f\n"+
			"/g: belongs to uid 1000, who could change the registry; chown root /g", ps.errors.Error())
	})
	t.Run("sticky directory will do only for a caller's own", func(t *testing.T) {
		var ps problems
		euid := uint32(1000)
		st := &unix.Stat_t{Mode: unix.S_IFDIR | unix.S_ISVTX | 0o777}
		checkDirStat(&ps, "/tmp", st, Options{Rootless: true, euid: &euid})
		require.Empty(t, ps.errors)
		checkDirStat(&ps, "/tmp", st, Options{euid: &euid})
		require.Len(t, ps.errors, 1)
	})
}

func TestDropInsAreReadInOrder(t *testing.T) {
	dir, opt := tree(t)
	opt.SkipFS = true
	write(t, dir+"/jail.d/b.toml", "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]")
	write(t, dir+"/jail.d/a.toml", "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]")
	write(t, dir+"/jail.d/.c.toml", "editor's")
	write(t, dir+"/jail.d/README", "not TOML")
	reg, err := Load(dir+"/jail.toml", opt)
	require.NoError(t, err)
	require.EqualError(t, reg.Errors(), dir+`/jail.d/b.toml:2: jail.x: jail "x" is already defined at `+dir+`/jail.d/a.toml:2, remove one`)
	require.NoError(t, os.Remove(dir+"/jail.d/b.toml"))
	reg, err = Load(dir+"/jail.toml", opt)
	require.NoError(t, err)
	assert.Len(t, reg.Jails, 2)
}

func TestRootfsAndMountsAreLookedAt(t *testing.T) {
	for name, tt := range map[string]struct {
		do    func(t *testing.T, dir string)
		lines string // DIR stands for the directory
		want  string
	}{
		"rootfs missing": {func(t *testing.T, dir string) { require.NoError(t, os.Remove(dir+"/jails/web")) }, "", ":3: jail.web.rootfs: DIR/jails/web does not exist"},
		"rootfs is a file": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(dir+"/jails/web"))
			write(t, dir+"/jails/web", "")
		}, "", ":3: jail.web.rootfs: DIR/jails/web is not a directory"},
		"rootfs below a symlink": {func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(dir+"/jails", dir+"/j"))
			require.NoError(t, os.Symlink("j", dir+"/jails"))
		}, "", ":3: jail.web.rootfs: DIR/jails is a symbolic link"},
		"rootfs around the registry": {nil, "[jail.x]\nrootfs = \"DIR\"\nusers = [\"bob\"]", ":6: jail.x.rootfs: DIR contains this registry"},
		"mount source missing":       {nil, `mounts = [ { source = "DIR/none", target = "/x" } ]`, ":5: jail.web.mounts[0].source: DIR/none does not exist"},
		"mount source is a symlink":  {func(t *testing.T, dir string) { require.NoError(t, os.Symlink("shared", dir+"/link")) }, `mounts = [ { source = "DIR/link", target = "/x" } ]`, ":5: jail.web.mounts[0].source: DIR/link is a symbolic link"},
		"mount source is a FIFO":     {func(t *testing.T, dir string) { require.NoError(t, unix.Mkfifo(dir+"/shared/f", 0o666)) }, `mounts = [ { source = "DIR/shared/f", target = "/x" } ]`, ":5: jail.web.mounts[0].source: DIR/shared/f is neither"},
		"mount source has sockets":   {nil, `mounts = [ { source = "DIR/run", target = "/x" } ]`, ":5: jail.web.mounts[0].source: DIR/run is the control sockets' directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, opt := tree(t)
			if tt.do != nil {
				tt.do(t, dir)
			}
			write(t, dir+"/jail.toml", registryAt(dir, strings.ReplaceAll(tt.lines, "DIR", dir)))
			reg, err := Load(dir+"/jail.toml", opt)
			require.NoError(t, err)
			errs := reg.Errors()
			require.Len(t, errs, 1, "%v", errs)
			assert.Contains(t, errs.Error(), strings.ReplaceAll(tt.want, "DIR", dir))
		})
	}

	t.Run("good ones load", func(t *testing.T) {
		dir, opt := tree(t)
		write(t, dir+"/shared/file", "")
		write(t, dir+"/jail.toml", registryAt(dir, `mounts = [ { source = "`+dir+`/shared", target = "/x" }, { source = "`+dir+`/shared/file", target = "/y" } ]`))
		reg, err := Load(dir+"/jail.toml", opt)
		require.NoError(t, err)
		assert.Len(t, reg.Jails, 1)
	})
}

// F10: set-uid files of the jail's root must not be in reach of host users.
// TestMountInReachOfHostUsersIsWarnedAbout: root inside a jail is root of what is shown
// there as well. The source's own mode is no help: root inside can change it.
func TestMountInReachOfHostUsersIsWarnedAbout(t *testing.T) {
	dir, opt := tree(t)
	source := filepath.Join(dir, "above", "shown")
	require.NoError(t, os.MkdirAll(source, 0o700))
	require.NoError(t, os.Chmod(filepath.Join(dir, "jails"), 0o700))
	for p := filepath.Dir(source); p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		require.NoError(t, os.Chmod(p, 0o755))
	}
	for p := dir; p != "/"; p = filepath.Dir(p) {
		fi, err := os.Stat(p)
		needs.Machine(t, err == nil && fi.Mode()&1 != 0, p+" is not world-searchable, so nothing below it is in reach")
	}
	text, err := os.ReadFile(dir + "/jail.toml")
	require.NoError(t, err)
	warnings := func(more string) (all []string) {
		require.NoError(t, os.WriteFile(dir+"/jail.toml", []byte(string(text)+"mounts = [{ source = \""+source+"\", target = \"/mnt\""+more+" }]\n"), 0o644))
		reg, err := Load(dir+"/jail.toml", opt)
		require.NoError(t, err)
		require.Empty(t, reg.Faults)
		for _, w := range reg.Warnings {
			all = append(all, w.Msg)
		}
		return all
	}
	assert.Equal(t, []string{"every host user can reach what root inside makes set-uid in it, set readonly = true or put it below a directory of mode 0700"}, warnings(""))
	assert.Empty(t, warnings(", readonly = true"))
	require.NoError(t, os.Chmod(filepath.Dir(source), 0o700))
	assert.Empty(t, warnings(""))
}

func TestRootfsInReachOfHostUsersIsWarnedAbout(t *testing.T) {
	dir, opt := tree(t)
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		require.NoError(t, os.Chmod(p, 0o755))
	}
	for p := dir; p != "/"; p = filepath.Dir(p) {
		fi, err := os.Stat(p)
		needs.Machine(t, err == nil && fi.Mode()&1 != 0, p+" is not world-searchable, so nothing below it is in reach")
	}
	reg, err := Load(dir+"/jail.toml", opt)
	require.NoError(t, err)
	require.Len(t, reg.Warnings, 1)
	assert.Equal(t, dir+"/jail.toml:3: jail.web.rootfs: every host user can reach set-uid files in it, chmod 0700 "+dir+"/jails", reg.Warnings[0].Error())

	require.NoError(t, os.Chmod(dir+"/jails", 0o700))
	reg, err = Load(dir+"/jail.toml", opt)
	require.NoError(t, err)
	assert.Empty(t, reg.Warnings)
}

// One directory with two paths is what a bind mount makes; the comparison is
// by device and inode, which needs no mount to test.
func TestPlacesAreComparedByInode(t *testing.T) {
	a, b := fileID{1, 10}, fileID{1, 20}
	known := newPlaceSet()
	known.add(place{self: []any{"/srv/a/web", b}, above: []any{"/srv/a", a, "/srv", "/"}}, &draft{})
	for name, tt := range map[string]struct {
		p    place
		want string
	}{
		"same directory under another path":    {place{self: []any{"/mnt/web", b}, above: []any{"/mnt", "/"}}, "is"},
		"directory above under another path":   {place{self: []any{"/mnt", a}, above: []any{"/"}}, "contains"},
		"directory inside under another path":  {place{self: []any{"/mnt/web/x", fileID{1, 30}}, above: []any{"/mnt/web", b, "/mnt", "/"}}, "lies inside"},
		"same inode number on another device":  {place{self: []any{"/mnt", fileID{2, 20}}, above: []any{"/"}}, ""},
		"sibling whose name is longer by some": {place{self: []any{"/srv/a/web2"}, above: []any{"/srv/a", a, "/srv", "/"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			first := ""
			for _, how := range known.find(tt.p) {
				first = how
				break
			}
			assert.Equal(t, tt.want, first)
		})
	}
}
