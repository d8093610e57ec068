// Package image makes images: of archives, of what tools of the host make, and root
// directories of images. Package imagestore keeps them.
//
// What is in an archive, and so in an image, is hostile. It is opened by nobody here but
// cp(1), which follows no link.
package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/count"
	"jail/internal/imagestore"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/source"
	"jail/internal/sys"
	"jail/internal/tty"
	"jail/internal/wire"
)

// Store is a store in which images are made.
type Store struct{ *imagestore.Store }

// OpenStore returns the store in dir, which it makes where it is missing.
func OpenStore(dir string) (*Store, error) {
	s, err := imagestore.Open(dir)
	if err != nil {
		return nil, err
	}
	s.Runs = func(state string) bool { return launch.Runs(source.Mark(state)) }
	return &Store{s}, nil
}

// Import says what is to become an image.
type Import struct {
	Name string
	// One of these: a file or a directory; a release of Debian that mmdebstrap(1) makes a
	// root directory of; the host's busybox.
	Source     string
	Mmdebstrap string
	Busybox    bool

	Reference  string // which image of several in Source
	MaxBytes   uint64
	MaxEntries uint64
	MaxTime    time.Duration

	from string // what messages call the source

	Program string   // jail-import; "" is the one that belongs to this program
	Stdout  *os.File // the new image's id
	Stderr  *os.File // how far it is, if it is a terminal, and what is odd
}

// ErrInterrupted is what an import comes to that a signal has ended.
var ErrInterrupted = errors.New("interrupted: there is no new image, and nothing is left of it")

// Import makes a new image and makes it the current one of its name. When it fails, or is
// interrupted, nothing of it is left.
func (s *Store) Import(o *Import) error {
	if !jail.ValidName(o.Name) {
		return fmt.Errorf("%q: an image is called by lower-case letters, digits, _ and -, at most %d, and not a digit first", o.Name, jail.MaxNameLen)
	}
	program := o.Program
	if program == "" {
		var err error
		if program, err = launch.Unpacker(); err != nil {
			return err
		}
	}
	var source *os.File
	var from string
	if o.Source != "" {
		// Before signals are caught: its file system may not answer.
		var err error
		if source, from, err = o.open(); err != nil {
			return err
		}
	}
	stop, err := catch()
	if err != nil {
		return err
	}
	defer stop.release()
	if source == nil {
		if source, from, err = o.make(s, stop); err != nil {
			return err
		}
	}
	defer source.Close()
	o.from = from
	fresh, err := s.Begin(o.Name)
	if err != nil {
		return err
	}
	made, err := o.unpack(program, source, fresh.File(), stop)
	if err == nil {
		// Everything, in one go: not a file after the other.
		if err = unix.Syncfs(int(fresh.File().Fd())); err != nil {
			err = fmt.Errorf("write to the disk: %w", err)
		}
	}
	if err == nil && stop.caught() {
		err = ErrInterrupted
	}
	var id string
	if err == nil {
		id, err = s.Finish(o.Name, fresh, imagestore.About{Source: from, Imported: time.Now(), Entries: made.Entries, Bytes: made.Bytes})
	}
	if err != nil {
		return errors.Join(err, s.Abandon(o.Name, fresh))
	}
	fmt.Fprintf(o.Stdout, "%s/%s: %s, %s, now the current one\n", o.Name, id, count.Of(made.Entries, "entry", "entries"), Size(made.Bytes))
	return nil
}

// reference matches what stands for an image of a registry: with its host in front, or a tag or a digest
// behind it, and so no name that a file is likely to have.
var reference = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(([a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]+)?|[a-z0-9-]+:[0-9]+)/[a-z0-9._/-]+(:[\w.-]+)?|[a-z0-9._-]+(/[a-z0-9._-]+)*:[\w][\w.-]*)(@sha256:[0-9a-f]{64})?$`)
})

// registry matches what skopeo(1) calls a transport.
var registry = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([a-z][a-z-]*):(//)?`) })

// make has the archive made that is the source, and says what to call it.
func (o *Import) make(s *Store, stop *stop) (f *os.File, from string, err error) {
	if o.Busybox {
		f, err = busyboxTree(s)
		return f, "busybox", err
	}
	f, err = o.mmdebstrap(s, stop)
	return f, "mmdebstrap " + o.Mmdebstrap, err
}

// open opens the source, and says what to call it.
func (o *Import) open() (f *os.File, from string, err error) {
	f, err = os.OpenFile(o.Source, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			if hint := o.elsewhere(); hint != nil {
				err = hint
			}
		}
		return nil, "", err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() && !fi.IsDir() {
		err = fmt.Errorf("%s: is neither a file nor a directory", o.Source)
	}
	if err != nil {
		f.Close()
		return nil, "", err
	}
	from, err = filepath.Abs(o.Source)
	if err != nil {
		from = o.Source
	}
	return f, from, nil
}

// elsewhere says how an image gets here from where only other programs go, nil if a source that is no
// file is not of there either.
func (o *Import) elsewhere() error {
	from, transport := o.Source, ""
	if m := registry().FindStringSubmatch(from); m != nil {
		transport = m[1]
	}
	switch transport {
	case "http", "https":
		return fmt.Errorf("%s: nothing is fetched from the network; fetch the file first, and see that it is the right one", from)
	case "oci", "oci-archive", "docker-archive":
		return fmt.Errorf("%s: no such file; name it without %q before it", from, transport+":")
	case "docker", "docker-daemon", "containers-storage", "ostree", "sif":
	default:
		if !reference().MatchString(from) {
			return nil
		}
		from = "docker://" + from // as podman pull and docker pull take it
	}
	return fmt.Errorf("%s: nothing is fetched from registries; skopeo does that: skopeo copy %s oci:DIR && jail image import %s DIR", o.Source, from, o.Name)
}

// unpack has jail-import unpack source into the open directory.
func (o *Import) unpack(program string, source, into *os.File, stop *stop) (made wire.Progress, err error) {
	fi, err := source.Stat()
	if err != nil {
		return made, err
	}
	order := wire.Unpack{MaxBytes: o.MaxBytes, MaxEntries: o.MaxEntries, Machine: runtime.GOARCH, Reference: o.Reference, Dir: fi.IsDir()}
	u, err := launch.Unpack(program, int(into.Fd()), int(source.Fd()), &order)
	if err != nil {
		return made, err
	}
	made, err = o.listen(u, stop)
	// What it has to say it has said.
	return made, errors.Join(err, u.Kill())
}

// notes bounds what jail-import may say of an archive, in lines.
const notes = 32

// listen listens to jail-import until it has said its last word, which is believed of its
// own image and no other.
func (o *Import) listen(u *launch.Unpacking, stop *stop) (made wire.Progress, err error) {
	deadline := time.Now().Add(o.MaxTime)
	show := meter{to: o.Stderr, on: tty.IsTerminal(int(o.Stderr.Fd()))}
	defer show.clear()
	var m sys.MsgBuf
	buf := make([]byte, 4096)
	for said := 0; ; {
		left := time.Until(deadline)
		fds := []sys.PollFD{{FD: int32(u.Conn), Events: sys.PollIn}, {FD: int32(stop.fd), Events: sys.PollIn}}
		n, err := sys.Poll(fds, int(max(left.Milliseconds(), 0)))
		switch {
		case err != nil:
			return made, err
		case fds[1].Revents != 0:
			return made, ErrInterrupted
		case n == 0 || left <= 0:
			return made, fmt.Errorf("%s: takes longer than the %v that it may (--max-time)", o.from, o.MaxTime)
		}
		if n, err = sys.RecvMsg(u.Conn, buf, true, &m); err != nil {
			return made, fmt.Errorf("listen to jail-import: %w", err)
		}
		sys.CloseAll(m.FDs)
		if n == 0 {
			return made, crashed(u)
		}
		typ, _, body, err := wire.Header(buf[:n])
		var text string
		switch {
		case err != nil:
		case typ == wire.TypeProgress || typ == wire.TypeUnpacked:
			if made, err = wire.DecodeProgress(body); err == nil && typ == wire.TypeUnpacked {
				return made, nil
			}
			show.draw(made)
		case typ == wire.TypeLog:
			if text, err = wire.DecodeText(body); err == nil && said < notes {
				said++
				show.clear()
				fmt.Fprintln(o.Stderr, "jail-init: note: "+visible(text))
			}
		case typ == wire.TypeFailed:
			if text, err = wire.DecodeText(body); err == nil {
				return made, fmt.Errorf("%s: %s", o.from, visible(text))
			}
		default:
			err = wire.ErrMalformed
		}
		if err != nil {
			return made, fmt.Errorf("listen to jail-import: %w", err)
		}
	}
}

// crashed says how jail-import has ended that has not said why.
func crashed(u *launch.Unpacking) error {
	text := make([]byte, 4096)
	_ = sys.SetNonblock(u.Stderr)
	n, _ := sys.Read(u.Stderr, text)
	first, _, _ := strings.Cut(strings.TrimSpace(string(text[:max(n, 0)])), "\n")
	if first == "" {
		return errors.New("jail-import has ended without a word; has the kernel killed it for want of memory?")
	}
	return fmt.Errorf("jail-import has crashed: %s", visible(first))
}

// visible makes text of an archive's, or of a process that has read one, safe for a
// terminal. Backslashes stay: what says a name has quoted it.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= ' ' && r < 0x7f {
			b.WriteRune(r)
		} else {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// meter shows how far an import is, on a terminal, in a line of its own.
type meter struct {
	to    *os.File
	on    bool
	drawn bool
}

func (m *meter) draw(p wire.Progress) {
	if m.on {
		m.drawn = true
		fmt.Fprintf(m.to, "\r\x1b[K%s, %s", count.Of(p.Entries, "entry", "entries"), Size(p.Bytes))
	}
}

func (m *meter) clear() {
	if m.drawn {
		m.drawn = false
		fmt.Fprint(m.to, "\r\x1b[K")
	}
}

// Size is a number of bytes for people.
func Size(n uint64) string {
	for _, u := range []struct {
		unit string
		size uint64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.unit)
		}
	}
	return strconv.FormatUint(n, 10) + " B"
}

// stop is readable once the program has been asked to end.
type stop struct {
	fd      int
	signals chan os.Signal
	asked   atomic.Bool
}

// catch catches the signals by which people and the machine end a program.
func catch() (*stop, error) {
	fd, err := sys.Eventfd()
	if err != nil {
		return nil, err
	}
	s := &stop{fd: fd, signals: make(chan os.Signal, 1)}
	signal.Notify(s.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for range s.signals {
			s.asked.Store(true)
			sys.EventfdAdd(s.fd)
		}
	}()
	return s, nil
}

func (s *stop) caught() bool { return s.asked.Load() }

// release has signals do again what they did. The descriptor stays: it may be written to.
func (s *stop) release() { signal.Stop(s.signals) }

// cleanupWithin is how long a program of the host's that has been asked to end may clean up undisturbed.
const cleanupWithin = time.Minute

// run runs a program of the host's, which is ended when this one is asked to end.
func (s *stop) run(cmd *exec.Cmd) error {
	// A process group of its own: ^C is for us, and what it has started goes with it. It ends with us, too:
	// with this thread, says prctl(2), which is here until it has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	var told time.Time
	for {
		select {
		case err := <-over:
			if s.caught() {
				return ErrInterrupted
			}
			return err
		case <-time.After(50 * time.Millisecond):
			// Once: what it starts then cleans up behind it.
			if s.caught() && time.Since(told) > cleanupWithin {
				told = time.Now()
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
			}
		}
	}
}
