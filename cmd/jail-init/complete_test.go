package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/provision"
	"jail/internal/recording"
)

// source is that of this program.
func source(t *testing.T) []*ast.File {
	t.Helper()
	pkgs, err := parser.ParseDir(token.NewFileSet(), ".", func(i fs.FileInfo) bool { return !strings.HasSuffix(i.Name(), "_test.go") }, 0)
	require.NoError(t, err)
	return slices.Collect(maps.Values(pkgs["main"].Files))
}

func text(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		s, _ := strconv.Unquote(lit.Value)
		return s
	}
	return ""
}

// A verb that the program takes has a line in the usage text, which is what shells complete by,
// and an entry in the manual; and the other way round. A new verb fails this test until it has.
func TestEveryVerbIsKnownToAll(t *testing.T) {
	taken := map[string]bool{}
	for _, file := range source(t) {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name != "command" {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if c, ok := n.(*ast.CaseClause); ok {
					for _, e := range c.List {
						taken[text(e)] = true
					}
				}
				return true
			})
		}
	}
	delete(taken, "") // those that have names in Go: lookVerb, completeVerb, OwnerVerb
	require.Greater(t, len(taken), 15)
	verbs := readUsage(usage)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(taken)), slices.Collect(maps.Keys(verbs)), "the verbs of command() and those of the usage text")
	for _, hidden := range []string{lookVerb, completeVerb, provision.OwnerVerb, recording.Verb} {
		assert.NotContains(t, verbs, hidden, "is not for people")
	}

	manual := read(t, "../../docs/man/jail-init.8")
	for v, g := range verbs {
		assert.NotEmpty(t, g.about, "the usage text says what %s is", v)
		assert.True(t, strings.Contains(manual, "\n.Cm "+v+"\n"), "jail-init.8, SYNOPSIS: %s", v)
	}
	images := read(t, "../../docs/man/jail-image.8")
	for v := range readUsage(imageUsage) {
		assert.Regexp(t, `(?m)^\.(Ss .*|Cm |It Cm )`+v+`\b`, images, "jail-image.8")
	}
}

// A flag that a verb takes is in the usage text, in the line of that verb where its function says
// which that is, and in a manual page; and the other way round.
func TestEveryFlagIsKnownToAll(t *testing.T) {
	verbs := readUsage(usage + imageUsage)
	shown := map[string]bool{}
	for _, g := range verbs {
		for f := range g.flags {
			shown[f] = true
		}
	}
	taken := map[string]bool{}
	for _, file := range source(t) {
		for _, d := range file.Decls {
			verb := ""
			ast.Inspect(d, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				recv, ok := sel.X.(*ast.Ident)
				if ok && sel.Sel.Name == "flags" && len(call.Args) == 1 {
					verb = text(call.Args[0])
				}
				if !ok || recv.Name != "fs" || len(call.Args) < 3 {
					return true
				}
				name := text(call.Args[0])
				if name == "" {
					name = text(call.Args[1])
				}
				if name == "" || sel.Sel.Name == "Parse" {
					return true
				}
				taken[name] = true
				if g := verbs[verb]; g != nil && verb != "image" {
					assert.Contains(t, g.flags, name, "--%s in the usage text's line of %s", name, verb)
				}
				return true
			})
		}
	}
	require.Greater(t, len(taken), 25)
	delete(taken, "config") // of every verb, in the first line
	delete(taken, "runtime-dir")
	delete(taken, "images")
	manual := read(t, "../../docs/man/jail-init.8") + read(t, "../../docs/man/jail-image.8")
	for f := range taken {
		assert.Contains(t, shown, f, "--%s in the usage text", f)
	}
	for f := range shown {
		assert.Contains(t, taken, f, "--%s, which the usage text has", f)
		name := "-" + f
		if len(f) == 1 {
			name = f
		}
		needs.Page{Path: "the manual", Text: manual}.Matches(t, `Fl `+name+`\b`)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func TestCandidates(t *testing.T) {
	names := func(placeholder, prefix string) []string {
		var found []string
		for _, n := range map[string][]string{"NAME": {"web", "work"}, "JAIL": {"web", "work"}, "LOGIN": {"alice", "wanda"}}[placeholder] {
			if strings.HasPrefix(n, prefix) {
				found = append(found, n)
			}
		}
		return found
	}
	for line, want := range map[string]string{
		"sto":                             "stop",
		"zz":                              "",
		"nonsense ":                       "",
		"stop ":                           "web work",
		"help sta":                        "start status",
		"help stop ":                      "",
		"stop w":                          "web work",
		"stop we":                         "web",
		"stop web ":                       "",
		"stop --a":                        "--all",
		"stop -":                          "--all --config --grace --runtime-dir",
		"stop --grace ":                   "",
		"stop --grace 5s w":               "web work",
		"stop --grace=5s w":               "web work",
		"--config /x stop w":              "web work",
		"--config ":                       ":files",
		"--runtime-dir /x sto":            "stop",
		"--":                              "--config --runtime-dir",
		"disable w":                       "wanda web work",
		"disable web ":                    "",
		"disable --message x w":           "wanda web work",
		"rm ":                             "alice wanda",
		"rm --purge a":                    "alice",
		"key ":                            "alice wanda",
		"key alice ":                      "add ls rm",
		"key alice add ":                  ":files",
		"add --jail ":                     "web work",
		"add --key ":                      ":files",
		"add x --dry-run --key ":          ":files",
		"add --csv - --ja":                "--jail",
		"edit ":                           ":files web work",
		"exec w":                          "web work",
		"exec -u 7 w":                     "web work",
		"exec web ":                       ":files",
		"exec web stop w":                 ":files",
		"run -":                           "--config --no-userns --runtime-dir -c -g -m -n -r -s -u",
		"run -r ":                         ":files",
		"image im":                        "import",
		"image import x ":                 ":files",
		"image import --max-size ":        "",
		"image import --max-size 20G x /": ":files",
		"image import --mm":               "--mmdebstrap",
		"version ":                        "",
		"serve x y z ":                    "",
		"-- sto":                          "stop",
		"\x00\n\t st":                     "",
	} {
		found, files := candidates(strings.Split(line, " "), names)
		for i := range found {
			found[i], _, _ = strings.Cut(found[i], "\t")
		}
		if files {
			found = append([]string{":files"}, found...)
		}
		assert.Equal(t, want, strings.Join(found, " "), "jail %s", line)
	}
}

// The three shells are shown what the program says, the words that are there as they are.
func TestShellsComplete(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, exec.Command("go", "build", "-o", dir+"/jail", ".").Run())
	registry := dir + "/jail.toml"
	require.NoError(t, inforce.Publish(dir, registry, &config.Registry{Jails: []jail.Spec{
		{Name: "web", Logins: []jail.Login{{Name: "alice", HostUID: 1001, UID: 1001}}},
	}}))
	here, err := filepath.Abs("../../packaging/completions")
	require.NoError(t, err)
	// Each prints what it would show for a line; zsh is asked without a terminal, so its
	// functions that show are replaced by one that prints.
	shells := map[string]string{
		"bash": `source "$HERE/jail.bash"
			COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { echo files; }; _jail; printf '%s\n' "${COMPREPLY[@]}"`,
		"zsh": `words=("$@"); CURRENT=$#
			_describe() { for w in "${(@P)@[-1]}"; print -r -- "${w%%:*}" }
			_files() { print files }
			try() { source "$HERE/_jail" }; try`,
		"fish": `source "$HERE/jail.fish"; function __fish_complete_path; echo files; end
			complete -C "$LINE" | string replace -r '\t.*' ''; or true`,
	}
	for shell, script := range shells {
		t.Run(shell, func(t *testing.T) {
			args := map[string][]string{
				"bash": {"--norc", "--noprofile", "-c", script, "-"}, "zsh": {"-f", "-c", script, "-"}, "fish": {"--no-config", "-c", script},
			}[shell]
			for line, want := range map[string][]string{
				"sto":       {"stop"},
				"stop --al": {"--all"},
				"--runtime-dir " + dir + " --config " + registry + " plan ":  {"web"},
				"--runtime-dir " + dir + " --config " + registry + " rm al":  {"alice"},
				"--runtime-dir " + dir + " --config " + registry + "x rm al": nil,
				"set web ":   {"cpu=", "io_weight=", "memory=", "pids="},
				"key x ":     {"add", "ls", "rm"},
				"key x add ": {"files"},
				"nonsense ":  nil,
			} {
				cmd := exec.Command(needs.Program(t, shell), append(slices.Clone(args), append([]string{"jail"}, strings.Split(line, " ")...)...)...)
				cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HERE="+here, "LINE=jail "+line, "HOME="+dir, "XDG_CONFIG_HOME="+dir)
				out, err := cmd.CombinedOutput()
				assert.NoError(t, err, "%s: %s", line, out)
				assert.ElementsMatch(t, want, strings.Fields(string(out)), line)
			}
		})
	}
}

// TestEveryVerbIsTried: each verb, also of images, is typed by a test on a whole host (e2e).
func TestEveryVerbIsTried(t *testing.T) {
	pkgs, err := parser.ParseDir(token.NewFileSet(), "../../e2e", nil, 0)
	require.NoError(t, err)
	// words are the words of a node; ours says that this program is among them, or a function that runs it.
	words := func(n ast.Node, runs map[string]bool) (words []string, ours bool) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				ours = ours || runs[n.Name]
			case *ast.BasicLit:
				words = append(words, strings.Fields(text(n))...)
			}
			return true
		})
		return words, ours
	}
	tried, triedImages := map[string]bool{}, map[string]bool{}
	for _, file := range pkgs["e2e"].Files {
		runs := map[string]bool{"initPath": true, "jailVerb": true}
		ast.Inspect(file, func(n ast.Node) bool { // verb := func(args ...string) result { ... initPath ... }
			if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && len(a.Rhs) == 1 {
				name, named := a.Lhs[0].(*ast.Ident)
				if f, ok := a.Rhs[0].(*ast.FuncLit); ok && named {
					said, ours := words(f, runs)
					runs[name.Name] = runs[name.Name] || ours
					if ours && slices.Contains(said, "image") {
						runs["image:"+name.Name] = true
					}
				}
			}
			return true
		})
		note := func(n ast.Node, ofImages bool) {
			said, ours := words(n, runs)
			if !ours && !ofImages {
				return
			}
			for i, w := range said {
				tried[w] = true
				if ofImages || i > 0 && said[i-1] == "image" {
					triedImages[w] = true
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				f, ok := n.Fun.(*ast.Ident)
				note(n, ok && runs["image:"+f.Name])
			case *ast.RangeStmt: // for _, c := range []struct{args ...}{...} { image(c.args...) }
				ast.Inspect(n.Body, func(in ast.Node) bool {
					if c, ok := in.(*ast.CallExpr); ok {
						if f, ok := c.Fun.(*ast.Ident); ok && runs[f.Name] && len(c.Args) > 0 && c.Ellipsis.IsValid() {
							said, _ := words(n.X, runs)
							for _, w := range said {
								tried[w] = true
								triedImages[w] = triedImages[w] || runs["image:"+f.Name]
							}
						}
					}
					return true
				})
			}
			return true
		})
	}
	verbs := readUsage(usage)
	delete(verbs, "image")
	for v := range verbs {
		assert.True(t, tried[v], "no test of e2e types jail %s", v)
	}
	for v := range readUsage(imageUsage) {
		assert.True(t, triedImages[v], "no test of e2e types jail image %s", v)
	}
	assert.False(t, tried["nonsense-verb"])
}
