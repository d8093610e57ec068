// Command attack is what a tenant might bring along: it tries, one by one, what
// is known to lead out of a container or to reach the host from inside one, and
// prints how each attempt went. The tests run it in jails and, to see that its
// attacks are real ones, in a container that has nothing but namespaces and
// chroot(2).
//
//	attack [KEY=VALUE...] ATTACK...   run attacks, each in a process of its own
//	attack weak ROOT pivot|chroot     be PID 1 of the weak container
//	attack canary FILE                be a process of the host worth attacking
//	attack sockets                    do what standard input says (sockets.go)
//	attack hold KIND                  use up a resource and keep it (storm.go)
//
// It changes nothing: what would do harm is opened and not written, given back
// the value it had, or asked for with an argument that the kernel looks at after
// the permission.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attack returns nil when it got what it wanted, and how far it came.
type attack func() (string, error)

// target is what the tests have put up to be hit; the keys are in attack_test.go.
var target = map[string]string{}

// errNothing is for an attack that was let through and found nothing.
var errNothing = errors.New("nothing there")

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		os.Exit(64)
	}
	switch args[0] {
	case "weak":
		fmt.Fprintln(os.Stderr, "weak container:", weak(args[1], args[2] == "pivot"))
		os.Exit(1)
	case "canary":
		canary(args[1])
	case "sockets":
		os.Exit(sockets(os.Stdin, os.Stdout))
	case "hold":
		os.Exit(hold(args[1]))
	}
	one := args[0] == "one"
	if one {
		args = args[1:]
	}
	var keys, names []string
	for _, arg := range args {
		if key, value, ok := strings.Cut(arg, "="); ok {
			target[key] = value
			keys = append(keys, arg)
		} else {
			names = append(names, arg)
		}
	}
	if one {
		// Ids, namespaces and keyrings are a thread's; the next system call has to be its
		// own.
		runtime.LockOSThread()
		os.Exit(run(names[0]))
	}
	if len(names) == 1 && names[0] == "all" {
		names = allNames()
	}
	for _, name := range names {
		fmt.Printf("%s\t%s\n", name, apart(name, keys))
	}
}

// apart runs one attack in a process of its own, which may come to any harm.
func apart(name string, keys []string) string {
	cmd := exec.Command("/proc/self/exe", append(append([]string{"one"}, keys...), name)...)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = inheritedFiles()
	cmd.WaitDelay = time.Second // for what an attack has left behind
	guard := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer guard.Stop()
	out, err := cmd.Output()
	if text := strings.TrimSpace(string(out)); text != "" {
		return text
	}
	return fmt.Sprintf("died\t%v", err)
}

// inheritedFiles are what the tests leave open on purpose, in their places, for
// the attacks to find.
var inheritedFiles = sync.OnceValue(func() []*os.File {
	var files []*os.File
	for fd := 3; fd < 32; fd++ {
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || strings.HasPrefix(link, "anon_inode:") { // the Go runtime's
			continue
		}
		for len(files) < fd-3 {
			files = append(files, nil)
		}
		files = append(files, os.NewFile(uintptr(fd), "inherited"))
	}
	return files
})

func run(name string) int {
	f, ok := attacks[name]
	if !ok {
		fmt.Printf("refused\tno such attack\n")
		return 64
	}
	detail, err := f()
	if err == nil {
		fmt.Printf("got\t%s\n", detail)
		return 0
	}
	// The kernel's own word for it.
	var errno syscall.Errno
	if errors.As(err, &errno) {
		fmt.Printf("refused\t%s\t%v\n", unix.ErrnoName(errno), err)
	} else {
		fmt.Printf("refused\t-\t%v\n", err)
	}
	return 1
}

// reached turns the error of a call that was given a senseless argument into
// success, if it is one the kernel comes to after it has permitted the call.
func reached(err error, after ...syscall.Errno) (string, error) {
	if err == nil {
		return "done", nil
	}
	for _, e := range after {
		if errors.Is(err, e) {
			return "permitted, then " + unix.ErrnoName(e), nil
		}
	}
	return "", err
}

// call is a system call by number.
func call(nr uintptr, args ...uintptr) error {
	_, err := call1(nr, args...)
	return err
}

func call1(nr uintptr, args ...uintptr) (uintptr, error) {
	var a [6]uintptr
	copy(a[:], args)
	r, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if e != 0 {
		return r, e
	}
	return r, nil
}

// weak sets up what `unshare -mpf` and a chroot make of a directory, the way a
// first try at a container does, and stays as its PID 1. What the launcher had
// open it keeps.
func weak(root string, pivot bool) error {
	type mount struct {
		source, target, fstype string
		flags                  uintptr
	}
	mounts := []mount{{"", "/", "", unix.MS_REC | unix.MS_PRIVATE}}
	if pivot {
		mounts = append(mounts, mount{root, root, "", unix.MS_BIND | unix.MS_REC})
	}
	mounts = append(mounts,
		mount{"proc", root + "/proc", "proc", 0},
		mount{"/dev", root + "/dev", "", unix.MS_BIND | unix.MS_REC},
		mount{"/sys", root + "/sys", "", unix.MS_BIND | unix.MS_REC},
		mount{root + "/dev/null", root + "/proc/filesystems", "", unix.MS_BIND},
		mount{root + "/proc/irq", root + "/proc/irq", "", unix.MS_BIND},
		mount{"", root + "/proc/irq", "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
	)
	for _, m := range mounts {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if pivot {
		if err := unix.Chdir(root); err != nil {
			return err
		}
		if err := unix.PivotRoot(".", "."); err != nil {
			return fmt.Errorf("pivot_root: %w", err)
		}
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return err
		}
	} else if err := unix.Chroot(root); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	fmt.Println("ready")
	return serveWeak()
}

func serveWeak() error {
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			time.Sleep(50 * time.Millisecond)
		} else if err != nil && err != unix.EINTR {
			return err
		}
	}
}

// canary is a process of the host with the secret open as descriptor 3. It
// writes a byte for every SIGWINCH it gets.
func canary(secret string) {
	caught := make(chan os.Signal, 16)
	signal.Notify(caught, unix.SIGWINCH)
	fd, err := unix.Open(secret, unix.O_RDONLY, 0)
	if err == nil && fd != 3 {
		err = unix.Dup2(fd, 3)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "canary:", err)
		os.Exit(1)
	}
	os.Stdout.WriteString("r")
	for range caught {
		os.Stdout.WriteString("w")
	}
}
