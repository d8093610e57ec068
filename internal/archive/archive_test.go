package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

// recorder is a Tree that writes down what it is told.
type recorder struct {
	did     []string
	entries []Entry
}

func (r *recorder) Layer() { r.did = append(r.did, "layer") }

func (r *recorder) Make(e *Entry, content io.Reader) error {
	text := ""
	if e.Kind == File {
		h, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		if text = string(h); len(text) > 32 {
			text = fmt.Sprintf("%d bytes", len(text))
		}
	}
	r.did = append(r.did, strings.TrimSpace(fmt.Sprintf("%c %04o %d:%d %s %s", "fdlhp"[e.Kind], e.Mode, e.UID, e.GID, e.Name, text+e.Target)))
	r.entries = append(r.entries, *e)
	return nil
}

func (r *recorder) Remove(name string) error { r.did = append(r.did, "remove "+name); return nil }
func (r *recorder) Clear(name string) error  { r.did = append(r.did, "clear "+name); return nil }

func limits() Options {
	return Options{MaxBytes: 1 << 20, MaxEntries: 1000, Machine: "amd64"}
}

// tarOf is a tar archive; content by name.
func tarOf(t testing.TB, content map[string]string, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Size = int64(len(content[h.Name]))
		require.NoError(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, content[h.Name])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func xzOf(t testing.TB, b []byte, dict int) []byte {
	var out bytes.Buffer
	w, err := xz.WriterConfig{DictCap: dict}.NewWriter(&out)
	require.NoError(t, err)
	_, err = w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	return w.EncodeAll(b, nil)
}

var small = []tar.Header{
	{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
	{Typeflag: tar.TypeDir, Name: "./etc/", Mode: 0o755, Uid: 5},
	{Typeflag: tar.TypeReg, Name: "./etc/motd", Mode: 0o4644, Gid: 7},
	{Typeflag: tar.TypeSymlink, Name: "./motd", Linkname: "../etc/motd", Mode: 0o777},
	{Typeflag: tar.TypeLink, Name: "./etc/again", Linkname: "./etc/motd"},
	{Typeflag: tar.TypeFifo, Name: "./pipe", Mode: 0o600},
	{Typeflag: tar.TypeChar, Name: "./dev/null", Mode: 0o666},
	{Typeflag: tar.TypeBlock, Name: "./dev/sda", Mode: 0o666},
}

var smallContent = map[string]string{"./etc/motd": "hello"}

var smallDid = []string{
	"layer", "d 0755 0:0 .", "d 0755 5:0 etc", "f 4644 0:7 etc/motd hello", "l 0777 0:0 motd ../etc/motd", "h 0000 0:0 etc/again etc/motd",
	"p 0600 0:0 pipe",
}

// TestCompressions: what is in an archive does not depend on how it is compressed.
func TestCompressions(t *testing.T) {
	plain := tarOf(t, smallContent, small...)
	for how, b := range map[string][]byte{
		"not": plain, "gzip": gz(plain), "xz": xzOf(t, plain, 1<<20), "zstd": zst(t, plain),
		"gzip, two members": append(gz(plain[:1024]), gz(plain[1024:])...),
	} {
		t.Run(how, func(t *testing.T) {
			var r recorder
			var notes []string
			opt := limits()
			opt.Note = func(n string) { notes = append(notes, n) }
			require.NoError(t, Unpack(bytes.NewReader(b), opt, &r))
			assert.Equal(t, smallDid, r.did)
			assert.Equal(t, []string{`"./dev/null", and one more: left out, since a jail has a /dev of its own`}, notes)
		})
	}
}

// TestNoArchive: each is one line that says what is wrong, and nothing is made of it.
func TestNoArchive(t *testing.T) {
	plain := tarOf(t, smallContent, small...)
	wide := zst(t, make([]byte, 1<<20))
	// The window descriptor (RFC 8878, 3.1.1.1.2) of a frame that has one: 256 MiB. What
	// follows is a block of one byte, repeated.
	frame := append(binary.LittleEndian.AppendUint32(nil, 0xFD2FB528), 0x00, 18<<3, 3|1<<3, 0, 0, 0)
	dict := xzOf(t, plain, 1<<20)
	dict[12+4] = 40 // 4 GiB; the header's CRC is looked at later
	for claim, c := range map[string]struct {
		archive []byte
		says    string
	}{
		"nothing":              {nil, "is empty"},
		"text":                 {[]byte(strings.Repeat("no archive at all\n", 100)), "is no tar archive"},
		"a short text":         {[]byte("no"), "ends in the middle"},
		"zeros":                {make([]byte, 4096), "is empty: nothing"},
		"cut off in a file":    {plain[:1538], "ends in the middle"},
		"cut off after a file": {plain[:1600], "ends in the middle"},
		"cut off, whole files": {plain[:2048], "ends in the middle"},
		"cut off, gzip":        {gz(plain)[:100], "ends in the middle"},
		"gzip of nothing":      {gz(nil), "ends in the middle"},
		"gzip of text":         {gz([]byte(strings.Repeat("no archive at all\n", 100))), "is no tar archive"},
		"zstd of zeros":        {wide, "is empty: nothing"},
		"zstd with a window":   {frame, "wants a window of more than 128 MiB"},
		"xz with a dictionary": {dict, "wants a dictionary of 4095 MiB, and may have 128"},
		"a broken xz":          {[]byte("\xfd7zXZ\x00nonsense"), "xz: "},
	} {
		t.Run(claim, func(t *testing.T) {
			var r recorder
			assert.ErrorContains(t, Unpack(bytes.NewReader(c.archive), limits(), &r), c.says)
		})
	}
}

// TestNames: what a name may be, and what it then is.
func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"etc/motd": "etc/motd", "/etc/motd": "etc/motd", "././/etc//motd": "etc/motd", "./": ".", "/": ".", ".": ".",
		"..a/b..": "..a/b..", "...": "...",
		"": "", "..": "", "../x": "", "a/../../x": "", "a/../b": "", "/..": "", "a/..": "", "a\x00b": "",
		strings.Repeat("a/", 3000): "",
	} {
		got, err := clean(name)
		assert.Equal(t, want, got, "%q", name)
		assert.Equal(t, want == "", err != nil, "%q", name)
	}
}

func TestWhiteouts(t *testing.T) {
	type answer struct {
		what   removal
		target string
	}
	for name, want := range map[string]answer{
		"a/b": {noWhiteout, ""}, "a/.wh": {noWhiteout, ""}, "a/x.wh.b": {noWhiteout, ""},
		"a/.wh.b": {whiteoutOne, "a/b"}, ".wh.b": {whiteoutOne, "b"},
		"a/.wh..wh..opq": {whiteoutAll, "a"}, ".wh..wh..opq": {whiteoutAll, "."},
		"a/.wh..wh.plnk": {whiteoutAnyhow, ""}, "a/.wh..b": {whiteoutOne, "a/.b"},
	} {
		what, target, err := whiteout(name)
		assert.NoError(t, err, name)
		assert.Equal(t, want, answer{what, target}, name)
	}
	for _, name := range []string{".wh.", "a/.wh.", "a/.wh..", "a/.wh...", "a/.wh.b/c", ".wh..wh..opq/c"} {
		_, _, err := whiteout(name)
		assert.Error(t, err, name)
	}
}

// TestOwners: an id that no jail has makes nobody root, and nothing set-uid.
func TestOwners(t *testing.T) {
	capability := map[string]string{"SCHILY.xattr.security.capability": "x", "SCHILY.xattr.user.a": "1", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.selinux": "z"}
	for claim, c := range map[string]struct {
		uid, gid int
		own      bool
	}{
		"root": {0, 0, true}, "the last": {65535, 65535, true}, "a uid too many": {65536, 0, false}, "a gid too many": {0, 65536, false},
		"less than none": {-1, 0, false}, "2^32": {1 << 32, 0, false},
	} {
		var notes []string
		opt := limits()
		opt.Note = func(n string) { notes = append(notes, n) }
		var r recorder
		h := tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o7755, Uid: c.uid, Gid: c.gid, PAXRecords: capability, Format: tar.FormatPAX}
		if c.uid < 0 {
			h.Format, h.PAXRecords = tar.FormatGNU, nil
		}
		require.NoError(t, Unpack(bytes.NewReader(tarOf(t, nil, h)), opt, &r), claim)
		require.Len(t, r.entries, 1)
		e := r.entries[0]
		if c.own {
			assert.Equal(t, []uint32{uint32(c.uid), uint32(c.gid), 0o7755}, []uint32{e.UID, e.GID, e.Mode}, claim)
			assert.Equal(t, "x", string(e.Capability), claim)
			assert.Len(t, notes, 1, claim)
		} else {
			assert.Equal(t, []uint32{Nobody, Nobody, 0o1755}, []uint32{e.UID, e.GID, e.Mode}, claim)
			assert.Nil(t, e.Capability, claim)
			assert.Contains(t, notes[0], "above 65535", claim)
		}
		if h.PAXRecords != nil {
			assert.Equal(t, map[string]string{"user.a": "1"}, e.Xattrs, claim)
		}
	}
}

// TestLimits: one more than may be is too many, and nothing is written of it.
func TestLimits(t *testing.T) {
	dirs := func(n int) (h []tar.Header) {
		for i := range n {
			h = append(h, tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprint(i), Mode: 0o755})
		}
		return h
	}
	opt := limits()
	opt.MaxEntries = 10
	var r recorder
	require.NoError(t, Unpack(bytes.NewReader(tarOf(t, nil, dirs(10)...)), opt, &r))
	r = recorder{}
	assert.ErrorContains(t, Unpack(bytes.NewReader(tarOf(t, nil, dirs(11)...)), opt, &r), "more than the 10 entries")
	assert.Len(t, r.entries, 10)

	opt = limits()
	opt.MaxBytes = 100
	file := tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o644}
	require.NoError(t, Unpack(bytes.NewReader(tarOf(t, map[string]string{"x": string(make([]byte, 100))}, file)), opt, &r))
	r = recorder{}
	b := tarOf(t, map[string]string{"x": string(make([]byte, 101))}, file)
	for _, b := range [][]byte{b, gz(b)} {
		assert.ErrorContains(t, Unpack(bytes.NewReader(b), opt, &r), "more than the 100 bytes")
		assert.Empty(t, r.entries)
	}
	// What is in no file counts as well: a bomb of headers.
	opt.MaxEntries = 10
	big := tar.Header{Typeflag: 'Q', Name: "x", Size: 1 << 40}
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	require.NoError(t, w.WriteHeader(&big))
	_, err := w.Write(make([]byte, 4<<20))
	require.NoError(t, err)
	assert.ErrorContains(t, Unpack(bytes.NewReader(gz(raw.Bytes())), opt, &r), "more than the 100 bytes")
}

// memory opens the members of an OCI layout that is a map.
func memory(files map[string][]byte) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		b, ok := files[path.Clean(name)]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}
}

func FuzzUnpack(f *testing.F) {
	plain := tarOf(f, smallContent, small...)
	oci := newLayout(f).image("amd64", plain)
	for _, b := range [][]byte{plain, gz(plain), zst(f, plain), xzOf(f, plain, 1<<16), oci.tar(f), gz(oci.tar(f)), oci.docker(f)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		opt := Options{MaxBytes: 1 << 16, MaxEntries: 64, Machine: "amd64"}
		var r recorder
		_ = Unpack(bytes.NewReader(b), opt, &r)
		require.LessOrEqual(t, len(r.did), 64+maxLayers)
		var size int64
		for _, e := range r.entries {
			for _, name := range []string{e.Name, e.Target} {
				if name == "" || name == e.Target && e.Kind != Link {
					continue
				}
				require.Equal(t, path.Clean(name), name)
				require.False(t, path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") || strings.ContainsRune(name, 0), "%q", name)
			}
			require.LessOrEqual(t, e.UID, uint32(MaxID))
			require.LessOrEqual(t, e.GID, uint32(MaxID))
			require.LessOrEqual(t, e.Mode, uint32(0o7777))
			size += e.Size
		}
		require.LessOrEqual(t, size, int64(1<<16))
	})
}
