package rootfs

import (
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestApart: what a thread makes of itself is not to be seen in the process, so it is
// never the first one.
func TestApart(t *testing.T) {
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 250 {
				apart(func() { assert.NotEqual(t, syscall.Getpid(), syscall.Gettid()) })
			}
		})
	}
	wait.Wait()
}
