package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

// dialogue is a conversation with a program: what is sent, and what has been
// heard of it. expect goes on where the last one matched.
type dialogue struct {
	t      testing.TB
	in     io.WriteCloser
	source io.Reader

	mu   sync.Mutex
	text bytes.Buffer // all that was heard
	mark int          // what expect has consumed of it
	end  bool
}

// listen hears until the end.
func (d *dialogue) listen() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := d.source.Read(buffer)
		d.mu.Lock()
		d.text.Write(buffer[:n])
		d.end = err != nil
		d.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (d *dialogue) heard() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// unread is what expect has not consumed yet.
func (d *dialogue) unread() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return string(d.text.Bytes()[d.mark:])
}

func (d *dialogue) send(text string) {
	d.t.Helper()
	_, err := io.WriteString(d.in, text)
	require.NoError(d.t, err, "sending %q", text)
}

// expect waits for a match of the pattern and returns what its first group,
// or all of it, matched.
func (d *dialogue) expect(pattern string) string {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(deadline); ; time.Sleep(2 * time.Millisecond) {
		d.mu.Lock()
		unread, ended := d.text.Bytes()[d.mark:], d.end
		if m := re.FindSubmatchIndex(unread); m != nil {
			group := m[len(m)-2:]
			found := string(unread[group[0]:group[1]])
			d.mark += m[1]
			d.mu.Unlock()
			return found
		}
		rest := string(unread)
		d.mu.Unlock()
		if ended || time.Now().After(end) {
			d.t.Fatalf("waiting for %q, ended: %v, heard since the last match:\n%q", pattern, ended, rest)
		}
	}
}

// console is a program on a terminal of the host, as an administrator's.
type console struct {
	dialogue
	cmd    *exec.Cmd
	ptmx   *os.File
	closed chan struct{}
}

// onConsole starts a program as the leader of a session whose terminal is the
// returned console.
func onConsole(t testing.TB, cmd *exec.Cmd) *console {
	t.Helper()
	ptmx, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	require.NoError(t, err, "%v", cmd.Args)
	c := &console{cmd: cmd, ptmx: ptmx, closed: make(chan struct{})}
	c.t, c.in, c.source = t, ptmx, &screen{ptmx, cmd.Process.Pid}
	go func() {
		c.listen()
		close(c.closed)
	}()
	t.Cleanup(func() {
		ptmx.Close()
		cmd.Process.Kill()
	})
	return c
}

// screen reads the terminal of a program. login of util-linux, Debian's since 13,
// hangs it up (vhangup(2)) before it opens it anew: until then nobody is at the other
// end, which is no end as long as the program lives.
type screen struct {
	ptmx *os.File
	pid  int
}

func (s *screen) Read(p []byte) (int, error) {
	for {
		stat := contents(fmt.Sprintf("/proc/%d/stat", s.pid)) // before what may be the last
		n, err := s.ptmx.Read(p)
		if !errors.Is(err, syscall.EIO) || stat == "" || strings.Contains(stat, ") Z ") {
			return n, err
		}
		time.Sleep(time.Millisecond)
	}
}

// wait returns the program's status once its terminal is closed.
func (c *console) wait() int {
	c.t.Helper()
	timer := time.AfterFunc(deadline, func() { c.cmd.Process.Signal(syscall.SIGKILL) })
	err := c.cmd.Wait()
	require.True(c.t, timer.Stop(), "%v still running after %v; heard: %q", c.cmd.Args, deadline, c.heard())
	if _, isExit := err.(*exec.ExitError); err != nil && !isExit {
		require.NoError(c.t, err)
	}
	select {
	case <-c.closed:
	case <-time.After(deadline):
		c.t.Fatalf("something still holds the terminal of %v; heard: %q", c.cmd.Args, c.heard())
	}
	return c.cmd.ProcessState.ExitCode()
}
