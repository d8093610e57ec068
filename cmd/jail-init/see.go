package main

import (
	"strconv"

	"jail/internal/admin"
)

// seeUsage are the verbs that show what goes on and what has been.
const seeUsage = `    who                       the sessions that go on; --json for programs
    last [LOGIN]              the sessions there were, the newest first; -n N, --json
`

// seeing are the verbs of seeUsage.
var seeing = map[string]func(c *common, args []string) error{
	"who": (*common).who, "last": (*common).last,
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
