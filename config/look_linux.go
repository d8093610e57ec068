package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Places are looked at by another process. A file system that has stopped answering,
// as a network one without its server does, keeps whoever asks it, also from being
// killed; a thread that waits so keeps its whole process from ending.

const (
	// answerWithin is how long one file system may take for one place.
	answerWithin = time.Second
	// lookWithin is how long all of them may take. What has not been seen by then
	// counts as not answering.
	lookWithin = 8 * time.Second
	// lookers bounds how many file systems are looked at side by side.
	lookers = 64
)

// Look is the command that looks at places on behalf of Load: it calls LookAtPlaces
// with its standard input and output. The program's main sets it, to a verb of its own.
// Without one, Load looks itself, and is kept by what does not answer no longer than
// otherwise, but its process may be at its end.
var Look []string

// seen is what a look at a path found.
type seen struct {
	errno unix.Errno // 0, or why it cannot be opened; ETIMEDOUT is no answer
	link  string     // with ELOOP, the symbolic link on the way
	id    fileID
	mode  uint32
	uid   uint32
	// above are the directories above, from the nearest to /.
	above []seenDir
	// aboveErrno is why they cannot be looked at.
	aboveErrno unix.Errno
}

type seenDir struct {
	id        fileID
	mode, uid uint32
}

// lookAt looks at paths, file system by file system, and calls tell once for each.
// It returns when every one is told, also if some do not answer.
func lookAt(paths []string, tell func(i int, s *seen)) {
	mounts := mountPoints()
	groups := make(map[string][]int)
	var order []string
	for i, p := range paths {
		m := p
		for m != "/" && !mounts[m] {
			m = path.Dir(m)
		}
		if groups[m] == nil {
			order = append(order, m)
		}
		groups[m] = append(groups[m], i)
	}
	var wait sync.WaitGroup
	slot := make(chan struct{}, lookers)
	var mu sync.Mutex
	say := func(i int, s *seen) {
		mu.Lock()
		defer mu.Unlock()
		tell(i, s)
	}
	for _, m := range order {
		slot <- struct{}{}
		wait.Go(func() {
			defer func() { <-slot }()
			group := groups[m]
			found := make(chan *seen, len(group)) // whoever comes back late finds room
			gone := make(chan struct{})
			defer close(gone)
			go func() {
				above := make(map[string]*seen)
				for _, i := range group {
					found <- lookAtOne(paths[i], above)
					select {
					case <-gone:
						return
					default:
					}
				}
			}()
			timer := time.NewTimer(answerWithin)
			defer timer.Stop()
			for n, i := range group {
				select {
				case s := <-found:
					say(i, s)
					timer.Reset(answerWithin)
				case <-timer.C:
					for _, i := range group[n:] {
						say(i, &seen{errno: unix.ETIMEDOUT})
					}
					return
				}
			}
		})
	}
	wait.Wait()
}

// lookAtOne looks at one path. above is what is known of directories.
func lookAtOne(p string, above map[string]*seen) *seen {
	var s seen
	fd, err := openPath(p, unix.O_PATH)
	if err != nil {
		s.errno = errnoOf(err)
		if s.errno == unix.ELOOP {
			s.link = linkIn(p)
		}
		if s.errno == unix.ENOENT { // it may be to be made there
			s.lookedAbove(p, above)
		}
		return &s
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		s.errno = errnoOf(err)
		return &s
	}
	s.id, s.mode, s.uid = idOf(&st), st.Mode, st.Uid
	if p != "/" {
		s.lookedAbove(p, above)
	}
	return &s
}

// lookedAbove is what is to be seen above p, looked at once for all paths in a directory.
func (s *seen) lookedAbove(p string, above map[string]*seen) {
	dir := path.Dir(p)
	d := above[dir]
	if d == nil {
		d = lookAbove(dir)
		above[dir] = d
	}
	s.above, s.aboveErrno = d.above, d.aboveErrno
}

// lookAbove looks at a directory and those above it.
func lookAbove(dir string) *seen {
	var s seen
	add := func(_ string, st *unix.Stat_t) { s.above = append(s.above, seenDir{idOf(st), st.Mode, st.Uid}) }
	fd, err := openPath(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		defer unix.Close(fd)
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil {
			add(dir, &st)
			err = dirsAbove(fd, dir, add)
		}
	}
	if err != nil {
		s.aboveErrno = errnoOf(err)
	}
	return &s
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return unix.EIO
	}
	return errno
}

// linkIn returns the first symbolic link on the way to p.
func linkIn(p string) string {
	link := p
	for dir := p; dir != "/" && dir != "."; dir = path.Dir(dir) {
		if fi, err := os.Lstat(dir); err == nil && fi.Mode()&os.ModeSymlink != 0 {
			link = dir
		}
	}
	return link
}

// mountPoints are the directories that something is mounted on, from the text of
// proc_pid_mountinfo(5): nothing is asked of a file system.
func mountPoints() map[string]bool {
	points := map[string]bool{}
	text, _ := os.ReadFile("/proc/self/mountinfo") // without it all are one file system
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) > 4 {
			points[unescape(string(f[4]))] = true
		}
	}
	return points
}

// unescape resolves \ooo, in which mountinfo writes blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// LookAtPlaces is the other process: it reads paths, one to a line in quotes, and
// writes what it sees of each, in any order, then a line with a dot.
func LookAtPlaces(r io.Reader, w io.Writer) error {
	var paths []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p, err := strconv.Unquote(lines.Text())
		if err != nil || !isClean(p) {
			return fmt.Errorf("not a path: %s", lines.Text())
		}
		paths = append(paths, p)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	lookAt(paths, func(i int, s *seen) {
		fmt.Fprintf(out, "%d %d %d %d %d %d %d %q", i, s.errno, s.aboveErrno, s.id.dev, s.id.ino, s.mode, s.uid, s.link)
		for _, d := range s.above {
			fmt.Fprintf(out, " %d %d %d %d", d.id.dev, d.id.ino, d.mode, d.uid)
		}
		out.WriteByte('\n')
	})
	out.WriteString(".\n")
	return out.Flush()
}

// readSeen reads one line of LookAtPlaces.
func readSeen(line string) (i int, s *seen, ok bool) {
	ok = true
	number := func(bits int) uint64 {
		var word string
		word, line, _ = strings.Cut(line, " ")
		n, err := strconv.ParseUint(word, 10, bits)
		ok = ok && err == nil
		return n
	}
	i = int(number(31))
	s = &seen{errno: unix.Errno(number(32)), aboveErrno: unix.Errno(number(32)), id: fileID{number(64), number(64)}, mode: uint32(number(32)), uid: uint32(number(32))}
	quoted, err := strconv.QuotedPrefix(line)
	if err == nil {
		s.link, err = strconv.Unquote(quoted)
	}
	if err != nil {
		return 0, nil, false
	}
	rest := line[len(quoted):]
	for rest != "" && ok {
		line = strings.TrimPrefix(rest, " ")
		s.above = append(s.above, seenDir{fileID{number(64), number(64)}, uint32(number(32)), uint32(number(32))})
		rest = line
	}
	return i, s, ok
}

// lookElsewhere has another process look at paths.
func lookElsewhere(command, paths []string) ([]*seen, error) {
	found := make([]*seen, len(paths))
	var in bytes.Buffer
	for _, p := range paths {
		in.WriteString(strconv.Quote(p) + "\n")
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stderr, cmd.Dir = &in, os.Stderr, "/"
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		go cmd.Wait() // it may have to wait for what does not answer; nobody waits for it
	}()
	done := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if lines.Text() == "." {
				done <- nil
				return
			}
			i, s, ok := readSeen(lines.Text())
			if !ok || i < 0 || i >= len(found) {
				break
			}
			found[i] = s
		}
		done <- errors.New("the process that looks at places has ended early")
	}()
	select {
	case err = <-done:
		return found, err
	case <-time.After(lookWithin):
		_ = cmd.Process.Kill()
		out.Close()
		<-done // the pipe is closed
		return found, nil
	}
}

// look returns what is seen of paths, one for each; nil where nothing is to be looked at.
func (v *validator) look(paths []string) map[string]*seen {
	if v.opt.SkipFS || v.opt.SkipPlaces {
		return nil
	}
	found := make([]*seen, len(paths))
	if len(Look) > 0 {
		var err error
		if found, err = lookElsewhere(Look, paths); err != nil {
			v.errorf(origin{file: v.registry}, "the root directories and mount sources cannot be looked at: %v", err)
			return nil
		}
	} else {
		lookAt(paths, func(i int, s *seen) { found[i] = s })
	}
	all := make(map[string]*seen, len(paths))
	for i, p := range paths {
		if all[p] = found[i]; found[i] == nil {
			all[p] = &seen{errno: unix.ETIMEDOUT}
		}
	}
	return all
}
