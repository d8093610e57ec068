package main

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/provision"
	"jail/internal/recording"
)

var (
	fence  = regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```$")
	span   = regexp.MustCompile("`([^`\n]+)`")
	quoted = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	// A command of this program, behind a prompt, another command, or the name of a unit's key.
	typed  = regexp.MustCompile(`(?:^|[=(])(?:/usr/s?bin/)?jail(?:-init)?((?: [^|&;)#]*)?)`)
	prompt = regexp.MustCompile(`(?m)^ *[a-z@~:]*[#$] `)
	apart  = regexp.MustCompile(`&&|\|\||[|;]`)
	// What stands before a command on its line.
	before = regexp.MustCompile(`^\s*(?:[a-z@~:]*[#$%] )?(?:(?:\[ .* \] *)?)(?:sudo |if |while )?(?:[A-Z_]+=\S+ )*`)
)

// typedIn returns the command lines of this program in a Markdown text, without its name: in
// blocks of code, and between two backticks.
func typedIn(text string) []string {
	var found []string
	line := func(l string) {
		l = quoted.ReplaceAllStringFunc(l, func(q string) string { // one word each, that ends nothing
			return strings.NewReplacer(" ", "_", "|", "_", ";", "_", "&", "_", "#", "_", ")", "_").Replace(q[1 : len(q)-1])
		})
		for _, part := range apart.Split(l, -1) {
			part = before.ReplaceAllString(part, "")
			if m := typed.FindStringSubmatch(part); m != nil && strings.TrimSpace(m[1]) != "" {
				found = append(found, strings.TrimSpace(m[1]))
			}
		}
	}
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		shown := prompt.MatchString(m[1]) // with what is answered
		for l := range strings.Lines(strings.ReplaceAll(m[1], "\\\n", " ")) {
			if !shown || prompt.MatchString(l) || strings.HasPrefix(l, "Exec") {
				line(strings.TrimRight(l, "\n"))
			}
		}
	}
	for _, m := range span.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		if strings.HasPrefix(m[1], "jail ") || strings.HasPrefix(m[1], "jail-init ") {
			line(m[1])
		}
	}
	return found
}

// notUsage says what of a command line the usage text does not have, or "".
func notUsage(command string) string {
	verbs, flags := readUsage(usage), map[string]string{}
	for _, m := range usageFlag().FindAllStringSubmatch(usage[:strings.Index(usage, "\n")], -1) {
		flags[m[1]] = m[2]
	}
	maps.Copy(flags, map[string]string{"images": "DIR"})
	known := maps.Clone(flags)
	var g *grammar
	place, value := 0, false
	for w := range strings.FieldsSeq(strings.NewReplacer("[", " ", "]", " ", "...", " ").Replace(command)) {
		switch {
		case value:
			value = false
		case strings.HasPrefix(w, "-") && w != "-":
			name, _, given := strings.Cut(strings.TrimLeft(w, "-"), "=")
			takes, ok := known[name]
			if !ok {
				return "the flag " + w
			}
			value = takes != "" && !given
		case g == nil:
			if g = verbs[w]; g == nil {
				return "the verb " + w
			}
			if w == "image" {
				g, verbs = nil, readUsage(imageUsage)
				continue
			}
			known = maps.Clone(flags)
			maps.Copy(known, g.flags)
		default:
			if g == readsCommand(g) {
				return ""
			}
			if place < len(g.slots) {
				literal := true
				for _, s := range g.slots[place] {
					literal = literal && s == strings.ToLower(s)
					if s == w {
						literal = false
						break
					}
				}
				if literal {
					return "the word " + w
				}
			} else if len(g.slots) == 0 || !strings.Contains(g.slots[len(g.slots)-1][0], "=") {
				return "so many words, " + w
			}
			place++
		}
	}
	return ""
}

// TestVerbsForPrograms: docs/json.md has each verb that takes --json, and what it says each of them
// prints is there.
func TestVerbsForPrograms(t *testing.T) {
	text, err := os.ReadFile("../../docs/json.md")
	require.NoError(t, err)
	var want, got []string
	for _, table := range []string{usage, imageUsage} {
		for verb, g := range readUsage(table) {
			if _, ok := g.flags["json"]; ok {
				want = append(want, verb)
			}
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| an? .*\\[[a-z]+\\]\\((records\\.md)?#([a-z]+)\\)").FindAllStringSubmatch(string(text), -1) {
		got = append(got, m[1])
		page := string(text)
		if m[2] != "" {
			records, err := os.ReadFile("../../docs/" + m[2])
			require.NoError(t, err)
			page = strings.ToLower(string(records))
		}
		assert.Contains(t, page, "\n## "+m[3]+"\n", m[1])
	}
	assert.ElementsMatch(t, want, got)
}

func TestNotUsage(t *testing.T) {
	for command, want := range map[string]string{
		"stop --all": "", "stop --al": "the flag --al", "stopp web": "the verb stopp", "stop web db": "so many words, db",
		"stop --grace 5s web": "", "stop --when-idle web": "the flag --when-idle", "exec web ls --all -l": "", "exec -x web": "the flag -x",
		"key alice rm 2": "", "key alice remove 2": "the word remove", "set web memory=1G pids=none": "", "image import x --mmdebstrap trixie": "",
		"image importe x": "the verb importe", "image ls --all": "the flag --all", "--config /x check --json": "", "add a --key - --jail b": "",
		"logs web -n 20 -f": "", "version 1": "so many words, 1",
	} {
		assert.Equal(t, want, notUsage(command), command)
	}
	assert.Equal(t, []string{"ps --json", "stop web", "exec db pg_dump -Fc app", "check", "edit", "rm a", "doctor a b"},
		typedIn("`jail rm a` and `jail(7)` and `jail_x`, `jail doctor a b`\n```\n# jail ps --json | jq .; systemctl x && jail stop web # jail nonsense\n"+
			"ExecStart=/usr/bin/jail exec db pg_dump -Fc app\nroot@host:~# jail check || echo 'jail thing'\n  jail: left\n$ EDITOR=ed jail edit\n```\n"))
}

// TestDocumentsTypeWhatExists: each command line of this program in a document has a verb and
// flags that there are.
func TestDocumentsTypeWhatExists(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	hidden := map[string]bool{"help": true, lookVerb: true, completeVerb: true, provision.OwnerVerb: true, recording.Verb: true, insideVerb: true}
	n := 0
	for _, page := range append(pages, "../../README.md", "../../SECURITY.md") {
		for _, command := range typedIn(read(t, page)) {
			n++
			if hidden[strings.Fields(command)[0]] {
				continue
			}
			if what := notUsage(command); what != "" {
				t.Errorf("%s: jail %s: there is not %s", page, command, what)
			}
		}
	}
	require.Greater(t, n, 130)
}

// TestDocumentsAreFound: what a document links to is there, and the README names every document.
func TestDocumentsAreFound(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]+)(?:#[^)]*)?\)`)
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	for _, page := range append(pages, "../../README.md", "../../SECURITY.md", "../../CHANGELOG.md") {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.HasSuffix(m[1], ".svg") { // which make bench writes
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(page), m[1]))
			assert.NoError(t, err, "a link in %s", page)
		}
	}
	manuals, err := filepath.Glob("../../docs/man/*")
	require.NoError(t, err)
	readme := read(t, "../../README.md")
	for _, page := range append(pages, manuals...) {
		name := strings.TrimPrefix(page, "../../")
		assert.True(t, strings.Contains(readme, "]("+name+")"), "the README's list of documents has not %s", name)
	}
}

// TestTheTourIsRecorded: docs/tour.cast is a recording that players take, of commands that there are, and
// names nothing of where it was made.
func TestTheTourIsRecorded(t *testing.T) {
	const page = "../../docs/tour.cast"
	cast := read(t, page)
	assert.Less(t, len(cast), 60_000, "in bytes")
	r, err := recording.NewReader(strings.NewReader(cast))
	require.NoError(t, err)
	screen := ""
	last := time.Duration(0)
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.Equal(t, recording.Output, e.Kind)
		last, screen = e.At, screen+e.Data
	}
	assert.True(t, strings.HasSuffix(cast, "]\n"), "its last line is whole")
	assert.Less(t, last, 3*time.Minute)
	screen = regexp.MustCompile(`\x1b(\[[0-9;?]*[a-zA-Z]|\][^\a]*\a)`).ReplaceAllString(screen, "")
	screen = regexp.MustCompile(` \r(?:.\x08)?`).ReplaceAllString(screen, "") // where a line that is typed is wrapped
	screen = strings.ReplaceAll(screen, "\r", "")
	n := 0
	for _, command := range typedIn("```\n" + screen + "\n```\n") {
		assert.Empty(t, notUsage(command), "jail %s", command)
		n++
	}
	assert.Greater(t, n, 6, "of this program's commands")
	for _, shows := range []string{"jail check finds nothing", "log in: ssh debian@host", "uid=1001(debian)", "debian: well"} {
		assert.Contains(t, screen, shows)
	}
	assert.NotRegexp(t, `https?:|/tmp|/build|@(?:[^hd\s]|h[^o]|d[^e])`, screen)
	for _, address := range regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`).FindAllString(cast, -1) {
		assert.Equal(t, "127.0.0.1", address)
	}
}
