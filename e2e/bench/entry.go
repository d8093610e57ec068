package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/sys"
	"jail/internal/wire"
)

// warm: a program that does nothing, in a jail that runs.
func (b *bench) warm() error {
	ours := b.enter(uidTrue, "-c", "true")
	floor := &contestant{name: "fork+exec on the host (floor)", argv: []string{b.bin("true")}}
	peers := []*contestant{}
	for _, p := range b.containers() {
		peers = append(peers, p.contestant(trueInside))
	}
	chroot := &contestant{name: "chroot (as root)"}
	if path, err := find("chroot"); err != nil {
		chroot.err = err
	} else {
		chroot.argv = []string{path, b.root("bench"), trueInside}
	}
	bwrap := &contestant{name: "bwrap, a bare new sandbox every time"}
	if path, err := find("bwrap"); err != nil {
		bwrap.err = err
	} else {
		bwrap.argv = []string{path, "--bind", b.root("bwrap"), "/", trueInside}
	}
	alone := &contestant{name: "the jail's part: a request, without jail-enter's start"}
	var request *client
	if request, alone.err = newClient(b.server.runtimeDir(), uidTrue); alone.err == nil {
		defer request.close()
		alone.call = request.session
	}
	all := append([]*contestant{ours, floor, alone, chroot, bwrap}, peers...)
	if err := interleave(b.n(400, 60), b.share()+10*time.Second, all...); err != nil {
		return err
	}
	b.race("warm entry: static true in a running jail", ours, floor, peers, []*contestant{chroot, bwrap, alone}, "≤ 1.25 × nsenter", peers[0], 1.25)
	return nil
}

// client asks for sessions from this process, as jail-enter does.
type client struct {
	path   string
	packet []byte
	pipes  *stdio
	m      sys.MsgBuf
}

func newClient(runtimeDir string, uid jail.HostUID) (*client, error) {
	c := &client{path: fdsock.LoginPath(runtimeDir, uid)}
	var err error
	if c.pipes, err = newStdio(0); err != nil {
		return nil, err
	}
	c.packet, err = wire.AppendRequest(nil, &wire.Request{
		Stdio: [3]wire.Stdio{wire.StdioPassed, wire.StdioPassed, wire.StdioPassed},
		Args:  [][]byte{[]byte("-c"), []byte("true")},
	})
	return c, err
}

func (c *client) close() { c.pipes.close() }

// session has one session, from its connection to its status.
func (c *client) session() error {
	conn, err := fdsock.Dial(c.path)
	if err != nil {
		return err
	}
	defer sys.Close(conn)
	if err := sys.SendMsg(conn, c.packet, c.pipes.child[:], true, &c.m); err != nil {
		return err
	}
	var buf [1024]byte
	for _, want := range []wire.Type{wire.TypeStarted, wire.TypeExited} {
		n, err := sys.RecvMsg(conn, buf[:], true, &c.m)
		if err != nil || n == 0 {
			return fmt.Errorf("no answer: %v", err)
		}
		if typ, _, _, err := wire.Header(buf[:n]); err != nil || typ != want {
			return fmt.Errorf("answer of type %v, not %v (%v)", typ, want, err)
		}
	}
	return nil
}

// warmShell: the same through the shell inside, as every login does it.
func (b *bench) warmShell() error {
	ours := b.enter(uidShell, "-c", "true")
	floor := &contestant{name: "sh -c true on the host (floor)", argv: []string{b.bin("sh"), "-c", "true"}}
	peer := b.containers()[0].contestant("/bin/sh", "-c", "true")
	if err := interleave(b.n(400, 60), b.share(), ours, floor, peer); err != nil {
		return err
	}
	b.race("warm entry: sh -c true in a running jail", ours, floor, []*contestant{peer}, nil, "≤ 1.25 × nsenter", peer, 1.25)
	return nil
}

// coldJail is the entry of jail cold, to be started beside another kind of jail by the same serve: one lets a jail be
// started for logins 200 times, and then five times a second (supervise.StartsAtOnce).
func (b *bench) coldJail() string {
	return fmt.Sprintf("[jail.cold]\nrootfs = %q\n[jail.cold.users]\n%s = { uid = 1000, shell = %q }\n", b.root("cold"), login(uidCold), trueInside)
}

// cold: the first command in a jail that does not run.
func (b *bench) cold() error {
	ours := b.enter(uidCold, "-c", "true")
	ours.after = func() error { return b.server.halt("cold") }
	floor := &contestant{name: "the same namespaces, chroot, exec (floor)", argv: []string{trueInside}, attr: newNamespaces(b.root("cold"))}
	argv, err := b.bwrap(b.root("bwrap"), trueInside)
	bwrap := &contestant{name: "bwrap", argv: argv, err: err}
	if err := interleave(b.n(150, 25), b.share(), ours, floor, bwrap); err != nil {
		return err
	}
	b.race("cold: first command in a stopped jail", ours, floor, []*contestant{bwrap}, nil, "≤ 1.5 × bwrap", bwrap, 1.5)
	b.table.add(line{below: true, what: "this bwrap", note: "as root; --unshare-user, pid, ipc, uts, cgroup; the mounts of a jail; a reaping first process"})
	return nil
}

// newNamespaces makes a process the first of a set of namespaces like a
// jail's, in another root directory.
func newNamespaces(root string) syscall.SysProcAttr {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	return syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP,
		UidMappings: ids, GidMappings: ids,
		Chroot: root,
	}
}

const sshdConfig = `HostKey %[1]s/host_key
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
PrintLastLog no
MaxSessions 100
AuthorizedKeysFile %[1]s/id.pub
StrictModes no
Match User %[2]s
	ForceCommand exec %[3]s --forced
	PermitUserRC no
	X11Forwarding no
	AllowStreamLocalForwarding no
	AllowAgentForwarding no
`

const sshConfig = `Host *
	IdentityFile %[1]s/id
	IdentitiesOnly yes
	UserKnownHostsFile %[1]s/known_hosts
	GlobalKnownHostsFile none
	BatchMode yes
	LogLevel ERROR
	ProxyCommand %[2]s -i -f %[1]s/sshd_config -E %[1]s/sshd.log
`

// ssh: one more session over a connection that stands.
func (b *bench) ssh() error {
	client, err1 := find("ssh")
	keygen, err2 := find("ssh-keygen")
	sshd, err3 := find("sshd")
	if err3 != nil {
		if sshd = "/usr/sbin/sshd"; exists(sshd) {
			err3 = nil
		}
	}
	if err1 != nil || err2 != nil || err3 != nil {
		return errors.New("ssh, ssh-keygen and sshd are needed (Debian: openssh-server)")
	}
	const dir = "/run/bench/ssh"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, key := range []string{"id", "host_key"} {
		if err := command(keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", filepath.Join(dir, key)); err != nil {
			return err
		}
	}
	host, err := os.ReadFile(filepath.Join(dir, "host_key.pub"))
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"sshd_config": fmt.Sprintf(sshdConfig, dir, login(uidShell), b.bin("jail-enter")),
		"config":      fmt.Sprintf(sshConfig, dir, sshd),
		"known_hosts": "* " + string(host),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}

	standing := func(name string, uid int) (*contestant, error) {
		socket := filepath.Join(dir, "mux-"+login(uid))
		args := []string{client, "-F", filepath.Join(dir, "config"), "-l", login(uid), "-S", socket}
		master := exec.Command(client, append(args[1:], "-M", "-N", "host")...)
		var said strings.Builder
		master.Stderr = &said
		if err := master.Start(); err != nil {
			return nil, err
		}
		go master.Wait() // ends with this process's namespaces
		for end := time.Now().Add(20 * time.Second); !exists(socket); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				_ = master.Process.Kill()
				log, _ := os.ReadFile(filepath.Join(dir, "sshd.log"))
				return nil, fmt.Errorf("no connection as %s: %s %s", login(uid), said.String(), log)
			}
		}
		return &contestant{name: name, argv: append(args, "host", "true")}, nil
	}
	plain, err := standing("ssh host true, plain account (floor)", uidPlain)
	if err != nil {
		return err
	}
	ours, err := standing("ssh host true, jailed account", uidShell)
	if err != nil {
		return err
	}
	if err := interleave(b.n(200, 40), b.share(), ours, plain); err != nil {
		return err
	}
	b.race("multiplexed ssh host true", ours, plain, nil, nil, "≤ 1.3 × plain", plain, 1.3)
	return nil
}
