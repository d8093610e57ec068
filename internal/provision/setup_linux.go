package provision

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"jail/config"
	"jail/internal/count"
	"jail/internal/jail"
	"jail/internal/rootpath"
	"jail/internal/sys"
)

const (
	sshdConfig = "/etc/ssh/sshd_config"
	sshdDropin = "/etc/ssh/sshd_config.d/50-jail.conf"
)

// setup is one thing that a host has or does not have yet. Each may be done twice.
type setup struct {
	what string // in a line, what do does
	more string // shown besides: a difference
	have bool
	do   func() error
}

// Setup makes a host ready for logins, and says each thing that it does. Whatever is there
// is left as it is, so that a run which was ended is finished by the next.
func Setup(o Options, dry bool) error {
	j, err := begin(&o)
	if err != nil {
		return err
	}
	defer j.close()
	if _, err := lookUp("sshd"); err != nil {
		return errors.New("sshd is not installed (Debian: apt-get install openssh-server)")
	}
	steps, err := o.setups()
	if err != nil {
		return err
	}
	for _, s := range steps {
		if s.have {
			fmt.Fprintf(o.Stdout, "there:  %s\n%s", s.what, s.more)
			continue
		}
		if dry {
			fmt.Fprintf(o.Stdout, "to do:  %s\n%s", s.what, s.more)
			continue
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w; when that is mended, jail setup goes on, and jail setup --undo goes back", s.what, err)
		}
		fmt.Fprintf(o.Stdout, "done:   %s\n%s", s.what, s.more)
	}
	if !systemd() {
		fmt.Fprintln(o.Stdout, "note:   systemd does not run here: have what starts services start \"jail-init serve\", before sshd")
	}
	return nil
}

// setups says what a host needs, in order.
func (o *Options) setups() ([]setup, error) {
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		return nil, err
	}
	steps := []setup{{
		what: "group " + Group, have: hasName(group, Group),
		do: func() error { _, err := command("", "groupadd", "-r", "--", Group); return err },
	}}
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{filepath.Dir(o.ConfigPath), 0o755}, {o.dropins(), 0o755}, {jail.EmptyHome, 0o755},
		{jail.EmptyHome + "/.ssh", 0o755}, {jail.EmptyHome + "/.ssh/agent", 0o777 | os.ModeSticky},
	} {
		_, err := os.Lstat(d.path)
		steps = append(steps, setup{what: "directory " + d.path, have: err == nil, do: func() error {
			if err := rootpath.MakePublic(d.path); err != nil {
				return err
			}
			return os.Chmod(d.path, d.mode)
		}})
	}
	_, err = os.Lstat(o.ConfigPath)
	steps = append(steps, setup{what: "registry " + o.ConfigPath, have: err == nil,
		do: func() error { return writeRegistry(o.ConfigPath, emptyRegistry) }})

	block, err := o.blockStep()
	if err != nil {
		return nil, err
	}
	steps = append(steps, block)
	if systemd() {
		on := func(what string) bool {
			_, err := command("", "systemctl", what, "--quiet", "jail.service")
			return err == nil
		}
		steps = append(steps, setup{what: "jail.service, now and at boot", have: on("is-enabled") && on("is-active"), do: func() error {
			if _, err := command("", "systemctl", "daemon-reload"); err != nil {
				return err
			}
			_, err := command("", "systemctl", "enable", "--now", "jail.service")
			return err
		}})
	}
	return steps, nil
}

// blockStep is sshd's part: the block, for the group of setup's own and those of [[match]]. One that is there is
// for more groups afterwards, never for fewer: who is in them would not be kept in a jail any more.
func (o *Options) blockStep() (setup, error) {
	text, err := os.ReadFile(sshdConfig)
	if err != nil {
		return setup{}, err
	}
	groups, notes, err := o.matchGroups()
	if err != nil {
		return setup{}, err
	}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(sshdDropin), "*.conf"))
	byInclude := includes(string(text), filepath.Dir(sshdConfig), sshdDropin)
	if !byInclude {
		files = nil
	}
	for _, f := range append([]string{sshdConfig}, files...) {
		t, err := os.ReadFile(f)
		if err != nil || !forces(string(t)) {
			continue
		}
		had, ours := blockGroups(string(t))
		missing := slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return sendsGroup(string(t), g) })
		step := setup{what: "sshd's block, in " + f, have: true, more: notes}
		switch {
		case len(missing) == 0:
		case !ours:
			step.more += fmt.Sprintf("note:   its Match is not as jail setup writes it, and sends nobody of group %s of the registry's [[match]] into a jail; add that to its Match Group\n", strings.Join(missing, ", "))
		default:
			was, now := matchLine+listOf(had)+"\n", matchLine+listOf(append(had, missing...))+"\n"
			step.what += ", for group " + strings.Join(missing, ", ") + " as well"
			step.have, step.more = false, "    --- "+f+"\n    -"+was+"    +"+now+notes
			step.do = func() error { return changeSSHD(f, string(t), strings.Replace(string(t), was, now, 1)) }
		}
		return step, nil
	}
	block := installed(blockFor(groups), o.Enter)
	file, was, next := sshdDropin, "", block
	if !byInclude {
		file, was, next = sshdConfig, string(text), withBlock(string(text), block)
	} else if t, err := os.ReadFile(file); err == nil {
		was = string(t)
		if was != "" {
			return setup{}, fmt.Errorf("%s is there, and sends nobody into a jail; move it away", file)
		}
	}
	return setup{
		what: "sshd's block, in " + file, more: difference(file, strings.TrimPrefix(next, was)) + notes,
		do: func() error { return changeSSHD(file, was, next) },
	}, nil
}

// changeSSHD puts text in the place of what is in a file of sshd's, if sshd takes it, and has sshd read it.
func changeSSHD(file, was, next string) error {
	if _, err := sshd("-t"); err != nil {
		return fmt.Errorf("sshd's configuration has a fault already: %w", err)
	}
	if err := writeSSHD(file, next); err != nil {
		return err
	}
	if _, err := sshd("-t"); err != nil {
		return errors.Join(err, putBack(file, was))
	}
	return reloadSSHD()
}

// matchGroups are the groups that the block is for besides Group: those of [[match]] that have nobody in them
// whom it would keep out of the host, and notes on the others.
func (o *Options) matchGroups() (groups []string, notes string, err error) {
	if _, err := os.Stat(o.ConfigPath); errors.Is(err, os.ErrNotExist) {
		return nil, "", nil
	}
	reg, err := config.Load(o.ConfigPath, config.Options{RuntimeDir: o.RuntimeDir, SkipPlaces: true})
	if err != nil {
		return nil, "", fmt.Errorf("the registry has a fault, so it is not known which groups sshd's block is for (jail check): %v", err)
	}
	defs, _ := os.ReadFile("/etc/login.defs")
	min := newHost(nil, nil, defs).uidMin
	for _, g := range reg.MatchGroups {
		if strings.ContainsAny(g, "\"' \t\\#") { // nothing that sshd_config takes as it is
			notes += fmt.Sprintf("note:   sshd's block is not for group %q of the registry's [[match]], a name that cannot stand there\n", g)
			continue
		}
		found, _, err := config.Members(g)
		if err != nil {
			return nil, "", err
		}
		var no []string
		for _, a := range found {
			if a.UID < min {
				no = append(no, a.Name)
			}
		}
		if len(no) > 0 {
			notes += fmt.Sprintf("note:   sshd's block is not for group %s of the registry's [[match]]: %s would not get onto the host any more, and no jail can hold system accounts; take them out of the group\n", g, some(no))
			continue
		}
		groups = append(groups, g)
	}
	return groups, notes, nil
}

// difference shows lines that are added to a file, as diff(1) does.
func difference(file, added string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "    +++ %s\n", file)
	for line := range strings.Lines(added) {
		b.WriteString("    +" + line)
	}
	return b.String()
}

func writeSSHD(file, text string) error {
	if err := rootpath.MakePublic(filepath.Dir(file)); err != nil {
		return err
	}
	dir, err := rootpath.OpenDir(filepath.Dir(file), unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	mode := uint32(0o644)
	var st unix.Stat_t
	if unix.Lstat(file, &st) == nil {
		mode = st.Mode & 0o777
	}
	return rootpath.WriteAt(dir, filepath.Base(file), []byte(text), mode, 0, 0)
}

func putBack(file, was string) error {
	if was == "" {
		return os.Remove(file)
	}
	return writeSSHD(file, was)
}

// systemd reports whether systemd is this host's service manager (sd_booted(3)).
func systemd() bool {
	st, err := os.Lstat("/run/systemd/system")
	if err != nil || !st.IsDir() {
		return false
	}
	_, err = lookUp("systemctl")
	return err == nil
}

// reloadSSHD has a running sshd read its configuration. One that is started for each
// connection, or later, reads it then.
func reloadSSHD() error {
	if systemd() {
		for _, unit := range []string{"ssh.service", "sshd.service"} {
			if _, err := command("", "systemctl", "is-active", "--quiet", unit); err == nil {
				_, err = command("", "systemctl", "reload", unit)
				return err
			}
		}
		return nil
	}
	out, err := sshd("-T")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 2 || !strings.EqualFold(f[0], "pidfile") {
			continue
		}
		text, err := os.ReadFile(f[1])
		if err != nil {
			return nil // it does not run, or says nowhere that it does
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid <= 1 {
			return nil
		}
		fd, err := sys.PidfdOpen(pid)
		if err != nil {
			return nil
		}
		defer sys.Close(fd)
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.HasPrefix(filepath.Base(exe), "sshd") {
			return sys.PidfdSendSignal(fd, syscall.SIGHUP)
		}
	}
	return nil
}

// Undo takes back what Setup makes. With logins left it would send them to the host: it refuses.
func Undo(o Options, dry bool) error {
	j, err := begin(&o)
	if err != nil {
		return err
	}
	defer j.close()
	if left, err := o.people(); err != nil {
		return err
	} else if len(left) > 0 {
		names := strings.Join(left[:min(8, len(left))], ", ")
		return fmt.Errorf("%s left (%s): without sshd's block they would not be kept in their jails; jail rm them first, "+
			"and those that a [[match]] gives a jail by taking it out of the registry", count.Of(len(left), "login is", "logins are"), names)
	}
	n := 0
	for _, s := range o.undos() {
		if s.have {
			continue
		}
		n++
		if dry {
			fmt.Fprintf(o.Stdout, "to do:  %s\n", s.what)
			continue
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		fmt.Fprintf(o.Stdout, "done:   %s\n", s.what)
	}
	if n == 0 {
		fmt.Fprintln(o.Stdout, "nothing of jail setup is there")
	}
	return nil
}

// people are the logins of the registry and the members of the group, whom sshd's block is for.
func (o *Options) people() ([]string, error) {
	seen := make(map[string]bool)
	var all []string
	add := func(name string) {
		if name != "" && !seen[name] {
			seen[name] = true
			all = append(all, name)
		}
	}
	// Who is out of service by a fault is somebody, too, and whom a file that cannot be read is about nobody knows.
	if _, err := os.Stat(o.ConfigPath); !errors.Is(err, os.ErrNotExist) {
		reg, err := config.Load(o.ConfigPath, config.Options{RuntimeDir: o.RuntimeDir, SkipPlaces: true})
		if err != nil {
			return nil, unknownPeople(err)
		}
		for i := range reg.Jails {
			for _, l := range reg.Jails[i].Logins {
				add(l.Name)
			}
		}
		for i := range reg.Faults {
			for _, l := range reg.Faults[i].Logins {
				add(l.Name)
			}
			if len(reg.Faults[i].Logins) == 0 && len(reg.Faults[i].Errors) > 0 {
				return nil, unknownPeople(reg.Faults[i].Errors[0])
			}
		}
	}
	groupText, err := os.ReadFile("/etc/group")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(groupText)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == 4 && f[0] == Group {
			for _, m := range strings.Split(f[3], ",") {
				add(m)
			}
		}
	}
	return all, nil
}

func unknownPeople(err error) error {
	return fmt.Errorf("the registry has a fault, so it is not known who would get onto the host without sshd's block; mend it first (jail check): %w", err)
}

// undos are the steps back; have says that there is nothing to do.
func (o *Options) undos() []setup {
	var steps []setup
	if systemd() {
		_, err := command("", "systemctl", "is-enabled", "--quiet", "jail.service")
		_, errActive := command("", "systemctl", "is-active", "--quiet", "jail.service")
		steps = append(steps, setup{what: "jail.service is stopped, and does not start at boot", have: err != nil && errActive != nil, do: func() error {
			_, err := command("", "systemctl", "disable", "--now", "jail.service")
			return err
		}})
	}
	if text, err := os.ReadFile(sshdDropin); err == nil && o.wrote(string(text)) {
		steps = append(steps, setup{what: "sshd's block is removed: " + sshdDropin, do: func() error {
			return o.unblock(sshdDropin, string(text), "")
		}})
	} else if err == nil && forces(string(text)) {
		steps = append(steps, setup{what: sshdDropin + " has been changed by hand, and stays", do: func() error { return nil }})
	}
	if text, err := os.ReadFile(sshdConfig); err == nil && withoutBlock(string(text)) != string(text) {
		steps = append(steps, setup{what: "sshd's block is taken out of " + sshdConfig, do: func() error {
			return o.unblock(sshdConfig, string(text), withoutBlock(string(text)))
		}})
	}
	if group, err := os.ReadFile("/etc/group"); err == nil {
		steps = append(steps, setup{what: "group " + Group + " is removed", have: !hasName(group, Group), do: func() error {
			_, err := command("", "groupdel", "--", Group)
			return err
		}})
	}
	if text, err := registryFile(o.ConfigPath); err == nil && text == emptyRegistry {
		if left, _ := filepath.Glob(filepath.Join(o.dropins(), "*.toml")); len(left) == 0 {
			steps = append(steps, setup{what: "registry " + o.ConfigPath + ", which is empty, is removed", do: func() error { return os.Remove(o.ConfigPath) }})
		}
	}
	return steps
}

// wrote reports whether text is the block as Setup writes it, for whichever groups.
func (o *Options) wrote(text string) bool {
	groups, ok := blockGroups(text)
	return ok && text == installed(blockFor(groups), o.Enter)
}

// unblock takes the block out of sshd's configuration.
func (o *Options) unblock(file, was, next string) error {
	if err := putBack(file, next); err != nil {
		return err
	}
	if _, err := sshd("-t"); err != nil {
		return errors.Join(err, writeSSHD(file, was))
	}
	return reloadSSHD()
}
