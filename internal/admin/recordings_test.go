package admin

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/recording"
	"jail/internal/tty"
)

// TestReplayLeavesNothingToType: what a terminal answers to the end of a recording does not
// reach the shell that reads the terminal next.
func TestReplayLeavesNothingToType(t *testing.T) {
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, tty.Unlock(int(m.Fd())))
	peer, err := tty.Peer(int(m.Fd()))
	require.NoError(t, err)
	slave := os.NewFile(uintptr(peer), "terminal")
	defer slave.Close()
	before, err := tty.GetTermios(peer)
	require.NoError(t, err)
	raw := tty.Raw(before)
	require.NoError(t, tty.SetTermios(peer, &raw))
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		var shown []byte
		buf := make([]byte, 4096)
		for !bytes.Contains(shown, []byte(recording.Leave)) {
			n, err := m.Read(buf)
			if err != nil {
				return
			}
			shown = append(shown, buf[:n]...)
		}
		_, _ = m.WriteString("\x1b]ltouch /tmp/x\n\x1b\\")
	}()
	_, err = slave.WriteString("\x1b[21t") // xterm's, for its title
	require.NoError(t, err)
	s := &screen{in: peer, out: slave, modes: before}
	s.close()
	<-answered
	_, err = s.Write([]byte("\x1b[21t"))
	assert.ErrorIs(t, err, os.ErrClosed, "who watches goes on reading")
	after, err := tty.GetTermios(peer)
	require.NoError(t, err)
	assert.Equal(t, before, after)
	require.NoError(t, tty.SetTermios(peer, &raw)) // FIONREAD counts whole lines otherwise
	n, err := unix.IoctlGetInt(peer, unix.TIOCINQ)
	require.NoError(t, err)
	assert.Zero(t, n)
}
