package keys

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// logged runs jail-keys where the system's log is a socket of the test's that only
// root may write to. It returns what came there.
func (h *host) logged(args ...string) (r result, lines []string) {
	h.t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.path("log"), Net: "unixgram"})
	require.NoError(h.t, err)
	defer l.Close()
	require.NoError(h.t, os.Chmod(h.path("log"), 0o600))
	r = h.withLog(args...)
	require.NoError(h.t, l.SetReadDeadline(time.Now().Add(-time.Second)))
	buf := make([]byte, 8192)
	for {
		// What was sent before the process ended is there.
		raw, err := l.SyscallConn()
		require.NoError(h.t, err)
		n := -1
		require.NoError(h.t, raw.Control(func(fd uintptr) { n, _, _ = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT) }))
		if n < 0 {
			return r, lines
		}
		lines = append(lines, string(buf[:n]))
	}
}

// withLog runs jail-keys with h's socket at /dev/log.
func (h *host) withLog(args ...string) result {
	h.t.Helper()
	cmd := h.command("mount -t tmpfs tmpfs /dev && : >/dev/log && mount --bind /mnt/log /dev/log", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(h.t, err, &exit)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// TestReport: the log has the line that standard error has, which sshd throws away.
func TestReport(t *testing.T) {
	const stamp = `[A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d jail-keys\[\d+\]: `
	for claim, tt := range map[string]struct {
		spoil    func(h *host)
		args     []string
		priority string
		text     string // "" for none
	}{
		"all is well":      {func(*host) {}, nil, "", ""},
		"no jail":          {func(*host) {}, []string{"bob"}, "", ""},
		"a fault":          {func(h *host) { h.chown("home/work", 5, 5) }, nil, "84", `alice: in the jail: "/home/work" is owned by uid 5, not by 60991 or 0`},
		"the first of two": {func(h *host) { h.write("root/home/work/.ssh/authorized_keys", "x\ny\n") }, nil, "85", "alice: line 1 ignored: unknown option"},
		"before any jail":  {func(*host) {}, []string{"../alice"}, "84", "../alice is not a login name"},
		"many of them": {func(h *host) {
			h.write("root/etc/passwd", "work:x:60991:60992::/"+strings.Repeat("\xff", 2000)+":/bin/sh\n")
		}, nil, "84", `alice: in the jail: open /\xff\xff`},
		"bytes of the tenant's": {func(h *host) {
			h.write("root/etc/passwd", "work:x:60991:60992::/\xff\u2028\xc2\x9b31m"+strings.Repeat("x", 2000)+":/bin/sh\n")
		}, nil, "84", `alice: in the jail: open /\xff\u2028\u009b31mxxx`},
	} {
		t.Run(claim, func(t *testing.T) {
			h := newHost(t)
			tt.spoil(h)
			if tt.args == nil {
				tt.args = []string{"alice"}
			}
			r, lines := h.logged(tt.args...)
			if tt.text == "" {
				assert.Empty(t, lines)
				assert.Empty(t, r.err)
				return
			}
			require.Len(t, lines, 1)
			assert.Regexp(t, `^<`+tt.priority+`>`+stamp, lines[0])
			_, text, _ := strings.Cut(lines[0], "]: ")
			assert.Equal(t, "jail-keys: "+text+"\n", r.err)
			assert.True(t, strings.HasPrefix(text, tt.text), "%s", text)
			assert.Less(t, len(lines[0]), 1024)
			assert.NotRegexp(t, `[^ -~]`, lines[0])
		})
	}
	t.Run("a log that nobody reads is not waited for", func(t *testing.T) {
		h := newHost(t)
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.path("log"), Net: "unixgram"})
		require.NoError(t, err)
		defer l.Close()
		// Fill it: with one sender it may be the sender that is full (unix(7), SO_SNDBUF), where
		// net.unix.max_dgram_qlen is what systemd makes of it.
		for sent := -1; sent != 0; {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			require.NoError(t, err)
			defer unix.Close(fd)
			for sent = 0; err == nil; sent++ {
				if err = unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrUnix{Name: h.path("log")}); err != nil {
					break
				}
			}
			require.Equal(t, unix.EAGAIN, err)
		}
		h.write("root/etc/passwd", "")
		r := h.withLog("alice")
		assert.Equal(t, 1, r.status)
		assert.Contains(t, r.err, "uid 60991 has no entry", "the reason, not the deadline")
	})
	t.Run("a socket of another kind, or none", func(t *testing.T) {
		h := newHost(t)
		h.write("log", "no socket")
		assert.Equal(t, good, h.withLog("alice"))
		require.NoError(t, os.Remove(h.path("log")))
		l, err := net.Listen("unix", h.path("log"))
		require.NoError(t, err)
		defer l.Close()
		assert.Equal(t, good, h.withLog("alice"))
	})
}
