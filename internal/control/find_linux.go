package control

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"jail/internal/source"
	"jail/internal/sys"
)

// Inits are the processes that are number 1 of a namespace below this one, by what is
// mounted where they are.
//
// For those who say nothing of themselves the kernel does (proc_pid_status(5), NSpid;
// proc_pid_mountinfo(5)). No root directory is touched for it: the file system of one
// jail may not answer, and that must not concern who asks for another.
type Inits struct {
	at     map[mark]int
	places places
}

// mark is a directory and where a process sees it, both as mountinfo has them.
type mark struct {
	at   string
	root root
}

// root is a directory, as mountinfo has it: a device and the path in its file system, a
// blank and its like escaped.
type root struct{ dev, path string }

// FindInits looks through /proc once. For root those alone count that are root's (OfRoot):
// whoever can reach a root directory can have a process of that kind on it.
func FindInits() (*Inits, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	anybody := os.Geteuid() != 0
	inits := map[mark]int{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && isInit(pid) && (anybody || OfRoot(pid)) {
			for at, r := range placesOf(mountsOf(pid)) {
				inits[mark{at, r}] = pid
			}
		}
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return &Inits{inits, placesOf(string(text))}, nil
}

// At returns the first process of the jail that has the landmark; its path is absolute
// and without links.
func (in *Inits) At(l source.Landmark) (pid int, ok bool) {
	if len(in.at) == 0 {
		return 0, false
	}
	pid, ok = in.at[in.mark(l)]
	return pid, ok
}

func (in *Inits) mark(l source.Landmark) mark {
	return mark{strings.TrimSuffix(escape(l.At), "/"), in.places.of(l.Path)}
}

// Find returns the first process of the jail that has the landmark and a pidfd for it,
// for when that does not say who it is. ErrNotRunning means that there is none.
func Find(l source.Landmark) (pid, pidfd int, err error) {
	inits, err := FindInits()
	if err != nil {
		return 0, -1, err
	}
	pid, ok := inits.At(l)
	if !ok {
		return 0, -1, ErrNotRunning
	}
	if pidfd, err = sys.PidfdOpen(pid); err != nil {
		return 0, -1, ErrNotRunning // it has ended
	}
	m := inits.mark(l)
	if r, ok := placesOf(mountsOf(pid))[m.at]; ok && r == m.root && isInit(pid) {
		return pid, pidfd, nil
	}
	sys.Close(pidfd) // the number was given to another meanwhile
	return 0, -1, ErrNotRunning
}

// places are what is mounted where: by mount point, the directory that is seen there.
type places map[string]root

// placesOf takes mountinfo apart. Of two mounts on one place the later one is seen.
func placesOf(mountinfo string) places {
	p := places{}
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) >= 5 {
			p[strings.TrimSuffix(f[4], "/")] = root{f[2], f[3]}
		}
	}
	return p
}

// of returns where path is, by the mounts: no path is looked up.
func (p places) of(path string) (r root) {
	path = strings.TrimSuffix(escape(path), "/")
	for end := len(path); end >= 0; end = strings.LastIndexByte(path[:end], '/') {
		if at, ok := p[path[:end]]; ok {
			r = root{at.dev, strings.TrimSuffix(at.path, "/") + path[end:]}
			break
		}
	}
	if r.path == "" {
		r.path = "/"
	}
	return r
}

// escape is how mountinfo writes a path (proc_pid_mountinfo(5), mangle of fs/proc_namespace.c).
func escape(path string) string {
	if !strings.ContainsAny(path, " \t\n\\#") {
		return path
	}
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`, "#", `\043`).Replace(path)
}

// mountsOf returns the mountinfo of a process, "" if it has ended.
func mountsOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	return string(text)
}

// isInit reports whether a process is process 1 of a namespace below this one.
func isInit(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	_, line, _ := strings.Cut(string(text), "\nNSpid:")
	line, _, _ = strings.Cut(line, "\n")
	pids := strings.Fields(line)
	return len(pids) > 1 && pids[len(pids)-1] == "1"
}

// OfRoot reports whether the user namespace of a process is ours and the process root,
// or root has made it, or an id of its own range has (owner): no ordinary user can
// make a namespace of that kind below ours, since newuidmap(1) gives nobody a range that
// the own uid is part of. Below one that a user has made anybody's ids can be mixed.
func OfRoot(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	var own, its syscall.Stat_t
	if syscall.Stat("/proc/self/ns/user", &own) != nil || syscall.Stat(dir+"/ns/user", &its) != nil {
		return false
	}
	if own.Ino == its.Ino {
		status, _ := os.ReadFile(dir + "/status")
		return strings.Contains(string(status), "\nUid:\t0\t0\t0\t0\n")
	}
	ns, err := syscall.Open(dir+"/ns/user", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer sys.Close(ns)
	uid, err := sys.NamespaceOwner(ns)
	if err != nil {
		return false
	}
	if uid == 0 {
		return true
	}
	parent, err := sys.NamespaceParent(ns)
	if err != nil {
		return false
	}
	err = syscall.Fstat(parent, &its)
	sys.Close(parent)
	if err != nil || its.Ino != own.Ino {
		return false
	}
	text, _ := os.ReadFile(dir + "/uid_map")
	for line := range strings.Lines(string(text)) {
		var inside, base, size uint64
		if n, _ := fmt.Sscan(line, &inside, &base, &size); n == 3 && size > 1 && uint64(uid) >= base && uint64(uid) < base+size {
			return true
		}
	}
	return false
}
