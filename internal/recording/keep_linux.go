package recording

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"jail/internal/fdsock"
	"jail/internal/sys"
)

// Verb is what jail-init is called with to be a recorder; it is not for people. Its listener is
// descriptor 3, and it takes nobody new when its standard input has ended.
const Verb = "record-terminals"

// Keeper sees to it that a recorder runs as long as its own process does. One that it has started
// outlives it as long as the sessions that are recorded.
type Keeper struct {
	RuntimeDir, ConfigPath string
	Stderr                 *os.File // nil is none
	Log                    func(format string, args ...any)

	mu      sync.Mutex
	started bool
	stop    io.Closer
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

// Stop tells the recorder that serve ends.
func (k *Keeper) Stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stop != nil {
		_ = k.stop.Close()
	}
}

// How long to wait before a recorder that has ended is started again.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

func (k *Keeper) keep(stop *os.File, listener int, config string) {
	defer sys.Close(listener)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		cmd := exec.Command("/proc/self/exe", "--config", config, "--runtime-dir", k.RuntimeDir, Verb)
		cmd.Args[0] = "jail-recorder"
		cmd.Stdin, cmd.Dir = stop, "/"
		if k.Stderr != nil {
			cmd.Stderr = k.Stderr
		}
		fd, err := sys.Fcntl(listener, syscall.F_DUPFD_CLOEXEC, 3)
		if err == nil {
			file := os.NewFile(uintptr(fd), "recorder")
			cmd.ExtraFiles = []*os.File{file}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ^C is serve's
			err = cmd.Run()
			file.Close()
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		k.Log("error: the recorder has ended (%v); sessions that it recorded go on without, new ones are recorded in %v", err, pause)
		time.Sleep(pause)
	}
}
