package launch

import "time"

// SetLockDir is for tests, which leave the machine's own alone.
func SetLockDir(dir string) { lockDir = dir }

// SetDeadline makes starts give up sooner.
func (l *Launcher) SetDeadline(d time.Duration) { l.deadline = d }
