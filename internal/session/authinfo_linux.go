package session

import (
	"strconv"
	"syscall"

	"jail/internal/passwd"
	"jail/internal/sys"
)

// writeAuth makes the file that SSH_USER_AUTH names, in which a program finds the key
// that a login came with: what sshd has noted on the host (sshd_config(5), ExposeAuthInfo;
// auth.c:auth_log_authopts), one method a line. Nobody but the session's user can read
// it, and the directory is root's.
func (j *Jail) writeAuth(u *passwd.Entry, lines [][]byte) (name string, err error) {
	j.serial++
	name = strconv.FormatUint(j.serial, 10)
	fd, err := sys.Openat2Mode(j.Auth.FD, name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW, 0o600, sys.ResolveBeneath|sys.ResolveNoSymlinks)
	if err != nil {
		return "", err
	}
	j.text = j.text[:0]
	for _, line := range lines {
		j.text = append(append(j.text, line...), '\n')
	}
	n, err := sys.Write(fd, j.text)
	if err == nil && n < len(j.text) {
		err = syscall.ENOSPC
	}
	if err == nil {
		err = syscall.Fchown(fd, int(u.UID), int(u.GID))
	}
	sys.Close(fd)
	if err != nil {
		_ = sys.Unlinkat(j.Auth.FD, name, 0)
		return "", err
	}
	return name, nil
}
