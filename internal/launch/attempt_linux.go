package launch

import (
	"fmt"
	"sync/atomic"

	"jail/internal/count"
)

// maxLingering is how many starts that have been given up may wait for file systems
// that do not answer. Each holds a thread, and the Go runtime ends a program that
// has ten thousand.
const maxLingering = 1000

// attempt is a start of a jail: one that is under way, or one that has been given up
// and is not over, because the kernel does not return from a file system. There is one of
// a jail at a time.
type attempt struct {
	name string
	// at is what is waited for: a path, or a process.
	at atomic.Pointer[string]
	// lingering says that somebody else than Start leaves the attempt.
	lingering bool
}

// touch says what is waited for from now on.
func (a *attempt) touch(what string) { a.at.Store(&what) }

// stopped is what was touched last.
func (a *attempt) stopped() string { return *a.at.Load() }

// begin begins an attempt.
func (l *Launcher) begin(name string) (*attempt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.attempts[name]; a != nil {
		return nil, fmt.Errorf("an earlier start is not over: %s does not answer", a.stopped())
	}
	lingering := 0
	for _, a := range l.attempts {
		if a.lingering {
			lingering++
		}
	}
	if lingering >= maxLingering {
		return nil, fmt.Errorf("%s of other jails for a file system that does not answer", count.Of(lingering, "start waits", "starts wait"))
	}
	a := &attempt{name: name}
	a.touch(name)
	l.attempts[name] = a
	return a, nil
}

// linger leaves an attempt to somebody who calls leave when it is over.
func (l *Launcher) linger(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.lingering = true
}

// leave ends an attempt that lingers.
func (l *Launcher) leave(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.attempts, a.name)
}

// returned is called when Start returns.
func (l *Launcher) returned(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !a.lingering {
		delete(l.attempts, a.name)
	}
}
