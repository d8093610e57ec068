package unpack

import (
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/archive"
	"jail/internal/needs"
)

// play applies layers to a new directory and returns what is there then. A step is
// "a/b/" a directory, "a/b" a file, "a>b" a link to b, "a=b" another name of b, "-a" a
// whiteout, "!a" an opaque directory, "|" the next layer.
func play(t *testing.T, steps ...string) (there []string, err error) {
	t.Helper()
	needs.Root(t, "chown(2)")
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	tr, err := newTree(fd, func(string) {})
	require.NoError(t, err)
	defer tr.forget()
	tr.Layer()
	for _, step := range steps {
		e := archive.Entry{Mode: 0o755, Name: strings.TrimSuffix(step, "/")}
		link, target, isLink := strings.Cut(step, ">")
		name, of, isName := strings.Cut(step, "=")
		switch {
		case step == "|":
			tr.Layer()
			continue
		case step[0] == '-':
			err = tr.Remove(step[1:])
		case step[0] == '!':
			err = tr.Clear(step[1:])
		default:
			switch {
			case strings.HasSuffix(step, "/"):
				e.Kind = archive.Dir
			case isLink:
				e.Kind, e.Name, e.Target = archive.Symlink, link, target
			case isName:
				e.Kind, e.Name, e.Target = archive.Link, name, of
			}
			err = tr.Make(&e, strings.NewReader("of "+step))
		}
		if err != nil {
			return nil, err
		}
	}
	tr.finishAll()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, _ := filepath.Rel(dir, path)
		switch {
		case rel == ".":
			return nil
		case d.IsDir():
			rel += "/"
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			rel += ">" + to
		}
		there = append(there, rel)
		return nil
	}))
	sort.Strings(there)
	return there, nil
}

// TestWhiteouts: what a layer removes is what earlier layers have made, in whatever order
// its members come and by whatever name the place is reached (layer.md, "Whiteouts").
func TestWhiteouts(t *testing.T) {
	for claim, c := range map[string]struct{ steps, want string }{
		"a file":                                  {"d/ d/a d/b | -d/a", "d/ d/b"},
		"a directory":                             {"d/ d/e/ d/e/f | -d", ""},
		"nothing":                                 {"d/ | -d/x -x/y -d/x/y", "d/"},
		"a link, not what it leads to":            {"d/ d/a l>d | -l", "d/ d/a"},
		"by way of a link":                        {"d/ d/a l>d | -l/a", "d/ l>d"},
		"what the layer makes afterwards":         {"d/ d/a | -d/a d/a", "d/ d/a"},
		"what the layer has made before":          {"d/ d/a | d/a -d/a", "d/ d/a"},
		"a directory that it makes again":         {"d/ d/a | -d d/ d/b", "d/ d/b"},
		"a directory that it has made again":      {"d/ d/a | d/ d/b -d", "d/ d/b"},
		"all in a directory":                      {"d/ d/a d/e/ d/e/f | !d", "d/"},
		"all, and then something":                 {"d/ d/a | !d d/b", "d/ d/b"},
		"all but what the layer has made":         {"d/ d/a | d/b !d", "d/ d/b"},
		"all but what is deeper":                  {"d/ d/e/ d/e/f | d/e/g !d", "d/ d/e/ d/e/g"},
		"all, in a directory that is stated":      {"d/ d/e/ d/e/f | d/ d/e/ d/e/g !d", "d/ d/e/ d/e/g"},
		"all, made by way of a link":              {"d/ d/a l>d | l/b !d", "d/ d/b l>d"},
		"all, by way of a link":                   {"d/ d/a l>d | d/b !l", "d/ d/b l>d"},
		"all that there is":                       {"a d/ d/b | c !.", "c"},
		"all, three layers":                       {"d/ d/a | d/b | d/c !d", "d/ d/c"},
		"all of what is no directory":             {"a | !a", "a"},
		"a name of what was there before":         {"d/ d/a | d/b=d/a !d", "d/ d/b"},
		"a file that becomes a directory":         {"d/ d/a | d/a/ d/a/b", "d/ d/a/ d/a/b"},
		"a directory that becomes a file":         {"d/ d/a/ d/a/b | d/a", "d/ d/a"},
		"a link that becomes a directory":         {"d/ d/a l>d | l/ l/b", "d/ d/a l/ l/b"},
		"a directory that becomes a link":         {"d/ e/ e/x | e>d e/a", "d/ d/a e>d"},
		"merged /usr: a directory on a link":      {"usr/ usr/lib/ lib>usr/lib | lib/x", "lib>usr/lib usr/ usr/lib/ usr/lib/x"},
		"directories that are not stated":         {"a/b/c", "a/ a/b/ a/b/c"},
		"a place that is opened and then another": {"d/ e/ l>d l/a | l>e l/b", "d/ d/a e/ e/b l>e"},
		"one that is cleared and then made":       {"d/ d/e/ d/e/a | d/e/b -d d/e/c", "d/ d/e/ d/e/b d/e/c"},
	} {
		there, err := play(t, strings.Fields(c.steps)...)
		require.NoError(t, err, claim)
		assert.Equal(t, strings.Fields(c.want), append([]string{}, there...), claim)
	}
}
