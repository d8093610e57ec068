package image

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// layout writes an OCI layout of an image with these layers, and an index in its index.
func layout(t *testing.T, machine string, layers ...[]byte) string {
	t.Helper()
	at := t.TempDir()
	blobs := filepath.Join(at, "blobs/sha256")
	require.NoError(t, os.MkdirAll(blobs, 0o755))
	put := func(b []byte) string {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		require.NoError(t, os.WriteFile(filepath.Join(blobs, sum), b, 0o644))
		return fmt.Sprintf(`"digest":"sha256:%s","size":%d`, sum, len(b))
	}
	var ids, list []string
	for _, b := range layers {
		ids = append(ids, fmt.Sprintf(`"sha256:%x"`, sha256.Sum256(b)))
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, err := w.Write(b)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		list = append(list, `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",`+put(z.Bytes())+`}`)
	}
	config := put([]byte(fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}`, machine, strings.Join(ids, ","))))
	manifest := put([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",` +
		config + `},"layers":[` + strings.Join(list, ",") + `]}`))
	index := `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",` + manifest + `}]}`
	require.NoError(t, os.WriteFile(filepath.Join(at, "index.json"), []byte(index), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(at, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	return at
}

// twoLayers: the second removes and replaces.
func twoLayers(t *testing.T) [][]byte {
	old := file("etc/old", "old")
	secret := file("srv/secret", "x")
	return [][]byte{
		tarOf(t, dir("etc"), old, dir("srv"), secret, dir("usr"), dir("usr/lib"), link("lib", "usr/lib"), file("etc/motd", "one")),
		tarOf(t, file("etc/.wh.old", ""), file("srv/new", "y"), file("srv/.wh..wh..opq", ""), file("lib/x", "x"), file("etc/motd", "two")),
	}
}

// TestLayoutOfAUser: a layout whose files nobody else may read is read all the same, and
// nothing beside it is.
func TestLayoutOfAUser(t *testing.T) {
	s := store(t)
	at := layout(t, runtime.GOARCH, twoLayers(t)...)
	require.NoError(t, os.Chmod(at, 0o700))
	require.NoError(t, os.Chown(at, 1000, 1000))
	require.NoError(t, os.Chmod(filepath.Join(at, "index.json"), 0o600))
	require.NoError(t, s.Import(job(t, "two", at)))
	text, err := os.ReadFile(filepath.Join(s.root(t, "two"), "usr/lib/x"))
	require.NoError(t, err)
	assert.Equal(t, "x", string(text))

	outside := filepath.Join(t.TempDir(), "index.json")
	require.NoError(t, os.Rename(filepath.Join(at, "index.json"), outside))
	require.NoError(t, os.Symlink(outside, filepath.Join(at, "index.json")))
	assert.Error(t, s.Import(job(t, "two", at)), "a link out of the layout")
	err = s.Import(job(t, "alien", layout(t, "riscv64", twoLayers(t)...)))
	assert.ErrorContains(t, err, `is for "linux/riscv64", and this machine is linux/`+runtime.GOARCH)
}

// TestSkopeo: what skopeo makes of one image is the same tree.
func TestSkopeo(t *testing.T) {
	s := store(t)
	skopeo := needs.Program(t, "skopeo")
	at := layout(t, runtime.GOARCH, twoLayers(t)...)
	require.NoError(t, s.Import(job(t, "two", at)))
	imported := func() map[string]string {
		all := tree(t, s.root(t, "two"))
		delete(all, ".") // no layer has it, so its time is that of the import
		return all
	}
	want := imported()
	require.Len(t, want, 8, "%v", want)
	out := t.TempDir()
	for _, c := range [][]string{
		{"oci:" + out + "/oci"}, {"oci:" + out + "/zstd", "--dest-compress-format", "zstd", "--dest-force-compress-format"},
		{"oci-archive:" + out + "/oci.tar:x:1"}, {"docker-archive:" + out + "/docker.tar:x:1"},
	} {
		args := append([]string{"copy", "--quiet", "--insecure-policy"}, c[1:]...)
		cmd := exec.Command(skopeo, append(args, "oci:"+at, c[0])...)
		if text, err := cmd.CombinedOutput(); err != nil {
			if strings.Contains(string(text), "unknown flag") {
				continue // older than what it tries
			}
			t.Fatalf("%s: %v\n%s", cmd, err, text)
		}
		path := strings.Split(c[0], ":")[1]
		t.Run(filepath.Base(path), func(t *testing.T) {
			require.NoError(t, s.Import(job(t, "two", path)))
			assert.Equal(t, want, imported())
			if !strings.HasSuffix(path, ".tar") {
				return
			}
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			f, err := os.Create(path + ".gz")
			require.NoError(t, err)
			w := gzip.NewWriter(f)
			_, err = w.Write(b)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			require.NoError(t, f.Close())
			o := job(t, "two", path+".gz")
			if strings.Contains(c[0], "docker") {
				o.Reference = "docker.io/library/x:1"
			}
			require.NoError(t, s.Import(o))
			assert.Equal(t, want, imported())
		})
	}
}
