package tty

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
	"jail/internal/sys"
	"jail/internal/wire"
)

func open(t *testing.T) (master, slave *os.File) {
	master, slave, err := pty.Open()
	require.NoError(t, err)
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

// settle waits until the kernel has handed on what was written to a master, whose
// slave is never readable in this state, so that poll looks after it.
func settle(t *testing.T, slave *os.File) {
	for range 20 {
		ready(int(slave.Fd()), sys.PollIn)
		time.Sleep(time.Millisecond)
	}
}

// typeInto types into a new terminal.
func typeInto(t *testing.T, master, slave *os.File, modes *wire.Termios, typed []byte, stopped bool) {
	require.NoError(t, Type(int(master.Fd()), int(slave.Fd()), modes, typed))
	fds := [1]sys.PollFD{{FD: int32(master.Fd()), Events: sys.PollIn | pollPri}}
	n, err := sys.Poll(fds[:], 20_000)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, Typed(int(master.Fd()), int(slave.Fd()), modes, stopped))
}

const pollPri = 0x2

// drain reads what is there: each read as one string.
func drain(t *testing.T, f *os.File) (reads []string) {
	for ready(int(f.Fd()), sys.PollIn) {
		buf := make([]byte, 8192)
		n, err := sys.Read(int(f.Fd()), buf)
		require.NoError(t, err)
		reads = append(reads, string(buf[:n]))
	}
	return reads
}

// TestTypedAheadMovesFromTerminalToTerminal types on one terminal, takes it from
// there, types it into another, and looks at what is read there: the same as it would
// have been on the first.
func TestTypedAheadMovesFromTerminalToTerminal(t *testing.T) {
	full := strings.Repeat("0123456789abcde\n", 1000)
	for claim, typed := range map[string]string{
		"nothing":                         "",
		"a line":                          "abc\n",
		"a line that ends in a return":    "abc\r",
		"an end of file":                  "\x04",
		"a line and an end of file":       "abc\n\x04",
		"an end of file within a line":    "abc\x04def\n",
		"two ends and a line":             "\x04\x04abc\n",
		"the beginning of a line":         "abc",
		"a mended line":                   "abx\x7fc\n",
		"a killed line":                   "abc\x15def\n",
		"a quoted end of file":            "a\x16\x04b\n",
		"a quoted newline":                "a\x16\nb\n",
		"a quoted quote":                  "\x16\x16\n",
		"a quoted interrupt":              "\x16\x03\n",
		"a quoted stop":                   "\x16\x13\n",
		"a quoted NUL":                    "a\x16\x00\n",
		"everything that is no control":   "\x80\xff\xfe ~\n",
		"lines and a beginning":           "a\nb\nc\nd",
		"as much as the queue holds":      full[:wire.MaxTyped],
		"as much, no line among it":       strings.Repeat("x", wire.MaxTyped),
		"much of it, by lines":            full[:1600],
		"a queue that ends with an end":   full[:wire.MaxTyped-1] + "\x04",
		"a queue that ends with a line":   full[:wire.MaxTyped-15],
		"a queue with a line's beginning": full[:wire.MaxTyped-3],
	} {
		t.Run(claim, func(t *testing.T) {
			put := func() (master, slave *os.File, modes wire.Termios) {
				master, slave = open(t)
				modes, err := GetTermios(int(slave.Fd()))
				require.NoError(t, err)
				if typed != "" {
					_, err = master.WriteString(typed)
					require.NoError(t, err)
				}
				settle(t, slave)
				drain(t, master) // the echo
				return master, slave, modes
			}
			readAll := func(slave, master *os.File) (reads []string) {
				reads = drain(t, slave)
				// What was not a line yet can still be mended.
				_, err := master.WriteString("yz\x7fx\n")
				require.NoError(t, err)
				settle(t, slave)
				return append(reads, drain(t, slave)...)
			}
			m, s, modes := put()
			signals := len(claim)%2 == 0
			taken, err := Take(nil, int(s.Fd()), &modes, signals)
			require.NoError(t, err)
			assert.False(t, taken.Stopped)
			assert.Empty(t, drain(t, m), "nothing is echoed again")
			assert.Empty(t, drain(t, s), "nothing is left")
			raw, err := GetTermios(int(s.Fd()))
			require.NoError(t, err)
			if signals {
				assert.Equal(t, Interruptible(modes), raw)
			} else {
				assert.Equal(t, Raw(modes), raw)
			}

			master, slave := open(t)
			typeInto(t, master, slave, &modes, taken.Typed, taken.Stopped)
			assert.Empty(t, drain(t, master), "nor there")
			got, err := GetTermios(int(slave.Fd()))
			require.NoError(t, err)
			assert.Equal(t, modes, got)
			oracleMaster, oracleSlave, _ := put()
			assert.Equal(t, readAll(oracleSlave, oracleMaster), readAll(slave, master))
		})
	}
}

// TestTakeLeavesWhatComesLater: what is typed after Take is neither echoed nor
// interpreted, and comes after what was.
func TestTakeLeavesWhatComesLater(t *testing.T) {
	master, slave := open(t)
	modes, err := GetTermios(int(slave.Fd()))
	require.NoError(t, err)
	_, _ = master.WriteString("early")
	settle(t, slave)
	assert.Equal(t, []string{"early"}, drain(t, master))
	taken, err := Take(nil, int(slave.Fd()), &modes, false)
	require.NoError(t, err)
	assert.Equal(t, "early", string(taken.Typed))
	_, _ = master.WriteString("late\r\x04\x16")
	settle(t, slave)
	assert.Equal(t, []string{"late\r\x04\x16"}, drain(t, slave))
	assert.Empty(t, drain(t, master))
}

// TestTakeIsExactWhileBytesCome: each byte is echoed once, by this terminal or, later,
// by the next, whenever it comes.
func TestTakeIsExactWhileBytesCome(t *testing.T) {
	rounds, slow := 200, os.Getenv(slowEnv) != ""
	if slow {
		rounds = 60
	}
	for round := range rounds {
		master, slave := open(t)
		modes, err := GetTermios(int(slave.Fd()))
		require.NoError(t, err)
		var want bytes.Buffer
		done := make(chan struct{})
		go func() {
			defer close(done)
			if slow {
				time.Sleep(time.Duration(round) * 250 * time.Microsecond)
			}
			for i := range 60 {
				line := strings.Repeat(string(rune('a'+i%26)), 1+i%7) + "\n"
				want.WriteString(line)
				_, _ = master.WriteString(line)
				if slow {
					time.Sleep(time.Duration(round) * 2 * time.Microsecond)
				}
			}
		}()
		if !slow {
			time.Sleep(time.Duration(round) * 2 * time.Microsecond)
		}
		taken, err := Take(nil, int(slave.Fd()), &modes, false)
		require.NoError(t, err)
		<-done
		settle(t, slave)
		late := string(taken.Later) + strings.Join(drain(t, slave), "")
		require.Equal(t, want.String(), string(taken.Typed)+strings.ReplaceAll(late, "\r", "\n"))
		echo := strings.ReplaceAll(strings.Join(drain(t, master), ""), "\r\n", "\n")
		require.Equal(t, string(taken.Typed), echo, "what was taken has been echoed, and nothing else")
		require.Equal(t, len(taken.Typed), taken.Count)
		master.Close()
		slave.Close()
	}
}

func TestStoppedOutputStaysStopped(t *testing.T) {
	master, slave := open(t)
	modes, err := GetTermios(int(slave.Fd()))
	require.NoError(t, err)
	_, _ = master.WriteString("a\x13b\n")
	settle(t, slave)
	taken, err := Take(nil, int(slave.Fd()), &modes, false)
	require.NoError(t, err)
	assert.True(t, taken.Stopped)
	assert.Equal(t, "ab\n", string(taken.Typed))
	for _, stopped := range []bool{true, false} {
		master, slave := open(t)
		typeInto(t, master, slave, &modes, taken.Typed, stopped)
		assert.Equal(t, !stopped, ready(int(slave.Fd()), sys.PollOut))
		assert.Equal(t, []string{"ab\n"}, drain(t, slave))
		_, _ = master.WriteString("\x11")
		settle(t, slave)
		assert.True(t, ready(int(slave.Fd()), sys.PollOut), "VSTART lets it go")
		_, err := slave.WriteString("x")
		require.NoError(t, err)
	}
}

func TestNonCanonicalTerminals(t *testing.T) {
	master, slave := open(t)
	modes, err := GetTermios(int(slave.Fd()))
	require.NoError(t, err)
	modes.Lflag &^= syscall.ICANON
	modes.CC[syscall.VMIN] = 1
	require.NoError(t, SetTermios(int(slave.Fd()), &modes))
	_, _ = master.WriteString("a\x04\x00\x16\n")
	settle(t, slave)
	taken, err := Take(nil, int(slave.Fd()), &modes, false)
	require.NoError(t, err)
	m, s := open(t)
	typeInto(t, m, s, &modes, taken.Typed, false)
	assert.Equal(t, []string{"a\x04\x00\x16\n"}, drain(t, s))
}

// TestTakeLosesNothingOfAFlood has more come than a terminal can hold.
func TestTakeLosesNothingOfAFlood(t *testing.T) {
	line := "0123456789012345678901234567890123456789\n"
	want := strings.Repeat(line, 400)
	slow := os.Getenv(slowEnv) != ""
	for round := range 100 {
		master, slave := open(t)
		modes, err := GetTermios(int(slave.Fd()))
		require.NoError(t, err)
		go func() {
			buf := make([]byte, 64<<10)
			for {
				if n, err := master.Read(buf); n == 0 || err != nil {
					return
				}
			}
		}()
		begun := make(chan struct{})
		go func() {
			close(begun)
			if slow {
				time.Sleep(time.Duration(round) * 500 * time.Microsecond)
			}
			_, _ = master.WriteString(want)
		}()
		if <-begun; !slow {
			time.Sleep(time.Duration(round) * 5 * time.Microsecond)
		}
		taken, err := Take(nil, int(slave.Fd()), &modes, false)
		require.NoError(t, err)
		got := string(taken.Typed) + string(taken.Later)
		for end := time.Now().Add(2 * time.Second); len(got) < len(want) && time.Now().Before(end); {
			if !ready(int(slave.Fd()), sys.PollIn) {
				time.Sleep(100 * time.Microsecond)
				continue
			}
			buf := make([]byte, 4096)
			n, err := sys.Read(int(slave.Fd()), buf)
			require.NoError(t, err)
			got += string(buf[:n])
		}
		got = strings.ReplaceAll(got, "\r", "\n")
		require.Equal(t, len(want), len(got), "round %d", round)
		require.Equal(t, want, got)
		master.Close()
		slave.Close()
	}
}

const slowEnv = "JAIL_TEST_SLOW_IOCTL"

// TestTakeWhereItIsSlow: both hold where each ioctl(2) takes three milliseconds, so that
// bytes come between any two of them.
func TestTakeWhereItIsSlow(t *testing.T) {
	strace := needs.Program(t, "strace")
	for _, test := range []string{"TestTakeLosesNothingOfAFlood", "TestTakeIsExactWhileBytesCome"} {
		t.Run(test, func(t *testing.T) {
			cmd := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=ioctl", "-e", "inject=ioctl:delay_exit=3000",
				os.Args[0], "-test.run=^"+test+"$")
			cmd.Env = append(os.Environ(), slowEnv+"=yes")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Contains(t, string(out), "PASS")
		})
	}
}

// TestKeysMakeTheSignalsOfTheKernel asks a terminal which characters make signals: they
// discard the line before them.
func TestKeysMakeTheSignalsOfTheKernel(t *testing.T) {
	master, slave := open(t)
	usual, err := GetTermios(int(slave.Fd()))
	require.NoError(t, err)
	usual.Iflag &^= syscall.IXON
	usual.Lflag &^= syscall.ECHO
	for _, erases := range []int{syscall.VERASE, syscall.VWERASE, syscall.VKILL} {
		usual.CC[erases] = 0
	}
	usual.CC[syscall.VMIN] = 255 // more than there is: poll looks after what was written
	made := 0
	for claim, change := range map[string]func(*wire.Termios){
		"as usual":              func(*wire.Termios) {},
		"no signals":            func(m *wire.Termios) { m.Lflag &^= syscall.ISIG },
		"no quotes":             func(m *wire.Termios) { m.Lflag &^= syscall.IEXTEN },
		"no lines":              func(m *wire.Termios) { m.Lflag &^= syscall.ICANON },
		"others":                func(m *wire.Termios) { m.CC[syscall.VINTR], m.CC[syscall.VLNEXT] = 'x', 'q' },
		"a quote that is one":   func(m *wire.Termios) { m.CC[syscall.VINTR] = 0x16 },
		"none":                  func(m *wire.Termios) { m.CC[syscall.VQUIT], m.CC[syscall.VSUSP] = 0, 0 },
		"seven bits":            func(m *wire.Termios) { m.Iflag |= syscall.ISTRIP },
		"done by somebody else": func(m *wire.Termios) { m.Lflag |= extproc },
	} {
		modes := usual
		change(&modes)
		for _, before := range []string{"", "\x16", "\x16\x16", "q"} {
			for c := range 256 {
				require.NoError(t, SetTermios(int(slave.Fd()), &modes))
				text := before + string([]byte{byte(c)})
				_, err := master.WriteString("kept" + text)
				require.NoError(t, err)
				ready(int(slave.Fd()), sys.PollIn)
				plain := modes // what is no line yet can be read then
				plain.Lflag &^= syscall.ICANON
				plain.CC[syscall.VMIN] = 1
				require.NoError(t, SetTermios(int(slave.Fd()), &plain))
				want := !strings.HasPrefix(strings.Join(drain(t, slave), ""), "kept")
				var keys Keys
				got := false
				for _, b := range []byte(text) {
					got = keys.Signal(&modes, b) != 0 || got
				}
				if want {
					made++
				}
				require.Equal(t, want, got, "%s: %q", claim, text)
			}
		}
	}
	assert.NotZero(t, made)
	var keys Keys
	for c, want := range map[byte]syscall.Signal{3: syscall.SIGINT, 0x1c: syscall.SIGQUIT, 0x1a: syscall.SIGTSTP} {
		assert.Equal(t, want, keys.Signal(&usual, c))
	}
}
