package recording

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"jail/internal/cgroup"
	"jail/internal/fdsock"
	"jail/internal/sys"
)

// Verb is what jail-init is called with to be a recorder; it is not for people. Its listener is
// descriptor 3, and it takes nobody new when its standard input has ended.
const Verb = "record-terminals"

// Name is the first argument of a recorder, by which ps(1) shows it.
const Name = "jail-recorder"

// Keeper sees to it that a recorder runs as long as its own process does. One that it has started
// outlives it as long as the sessions that are recorded.
type Keeper struct {
	RuntimeDir, ConfigPath string
	Stderr                 *os.File // nil is none
	Log                    func(format string, args ...any)

	mu      sync.Mutex
	started bool
	stop    io.Closer
	runner  *os.Process // the last one that a runner has become, or will
}

// Start starts a recorder, and another one whenever it ends. It does so once; what it waits for it
// waits for beside the caller.
func (k *Keeper) Start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.started {
		return
	}
	k.started = true
	r, w, err := os.Pipe()
	fd := -1
	if err == nil {
		k.stop = w
		fd, err = fdsock.ListenRecorder(fdsock.RecorderPath(k.RuntimeDir))
	}
	config := k.ConfigPath
	if err == nil {
		config, err = filepath.Abs(config) // the recorder is elsewhere
	}
	if err != nil {
		k.Log("error: no session is recorded: %v", err)
		return
	}
	go k.keep(r, fd, config)
}

// leaveWithin bounds how long Stop waits for a recorder that is on its way into its scope.
const leaveWithin = 2 * time.Second

// Stop tells the recorder that serve ends. One that a runner has not become yet is waited for, since it is in serve's
// cgroup until then, and ended if it does not.
func (k *Keeper) Stop() {
	k.mu.Lock()
	if k.stop != nil {
		_ = k.stop.Close()
	}
	p := k.runner
	k.mu.Unlock()
	if p == nil {
		return
	}
	for deadline := time.Now().Add(leaveWithin); beside(p.Pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = p.Kill()
			return
		}
	}
}

// beside reports whether a process is in this one's cgroups.
func beside(pid int) bool {
	own, err := os.ReadFile("/proc/self/cgroup")
	its, errIts := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && errIts == nil && string(own) == string(its)
}

// How long to wait before a recorder that has ended is started again.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

func (k *Keeper) keep(stop *os.File, listener int, config string) {
	defer sys.Close(listener)
	runner := scopeRunner()
	for n, pause := 1, firstPause; ; n, pause = n+1, min(2*pause, lastPause) {
		began := time.Now()
		cmd := recorder(runner, n, "--config", config, "--runtime-dir", k.RuntimeDir, Verb)
		cmd.Stdin, cmd.Dir = stop, "/"
		if k.Stderr != nil {
			cmd.Stderr = k.Stderr
		}
		fd, err := sys.Fcntl(listener, syscall.F_DUPFD_CLOEXEC, 3)
		if err == nil {
			file := os.NewFile(uintptr(fd), "recorder")
			cmd.ExtraFiles = []*os.File{file}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ^C is serve's
			if err = cmd.Start(); err == nil {
				if runner != "" {
					k.mu.Lock()
					k.runner = cmd.Process
					k.mu.Unlock()
				}
				err = cmd.Wait()
			}
			file.Close()
		}
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.Exited() {
			runner = "" // it may be systemd-run that has failed: better there than not at all
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		k.Log("error: the recorder has ended (%v); sessions that it recorded go on without, new ones are recorded in %v", err, pause)
		time.Sleep(pause)
	}
}

// recorder is the command of the nth recorder of this process. With a runner it is in a scope unit of
// systemd's, systemd.scope(5): it outlives this process, and in its cgroup systemd would come upon
// it as left over when it starts the service again.
func recorder(runner string, n int, args ...string) *exec.Cmd {
	if runner == "" {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Args[0] = Name
		return cmd
	}
	pid := strconv.Itoa(os.Getpid())
	// It ends after the jails, when the machine goes down.
	return exec.Command(runner, append([]string{"--scope", "--quiet", "--collect", "--unit=" + Name + "-" + pid + "-" + strconv.Itoa(n),
		"--description=Recorder of terminals in jails", "--property=Before=" + cgroup.Unit, "--", "/proc/" + pid + "/exe"}, args...)...)
}

// scopeRunner is the program that starts another one in a scope unit and becomes it, systemd-run(1), "" where
// this process is not the main one of a system service (SYSTEMD_EXEC_PID, systemd.exec(5), since
// systemd 248).
func scopeRunner() string {
	if os.Geteuid() != 0 || os.Getenv("SYSTEMD_EXEC_PID") != strconv.Itoa(os.Getpid()) {
		return ""
	}
	runner, err := exec.LookPath("systemd-run")
	if err != nil {
		return ""
	}
	return runner
}

// Rename has a recorder that a runner has started be shown by its name: it is started anew. It returns
// where that has been done, or cannot be.
func Rename() {
	if os.Args[0] != Name {
		_ = syscall.Exec("/proc/self/exe", append([]string{Name}, os.Args[1:]...), os.Environ())
	}
}
