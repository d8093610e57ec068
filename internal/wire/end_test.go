package wire

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEnd(t *testing.T) {
	id := [IDLen]byte([]byte("k7qmw2ab"))
	for n := range 256 {
		typ, _, body, err := Header(AppendEnd(nil, End{id, uint8(n)}))
		require.NoError(t, err)
		assert.Equal(t, TypeEnd, typ)
		got, err := DecodeEnd(body)
		if n == 0 || n == 1 || n == 9 || n == 15 {
			require.NoError(t, err)
			assert.Equal(t, End{id, uint8(n)}, got)
		} else {
			assert.ErrorIs(t, err, ErrMalformed, "%d", n)
		}
	}
	for claim, b := range map[string][]byte{"empty": nil, "short": id[:], "long": append(id[:], 1, 0)} {
		_, err := DecodeEnd(b)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
	for _, there := range []bool{false, true} {
		typ, _, body, err := Header(AppendEnds(nil, there))
		require.NoError(t, err)
		assert.Equal(t, TypeEnds, typ)
		got, err := DecodeEnds(body)
		require.NoError(t, err)
		assert.Equal(t, there, got)
	}
	for claim, b := range map[string][]byte{"empty": nil, "neither": {2}, "long": {1, 1}} {
		_, err := DecodeEnds(b)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
}
