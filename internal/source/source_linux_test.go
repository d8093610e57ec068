package source

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/wire"
)

// TestDirectory: what is asked of a root directory is answered by that directory.
func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("inside"), 0o644))
	link := filepath.Join(filepath.Dir(dir), "link")
	require.NoError(t, os.Symlink("root", link))
	var is syscall.Stat_t
	require.NoError(t, syscall.Stat(dir, &is))

	src := Of(&jail.Spec{Source: jail.Source{Path: dir}})
	assert.Equal(t, dir, src.String())
	assert.Equal(t, []string{dir}, src.Places())
	assert.Equal(t, Landmark{dir, "/"}, src.Landmark())

	named, err := src.Name()
	require.NoError(t, err)
	assert.Equal(t, &Named{dir, uint64(is.Dev), is.Ino}, named)

	view, err := src.View()
	require.NoError(t, err)
	defer view.Close()
	text, _, err := view.ReadFile("/etc/passwd", 100)
	require.NoError(t, err)
	assert.Equal(t, "inside", string(text))

	// Nothing is done by a path with a link in it.
	src = Of(&jail.Spec{Source: jail.Source{Path: link}})
	_, err = src.Name()
	assert.ErrorIs(t, err, syscall.ELOOP)
	_, err = src.View()
	assert.ErrorIs(t, err, syscall.ELOOP)
	_, err = src.Open(func(string) {})
	assert.ErrorContains(t, err, link+": a symbolic link is on the way")
}

// TestOpenedDirectory: its clone is the whole of it, has the directory's own identity, and is
// nosuid where uid 0 inside is nobody special.
func TestOpenedDirectory(t *testing.T) {
	needs.Root(t, "it clones mounts")
	dir := t.TempDir()
	var is, st syscall.Stat_t
	require.NoError(t, syscall.Stat(dir, &is))
	for claim, c := range map[string]struct {
		spec   jail.Spec
		nosuid bool
	}{
		"with a user namespace":    {jail.Spec{Userns: jail.Userns{Enabled: true}}, false},
		"in root mode":             {jail.Spec{}, true},
		"with a root that is root": {jail.Spec{ContainerRoot: true}, false},
	} {
		c.spec.Source.Path = dir
		var touched []string
		opened, err := Of(&c.spec).Open(func(path string) { touched = append(touched, path) })
		require.NoError(t, err, claim)
		assert.Equal(t, []string{dir}, touched, claim)
		assert.Equal(t, []Tree{{FD: opened.Exclusive, Name: dir}}, opened.Trees(), claim)
		require.NoError(t, syscall.Fstat(opened.Exclusive, &st))
		assert.Equal(t, [2]uint64{is.Dev, is.Ino}, [2]uint64{st.Dev, st.Ino}, claim)
		var fs syscall.Statfs_t
		require.NoError(t, syscall.Fstatfs(opened.Exclusive, &fs))
		const nodev, nosuid = 4, 2 // ST_NODEV, ST_NOSUID, statfs(2)
		assert.NotZero(t, fs.Flags&nodev, claim)
		assert.Equal(t, c.nosuid, fs.Flags&nosuid != 0, claim)
		opened.Close()
	}
}

// TestOpenedCage: where a host has its programs in directories of their own, all are
// shown, with what is mounted below them, and where it has links there are the same links.
func TestOpenedCage(t *testing.T) {
	needs.Root(t, "it clones mounts")
	top := t.TempDir()
	dir, prepared, home := top+"/bin", top+"/prepared", top+"/home"
	for _, d := range []string{dir + "/below", prepared + "/etc", home} {
		require.NoError(t, os.MkdirAll(d, 0o755))
	}
	require.NoError(t, os.Symlink("usr/lib", top+"/lib"))
	require.NoError(t, os.Chown(home, 4711, 4711))
	require.NoError(t, syscall.Mount("tmpfs", dir+"/below", "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir+"/below", 0)) })
	before := programs
	programs = []string{dir, top + "/lib", top + "/lib32"}
	beforeHidden := hidden
	hidden = []string{home, top + "/lib", top + "/none"}
	t.Cleanup(func() { programs, hidden = before, beforeHidden })
	spec := &jail.Spec{Userns: jail.Userns{Enabled: true}, Logins: []jail.Login{{UID: 4711, GID: 4711}},
		Source: jail.Source{Kind: jail.Host, Home: home, Prepared: prepared, Hide: []string{"/usr/games"}}}
	opened, err := Of(spec).Open(func(string) {})
	require.NoError(t, err)
	var shown []string
	for _, m := range opened.Mounts {
		shown = append(shown, m.Target)
	}
	assert.Equal(t, []string{dir, dir + "/below", "/etc", home}, shown)
	assert.Contains(t, opened.Entries, wire.Entry{Kind: wire.EntryLink, Path: top + "/lib", Text: "usr/lib"})
	var hides []string
	for _, e := range opened.Entries {
		if e.Kind == wire.EntryHide {
			hides = append(hides, e.Path)
		}
	}
	assert.Equal(t, []string{home, "/usr/games"}, hides, "neither what is not there nor a link, but what the registry says")
	assert.Equal(t, opened.Mounts[3].FD, opened.Exclusive)
	opened.Close()

	require.NoError(t, os.Chmod(dir+"/below", 0o777))
	_, err = Of(spec).Open(func(string) {})
	assert.ErrorContains(t, err, dir+"/below: must be root's and not writable by everybody")
}
