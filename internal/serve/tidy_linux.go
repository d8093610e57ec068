package serve

import (
	"runtime/debug"
	"time"
)

// tidyAfter is how long ago the last start, or reading of the registry, has to be before
// what they have left behind is given back to the kernel. Of less than four megabytes the
// collector does not come by itself, and serve of a few jails would have them for good.
const tidyAfter = 250 * time.Millisecond

// tidier gives memory back when serve has come to rest. The zero value does nothing.
type tidier struct {
	timer  *time.Timer
	after  time.Duration
	starts int  // since the last time
	read   bool // the registry, since then
}

// newTidier makes one that calls rest when it may be time.
func newTidier(after time.Duration, rest func()) tidier {
	t := tidier{timer: time.AfterFunc(time.Hour, rest), after: after, read: true}
	t.timer.Stop()
	return t
}

// started says that a start is over, registry that it was read.
func (t *tidier) started()  { t.starts++; t.busy() }
func (t *tidier) registry() { t.read = true; t.busy() }

func (t *tidier) busy() {
	if t.timer != nil {
		t.timer.Reset(t.after)
	}
}

// due reports whether tidying up is worth it with so many jails, and if so that it is
// done. A start leaves 40 KiB behind. To collect takes as long as there is memory in use,
// 3 KiB for each jail: some tens of milliseconds with ten thousand, for which not each start
// can pay.
func (t *tidier) due(jails int) bool {
	if !t.read && t.starts < max(6, jails/25) {
		return false
	}
	t.starts, t.read = 0, false
	return true
}

// many is the number of jails from which on to give memory back is worth the time of a start of
// serve's: some tens of milliseconds.
const many = 500

// rest is called when nothing has happened for a while.
func (s *server) rest() {
	s.post(func() {
		if s.tidier.due(len(s.byName)) {
			go debug.FreeOSMemory()
		}
	})
}
