package enter

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/internal/wire"
)

// TestInvocation has the argv forms of sshd, su, sudo, runuser, login, cron and
// by hand: the shell inside gets what a shell would have got.
func TestInvocation(t *testing.T) {
	const dir = wire.RuntimeDir
	soc := func(cmd string) []string { return []string{"A=b", "SSH_ORIGINAL_COMMAND=" + cmd, "C=d"} }
	for claim, c := range map[string]struct {
		argv []string
		env  []string
		want invocation
	}{
		"su -":                                {[]string{"-jail-enter"}, nil, invocation{runtimeDir: dir, login: true}},
		"su":                                  {[]string{"jail-enter"}, nil, invocation{runtimeDir: dir}},
		"su -c":                               {[]string{"jail-enter", "-c", "x y"}, nil, invocation{runtimeDir: dir, args: []string{"-c", "x y"}}},
		"su - -c is a login shell":            {[]string{"-jail-enter", "-c", "x"}, nil, invocation{runtimeDir: dir, login: true, args: []string{"-c", "x"}}},
		"su -c x -- a b":                      {[]string{"jail-enter", "-c", "x", "a", "b"}, nil, invocation{runtimeDir: dir, args: []string{"-c", "x", "a", "b"}}},
		"su - -- -l":                          {[]string{"-jail-enter", "-l"}, nil, invocation{runtimeDir: dir, login: true, args: []string{"-l"}}},
		"su -f":                               {[]string{"jail-enter", "-f"}, nil, invocation{runtimeDir: dir, args: []string{"-f"}}},
		"a script and its arguments":          {[]string{"jail-enter", "a", "b"}, nil, invocation{runtimeDir: dir, args: []string{"a", "b"}}},
		"combined flags":                      {[]string{"jail-enter", "-lc", "x"}, nil, invocation{runtimeDir: dir, args: []string{"-lc", "x"}}},
		"long options are the shell's":        {[]string{"jail-enter", "--login", "-c", "x"}, nil, invocation{runtimeDir: dir, args: []string{"--login", "-c", "x"}}},
		"--version is the shell's":            {[]string{"jail-enter", "--version"}, nil, invocation{runtimeDir: dir, args: []string{"--version"}}},
		"an empty command":                    {[]string{"jail-enter", "-c", ""}, nil, invocation{runtimeDir: dir, args: []string{"-c", ""}}},
		"sshd's rc file is a command":         {[]string{"/usr/bin/jail-enter", "-c", "/bin/sh /home/x/.ssh/rc"}, nil, invocation{runtimeDir: dir, args: []string{"-c", "/bin/sh /home/x/.ssh/rc"}}},
		"no argv at all":                      {nil, nil, invocation{runtimeDir: dir}},
		"SOC is root's own leftover in su":    {[]string{"jail-enter", "-c", "x"}, soc("evil"), invocation{runtimeDir: dir, args: []string{"-c", "x"}}},
		"forced, a shell":                     {[]string{"jail-enter", "-c", "exec /usr/bin/jail-enter --forced"}, nil, invocation{runtimeDir: dir, forced: true, login: true}},
		"forced, a command":                   {[]string{"jail-enter", "-c", "exec /usr/bin/jail-enter --forced"}, soc("ls 'a\nb'"), invocation{runtimeDir: dir, forced: true, args: []string{"-c", "ls 'a\nb'"}}},
		"forced, exec of the empty string":    {[]string{"jail-enter", "-c", "exec /usr/bin/jail-enter --forced"}, soc(""), invocation{runtimeDir: dir, forced: true, args: []string{"-c", ""}}},
		"forced without exec":                 {[]string{"jail-enter", "-c", "/opt/j/jail-enter --forced"}, nil, invocation{runtimeDir: dir, forced: true, login: true}},
		"forced through another shell":        {[]string{"/usr/bin/jail-enter", "--forced"}, soc("x"), invocation{runtimeDir: dir, forced: true, args: []string{"-c", "x"}}},
		"forced with a runtime directory":     {[]string{"jail-enter", "--runtime-dir", "/d", "--forced"}, nil, invocation{runtimeDir: "/d", forced: true, login: true}},
		"a runtime directory":                 {[]string{"jail-enter", "--runtime-dir", "/d", "-c", "x"}, nil, invocation{runtimeDir: "/d", args: []string{"-c", "x"}}},
		"more after the forced string":        {[]string{"jail-enter", "-c", "exec /usr/bin/jail-enter --forced", "a"}, nil, invocation{runtimeDir: dir, args: []string{"-c", "exec /usr/bin/jail-enter --forced", "a"}}},
		"another program is no forced string": {[]string{"jail-enter", "-c", "exec /usr/bin/xjail-enter --forced"}, nil, invocation{runtimeDir: dir, args: []string{"-c", "exec /usr/bin/xjail-enter --forced"}}},
		"a relative path is none":             {[]string{"jail-enter", "-c", "jail-enter --forced"}, nil, invocation{runtimeDir: dir, args: []string{"-c", "jail-enter --forced"}}},
		"a list of commands is none":          {[]string{"jail-enter", "-c", "/bin/id;/usr/bin/jail-enter --forced"}, nil, invocation{runtimeDir: dir, args: []string{"-c", "/bin/id;/usr/bin/jail-enter --forced"}}},
	} {
		got := parse(c.argv)
		got.resolve(c.env, make([]string, 2))
		if len(got.args) == 0 {
			got.args = nil
		}
		assert.Equal(t, c.want, got, claim)
	}
}

func TestTextFromTheJailIsQuoted(t *testing.T) {
	var l line
	l.quote([]byte("a\x1b[31m\n\xff"))
	assert.Equal(t, `a\x1b[31m\x0a\xff`, string(l.buf[:l.n]))
}
