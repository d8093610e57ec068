package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecordMessages(t *testing.T) {
	of := func(p []byte, want Type) []byte {
		t.Helper()
		typ, flags, body, err := Header(p)
		require.NoError(t, err)
		require.Equal(t, want, typ)
		require.Zero(t, flags)
		return body
	}
	want := Record{Input: true, Rows: 24, Cols: 80, PID: 7, Term: []byte(strings.Repeat("x", MaxTerm))}
	got, err := DecodeRecord(of(AppendRecord(nil, &want), TypeRecord))
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for _, term := range []string{strings.Repeat("x", MaxTerm+1), "x\x00y"} {
		want.Term = []byte(term)
		got, err = DecodeRecord(of(AppendRecord(nil, &want), TypeRecord))
		require.NoError(t, err)
		assert.Empty(t, got.Term, "%q", term)
	}
	b := []byte(strings.Repeat("\x00", MaxRecorded))
	bytes, err := DecodeRecorded(of(AppendRecorded(nil, TypeOutput, b), TypeOutput))
	require.NoError(t, err)
	assert.Equal(t, b, bytes)
	_, err = DecodeRecorded(append(b, 0))
	assert.ErrorIs(t, err, ErrMalformed)
	_, err = DecodeRecorded(nil)
	assert.ErrorIs(t, err, ErrMalformed)
	rows, cols, err := DecodeResize(of(AppendResize(nil, 1, 2), TypeResize))
	require.NoError(t, err)
	assert.Equal(t, [2]uint16{1, 2}, [2]uint16{rows, cols})
	n, err := DecodeDropped(of(AppendDropped(nil, 1<<40), TypeDropped))
	require.NoError(t, err)
	assert.EqualValues(t, 1<<40, n)
	for _, cut := range [][]byte{AppendRecord(nil, &want), AppendResize(nil, 1, 2), AppendDropped(nil, 1)} {
		for i := range cut[HeaderLen:] {
			short := cut[HeaderLen:][:i]
			_, e1 := DecodeRecord(short)
			_, _, e2 := DecodeResize(short)
			_, e3 := DecodeDropped(short)
			assert.Error(t, e1)
			assert.True(t, e2 != nil || len(short) == 4)
			assert.True(t, e3 != nil || len(short) == 8)
		}
	}
}
