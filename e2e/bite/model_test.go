package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

var update = flag.Bool("update", false, "rewrite testdata/unproven.txt")

// kept are the mutations, and the tests they are for, seen from the module's root.
func kept(t *testing.T) (all []mutation, tests map[string]suite) {
	t.Helper()
	t.Chdir("../..")
	all, err := load("e2e/bite/mutations")
	require.NoError(t, err)
	tests, err = suites(".")
	require.NoError(t, err)
	return all, tests
}

// TestMutationsFit: what a mutation replaces is there, once, and so is its test. Whoever
// changes a line sees here, and not some days later, that a mutation has to follow.
func TestMutationsFit(t *testing.T) {
	all, tests := kept(t)
	type change struct{ file, old, new, pkg, test string }
	seen := map[change]string{}
	for _, m := range all {
		text, err := os.ReadFile(m.File)
		if !assert.NoError(t, err, "%s: %q", m.from, m.Claim) {
			continue
		}
		assert.Equal(t, 1, strings.Count(string(text), m.Old), "%s: %q: how often its text stands in %s", m.from, m.Claim, m.File)
		c := change{m.File, m.Old, m.New, m.Package, m.Test}
		assert.Empty(t, seen[c], "%s: %q is there already", m.from, m.Claim)
		seen[c] = m.Claim

		pattern, _, _ := strings.Cut(m.Test, "/")
		re, err := regexp.Compile(pattern)
		require.NoError(t, err, "%s: %q", m.from, m.Claim)
		found := false
		for _, name := range tests[filepath.Base(m.Package)].names {
			found = found || re.MatchString(name)
		}
		assert.True(t, found, "%s: %q: there is no test %s in %s", m.from, m.Claim, m.Test, m.Package)
	}
}

// TestModel: every test that the threat model names exists, and which of its rows none has
// that a kept mutation has proven is known: testdata/unproven.txt, which -update rewrites.
// Rows that the kernel alone holds are not in it; they say where that is written.
// A line that comes to it is meant to be looked at.
func TestModel(t *testing.T) {
	list, err := filepath.Abs("testdata/unproven.txt")
	require.NoError(t, err)
	all, tests := kept(t)
	rows, err := readModel("docs/threat-model.md")
	require.NoError(t, err)
	require.Greater(t, len(rows), 150)
	makefile := needs.ReadPage(t, "Makefile")
	by := proofs(all, tests)
	var unproven strings.Builder
	ids := map[string]bool{}
	for _, r := range rows {
		assert.False(t, r.ID != "" && ids[r.ID], "%s is there twice", r.ID)
		ids[r.ID] = true
		proven := false
		for _, name := range r.Tests {
			assert.True(t, tests[name.Package].has(name), "%s%s: there is no test %s", r.ID, r.Attack, name)
			proven = proven || name.proven(by)
		}
		for _, name := range r.Targets {
			makefile.Has(t, "\n"+name+":")
		}
		if r.kernels() {
			assert.Regexp(t, `\([a-z_]+\([2-9]\)|\(kernel/`, r.HeldBy, "%s%s: where the kernel says so", r.ID, r.Attack)
			assert.False(t, proven, "%s%s: a mutation of ours breaks it", r.ID, r.Attack)
		} else if len(r.Tests) > 0 && !proven {
			unproven.WriteString(strings.TrimSpace(r.ID+" "+r.Attack) + "\n")
		}
	}
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(list), 0o755))
		require.NoError(t, os.WriteFile(list, []byte(unproven.String()), 0o644))
	}
	want, err := os.ReadFile(list)
	require.NoError(t, err)
	assert.Equal(t, string(want), unproven.String(), "the rows without a proven test have changed")
}

func TestReadModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.md")
	require.NoError(t, os.WriteFile(path, []byte("| id | attack | held by | shown by |\n|---|---|---|---|\n"+
		"| A1 | an attack | a `wall`. Not held at night | `TestX/a b`, `wire.FuzzY`, `make try-vm` |\n| A2 | another | not held | none |\n"+
		"\n## Beyond the tables\n\n| threat | held by |\n|---|---|\n| a third | a moat: `launch.TestZ` |\n"), 0o644))
	rows, err := readModel(path)
	require.NoError(t, err)
	assert.Equal(t, []row{
		{"A1", "an attack", "a `wall`. Not held at night", []testName{{"e2e", "TestX", "a b"}, {"wire", "FuzzY", ""}}, []string{"try-vm"}},
		{"A2", "another", "not held", nil, nil},
		{"", "a third", "a moat", []testName{{"launch", "TestZ", ""}}, nil},
	}, rows)
	assert.Equal(t, []string{"held in part", "not held", "held"}, []string{rows[0].outcome(), rows[1].outcome(), rows[2].outcome()})

	var s suite
	s.add("func TestX(t *testing.T) {\n\tt.Run(\"a b\", nil)\n}\nfunc TestXY(t *testing.T) {}\n")
	assert.True(t, s.has(testName{"e2e", "TestX", "a b"}))
	assert.False(t, s.has(testName{"e2e", "TestX", "a"}))
	assert.False(t, s.has(testName{"e2e", "TestZ", ""}))

	all := []mutation{
		{Claim: "one", Package: "./e2e", Test: "^TestX$/^a_b"}, {Claim: "of two", Package: "./e2e", Test: "^TestX"},
		{Claim: "elsewhere", Package: "./internal/wire", Test: "^TestX$"},
	}
	by := proofs(all, map[string]suite{"e2e": s})
	assert.Equal(t, map[testName][]string{{"e2e", "TestX", "^a_b"}: {"one"}}, by, "which of two tests bites is not known")
	for sub, proven := range map[string]bool{"": true, "a b": true, "a b/c": true, "other": false} {
		assert.Equal(t, proven, testName{"e2e", "TestX", sub}.proven(by), sub)
	}
	assert.False(t, testName{"e2e", "TestX", "a b"}.proven(map[testName][]string{{"e2e", "TestX", ""}: {"all"}}), "which subtest bites is not known")
	assert.True(t, rows[0].Tests[0].proven(by))
}

// TestRed: what counts is that the test, or the part of it, that a mutation names fails.
func TestRed(t *testing.T) {
	for out, want := range map[string]bool{
		"=== RUN   TestX\n--- FAIL: TestX (0.00s)\n    --- FAIL: TestX/a_b (0.00s)\n        --- FAIL: TestX/a_b/root (0.00s)\nFAIL\n": true,
		"=== RUN   TestX\n--- FAIL: TestX (0.00s)\n    --- FAIL: TestX/other (0.00s)\nFAIL\n":                                         false,
		"=== RUN   TestX\n--- FAIL: TestX (0.00s)\n    --- PASS: TestX/a_b (0.00s)\nFAIL\n":                                           false,
		"=== RUN   TestX\npanic: test timed out after 5m0s\nFAIL\tjail/e2e\n":                                                         true,
		"internal/wire/wire.go:1: undefined: x\nFAIL\tjail/e2e\n":                                                                     false,
		"=== RUN   TestXY\n--- FAIL: TestXY (0.00s)\nFAIL\n":                                                                          false,
	} {
		assert.Equal(t, want, red("^TestX$/^a_b$", out), "%s", out)
	}
	assert.True(t, red("^TestX$", "--- FAIL: TestX (0.00s)\n    --- FAIL: TestX/other (0.00s)\n"))
}
