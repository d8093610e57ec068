package main

import (
	"testing"

	"jail/internal/importlist"
)

// One jail-enter starts for every login.
func TestDeps(t *testing.T) {
	importlist.Check(t, map[string]string{
		"os":                         "its initialisation is a fifth of an empty program's start; sys.Args and syscall do",
		"os/signal":                  "a goroutine and a thread for each session; sys.CatchSignals does",
		"fmt":                        "pulls in reflect and os",
		"net":                        "resolver, poller, cgo switches",
		"reflect":                    "a large initialisation and a large binary",
		"golang.org/x/sys/unix":      "tables that are initialised at start",
		"github.com/BurntSushi/toml": "jail-enter has no configuration",
		"unicode":                    "its tables are initialised at start",
	})
}
