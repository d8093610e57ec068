package session

import (
	"syscall"

	"jail/internal/localtime"
	"jail/internal/passwd"
	"jail/internal/sys"
	"jail/internal/wire"
)

// maxLastHost is how much of the name or address in lastlog is shown: HOST_NAME_MAX, as in sshd
// (sshlogin.c:store_lastlog_message).
const maxLastHost = 64

// lastLogin appends to dst the line with which sshd says when and from where a user last logged in
// (sshlogin.c), from the jail's lastlog, which this login's child overwrites later. Nothing is
// appended where lastlog does not say it. Only a ForceCommand is told: to others sshd, or login on a
// console, has said it by itself, of the host's lastlog.
//
// The file may be anything. It is read where record would write it: a regular file of root's with one
// name, no link, so that whoever can write its directory learns nothing of another file; and on
// the file system of the root, for which PID 1 waits in any case: one that does not answer holds nobody.
func (j *Jail) lastLogin(dst []byte, s *Slot, u *passwd.Entry) []byte {
	if s.Req.Flags&wire.FlagForced == 0 || u.UID >= maxLastlogUID {
		return dst
	}
	fd, err := sys.Openat2(j.Root, lastlogFile, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY,
		sys.ResolveBeneath|sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks|sys.ResolveNoXdev)
	if err != nil {
		return dst
	}
	defer sys.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Nlink != 1 || int(st.Uid) != syscall.Geteuid() {
		return dst
	}
	var b [lastlogSize]byte
	if n, err := syscall.Pread(fd, b[:], int64(u.UID)*lastlogSize); err != nil || n != len(b) {
		return dst
	}
	return appendLastLogin(dst, b[:], j.rule)
}

// appendLastLogin appends the line that a record of lastlog comes to in a zone of that rule. What a
// terminal would take for more than text is left out.
func appendLastLogin(dst, record []byte, rule string) []byte {
	at := get32(record)
	if at == 0 {
		return dst
	}
	local, _ := localtime.Of(rule, int64(at))
	dst = localtime.Append(append(dst, "Last login: "...), local)
	from := false
	for _, c := range record[36:][:maxLastHost] {
		if c == 0 {
			break
		}
		if c <= ' ' || c > '~' {
			continue
		}
		if !from {
			dst, from = append(dst, " from "...), true
		}
		dst = append(dst, c)
	}
	return append(dst, "\r\n"...)
}

func get32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}
