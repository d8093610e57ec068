package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Accounts that are not in /etc/passwd come from the name service switch
// (nsswitch.conf(5)): LDAP, SSSD, systemd's userdb. A static program cannot ask it, so
// getent(1) does. It cannot tell an account that is no more from a directory that is
// dead; nor can we. What was known stays known then: an account that is really gone
// lets nobody in, since sshd and su ask for it as well.

// Account is one that is not in /etc/passwd.
type Account struct {
	Name     string
	UID, GID uint32
	// Home and Shell are on the host.
	Home, Shell string
	// Groups are those it is in besides GID.
	Groups []uint32
}

const (
	// accountsWithin is how long the name service may take for all accounts.
	accountsWithin = 5 * time.Second
	// maxAnswer bounds what it may say.
	maxAnswer = 64 << 20
	// maxGroups bounds the groups of an account: NGROUPS_MAX.
	maxGroups = 1 << 16
)

// getents are where getent is; nobody's PATH has a say.
var getents = []string{"/usr/bin/getent", "/bin/getent", "/run/current-system/sw/bin/getent"}

// getent asks for keys of a database, or without any for all that is in it, within a time. What was said until then is
// returned also with an error.
func getent(ctx context.Context, database string, keys ...string) ([]byte, error) {
	path := getents[0]
	for _, p := range getents {
		if _, err := os.Stat(p); err == nil {
			path = p
			break
		}
	}
	args := []string{database}
	if len(keys) > 0 {
		args = append(append(args, "--"), keys...)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	out := &bounded{}
	cmd.Stdout = out
	cmd.WaitDelay = time.Second // a child of it may hold the pipe
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		err = nil // getent(1): one or more keys were not found
	}
	if ctx.Err() != nil {
		err = errors.New("the name service does not answer")
	}
	return out.text.Bytes(), err
}

// bounded takes maxAnswer bytes.
type bounded struct{ text bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > maxAnswer {
		return 0, errors.New("too long an answer")
	}
	return b.text.Write(p)
}

// missing returns those of names that are in no file, each once.
func (h *host) missing(names []string) []string {
	var list []string
	for _, n := range names {
		if _, ok := h.byName[n]; !ok {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// question is what the name service is asked.
type question struct {
	// names are accounts that no file has.
	names []string
	// groups are those of [[match]], whose members are to be found as well.
	groups []string
	// members are accounts of [[match]] that may be in no file.
	members []string
	// all asks for every account there is.
	all bool
	// before are the accounts that each criterion of a [[match]] stood for.
	before map[string][]string
}

// ask adds the accounts of a question, and members of privileged groups from elsewhere.
// before are accounts as they were known; they stay so where the name service does not
// know them now. kept are those; err is why it has not answered.
//
// Of an account that is named, the name service is asked for its groups. Of the many that
// a [[match]] stands for it is not: with a directory that is a question over the network
// for each. Whether they are nearly root is told by the members of those groups.
func (h *host) ask(q question, before []Account, within time.Duration) (kept []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	known := make(map[string]Account)
	keep := func(wanted map[string]bool) {
		for _, a := range before {
			if _, ok := known[a.Name]; !ok && wanted[a.Name] {
				known[a.Name] = a
				kept = append(kept, a.Name)
			}
		}
	}
	failed := func(e error) {
		if err == nil {
			err = e
		}
	}
	names := q.names
	wanted := make(map[string]bool, len(names))
	for _, n := range names {
		wanted[n] = true
	}
	var text []byte
	if len(names) > 0 {
		if text, err = getent(ctx, "passwd", names...); err == nil || len(text) > 0 {
			for a := range accounts(text) {
				if wanted[a.Name] {
					known[a.Name] = a
				}
			}
		}
		if len(known) > 0 {
			found := make([]string, 0, len(known))
			for n := range known {
				found = append(found, n)
			}
			slices.Sort(found)
			groups, groupsErr := getent(ctx, "initgroups", found...)
			if groupsErr != nil && err == nil {
				err = groupsErr
			}
			told := initgroups(groups, known)
			for n := range known {
				if !told[n] { // who may be nearly root is not let in unseen
					delete(known, n)
				}
			}
		}
		keep(wanted)
	}
	if h.groupsElsewhere {
		groups := append(slices.Clone(privilegedGroups), q.groups...)
		text, groupErr := getent(ctx, "group", groups...)
		if groupErr != nil {
			failed(groupErr)
			h.groupsUnsaid = true
		}
		for f := range records(text, 4) {
			if gid, ok := parseUint32(f[2]); ok && slices.Contains(groups, f[0]) {
				h.groups = append(h.groups, group{f[0], gid, strings.Split(f[3], ",")})
			}
		}
	}
	for _, n := range names {
		if a, ok := known[n]; ok {
			h.users = append(h.users, a.account())
			h.elsewhere = append(h.elsewhere, a)
			h.ids = append(h.ids, a.UID, a.GID)
		}
	}
	h.index()
	h.listed = make(map[string]Account)
	h.askMatched(ctx, q, failed)
	had := make(map[string]bool)
	for _, some := range q.before {
		for _, n := range some {
			had[n] = true
		}
	}
	before = slices.DeleteFunc(slices.Clone(before), func(a Account) bool { return !had[a.Name] })
	if known = h.listed; err != nil || !anyOf(before, known) {
		// Nobody is known any more, or not everybody was asked for: what was, stays. Where
		// the others are known, an account that is not has been removed.
		n := len(kept)
		keep(h.wanted(q))
		slices.Sort(kept[n:])
	}
	if h.groupsUnsaid { // and with it who is nearly root
		for n := range h.listed {
			if !had[n] {
				delete(h.listed, n)
			}
		}
	}
	for _, name := range keysOf(h.listed) {
		a := h.listed[name]
		h.users = append(h.users, a.account())
		h.ids = append(h.ids, a.UID, a.GID)
	}
	slices.Sort(h.ids)
	h.index()
	return kept, err
}

func anyOf(before []Account, known map[string]Account) bool {
	return slices.ContainsFunc(before, func(a Account) bool { _, ok := known[a.Name]; return ok })
}

// wanted are the accounts of [[match]] whose names are known and that are in no file.
func (h *host) wanted(q question) map[string]bool {
	wanted := make(map[string]bool)
	for _, n := range q.members {
		wanted[n] = true
	}
	for _, g := range h.groups {
		if slices.Contains(q.groups, g.name) {
			for _, n := range g.members {
				if n != "" && n[0] != '-' && !hasControl(n) {
					wanted[n] = true
				}
			}
		}
	}
	for n := range wanted {
		if _, ok := h.byName[n]; ok {
			delete(wanted, n)
		}
	}
	return wanted
}

// askMatched asks for the accounts that a [[match]] may stand for.
func (h *host) askMatched(ctx context.Context, q question, failed func(error)) {
	add := func(text []byte) {
		for a := range accounts(text) {
			if _, ok := h.byName[a.Name]; ok {
				continue
			}
			if _, ok := h.listed[a.Name]; !ok {
				h.listed[a.Name] = a
			}
		}
	}
	if q.all {
		text, err := getent(ctx, "passwd")
		if err != nil {
			failed(err)
		}
		add(text)
		h.enumerated = len(h.listed)
	}
	var names []string
	for n := range h.wanted(q) {
		if _, ok := h.listed[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for some := range slices.Chunk(names, 1000) {
		text, err := getent(ctx, "passwd", some...)
		add(text)
		if err != nil {
			failed(err)
			return
		}
	}
}

// use notes that an account that is in no file is one of the registry's.
func (h *host) use(a Account) { h.elsewhere = append(h.elsewhere, a) }

// unlisted returns a source of accounts that lists none, as sssd(8) and winbindd(8) do
// unless they are told to.
func (h *host) unlisted() (source string, silent bool) {
	for _, source := range h.passwdElsewhere {
		if source == "sss" || source == "winbind" {
			return source, h.enumerated == 0
		}
	}
	return "", false
}

func (a Account) account() account { return account{a.Name, a.UID, a.GID, a.Home} }

// accounts yields what getent says of accounts.
func accounts(text []byte) func(yield func(Account) bool) {
	return func(yield func(Account) bool) {
		for f := range records(text, 7) {
			uid, ok1 := parseUint32(f[2])
			gid, ok2 := parseUint32(f[3])
			if ok1 && ok2 && !yield(Account{Name: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6]}) {
				return
			}
		}
	}
}

// initgroups reads what getent says of accounts' groups, "NAME GID GID...", and
// returns of whom it says something.
func initgroups(text []byte, known map[string]Account) map[string]bool {
	told := make(map[string]bool)
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) == 0 || len(f) > maxGroups {
			continue
		}
		a, ok := known[f[0]]
		if !ok {
			continue
		}
		for _, g := range f[1:] {
			if gid, err := strconv.ParseUint(g, 10, 32); err == nil {
				a.Groups = append(a.Groups, uint32(gid))
			}
		}
		known[f[0]], told[f[0]] = a, true
	}
	return told
}

// groupsElsewhere reports whether nsswitch.conf(5) names a source of groups besides
// the files.
func groupsElsewhere(text string) bool { return len(sourcesElsewhere(text, "group")) > 0 }

// sourcesElsewhere are the sources that nsswitch.conf(5) names for a database besides the
// files.
func sourcesElsewhere(text, database string) []string {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), database+":")
		if !ok {
			continue
		}
		var sources []string
		for _, f := range strings.Fields(rest) {
			if f != "files" && f != "compat" && !strings.ContainsAny(f, "[]=") {
				sources = append(sources, f)
			}
		}
		return sources
	}
	return nil
}

// Members asks the name service switch for the accounts of a group: those that it lists, and
// those whose primary group it is, where the service lists accounts at all. ghosts are members
// that are no accounts. Unlike a registry that was in force before, there is nothing to fall
// back on: a name service that is silent is an error.
func Members(name string) (found []Account, ghosts []string, err error) {
	switch {
	case !isGroupName(name):
		return nil, nil, fmt.Errorf("%s is no name of a group", shown(name))
	case slices.Contains(privilegedGroups, name):
		return nil, nil, fmt.Errorf("the members of %s are nearly root, whom no jail can hold", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), membersWithin)
	defer cancel()
	text, err := getent(ctx, "group", name)
	if err != nil {
		return nil, nil, fmt.Errorf("ask for group %s: %w", name, err)
	}
	gids, wanted := map[uint32]bool{}, map[string]bool{}
	for f := range records(text, 4) {
		gid, ok := parseUint32(f[2])
		if !ok || f[0] != name {
			continue
		}
		gids[gid] = true
		for _, n := range strings.Split(f[3], ",") {
			if n != "" && n[0] != '-' && !hasControl(n) {
				wanted[n] = true
			}
		}
	}
	if len(gids) == 0 {
		return nil, nil, fmt.Errorf("%s is no group of the host", name)
	}
	known := make(map[string]Account)
	if text, err = getent(ctx, "passwd"); err != nil {
		return nil, nil, fmt.Errorf("ask for accounts: %w", err)
	}
	for a := range accounts(text) {
		if _, there := known[a.Name]; !there && (gids[a.GID] || wanted[a.Name]) {
			known[a.Name] = a
		}
	}
	names := slices.DeleteFunc(keysOf(wanted), func(n string) bool { _, ok := known[n]; return ok })
	for some := range slices.Chunk(names, 1000) {
		if text, err = getent(ctx, "passwd", some...); err != nil {
			return nil, nil, fmt.Errorf("ask for accounts: %w", err)
		}
		for a := range accounts(text) {
			if wanted[a.Name] {
				known[a.Name] = a
			}
		}
	}
	for _, n := range names {
		if _, ok := known[n]; !ok {
			ghosts = append(ghosts, n)
		}
	}
	for _, n := range keysOf(known) {
		found = append(found, known[n])
	}
	return found, ghosts, nil
}

// membersWithin is how long that may take: somebody waits for it, and nobody else does.
const membersWithin = 30 * time.Second
