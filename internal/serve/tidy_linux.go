package serve

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// tidyAfter is how long ago the last start, or reading of the registry, has to be before
	// what they have left behind is given back to the kernel.
	tidyAfter = 250 * time.Millisecond
	// tidyFrom is how many bytes that has to be. With less than the collector leaves alone
	// by itself, four megabytes, serve of a few jails would have them for good.
	tidyFrom = 256 << 10
)

// tidier gives memory back when serve has come to rest. To collect takes as long as there
// is memory in use, some tens of milliseconds with ten thousand jails, and a start must
// not pay for that each time: it is done only when there is as much to be had as half of
// what is in use. The zero value does nothing.
type tidier struct {
	timer *time.Timer
	after time.Duration
}

func newTidier(after time.Duration, tidy func()) tidier {
	t := tidier{time.AfterFunc(time.Hour, tidy), after}
	t.timer.Stop()
	return t
}

// busy says that something has just ended that leaves memory behind.
func (t *tidier) busy() {
	if t.timer != nil {
		t.timer.Reset(t.after)
	}
}

// tidy gives memory back if it is worth it.
func tidy() {
	if used, left := heap(); worthIt(used, left) {
		debug.FreeOSMemory()
	}
}

// worthIt is asked with how much of the heap was in use at the last collection, and how
// much has come since.
func worthIt(used, left uint64) bool { return left >= tidyFrom && left >= used/2 }

func heap() (used, left uint64) {
	m := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(m)
	used = m[0].Value.Uint64()
	return used, max(m[1].Value.Uint64(), used) - used
}
