package main

import (
	"testing"

	"jail/internal/importlist"
)

// One jail-pid1 starts for every jail, while somebody waits.
func TestDeps(t *testing.T) {
	importlist.Check(t, map[string]string{
		"os":                         "its initialisation reads and allocates; syscall does",
		"os/signal":                  "a goroutine and a thread",
		"fmt":                        "pulls in reflect and os; sys.Wrap does",
		"reflect":                    "a large initialisation and a large binary",
		"time":                       "pulls in internal/godebug, the dearest of all",
		"encoding/base64":            "pulls in reflect; authkeys has what it needs of it",
		"golang.org/x/sys/unix":      "tables that are initialised at start",
		"github.com/BurntSushi/toml": "the registry is read on the host",
	})
}
