package source_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/imagestore"
	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/source"
)

// store makes a store with images of one name, of which file says which it is; the last is
// the current one.
func store(t *testing.T, name string, file ...string) (dir string, ids []string) {
	t.Helper()
	needs.Root(t, "mounts")
	dir = filepath.Join(t.TempDir(), "images")
	s, err := imagestore.Open(dir)
	require.NoError(t, err)
	for _, text := range file {
		fresh, err := s.Begin(name)
		require.NoError(t, err)
		require.NoError(t, os.Mkdir(filepath.Join(fresh.File().Name(), "etc"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(fresh.File().Name(), "etc/passwd"), []byte(text), 0o644))
		id, err := s.Finish(name, fresh, imagestore.About{})
		require.NoError(t, err)
		ids = append(ids, id)
	}
	return dir, ids
}

func based(t *testing.T, images, base string, persist jail.Persist) *jail.Spec {
	t.Helper()
	return &jail.Spec{Name: "alice", Source: jail.Source{Kind: jail.Based, Base: base, Images: images, State: filepath.Join(t.TempDir(), "state"), Persist: persist, Scratch: 1 << 20}}
}

// starts opens what a jail is made of, as a start does.
func starts(t *testing.T, spec *jail.Spec) error {
	t.Helper()
	o, err := source.Of(spec).Open(func(string) {})
	require.NoError(t, err)
	defer o.Close()
	ly, err := o.Layers()
	if err == nil {
		ly.Close()
	}
	return err
}

// TestViewOfABase: the host sees what the jail's files differ from, and /home, and cannot
// write to what others have.
func TestViewOfABase(t *testing.T) {
	images, ids := store(t, "deb", "one", "two")
	s, err := imagestore.Open(images)
	require.NoError(t, err)
	require.NoError(t, s.Use("deb", ids[0]))
	for _, persist := range []jail.Persist{jail.PersistHome, jail.PersistAll, jail.PersistNone} {
		spec := based(t, images, "deb", persist)
		view, err := source.Of(spec).View()
		require.NoError(t, err, "before the first start")
		assert.Empty(t, view.Mounts)
		view.Close()
		require.NoError(t, starts(t, spec))
		require.NoError(t, s.Use("deb", ids[1]))
		view, err = source.Of(spec).View()
		require.NoError(t, err)
		text, _, err := view.ReadFile("/etc/passwd", 100)
		require.NoError(t, err)
		assert.Equal(t, map[bool]string{true: "one", false: "two"}[persist == jail.PersistAll], string(text), persist.String())
		assert.Equal(t, unix.EROFS, unix.Mkdirat(view.Root, "x", 0o755))
		if persist == jail.PersistNone {
			assert.Empty(t, view.Mounts)
		} else {
			require.Len(t, view.Mounts, 1)
			require.NoError(t, os.WriteFile(filepath.Join(spec.Source.State, "home/key"), []byte("key"), 0o600))
			text, _, err = view.ReadFile("/home/key", 100)
			require.NoError(t, err)
			assert.Equal(t, "key", string(text))
		}
		view.Close()
		require.NoError(t, s.Use("deb", ids[0]))
	}
}

// TestRebase: what a jail has written stays with what it differs from, there and back.
func TestRebase(t *testing.T) {
	images, ids := store(t, "deb", "one", "two")
	s, err := imagestore.Open(images)
	require.NoError(t, err)
	s.Runs = func(string) bool { return false }
	require.NoError(t, s.Use("deb", ids[0]))
	spec := based(t, images, "deb", jail.PersistAll)
	_, _, _, err = source.Rebase(spec)
	assert.ErrorContains(t, err, "nothing that differs from an image yet; its next start takes deb/"+ids[0])
	_, _, err = source.Rollback(spec)
	assert.ErrorContains(t, err, "has nothing to go back to")
	on := func() string {
		t.Helper()
		require.NoError(t, starts(t, spec))
		text, err := os.ReadFile(filepath.Join(spec.Source.State, "root/base"))
		require.NoError(t, err)
		return string(text)
	}
	first, second := "deb/"+ids[0], "deb/"+ids[1]
	// What a start has left that was killed goes.
	left := filepath.Join(spec.Source.State, "root.new/upper/etc")
	require.NoError(t, os.MkdirAll(left, 0o700))
	require.Equal(t, first, on())
	assert.NoDirExists(t, filepath.Join(spec.Source.State, "root.new"))
	assert.NoDirExists(t, filepath.Join(spec.Source.State, "root/upper/etc"))
	mine := filepath.Join(spec.Source.State, "root/upper/mine")
	require.NoError(t, os.WriteFile(mine, nil, 0o600))
	require.NoError(t, s.Use("deb", ids[1]))
	assert.Equal(t, first, on(), "it stays")
	says, current := source.Standing(spec)
	assert.Equal(t, first+" "+second, says+" "+current)

	from, to, discard, err := source.Rebase(spec)
	require.NoError(t, err)
	require.NoError(t, discard())
	assert.Equal(t, first+" "+second, from+" "+to)
	// Taken back before it has been started.
	_, to, err = source.Rollback(spec)
	require.NoError(t, err)
	assert.Equal(t, first, to)
	assert.FileExists(t, mine)
	assert.Equal(t, first, on())

	// What another has not removed goes now.
	require.NoError(t, os.MkdirAll(filepath.Join(spec.Source.State, "root.gone/upper"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(spec.Source.State, "root.old/upper"), 0o700))
	_, _, discard, err = source.Rebase(spec)
	require.NoError(t, err)
	require.NoError(t, discard())
	assert.NoDirExists(t, filepath.Join(spec.Source.State, "root.gone"))
	assert.NoDirExists(t, filepath.Join(spec.Source.State, "root.gone.1"))
	assert.Equal(t, second, on())
	assert.NoFileExists(t, mine)
	// So does what one has left that was killed as it removed it, when there is nothing else to do.
	require.NoError(t, os.MkdirAll(filepath.Join(spec.Source.State, "root.gone/upper"), 0o700))
	_, _, discard, err = source.Rebase(spec)
	assert.ErrorContains(t, err, "on "+second+" already")
	require.NoError(t, discard())
	assert.NoDirExists(t, filepath.Join(spec.Source.State, "root.gone"))
	gone, err := s.Prune("")
	require.NoError(t, err)
	assert.Empty(t, gone, "what a rollback would need stays")
	_, _, err = source.Rollback(spec)
	require.NoError(t, err)
	assert.FileExists(t, mine)
	assert.Equal(t, first, on())

	// The registry has the last word.
	spec.Source.Base = second
	assert.ErrorContains(t, starts(t, spec), "differs from "+first+", not from "+second+", which the registry says; jail rebase alice keeps /home")
	spec.Source.Base = first
	_, _, err = source.Rollback(spec)
	assert.ErrorContains(t, err, "was on "+second+" before, and the registry says "+first)
	for _, other := range []*jail.Spec{{Name: "x", Source: jail.Source{Path: "/srv/x"}}, based(t, images, "deb", jail.PersistHome)} {
		_, _, _, err = source.Rebase(other)
		assert.Error(t, err)
	}
}

// TestLayersNeedLinux: what a kernel cannot do is one line that says what to do.
func TestLayersNeedLinux(t *testing.T) {
	for release, ok := range map[string]bool{
		"5.14.0-362.el9": false, "5.15.0-91-generic": false, "5.18.19": false, "4.18.0": false,
		"5.19.0": true, "6.1.0-18-amd64": true, "6.18.0": true, "10.0": true,
	} {
		err := source.MapsLayersOn(release)
		if ok {
			assert.NoError(t, err, release)
		} else {
			assert.ErrorContains(t, err, "base needs Linux 5.19, for layers with mapped ids, and this is "+release+"; give the jail a rootfs of its own (jail image copy NAME DIR)")
		}
	}
}

// TestBoundedState: limits on files are those of the state, and no start has files of a jail
// beside them.
func TestBoundedState(t *testing.T) {
	images, _ := store(t, "deb", "one")
	for _, dir := range []string{"home", "root"} {
		spec := based(t, images, "deb", jail.PersistAll)
		require.NoError(t, starts(t, spec))
		var is, state unix.Stat_t
		o, err := source.Of(spec).Open(func(string) {})
		require.NoError(t, err)
		require.NoError(t, unix.Fstat(o.Bounded, &is))
		require.NoError(t, unix.Stat(spec.Source.State, &state))
		assert.Equal(t, state.Ino, is.Ino)
		o.Close()

		at := filepath.Join(spec.Source.State, dir)
		require.NoError(t, unix.Mount("tmpfs", at, "tmpfs", 0, ""))
		t.Cleanup(func() { assert.NoError(t, unix.Unmount(at, 0)) })
		for _, name := range []string{"upper", "work"} {
			require.NoError(t, os.Mkdir(filepath.Join(at, name), 0o755))
		}
		require.NoError(t, os.WriteFile(filepath.Join(at, "base"), nil, 0o600))
		require.NoError(t, starts(t, spec), "without limits it may be")
		for _, l := range []jail.Limits{{DiskBytes: 1}, {Files: 1}} {
			spec.Limits = l
			o, err := source.Of(spec).Open(func(string) {})
			if err == nil {
				_, err = o.Layers()
				o.Close()
			}
			assert.ErrorContains(t, err, at+" is another file system than "+spec.Source.State)
		}
	}
}
