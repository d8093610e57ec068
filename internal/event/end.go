package event

import (
	"fmt"
	"strconv"
	"syscall"
	"time"
)

// End is how a jail has ended: PID 1's last word and what the kernel says of it.
type End struct {
	// Reason is PID 1's own, quoted; "" if it gave none.
	Reason string
	// Signal is what PID 1 was killed by, Status what it exited with; both are 0 of an
	// orderly end, and of a jail whose PID 1 is not a child of who asks.
	Signal syscall.Signal
	Status int
	// OOM is how many processes of the jail the kernel has killed for want of memory
	// while it lived, PID 1 among them or not.
	OOM uint64
	// Lived is how long the jail ran, or how long it was followed.
	Lived time.Duration
}

// EndOf begins an End with the status PID 1 was waited for with.
func EndOf(ws syscall.WaitStatus) (e End) {
	if ws.Signaled() {
		e.Signal = ws.Signal()
	} else {
		e.Status = ws.ExitStatus()
	}
	return e
}

// Violent reports whether PID 1 did not end by itself, or not well.
func (e *End) Violent() bool { return e.Signal != 0 || e.Status != 0 }

// String is the end in words: what follows on the jail's name.
func (e *End) String() string {
	text := "ended"
	switch {
	case e.Signal != 0:
		text += fmt.Sprintf(" by signal %d (%v)", int(e.Signal), e.Signal)
	case e.Status != 0:
		text += " with status " + strconv.Itoa(e.Status)
	}
	text += " after " + e.Lived.Round(time.Millisecond).String()
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	if e.Signal == syscall.SIGKILL && e.OOM > 0 {
		text += "; for want of memory the kernel has killed processes in it, " + strconv.FormatUint(e.OOM, 10) + " in all"
	}
	return text
}
