package environ

// MaxHosts is the size of the largest hosts file that is looked into, in bytes.
const MaxHosts = 64 << 10

// HostsState says what a hosts file (hosts(5)) is to a host of a certain name.
type HostsState int

// The values of HostsState.
const (
	HostsPlain HostsState = iota // it names this machine by what all call it, localhost, and no other
	HostsNamed                   // it names the host
	HostsKept                    // it names others, so somebody keeps it
)

// Hosts judges a hosts file. Names are compared as gethostbyname(3) does, without regard
// to case.
func Hosts(text []byte, name string) HostsState {
	state := HostsPlain
	for len(text) > 0 {
		line := upTo(text, '\n')
		text = text[min(len(line)+1, len(text)):]
		line = upTo(line, '#')
		_, line = word(line) // the address
		for {
			var w []byte
			if w, line = word(line); len(w) == 0 {
				break
			}
			if sameName(w, name) {
				return HostsNamed
			}
			if !everyHost(w) {
				state = HostsKept
			}
		}
	}
	return state
}

// AppendHosts appends text and a line for the host, as Debian's installer writes it:
// 127.0.1.1, since 127.0.0.1 is called localhost, and the short name behind one with dots.
func AppendHosts(dst, text []byte, name string) []byte {
	dst = append(dst, text...)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		dst = append(dst, '\n')
	}
	dst = append(append(dst, "127.0.1.1\t"...), name...)
	for i := 1; i < len(name); i++ {
		if name[i] == '.' {
			dst = append(append(dst, ' '), name[:i]...)
			break
		}
	}
	return append(dst, '\n')
}

// upTo returns what stands before the first c, all of it if there is none.
func upTo(text []byte, c byte) []byte {
	for i := range text {
		if text[i] == c {
			return text[:i]
		}
	}
	return text
}

// word returns the first word of a line and what comes behind it.
func word(line []byte) (w, rest []byte) {
	blank := func(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f' }
	for len(line) > 0 && blank(line[0]) {
		line = line[1:]
	}
	n := 0
	for n < len(line) && !blank(line[n]) {
		n++
	}
	return line[:n], line[n:]
}

// everyHost reports whether every host has an entry of this name, or may have.
func everyHost(name []byte) bool {
	for _, prefix := range [...]string{"localhost", "ip6-", "ipv6-"} {
		if len(name) >= len(prefix) && sameName(name[:len(prefix)], prefix) {
			return true
		}
	}
	return sameName(name, "broadcasthost")
}

func sameName(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if lower(c) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
