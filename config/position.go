package config

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// position is where one value of a TOML text is defined. It mirrors the
// decoded value: table for a table, array for an array or an array of tables.
//
// The TOML library reports lines for syntax errors only, so the text is walked
// a second time. The walk may assume the library accepted the text.
type position struct {
	line     int
	explicit bool // a header or a key named it, rather than being passed through
	table    map[string]*position
	array    []*position
}

// at returns the position of key in a table, or, should the walk have missed
// it, that of the table.
func (p *position) at(key string) *position {
	if child := p.table[key]; child != nil {
		return child
	}
	return &position{line: p.line}
}

// item returns the position of an array's element, or that of the array.
func (p *position) item(i int) *position {
	if i < len(p.array) {
		return p.array[i]
	}
	return &position{line: p.line}
}

// enter goes down one key, creating it on line, and into the last element of
// an array of tables, as a TOML header does.
func (p *position) enter(key string, line int) *position {
	child := p.table[key]
	if child == nil {
		child = &position{line: line}
		if p.table == nil {
			p.table = make(map[string]*position)
		}
		p.table[key] = child
	}
	if n := len(child.array); n > 0 {
		return child.array[n-1]
	}
	return child
}

// named records that the text defines p itself on line. A table's header wins
// over an earlier header of one of its sub-tables.
func (p *position) named(line int) {
	if !p.explicit {
		p.line, p.explicit = line, true
	}
}

// scanPositions returns the position of every value in a valid TOML text.
func scanPositions(text []byte) *position {
	s := scanner{text: trimMark(text), line: 1}
	root := &position{line: 1, explicit: true}
	table := root
	for {
		s.space()
		if s.done() {
			return root
		}
		before := s.off
		if s.peek() == '[' {
			table = s.header(root)
		} else {
			s.keyValue(table)
		}
		if s.off == before { // not TOML after all: never stand still
			s.next()
		}
	}
}

// trimMark drops one byte order mark, the same ones the TOML library drops.
func trimMark(text []byte) []byte {
	for _, mark := range []string{"\xFF\xFE", "\xFE\xFF", "\xEF\xBB\xBF"} {
		if rest, ok := bytes.CutPrefix(text, []byte(mark)); ok {
			return rest
		}
	}
	return text
}

type scanner struct {
	text []byte
	off  int
	line int
}

func (s *scanner) done() bool { return s.off >= len(s.text) }

func (s *scanner) peek() byte {
	if s.done() {
		return 0
	}
	return s.text[s.off]
}

func (s *scanner) next() {
	if s.done() {
		return
	}
	if s.text[s.off] == '\n' {
		s.line++
	}
	s.off++
}

func (s *scanner) has(prefix string) bool {
	return !s.done() && bytes.HasPrefix(s.text[s.off:], []byte(prefix))
}

func (s *scanner) skip(n int) {
	for range n {
		s.next()
	}
}

// space skips blanks, newlines and comments.
func (s *scanner) space() {
	for !s.done() {
		switch s.peek() {
		case ' ', '\t', '\r', '\n':
			s.next()
		case '#':
			for !s.done() && s.peek() != '\n' {
				s.next()
			}
		default:
			return
		}
	}
}

func (s *scanner) blanks() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.next()
	}
}

// header reads [a.b] or [[a.b]] and returns the table that follows.
func (s *scanner) header(root *position) *position {
	line, array := s.line, s.has("[[")
	s.next()
	if array {
		s.next()
	}
	keys := s.key()
	p := root
	for i, key := range keys {
		if array && i == len(keys)-1 {
			if p.table[key] == nil {
				p.enter(key, line).named(line)
			}
			list := p.table[key]
			list.array = append(list.array, &position{line: line, explicit: true})
			p = list.array[len(list.array)-1]
			continue
		}
		p = p.enter(key, line)
	}
	p.named(line)
	for s.peek() == ']' || s.peek() == ' ' || s.peek() == '\t' {
		s.next()
	}
	return p
}

// keyValue reads key = value into table.
func (s *scanner) keyValue(table *position) {
	line := s.line
	p := table
	for _, key := range s.key() {
		p = p.enter(key, line)
	}
	p.named(line)
	s.space()
	if s.peek() != '=' {
		return
	}
	s.next()
	s.value(p)
}

// key reads a dotted key, up to whatever ends it.
func (s *scanner) key() []string {
	var keys []string
	for {
		s.space() // between inline-table keys TOML 1.1 allows newlines; elsewhere there are none
		switch s.peek() {
		case '"':
			keys = append(keys, unquote(s.quoted()))
		case '\'':
			raw := s.quoted()
			keys = append(keys, strings.Trim(raw, "'"))
		default:
			start := s.off
			for !s.done() && bareKey(s.peek()) {
				s.next()
			}
			keys = append(keys, string(s.text[start:s.off]))
		}
		s.blanks()
		if s.peek() != '.' {
			return keys
		}
		s.next()
	}
}

func bareKey(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// value skips one value, recording what lies below it in p.
func (s *scanner) value(p *position) {
	s.space()
	switch s.peek() {
	case '"', '\'':
		s.quoted()
	case '[':
		s.next()
		for s.space(); !s.done() && s.peek() != ']'; s.space() {
			before := s.off
			item := &position{line: s.line, explicit: true}
			p.array = append(p.array, item)
			s.value(item)
			s.space()
			if s.peek() == ',' || s.off == before {
				s.next()
			}
		}
		s.next()
	case '{':
		s.next()
		for s.space(); !s.done() && s.peek() != '}'; s.space() {
			before := s.off
			s.keyValue(p)
			s.space()
			if s.peek() == ',' || s.off == before {
				s.next()
			}
		}
		s.next()
	default:
		for !s.done() && !strings.ContainsRune(",]}#\r\n", rune(s.peek())) {
			s.next()
		}
	}
}

// quoted skips a string of any of the four kinds and returns it with its
// quotes.
func (s *scanner) quoted() string {
	start, quote := s.off, string(s.peek())
	if triple := strings.Repeat(quote, 3); s.has(triple) {
		s.skip(3)
		for !s.done() && !s.has(triple) {
			s.escaped(quote)
		}
		s.skip(3)
		for s.has(quote) { // """a""" may end in two more, and the library lets some more pass
			s.next()
		}
	} else {
		s.next()
		for !s.done() && !s.has(quote) && s.peek() != '\n' {
			s.escaped(quote)
		}
		s.next()
	}
	return string(s.text[start:s.off])
}

// escaped skips one byte of a string, two if it is an escape.
func (s *scanner) escaped(quote string) {
	if quote == `"` && s.peek() == '\\' {
		s.next()
	}
	s.next()
}

// unquote resolves the escapes of a basic string (TOML 1.1).
func unquote(raw string) string {
	raw = strings.TrimSuffix(strings.TrimPrefix(raw, `"`), `"`)
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 == len(raw) {
			b.WriteByte(raw[i])
			continue
		}
		i++
		digits := 0
		switch raw[i] {
		case 'b':
			b.WriteByte('\b')
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'f':
			b.WriteByte('\f')
		case 'r':
			b.WriteByte('\r')
		case 'e':
			b.WriteByte(0x1B)
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		default:
			b.WriteByte(raw[i])
		}
		if digits > 0 {
			end := min(i+1+digits, len(raw))
			if n, err := strconv.ParseUint(raw[i+1:end], 16, 32); err == nil && n <= utf8.MaxRune {
				b.WriteRune(rune(n))
			}
			i = end - 1
		}
	}
	return b.String()
}
