package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// attackPath is where e2e/attack is in every root file system under attack.
const attackPath = "/usr/local/bin/attack"

// identity is who attacks: root of the container, or an ordinary user of it.
type identity struct {
	name string
	uid  int
}

var (
	tenant     = identity{"tenant", centos.id}
	root       = identity{"root", 0}
	identities = []identity{tenant, root}
)

// prey is what the host has to lose: all of it made for the test, and none of it
// the machine's.
type prey struct {
	dir  string // holds the secret; on the file system of the trees
	keys []string
	of   map[int]*belongings
}

// belongings are what one uid has on the host.
type belongings struct {
	port    int // a listener with SO_REUSEPORT
	process *exec.Cmd
	signals atomic.Uint32 // that reached the process
}

func newPrey(t *testing.T) *prey {
	t.Helper()
	var noise [8]byte
	rand.Read(noise[:])
	text := hex.EncodeToString(noise[:])
	p := &prey{dir: filepath.Join(world.scratch, "prey-"+text), of: make(map[int]*belongings)}
	require.NoError(t, os.Mkdir(p.dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(p.dir)) })
	require.NoError(t, os.Chmod(world.scratch, 0o711)) // what is closed must not be this
	t.Cleanup(func() { require.NoError(t, os.Chmod(world.scratch, 0o700)) })
	secret := filepath.Join(p.dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte(text+"\n"), 0o644))
	require.NoError(t, command("cp", filepath.Join(world.scratch, "bin/attack"), filepath.Join(p.dir, "program")))
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, secret, 0)
	require.NoError(t, err)

	abstract, err := net.Listen("unix", "@jail-e2e-"+text)
	require.NoError(t, err)
	t.Cleanup(func() { abstract.Close() })
	datagram, err := net.ListenPacket("unixgram", "@jail-e2e-dgram-"+text)
	require.NoError(t, err)
	t.Cleanup(func() { datagram.Close() })

	p.keys = []string{
		"secret=" + secret, "text=" + text,
		fmt.Sprintf("handletype=%d", handle.Type()), "handle=" + hex.EncodeToString(handle.Bytes()),
		"abstract=jail-e2e-" + text, "datagram=jail-e2e-dgram-" + text, "other=jail-e2e-other-" + text,
		"key=jail-e2e-" + text, fmt.Sprintf("lowport=%d", freeLowPort(t)), fmt.Sprintf("victim=%d", spares[0].id),
	}
	for _, who := range identities {
		p.of[who.uid] = newBelongings(t, p, who, text)
	}
	return p
}

func newBelongings(t *testing.T, p *prey, who identity, text string) *belongings {
	t.Helper()
	b := &belongings{}
	var listener int
	b.port = freePort(t)
	asUID(t, who.uid, func() error {
		key, err := unix.AddKey("user", "jail-e2e-"+text, []byte(text), unix.KEY_SPEC_USER_KEYRING)
		if err != nil {
			return fmt.Errorf("add_key: %w", err)
		}
		t.Cleanup(func() {
			asUID(t, who.uid, func() error {
				_, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0)
				return err
			})
		})
		if listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(listener, &unix.SockaddrInet4{Port: b.port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
		return unix.Listen(listener, 1)
	})
	t.Cleanup(func() { unix.Close(listener) })

	b.process = exec.Command(filepath.Join(p.dir, "program"), "canary", filepath.Join(p.dir, "secret"))
	b.process.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true,
		Credential: &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.uid)},
	}
	b.process.Stderr = os.Stderr
	out, err := b.process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, b.process.Start())
	t.Cleanup(func() {
		b.process.Process.Kill()
		b.process.Wait()
	})
	r := bufio.NewReader(out)
	_, err = r.ReadByte() // it catches the signal from now on
	require.NoError(t, err)
	go func() {
		for {
			if _, err := r.ReadByte(); err != nil {
				return
			}
			b.signals.Add(1)
		}
	}()
	return b
}

// args are the arguments of the attack program for one identity.
func (p *prey) args(who identity, names ...string) []string {
	b := p.of[who.uid]
	args := append([]string{}, p.keys...)
	args = append(args, fmt.Sprintf("port=%d", b.port), fmt.Sprintf("hostpid=%d", b.process.Process.Pid))
	return append(args, names...)
}

// serveSlip answers in a root file system's /tmp: it says whom the host sees, how
// many signals the host's process of that uid has got, and hands out a pidfd of
// it, as if one had slipped in.
func (p *prey) serveSlip(t *testing.T, tree string) {
	t.Helper()
	path := filepath.Join(tree, "tmp/slip")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o666))
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			p.answerSlip(c)
			c.Close()
		}
	}()
}

func (p *prey) answerSlip(c *net.UnixConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		b := p.of[tenant.uid]
		if cred.Uid == 0 {
			b = p.of[0]
		}
		pidfd, err := unix.PidfdOpen(b.process.Process.Pid, 0)
		if err != nil {
			return
		}
		defer unix.Close(pidfd)
		data := make([]byte, 8)
		binary.NativeEndian.PutUint32(data[0:], cred.Uid)
		binary.NativeEndian.PutUint32(data[4:], b.signals.Load())
		unix.Sendmsg(int(fd), data, unix.UnixRights(pidfd), nil, 0)
	})
}

// asUID runs a function on a thread that has that uid on the host, and dies with
// it.
func asUID(t *testing.T, uid int, f func() error) {
	t.Helper()
	require.NoError(t, onAThreadAs(uid, f))
}

// onAThreadAs runs a function on a thread that has that uid and, never unlocked, dies with it.
func onAThreadAs(uid int, f func() error) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
			failed <- e
			return
		}
		failed <- f()
	}()
	return <-failed
}

func freeLowPort(t *testing.T) int {
	t.Helper()
	for port := 1023; port > 600; port-- {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port below 1024 is free")
	return 0
}

// arm puts the attack program, a set-uid one, and a device node into a tree.
func arm(t *testing.T, tree string) {
	t.Helper()
	bin := filepath.Join(tree, "usr/local/bin")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	for name, mode := range map[string]string{"attack": "0755", "suid": "4755"} {
		path := filepath.Join(bin, name)
		require.NoError(t, command("install", "-m", mode, filepath.Join(world.scratch, "bin/attack"), path))
		t.Cleanup(func() { os.Remove(path) })
	}
	var st unix.Stat_t
	require.NoError(t, unix.Stat(tree, &st))
	type node struct {
		kind   uint32
		device uint64
	}
	nodes := map[string]node{
		"planted-urandom": {unix.S_IFCHR, unix.Mkdev(1, 9)},
		"planted-kmsg":    {unix.S_IFCHR, unix.Mkdev(1, 11)},
	}
	if unix.Major(st.Dev) != 0 { // on a disk
		nodes["planted-disk"] = node{unix.S_IFBLK, st.Dev}
	}
	for name, node := range nodes {
		path := filepath.Join(tree, name)
		os.Remove(path) // of the tree this is a copy of
		require.NoError(t, unix.Mknod(path, node.kind, int(node.device)))
		require.NoError(t, os.Chmod(path, 0o666))
		t.Cleanup(func() { os.Remove(path) })
	}
}

// weakContainer is what the attacks must succeed in: namespaces, chroot or
// pivot_root, the host's /dev and /sys, and nothing else.
type weakContainer struct {
	root string
	pid  int
	prey *prey
}

// newWeak makes one of a copy of the busybox tree, which prepare may spoil first.
func newWeak(t *testing.T, p *prey, style string, prepare func(root string)) *weakContainer {
	t.Helper()
	root := filepath.Join(p.dir, style)
	require.NoError(t, command("cp", "-a", busyboxRoot, root))
	require.NoError(t, os.RemoveAll(filepath.Join(root, "tmp/slip")))
	arm(t, root)
	p.serveSlip(t, root)
	if prepare != nil {
		prepare(root)
	}
	cmd := exec.Command(filepath.Join(p.dir, "program"), "weak", root, style)
	cmd.Env = []string{"CANARY=of the host"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	hostDir, err := os.Open(p.dir)
	require.NoError(t, err)
	defer hostDir.Close()
	socket, err := unix.Open(filepath.Join(root, "tmp/slip"), unix.O_PATH|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	socketFile := os.NewFile(uintptr(socket), "slip")
	defer socketFile.Close()
	cmd.ExtraFiles = []*os.File{hostDir, socketFile}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	require.Equal(t, "ready\n", line, "%s", stderr.String())
	return &weakContainer{root: root, pid: cmd.Process.Pid, prey: p}
}

// command is a command in the container, of the identity's.
func (w *weakContainer) command(who identity, args ...string) *exec.Cmd {
	enter := []string{"-t", fmt.Sprint(w.pid), "-m", "-p", "-r", "-w"}
	if who.uid != 0 {
		enter = append(enter, "-S", fmt.Sprint(who.uid), "-G", fmt.Sprint(who.uid))
	}
	cmd := exec.Command("nsenter", append(append(enter, "--"), args...)...)
	cmd.Env = []string{"PATH=/usr/local/bin:/bin:/usr/bin"}
	// In the process group of its caller, as everything is that does not care.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: w.prey.of[who.uid].process.Process.Pid}
	return cmd
}

// attack runs attacks with a descriptor of the host left open, and returns how
// they went.
func (w *weakContainer) attack(t *testing.T, who identity, names ...string) map[string]verdict {
	t.Helper()
	return w.prey.attack(t, w.command(who, append([]string{attackPath}, w.prey.args(who, names...)...)...))
}

func (p *prey) attack(t *testing.T, cmd *exec.Cmd) map[string]verdict {
	t.Helper()
	hostDir, err := os.Open(p.dir)
	require.NoError(t, err)
	defer hostDir.Close()
	cmd.ExtraFiles = []*os.File{hostDir}
	r := runCommand(t, cmd, nil)
	require.Zero(t, r.status, "%v: %s%s", cmd.Args, r.stdout, r.stderr)
	return verdicts(t, r.stdout)
}

// verdict is how an attack went.
type verdict struct {
	got    bool
	errno  string // the kernel's answer, "" if it has no name
	detail string
}

func (v verdict) String() string {
	if v.got {
		return "succeeded: " + v.detail
	}
	return "refused: " + v.detail
}

// verdicts reads what the attack program prints.
func verdicts(t *testing.T, text string) map[string]verdict {
	t.Helper()
	all := make(map[string]verdict)
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		require.GreaterOrEqual(t, len(f), 3, "%q", line)
		switch f[1] {
		case "got":
			all[f[0]] = verdict{got: true, detail: f[2]}
		case "refused":
			v := verdict{errno: f[2], detail: f[len(f)-1]}
			if v.errno == "-" {
				v.errno = v.detail
			}
			all[f[0]] = v
		default:
			t.Errorf("attack %s came to no end: %s", f[0], line)
		}
	}
	require.NotEmpty(t, all)
	return all
}
