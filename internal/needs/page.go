package needs

import (
	"os"
	"regexp"
	"strings"
	"testing"
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
