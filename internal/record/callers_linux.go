package record

import (
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"jail/internal/authkeys"
	"jail/internal/event"
	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/sys"
	"jail/internal/wire"
)

const (
	// maxWords is how many words of jail-enter are kept that no session has been told of
	// yet, and maxOfUID how many of those are of one uid: PID 1 tells of a session after
	// a tenth of a second. More are thrown away. Who has many uids (subuid(5)) can fill all of
	// that; maxSpare is how many of a login that speaks on its own socket are kept all the same.
	maxWords = 4096
	maxOfUID = 256
	maxSpare = 8
	// wordsFor is how long one is kept.
	wordsFor = 10 * time.Second
	// maxMute is how many connections are kept on which nothing has come yet, and muteFor
	// for how long: jail-enter sends as soon as it has connected.
	maxMute = 64
	muteFor = time.Second
	// maxHeard is how many connections are taken in a second: anybody of the host can make
	// some, and those of all jails wait for what is recorded meanwhile.
	maxHeard = 8192
	// maxOwn is how many logins have a queue of their own: those that have been here last.
	maxOwn = 1024
	// heldFor is how long the start of a session waits for jail-enter's word: that is sent
	// at once, and what PID 1 tells may be there before it.
	heldFor = 300 * time.Millisecond
)

// callers hear jail-enter's word on who has called it. Nobody is woken for it: it is
// looked for when a session is told of. The zero value hears nothing.
//
// There are listeners that every uid can reach, and can fill. So a login of which a session has been told
// gets a socket that only it can reach: what is there costs a system call, and nobody else's
// room.
type callers struct {
	fds    []int  // listeners
	dir    string // the runtime directory, of the sockets of logins; "" without
	own    map[uint32]*calls
	refuse func(fd int) error // sys.RefuseRights; tests play an older kernel
	closer fdsock.Closer
	words  map[sessionKey]word
	of     map[uint32]int // words, by uid
	mute   []mute
	turn   uint64 // sessions that were told of

	expired time.Time // when words were last looked through
	second  time.Time // since when so many have been
	heard   int       // taken of the listeners
	m       sys.MsgBuf
	small   [1]byte // for what is only to be taken
	buf     [wire.MaxCaller]byte
}

// sessionKey says which session of all jails it is: no two jails have one login, and what is
// no login's, whose uid is wire.NoLogin, has the jail's name.
type sessionKey struct {
	uid, pid uint32
	jail     string
}

type word struct {
	caller  Caller
	command string // as it was asked for
	since   time.Time
}

// calls is the socket of one login.
type calls struct {
	fd    int  // -1 if it could not be made, or has had descriptors put into it
	plain bool // no descriptors come
	run   *Run // of the session that was told of last
	last  uint64
}

type mute struct {
	fd    int
	cred  syscall.Ucred
	since time.Time
}

// take returns what is known of who called a session, and forgets it.
func (c *callers) take(key sessionKey) *word {
	w, ok := c.words[key]
	if !ok {
		return nil
	}
	c.drop(key)
	return &w
}

func (c *callers) drop(key sessionKey) {
	delete(c.words, key)
	if c.of[key.uid]--; c.of[key.uid] <= 0 {
		delete(c.of, key.uid)
	}
}

// find returns what is known of who called a session of run, and forgets it. From the first
// one on its login has a socket of its own.
func (c *callers) find(key sessionKey, run *Run, now time.Time) *word {
	w := c.take(key)
	if w == nil {
		c.read(key.uid, now)
		w = c.take(key)
	}
	if w == nil {
		c.listen(now)
		w = c.take(key)
	}
	if key.uid != wire.NoLogin {
		c.keepOpen(key.uid, run)
	}
	return w
}

// read takes all that has been said on the socket of a login.
func (c *callers) read(uid uint32, now time.Time) {
	q := c.own[uid]
	if q == nil || q.fd < 0 {
		return
	}
	for range maxOfUID {
		n, cred, rights, err := sys.RecvCred(q.fd, c.buf[:], !q.plain, &c.m)
		if err == syscall.EAGAIN {
			return
		}
		if rights && !q.plain { // whoever takes them has to close them
			c.forget(uid)
			c.own[uid] = &calls{-1, false, q.run, q.last} // and none anew
			return
		}
		if !q.plain {
			_, _, _, _ = sys.RecvCred(q.fd, c.small[:], false, &c.m)
		}
		if err == nil {
			c.understand(c.buf[:n], &cred, now, maxSpare)
		}
	}
}

// keepOpen has a login with a socket of its own keep it, and makes one for who has none.
func (c *callers) keepOpen(uid uint32, run *Run) {
	if c.dir == "" {
		return
	}
	c.turn++
	if q := c.own[uid]; q != nil {
		q.run, q.last = run, c.turn
		return
	}
	if c.closer.Left(int(uid)) > 0 { // it has put descriptors into the last one
		return
	}
	for len(c.own) >= maxOwn {
		oldest, last := uint32(0), c.turn
		for uid, q := range c.own {
			if q.last < last {
				oldest, last = uid, q.last
			}
		}
		c.forget(oldest)
	}
	fd, plain, err := fdsock.OpenCalls(c.dir, jail.HostUID(uid), c.refuse)
	if err != nil { // the login is gone, most likely
		fd = -1
	}
	if c.own == nil {
		c.own = map[uint32]*calls{}
	}
	c.own[uid] = &calls{fd, plain, run, c.turn}
}

// forget removes the socket of a login.
func (c *callers) forget(uid uint32) {
	q := c.own[uid]
	delete(c.own, uid)
	if q.fd < 0 {
		return
	}
	fdsock.CloseCalls(c.dir, jail.HostUID(uid), q.fd, func(fd int) {
		if q.plain {
			sys.Close(fd)
		} else {
			c.closer.Close(int(uid), fd)
		}
	})
}

// forgetRun removes the sockets of logins of a jail that has ended.
func (c *callers) forgetRun(run *Run) {
	for uid, q := range c.own {
		if q.run == run {
			c.forget(uid)
		}
	}
}

// expire drops words of which no session has been told in time.
func (c *callers) expire(now time.Time) {
	c.expired = now
	for key, w := range c.words {
		if now.Sub(w.since) > wordsFor || now.Before(w.since) { // or the clock was set back
			c.drop(key)
		}
	}
}

// listen takes all that has been said.
func (c *callers) listen(now time.Time) {
	c.expire(now)
	waiting := c.mute
	c.mute = nil
	for _, m := range waiting {
		c.hear(m, now)
	}
	if since := now.Sub(c.second); since >= time.Second || since < 0 {
		c.second, c.heard = now, 0
	}
	for _, l := range c.fds {
		for c.heard < maxHeard {
			fd, err := sys.Accept(l)
			if err != nil {
				break
			}
			c.heard++
			cred, err := sys.PeerCred(fd)
			if err != nil {
				c.closer.Close(-1, fd)
				continue
			}
			c.hear(mute{fd, *cred, now}, now)
		}
	}
}

func (c *callers) close() {
	for _, fd := range c.fds {
		sys.Close(fd)
	}
	for uid := range c.own {
		c.forget(uid)
	}
}

// hear takes what has come on a connection.
func (c *callers) hear(m mute, now time.Time) {
	n, rights, err := sys.PeekMsg(m.fd, c.buf[:], &c.m)
	if err == syscall.EAGAIN && len(c.mute) < maxMute && now.Sub(m.since) <= muteFor {
		c.mute = append(c.mute, m)
		return
	}
	if err == nil && n > 0 && !rights {
		c.understand(c.buf[:n], &m.cred, now, 0)
	}
	if sys.Quiet(m.fd, &c.m) {
		sys.Close(m.fd)
	} else {
		c.closer.Close(int(m.cred.Uid), m.fd)
	}
}

// keyOf says of which session a word is, if it is one of who may say so: of sessions that are no
// login's that is root, or who runs the supervisor.
func keyOf(w *wire.Caller, cred *syscall.Ucred) (key sessionKey, ok bool) {
	if len(w.Jail) == 0 {
		return sessionKey{uid: cred.Uid, pid: w.PID}, true
	}
	return sessionKey{uid: wire.NoLogin, pid: w.PID, jail: string(w.Jail)}, cred.Uid == 0 || cred.Uid == uint32(os.Geteuid())
}

// understand keeps what a packet says, where that makes sense and there is room; spare is how many
// words of its uid there is room for in any case.
func (c *callers) understand(packet []byte, cred *syscall.Ucred, now time.Time, spare int) {
	full := func(uid uint32) bool {
		return len(c.words) >= maxWords && c.of[uid] >= spare || c.of[uid] >= maxOfUID
	}
	if full(cred.Uid) && now.Sub(c.expired) >= time.Second { // not for each packet of a flood
		c.expire(now)
	}
	if full(cred.Uid) {
		return
	}
	typ, _, body, err := wire.Header(packet)
	if err != nil || typ != wire.TypeCaller {
		return
	}
	if w, err := wire.DecodeCaller(body); err == nil {
		if key, ok := keyOf(&w, cred); ok && !full(key.uid) {
			c.keep(key, word{callerOf(&w, cred), string(w.Command), now})
		}
	}
}

func (c *callers) keep(key sessionKey, w word) {
	if c.words == nil {
		c.words, c.of = map[sessionKey]word{}, map[uint32]int{}
	}
	if _, again := c.words[key]; !again {
		c.of[key.uid]++
	}
	c.words[key] = w
}

// callerOf makes of jail-enter's word and the kernel's what is recorded.
func callerOf(w *wire.Caller, cred *syscall.Ucred) Caller {
	c := Caller{PID: int(cred.Pid), Service: serviceOf(int(cred.Pid), cred.Uid), TTY: terminal(w.TTY)}
	if c.Service == "" && w.SSHD {
		c.Service = "sshd"
	}
	if len(w.Jail) > 0 {
		uid := w.UID
		c.UID = &uid
	}
	if f := strings.Fields(string(w.Connection)); len(f) == 4 {
		if addr, err := netip.ParseAddr(f[0]); err == nil {
			c.Address = addr.WithZone("").String()
			if port, err := strconv.ParseUint(f[1], 10, 16); err == nil {
				c.Port = int(port)
			}
		}
	}
	var methods []string
	for _, line := range w.Auth {
		f := strings.Fields(string(line))
		if len(f) == 0 || len(methods) == 4 {
			continue
		}
		methods = append(methods, short(f[0]))
		if f[0] != "publickey" || len(f) < 3 {
			continue
		}
		key, err := authkeys.ParseOffer(f[1], f[2])
		if err != nil {
			continue
		}
		c.Key, c.Certificate, c.Authority = fingerprint(key.Blob), short(key.ID), ""
		if key.CA != nil {
			c.Authority = fingerprint(key.CA)
		}
	}
	c.Method = strings.Join(methods, ",")
	return c
}

// short keeps a word to what a cell of a table has room for.
func short(s string) string {
	const most = 128
	if len(s) > most {
		s = s[:most] + "..."
	}
	return event.Quote(s)
}

// fingerprint is ssh-keygen -l's.
func fingerprint(blob []byte) string {
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// terminal is what a terminal's device number is called (admin-guide/devices.txt of the
// kernel's documentation), "" of none that people come by.
func terminal(rdev uint64) string {
	// makedev(3), as gnu_dev_makedev has it.
	major, minor := rdev>>8&0xfff|rdev>>32&^uint64(0xfff), rdev&0xff|rdev>>12&^uint64(0xff)
	switch {
	case major >= 136 && major < 144 && minor < 1<<20:
		return "pts/" + strconv.FormatUint((major-136)<<20+minor, 10)
	case major == 4 && minor < 64:
		return "tty" + strconv.FormatUint(minor, 10)
	case major == 4 && minor < 256:
		return "ttyS" + strconv.FormatUint(minor-64, 10)
	case major == 5 && minor == 1:
		return "console"
	}
	return ""
}

// serviceOf says what has let in the login whose jail-enter is pid: the first of its
// ancestors that is no shell, by the file it executes, which no login chooses. It is ""
// if jail-enter has ended.
func serviceOf(pid int, uid uint32) string {
	parent, owner, err := parentOf(pid)
	if err != nil || owner != uid {
		return ""
	}
	const most = 4
	for range most {
		exe, err := os.Readlink("/proc/" + strconv.Itoa(parent) + "/exe")
		if err != nil {
			return ""
		}
		switch name := strings.TrimSuffix(filepath.Base(exe), " (deleted)"); name {
		case "sshd", "sshd-session":
			return "sshd"
		case "login":
			return "console"
		case "sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "fish", "jail-enter":
		default:
			return short(name)
		}
		if parent, _, err = parentOf(parent); err != nil || parent <= 1 {
			return ""
		}
	}
	return ""
}

// parentOf reads whose child a process is, and its uid (proc_pid_status(5)).
func parentOf(pid int) (parent int, uid uint32, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0, err
	}
	// The name comes first, and what it has of line feeds is escaped.
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch n, err := strconv.ParseUint(f[1], 10, 32); {
		case err != nil:
		case f[0] == "PPid:":
			parent = int(n)
		case f[0] == "Uid:":
			return parent, uint32(n), nil
		}
	}
	return 0, 0, syscall.ESRCH
}
