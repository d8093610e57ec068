package fdsock

import (
	"sync"
	"sync/atomic"
	"syscall"

	"jail/internal/sys"
)

// Closer closes sockets that a tenant could put descriptors into: what has not been
// received is closed with the last copy of the socket, by whoever closes that, and may
// take as long as it likes (SO_LINGER, socket(7)). So nobody waits for a Closer. What it has
// is closed by the end of a process, which waits for no peer (sys.Bury): whoever sends such
// descriptors takes neither threads of this program nor room for its descriptors, by however many
// uids he does it. Where there can be no process, each jail has its own turn, on some threads.
// The zero value is ready.
type Closer struct {
	// Closed, unless it is nil, hears of each that has been closed. It is set before the
	// first Close.
	Closed func(jail int)

	mu      sync.Mutex
	left    map[int][]int // by jail
	running bool
	slow    map[int]bool // jails whose turn a thread sees to
	hung    atomic.Int32 // processes that have not ended in time
	bury    func(fds []int, late func() (ended func())) bool
}

const (
	// maxSlow is how many threads close at a time where no process does.
	maxSlow = 64
	// maxHung is how many processes may be there that do not end: no peer can keep one, as
	// far as is known.
	maxHung = 8
)

// Close closes fds, which are the jail's, some time.
func (c *Closer) Close(jail int, fds ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == nil {
		c.left, c.slow = map[int][]int{}, map[int]bool{}
	}
	c.left[jail] = append(c.left[jail], fds...)
	if !c.running {
		c.running = true
		settle(c.run)
	}
}

// Left is how many are still open.
func (c *Closer) Left(jail int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.left[jail])
}

// run closes all there is, until there is nothing left that is not being closed.
func (c *Closer) run() {
	bury := c.bury
	if bury == nil {
		bury = sys.Bury
	}
	for {
		c.mu.Lock()
		var fds, of []int
		for jail, left := range c.left {
			if c.slow[jail] {
				continue
			}
			for _, fd := range left {
				fds, of = append(fds, fd), append(of, jail)
			}
		}
		if len(fds) == 0 {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if c.hung.Load() < maxHung && bury(fds, c.late) {
			c.closed(of...)
			continue
		}
		c.mu.Lock()
		for _, jail := range of {
			if !c.slow[jail] && len(c.slow) < maxSlow {
				c.slow[jail] = true
				go c.slowly(jail)
			}
		}
		// The others are looked at again when one of these has had its turn.
		c.running = len(c.slow) < maxSlow
		again := c.running
		c.mu.Unlock()
		if !again {
			return
		}
	}
}

// late counts a process that has not ended in time, until it has.
func (c *Closer) late() (ended func()) {
	c.hung.Add(1)
	return func() { c.hung.Add(-1) }
}

// slowly closes what one jail has, one after the other.
func (c *Closer) slowly(jail int) {
	for {
		c.mu.Lock()
		if len(c.left[jail]) == 0 {
			delete(c.slow, jail)
			if !c.running {
				c.running = true
				settle(c.run)
			}
			c.mu.Unlock()
			return
		}
		fd := c.left[jail][0]
		c.mu.Unlock()
		_ = syscall.Close(fd)
		c.closed(jail)
	}
}

// closed takes the first of each of these jails off.
func (c *Closer) closed(jails ...int) {
	c.mu.Lock()
	for _, jail := range jails {
		if c.left[jail] = c.left[jail][1:]; len(c.left[jail]) == 0 {
			delete(c.left, jail)
		}
	}
	c.mu.Unlock()
	if c.Closed != nil {
		for _, jail := range jails {
			c.Closed(jail)
		}
	}
}
