package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// world is what outlives a test: connections to sshd, which cost more than
// most sessions on them, and the last serve, which the next test goes on with
// if it wants the same registry.
var world *standing

type standing struct {
	mu      sync.Mutex // of clients
	scratch string
	masters map[connection]*exec.Cmd
	clients map[connection]client
	server  *server
}

// connection tells standing connections apart.
type connection struct {
	door door
	user string
}

type client struct {
	*ssh.Client
	sshd *exec.Cmd
}

func newWorld(scratch string) *standing {
	return &standing{
		scratch: scratch,
		masters: make(map[connection]*exec.Cmd),
		clients: make(map[connection]client),
	}
}

func (w *standing) log(name string) string { return filepath.Join(w.scratch, "logs", name) }

// keepMaster makes one connection of ssh that later sessions of that login are
// multiplexed over.
func (w *standing) keepMaster(t testing.TB, d door, as account) {
	t.Helper()
	key := connection{d, d.user(as)}
	if w.masters[key] != nil {
		return
	}
	path := w.muxPath(key)
	cmd := exec.Command("ssh", append([]string{"-M", "-N", "-S", path}, sshArgs(d, as)...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	ready := poll(deadline, func() bool {
		_, err := os.Stat(path)
		return err == nil || len(exited) > 0
	})
	if _, err := os.Stat(path); !ready || err != nil {
		cmd.Process.Kill()
		t.Fatalf("no connection through %s as %s: %s\n%s", d, key.user, stderr.String(), w.tail("sshd."+string(d)+".log", 0))
	}
	w.masters[key] = cmd
}

func (w *standing) muxPath(key connection) string {
	return filepath.Join(w.scratch, "mux", string(key.door)+"-"+key.user)
}

// master returns the control path of a standing connection, or "".
func (w *standing) master(d door, as account) string {
	key := connection{d, d.user(as)}
	if w.masters[key] == nil {
		return ""
	}
	return w.muxPath(key)
}

// client returns the Go client's standing connection, made on first use.
func (w *standing) client(t testing.TB, d door, as account) *ssh.Client {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	key := connection{d, d.user(as)}
	c, ok := w.clients[key]
	if !ok {
		conn, server, err := dial(d, as, w.scratch)
		if err != nil {
			t.Fatalf("%v\n%s", err, w.tail("sshd."+string(d)+".log", 0))
		}
		c = client{conn, server}
		w.clients[key] = c
	}
	return c.Client
}

// part ends the standing connections of an account, of plain sshd's too: each is a process on the host that
// has its uid.
func (w *standing) part(as account) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range append([]door{plain}, jailDoors...) {
		key := connection{d, d.user(as)}
		if c, ok := w.clients[key]; ok {
			c.Close()
			c.sshd.Wait()
			delete(w.clients, key)
		}
		if cmd := w.masters[key]; cmd != nil {
			cmd.Process.Signal(syscall.SIGTERM)
			delete(w.masters, key)
		}
	}
}

// standingRoots are the processes that hold the standing connections.
func (w *standing) standingRoots() map[int]bool {
	roots := make(map[int]bool)
	for _, cmd := range w.masters {
		roots[cmd.Process.Pid] = true
	}
	for _, c := range w.clients {
		roots[c.sshd.Process.Pid] = true
	}
	return roots
}

func (w *standing) close() error {
	var errs []error
	if w.server != nil {
		errs = append(errs, w.server.stop())
	}
	for _, c := range w.clients {
		c.Close()
		c.sshd.Wait()
	}
	for _, cmd := range w.masters {
		cmd.Process.Signal(syscall.SIGTERM)
	}
	// PID 1, the keeper of the oracle's namespace, and the tests.
	if !poll(deadline, func() bool { return len(processes()) == 3 }) {
		errs = append(errs, fmt.Errorf("processes left at the end: %v", processes()))
	}
	return errors.Join(errs...)
}

// tail returns what was added to a log since it was that long.
func (w *standing) tail(name string, from int64) string {
	const most = 4000
	text, err := os.ReadFile(w.log(name))
	if err != nil || int64(len(text)) <= from {
		return ""
	}
	text = text[from:]
	if len(text) > most {
		text = append([]byte("...\n"), text[len(text)-most:]...)
	}
	return string(text)
}

// registry is a jail.toml and what follows from it.
type registry struct {
	text  string
	jails []string // their names
	users []account
}

// standardRegistry has the two jails most tests use.
func standardRegistry() registry {
	var users strings.Builder
	for _, a := range debianAccounts {
		fmt.Fprintf(&users, "\t%s = { uid = %d }\n", a.login, a.id)
	}
	return registry{
		text: fmt.Sprintf(`version = 1

[jail.centos]
rootfs = "%s"
users  = ["centos"]
uid    = %d

[jail.debian]
rootfs = "%s"
	[jail.debian.users]
%s`, busyboxRoot, centos.id, debianRoot, users.String()),
		jails: []string{"centos", "debian"},
		users: append([]account{centos}, debianAccounts...),
	}
}

// oneJail is a registry of one jail whose table has these lines.
func oneJail(name, rootfs string, lines ...string) registry {
	reg := registry{jails: []string{name}}
	text := strings.Join(lines, "\n")
	reg.text = fmt.Sprintf("version = 1\n[jail.%s]\nrootfs = %q\n%s\n", name, rootfs, text)
	for _, a := range append(append([]account{centos}, debianAccounts...), spares...) {
		if strings.Contains(text, strconv.Quote(a.login)) || strings.Contains(text, a.login+" = {") {
			reg.users = append(reg.users, a)
		}
	}
	return reg
}

// server is a running jail-init serve of the system's.
type server struct {
	stderr   *os.File // nil is serve.log
	registry registry
	cmd      *exec.Cmd
	exited   chan struct{}
}

const registryPath = "/etc/jail/jail.toml"

// serve starts jail-init serve and waits until every login's socket is there.
func serve(reg registry) (*server, error) {
	if err := os.WriteFile(registryPath, []byte(reg.text), 0o644); err != nil {
		return nil, err
	}
	s := &server{registry: reg}
	return s, s.start()
}

func (s *server) start() error {
	log, err := os.OpenFile(world.log("serve.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(initPath, "serve")
	s.cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if s.stderr != nil {
		s.cmd.Stderr = s.stderr
	}
	s.cmd.Dir = "/"
	from, _ := log.Seek(0, 2)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func() {
		s.cmd.Wait()
		close(s.exited)
	}()
	poll(deadline, func() bool { return s.listening() || s.ended() })
	if !s.listening() || s.ended() {
		s.kill(syscall.SIGKILL)
		return fmt.Errorf("jail-init serve does not listen for every login\n%s", world.tail("serve.log", from))
	}
	return nil
}

func (s *server) listening() bool {
	for _, a := range s.registry.users {
		if _, err := os.Stat(socketPath(a)); err != nil {
			return false
		}
	}
	return true
}

func socketPath(a account) string { return "/run/jail/" + strconv.Itoa(a.id) + "/sock" }

func (s *server) ended() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// kill ends serve itself; its jails are another matter.
func (s *server) kill(signal syscall.Signal) {
	s.cmd.Process.Signal(signal)
	if !poll(deadline, s.ended) {
		s.cmd.Process.Kill()
		<-s.exited
	}
}

// stop ends serve and its jails as an administrator would.
func (s *server) stop() error {
	var errs []error
	for _, name := range s.registry.jails {
		if len(jailPIDs(name)) == 0 {
			continue
		}
		if err := command(initPath, "stop", name); err != nil {
			errs = append(errs, err)
		}
	}
	s.kill(syscall.SIGTERM)
	for _, name := range s.registry.jails {
		if !poll(deadline, func() bool { return len(jailPIDs(name)) == 0 }) {
			errs = append(errs, fmt.Errorf("jail %s outlived stop and serve", name))
			for _, pid := range jailPIDs(name) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	if world.server == s {
		world.server = nil
	}
	return errors.Join(errs...)
}

// standard gives a test the two jails of the standard registry, running, and
// watches what it leaves behind.
func standard(t *testing.T) {
	t.Helper()
	reg := standardRegistry()
	if s := world.server; s != nil && (s.registry.text != reg.text || s.ended()) {
		require.NoError(t, s.stop())
	}
	if world.server == nil {
		s, err := serve(reg)
		require.NoError(t, err)
		world.server = s
	}
	for _, d := range allDoors {
		world.keepMaster(t, d, work)
	}
	world.keepMaster(t, forced, centos)
	// Jails that run, and whatever they keep once they have had a session.
	for _, c := range []struct {
		d  door
		as account
	}{{forced, work}, {forced, centos}} {
		r := run(t, c.d, ask{as: c.as, cmd: "exit 0"})
		require.Equal(t, result{}, r, "jail of %s", c.as.login)
	}
	watch(t)
}

// own gives a test a serve of its own, with no jail running.
func own(t *testing.T, reg registry) *server {
	t.Helper()
	alone(t)
	s, err := serve(reg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.stop()) })
	return s
}

// alone gives a test a host on which no serve runs.
func alone(t *testing.T) {
	t.Helper()
	if world.server != nil {
		require.NoError(t, world.server.stop())
	}
	watch(t)
}
