package admin

import (
	"cmp"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"jail/internal/record"
	"jail/internal/sys"
	"jail/internal/wire"
)

// tellCaller tells the supervisor of a jail who has called a session of Exec, for its records, as
// jail-enter does for a login's. Nobody waits for it.
func tellCaller(opt Options, name string, pid uint32, command []string) {
	c := wire.Caller{PID: pid, Jail: []byte(name), UID: callerUID(), Command: []byte(strings.Join(command, " "))}
	if os.Getenv("SUDO_UID") == "" { // or it is whoever's who has called sudo
		c.SSHD = os.Getenv("SSH_CONNECTION") != ""
		c.Connection = []byte(os.Getenv("SSH_CONNECTION"))
	}
	var st syscall.Stat_t
	if syscall.Fstat(0, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFCHR {
		c.TTY = st.Rdev
	}
	packet := wire.AppendCaller(nil, &c)
	if sendTo(filepath.Join(opt.RuntimeDir, wire.CallerName), packet) {
		return
	}
	// Of jail-init run, beside the socket of each of its logins: its others pass it over.
	const most = 256
	paths, _ := filepath.Glob(filepath.Join(opt.RuntimeDir, "[0-9]*", wire.CallerName))
	for _, path := range paths[:min(len(paths), most)] {
		sendTo(path, packet)
	}
}

// sendTo sends a packet, if somebody listens who has room for it.
func sendTo(path string, packet []byte) bool {
	fd, err := sys.Seqpacket()
	if err != nil {
		return false
	}
	defer sys.Close(fd)
	var m sys.MsgBuf
	return sys.SetNonblock(fd) == nil && sys.Connect(fd, path) == nil && sys.SendMsg(fd, packet, nil, false, &m) == nil
}

// callerUID is who has logged in, and is root by now: the loginuid (proc(5)), which
// nobody can change back, or else what sudo says, or else who we are.
func callerUID() uint32 {
	const none = 1<<32 - 1
	text, _ := os.ReadFile("/proc/self/loginuid")
	if uid, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32); err == nil && uid != none {
		return uint32(uid)
	}
	if uid, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32); err == nil && uid != none {
		return uint32(uid)
	}
	return uint32(os.Getuid())
}

// callerName is a uid of callerUID as people know it.
func callerName(c *record.Caller) string {
	if c == nil || c.UID == nil {
		return ""
	}
	id := strconv.FormatUint(uint64(*c.UID), 10)
	if u, err := user.LookupId(id); err == nil {
		return plain(cmp.Or(u.Username, id))
	}
	return id
}
