package admin

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/record"
)

// TestWhy: the id that somebody reads out leads to what happened, what to do, and what is so now.
func TestWhy(t *testing.T) {
	opt, out := checked(t, "")
	require.NoError(t, os.Mkdir(opt.RuntimeDir, 0o711))
	entry := func(more string) string {
		return `{"v":1,"time":"2026-11-28T03:00:00Z","jail":"one",` + more + "}\n"
	}
	require.NoError(t, record.Open(record.Dir(opt.RuntimeDir)).Append("one", []byte(
		entry(`"event":"session-refused","login":"root","session":"k7qmw2ad","reason":"uid 1000 has no entry in the jail's /etc/passwd; add one, or give name and shell in the registry","caller":{"pid":7,"service":"sshd","address":"10.0.0.9"}`)+
			entry(`"event":"session-refused","login":"root","session":"s00000ff","count":3,"reason":"/srv/one\u001b[2J: its file system cannot be mounted"`)+
			entry(`"event":"session-started","login":"root","session":"k7qmw2aa","kind":"shell"`))))

	status, err := Why(opt, "K7QMW2AD)", "")
	require.NoError(t, err)
	assert.Zero(t, status)
	text := out.String()
	assert.Contains(t, text, ": root, jail one, from 10.0.0.9, by sshd\n")
	assert.Contains(t, text, "why:        uid 1000 has no entry")
	assert.Contains(t, text, "what to do: make the user inside: jail exec one useradd")
	assert.Contains(t, text, "jail check root, now:\nerror: ", "what keeps him out now")
	assert.Contains(t, text, "[serve-down]")

	out.Reset()
	_, err = Why(opt, "s00000ff", "")
	require.NoError(t, err)
	assert.Contains(t, out.String(), "3 times at once")
	assert.Contains(t, out.String(), `/srv/one\x1b[2J: its file system`, "nothing of it reaches a terminal raw")
	assert.Contains(t, out.String(), "keeps the jail from starting")

	out.Reset()
	_, err = Why(opt, "k7qmw2aa", "")
	require.NoError(t, err)
	assert.Contains(t, out.String(), "is no refusal, but a session")

	out.Reset()
	status, err = Why(opt, "(no-jail)", "root")
	require.NoError(t, err)
	assert.Zero(t, status)
	assert.Contains(t, out.String(), "nobody behind the login's socket")
	assert.Contains(t, out.String(), "[serve-down]")

	for id, says := range map[string]string{
		"k7qmw2zz": "no session and no refusal with the id k7qmw2zz is in the records",
		"":         "is no id",
		"k7qmw2a0": "is no id", // which no id has
		"../../x":  "is no id",
		"s0000":    "is no id",
	} {
		status, err := Why(opt, id, "")
		assert.Equal(t, 1, status)
		assert.ErrorContains(t, err, says, id)
	}
}

// TestEveryRefusalHasAdvice: whatever a user may read, somebody has thought about what to do.
func TestEveryRefusalHasAdvice(t *testing.T) {
	refusal := regexp.MustCompile("(?:Refusal\\{12[0-9], |refuse\\(i, 125, )(\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`)")
	found := 0
	for _, dir := range []string{"../session", "../pid1"} {
		files, err := filepath.Glob(dir + "/*.go")
		require.NoError(t, err)
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			for _, m := range refusal.FindAllStringSubmatch(string(text), -1) {
				reason, err := strconv.Unquote(m[1])
				require.NoError(t, err)
				found++
				assert.True(t, advised(reason), "%s: nothing is advised about %q", f, reason)
			}
		}
	}
	assert.Greater(t, found, 12)
	keys, err := os.ReadFile("../authkeys/rule.go")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`Err\w+ = errors\.New\("([^"]*)"\)`).FindAllStringSubmatch(string(keys), -1) {
		if !strings.HasPrefix(m[1], "no line of authorized_keys") { // which session says in other words
			assert.True(t, advised(m[1]), "nothing is advised about %q", m[1])
		}
	}
}

func advised(reason string) bool {
	for _, a := range advice {
		if strings.Contains(reason, a.words) {
			return true
		}
	}
	return false
}

// Advice that fits nothing is about what there is no more.
func TestAdviceIsAboutSomething(t *testing.T) {
	var all strings.Builder
	for _, dir := range []string{"../session", "../pid1", "../serve", "../authkeys", "../login"} {
		files, err := filepath.Glob(dir + "/*.go")
		require.NoError(t, err)
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && !strings.HasSuffix(f, "_test.go") {
				all.Write(text)
			}
		}
	}
	for _, a := range advice {
		assert.Contains(t, all.String(), a.words)
	}
}

// TestEveryKindIsExplained: an id of jail-enter's own has a story.
func TestEveryKindIsExplained(t *testing.T) {
	text, err := os.ReadFile("../enter/kinds.go")
	require.NoError(t, err)
	all := regexp.MustCompile(`Kind\w+ += "([a-z-]+)"`).FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(all), 8)
	manual := needs.ReadPage(t, "../../docs/man/jail-init.8")
	for _, m := range all {
		manual.Matches(t, `[\s]`+m[1]+`[\s]`)
		assert.Contains(t, kinds(), m[1])
		assert.False(t, validID(m[1]), "%s could be another's id", m[1])
	}
}
