package provision

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"jail/config"
	"jail/internal/authkeys"
	"jail/internal/event"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/login"
)

// Remove takes a login away: out of the registry, its sessions, its account of the host. purge takes
// the user inside as well, with his home. No root directory is ever removed.
func Remove(o Options, name string, purge, dry bool) error {
	if !jail.ValidName(name) {
		return fmt.Errorf("%.40q is no login name", name)
	}
	j, err := begin(&o)
	if err != nil {
		return err
	}
	defer j.close()
	p, last, err := o.planRemoval(name, purge)
	if err != nil {
		return err
	}
	l := &p.Logins[0]
	if dry {
		for _, s := range p.removal(last, purge) {
			fmt.Fprintln(o.Stdout, s)
		}
		return nil
	}
	if err := j.write(p); err != nil {
		return err
	}
	if err := o.takeAway(j, p); err != nil {
		return err
	}
	fmt.Fprintf(o.Stdout, "%s is gone\n", name)
	if last && l.Rootfs != "" {
		fmt.Fprintf(o.Stdout, "jail %s had no other login and is out of the registry; its root directory %s stays\n", l.Jail, l.Rootfs)
	} else if !purge && l.Rootfs != "" {
		fmt.Fprintf(o.Stdout, "user %s inside %s stays, with his files\n", event.Printable(l.Inside.Name), l.Rootfs)
	}
	if s := stays(name); s != "" {
		fmt.Fprintln(o.Stdout, s)
	}
	return nil
}

// stays says what becomes of an account that was there before it had a jail, "" for one that is gone.
// It is let in nowhere as it is, and nobody is to find that out by himself.
func stays(name string) string {
	f, err := account(name)
	if err != nil || f == nil || path.Base(f[6]) != "jail-enter" {
		return ""
	}
	return fmt.Sprintf("account %[1]s of the host stays: it has a home of its own, %[2]s, so it was there before; nobody gets in by it now. "+
		"usermod -s /bin/bash %[1]s and gpasswd -d %[1]s %[3]s give it back to the host, userdel %[1]s removes it", name, f[5], Group)
}

// removal says in a line each what Remove does.
func (p *Plan) removal(last, purge bool) []string {
	l := &p.Logins[0]
	var s []string
	if l.File != "" {
		what := "login " + l.Login + " of jail " + l.Jail + " is taken out"
		if last {
			what += ", and the jail with it, which has no other"
		}
		s = append(s, l.File+": "+what, "jail reload, and its sessions end")
	}
	if l.Account {
		s = append(s, fmt.Sprintf("account %s of the host, uid %d, is removed", l.Login, l.HostUID))
	} else if l.Adopted {
		s = append(s, fmt.Sprintf("account %s of the host, uid %d, stays: it has a home of its own", l.Login, l.HostUID))
	}
	if purge {
		s = append(s, fmt.Sprintf("user %s inside %s, uid %d, is removed", event.Printable(l.Inside.Name), l.Rootfs, l.Inside.UID))
		if l.Home {
			s = append(s, fmt.Sprintf("home %s inside is removed, with all that is in it", event.Printable(l.Inside.Home)))
		}
	}
	return s
}

// planRemoval says what there is of a login. last is that its jail has no other.
func (o *Options) planRemoval(name string, purge bool) (p *Plan, last bool, err error) {
	l := Login{Login: name}
	fields, err := account(name)
	if err != nil {
		return nil, false, err
	}
	if fields != nil && path.Base(fields[6]) == "jail-enter" {
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil || !jail.ValidID(uint32(uid)) {
			return nil, false, fmt.Errorf("account %s has the uid %.20q", name, fields[2])
		}
		// One with a home of its own is somebody's whom jail add has found.
		l.Account, l.HostUID, l.Shell = path.Clean(fields[5]) == jail.EmptyHome, uint32(uid), fields[6]
		l.Adopted = !l.Account
	}
	reg, err := inforce.Load(o.ConfigPath, config.Options{RuntimeDir: o.RuntimeDir, SkipPlaces: true})
	if err != nil {
		if _, gone := os.Stat(o.ConfigPath); !errors.Is(gone, os.ErrNotExist) {
			return nil, false, fmt.Errorf("the registry has a fault (jail check): %w", err)
		}
	}
	spec, in := reg.Login(name)
	switch {
	case in != nil && reg.Blocks[spec.Name].Match != "":
		return nil, false, fmt.Errorf("%s: match %s gives login %s its jail, so it stays: %s, then jail reload; or jail disable %s --login", reg.Files[spec.Name], reg.Blocks[spec.Name].Match, name, unmatch(reg.Blocks[spec.Name].Match, name), name)
	case in != nil:
		l.Jail, l.Rootfs, l.File, l.Mounts, l.HostUID = spec.Name, spec.Source.Path, reg.Files[spec.Name], spec.Mounts, uint32(in.HostUID)
		if spec.Userns.Enabled {
			l.Base = spec.Userns.Base
		}
		l.Inside.UID = uint32(in.UID)
		last = len(spec.Logins) == 1
		l.Sole = !slices.ContainsFunc(spec.Logins, func(o jail.Login) bool { return o.Name != name && o.UID == in.UID })
	case len(reg.LoginFaults(name)) > 0:
		for i := range reg.Faults {
			for _, f := range reg.Faults[i].Logins {
				if f.Name == name {
					l.Jail, l.File = reg.Faults[i].Jail, reg.Faults[i].File
				}
			}
		}
		if purge {
			return nil, false, fmt.Errorf("login %s is out of service by a fault, so nobody can say who he is inside: %w", name, reg.LoginFaults(name)[0])
		}
	case fields == nil:
		return nil, false, fmt.Errorf("there is no login %s: neither the registry nor the host has it", name)
	case l.Adopted:
		return nil, false, fmt.Errorf("account %[1]s is in no jail, and has a home of its own, %.60[2]q, so it stays; userdel %[1]s removes it", name, fields[5])
	case !l.Account:
		return nil, false, fmt.Errorf("%s is an account of the host with the shell %.60q, and in no jail: it is none of jail's", name, fields[6])
	case purge:
		return nil, false, fmt.Errorf("login %s is in no jail, so there is nobody inside to purge; jail rm %s removes its account", name, name)
	}
	if fields != nil && !l.Account && !l.Adopted {
		fmt.Fprintf(o.Stderr, "jail-init: account %s has the shell %.60q, not jail-enter: it stays\n", name, fields[6])
	}
	p = &Plan{Verb: "rm " + name, Logins: []Login{l}}
	if in == nil || !purge {
		if in != nil {
			p.Logins[0].Inside.Name = name
			if u, err := o.inside(spec, in); err == nil {
				p.Logins[0].Inside = *u
			}
		}
		return p, last, nil
	}
	if spec.Source.Kind == jail.Based {
		return nil, false, fmt.Errorf("jail %s is based on what others have, too: the user's files are in %s; remove them there", spec.Name, path.Join(spec.Source.State, "home"))
	}
	if !l.Sole {
		return nil, false, fmt.Errorf("another login of jail %s is the same user inside, uid %d: --purge would take his files", spec.Name, in.UID)
	}
	u, err := o.inside(spec, in)
	if err != nil {
		return nil, false, err
	}
	r, err := openJail(spec)
	if err != nil {
		return nil, false, err
	}
	defer r.close()
	t, err := r.readTree()
	if err != nil {
		return nil, false, err
	}
	pl := &p.Logins[0]
	pl.Inside, pl.User = *u, true
	owner, there, err := r.homeOf(u.Home)
	if err != nil {
		return nil, false, err
	}
	// A home that others have too, or that is no home, stays.
	pl.Home = there && owner == u.UID && u.Home != "/" && sharers(t.passwd, u.Home) <= 1
	return p, last, nil
}

// unmatch says how an account leaves what a [[match]] says of accounts.
func unmatch(match, name string) string {
	if group, ok := strings.CutPrefix(match, "group = "); ok {
		return fmt.Sprintf("gpasswd -d %s %s (or in the directory, if it is there) or userdel %s", name, strings.Trim(group, `"`), name)
	}
	return fmt.Sprintf("userdel %s (or in the directory, if it is there), or change the match", name)
}

// sharers counts the users of passwd(5) text that have a home directory.
func sharers(text []byte, home string) int {
	n := 0
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) == 7 && path.Clean(f[5]) == path.Clean(home) {
			n++
		}
	}
	return n
}

// errHosts is why nothing is changed inside a jail that shows the host's own files.
var errHosts = errors.New("the jail has the host's own files and no root directory: its users and keys are the host's, and are changed there")

// inside says who a login is inside, as PID 1 and jail-keys do.
func (o *Options) inside(spec *jail.Spec, in *jail.Login) (*User, error) {
	if spec.Source.Kind == jail.Host {
		return nil, errHosts
	}
	r, err := openJail(spec)
	if err != nil {
		return nil, err
	}
	defer r.close()
	text, _, err := r.ReadFile("/etc/passwd", login.MaxDatabase)
	if err != nil {
		return nil, err
	}
	id := in.Identity()
	e, err := login.User(&id, text)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(e.Home) {
		return nil, login.ErrHome
	}
	return &User{e.Name, e.UID, e.GID, e.Home, e.Shell}, nil
}

// Keys are what "jail key LOGIN" does with the login's authorized_keys inside.
type Keys struct {
	o    Options
	root *root
	user User
}

// OpenKeys finds the keys of a login of the registry.
func OpenKeys(o Options, name string) (*Keys, error) {
	o.complete()
	reg, err := inforce.Load(o.ConfigPath, config.Options{RuntimeDir: o.RuntimeDir, SkipPlaces: true})
	if err != nil {
		return nil, err
	}
	spec, in := reg.Login(name)
	if in == nil {
		if errs := reg.LoginFaults(name); len(errs) > 0 {
			return nil, fmt.Errorf("login %s is out of service: %w", name, errs[0])
		}
		return nil, fmt.Errorf("the registry has no login %.40q", name)
	}
	u, err := o.inside(spec, in)
	if err != nil {
		return nil, err
	}
	r, err := openJail(spec)
	if err != nil {
		return nil, err
	}
	if _, there, err := r.homeOf(u.Home); err == nil && !there && spec.Source.Kind == jail.Based {
		r.close()
		return nil, fmt.Errorf("%s has no home yet: the jail makes it when it starts, as by jail exec %s true", u.Name, spec.Name)
	}
	return &Keys{o, r, *u}, nil
}

// Close gives up the root directory.
func (k *Keys) Close() { k.root.close() }

// maxKeys bounds what is read of keys to be added.
const maxKeys = authkeys.MaxFile

// ReadKeys reads lines of authorized_keys(5), from a file or, for "-", from stdin. Each has to be one
// that counts.
func ReadKeys(file string, stdin io.Reader) ([]string, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	text, err := io.ReadAll(io.LimitReader(stdin, maxKeys+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeys {
		return nil, fmt.Errorf("%s: more than %d KiB of keys", file, maxKeys>>10)
	}
	var lines []string
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if strings.Contains(line, "PRIVATE KEY") {
			return nil, fmt.Errorf("%s: this is the private key; what is wanted is the public one, %s.pub", file, file)
		}
		if _, err := authkeys.Parse([]byte(line)); errors.Is(err, authkeys.ErrBlank) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("%s:%d: no line of authorized_keys: %w", file, n, err)
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s: no key in it", file)
	}
	return lines, nil
}

// Add adds lines; a key that is there is not added again.
func (k *Keys) Add(lines []string) error {
	rep, err := k.root.asOwner(&k.user, opAdd, lines)
	if err != nil {
		return err
	}
	fmt.Fprintf(k.o.Stdout, "%d added, %d there already\n", rep.Count, len(lines)-rep.Count)
	return nil
}

// List prints the keys, one a line: its number, fingerprint, type, options and comment.
func (k *Keys) List() error {
	text, err := k.text()
	if err != nil {
		return err
	}
	authkeys.Lines(text, func(n int, key *authkeys.Key, err error) bool {
		switch {
		case errors.Is(err, authkeys.ErrBlank):
		case err != nil:
			fmt.Fprintf(k.o.Stdout, "%d\tcounts for nothing: %v\n", n, err)
		default:
			options := make([]string, 0, len(key.Options))
			for _, o := range key.Options {
				options = append(options, o.Name)
			}
			fmt.Fprintf(k.o.Stdout, "%d\t%s\t%s\t%s\t%s\n", n, fingerprint(key.Blob), key.Type, dash(strings.Join(options, ",")), dash(strings.ReplaceAll(event.Printable(key.Comment), "\t", " ")))
		}
		return true
	})
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// fingerprint is ssh-keygen -l's.
func fingerprint(blob []byte) string {
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

func (k *Keys) text() ([]byte, error) {
	rep, err := k.root.asOwner(&k.user, opKeys, nil)
	if err != nil {
		return nil, err
	}
	return rep.Text, nil
}

// Remove removes the lines that have a key of that fingerprint, or the one of that number.
func (k *Keys) Remove(which string) error {
	text, err := k.text()
	if err != nil {
		return err
	}
	lines := keyLines(text, which)
	if len(lines) == 0 {
		return fmt.Errorf("%s has no key %.80q; jail key LOGIN ls shows them", k.user.Name, which)
	}
	rep, err := k.root.asOwner(&k.user, opDrop, lines)
	if err != nil {
		return err
	}
	if rep.Count == 0 {
		return errors.New("the file has changed meanwhile; look again")
	}
	fmt.Fprintf(k.o.Stdout, "%d removed\n", rep.Count)
	return nil
}

// keyLines are the lines that which means.
func keyLines(text []byte, which string) []string {
	number, _ := strconv.Atoi(which)
	var lines []string
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		key, err := authkeys.Parse([]byte(line))
		if errors.Is(err, authkeys.ErrBlank) {
			continue
		}
		if n == number || err == nil && fingerprint(key.Blob) == which {
			lines = append(lines, line)
		}
	}
	return lines
}

// Edit has an editor change a file of the registry, and takes the change only if
// the registry can be used with it: a copy is edited, and judged among copies of the others.
// name is a jail, a file of the registry, or "" for the main file. ask says what to do about
// faults: edit again, or give up.
func Edit(o Options, name string, ask func(question string) (again bool)) error {
	j, err := begin(&o)
	if err != nil {
		return err
	}
	defer j.close()
	file, err := o.editable(name)
	if err != nil {
		return err
	}
	was, err := registryFile(file)
	if err != nil {
		return err
	}
	text := was
	if text == "" {
		text = emptyRegistry
	}
	dir, err := os.MkdirTemp(o.StateDir, proofPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	draft := filepath.Join(dir, filepath.Base(file))
	if err := os.WriteFile(draft, []byte(text), 0o600); err != nil {
		return err
	}
	for {
		if err := o.editor(draft); err != nil {
			return err
		}
		next, err := os.ReadFile(draft)
		if err != nil {
			return err
		}
		if string(next) == was {
			fmt.Fprintf(o.Stdout, "%s is as it was\n", file)
			return nil
		}
		faults, err := o.try(dir, file, string(next))
		if err != nil {
			return err
		}
		if len(faults) == 0 {
			if now, err := registryFile(file); err != nil || now != was {
				return errors.Join(err, fmt.Errorf("%s has changed meanwhile; nothing is written", file))
			}
			if err := writeRegistry(file, string(next)); err != nil {
				return err
			}
			break
		}
		for _, f := range faults {
			fmt.Fprintln(o.Stderr, "jail-init: "+f)
		}
		if !ask("Edit it again? (Otherwise nothing is changed.) [Y/n] ") {
			return errors.New("nothing is changed")
		}
	}
	running, err := o.Reload(o.Stderr)
	if err == nil && !running {
		fmt.Fprintln(o.Stdout, file+" is written; jail-init serve does not run, and reads it when it starts")
		return nil
	}
	if err == nil {
		fmt.Fprintln(o.Stdout, file+" is in force")
	}
	return err
}

// editable is the registry file that a name means.
func (o *Options) editable(name string) (string, error) {
	switch {
	case name == "" || name == o.ConfigPath || name == filepath.Base(o.ConfigPath):
		return o.ConfigPath, nil
	case strings.HasSuffix(name, ".toml"):
		if !filepath.IsAbs(name) {
			name = filepath.Join(o.dropins(), filepath.Base(name))
		}
		if filepath.Dir(name) != o.dropins() || strings.HasPrefix(filepath.Base(name), ".") {
			return "", fmt.Errorf("%s is no file of the registry: these are %s and %s/*.toml", name, o.ConfigPath, o.dropins())
		}
		return name, nil
	case !jail.ValidName(name):
		return "", fmt.Errorf("%.60q is neither a jail nor a file of the registry", name)
	}
	reg, _ := config.Load(o.ConfigPath, config.Options{RuntimeDir: o.RuntimeDir, SkipPlaces: true})
	if f := reg.Files[name]; f != "" {
		return f, nil
	}
	for i := range reg.Faults {
		if f := &reg.Faults[i]; f.Jail == name && f.File != "" {
			return f.File, nil
		}
	}
	return "", fmt.Errorf("the registry has no jail %s; for a new file, name it: %s.toml", name, name)
}

// editors are tried in this order if the administrator has named none.
var editors = []string{"editor", "vi", "nano"}

func (o *Options) editor(file string) error {
	var args []string
	for _, v := range []string{"VISUAL", "EDITOR"} {
		if args = strings.Fields(os.Getenv(v)); len(args) > 0 {
			break
		}
	}
	if len(args) == 0 {
		for _, e := range editors {
			if p, err := lookUp(e); err == nil {
				args = []string{p}
				break
			}
		}
	}
	if len(args) == 0 {
		return errors.New("there is no editor: install one, or name it in EDITOR")
	}
	cmd := exec.Command(args[0], append(args[1:], file)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, o.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w; nothing is changed", args[0], err)
	}
	return nil
}

// try judges the registry with another text of one file, among copies in dir, and returns the
// faults that it would have by that: those the registry has anyway do not count.
func (o *Options) try(dir, file, text string) ([]string, error) {
	before, err := config.Load(o.ConfigPath, config.Options{RuntimeDir: o.RuntimeDir})
	// Lines move when a file is edited.
	plain := func(s string) string { return lineNumber().ReplaceAllString(s, ":") }
	old := make(map[string]int)
	for _, e := range faultsOf(before, err) {
		old[plain(e.Error())]++
	}
	copied := filepath.Join(dir, "registry")
	if err := os.RemoveAll(copied); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(copied, "jail.d"), 0o755); err != nil {
		return nil, err
	}
	files, _ := filepath.Glob(filepath.Join(o.dropins(), "*.toml"))
	files = append(files, o.ConfigPath)
	place := func(f string) string {
		if f == o.ConfigPath {
			return filepath.Join(copied, filepath.Base(f))
		}
		return filepath.Join(copied, "jail.d", filepath.Base(f))
	}
	for _, f := range files {
		t, err := registryFile(f)
		if err != nil {
			return nil, err
		}
		if t == "" {
			t = emptyRegistry
		}
		if err := os.WriteFile(place(f), []byte(t), 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(place(file), []byte(text), 0o644); err != nil {
		return nil, err
	}
	reg, err := config.Load(place(o.ConfigPath), config.Options{RuntimeDir: o.RuntimeDir})
	var faults []string
	for _, e := range faultsOf(reg, err) {
		s := strings.NewReplacer(place(o.ConfigPath), o.ConfigPath, filepath.Join(copied, "jail.d"), o.dropins()).Replace(e.Error())
		if old[plain(s)] > 0 {
			old[plain(s)]--
			continue
		}
		faults = append(faults, s)
	}
	return faults, nil
}

// lineNumber is where in a file a fault is.
var lineNumber = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`:[0-9]+:`) })

func faultsOf(reg *config.Registry, err error) config.Errors {
	var all config.Errors
	if errors.As(err, &all) {
		return all
	}
	return reg.Errors()
}
