package config

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

func TestSessionsKeys(t *testing.T) {
	reg, errs := load(t, testOptions(), jailText("max_sessions = 5\nsession_rate = 30\numask = \"027\"\nnice = 10\nrlimits = { nofile = 4096, fsize = \"1G\" }\n")+
		"[defaults]\nmax_sessions = 7\nrlimits = { nofile = 100, cpu = 60 }\n")
	require.Empty(t, errs)
	assert.Equal(t, wire.SessionLimits{
		Max: 5, PerMinute: 30, SetUmask: true, Umask: 0o27, Nice: 10, Rlimits: []wire.Rlimit{{Resource: 0, Value: 60}, {Resource: 1, Value: 1 << 30}, {Resource: 7, Value: 4096}},
	}, reg.Jails[0].Sessions)
	reg, errs = load(t, testOptions(), jailText(""))
	require.Empty(t, errs)
	assert.Equal(t, wire.SessionLimits{}, reg.Jails[0].Sessions)
	for lines, says := range map[string]string{
		"max_sessions = 0":          "is 0, use 1 to 1000",
		"max_sessions = 1001":       "is 1001, use 1 to 1000",
		"session_rate = 0":          "is 0, use 1 to 6000",
		"session_rate = 6001":       "is 6001, use 1 to 6000",
		"nice = -1":                 "is -1, use 0 to 19",
		"nice = 20":                 "is 20, use 0 to 19",
		`umask = "22"`:              `"22" is not a umask`,
		`umask = "1777"`:            `"1777" is not a umask`,
		`umask = "028"`:             `"028" is not a umask`,
		"umask = 22":                "is a whole number, must be a string",
		"rlimits = { core = 0 }":    `"core" is no limit that sessions can have`,
		"rlimits = { nofile = 5 }":  "5 is too little for any program",
		"rlimits = { nofile = -1 }": `"-1" is not a limit`,
		`rlimits = { as = "1X" }`:   `"1X" is not a limit`,
		"rlimits = { as = true }":   "is true or false, must be a number, or a size",
		"rlimits = 5":               "is a whole number, must be a table",
	} {
		_, errs := load(t, testOptions(), jailText(lines))
		if assert.Len(t, errs, 1, lines) {
			assert.Contains(t, errs[0].Error(), says, lines)
		}
	}
}
