package config

import (
	"slices"
	"sort"
	"strings"

	"jail/internal/environ"
	"jail/internal/jail"
)

// maxAccept bounds the patterns of a jail, as environ does.
const maxAccept = environ.MaxAccept

// checkAccept checks which variables may enter besides the usual ones.
func checkAccept(ps *problems, spec *jail.Spec, list acceptKey) {
	for _, p := range list {
		switch {
		case !environ.ValidPattern(p.v):
			ps.errorf(p.origin, "%s is not a variable's name, use up to 64 letters, digits and _, with up to 4 * and any ? for others", shown(p.v))
		case environ.Reserved(p.v):
			what := "is set by the jail, or changes what programs inside do before they do anything"
			if strings.ContainsAny(p.v, "*?") {
				what = "stands for names that are set by the jail, or that change what programs inside do before they do anything"
			}
			ps.errorf(p.origin, "%s %s, name others", p.v, what)
		case !slices.Contains(spec.EnvAccept, p.v):
			spec.EnvAccept = append(spec.EnvAccept, p.v)
		}
	}
	sort.Strings(spec.EnvAccept)
	if len(spec.EnvAccept) > maxAccept {
		ps.errorf(list[0].origin, "has %d names with [defaults], use at most %d", len(spec.EnvAccept), maxAccept)
	}
}

// checkHostFiles checks what of the host's settings the jail follows.
func checkHostFiles(ps *problems, spec *jail.Spec, s *settings) {
	if r := s.ResolvConf; r.usable() {
		if r.v != "host" && r.v != "rootfs" {
			ps.errorf(r.origin, `%s is not whose resolv.conf to use, write "host" or "rootfs"`, shown(r.v))
		}
		spec.OwnResolver = r.v == "rootfs"
	}
	if h := s.Hosts; h.usable() {
		if h.v != "auto" && h.v != "rootfs" {
			ps.errorf(h.origin, `%s is not which /etc/hosts to use, write "auto" or "rootfs"`, shown(h.v))
		}
		spec.OwnHosts = h.v == "rootfs"
	}
	if t := s.Timezone; t.usable() && t.v != "host" {
		if t.v != jail.OwnTimezone && !environ.ZoneName(t.v) {
			ps.errorf(t.origin, `%s is not a time zone, write "host", "rootfs" or a name such as "Europe/Paris"`, shown(t.v))
		}
		spec.Timezone = t.v
	}
}
