package cgroup

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Met is a limit that a jail has met, by the kernel's word.
type Met struct {
	Limit string // "pids" or "memory", as in the registry
	Value uint64 // what the limit is: processes, or bytes; 0 if it is not known
	Total uint64 // how often it was met since the jail has started
}

// bound is a limit of a cgroup, and where the kernel counts how often it was met
// (Documentation/admin-guide/cgroup-v2.rst).
type bound struct {
	limit, events, key, max string
	others                  uint64 // of max, what is not the jail's
}

// Of the memory, "max" is no line to count: a cgroup whose files are cached is at its limit all
// the time, and the kernel takes back from the cache. "oom" is where there was nothing to take back. Before Linux
// 6.12 "max" of the processes counts what a cgroup above has refused, too.
var bounds = []bound{
	{"pids", "pids.events", "max ", "pids.max", PID1Threads},
	{"memory", memoryEvents, "oom ", "memory.max", 0},
}

const (
	// metAgain is how long nobody looks at a limit that was met just now. Of one whose file has changed
	// in something else, as it may a hundred times a second (CGROUP_FILE_NOTIFY_MIN_INTV,
	// kernel/cgroup/cgroup.c), that is elseFirst, since it may come to the limit next, and twice as long each
	// time, up to elseAgain: a cgroup comes to its memory with what it has cached.
	metAgain  = time.Minute
	elseFirst = 100 * time.Millisecond
	elseAgain = 5 * time.Second
)

// Watch hears of the kernel when jails meet limits of their cgroups. All have one descriptor
// together (inotify(7)), and none a thread. A limit that is met is told at once, and then each minute how
// often since: a jail that meets it all the time costs no more than that.
type Watch struct {
	after func(time.Duration, func()) *time.Timer

	mu     sync.Mutex
	file   *os.File           // nil without
	fd     int                // its descriptor
	meters map[string][]meter // by jail
	byWD   map[int32]*meter
}

// meter is one limit of one jail.
type meter struct {
	*bound
	dir   string
	told  func(Met)
	total uint64        // how often it was met, as far as it has been told
	wd    int32         // of the watch; -1 while it is not looked at
	later *time.Timer   // ends that
	quiet time.Duration // how long nobody has looked at it last, since it was something else
	over  bool
}

// NewWatch returns one. A nil Watch hears nothing.
func NewWatch() (*Watch, error) {
	w := &Watch{after: time.AfterFunc, meters: map[string][]meter{}, byWD: map[int32]*meter{}}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	w.file, w.fd = os.NewFile(uintptr(fd), "inotify"), fd
	go w.listen(w.file)
	return w, nil
}

// Close ends it.
func (w *Watch) Close() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
}

// Follow has told called when the jail name, whose cgroup is dir, meets a limit: at once with what it has
// met so far, if it has. told must not wait. It is no error if there is nothing to be followed; where there is one,
// limits are told a minute late.
func (w *Watch) Follow(name, dir string, told func(Met)) error {
	if w == nil || dir == "" {
		return nil
	}
	w.Over(name)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	list := make([]meter, 0, len(bounds))
	var failed error
	for i := range bounds {
		list = append(list, meter{bound: &bounds[i], dir: dir, told: told, wd: -1})
		if err := w.look(&list[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
			w.pause(&list[i], metAgain)
		}
	}
	w.meters[name] = list
	return failed
}

// Over ends it for a jail that has ended, and tells what is not told yet. The cgroup is still there.
func (w *Watch) Over(name string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.meters[name] {
		m := &w.meters[name][i]
		m.tell()
		w.leave(m)
		if m.over = true; m.later != nil {
			m.later.Stop()
		}
	}
	delete(w.meters, name)
}

// look has the kernel say when a limit is met the next time, or tells that it was, and looks
// again later.
func (w *Watch) look(m *meter) error {
	if w.file == nil || m.over {
		return nil
	}
	wd, err := syscall.InotifyAddWatch(w.fd, filepath.Join(m.dir, m.events), syscall.IN_MODIFY|syscall.IN_ONESHOT)
	if err != nil {
		return os.NewSyscallError("inotify_add_watch", err)
	}
	m.wd = int32(wd)
	w.byWD[m.wd] = m
	if m.tell() { // after the watch is there, so that nothing is missed
		w.pause(m, metAgain)
	}
	return nil
}

// leave takes the watch away.
func (w *Watch) leave(m *meter) {
	if m.wd >= 0 {
		if w.file != nil {
			_, _ = syscall.InotifyRmWatch(w.fd, uint32(m.wd)) // it may have gone by itself
		}
		delete(w.byWD, m.wd)
		m.wd = -1
	}
}

// pause looks again later.
func (w *Watch) pause(m *meter, d time.Duration) {
	w.leave(m)
	m.later = w.after(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.look(m) != nil { // root has no watches left; so it is told a minute late
			m.tell()
			w.pause(m, metAgain)
		}
	})
}

// tell tells how often the limit was met, if that is more than before, and reports whether it is.
func (m *meter) tell() bool {
	var buf [512]byte
	total := lineOf(read(filepath.Join(m.dir, m.events), buf[:]), m.key)
	if total <= m.total {
		return false
	}
	m.total, m.quiet = total, 0
	text := read(filepath.Join(m.dir, m.max), buf[:])
	value, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64) // or "max"
	m.told(Met{m.limit, value - min(value, m.others), total})
	return true
}

// read reads a short file of the kernel's, empty if it cannot: every start and end of a jail does so, in
// the loop of serve.
func read(path string, buf []byte) []byte {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	n, _ := syscall.Read(fd, buf)
	syscall.Close(fd)
	return buf[:max(n, 0)]
}

// listen waits for the kernel's word.
func (w *Watch) listen(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		for b := buf[:n]; len(b) >= syscall.SizeofInotifyEvent; {
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			b = b[min(len(b), syscall.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:]))):]
			switch m := w.byWD[wd]; {
			case mask&syscall.IN_Q_OVERFLOW != 0: // any of them
				for _, m := range slices.Collect(maps.Values(w.byWD)) {
					w.changed(m)
				}
			case mask&syscall.IN_MODIFY != 0 && m != nil:
				w.changed(m)
			}
		}
		w.mu.Unlock()
	}
}

// changed is called when the file of a limit has changed, of which there are other lines.
func (w *Watch) changed(m *meter) {
	if m.tell() {
		w.pause(m, metAgain)
		return
	}
	m.quiet = min(max(2*m.quiet, elseFirst), elseAgain)
	w.pause(m, m.quiet)
}

// lineOf returns the number behind key, which begins a line; 0 without.
func lineOf(text []byte, key string) uint64 {
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
			count, _ := strconv.ParseUint(n, 10, 64)
			return count
		}
	}
	return 0
}
