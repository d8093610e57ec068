package launch_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/control"
)

// TestBuildIsSaid: a running jail says by which program it was started, whatever has taken
// the place of that since.
func TestBuildIsSaid(t *testing.T) {
	needRoot(t)
	text, err := os.ReadFile(program)
	require.NoError(t, err)
	sum := sha256.Sum256(text)
	j := mustStart(t, newSpec(newRootfs(t), true))
	c, err := control.Open(j.runtimeDir, j.spec.Name, false)
	require.NoError(t, err)
	defer c.Close()
	assert.Equal(t, hex.EncodeToString(sum[:8]), c.Status.Build)
}
