package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
)

// TestNothingIsPrepared: what one verb needs is not made at the start of all others, serve
// among them, which would have it for good, and a size class of the allocator with it (20 KiB).
// A regular expression is, or a map, where it is a package's variable.
func TestNothingIsPrepared(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1") // package runtime
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^init (jail/(?:internal|config)\S*) .* clock, (\d+) bytes`).FindAllStringSubmatch(string(out), -1)
	require.NotEmpty(t, lines, "%s", out)
	for _, l := range lines {
		bytes, err := strconv.Atoi(l[2])
		require.NoError(t, err)
		assert.LessOrEqual(t, bytes, 1<<10, l[1])
	}
}

// TestFaults: what is not done because of the registry is said with why.
func TestFaults(t *testing.T) {
	many := config.Errors{{File: "a.toml", Line: 1, Msg: "one"}, {File: "b.toml", Line: 2, Msg: "two"}}
	assert.Equal(t, "jail-init: "+many[0].Error()+"\njail-init: "+many[1].Error(), faults(many, many))
	assert.Equal(t, "jail-init: nothing is added: "+many[0].Error()+", and 1 more", faults(fmt.Errorf("nothing is added: %w", many), many))
	assert.Equal(t, "jail-init: nothing is added: "+many[1].Error(), faults(fmt.Errorf("nothing is added: %w", many[1:]), many[1:]))
}

// TestWrongOptions: who mistypes is told in one line what, and where the right word is; help is about the verb.
func TestWrongOptions(t *testing.T) {
	for line, says := range map[string]string{
		"add x --frob":     "add: there is no option --frob; jail-init help add shows what it takes",
		"add x --uid root": `add: invalid value "root" for flag --uid: must be a number from 1 to 4294967294, and not 65535; jail-init help add shows what it takes`,
		"top -x":           "top: there is no option -x; jail-init help top shows what it takes",
		"rm --purge":       "rm takes 1 argument, not 0; jail-init help rm shows what it takes",
		"stop --grace":     "stop: flag needs an argument: --grace; jail-init help stop shows what it takes",
		"help x":           `unknown verb "x"; jail-init help lists them`,
	} {
		words := strings.Fields(line)
		c, err := defaults(), error(nil)
		switch words[0] {
		case "add":
			err = c.add(words[1:])
		case "top":
			err = c.top(words[1:])
		case "rm":
			err = c.remove(words[1:])
		case "stop":
			err = c.stop(words[1:])
		default:
			err = help(words[1:])
		}
		assert.Equal(t, usageError(says), err, line)
	}
	assert.Equal(t, "    reload                    have serve read the registry again, and say what came of it\n", usageOf("reload"))
	assert.Equal(t, 3, strings.Count("\n"+usageOf("add"), "\n    add "))
	assert.NotContains(t, usageOf("help"), "ordinary user")
	assert.Equal(t, imageUsage, usageOf("image"))
	assert.Empty(t, usageOf("frob"))
}

// TestErrorsAreForATerminal: an error may name what a tenant has named.
func TestErrorsAreForATerminal(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	was := os.Stderr
	os.Stderr = w
	one := report(&os.PathError{Op: "open", Path: "/home/\x1b]0;x\x07", Err: syscall.ENOENT})
	many := report(config.Errors{{File: "x", Msg: "two\u009b2J"}})
	os.Stderr = was
	require.NoError(t, w.Close())
	said, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, []int{exitFailure, exitFailure}, []int{one, many})
	assert.Equal(t, `jail-init: open /home/\x1b]0;x\a: no such file or directory`+"\n"+`jail-init: x: two\u009b2J`+"\n", string(said))
}
