package environ

// Limits of what is taken from environment files. What pam_env(8) takes is
// bounded by the line alone.
const (
	maxFileLine = 8191     // of a line, lines joined by a backslash counted as one
	maxFileVars = 256      // variables
	maxFileText = 64 << 10 // of all of them together
)

// Files collects the variables of environment files such as /etc/environment,
// read one after the other, in memory that is used again.
type Files struct {
	// Entries are NAME=VALUE, each name once; a NUL follows each in memory.
	Entries [][]byte

	text, line []byte
}

// Reset forgets everything.
func (f *Files) Reset() {
	f.Entries, f.text = f.Entries[:0], f.text[:0]
}

// Read adds the variables of one file's text, as pam_env(8) reads an envfile
// (Linux-PAM, pam_env.c:_parse_env_file): NAME=VALUE on a line, "export " in
// front passed over, everything from # on a comment, a backslash at the end
// joining lines, quotes removed around a value and nowhere else. A line that is
// only a name removes what an earlier line or file has set. A line with another
// character in its name than a letter, a digit or _ is passed over; one that is
// too long or has a NUL in it ends the file.
func (f *Files) Read(text []byte) {
	for {
		var ok bool
		if text, ok = f.assemble(text); !ok {
			return
		}
		f.assign(f.line)
	}
}

// assemble puts the next line into f.line, lines joined and comments removed, and
// returns the text after it (pam_env.c:_assemble_line).
func (f *Files) assemble(text []byte) (rest []byte, ok bool) {
	f.line = f.line[:0]
	for len(text) > 0 {
		var raw []byte
		raw, text = cutLine(text)
		if len(f.line)+len(raw) > maxFileLine {
			return nil, false
		}
		for _, c := range raw {
			if c == 0 {
				return nil, false
			}
		}
		start := 0
		for start < len(raw) && blank(raw[start]) {
			start++
		}
		if start == len(raw) || raw[start] == '#' {
			continue // as if it were not there, also between joined lines
		}
		for i := start; i < len(raw); i++ {
			if raw[i] == '#' {
				f.line = append(f.line, raw[:i]...)
				return text, true
			}
		}
		end := len(raw)
		for end > start && blank(raw[end-1]) {
			end--
		}
		if raw[end-1] != '\\' {
			f.line = append(f.line, raw...)
			return text, true
		}
		f.line = append(f.line, raw[:end-1]...)
	}
	return nil, false // also where a joined line has no end
}

func cutLine(text []byte) (line, rest []byte) {
	for i, c := range text {
		if c == '\n' {
			return text[:i], text[i+1:]
		}
	}
	return text, nil
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }

// assign carries out one line.
func (f *Files) assign(line []byte) {
	for len(line) > 0 && blank(line[0]) {
		line = line[1:]
	}
	const export = "export "
	if len(line) >= len(export) && string(line[:len(export)]) == export {
		line = line[len(export):]
	}
	n := 0
	for n < len(line) && line[n] != '=' {
		if c := line[n]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_') {
			return
		}
		n++
	}
	if n == 0 {
		return
	}
	at := f.find(line[:n])
	if n == len(line) {
		if at >= 0 {
			f.Entries = append(f.Entries[:at], f.Entries[at+1:]...)
		}
		return
	}
	if at < 0 && len(f.Entries) == maxFileVars || len(f.text)+len(line)+1 > maxFileText {
		return
	}
	begin := len(f.text)
	f.text = append(f.text, line[:n+1]...)
	value := line[n+1:]
	if len(value) > 0 && quote(value[0]) {
		value = value[1:]
		if last := len(value) - 1; last >= 0 && quote(value[last]) {
			value = value[:last]
		}
	}
	f.text = append(append(f.text, value...), 0)
	entry := f.text[begin : len(f.text)-1]
	if at >= 0 {
		f.Entries[at] = entry
	} else {
		f.Entries = append(f.Entries, entry)
	}
}

func quote(c byte) bool { return c == '"' || c == '\'' }

// find returns the entry of a name, -1 if there is none.
func (f *Files) find(name []byte) int {
	for i, e := range f.Entries {
		if len(e) > len(name) && e[len(name)] == '=' && string(e[:len(name)]) == string(name) {
			return i
		}
	}
	return -1
}
