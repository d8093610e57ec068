package launch

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"jail/internal/event"
	"jail/internal/jail"
	"jail/internal/sys"
)

// ranges knows which host ids the user namespaces of this machine's processes have, from
// /proc/PID/uid_map: of whatever program, and whatever they are in the registry. It
// is asked at every start, so it remembers what it has read.
type ranges struct {
	mu    sync.Mutex
	known map[procEntry][]idRange
	own   string // uid_map of this process
	ownNS uint64
}

// procEntry is a process as a directory of procfs. The inode is another one when the
// pid has been given to another process (get_next_ino, fs/inode.c).
type procEntry struct {
	pid int
	ino uint64
}

// idRange is one line of a uid_map: host ids from base, and how many.
type idRange struct{ base, size uint64 }

func (r idRange) overlaps(u jail.Userns) bool {
	return r.base < uint64(u.Base)+uint64(u.Size) && uint64(u.Base) < r.base+r.size
}

// inUseBy is the error that says who has ids of u, nil if nobody has.
func inUseBy(u jail.Userns, holders []int) error {
	if len(holders) == 0 {
		return nil
	}
	who, name := describe(holders)
	fix := "end it"
	if name != "" {
		// What a process calls itself is its own choice, and whoever believes it may stop
		// the jail of others. The numbers in jail ps are the kernel's.
		who += ", which calls itself jail " + name
		fix = "stop the jail that has this process in jail ps"
	}
	return fmt.Errorf("host ids %d to %d are in use by %s; %s, or give this one a range of its own (userns in jail.toml(5))",
		u.Base, u.Base+u.Size-1, who, fix)
}

// inUse returns the processes that have ids of u, but for self. It waits for none of
// them.
func (r *ranges) inUse(u jail.Userns, self int) ([]int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == "" {
		var err error
		if r.own, r.ownNS, err = ownMap(); err != nil {
			return nil, fmt.Errorf("ids of running processes: %w", err)
		}
	}
	entries, err := readProc("/proc")
	if err != nil {
		return nil, fmt.Errorf("ids of running processes: %w", err)
	}
	now := make(map[procEntry][]idRange, len(entries))
	var hits []int
	for _, e := range entries {
		if e.pid == self {
			continue
		}
		have, ok := r.known[e]
		if !ok {
			have = r.read(e.pid)
		}
		for _, x := range have {
			if x.overlaps(u) && !zombie(e.pid) {
				hits = append(hits, e.pid)
			}
		}
		if have != nil {
			now[e] = have
		}
	}
	r.known = now
	return hits, nil
}

// read returns the host ids of a process; an empty list if it is in our own user
// namespace, nil if that is not known yet or any more.
func (r *ranges) read(pid int) []idRange {
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := os.ReadFile(dir + "/uid_map")
	if err != nil || len(text) == 0 {
		return nil // it has ended, or its ids are still to be written
	}
	if string(text) == r.own {
		// What the map of our own namespace says is about the one above it
		// (user_namespaces(7)); another namespace may say the same by chance.
		var st syscall.Stat_t
		if r.own == wholeMap || syscall.Stat(dir+"/ns/user", &st) == nil && st.Ino == r.ownNS {
			return []idRange{}
		}
	}
	list := []idRange{}
	for line := range strings.Lines(string(text)) {
		var inside uint64
		var x idRange
		if n, _ := fmt.Sscan(line, &inside, &x.base, &x.size); n == 3 {
			list = append(list, x)
		}
	}
	return list
}

// wholeMap is the uid_map of the first user namespace.
const wholeMap = "         0          0 4294967295\n"

func ownMap() (text string, ns uint64, err error) {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return "", 0, err
	}
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/user", &st); err != nil {
		return "", 0, err
	}
	return string(b), st.Ino, nil
}

// readProc lists the processes of a procfs.
func readProc(dir string) ([]procEntry, error) {
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer sys.Close(fd)
	var list []procEntry
	buf := make([]byte, 32<<10)
	for {
		n, err := syscall.ReadDirent(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: dir, Err: err}
		}
		if n <= 0 {
			return list, nil
		}
		// struct linux_dirent64 (getdents64(2)): inode u64, offset s64, length u16, type
		// u8, name and NULs.
		for b := buf[:n]; len(b) > 19; {
			length := int(binary.NativeEndian.Uint16(b[16:]))
			name, _, _ := strings.Cut(string(b[19:length]), "\x00")
			if pid, err := strconv.Atoi(name); err == nil {
				list = append(list, procEntry{pid, binary.NativeEndian.Uint64(b)})
			}
			b = b[length:]
		}
	}
}

// zombie reports whether a process has ended: then so have all of its pid namespace,
// if it was the first there.
func zombie(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	// The name may have anything in it, but nothing after it has a bracket.
	_, after, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}

// describe says who processes are that belong together: the jail's PID 1 among them,
// with the jail's name by its own word, or one of them.
func describe(pids []int) (who, jailName string) {
	for _, pid := range pids {
		if isInit(pid) {
			first, _, _ := strings.Cut(title(pid), "\x00")
			if name, ok := strings.CutPrefix(first, titlePrefix); ok && jail.ValidName(name) {
				return fmt.Sprintf("process %d", pid), name
			}
			pids = []int{pid}
			break
		}
	}
	comm, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pids[0]), "comm"))
	return fmt.Sprintf("process %d (\"%s\")", pids[0], event.Quote(strings.TrimSuffix(string(comm), "\n"))), ""
}

// titles bounds the threads that read command lines.
var titles = make(chan struct{}, 4)

// title returns the beginning of a process's command line, or "" where that takes long:
// it is read out of its memory, which may be a file that does not answer.
func title(pid int) string {
	select {
	case titles <- struct{}{}:
	default:
		return ""
	}
	got := make(chan string, 1)
	go func() {
		defer func() { <-titles }()
		f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err != nil {
			got <- ""
			return
		}
		defer f.Close()
		buf := make([]byte, 256)
		n, _ := f.Read(buf)
		got <- string(buf[:n])
	}()
	select {
	case s := <-got:
		return s
	case <-time.After(time.Second):
		return ""
	}
}

// isInit reports whether a process is the first of a pid namespace below ours.
func isInit(pid int) bool {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(rest)
			return len(f) > 1 && f[len(f)-1] == "1"
		}
	}
	return false
}
