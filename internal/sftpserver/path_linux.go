package sftpserver

import (
	"strings"
	"syscall"
)

func (s *server) remove(r *request) {
	s.log.line(levelInfo, "remove name \"", r.path, "\"")
	s.result(r, syscall.Unlink(r.path))
}

func (s *server) mkdir(r *request) {
	mode := uint32(0o777)
	if r.attrs.flags&attrPermissions != 0 {
		mode = r.attrs.perm & 0o7777
	}
	if s.log.on(levelInfo) {
		s.log.line(levelInfo, "mkdir name \"", r.path, "\" mode ", octal(mode))
	}
	s.result(r, syscall.Mkdir(r.path, mode))
}

func (s *server) rmdir(r *request) {
	s.log.line(levelInfo, "rmdir name \"", r.path, "\"")
	s.result(r, syscall.Rmdir(r.path))
}

// rename gives a file a new name that nobody has yet, unlike rename(2).
func (s *server) rename(r *request) {
	s.log.line(levelInfo, "rename old \"", r.path, "\" new \"", r.path2, "\"")
	var st syscall.Stat_t
	if err := syscall.Lstat(r.path, &st); err != nil {
		s.result(r, err)
		return
	}
	if st.Mode&syscall.S_IFMT == syscall.S_IFREG {
		// A second link never takes another file's place.
		err := syscall.Link(r.path, r.path2)
		switch err {
		case nil:
			if err = syscall.Unlink(r.path); err != nil {
				_ = syscall.Unlink(r.path2)
			}
			s.result(r, err)
			return
		case syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EXDEV, syscall.EPERM:
			// The file system has no links; the race is what is left.
		default:
			s.result(r, err)
			return
		}
	}
	if syscall.Stat(r.path2, &st) == nil {
		s.status(r, statusFailure)
		return
	}
	s.result(r, syscall.Rename(r.path, r.path2))
}

func (s *server) posixRename(r *request) {
	s.log.line(levelInfo, "posix-rename old \"", r.path, "\" new \"", r.path2, "\"")
	s.result(r, syscall.Rename(r.path, r.path2))
}

func (s *server) hardlink(r *request) {
	s.log.line(levelInfo, "hardlink old \"", r.path, "\" new \"", r.path2, "\"")
	s.result(r, syscall.Link(r.path, r.path2))
}

// symlink has its arguments the wrong way round, as OpenSSH's has had from the
// beginning (PROTOCOL, 4.1): path is what the link says.
func (s *server) symlink(r *request) {
	s.log.line(levelInfo, "symlink old \"", r.path, "\" new \"", r.path2, "\"")
	s.result(r, syscall.Symlink(r.path, r.path2))
}

func (s *server) readlink(r *request) {
	s.log.line(levelVerbose, "readlink \"", r.path, "\"")
	var buf [maxPath]byte
	n, err := syscall.Readlink(r.path, buf[:])
	if err != nil {
		s.result(r, err)
		return
	}
	s.name(r, string(buf[:n]))
}

func (s *server) realpath(r *request) {
	path := r.path
	if path == "" {
		path = "."
	}
	s.log.line(levelVerbose, "realpath \"", path, "\"")
	resolved, err := realpath(path)
	if err != nil {
		s.result(r, err)
		return
	}
	s.name(r, resolved)
}

// maxLinks is how many symbolic links a path may go through (sftp-realpath.c,
// SYMLOOP_MAX and what comes of its comparison).
const maxLinks = 33

// realpath is sftp-realpath.c: the path without ".", ".." and symbolic links, of
// which the last element need not exist.
func realpath(path string) (string, error) {
	if path == "" {
		return "", syscall.ENOENT
	}
	resolved, left := "/", path[1:]
	if path[0] != '/' {
		var err error
		if resolved, err = getwd(); err != nil {
			return "", err
		}
		left = path
	}
	if len(left) > maxPath || len(resolved) > maxPath {
		return "", syscall.ENAMETOOLONG
	}
	for links := 0; left != ""; {
		token, rest, more := strings.Cut(left, "/")
		left = rest
		if !strings.HasSuffix(resolved, "/") {
			if len(resolved) >= maxPath {
				return "", syscall.ENAMETOOLONG
			}
			resolved += "/"
		}
		switch token {
		case "", ".":
			continue
		case "..":
			resolved = parent(resolved)
			continue
		}
		resolved += token
		if len(resolved) > maxPath {
			return "", syscall.ENAMETOOLONG
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(resolved, &st); err != nil {
			if err == syscall.ENOENT && !more {
				return resolved, nil
			}
			return "", err
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFLNK {
			continue
		}
		if links++; links > maxLinks {
			return "", syscall.ELOOP
		}
		var buf [maxPath]byte
		n, err := syscall.Readlink(resolved, buf[:])
		if err != nil {
			return "", err
		}
		link := string(buf[:n])
		if strings.HasPrefix(link, "/") {
			resolved = "/"
		} else {
			resolved = parent(resolved)
		}
		if more {
			if !strings.HasSuffix(link, "/") {
				link += "/"
			}
			if link += left; len(link) > maxPath {
				return "", syscall.ENAMETOOLONG
			}
		}
		left = link
	}
	if len(resolved) > 1 {
		resolved = strings.TrimSuffix(resolved, "/")
	}
	return resolved, nil
}

// parent drops the last element, "/a/b" and "/a/b/" becoming "/a/".
func parent(path string) string {
	if len(path) <= 1 {
		return path
	}
	return path[:strings.LastIndexByte(path[:len(path)-1], '/')+1]
}

func getwd() (string, error) {
	var buf [maxPath + 1]byte
	n, err := syscall.Getcwd(buf[:])
	if err != nil {
		return "", err
	}
	if n < 2 || buf[0] != '/' { // "(unreachable)", getcwd(2)
		return "", syscall.ENOENT
	}
	return string(buf[:n-1]), nil
}
