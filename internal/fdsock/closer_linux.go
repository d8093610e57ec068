package fdsock

import (
	"sync"

	"jail/internal/sys"
)

// Closer closes sockets that a tenant could put descriptors into: what has not been
// received is closed with the last copy of the socket, by whoever closes that, and may
// take as long as it likes (SO_LINGER, socket(7)). So nobody waits for a Closer, and
// each jail has its own turn. The zero value is ready.
type Closer struct {
	// Closed, unless it is nil, hears of each that has been closed. It is set before the
	// first Close.
	Closed func(jail int)

	mu   sync.Mutex
	left map[int][]int // by jail; there is an entry while somebody closes
}

// Close closes fds, which are the jail's, some time.
func (c *Closer) Close(jail int, fds ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == nil {
		c.left = map[int][]int{}
	}
	left, busy := c.left[jail]
	c.left[jail] = append(left, fds...)
	if !busy {
		go c.run(jail)
	}
}

// Left is how many are still open.
func (c *Closer) Left(jail int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.left[jail])
}

func (c *Closer) run(jail int) {
	for {
		c.mu.Lock()
		left := c.left[jail]
		if len(left) == 0 {
			delete(c.left, jail)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		sys.CloseForeign(left[:1])
		c.mu.Lock()
		c.left[jail] = c.left[jail][1:]
		c.mu.Unlock()
		if c.Closed != nil {
			c.Closed(jail)
		}
	}
}
