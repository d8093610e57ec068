package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"jail/config"
	"jail/internal/count"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/rootpath"
)

// Options are the host, and the parts of this program that others have.
type Options struct {
	ConfigPath, RuntimeDir string
	// StateDir is where an unfinished plan is; "" is inforce.StateDir.
	StateDir string
	// Enter is where jail-enter is installed.
	Enter          string
	Stdout, Stderr io.Writer
	// Reload has serve read the registry; running is false where there is no serve. Stop ends a jail, and
	// is nil if it does not run.
	Reload func(out io.Writer) (running bool, err error)
	Stop   func(jail string) error
}

func (o *Options) complete() {
	if o.StateDir == "" {
		o.StateDir = inforce.StateDir
	}
}

func (o *Options) dropins() string { return filepath.Join(filepath.Dir(o.ConfigPath), "jail.d") }

// ErrInterrupted is what a run ends with that was told to end: nothing of it remains.
var ErrInterrupted = errors.New("interrupted; nothing of it remains")

// errNoServe is why nothing can be proven.
var errNoServe = errors.New("jail-init serve does not run (systemctl start jail): without it nobody can log in")

// begin takes the lock, and takes away what an earlier run has left.
func begin(o *Options) (*journal, error) {
	o.complete()
	j, err := openJournal(o.StateDir)
	if err != nil {
		return nil, err
	}
	// Nobody else writes these now.
	for _, dir := range []string{o.StateDir, filepath.Dir(o.ConfigPath), o.dropins(), "/etc", filepath.Dir(sshdConfig), filepath.Dir(sshdDropin)} {
		if err := rootpath.TidyDir(dir); err != nil {
			j.close()
			return nil, fmt.Errorf("remove what an earlier run was writing: %w", err)
		}
	}
	// What a proof has left is worth nothing any more.
	proofs, _ := filepath.Glob(filepath.Join(o.StateDir, proofPrefix+"*"))
	for _, d := range proofs {
		os.RemoveAll(d)
	}
	p, err := j.read()
	if err == nil && p != nil {
		fmt.Fprintf(o.Stderr, "jail-init: an earlier run, jail %s, has not ended; what it was at is taken away\n", p.Verb)
		err = o.takeAway(j, p)
	}
	if err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

// takeAway undoes a plan and forgets it when nothing of it is left.
func (o *Options) takeAway(j *journal, p *Plan) error {
	if err := o.undo(p); err != nil {
		return fmt.Errorf("not everything could be taken away; the next run tries again: %w", err)
	}
	return j.done()
}

// Add makes logins, all of them or none, and returns how many. dry only says what it would do.
// Accounts of the host that are logins of the registry already are passed over.
func Add(ctx context.Context, o Options, requests []Request, dry bool) (made int, err error) {
	j, err := begin(&o)
	if err != nil {
		return 0, err
	}
	defer j.close()
	w, done, err := look(&o)
	if err != nil {
		return 0, err
	}
	requests, there := w.passOver(requests)
	if len(there) > 0 {
		fmt.Fprintf(o.Stdout, "%s: %s\n", count.Of(len(there), "of them has a jail already, and stays as it is", "of them have a jail already, and stay as they are"), some(there))
		if len(requests) == 0 {
			done()
			return 0, nil
		}
	}
	p, err := makePlan(w, requests)
	done()
	if err != nil {
		return 0, err
	}
	if dry {
		for _, s := range p.Steps() {
			fmt.Fprintln(o.Stdout, s)
		}
		return len(p.Logins), nil
	}
	if err := j.write(p); err != nil {
		return 0, err
	}
	err = o.make(ctx, j, p, requests)
	if err == nil {
		return len(p.Logins), j.done()
	}
	if undone := o.takeAway(j, p); undone != nil {
		return 0, errors.Join(err, undone)
	}
	if errors.Is(err, context.Canceled) {
		return 0, ErrInterrupted
	}
	return 0, fmt.Errorf("%w; nothing of it remains", err)
}

// make does what the plan says, in order.
func (o *Options) make(ctx context.Context, j *journal, p *Plan, requests []Request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.byShadow() {
		l := &p.Logins[0]
		if err := addAccount(l); err != nil {
			return err
		}
		if pw := requests[0].Password; pw != "" {
			if _, err := command(l.Login+":"+pw+"\n", "chpasswd"); err != nil {
				return err
			}
		}
	} else if err := addAccounts(p.Logins); err != nil {
		return err
	}
	if err := o.register(p); err != nil {
		return err
	}
	// Judged before anything below a root directory is touched.
	if err := o.judge(p); err != nil {
		return err
	}
	if err := j.write(p); err != nil {
		return err
	}
	for _, logins := range byJail(p) {
		if err := o.furnish(ctx, logins); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	running, err := o.Reload(o.Stderr)
	switch {
	case err != nil:
		return err
	case !running:
		return errNoServe
	}
	return o.prove(ctx, j, p)
}

// byShadow says that the account is made, and removed, by useradd(8) and userdel(8).
func (p *Plan) byShadow() bool { return len(p.Logins) == 1 && !p.Logins[0].Adopted }

// byJail are the logins of each jail, in order.
func byJail(p *Plan) [][]*Login {
	var all [][]*Login
	at := make(map[string]int)
	for i := range p.Logins {
		l := &p.Logins[i]
		n, ok := at[l.Jail]
		if !ok {
			n = len(all)
			at[l.Jail] = n
			all = append(all, nil)
		}
		all[n] = append(all[n], l)
	}
	return all
}

// furnish makes the users inside one jail, their homes and keys.
func (o *Options) furnish(ctx context.Context, logins []*Login) error {
	r, err := openRoot(logins[0].Rootfs, logins[0].Mounts)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.addUsers(logins); err != nil {
		return err
	}
	err = each(len(logins), func(i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := logins[i]
		var err error
		switch {
		case l.Home:
			if err = r.makeHome(&l.Inside); err == nil {
				_, err = r.asOwner(&l.Inside, opFill, l.Keys)
			}
		case len(l.Keys) > 0:
			_, err = r.asOwner(&l.Inside, opAdd, l.Keys)
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.sync()
}

// registryFile reads a file of the registry, "" if it is not there.
func registryFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return string(text), err
}

// writeRegistry puts a whole new file in the place of one of the registry's. One that is
// being written is none of the registry's: its name begins with a dot.
func writeRegistry(path, text string) error {
	mode, uid, gid := uint32(0o644), -1, -1
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil {
		mode, uid, gid = st.Mode&0o777, int(st.Uid), int(st.Gid)
	}
	if err := rootpath.MakePublic(filepath.Dir(path)); err != nil {
		return err
	}
	dir, err := rootpath.OpenDir(filepath.Dir(path), unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := rootpath.WriteAt(dir, filepath.Base(path), []byte(text), mode, uid, gid); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

const emptyRegistry = "version = 1\n"

// register writes the plan's logins into the registry.
func (o *Options) register(p *Plan) error {
	if p.Main {
		if err := writeRegistry(o.ConfigPath, emptyRegistry); err != nil {
			return err
		}
	}
	for _, logins := range byJail(p) {
		first := logins[0]
		entries := make([]entry, 0, len(logins))
		uids := make(map[string]uint32)
		for _, l := range logins {
			entries = append(entries, entry{l.Login, l.Inside.UID})
			uids[l.Login] = l.HostUID
		}
		text, err := registryFile(first.File)
		if err != nil {
			return err
		}
		switch {
		case !first.NewJail:
			if text, err = addTo(text, first.Jail, entries, uids); err != nil {
				return fmt.Errorf("jail %s in %s: %w", first.Jail, first.File, err)
			}
		case text != "":
			return fmt.Errorf("%s is there, and describes no jail %s; move it away", first.File, first.Jail)
		default:
			text = newFile(first.Jail, first.Rootfs, first.Template, entries)
		}
		if err := writeRegistry(first.File, text); err != nil {
			return err
		}
	}
	return nil
}

// judge reads the registry with the plan's logins in it, as serve will, and takes from it what only it knows.
func (o *Options) judge(p *Plan) error {
	reg, err := inforce.Load(o.ConfigPath, config.Options{RuntimeDir: o.RuntimeDir})
	if err != nil {
		return err
	}
	for i := range p.Logins {
		l := &p.Logins[i]
		spec, in := reg.Login(l.Login)
		switch {
		case in == nil:
			if errs := reg.LoginFaults(l.Login); len(errs) > 0 {
				return errs[0]
			}
			return fmt.Errorf("%s: the registry does not have login %s, although it was written there", l.File, l.Login)
		case spec.Name != l.Jail || spec.Source.Path != l.Rootfs || uint32(in.UID) != l.Inside.UID || uint32(in.HostUID) != l.HostUID:
			return fmt.Errorf("%s: the registry sends login %s to jail %s as uid %d, not to %s as %d", l.File, l.Login, spec.Name, in.UID, l.Jail, l.Inside.UID)
		}
		l.Mounts = spec.Mounts
		if spec.Userns.Enabled {
			l.Base = spec.Userns.Base
		}
	}
	return nil
}

// undo takes away what a plan says, in the order in which nobody gets in who should not:
// the registry first, and the user inside, to whom files may belong, last. It goes on where it
// can, and may be done twice.
func (o *Options) undo(p *Plan) error {
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	jails := byJail(p)
	retired := make(map[string]bool)
	for _, logins := range jails {
		gone, err := o.unregister(logins)
		retired[logins[0].Jail] = gone
		add(err)
	}
	if p.Main {
		add(o.dropMain())
	}
	if err := errors.Join(errs...); err != nil {
		return err // who can still log in keeps what he has
	}
	// Whoever has the name next is not disabled.
	for _, logins := range jails {
		for _, l := range logins {
			_, err := inforce.Enable(o.ConfigPath, l.Login, true)
			add(err)
		}
		if name := logins[0].Jail; retired[name] && name != "" {
			_, err := inforce.Enable(o.ConfigPath, name, false)
			add(err)
		}
	}
	if _, err := o.Reload(io.Discard); err != nil {
		add(err)
	}
	for _, logins := range jails {
		if retired[logins[0].Jail] {
			add(o.Stop(logins[0].Jail))
			continue
		}
		var uids []uint32
		for _, l := range logins {
			if l.Account {
				uids = append(uids, l.HostUID)
			}
			// On the host, the processes of an account that stays are its own business.
			if l.Base != 0 && l.Sole {
				uids = append(uids, l.Base+l.Inside.UID)
			}
		}
		if len(uids) > 0 && !endProcesses(uids...) {
			add(fmt.Errorf("processes of %s do not end", logins[0].Login))
		}
	}
	if !p.byShadow() {
		add(dropAccounts(p.Logins))
	} else if l := &p.Logins[0]; l.Account {
		add(dropAccount(l))
	}
	for _, logins := range jails {
		add(o.clear(logins))
	}
	return errors.Join(errs...)
}

// unregister takes the logins of one jail out of the registry. gone is that the jail is
// not in it any more.
func (o *Options) unregister(logins []*Login) (gone bool, err error) {
	l := logins[0]
	if l.File == "" {
		return false, nil
	}
	text, err := registryFile(l.File)
	if err != nil {
		return false, err
	}
	if text == "" {
		return true, nil
	}
	var names []string
	for _, l := range logins {
		names = append(names, l.Login)
	}
	rest, empty, dropped := dropFrom(text, l.Jail, names)
	switch {
	case dropped == 0:
		return false, nil
	case !empty:
		return false, writeRegistry(l.File, rest)
	case ours(text, l.Jail):
		return true, os.Remove(l.File)
	}
	return true, writeRegistry(l.File, retire(text, l.Jail))
}

// dropMain removes a main file that has nothing in it and is needed by nobody.
func (o *Options) dropMain() error {
	text, err := registryFile(o.ConfigPath)
	if err != nil || text != emptyRegistry {
		return err
	}
	if left, _ := filepath.Glob(filepath.Join(o.dropins(), "*.toml")); len(left) > 0 {
		return nil
	}
	return os.Remove(o.ConfigPath)
}

// clear takes away what logins of one jail have inside.
func (o *Options) clear(logins []*Login) error {
	if !slices.ContainsFunc(logins, func(l *Login) bool { return l.User || l.Home || len(l.Keys) > 0 }) {
		return nil
	}
	r, err := openRoot(logins[0].Rootfs, logins[0].Mounts)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.close()
	errs := make([]error, len(logins))
	_ = each(len(logins), func(i int) error { // one that fails keeps none of the others
		l := logins[i]
		uid, there, err := r.homeOf(l.Inside.Home)
		switch {
		case err != nil || !there:
		case l.Home && uid == 0:
			// Made, and not given away yet.
			err = r.removeHome(l.Inside.Home)
		case l.Home && uid == l.Inside.UID:
			if _, err = r.asOwner(&l.Inside, opEmpty, nil); err == nil {
				err = r.removeHome(l.Inside.Home)
			}
		case l.Home:
			err = fmt.Errorf("%s inside belongs to uid %d, not to %d: it stays", l.Inside.Home, uid, l.Inside.UID)
		case len(l.Keys) > 0:
			_, err = r.asOwner(&l.Inside, opDrop, l.Keys)
		}
		errs[i] = err
		return nil
	})
	return errors.Join(errors.Join(errs...), r.dropUsers(logins))
}

// look finds out what there is.
func look(o *Options) (w *world, done func(), err error) {
	w = &world{shell: o.Enter, dir: o.dropins(), jails: make(map[string]known), logins: make(map[string]string)}
	done = func() {}
	passwdText, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, done, err
	}
	groupText, err := os.ReadFile("/etc/group")
	if err != nil {
		return nil, done, err
	}
	loginDefs, _ := os.ReadFile("/etc/login.defs")
	w.host = newHost(passwdText, groupText, loginDefs)
	_, err = os.Stat(o.ConfigPath)
	w.main = err == nil
	specs := make(map[string]*jail.Spec)
	if w.main {
		reg, err := inforce.Load(o.ConfigPath, config.Options{RuntimeDir: o.RuntimeDir, SkipPlaces: true})
		if err != nil {
			return nil, done, fmt.Errorf("the registry has a fault, so nothing can be added (jail check): %w", err)
		}
		for i := range reg.Jails {
			s := &reg.Jails[i]
			specs[s.Name] = s
			w.jails[s.Name] = known{s.Name, reg.Files[s.Name], s.Source.Path}
			for _, l := range s.Logins {
				w.logins[l.Name] = s.Name
			}
		}
		for i := range reg.Faults {
			f := &reg.Faults[i]
			for _, l := range f.Logins {
				w.logins[l.Name] = f.Jail
			}
		}
	}
	roots := make(map[string]*root)
	open := func(k known) (*root, error) {
		if r := roots[k.rootfs]; r != nil {
			return r, nil
		}
		var mounts []jail.Mount
		if s := specs[k.jail]; s != nil {
			mounts = s.Mounts
		}
		r, err := openRoot(k.rootfs, mounts)
		if err == nil {
			roots[k.rootfs] = r
		}
		return r, err
	}
	w.tree = func(k known) (*tree, error) {
		r, err := open(k)
		if err != nil {
			return nil, err
		}
		return r.readTree()
	}
	w.home = func(k known, path string) (uint32, bool, error) {
		r, err := open(k)
		if err != nil {
			return 0, false, err
		}
		return r.homeOf(path)
	}
	return w, func() {
		for _, r := range roots {
			r.close()
		}
	}, nil
}
