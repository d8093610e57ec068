package provision

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
)

func TestNewFileIsARegistry(t *testing.T) {
	assert.Contains(t, newFile("web", "/w", "student", nil), "[jail.web]\nrootfs = \"/w\"\ntemplate = \"student\"\n\n[jail.web.users]\n")
	text := newFile("web", `/srv/a "quoted" \ place`, "", []entry{{"alice", 2001}, {"bob", 2002}})
	assert.True(t, ours(text, "web"))
	assert.False(t, ours(text, "other"))
	assert.False(t, ours(text+"\n[jail.other]\n", "web"), "somebody has added a jail")

	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "jail.d"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "jail.toml"), []byte(emptyRegistry), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "jail.d/web.toml"), []byte(text), 0o644))
	reg, err := config.Load(filepath.Join(dir, "jail.toml"), config.Options{
		SkipFS: true, SkipPlaces: true, Group: []byte("alice:x:2001:\n"), SubUID: []byte(""), SubGID: []byte(""),
		Passwd: []byte("alice:x:5001:5001::/h:/s\nbob:x:5002:5002::/h:/s\n"),
	})
	require.NoError(t, err)
	require.Empty(t, reg.Faults)
	spec, login := reg.Login("bob")
	require.NotNil(t, login)
	assert.Equal(t, `/srv/a "quoted" \ place`, spec.Source.Path)
	assert.EqualValues(t, 2002, login.UID)
	assert.EqualValues(t, 5002, login.HostUID)
}

// TestLoginsInARegistry: a registry that people have written keeps all but the line it is about.
func TestLoginsInARegistry(t *testing.T) {
	const table = `# ours
version = 1
[jail.a]
rootfs = "/a" # [jail.web.users]
  [ jail.a.users ]
  x = { uid = 1 }

[jail.web]
rootfs = "/w"
[jail.web.users] # people
  alice = { uid = 2001 } # she

  bob.uid = 2002
  # carol = { uid = 2003 }

[jail.web.limits]
pids = 7
`
	got, err := addTo(table, "web", []entry{{"dave", 2004}}, nil)
	require.NoError(t, err)
	assert.Equal(t, replaced(t, table, "  # carol = { uid = 2003 }\n", "  # carol = { uid = 2003 }\ndave = { uid = 2004 }\n"), got)

	rest, empty, n := dropFrom(got, "web", []string{"dave"})
	assert.Equal(t, table, rest)
	assert.False(t, empty)
	assert.Equal(t, 1, n)
	rest, empty, n = dropFrom(table, "web", []string{"alice", "bob", "carol", "x"})
	assert.Equal(t, 2, n, "another jail's, and comments, do not count")
	assert.True(t, empty)
	assert.Contains(t, rest, "x = { uid = 1 }")
	_, empty, n = dropFrom(table, "nojail", []string{"alice"})
	assert.False(t, empty)
	assert.Zero(t, n)

	gone := retire(table, "web")
	assert.Contains(t, gone, "[jail.a]\nrootfs = \"/a\"")
	assert.NotRegexp(t, `(?m)^\s*\[jail\.web`, gone)
	assert.NotRegexp(t, `(?m)^(rootfs = "/w"|pids)`, gone)

	array := "version = 1\n[jail.debian]\nrootfs = \"/d\"\nusers  = [\"debian\"] # one\n"
	host := map[string]uint32{"two": 2, "three": 3}
	got, err = addTo(array, "debian", []entry{{"two", 2}}, host)
	require.NoError(t, err)
	assert.Equal(t, replaced(t, array, `["debian"]`, `["debian", "two"]`), got)
	rest, empty, _ = dropFrom(got, "debian", []string{"debian"})
	assert.Equal(t, replaced(t, array, `["debian"]`, `["two"]`), rest)
	assert.False(t, empty)
	_, err = addTo(array, "debian", []entry{{"three", 1003}}, host)
	assert.ErrorContains(t, err, "write them as a table")
	_, err = addTo("[jail.x]\nusers = [\n\"a\",\n]\n", "x", []entry{{"b", 2}}, nil)
	assert.ErrorContains(t, err, "add the login there")
}

func replaced(t *testing.T, text, old, next string) string {
	t.Helper()
	require.Contains(t, text, old)
	return strings.Replace(text, old, next, 1)
}
