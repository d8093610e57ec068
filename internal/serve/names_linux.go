package serve

import (
	"sync"

	"jail/internal/jail"
)

// names are the logins a running jail has or has had since serve follows it, by host
// uid: a session goes on when its login is dropped. What the jail tells is read beside the
// loop, so they are locked.
type names struct {
	mu sync.Mutex
	of map[uint32]string
}

func (n *names) add(lg *jail.Login) {
	n.mu.Lock()
	n.of[uint32(lg.HostUID)] = lg.Name
	n.mu.Unlock()
}

// name is "" for a uid that is none of the jail's.
func (n *names) name(uid uint32) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.of[uid]
}
