package admin

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// TestPlan: every value says where it comes from, and a jail that would not start says why.
func TestPlan(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	require.NoError(t, os.MkdirAll(root, 0o755))
	config := filepath.Join(dir, "jail.toml")
	require.NoError(t, os.WriteFile(config, []byte(`version = 1
[defaults]
idle_timeout = "1h"
env = { A = "a", B = "b" }
[template.one]
rootfs = "`+root+`"
env = { B = "{user}" }
limits = { memory = "1G" }
[jail.me]
template = "one"
users = { root = { uid = 1000 } }
x11 = true
[jail.bad]
template = "none"
users = ["root"]
`), 0o644))
	var out, errs bytes.Buffer
	opt := Options{ConfigPath: config, RuntimeDir: filepath.Join(dir, "run"), Rootless: true, Stdout: &out, Stderr: &errs}
	needs.Root(t, "the account it plans for is root, which every host has")
	before, err := os.ReadDir(dir)
	require.NoError(t, err)
	Plan(opt, "me")
	for _, want := range []string{
		`(?m)^rootfs +"` + root + `" +` + config + `:6 template\.one\.rootfs$`,
		`(?m)^idle_timeout +1h0m0s +` + config + `:3 defaults\.idle_timeout$`,
		`(?m)^env\.A +"a" +` + config + `:4 defaults\.env\.A$`,
		`(?m)^env\.B +"root" +` + config + `:7 template\.one\.env\.B$`,
		`(?m)^limits\.memory +"1G" +` + config + `:8 template\.one\.limits\.memory$`,
		`(?m)^x11 +true +` + config + `:12 jail\.me\.x11$`,
		`(?m)^template +"one" +` + config + `:10 jail\.me\.template$`,
		`(?m)^hostname +"me" +default$`,
		`(?m)^limits\.pids +4096 +default$`,
		`(?m)^mount +procfs at /proc +every jail$`,
	} {
		assert.Regexp(t, want, out.String())
	}
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Equal(t, before, after, "nothing is made")

	out.Reset()
	assert.Equal(t, 1, Plan(opt, "bad"))
	assert.Contains(t, out.String(), `error: `+config+`:14: jail.bad.template: "none" is no template, there are: "one"`)
	assert.Equal(t, 1, Plan(opt, "nosuch"))
	assert.Contains(t, errs.String(), `no jail "nosuch" in `+config)
}
