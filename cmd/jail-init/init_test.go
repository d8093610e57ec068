package main

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNothingIsPrepared: what one verb needs is not made at the start of all others, serve
// among them, which would have it for good. A regular expression is, where it is a package's
// variable.
func TestNothingIsPrepared(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1") // package runtime
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^init (jail/(?:internal|config)\S*) .* clock, (\d+) bytes`).FindAllStringSubmatch(string(out), -1)
	require.NotEmpty(t, lines, "%s", out)
	for _, l := range lines {
		bytes, err := strconv.Atoi(l[2])
		require.NoError(t, err)
		assert.Less(t, bytes, 8<<10, l[1])
	}
}
