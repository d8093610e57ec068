// Package passwd looks an account up in the text of a passwd(5) or group(5)
// file. The text comes from a rootfs whose owner may be hostile, and the
// reader is PID 1 of the jail: so there are no system calls, no imports, one
// pass over the text, and lines are skipped rather than repaired.
//
// What it skips, as glibc and musl do or should: lines with the wrong number
// of fields, an empty name, ids that are not plain decimal or do not fit 32
// bits, control bytes in a field that would be used, NIS compat lines ("+",
// "-"), comments, and lines over 64 KiB. The ids 65535 and 4294967295 mean "no
// change" to setresuid(2) and chown(2), so a line carrying one does not exist.
package passwd

// MaxLine is the longest line considered, without its newline.
const MaxLine = 64 << 10

const (
	noChange16 = 0xFFFF
	noChange32 = 0xFFFFFFFF
)

// Entry is one line of passwd(5). An empty Shell stays empty; to passwd(5) it
// means /bin/sh.
type Entry struct {
	Name, Home, Shell string
	UID, GID          uint32
}

// ByUID returns the first valid line of passwd(5) text with that uid, as
// getpwuid(3) does.
func ByUID(text []byte, uid uint32) (Entry, bool) {
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		if l, ok := parse(line); ok && l.uid == uid {
			return l.entry(), true
		}
	}
	return Entry{}, false
}

// Lookup returns the first valid line of passwd(5) text with that uid and that name,
// and where there is none, or name is empty, the first with that uid.
func Lookup(text []byte, uid uint32, name string) (Entry, bool) {
	var found line
	any := false
	for len(text) > 0 {
		var next []byte
		next, text = cutLine(text)
		l, ok := parse(next)
		if !ok || l.uid != uid {
			continue
		}
		if name == "" || string(l.name) == name {
			return l.entry(), true
		}
		if !any {
			found, any = l, true
		}
	}
	if !any {
		return Entry{}, false
	}
	return found.entry(), true
}

// ByName returns the first valid line of passwd(5) text with that name, as
// getpwnam(3) does.
func ByName(text []byte, name string) (Entry, bool) {
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		if l, ok := parse(line); ok && string(l.name) == name {
			return l.entry(), true
		}
	}
	return Entry{}, false
}

// Groups appends to dst the gid of every group in group(5) text that lists
// user name as a member, leaving out those dst already has, until dst holds
// max gids. The primary group is not among them unless it lists the user too.
// gid 0 is skipped unless allowZero.
func Groups(dst []uint32, text []byte, name string, allowZero bool, max int) []uint32 {
	if name == "" {
		return dst
	}
	for len(text) > 0 && len(dst) < max {
		var line []byte
		line, text = cutLine(text)
		var f [4][]byte
		if !split(line, f[:]) || !validName(f[0]) || !lists(f[3], name) {
			continue
		}
		gid, ok := parseID(f[2])
		if !ok || gid == 0 && !allowZero || contains(dst, gid) {
			continue
		}
		dst = append(dst, gid)
	}
	return dst
}

// GroupName returns the name in the first valid line of group(5) text with that
// gid, as getgrgid(3) does.
func GroupName(text []byte, gid uint32) (string, bool) {
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		var f [4][]byte
		if !split(line, f[:]) || !validName(f[0]) {
			continue
		}
		if id, ok := parseID(f[2]); ok && id == gid {
			return string(f[0]), true
		}
	}
	return "", false
}

// line is a passwd(5) line as slices of the text, so that a scan past ten
// thousand strangers allocates nothing.
type line struct {
	name, home, shell []byte
	uid, gid          uint32
}

func (l line) entry() Entry {
	return Entry{Name: string(l.name), Home: string(l.home), Shell: string(l.shell), UID: l.uid, GID: l.gid}
}

func parse(text []byte) (l line, ok bool) {
	var f [7][]byte
	if !split(text, f[:]) || !validName(f[0]) || !printable(f[5]) || !printable(f[6]) {
		return line{}, false
	}
	l = line{name: f[0], home: f[5], shell: f[6]}
	if l.uid, ok = parseID(f[2]); !ok {
		return line{}, false
	}
	if l.gid, ok = parseID(f[3]); !ok {
		return line{}, false
	}
	return l, true
}

// cutLine returns the first line of a non-empty text without its newline, and
// the text after it.
func cutLine(text []byte) (line, rest []byte) {
	for i, c := range text {
		if c == '\n' {
			return text[:i], text[i+1:]
		}
	}
	return text, nil
}

// split cuts a line at its colons and reports whether there are exactly
// len(fields) of them; a line over MaxLine has none.
func split(line []byte, fields [][]byte) bool {
	if len(line) > MaxLine {
		return false
	}
	n, start := 0, 0
	for i := 0; i <= len(line); i++ {
		if i < len(line) && line[i] != ':' {
			continue
		}
		if n == len(fields) {
			return false
		}
		fields[n] = line[start:i]
		n, start = n+1, i+1
	}
	return n == len(fields)
}

// validName reports whether a name field is an account's: not empty, not a
// comment, not a NIS compat line, no control byte.
func validName(s []byte) bool {
	return len(s) > 0 && s[0] != '#' && s[0] != '+' && s[0] != '-' && printable(s)
}

func printable(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c == 0x7F {
			return false
		}
	}
	return true
}

// parseID reads an id of plain decimal digits. The "no change" values are not
// ids (CVE-2019-14287 was sudo running "-u#-1" as root).
func parseID(s []byte) (uint32, bool) {
	if len(s) == 0 {
		return 0, false
	}
	var id uint64
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		if id = id*10 + uint64(c-'0'); id > noChange32 {
			return 0, false
		}
	}
	return uint32(id), id != noChange16 && id != noChange32
}

// lists reports whether a comma-separated member field has exactly name.
func lists(members []byte, name string) bool {
	for start, i := 0, 0; i <= len(members); i++ {
		if i < len(members) && members[i] != ',' {
			continue
		}
		if string(members[start:i]) == name {
			return true
		}
		start = i + 1
	}
	return false
}

func contains(ids []uint32, id uint32) bool {
	for _, have := range ids {
		if have == id {
			return true
		}
	}
	return false
}
