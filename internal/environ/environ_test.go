package environ

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEnters(t *testing.T) {
	for claim, c := range map[string]struct {
		entry string
		want  bool
	}{
		"TERM passes":                        {"TERM=xterm", true},
		"any LC_ category passes":            {"LC_TIME=C", true},
		"LC_ alone is no category":           {"LC_=C", false},
		"a value may hold anything":          {"LANG=a=b\n\xff;id", true},
		"an empty value passes":              {"LANG=", true},
		"a list of languages passes":         {"LANGUAGE=de_AT:de@euro:en", true},
		"a path to catalogues does not":      {"LANGUAGE=de:../../../home/x", false},
		"the loader's variables do not":      {"LD_PRELOAD=/x.so", false},
		"an exported function does not":      {"BASH_FUNC_x%%=() { :; }", false},
		"a name with shell syntax does not":  {"LC_X;id=1", false},
		"a name with a space does not":       {"LC_X =1", false},
		"a prefix of a name does not":        {"TERMINFO=/x", false},
		"no equals sign, no entry":           {"TERM", false},
		"no name, no entry":                  {"=x", false},
		"nothing is no entry":                {"", false},
		"a leading digit is no name":         {"1LC=x", false},
		"the original command stays outside": {"SSH_ORIGINAL_COMMAND=id", false},
		"the host's agent socket as well":    {"SSH_AUTH_SOCK=/tmp/x", false},
	} {
		assert.Equal(t, c.want, Enters([]byte(c.entry), nil), claim)
	}
}
