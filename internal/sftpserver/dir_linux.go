package sftpserver

import (
	"strconv"
	"syscall"
	"time"

	"jail/internal/sys"
)

// directory is the state of one being listed.
type directory struct {
	buf []byte
	at  int // what of buf has been used
	end int // what of it is filled
}

// dirBuffer is how much of a directory is read at a time.
const dirBuffer = 32 << 10

func (s *server) opendir(r *request) {
	s.log.line(levelInfo, "opendir \"", r.path, "\"")
	fd := -1
	err := again(func() (err error) {
		fd, err = syscall.Open(r.path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		s.result(r, err)
		return
	}
	s.opened(r, handle{fd: fd, dir: &directory{}, name: r.path})
}

// readdir answers with the next names. What has gone since it was read is left
// out. Unlike OpenSSH's server it asks about them through the open directory and
// not by its name, so that a directory renamed meanwhile is still listed.
func (s *server) readdir(r *request) {
	h := s.handles.get(r.handle)
	if h == nil || h.dir == nil {
		s.status(r, statusFailure)
		return
	}
	at := s.begin(typeName)
	s.out = putU32(putU32(s.out, r.id), 0)
	count := 0
	now := time.Now().Unix()
	for count < maxNames {
		name, ok := h.dir.next(h.fd)
		if !ok {
			break
		}
		var st syscall.Stat_t
		if sys.Fstatat(h.fd, name, &st, sys.AtSymlinkNofollow) != nil {
			continue
		}
		a := attrsOf(&st)
		s.out = putString(s.out, name)
		length := len(s.out)
		s.out = s.longName(putU32(s.out, 0), name, &st, now)
		setU32(s.out[length:], uint32(len(s.out)-length-4))
		s.out = putAttrs(s.out, &a)
		count++
	}
	if count == 0 {
		s.out = s.out[:at]
		s.status(r, statusEOF)
		return
	}
	setU32(s.out[at+9:], uint32(count))
	s.finish(at)
}

// next returns the next name in the directory. A directory that cannot be read
// further ends there, as with readdir(3) in sftp-server.c.
func (d *directory) next(fd int) (name string, ok bool) {
	// struct linux_dirent64, getdents64(2), on a little-endian machine.
	const length, nameAt = 16, 19
	for {
		if d.at >= d.end {
			if d.buf == nil {
				d.buf = make([]byte, dirBuffer)
			}
			n, err := syscall.Getdents(fd, d.buf)
			if err != nil || n <= 0 {
				return "", false
			}
			d.at, d.end = 0, n
		}
		rest := d.buf[d.at:d.end]
		if len(rest) < nameAt {
			return "", false
		}
		size := int(rest[length]) | int(rest[length+1])<<8
		if size < nameAt || size > len(rest) {
			return "", false
		}
		d.at += size
		text := rest[nameAt:size]
		for i, c := range text {
			if c == 0 {
				return string(text[:i]), true
			}
		}
	}
}

// longName appends what "ls -l" would show (sftp-common.c, ls_file).
func (s *server) longName(b []byte, name string, st *syscall.Stat_t, now int64) []byte {
	b = append(appendMode(b, st.Mode), ' ')
	b = padLeft(b, strconv.FormatUint(uint64(st.Nlink), 10), 3)
	b = padRight(append(b, ' '), s.names.user(st.Uid), 8)
	b = padRight(append(b, ' '), s.names.group(st.Gid), 8)
	b = padLeft(append(b, ' '), strconv.FormatUint(uint64(st.Size), 10), 8)
	b = append(b, ' ')
	const halfYear = 365 * 24 * 60 * 60 / 2
	layout := "Jan _2  2006"
	if now-halfYear < st.Mtim.Sec && now >= st.Mtim.Sec {
		layout = "Jan _2 15:04"
	}
	b = time.Unix(st.Mtim.Sec, 0).AppendFormat(b, layout)
	return append(append(b, ' '), name...)
}

func padLeft(b []byte, s string, width int) []byte {
	for n := len(s); n < width; n++ {
		b = append(b, ' ')
	}
	return append(b, s...)
}

func padRight(b []byte, s string, width int) []byte {
	b = append(b, s...)
	for n := len(s); n < width; n++ {
		b = append(b, ' ')
	}
	return b
}

// appendMode is strmode(3), with its blank at the end.
func appendMode(b []byte, mode uint32) []byte {
	kind := byte('?')
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		kind = 'd'
	case syscall.S_IFCHR:
		kind = 'c'
	case syscall.S_IFBLK:
		kind = 'b'
	case syscall.S_IFREG:
		kind = '-'
	case syscall.S_IFLNK:
		kind = 'l'
	case syscall.S_IFSOCK:
		kind = 's'
	case syscall.S_IFIFO:
		kind = 'p'
	}
	b = append(b, kind)
	for i, special := range [...]struct {
		bit uint32
		x   byte
		no  byte
	}{{syscall.S_ISUID, 's', 'S'}, {syscall.S_ISGID, 's', 'S'}, {syscall.S_ISVTX, 't', 'T'}} {
		rwx := mode >> (6 - 3*i)
		r, w, x := byte('-'), byte('-'), byte('-')
		if rwx&4 != 0 {
			r = 'r'
		}
		if rwx&2 != 0 {
			w = 'w'
		}
		switch {
		case mode&special.bit != 0 && rwx&1 != 0:
			x = special.x
		case mode&special.bit != 0:
			x = special.no
		case rwx&1 != 0:
			x = 'x'
		}
		b = append(b, r, w, x)
	}
	return append(b, ' ')
}
