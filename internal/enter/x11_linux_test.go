package enter

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

func TestDisplay(t *testing.T) {
	type want struct {
		local  bool
		number string
		ok     bool
	}
	for display, w := range map[string]want{
		"localhost:10.0": {true, "10", true}, "127.0.0.1:10.0": {true, "10", true}, "[::1]:10.0": {true, "10", true}, "::1:7": {true, "7", true},
		"host.example:11.0": {false, "11", true}, "host:0": {false, "0", true},
		"": {}, ":0": {}, ":0.0": {}, "unix:0": {}, "localhost": {}, "localhost:": {}, "localhost:x.0": {}, "localhost:10x": {}, "localhost:123456": {},
		"/private/tmp/x:0": {false, "0", true}, // PID 1 refuses it
	} {
		local, number, ok := parseDisplay(display)
		if !ok {
			local, number = false, ""
		}
		assert.Equal(t, w, want{local, number, ok}, "%q", display)
	}
}

// entry is one of an Xauthority file.
func entry(family int, address, number, name, data string) []byte {
	b := []byte{byte(family >> 8), byte(family)}
	for _, s := range []string{address, number, name, data} {
		b = append(append(b, byte(len(s)>>8), byte(len(s))), s...)
	}
	return b
}

func TestCookie(t *testing.T) {
	const magic = "MIT-MAGIC-COOKIE-1"
	cat := func(parts ...[]byte) []byte {
		var all []byte
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	ours := entry(familyLocal, "vm", "10", magic, "sixteen bytes!!!")
	for claim, c := range map[string]struct {
		text  []byte
		local bool
		want  string
	}{
		"the only one":              {ours, true, "sixteen bytes!!!"},
		"any address":               {entry(familyWild, "", "10", magic, "wild"), true, "wild"},
		"the newest":                {cat(entry(familyLocal, "old", "10", magic, "stale"), ours), true, "sixteen bytes!!!"},
		"among others":              {cat(entry(familyLocal, "vm", "11", magic, "x"), ours, entry(familyLocal, "vm", "1", magic, "y")), true, "sixteen bytes!!!"},
		"another host's":            {entry(0, "\x7f\x00\x00\x01", "10", magic, "x"), true, ""},
		"X11UseLocalhost no":        {entry(0, "\xc0\x00\x02\x01", "10", magic, "inet"), false, "inet"},
		"another kind of key":       {entry(familyLocal, "vm", "10", "XDM-AUTHORIZATION-1", "x"), true, ""},
		"no number":                 {entry(familyLocal, "vm", "", magic, "x"), true, ""},
		"an empty cookie":           {entry(familyLocal, "vm", "10", magic, ""), true, ""},
		"a cookie over the limit":   {entry(familyLocal, "vm", "10", magic, string(make([]byte, wire.MaxCookie+1))), true, ""},
		"nothing":                   {nil, true, ""},
		"half of it":                {ours[:len(ours)-1], true, ""},
		"half of the next":          {cat(ours, ours[:9]), true, "sixteen bytes!!!"},
		"a length beyond the end":   {append([]byte{1, 0, 0xff, 0xff}, ours...), true, ""},
		"a byte of the next family": {cat(ours, []byte{1}), true, "sixteen bytes!!!"},
	} {
		assert.Equal(t, c.want, string(findCookie(c.text, "10", c.local)), claim)
	}
}

func FuzzCookie(f *testing.F) {
	f.Add(entry(familyLocal, "vm", "10", "MIT-MAGIC-COOKIE-1", "sixteen bytes!!!"))
	f.Fuzz(func(t *testing.T, text []byte) {
		require.LessOrEqual(t, len(findCookie(text, "10", true)), wire.MaxCookie)
	})
}

func TestDisplayOfTheRequest(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, ".Xauthority")
	require.NoError(t, os.WriteFile(file, entry(familyLocal, "vm", "10", "MIT-MAGIC-COOKIE-1", "cookie"), 0o600))
	shared := filepath.Join(dir, "shared")
	require.NoError(t, os.WriteFile(shared, entry(familyLocal, "vm", "10", "MIT-MAGIC-COOKIE-1", "cookie"), 0o600))
	require.NoError(t, os.Chmod(shared, 0o666))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(file, link))
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	const display = "DISPLAY=localhost:10.0"
	for claim, c := range map[string]struct {
		env  []string
		want bool
	}{
		"named by XAUTHORITY":         {[]string{display, "XAUTHORITY=" + file}, true},
		"in the home directory":       {[]string{display, "HOME=" + dir}, true},
		"XAUTHORITY counts, not HOME": {[]string{display, "HOME=" + dir, "XAUTHORITY=/nonexistent"}, false},
		"an empty XAUTHORITY is none": {[]string{display, "HOME=" + dir, "XAUTHORITY="}, true},
		"no display":                  {[]string{"HOME=" + dir}, false},
		"a display of the host's":     {[]string{"DISPLAY=:10", "HOME=" + dir}, false},
		"no cookie for the display":   {[]string{"DISPLAY=localhost:11.0", "HOME=" + dir}, false},
		"no file":                     {[]string{display, "HOME=/nonexistent"}, false},
		"a link":                      {[]string{display, "XAUTHORITY=" + link}, false},
		"a named pipe":                {[]string{display, "XAUTHORITY=" + fifo}, false},
		"a directory":                 {[]string{display, "XAUTHORITY=" + dir}, false},
		"a file others can write":     {[]string{display, "XAUTHORITY=" + shared}, false},
		"neither XAUTHORITY nor HOME": {[]string{display}, false},
		"the first of two is taken":   {[]string{"DISPLAY=localhost:11.0", display, "HOME=" + dir}, false},
	} {
		s := &session{}
		s.addDisplay(c.env)
		assert.Equal(t, c.want, s.req.Flags&wire.FlagX11 != 0, claim)
		if c.want {
			assert.Equal(t, "localhost:10.0", string(s.req.Display), claim)
			assert.Equal(t, "cookie", string(s.req.Cookie), claim)
		}
	}
}
