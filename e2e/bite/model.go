package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// row is one threat of docs/threat-model.md: of a table, with an id, or of those beyond.
type row struct {
	ID, Attack, HeldBy string
	Tests              []testName
	Targets            []string // of make, which show it as well
}

// testName is a test as the document names it: Package is the last element of the
// package's path, Sub what comes behind a slash.
type testName struct{ Package, Name, Sub string }

func (t testName) String() string {
	s := t.Package + "." + t.Name
	if t.Sub != "" {
		s += "/" + t.Sub
	}
	return s
}

var (
	rowID     = regexp.MustCompile(`^[A-Z]\d+$`)
	namedTest = regexp.MustCompile("`(?:([a-z0-9-]+)\\.)?((?:Test|Fuzz)\\w*)(?:/([^`]*))?`")
	target    = regexp.MustCompile("`make ([a-z-]+)`")
)

// readModel reads the rows of the document.
func readModel(path string) ([]row, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rows []row
	_, beyond, _ := strings.Cut(string(text), "\n## Beyond the tables\n")
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		r, shown := row{}, ""
		switch {
		case len(cells) == 4 && rowID.MatchString(cells[0]):
			r.ID, r.Attack, r.HeldBy, shown = cells[0], cells[1], cells[2], cells[3]
		case len(cells) == 2 && strings.Contains(beyond, line) && cells[0] != "threat":
			r.Attack, shown = cells[0], cells[1]
			// What it is held by and what shows it are one cell there.
			r.HeldBy = strings.TrimRight(namedTest.ReplaceAllString(shown, ""), ":, ")
		default:
			continue
		}
		for _, m := range namedTest.FindAllStringSubmatch(shown, -1) {
			t := testName{m[1], m[2], m[3]}
			if t.Package == "" {
				t.Package = "e2e"
			}
			r.Tests = append(r.Tests, t)
		}
		for _, m := range target.FindAllStringSubmatch(shown, -1) {
			r.Targets = append(r.Targets, m[1])
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// outcome says in a word what becomes of the attack.
func (r *row) outcome() string {
	switch {
	case strings.HasPrefix(r.HeldBy, "not held") || strings.HasPrefix(r.HeldBy, "not supported"):
		return "not held"
	case strings.Contains(r.HeldBy, "ot held"):
		return "held in part"
	}
	return "held"
}

// kernels reports whether the row says that the kernel alone holds the attack. There is
// nothing of ours whose breaking a test could notice.
func (r *row) kernels() bool { return strings.HasPrefix(r.HeldBy, "the kernel: ") }

// suite is the tests of one package.
type suite struct {
	names  []string
	source string
}

// suites are the tests of every package below dir, by the last element of its path.
func suites(dir string) (map[string]suite, error) {
	found := map[string]suite{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "build" || entry.Name() == ".git" || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		abs, err := filepath.Abs(filepath.Dir(path))
		s := found[filepath.Base(abs)]
		s.add(string(text))
		found[filepath.Base(abs)] = s
		return err
	})
	return found, err
}

var declaration = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)

func (s *suite) add(source string) {
	s.source += source
	for _, m := range declaration.FindAllStringSubmatch(source, -1) {
		s.names = append(s.names, m[1])
	}
}

// has reports whether the package has the test, as far as that can be seen without running
// it: a subtest is there if its name, or the beginning of it, is a string.
func (s suite) has(t testName) bool {
	return slices.Contains(s.names, t.Name) &&
		(t.Sub == "" || strings.Contains(s.source, `"`+t.Sub+`"`) || strings.Contains(s.source, `"`+t.Sub+`/`))
}

// proves returns the one test of a package that a mutation is bitten by. Of a mutation that
// runs several it is not known which of them bites.
func (m *mutation) proves(tests map[string]suite) (t testName, ok bool) {
	pkg := filepath.Base(m.Package)
	pattern, sub, _ := strings.Cut(m.Test, "/")
	sub, _, _ = strings.Cut(sub, "/")
	re, err := regexp.Compile(pattern)
	if err != nil {
		return testName{}, false
	}
	for _, name := range tests[pkg].names {
		if !re.MatchString(name) {
			continue
		}
		if ok {
			return testName{}, false
		}
		t, ok = testName{Package: pkg, Name: name, Sub: sub}, true
	}
	return t, ok
}

// proofs are the claims that kept mutations make about each test.
func proofs(all []mutation, tests map[string]suite) map[testName][]string {
	by := map[testName][]string{}
	for i := range all {
		if t, ok := all[i].proves(tests); ok {
			by[t] = append(by[t], all[i].Claim)
		}
	}
	return by
}

// claims are those of the mutations that the test notices. Of a subtest they are those of
// mutations that are tried with it: what another subtest notices says nothing of this one.
func (t testName) claims(by map[testName][]string) (list []string) {
	for proof, claims := range by {
		if proof.Package != t.Package || proof.Name != t.Name {
			continue
		}
		if t.Sub != "" {
			sub, _, _ := strings.Cut(t.Sub, "/")
			re, err := regexp.Compile(proof.Sub)
			if proof.Sub == "" || err != nil || !re.MatchString(strings.ReplaceAll(sub, " ", "_")) {
				continue
			}
		}
		list = append(list, claims...)
	}
	slices.Sort(list)
	return list
}

// proven reports whether a kept mutation is bitten by the test.
func (t testName) proven(by map[testName][]string) bool { return len(t.claims(by)) > 0 }

// printModel writes the rows as a list that can be read.
func printModel(w io.Writer, rows []row, by map[testName][]string) {
	sum := map[string]int{}
	for i := range rows {
		r := &rows[i]
		id, mark := r.ID, "shown"
		if id == "" {
			id = "-"
		}
		if slices.ContainsFunc(r.Tests, func(t testName) bool { return t.proven(by) }) {
			mark = "proven"
		} else if r.kernels() {
			mark = "the kernel's"
		} else if len(r.Tests) == 0 && len(r.Targets) == 0 {
			mark = "untested"
		}
		sum[mark]++
		fmt.Fprintf(w, "%-4s %s\n     %s, %s: %s\n", id, r.Attack, r.outcome(), mark, r.HeldBy)
		for _, t := range r.Tests {
			fmt.Fprintf(w, "       %s\n", t)
			for _, claim := range t.claims(by) {
				fmt.Fprintf(w, "           bites: %s\n", claim)
			}
		}
		for _, t := range r.Targets {
			fmt.Fprintf(w, "       make %s\n", t)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d threats: %d with a test that a kept mutation has proven, %d held by the kernel alone, %d shown by a test, %d without one\n",
		len(rows), sum["proven"], sum["the kernel's"], sum["shown"], sum["untested"])
}
