package wire

import (
	"testing"

	"jail/internal/needs"
)

func TestSocketsAreDocumented(t *testing.T) {
	doc := needs.ReadPage(t, "../../docs/protocol.md")
	for _, path := range []string{"UID/" + LoginName, RecorderName, "UID/" + RecorderName, CallerName, "UID/" + CallerName, "UID/" + CallsName} {
		doc.Has(t, "| `"+RuntimeDir+"/"+path+"` |")
	}
}
