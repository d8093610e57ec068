package session

import (
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

// TestProven: who comes by the key of doctor, and by it alone, needs no line inside.
func TestProven(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	j, root := tree(t, map[string]string{"etc/passwd": "work:x:61001:61001::/home/tenant:/bin/sh\n"})
	require.NoError(t, os.Chmod(root, 0o755))
	proof := "publickey " + testKey("p")
	for claim, tt := range map[string]struct {
		proof string
		auth  []string
		known bool
		ok    bool
	}{
		"the key":                    {proof, []string{proof}, true, true},
		"another key":                {proof, []string{"publickey " + testKey("q")}, true, false},
		"no proof":                   {"", []string{proof}, true, false},
		"no proof, and no line":      {"", []string{""}, true, true}, // no key was involved
		"the key, and another":       {proof, []string{proof, "publickey " + testKey("q")}, true, false},
		"the key, by nobody's word":  {proof, []string{proof}, false, true}, // nothing restricts, as ever
		"the beginning of the key":   {proof, []string{proof[:len(proof)-1]}, true, false},
		"a certificate of that key":  {proof, []string{proof + "x"}, true, false},
		"a password besides the key": {proof, []string{"password", proof}, true, false},
	} {
		s := request(wire.FlagForced|wire.FlagLogin, false)
		s.Proof = tt.proof
		for _, a := range tt.auth {
			s.Req.Auth = append(s.Req.Auth, cbytes(a))
		}
		if tt.known {
			s.Req.Flags |= wire.FlagAuthKnown
		}
		_, refusal := j.decide(s, &wire.Identity{UID: 61001})
		assert.Equal(t, tt.ok, refusal == nil, "%s: %v", claim, refusal)
		assert.Equal(t, claim == "the key", s.proven, claim)
		s.Proof = ""
		s.Req.Flags |= wire.FlagAuthKnown
		_, _ = j.decide(s, &wire.Identity{UID: 61001})
		assert.False(t, s.proven, "the next one is not")
		s.Free()
	}
}
