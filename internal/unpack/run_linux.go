// Package unpack is jail-import: it unpacks one archive into one directory, in namespaces
// where there is nothing else, and ends. The archive is hostile, and so many lines of
// decompression that this process may become the archive's: then it has what is in its
// own image, which is the archive's to say anyhow, and a socket on which it says how far
// it is.
package unpack

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/archive"
	"jail/internal/confine"
	"jail/internal/rootfs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// connFD is the socket to jail-init.
const connFD = 3

// memory bounds what the process may take, in bytes: what a bug in a decompressor may do
// to the host. Two million entries of a layer take 300 MiB, a window 256.
const memory = 1 << 30

// capabilities are what making files of all ids takes, and no more (capabilities(7)).
const capabilities = sys.CapChown | sys.CapDacOverride | sys.CapFowner | sys.CapFsetid | sys.CapSetfcap

// Run is the whole life of jail-import. It returns the exit status.
func Run() int {
	if syscall.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "jail-import: is started by jail image import only")
		return 64
	}
	_ = sys.SetDumpable(false)
	c := &conn{}
	if err := run(c); err != nil {
		c.send(wire.AppendText(nil, wire.TypeFailed, err.Error()), true)
		return 1
	}
	return 0
}

func run(c *conn) error {
	order, dir, source, err := c.receive()
	if err != nil {
		return err
	}
	if err := confineTo(dir); err != nil {
		return err
	}
	go c.watch()
	return unpack(c, order, dir, source)
}

// confineTo gives up everything but the directory.
func confineTo(dir int) error {
	lim := syscall.Rlimit{Cur: memory, Max: memory}
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &lim); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	debug.SetMemoryLimit(memory * 3 / 4)
	unix.Umask(0)
	if err := rootfs.Enter(dir); err != nil {
		return err
	}
	if err := sys.SeccompAllThreads(confine.Filter()); err != nil {
		return fmt.Errorf("install seccomp filter: %w", err)
	}
	if err := sys.CapSetAllThreads(capabilities); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if got, err := sys.CapEffective(); err != nil || got != capabilities {
		return fmt.Errorf("drop capabilities: have %x, want %x", uint64(got), uint64(capabilities))
	}
	return nil
}

func unpack(c *conn, order wire.Unpack, dir, source int) error {
	t, err := newTree(dir, func(text string) { c.send(wire.AppendText(nil, wire.TypeLog, text), true) })
	if err != nil {
		return err
	}
	opt := archive.Options{
		MaxBytes: order.MaxBytes, MaxEntries: order.MaxEntries, Machine: order.Machine, Reference: order.Reference,
		Note: t.notes, Progress: c.progress,
	}
	if order.Dir {
		err = archive.UnpackLayout(below(source), opt, t)
	} else {
		err = archive.Unpack(os.NewFile(uintptr(source), "archive"), opt, t)
	}
	if err != nil {
		return bare(err)
	}
	if other := t.foreign(order.Machine); other != "" {
		return fmt.Errorf("its programs are for %s, and this machine is %s", other, order.Machine)
	}
	t.finishAll()
	t.checkRoot()
	c.send(wire.AppendProgress(nil, wire.TypeUnpacked, c.last), true)
	return nil
}

// below opens the regular files of an OCI layout.
func below(dir int) func(name string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		const rules = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
		fd, err := sys.Openat2(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, rules)
		switch err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR:
			return nil, fs.ErrNotExist
		default:
			return nil, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			unix.Close(fd)
			return nil, errors.New("is not a regular file")
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// conn is the socket to jail-init.
type conn struct {
	m    sys.MsgBuf
	last wire.Progress
	said int64 // when progress was last told, in milliseconds
}

// receive receives the one order.
func (c *conn) receive() (order wire.Unpack, dir, source int, err error) {
	buf := make([]byte, 4096)
	n, err := sys.RecvMsg(connFD, buf, true, &c.m)
	if err != nil {
		return order, 0, 0, fmt.Errorf("receive orders: %w", err)
	}
	typ, _, body, err := wire.Header(buf[:n])
	if err == nil && (typ != wire.TypeUnpack || len(c.m.FDs) != 2) {
		err = wire.ErrMalformed
	}
	if err == nil {
		order, err = wire.DecodeUnpack(body)
	}
	if err != nil {
		return order, 0, 0, fmt.Errorf("receive orders: %w", err)
	}
	return order, c.m.FDs[0], c.m.FDs[1], nil
}

// send says something. Where nobody listens any more, that is the end.
func (c *conn) send(p []byte, wait bool) {
	var m sys.MsgBuf
	if err := sys.SendMsg(connFD, p, nil, wait, &m); err != nil && err != syscall.EAGAIN {
		os.Exit(1)
	}
}

// progress tells how far it is, five times a second.
func (c *conn) progress(entries, bytes uint64) {
	c.last = wire.Progress{Entries: entries, Bytes: bytes}
	if now := sys.MonotonicMillis(); now-c.said >= 200 {
		c.said = now
		c.send(wire.AppendProgress(nil, wire.TypeProgress, c.last), false)
	}
}

// watch ends the process when jail-init has gone, whatever it is doing: nobody wants what
// it makes any more.
func (c *conn) watch() {
	for {
		fds := []sys.PollFD{{FD: connFD, Events: sys.PollRdhup}}
		if n, err := sys.Poll(fds, -1); err != nil || n > 0 {
			os.Exit(1)
		}
		time.Sleep(time.Second)
	}
}
