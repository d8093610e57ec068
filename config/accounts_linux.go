package config

import (
	"bytes"
	"context"
	"errors"
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

// getent asks for keys of a database, within a time. What was said until then is
// returned also with an error.
func getent(ctx context.Context, database string, keys ...string) ([]byte, error) {
	path := getents[0]
	for _, p := range getents {
		if _, err := os.Stat(p); err == nil {
			path = p
			break
		}
	}
	cmd := exec.CommandContext(ctx, path, append([]string{database, "--"}, keys...)...)
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

// ask adds the accounts of names, which no file has, and members of privileged groups
// from elsewhere. before are accounts as they were known; they stay so where the name
// service does not know them now. kept are those; err is why it has not answered.
func (h *host) ask(names []string, before []Account, within time.Duration) (kept []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	known := make(map[string]Account)
	wanted := make(map[string]bool, len(names))
	for _, n := range names {
		wanted[n] = true
	}
	var text []byte
	if len(names) > 0 {
		if text, err = getent(ctx, "passwd", names...); err == nil || len(text) > 0 {
			for f := range records(text, 7) {
				uid, ok1 := parseUint32(f[2])
				gid, ok2 := parseUint32(f[3])
				if ok1 && ok2 && wanted[f[0]] {
					known[f[0]] = Account{Name: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6]}
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
		for _, a := range before {
			if _, ok := known[a.Name]; !ok && wanted[a.Name] {
				known[a.Name] = a
				kept = append(kept, a.Name)
			}
		}
	}
	if h.groupsElsewhere {
		text, groupErr := getent(ctx, "group", privilegedGroups...)
		if groupErr != nil && err == nil {
			err = groupErr
		}
		for f := range records(text, 4) {
			if gid, ok := parseUint32(f[2]); ok && slices.Contains(privilegedGroups, f[0]) {
				h.groups = append(h.groups, group{f[0], gid, strings.Split(f[3], ",")})
			}
		}
	}
	for _, n := range names {
		if a, ok := known[n]; ok {
			h.users = append(h.users, account{a.Name, a.UID, a.GID})
			h.elsewhere = append(h.elsewhere, a)
			h.ids = append(h.ids, a.UID, a.GID)
		}
	}
	slices.Sort(h.ids)
	h.index()
	return kept, err
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
func groupsElsewhere(text string) bool {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "group:")
		if !ok {
			continue
		}
		for _, f := range strings.Fields(rest) {
			if f != "files" && f != "compat" && !strings.ContainsAny(f, "[]=") {
				return true
			}
		}
	}
	return false
}
