package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProof(t *testing.T) {
	for claim, c := range map[string]struct {
		p  Proof
		ok bool
	}{
		"one":                        {Proof{2001, "ssh-ed25519 AAAA", 1000}, true},
		"the longest key":            {Proof{1, strings.Repeat("k", MaxProofKey), 1}, true},
		"a longer one":               {Proof{1, strings.Repeat("k", MaxProofKey+1), 1}, false},
		"no key":                     {Proof{1, "", 1}, false},
		"for as long as it may":      {Proof{1, "k", MaxProofMillis}, true},
		"for longer":                 {Proof{1, "k", MaxProofMillis + 1}, false},
		"for no time, or for ever":   {Proof{1, "k", 0}, false},
		"a NUL is the end of no key": {Proof{1, "k\x00k", 1}, false},
	} {
		typ, flags, body, err := Header(AppendProof(nil, &c.p))
		require.NoError(t, err, claim)
		assert.Equal(t, TypeProof, typ)
		assert.Zero(t, flags)
		got, err := DecodeProof(body)
		if !c.ok {
			assert.Error(t, err, claim)
			continue
		}
		require.NoError(t, err, claim)
		assert.Equal(t, c.p, got, claim)
		_, err = DecodeProof(append(body, 0))
		assert.Error(t, err, "a byte more")
	}
}
