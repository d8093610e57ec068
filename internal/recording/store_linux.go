package recording

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is where recordings are kept: a directory for each login in it, all of it root's alone.
const Dir = "/var/log/jail/recordings"

// Limits of the store. The oldest recordings of a login make room for its new ones, whoever made
// them so large; those of others stay.
const (
	MaxRecording = 64 << 20  // bytes of one
	MaxLogin     = 256 << 20 // bytes of all of one login's
	MaxFiles     = 1000      // of one login's
)

const suffix = ".cast"

// Info is one recording of the store.
type Info struct {
	ID      string    `json:"id"`
	Login   string    `json:"login"`
	Jail    string    `json:"jail"`
	Began   time.Time `json:"began"`
	Size    int64     `json:"size"` // bytes
	Running bool      `json:"running"`
	PID     int       `json:"pid"` // of the session's jail-enter

	Path string `json:"-"`
}

// store is the part of a store that a recorder writes to.
type store struct {
	dir   string
	login int64 // MaxLogin
	files int   // MaxFiles
	one   int64 // MaxRecording
	log   func(login, format string, args ...any)
}

// create makes a new file for a login, with its first line, which is locked as long as it is written:
// who follows it knows by that. id is what it is called.
func (s *store) create(login string, now time.Time, pid int, first []byte) (f *os.File, id string, err error) {
	dir := filepath.Join(s.dir, login)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	// Without a name until then: who sees it first would take it for ended, or damaged.
	f, err = os.OpenFile(dir, os.O_WRONLY|os.O_APPEND|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, "", err
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		_, err = f.Write(first)
	}
	for n := 1; err == nil; n++ {
		id = now.UTC().Format(idTime) + "-" + strconv.Itoa(pid)
		if n > 1 {
			id += "-" + strconv.Itoa(n)
		}
		err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, filepath.Join(dir, id+suffix), unix.AT_SYMLINK_FOLLOW)
		if err == nil {
			return f, id, nil
		}
		if err == unix.EEXIST && n < 10 {
			err = nil
		}
	}
	f.Close()
	return nil, "", fmt.Errorf("make a file in %s: %w", dir, err)
}

// idTime is how an id begins.
const idTime = "20060102T150405"

// room removes the oldest recordings of a login that nobody writes any more, until there is room
// for more bytes, and reports whether there is.
func (s *store) room(login string, more int64) bool {
	dir := filepath.Join(s.dir, login)
	entries, err := os.ReadDir(dir) // sorted, and so by time
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	if err != nil {
		return false
	}
	total, count := more, len(entries)
	sizes := make([]int64, len(entries))
	for i, e := range entries {
		if st, err := e.Info(); err == nil {
			sizes[i] = st.Size()
			total += sizes[i]
		}
	}
	for i, e := range entries {
		if total <= s.login && count <= s.files {
			return true
		}
		path := filepath.Join(dir, e.Name())
		if !e.Type().IsRegular() || running(path) {
			continue
		}
		if err := os.Remove(path); err != nil {
			s.log(login, "recording %s of login %s cannot be removed: %v", strings.TrimSuffix(e.Name(), suffix), login, err)
			continue
		}
		s.log(login, "recording %s of login %s was removed, to make room for a new one", strings.TrimSuffix(e.Name(), suffix), login)
		total -= sizes[i]
		count--
	}
	return total <= s.login && count <= s.files
}

// running reports whether somebody writes the file.
func running(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return locked(f)
}

func locked(f *os.File) bool {
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// List returns the recordings in dir, of one login or, with "", of all, by time.
func List(dir, login string) ([]Info, error) {
	folders, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var list []Info
	for _, folder := range folders {
		l := folder.Name()
		entries, err := os.ReadDir(filepath.Join(dir, l))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			id, ok := strings.CutSuffix(e.Name(), suffix)
			if !ok || !e.Type().IsRegular() {
				continue
			}
			i := Info{ID: id, Login: l, Path: filepath.Join(dir, l, e.Name())}
			if st, err := e.Info(); err == nil {
				i.Size = st.Size()
			}
			if i.describe(); login == "" || i.Login == login {
				list = append(list, i)
			}
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list, nil
}

// describe fills in what the file itself says.
func (i *Info) describe() {
	if began, err := time.Parse(idTime, i.ID[:min(len(i.ID), len(idTime))]); err == nil {
		i.Began = began
	}
	f, err := os.OpenFile(i.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	i.Running = locked(f)
	if r, err := NewReader(io.LimitReader(f, maxLine)); err == nil {
		i.PID, i.Jail, i.Login = r.Header.PID, r.Header.Jail, cmp.Or(r.Header.Login, i.Login)
	}
}

// Find returns the one recording that name means: its id, or enough of the beginning of it, or a
// login's name for its last one.
func Find(dir, name string) (Info, error) {
	list, err := List(dir, "")
	if err != nil {
		return Info{}, err
	}
	var found []Info
	for _, i := range list {
		switch {
		case i.ID == name:
			return i, nil
		case i.Login == name:
			found = []Info{i}
		case name != "" && strings.HasPrefix(i.ID, name):
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return Info{}, fmt.Errorf("there is no recording %q; jail recordings lists them", name)
	case 1:
		return found[0], nil
	}
	return Info{}, fmt.Errorf("%d recordings begin with %q, %s and %s among them; say more of the id", len(found), name, found[0].ID, found[1].ID)
}

// Open opens a recording for reading. One that is still written ends where it is, for follow
// it does not until it does: a read waits.
func (i *Info) Open(follow bool) (io.ReadCloser, error) {
	f, err := os.OpenFile(i.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil || !follow {
		return f, err
	}
	return &followed{f}, nil
}

// followed is a file that somebody writes.
type followed struct{ *os.File }

// followPause is how long a reader waits for more. Polling is what works on every file system.
const followPause = 50 * time.Millisecond

func (f *followed) Read(p []byte) (int, error) {
	for {
		ended := !locked(f.File) // before the read that finds no more
		n, err := f.File.Read(p)
		if n > 0 || err != io.EOF || ended {
			return n, err
		}
		time.Sleep(followPause)
	}
}
