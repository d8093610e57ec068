package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"jail/internal/admin"
	"jail/internal/jail"
	"jail/internal/provision"
	"jail/internal/tty"
)

const doctorUsage = `    why ID [LOGIN]            what is behind the id in a refusal, and what to do
    doctor [--json] LOGIN | --all
                              log in as LOGIN over the loopback address, and try
                              what a user does; leaves nothing
`

// doctor examines logins. Its status is 0 if all is well, 1 if not.
func (c *common) doctor(args []string) (int, error) {
	fs := c.flags("doctor")
	all := fs.Bool("all", false, "")
	asJSON := fs.Bool("json", false, "")
	names, err := c.finish(fs, "doctor", args, -1)
	if err != nil {
		return 0, err
	}
	if *all != (len(names) == 0) || len(names) > 1 || len(names) == 1 && !jail.ValidName(names[0]) {
		return 0, usageError("doctor takes one login, or --all")
	}
	opt, err := c.provision("doctor")
	if err != nil {
		return 0, err
	}
	if os.Geteuid() != 0 {
		return 0, errors.New("doctor logs in as others, by a key that only root can have accepted")
	}
	login := ""
	if len(names) == 1 {
		login = names[0]
	}
	jails, err := admin.InForce(c.admin(), login)
	if err != nil {
		return 0, err
	}
	ctx, stop := interruptible()
	defer stop()
	var exams []*provision.Examination
	status := 0
	for i := range jails {
		for k := range jails[i].Logins {
			lg := &jails[i].Logins[k]
			if ctx.Err() != nil {
				return 0, errors.New("interrupted; nothing of it remains")
			}
			if !*asJSON {
				fmt.Printf("%s, jail %s:\n", lg.Name, jails[i].Name)
			}
			e := provision.Doctor(ctx, opt, &jails[i], lg, func(name string) error { return admin.Wake(c.admin(), name) }, func(t provision.Tried) {
				if !*asJSON {
					printTried(t)
				}
			})
			if !e.Well() {
				status = 1
			}
			if *asJSON {
				exams = append(exams, e)
				continue
			}
			printVerdict(e)
		}
	}
	if *asJSON {
		return status, admin.PrintJSON(os.Stdout, exams)
	}
	return status, nil
}

// why tells the story of an id.
func (c *common) why(args []string) (int, error) {
	words, err := c.parse("why", args, -1)
	if err != nil {
		return 0, err
	}
	if len(words) < 1 || len(words) > 2 || len(words) == 2 && !jail.ValidName(words[1]) {
		return 0, usageError("why takes the id that stands in brackets in what the user reads, and a login where it is a word")
	}
	return admin.Why(c.admin(), words[0], append(words, "")[1])
}

func printTried(t provision.Tried) {
	w := tabwriter.NewWriter(os.Stdout, 24, 8, 2, ' ', 0)
	outcome := t.Outcome
	if tty.IsTerminal(1) && t.Outcome == provision.TriedFailed {
		outcome = "\x1b[31m" + outcome + "\x1b[0m"
	}
	note := ""
	if t.Note != "" {
		note = ": " + admin.Printable(t.Note)
	}
	fmt.Fprintf(w, "  %s\t%7v  %s%s\n", t.Step, t.Took.Round(time.Millisecond), outcome, note)
	w.Flush()
}

func printVerdict(e *provision.Examination) {
	switch {
	case e.Err != "":
		fmt.Printf("%s: cannot log in: %s; jail check %s\n", e.Login, admin.Printable(e.Err), e.Login)
	case e.Well():
		fmt.Printf("%s: well\n", e.Login)
	default:
		n := 0
		for _, t := range e.Tried {
			if t.Outcome == provision.TriedFailed {
				n++
			}
		}
		fmt.Printf("%s: %d of %d things do not work; jail check %s\n", e.Login, n, len(e.Tried), e.Login)
	}
}
