package launch

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
)

// TestUnpackChild compares what is asked of the process that reads an archive whole: each
// line is a wall.
func TestUnpackChild(t *testing.T) {
	c := unpackChild(unpackIDs[1], &ends{null: 10, itsConn: 11, itsStderr: 12, itsSync: 13}, 14)
	if sys.LandlockABI() >= 6 {
		assert.GreaterOrEqual(t, c.LandlockFD, 0)
		sys.Close(c.LandlockFD)
	}
	want := sys.NewChild()
	want.CloneFlags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS
	want.Owner, want.Processes = 0x7FFCFFFF, 128
	want.SyncFD, want.EarlyCred = 13, true
	// chown, dac_override, fowner, fsetid, sys_admin, setfcap: the first and last for files,
	// sys_admin until the directory is its root.
	want.SetCaps, want.Bounding, want.LastCap = true, 0x8020001b, lastCap()
	want.NoNewPrivs, want.JoinKeyring, want.Setsid = true, true, true
	want.LandlockFD = c.LandlockFD
	want.FDs = [4]int{10, 10, 12, 11}
	want.Umask, want.ExecFD = 0, 14
	want.Argv, want.Envp, want.ExecMsg = c.Argv, c.Envp, c.ExecMsg
	require.Len(t, c.Envp, 2)
	assert.Equal(t, want, c)
}

// TestUnpackIDs: no jail ever has the ids of what reads an archive, nor has systemd.
func TestUnpackIDs(t *testing.T) {
	const autoEnd, foreign = 0x70000000 + 4091<<16, 0x7FFE0000
	for i, u := range unpackIDs {
		assert.GreaterOrEqual(t, u.Base, uint32(autoEnd))
		assert.LessOrEqual(t, u.Base+u.Size, uint32(foreign))
		for _, other := range unpackIDs[:i] {
			assert.NotEqual(t, other.Base, u.Base)
		}
	}
}
