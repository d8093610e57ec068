package metrics

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/fdsock"
	"jail/internal/sys"
)

const (
	// every is how often the file is written.
	every = 15 * time.Second
	// maxAsking is how many may ask at once, askWait how long one may take.
	maxAsking = 16
	askWait   = 5 * time.Second
	// maxAsked is how much of a request is read, in bytes: nothing in it matters.
	maxAsked = 8 << 10
)

// Publisher tells what is counted: each on a goroutine of its own, so that a disk or a reader that
// is slow holds nobody but itself.
type Publisher struct {
	Counters *Counters
	Log      func(format string, args ...any)

	mu     sync.Mutex
	path   string
	wake   chan struct{}
	failed bool
}

// File has the metrics written to a file from now on, every 15 seconds; "" is nowhere. The file of
// before stays as it is.
func (p *Publisher) File(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if path == p.path {
		return
	}
	p.path = path
	if p.wake == nil {
		p.wake = make(chan struct{}, 1)
		go p.write()
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Publisher) write() {
	for {
		p.mu.Lock()
		path := p.path
		p.mu.Unlock()
		if path != "" {
			err := replace(path, p.Counters.Append(nil))
			switch {
			case err != nil && !p.failed:
				p.Log("error: the metrics cannot be written: %v", err)
			case err == nil && p.failed:
				p.Log("the metrics are written again")
			}
			p.failed = err != nil
		}
		select {
		case <-p.wake:
		case <-time.After(every):
		}
	}
}

// replace writes a file anew, readable for everybody. Its directory may be another program's, which
// can do with it what it likes, and with no other file: no link is followed.
func replace(path string, text []byte) error {
	dir, err := sys.Openat2(sys.AtFDCWD, filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY, sys.ResolveNoSymlinks|sys.ResolveNoMagiclinks)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(dir)
	// The collector reads what ends in .prom.
	tmp := "." + filepath.Base(path) + ".new"
	_ = unix.Unlinkat(dir, tmp, 0)
	fd, err := unix.Openat(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: filepath.Join(filepath.Dir(path), tmp), Err: err}
	}
	f := os.NewFile(uintptr(fd), tmp)
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask is
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = unix.Renameat(dir, tmp, dir, filepath.Base(path))
	}
	if err != nil {
		_ = unix.Unlinkat(dir, tmp, 0)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Path is the socket's, below a runtime directory.
func Path(runtimeDir string) string { return filepath.Join(runtimeDir, "metrics") }

// Listen answers who asks on the socket in a runtime directory, which is the caller's alone: HTTP,
// whatever is asked for, so that curl --unix-socket and a proxy can. stop ends it.
func (p *Publisher) Listen(runtimeDir string) (stop func(), err error) {
	path := Path(runtimeDir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	tmp := filepath.Join(runtimeDir, ".metrics.new")
	_ = unix.Unlink(tmp)
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: tmp}); err == nil {
		if err = os.Chmod(tmp, 0o600); err == nil {
			if err = unix.Listen(fd, maxAsking); err == nil {
				err = os.Rename(tmp, path)
			}
		}
	}
	if err != nil {
		unix.Close(fd)
		_ = unix.Unlink(tmp)
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln := os.NewFile(uintptr(fd), path)
	go p.answer(ln)
	return func() {
		ln.Close()
		_ = os.Remove(path)
	}, nil
}

func (p *Publisher) answer(ln *os.File) {
	room := make(chan struct{}, maxAsking)
	_ = fdsock.AcceptAll(ln, func(fd int) {
		room <- struct{}{}
		go func() {
			defer func() { <-room }()
			p.tell(fd)
		}()
	})
}

// tell answers one.
func (p *Publisher) tell(fd int) {
	if unix.SetNonblock(fd, true) != nil {
		unix.Close(fd)
		return
	}
	conn := os.NewFile(uintptr(fd), "metrics")
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askWait))
	buf := make([]byte, maxAsked)
	for n := 0; n < len(buf) && !bytes.Contains(buf[:n], []byte("\r\n\r\n")); {
		k, err := conn.Read(buf[n:])
		if err != nil {
			break // who asks nothing gets it, too
		}
		n += k
	}
	text := p.Counters.Append(nil)
	_, _ = conn.Write(append(fmt.Appendf(nil,
		"HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", len(text)), text...))
}
