package control

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"jail/internal/sys"
)

// Find returns the first process of the jail on rootfs and a pidfd for it, for when
// that does not say who it is. The kernel does: it is process 1 of a namespace below
// this one (proc_pid_status(5), NSpid), and rootfs is its root directory. ErrNotRunning
// means that there is none.
func Find(rootfs string) (pid, pidfd int, err error) {
	var root syscall.Stat_t
	if err := syscall.Stat(rootfs, &root); err != nil {
		return 0, -1, &os.PathError{Op: "stat", Path: rootfs, Err: err}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, -1, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !isFirst(pid, &root) {
			continue
		}
		if pidfd, err = sys.PidfdOpen(pid); err != nil {
			continue // it has ended
		}
		if isFirst(pid, &root) { // the number was not given to another meanwhile
			return pid, pidfd, nil
		}
		sys.Close(pidfd)
	}
	return 0, -1, ErrNotRunning
}

func isFirst(pid int, root *syscall.Stat_t) bool {
	var st syscall.Stat_t
	return syscall.Stat("/proc/"+strconv.Itoa(pid)+"/root", &st) == nil && st.Dev == root.Dev && st.Ino == root.Ino && isInit(pid)
}

// isInit reports whether a process is process 1 of a namespace below this one.
func isInit(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	_, line, _ := strings.Cut(string(text), "\nNSpid:")
	line, _, _ = strings.Cut(line, "\n")
	pids := strings.Fields(line)
	return len(pids) > 1 && pids[len(pids)-1] == "1"
}
