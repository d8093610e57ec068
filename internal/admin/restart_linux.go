package admin

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/event"
	"jail/internal/inforce"
	"jail/internal/launch"
)

// RestartOptions say what Restart waits for.
type RestartOptions struct {
	// Grace is what the processes of a jail get to end by themselves.
	Grace time.Duration
	// WhenIdle waits until nobody is logged in and, in a jail without services, nothing
	// runs.
	WhenIdle bool
	// Wait bounds that; 0 is for ever.
	Wait time.Duration
}

// idlePoll is how often jails that are waited for are asked.
const idlePoll = time.Second

// Start has a jail run that does not, with its services, as a login would.
func Start(opt Options, name string) error { return Wake(opt, name) }

// Old returns the names of the jails that run a PID 1 of another build than the one that is
// installed, and of those that do not say.
func Old(opt Options) ([]string, error) {
	build, err := launch.InstalledBuild()
	if err != nil {
		return nil, err
	}
	var old []string
	for _, name := range Running(opt) {
		c, err := control.Open(opt.RuntimeDir, name, false)
		switch {
		case errors.Is(err, control.ErrNotRunning):
		case err != nil:
			fmt.Fprintf(opt.Stderr, "jail-init: %s\n", event.Printable(err.Error()))
		default:
			if c.Status.Build != build {
				old = append(old, name)
			}
			c.Close()
		}
	}
	return old, nil
}

// Restart ends jails and has them run again. Each that could not be is an error, and no
// reason to leave out the others.
func Restart(opt Options, names []string, how RestartOptions) error {
	var errs []error
	deadline := time.Now().Add(how.Wait)
	said := ""
	for waiting := names; len(waiting) > 0; {
		var busy, words []string
		for _, name := range waiting {
			if how.WhenIdle {
				if what := occupied(opt, name); what != "" {
					busy, words = append(busy, name), append(words, name+" ("+what+")")
					continue
				}
			}
			if err := restart(opt, name, how.Grace); err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Fprintf(opt.Stdout, "jail %s runs anew\n", name)
		}
		if waiting = busy; len(waiting) == 0 {
			break
		}
		if how.Wait > 0 && !time.Now().Before(deadline) {
			errs = append(errs, fmt.Errorf("not restarted, since they are in use: %s", strings.Join(words, ", ")))
			break
		}
		if now := strings.Join(words, ", "); now != said {
			fmt.Fprintf(opt.Stdout, "waiting for %s\n", now)
			said = now
		}
		time.Sleep(idlePoll)
	}
	return errors.Join(errs...)
}

// occupied says what keeps a jail from being restarted when it is idle, "" if nothing does.
func occupied(opt Options, name string) string {
	c, err := control.Open(opt.RuntimeDir, name, false)
	if err != nil {
		return "" // what is wrong is for restart to say
	}
	defer c.Close()
	if n := c.Status.Sessions; n > 0 {
		return count.Of(n, "session", "sessions")
	}
	if spec, err := find(opt, name); c.Status.Processes && (err != nil || spec == nil || len(spec.Services) == 0) {
		return "processes"
	}
	return ""
}

func restart(opt Options, name string, grace time.Duration) error {
	spec, err := find(opt, name)
	switch {
	case err != nil:
		return fmt.Errorf("jail %s: %w", name, err)
	case spec == nil && !Runs(opt, name):
		return noSuch(opt, name)
	case spec == nil:
		return fmt.Errorf("jail %s is not in force, so it would not start again; jail stop ends it", name)
	}
	if d, err := inforce.ReadDisabled(opt.ConfigPath); err == nil {
		if _, disabled := d.Jails[name]; disabled {
			return fmt.Errorf("jail %s is disabled, so it would not start again; jail stop ends it", name)
		}
	}
	if !Serving(opt) {
		return fmt.Errorf("jail %s would not start again, since jail-init serve does not run", name)
	}
	if err := Stop(opt, name, grace); err != nil && !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	return Wake(opt, name)
}
