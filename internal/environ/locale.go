package environ

// MaxLocale is the longest name of a locale that is looked for, in bytes.
const MaxLocale = 64

// categories are the variables whose value is a locale (locale(7), glibc).
var categories = []string{
	"LANG", "LC_ALL", "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LC_COLLATE", "LC_MONETARY", "LC_MESSAGES",
	"LC_PAPER", "LC_NAME", "LC_ADDRESS", "LC_TELEPHONE", "LC_MEASUREMENT", "LC_IDENTIFICATION",
}

// IsLocale reports whether the value of that variable is a locale.
func IsLocale(name []byte) bool {
	for _, c := range categories {
		if string(name) == c {
			return true
		}
	}
	return false
}

// EveryLocale reports whether every C library has the locale: no name, C and
// POSIX, and C.UTF-8, which glibc has had without a file since 2.35, musl always,
// and older distributions as a file.
func EveryLocale(name []byte) bool {
	switch string(name) {
	case "", "C", "POSIX", "C.UTF-8", "C.utf8":
		return true
	}
	return false
}

// NormalLocale appends the name as directories and archive have it: the character
// set in lower case, letters and digits only, "iso" before one of digits alone
// (glibc, intl/l10nflist.c:_nl_normalize_codeset). Not ok are names no locale can
// have; none has a / in it.
func NormalLocale(dst, name []byte) (_ []byte, ok bool) {
	if len(name) == 0 || len(name) > MaxLocale || name[0] == '.' {
		return dst, false
	}
	dot, at := len(name), len(name)
	for i, c := range name {
		switch {
		case c == '.' && dot == len(name) && at == len(name):
			dot = i
		case c == '@' && at == len(name):
			at = i
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '+', c == '.', c == '@':
		default:
			return dst, false
		}
	}
	dot = min(dot, at)
	dst = append(dst, name[:dot]...)
	if dot < at {
		dst = append(dst, '.')
		digits := true
		for _, c := range name[dot+1 : at] {
			digits = digits && !letter(c)
		}
		if digits {
			dst = append(dst, "iso"...)
		}
		for _, c := range name[dot+1 : at] {
			switch {
			case c >= 'A' && c <= 'Z':
				dst = append(dst, c+'a'-'A')
			case letter(c), c >= '0' && c <= '9':
				dst = append(dst, c)
			}
		}
	}
	return append(dst, name[at:]...), true
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// Limits of an archive of locales. One with every locale of glibc has about a
// thousand names.
const (
	maxArchiveNames = 16384
	maxArchiveText  = 512 << 10 // its table of strings
	maxNames        = 128 << 10 // what is kept of them
)

// ArchiveNames appends the names of the locales in an archive, each with a NUL
// before and after it. read fills p from an offset of the file or reports false.
// An archive that is not as it should be has no locales (glibc,
// locale/locarchive.h: struct locarhead, struct namehashent; the integers are the
// machine's).
func ArchiveNames(dst []byte, read func(p []byte, off int64) bool) []byte {
	const magic, entry = 0xde020109, 12
	var head [56]byte
	if !read(head[:], 0) || u32(head[:]) != magic {
		return dst
	}
	hashAt, hashSize := u32(head[8:]), u32(head[16:])
	textAt, textUsed := u32(head[20:]), u32(head[24:])
	if hashSize > maxArchiveNames || textUsed > maxArchiveText {
		return dst
	}
	table, text := make([]byte, entry*hashSize), make([]byte, textUsed)
	if !read(table, int64(hashAt)) || !read(text, int64(textAt)) {
		return dst
	}
	first := len(dst)
	dst = append(dst, 0)
	for ; len(table) >= entry; table = table[entry:] {
		name, record := u32(table[4:]), u32(table[8:])
		if name < textAt || name-textAt >= textUsed || record == 0 {
			continue
		}
		for _, c := range text[name-textAt:] {
			if c == 0 || len(dst)-first > maxNames {
				break
			}
			dst = append(dst, c)
		}
		if len(dst)-first > maxNames {
			break
		}
		dst = append(dst, 0)
	}
	return dst
}

// InArchive reports whether name is among those ArchiveNames has returned.
func InArchive(names, name []byte) bool {
	if len(name) == 0 {
		return false
	}
	for i := 0; i+len(name)+2 <= len(names); {
		rest := names[i+1:]
		if len(rest) > len(name) && rest[len(name)] == 0 && string(rest[:len(name)]) == string(name) {
			return true
		}
		for i++; i < len(names) && names[i] != 0; i++ {
		}
	}
	return false
}

func u32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}
