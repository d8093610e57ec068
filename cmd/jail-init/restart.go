package main

import (
	"fmt"
	"os"
	"time"

	"jail/internal/admin"
	"jail/internal/jail"
)

const restartUsage = `    start NAME                have a jail run, as a login would
    restart NAME | --old      end a jail and have it run again, or all that run an older
                              program; --when-idle waits until nobody is in it,
                              --wait DURATION bounds that; --grace as of stop
    top                       what jails use, as it changes; -b once, --json for programs,
                              --every DURATION (default 2s)
    set NAME KEY=VALUE...     change limits of a jail that runs: memory, cpu, pids, io_weight
`

func (c *common) start(args []string) error {
	names, err := c.parse("start", args, 1)
	if err != nil {
		return err
	}
	if !jail.ValidName(names[0]) {
		return usageError("start takes the name of a jail")
	}
	return admin.Start(c.admin(), names[0])
}

func (c *common) restart(args []string) error {
	fs := c.flags("restart")
	old := fs.Bool("old", false, "")
	whenIdle := fs.Bool("when-idle", false, "")
	wait := fs.Duration("wait", 0, "")
	grace := fs.Duration("grace", 5*time.Second, "")
	names, err := c.finish(fs, "restart", args, -1)
	if err != nil {
		return err
	}
	switch {
	case *wait < 0, *wait > 0 && !*whenIdle:
		return usageError("--wait bounds how long --when-idle waits, as in --wait 1h")
	case *old && len(names) == 0:
		if names, err = admin.Old(c.admin()); err != nil {
			return err
		}
		if len(names) == 0 {
			fmt.Fprintln(os.Stdout, "no jail runs an older program")
		}
	case *old || len(names) != 1 || !jail.ValidName(names[0]):
		return usageError("restart takes the name of one jail, or --old")
	}
	return admin.Restart(c.admin(), names, admin.RestartOptions{Grace: *grace, WhenIdle: *whenIdle, Wait: *wait})
}

func (c *common) set(args []string) (int, error) {
	names, err := c.parse("set", args, -1)
	if err != nil {
		return 0, err
	}
	if len(names) < 2 || !jail.ValidName(names[0]) {
		return 0, usageError("set takes the name of a jail and limits, as in set web memory=1G cpu=200% pids=none")
	}
	return admin.Set(c.admin(), names[0], names[1:])
}

func (c *common) top(args []string) error {
	fs := c.flags("top")
	once := fs.Bool("b", false, "")
	asJSON := fs.Bool("json", false, "")
	every := fs.Duration("every", 2*time.Second, "")
	if _, err := c.finish(fs, "top", args, 0); err != nil {
		return err
	}
	if *every < 100*time.Millisecond || *every > time.Hour {
		return usageError("--every is from 100ms to 1h")
	}
	return admin.Top(c.admin(), admin.TopOptions{Once: *once, JSON: *asJSON, Every: *every})
}
