package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"jail/internal/jail"
)

// commandWithin is how long a command of the host may take. useradd(8) waits for the
// account files' locks for fifteen seconds.
const commandWithin = 60 * time.Second

// places are where commands of the host are; nobody's PATH has a say.
var places = []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}

var errNoCommand = errors.New("is not installed")

// lookUp returns the path of a command of the host.
func lookUp(name string) (string, error) {
	for _, d := range places {
		p := filepath.Join(d, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s %w", name, errNoCommand)
}

// command runs a command of the host to its end and returns what it prints. Its error is one
// line. It is in a process group of its own: ^C is ours to answer, when it is done.
func command(stdin, name string, args ...string) (string, error) {
	path, err := lookUp(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if ctx.Err() != nil {
		err = errors.New("no answer in time")
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s: %w%s", name, err, said(errs.String()))
	}
	return out.String(), nil
}

// sshd runs sshd for what it says of its configuration. One that is started for each connection has no
// directory to change its root to until somebody has connected, and says nothing without: it is made, as
// the unit does.
func sshd(args ...string) (string, error) {
	out, err := command("", "sshd", args...)
	if err != nil && strings.Contains(err.Error(), "Missing privilege separation directory: "+privsepDir) {
		if err := os.Mkdir(privsepDir, 0o755); err == nil {
			return command("", "sshd", args...)
		}
	}
	return out, err
}

const privsepDir = "/run/sshd"

// said is the last line of what a command has printed, in parentheses.
func said(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if last == "" {
		return ""
	}
	text = fmt.Sprintf(" (%.300s)", strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // C1 and what turns text round among it
			return ' '
		}
		return r
	}, last))
	if strings.HasSuffix(last, ": Connection refused") { // of ssh
		text += ": sshd does not run, systemctl start ssh"
	}
	return text
}

// addAccount makes the account of a login. No subordinate ids: nobody needs them, and they
// would take the ranges that jails get.
func addAccount(l *Login) error {
	_, err := command("", "useradd", "-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0", "-U", "-G", Group, "-M", "-p", "*",
		"-d", jail.EmptyHome, "-s", l.Shell, "-u", fmt.Sprint(l.HostUID), "-c", "jail "+l.Jail, "--", l.Login)
	return err
}

// account returns the fields of an account in /etc/passwd, nil if there is none.
func account(login string) ([]string, error) {
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); f[0] == login && len(f) == 7 {
			return f, nil
		}
	}
	return nil, nil
}

// dropAccount takes the account of a login away, if it is the one that the plan means.
func dropAccount(l *Login) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		f, err := account(l.Login)
		if err != nil || f == nil {
			return err
		}
		if f[2] != fmt.Sprint(l.HostUID) || f[6] != l.Shell {
			return fmt.Errorf("account %s is not as it was made (uid %s, shell %s): it stays", l.Login, f[2], f[6])
		}
		// Its last processes may only just be ending.
		endProcesses(uint32(l.HostUID))
		if _, err = command("", "userdel", "--", l.Login); err == nil || time.Now().After(end) {
			return err
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 8 { // userdel(8): the user is logged in
			return err
		}
	}
}
