package sftpserver

import (
	"strconv"
	"syscall"
	"time"

	"jail/internal/sys"
)

// handle is an open file or directory.
type handle struct {
	used  bool
	dir   *directory // nil for a file
	fd    int
	flags int // of open(2)
	name  string
	next  int // of an unused one: the next unused

	bytesRead, bytesWritten uint64
}

// handles are given out like descriptors of a stack: the one freed last is used
// first. How many there can be is a matter of RLIMIT_NOFILE.
type handles struct {
	list  []handle
	first int // an unused one, plus one; 0 if there is none
}

func (h *handles) add(n handle) int {
	n.used = true
	if h.first == 0 {
		h.list = append(h.list, n)
		return len(h.list) - 1
	}
	i := h.first - 1
	h.first = h.list[i].next
	h.list[i] = n
	return i
}

// get returns a handle, nil if there is none of that number.
func (h *handles) get(i int) *handle {
	if i < 0 || i >= len(h.list) || !h.list[i].used {
		return nil
	}
	return &h.list[i]
}

// file returns the handle of a file, nil if the number is none's.
func (h *handles) file(i int) *handle {
	if f := h.get(i); f != nil && f.dir == nil {
		return f
	}
	return nil
}

func (h *handles) remove(i int) {
	h.list[i] = handle{next: h.first}
	h.first = i + 1
}

// opened answers with a new handle.
func (s *server) opened(r *request, h handle) {
	at := s.begin(typeHandle)
	s.out = putU32(putU32(putU32(s.out, r.id), 4), uint32(s.handles.add(h)))
	s.finish(at)
}

func openFlags(p uint32) int {
	flags := 0
	switch {
	case p&openRead != 0 && p&openWrite != 0:
		flags = syscall.O_RDWR
	case p&openWrite != 0:
		flags = syscall.O_WRONLY
	}
	for _, f := range [...]struct {
		portable uint32
		local    int
	}{{openAppend, syscall.O_APPEND}, {openCreate, syscall.O_CREAT}, {openTrunc, syscall.O_TRUNC}, {openExcl, syscall.O_EXCL}} {
		if p&f.portable != 0 {
			flags |= f.local
		}
	}
	return flags
}

func flagNames(p uint32) string {
	text := ""
	for i, name := range [...]string{"READ", "WRITE", "APPEND", "CREATE", "TRUNCATE", "EXCL"} {
		if p&(1<<i) == 0 {
			continue
		}
		if text != "" {
			text += ","
		}
		text += name
	}
	return text
}

func octal(n uint32) string { return "0" + strconv.FormatUint(uint64(n), 8) }

func (s *server) open(r *request) {
	flags, mode := openFlags(r.flags), uint32(0o666)
	if r.attrs.flags&attrPermissions != 0 {
		mode = r.attrs.perm
	}
	if s.log.on(levelInfo) {
		s.log.line(levelInfo, "open \"", r.path, "\" flags ", flagNames(r.flags), " mode ", octal(mode))
	}
	if s.readOnly && (flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&(syscall.O_CREAT|syscall.O_TRUNC) != 0) {
		s.log.line(levelVerbose, "Refusing open request in read-only mode")
		s.status(r, statusPermissionDenied)
		return
	}
	fd := -1
	err := again(func() (err error) {
		fd, err = syscall.Open(r.path, flags, mode)
		return err
	})
	if err != nil {
		s.result(r, err)
		return
	}
	s.opened(r, handle{fd: fd, flags: flags, name: r.path})
}

func (s *server) close(r *request) {
	h := s.handles.get(r.handle)
	if h == nil {
		s.result(r, syscall.ENOENT)
		return
	}
	s.logClose(h, "")
	err := syscall.Close(h.fd)
	s.handles.remove(r.handle)
	s.result(r, err)
}

func (s *server) logClose(h *handle, how string) {
	if !s.log.on(levelInfo) {
		return
	}
	if h.dir != nil {
		s.log.line(levelInfo, how, "closedir \"", h.name, "\"")
		return
	}
	s.log.line(levelInfo, how, "close \"", h.name, "\" bytes read ", strconv.FormatUint(h.bytesRead, 10),
		" written ", strconv.FormatUint(h.bytesWritten, 10))
}

// logExit logs what ends with the session.
func (s *server) logExit() {
	for i := range s.handles.list {
		if h := s.handles.get(i); h != nil {
			s.logClose(h, "forced ")
		}
	}
	s.log.line(levelInfo, "session closed for local user ", s.user.name, " from [", s.peer, "]")
}

// dataHeader is what comes before the data of a DATA: length, type, id, length.
const dataHeader = 4 + 1 + 4 + 4

// read reads from the file into the answer.
func (s *server) read(r *request) {
	h := s.handles.file(r.handle)
	if h == nil {
		s.status(r, statusFailure)
		return
	}
	if !s.roomy {
		s.roomy = true
		makeRoom(1)
	}
	n := int(min(r.length, maxData))
	if cap(s.out)-len(s.out) < dataHeader+n {
		if s.flush() != nil {
			return // the loop finds out
		}
	}
	at := len(s.out)
	got, err := pread(h.fd, s.out[at+dataHeader:at+dataHeader+n], int64(r.offset))
	if err != nil {
		s.log.line(levelError, "read \"", h.name, "\": ", err.Error())
		s.result(r, err)
		return
	}
	if got == 0 && n > 0 {
		s.status(r, statusEOF)
		return
	}
	s.out = putU32(putU32(append(s.out, 0, 0, 0, 0, typeData), r.id), uint32(got))
	s.out = s.out[:at+dataHeader+got]
	s.finish(at)
	h.bytesRead += uint64(got)
}

// pread is pread(2); what cannot be read at an offset, a FIFO for one, fails as a
// seek in it does, also if nothing is to be read.
func pread(fd int, p []byte, off int64) (int, error) {
	if len(p) == 0 {
		_, err := syscall.Seek(fd, off, 0)
		return 0, err
	}
	return sys.Pread(fd, p, off)
}

// write writes the data where it lies in the message.
func (s *server) write(r *request) {
	h := s.handles.file(r.handle)
	if h == nil {
		s.status(r, statusFailure)
		return
	}
	n, err := s.put(h, r.data, int64(r.offset))
	switch {
	case err != nil:
		s.log.line(levelError, "write \"", h.name, "\": ", err.Error())
		s.result(r, err)
	case n != len(r.data):
		s.status(r, statusFailure) // the disk is full
	default:
		h.bytesWritten += uint64(n)
		s.status(r, statusOK)
	}
}

// put writes at an offset, or at the end of a file opened for appending.
func (s *server) put(h *handle, p []byte, off int64) (n int, err error) {
	if h.flags&syscall.O_APPEND != 0 {
		return sys.Write(h.fd, p)
	}
	return sys.Pwrite(h.fd, p, off)
}

func attrsOf(st *syscall.Stat_t) attrs {
	return attrs{
		flags: attrSize | attrOwner | attrPermissions | attrTimes,
		size:  uint64(st.Size), uid: st.Uid, gid: st.Gid, perm: st.Mode,
		atime: uint32(st.Atim.Sec), mtime: uint32(st.Mtim.Sec),
	}
}

// stated answers with what a stat has found.
func (s *server) stated(r *request, st *syscall.Stat_t, err error) {
	if err != nil {
		s.result(r, err)
		return
	}
	a := attrsOf(st)
	at := s.begin(typeAttrs)
	s.out = putAttrs(putU32(s.out, r.id), &a)
	s.finish(at)
}

func (s *server) stat(r *request) {
	s.log.line(levelVerbose, "stat name \"", r.path, "\"")
	var st syscall.Stat_t
	err := again(func() error { return syscall.Stat(r.path, &st) })
	s.stated(r, &st, err)
}

func (s *server) lstat(r *request) {
	s.log.line(levelVerbose, "lstat name \"", r.path, "\"")
	var st syscall.Stat_t
	err := again(func() error { return syscall.Lstat(r.path, &st) })
	s.stated(r, &st, err)
}

func (s *server) fstat(r *request) {
	h := s.handles.file(r.handle)
	if h == nil {
		s.status(r, statusFailure)
		return
	}
	var st syscall.Stat_t
	err := syscall.Fstat(h.fd, &st)
	s.stated(r, &st, err)
}

// change is how the attributes of one file are set; nil where that makes no
// sense.
type change struct {
	size  func(int64) error
	mode  func(uint32) error
	times func(*[2]syscall.Timespec) error
	owner func(uid, gid int) error
}

// change sets the attributes in the order of sftp-server.c, each whatever became
// of those before, and answers with the last failure.
func (s *server) change(r *request, name string, c change) {
	code := statusOK
	a := &r.attrs
	note := func(err error) {
		if err != nil {
			code = statusOf(err)
		}
	}
	logs := s.log.on(levelInfo)
	if a.flags&attrSize != 0 {
		if c.size == nil {
			s.status(r, statusBadMessage) // a link has no size to set
			return
		}
		if logs {
			s.log.line(levelInfo, "set \"", name, "\" size ", strconv.FormatUint(a.size, 10))
		}
		note(again(func() error { return c.size(int64(a.size)) }))
	}
	if a.flags&attrPermissions != 0 {
		if logs {
			s.log.line(levelInfo, "set \"", name, "\" mode ", octal(a.perm))
		}
		note(c.mode(a.perm & 0o7777))
	}
	if a.flags&attrTimes != 0 {
		if logs {
			s.log.line(levelInfo, "set \"", name, "\" modtime ", time.Unix(int64(a.mtime), 0).Format("20060102-15:04:05"))
		}
		ts := [2]syscall.Timespec{{Sec: int64(a.atime)}, {Sec: int64(a.mtime)}}
		note(c.times(&ts))
	}
	if a.flags&attrOwner != 0 {
		if logs {
			s.log.line(levelInfo, "set \"", name, "\" owner ", strconv.FormatUint(uint64(a.uid), 10),
				" group ", strconv.FormatUint(uint64(a.gid), 10))
		}
		note(c.owner(int(int32(a.uid)), int(int32(a.gid))))
	}
	s.status(r, code)
}

func (s *server) setstat(r *request) {
	s.change(r, r.path, change{
		size:  func(n int64) error { return syscall.Truncate(r.path, n) },
		mode:  func(m uint32) error { return syscall.Chmod(r.path, m) },
		times: func(ts *[2]syscall.Timespec) error { return sys.Utimensat(sys.AtFDCWD, r.path, ts, 0) },
		owner: func(uid, gid int) error { return syscall.Chown(r.path, uid, gid) },
	})
}

func (s *server) fsetstat(r *request) {
	h := s.handles.file(r.handle)
	if h == nil {
		s.status(r, statusFailure)
		return
	}
	s.change(r, h.name, change{
		size:  func(n int64) error { return syscall.Ftruncate(h.fd, n) },
		mode:  func(m uint32) error { return syscall.Fchmod(h.fd, m) },
		times: func(ts *[2]syscall.Timespec) error { return sys.Futimens(h.fd, ts) },
		owner: func(uid, gid int) error { return syscall.Fchown(h.fd, uid, gid) },
	})
}

func (s *server) lsetstat(r *request) {
	s.change(r, r.path, change{
		mode: func(m uint32) error { return lchmod(r.path, m) },
		times: func(ts *[2]syscall.Timespec) error {
			return sys.Utimensat(sys.AtFDCWD, r.path, ts, sys.AtSymlinkNofollow)
		},
		owner: func(uid, gid int) error { return syscall.Lchown(r.path, uid, gid) },
	})
}

// lchmod sets the mode of what path names, which must not be a symbolic link:
// fchmodat(2) has no flags before Linux 6.6, and the C library does it this way.
func lchmod(path string, mode uint32) error {
	fd, err := syscall.Open(path, sys.OPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		return syscall.EOPNOTSUPP
	}
	err = syscall.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
	if err == syscall.ENOENT {
		return syscall.EOPNOTSUPP // there is no /proc
	}
	return err
}
