package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/authkeys"
	"jail/internal/event"
	"jail/internal/jail"
	"jail/internal/keys"
	"jail/internal/login"
	"jail/internal/rootpath"
)

// A home belongs to its owner, who may be changing it, and whoever follows him around in it with more
// rights than his is his tool. So what is done there is done by a process that is him, and
// nothing else: it can do no more than he could have done himself.

// OwnerVerb is what this program is run with to be that process; it is not for people.
const OwnerVerb = "in-a-home"

const (
	ownerWithin = 60 * time.Second
	maxReply    = 4 << 20
	// firstFD is where the root directory is, and behind it the mounts.
	firstFD = 3
)

// What an owner is asked for.
const (
	opFill  = "fill"  // /etc/skel's files into a new home, and lines into authorized_keys; root.sync follows
	opKeys  = "keys"  // the text of authorized_keys
	opAdd   = "add"   // lines to it
	opDrop  = "drop"  // lines from it
	opEmpty = "empty" // remove all there is
)

type errand struct {
	Op      string
	UID     uint32
	GID     uint32
	Home    string
	Targets []string
	Lines   []string
}

type reply struct {
	Error string
	Text  []byte
	Count int
}

// asOwner has the owner of u's home do something.
func (r *root) asOwner(u *User, op string, lines []string) (*reply, error) {
	if !jail.ValidID(u.UID) || !jail.ValidID(u.GID) {
		return nil, fmt.Errorf("user %s inside has uid %d and gid %d, which are no person's", u.Name, u.UID, u.GID)
	}
	job, err := json.Marshal(errand{Op: op, UID: u.UID, GID: u.GID, Home: u.Home, Targets: r.targets, Lines: lines})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), ownerWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", OwnerVerb)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(job)
	out := &limited{}
	cmd.Stdout = out
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, fd := range r.fds {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFD)
		if err != nil {
			return nil, err
		}
		f := os.NewFile(uintptr(d), "")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("in %s inside, as its owner: %w", u.Home, err)
	}
	var rep reply
	if err := json.Unmarshal(out.text.Bytes(), &rep); err != nil {
		return nil, fmt.Errorf("in %s inside, as its owner: %w", u.Home, err)
	}
	if rep.Error != "" {
		return nil, fmt.Errorf("inside: %s", event.Printable(rep.Error))
	}
	return &rep, nil
}

type limited struct{ text bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.text.Len()+len(p) > maxReply {
		return 0, errors.New("too long an answer")
	}
	return l.text.Write(p)
}

// Owner is the process: it reads an errand, and writes what came of it.
func Owner(stdin io.Reader, stdout io.Writer) error {
	var e errand
	if err := json.NewDecoder(stdin).Decode(&e); err != nil {
		return err
	}
	// With no groups: what he may in others' homes by one of them is none of this.
	if err := keys.Become(e.UID, e.GID); err != nil {
		return err
	}
	t := &rootpath.Tree{Root: firstFD}
	for i, target := range e.Targets {
		t.Mounts = append(t.Mounts, rootpath.Mount{Target: target, FD: firstFD + 1 + i})
	}
	var rep reply
	if err := e.do(t, &rep); err != nil {
		rep.Error = err.Error()
	}
	return json.NewEncoder(stdout).Encode(&rep)
}

func (e *errand) do(t *rootpath.Tree, rep *reply) error {
	switch e.Op {
	case opFill:
		if err := e.fill(t); err != nil || len(e.Lines) == 0 {
			return err
		}
		return e.change(t, rep)
	case opKeys:
		text, _, err := t.ReadFile(e.keysPath(), authkeys.MaxFile)
		if errors.Is(err, unix.ENOENT) {
			err = nil
		}
		rep.Text = text
		return err
	case opAdd, opDrop:
		return e.change(t, rep)
	case opEmpty:
		fd, st, err := t.WalkDir(e.Home)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if st.Uid != e.UID {
			return fmt.Errorf("%s belongs to uid %d, not to %d: it stays", e.Home, st.Uid, e.UID)
		}
		return empty(fd, 0)
	}
	return errors.New("unknown errand " + e.Op)
}

func (e *errand) keysPath() string { return path.Join(e.Home, login.KeysFile) }

// change adds lines to authorized_keys or takes them out. A key that is there is not added again.
func (e *errand) change(t *rootpath.Tree, rep *reply) error {
	f, err := t.Walk("/", e.keysPath(), nil)
	var text []byte
	var st rootpath.Stat
	switch {
	case err == nil:
		defer f.Close()
		if text, st, err = f.Read(authkeys.MaxFile); err != nil {
			return err
		}
	case errors.Is(err, unix.ENOENT):
		f = nil
	default:
		return err
	}
	next := text
	if e.Op != opDrop {
		next, rep.Count = withKeys(text, e.Lines)
	} else {
		next, rep.Count = withoutLines(text, e.Lines)
	}
	switch {
	case rep.Count == 0:
		err = e.tidy(t)
	case len(next) > authkeys.MaxFile || bytes.Count(next, []byte("\n")) > authkeys.MaxLines:
		return fmt.Errorf("%s would have more than %d lines or %d KiB", e.keysPath(), authkeys.MaxLines, authkeys.MaxFile>>10)
	case f != nil:
		err = f.Replace(next, &st)
	default:
		err = e.newKeys(t, next)
	}
	if err != nil || e.Op == opDrop {
		return err
	}
	return e.readable(t)
}

// tidy removes what a change of authorized_keys has left that was killed.
func (e *errand) tidy(t *rootpath.Tree) error {
	dir, file := path.Split(e.keysPath())
	fd, _, err := t.WalkDir(path.Clean(dir))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return rootpath.TidyAt(fd, file)
}

func (e *errand) newKeys(t *rootpath.Tree, text []byte) error {
	home, _, err := t.WalkDir(e.Home)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	dir, file := path.Split(login.KeysFile)
	dir = path.Clean(dir)
	if err := unix.Mkdirat(home, dir, 0o700); err != nil && err != unix.EEXIST {
		return fmt.Errorf("make %s/%s: %w", e.Home, dir, err)
	}
	fd, _, err := t.WalkDir(path.Join(e.Home, dir))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := rootpath.PutAt(fd, file, text, 0o600, -1, -1, rootpath.How{Lazy: e.Op == opFill}); err != nil {
		return fmt.Errorf("write %s: %w", e.keysPath(), err)
	}
	return nil
}

// readable is whether jail-keys will take the file (jail-keys(8)).
func (e *errand) readable(t *rootpath.Tree) error {
	f, err := t.Walk(e.Home, login.KeysFile, func(p string, st *rootpath.Stat) error {
		switch {
		case st.Uid != e.UID && st.Uid != 0:
			return fmt.Errorf("%s belongs to uid %d, so no key in %s counts; give it to uid %d", p, st.Uid, e.keysPath(), e.UID)
		case st.Mode&0o022 != 0:
			return fmt.Errorf("%s is writable by others, so no key in %s counts; chmod go-w %s", p, e.keysPath(), p)
		}
		return nil
	})
	if err == nil {
		f.Close()
	}
	return err
}

// withKeys is text with those lines whose key it does not have yet.
func withKeys(text []byte, lines []string) ([]byte, int) {
	n := 0
	for _, line := range lines {
		k, err := authkeys.Parse([]byte(line))
		if err != nil {
			continue
		}
		there := false
		authkeys.Lines(text, func(_ int, have *authkeys.Key, err error) bool {
			there = there || err == nil && bytes.Equal(have.Blob, k.Blob)
			return !there
		})
		if there {
			continue
		}
		text = slices.Clone(text)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		text = append(text, line+"\n"...)
		n++
	}
	return text, n
}

// withoutLines is text without the lines that are among lines, character for character.
func withoutLines(text []byte, lines []string) ([]byte, int) {
	var rest []byte
	n := 0
	for line := range bytes.Lines(text) {
		if slices.Contains(lines, strings.TrimSpace(string(line))) {
			n++
			continue
		}
		rest = append(rest, line...)
	}
	return rest, n
}

const (
	maxSkel     = 64
	maxSkelFile = 64 << 10
)

// fill copies the regular files of /etc/skel into a home that is new.
func (e *errand) fill(t *rootpath.Tree) error {
	skel, _, err := t.WalkDir("/etc/skel")
	if err != nil {
		return nil // none, or none for him
	}
	defer unix.Close(skel)
	home, st, err := t.WalkDir(e.Home)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	if st.Uid != e.UID {
		return fmt.Errorf("%s belongs to uid %d, not to %d", e.Home, st.Uid, e.UID)
	}
	names, err := list(skel, maxSkel)
	if err != nil {
		return nil
	}
	for _, n := range names {
		text, st, err := t.ReadFile("/etc/skel/"+n, maxSkelFile)
		if err != nil {
			continue
		}
		if err := rootpath.PutAt(home, n, text, st.Mode&0o755, -1, -1, rootpath.How{Lazy: true}); err != nil {
			return fmt.Errorf("write %s/%s: %w", e.Home, n, err)
		}
	}
	return nil
}

// list returns some of the names in a directory.
func list(dirFD, most int) ([]string, error) {
	fd, err := unix.Openat(dirFD, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(fd), ".")
	defer d.Close()
	names, err := d.Readdirnames(most)
	if err == io.EOF {
		err = nil
	}
	return names, err
}

// maxEmptyDepth bounds the directories held open.
const maxEmptyDepth = 200

// empty removes all there is in a directory, and follows no link.
func empty(dirFD, depth int) error {
	if depth > maxEmptyDepth {
		return errors.New("the home has directories nested too deep to be removed")
	}
	var last error
	for {
		names, err := list(dirFD, 1000)
		if err != nil || len(names) == 0 {
			return errors.Join(err, last)
		}
		removed := 0
		for _, n := range names {
			err := unix.Unlinkat(dirFD, n, 0)
			if err == unix.EISDIR || err == unix.EPERM {
				if err = unix.Unlinkat(dirFD, n, unix.AT_REMOVEDIR); err == unix.ENOTEMPTY || err == unix.EEXIST {
					err = emptyBelow(dirFD, n, depth)
				}
			}
			if err == nil || err == unix.ENOENT {
				removed++
			} else {
				last = fmt.Errorf("%.60q in the home stays: %w", n, err)
			}
		}
		if removed == 0 {
			return last
		}
		last = nil
	}
}

func emptyBelow(dirFD int, name string, depth int) error {
	fd, err := unix.Openat(dirFD, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.EACCES {
		// His own directory, without his own rights on it. Kernels before 6.6 cannot do this to
		// no link (fchmodat2); then it stays.
		if unix.Fchmodat(dirFD, name, 0o700, unix.AT_SYMLINK_NOFOLLOW) == nil {
			fd, err = unix.Openat(dirFD, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := empty(fd, depth+1); err != nil {
		return err
	}
	return unix.Unlinkat(dirFD, name, unix.AT_REMOVEDIR)
}
