// Package importlist holds a program to a reviewed list of what it imports. It is for
// tests of the programs that start once for every login or jail, where each package
// costs its initialisation and its pages.
package importlist

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite testdata/deps.txt")

// Check compares what the command in the working directory imports, itself and by
// others, with testdata/deps.txt, which -update rewrites. forbidden are packages that
// must never come in, whatever the list says, and why.
func Check(t *testing.T, forbidden map[string]string) {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	require.NoError(t, err)
	got := string(out)
	for _, dep := range strings.Fields(got) {
		assert.NotContains(t, forbidden, dep, forbidden[dep])
	}
	const file = "testdata/deps.txt"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, out, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "the imports have changed")
}
