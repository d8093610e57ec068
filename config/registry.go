package config

import (
	"sort"
	"strconv"

	"jail/internal/jail"
)

// document is one registry file: the main file or a drop-in.
type document struct {
	problems // outside its jails
	path     string
	unread   bool // what is in it is not known
	// Version is the format of the file. Required in every file; must be 1.
	Version value[int64] `toml:"version"`
	// Defaults holds settings for every jail that does not have its own. It
	// belongs in the main file: a drop-in describes jails only.
	Defaults defaultsTable `toml:"defaults"`
	// Jails are the jails, [jail.NAME]. NAME is a lower-case letter or _
	// followed by up to 31 lower-case letters, digits, _ and -.
	Jails jailTables `toml:"jail"`
	// Templates hold settings for jails that are not written down one by one,
	// [template.NAME]: the keys of a jail without users. NAME is as a jail's.
	Templates jailTables `toml:"template"`
	// Matches give every account of a group, a pattern or a range of uids a jail of its
	// own, [[match]].
	Matches matchTables `toml:"match"`
	// Host is what the host keeps for itself. It belongs in the main file.
	Host hostTable `toml:"host"`
}

// defaultsTable is [defaults].
type defaultsTable struct {
	origin
	settings
}

func (t *defaultsTable) decode(ps *problems, o origin, p *position, v any) {
	t.origin = o
	decodeTable(ps, o, p, v, t)
}

// hostTable is [host]: what is said of the host itself.
type hostTable struct {
	origin
	// Acknowledge are the ids of findings of "jail check" about the host or any jail that
	// are not told any more, as "sshd-password"; jail-check(7) has them all. What is an
	// error is told nevertheless.
	Acknowledge ackKey `toml:"acknowledge"`
	// Metrics is a file that "jail-init serve" writes what Prometheus reads to, for
	// node_exporter's textfile collector: an absolute path that ends in .prom, in a directory
	// that is there.
	Metrics value[string] `toml:"metrics"`
	// Reserved are ports that no jail may bind, not on its own loopback either: those of
	// services of the host.
	Reserved portsKey `toml:"reserved"`
}

func (t *hostTable) decode(ps *problems, o origin, p *position, v any) {
	t.origin = o
	decodeTable(ps, o, p, v, t)
}

// jailTable is [jail.NAME], or [template.NAME].
type jailTable struct {
	origin
	problems // with one, the jail is out of service
	name     string

	match      *matchTable // that the jail is made by, if it is by one
	home       string      // of its account, where {home} is used
	homeFaulty bool
	homeIs     origin          // the first {home} that is a place on the host
	used       bool            // a template that somebody names
	says       map[string]bool // the words in a template's braces

	// Rootfs is the directory that is / inside: an absolute host path
	// without a symbolic link in it. Required. No two jails share one or lie
	// inside one another. "host" makes a cage of the host itself, for one login: its
	// programs, what everybody may know of its /etc, and the login's home.
	Rootfs value[string] `toml:"rootfs"`
	// Base takes the place of rootfs: the jail's root is an image (NAME, or NAME/ID for
	// a certain one; jail-image(8)) or a directory, given by its absolute path, that other
	// jails are based on as well. Nothing is written to it. What this jail writes is seen
	// by nobody else, and persist says what outlives it.
	Base value[string] `toml:"base"`
	// State is the directory of the host with what outlives a jail with base: an absolute
	// path without a symbolic link in it, root's and nobody else's to enter. It is made if
	// it is missing. The default is /var/lib/jail/state/NAME. No two jails share one.
	State value[string] `toml:"state"`
	// Users are the host logins that land in this jail. Required: an array
	// of names, or a table with one entry per name. A login belongs to one
	// jail, is in the host's passwd, and is no system or administrator's
	// account.
	Users usersKey `toml:"users"`
	// UID is the uid inside for every user without one of its own. Without
	// it the uid inside is the login's uid on the host.
	UID value[int64] `toml:"uid"`
	// Services are programs that run in the jail without a login, [[jail.NAME.service]],
	// started in this order when the jail is.
	Services servicesKey `toml:"service"`
	// Template is the name of a template, for what the jail does not say itself.
	Template value[string] `toml:"template"`
	settings
}

// settings are the keys that [defaults] and [jail.NAME] share.
type settings struct {
	// GID is the primary group inside for every user without one of its own.
	// Without it the jail's passwd decides, and where that has no entry, the
	// uid is used.
	GID value[int64] `toml:"gid"`
	// Hostname is the host name inside, at most 64 characters. The default
	// is the jail's name.
	Hostname value[string] `toml:"hostname"`
	// Userns is the id map: "auto" (the default) maps ids 0 to 65535 to a
	// range of host ids that nothing else uses, { base = N, size = N } to the
	// range given, "keep" is "auto" with a login that has its own uid and gid of the
	// host, for file systems that cannot be mounted with mapped ids, and false not at
	// all: a uid inside is then that very uid on the host.
	Userns usernsKey `toml:"userns"`
	// IdleTimeout is how long a jail without a session and without a process
	// of its own keeps running, as "90s", "15m" (the default) or "1h30m";
	// "0" is for ever.
	IdleTimeout value[string] `toml:"idle_timeout"`
	// Autostart starts the jail with the host instead of at the first login.
	// The default is false, and true for a jail with services.
	Autostart value[bool] `toml:"autostart"`
	// ContainerRoot, with userns = false, lets set-uid programs inside work
	// and uid 0 keep some capabilities. The default is false. Without
	// meaning where userns is on: root inside is then an unprivileged uid of the host.
	ContainerRoot value[bool] `toml:"container_root"`
	// Env is added to the environment of every session. A jail's variables
	// are added to those of [defaults] and win over them.
	Env envKey `toml:"env"`
	// Mounts are host directories and files shown inside, in this order. A
	// jail's are made after those of [defaults]; one with the same target
	// takes the other's place.
	Mounts mountsKey `toml:"mounts"`
	// Show are directories and files of the host that a cage of the host shows
	// besides, read-only, at the same paths. A jail's are added to those of [defaults].
	Show pathsKey `toml:"show"`
	// Hide are paths inside a cage of the host that are empty there. A jail's are
	// added to those of [defaults].
	Hide pathsKey `toml:"hide"`
	// Fresh are directories that are empty at each start of the jail, in memory: "/run",
	// "/tmp". The default is /run for a jail with services, and none otherwise.
	Fresh listKey `toml:"fresh"`
	// Persist is what outlives a jail with base: "home" (the default) is /home, all else
	// is as the base has it at each start; "all" is everything, and then the jail stays on
	// the image it was first started with until jail rebase; "none" is nothing.
	Persist value[string] `toml:"persist"`
	// Scratch is how much a jail with base may write that does not outlive it, as "512M" (the
	// default) or "1G". It is kept in memory.
	Scratch value[string] `toml:"scratch"`
	// X11 lets sessions have the X11 display that their client forwards, if
	// sshd forwards it ("jail-init check" says what sshd needs for that). The
	// default is false.
	X11 value[bool] `toml:"x11"`
	// OnDisconnect is what becomes of a session whose client is gone: "hup"
	// sends SIGHUP also to one without a terminal, "kill" sends SIGKILL,
	// "keep" lets one with a terminal run on. Without it the kernel hangs up a
	// terminal, and a session without one goes on, as with plain sshd.
	OnDisconnect value[string] `toml:"on_disconnect"`
	// EnvAccept are names of variables that may enter with a login besides
	// those that always may; * stands for any characters or none, ? for one.
	// A jail's are added to those of [defaults]. sshd's AcceptEnv has to let
	// them in as well.
	EnvAccept acceptKey `toml:"env_accept"`
	// Acknowledge are the ids of findings of "jail check" about this jail and its logins
	// that are not told any more. A jail's are added to those of [defaults].
	Acknowledge ackKey `toml:"acknowledge"`
	// ResolvConf is whose /etc/resolv.conf the jail has: "host" (the default)
	// shows the host's, read-only and as it changes; "rootfs" leaves the
	// jail's own.
	ResolvConf value[string] `toml:"resolv_conf"`
	// Hosts is which /etc/hosts the jail has: "auto" (the default) is the jail's own,
	// shown with a line for the jail's hostname where it names no host but localhost;
	// "rootfs" is the jail's own as it is.
	Hosts value[string] `toml:"hosts"`
	// Timezone is the time zone of sessions: "host" (the default) is the
	// host's, "rootfs" what the jail says itself, anything else the name of a
	// zone such as "Europe/Paris".
	Timezone value[string] `toml:"timezone"`
	// Record is what is recorded of sessions: "tty" is what the terminal shows, "off" (the
	// default) nothing. Sessions without a terminal are never recorded.
	Record value[string] `toml:"record"`
	// RecordInput adds what is typed, passwords that are not shown among it. The default
	// is false.
	RecordInput value[bool] `toml:"record_input"`
	// LogCommands is what the records have of the command a session was asked for: "none" (the
	// default), "name", the program's name alone, or "full", all of it with what may be secret in it.
	LogCommands value[string] `toml:"log_commands"`
	// Keys says where the keys and the authorities of certificates may be kept
	// by which users log in under a ForceCommand: "inside" (the default) is in
	// their authorized_keys inside the jail, and a login by another key is
	// refused though sshd accepts it; "anywhere" lets sshd have keys of its own.
	Keys value[string] `toml:"keys"`
	// Limits bound what the jail as a whole may use. Each one not given
	// comes from [defaults].
	Limits limitsTable `toml:"limits"`
	// MaxSessions is how many sessions there may be at once, of all users together, from 1 to
	// 1000, which is the default.
	MaxSessions value[int64] `toml:"max_sessions"`
	// SessionRate is how many sessions of one user may begin in a minute, from 1 to 6000. The
	// default is no limit.
	SessionRate value[int64] `toml:"session_rate"`
	// Umask is what sessions begin with, as "027". The default is "022".
	Umask value[string] `toml:"umask"`
	// Nice is the niceness of sessions, from 0, the default, to 19.
	Nice value[int64] `toml:"nice"`
	// Rlimits are resource limits of each process of a session, such as { nofile = 4096,
	// fsize = "1G" }; setrlimit(2) has them. A jail's are added to those of [defaults].
	Rlimits rlimitsKey `toml:"rlimits"`
	// SFTP says who serves sftp and scp: "auto" (the default) is the root
	// file system's own sftp-server if it has one and the one that comes with
	// jail otherwise, "builtin" always the latter, "rootfs" only the former,
	// "off" neither. It is no protection: who may run commands can copy files.
	SFTP value[string] `toml:"sftp"`
	// Ports are the ports of the host's addresses that are this jail's, and the only ones
	// it may bind: 25, "8000-8099", "53/udp"; without a protocol TCP and UDP. Low ones need
	// no privilege then. "any" (the default) is every port that nobody owns, by the host's
	// rules.
	Ports portsKey `toml:"ports"`
	// Loopback are ports of the host's 127.0.0.1 and ::1 that the jail reaches, which has a
	// loopback of its own otherwise: [] is none. "host" (the default) is the host's loopback.
	Loopback portsKey `toml:"loopback"`
	// Unowned says what becomes of a TCP listener on all addresses for a port that is not
	// the jail's: "private" (the default where it has its own loopback) puts it there,
	// "refuse" refuses it. On an address of the host it is refused in any case.
	Unowned value[string] `toml:"unowned"`
	// Network is "host" (the default), or "none": no network but the jail's own loopback.
	Network value[string] `toml:"network"`
}

// userTable is one entry of [jail.NAME.users].
type userTable struct {
	origin
	problems // with one, the login is out of service
	login    string
	spec     jail.Login // as far as it is known
	known    bool       // its account
	// UID is the uid inside. The default is the jail's uid, then the login's
	// uid on the host.
	UID value[int64] `toml:"uid"`
	// GID is the primary group inside. The default is the jail's gid, then
	// what the jail's passwd says, then the uid.
	GID value[int64] `toml:"gid"`
	// Name is the user name inside. The default is what the jail's passwd
	// says of the uid.
	Name value[string] `toml:"name"`
	// Shell is the login shell inside, an absolute path there. The default
	// is what the jail's passwd says.
	Shell value[string] `toml:"shell"`
	// Home is the home directory inside, an absolute path there. The default
	// is what the jail's passwd says.
	Home value[string] `toml:"home"`
}

// mountTable is one element of mounts.
type mountTable struct {
	origin
	// Source is the host directory or file: an absolute path without a
	// symbolic link in it. Required. Neither the host's own file systems nor
	// the control sockets can be shown.
	Source value[string] `toml:"source"`
	// Target is the absolute path inside. Required.
	Target value[string] `toml:"target"`
	// ReadOnly makes the mount, and all that is mounted below its source,
	// read-only. The default is false.
	ReadOnly value[bool] `toml:"readonly"`
}

// limitsTable is [jail.NAME.limits].
type limitsTable struct {
	// Memory is the most memory, as "512M" or "1G" (K, M, G and T are powers
	// of 1024).
	Memory value[string] `toml:"memory"`
	// CPU is the most processor time, in percent of one processor: "200%" is
	// two processors.
	CPU value[string] `toml:"cpu"`
	// Pids is the most processes and threads, 0 for no limit. The default is
	// 4096, which the jail does without where it cannot be had.
	Pids value[int64] `toml:"pids"`
	// IOWeight is the share of a disk's time that the jail gets when others want it, too, 1 to
	// 10000. The default is 100. The kernel has to keep such shares of the disk.
	IOWeight value[int64] `toml:"io_weight"`
	// Disk is the most that the root directory, or the home of a cage, may hold, as
	// "10G", and Files how many files. The file system has to keep project quotas.
	Disk  value[string] `toml:"disk"`
	Files value[int64]  `toml:"files"`
}

func (t *limitsTable) decode(ps *problems, o origin, p *position, v any) {
	decodeTable(ps, o, p, v, t)
}

// usernsTable is the long form of userns.
type usernsTable struct {
	// Base is the first host id of the range. Required, never 0.
	Base value[int64] `toml:"base"`
	// Size is the number of ids. Required; 65536 suits every system.
	Size value[int64] `toml:"size"`
}

// jailTables are all the [jail.NAME] of a file, by line.
type jailTables []*jailTable

func (ts *jailTables) decode(ps *problems, o origin, p *position, v any) {
	table, ok := v.(map[string]any)
	if !ok {
		wrongType(ps, o, v, "a table, write ["+o.key+".NAME]")
		return
	}
	for _, name := range keysOf(table) {
		at := p.at(name)
		t := &jailTable{origin: origin{o.file, at.line, o.below(name)}, name: name}
		decodeTable(&t.problems, t.origin, at, table[name], t)
		*ts = append(*ts, t)
	}
	sort.SliceStable(*ts, func(i, j int) bool { return (*ts)[i].line < (*ts)[j].line })
}

// usersKey is users in either form.
type usersKey struct {
	origin
	broken bool // given, but of the wrong type
	list   []*userTable
}

func (u *usersKey) decode(ps *problems, o origin, p *position, v any) {
	u.origin = o
	const want = "an array of login names, or a table with one entry per login"
	if table, ok := v.(map[string]any); ok {
		for _, login := range keysOf(table) {
			at := p.at(login)
			t := &userTable{origin: origin{o.file, at.line, o.below(login)}, login: login}
			decodeTable(&t.problems, t.origin, at, table[login], t)
			u.list = append(u.list, t)
		}
		return
	}
	list, ok := items(v)
	if !ok {
		u.broken = true
		wrongType(ps, o, v, want)
		return
	}
	for i, item := range list {
		at := origin{o.file, p.item(i).line, o.key}
		login, ok := item.(string)
		if !ok {
			u.broken = true
			wrongType(ps, at, item, "an array of login names in quotes")
			continue
		}
		u.list = append(u.list, &userTable{origin: at, login: login})
	}
}

// usernsKey is userns in any of its three forms.
type usernsKey struct {
	origin
	broken bool         // given, but none of the forms
	off    bool         // false
	keep   bool         // "keep"
	fixed  *usernsTable // { base, size }
}

func (u *usernsKey) decode(ps *problems, o origin, p *position, v any) {
	u.origin = o
	const want = `"auto", "keep", false or { base = N, size = N }`
	switch v := v.(type) {
	case string:
		if u.keep = v == "keep"; !u.keep && v != "auto" {
			u.broken = true
			ps.errorf(o, "%q is not a mode, must be %s", v, want)
		}
	case bool:
		if v {
			u.broken = true
			ps.errorf(o, `cannot be true, must be %s`, want)
		}
		u.off = !v
	case map[string]any:
		u.fixed = &usernsTable{}
		decodeTable(ps, o, p, v, u.fixed)
	default:
		u.broken = true
		wrongType(ps, o, v, want)
	}
}

// envKey is env, by name.
type envKey map[string]value[string]

func (e *envKey) decode(ps *problems, o origin, p *position, v any) {
	table, ok := v.(map[string]any)
	if !ok {
		wrongType(ps, o, v, `a table such as { NAME = "value" }`)
		return
	}
	*e = make(envKey)
	for _, name := range keysOf(table) {
		at := p.at(name)
		var val value[string]
		val.decode(ps, origin{o.file, at.line, o.below(name)}, at, table[name])
		if val.usable() {
			(*e)[name] = val
		}
	}
}

// acceptKey is env_accept, in order.
type acceptKey []value[string]

func (a *acceptKey) decode(ps *problems, o origin, p *position, v any) {
	list, ok := items(v)
	if !ok {
		wrongType(ps, o, v, `an array of names such as [ "EDITOR", "GIT_AUTHOR_*" ]`)
		return
	}
	for i, item := range list {
		at := p.item(i)
		var name value[string]
		name.decode(ps, origin{o.file, at.line, o.key}, at, item)
		if name.usable() {
			*a = append(*a, name)
		}
	}
}

// mountsKey is mounts, in order.
type mountsKey []mountTable

func (m *mountsKey) decode(ps *problems, o origin, p *position, v any) {
	list, ok := items(v)
	if !ok {
		wrongType(ps, o, v, "an array of tables such as [ { source = \"/srv/www\", target = \"/var/www\" } ]")
		return
	}
	for i, item := range list {
		at := p.item(i)
		t := mountTable{origin: origin{o.file, at.line, o.key + "[" + strconv.Itoa(i) + "]"}}
		decodeTable(ps, t.origin, at, item, &t)
		*m = append(*m, t)
	}
}
