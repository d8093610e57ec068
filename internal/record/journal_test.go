package record

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/event"
	"jail/internal/journal"
	"jail/internal/wire"
)

// TestCatalog: packaging/jail.catalog has each id that is sent, and no other; the fields that
// it names there are.
func TestCatalog(t *testing.T) {
	text, err := os.ReadFile("../../packaging/jail.catalog")
	require.NoError(t, err)
	in := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^-- (.*)\nSubject: .+\nDefined-By: jail\nSupport: .+\nDocumentation: man:.+\n\n.`).FindAllSubmatch(text, -1) {
		assert.False(t, in[string(m[1])], "twice")
		in[string(m[1])] = true
	}
	assert.Equal(t, strings.Count(string(text), "\n-- "), len(in), "an entry without a header or text")
	ours := map[string]bool{}
	for event, id := range MessageIDs() {
		assert.Regexp(t, `^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$`, id, "sd_id128_randomize(3)")
		assert.False(t, ours[id], "%s has another's", event)
		ours[id] = true
	}
	assert.Equal(t, ours, in)

	uid, status, ms := uint32(1), 2, int64(3)
	full := Entry{
		Version: 1, Time: noon, Event: "x", Jail: "x", Login: "x", Session: "x", Kind: "x", UID: &uid, PID: 1, TTY: "x", Caller: &Caller{Address: "x"},
		Command: "x", Status: &status, Signal: 1, Millis: &ms, End: "x", Reason: "x", OOM: 1, Limit: "x", Value: 1, Count: 1, LateMillis: 1, Init: &Init{1, 1, "x"},
	}
	names := map[string]bool{}
	for _, f := range full.Fields() {
		names[f.Name] = true
		assert.Regexp(t, `^[A-Z][A-Z0-9_]{0,63}$`, f.Name, "journal_field_valid of journal-file.c")
	}
	for _, m := range regexp.MustCompile(`@([A-Z_]+)@`).FindAllSubmatch(text, -1) {
		assert.True(t, names[string(m[1])], string(m[1]))
	}
}

// TestEveryEventHasAnID: and words of its own.
func TestEveryEventHasAnID(t *testing.T) {
	assert.Len(t, MessageIDs(), len(events))
	for _, e := range events {
		assert.NotEmpty(t, MessageIDs()[e], e)
		assert.NotEqual(t, string(e), (&Entry{Event: e}).what())
	}
}

// journalAt is a journal's socket.
func journalAt(t *testing.T, path string) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	return fd
}

// heard are the entries that have come, without JAIL_INIT_....
func heard(t *testing.T, fd int) (list []string) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if err == syscall.EAGAIN {
			return list
		}
		require.NoError(t, err)
		var kept []string
		for line := range bytes.Lines(buf[:n]) {
			if !bytes.HasPrefix(line, []byte("JAIL_INIT_")) {
				kept = append(kept, strings.TrimSuffix(string(line), "\n"))
			}
		}
		list = append(list, strings.Join(kept, "|"))
	}
}

// TestInTheJournal: each entry is there once, with its fields; what a tenant says makes no
// field of its own.
func TestInTheJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fd := journalAt(t, path)
	defer syscall.Close(fd)
	log := &said{}
	r := recorder(Open(t.TempDir()), log)
	assert.False(t, r.InJournal())
	r.Journal(journal.Open(path))
	assert.True(t, r.InJournal())
	run := r.Run("web", os.Getpid(), false)
	tell(run, "alice", started("k7qmw2ab"))
	tell(run, "alice", ended("k7qmw2ab"))
	tell(run, "alice", &event.Event{Kind: wire.EventRefused, At: noon, ID: id("k7qmw2ac"), HostUID: 7, Status: 126, Text: event.Quote("no\nPRIORITY=0\nJAIL_LOGIN=root")})
	run.Met("memory", 1<<30, 3)
	run.Ended(&event.End{Signal: syscall.SIGKILL, OOM: 2, Lived: time.Hour})
	r.Registry(RegistryTaken, 0, "")
	r.Close()
	const common, session = "|SYSLOG_IDENTIFIER=jail-init|JAIL_TIME=2026-11-28T", "|SYSLOG_FACILITY=10" + "|SYSLOG_IDENTIFIER=jail-init|JAIL_TIME=2026-11-28T"
	got := heard(t, fd)
	require.Len(t, got, 7)
	assert.Regexp(t, `^MESSAGE=jail web started: pid \d+\|MESSAGE_ID=`+MessageIDs()[JailStarted]+`\|PRIORITY=6\|SYSLOG_FACILITY=3\|SYSLOG_IDENTIFIER=jail-init\|JAIL_TIME=2026-11-28T12:00:00.000Z\|JAIL_EVENT=jail-started\|JAIL_NAME=web$`, got[0])
	assert.Equal(t, []string{
		"MESSAGE=jail web: session k7qmw2ab login alice started: shell, pts/3, pid 8|MESSAGE_ID=" + MessageIDs()[SessionStarted] + "|PRIORITY=6" + session +
			"12:00:00.000Z|JAIL_EVENT=session-started|JAIL_NAME=web|JAIL_LOGIN=alice|JAIL_SESSION=k7qmw2ab|JAIL_KIND=shell|JAIL_UID=1000|JAIL_PID=8|JAIL_TTY=pts/3",
		"MESSAGE=jail web: session k7qmw2ab login alice ended: status 3 after 1m0s|MESSAGE_ID=" + MessageIDs()[SessionEnded] + "|PRIORITY=6" + session +
			"12:01:00.000Z|JAIL_EVENT=session-ended|JAIL_NAME=web|JAIL_LOGIN=alice|JAIL_SESSION=k7qmw2ab|JAIL_KIND=shell|JAIL_STATUS=3|JAIL_DURATION_MS=60000",
		`MESSAGE=jail web: id=k7qmw2ac login=alice refused: no\nPRIORITY=0\nJAIL_LOGIN=root|MESSAGE_ID=` + MessageIDs()[SessionRefused] + "|PRIORITY=5" + session +
			`12:00:00.000Z|JAIL_EVENT=session-refused|JAIL_NAME=web|JAIL_LOGIN=alice|JAIL_SESSION=k7qmw2ac|JAIL_REASON=no\nPRIORITY=0\nJAIL_LOGIN=root`,
		"MESSAGE=jail web: limit met: memory 1.0 GiB, 3 times|MESSAGE_ID=" + MessageIDs()[LimitMet] + "|PRIORITY=4|SYSLOG_FACILITY=3" + common +
			"12:00:00.000Z|JAIL_EVENT=limit-met|JAIL_NAME=web|JAIL_LIMIT=memory|JAIL_VALUE=1073741824|JAIL_COUNT=3",
		"MESSAGE=jail web ended by signal 9 (killed) after 1h0m0s; for want of memory the kernel has killed processes in it, 2 in all|MESSAGE_ID=" + MessageIDs()[JailEnded] + "|PRIORITY=4|SYSLOG_FACILITY=3" + common +
			"12:00:00.000Z|JAIL_EVENT=jail-ended|JAIL_NAME=web|JAIL_SIGNAL=9|JAIL_DURATION_MS=3600000|JAIL_OOM_KILLED=2",
		"MESSAGE=the registry is in force|MESSAGE_ID=" + MessageIDs()[RegistryTaken] + "|PRIORITY=6|SYSLOG_FACILITY=3" + common + "12:00:00.000Z|JAIL_EVENT=registry-taken",
	}, got[1:])
	assert.Empty(t, log.all())
}

// TestAJournalThatIsFull: the files have everything; that the journal has not is said once, and
// counted there as soon as it can be.
func TestAJournalThatIsFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fd := journalAt(t, path)
	defer syscall.Close(fd)
	log, s := &said{}, Open(t.TempDir())
	r := recorder(s, log)
	r.Journal(journal.Open(path))
	const many = 1000 // and net.unix.max_dgram_qlen is 10 or 512
	for range many {
		r.Registry(RegistryTaken, 0, "")
	}
	done := make(chan struct{})
	r.put(item{do: func() { close(done) }})
	<-done
	took := len(heard(t, fd))
	require.Less(t, took, many)
	r.Registry(RegistryFaulty, 1, "")
	r.Close()
	got := heard(t, fd)
	require.Len(t, got, 2)
	assert.Contains(t, got[0], "MESSAGE_ID="+MessageIDs()[Lost])
	assert.Regexp(t, `\|JAIL_COUNT=`+strconv.Itoa(many-took)+`$`, got[0])
	assert.Contains(t, got[1], "MESSAGE_ID="+MessageIDs()[RegistryFaulty])
	assert.Len(t, text(t, s, ""), many+1)
	require.Len(t, log.all(), 1)
	assert.Contains(t, log.all()[0], "the journal does not take what is recorded (resource temporarily unavailable)")
}

// TestWordsForWantOfMemory: the journal says of an end what the log did.
func TestWordsForWantOfMemory(t *testing.T) {
	status := 137
	e := Entry{Event: SessionEnded, Jail: "web", Session: "k7qmw2ab", Login: "alice", Status: &status, OutOfMemory: true}
	assert.Equal(t, "jail web: session k7qmw2ab login alice ended: status 137 (out of memory) after 0s", e.Words())
	e.Status, e.Signal = nil, 9
	assert.Equal(t, "jail web: session k7qmw2ab login alice ended: signal 9 (out of memory) after 0s", e.Words())
}
