package environ

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAccepted(t *testing.T) {
	patterns := []string{"FOO", "BAR_*", "S*", "H*", "P*"} // the last ones the registry refuses
	for entry, want := range map[string]bool{
		"FOO=1": true, "FOOD=1": false, "FO=1": false, "BAR_X=1": true, "BAR_=1": true, "BAR=1": false,
		"STUFF=1": true, "ANY=1": false,
		"SSH_AUTH_SOCK=/x": false, "SHELL=/x": false, "LD_PRELOAD=/x": false, "BASH_ENV=/x": false, "BASH_FUNC_x%%=1": false,
		"PATH=/x": false, "HOME=/x": false, "FOO": false, "=1": false, "": false, "F;O=1": false,
	} {
		assert.Equal(t, want, Enters([]byte(entry), patterns), "%q", entry)
	}
	assert.False(t, Enters([]byte("FOO=1"), nil))
	// As sshd's match_pattern has them.
	for _, row := range []struct {
		pattern, name string
		want          bool
	}{
		{"FOO*", "FOO", true}, {"FOO*", "FOOD", true}, {"FOO?", "FOO", false}, {"FOO?", "FOOD", true}, {"FOO?", "FOODS", false},
		{"A*B*C", "ABC", true}, {"A*B*C", "AxByBzC", true}, {"A*B*C", "AxByBz", false}, {"A**", "A", true}, {"A*?", "A", false}, {"A*?", "AB", true},
		{"*_TOKEN", "X_TOKEN", true}, {"*_TOKEN", "X_TOKENS", false}, {"*", "X", true}, {"?", "X", true}, {"A", "", false}, {"A*A*A*A*B", "AAAAAAAAAAAAAAAAAAAA", false},
		{"A*", "A" + strings.Repeat("x", maxMatch), false}, {"A*", "A" + strings.Repeat("x", maxMatch-1), true},
	} {
		assert.Equal(t, row.want, matches(row.pattern, []byte(row.name)), "%s %s", row.pattern, row.name)
	}
	assert.False(t, Enters([]byte("SSH_TOKEN=1"), []string{"*_TOKEN"}), "a reserved name, whatever the pattern")
	assert.False(t, accepted([]byte(MotdShown), []string{"MOTD_*"}))
	assert.True(t, Enters([]byte("LANGUAGE=de:en"), []string{"LANG*"}))
	assert.False(t, Enters([]byte("LANGUAGE=/tmp/x"), []string{"LANG*"}), "a path to catalogues")
}

func TestReserved(t *testing.T) {
	for pattern, want := range map[string]bool{
		"FOO": false, "BAR_*": false, "EDITOR": false, "TZ": false, "SSHD_*": false, "LDAP": false, "BASH": false, "P": false, "PATHS": false,
		"PATH": true, "HOME": true, "H*": true, "*": true, "SSH_X": true, "SSH_*": true, "SSH*": true, "L*": true, "LD_PRELOAD": true,
		"*_TOKEN": true, "????": true, "?": true, "B?SH_ENV": true, "X*_HOME": true, "L?_X": true, "M*L": true, "APP_?": false, "A*Z": false, "G?T_*": false,
		"LD_X*": true, "XDG_CONFIG_HOME": true, "XDG_*": true, "BASH_ENV": true, "BASH_*": true, "BASH*": true, "_": true, "IFS": true, "PA*": true,
	} {
		assert.Equal(t, want, Reserved(pattern), pattern)
	}
}

func TestPatterns(t *testing.T) {
	assert.Equal(t, []string{"FOO", "BAR_*"}, Patterns(nil, "FOO\nBAR_*\n"))
	for claim, text := range map[string]string{
		"nothing":        "",
		"no end of line": "FOO",
		"an empty line":  "FOO\n\n",
		"too many stars": "A*B*C*D*E*F\n",
		"a class":        "F[O]\n",
		"an odd name":    "F-O\n",
		"a NUL":          "F\x00O\n",
		"too many":       strings.Repeat("A\n", MaxAccept+1),
		"too long":       strings.Repeat("A", MaxAcceptFile) + "\n",
	} {
		assert.Empty(t, Patterns(nil, text), claim)
	}
}

func TestRecorded(t *testing.T) {
	for text, want := range map[string][3]any{
		"": {false, false, ""}, "FOO\n": {false, false, "FOO\n"}, RecordOutput: {true, false, ""}, RecordInput + "FOO\n": {true, true, "FOO\n"},
		"!record": {false, false, "!record"}, "!record x\n": {false, false, "!record x\n"}, "FOO\n" + RecordOutput: {false, false, "FOO\n" + RecordOutput},
	} {
		output, input, patterns := Recorded(text)
		assert.Equal(t, want, [3]any{output, input, patterns}, "%q", text)
	}
	assert.Empty(t, Patterns(nil, RecordOutput), "no pattern looks like it")
}

func FuzzAccept(f *testing.F) {
	f.Add([]byte("FOO\nBAR_*\n"), []byte("FOO=1"))
	f.Fuzz(func(t *testing.T, text, entry []byte) {
		patterns := Patterns(nil, string(text))
		require.LessOrEqual(t, len(patterns), MaxAccept)
		for _, p := range patterns {
			// What a pattern stands for is what it is not refused for.
			if name := Name(entry); name != nil && len(p) < 20 && matches(p, name) && reservedName(name) {
				require.True(t, Reserved(p), "%s %s", p, name)
			}
		}
		if Enters(entry, patterns) {
			require.False(t, strings.HasPrefix(string(entry), "LD_"))
			require.NotEmpty(t, Name(entry))
		}
	})
}

func TestZone(t *testing.T) {
	for name, want := range map[string]bool{
		"UTC": true, "Europe/Paris": true, "America/Argentina/Buenos_Aires": true, "Etc/GMT+5": true,
		"": false, "/UTC": false, "UTC/": false, "a//b": false, "..": false, "../etc/passwd": false, "Europe/../x": false, "a b": false, ":x": false, "x\n": false,
	} {
		assert.Equal(t, want, ZoneName(name), "%q", name)
	}
	assert.Equal(t, "Europe/Paris", ZoneOfLink("/usr/share/zoneinfo/Europe/Paris"))
	assert.Equal(t, "Etc/UTC", ZoneOfLink("../usr/share/zoneinfo/Etc/UTC"))
	for _, target := range []string{"", "/zoneinfo/", "/etc/x", "/usr/share/zoneinfo/../x"} {
		assert.Empty(t, ZoneOfLink(target), target)
	}
	file := "TZif2" + strings.Repeat("\x00", 60) + "\nCET-1CEST,M3.5.0,M10.5.0/3\n"
	assert.Equal(t, "CET-1CEST,M3.5.0,M10.5.0/3", ZoneRule([]byte(file)))
	for claim, bad := range map[string]string{
		"nothing":         "",
		"no zone file":    strings.Replace(file, "TZif", "TZix", 1),
		"the old version": strings.Replace(file, "TZif2", "TZif\x00", 1),
		"cut off":         file[:len(file)-1],
		"no rule":         "TZif2" + strings.Repeat("\x00", 60) + "\n\n",
		"another byte":    strings.Replace(file, "CEST", "C\x1b[m", 1),
		"too long":        strings.Replace(file, "CEST", strings.Repeat("C", 99), 1),
		"no line before":  "TZif2" + strings.Repeat("x", 60) + "\n",
	} {
		assert.Empty(t, ZoneRule([]byte(bad)), claim)
	}
	assert.NotEqual(t, Sum([]byte("a")), Sum([]byte("b")))
}

func FuzzZone(f *testing.F) {
	f.Add([]byte("TZif2" + strings.Repeat("\x00", 60) + "\nUTC0\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		for _, c := range ZoneRule(file) {
			require.True(t, c > ' ' && c <= '~')
		}
		if name := ZoneOfLink(string(file)); name != "" {
			require.NotContains(t, "/"+name+"/", "/../")
		}
	})
}
