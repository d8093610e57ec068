package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/control"
	"jail/internal/jail"
	"jail/internal/keys"
	"jail/internal/tty"
	"jail/internal/wire"
)

// Doctor logs in as a user does, over the loopback address to the sshd that runs, and tries what
// a user does. It does so by a key that it makes, which jail-keys and PID 1 take for as long as
// it runs (keys.WriteProof, wire.Proof): nothing is written in the jail, and nothing is left.

// stepWithin is how long one thing may take that is tried; the first of them may have to wait
// for the jail to start.
const stepWithin = 20 * time.Second

// Tried is what came of one step.
type Tried struct {
	Step    string        `json:"step"`
	Outcome string        `json:"outcome"` // "ok", "off", "left out" or "failed"
	Note    string        `json:"note,omitempty"`
	Took    time.Duration `json:"took_ns"`
}

// The values of Outcome. Off is what the registry or sshd do not allow, and is not there.
const (
	TriedOK      = "ok"
	TriedOff     = "off"
	TriedLeftOut = "left out" // the jail has no program for it
	TriedFailed  = "failed"
)

// Examination is what came of one login.
type Examination struct {
	Login string  `json:"login"`
	Jail  string  `json:"jail"`
	Tried []Tried `json:"tried"`
	// Err is why nothing, or nothing more, was tried; "" if all was.
	Err string `json:"error,omitempty"`
}

// Well reports whether everything works that is allowed.
func (e *Examination) Well() bool {
	for _, t := range e.Tried {
		if t.Outcome == TriedFailed {
			return false
		}
	}
	return e.Err == ""
}

// doctor is one run for one login.
type doctor struct {
	ctx             context.Context
	spec            *jail.Spec
	login           string
	dir             string // a directory of root's, which is removed
	key, host, port string
	says            sshdSays
	tell            func(Tried)
	exam            *Examination
}

// Doctor examines one login. wake starts its jail, if it is stopped, as a login would. tell is
// called with each step as it has been tried. It comes back when ctx ends.
func Doctor(ctx context.Context, o Options, spec *jail.Spec, lg *jail.Login, wake func(jail string) error, tell func(Tried)) *Examination {
	d := &doctor{ctx: ctx, spec: spec, login: lg.Name, tell: tell, exam: &Examination{Login: lg.Name, Jail: spec.Name}}
	if err := d.run(&o, lg, wake); err != nil {
		d.exam.Err = err.Error()
	}
	return d.exam
}

// makeDoctorDir makes a directory for what a doctor needs. Those of doctors that were killed go.
func makeDoctorDir(in string) (string, error) {
	const begin = ".jail-doctor-"
	left, _ := filepath.Glob(filepath.Join(in, begin+"*"))
	for _, dir := range left {
		of, _, _ := strings.Cut(filepath.Base(dir)[len(begin):], "-")
		if pid, err := strconv.Atoi(of); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = os.RemoveAll(dir)
		}
	}
	return os.MkdirTemp(in, begin+strconv.Itoa(os.Getpid())+"-")
}

func (d *doctor) run(o *Options, lg *jail.Login, wake func(string) error) error {
	var err error
	if d.says, err = askSSHD(d.login); err != nil {
		return err
	}
	if err := d.says.sends(); err != nil {
		return err
	}
	for _, program := range []string{"ssh", "ssh-keygen", "sftp", "scp"} {
		if _, err := lookUp(program); err != nil {
			return fmt.Errorf("%w (Debian: apt-get install openssh-client)", err)
		}
	}
	d.host, d.port = d.says.address()
	// In memory, and with the machine's own runtime data, where it is gone after a boot.
	if d.dir, err = makeDoctorDir("/run"); err != nil {
		return err
	}
	defer os.RemoveAll(d.dir)
	d.key = filepath.Join(d.dir, "key")
	if _, err := command("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "jail-doctor", "-f", d.key); err != nil {
		return err
	}
	public, err := os.ReadFile(d.key + ".pub")
	if err != nil {
		return err
	}
	f := strings.Fields(string(public))
	if len(f) < 2 {
		return errors.New("ssh-keygen has made no key")
	}
	key := f[0] + " " + f[1]
	remove, err := keys.WriteProof(o.RuntimeDir, d.login, key, []string{"127.0.0.1", "::1", d.host})
	if err != nil {
		return err
	}
	defer remove()

	start := time.Now()
	if err := wake(d.spec.Name); err != nil {
		return err
	}
	d.note(Tried{"jail runs", TriedOK, "", time.Since(start)})
	conn, err := tellOf(o.RuntimeDir, d.spec.Name, &wire.Proof{HostUID: uint32(lg.HostUID), Key: key, Millis: wire.MaxProofMillis})
	if err != nil {
		return err
	}
	defer conn.Close() // and the key counts no more
	return d.examine()
}

// tellOf tells PID 1 of the key.
func tellOf(runtimeDir, name string, p *wire.Proof) (*control.Conn, error) {
	c, err := control.Open(runtimeDir, name, false)
	if err != nil {
		return nil, err
	}
	err = c.Send(wire.AppendProof(nil, p), nil)
	if err == nil {
		var typ wire.Type
		if typ, _, err = c.Recv(3000); err == nil && typ != wire.TypeStatus {
			err = wire.ErrMalformed
		}
	}
	if err != nil {
		c.Close()
		if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			return nil, fmt.Errorf("the first process of jail %s is of before the last installation and knows no doctor: jail stop %s", name, name)
		}
		return nil, fmt.Errorf("jail %s: %w", name, err)
	}
	return c, nil
}

func (d *doctor) note(t Tried) {
	d.exam.Tried = append(d.exam.Tried, t)
	d.tell(t)
}

// errLeftOut says that the jail has no program for a step; errOff, that it is not allowed and
// does not work.
var (
	errLeftOut = errors.New("left out")
	errOff     = errors.New("off")
)

// try runs a step. It reports whether what comes after it can be tried.
func (d *doctor) try(step string, do func() error) bool {
	if d.ctx.Err() != nil {
		return false
	}
	start := time.Now()
	err := do()
	t := Tried{Step: step, Outcome: TriedOK, Took: time.Since(start)}
	switch {
	case d.ctx.Err() != nil:
		return false
	case errors.Is(err, errLeftOut):
		t.Outcome, t.Note = TriedLeftOut, strings.TrimPrefix(err.Error(), "left out: ")
	case errors.Is(err, errOff):
		t.Outcome, t.Note = TriedOff, strings.TrimPrefix(err.Error(), "off: ")
	case err != nil:
		t.Outcome, t.Note = TriedFailed, err.Error()
	}
	d.note(t)
	return t.Outcome != TriedFailed
}

// examine tries everything.
func (d *doctor) examine() error {
	if d.try("login", d.tryLogin) {
		d.try("shell", d.tryShell)
		d.try("exit status", d.tryStatus)
		d.try("signal", d.trySignal)
		d.try("data both ways", d.tryData)
		d.try("terminal, resize", d.tryTerminal)
		d.try("sftp", d.trySFTP)
		d.try("scp", d.trySCP)
		d.try("agent", d.tryAgent)
		d.try("forward to the host", d.tryForward)
	}
	if d.ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return nil
}

// options are those of every ssh, sftp and scp.
func (d *doctor) options(more ...string) []string {
	return append([]string{"-F", "none", "-i", d.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "ConnectTimeout=10", "-o", "ConnectionAttempts=3", "-o", "LogLevel=ERROR"}, more...)
}

// ran is what a program has come to.
type ran struct {
	stdout, stderr string
	status         int // -1: it was ended
}

// client runs ssh or a friend of its. No standard input reads the empty one.
func (d *doctor) client(program string, stdin io.Reader, env []string, args ...string) (ran, error) {
	path, err := lookUp(program)
	if err != nil {
		return ran{}, err
	}
	ctx, cancel := context.WithTimeout(d.ctx, stepWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TERM=xterm"}, env...)
	cmd.Dir, cmd.WaitDelay, cmd.Stdin = d.dir, time.Second, stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out, errs limited
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	r := ran{out.text.String(), errs.text.String(), cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		return r, fmt.Errorf("no answer in %v%s", stepWithin, said(r.stderr))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, err
	}
	return r, nil
}

// ssh runs a command. first are options that come before others, of which the first counts.
func (d *doctor) ssh(stdin io.Reader, remote string, first ...string) (ran, error) {
	return d.client("ssh", stdin, nil, append(first, d.options("-T", "-p", d.port, "--", d.login+"@"+d.host, remote)...)...)
}

func (r *ran) failure(what string) error {
	return fmt.Errorf("%s: status %d%s", what, r.status, said(r.stderr))
}

// missing reports whether a shell did not find a program.
func (r *ran) missing() bool { return r.status == 127 || strings.Contains(r.stderr, "not found") }

func token() string {
	var random [8]byte
	_, _ = rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// tryLogin runs a command, which is all that most faults keep from working.
func (d *doctor) tryLogin() error {
	want := token()
	r, err := d.ssh(nil, "echo "+want)
	switch {
	case err != nil:
		return err
	case r.status != 0:
		return r.failure("no command runs")
	case strings.TrimSpace(r.stdout) != want && strings.Contains(r.stdout, want):
		return fmt.Errorf("the shell's start files print something where there is no terminal (%.60q), which breaks scp, rsync and git", strings.Replace(r.stdout, want, "", 1))
	case !strings.Contains(r.stdout, want):
		return errors.New("the session does not say what it was told to; its shell, or what that reads at the start, keeps it from that")
	}
	return nil
}

// tryShell gives a login shell a command on its standard input.
func (d *doctor) tryShell() error {
	want := token()
	path, args := "ssh", append(d.options("-T", "-p", d.port), "--", d.login+"@"+d.host)
	r, err := d.client(path, strings.NewReader("echo "+want+"\nexit 0\n"), nil, args...)
	if err == nil && !strings.Contains(r.stdout, want) {
		err = r.failure("the login shell does not do what it is told")
	}
	return err
}

func (d *doctor) tryStatus() error {
	r, err := d.ssh(nil, "exit 37")
	if err == nil && r.status != 37 {
		err = r.failure("exit 37 arrives as something else")
	}
	return err
}

func (d *doctor) trySignal() error {
	r, err := d.ssh(nil, "kill -TERM $$; sleep 5", "-v")
	if err == nil && !strings.Contains(r.stderr, "rtype exit-signal") {
		err = fmt.Errorf("a command that is ended by a signal ends with status %d, and no signal", r.status)
	}
	return err
}

// tryData sends what is no text through a command, and back.
func (d *doctor) tryData() error {
	data := make([]byte, 32<<10)
	_, _ = rand.Read(data)
	r, err := d.ssh(bytes.NewReader(data), "cat")
	switch {
	case err != nil:
	case r.missing():
		err = fmt.Errorf("%w: there is no cat inside", errLeftOut)
	case r.status != 0 || r.stdout != string(data):
		err = r.failure(fmt.Sprintf("of %d bytes %d come back, or others", len(data), len(r.stdout)))
	}
	return err
}

// tryTerminal has ssh ask for a terminal, and changes its size.
func (d *doctor) tryTerminal() error {
	if d.says.get("permittty") == "no" {
		return fmt.Errorf("%w: sshd_config has PermitTTY no", errOff)
	}
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer m.Close()
	master := int(m.Fd())
	if err := tty.Unlock(master); err != nil {
		return err
	}
	peer, err := tty.Peer(master)
	if err != nil {
		return err
	}
	slave := os.NewFile(uintptr(peer), "terminal")
	defer slave.Close()
	if err := tty.SetWinsize(master, wire.Winsize{Rows: 31, Cols: 101}); err != nil {
		return err
	}
	path, err := lookUp("ssh")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(d.ctx, stepWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append(d.options("-tt", "-p", d.port), "--", d.login+"@"+d.host,
		"stty size; while read x; do stty size; done; echo done")...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TERM=xterm"}
	cmd.Dir, cmd.WaitDelay = d.dir, time.Second
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	slave.Close()
	var mu sync.Mutex
	var text []byte
	changed := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := m.Read(buf)
			mu.Lock()
			if len(text) < maxReply {
				text = append(text, buf[:n]...)
			}
			mu.Unlock()
			select {
			case changed <- struct{}{}:
			default:
			}
			if err != nil {
				close(changed)
				return
			}
		}
	}()
	until := func(want string, most time.Duration) bool {
		timer := time.NewTimer(most)
		defer timer.Stop()
		for {
			mu.Lock()
			have := string(text)
			mu.Unlock()
			if strings.Contains(have, want) {
				return true
			}
			select {
			case _, more := <-changed:
				if !more {
					mu.Lock()
					defer mu.Unlock()
					return strings.Contains(string(text), want)
				}
			case <-timer.C:
				return false
			case <-ctx.Done():
				return false
			}
		}
	}
	fails := func(what string) error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(string(text), "not found") {
			return fmt.Errorf("%w: there is no stty inside", errLeftOut)
		}
		return errors.New(what + said(string(text)))
	}
	if !until("31 101", stepWithin) {
		return fails("the terminal does not have the client's size")
	}
	if err := tty.SetWinsize(master, wire.Winsize{Rows: 17, Cols: 91}); err != nil {
		return err
	}
	// The size goes another way than a line, and may come after it.
	for followed := false; !followed; {
		if _, err := m.WriteString("\n"); err != nil {
			return err
		}
		if followed = until("17 91", time.Second); !followed && ctx.Err() != nil {
			return fails("the terminal does not follow the client's size")
		}
	}
	if _, err := m.WriteString("\x04"); err != nil {
		return err
	}
	if !until("done", stepWithin) {
		return fails("a session on a terminal does not go on")
	}
	return cmd.Wait()
}

// trySFTP lists a directory.
func (d *doctor) trySFTP() error {
	r, err := d.client("sftp", strings.NewReader("pwd\n"), nil, append(d.options("-q", "-b", "-", "-P", d.port), "--", d.login+"@"+d.host)...)
	return d.transfer(r, err, strings.Contains(r.stdout, "Remote working directory"))
}

// trySCP fetches a file that every jail has. How large it is the jail says, so it is kept
// nowhere: d.dir is in the host's memory.
func (d *doctor) trySCP() error {
	r, err := d.client("scp", nil, nil, append(d.options("-q", "-P", d.port), "--", d.login+"@"+d.host+":/etc/passwd", os.DevNull)...)
	return d.transfer(r, err, r.status == 0)
}

func (d *doctor) transfer(r ran, err error, did bool) error {
	off := d.spec.SFTP == wire.SFTPOff
	switch {
	case err != nil:
		return err
	case off && r.status == 0 && did:
		return errors.New(`works, although the registry has sftp = "off"`)
	case off:
		return fmt.Errorf(`%w: the registry has sftp = "off"`, errOff)
	case r.status != 0 || !did:
		return r.failure("no file is to be had")
	}
	return nil
}

// tryAgent forwards an agent, which is a socket of ours, and looks whether the session has one.
func (d *doctor) tryAgent() error {
	sock := filepath.Join(d.dir, "agent")
	l, err := net.Listen("unix", sock)
	if err != nil {
		return err
	}
	defer l.Close()
	go func() { // ssh asks it for keys itself
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	r, err := d.client("ssh", nil, []string{"SSH_AUTH_SOCK=" + sock},
		append(d.options("-T", "-A", "-o", "IdentityAgent="+sock, "-p", d.port), "--", d.login+"@"+d.host, `test -n "$SSH_AUTH_SOCK" && test -S "$SSH_AUTH_SOCK" && echo there || echo none`)...)
	if err != nil {
		return err
	}
	there := strings.TrimSpace(r.stdout) == "there"
	switch allowed := d.says.get("allowagentforwarding") != "no" && d.says.get("disableforwarding") != "yes"; {
	case there && !allowed:
		return errors.New("a session has the client's agent, although sshd_config has AllowAgentForwarding no")
	case there:
		return nil
	case !allowed:
		return fmt.Errorf("%w: sshd_config has AllowAgentForwarding no", errOff)
	case strings.TrimSpace(r.stdout) != "none":
		return r.failure("no answer")
	}
	return errors.New("sshd allows agents, and the session has none (jail check says why)")
}

// tryForward has sshd connect to a port of the loopback address, as ssh -L and -J do.
func (d *doctor) tryForward() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	want := token()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, want)
			c.Close()
		}
	}()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	r, err := d.client("ssh", nil, nil, append(d.options("-W", "127.0.0.1:"+port, "-p", d.port), "--", d.login+"@"+d.host)...)
	if err != nil {
		return err
	}
	tcp := d.says.get("allowtcpforwarding")
	allowed := (tcp == "yes" || tcp == "all" || tcp == "local") && d.says.get("disableforwarding") != "yes"
	if open := d.says.get("permitopen"); open != "any" && open != "" {
		allowed = false
	}
	switch works := strings.Contains(r.stdout, want); {
	case works && !allowed:
		return errors.New("sshd connects to the host's ports, although its configuration does not allow that")
	case works:
		return nil
	case !allowed:
		return fmt.Errorf("%w: sshd_config has AllowTcpForwarding %s", errOff, tcp)
	}
	return r.failure("sshd allows forwarding, and does not connect")
}
