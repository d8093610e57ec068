package inforce

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"jail/internal/jail"
	"jail/internal/rootpath"
)

// A jail or a login may be disabled for a while, without a change of the registry: by a
// file in the directory "disabled" beside it, which has what its users are told.

// maxMessage bounds what they are told, in bytes.
const maxMessage = 400

// DefaultMessage is what they are told where the administrator says nothing.
const DefaultMessage = "closed for maintenance; try again later"

// Disabled are the jails and logins that are disabled, and what their users are told.
type Disabled struct{ Jails, Logins map[string]string }

// Of returns whether a login of a jail is disabled, and what it is told. Its own message
// comes before the jail's.
func (d *Disabled) Of(jail, login string) (message string, ok bool) {
	if m, ok := d.Logins[login]; ok {
		return m, true
	}
	m, ok := d.Jails[jail]
	return m, ok
}

const (
	jailPrefix  = "jail."
	loginPrefix = "login."
)

func disabledDir(path string) string { return filepath.Join(filepath.Dir(path), "disabled") }

func disabledFile(path, name string, login bool) string {
	if login {
		return filepath.Join(disabledDir(path), loginPrefix+name)
	}
	return filepath.Join(disabledDir(path), jailPrefix+name)
}

// ReadDisabled reads what is disabled beside the registry at path. What cannot be read of a
// message does not enable anybody: he is told the default. An error is of the whole directory,
// and then it is not known who is disabled.
func ReadDisabled(path string) (Disabled, error) {
	d := Disabled{Jails: map[string]string{}, Logins: map[string]string{}}
	entries, err := os.ReadDir(disabledDir(path))
	if errors.Is(err, os.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	for _, e := range entries {
		into, name := d.Jails, ""
		if n, ok := strings.CutPrefix(e.Name(), jailPrefix); ok {
			name = n
		} else if n, ok := strings.CutPrefix(e.Name(), loginPrefix); ok {
			into, name = d.Logins, n
		}
		if jail.ValidName(name) {
			into[name] = readMessage(filepath.Join(disabledDir(path), e.Name()), e.Type())
		}
	}
	return d, nil
}

func readMessage(file string, typ os.FileMode) string {
	if !typ.IsRegular() { // a FIFO would keep us
		return DefaultMessage
	}
	f, err := os.Open(file)
	if err != nil {
		return DefaultMessage
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxMessage))
	if m := Message(string(text)); m != "" {
		return m
	}
	return DefaultMessage
}

// Message is a message as a user's terminal gets it: one line, without control characters, of
// maxMessage bytes at most.
func Message(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), maxMessage)], "")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7F && r < 0xA0 {
			return ' '
		}
		return r
	}, text))
}

// Disable disables a jail, or a login, from the next reading of the registry at path on.
func Disable(path, name string, login bool, message string) error {
	if !jail.ValidName(name) {
		return fmt.Errorf("%.40q is no name", name)
	}
	if err := rootpath.MakePublic(disabledDir(path)); err != nil {
		return err
	}
	file := disabledFile(path, name, login)
	next := half(file)
	err := os.WriteFile(next, []byte(Message(message)+"\n"), 0o644)
	if err == nil {
		err = os.Rename(next, file)
	}
	if err != nil {
		os.Remove(next)
	}
	return err
}

// half is what a file is called until it is whole.
func half(file string) string { return filepath.Join(filepath.Dir(file), "."+filepath.Base(file)) }

// Enable takes that back. was is that it was disabled.
func Enable(path, name string, login bool) (was bool, err error) {
	if !jail.ValidName(name) {
		return false, fmt.Errorf("%.40q is no name", name)
	}
	file := disabledFile(path, name, login)
	os.Remove(half(file)) // of a Disable that was killed
	if err = os.Remove(file); err == nil {
		was = true
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	os.Remove(disabledDir(path)) // if it was the last
	return was, err
}
