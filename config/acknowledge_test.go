package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAcknowledge(t *testing.T) {
	many := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(`"a",`, n), ",") + "]" }
	for claim, c := range map[string]struct {
		host, jail string
		fault      string
		yes        bool // sshd-password of jail web
		hostYes    bool
	}{
		"nothing":                      {},
		"for the host and every jail":  {host: `["sshd-password"]`, yes: true, hostYes: true},
		"for a jail":                   {jail: `["x", "sshd-password"]`, yes: true},
		"another":                      {jail: `["sshd-passwor"]`},
		"no id":                        {jail: `["sshd password"]`, fault: `"sshd password" is no id of a finding`},
		"an empty id":                  {jail: `[""]`, fault: "is no id of a finding"},
		"as long as it may be":         {jail: `["` + strings.Repeat("a", maxFindingID) + `"]`},
		"one longer":                   {jail: `["` + strings.Repeat("a", maxFindingID+1) + `"]`, fault: "is no id of a finding"},
		"a word that is not in a list": {jail: `"x"`, fault: "must be an array of ids"},
		"as many as there may be":      {jail: many(maxAcknowledged)},
		"one more":                     {jail: many(maxAcknowledged + 1), fault: fmt.Sprintf("use at most %d", maxAcknowledged)},
		"a number":                     {jail: `[1]`, fault: "must be a string in quotes"},
	} {
		dir, opt := tree(t)
		registry := dir + "/jail.toml"
		text := "version = 1\n"
		if c.host != "" {
			text += "[host]\nacknowledge = " + c.host + "\n"
		}
		text += "[jail.web]\nrootfs = \"" + dir + "/jails/web\"\nusers = [\"alice\"]\n"
		if c.jail != "" {
			text += "acknowledge = " + c.jail + "\n"
		}
		write(t, registry, text)
		reg, err := Load(registry, opt)
		require.NoError(t, err, claim)
		if c.fault != "" {
			assert.Contains(t, reg.Errors().Error(), c.fault, claim)
			continue
		}
		require.Empty(t, reg.Errors(), claim)
		assert.Equal(t, c.yes, reg.Acknowledges("sshd-password", "web"), claim)
		assert.Equal(t, c.hostYes, reg.Acknowledges("sshd-password", ""), claim)
		assert.Equal(t, c.hostYes, reg.Acknowledges("sshd-password", "other"), claim)
	}
}

func TestHostTableOfADropIn(t *testing.T) {
	dir, opt := tree(t)
	registry := dir + "/jail.toml"
	write(t, registry, "version = 1\n")
	write(t, dir+"/jail.d/a.toml", "version = 1\n[host]\nacknowledge = [\"x\"]\n")
	reg, err := Load(registry, opt)
	require.NoError(t, err)
	assert.Contains(t, reg.Errors().Error(), "belongs in the main file")
	assert.False(t, reg.Acknowledges("x", ""))
}
