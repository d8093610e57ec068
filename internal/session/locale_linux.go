package session

import (
	"syscall"

	"jail/internal/environ"
	"jail/internal/sys"
)

// Where glibc looks for locales (locale(7), localedef(1)).
const (
	localeDir     = "/usr/lib/locale"
	localeArchive = "locale-archive"
)

// locales remembers which locales the rootfs has, as long as their directory and
// archive do not change.
type locales struct {
	dir, archive known
	names        []byte // of the archive, each with a NUL before and after it
	known        [8]struct {
		name []byte
		has  bool
	}
	next int
}

// knownLocales replaces what the client says of its locale where the rootfs does
// not have it, so that setlocale(3) does not fail in every program: by C.UTF-8 if
// there is one, by C otherwise. A rootfs without a directory of locales has
// another C library, which takes any.
func (j *Jail) knownLocales(s *Slot) {
	looked := false
	for i, e := range s.env {
		n := nameLen(e)
		if !environ.IsLocale(e[:n]) || environ.EveryLocale(e[n+1:]) {
			continue
		}
		if !looked {
			if j.refreshLocales(); j.locales.dir.identity == (identity{}) {
				return
			}
			looked = true
		}
		if j.hasLocale(e[n+1:]) {
			continue
		}
		value := "C"
		if j.hasLocale([]byte("C.utf8")) || j.hasLocale([]byte("C.UTF-8")) {
			value = "C.UTF-8"
		}
		start := len(s.arena)
		s.arena = append(append(append(s.arena, e[:n+1]...), value...), 0)
		s.env[i] = s.arena[start : len(s.arena)-1]
	}
}

// refreshLocales forgets everything if the directory or the archive is another
// one.
func (j *Jail) refreshLocales() {
	l := &j.locales
	var archive identity
	dir := j.identify(localeDir)
	same := l.dir.still(&dir)
	if !same || l.archive.identity != (identity{}) { // a new one changes the directory
		archive = j.identify(localeDir + "/" + localeArchive)
	}
	if same && l.archive.still(&archive) {
		return
	}
	l.dir.note(&dir)
	l.archive.note(&archive)
	for i := range l.known {
		l.known[i].name = l.known[i].name[:0]
	}
	l.names = l.names[:0]
	if archive != (identity{}) {
		l.names = j.archiveNames(l.names)
	}
}

// hasLocale reports whether the rootfs has a locale of that name.
func (j *Jail) hasLocale(name []byte) bool {
	l := &j.locales
	for i := range l.known {
		if len(name) > 0 && string(l.known[i].name) == string(name) {
			return l.known[i].has
		}
	}
	var buf [2 * environ.MaxLocale]byte
	normal, ok := environ.NormalLocale(buf[:0], name)
	if !ok {
		return false
	}
	has := environ.InArchive(l.names, normal) || j.isLocale(normal) ||
		string(normal) != string(name) && j.isLocale(name)
	k := &l.known[l.next]
	l.next = (l.next + 1) % len(l.known)
	k.name, k.has = append(k.name[:0], name...), has
	return has
}

// isLocale reports whether there is a directory for the locale.
func (j *Jail) isLocale(name []byte) bool {
	fd, err := sys.Openat2(j.Root, localeDir+"/"+string(name), sys.OPath|syscall.O_DIRECTORY, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err == nil {
		sys.Close(fd)
	}
	return err == nil
}

// archiveNames adds the names of the locales in the archive. It reads, since a
// mapped file that is truncated meanwhile would kill (mmap(2), SIGBUS).
func (j *Jail) archiveNames(names []byte) []byte {
	fd, err := openRegular(j.Root, localeDir+"/"+localeArchive, nil)
	if err != nil {
		return names
	}
	defer sys.Close(fd)
	return environ.ArchiveNames(names, func(p []byte, off int64) bool {
		n, err := syscall.Pread(fd, p, off)
		return err == nil && n == len(p)
	})
}
