package sftpserver

import (
	"strings"
	"syscall"
)

func (s *server) statvfs(r *request) {
	s.log.line(levelInfo, "statvfs \"", r.path, "\"")
	var st syscall.Statfs_t
	err := again(func() error { return syscall.Statfs(r.path, &st) })
	s.volume(r, &st, err)
}

func (s *server) fstatvfs(r *request) {
	h := s.handles.file(r.handle)
	if h == nil {
		s.status(r, statusFailure)
		return
	}
	var st syscall.Statfs_t
	err := again(func() error { return syscall.Fstatfs(h.fd, &st) })
	s.volume(r, &st, err)
}

// volume answers with a struct statvfs, made of what statfs(2) says as the C
// library makes it.
func (s *server) volume(r *request, st *syscall.Statfs_t, err error) {
	if err != nil {
		s.result(r, err)
		return
	}
	fragment := st.Frsize
	if fragment == 0 {
		fragment = st.Bsize
	}
	at := s.begin(typeExtendedReply)
	s.out = putU32(s.out, r.id)
	for _, n := range [...]uint64{
		uint64(st.Bsize), uint64(fragment), st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree, st.Ffree,
		fsid(st), uint64(st.Flags) & (syscall.MS_RDONLY | syscall.MS_NOSUID), uint64(st.Namelen),
	} {
		s.out = putU64(s.out, n)
	}
	s.finish(at)
}

// fsid is f_fsid of statvfs(3), an unsigned long that the C library makes of
// statfs(2)'s two words: the first is the lower half, and neither has a sign.
func fsid(st *syscall.Statfs_t) uint64 {
	return uint64(uint32(st.Fsid.X__val[0])) | uint64(uint32(st.Fsid.X__val[1]))<<32
}

func (s *server) fsync(r *request) {
	h := s.handles.file(r.handle)
	if h == nil {
		s.log.line(levelVerbose, "fsync of no file")
		s.status(r, statusNoSuchFile)
		return
	}
	s.log.line(levelVerbose, "fsync \"", h.name, "\"")
	s.result(r, again(func() error { return syscall.Fsync(h.fd) }))
}

// limits answers with what this server can hold.
func (s *server) limits(r *request) {
	var open uint64
	var lim syscall.Rlimit
	// As sftp-server.c has it: without stdio, the log and one to spare.
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil && lim.Cur > 5 {
		open = lim.Cur - 5
	}
	at := s.begin(typeExtendedReply)
	s.out = putU32(s.out, r.id)
	for _, n := range [...]uint64{maxMessage, maxData, maxData, open} {
		s.out = putU64(s.out, n)
	}
	s.finish(at)
}

// expandPath is realpath with ~, which is where the session started, and ~user.
func (s *server) expandPath(r *request) {
	cwd, err := getwd()
	if err != nil {
		s.result(r, err)
		return
	}
	path := r.path
	switch {
	case path == "":
		path = "."
	case path == "~":
		path = cwd
	case strings.HasPrefix(path, "~/"):
		path = cwd + path[1:]
	case path[0] == '~':
		var why string
		if path, why = s.expandTilde(path); why != "" {
			s.log.line(levelError, why)
			s.statusText(r, statusNoSuchFile, "no such user")
			return
		}
	case path[0] != '/':
		path = cwd + "/" + path
	}
	s.log.line(levelVerbose, "expand \"", path, "\"")
	resolved, err := realpath(path)
	if err != nil {
		s.result(r, err)
		return
	}
	s.name(r, resolved)
}

// copyChunk is how much of a file is copied at a time; a file shorter than what
// is to be copied is noticed by the chunk.
const copyChunk = 64 << 10

// copyData copies from one open file to another without the client.
func (s *server) copyData(r *request) {
	from, to := s.handles.file(r.handle), s.handles.file(r.handle2)
	if from == nil || to == nil || from == to || from.name == to.name || sameFile(from.fd, to.fd) {
		s.status(r, statusFailure)
		return
	}
	in, out := int64(r.offset), int64(r.offset2)
	if in < 0 || out < 0 && to.flags&syscall.O_APPEND == 0 {
		s.result(r, syscall.EINVAL)
		return
	}
	length, toEnd := r.length, r.length == 0
	if toEnd {
		length = ^uint64(0) - r.offset
	}
	buf := make([]byte, copyChunk)
	code := statusOK
	for length > 0 {
		n := int(min(length, copyChunk))
		length -= uint64(n)
		got, err := s.fill(from, buf[:n], in)
		if err != nil {
			s.log.line(levelError, "copy-data: read failed: ", err.Error())
			s.result(r, err)
			return
		}
		if got == 0 {
			if !toEnd && length > 0 {
				code = statusEOF
			}
			break
		}
		for done := 0; done < got; {
			n, err := s.put(to, buf[done:got], out)
			if err != nil {
				s.log.line(levelError, "copy-data: write failed: ", err.Error())
				s.result(r, err)
				return
			}
			done, out = done+n, out+int64(n)
		}
		in += int64(got)
		from.bytesRead += uint64(got)
		to.bytesWritten += uint64(got)
	}
	s.status(r, code)
}

// fill reads until p is full or the file ends.
func (s *server) fill(h *handle, p []byte, off int64) (int, error) {
	got := 0
	for got < len(p) {
		n, err := pread(h.fd, p[got:], off+int64(got))
		if err != nil {
			return got, err
		}
		if n == 0 {
			break
		}
		got += n
	}
	return got, nil
}

// sameFile keeps a copy of a file into itself from having no end (sftp-server.c
// since OpenSSH 9.6; before, only the names were compared).
func sameFile(a, b int) bool {
	var sa, sb syscall.Stat_t
	return syscall.Fstat(a, &sa) == nil && syscall.Fstat(b, &sb) == nil && sa.Dev == sb.Dev && sa.Ino == sb.Ino
}

// homeDirectory answers with a user's home, "" being oneself
// (draft-ietf-secsh-filexfer-extensions-00, 5). OpenSSH's server before 9.8 answers
// with one's own, whoever is asked about.
func (s *server) homeDirectory(r *request) {
	u := s.user
	if r.path != "" && r.path != u.name {
		var ok bool
		if u, ok = userByName(r.path); !ok {
			s.status(r, statusFailure)
			return
		}
	}
	s.log.line(levelVerbose, "home-directory \"", u.home, "\"")
	s.name(r, u.home)
}

// usersGroups answers with the names of ids, empty where there is none.
func (s *server) usersGroups(r *request) {
	at := s.begin(typeExtendedReply)
	s.out = putU32(s.out, r.id)
	for _, ask := range [...]struct {
		ids  []byte
		name func(uint32) (string, bool)
	}{{r.uids, s.names.userName}, {r.gids, s.names.groupName}} {
		length := len(s.out)
		s.out = putU32(s.out, 0)
		for ids := ask.ids; len(ids) > 0; ids = ids[4:] {
			name, _ := ask.name(getU32(ids))
			s.out = putString(s.out, name)
			if len(s.out)-at > maxMessage {
				s.out = s.out[:at]
				s.status(r, statusFailure) // no client takes a longer answer
				return
			}
		}
		setU32(s.out[length:], uint32(len(s.out)-length-4))
	}
	s.finish(at)
}
