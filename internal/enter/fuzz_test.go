package enter

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

func FuzzParent(f *testing.F) {
	f.Add([]byte("7 (a) b) R) R 4194304 7"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		parent := parseParent(stat)
		require.GreaterOrEqual(t, parent, 0)
		require.LessOrEqual(t, parent, 1<<22)
		if parent > 0 { // what is after the last bracket says so
			_, rest, ok := strings.Cut(reverse(string(stat)), ")")
			require.True(t, ok)
			state := string(stat)[len(rest)+1:]
			digits := strings.TrimLeft(state[3:], "0")
			require.True(t, strings.HasPrefix(digits, strconv.Itoa(parent)), "%q", stat)
		}
	})
}

func reverse(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

func FuzzDisplay(f *testing.F) {
	for _, s := range []string{"localhost:10.0", "[::1]:10", "unix:0", ":0", "h:99999.9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, display string) {
		local, number, ok := parseDisplay(display)
		if !ok {
			require.False(t, local)
			return
		}
		require.LessOrEqual(t, len(display), wire.MaxDisplay)
		n, err := strconv.ParseUint(number, 10, 32)
		require.NoError(t, err)
		require.LessOrEqual(t, n, uint64(99999))
		host := display[:strings.LastIndexByte(display, ':')]
		require.NotEmpty(t, host, "a display of the host's own")
		require.NotEqual(t, "unix", host)
	})
}

// FuzzForcedCommand: what is taken for the ForceCommand and not run inside is no
// command of anybody's but the administrator's: one absolute path, one word, no
// character that means something to a shell.
func FuzzForcedCommand(f *testing.F) {
	for _, s := range []string{"exec /usr/bin/jail-enter --forced", "/jail-enter --forced", "exec /a;b/jail-enter --forced", "/x --forced/jail-enter --forced"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !isForcedCommand(s) {
			return
		}
		words := strings.Split(strings.TrimPrefix(s, "exec "), " ")
		require.Len(t, words, 2, "%q", s)
		require.Equal(t, "--forced", words[1])
		require.True(t, strings.HasPrefix(words[0], "/") && strings.HasSuffix(words[0], "/jail-enter"), "%q", s)
		require.NotContains(t, words[0], "\n")
		require.False(t, strings.ContainsAny(words[0], "'\"\\$`;&|<>()*?[]#~=%!{}\t\n"), "%q", s)
	})
}

// FuzzQuote: what a jail says can do nothing to a terminal and is not
// shortened within its limit.
func FuzzQuote(f *testing.F) {
	f.Add([]byte("a\x1b[31m\n\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var l line
		l.quote(text)
		got := string(l.buf[:l.n])
		for _, c := range []byte(got) {
			require.True(t, c >= 0x20 && c < 0x7f, "%q", got)
		}
		if len(text) <= wire.MaxText {
			printed := 0
			for _, c := range text {
				if printed++; c < 0x20 || c >= 0x7f {
					printed += 3
				}
			}
			require.Len(t, got, printed)
		}
	})
}
