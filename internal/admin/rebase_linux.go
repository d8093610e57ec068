package admin

import (
	"errors"
	"fmt"
	"time"

	"jail/config"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/source"
)

// Rebase has a jail whose files differ from an image begin anew with the one that the
// registry says.
func Rebase(opt Options, name string) error {
	var from, to string
	var discard func() error
	err := hold(opt, name, func(spec *jail.Spec) (err error) {
		from, to, discard, err = source.Rebase(spec)
		return err
	})
	if err != nil {
		if discard != nil {
			err = errors.Join(err, discard())
		}
		return err
	}
	fmt.Fprintf(opt.Stdout, "jail %s begins anew with %s at its next start; /home stays, and the rest, on %s, is there for jail rollback %s\n", name, to, from, name)
	return discard()
}

// Rollback takes back a Rebase.
func Rollback(opt Options, name string) error {
	var to string
	err := hold(opt, name, func(spec *jail.Spec) (err error) {
		_, to, err = source.Rollback(spec)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(opt.Stdout, "jail %s is on %s again from its next start on; jail rollback %s takes that back\n", name, to, name)
	return nil
}

// hold calls f with what the registry says now of a jail, which does not run meanwhile.
func hold(opt Options, name string, f func(spec *jail.Spec) error) error {
	reg, err := config.Load(opt.ConfigPath, config.Options{Rootless: opt.Rootless, RuntimeDir: opt.RuntimeDir, SkipPlaces: true})
	if err != nil {
		return err
	}
	spec := reg.Jail(name)
	if spec == nil {
		return noSuch(opt, name)
	}
	err = launch.Hold(spec, func() error { return f(spec) })
	if errors.Is(err, launch.ErrBusy) {
		return fmt.Errorf("jail %s runs; end it first (jail stop %s)", name, name)
	}
	return err
}

// standingOn is what plan says of the image that a jail is on, "" if nothing.
func standingOn(spec *jail.Spec) string {
	said := make(chan string, 1)
	go func() {
		on, current := source.Standing(spec)
		switch {
		case on == "":
			said <- ""
		case current == on || current == "":
			said <- "its files differ from " + on
		default:
			said <- "its files differ from " + on + ", on which it stays; jail rebase " + spec.Name + " begins anew with " + current
		}
	}()
	select {
	case s := <-said:
		return s
	case <-time.After(time.Second):
		return "the file system of its state does not answer"
	}
}
