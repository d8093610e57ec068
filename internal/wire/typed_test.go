package wire

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTypedRoundTrip(t *testing.T) {
	want := sampleX11()
	want.Flags |= FlagTyped
	want.Typed, want.Stopped = []byte("a\n\x16\x04\x04\x00\xff"), true
	p, err := AppendRequest(nil, want)
	require.NoError(t, err)
	var got Request
	require.NoError(t, DecodeRequest(p, &got))
	assert.Equal(t, *want, got)

	without, err := AppendRequest(nil, sampleRequest())
	require.NoError(t, err)
	require.NoError(t, DecodeRequest(without, &got))
	assert.Empty(t, got.Typed, "nothing is left of the request before")
	assert.False(t, got.Stopped)

	for claim, bad := range map[string][]byte{
		"one byte too few":  p[:len(p)-1],
		"one byte too many": append(bytes.Clone(p), 'x'),
		"none at all":       p[:len(p)-3-len(want.Typed)],
	} {
		assert.ErrorIs(t, DecodeRequest(bad, &got), ErrMalformed, claim)
	}
}

func TestTypedIsBounded(t *testing.T) {
	for claim, c := range map[string]struct {
		typed []byte
		ok    bool
	}{
		"nothing":                {nil, true},
		"as much as can be":      {bytes.Repeat([]byte("x"), MaxTyped), true},
		"one more":               {bytes.Repeat([]byte("x"), MaxTyped+1), false},
		"each of them quoted":    {bytes.Repeat([]byte{TypedQuote, TypedQuote}, MaxTyped), true},
		"one more, quoted":       {bytes.Repeat([]byte{TypedQuote, TypedQuote}, MaxTyped+1), false},
		"a quote at the end":     {[]byte{'x', TypedQuote}, false},
		"a stop without a quote": {[]byte{'x', TypedStop}, false},
		"a quoted stop":          {[]byte{TypedQuote, TypedStop}, true},
	} {
		r := sampleRequest()
		r.Flags |= FlagTyped
		r.Typed = c.typed
		_, err := AppendRequest(nil, r)
		assert.Equal(t, c.ok, err == nil, claim)

		r.Typed = nil
		p, err := AppendRequest(nil, r)
		require.NoError(t, err)
		p = append(putU16(p[:len(p)-2], uint16(len(c.typed))), c.typed...)
		assert.Equal(t, c.ok, DecodeRequest(p, r) == nil, claim)
	}
}

func TestAppendLine(t *testing.T) {
	assert.Equal(t, "a\x16\x04b\x16\nc\n", string(AppendLine(nil, []byte("a\x04b\nc\n"))))
	for c := 0; c < 256; c++ {
		n, got, eof := NextTyped(AppendTyped(nil, byte(c)))
		assert.NotZero(t, n)
		assert.Equal(t, byte(c), got)
		assert.False(t, eof)
	}
	_, _, eof := NextTyped([]byte{TypedEOF})
	assert.True(t, eof)
}
