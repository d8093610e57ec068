package record

import (
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"jail/internal/journal"
)

// MessageIDs are what the journal calls each event (MESSAGE_ID of systemd.journal-fields(7)).
// They are for ever. packaging/jail.catalog says what each means.
var MessageIDs = sync.OnceValue(func() map[Event]string {
	return map[Event]string{
		SessionStarted: "f7c65e0b6c99405e875330b5eab433e6",
		SessionEnded:   "05d26a8a098d4c638e97db1a6bcfe0be",
		SessionRefused: "f8c1b4e82d364c83a4d9ba83bf47c04f",
		JailStarted:    "0bcd0a02e366421a8300b026c6b02bfa",
		JailFound:      "e72e7c95b9e7456ebd65809c76dc7a12",
		JailEnded:      "2d856eb8f85a4cb0ba25df3a1873380e",
		JailRefused:    "676e06a1c3b240e5b9bcb1f07ff6d01e",
		LimitMet:       "807a1d8c192d4483801b9ed542dfa0a0",
		RegistryTaken:  "500f77015f3b49b0a7f6660c61b6c012",
		RegistryFaulty: "bcf84912c0b24c0e89c5153d372ee92f",
		RegistryFailed: "0ca0b9367fe34de4bfa526972ddba237",
		Lost:           "972ff2ecb6ab45c89961bc0d471639e0",
	}
})

// Priorities of the journal, and facilities (syslog(3)).
const (
	priErr     = "3"
	priWarning = "4"
	priNotice  = "5"
	priInfo    = "6"

	facDaemon   = "3"
	facAuthpriv = "10"
)

func (e *Entry) priority() string {
	switch e.Event {
	case JailRefused, RegistryFailed:
		return priErr
	case RegistryFaulty, LimitMet, Lost:
		return priWarning
	case JailEnded:
		if e.OOM > 0 || e.Signal != 0 || e.Status != nil && *e.Status != 0 {
			return priWarning
		}
	case SessionRefused:
		return priNotice
	}
	return priInfo
}

// Fields is the entry as the journal has it. A field of the file has the same name there,
// in capitals and behind JAIL_, or JAIL_CALLER_ and JAIL_INIT_ what those two have in them; the jail's
// name is JAIL_NAME.
func (e *Entry) Fields() []journal.Field {
	facility := facDaemon
	switch e.Event {
	case SessionStarted, SessionEnded, SessionRefused:
		facility = facAuthpriv // who comes from where is for those who may read that
	}
	list := []journal.Field{
		{Name: "MESSAGE", Value: e.Words()},
		{Name: "MESSAGE_ID", Value: MessageIDs()[e.Event]},
		{Name: "PRIORITY", Value: e.priority()},
		{Name: "SYSLOG_FACILITY", Value: facility},
		{Name: "SYSLOG_IDENTIFIER", Value: "jail-init"},
	}
	return appendFields(list, "JAIL_", reflect.ValueOf(*e))
}

func appendFields(list []journal.Field, prefix string, v reflect.Value) []journal.Field {
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		name, value := prefix+strings.ToUpper(tag), v.Field(i)
		switch tag {
		case "v":
			continue
		case "jail":
			name = prefix + "NAME"
		}
		if value.Kind() == reflect.Pointer {
			if value.IsNil() {
				continue
			}
			value = value.Elem()
		} else if value.IsZero() {
			continue
		}
		text := ""
		switch value.Kind() {
		case reflect.String:
			text = value.String()
		case reflect.Int, reflect.Int64:
			text = strconv.FormatInt(value.Int(), 10)
		case reflect.Uint32, reflect.Uint64:
			text = strconv.FormatUint(value.Uint(), 10)
		case reflect.Struct:
			if t, ok := value.Interface().(time.Time); ok {
				text = t.Format(timeFormat)
				break
			}
			list = appendFields(list, name+"_", value)
			continue
		}
		list = append(list, journal.Field{Name: name, Value: text})
	}
	return list
}

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Journal has every entry sent to the journal as well, beside its file. The log need not have what the
// records have then. It is called before there is anything to record.
func (r *Recorder) Journal(j *journal.Journal) { r.journal = j }

// InJournal reports whether it does.
func (r *Recorder) InJournal() bool { return r != nil && r.journal != nil }

// tellJournal sends an entry to the journal. What that does not take is counted; nobody waits.
func (r *Recorder) tellJournal(e *Entry) {
	if r.journal == nil {
		return
	}
	if r.unsent > 0 {
		missing := Entry{Version: Version, Time: e.Time, Event: Lost, Count: r.unsent, Reason: "the journal was full or gone; jail logs has them"}
		if r.journal.Send(missing.Fields()) == nil {
			r.unsent, r.unsentSaid = 0, false
		}
	}
	if err := r.journal.Send(e.Fields()); err != nil {
		if r.unsent++; !r.unsentSaid {
			r.unsentSaid = true
			r.log("the journal does not take what is recorded (" + err.Error() + "); it is in " + r.store.dir + ", and jail logs shows it")
		}
	}
}
