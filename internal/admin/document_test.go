package admin

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/provision"
	"jail/internal/record"
	"jail/internal/recording"
)

// TestJSONDocument: docs/json.md has each object that a verb prints, with each of its fields and
// their types, and no other.
func TestJSONDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/json.md")
	require.NoError(t, err)
	types := map[string]reflect.Type{
		"sessions": reflect.TypeFor[sessionList](), "jails": reflect.TypeFor[jailList](), "page": reflect.TypeFor[jailPage](), "met": reflect.TypeFor[record.Met](),
		"use": reflect.TypeFor[topList](), "one jail's use": reflect.TypeFor[topJail](),
		"recordings": reflect.TypeFor[recordingList](), "recording": reflect.TypeFor[recording.Info](),
		"report": reflect.TypeFor[report](), "finding": reflect.TypeFor[told](),
		"examination": reflect.TypeFor[provision.Examination](), "step": reflect.TypeFor[provision.Tried](),
	}
	sections := strings.Split(string(text), "\n## ")[1:]
	for _, s := range sections {
		name, body, _ := strings.Cut(s, "\n")
		typ := types[name]
		if !assert.NotNil(t, typ, "a section of what nobody prints: %s", name) {
			continue
		}
		got := map[string]string{}
		for line := range strings.Lines(body) {
			if cells := strings.Split(line, "|"); len(cells) > 3 && strings.HasPrefix(cells[1], " `") {
				got[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
			}
		}
		assert.Equal(t, needs.JSONFields(typ), got, name)
		delete(types, name)
	}
	assert.Empty(t, types, "in no section")
}
