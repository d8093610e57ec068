package admin

import (
	"fmt"
	"io"
	"os"
	"time"
)

// patience is how long a verb says nothing to somebody who waits for it.
var patience = time.Second

func (opt Options) waiting(format string, args ...any) (over func()) {
	return Waiting(opt.Stderr, format, args...)
}

// Waiting tells whoever waits at a terminal, after a second, what for, unless over has been called
// by then. In a file or a pipe it says nothing: what a verb prints there does not depend on how
// busy the machine is.
func Waiting(to io.Writer, format string, args ...any) (over func()) {
	f, ok := to.(*os.File)
	if !ok || !isTerminal(int(f.Fd())) {
		return func() {}
	}
	said := make(chan struct{})
	timer := time.AfterFunc(patience, func() {
		defer close(said)
		fmt.Fprintf(f, "jail-init: "+format+"\n", args...)
	})
	return func() {
		if !timer.Stop() {
			<-said
		}
	}
}
