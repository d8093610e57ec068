package launch

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
	"jail/internal/wire"
)

// TestAnswersToAStart: what a process says that is to be PID 1 makes at most one line of
// printable characters.
func TestAnswersToAStart(t *testing.T) {
	const forged = "x\njail-init: jail other started: pid 1\n\x1b[31m\u202e"
	for claim, tt := range map[string]struct {
		packet []byte
		want   string
	}{
		"ready":           {wire.AppendReady(nil), ""},
		"forged lines":    {wire.AppendText(nil, wire.TypeFailed, forged), `x\njail-init: jail other started: pid 1\n\x1b[31m\u202e`},
		"a body too many": {append(wire.AppendReady(nil), 1), "PID 1's answer makes no sense"},
		"a text cut off":  {wire.AppendText(nil, wire.TypeFailed, forged)[:20], "PID 1's answer makes no sense"},
		"something else":  {wire.AppendText(nil, wire.TypeLog, forged), "PID 1's answer makes no sense"},
		"too long":        {make([]byte, 100_000), "PID 1 ended before it was ready"},
		"nothing":         {nil, "PID 1 ended before it was ready"},
	} {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		if tt.packet != nil {
			var m sys.MsgBuf
			require.NoError(t, sys.SendMsg(pair[1], tt.packet, nil, true, &m))
		}
		sys.Close(pair[1])
		err = awaitReady(pair[0], time.Now().Add(10*time.Second))
		sys.Close(pair[0])
		if tt.want == "" {
			assert.NoError(t, err, claim)
		} else {
			assert.EqualError(t, err, tt.want, claim)
		}
	}
}
