package launch

import (
	"syscall"
	"testing"

	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/sys"
)

// BenchmarkRangeInUse is what a start adds for each process of the machine that is
// known, while the new process starts its program.
func BenchmarkRangeInUse(b *testing.B) {
	var r ranges
	u := jail.Userns{Enabled: true, Base: 1 << 30, Size: 65536}
	for b.Loop() {
		if _, err := r.inUse(u, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(r.known)), "processes")
}

func BenchmarkLockRootfs(b *testing.B) {
	needs.Root(b, "locks")
	dir := b.TempDir()
	l, err := openLocks(dir + "/jail/lock")
	if err != nil {
		b.Fatal(err)
	}
	root, err := syscall.Open(dir, sys.OPath|syscall.O_DIRECTORY, 0)
	if err != nil {
		b.Fatal(err)
	}
	launcher := &Launcher{locks: l}
	for b.Loop() {
		p := &prepared{spec: &jail.Spec{}, set: launcher.setup(&jail.Spec{OwnResolver: true, Timezone: jail.OwnTimezone})}
		p.fds = p.set.NoDescriptors()
		p.exclusive = root
		if err := launcher.lockRootfs(p); err != nil {
			b.Fatal(err)
		}
		sys.Close(p.fds.Lock)
	}
}
