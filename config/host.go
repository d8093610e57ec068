package config

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"jail/internal/jail"
)

// host is what the host's account files say.
type host struct {
	users  []account
	groups []group
	ids    []uint32 // every uid and gid in them, sorted
	subs   []span   // /etc/subuid and /etc/subgid

	elsewhere       []Account          // those of the registry that are in no file
	groupsElsewhere bool               // groups have members that are in no file
	passwdElsewhere []string           // the sources of accounts besides the files
	listed          map[string]Account // what these say when they are asked for all accounts
	enumerated      int                // how many of them it listed
	groupsUnsaid    bool               // it did not answer for groups
	firstUID        uint32             // below are root and system accounts

	byName     map[string]account
	byUID      map[uint32][]string
	privileged map[uint32]string   // gid of a privileged group: its name
	near       map[string][]string // account: the privileged groups that list it
	lists      map[string][]int    // account: the groups that list it, by their place
}

type account struct {
	name     string
	uid, gid uint32
	home     string
}

type group struct {
	name    string
	gid     uint32
	members []string
}

// span is the host ids from base to end, without end.
type span struct {
	base, end uint64
	file      string // where a subordinate range is listed
	owner     string // and whose it is
}

func (a span) overlaps(b span) bool { return a.base < b.end && b.base < a.end }

func (a span) contains(b span) bool { return a.base <= b.base && b.end <= a.end }

// parseHost reads the host's own account files. They are root's, so a line
// that makes no sense is passed over, as the C library does.
func parseHost(opt Options) *host {
	h := &host{}
	for f := range records(opt.Passwd, 7) {
		uid, ok1 := parseUint32(f[2])
		gid, ok2 := parseUint32(f[3])
		if ok1 && ok2 {
			h.users = append(h.users, account{f[0], uid, gid, f[5]})
			h.ids = append(h.ids, uid, gid)
		}
	}
	for f := range records(opt.Group, 4) {
		if gid, ok := parseUint32(f[2]); ok {
			h.groups = append(h.groups, group{f[0], gid, strings.Split(f[3], ",")})
			h.ids = append(h.ids, gid)
		}
	}
	slices.Sort(h.ids)
	h.index()
	if !opt.FilesOnly {
		text, _ := os.ReadFile("/etc/nsswitch.conf")
		h.groupsElsewhere = groupsElsewhere(string(text))
		h.passwdElsewhere = sourcesElsewhere(string(text), "passwd")
	}
	h.firstUID = firstUID(opt.LoginDefs)
	for _, sub := range []struct {
		file string
		text []byte
	}{{"/etc/subuid", opt.SubUID}, {"/etc/subgid", opt.SubGID}} {
		for f := range records(sub.text, 3) {
			base, ok1 := parseUint32(f[1])
			size, ok2 := parseUint32(f[2])
			if ok1 && ok2 && size > 0 {
				h.subs = append(h.subs, span{uint64(base), uint64(base) + uint64(size), sub.file, f[0]})
			}
		}
	}
	return h
}

// firstUID is UID_MIN of login.defs(5), but no less than what is taken for a system
// account everywhere else.
func firstUID(text []byte) uint32 {
	first := uint32(minHostUID)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "UID_MIN" {
			if n, err := strconv.ParseUint(f[1], 0, 32); err == nil {
				first = max(minHostUID, uint32(n))
			}
		}
	}
	return first
}

// records yields the lines of text with exactly n fields between colons.
func records(text []byte, n int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.SplitSeq(string(text), "\n") {
			f := strings.Split(line, ":")
			if len(f) != n || f[0] == "" || strings.ContainsAny(f[0][:1], "#+-") {
				continue
			}
			if !yield(f) {
				return
			}
		}
	}
}

func parseUint32(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// index makes lookups cheap.
func (h *host) index() {
	h.byName = make(map[string]account, len(h.users))
	h.byUID = make(map[uint32][]string, len(h.users))
	for _, u := range h.users {
		if _, ok := h.byName[u.name]; !ok {
			h.byName[u.name] = u
		}
		if !slices.Contains(h.byUID[u.uid], u.name) {
			h.byUID[u.uid] = append(h.byUID[u.uid], u.name)
		}
	}
	h.privileged = map[uint32]string{0: "root"}
	for _, g := range h.groups {
		if slices.Contains(privilegedGroups, g.name) {
			h.privileged[g.gid] = g.name
		}
	}
	h.near = make(map[string][]string)
	for _, a := range h.elsewhere {
		for _, gid := range a.Groups {
			if name, ok := h.privileged[gid]; ok {
				h.near[a.Name] = append(h.near[a.Name], name)
			}
		}
	}
	h.lists = make(map[string][]int)
	for i, g := range h.groups {
		for _, member := range g.members {
			h.lists[member] = append(h.lists[member], i)
		}
		// By gid as well as by name: two groups can share a gid.
		if name, ok := h.privileged[g.gid]; ok {
			for _, member := range g.members {
				h.near[member] = append(h.near[member], name)
			}
		}
	}
}

// user returns the account getpwnam(3) would.
func (h *host) user(name string) (account, bool) {
	u, ok := h.byName[name]
	return u, ok
}

// namesOf returns every account name with that uid.
func (h *host) namesOf(uid uint32) []string { return h.byUID[uid] }

// privilegedGroups make a member root, or as good as root: by what they may
// run (sudo, wheel), read (shadow, adm), write (disk), or ask a daemon to do
// (docker, lxd, kvm).
var privilegedGroups = []string{"root", "disk", "sudo", "docker", "wheel", "adm", "shadow", "kvm", "lxd"}

// privilegedGroup returns the name of a privileged group with that gid.
func (h *host) privilegedGroup(gid uint32) (string, bool) {
	name, ok := h.privileged[gid]
	return name, ok
}

// privilege returns the name of a privileged group the account is in.
func (h *host) privilege(u account) (string, bool) {
	if name, ok := h.privileged[u.gid]; ok {
		return name, true
	}
	if groups := h.near[u.name]; len(groups) > 0 {
		return groups[0], true
	}
	return "", false
}

// groupsOf are the groups that list an account, as far as they are known and have usable
// names, without its primary one: those of the files, and of the others those that a
// [[match]] names. For the rest the name service would have to be asked account by account.
func (h *host) groupsOf(u account) (list []jail.Group) {
	seen := map[uint32]bool{0: true, u.gid: true}
	add := func(g group) {
		if !seen[g.gid] && isGroupName(g.name) {
			seen[g.gid] = true
			list = append(list, jail.Group{Name: g.name, GID: jail.GID(g.gid)})
		}
	}
	for _, i := range h.lists[u.name] {
		add(h.groups[i])
	}
	return list
}

// isGroupName reports whether a name can stand in group(5) and in an answer.
func isGroupName(name string) bool {
	return name != "" && !strings.ContainsAny(name, ":,*?! ") && !hasControl(name) && name[0] != '-'
}

// accountIn returns a host uid or gid that lies in r.
func (h *host) accountIn(r span) (uint32, bool) {
	i, _ := slices.BinarySearchFunc(h.ids, r.base, func(id uint32, base uint64) int {
		if uint64(id) < base {
			return -1
		}
		return 1
	})
	if i < len(h.ids) && uint64(h.ids[i]) < r.end {
		return h.ids[i], true
	}
	return 0, false
}

// subordinate returns a range of /etc/subuid or /etc/subgid that overlaps r.
func (h *host) subordinate(r span) (span, bool) {
	for _, s := range h.subs {
		if s.overlaps(r) {
			return s, true
		}
	}
	return span{}, false
}

// grants reports whether file gives one of owners all of r.
func (h *host) grants(file string, r span, owners []string) bool {
	for _, s := range h.subs {
		if s.file == file && s.contains(r) && slices.Contains(owners, s.owner) {
			return true
		}
	}
	return false
}
