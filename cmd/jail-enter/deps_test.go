package main

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite testdata/deps.txt")

// forbidden are packages that must never come in again, whatever the list says.
var forbidden = map[string]string{
	"os":                         "its initialisation is a fifth of an empty program's start; sys.Args and syscall do",
	"os/signal":                  "a goroutine and a thread for each session; sys.CatchSignals does",
	"fmt":                        "pulls in reflect and os",
	"net":                        "resolver, poller, cgo switches",
	"reflect":                    "a large initialisation and a large binary",
	"golang.org/x/sys/unix":      "tables that are initialised at start",
	"github.com/BurntSushi/toml": "jail-enter has no configuration",
	"unicode":                    "its tables are initialised at start",
}

// TestDeps holds jail-enter, of which one starts for every login, to a reviewed
// list of imports. Run with -update to accept a change.
func TestDeps(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	require.NoError(t, err)
	got := string(out)
	for _, dep := range strings.Fields(got) {
		assert.NotContains(t, forbidden, dep, forbidden[dep])
	}
	const file = "testdata/deps.txt"
	if *update {
		require.NoError(t, os.WriteFile(file, out, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "the imports of jail-enter have changed")
}
