package main

import (
	"strconv"
	"time"

	"jail/internal/admin"
	"jail/internal/jail"
)

// seeUsage are the verbs that show what goes on and what has been.
const seeUsage = `    who                       the sessions that go on; --json for programs
    last [LOGIN]              the sessions there were, the newest first; -n N, --json
    status NAME               all of one jail; --json
    logs NAME                 what there is in the records of a jail; -f to go on, -n N, --json
    kill SESSION              end one session, SESSION or JAIL/SESSION; --grace DURATION
`

// seeing are the verbs of seeUsage.
var seeing = map[string]func(c *common, args []string) error{
	"who": (*common).who, "last": (*common).last, "kill": (*common).kill, "status": (*common).status, "logs": (*common).logs,
}

func (c *common) who(args []string) error {
	fs := c.flags("who")
	asJSON := fs.Bool("json", false, "")
	if _, err := c.finish(fs, "who", args, 0); err != nil {
		return err
	}
	return admin.Who(c.admin(), *asJSON)
}

func (c *common) last(args []string) error {
	fs := c.flags("last")
	asJSON := fs.Bool("json", false, "")
	n := fs.Uint("n", 0, "")
	names, err := c.finish(fs, "last", args, -1)
	if err != nil {
		return err
	}
	switch len(names) {
	case 0:
		return admin.Last(c.admin(), "", int(min(*n, 1<<30)), *asJSON)
	case 1:
		return admin.Last(c.admin(), names[0], int(min(*n, 1<<30)), *asJSON)
	}
	return usageError("last takes one login, or nothing, not " + strconv.Itoa(len(names)))
}

func (c *common) kill(args []string) error {
	fs := c.flags("kill")
	grace := fs.Duration("grace", 5*time.Second, "")
	names, err := c.finish(fs, "kill", args, 1)
	if err != nil {
		return err
	}
	return admin.Kill(c.admin(), names[0], *grace)
}

func (c *common) status(args []string) error {
	fs := c.flags("status")
	asJSON := fs.Bool("json", false, "")
	names, err := c.finish(fs, "status", args, 1)
	if err != nil {
		return err
	}
	if !jail.ValidName(names[0]) {
		return usageError("status takes the name of a jail")
	}
	return admin.Status(c.admin(), names[0], *asJSON)
}

func (c *common) logs(args []string) error {
	fs := c.flags("logs")
	asJSON := fs.Bool("json", false, "")
	follow := fs.Bool("f", false, "")
	n := fs.Uint("n", 0, "")
	names, err := c.finish(fs, "logs", args, -1)
	switch {
	case err != nil:
		return err
	case len(names) > 1 || len(names) == 1 && !jail.ValidName(names[0]):
		return usageError("logs takes the name of one jail, or nothing for the registry's records")
	}
	name := ""
	if len(names) == 1 {
		name = names[0]
	}
	ctx, stop := interruptible()
	defer stop()
	return admin.Logs(c.admin(), name, int(min(*n, 1<<30)), *follow, *asJSON, ctx.Done())
}
