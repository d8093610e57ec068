package sys

import (
	"encoding/binary"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzControlMessages: whatever control messages say, nothing behind them is read, every
// descriptor is found, and room is never made for one (PID 1 walks them where no memory may
// be had).
func FuzzControlMessages(f *testing.F) {
	rights := syscall.UnixRights(3, 4, 5)
	f.Add(rights)
	f.Add(syscall.UnixCredentials(&syscall.Ucred{Pid: 7}))
	f.Add(append(append([]byte{}, rights...), rights...))
	f.Add(syscall.UnixRights(make([]int, MaxMsgFDs)...))
	f.Add(syscall.UnixRights(make([]int, MaxMsgFDs+1)...))
	f.Add(rights[:cmsgHdrLen])
	long := append([]byte{}, rights...)
	binary.NativeEndian.PutUint64(long, 1<<63)
	f.Add(long)
	f.Fuzz(func(t *testing.T, ctrl []byte) {
		m := new(MsgBuf)
		if len(ctrl) > ctrlBufLen {
			return
		}
		aligned := m.ctrl[:copy(m.ctrl[:], ctrl)]
		m.FDs, m.CredPID = m.store[:0], 0
		ok := m.walk(aligned)
		require.Same(t, &m.store[0], &m.FDs[:1][0])
		require.LessOrEqual(t, 4*len(m.FDs), len(ctrl))
		if ok {
			require.LessOrEqual(t, len(m.FDs), MaxMsgFDs)
		}
		// The library reads them the same way.
		msgs, err := syscall.ParseSocketControlMessage(aligned)
		if !ok || err != nil {
			return
		}
		fds := []int{}
		for _, msg := range msgs {
			if msg.Header.Type == syscall.SCM_RIGHTS {
				msg.Data = msg.Data[:len(msg.Data)&^3] // which the library takes for granted
				got, err := syscall.ParseUnixRights(&msg)
				require.NoError(t, err)
				fds = append(fds, got...)
			}
		}
		require.Equal(t, fds, append([]int{}, m.FDs...))
	})
}

func TestControlMessages(t *testing.T) {
	m := new(MsgBuf)
	walk := func(ctrl ...[]byte) bool {
		n := 0
		for _, c := range ctrl {
			n += copy(m.ctrl[n:], c)
		}
		m.FDs, m.CredPID = m.store[:0], 0
		return m.walk(m.ctrl[:n])
	}
	assert.True(t, walk())
	assert.True(t, walk(syscall.UnixRights(3, 4), syscall.UnixCredentials(&syscall.Ucred{Pid: 7})))
	assert.Equal(t, []int{3, 4}, m.FDs)
	assert.EqualValues(t, 7, m.CredPID)
	assert.True(t, walk(syscall.UnixRights(make([]int, MaxMsgFDs)...)))
	assert.False(t, walk(syscall.UnixRights(make([]int, MaxMsgFDs+1)...)), "one more")
	assert.Len(t, m.FDs, MaxMsgFDs+1, "all of them are found, to be closed")

	other := syscall.UnixRights(3)
	other[12] = 99
	assert.False(t, walk(other, syscall.UnixRights(8)), "of a kind nobody asked for")
	assert.Equal(t, []int{8}, m.FDs, "what comes behind it is found")
	for _, size := range []uint64{0, cmsgHdrLen - 1, 21, 1 << 40, 1<<64 - 1} {
		odd := syscall.UnixRights(3)[:20]
		binary.NativeEndian.PutUint64(odd, size)
		assert.False(t, walk(odd), "a length of %d", size)
	}
}
