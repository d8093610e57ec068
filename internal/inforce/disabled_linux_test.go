package inforce

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDisabled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jail.toml")
	d, err := ReadDisabled(path)
	require.NoError(t, err)
	_, ok := d.Of("web", "alice")
	assert.False(t, ok)

	require.NoError(t, Disable(path, "web", false, "until\nnoon\x1b[2J "))
	require.NoError(t, Disable(path, "alice", true, ""))
	require.NoError(t, Disable(path, "long", false, strings.Repeat("x", maxMessage+1)))
	assert.Error(t, Disable(path, "../web", false, ""))
	// What is there and cannot be read still keeps people out.
	require.NoError(t, os.Mkdir(filepath.Join(filepath.Dir(path), "disabled", "login.odd"), 0o755))
	d, err = ReadDisabled(path)
	require.NoError(t, err)
	assert.Equal(t, Disabled{
		Jails:  map[string]string{"web": "until noon [2J", "long": strings.Repeat("x", maxMessage)},
		Logins: map[string]string{"alice": DefaultMessage, "odd": DefaultMessage},
	}, d)
	for of, want := range map[[2]string]string{{"web", "bob"}: "until noon [2J", {"web", "alice"}: DefaultMessage, {"alice", "x"}: ""} {
		got, ok := d.Of(of[0], of[1])
		assert.Equal(t, want, got)
		assert.Equal(t, want != "", ok, "a login's name is no jail's")
	}
	was, err := Enable(path, "web", false)
	require.NoError(t, err)
	assert.True(t, was)
	was, err = Enable(path, "web", false)
	require.NoError(t, err)
	assert.False(t, was)

	// Of one that was killed nothing is left, neither of what was not yet there.
	path = filepath.Join(t.TempDir(), "jail.toml")
	dir := filepath.Join(filepath.Dir(path), "disabled")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".jail.web"), []byte("unt"), 0o644))
	d, err = ReadDisabled(path)
	require.NoError(t, err)
	assert.Empty(t, d.Jails)
	was, err = Enable(path, "web", false)
	require.NoError(t, err)
	assert.False(t, was)
	assert.NoDirExists(t, dir)
}
