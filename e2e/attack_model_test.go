package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	machine "jail/internal/needs"
)

// threatRows is how many rows each letter of docs/threat-model.md has.
var threatRows = map[string]int{"F": 19, "H": 9, "P": 14, "S": 27, "T": 10, "K": 16, "Y": 12, "N": 15, "X": 8, "R": 13, "L": 11}

// modelRow is one row of its tables.
type modelRow struct{ id, mechanism, tests string }

func threatModel(t *testing.T) (rows map[string]modelRow, text string) {
	t.Helper()
	b, err := os.ReadFile("../docs/threat-model.md")
	require.NoError(t, err)
	rows = make(map[string]modelRow)
	id := regexp.MustCompile(`^[A-Z]\d+$`)
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if name := strings.TrimSpace(cells[0]); id.MatchString(name) {
			if assert.Len(t, cells, 4, "%s", line) {
				assert.NotContains(t, rows, name, "twice")
				rows[name] = modelRow{name, cells[2], strings.TrimSpace(cells[3])}
			}
		}
	}
	return rows, string(b)
}

// TestThreatModel holds docs/threat-model.md to the tests: every row is there,
// says what holds it and which test shows it, and every test it names exists.
func TestThreatModel(t *testing.T) {
	rows, text := threatModel(t)
	for letter, n := range threatRows {
		for i := 1; i <= n; i++ {
			_, there := rows[fmt.Sprintf("%s%d", letter, i)]
			assert.True(t, there, "%s%d", letter, i)
		}
	}
	total := 0
	for _, n := range threatRows {
		total += n
	}
	assert.Equal(t, total, len(rows), "rows with an id")
	excused := regexp.MustCompile(`not held|Not held|by construction`)
	for _, row := range rows {
		if row.tests == "none" {
			assert.Regexp(t, excused, row.mechanism, "row %s has no test", row.id)
		} else {
			assert.Contains(t, row.tests, "`", "row %s", row.id)
		}
	}

	sources := testSources(t)
	named := regexp.MustCompile("`(?:([a-z0-9-]+)\\.)?((?:Test|Fuzz)\\w*)((?:/[^`]*)?)`")
	found := named.FindAllStringSubmatch(text, -1)
	require.Greater(t, len(found), total)
	for _, m := range found {
		pkg, name, sub := m[1], m[2], strings.TrimPrefix(m[3], "/")
		if name == "TestX" { // the example
			continue
		}
		if pkg == "" {
			pkg = "e2e"
		}
		source := sources[pkg]
		if !assert.Contains(t, source, "func "+name+"(", "%s of %s", name, pkg) || sub == "" {
			continue
		}
		assert.Regexp(t, `"`+regexp.QuoteMeta(sub)+`["/]`, source, "subtest of %s", name)
	}
	for _, m := range regexp.MustCompile("`make ([a-z-]+)`").FindAllStringSubmatch(text, -1) {
		machine.ReadPage(t, "../Makefile").Has(t, "\n"+m[1]+":")
	}

	// The other way round: every attack is in the table, and what is open is said.
	for _, row := range attackRows {
		machine.Page{Path: "the threat model", Text: text}.Has(t, "`TestAttack/"+row.name+"`")
		if len(row.open) > 0 {
			id, _, _ := strings.Cut(row.name, "-")
			assert.Contains(t, rows[id].mechanism, "Not held", "%s: %v", row.name, row.open)
		}
	}
}

// testSources are the tests of every package, by the last element of its path.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	sources := make(map[string]string)
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "build" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(filepath.Dir(path))
			if err != nil {
				return err
			}
			sources[filepath.Base(dir)] += string(text)
		}
		return nil
	}))
	return sources
}
