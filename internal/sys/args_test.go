package sys

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestArgs(t *testing.T) {
	if os.Getenv("JAIL_TEST_ARGS") != "" {
		assert.Equal(t, os.Args, Args())
		return
	}
	assert.Equal(t, os.Args, Args())
	cmd := exec.Command(os.Args[0], "-test.run=^TestArgs$", "--", "", "a b\n", strings.Repeat("x", 100_000), "")
	cmd.Env = append(os.Environ(), "JAIL_TEST_ARGS=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
