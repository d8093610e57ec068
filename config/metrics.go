package config

import "strings"

// metrics checks [host].metrics and returns it, "" for none.
func (v *validator) metrics() string {
	m := v.hostTable.Metrics
	switch {
	case !m.usable():
	case v.opt.Rootless:
		v.errorf(m.origin, "is the host's, an ordinary user's serve has the socket only; remove it")
	case !cleanPath(&v.problems, m):
	case !strings.HasSuffix(m.v, ".prom"):
		v.errorf(m.origin, "%s does not end in .prom, and node_exporter reads no other file; rename it", shown(m.v))
	default:
		return m.v
	}
	return ""
}
