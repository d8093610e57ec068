package image

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/launch"
	"jail/internal/sys"
	"jail/internal/wire"
)

// hear has listen hear what a jail-import says that is an archive's by now.
func hear(t *testing.T, fds []int, packets ...[]byte) (said string, made wire.Progress, err error) {
	t.Helper()
	said, made, kept, err := hearing(t, fds, packets)
	assert.Zero(t, kept, "descriptors that came")
	return said, made, err
}

// hearing is hear, and says how many descriptors listen has kept.
func hearing(t *testing.T, fds []int, packets [][]byte) (said string, made wire.Progress, kept int, err error) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	crash, w, err := sys.Pipe()
	require.NoError(t, err)
	event, err := sys.Eventfd()
	require.NoError(t, err)
	defer sys.CloseAll([]int{pair[0], crash, w, event})
	o := job(t, "x", "")
	spoken := make(chan struct{})
	before := descriptors(t)
	go func() {
		defer close(spoken)
		var m sys.MsgBuf
		for _, p := range packets {
			_ = sys.SendMsg(pair[1], p, fds, true, &m)
		}
		_, _ = sys.Write(w, []byte("panic: \x1b[31mred\nat\n"))
		sys.Close(pair[1])
	}()
	o.MaxTime, o.from = 20*time.Second, "x.tar"
	made, err = o.listen(&launch.Unpacking{Conn: pair[0], Stderr: crash}, &stop{fd: event})
	<-spoken
	kept = descriptors(t) - (before - 1) // pair[1] is closed
	return o.said(t), made, kept, err
}

// TestVisible: what jail-import says does nothing to a terminal, and there is an end to it.
func TestVisible(t *testing.T) {
	text := func(typ wire.Type, s string) []byte { return wire.AppendText(nil, typ, s) }
	const evil = "\x1b]0;evil\a\r\nx\u202e\\n"
	_, _, err := hear(t, nil, text(wire.TypeFailed, evil))
	assert.EqualError(t, err, `x.tar: \x1b]0;evil\a\r\nx\u202e\n`)

	var many [][]byte
	for range 100 {
		many = append(many, text(wire.TypeLog, evil))
	}
	said, made, err := hear(t, nil, append(many, wire.AppendProgress(nil, wire.TypeUnpacked, wire.Progress{Entries: 1, Bytes: 2}))...)
	require.NoError(t, err)
	assert.Equal(t, wire.Progress{Entries: 1, Bytes: 2}, made)
	assert.Equal(t, strings.Repeat(`jail-init: note: \x1b]0;evil\a\r\nx\u202e\n`+"\n", notes), said)

	_, _, err = hear(t, nil)
	assert.EqualError(t, err, `jail-import has crashed: panic: \x1b[31mred`)
	for claim, p := range map[string][]byte{
		"another message": wire.AppendReady(nil), "half a message": wire.AppendProgress(nil, wire.TypeUnpacked, wire.Progress{})[:10], "no message": {1},
	} {
		_, _, err = hear(t, nil, p)
		assert.ErrorIs(t, err, wire.ErrMalformed, claim)
	}
	// Descriptors that it sends are nobody's.
	_, _, err = hear(t, []int{0, 1, 2}, wire.AppendProgress(nil, wire.TypeProgress, wire.Progress{}), wire.AppendProgress(nil, wire.TypeUnpacked, wire.Progress{}))
	require.NoError(t, err)
}
