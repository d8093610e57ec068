// Package keys is the program jail-keys, sshd's AuthorizedKeysCommand: it
// prints the keys that the owner of an account inside a jail wrote into his
// authorized_keys there.
//
// It reads files that a hostile owner may be rewriting, on behalf of somebody
// who has not authenticated yet, started by root. Hence its rules:
//
//   - Keys or nothing. In doubt nothing goes to standard output, the status is
//     1, and one line in the system's log and on standard error says why. A file
//     that is not there is no doubt: nothing, status 0.
//   - No host privilege while anything below the rootfs is looked at.
//   - An answer in seconds, whatever the file turns out to be.
//   - It starts nothing, and connects to nothing but the log: a jail need not be
//     running. Only where no registry is in force, getent(1) may be asked for
//     accounts that are in no file.
package keys

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"jail/config"
	"jail/internal/authkeys"
	"jail/internal/jail"
)

const usage = `usage: jail-keys [--config PATH] [--runtime-dir DIR] [--forced] [--] USER [TYPE KEY]

Prints the authorized keys of host login USER, read from inside its jail; with
the TYPE and base64 KEY a client offers, only the lines for that key. --forced
says that sshd has a ForceCommand for USER; certificates with a force-command
are refused without it. For sshd_config(5):

    AuthorizedKeysCommand /usr/lib/jail/jail-keys -- %u %t %k
    AuthorizedKeysCommandUser root
`

const (
	// deadline is when an unfinished run reports and gives up; finalDeadline
	// is when it ends even if standard error is what keeps it. It is for what hangs,
	// and must not be met by what is slow: who keeps the processors or the disk of this
	// machine busy would shut everybody out. sshd holds up nobody else meanwhile, and
	// has LoginGraceTime, two minutes, for all of a login.
	deadline      = 10 * time.Second
	finalDeadline = 11 * time.Second
)

// Run is the program. args[0] is its name.
func Run(args []string) int {
	report := newReport()
	// The only exits besides main's: a system call that hangs (a dead file
	// server, a reader that does not read) cannot be made to return.
	defer time.AfterFunc(finalDeadline, func() { os.Exit(1) }).Stop()
	defer time.AfterFunc(deadline, func() {
		report.say(warning, "no answer in time")
		os.Exit(1)
	}).Stop()

	out, note, err := run(args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(os.Stderr, usage)
		return 0
	case err != nil:
		report.say(warning, err.Error())
		return 1
	}
	if note != "" {
		report.say(notice, note)
	}
	if len(out) > 0 {
		// One write; sshd denies every key when the status is not 0, so half
		// an output counts for nothing.
		if _, err := os.Stdout.Write(out); err != nil {
			report.say(warning, err.Error())
			return 1
		}
	}
	return 0
}

// run returns the lines to print, and a note for the administrator although
// all is well.
func run(args []string) (out []byte, note string, err error) {
	req, err := parseArgs(args)
	if err != nil {
		return nil, "", err
	}
	spec, login, err := find(req)
	if err != nil {
		return nil, "", err
	}
	if login == nil {
		return nil, "", nil // an account of the host without a jail
	}
	if line := proofLine(req); line != nil {
		return line, "", nil
	}
	text, err := readKeys(spec, login)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", req.user, err)
	}
	out, note = choose(text, req.offer, req.forced)
	if note != "" {
		note = req.user + ": " + note
	}
	return out, note, nil
}

// request is the command line.
type request struct {
	config     string
	runtimeDir string
	user       string
	offer      *authkeys.Offer // nil: all keys
	forced     bool            // sshd has a ForceCommand for this login
}

var errUsage = errors.New("bad arguments, try --help")

// parseArgs takes options before USER only. Exactly one or three words must be
// left, so that a login name that looks like an option fails instead of making
// the key's type the login name.
func parseArgs(args []string) (request, error) {
	var req request
	flags := flag.NewFlagSet("jail-keys", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&req.config, "config", config.DefaultPath, "")
	flags.StringVar(&req.runtimeDir, "runtime-dir", "", "")
	flags.BoolVar(&req.forced, "forced", false, "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return req, err
		}
		return req, errUsage
	}
	words := flags.Args()
	if len(words) != 1 && len(words) != 3 {
		return req, errUsage
	}
	req.user = words[0]
	if !jail.ValidName(req.user) {
		return req, fmt.Errorf("%s is not a login name", quoted(req.user))
	}
	if len(words) == 3 {
		offer, err := authkeys.ParseOffer(words[1], words[2])
		if err != nil && !errors.Is(err, authkeys.ErrType) {
			return req, fmt.Errorf("offered key: %w", err)
		}
		// A type we do not know (a newer sshd) matches no line we print.
		req.offer = &offer
	}
	return req, nil
}

// ownConfig reports whether path is in the configuration directory of an
// ordinary user who runs us.
func ownConfig(path string) bool {
	if os.Geteuid() == 0 {
		return false
	}
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := os.Getenv("HOME")
		if home == "" {
			return false
		}
		dir = filepath.Join(home, ".config")
	}
	path, err := filepath.Abs(path)
	return err == nil && filepath.IsAbs(dir) && strings.HasPrefix(path, filepath.Clean(dir)+"/")
}
