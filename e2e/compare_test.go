package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// same holds one session through plain sshd and through each of the jail's
// doors, and fails unless what the client learns is the same, byte for byte,
// but for the intended differences named. It returns the oracle's result.
func same(t *testing.T, a ask, intended ...string) result {
	t.Helper()
	return sameThrough(t, jailDoors, a, intended...)
}

// sameThrough is same for some of the doors only.
func sameThrough(t *testing.T, doors []door, a ask, intended ...string) result {
	t.Helper()
	want := run(t, plain, a)
	for _, d := range doors {
		got := run(t, d, a)
		assertSame(t, fmt.Sprintf("%.200q through %s", a.cmd, d), want, got, intended...)
	}
	return want
}

func assertSame(t *testing.T, what string, want, got result, intended ...string) {
	t.Helper()
	for _, name := range intended {
		diff, ok := differences[name]
		require.True(t, ok, "no difference %q in the table", name)
		want.stdout, got.stdout = diff.plain(want.stdout), diff.jail(got.stdout)
		want.stderr, got.stderr = diff.plain(want.stderr), diff.jail(got.stderr)
	}
	const most = 64 << 10 // beyond that a diff helps nobody
	if len(want.stdout) > most || len(got.stdout) > most {
		assert.True(t, want.stdout == got.stdout, "%s: standard output differs: plain sshd has %d bytes, the jail %d",
			what, len(want.stdout), len(got.stdout))
		want.stdout, got.stdout = "", ""
	}
	assert.Equal(t, want, got, "%s: plain sshd first, then the jail", what)
}
