package session

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzSFTP: a request that is taken for one of sftp is the name of a server, and options
// of letters that no shell does anything with.
func FuzzSFTP(f *testing.F) {
	for _, text := range []string{"internal-sftp", "/usr/lib/openssh/sftp-server -R -f AUTH", "sftp-server\t-u 0022 ", "sftp-server -R;id", "internal-sftp -", "sftp-server -f"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		word, rest := cutWord(text)
		if bytes.ContainsAny(word, " \t") || !bytes.HasSuffix(text, rest) || len(rest) > 0 && isBlank(rest[0]) {
			t.Fatalf("%q: word %q, rest %q", text, word, rest)
		}
		r, ok := parseSFTP([][]byte{[]byte("-c"), text})
		if !ok {
			return
		}
		if !bytes.Equal(append(bytes.Clone(r.program), r.options...), text) || len(r.program) == 0 {
			t.Fatalf("%q is taken apart into %q and %q", text, r.program, r.options)
		}
		if i := bytes.IndexAny(text, "\x00\n\r;&|<>()$`\\\"'*?[]#!{}^"); i >= 0 {
			t.Fatalf("%q: a shell would do something with %q", text, text[i])
		}
		for i, option := range strings.Fields(string(r.options)) {
			if i == 0 && option[0] != '-' {
				t.Fatalf("%q begins with no option", r.options)
			}
		}
	})
}

// FuzzDisplay: the number is what stands between the last colon and the screen.
func FuzzDisplay(f *testing.F) {
	for _, text := range []string{"localhost:10.0", "[::1]:10", "unix:0", ":0", "localhost:10.0.0", "h:99999.1", "h:100000"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, display []byte) {
		number, ok := displayNumber(display)
		if !ok {
			return
		}
		if len(number) == 0 || len(number) > 5 || strings.Trim(string(number), "0123456789") != "" {
			t.Fatalf("%q: number %q", display, number)
		}
		i := bytes.LastIndexByte(display, ':')
		if i < 1 || !bytes.HasPrefix(display[i+1:], number) || bytes.ContainsAny(display, " \t\n=;$`'\"\\\x00/") {
			t.Fatalf("%q: number %q", display, number)
		}
	})
}

// FuzzMessage: what is shown is the beginning of the file, and ends a line.
func FuzzMessage(f *testing.F) {
	for _, text := range []string{"", "\n", "hello", "a\x00b", "\x00"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := appendMessage([]byte("before"), text)
		shown, ok := bytes.CutPrefix(got, []byte("before"))
		if !ok || bytes.IndexByte(shown, 0) >= 0 || len(shown) > len(text)+1 {
			t.Fatalf("%q is shown as %q", text, got)
		}
		if len(shown) > 0 && (shown[len(shown)-1] != '\n' || !bytes.HasPrefix(text, shown[:len(shown)-1])) {
			t.Fatalf("%q is shown as %q", text, got)
		}
	})
}
