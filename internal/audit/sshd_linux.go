package audit

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"
)

var errSlow = errors.New("no answer in time")

// findSSHD returns the path of sshd, "" if there is none.
func (a *auditor) findSSHD() string {
	if a.opt.SSHD != "" {
		return a.opt.SSHD
	}
	for _, p := range []string{"/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"} {
		if t := walk(a.files, p); t.err == nil {
			return a.opt.Root + p
		}
	}
	return ""
}

// runSSHD runs sshd to have it say something about itself.
func runSSHD(sshd string, args ...string) (stdout, stderr string, err error) {
	// A Match exec may run anything.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, sshd, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if ctx.Err() != nil {
		err = errSlow
	}
	return out.String(), errs.String(), err
}

// effective asks sshd what it would do for a login.
func (a *auditor) effective(user string) (string, error) {
	sshd := a.findSSHD()
	if sshd == "" {
		return "", ErrNotInstalled
	}
	args := []string{"-T", "-C", connection(user)}
	if a.opt.SSHDConfig != "" {
		args = append(args, "-f", a.opt.SSHDConfig)
	}
	stdout, stderr, err := runSSHD(sshd, args...)
	switch stderr = strings.TrimSpace(stderr); {
	case err == nil || errors.Is(err, errSlow):
	case errors.Is(err, exec.ErrNotFound):
		err = ErrNotInstalled
	case stderr != "":
		err = errors.New(stderr)
	}
	return stdout, err
}

func (a *auditor) version() string {
	_, stderr, _ := runSSHD(a.findSSHD(), "-V")
	return stderr
}
