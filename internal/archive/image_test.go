package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// layout is an OCI layout that is being made.
type layout struct {
	t     testing.TB
	files map[string][]byte
	index []map[string]any
	// of the last image
	layers  [][]byte
	config  []byte
	configs string
}

func newLayout(t testing.TB) *layout {
	return &layout{t: t, files: map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
}

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func (l *layout) blob(b []byte) map[string]any {
	l.files["blobs/sha256/"+digestOf(b)[7:]] = b
	return map[string]any{"digest": digestOf(b), "size": len(b)}
}

func (l *layout) json(v any) map[string]any {
	b, err := json.Marshal(v)
	require.NoError(l.t, err)
	return l.blob(b)
}

// image adds an image, of layers that are gzipped.
func (l *layout) image(machine string, layers ...[]byte) *layout {
	var ids []string
	var list []map[string]any
	for _, b := range layers {
		ids = append(ids, digestOf(b))
		d := l.blob(gz(b))
		d["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
		list = append(list, d)
	}
	config := map[string]any{"architecture": machine, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}}
	l.config, _ = json.Marshal(config)
	m := l.json(map[string]any{"schemaVersion": 2, "config": l.json(config), "layers": list})
	l.index = append(l.index, m)
	l.layers = layers
	l.write()
	return l
}

// named gives the last image a name.
func (l *layout) named(name string) *layout {
	l.index[len(l.index)-1]["annotations"] = map[string]string{"org.opencontainers.image.ref.name": name}
	l.write()
	return l
}

// of is the platform that the index says of the last image.
func (l *layout) of(os, machine string) *layout {
	l.index[len(l.index)-1]["platform"] = map[string]string{"os": os, "architecture": machine}
	l.write()
	return l
}

// wrap puts the index into an index.
func (l *layout) wrap() *layout {
	inner := l.json(map[string]any{"manifests": l.index})
	l.index = []map[string]any{inner}
	l.write()
	return l
}

func (l *layout) write() {
	b, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": l.index})
	require.NoError(l.t, err)
	l.files["index.json"] = b
}

// tar is the layout as an oci-archive.
func (l *layout) tar(t testing.TB) []byte { return tarFiles(t, l.files) }

func tarFiles(t testing.TB, files map[string][]byte) []byte {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(files[name])), Mode: 0o644}))
		_, err := w.Write(files[name])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// docker is the last image as a docker-archive, with its layers twice: by digest, and as
// links of the old names to them.
func (l *layout) docker(t testing.TB) []byte {
	files := map[string][]byte{digestOf(l.config)[7:] + ".json": l.config}
	var layers []string
	for _, b := range l.layers {
		files[digestOf(b)[7:]+".tar"] = b
		layers = append(layers, digestOf(b)[7:]+".tar")
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": digestOf(l.config)[7:] + ".json", "RepoTags": []string{"x:1"}, "Layers": layers}})
	require.NoError(t, err)
	files["manifest.json"] = manifest
	return tarFiles(t, files)
}

func layerOf(t testing.TB, names ...string) []byte {
	content := map[string]string{}
	var headers []tar.Header
	for _, n := range names {
		h := tar.Header{Typeflag: tar.TypeReg, Name: n, Mode: 0o644}
		if strings.HasSuffix(n, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		} else {
			content[n] = "of " + n
		}
		headers = append(headers, h)
	}
	return tarOf(t, content, headers...)
}

var twoLayersDid = []string{
	"layer", "d 0755 0:0 etc", "f 0644 0:0 etc/a of etc/a", "layer", "remove etc/a", "clear etc", "f 0644 0:0 etc/b of etc/b",
}

// TestImages: one image in all its forms is the same tree.
func TestImages(t *testing.T) {
	l := newLayout(t).image("amd64", layerOf(t, "etc/", "etc/a"), layerOf(t, "etc/.wh.a", "etc/.wh..wh..opq", "etc/.wh..wh.plnk", "etc/b"))
	for how, b := range map[string][]byte{
		"oci-archive": l.tar(t), "oci-archive, gzip": gz(l.tar(t)), "docker-archive": l.docker(t), "docker-archive, zstd": zst(t, l.docker(t)),
	} {
		var r recorder
		require.NoError(t, Unpack(bytes.NewReader(b), limits(), &r), how)
		assert.Equal(t, twoLayersDid, r.did, how)
	}
	var r recorder
	require.NoError(t, UnpackLayout(memory(l.files), limits(), &r))
	assert.Equal(t, twoLayersDid, r.did)
	l.of("linux", "amd64").wrap().wrap()
	r = recorder{}
	require.NoError(t, UnpackLayout(memory(l.files), limits(), &r), "an index in an index")
	assert.Equal(t, twoLayersDid, r.did)
}

// TestDockerLinks: older docker has each layer in a directory, and links to those that
// are there already.
func TestDockerLinks(t *testing.T) {
	layer := layerOf(t, "etc/")
	config := []byte(fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[%q,%q]}}`, digestOf(layer), digestOf(layer)))
	one, two := strings.Repeat("a", 64), strings.Repeat("b", 64)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		require.NoError(t, w.WriteHeader(&h))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: one + "/"}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: one + "/layer.tar"}, layer)
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: two + "/layer.tar", Linkname: "../" + one + "/layer.tar"}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: digestOf(config)[7:] + ".json"}, config)
	manifest := fmt.Sprintf(`[{"Config":"%s.json","Layers":["%s/layer.tar","%s/layer.tar"]}]`, digestOf(config)[7:], one, two)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json"}, []byte(manifest))
	require.NoError(t, w.Close())
	for _, archive := range [][]byte{b.Bytes(), gz(b.Bytes())} {
		var r recorder
		require.NoError(t, Unpack(bytes.NewReader(archive), limits(), &r))
		assert.Equal(t, []string{"layer", "d 0755 0:0 etc", "layer", "d 0755 0:0 etc"}, r.did)
	}
}

// TestChoice: which of several images it is.
func TestChoice(t *testing.T) {
	a, b := layerOf(t, "a/"), layerOf(t, "b/")
	two := func() *layout {
		return newLayout(t).image("amd64", a).named("x:1").image("amd64", b).named("x:2")
	}
	for claim, c := range map[string]struct {
		layout *layout
		ref    string
		did    string
		says   string
	}{
		"one":                          {newLayout(t).image("amd64", a), "", "a", ""},
		"one with another name":        {newLayout(t).image("amd64", a).named("y"), "x", "", `has no image that is called "x", but "y"`},
		"two and no name":              {two(), "", "", `has 2 images, say which by --ref: "x:1", "x:2"`},
		"two and a name":               {two(), "x:2", "b", ""},
		"two machines":                 {newLayout(t).image("arm64", a).of("linux", "arm64").image("amd64", b).of("linux", "amd64"), "", "b", ""},
		"32 bits beside 64":            {newLayout(t).image("386", a).of("linux", "386").image("amd64", b).of("linux", "amd64"), "", "b", ""},
		"32 bits alone":                {newLayout(t).image("386", a), "", "a", ""},
		"another machine, in an index": {newLayout(t).image("arm64", a).of("linux", "arm64"), "", "", `is for "linux/arm64", and this machine is linux/amd64`},
		"another machine, in an image": {newLayout(t).image("arm64", a), "", "", `is for "linux/arm64", and this machine is linux/amd64`},
		"another system":               {newLayout(t).image("amd64", a).of("windows", "amd64"), "", "", `is for "windows/amd64"`},
		"what buildx says about it":    {newLayout(t).image("amd64", a).of("linux", "amd64").image("amd64", b).of("unknown", "unknown"), "", "a", ""},
		"none":                         {newLayout(t).wrap(), "", "", "has no image in it"},
		"many indexes":                 {newLayout(t).image("amd64", a).wrap().wrap().wrap().wrap(), "", "", "indexes in indexes"},
	} {
		opt := limits()
		opt.Reference = c.ref
		var r recorder
		err := UnpackLayout(memory(c.layout.files), opt, &r)
		if c.says != "" {
			assert.ErrorContains(t, err, c.says, claim)
			assert.Empty(t, r.did, claim)
			continue
		}
		require.NoError(t, err, claim)
		assert.Equal(t, []string{"layer", "d 0755 0:0 " + c.did}, r.did, claim)
	}
	opt := limits()
	opt.Reference = "x:2"
	assert.ErrorContains(t, Unpack(bytes.NewReader(newLayout(t).image("amd64", a).docker(t)), opt, &recorder{}), `has no image that is called "x:2", but "x:1"`)
	assert.ErrorContains(t, Unpack(bytes.NewReader(a), opt, &recorder{}), "--ref chooses nothing")
}

// TestHostileImages: an image that is not what its documents say becomes nothing.
func TestHostileImages(t *testing.T) {
	base := layerOf(t, "etc/", "etc/a")
	fresh := func() *layout { return newLayout(t).image("amd64", base) }
	find := func(l *layout, part string) string {
		for name, b := range l.files {
			if strings.HasPrefix(name, "blobs/") && bytes.Contains(b, []byte(part)) {
				return name
			}
		}
		t.Fatal(part)
		return ""
	}
	layerBlob := "blobs/sha256/" + digestOf(gz(base))[7:]
	for claim, c := range map[string]struct {
		change func(l *layout)
		says   string
	}{
		"a layer is exchanged": {func(l *layout) { l.files[layerBlob] = gz(layerOf(t, "etc/", "etc/evil")) }, "manifest says"},
		// The time in gzip's header (RFC 1952): what comes out is the same.
		"a layer is compressed anew": {func(l *layout) {
			b := bytes.Clone(l.files[layerBlob])
			b[4]++
			l.files[layerBlob] = b
		}, "is not what the manifest says"},
		"a layer is longer":  {func(l *layout) { l.files[layerBlob] = append(l.files[layerBlob], gz(make([]byte, 512))...) }, "longer than the manifest says"},
		"a layer is missing": {func(l *layout) { delete(l.files, layerBlob) }, "is missing"},
		"the manifest is exchanged": {func(l *layout) {
			l.files[find(l, "schemaVersion")] = []byte(`{"layers":[]}`)
		}, "is not what the manifest says"},
		"the configuration is exchanged": {func(l *layout) {
			name := find(l, "diff_ids")
			l.files[name] = bytes.Replace(l.files[name], []byte("amd64"), []byte("arm64"), 1)
		}, "is not what the manifest says"},
		"a digest that is a path": {func(l *layout) { l.index[0]["digest"] = "sha256:../../../etc/passwd"; l.write() }, "is no sha256 digest"},
		"another digest":          {func(l *layout) { l.index[0]["digest"] = "md5:00"; l.write() }, "is no sha256 digest"},
		"no JSON":                 {func(l *layout) { l.files["index.json"] = []byte("{") }, `"index.json": `},
		"endless JSON":            {func(l *layout) { l.files["index.json"] = bytes.Repeat([]byte(" "), maxJSON+1) }, "is longer than 4 MiB"},
		"no image":                {func(l *layout) { delete(l.files, "index.json") }, "has neither an index.json nor a manifest.json"},
	} {
		l := fresh()
		c.change(l)
		var r recorder
		assert.ErrorContains(t, UnpackLayout(memory(l.files), limits(), &r), c.says, claim)
		if claim != "no image" {
			assert.Error(t, Unpack(bytes.NewReader(l.tar(t)), limits(), &r), claim)
		}
	}
	for claim, c := range map[string]struct {
		layers [][]byte
		says   string
	}{
		"a whiteout in the base": {[][]byte{layerOf(t, "etc/", "etc/.wh.a")}, `layer 1: "etc/.wh.a": removes something`},
		"a whiteout of ..":       {[][]byte{base, layerOf(t, "etc/.wh...")}, "removes nothing that has a name"},
		"a name that climbs":     {[][]byte{base, layerOf(t, "../x")}, `layer 2: "../x": its name climbs`},
		"a layer of text":        {[][]byte{base, bytes.Repeat([]byte("x"), 600)}, "layer 2: is no tar archive"},
	} {
		l := newLayout(t).image("amd64", c.layers...)
		for _, b := range [][]byte{l.tar(t), l.docker(t)} {
			assert.ErrorContains(t, Unpack(bytes.NewReader(b), limits(), &recorder{}), c.says, claim)
		}
	}
	// The docker-archive has no digest of its layers but that in the configuration.
	l := fresh()
	archive := l.docker(t)
	at := bytes.Index(archive, []byte("of etc/a"))
	archive[at] = 'O'
	assert.ErrorContains(t, Unpack(bytes.NewReader(archive), limits(), &recorder{}), "is not what the image's configuration says")
	archive = l.docker(t)
	at = bytes.Index(archive, []byte("linux"))
	archive[at] = 'L'
	assert.ErrorContains(t, Unpack(bytes.NewReader(archive), limits(), &recorder{}), "is not what the manifest says")
}

// TestLimitsOfImages: the limits are those of all layers together.
func TestLimitsOfImages(t *testing.T) {
	opt := limits()
	opt.MaxEntries = 4
	l := newLayout(t).image("amd64", layerOf(t, "a/", "b/"), layerOf(t, "c/", "d/"))
	require.NoError(t, UnpackLayout(memory(l.files), opt, &recorder{}))
	l = newLayout(t).image("amd64", layerOf(t, "a/", "b/"), layerOf(t, "c/", "d/", ".wh.a"))
	assert.ErrorContains(t, UnpackLayout(memory(l.files), opt, &recorder{}), "more than the 4 entries")
	opt.MaxBytes = 8
	l = newLayout(t).image("amd64", layerOf(t, "a"), layerOf(t, "a"))
	require.NoError(t, UnpackLayout(memory(l.files), opt, &recorder{}))
	l = newLayout(t).image("amd64", layerOf(t, "a"), layerOf(t, "a"), layerOf(t, "a"))
	assert.ErrorContains(t, UnpackLayout(memory(l.files), opt, &recorder{}), "more than the 8 bytes", "what a layer replaces counts too")
}
