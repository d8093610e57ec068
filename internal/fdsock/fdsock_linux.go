// Package fdsock makes the host-side sockets of a jail and talks over them: one
// listener for each login, at DIR/UID/sock, and one for the host's root, at
// DIR/ctl/NAME, DIR being the runtime directory.
package fdsock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"jail/internal/environ"
	"jail/internal/jail"
	"jail/internal/sys"
	"jail/internal/wire"
)

// maxPath is the longest path a unix socket can have (unix(7)).
const maxPath = 107

// backlog is how many connections wait for a jail that starts or is busy; the
// kernel lowers it to net.core.somaxconn.
const backlog = 4096

// LoginPath is the path of a login's socket.
func LoginPath(runtimeDir string, uid jail.HostUID) string {
	return filepath.Join(runtimeDir, strconv.FormatUint(uint64(uid), 10), wire.LoginName)
}

// ControlPath is the path of a jail's control socket.
func ControlPath(runtimeDir, name string) string { return filepath.Join(runtimeDir, "ctl", name) }

// ServePath is the path of the socket on which serve itself takes orders. No jail has
// its name.
func ServePath(runtimeDir string) string { return ControlPath(runtimeDir, ".serve") }

// ListenCaller makes a socket called wire.CallerName. Anybody may connect who can reach it: whose word it
// is, the kernel says.
func ListenCaller(path string) (int, error) {
	fd, err := listen(path, os.Geteuid())
	if err != nil {
		return -1, err
	}
	_ = sys.RefuseRights(fd) // before 6.16 it fails
	if err := os.Chmod(path, 0o666); err != nil {
		sys.Close(fd)
		return -1, err
	}
	return fd, nil
}

// CallsPath is the path of the socket on which a login's own jail-enter, and nobody else, says
// who has called it.
func CallsPath(runtimeDir string, uid jail.HostUID) string {
	return filepath.Join(filepath.Dir(LoginPath(runtimeDir, uid)), wire.CallsName)
}

// OpenCalls makes that socket, a SOCK_DGRAM one that passes credentials, in a directory that
// is there. refuse is sys.RefuseRights; plain says that it worked, so that no descriptors
// come.
func OpenCalls(runtimeDir string, uid jail.HostUID, refuse func(fd int) error) (fd int, plain bool, err error) {
	fd, err = bound(sys.Datagram, CallsPath(runtimeDir, uid), int(uid), func(fd int) error {
		plain = refuse(fd) == nil
		return sys.PassCredentials(fd)
	})
	return fd, plain, err
}

// CloseCalls removes that socket and closes it, by what close does.
func CloseCalls(runtimeDir string, uid jail.HostUID, fd int, close func(fd int)) {
	if path := CallsPath(runtimeDir, uid); Bound(path, fd) {
		_ = os.Remove(path)
	}
	close(fd)
}

// ListenServe makes that socket, for the caller's uid.
func ListenServe(runtimeDir string) (int, error) { return listen(ServePath(runtimeDir), os.Geteuid()) }

// RecorderPath is the path of the socket on which sessions are told to the recorder of serve.
func RecorderPath(runtimeDir string) string { return filepath.Join(runtimeDir, wire.RecorderName) }

// LoginRecorderPath is the path of the one on which a login's are told to "jail-init run".
func LoginRecorderPath(runtimeDir string, uid jail.HostUID) string {
	return filepath.Join(filepath.Dir(LoginPath(runtimeDir, uid)), wire.RecorderName)
}

// ListenRecorder makes such a socket. Every uid may connect that can reach it: the recorder tells by the kernel
// whose session it is, and there is one socket for ten thousand logins.
func ListenRecorder(path string) (int, error) {
	fd, err := listen(path, os.Geteuid())
	if err != nil {
		return -1, err
	}
	// What is accepted has it from here, and so from the first packet on.
	if err := sys.RefuseRights(fd); err != nil && err != syscall.ENOPROTOOPT { // before 6.16
		sys.Close(fd)
		return -1, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		sys.Close(fd)
		return -1, err
	}
	return fd, nil
}

// PrepareDir makes the runtime directory, owned by the caller and writable by
// nobody else, or makes sure that it is.
func PrepareDir(dir string) error {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return fmt.Errorf("runtime directory %q: must be an absolute path without . or ..", dir)
	}
	if len(ControlPath(dir, "12345678901234567890123456789012"))+len("..new") > maxPath {
		return fmt.Errorf("runtime directory %s: too long for the sockets in it (unix(7)); use a shorter path", dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := ownDir(dir, 0o711); err != nil {
		return err
	}
	return ownDir(filepath.Join(dir, "ctl"), 0o700)
}

func ownDir(dir string, mode os.FileMode) error {
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR || st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s: must be a directory owned by uid %d; remove what is there", dir, os.Geteuid())
	}
	if st.Mode&0o7777 != uint32(mode) {
		if err := os.Chmod(dir, mode); err != nil {
			return err
		}
	}
	return nil
}

// ListenLogin makes the socket of a login, which only that uid may connect to.
func ListenLogin(runtimeDir string, uid jail.HostUID) (int, error) {
	path := LoginPath(runtimeDir, uid)
	if err := ownDir(filepath.Dir(path), 0o711); err != nil {
		return -1, err
	}
	_ = os.Remove(CallsPath(runtimeDir, uid)) // of a supervisor that is gone: nobody reads it
	return listen(path, int(uid))
}

// X11Path is the file that the cookie of a login's forwarded display is to be in:
// what sshd_config(5) has to name in SetEnv XAUTHORITY=.
func X11Path(runtimeDir string, uid jail.HostUID) string {
	return filepath.Join(x11Dir(LoginPath(runtimeDir, uid)), "authority")
}

func x11Dir(loginPath string) string { return filepath.Join(filepath.Dir(loginPath), "x11") }

// SetX11 makes the directory that X11Path is in, for the login alone, or removes
// it. It is where xauth(1), which sshd runs as the login, puts the cookie: the
// login's home directory on the host need not be writable, or its own.
func SetX11(runtimeDir string, uid jail.HostUID, on bool) error {
	path := LoginPath(runtimeDir, uid)
	dir := x11Dir(path)
	if !on {
		return removeTree(runtimeDir, dir)
	}
	if err := ownDir(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	// Only root can have put something else there.
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return fmt.Errorf("%s: must be a directory; remove what is there", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	return os.Lchown(dir, int(uid), -1)
}

// gonePrefix begins the names of directories that are being removed.
const gonePrefix = ".gone-"

// removeTree removes a directory that a login can write to. It is gone at once; how long it
// takes to remove what the login has put into it is the login's choice, and not waited for.
func removeTree(runtimeDir, dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	gone, err := os.MkdirTemp(runtimeDir, gonePrefix)
	if err != nil {
		return err
	}
	err = os.Rename(dir, filepath.Join(gone, "x11"))
	settle(func() { _ = os.RemoveAll(gone) })
	return err
}

// unsettled counts the directories that are still being removed, and what Closers are closing.
var unsettled atomic.Int32

// settle runs f beside the caller.
func settle(f func()) {
	unsettled.Add(1)
	go func() {
		defer unsettled.Add(-1)
		f()
	}()
}

// settleWithin is how long a program waits with its end for that.
const settleWithin = time.Second

// Settled waits until nothing is being removed or closed any more, for a second at most: then a directory is the
// next program's (Sweep), and a descriptor is closed by the end of this one. A program that
// uses this package calls it before it ends.
func Settled() {
	for until := time.Now().Add(settleWithin); unsettled.Load() > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

// Sweep removes, beside the caller, what a program that has ended did not get to.
func Sweep(runtimeDir string) {
	left, _ := filepath.Glob(filepath.Join(runtimeDir, gonePrefix+"*"))
	go func() {
		for _, dir := range left {
			_ = os.RemoveAll(dir)
		}
	}()
}

// ListenControl makes the control socket of a jail, for the caller's uid.
func ListenControl(runtimeDir, name string) (int, error) {
	return listen(ControlPath(runtimeDir, name), os.Geteuid())
}

// listen makes a listening socket at path.
func listen(path string, uid int) (fd int, err error) {
	return bound(sys.Seqpacket, path, uid, func(fd int) error {
		if err := sys.SetNonblock(fd); err != nil {
			return err
		}
		return syscall.Listen(fd, backlog)
	})
}

// bound makes a socket at path and readies it. It is complete before it appears
// there: until then nobody but the caller can reach it, whatever the umask is,
// because its mode at birth is 0600 (the caller has set umask 0077) and it
// belongs to the caller until it is ready. A socket left by somebody who is gone is replaced.
func bound(make func() (int, error), path string, uid int, ready func(fd int) error) (fd int, err error) {
	if len(path) > maxPath {
		return -1, fmt.Errorf("%s: too long for a socket", path)
	}
	if fd, err = make(); err != nil {
		return -1, fmt.Errorf("make socket: %w", err)
	}
	// A name of its own for each path, since starts run beside each other; no
	// jail's name begins with a dot.
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	defer func() {
		if err != nil {
			sys.Close(fd)
			_ = syscall.Unlink(tmp)
			fd = -1
		}
	}()
	_ = syscall.Unlink(tmp)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: tmp}); err != nil {
		return fd, fmt.Errorf("bind %s: %w", tmp, err)
	}
	if err := os.Chmod(tmp, 0o600); err != nil {
		return fd, err
	}
	if err := ready(fd); err != nil {
		return fd, fmt.Errorf("make socket %s: %w", path, err)
	}
	if uid != os.Geteuid() {
		if err := os.Lchown(tmp, uid, -1); err != nil {
			return fd, err
		}
	}
	if err := os.Rename(tmp, path); err != nil {
		return fd, err
	}
	return fd, nil
}

// ListenNobody returns a listener that nobody can connect to, since its name is gone again: a jail that
// nobody may log in to is started with it.
func ListenNobody(runtimeDir, name string) (int, error) {
	path := ControlPath(runtimeDir, ".nobody-"+name)
	fd, err := listen(path, os.Geteuid())
	if err == nil {
		err = syscall.Unlink(path)
	}
	if err != nil && fd >= 0 {
		sys.Close(fd)
		fd = -1
	}
	return fd, err
}

// Remove removes the socket at path if it is the one fd listens on; another
// program may have put its own there by now.
func Remove(path string, fd int) {
	if Bound(path, fd) {
		_ = os.Remove(path)
		RemoveDir(path)
	}
}

// Bound reports whether the socket at path is the one fd listens on.
func Bound(path string, fd int) bool {
	bound, err := sys.SocketFile(fd)
	if err != nil {
		return false
	}
	defer sys.Close(bound)
	var ours, there syscall.Stat_t
	return syscall.Fstat(bound, &ours) == nil && syscall.Lstat(path, &there) == nil && ours.Ino == there.Ino && ours.Dev == there.Dev
}

// RemoveDir removes the directory of a login's socket, and what else is ours in it,
// unless there is a socket.
func RemoveDir(path string) {
	dir := filepath.Dir(path)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		_ = removeTree(filepath.Dir(dir), x11Dir(path))
		_ = os.Remove(filepath.Join(dir, environ.AcceptFile))
		_ = os.Remove(filepath.Join(dir, wire.CallsName)) // of one that was killed
		_ = os.Remove(dir)
	}
}

// WriteAccept puts the patterns of what may enter with a login beside its socket,
// where jail-enter finds them, or removes those that are there. In front of them is
// record, one of environ's lines, or "" for a login that is not recorded. It comes before
// the socket is made: who can connect is to find the whole list.
func WriteAccept(runtimeDir string, uid jail.HostUID, record string, patterns []string) error {
	dir := filepath.Dir(LoginPath(runtimeDir, uid))
	path := filepath.Join(dir, environ.AcceptFile)
	if record == "" && len(patterns) == 0 {
		if err := syscall.Unlink(path); err != nil && err != syscall.ENOENT {
			return &os.PathError{Op: "unlink", Path: path, Err: err}
		}
		return nil
	}
	if err := ownDir(dir, 0o711); err != nil {
		return err
	}
	text := []byte(record)
	for _, p := range patterns {
		text = append(append(text, p...), '\n')
	}
	tmp := filepath.Join(dir, "."+environ.AcceptFile+".new")
	_ = os.Remove(tmp)
	err := os.WriteFile(tmp, text, 0o600)
	if err == nil {
		err = os.Chmod(tmp, 0o644) // whatever the umask is
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

// dialWait bounds how long a connect(2), or a send that waits, can take.
var dialWait = syscall.Timeval{Sec: 3}

// Dial connects to a socket. Behind it may be a PID 1 that has been taken over: it
// can make the queue of its listener as short as it likes (listen(2)) and leave it
// full, so nobody waits for it longer than dialWait; that is ETIMEDOUT.
func Dial(path string) (int, error) { return dial(path, false) }

// DialPlain is Dial for a conversation without descriptors: the kernel refuses those
// the other side sends, where it can (sys.RefuseRights).
func DialPlain(path string) (int, error) { return dial(path, true) }

// AcceptAll calls each with every connection that is accepted on a listener, which does not
// block, until that is closed. While there is no free descriptor or memory for one it waits.
func AcceptAll(ln *os.File, each func(fd int)) error {
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	for {
		fd := -1
		if raw.Read(func(l uintptr) bool {
			var err error
			fd, err = sys.Accept(int(l))
			return err != syscall.EAGAIN
		}) != nil {
			return nil // it is closed
		}
		if fd < 0 {
			time.Sleep(10 * time.Millisecond) // EMFILE, ENOMEM
			continue
		}
		each(fd)
	}
}

func dial(path string, plain bool) (int, error) {
	fd, err := sys.Seqpacket()
	if err != nil {
		return -1, err
	}
	if plain {
		_ = sys.RefuseRights(fd) // before there is another side
	}
	if err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &dialWait); err == nil {
		if err = sys.Connect(fd, path); err == syscall.EAGAIN {
			err = syscall.ETIMEDOUT
		}
	}
	if err != nil {
		sys.Close(fd)
		return -1, err
	}
	return fd, nil
}

// CheckListener makes sure that a descriptor that was passed in is a listening
// SOCK_SEQPACKET unix socket, and returns the path it is bound to.
func CheckListener(fd int) (string, error) {
	typ, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil || typ != syscall.SOCK_SEQPACKET {
		return "", fmt.Errorf("descriptor %d is not a SOCK_SEQPACKET socket (ListenSequentialPacket=)", fd)
	}
	if on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err != nil || on == 0 {
		return "", fmt.Errorf("descriptor %d is not a listening socket (Accept=no)", fd)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return "", fmt.Errorf("descriptor %d: %w", fd, err)
	}
	unix, ok := sa.(*syscall.SockaddrUnix)
	if !ok || unix.Name == "" || unix.Name[0] != '/' {
		return "", fmt.Errorf("descriptor %d is not bound to a path", fd)
	}
	return unix.Name, nil
}

// Notify tells systemd, if it waits for it (sd_notify(3)).
func Notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer sys.Close(fd)
	_ = syscall.Sendto(fd, []byte(state), 0, &syscall.SockaddrUnix{Name: path})
}
