package metrics

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/record"
)

var began = time.Unix(1795896901, 0)

// lines are those of a text that are no comments, of metrics that begin with prefix.
func lines(text, prefix string) string {
	var list []string
	for _, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, prefix) {
			list = append(list, l)
		}
	}
	return strings.Join(list, "\n")
}

func (c *Counters) text() string { return string(c.Append(nil)) }

func TestCounters(t *testing.T) {
	c := New("1.0", began)
	at := began
	tell := func(e record.Entry) {
		if at = at.Add(time.Second); e.Time.IsZero() {
			e.Time = at
		}
		c.Entry(&e)
	}
	tell(record.Entry{Event: record.JailRefused, Jail: "web"})
	tell(record.Entry{Event: record.JailStarted, Jail: "web"})
	for _, kind := range []string{"shell", "shell", "sftp", "x\"}\n"} {
		tell(record.Entry{Event: record.SessionStarted, Jail: "web", Kind: kind})
	}
	tell(record.Entry{Event: record.SessionEnded, Jail: "web", Kind: "shell"})
	tell(record.Entry{Event: record.SessionEnded, Jail: "web", Kind: "shell", OutOfMemory: true})
	tell(record.Entry{Event: record.SessionRefused, Jail: "web", Count: 3})
	tell(record.Entry{Event: record.SessionRefused, Jail: "web"})
	tell(record.Entry{Event: record.LimitMet, Jail: "web", Limit: "pids", Count: 1})
	tell(record.Entry{Event: record.LimitMet, Jail: "web", Limit: "memory", Count: 2})
	tell(record.Entry{Event: record.LimitMet, Jail: "web", Limit: "pids", Count: 11})
	for _, e := range []record.Event{record.RegistryTaken, record.RegistryTaken, record.RegistryFaulty, record.RegistryFailed} {
		tell(record.Entry{Event: e})
	}
	c.InForce(3, 70, 1)
	assert.Equal(t, `jail_build_info{version="1.0"} 1
jail_serve_start_time_seconds 1795896901
jail_registry_jails 3
jail_registry_logins 70
jail_registry_faults 1
jail_registry_reads_total{result="taken"} 2
jail_registry_reads_total{result="faulty"} 1
jail_registry_reads_total{result="refused"} 1
jail_running{jail="web"} 1
jail_start_time_seconds{jail="web"} 1795896903
jail_starts_total{jail="web"} 1
jail_start_failures_total{jail="web"} 1
jail_ends_total{jail="web"} 0
jail_oom_kills_total{jail="web"} 0
jail_limits_met_total{jail="web",limit="memory"} 2
jail_limits_met_total{jail="web",limit="pids"} 12
jail_sessions{jail="web"} 2
jail_sessions_started_total{jail="web",kind="sftp"} 1
jail_sessions_started_total{jail="web",kind="shell"} 2
jail_sessions_started_total{jail="web",kind="other"} 1
jail_sessions_ended_total{jail="web"} 2
jail_sessions_out_of_memory_total{jail="web"} 1
jail_sessions_refused_total{jail="web"} 4`, lines(c.text(), "jail_"))
	tell(record.Entry{Event: record.JailEnded, Jail: "web", OOM: 2})
	text := c.text()
	assert.Contains(t, text, "\njail_running{jail=\"web\"} 0\n")
	assert.Contains(t, text, "\njail_sessions{jail=\"web\"} 0\n", "they have gone with it")
	assert.Contains(t, text, "\njail_oom_kills_total{jail=\"web\"} 2\n")
	assert.NotContains(t, text, "jail_start_time_seconds{")
}

// TestFoundJail: sessions from before serve are neither forgotten nor counted twice.
func TestFoundJail(t *testing.T) {
	c := New("1.0", began)
	c.Entry(&record.Entry{Event: record.JailFound, Jail: "web", Time: began})
	c.Found("web", 2)
	c.Entry(&record.Entry{Event: record.SessionStarted, Jail: "web", Kind: "shell", Time: began.Add(-time.Minute)})
	c.Entry(&record.Entry{Event: record.SessionEnded, Jail: "web", Time: began.Add(-time.Second)})
	assert.Equal(t, `jail_sessions{jail="web"} 2`, lines(c.text(), "jail_sessions{"))
	c.Entry(&record.Entry{Event: record.SessionEnded, Jail: "web", Time: began.Add(time.Second)})
	assert.Equal(t, `jail_sessions{jail="web"} 1`, lines(c.text(), "jail_sessions{"))
	assert.Equal(t, `jail_starts_total{jail="web"} 0`, lines(c.text(), "jail_starts_total"))
}

// TestBounds: no jail can make more lines, or others than its own.
func TestBounds(t *testing.T) {
	c := New("1\"2\\3\n4\x1b[31m"+strings.Repeat("x", 1000), began)
	for i := range maxJails + 50 {
		c.Entry(&record.Entry{Event: record.JailStarted, Jail: fmt.Sprintf("j%05d", i), Time: began})
	}
	for range 1000 {
		c.Entry(&record.Entry{Event: record.SessionEnded, Jail: "j00000", Time: began})
	}
	text := c.text()
	assert.Equal(t, maxJails+1, strings.Count(text, "\njail_starts_total{"))
	assert.Contains(t, text, "\njail_starts_total{jail=\"\"} 50\n", "the others together")
	assert.Contains(t, text, "\njail_sessions{jail=\"j00000\"} 0\n", "not less than none")
	assert.Equal(t, `jail_build_info{version="1_2_3_4_[31m`+strings.Repeat("x", maxLabel-12)+`"} 1`, lines(text, "jail_build"))
	well := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_]+ [ -~]+|[a-z_]+(\{([a-z_]+="[ -~]*",?)+\})? [0-9]+)$`)
	for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		require.Regexp(t, well, l)
	}
}

// TestDocumented: docs/metrics.md has every metric, its type and what it says, and no other.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	var want []string
	for _, f := range families {
		want = append(want, "| `"+f.name+"` | "+f.kind+" | "+f.help+" |")
	}
	assert.Equal(t, strings.Join(want, "\n"), lines(string(page), "| `"))
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "jail.prom")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "victim"), []byte("untouched"), 0o600))
	for claim, before := range map[string]func() error{
		"none is there":     func() error { return nil },
		"an old one":        func() error { return os.WriteFile(path, []byte("old"), 0o600) },
		"a link":            func() error { return os.Symlink("victim", path) },
		"a link on the way": func() error { return os.Symlink("victim", filepath.Join(dir, ".jail.prom.new")) },
	} {
		require.NoError(t, before(), claim)
		require.NoError(t, replace(path, []byte("x 1\n")), claim)
		st, err := os.Lstat(path)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o644), st.Mode(), claim)
		text, _ := os.ReadFile(path)
		assert.Equal(t, "x 1\n", string(text), claim)
		require.NoError(t, os.Remove(path))
	}
	text, _ := os.ReadFile(filepath.Join(dir, "victim"))
	assert.Equal(t, "untouched", string(text))
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "link")))
	assert.Error(t, replace(filepath.Join(dir, "link", "jail.prom"), nil))
	assert.Error(t, replace(filepath.Join(dir, "no", "jail.prom"), nil))

	said := make(chan string, 10)
	p := Publisher{Counters: New("1.0", began), Log: func(format string, args ...any) { said <- fmt.Sprintf(format, args...) }}
	p.File(filepath.Join(dir, "no", "jail.prom"))
	assert.Contains(t, <-said, "the metrics cannot be written")
	p.File(path)
	assert.Contains(t, <-said, "written again")
	require.Eventually(t, func() bool { text, _ := os.ReadFile(path); return strings.Contains(string(text), "jail_build_info") }, 10*time.Second, time.Millisecond)
}

func TestSocket(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "jm")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	p := Publisher{Counters: New("1.0", began), Log: t.Logf}
	stop, err := p.Listen(dir)
	require.NoError(t, err)
	st, err := os.Stat(Path(dir))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	ask := func(request string) string {
		t.Helper()
		conn, err := net.Dial("unix", Path(dir))
		require.NoError(t, err)
		defer conn.Close()
		_, _ = io.WriteString(conn, request)
		_ = conn.(*net.UnixConn).CloseWrite()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		text, _ := io.ReadAll(conn)
		return string(text)
	}
	for _, request := range []string{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "", "nonsense"} {
		text := ask(request)
		head, body, _ := strings.Cut(text, "\r\n\r\n")
		assert.Contains(t, head, fmt.Sprintf("HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %d", len(body)))
		assert.Equal(t, p.Counters.text(), body)
	}
	// Somebody who says nothing keeps nobody else waiting.
	for range 3 {
		idle, err := net.Dial("unix", Path(dir))
		require.NoError(t, err)
		defer idle.Close()
	}
	assert.Contains(t, ask("GET / HTTP/1.0\r\n\r\n"), "jail_build_info")
	_ = ask(strings.Repeat("x", 1<<20))
	stop()
	_, err = net.Dial("unix", Path(dir))
	assert.Error(t, err)
	assert.NoFileExists(t, Path(dir))
}
