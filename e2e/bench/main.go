// Command bench measures what a jail costs and prints one table: the programs of
// this project, the floor of the machine and their peers, side by side in one
// run, their samples interleaved so that a busy moment hits all alike.
//
// What the machine must provide: root, Linux on amd64, go, and a statically
// linked busybox. sshd, ssh and ssh-keygen are needed for the row about ssh;
// nsenter, lxc-attach, crun, runc and bwrap are peers and left out where they
// are missing, with the reason printed instead of a number.
//
// Nothing of the machine is changed: everything happens in mount and pid
// namespaces of its own, with a copy of /etc and an empty /run, in a directory
// below /var/tmp that is removed at the end. No network is used; sshd talks
// through a pipe.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The program runs three times, one inside the other: the outermost one builds
// what is needed, PID 1 of the namespaces furnishes them and reaps, the
// innermost measures. stageEnv tells which one this is.
const (
	stageEnv   = "JAIL_BENCH_STAGE"
	scratchEnv = "JAIL_BENCH_SCRATCH"
	stageInit  = "init"
	stageRun   = "run"
)

// mark is in the name of everything that could be left behind by a peer.
const mark = "jail-bench"

type options struct {
	quick bool
	only  *regexp.Regexp
	out   string
	bin   string
	plot  string
}

func main() { os.Exit(run()) }

func run() int {
	var o options
	only := ""
	flag.BoolVar(&o.quick, "quick", false, "fewer runs, less than a minute")
	flag.StringVar(&only, "only", "", "measure the rows whose name matches this `regexp`")
	flag.StringVar(&o.out, "o", "", "write the table to `file` too")
	flag.StringVar(&o.plot, "plot", "", "draw what the rows compare into `file`, as SVG")
	flag.StringVar(&o.bin, "bin", "", "measure the programs in `dir` instead of building them")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(only); err != nil || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench: -only takes a regular expression, and there are no arguments")
		return 2
	}
	scratch := os.Getenv(scratchEnv)
	status := 0
	switch os.Getenv(stageEnv) {
	case stageInit:
		status, err = initStage(scratch)
	case stageRun:
		err = measure(o, scratch)
	default:
		status, err = outerStage(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return status
}

// outerStage builds programs and trees, then runs the rest in new namespaces.
func outerStage(o options) (status int, err error) {
	if os.Getuid() != 0 {
		return 0, errors.New("root is needed: namespaces, mounts, sshd and most peers")
	}
	if runtime.GOARCH != "amd64" {
		return 0, errors.New("the smallest programs it starts are amd64 machine code")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return 0, errors.New("a statically linked busybox is needed (Debian: busybox-static)")
	}
	scratch, err := os.MkdirTemp("/var/tmp", mark+"-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch), removeCgroups(filepath.Base(scratch))) }()
	if err := os.Chmod(scratch, 0o755); err != nil { // the logins execute programs in it
		return 0, err
	}
	if err := programs(o, filepath.Join(scratch, "bin")); err != nil {
		return 0, err
	}
	if err := trees(scratch, busybox); err != nil {
		return 0, err
	}

	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT) // those inside end, then it is cleaned up
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// Standard output is the table and nothing else.
	var table bytes.Buffer
	cmd.Stdout = io.MultiWriter(os.Stdout, &table)
	defer func() {
		if o.out != "" {
			err = errors.Join(err, os.WriteFile(o.out, table.Bytes(), 0o644))
		}
		if o.plot != "" {
			err = errors.Join(err, os.WriteFile(o.plot, []byte(plot(table.String())), 0o644))
		}
	}()
	cmd.Env = append(os.Environ(), stageEnv+"="+stageInit, scratchEnv+"="+scratch)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// programs puts the programs to measure into dir, built as they are released.
func programs(o options, dir string) error {
	if o.bin != "" {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		return command("sh", "-c", `cp "$1"/jail-* "$2"`, "sh", o.bin, dir)
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list -m: %w", err)
	}
	return command("make", "-s", "-C", strings.TrimSpace(string(root)), "build", "BIN="+dir)
}

// initStage is PID 1 of the pid namespace: it reaps what peers leave behind, and
// everything ends with it.
func initStage(scratch string) (int, error) {
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT)
	if err := furnish(scratch); err != nil {
		return 0, err
	}
	os.Setenv(stageEnv, stageRun)
	signal.Reset(syscall.SIGINT, syscall.SIGQUIT)
	p, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT)
	if err != nil {
		return 0, err
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait4: %w", err)
		case pid == p.Pid && ws.Signaled():
			return 128 + int(ws.Signal()), nil
		case pid == p.Pid:
			return ws.ExitStatus(), nil
		}
	}
}

// bench is one run.
type bench struct {
	options
	scratch string
	table   table
	server  *server // holds the jails most rows use
	peers   []*peer
}

// n is how often something is done.
func (b *bench) n(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// share is the time one set of samples may take; it ends earlier with fewer.
func (b *bench) share() time.Duration {
	if b.quick {
		return 3500 * time.Millisecond
	}
	return 25 * time.Second
}

// measure runs the rows and prints the table.
func measure(o options, scratch string) error {
	// The samples are taken in this process: let nothing of its own run between.
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	debug.SetMemoryLimit(1 << 30)

	b := &bench{options: o, scratch: scratch}
	limit := 9 * time.Minute
	if b.quick {
		limit = 2 * time.Minute
	}
	watchdog := time.AfterFunc(limit, func() {
		b.print()
		fmt.Fprintf(os.Stderr, "bench: stopped after %v: the machine is too busy, or something hangs\n", limit)
		os.Exit(1)
	})
	defer watchdog.Stop()

	if err := b.start(); err != nil {
		return err
	}
	defer b.stop()
	for _, r := range rows {
		if !b.only.MatchString(r.name) {
			continue
		}
		began := time.Now()
		if err := r.run(b); err != nil {
			b.table.add(line{what: r.name, value: "–", note: err.Error()})
		}
		fmt.Fprintf(os.Stderr, "bench: %s: %.1f s\n", r.name, time.Since(began).Seconds())
	}
	b.print()
	return nil
}

// rows are the parts of the table, by the name -only matches.
var rows = []struct {
	name string
	run  func(*bench) error
}{
	{"warm entry", (*bench).warm},
	{"warm shell", (*bench).warmShell},
	{"records", (*bench).records},
	{"cold start", (*bench).cold},
	{"cage", (*bench).cage},
	{"base", (*bench).based},
	{"ssh", (*bench).ssh},
	{"pipe", (*bench).pipes},
	{"sftp", (*bench).sftp},
	{"tty echo", (*bench).ttyEcho},
	{"tty output", (*bench).ttyOutput},
	{"recorded output", (*bench).recorded},
	{"idle memory", (*bench).idleMemory},
	{"session memory", (*bench).sessionMemory},
	{"idle jails", (*bench).idleJails},
	{"500 sessions", (*bench).manySessions},
	{"flat memory", (*bench).flat},
	{"scale jails", (*bench).scaleJails},
	{"scale logins", (*bench).scaleLogins},
	{"scale matched", (*bench).scaleMatched},
	{"network", (*bench).network},
}

func (b *bench) print() { fmt.Print(b.table.String()) }

// command runs a program to its end; its output is in the error.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// others is the name of the place that a bench has (see place).
var others = regexp.MustCompile("^" + mark + "-[0-9]+$")

// removeCgroups removes those that servers have been in, below own, and those that a peer was
// kept from removing.
func removeCgroups(own string) error {
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, mark) {
			if name := d.Name(); others.MatchString(name) && name != own {
				return fs.SkipDir
			}
			found = append(found, path)
		}
		return nil
	})
	var errs []error
	for i := len(found) - 1; i >= 0; i-- { // children first
		err := os.Remove(found[i])
		for try := 0; errors.Is(err, syscall.EBUSY) && try < 100; try++ {
			time.Sleep(20 * time.Millisecond) // processes in it are still ending
			err = os.Remove(found[i])
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
