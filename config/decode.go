package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/BurntSushi/toml"
)

// origin says where a value comes from; its zero value is "nowhere", a
// built-in default.
type origin struct {
	file string
	line int
	key  string
}

func (o origin) given() bool { return o.line > 0 }
func (o origin) below(key string) string {
	if o.key == "" {
		return quoteKey(key)
	}
	return o.key + "." + quoteKey(key)
}

// quoteKey writes one part of a dotted key as TOML would have it written.
func quoteKey(key string) string {
	for i := 0; i < len(key); i++ {
		if !bareKey(key[i]) {
			return strconv.QuoteToASCII(key)
		}
	}
	if key == "" {
		return `""`
	}
	return key
}

// problems collects faults and warnings: of the whole registry, a file, a jail or a
// login. Whose they are decides what is out of service by them.
type problems struct {
	errors   Errors
	warnings Errors
}

func (ps *problems) errorf(o origin, format string, args ...any) {
	ps.errors = append(ps.errors, Error{o.file, o.line, o.key, fmt.Sprintf(format, args...)})
}

func (ps *problems) warnf(o origin, format string, args ...any) {
	ps.warnings = append(ps.warnings, Error{o.file, o.line, o.key, fmt.Sprintf(format, args...)})
}

// Sorted returns es by file and line, each fault once.
func (es Errors) Sorted() Errors {
	sort.SliceStable(es, func(i, j int) bool {
		a, b := es[i], es[j]
		if a.File != b.File {
			return a.File < b.File
		}
		return a.Line < b.Line
	})
	var out Errors
	seen := make(map[Error]bool)
	for _, e := range es {
		if !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	return out
}

// A decodable is a schema type that reads itself from a decoded TOML value.
type decodable interface {
	decode(ps *problems, o origin, p *position, v any)
}

// value is a key with a plain value; it is remembered where it was given.
type value[T string | bool | int64] struct {
	v T
	origin
	broken bool // given, but of the wrong type, which has been reported
}

// usable reports whether the key was given and v is what it says.
func (x value[T]) usable() bool { return x.given() && !x.broken }

func (x *value[T]) decode(ps *problems, o origin, _ *position, v any) {
	x.origin = o
	got, ok := v.(T)
	if !ok {
		x.broken = true
		want := "a string in quotes"
		switch any(x.v).(type) {
		case bool:
			want = "true or false, without quotes"
		case int64:
			want = "a number, without quotes"
		}
		wrongType(ps, o, v, want)
		return
	}
	x.v = got
}

// or returns x if it was given, else y.
func (x value[T]) or(y value[T]) value[T] {
	if x.given() {
		return x
	}
	return y
}

func wrongType(ps *problems, o origin, v any, want string) {
	ps.errorf(o, "is %s, must be %s", describe(v), want)
}

// describe names a TOML value's type as an administrator would.
func describe(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "true or false"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	default:
		return "an array"
	}
}

// decodeTable reads a TOML table into the fields of *dst, a struct whose tags
// are the known keys. It reports the others.
func decodeTable(ps *problems, o origin, p *position, v any, dst any) {
	table, ok := v.(map[string]any)
	if !ok {
		wrongType(ps, o, v, "a table of keys and values")
		return
	}
	st := reflect.ValueOf(dst).Elem()
	fields := fieldsOf(st.Type())
	for _, key := range keysOf(table) {
		at := p.at(key)
		keyOrigin := origin{o.file, at.line, o.below(key)}
		index, ok := fields[key]
		if !ok {
			known := make([]string, 0, len(fields))
			for k := range fields {
				known = append(known, k)
			}
			sort.Strings(known)
			ps.errorf(keyOrigin, "%s", unknownKey(key, known))
			continue
		}
		st.FieldByIndex(index).Addr().Interface().(decodable).decode(ps, keyOrigin, at, table[key])
	}
}

// keyFields are the fields of the schema's types by key, as far as somebody has asked.
// There are a handful of types, and as many tables as jails.
var keyFields sync.Map // reflect.Type: map[string][]int

func fieldsOf(t reflect.Type) map[string][]int {
	if fields, ok := keyFields.Load(t); ok {
		return fields.(map[string][]int)
	}
	fields := make(map[string][]int)
	for _, f := range reflect.VisibleFields(t) {
		if tag, ok := f.Tag.Lookup("toml"); ok {
			fields[tag] = f.Index
		}
	}
	keyFields.Store(t, fields)
	return fields
}

func keysOf[V any](table map[string]V) []string {
	keys := make([]string, 0, len(table))
	for key := range table {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// items returns the elements of either shape the TOML library gives an array.
func items(v any) ([]any, bool) {
	switch list := v.(type) {
	case []any:
		return list, true
	case []map[string]any:
		out := make([]any, len(list))
		for i := range list {
			out[i] = list[i]
		}
		return out, true
	}
	return nil, false
}

// unknownKey names the known key the administrator may have meant.
func unknownKey(key string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(key), k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("unknown key %s, did you mean %q?", strconv.QuoteToASCII(key), best)
	}
	sorted := append([]string(nil), known...)
	sort.Strings(sorted)
	return fmt.Sprintf("unknown key %s, remove it; known here: %s", strconv.QuoteToASCII(key), strings.Join(sorted, ", "))
}

// editDistance counts insertions, deletions, substitutions and swaps of
// neighbours between a and b; it gives up on keys too long to be a slip.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}

// parse reads one registry file; what is wrong outside its jails is the document's. A
// syntax error is the only fault reported for its file: nothing after it can be trusted
// to be where it seems.
func parse(path string, text []byte) *document {
	doc := &document{path: path}
	var tree map[string]any
	if _, err := toml.Decode(string(text), &tree); err != nil {
		o := origin{file: path, line: 1}
		msg := err.Error()
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			// Position.Line is one too many where the line's end is the fault.
			body := trimMark(text)
			before := body[:min(max(syntax.Position.Start, 0), len(body))]
			o.line, msg = 1+bytes.Count(before, []byte("\n")), syntax.Message
		}
		msg = strings.TrimSuffix(strings.Map(func(r rune) rune { // it quotes the text as it is
			if r < ' ' || r == 0x7F {
				return ' '
			}
			return r
		}, msg), ".")
		doc.errorf(o, "not valid TOML: %s, correct this line", msg)
		doc.unread = true
		return doc
	}
	if tree == nil {
		tree = map[string]any{}
	}
	decodeTable(&doc.problems, origin{file: path, line: 1}, scanPositions(text), tree, doc)
	return doc
}
