package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// program is jail-import, which has to be built without cgo, as make does it.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.TempDir(), "jail-import-of-"+strconv.Itoa(os.Getpid()))
	build := exec.Command("go", "build", "-o", path, "jail/cmd/jail-import")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	_ = os.Remove(filepath.Join(os.TempDir(), "jail-import-of-"+strconv.Itoa(os.Getpid())))
	os.Exit(status)
}

// store returns a new store on the disk.
func store(t *testing.T) *Store {
	t.Helper()
	needs.Root(t, "namespaces and mounts with mapped ids")
	s, err := OpenStore(filepath.Join(t.TempDir(), "images"))
	require.NoError(t, err)
	return s
}

// job is an Import of a file, with limits that do not matter.
func job(t *testing.T, name, source string) *Import {
	t.Helper()
	self, err := program()
	require.NoError(t, err)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	t.Cleanup(func() { out.Close() })
	return &Import{
		Name: name, Source: source, MaxBytes: 1 << 30, MaxEntries: 100_000, MaxTime: time.Minute,
		Program: self, Stdout: out, Stderr: out,
	}
}

// said is what an import has printed.
func (o *Import) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(o.Stdout.Name())
	require.NoError(t, err)
	return string(text)
}

// member is one of an archive, with what is in it.
type member struct {
	tar.Header
	text string
}

// archiveOf writes a tar archive.
func archiveOf(t *testing.T, members ...member) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tree.tar")
	require.NoError(t, os.WriteFile(path, tarOf(t, members...), 0o600))
	return path
}

func tarOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.text))
		if m.Mode == 0 {
			m.Mode = 0o755
		}
		require.NoError(t, w.WriteHeader(&m.Header))
		_, err := w.Write([]byte(m.text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func file(name, text string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, PAXRecords: map[string]string{}}, text}
}

func other(kind byte, name string) member {
	return member{Header: tar.Header{Typeflag: kind, Name: name}}
}

func dir(name string) member { return other(tar.TypeDir, name) }

func link(name, to string) member {
	return member{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}}
}

func hard(name, to string) member {
	return member{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}}
}

// root is the directory of the current image.
func (s *Store) root(t *testing.T, name string) string {
	t.Helper()
	f, _, err := s.Open(name)
	require.NoError(t, err)
	f.Close()
	return f.Name()
}

// descriptors is how many the test has open, but for those it closes at its end.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}
