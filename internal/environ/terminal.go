package environ

// TerminalName reports whether TERM may name a terminal's description, which is a
// file of that name (term(7)): never a path.
func TerminalName(s []byte) bool {
	if len(s) == 0 || len(s) > 64 || s[0] == '.' {
		return false
	}
	for _, c := range s {
		switch {
		case letter(c), c >= '0' && c <= '9', c == '-', c == '+', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// colourful are terminals of today that go by a name of their own and understand
// what xterm-256color does.
var colourful = []string{"alacritty", "contour", "foot", "ghostty", "iterm", "kitty", "konsole", "mintty", "rio", "st", "vte", "wezterm"}

// Terminals returns what to call a terminal of that name where nothing is known of
// it, the best first. The name may be empty.
func Terminals(name string) []string {
	bare := name
	if len(bare) > 6 && bare[:6] == "xterm-" {
		bare = bare[6:]
	}
	many := contains(name, "256color") || contains(name, "direct") || contains(name, "truecolor")
	for _, t := range colourful {
		many = many || begins(bare, t)
	}
	switch inner := begins(name, "tmux") || begins(name, "screen"); {
	case inner && many:
		return []string{"screen-256color", "screen", "xterm-256color", "xterm", "vt100"}
	case inner:
		return []string{"screen", "xterm", "vt100"}
	case many:
		return []string{"xterm-256color", "xterm", "vt100"}
	}
	return []string{"xterm", "vt100"}
}

func contains(s, part string) bool {
	for i := 0; i+len(part) <= len(s); i++ {
		if s[i:i+len(part)] == part {
			return true
		}
	}
	return false
}
