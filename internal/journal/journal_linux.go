package journal

import (
	"fmt"
	"os"
	"syscall"

	"jail/internal/sys"
)

// Socket is where the journal listens (systemd-journald(8)).
const Socket = "/run/systemd/journal/socket"

// Journal is the way to the journal. It is for one goroutine at a time.
type Journal struct {
	path string
	fd   int // -1 without
	m    sys.MsgBuf
	buf  []byte
}

// Open returns the way to the journal that listens at path. Nothing has to be there yet.
func Open(path string) *Journal { return &Journal{path: path, fd: -1} }

// Ours reports whether what is written to f ends in the journal: then it is to have entries
// as well, instead of lines. systemd says so (systemd.exec(5), JOURNAL_STREAM) to what
// inherits the variable, too, whatever its standard error is by then.
func Ours(f *os.File) bool {
	stream := os.Getenv("JOURNAL_STREAM")
	if stream == "" {
		return false
	}
	var st syscall.Stat_t
	return syscall.Fstat(int(f.Fd()), &st) == nil && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// Send sends an entry. It does not wait: a journal that is full or gone is an error. One that
// comes back is found again.
func (j *Journal) Send(fields []Field) error {
	j.buf = appendEntry(j.buf[:0], fields)
	for again := false; ; again = true {
		if j.fd < 0 {
			if err := j.connect(); err != nil {
				return err
			}
		}
		err := sys.SendMsg(j.fd, j.buf, nil, false, &j.m)
		if err == syscall.EMSGSIZE || err == syscall.ENOBUFS {
			err = j.sendFile()
		}
		if (err == syscall.ECONNREFUSED || err == syscall.ENOTCONN || err == syscall.ECONNRESET) && !again {
			j.Close() // another journal has another socket
			continue
		}
		return err
	}
}

// Close gives the socket up. The next Send makes one.
func (j *Journal) Close() {
	if j.fd >= 0 {
		sys.Close(j.fd)
		j.fd = -1
	}
}

func (j *Journal) connect() error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := sys.Connect(fd, j.path); err != nil {
		sys.Close(fd)
		return err
	}
	j.fd = fd
	return nil
}

// sendFile sends what is too long for a datagram, as a file in memory that nobody can change
// any more.
func (j *Journal) sendFile() error {
	fd, err := sys.MemFile("jail-journal")
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	for rest := j.buf; len(rest) > 0; {
		n, err := sys.Write(fd, rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	if err := sys.Seal(fd); err != nil {
		return err
	}
	return sys.SendMsg(j.fd, nil, []int{fd}, false, &j.m)
}
