package config

import (
	"fmt"
	"strconv"

	"jail/internal/jail"
)

// Explanation is one jail of the registry with where each of its values comes from.
type Explanation struct {
	// Spec is what a start would take, as far as the faults let it be told.
	Spec jail.Spec
	// Accounts are the accounts of the host that land in it.
	Accounts []Setting
	// Settings are the values of its keys, given or not.
	Settings []Setting
	// Errors are why it, or a login of it, is out of service.
	Errors Errors
	// InForce reports whether the registry as it is now has the jail in force.
	InForce bool
}

// Setting is the value of one key.
type Setting struct {
	// Key is the dotted path below the jail's table.
	Key string
	// Value is as in the registry, words of a template replaced.
	Value string
	// From is the file, line and key that say so, or "default".
	From string
}

// from says where a value comes from.
func (o origin) from() string {
	if !o.given() {
		return "default"
	}
	s := o.file + ":" + strconv.Itoa(o.line)
	if o.key != "" {
		s += " " + o.key
	}
	return s
}

// explain returns what there is to say of a jail, nil if there is none of that name. It
// is asked when everything else has been settled.
func (v *validator) explain(name string, reg *Registry) *Explanation {
	d := v.byName[name]
	if d == nil {
		return nil
	}
	e := &Explanation{Spec: d.spec, InForce: reg.Jail(name) != nil}
	if spec := reg.Jail(name); spec != nil {
		e.Spec = *spec
	}
	for i := range reg.Faults {
		if reg.Faults[i].Jail == name {
			e.Errors = append(e.Errors, reg.Faults[i].Errors...)
		}
	}
	e.Errors = e.Errors.Sorted()
	d.explainAccounts(e)
	d.explainSettings(e)
	return e
}

func (d *draft) explainAccounts(e *Explanation) {
	for _, u := range d.Users.list {
		if !u.known {
			e.Accounts = append(e.Accounts, Setting{u.login, "out of service", u.origin.from()})
			continue
		}
		gid := "as the jail's passwd says"
		if u.spec.HasGID {
			gid = uintString(uint32(u.spec.GID))
		}
		value := fmt.Sprintf("uid %d on the host, inside uid %d, gid %s", u.spec.HostUID, u.spec.UID, gid)
		for _, x := range []struct{ what, v string }{{"name", u.spec.JailName}, {"shell", u.spec.Shell}, {"home", u.spec.Home}} {
			if x.v != "" {
				value += ", " + x.what + " " + x.v
			}
		}
		if len(u.errors) > 0 {
			value += ", out of service"
		}
		from := u.origin.from()
		if d.match != nil {
			from = d.match.origin.from() + " " + d.match.criterion()
		}
		e.Accounts = append(e.Accounts, Setting{u.login, value, from})
		if o := originOf(d, u, "uid"); o != u.origin {
			e.Accounts = append(e.Accounts, Setting{u.login + ".uid", uintString(uint32(u.spec.UID)), o.from()})
		}
		if o := originOf(d, u, "gid"); o != u.origin {
			e.Accounts = append(e.Accounts, Setting{u.login + ".gid", gid, o.from()})
		}
	}
}

// explainSettings goes through the keys in the order of their manual.
func (d *draft) explainSettings(e *Explanation) {
	add := func(key, value string, o origin) {
		e.Settings = append(e.Settings, Setting{key, value, o.from()})
	}
	text := func(key string, x value[string], otherwise string) {
		if x.usable() {
			otherwise = x.v
		}
		add(key, shown(otherwise), x.origin)
	}
	flag := func(key string, x value[bool]) { add(key, strconv.FormatBool(x.v), x.origin) }
	s := &d.set
	if t := d.templateKey(); t.given() {
		add("template", shown(t.v), t.origin)
	}
	if !d.isBased() {
		text("rootfs", d.Rootfs, "")
	}
	d.explainBase(e)
	text("hostname", s.Hostname, d.name)
	switch u := e.Spec.Userns; {
	case s.Userns.off:
		add("userns", "false: ids inside are ids of the host", s.Userns.origin)
	case u.Enabled && u.Keep:
		add("userns", fmt.Sprintf("ids 0 to %d inside are %d to %d on the host, but for the login's own, which it keeps", u.Size-1, u.Base, uint64(u.Base)+uint64(u.Size)-1), s.Userns.origin)
	case u.Enabled:
		add("userns", fmt.Sprintf("ids 0 to %d inside are %d to %d on the host", u.Size-1, u.Base, uint64(u.Base)+uint64(u.Size)-1), s.Userns.origin)
	default:
		add("userns", "no range", s.Userns.origin)
	}
	add("idle_timeout", e.Spec.IdleTimeout.String(), s.IdleTimeout.origin)
	add("autostart", strconv.FormatBool(e.Spec.Autostart), s.Autostart.origin)
	flag("container_root", s.ContainerRoot)
	flag("x11", s.X11)
	text("on_disconnect", s.OnDisconnect, "")
	for _, name := range keysOf(s.Env) {
		add("env."+quoteKey(name), shown(s.Env[name].v), s.Env[name].origin)
	}
	for _, id := range s.Acknowledge {
		add("acknowledge", id.v, id.origin)
	}
	for _, p := range s.EnvAccept {
		add("env_accept", shown(p.v), p.origin)
	}
	if d.isCage() { // of [defaults], others have none
		for _, p := range s.Show {
			add("show", shown(p.v), p.origin)
		}
		for _, p := range s.Hide {
			add("hide", shown(p.v), p.origin)
		}
	}
	text("hosts", s.Hosts, "auto")
	text("resolv_conf", s.ResolvConf, "host")
	text("timezone", s.Timezone, "host")
	text("record", s.Record, "off")
	flag("record_input", s.RecordInput)
	text("log_commands", s.LogCommands, "none")
	text("keys", s.Keys, "inside")
	for i, m := range s.Mounts {
		how := "read-write"
		if m.ReadOnly.v {
			how = "read-only"
		}
		add("mounts["+strconv.Itoa(i)+"]", fmt.Sprintf("%s at %s, %s", shown(m.Source.v), shown(m.Target.v), how), m.origin)
	}
	text("limits.memory", s.Limits.Memory, "")
	text("limits.cpu", s.Limits.CPU, "")
	text("limits.disk", s.Limits.Disk, "")
	if f := s.Limits.Files; f.usable() {
		add("limits.files", strconv.FormatInt(f.v, 10), f.origin)
	}
	switch p := s.Limits.Pids; {
	case !p.usable():
		add("limits.pids", strconv.Itoa(jail.DefaultPids), p.origin)
	default:
		add("limits.pids", strconv.FormatInt(p.v, 10), p.origin)
	}
	if w := s.Limits.IOWeight; w.usable() {
		add("limits.io_weight", strconv.FormatInt(w.v, 10), w.origin)
	}
	d.explainSessions(e)
	text("sftp", s.SFTP, "auto")
	d.explainServices(e)
	d.explainNetwork(&e.Spec.Network, add)
}

// templateKey is the key that names the jail's template.
func (d *draft) templateKey() value[string] {
	if d.match != nil {
		return d.match.Template
	}
	return d.Template
}
