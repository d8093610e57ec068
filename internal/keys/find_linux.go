package keys

import (
	"errors"
	"fmt"

	"jail/config"
	"jail/internal/inforce"
	"jail/internal/jail"
)

// find returns the login and its jail: nil for an account without one. It is what a
// landing goes by, which whoever holds the sockets has left in the runtime directory.
// Where nobody has, it is what the registry says, judged as serve would.
func find(req request) (*jail.Spec, *jail.Login, error) {
	dir := req.runtimeDir
	if dir == "" {
		dir = config.DefaultRuntimeDir
	}
	f, err := inforce.OpenLogin(dir, req.config, req.user)
	if errors.Is(err, inforce.ErrNone) {
		return parse(req)
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	spec, login, reasons, err := f.Login(req.user)
	return spec, login, refusal(req.user, reasons, err)
}

// parse reads the registry itself, places aside: another jail's missing disk is not
// this login's concern.
func parse(req request) (*jail.Spec, *jail.Login, error) {
	reg, err := config.Load(req.config, config.Options{
		Rootless:   ownConfig(req.config),
		RuntimeDir: req.runtimeDir,
		SkipPlaces: true,
		// Of the time there is; a directory that is slow does not keep those of the files.
		AccountsWithin: deadline / 2,
	})
	if err != nil {
		return nil, nil, err
	}
	spec, login := reg.Login(req.user)
	return spec, login, refusal(req.user, reg.LoginFaults(req.user), nil)
}

// refusal is why a login of the registry that is out of service has no keys.
func refusal(login string, reasons config.Errors, err error) error {
	if err == nil && len(reasons) > 0 {
		err = fmt.Errorf("%s is out of service: %w", login, reasons[0])
	}
	return err
}
