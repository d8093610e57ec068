package admin

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/tty"
)

// TestWaiting: at a terminal, what takes long says what it does; what does not says nothing, and neither
// does anything in a file.
func TestWaiting(t *testing.T) {
	was := patience
	defer func() { patience = was }()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	defer master.Close()
	require.NoError(t, tty.Unlock(int(master.Fd())))
	peer, err := tty.Peer(int(master.Fd()))
	require.NoError(t, err)
	terminal := os.NewFile(uintptr(peer), "tty")
	defer terminal.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()

	patience = time.Hour
	over := Waiting(terminal, "quick")
	over()
	patience = 0
	for _, to := range []io.Writer{file, io.Discard} {
		over := Waiting(to, "not at a terminal")
		time.Sleep(50 * time.Millisecond) // what is never said would be by then
		over()
	}
	over = Options{Stderr: terminal}.waiting("waiting for jail %s to end", "web")
	line, err := bufio.NewReader(master).ReadString('\n')
	require.NoError(t, err)
	over()
	assert.Equal(t, "jail-init: waiting for jail web to end\r\n", line, "the first that there is")
	text, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	assert.Empty(t, text)
}
