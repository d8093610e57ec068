package launch

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"jail/internal/event"
	"jail/internal/jail"
	"jail/internal/rootfs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// awaitReady is the last step of a start: it waits for PID 1's word.
func awaitReady(conn int, deadline time.Time) error {
	fds := []sys.PollFD{{FD: int32(conn), Events: sys.PollIn}}
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("PID 1 is not ready in time")
		}
		n, err := sys.Poll(fds, int(left.Milliseconds())+1)
		if err != nil {
			return err
		}
		if n > 0 {
			break
		}
	}
	buf := make([]byte, 1024)
	var m sys.MsgBuf
	n, err := sys.RecvMsg(conn, buf, true, &m)
	sys.CloseForeign(m.FDs)
	if err != nil || n == 0 {
		return errors.New("PID 1 ended before it was ready")
	}
	typ, _, body, err := wire.Header(buf[:n])
	switch {
	case err != nil:
	case typ == wire.TypeReady && len(body) == 0:
		return nil
	case typ == wire.TypeFailed:
		text, err := wire.DecodeText(body)
		if err == nil && text == rootfs.ErrBusy.Error() {
			return ErrBusy
		}
		if err == nil {
			return errors.New(event.Quote(text)) // the rootfs may have a say in it
		}
	}
	return errors.New("PID 1's answer makes no sense")
}

// addLogin hands a PID 1 that is ready one more login.
func addLogin(conn int, lg *jail.Login, listener int, deadline time.Time) error {
	id := Identity(lg)
	packet := wire.AppendAddLogin(nil, &id)
	var m sys.MsgBuf
	for {
		err := sys.SendMsg(conn, packet, []int{listener}, false, &m)
		if err == nil {
			return nil
		}
		if err != syscall.EAGAIN {
			return fmt.Errorf("hand over login %s: %w", lg.Name, err)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("PID 1 does not take its logins in time")
		}
		if _, err := sys.Poll([]sys.PollFD{{FD: int32(conn), Events: sys.PollOut}}, int(left.Milliseconds())+1); err != nil {
			return err
		}
	}
}

func cloneError(err error) error {
	switch err {
	case syscall.ENOSPC:
		return errors.New("too many namespaces (user.max_*_namespaces)")
	case syscall.EPERM:
		return errors.New("not permitted to make namespaces; as an ordinary user this needs unprivileged user namespaces")
	}
	return err
}

func reap(pid int) syscall.WaitStatus {
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if err != syscall.EINTR {
			return ws
		}
	}
}

// explainDeath adds what the child's exit status says.
func explainDeath(err error, ws syscall.WaitStatus) error {
	switch {
	case ws.Signaled() && ws.Signal() != syscall.SIGKILL: // SIGKILL is ours
		return fmt.Errorf("%w: it died of signal %d (%v)", err, ws.Signal(), ws.Signal())
	case !ws.Exited():
		return err
	}
	switch ws.ExitStatus() {
	case sys.ChildNoCred:
		return errors.New("become root of the user namespace: not permitted")
	case sys.ChildNoCaps:
		return errors.New("reduce capabilities: not permitted")
	case sys.ChildNoLandlock:
		return errors.New("enter the Landlock domain: not permitted")
	case sys.ChildNoFDs:
		return errors.New("arrange descriptors: failed")
	case sys.ChildNoExe:
		return errors.New("clone the mount of jail-pid1: failed")
	case sys.ChildNoCgroup:
		return errors.New("make a cgroup namespace: not permitted")
	}
	return fmt.Errorf("%w: it ended with status %d", err, ws.ExitStatus())
}
