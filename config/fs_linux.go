package config

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"jail/internal/sys"
)

// maxFile bounds one registry file; a thousand jails fit many times over.
const maxFile = 4 << 20

// openPath opens an absolute path none of whose components is a symbolic
// link, so that what was checked is what the name means to everybody.
func openPath(p string, flags uint64) (int, error) {
	return openBelow(unix.AT_FDCWD, p, flags)
}

func openBelow(dir int, p string, flags uint64) (int, error) {
	if flags&unix.O_PATH == 0 { // openat2 refuses flags that O_PATH ignores
		flags |= unix.O_NOCTTY
	}
	for {
		fd, err := sys.Openat2(dir, p, int(flags), sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// dirsAbove calls f with the status of every directory above one, up to /.
// dir is a clean path, fd its descriptor.
func dirsAbove(fd int, dir string, f func(dir string, st *unix.Stat_t)) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	below := fd
	defer func() {
		if below != fd {
			unix.Close(below)
		}
	}()
	for dir != "/" {
		up, err := openBelow(below, "..", unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		if below != fd {
			unix.Close(below)
		}
		below, dir = up, path.Dir(dir)
		if err := unix.Fstat(up, &st); err != nil {
			return err
		}
		f(dir, &st)
	}
	return nil
}

func idOf(st *unix.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }

// readRegistry reads the main file and its drop-ins, each judged by the
// descriptor it is read from.
func readRegistry(ps *problems, main string, opt Options) []source {
	dir := filepath.Dir(main)
	fd, err := openPath(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		ps.errorf(origin{file: dir}, "%s", ownFault(dir, err, "create it with a jail.toml in it"))
		return nil
	}
	defer unix.Close(fd)
	checkDir(ps, fd, dir, opt)
	if !opt.SkipFS {
		err := dirsAbove(fd, dir, func(dir string, st *unix.Stat_t) { checkDirStat(ps, dir, st, opt) })
		if err != nil {
			ps.errorf(origin{file: dir}, "the directories above cannot be checked: %v, correct their permissions", err)
		}
	}
	var sources []source
	text, ok := readFile(ps, fd, main, opt)
	if ok {
		sources = append(sources, source{path: main, text: text})
	}

	dropins := filepath.Join(dir, "jail.d")
	sub, err := openBelow(fd, "jail.d", unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return sources
	}
	if err != nil {
		ps.errorf(origin{file: dropins}, "%s", ownFault(dropins, err, ""))
		return sources
	}
	d := os.NewFile(uintptr(sub), dropins)
	defer d.Close()
	checkDir(ps, sub, dropins, opt)
	names, err := d.Readdirnames(-1)
	if err != nil {
		ps.errorf(origin{file: dropins}, "cannot be listed: %v, correct its permissions", errno(err))
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".toml") {
			continue
		}
		src := source{path: filepath.Join(dropins, name)}
		src.text, _ = readFile(&src.problems, sub, src.path, opt)
		sources = append(sources, src)
	}
	return sources
}

// readFile reads the registry file p, whose directory is dir. Nothing of a file
// is used that somebody else could have written.
func readFile(ps *problems, dir int, p string, opt Options) ([]byte, bool) {
	o := origin{file: p}
	// O_NONBLOCK: neither a FIFO nor a lease may hold us up.
	fd, err := openBelow(dir, filepath.Base(p), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
	if err != nil {
		ps.errorf(o, "%s", ownFault(p, err, "create it with the line: version = 1"))
		return nil, false
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		ps.errorf(o, "cannot be checked: %v", err)
		return nil, false
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		ps.errorf(o, "is not a regular file, replace it with one")
		return nil, false
	}
	if st.Size > maxFile {
		ps.errorf(o, "is larger than %d MiB, split it into files in jail.d", maxFile>>20)
		return nil, false
	}
	if !opt.SkipFS {
		checkFileStat(ps, p, &st, opt)
	}
	text := make([]byte, st.Size+1)
	n := 0
	for n < len(text) {
		m, err := unix.Read(fd, text[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			ps.errorf(o, "cannot be read: %v", err)
			return nil, false
		}
		if m == 0 {
			break
		}
		n += m
	}
	if int64(n) > st.Size {
		ps.errorf(o, "is being written to, try again")
		return nil, false
	}
	return text[:n], true
}

func checkDir(ps *problems, fd int, dir string, opt Options) {
	if opt.SkipFS {
		return
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		ps.errorf(origin{file: dir}, "cannot be checked: %v", err)
		return
	}
	checkDirStat(ps, dir, &st, opt)
}

// checkDirStat refuses a directory in which somebody else could put another
// registry.
func checkDirStat(ps *problems, dir string, st *unix.Stat_t, opt Options) {
	// In a sticky directory nobody renames another's entries. That is good
	// enough for a caller's own registry, not for the host's.
	if opt.Rootless && st.Mode&unix.S_ISVTX != 0 && trustedOwner(st.Uid, opt) {
		return
	}
	// Inside a user namespace, root's own / belongs to the overflow id.
	unmapped := opt.Rootless && st.Uid == nobody
	checkStat(ps, dir, st, opt, unmapped)
}

func checkFileStat(ps *problems, p string, st *unix.Stat_t, opt Options) {
	checkStat(ps, p, st, opt, false)
	if st.Nlink > 1 {
		ps.errorf(origin{file: p}, "has %d names (hard links), so its owner may edit it under another; replace it with a copy", st.Nlink)
	}
}

func checkStat(ps *problems, p string, st *unix.Stat_t, opt Options, anyOwner bool) {
	if !anyOwner && !trustedOwner(st.Uid, opt) {
		owner := "root"
		if opt.Rootless {
			owner = uintString(*opt.euid)
		}
		ps.errorf(origin{file: p}, "belongs to uid %d, who could change the registry; chown %s %s", st.Uid, owner, p)
	}
	switch st.Mode & 0o022 {
	case 0o022:
		ps.errorf(origin{file: p}, "is writable by its group and by everybody, chmod go-w %s", p)
	case 0o020:
		ps.errorf(origin{file: p}, "is writable by its group, chmod g-w %s", p)
	case 0o002:
		ps.errorf(origin{file: p}, "is writable by everybody, chmod o-w %s", p)
	}
}

func trustedOwner(uid uint32, opt Options) bool {
	return uid == 0 || opt.Rootless && uid == *opt.euid
}

// placeOf names a path and what was seen of it.
func placeOf(p string, s *seen) place {
	pl := newPlace(p)
	if s != nil && s.errno == 0 {
		pl.self = append(pl.self, s.id)
		for _, d := range s.above {
			pl.above = append(pl.above, d.id)
		}
	}
	return pl
}

// judgeRootfs reports what is wrong with a root directory and where it lies.
func (v *validator) judgeRootfs(d *draft, root string, s *seen) {
	if s == nil {
		return
	}
	at := d.Rootfs.origin
	switch {
	case s.errno != 0:
		d.errorf(at, "%s", s.fault(root, "create it or correct the path"))
		return
	case s.mode&unix.S_IFMT != unix.S_IFDIR:
		d.errorf(at, "%s is not a directory, correct the path", root)
		return
	case s.aboveErrno != 0:
		d.errorf(at, "the directories above cannot be checked: %v, correct their permissions", s.aboveErrno)
	}
	open, parent := true, path.Dir(root)
	dir := root
	for _, st := range s.above {
		dir = path.Dir(dir)
		if st.mode&unix.S_IXOTH == 0 {
			open = false
		}
		loose := st.mode&0o022 != 0 && st.mode&unix.S_ISVTX == 0
		if !v.opt.Rootless && (st.uid != 0 || loose) {
			d.warnf(at, "somebody besides root may write to %s and so replace the rootfs, chown root %s and chmod go-w %s", dir, dir, dir)
		}
	}
	switch {
	case !open:
	case isSystemDir(parent):
		d.warnf(at, "every host user can reach set-uid files in it, move it into a directory of its own (mkdir -m 0700)")
	default:
		d.warnf(at, "every host user can reach set-uid files in it, chmod 0700 %s", parent)
	}
}

// judgeHome reports what is wrong with a home directory that a template shows: it has to
// be one, without a link on the way, and the account's own. Whoever keeps accounts is
// not asked whom a mistake there would show to whom.
func (v *validator) judgeHome(d *draft, s *seen) {
	if s == nil || !d.homeIs.given() || len(d.Users.list) != 1 {
		return
	}
	n, who := len(d.errors), d.Users.list[0].login
	switch owner := uint32(d.Users.list[0].spec.HostUID); {
	case s.errno == unix.ELOOP:
		d.errorf(d.homeIs, "the home directory %s of account %s leads through the symbolic link %s, which {home} cannot; give the account the path it stands for (usermod -d)", d.home, who, s.link)
	case s.errno != 0:
		d.errorf(d.homeIs, "the home directory of account %s: %s", who, s.fault(d.home, "create it or give the account another (usermod -d)"))
	case s.mode&unix.S_IFMT != unix.S_IFDIR:
		d.errorf(d.homeIs, "the home directory %s of account %s is no directory, give the account another (usermod -d)", d.home, who)
	case s.uid != owner:
		d.errorf(d.homeIs, "the home directory %s of account %s belongs to uid %d; chown it, or give the account another (usermod -d)", d.home, who, s.uid)
	}
	d.homeFaulty = len(d.errors) > n
}

// inFaultyHome reports whether a path lies in a home directory that is at fault, as has
// been said.
func (d *draft) inFaultyHome(p string) bool { return d.homeFaulty && contains(d.home, p) }

// judgeSource reports what is wrong with a mount source.
func judgeSource(d *draft, src value[string], s *seen) {
	switch {
	case s == nil:
	case s.errno != 0:
		d.errorf(src.origin, "%s", s.fault(src.v, "create it or remove the mount"))
	case s.aboveErrno != 0:
		d.errorf(src.origin, "%s cannot be checked: %v, correct the permissions above it", src.v, s.aboveErrno)
	case s.mode&unix.S_IFMT != unix.S_IFDIR && s.mode&unix.S_IFMT != unix.S_IFREG:
		d.errorf(src.origin, "%s is neither a directory nor a regular file, show the directory it is in", src.v)
	}
}

// judgeReach warns of a source that can be written inside, by root, and executed by every
// host user, as of a root directory: what the source's own mode is, root inside decides.
func judgeReach(d *draft, src value[string], s *seen) {
	if s == nil || s.errno != 0 || s.aboveErrno != 0 {
		return
	}
	for _, st := range s.above {
		if st.mode&unix.S_IXOTH == 0 {
			return
		}
	}
	d.warnf(src.origin, "every host user can reach what root inside makes set-uid in it, set readonly = true or put it below a directory of mode 0700")
}

// fault says why p could not be looked at and what to do about it.
func (s *seen) fault(p, missing string) string {
	switch s.errno {
	case unix.ELOOP:
		return s.link + " is a symbolic link, write the path it stands for"
	case unix.ETIMEDOUT:
		return p + " is on a file system that does not answer, mend or unmount it"
	}
	return openFault(p, s.errno, missing)
}

// openFault says why a path could not be opened and what to do about it.
func openFault(p string, err error, missing string) string {
	switch {
	case errors.Is(err, unix.ELOOP):
		return linkIn(p) + " is a symbolic link, write the path it stands for"
	case errors.Is(err, unix.ENOENT):
		return p + " does not exist, " + missing
	case errors.Is(err, unix.ENOTDIR):
		return p + " is not a directory, correct the path"
	case errors.Is(err, unix.EACCES):
		return p + " cannot be reached (permission denied), run this as root or correct the permissions"
	case errors.Is(err, unix.ENOSYS):
		return p + " cannot be opened safely: this kernel lacks openat2(2), use Linux 5.14 or later"
	}
	return p + " cannot be opened: " + err.Error() + ", correct the path"
}

// ownFault is openFault for a path the Error names already.
func ownFault(p string, err error, missing string) string {
	return strings.TrimPrefix(openFault(p, err, missing), p+" ")
}
