package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Logins of the private /etc. They are in jails of their own making; plain is
// an ordinary account with the same shell as that of the jail.
const (
	uidPlain    = 61000
	uidShell    = 61001 // jail bench, the rootfs's shell
	uidTrue     = 61002 // jail bench, with a shell that does nothing
	uidCold     = 61003 // jail cold
	uidFlat     = 61004 // jail flat
	uidCage     = 61005 // jail cage, of the host
	uidColdCage = 61006 // jail coldcage, another
	uidMany     = 62000 // and following: one jail each
	manyJails   = 200
)

const trueInside = "/bin/static-true"

func login(uid int) string { return "jb" + strconv.Itoa(uid) }

// The machine code of the two smallest programs: one ends at once, the other
// writes a byte to standard output and then waits for ever.
var (
	codeTrue = []byte{
		0x31, 0xff, // xor edi, edi
		0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
		0x0f, 0x05, // syscall
	}
	codeReady = []byte{
		0xb8, 1, 0, 0, 0, // mov eax, SYS_write
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0xbe, 0x01, 0x00, 0x40, 0x00, // mov esi, 0x400001: the E of ELF
		0xba, 1, 0, 0, 0, // mov edx, 1
		0x0f, 0x05, // syscall
		0xb8, 34, 0, 0, 0, // mov eax, SYS_pause
		0x0f, 0x05, // syscall
	}
)

// program makes an executable of machine code, a single page.
func program(code []byte) []byte {
	const base, headers = 0x400000, 64 + 56
	var b bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: base + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	size := uint64(headers + len(code))
	p := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Filesz: size, Memsz: size, Align: 4096}
	_ = binary.Write(&b, binary.LittleEndian, h)
	_ = binary.Write(&b, binary.LittleEndian, p)
	b.Write(code)
	return b.Bytes()
}

// trees makes the root file systems: one busybox tree for each jail and peer
// that has sessions, and small ones for the jails that only have to exist.
func trees(scratch, busybox string) error {
	roots := filepath.Join(scratch, "roots")
	if err := os.Mkdir(roots, 0o700); err != nil {
		return err
	}
	first := filepath.Join(roots, "bench")
	if err := tree(first); err != nil {
		return err
	}
	for path, mode := range map[string]os.FileMode{"tmp": 0o777 | os.ModeSticky, "root": 0o700} {
		if err := os.Mkdir(filepath.Join(first, path), 0o700); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(first, path), mode); err != nil {
			return err
		}
	}
	if err := command("cp", "-L", busybox, filepath.Join(first, "bin/busybox")); err != nil {
		return err
	}
	if err := command("chroot", first, "/bin/busybox", "--install", "-s", "/bin"); err != nil {
		return fmt.Errorf("busybox must be static: %w", err)
	}
	for _, name := range []string{"cold", "flat", "net", "lxc", "oci", "bwrap"} {
		if err := command("cp", "-a", first, filepath.Join(roots, name)); err != nil {
			return err
		}
	}
	for i := range manyJails {
		if err := tree(filepath.Join(roots, "many"+strconv.Itoa(i))); err != nil {
			return err
		}
	}
	// On the host: the floor, and the shell of the plain account.
	bin := filepath.Join(scratch, "bin")
	if err := os.WriteFile(filepath.Join(bin, "true"), program(codeTrue), 0o755); err != nil {
		return err
	}
	return command("cp", "-L", busybox, filepath.Join(bin, "sh"))
}

func tree(dir string) error {
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, trueInside), program(codeTrue), 0o755),
		os.WriteFile(filepath.Join(dir, "bin/ready"), program(codeReady), 0o755),
		os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nwork:x:1000:1000::/:/bin/sh\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\ntty:x:5:\nwork:x:1000:\n"), 0o644),
	)
}

// furnish turns the mount namespace it runs in, a copy of the machine's, into
// the host that is measured.
func furnish(scratch string) error {
	// Private first, or all that follows would reach the machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []struct{ fs, path, options string }{{"proc", "/proc", ""}, {"tmpfs", "/run", "mode=755"}, {"tmpfs", "/var/log", "mode=755"}, {"tmpfs", "/var/lib", "mode=755"}} {
		if err := unix.Mount(m.fs, m.path, m.fs, unix.MS_NOSUID|unix.MS_NODEV, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	// crun knows nothing but a pure second version.
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type != unix.CGROUP2_SUPER_MAGIC {
		_ = unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, "") // its row will say what is missing
	}
	for _, d := range []string{"/run/sshd", "/run/home", "/run/bench"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	etc := filepath.Join(scratch, "etc")
	if err := command("cp", "-a", "/etc", etc); err != nil {
		return err
	}
	if err := unix.Mount(etc, "/etc", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount /etc: %w", err)
	}
	var passwd, shadow, group strings.Builder
	account := func(uid int, shell string) {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::/run/home:%s\n", login(uid), uid, uid, shell)
		fmt.Fprintf(&shadow, "%s:*:19000:0:99999:7:::\n", login(uid))
		fmt.Fprintf(&group, "%s:x:%d:\n", login(uid), uid)
	}
	account(uidPlain, filepath.Join(scratch, "bin/sh"))
	for _, uid := range []int{uidShell, uidTrue, uidCold, uidFlat, uidCage, uidColdCage} {
		account(uid, filepath.Join(scratch, "bin/jail-enter"))
	}
	for i := range manyJails {
		account(uidMany+i, filepath.Join(scratch, "bin/jail-enter"))
	}
	for file, text := range map[string]string{"passwd": passwd.String(), "shadow": shadow.String(), "group": group.String()} {
		f, err := os.OpenFile(filepath.Join("/etc", file), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, text)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll("/etc/jail"), os.MkdirAll("/etc/jail", 0o755))
}

func (b *bench) bin(name string) string { return filepath.Join(b.scratch, "bin", name) }

func (b *bench) root(name string) string { return filepath.Join(b.scratch, "roots", name) }

// enter is a contestant that enters a jail of the standing server.
func (b *bench) enter(uid uint32, args ...string) *contestant {
	return &contestant{name: "jail-enter", argv: append([]string{b.bin("jail-enter")}, args...), uid: uid}
}

// start starts the server whose jails most rows use.
func (b *bench) start() (err error) {
	b.server, err = b.serve("jail", fmt.Sprintf(`version = 1
[defaults]
idle_timeout = "0"
[jail.bench]
rootfs = %q
	[jail.bench.users]
	%s = { uid = 1000 }
	%s = { uid = 1000, shell = %q }
[jail.cold]
rootfs = %q
	[jail.cold.users]
	%s = { uid = 1000, shell = %q }
[jail.flat]
rootfs = %q
	[jail.flat.users]
	%s = { uid = 1000, shell = %q }
`, b.root("bench"), login(uidShell), login(uidTrue), trueInside,
		b.root("cold"), login(uidCold), trueInside, b.root("flat"), login(uidFlat), trueInside))
	if err != nil {
		return err
	}
	return b.needJail()
}

// needJail makes sure that jail bench runs.
func (b *bench) needJail() error {
	c := b.enter(uidTrue, "-c", "true")
	if err := interleave(1, time.Minute, c); err != nil {
		return b.server.because(err)
	}
	return c.err
}

func (b *bench) stop() {
	for _, p := range b.peers {
		p.stop()
	}
	b.server.stop()
}

// server is a running jail-init serve.
type server struct {
	name    string
	bin     string
	cmd     *exec.Cmd
	began   time.Time
	mu      sync.Mutex
	changed *sync.Cond
	pids    map[string]int // of the jails that run
	started int            // how many have started since the beginning
	failed  string         // why a jail has not
	gone    bool
	last    string
}

func (s *server) runtimeDir() string { return "/run/" + s.name }
func (s *server) config() string     { return "/etc/jail/" + s.name + ".toml" }

// serve starts a server and returns when it is ready.
func (b *bench) serve(name, registry string) (*server, error) {
	s := &server{name: name, bin: b.bin("jail-init"), pids: map[string]int{}}
	s.changed = sync.NewCond(&s.mu)
	if err := os.WriteFile(s.config(), []byte(registry), 0o600); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(s.bin, "--config", s.config(), "--runtime-dir", s.runtimeDir(), "serve")
	s.cmd.Env, s.cmd.Dir = environment, "/"
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	place, err := b.place()
	if err != nil {
		return nil, err
	}
	if place != nil {
		defer place.Close()
		s.cmd.SysProcAttr.UseCgroupFD, s.cmd.SysProcAttr.CgroupFD = true, int(place.Fd())
	}
	log, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	s.began = time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ready := false
	go s.follow(log, &ready)
	if !s.until(time.Minute, func() bool { return ready }) {
		s.stop()
		return nil, fmt.Errorf("jail-init serve: %s", s.last)
	}
	return s, nil
}

// place is the cgroup in which servers run: their jails get theirs beside it. Another bench on
// the machine has jails of the same names, and one jail has a cgroup at a time. It is nil where
// the unified hierarchy is not in its place, or somebody has put the bench into a part of it.
func (b *bench) place() (*os.File, error) {
	const root = "/sys/fs/cgroup"
	text, err := os.ReadFile("/proc/self/cgroup")
	var st unix.Statfs_t
	if err != nil || !slices.Contains(strings.Split(string(text), "\n"), "0::/") || unix.Statfs(root, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, err
	}
	for _, c := range []string{"cpu", "memory", "pids", "io"} { // those that are to be had
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
	dir := filepath.Join(root, filepath.Base(b.scratch), "supervisor")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.Open(dir)
}

// because adds to an error why a jail has not started, if one has not.
func (s *server) because(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || s.failed == "" || strings.Contains(err.Error(), s.failed) {
		return err
	}
	return fmt.Errorf("%w (%s)", err, s.failed)
}

// follow reads the server's log.
func (s *server) follow(log io.Reader, ready *bool) {
	in := bufio.NewScanner(log)
	for in.Scan() {
		s.mu.Lock()
		s.last = in.Text()
		f := strings.Fields(s.last) // "jail-init: jail NAME started: pid N"
		switch {
		case len(f) > 1 && f[1] == "ready:":
			*ready = true
		case len(f) == 6 && f[3] == "started:":
			s.started++
			s.pids[f[2]], _ = strconv.Atoi(f[5])
		case len(f) > 3 && f[3] == "ended":
			delete(s.pids, f[2])
		case strings.Contains(s.last, "start failed"):
			s.failed = s.last
		}
		s.changed.Broadcast()
		s.mu.Unlock()
	}
	_ = s.cmd.Wait()
	s.mu.Lock()
	s.gone = true
	s.changed.Broadcast()
	s.mu.Unlock()
}

// until waits until cond, asked under the lock, is true, or a jail has not started.
func (s *server) until(limit time.Duration, cond func() bool) bool {
	return s.wait(limit, cond, func() bool { return s.gone || s.failed != "" })
}

// wait waits until cond is true, or vain; both are asked under the lock.
func (s *server) wait(limit time.Duration, cond, vain func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := time.Now().Add(limit)
	timer := time.AfterFunc(limit, func() { s.mu.Lock(); s.changed.Broadcast(); s.mu.Unlock() })
	defer timer.Stop()
	for !cond() {
		if vain() || time.Now().After(end) {
			return cond()
		}
		s.changed.Wait()
	}
	return true
}

// pid is that of a jail's PID 1.
func (s *server) pid(jail string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pids[jail]
}

// halt ends a jail and returns when the server knows. That another one has not started is
// nothing to it.
func (s *server) halt(jail string) error {
	err := command(s.bin, "--config", s.config(), "--runtime-dir", s.runtimeDir(), "stop", "--grace", "0s", jail)
	if err == nil && !s.wait(time.Minute, func() bool { return s.pids[jail] == 0 }, func() bool { return s.gone }) {
		err = fmt.Errorf("jail %s has not ended", jail)
	}
	return s.because(err)
}

// stop ends all jails, then the server.
func (s *server) stop() {
	s.mu.Lock()
	for _, pid := range s.pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	s.failed = ""
	s.mu.Unlock()
	s.until(time.Minute, func() bool { return len(s.pids) == 0 })
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	s.until(10*time.Second, func() bool { return s.gone })
}
