package wire

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSocketsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	for _, path := range []string{"UID/" + LoginName, RecorderName, "UID/" + RecorderName, CallerName, "UID/" + CallerName, "UID/" + CallsName} {
		line := "| `" + RuntimeDir + "/" + path + "` |"
		assert.True(t, strings.Contains(string(doc), line), "docs/protocol.md has no line %s", line)
	}
}
