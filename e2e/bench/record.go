package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recorded: what a recording costs a session that prints as fast as it can, lines of text, and
// how much of it is in the recording.
func (b *bench) recorded() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Recordings are kept in the one place there is for them.
	if err := unix.Mount("tmpfs", "/var/log", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount tmpfs on /var/log: %w", err)
	}
	s, err := b.serve(mark+"-record", fmt.Sprintf(`version = 1
[defaults]
idle_timeout = "0"
record = "tty"
[jail.recorded]
rootfs = %q
	[jail.recorded.users]
	%s = { uid = 1000 }
`, b.root("cold"), login(uidCold)))
	if err != nil {
		return err
	}
	defer s.stop()
	const size = 16 << 20
	all := []*shell{
		{name: "recorded", argv: []string{b.bin("jail-enter"), "--runtime-dir", s.runtimeDir(), "-c"}, uid: uidCold},
		{name: "not recorded (floor)", argv: []string{b.bin("jail-enter"), "-c"}, uid: uidShell},
	}
	end := time.Now().Add(b.share())
	buf := make([]byte, 64<<10)
	kept := int64(0)
	for i := 0; i < b.n(41, 5) && time.Now().Before(end); i++ {
		for k := range all {
			s := all[(i+k)%len(all)]
			if s.err != nil {
				continue
			}
			var t *terminal
			line := strings.Repeat("what a compiler prints, for example; ", 2)
			if t, s.err = s.open(fmt.Sprintf("yes '%s' | dd bs=64k count=%d iflag=fullblock 2>/dev/null", line, size>>16)); s.err != nil {
				continue
			}
			s.hear(t, size, buf)
			kept += taken()
		}
	}
	for i, s := range all {
		l := line{what: s.name, below: i > 0}
		if s.err != nil || len(s.times) == 0 {
			l.value, l.note = "–", fmt.Sprint(s.err)
		} else {
			l.value = rate(size, median(s.times))
		}
		if i == 0 {
			l.what, l.target = "tty: output of a session, "+s.name, "≤ 1.1 × not recorded"
			if ratio := faster(all[1].times, s.times); s.err == nil {
				l.floor, l.met = fmt.Sprintf("%.2f", ratio), yesNo(ratio <= 1.1)
				l.note = fmt.Sprintf("%d runs of %d MiB, %s of it recorded", len(s.times), size>>20, fmt.Sprintf("%.0f %%", 100*float64(kept)/float64(len(s.times)*size)))
			} else {
				l.met = "NO"
			}
		}
		b.table.add(l)
	}
	return nil
}

// taken removes the recordings there are and returns their size.
func taken() (total int64) {
	files, _ := filepath.Glob("/var/log/jail/recordings/*/*.cast")
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			total += st.Size()
		}
		_ = os.Remove(f)
	}
	return total
}
