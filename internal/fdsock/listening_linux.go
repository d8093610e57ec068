package fdsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"jail/internal/jail"
	"jail/internal/sys"
	"jail/internal/wire"
)

// file is what a path leads to, as the kernel's table of unix sockets has it: the device
// in the kernel's own encoding, and the lower half of the inode's number.
type file struct{ dev, ino uint32 }

func fileOf(path string) (file, bool) {
	var st syscall.Stat_t
	if syscall.Lstat(path, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return file{}, false
	}
	// makedev(3) and MKDEV of the kernel differ.
	major, minor := st.Dev>>8&0xfff|st.Dev>>32&^0xfff, st.Dev&0xff|st.Dev>>12&^0xff
	return file{uint32(major<<20 | minor), uint32(st.Ino)}, true
}

// listening returns the files that listening sockets are bound to, in the caller's
// network namespace (sock_diag(7), UDIAG_SHOW_VFS). Nobody is connected to for it, so
// that nobody takes the question for a login; and a socket's name, which everybody can
// choose, does not count.
func listening() (map[file]bool, error) {
	fail := func(err error) (map[file]bool, error) {
		return nil, fmt.Errorf("ask the kernel who listens (sock_diag(7), module unix_diag): %w", err)
	}
	const (
		netlinkSockDiag  = 4
		sockDiagByFamily = 20
		stateListen      = 10
		showVFS          = 2
		attrVFS          = 1
		requestLen       = syscall.NLMSG_HDRLEN + 24
		answerLen        = 16
	)
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return fail(err)
	}
	defer sys.Close(fd)
	req := make([]byte, requestLen)
	native := binary.NativeEndian
	native.PutUint32(req, requestLen)
	native.PutUint16(req[4:], sockDiagByFamily)
	native.PutUint16(req[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_DUMP)
	body := req[syscall.NLMSG_HDRLEN:]
	body[0] = syscall.AF_UNIX
	native.PutUint32(body[4:], 1<<stateListen)
	native.PutUint32(body[12:], showVFS)
	if err := syscall.Sendto(fd, req, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return fail(err)
	}
	found := map[file]bool{}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return fail(err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return fail(err)
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case syscall.NLMSG_DONE:
				return found, nil
			case syscall.NLMSG_ERROR:
				if len(m.Data) >= 4 {
					return fail(syscall.Errno(-int32(native.Uint32(m.Data))))
				}
				return fail(syscall.EPROTO)
			}
			for attrs := m.Data[min(answerLen, len(m.Data)):]; len(attrs) >= syscall.SizeofRtAttr; {
				size := int(native.Uint16(attrs))
				if size < syscall.SizeofRtAttr || size > len(attrs) {
					return fail(syscall.EPROTO)
				}
				if v := attrs[syscall.SizeofRtAttr:size]; native.Uint16(attrs[2:]) == attrVFS && len(v) >= 8 {
					found[file{native.Uint32(v[4:]), native.Uint32(v)}] = true
				}
				attrs = attrs[min((size+3)&^3, len(attrs)):]
			}
		}
	}
}

// Listens returns the first of some logins on whose socket somebody listens; ok is false
// if nobody does. It does not connect.
func Listens(runtimeDir string, uids []jail.HostUID) (uid jail.HostUID, ok bool, err error) {
	var found map[file]bool
	for _, uid := range uids {
		f, ok := fileOf(LoginPath(runtimeDir, uid))
		if !ok {
			continue
		}
		if found == nil {
			if found, err = listening(); err != nil {
				return 0, false, err
			}
		}
		if found[f] {
			return uid, true, nil
		}
	}
	return 0, false, nil
}

// Deaf returns those of some logins on whose socket nobody listens, or who have none. It
// does not connect.
func Deaf(runtimeDir string, uids []jail.HostUID) (deaf []jail.HostUID, err error) {
	found, err := listening()
	if err != nil {
		return nil, err
	}
	for _, uid := range uids {
		if f, ok := fileOf(LoginPath(runtimeDir, uid)); !ok || !found[f] {
			deaf = append(deaf, uid)
		}
	}
	return deaf, nil
}

// Left are the sockets of a runtime directory that somebody listened on, to find out
// whose listener a jail takes with it.
type Left struct{ paths map[string]file }

// Sockets notes which sockets of a runtime directory somebody listens on.
func Sockets(runtimeDir string) (*Left, error) {
	found, err := listening()
	if err != nil {
		return nil, err
	}
	l := &Left{paths: map[string]file{}}
	note := func(path string) {
		if f, ok := fileOf(path); ok && found[f] {
			l.paths[path] = f
		}
	}
	entries, err := os.ReadDir(runtimeDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if uid, err := strconv.ParseUint(e.Name(), 10, 32); err == nil {
			note(LoginPath(runtimeDir, jail.HostUID(uid)))
		}
	}
	ctl, _ := os.ReadDir(filepath.Join(runtimeDir, "ctl"))
	for _, e := range ctl {
		if jail.ValidName(e.Name()) {
			note(ControlPath(runtimeDir, e.Name()))
		}
	}
	return l, nil
}

// RemoveDead removes the sockets that nobody listens on any more: what a jail without a
// supervisor leaves. What was dead before, or has been replaced, is left alone.
func (l *Left) RemoveDead() {
	found, err := listening()
	if err != nil {
		return
	}
	for path, f := range l.paths {
		if now, ok := fileOf(path); !ok || now != f || found[f] {
			continue
		}
		_ = os.Remove(path)
		if filepath.Base(path) == wire.LoginName {
			RemoveDir(path)
		}
	}
}
