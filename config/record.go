package config

import "jail/internal/jail"

// record says what is recorded of sessions.
func (v *validator) record(ps *problems, spec *jail.Spec, s *settings) {
	r := s.Record
	spec.RecordInput = s.RecordInput.v
	switch {
	case !r.usable() || r.v == "off":
	case r.v != "tty":
		ps.errorf(r.origin, `%s is nothing that can be recorded, write "tty" or "off"`, shown(r.v))
	case v.opt.Rootless:
		ps.errorf(r.origin, "recordings are root's, an ordinary user's jails have none; remove it")
	default:
		spec.Record = true
	}
}
