package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// linesOf lists path=line for everything in a decoded tree.
func linesOf(at string, p *position, v any, out map[string]int) {
	if at != "" {
		out[at] = p.line
	}
	if list, ok := items(v); ok {
		for i, item := range list {
			linesOf(fmt.Sprintf("%s[%d]", at, i), p.item(i), item, out)
		}
		return
	}
	if table, ok := v.(map[string]any); ok {
		for key, val := range table {
			linesOf(strings.TrimPrefix(at+"."+quoteKey(key), "."), p.at(key), val, out)
		}
	}
}

func TestPositions(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want map[string]int
	}{
		"table":                     {"# c\n\n[a]\nb = 1\n", map[string]int{"a": 3, "a.b": 4}},
		"dotted header":             {"[a.b]\nc = 1", map[string]int{"a": 1, "a.b": 1, "a.b.c": 2}},
		"header after its child":    {"[a.b]\n[a]\nc = 1", map[string]int{"a": 2, "a.b": 1, "a.c": 3}},
		"dotted key":                {"\na . b.c = 1\na.d = 2", map[string]int{"a": 2, "a.b": 2, "a.b.c": 2, "a.d": 3}},
		"quoted keys":               {"\"a b\" = 1\n'c.d' = 2\n\"e\\u0066\\\"\" = 3\n\"\" = 4", map[string]int{`"a b"`: 1, `"c.d"`: 2, `"ef\""`: 3, `""`: 4}},
		"quoted header":             {"\n[ 'a' . \"b]\" ] # x\nc = 1", map[string]int{"a": 2, `a."b]"`: 2, `a."b]".c`: 3}},
		"inline table":              {"\na = { b = 1, c = { d = \"}\" } }\ne = 1", map[string]int{"a": 2, "a.b": 2, "a.c": 2, "a.c.d": 2, "e": 3}},
		"inline table over lines":   {"a = {\n b = 1, # }\n c.d = 2,\n}\ne = 1", map[string]int{"a": 1, "a.b": 2, "a.c": 3, "a.c.d": 3, "e": 5}},
		"array over lines":          {"a = [ # ]\n 1,\n \"]\",\n [2,\n 3],\n]\nb = 1", map[string]int{"a": 1, "a[0]": 2, "a[1]": 3, "a[2]": 4, "a[2][0]": 4, "a[2][1]": 5, "b": 7}},
		"inline tables in an array": {"a = [\n {b = 1},\n {b = 2,\n  c = 3},\n]", map[string]int{"a": 1, "a[0]": 2, "a[0].b": 2, "a[1]": 3, "a[1].b": 3, "a[1].c": 4}},
		"array of tables":           {"[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 3", map[string]int{"a": 1, "a[0]": 1, "a[0].b": 2, "a[1]": 3, "a[1].b": 4, "a[1].c": 5, "a[1].c.d": 6}},
		"multi-line basic string":   {"a = \"\"\"\nb = 1\n\\\"\"\" \\\n\"\"\"\"\nc = 1", map[string]int{"a": 1, "c": 5}},
		"multi-line literal string": {"a = '''\n[x]\n\\'''''\nc = 1", map[string]int{"a": 1, "c": 4}},
		"strings with signs":        {"a = \"# [x] = \\\\\"\nb = '\\'\nc = 1", map[string]int{"a": 1, "b": 2, "c": 3}},
		"dates and numbers":         {"a = 1979-05-27 07:32:00Z # c\nb = 1_0.5e3\nc = [1979-05-27 07:32:00,\n2020-01-01]", map[string]int{"a": 1, "b": 2, "c": 3, "c[0]": 3, "c[1]": 4}},
		"CRLF and byte order mark":  {"\xEF\xBB\xBFa = 1\r\n[b]\r\nc = 2\r\n", map[string]int{"a": 1, "b": 2, "b.c": 3}},
	} {
		t.Run(name, func(t *testing.T) {
			var tree map[string]any
			_, err := toml.Decode(tt.text, &tree)
			require.NoError(t, err)
			got := map[string]int{}
			linesOf("", scanPositions([]byte(tt.text)), tree, got)
			assert.Equal(t, tt.want, got)
		})
	}
}

// FuzzPositions holds the walk against the TOML library: every key the
// library finds has a position, on a line that exists.
func FuzzPositions(f *testing.F) {
	f.Add("[[a]]\nb.c = [1,\n{d=\"\"\"\n\"\"\"}]\n[a.'e']\n\"f\\x41\" = 1979-05-27 07:32:00\n")
	f.Add("a = {\n b = 1, # }\n c.d = 2,\n}\ne = '''\n'''''")
	f.Add("\xFF\xFEa = 1") // a mark of UTF-16, which the library forgives
	f.Fuzz(func(t *testing.T, text string) {
		root := scanPositions([]byte(text))
		var tree map[string]any
		if _, err := toml.Decode(text, &tree); err != nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		var check func(p *position, v any)
		check = func(p *position, v any) {
			if p == nil || p.line < 1 || p.line > lines {
				t.Fatalf("no position for %v", v)
			}
			if list, ok := items(v); ok {
				if len(p.array) != len(list) {
					t.Fatalf("%d positions for %d items", len(p.array), len(list))
				}
				for i := range list {
					check(p.array[i], list[i])
				}
			}
			if table, ok := v.(map[string]any); ok {
				if len(p.table) != len(table) {
					t.Fatalf("%d positions for %d keys", len(p.table), len(table))
				}
				for key, val := range table {
					check(p.table[key], val)
				}
			}
		}
		check(root, tree)
	})
}
