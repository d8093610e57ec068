package environ

// MaxZoneFile is the largest zone file (tzfile(5)) that is looked at, in bytes.
// The largest there is has less than 4 KiB.
const MaxZoneFile = 64 << 10

// ZoneName reports whether s may name a time zone: a relative path below
// /usr/share/zoneinfo that stays there.
func ZoneName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '+', c == '-':
		case c == '/' && i > 0 && i < len(s)-1 && s[i-1] != '/':
		default:
			return false
		}
	}
	return true
}

// ZoneOfLink returns the zone a link at /etc/localtime names, "" if none.
func ZoneOfLink(target string) string {
	const dir = "/zoneinfo/"
	for i := len(target) - len(dir); i >= 0; i-- {
		if target[i:i+len(dir)] != dir {
			continue
		}
		if name := target[i+len(dir):]; ZoneName(name) {
			return name
		}
		return ""
	}
	return ""
}

// ZoneRule returns the rule at the end of a zone file, which says what TZ would
// say (tzset(3), tzfile(5) "footer"), or "" if it has none.
func ZoneRule(file []byte) string {
	if len(file) < 44 || string(file[:4]) != "TZif" || file[4] < '2' || file[len(file)-1] != '\n' {
		return ""
	}
	file = file[:len(file)-1]
	for i := len(file) - 1; i >= 0 && len(file)-i <= 65; i-- {
		c := file[i]
		if c == '\n' {
			return string(file[i+1:])
		}
		if c <= ' ' || c > '~' {
			return ""
		}
	}
	return ""
}

// Sum is by what zone files are compared, FNV-1a. It only has to tell those of
// people who mean no harm apart.
func Sum(file []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range file {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
