package admin

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

// TestOutOfService: a jail that a fault has put out of service is not taken for one that
// the registry has not got.
func TestOutOfService(t *testing.T) {
	dir := t.TempDir()
	opt := Options{ConfigPath: filepath.Join(dir, "jail.toml"), RuntimeDir: filepath.Join(dir, "run"), Rootless: true, Stdout: io.Discard, Stderr: io.Discard}
	require.NoError(t, os.WriteFile(opt.ConfigPath, []byte("version = 1\n[jail.two]\nrootfs = \"/srv/two\"\nusers = [\"two\"]\ncolour = 1\n"), 0o644))
	_, err := load(opt)
	require.NoError(t, err)

	_, err = Exec(opt, "two", wire.Identity{}, []string{"true"})
	assert.ErrorContains(t, err, "jail two does not run and is out of service: ")
	assert.ErrorContains(t, err, ": jail.two.")
	_, err = Exec(opt, "three", wire.Identity{}, []string{"true"})
	assert.ErrorContains(t, err, `no jail "three" in `)

	assert.ErrorContains(t, Stop(opt, "two", time.Second), ": jail.two.")
	assert.ErrorContains(t, Stop(opt, "three", time.Second), `no jail "three" in `)
}
