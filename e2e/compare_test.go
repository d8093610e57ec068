package e2e

import (
	"fmt"
	"sync"
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
	// The oracle has a tree, terminals and a connection of its own, and need not be waited
	// for; the doors have one jail, one home directory, and the terminal with the lowest
	// number.
	var want result
	var oracle sync.WaitGroup
	oracle.Go(func() { want = run(t, plain, a) })
	defer oracle.Wait()
	got := make([]result, len(doors))
	for i, d := range doors {
		got[i] = run(t, d, a)
	}
	oracle.Wait()
	for i, d := range doors {
		assertSame(t, fmt.Sprintf("%.200q through %s", a.cmd, d), want, got[i], intended...)
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
