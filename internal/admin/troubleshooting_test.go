package admin

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// TestTroubleshooting: each message in docs/troubleshooting.md is one that a program of ours
// has, each id one of a finding, and each verb there is.
func TestTroubleshooting(t *testing.T) {
	doc, err := os.ReadFile("../../docs/troubleshooting.md")
	require.NoError(t, err)
	var sources, verbsOf strings.Builder
	joined := regexp.MustCompile(`" \+\n\s*"`)
	for _, dir := range []string{"../../internal", "../../cmd"} {
		require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return err
			}
			text, err := os.ReadFile(p)
			if strings.Contains(string(text), "\" +\n") { // Go makes one text of two lines
				text = joined.ReplaceAll(text, nil)
			}
			sources.Write(text)
			if strings.HasPrefix(p, "../../cmd/jail-init/") {
				verbsOf.Write(text)
			}
			return err
		}))
	}
	have := sources.String()
	quoted := regexp.MustCompile("(?m)> `([^`]*)`").FindAllStringSubmatch(string(doc), -1)
	require.Greater(t, len(quoted), 15)
	for _, q := range quoted {
		for piece := range strings.SplitSeq(q[1], "…") {
			if piece = strings.TrimSpace(piece); len(piece) > 3 {
				assert.True(t, strings.Contains(have, piece), "nobody says %q", piece)
			}
		}
	}
	manual := needs.ReadPage(t, "../../docs/man/jail-check.7")
	ids := regexp.MustCompile("`?\\[([a-z0-9]+(?:-[a-z0-9]+)*)\\]").FindAllStringSubmatch(string(doc), -1)
	require.Greater(t, len(ids), 15)
	for _, id := range ids {
		manual.Has(t, "\n.It Cm "+id[1]+"\n")
	}
	verbs := regexp.MustCompile("(?m)(?:^|`)jail ([a-z]+)").FindAllStringSubmatch(string(doc), -1)
	require.Greater(t, len(verbs), 15)
	for _, v := range verbs {
		verb := regexp.MustCompile(`(?:\n|` + "= `" + `)    ` + v[1] + ` `)
		assert.True(t, verb.MatchString(verbsOf.String()), "no verb %s", v[1])
	}
}
