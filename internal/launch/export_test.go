package launch

import (
	"time"

	"jail/internal/cgroup"
)

// SetLockDir is for tests, which leave the machine's own alone.
func SetLockDir(dir string) { lockDir = dir }

// SetDeadline makes starts give up sooner.
func (l *Launcher) SetDeadline(d time.Duration) { l.deadline = d }

// WithoutCgroups makes the machine one that has no place for cgroups of jails.
func (l *Launcher) WithoutCgroups() { l.cgroups = &cgroup.Base{} }
