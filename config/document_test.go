package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDocumentsWriteRegistries: a block of TOML in a document is of the registry's keys and
// values. That its accounts are there is not asked, nor that it says whose a jail is.
func TestDocumentsWriteRegistries(t *testing.T) {
	block := regexp.MustCompile("(?ms)^ *```toml\n(.*?)^ *```$")
	pages, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	n := 0
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			n++
			registry := m[1]
			if !strings.Contains(registry, "version") {
				registry = "version = 1\n" + registry
			}
			_, errs := load(t, testOptions(), registry)
			for _, e := range errs {
				assert.Regexp(t, `(rootfs|users): is missing|is not in the host's passwd|is no group of the host`, e.Error(), "%s:\n%s", page, registry)
			}
		}
	}
	require.Greater(t, n, 7)
}
