package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"jail/config"
	"jail/internal/admin"
	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/event"
	"jail/internal/fdsock"
	"jail/internal/inside"
	"jail/internal/jail"
	"jail/internal/journal"
	"jail/internal/provision"
	"jail/internal/recording"
	"jail/internal/run"
	"jail/internal/serve"
	"jail/internal/wire"
)

const usage = `Usage: jail-init [--config FILE] [--runtime-dir DIR] VERB [ARGUMENT...]

    serve                     hold the sockets of every login, start jails on demand
    run NAME | UID            start one jail of the registry and stay with it
    run -u UID -r ROOTFS [-g GID] [-n USER] [-s SHELL] [-m JPATH=RPATH]... [-c]
        [--no-userns]         make a jail without a registry; -c stays with it
    net-load                  load what jails own of the network; serve does so too
    check [--json] [JAIL | LOGIN]
                              look for faults in the registry, on the host, in the jails
    reload                    have serve read the registry again, and say what came of it
    ps [NAME]                 show the jails; --json
    plan NAME                 what a start of a jail would do, and what says so
    exec [--force] [-u UID [-g GID]] NAME [COMMAND ARGUMENT...]
                              run a command in a jail, as its root unless told otherwise;
                              --force starts one that is disabled
    stop NAME | --all         end a jail; --grace DURATION (default 5s)
    rebase NAME               have a jail with base begin anew with the current image
    rollback NAME             take that back
    image VERB                keep root directories that are made of archives;
                              jail-init image help shows the verbs
` + restartUsage + seeUsage + doctorUsage + disableUsage + recordingsUsage + provisionUsage + `    version                   print it
    help [VERB]               print this, or what a verb takes

An ordinary user runs jails of their own, from $XDG_CONFIG_HOME/jail/jail.toml.
See jail-init(8), jail.toml(5).
`

// version is set by the build.
var version = "development"

// lookVerb is what config has this program run for it; it is not for people.
const lookVerb = "look-at-places"

// insideVerb is what check has this program run for it.
const insideVerb = "look-inside"

// Exit statuses, of jail-init(8).
const (
	exitFailure = 1
	exitUsage   = 64 // EX_USAGE, sysexits(3)
)

// common are the options that may stand before or after the verb.
type common struct {
	config     string
	runtimeDir string
	rootless   bool
}

func defaults() common {
	if os.Geteuid() == 0 {
		return common{config.DefaultPath, config.DefaultRuntimeDir, false}
	}
	conf := os.Getenv("XDG_CONFIG_HOME")
	if conf == "" {
		conf = filepath.Join(os.Getenv("HOME"), ".config")
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		run = "/run/user/" + strconv.Itoa(os.Getuid())
	}
	return common{filepath.Join(conf, "jail", "jail.toml"), filepath.Join(run, "jail"), true}
}

// openLog opens what a supervisor of jails writes its lines to, and, where that is the journal, the
// way there for its records. No jail waits for either.
func openLog() (*journal.Log, *journal.Journal) {
	log := journal.NewLog(os.Stderr)
	if !journal.Ours(os.Stderr) {
		return log, nil
	}
	return log, journal.Open(journal.Socket)
}

func (c *common) flags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // wrong says it, in a line
	fs.StringVar(&c.config, "config", c.config, "")
	fs.StringVar(&c.runtimeDir, "runtime-dir", c.runtimeDir, "")
	return fs
}

// command runs a verb and returns the exit status.
func command(args []string) int {
	defer fdsock.Settled()
	c := defaults()
	config.Look = []string{"/proc/self/exe", lookVerb}
	admin.LookInside = []string{"/proc/self/exe", insideVerb}
	fs := c.flags("jail-init")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return 0
	} else if err != nil {
		return report(wrong("", err))
	}
	if fs.NArg() == 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}
	verb, rest := fs.Arg(0), fs.Args()[1:]
	var err error
	switch verb {
	case "serve":
		if rest, err = c.parse(verb, rest, 0); err == nil {
			log, entries := openLog()
			err = serve.Run(serve.Options{
				ConfigPath: c.config, RuntimeDir: c.runtimeDir, Rootless: c.rootless, Version: version,
				Log: log, Stderr: os.Stderr, Journal: entries,
			})
			log.Close()
		}
	case "run":
		err = c.run(rest)
	case "net-load":
		if rest, err = c.parse(verb, rest, 0); err == nil {
			err = c.netLoad()
		}
	case "check":
		var status int
		if status, err = c.check(rest); err == nil {
			return status
		}
	case "why":
		var status int
		if status, err = c.why(rest); err == nil {
			return status
		}
	case "doctor":
		var status int
		if status, err = c.doctor(rest); err == nil {
			return status
		}
	case "ps":
		err = c.ps(rest)
	case "plan":
		if rest, err = c.parse(verb, rest, 1); err == nil {
			return admin.Plan(c.admin(), rest[0])
		}
	case "reload":
		if rest, err = c.parse(verb, rest, 0); err == nil {
			var status int
			if status, err = admin.Reload(c.admin()); err == nil {
				return status
			}
		}
	case "exec":
		var status int
		if status, err = c.exec(rest); err == nil {
			return status
		}
	case "stop":
		err = c.stop(rest)
	case "start":
		err = c.start(rest)
	case "restart":
		err = c.restart(rest)
	case "top":
		err = c.top(rest)
	case "set":
		var status int
		if status, err = c.set(rest); err == nil {
			return status
		}
	case "rebase":
		if rest, err = c.jail(verb, rest); err == nil {
			err = admin.Rebase(c.admin(), rest[0])
		}
	case "rollback":
		if rest, err = c.jail(verb, rest); err == nil {
			err = admin.Rollback(c.admin(), rest[0])
		}
	case "image":
		err = c.image(rest)
	case "who", "last", "kill", "status", "logs":
		err = seeing[verb](&c, rest)
	case "disable", "enable":
		err = c.disable(verb, rest)
	case "recordings", "replay", "watch":
		err = c.recordings(verb, rest)
	case recording.Verb:
		err = c.recorder(rest)
	case "setup", "add", "rm", "key", "edit":
		err = provisioning[verb](&c, rest)
	case provision.OwnerVerb:
		err = provision.Owner(os.Stdin, os.Stdout)
	case lookVerb:
		err = config.LookAtPlaces(os.Stdin, os.Stdout)
	case completeVerb:
		err = c.complete(rest)
	case insideVerb:
		err = inside.Serve(os.Stdin, os.Stdout)
	case "version":
		fmt.Println("jail-init", version)
	case "help":
		err = help(rest)
	default:
		err = unknown(verb)
	}
	return report(err)
}

func (c *common) netLoad() error {
	if c.rootless {
		return errors.New("net-load is for root: jails of others have no network of their own")
	}
	return run.LoadNetwork(run.Options{ConfigPath: c.config, RuntimeDir: c.runtimeDir, Stderr: os.Stderr})
}

func (c *common) admin() admin.Options {
	return admin.Options{ConfigPath: c.config, RuntimeDir: c.runtimeDir, Rootless: c.rootless, Stdout: os.Stdout, Stderr: os.Stderr}
}

type usageError string

func (e usageError) Error() string { return string(e) }

func unknown(verb string) error {
	return usageError("unknown verb " + strconv.Quote(verb) + "; jail-init help lists them")
}

// help prints what a verb takes, or of all.
func help(verbs []string) error {
	switch {
	case len(verbs) == 0:
		fmt.Print(usage)
	case len(verbs) > 1 && verbs[0] != "image":
		return usageError("help takes one verb, or nothing")
	case usageOf(verbs[0]) == "":
		return unknown(verbs[0])
	default:
		fmt.Print(usageOf(verbs[0]))
	}
	return nil
}

// usageOf is what the usage text has of a verb, "" for none.
func usageOf(verb string) string {
	if verb == "image" {
		return imageUsage
	}
	var b strings.Builder
	mine := false
	for line := range strings.Lines(usage) {
		if m := usageVerb().FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			mine = m[1] == verb
		} else if !strings.HasPrefix(line, "     ") {
			mine = false
		}
		if mine {
			b.WriteString(line)
		}
	}
	return b.String()
}

// wrong says in a line what package flag has found wrong with the options of a verb.
func wrong(verb string, err error) error {
	text := wrongFlag().ReplaceAllString(err.Error(), "$1--$2")
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: "); ok {
		text = "there is no option " + name
	}
	if verb != "" {
		return usageError(verb + ": " + text + "; jail-init help " + verb + " shows what it takes")
	}
	return usageError(text + "; jail-init help shows all")
}

// wrongFlag is a long option as package flag names it, with one dash.
var wrongFlag = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(flag |: |for )-([a-z][a-z-]+)`) })

// errReported is an error of a command line that has been answered by what there is.
var errReported = errors.New("reported")

func report(err error) int {
	var u usageError
	var many config.Errors
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 0 // finish has shown it
	case errors.Is(err, errReported):
		return exitUsage
	case errors.As(err, &u):
		fmt.Fprintln(os.Stderr, "jail-init: "+string(u))
		return exitUsage
	case errors.As(err, &many):
		fmt.Fprintln(os.Stderr, event.Printable(faults(err, many)))
	default:
		fmt.Fprintln(os.Stderr, "jail-init: "+event.Printable(err.Error())) // it may name what a tenant has named
	}
	return exitFailure
}

// faults are those of the registry in a line each, or in one what they keep from being done, and the first.
func faults(err error, many config.Errors) string {
	whole := many.Error()
	if err.Error() == whole {
		return "jail-init: " + strings.ReplaceAll(whole, "\n", "\njail-init: ")
	}
	first := many[0].Error()
	if n := len(many) - 1; n > 0 {
		first += fmt.Sprintf(", and %d more", n)
	}
	return "jail-init: " + strings.Replace(err.Error(), whole, first, 1)
}

// parse parses the options behind a verb; want is how many arguments follow.
func (c *common) parse(verb string, args []string, want int) ([]string, error) {
	fs := c.flags(verb)
	return c.finish(fs, verb, args, want)
}

func (c *common) finish(fs *flag.FlagSet, verb string, args []string, want int) ([]string, error) {
	var names []string
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			fmt.Print(usageOf(verb))
			return nil, err
		} else if err != nil {
			return nil, wrong(verb, err)
		}
		args = fs.Args()
		// Options may stand behind a name; what exec runs has its own.
		if len(args) == 0 || verb == "exec" {
			names = append(names, args...)
			break
		}
		names, args = append(names, args[0]), args[1:]
	}
	if want >= 0 && len(names) != want {
		return nil, usageError(fmt.Sprintf("%s takes %s, not %d; jail-init help %[1]s shows what it takes", verb, count.Of(want, "argument", "arguments"), len(names)))
	}
	return names, nil
}

// jail parses the options of a verb that takes the name of one jail.
func (c *common) jail(verb string, args []string) ([]string, error) {
	names, err := c.parse(verb, args, 1)
	if err == nil && !jail.ValidName(names[0]) {
		err = usageError(verb + " takes the name of a jail")
	}
	return names, err
}

func (c *common) exec(args []string) (int, error) {
	fs := c.flags("exec")
	var uid, gid idFlag
	fs.Var(&uid, "u", "")
	fs.Var(&gid, "g", "")
	force := fs.Bool("force", false, "")
	rest, err := c.finish(fs, "exec", args, -1)
	if err != nil {
		return 0, err
	}
	if len(rest) == 0 || !jail.ValidName(rest[0]) {
		return 0, usageError("exec takes the name of a jail, and a command if it is not to be a login shell")
	}
	id := wire.Identity{UID: uid.value, GID: gid.value, HasGID: gid.set}
	if !uid.set {
		id.Name = "root" // also where the rootfs has no passwd
	}
	return admin.Exec(c.admin(), rest[0], id, rest[1:], *force)
}

func (c *common) check(args []string) (int, error) {
	fs := c.flags("check")
	asJSON := fs.Bool("json", false, "")
	names, err := c.finish(fs, "check", args, -1)
	if err != nil {
		return 0, err
	}
	if len(names) > 1 || len(names) == 1 && !jail.ValidName(names[0]) {
		return 0, usageError("check takes the name of one jail or login, or nothing")
	}
	return admin.Check(c.admin(), append(names, "")[0], *asJSON), nil
}

func (c *common) ps(args []string) error {
	fs := c.flags("ps")
	asJSON := fs.Bool("json", false, "")
	names, err := c.finish(fs, "ps", args, -1)
	switch {
	case err != nil:
		return err
	case len(names) == 0:
		return admin.PS(c.admin(), "", *asJSON)
	case len(names) > 1 || !jail.ValidName(names[0]):
		return usageError("ps takes the name of one jail, or nothing")
	}
	return admin.PS(c.admin(), names[0], *asJSON)
}

func (c *common) stop(args []string) error {
	fs := c.flags("stop")
	all := fs.Bool("all", false, "")
	grace := fs.Duration("grace", 5*time.Second, "")
	names, err := c.finish(fs, "stop", args, -1)
	if err != nil {
		return err
	}
	if *all {
		names = admin.Running(c.admin())
	} else if len(names) != 1 || !jail.ValidName(names[0]) {
		return usageError("stop takes the name of one jail, or --all")
	}
	var errs []error
	for _, n := range names {
		if err := admin.Stop(c.admin(), n, *grace); err != nil && !(*all && errors.Is(err, control.ErrNotRunning)) {
			errs = append(errs, err)
		} else if err == nil && !*all && admin.StartsAgain(c.admin(), n) {
			fmt.Printf("jail %s has ended; the next login starts it again (jail disable %s keeps logins out)\n", n, n)
		}
	}
	return errors.Join(errs...)
}

// mountList collects -m.
type mountList []jail.Mount

func (m *mountList) String() string { return "" }

func (m *mountList) Set(s string) error {
	target, source, ok := strings.Cut(s, "=")
	if !ok || !filepath.IsAbs(target) || !filepath.IsAbs(source) || target == "/" {
		return errors.New("must be JPATH=RPATH, two absolute paths")
	}
	*m = append(*m, jail.Mount{Source: filepath.Clean(source), Target: filepath.Clean(target)})
	return nil
}

// idFlag is a uid or gid.
type idFlag struct {
	value uint32
	set   bool
}

func (f *idFlag) String() string { return "" }

func (f *idFlag) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || !jail.ValidID(uint32(n)) {
		return errors.New("must be a number from 1 to 4294967294, and not 65535")
	}
	f.value, f.set = uint32(n), true
	return nil
}

func (c *common) run(args []string) error {
	fs := c.flags("run")
	var uid, gid idFlag
	var mounts mountList
	fs.Var(&uid, "u", "")
	fs.Var(&gid, "g", "")
	fs.Var(&mounts, "m", "")
	name := fs.String("n", "", "")
	rootfs := fs.String("r", "", "")
	shell := fs.String("s", "", "")
	stay := fs.Bool("c", false, "")
	noUserns := fs.Bool("no-userns", false, "")
	names, err := c.finish(fs, "run", args, -1)
	if err != nil {
		return err
	}
	log, entries := openLog()
	defer log.Close()
	opt := run.Options{ConfigPath: c.config, RuntimeDir: c.runtimeDir, Rootless: c.rootless, Stderr: log, Journal: entries}
	if !uid.set {
		if len(names) != 1 || gid.set || *rootfs != "" || *shell != "" || *name != "" || len(mounts) > 0 {
			return usageError("run takes the name of a jail, or -u UID -r ROOTFS; jail-init help run shows both")
		}
		return run.Named(opt, names[0])
	}
	switch {
	case len(names) > 0:
		return usageError("run -u takes no name of a jail; -n gives the user's name inside")
	case !filepath.IsAbs(*rootfs):
		return usageError("run -u needs -r ROOTFS, an absolute path")
	case *shell != "" && !filepath.IsAbs(*shell):
		return usageError("-s needs an absolute path")
	case *name != "" && !jail.ValidName(*name):
		return usageError("-n: not a user name")
	case c.rootless && int(uid.value) != os.Getuid():
		return usageError("-u: an ordinary user can only make a jail for their own uid, " + strconv.Itoa(os.Getuid()))
	}
	spec := jail.Spec{
		Name: "u" + strconv.FormatUint(uint64(uid.value), 10), Source: jail.Source{Path: filepath.Clean(*rootfs)}, Mounts: mounts,
		Logins: []jail.Login{{
			HostUID: jail.HostUID(uid.value), UID: jail.UID(uid.value), GID: jail.GID(gid.value), HasGID: gid.set,
			JailName: *name, Shell: *shell,
		}},
	}
	spec.Hostname = spec.Name
	switch {
	case c.rootless:
		spec.Userns = jail.Userns{Enabled: true, Base: uid.value, Size: 1}
	case !*noUserns:
		// A registry that is not there, or wrong, has no jails.
		reg, _ := config.Load(c.config, config.Options{RuntimeDir: c.runtimeDir})
		spec.Userns = config.AutoRangeFor(spec.Name, reg)
	}
	return run.Letters(opt, spec, *stay)
}
