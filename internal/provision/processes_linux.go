package provision

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"jail/internal/sys"
)

// endProcesses kills every process that has one of these uids of the host, and returns
// whether none is left. Each is killed by a descriptor of it that was there before its uid was
// looked at: its number may be somebody else's a moment later.
func endProcesses(uids ...uint32) bool {
	for range 50 {
		if kill(uids) == 0 {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return kill(uids) == 0
}

func kill(uids []uint32) (found int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := sys.PidfdOpen(pid)
		if err != nil {
			continue
		}
		if uid, ok := uidOf(pid); ok {
			for _, u := range uids {
				if uid == u {
					found++
					sys.PidfdSendSignal(fd, syscall.SIGKILL)
					break
				}
			}
		}
		sys.Close(fd)
	}
	return found
}

// uidOf is the real uid of a process that is not a zombie.
func uidOf(pid int) (uint32, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil || bytes.Contains(text, []byte("\nState:\tZ")) {
		return 0, false
	}
	_, rest, ok := bytes.Cut(text, []byte("\nUid:\t"))
	if !ok {
		return 0, false
	}
	id, _, _ := bytes.Cut(rest, []byte("\t"))
	n, err := strconv.ParseUint(string(id), 10, 32)
	return uint32(n), err == nil
}
