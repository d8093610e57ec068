package config

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
	"jail/internal/wire"
)

func TestServices(t *testing.T) {
	reg, errs := load(t, testOptions(), jailText(`
[[jail.web.service]]
name = "cron"
exec = [ "/usr/sbin/cron", "-f" ]

[[jail.web.service]]
name    = "nginx"
exec    = [ "/usr/sbin/nginx", "-g", "daemon off;" ]
user    = "www-data"
restart = "always"
backoff = "5s"

[[jail.web.service]]
name = "once"
exec = [ "/bin/true" ]
user = "1000"
restart = "no"
`))
	require.Empty(t, errs)
	spec := &reg.Jails[0]
	assert.Equal(t, []jail.Service{
		{Name: "cron", Exec: []string{"/usr/sbin/cron", "-f"}, User: "root", Restart: jail.RestartOnFailure, Backoff: time.Second},
		{Name: "nginx", Exec: []string{"/usr/sbin/nginx", "-g", "daemon off;"}, User: "www-data", Restart: jail.RestartAlways, Backoff: 5 * time.Second},
		{Name: "once", Exec: []string{"/bin/true"}, UID: 1000, Restart: jail.RestartNo, Backoff: time.Second},
	}, spec.Services)
	assert.True(t, spec.Autostart, "a jail with services starts with the host")
	assert.Equal(t, wire.FreshRun, spec.Fresh)
	var who []wire.Identity
	for i := range spec.Services {
		who = append(who, spec.Services[i].Identity())
	}
	assert.Equal(t, []wire.Identity{
		{UID: 0, Name: "root", Shell: "/usr/sbin/cron"},
		{UID: wire.ByName, Name: "www-data", Shell: "/usr/sbin/nginx"},
		{UID: 1000, Shell: "/bin/true"},
	}, who)
}

const oneService = "[[jail.web.service]]\nname = \"s\"\nexec = [\"/s\"]\n"

func TestFreshAndAutostart(t *testing.T) {
	for lines, want := range map[string]jail.Spec{
		"":                               {},
		oneService:                       {Autostart: true, Fresh: wire.FreshRun},
		"autostart=false\n" + oneService: {Fresh: wire.FreshRun},
		"fresh=[]\n" + oneService:        {Autostart: true},
		`fresh=["/tmp"]`:                 {Fresh: wire.FreshTmp},
		`fresh=["/tmp", "/run"]`:         {Fresh: wire.FreshTmp | wire.FreshRun},
	} {
		reg, errs := load(t, testOptions(), jailText(lines))
		require.Empty(t, errs, lines)
		got := jail.Spec{Autostart: reg.Jails[0].Autostart, Fresh: reg.Jails[0].Fresh}
		assert.Equal(t, want, got, lines)
	}
	reg, errs := load(t, testOptions(), jailText("")+"[defaults]\nfresh = [\"/tmp\"]\n")
	require.Empty(t, errs)
	assert.Equal(t, wire.FreshTmp, reg.Jails[0].Fresh)
}

func TestServicesOfATemplate(t *testing.T) {
	text := "version = 1\n[jail.web]\nrootfs = \"/srv/web\"\nusers = [\"alice\"]\ntemplate = \"t\"\n" + "%s" +
		"[[template.t.service]]\nname = \"cron\"\nexec = [\"/cron\"]\n"
	reg, errs := load(t, testOptions(), strings.Replace(text, "%s", "", 1))
	require.Empty(t, errs)
	assert.Equal(t, "cron", reg.Jails[0].Services[0].Name)
	reg, errs = load(t, testOptions(), strings.Replace(text, "%s", oneService, 1))
	require.Empty(t, errs)
	require.Len(t, reg.Jails[0].Services, 1, "its own take the place of the template's")
	assert.Equal(t, "s", reg.Jails[0].Services[0].Name)
}

// TestWordsOfAService: what a template's service says in braces has to be one of the words, a jail's own says
// what it likes, and a name is never more than a name.
func TestWordsOfAService(t *testing.T) {
	reg, errs := load(t, testOptions(), jailText("[[jail.web.service]]\nname = \"s\"\nexec = [\"/bin/sh\", \"-c\", \"awk '{print}'\"]\n"))
	require.Empty(t, errs)
	assert.Equal(t, []string{"/bin/sh", "-c", "awk '{print}'"}, reg.Jails[0].Services[0].Exec)
	text := "version = 1\n[jail.web]\nrootfs = \"/srv/web\"\nusers = [\"alice\"]\ntemplate = \"t\"\n[[template.t.service]]\nname = \"s\"\n"
	for lines, says := range map[string]string{
		"exec = [\"/bin/awk\", \"{print}\"]\n":         `template.t.service[0].exec: "{print}" has a brace that belongs to none of {user}, {uid} and {home}`,
		"exec = [\"/s\"]\nuser = \"{\"\n":              `template.t.service[0].user: "{" has a brace`,
		"exec = [\"{user}\"]\n":                        `"alice" is relative`,
		"exec = [\"/s\"]\nuser = \"\\u001b[2J{user}\"": `"\x1b[2Jalice" cannot be a user inside`,
	} {
		_, errs := load(t, testOptions(), text+lines)
		if assert.NotEmpty(t, errs, lines) {
			assert.Contains(t, errs[len(errs)-1].Error(), says)
		}
	}
}

func TestFaultyServices(t *testing.T) {
	table := func(lines string) string { return "[[jail.web.service]]\n" + lines }
	for claim, tt := range map[string]struct{ lines, key, says string }{
		"no name":                    {table(`exec = ["/x"]`), "jail.web.service[0].name", `is missing, add name = "cron"`},
		"no program":                 {table(`name = "x"`), "jail.web.service[0].exec", `is missing, add exec =`},
		"a name of a path":           {table("name = \"a/b\"\nexec = [\"/x\"]"), "jail.web.service[0].name", `"a/b" cannot be used`},
		"a name that moves a cursor": {table("name = \"a\\u001b[2J\\n\"\nexec = [\"/x\"]"), "jail.web.service[0].name", `"a\x1b[2J\n" cannot be used`},
		"a name with a dot":          {table("name = \"a.b\"\nexec = [\"/x\"]"), "jail.web.service[0].name", `"a.b" cannot be used`},
		"two of a name":              {oneService + oneService, "jail.web.service[1].name", "service s is listed twice"},
		"a command line":             {table("name = \"x\"\nexec = \"/usr/sbin/cron -f\""), "jail.web.service[0].exec", "is a string, must be an array of strings"},
		"a number in it":             {table("name = \"x\"\nexec = [\"/x\", 1]"), "jail.web.service[0].exec", "is a whole number"},
		"nothing in it":              {table("name = \"x\"\nexec = []"), "jail.web.service[0].exec", "is empty"},
		"a program by name":          {table("name = \"x\"\nexec = [\"cron\"]"), "jail.web.service[0].exec", `"cron" is relative`},
		"a NUL":                      {table("name = \"x\"\nexec = [\"/x\", \"\\u0000\"]"), "jail.web.service[0].exec", "has a NUL in it"},
		"too many arguments":         {table("name = \"x\"\nexec = [\"/x\"" + strings.Repeat(`, "a"`, maxServiceArgs+1) + "]"), "jail.web.service[0].exec", "has 257 arguments"},
		"too long":                   {table("name = \"x\"\nexec = [\"/x\", \"" + strings.Repeat("a", maxServiceText) + "\"]"), "jail.web.service[0].exec", "has 1 arguments of"},
		"no user":                    {table("name = \"x\"\nexec = [\"/x\"]\nuser = \"\""), "jail.web.service[0].user", `"" cannot be a user inside`},
		"a user like an option":      {table("name = \"x\"\nexec = [\"/x\"]\nuser = \"-a\""), "jail.web.service[0].user", `"-a" cannot be`},
		"a user with a colon":        {table("name = \"x\"\nexec = [\"/x\"]\nuser = \"a:b\""), "jail.web.service[0].user", `"a:b" cannot be`},
		"a uid that is none":         {table("name = \"x\"\nexec = [\"/x\"]\nuser = \"65535\""), "jail.web.service[0].user", `"65535" cannot be`},
		"an unknown restart":         {table("name = \"x\"\nexec = [\"/x\"]\nrestart = \"never\""), "jail.web.service[0].restart", `"never" is not known, write "no"`},
		"an empty restart":           {table("name = \"x\"\nexec = [\"/x\"]\nrestart = \"\""), "jail.web.service[0].restart", `"" is not known`},
		"no pause":                   {table("name = \"x\"\nexec = [\"/x\"]\nbackoff = \"0\""), "jail.web.service[0].backoff", `"0" is no pause`},
		"a pause of days":            {table("name = \"x\"\nexec = [\"/x\"]\nbackoff = \"25h\""), "jail.web.service[0].backoff", `"25h" is no pause`},
		"an unknown key":             {table("name = \"x\"\nexec = [\"/x\"]\nrestarts = \"no\""), "jail.web.service[0].restarts", `did you mean "restart"?`},
		"one table":                  {"[jail.web.service]\nname = \"x\"", "jail.web.service", "is a table, must be an array of tables, write [[jail.web.service]]"},
		"too many":                   {manyServices(wire.MaxServices + 1), "jail.web.service", "are 65 services, a jail can have 64"},
		"another fresh directory":    {`fresh = ["/var/tmp"]`, "jail.web.fresh", `"/var/tmp" cannot be fresh at each start`},
		"one fresh directory alone":  {`fresh = "/run"`, "jail.web.fresh", "is a string, must be an array of strings"},
	} {
		_, errs := load(t, testOptions(), jailText(tt.lines))
		if assert.Len(t, errs, 1, "%s: %v", claim, errs) {
			assert.Equal(t, tt.key, errs[0].Key, claim)
			assert.Contains(t, errs[0].Error(), tt.says, claim)
		}
	}
	_, errs := load(t, testOptions(), jailText(manyServices(wire.MaxServices)))
	assert.Empty(t, errs)
}

func manyServices(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("[[jail.web.service]]\nname = \"s" + uintString(uint32(i)) + "\"\nexec = [\"/s\"]\n")
	}
	return b.String()
}
