package record

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"jail/internal/jail"
)

const (
	// MaxFile is where a file is full, in bytes, and Kept how many full ones of a jail are
	// kept: ten thousand sessions in each.
	MaxFile = 4 << 20
	Kept    = 7

	// host is the name of the file of what is no jail's. No jail has it.
	host   = "HOST"
	suffix = ".jsonl"
)

// Store are the records below a directory: DIR/jails/NAME.jsonl is a jail's, DIR/host.jsonl
// of what is no jail's, and with .1 to .7 behind their names older ones. Several
// programs may write and read at once. The directories are for their owner alone: who
// logs in from where is nobody else's business.
type Store struct {
	dir     string
	maxFile int64
	opened  func() // of tests: a reader has opened a file
}

// Open returns the store below dir. Nothing is made before something is written.
func Open(dir string) *Store { return &Store{dir: dir, maxFile: MaxFile} }

func (s *Store) path(name string) string {
	if name == "" || name == host {
		return filepath.Join(s.dir, "host"+suffix)
	}
	return filepath.Join(s.dir, "jails", name+suffix)
}

func older(path string, n int) string {
	if n == 0 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

// Append writes lines, each with its end, to the file of a jail, or with "" to that of what
// is no jail's. All of them are written, or none. It waits for the file system, and for
// another program that writes.
func (s *Store) Append(name string, lines []byte) error {
	path := s.path(name)
	f, err := s.openLocked(path)
	if errors.Is(err, os.ErrNotExist) {
		if err = s.makeDirs(path); err == nil {
			f, err = s.openLocked(path)
		}
	}
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size > 0 && size+int64(len(lines)) > s.maxFile {
		// Whoever waits for the lock of the old file looks at the name again.
		if err := rotate(path); err != nil {
			return err
		}
		fresh, err := s.openLocked(path)
		if err != nil {
			return err
		}
		f.Close()
		f = fresh
		if size, err = f.Seek(0, io.SeekEnd); err != nil {
			return err
		}
	}
	// Half a line, of a machine that has lost its power: what follows is to be read.
	last := []byte{'\n'}
	if size > 0 {
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
	}
	if last[0] != '\n' {
		lines = append([]byte{'\n'}, lines...)
	}
	if _, err := f.WriteAt(lines, size); err != nil {
		_ = f.Truncate(size) // a disk that is full takes a part
		return err
	}
	return nil
}

func (s *Store) makeDirs(path string) error {
	// Above it is the system's, or there: a missing /var is nothing to make up for.
	for _, dir := range []string{s.dir, filepath.Dir(path)} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// openLocked opens the file of that name, and nothing else that it may be, for writing,
// and waits until nobody else does. Another may have renamed it meanwhile.
func (s *Store) openLocked(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		var ours, there syscall.Stat_t
		if err = syscall.Fstat(int(f.Fd()), &ours); err == nil && ours.Mode&syscall.S_IFMT != syscall.S_IFREG {
			err = &os.PathError{Op: "open", Path: path, Err: errors.New("is no file")}
		}
		if err == nil {
			err = flock(f)
		}
		if err == nil {
			if err = syscall.Lstat(path, &there); err == nil && there.Ino == ours.Ino && there.Dev == ours.Dev {
				return f, nil
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return nil, err
		}
	}
}

func flock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}

// rotate makes room for a new file. The caller has the lock of the one that is full.
func rotate(path string) error {
	for n := Kept - 1; n >= 0; n-- {
		if err := os.Rename(older(path, n), older(path, n+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Jails returns the names that there are records of, sorted.
func (s *Store) Jails() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "jails"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), suffix)
		if jail.ValidName(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Damage is a line that cannot be read.
type Damage struct {
	Path string
	Line int
	Err  error
}

// Error names the place.
func (d *Damage) Error() string { return fmt.Sprintf("%s:%d: %v", d.Path, d.Line, d.Err) }

// Read hands the entries of a jail, or with "" those that are no jail's, to each, the
// oldest first, until it reports false. What is damaged is passed over and handed to
// damaged. Who writes meanwhile does not disturb it: an entry is read once.
func (s *Store) Read(name string, each func(e *Entry) bool, damaged func(*Damage)) error {
	files, err := s.open(name)
	defer closeAll(files)
	if err != nil {
		return err
	}
	for _, f := range slices.Backward(files) {
		if more, _, err := scan(f, 1, each, damaged); err != nil || !more {
			return err
		}
	}
	return nil
}

// open opens the files of a jail, the newest first. What is renamed meanwhile would be missed, or
// out of its order, so then it begins again.
func (s *Store) open(name string) (files []*os.File, err error) {
	const patience = 100
	path := s.path(name)
	for range patience {
		var newest, now syscall.Stat_t
		closeAll(files)
		files = nil
		for n := 0; n <= Kept; n++ {
			f, err := os.OpenFile(older(path, n), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return files, err
			}
			var st syscall.Stat_t
			if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
				f.Close()
				continue
			}
			if files = append(files, f); n == 0 {
				newest = st
			}
			if s.opened != nil {
				s.opened()
			}
		}
		if err := syscall.Lstat(path, &now); err != nil {
			now = syscall.Stat_t{}
		}
		if now.Ino == newest.Ino && now.Dev == newest.Dev {
			break
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Tail reads what comes.
type Tail struct {
	s    *Store
	name string
	f    *os.File // nil until there is a file
	at   place
}

// place is where a reader of a file is: so many bytes and lines from its beginning.
type place struct {
	bytes int64
	lines int
}

// Tail hands what there is to each, as Read does, and is ready for more.
func (s *Store) Tail(name string, each func(e *Entry), damaged func(*Damage)) (*Tail, error) {
	files, err := s.open(name)
	if err != nil {
		closeAll(files)
		return nil, err
	}
	t := &Tail{s: s, name: name}
	for i, f := range slices.Backward(files) {
		if _, t.at, err = scan(f, 1, func(e *Entry) bool { each(e); return true }, damaged); err != nil {
			closeAll(files)
			return nil, err
		}
		if i == 0 {
			t.f = f
		} else {
			f.Close()
		}
	}
	return t, nil
}

// Close ends the reading.
func (t *Tail) Close() {
	if t.f != nil {
		t.f.Close()
	}
}

// More hands what has come to each. Of more than one file that has been filled since the
// last time, the newest is read.
func (t *Tail) More(each func(e *Entry), damaged func(*Damage)) error {
	read := func() error {
		if _, err := t.f.Seek(t.at.bytes, io.SeekStart); err != nil {
			return err
		}
		_, to, err := scan(t.f, t.at.lines+1, func(e *Entry) bool { each(e); return true }, damaged)
		t.at.bytes, t.at.lines = t.at.bytes+to.bytes, t.at.lines+to.lines
		return err
	}
	fresh, err := os.OpenFile(t.s.path(t.name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// After that: what was written into the old file before it was renamed is read.
	if t.f != nil {
		if err := read(); err != nil {
			return err
		}
	}
	if fresh == nil {
		return nil
	}
	if t.f != nil {
		was, err := t.f.Stat()
		is, err2 := fresh.Stat()
		if err != nil || err2 != nil || os.SameFile(was, is) {
			return fresh.Close()
		}
		t.f.Close()
	}
	t.f, t.at = fresh, place{}
	return read()
}

// last returns the last entry of a jail, if the newest file ends with one.
func (s *Store) last(name string) (e Entry, ok bool) {
	f, err := os.OpenFile(s.path(name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Entry{}, false
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Entry{}, false
	}
	tail := make([]byte, min(size, maxLine))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return Entry{}, false
	}
	tail, whole := bytes.CutSuffix(tail, []byte{'\n'})
	if !whole {
		return Entry{}, false
	}
	e, err = parse(tail[bytes.LastIndexByte(tail, '\n')+1:])
	return e, err == nil
}

// scan reads one file from where it is, in which its line number first is, and returns how
// far: to the end of a line.
func scan(f *os.File, first int, each func(e *Entry) bool, damaged func(*Damage)) (more bool, to place, err error) {
	in := bufio.NewReaderSize(f, maxLine)
	for n := first; ; n++ {
		line, err := in.ReadSlice('\n')
		size, long := int64(len(line)), errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			var rest []byte
			rest, err = in.ReadSlice('\n')
			size += int64(len(rest))
		}
		if err != nil && err != io.EOF {
			return false, to, err
		}
		if err == io.EOF && (size == 0 || !long) {
			return true, to, nil // what is behind the last end is being written
		}
		to.bytes, to.lines = to.bytes+size, to.lines+1
		if long {
			damaged(&Damage{f.Name(), n, errLine})
			continue
		}
		if line = bytes.TrimSuffix(line, []byte{'\n'}); len(line) == 0 {
			continue
		}
		e, err := parse(line)
		if err != nil {
			damaged(&Damage{f.Name(), n, err})
			continue
		}
		if !each(&e) {
			return false, to, nil
		}
	}
}
