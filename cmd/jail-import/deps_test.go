package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDecompressorsAreHereOnly: what reads archives is in this program and in no other,
// which have rights of the host.
func TestDecompressorsAreHereOnly(t *testing.T) {
	list := func(program string) string {
		out, err := exec.Command("go", "list", "-deps", "jail/cmd/"+program).Output()
		require.NoError(t, err)
		return string(out)
	}
	parts := []string{"github.com/klauspost/compress/zstd\n", "github.com/ulikunitz/xz\n", "jail/internal/archive\n"}
	for _, part := range parts {
		assert.Contains(t, list("jail-import"), part)
	}
	for _, program := range []string{"jail-init", "jail-pid1", "jail-enter", "jail-keys", "jail-sftp-server"} {
		deps := list(program)
		for _, part := range parts {
			assert.False(t, strings.Contains(deps, part), "%s imports %s", program, part)
		}
	}
}
