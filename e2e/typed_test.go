package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// typedAhead is typed at once, when no session can be ready yet. The commands read
// late, so that the echo comes before all else also with plain sshd.
var typedAhead = map[string]struct{ typed, cmd string }{
	"a line and an end of file":     {"abc\n\x04", "sleep 0.3; cat; echo eof; exit 6"},
	"nothing but an end of file":    {"\x04", "sleep 0.3; cat; echo eof; exit 6"},
	"lines":                         {"one\ntwo\nthree\n\x04", "sleep 0.3; cat; exit 6"},
	"returns":                       {"one\rtwo\r\x04", "sleep 0.3; cat; exit 6"},
	"the beginning of a line":       {"abc\x04\x04", "sleep 0.3; cat; echo; exit 6"},
	"an end of file among lines":    {"a\n\x04b\n\x04", "sleep 0.3; cat; echo one; cat; echo two; exit 6"},
	"a line that is mended":         {"abx\x7fc\n\x04", "sleep 0.3; cat; exit 6"},
	"a line that is killed":         {"abc\x15def\n\x04", "sleep 0.3; cat; exit 6"},
	"a word that is erased":         {"abc def\x17xyz\n\x04", "sleep 0.3; cat; exit 6"},
	"a quoted end of file":          {"a\x16\x04b\n\x04", "sleep 0.3; od -c; exit 6"},
	"a quoted newline":              {"a\x16\nb\n\x04", "sleep 0.3; od -c; exit 6"},
	"a quoted interrupt":            {"a\x16\x03b\n\x04", "sleep 0.3; od -c; exit 6"},
	"a quoted quit and suspension":  {"\x16\x1c\x16\x1a\n\x04", "sleep 0.3; od -c; exit 6"},
	"a quoted quote":                {"a\x16\x16b\n\x04", "sleep 0.3; od -c; exit 6"},
	"a stop and a start":            {"a\x13b\n\x11\x04", "sleep 0.3; cat; exit 6"},
	"control characters":            {"\x01\x02\x1b[A\x7f\n\x04", "sleep 0.3; od -c; exit 6"},
	"letters of other alphabets":    {"\u00e4\u4e2d\n\x04", "sleep 0.3; cat; exit 6"},
	"every other byte":              {"\x80\xfe\xff ~\n\x04", "sleep 0.3; od -c; exit 6"},
	"a line that is read by itself": {"abc\nexit 7\n", "sleep 0.3; read x; echo got $x; read y; $y"},
	"more than a terminal holds":    {strings.Repeat("0123456789012345678901234567890123456789\n", 400) + "\x04", "sleep 0.5; sha256sum; exit 6"},
	"a terminal made raw":           {"abc\n", "sleep 0.3; stty raw -echo; head -c 4 | od -c; exit 6"},
}

func typed(typed, cmd string) ask {
	return ask{cmd: cmd, tty: xterm(), stdin: typed, wire: true}
}

// What is typed before the session is ready is echoed once and interpreted once, as by
// plain sshd.
func TestTypedAhead(t *testing.T) {
	standard(t)
	for claim, c := range typedAhead {
		t.Run(claim, func(t *testing.T) {
			if len(c.typed) < 4096 {
				t.Parallel() // what fills a terminal is for itself
			}
			r := same(t, typed(c.typed, c.cmd))
			assert.NotEqual(t, result{}, r)
		})
	}
	t.Run("by OpenSSH's client, often", func(t *testing.T) {
		// Through a master it would have no terminal to take the modes from.
		ssh := func(t *testing.T, d door) result {
			return runCommand(t, exec.Command("ssh", "-F", sshDir+"/config", "-S", "none", "-tt", "-l", d.user(work), "--", string(d), "cat; echo eof; exit 6"),
				strings.NewReader("abc\n\x04"))
		}
		want := ssh(t, plain)
		require.Equal(t, "abc\r\nabc\r\neof\r\n", want.stdout)
		require.Equal(t, 6, want.status)
		for _, d := range jailDoors {
			for n := range 10 {
				t.Run(fmt.Sprint(d, n), func(t *testing.T) {
					t.Parallel()
					assertSame(t, string(d), want, ssh(t, d))
				})
			}
		}
	})
	t.Run("a script for a shell", func(t *testing.T) {
		each(t, func(t *testing.T, d door) {
			r := run(t, d, ask{shell: true, tty: xterm(), wire: true, stdin: "PS1=; stty -echo\necho o''ne $((1 + 1))\nexit 3\n"})
			assert.Equal(t, 3, r.status)
			assert.Equal(t, 1, strings.Count(r.stdout, "one 2\r\n"), "%q", r.stdout)
		})
	})
	t.Run("in pieces, from the start until long after", func(t *testing.T) {
		const cmd = "stty -echo; echo ready; cat; exit 5"
		each(t, func(t *testing.T, d door) {
			t.Parallel()
			for pause := time.Duration(0); pause < 30*time.Millisecond; pause += 3 * time.Millisecond {
				l := open(t, d, onTTY(cmd))
				want := ""
				for i := range 12 {
					line := fmt.Sprintf("line %d of them", i)
					l.send(line + "\n")
					want += line + "\r\n"
					time.Sleep(pause)
				}
				l.expect("ready\r\n")
				l.send("\x04")
				r := l.wait()
				assert.Equal(t, 5, r.status)
				// Each line was echoed or not, and said once, in order, by cat.
				_, said, _ := strings.Cut(r.stdout, "ready\r\n")
				assert.Equal(t, want, said, "%q", r.stdout)
			}
		})
	})
	t.Run("while the machine is busy", func(t *testing.T) {
		for range 4 {
			busy := exec.Command("sh", "-c", "while :; do :; done")
			require.NoError(t, busy.Start())
			defer func() { busy.Process.Kill(); busy.Wait() }()
		}
		for range 5 {
			for _, claim := range []string{"a line and an end of file", "an end of file among lines", "a line that is mended"} {
				same(t, typed(typedAhead[claim].typed, typedAhead[claim].cmd))
			}
		}
	})
}

func TestTypedAheadOfAColdStart(t *testing.T) {
	own(t, standardRegistry())
	for _, claim := range []string{"a line and an end of file", "an end of file among lines", "a line that is mended", "a stop and a start", "more than a terminal holds"} {
		c := typedAhead[claim]
		want := run(t, plain, typed(c.typed, c.cmd))
		for _, d := range jailDoors {
			_ = command(initPath, "stop", "debian") // it may not run yet
			assertSame(t, claim+" through "+string(d), want, run(t, d, typed(c.typed, c.cmd)))
		}
	}
}

// In a terminal of the administrator's the shell has the next line when the jail's has
// ended, and what was typed while su began is the jail's.
func TestTypedAheadOfSu(t *testing.T) {
	standard(t)
	for _, form := range []string{"su - debian -c 'cat; exit 5'", "su debian -c 'cat; exit 5'"} {
		t.Run(form, func(t *testing.T) {
			c := onConsole(t, exec.Command("sh", "-c", "sleep 0.5; "+form+"; echo status $?; cat"))
			c.send("abc\nx\x7fdef\n\x04")
			c.expect(`^abc\r\nx\x08 \x08def\r\nabc\r\ndef\r\nstatus 5\r\n`)
			c.send("for the shell\n")
			c.expect(`for the shell\r\nfor the shell\r\n`)
			c.send("\x04")
			assert.Zero(t, c.wait())
		})
	}
}
