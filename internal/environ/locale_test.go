package environ

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNormalLocale(t *testing.T) {
	for name, want := range map[string]string{
		"de_DE.UTF-8":       "de_DE.utf8",
		"de_DE.utf8":        "de_DE.utf8",
		"de_DE":             "de_DE",
		"de_DE@euro":        "de_DE@euro",
		"de_DE.ISO-8859-15": "de_DE.iso885915",
		"de_DE.8859-15":     "de_DE.iso885915",
		"sr_RS.UTF-8@latin": "sr_RS.utf8@latin",
		"UTF-8":             "UTF-8",
		"a..b":              "a.b",
	} {
		got, ok := NormalLocale(nil, []byte(name))
		assert.True(t, ok, name)
		assert.Equal(t, want, string(got), name)
	}
	for _, name := range []string{"", "..", "../x", "de_DE/x", "/usr/lib/locale/x", "a b", "x\x00", "\xff", "$(id)", strings.Repeat("x", 65)} {
		_, ok := NormalLocale(nil, []byte(name))
		assert.False(t, ok, "%q", name)
	}
	assert.True(t, IsLocale([]byte("LC_TIME")))
	assert.False(t, IsLocale([]byte("LC_APP")), "only what the C library takes for a locale")
	assert.False(t, IsLocale([]byte("LANGUAGE")), "a list of languages")
}

// archive makes one as localedef(1) does; names are given a record but for those
// that begin with !.
func archive(names ...string) []byte {
	const head, entry = 56, 12
	size := len(names) + 3
	b := make([]byte, head+entry*size)
	text := head + entry*size
	put := func(at int, v int) { binary.LittleEndian.PutUint32(b[at:], uint32(v)) }
	var strs []byte
	for i, n := range names {
		at := head + entry*(i+1)
		put(at+4, text+len(strs))
		if strings.HasPrefix(n, "!") {
			n = n[1:]
		} else {
			put(at+8, 4000)
		}
		strs = append(append(strs, n...), 0)
	}
	put(0, 0xde020109)
	put(8, head)
	put(12, len(names))
	put(16, size)
	put(20, text)
	put(24, len(strs))
	put(28, len(strs)+100)
	return append(b, strs...)
}

func reader(b []byte) func([]byte, int64) bool {
	return func(p []byte, off int64) bool {
		return off <= int64(len(b)) && copy(p, b[off:]) == len(p)
	}
}

func TestArchive(t *testing.T) {
	good := archive("de_DE.utf8", "!fr_FR.utf8", "de_DE")
	names := ArchiveNames(nil, reader(good))
	for name, want := range map[string]bool{
		"de_DE.utf8": true, "de_DE": true, "fr_FR.utf8": false, "de": false, "DE": false, "utf8": false, "": false, "de_DE.utf8x": false,
	} {
		assert.Equal(t, want, InArchive(names, []byte(name)), name)
	}
	assert.False(t, InArchive(nil, []byte("de_DE")))
	set := func(at int, v uint32) []byte {
		b := append([]byte(nil), good...)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for claim, b := range map[string][]byte{
		"empty":                       nil,
		"short":                       good[:50],
		"another magic":               set(0, 1),
		"a table beyond the end":      set(8, 1<<31),
		"a table of 4 GiB":            set(16, 0xffffffff),
		"text beyond the end":         set(20, 1<<31),
		"text of 4 GiB":               set(24, 0xffffffff),
		"no text at all":              set(24, 0),
		"a name before the text":      set(56+12+4, 3)[:56+12*2],
		"cut off in the middle of it": good[:len(good)-4],
	} {
		assert.Empty(t, strings.Trim(string(ArchiveNames(nil, reader(b))), "\x00"), claim)
	}
	names = ArchiveNames(nil, reader(set(56+12+4, 0xfffffff0)))
	assert.False(t, InArchive(names, []byte("de_DE.utf8")), "a name beyond the text")
	assert.True(t, InArchive(names, []byte("de_DE")))
}

func FuzzArchive(f *testing.F) {
	f.Add(archive("de_DE.utf8", "C.utf8"), []byte("C.utf8"))
	f.Fuzz(func(t *testing.T, b, name []byte) {
		names := ArchiveNames(nil, reader(b))
		require.LessOrEqual(t, len(names), maxNames+3)
		InArchive(names, name)
		if normal, ok := NormalLocale(nil, name); ok {
			require.NotContains(t, string(normal), "/")
			require.LessOrEqual(t, len(normal), 2*MaxLocale)
		}
	})
}

func TestTerminals(t *testing.T) {
	for name, first := range map[string]string{
		"xterm-kitty": "xterm-256color", "alacritty": "xterm-256color", "xterm-ghostty": "xterm-256color", "foot-extra": "xterm-256color",
		"wezterm": "xterm-256color", "putty-256color": "xterm-256color", "xterm-direct": "xterm-256color", "tmux-256color": "screen-256color",
		"tmux": "screen", "screen.linux": "screen", "screen.xterm-256color": "screen-256color", "wyse": "xterm", "": "xterm",
	} {
		assert.Equal(t, first, Terminals(name)[0], name)
	}
	for _, bad := range []string{"", ".", "..", "../x", "x/y", "/etc/passwd", "x\x00", "x y", "x\n", "\xff", strings.Repeat("x", 65)} {
		assert.False(t, TerminalName([]byte(bad)), "%q", bad)
	}
	assert.True(t, TerminalName([]byte("xterm+256color")))
}
