package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/event"
	"jail/internal/record"
)

// sessionList is what "who --json" and "last --json" print: docs/json.md.
type sessionList struct {
	Version  int              `json:"v"`
	Sessions []record.Session `json:"sessions"`
	// Damage are places in the records that cannot be read.
	Damage []string `json:"damage,omitempty"`
	// Incomplete are jails that say they have another number of sessions than the
	// records know; of who only.
	Incomplete []string `json:"incomplete,omitempty"`
}

// Who prints the sessions that go on, as a table, or as JSON.
func Who(opt Options, asJSON bool) error {
	names := Running(opt)
	list, err := sessions(opt, names, func(s *record.Session) bool { return s.State == record.StateOpen })
	if err != nil {
		return err
	}
	if list.Incomplete = incomplete(opt, names, list.Sessions); len(list.Incomplete) > 0 {
		// What has just begun or ended is not in the records yet.
		time.Sleep(settle)
		if list, err = sessions(opt, names, func(s *record.Session) bool { return s.State == record.StateOpen }); err != nil {
			return err
		}
		list.Incomplete = incomplete(opt, names, list.Sessions)
	}
	if asJSON {
		return PrintJSON(opt.Stdout, list)
	}
	if err := printOpen(opt, list.Sessions); err != nil {
		return err
	}
	for _, name := range list.Incomplete {
		fmt.Fprintf(opt.Stderr, "jail-init: jail %s says that it has another number of sessions than the records know: jail ps %s\n", name, name)
	}
	return nil
}

// printOpen prints sessions that go on.
func printOpen(opt Options, list []record.Session) error {
	tw := table(opt.Stdout)
	fmt.Fprintln(tw, "SESSION\tLOGIN\tJAIL\tKIND\tTTY\tBY\tFROM\tSTARTED")
	for i := range list {
		s := &list[i]
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(s.Session), plain(s.Login), plain(s.Jail), plain(s.Kind), plain(s.TTY), by(s.Caller), from(s.Caller), clock(s.Started))
	}
	return tw.Flush()
}

// settle is how long it may take until what has happened is in the records: PID 1 tells it
// after a tenth of a second, and it is written soon after.
const settle = 500 * time.Millisecond

// incomplete returns the jails that have another number of sessions than are in list.
func incomplete(opt Options, names []string, list []record.Session) (differ []string) {
	count := map[string]uint32{}
	for i := range list {
		count[list[i].Jail]++
	}
	for _, name := range names {
		c, err := control.Open(opt.RuntimeDir, name, false)
		if err != nil {
			continue
		}
		if c.Status.Sessions != count[name] {
			differ = append(differ, name)
		}
		c.Close()
	}
	return differ
}

// Last prints sessions, the newest first: the last n, or all with 0; those of a login, or
// with "" of everybody.
func Last(opt Options, login string, n int, asJSON bool) error {
	names, err := records(opt).Jails()
	if err != nil {
		return unreadable(err)
	}
	list, err := sessions(opt, names, func(s *record.Session) bool { return login == "" || s.Login == login })
	if err != nil {
		return err
	}
	if n > 0 && len(list.Sessions) > n {
		list.Sessions = list.Sessions[:n]
	}
	if asJSON {
		return PrintJSON(opt.Stdout, list)
	}
	tw := table(opt.Stdout)
	fmt.Fprintln(tw, "SESSION\tLOGIN\tJAIL\tKIND\tBY\tFROM\tSTARTED\tDURATION\tEND")
	for i := range list.Sessions {
		s := &list.Sessions[i]
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(s.Session), plain(s.Login), plain(s.Jail), plain(s.Kind), by(s.Caller), from(s.Caller), began(s), lasted(s.Millis), how(s))
	}
	return tw.Flush()
}

func records(opt Options) *record.Store { return record.Open(record.Dir(opt.RuntimeDir)) }

// unreadable says what is to be done about records that cannot be read.
func unreadable(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: the records are for root", err)
	}
	return err
}

// sessions returns those of some jails that are wanted, the newest first, and says what of
// the records is damaged.
func sessions(opt Options, names []string, wanted func(*record.Session) bool) (sessionList, error) {
	defer opt.waiting("reading the records")()
	all := sessionList{Version: record.Version, Sessions: []record.Session{}}
	store := records(opt)
	for _, name := range names {
		list, err := store.Sessions(name, func(d *record.Damage) {
			all.Damage = append(all.Damage, d.Error())
		})
		if err != nil {
			return all, unreadable(err)
		}
		for i := range list {
			if wanted(&list[i]) {
				all.Sessions = append(all.Sessions, list[i])
			}
		}
	}
	record.Newest(all.Sessions)
	sayDamage(opt, all.Damage)
	return all, nil
}

// sayDamage names what cannot be read, some of it.
func sayDamage(opt Options, damage []string) {
	const most = 5
	for _, d := range damage[:min(len(damage), most)] {
		fmt.Fprintf(opt.Stderr, "jail-init: %s; the rest is read\n", d)
	}
	if more := len(damage) - most; more > 0 {
		fmt.Fprintf(opt.Stderr, "jail-init: and %s more cannot be read\n", count.Of(more, "line", "lines"))
	}
}

func table(out io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(out, 0, 8, 2, ' ', 0) }

// PrintJSON prints one document, of which no terminal obeys anything.
func PrintJSON(out io.Writer, v any) error { return printJSON(out, v, "  ") }

func printJSON(out io.Writer, v any, indent string) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := out.Write(event.PrintableJSON(text.Bytes()))
	return err
}

// plain is what a cell of a table may have in it: a file of records may say anything.
func plain(s string) string {
	if s == "" {
		return "-"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return event.Quote(s)
	}
	return s
}

// clock is a time, on this host's clock.
func clock(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func began(s *record.Session) string {
	if s.Started == nil {
		return clock(s.Ended)
	}
	return clock(s.Started)
}

func lasted(ms *int64) string {
	if ms == nil {
		return "-"
	}
	d := time.Duration(*ms) * time.Millisecond
	if d >= time.Minute {
		d = d.Round(time.Second)
	}
	return d.String()
}

// by is what let a login in, or who has called jail exec.
func by(c *record.Caller) string {
	switch {
	case c == nil:
		return "-"
	case c.UID != nil && c.Service != "":
		return plain(c.Service) + ":" + callerName(c)
	case c.UID != nil:
		return callerName(c)
	}
	return plain(c.Service)
}

// from is where it came from.
func from(c *record.Caller) string {
	switch {
	case c == nil:
		return "-"
	case c.Address == "":
		return plain(c.TTY)
	}
	return plain(c.Address)
}

// how is what became of a session, and which limits its jail has met meanwhile.
func how(s *record.Session) string {
	if len(s.LimitsMet) == 0 {
		return ended(s)
	}
	met := make([]string, 0, len(s.LimitsMet))
	for _, l := range s.LimitsMet {
		met = append(met, plain(l))
	}
	return ended(s) + " (limits met: " + strings.Join(met, ", ") + ")"
}

func ended(s *record.Session) string {
	switch {
	case s.State == record.StateRefused:
		text := "refused: " + plain(s.Reason)
		if s.Count > 1 {
			text += " (" + strconv.FormatUint(s.Count, 10) + " times)"
		}
		return text
	case s.State == record.StateOpen:
		return "goes on"
	case s.End == record.WithJail:
		return "with its jail"
	case s.End == record.Unseen:
		return "nobody saw it"
	case s.OutOfMemory:
		return "out of memory"
	case s.Signal != 0:
		return "signal " + strconv.Itoa(s.Signal)
	case s.Status != nil:
		return "status " + strconv.Itoa(*s.Status)
	}
	return "-"
}
