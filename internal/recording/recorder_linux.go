package recording

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/count"
	"jail/internal/fdsock"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/sys"
	"jail/internal/wire"
)

const (
	// maxOfLogin bounds the recordings of one login at one time, maxAtOnce all of them.
	maxOfLogin = 256
	maxAtOnce  = 8192
	// headerWait is how long who has connected may take to say what it is.
	headerWait = 5 * time.Second
	// roomEvery is how many bytes are written between two looks at what there is of a login's.
	roomEvery = 1 << 20
)

// Recorder is the process that records: see Run.
type Recorder struct {
	// Who says whose session it is whose jail-enter has that uid, and whether it is recorded.
	Who   func(uid uint32) (Subject, error)
	Log   func(format string, args ...any)
	store store

	mu      sync.Mutex
	of      map[string]int // recordings there are now, by login
	asking  map[uint32]int // connections of which it is not known whose they are, by uid
	total   int
	refused int
	unknown sync.Once
	all     sync.WaitGroup
	closer  fdsock.Closer

	saying sync.Mutex
	said   map[string]said // by login
}

// said is what the log has got of a login since a time.
type said struct {
	since         time.Time
	lines, missed int
}

// maxSaid is how many lines the log gets of a login in a minute: each message of its
// jail-enter could be worth one.
const maxSaid = 20

// say logs what concerns one login.
func (r *Recorder) say(login, format string, args ...any) {
	r.saying.Lock()
	defer r.saying.Unlock()
	s := r.said[login]
	if time.Since(s.since) >= time.Minute {
		if s.missed > 0 {
			r.Log("left out: %s on login %s", count.Of(s.missed, "line", "lines"), login)
		}
		s = said{since: time.Now()}
	}
	if s.lines < maxSaid {
		s.lines++
		r.Log(format, args...)
	} else {
		s.missed++
	}
	r.said[login] = s
}

// Subject is who is recorded.
type Subject struct {
	Jail, Login   string
	Record, Input bool
	folder        string // of the login's recordings
}

// Run records, until stop ends, which serve has the other end of, and nobody is left to be recorded.
// The listener is that of fdsock.ListenRecorder. It is a process of its own, so that nothing
// a session prints is in serve, and lives on when serve ends, as sessions do.
func Run(listener int, stop io.Reader, runtimeDir, configPath string, log io.Writer) error {
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(log, "jail-init: recorder: "+format+"\n", args...)
	}
	// What it does is worth less than what it records: it drops what it does not get to. The second is
	// what counts between sessions of the kernel's (sched(7), the autogroup feature).
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	_ = os.WriteFile("/proc/self/autogroup", []byte("19"), 0)
	unix.Umask(0o077)
	r := New(Dir, say)
	r.Who = func(uid uint32) (Subject, error) { return lookUp(runtimeDir, configPath, uid) }
	ln := os.NewFile(uintptr(listener), "recorder")
	if ln == nil {
		return errors.New("no listener")
	}
	if err := unix.SetNonblock(listener, true); err != nil {
		return err
	}
	path := fdsock.RecorderPath(runtimeDir)
	go func() {
		_, _ = io.Copy(io.Discard, stop)
		// Another one takes new sessions, or will in a moment; until then this one does.
		for gone := time.Now(); fdsock.Bound(path, listener) && (time.Since(gone) < serveAway || r.busy()); {
			time.Sleep(100 * time.Millisecond)
		}
		if fdsock.Bound(path, listener) {
			_ = os.Remove(path)
		}
		ln.Close()
	}()
	return r.Serve(ln)
}

// Within records the logins of one jail in the process that asks, which is "jail-init run": its
// sessions end with it. It returns what ends the recording when they have, and what could not be
// listened on.
func Within(runtimeDir string, spec *jail.Spec, log func(format string, args ...any)) (end func(), err error) {
	r := New(Dir, log)
	of := map[uint32]Subject{}
	var paths []string
	var files []*os.File
	var serving sync.WaitGroup
	end = func() {
		for i, f := range files {
			_ = os.Remove(paths[i])
			f.Close()
		}
		ended := make(chan struct{})
		go func() { serving.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(serveAway): // a client that takes no more keeps its jail-enter
		}
	}
	for i := range spec.Logins {
		lg := &spec.Logins[i]
		of[uint32(lg.HostUID)] = Subject{Jail: spec.Name, Login: lg.Name, Record: spec.Record, Input: spec.RecordInput}
	}
	r.Who = func(uid uint32) (Subject, error) { return of[uid], nil }
	for i := range spec.Logins {
		path := fdsock.LoginRecorderPath(runtimeDir, spec.Logins[i].HostUID)
		fd, listenErr := fdsock.ListenRecorder(path)
		if listenErr != nil {
			err = errors.Join(err, listenErr)
			continue
		}
		f := os.NewFile(uintptr(fd), "recorder")
		paths, files = append(paths, path), append(files, f)
		serving.Go(func() { _ = r.Serve(f) })
	}
	return end, err
}

// serveAway is how long a recorder without sessions waits for a serve that restarts.
const serveAway = 2 * time.Second

func (r *Recorder) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total > 0
}

// New returns a recorder for a store in dir.
func New(dir string, log func(format string, args ...any)) *Recorder {
	r := &Recorder{Log: log, of: map[string]int{}, asking: map[uint32]int{}, said: map[string]said{}, store: store{dir: dir, login: MaxLogin, files: MaxFiles, one: MaxRecording}}
	r.store.log = r.say
	return r
}

// lookUp asks the registry in force.
func lookUp(runtimeDir, configPath string, uid uint32) (Subject, error) {
	f, err := inforce.Open(runtimeDir, configPath)
	if err != nil {
		return Subject{}, err
	}
	defer f.Close()
	spec, lg, _, err := f.HostUID(jail.HostUID(uid))
	if err != nil || spec == nil || lg == nil {
		return Subject{}, err
	}
	return Subject{Jail: spec.Name, Login: lg.Name, Record: spec.Record, Input: spec.RecordInput}, nil
}

// Serve takes connections until the listener is closed, and returns when all have ended.
func (r *Recorder) Serve(ln *os.File) error {
	err := fdsock.AcceptAll(ln, func(fd int) { r.all.Go(func() { r.connection(fd) }) })
	r.all.Wait()
	return err
}

// connection is one session's, from its first word to its end. A session is never answered.
func (r *Recorder) connection(fd int) {
	began := time.Now()
	cred, err := sys.PeerCred(fd)
	if err != nil || unix.SetNonblock(fd, true) != nil {
		r.closer.Close(-1, fd)
		return
	}
	defer func() { r.leave(cred.Uid, fd) }()
	if !r.ask(cred.Uid) {
		return
	}
	who, err := r.Who(cred.Uid)
	r.asked(cred.Uid)
	if err != nil {
		r.unknown.Do(func() {
			r.Log("a session of uid %d is not recorded, since it is not known whose it is: %v (said once)", cred.Uid, err)
		})
		return
	}
	who.folder = who.Login
	if !jail.ValidName(who.Login) {
		who.folder = "uid." + strconv.FormatUint(uint64(cred.Uid), 10) // which is no such name
	}
	if !who.Record || !r.take(who.folder) {
		return
	}
	defer r.give(who.folder)
	// Of two descriptors, so that closing the one is not what closes the connection.
	again, err := sys.Fcntl(fd, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return
	}
	conn := os.NewFile(uintptr(again), "session")
	defer conn.Close()
	_ = conn.SetReadDeadline(began.Add(headerWait))
	c := cast{recorder: r, who: who, began: began}
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	for first := true; ; first = false {
		more := false
		err := raw.Read(func(fd uintptr) bool {
			// Memory only for who says something.
			buf := packets.Get().(*packet)
			defer packets.Put(buf)
			n, err := unix.Read(int(fd), buf[:])
			if err == unix.EAGAIN {
				return false
			}
			more = err == nil && n > 0 && c.packet(buf[:n], first, int(cred.Pid), cred.Uid)
			return true
		})
		if err != nil || !more {
			break
		}
		if first {
			_ = conn.SetReadDeadline(time.Time{})
		}
	}
	c.close()
}

// leave closes a connection. Anybody of the host may have one and put descriptors into it,
// before Linux 6.16, that take as long as he likes to be closed.
func (r *Recorder) leave(uid uint32, fd int) {
	var m sys.MsgBuf
	if sys.Quiet(fd, &m) {
		sys.Close(fd)
		return
	}
	r.closer.Close(int(uid), fd)
}

// packet is one message of jail-enter's, and room to see that it is too long.
type packet [wire.HeaderLen + wire.MaxRecorded + 1]byte

var packets = sync.Pool{New: func() any { return new(packet) }}

// ask reports whether it may be looked up who a uid is: not for more connections of one at a time
// than could be recorded. Anybody of the host can make some faster than that is looked up.
func (r *Recorder) ask(uid uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asking[uid] >= maxOfLogin {
		return false
	}
	r.asking[uid]++
	return true
}

func (r *Recorder) asked(uid uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asking[uid]--; r.asking[uid] == 0 {
		delete(r.asking, uid)
	}
}

func (r *Recorder) take(login string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[login] >= maxOfLogin || r.total >= maxAtOnce {
		if r.refused++; r.refused == 1 {
			r.Log("a session of login %s is not recorded: %d of its are, and %d in all (said once)", login, r.of[login], r.total)
		}
		return false
	}
	r.of[login]++
	r.total++
	return true
}

func (r *Recorder) give(login string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total--
	if r.of[login]--; r.of[login] == 0 {
		delete(r.of, login)
	}
}

// cast is a recording that is being made.
type cast struct {
	recorder *Recorder
	who      Subject
	began    time.Time

	id      string
	file    *os.File
	enc     encoder
	size    int64
	checked int64 // size at which there was room
	full    bool
	lost    int64 // bytes of events that could not be written
	broken  bool  // the log says that
}

// packet takes one message, and reports whether the connection may go on.
func (c *cast) packet(p []byte, first bool, pid int, uid uint32) bool {
	typ, flags, body, err := wire.Header(p)
	if err != nil || flags != 0 || (typ == wire.TypeRecord) != first {
		return false
	}
	switch typ {
	case wire.TypeRecord:
		var m wire.Record
		if m, err = wire.DecodeRecord(body); err == nil {
			c.who.Input = c.who.Input && m.Input
			err = c.create(&m, pid, uid)
		}
	case wire.TypeOutput, wire.TypeInput:
		if typ == wire.TypeInput && !c.who.Input {
			return false // nobody has said that it may be kept
		}
		k := Output
		if typ == wire.TypeInput {
			k = Input
		}
		if body, err = wire.DecodeRecorded(body); err == nil {
			c.event(k, body)
		}
	case wire.TypeResize:
		var rows, cols uint16
		if rows, cols, err = wire.DecodeResize(body); err == nil {
			c.event(Resize, fmt.Appendf(nil, "%dx%d", cols, rows))
		}
	case wire.TypeDropped:
		var n uint64
		if n, err = wire.DecodeDropped(body); err == nil {
			c.event(Marker, []byte(count.Of(n, "byte is", "bytes are")+" missing here: the recorder was too slow"))
			c.recorder.say(c.who.Login, "recording %s of login %s: %s dropped, the recorder was too slow", c.id, c.who.Login, count.Of(n, "byte was", "bytes were"))
		}
	default:
		return false
	}
	return err == nil
}

// create begins the file.
func (c *cast) create(m *wire.Record, pid int, uid uint32) error {
	s := &c.recorder.store
	if !s.room(c.who.folder, maxLine) {
		c.recorder.say(c.who.Login, "a session of login %s is not recorded: there is no room for more of its recordings, and all are still made", c.who.Login)
		return unix.ENOSPC
	}
	line, err := header(&Header{
		Width: int(m.Cols), Height: int(m.Rows), Timestamp: c.began.Unix(), Title: c.who.Login + " in " + c.who.Jail,
		Env:  map[string]string{"TERM": string(m.Term)},
		Jail: c.who.Jail, Login: c.who.Login, HostUID: uid, PID: pid, PIDInside: m.PID, Input: c.who.Input,
	})
	if err == nil {
		c.file, c.id, err = s.create(c.who.folder, c.began, pid, line)
	}
	if err != nil {
		c.recorder.say(c.who.Login, "a session of login %s is not recorded: %v", c.who.Login, err)
		return err
	}
	c.size = int64(len(line))
	return nil
}

// event writes an event, unless the recording is as long as it may be.
func (c *cast) event(k Kind, data []byte) {
	if c.full || c.file == nil {
		return
	}
	at := time.Since(c.began)
	s := &c.recorder.store
	if c.size-c.checked >= roomEvery {
		c.checked = c.size
		if c.size >= s.one || !s.room(c.who.folder, maxLine) {
			c.full = true
			c.put(c.enc.event(at, Marker, []byte("the recording ends here, there is no room for more of it")))
			c.recorder.say(c.who.Login, "recording %s of login %s ends before its session: it has %d bytes, and there is no room for more", c.id, c.who.Login, c.size)
			return
		}
	}
	if c.lost > 0 && c.put(c.enc.event(at, Marker, []byte(count.Of(c.lost, "byte is", "bytes are")+" missing here: the file could not be written"))) {
		c.lost = 0
	}
	c.put(c.enc.event(at, k, data))
}

// put writes a whole line, or nothing of it.
func (c *cast) put(line []byte) bool {
	if len(line) == 0 {
		return true
	}
	n, err := c.file.Write(line)
	if err == nil {
		c.size += int64(n)
		return true
	}
	if n > 0 {
		_ = c.file.Truncate(c.size)
	}
	c.lost += int64(len(line))
	if !c.broken {
		c.broken = true
		c.recorder.say(c.who.Login, "recording %s of login %s has gaps: %v (said once)", c.id, c.who.Login, err)
	}
	return false
}

func (c *cast) close() {
	if c.file != nil {
		_ = c.file.Close()
	}
}
