package admin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/control"
	"jail/internal/event"
	"jail/internal/jail"
	"jail/internal/login"
	"jail/internal/needs"
	"jail/internal/quota"
	"jail/internal/record"
	"jail/internal/usage"
	"jail/internal/wire"
)

// kept is a host with records of a jail: a session that has ended, one that was
// refused, and, in lines of its own, what a file may say that somebody else has written.
func kept(t *testing.T, lines string) Options {
	t.Helper()
	opt := Options{RuntimeDir: t.TempDir(), Stdout: new(strings.Builder), Stderr: new(strings.Builder)}
	dir := record.Dir(opt.RuntimeDir)
	r := record.New(record.Open(dir), func(text string) { t.Error(text) }, "")
	run := r.Run("web", os.Getpid(), false)
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	recordTold(run, "alice", &event.Event{Kind: wire.EventStarted, At: at, ID: login.ID([]byte("k7qmw2ab")), HostUID: 7, Session: wire.SessionShell, UID: 1000, TTY: "pts/3"})
	recordTold(run, "alice", &event.Event{Kind: wire.EventEnded, At: at.Add(time.Minute), ID: login.ID([]byte("k7qmw2ab")), HostUID: 7, Status: 3, Lived: time.Minute})
	recordTold(run, "bob", &event.Event{Kind: wire.EventRefused, At: at.Add(time.Hour), ID: login.ID([]byte("k7qmw2ac")), HostUID: 8, Text: event.Quote("no\x1b[31m")})
	r.Close()
	f, err := os.OpenFile(filepath.Join(dir, "jails", "web.jsonl"), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString(lines)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return opt
}

func said(opt Options) (out, err string) {
	return opt.Stdout.(*strings.Builder).String(), opt.Stderr.(*strings.Builder).String()
}

// TestHow: what became of a session, in words.
func TestHow(t *testing.T) {
	three := 3
	for want, s := range map[string]record.Session{
		"status 3":                          {State: record.StateEnded, Status: &three},
		"signal 15":                         {State: record.StateEnded, Signal: 15},
		"out of memory":                     {State: record.StateEnded, Signal: 9, OutOfMemory: true},
		"with its jail":                     {State: record.StateEnded, End: record.WithJail},
		"nobody saw it":                     {State: record.StateEnded, End: record.Unseen},
		"goes on":                           {State: record.StateOpen},
		`status 3 (limits met: pids, \x1b)`: {State: record.StateEnded, Status: &three, LimitsMet: []string{"pids", "\x1b"}},
	} {
		assert.Equal(t, want, how(&s))
	}
}

func TestLast(t *testing.T) {
	zone := time.Local
	time.Local = time.UTC
	defer func() { time.Local = zone }()
	const (
		head  = "SESSION   LOGIN  JAIL  KIND   BY  FROM  STARTED              DURATION  END\n"
		bob   = `k7qmw2ac  bob    web   -      -   -     2026-11-28 13:00:00  -         refused: no\x1b[31m` + "\n"
		alice = "k7qmw2ab  alice  web   shell  -   -     2026-11-28 12:00:00  1m0s      status 3\n"
	)
	for _, tt := range []struct {
		login string
		n     int
		want  string
	}{
		{"", 0, head + bob + alice}, {"", 2, head + bob + alice},
		{"alice", 0, head + alice}, {"nobody", 0, "SESSION  LOGIN  JAIL  KIND  BY  FROM  STARTED  DURATION  END\n"},
	} {
		opt := kept(t, "")
		require.NoError(t, Last(opt, tt.login, tt.n, false))
		out, err := said(opt)
		assert.Equal(t, tt.want, out)
		assert.Empty(t, err)
	}
	opt := kept(t, "")
	require.NoError(t, Last(opt, "", 1, false))
	out, _ := said(opt)
	assert.Equal(t, 2, strings.Count(out, "\n"))
	assert.Contains(t, out, "k7qmw2ac")
}

// TestRecordsOfSomebodyElse: whatever is in a file, what is printed has nothing in it that a
// terminal obeys, damage is named, and the rest is there.
func TestRecordsOfSomebodyElse(t *testing.T) {
	hostile := `{"v":1,"time":"2026-11-28T15:00:00Z","event":"session-refused","session":"\u001b[2J","login":"\u202eroot","kind":"a\nb","reason":"\u001b]0;x\u0007","caller":{"pid":1,"service":"\u0000","address":"\u009b"}}` + "\n"
	opt := kept(t, hostile+strings.Repeat("{{{\n", 7))
	require.NoError(t, Last(opt, "", 0, false))
	out, err := said(opt)
	for _, text := range []string{out, err} {
		assert.False(t, strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r > '~' }), "%q", text)
	}
	assert.Contains(t, out, `\u202eroot`)
	assert.Contains(t, out, "alice")
	assert.Equal(t, 4, strings.Count(out, "\n"))
	assert.Contains(t, err, "web.jsonl:6: is no entry; the rest is read\n")
	assert.Contains(t, err, "jail-init: and 2 lines more cannot be read\n")
}

// TestStatus: a page of a jail that does not run, and what a program reads of it, whose
// fields are those of docs/records.md.
func TestStatus(t *testing.T) {
	opt := kept(t, "")
	opt.ConfigPath = filepath.Join(t.TempDir(), "jail.toml")
	require.Error(t, Status(opt, "web", false), "it is in no registry")
	text, err := os.ReadFile("../../docs/records.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(text), "A jail of `jail ps --json`")
	typ := reflect.TypeFor[jailJSON]()
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		needs.Page{Path: "docs/records.md", Text: section}.Has(t, "| `"+name+"` |")
	}
	assert.Equal(t, typ.NumField(), strings.Count(section, "\n| `"), "and no other")

	r := &row{name: "web", state: "running", pid: strconv.Itoa(os.Getpid()), sessions: "2", served: "9", rootfs: "/srv/web", from: "-", build: "a", answered: true}
	j := describe(r, nil, "b", nil)
	assert.Equal(t, [4]any{"web", os.Getpid(), true, uint64(2)}, [4]any{j.Name, j.PID, *j.Old, *j.Sessions})
	assert.Empty(t, j.From)
	assert.Contains(t, j.Why, "sessions")
	assert.Empty(t, j.Ports)
	r.network(&jail.Network{ID: 1, OwnPorts: true, OwnLoopback: true, Ports: []jail.Ports{{First: 25, Last: 25, TCP: true}}})
	j = describe(r, nil, "b", nil)
	assert.Equal(t, [2]string{"25/tcp", "127.64.0.1"}, [2]string{j.Ports, j.Loopback})
	assert.Nil(t, j.Disk)
	assert.Zero(t, j.DiskLimit)
	r.disk = &diskUse{quota.Limit{Bytes: 1 << 30, Files: 100}, quota.Use{Bytes: 5, Files: 6}, true}
	j = describe(r, nil, "b", nil)
	assert.Equal(t, [4]uint64{5, 1 << 30, 6, 100}, [4]uint64{*j.Disk, j.DiskLimit, *j.Files, j.FilesLimit})
	r.disk.kept = false
	j = describe(r, nil, "b", nil)
	assert.True(t, j.Disk == nil && j.Files == nil && j.DiskLimit == 1<<30, "what is not kept is not said to be zero")
	r.state, r.pid, r.sessions, r.answered = "stopped", "-", "-", false
	j = describe(r, nil, "b", nil)
	assert.Nil(t, j.Old)
	assert.Nil(t, j.Sessions)
	assert.Nil(t, j.Processes)

	hostile := []control.Process{{PID: 5, Name: "\x1b[31m"}, {PID: 6}, {PID: 7}, {PID: 8}}
	none := uint64(0)
	assert.Equal(t, `processes without a session: 5 (\x1b[31m), 6 (), 7 () and 1 more`, why(&jailJSON{Sessions: &none}, hostile, nil))
	assert.Equal(t, "nothing: it ends when it has been idle for 15m0s", why(&jailJSON{Sessions: &none}, nil, &jail.Spec{IdleTimeout: 15 * time.Minute}))
}

// TestLimitsThatAreMet: the page says of each how often and when last, also of one that the registry does
// not name.
func TestLimitsThatAreMet(t *testing.T) {
	zone := time.Local
	time.Local = time.UTC
	defer func() { time.Local = zone }()
	at := time.Date(2026, 11, 28, 3, 12, 0, 0, time.UTC)
	met := []record.Met{{Limit: "pids", Value: 4096, Count: 12, Last: at}}
	assert.Equal(t, "pids 4096 (met 12 times, last 2026-11-28 03:12:00)", limits(&jail.Limits{Pids: 4096}, met))
	assert.Equal(t, "memory 1.0 GiB, pids 4096 (met 12 times, last 2026-11-28 03:12:00)", limits(&jail.Limits{MemoryBytes: 1 << 30}, met), "the default")
	assert.Equal(t, "memory 1.0 GiB (met 1 time, last 2026-11-28 03:12:00), cpu 50%, disk 1.0 KiB, files 9",
		limits(&jail.Limits{MemoryBytes: 1 << 30, CPUPercent: 50, DiskBytes: 1024, Files: 9}, []record.Met{{Limit: "memory", Count: 1, Last: at}}))
	assert.Empty(t, limits(&jail.Limits{}, nil))
	assert.Len(t, met, 1, "what it was given is as it was")

	used := &usage.Usage{Processes: 3, CPU: 1500 * time.Millisecond, Memory: 5 << 20, Cgroup: true}
	r := &row{name: "web", state: "running", pid: strconv.Itoa(os.Getpid()), sessions: "2", served: "9", build: "a", answered: true}
	d := described{describe(r, nil, "b", used), r, &jail.Spec{Limits: jail.Limits{Pids: 4096}}, used}
	d.LimitsMet, d.Why, d.Processes = met, "sessions", nil
	var out strings.Builder
	d.facts(&out)
	assert.Equal(t, "runs because of\tsessions\nPID 1\t"+r.pid+", of another build than the installed one: jail restart web\nsessions\t2, and 9 since its start\n"+
		"memory\t5.0 MiB\ncpu\t1.5s since its start\nlimits\tpids 4096 (met 12 times, last 2026-11-28 03:12:00)\n", out.String())
	assert.Equal(t, [2]uint64{1500, 5 << 20}, [2]uint64{uint64(*d.CPU), *d.Memory})
	used.Cgroup = false
	assert.Nil(t, describe(r, nil, "b", used).Memory, "what processes share is in it once for each")
}

func TestLogs(t *testing.T) {
	zone := time.Local
	time.Local = time.UTC
	defer func() { time.Local = zone }()
	opt := kept(t, "{{{\n")
	require.NoError(t, Logs(opt, "web", 2, false, false, nil))
	out, err := said(opt)
	assert.Equal(t, "2026-11-28 12:01:00 session-ended session=k7qmw2ab login=alice kind=shell status=3 after=1m0s\n"+
		`2026-11-28 13:00:00 session-refused session=k7qmw2ac login=bob: no\x1b[31m`+"\n", out)
	assert.Contains(t, err, "web.jsonl:5: is no entry")
	opt = kept(t, "")
	require.NoError(t, Logs(opt, "web", 1, false, true, nil))
	out, _ = said(opt)
	assert.Equal(t, `{"v":1,"time":"2026-11-28T13:00:00Z","event":"session-refused","jail":"web","login":"bob","session":"k7qmw2ac","reason":"no\\x1b[31m"}`+"\n", out)
	opt.ConfigPath = filepath.Join(t.TempDir(), "jail.toml")
	assert.Error(t, Logs(opt, "nothere", 0, false, false, nil))
	over := make(chan struct{})
	close(over)
	require.NoError(t, Logs(kept(t, ""), "", 0, true, false, over), "nothing is recorded of the registry yet")
}

// TestJSON: a program finds what docs/json.md says.
func TestJSON(t *testing.T) {
	for claim, show := range map[string]func(opt Options) error{
		"last": func(opt Options) error { return Last(opt, "", 0, true) },
		"who":  func(opt Options) error { return Who(opt, true) },
	} {
		opt := kept(t, "{\n")
		require.NoError(t, show(opt))
		out, _ := said(opt)
		var got map[string]any
		require.NoError(t, json.Unmarshal([]byte(out), &got))
		assert.EqualValues(t, 1, got["v"])
		assert.Len(t, got["sessions"], map[string]int{"last": 2, "who": 0}[claim], "nothing runs")
		if claim == "last" {
			assert.Len(t, got["damage"], 1)
			first := got["sessions"].([]any)[0].(map[string]any)
			assert.Equal(t, map[string]any{"jail": "web", "login": "bob", "session": "k7qmw2ac", "state": "refused", "ended": "2026-11-28T13:00:00Z", "reason": `no\x1b[31m`}, first)
		}
	}
}

// recordTold records one event of a login.
func recordTold(u *record.Run, login string, ev *event.Event) {
	u.Told(func(uint32) string { return login }, []event.Event{*ev})
}
