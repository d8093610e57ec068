package launch

import (
	"time"

	"jail/internal/cgroup"
	"jail/internal/jail"
)

// SetLockDir is for tests, which leave the machine's own alone.
func SetLockDir(dir string) { lockDir = dir }

// SetDeadline makes starts give up sooner.
func (l *Launcher) SetDeadline(d time.Duration) { l.deadline = d }

// WithoutCgroups makes the machine one that has no place for cgroups of jails.
func (l *Launcher) WithoutCgroups() { l.cgroups = &cgroup.Base{} }

// RangeInUse returns an error that says who has ids of u, by the kernel's word, or nil if
// nobody has, as a start asks.
func (l *Launcher) RangeInUse(u jail.Userns) error {
	holders, err := l.ranges.inUse(u, 0)
	if err != nil {
		return err
	}
	return inUseBy(u, holders)
}
