// Command bite shows that the tests bite: it breaks the product in one place at a
// time, as the files in mutations say, runs the test that has to notice, and ends
// with status 1 if one did not.
//
// A mutation is a text that stands exactly once in a file, another text in its
// place, and a test of one package. Nothing in the tree is changed: the compiler is
// shown another file (go help build, -overlay), also where a test builds programs
// itself. A mutation that does not compile, or whose test is red without it or is not
// there, is a fault of the mutation and counts as a survivor, so that none is kept
// that proves nothing. So does one that has only another test fail than the one it names.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// mutation is one way to break the product.
type mutation struct {
	// Claim is what no longer holds with it, as a sentence.
	Claim string
	// File is broken by putting New where Old stands, which is exactly once.
	File, Old, New string
	// Test is a regular expression for "go test -run"; Package is where, "./internal/wire".
	Test, Package string

	from string // the file it is kept in
}

type file struct{ Mutation []mutation }

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("bite", flag.ContinueOnError)
	only := flags.String("run", "", "only mutations whose file, claim or test matches this `regexp`")
	list := flags.Bool("list", false, "print the mutations, run nothing")
	model := flags.Bool("model", false, "print docs/threat-model.md as a list, with what shows and proves each row; run nothing")
	dir := flags.String("dir", "e2e/bite/mutations", "where they are kept")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bite:", err)
		return 2
	}
	all, err := load(*dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bite:", err)
		return 2
	}
	var chosen []mutation
	for _, m := range all {
		if match.MatchString(m.File + " " + m.Claim + " " + m.Test) {
			chosen = append(chosen, m)
		}
	}
	if *list {
		for _, m := range chosen {
			fmt.Printf("%s\t%s\t%s %s\n", m.File, m.Claim, m.Package, m.Test)
		}
		return 0
	}
	if *model {
		rows, err := readModel("docs/threat-model.md")
		if err == nil {
			var tests map[string]suite
			if tests, err = suites("."); err == nil {
				printModel(os.Stdout, rows, proofs(all, tests))
				return 0
			}
		}
		fmt.Fprintln(os.Stderr, "bite:", err)
		return 2
	}
	if len(chosen) == 0 {
		fmt.Fprintln(os.Stderr, "bite: no mutation matches")
		return 2
	}
	scratch, err := os.MkdirTemp("", "bite-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bite:", err)
		return 2
	}
	defer os.RemoveAll(scratch)

	whole := binaries{dir: scratch}
	green := map[string]error{} // by package and test: nil when green without a mutation
	survived := 0
	for _, m := range chosen {
		start := time.Now()
		key := m.Package + " " + m.Test
		if _, known := green[key]; !known {
			green[key] = whole.unbroken(m)
		}
		err := green[key]
		if err == nil {
			err = bitten(m, scratch)
		}
		verdict := "bitten  "
		if err != nil {
			verdict = "SURVIVED"
			survived++
		}
		fmt.Printf("%s %5.1fs  %s: %s (%s %s)\n", verdict, time.Since(start).Seconds(), m.File, m.Claim, m.Package, m.Test)
		if err != nil {
			fmt.Printf("    %v\n", err)
		}
	}
	fmt.Printf("%d mutations, %d survived\n", len(chosen), survived)
	if survived > 0 {
		return 1
	}
	return 0
}

// load reads the mutations, in the order of their files.
func load(dir string) ([]mutation, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.toml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var all []mutation
	for _, path := range paths {
		var f file
		meta, err := toml.DecodeFile(path, &f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if unknown := meta.Undecoded(); len(unknown) > 0 {
			return nil, fmt.Errorf("%s: unknown key %v", path, unknown[0])
		}
		for _, m := range f.Mutation {
			if m.Claim == "" || m.File == "" || m.Old == "" || m.Old == m.New || m.Test == "" || m.Package == "" {
				return nil, fmt.Errorf("%s: %q: claim, file, old, new, test and package are needed", path, m.Claim)
			}
			m.from = path
			all = append(all, m)
		}
	}
	return all, nil
}

// binaries are the tests as things are, one for each package, made when they are needed.
type binaries struct {
	dir   string
	built map[string]error
}

// unbroken reports whether the test is there and green as things are.
func (b *binaries) unbroken(m mutation) error {
	if b.built == nil {
		b.built = map[string]error{}
	}
	binary := filepath.Join(b.dir, strings.ReplaceAll(m.Package, "/", "-")+".test")
	err, known := b.built[m.Package]
	if !known {
		var out []byte
		cmd := exec.Command("go", "test", "-c", "-vet=off", "-o", binary, m.Package)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("the test does not compile without the mutation: %w\n%s", err, tail(out))
		}
		b.built[m.Package] = err
	}
	if err != nil {
		return err
	}
	cmd := exec.Command(binary, "-test.v", "-test.timeout=5m", "-test.run="+m.Test)
	cmd.Dir = m.Package
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		return fmt.Errorf("the test is red without the mutation: %w\n%s", err, tail(out))
	case bytes.Contains(out, []byte("no tests to run")) || !bytes.Contains(out, []byte("--- PASS")):
		return errors.New("there is no such test, or it was skipped")
	}
	return nil
}

// bitten returns nil if the test is red with the mutation.
func bitten(m mutation, scratch string) error {
	text, err := os.ReadFile(m.File)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), m.Old); n != 1 {
		return fmt.Errorf("%s: the text to replace stands there %d times, not once", m.from, n)
	}
	broken := filepath.Join(scratch, "broken.go")
	if err := os.WriteFile(broken, []byte(strings.Replace(string(text), m.Old, m.New, 1)), 0o644); err != nil {
		return err
	}
	path, err := filepath.Abs(m.File)
	if err != nil {
		return err
	}
	shown, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
	if err != nil {
		return err
	}
	overlay := filepath.Join(scratch, "overlay.json")
	if err := os.WriteFile(overlay, shown, 0o644); err != nil {
		return err
	}
	out, err := test(m, overlay)
	switch {
	case err == nil:
		return errors.New("the test is green all the same")
	case !red(m.Test, string(out)):
		return fmt.Errorf("it does not compile, or another test than that was red:\n%s", tail(out))
	}
	return nil
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// red reports whether what go test printed says that the test itself failed, or that the
// program crashed while it ran. A suite that could not begin, since the programs do not
// compile, ends with FAIL as well, and so does a test of which another part has noticed.
func red(pattern, out string) bool {
	for _, crash := range []string{"\npanic: ", "\nfatal error: "} {
		if strings.Contains(out, crash) && strings.Contains(out, "=== RUN") {
			return true
		}
	}
	elements := strings.Split(pattern, "/")
	for _, m := range failed.FindAllStringSubmatch(out, -1) {
		names := strings.Split(m[1], "/")
		if len(names) < len(elements) {
			continue
		}
		all := true
		for i, element := range elements {
			matches, err := regexp.MatchString(element, names[i])
			all = all && err == nil && matches
		}
		if all {
			return true
		}
	}
	return false
}

// test runs the mutation's test. The overlay goes by the environment, so that the
// programs a test builds are broken as well.
func test(m mutation, overlay string) ([]byte, error) {
	cmd := exec.Command("go", "test", "-count=1", "-v", "-vet=off", "-timeout=5m", "-run", m.Test, m.Package)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if overlay != "" {
		cmd.Env = append(cmd.Env, strings.TrimSpace("GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	return cmd.CombinedOutput()
}

// tail is the end of a test's output.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-12):], "\n    ")
}
