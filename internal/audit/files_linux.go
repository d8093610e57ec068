package audit

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// files is the host's file system, as far as it is looked at.
type files interface {
	lstat(path string) (stat, error)
	readlink(path string) (string, error)
	read(path string) ([]byte, error)
	glob(pattern string) []string
	hasCaps(path string) bool // file capabilities
}

type stat struct {
	uid, gid uint32
	mode     uint32 // st_mode
}

func (s stat) isDir() bool     { return s.mode&unix.S_IFMT == unix.S_IFDIR }
func (s stat) isLink() bool    { return s.mode&unix.S_IFMT == unix.S_IFLNK }
func (s stat) isRegular() bool { return s.mode&unix.S_IFMT == unix.S_IFREG }
func (s stat) sticky() bool    { return s.mode&unix.S_ISVTX != 0 }

// hostFiles are the files below a directory.
type hostFiles string

func (root hostFiles) lstat(p string) (stat, error) {
	var st unix.Stat_t
	if err := unix.Lstat(string(root)+p, &st); err != nil {
		return stat{}, err
	}
	return stat{st.Uid, st.Gid, st.Mode}, nil
}

func (root hostFiles) readlink(p string) (string, error) { return os.Readlink(string(root) + p) }

func (root hostFiles) read(p string) ([]byte, error) { return os.ReadFile(string(root) + p) }

func (root hostFiles) glob(pattern string) []string {
	found, _ := filepath.Glob(string(root) + pattern)
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], string(root))
	}
	return found
}

func (root hostFiles) hasCaps(p string) bool {
	n, err := unix.Lgetxattr(string(root)+p, "security.capability", nil)
	return err == nil && n > 0
}

// trail is a walk along a path, with all that decides where it ends.
type trail struct {
	real string // where it ends, without a symbolic link as far as it exists
	// steps are the directories passed and, last, what is at the end, if it
	// exists. A link on the way is not one of them, but what it is in is.
	steps []step
	err   error // why it does not exist
}

type step struct {
	path string
	stat
}

func (t *trail) missing() bool { return errors.Is(t.err, fs.ErrNotExist) }

// end is what the path leads to; it must exist.
func (t *trail) end() step { return t.steps[len(t.steps)-1] }

// walk follows a path, all links included.
func walk(f files, p string) trail {
	const maxLinks = 40 // as the kernel has it
	t := trail{real: "/"}
	st, err := f.lstat("/")
	if err != nil {
		t.err = err
		return t
	}
	t.steps = append(t.steps, step{"/", st})
	rest := strings.Split(p, "/")
	for links := 0; len(rest) > 0; {
		var next string
		switch rest[0] {
		case "", ".":
			rest = rest[1:]
			continue
		default:
			next, rest = path.Join(t.real, rest[0]), rest[1:]
		}
		if st, err = f.lstat(next); err != nil {
			t.real, t.err = path.Join(next, path.Join(rest...)), err
			return t
		}
		if st.isLink() {
			target, err := f.readlink(next)
			if links++; links > maxLinks {
				err = unix.ELOOP
			}
			if err != nil {
				t.err = err
				return t
			}
			if path.IsAbs(target) {
				t.real = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		}
		t.real = next
		t.steps = append(t.steps, step{next, st})
	}
	return t
}

// groupWriters is who besides root is in a group.
type groupWriters struct {
	name string
	any  bool
}

// groupWriters returns who besides root is in a group: the members it lists and
// the accounts whose primary group it is.
func (a *auditor) groupWriters(gid uint32) (name string, any bool) {
	if gid == 0 {
		return "root", false
	}
	if w, ok := a.writers[gid]; ok {
		return w.name, w.any
	}
	for _, g := range a.groups {
		if g.gid != gid {
			continue
		}
		name = g.name
		for _, m := range g.members {
			any = any || m != "" && m != "root"
		}
	}
	for line := range strings.SplitSeq(string(a.opt.Passwd), "\n") {
		if f := strings.Split(line, ":"); len(f) == 7 && f[3] == decimal(gid) && f[2] != "0" {
			any = true
		}
	}
	if name == "" {
		name = decimal(gid)
	}
	if a.writers == nil {
		a.writers = map[uint32]groupWriters{}
	}
	a.writers[gid] = groupWriters{name, any}
	return name, any
}

// contains reports whether inner is outer or lies below it.
func contains(outer, inner string) bool {
	return outer == inner || outer == "/" || strings.HasPrefix(inner, outer+"/")
}
