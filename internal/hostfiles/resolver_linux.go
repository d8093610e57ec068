// Package hostfiles knows what jails follow the host in: its resolver and its time
// zone. The files are root's, and so is everything made here.
package hostfiles

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"jail/internal/sys"
)

const (
	resolvConf    = "/etc/resolv.conf"
	maxResolvConf = 64 << 10
	maxLinks      = 16 // links followed from resolvConf on
)

// Resolver is a copy of the host's /etc/resolv.conf that follows it. Jails see the
// copy, because the file itself may be replaced at any time, by which a mount of it
// would be left with the old one; the copy is always the same file, written to in
// place. It stays when the process ends: jails go on that show it.
type Resolver struct {
	source  string
	path    string
	file    *os.File
	inotify int
	names   map[int32]map[string]bool // by watched directory: what in it matters
}

// OpenResolver makes or takes over the copy in the directory "host" of the runtime
// directory, and begins to watch the host's file.
func OpenResolver(runtimeDir string) (*Resolver, error) { return openResolver(runtimeDir, resolvConf) }

func openResolver(runtimeDir, source string) (*Resolver, error) {
	dir := filepath.Join(runtimeDir, "host")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	r := &Resolver{source: source, path: filepath.Join(dir, "resolv.conf"), inotify: -1}
	fd, err := syscall.Open(r.path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: r.path, Err: err}
	}
	r.file = os.NewFile(uintptr(fd), r.path)
	var st syscall.Stat_t
	if err = syscall.Fstat(fd, &st); err == nil && (st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Uid != uint32(os.Geteuid())) {
		err = fmt.Errorf("%s: must be a file of uid %d; remove what is there", r.path, os.Geteuid())
	}
	if err == nil {
		err = r.file.Chmod(0o644) // whatever the umask is
	}
	if err == nil {
		r.inotify, err = syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	r.follow()
	if err := r.copy(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// File returns the copy and its name.
func (r *Resolver) File() (fd int, path string) { return int(r.file.Fd()), r.path }

// Events returns a descriptor that is readable when Changed is to be called.
func (r *Resolver) Events() int { return r.inotify }

// Changed brings the copy up to date if the host's file may be another one by now.
func (r *Resolver) Changed() error {
	var buf [4096]byte
	relevant := false
	for {
		n, err := sys.Read(r.inotify, buf[:])
		if err != nil || n <= 0 {
			break
		}
		relevant = r.concerns(buf[:n]) || relevant
	}
	if !relevant {
		return nil
	}
	// Watched first, so that a change while it is read is not missed.
	r.follow()
	return r.copy()
}

// concerns reports whether one of the events (inotify(7)) is about what matters.
func (r *Resolver) concerns(events []byte) bool {
	for len(events) >= syscall.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		size := int(binary.NativeEndian.Uint32(events[12:]))
		events = events[syscall.SizeofInotifyEvent:]
		if size > len(events) {
			return true
		}
		name := string(bytes.TrimRight(events[:size], "\x00"))
		events = events[size:]
		if mask&(syscall.IN_Q_OVERFLOW|syscall.IN_IGNORED|syscall.IN_DELETE_SELF|syscall.IN_MOVE_SELF) != 0 || r.names[wd][name] {
			return true
		}
	}
	return false
}

const events = syscall.IN_CLOSE_WRITE | syscall.IN_MODIFY | syscall.IN_CREATE | syscall.IN_DELETE |
	syscall.IN_MOVED_TO | syscall.IN_MOVED_FROM | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF | syscall.IN_ONLYDIR

// follow watches every directory in which something decides what the host's
// resolv.conf is: those of the links it leads over, and of the file at their end.
// Where a directory is missing, the one in which it will appear is watched.
func (r *Resolver) follow() {
	old := r.names
	r.names = make(map[int32]map[string]bool)
	path := r.source
	for range maxLinks {
		r.watch(path)
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = filepath.Clean(target)
	}
	for wd := range old {
		if r.names[wd] == nil {
			_, _ = syscall.InotifyRmWatch(r.inotify, uint32(wd))
		}
	}
}

func (r *Resolver) watch(path string) {
	for path != "/" {
		dir := filepath.Dir(path)
		wd, err := syscall.InotifyAddWatch(r.inotify, dir, events)
		if err == nil {
			if r.names[int32(wd)] == nil {
				r.names[int32(wd)] = make(map[string]bool)
			}
			r.names[int32(wd)][filepath.Base(path)] = true
			return
		}
		path = dir
	}
}

// copy makes the copy say what the host's file does. A host without one has a
// resolver that goes by an empty file (resolv.conf(5)).
func (r *Resolver) copy() error {
	text, err := readFile(r.source, maxResolvConf)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	// One more byte, so that a longer copy is seen to be another. It is not on the stack, which
	// is that of serve's loop: always in a system call, it is never made smaller.
	have := make([]byte, len(text)+1)
	n, err := syscall.Pread(int(r.file.Fd()), have, 0)
	if err != nil {
		return &os.PathError{Op: "read", Path: r.path, Err: err}
	}
	if bytes.Equal(have[:n], text) {
		return nil
	}
	// Write first, truncate after: a concurrent reader never sees an empty file.
	if _, err := r.file.WriteAt(text, 0); err != nil {
		return err
	}
	return r.file.Truncate(int64(len(text)))
}

// Close lets go of everything. The copy stays.
func (r *Resolver) Close() {
	r.file.Close()
	if r.inotify >= 0 {
		sys.Close(r.inotify)
	}
}
