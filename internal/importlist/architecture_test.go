package importlist

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestArchitecture holds docs/architecture.md to the packages there are: its drawing
// and its table have each of them once and no other, and imports point down.
func TestArchitecture(t *testing.T) {
	doc, err := os.ReadFile("../../docs/architecture.md")
	require.NoError(t, err)
	_, text, found := strings.Cut(string(doc), "\n## Packages\n")
	require.True(t, found)

	drawing := strings.Split(text, "```")
	require.GreaterOrEqual(t, len(drawing), 3)
	height := make(map[string]int) // of a package's layer; 0 is the topmost
	for i, line := range strings.Split(strings.TrimSpace(drawing[1]), "\n") {
		layer := strings.Fields(line)
		require.NotEmpty(t, layer)
		for _, pkg := range layer[1:] {
			assert.NotContains(t, height, pkg, "drawn twice")
			height[pkg] = i
		}
	}

	_, table, found := strings.Cut(text, "| package | what it is |")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	var described []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, m := range regexp.MustCompile("`([a-z0-9]+)`").FindAllStringSubmatch(cells[1], -1) {
				described = append(described, m[1])
			}
		}
	}

	var there []string
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "jail/internal/...", "jail/config").Output()
	require.NoError(t, err)
	name := func(path string) string { return path[strings.LastIndex(path, "/")+1:] }
	for line := range strings.Lines(string(out)) {
		paths := strings.Fields(line)
		pkg := name(paths[0])
		there = append(there, pkg)
		if !assert.Contains(t, height, pkg, "not drawn") {
			continue
		}
		for _, imported := range paths[1:] {
			if strings.HasPrefix(imported, "jail/") {
				assert.LessOrEqual(t, height[pkg], height[name(imported)], "%s imports %s, which is above it", pkg, imported)
			}
		}
	}
	require.Greater(t, len(there), 20)
	slices.Sort(described)
	slices.Sort(there)
	assert.Equal(t, there, described, "in the table")
	for pkg := range height {
		assert.Contains(t, there, pkg, "drawn, but there is no such package")
	}
}
