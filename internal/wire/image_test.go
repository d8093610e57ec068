package wire

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUnpackRoundTrip(t *testing.T) {
	for _, u := range []Unpack{
		{},
		{MaxBytes: 1 << 40, MaxEntries: 7, Machine: "amd64", Reference: "docker.io/library/alpine:3", Dir: true},
		{Machine: string(long(MaxMachine)), Reference: string(long(MaxReference))},
	} {
		p, err := AppendUnpack(nil, &u)
		require.NoError(t, err)
		typ, _, body, err := Header(p)
		require.NoError(t, err)
		assert.Equal(t, TypeUnpack, typ)
		got, err := DecodeUnpack(body)
		require.NoError(t, err)
		assert.Equal(t, u, got)
		_, err = DecodeUnpack(append(body, 0))
		assert.ErrorIs(t, err, ErrMalformed)
		_, err = DecodeUnpack(body[:len(body)-1])
		assert.ErrorIs(t, err, ErrMalformed)
	}
	for claim, u := range map[string]Unpack{
		"a long name of a machine": {Machine: string(long(MaxMachine + 1))},
		"a long name of an image":  {Reference: string(long(MaxReference + 1))},
	} {
		_, err := AppendUnpack(nil, &u)
		assert.ErrorIs(t, err, ErrTooLong, claim)
		b := putString(putString(putU64(putU64(nil, 0), 0), u.Machine), u.Reference)
		_, err = DecodeUnpack(putBool(b, false))
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
}

func TestProgressRoundTrip(t *testing.T) {
	for _, want := range []Type{TypeProgress, TypeUnpacked} {
		typ, _, body, err := Header(AppendProgress(nil, want, Progress{Entries: 3, Bytes: 1 << 33}))
		require.NoError(t, err)
		assert.Equal(t, want, typ)
		got, err := DecodeProgress(body)
		require.NoError(t, err)
		assert.Equal(t, Progress{Entries: 3, Bytes: 1 << 33}, got)
		_, err = DecodeProgress(body[1:])
		assert.ErrorIs(t, err, ErrMalformed)
	}
}
