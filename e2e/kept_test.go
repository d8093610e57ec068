package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestKeptTrees: the root file systems of the tests are made once, whoever asks for them at
// the same time, and an interrupted or failed try is nobody's tree.
func TestKeptTrees(t *testing.T) {
	kept := t.TempDir()
	made := 0
	by := func(recipe string) func(dir string) error {
		return func(dir string) error {
			made++
			return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "by"), []byte(recipe), 0o644))
		}
	}
	there := func() []string {
		entries, err := os.ReadDir(kept)
		require.NoError(t, err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	whole := []string{"x", "x.lock", "x.recipe"}

	var runs sync.WaitGroup
	for range 8 {
		runs.Go(func() {
			tree, err := keepTree(kept, "x", "1", by("1"))
			if assert.NoError(t, err) {
				assert.Equal(t, "1", contents(filepath.Join(kept, "x/by")))
				tree.Close()
			}
		})
	}
	runs.Wait()
	assert.Equal(t, 1, made, "side by side")
	assert.Equal(t, whole, there())

	_, err := keepTree(kept, "x", "2", func(dir string) error {
		return errors.Join(by("half")(dir), errors.New("no mirror"))
	})
	require.ErrorContains(t, err, "no mirror")
	assert.Equal(t, whole, there(), "a try that fails leaves nothing")
	assert.Equal(t, "1", contents(filepath.Join(kept, "x/by")), "and takes nothing away")

	// One that was killed leaves half a tree, which is nobody's.
	require.NoError(t, os.MkdirAll(filepath.Join(kept, ".x.killed/tree/etc"), 0o755))
	first, err := keepTree(kept, "x", "1", by("1"))
	require.NoError(t, err)
	assert.Equal(t, 2, made, "the tree that is there is good")

	// Another recipe's tree takes the place; who goes by the old one keeps it.
	second, err := keepTree(kept, "x", "2", by("2"))
	require.NoError(t, err)
	assert.Equal(t, "2", contents(filepath.Join(kept, "x/by")))
	old, err := first.ReadDir(-1)
	require.NoError(t, err)
	assert.Len(t, old, 1)
	assert.Len(t, there(), 4, "what was killed is gone, what is in use is not")
	first.Close()
	second.Close()
	third, err := keepTree(kept, "x", "3", by("3"))
	require.NoError(t, err)
	assert.Equal(t, whole, there(), "when nobody uses it any more it goes")
	third.Close()

	// A run that was killed between the two renames.
	require.NoError(t, os.Remove(filepath.Join(kept, "x.recipe")))
	fourth, err := keepTree(kept, "x", "3", by("3"))
	require.NoError(t, err)
	fourth.Close()
	assert.Equal(t, 5, made)
	assert.Equal(t, whole, there())
}
