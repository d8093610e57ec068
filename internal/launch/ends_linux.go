package launch

import (
	"fmt"
	"syscall"

	"jail/internal/sys"
)

// ends are what a launcher and a process it is about to make are joined by, each a
// descriptor. Those of the process come from above 3, since they become 0 to 3 there.
type ends struct {
	conn, stderr, sync int // ours: a socket, what the process says, one byte lets it go on

	null, itsConn, itsStderr, itsSync int // the process's
}

// newEnds makes them. What is to be closed in the end is in ours and inside, also with an
// error. With them the other descriptors of the process are moved above 3 where they are not.
func newEnds(ours, inside *descriptors, others ...*int) (e ends, err error) {
	if e.null, err = syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0); err != nil {
		return e, fmt.Errorf("open /dev/null: %w", err)
	}
	inside.add(e.null)
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return e, fmt.Errorf("make socket pair: %w", err)
	}
	e.conn, e.itsConn = pair[0], pair[1]
	ours.add(e.conn)
	inside.add(e.itsConn)
	if e.stderr, e.itsStderr, err = sys.Pipe(); err != nil {
		return e, fmt.Errorf("make pipe: %w", err)
	}
	ours.add(e.stderr)
	inside.add(e.itsStderr)
	if e.itsSync, e.sync, err = sys.Pipe(); err != nil {
		return e, fmt.Errorf("make pipe: %w", err)
	}
	ours.add(e.sync)
	inside.add(e.itsSync)
	for _, fd := range append(others, &e.null, &e.itsConn, &e.itsStderr, &e.itsSync) {
		if *fd > 3 {
			continue
		}
		if *fd, err = sys.Fcntl(*fd, syscall.F_DUPFD_CLOEXEC, 4); err != nil {
			return e, fmt.Errorf("duplicate descriptor: %w", err)
		}
		inside.add(*fd)
	}
	return e, nil
}
