package environ

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func entries(f *Files) []string {
	list := []string{}
	for _, e := range f.Entries {
		list = append(list, string(e))
	}
	return list
}

// TestFiles has what pam_env 1.5.2 was seen to do; e2e asks the installed one.
func TestFiles(t *testing.T) {
	for claim, c := range map[string]struct {
		texts []string
		want  []string
	}{
		"a variable":                                {[]string{"A=b\n"}, []string{"A=b"}},
		"without an end of line":                    {[]string{"A=b"}, []string{"A=b"}},
		"an empty value":                            {[]string{"A=\n"}, []string{"A="}},
		"comments, blank lines and blanks":          {[]string{"# x\n\n  \t A=b # y\n#A=c\n"}, []string{"A=b "}},
		"export is passed over":                     {[]string{"export A=b\nexport\tB=c\n"}, []string{"A=b"}},
		"double quotes":                             {[]string{"A=\"b c\"\n"}, []string{"A=b c"}},
		"single quotes":                             {[]string{"A='b c'\n"}, []string{"A=b c"}},
		"quotes need not match":                     {[]string{"A='b c\"\n"}, []string{"A=b c"}},
		"quotes inside stay":                        {[]string{"A=\"b\"c'\n"}, []string{"A=b\"c"}},
		"a quote that opens and is all":             {[]string{"A=\"\n", "B=\"\"\n"}, []string{"A=", "B="}},
		"a quote at the end only stays":             {[]string{"A=b\"\n"}, []string{"A=b\""}},
		"a blank behind the closing quote":          {[]string{"A=\"b\" \n"}, []string{"A=b\" "}},
		"a # ends a quoted value, too":              {[]string{"A=\"b#c\"\n"}, []string{"A=b"}},
		"blanks around = belong to name and value":  {[]string{"A =b\nB= c\n"}, []string{"B= c"}},
		"an odd name":                               {[]string{"A-B=c\nA.B=c\n%=c\n=c\nC=d\n"}, []string{"C=d"}},
		"a name may begin with a digit":             {[]string{"1A=b\n"}, []string{"1A=b"}},
		"the later wins, in the place of the first": {[]string{"A=b\nC=d\n", "A=e\n"}, []string{"A=e", "C=d"}},
		"a name alone removes":                      {[]string{"A=b\nC=d\n", "A\nX\n"}, []string{"C=d"}},
		"joined lines":                              {[]string{"A=b\\\n c\\\nd\n"}, []string{"A=b cd"}},
		"a comment between joined lines":            {[]string{"A=b\\\n# x\n\nc\n"}, []string{"A=bc"}},
		"joined to nothing":                         {[]string{"A=b\nC=d\\\n"}, []string{"A=b"}},
		"any byte in a value":                       {[]string{"A=\xff\x01=b\n"}, []string{"A=\xff\x01=b"}},
		"a NUL ends the file":                       {[]string{"A=b\nB=\x00\nC=d\n", "D=e\n"}, []string{"A=b", "D=e"}},
		"a line too long ends the file":             {[]string{"A=b\nB=" + strings.Repeat("x", maxFileLine) + "\nC=d\n"}, []string{"A=b"}},
		"shell syntax means nothing":                {[]string{"A=$(id) `id` ${B}\n"}, []string{"A=$(id) `id` ${B}"}},
		"nothing":                                   {[]string{"", "\n", "\\\n", "\\"}, []string{}},
	} {
		var f Files
		for _, text := range c.texts {
			f.Read([]byte(text))
		}
		assert.Equal(t, c.want, entries(&f), claim)
	}
}

func TestFilesAreBounded(t *testing.T) {
	var f Files
	var many strings.Builder
	for i := range 2 * maxFileVars {
		many.WriteString("V" + strings.Repeat("x", i) + "=1\n")
	}
	f.Read([]byte(many.String()))
	assert.LessOrEqual(t, len(f.Entries), maxFileVars)
	f.Reset()
	for range 100 {
		f.Read([]byte("A=" + strings.Repeat("x", 8000) + "\n"))
	}
	assert.LessOrEqual(t, len(f.text), maxFileText)
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte("export A=\"b c\" # d\nA\nB='c\\\nd\n"), []byte("A=b"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var files Files
		files.Read(a)
		files.Read(b)
		require.LessOrEqual(t, len(files.Entries), maxFileVars)
		seen := map[string]bool{}
		for _, e := range files.Entries {
			name, _, ok := strings.Cut(string(e), "=")
			require.True(t, ok)
			require.NotEmpty(t, name)
			require.False(t, seen[name], "each name once")
			seen[name] = true
			require.NotContains(t, string(e), "\x00")
			require.NotContains(t, string(e), "\n")
			require.Zero(t, e[:len(e)+1][len(e)], "a NUL follows")
		}
	})
}
