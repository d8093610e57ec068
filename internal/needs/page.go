package needs

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Page is a document, or another file of the tree, that a test holds to the program. What is
// missing of it is named; the page itself is not printed, which nobody reads.
type Page struct{ Path, Text string }

// ReadPage reads one.
func ReadPage(t testing.TB, path string) Page {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Page{path, string(text)}
}

// Has fails the test unless the page has the text.
func (p Page) Has(t testing.TB, text string) {
	t.Helper()
	if !strings.Contains(p.Text, text) {
		t.Errorf("%s does not have %.300q", p.Path, text)
	}
}

// Matches fails the test unless some part of the page matches the pattern.
func (p Page) Matches(t testing.TB, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(p.Text) {
		t.Errorf("%s has nothing like %s", p.Path, pattern)
	}
}

// Is fails the test unless text is the page, and names the first line that differs.
func (p Page) Is(t testing.TB, text string) {
	t.Helper()
	if p.Text == text {
		return
	}
	there, want := strings.Split(p.Text, "\n"), strings.Split(text, "\n")
	for i := range max(len(there), len(want)) {
		line := func(of []string) string {
			if i < len(of) {
				return of[i]
			}
			return "(its end)"
		}
		if line(there) != line(want) {
			t.Errorf("%s, line %d:\n  is      %.300q\n  must be %.300q", p.Path, i+1, line(there), line(want))
			return
		}
	}
}

// JSONFields are the fields of a structure as JSON has them, each with what JSON calls its type,
// for a test that holds a document's table to it.
func JSONFields(typ reflect.Type) map[string]string {
	m := map[string]string{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		of := f.Type
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		switch {
		case name == "-":
		case of == reflect.TypeFor[time.Time](), of.Kind() == reflect.String:
			m[name] = "string"
		case of.Kind() == reflect.Struct:
			m[name] = "object"
		case of.Kind() == reflect.Slice:
			m[name] = "array"
		case of.Kind() == reflect.Bool:
			m[name] = "boolean"
		default:
			m[name] = "number"
		}
	}
	return m
}
