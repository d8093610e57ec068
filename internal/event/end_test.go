package event

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestEnds(t *testing.T) {
	for want, e := range map[string]End{
		"ended after 8s: idle":                      {Reason: "idle", Lived: 8 * time.Second, OOM: 1},
		"ended after 8s":                            {Lived: 8*time.Second + 3},
		"ended with status 2 after 1m0.5s":          {Status: 2, Lived: time.Minute + 500*time.Millisecond},
		"ended by signal 9 (killed) after 0s":       {Signal: syscall.SIGKILL},
		"ended by signal 9 (killed) after 1s: idle": {Signal: syscall.SIGKILL, Reason: "idle", Lived: time.Second},
		"ended by signal 9 (killed) after 1s; for want of memory the kernel has killed processes in it, 3 in all": {Signal: syscall.SIGKILL, OOM: 3, Lived: time.Second},
		"ended by signal 11 (segmentation fault) after 1s":                                                        {Signal: syscall.SIGSEGV, OOM: 3, Lived: time.Second},
	} {
		assert.Equal(t, want, e.String())
		assert.Equal(t, End{Signal: e.Signal, Status: e.Status}, EndOf(syscall.WaitStatus(uint32(e.Status)<<8|uint32(e.Signal))))
		assert.Equal(t, e.Signal != 0 || e.Status != 0, e.Violent())
	}
}
