package hostfiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"jail/internal/source"
	"jail/internal/sys"
)

// Etc is a copy of what everybody may know of the host's /etc, which all cages see as
// theirs, one for all. It follows the host: files change in place, so cages that run see
// that, too. It stays when the process ends, as they do.
//
// What is copied is named (etcNames); what a host has besides, passwords, keys and the
// settings of its daemons, is not there and so cannot be read, whatever its permissions.
// Of what is named, only what everybody may read is copied, and no private key. A link is copied as a link.
type Etc struct {
	from, to string
	resolver string // the copy that Resolver keeps, linked as resolv.conf
	inotify  int
	watches  map[int32]bool
	stop     [2]int // a pipe: closing the second ends the follower
	done     chan bool
}

// Bounds of what is copied. A Debian with many programs has 2 MiB in 1,500 files.
const (
	maxEtcBytes = 64 << 20
	maxEtcFiles = 32 << 10
	// gather is how long changes are gathered before they are copied.
	gather = 200 * time.Millisecond
)

// FollowEtc makes or takes over the copy, brings it up to date, and keeps it so until
// Close. failed is told, from another goroutine, of what goes wrong later.
func FollowEtc(runtimeDir string, failed func(error)) (*Etc, error) {
	return followEtc(runtimeDir, "/etc", failed)
}

func followEtc(runtimeDir, from string, failed func(error)) (*Etc, error) {
	e := &Etc{from: from, to: filepath.Join(source.Prepared(runtimeDir), "etc"), resolver: filepath.Join(runtimeDir, "host", "resolv.conf"),
		inotify: -1, stop: [2]int{-1, -1}}
	for _, dir := range []string{filepath.Join(runtimeDir, "host"), source.Prepared(runtimeDir), e.to} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	}
	for _, dir := range []string{source.Prepared(runtimeDir), e.to} {
		if err := os.Chmod(dir, 0o755); err != nil { // past any umask
			return nil, err
		}
	}
	var err error
	if e.inotify, err = syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK); err != nil {
		return nil, fmt.Errorf("watch %s: %w", from, err)
	}
	if err := e.copy(); err != nil {
		sys.Close(e.inotify)
		return nil, err
	}
	if e.stop[0], e.stop[1], err = sys.Pipe(); err != nil {
		sys.Close(e.inotify)
		return nil, err
	}
	e.done = make(chan bool)
	go e.follow(failed)
	return e, nil
}

// Close ends the following. The copy stays.
func (e *Etc) Close() {
	sys.Close(e.stop[1])
	<-e.done
	sys.CloseAll([]int{e.stop[0], e.inotify})
}

func (e *Etc) follow(failed func(error)) {
	defer close(e.done)
	for {
		fds := []sys.PollFD{{FD: int32(e.inotify), Events: sys.PollIn}, {FD: int32(e.stop[0]), Events: sys.PollIn}}
		if _, err := sys.Poll(fds, -1); err != nil {
			failed(fmt.Errorf("watch %s: %w", e.from, err))
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		// An upgrade of the host changes many files in a row.
		if n, _ := sys.Poll(fds[1:], int(gather.Milliseconds())); n > 0 {
			return
		}
		var buf [4096]byte
		for {
			if n, err := sys.Read(e.inotify, buf[:]); err != nil || n <= 0 {
				break
			}
		}
		if err := e.copy(); err != nil {
			failed(err)
		}
	}
}

// etcCopy is one pass over all that is to be copied.
type etcCopy struct {
	*Etc
	bytes   int64
	files   int
	watched map[int32]bool
}

// copy makes the copy what it should be. Watches are set before anything is read, so that
// a change meanwhile is not missed.
func (e *Etc) copy() error {
	c := &etcCopy{Etc: e, watched: map[int32]bool{}}
	// Two that supervise jails in one runtime directory take turns.
	to, err := syscall.Open(e.to, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", e.to, err)
	}
	defer sys.Close(to)
	if err := syscall.Flock(to, syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", e.to, err)
	}
	root, err := sys.Openat2(sys.AtFDCWD, e.from, syscall.O_RDONLY|syscall.O_DIRECTORY, sys.ResolveNoMagiclinks)
	if err != nil {
		return fmt.Errorf("open %s: %w", e.from, err)
	}
	defer sys.Close(root)
	if err := c.dir(root, "", etcTree()); err != nil {
		return fmt.Errorf("copy %s for cages: %w", e.from, err)
	}
	for wd := range e.watches {
		if !c.watched[wd] {
			_, _ = syscall.InotifyRmWatch(e.inotify, uint32(wd))
		}
	}
	e.watches = c.watched
	return nil
}

// node is what of a directory is copied: a pattern for each name, and what below it; nil
// is all.
type node map[string]node

func etcTree() node {
	root := node{}
	for _, name := range etcNames {
		at := root
		for part, rest, more := strings.Cut(name, "/"); ; part, rest, more = strings.Cut(rest, "/") {
			if !more {
				at[part] = nil
				break
			}
			if at[part] == nil {
				at[part] = node{}
			}
			at = at[part]
		}
	}
	return root
}

// wanted says whether a name is to be copied, and what below it.
func (n node) wanted(name string) (below node, ok bool) {
	if below, ok = n[name]; ok {
		return below, true
	}
	for pattern, below := range n {
		if match, _ := path.Match(pattern, name); match {
			return below, true
		}
	}
	return nil, false
}

// dir copies what is wanted of the directory fd, at is its path below the root; want of
// nil is all of it.
func (c *etcCopy) dir(fd int, at string, want node) error {
	if wd, err := syscall.InotifyAddWatch(c.inotify, filepath.Join(c.from, at), events|syscall.IN_ATTRIB); err == nil {
		c.watched[int32(wd)] = true
	}
	again, err := sys.Openat2(fd, ".", syscall.O_RDONLY|syscall.O_DIRECTORY, sys.ResolveBeneath)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(again), at)
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, name := range names {
		var below node
		if want != nil {
			var ok bool
			if below, ok = want.wanted(name); !ok {
				continue
			}
		}
		if at == "" && ownName(name) || secretName(name) {
			continue
		}
		ok, err := c.entry(fd, name, path.Join(at, name), below)
		if err != nil {
			return fmt.Errorf("%s: %w", path.Join(at, name), err)
		}
		kept[name] = ok
	}
	if at == "" {
		if err := c.own(kept); err != nil {
			return err
		}
	}
	return c.prune(at, kept)
}

// prune removes from the copy of a directory what is not kept.
func (c *etcCopy) prune(at string, kept map[string]bool) error {
	dir := filepath.Join(c.to, at)
	there, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range there {
		if !kept[e.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// secretName reports whether a file is never copied, whoever may read it.
func secretName(name string) bool {
	switch path.Ext(name) {
	case ".key", ".p12", ".pfx":
		return true
	}
	return false
}

// ownName reports whether a file is not the host's in a cage.
func ownName(name string) bool {
	for _, own := range append(source.Own(), "resolv.conf", "mtab", "machine-id") {
		if name == own {
			return true
		}
	}
	return false
}

// own makes what is not the host's: links to the cage's own files, an empty machine-id
// (machine-id(5)), and the resolver's file, the one that Resolver keeps if there is one.
func (c *etcCopy) own(kept map[string]bool) error {
	for _, name := range source.Own() {
		kept[name] = true
		if err := c.link(name, ".."+source.OwnFiles+"/"+name); err != nil {
			return err
		}
	}
	kept["mtab"], kept["machine-id"] = true, true
	if err := c.link("mtab", "../proc/self/mounts"); err != nil {
		return err
	}
	if err := c.write("machine-id", strings.NewReader(""), 0, 0o444, time.Unix(0, 0)); err != nil {
		return err
	}
	to := filepath.Join(c.to, "resolv.conf")
	is, err := os.Lstat(c.resolver)
	if err != nil || !is.Mode().IsRegular() {
		return nil // names are not found inside, as where the host has no such file
	}
	kept["resolv.conf"] = true
	if was, err := os.Lstat(to); err == nil && os.SameFile(is, was) {
		return nil
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Link(c.resolver, to)
}

// entry copies one name of the directory fd; ok says whether it is in the copy.
func (c *etcCopy) entry(fd int, name, at string, below node) (ok bool, err error) {
	child, err := sys.Openat2(fd, name, sys.OPath|syscall.O_NOFOLLOW, sys.ResolveBeneath)
	if err == syscall.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer sys.Close(child)
	var st syscall.Stat_t
	if err := syscall.Fstat(child, &st); err != nil {
		return false, err
	}
	if c.files++; c.files > maxEtcFiles {
		return false, fmt.Errorf("more than %d files", maxEtcFiles)
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		buf := make([]byte, 4096)
		n, err := sys.Readlinkat(child, buf)
		if err != nil || n == len(buf) {
			return false, err
		}
		return true, c.link(at, string(buf[:n]))
	case syscall.S_IFDIR:
		if st.Mode&0o005 != 0o005 {
			return false, nil
		}
		dir, err := sys.Openat2(fd, name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, sys.ResolveBeneath|sys.ResolveNoSymlinks)
		if err != nil {
			return false, gone(err)
		}
		defer sys.Close(dir)
		to := filepath.Join(c.to, at)
		if was, err := os.Lstat(to); err == nil && !was.IsDir() {
			if err := os.Remove(to); err != nil {
				return false, err
			}
		}
		if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return false, err
		}
		if err := os.Chmod(to, 0o755); err != nil {
			return false, err
		}
		return true, c.dir(dir, at, below)
	case syscall.S_IFREG:
		return c.file(fd, name, at)
	}
	return false, nil
}

// gone is nil for the error of what has been removed or replaced meanwhile; that is told,
// and so looked at again.
func gone(err error) error {
	if err == syscall.ENOENT || err == syscall.ELOOP || err == syscall.ENOTDIR {
		return nil
	}
	return err
}

// file copies a regular file, judged by the descriptor that is read.
func (c *etcCopy) file(fd int, name, at string) (bool, error) {
	file, err := sys.Openat2(fd, name, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY, sys.ResolveBeneath|sys.ResolveNoSymlinks)
	if err != nil {
		return false, gone(err)
	}
	f := os.NewFile(uintptr(file), at)
	defer f.Close()
	is, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !is.Mode().IsRegular() || is.Mode()&0o004 == 0 {
		return false, nil
	}
	if c.bytes += is.Size(); c.bytes > maxEtcBytes {
		return false, fmt.Errorf("more than %d MiB in all", maxEtcBytes>>20)
	}
	mode := is.Mode().Perm()&0o555 | 0o444
	if c.has(at, is.Size(), mode, is.ModTime()) {
		return true, nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxEtcBytes))
	if err != nil || bytes.Contains(text, privateKey) {
		return false, err
	}
	return true, c.write(at, bytes.NewReader(text), is.Size(), mode, is.ModTime())
}

// privateKey ends the first line of a private key (RFC 7468; OpenSSH's are alike). A file with one is
// never copied, whatever its name is and whoever may read it: it may stand behind a certificate.
var privateKey = []byte("PRIVATE KEY-----")

// has reports whether a file of the copy is there as it was.
func (c *etcCopy) has(at string, size int64, mode os.FileMode, changed time.Time) bool {
	was, err := os.Lstat(filepath.Join(c.to, at))
	return err == nil && was.Mode().IsRegular() && was.Size() == size && was.ModTime().Equal(changed) && was.Mode().Perm() == mode
}

// write makes a file of the copy, unless it is there as it was. It is replaced by rename,
// so that nobody sees half of it.
func (c *etcCopy) write(at string, r io.Reader, size int64, mode os.FileMode, changed time.Time) error {
	if c.has(at, size, mode, changed) {
		return nil
	}
	to := filepath.Join(c.to, at)
	if was, err := os.Lstat(to); err == nil && was.IsDir() {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	fresh := filepath.Join(filepath.Dir(to), ".new")
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(r, maxEtcBytes))
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Chtimes(fresh, changed, changed)
	}
	if err == nil {
		err = os.Rename(fresh, to)
	}
	if err != nil {
		_ = os.Remove(fresh)
	}
	return err
}

// link makes a link of the copy, unless it is there as it was.
func (c *etcCopy) link(at, text string) error {
	to := filepath.Join(c.to, at)
	if was, err := os.Readlink(to); err == nil && was == text {
		return nil
	}
	if was, err := os.Lstat(to); err == nil && was.IsDir() {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	fresh := filepath.Join(filepath.Dir(to), ".new")
	_ = os.Remove(fresh)
	if err := os.Symlink(text, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, to)
}
