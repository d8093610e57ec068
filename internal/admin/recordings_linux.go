package admin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"jail/internal/event"
	"jail/internal/record"
	"jail/internal/recording"
	"jail/internal/tty"
	"jail/internal/wire"
)

// recordingList is what "recordings --json" prints: jail-init(8).
type recordingList struct {
	Version    int              `json:"v"`
	Recordings []recording.Info `json:"recordings"`
}

// Recordings lists the recordings there are, of one login or, with "", of all.
func Recordings(opt Options, login string, asJSON bool) error {
	list, err := recording.List(recording.Dir, login)
	if err != nil {
		return err
	}
	if asJSON {
		if list == nil {
			list = []recording.Info{}
		}
		return printJSON(opt.Stdout, recordingList{1, list}, "")
	}
	w := tabwriter.NewWriter(opt.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RECORDING\tLOGIN\tJAIL\tBEGAN\tSIZE\tSTATE")
	for _, i := range list {
		state := "ended"
		if i.Running {
			state = "running"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", i.ID, printable(i.Login), printable(i.Jail), i.Began.Local().Format(time.DateTime), i.Size, state)
	}
	return w.Flush()
}

// printable is a name as it may be printed.
func printable(name string) string {
	if q := strconv.QuoteToASCII(name); q != `"`+name+`"` {
		return q
	}
	return name
}

// findRecording returns the recording that name means: by itself, or as the id of a session in the records, which
// name the jail-enter that both are of.
func findRecording(opt Options, name string) (recording.Info, error) {
	info, err := recording.Find(recording.Dir, name)
	if err == nil || len(name) != wire.IDLen {
		return info, err
	}
	list, listErr := recording.List(recording.Dir, "")
	records := record.Open(record.Dir(opt.RuntimeDir))
	jails, jailsErr := records.Jails()
	if listErr != nil || jailsErr != nil {
		return info, err
	}
	for _, j := range jails {
		sessions, _ := records.Sessions(j, func(*record.Damage) {})
		for i := range sessions {
			s := &sessions[i]
			if s.Session != name || s.Caller == nil || s.Started == nil {
				continue
			}
			for _, r := range list {
				if r.PID == s.Caller.PID && r.Jail == j && r.Began.Sub(*s.Started).Abs() < sameStart {
					return r, nil
				}
			}
			return info, fmt.Errorf("session %s of jail %s has no recording", name, j)
		}
	}
	return info, err
}

// sameStart is how far apart the beginnings of a session and its recording may be told: a pid is
// not given anew that soon.
const sameStart = 5 * time.Second

// Replay shows a recording, at a speed; plain prints the text in it at once.
func Replay(opt Options, name string, speed float64, plain bool) error {
	info, err := findRecording(opt, name)
	if err != nil {
		return err
	}
	t, ok := openScreen(plain)
	if !ok {
		return printPlain(opt, info, false)
	}
	defer t.close()
	var notes []string
	p := recording.Player{Out: t, Keys: t.keys, Speed: speed, Note: func(text string) { notes = append(notes, text) }}
	var file io.Closer
	p.Open = func() (*recording.Reader, error) {
		if file != nil {
			file.Close()
		}
		f, err := info.Open(false)
		if err != nil {
			return nil, err
		}
		file = f
		r, err := recording.NewReader(f)
		if err == nil {
			t.compare(opt, &r.Header)
		}
		return r, err
	}
	err = p.Play()
	t.close()
	for _, n := range notes {
		fmt.Fprintf(opt.Stderr, "jail-init: recording %s: %s\n", info.ID, printable(n))
	}
	return err
}

// Watch shows what a session's terminal shows, until the session ends or somebody types q.
func Watch(opt Options, name string, plain bool) error {
	info, err := findRecording(opt, name)
	if err != nil {
		return err
	}
	if !info.Running {
		return fmt.Errorf("the session of recording %s has ended; jail replay %s shows it", info.ID, info.ID)
	}
	t, ok := openScreen(plain)
	if !ok {
		return printPlain(opt, info, true)
	}
	defer t.close()
	f, err := info.Open(true)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		r, err := recording.NewReader(f)
		if err == nil {
			t.compare(opt, &r.Header)
		}
		for err == nil {
			var ev recording.Event
			ev, err = r.Next()
			if errors.Is(err, recording.ErrDamaged) {
				err = nil
				continue
			}
			if err == nil && ev.Kind == recording.Output {
				_, err = io.WriteString(t, ev.Data)
			}
		}
		if err == io.EOF {
			err = nil
		}
		done <- err
	}()
	var typed recording.Typed
	for {
		select {
		case err := <-done:
			t.close()
			if err == nil {
				fmt.Fprintf(opt.Stderr, "jail-init: the session of recording %s has ended\n", info.ID)
			}
			return err
		case c, ok := <-t.keys:
			if !ok {
				t.keys = nil
			} else if recording.Ends(typed.Key(c)) {
				return nil
			}
		}
	}
}

// printPlain prints the text of a recording.
func printPlain(opt Options, info recording.Info, follow bool) error {
	f, err := info.Open(follow)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := recording.NewReader(f)
	if err != nil {
		return fmt.Errorf("recording %s: %w", info.ID, err)
	}
	out := bufio.NewWriter(opt.Stdout)
	var text recording.Plain
	var line []byte
	for {
		ev, err := r.Next()
		switch {
		case errors.Is(err, recording.ErrDamaged):
			fmt.Fprintf(opt.Stderr, "jail-init: recording %s: %s\n", info.ID, event.Printable(err.Error()))
			continue
		case err == io.EOF:
			return out.Flush()
		case err != nil:
			return errors.Join(out.Flush(), err)
		}
		switch ev.Kind {
		case recording.Output:
			line = text.Append(line[:0], ev.Data)
		case recording.Marker:
			line = append(append(append(line[:0], "\n["...), printable(ev.Data)...), "]\n"...)
		default:
			continue
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
		if follow {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

// screen is the terminal that something is shown on.
type screen struct {
	in     int
	out    *os.File
	modes  wire.Termios
	keys   chan byte
	mu     sync.Mutex // of what follows, and of out
	closed bool
	told   bool
}

// openScreen makes the terminal raw, if there is one on standard input and output, and text is
// not what is wanted.
func openScreen(plain bool) (*screen, bool) {
	modes, err := tty.GetTermios(0)
	if _, outErr := tty.GetTermios(1); plain || err != nil || outErr != nil {
		return nil, false
	}
	t := &screen{in: 0, out: os.Stdout, modes: modes, keys: make(chan byte, 64)}
	raw := tty.Raw(modes)
	if tty.SetTermios(0, &raw) != nil {
		return nil, false
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-ended
		t.close()
		os.Exit(1)
	}()
	go func() {
		defer close(t.keys)
		var b [1]byte
		for {
			if n, err := os.Stdin.Read(b[:]); n == 0 || err != nil {
				return
			}
			t.keys <- b[0]
		}
	}()
	return t, true
}

// Write shows p, until the screen is closed.
func (t *screen) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, os.ErrClosed
	}
	return t.out.Write(p)
}

// answersWithin is how long a terminal may take to answer what it was asked last.
const answersWithin = 200 * time.Millisecond

// close leaves the terminal as it was. What is shown may ask the terminal for something, in
// its last bytes, and the answer would be typed into the shell that comes next.
func (t *screen) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		_, _ = t.out.WriteString(recording.Leave + "\r\n")
		time.Sleep(answersWithin)
		_ = tty.RestoreFlushed(t.in, &t.modes)
	}
}

// compare says once where the session's terminal was larger than this one.
func (t *screen) compare(opt Options, h *recording.Header) {
	w, err := tty.GetWinsize(1)
	if t.told || err != nil {
		return
	}
	t.told = true
	if h.Width > int(w.Cols) || h.Height > int(w.Rows) {
		var b strings.Builder
		fmt.Fprintf(&b, "jail-init: the session's terminal has %d columns and %d rows, this one %d and %d\r\n", h.Width, h.Height, w.Cols, w.Rows)
		_, _ = io.WriteString(opt.Stderr, b.String())
	}
}
