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

// checkCommands says what is recorded of commands.
func checkCommands(ps *problems, spec *jail.Spec, c value[string]) {
	switch {
	case !c.usable() || c.v == "none":
	case c.v == "name" || c.v == "full":
		spec.Commands = jail.Commands(c.v)
	default:
		ps.errorf(c.origin, `%s is no part of a command, write "none", "name" or "full"`, shown(c.v))
	}
}
