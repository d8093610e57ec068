package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// door is a way from ssh into a session; it is also the host's name in the
// client's configuration.
type door string

const (
	plain  door = "plain"  // no jail: sshd, chroot, the user's shell. The oracle.
	forced door = "forced" // ForceCommand, keys through jail-keys
	login  door = "login"  // jail-enter as nothing but the login shell
	// shipped is forced by the block for sshd that is installed, as it is; the other
	// one allows certificates and TCP forwarding.
	shipped door = "shipped"
)

var (
	jailDoors = []door{forced, login}
	allDoors  = []door{plain, forced, login}
)

// user is the login to name to sshd.
func (d door) user(a account) string {
	if d == plain {
		return a.name
	}
	return a.login
}

// root is where the Debian tree behind the door is seen on the host.
func (d door) root() string {
	if d == plain {
		return oracleRoot
	}
	return debianRoot
}

const sshdCommon = `
HostKey ` + sshDir + `/host_key
PidFile none
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
PrintLastLog no
UseDNS no
MaxSessions 1000
AcceptEnv LANG LC_* GIT_PROTOCOL COLORTERM E2E_*
Subsystem sftp /usr/lib/openssh/sftp-server
LogLevel INFO
`

// extraKeys is an authorized_keys file of root's for the doors that do not ask
// jail-keys; it is absent but in tests of single keys.
const extraKeys = sshDir + "/extra.pub"

const sshdPlain = `
Match User %s
	ChrootDirectory ` + oracleRoot + `
	AuthorizedKeysFile ` + sshDir + `/id.pub ` + extraKeys + `
`

// sshdForced is the block the manual recommends, for certificates as well.
const sshdForced = `
Match User %s
	ForceCommand exec ` + enterPath + ` --forced
	AuthorizedKeysFile none
	AuthorizedKeysCommand ` + keysPath + ` --forced -- %%u %%t %%k
	AuthorizedKeysCommandUser root
	AuthorizedPrincipalsFile none
	ExposeAuthInfo yes
	PermitUserRC no
	X11Forwarding no
	AllowStreamLocalForwarding no
	PermitTunnel no
	AllowAgentForwarding no
	AllowTcpForwarding yes
	GatewayPorts no
	HostbasedAuthentication no
`

const sshdLogin = `
Match User %s
	AuthorizedKeysFile ` + sshDir + `/id.pub ` + extraKeys + `
	ExposeAuthInfo yes
	PermitUserRC no
	X11Forwarding no
`

// shippedBlock is the file that make install puts into doc/jail/examples.
const shippedBlock = "../config/examples/sshd_config.d/50-jail.conf"

// keysInside reports whether the keys of a login are those in its jail.
func (d door) keysInside() bool { return d == forced || d == shipped }

func sshdConfig(d door) string { return sshDir + "/sshd_config." + string(d) }

// writeSSHFiles makes the keys and both sides' configurations.
func writeSSHFiles(scratch string) error {
	for _, key := range []string{keyFile, sshDir + "/host_key"} {
		if err := command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key); err != nil {
			return err
		}
	}
	// For a client that knows no other.
	if err := command("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", "", "-f", sshDir+"/host_key.ecdsa"); err != nil {
		return err
	}
	var inside, outside []string
	for _, a := range debianAccounts {
		inside = append(inside, a.name)
		outside = append(outside, a.login)
	}
	for _, a := range append([]account{centos}, spares...) {
		outside = append(outside, a.login)
	}
	block := func(text string, users []string) string { return fmt.Sprintf(text, strings.Join(users, ",")) }
	hostKey, err := os.ReadFile(sshDir + "/host_key.pub")
	if err != nil {
		return err
	}
	files := map[string]string{
		sshdConfig(plain):       sshdCommon + block(sshdPlain, inside),
		sshdConfig(forced):      sshdCommon + block(sshdForced, outside),
		sshdConfig(login):       sshdCommon + block(sshdLogin, outside),
		sshdConfig(shipped):     sshdCommon + strings.ReplaceAll(contents(shippedBlock), "Match Group jailed", "Match User "+strings.Join(outside, ",")),
		sshDir + "/known_hosts": "* " + string(hostKey),
		// What jail-init check takes for the host's own.
		"/etc/ssh/sshd_config": sshdCommon + block(sshdForced, outside),
	}
	client := "IdentitiesOnly yes\nUserKnownHostsFile " + sshDir + "/known_hosts\nGlobalKnownHostsFile none\nBatchMode yes\nLogLevel ERROR\n" +
		"SendEnv LANG LC_* COLORTERM GIT_PROTOCOL\n"
	for _, d := range allDoors {
		client += fmt.Sprintf("Host %s\n\tProxyCommand %s\n", d, strings.Join(sshd(d, scratch), " "))
	}
	files[sshDir+"/config.keyless"] = client
	files[sshDir+"/config"] = "IdentityFile " + keyFile + "\n" + client
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// sshd is the command that serves one connection on its standard input.
func sshd(d door, scratch string) []string {
	args := []string{"/usr/sbin/sshd", "-i", "-f", sshdConfig(d), "-E", filepath.Join(scratch, "logs", "sshd."+string(d)+".log")}
	if d == plain {
		args = append([]string{"nsenter", "--mount=" + filepath.Join(scratch, oracleNS)}, args...)
	}
	return args
}

// variant is the command for an sshd whose configuration differs from the door's
// in one line of its Match block, which is replaced, or comes in addition if it
// is the first word.
func variant(t testing.TB, d door, lines ...string) []string {
	t.Helper()
	text, err := os.ReadFile(sshdConfig(d))
	require.NoError(t, err)
	head, block, ok := strings.Cut(string(text), "\nMatch ")
	require.True(t, ok)
	who, rest, _ := strings.Cut(block, "\n")
	// The first value counts (sshd_config(5)).
	path := filepath.Join(t.TempDir(), "sshd_config")
	require.NoError(t, os.WriteFile(path, []byte(head+"\nMatch "+who+"\n\t"+strings.Join(lines, "\n\t")+"\n"+rest), 0o600))
	argv := sshd(d, world.scratch)
	for i, a := range argv {
		if a == sshdConfig(d) {
			argv[i] = path
		}
	}
	return argv
}

// clientOf is an ssh to such an sshd, on a connection of its own.
func clientOf(server []string, d door, as account, args ...string) *exec.Cmd {
	options := []string{"-F", sshDir + "/config", "-l", d.user(as), "-o", "ProxyCommand=" + strings.Join(server, " ")}
	return exec.Command("ssh", append(options, args...)...)
}

// bring gives a tree programs of the machine's that it lacks. Each comes with its
// libraries and its dynamic linker, for the tree may have an older Debian's.
func bring(t testing.TB, root string, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(root, "usr/bin", name)); err == nil {
			continue
		}
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		out, err := exec.Command("ldd", path).Output()
		require.NoError(t, err)
		dir := "/usr/local/lib/" + name
		inside := filepath.Join(root, dir)
		require.NoError(t, os.Mkdir(inside, 0o755))
		t.Cleanup(func() { os.RemoveAll(inside) })
		linker := ""
		for _, word := range append(strings.Fields(string(out)), path) {
			if !strings.HasPrefix(word, "/") {
				continue
			}
			if strings.HasPrefix(filepath.Base(word), "ld-linux") {
				linker = filepath.Join(dir, filepath.Base(word))
			}
			require.NoError(t, command("cp", "-L", word, inside))
		}
		start := filepath.Join(root, "usr/bin", name)
		require.NoError(t, os.WriteFile(start, fmt.Appendf(nil, "#!/bin/sh\nexec %s --library-path %s %[2]s/%s \"$@\"\n", linker, dir, name), 0o755))
		t.Cleanup(func() { os.Remove(start) })
	}
}

// ask is a request for one session.
type ask struct {
	as    account // the zero value is work
	cmd   string
	shell bool // a shell, not a command
	stdin string
	env   []string  // NAME=VALUE, sent by the client
	tty   *terminal // asks for one
	wire  bool      // by the Go client: signals are told apart, nothing is interpreted on the way
}

// terminal is what a client says of its terminal.
type terminal struct {
	term       string
	rows, cols int
	modes      ssh.TerminalModes
}

// result is what a client learns of a session.
type result struct {
	stdout, stderr string
	status         int    // -1 after death by signal, seen by the Go client
	signal         string // known to the Go client only
}

func (a ask) account() account {
	if a.as.login == "" {
		return work
	}
	return a.as
}

// run holds one session and returns its result.
func run(t testing.TB, d door, a ask) result {
	t.Helper()
	if a.wire {
		return runWire(t, d, a)
	}
	return runSSH(t, d, a)
}

// sshArgs are the arguments of ssh up to the command: multiplexed over a
// standing connection if there is one for that door and login.
func sshArgs(d door, as account, options ...string) []string {
	args := []string{"-F", sshDir + "/config", "-l", d.user(as)}
	if path := world.master(d, as); path != "" {
		args = append(args, "-S", path)
	}
	return append(append(args, options...), "--", string(d))
}

func runSSH(t testing.TB, d door, a ask) result {
	t.Helper()
	var options []string
	environment := append([]string{"PATH=" + os.Getenv("PATH")}, a.env...)
	if a.tty != nil {
		options = append(options, "-tt")
		environment = append(environment, "TERM="+a.tty.term)
	}
	args := sshArgs(d, a.account(), options...)
	if !a.shell {
		args = append(args, a.cmd)
	}
	cmd := exec.Command("ssh", args...)
	cmd.Env = environment
	return runCommand(t, cmd, strings.NewReader(a.stdin))
}

// runCommand runs a client program to its end, and kills it if that does not
// come.
func runCommand(t testing.TB, cmd *exec.Cmd, stdin io.Reader) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	cmd.WaitDelay = deadline
	require.NoError(t, cmd.Start(), "%v", cmd.Args)
	guard := time.AfterFunc(2*deadline, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	guard.Stop()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
	case errors.Is(err, syscall.EPIPE): // the session did not want all of stdin
	case err != nil:
		t.Fatalf("%s: %v\nstdout: %.500q\nstderr: %.500q", strings.Join(cmd.Args, " "), err, stdout.String(), stderr.String())
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}
}

func runWire(t testing.TB, d door, a ask) result {
	t.Helper()
	l := open(t, d, a)
	go func() {
		io.WriteString(l.in, a.stdin) // ends early if the session does
		l.in.Close()
	}()
	return l.wait()
}

// live is a session of the Go client that a test talks with.
type live struct {
	dialogue
	session *ssh.Session
	stderr  lockedBuffer
	ended   chan error
	read    *sync.WaitGroup
}

// open starts a session and returns while it runs. What it says on standard
// output can be read with expect, or all at once with wait.
func open(t testing.TB, d door, a ask) *live {
	t.Helper()
	l := start(t, d, a)
	l.listen()
	return l
}

// start is open without a reader: output piles up in the channel's window
// until listen is called.
func start(t testing.TB, d door, a ask) *live {
	t.Helper()
	session, err := world.client(t, d, a.account()).NewSession()
	require.NoError(t, err, "session through %s", d)
	for _, entry := range a.env {
		name, value, _ := strings.Cut(entry, "=")
		// sshd refuses what AcceptEnv does not list; the session goes on.
		_ = session.Setenv(name, value)
	}
	if a.tty != nil {
		require.NoError(t, session.RequestPty(a.tty.term, a.tty.rows, a.tty.cols, a.tty.modes))
	}
	l := &live{session: session, ended: make(chan error, 1), read: new(sync.WaitGroup)}
	l.t = t
	l.in, err = session.StdinPipe()
	require.NoError(t, err)
	l.source, err = session.StdoutPipe()
	require.NoError(t, err)
	stderr, err := session.StderrPipe()
	require.NoError(t, err)
	l.read.Go(func() { io.Copy(&l.stderr, stderr) })
	if a.shell {
		err = session.Shell()
	} else {
		err = session.Start(a.cmd)
	}
	require.NoError(t, err, "request through %s", d)
	go func() { l.ended <- session.Wait() }()
	t.Cleanup(func() { session.Close() })
	return l
}

func (l *live) listen() { l.read.Go(l.dialogue.listen) }

// wait returns the result once the channel is closed.
func (l *live) wait() result {
	l.t.Helper()
	var r result
	select {
	case err := <-l.ended:
		var exit *ssh.ExitError
		switch {
		case errors.As(err, &exit) && exit.Signal() != "":
			r.status, r.signal = -1, exit.Signal()
		case errors.As(err, &exit):
			r.status = exit.ExitStatus()
		case err != nil:
			l.t.Fatalf("session ended without a status: %v\nstdout: %.500q\nstderr: %.500q", err, l.heard(), l.stderr.String())
		}
	case <-time.After(2 * deadline):
		l.t.Fatalf("session still open after %v\nstdout: %.500q\nstderr: %.500q", 2*deadline, l.heard(), l.stderr.String())
	}
	l.read.Wait()
	r.stdout, r.stderr = l.heard(), l.stderr.String()
	return r
}

// resize tells the session of a new window size.
func (l *live) resize(rows, cols int) {
	l.t.Helper()
	require.NoError(l.t, l.session.WindowChange(rows, cols))
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// dial makes a connection of the Go client to an sshd of its own and returns
// it with the process.
func dial(d door, as account, scratch string) (*ssh.Client, *exec.Cmd, error) {
	return dialThrough(sshd(d, scratch), d, as)
}

// dialThrough is dial with an sshd that is started by argv.
func dialThrough(argv []string, d door, as account) (*ssh.Client, *exec.Cmd, error) {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "client"), os.NewFile(uintptr(fds[1]), "sshd")
	defer ours.Close()
	defer theirs.Close()
	server := exec.Command(argv[0], argv[1:]...)
	server.Env = []string{"PATH=" + os.Getenv("PATH")}
	server.Stdin, server.Stdout = theirs, theirs
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	config := &ssh.ClientConfig{
		User:            d.user(as),
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // a socket pair cannot be intercepted
		Timeout:         deadline,
	}
	c, channels, requests, err := ssh.NewClientConn(conn, string(d), config)
	if err != nil {
		conn.Close()
		ours.Close()
		server.Wait()
		return nil, nil, fmt.Errorf("%s as %s: %w", d, config.User, err)
	}
	return ssh.NewClient(c, channels, requests), server, nil
}

// sortedLines is for output whose order nobody promises.
func sortedLines(s string) []string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	sort.Strings(lines)
	return lines
}
