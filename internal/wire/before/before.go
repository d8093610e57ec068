// Package before is what programs of the build before this one say, byte for byte. It is
// for tests: a PID 1, a jail-enter and a serve of that build go on running after an upgrade,
// and this build's must understand them, and be understood.
package before

import (
	_ "embed"
	"encoding/hex"
	"strings"
)

// Commit is whose package wire has encoded the messages. The next build's are recorded by
// TestBefore of package wire, in a tree of that build.
const Commit = "290bf9c"

//go:embed messages.txt
var recorded string

// Messages are the packets, by the names that TestBefore gives them.
func Messages() map[string][]byte {
	all := make(map[string][]byte)
	for line := range strings.Lines(recorded) {
		name, digits, ok := strings.Cut(strings.TrimSpace(line), ": ")
		packet, err := hex.DecodeString(digits)
		if !ok || err != nil {
			panic("messages.txt: " + line)
		}
		all[name] = packet
	}
	return all
}
