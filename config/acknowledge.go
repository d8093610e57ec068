package config

import "slices"

// ackKey is acknowledge: ids of findings.
type ackKey []value[string]

const (
	maxAcknowledged = 200
	maxFindingID    = 40
)

func (a *ackKey) decode(ps *problems, o origin, p *position, v any) {
	list, ok := items(v)
	if !ok {
		wrongType(ps, o, v, `an array of ids of findings such as [ "sshd-password" ]`)
		return
	}
	if len(list) > maxAcknowledged {
		ps.errorf(o, "has %d ids, use at most %d", len(list), maxAcknowledged)
		return
	}
	for i, item := range list {
		at := origin{o.file, p.item(i).line, o.key}
		var id value[string]
		id.decode(ps, at, p.item(i), item)
		switch {
		case !id.usable():
		case !validFindingID(id.v):
			ps.errorf(at, "%q is no id of a finding, jail check prints them in brackets", clipped(id.v))
		default:
			*a = append(*a, id)
		}
	}
}

func validFindingID(s string) bool {
	if s == "" || len(s) > maxFindingID {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func clipped(s string) string { return s[:min(len(s), 2*maxFindingID)] }

// acknowledged are the ids, by what they are acknowledged for: a jail, or "" for the host.
func (v *validator) acknowledged() map[string][]string {
	all := make(map[string][]string)
	add := func(jail string, ids ackKey) {
		for _, id := range ids {
			if !slices.Contains(all[jail], id.v) {
				all[jail] = append(all[jail], id.v)
			}
		}
	}
	add("", v.hostTable.Acknowledge)
	for _, d := range v.drafts {
		add(d.name, d.set.Acknowledge)
	}
	return all
}

// Acknowledges reports whether a finding about a jail, or with "" about the host, need
// not be told.
func (r *Registry) Acknowledges(id, jail string) bool {
	return slices.Contains(r.Acknowledged[""], id) || jail != "" && slices.Contains(r.Acknowledged[jail], id)
}
