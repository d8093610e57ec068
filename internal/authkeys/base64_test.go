package authkeys

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzBase64 holds ours against the library's.
func FuzzBase64(f *testing.F) {
	for _, s := range []string{
		"", "=", "====", "A", "AA", "AAA", "AAAA", "AA==", "AAA=", "A===", "AB==", "AAB=", "AA=A", "=AAA", "AAAA====",
		"AA==AAAA", "AAAA\n", "AAA\nA", "AAAA\r\n", "-_-_", "+/+/", "zZ09", "\x00AAA", "é", "AAAAAA==", "AAAAAAA=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := base64.StdEncoding.Strict().DecodeString(s)
		// The library skips line ends, and takes nothing for nothing.
		wantOK := err == nil && s != "" && base64.StdEncoding.EncodeToString(want) == s
		got, ok := decodeBase64(s)
		require.Equal(t, wantOK, ok)
		if ok {
			assert.Equal(t, want, got)
		}
		assert.Equal(t, base64.StdEncoding.EncodeToString([]byte(s)), encodeBase64([]byte(s)))
	})
}
