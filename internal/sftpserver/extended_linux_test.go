package sftpserver

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestFsid: no word of a file system's id has a sign. Which ids a machine has is
// chance; TestExtensions, which compares with OpenSSH, meets a sign on some only.
func TestFsid(t *testing.T) {
	for _, c := range []struct {
		words [2]int32
		want  uint64
	}{
		{[2]int32{0, 0}, 0},
		{[2]int32{1, 2}, 0x2_00000001},
		{[2]int32{-1, 0}, 0xffffffff},
		{[2]int32{0, -1}, 0xffffffff_00000000},
		{[2]int32{-0x80000000, 0x7fffffff}, 0x7fffffff_80000000},
	} {
		var st syscall.Statfs_t
		st.Fsid.X__val = c.words
		assert.Equal(t, c.want, fsid(&st), "%x", c.words)
	}
}
