package admin

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"jail/config"
	"jail/internal/control"
	"jail/internal/event"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/rootfs"
	"jail/internal/wire"
)

// Plan prints what a start of a jail would do if the registry were read now: the value of
// each key with the file and line it comes from, the accounts, and what is mounted. Nothing
// is done, and of file systems no more is asked than when the registry is read, by a
// process that may be left behind. It returns the exit status: 0, or 1 if the jail would
// not start.
func Plan(opt Options, name string) int {
	reg, err := inforce.Load(opt.ConfigPath, config.Options{Rootless: opt.Rootless, RuntimeDir: opt.RuntimeDir, Explain: name})
	var faults config.Errors
	if errors.As(err, &faults) {
		for _, e := range faults {
			fmt.Fprintf(opt.Stdout, "error: %s\n", e.Error())
		}
		fmt.Fprintln(opt.Stdout, "note: nothing new of the registry is used: what was in force stays in force")
		return 1
	}
	if err != nil {
		fmt.Fprintf(opt.Stderr, "jail-init: %s\n", event.Printable(err.Error()))
		return 1
	}
	e := reg.Explained
	if e == nil {
		fmt.Fprintf(opt.Stderr, "jail-init: %s\n", nothingToPlan(opt, reg, name))
		return 1
	}
	tw := tabwriter.NewWriter(opt.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "KEY\tVALUE\tFROM")
	for _, s := range e.Accounts {
		fmt.Fprintf(tw, "users.%s\t%s\t%s\n", s.Key, s.Value, s.From)
	}
	for _, s := range e.Settings {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", s.Key, s.Value, s.From)
	}
	printMounts(tw, &e.Spec)
	tw.Flush()
	for _, err := range e.Errors {
		fmt.Fprintf(opt.Stdout, "error: %s\n", err.Error())
	}
	if on := standingOn(&e.Spec); on != "" {
		fmt.Fprintf(opt.Stdout, "note: %s\n", on)
	}
	fmt.Fprintf(opt.Stdout, "note: %s\n", standing(opt, name, e))
	if !e.InForce {
		return 1
	}
	return 0
}

// printMounts prints what is mounted in every jail, in order.
func printMounts(w io.Writer, spec *jail.Spec) {
	s := &wire.Setup{X11: spec.X11}
	if spec.SFTP.Builtin() {
		s.SFTPServer = wire.SFTPServerTree
	}
	what := map[rootfs.Kind]string{
		rootfs.Proc: "procfs", rootfs.Tmpfs: "tmpfs", rootfs.Devpts: "devpts", rootfs.Mqueue: "mqueue", rootfs.Server: "the built-in sftp server",
	}
	for _, op := range rootfs.Plan(s) {
		if text := what[op.Kind]; text != "" {
			fmt.Fprintf(w, "mount\t%s at %s\tevery jail\n", text, op.Target)
		}
	}
}

// standing says how what would be compares with what is.
func standing(opt Options, name string, e *config.Explanation) string {
	var now *jail.Spec
	f, err := inforce.Open(opt.RuntimeDir, opt.ConfigPath)
	if err == nil {
		defer f.Close()
		now, _, err = f.Jail(name)
	}
	running := "it does not run"
	if c, err := control.Open(opt.RuntimeDir, name, false); err == nil {
		running = fmt.Sprintf("it runs (pid %d) with what was in force when it was started", c.PID)
		c.Close()
	}
	switch {
	case err != nil:
		return "no registry is in force, as jail-init serve has not read it; " + running
	case now == nil && e.InForce:
		return "this is not in force yet, jail reload takes it; " + running
	case now == nil:
		return "the jail is not in force; " + running
	case e.InForce && normal(*now) == normal(e.Spec):
		return "this is in force; " + running
	}
	return "something else is in force, jail reload takes this; " + running
}

// normal makes no difference between no list and an empty one.
func normal(s jail.Spec) string { return fmt.Sprintf("%+v", s) }

// nothingToPlan says why there is no jail of a name.
func nothingToPlan(opt Options, reg *config.Registry, name string) string {
	if spec, login := reg.Login(name); login != nil {
		return fmt.Sprintf("no jail %q in %s; the account of that name lands in jail %s", name, opt.ConfigPath, spec.Name)
	}
	for _, e := range reg.LoginFaults(name) {
		return fmt.Sprintf("no jail %q in %s; the account of that name is out of service: %s", name, opt.ConfigPath, e.Error())
	}
	return fmt.Sprintf("no jail %q in %s, and no account of that name lands in one", name, opt.ConfigPath)
}
