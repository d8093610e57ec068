package keys

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/authkeys"
)

const ours = `no-user-rc,command="exec /usr/bin/jail-enter --forced" `

// edKey makes an ed25519 public key out of one letter.
func edKey(letter string) string {
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(
		[]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"+strings.Repeat(letter, 32)))
}

var keyA, keyB = edKey("a"), edKey("b")

func TestChoose(t *testing.T) {
	long := `from="` + strings.Repeat("x", authkeys.MaxLine) + `" `
	for name, test := range map[string]struct {
		text  string
		offer string // "" for all
		want  []string
		note  string
	}{
		"an empty file has no keys":               {"", "", nil, ""},
		"comments and blank lines are no mistake": {"# hello\n\n \n" + keyA, "", []string{ours + keyA}, ""},
		"a missing last line end":                 {keyA + "\n" + keyB, "", []string{ours + keyA, ours + keyB}, ""},
		"only the offered key":                    {keyA + "\n" + keyB + "\n", keyB, []string{ours + keyB}, ""},
		"a key that is not there":                 {keyA + "\n", keyB, nil, ""},
		"a bad line is passed over": {"foo " + keyA + "\n" + keyB, "",
			[]string{ours + keyB}, "line 1 ignored: unknown option"},
		"a bad line is not worth a word to a key that is found": {"foo " + keyA + "\n" + keyB, keyB, []string{ours + keyB}, ""},
		"a BOM kills the first line only": {"\ufeff" + keyA + "\n" + keyB, "",
			[]string{ours + keyB}, "line 1 ignored: unknown option"},
		"a NUL kills its line only": {keyA + " \x00\n" + keyB, "",
			[]string{ours + keyB}, "line 1 ignored: NUL byte"},
		"a long line is passed over": {long + keyA + "\n" + keyB, "",
			[]string{ours + keyB}, "line 1 ignored: line too long"},
		"a key may come twice, once for each network": {`from="a" ` + keyA + "\n" + `from="b" ` + keyA, keyA,
			[]string{`from="a",` + ours + keyA, `from="b",` + ours + keyA}, ""},
		"a key with a command is bound like any other": {`restrict,command="x" ` + keyA + "\n" + keyA, keyA,
			[]string{"restrict," + ours + keyA, ours + keyA}, ""},
		"lines beyond the limit do not count": {strings.Repeat("#\n", authkeys.MaxLines) + keyA, "",
			nil, "only the first 1000 lines count"},
	} {
		t.Run(name, func(t *testing.T) {
			var offer *authkeys.Offer
			if test.offer != "" {
				typ, key, _ := strings.Cut(test.offer, " ")
				o, err := authkeys.ParseOffer(typ, key)
				require.NoError(t, err)
				offer = &o
			}
			out, note := choose([]byte(test.text), offer, false)
			want := strings.Join(append(test.want, ""), "\n")
			assert.Equal(t, want, string(out))
			assert.Equal(t, test.note, note)
		})
	}
}

func TestChooseKnowsNoUnknownType(t *testing.T) {
	out, _ := choose([]byte(keyA), &authkeys.Offer{}, false)
	assert.Empty(t, out)
}

func FuzzChoose(f *testing.F) {
	f.Add([]byte(keyA + "\n" + `command="x" ` + keyB + "\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, _ := choose(text, nil, false)
		for line := range bytes.Lines(out) {
			if !bytes.Contains(line, []byte(ours)) {
				t.Fatalf("not bound: %q", line)
			}
		}
	})
}

func TestBindingFollowsTheInstallation(t *testing.T) {
	for self, want := range map[string]string{
		"/usr/lib/jail/jail-keys":       "exec /usr/bin/jail-enter --forced",
		"/usr/local/lib/jail/jail-keys": "exec /usr/local/bin/jail-enter --forced",
		"/tmp/jail-keys":                "exec /usr/bin/jail-enter --forced",
		"/a b/lib/jail/jail-keys":       "exec /usr/bin/jail-enter --forced",
	} {
		assert.Equal(t, want, bindingFor(self, nil))
	}
}
