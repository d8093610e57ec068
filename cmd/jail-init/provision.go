package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"jail/config"
	"jail/internal/admin"
	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/jail"
	"jail/internal/provision"
	"jail/internal/tty"
)

const provisionUsage = `    setup [--undo] [--dry-run]
                              make the host ready: group, sshd's block, service
    add LOGIN [--jail NAME] [--rootfs DIR [--template NAME]] [--uid N]
        [--key FILE|-] [--password] [--dry-run]
                              make a login: account, user inside, registry, key; try it
    add --csv FILE|- [--jail NAME] [--rootfs DIR [--template NAME]] [--dry-run]
                              make many: lines of LOGIN[,UID[,KEY]]
    add --from-group GROUP [--jail NAME] [--rootfs DIR [--template NAME]] [--dry-run]
                              a jail for the accounts of a group of the host's that have none
    rm LOGIN [--purge] [--dry-run]
                              take a login away; --purge takes the user inside, too
    key LOGIN ls | add FILE|- | rm NUMBER|FINGERPRINT
                              the keys of a login, inside
    edit [JAIL | FILE]        change the registry; it is checked before it counts
`

// provisioning are the verbs around a login.
var provisioning = map[string]func(c *common, args []string) error{
	"setup": (*common).setup,
	"add":   (*common).add, "rm": (*common).remove, "key": (*common).key, "edit": (*common).edit,
}

// provision returns the options of those verbs, which are root's.
func (c *common) provision(verb string) (provision.Options, error) {
	if c.rootless {
		return provision.Options{}, fmt.Errorf("%s changes the host's accounts and needs root", verb)
	}
	self, err := os.Executable()
	if err != nil {
		return provision.Options{}, err
	}
	return provision.Options{
		ConfigPath: c.config, RuntimeDir: c.runtimeDir, Enter: filepath.Join(filepath.Dir(filepath.Dir(self)), "bin", "jail-enter"),
		Stdout: os.Stdout, Stderr: os.Stderr,
		Reload: func(out io.Writer) (bool, error) {
			opt := c.admin()
			opt.Stderr = out
			if !admin.Serving(opt) {
				return false, nil
			}
			status, err := admin.Reload(opt)
			if err == nil && status == 1 {
				err = errors.New("jail-init serve takes nothing of the registry as it is now")
			}
			return true, err
		},
		Stop: func(name string) error {
			err := admin.Stop(c.admin(), name, 5*time.Second)
			if errors.Is(err, control.ErrNotRunning) || err != nil && !admin.Runs(c.admin(), name) {
				return nil
			}
			return err
		},
	}, nil
}

// interruptible ends when the administrator wants it to.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

func (c *common) setup(args []string) error {
	fs := c.flags("setup")
	undo := fs.Bool("undo", false, "")
	dry := fs.Bool("dry-run", false, "")
	if _, err := c.finish(fs, "setup", args, 0); err != nil {
		return err
	}
	opt, err := c.provision("setup")
	if err != nil {
		return err
	}
	if *undo {
		return provision.Undo(opt, *dry)
	}
	if err := provision.Setup(opt, *dry); err != nil || *dry {
		return err
	}
	// What it cannot do itself is for the administrator to decide.
	if admin.Check(c.admin(), "", false) == 0 {
		fmt.Println("jail check finds nothing")
	}
	fmt.Println("next: jail add LOGIN --rootfs DIR --key FILE; where there is no DIR yet, jail image import and copy make one")
	return nil
}

func (c *common) add(args []string) error {
	fs := c.flags("add")
	var uid idFlag
	fs.Var(&uid, "uid", "")
	name := fs.String("jail", "", "")
	rootfs := fs.String("rootfs", "", "")
	template := fs.String("template", "", "")
	key := fs.String("key", "", "")
	list := fs.String("csv", "", "")
	group := fs.String("from-group", "", "")
	password := fs.Bool("password", false, "")
	dry := fs.Bool("dry-run", false, "")
	names, err := c.finish(fs, "add", args, -1)
	if err != nil {
		return err
	}
	var requests []provision.Request
	switch {
	case *group != "" && (*list != "" || len(names) > 0 || uid.set || *key != "" || *password):
		return usageError("add --from-group takes --jail, --rootfs, --template and --dry-run only; who they are the group says")
	case *list != "" && (len(names) > 0 || uid.set || *key != "" || *password):
		return usageError("add --csv takes --jail, --rootfs, --template and --dry-run only; the file has the rest")
	case *list == "" && *group == "" && len(names) != 1:
		return usageError("add takes one login, --csv FILE or --from-group GROUP; jail-init help add shows all")
	case *password && *key == "-":
		return usageError("add: --key - and --password cannot both read standard input")
	}
	opt, err := c.provision("add")
	if err != nil {
		return err
	}
	many := *list != "" || *group != ""
	if many {
		if *group != "" {
			requests, err = readGroup(*group)
		} else {
			requests, err = readList(*list, os.Stdin)
		}
		if err != nil {
			return err
		}
		for i := range requests {
			requests[i].Jail, requests[i].Rootfs, requests[i].Template = *name, *rootfs, *template
		}
	} else {
		r := provision.Request{Login: names[0], Jail: *name, UID: uid.value, Rootfs: *rootfs, Template: *template}
		if *key != "" {
			if r.Keys, err = provision.ReadKeys(*key, os.Stdin); err != nil {
				return err
			}
		}
		if *password && !*dry {
			if r.Password, err = readPassword(r.Login); err != nil {
				return err
			}
		}
		requests = []provision.Request{r}
	}
	ctx, stop := interruptible()
	defer stop()
	defer admin.Waiting(os.Stderr, "making what there is to make; one login of each jail is tried at the end")()
	made, err := provision.Add(ctx, opt, requests, *dry)
	if err != nil || *dry {
		return err
	}
	if many {
		fmt.Println(count.Of(made, "login is made", "logins are made"))
		return nil
	}
	r := &requests[0]
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "HOST"
	}
	if len(r.Keys) == 0 && r.Password == "" {
		fmt.Printf("no key was given: jail key %[1]s ls shows those %[1]s has, jail key %[1]s add FILE adds one\n", r.Login)
	}
	fmt.Printf("log in: ssh %s@%s\n", r.Login, host)
	return nil
}

// readGroup asks the name service for the accounts of a group.
func readGroup(group string) ([]provision.Request, error) {
	found, ghosts, err := config.Members(group)
	if err != nil {
		return nil, err
	}
	if len(ghosts) > 0 {
		fmt.Fprintf(os.Stderr, "jail-init: group %s has %s, passed over: %.200s\n", group, count.Of(len(ghosts), "member that is no account", "members that are no accounts"), strings.Join(ghosts, ", "))
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("group %s has no accounts; where a directory does not list accounts, only those that the group itself lists are found", group)
	}
	var requests []provision.Request
	for i := range found {
		requests = append(requests, provision.Request{Login: found[i].Name, Host: &found[i]})
	}
	return requests, nil
}

// readList reads lines of LOGIN[,UID[,KEY]]; those that begin with # are comments.
func readList(file string, stdin io.Reader) ([]provision.Request, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	const most = 100_000
	lines := csv.NewReader(stdin)
	lines.FieldsPerRecord, lines.Comment, lines.LazyQuotes, lines.TrimLeadingSpace = -1, '#', true, true
	var requests []provision.Request
	for {
		f, err := lines.Read()
		if err == io.EOF {
			return requests, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		n, _ := lines.FieldPos(0)
		switch {
		case len(f) > 3:
			return nil, fmt.Errorf("%s:%d: %d fields, not LOGIN[,UID[,KEY]]; a key with a comma in it stands in quotes", file, n, len(f))
		case len(requests) == most:
			return nil, fmt.Errorf("%s: more than %d logins", file, most)
		}
		r := provision.Request{Login: strings.TrimSpace(f[0])}
		if len(f) > 1 && strings.TrimSpace(f[1]) != "" {
			id, err := strconv.ParseUint(strings.TrimSpace(f[1]), 10, 32)
			if err != nil || !jail.ValidID(uint32(id)) {
				return nil, fmt.Errorf("%s:%d: %.40q is no uid", file, n, f[1])
			}
			r.UID = uint32(id)
		}
		if len(f) > 2 && strings.TrimSpace(f[2]) != "" {
			r.Keys = []string{strings.TrimSpace(f[2])}
		}
		requests = append(requests, r)
	}
}

// readPassword asks for a password, twice and without showing it, or reads a line of
// standard input that is no terminal.
func readPassword(login string) (string, error) {
	in := bufio.NewReader(os.Stdin)
	read := func(prompt string) (string, error) {
		fmt.Fprint(os.Stderr, prompt)
		line, err := in.ReadString('\n')
		if err != nil && (err != io.EOF || line == "") {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	var pw string
	var err error
	if tty.IsTerminal(0) {
		before, err := tty.GetTermios(0)
		if err != nil {
			return "", err
		}
		quiet := before
		quiet.Lflag &^= syscall.ECHO
		quiet.Lflag |= syscall.ECHONL
		if err := tty.SetTermios(0, &quiet); err != nil {
			return "", err
		}
		// ^C at the prompt leaves the terminal as it was.
		ctx, stop := interruptible()
		ended := make(chan struct{})
		go func() {
			select {
			case <-ctx.Done():
				tty.SetTermios(0, &before)
				os.Exit(exitFailure)
			case <-ended:
			}
		}()
		defer func() { close(ended); stop(); tty.SetTermios(0, &before) }()
		if pw, err = read("Password of " + login + ": "); err != nil {
			return "", err
		}
		again, err := read("Once more: ")
		if err != nil {
			return "", err
		}
		if again != pw {
			return "", errors.New("the two are not the same; nothing is made")
		}
	} else if pw, err = read(""); err != nil {
		return "", err
	}
	if pw == "" || len(pw) > 511 {
		return "", errors.New("the password is empty, or longer than 511 bytes; nothing is made")
	}
	return pw, nil
}

func (c *common) remove(args []string) error {
	fs := c.flags("rm")
	purge := fs.Bool("purge", false, "")
	dry := fs.Bool("dry-run", false, "")
	names, err := c.finish(fs, "rm", args, 1)
	if err != nil {
		return err
	}
	opt, err := c.provision("rm")
	if err != nil {
		return err
	}
	defer admin.Waiting(os.Stderr, "taking away login %s, whose sessions end first", names[0])()
	return provision.Remove(opt, names[0], *purge, *dry)
}

func (c *common) key(args []string) error {
	words, err := c.parse("key", args, -1)
	if err != nil {
		return err
	}
	what := ""
	if len(words) > 1 {
		what = words[1]
	}
	switch {
	case what == "ls" && len(words) == 2, (what == "add" || what == "rm") && len(words) == 3:
	default:
		return usageError("key takes LOGIN ls, LOGIN add FILE or LOGIN rm NUMBER|FINGERPRINT")
	}
	opt, err := c.provision("key")
	if err != nil {
		return err
	}
	var lines []string
	if what == "add" {
		if lines, err = provision.ReadKeys(words[2], os.Stdin); err != nil {
			return err
		}
	}
	keys, err := provision.OpenKeys(opt, words[0])
	if err != nil {
		return err
	}
	defer keys.Close()
	switch what {
	case "add":
		return keys.Add(lines)
	case "rm":
		return keys.Remove(words[2])
	}
	return keys.List()
}

func (c *common) edit(args []string) error {
	names, err := c.parse("edit", args, -1)
	if err != nil {
		return err
	}
	if len(names) > 1 {
		return usageError("edit takes one jail or file of the registry, or nothing")
	}
	opt, err := c.provision("edit")
	if err != nil {
		return err
	}
	name := ""
	if len(names) == 1 {
		name = names[0]
	}
	in := bufio.NewReader(os.Stdin)
	return provision.Edit(opt, name, func(question string) bool {
		fmt.Fprint(os.Stderr, question)
		line, err := in.ReadString('\n')
		return err == nil && !strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "n")
	})
}
