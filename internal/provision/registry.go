package provision

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The registry is people's: their comments, order and spelling stay. So what it says of
// a login is changed line by line in its text, and judged afterwards as any text is.

// mark begins a drop-in of ours. Its file goes with its last login.
const mark = "# Made by \"jail add\"; it may be changed (jail edit), and goes with its last login.\n"

// entry is a login of a jail.
type entry struct {
	Login string
	UID   uint32 // inside
}

func (e entry) line() string {
	return e.Login + " = { uid = " + strconv.FormatUint(uint64(e.UID), 10) + " }\n"
}

// newFile is the drop-in of a new jail.
func newFile(name, rootfs, template string, logins []entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%sversion = 1\n\n[jail.%s]\nrootfs = %s\n", mark, name, quote(rootfs))
	if template != "" {
		fmt.Fprintf(&b, "template = %s\n", quote(template))
	}
	fmt.Fprintf(&b, "\n[jail.%s.users]\n", name)
	for _, e := range logins {
		b.WriteString(e.line())
	}
	return b.String()
}

// quote writes a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7F:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

var (
	headerLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\s*\[\s*([A-Za-z0-9_.\-\s]+?)\s*\]\s*(#.*)?$`) })
	// usersLine is users = [ "a", "b" ], on one line.
	usersLine = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(\s*users\s*=\s*\[)((?:\s*"[a-z0-9_-]+"\s*,?)*\s*)(\]\s*(?:#.*)?)$`)
	})
	nameIn   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`"([a-z0-9_-]+)"`) })
	userLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\s*"?([a-z_][a-z0-9_-]*)"?\s*(=|\.)`) })
)

// header is the table that a line begins, "" if it begins none: "jail.web.users".
func header(line string) string {
	m := headerLine().FindStringSubmatch(strings.TrimRight(line, "\r\n"))
	if m == nil {
		return ""
	}
	return strings.Join(strings.Fields(m[1]), "")
}

// isTable reports whether a line begins a table or an element of an array of tables.
func isTable(line string) bool {
	return strings.HasPrefix(strings.TrimLeft(line, " \t"), "[") && header(line) != "" || strings.HasPrefix(strings.TrimLeft(line, " \t"), "[[")
}

// found are the lines of a jail in a registry file: of its users, where they are a table,
// from the line behind its header up to but without end; of users = [ ... ].
type found struct {
	lines      []string
	table      bool
	begin, end int
	array      int // -1: none
}

func find(text, name string) found {
	p := found{lines: strings.SplitAfter(text, "\n"), array: -1}
	current := ""
	for i, line := range p.lines {
		if isTable(line) {
			if p.table && p.end < 0 {
				p.end = i
			}
			current = header(line)
			if current == "jail."+name+".users" {
				p.table, p.begin, p.end = true, i+1, -1
			}
			continue
		}
		if current == "jail."+name && usersLine().MatchString(strings.TrimRight(line, "\r\n")) {
			p.array = i
		}
	}
	if p.table && p.end < 0 {
		p.end = len(p.lines)
	}
	return p
}

// addTo returns text with logins in the jail of that name. host says which uid a login has on the host.
func addTo(text, name string, logins []entry, host map[string]uint32) (string, error) {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	p := find(text, name)
	switch {
	case p.table:
		// Behind the last line that is one.
		at := p.begin
		for i := p.begin; i < p.end; i++ {
			if strings.TrimSpace(p.lines[i]) != "" {
				at = i + 1
			}
		}
		var add []string
		for _, e := range logins {
			add = append(add, e.line())
		}
		p.lines = slices.Insert(p.lines, at, add...)
	case p.array >= 0:
		line := strings.TrimRight(p.lines[p.array], "\r\n")
		m := usersLine().FindStringSubmatch(line)
		list := strings.TrimRight(m[2], " \t")
		for _, e := range logins {
			if e.UID != host[e.Login] {
				return "", fmt.Errorf("its users are an array, which has no room for %s's uid inside, %d: write them as a table, [jail.%s.users]", e.Login, e.UID, name)
			}
			if list != "" && !strings.HasSuffix(list, ",") {
				list += ","
			}
			if list != "" {
				list += " "
			}
			list += strconv.Quote(e.Login)
		}
		p.lines[p.array] = m[1] + list + m[3] + "\n"
	default:
		return "", fmt.Errorf("it has neither [jail.%s.users] nor a line users = [ ... ]: add the login there (jail edit)", name)
	}
	return strings.Join(p.lines, ""), nil
}

// dropFrom returns text without logins of the jail of that name. empty says that none is
// left; dropped, how many there were.
func dropFrom(text, name string, logins []string) (rest string, empty bool, dropped int) {
	p := find(text, name)
	left := 0
	switch {
	case p.table:
		var kept []string
		for i, line := range p.lines {
			m := userLine().FindStringSubmatch(line)
			if i < p.begin || i >= p.end || m == nil {
				kept = append(kept, line)
				continue
			}
			if slices.Contains(logins, m[1]) {
				dropped++
				continue
			}
			left++
			kept = append(kept, line)
		}
		p.lines = kept
	case p.array >= 0:
		line := strings.TrimRight(p.lines[p.array], "\r\n")
		m := usersLine().FindStringSubmatch(line)
		var names []string
		for _, n := range nameIn().FindAllStringSubmatch(m[2], -1) {
			if slices.Contains(logins, n[1]) {
				dropped++
			} else {
				names = append(names, strconv.Quote(n[1]))
			}
		}
		left = len(names)
		p.lines[p.array] = m[1] + strings.Join(names, ", ") + m[3] + "\n"
	}
	return strings.Join(p.lines, ""), dropped > 0 && left == 0, dropped
}

// retire returns text in which the tables of a jail are comments.
func retire(text, name string) string {
	lines := strings.SplitAfter(text, "\n")
	inside := false
	for i, line := range lines {
		if isTable(line) {
			h := header(line)
			inside = h == "jail."+name || strings.HasPrefix(h, "jail."+name+".")
			if h == "jail."+name {
				lines[i] = "# Its last login is gone (jail rm).\n" + "# " + line
				continue
			}
		}
		if inside && strings.TrimSpace(line) != "" {
			lines[i] = "# " + line
		}
	}
	return strings.Join(lines, "")
}

// ours reports whether a file was made by "jail add" for the jail of that name and describes nothing else.
func ours(text, name string) bool {
	if !strings.HasPrefix(text, mark) {
		return false
	}
	for line := range strings.Lines(text) {
		if h := header(line); isTable(line) && h != "jail."+name && !strings.HasPrefix(h, "jail."+name+".") {
			return false
		}
	}
	return true
}
