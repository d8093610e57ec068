// Package e2e tests the programs as their users meet them: a real sshd, a real
// ssh, real su, real root file systems, and plain sshd beside them as the
// oracle.
//
// What the machine must provide: root with CAP_SYS_ADMIN (mount, pid and user
// namespaces, overlayfs on tmpfs, file systems below /var/tmp that can be
// idmapped), Linux 5.14 or newer, and on PATH: go, sshd, ssh, ssh-keygen, su,
// sudo, runuser, login, nsenter, newuidmap, mmdebstrap, xauth, Xvfb, xdpyinfo,
// busybox linked statically, skopeo, musl-gcc, rpm, rpmbuild, and the clients that packaging/deps.sh installs. The
// first run needs a Debian mirror for mmdebstrap; the tree it makes is kept.
//
// Nothing of the machine is changed but /var/tmp and the kept trees: the tests
// run in mount and pid namespaces of their own, with a copy of /etc,
// overlays on /usr and /var/lib, and empty /run, /srv, /tmp, /var/lib/jail and /var/log.
//
// Environment:
//
//	JAIL_TEST_BIN=DIR       use the programs in DIR instead of building them; with
//	                        argv and attack among them, go is not needed
//	JAIL_TEST_TREES=DIR     keep the root file systems in DIR instead of build/trees
//	JAIL_TEST_LOGS=DIR      keep the logs of sshd and of jail-init in DIR
//	JAIL_TEST_BITES=REGEXP  attacks that must succeed in the weak container, whatever
//	                        a kernel may lack (TestAttack)
//	JAIL_TEST_INJECT=all    refuse every system call there is, not a sample (TestInject)
//	JAIL_TEST_OLD=DIR       the programs of another build, to and from which TestUpgrade goes
//	JAIL_TEST_UPDATE=1      write docs/compatibility.md (TestClients) instead of comparing it
//	JAIL_TEST_MUST_RUN=1    without root, fail instead of skipping everything
package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/sys"
)

// The test binary runs three times, one inside the other: the outermost one
// builds what is needed, PID 1 of the namespaces furnishes them and reaps, the
// innermost runs the tests. stageEnv tells which one this is.
const (
	stageEnv  = "JAIL_TEST_STAGE"
	stageInit = "init"
	stageRun  = "run"

	scratchEnv = "JAIL_TEST_SCRATCH"
)

// The first thread is TestMain's. It outlives what a test makes of its thread, another uid or
// another network namespace, and would have the whole process seen as that.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	flag.Parse()
	unix.Umask(0o022) // other ids go into what is made here, and run it
	switch os.Getenv(stageEnv) {
	case stageInit:
		return initMain()
	case stageRun:
		return runMain(m)
	}
	if flag.Lookup("test.list").Value.String() != "" {
		return m.Run()
	}
	if os.Getuid() != 0 {
		if mustRun() {
			fmt.Fprintln(os.Stderr, "e2e: root is needed")
			return 1
		}
		fmt.Fprintln(os.Stderr, "e2e: skipped, root is needed")
		return 0
	}
	status, err := outerMain()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return status
}

func mustRun() bool { return os.Getenv("JAIL_TEST_MUST_RUN") == "1" }

// outerMain builds programs and trees, then runs the rest in new namespaces.
func outerMain() (int, error) {
	// Caught, not ignored, which all that the tests start would inherit. go
	// test makes a test that takes too long print its stacks and end by SIGQUIT;
	// that is for the innermost one to do. The others end everything at once,
	// and what is in scratch is removed.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGQUIT)
	signal.Notify(interrupted, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	scratch, err := os.MkdirTemp("/var/tmp", "jail-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(scratch)
	if err := buildPrograms(filepath.Join(scratch, "bin")); err != nil {
		return 0, err
	}
	if old := os.Getenv("JAIL_TEST_OLD"); old != "" {
		if err := os.Mkdir(filepath.Join(scratch, "old"), 0o755); err != nil {
			return 0, err
		}
		names := slices.DeleteFunc(programNames(), func(name string) bool { // a program of later
			_, err := os.Stat(filepath.Join(old, name))
			return slices.Contains(laterPrograms, name) && err != nil
		})
		if err := copyPrograms(old, filepath.Join(scratch, "old"), names); err != nil {
			return 0, err
		}
	}
	if err := copyTrees(scratch); err != nil {
		return 0, err
	}
	if err := copyModules(scratch); err != nil {
		return 0, err
	}

	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	// go test remembers by a log of what was read whether a test is to be run again. What
	// this one reads is not all in there, and the place of the log is not seen from inside.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		return strings.HasPrefix(arg, "-test.testlogfile=")
	})
	cmd := exec.Command(self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageEnv+"="+stageInit, scratchEnv+"="+scratch)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // whose end is what Pdeathsig is about
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		<-interrupted
		cmd.Process.Kill()
	}()
	cmd.Wait()
	return exitStatus(cmd.ProcessState), nil
}

func exitStatus(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}

// buildPrograms puts the programs, the argv shell and the attacks into dir.
func buildPrograms(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	prebuilt := os.Getenv("JAIL_TEST_BIN")
	own, complete := []string{"argv", "attack"}, prebuilt != ""
	for _, name := range own {
		if _, err := os.Stat(filepath.Join(prebuilt, name)); err != nil {
			complete = false
		}
	}
	if complete {
		return copyPrograms(prebuilt, dir, append(own, programNames()...))
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	run := func(args ...string) error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", args[0], err, out)
		}
		return nil
	}
	if err := run("go", "build", "-o", dir+"/", "./e2e/testdata/argv", "./e2e/attack"); err != nil {
		return err
	}
	if prebuilt == "" {
		return run("make", "-s", "build", "BIN="+dir)
	}
	return copyPrograms(prebuilt, dir, programNames())
}

func copyPrograms(from, to string, names []string) error {
	for _, name := range names {
		if err := command("cp", filepath.Join(from, name), to); err != nil {
			return err
		}
	}
	return nil
}

// copyModules takes along what packaging/deps.sh has put into build/npm, which the
// namespaces may cover. Without them the row that needs them fails.
func copyModules(scratch string) error {
	root, err := moduleRoot()
	if errors.Is(err, exec.ErrNotFound) { // a test that was compiled elsewhere
		return nil
	}
	if err != nil {
		return err
	}
	modules := filepath.Join(root, "build", "npm")
	if _, err := os.Stat(modules); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return command("cp", "-a", modules, filepath.Join(scratch, "npm"))
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// initMain is PID 1 of the tests' pid namespace: everything a test leaves
// behind becomes its child and dies with it.
func initMain() int {
	if err := furnish(os.Getenv(scratchEnv)); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: furnishing the namespaces:", err)
		return 1
	}
	// The Go runtime has raised this, and pam_limits of Linux-PAM 1.7 gives a session
	// what PID 1 has; from the kernel that would be this (INR_OPEN_CUR).
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: getrlimit:", err)
		return 1
	}
	files.Cur = min(files.Max, 1024)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: setrlimit:", err)
		return 1
	}
	os.Setenv(stageEnv, stageRun)
	os.Setenv("TMPDIR", filepath.Join(os.Getenv(scratchEnv), "tmp"))
	// Its own path may be below /tmp, which is covered by now.
	process, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			fmt.Fprintln(os.Stderr, "e2e: wait4:", err)
			return 1
		case pid == process.Pid && ws.Exited():
			return ws.ExitStatus()
		case pid == process.Pid && ws.Signaled():
			return 128 + int(ws.Signal())
		}
	}
}

func runMain(m *testing.M) int {
	// No core files, whatever dies; and the mask an administrator has.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: setrlimit:", err)
		return 1
	}
	unix.Umask(0o022)
	// Whoever runs this may ignore the C library's own signal, and sshd passes
	// that on where the jail does not.
	sys.SetSignal(32, false)
	world = newWorld(os.Getenv(scratchEnv))
	sideBySide()
	status := m.Run()
	if err := world.close(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		status = max(status, 1)
	}
	return status
}

// sideBySide lets eight tests run at a time where there are fewer processors, unless
// -parallel says how many: a client waits for the other end most of the time.
func sideBySide() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", strconv.Itoa(max(8, runtime.GOMAXPROCS(0))))
	}
}

// command runs a program to its end; its output is in the error.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(append([]string{name}, args...), " "), err, out)
	}
	return nil
}

// deadline bounds every wait: long enough for a busy machine, short enough to
// fail while somebody is still looking.
const deadline = 30 * time.Second

// eventually polls until cond holds. It is for what the tests cannot be told
// of: another process's end, a file another process writes.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	if !poll(deadline, cond) {
		t.Fatalf("still not so after %v: %s", deadline, what)
	}
}

func poll(limit time.Duration, cond func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if cond() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
