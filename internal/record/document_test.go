package record

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

// events are all there are.
var events = []Event{SessionStarted, SessionEnded, SessionRefused, JailStarted, JailFound, JailEnded, JailRefused, LimitMet, RegistryTaken, RegistryFaulty, RegistryFailed, Lost}

// TestDocument: docs/records.md has every field with its type, and every event, and no
// other.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/records.md")
	require.NoError(t, err)
	var tables []map[string]string
	for block := range strings.SplitSeq(string(text), "\n\n") {
		if !strings.HasPrefix(block, "| field | JSON |") && !strings.HasPrefix(block, "| event |") {
			continue
		}
		m := map[string]string{}
		for line := range strings.SplitSeq(block, "\n") {
			if cells := strings.Split(line, "|"); len(cells) > 3 && strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
				m[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
			}
		}
		tables = append(tables, m)
	}
	require.Len(t, tables, 6) // the last is of package admin
	assert.Equal(t, needs.JSONFields(reflect.TypeFor[Entry]()), tables[0])
	listed := map[string]string{}
	for _, e := range events {
		listed[string(e)] = tables[1][string(e)]
	}
	assert.Equal(t, listed, tables[1])
	assert.Equal(t, needs.JSONFields(reflect.TypeFor[Caller]()), tables[2])
	assert.Equal(t, needs.JSONFields(reflect.TypeFor[Init]()), tables[3])
	assert.Equal(t, needs.JSONFields(reflect.TypeFor[Session]()), tables[4])
}
