package main

import (
	"os"

	"jail/internal/admin"
	"jail/internal/journal"
	"jail/internal/recording"
)

const recordingsUsage = `    recordings [LOGIN] [--json]
                              list what has been recorded
    replay RECORDING | LOGIN [--speed N] [--plain]
                              show a recording; space, arrows, + and - and q work
    watch RECORDING | LOGIN [--plain]
                              read along in a session that is being recorded
`

func (c *common) recordings(verb string, args []string) error {
	fs := c.flags(verb)
	asJSON, plain, speed := new(bool), new(bool), new(float64)
	want := 1
	switch verb {
	case "recordings":
		asJSON, want = fs.Bool("json", false, ""), -1
	case "replay":
		speed = fs.Float64("speed", 1, "")
		fallthrough
	default:
		plain = fs.Bool("plain", false, "")
	}
	names, err := c.finish(fs, verb, args, want)
	switch {
	case err != nil:
		return err
	case c.rootless:
		return usageError("recordings are root's")
	case verb == "recordings" && len(names) > 1:
		return usageError("recordings takes the name of one login, or nothing")
	case verb == "replay" && !(*speed >= 1.0/16 && *speed <= 256):
		return usageError("--speed is a number from 0.0625 to 256")
	}
	switch verb {
	case "recordings":
		login := ""
		if len(names) == 1 {
			login = names[0]
		}
		return admin.Recordings(c.admin(), login, *asJSON)
	case "replay":
		return admin.Replay(c.admin(), names[0], *speed, *plain)
	}
	return admin.Watch(c.admin(), names[0], *plain)
}

// recorder is the process that records, which serve starts.
func (c *common) recorder(args []string) error {
	recording.Rename()
	if _, err := c.parse(recording.Verb, args, 0); err != nil {
		return err
	}
	log := journal.NewLog(os.Stderr)
	defer log.Close()
	return recording.Run(3, os.Stdin, c.runtimeDir, c.config, log)
}
