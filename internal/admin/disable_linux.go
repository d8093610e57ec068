package admin

import (
	"errors"
	"fmt"

	"jail/config"
	"jail/internal/inforce"
)

// Disable keeps new sessions out of a jail, or keeps a login out: its users are told the message.
// Sessions go on. asLogin says that name is a login where it is the name of a jail as well.
func Disable(opt Options, name, message string, asLogin bool) error {
	login, err := whatIs(opt, name, asLogin)
	if err != nil {
		return err
	}
	if err := inforce.Disable(opt.ConfigPath, name, login, message); err != nil {
		return err
	}
	if err := tell(opt); err != nil {
		return err
	}
	if login {
		fmt.Fprintf(opt.Stdout, "login %s is disabled; its sessions go on\n", name)
		return nil
	}
	fmt.Fprintf(opt.Stdout, "jail %s is disabled; its sessions go on, and jail stop %s ends them\n", name, name)
	return nil
}

// Enable takes Disable back.
func Enable(opt Options, name string, asLogin bool) error {
	// Not by the registry: what is disabled may be out of it by now.
	d, err := inforce.ReadDisabled(opt.ConfigPath)
	if err != nil {
		return err
	}
	_, login := d.Logins[name]
	_, jail := d.Jails[name]
	switch {
	case login && jail && !asLogin:
		login = false
	case !login && !jail:
		if _, err := whatIs(opt, name, asLogin); err != nil {
			return err
		}
		return fmt.Errorf("%s is not disabled", name)
	case asLogin && !login:
		return fmt.Errorf("login %s is not disabled; the jail of that name is", name)
	}
	if _, err := inforce.Enable(opt.ConfigPath, name, login); err != nil {
		return err
	}
	if err := tell(opt); err != nil {
		return err
	}
	fmt.Fprintf(opt.Stdout, "%s is enabled\n", name)
	return nil
}

// tell has serve know of it.
func tell(opt Options) error {
	if !Serving(opt) {
		return errors.New("jail-init serve does not run; it is so when serve starts (jails that jail-init run keeps are not concerned)")
	}
	status, err := Reload(opt)
	if err == nil && status == 1 {
		err = errors.New("nothing of the registry as it is now is taken, but it is so when it is: jail check")
	}
	return err
}

// whatIs reports whether name is a login rather than a jail.
func whatIs(opt Options, name string, asLogin bool) (login bool, err error) {
	reg, err := config.Load(opt.ConfigPath, config.Options{Rootless: opt.Rootless, RuntimeDir: opt.RuntimeDir, SkipPlaces: true})
	if err != nil {
		return false, err
	}
	isJail := reg.Jail(name) != nil
	_, in := reg.Login(name)
	for i := range reg.Faults {
		isJail = isJail || reg.Faults[i].Jail == name
	}
	isLogin := in != nil || len(reg.LoginFaults(name)) > 0
	switch {
	case isLogin && (asLogin || !isJail):
		return true, nil
	case isJail && !asLogin:
		return false, nil
	case asLogin:
		return false, fmt.Errorf("the registry has no login %.40q", name)
	}
	return false, fmt.Errorf("the registry has neither a jail nor a login %.40q", name)
}

// StartsAgain reports whether a login would start a jail that has just ended.
func StartsAgain(opt Options, name string) bool {
	spec, err := find(opt, name)
	if err != nil || spec == nil || !Serving(opt) {
		return false
	}
	d, err := inforce.ReadDisabled(opt.ConfigPath)
	_, disabled := d.Jails[name]
	return err == nil && !disabled
}
